//! Whether and when a container is started again: docker's rules.

use std::time::Duration;

use crate::order::Restart;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest between attempts that come to nothing for want of somebody else, who may come at any time.
const SOON: Duration = Duration::from_secs(5);
/// After running for so long a container is taken for one that works, and pauses begin anew.
const WORKS: Duration = Duration::from_secs(10);

/// What a policy remembers.
#[derive(Debug)]
pub(super) struct Policy {
    rule: Restart,
    restarts: u32,
    pause: Option<Duration>,
}

impl Policy {
    /// Begins with a container that was started again so often already.
    pub(super) fn new(rule: Restart, restarts: u32) -> Self {
        Self { rule, restarts, pause: None }
    }

    /// Another rule holds from now on; what was is not forgotten.
    pub(super) fn change(&mut self, rule: Restart) {
        self.rule = rule;
    }

    /// How often the container was started again.
    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Tells whether it may start a container again.
    pub(super) fn restarts_any(&self) -> bool {
        self.rule != Restart::No
    }

    /// Says after which pause a container that nobody stopped is started again; `None` when it is not. It had run for
    /// `ran`.
    pub(super) fn after(&mut self, code: u8, ran: Duration) -> Option<Duration> {
        let again = match self.rule {
            Restart::No => false,
            Restart::OnFailure { maximum } => code != 0 && (maximum == 0 || self.restarts < maximum),
            Restart::Always | Restart::UnlessStopped => true,
        };
        again.then(|| {
            self.restarts += 1;
            let pause = match self.pause {
                Some(pause) if ran < WORKS => (pause * 2).min(LONGEST),
                _ => FIRST,
            };
            self.pause = Some(pause);
            pause
        })
    }

    /// The start that was due came to nothing before the runtime was called: it does not count, and another is due soon.
    pub(super) fn not_begun(&mut self) {
        self.restarts = self.restarts.saturating_sub(1);
        self.pause = self.pause.map(|pause| pause.min(SOON / 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEF: Duration = Duration::from_secs(1);

    #[test]
    fn rules_start_again_what_they_are_for() {
        for (rule, code, again) in [
            (Restart::No, 1, false),
            (Restart::OnFailure { maximum: 0 }, 0, false),
            (Restart::OnFailure { maximum: 0 }, 137, true),
            (Restart::Always, 0, true),
            (Restart::UnlessStopped, 0, true),
        ] {
            assert_eq!(Policy::new(rule, 0).after(code, BRIEF).is_some(), again, "{rule:?} after {code}");
        }
    }

    #[test]
    fn a_maximum_is_kept() {
        let mut policy = Policy::new(Restart::OnFailure { maximum: 2 }, 0);
        let again: Vec<_> = (0..4).map(|_| policy.after(1, BRIEF).is_some()).collect();
        assert_eq!(again, [true, true, false, false]);
        assert_eq!(policy.restarts(), 2);
        policy.change(Restart::OnFailure { maximum: 3 });
        assert!(policy.after(1, BRIEF).is_some(), "one more is allowed now");
        let mut policy = Policy::new(Restart::OnFailure { maximum: 2 }, 1);
        assert!(policy.after(1, BRIEF).is_some() && policy.after(1, BRIEF).is_none(), "one was before");
    }

    #[test]
    fn what_has_not_begun_does_not_count_and_is_tried_again_soon() {
        let mut policy = Policy::new(Restart::OnFailure { maximum: 2 }, 0);
        let mut pauses = vec![policy.after(1, BRIEF).unwrap().as_millis()];
        for _ in 0..8 {
            policy.not_begun();
            pauses.push(policy.after(126, Duration::ZERO).unwrap().as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(policy.restarts(), 1, "the one that is due");
        assert!(policy.after(1, BRIEF).is_some() && policy.after(1, BRIEF).is_none(), "these were starts");
    }

    #[test]
    fn pauses_double_to_a_minute_and_begin_anew_once_it_works() {
        let mut policy = Policy::new(Restart::Always, 0);
        let pauses: Vec<_> =
            (0..12).filter_map(|_| policy.after(0, BRIEF)).map(|pause| pause.as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(policy.after(0, WORKS), Some(FIRST));
        assert_eq!(policy.after(0, BRIEF), Some(FIRST * 2));
    }
}
