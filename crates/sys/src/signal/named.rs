//! Signals by number and by name.

use std::fmt;

use rustix::process::Signal as Named;

/// The first real-time signal: the two below it belong to the C library's threads, as `kill -l` counts.
const RT_MIN: i32 = 34;
/// The last signal of the kernel.
const RT_MAX: i32 = 64;

/// The number of a signal, 0 to 64; 0 only asks whether the process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// SIGTERM, which `kill` sends unless told otherwise.
    pub const TERM: Self = Self(Named::TERM.as_raw());
    /// SIGKILL, which no process can refuse.
    pub const KILL: Self = Self(Named::KILL.as_raw());

    /// Reads a decimal number, or a name with or without `SIG` in either case (`KILL`, `sigterm`, `RTMIN+3`).
    pub fn from_text(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().filter(|number| (0..=RT_MAX).contains(number)).map(Self);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let fixed = NAMES.iter().find(|(known, _)| *known == name).map(|&(_, number)| number);
        fixed.or_else(|| real_time(name)).map(Self)
    }

    /// Returns the number as kill(2) wants it.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl From<i32> for Signal {
    /// Takes a number that the kernel gave.
    fn from(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Signal {
    /// Writes the name with `SIG` where there is one, else the number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|&&(_, number)| number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Reads `RTMIN`, `RTMIN+n`, `RTMAX` and `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let offset = |text: &str, sign: char| match text.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<i32>().ok(),
        Some(_) => None,
        None => text.is_empty().then_some(0),
    };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RT_MIN.checked_add(offset(rest, '+')?)?
    } else {
        RT_MAX.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (RT_MIN..=RT_MAX).contains(&number).then_some(number)
}

/// signal(7); the first name of a number is the one that is printed.
static NAMES: &[(&str, i32)] = &[
    ("HUP", Named::HUP.as_raw()),
    ("INT", Named::INT.as_raw()),
    ("QUIT", Named::QUIT.as_raw()),
    ("ILL", Named::ILL.as_raw()),
    ("TRAP", Named::TRAP.as_raw()),
    ("ABRT", Named::ABORT.as_raw()),
    ("IOT", Named::ABORT.as_raw()),
    ("BUS", Named::BUS.as_raw()),
    ("FPE", Named::FPE.as_raw()),
    ("KILL", Named::KILL.as_raw()),
    ("USR1", Named::USR1.as_raw()),
    ("SEGV", Named::SEGV.as_raw()),
    ("USR2", Named::USR2.as_raw()),
    ("PIPE", Named::PIPE.as_raw()),
    ("ALRM", Named::ALARM.as_raw()),
    ("TERM", Named::TERM.as_raw()),
    ("STKFLT", Named::STKFLT.as_raw()),
    ("CHLD", Named::CHILD.as_raw()),
    ("CLD", Named::CHILD.as_raw()),
    ("CONT", Named::CONT.as_raw()),
    ("STOP", Named::STOP.as_raw()),
    ("TSTP", Named::TSTP.as_raw()),
    ("TTIN", Named::TTIN.as_raw()),
    ("TTOU", Named::TTOU.as_raw()),
    ("URG", Named::URG.as_raw()),
    ("XCPU", Named::XCPU.as_raw()),
    ("XFSZ", Named::XFSZ.as_raw()),
    ("VTALRM", Named::VTALARM.as_raw()),
    ("PROF", Named::PROF.as_raw()),
    ("WINCH", Named::WINCH.as_raw()),
    ("IO", Named::IO.as_raw()),
    ("POLL", Named::IO.as_raw()),
    ("PWR", Named::POWER.as_raw()),
    ("SYS", Named::SYS.as_raw()),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_number_or_a_name() {
        let table = [
            ("0", 0),
            ("9", 9),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("kill", 9),
            ("TERM", 15),
            ("SIGIOT", 6),
            ("ABRT", 6),
            ("CLD", 17),
            ("POLL", 29),
            ("WINCH", 28),
            ("RTMIN", 34),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("sigrtmin+15", 49),
            ("RTMAX", 64),
            ("SIGRTMAX-14", 50),
            ("RTMIN+30", 64),
        ];
        for (text, number) in table {
            assert_eq!(Signal::from_text(text), Some(Signal(number)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_signal() {
        for text in [
            "",
            "65",
            "-9",
            "+9",
            " 9",
            "9 ",
            "SIG",
            "SIG9",
            "FOO",
            "KILLED",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+",
            "RTMIN++1",
            "RTMIN+4294967296",
            "99999999999",
        ] {
            assert_eq!(Signal::from_text(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_signal_prints_its_name() {
        assert_eq!(Signal::KILL.to_string(), "SIGKILL");
        assert_eq!(Signal(6).to_string(), "SIGABRT");
        assert_eq!(Signal(40).to_string(), "40");
    }
}
