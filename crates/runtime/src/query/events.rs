//! `events`: statistics at an interval, and a word when the kernel kills for want of memory.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bulkhead_cgroup::{Cgroup, OomEvent, OomWatch};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::report::Event;
use super::require_cgroup;
use crate::cli::{EventsOptions, EventsOutput, Global};
use crate::container::Container;
use crate::error::{Doing, Error, Result, chain};
use crate::log::Log;
use crate::resctrl::{self, Tree};
use crate::root;
use crate::state::State;

/// Prints the statistics of a container once, or until it stops or nobody reads.
///
/// # Errors
/// A container that is not running, and a cgroup that cannot be read.
pub fn events(global: &Global, options: &EventsOptions, log: &Log) -> Result<()> {
    let container = Container::find(&root::resolve(global)?, &options.id)?;
    let cgroup = container.cgroup();
    // The process may be in no state to have its end seen, if its pid was given away already.
    let Some(process) = container.pidfd()? else {
        return Err(Error::Usage(format!("container with id {} is not running", options.id)));
    };
    require_cgroup(&container, "read its statistics")?;
    match options.output {
        EventsOutput::Once => {
            print(&Event::stats(options.id.as_str(), &cgroup.stats()?, &rdt(&container.state)?))?;
            Ok(())
        }
        EventsOutput::Stream(interval) => {
            let watch = match cgroup.watch_oom() {
                Ok(watch) => Some(watch),
                Err(error) => {
                    log.warn(format_args!("no OOM events: {}", chain(&error).join(": ")));
                    None
                }
            };
            Stream { id: options.id.as_str(), state: &container.state, cgroup, process, watch, log }
                .run(interval)
        }
    }
}

/// Reads what was counted of a container's class of service; nothing without one.
fn rdt(state: &State) -> Result<resctrl::Stats> {
    match &state.rdt {
        None => Ok(resctrl::Stats::default()),
        Some(record) => Tree::find()?.stats(record),
    }
}

/// Whether somebody still reads what is printed.
#[derive(PartialEq, Eq)]
enum Reader {
    Here,
    Gone,
}

struct Stream<'a> {
    id: &'a str,
    state: &'a State,
    cgroup: Cgroup,
    process: OwnedFd,
    watch: Option<OomWatch>,
    log: &'a Log,
}

/// What a [`Stream`] waited for.
struct Woken {
    by_end: bool,
    by_memory: bool,
}

impl Stream<'_> {
    fn run(mut self, interval: Duration) -> Result<()> {
        let mut next = Instant::now() + interval;
        loop {
            let woken = self.wait(next)?;
            if woken.by_memory && self.report_memory()? == Reader::Gone {
                return Ok(());
            }
            if woken.by_end {
                return Ok(());
            }
            if Instant::now() >= next {
                // A beat that was missed is skipped, as Go's ticker does.
                while next <= Instant::now() {
                    next += interval;
                }
                if self.report_stats()? == Reader::Gone {
                    return Ok(());
                }
            }
        }
    }

    fn wait(&self, until: Instant) -> Result<Woken> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = vec![PollFd::new(&self.process, PollFlags::IN)];
        fds.extend(self.watch.as_ref().map(|watch| PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(|| "wait for events"),
        }
        let ready = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        Ok(Woken { by_end: ready(fds.first()), by_memory: ready(fds.get(1)) })
    }

    fn report_memory(&mut self) -> Result<Reader> {
        let Some(watch) = &mut self.watch else { return Ok(Reader::Here) };
        match watch.event()? {
            OomEvent::Nothing => Ok(Reader::Here),
            OomEvent::OutOfMemory => print(&Event::oom(self.id)),
            OomEvent::Gone => {
                // The process has its own end; a cgroup that it left tells no more.
                self.watch = None;
                Ok(Reader::Here)
            }
        }
    }

    fn report_stats(&self) -> Result<Reader> {
        let stats = self.cgroup.stats().map_err(Error::from);
        match stats.and_then(|stats| Ok((stats, rdt(self.state)?))) {
            Ok((stats, rdt)) => print(&Event::stats(self.id, &stats, &rdt)),
            Err(error) => {
                self.log.warn(format_args!("no statistics: {}", chain(&error).join(": ")));
                Ok(Reader::Here)
            }
        }
    }
}

/// Writes one line, so that a reader of a pipe never sees half of one for long.
fn print(event: &Event<'_>) -> Result<Reader> {
    match std::io::stdout().lock().write_all(event.line().as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        written => written.doing(|| "write to stdout").map(|()| Reader::Here),
    }
}
