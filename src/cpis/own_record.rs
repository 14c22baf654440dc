//! What an authority sees: its own children and plans, whatever any other authority holds (design 2).

use uuid::Uuid;

use super::{
    gateway::{Error, Gateway},
    types::{NhsNumber, Organization, ShownPlan, child::AuthorityChild},
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

/// A page of own plans, and the key to go on from.
pub struct OwnPlans {
    pub plans: Vec<ShownPlan>,
    pub next: Option<i64>,
}

impl Gateway {
    /// An own plan.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_plan(&self, authority: &Organization, id: Uuid) -> Result<OwnPlan, Error> {
        let (gateway, authority) = (self.clone(), authority.clone());
        let read = self.store.read(move |conn| {
            let Some(held) = store::plan::find(conn, id)? else { return Ok(OwnPlan::Unknown) };
            let Some(owned) = store::child::get(conn, held.child_id)?.filter(|o| o.authority_id == authority.id) else {
                return Ok(OwnPlan::Unknown);
            };
            if held.plan.deleted {
                return Ok(OwnPlan::Deleted);
            }
            Ok(OwnPlan::Held(Box::new(gateway.own(conn, &authority, &owned.child, held)?)))
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

    /// A page of an authority's plans in the order in which they were registered.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_plans(&self, authority: &Organization, after: i64, limit: i64) -> Result<OwnPlans, Error> {
        let (gateway, authority) = (self.clone(), authority.clone());
        let read = self.store.read(move |conn| {
            let mut page = store::plan::page(conn, authority.id, after, limit + 1)?;
            let more = i64::try_from(page.len()).unwrap_or(i64::MAX) > limit;
            page.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            let next = page.last().filter(|_| more).map(|held| held.key);
            let mut plans = Vec::new();
            for held in page.into_iter().filter(|held| !held.plan.deleted) {
                if let Some(owned) = store::child::get(conn, held.child_id)? {
                    plans.push(gateway.own(conn, &authority, &owned.child, held)?);
                }
            }
            Ok(OwnPlans { plans, next })
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
            let children = own_children(conn, &authority, &number)?;
            Ok(children.into_iter().find(|child| child.nhs_number == number))
        });
        Ok(read.await?)
    }

    /// A plan as its owner sees it.
    pub(super) fn own(
        &self,
        conn: &mut Conn,
        authority: &Organization,
        child: &AuthorityChild,
        held: ChildPlan,
    ) -> Result<ShownPlan, StoreError> {
        let person = store::person::get(conn, child.person_id)?;
        let birth = person.traced_birth_date.unwrap_or(child.demographics.birth_date);
        let (plan_type, period) = (held.plan.plan_type, held.plan.period);
        let active = visibility::active(plan_type, &period, Some(birth), self.today(), &self.limits);
        let ends = visibility::effective_end(plan_type, &period, &self.limits);
        // The date that the authority knows itself: what it gets must not tell the traced one.
        let closes = visibility::closes(plan_type, &period, child.demographics.birth_date, &self.limits);
        // An end makes no version when it comes, nor does a birth date that is corrected. The authority's name is shown too.
        let settled = active
            && ends.is_none()
            && closes.is_none_or(|day| self.today() < day)
            && [child.recorded, authority.updated].iter().all(|at| *at <= held.plan.recorded);
        Ok(ShownPlan {
            active,
            closes,
            settled,
            plan: held.plan,
            nhs_number: child.nhs_number,
            authority: authority.clone(),
        })
    }
}

/// An authority's children under any number of this child.
fn own_children(
    conn: &mut Conn,
    authority: &Organization,
    number: &NhsNumber,
) -> Result<Vec<AuthorityChild>, StoreError> {
    match store::person::child(conn, number)? {
        Some(child) => store::child::of_authority(conn, authority.id, &child.persons),
        None => Ok(Vec::new()),
    }
}
