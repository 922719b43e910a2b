//! Making one system call of a command its last, or fail.
//!
//! The command is followed by ptrace(2) from its first call on, and so are the processes that it makes until they
//! execute another program. Calls are counted for each process apart, so a place names one call whatever the others
//! do meanwhile. Once the fault has happened, everything runs on unobserved.

use std::fmt;
use std::thread;

use bulkhead_sys::trace::{self, Event};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::calls;
use crate::fail::OrFail;
use crate::run::{Output, Run};

/// The words that a command to be followed is started through: it waits, stopped, for whoever follows it.
pub(crate) const WAITING: [&str; 4] = ["/bin/sh", "-c", "kill -STOP $$; exec \"$@\"", "sh"];

/// One system call of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The process: 0 is the command itself, then come those that it joins or makes, in order.
    pub process: usize,
    /// The call, counted from 1 in that process.
    pub call: usize,
    /// The call's number.
    pub number: i64,
}

impl Place {
    /// Returns the call's name, if it is one that a container runtime may make.
    pub fn name(&self) -> Option<&'static str> {
        calls::name(self.number)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { process, call, number } = *self;
        let name = self.name().map_or_else(|| format!("call {number}"), str::to_owned);
        write!(f, "{name}, call {call} of process {process}")
    }
}

/// What happens at a call instead of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed.
    Kill,
    /// The call fails.
    Error(Errno),
}

/// What was seen of a command.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Every call, up to the fault.
    pub(crate) calls: Vec<Place>,
    /// Where the fault happened, if it did.
    pub(crate) hit: Option<Place>,
}

/// Runs a command that waits as [`WAITING`] has it, with a fault in the call that has this process and position.
///
/// `guests` are processes that the command will set in motion although they are not its children. `Err` says that the
/// command took longer than its limit.
#[track_caller]
pub(crate) fn run(run: Run, guests: &[i32], fault: Option<(Place, Fault)>) -> (Result<Output, Output>, Seen) {
    let running = run.spawn();
    let command = running.pid().cast_signed();
    let (in_time, seen) = thread::scope(|scope| {
        // The thread ends with the fault, and its end releases whatever it follows.
        let follower = scope.spawn(|| Follower::new(command, fault).follow(guests));
        let in_time = running.ends_in_time();
        if !in_time {
            kill(command, Signal::KILL);
        }
        let seen = follower.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (in_time, seen)
    });
    let output = running.wait_or_kill();
    let output = if in_time { output } else { output.and_then(Err) };
    (output, seen.or_fail("follow a command by ptrace(2)"))
}

struct Follower {
    command: i32,
    fault: Option<(Place, Fault)>,
    /// The processes in the order they came to sight, with the number of their calls.
    processes: Vec<(i32, usize)>,
    /// The command was released from where it waited.
    released: bool,
    /// The command is the program that was asked for.
    executed: bool,
    seen: Seen,
}

impl Follower {
    fn new(command: i32, fault: Option<(Place, Fault)>) -> Follower {
        let processes = vec![(command, 0)];
        Follower { command, fault, processes, released: false, executed: false, seen: Seen::default() }
    }

    fn follow(mut self, guests: &[i32]) -> bulkhead_sys::Result<Seen> {
        trace::seize(self.command)?;
        for &guest in guests {
            trace::seize(guest)?;
            self.index(guest);
        }
        while let Some((pid, event)) = trace::next(self.command)? {
            if event == Event::Ended && pid == self.command {
                break;
            }
            if self.meets_fault(pid, event)? {
                break;
            }
            // Whoever has been killed meanwhile reports its end.
            let _ = self.go_on(pid, event, guests);
        }
        Ok(self.seen)
    }

    /// Counts a call, and makes it fail if it is the one.
    fn meets_fault(&mut self, pid: i32, event: Event) -> bulkhead_sys::Result<bool> {
        let Event::Entry(number) = event else { return Ok(false) };
        if pid == self.command && !self.executed {
            return Ok(false);
        }
        let process = self.index(pid);
        self.processes[process].1 += 1;
        let place = Place { process, call: self.processes[process].1, number };
        self.seen.calls.push(place);
        let Some((wanted, fault)) = self.fault else { return Ok(false) };
        if (wanted.process, wanted.call) != (place.process, place.call) {
            return Ok(false);
        }
        match fault {
            Fault::Kill => kill(pid, Signal::KILL),
            Fault::Error(errno) => trace::fail_call(pid, errno)?,
        }
        self.seen.hit = Some(place);
        Ok(true)
    }

    fn go_on(&mut self, pid: i32, event: Event, guests: &[i32]) -> bulkhead_sys::Result<()> {
        match event {
            Event::Stopped(_) if pid == self.command && !self.released => {
                self.released = true;
                kill(pid, Signal::CONT);
                trace::resume(pid, 0)
            }
            Event::Executed if pid == self.command => {
                if self.released && !self.executed {
                    self.executed = true;
                    // Only now: a guest that met its fault earlier would end the following of a command that waits.
                    guests.iter().try_for_each(|&guest| trace::interrupt(guest))?;
                }
                trace::resume(pid, 0)
            }
            // The container's program, a hook or a helper.
            Event::Executed => trace::release(pid),
            Event::Stopped(_) => trace::stay(pid),
            Event::Signal(signal) => trace::resume(pid, signal),
            Event::Born(child) => {
                self.index(child);
                trace::resume(pid, 0)
            }
            Event::Entry(_) | Event::Exit | Event::Trap => trace::resume(pid, 0),
            Event::Ended => Ok(()),
        }
    }

    fn index(&mut self, pid: i32) -> usize {
        self.processes.iter().position(|(known, _)| *known == pid).unwrap_or_else(|| {
            self.processes.push((pid, 0));
            self.processes.len() - 1
        })
    }
}

fn kill(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}
