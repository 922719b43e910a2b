//! What a run had no time for, in words.

use std::time::Duration;

use crate::provenance::TIME;
use crate::record::End;

use super::document::Sentence;
use super::findings::{Findings, LeftOut};

/// `4 min 40 s`, in whole seconds.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// Why the run did not measure more, if it could have.
pub(super) fn sentence(findings: &Findings) -> Option<Sentence> {
    match findings.end {
        Some(End::Complete) => None,
        Some(End::Budget) => {
            let given = findings.environment.get(TIME).map(|time| format!(" ({time})")).unwrap_or_default();
            let blocks = Vec::from_iter(findings.left_out.iter().map(told)).join("; ");
            let blocks =
                if blocks.is_empty() { String::new() } else { format!(" Blocks measured: {blocks}.") };
            Some(Sentence::plain(format!(
                "The time{given} ran out before everything was known well.{blocks}"
            )))
        }
        Some(End::Interrupted) => Some(Sentence::bad("The run was interrupted; resume it for the rest.")),
        None => Some(Sentence::bad("The run did not end; resume it for the rest.")),
    }
}

/// `12 of at most 20 of start, life and work`
fn told(left: &LeftOut) -> String {
    let LeftOut { of, fewest, most, planned } = left;
    let blocks = if fewest == most { format!("{most}") } else { format!("{fewest} to {most}") };
    format!("{blocks} of at most {planned} of {of}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_minutes_and_seconds() {
        for (seconds, expected) in
            [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (280.0, "4 min 40 s"), (7200.0, "120 min")]
        {
            assert_eq!(time(Duration::from_secs_f64(seconds)), expected);
        }
    }

    #[test]
    fn blocks_are_told_with_what_they_were_to_be() {
        let left = LeftOut { of: "start".to_owned(), fewest: 12, most: 12, planned: 20 };
        assert_eq!(told(&left), "12 of at most 20 of start");
        assert_eq!(told(&LeftOut { fewest: 6, ..left }), "6 to 12 of at most 20 of start");
    }
}
