//! What tells a process from a later one with its number, and one boot of the machine from all others.

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{Call as _, Error, Result, path};

/// What `/proc/PID/stat` says of a process (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Whether it has not ended; a zombie has.
    pub alive: bool,
    /// Whether it is on its way there: its namespaces are being taken down, but it is not a zombie yet.
    pub exiting: bool,
    /// When it started, in clock ticks after boot (field 22): with its number and the boot, that is who it is.
    pub start: u64,
}

/// Reads the kernel's id of this boot.
///
/// # Errors
/// As open(2) and read(2).
pub fn boot() -> Result<String> {
    Ok(read_record("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

/// Looks a process up; `None` when there is none of this number.
///
/// # Errors
/// As open(2) and read(2): what cannot be read may well live. `EBADMSG` for what no kernel writes.
pub fn stat(pid: i32) -> Result<Option<Stat>> {
    let path = format!("/proc/{pid}/stat");
    let text = match read_record(&path) {
        // The second is one that ended while it was read.
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::SRCH) => return Ok(None),
        read => read?,
    };
    parse(&text).map(Some).ok_or_else(|| Error::new(format!("read({path:?})"), Errno::BADMSG))
}

/// Reads how a process has ended that was not waited for, as the status of wait(2): for who is not its parent. `None` when
/// there is none of this number, or it lives.
///
/// It is 0 for who may not trace that process (proc_pid_stat(5), `exit_code`).
pub fn wait_status(pid: i32) -> Option<i32> {
    let text = read_record(&format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.trim_end().split(' ');
    (fields.next()? == "Z").then_some(())?;
    fields.nth(48)?.parse().ok()
}

/// Reads a file of procfs that is one record, which the kernel gives out whole: one read, where a file of unknown length
/// takes several.
///
/// # Errors
/// As open(2) and read(2).
pub fn read_record(path: &str) -> Result<String> {
    /// Longer than any of them.
    const SIZE: usize = 8 * 1024;
    let file = path::open_host(path.as_ref(), OFlags::RDONLY)?;
    let mut bytes = vec![0; SIZE];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes))
        .call(|| format!("read({path:?})"))?;
    bytes.truncate(length);
    // A process may call itself anything.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Of the flags in `/proc/PID/stat`, `PF_EXITING` of the kernel's sched.h.
const EXITING: u64 = 0x4;

fn parse(text: &str) -> Option<Stat> {
    // The name in the second field may hold anything, parentheses and spaces too.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let start = fields.nth(12)?.parse().ok()?;
    Some(Stat { alive: !matches!(state, "Z" | "X" | "x"), exiting: flags & EXITING != 0, start })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let text = "7 (a) S (b) Z 1 2 3 4 5 4194308 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse(text), Some(Stat { alive: false, exiting: true, start: 4242 }));
        for cut in ["7 (cut", "7 (cut) R 7 43", ""] {
            assert_eq!(parse(cut), None, "{cut}");
        }
        let own = stat(std::process::id().cast_signed()).unwrap().unwrap();
        assert!(own.alive && !own.exiting);
        assert_eq!(stat(-1).unwrap(), None);
    }

    #[test]
    fn who_has_ended_is_there_until_somebody_waits_and_lives_no_more() {
        let mut child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let pid = child.id().cast_signed();
        assert_eq!(wait_status(std::process::id().cast_signed()), None, "it lives");
        while stat(pid).unwrap().unwrap().alive {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(wait_status(pid), Some(3 << 8), "it is told who is not told how it ended");
        child.wait().unwrap();
        assert_eq!(stat(pid).unwrap(), None);
    }
}
