//! `run` and `exec` in the foreground: signals are passed on, the terminal is relayed, the exit status becomes ours.

use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sys::{process, signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::clone::Child;
use crate::error::{Doing, Result};
use crate::notify::Proxy;
use crate::relay::{End, Relay};

/// Signals that mean the runtime itself: a fault must end it, and those of job control stop it.
const OWN: [i32; 10] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Signals that are not passed on: about our children, our terminal, or nothing.
const NOT_PASSED: [i32; 3] = [libc::SIGCHLD, libc::SIGWINCH, libc::SIGURG];

/// Signals that end the wait for a reader of the container's last words, when it cannot take them any more.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Signals that arrive from now on are kept for the container.
#[derive(Debug)]
pub struct Watch {
    signals: OwnedFd,
}

/// A process to wait for, and the master of its terminal.
#[derive(Debug)]
pub struct Ward<'a> {
    /// The process.
    pub child: &'a Child,
    /// Its terminal.
    pub master: Option<OwnedFd>,
    /// Where it says that it is ready.
    pub proxy: Option<Proxy>,
}

impl Watch {
    /// Begins to keep signals; as a subreaper the runtime also inherits the container's orphans.
    ///
    /// # Errors
    /// EMFILE at the limit of descriptors.
    pub fn begin(subreaper: bool) -> Result<Self> {
        if subreaper {
            let own = Some(rustix::process::getpid());
            rustix::process::set_child_subreaper(own)
                .doing(|| "become the reaper of the container's orphans")?;
        }
        let own = OWN.iter().fold(0_u64, |bits, signal| bits | 1 << (signal - 1));
        let kept = signal::Set(!own);
        signal::set_mask(kept).doing(|| "keep signals for the container")?;
        let signals = signal::descriptor(kept).doing(|| "open a descriptor for signals")?;
        Ok(Self { signals })
    }

    /// Waits until the process ends and returns its exit code, 128 + n for signal n.
    ///
    /// # Errors
    /// As poll(2).
    pub fn attend(&self, ward: Ward<'_>) -> Result<u8> {
        let mut relay = ward.master.map(Relay::begin).transpose()?;
        let mut proxy = ward.proxy;
        loop {
            if let Some(code) = reap(ward.child)? {
                if let Some(mut relay) = relay {
                    self.finish(&mut relay)?;
                }
                // What it said before it ended counts.
                while proxy.as_ref().is_some_and(Proxy::has_heard) && !tell(proxy.as_ref())? {}
                return Ok(code);
            }
            self.wait(ward.child, relay.as_mut(), &mut proxy)?;
            // The container's terminal goes with ours. SIGHUP alone, which is passed on, could come while a shell
            // does not look, and then it would wait for keys for ever.
            if relay.as_ref().is_some_and(Relay::is_hung_up) {
                relay = None;
            }
            self.pass_on(ward.child, relay.as_ref())?;
        }
    }

    /// Sleeps until there is something to do, and moves what the terminal has.
    fn wait(&self, child: &Child, relay: Option<&mut Relay>, proxy: &mut Option<Proxy>) -> Result<()> {
        let mut fds =
            vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&child.pidfd, PollFlags::IN)];
        fds.extend(proxy.iter().map(|proxy| PollFd::from_borrowed_fd(proxy.socket(), PollFlags::IN)));
        let before_relay = fds.len();
        let wanted = relay.as_ref().map(|relay| relay.wanted()).unwrap_or_default();
        if let Some(relay) = &relay {
            fds.extend(wanted.iter().map(|(end, flags)| PollFd::from_borrowed_fd(relay.end(*end), *flags)));
        }
        retry(&mut fds)?;
        let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        if let Some(relay) = relay {
            let ready = wanted.iter().map(|(end, _)| *end).zip(&events[before_relay..]);
            ready.for_each(|(end, events)| relay.serve(end, *events));
        }
        let notified = before_relay > 2 && !events[2].is_empty();
        if notified && tell(proxy.as_ref())? {
            *proxy = None;
        }
        Ok(())
    }

    /// Passes on the last that the container wrote, unless a signal says that nobody waits for it.
    fn finish(&self, relay: &mut Relay) -> Result<()> {
        while relay.drain() {
            let mut fds = [
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::from_borrowed_fd(relay.end(End::Output), PollFlags::OUT),
            ];
            retry(&mut fds)?;
            let events = fds[1].revents();
            relay.serve(End::Output, events);
            while let Some(number) = signal::read_descriptor(&self.signals).doing(|| "read a signal")? {
                if ENDING.contains(&number) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn pass_on(&self, child: &Child, relay: Option<&Relay>) -> Result<()> {
        while let Some(number) = signal::read_descriptor(&self.signals).doing(|| "read a signal")? {
            if number == libc::SIGWINCH {
                if let Some(relay) = relay {
                    relay.resize();
                }
            } else if !NOT_PASSED.contains(&number) {
                // It may have ended in between.
                let _ = process::signal(&child.pidfd, number);
            }
        }
        Ok(())
    }
}

/// Passes readiness on; tells whether the container was ready. The manager watches the runtime, which stays.
fn tell(proxy: Option<&Proxy>) -> Result<bool> {
    let Some(proxy) = proxy else { return Ok(false) };
    let Some(ready) = proxy.hear()? else { return Ok(false) };
    proxy.pass_on(&ready, rustix::process::getpid().as_raw_nonzero().get())?;
    Ok(true)
}

fn retry(fds: &mut [PollFd<'_>]) -> Result<()> {
    rustix::io::retry_on_intr(|| poll(fds, None)).map(drop).doing(|| "wait for the container")
}

/// Reaps every child that has ended, orphans of the container too; tells how the process itself did.
fn reap(child: &Child) -> Result<Option<u8>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), options).doing(|| "wait for the container")?;
    if let Some(status) = status {
        return Ok(Some(code(&status)));
    }
    while let Ok(Some(orphan)) = process::ended_child() {
        // The process itself is waited for by its pidfd, the next time.
        let Some(pid) = rustix::process::Pid::from_raw(orphan).filter(|_| orphan != child.pid) else { break };
        let _ = waitid(WaitId::Pid(pid), options);
    }
    Ok(None)
}

fn code(status: &WaitIdStatus) -> u8 {
    let number = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(number & 0xff).unwrap_or(u8::MAX)
}
