//! The table of a store of containers.
//!
//! Its chains and rules are always the same; networks and published ports are elements of its sets, so that one more costs
//! the kernel nothing per packet and is one transaction. In the language of nft(8):
//!
//! ```text
//! chain raw         { prerouting -300  iifname @bridges ip daddr 127.0.0.0/8 drop }
//! chain prerouting  { prerouting -100  fib daddr type local dnat ip to meta l4proto . th dport map @ports …}
//! chain output      { output -100      as prerouting }
//! chain postrouting { postrouting 100  ip saddr @subnets4 oifname != @bridges masquerade … }
//! chain forward     { forward 0
//!     ct state established,related accept
//!     iifname . oifname @same accept
//!     iifname @internal drop
//!     oifname @internal drop
//!     ct status dnat accept
//!     oifname @bridges drop
//! }
//! ```
//!
//! So a host elsewhere reaches what is published and nothing else of a container, and a network reaches another one only
//! through what that publishes. To accept here decides nothing for the tables of others: what the host's own firewall drops
//! stays dropped.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use rustix::io::Errno;

use crate::error::Result;
use crate::nft::{
    Chain, ChainKind, Element, Expression, Filter, Hook, Register, Set, SetKind, Transaction, Value, Verdict,
};

const V4: u8 = 2;
const V6: u8 = 10;
const BRIDGES: Set = Set { name: "bridges", kind: SetKind::Devices };
const INTERNAL: Set = Set { name: "internal", kind: SetKind::Devices };
const SAME: Set = Set { name: "same", kind: SetKind::DevicePairs };
const SUBNETS: [Set; 2] = [
    Set { name: "subnets4", kind: SetKind::Subnets(V4) },
    Set { name: "subnets6", kind: SetKind::Subnets(V6) },
];
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
    /// Subnets whose packets leave with the host's address.
    pub masqueraded: Vec<IpNet>,
    /// Whether it has no way out and none in.
    pub is_internal: bool,
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

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    fn number(self) -> u8 {
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

    /// Tells whether the table is there.
    ///
    /// # Errors
    /// As recv(2).
    pub fn are_there(&self) -> Result<bool> {
        self.filter.has_table(&self.table)
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
        networks
            .iter()
            .for_each(|network| self.network(&mut transaction, network, Transaction::add_elements));
        self.ports(&mut transaction, ports, Transaction::add_elements);
        self.filter.commit(transaction)
    }

    /// Adds a network.
    ///
    /// # Errors
    /// ENOENT without the table.
    pub fn add_network(&self, network: &Network) -> Result<()> {
        let mut transaction = Transaction::new();
        self.network(&mut transaction, network, Transaction::add_elements);
        self.filter.commit(transaction)
    }

    /// Takes a network out.
    ///
    /// # Errors
    /// What the kernel refuses, but not that the network or the table is not there.
    pub fn remove_network(&self, network: &Network) -> Result<()> {
        let mut transaction = Transaction::new();
        self.network(&mut transaction, network, Transaction::delete_elements);
        missing_is_gone(self.filter.commit(transaction))
    }

    /// Publishes ports.
    ///
    /// # Errors
    /// EEXIST for one that leads elsewhere already, ENOENT without the table; then none is published.
    pub fn publish(&self, ports: &[Port]) -> Result<()> {
        let mut transaction = Transaction::new();
        self.ports(&mut transaction, ports, Transaction::add_elements);
        self.filter.commit(transaction)
    }

    /// Takes back the ports whose owner this tells to be gone.
    ///
    /// # Errors
    /// What the kernel refuses, but not that the table is not there.
    pub fn unpublish(&self, is_gone: impl Fn(&str) -> bool) -> Result<()> {
        for set in PORTS.iter().chain(&ADDRESS_PORTS) {
            let elements = match self.filter.elements(&self.table, set) {
                Err(error) if error.is(Errno::NOENT) => return Ok(()),
                elements => elements?,
            };
            for element in elements.into_iter().filter(|element| element.owner().is_none_or(&is_gone)) {
                let mut transaction = Transaction::new();
                transaction.delete_elements(&self.table, set, &[element]);
                // Somebody else may do the same.
                missing_is_gone(self.filter.commit(transaction))?;
            }
        }
        Ok(())
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

    fn network(&self, transaction: &mut Transaction, network: &Network, change: Change) {
        let bridge = Value::Device(&network.bridge);
        change(transaction, &self.table, &BRIDGES, &[Element::new(&[bridge])]);
        change(transaction, &self.table, &SAME, &[Element::new(&[bridge, bridge])]);
        if network.is_internal {
            change(transaction, &self.table, &INTERNAL, &[Element::new(&[bridge])]);
        }
        for subnet in &network.masqueraded {
            change(transaction, &self.table, &SUBNETS[family(subnet.addr())], &Element::subnet(*subnet));
        }
    }

    fn ports(&self, transaction: &mut Transaction, ports: &[Port], change: Change) {
        for Port { owner, protocol, address, port, to } in ports {
            let (protocol, port) = (Value::Protocol(protocol.number()), Value::Port(*port));
            let data = [Value::Address(to.ip()), Value::Port(to.port())];
            let (sets, element) = match address {
                None => (&PORTS, Element::leading(&[protocol, port], &data)),
                Some(address) => {
                    (&ADDRESS_PORTS, Element::leading(&[protocol, Value::Address(*address), port], &data))
                }
            };
            change(transaction, &self.table, &sets[family(to.ip())], &[element.of(owner)]);
        }
    }
}

/// What is done with elements.
type Change = for<'a> fn(&'a mut Transaction, &str, &Set, &[Element]) -> &'a mut Transaction;

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
    for set in [&BRIDGES, &INTERNAL, &SAME].into_iter().chain(&SUBNETS).chain(&PORTS).chain(&ADDRESS_PORTS) {
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
    for (chain, rule) in rules() {
        transaction.add_rule(table, chain, &rule);
    }
}

/// Lists the rules by their chains.
fn rules() -> Vec<(&'static str, Vec<Expression>)> {
    use Expression::{
        End, In, Is, IsNot, LoadInput, LoadNetwork, LoadOutput, LoadState, LoadStatus, Mask, Masquerade,
        NotIn,
    };
    const A: Register = Register(0);
    const B: Register = Register(4);
    const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
    const DESTINATION_CHANGED: u32 = 0x20;
    const NOTHING: &[u8] = &[0; 4];
    let loopback =
        |offset| [Expression::LoadFamily(A), Is(A, &[V4]), LoadNetwork(A, offset, 1), Is(A, &[127])];
    let was_published = [LoadStatus(A), Mask(A, DESTINATION_CHANGED), IsNot(A, NOTHING)];
    let mut all = vec![(
        "raw",
        [&[LoadInput(A), In(A, BRIDGES.name)][..], &loopback(16), &[End(Verdict::Drop)]].concat(),
    )];
    for chain in ["prerouting", "output"] {
        for is_v6 in [false, true] {
            all.push((chain, published(is_v6, true)));
            all.push((chain, published(is_v6, false)));
        }
    }
    for (index, (family, offset, length)) in [(&[V4], 12, 4), (&[V6], 8, 16)].into_iter().enumerate() {
        let ours = [
            Expression::LoadFamily(A),
            Is(A, family),
            LoadNetwork(A, offset, length),
            In(A, SUBNETS[index].name),
            LoadOutput(A),
        ];
        all.push(("postrouting", [&ours[..], &[NotIn(A, BRIDGES.name), Masquerade]].concat()));
        // Back to the own network, by a port of the host: the answer must come back by the host, too.
        all.push((
            "postrouting",
            [&ours[..], &[In(A, BRIDGES.name)], &was_published, &[Masquerade]].concat(),
        ));
    }
    let to_bridge = [LoadOutput(A), In(A, BRIDGES.name)];
    all.push(("postrouting", [&to_bridge[..], &was_published, &loopback(12), &[Masquerade]].concat()));
    all.extend([
        (
            "forward",
            vec![LoadState(A), Mask(A, ESTABLISHED_OR_RELATED), IsNot(A, NOTHING), End(Verdict::Accept)],
        ),
        ("forward", vec![LoadInput(A), LoadOutput(B), In(A, SAME.name), End(Verdict::Accept)]),
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
        LoadProtocol(KEY),
    ];
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
