//! The runtimes that are judged.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::peers::Peer;
use crate::{invoke, peers, shipped, workspace};

/// A runtime that is judged.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    /// With its version, such as `crun 1.28`.
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// The directory with it and its libraries, if it does not use the system's.
    pub(super) libraries: Option<PathBuf>,
}

/// Which runtime it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Bulkrun,
    Runc,
    Crun,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Bulkrun, Self::Runc, Self::Crun];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bulkrun => "bulkrun",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// crun refuses a machine that has v1 and v2 at once.
    pub(super) fn takes_hybrid(self) -> bool {
        self != Self::Crun
    }
}

/// Those of the given kinds, or all when none is given: ours is built, of the others the newest is taken.
pub(super) fn all(kinds: &[Kind]) -> Result<Vec<Subject>> {
    let kinds = if kinds.is_empty() { &Kind::ALL[..] } else { kinds };
    kinds.iter().map(|&kind| of(kind)).collect()
}

fn of(kind: Kind) -> Result<Subject> {
    if kind == Kind::Bulkrun {
        let name = format!("bulkrun {}", env!("CARGO_PKG_VERSION"));
        return Ok(Subject { kind, name, program: shipped::build(&shipped::BULKRUN)?, libraries: None });
    }
    let (Peer { name, program }, place) =
        peers::newest(kind.name()).with_context(|| format!("get {}", kind.name()))?;
    Ok(Subject { kind, name, program, libraries: Some(place) })
}

/// The commit of which ours is built, with a mark when there are changes that are not in it.
pub(super) fn revision(kind: Kind) -> Result<Option<String>> {
    if kind != Kind::Bulkrun {
        return Ok(None);
    }
    let mut describe = Command::new("git");
    describe.arg("-C").arg(workspace::root()?).args(["describe", "--always", "--dirty=+", "--exclude=*"]);
    Ok(Some(invoke::text(&mut describe)?.trim().to_owned()))
}
