//! Connecting what is there with networks, and taking it away from them.

use std::os::fd::{AsFd as _, OwnedFd};

use bulkhead_net::device::{Change, Devices};
use bulkhead_net::flow::{self, Forgotten};
use bulkhead_net::names::Until;
use bulkhead_store::{Durability, Kind};
use bulkhead_sys::{path, process};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::host::Host;
use super::live::Live;
use super::start::{called, is_default};
use crate::container::State;
use crate::create::FILES;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::remove::Force;
use crate::request::{Connection, Network};
use crate::start::Moment;

impl Engine {
    /// Connects a container with a network, whether it runs or not; returns what the user should be told.
    ///
    /// # Errors
    /// For one that is connected with it already, or whose network is another's; an address that is taken.
    pub fn connect_network(&self, container: &str, connection: &Connection) -> Result<Vec<String>> {
        let known = self.find(container)?;
        let id = known.record.id;
        let _held = self.hold(&id)?;
        let known = self.find(&id)?;
        let record = self.store.network(&connection.network)?;
        let connection = Connection { network: record.name.clone(), ..connection.clone() };
        let mut connections = known.connections_to_change()?.to_vec();
        if self.connected(&id, &known.document.request)?.iter().any(|known| known.id == record.id) {
            let reason = format!("container {} is connected with it already", known.record.name);
            return Err(Error::Invalid { what: format!("network {}", record.name), reason });
        }
        connections.push(connection);
        // The addresses first: whoever is killed before the next step has taken one too many, which goes with the container.
        let joints = self.joints(&id, &connections)?;
        let mut warnings = Vec::new();
        if let Some(namespace) = Self::namespace_of(&known)? {
            let joint = joints.iter().find(|joint| joint.record.id == record.id).ok_or(Errno::NOENT);
            let joint = joint.doing(|| format!("find network {}", record.name))?;
            let inside = Devices::of(namespace.as_fd())?;
            let host = Host::hold(self)?;
            // Of somebody who was killed before it was recorded.
            unplug(&inside, &joint.device())?;
            let is_default = is_default(joint, &joints)
                && joints.iter().filter(|of| !of.gateways().is_empty()).count() == 1;
            let connected = host.connect(joint, namespace.as_fd(), &inside, is_default, &mut warnings);
            if let Err(error) = connected {
                self.store.connect(Durability::Process, |connected| connected.forget(&id, &record.id))?;
                return Err(error);
            }
            if joint.has_names() {
                host.enter_names(joint, &called(&known.record, &known.document))?;
                let mut live = Live::read(self, &id)?.unwrap_or_else(|| Live::of(&id));
                live.named_in.push(record.id.clone());
                live.write(self)?;
            }
        }
        let had_names = joints.iter().any(|joint| joint.has_names() && joint.record.id != record.id);
        let files = self.files_of(&known)?;
        self.change_connections(&id, connections)?;
        let known = self.find(&id)?;
        self.write_again(&known, &files)?;
        if let (false, Some(namespace)) = (had_names, Self::namespace_of(&known)?) {
            // Its monitor was told of no name server, so that one stays as long as that lives.
            let monitor = known.status.as_ref().map(|status| status.monitor.pid);
            let monitor = monitor.and_then(|pid| process::open_pidfd(pid).ok());
            let until = monitor.as_ref().map_or(Until::SomebodyStays, |monitor| Until::End(monitor.as_fd()));
            let resolvers = &known.document.request.hosts.servers;
            self.serve_names(&id, namespace.as_fd(), &joints, resolvers, until)?;
        }
        self.tell_network(&record, "connect", &[("container", &id)]);
        Ok(warnings)
    }

    /// Takes a container away from a network, whether it runs or not.
    ///
    /// # Errors
    /// For one that is not connected with it; one that is not there, unless that is forced.
    pub fn disconnect_network(&self, container: &str, network: &str, force: Force) -> Result<()> {
        let record = self.store.network(network)?;
        let known = match self.find(container) {
            Err(error) if error.kind() == Kind::NotFound && force == Force::Yes => return Ok(()),
            found => found?,
        };
        let id = known.record.id;
        let _held = self.hold(&id)?;
        let known = self.find(&id)?;
        let mut connections = known.connections_to_change()?.to_vec();
        let joints = self.joints(&id, &connections)?;
        let Some(joint) = joints.iter().find(|joint| joint.record.id == record.id) else {
            let reason = format!("container {} is not connected with it", known.record.name);
            return Err(Error::Invalid { what: format!("network {}", record.name), reason });
        };
        if let Some(namespace) = Self::namespace_of(&known)? {
            let host = Host::hold(self)?;
            unplug(&Devices::of(namespace.as_fd())?, &joint.device())?;
            // Its ports lead nowhere any more, as far as they led to that network.
            host.withdraw_in(&id, joint)?;
            for address in joint.endpoint.addresses() {
                flow::forget(Forgotten::Of(address))?;
            }
        }
        connections.retain(|of| of.network != record.name && of.network != record.id);
        self.change_connections(&id, connections)?;
        self.store.connect(Durability::Process, |connected| connected.forget(&id, &record.id))?;
        self.tell_network(&record, "disconnect", &[("container", &id)]);
        Ok(())
    }

    /// Returns the files by which a container finds others, as they would be written now.
    fn files_of(&self, known: &Known) -> Result<Vec<(&'static str, String)>> {
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        Ok(self.configured(known, image.as_ref(), Moment::Start)?.files)
    }

    /// Writes them into the files that the container has, unless somebody in it has changed these.
    fn write_again(&self, known: &Known, before: &[(&'static str, String)]) -> Result<()> {
        let directory = self.places().container(&known.record.id).join(FILES);
        for (name, text) in self.files_of(known)? {
            let path = directory.join(name);
            let is_untouched = |before: &str| std::fs::read(&path).is_ok_and(|now| now == before.as_bytes());
            let was = before.iter().find(|(of, _)| *of == name);
            if was.is_some_and(|(_, before)| *before != text && is_untouched(before)) {
                // In place: it is bound into the container.
                std::fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Has others find a container that runs by its new name.
    pub(crate) fn rename_in_networks(&self, id: &str) -> Result<()> {
        let Some(live) = Live::read(self, id)?.filter(|live| !live.named_in.is_empty()) else {
            return Ok(());
        };
        let known = self.find(id)?;
        let joints = self.joints(id, known.document.request.namespaces.network.connections())?;
        let host = Host::hold(self)?;
        let called = called(&known.record, &known.document);
        let is_named = |joint: &&super::address::Joint| live.named_in.contains(&joint.record.id);
        joints.iter().filter(is_named).try_for_each(|joint| host.enter_names(joint, &called))
    }

    fn change_connections(&self, id: &str, connections: Vec<Connection>) -> Result<()> {
        self.change(id, Durability::PowerLoss, |document: &mut Document| {
            document.request.namespaces.network = Network::Networks(connections);
        })
    }

    /// Opens the network namespace of a container that runs.
    pub(super) fn namespace_of(known: &Known) -> Result<Option<OwnedFd>> {
        let Some(process) = known.life.process.filter(|_| known.life.state.is_active()) else {
            return match known.life.state {
                State::Created | State::Exited => Ok(None),
                _ => Err(known.refuses("change the networks of")),
            };
        };
        let doing = || format!("open the network of container {}", known.record.name);
        let opened = path::open_host(format!("/proc/{}/ns/net", process.pid).as_ref(), OFlags::RDONLY);
        // It has had its number since before it was opened.
        match opened {
            Ok(namespace) if process.runs() => Ok(Some(namespace)),
            Ok(_) => Ok(None),
            Err(error) if error.errno() == Errno::NOENT => Ok(None),
            Err(error) => Err(error).doing(doing),
        }
    }
}

/// Takes a device away from a container, if it is there, and with it the host's at its other end.
fn unplug(inside: &Devices, device: &str) -> Result<()> {
    match inside.find(device)? {
        Some(_) => Ok(inside.change(vec![Change::delete(device)])?),
        None => Ok(()),
    }
}

impl Known {
    /// Returns the networks of a container that may have others.
    fn connections_to_change(&self) -> Result<&[Connection]> {
        let refuse = |reason: &str| {
            Err(Error::Invalid { what: format!("container {}", self.record.name), reason: reason.into() })
        };
        match &self.document.request.namespaces.network {
            Network::Networks(connections) => Ok(connections),
            Network::Host => refuse("it has the host's network: make it anew with `--network NAME`"),
            Network::Container(_) => refuse("it has the network of another container: connect that"),
            Network::Pod => {
                refuse("it has the network of its pod, which is decided by `bulkhead pod create --network`")
            }
            Network::Carried(_) => refuse("a program of its user's carries its packets: make it anew"),
            Network::None | Network::Default => {
                refuse("it was made to be without a network: make it anew with `--network NAME`")
            }
        }
    }
}
