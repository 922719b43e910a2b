//! Where a new container's cgroup will be, who makes it, and what is written there.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};

use bulkhead_cgroup::systemd::{Location, Manager, Prepared, Systemd, Wait};
use bulkhead_cgroup::{Cgroup, CgroupPath, Devices, Host, Need, Places, Plan as Limits, Record, View};

use crate::error::{Error, Result};
use crate::host::Rights;
use crate::launch::{Cgroups, Request};
use crate::plan::Plan;
use crate::plan::mounts::Source;
use crate::watch::{Watch, until_readable};

/// All that is decided before anything is made.
pub(crate) struct CgroupPlan {
    host: Host,
    limits: Limits,
    maker: Maker,
    id: String,
}

enum Maker {
    /// The runtime, before the container's process is born into it.
    Runtime(Places, Need),
    /// systemd, around the process.
    Systemd(Box<Prepared>),
}

impl CgroupPlan {
    /// Plans the cgroup of a container that gets one.
    ///
    /// # Errors
    /// A path or a limit that cannot be, by its place in the configuration; a systemd that does not answer.
    pub(crate) fn new(plan: &Plan, request: &Request<'_>, rights: Rights) -> Result<Option<Self>> {
        let need = match (request.cgroups, &plan.cgroup.path) {
            (Cgroups::None, _) => return Ok(None),
            (Cgroups::IfPermitted, None) => Need::IfPermitted,
            _ => Need::Required,
        };
        let host = match Host::detect() {
            Err(bulkhead_cgroup::Error::NoHierarchy) if need == Need::IfPermitted => Host::without_cgroups(),
            other => other?,
        };
        let limits = |host| {
            let devices = if rights == Rights::Privileged { Devices::Enforced } else { Devices::Untouched };
            Limits::for_container(Some(&plan.cgroup.resources), host, devices).map_err(of_resources)
        };
        let (path, id) = (plan.cgroup.path.as_deref(), request.id.as_str());
        let (limits, maker) = match request.cgroups {
            Cgroups::Systemd(manager) => {
                let location = Location::from_config(path, id, manager).map_err(|error| of_path(&error))?;
                let limits = limits(&host)?;
                let prepared = prepare(manager, &host, location, &limits, plan, request.watch)?;
                (limits, Maker::Systemd(Box::new(prepared)))
            }
            _ => {
                let path = CgroupPath::from_config(path, id).map_err(|error| of_path(&error))?;
                let places = Places::find(&host, &path)?;
                (limits(&host)?, Maker::Runtime(places, need))
            }
        };
        Ok(Some(Self { host, limits, maker, id: id.to_owned() }))
    }

    /// Lists what is ignored, in sentences for the log.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = &String> {
        let of_systemd = match &self.maker {
            Maker::Runtime(..) => &[],
            Maker::Systemd(prepared) => prepared.warnings(),
        };
        self.limits.warnings().iter().chain(of_systemd)
    }

    /// Returns what is saved before anything is made.
    ///
    /// # Errors
    /// A directory that cannot be looked at.
    pub(crate) fn record(&self) -> Result<Record> {
        match &self.maker {
            Maker::Runtime(places, _) => Ok(places.record()?),
            Maker::Systemd(prepared) => Ok(prepared.record()),
        }
    }

    /// Makes it, if that is the runtime's to do.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub(crate) fn make(&self, record: &Record) -> Result<Option<Cgroup>> {
        match &self.maker {
            Maker::Runtime(places, need) => {
                Cgroup::create(places, record, &self.limits, *need).map(Some).map_err(of_resources)
            }
            Maker::Systemd(_) => Ok(None),
        }
    }

    /// Has systemd make it around a process, if that is systemd's to do.
    ///
    /// # Errors
    /// As [`Prepared::create`], and [`Error::Interrupted`].
    pub(crate) fn make_around(&mut self, pid: i32, watch: Option<&Watch>) -> Result<Option<Cgroup>> {
        match &mut self.maker {
            Maker::Runtime(..) => Ok(None),
            Maker::Systemd(prepared) => {
                let create = |wait: Wait<'_>| prepared.create(pid, &self.id, &self.limits, wait);
                ask(watch, create, of_resources).map(Some)
            }
        }
    }

    /// Tells whether the container's process has to wait until [`CgroupPlan::make_around`] has put it into its cgroup.
    pub(crate) fn is_for_systemd(&self) -> bool {
        matches!(self.maker, Maker::Systemd(_))
    }

    /// Returns the connection to systemd, which is no business of the container's process.
    pub(crate) fn connection(&self) -> Option<BorrowedFd<'_>> {
        match &self.maker {
            Maker::Runtime(..) => None,
            Maker::Systemd(prepared) => Some(prepared.as_fd()),
        }
    }

    fn views(&self, made: Option<&Cgroup>) -> Vec<View> {
        match (&self.maker, made) {
            (Maker::Systemd(prepared), _) => Cgroup::open(&prepared.record()).views(&self.host),
            (_, made) => made.map(|made| made.views(&self.host)).unwrap_or_default(),
        }
    }
}

/// Lists the hierarchies to mount for a container, of which those exist that are made.
pub(crate) fn views(plan: &Plan, cgroup: Option<&CgroupPlan>, made: Option<&Cgroup>) -> Vec<View> {
    let own = cgroup.map(|cgroup| cgroup.views(made)).unwrap_or_default();
    let is_shown = || plan.mounts.iter().any(|mount| mount.source == Source::Cgroup);
    // A machine without any has nothing to show.
    if own.is_empty() && is_shown() { View::of_caller().unwrap_or_default() } else { own }
}

fn prepare(
    manager: Manager,
    host: &Host,
    location: Location,
    limits: &Limits,
    plan: &Plan,
    watch: Option<&Watch>,
) -> Result<Prepared> {
    let connect = |wait: Wait<'_>| {
        Systemd::connect(manager, wait)
            .and_then(|systemd| systemd.prepare(host, location, limits, &plan.annotations))
    };
    ask(watch, connect, |error| match &error {
        bulkhead_cgroup::Error::Annotation { key, reason } => {
            let key = key.replace('~', "~0").replace('/', "~1");
            Error::invalid(format!("/annotations/{key}"), *reason)
        }
        _ => error.into(),
    })
}

/// Asks systemd for something, with an ear for signals.
fn ask<T>(
    watch: Option<&Watch>,
    question: impl FnOnce(Wait<'_>) -> bulkhead_cgroup::Result<T>,
    explain: impl FnOnce(bulkhead_cgroup::Error) -> Error,
) -> Result<T> {
    let interruption = Cell::new(None);
    let answer = question(&|socket, limit| {
        until_readable(socket, Some(limit), watch).map_err(|error| {
            interruption.set(Some(error));
            bulkhead_cgroup::Error::Interrupted
        })
    });
    answer.map_err(|error| interruption.take().unwrap_or_else(|| explain(error)))
}

fn of_path(error: &bulkhead_cgroup::Error) -> Error {
    Error::invalid("/linux/cgroupsPath", error.to_string())
}

/// Names the place of a limit that cannot be.
fn of_resources(error: bulkhead_cgroup::Error) -> Error {
    match error {
        bulkhead_cgroup::Error::Invalid { pointer, reason } => {
            Error::invalid(format!("/linux/resources{pointer}"), reason)
        }
        bulkhead_cgroup::Error::NoPageSize { .. } => {
            Error::invalid("/linux/resources/hugepageLimits", error.to_string())
        }
        other => other.into(),
    }
}
