//! What follows an end of the process.

use std::fmt;
use std::str::FromStr;

use bulkhead_shim::order;
use serde::{Deserialize, Serialize};

use super::Malformed;

/// A restart policy of docker's: `no`, `on-failure[:N]`, `always`, `unless-stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Restart(pub order::Restart);

impl Default for Restart {
    fn default() -> Self {
        Self(order::Restart::No)
    }
}

impl FromStr for Restart {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("restart policy", text, reason);
        let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
        let policy = match name {
            "no" | "" if count.is_none() || name == "no" => order::Restart::No,
            "on-failure" => {
                let digits =
                    |count: &&str| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
                let maximum = match count {
                    None => 0,
                    Some(count) => Some(count)
                        .filter(digits)
                        .and_then(|count| count.parse().ok())
                        .ok_or_else(|| wrong("the maximum number of restarts is a whole number"))?,
                };
                return Ok(Self(order::Restart::OnFailure { maximum }));
            }
            "always" => order::Restart::Always,
            "unless-stopped" => order::Restart::UnlessStopped,
            _ => return Err(wrong("expected no, on-failure[:N], always or unless-stopped")),
        };
        if count.is_some() {
            return Err(wrong("only on-failure takes a maximum number of restarts"));
        }
        Ok(Self(policy))
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            order::Restart::No => f.write_str("no"),
            order::Restart::OnFailure { maximum: 0 } => f.write_str("on-failure"),
            order::Restart::OnFailure { maximum } => write!(f, "on-failure:{maximum}"),
            order::Restart::Always => f.write_str("always"),
            order::Restart::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl TryFrom<String> for Restart {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Restart> for String {
    fn from(restart: Restart) -> Self {
        restart.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_docker_reads_them() {
        for (text, policy) in [
            ("", order::Restart::No),
            ("no", order::Restart::No),
            ("on-failure", order::Restart::OnFailure { maximum: 0 }),
            ("on-failure:0", order::Restart::OnFailure { maximum: 0 }),
            ("on-failure:5", order::Restart::OnFailure { maximum: 5 }),
            ("always", order::Restart::Always),
            ("unless-stopped", order::Restart::UnlessStopped),
        ] {
            let read: Restart = text.parse().unwrap();
            assert_eq!(read.0, policy, "{text}");
            assert_eq!(read.to_string().parse(), Ok(read));
        }
        for (text, words) in [
            ("always:3", "only on-failure"),
            ("no:1", "only on-failure"),
            ("unless-stopped:", "only on-failure"),
            ("on-failure:", "whole number"),
            ("on-failure:-1", "whole number"),
            ("on-failure:+1", "whole number"),
            ("on-failure:x", "whole number"),
            ("on-failure:1:2", "whole number"),
            (":1", "expected no, on-failure"),
            ("onfailure", "expected no, on-failure"),
            ("Always", "expected no, on-failure"),
        ] {
            let error = text.parse::<Restart>().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
