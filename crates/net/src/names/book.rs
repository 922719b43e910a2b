//! What the helper knows: the tables of all networks, and what follows from them for a question.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::{Answer, Code, Query, Transport, address_in, kind};
use super::network::{Network, Own};
use super::table::Table;

/// For how many seconds a name is remembered, as docker has it.
const SECONDS: u32 = 600;

/// The networks by their ids.
#[derive(Debug, Clone, Default)]
pub struct Book {
    networks: BTreeMap<String, Network>,
    /// Which of several addresses comes first next time.
    turn: usize,
}

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This is the answer.
    Answered(Vec<u8>),
    /// It is to be asked of a resolver: of the host's, or of the container's own.
    Forwarded(Reach),
}

/// Whom a question may be passed on to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Anybody.
    Everywhere,
    /// Members of the container's networks, which have no way out.
    Members,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Addresses(Vec<IpAddr>),
    Name(String),
}

impl Book {
    /// Puts the table of a network in the place of an earlier one.
    pub fn put(&mut self, id: String, table: Table) {
        self.put_network(id, table.into());
    }

    pub(super) fn put_network(&mut self, id: String, network: Network) {
        self.networks.insert(id, network);
    }

    /// Forgets the networks that this tells to be gone.
    pub fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.networks.retain(|id, _| is_there(id));
    }

    /// Answers a container's question, unless that is to be passed on.
    pub fn answer(&mut self, container: &str, query: &Query<'_>, transport: Transport) -> Verdict {
        let networks = self.networks_of(container);
        let known = query.name().filter(|_| query.is_of_internet());
        let known = known.and_then(|name| look_up(&networks, &name, query.kind));
        let Some(known) = known else {
            let is_closed = networks.iter().all(|own| own.network.is_internal);
            return Verdict::Forwarded(if is_closed { Reach::Members } else { Reach::Everywhere });
        };
        if let Some(code) = query.objection() {
            return Verdict::Answered(query.answer(code, transport).finished());
        }
        let mut answer = query.answer(Code::Done, transport);
        match known {
            Known::Name(name) => drop(answer.called(&name, SECONDS)),
            Known::Addresses(addresses) => {
                self.turn = self.turn.wrapping_add(1);
                add(&mut answer, &addresses, query.kind, self.turn);
            }
        }
        Verdict::Answered(answer.finished())
    }

    /// Tells whether a member of a container's networks has an address.
    #[must_use]
    pub fn is_reached(&self, container: &str, address: IpAddr) -> bool {
        let networks = self.networks_of(container);
        networks.iter().any(|own| own.network.name_of(address).is_some())
    }

    /// Lists the networks of a container in its order.
    fn networks_of(&self, container: &str) -> Vec<Own<'_>> {
        let networks = self.networks.values();
        let mut found = Vec::from_iter(networks.filter_map(|network| network.own(container)));
        found.sort_by_key(Own::order);
        found
    }
}

/// Adds the addresses of the family that is asked for, a different one first each time.
fn add(answer: &mut Answer, addresses: &[IpAddr], wanted: u16, turn: usize) {
    let is_wanted = |address: &&IpAddr| match address {
        IpAddr::V4(_) => wanted == kind::A,
        IpAddr::V6(_) => wanted == kind::AAAA,
    };
    let wanted = Vec::from_iter(addresses.iter().filter(is_wanted));
    let (behind, before) = wanted.split_at(turn.checked_rem(wanted.len()).unwrap_or_default());
    for address in before.iter().chain(behind) {
        answer.address(**address, SECONDS);
    }
}

/// Looks a name up in the networks of a container; nothing where none of them knows it.
fn look_up(networks: &[Own<'_>], name: &str, wanted: u16) -> Option<Known> {
    // Whoever is called so: it is the container's own loopback (RFC 6761, section 6.3).
    if name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost")) {
        return Some(Known::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
    }
    if let Some(address) = address_in(name) {
        return networks.iter().find_map(|own| {
            let name = own.network.name_of(address)?;
            // An address has a name, and nothing else that could be asked for.
            let name =
                if wanted == kind::PTR { format!("{name}.{}", own.network.name()) } else { String::new() };
            Some(Known::Name(name))
        });
    }
    let whole = networks.iter().find_map(|own| own.addresses(name));
    let found = whole.or_else(|| {
        // Names may have points, and those of networks, too.
        let mut places = name.match_indices('.');
        places.find_map(|(place, _)| {
            let (name, of) = (&name[..place], &name[place + 1..]);
            networks.iter().filter(|own| own.network.name() == of).find_map(|own| own.addresses(name))
        })
    });
    found.map(Known::Addresses)
}

#[cfg(test)]
mod tests {
    use super::super::table::{Link, Member};
    use super::*;

    fn member(container: &str, order: u32, addresses: &[&str], names: &[&str]) -> Member {
        Member {
            container: container.to_owned(),
            order,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            names: names.iter().copied().map(str::to_owned).collect(),
            links: Vec::new(),
        }
    }

    /// Two networks; `c1` is in both, in the second first, `c3` only in the one without a way out.
    fn book() -> Book {
        let mut linked = member("c2", 0, &["10.1.0.3"], &["web", "twin"]);
        linked.links.push(Link { name: "Store".to_owned(), container: "c1".to_owned() });
        let one = Table {
            name: "Shop".to_owned(),
            is_internal: false,
            members: vec![member("c1", 1, &["10.1.0.2", "fd00:1::2"], &["DB", "c1", "twin", "a.b"]), linked],
        };
        let two = Table {
            name: "back.end".to_owned(),
            is_internal: true,
            members: vec![
                member("c1", 0, &["10.2.0.2"], &["db", "c1"]),
                member("c3", 0, &["10.2.0.3"], &["cache"]),
            ],
        };
        let mut book = Book::default();
        book.put("n1".to_owned(), one);
        book.put("n2".to_owned(), two);
        book
    }

    /// What a container is told: addresses, a name, nothing, or where to ask.
    fn ask(container: &str, name: &str, wanted: u16) -> String {
        let mut book = book();
        let networks = book.networks_of(container);
        let found = look_up(&networks, name, wanted);
        let text = match found {
            None => "unknown".to_owned(),
            Some(Known::Name(name)) => name,
            Some(Known::Addresses(addresses)) => {
                format!("{:?}", Vec::from_iter(addresses.iter().map(ToString::to_string))).replace('"', "")
            }
        };
        book.keep(|_| false);
        text
    }

    #[test]
    fn nobody_else_is_called_localhost() {
        for name in ["localhost", "LocalHost", "web.localhost"] {
            assert_eq!(ask("c1", name, kind::A), ask("c3", name, kind::A));
            assert!(ask("c1", name, kind::A).contains("127.0.0.1"), "{name}");
        }
        assert_eq!(ask("c1", "localhost.example", kind::A), "unknown");
    }

    #[test]
    fn a_name_is_looked_up_in_the_networks_of_who_asks() {
        for (container, name, answer) in [
            ("c2", "db", "[10.1.0.2, fd00:1::2]"),
            ("c1", "db", "[10.2.0.2]"),
            ("c1", "db.shop", "[10.1.0.2, fd00:1::2]"),
            ("c1", "db.back.end", "[10.2.0.2]"),
            ("c1", "cache", "[10.2.0.3]"),
            ("c2", "cache", "unknown"),
            ("c2", "cache.back.end", "unknown"),
            ("c2", "db.back.end", "unknown"),
            ("c2", "a.b", "[10.1.0.2, fd00:1::2]"),
            ("c2", "a.b.shop", "[10.1.0.2, fd00:1::2]"),
            ("c2", "twin", "[10.1.0.2, fd00:1::2, 10.1.0.3]"),
            ("c2", "store", "[10.1.0.2, fd00:1::2]"),
            ("c2", "store.shop", "[10.1.0.2, fd00:1::2]"),
            ("c1", "store", "unknown"),
            ("c2", "", "unknown"),
            ("c2", ".", "unknown"),
            ("c2", "shop", "unknown"),
            ("c9", "db", "unknown"),
        ] {
            assert_eq!(ask(container, name, kind::A), answer, "{name} of {container}");
        }
    }

    #[test]
    fn an_address_has_the_first_name_of_its_container() {
        for (name, wanted, answer) in [
            ("2.0.1.10.in-addr.arpa", kind::PTR, "db.shop"),
            ("3.0.1.10.in-addr.arpa", kind::PTR, "web.shop"),
            ("3.0.1.10.in-addr.arpa", kind::A, ""),
            ("3.0.2.10.in-addr.arpa", kind::PTR, "unknown"),
            ("9.0.1.10.in-addr.arpa", kind::PTR, "unknown"),
        ] {
            assert_eq!(ask("c2", name, wanted), answer, "{name}");
        }
    }

    fn query(name: &str, wanted: u16) -> Vec<u8> {
        let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(u8::try_from(label.len()).unwrap());
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend(wanted.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    #[test]
    fn addresses_take_turns() {
        let mut book = book();
        let mut third = member("c4", 0, &["10.1.0.4"], &["twin"]);
        third.names.push("x".to_owned());
        let mut one = Table { name: "shop".to_owned(), ..Table::default() };
        one.members = vec![member("c2", 0, &["10.1.0.3"], &["twin"]), third];
        book.put("n1".to_owned(), one);
        let bytes = query("twin", kind::A);
        let mut first = || match book.answer("c2", &Query::read(&bytes).unwrap(), Transport::Udp) {
            Verdict::Answered(answer) => (answer[7], answer[bytes.len() + 15]),
            Verdict::Forwarded(_) => unreachable!(),
        };
        let firsts = [first(), first(), first()];
        assert_eq!((firsts[0], firsts[2]), (firsts[2], firsts[0]));
        assert_ne!(firsts[0], firsts[1]);
        assert_eq!(firsts[0].0, 2, "all are told each time");
    }

    #[test]
    fn what_a_name_of_ours_has_not_got_is_nothing_and_not_asked_elsewhere() {
        let mut book = book();
        for (name, wanted) in [("web", kind::AAAA), ("web", 15), ("web", 255), ("3.0.1.10.in-addr.arpa", 1)] {
            let bytes = query(name, wanted);
            let verdict = book.answer("c2", &Query::read(&bytes).unwrap(), Transport::Udp);
            let Verdict::Answered(answer) = verdict else { panic!("{name} {wanted} is passed on") };
            assert_eq!((answer[3] & 15, answer[7]), (0, 0), "{name} {wanted}");
        }
    }

    #[test]
    fn who_has_no_way_out_asks_nobody_outside() {
        let mut book = book();
        let bytes = query("example.org", kind::A);
        let query = Query::read(&bytes).unwrap();
        for (container, reach) in [
            ("c1", Reach::Everywhere),
            ("c2", Reach::Everywhere),
            ("c3", Reach::Members),
            ("c9", Reach::Members),
        ] {
            assert_eq!(book.answer(container, &query, Transport::Udp), Verdict::Forwarded(reach));
        }
        assert!(book.is_reached("c3", "10.2.0.2".parse().unwrap()));
        assert!(!book.is_reached("c3", "10.1.0.3".parse().unwrap()));
        let mut chaos = bytes.clone();
        *chaos.last_mut().unwrap() = 3;
        let verdict = book.answer("c2", &Query::read(&chaos).unwrap(), Transport::Udp);
        assert_eq!(verdict, Verdict::Forwarded(Reach::Everywhere));
    }
}
