//! Who has a network that is another's: a container with `--network container:NAME`, or a process of the host in it (nsenter(1)).
//!
//! A network namespace lives as long as anybody is in it, and its devices with it. When its owner has ended they would keep addresses
//! that are given to others, on the same bridge. So they are taken away: with the owner's end where it is noted that the network is shared, as soon as
//! a command notices that; by the owner's next start, which finds their names taken; and by a check.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_net::bridge::end_of;
use bulkhead_net::device::Devices;
use bulkhead_shim::order::NamespaceKind;

use super::change::delete;
use super::host::Host;
use crate::configure::Caller;
use crate::create::FILES;
use crate::engine::Engine;
use crate::error::{Doing, Result};
use crate::host;
use crate::known::Known;
use crate::leftover::Leftover;

use crate::request::Network;

/// Is there while a network is shared, in its owner's directory below `run`.
const NOTE: &str = "shared";
/// How often, and with which pauses, devices are looked at that may go by themselves.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Whose network a container has.
#[derive(Debug)]
pub(crate) struct Owner {
    /// The id of a container or pod.
    id: String,
    /// The directory of the files by which names are found in it.
    pub(crate) files: PathBuf,
    /// Whether it is connected with networks of the engine.
    is_connected: bool,
}

impl Engine {
    /// Finds whose network a container has: its own, its pod's, or what the container has whose network it shares.
    pub(crate) fn owner_of_network(&self, known: &Known) -> Result<Owner> {
        let places = self.places();
        let Known { record, document, .. } = known;
        match (&document.request.namespaces.network, &record.pod) {
            (Network::Container(other), _) => {
                self.owner_of_network(&self.peer(NamespaceKind::Network, other)?)
            }
            (Network::Pod, Some(pod)) => {
                let request = self.request_of_pod(pod)?;
                let is_connected = !request.network.connections().is_empty();
                Ok(Owner { id: pod.clone(), files: places.pod(pod).join(FILES), is_connected })
            }
            (network, _) => Ok(Owner {
                id: record.id.clone(),
                files: places.container(&record.id).join(FILES),
                is_connected: !network.connections().is_empty(),
            }),
        }
    }

    /// Notes at the owner of a network that a container shares it which is about to start. The note stays while the owner exists: a
    /// sharer that its policy starts again comes into the network that the owner has then.
    pub(crate) fn note_sharer(&self, known: &Known) -> Result<()> {
        let Network::Container(_) = known.document.request.namespaces.network else { return Ok(()) };
        let owner = self.owner_of_network(known)?;
        // What carries an ordinary user's packets ends with the owner.
        if !owner.is_connected || host::caller() != Caller::Root {
            return Ok(());
        }
        let path = self.owner_run(&owner.id).join(NOTE);
        match File::create(&path) {
            // The owner is gone, and the start fails.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            noted => noted.map(drop).doing(|| format!("make {}", path.display())),
        }
    }

    /// Tells whether containers that are none of it have, or had, the network of a container or pod.
    pub(super) fn is_shared(&self, owner: &str) -> bool {
        self.owner_run(owner).join(NOTE).exists()
    }

    /// Finds devices of containers that have ended, in whose namespaces somebody is still. Those that the kernel has not come to yet are
    /// waited for.
    pub(super) fn ends_left(&self) -> Result<Vec<Leftover>> {
        let devices = Devices::open()?;
        let mut left = BTreeSet::new();
        for look in 0..LOOKS {
            left = self.owners_of_ends(&devices)?;
            if left.is_empty() {
                break;
            }
            if look + 1 < LOOKS {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(left.into_iter().map(Leftover::End).collect())
    }

    /// Lists who has devices in networks of this engine, and does not run.
    fn owners_of_ends(&self, devices: &Devices) -> Result<BTreeSet<String>> {
        let networks = BTreeSet::from_iter(self.store.networks()?.into_iter().map(|record| record.id));
        let listed = devices.list()?;
        let owners = listed.iter().filter_map(end_of).filter_map(|(network, owner)| {
            // Others may be of another engine on this host.
            networks.contains(network).then_some(owner?)
        });
        let mut ended = BTreeSet::new();
        for owner in BTreeSet::from_iter(owners) {
            if !self.is_live(owner)? {
                ended.insert(owner.to_owned());
            }
        }
        Ok(ended)
    }

    /// Takes the devices of what has ended away.
    pub(crate) fn take_ends_left(&self, owner: &str) -> Result<()> {
        let host = Host::hold(self)?;
        if self.is_live(owner)? { Ok(()) } else { host.take_ends(owner) }
    }
}

impl Host<'_> {
    /// Takes the devices of an owner away that has ended, in whatever namespaces their other ends are.
    pub(super) fn take_ends(&self, owner: &str) -> Result<()> {
        let devices = self.devices.list()?;
        let its = devices.iter().filter(|device| end_of(device).is_some_and(|(_, of)| of == Some(owner)));
        its.into_iter().try_for_each(|device| delete(&self.devices, &device.name))
    }
}
