//! What crashes left, as far as it is the engine's: half made and half removed containers, files, mounts, cgroups and states
//! without a record. Each is found by looking, so that nothing has to be written for it beforehand.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bulkhead_net::cni::Key;
use bulkhead_net::firewall::Firewall;
use bulkhead_shim::{Order, client, place};
use bulkhead_store::{ContainerRecord, NetworkRecord, PodRecord, Stage};
use bulkhead_sys::mountinfo;

use crate::astray::usual_cgroups;
use crate::cgroups;
use crate::container::State;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::id;
use crate::known::Known;
use crate::life::Lost;
use crate::network::{Overlapped, Refused};
use crate::rootfs::{UPPER, WORK};
use crate::runtime;
use crate::volume::VolumeDocument;

/// Something that should not be there, or is not there and should be.
#[derive(Debug)]
pub(crate) enum Leftover {
    /// Something is mounted where the engine mounts nothing.
    Mount(PathBuf),
    /// A container's record or status that this program cannot read.
    Unread(ContainerRecord, Error),
    /// A container whose removal was begun.
    HalfRemoved(Known),
    /// A container whose maker died before it ran, and that was to remove itself.
    Abandoned(Known),
    /// A container that was to remove itself and has ended.
    Ended(Known),
    /// A container whose monitor died, and that nobody has ended yet.
    Unwatched(Known),
    /// A container that runs, and whose directory below `run` is gone.
    Astray(Known),
    /// A container whose policy starts it again, and whose monitor died.
    Lost(Known),
    /// A container whose maker died before its directories were there.
    Unmade(Known),
    /// A container that does not run, of which its runtime still has something.
    Remains(Known),
    /// A container that does not run, and its cgroups.
    Cgroups(Known, Vec<PathBuf>),
    /// A directory that no container and no pod has.
    Directory(PathBuf),
    /// Something among the directories of containers that is none.
    Stranger(PathBuf),
    /// What a runtime knows of a container that is not there: its states' directory, and the container's id.
    State(PathBuf, String),
    /// A volume of a container that is not there.
    Volume(String),
    /// A volume that somebody who died has half filled.
    HalfFilled(String),
    /// A pod whose removal was begun.
    HalfRemovedPod(PodRecord),
    /// A network whose removal was begun.
    HalfRemovedNetwork(NetworkRecord),
    /// Ports of the host that lead to a container or pod which has ended: its id.
    Ports(String),
    /// Devices of a container or pod which has ended, in whose network somebody is still: its id.
    End(String),
    /// A program that carries the packets of a container which has ended: its id.
    Carrier(String),
    /// What plugins of a network from elsewhere have made for a container or pod which has ended.
    Attachment(Key),
    /// The rules by which packets of networks find their way are not there.
    Flushed,
    /// A network whose bridge was taken away under its containers.
    Unplugged(NetworkRecord),
    /// A network whose subnet the host has by now, too.
    Overlapped(Overlapped),
    /// A bridge of a network that is not there, by its name.
    Bridge(String),
    /// A container or pod that runs, and whose ports nobody carries or holds as they should be: its id.
    Unhelped(String),
    /// A container or pod that runs, and whose packets nobody carries any more: its id, and that of a container.
    Uncarried(String, String),
    /// As that, and nobody can before its next start.
    CutOff(String, String),
    /// A container or pod that runs, and does not reach itself by its ports of the host: its id.
    NoReturn(String),
    /// A container that runs, and whose questions for names nobody answers: its id.
    Unanswered(String),
    /// A container or pod that runs, and the ports that it has not got again: programs of the host took them, or their addresses are gone.
    RefusedPorts(String, Refused),
    /// A container or pod that runs, and of which nobody can read what it has on the host: its id.
    UnreadPorts(String, Error),
    /// A firewall of the host that drops what containers send, or what comes to their ports.
    ShutIn(Firewall),
}

impl Leftover {
    /// Names it.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Unread(record, _) => format!("container {}", record.name),
            Self::HalfRemoved(known)
            | Self::Abandoned(known)
            | Self::Ended(known)
            | Self::Unwatched(known)
            | Self::Astray(known)
            | Self::Lost(known)
            | Self::Unmade(known)
            | Self::Remains(known)
            | Self::Cgroups(known, _) => format!("container {}", known.record.name),
            Self::Mount(path) | Self::Directory(path) | Self::Stranger(path) => path.display().to_string(),
            Self::State(states, _) => states.display().to_string(),
            Self::Volume(name) => format!("volume {}", id::short(name)),
            Self::HalfFilled(name) => format!("volume {name}"),
            Self::HalfRemovedPod(record) => format!("pod {}", record.name),
            Self::HalfRemovedNetwork(record)
            | Self::Unplugged(record)
            | Self::Overlapped(Overlapped { record, .. }) => format!("network {}", record.name),
            Self::Carrier(owner) | Self::End(owner) | Self::Uncarried(owner, _) | Self::CutOff(owner, _) => {
                format!("network of {}", id::short(owner))
            }
            Self::Unanswered(container) => format!("names of {}", id::short(container)),
            Self::Bridge(name) => format!("bridge {name}"),
            Self::Ports(owner)
            | Self::Unhelped(owner)
            | Self::NoReturn(owner)
            | Self::RefusedPorts(owner, _)
            | Self::UnreadPorts(owner, _) => format!("ports of {}", id::short(owner)),
            Self::Attachment(key) => {
                format!("{} of {} in network {}", key.interface(), id::short(key.container()), key.network())
            }
            Self::Flushed => "packet filter".into(),
            Self::ShutIn(_) => "the host's firewall".into(),
        }
    }

    /// Says what is wrong with it.
    pub(crate) fn problem(&self) -> String {
        match self {
            Self::Mount(_) => "something is mounted there".into(),
            Self::Unread(_, error) | Self::UnreadPorts(_, error) => error.to_string(),
            Self::Unplugged(_) => "its bridge was taken away, and its containers reach nobody".into(),
            Self::Overlapped(overlapped) => overlapped.problem(),
            Self::Bridge(_) => "its network is gone".into(),
            Self::HalfRemoved(_) | Self::HalfRemovedPod(_) | Self::HalfRemovedNetwork(_) => {
                "its removal was begun".into()
            }
            Self::Carrier(_) => "the program that carries its packets runs, and it has ended".into(),
            Self::Ports(_) => "they lead to what has ended".into(),
            Self::End(_) => "it has ended, and somebody is in it with its addresses".into(),
            Self::Unhelped(_) => "the program that carries or holds them has died".into(),
            Self::Uncarried(..) | Self::CutOff(..) => "the program that carries its packets has died".into(),
            Self::NoReturn(_) => {
                "it does not reach itself by them since the host shows frames of bridges to its packet filter (br_netfilter)".into()
            }
            Self::Unanswered(..) => "the program that answers for its names has died".into(),
            Self::RefusedPorts(_, refused) => refused.to_string(),
            Self::Attachment(_) => "it was attached for what has ended".into(),
            Self::Flushed => "the rules of the networks are not there".into(),
            Self::ShutIn(firewall) => format!("it {}", firewall.effect()),
            Self::Abandoned(_) => "its maker died before it was started".into(),
            Self::Ended(_) => "it was to be removed at its end".into(),
            Self::Unwatched(_) => "its monitor died".into(),
            Self::Astray(_) => {
                "it runs, and its directory below `run` is gone, so that nobody reaches it".into()
            }
            Self::Lost(_) => "its monitor died, it is to be started".into(),
            Self::Unmade(_) => "its directories are not there".into(),
            Self::Remains(_) => "its runtime has something left of it".into(),
            Self::Cgroups(_, paths) => {
                let paths = Vec::from_iter(paths.iter().map(|path| path.display().to_string()));
                format!("it has ended, and its cgroups are there: {}", paths.join(", "))
            }
            Self::Directory(_) => "no container and no pod has this directory".into(),
            Self::Stranger(_) => "it is not the engine's".into(),
            Self::State(_, id) => format!("no container has the id {}", id::short(id)),
            Self::Volume(_) => "its container is gone".into(),
            Self::HalfFilled(_) => "what the image has at its place was not copied to the end".into(),
        }
    }

    /// Says what becomes of it when it is mended; nothing for what a program cannot mend.
    pub(crate) fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Mount(_) => Some("unmounted"),
            Self::Lost(_) => Some("started"),
            Self::Unhelped(_) | Self::Unanswered(..) | Self::Uncarried(..) => Some("started again"),
            Self::Unwatched(_) | Self::Astray(_) | Self::Carrier(_) => Some("ended"),
            Self::Unmade(_) => Some("made anew, empty"),
            Self::HalfFilled(_) => Some("emptied, to be filled again"),
            Self::Ports(_) | Self::Attachment(_) => Some("taken back"),
            Self::NoReturn(_) => Some("let back to it"),
            Self::End(_) => Some("disconnected"),
            Self::Flushed | Self::Unplugged(_) => Some("made anew"),
            Self::Overlapped(overlapped) => overlapped.is_movable().then_some("given another subnet"),
            Self::ShutIn(Firewall::Docker(_)) => Some("told to let them through"),
            Self::Unread(..)
            | Self::UnreadPorts(..)
            | Self::RefusedPorts(..)
            | Self::CutOff(..)
            | Self::Stranger(_)
            | Self::ShutIn(_) => None,
            Self::HalfRemoved(_)
            | Self::Abandoned(_)
            | Self::Ended(_)
            | Self::Remains(_)
            | Self::Cgroups(..)
            | Self::Directory(_)
            | Self::State(..)
            | Self::Volume(_)
            | Self::HalfRemovedPod(_)
            | Self::HalfRemovedNetwork(_)
            | Self::Bridge(_) => Some("removed"),
        }
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject(), self.problem())
    }
}

impl Engine {
    /// Finds what crashes left, in the order in which it can be mended. Nothing is changed.
    pub(crate) fn leftovers(&self) -> Result<Vec<Leftover>> {
        // Directories first: what has no record afterwards never gets one, since records come before and go after.
        let directories = self.directories()?;
        let states = self.states()?;
        let volumes = self.store.volumes()?;
        let records = self.store.containers()?;
        let pods = self.store.pods()?;
        let ids = records.iter().map(|record| &record.id).chain(pods.iter().map(|record| &record.id));
        let ids: BTreeSet<String> = ids.cloned().collect();
        let mut found = self.mounts()?;
        // The oldest first: others may share its namespaces.
        for record in records.into_iter().rev() {
            match self.look(record.clone()) {
                Ok(known) => found.extend(self.leftovers_of(known)?),
                Err(error @ Error::Damaged { .. }) => found.push(Leftover::Unread(record, error)),
                Err(error) => return Err(error),
            }
        }
        found.extend(self.leftovers_of_networks()?);
        let leaving = pods.into_iter().filter(|record| record.stage == Stage::Removing);
        found.extend(leaving.map(Leftover::HalfRemovedPod));
        for path in directories {
            match path.file_name().and_then(OsStr::to_str) {
                Some(name) if ids.contains(name) => {}
                Some(name) if id::is_id(name) => found.push(Leftover::Directory(path)),
                _ => found.push(Leftover::Stranger(path)),
            }
        }
        let unknown = states.into_iter().filter(|(_, id)| !ids.contains(id));
        found.extend(unknown.map(|(states, id)| Leftover::State(states, id)));
        for record in volumes {
            if !self.store.volume_users(&record.name)?.is_empty() {
                continue;
            }
            let goes_with = VolumeDocument::read(&record)?.goes_with;
            if goes_with.is_some_and(|id| !ids.contains(&id)) {
                found.push(Leftover::Volume(record.name));
            } else if self.is_half_filled(&record.name) && self.is_idle(&record.name) {
                found.push(Leftover::HalfFilled(record.name));
            }
        }
        Ok(found)
    }

    /// Finds what is wrong with one container.
    fn leftovers_of(&self, known: Known) -> Result<Option<Leftover>> {
        if known.record.stage == Stage::Removing {
            if client::alive(&self.places().container_run(&known.record.id))? {
                // It is just ending, and its monitor has its removal finished.
                return Ok(None);
            }
            return Ok(Some(Leftover::HalfRemoved(known)));
        }
        let goes = known.document.request.remove;
        let is_lost = known.life.lost == Some(Lost::Monitor);
        match known.life.state {
            State::Created if goes && !self.is_being_made(&known)? => {
                return Ok(Some(Leftover::Abandoned(known)));
            }
            State::Exited if is_lost && !goes && known.starts_again() => {
                return Ok(Some(Leftover::Lost(known)));
            }
            _ if known.is_to_be_ended(self) => return Ok(Some(Leftover::Unwatched(known))),
            State::Exited if goes => return Ok(Some(Leftover::Ended(known))),
            State::Created | State::Exited => {}
            _ if self.is_astray(&known)? => return Ok(Some(Leftover::Astray(known))),
            _ => return Ok(None),
        }
        let directory = self.places().container(&known.record.id);
        if !is_new(&known) && [UPPER, WORK].iter().any(|part| !directory.join(part).exists()) {
            return Ok(Some(Leftover::Unmade(known)));
        }
        // Whoever starts it holds it, and makes its status before its state and its cgroups.
        if known.has_state(self) && !self.has_begun(&known)? {
            return Ok(Some(Leftover::Remains(known)));
        }
        let cgroups = self.cgroups_of(&known)?;
        if !cgroups.is_empty() && !self.has_begun(&known)? {
            return Ok(Some(Leftover::Cgroups(known, cgroups)));
        }
        Ok(None)
    }

    /// Tells whether a container that did not run when it was looked at has begun to meanwhile.
    fn has_begun(&self, known: &Known) -> Result<bool> {
        match self.store.container(&known.record.id) {
            Ok(record) => {
                let run = self.places().container_run(&record.id);
                Ok(self.look(record)?.life.state.is_active() || client::alive(&run)?)
            }
            Err(error) if error.kind() == bulkhead_store::Kind::NotFound => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells whether somebody lives who means to start the container.
    fn is_being_made(&self, known: &Known) -> Result<bool> {
        let boot = self.boot()?;
        let maker = known.document.maker.as_ref();
        Ok(maker.is_none_or(|maker| maker.boot == boot && maker.process.runs()))
    }

    /// Finds what is mounted on or below directories of containers, the deepest first.
    fn mounts(&self) -> Result<Vec<Leftover>> {
        let parents = [self.places().container(""), self.places().container_run("")];
        let parents = parents.map(|parent| fs::canonicalize(&parent).unwrap_or(parent));
        let mounts = mountinfo::read().doing(|| "list the mounts")?;
        let is_below = |path: &Path| {
            parents.iter().any(|parent| path.starts_with(parent) && path.as_os_str() != parent.as_os_str())
        };
        let points = mounts.into_iter().rev().map(|mount| mount.point).filter(|point| is_below(point));
        Ok(points.map(Leftover::Mount).collect())
    }

    /// Finds the cgroups of a container by what its monitor was told.
    fn cgroups_of(&self, known: &Known) -> Result<Vec<PathBuf>> {
        let path = self.places().container_run(&known.record.id).join(place::ORDER);
        match Order::read(&path).ok().map(|order| order.cgroup) {
            Some(Some(cgroup)) => cgroups::find(&cgroup),
            Some(None) => Ok(Vec::new()),
            None => usual_cgroups(known),
        }
    }

    /// Lists the directories of containers and pods.
    fn directories(&self) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let places = self.places();
        for parent in [places.container(""), places.container_run(""), places.pod(""), places.pod_run("")] {
            found.extend(entries(&parent)?);
        }
        Ok(found)
    }

    /// Lists what runtimes know of containers.
    fn states(&self) -> Result<Vec<(PathBuf, String)>> {
        let mut found = Vec::new();
        for states in entries(&self.places().runtime(""))? {
            for state in entries(&states)? {
                let name = state.file_name().and_then(OsStr::to_str).map(runtime::of_state);
                let id = name.filter(|id| id::is_id(id));
                found.extend(id.map(|id| (states.clone(), id.to_owned())));
            }
        }
        Ok(found)
    }
}

/// Tells whether somebody may be making the container's directories at this moment.
fn is_new(known: &Known) -> bool {
    /// Longer than anybody takes from the record to the directories.
    const WHILE: u64 = 10_000_000_000;
    let age = crate::engine::now().saturating_sub(u64::try_from(known.record.created).unwrap_or(0));
    age < WHILE && known.document.maker.as_ref().is_some_and(|maker| maker.process.runs())
}

/// Lists a directory's entries; none when it is not there.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.doing(doing)?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).doing(doing)).collect()
}
