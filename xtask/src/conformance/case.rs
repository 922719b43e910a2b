//! One test of a suite and what became of it.

use serde::{Deserialize, Serialize};

/// What became of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Case {
    /// As the suite calls it; unique in the suite.
    pub(super) name: String,
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Verdict {
    Passed,
    /// The suite found that it cannot run here, for this reason.
    Skipped(String),
    /// With what the suite said about it.
    Failed(String),
}

impl Case {
    pub(super) fn failed(&self) -> bool {
        matches!(self.verdict, Verdict::Failed(_))
    }

    /// A line for those who watch.
    pub(super) fn line(&self) -> String {
        match self.verdict {
            Verdict::Passed => format!("  passed   {}", self.name),
            Verdict::Skipped(_) => format!("  skipped  {}", self.name),
            Verdict::Failed(_) => format!("  failed   {}", self.name),
        }
    }
}
