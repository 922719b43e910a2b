//! The records of networks, and of what containers and pods have in them.
//!
//! A network's row comes before its bridge and goes after it. An endpoint goes with its network, and with the container or
//! pod that it is of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::container::column;
use crate::error::{Doing as _, Error, Noun, Result};
use crate::store::now;
use crate::{Durability, Stage, Store};

/// What the store knows of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRecord {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name, which no other network has.
    pub name: String,
    /// When it was made, in nanoseconds since 1970 (UTC).
    pub created: i64,
    /// Whether it is on its way out: then nothing is connected with it.
    pub stage: Stage,
    /// What the engine keeps, as JSON.
    pub document: String,
}

/// What a container or a pod has in a network, whether it runs or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The id of the container or pod.
    pub owner: String,
    /// The id of the network.
    pub network: String,
    /// Its place among those of the owner, from 0: the number of its device.
    pub position: u32,
    /// Its address of IPv4, which no other endpoint of the network has.
    pub ipv4: Option<Ipv4Addr>,
    /// Its address of IPv6, which no other endpoint of the network has.
    pub ipv6: Option<Ipv6Addr>,
    /// What the engine keeps, as JSON.
    pub document: String,
}

/// The networks and endpoints as they are while nobody else changes them.
#[derive(Debug)]
pub struct Connected<'db>(pub(crate) &'db Connection);

impl NetworkRecord {
    /// Makes a record of now, with an empty document.
    pub fn new(id: &str, name: &str) -> Self {
        let (id, name) = (id.to_owned(), name.to_owned());
        Self { id, name, created: now(), stage: Stage::Kept, document: "{}".to_owned() }
    }
}

impl Endpoint {
    /// Returns its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

impl Connected<'_> {
    /// Finds a network by its id, its name, or an unambiguous prefix of its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn network(&self, wanted: &str) -> Result<NetworkRecord> {
        find(self.0, wanted)
    }

    /// Lists all networks, by name.
    ///
    /// # Errors
    /// As the database.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>> {
        self.0
            .prepare_cached(&format!("{COLUMNS} ORDER BY name"))
            .and_then(|mut statement| statement.query_map([], read)?.collect())
            .doing(|| "list the networks")
    }

    /// Lists the endpoints in a network.
    ///
    /// # Errors
    /// As the database.
    pub fn endpoints_in(&self, network: &str) -> Result<Vec<Endpoint>> {
        endpoints(self.0, "WHERE network = ? ORDER BY owner", [network])
    }

    /// Lists the endpoints of a container or pod, in their order.
    ///
    /// # Errors
    /// As the database.
    pub fn endpoints_of(&self, owner: &str) -> Result<Vec<Endpoint>> {
        endpoints(self.0, "WHERE owner = ? ORDER BY position", [owner])
    }

    /// Lists all endpoints.
    ///
    /// # Errors
    /// As the database.
    pub fn endpoints(&self) -> Result<Vec<Endpoint>> {
        endpoints(self.0, "ORDER BY network, owner", [])
    }

    /// Records an endpoint, in place of one of its owner in that network.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a network that is not there, or goes; as the database for an address that is taken.
    pub fn keep(&self, endpoint: &Endpoint) -> Result<()> {
        let Endpoint { owner, network, position, ipv4, ipv6, document } = endpoint;
        if one(self.0, network)?.stage == Stage::Removing {
            return Err(Error::NotFound { noun: Noun::Network, wanted: network.clone() });
        }
        let text = |address: Option<IpAddr>| address.map(|address| address.to_string());
        let values =
            (owner, network, position, text(ipv4.map(IpAddr::V4)), text(ipv6.map(IpAddr::V6)), document);
        self.0
            .prepare_cached(KEEP)
            .and_then(|mut statement| statement.execute(values))
            .doing(|| format!("record what {owner} has in network {network}"))?;
        Ok(())
    }

    /// Returns the address of a family that was handed out last in a network.
    ///
    /// # Errors
    /// As the database.
    pub fn last_handed_out(&self, network: &str, is_v4: bool) -> Result<Option<IpAddr>> {
        let sql = format!("SELECT {} FROM networks WHERE id = ?", last_of(is_v4));
        self.0
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row([network], |row| address(row, 0)).optional())
            .doing(|| format!("look for the last address of network {network}"))
            .map(Option::flatten)
    }

    /// Remembers that an address was handed out in a network, so that none is soon another's.
    ///
    /// # Errors
    /// As the database.
    pub fn hand_out(&self, network: &str, address: IpAddr) -> Result<()> {
        let sql = format!("UPDATE networks SET {} = ? WHERE id = ?", last_of(address.is_ipv4()));
        self.0
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.execute([&address.to_string(), network]))
            .doing(|| format!("remember the last address of network {network}"))?;
        Ok(())
    }

    /// Changes the document of a network.
    ///
    /// # Errors
    /// As the database.
    pub fn change(&self, network: &NetworkRecord) -> Result<()> {
        self.0
            .execute("UPDATE networks SET document = ? WHERE id = ?", [&network.document, &network.id])
            .doing(|| format!("change the record of network {}", network.name))?;
        Ok(())
    }

    /// Forgets an endpoint; tells whether there was one.
    ///
    /// # Errors
    /// As the database.
    pub fn forget(&self, owner: &str, network: &str) -> Result<bool> {
        let deleted = self
            .0
            .execute("DELETE FROM endpoints WHERE owner = ? AND network = ?", [owner, network])
            .doing(|| format!("forget what {owner} has in network {network}"))?;
        Ok(deleted > 0)
    }
}

impl Store {
    /// Records a network that is decided from all others, while none of them changes.
    ///
    /// # Errors
    /// [`Error::NameTaken`]; those of `decide`, and then nothing is recorded.
    pub fn insert_network(
        &self,
        decide: impl FnOnce(&Connected<'_>) -> Result<NetworkRecord>,
    ) -> Result<NetworkRecord> {
        self.database.write(Durability::PowerLoss, |db| {
            let record = decide(&Connected(db))?;
            let NetworkRecord { id, name, created, stage, document } = &record;
            let by: Option<String> = db
                .query_row("SELECT id FROM networks WHERE name = ?", [name], |row| row.get(0))
                .optional()
                .doing(|| format!("look for network {name}"))?;
            if let Some(by) = by {
                return Err(Error::NameTaken { noun: Noun::Network, name: name.clone(), by });
            }
            db.execute(
                "INSERT INTO networks (id, name, created, stage, document) VALUES (?, ?, ?, ?, ?)",
                (id, name, created, stage.text(), document),
            )
            .doing(|| format!("record network {name}"))?;
            Ok(record)
        })
    }

    /// Reads networks and endpoints as they are at one moment.
    ///
    /// # Errors
    /// Those of `body`.
    pub fn connected<T>(&self, body: impl FnOnce(&Connected<'_>) -> Result<T>) -> Result<T> {
        self.database.snapshot(|db| body(&Connected(db)))
    }

    /// Changes networks and endpoints while nobody else does.
    ///
    /// # Errors
    /// Those of `body`, and then nothing is changed.
    pub fn connect<T>(
        &self,
        durability: Durability,
        body: impl FnOnce(&Connected<'_>) -> Result<T>,
    ) -> Result<T> {
        self.database.write(durability, |db| body(&Connected(db)))
    }

    /// Finds a network by its id, its name, or an unambiguous prefix of its id.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn network(&self, wanted: &str) -> Result<NetworkRecord> {
        self.connected(|connected| connected.network(wanted))
    }

    /// Lists all networks, by name.
    ///
    /// # Errors
    /// As the database.
    pub fn networks(&self) -> Result<Vec<NetworkRecord>> {
        self.connected(|connected| connected.networks())
    }

    /// Marks a network as one that goes: from then on nothing is connected with it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn begin_network_removal(&self, id: &str) -> Result<()> {
        self.database.write_removal(Durability::PowerLoss, |db| begin_removal(db, id))
    }

    /// As [`Store::begin_network_removal`], if nothing is connected with it; tells whether that is so.
    ///
    /// # Errors
    /// As that.
    pub fn begin_removal_of_unused_network(&self, id: &str) -> Result<bool> {
        self.database.write_removal(Durability::PowerLoss, |db| {
            let is_unused = Connected(db).endpoints_in(id)?.is_empty();
            if is_unused { begin_removal(db, id).map(|()| true) } else { Ok(false) }
        })
    }

    /// Forgets a network with all endpoints in it. One that is forgotten already is no error: two may remove it.
    ///
    /// # Errors
    /// As the database.
    pub fn delete_network(&self, id: &str) -> Result<()> {
        self.database.write_removal(Durability::PowerLoss, |db| {
            db.execute("DELETE FROM networks WHERE id = ?", [id])
                .doing(|| format!("delete the record of network {id}"))?;
            Ok(())
        })
    }
}

fn begin_removal(db: &Connection, id: &str) -> Result<()> {
    one(db, id)?;
    db.execute("UPDATE networks SET stage = 'removing' WHERE id = ?", [id])
        .doing(|| format!("begin to remove network {id}"))?;
    Ok(())
}

fn last_of(is_v4: bool) -> &'static str {
    if is_v4 { "last_ipv4" } else { "last_ipv6" }
}

const COLUMNS: &str = "SELECT id, name, created, stage, document FROM networks ";
/// An address that another one has is an error: `OR REPLACE` would take it from that.
const KEEP: &str =
    "INSERT INTO endpoints VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (owner, network) DO UPDATE SET
    position = excluded.position, ipv4 = excluded.ipv4, ipv6 = excluded.ipv6, document = excluded.document";

fn one(db: &Connection, id: &str) -> Result<NetworkRecord> {
    db.prepare_cached(&format!("{COLUMNS} WHERE id = ?"))
        .and_then(|mut statement| statement.query_row([id], read).optional())
        .doing(|| format!("read the record of network {id}"))?
        .ok_or_else(|| Error::NotFound { noun: Noun::Network, wanted: id.to_owned() })
}

fn find(db: &Connection, wanted: &str) -> Result<NetworkRecord> {
    let doing = || format!("look for network {wanted}");
    // An id before a name, as docker has it: who knows a network by its id finds no other that is called so.
    let exact = db
        .prepare_cached(&format!("{COLUMNS} WHERE id = ?1 OR name = ?1 ORDER BY id <> ?1 LIMIT 1"))
        .and_then(|mut statement| statement.query_row([wanted], read).optional())
        .doing(doing)?;
    if let Some(record) = exact {
        return Ok(record);
    }
    let not_found = || Error::NotFound { noun: Noun::Network, wanted: wanted.to_owned() };
    if wanted.is_empty() || !wanted.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(not_found());
    }
    // `g` comes after every digit.
    let found: Vec<NetworkRecord> = db
        .prepare_cached(&format!("{COLUMNS} WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 5"))
        .and_then(|mut statement| statement.query_map([wanted], read)?.collect())
        .doing(doing)?;
    match found.as_slice() {
        [] => Err(not_found()),
        [record] => Ok(record.clone()),
        several => {
            let named = |record: &NetworkRecord| {
                format!("{} ({})", record.id.get(..12).unwrap_or(&record.id), record.name)
            };
            let matches = several.iter().map(named).collect();
            Err(Error::Ambiguous { noun: Noun::Network, wanted: wanted.to_owned(), matches })
        }
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<NetworkRecord> {
    Ok(NetworkRecord {
        id: row.get(0)?,
        name: row.get(1)?,
        created: row.get(2)?,
        stage: column(3, Stage::parse(&row.get::<_, String>(3)?))?,
        document: row.get(4)?,
    })
}

fn endpoints(db: &Connection, rest: &str, parameters: impl rusqlite::Params) -> Result<Vec<Endpoint>> {
    let sql = format!("SELECT owner, network, position, ipv4, ipv6, document FROM endpoints {rest}");
    db.prepare_cached(&sql)
        .and_then(|mut statement| statement.query_map(parameters, endpoint)?.collect())
        .doing(|| "list what is connected with networks")
}

fn endpoint(row: &Row<'_>) -> rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        owner: row.get(0)?,
        network: row.get(1)?,
        position: row.get(2)?,
        ipv4: address(row, 3)?,
        ipv6: address(row, 4)?,
        document: row.get(5)?,
    })
}

fn address<T: std::str::FromStr>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(index)?;
    let read = |text: String| {
        text.parse().map_err(|_| Error::Damaged {
            subject: "the record of an endpoint".to_owned(),
            reason: format!("it has an address {text:?}"),
        })
    };
    text.map(|text| column(index, read(text))).transpose()
}
