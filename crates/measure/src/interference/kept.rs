//! What a victim kept, and whether its antagonist really pressed: pure.

use serde::Deserialize;

use crate::plan::{RATE_KEPT, TAIL_KEPT};
use crate::printed::{self, Open, last_line};
use crate::record::{ENDED, Finding, Reading, Readings, UNPRESSED};
use crate::stats::Failure;

/// Of the CPUs that are a fair share of the machine, half, an antagonist must have used this part to have pressed.
const FAIR_PART: f64 = 0.5;

/// Of the memory that it may have at most, an antagonist must have held this part.
const HELD_PART: f64 = 0.5;

/// MiB that an antagonist must have written: the first that waited for the disk.
const WRITTEN: f64 = 8.0;

/// What a hog says that is held, when it is first refused more (docs/bulkload.md).
pub(super) const FULL: u8 = b'F';

/// What shows that an antagonist pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The CPU time that it had while the victim was measured.
    Processors,
    /// The memory that it held at most.
    Memory,
    /// What it wrote.
    Written,
}

/// What an antagonist said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub(super) struct Pressure {
    count: f64,
    seconds: f64,
    cpu_seconds: f64,
    most: f64,
    /// How often it was refused something, and how many of its processes were killed for want of memory.
    #[serde(default)]
    refused: f64,
    #[serde(default)]
    killed: f64,
}

/// What was seen from outside while the victim was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seen {
    /// CPUs that the antagonist's sandbox used, by the host's accounts; None where those do not tell it from others.
    pub(super) cpus: Option<f64>,
    /// CPUs of the machine.
    pub(super) processors: u32,
    /// Bytes that the antagonist's sandbox may have; None without a limit.
    pub(super) memory: Option<i64>,
    /// MiB that the antagonist wanted.
    pub(super) wanted: f64,
}

/// Reads the victim's line, the last that was printed.
pub(super) fn reading(printed: &[u8]) -> Result<Reading, Failure> {
    let line: printed::Work = last_line(printed, "the victim")?;
    let open = line.open();
    let late = open.as_ref().map_or(0.0, Open::late);
    let p90 = open.and_then(|open| open.latency_us.p90);
    Ok(Reading { rate: line.rate, p90, late, turns: line.turns() })
}

impl Pressure {
    /// Reads the antagonist's line, the last that was printed.
    pub(super) fn of(printed: &[u8]) -> Result<Self, Failure> {
        // One that is held tells so when it is refused more, and need not be heard.
        let text = Vec::from_iter(printed.iter().copied().skip_while(|byte| *byte == FULL));
        last_line(&text, "the antagonist")
    }

    /// Whether it took so much that it was refused more.
    pub(super) fn took_all(&self) -> Result<(), String> {
        let met = self.refused + self.killed > 0.0;
        met.then_some(()).ok_or_else(|| format!("it held {} and was never refused more", self.most))
    }

    /// Whether it pressed, and if not, why that is not believed.
    pub(super) fn check(&self, proof: Proof, seen: &Seen) -> Result<(), String> {
        match proof {
            Proof::Processors => {
                let used = seen.cpus.unwrap_or(self.cpu_seconds / self.seconds);
                let wanted = f64::from(seen.processors) / 2.0 * FAIR_PART;
                at_least(used, wanted, "CPUs used")
            }
            Proof::Memory => {
                let most = seen.memory.map_or(f64::INFINITY, |bytes| bytes as f64 / f64::from(1 << 20));
                at_least(self.most, most.min(seen.wanted) * HELD_PART, "MiB held")
            }
            Proof::Written => at_least(self.count, WRITTEN, "MiB written"),
        }
    }
}

fn at_least(found: f64, wanted: f64, what: &str) -> Result<(), String> {
    if found >= wanted {
        Ok(())
    } else {
        Err(format!("{found:.2} {what}, {wanted:.2} at least would be pressure"))
    }
}

/// The sandbox of an antagonist ended by itself, for this reason.
pub(super) fn ended(Failure(reason): &Failure) -> Failure {
    // Who is killed says nothing, and nobody but the kernel kills here.
    let is_killed = reason.starts_with("exit status: 137: ");
    let reason = if is_killed { "it was killed, as the kernel does for want of memory" } else { reason };
    Failure(format!("{ENDED}: {reason}"))
}

/// What a victim did, and T and Q of it, if its antagonist pressed.
pub(super) fn findings(readings: &Readings, pressed: &Result<(), String>) -> Vec<Finding> {
    let kept = match pressed {
        Err(why) => failures(&Failure(format!("{UNPRESSED}: {why}"))),
        Ok(()) => {
            vec![Finding::of(RATE_KEPT, readings.rate_kept()), Finding::of(TAIL_KEPT, readings.tail_kept())]
        }
    };
    kept.into_iter().chain([Finding::Readings(*readings)]).collect()
}

/// No number, for this reason.
pub(super) fn failures(failure: &Failure) -> Vec<Finding> {
    [RATE_KEPT, TAIL_KEPT].map(|name| Finding::of(name, Err(failure.clone()))).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Outcome;

    /// Beside whatever it is, after [`QUIET`].
    fn quiet_and(beside: Reading) -> Readings {
        Readings { alone: QUIET, alone_at: 7, beside }
    }

    const QUIET: Reading = Reading { rate: 1000.0, p90: Some(200.0), late: 0.0, turns: 200 };

    fn outcomes(beside: Reading, pressed: &Result<(), String>) -> [Outcome; 2] {
        let readings = quiet_and(beside);
        let found = findings(&readings, pressed);
        assert_eq!((found.len(), &found[2]), (3, &Finding::Readings(readings)), "the raw data are kept");
        [RATE_KEPT, TAIL_KEPT].map(|name| found.iter().find_map(|finding| finding.outcome(name)).unwrap())
    }

    #[test]
    fn half_the_rate_and_four_times_the_tail() {
        let found = outcomes(Reading { rate: 500.0, p90: Some(800.0), ..QUIET }, &Ok(()));
        assert_eq!(found.map(|outcome| outcome.unwrap().value()), [0.5, 0.25]);
        // What is better beside than alone is told as it was.
        let found = outcomes(Reading { rate: 1100.0, p90: Some(100.0), ..QUIET }, &Ok(()));
        assert_eq!(found.map(|outcome| outcome.unwrap().value()), [1.1, 2.0]);
    }

    #[test]
    fn beside_an_antagonist_that_did_not_press_nothing_is_known() {
        for outcome in outcomes(QUIET, &Err("0.01 CPUs used".to_owned())) {
            let Failure(reason) = outcome.unwrap_err();
            assert!(reason.starts_with(UNPRESSED) && reason.ends_with("0.01 CPUs used"), "{reason}");
        }
    }

    #[test]
    fn a_victim_that_did_nothing_gives_no_number() {
        let [rate, tail] = outcomes(Reading { rate: 0.0, p90: None, ..QUIET }, &Ok(()));
        assert!(rate.is_err() && tail.is_err(), "{rate:?} {tail:?}");
    }

    #[test]
    fn who_is_late_alone_has_no_tail_to_keep() {
        let alone = Reading { late: 0.25, ..QUIET };
        let found = findings(&Readings { alone, ..quiet_and(QUIET) }, &Ok(()));
        assert!(found[0].outcome(RATE_KEPT).unwrap().is_ok());
        let Failure(reason) = found[1].outcome(TAIL_KEPT).unwrap().unwrap_err();
        assert!(reason.contains("25 % of its turns never began"), "{reason}");
        // Late beside the antagonist is what is to be found out.
        assert!(findings(&quiet_and(alone), &Ok(()))[1].outcome(TAIL_KEPT).unwrap().is_ok());
    }

    #[test]
    fn pressure_is_proved() {
        let said =
            Pressure { count: 9.0, seconds: 2.0, cpu_seconds: 0.8, most: 100.0, refused: 0.0, killed: 0.0 };
        let seen = Seen { cpus: None, processors: 2, memory: Some(256 << 20), wanted: 512.0 };
        for (proof, seen, expected) in [
            // Its own 0.4 CPUs are less than half of the fair one.
            (Proof::Processors, seen, false),
            (Proof::Processors, Seen { cpus: Some(0.6), ..seen }, true),
            (Proof::Processors, Seen { cpus: Some(0.6), processors: 4, ..seen }, false),
            (Proof::Processors, Seen { processors: 1, ..seen }, true),
            (Proof::Memory, seen, false),
            (Proof::Memory, Seen { memory: Some(128 << 20), ..seen }, true),
            (Proof::Memory, Seen { memory: None, ..seen }, false),
            (Proof::Memory, Seen { memory: None, wanted: 150.0, ..seen }, true),
            (Proof::Written, seen, true),
        ] {
            let checked = said.check(proof, &seen);
            assert_eq!(checked.is_ok(), expected, "{proof:?} {seen:?}: {checked:?}");
        }
        assert!(said.took_all().is_err() && Pressure { refused: 1.0, ..said }.took_all().is_ok());
        assert!(Pressure { killed: 1.0, ..said }.took_all().is_ok());
        assert!(Pressure { count: 7.0, ..said }.check(Proof::Written, &seen).is_err());
    }

    #[test]
    fn lines_are_read() {
        let closed =
            r#"{"seconds":0.3,"rate":30.5,"loop":"closed","missed":0,"latency_us":{"p90":2.5,"samples":9}}"#;
        let more = r#","open":{"missed":3,"latency_us":{"p90":7.5,"samples":12}}}"#;
        let line = closed.strip_suffix('}').unwrap().to_owned() + more;
        let read = reading(line.as_bytes()).unwrap();
        assert_eq!(read, Reading { rate: 30.5, p90: Some(7.5), late: 0.25, turns: 18 });
        assert_eq!(
            reading(closed.as_bytes()).unwrap(),
            Reading { rate: 30.5, p90: None, late: 0.0, turns: 9 }
        );
        assert!(reading(b"nonsense").unwrap_err().0.contains("the victim printed \"nonsense\""));
        let hog = br#"{"hog":"cpu","count":5,"seconds":1.5,"cpu_seconds":1.25,"most":8,"refused":0}"#;
        let expected =
            Pressure { count: 5.0, seconds: 1.5, cpu_seconds: 1.25, most: 8.0, refused: 0.0, killed: 0.0 };
        assert_eq!(Pressure::of(hog).unwrap(), expected);
        assert_eq!(Pressure::of(&[b"F", &hog[..]].concat()).unwrap(), expected, "it was refused more, too");
    }
}
