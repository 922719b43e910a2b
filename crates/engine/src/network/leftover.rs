//! What crashes left of networks: removals that were begun, ports of what has ended, rules that somebody flushed.

use bulkhead_store::{NetworkRecord, Stage};

use super::document::PREFIX;
use super::host::Host;
use crate::engine::Engine;
use crate::error::Result;
use crate::leftover::Leftover;

impl Engine {
    /// Finds it. Nothing is changed.
    pub(crate) fn leftovers_of_networks(&self) -> Result<Vec<Leftover>> {
        let leaving = self.store.networks()?.into_iter().filter(|record| record.stage == Stage::Removing);
        let mut found = Vec::from_iter(leaving.map(Leftover::HalfRemovedNetwork));
        if !self.places().networks_run().exists() {
            return Ok(found);
        }
        let host = Host::hold(self)?;
        for owner in host.rules.owners()? {
            if !self.is_live(&owner)? {
                found.push(Leftover::Ports(owner));
            }
        }
        if !host.rules.are_there()? && host.has_bridges()? {
            found.push(Leftover::Flushed);
        }
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

impl Host<'_> {
    /// Tells whether there are bridges of networks.
    fn has_bridges(&self) -> Result<bool> {
        let networks = self.engine().store.networks()?;
        let is_ours = |name: &str| {
            let owner = name.strip_prefix(PREFIX);
            owner.is_some_and(|owner| networks.iter().any(|network| network.id.starts_with(owner)))
        };
        Ok(self.devices.list()?.iter().any(|device| is_ours(&device.name)))
    }
}
