//! `$match`: a clinician confirms an NHS number before using it. Demographics are asked, never what is stored of any child's
//! plans: the answer is the same whether or not CP-IS holds a record. It is no access: nothing is listed, nobody is told.

use chrono::NaiveDate;

use super::{
    distinct::Counted,
    gateway::{Error, Gateway},
    matching::{self, Part},
    news::{By, Said},
    trace::Traces,
    types::{
        NhsNumber,
        audit::{Interaction, Outcome, QueryResult, RequestEvent},
        caller::{Caller, RequestContext},
        child::{Demographics, Trace, Traced, Urgency},
    },
};
use crate::{demographics::Source, store, telemetry::metrics};

/// One permitted question.
#[derive(Clone)]
pub struct Confirm {
    pub number: NhsNumber,
    pub person: Described,
    pub caller: Caller,
    pub context: RequestContext,
}

/// Whom the caller thinks that the number belongs to.
#[derive(Clone)]
pub struct Described {
    pub birth_date: NaiveDate,
    /// Compared if sent.
    pub family: Option<String>,
    /// Compared if any were sent.
    pub given: Vec<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// The number is in use and belongs to whom was described; with name and birth date as traced only if the operator
    /// discloses them.
    Match(Option<Demographics>),
    /// Anything else: nobody may tell from the answer, its headers or what was done for it, which.
    No,
}

/// What was found before the answer is audited.
enum Checked {
    Answer(Confirmed, Traces),
    /// Demographics could not be asked.
    Unavailable,
    /// The caller is over its cap: nothing was asked.
    OverCap,
}

impl Gateway {
    /// Asks demographics whether the number is that of whom is described. When this returns, the audit is durable; it holds
    /// the number and whether it matched, not the names or the birth date.
    ///
    /// # Errors
    /// [`Error::DemographicsUnavailable`], [`Error::OverCap`], both audited; or [`Error`].
    pub async fn confirm_number(&self, ask: Confirm) -> Result<Confirmed, Error> {
        let checked = self.checked(&ask).await?;
        let (outcome, refusal) = match &checked {
            Checked::Answer(..) => (Outcome::Success, None),
            Checked::Unavailable => (Outcome::Failed, Some("UNABLE_TO_CALL_SERVICE")),
            Checked::OverCap => (Outcome::Refused, Some("TOO_MANY_REQUESTS")),
        };
        let mut event = RequestEvent::new(Interaction::Operation, &ask.caller, &ask.context);
        event.patient = Some(ask.number);
        event.outcome = outcome;
        event.refusal = refusal.map(str::to_owned);
        if let Checked::Answer(answer, _) = &checked {
            let rows = i64::from(matches!(answer, Confirmed::Match(_)));
            event.result = Some(QueryResult { rows, ..QueryResult::default() });
        }
        let counted = self.audit_counted(&ask, event, matches!(checked, Checked::OverCap)).await?;
        let (outcome, answer) = match checked {
            _ if counted.refused => ("refused", Ok(Confirmed::No)),
            Checked::Answer(answer, traces) => {
                self.raise_later(traces);
                (if answer == Confirmed::No { "none" } else { "match" }, Ok(answer))
            }
            Checked::Unavailable => ("failed", Err(Error::DemographicsUnavailable)),
            Checked::OverCap => ("refused", Ok(Confirmed::No)),
        };
        self.metrics.count(&metrics::CONFIRMED, &[outcome]);
        self.act_on_count(counted, &ask.caller)?;
        answer
    }

    async fn checked(&self, ask: &Confirm) -> Result<Checked, Error> {
        if self.limits.refuse_over_cap {
            let (gateway, caller, number) = (self.clone(), ask.caller.clone(), ask.number);
            let now = self.clock.now();
            let read = self.store.read(move |conn| gateway.would_refuse(conn, &caller, number.as_str(), now));
            if read.await? {
                return Ok(Checked::OverCap);
            }
        }
        let traces = match self.ask(&[ask.number], Urgency::Caller).await {
            Ok(traces) => traces,
            Err(Error::DemographicsUnavailable) => return Ok(Checked::Unavailable),
            Err(error) => return Err(error),
        };
        // One statement, whatever is stored of the number: what else there is to know of it is not asked here.
        let number = ask.number;
        let stored = self.store.read(move |conn| store::person::find(conn, &number)).await?;
        // As it will be once the answer is taken, which is done later: whether it is stored must not show until then either.
        let said = traces.by_number.get(&ask.number).and_then(|trace| Said::of_trace(ask.number, trace));
        let by = match self.demographics.source() {
            Source::Register => By::Register,
            Source::Pds | Source::Off => By::Pds { asked_ms: traces.asked.timestamp_millis() },
        };
        let is_in_use = stored.is_none_or(|person| said.as_ref().is_some_and(|said| said.is_in_use(&person, by)));
        let answer = match traces.by_number.get(&ask.number) {
            // Superseded too: that there is another number, and which, is the demographic service's to say.
            Some(Trace::Found(traced)) if is_in_use && ask.person.agrees_with(traced) => {
                Confirmed::Match(self.disclosed_of(traced))
            }
            _ => Confirmed::No,
        };
        Ok(Checked::Answer(answer, traces))
    }

    /// What demographics say anew of a stored number is raised, but not while the caller waits: how long the answer takes
    /// would tell that the number is stored. If it is lost with the process, it is found when the number is traced again.
    fn raise_later(&self, traces: Traces) {
        let gateway = self.clone();
        self.later.run(async move {
            gateway.take(&traces, Urgency::File, None).await;
        });
    }

    /// Counts the number against the caller's cap, and writes the event; of one that is over it that it was refused.
    async fn audit_counted(&self, ask: &Confirm, event: RequestEvent, refused: bool) -> Result<Counted, Error> {
        let (gateway, caller, number) = (self.clone(), ask.caller.clone(), ask.number);
        let write = self.store.write(Vec::new(), move |tx| {
            let now = gateway.clock.now();
            let mut counted = gateway.count_child(tx, &caller, number.as_str(), now)?;
            // Nothing was asked: it stays refused though an hour may have begun since.
            counted.refused |= refused;
            let mut event = event.clone();
            if counted.refused {
                event.outcome = Outcome::Refused;
                event.refusal = Some("TOO_MANY_REQUESTS".to_owned());
                event.result = None;
            }
            tx.append_audit(now, event)?;
            Ok(counted)
        });
        Ok(write.await?)
    }

    /// What is shown of a person beside the number, if the operator discloses it and all of it is held.
    fn disclosed_of(&self, traced: &Traced) -> Option<Demographics> {
        let (family, birth_date) = (traced.family.clone()?, traced.birth_date?);
        self.disclosed(&Demographics { family, given: traced.given.clone(), birth_date })
    }
}

impl Described {
    /// By the match rule of uploads, of which the names that were not sent are left out.
    fn agrees_with(&self, traced: &Traced) -> bool {
        let family = self.family.clone().unwrap_or_default();
        let sent = Demographics { family, given: self.given.clone(), birth_date: self.birth_date };
        let is_sent = |part: &Part| match part {
            Part::BirthDate => true,
            Part::Family => self.family.is_some(),
            Part::Given => !self.given.is_empty(),
        };
        matching::compare(&sent, traced).err().is_none_or(|unlike| !unlike.iter().any(is_sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(birth_date: &str, family: Option<&str>, given: &[&str]) -> bool {
        let traced = Traced {
            family: Some("Testcase".to_owned()),
            given: vec!["Robin".to_owned()],
            birth_date: Some("2017-05-11".parse().unwrap()),
            deceased: false,
        };
        let described = Described {
            birth_date: birth_date.parse().unwrap(),
            family: family.map(str::to_owned),
            given: given.iter().map(|name| (*name).to_owned()).collect(),
        };
        described.agrees_with(&traced)
    }

    #[test]
    fn names_count_only_if_they_are_sent() {
        assert!(agree("2017-05-11", None, &[]));
        assert!(agree("2017-05-11", Some("TESTCASE"), &[]));
        assert!(agree("2017-05-11", Some("Testcase"), &["Robin"]));
        assert!(agree("2017-05-11", None, &["robin"]));
        assert!(!agree("2017-05-11", Some("Example"), &[]));
        assert!(!agree("2017-05-12", None, &[]));
        assert!(!agree("2017-05-12", Some("Testcase"), &["Robin"]));
    }

    #[test]
    fn of_whom_nothing_is_held_nothing_matches() {
        let nothing = Traced { family: None, given: Vec::new(), birth_date: None, deceased: false };
        let described = Described { birth_date: "2017-05-11".parse().unwrap(), family: None, given: Vec::new() };
        assert!(!described.agrees_with(&nothing));
    }
}
