//! A number that is retired is joined to no other from then on, by nothing that is stored (design 9): not by an alias to it
//! or from it, not by a replacement that an authority was told, not by what the register said of it.

use chrono::{DateTime, Utc};

use super::{
    gateway::Gateway,
    numbers::set_standing,
    types::{
        audit::SystemEvent,
        child::{NumberChange, NumberStatus, Statement},
        notice::InactiveReason,
    },
};
use crate::store::{
    self, Conn, StoreError, Tx,
    person::{self, Person},
};

impl Gateway {
    /// Parts a number that was just retired from those that were superseded by it. They have no replacement any more, so
    /// they become invalid: look-ups by them find no record, and their holders are told so.
    pub(super) fn part_from_retired(
        &self,
        tx: &mut Tx<'_>,
        retired: &Person,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        forget_replacements(tx.conn, retired)?;
        store::register::part(tx.conn, &retired.nhs_number)?;
        for older in person::superseded_by(tx.conn, retired.id)? {
            person::remove_alias(tx.conn, older.id)?;
            set_standing(tx.conn, &older, NumberStatus::Invalid)?;
            forget_replacements(tx.conn, &older)?;
            for (authority, number) in self.holders(tx.conn, &[older.id], now)? {
                store::outbox::add_inactive_number(
                    tx.conn,
                    authority,
                    &number,
                    InactiveReason::Invalidated,
                    None,
                    now,
                )?;
            }
            let event = SystemEvent {
                by: "retirement".to_owned(),
                change: NumberChange::Invalidated.code().to_owned(),
                patient: Some(older.nhs_number),
                organization: None,
                entity: None,
            };
            tx.append_system_audit(now, event)?;
        }
        Ok(())
    }
}

/// Takes the replacement of a number out of all that was kept of it.
fn forget_replacements(conn: &mut Conn, person: &Person) -> Result<(), StoreError> {
    for owned in store::child::of_persons(conn, &[person.id])? {
        store::outbox::forget_replacement(conn, owned.authority_id, &person.nhs_number)?;
    }
    if person.said.replaced_by.is_some() {
        person::set_said(conn, person.id, &Statement { replaced_by: None, ..person.said })?;
    }
    store::trace::forget(conn, &[person.nhs_number])?;
    Ok(())
}
