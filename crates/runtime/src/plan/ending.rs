//! What a configuration says about the end of its container.

use bulkhead_sys::namespace::Kind;

use super::Plan;
use super::hooks::Hook;

/// What is to be done when the container's first process has ended.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// The hooks that run then.
    pub hooks: Vec<Hook>,
    /// What became of its other processes.
    pub others: Others,
}

/// What became of the other processes of a container whose first process has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Others {
    /// They may live on, and have to be killed.
    #[default]
    MayLive,
    /// The kernel has killed them and waited for them, since their pid namespace ended, pid_namespaces(7).
    Ended,
}

impl Ending {
    /// Takes from a plan what its container's end needs.
    pub fn of(plan: &Plan) -> Self {
        let own = plan.namespaces.is_new(Kind::Pid);
        let others = if own { Others::Ended } else { Others::MayLive };
        Self { hooks: plan.hooks.poststop.clone(), others }
    }
}
