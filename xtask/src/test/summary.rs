//! What a run of all steps says at its end.

use std::process::ExitStatus;
use std::time::Duration;

use super::count::Count;
use super::skips;

/// What became of a step.
pub(super) struct Finished {
    pub(super) name: &'static str,
    pub(super) took: Duration,
    pub(super) count: Count,
    /// Why tests skipped themselves, one entry a test; they count as passed.
    pub(super) skipped: Vec<String>,
    /// The tests that failed at first and passed when they were run once more.
    pub(super) again: Vec<String>,
    pub(super) ending: Ending,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Succeeded,
    Failed,
    /// It could not begin on this machine, and why.
    Unable(String),
}

impl Finished {
    pub(super) fn new(name: &'static str, status: ExitStatus) -> Self {
        let ending = if status.success() { Ending::Succeeded } else { Ending::Failed };
        Self { ending, ..Self::unable(name, String::new()) }
    }

    pub(super) fn unable(name: &'static str, why: String) -> Self {
        let (took, count) = (Duration::ZERO, Count::default());
        Self { name, took, count, skipped: Vec::new(), again: Vec::new(), ending: Ending::Unable(why) }
    }
}

/// A line for each step, the reasons of skipped tests, the names of those that needed a second try, and a line that counts.
pub(super) fn lines(finished: &[Finished]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut total = Count::default();
    let mut skipped = Vec::new();
    for Finished { name, took, count, skipped: reasons, ending, .. } in finished {
        let verdict = match ending {
            Ending::Succeeded => "ok".to_owned(),
            Ending::Failed => "FAILED".to_owned(),
            Ending::Unable(why) => format!("NOT RUN: {why}"),
        };
        lines.push(format!("{name:10} {:7.1} s  {verdict}", took.as_secs_f64()));
        total += *count;
        if *ending == Ending::Failed && count.failed == 0 {
            total.failed += 1;
        }
        skipped.extend(reasons);
    }
    if !skipped.is_empty() {
        lines.push(format!("{} of the tests that passed skipped themselves:", skipped.len()));
        let groups = skips::grouped(&skipped);
        lines.extend(groups.iter().map(|(reason, count)| format!("{count:6}  {reason}")));
    }
    let again = Vec::from_iter(finished.iter().flat_map(|step| &step.again));
    if !again.is_empty() {
        lines.push(format!("{} of the tests that passed did so only when run once more:", again.len()));
        lines.extend(again.iter().map(|test| format!("        {test}")));
    }
    let mut last = format!("{} passed, {} failed", total.passed, total.failed);
    let is_unable = |ending: &Ending| matches!(ending, Ending::Unable(_));
    last += &named("failed steps", finished, |ending| *ending == Ending::Failed);
    last += &named("steps not run", finished, is_unable);
    lines.push(last);
    lines
}

/// `; WHAT: the names of such steps`, or nothing where there are none.
fn named(what: &str, finished: &[Finished], is_such: impl Fn(&Ending) -> bool) -> String {
    let names = Vec::from_iter(finished.iter().filter(|step| is_such(&step.ending)).map(|step| step.name));
    if names.is_empty() { String::new() } else { format!("; {what}: {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &'static str, passed: usize, failed: usize, ending: Ending) -> Finished {
        Finished { count: Count { passed, failed }, ending, ..Finished::unable(name, String::new()) }
    }

    fn last(finished: &[Finished]) -> String {
        lines(finished).pop().unwrap()
    }

    #[test]
    fn the_last_line_adds_up_what_all_runners_counted() {
        let steps = [
            step("clippy", 0, 0, Ending::Succeeded),
            step("tests", 30, 0, Ending::Succeeded),
            step("guests", 12, 0, Ending::Succeeded),
        ];
        assert_eq!(last(&steps), "42 passed, 0 failed");
    }

    #[test]
    fn no_step_fails_beside_nought_that_failed() {
        let steps = [step("clippy", 0, 0, Ending::Failed), step("tests", 30, 0, Ending::Succeeded)];
        assert_eq!(last(&steps), "30 passed, 1 failed; failed steps: clippy");
        let steps = [step("tests", 30, 2, Ending::Failed), step("guests", 9, 0, Ending::Failed)];
        assert_eq!(last(&steps), "39 passed, 3 failed; failed steps: tests, guests");
    }

    #[test]
    fn what_could_not_run_is_told_twice() {
        let guests = Finished::unable("guests", "no emulator".to_owned());
        let told = lines(&[step("tests", 30, 0, Ending::Succeeded), guests]);
        assert!(
            told.iter().any(|line| line.contains("guests") && line.ends_with("NOT RUN: no emulator")),
            "{told:?}"
        );
        assert_eq!(told.last().unwrap(), "30 passed, 0 failed; steps not run: guests");
    }

    #[test]
    fn who_needed_a_second_try_is_named_and_has_passed() {
        let again = vec!["runtime races::a_start".to_owned()];
        let told = lines(&[Finished { again, ..step("tests", 3, 0, Ending::Succeeded) }]);
        assert!(
            told.contains(&"1 of the tests that passed did so only when run once more:".to_owned()),
            "{told:?}"
        );
        assert!(told.contains(&"        runtime races::a_start".to_owned()), "{told:?}");
        assert_eq!(told.last().unwrap(), "3 passed, 0 failed");
    }

    #[test]
    fn the_skips_of_all_steps_are_counted_together() {
        let reasons = |reason: &str, count| vec![reason.to_owned(); count];
        let tests = Finished { skipped: reasons("needs x", 2), ..step("tests", 3, 0, Ending::Succeeded) };
        let guests = Finished { skipped: reasons("needs y", 1), ..step("guests", 3, 0, Ending::Succeeded) };
        let told = lines(&[tests, guests]);
        assert!(told.contains(&"3 of the tests that passed skipped themselves:".to_owned()), "{told:?}");
        assert!(told.contains(&"     2  needs x".to_owned()), "{told:?}");
    }
}
