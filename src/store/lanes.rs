//! What waits for the writer, in two lanes. The first is everything that somebody waits for; the other holds parts of long
//! work, one of which runs when nothing is in the first. A change of the first lane waits for one of the others at most,
//! and they are not starved: one runs now and then however busy the first lane is.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Changes that may wait in a lane; one more is refused.
const WAITING: usize = 4096;
/// Changes of the first lane that share a commit at most (design 6: at most 64).
const TOGETHER: usize = 64;
/// Commits of the first lane that may overtake a part of long work.
const OVERTAKING: usize = 8;

/// The two lanes.
pub(super) struct Lanes<J> {
    state: Mutex<State<J>>,
    came: Condvar,
}

struct State<J> {
    /// Each with the parts of long work that had run when it came.
    first: VecDeque<(u64, J)>,
    behind: VecDeque<J>,
    /// Parts of long work that have run.
    run: u64,
    /// Commits of the first lane since then.
    overtaken: usize,
    closed: bool,
}

/// What the writer is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<J> {
    /// Changes of the first lane that share a commit.
    Together(Vec<J>),
    /// A part of long work; [`Lanes::behind_is_done`] is to follow.
    Alone(J),
    /// Nothing came in time.
    Nothing,
    /// Nothing waits, and nothing will come.
    Closed,
}

impl<J> Default for Lanes<J> {
    fn default() -> Self {
        let state = State { first: VecDeque::new(), behind: VecDeque::new(), run: 0, overtaken: 0, closed: false };
        Self { state: Mutex::new(state), came: Condvar::new() }
    }
}

impl<J> Lanes<J> {
    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when the lane is full or closed.
    pub fn put_first(&self, job: J) -> bool {
        let mut state = self.state();
        let taken = !state.closed && state.first.len() < WAITING;
        if taken {
            let run = state.run;
            state.first.push_back((run, job));
            self.came.notify_one();
        }
        taken
    }

    /// As [`Lanes::put_first`].
    pub fn put_behind(&self, job: J) -> bool {
        let mut state = self.state();
        let taken = !state.closed && state.behind.len() < WAITING;
        if taken {
            state.behind.push_back(job);
            self.came.notify_one();
        }
        taken
    }

    /// How many wait, in both lanes.
    pub fn waiting(&self) -> usize {
        let state = self.state();
        state.first.len() + state.behind.len()
    }

    /// Nothing more is taken; what waits is still given out.
    pub fn close(&self) {
        self.state().closed = true;
        self.came.notify_one();
    }

    /// A part of long work has run: what came meanwhile has waited for it.
    pub fn behind_is_done(&self) {
        let mut state = self.state();
        state.run += 1;
        state.overtaken = 0;
    }

    /// What is next; waits for it for a while.
    pub fn next(&self, patience: Duration) -> Next<J> {
        let mut state = self.state();
        loop {
            if let Some(next) = state.next() {
                return next;
            }
            if state.closed {
                return Next::Closed;
            }
            let (woken, waited) = self.came.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if waited.timed_out() && state.first.is_empty() && state.behind.is_empty() && !state.closed {
                return Next::Nothing;
            }
        }
    }
}

impl<J> State<J> {
    fn next(&mut self) -> Option<Next<J>> {
        let has_waited = self.first.front().is_some_and(|(ran, _)| *ran < self.run);
        let may_go = self.first.is_empty() || (self.overtaken >= OVERTAKING && !has_waited);
        if may_go && let Some(job) = self.behind.pop_front() {
            return Some(Next::Alone(job));
        }
        if self.first.is_empty() {
            return None;
        }
        self.overtaken += 1;
        let together = self.first.len().min(TOGETHER);
        Some(Next::Together(self.first.drain(..together).map(|(_, job)| job).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Duration = Duration::ZERO;

    #[test]
    fn the_first_lane_goes_first_and_together() {
        let lanes = Lanes::default();
        assert!(lanes.put_behind(100) && lanes.put_behind(101) && lanes.put_first(1) && lanes.put_first(2));
        assert_eq!(lanes.next(AT_ONCE), Next::Together(vec![1, 2]));
        assert_eq!(lanes.next(AT_ONCE), Next::Alone(100));
        lanes.behind_is_done();
        assert!(lanes.put_first(3));
        assert_eq!(lanes.next(AT_ONCE), Next::Together(vec![3]));
        assert_eq!(lanes.next(AT_ONCE), Next::Alone(101));
        lanes.behind_is_done();
        assert_eq!(lanes.next(AT_ONCE), Next::Nothing);
    }

    #[test]
    fn long_work_is_not_starved_and_nobody_waits_for_two_parts_of_it() {
        let lanes = Lanes::default();
        let mut came = 0;
        let mut runs_before: std::collections::HashMap<i32, u64> = std::collections::HashMap::new();
        let (mut runs, mut longest) = (0_u64, 0);
        for _ in 0..10 {
            assert!(lanes.put_behind(-1));
        }
        // More comes than is written: the first lane is never empty.
        for _ in 0..400 {
            for _ in 0..70 {
                if lanes.put_first(came) {
                    runs_before.insert(came, runs);
                }
                came += 1;
            }
            match lanes.next(AT_ONCE) {
                Next::Together(batch) => {
                    longest = batch.iter().map(|job| runs - runs_before[job]).max().unwrap_or(0).max(longest);
                }
                Next::Alone(_) => {
                    runs += 1;
                    lanes.behind_is_done();
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(longest, 1);
        assert!(runs >= 2, "{runs}");
    }

    #[test]
    fn a_full_lane_refuses_and_a_closed_one_gives_out_what_waits() {
        let lanes = Lanes::default();
        assert!((0..WAITING).all(|job| lanes.put_first(job)));
        assert!(!lanes.put_first(WAITING) && lanes.put_behind(0));
        lanes.close();
        assert!(!lanes.put_behind(1));
        let mut given = 0;
        loop {
            match lanes.next(AT_ONCE) {
                Next::Together(batch) => given += batch.len(),
                Next::Alone(_) => {
                    given += 1;
                    lanes.behind_is_done();
                }
                Next::Closed => break,
                Next::Nothing => panic!("a closed lane waits for nothing"),
            }
        }
        assert_eq!(given, WAITING + 1);
    }
}
