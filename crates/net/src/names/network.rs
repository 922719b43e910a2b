//! A network as it is looked up in: a helper has those of all, so they are packed.
//!
//! All texts lie behind each other in one, and members, names and addresses are rows that say where, sorted by what is looked for:
//! a container with a name and two addresses takes 170 bytes, less than half of what its strings and lists would.

use std::fmt;
use std::io;
use std::net::IpAddr;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::table::{Document, Link, Member, Table};

/// A network.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    /// In lower case, what are names.
    text: Box<str>,
    name: Span,
    pub(super) is_internal: bool,
    /// By their containers' ids.
    members: Box<[Row]>,
    /// By the names.
    names: Box<[(Span, u32)]>,
    /// By the numbers of the members.
    addresses: Box<[(u32, IpAddr)]>,
    /// Places in `addresses`, by the addresses.
    by_address: Box<[u32]>,
    /// By the numbers of the members: a name, and another's id.
    links: Box<[(u32, Span, Span)]>,
}

/// A piece of the text.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    at: u32,
    length: u32,
}

/// A member.
#[derive(Debug, Clone, Copy)]
struct Row {
    container: Span,
    /// By which the others here refer to it.
    number: u32,
    order: u32,
    /// The first of its names.
    called: Option<Span>,
}

/// A network as one of its members sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    pub(super) network: &'a Network,
    row: Row,
}

impl Network {
    /// Reads a file; its members one by one, so that they are never there twice.
    ///
    /// # Errors
    /// As [`Table::parse`].
    pub(super) fn parse(text: &[u8]) -> io::Result<Self> {
        let Document { version: _, name, internal, members: Packing(packed) } = Document::parse(text)?;
        Ok(packed.finished(&name, internal))
    }

    pub(super) fn name(&self) -> &str {
        self.piece(self.name)
    }

    /// Returns the network as a container sees it that is its member.
    pub(super) fn own(&self, container: &str) -> Option<Own<'_>> {
        self.member(container).map(|row| Own { network: self, row })
    }

    /// Returns what an address is called.
    pub(super) fn name_of(&self, address: IpAddr) -> Option<&str> {
        let found =
            self.by_address.binary_search_by_key(&address, |at| self.addresses[*at as usize].1).ok()?;
        let (number, _) = self.addresses[self.by_address[found] as usize];
        let row = self.members.iter().find(|row| row.number == number)?;
        row.called.map(|name| self.piece(name))
    }

    fn member(&self, container: &str) -> Option<Row> {
        let found = self.members.binary_search_by(|row| self.piece(row.container).cmp(container)).ok()?;
        self.members.get(found).copied()
    }

    fn addresses_of(&self, number: u32) -> impl Iterator<Item = IpAddr> {
        let first = self.addresses.partition_point(|(of, _)| *of < number);
        self.addresses[first..].iter().take_while(move |(of, _)| *of == number).map(|(_, address)| *address)
    }

    fn piece(&self, Span { at, length }: Span) -> &str {
        let at = at as usize;
        self.text.get(at..at + length as usize).unwrap_or_default()
    }
}

impl Own<'_> {
    /// Returns the place of the network among the member's own.
    pub(super) fn order(&self) -> u32 {
        self.row.order
    }

    /// Returns the addresses of all that have a name, or have it for this member; nothing if nobody has it.
    pub(super) fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let Self { network, row: Row { number, .. } } = *self;
        let own =
            network.links.iter().filter(|(of, linked, _)| *of == number && network.piece(*linked) == name);
        let linked = own.filter_map(|(.., container)| network.member(network.piece(*container)));
        let addresses = Vec::from_iter(linked.flat_map(|row| network.addresses_of(row.number)));
        if !addresses.is_empty() {
            return Some(addresses);
        }
        let first = network.names.partition_point(|(span, _)| network.piece(*span) < name);
        let having = network.names[first..].iter().take_while(|(span, _)| network.piece(*span) == name);
        let numbers = Vec::from_iter(having.map(|(_, number)| *number));
        (!numbers.is_empty())
            .then(|| numbers.into_iter().flat_map(|number| network.addresses_of(number)).collect())
    }
}

impl From<Table> for Network {
    fn from(table: Table) -> Self {
        let Table { name, is_internal, members } = table;
        let mut packed = Packed::default();
        members.into_iter().for_each(|member| packed.push(member));
        packed.finished(&name, is_internal)
    }
}

/// A network that is being put together.
#[derive(Debug, Default)]
struct Packed {
    text: String,
    members: Vec<Row>,
    names: Vec<(Span, u32)>,
    addresses: Vec<(u32, IpAddr)>,
    links: Vec<(u32, Span, Span)>,
}

impl Packed {
    fn push(&mut self, member: Member) {
        let Member { container, order, addresses, mut names, links } = member;
        // A file has fewer of anything than fit into 32 bits.
        let number = self.members.len() as u32;
        let container = self.add(&container);
        let mut called = None;
        for name in &mut names {
            name.make_ascii_lowercase();
            let span = self.add(name);
            called.get_or_insert(span);
            self.names.push((span, number));
        }
        for Link { mut name, container } in links {
            name.make_ascii_lowercase();
            let link = (number, self.add(&name), self.add(&container));
            self.links.push(link);
        }
        self.addresses.extend(addresses.into_iter().map(|address| (number, address)));
        self.members.push(Row { container, number, order, called });
    }

    fn add(&mut self, text: &str) -> Span {
        let span = Span { at: self.text.len() as u32, length: text.len() as u32 };
        self.text.push_str(text);
        span
    }

    fn finished(mut self, name: &str, is_internal: bool) -> Network {
        let name = self.add(&name.to_ascii_lowercase());
        let Self { text, members, names, addresses, links } = self;
        let by_address = (0..addresses.len() as u32).collect();
        let mut network = Network {
            text: text.into(),
            name,
            is_internal,
            members: members.into(),
            names: names.into(),
            addresses: addresses.into(),
            by_address,
            links: links.into(),
        };
        let Network { text, members, names, addresses, by_address, .. } = &mut network;
        let piece = |Span { at, length }: Span| text.get(at as usize..(at + length) as usize);
        members.sort_by(|one, other| piece(one.container).cmp(&piece(other.container)));
        names.sort_by(|one, other| piece(one.0).cmp(&piece(other.0)));
        by_address.sort_by_key(|at| addresses[*at as usize].1);
        network
    }
}

/// The members of a file, packed as they are read.
struct Packing(Packed);

impl<'de> Deserialize<'de> for Packing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PackingVisitor)
    }
}

struct PackingVisitor;

impl<'de> Visitor<'de> for PackingVisitor {
    type Value = Packing;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of members")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Packing, A::Error> {
        let mut packed = Packed::default();
        while let Some(member) = list.next_element()? {
            packed.push(member);
        }
        Ok(Packing(packed))
    }
}
