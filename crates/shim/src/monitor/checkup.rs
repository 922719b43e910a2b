//! Whether a container is well: docker's rules, as a state that only time and verdicts change.

use crate::order::Health as Rules;
use crate::status::{Check, Health, Verdict};

/// How many checks are remembered.
const REMEMBERED: usize = 5;

/// The most bytes of a check's output that are kept.
pub(super) const OUTPUT: usize = 4096;

/// The state of health since a start.
#[derive(Debug)]
pub(super) struct Checkup {
    rules: Rules,
    health: Health,
    /// When the container was started, in nanoseconds since 1970.
    started: u64,
}

/// What a verdict means for the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing new.
    Same,
    /// It has just become unhealthy.
    BecameUnhealthy,
}

impl Checkup {
    /// Begins with a start.
    pub(super) fn begin(rules: Rules, started: u64) -> Self {
        Self { rules, health: Health { state: Verdict::Starting, failing: 0, log: Vec::new() }, started }
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// How long after `now` the next check begins, in nanoseconds.
    pub(super) fn pause(&self, now: u64) -> u64 {
        let starts = self.health.state == Verdict::Starting && self.is_excused(now);
        if starts && self.rules.start_interval > 0 { self.rules.start_interval } else { self.rules.interval }
    }

    /// Counts a check that has ended.
    pub(super) fn count(&mut self, check: Check) -> Finding {
        let (begin, good) = (check.begin, check.code == 0);
        if self.health.log.len() == REMEMBERED {
            self.health.log.remove(0);
        }
        self.health.log.push(check);
        let before = self.health.state;
        if good {
            self.health.failing = 0;
            self.health.state = Verdict::Healthy;
        } else if before != Verdict::Starting || !self.is_excused(begin) {
            self.health.failing += 1;
            if self.health.failing >= self.rules.retries {
                self.health.state = Verdict::Unhealthy;
            }
        }
        match self.health.state {
            Verdict::Unhealthy if before != Verdict::Unhealthy => Finding::BecameUnhealthy,
            _ => Finding::Same,
        }
    }

    /// Tells whether failures at `time` do not count yet.
    fn is_excused(&self, time: u64) -> bool {
        time.saturating_sub(self.started) < self.rules.start_period
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::OnUnhealthy;

    fn checkup(start_period: u64, retries: u32) -> Checkup {
        let rules = Rules {
            command: vec!["true".to_owned()],
            interval: 30,
            timeout: 5,
            start_period,
            start_interval: 2,
            retries,
            on_failure: OnUnhealthy::None,
        };
        Checkup::begin(rules, 1000)
    }

    fn check(begin: u64, code: i32) -> Check {
        Check { begin, end: begin + 1, code, output: String::new() }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_once_and_a_success_healthy() {
        let mut checkup = checkup(0, 2);
        assert_eq!(checkup.count(check(1030, 1)), Finding::Same);
        assert_eq!(checkup.health().state, Verdict::Starting);
        assert_eq!(checkup.count(check(1060, 1)), Finding::BecameUnhealthy);
        assert_eq!(checkup.count(check(1090, -1)), Finding::Same, "that is known");
        assert_eq!(checkup.health().failing, 3);
        checkup.count(check(1120, 0));
        assert_eq!((checkup.health().state, checkup.health().failing), (Verdict::Healthy, 0));
        checkup.count(check(1150, 1));
        assert_eq!(checkup.count(check(1180, 1)), Finding::BecameUnhealthy);
    }

    #[test]
    fn failures_do_not_count_while_it_starts() {
        let mut checkup = checkup(100, 1);
        assert_eq!(checkup.count(check(1050, 1)), Finding::Same);
        assert_eq!(checkup.health().failing, 0);
        assert_eq!(checkup.count(check(1100, 1)), Finding::BecameUnhealthy, "it had its time");
    }

    #[test]
    fn a_success_ends_the_start() {
        let mut checkup = checkup(100, 1);
        checkup.count(check(1010, 0));
        assert_eq!(checkup.count(check(1020, 1)), Finding::BecameUnhealthy);
    }

    #[test]
    fn checks_are_frequent_while_it_starts() {
        let mut started = checkup(100, 1);
        assert_eq!(started.pause(1050), 2);
        assert_eq!(started.pause(1100), 30, "the period is over");
        started.count(check(1010, 0));
        assert_eq!(started.pause(1050), 30, "it is healthy");
        assert_eq!(checkup(0, 1).pause(1000), 30, "there is no period");
    }

    #[test]
    fn five_checks_are_remembered() {
        let mut checkup = checkup(0, 100);
        for number in 0..7 {
            checkup.count(check(number, 1));
        }
        let begins: Vec<_> = checkup.health().log.iter().map(|check| check.begin).collect();
        assert_eq!(begins, [2, 3, 4, 5, 6]);
    }
}
