//! What measured, and when: what whoever cites a figure needs besides the machine. Figures of two builds are not the same
//! figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::platform::find;

/// The fact that tells what the run was asked to do.
pub const OPTIONS: &str = "options";

/// The fact that tells which time the run had, if it had one.
pub const TIME: &str = "time";

/// The fact that has the SHA-256 of the program that measures.
pub(crate) const PROGRAM: &str = "SHA-256 of bulkhead";

/// The fact that has the SHA-256 of the workload.
pub const WORKLOAD: &str = "SHA-256 of bulkload";

/// Set by the project's own build where the sources are a checkout. Nothing else that changes from build to build is in
/// a program.
const COMMIT: Option<&str> = option_env!("BULKHEAD_COMMIT");

/// Facts by their names in the report. What cannot be read is left out.
pub(crate) fn facts(workload: &Path) -> BTreeMap<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let commit = COMMIT.map(|commit| format!(", commit {commit}")).unwrap_or_default();
    let facts = [
        ("measured at", now.map(date)),
        ("bulkhead", Some(format!("{}{commit}", env!("CARGO_PKG_VERSION")))),
        (PROGRAM, find::hash(Path::new("/proc/self/exe")).ok()),
        (WORKLOAD, find::hash(workload).ok()),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// `2026-11-28 20:59 UTC`
fn date(since_1970: Duration) -> String {
    let minutes = since_1970.as_secs() / 60;
    let (hours, minute) = (minutes / 60, minutes % 60);
    let (mut days, hour) = (hours / 24, hours % 24);
    let mut year = 1970;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02} {hour:02}:{minute:02} UTC", month + 1, days + 1)
}

fn days_of(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    365 + u64::from(is_leap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (1_795_899_540, "2026-11-28 20:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn what_measured_is_known() {
        let facts = facts(Path::new("/proc/self/exe"));
        assert_eq!(facts[PROGRAM], facts[WORKLOAD]);
        assert!(
            facts["bulkhead"].starts_with(env!("CARGO_PKG_VERSION"))
                && facts["measured at"].ends_with(" UTC")
        );
        assert!(!super::facts(Path::new("/no/such/file")).contains_key(WORKLOAD));
    }
}
