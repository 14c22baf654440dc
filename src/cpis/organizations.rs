//! Organisations: public facts to every caller, and what an administrator registers.

use super::{
    gateway::{Error, Gateway},
    types::{
        OdsCode, Organization, Precondition,
        audit::{Interaction, RequestEvent},
        organization::{OrganizationKind, OrganizationSearch, OrganizationSent, OwnCodes},
        page::Place,
        upload::{Problem, ProblemKind, RecordCode},
    },
    upload::answer::Change,
};
use crate::store::{self, Conn, StoreError, organization::NewOrganization};

/// How an administrator's change of an organisation went.
pub enum Registered {
    /// As it is now.
    Done(Box<Organization>, Change),
    /// A create of one that is there.
    Exists,
    /// The precondition of an update does not hold.
    Unmet(Precondition),
    Refused(Vec<Problem>),
}

/// What an administrator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    Create,
    /// Replaces it, or creates it.
    Put(Precondition),
}

impl Gateway {
    /// An organisation by its code.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn organization(&self, ods: OdsCode) -> Result<Option<Organization>, Error> {
        Ok(self.store.read(move |conn| store::organization::find(conn, &ods)).await?)
    }

    /// A page of what a search narrows down to, by name; each with its place in that order.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn organizations(
        &self,
        search: OrganizationSearch,
        place: Option<Place<(String, i64)>>,
        descending: bool,
        limit: i64,
    ) -> Result<Vec<(String, Organization)>, Error> {
        let read =
            self.store.read(move |conn| store::organization::search(conn, &search, place.as_ref(), descending, limit));
        Ok(read.await?)
    }

    /// Registers or replaces an organisation of any kind. `event` gets its version, and says create of a new one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn register_organization(
        &self,
        sent: OrganizationSent,
        asked: Registration,
        event: RequestEvent,
    ) -> Result<Registered, Error> {
        let clock = self.clock.clone();
        let write = self.store.write(Vec::new(), move |tx| {
            let mut held = store::organization::find(tx.conn, &sent.ods)?;
            if let Some(found) = &held {
                // An upload of the same authority may be at work.
                store::organization::lock(tx.conn, found.id)?;
                held = Some(store::organization::get(tx.conn, found.id)?);
            }
            match (asked, &held) {
                (Registration::Create, Some(_)) => return Ok(Registered::Exists),
                (Registration::Put(condition), held) if !condition.holds(held.as_ref().map(|held| held.version)) => {
                    return Ok(Registered::Unmet(condition));
                }
                _ => {}
            }
            let new = match wanted(tx.conn, &sent, held.as_ref())? {
                Ok(new) => new,
                Err(problems) => return Ok(Registered::Refused(problems)),
            };
            let now = clock.now();
            let (id, change) = match &held {
                None => (store::organization::create(tx.conn, &new, now.timestamp_millis())?, Change::Created),
                Some(held) => {
                    let active = sent.active.unwrap_or(held.active);
                    let same = active == held.active && new == content_of(held);
                    if !same {
                        store::organization::replace(tx.conn, held.id, &new, active, now.timestamp_millis())?;
                    }
                    (held.id, if same { Change::Unchanged } else { Change::Updated })
                }
            };
            let organization = store::organization::get(tx.conn, id)?;
            let mut event = event.clone();
            if change == Change::Created {
                event.interaction = Interaction::Create;
            }
            if let Some(entity) = &mut event.entity {
                entity.version = Some(organization.version);
            }
            tx.append_audit(now, event)?;
            Ok(Registered::Done(Box::new(organization), change))
        });
        Ok(write.await?)
    }
}

fn content_of(held: &Organization) -> NewOrganization {
    NewOrganization {
        ods: held.ods.clone(),
        name: held.name.clone(),
        kind: held.kind,
        care_setting: held.care_setting,
        sensitive: held.sensitive,
        office_phone: held.office_phone.clone(),
        duty_phone: held.duty_phone.clone(),
        part_of: held.part_of.clone(),
    }
}

/// The organisation as it is to be, or everything that is wrong with what was sent.
fn wanted(
    conn: &mut Conn,
    sent: &OrganizationSent,
    held: Option<&Organization>,
) -> Result<Result<NewOrganization, Vec<Problem>>, StoreError> {
    let mut problems = Vec::new();
    let mut refuse = |element, reason: &str| {
        let (code, kind) = (RecordCode::Cpr07, ProblemKind::Rule);
        problems.push(Problem { entry: 0, code, kind, reason: reason.to_owned(), element });
    };
    let kind = sent.kind.or(held.map(|held| held.kind));
    if kind.is_none() {
        refuse("type", "Say what the organisation is: type prov for a care provider, govt for a local authority.");
    }
    if held.is_some_and(|held| Some(held.kind) != kind) {
        refuse("type", "The kind of an organisation can't be changed. Register a new one.");
    }
    if held.is_none() && sent.active == Some(false) {
        refuse("active", "A new organisation is active. Leave active out, or close it once it is registered.");
    }
    if let Some(held) = held.filter(|_| sent.active == Some(true))
        && store::succession::succeeded_by(conn, held.id)?.is_some()
    {
        refuse("active", "Another authority has taken over from this one: it stays closed.");
    }
    let kept = held.map(|held| OwnCodes { care_setting: held.care_setting, sensitive: held.sensitive });
    let own = sent.own.or(kept).unwrap_or(OwnCodes { care_setting: None, sensitive: false });
    match kind {
        Some(OrganizationKind::CareProvider) if own.care_setting.is_none() => {
            refuse("type", "Say by the gateway's own code whether the care is unscheduled or scheduled.");
        }
        Some(OrganizationKind::LocalAuthority | OrganizationKind::Oversight)
            if own.care_setting.is_some() || own.sensitive =>
        {
            refuse("type", "Only a care provider has a care setting or is sensitive.");
        }
        _ => {}
    }
    if kind == Some(OrganizationKind::LocalAuthority) && sent.duty_phone.is_none() {
        refuse("telecom", "Give the authority's emergency duty number: system phone, use mobile.");
    }
    if let Some(whole) = &sent.part_of
        && (*whole == sent.ods || store::organization::find(conn, whole)?.is_none())
    {
        refuse("partOf", "The organisation that this one is a part of is not registered. Register it first.");
    }
    let Some(kind) = kind.filter(|_| problems.is_empty()) else { return Ok(Err(problems)) };
    Ok(Ok(NewOrganization {
        ods: sent.ods.clone(),
        name: sent.name.clone(),
        kind,
        care_setting: own.care_setting,
        sensitive: own.sensitive,
        office_phone: sent.office_phone.clone(),
        duty_phone: sent.duty_phone.clone(),
        part_of: sent.part_of.clone(),
    }))
}
