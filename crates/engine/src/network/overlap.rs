//! Subnets that the host has got since they became a network's: a docker that starts first after a reboot, another store, a VPN.
//!
//! They are looked for when the bridge of a network is to be made, so that nothing runs on it, and by `system check`. A subnet that nobody
//! has asked for becomes another one then; where it has to stay, nothing is started whose packets would go astray.

use bulkhead_net::bridge::end_of;
use bulkhead_net::overlap::{self, Overlap};
use bulkhead_net::pool::{Fate, Used};
use bulkhead_store::{Connected, Durability, Endpoint, NetworkRecord};
use ipnet::IpNet;

use super::address::{EndpointDocument, readdress};
use super::create::{another, hides, others_than, stored, used_by_host};
use super::document::{Driver, NetworkDocument, Subnet};
use super::host::{Host, Warnings};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::leftover::Leftover;
use crate::request::Connection;

/// A network whose subnet the host has by now, while its bridge is there.
#[derive(Debug)]
pub(crate) struct Overlapped {
    pub(crate) record: NetworkRecord,
    pub(crate) overlap: Overlap,
    /// Why it stays as it is, if it does.
    bound: Option<Bound>,
}

impl Overlapped {
    /// Tells whether the network can have another subnet at once.
    pub(crate) fn is_movable(&self) -> bool {
        self.bound.is_none()
    }

    /// Says what is wrong.
    pub(crate) fn problem(&self) -> String {
        let Self { overlap, .. } = self;
        format!("its subnet {} is the host's, too: {overlap}", overlap.subnet)
    }

    /// Says what can be done about it.
    pub(crate) fn way_out(&self) -> String {
        let bound = self.bound.as_ref().unwrap_or(&Bound::Peopled);
        bound.way_out(&self.record.name)
    }
}

/// What keeps a network at its subnet.
#[derive(Debug, PartialEq, Eq)]
enum Bound {
    /// Somebody has chosen it.
    Chosen,
    /// What asks for addresses in it, by name.
    Asked(Vec<String>),
    /// Something runs in it.
    Peopled,
}

impl Bound {
    fn way_out(&self, network: &str) -> String {
        match self {
            Self::Chosen => format!(
                "take that away from the host, or make the network anew with another one: `bulkhead network rm {network}`, then \
                 `bulkhead network create --subnet SUBNET {network}`"
            ),
            Self::Asked(names) => format!(
                "take that away from the host, or those from the network that ask for addresses in it ({}), for which \
                 `bulkhead network disconnect {network} NAME` is there: it gets another subnet then",
                names.join(", ")
            ),
            Self::Peopled => "take that away from the host, or stop what runs in the network: `bulkhead system check` gives it another \
                 subnet then"
                .to_owned(),
        }
    }
}

impl Engine {
    /// Gives networks that are to be used other subnets where the host has theirs by now, as far as their bridges are still to be made and
    /// their subnets may be others; returns what the user should be told.
    pub(crate) fn make_way(&self, connections: &[Connection]) -> Result<Warnings> {
        let mut told = Warnings::new();
        for connection in connections {
            let wanted = connection.id.as_ref().unwrap_or(&connection.network);
            // What is not there, or not the engine's, is somebody else's to tell.
            let Ok(record) = self.store.network(wanted) else { continue };
            let document = NetworkDocument::read(&record)?;
            if document.driver != Driver::Bridge || document.subnets.is_empty() {
                continue;
            }
            let devices = bulkhead_net::device::Devices::open()?;
            let is_there = devices.find(&document.bridge(&record.id).name)?.is_some();
            if !is_there && !overlap::find(&devices, &subnets(&document), None)?.is_empty() {
                told.extend(Host::hold(self)?.move_aside(&record.id)?);
            }
        }
        Ok(told)
    }

    /// Gives a network another subnet, in which nothing runs.
    pub(crate) fn move_network(&self, overlapped: &Overlapped) -> Result<()> {
        let Overlapped { record, overlap, bound } = overlapped;
        let refused =
            || Error::Invalid { what: format!("network {}", record.name), reason: overlapped.way_out() };
        if bound.is_some() {
            return Err(refused());
        }
        let host = Host::hold(self)?;
        if host.move_aside(&record.id)?.is_some() {
            return Ok(());
        }
        let document = NetworkDocument::read(&self.store.network(&record.id)?)?;
        // Somebody was faster, or has begun to use it.
        if host.overlaps(&record.id, &document)?.contains(overlap) { Err(refused()) } else { Ok(()) }
    }
}

impl Host<'_> {
    /// Finds networks whose bridges are there, and whose subnets the host has got since.
    pub(super) fn overlapped(&self, bridged: &[NetworkRecord]) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        for record in bridged {
            let document = NetworkDocument::read(record)?;
            let overlaps = self.overlaps(&record.id, &document)?;
            if let Some(overlap) = overlaps.iter().find(|overlap| overlap.diverts()).cloned() {
                let bound = self.bound(record, &document, &overlaps)?;
                found.push(Leftover::Overlapped(Overlapped { record: record.clone(), overlap, bound }));
            }
        }
        Ok(found)
    }

    /// Refuses to make the bridge of a network whose packets would go elsewhere, and tells of hosts that it will hide.
    pub(super) fn look_for_overlap(
        &self,
        id: &str,
        document: &NetworkDocument,
        warnings: &mut Warnings,
    ) -> Result<()> {
        let overlaps = self.overlaps(id, document)?;
        if overlaps.is_empty() {
            return Ok(());
        }
        let record = self.engine().store.network(id)?;
        if let Some(overlap) = overlaps.iter().find(|overlap| overlap.diverts()).cloned() {
            // One that could move has got the overlap since it was looked at.
            let bound = self.bound(&record, document, &overlaps)?;
            let overlapped = Overlapped { record, overlap, bound };
            return Err(Error::Invalid {
                what: format!("network {}", overlapped.record.name),
                reason: format!("{}; {}", overlapped.problem(), overlapped.way_out()),
            });
        }
        warnings.extend(overlaps.iter().map(|overlap| hides(&record.name, overlap)));
        Ok(())
    }

    /// Finds what the host has of a network's subnets, but for what it has by the network itself.
    fn overlaps(&self, id: &str, document: &NetworkDocument) -> Result<Vec<Overlap>> {
        let own = self.devices.find(&document.bridge(id).name)?.map(|bridge| bridge.index);
        Ok(overlap::find(&self.devices, &subnets(document), own)?)
    }

    /// Says what keeps a network at the subnets that the host has, too.
    fn bound(
        &self,
        record: &NetworkRecord,
        document: &NetworkDocument,
        overlaps: &[Overlap],
    ) -> Result<Option<Bound>> {
        let endpoints = self.engine().store.connected(|connected| connected.endpoints_in(&record.id))?;
        Ok(match bound_by(record, document, overlaps, &endpoints)? {
            Some(Bound::Asked(ids)) => Some(Bound::Asked(ids.iter().map(|id| self.called(id)).collect())),
            None if self.is_peopled(&record.id)? => Some(Bound::Peopled),
            bound => bound,
        })
    }

    /// Tells whether something has a device in a network, whether its bridge is there or not.
    fn is_peopled(&self, id: &str) -> Result<bool> {
        let is_in = |(network, _): (&str, Option<&str>)| network == id;
        Ok(self.devices.list()?.iter().filter_map(end_of).any(is_in))
    }

    fn called(&self, owner: &str) -> String {
        let store = &self.engine().store;
        let name = store.container(owner).map(|record| record.name);
        let name = name.or_else(|_| store.pod(owner).map(|record| format!("pod {}", record.name)));
        name.unwrap_or_else(|_| crate::id::short(owner).to_owned())
    }

    /// Gives a network other subnets in place of those that the host has, too, unless something keeps it there; what is connected with it has
    /// other addresses then. Returns what became of it.
    fn move_aside(&self, id: &str) -> Result<Option<String>> {
        let engine = self.engine();
        let record = engine.store.network(id)?;
        let document = NetworkDocument::read(&record)?;
        let overlaps = self.overlaps(id, &document)?;
        if overlaps.is_empty() || self.bound(&record, &document, &overlaps)?.is_some() {
            return Ok(None);
        }
        // First: whoever is killed from here on leaves a network whose bridge is to be made.
        document.bridge(id).remove(&self.devices)?;
        self.rules.remove_network(&document.rules(id))?;
        let used = used_by_host(&self.devices)?;
        let mut refused = None;
        let moved = engine.store.connect(Durability::PowerLoss, |connected| {
            let mut record = connected.network(id)?;
            let moved = exchange(connected, &mut record, &overlaps, &used);
            moved.map_err(|error| stored(&mut refused, &record.name, error))
        });
        match refused {
            Some(error) => Err(error),
            None => Ok(moved?),
        }
    }
}

/// What keeps a network where it is, by its record; of what asks for addresses there the ids.
fn bound_by(
    record: &NetworkRecord,
    document: &NetworkDocument,
    overlaps: &[Overlap],
    endpoints: &[Endpoint],
) -> Result<Option<Bound>> {
    let is_meant = |subnet: &IpNet| overlaps.iter().any(|overlap| overlap.subnet == *subnet);
    let mut met = document.subnets.iter().filter(|subnet| is_meant(&subnet.subnet));
    // Nobody can say what subnet the one has that is there from the beginning.
    if !super::is_given(&record.name) && met.any(|subnet| !subnet.is_free_choice) {
        return Ok(Some(Bound::Chosen));
    }
    let mut asking = Vec::new();
    for endpoint in endpoints {
        let EndpointDocument { connection } = EndpointDocument::read(endpoint)?;
        let asked = [connection.ipv4.map(Into::into), connection.ipv6.map(Into::into)];
        let is_asked = |address: std::net::IpAddr| overlaps.iter().any(|of| of.subnet.contains(&address));
        if asked.into_iter().flatten().any(is_asked) {
            asking.push(endpoint.owner.clone());
        }
    }
    Ok((!asking.is_empty()).then_some(Bound::Asked(asking)))
}

/// Records other subnets in place of those that the host has, too, and other addresses in them; says what became of it, or nothing where that
/// cannot be any more.
fn exchange(
    connected: &Connected<'_>,
    record: &mut NetworkRecord,
    overlaps: &[Overlap],
    used: &[Used],
) -> Result<Option<String>> {
    let mut document = NetworkDocument::read(record)?;
    let mut endpoints = connected.endpoints_in(&record.id)?;
    if bound_by(record, &document, overlaps, &endpoints)?.is_some() {
        return Ok(None);
    }
    let others = others_than(connected, Some(&record.id))?;
    let mut told = Vec::new();
    for subnet in &mut document.subnets {
        let Some(overlap) = overlaps.iter().find(|overlap| overlap.subnet == subnet.subnet) else { continue };
        let all = [used, &others[..]].concat();
        let new = match another(subnet.gateway.is_ipv4(), &all) {
            // It has its packets where it is.
            Err(_) if !overlap.diverts() => continue,
            new => new?,
        };
        // Another one would hide hosts no less, each time it is looked at.
        let hides_none = |new: &Subnet| !all.iter().any(|used| used.fate(&new.subnet) == Fate::Hidden);
        if !overlap.diverts() && !hides_none(&new) {
            continue;
        }
        readdress(connected, &record.id, &new, &mut endpoints)?;
        told.push(format!("has {} now instead of {}: {overlap}", new.subnet, subnet.subnet));
        *subnet = new;
    }
    if told.is_empty() {
        return Ok(None);
    }
    endpoints.iter().try_for_each(|endpoint| connected.keep(endpoint))?;
    record.document = document.write()?;
    connected.change(record)?;
    Ok(Some(format!("network {} {}", record.name, told.join("; "))))
}

fn subnets(document: &NetworkDocument) -> Vec<IpNet> {
    document.subnets.iter().map(|subnet| subnet.subnet).collect()
}
