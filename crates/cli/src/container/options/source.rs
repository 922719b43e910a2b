//! Where the image comes from.

use bulkhead_engine::transfer::registry::Platform;
use bulkhead_engine::transfer::{Missing, Source};
use clap::{Args, ValueEnum};

use crate::registry::pull::Progress;

/// When and how an image is pulled for a new container.
#[derive(Args, Debug)]
pub(super) struct Pulling {
    /// Pull the image: always, missing or never
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "missing",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pull: Policy,
    /// Use the image of this platform, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Show nothing of a pull
    #[arg(short, long)]
    quiet: bool,
}

/// Docker's words for when an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    Always,
    Missing,
    Never,
}

impl Pulling {
    /// Tells the engine's side of it, and what people see.
    pub(super) fn source(self) -> (Source, Progress) {
        let Pulling { pull, platform, quiet } = self;
        let policy = match pull {
            Policy::Always => Missing::Always,
            Policy::Missing => Missing::Pull,
            Policy::Never => Missing::Refuse,
        };
        (Source { policy, platform }, if quiet { Progress::Hidden } else { Progress::Shown })
    }
}
