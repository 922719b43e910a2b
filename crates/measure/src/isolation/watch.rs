//! One sandbox's life, watched: from the start of the platform's program to its end.
//!
//! The program in the sandbox says when it runs and when it is done (docs/bulkload.md, `mix`), so that the set-up, the life of
//! the application and the tear-down are told apart in the same way on every platform.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::eye::{Eye, Look};
use super::roles;
use super::seen::{Role, Seen};
use crate::arena::{self, Arena};
use crate::interrupt;
use crate::platform::{Platform, Seat};
use crate::stage::Stage;
use crate::started::{Input, Started};
use crate::stats::Failure;

/// How long one phase may take: who is watched is slow, in an emulated machine a thousand times.
const LIMIT: Duration = Duration::from_secs(600);

/// The pause between two looks at something that does not tell.
const PAUSE: Duration = Duration::from_millis(1);

/// What was seen.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) set_up: Seen,
    pub(super) application: Seen,
    pub(super) tear_down: Seen,
    /// Of the tasks that were there when the application began.
    pub(super) roles: BTreeMap<u32, Role>,
}

/// The whole life once, unwatched.
pub(super) fn rehearse(arena: &Arena, platform: &Platform) -> Result<(), Failure> {
    Stage { arena, platform }.on_seat(&["mix"], |seat, words| {
        let mut started = arena::start(platform.run(seat, words), seat, Input::Held)?;
        hear(&mut started, b'R')?;
        started.say(b'g')?;
        hear(&mut started, b'D')?;
        started.let_go();
        started.finish(LIMIT).map(drop)
    })
}

/// The whole life once, watched.
pub(super) fn watch(eye: &mut Eye, arena: &Arena, platform: &Platform) -> Result<Watched, Failure> {
    let makers = arena.daemons().makers(platform)?;
    Stage { arena, platform }.on_seat(&["mix"], |seat, words| {
        let command = held(&arena.workload(), &platform.run(seat, words));
        let mut started = arena::start(command, seat, Input::Held)?;
        stopped(&mut started)?;
        let watched = follow(eye, &mut started, &makers, seat, arena);
        match watched {
            // Why it failed, if it ended, is what helps.
            Err(failure) if started.look().is_ok() => Err(failure),
            Err(_) => started.exit(LIMIT).and(Err(Failure("it ended and said nothing".to_owned()))),
            Ok(watched) => started.finish(LIMIT).map(|_| watched),
        }
    })
}

/// Does something while the application waits, with its processes: those of the sandbox where it has none on the host.
pub(super) fn beside<T>(
    arena: &Arena,
    platform: &Platform,
    what: impl FnOnce(&[u32]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let heavy = arena.heavy();
    let heavy = heavy.ok_or_else(|| Failure("finding a sandbox's processes takes root".to_owned()))?;
    // Whoever is not known has no mounts that are known.
    let makers = arena.daemons().makers(platform).unwrap_or_default();
    Stage { arena, platform }.on_seat(&["ready"], |seat, words| {
        let mut started = arena::start(platform.run(seat, words), seat, Input::Held)?;
        hear(&mut started, b'R')?;
        let roles = roles::of(heavy.processes(), seat, &arena.workload(), &makers);
        let of = |wanted: &dyn Fn(&Role) -> bool| {
            Vec::from_iter(roles.iter().filter(|(_, role)| wanted(role)).map(|(task, _)| *task))
        };
        let mut processes = of(&|role| *role == Role::Application);
        if processes.is_empty() {
            processes = of(&|role| matches!(role, Role::Sandbox(_)));
        }
        if processes.is_empty() {
            return Err(Failure("no process of the sandbox is found".to_owned()));
        }
        let done = what(&processes)?;
        started.let_go();
        started.finish(LIMIT)?;
        Ok(done)
    })
}

/// From the moment before its first call.
fn follow(
    eye: &mut Eye,
    started: &mut Started,
    makers: &[u32],
    seat: &Seat,
    arena: &Arena,
) -> Result<Watched, Failure> {
    let pid = Pid::from_raw(i32::try_from(started.pid()).unwrap_or(0));
    let pid = pid.ok_or_else(|| Failure("it has no process id".to_owned()))?;
    let mut look = eye.begin(started.pid(), makers)?;
    let going = rustix::process::kill_process(pid, Signal::CONT);
    going.map_err(|error| Failure(format!("let it go on: {error}")))?;
    hear(started, b'R')?;
    let roles = roles::of(look.followed(), seat, &arena.workload(), makers);
    let set_up = look.take()?;
    started.say(b'g')?;
    hear(started, b'D')?;
    let application = look.take()?;
    started.let_go();
    let tear_down = match look {
        Look::Tracer(mut listening) => {
            started.exit(LIMIT)?;
            listening.take()?
        }
        Look::Ptrace(following) => {
            let end = Instant::now() + LIMIT;
            // What its parent waits for would be taken from the one that follows it.
            while !following.has_ended() {
                patience(end)?;
            }
            let seen = following.take();
            following.end()?;
            seen
        }
    };
    Ok(Watched { set_up, application, tear_down, roles })
}

/// A command that stops before it becomes `command`. What that does to its environment is lost: it has this program's.
fn held(workload: &std::path::Path, command: &Command) -> Command {
    let mut held = Command::new(workload);
    held.arg("held").arg(command.get_program()).args(command.get_args());
    held.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        held.current_dir(directory);
    }
    held
}

fn stopped(started: &mut Started) -> Result<(), Failure> {
    let end = Instant::now() + arena::LIMIT;
    let place = format!("/proc/{}/stat", started.pid());
    loop {
        let stat = std::fs::read_to_string(&place).unwrap_or_default();
        // The state comes behind the name, which may hold anything, in parentheses.
        match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
            Some('T') => return Ok(()),
            Some('Z') | None => {
                return started.exit(arena::LIMIT).and(Err(Failure("it did not stop".to_owned())));
            }
            _ => patience(end)?,
        }
    }
}

/// Waits a moment; fails when the time is up or a signal came.
fn patience(end: Instant) -> Result<(), Failure> {
    interrupt::check().map_err(|interrupted| Failure(interrupted.to_string()))?;
    if Instant::now() >= end {
        return Err(Failure("it took too long and was killed".to_owned()));
    }
    std::thread::sleep(PAUSE);
    Ok(())
}

/// Waits for this byte.
fn hear(started: &mut Started, expected: u8) -> Result<(), Failure> {
    match started.hear(LIMIT)? {
        Some(byte) if byte == expected => Ok(()),
        Some(byte) => Err(Failure(format!("it said {:?} instead of {:?}", byte as char, expected as char))),
        None => Err(Failure("it ended and said nothing".to_owned())),
    }
}
