//! The circuit breaker: PDS that fails again and again is left alone for a while, then tried by one request.

use std::time::Duration;

/// How a request ended, as far as it says something of PDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// PDS answered.
    Good,
    Bad,
    /// Neither: it was busy, or nobody waited for the answer.
    Open,
}

/// Whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Go,
    /// As the one that tries whether PDS is back.
    Trial,
    No,
}

/// What a request's end changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// PDS counts as away.
    Away,
    /// PDS is back.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Requests go out; so many failed in a row.
    Closed(u32),
    /// None goes out before then.
    Open(Duration),
    /// One is under way.
    Trial,
}

/// The breaker of one PDS.
pub(super) struct Breaker {
    failures: u32,
    pause: Duration,
    state: State,
}

impl Breaker {
    /// Opens after `failures` in a row (at least one), for `pause`.
    pub(super) fn new(failures: u32, pause: Duration) -> Self {
        Self { failures: failures.max(1), pause, state: State::Closed(0) }
    }

    /// Whether a request would be turned away.
    pub(super) fn is_away(&self, now: Duration) -> bool {
        match self.state {
            State::Closed(_) => false,
            State::Open(until) => now < until,
            State::Trial => true,
        }
    }

    /// Whether PDS counts as away, be it that it is tried at the moment.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed(_))
    }

    /// How many failed in a row, while requests go out.
    pub(super) fn failed(&self) -> u32 {
        match self.state {
            State::Closed(failed) => failed,
            _ => self.failures,
        }
    }

    /// Lets a request out, or not.
    pub(super) fn admit(&mut self, now: Duration) -> Admission {
        match self.state {
            State::Closed(_) => Admission::Go,
            State::Open(until) if now >= until => {
                self.state = State::Trial;
                Admission::Trial
            }
            State::Open(_) | State::Trial => Admission::No,
        }
    }

    /// Takes note of how a request ended; `trial` if it went out as one.
    pub(super) fn settle(&mut self, trial: bool, outcome: Outcome, now: Duration) -> Option<Turned> {
        let (state, turned) = match (self.state, outcome) {
            (State::Closed(_), Outcome::Good) => (State::Closed(0), None),
            (State::Closed(failed), Outcome::Bad) if failed + 1 >= self.failures => {
                (State::Open(now + self.pause), Some(Turned::Away))
            }
            (State::Closed(failed), Outcome::Bad) => (State::Closed(failed + 1), None),
            (State::Trial, Outcome::Good) if trial => (State::Closed(0), Some(Turned::Back)),
            (State::Trial, Outcome::Bad) if trial => (State::Open(now + self.pause), None),
            (State::Trial, Outcome::Open) if trial => (State::Open(now), None),
            // No trial could begin: its token was refused, say.
            (State::Open(until), Outcome::Bad) if now >= until => (State::Open(now + self.pause), None),
            // What went out before it opened says nothing new.
            (state, _) => (state, None),
        };
        self.state = state;
        turned
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(2, PAUSE);
        assert_eq!(breaker.settle(false, Outcome::Bad, Duration::ZERO), None);
        assert_eq!(breaker.settle(false, Outcome::Bad, Duration::ZERO), Some(Turned::Away));
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let mut breaker = Breaker::new(2, PAUSE);
        for outcome in [Outcome::Bad, Outcome::Good, Outcome::Bad, Outcome::Open] {
            assert_eq!(breaker.settle(false, outcome, Duration::ZERO), None);
        }
        assert_eq!((breaker.admit(Duration::ZERO), breaker.failed()), (Admission::Go, 1));
        assert_eq!(breaker.settle(false, Outcome::Bad, Duration::ZERO), Some(Turned::Away));
        assert_eq!(breaker.admit(Duration::ZERO), Admission::No);
    }

    #[test]
    fn one_request_tries_and_its_end_decides() {
        for (outcome, turned, next) in [
            (Outcome::Good, Some(Turned::Back), Admission::Go),
            (Outcome::Bad, None, Admission::No),
            (Outcome::Open, None, Admission::Trial),
        ] {
            let mut breaker = opened();
            assert_eq!(breaker.admit(PAUSE - Duration::from_millis(1)), Admission::No);
            assert_eq!((breaker.admit(PAUSE), breaker.admit(PAUSE)), (Admission::Trial, Admission::No));
            assert!(breaker.is_away(PAUSE * 2), "while it is tried, the others are turned away");
            // One that went out long ago.
            assert_eq!(breaker.settle(false, Outcome::Good, PAUSE), None);
            assert_eq!(breaker.settle(true, outcome, PAUSE), turned, "{outcome:?}");
            assert_eq!(breaker.admit(PAUSE), next, "{outcome:?}");
        }
    }

    #[test]
    fn a_trial_that_could_not_begin_is_not_begun_at_once_again() {
        let mut breaker = opened();
        assert_eq!(breaker.settle(false, Outcome::Bad, PAUSE), None);
        assert_eq!(breaker.admit(PAUSE), Admission::No);
        assert_eq!(breaker.admit(PAUSE * 2), Admission::Trial);
    }

    proptest! {
        /// Whatever happens, there is a later moment at which a request may go out: it never stays open for ever.
        #[test]
        fn it_always_comes_back(ends in prop::collection::vec((0_u8..3, 0_u64..40), 0..60)) {
            let mut breaker = Breaker::new(3, PAUSE);
            let mut now = Duration::ZERO;
            for (end, after) in ends {
                now += Duration::from_secs(after);
                let outcome = [Outcome::Good, Outcome::Bad, Outcome::Open][usize::from(end)];
                match breaker.admit(now) {
                    Admission::No => prop_assert!(breaker.is_away(now)),
                    admission => drop(breaker.settle(admission == Admission::Trial, outcome, now)),
                }
            }
            prop_assert_ne!(breaker.admit(now + PAUSE), Admission::No);
        }
    }
}
