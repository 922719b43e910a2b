//! Removing networks.

use bulkhead_store::{Kind, NetworkRecord};

use super::document::{Driver, NetworkDocument};
use super::elsewhere::check_undescribed;
use super::host::Host;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filter::Filters;
use crate::remove::Force;

impl Engine {
    /// Removes a network, and returns its id. What is connected with it and does not run loses its place in it.
    ///
    /// # Errors
    /// While something runs that is connected with it; one that is there from the beginning; one that is not there, unless
    /// that is forced.
    pub fn remove_network(&self, wanted: &str, force: Force) -> Result<Option<String>> {
        let record = match self.network_of_any(wanted) {
            Err(error) if error.kind() == Kind::NotFound && force == Force::Yes => return Ok(None),
            found => found?,
        };
        check_undescribed(&record)?;
        if super::is_given(&record.name) {
            let reason =
                "it is there from the beginning, as docker's; `bulkhead network prune` takes its bridge away";
            return Err(Error::Invalid { what: format!("network {}", record.name), reason: reason.into() });
        }
        let host = Host::hold(self)?;
        let by = self.running_in(&record)?;
        if !by.is_empty() {
            return Err(Error::NetworkInUse { name: record.name, by });
        }
        self.store.begin_network_removal(&record.id)?;
        self.finish_network_removal(&host, &record)?;
        Ok(Some(record.id))
    }

    /// Finishes a removal that was begun, by whoever.
    pub(super) fn finish_network_removal(&self, host: &Host<'_>, record: &NetworkRecord) -> Result<()> {
        let document = NetworkDocument::read(record)?;
        if document.driver == Driver::Bridge {
            host.take_down(&record.id, &document)?;
        }
        self.end_name_server(&record.id)?;
        self.store.delete_network(&record.id)?;
        self.tell_network(record, "destroy", &[("type", &document.driver.to_string())]);
        Ok(())
    }

    /// Removes the networks with which nothing is connected, and that were made before a moment, if there is one; and takes the bridges of those away that stay and that nothing
    /// runs in; returns the names of what was removed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that cannot be.
    pub fn prune_networks(&self, filters: &Filters, until: Option<u64>) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for network in self.networks(filters)? {
            let is_old = until.is_none_or(|until| network.created < until);
            let is_own = !network.is_given() && network.driver != Driver::Cni;
            let is_unused = is_own && network.members.is_empty();
            if is_unused && is_old && self.remove_unused(&network.id)? {
                names.push(network.name);
            }
        }
        self.forget_undescribed()?;
        if !self.places().networks_run().exists() {
            return Ok(names);
        }
        let host = Host::hold(self)?;
        for record in self.store.networks()? {
            let document = NetworkDocument::read(&record)?;
            if document.driver == Driver::Bridge && self.running_in(&record)?.is_empty() {
                host.take_down(&record.id, &document)?;
            }
        }
        Ok(names)
    }

    /// Removes a network unless something was connected with it meanwhile, or somebody else removed it; tells whether it did.
    fn remove_unused(&self, id: &str) -> Result<bool> {
        let host = Host::hold(self)?;
        let record = match self.store.network(id) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            found => found?,
        };
        if !self.store.begin_removal_of_unused_network(id)? {
            return Ok(false);
        }
        self.finish_network_removal(&host, &record)?;
        Ok(true)
    }

    /// Returns the names of what runs that is connected with a network.
    fn running_in(&self, record: &NetworkRecord) -> Result<Vec<String>> {
        let members = self.network(&record.id)?.members;
        Ok(members.into_iter().filter(|member| member.runs).map(|member| member.name).collect())
    }
}
