//! Reads how many tests passed from the closing lines of test runners.

use std::ops::AddAssign;

/// Tests that passed and tests that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: usize,
    pub(super) failed: usize,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// A program that runs tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    Cargo,
    Nextest,
}

impl Runner {
    /// The count in a closing line; zero for any other line. What tests themselves print is indented by nextest,
    /// and by cargo comes before the closing line of the same program, which begins at the left edge.
    pub(super) fn count(self, line: &str) -> Count {
        let count = match self {
            Self::Cargo => line.strip_prefix("test result: ").and_then(of_cargo),
            Self::Nextest => line.strip_prefix("     Summary [").and_then(of_nextest),
        };
        count.unwrap_or_default()
    }

    /// The test that a closing line names because it failed at first and passed when it was run once more.
    pub(super) fn passed_again(self, line: &str) -> Option<String> {
        let rest = line.strip_prefix("   FLAKY ").filter(|_| self == Self::Nextest)?;
        rest.split_once(") ").map(|(_, test)| test.to_owned())
    }
}

/// `ok. 35 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn of_cargo(rest: &str) -> Option<Count> {
    let (_, figures) = rest.split_once(". ")?;
    let figure = |name: &str| {
        let part = figures.split("; ").find_map(|part| part.strip_suffix(name));
        part.and_then(|number| number.trim().parse().ok())
    };
    Some(Count { passed: figure("passed")?, failed: figure("failed")? })
}

/// `   2.219s] 21/23 tests run: 18 passed (1 slow), 2 failed, 1 timed out, 3 skipped`
///
/// Whatever ran and did not pass has failed; so has what was not run of the number after the slash.
fn of_nextest(rest: &str) -> Option<Count> {
    let (_, rest) = rest.split_once("] ")?;
    let (run, figures) = rest.split_once(" run: ")?;
    let number = run.split_whitespace().next()?;
    let planned: usize = number.split('/').next_back()?.parse().ok()?;
    let passed = figures.split(',').find_map(|part| part.split_once(" passed"));
    let passed = passed.map_or(Some(0), |(number, _)| number.trim().parse().ok())?;
    Some(Count { passed, failed: planned.checked_sub(passed)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needed_a_second_try_is_named() {
        for (runner, line, test) in [
            (
                Runner::Nextest,
                "   FLAKY 2/2 [   0.005s] (1/3) bulkhead-sys clock::ticks",
                Some("bulkhead-sys clock::ticks"),
            ),
            (Runner::Nextest, "  TRY 2 PASS [   0.005s] (1/3) bulkhead-sys clock::ticks", None),
            (Runner::Nextest, "       FLAKY (as a test prints it) it is", None),
            (Runner::Cargo, "   FLAKY 2/2 [   0.005s] (1/3) bulkhead-sys clock::ticks", None),
        ] {
            assert_eq!(runner.passed_again(line).as_deref(), test, "wrong in: {line}");
        }
    }

    #[test]
    fn closing_lines_are_counted() {
        use Runner::{Cargo, Nextest};
        for (runner, line, passed, failed) in [
            (
                Cargo,
                "test result: ok. 35 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s",
                35,
                0,
            ),
            (
                Cargo,
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0s",
                3,
                2,
            ),
            (Cargo, "test stats::median ... ok", 0, 0),
            (Cargo, "36 passed, 0 failed", 0, 0),
            (Nextest, "     Summary [   2.219s] 21 tests run: 21 passed, 0 skipped", 21, 0),
            (
                Nextest,
                "     Summary [   2.219s] 5 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 2 skipped",
                3,
                2,
            ),
            (Nextest, "     Summary [   0.212s] 3 tests run: 2 passed (1 flaky), 1 failed, 0 skipped", 2, 1),
            (Nextest, "     Summary [   0.100s] 2/9 tests run: 1 passed, 1 failed, 0 skipped", 1, 8),
            (Nextest, "     Summary [   0.100s] 1 test run: 1 failed, 0 skipped", 0, 1),
            (Nextest, "     Summary [   0.100s] 1 test run: 0 passed, 1 failed, 0 skipped", 0, 1),
            (Nextest, "     Summary [of this test]: 3 passed", 0, 0),
            (
                Nextest,
                "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
                0,
                0,
            ),
        ] {
            assert_eq!(runner.count(line), Count { passed, failed }, "wrong count in: {line}");
        }
    }
}
