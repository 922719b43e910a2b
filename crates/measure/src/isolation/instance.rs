//! An instance of the kernel's tracer that nobody else has: ftrace(Documentation/trace/ftrace.rst of the kernel).
//!
//! The file system is mounted on a directory of ours, in this process's own mounts. What an instance is that a killed
//! program left is known by its name, and the next one removes it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::claim::{self, Claim};
use crate::error::{Doing as _, Error};

/// The function by which the function tracer is tried: it alone is patched, since patching all of them stops some
/// virtual machines for good.
const TRIED: &str = "do_sys_openat2";

/// How often, and how soon again, it is tried to remove what somebody still holds.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// The tracepoint at the beginning of every system call.
pub(super) const CALL: &str = "raw_syscalls/sys_enter";

/// The tracepoint at the birth of a process or thread.
pub(super) const BIRTH: &str = "sched/sched_process_fork";

/// The instance; removed in the end.
#[derive(Debug)]
pub(crate) struct Instance {
    claim: Claim,
    directory: PathBuf,
}

impl Instance {
    /// Makes it, and removes what is left of programs with the same `prefix` that were killed. The caller must have mounts of its own.
    ///
    /// # Errors
    /// Where there is no tracefs, or no right to it.
    pub(crate) fn make(prefix: &str) -> Result<Self, Error> {
        let abandoned = claim::abandoned(&std::env::temp_dir(), prefix)?;
        let claim = Claim::make(&std::env::temp_dir(), prefix)?;
        let place = claim.path().to_owned();
        let directory = place.join("instances").join(claim.name());
        let mounted = rustix::mount::mount("tracefs", &place, "tracefs", MountFlags::empty(), None);
        let instance = Self { claim, directory };
        mounted.doing(|| "mount tracefs".to_owned())?;
        remove_abandoned(&place.join("instances"), prefix);
        abandoned.iter().for_each(remove_place);
        fs::create_dir(&instance.directory).doing(|| "make an instance of the tracer".to_owned())?;
        Ok(instance)
    }

    /// A file of the instance.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes into one of its files, in place of what that held.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.file(name), text)
    }

    /// Reads a file of the whole tracer: formats are the same for all instances.
    pub(super) fn read_common(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.claim.path().join(name))
    }

    /// Tries whether functions can be watched.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn try_functions(&self) -> io::Result<()> {
        let tried =
            self.write("set_ftrace_filter", TRIED).and_then(|()| self.write("current_tracer", "function"));
        let _ = self.write("current_tracer", "nop");
        let _ = self.write("set_ftrace_filter", "");
        tried
    }

    /// Tries whether system calls can be watched.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn try_calls(&self) -> io::Result<()> {
        let switch = format!("events/{CALL}/enable");
        let tried = self.write(&switch, "1");
        let _ = self.write(&switch, "0");
        tried
    }

    /// Lets the tracer follow these tasks alone, with all that they will make.
    pub(super) fn follow(&self, tasks: &[u32], functions: bool) -> io::Result<()> {
        let text = Vec::from_iter(tasks.iter().map(u32::to_string)).join(" ");
        // Opening for writing forgets whom it followed before.
        self.write("set_event_pid", &text)?;
        if functions {
            self.write("set_ftrace_pid", &text)?;
        }
        Ok(())
    }

    /// Lets it follow these tasks, too.
    pub(super) fn follow_also(&self, tasks: &[u32], functions: bool) -> io::Result<()> {
        let files = [Some("set_event_pid"), functions.then_some("set_ftrace_pid")];
        for file in files.into_iter().flatten() {
            // Who is opened to be added to keeps those whom it has; a task that has ended meanwhile does nothing more.
            let mut file = OpenOptions::new().append(true).open(self.file(file))?;
            tasks.iter().try_for_each(|task| match file.write_all(task.to_string().as_bytes()) {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(()),
                written => written,
            })?;
        }
        Ok(())
    }

    /// The tasks that are followed now.
    pub(super) fn followed(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.file("set_event_pid")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Empties the buffers, and sets their counters to nothing.
    pub(super) fn empty(&self) -> io::Result<()> {
        OpenOptions::new().write(true).truncate(true).open(self.file("trace"))?.flush()
    }

    /// Switches recording on or off; the tracer stays as it is.
    pub(super) fn record(&self, on: bool) -> io::Result<()> {
        self.write("tracing_on", if on { "1" } else { "0" })
    }

    /// Events that the kernel dropped since the buffers were emptied.
    pub(super) fn dropped(&self) -> u64 {
        let buffers = self.file("per_cpu").read_dir().into_iter().flatten().flatten();
        let texts = buffers.filter_map(|cpu| fs::read_to_string(cpu.path().join("stats")).ok());
        texts.map(|text| dropped_in(&text)).sum()
    }

    /// The directories of the processors' buffers.
    pub(super) fn buffers(&self) -> io::Result<Vec<PathBuf>> {
        let entries = self.file("per_cpu").read_dir()?;
        Ok(entries.flatten().map(|entry| entry.path()).filter(|path| is_buffer(path)).collect())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // What was not made or not mounted cannot be removed.
        let _ = self.record(false);
        let _ = self.write("current_tracer", "nop");
        let _ = fs::remove_dir(&self.directory);
        let _ = rustix::mount::unmount(self.claim.path(), UnmountFlags::DETACH);
        let _ = fs::remove_dir(self.claim.path());
    }
}

/// Removes the instances of programs with this prefix that were killed, whichever their directory for temporary files was; one left
/// behind has the kernel count what everybody does. `place` is where the tracer's file system is mounted meanwhile; the caller
/// must have mounts of its own.
pub(super) fn sweep(place: &Path, prefix: &str) {
    let abandoned = claim::abandoned(&std::env::temp_dir(), prefix).unwrap_or_default();
    abandoned.iter().for_each(remove_place);
    let made = fs::create_dir(place).is_ok();
    // Where it cannot be mounted, nobody made an instance.
    if made && rustix::mount::mount("tracefs", place, "tracefs", MountFlags::empty(), None).is_ok() {
        remove_abandoned(&place.join("instances"), prefix);
        let _ = rustix::mount::unmount(place, UnmountFlags::DETACH);
    }
    let _ = fs::remove_dir(place);
}

/// The directory on which an instance's file system was mounted. It still is where somebody lives on in the mounts of the program that
/// was killed, as its guard does.
fn remove_place(abandoned: &Claim) {
    let _ = rustix::mount::unmount(abandoned.path(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    let _ = fs::remove_dir(abandoned.path());
}

/// One that is read by somebody the kernel does not let go, wherever its maker's number is known.
fn remove_abandoned(instances: &Path, prefix: &str) {
    let entries = instances.read_dir().into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    for name in names.filter(|name| maker(name, prefix).is_some_and(claim::is_gone)) {
        let place = instances.join(name);
        // Who has just been killed lets go of it a moment later than it is gone.
        let busy =
            |_: &u32| fs::remove_dir(&place).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy);
        (0..TRIES).take_while(busy).for_each(|_| std::thread::sleep(PAUSE));
    }
}

/// The process that made an instance of this name.
fn maker(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.split('-').next()?.parse().ok()
}

fn is_buffer(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("cpu"))
}

/// Of a file `stats`: what was overwritten, what found no room, and what an interrupt lost.
fn dropped_in(stats: &str) -> u64 {
    let counters = ["overrun", "commit overrun", "dropped events"];
    let lines = stats.lines().filter_map(|line| line.split_once(':'));
    let wanted = lines.filter(|(name, _)| counters.contains(&name.trim()));
    wanted.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_removed_whose_maker_is_gone() {
        let scratch = bulkhead_testkit::Scratch::new();
        let own = format!("bh-watch-{}-0", std::process::id());
        // The kernel's pids end below.
        let names = [own.as_str(), "bh-watch-4194305-0", "bh-watch-4194305-1", "bh-other-4194305-0", "perf"];
        names.iter().for_each(|name| fs::create_dir(scratch.path().join(name)).unwrap());
        remove_abandoned(scratch.path(), "bh-watch-");
        let left = names.map(|name| scratch.path().join(name).exists());
        assert_eq!(left, [true, false, false, true, true]);
    }

    #[test]
    fn dropped_events_are_added_up() {
        let stats = "entries: 5\noverrun: 1\ncommit overrun: 2\nbytes: 900\nnow ts: 7.5\ndropped events: 4\nread events: 9\n";
        assert_eq!(dropped_in(stats), 7);
    }
}
