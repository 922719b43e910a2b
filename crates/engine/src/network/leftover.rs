//! What crashes left of networks, and what others did to them: removals that were begun, ports of what has ended, rules that
//! somebody flushed, a firewall that shuts containers in.

use std::collections::BTreeSet;
use std::fmt;

use bulkhead_net::bridge::{bridge_of, end_of, unplugged_from};
use bulkhead_net::device::Change;
use bulkhead_net::firewall::{self, Firewall};
use bulkhead_net::nft::Filter;
use bulkhead_store::{NetworkRecord, Stage};

use super::document::{NetworkDocument, PREFIX};
use super::host::{Host, opened_by, table_of, willing};
use super::live::Live;
use super::ports::PublishedPort;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::leftover::Leftover;

impl Engine {
    /// Finds it. Nothing is changed.
    pub(crate) fn leftovers_of_networks(&self) -> Result<Vec<Leftover>> {
        let leaving = self.store.networks()?.into_iter().filter(|record| record.stage == Stage::Removing);
        let mut found = Vec::from_iter(leaving.map(Leftover::HalfRemovedNetwork));
        found.extend(self.attachments_left()?);
        found.extend(self.carriers_left()?.into_iter().map(Leftover::Carrier));
        found.extend(self.uncarried_containers()?);
        found.extend(Live::all(self)?.iter().filter_map(refused));
        let unread = Live::unread(self)?.into_iter();
        found.extend(unread.map(|(owner, error)| Leftover::UnreadPorts(owner, error)));
        if !self.places().networks_run().exists() {
            return Ok(found);
        }
        found.extend(self.ends_left()?);
        let host = Host::hold(self)?;
        let mut owners = host.rules.owners()?;
        owners.extend(Live::recorded(self)?.into_iter().map(|live| live.owner));
        for owner in owners {
            if !self.is_live(&owner)? {
                found.push(Leftover::Ports(owner));
            }
        }
        let bridged = host.bridged()?;
        if !bridged.is_empty() && !host.rules.are_there()? {
            found.push(Leftover::Flushed);
        }
        let unhelped = Live::all(self)?.into_iter().filter(|live| live.proxy.is_some() && !live.has_helper());
        found.extend(unhelped.map(|live| Leftover::Unhelped(live.owner)));
        found.extend(self.unanswered()?.into_iter().map(Leftover::Unanswered));
        found.extend(host.unplugged()?.into_iter().map(Leftover::Unplugged));
        found.extend(host.without_network()?.into_iter().map(Leftover::Bridge));
        found.extend(host.shut_in(&bridged)?.into_iter().map(Leftover::ShutIn));
        found.extend(host.overlapped(&bridged)?);
        let devices = host.without_return()?;
        let owners = devices.iter().filter_map(|device| end_of(device)?.1);
        let owners: BTreeSet<String> = owners.map(str::to_owned).collect();
        found.extend(owners.into_iter().map(Leftover::NoReturn));
        Ok(found)
    }

    /// Finishes the removal of a network.
    pub(crate) fn finish_network(&self, record: &NetworkRecord) -> Result<()> {
        let host = Host::hold(self)?;
        match self.store.network(&record.id) {
            Ok(record) if record.stage == Stage::Removing => self.finish_network_removal(&host, &record),
            _ => Ok(()),
        }
    }

    /// Ends the carrier of what has ended.
    pub(crate) fn end_left_carrier(&self, owner: &str) -> Result<()> {
        if self.is_live(owner)? { Ok(()) } else { self.end_carrier(owner) }
    }

    /// Takes back the ports of what has ended.
    pub(crate) fn withdraw_ports(&self, owner: &str) -> Result<()> {
        let host = Host::hold(self)?;
        if self.is_live(owner)? { Ok(()) } else { host.withdraw(owner) }
    }

    /// Makes rules anew that somebody flushed.
    pub(crate) fn restore_rules(&self) -> Result<()> {
        let host = Host::hold(self)?;
        if host.rules.are_there()? { Ok(()) } else { host.restore() }
    }
}

impl Engine {
    /// Has containers reach themselves by their own ports of the host.
    pub(crate) fn let_return(&self) -> Result<()> {
        Host::hold(self)?.let_return()
    }

    /// Makes a bridge anew that somebody took away under its containers, and connects them with it.
    pub(crate) fn plug_again(&self, record: &NetworkRecord) -> Result<()> {
        let host = Host::hold(self)?;
        let document = NetworkDocument::read(record)?;
        // What stands in the way of its packets is found by itself.
        let index = host.ensure(&record.id, &document, &mut Vec::new())?;
        document.bridge(&record.id).take_in(&host.devices, index)?;
        host.let_return()
    }

    /// Removes a bridge that no network has, and what the rules know of it.
    pub(crate) fn remove_bridge(&self, name: &str) -> Result<()> {
        let host = Host::hold(self)?;
        if !host.without_network()?.contains(name) {
            return Ok(());
        }
        if host.devices.find(name)?.is_some_and(|found| bridge_of(&found).is_some()) {
            host.devices.change(vec![Change::delete(name)])?;
        }
        host.restore()
    }

    /// Opens a firewall that shuts containers in, if it has a place for that.
    pub(crate) fn open_firewall(&self, firewall: &Firewall) -> Result<()> {
        match firewall {
            Firewall::Docker(users) => Host::hold(self)?.open_docker(users),
            other => Err(Error::Invalid {
                what: "this is an administrator's to change".into(),
                reason: opened_by(other).unwrap_or_default(),
            }),
        }
    }
}

/// Ports of the host that a container has not got again.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Those that programs took while nobody had them for it.
    taken: Vec<String>,
    /// Those whose addresses the host does not have any more.
    homeless: Vec<String>,
    /// Whether it is the packet filter that leads there all the same.
    is_led: bool,
}

impl Refused {
    /// Says what is to be done before a restart has them again.
    pub(crate) fn remedy(&self) -> &'static str {
        match (self.taken.is_empty(), self.homeless.is_empty()) {
            (_, true) => "end that program",
            (true, false) => "give the host its address again",
            (false, false) => "end that program, and give the host its address again",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (taken, homeless) = (self.taken.join(", "), self.homeless.join(", "));
        let effect =
            if self.is_led { "and hears nobody there" } else { "and the container is not reached there" };
        if !taken.is_empty() {
            write!(f, "a program of the host has taken {taken} meanwhile, {effect}")?;
        }
        if !homeless.is_empty() {
            let pause = if taken.is_empty() { "" } else { "; " };
            write!(f, "{pause}the host has no address for {homeless} any more")?;
        }
        Ok(())
    }
}

fn refused(live: &Live) -> Option<Leftover> {
    let (homeless, taken): (Vec<_>, Vec<_>) =
        live.refused.iter().partition(|port| live.homeless.contains(port));
    let told = |ports: Vec<&PublishedPort>| ports.into_iter().map(PublishedPort::told).collect();
    let is_led = !live.translated().is_empty();
    let refused = Refused { taken: told(taken), homeless: told(homeless), is_led };
    (!live.refused.is_empty()).then(|| Leftover::RefusedPorts(live.owner.clone(), refused))
}

impl Host<'_> {
    /// Lists the networks whose containers have devices that are no bridge's.
    fn unplugged(&self) -> Result<Vec<NetworkRecord>> {
        let devices = self.devices.list()?;
        let found: BTreeSet<&str> = devices.iter().filter_map(unplugged_from).collect();
        let is_found = |network: &NetworkRecord| found.contains(network.id.as_str());
        Ok(self.engine().store.networks()?.into_iter().filter(is_found).collect())
    }

    /// Lists the bridges that the rules know, and no network has.
    fn without_network(&self) -> Result<BTreeSet<String>> {
        let mut found = self.rules.bridges()?;
        for record in self.engine().store.networks()? {
            found.remove(&NetworkDocument::read(&record)?.bridge(&record.id).name);
        }
        Ok(found)
    }

    /// Finds the firewalls that keep these networks shut and were not told otherwise; docker's only where it may be told.
    fn shut_in(&self, bridged: &[NetworkRecord]) -> Result<Vec<Firewall>> {
        let documents = bridged.iter().map(NetworkDocument::read).collect::<Result<Vec<_>>>()?;
        let open = Vec::from_iter(documents.iter().filter(|document| !document.internal));
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let (own, bridges) = (table_of(self.engine().places()), willing(bridged)?);
        let mut found = firewall::untold(&Filter::open()?, &own, PREFIX, &bridges)?;
        let is_touched = open.iter().any(|document| !document.firewall_untouched);
        found.retain(|firewall| is_touched || !matches!(firewall, Firewall::Docker(_)));
        Ok(found)
    }
}
