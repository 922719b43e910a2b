//! What tells a process, and a boot of the machine, from all others.

use bulkhead_sys::identity::{self, Stat};

use crate::status::Process;

/// The kernel's id of this boot, without a line's end; empty where procfs does not tell.
pub(crate) fn boot() -> String {
    identity::boot().unwrap_or_default()
}

impl Process {
    /// Looks a process up; `None` when there is none of this number.
    pub fn find(pid: i32) -> Option<Self> {
        let stat = identity::stat(pid).ok()??;
        Some(Self { pid, start: stat.start })
    }

    /// Tells whether this very process is there, if only as one that has ended and was not waited for.
    pub fn exists(&self) -> bool {
        self.stat().is_some()
    }

    /// Tells whether this very process runs: one that has ended does not, also before its parent has waited for it, which
    /// whoever adopts the processes of a monitor that was killed may never do.
    pub fn runs(&self) -> bool {
        self.stat().is_some_and(|stat| stat.alive)
    }

    /// Tells whether this very process runs and has not begun to end: who has is done, and may be there for long, as the first
    /// of a namespace of processes is until somebody has waited for all others.
    pub fn goes_on(&self) -> bool {
        self.stat().is_some_and(|stat| stat.alive && !stat.exiting)
    }

    fn stat(&self) -> Option<Stat> {
        identity::stat(self.pid).ok()?.filter(|stat| stat.start == self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
