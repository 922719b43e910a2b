//! The signal that asks a container to end.

use std::fmt;
use std::str::FromStr;

use bulkhead_sys::signal;
use serde::{Deserialize, Serialize};

use super::Malformed;

/// A signal that can be sent, 1 to 64: a number, or a name with or without `SIG` in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(signal::Signal);

impl Signal {
    /// SIGTERM.
    pub const TERM: Self = Self(signal::Signal::TERM);
    /// SIGKILL.
    pub const KILL: Self = Self(signal::Signal::KILL);

    /// Returns the number as kill(2) wants it.
    pub fn number(self) -> i32 {
        self.0.number()
    }
}

impl FromStr for Signal {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let found = signal::Signal::from_text(text).filter(|signal| signal.number() != 0);
        found.map(Self).ok_or_else(|| {
            Malformed::new("signal", text, "expected a number from 1 to 64 or a name such as TERM or SIGKILL")
        })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Signal {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_can_be_sent_has_a_name_or_a_number() {
        for (text, number, written) in [
            ("9", 9, "SIGKILL"),
            ("sigterm", 15, "SIGTERM"),
            ("QUIT", 3, "SIGQUIT"),
            ("SIGRTMIN+3", 37, "37"),
        ] {
            let signal: Signal = text.parse().unwrap();
            assert_eq!((signal.number(), signal.to_string().as_str()), (number, written));
        }
        for text in ["0", "65", "", "SIGFOO", "-9"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }
}
