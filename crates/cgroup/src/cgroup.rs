//! A container's cgroup: one directory in every hierarchy.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::apply;
use crate::devices::{Policy, Rules};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::freeze::{self, Freezer};
use crate::host::{Host, Version, membership};
use crate::path::{Place, Places, SubCgroups, below_root, paths};
use crate::plan::Plan;
use crate::procs;
use crate::systemd::Scope;
use crate::unified::Share;
use crate::{cpuset, unified};

/// Rights of a new directory.
const MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);

/// What a state file keeps, to find the cgroup again and to remove no more than was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The directory for each controller; the key of v2 is the empty string.
    pub paths: BTreeMap<String, String>,
    /// The directories that this container made, or is about to make, parents first.
    pub made: Vec<String>,
    /// The unit that systemd made, or is about to make, with the directory of v2.
    pub scope: Option<Scope>,
}

/// Whether a container may go without a cgroup when the caller has no right to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Lacking rights are an error.
    Required,
    /// Where rights are lacking, the container stays in the caller's cgroup, unless a limit was asked for. For
    /// rootless callers that give no `cgroupsPath`.
    IfPermitted,
}

/// A container's cgroup: one directory in each hierarchy that it joined.
#[derive(Debug)]
pub struct Cgroup {
    pub(crate) members: Vec<Member>,
    made: Vec<String>,
    pub(crate) scope: Option<Scope>,
}

/// The directory in one hierarchy.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) version: Version,
    pub(crate) controllers: Vec<String>,
    pub(crate) path: String,
    dir: OnceCell<Dir>,
}

impl Member {
    fn new(version: Version, controllers: Vec<String>, path: String) -> Self {
        Self { version, controllers, path, dir: OnceCell::new() }
    }

    pub(crate) fn dir(&self) -> Result<&Dir> {
        match self.dir.get() {
            Some(dir) => Ok(dir),
            None => {
                let dir = Dir::open(&self.path)?;
                Ok(self.dir.get_or_init(|| dir))
            }
        }
    }

    /// Opens one of the cgroup's files for writing, through the directory's descriptor if that is open anyway.
    pub(crate) fn open_to_write(&self, file: &str) -> Result<OwnedFd> {
        match self.dir.get() {
            Some(dir) => dir.open_to_write(file),
            None => Dir::open_file_by_path(&self.path, file, OFlags::WRONLY),
        }
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

impl Places {
    /// Looks which directories have to be made. The record is saved *before* [`Cgroup::create`], so that a crash at
    /// any moment leaves something to clean up by.
    ///
    /// Costs one access(2) for each hierarchy, and none for a path directly below the mount points.
    ///
    /// # Errors
    /// [`Error::System`] when a parent cannot be looked at.
    pub fn record(&self) -> Result<Record> {
        let mut made = Vec::new();
        for place in &self.0 {
            let mut missing = Vec::new();
            let mut rest = place.path.as_str();
            while let Some((parent, _)) = rest.rsplit_once('/') {
                if parent.len() <= place.mount_point.trim_end_matches('/').len() || exists(parent)? {
                    break;
                }
                missing.push(parent.to_owned());
                rest = parent;
            }
            made.extend(missing.into_iter().rev());
            made.push(place.path.clone());
        }
        Ok(Record { paths: self.paths(), made, scope: None })
    }
}

fn exists(path: &str) -> Result<bool> {
    match retry_on_intr(|| rustix::fs::accessat(CWD, path, Access::EXISTS, AtFlags::empty())) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(Error::system(path, "access(F_OK)", errno)),
    }
}

impl Cgroup {
    /// Makes the cgroup of a new container and sets its limits. On failure everything that was made is removed.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] and [`Error::Frozen`] for a cgroup that is in use, [`Error::NoController`] and
    /// [`Error::NoRights`] for limits that cannot be set, [`Error::Denied`] without the right to make the cgroup,
    /// [`Error::System`] otherwise.
    pub fn create(places: &Places, record: &Record, plan: &Plan, need: Need) -> Result<Self> {
        let mut cgroup = Self { members: Vec::with_capacity(places.0.len()), made: Vec::new(), scope: None };
        match cgroup.make(places, record, plan, need) {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.undo();
                Err(error)
            }
        }
    }

    fn make(&mut self, places: &Places, record: &Record, plan: &Plan, need: Need) -> Result<()> {
        let mut reused = false;
        for place in &places.0 {
            match self.make_place(place, record, plan) {
                Ok(is_new) => reused |= !is_new,
                Err(error) if need == Need::IfPermitted && error.is_denied() => {
                    self.members.retain(|member| member.path != place.path);
                }
                Err(error) if error.is_denied() => return Err(Error::Denied { source: Box::new(error) }),
                Err(error) => return Err(error),
            }
        }
        apply::create(self, plan, need, if reused { apply::History::Reused } else { apply::History::New })
    }

    /// Makes one directory and its missing parents; tells whether it is new.
    fn make_place(&mut self, place: &Place, record: &Record, plan: &Plan) -> Result<bool> {
        let parents = record.made.iter().filter(|path| is_above(path, &place.path));
        let mut new_parents = Vec::new();
        for parent in parents {
            if self.make_directory(parent)? {
                new_parents.push(parent.as_str());
            }
        }
        let is_new = self.make_directory(&place.path)?;
        let member = Member::new(place.version, place.controllers.clone(), place.path.clone());
        self.members.push(member);
        let Some(member) = self.members.last() else { return Ok(is_new) };
        if !is_new {
            let freezes = place.version == Version::V2 || member.has("freezer");
            refuse_if_used(member.dir()?, freezes.then_some(place.version))?;
        }
        match place.version {
            Version::V1 if member.has("cpuset") => {
                cpuset::inherit(member.dir()?, &place.mount_point, &new_parents, plan, is_new)?;
            }
            Version::V1 if member.has("cpu") => apply::to_parents(&new_parents, plan)?,
            Version::V1 => {}
            Version::V2 => {
                let share = if self.members.len() > 1 { Share::Needed } else { Share::All };
                unified::enable(member.dir()?, &place.mount_point, share, plan)?;
            }
        }
        Ok(is_new)
    }

    /// Makes a directory, remembering it; tells whether it was missing.
    fn make_directory(&mut self, path: &str) -> Result<bool> {
        match retry_on_intr(|| rustix::fs::mkdirat(CWD, path, MODE)) {
            Ok(()) => {
                self.made.push(path.to_owned());
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(Error::system(path, "mkdir()", errno)),
        }
    }

    /// Finds the cgroup of a container again. Directories are opened when they are needed.
    pub fn open(record: &Record) -> Self {
        let mut members: Vec<Member> = Vec::new();
        for (controller, path) in &record.paths {
            let version = if controller.is_empty() { Version::V2 } else { Version::V1 };
            match members.iter_mut().find(|member| member.path == *path && member.version == version) {
                Some(member) => member.controllers.push(controller.clone()),
                None => {
                    let controllers = Some(controller.clone()).filter(|name| !name.is_empty());
                    members.push(Member::new(version, controllers.into_iter().collect(), path.clone()));
                }
            }
        }
        Self { members, made: record.made.clone(), scope: record.scope.clone() }
    }

    /// Finds the cgroup that a process is in now, which a container with write access may have chosen itself.
    ///
    /// # Errors
    /// [`Error::System`] when the process is gone.
    pub fn of_process(host: &Host, pid: i32) -> Result<Self> {
        let text = crate::dir::read_proc(&format!("/proc/{pid}/cgroup"))?;
        let members = host.hierarchies().iter().filter_map(|hierarchy| {
            let below = below_root(membership(&text, hierarchy)?, &hierarchy.root)?;
            let slash = if below.is_empty() { "" } else { "/" };
            let path = format!("{}{slash}{below}", hierarchy.mount_point.trim_end_matches('/'));
            Some(Member::new(hierarchy.version, hierarchy.controllers.clone(), path))
        });
        Ok(Self { members: members.collect(), made: Vec::new(), scope: None })
    }

    /// Opens the sub-cgroups for a process that `exec` starts; without any it is the cgroup itself.
    ///
    /// # Errors
    /// [`Error::SubCgroup`] for a controller that the container has no cgroup of, [`Error::System`] with ENOENT for a
    /// sub-cgroup that does not exist.
    pub fn sub(&self, subs: &SubCgroups) -> Result<Self> {
        if let Some(argument) = subs.unknown(|name| self.members.iter().any(|member| member.has(name))) {
            let reason = "names an unknown controller or one of which the container has no cgroup";
            return Err(Error::SubCgroup { argument: argument.to_owned(), reason });
        }
        let members = self.members.iter().map(|member| {
            let below = subs.below(&member.controllers);
            let sub = Member::new(member.version, member.controllers.clone(), member.path.clone());
            if below.is_empty() {
                return Ok(sub);
            }
            // `below` is validated to have no NUL.
            let relative = std::ffi::CString::new(below).unwrap_or_default();
            let dir = member.dir()?.open_below(&relative)?;
            Ok(Member { path: dir.path().to_owned(), dir: OnceCell::from(dir), ..sub })
        });
        Ok(Self { members: members.collect::<Result<_>>()?, made: Vec::new(), scope: None })
    }

    /// Maps each controller to its directory; the key of v2 is the empty string.
    pub fn paths(&self) -> BTreeMap<String, String> {
        paths(self.members.iter().map(|member| (member.controllers.as_slice(), member.path.as_str())))
    }

    /// Returns what a state file needs to keep, now that it is known what was made.
    pub fn record(&self) -> Record {
        Record { paths: self.paths(), made: self.made.clone(), scope: self.scope.clone() }
    }

    /// Sets new limits, in an order that the values in force allow. Returns, in sentences for the log, what a systemd that
    /// manages the cgroup does not know of them.
    ///
    /// # Errors
    /// As [`Cgroup::create`]; [`Error::Partial`] when others had been set before, which stand.
    pub fn update(&self, plan: &Plan) -> Result<Vec<String>> {
        apply::update(self, plan)
    }

    /// Sets other rules about device nodes, [`Plan::devices`].
    ///
    /// # Errors
    /// [`Error::NoController`] where there are none, [`Error::System`] without the right to set any.
    pub fn change_devices(&self, policy: &Policy) -> Result<Rules> {
        apply::devices(self, policy)
    }

    pub(crate) fn v1(&self, controller: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.version == Version::V1 && member.has(controller))
    }

    pub(crate) fn v2(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.version == Version::V2)
    }

    pub(crate) fn made(&self) -> &[String] {
        &self.made
    }
}

/// Tells whether `path` is a parent directory of `below`.
fn is_above(path: &str, below: &str) -> bool {
    below.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

/// Refuses a directory that was there before and holds processes, or is frozen, which would stop the new container.
/// `freezes` says how, if it can be.
pub(crate) fn refuse_if_used(dir: &Dir, freezes: Option<Version>) -> Result<()> {
    let cgroup = || dir.path().to_owned();
    let count = procs::count(dir)?;
    if count > 0 {
        return Err(Error::NotEmpty { cgroup: cgroup(), count });
    }
    match freezes.map(|version| freeze::state_of(dir, version)).transpose()? {
        Some(Freezer::Frozen) => Err(Error::Frozen { cgroup: cgroup() }),
        _ => Ok(()),
    }
}
