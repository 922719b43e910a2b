//! The machines on which a suite can run.

use serde::{Deserialize, Serialize};

/// How much slower an emulated machine may be, with another beside it.
const EMULATED: u32 = 4;

/// Where a suite runs, and by whom cgroups are made there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// This machine; the runtime makes cgroups itself.
    Host,
    /// A guest with cgroup v2 and nobody but the runtime in it.
    Guest,
    /// A guest with cgroup v2 whose systemd is asked for cgroups.
    Systemd,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Host, Self::Guest, Self::Systemd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Guest => "guest",
            Self::Systemd => "systemd",
        }
    }

    /// How many times as long as on this machine a test may take.
    pub(super) fn slowness(self) -> u32 {
        if self == Self::Host { 1 } else { EMULATED }
    }

    /// The option of `cargo xtask vm` for such a guest; none for this machine.
    pub(super) fn guest(self) -> Option<&'static str> {
        match self {
            Self::Host => None,
            Self::Guest => Some("--bare"),
            Self::Systemd => Some("--systemd"),
        }
    }
}
