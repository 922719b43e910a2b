//! From an attempt and what its witness saw to one of four verdicts: pure.
//!
//! A return code is no verdict: what a call says is what the sandbox's kernel wants it to say.

use serde::Deserialize;

use crate::printed::last_line;
use crate::record::{Finding, Reach};
use crate::stats::Failure;

use super::probes::{Probe, Way};

/// What `bulkload probe` printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It was done, and these bytes were read.
    Done(Vec<u8>),
    /// This call was refused.
    Refused(String),
}

#[derive(Deserialize)]
struct Line {
    result: Outcome,
    call: Option<String>,
    read: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Done,
    Refused,
}

impl Said {
    /// Reads the probe's line, the last that was printed.
    pub(super) fn of(printed: &[u8]) -> Result<Self, Failure> {
        let Line { result, call, read } = last_line(printed, "the probe")?;
        match result {
            Outcome::Done => {
                let wrong = || Failure(format!("the probe printed {read:?}, which is no hexadecimal"));
                bytes(&read).map(Self::Done).ok_or_else(wrong)
            }
            Outcome::Refused => Ok(Self::Refused(call.unwrap_or_default())),
        }
    }

    /// What was read; empty when it was refused.
    pub(super) fn read(&self) -> &[u8] {
        match self {
            Self::Done(read) => read,
            Self::Refused(_) => &[],
        }
    }
}

/// `saw` is what the witness on the host saw that it can only see when the host was reached.
pub(super) fn verdict(probe: &Probe, said: &Result<Said, Failure>, saw: Option<String>) -> Finding {
    let (verdict, evidence) = match (saw, probe.way, said) {
        (Some(saw), Way::Read, _) => (Reach::Leak, saw),
        (Some(saw), Way::Change, _) => (Reach::Breach, saw),
        (None, Way::Read, Ok(Said::Done(_))) => {
            (Reach::Virtual, "it was done, and nothing of the host was read".to_owned())
        }
        (None, Way::Change, Ok(Said::Done(_))) => {
            (Reach::Virtual, "it was done, and nothing of the host changed".to_owned())
        }
        (None, _, Ok(Said::Refused(call))) => (Reach::Denied, call.clone()),
        (None, _, Err(Failure(reason))) => (Reach::Moot, format!("it was not attempted: {reason}")),
    };
    Finding::Verdict { probe: probe.name.to_owned(), verdict, evidence }
}

/// Nothing follows, for this reason.
pub(super) fn moot(probe: &Probe, reason: &str) -> Finding {
    Finding::Verdict { probe: probe.name.to_owned(), verdict: Reach::Moot, evidence: reason.to_owned() }
}

/// Whether `needle` is somewhere in `hay`.
pub(super) fn holds(hay: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && hay.windows(needle.len()).any(|window| window == needle)
}

/// Whether two readings are of the same thing, some of which may have changed meanwhile: most pieces that are not empty
/// are equal, and there are enough of them to be no chance.
pub(super) fn is_same(one: &[u8], other: &[u8]) -> bool {
    const PIECE: usize = 16;
    const ENOUGH: usize = 4;
    let pieces = one.chunks_exact(PIECE).zip(other.chunks_exact(PIECE));
    let told = pieces.filter(|(one, _)| one.iter().any(|byte| *byte != 0));
    let (equal, different): (Vec<_>, Vec<_>) = told.partition(|(one, other)| one == other);
    equal.len() >= ENOUGH && equal.len() >= different.len()
}

/// Whether `id` is among numbers of 32 bits.
pub(super) fn lists(read: &[u8], id: u32) -> bool {
    read.as_chunks::<4>().0.iter().any(|number| u32::from_le_bytes(*number) == id)
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs =
        digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::probes::{PROBES, Sight};
    use super::*;

    #[test]
    fn the_witness_decides() {
        let probe = |way: Way| PROBES.iter().find(|probe| probe.way == way).unwrap();
        let (done, refused) = (Ok(Said::Done(vec![1])), Ok(Said::Refused("open(x): denied".to_owned())));
        let failed = Err(Failure("exit status: 125: no".to_owned()));
        let saw = Some("it is there".to_owned());
        for (way, said, saw, expected, evidence) in [
            (Way::Read, &done, saw.clone(), Reach::Leak, "it is there"),
            (Way::Change, &done, saw.clone(), Reach::Breach, "it is there"),
            // What is said does not matter when the host was reached.
            (Way::Change, &refused, saw.clone(), Reach::Breach, "it is there"),
            (Way::Change, &failed, saw, Reach::Breach, "it is there"),
            (Way::Read, &done, None, Reach::Virtual, "it was done, and nothing of the host was read"),
            (Way::Change, &done, None, Reach::Virtual, "it was done, and nothing of the host changed"),
            (Way::Read, &refused, None, Reach::Denied, "open(x): denied"),
            (Way::Read, &failed, None, Reach::Moot, "it was not attempted: exit status: 125: no"),
        ] {
            let found = verdict(probe(way), said, saw);
            let name = probe(way).name.to_owned();
            let expected = Finding::Verdict { probe: name, verdict: expected, evidence: evidence.to_owned() };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn lines_are_read() {
        let line = br#"{"probe":"file-read","result":"done","errno":null,"call":null,"read":"61ff"}"#;
        assert_eq!(Said::of(line).unwrap(), Said::Done(vec![0x61, 0xff]));
        let line = br#"{"probe":"clock","result":"refused","errno":1,"call":"clock_settime()","read":""}"#;
        assert_eq!(Said::of(line).unwrap(), Said::Refused("clock_settime()".to_owned()));
        assert!(Said::of(b"").is_err() && Said::of(br#"{"result":"done","call":null,"read":"6"}"#).is_err());
    }

    #[test]
    fn a_secret_is_found_in_what_surrounds_it() {
        assert!(holds(b"..secret..", b"secret") && !holds(b"..secre", b"secret") && !holds(b"abc", b""));
        assert!(lists(&[1, 0, 0, 0, 7, 1, 0, 0], 263) && !lists(&[0, 7, 1, 0, 0, 9], 263));
    }

    #[test]
    fn a_disk_that_changed_a_little_is_the_same() {
        let disk = Vec::from_iter(
            (0..4096_u32).map(|number| if number < 1024 { 0 } else { (number / 7) as u8 | 1 }),
        );
        let mut later = disk.clone();
        later[1100] ^= 4;
        assert!(is_same(&disk, &later));
        assert!(!is_same(&disk, &vec![0; 4096]) && !is_same(&[0; 4096], &[0; 4096]), "nothing is no disk");
        assert!(!is_same(&disk, &disk[..1040]), "too little of it");
        let other = Vec::from_iter(disk.iter().map(|byte| byte ^ 0x55));
        assert!(!is_same(&disk, &other));
    }

    #[test]
    fn what_is_read_leaks_and_what_is_changed_breaches() {
        let reads = [
            Sight::Secret,
            Sight::Logged,
            Sight::Word,
            Sight::Disk,
            Sight::Records,
            Sight::Count,
            Sight::Program,
        ];
        for probe in PROBES {
            assert_eq!(probe.way == Way::Read, reads.contains(&probe.sight), "{}", probe.name);
        }
    }
}
