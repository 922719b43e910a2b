//! What a container does, as a function of its record, of what its monitor wrote, and of whether that monitor is there.

use std::fmt;

use bulkhead_shim::Status;
use bulkhead_shim::status::{Phase, Process};

use crate::container::State;

/// The exit code of a container of whose end nobody knows (docker's).
pub(crate) const UNKNOWN_CODE: u8 = 255;

/// Why nobody knows how a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The machine went down under it.
    Machine,
    /// Its monitor is gone.
    Monitor,
    /// What its monitor wrote cannot be read.
    Status,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "the machine went down",
            Self::Monitor => "monitor lost",
            Self::Status => "status lost",
        })
    }
}

/// Whether the process of a monitor is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Monitor {
    /// It runs.
    Alive,
    /// It has ended.
    Gone,
}

/// What the record says about a container's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Its removal has begun.
    pub(crate) removing: bool,
    /// The first process that was frozen. It counts for no other: a container that ended is not paused.
    pub(crate) paused: Option<Process>,
    /// The code of the last end that was told.
    pub(crate) code: Option<u8>,
    /// It was made in an earlier boot, and what was seen of it went with the machine.
    pub(crate) gone: bool,
}

/// What a container does, and what became of its last process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    /// What it does.
    pub(crate) state: State,
    /// Its first process, while there is one.
    pub(crate) process: Option<Process>,
    /// The code of its last end.
    pub(crate) exit_code: Option<u8>,
    /// Why nobody knows that code.
    pub(crate) lost: Option<Lost>,
    /// Why its last start failed, or what was lost.
    pub(crate) error: Option<String>,
}

impl Life {
    /// That of a container that was just made.
    pub(crate) const NEW: Self =
        Self { state: State::Created, process: None, exit_code: None, lost: None, error: None };
}

/// Tells what a container does from its record and what its monitor saw, in the boot `boot`.
///
/// A status of another boot means that the machine went down under it. One that is not at its end, and whose monitor is
/// gone, means that nobody saw the end.
pub(crate) fn fold(recorded: Recorded, status: Option<&Status>, boot: &str, monitor: Monitor) -> Life {
    let Some(status) = status else {
        if recorded.gone {
            return ended(recorded, Lost::Machine, Lost::Machine.to_string());
        }
        return if recorded.removing {
            Life { state: State::Removing, exit_code: recorded.code, ..Life::NEW }
        } else {
            Life::NEW
        };
    };
    let lost = match (status.phase, monitor) {
        _ if status.lost => Some(Lost::Monitor),
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
        // Its removal may begin before its monitor has written the end.
        None if recorded.removing => recorded.code.or(status.code),
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

/// Tells what a container does of which nobody can read what its monitor wrote, for this reason.
///
/// As long as the monitor is there, so is the container, and can be stopped. A power loss may leave half of a file, and a
/// later version of this program one that only that understands.
pub(crate) fn unread(recorded: Recorded, monitor: Monitor, reason: &str) -> Life {
    let error = format!("status lost: {reason}");
    match monitor {
        Monitor::Alive if !recorded.removing => {
            Life { state: State::Running, error: Some(error), ..Life::NEW }
        }
        Monitor::Alive => Life { state: State::Removing, error: Some(error), ..Life::NEW },
        Monitor::Gone => ended(recorded, Lost::Status, error),
    }
}

/// The life of a container of whose end nobody knows.
fn ended(recorded: Recorded, lost: Lost, error: String) -> Life {
    let state = if recorded.removing { State::Removing } else { State::Exited };
    Life { state, process: None, exit_code: Some(UNKNOWN_CODE), lost: Some(lost), error: Some(error) }
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
            runs: Vec::new(),
            oom_killed: false,
            restarts: 0,
            stopped: false,
            sent: Vec::new(),
            error: None,
            lost: false,
            unkept: None,
            health: None,
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
    fn what_was_cleaned_up_after_a_dead_monitor_stays_lost() {
        let mut cleaned = status(Phase::Exited);
        cleaned.lost = true;
        assert_eq!(state(&cleaned, Monitor::Gone), (State::Exited, Some(UNKNOWN_CODE), Some(Lost::Monitor)));
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
    fn a_status_that_nobody_can_read_costs_no_container() {
        let runs = unread(Recorded::default(), Monitor::Alive, "it is of version 2");
        assert_eq!((runs.state, runs.exit_code, runs.lost), (State::Running, None, None));
        assert_eq!(runs.error.as_deref(), Some("status lost: it is of version 2"));
        let ended = unread(Recorded::default(), Monitor::Gone, "cut");
        let expected = (State::Exited, Some(UNKNOWN_CODE), Some(Lost::Status));
        assert_eq!((ended.state, ended.exit_code, ended.lost), expected);
        let goes = unread(Recorded { removing: true, ..Recorded::default() }, Monitor::Gone, "cut");
        assert_eq!(goes.state, State::Removing);
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
        let paused = |process| Recorded { paused: Some(process), ..Recorded::default() };
        let folded = |recorded| fold(recorded, Some(&running), HERE, Monitor::Alive).state;
        assert_eq!(folded(paused(process(11))), State::Paused);
        assert_eq!(folded(paused(process(12))), State::Running, "that was another one");
        assert_eq!(folded(Recorded { removing: true, ..Recorded::default() }), State::Removing);
    }

    #[test]
    fn what_went_with_the_machine_has_ended_there() {
        let gone = Recorded { gone: true, ..Recorded::default() };
        let life = fold(gone, None, HERE, Monitor::Gone);
        assert_eq!((life.state, life.exit_code, life.lost), (State::Exited, Some(255), Some(Lost::Machine)));
        let removing = fold(Recorded { removing: true, ..gone }, None, HERE, Monitor::Gone);
        assert_eq!(removing.state, State::Removing);
    }

    #[test]
    fn what_is_removed_before_its_monitor_is_done_has_the_code_that_was_told() {
        let removing = Recorded { removing: true, code: Some(7), ..Recorded::default() };
        assert_eq!(fold(removing, None, HERE, Monitor::Alive).exit_code, Some(7));
        let running = Status { code: None, ..status(Phase::Running) };
        assert_eq!(fold(removing, Some(&running), HERE, Monitor::Alive).exit_code, Some(7));
    }
}
