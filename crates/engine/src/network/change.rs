//! Connecting what is there with networks, and taking it away from them.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bulkhead_net::bridge::{bridge_of, end_of};
use bulkhead_net::device::{self, Change, Device, Devices, IpFamily, Route};
use bulkhead_net::flow::{self, Forgotten};
use bulkhead_store::{Durability, Kind, NetworkRecord};
use bulkhead_sys::path;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::address::{EndpointDocument, Joint};
use super::connection_event;
use super::document::{Driver, NetworkDocument};
use super::elsewhere::{believe_as_usual, check_asked};
use super::host::{Host, Warnings};
use super::live::Live;
use super::start::called;
use super::ways::ranked;
use crate::container::State;
use crate::create::FILES;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::remove::Force;
use crate::request::{Connection, Network};
use crate::start::Moment;

/// The files by which a container finds others.
type Files = Vec<(&'static str, String)>;

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
        let record = self.network_to_join(&connection.network)?;
        connection.refuse_aliases_in(&record)?;
        let connection =
            Connection { network: record.name.clone(), id: Some(record.id.clone()), ..connection.clone() };
        let mut connections = known.connections_to_change()?.to_vec();
        if connections.iter().any(|of| of.is(&record)) {
            let reason = format!("container {} is connected with it already", known.record.name);
            return Err(Error::Invalid { what: format!("network {}", record.name), reason });
        }
        check_asked(&[(record.clone(), NetworkDocument::read(&record)?)], std::slice::from_ref(&connection))?;
        connections.push(connection);
        let files = self.files_before(&known)?;
        // One that is just starting is refused before anything is recorded.
        let namespace = Self::namespace_of(&known)?;
        // The addresses first: whoever is killed before the next step has taken one too many, which goes with the container.
        let is_running = namespace.is_some();
        let added = connections.last().filter(|_| is_running);
        let mut warnings = self.make_way(added.map(std::slice::from_ref).unwrap_or_default())?;
        let mut joints = self.joints_with(&id, &connections, |endpoint| endpoint.network == record.id)?;
        if let Some(namespace) = namespace {
            let joint = joints.iter().find(|joint| joint.record.id == record.id).ok_or(Errno::NOENT);
            let joint = joint.doing(|| format!("find network {}", record.name))?;
            if let Err(error) = self.plug_one(&known, joint, &joints, namespace.as_fd(), &mut warnings) {
                self.store.connect(Durability::Process, |connected| connected.forget(&id, &record.id))?;
                return Err(error);
            }
            // Plugins tell only now which addresses it has.
            joints = self.joints(&id, &connections)?;
            settle_ways(&ranked(&joints), &Devices::of(namespace.as_fd())?)?;
            let host = Host::hold(self)?;
            let before = Live::read_to_end(self, &id)?.map(Live::leading).unwrap_or_default();
            warnings.extend(self.publish_again(&host, &known, &joints, &before));
            if joints.iter().any(Joint::has_names) {
                let mut live = Live::read_to_add(self, &id)?;
                let is_new = |joint: &&Joint| !live.named_in.contains(&joint.record.id);
                let new = Vec::from_iter(joints.iter().filter(is_new));
                live.named_in.extend(new.iter().map(|joint| joint.record.id.clone()));
                live.write(self)?;
                let called = called(&known.record, &known.document);
                new.iter().try_for_each(|joint| host.enter_names(joint, &called))?;
            }
        }
        let known = self.reconnect(known, connections, files)?;
        warnings.extend(self.serve_as_now(&known)?);
        // Of one that does not run its start tells.
        if is_running {
            let _ = self.store.record_event(&connection_event(&record, "connect", &id));
        }
        Ok(warnings)
    }

    /// Connects a namespace with one more network.
    fn plug_one(
        &self,
        known: &Known,
        joint: &Joint,
        joints: &[Joint],
        namespace: BorrowedFd<'_>,
        warnings: &mut Warnings,
    ) -> Result<()> {
        let inside = Devices::of(namespace)?;
        if joint.is_elsewhere() {
            // Of somebody who was killed before it was recorded, as below.
            self.detach_joint(joint, Some(namespace))?;
            if joints.iter().any(|other| !other.is_elsewhere()) {
                device::inside(namespace, believe_as_usual)??;
            }
            return self.attach_one(joint, &called(&known.record, &known.document), &[], namespace).map(drop);
        }
        let host = Host::hold(self)?;
        // Of somebody who was killed before it was recorded.
        host.unplug(joint, &inside)?;
        if inside.find(&joint.device())?.is_some() {
            return Err(Error::Invalid {
                what: format!("device {} in container {}", joint.device(), known.record.name),
                reason: "it is none of the engine's; choose another name by \
                    `--driver-opt com.docker.network.endpoint.ifname=NAME`, or take it away there"
                    .to_owned(),
            });
        }
        let publishing = &known.document.request.publishing;
        host.connect(joint, namespace, &inside, &[], publishing, warnings)
    }

    /// Takes a container away from a network, whether it runs or not; returns what the user should be told.
    ///
    /// # Errors
    /// For one that is not connected with it; one that is not there, unless that is forced.
    pub fn disconnect_network(&self, container: &str, network: &str, force: Force) -> Result<Vec<String>> {
        let known = match self.find(container) {
            Err(error) if error.kind() == Kind::NotFound && force == Force::Yes => return Ok(Vec::new()),
            found => found?,
        };
        let id = known.record.id;
        let _held = self.hold(&id)?;
        let known = self.find(&id)?;
        let mut connections = known.connections_to_change()?.to_vec();
        // It may have been removed while the container did not run, and another one be called so.
        let is_gone = |of: &&Connection| {
            let is_called = of.network == network || of.id.as_deref() == Some(network);
            let is_there =
                |id: &String| !matches!(self.store.network(id), Err(error) if error.kind() == Kind::NotFound);
            is_called && !of.id.as_ref().is_some_and(is_there)
        };
        if let Some(gone) = connections.iter().find(is_gone).cloned() {
            connections.retain(|of| *of != gone);
            let files = self.files_before(&known)?;
            return self.reconnect(known, connections, files).map(|_| Vec::new());
        }
        let record = self.network_of_any(network)?;
        let connection = connections.iter().find(|of| of.is(&record)).cloned();
        let connection = match connection {
            Some(connection) => connection,
            // Somebody who connected it may have been killed half way: what was asked for is recorded with its addresses.
            None => self.recorded_in(&id, &record)?.ok_or_else(|| Error::Invalid {
                what: format!("network {}", record.name),
                reason: format!("container {} is not connected with it", known.record.name),
            })?,
        };
        let named = Connection { network: record.name.clone(), id: Some(record.id.clone()), ..connection };
        let joints = self.joints(&id, &[named])?;
        connections.retain(|of| !of.is(&record));
        let files = self.files_before(&known)?;
        let namespace = Self::namespace_of(&known)?;
        let mut warnings = Vec::new();
        for joint in joints.iter().filter(|joint| joint.is_elsewhere()) {
            self.detach_joint(joint, namespace.as_ref().map(OwnedFd::as_fd))?;
        }
        if let (Some(namespace), [joint]) = (namespace, &joints[..]) {
            let host = Host::hold(self)?;
            let inside = Devices::of(namespace.as_fd())?;
            let before = Live::read_to_end(self, &id)?.map(Live::leading).unwrap_or_default();
            host.unplug(joint, &inside)?;
            // Its ports lead nowhere any more, as far as they led to that network.
            host.withdraw_in(&id, joint)?;
            flow::forget(&Vec::from_iter(joint.own_addresses().into_iter().map(Forgotten::Of)))?;
            let left = self.joints(&id, &connections)?;
            settle_ways(&ranked(&left), &inside)?;
            warnings = self.publish_again(&host, &known, &left, &before);
        }
        let known = self.reconnect(known, connections, files)?;
        self.store.connect(Durability::Process, |connected| connected.forget(&id, &record.id))?;
        // A monitor of yesterday looks in vain for who has gone.
        drop(self.serve_as_now(&known)?);
        let _ = self.store.record_event(&connection_event(&record, "disconnect", &id));
        Ok(warnings)
    }
}

/// Has packets that go nowhere else go by the first of some networks that has such a way, unless somebody in the container has them go by
/// another device.
pub(super) fn settle_ways(joints: &[&Joint], inside: &Devices) -> Result<()> {
    let mut devices = Vec::new();
    for joint in joints {
        devices.extend(inside.find(&joint.device())?.map(|device| (device.index, joint.gateways())));
    }
    for family in [IpFamily::V4, IpFamily::V6] {
        let in_family = |gateways: &[IpAddr]| gateways.iter().copied().find(|of| IpFamily::of(*of) == family);
        let best = devices.iter().find_map(|(index, gateways)| Some((*index, in_family(gateways)?)));
        let Some((best, gateway)) = best else { continue };
        let everywhere = || -> Result<Vec<_>> {
            let is_everywhere =
                |route: &Route| route.to.prefix_len() == 0 && IpFamily::of(route.to.addr()) == family;
            Ok(inside.routes()?.into_iter().filter(is_everywhere).map(|route| route.device).collect())
        };
        let now = everywhere()?;
        // Several in one have no device of their own.
        let is_ours =
            |device: &Option<u32>| device.is_none_or(|of| devices.iter().any(|(index, _)| *index == of));
        if now == [Some(best)] || !now.iter().all(is_ours) {
            continue;
        }
        for (index, _) in devices.iter().filter(|(index, _)| *index != best && !now.is_empty()) {
            inside.end_default_routes(*index, family)?;
        }
        if everywhere()?.is_empty() {
            inside.change(vec![Change::default_route(best, gateway)])?;
        }
    }
    Ok(())
}

impl Engine {
    /// Returns what was asked for where something was connected with a network, by what is recorded of its addresses there.
    fn recorded_in(&self, owner: &str, network: &NetworkRecord) -> Result<Option<Connection>> {
        let endpoints = self.store.connected(|connected| connected.endpoints_of(owner))?;
        let endpoint = endpoints.iter().find(|endpoint| endpoint.network == network.id);
        endpoint.map(|endpoint| Ok(EndpointDocument::read(endpoint)?.connection)).transpose()
    }

    /// Records with which networks a container is connected, and writes the files by which it finds others.
    fn reconnect(&self, known: Known, connections: Vec<Connection>, files: Option<Files>) -> Result<Known> {
        let id = known.record.id.clone();
        drop(known);
        self.change_connections(&id, connections)?;
        let known = self.find(&id)?;
        files.map_or(Ok(()), |files| self.write_again(&known, &files))?;
        Ok(known)
    }

    /// Returns the files of a container that runs, before anything is changed. One that does not gets its files when it starts.
    fn files_before(&self, known: &Known) -> Result<Option<Files>> {
        known.life.state.is_active().then(|| self.files_of(known)).transpose()
    }

    /// Returns the files by which a container finds others, as they would be written now.
    pub(super) fn files_of(&self, known: &Known) -> Result<Files> {
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let joints = self.joints_of(known)?;
        Ok(self.configured(known, image.as_ref(), &joints, Moment::Start)?.files)
    }

    /// Writes them into the files that the container has, unless somebody in it has changed these.
    pub(super) fn write_again(&self, known: &Known, before: &[(&'static str, String)]) -> Result<()> {
        let directory = self.places().container(&known.record.id).join(FILES);
        for (name, text) in self.files_of(known)? {
            let path = directory.join(name);
            // What a container has made of it may be of any length.
            let has_length = |length: usize| {
                std::fs::symlink_metadata(&path).is_ok_and(|found| found.len() == length as u64)
            };
            let is_untouched = |before: &str| {
                has_length(before.len()) && std::fs::read(&path).is_ok_and(|now| now == before.as_bytes())
            };
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
        let Some(live) = Live::read_to_end(self, id)?.filter(|live| !live.named_in.is_empty()) else {
            return Ok(());
        };
        let known = self.find(id)?;
        let joints = self.joints(id, known.document.request.namespaces.network.connections())?;
        let host = Host::hold(self)?;
        let called = called(&known.record, &known.document);
        let is_named = |joint: &&Joint| live.named_in.contains(&joint.record.id);
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

impl Host<'_> {
    /// Takes what a container has in a network of the engine's away, whatever it has called it there or wherever it has put it.
    fn unplug(&self, joint: &Joint, inside: &Devices) -> Result<()> {
        if joint.is_elsewhere() {
            return Ok(());
        }
        match joint.document.driver {
            Driver::Bridge => self.unplug_pair(joint),
            Driver::Macvlan => self.unplug_macvlan(joint, inside),
            Driver::Host | Driver::None | Driver::Cni => Ok(()),
        }
    }

    /// The other end of the pair, which no container can reach, tells whose it is; both go.
    pub(super) fn unplug_pair(&self, joint: &Joint) -> Result<()> {
        let devices = self.devices.list()?;
        let bridge = devices.iter().find(|device| bridge_of(device) == Some(&joint.record.id));
        let begins = joint.outside_of_owner();
        // Its maker was killed before it was described.
        let is_half_made = |device: &Device| {
            let is_port = device.master.is_some() && device.master == bridge.map(|bridge| bridge.index);
            is_port && device.alias.is_none() && device.name.starts_with(&begins)
        };
        let is_its = |device: &&Device| match end_of(device) {
            Some((network, _)) if network != joint.record.id => false,
            Some((_, Some(owner))) => owner == joint.endpoint.owner,
            // Of an earlier version, which did not say whose it is.
            Some((_, None)) => device.name.starts_with(&begins),
            None => is_half_made(device),
        };
        devices.iter().filter(is_its).try_for_each(|device| delete(&self.devices, &device.name))
    }

    /// No two on one cable have the same hardware address.
    fn unplug_macvlan(&self, joint: &Joint, inside: &Devices) -> Result<()> {
        let parent = self.devices.find(joint.document.parent.as_deref().unwrap_or_default())?;
        let is_its = |device: &&Device| {
            // It may be called otherwise by now.
            let is_on_cable = parent.as_ref().is_none_or(|parent| device.parent == Some(parent.index));
            device.kind.as_deref() == Some("macvlan") && is_on_cable && device.mac == Some(joint.mac())
        };
        inside.list()?.iter().filter(is_its).try_for_each(|device| delete(inside, &device.name))
    }
}

/// Deletes a device unless it is gone.
pub(super) fn delete(devices: &Devices, name: &str) -> Result<()> {
    match devices.change(vec![Change::delete(name)]) {
        Err(error) if error.is(Errno::NODEV) => Ok(()),
        deleted => Ok(deleted?),
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
