//! Tracing: what demographics know of numbers, with what is stored of them; what they say anew is raised, whoever asked
//! ([`super::news`]). The answers for a staged upload are kept for a day, in case it is sent again.
//!
//! # Why an answer of yesterday may be believed
//! Kept are only answers of the national PDS that a file got which then stopped because the PDS had gone away (CPF05): sent
//! again it is judged as it would have been had the PDS stayed, and an authority sends its file each day, so that no answer
//! is older than the records beside it. They are believed for that authority's next staged upload alone: no other
//! authority's answer depends on them. A day is the longest. An answer is forgotten as soon as anything is said of the
//! number in the meantime, by whomever; a restricted or replaced number's is never kept; and whatever was loaded by an old answer is
//! traced again in the background before all others. Changes of few records and `$match` ask anew.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    gateway::{Error, Gateway},
    news::{By, Raised, Said, event, is_retired},
    types::{
        NhsNumber,
        child::{NumberStatus, Trace, Urgency},
    },
};
use crate::{
    clock::from_millis,
    demographics::Source,
    store::{
        self, Conn, StoreError, Tx,
        person::{self, Person},
        trace::Over,
    },
};

/// How long the answers for a staged upload are kept (design 6).
const KEPT: TimeDelta = TimeDelta::hours(24);
/// Results that one transaction forgets.
const PART: i64 = 256;

/// What tracing some numbers came to.
#[derive(Clone, Debug)]
pub(super) struct Traces {
    pub by_number: HashMap<NhsNumber, Trace>,
    /// When the oldest of the answers was asked for.
    pub asked: DateTime<Utc>,
    /// The numbers whose answers were kept from an earlier upload.
    pub kept: HashSet<NhsNumber>,
}

/// What became of stored numbers by the answers about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    /// What changed, by number.
    pub raised: Vec<Raised>,
    /// Numbers of which what was said could not be taken: it is said again the next time.
    pub failed: Vec<NhsNumber>,
}

impl Gateway {
    /// What tracing numbers comes to, with what is stored of them: a number that was given up or replaced takes no upload,
    /// whoever said so, for nobody would be shown what it brought. What tracing says anew of stored numbers is raised first.
    ///
    /// The answer is the same whether or not anybody holds the numbers, and whether or not the news could be raised.
    ///
    /// # Errors
    /// [`Error::DemographicsUnavailable`] or [`Error`].
    pub async fn trace(&self, numbers: &[NhsNumber], urgency: Urgency) -> Result<HashMap<NhsNumber, Trace>, Error> {
        Ok(self.trace_for(numbers, urgency, None).await?.by_number)
    }

    /// [`Gateway::trace`] of the numbers of a change of an authority, given if the change is staged: then what was found for
    /// its last one, if that was not applied, needn't be asked again.
    ///
    /// # Errors
    /// As [`Gateway::trace`].
    pub(super) async fn trace_for(
        &self,
        numbers: &[NhsNumber],
        urgency: Urgency,
        staged_by: Option<i64>,
    ) -> Result<Traces, Error> {
        let mut asked = self.clock.now();
        let (mut by_number, mut kept) = (HashMap::new(), HashSet::new());
        let authority = staged_by.filter(|_| self.demographics.source() == Source::Pds);
        if let Some(authority) = authority {
            let (numbers, after_ms) = (numbers.to_vec(), (asked - KEPT).timestamp_millis());
            let read = self.store.read(move |conn| store::trace::kept(conn, authority, &numbers, after_ms)).await?;
            for (number, (kept_ms, trace)) in read {
                asked = asked.min(from_millis(kept_ms));
                kept.insert(number);
                by_number.insert(number, trace);
            }
        }
        let rest: Vec<NhsNumber> = numbers.iter().copied().filter(|number| !by_number.contains_key(number)).collect();
        if !rest.is_empty() {
            let answers = self.ask(&rest, urgency).await?;
            self.take(&answers, urgency, authority).await;
            by_number.extend(answers.by_number);
        }
        let by_number = self.with_what_is_stored(by_number).await?;
        Ok(Traces { by_number, asked, kept })
    }

    /// What demographics know of these numbers at this moment.
    pub(super) async fn ask(&self, numbers: &[NhsNumber], urgency: Urgency) -> Result<Traces, Error> {
        let asked = self.clock.now();
        let answers = self.demographics.trace(numbers, urgency).await.map_err(|_| Error::DemographicsUnavailable)?;
        Ok(Traces { by_number: numbers.iter().copied().zip(answers).collect(), asked, kept: HashSet::new() })
    }

    /// Raises what the answers say anew of stored numbers, and keeps that these were asked about; for the staged upload of
    /// `keep_for` the answers too. A fault leaves what was said to the next time: nobody's answer depends on it.
    pub(super) async fn take(&self, answers: &Traces, urgency: Urgency, keep_for: Option<i64>) -> Taken {
        let mut taken = Taken::default();
        let news = match self.demographics.source() {
            Source::Off => return taken,
            Source::Register => {
                let numbers: Vec<NhsNumber> = answers.by_number.keys().copied().collect();
                match self.take_register_entries(numbers.clone()).await {
                    Ok(raised) => taken.raised = raised,
                    Err(error) => {
                        tracing::warn!(%error, "what the register says anew could not be taken: it will be");
                        taken.failed = numbers;
                    }
                }
                Vec::new()
            }
            Source::Pds => match self.news_of(answers).await {
                Ok(news) => news,
                Err(error) => {
                    tracing::warn!(%error, "what the PDS says anew could not be taken: it will be");
                    taken.failed = answers.by_number.keys().copied().collect();
                    return taken;
                }
            },
        };
        let by = By::Pds { asked_ms: answers.asked.timestamp_millis() };
        for said in news {
            let (gateway, number) = (self.clone(), said.number);
            let write =
                self.store.write(said.children(), move |tx| gateway.take_said(tx, &said, by, gateway.clock.now()));
            match write.await {
                Ok(changes) if changes.is_empty() => {}
                Ok(changes) => taken.raised.push((number, changes)),
                Err(error) => {
                    tracing::warn!(alert = "news-not-taken", %error, "what the PDS says anew of a number could not be taken");
                    taken.failed.push(number);
                }
            }
        }
        if let Err(error) = self.keep_asked(answers, urgency, keep_for, &taken).await {
            tracing::warn!(%error, "that numbers were traced could not be kept: they are traced again");
        }
        taken
    }

    /// The answers that say something new of a stored number, or of one that was replaced by a stored one.
    async fn news_of(&self, answers: &Traces) -> Result<Vec<Said>, StoreError> {
        let said: Vec<Said> =
            answers.by_number.iter().filter_map(|(number, trace)| Said::of_trace(*number, trace)).collect();
        let read = self.store.read(move |conn| {
            let asked: Vec<NhsNumber> = said.iter().flat_map(Said::children).collect();
            let stored = by_number(person::find_all(conn, &asked)?);
            Ok(said
                .into_iter()
                .filter(|said| match stored.get(&said.number) {
                    Some(person) => said.is_new(person),
                    None => said.replaced_by().is_some_and(|by| stored.contains_key(&by)),
                })
                .collect())
        });
        read.await
    }

    /// Keeps when stored numbers were asked about, which of them demographics don't know, and answers for an upload.
    async fn keep_asked(
        &self,
        answers: &Traces,
        urgency: Urgency,
        keep_for: Option<i64>,
        taken: &Taken,
    ) -> Result<(), StoreError> {
        let traces = answers.by_number.clone();
        let numbers: Vec<NhsNumber> = traces.keys().copied().collect();
        // The register is compared in rounds: when an upload asked it is of no use.
        let counts = self.demographics.source() == Source::Pds || urgency == Urgency::Background;
        let failed = taken.failed.clone();
        let read = self.store.read(move |conn| {
            let mut stored = person::find_all(conn, &numbers)?;
            stored.retain(|person| !failed.contains(&person.nhs_number));
            Ok((stored, store::trace::any_kept(conn, &numbers)?))
        });
        let (stored, any_kept) = read.await?;
        let is_other = |person: &Person| (traces.get(&person.nhs_number) == Some(&Trace::Unknown)) != person.unknown;
        let others: Vec<Person> = stored.iter().filter(|person| is_other(person)).cloned().collect();
        let marked: Vec<i64> = stored.iter().filter(|_| counts).map(|person| person.id).collect();
        if marked.is_empty() && others.is_empty() && keep_for.is_none() && !any_kept {
            return Ok(());
        }
        let (asked_ms, by, clock) = (answers.asked.timestamp_millis(), self.source_code(), self.clock.clone());
        let change = move |tx: &mut Tx<'_>| {
            store::trace::asked(tx.conn, &marked, asked_ms)?;
            let mut unknown = 0;
            for person in &others {
                let now = clock.now();
                let since_ms = (!person.unknown).then(|| now.timestamp_millis());
                store::trace::set_unknown(tx.conn, person.id, since_ms)?;
                if since_ms.is_some() {
                    unknown += 1;
                    tx.append_system_audit(now, event(by, "unknown", person.nhs_number))?;
                }
            }
            if any_kept {
                let numbers: Vec<NhsNumber> = traces.keys().copied().collect();
                store::trace::forget(tx.conn, &numbers)?;
            }
            if let Some(authority) = keep_for {
                for (number, trace) in &traces {
                    store::trace::keep(tx.conn, authority, number, trace, asked_ms)?;
                }
            }
            Ok(unknown)
        };
        let unknown = if urgency == Urgency::Caller {
            self.store.write(Vec::new(), change).await?
        } else {
            self.store.write_behind(Vec::new(), change).await?
        };
        for _ in 0..unknown {
            tracing::warn!(
                alert = "number-unknown",
                by = self.source_code(),
                "demographics don't know a number that is on record: what is stored stays, ask its authorities"
            );
        }
        Ok(())
    }

    fn source_code(&self) -> &'static str {
        match self.demographics.source() {
            Source::Register => "register",
            Source::Pds => "pds",
            Source::Off => "off",
        }
    }

    /// The answers as they count here: what was said of a stored number stands over one that calls it good.
    async fn with_what_is_stored(
        &self,
        mut traces: HashMap<NhsNumber, Trace>,
    ) -> Result<HashMap<NhsNumber, Trace>, Error> {
        let numbers: Vec<NhsNumber> = traces.keys().copied().collect();
        let replacing: Vec<NhsNumber> = traces
            .values()
            .filter_map(|trace| match trace {
                Trace::Superseded(by) => Some(*by),
                _ => None,
            })
            .collect();
        let read = self.store.read(move |conn| {
            let stored = person::find_all(conn, &numbers)?;
            let stored = stored.into_iter().map(|person| Ok((replaced_by(conn, &person)?, person)));
            let stored = stored.collect::<Result<Vec<_>, StoreError>>()?;
            let mut retired = person::find_all(conn, &replacing)?;
            retired.retain(is_retired);
            Ok((stored, by_number(retired)))
        });
        let (stored, retired) = read.await?;
        for trace in traces.values_mut() {
            // A retired number is joined to no other, by no answer either.
            if matches!(trace, Trace::Superseded(by) if retired.contains_key(by)) {
                *trace = Trace::Invalid;
            }
        }
        for (replaced_by, person) in stored {
            let Some(trace) = traces.get_mut(&person.nhs_number) else { continue };
            let is_good = matches!(trace, Trace::Found(_) | Trace::NotTraced);
            match person.status {
                // Nothing of the child may be stored, whatever is said of the number besides.
                NumberStatus::Restricted => *trace = Trace::Restricted,
                // Whatever number it was replaced by is nobody's to know.
                NumberStatus::Retired if *trace != Trace::Restricted => *trace = Trace::Invalid,
                NumberStatus::Invalid if is_good => *trace = Trace::Invalid,
                NumberStatus::Superseded if is_good => {
                    if let Some(by) = replaced_by {
                        *trace = Trace::Superseded(by);
                    }
                }
                NumberStatus::Current | NumberStatus::Superseded | NumberStatus::Invalid | NumberStatus::Retired => {}
            }
        }
        Ok(traces)
    }

    /// Forgets what was kept for an authority's staged upload: it was applied.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) async fn forget_traces_of(&self, authority: i64) -> Result<(), Error> {
        self.forget_traces(Over::Of(authority)).await.map(|_| ())
    }

    /// Forgets the answers that were kept for 24 h; returns how many. To be called now and then.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn forget_old_traces(&self) -> Result<usize, Error> {
        self.forget_traces(Over::By((self.clock.now() - KEPT).timestamp_millis())).await
    }

    async fn forget_traces(&self, over: Over) -> Result<usize, Error> {
        let mut forgotten = 0;
        while self.store.read(move |conn| store::trace::any_over(conn, over)).await? {
            let write = self.store.write_behind(Vec::new(), move |tx| store::trace::forget_over(tx.conn, over, PART));
            forgotten += write.await?;
        }
        Ok(forgotten)
    }
}

fn by_number(persons: Vec<Person>) -> HashMap<NhsNumber, Person> {
    persons.into_iter().map(|person| (person.nhs_number, person)).collect()
}

/// The number that replaced a superseded one.
fn replaced_by(conn: &mut Conn, person: &Person) -> Result<Option<NhsNumber>, StoreError> {
    if person.status != NumberStatus::Superseded {
        return Ok(None);
    }
    let by = person::replacing(conn, person.id)?;
    Ok(by.map(|by| person::get(conn, by)).transpose()?.map(|by| by.nhs_number))
}
