//! The program `bulkmon`: one process, one thread, one container.
//!
//! # Life
//! ```text
//!  begin ─► Starting ──────► Running ──────► Ending ─────► (no restart) ─► Over ─► at_end
//!             │  ▲ runtime run    the process ended  runtime delete   │
//!             │  └──────────────── Waiting ◄──────────────────────────┘ policy
//!             └─► the first start failed: told through the pipe, and Over
//! ```
//! Everything waits in one place ([`poll`]): signals, children, clients, streams, times. Children are calls of the runtime
//! and what the container orphans, since the monitor is its subreaper. What a burst of output needs as memory is mapped
//! then and given back soon after.

mod checks;
mod checkup;
mod clients;
mod companion;
mod error;
mod failure;
mod input;
mod life;
mod memory;
mod mounts;
mod others;
mod output;
mod overlay;
mod owned;
mod policy;
mod poll;
mod runtime;
mod setup;
mod shared;
mod speech;
mod streams;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bulkhead_sys::signal::Set;
use rustix::event::epoll::EventFlags;

use self::checks::Checks;
use self::clients::Clients;
use self::companion::Companions;
use self::input::Input;
use self::life::{Call, Life, Stopping};
use self::memory::Memory;
use self::others::Others;
use self::output::Output;
use self::policy::Policy;
use self::poll::{Poll, Token};
use self::runtime::Runtime;
use crate::causes::chain;
use crate::log::{Log, Stream};
use crate::order::{self, Stdin};
use crate::protocol::Size;
use crate::ready::{Failure, FailureKind, Ready};
use crate::socket::Listener;
use crate::status::Status;

/// How long memory of a burst of output is kept after the last of it.
const REST: Duration = Duration::from_millis(200);

/// How long until something is tried again that a full disk prevented.
const RETRY: Duration = Duration::from_secs(1);

/// All that the monitor knows.
#[derive(Debug)]
struct Monitor {
    poll: Poll,
    signals: OwnedFd,
    /// Gone once the container has ended for good and that is written, as is the listener.
    lock: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    ready: Option<OwnedFd>,
    runtime: Runtime,
    /// What the containers of its pod share lives as long as this.
    _shared: Option<shared::Held>,
    others: Others,
    /// Where it came from, when it has mounts of its own.
    home: Option<mounts::Home>,
    cgroup: Option<PathBuf>,
    is_terminal: bool,
    stdin_rule: Stdin,
    stop: order::Stop,
    at_end: Vec<String>,
    status_path: PathBuf,
    status: Status,
    /// When the status is to be written again, which could not be.
    unwritten: Option<Instant>,
    policy: Policy,
    log: Log,
    clients: Clients,
    stdout: Option<Output>,
    stderr: Option<Output>,
    /// The one of which clients were given a chunk last.
    given: Stream,
    stdin: Input,
    console: Option<Listener>,
    console_peer: Option<OwnedFd>,
    size: Option<Size>,
    life: Life,
    calls: Vec<Call>,
    stopping: Option<Stopping>,
    memory: Option<Memory>,
    checks: Checks,
    companions: Companions,
    /// When memory is given back.
    rest: Option<Instant>,
    end_is_taken: bool,
    /// The noted signals that were heeded.
    heeded: Set,
}

/// When a monitor looks into its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    AtOnce,
    /// Its caller is still making it.
    WhenTold,
}

/// Stays with the container of a run directory until it has ended for good. Returns the program's exit status.
pub(crate) fn run(run_directory: &Path, begin: Begin) -> u8 {
    let inherited = setup::Inherited::take();
    let (ready, monitor) = match inherited {
        Ok(inherited) => setup::begin(run_directory, begin, inherited),
        Err(error) => {
            eprintln!("bulkmon: {}", chain(&error));
            return FailureKind::Runtime.code();
        }
    };
    match monitor {
        Ok(None) => 0,
        Ok(Some(monitor)) => {
            // The monitor has its own; whoever reads from it waits for the last one to close it.
            drop(ready);
            monitor.live()
        }
        Err(error) => {
            let failure = Failure { kind: FailureKind::Runtime, message: chain(&error) };
            setup::tell(ready, &Ready::Failed(failure));
            FailureKind::Runtime.code()
        }
    }
}

impl Monitor {
    fn live(mut self) -> u8 {
        self.start();
        let mut events = Vec::with_capacity(poll::AT_ONCE);
        loop {
            while self.runtime.has_spawned.take() {
                self.heed_noted();
                self.reap();
            }
            self.arrange();
            if self.is_over() {
                return self.leave();
            }
            let now = Instant::now();
            let limit = self.deadline().map(|deadline| deadline.saturating_duration_since(now));
            self.poll.wait(limit, &mut events);
            for &(token, flags) in &events {
                self.handle(token, flags);
            }
            self.on_time(Instant::now());
        }
    }

    fn handle(&mut self, token: Token, flags: EventFlags) {
        match token {
            Token::Signals => self.hear_signals(),
            Token::Listener => {
                if let Some(listener) = &self.listener {
                    self.clients.accept(listener, &self.poll);
                }
            }
            Token::Console => self.accept_console(),
            Token::ConsolePeer => self.receive_terminal(),
            Token::Stdout | Token::Stderr => self.relay(token),
            Token::Stdin => self.stdin.write(),
            Token::Check => self.checks.read(&self.poll),
            Token::Companion(number) => {
                let reviver = (!self.is_starting()).then_some(&self.runtime);
                self.companions.hear(number, reviver);
            }
            Token::Client(number) => self.serve(number, flags),
        }
    }

    /// The first moment at which something is to be done.
    fn deadline(&self) -> Option<Instant> {
        let outputs = [&self.stdout, &self.stderr].into_iter().flatten();
        let life = match self.life {
            Life::Waiting { until } => Some(until),
            _ => None,
        };
        let stopping = self.stopping.as_ref().and_then(|stopping| stopping.deadline);
        let own = [life, stopping, self.rest, self.unwritten];
        let others = [self.companions.deadline(), self.clients.deadline(), self.checks.deadline()];
        let first = own.into_iter().chain(others);
        let calls = self.calls.iter().filter_map(|call| call.limit);
        first.flatten().chain(outputs.filter_map(Output::again)).chain(calls).min()
    }

    fn on_time(&mut self, now: Instant) {
        let has_come = |moment: Option<Instant>| moment.is_some_and(|moment| moment <= now);
        if has_come(self.rest) {
            self.rest = None;
            self.give_memory_back();
        }
        if has_come(self.unwritten) {
            self.write_status();
            self.finish();
        }
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            output.wake(now);
        }
        for number in self.clients.late(now) {
            self.clients.remove(number);
        }
        if has_come(self.stopping.as_ref().and_then(|stopping| stopping.deadline)) {
            self.insist();
        }
        if matches!(self.life, Life::Waiting { until } if until <= now) {
            self.start();
        }
        let reviver = (!self.is_starting()).then_some(&self.runtime);
        self.companions.look(now, &self.poll, reviver);
        self.end_calls(now);
        self.check_on_time(now);
    }

    /// Tells whether the container is just being started, by which companions are, too.
    fn is_starting(&self) -> bool {
        matches!(self.life, Life::New | Life::Starting)
    }

    fn give_memory_back(&mut self) {
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            output.rest();
        }
        self.stdin.rest();
        self.log.rest();
    }

    /// Has every descriptor waited for as is right now.
    fn arrange(&mut self) {
        let held_back = self.clients.is_behind() && !matches!(self.life, Life::Ending { .. });
        let runs = matches!(self.life, Life::Running { .. } | Life::Ending { .. });
        let wanted = if runs && !held_back { EventFlags::IN } else { EventFlags::empty() };
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            output.arrange(&self.poll, wanted);
        }
        self.stdin.arrange(&self.poll);
        self.clients.arrange(&self.poll, self.stdin.is_full());
    }

    /// Writes the status; when that fails, it is tried again. Without the lock another monitor may write its own.
    fn write_status(&mut self) {
        if self.lock.is_none() {
            return;
        }
        self.status.unkept = self.log.unkept().cloned();
        self.unwritten = match self.status.write(&self.status_path) {
            Ok(()) => None,
            Err(_) => Some(Instant::now() + RETRY),
        };
    }
}
