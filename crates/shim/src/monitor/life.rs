//! From one start to the next, and to the last end.

use std::path::Path;
use std::time::{Duration, Instant};

use bulkhead_sys::{process, signal};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};

use super::Monitor;
use super::clients::Slow;
use super::memory::Memory;
use super::output::{Output, Read};
use super::runtime::{Wanted, kill};
use super::setup::{self, ENDING};
use super::shared;
use crate::causes::chain;
use crate::clock;
use crate::limited::{self, Hooks};
use crate::log::{Log, Stream};
use crate::order::Stdin;
use crate::protocol::{Ending, Exit, Grace, Stop, Then, ToClient};
use crate::ready::{Failure, FailureKind, Ready};
use crate::status::{Phase, Process};

/// How long a runtime may take to kill before the kernel is asked for it.
const INSIST: Duration = Duration::from_secs(5);

/// How long a runtime's own processes may be there after it has ended.
const ADOPTION: Duration = Duration::from_secs(2);

/// How long it is tried to write the last status before the directory is given up without: longer than a disk is full for
/// long, and shorter than those who wait for the end have patience.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// The most that is read of a stream when the container has ended: more than a pipe holds, for who outlives it may write
/// for ever.
const LEFT_BEHIND: usize = 1 << 20;

/// What the container does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Life {
    /// Nothing yet.
    New,
    /// The runtime has been called.
    Starting,
    /// Its process runs.
    Running { process: Process, since: Instant },
    /// Its process has ended, and the runtime takes away what is left of it.
    Ending { code: u8, ran: Duration },
    /// It waits to be started again.
    Waiting { until: Instant },
    /// It has ended for good. That is told once it is written, which is tried until then.
    Over { limit: Instant },
}

/// A call of the runtime that has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) pid: i32,
    pub(super) purpose: Purpose,
    begin: Instant,
    /// When it is killed, unless something else has an eye on it.
    pub(super) limit: Option<Instant>,
    /// Whether the time of the hooks is yet to be counted. They are looked for only when the time without them is over.
    counts_hooks: bool,
    /// What it had taken when it was killed because of the limit.
    struck: Option<Duration>,
}

impl Call {
    pub(super) fn new(pid: i32, purpose: Purpose) -> Self {
        let begin = Instant::now();
        let (limit, counts_hooks) = match purpose {
            Purpose::Start | Purpose::Check => (None, false),
            Purpose::Signal { .. } => (Some(begin + limited::REMOVAL), false),
            Purpose::Delete | Purpose::DeleteByForce => (Some(begin + limited::REMOVAL), true),
        };
        Self { pid, purpose, begin, limit, counts_hooks, struck: None }
    }

    /// Kills it if its time is over.
    fn end(&mut self, now: Instant, bundle: &Path) {
        let Some(limit) = self.limit.filter(|&limit| limit <= now) else { return };
        if std::mem::take(&mut self.counts_hooks) {
            let hooks = Hooks::of(bundle);
            if hooks.unlimited {
                self.limit = None;
                return;
            }
            if hooks.limited > Duration::ZERO {
                self.limit = limit.checked_add(hooks.limited);
                return;
            }
        }
        self.limit = None;
        self.struck = Some(limit.saturating_duration_since(self.begin));
        kill(self.pid);
    }

    /// Gives a removal no more time than one without hooks, from now on.
    fn hurry(&mut self) {
        let is_removal = matches!(self.purpose, Purpose::Delete | Purpose::DeleteByForce);
        if is_removal && self.struck.is_none() {
            let limit = Instant::now() + limited::REMOVAL;
            self.limit = Some(self.limit.map_or(limit, |before| before.min(limit)));
            self.counts_hooks = false;
        }
    }
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Start,
    /// A signal, which a client may have asked for.
    Signal {
        client: Option<u32>,
    },
    Delete,
    /// The same with `--force`, because that did not do.
    DeleteByForce,
    Check,
}

/// A stop that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping {
    /// When the next, harder means are used.
    pub(super) deadline: Option<Instant>,
    /// Whether SIGKILL was sent.
    insisted: bool,
    /// Whether the container is started again once it has ended: it is unhealthy.
    again: bool,
    signal: i32,
}

impl Monitor {
    /// Calls the runtime to start the container.
    pub(super) fn start(&mut self) {
        let again = !matches!(self.life, Life::New);
        self.life = Life::Starting;
        if !again {
            self.status.phase = Phase::Starting;
            self.write_status();
        }
        let wanted = match (self.is_terminal, self.stdin_rule) {
            (true, _) => Wanted::Terminal,
            (false, Stdin::Closed) => Wanted::Pipes,
            (false, Stdin::Once | Stdin::Open) => Wanted::PipesAndInput,
        };
        if let Err(error) = self.others.open(&self.runtime.run_directory, self.home.as_ref()) {
            return self.not_begun(&chain(&error));
        }
        let Some(lock) = &self.lock else { return };
        let started = self.runtime.run(wanted, lock).and_then(|(pid, streams)| {
            self.calls.push(Call::new(pid, Purpose::Start));
            self.take_streams(streams)
        });
        if let Err(error) = started {
            let failure = Failure { kind: FailureKind::Runtime, message: chain(&error) };
            self.not_started(failure, Purpose::Delete);
        }
    }

    /// The runtime's `run` has ended.
    fn started(&mut self, status: WaitStatus) {
        let (false, Some(pid)) = (status.exit_status() != Some(0), self.runtime.pid()) else {
            let said = self.stderr.as_mut().map(|stderr| {
                stderr.read(&mut Log::none());
                stderr.bytes().to_owned()
            });
            let failure = self.runtime.failure(&said.unwrap_or_default(), &ended(status));
            return self.not_started(failure, of_attempt(status));
        };
        let Some(process) = adopted(pid) else {
            let message = format!("process {pid}, which the runtime has started, is no child of its monitor");
            return self.not_started(Failure { kind: FailureKind::Runtime, message }, Purpose::Delete);
        };
        if let Err(message) = self.expect_terminal() {
            kill(pid);
            return self.not_started(Failure { kind: FailureKind::Runtime, message }, Purpose::Delete);
        }
        self.others.release();
        self.memory = Memory::open(pid, self.cgroup.as_deref());
        let now = clock::now();
        self.life = Life::Running { process, since: Instant::now() };
        self.checks.begin(now);
        self.status.phase = Phase::Running;
        self.status.process = Some(process);
        self.status.started = Some(now);
        self.status.oom_killed = false;
        self.status.error = None;
        self.status.restarts = self.policy.restarts();
        self.status.health = self.checks.health();
        self.status.sent.clear();
        if let Some(stopping) = self.stopping {
            self.note_sent(stopping.signal);
        }
        self.write_status();
        if let Some(ready) = self.ready.take() {
            setup::tell(ready, &Ready::Running(process));
        }
        if let Some(stopping) = self.stopping {
            self.ask_to_end(stopping.signal, None);
        }
    }

    /// The container could not be started: the first time that is told, later it counts as an end.
    fn not_started(&mut self, failure: Failure, means: Purpose) {
        self.fail(&failure);
        self.take_away(means);
        self.tell_failure(failure);
    }

    /// The container could not be started, and the runtime was not even called.
    fn not_begun(&mut self, message: &str) {
        let failure = Failure { kind: FailureKind::Runtime, message: message.to_owned() };
        self.fail(&failure);
        self.policy.not_begun();
        self.settle();
        self.tell_failure(failure);
    }

    fn fail(&mut self, failure: &Failure) {
        self.status.error = Some(failure.message.clone());
        let code = failure.kind.code();
        self.drop_streams();
        self.others.release();
        self.life = Life::Ending { code, ran: Duration::ZERO };
        self.status.code = Some(code);
        if self.ready.is_some() {
            // Its caller does what follows.
            self.at_end.clear();
            self.stopping = Some(Stopping { deadline: None, insisted: true, again: false, signal: 0 });
        }
    }

    fn tell_failure(&mut self, failure: Failure) {
        if let Some(ready) = self.ready.take() {
            setup::tell(ready, &Ready::Failed(failure));
        }
    }

    /// Hears which signals came.
    pub(super) fn hear_signals(&mut self) {
        let came = signal::read_descriptor(&self.signals).unwrap_or_default();
        if came.iter().any(|number| ENDING.contains(number)) {
            self.begin_to_stop(Stop::default(), false);
        }
        self.reap();
    }

    /// Heeds signals that came while none was blocked.
    pub(super) fn heed_noted(&mut self) {
        let noted = signal::noted();
        if noted != self.heeded {
            self.heeded = noted;
            self.begin_to_stop(Stop::default(), false);
        }
    }

    /// Collects children that have ended. While the runtime starts the container only that call is waited for: the
    /// container's process may have ended already, and is not known before its number is.
    pub(super) fn reap(&mut self) {
        loop {
            let start = self.calls.iter().find(|call| call.purpose == Purpose::Start);
            let wanted = start.and_then(|call| Pid::from_raw(call.pid));
            // Not `waitpid` for any: without a number that waits for those of its own process group.
            let waited = match wanted {
                Some(pid) => waitpid(Some(pid), WaitOptions::NOHANG),
                None => wait(WaitOptions::NOHANG),
            };
            let Ok(Some((pid, status))) = waited else { return };
            let pid = pid.as_raw_nonzero().get();
            if let Some(place) = self.calls.iter().position(|call| call.pid == pid) {
                let call = self.calls.swap_remove(place);
                self.finished(call, status);
            } else if matches!(self.life, Life::Running { process, .. } if process.pid == pid) {
                self.ended(status);
            }
        }
    }

    fn finished(&mut self, call: Call, status: WaitStatus) {
        let well = status.exit_status() == Some(0);
        match call.purpose {
            Purpose::Start => self.started(status),
            Purpose::Check => self.checked(status),
            Purpose::Signal { client: Some(client) } if well => {
                self.clients.tell_and_leave(client, ToClient::Done);
            }
            Purpose::Signal { client: Some(client) } => {
                let said = self.complaint(&call, status);
                self.clients.tell_and_leave(client, ToClient::Refused(&said));
            }
            Purpose::Signal { client: None } => {
                if let Some(time) = call.struck {
                    self.note(format!("the runtime's kill: {}", limited::killed(time)));
                    self.write_status();
                }
            }
            Purpose::Delete if well => self.settle(),
            Purpose::Delete => {
                if let Some(time) = call.struck {
                    self.note(format!("the runtime's delete: {}", limited::killed(time)));
                }
                match self.status.started {
                    Some(_) => {
                        self.take_away(Purpose::DeleteByForce);
                        // The hooks have had their time.
                        if call.struck.is_some() {
                            self.calls.iter_mut().for_each(Call::hurry);
                        }
                    }
                    None => self.settle(),
                }
            }
            Purpose::DeleteByForce => {
                if !well {
                    let said = self.complaint(&call, status);
                    self.note(format!("the runtime cannot delete the container: {said}"));
                }
                self.settle();
            }
        }
    }

    /// Says why a call came to nothing.
    fn complaint(&self, call: &Call, status: WaitStatus) -> String {
        match (call.struck, status.terminating_signal()) {
            (Some(time), _) => limited::killed(time),
            (None, Some(signal)) => format!("signal {signal} has ended it"),
            (None, None) => self.runtime.said(),
        }
    }

    /// Notes something of the runtime that nobody waits for, in the status that is written next.
    fn note(&mut self, what: String) {
        match &mut self.status.error {
            Some(error) => {
                error.push_str("; ");
                error.push_str(&what);
            }
            none => *none = Some(what),
        }
    }

    /// Kills calls that take too long; what follows when they have ended.
    pub(super) fn end_calls(&mut self, now: Instant) {
        for call in &mut self.calls {
            call.end(now, &self.runtime.bundle);
        }
    }

    /// The container's process has ended.
    fn ended(&mut self, status: WaitStatus) {
        let Life::Running { since, .. } = self.life else { return };
        let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
        let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
        self.life = Life::Ending { code, ran: since.elapsed() };
        let was_killed = status.terminating_signal() == Some(rustix::process::Signal::KILL.as_raw());
        self.status.oom_killed = self.memory.take().is_some_and(|memory| memory.has_killed(was_killed));
        self.status.code = Some(code);
        let time = clock::now();
        self.status.finished = Some(time);
        let is_last = !self.policy.restarts_any() && !self.stopping.is_some_and(|stopping| stopping.again);
        self.end_check();
        self.checks.end();
        // What was given last is kept for who has not taken it, so that the rest can be read.
        if let Some((stream, bytes)) = given(self.given, &mut self.stdout, &mut self.stderr) {
            self.clients.keep(stream, bytes);
        }
        self.take_away(Purpose::Delete);
        if is_last && matches!(self.life, Life::Ending { .. }) {
            // They need not wait for the runtime, nor it for them: whoever is told first takes this processor.
            self.clients.tell_ending(Ending { code, time });
        }
    }

    /// Calls the runtime to take away what is left.
    fn take_away(&mut self, purpose: Purpose) {
        let verb: &[&str] = if purpose == Purpose::Delete { &["delete"] } else { &["delete", "--force"] };
        match self.runtime.call(verb, &[]) {
            Ok(pid) => self.calls.push(Call::new(pid, purpose)),
            Err(error) => {
                self.note(chain(&error));
                self.settle();
            }
        }
    }

    /// All is taken away: what the container left in its pipes is read, and what follows is decided.
    fn settle(&mut self) {
        let Life::Ending { code, ran } = self.life else { return };
        self.drain();
        self.drop_streams();
        let stopping = self.stopping.take();
        let pause = match stopping {
            Some(Stopping { again: true, .. }) => Some(Duration::ZERO),
            Some(_) => None,
            None => self.policy.after(code, ran),
        };
        if pause.is_some() {
            self.status.keep_run(code);
        }
        self.status.phase = if pause.is_some() { Phase::Restarting } else { Phase::Exited };
        self.status.process = None;
        self.status.restarts = self.policy.restarts();
        self.status.health = self.checks.health();
        self.write_status();
        self.give_memory_back();
        match pause {
            Some(pause) => {
                self.life = Life::Waiting { until: Instant::now() + pause };
                let exit = Exit { code, then: Then::Restarts, oom_killed: self.status.oom_killed };
                self.clients.tell_attached(ToClient::Exited(exit));
            }
            None => {
                self.life = Life::Over { limit: Instant::now() + LAST_TRIES };
                self.finish();
            }
        }
    }

    /// Gives the directory up and says the last word, once the end is written: whoever comes next reads it, and may write his
    /// own. Should it not be written for long, nobody waits for it any more.
    pub(super) fn finish(&mut self) {
        let Life::Over { limit } = self.life else { return };
        if self.lock.is_none() || self.unwritten.is_some() && Instant::now() < limit {
            return;
        }
        self.let_go();
        let code = self.status.code.unwrap_or_default();
        let exit = Exit { code, then: Then::Ends, oom_killed: self.status.oom_killed };
        self.clients.tell_attached(ToClient::Exited(exit));
        for number in self.clients.awaiting_end() {
            self.clients.tell(number, ToClient::Done);
        }
        self.clients.dismiss();
    }

    /// Reads what is left of the streams.
    fn drain(&mut self) {
        for output in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            let mut left = LEFT_BEHIND;
            while left > 0 && output.read(&mut self.log) == Read::Bytes {
                let stream = output.stream();
                let bytes = output.bytes();
                left = left.saturating_sub(bytes.len());
                self.clients.give(stream, bytes, Slow::IsKeptFor);
            }
            output.finish(&mut self.log);
        }
    }

    /// Gives up the directory, so that another monitor can begin in it.
    fn let_go(&mut self) {
        if let Some(listener) = self.listener.take() {
            drop(listener);
            drop(std::fs::remove_file(self.runtime.file(crate::place::SOCKET)));
        }
        // It has nobody to serve any more.
        self.companions.leave();
        // Whoever finds the directory locked takes the pod's namespaces from here.
        shared::forget(&self.runtime.run_directory);
        self.unwritten = None;
        self.lock = None;
    }

    /// Tells whether nothing is left to do and nobody to be heard.
    pub(super) fn is_over(&self) -> bool {
        self.lock.is_none() && self.clients.is_empty() && self.calls.is_empty()
    }

    /// Ends the monitor.
    pub(super) fn leave(self) -> u8 {
        let words = self.at_end.iter().map(|word| std::ffi::CString::new(word.as_str()));
        if let (false, Ok(words)) = (self.end_is_taken, words.collect::<Result<Vec<_>, _>>())
            && let Some(program) = words.first()
        {
            let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
                let bytes = [name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat();
                std::ffi::CString::new(bytes).ok()
            };
            let environment: Vec<_> = std::env::vars_os().filter_map(variable).collect();
            // It returns only when it fails, and then there is nobody to tell: the next command finds the container.
            let is_home = self.home.as_ref().is_none_or(|home| home.enter().is_ok());
            if is_home && signal::set_mask(signal::Set::EMPTY).is_ok() {
                process::execute(program, &words, &environment);
            }
        }
        0
    }

    /// Begins to stop the container. By a user it stays stopped when the machine boots again.
    pub(super) fn begin_to_stop(&mut self, stop: Stop, by_user: bool) {
        if by_user {
            self.status.stopped = true;
        }
        let signal = stop.signal.unwrap_or(self.stop.signal);
        let grace = match stop.grace {
            None => Some(Duration::from_secs(self.stop.grace)),
            Some(Grace::Seconds(seconds)) => Some(Duration::from_secs(seconds.into())),
            Some(Grace::Unlimited) => None,
        };
        self.stop_for(signal, grace, false);
    }

    /// Asks the container to end, and makes it after `grace`.
    pub(super) fn stop_for(&mut self, signal: i32, grace: Option<Duration>, again: bool) {
        let deadline = grace.map(|grace| Instant::now() + grace);
        let insisted = self.stopping.is_some_and(|stopping| stopping.insisted);
        self.stopping = Some(Stopping { deadline, insisted, again, signal });
        match self.life {
            Life::Running { .. } => {
                // Without any time there is no use in asking.
                let is_asked = grace != Some(Duration::ZERO);
                self.note_sent(if is_asked { signal } else { signal::KILL });
                self.write_status();
                if is_asked {
                    self.ask_to_end(signal, None);
                }
            }
            Life::Waiting { .. } => {
                self.life = Life::Ending { code: self.status.code.unwrap_or(0), ran: Duration::ZERO };
                self.settle();
            }
            // By force: hooks that have no limit get one.
            Life::Ending { .. } if grace == Some(Duration::ZERO) => {
                self.calls.iter_mut().for_each(Call::hurry);
            }
            Life::New | Life::Starting | Life::Ending { .. } | Life::Over { .. } => {}
        }
    }

    /// Notes a signal that the container gets because somebody stops it.
    fn note_sent(&mut self, signal: i32) {
        if self.status.stopped {
            self.status.note_sent(signal, clock::now());
        }
    }

    /// Takes a signal that somebody sends for a stop: the container is not started again.
    pub(super) fn end_is_wanted(&mut self, signal: i32) {
        self.status.stopped = true;
        let insisted = signal == signal::KILL;
        self.stopping.get_or_insert(Stopping { deadline: None, insisted, again: false, signal });
        self.write_status();
    }

    /// Has the runtime send a signal.
    pub(super) fn ask_to_end(&mut self, signal: i32, client: Option<u32>) {
        match self.runtime.call(&["kill"], &[&signal.to_string()]) {
            Ok(pid) => self.calls.push(Call::new(pid, Purpose::Signal { client })),
            Err(error) => {
                if let Some(client) = client {
                    self.clients.tell_and_leave(client, ToClient::Refused(&chain(&error)));
                }
            }
        }
    }

    /// The time of a stop is over: SIGKILL, by the runtime, and then without it.
    pub(super) fn insist(&mut self) {
        let Some(stopping) = &mut self.stopping else { return };
        stopping.deadline = Some(Instant::now() + INSIST);
        let by_runtime = !std::mem::replace(&mut stopping.insisted, true);
        match self.life {
            Life::Running { .. } if by_runtime => {
                // Written before: a client that hears of the end may be the one to tell of this, too.
                let noted = self.status.sent.len();
                self.note_sent(signal::KILL);
                if self.status.sent.len() > noted {
                    self.write_status();
                }
                self.ask_to_end(signal::KILL, None);
            }
            Life::Running { process, .. } => {
                let hangs = |call: &Call| matches!(call.purpose, Purpose::Signal { .. });
                let hanging = self.calls.iter().find(|&call| hangs(call)).map(|call| call.begin.elapsed());
                if let Some(time) = hanging {
                    let seconds = time.as_secs();
                    self.note(format!(
                        "the runtime's kill: it had not ended after {seconds} seconds, and the container was ended without it"
                    ));
                }
                kill(process.pid);
            }
            // A runtime that hangs over the start.
            Life::Starting if !by_runtime => {
                let start = self.calls.iter().find(|call| call.purpose == Purpose::Start);
                if let Some(call) = start {
                    kill(call.pid);
                }
            }
            _ => {}
        }
    }
}

/// Finds the process that a runtime has started, once it is a child. A runtime that starts it from a process of its own, as
/// crun does, may end before that one does.
fn adopted(pid: i32) -> Option<Process> {
    let end = Instant::now() + ADOPTION;
    loop {
        let process = Process::find(pid)?;
        if is_child(pid) {
            return Some(process);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Tells whether a process is a child that was not waited for.
fn is_child(pid: i32) -> bool {
    let own = std::process::id().cast_signed();
    super::memory::parent(pid) == Some(own)
}

/// By what means is taken away what an attempt left: a runtime that was killed has not cleaned up.
fn of_attempt(status: WaitStatus) -> Purpose {
    if status.terminating_signal().is_some() { Purpose::DeleteByForce } else { Purpose::Delete }
}

fn ended(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// The chunk of output that was given to clients last.
pub(super) fn given<'a>(
    last: Stream,
    stdout: &'a mut Option<Output>,
    stderr: &'a mut Option<Output>,
) -> Option<(Stream, &'a [u8])> {
    let output = if last == Stream::Stdout { stdout } else { stderr };
    output.as_mut().map(|output| (last, output.bytes())).filter(|(_, bytes)| !bytes.is_empty())
}
