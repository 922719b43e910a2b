//! The suites, and what each must be able to do.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::case::Case;
use super::place::Place;
use super::record::Record;
use super::subject::{Kind, Subject};
use super::{crun, runc, runtime_tools};

/// Every suite, in the order of the page.
pub(super) const SUITES: &[Suite] = &[runc::SUITE, crun::SUITE, runtime_tools::SUITE];

/// A suite's life: `prepare` once, on the host; then for each subject [`super::ground`] makes a ground, and `run`
/// happens on it, in another process, which hands over each case as soon as it is known.
#[derive(Debug)]
pub(super) struct Suite {
    /// As it is typed, and as its directory in the cache is called.
    pub(super) name: &'static str,
    /// As the page calls it.
    pub(super) title: &'static str,
    /// Fetches and builds what the suite needs, in the directory [`Suite::place`] of the cache.
    pub(super) prepare: fn() -> Result<Prepared>,
    pub(super) run: fn(&Run, &mut dyn FnMut(Case)) -> Result<()>,
    /// Files and directories besides that of the suite that a guest needs.
    pub(super) tools: fn() -> Result<Vec<PathBuf>>,
    /// Why ours fails what it fails.
    pub(super) excuses: &'static [Excuse],
}

/// A test that asks for something that no other program could or should have, or that a machine does not give.
#[derive(Debug)]
pub(super) struct Excuse {
    /// Its whole name.
    pub(super) test: &'static str,
    /// A sentence for the page.
    pub(super) reason: &'static str,
    /// Where it holds.
    pub(super) places: &'static [Place],
    /// Whether the test passes there at times.
    pub(super) wavers: bool,
}

impl Excuse {
    /// One that holds on any machine.
    pub(super) const fn anywhere(test: &'static str, reason: &'static str) -> Self {
        Self { test, reason, places: &Place::ALL, wavers: false }
    }

    /// One of a test that fails on any machine, but not always.
    pub(super) const fn at_times(test: &'static str, reason: &'static str) -> Self {
        Self { test, reason, places: &Place::ALL, wavers: true }
    }

    /// One that holds in guests, and says nothing of this machine.
    pub(super) const fn in_guests(test: &'static str, reason: &'static str) -> Self {
        Self { test, reason, places: &[Place::Guest, Place::Systemd], wavers: false }
    }

    /// One that holds on this machine, and says nothing of guests.
    pub(super) const fn here(test: &'static str, reason: &'static str) -> Self {
        Self { test, reason, places: &[Place::Host], wavers: false }
    }
}

/// A suite that can be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Prepared {
    pub(super) directory: PathBuf,
    /// Of the suite's source.
    pub(super) version: String,
}

/// All that a suite must know to judge a subject.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) suite: String,
    pub(super) prepared: Prepared,
    pub(super) kind: Kind,
    pub(super) place: Place,
    /// The runtime.
    pub(super) program: PathBuf,
    /// The directory with it and its libraries, if it does not use the system's.
    pub(super) libraries: Option<PathBuf>,
    /// Only tests whose names contain it.
    pub(super) filter: Option<String>,
    /// An empty directory that any user may pass; removed afterwards.
    pub(super) scratch: PathBuf,
}

/// For a suite that needs nothing besides its directory.
#[expect(clippy::unnecessary_wraps, reason = "suites that need something may not find it")]
pub(super) fn no_tools() -> Result<Vec<PathBuf>> {
    Ok(Vec::new())
}

impl Suite {
    /// Why ours may fail a test there.
    pub(super) fn excuse(&self, test: &str, place: Place) -> Option<&'static Excuse> {
        self.excuses.iter().find(|excuse| excuse.test == test && excuse.places.contains(&place))
    }

    /// The tests that are excused on the machine of a whole run of ours, and did not fail in it: they pass by now, are
    /// skipped, or have gone from the suite.
    pub(super) fn stale(&self, record: &Record) -> Vec<&'static str> {
        let excuses = self.excuses.iter().filter(|excuse| excuse.places.contains(&record.place));
        let idle = excuses.filter(|excuse| !excuse.wavers && record.failed().all(|test| test != excuse.test));
        idle.map(|excuse| excuse.test).collect()
    }

    /// Where in the cache it lies.
    pub(super) fn place(&self) -> PathBuf {
        Path::new("conformance").join(self.name)
    }
}

impl Run {
    pub(super) fn new(
        suite: &Suite,
        prepared: &Prepared,
        subject: &Subject,
        place: Place,
        filter: Option<String>,
    ) -> Self {
        Self {
            suite: suite.name.to_owned(),
            prepared: prepared.clone(),
            kind: subject.kind,
            place,
            program: subject.program.clone(),
            libraries: subject.libraries.clone(),
            filter,
            scratch: PathBuf::new(),
        }
    }

    pub(super) fn suite(&self) -> Result<&'static Suite> {
        let found = SUITES.iter().find(|suite| suite.name == self.suite);
        found.with_context(|| format!("find the suite {}", self.suite))
    }

    /// True when the test is among those that were asked for.
    pub(super) fn wants(&self, test: &str) -> bool {
        self.filter.as_deref().is_none_or(|part| test.contains(part))
    }
}
