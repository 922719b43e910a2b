//! Processes of the machine as /proc shows them, and the end of those that were orphaned to the test.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use bulkhead_sys::signal;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::fail::OrFail as _;

/// Has the programs that this process starts heed SIGINT, also where whoever started it had that ignored, as a shell does with what
/// it runs in the background.
pub fn heed_interruptions() {
    signal::reset(Signal::INT.as_raw()).or_fail("heed SIGINT");
}

/// A process, as one line of `/proc/PID/stat` told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    /// Clock ticks between boot and its start; with the pid this names one process.
    pub(crate) start: u64,
}

impl Process {
    /// Looks up one process.
    pub(crate) fn read(pid: i32) -> Option<Process> {
        Process::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses a line of `stat`, see proc_pid_stat(5); the name may contain anything, so it ends at the last `)`.
    fn parse(line: &str) -> Option<Process> {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some(Process {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Says whether it has ended and waits to be reaped.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// Kills it, unless its pid has become another process.
    pub(crate) fn kill(&self) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            return;
        };
        if Process::read(self.pid).is_some_and(|now| now.start == self.start) {
            // One that has ended meanwhile is as dead as it shall be.
            let _ = rustix::process::pidfd_send_signal(handle, Signal::KILL);
        }
    }
}

/// Lists all processes that can be seen.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Who among the children of this process is waited for by whom.
#[derive(Default)]
struct Children {
    /// Those that the kit started and waits for.
    owned: HashSet<i32>,
    /// How those ended that were orphaned to this process.
    orphans: HashMap<i32, ExitStatus>,
}

static CHILDREN: LazyLock<Mutex<Children>> = LazyLock::new(Mutex::default);

fn children() -> MutexGuard<'static, Children> {
    // A test that panicked while it held the lock left whole entries behind.
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this process the parent of the orphans below it, as an engine's monitor is.
pub(crate) fn become_subreaper() {
    // Where it is refused, orphans go to init and cannot be waited for; nothing else is lost.
    let _ = rustix::process::set_child_subreaper(Pid::from_raw(1));
}

/// Starts a command, which must lead a process group of its own, so that [`reap_orphans`] leaves it alone.
pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Child> {
    // The lock spans both steps: a child that ends at once must not look like an orphan.
    let mut children = children();
    let child = command.spawn()?;
    children.owned.insert(child.id().cast_signed());
    Ok(child)
}

/// Waits for a child of [`spawn`], which must have ended or end soon.
pub(crate) fn wait(child: &mut Child) -> std::io::Result<ExitStatus> {
    let status = child.wait();
    children().owned.remove(&child.id().cast_signed());
    status
}

/// Reaps the processes that were orphaned to this one and have ended, and keeps their statuses.
///
/// Orphans are told from children that the test itself started by their process group: a child without a group of
/// its own shares this process's.
pub(crate) fn reap_orphans() {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Some(own_group) = Process::read(own).map(|process| process.group) else { return };
    let mut children = children();
    for process in all() {
        let orphan = process.parent == own && process.group != own_group && process.has_ended();
        if !orphan || children.owned.contains(&process.pid) {
            continue;
        }
        if let Ok(Some((_, status))) =
            rustix::process::waitpid(Pid::from_raw(process.pid), WaitOptions::NOHANG)
        {
            children.orphans.insert(process.pid, ExitStatus::from_raw(status.as_raw()));
        }
    }
}

/// Returns how an orphan ended, once; `None` while it has not.
pub(crate) fn orphan_status(pid: i32) -> Option<ExitStatus> {
    reap_orphans();
    children().orphans.remove(&pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name_is() {
        let line = "42 (a) (b ) S) R 7 43 44 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 2000";
        let expected = Process {
            pid: 42,
            name: "a) (b ) S".to_owned(),
            state: 'R',
            parent: 7,
            group: 43,
            start: 98_765,
        };
        assert_eq!(Process::parse(line), Some(expected));
        assert_eq!(Process::parse("42 (cut"), None);
        assert_eq!(Process::parse("42 (cut) R 7 43"), None);
    }

    #[test]
    fn this_process_is_among_all() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        assert!(all().iter().any(|process| process.pid == own && !process.has_ended()));
    }

    #[test]
    fn a_kill_hits_only_the_process_that_was_seen() {
        use std::os::unix::process::CommandExt;
        let mut child = spawn(Command::new("sleep").arg("60").process_group(0)).unwrap();
        let seen = Process::read(child.id().cast_signed()).unwrap();
        Process { start: seen.start + 1, ..seen.clone() }.kill();
        assert!(child.try_wait().unwrap().is_none(), "another process of that pid is spared");
        seen.kill();
        assert_eq!(wait(&mut child).unwrap().signal(), Some(9));
    }
}
