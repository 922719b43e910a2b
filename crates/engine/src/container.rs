//! A container as its callers see it: what was asked for, and what its monitor saw.

use std::fmt;

use bulkhead_shim::Status;
use bulkhead_shim::status::{Phase, Process};

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It was never started, or its first start failed.
    Created,
    /// Its process is being made.
    Starting,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has ended and waits to be started again by its policy.
    Restarting,
    /// It has ended.
    Exited,
    /// Its parts go.
    Removing,
}

impl State {
    /// Tells whether it has processes, or will have without anybody's doing.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Restarting)
    }
}

impl fmt::Display for State {
    /// Writes docker's words, which have none for a process that is being made.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created | Self::Starting => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
        })
    }
}

/// The exit code of a container of whose end nobody knows (docker's).
pub const UNKNOWN_CODE: u8 = 255;

/// Why nobody knows how a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The machine went down under it.
    Machine,
    /// Its monitor is gone.
    Monitor,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "the machine went down",
            Self::Monitor => "monitor lost",
        })
    }
}

/// Whether the process of a monitor is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Monitor {
    /// It runs.
    Alive,
    /// It has ended.
    Gone,
}

/// What the record says about a container's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Its removal has begun.
    pub removing: bool,
    /// The first process that was frozen. It counts for no other: a container that ended is not paused.
    pub paused: Option<Process>,
}

/// What a container does, and what became of its last process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// What it does.
    pub state: State,
    /// Its first process, while there is one.
    pub process: Option<Process>,
    /// The code of its last end.
    pub exit_code: Option<u8>,
    /// Why nobody knows that code.
    pub lost: Option<Lost>,
    /// Why its last start failed, or what was lost.
    pub error: Option<String>,
}

/// Tells what a container does from its record and what its monitor saw, in the boot `boot`.
///
/// A status of another boot means that the machine went down under it. One that is not at its end, and whose monitor is
/// gone, means that nobody saw the end.
pub fn fold(recorded: Recorded, status: Option<&Status>, boot: &str, monitor: Monitor) -> Life {
    let Some(status) = status else {
        let state = if recorded.removing { State::Removing } else { State::Created };
        return Life { state, process: None, exit_code: None, lost: None, error: None };
    };
    let lost = match (status.phase, monitor) {
        (Phase::Exited, _) => None,
        _ if status.boot != boot => Some(Lost::Machine),
        (_, Monitor::Gone) => Some(Lost::Monitor),
        _ => None,
    };
    let ended = if status.started.is_some() { State::Exited } else { State::Created };
    let state = match status.phase {
        _ if recorded.removing => State::Removing,
        _ if lost.is_some() => ended,
        Phase::Starting => State::Starting,
        Phase::Running if recorded.paused.is_some() && recorded.paused == status.process => State::Paused,
        Phase::Running => State::Running,
        Phase::Restarting => State::Restarting,
        Phase::Exited => ended,
    };
    let exit_code = match lost {
        Some(_) => Some(UNKNOWN_CODE),
        None => status.code.filter(|_| !matches!(state, State::Running | State::Paused)),
    };
    Life {
        state,
        process: status.process.filter(|_| lost.is_none() && status.phase == Phase::Running),
        exit_code,
        lost,
        error: lost.map(|lost| lost.to_string()).or_else(|| status.error.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "this-boot";

    fn process(pid: i32) -> Process {
        Process { pid, start: 7 }
    }

    fn status(phase: Phase) -> Status {
        Status {
            version: 1,
            boot: HERE.into(),
            monitor: process(10),
            phase,
            process: (phase == Phase::Running).then(|| process(11)),
            started: Some(1),
            finished: None,
            code: Some(3),
            oom_killed: false,
            restarts: 0,
            stopped: false,
            error: None,
            health: None,
            lost: false,
            unkept: None,
        }
    }

    fn state(status: &Status, monitor: Monitor) -> (State, Option<u8>, Option<Lost>) {
        let life = fold(Recorded::default(), Some(status), HERE, monitor);
        (life.state, life.exit_code, life.lost)
    }

    #[test]
    fn a_phase_holds_while_its_monitor_lives() {
        for (phase, expected, code) in [
            (Phase::Starting, State::Starting, Some(3)),
            (Phase::Running, State::Running, None),
            (Phase::Restarting, State::Restarting, Some(3)),
            (Phase::Exited, State::Exited, Some(3)),
        ] {
            assert_eq!(state(&status(phase), Monitor::Alive), (expected, code, None), "{phase:?}");
        }
    }

    #[test]
    fn without_a_monitor_only_an_end_is_believed() {
        for phase in [Phase::Starting, Phase::Running, Phase::Restarting] {
            let expected = (State::Exited, Some(UNKNOWN_CODE), Some(Lost::Monitor));
            assert_eq!(state(&status(phase), Monitor::Gone), expected, "{phase:?}");
        }
        assert_eq!(state(&status(Phase::Exited), Monitor::Gone), (State::Exited, Some(3), None));
    }

    #[test]
    fn another_boot_means_that_the_machine_went_down() {
        let mut old = status(Phase::Running);
        old.boot = "another".into();
        // Whatever has the monitor's number now.
        for monitor in [Monitor::Alive, Monitor::Gone] {
            assert_eq!(state(&old, monitor), (State::Exited, Some(UNKNOWN_CODE), Some(Lost::Machine)));
        }
        old.phase = Phase::Exited;
        assert_eq!(state(&old, Monitor::Gone), (State::Exited, Some(3), None));
    }

    #[test]
    fn a_container_that_never_ran_is_created() {
        assert_eq!(fold(Recorded::default(), None, HERE, Monitor::Gone).state, State::Created);
        let mut failed = status(Phase::Exited);
        failed.started = None;
        failed.error = Some("no such program".into());
        let life = fold(Recorded::default(), Some(&failed), HERE, Monitor::Gone);
        assert_eq!((life.state, life.error.as_deref()), (State::Created, Some("no such program")));
    }

    #[test]
    fn a_pause_holds_for_the_process_that_was_paused() {
        let running = status(Phase::Running);
        let paused = |process| Recorded { paused: Some(process), removing: false };
        let folded = |recorded| fold(recorded, Some(&running), HERE, Monitor::Alive).state;
        assert_eq!(folded(paused(process(11))), State::Paused);
        assert_eq!(folded(paused(process(12))), State::Running, "that was another one");
        assert_eq!(folded(Recorded { removing: true, paused: None }), State::Removing);
    }
}
