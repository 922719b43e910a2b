//! Names by which containers find each other: who is in which network stands in tables that the name servers of the networks read
//! (`bulkhead_net::names`), and each container has sockets at which one of these answers.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use bulkhead_net::names::protocol::Request;
use bulkhead_net::names::{self, Helper, Member, Table, Until};
use bulkhead_shim::order;

use super::address::Joint;
use super::host::Host;
use crate::container::State;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::id;
use crate::known::Known;
use crate::request::Network;

/// The directory of the tables.
const TABLES: &str = "names";

/// As what a container asks for names.
pub(super) struct Asks {
    /// The id of the container or pod for which a name server answers.
    pub(super) owner: String,
    /// The id of the network whose that is.
    pub(super) network: String,
    /// Who is asked for all others.
    pub(super) resolvers: Vec<IpAddr>,
}

impl Engine {
    fn tables(&self) -> PathBuf {
        self.places().networks_run().join(TABLES)
    }

    /// Where the name server of a network listens.
    fn name_server(&self, network: &str) -> PathBuf {
        self.places().networks_run().join(format!("{}.sock", id::short(network)))
    }

    /// Has the name server of a network answer what is asked in a namespace, for as long as somebody stays with it, or until something
    /// ends.
    pub(super) fn serve_names(
        &self,
        owner: &str,
        namespace: BorrowedFd<'_>,
        network: &str,
        resolvers: &[IpAddr],
        until: Until<'_>,
    ) -> Result<()> {
        let sockets = names::open(namespace)?;
        let (program, tables) = (self.names()?, self.tables());
        let socket = self.name_server(network);
        let helper = Helper { program: &program, tables: &tables, socket: &socket, words: &[] };
        Ok(names::ensure(&helper)?.serve(owner, &sockets, resolvers, until)?)
    }

    /// Says with which name server the monitor of a container stays; none without a network that has names.
    pub(crate) fn name_server_for(&self, known: &Known) -> Result<Option<order::Companion>> {
        let Some(Asks { owner, network, .. }) = self.asks_as(known)? else { return Ok(None) };
        let stay = Request::Stay { container: owner, resolvers: Vec::new() };
        Ok(Some(order::Companion {
            socket: self.name_server(&network),
            greeting: String::from_utf8_lossy(&stay.encode()).into_owned(),
            revive: [self.words_for_monitor(super::hook::NAMES, &known.record.id)?, vec![network]].concat(),
        }))
    }

    /// Tells as what a container asks for names; nothing of one whose questions no name server answers.
    pub(super) fn asks_as(&self, known: &Known) -> Result<Option<Asks>> {
        let Known { record, document, .. } = known;
        let request = &document.request;
        let (owner, connections, resolvers) = match (&request.namespaces.network, &record.pod) {
            (Network::Networks(connections), _) => {
                (record.id.clone(), connections.clone(), request.hosts.servers.clone())
            }
            (Network::Pod, Some(pod)) => self.names_of_pod(pod)?,
            _ => return Ok(None),
        };
        let first = connections.into_iter().find(|of| super::has_names(&of.network));
        Ok(first.map(|first| Asks { owner, network: first.id.unwrap_or_default(), resolvers }))
    }

    /// Tells whether somebody answers a container that asks.
    pub(super) fn is_answered(&self, known: &Known) -> Result<bool> {
        match self.asks_as(known)? {
            Some(Asks { owner, network, .. }) => Ok(names::is_served(&self.name_server(&network), &owner)?),
            None => Ok(true),
        }
    }

    /// Lists the containers that run and that nobody answers, of a pod one.
    pub(super) fn unanswered(&self) -> Result<Vec<String>> {
        let (mut owners, mut found) = (BTreeSet::new(), Vec::new());
        for record in self.store.containers()? {
            let known = match self.look(record) {
                // It is told by itself.
                Err(Error::Damaged { .. }) => continue,
                known => known?,
            };
            if known.life.state != State::Running {
                continue;
            }
            let Some(Asks { owner, network, .. }) = self.asks_as(&known)? else { continue };
            if !owners.contains(&owner) && !names::is_served(&self.name_server(&network), &owner)? {
                found.push(known.record.id);
            }
            owners.insert(owner);
        }
        Ok(found)
    }

    /// Ends the name server of a network that goes.
    pub(super) fn end_name_server(&self, network: &str) -> Result<()> {
        let socket = self.name_server(network);
        if socket.exists() {
            names::end(&socket)?;
        }
        Ok(Table::remove(&self.tables(), network)?)
    }
}

impl Host<'_> {
    /// Has others in a network find an owner by these names, unless nobody has names there.
    pub(super) fn enter_names(&self, joint: &Joint, called: &[String]) -> Result<()> {
        let is_found = joint.has_names();
        let names = called.iter().chain(&joint.connection.aliases).filter(|_| is_found);
        let member = Member {
            container: joint.endpoint.owner.clone(),
            order: joint.endpoint.position,
            addresses: joint.own_addresses(),
            names: names.cloned().collect(),
            links: Vec::new(),
        };
        self.change_table(joint, |members| {
            members.retain(|other| other.container != member.container);
            members.push(member);
        })
    }

    /// Has nobody in a network find an owner any more.
    pub(super) fn leave_names(&self, network: &str, owner: &str) -> Result<()> {
        let tables = self.engine().tables();
        let Some(mut table) = read_table(&tables, network)? else { return Ok(()) };
        let before = table.members.len();
        table.members.retain(|member| member.container != owner);
        match table.members.len() {
            len if len == before => Ok(()),
            // Nobody else takes it away.
            0 if super::elsewhere::is_elsewhere(&table.name) => Ok(Table::remove(&tables, network)?),
            _ => Ok(table.write(&tables, network)?),
        }
    }

    fn change_table(&self, joint: &Joint, change: impl FnOnce(&mut Vec<Member>)) -> Result<()> {
        let tables = self.engine().tables();
        let id = &joint.record.id;
        let mut table = read_table(&tables, id)?.unwrap_or_default();
        table.name.clone_from(&joint.record.name);
        table.is_internal = joint.document.internal;
        change(&mut table.members);
        Ok(table.write(&tables, id)?)
    }
}

/// Reads the table of a network. One that nobody can read, or of another version, begins anew: it goes with the machine's run, and who is
/// not found by it is found from its next start on.
fn read_table(tables: &Path, network: &str) -> Result<Option<Table>> {
    match Table::read(tables, network) {
        Err(bulkhead_net::Error::File { source, .. })
            if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            Ok(None)
        }
        read => Ok(read?),
    }
}
