//! A clinician looks a child up: what is visible is found, the access is audited, listed and put into the outbox in one
//! transaction, and only then does the answer exist (design 5).

use std::{collections::HashMap, time::Instant};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    distinct::Counted,
    gateway::{Error, Gateway},
    listing,
    silence::last_confirmed,
    types::{
        NhsNumber, Organization, ShownPlan,
        access::{AccessAuthor, AccessKind, Found, ListingDecision},
        audit::{EntityRef, Interaction, Outcome, RequestEvent},
        caller::{Caller, RequestContext},
        child::NumberStatus,
        organization::CareSetting,
    },
    visibility,
};
use crate::{
    store::{self, Conn, StoreError, Tx, access::NewAccess, child::OwnedChild, person::Child},
    telemetry::metrics,
};

/// Whom the request is about.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    Number(NhsNumber),
    /// The child of this plan; only that plan answers.
    Plan(Uuid),
}

/// One permitted clinical request.
#[derive(Clone, Debug)]
pub struct LookUp {
    pub subject: Subject,
    pub kind: AccessKind,
    pub interaction: Interaction,
    /// The resource that the request names, for the audit.
    pub entity: Option<EntityRef>,
    /// A child without a record is answered 404 and audited so; else with an empty answer.
    pub absent_is_not_found: bool,
    pub caller: Caller,
    pub context: RequestContext,
}

impl LookUp {
    /// What is audited of it, before anything is known of the child.
    fn event(&self) -> RequestEvent {
        let mut event = RequestEvent::new(self.interaction, &self.caller, &self.context);
        event.access = Some(self.kind);
        event.entity.clone_from(&self.entity);
        if let Subject::Number(asked) = self.subject {
            event.patient = Some(asked);
        }
        event
    }
}

impl Gateway {
    /// Looks a child up. `None`: there is nothing that this caller may see under that plan's id.
    /// When this returns, the audit is durable.
    ///
    /// # Errors
    /// [`Error`]: nothing may be disclosed.
    pub async fn look_up(&self, ask: LookUp) -> Result<Option<Found>, Error> {
        let number = match ask.subject {
            Subject::Number(number) => Some(number),
            Subject::Plan(id) => self.store.read(move |conn| number_of_plan(conn, id)).await?,
        };
        let gateway = self.clone();
        let begun = Instant::now();
        let caller = ask.caller.clone();
        let looked = self
            .store
            .write(number.into_iter().collect(), move |tx| gateway.counted_look_up_in(tx, &ask, number))
            .await;
        let outcome = match &looked {
            Ok((_, counted)) if counted.refused => "refused",
            Ok((Some(found), _)) if found.on_record() => "found",
            Ok(_) => "nothing",
            Err(_) => "failed",
        };
        self.metrics.count(&metrics::LOOK_UPS, &[outcome]);
        self.metrics.observe(&metrics::LOOK_UP_SECONDS, &[], begun.elapsed());
        let (found, counted) = looked?;
        self.act_on_count(counted, &caller)?;
        Ok(found)
    }

    /// Counts the child against the caller's cap before it is looked up.
    fn counted_look_up_in(
        &self,
        tx: &mut Tx<'_>,
        ask: &LookUp,
        number: Option<NhsNumber>,
    ) -> Result<(Option<Found>, Counted), StoreError> {
        // A plan that is nobody's counts too: a refusal must not tell which ids there are.
        let child = match (number, ask.subject) {
            (Some(number), _) | (None, Subject::Number(number)) => number.as_str().to_owned(),
            (None, Subject::Plan(id)) => id.to_string(),
        };
        let now = self.clock.now();
        let counted = self.count_child(tx, &ask.caller, &child, now)?;
        if counted.refused {
            let mut event = ask.event();
            event.outcome = Outcome::Refused;
            event.refusal = Some("TOO_MANY_REQUESTS".to_owned());
            tx.append_audit(now, event)?;
            return Ok((None, counted));
        }
        Ok((self.look_up_in(tx, ask, number)?, counted))
    }

    fn look_up_in(
        &self,
        tx: &mut Tx<'_>,
        ask: &LookUp,
        number: Option<NhsNumber>,
    ) -> Result<Option<Found>, StoreError> {
        // Taken under the child's lock: the order of the history is then the order of its times.
        let now = self.clock.now();
        let mut event = ask.event();
        let record = match number {
            Some(number) => self.visible_record(tx.conn, number, now)?,
            None => None,
        };
        let record = record.filter(|record| match ask.subject {
            Subject::Number(_) => true,
            Subject::Plan(id) => record.plans.iter().any(|shown| shown.plan.id == id),
        });
        let Some(record) = record else {
            if ask.absent_is_not_found {
                event.outcome = Outcome::Refused;
                event.refusal = Some("RESOURCE_NOT_FOUND".to_owned());
            }
            tx.append_audit(now, event)?;
            return Ok(match ask.subject {
                Subject::Number(_) => Some(Found::nothing()),
                Subject::Plan(_) => None,
            });
        };
        event.patient = Some(record.number);
        let own_key = ask.caller.author_key();
        if ask.kind == AccessKind::Unscheduled {
            self.list(tx, ask, &record, &own_key, now, &mut event)?;
        }
        let newest = store::access::newest(tx.conn, &record.child.persons, self.limits.history_rows)?;
        let own = match ask.kind {
            AccessKind::Unscheduled => store::access::newest_of_author(tx.conn, &record.child.persons, &own_key)?,
            AccessKind::Silent => None,
        };
        tx.append_audit(now, event)?;
        Ok(Some(Found {
            history: listing::shown_history(&newest, own.as_ref(), self.limits.history_rows),
            superseded_by: (record.child.asked.id != record.child.end.id).then_some(record.child.end.nhs_number),
            demographics: record.shown_child().and_then(|owned| self.disclosed(&owned.child.demographics)),
            plans: record.plans,
        }))
    }

    /// Lists the access for each authority whose record is visible, by the listing rule; writes history and outbox.
    fn list(
        &self,
        tx: &mut Tx<'_>,
        ask: &LookUp,
        record: &Record,
        author_key: &str,
        now: DateTime<Utc>,
        event: &mut RequestEvent,
    ) -> Result<(), StoreError> {
        let window = now - TimeDelta::hours(i64::from(self.limits.relist_hours));
        let mut listed_for = Vec::new();
        for authority in record.authorities() {
            let persons = &record.child.persons;
            let before = store::access::listed_between(tx.conn, persons, authority.id, author_key, window, now)?;
            let listed = listing::decide(now, &before, &self.limits);
            if listed {
                listed_for.push(authority.id);
            }
            event.listing.push(ListingDecision { authority: authority.ods.clone(), listed });
        }
        if listed_for.is_empty() {
            return Ok(());
        }
        let id = Uuid::new_v4();
        let author = access_author(&ask.caller);
        let new = NewAccess {
            id,
            person_id: record.child.asked.id,
            nhs_number: record.number,
            author_key,
            author: &author,
            at: now,
            request_id: &ask.context.request_id,
        };
        let sequence = store::access::insert(tx.conn, &new, &listed_for)?;
        for authority in listed_for {
            store::outbox::add_access(tx.conn, authority, sequence, now)?;
        }
        event.access_id = Some(id);
        Ok(())
    }

    /// What a clinician may see of a child today; `None` when that is nothing.
    fn visible_record(
        &self,
        conn: &mut Conn,
        number: NhsNumber,
        now: DateTime<Utc>,
    ) -> Result<Option<Record>, StoreError> {
        let today = self.calendar.day_of(now);
        let Some(child) = store::person::child(conn, &number)? else { return Ok(None) };
        let withheld = |status| matches!(status, NumberStatus::Invalid | NumberStatus::Retired);
        // A superseded number at the end has no replacement that may be followed: it was retired.
        let parted = child.end.status == NumberStatus::Superseded;
        if child.restricted || parted || withheld(child.asked.status) || withheld(child.end.status) {
            return Ok(None);
        }
        let children = store::child::of_persons(conn, &child.persons)?;
        let keys: Vec<i64> = children.iter().map(|owned| owned.child.id).collect();
        let mut authorities = HashMap::new();
        let ids: Vec<i64> = children.iter().map(|owned| owned.authority_id).collect();
        for (authority, confirmed_ms) in store::organization::get_all_confirmed(conn, &ids)? {
            let last_confirmed = last_confirmed(confirmed_ms, now, &self.calendar, &self.limits);
            authorities.insert(authority.id, (authority, last_confirmed));
        }
        let mut plans = Vec::new();
        for held in store::plan::of_children(conn, &keys)? {
            let Some(owned) = children.iter().find(|owned| owned.child.id == held.child_id) else { continue };
            let Some((authority, last_confirmed)) = authorities.get(&owned.authority_id) else { continue };
            let birth = child.end.traced_birth_date.unwrap_or(owned.child.demographics.birth_date);
            let (plan_type, period) = (held.plan.plan_type, held.plan.period);
            if held.plan.deleted || !visibility::visible(plan_type, &period, Some(birth), today, &self.limits) {
                continue;
            }
            plans.push(ShownPlan {
                active: visibility::active(plan_type, &period, Some(birth), today, &self.limits),
                closes: None,
                settled: false,
                plan: held.plan,
                nhs_number: number,
                authority: authority.clone(),
                last_confirmed: *last_confirmed,
            });
        }
        if plans.is_empty() {
            return Ok(None);
        }
        plans.sort_by(|a, b| {
            let key = |s: &ShownPlan| (s.authority.id, s.plan.plan_type, s.plan.period.start());
            key(a).cmp(&key(b))
        });
        Ok(Some(Record { number, child, children, plans }))
    }
}

/// A child on record, as far as it is visible.
struct Record {
    number: NhsNumber,
    child: Child,
    children: Vec<OwnedChild>,
    plans: Vec<ShownPlan>,
}

impl Record {
    /// The child as the authority of the first visible plan sent it.
    fn shown_child(&self) -> Option<&OwnedChild> {
        let authority = self.plans.first().map(|shown| shown.authority.id);
        self.children.iter().find(|owned| Some(owned.authority_id) == authority)
    }

    /// The authorities whose record is visible, by ascending key.
    fn authorities(&self) -> Vec<&Organization> {
        let mut authorities: Vec<&Organization> = self.plans.iter().map(|shown| &shown.authority).collect();
        authorities.sort_by_key(|authority| authority.id);
        authorities.dedup_by_key(|authority| authority.id);
        authorities
    }
}

/// The caller as the history keeps it.
fn access_author(caller: &Caller) -> AccessAuthor {
    AccessAuthor {
        author: caller.author.clone(),
        client_id: caller.client_id.clone(),
        organization: caller.organization.ods.clone(),
        organization_name: caller.organization.name.clone(),
        sensitive: caller.organization.sensitive,
        scheduled_setting: caller.organization.care_setting != Some(CareSetting::Unscheduled),
    }
}

/// The number of the child that a plan belongs to.
fn number_of_plan(conn: &mut Conn, id: Uuid) -> Result<Option<NhsNumber>, StoreError> {
    let Some(held) = store::plan::find(conn, id)? else { return Ok(None) };
    Ok(store::child::get(conn, held.child_id)?.map(|owned| owned.child.nhs_number))
}
