//! What a container or pod has on the host while it runs, beyond its namespace: `network.json` in its directory below `run`,
//! written before anything of it is made.

use std::io::ErrorKind;
use std::path::PathBuf;

use bulkhead_net::rules;
use bulkhead_shim::client;
use bulkhead_shim::status::Process;
use bulkhead_store::Kind;
use serde::{Deserialize, Serialize};

use super::carrier::Carried;
use super::host::read_json;
use super::ports::PublishedPort;
use crate::create::make_directory;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::id;
use crate::request::PublishMode;

/// The newest version: of a file with ports that a helper carries, which would else be taken for the packet filter's.
const VERSION: u32 = 2;
const FILE: &str = "network.json";

/// `network.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Live {
    pub(super) version: u32,
    /// The id of the container or pod.
    pub(super) owner: String,
    /// The ids of the networks in which others find it by its names.
    #[serde(default)]
    pub(super) named_in: Vec<String>,
    /// The host's ports that lead to it.
    #[serde(default)]
    pub(super) ports: Vec<PublishedPort>,
    /// Those of them that programs of the host had when the last helper or carrier was started anew, and the homeless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) refused: Vec<PublishedPort>,
    /// Those whose addresses the host did not have then; not all of them need be refused still.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) homeless: Vec<PublishedPort>,
    /// The helper for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) proxy: Option<Proxy>,
    /// Those that plugins of a network from elsewhere lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) elsewhere: Vec<PublishedPort>,
    /// The program that carries all its packets, of an ordinary user's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) carrier: Option<Carried>,
}

/// The helper for an owner's ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proxy {
    /// What it does.
    pub(super) duty: PublishMode,
    /// Its process, once it has begun.
    pub(super) process: Option<Process>,
}

/// What was read of one, or its id and why not.
type Read = std::result::Result<Live, (String, Error)>;

impl Live {
    pub(super) fn of(owner: &str) -> Self {
        Self { owner: owner.to_owned(), ..Self::default() }
    }

    pub(super) fn write(&self, engine: &Engine) -> Result<()> {
        let directory = engine.owner_run(&self.owner);
        make_directory(&directory)?;
        let path = directory.join(FILE);
        let version = if self.is_carried() || self.carrier.is_some() { VERSION } else { 1 };
        let text = Self { version, ..self.clone() };
        bulkhead_shim::replace::with_json(&path, &text).doing(|| format!("write {}", path.display()))
    }

    /// Reads that of an owner; nothing of one that has nothing.
    pub(super) fn read(engine: &Engine, owner: &str) -> Result<Option<Self>> {
        let live: Self = read_json(&engine.owner_run(owner).join(FILE), VERSION)?;
        Ok(Some(live).filter(|live| !live.owner.is_empty()))
    }

    /// As [`Live::read`], and of one that nobody can read says that it may be found in each network: its ports are known to the rules.
    pub(super) fn read_to_end(engine: &Engine, owner: &str) -> Result<Option<Self>> {
        match Self::read(engine, owner) {
            Err(Error::Damaged { .. }) => {
                let networks = engine.store.networks()?;
                let named_in = networks.into_iter().map(|record| record.id).collect();
                Ok(Some(Self { named_in, ..Self::of(owner) }))
            }
            read => read,
        }
    }

    /// As [`Live::read`], to be added to: that of one which has none begins, and so does one that nobody can read.
    pub(super) fn read_to_add(engine: &Engine, owner: &str) -> Result<Self> {
        match Self::read(engine, owner) {
            Err(Error::Damaged { .. }) => Ok(Self::of(owner)),
            read => Ok(read?.unwrap_or_else(|| Self::of(owner))),
        }
    }

    /// Forgets that of an owner, if there is one.
    pub(super) fn forget(engine: &Engine, owner: &str) -> Result<()> {
        let path = engine.owner_run(owner).join(FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.doing(|| format!("remove {}", path.display())),
        }
    }

    /// Lists those of all containers and pods that run, but for those that nobody can read: they hold nobody up.
    pub(super) fn all(engine: &Engine) -> Result<Vec<Self>> {
        let read = Self::recorded(engine)?.into_iter();
        keep(read, |live| engine.is_live(&live.owner))
    }

    /// Lists those of all, whether they run or not, but for those that nobody can read.
    pub(super) fn recorded(engine: &Engine) -> Result<Vec<Self>> {
        Ok(Self::look(engine)?.into_iter().filter_map(Read::ok).collect())
    }

    /// Lists why those are not read that nobody can read, of what runs, by its id.
    pub(super) fn unread(engine: &Engine) -> Result<Vec<(String, Error)>> {
        let unread = Self::look(engine)?.into_iter().filter_map(Read::err);
        keep(unread, |(owner, _)| engine.is_live(owner))
    }

    fn look(engine: &Engine) -> Result<Vec<Read>> {
        let mut found: Vec<Read> = Vec::new();
        for kind in ["containers", "pods"] {
            let directory = engine.places().run.join(kind);
            let entries = match std::fs::read_dir(&directory) {
                // Nothing has run yet.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries.doing(|| format!("list {}", directory.display()))?,
            };
            for entry in entries {
                let name = entry.doing(|| format!("list {}", directory.display()))?.file_name();
                let owner = name.to_string_lossy();
                match Self::read(engine, &owner) {
                    Ok(live) => found.extend(live.map(Ok)),
                    Err(error @ Error::Damaged { .. }) => found.push(Err((owner.to_string(), error))),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Tells whether it is a helper, and not the packet filter, that leads its ports to it.
    fn is_carried(&self) -> bool {
        self.proxy.is_some_and(|proxy| proxy.duty == PublishMode::Proxy)
    }

    /// Tells whether a helper or a carrier has its ports at this moment.
    pub(super) fn has_helper(&self) -> bool {
        let carrier = self.carrier.as_ref().and_then(|carrier| carrier.process);
        let helper = self.proxy.and_then(|proxy| proxy.process).or(carrier);
        helper.is_some_and(|process| process.runs())
    }

    /// Returns those of its ports that no program of the host has taken.
    pub(super) fn had(&self) -> Vec<PublishedPort> {
        self.ports.iter().filter(|port| !self.refused.contains(port)).cloned().collect()
    }

    /// Returns those of its ports to which the packet filter leads.
    pub(super) fn translated(&self) -> &[PublishedPort] {
        if self.is_carried() || self.carrier.is_some() { &[] } else { &self.ports }
    }

    /// Returns the host's ports that lead to it, whoever leads them.
    pub(super) fn leading(self) -> Vec<PublishedPort> {
        [self.ports, self.elsewhere].concat()
    }

    /// Returns these as the packet filter has them.
    pub(super) fn rules(&self) -> impl Iterator<Item = rules::Port> {
        self.translated().iter().map(|port| port.rule(&self.owner))
    }
}

/// Keeps those of which something is so.
fn keep<T>(of: impl Iterator<Item = T>, is_so: impl Fn(&T) -> Result<bool>) -> Result<Vec<T>> {
    let mut kept = Vec::new();
    for one in of {
        if is_so(&one)? {
            kept.push(one);
        }
    }
    Ok(kept)
}

impl Engine {
    /// Tells whether a container or pod of this id runs, or is just being started.
    pub(super) fn is_live(&self, owner: &str) -> Result<bool> {
        match self.store.container(owner) {
            Ok(record) if record.id == owner => {
                return Ok(client::alive(&self.places().container_run(owner))? || self.is_held(owner)?);
            }
            Err(error) if error.kind() != Kind::NotFound => return Err(error.into()),
            _ => {}
        }
        for member in self.store.containers_of_pod(owner)? {
            if client::alive(&self.places().container_run(&member.id))? || self.is_held(&member.id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether somebody does something with a container at this moment.
    fn is_held(&self, id: &str) -> Result<bool> {
        Ok(self.places().container(id).exists() && !self.is_free(id)?)
    }

    /// Says how a container or pod is started anew.
    pub(crate) fn restarting(&self, owner: &str) -> String {
        let kind = if self.places().pod(owner).exists() { "pod " } else { "" };
        format!("`bulkhead {kind}restart {}`", id::short(owner))
    }

    /// The directory below `run` of a container, or of a pod: one that has a directory of pods.
    pub(super) fn owner_run(&self, owner: &str) -> PathBuf {
        let places = self.places();
        if places.pod(owner).exists() { places.pod_run(owner) } else { places.container_run(owner) }
    }
}
