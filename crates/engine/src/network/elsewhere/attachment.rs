//! What plugins make for a container or pod: attached, looked at, and taken back.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_net::cni::{
    self, Attached, Capabilities, Client, Done, Key, Mapping, Networks, Records, config,
};
use bulkhead_net::device::{self, Devices, Setting};
use bulkhead_store::{Finding, Kind, NetworkRecord, Outcome};

use super::super::address::Joint;
use super::super::change::settle_ways;
use super::super::document::NetworkDocument;
use super::super::live::Live;
use super::super::ports::PublishedPort;
use super::super::start::Wish;
use super::super::ways::{WaysIn, ranked};
use super::Described;
use crate::engine::Engine;
use crate::error::{Error, Result, chain};
use crate::id;
use crate::leftover::Leftover;
use crate::request::{Connection, Network};

/// How long a check waits for a plugin.
const PATIENCE: Duration = Duration::from_secs(30);

impl Engine {
    fn written_down(&self) -> Records {
        Records::at(&self.places().attachments())
    }

    /// Fills in what plugins have made. What cannot be read of it is told when it is to be taken back.
    pub(in crate::network) fn fill_attached(&self, joint: &mut Joint) {
        if joint.is_elsewhere()
            && let Ok(key) = joint.key()
            && let Ok(Some(known)) = self.written_down().look(&key)
        {
            joint.attached = known.attached;
        }
    }

    /// Has plugins attach a namespace to all networks from elsewhere among those of an owner, where the first that has a way in gets
    /// the ports; that by which packets are to go that go nowhere else comes first, since plugins leave such a way in place.
    pub(in crate::network) fn attach_all(
        &self,
        wish: &Wish<'_>,
        namespace: BorrowedFd<'_>,
        inside: &Devices,
    ) -> Result<()> {
        let chosen = Live::read(self, wish.owner)?.map(|live| live.elsewhere).unwrap_or_default();
        let mut joints = wish.joints.to_vec();
        let mut order = Vec::from_iter((0..joints.len()).filter(|index| joints[*index].is_elsewhere()));
        let ranks = Vec::from_iter(ranked(&joints).into_iter().map(|joint| joint.record.id.clone()));
        let rank = |joint: &Joint| ranks.iter().position(|id| *id == joint.record.id);
        order.sort_by_key(|index| rank(&joints[*index]).unwrap_or(usize::MAX));
        let entry = WaysIn::of(&joints).elsewhere().map(|joint| joint.record.id.clone());
        for index in order {
            let joint = &joints[index];
            let is_entry = entry.as_ref() == Some(&joint.record.id);
            let ports = if is_entry { &chosen[..] } else { &[] };
            if joints.iter().any(|other| !other.is_elsewhere()) {
                device::inside(namespace, believe_as_usual)??;
            }
            let attached = self.attach_one(joint, wish.called, ports, namespace)?;
            joints[index].attached = Some(attached);
            if is_entry && !ports.is_empty() {
                self.note_ways(&joints[index], ports)?;
            }
        }
        settle_ways(&ranked(&joints), inside)
    }

    /// Notes where ports lead that a plugin publishes, now that this is known.
    fn note_ways(&self, joint: &Joint, ports: &[PublishedPort]) -> Result<()> {
        let owner = &joint.endpoint.owner;
        let mut live = Live::read(self, owner)?.unwrap_or_else(|| Live::of(owner));
        live.elsewhere = ports.iter().flat_map(|port| port.leading_to(&joint.own_addresses())).collect();
        live.write(self)
    }

    /// Has plugins attach a namespace to a network from elsewhere, with these ports of the host.
    pub(in crate::network) fn attach_one(
        &self,
        joint: &Joint,
        called: &[String],
        ports: &[PublishedPort],
        namespace: BorrowedFd<'_>,
    ) -> Result<Attached> {
        let elsewhere = joint.elsewhere()?;
        let networks = Networks::read(&elsewhere.directory)?;
        let list = networks.find(&elsewhere.name)?;
        let mut request = cni::Request::new(joint.key()?);
        // By these words of Kubernetes plugins learn what a container is called.
        let mut argument = |name: &str, value: &str| request.arguments.push((name.into(), value.into()));
        argument("IgnoreUnknown", "1");
        if let Some(name) = called.first() {
            argument("K8S_POD_NAME", name);
        }
        argument("K8S_POD_INFRA_CONTAINER_ID", &joint.endpoint.owner);
        for (_, capability, value) in asked(&joint.connection) {
            request.capabilities.other(capability, value);
        }
        if !ports.is_empty() {
            request.capabilities.ports(&Vec::from_iter(ports.iter().map(mapping)));
        }
        let client = Client::open(&self.places().attachments(), &elsewhere.programs)?;
        Ok(client.add(list, &request, namespace)?)
    }

    /// Has plugins take back all that they have made for an owner, whose namespace has gone.
    pub(crate) fn detach_all(&self, owner: &str) -> Result<()> {
        let keys = self.written_down().keys()?.into_iter().filter(|key| key.container() == owner);
        // Each of them, and the first error is told.
        let mut first = Ok(());
        for key in keys {
            let detached = self.detach(&key, None);
            first = first.and(detached);
        }
        first
    }

    /// Has plugins take back what they have made for a connection.
    pub(in crate::network) fn detach_joint(
        &self,
        joint: &Joint,
        namespace: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let key = joint.key()?;
        // Whatever its device was called by somebody who was killed while he connected it.
        let is_its = |of: &&Key| (of.network(), of.container()) == (key.network(), key.container());
        self.written_down().keys()?.iter().filter(is_its).try_for_each(|of| self.detach(of, namespace))
    }

    fn detach(&self, key: &Key, namespace: Option<BorrowedFd<'_>>) -> Result<()> {
        let deleted = self.client().and_then(|client| client.delete(key, namespace));
        deleted.map(drop).map_err(|source| Error::Attached {
            what: format!("{} of {}", key.interface(), id::short(key.container())),
            network: key.network().to_owned(),
            record: self.written_down().file_of(key),
            source: Box::new(source),
        })
    }

    /// A client that seeks plugins where they were when something was attached, and else where they usually are.
    fn client(&self) -> cni::Result<Client> {
        let usual = config::PLUGINS.map(PathBuf::from).to_vec();
        let now =
            Described::read(|name| std::env::var_os(name)).map_or(usual, |described| described.programs);
        Client::open(&self.places().attachments(), &now)
    }

    /// Tells whether something is written down of what plugins have made for an owner.
    pub(in crate::network) fn is_attached(&self, owner: &str) -> bool {
        let keys = self.written_down().keys();
        keys.is_ok_and(|keys| keys.iter().any(|key| key.container() == owner))
    }

    /// Lists the ports of the host that plugins lead to containers.
    pub(in crate::network) fn ports_elsewhere(&self) -> Result<Vec<(String, PublishedPort)>> {
        // Most hosts have no such network, and many containers.
        if !self.store.networks()?.iter().any(|record| super::is_elsewhere(&record.name)) {
            return Ok(Vec::new());
        }
        let recorded = Live::recorded(self)?.into_iter();
        let each = |Live { owner, elsewhere, .. }: Live| {
            elsewhere.into_iter().map(move |port| (owner.clone(), port))
        };
        Ok(recorded.flat_map(each).collect())
    }
}

impl Engine {
    /// Finds what plugins have made for what has ended.
    pub(in crate::network) fn attachments_left(&self) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        for key in self.written_down().keys()? {
            if !self.is_live(key.container())? {
                found.push(Leftover::Attachment(key));
            }
        }
        Ok(found)
    }

    /// Has plugins take back what they have made for what has ended.
    pub(crate) fn withdraw_attachment(&self, key: &Key) -> Result<()> {
        if self.is_live(key.container())? { Ok(()) } else { self.detach(key, None) }
    }

    /// Asks plugins whether all is there that they made for what runs (CHECK).
    pub(crate) fn check_attachments(&self) -> Result<Vec<Finding>> {
        let keys = self.written_down().keys()?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.client()?.limited(PATIENCE);
        let mut findings = Vec::new();
        for key in keys {
            let Some((what, namespace)) = self.namespace_of_owner(key.container())? else { continue };
            let known = self.written_down().look(&key);
            // Of one that is just being attached nothing is to be said.
            let attached = match &known {
                Ok(Some(known)) if known.attached.is_some() => known.attached.as_ref(),
                Ok(_) => continue,
                Err(_) => None,
            };
            let is_without = match attached {
                Some(attached) => has_lost_its_way(attached, &key, &Devices::of(namespace.as_fd())?)?,
                None => false,
            };
            let checked = match known {
                Err(error) => Err(error),
                // Another network of the container has taken the way that the plugin would miss.
                Ok(_) if is_without => Ok(Done::Well),
                Ok(_) => client.check(&key, namespace.as_fd()),
            };
            match checked {
                Err(cni::Error::Missing(_)) | Ok(_) => {}
                Err(error) => findings.push(Finding {
                    subject: format!("{} of {what} in network {}", key.interface(), key.network()),
                    problem: chain(&error),
                    outcome: Outcome::Left("a restart attaches it anew".to_owned()),
                }),
            }
        }
        Ok(findings)
    }

    /// Opens the network namespace of a container or pod that runs; tells what it is called, too.
    fn namespace_of_owner(&self, owner: &str) -> Result<Option<(String, OwnedFd)>> {
        let (records, what) = match self.store.container(owner) {
            Ok(record) => {
                let what = format!("container {}", record.name);
                (vec![record], what)
            }
            Err(error) if error.kind() == Kind::NotFound => match self.store.pod(owner) {
                Ok(pod) => (self.store.containers_of_pod(&pod.id)?, format!("pod {}", pod.name)),
                Err(error) if error.kind() == Kind::NotFound => return Ok(None),
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        for record in records {
            let known = self.look(record)?;
            let has_it =
                known.record.id == owner || known.document.request.namespaces.network == Network::Pod;
            if has_it
                && known.life.state.is_active()
                && let Some(namespace) = Self::namespace_of(&known)?
            {
                return Ok(Some((what, namespace)));
            }
        }
        Ok(None)
    }
}

/// Tells whether a device has none of the ways that its plugins made for packets that go nowhere else.
fn has_lost_its_way(attached: &Attached, key: &Key, inside: &Devices) -> Result<bool> {
    if !attached.routes.iter().any(|route| route.to.prefix_len() == 0) {
        return Ok(false);
    }
    let Some(device) = inside.find(key.interface())? else { return Ok(false) };
    let routes = inside.routes()?;
    let everywhere = Vec::from_iter(routes.iter().filter(|route| route.to.prefix_len() == 0));
    Ok(!everywhere.is_empty() && !everywhere.iter().any(|route| route.device == Some(device.index)))
}

/// Refuses what no plugin of the networks from elsewhere takes, before anything is made.
pub(in crate::network) fn check_asked(
    networks: &[(NetworkRecord, NetworkDocument)],
    of: &[Connection],
) -> Result<()> {
    for ((record, document), connection) in networks.iter().zip(of) {
        let Some(elsewhere) = &document.elsewhere else { continue };
        let networks = Networks::read(&elsewhere.directory)?;
        let list = networks.find(&elsewhere.name)?;
        // As long as the real one's.
        Key::new(&elsewhere.name, &record.id, connection.device.as_deref().unwrap_or("eth0"))?;
        let mut asked = asked(connection).into_iter();
        if let Some((flag, capability, _)) = asked.find(|(_, capability, _)| !list.takes(capability)) {
            let reason = format!(
                "no plugin of network {} has `{capability}` among its `capabilities` in {}; leave it out, or have one there that has it",
                elsewhere.name,
                list.file.display()
            );
            return Err(Error::Invalid { what: flag.to_owned(), reason });
        }
    }
    Ok(())
}

/// What a connection asks plugins for: by which flag, and as which capability.
fn asked(connection: &Connection) -> Vec<(&'static str, &'static str, serde_json::Value)> {
    let Connection { network: _, id: _, aliases, ipv4, ipv6, mac, device: _, gateway_priority: _ } =
        connection;
    let addresses = [ipv4.map(|address| address.to_string()), ipv6.map(|address| address.to_string())];
    // Without the length of a subnet, which only the plugin knows.
    let addresses = Vec::from_iter(addresses.into_iter().flatten());
    let mut asked = Vec::new();
    if !addresses.is_empty() {
        let flag = if ipv4.is_some() { "--ip" } else { "--ip6" };
        asked.push((flag, Capabilities::ADDRESSES, addresses.into()));
    }
    if let Some(mac) = mac {
        asked.push(("--mac-address", Capabilities::MAC, mac.to_string().into()));
    }
    if !aliases.is_empty() {
        asked.push(("--network-alias", Capabilities::ALIASES, aliases.clone().into()));
    }
    asked
}

fn mapping(port: &PublishedPort) -> Mapping {
    let address = Some(port.address).filter(|address| !address.is_unspecified());
    Mapping { address, ..Mapping::new(port.host, port.container, port.protocol) }
}

/// Has the next devices of the namespace in which this thread is be as the kernel's usually are: networks of the engine's want them
/// otherwise, and plugins of their own.
pub(in crate::network) fn believe_as_usual() -> Result<()> {
    for (setting, value) in [(Setting::NoIpv6, "0"), (Setting::RouterAdvertisements, "1")] {
        if device::get("default", setting).is_some_and(|now| now != value) {
            device::set("default", setting, value)?;
        }
    }
    Ok(())
}
