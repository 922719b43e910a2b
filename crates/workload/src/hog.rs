//! Antagonists: processes that take what they can get, to see what that does to others.
//!
//! A hog is bounded in time, in processes, in memory and disk. It ends with its parent, and its own processes end with it.
//! What one of them does is counted in memory that they share, so that nothing is lost when the kernel kills one for
//! want of memory: the hog goes on with another. A hog that could do nothing fails.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_sys::offspring::{self, Offspring};
use bulkhead_sys::process::ended_child;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};
use serde::Serialize;

use self::tally::{Slot, Tally};
use crate::error::{Error, Result};
use crate::pace::{nanoseconds, now, sleep_until};
use crate::ready;

mod bomb;
mod cpu;
mod disk;
mod files;
mod memory;
mod memory_bandwidth;
mod packets;
mod tally;

/// How often the hog looks after its processes.
const ROUND: u64 = 10_000_000;

/// How long its processes may go on after the end, before they are killed.
const GRACE: u64 = 5_000_000_000;

/// A hog by its name.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As on the command line.
    pub(crate) name: &'static str,
    /// What it does, for the help.
    pub(crate) says: &'static str,
    /// How many processes it is when nothing else is said.
    pub(crate) tasks: fn() -> usize,
    /// How many MiB it takes with so many tasks when nothing else is said; None when it takes none.
    pub(crate) mib: Option<fn(usize) -> usize>,
    /// What is counted.
    unit: &'static str,
    /// What it holds at a time.
    holds: &'static str,
    /// Into how many shares the tasks are divided; what lives a share is one process.
    shares: fn(usize) -> usize,
    live: fn(&Share<'_>) -> Result<()>,
}

/// All hogs.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "cpu", says: "computes; 4 processes for each processor", tasks: || 4 * processors(), mib: None, unit: "rounds", holds: "processes", shares: |tasks| tasks, live: |share| { cpu::live(share); Ok(()) } },
    Kind { name: "memory-bandwidth", says: "copies memory; a process for each processor, 64 MiB each", tasks: processors, mib: Some(|tasks| 64 * tasks), unit: "copies", holds: "MiB", shares: |tasks| tasks, live: memory_bandwidth::live },
    Kind { name: "memory", says: "fills memory over and over; 1 process, 256 MiB", tasks: || 1, mib: Some(|_| 256), unit: "pages", holds: "MiB", shares: |tasks| tasks, live: |share| { memory::live(share); Ok(()) } },
    Kind { name: "fork", says: "makes processes that compute for a tenth of a millisecond; at most 128 at a time", tasks: || 128, mib: None, unit: "processes", holds: "processes", shares: bomb::makers, live: bomb::live },
    Kind { name: "disk", says: "writes and waits until it is on the disk; 2 processes, 256 MiB", tasks: || 2, mib: Some(|_| 256), unit: "MiB", holds: "MiB", shares: |tasks| tasks, live: disk::live },
    Kind { name: "files", says: "opens files and keeps them open; 8 processes", tasks: || 8, mib: None, unit: "files", holds: "files", shares: |tasks| tasks, live: files::live },
    Kind { name: "packets", says: "sends datagrams over loopback; a process for each processor", tasks: processors, mib: None, unit: "packets", holds: "processes", shares: |tasks| tasks, live: packets::live },
];

/// A hog to be let loose.
#[derive(Debug)]
pub(crate) struct Order {
    /// Which.
    pub(crate) kind: &'static Kind,
    /// How long.
    pub(crate) limit: Duration,
    /// How many processes at a time, the hog's first one not counted.
    pub(crate) tasks: usize,
    /// How much memory or disk in all; 0 for a hog that takes none.
    pub(crate) mib: usize,
    /// Where it has its files.
    pub(crate) directory: PathBuf,
    /// Whether it tells when it has begun and when it was first refused more, and ends with its standard input.
    pub(crate) is_held: bool,
    /// Whether its processes do not offer themselves where the kernel is short of memory.
    pub(crate) holds_on: bool,
}

/// What one of the hog's processes may do.
struct Share<'a> {
    /// When to end, as [`now`] counts.
    end: u64,
    /// Processes at a time, itself included.
    tasks: usize,
    /// MiB of memory or disk.
    mib: usize,
    directory: &'a Path,
    holds_on: bool,
    /// Where it counts.
    slot: Slot<'a>,
}

/// The line that a hog prints.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    hog: &'static str,
    /// What it did.
    count: u64,
    unit: &'static str,
    seconds: f64,
    /// Of all its processes.
    cpu_seconds: f64,
    /// The most that it held at a time.
    most: u64,
    /// Of what.
    holds: &'static str,
    /// What it asked for and did not get: processes, memory, disk, buffers.
    refused: u64,
    /// Its processes that somebody killed, which is the kernel for want of memory.
    killed: u64,
}

/// Lets a hog loose.
pub(crate) fn run(order: &Order) -> Result<Line> {
    // Who is the first of a pid namespace sees no parent: that is a runtime, which may leave it to another one and end any time. Such a
    // hog ends with its sandbox.
    if rustix::process::getppid().is_some() {
        offspring::end_with_parent()?;
    }
    // Children of a process of ours that was killed come to us then. Without it they go to the first process.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let Order { kind, limit, .. } = order;
    let tally = Tally::new((kind.shares)(order.tasks))?;
    let start = now();
    let mut herd = Herd::new(order, &tally, start + nanoseconds(*limit));
    herd.drive()?;
    let seconds = Duration::from_nanos(now() - start).as_secs_f64();
    let killed = herd.killed;
    let (count, refused) = (tally.count(), tally.refused());
    if count == 0 {
        let sentence = format!("the hog did nothing: {refused} times refused, {killed} processes killed");
        return Err(Error::Wrong(sentence));
    }
    let cpu_seconds = offspring::processor_time()?.as_secs_f64();
    let Kind { name: hog, unit, holds, .. } = kind;
    Ok(Line { hog, count, unit, seconds, cpu_seconds, most: tally.most(), holds, refused, killed })
}

/// The processes of a hog.
struct Herd<'a> {
    order: &'a Order,
    tally: &'a Tally,
    end: u64,
    /// One for each share; None while it has none.
    living: Vec<Option<Offspring>>,
    killed: u64,
}

impl<'a> Herd<'a> {
    fn new(order: &'a Order, tally: &'a Tally, end: u64) -> Self {
        let shares = (order.kind.shares)(order.tasks);
        Self { order, tally, end, living: Vec::from_iter((0..shares).map(|_| None)), killed: 0 }
    }

    /// Keeps a process alive for each share until the end, and leaves none.
    fn drive(&mut self) -> Result<()> {
        let (mut has_begun, mut is_full) = (false, false);
        while now() < self.end {
            self.fill()?;
            sleep_until(self.end.min(now() + ROUND));
            self.reap()?;
            if self.order.is_held && !has_begun && self.tally.count() > 0 {
                ready::announce()?;
                has_begun = true;
            }
            if has_begun && !is_full && self.killed + self.tally.refused() > 0 {
                ready::announce_full()?;
                is_full = true;
            }
            if self.order.is_held && ready::is_let_go() {
                self.living.clear();
                break;
            }
        }
        while self.living.iter().any(Option::is_some) && now() < self.end + GRACE {
            sleep_until(now() + ROUND / 10);
            self.reap()?;
        }
        self.living.clear();
        // What is left are children of those that were killed, and killed like them.
        while !matches!(rustix::process::waitpid(None, WaitOptions::empty()), Err(Errno::CHILD)) {}
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        for (number, place) in self.living.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            let shares = (self.order.kind.shares)(self.order.tasks);
            let share = Share {
                end: self.end,
                tasks: self.order.tasks / shares,
                mib: self.order.mib / shares,
                directory: &self.order.directory,
                holds_on: self.order.holds_on,
                slot: self.tally.slot(number),
            };
            let live = self.order.kind.live;
            match offspring::fork(|| live(&share).map_or_else(|error| complain(&error), |()| 0)) {
                Ok(child) => *place = Some(child),
                Err(error) if is_a_limit(&error) => {
                    self.tally.slot(number).refuse();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes note of all that have ended.
    fn reap(&mut self) -> Result<()> {
        while let Some(pid) = ended()? {
            let is_it = |place: &Option<Offspring>| place.as_ref().is_some_and(|child| child.pid() == pid);
            let Some(number) = self.living.iter().position(is_it) else {
                // A child of one that was killed.
                let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
                continue;
            };
            let status = self.living[number].take().map(Offspring::wait).transpose()?;
            self.tally.slot(number).hold(0);
            match status.map(|status| (status.exit_status(), status.terminating_signal())) {
                Some((Some(0), _)) | None => {}
                Some((_, Some(_))) => self.killed += 1,
                Some(_) => return Err(Error::Wrong("a process of the hog failed".to_owned())),
            }
        }
        Ok(())
    }
}

/// A child that has ended and was not waited for.
fn ended() -> Result<Option<Pid>> {
    match ended_child() {
        Ok(pid) => Ok(pid.and_then(Pid::from_raw)),
        Err(error) if error.errno() == Errno::CHILD => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Has the kernel, short of memory, end this process and neither the hog's first one nor a stranger. Where /proc is missing
/// it must choose without advice.
fn go_first() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Tells whether a call failed because the hog took too much, which is what it is for.
fn is_a_limit(error: &bulkhead_sys::Error) -> bool {
    matches!(error.errno(), Errno::AGAIN | Errno::NOMEM)
}

/// Says in a process of the hog what is wrong, and returns its exit status.
fn complain(error: &Error) -> u8 {
    use std::io::Write as _;
    // Nobody is left to be told when this fails; the hog itself will say that it failed.
    let _ = writeln!(std::io::stderr(), "bulkload: {error}");
    1
}

/// How many processors this process may run on. A quota does not count: to meet it is what a hog is for.
fn processors() -> usize {
    rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().max(1) as usize)
}
