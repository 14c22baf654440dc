//! An authority is reorganised: another takes over its records, channels and notifications (design 7).
//!
//! It is one transaction: whoever looks a child up sees the plans under the old authority before it and under the new one
//! after it, never neither and never both. Ids, versions and the numbers of events stay; the old authority is closed, its
//! clients are refused, and what was listed for it counts as listed for its successor.

use chrono::TimeDelta;

use super::{
    gateway::{Error, Gateway},
    types::{
        OdsCode, Organization,
        audit::{EntityRef, SystemEvent},
        organization::OrganizationKind,
        succession::Taken,
    },
};
use crate::store::{
    self, Conn, StoreError, succession,
    upload::{CANCELLED, STAGED, WAITING},
};

/// Notifications before this are not for a mailbox that moves along: as for a channel that is added (design 7).
const CHANNEL_GETS: TimeDelta = TimeDelta::days(30);

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Succeeded {
    /// What moved; of a dry run what would move.
    Done(Taken),
    /// It was done before: nothing changed.
    AsItWas,
    /// Plain English; for the operator.
    Refused(&'static str),
}

impl Gateway {
    /// `new` takes over from `old`. A dry run changes nothing. Everything, and its audit, is durable when this returns; or
    /// nothing was changed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn succeed(&self, old: OdsCode, new: OdsCode, dry_run: bool) -> Result<Succeeded, Error> {
        if dry_run {
            return Ok(self
                .store
                .read(move |conn| {
                    Ok(judged(conn, &old, &new)?.map_or_else(|said| said, |(_, _, taken)| Succeeded::Done(taken)))
                })
                .await?);
        }
        let clock = self.clock.clone();
        let write = self.store.write(Vec::new(), move |tx| {
            succession::lock_all_children(tx.conn)?;
            let (old, new, _) = match judged(tx.conn, &old, &new)? {
                Ok(found) => found,
                Err(said) => return Ok(said),
            };
            let mut locked = [old.id, new.id];
            locked.sort_unstable();
            for authority in locked {
                store::organization::lock(tx.conn, authority)?;
            }
            for authority in locked {
                if store::upload::any_in(tx.conn, authority, &[WAITING, STAGED, CANCELLED])? {
                    return Ok(Succeeded::Refused(
                        "An upload of one of the two is being applied. Try again in a minute.",
                    ));
                }
            }
            let taken = succession::count(tx.conn, &old, &new)?;
            let numbers = succession::numbers(tx.conn, old.id)?;
            let now = clock.now();
            let from_ms = (now - CHANNEL_GETS).timestamp_millis();
            succession::take_over(tx.conn, &old, &new, now.timestamp_millis(), from_ms)?;
            let event = |patient, entity| SystemEvent {
                by: "operator".to_owned(),
                change: "succeeded".to_owned(),
                patient,
                organization: Some(new.ods.clone()),
                entity,
            };
            let of = EntityRef { resource: "Organization".to_owned(), id: old.ods.as_str().to_owned(), version: None };
            tx.append_system_audit(now, event(None, Some(of)))?;
            for number in numbers {
                tx.append_system_audit(now, event(Some(number), None))?;
            }
            Ok(Succeeded::Done(taken))
        });
        Ok(write.await?)
    }
}

/// The two and what would move, or why not.
#[allow(clippy::type_complexity, reason = "either what is to be done, or what is said instead")]
fn judged(
    conn: &mut Conn,
    old: &OdsCode,
    new: &OdsCode,
) -> Result<Result<(Organization, Organization, Taken), Succeeded>, StoreError> {
    let refused = |why| Ok(Err(Succeeded::Refused(why)));
    if old == new {
        return refused("An authority can't succeed itself.");
    }
    let (Some(old), Some(new)) = (store::organization::find(conn, old)?, store::organization::find(conn, new)?) else {
        return refused("One of the two is not registered. Register the successor first (PUT Organization).");
    };
    if [&old, &new].iter().any(|one| one.kind != OrganizationKind::LocalAuthority) {
        return refused("Both must be local authorities.");
    }
    match succession::succeeded_by(conn, old.id)? {
        Some(by) if by == new.ods.as_str() => return Ok(Err(Succeeded::AsItWas)),
        Some(_) => return refused("Another authority has taken over from the old one already."),
        None => {}
    }
    if !new.active {
        return refused("The successor is closed.");
    }
    if new.duty_phone.is_none() {
        return refused("The successor has no emergency duty number: clinicians would not know whom to phone.");
    }
    let taken = succession::count(conn, &old, &new)?;
    Ok(Ok((old, new, taken)))
}
