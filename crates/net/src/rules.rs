//! The table of a store of containers.
//!
//! Its chains and rules are always the same; networks and published ports are elements of its sets, so that one more costs
//! the kernel nothing per packet and is one transaction. In the language of nft(8):
//!
//! ```text
//! chain raw         { prerouting -300  iifname != "lo" ip daddr 127.0.0.0/8 drop }
//! chain prerouting  { prerouting -100  fib daddr type local dnat ip to meta l4proto . th dport map @ports …}
//! chain output      { output -100      as prerouting }
//! chain postrouting { postrouting 100
//!     ip saddr @subnets4 oifname != @bridges masquerade
//!     ip saddr @homes4 oifname @bridges ct status dnat masquerade …
//! }
//! chain forward     { forward 0
//!     ct state established,related accept
//!     iifname . oifname @same accept
//!     iifname @bridges fib saddr . iif oif missing drop
//!     iifname @internal drop
//!     oifname @internal drop
//!     ct status dnat accept
//!     oifname @bridges drop
//! }
//! ```
//!
//! What comes from elsewhere for the loopback is dropped, whoever sends it: a port that is published there would be everybody's, and
//! the kernel looks for that only behind `prerouting`. So a host elsewhere reaches what is published and nothing else of a container, and a network reaches another one only
//! through what that publishes. To accept here decides nothing for the tables of others: what the host's own firewall drops
//! stays dropped.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Doing as _, Error, Result};
use crate::nft::{
    self, Chain, ChainKind, Element, Expression, Filter, Hook, Register, Set, SetKind, Transaction, Value,
    Verdict,
};

/// How often a change is tried while others change the packet filter.
const ATTEMPTS: u32 = 100;
const V4: u8 = 2;
const V6: u8 = 10;
/// `::1`.
const LOOPBACK_V6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const BRIDGES: Set = Set { name: "bridges", kind: SetKind::Devices };
const INTERNAL: Set = Set { name: "internal", kind: SetKind::Devices };
const SAME: Set = Set { name: "same", kind: SetKind::DevicePairs };
const SUBNETS: [Set; 2] = [
    Set { name: "subnets4", kind: SetKind::Subnets(V4) },
    Set { name: "subnets6", kind: SetKind::Subnets(V6) },
];
/// All of bridges, masqueraded or not.
const HOMES: [Set; 2] =
    [Set { name: "homes4", kind: SetKind::Subnets(V4) }, Set { name: "homes6", kind: SetKind::Subnets(V6) }];
const PORTS: [Set; 2] =
    [Set { name: "ports4", kind: SetKind::Ports(V4) }, Set { name: "ports6", kind: SetKind::Ports(V6) }];
const ADDRESS_PORTS: [Set; 2] = [
    Set { name: "address_ports4", kind: SetKind::AddressPorts(V4) },
    Set { name: "address_ports6", kind: SetKind::AddressPorts(V6) },
];

/// A network as the table knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its bridge.
    pub bridge: String,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// Those of them whose packets leave with the host's address.
    pub masqueraded: Vec<IpNet>,
    /// Whether it has no way out and none in.
    pub is_internal: bool,
    /// Whether its containers do not reach each other: by the host neither.
    pub is_isolated: bool,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its owner: a container's id.
    pub owner: String,
    /// The protocol above IP.
    pub protocol: Protocol,
    /// The address of the host; without one, all of the family that `to` has.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: u16,
    /// Where it leads.
    pub to: SocketAddr,
}

/// A port of the host that leads somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Whose it is.
    pub owner: String,
    /// The protocol above IP.
    pub protocol: Protocol,
    /// Whether it is of IPv6.
    pub is_v6: bool,
    /// The address of the host; without one, all of its family.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: u16,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(()),
        }
    }
}

impl Protocol {
    /// Returns its number, as IANA assigns it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// The table of a store.
#[derive(Debug)]
pub struct Rules {
    filter: Filter,
    table: String,
}

impl Rules {
    /// Opens the table of this name, which need not be there.
    ///
    /// # Errors
    /// As [`Filter::open`].
    pub fn open(table: &str) -> Result<Self> {
        Ok(Self { filter: Filter::open()?, table: table.to_owned() })
    }

    /// Tells whether the table is there with all of its rules, and those of this build.
    ///
    /// # Errors
    /// As recv(2).
    pub fn are_there(&self) -> Result<bool> {
        let rules = rules();
        let mark = mark_of(&rules);
        let found = self.filter.notes(&self.table)?;
        Ok(found.len() == rules.len() && found.iter().all(|note| *note == mark))
    }

    /// Returns words that stay the same in this run of the machine as long as nobody has changed any rule of this network namespace, and
    /// this build's are the same: where they are known from a moment at which all was there, it still is. Nothing before Linux 5.14.
    ///
    /// # Errors
    /// As recv(2).
    pub fn stamp(&self) -> Result<Option<String>> {
        let Some(namespace) = self.filter.namespace() else { return Ok(None) };
        let generation = self.filter.generation()?;
        Ok(Some(format!("{namespace} {generation} {}", mark_of(&rules()))))
    }

    /// Puts the table there anew with these networks and ports, and nothing of what was in it.
    ///
    /// # Errors
    /// What the kernel refuses; then all is as before.
    pub fn replace(&self, networks: &[Network], ports: &[Port]) -> Result<()> {
        let mut transaction = Transaction::new();
        // What is deleted must be there.
        transaction.make_table(&self.table).delete_table(&self.table).make_table(&self.table);
        lay_out(&mut transaction, &self.table);
        for (set, elements) in networks.iter().flat_map(of_network).chain(of_ports(ports)) {
            transaction.add_elements(&self.table, set, &elements);
        }
        self.filter.commit(transaction)
    }

    /// Adds a network.
    ///
    /// # Errors
    /// ENOENT without the table.
    pub fn add_network(&self, network: &Network) -> Result<()> {
        let mut transaction = Transaction::new();
        for (set, elements) in of_network(network) {
            transaction.add_elements(&self.table, set, &elements);
        }
        self.filter.commit(transaction)
    }

    /// Takes a network out, as far as it is there.
    ///
    /// # Errors
    /// What the kernel refuses, but not that the table is not there.
    pub fn remove_network(&self, network: &Network) -> Result<()> {
        let gone = of_network(network);
        self.revise(|transaction| {
            for (set, elements) in &gone {
                let found = match self.filter.elements(&self.table, set) {
                    // Of another version, which has no such set.
                    Err(error) if error.is(Errno::NOENT) => continue,
                    found => found?,
                };
                let found = found.into_iter().filter(|found| elements.iter().any(|gone| gone.is_at(found)));
                transaction.delete_elements(&self.table, set, &Vec::from_iter(found));
            }
            Ok(())
        })
    }

    /// Publishes ports.
    ///
    /// # Errors
    /// [`Error::PortTaken`] for one that leads elsewhere already, of all addresses or of one; ENOENT without the table. Then
    /// none is published.
    pub fn publish(&self, ports: &[Port]) -> Result<()> {
        self.attempt(|transaction| {
            let mut taken = Vec::new();
            for set in PORTS.iter().chain(&ADDRESS_PORTS) {
                let found = self.filter.elements(&self.table, set)?;
                taken.extend(found.into_iter().map(|element| (set.name, element)));
            }
            ports.iter().try_for_each(|port| port.look_for_others(&taken))?;
            for (set, elements) in of_ports(ports) {
                transaction.add_elements(&self.table, set, &elements);
            }
            Ok(())
        })
    }

    /// Takes back the ports whose owner this tells to be gone.
    ///
    /// # Errors
    /// What the kernel refuses, but not that the table is not there.
    pub fn unpublish(&self, is_gone: impl Fn(&str) -> bool) -> Result<()> {
        self.revise(|transaction| {
            for set in PORTS.iter().chain(&ADDRESS_PORTS) {
                let found = self.filter.elements(&self.table, set)?;
                let gone = found.into_iter().filter(|element| element.owner().is_none_or(&is_gone));
                transaction.delete_elements(&self.table, set, &Vec::from_iter(gone));
            }
            Ok(())
        })
    }

    /// Takes back the ports of an owner, but for these.
    ///
    /// # Errors
    /// What the kernel refuses, but not that the table is not there.
    pub fn keep(&self, owner: &str, kept: &[Port]) -> Result<()> {
        let kept = Vec::from_iter(kept.iter().map(Port::element));
        self.revise(|transaction| {
            for set in PORTS.iter().chain(&ADDRESS_PORTS) {
                let found = self.filter.elements(&self.table, set)?;
                let is_kept = |element: &Element| {
                    kept.iter().any(|(of, kept)| of.name == set.name && kept.is_at(element))
                };
                let gone = found.into_iter().filter(|element| element.owner() == Some(owner));
                let gone = Vec::from_iter(gone.filter(|element| !is_kept(element)));
                transaction.delete_elements(&self.table, set, &gone);
            }
            Ok(())
        })
    }

    /// Lists whose ports are published, each owner once.
    ///
    /// # Errors
    /// What the kernel refuses, but not that the table is not there.
    pub fn owners(&self) -> Result<BTreeSet<String>> {
        let mut owners = BTreeSet::new();
        for set in PORTS.iter().chain(&ADDRESS_PORTS) {
            match self.filter.elements(&self.table, set) {
                Err(error) if error.is(Errno::NOENT) => {}
                found => owners.extend(found?.iter().filter_map(Element::owner).map(str::to_owned)),
            }
        }
        Ok(owners)
    }

    /// Lists the bridges of networks that the table knows.
    ///
    /// # Errors
    /// What the kernel refuses, but not that the table is not there.
    pub fn bridges(&self) -> Result<BTreeSet<String>> {
        let name = |element: &Element| {
            let bytes = element.key().split(|byte| *byte == 0).next()?;
            Some(std::str::from_utf8(bytes).ok()?.to_owned())
        };
        match self.filter.elements(&self.table, &BRIDGES) {
            Err(error) if error.is(Errno::NOENT) => Ok(BTreeSet::new()),
            found => Ok(found?.iter().filter_map(name).collect()),
        }
    }

    /// Lists the ports that lead somewhere.
    ///
    /// # Errors
    /// What the kernel refuses, but not that the table is not there.
    pub fn taken(&self) -> Result<Vec<Taken>> {
        let mut taken = Vec::new();
        for (index, set) in PORTS.iter().enumerate().chain(ADDRESS_PORTS.iter().enumerate()) {
            match self.filter.elements(&self.table, set) {
                Err(error) if error.is(Errno::NOENT) => {}
                found => taken.extend(found?.iter().filter_map(|element| Taken::read(index == 1, element))),
            }
        }
        Ok(taken)
    }

    /// Deletes the table.
    ///
    /// # Errors
    /// What the kernel refuses, but not that it is not there.
    pub fn remove(&self) -> Result<()> {
        let mut transaction = Transaction::new();
        transaction.delete_table(&self.table);
        missing_is_gone(self.filter.commit(transaction))
    }

    /// As [`Rules::attempt`], of what is done already when the table is not there.
    fn revise(&self, change: impl Fn(&mut Transaction) -> Result<()>) -> Result<()> {
        missing_is_gone(self.attempt(change))
    }

    /// Changes the table by what is in it, which is in it still when the change is made.
    fn attempt(&self, change: impl Fn(&mut Transaction) -> Result<()>) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let generation = self.filter.generation()?;
            let mut transaction = Transaction::new();
            change(&mut transaction)?;
            if transaction.is_empty() {
                return Ok(());
            }
            match self.filter.commit_at(Some(generation), transaction) {
                Err(error) if error.is(Errno::RESTART) => {}
                done => return done,
            }
        }
        nft::call(Errno::AGAIN).doing(|| "change the packet filter, which others change without a pause")
    }
}

impl Port {
    /// Returns the element that this is, and the set in which it is.
    fn element(&self) -> (&'static Set, Element) {
        let (protocol, port) = (Value::Protocol(self.protocol.number()), Value::Port(self.port));
        let data = [Value::Address(self.to.ip()), Value::Port(self.to.port())];
        let (sets, element) = match self.address {
            None => (&PORTS, Element::leading(&[protocol, port], &data)),
            Some(address) => {
                (&ADDRESS_PORTS, Element::leading(&[protocol, Value::Address(address), port], &data))
            }
        };
        (&sets[family(self.to.ip())], element.of(&self.owner))
    }

    /// Fails if a port is another one's: the same one, that of all addresses, or if this is of all addresses that of one.
    fn look_for_others(&self, taken: &[(&str, Element)]) -> Result<()> {
        let (set, own) = self.element();
        let index = family(self.to.ip());
        // A key begins with the protocol, in four bytes, and ends with the port, in four.
        let ends = |element: &Element| {
            let key = element.key();
            Some((key.first_chunk::<4>().copied()?, key.last_chunk::<4>().copied()?))
        };
        let is_others = |(name, found): &&(&str, Element)| {
            let is_of_all = *name == PORTS[index].name || set.name == PORTS[index].name;
            let is_family = [PORTS[index].name, ADDRESS_PORTS[index].name].contains(name);
            is_family && (found.is_at(&own) || is_of_all && ends(found) == ends(&own))
        };
        match taken.iter().find(is_others) {
            None => Ok(()),
            Some((_, found)) => {
                let owner = found.owner().unwrap_or("of nobody").to_owned();
                Err(Error::PortTaken { port: self.to_string(), owner })
            }
        }
    }
}

impl Taken {
    /// Reads the key of an element: the protocol, in four bytes, an address in some sets, and the port, in four.
    fn read(is_v6: bool, element: &Element) -> Option<Self> {
        let (&[protocol, ..], rest) = element.key().split_first_chunk::<4>()?;
        let (address, &[high, low, ..]) = rest.split_last_chunk::<4>()?;
        Some(Self {
            owner: element.owner().unwrap_or_default().to_owned(),
            protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .into_iter()
                .find(|known| known.number() == protocol)?,
            is_v6,
            address: match address.len() {
                4 => Some(<[u8; 4]>::try_from(address).ok()?.into()),
                16 => Some(<[u8; 16]>::try_from(address).ok()?.into()),
                _ => None,
            },
            port: u16::from_be_bytes([high, low]),
        })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, address, port, .. } = self;
        match address {
            None => write!(f, "{port}/{protocol}"),
            Some(address) => write!(f, "{}/{protocol}", SocketAddr::new(*address, *port)),
        }
    }
}

/// Lists what a network is in the sets.
fn of_network(network: &Network) -> Vec<(&'static Set, Vec<Element>)> {
    let bridge = Value::Device(&network.bridge);
    let mut all = vec![(&BRIDGES, vec![Element::new(&[bridge])])];
    if !network.is_isolated {
        all.push((&SAME, vec![Element::new(&[bridge, bridge])]));
    }
    if network.is_internal {
        all.push((&INTERNAL, vec![Element::new(&[bridge])]));
    }
    for (subnets, sets) in [(&network.subnets, &HOMES), (&network.masqueraded, &SUBNETS)] {
        let each = subnets.iter();
        all.extend(each.map(|subnet| (&sets[family(subnet.addr())], Element::subnet(*subnet))));
    }
    all
}

/// Lists what ports are in the sets, by the sets.
fn of_ports(ports: &[Port]) -> Vec<(&'static Set, Vec<Element>)> {
    let mut all: Vec<(&'static Set, Vec<Element>)> = Vec::new();
    for (set, element) in ports.iter().map(Port::element) {
        match all.iter_mut().find(|(of, _)| of.name == set.name) {
            Some((_, elements)) => elements.push(element),
            None => all.push((set, vec![element])),
        }
    }
    all
}

/// The place of an address's family in the pairs above.
fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}

fn missing_is_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.is(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Makes the sets, the chains and their rules.
fn lay_out(transaction: &mut Transaction, table: &str) {
    let of_networks = [&BRIDGES, &INTERNAL, &SAME].into_iter().chain(&SUBNETS).chain(&HOMES);
    for set in of_networks.chain(&PORTS).chain(&ADDRESS_PORTS) {
        transaction.make_set(table, set);
    }
    for chain in [
        Chain { name: "raw", kind: ChainKind::Filter, hook: Hook::Prerouting, priority: -300 },
        Chain { name: "prerouting", kind: ChainKind::Nat, hook: Hook::Prerouting, priority: -100 },
        Chain { name: "output", kind: ChainKind::Nat, hook: Hook::Output, priority: -100 },
        Chain { name: "postrouting", kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100 },
        Chain { name: "forward", kind: ChainKind::Filter, hook: Hook::Forward, priority: 0 },
    ] {
        transaction.make_chain(table, chain);
    }
    let rules = rules();
    let mark = mark_of(&rules);
    for (chain, rule) in rules {
        transaction.add_marked_rule(table, chain, &rule, &mark);
    }
}

/// What is noted at each rule: another build may have other rules.
fn mark_of(rules: &[(&'static str, Vec<Expression>)]) -> String {
    let mut hasher = DefaultHasher::new();
    rules.hash(&mut hasher);
    format!("bulkhead {:016x}", hasher.finish())
}

/// Lists the rules by their chains.
fn rules() -> Vec<(&'static str, Vec<Expression>)> {
    use Expression::{
        End, In, Is, IsNot, LoadInput, LoadNetwork, LoadOutput, LoadState, LoadStatus, LoadWayBack, Mask,
        Masquerade, NotIn,
    };
    const A: Register = Register(0);
    const B: Register = Register(4);
    const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    const DESTINATION_CHANGED: u32 = 0x20;
    const NOTHING: &[u8] = &[0; 4];
    const LOOPBACK: &[u8] = b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let loopback =
        |offset| [Expression::LoadFamily(A), Is(A, &[V4]), LoadNetwork(A, offset, 1), Is(A, &[127])];
    let was_published = [LoadStatus(A), Mask(A, DESTINATION_CHANGED), IsNot(A, NOTHING)];
    // To the host's own loopback, and as if from there.
    let outside = [LoadInput(A), IsNot(A, LOOPBACK)];
    let mut all = Vec::from(
        [16, 12].map(|offset| ("raw", [&outside[..], &loopback(offset), &[End(Verdict::Drop)]].concat())),
    );
    for chain in ["prerouting", "output"] {
        for is_v6 in [false, true] {
            all.push((chain, published(is_v6, true)));
            all.push((chain, published(is_v6, false)));
        }
    }
    for (index, (family, offset, length)) in [(&[V4], 12, 4), (&[V6], 8, 16)].into_iter().enumerate() {
        let from = |set: &Set| {
            let source = [Expression::LoadFamily(A), Is(A, family), LoadNetwork(A, offset, length)];
            [&source[..], &[In(A, set.name), LoadOutput(A)]].concat()
        };
        let leaving = [NotIn(A, BRIDGES.name), Masquerade];
        all.push(("postrouting", [&from(&SUBNETS[index])[..], &leaving].concat()));
        // Back to the own network, by a port of the host: the answer must come back by the host, too, also where packets keep
        // their addresses that leave it. Frames of one bridge that the kernel shows to these rules have no device of their
        // origin here, so that it is the subnet that tells.
        let back = [&from(&HOMES[index])[..], &[In(A, BRIDGES.name)], &was_published, &[Masquerade]];
        all.push(("postrouting", back.concat()));
    }
    let to_bridge = [LoadOutput(A), In(A, BRIDGES.name)];
    all.push(("postrouting", [&to_bridge[..], &was_published, &loopback(12), &[Masquerade]].concat()));
    all.extend([
        (
            "forward",
            vec![LoadState(A), Mask(A, ESTABLISHED_OR_RELATED), IsNot(A, NOTHING), End(Verdict::Accept)],
        ),
        ("forward", vec![LoadInput(A), LoadOutput(B), In(A, SAME.name), End(Verdict::Accept)]),
        // Nobody speaks for those of another network: the answer would find its way to them.
        (
            "forward",
            vec![LoadInput(A), In(A, BRIDGES.name), LoadWayBack(A), Is(A, NOTHING), End(Verdict::Drop)],
        ),
        ("forward", vec![LoadInput(A), In(A, INTERNAL.name), End(Verdict::Drop)]),
        ("forward", vec![LoadOutput(A), In(A, INTERNAL.name), End(Verdict::Drop)]),
        ("forward", [&was_published[..], &[End(Verdict::Accept)]].concat()),
        ("forward", [&to_bridge[..], &[End(Verdict::Drop)]].concat()),
    ]);
    all
}

/// The rule by which a port of this host leads to a container: one of an address of the host, or of all.
fn published(is_v6: bool, is_of_address: bool) -> Vec<Expression> {
    use Expression::{ChangeDestination, Is, LoadNetwork, LoadProtocol, LoadTransport, Map};
    const KEY: Register = Register(0);
    const LOCAL: &[u8] = &2_u32.to_ne_bytes();
    let (family, offset, length, words): (&'static [u8], _, _, u8) =
        if is_v6 { (&[V6], 24, 16, 4) } else { (&[V4], 16, 4, 1) };
    let index = usize::from(is_v6);
    let mut rule = vec![
        Expression::LoadFamily(KEY),
        Is(KEY, family),
        Expression::LoadDestinationType(KEY),
        Is(KEY, LOCAL),
    ];
    if is_v6 {
        // From the loopback's one address of IPv6 there is no way to a container: who asks is refused at once, and may ask at 127.0.0.1.
        rule.extend([LoadNetwork(KEY, offset, length), Expression::IsNot(KEY, &LOOPBACK_V6)]);
    }
    rule.push(LoadProtocol(KEY));
    let (port, set) = if is_of_address {
        rule.push(LoadNetwork(Register(1), offset, length));
        (Register(1 + words), ADDRESS_PORTS[index])
    } else {
        (Register(1), PORTS[index])
    };
    // What a key leads to stands behind the longest of them.
    let to = Register(8);
    rule.push(LoadTransport(port, 2, 2));
    rule.push(Map(KEY, set.name, to));
    rule.push(ChangeDestination(family[0], to, Register(8 + words)));
    rule
}
