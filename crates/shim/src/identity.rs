//! What tells a process, and a boot of the machine, from all others.

use std::path::Path;

use crate::status::Process;

/// The kernel's id of this boot, without a line's end; empty where procfs does not tell.
pub(crate) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim_end().to_owned()
}

impl Process {
    /// Looks a process up; `None` when there is none of this number.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
        Some(Self { pid, start: start(&stat)? })
    }

    /// Tells whether this very process is there, if only as one that has ended and was not waited for.
    pub fn exists(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// Tells whether this very process runs: one that has ended does not, also before its parent has waited for it, which
    /// whoever adopts the processes of a monitor that was killed may never do.
    pub fn runs(&self) -> bool {
        let stat = std::fs::read_to_string(Path::new("/proc").join(self.pid.to_string()).join("stat"));
        let stat = stat.unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
        start(&stat) == Some(self.start) && !matches!(state, Some('Z' | 'X'))
    }
}

/// Field 22 of proc_pid_stat(5). The name of the program, field 2, may hold anything; it ends with the last bracket.
fn start(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_whatever_the_name_is() {
        let line = "42 (a) (b ) S) R 7 43 44 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2000";
        assert_eq!(start(line), Some(98_765));
        assert_eq!(start("42 (cut"), None);
        assert_eq!(start("42 (cut) R 7 43"), None);
    }

    #[test]
    fn a_process_is_told_from_another_of_its_number() {
        let own = Process::find(std::process::id().cast_signed()).unwrap();
        assert!(own.exists() && own.runs());
        assert!(!Process { start: own.start + 1, ..own }.exists(), "another start is another process");
        assert!(!Process { start: own.start + 1, ..own }.runs());
        assert_eq!(Process::find(-1), None);
    }

    #[test]
    fn a_process_that_nobody_waited_for_does_not_run() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let process = Process::find(child.id().cast_signed()).unwrap();
        while process.runs() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(process.exists(), "it is there until it is waited for");
        child.wait().unwrap();
        assert!(!process.exists() && !process.runs());
    }
}
