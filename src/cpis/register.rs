//! The local register of demographics changes: entries are written, and what they say of stored numbers is raised as if
//! tracing had found it (design 9). What was changed in the table by another hand is found in rounds.
//!
//! Only what the register says **anew** counts: what an administrator said of a number stands until then.

use chrono::{DateTime, Utc};

use super::{
    gateway::{Error, Gateway},
    numbers::Changed,
    types::{
        NhsNumber,
        audit::SystemEvent,
        child::{NumberChange, NumberStatus, RegisterEntry},
    },
};
use crate::store::{self, Conn, StoreError, Tx, person::Person};

/// What a round of comparing found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// The last person compared: the next round begins after it; 0 when all were.
    pub last: i64,
    /// Numbers of which the register said something new.
    pub changed: usize,
}

impl Gateway {
    /// Writes entries of the register, at most 64 at a time, each with what it says anew of a stored number; returns how
    /// many of them changed something that is stored of their number. All of it, or nothing.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_register_entries(&self, entries: Vec<RegisterEntry>) -> Result<usize, Error> {
        let children = entries.iter().flat_map(|entry| [Some(entry.nhs_number), entry.replaced_by]).flatten().collect();
        let gateway = self.clone();
        let write = self.store.write(children, move |tx| {
            let now = gateway.clock.now();
            let mut changed = 0;
            for entry in &entries {
                store::register::put(tx.conn, entry)?;
                changed += usize::from(gateway.take_entry(tx, entry, Said::Now, now)?);
            }
            Ok(changed)
        });
        Ok(write.await?)
    }

    /// Compares at most `limit` stored numbers, those after the person `after`, with the register.
    ///
    /// # Errors
    /// [`Error`]; what was compared before it stays done.
    pub async fn compare_with_register(&self, after: i64, limit: usize) -> Result<Compared, Error> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX);
        let page = self.store.read(move |conn| {
            let persons = store::person::page(conn, after, most)?;
            let is_last = i64::try_from(persons.len()).unwrap_or(i64::MAX) < most;
            let last = persons.last().filter(|_| !is_last).map_or(0, |person| person.id);
            Ok((last, differing(conn, &persons)?))
        });
        let (last, entries) = page.await?;
        Ok(Compared { last, changed: self.take_entries(entries).await? })
    }

    /// Raises what the register says anew of these numbers, as far as they are stored.
    ///
    /// # Errors
    /// [`Error`]; what was raised before it stays so.
    pub(super) async fn take_register_entries(&self, numbers: Vec<NhsNumber>) -> Result<usize, Error> {
        if numbers.is_empty() {
            return Ok(0);
        }
        let read = self.store.read(move |conn| {
            let persons = store::person::find_all(conn, &numbers)?;
            differing(conn, &persons)
        });
        let entries = read.await?;
        self.take_entries(entries).await
    }

    async fn take_entries(&self, entries: Vec<RegisterEntry>) -> Result<usize, Error> {
        let mut changed = 0;
        for entry in entries {
            let children = [Some(entry.nhs_number), entry.replaced_by].into_iter().flatten().collect();
            let gateway = self.clone();
            let write = self.store.write(children, move |tx| {
                // It may have changed again since it was read.
                match store::register::get(tx.conn, &entry.nhs_number)? {
                    Some(entry) => gateway.take_entry(tx, &entry, Said::Sometime, gateway.clock.now()),
                    None => Ok(false),
                }
            });
            changed += usize::from(write.await?);
        }
        Ok(changed)
    }

    /// Raises what an entry says of a stored number; true if anything was new. A number that nobody has sent is none of
    /// ours, unless it was replaced by one that is.
    fn take_entry(
        &self,
        tx: &mut Tx<'_>,
        entry: &RegisterEntry,
        said: Said,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let mut person = store::person::find(tx.conn, &entry.nhs_number)?;
        if person.is_none()
            && let Some(by) = &entry.replaced_by
            && store::person::find(tx.conn, by)?.is_some()
        {
            person = Some(store::person::find_or_create(tx.conn, &entry.nhs_number)?);
        }
        let Some(person) = person else { return Ok(false) };
        let mut raised = Vec::new();
        if is_new(&person, entry)
            || (said == Said::Now && !(is_retired(&person) && entry.status == NumberStatus::Current))
        {
            for change in changes(&person, entry) {
                match self.change_number(tx, entry.nhs_number, change, now)? {
                    Changed::Done => raised.push(change.code()),
                    Changed::AsItWas => {}
                    Changed::Refused => {
                        tracing::warn!(
                            alert = "number-change-refused",
                            change = change.code(),
                            "the register says of a number what can't be: a loop, or a replacement of a retired number"
                        );
                    }
                }
            }
            store::person::set_register_seen(tx.conn, person.id, &entry.statement())?;
        }
        if is_other_birth_date(&person, entry) {
            store::person::set_traced_birth_date(tx.conn, person.id, entry.demographics.birth_date)?;
            raised.push("birth-date");
        }
        for change in &raised {
            let event = SystemEvent {
                by: "register".to_owned(),
                change: (*change).to_owned(),
                patient: Some(entry.nhs_number),
                organization: None,
                entity: None,
            };
            tx.append_system_audit(now, event)?;
        }
        Ok(!raised.is_empty())
    }
}

/// When the register said what it says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    /// By this change, which means it, even if it repeats what the register said before; but for a number that was retired:
    /// a whole register that is loaded again must not bring back every adopted child.
    Now,
    /// Before: it counts if it was not seen yet.
    Sometime,
}

fn is_retired(person: &Person) -> bool {
    [Some(person.status), person.beneath].contains(&Some(NumberStatus::Retired))
}

fn is_new(person: &Person, entry: &RegisterEntry) -> bool {
    person.register_seen.as_deref().unwrap_or(RegisterEntry::NOTHING_TO_SAY) != entry.statement()
}

/// Of a restricted person nothing more is stored.
fn is_other_birth_date(person: &Person, entry: &RegisterEntry) -> bool {
    entry.status == NumberStatus::Current && person.traced_birth_date != Some(entry.demographics.birth_date)
}

/// The whole of what the register says, as changes in their order: what it does not call restricted is not.
fn changes(person: &Person, entry: &RegisterEntry) -> Vec<NumberChange> {
    let of_life = if entry.deceased { NumberChange::Deceased } else { NumberChange::Alive };
    let of_number = match entry.status {
        NumberStatus::Current => Some(NumberChange::Current),
        NumberStatus::Superseded => entry.replaced_by.map(NumberChange::Superseded),
        NumberStatus::Invalid => Some(NumberChange::Invalidated),
        NumberStatus::Retired => Some(NumberChange::Retired),
        NumberStatus::Restricted => Some(NumberChange::Restricted),
    };
    let lifted = person.status == NumberStatus::Restricted
        && ![NumberStatus::Restricted, NumberStatus::Current].contains(&entry.status);
    let lifted = lifted.then_some(NumberChange::Unrestricted);
    // The number first: of what is withheld from now on, a death is told no earlier than that.
    [of_number, lifted, Some(of_life)].into_iter().flatten().collect()
}

/// The entries that say something new of these persons.
fn differing(conn: &mut Conn, persons: &[Person]) -> Result<Vec<RegisterEntry>, StoreError> {
    let numbers: Vec<NhsNumber> = persons.iter().map(|person| person.nhs_number).collect();
    let mut entries = store::register::get_all(conn, &numbers)?;
    entries.retain(|entry| {
        let person = persons.iter().find(|person| person.nhs_number == entry.nhs_number);
        person.is_some_and(|person| is_new(person, entry) || is_other_birth_date(person, entry))
    });
    Ok(entries)
}
