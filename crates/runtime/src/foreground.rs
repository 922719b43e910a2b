//! `run` and `exec` in the foreground: signals are passed on, the terminal is relayed, the exit status becomes ours.

use std::os::fd::{AsFd, OwnedFd};

use bulkhead_sys::process;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::clone::Child;
use crate::error::{Doing, Result};
use crate::notify::Proxy;
use crate::relay::{End, Relay};
use crate::watch::{ENDING, Watch};

/// Signals that are not passed on: about our children, our terminal, or nothing.
const NOT_PASSED: [i32; 3] = [libc::SIGCHLD, libc::SIGWINCH, libc::SIGURG];

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

/// Waits until the process ends and returns its exit code, 128 + n for signal n.
///
/// # Errors
/// As poll(2).
pub fn attend(watch: &Watch, ward: Ward<'_>) -> Result<u8> {
    let Ward { child, master, mut proxy } = ward;
    let mut relay = master.map(Relay::begin).transpose()?;
    pass_on(&watch.early(), child, relay.as_ref());
    loop {
        let signalled = wait(watch, child, relay.as_mut(), &mut proxy)?;
        if let Some(code) = reap(child)? {
            if let Some(mut relay) = relay {
                finish(watch, &mut relay)?;
            }
            // What it said before it ended counts.
            while proxy.as_ref().is_some_and(Proxy::has_heard) && !tell(proxy.as_ref())? {}
            return Ok(code);
        }
        // The container's terminal goes with ours. SIGHUP alone, which is passed on, could come while a shell
        // does not look, and then it would wait for keys for ever.
        if relay.as_ref().is_some_and(Relay::is_hung_up) {
            relay = None;
        }
        if signalled {
            pass_on(&watch.arrived()?, child, relay.as_ref());
        }
    }
}

/// Sleeps until there is something to do, and moves what the terminal has; tells whether signals have arrived.
fn wait(watch: &Watch, child: &Child, relay: Option<&mut Relay>, proxy: &mut Option<Proxy>) -> Result<bool> {
    let mut fds = vec![PollFd::new(watch, PollFlags::IN), PollFd::new(&child.pidfd, PollFlags::IN)];
    fds.extend(proxy.iter().map(|proxy| PollFd::from_borrowed_fd(proxy.socket(), PollFlags::IN)));
    let before_relay = fds.len();
    let wanted = relay.as_ref().map(|relay| relay.wanted()).unwrap_or_default();
    if let Some(relay) = &relay {
        fds.extend(wanted.iter().map(|(end, flags)| PollFd::from_borrowed_fd(relay.end(*end), *flags)));
    }
    retry_on_intr(|| poll(&mut fds, None)).doing(|| "wait for the container")?;
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
    Ok(!events[0].is_empty())
}

/// Passes on the last that the container wrote, unless a signal says that nobody waits for it.
fn finish(watch: &Watch, relay: &mut Relay) -> Result<()> {
    while relay.drain() {
        let output = PollFd::from_borrowed_fd(relay.end(End::Output), PollFlags::OUT);
        let mut fds = [PollFd::new(watch, PollFlags::IN), output];
        retry_on_intr(|| poll(&mut fds, None)).doing(|| "wait for the terminal")?;
        let [signals, output] = fds.map(|fd| fd.revents());
        relay.serve(End::Output, output);
        if !signals.is_empty() && watch.arrived()?.iter().any(|number| ENDING.contains(number)) {
            return Ok(());
        }
    }
    Ok(())
}

fn pass_on(signals: &[i32], child: &Child, relay: Option<&Relay>) {
    for &number in signals {
        if number == libc::SIGWINCH {
            if let Some(relay) = relay {
                relay.resize();
            }
        } else if !NOT_PASSED.contains(&number) {
            // It may have ended in between.
            let _ = process::signal(&child.pidfd, number);
        }
    }
}

/// Passes readiness on; tells whether the container was ready. The manager watches the runtime, which stays.
fn tell(proxy: Option<&Proxy>) -> Result<bool> {
    let Some(proxy) = proxy else { return Ok(false) };
    let Some(ready) = proxy.hear()? else { return Ok(false) };
    proxy.pass_on(&ready, rustix::process::getpid().as_raw_nonzero().get())?;
    Ok(true)
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
