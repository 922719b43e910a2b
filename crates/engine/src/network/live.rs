//! What a container or pod has on the host while it runs, beyond its namespace: `network.json` in its directory below `run`,
//! written before anything of it is made.

use std::io::ErrorKind;
use std::path::PathBuf;

use bulkhead_net::rules;
use bulkhead_shim::client;
use bulkhead_store::Kind;
use serde::{Deserialize, Serialize};

use super::host::read_json;
use super::ports::PublishedPort;
use crate::create::make_directory;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};

const VERSION: u32 = 1;
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
}

/// What was read of one that runs, or its id and why not.
type Read = std::result::Result<Live, (String, Error)>;

impl Live {
    pub(super) fn of(owner: &str) -> Self {
        Self { version: VERSION, owner: owner.to_owned(), named_in: Vec::new(), ports: Vec::new() }
    }

    pub(super) fn write(&self, engine: &Engine) -> Result<()> {
        let directory = engine.owner_run(&self.owner);
        make_directory(&directory)?;
        let path = directory.join(FILE);
        bulkhead_shim::replace::with_json(&path, self).doing(|| format!("write {}", path.display()))
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
        Ok(Self::look(engine)?.into_iter().filter_map(Read::ok).collect())
    }

    /// Lists why those are not read that nobody can read, of what runs, by its id.
    pub(super) fn unread(engine: &Engine) -> Result<Vec<(String, Error)>> {
        Ok(Self::look(engine)?.into_iter().filter_map(Read::err).collect())
    }

    fn look(engine: &Engine) -> Result<Vec<Read>> {
        let mut found: Vec<Read> = Vec::new();
        for kind in ["containers", "pods"] {
            let directory = engine.places().run.join(kind);
            for entry in std::fs::read_dir(&directory).doing(|| format!("list {}", directory.display()))? {
                let name = entry.doing(|| format!("list {}", directory.display()))?.file_name();
                let owner = name.to_string_lossy();
                let read = match Self::read(engine, &owner) {
                    Ok(None) => continue,
                    Ok(Some(live)) => Ok(live),
                    Err(error @ Error::Damaged { .. }) => Err((owner.to_string(), error)),
                    Err(error) => return Err(error),
                };
                if engine.is_live(&owner)? {
                    found.push(read);
                }
            }
        }
        Ok(found)
    }

    /// Returns its ports as the packet filter has them.
    pub(super) fn rules(&self) -> impl Iterator<Item = rules::Port> {
        self.ports.iter().map(|port| port.rule(&self.owner))
    }
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
        Ok(self.places().container(id).exists() && self.try_hold(id)?.is_none())
    }

    /// The directory below `run` of a container, or of a pod: one that has a directory of pods.
    fn owner_run(&self, owner: &str) -> PathBuf {
        let places = self.places();
        if places.pod(owner).exists() { places.pod_run(owner) } else { places.container_run(owner) }
    }
}
