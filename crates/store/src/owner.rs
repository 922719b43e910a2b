//! Who holds a lease: a process that cannot be taken for a later one with its number.

use std::fs;
use std::io::ErrorKind;
use std::sync::OnceLock;

use crate::error::{Doing as _, Error, Result};

/// A process of some boot of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: i64,
    /// Its start, in clock ticks after boot (field 22 of proc_pid_stat(5)).
    pub(crate) start: i64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub(crate) boot: String,
}

impl Owner {
    /// Describes this process.
    pub(crate) fn this() -> Result<Self> {
        let pid = i64::from(std::process::id());
        let start = start(pid)?.ok_or_else(|| Error::Invalid {
            subject: "/proc".to_owned(),
            reason: "does not show this process: mount it".to_owned(),
        })?;
        Ok(Self { pid, start, boot: boot()?.to_owned() })
    }

    /// Tells whether it still runs.
    pub(crate) fn lives(&self) -> Result<bool> {
        Ok(self.boot == boot()? && start(self.pid)? == Some(self.start))
    }
}

fn boot() -> Result<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(boot) = BOOT.get() {
        return Ok(boot);
    }
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    Ok(BOOT.get_or_init(|| text.trim_end().to_owned()))
}

/// Reads when a process started; none that has ended, as a zombie has.
fn start(pid: i64) -> Result<Option<i64>> {
    let path = format!("/proc/{pid}/stat");
    // A process may call itself anything, also what is no text.
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // It ended while it was read.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error).doing(|| format!("read {path}")),
    };
    Ok(parse(&text))
}

fn parse(stat: &str) -> Option<i64> {
    // The name in the second field may hold anything, parentheses and spaces too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    if matches!(fields.next()?, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_others_with_its_number_do_not() {
        let this = Owner::this().unwrap();
        assert!(this.lives().unwrap());
        for other in [
            Owner { start: this.start - 1, ..this.clone() },
            Owner { boot: "another".into(), ..this.clone() },
            Owner { pid: i64::from(i32::MAX), ..this },
        ] {
            assert!(!other.lives().unwrap(), "{other:?} is none that lives");
        }
    }

    #[test]
    fn a_zombie_has_ended() {
        let fields = "1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 10";
        assert_eq!(parse(&format!("7 (a) b) S {fields}")), Some(4711));
        assert_eq!(parse(&format!("7 (a) b) Z {fields}")), None);
        assert_eq!(parse("7 (a"), None);
    }
}
