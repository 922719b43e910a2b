//! Which networks there are, and what is connected with them.

use super::address::{EndpointDocument, Joint, joined};
use super::document::NetworkDocument;
use super::{Connected, Member, Network};
use crate::engine::Engine;
use crate::error::Result;
use crate::filter::{Filters, truth};
use crate::request::{MacAddress, Request};
use bulkhead_store::{Endpoint, NetworkRecord};

/// The keys by which networks are filtered (docker's).
pub const FILTERS: [&str; 8] = ["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];

impl Engine {
    /// Lists the networks that fit, by name.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a filter that cannot be.
    pub fn networks(&self, filters: &Filters) -> Result<Vec<Network>> {
        let names = filters.patterns("name")?;
        let dangling: Vec<bool> =
            filters.values("dangling").map(|value| truth("dangling", value)).collect::<Result<_>>()?;
        let mut found = Vec::new();
        for record in self.networks_of_all()? {
            let network = self.describe_network(record)?;
            let kind = if network.is_given() { "builtin" } else { "custom" };
            let is_dangling = !network.is_given() && network.members.is_empty();
            if names.fit(&network.name)
                && filters.any("id", |id| network.id.starts_with(id))
                && filters.any("driver", |driver| driver == network.driver.to_string())
                && filters.any("scope", |scope| scope == "local")
                && filters.any("type", |wanted| wanted == kind)
                && filters.fits_labels(&network.labels)
                && (dangling.is_empty() || dangling.contains(&is_dangling))
            {
                found.push(network);
            }
        }
        Ok(found)
    }

    /// Returns a network by its name, its id or the beginning of its id.
    ///
    /// # Errors
    /// When it is not there.
    pub fn network(&self, wanted: &str) -> Result<Network> {
        self.describe_network(self.network_of_any(wanted)?)
    }

    fn describe_network(&self, record: NetworkRecord) -> Result<Network> {
        let document = NetworkDocument::read(&record)?;
        let mut members = Vec::new();
        for endpoint in self.store.connected(|connected| connected.endpoints_in(&record.id))? {
            members.push(self.member(&record, &document, endpoint)?);
        }
        let NetworkDocument { driver, internal, ipv4, ipv6, subnets, labels, options, .. } = document;
        Ok(Network {
            created: u64::try_from(record.created).unwrap_or(0),
            name: self.shown(&record),
            id: record.id,
            driver,
            internal,
            ipv4,
            ipv6,
            subnets,
            options,
            labels,
            members,
        })
    }

    fn member(
        &self,
        record: &NetworkRecord,
        document: &NetworkDocument,
        endpoint: Endpoint,
    ) -> Result<Member> {
        let EndpointDocument { connection } = EndpointDocument::read(&endpoint)?;
        let id = endpoint.owner.clone();
        let (record, document) = (record.clone(), document.clone());
        let mut joint = Joint { record, document, endpoint, connection, attached: None };
        self.fill_attached(&mut joint);
        let name = self.store.container(&id).map(|record| record.name);
        let name = name.or_else(|_| self.store.pod(&id).map(|record| record.name));
        Ok(Member {
            name: name.unwrap_or_default(),
            runs: self.is_live(&id)?,
            mac: MacAddress(joint.mac()),
            addresses: joint.addresses(),
            id,
        })
    }

    /// Returns what a container or pod has in the networks that it asks for, as far as it has that already.
    pub(crate) fn connected(&self, owner: &str, request: &Request) -> Result<Vec<Connected>> {
        let connections = request.namespaces.network.connections();
        if connections.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = Vec::new();
        let endpoints = self.store.connected(|connected| connected.endpoints_of(owner))?;
        for connection in connections {
            // One that is gone is told of when the container starts.
            let wanted = connection.id.as_ref().unwrap_or(&connection.network);
            let Ok(record) = self.store.network(wanted) else { continue };
            let document = NetworkDocument::read(&record)?;
            let joint = joined(owner, vec![(record, document)], std::slice::from_ref(connection), &endpoints);
            for (mut joint, _) in joint.into_iter().filter(|(_, is_known)| *is_known) {
                self.fill_attached(&mut joint);
                known.push(Connected { network: self.shown(&joint.record), ..joint.connected() });
            }
        }
        Ok(known)
    }
}
