//! What demographics say of stored numbers, the register or the national PDS, goes one way: only what is new counts, so that
//! what an administrator said of a number stands until then; and it is taken in the transaction that holds the children,
//! with an event of the audit for each change (design 9).

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    gateway::Gateway,
    numbers::Changed,
    types::{
        NhsNumber,
        audit::SystemEvent,
        child::{NumberChange, NumberStatus, RegisterEntry, Statement, Trace},
    },
};
use crate::store::{self, Conn, StoreError, Tx, person::Person};

/// The code of a birth date that demographics have changed, among those of what became of a number.
pub(super) const BIRTH_DATE: &str = "birth-date";

/// A number, and the codes of what changed of it.
pub(super) type Raised = (NhsNumber, Vec<&'static str>);

/// What is said of a number.
#[derive(Clone)]
pub(super) struct Said {
    pub number: NhsNumber,
    status: NumberStatus,
    replaced_by: Option<NhsNumber>,
    /// `None` where the answer doesn't tell.
    deceased: Option<bool>,
    birth_date: Option<NaiveDate>,
}

/// Who says it, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The register by this change, which means it, even if it repeats what was said before; but for a number that was
    /// retired: a whole register that is loaded again must not bring back every adopted child.
    Change,
    /// The register as it stands: it counts if it was not seen yet.
    Register,
    /// The PDS, asked at this instant (milliseconds since 1970): it counts if it was not seen yet, and nothing that was
    /// asked for later is known.
    Pds { asked_ms: i64 },
}

impl By {
    /// As the audit has it.
    fn code(self) -> &'static str {
        match self {
            Self::Change | Self::Register => "register",
            Self::Pds { .. } => "pds",
        }
    }
}

impl Said {
    pub fn of_entry(entry: &RegisterEntry) -> Self {
        // Of a number that is not current the register's name and birth date are not traced.
        let birth_date = (entry.status == NumberStatus::Current).then_some(entry.demographics.birth_date);
        Self {
            number: entry.nhs_number,
            status: entry.status,
            replaced_by: entry.replaced_by,
            deceased: Some(entry.deceased),
            birth_date,
        }
    }

    /// `None`: the answer says nothing of the number.
    pub fn of_trace(number: NhsNumber, trace: &Trace) -> Option<Self> {
        let (status, replaced_by) = match trace {
            Trace::Found(_) => (NumberStatus::Current, None),
            Trace::Superseded(by) => (NumberStatus::Superseded, Some(*by)),
            Trace::Invalid => (NumberStatus::Invalid, None),
            Trace::Restricted => (NumberStatus::Restricted, None),
            Trace::Unknown | Trace::NotTraced => return None,
        };
        let found = match trace {
            Trace::Found(traced) => Some(traced),
            _ => None,
        };
        let (deceased, birth_date) = (found.map(|traced| traced.deceased), found.and_then(|traced| traced.birth_date));
        Some(Self { number, status, replaced_by, deceased, birth_date })
    }

    /// The numbers whose children it may touch: to be locked by who takes it.
    pub fn children(&self) -> Vec<NhsNumber> {
        [Some(self.number), self.replaced_by].into_iter().flatten().collect()
    }

    /// The number that replaced it.
    pub fn replaced_by(&self) -> Option<NhsNumber> {
        self.replaced_by
    }

    fn is_new_number(&self, person: &Person) -> bool {
        let said = person.said;
        // Which number replaced a retired one is kept nowhere, and is no news.
        said.status != self.status || (said.replaced_by != self.replaced_by && !is_retired(person))
    }

    /// What is kept of it. A replacement that could not be followed is not: it may be, another time.
    fn statement(&self, person: &Person, is_new_number: bool, is_refused: bool) -> Statement {
        let deceased = self.deceased.unwrap_or(person.said.deceased);
        if !is_new_number {
            return Statement { deceased, ..person.said };
        }
        let replaced_by = self.replaced_by.filter(|_| !is_retired(person) && !is_refused);
        Statement { status: self.status, replaced_by, deceased }
    }

    fn is_new_life(&self, person: &Person) -> bool {
        self.deceased.is_some_and(|deceased| deceased != person.said.deceased)
    }

    fn is_new_birth_date(&self, person: &Person) -> bool {
        self.birth_date.is_some() && person.traced_birth_date != self.birth_date
    }

    /// True if anything of it is new.
    pub fn is_new(&self, person: &Person) -> bool {
        self.is_new_number(person) || self.is_new_life(person) || self.is_new_birth_date(person)
    }

    /// What it changes, in order. The number first: of what is withheld from now on, a death is told no earlier than that.
    fn changes(&self, person: &Person, by: By) -> Vec<NumberChange> {
        let means_it = by == By::Change && !(is_retired(person) && self.status == NumberStatus::Current);
        let mut changes = Vec::new();
        if self.is_new_number(person) || means_it {
            changes.extend(self.of_number(person, by));
        }
        if self.is_new_life(person) || means_it {
            changes.extend(self.deceased.map(|dead| if dead { NumberChange::Deceased } else { NumberChange::Alive }));
        }
        changes
    }

    /// Whether the number is in use once this is taken.
    pub fn is_in_use(&self, person: &Person, by: By) -> bool {
        person.status == NumberStatus::Current || self.changes(person, by).contains(&NumberChange::Current)
    }

    fn of_number(&self, person: &Person, by: By) -> Vec<NumberChange> {
        let restricted = person.status == NumberStatus::Restricted;
        // What restricted it may be an administrator's word; that stands unless it is the source that takes its own back.
        let lifts = restricted
            && self.status != NumberStatus::Restricted
            && (by == By::Change || person.said.status == NumberStatus::Restricted);
        // A retirement ends only by whoever said it: the register takes its own back, and nothing else that is said of the
        // number in the meantime does.
        let is_its_own = !matches!(by, By::Pds { .. })
            && person.said.status == NumberStatus::Retired
            && self.status == NumberStatus::Current;
        if is_retired(person) && !is_its_own {
            return match self.status {
                NumberStatus::Restricted => vec![NumberChange::Restricted],
                _ if lifts => vec![NumberChange::Unrestricted],
                _ => Vec::new(),
            };
        }
        let change = match self.status {
            // Takes everything back, a restriction too.
            NumberStatus::Current => return vec![NumberChange::Current],
            NumberStatus::Superseded => self.replaced_by.map(NumberChange::Superseded),
            NumberStatus::Invalid => Some(NumberChange::Invalidated),
            NumberStatus::Retired => Some(NumberChange::Retired),
            NumberStatus::Restricted => Some(NumberChange::Restricted),
        };
        [change, lifts.then_some(NumberChange::Unrestricted)].into_iter().flatten().collect()
    }
}

/// Given up for good, under a restriction or not.
pub(super) fn is_retired(person: &Person) -> bool {
    [Some(person.status), person.beneath].contains(&Some(NumberStatus::Retired))
}

impl Gateway {
    /// Raises what is said of a stored number, within a transaction that holds its [`Said::children`]; returns the codes of
    /// what changed. A number that nobody has sent is none of ours, unless it was replaced by one that is.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub(super) fn take_said(
        &self,
        tx: &mut Tx<'_>,
        said: &Said,
        by: By,
        now: DateTime<Utc>,
    ) -> Result<Vec<&'static str>, StoreError> {
        let mut person = store::person::find(tx.conn, &said.number)?;
        if person.is_none()
            && let Some(replaced_by) = &said.replaced_by
            && store::person::find(tx.conn, replaced_by)?.is_some()
        {
            person = Some(store::person::find_or_create(tx.conn, &said.number)?);
        }
        let Some(person) = person else { return Ok(Vec::new()) };
        let said = &parted(tx.conn, said, &person)?;
        if let By::Pds { asked_ms } = by {
            if person.traced_ms <= asked_ms {
                store::trace::asked(tx.conn, &[person.id], asked_ms)?;
            } else if said.is_new(&person) {
                // Two answers crossed, and which was given later nobody knows: it is asked again as soon as can be. Until
                // then whoever may be in danger is withheld.
                store::trace::ask_at_once(tx.conn, person.id)?;
                if said.status != NumberStatus::Restricted {
                    return Ok(Vec::new());
                }
            } else {
                return Ok(Vec::new());
            }
        }
        let (mut raised, mut is_refused) = (Vec::new(), false);
        for change in said.changes(&person, by) {
            match self.change_number(tx, said.number, change, now)? {
                Changed::Done => raised.push(change.code()),
                Changed::AsItWas => {}
                Changed::Refused => is_refused = true,
            }
        }
        // Told once: it is tried again as long as it is said.
        if is_refused && person.said.status != said.status {
            tracing::warn!(
                alert = "number-change-refused",
                by = by.code(),
                "demographics say of a number what can't be: a loop, or a replacement of or by a retired number"
            );
        }
        let statement = said.statement(&person, by == By::Change || said.is_new_number(&person), is_refused);
        if statement != person.said {
            store::person::set_said(tx.conn, person.id, &statement)?;
        }
        if let Some(birth_date) = said.birth_date
            && said.is_new_birth_date(&person)
        {
            store::person::set_traced_birth_date(tx.conn, person.id, birth_date)?;
            // The first is no change: an upload of a number that nobody has sent before keeps it as silently.
            if person.traced_birth_date.is_some() {
                raised.push(BIRTH_DATE);
            }
        }
        for change in &raised {
            tx.append_system_audit(now, event(by.code(), change, said.number))?;
        }
        Ok(raised)
    }
}

/// What is said of a number, which is joined to no retired one: replaced by such a one it is invalid, whichever was said first.
fn parted(conn: &mut Conn, said: &Said, person: &Person) -> Result<Said, StoreError> {
    let by = said.replaced_by.filter(|_| !is_retired(person));
    let by = by.map(|by| store::person::find(conn, &by)).transpose()?.flatten();
    Ok(match by {
        Some(by) if is_retired(&by) => Said { status: NumberStatus::Invalid, replaced_by: None, ..said.clone() },
        _ => said.clone(),
    })
}

/// That something became of a number without anybody's request.
pub(super) fn event(by: &str, change: &str, number: NhsNumber) -> SystemEvent {
    SystemEvent {
        by: by.to_owned(),
        change: change.to_owned(),
        patient: Some(number),
        organization: None,
        entity: None,
    }
}
