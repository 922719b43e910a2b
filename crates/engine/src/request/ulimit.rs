//! Limits of a process, setrlimit(2).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;

/// One limit: `NAME=SOFT[:HARD]`, where -1 is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ulimit {
    /// Docker's name in lower case: `nofile` for RLIMIT_NOFILE.
    pub name: String,
    /// What the kernel enforces; `u64::MAX` is no limit.
    pub soft: u64,
    /// The ceiling for `soft`, not below it; `u64::MAX` is no limit.
    pub hard: u64,
}

/// The limits of Linux, getrlimit(2). Docker has no `as`; there is no reason not to.
const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

impl Ulimit {
    /// Returns the name as the specification has it: `RLIMIT_NOFILE`.
    pub fn kind(&self) -> String {
        format!("RLIMIT_{}", self.name.to_ascii_uppercase())
    }
}

impl FromStr for Ulimit {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("ulimit", text, reason);
        let (name, limits) =
            text.split_once('=').ok_or_else(|| wrong("expected NAME=SOFT or NAME=SOFT:HARD"))?;
        if !NAMES.contains(&name) {
            return Err(wrong(&format!("expected one of {}", NAMES.join(", "))));
        }
        let limit = |text: &str| match text {
            "-1" => Ok(u64::MAX),
            // Go's numbers are signed, and so is what the specification's Go types give on.
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text
                .parse::<i64>()
                .map(i64::unsigned_abs)
                .map_err(|_| wrong("a limit is a whole number, or -1 for none")),
            _ => Err(wrong("a limit is a whole number, or -1 for none")),
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (limit(soft)?, limit(hard)?);
        if soft > hard {
            return Err(wrong("the soft limit is above the hard one"));
        }
        Ok(Self { name: name.to_owned(), soft, hard })
    }
}

impl fmt::Display for Ulimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |limit: u64| if limit == u64::MAX { "-1".to_owned() } else { limit.to_string() };
        write!(f, "{}={}:{}", self.name, limit(self.soft), limit(self.hard))
    }
}

impl TryFrom<String> for Ulimit {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Ulimit> for String {
    fn from(ulimit: Ulimit) -> Self {
        ulimit.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        for (text, soft, hard) in [
            ("nofile=512:1024", 512, 1024),
            ("nofile=512", 512, 512),
            ("core=-1", u64::MAX, u64::MAX),
            ("core=0:-1", 0, u64::MAX),
            ("nproc=0", 0, 0),
        ] {
            let read: Ulimit = text.parse().unwrap();
            assert_eq!((read.soft, read.hard), (soft, hard), "{text}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for (text, words) in [
            ("nofile", "expected NAME=SOFT"),
            ("files=1", "expected one of as, core"),
            ("NOFILE=1", "expected one of"),
            ("nofile=", "whole number"),
            ("nofile=a", "whole number"),
            ("nofile=1:2:3", "whole number"),
            ("nofile=-2", "whole number"),
            ("nofile=1.5", "whole number"),
            ("nofile=18446744073709551615", "whole number"),
            ("nofile=1024:512", "above the hard"),
            ("nofile=-1:512", "above the hard"),
        ] {
            let error = text.parse::<Ulimit>().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!("rttime=1".parse::<Ulimit>().unwrap().kind(), "RLIMIT_RTTIME");
    }
}
