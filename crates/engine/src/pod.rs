//! Pods: containers that share a network, a host name, System V IPC with `/dev/shm`, and perhaps their processes.
//!
//! A pod has a record, a directory of files and a cgroup below which its containers are, but nothing that runs. What its
//! containers share is made by the monitor of the first of them that starts, and held by the monitor of each: it lives
//! while any of these does, so that the death of one takes nothing from the others, and what starts anew with all of them
//! gone is made anew. Whoever starts a container in a pod holds the pod (flock(2) on its directory), finds a monitor that
//! lives, and has the new one take over from that. Only where processes are shared runs one more, `bulkmon pod`, since
//! those live no longer than the first of them; it is made by the runtime, with an empty root and no rights.

mod create;
mod document;
mod first;
mod life;
mod limit;
mod list;
pub(crate) mod member;
mod remove;
mod request;
pub(crate) mod share;

use std::collections::BTreeMap;
use std::fmt;

use crate::container::State as ContainerState;

pub use life::Failed;
pub use list::FILTERS;
pub use request::{PodRequest, Share};

/// A pod. All times are nanoseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: u64,
    /// What its containers do.
    pub state: State,
    /// What was asked for.
    pub request: PodRequest,
    /// The host name that its containers share.
    pub hostname: String,
    /// The cgroup below which its containers' are; for a user who makes none nothing.
    pub cgroup: Option<String>,
    /// Its containers, the oldest first.
    pub containers: Vec<Member>,
}

impl Pod {
    /// Returns the digits of the id that people are shown.
    pub fn short_id(&self) -> &str {
        crate::id::short(&self.id)
    }

    /// Returns its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.request.labels
    }
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: ContainerState,
}

/// What the containers of a pod do, in podman's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// None of them ever ran, or there are none.
    Created,
    /// All of them run.
    Running,
    /// Some run.
    Degraded,
    /// All that did not end are frozen.
    Paused,
    /// All have ended.
    Exited,
    /// Its parts go.
    Removing,
}

impl State {
    /// Sums up what containers do.
    fn of(states: &[ContainerState]) -> Self {
        let count =
            |wanted: fn(ContainerState) -> bool| states.iter().filter(|state| wanted(**state)).count();
        let all = states.len();
        let paused = count(|state| state == ContainerState::Paused);
        let active = count(ContainerState::is_active);
        let created = count(|state| state == ContainerState::Created);
        match () {
            () if created == all => Self::Created,
            () if active == 0 => Self::Exited,
            () if paused == active => Self::Paused,
            () if active == all => Self::Running,
            () => Self::Degraded,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "Created",
            Self::Running => "Running",
            Self::Degraded => "Degraded",
            Self::Paused => "Paused",
            Self::Exited => "Exited",
            Self::Removing => "Removing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::State::{Created, Exited, Paused, Restarting, Running};

    #[test]
    fn a_pod_does_what_its_containers_do() {
        for (states, expected) in [
            (&[][..], State::Created),
            (&[Created, Created], State::Created),
            (&[Running, Restarting], State::Running),
            (&[Running, Exited], State::Degraded),
            (&[Running, Created], State::Degraded),
            (&[Paused, Running], State::Running),
            (&[Paused, Paused], State::Paused),
            (&[Paused, Exited], State::Paused),
            (&[Exited, Exited], State::Exited),
            (&[Exited, Created], State::Exited),
        ] {
            assert_eq!(State::of(states), expected, "{states:?}");
        }
    }
}
