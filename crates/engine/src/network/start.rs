//! What a container or pod gets when it starts: a network namespace with devices, addresses and routes, and ports of the host.
//!
//! All of it is made before its monitor is told to go on, which then holds the namespace; the devices go with that. Should
//! the start fail, or whoever makes it be killed, the namespace goes, and ports are found by what was recorded of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_net::bridge::{PORTS, Plug};
use bulkhead_net::device::{self, Change, Devices, Macvlan, Setting};
use bulkhead_net::flow::{self, Forgotten};
use bulkhead_net::names::Until;
use bulkhead_shim::order::{NamespaceKind, SharedNamespace};
use bulkhead_shim::status::Process;
use bulkhead_store::{ContainerRecord, Image, Noun, Stage};
use bulkhead_sys::process;
use rustix::io::Errno;

use super::address::Joint;
use super::carrier::carrier_of;
use super::document::{Driver, NetworkDocument};
use super::host::{Host, Warnings};
use super::live::Live;
use super::ports::PublishedPort;
use super::proxy::{self, Kept};
use super::ways::{WaysIn, gateways_by};
use crate::configure::Wiring;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::request::{ExposedPorts, Protocol, PublishMode, Publishing, Request};

/// The number of the loopback device, in every namespace (`LOOPBACK_IFINDEX`).
pub(super) const LOOPBACK: u32 = 1;

/// A network namespace that was made for a container or pod. Dropped before it is taken over, it goes, and so do the ports.
#[derive(Debug)]
pub(crate) struct Plugged<'engine> {
    engine: &'engine Engine,
    owner: String,
    namespace: OwnedFd,
    is_known: bool,
    is_taken_over: bool,
    /// What keeps the helper for its ports, until a monitor does.
    keeper: Option<OwnedFd>,
    /// What the user should be told.
    pub(crate) warnings: Warnings,
}

/// What came of connecting a namespace.
#[derive(Debug)]
pub(super) struct Wired {
    /// What the user should be told.
    warnings: Warnings,
    /// What keeps the helper for its ports.
    keeper: Option<OwnedFd>,
}

impl Engine {
    /// Makes the network namespace of a container or pod, with these parameters of the kernel, and connects it.
    pub(crate) fn plug(&self, wish: &Wish<'_>, parameters: &[(String, String)]) -> Result<Plugged<'_>> {
        let namespace = device::make_namespace()?;
        let mut plugged = Plugged {
            engine: self,
            owner: wish.owner.to_owned(),
            namespace,
            is_known: false,
            is_taken_over: false,
            keeper: None,
            warnings: Vec::new(),
        };
        let inside = Devices::of(plugged.namespace.as_fd())?;
        inside.change(vec![Change::bring_up(LOOPBACK)])?;
        if !parameters.is_empty() {
            device::inside(plugged.namespace.as_fd(), || set_all(parameters))??;
        }
        // From here on something of it may be known to the host.
        plugged.is_known = true;
        let wired = self.wire(wish, plugged.namespace.as_fd(), &inside, Kept::ByStarter)?;
        (plugged.warnings, plugged.keeper) = (wired.warnings, wired.keeper);
        Ok(plugged)
    }

    /// Connects a namespace with networks, and publishes ports.
    pub(super) fn wire(
        &self,
        wish: &Wish<'_>,
        namespace: BorrowedFd<'_>,
        inside: &Devices,
        kept: Kept,
    ) -> Result<Wired> {
        let Wish { owner, joints, publishing, called, resolvers, .. } = *wish;
        let is_elsewhere = joints.iter().any(Joint::is_elsewhere);
        let mut warnings = Vec::new();
        if is_elsewhere {
            // What an earlier start has left that was killed.
            self.detach_all(owner)?;
        }
        let host = Host::hold(self)?;
        if Live::read_to_end(self, owner)?.is_some() || self.is_shared(owner) {
            // What an earlier start has left that was killed, or that others still have.
            host.withdraw(owner)?;
        }
        // As with docker, so that what was written for other networks runs.
        let is_published = publishing.is_any() && (joints.is_empty() || WaysIn::of(joints).first().is_some());
        if publishing.is_any() && !is_published {
            warnings.push(
                "its networks are internal: no port is published, --publish changes nothing".to_owned(),
            );
        }
        // A conflict is found before anything is changed, but for addresses that the host has by the networks themselves.
        let is_early = !joints.iter().any(|joint| joint.is_published_at(publishing));
        let mut chosen = if is_published && is_early { host.choose(wish)? } else { None };
        for joint in joints.iter().filter(|joint| !joint.is_elsewhere()) {
            host.connect(joint, namespace, inside, &gateways_by(joint, joints), publishing, &mut warnings)?;
        }
        let first = joints.iter().find(|joint| joint.has_names());
        if first.is_some() {
            // Those without names, too: who is in one of them has a way out.
            let named_in = joints.iter().map(|joint| joint.record.id.clone()).collect();
            Live { named_in, ..Live::of(owner) }.write(self)?;
            joints.iter().try_for_each(|joint| host.enter_names(joint, called))?;
        }
        if is_published && !is_early {
            chosen = host.choose(wish)?;
        }
        let keeper = match chosen {
            Some(chosen) => host.publish(wish, chosen, kept, &mut warnings)?,
            None => None,
        };
        // Others need not wait for a name server that is started.
        drop(host);
        if let Some(first) = first {
            // The monitor stays with it once it has begun, however long that takes; a hook is over before.
            let own =
                process::open_pidfd(std::process::id().cast_signed()).doing(|| "open the own process")?;
            let until = match kept {
                Kept::ByStarter => Until::End(own.as_fd()),
                Kept::ByNobody => Until::SomebodyStays,
            };
            self.serve_names(owner, namespace, &first.record.id, resolvers, until)?;
        }
        if is_elsewhere {
            self.attach_all(wish, namespace, inside)?;
        }
        Ok(Wired { warnings, keeper })
    }

    /// Makes the network namespace of a container that is to start, and connects it; nothing for one that has none of the
    /// engine's networks, or whose namespace belongs to users of its own.
    pub(crate) fn plug_container(
        &self,
        known: &Known,
        image: Option<&Image>,
        joints: &[Joint],
    ) -> Result<Option<Plugged<'_>>> {
        let Known { record, document, .. } = known;
        if joints.is_empty() || document.users.is_some() {
            return Ok(None);
        }
        let exposed = exposed(&document.request, image);
        let called = called(record, document);
        // Parameters of the kernel are the runtime's business, which knows the container's.
        self.plug(&Wish::of(known, joints, &exposed, &called), &[]).map(Some)
    }

    /// Returns what a container has in its networks; nothing of one without.
    pub(crate) fn joints_of(&self, known: &Known) -> Result<Vec<Joint>> {
        match known.document.request.namespaces.network.connections() {
            [] => Ok(Vec::new()),
            connections => self.joints(&known.record.id, connections),
        }
    }

    /// Takes back what a container or pod had on the host while it ran. Its devices have gone with its namespace.
    pub(crate) fn unplug(&self, owner: &str) -> Result<()> {
        // Both, whatever becomes of the first.
        let detached = self.detach_all(owner);
        let withdrawn = match Live::read_to_end(self, owner)? {
            Some(live) if live.carrier.is_some() || self.is_carried(owner) => self.end_carrier(owner),
            Some(_) => Host::hold(self)?.withdraw(owner),
            None if self.is_shared(owner) => Host::hold(self)?.withdraw(owner),
            None => Ok(()),
        };
        detached.and(withdrawn)
    }
}

/// What a container or pod is to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// Its id.
    pub(crate) owner: &'a str,
    pub(crate) joints: &'a [Joint],
    pub(crate) publishing: &'a Publishing,
    /// The ports that are meant where all are published.
    pub(crate) exposed: &'a [ExposedPorts],
    /// How others find it, in networks that have names.
    pub(crate) called: &'a [String],
    /// Who is asked for other names, if its user has chosen some.
    pub(crate) resolvers: &'a [IpAddr],
}

impl<'a> Wish<'a> {
    pub(super) fn of(
        known: &'a Known,
        joints: &'a [Joint],
        exposed: &'a [ExposedPorts],
        called: &'a [String],
    ) -> Self {
        let request = &known.document.request;
        Self {
            owner: &known.record.id,
            joints,
            publishing: &request.publishing,
            exposed,
            called,
            resolvers: &request.hosts.servers,
        }
    }
}

/// How a container is called: docker's names of one, without those that its networks give it.
pub(super) fn called(record: &ContainerRecord, document: &Document) -> Vec<String> {
    let own = [record.name.clone(), crate::id::short(&record.id).to_owned()];
    own.into_iter().chain(document.request.hostname.clone()).collect()
}

impl Plugged<'_> {
    /// Says how its monitor gets it: from this process, which waits for that.
    pub(crate) fn handed(&self) -> Result<SharedNamespace> {
        let own = std::process::id().cast_signed();
        let holder = Process::find(own).ok_or(Errno::SRCH).doing(|| "find the own process")?;
        Ok(SharedNamespace { kind: NamespaceKind::Network, from: Some(self.path()), holder: Some(holder) })
    }

    /// Returns the file by which others open it as long as this process has it.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd()).into()
    }

    /// Leaves it to the monitor that has opened it.
    pub(crate) fn taken_over(mut self) -> Warnings {
        self.is_taken_over = true;
        std::mem::take(&mut self.warnings)
    }
}

impl Drop for Plugged<'_> {
    fn drop(&mut self) {
        if self.is_known && !self.is_taken_over {
            // What it fails for is told already; what stays is found by what was recorded.
            drop(self.engine.unplug(&self.owner));
        }
    }
}

/// Lists the ports that programs of a container listen at, as far as it is said.
pub(crate) fn exposed(request: &Request, image: Option<&Image>) -> Vec<ExposedPorts> {
    let named = image.into_iter().flat_map(|image| image.configuration.config.exposed_ports.keys());
    let named = named.filter_map(|port| port.parse().ok());
    let all: BTreeSet<ExposedPorts> = request.publishing.exposed.iter().copied().chain(named).collect();
    all.into_iter().collect()
}

/// Sets parameters of the kernel, in whose namespace this thread is.
fn set_all(parameters: &[(String, String)]) -> Result<()> {
    parameters.iter().filter(|(name, _)| name.starts_with("net.")).try_for_each(|(name, value)| {
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        std::fs::write(file, value).doing(|| format!("set the kernel parameter {name} to {value}"))
    })
}

/// Has the kernel forget where datagrams went that were sent to these ports before they led anywhere. To look through all that it
/// remembers takes about 9 ms, so that who publishes no port for datagrams does not.
pub(super) fn forget_before(ports: &[PublishedPort]) -> Result<()> {
    let datagrams = ports.iter().filter(|port| port.protocol == Protocol::Udp);
    let asked = datagrams.map(|port| Forgotten::To(port.protocol, SocketAddr::new(port.address, port.host)));
    Ok(flow::forget(&Vec::from_iter(asked)).map(drop)?)
}

/// Has the kernel forget who came by these ports, which it remembers though they lead nowhere any more: he would come to whoever has the
/// address next.
pub(super) fn forget_after(ports: &[PublishedPort]) -> Result<()> {
    let answered = ports.iter().map(|port| Forgotten::By(port.protocol, port.to));
    Ok(flow::forget(&Vec::from_iter(answered)).map(drop)?)
}

/// Tells how a container is connected, or will be, which has these.
pub(crate) fn wiring(request: &Request, joints: &[Joint]) -> Wiring {
    match carrier_of(&request.namespaces.network) {
        Some(carrier) => carrier.wiring(&request.hosts),
        None => wiring_of(joints),
    }
}

/// Tells how what has these is connected.
pub(crate) fn wiring_of(joints: &[Joint]) -> Wiring {
    let host = joints.iter().find(|joint| joint.document.driver == Driver::Bridge);
    Wiring {
        addresses: joints.iter().flat_map(Joint::own_addresses).collect(),
        host: host.and_then(|joint| joint.document.subnets.first()).map(|subnet| subnet.gateway),
        has_names: joints.iter().any(Joint::has_names),
        told: joints.iter().find_map(Joint::told),
    }
}

impl Host<'_> {
    /// Connects a namespace with a network, by whose gateways packets go that go nowhere else.
    pub(super) fn connect(
        &self,
        joint: &Joint,
        namespace: BorrowedFd<'_>,
        inside: &Devices,
        gateways: &[IpAddr],
        publishing: &Publishing,
        warnings: &mut Warnings,
    ) -> Result<()> {
        // Nobody removes it from here on.
        let record = self.engine().store.network(&joint.record.id)?;
        if record.stage != Stage::Kept {
            let wanted = record.name;
            return Err(bulkhead_store::Error::NotFound { noun: Noun::Network, wanted }.into());
        }
        if !joint.is_elsewhere() && NetworkDocument::read(&record)?.subnets != joint.document.subnets {
            return Err(Error::Invalid {
                what: format!("network {}", record.name),
                reason: "it has got another subnet at this moment; do that once more".to_owned(),
            });
        }
        device::inside(namespace, || joint.believe_nobody())??;
        // Whoever had an address before that was asked for may be sent something still.
        let asked = [joint.connection.ipv4.map(IpAddr::V4), joint.connection.ipv6.map(IpAddr::V6)];
        flow::forget(&Vec::from_iter(asked.into_iter().flatten().map(Forgotten::Of)))?;
        match joint.document.driver {
            Driver::Bridge => {
                let index = self.ensure(&joint.record.id, &joint.document, warnings)?;
                let bridge = joint.document.bridge(&joint.record.id);
                let connect = |outside| {
                    let plug = joint.plug(outside, gateways, publishing);
                    plug.connect(&self.devices, (&bridge, index), namespace, inside, None)
                };
                match connect(joint.outside()) {
                    // Of an earlier start, whose namespace has not gone yet, or somebody is in it still; else of one who is called nearly so.
                    Err(error) if error.is(Errno::EXIST) => {
                        self.unplug_pair(joint)?;
                        Ok(connect(joint.outside_otherwise()?)?)
                    }
                    connected => Ok(connected?),
                }
            }
            Driver::Macvlan => self.connect_macvlan(joint, namespace, inside, gateways),
            // The last are attached by plugins.
            Driver::Host | Driver::None | Driver::Cni => Ok(()),
        }
    }

    fn connect_macvlan(
        &self,
        joint: &Joint,
        namespace: BorrowedFd<'_>,
        inside: &Devices,
        gateways: &[IpAddr],
    ) -> Result<()> {
        let name = joint.document.parent.as_deref().unwrap_or_default();
        let parent = self.devices.find(name)?.ok_or_else(|| Error::Invalid {
            what: format!("network {}", joint.record.name),
            reason: lacks_parent(name),
        })?;
        let device = joint.device();
        let macvlan = Macvlan {
            parent: parent.index,
            mode: joint.document.mode.into(),
            inside: &device,
            mac: joint.mac(),
            namespace,
            mtu: joint.document.mtu,
        };
        self.devices.change(vec![Change::make_macvlan(&macvlan)])?;
        let found = inside.find(&device)?.ok_or(Errno::NODEV);
        let index = found.doing(|| format!("find {device} in the container"))?.index;
        let mut changes =
            Vec::from_iter(joint.addresses().into_iter().map(|of| Change::give_address(index, of)));
        changes.push(Change::bring_up(index));
        changes.extend(gateways.iter().map(|gateway| Change::default_route(index, *gateway)));
        Ok(inside.change(changes)?)
    }

    /// Takes back those of an owner's ports that lead to its addresses in a network.
    pub(super) fn withdraw_in(&self, owner: &str, joint: &Joint) -> Result<()> {
        let Some(mut live) = Live::read_to_end(self.engine(), owner)? else { return Ok(()) };
        self.leave_names(&joint.record.id, owner)?;
        live.named_in.retain(|network| *network != joint.record.id);
        let before = live.ports.len();
        let own = joint.own_addresses();
        live.ports.retain(|port| !own.contains(&port.to.ip()));
        live.refused.retain(|port| !own.contains(&port.to.ip()));
        live.elsewhere.retain(|port| !own.contains(&port.to.ip()));
        // First: the address may soon be another's.
        self.rules.keep(owner, &Vec::from_iter(live.rules()))?;
        if live.ports.len() != before {
            proxy::end(self.engine(), &live)?;
            live.proxy = live.proxy.filter(|_| !live.ports.is_empty());
        }
        live.write(self.engine())?;
        self.help_again(&live)
    }

    /// Has the loopback's addresses lead to no network any more of which nothing else is published there: should somebody flush the
    /// rules, containers would reach the host's own loopback.
    pub(super) fn close_loopback(&self, gone: &Live) -> Result<()> {
        let is_there = |port: &&PublishedPort| port.is_at_loopback();
        let ended = Vec::from_iter(gone.translated().iter().filter(is_there));
        if ended.is_empty() {
            return Ok(());
        }
        let others = Live::all(self.engine())?.into_iter().filter(|live| live.owner != gone.owner);
        let others = Vec::from_iter(others.flat_map(|live| live.translated().to_vec()));
        for record in self.engine().store.networks()? {
            let document = NetworkDocument::read(&record)?;
            let is_in = |port: &PublishedPort| document.has_address(port.to.ip());
            let is_last = ended.iter().any(|port| is_in(port)) && !others.iter().filter(is_there).any(is_in);
            let bridge = document.bridge(&record.id);
            if is_last && device::get(&bridge.name, Setting::RouteLoopback).is_some() {
                bridge.route_loopback(false)?;
            }
        }
        Ok(())
    }

    /// Takes back an owner's ports, and its names.
    pub(super) fn withdraw(&self, owner: &str) -> Result<()> {
        let live = Live::read_to_end(self.engine(), owner)?;
        self.rules.unpublish(|of| of == owner)?;
        if let Some(live) = &live {
            proxy::end(self.engine(), live)?;
            self.close_loopback(live)?;
        }
        if self.engine().is_shared(owner) {
            self.take_ends(owner)?;
        }
        for network in live.iter().flat_map(|live| &live.named_in) {
            self.leave_names(network, owner)?;
        }
        Live::forget(self.engine(), owner)?;
        // Last, as it takes longest.
        live.as_ref().map_or(Ok(()), |live| forget_after(live.translated()))
    }
}

/// Says that a device is not there on whose cable containers are to be, and how it is made if its name is one of a VLAN's (IEEE 802.1Q).
pub(super) fn lacks_parent(name: &str) -> String {
    let vlan = name.rsplit_once('.').and_then(|(link, id)| Some((link, id.parse::<u16>().ok()?)));
    let way_out = match vlan.filter(|(link, id)| !link.is_empty() && (1..4095).contains(id)) {
        Some((link, id)) => format!(
            "make it by `ip link add link {link} name {name} type vlan id {id}` and `ip link set {name} up`"
        ),
        None => "`ip link` lists those that it has".to_owned(),
    };
    format!("the host has no device {name} on whose cable its containers could be; {way_out}")
}

impl Joint {
    /// Returns the connection with a bridge.
    fn plug(&self, outside: String, gateways: &[IpAddr], publishing: &Publishing) -> Plug {
        Plug {
            owner: self.endpoint.owner.clone(),
            outside,
            inside: self.device(),
            mac: self.mac(),
            addresses: self.addresses(),
            gateways: gateways.to_vec(),
            mtu: self.document.mtu,
            is_published: publishing.is_any() && publishing.mode == PublishMode::Dnat,
        }
    }

    /// Has the next device of the namespace in which this thread is believe nobody who says that he is a router: a container can say
    /// so to its neighbours. Without a subnet of IPv6 it has no IPv6 at all.
    fn believe_nobody(&self) -> Result<()> {
        let has_v6 = self.document.subnets.iter().any(|subnet| subnet.gateway.is_ipv6());
        for (setting, value) in
            [(Setting::NoIpv6, if has_v6 { "0" } else { "1" }), (Setting::RouterAdvertisements, "0")]
        {
            device::set_if_known("default", setting, value)?;
        }
        Ok(())
    }

    /// How the host's devices of its owner begin.
    pub(super) fn outside_of_owner(&self) -> String {
        format!("{PORTS}{}", self.endpoint.owner.get(..6).unwrap_or(&self.endpoint.owner))
    }

    /// The host's device: it tells whose it is and in which network, so that of an earlier start is found by it.
    fn outside(&self) -> String {
        format!("{}{}", self.outside_of_owner(), self.record.id.get(..6).unwrap_or(&self.record.id))
    }

    /// As [`Joint::outside`], where that is another's.
    fn outside_otherwise(&self) -> Result<String> {
        let [a, b, c] = crate::id::random()?;
        Ok(format!("{}{a:02x}{b:02x}{c:02x}", self.outside_of_owner()))
    }
}
