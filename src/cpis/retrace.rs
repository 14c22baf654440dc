//! Stored numbers are traced again: in the background with the national PDS, evenly over a period; and all at once by the
//! operator, with either source. What is found is raised as any trace's ([`super::news`]).
//!
//! Traced again is a number under which an authority shows a plan by its dates, or would for a year after the 18th birthday:
//! the birth date that hides it may be corrected. One without is left out when its turn comes, and comes back when anything of
//! it is stored. A retired number is left out too: nothing that the PDS says could bring it
//! back, and each question there is a trace that leads to it.
//!
//! # The pace
//! The longest untraced number is next, once two fifths of the period have passed since it was traced, by an upload or here:
//! what authorities send each day is not asked for twice. From then on the pace is twice the even one. At most all numbers
//! are before it in that queue, so its turn comes within another half: each number is traced at least once in nine tenths of
//! the period, however they bunch together. A round traces no more than what the pace grants for the time since the last one,
//! nor for more than an hour and one number: after a stop nobody is flooded.
//!
//! A number that failed waits, so that the others go on before it: as long as if it had been traced, or an hour when the
//! source was away.
//!
//! All state is in the database. A process claims the numbers of a batch for [`CLAIM`]; another may have them when that is
//! over, and by then the first has stopped to ask.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    gateway::{Error, Gateway},
    news::{BIRTH_DATE, is_retired},
    numbers::holders_by,
    trace::Traces,
    types::{
        NhsNumber, Plan,
        child::{Trace, Urgency},
        health::Health,
    },
    visibility::may_be_visible,
};
use crate::{
    clock::from_millis,
    demographics::Source,
    store::{
        self, Conn, StoreError,
        person::Person,
        trace::{Choice, Progress},
        upload::{CANCELLED, STAGED},
    },
    telemetry::metrics::{self, Sample},
};

/// Numbers of one batch: claimed, asked about and written together.
const AT_ONCE: i64 = 16;
/// How long a batch is claimed.
const CLAIM: TimeDelta = TimeDelta::minutes(10);
/// How long its answers are waited for: less than the claim, by what it takes to write them.
const PATIENCE: Duration = Duration::from_secs(8 * 60);
/// Numbers that may fail one after the other before demographics count as away.
const MOST_FAILED: usize = 3;
/// How long a number waits that failed because they were.
const AWAY: TimeDelta = TimeDelta::hours(1);
/// What the pace grants is lost after this.
const GRANTED_FOR: TimeDelta = TimeDelta::hours(1);

/// What tracing numbers again came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retraced {
    /// Numbers about which demographics answered.
    pub traced: usize,
    /// Of them, those that were superseded, invalid, restricted, or not known; the rest are good.
    pub superseded: usize,
    pub invalid: usize,
    pub restricted: usize,
    pub unknown: usize,
    /// Numbers of which something new was said that is stored now.
    pub changed: usize,
    /// Of them, those whose birth date was.
    pub changed_birth_dates: usize,
    /// Numbers that could not be traced, or of which what was said could not be stored.
    pub failed: usize,
    /// Numbers that are not traced: no authority shows a plan under them, or they are retired.
    pub left_out: usize,
    /// Demographics could not be asked; the rest was not tried.
    pub unavailable: bool,
}

impl Retraced {
    /// Adds what another part came to.
    pub fn add(&mut self, other: Self) {
        self.traced += other.traced;
        self.superseded += other.superseded;
        self.invalid += other.invalid;
        self.restricted += other.restricted;
        self.unknown += other.unknown;
        self.changed += other.changed;
        self.changed_birth_dates += other.changed_birth_dates;
        self.failed += other.failed;
        self.left_out += other.left_out;
        self.unavailable |= other.unavailable;
    }
}

/// A part of all stored numbers, traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetracedPart {
    pub done: Retraced,
    /// The last person of the part: the next one begins after it; `None` when there are no more.
    pub last: Option<i64>,
}

impl Gateway {
    /// In which time each number is traced again; never without the PDS.
    fn retrace_period(&self) -> Option<TimeDelta> {
        let days = self.limits.retrace_days;
        (self.demographics.source() == Source::Pds && days > 0).then(|| TimeDelta::days(days.into()))
    }

    /// Whether stored numbers are traced again in the background.
    pub(super) fn is_retracing(&self) -> bool {
        self.retrace_period().is_some()
    }

    /// One round: traces the numbers whose turn has come, as far as the pace grants. Any process may do one at any time.
    ///
    /// # Errors
    /// [`Error`]; what was traced before it stays done, the next round goes on.
    pub async fn retrace(&self) -> Result<Retraced, Error> {
        let mut done = Retraced::default();
        let Some(period) = self.retrace_period() else { return Ok(done) };
        loop {
            let now = self.clock.now();
            let traced_by_ms = (now - period * 2 / 5).timestamp_millis();
            let read = self.store.read(move |conn| {
                let due = store::trace::any_before(conn, traced_by_ms)?;
                if due { store::trace::count(conn).map(Some) } else { Ok(None) }
            });
            let Some(numbers) = read.await? else { return Ok(done) };
            let choice = Choice::Oldest {
                traced_by_ms,
                period_ms: period.num_milliseconds(),
                numbers,
                most_ms: GRANTED_FOR.num_milliseconds(),
            };
            let claimed = self.claim_numbers(choice, now).await?;
            if claimed.is_empty() {
                return Ok(done);
            }
            done.add(self.trace_claimed(claimed, Some(period * 2 / 5)).await?);
            if done.unavailable {
                return Ok(done);
            }
        }
    }

    /// How many stored numbers were last traced before an instant: what [`Gateway::retrace_all`] has to look at; and how many
    /// of them are traced again, as far as is known.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn traced_before(&self, since: DateTime<Utc>) -> Result<(i64, i64), Error> {
        let since_ms = since.timestamp_millis();
        Ok(self.store.read(move |conn| store::trace::count_before(conn, since_ms)).await?)
    }

    /// Traces the next of all stored numbers with visible plans, by key after `after`, that were not traced since an
    /// instant; at most [`AT_ONCE`]. Those that another process traces at this moment, or that failed
    /// there lately, are passed over.
    ///
    /// # Errors
    /// [`Error`]; nothing is half done.
    pub async fn retrace_all(&self, after: i64, since: DateTime<Utc>) -> Result<RetracedPart, Error> {
        let choice = Choice::Next { after, since_ms: since.timestamp_millis() };
        let claimed = self.claim_numbers(choice, self.clock.now()).await?;
        let last = claimed.last().map(|person| person.id);
        let done = if claimed.is_empty() { Retraced::default() } else { self.trace_claimed(claimed, None).await? };
        Ok(RetracedPart { done, last })
    }

    async fn claim_numbers(&self, choice: Choice, now: DateTime<Utc>) -> Result<Vec<Person>, Error> {
        let (now_ms, until_ms) = (now.timestamp_millis(), (now + CLAIM).timestamp_millis());
        let write = self
            .store
            .write_behind(Vec::new(), move |tx| store::trace::claim(tx.conn, choice, AT_ONCE, now_ms, until_ms));
        Ok(write.await?)
    }

    /// Traces claimed numbers and gives them up; those that failed only after `pause`, if there is one.
    async fn trace_claimed(&self, claimed: Vec<Person>, pause: Option<TimeDelta>) -> Result<Retraced, Error> {
        let mut over: Vec<(i64, NhsNumber)> = claimed.iter().map(|person| (person.id, person.nhs_number)).collect();
        let mut done = Retraced::default();
        let shown = self.leave_out(claimed, &mut done).await?;
        let numbers: Vec<NhsNumber> = shown.iter().map(|person| person.nhs_number).collect();
        if !numbers.is_empty() {
            let (answers, failed, is_away) = self.ask_one_by_one_at_last(&numbers).await?;
            let count = |is: fn(&Trace) -> bool| answers.by_number.values().filter(|trace| is(trace)).count();
            done.traced = answers.by_number.len();
            done.superseded = count(|trace| matches!(trace, Trace::Superseded(_)));
            done.invalid = count(|trace| *trace == Trace::Invalid);
            done.restricted = count(|trace| *trace == Trace::Restricted);
            done.unknown = count(|trace| *trace == Trace::Unknown);
            done.unavailable = is_away;
            let taken = self.take(&answers, Urgency::Background, None).await;
            done.changed = taken.raised.len();
            done.changed_birth_dates = taken.raised.iter().filter(|(_, changes)| changes.contains(&BIRTH_DATE)).count();
            done.failed = failed.len() + taken.failed.len();
            let failed: Vec<NhsNumber> = failed.into_iter().chain(taken.failed).collect();
            if let (Some(pause), false) = (pause, failed.is_empty()) {
                let is_over = |(_, number): &(i64, NhsNumber)| !failed.contains(number);
                let waiting: Vec<i64> = over.iter().filter(|one| !is_over(one)).map(|(id, _)| *id).collect();
                over.retain(is_over);
                let pause = if failed.len() >= MOST_FAILED && is_away { AWAY } else { pause };
                let until_ms = (self.clock.now() + pause).timestamp_millis();
                let write = self
                    .store
                    .write_behind(Vec::new(), move |tx| store::trace::release(tx.conn, &waiting, Some(until_ms)));
                write.await?;
            }
        }
        let over: Vec<i64> = over.into_iter().map(|(id, _)| id).collect();
        self.store.write_behind(Vec::new(), move |tx| store::trace::release(tx.conn, &over, None)).await?;
        Ok(done)
    }

    /// Asks about numbers together; if that fails, about each by itself, since one that the source stumbles over must not
    /// keep the others from being traced. Gives those that failed too, and whether the source is
    /// away: none was answered, or [`MOST_FAILED`] in a row were not, and then no more are tried.
    async fn ask_one_by_one_at_last(&self, numbers: &[NhsNumber]) -> Result<(Traces, Vec<NhsNumber>, bool), Error> {
        let until = tokio::time::Instant::now() + PATIENCE;
        let ask =
            async |numbers: &[NhsNumber]| match tokio::time::timeout_at(until, self.ask(numbers, Urgency::Background))
                .await
            {
                Ok(Ok(answers)) => Ok(Some(answers)),
                Ok(Err(Error::DemographicsUnavailable)) | Err(_) => Ok(None),
                Ok(Err(error)) => Err(error),
            };
        if let Some(answers) = ask(numbers).await? {
            return Ok((answers, Vec::new(), false));
        }
        let mut answers = Traces { by_number: HashMap::new(), asked: self.clock.now(), kept: HashSet::new() };
        let (mut failed, mut in_a_row) = (Vec::new(), 0);
        for number in numbers {
            // The instant of the first stands for all: no later than that of any.
            let answer = if in_a_row < MOST_FAILED { ask(&[*number]).await? } else { None };
            if let Some(answer) = answer {
                answers.by_number.extend(answer.by_number);
                in_a_row = 0;
            } else {
                failed.push(*number);
                in_a_row += 1;
            }
        }
        let is_away = in_a_row >= MOST_FAILED || answers.by_number.is_empty();
        Ok((answers, failed, is_away))
    }

    /// Has those that need not be traced left out until something of them changes; gives the others.
    async fn leave_out(&self, claimed: Vec<Person>, done: &mut Retraced) -> Result<Vec<Person>, Error> {
        let gateway = self.clone();
        let read = self.store.read(move |conn| {
            let (mut shown, mut out) = (Vec::new(), Vec::new());
            for person in claimed {
                let is_shown = gateway.is_shown(conn, &person)?;
                if is_shown { shown.push(person) } else { out.push(person) }
            }
            Ok((shown, out))
        });
        let (shown, out) = read.await?;
        done.left_out = out.len();
        if out.is_empty() {
            return Ok(shown);
        }
        // Decided once more under the locks of the children: what is stored at this moment brings them back.
        let (gateway, numbers) = (self.clone(), out.iter().map(|person| person.nhs_number).collect());
        let write = self.store.write_behind(numbers, move |tx| {
            let mut leaving = Vec::new();
            for person in &out {
                let person = store::person::get(tx.conn, person.id)?;
                if !gateway.is_shown(tx.conn, &person)? {
                    leaving.push(person.id);
                }
            }
            store::trace::leave(tx.conn, &leaving)
        });
        write.await?;
        Ok(shown)
    }

    /// Whether a number is to be traced again. What an upload has staged under it may count soon.
    fn is_shown(&self, conn: &mut Conn, person: &Person) -> Result<bool, StoreError> {
        if is_retired(person) {
            return Ok(false);
        }
        let (today, limits) = (self.today(), &self.limits);
        let counts = |plan: &Plan, birth| may_be_visible(plan.plan_type, &plan.period, birth, today, limits);
        if !holders_by(conn, &[person.id], counts)?.is_empty() {
            return Ok(true);
        }
        for authority in store::child::authorities_of(conn, person.id)? {
            if store::upload::any_in(conn, authority, &[STAGED, CANCELLED])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The gauges of tracing at this moment; none where nobody can be asked.
    pub(super) async fn measured_tracing(&self) -> Vec<Sample> {
        if self.demographics.source() == Source::Off {
            return Vec::new();
        }
        let now = self.clock.now();
        let since = self.retrace_period().map_or(now, |period| now - period);
        let read = self.store.read(move |conn| store::trace::progress(conn, since.timestamp_millis()));
        let Ok(progress) = read.await else { return Vec::new() };
        let mut samples = vec![Sample::new(&metrics::UNKNOWN_NUMBERS, &[], float(progress.unknown))];
        if self.retrace_period().is_some() {
            samples.push(Sample::new(&metrics::RETRACED_NUMBERS, &[], float(progress.numbers)));
            samples.push(Sample::new(&metrics::RETRACED_IN_PERIOD, &[], float(progress.since)));
            let oldest = progress.oldest_ms.map_or(0, |oldest_ms| (now - from_millis(oldest_ms)).num_seconds());
            samples.push(Sample::new(&metrics::OLDEST_TRACE_SECONDS, &[], float(oldest)));
        }
        samples
    }

    /// Whether tracing again keeps up; for `/_status`.
    pub(super) async fn check_tracing(self) -> (Health, String) {
        let Some(period) = self.retrace_period() else {
            return (Health::Pass, "Stored numbers are not traced again.".to_owned());
        };
        let (now, days) = (self.clock.now(), period.num_days());
        let read = self.store.read(move |conn| store::trace::progress(conn, (now - period).timestamp_millis()));
        let Ok(progress) = read.await else {
            return (Health::Fail, "When numbers were traced can't be read.".to_owned());
        };
        let Progress { numbers, since, .. } = progress;
        let told = format!("{since} of {numbers} numbers were traced within {days} days");
        if is_behind(&progress, now, period) {
            let advice = "look at the PDS, then run cpis-gateway trace, or raise pds.retrace_days";
            return (Health::Warn, format!("Tracing again falls behind: {told}; {advice}."));
        }
        (Health::Pass, format!("{told}."))
    }
}

/// Whether a number should have been traced before now; those that never were, a period after numbers began to be.
fn is_behind(progress: &Progress, now: DateTime<Utc>, period: TimeDelta) -> bool {
    let is_over = |at_ms: i64| now - from_millis(at_ms) > period;
    progress.oldest_ms.is_some_and(is_over) || (progress.never > 0 && progress.began_ms.is_some_and(is_over))
}

fn float(number: i64) -> f64 {
    f64::from(i32::try_from(number).unwrap_or(i32::MAX))
}
