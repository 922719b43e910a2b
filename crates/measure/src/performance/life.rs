//! The steps in the life of a sandbox, one after the other.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{WaitId, WaitIdOptions};

use super::{Amounts, Stage, milliseconds};
use crate::arena::{self, LIMIT};
use crate::plan::{BARE, FIRST_BYTE};
use crate::platform::{Seat, Step};
use crate::started::{Input, Started};
use crate::stats::{Amount, Failure};

/// The pause before something that is timed alone: long enough for the kernel's deferred work to end.
const GAP: Duration = Duration::from_millis(50);

/// What `bulkload hello` writes.
const HELLO: &[u8] = b"H";

/// What `bulkload ready` writes.
const READY: &[u8] = b"R";

/// How long a sandbox that was started or killed is let alone, on every platform: a program has that time to say that it runs, the
/// log of an engine's is read in it, and what a platform still does when its command has ended is not in the next step.
const REST: Duration = Duration::from_millis(200);

/// How often it is asked what a program has printed.
const LOGS: u32 = 40;

/// How often it is tried to delete what was killed.
const DELETES: u32 = 20;

/// How often the kernel is asked whether it has frozen something.
const LOOKS: usize = 100_000;

pub(super) fn boot(stage: Stage<'_>) -> Result<Amounts, Failure> {
    stage.on_seat(&["ready"], |seat, words| {
        std::thread::sleep(GAP);
        let before = stage.arena.cpu(stage.platform);
        let mut started = arena::start(stage.platform.run(seat, words), seat, Input::Held)?;
        let first = started.first_byte(LIMIT)?;
        let cpu = stage.arena.cpu_since(stage.platform, before);
        started.let_go();
        started.finish(LIMIT)?;
        Ok(vec![(FIRST_BYTE, milliseconds(first)), ("CPU", cpu)])
    })
}

pub(super) fn run(stage: Stage<'_>) -> Result<Amounts, Failure> {
    stage.on_seat(&["hello"], |seat, words| {
        std::thread::sleep(GAP);
        let before = stage.arena.cpu(stage.platform);
        let started = arena::start(stage.platform.run(seat, words), seat, Input::Nothing)?;
        let took = ended(started)?;
        Ok(vec![("to exit", milliseconds(took)), ("CPU", stage.arena.cpu_since(stage.platform, before))])
    })
}

/// Waits for a program that writes one byte and ends. The byte is wanted: an exit status of 0 is no proof that a platform
/// ran anything.
pub(super) fn ended(started: Started) -> Result<Duration, Failure> {
    let ended = started.finish(LIMIT)?;
    if ended.output == HELLO {
        return Ok(ended.took);
    }
    Err(Failure("it ended well, but the program in the sandbox did not run".to_owned()))
}

pub(super) fn exec(stage: Stage<'_>) -> Result<Amounts, Failure> {
    let words = [arena::WORKLOAD, "hello"].map(str::to_owned);
    stage.beside(|seat, _| {
        let command = stage.platform.exec(seat, &words);
        let command = command.ok_or_else(|| Failure("it runs one program in a sandbox".to_owned()))?;
        std::thread::sleep(GAP);
        let before = stage.arena.cpu(stage.platform);
        let took = ended(arena::start(command, seat, Input::Nothing)?)?;
        Ok(vec![("to exit", milliseconds(took)), ("CPU", stage.arena.cpu_since(stage.platform, before))])
    })
}

pub(super) fn steps(stage: Stage<'_>) -> Result<Amounts, Failure> {
    stage.on_seat(&["ready"], |seat, words| {
        let create = stage.platform.create(seat, words);
        let create = create.ok_or_else(|| Failure("it has no steps, only a whole run".to_owned()))?;
        std::thread::sleep(GAP);
        // A runtime may take a process for alive until somebody has waited for it, which not every first process does.
        let _parent = Parent::adopt();
        let mut created = arena::start(create, seat, Input::Held)?;
        let create = created.exit(LIMIT)?;
        let start = arena::step(stage.platform, seat, Step::Start)?;
        let started = Instant::now();
        let is_logged = stage.platform.printed(seat).is_some();
        if !is_logged {
            created.first_byte(LIMIT)?;
        }
        rest(started);
        let kill = arena::step(stage.platform, seat, Step::Kill)?;
        let killed = Instant::now();
        // Its output closes when it is gone; an engine's command has ended long ago.
        created.finish(LIMIT)?;
        if is_logged {
            has_run(stage, seat)?;
        }
        rest(killed);
        let delete = delete(stage, seat)?;
        let times = [("create", create), ("start", start), ("kill", kill), ("delete", delete)];
        Ok(times.into_iter().map(|(name, time)| (name, milliseconds(time))).collect())
    })
}

/// Waits for what is left of the rest since then.
fn rest(since: Instant) {
    std::thread::sleep(REST.saturating_sub(since.elapsed()));
}

/// Looks whether an engine's container said something: that a command to start it ended well is no proof that its program ran. A line
/// that has no end is in the log when nobody can write to it any more.
fn has_run(stage: Stage<'_>, seat: &Seat) -> Result<(), Failure> {
    for _ in 0..LOGS {
        let printed = stage.platform.printed(seat);
        let printed = printed.map(|command| arena::start(command, seat, Input::Nothing)).transpose()?;
        let printed = printed.map(|started| started.finish(LIMIT)).transpose()?;
        if printed.is_some_and(|ended| ended.output.starts_with(READY)) {
            return Ok(());
        }
        std::thread::sleep(GAP);
    }
    Err(Failure("it was started, but the program in the sandbox did not run".to_owned()))
}

/// A process is not quite gone when its files are: a runtime that looks at once may find it alive. That of a kernel of
/// its own takes longest. What is timed is one call to delete what is gone; one that came too early is no time.
fn delete(stage: Stage<'_>, seat: &Seat) -> Result<Duration, Failure> {
    let is_gone = || {
        let heavy = stage.arena.heavy().zip(seat.cgroup.as_deref());
        heavy.is_none_or(|(heavy, cgroup)| heavy.is_empty(cgroup))
    };
    std::thread::sleep(GAP);
    Parent::wait();
    for _ in 1..DELETES {
        if is_gone()
            && let Ok(took) = arena::step(stage.platform, seat, Step::Delete)
        {
            return Ok(took);
        }
        std::thread::sleep(GAP);
        Parent::wait();
    }
    arena::step(stage.platform, seat, Step::Delete)
}

/// The parent of what a runtime leaves behind: as engines are, for as long as this lives.
struct Parent;

impl Parent {
    fn adopt() -> Self {
        // Without it they are somebody else's.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        Self
    }

    /// Waits for all that ended; to be called while no program runs that somebody else waits for.
    fn wait() {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        while matches!(rustix::process::waitid(WaitId::All, ended), Ok(Some(_))) {}
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        Self::wait();
        let _ = rustix::process::set_child_subreaper(None);
    }
}

pub(super) fn pause(stage: Stage<'_>) -> Result<Amounts, Failure> {
    stage.beside(|seat, started| {
        let (pause, resume) = if stage.platform.kind.name == BARE {
            freeze(stage, started)?
        } else {
            std::thread::sleep(GAP);
            let pause = arena::step(stage.platform, seat, Step::Pause)?;
            (pause, arena::step(stage.platform, seat, Step::Resume)?)
        };
        Ok(vec![("pause", milliseconds(pause)), ("resume", milliseconds(resume))])
    })
}

/// What the sandbox's cgroup was charged at most until its program ran.
pub(super) fn peak(stage: Stage<'_>) -> Result<Amounts, Failure> {
    let heavy = stage
        .arena
        .heavy()
        .ok_or_else(|| Failure("memory is counted by a cgroup, which takes root".to_owned()))?;
    stage.beside(|seat, _| {
        let peak = seat.cgroup.as_deref().and_then(|cgroup| heavy.child_peak(cgroup));
        let peak = peak.ok_or_else(|| Failure("it makes no cgroup in which memory is counted".to_owned()))?;
        Ok(vec![("memory", Amount::new(peak as f64 / 1024.0))])
    })
}

/// The floor: what the kernel needs, without a program that asks it.
fn freeze(stage: Stage<'_>, started: &Started) -> Result<(Duration, Duration), Failure> {
    let refused = |error: std::io::Error| Failure(format!("freeze a process: {error}"));
    let heavy = stage.arena.heavy().ok_or_else(|| Failure("freezing takes root".to_owned()))?;
    let place = heavy.freezer("frozen")?;
    std::fs::write(place.join("cgroup.procs"), started.pid().to_string()).map_err(refused)?;
    let v1 = place.join("freezer.state").exists();
    let (file, events) =
        if v1 { ("freezer.state", "freezer.state") } else { ("cgroup.freeze", "cgroup.events") };
    let turn = |word: &str, state: &str| {
        let began = Instant::now();
        std::fs::write(place.join(file), word).map_err(refused)?;
        for _ in 0..LOOKS {
            if std::fs::read_to_string(place.join(events)).map_err(refused)?.contains(state) {
                return Ok(began.elapsed());
            }
        }
        Err(Failure(format!("the kernel did not come to {state:?}")))
    };
    let warm = if v1 { "THAWED" } else { "0" };
    // Whatever happens: what is frozen does not end, not even when it is killed, on v1.
    let _thaw = Thaw { file: place.join(file), word: warm };
    let frozen = turn(if v1 { "FROZEN" } else { "1" }, if v1 { "FROZEN" } else { "frozen 1" })?;
    let thawed = turn(warm, if v1 { "THAWED" } else { "frozen 0" })?;
    Ok((frozen, thawed))
}

/// Has a cgroup thaw when this is dropped.
struct Thaw {
    file: PathBuf,
    word: &'static str,
}

impl Drop for Thaw {
    fn drop(&mut self) {
        // A cgroup that is gone holds nobody.
        let _ = std::fs::write(&self.file, self.word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_frozen_thaws_on_every_way_out() {
        let scratch = bulkhead_testkit::Scratch::new();
        let file = scratch.path().join("freezer.state");
        let refused = || -> Result<(), Failure> {
            let _thaw = Thaw { file: file.clone(), word: "THAWED" };
            std::fs::write(&file, "FROZEN").unwrap();
            Err(Failure("the kernel did not come to it".to_owned()))
        };
        assert!(refused().is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "THAWED");
    }
}
