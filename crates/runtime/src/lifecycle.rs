//! The states of a container and what follows from what is observed. Pure.

pub use bulkhead_spec::ContainerState as Status;

/// What is known of a container, from its state file and the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Its set-up is complete.
    pub ready: bool,
    /// Its first process exists and is not a zombie.
    pub alive: bool,
    /// `start` has not opened the gate.
    pub gated: bool,
    /// Its cgroup is frozen.
    pub frozen: bool,
}

/// Derives the state of a container.
pub fn status(observed: Observed) -> Status {
    match observed {
        Observed { ready: false, .. } => Status::Creating,
        Observed { alive: false, .. } => Status::Stopped,
        Observed { frozen: true, .. } => Status::Paused,
        Observed { gated: true, .. } => Status::Created,
        _ => Status::Running,
    }
}

/// Tells whether a container in this state has a live process.
pub fn is_alive(status: Status) -> bool {
    matches!(status, Status::Created | Status::Running | Status::Paused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_is_stopped_whatever_the_gate_says() {
        let observed = Observed { ready: true, alive: false, gated: true, frozen: false };
        assert_eq!(status(observed), Status::Stopped);
    }

    #[test]
    fn freezing_hides_the_gate_as_in_runc() {
        let observed = Observed { ready: true, alive: true, gated: true, frozen: true };
        assert_eq!(status(observed), Status::Paused);
    }

    #[test]
    fn an_interrupted_creation_stays_creating() {
        let observed = Observed { ready: false, alive: false, gated: true, frozen: false };
        assert_eq!(status(observed), Status::Creating);
    }
}
