//! Health checks: when one begins, what it says, and what is done with a container that is not well.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::process::WaitStatus;

use super::checkup::{Checkup, Finding, OUTPUT};
use super::life::{Call, Life, Purpose};
use super::poll::{Poll, Token};
use super::{Monitor, memory};
use crate::causes::chain;
use crate::clock;
use crate::order::{self, OnUnhealthy};
use crate::status::{Check, Health};

/// The code of a check that ran out of time, or could not be started.
const NO_CODE: i32 = -1;

/// All about the checks of one container.
#[derive(Debug)]
pub(super) struct Checks {
    rules: Option<order::Health>,
    checkup: Option<Checkup>,
    next: Option<Instant>,
    current: Option<Current>,
}

/// A check that has not ended.
#[derive(Debug)]
struct Current {
    pid: i32,
    begin: u64,
    pipe: Option<OwnedFd>,
    output: Vec<u8>,
    deadline: Option<Instant>,
    is_late: bool,
}

impl Checks {
    pub(super) fn new(rules: Option<order::Health>) -> Self {
        Self { rules, checkup: None, next: None, current: None }
    }

    /// The container has started.
    pub(super) fn begin(&mut self, now: u64) {
        self.checkup = self.rules.clone().map(|rules| Checkup::begin(rules, now));
        self.plan(now);
    }

    /// The container has ended; the last verdict stays.
    pub(super) fn end(&mut self) {
        self.next = None;
        self.current = None;
    }

    pub(super) fn health(&self) -> Option<Health> {
        self.checkup.as_ref().map(|checkup| checkup.health().clone())
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let current = self.current.as_ref().and_then(|current| current.deadline);
        [self.next, current].into_iter().flatten().min()
    }

    /// Reads what a check says. More than is kept is read and forgotten, so that nobody waits for it.
    pub(super) fn read(&mut self, poll: &Poll) {
        let Some(current) = &mut self.current else { return };
        let Some(pipe) = &current.pipe else { return };
        let mut room = [0; 512];
        loop {
            match rustix::io::read(pipe, &mut room) {
                Ok(0) => break,
                Ok(length) => {
                    let left = OUTPUT.saturating_sub(current.output.len()).min(length);
                    current.output.extend_from_slice(&room[..left]);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => break,
            }
        }
        poll.set(pipe, Token::Check, (EventFlags::IN, EventFlags::empty()));
        current.pipe = None;
    }

    fn plan(&mut self, now: u64) {
        let pause = self.checkup.as_ref().map(|checkup| Duration::from_nanos(checkup.pause(now)));
        self.next = pause.map(|pause| Instant::now() + pause);
    }
}

impl Monitor {
    /// Begins a check whose time has come, and ends one that takes too long.
    pub(super) fn check_on_time(&mut self, now: Instant) {
        let has_come = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
        if let Some(current) = &mut self.checks.current
            && has_come(current.deadline)
        {
            current.deadline = None;
            current.is_late = true;
            self.runtime.end_check(current.pid);
        }
        if has_come(self.checks.next) {
            self.checks.next = None;
            self.begin_check();
        }
    }

    fn begin_check(&mut self) {
        let (Life::Running { process, .. }, Some(checkup)) = (self.life, &self.checks.checkup) else {
            return;
        };
        if memory::is_frozen(process.pid) {
            // A container that is paused is neither well nor unwell.
            return self.checks.plan(clock::now());
        }
        let (begin, timeout) = (clock::now(), Duration::from_nanos(checkup.rules().timeout));
        match self.runtime.check(&checkup.rules().command) {
            Ok((pid, pipe)) => {
                self.calls.push(Call::new(pid, Purpose::Check));
                let deadline = Some(Instant::now() + timeout);
                // A pipe that cannot be waited for is read when the check has ended.
                let _ = self.poll.add(&pipe, Token::Check, EventFlags::IN);
                let output = Vec::new();
                let pipe = Some(pipe);
                self.checks.current = Some(Current { pid, begin, pipe, output, deadline, is_late: false });
            }
            Err(error) => self.count(Check { begin, end: begin, code: NO_CODE, output: chain(&error) }),
        }
    }

    /// A check has ended.
    pub(super) fn checked(&mut self, status: WaitStatus) {
        self.checks.read(&self.poll);
        let Some(current) = self.checks.current.take() else { return };
        let Some(checkup) = &self.checks.checkup else { return };
        let said = String::from_utf8_lossy(&current.output);
        let (code, output) = if current.is_late {
            let limit = Duration::from_nanos(checkup.rules().timeout);
            let colon = if said.is_empty() { "" } else { ": " };
            (NO_CODE, format!("Health check exceeded timeout ({limit:?}){colon}{said}"))
        } else {
            (status.exit_status().unwrap_or(NO_CODE), said.into_owned())
        };
        self.count(Check { begin: current.begin, end: clock::now(), code, output });
    }

    fn count(&mut self, check: Check) {
        let Some(checkup) = &mut self.checks.checkup else { return };
        let finding = checkup.count(check);
        let action = checkup.rules().on_failure;
        self.checks.plan(clock::now());
        self.status.health = self.checks.health();
        self.write_status();
        if finding == Finding::BecameUnhealthy {
            self.act_on(action);
        }
    }

    fn act_on(&mut self, action: OnUnhealthy) {
        let grace = Some(Duration::from_secs(self.stop.grace));
        match action {
            OnUnhealthy::None => {}
            OnUnhealthy::Kill => self.ask_to_end(bulkhead_sys::signal::KILL, None),
            OnUnhealthy::Restart => self.stop_for(self.stop.signal, grace, true),
            OnUnhealthy::Stop => {
                self.status.stopped = true;
                self.stop_for(self.stop.signal, grace, false);
            }
        }
    }

    /// Ends a check with the container.
    pub(super) fn end_check(&mut self) {
        if let Some(current) = &self.checks.current {
            self.runtime.end_check(current.pid);
        }
    }
}
