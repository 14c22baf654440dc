//! An event with the authority's own record that it is about, as that stands when it is told.

use crate::{
    cpis::{
        gateway::Gateway,
        own_record,
        types::{
            NhsNumber,
            child::{AuthorityChild, Inactive, NumberStatus},
            notice::Notice,
            subscription::{Delivery, Event, Named},
        },
    },
    store::{self, Conn, StoreError, outbox, person::Person},
};

impl Gateway {
    /// What may be told of an event at this moment.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it can't be read; [`StoreError`] when the database fails.
    pub(in crate::cpis) fn event(&self, conn: &mut Conn, delivery: &Delivery) -> Result<Event, StoreError> {
        let told = outbox::get(conn, delivery.outbox)?;
        let authority = store::organization::get(conn, told.authority_id)?;
        let (mut at, mut notice) = (told.created, told.notice);
        let named = match &mut notice {
            Notice::Access(access) => {
                at = access.at;
                Named::Access
            }
            Notice::InactiveNumber { nhs_number, reason, replaced_by } => {
                *replaced_by = tellable(conn, nhs_number, *replaced_by)?;
                let inactive =
                    Inactive { reason: *reason, replaced_by: *replaced_by, since: told.created, holds: true };
                let child = own_record::own_child(conn, &authority, nhs_number)?;
                Named::Child(child.map(|child| Box::new(AuthorityChild { inactive: Some(inactive), ..child })))
            }
            Notice::RecordEnded { plan: Some((id, _)), .. } => {
                let held = own_record::own_plan(conn, &authority, *id)?.filter(|(held, _)| !held.plan.deleted);
                let shown = held.map(|(held, child)| self.own(conn, &authority, &child, held)).transpose()?;
                Named::Plan(shown.map(Box::new))
            }
            Notice::RecordEnded { nhs_number, plan: None, .. } => {
                Named::Child(own_record::own_child(conn, &authority, nhs_number)?.map(Box::new))
            }
        };
        Ok(Event { notification: told.id, number: delivery.event_number, at, notice, named })
    }
}

/// Whether an authority may be told where the child of a number was seen: not while the child is restricted, and only if the
/// authority holds it. It may hold it no longer: numbers that were one, and are not, are two children (design 9). What is
/// held back for either reason is told when the reason ends.
pub(in crate::cpis) fn may_be_told(conn: &mut Conn, authority: i64, number: &NhsNumber) -> Result<bool, StoreError> {
    let Some(child) = store::person::child(conn, number)? else { return Ok(false) };
    if child.restricted || child.asked.status == NumberStatus::Restricted {
        return Ok(false);
    }
    store::child::holds_any(conn, authority, &child.persons)
}

/// The replacement of a number, if it may be told: a retired number is joined to no other, whatever was known before
/// (design 9).
pub(in crate::cpis) fn tellable(
    conn: &mut Conn,
    number: &NhsNumber,
    replaced_by: Option<NhsNumber>,
) -> Result<Option<NhsNumber>, StoreError> {
    let Some(replacing) = replaced_by else { return Ok(None) };
    for number in [number, &replacing] {
        // A restriction may lie over it.
        let is_retired =
            |person: Person| person.status == NumberStatus::Retired || person.beneath == Some(NumberStatus::Retired);
        if store::person::find(conn, number)?.is_some_and(is_retired) {
            return Ok(None);
        }
    }
    Ok(Some(replacing))
}
