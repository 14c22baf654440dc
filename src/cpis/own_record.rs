//! What an authority sees: its own children and plans, whatever any other authority holds (design 2).

use chrono::NaiveDate;
use uuid::Uuid;

use super::{
    gateway::{Error, Gateway},
    notifications::tellable,
    types::{
        NhsNumber, Organization, PlanPeriod, ShownPlan,
        child::{AuthorityChild, Inactive, NumberStatus},
        page::Place,
    },
    visibility,
};
use crate::store::{self, Conn, StoreError, plan::ChildPlan};

/// One own plan by its id.
#[derive(Clone, Debug)]
pub enum OwnPlan {
    /// Not there, or another authority's: the two look alike.
    Unknown,
    Deleted,
    Held(Box<ShownPlan>),
}

impl Gateway {
    /// An own plan.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_plan(&self, authority: &Organization, id: Uuid) -> Result<OwnPlan, Error> {
        let (gateway, authority) = (self.clone(), authority.clone());
        let read = self.store.read(move |conn| {
            let Some((held, child)) = own_plan(conn, &authority, id)? else { return Ok(OwnPlan::Unknown) };
            if held.plan.deleted {
                return Ok(OwnPlan::Deleted);
            }
            Ok(OwnPlan::Held(Box::new(gateway.own(conn, &authority, &child, held)?)))
        });
        Ok(read.await?)
    }

    /// An authority's plans of one child, under any of its numbers.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_plans_of(&self, authority: &Organization, number: NhsNumber) -> Result<Vec<ShownPlan>, Error> {
        let (gateway, authority) = (self.clone(), authority.clone());
        let read = self.store.read(move |conn| {
            let children = own_children(conn, &authority, &number)?;
            let keys: Vec<i64> = children.iter().map(|child| child.id).collect();
            let mut plans = Vec::new();
            for held in store::plan::of_children(conn, &keys)?.into_iter().filter(|held| !held.plan.deleted) {
                if let Some(child) = children.iter().find(|child| child.id == held.child_id) {
                    plans.push(gateway.own(conn, &authority, child, held)?);
                }
            }
            Ok(plans)
        });
        Ok(read.await?)
    }

    /// At most `limit` of an authority's plans in the order in which they were registered, from `place` on; fewer only
    /// when there are no more. `None` when `place` names no plan of this authority.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_plans(
        &self,
        authority: &Organization,
        place: Option<Place<Uuid>>,
        limit: usize,
    ) -> Result<Option<Vec<ShownPlan>>, Error> {
        let (gateway, authority) = (self.clone(), authority.clone());
        let read = self.store.read(move |conn| {
            let Some(from) = place_of(conn, &authority, place.as_ref())? else { return Ok(None) };
            let plans = filled(from, limit, |from, wanted| {
                let (page, last) = store::plan::page(conn, authority.id, from, wanted)?;
                let mut plans = Vec::new();
                for held in page.into_iter().filter(|held| !held.plan.deleted) {
                    if let Some(owned) = store::child::get(conn, held.child_id)? {
                        plans.push(gateway.own(conn, &authority, &owned.child, held)?);
                    }
                }
                Ok((plans, last))
            });
            plans.map(Some)
        });
        Ok(read.await?)
    }

    /// At most `limit` of an authority's own children in the order in which they came, each with its key; fewer only when
    /// there are no more.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_children(
        &self,
        authority: &Organization,
        place: Option<Place<i64>>,
        limit: usize,
    ) -> Result<Vec<AuthorityChild>, Error> {
        let authority = authority.id;
        let read = self.store.read(move |conn| {
            let children =
                filled(place.clone(), limit, |from, wanted| store::child::page(conn, authority, from, wanted))?;
            children.into_iter().map(|child| with_state(conn, authority, child)).collect()
        });
        Ok(read.await?)
    }

    /// An authority's own row of the child with exactly this number.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_child(
        &self,
        authority: &Organization,
        number: NhsNumber,
    ) -> Result<Option<AuthorityChild>, Error> {
        let authority = authority.clone();
        let read = self.store.read(move |conn| {
            let child = own_child(conn, &authority, &number)?;
            child.map(|child| with_state(conn, authority.id, child)).transpose()
        });
        Ok(read.await?)
    }

    /// A plan as its owner sees it today.
    pub(super) fn own(
        &self,
        conn: &mut Conn,
        authority: &Organization,
        child: &AuthorityChild,
        held: ChildPlan,
    ) -> Result<ShownPlan, StoreError> {
        self.own_on(conn, authority, child, held, self.today())
    }

    /// A plan as its owner sees it on a day.
    pub(super) fn own_on(
        &self,
        conn: &mut Conn,
        authority: &Organization,
        child: &AuthorityChild,
        mut held: ChildPlan,
        day: NaiveDate,
    ) -> Result<ShownPlan, StoreError> {
        if let Some(ended) = held.plan.ended
            && let Some(period) = PlanPeriod::new(held.plan.period.start(), Some(ended.on))
        {
            held.plan.period = period;
        }
        let person = store::person::get(conn, child.person_id)?;
        let birth = person.traced_birth_date.unwrap_or(child.demographics.birth_date);
        let (plan_type, period) = (held.plan.plan_type, held.plan.period);
        let active = visibility::active(plan_type, &period, Some(birth), day, &self.limits);
        let ends = visibility::effective_end(plan_type, &period, &self.limits);
        // The date that the authority knows itself: what it gets must not tell the traced one.
        let closes = visibility::closes(plan_type, &period, child.demographics.birth_date, &self.limits);
        // An end makes no version when it comes, nor does a birth date that is corrected. The authority's name is shown too.
        let settled = active
            && ends.is_none()
            && closes.is_none_or(|closes| day < closes)
            && [child.recorded, authority.updated].iter().all(|at| *at <= held.plan.recorded);
        Ok(ShownPlan {
            active,
            closes,
            settled,
            plan: held.plan,
            nhs_number: child.nhs_number,
            authority: authority.clone(),
            last_confirmed: None,
        })
    }
}

/// Reads pages from a place on, in its direction, until there are `limit` rows or no more: a page of the store has fewer
/// than it was asked for when some of its rows don't count.
fn filled<T>(
    mut from: Option<Place<i64>>,
    limit: usize,
    mut page: impl FnMut(Option<Place<i64>>, i64) -> Result<(Vec<T>, Option<i64>), StoreError>,
) -> Result<Vec<T>, StoreError> {
    let backwards = matches!(from, Some(Place::Before(_)));
    let mut rows = Vec::new();
    while rows.len() < limit {
        let wanted = i64::try_from(limit - rows.len()).unwrap_or(i64::MAX);
        let (more, last) = page(from, wanted)?;
        rows.extend(more);
        let Some(last) = last else { break };
        from = Some(if backwards { Place::Before(last) } else { Place::After(last) });
    }
    Ok(rows)
}

/// An authority's children under any number of this child.
pub(super) fn own_children(
    conn: &mut Conn,
    authority: &Organization,
    number: &NhsNumber,
) -> Result<Vec<AuthorityChild>, StoreError> {
    match store::person::child(conn, number)? {
        Some(child) => store::child::of_authority(conn, authority.id, &child.persons),
        None => Ok(Vec::new()),
    }
}

/// The authority's child with exactly this number.
pub(super) fn own_child(
    conn: &mut Conn,
    authority: &Organization,
    number: &NhsNumber,
) -> Result<Option<AuthorityChild>, StoreError> {
    Ok(own_children(conn, authority, number)?.into_iter().find(|child| child.nhs_number == *number))
}

/// The child with what its authority was told of its number.
fn with_state(conn: &mut Conn, authority: i64, child: AuthorityChild) -> Result<AuthorityChild, StoreError> {
    let Some(told) = store::outbox::newest_inactive(conn, authority, &child.nhs_number)? else { return Ok(child) };
    let holds = match store::person::get(conn, child.person_id)?.status {
        NumberStatus::Superseded | NumberStatus::Invalid | NumberStatus::Retired => true,
        NumberStatus::Current | NumberStatus::Restricted => false,
    };
    let replaced_by = tellable(conn, &child.nhs_number, told.replaced_by)?;
    Ok(AuthorityChild { inactive: Some(Inactive { replaced_by, holds, ..told }), ..child })
}

/// The authority's plan with this id, be it deleted, and its child; none for another authority's.
pub(super) fn own_plan(
    conn: &mut Conn,
    authority: &Organization,
    id: Uuid,
) -> Result<Option<(ChildPlan, AuthorityChild)>, StoreError> {
    let Some(held) = store::plan::find(conn, id)? else { return Ok(None) };
    let owned = store::child::get(conn, held.child_id)?.filter(|owned| owned.authority_id == authority.id);
    Ok(owned.map(|owned| (held, owned.child)))
}

/// A place by the id of a plan as a place by its key; the inner `None` is the beginning.
fn place_of(
    conn: &mut Conn,
    authority: &Organization,
    place: Option<&Place<Uuid>>,
) -> Result<Option<Option<Place<i64>>>, StoreError> {
    let Some(place) = place else { return Ok(Some(None)) };
    let (id, before) = place.key();
    let Some((held, _)) = own_plan(conn, authority, *id)? else { return Ok(None) };
    Ok(Some(Some(if before { Place::Before(held.key) } else { Place::After(held.key) })))
}
