//! How many requests may go out: never more than so many in any second.

use std::{collections::VecDeque, time::Duration};

/// A second, and a little: two requests exactly a second apart could be counted into one.
const WINDOW: Duration = Duration::from_millis(1001);

/// When requests went out lately, and when the next may.
pub(super) struct Pace {
    per_second: usize,
    /// The newest, at most `per_second` of them, oldest first.
    taken: VecDeque<Duration>,
    held_until: Duration,
}

impl Pace {
    /// At most `per_second` in any second; at least one.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = usize::try_from(per_second).unwrap_or(usize::MAX).max(1);
        Self { per_second, taken: VecDeque::new(), held_until: Duration::ZERO }
    }

    /// When the next request may go out, as far as is known now.
    pub(super) fn next(&self) -> Duration {
        let free = match self.taken.front() {
            Some(oldest) if self.taken.len() >= self.per_second => *oldest + WINDOW,
            _ => Duration::ZERO,
        };
        free.max(self.held_until)
    }

    /// A request goes out now.
    pub(super) fn take(&mut self, now: Duration) {
        if self.taken.len() >= self.per_second {
            self.taken.pop_front();
        }
        self.taken.push_back(now);
    }

    /// None goes out before `until`: PDS asked for that.
    pub(super) fn hold(&mut self, until: Duration) {
        self.held_until = self.held_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However requests come, and however late the timer is: no second has more than it may, and whoever goes as soon as
        /// it may loses no more than the margin.
        #[test]
        fn no_second_has_more_than_it_may(
            per_second in 1_u32..20,
            comes in prop::collection::vec((0_u64..700, 0_u64..40), 1..300),
        ) {
            let mut pace = Pace::new(per_second);
            let (mut now, mut sent) = (Duration::ZERO, Vec::new());
            for (after, late) in comes {
                now += Duration::from_millis(after);
                if pace.next() > now {
                    now = pace.next() + Duration::from_millis(late);
                }
                pace.take(now);
                sent.push(now);
            }
            let many = usize::try_from(per_second).unwrap();
            for window in sent.windows(many + 1) {
                prop_assert!(window[many] - window[0] > Duration::from_secs(1));
            }
        }

        #[test]
        fn the_permitted_rate_is_used(per_second in 1_u32..50, seconds in 1_u32..20) {
            let mut pace = Pace::new(per_second);
            let mut now = Duration::ZERO;
            for _ in 0..per_second * seconds {
                now = now.max(pace.next());
                pace.take(now);
            }
            prop_assert_eq!(now, WINDOW * (seconds - 1));
        }
    }

    #[test]
    fn what_pds_asks_for_holds_all_back() {
        let mut pace = Pace::new(5);
        pace.hold(Duration::from_secs(7));
        pace.hold(Duration::from_secs(3));
        assert_eq!(pace.next(), Duration::from_secs(7));
    }
}
