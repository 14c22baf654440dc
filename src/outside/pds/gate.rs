//! The way out to PDS: who goes next, at what pace, how many at once, and whether at all.
//!
//! Requests wait in one line, by urgency, then by when they came. The first in the line goes when the pace, the number of
//! requests under way and the breaker let it; one place of those under way is kept for callers who wait.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::{
    FaultKind, Observer, PdsFault, PdsState, Seen, Turn,
    breaker::{Admission, Breaker, Outcome},
    pace::Pace,
    time::Time,
};

/// A place in the line: the least is the first.
type Place = (Reverse<Turn>, u64);

pub(super) struct Gate {
    time: Arc<dyn Time>,
    observer: Observer,
    concurrency: usize,
    state: Mutex<State>,
}

struct State {
    pace: Pace,
    breaker: Breaker,
    waiting: BTreeMap<Place, Arc<Notify>>,
    next: u64,
    under_way: usize,
    last_answer: Option<DateTime<Utc>>,
    /// The text of the newest fault since then.
    last_fault: Option<String>,
}

/// What whoever waits finds.
enum Found {
    Go { trial: bool },
    Away,
    Until(Duration),
    Wait,
}

/// Stands in the line until it is dropped.
struct Ticket<'a> {
    gate: &'a Gate,
    place: Place,
    called: Arc<Notify>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.waiting.remove(&self.place);
        state.call_first();
    }
}

/// One request may be made, now; it is under way until this is settled or dropped.
pub(super) struct Permit<'a> {
    gate: &'a Gate,
    trial: bool,
    outcome: Outcome,
}

impl Permit<'_> {
    /// The request has ended.
    pub(super) fn settle(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.under_way -= 1;
        self.gate.settle(state, self.trial, self.outcome);
    }
}

impl State {
    fn call_first(&self) {
        if let Some((_, called)) = self.waiting.first_key_value() {
            called.notify_one();
        }
    }
}

impl Gate {
    pub(super) fn new(
        time: Arc<dyn Time>,
        observer: Observer,
        pace: Pace,
        breaker: Breaker,
        concurrency: usize,
    ) -> Self {
        let state = State {
            pace,
            breaker,
            waiting: BTreeMap::new(),
            next: 0,
            under_way: 0,
            last_answer: None,
            last_fault: None,
        };
        Self { time, observer, concurrency: concurrency.max(1), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// [`FaultKind::Away`] while PDS is left alone.
    pub(super) fn check(&self) -> Result<(), PdsFault> {
        if self.lock().breaker.is_away(self.time.now()) { Err(self.away()) } else { Ok(()) }
    }

    /// Waits until a request may be made. Whoever stops waiting leaves the line.
    ///
    /// # Errors
    /// [`FaultKind::Away`] while PDS is left alone.
    pub(super) async fn turn(&self, turn: Turn) -> Result<Permit<'_>, PdsFault> {
        let ticket = self.stand_in_line(turn);
        loop {
            match self.look(ticket.place) {
                Found::Go { trial } => return Ok(Permit { gate: self, trial, outcome: Outcome::Open }),
                Found::Away => return Err(self.away()),
                Found::Until(at) => {
                    tokio::select! {
                        () = self.time.sleep_until(at) => {}
                        () = ticket.called.notified() => {}
                    }
                }
                Found::Wait => ticket.called.notified().await,
            }
        }
    }

    fn stand_in_line(&self, turn: Turn) -> Ticket<'_> {
        let mut state = self.lock();
        state.next += 1;
        let (place, called) = ((Reverse(turn), state.next), Arc::new(Notify::new()));
        state.waiting.insert(place, called.clone());
        Ticket { gate: self, place, called }
    }

    fn look(&self, place: Place) -> Found {
        let mut state = self.lock();
        if state.waiting.first_key_value().is_none_or(|(first, _)| *first != place) {
            return Found::Wait;
        }
        let now = self.time.now();
        if state.breaker.is_away(now) {
            return Found::Away;
        }
        let kept = usize::from(place.0.0 != Turn::Caller && self.concurrency > 1);
        if state.under_way >= self.concurrency - kept {
            return Found::Wait;
        }
        let next = state.pace.next();
        if next > now {
            return Found::Until(next);
        }
        let trial = match state.breaker.admit(now) {
            Admission::Go => false,
            Admission::Trial => true,
            Admission::No => return Found::Away,
        };
        state.pace.take(now);
        state.under_way += 1;
        Found::Go { trial }
    }

    /// Nothing goes out before `until`.
    pub(super) fn hold(&self, until: Duration) {
        self.lock().pace.hold(until);
    }

    /// What had to come before a request failed: its token.
    pub(super) fn failed(&self, fault: &PdsFault) {
        self.note(fault);
        self.settle(self.lock(), false, fault.kind.outcome());
    }

    /// Keeps why a request failed, for whoever is told that PDS is away.
    pub(super) fn note(&self, fault: &PdsFault) {
        self.lock().last_fault = Some(fault.text.clone());
    }

    fn away(&self) -> PdsFault {
        let mut text = "PDS failed too often lately and is left alone for a while".to_owned();
        if let Some(fault) = &self.lock().last_fault {
            text = format!("{text}; the last time: {fault}");
        }
        PdsFault::new(FaultKind::Away, text)
    }

    fn settle(&self, mut state: MutexGuard<'_, State>, trial: bool, outcome: Outcome) {
        if outcome == Outcome::Good {
            state.last_answer = Some(self.time.utc());
            state.last_fault = None;
        }
        let turned = state.breaker.settle(trial, outcome, self.time.now());
        state.call_first();
        drop(state);
        if let Some(turned) = turned {
            (self.observer)(Seen::Turned(turned));
        }
    }

    pub(super) fn state(&self) -> PdsState {
        let state = self.lock();
        let waiting = |turn: Turn| state.waiting.keys().filter(|(Reverse(of), _)| *of == turn).count();
        PdsState {
            away: state.breaker.is_open(),
            failures: state.breaker.failed(),
            last_answer: state.last_answer,
            last_fault: state.last_fault.clone(),
            under_way: state.under_way,
            waiting: Turn::ALL.map(waiting),
        }
    }
}
