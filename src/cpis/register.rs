//! The local register of demographics changes: entries are written, and what they say of stored numbers is raised as if
//! tracing had found it (design 9). What was changed in the table by another hand is found in rounds.
//! What of it counts is decided in [`super::news`].

use super::{
    gateway::{Error, Gateway},
    news::{self, By, Raised, Said, is_retired},
    types::{
        NhsNumber,
        child::{NumberStatus, RegisterEntry},
    },
};
use crate::store::{
    self, Conn, StoreError,
    person::{self, Person},
};

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
                let entry = unjoined(tx.conn, entry)?;
                store::register::put(tx.conn, &entry)?;
                let raised = gateway.take_said(tx, &Said::of_entry(&entry), By::Change, now)?;
                changed += usize::from(!raised.is_empty());
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
        let (last, news) = page.await?;
        Ok(Compared { last, changed: self.take_entries(news).await?.len() })
    }

    /// Raises what the register says anew of these numbers, as far as they are stored; returns the codes of what changed, by
    /// number.
    ///
    /// # Errors
    /// [`Error`]; what was raised before it stays so.
    pub(super) async fn take_register_entries(&self, numbers: Vec<NhsNumber>) -> Result<Vec<Raised>, Error> {
        let read = self.store.read(move |conn| {
            let persons = store::person::find_all(conn, &numbers)?;
            differing(conn, &persons)
        });
        let news = read.await?;
        self.take_entries(news).await
    }

    async fn take_entries(&self, news: Vec<Said>) -> Result<Vec<Raised>, Error> {
        let mut taken = Vec::new();
        for said in news {
            let gateway = self.clone();
            let number = said.number;
            let write = self.store.write(said.children(), move |tx| {
                // It may have changed again since it was read.
                match store::register::get(tx.conn, &number)? {
                    Some(entry) => gateway.take_said(tx, &Said::of_entry(&entry), By::Register, gateway.clock.now()),
                    None => Ok(Vec::new()),
                }
            });
            let changes = write.await?;
            if !changes.is_empty() {
                taken.push((number, changes));
            }
        }
        Ok(taken)
    }

    /// What the register holds of a number, for the operator: that it was shown is in the audit before it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn show_register_entry(&self, number: NhsNumber) -> Result<Option<RegisterEntry>, Error> {
        let clock = self.clock.clone();
        let shown = self.store.write(Vec::new(), move |tx| {
            tx.append_system_audit(clock.now(), news::event("operator", "register-shown", number))?;
            store::register::get(tx.conn, &number)
        });
        Ok(shown.await?)
    }
}

/// An entry as it is kept: no number is joined to one that was retired (design 9).
fn unjoined(conn: &mut Conn, entry: &RegisterEntry) -> Result<RegisterEntry, StoreError> {
    let mut kept = entry.clone();
    if let Some(by) = entry.replaced_by {
        let mut is_retired = |number| Ok::<_, StoreError>(person::find(conn, number)?.as_ref().is_some_and(is_retired));
        if is_retired(&entry.nhs_number)? {
            (kept.status, kept.replaced_by) = (NumberStatus::Retired, None);
        } else if is_retired(&by)? {
            (kept.status, kept.replaced_by) = (NumberStatus::Invalid, None);
        }
    }
    Ok(kept)
}

/// The entries that say something new of these persons.
fn differing(conn: &mut Conn, persons: &[Person]) -> Result<Vec<Said>, StoreError> {
    let numbers: Vec<NhsNumber> = persons.iter().map(|person| person.nhs_number).collect();
    let entries = store::register::get_all(conn, &numbers)?;
    let said = entries.iter().map(Said::of_entry).filter(|said| {
        let person = persons.iter().find(|person| person.nhs_number == said.number);
        person.is_some_and(|person| said.is_new(person))
    });
    Ok(said.collect())
}
