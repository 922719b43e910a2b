//! Which subnets networks get, and which addresses containers get in them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::error::{Error, Result};

/// Subnets of one length within a larger one, as docker's `default-address-pools`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// All of it.
    pub whole: IpNet,
    /// The prefix length of each subnet, at least that of `whole`.
    pub prefix: u8,
}

/// Docker's own pools, in its order: networks of the same host that came from it are known by their routes.
pub const POOLS: [Pool; 6] = [
    Pool { whole: v4([172, 17, 0, 0], 16), prefix: 16 },
    Pool { whole: v4([172, 18, 0, 0], 16), prefix: 16 },
    Pool { whole: v4([172, 19, 0, 0], 16), prefix: 16 },
    Pool { whole: v4([172, 20, 0, 0], 14), prefix: 16 },
    Pool { whole: v4([172, 24, 0, 0], 13), prefix: 16 },
    Pool { whole: v4([192, 168, 0, 0], 16), prefix: 20 },
];

const fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

/// Routes to more than this say where packets go, and not who is there: a default route, or the two halves of all addresses by
/// which VPNs take its place.
const WIDE: u8 = 8;

/// Addresses that somebody has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// All of them; of an address of the host's that one, with the length of its subnet.
    pub net: IpNet,
    /// Who has them.
    pub by: Holder,
}

/// Who has addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The host has one of them at the device of this number, and the others are its neighbours'.
    Address(u32),
    /// The host knows where to send what is for them.
    Route {
        /// The number of the device; none for a route that has several.
        device: Option<u32>,
        /// The next host on the way; without one they are neighbours.
        gateway: Option<IpAddr>,
    },
    /// Another network, of this name.
    Network(String),
}

/// What becomes of addresses that somebody has when a network gets a subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Apart,
    /// They are on the far side of a gateway, and more than the subnet: the network's own route, which is narrower, hides some of them from
    /// the host, as each route of a VPN does.
    Hidden,
    /// They keep the subnet from being a network's.
    InTheWay,
}

impl Used {
    /// Says what becomes of them when a network gets this subnet.
    #[must_use]
    pub fn fate(&self, subnet: &IpNet) -> Fate {
        let Self { net, by } = self;
        if net.prefix_len() < WIDE || !overlap(subnet, &net.trunc()) {
            return Fate::Apart;
        }
        match by {
            Holder::Route { gateway: Some(_), .. } if net.prefix_len() < subnet.prefix_len() => Fate::Hidden,
            _ => Fate::InTheWay,
        }
    }
}

/// Chooses the first subnet of the pools that overlaps nothing of what is used: routes and addresses of the host, subnets of
/// other networks. If there is none, the first that hides hosts behind the widest route, and that nothing narrower names.
///
/// # Errors
/// [`Error::PoolsExhausted`].
pub fn choose(pools: &[Pool], used: &[Used]) -> Result<IpNet> {
    // Of each the length of the narrowest route that it is a part of.
    let hides = |subnet: IpNet| {
        let mut narrowest = 0;
        for used in used {
            match used.fate(&subnet) {
                Fate::InTheWay => return None,
                Fate::Hidden => narrowest = used.net.prefix_len().max(narrowest),
                Fate::Apart => {}
            }
        }
        Some((subnet, narrowest))
    };
    let mut best: Option<(IpNet, u8)> = None;
    for (subnet, narrowest) in pools.iter().flat_map(subnets).filter_map(hides) {
        if narrowest == 0 {
            return Ok(subnet);
        }
        if best.is_none_or(|(_, before)| narrowest < before) {
            best = Some((subnet, narrowest));
        }
    }
    best.map(|(subnet, _)| subnet).ok_or(Error::PoolsExhausted)
}

/// Lists the subnets of a pool, at most 65 536 of them.
fn subnets(pool: &Pool) -> impl Iterator<Item = IpNet> + use<> {
    const MOST: usize = 1 << 16;
    // A length that the pool has not gives no subnet.
    pool.whole.subnets(pool.prefix).into_iter().flatten().take(MOST)
}

/// Makes a subnet of IPv6 that no other host has, from what is told apart already: RFC 4193, section 3.2, with 40 bits that
/// are random.
#[must_use]
pub fn unique_local(random: [u8; 5], number: u16) -> IpNet {
    let [a, b, c, d, e] = random;
    let [high, low] = number.to_be_bytes();
    let octets = [0xfd, a, b, c, d, e, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(octets), 64))
}

/// Tells whether two subnets have an address in common.
#[must_use]
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// All of them.
    pub subnet: IpNet,
    /// Those from which containers get some that ask for none: a part of `subnet`, or all of it.
    pub given: IpNet,
    /// The one of the host.
    pub gateway: IpAddr,
}

impl Range {
    /// Makes a range with the gateway that docker gives one without: the first address.
    ///
    /// # Errors
    /// [`Error::Address`] for a subnet with less than two addresses for hosts, or a gateway that is not in it.
    pub fn new(subnet: IpNet, given: Option<IpNet>, gateway: Option<IpAddr>) -> Result<Self> {
        let subnet = subnet.trunc();
        let refuse = |address, reason: String| Err(Error::Address { address, reason });
        let most = if matches!(subnet, IpNet::V4(_)) { 30 } else { 126 };
        if subnet.prefix_len() > most {
            return refuse(
                subnet.addr(),
                format!(
                    "with a prefix of {} leaves no room for a container; it is at most {most}",
                    subnet.prefix_len()
                ),
            );
        }
        let given = given.map_or(subnet, |given| given.trunc());
        if !subnet.contains(&given) {
            return refuse(given.addr(), format!("of the range is not in the subnet {subnet}"));
        }
        let range = Self { subnet, given, gateway: first(subnet) };
        let Some(gateway) = gateway else { return Ok(range) };
        if !range.is_of_host(gateway) {
            return refuse(gateway, format!("of the gateway is none for a host in the subnet {subnet}"));
        }
        Ok(Self { gateway, ..range })
    }

    /// Chooses an address: behind the last one that was given if there is one, so that none is soon given again, and from
    /// the beginning once the end is reached.
    ///
    /// # Errors
    /// [`Error::SubnetExhausted`].
    pub fn next(&self, used: &BTreeSet<IpAddr>, last: Option<IpAddr>) -> Result<IpAddr> {
        let (begin, end) = bounds(self.given);
        let start =
            last.map(to_number).filter(|last| (begin..end).contains(last)).map_or(begin, |last| last + 1);
        let is_free = |number: &u128| {
            let address = from_number(*number, self.subnet);
            self.is_of_host(address) && address != self.gateway && !used.contains(&address)
        };
        // Among one more than are used, and the three that are nobody's, one is free if any is.
        let most = used.len().saturating_add(4);
        let before = (begin..start).take(most);
        let found = (start..=end).take(most).chain(before).find(is_free);
        found.map(|number| from_number(number, self.subnet)).ok_or(Error::SubnetExhausted(self.given))
    }

    /// Checks an address that somebody asks for.
    ///
    /// # Errors
    /// [`Error::Address`] for one that is not in the subnet, is the gateway's, or is used.
    pub fn check(&self, address: IpAddr, used: &BTreeSet<IpAddr>) -> Result<()> {
        let refuse = |reason: String| Err(Error::Address { address, reason });
        if !self.is_of_host(address) {
            return refuse(format!("is none for a host in the subnet {}", self.subnet));
        }
        if address == self.gateway {
            return refuse("is the gateway's".to_owned());
        }
        if used.contains(&address) {
            return refuse("is used by another container".to_owned());
        }
        Ok(())
    }

    /// Tells whether an address is one of a host: neither that of the subnet nor its broadcast address.
    fn is_of_host(&self, address: IpAddr) -> bool {
        let is_end = match self.subnet {
            IpNet::V4(_) => address == self.subnet.network() || address == self.subnet.broadcast(),
            // The first is that of all routers (RFC 4291, section 2.6.1); there is no broadcast.
            IpNet::V6(_) => address == self.subnet.network(),
        };
        self.subnet.contains(&address) && !is_end
    }
}

fn first(subnet: IpNet) -> IpAddr {
    from_number(to_number(subnet.network()).saturating_add(1), subnet)
}

/// The first and the last address.
fn bounds(subnet: IpNet) -> (u128, u128) {
    (to_number(subnet.network()), to_number(subnet.broadcast()))
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The address of a number, which is one of the subnet's.
fn from_number(number: u128, subnet: IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(_) => IpAddr::V4(u32::try_from(number).unwrap_or(u32::MAX).into()),
        IpNet::V6(_) => IpAddr::V6(number.into()),
    }
}

/// Returns the MAC address that goes with an address: docker's, locally administered. Who has an address has the same one
/// again, so that what its neighbours remember stays true. Of IPv6 the lower half is folded into four bytes.
#[must_use]
pub fn hardware_address(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d, e, f, g, h] = address.octets();
            [a ^ e, b ^ f, c ^ g, d ^ h]
        }
    };
    [0x02, 0x42, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn routes(nets: &[&str], gateway: Option<IpAddr>) -> Vec<Used> {
        let by = Holder::Route { device: Some(2), gateway };
        nets.iter().map(|text| Used { net: net(text), by: by.clone() }).collect()
    }

    fn neighbours(nets: &[&str]) -> Vec<Used> {
        routes(nets, None)
    }

    fn behind(nets: &[&str]) -> Vec<Used> {
        routes(nets, Some(ip("10.1.2.3")))
    }

    #[test]
    fn a_subnet_is_the_first_that_nobody_uses() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "172.17.0.0/16"),
            (&["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8"], "172.17.0.0/16"),
            (&["172.17.0.0/16"], "172.18.0.0/16"),
            (&["172.17.3.4/32", "172.18.128.0/17"], "172.19.0.0/16"),
            (&["172.16.0.0/12"], "192.168.0.0/20"),
            (&["172.16.0.0/12", "192.168.1.0/24"], "192.168.16.0/20"),
            (&["172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16", "172.20.0.0/16"], "172.21.0.0/16"),
        ];
        for (used, expected) in cases {
            // What is behind a gateway is left alone, too, as long as there is anything else.
            for used in [neighbours(used), behind(used)] {
                assert_eq!(choose(&POOLS, &used).unwrap(), net(expected), "{used:?}");
            }
        }
        let all = neighbours(&["172.16.0.0/12", "192.168.0.0/16"]);
        assert!(matches!(choose(&POOLS, &all), Err(Error::PoolsExhausted)));
    }

    #[test]
    fn a_subnet_below_routes_by_gateways_is_one_that_no_narrower_route_names() {
        let all = ["172.16.0.0/12", "192.168.0.0/16"];
        let cases: &[(&[&str], &str)] = &[
            (&[], "172.17.0.0/16"),
            (&["172.17.0.0/16"], "172.18.0.0/16"),
            (&["172.17.0.0/16", "172.18.3.0/24"], "172.19.0.0/16"),
            // Behind two, of which the narrower has more to lose.
            (&["172.17.0.0/16", "172.18.0.0/15", "172.20.0.0/14"], "172.24.0.0/16"),
            (
                &["172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16", "172.20.1.0/24", "172.21.0.0/16"],
                "172.22.0.0/16",
            ),
        ];
        for (narrower, expected) in cases {
            let used = behind(&[&all, *narrower].concat());
            assert_eq!(choose(&POOLS, &used).unwrap(), net(expected), "{narrower:?}");
        }
        let named = [&all[..], &["172.16.0.0/13", "172.24.0.0/13"]].concat();
        let used = [behind(&named), neighbours(&["172.16.0.0/12"])].concat();
        assert_eq!(choose(&POOLS, &used).unwrap(), net("192.168.0.0/20"), "neighbours are in the way");
        let used = [used, behind(&["192.168.0.0/18", "192.168.64.0/18", "192.168.128.0/17"])].concat();
        assert_eq!(
            choose(&POOLS, &used).unwrap(),
            net("192.168.128.0/20"),
            "the widest has the least to lose"
        );
        let each = POOLS.iter().flat_map(subnets).map(|subnet| subnet.to_string());
        let each = Vec::from_iter(each);
        let used = behind(&Vec::from_iter(each.iter().map(String::as_str)));
        assert!(matches!(choose(&POOLS, &used), Err(Error::PoolsExhausted)), "routes of the same length");
    }

    #[test]
    fn what_is_behind_a_gateway_is_in_the_way_of_what_it_is_a_part_of() {
        for (used, subnet, expected) in [
            ("10.0.0.0/8", "10.77.0.0/24", Fate::Hidden),
            ("10.77.0.0/24", "10.77.0.0/24", Fate::InTheWay),
            ("10.77.0.128/25", "10.77.0.0/24", Fate::InTheWay),
            ("10.78.0.0/24", "10.77.0.0/24", Fate::Apart),
            ("8.0.0.0/5", "10.77.0.0/24", Fate::Apart),
            ("0.0.0.0/0", "10.77.0.0/24", Fate::Apart),
            ("fd00::/8", "fd12::/64", Fate::Hidden),
            ("fd12::/64", "fd12::/64", Fate::InTheWay),
        ] {
            let subnet = net(subnet);
            assert_eq!(behind(&[used])[0].fate(&subnet), expected, "{used}");
            let near = if expected == Fate::Apart { Fate::Apart } else { Fate::InTheWay };
            let network = Used { net: net(used), by: Holder::Network("other".into()) };
            let address = Used { net: net(used), by: Holder::Address(7) };
            for used in [network, address, neighbours(&[used]).remove(0)] {
                assert_eq!(used.fate(&subnet), near, "{used:?}");
            }
        }
        let own = Used { net: net("10.9.9.9/8"), by: Holder::Address(7) };
        assert_eq!(own.fate(&net("10.77.0.0/24")), Fate::InTheWay, "the address of a host");
    }

    #[test]
    fn thirty_one_networks_get_subnets_that_do_not_overlap() {
        let mut used: Vec<Used> = Vec::new();
        while let Ok(subnet) = choose(&POOLS, &used) {
            assert!(!used.iter().any(|other| overlap(&other.net, &subnet)), "{subnet}");
            used.push(Used { net: subnet, by: Holder::Network("other".into()) });
        }
        assert_eq!(used.len(), 15 + 16);
    }

    #[test]
    fn a_range_has_a_gateway_and_room() {
        let range = Range::new(net("10.9.8.7/24"), None, None).unwrap();
        assert_eq!((range.subnet, range.gateway), (net("10.9.8.0/24"), ip("10.9.8.1")));
        let range = Range::new(net("fd00::/64"), None, Some(ip("fd00::ff"))).unwrap();
        assert_eq!(range.gateway, ip("fd00::ff"));
        for (subnet, given, gateway, expected) in [
            ("10.0.0.0/31", None, None, "leaves no room"),
            ("fd00::/127", None, None, "leaves no room"),
            ("10.0.0.0/24", Some("10.0.1.0/25"), None, "of the range is not in the subnet"),
            ("10.0.0.0/24", None, Some("10.0.1.1"), "of the gateway is none"),
            ("10.0.0.0/24", None, Some("10.0.0.255"), "of the gateway is none"),
            ("10.0.0.0/24", None, Some("fd00::1"), "of the gateway is none"),
        ] {
            let range = Range::new(net(subnet), given.map(net), gateway.map(ip));
            let error = range.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn addresses_go_round_and_none_is_given_twice() {
        let range = Range::new(net("10.0.0.0/29"), None, None).unwrap();
        let mut used = BTreeSet::new();
        let mut last = None;
        for expected in ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"] {
            let address = range.next(&used, last).unwrap();
            assert_eq!(address, ip(expected));
            assert!(used.insert(address));
            last = Some(address);
        }
        assert!(matches!(range.next(&used, last), Err(Error::SubnetExhausted(_))));
        used.remove(&ip("10.0.0.3"));
        assert_eq!(range.next(&used, last).unwrap(), ip("10.0.0.3"));
        used.remove(&ip("10.0.0.5"));
        assert_eq!(range.next(&used, Some(ip("10.0.0.3"))).unwrap(), ip("10.0.0.5"), "behind the last");
    }

    #[test]
    fn a_part_of_a_subnet_is_given_and_the_rest_asked_for() {
        let range = Range::new(net("10.0.0.0/24"), Some(net("10.0.0.128/30")), None).unwrap();
        let mut used = BTreeSet::new();
        while let Ok(address) = range.next(&used, None) {
            assert!(net("10.0.0.128/30").contains(&address));
            used.insert(address);
        }
        assert_eq!(used.len(), 4, "its ends are addresses like others: {used:?}");
        range.check(ip("10.0.0.7"), &used).unwrap();
        for (address, expected) in [
            ("10.0.0.1", "is the gateway's"),
            ("10.0.0.128", "is used by another container"),
            ("10.0.0.0", "is none for a host"),
            ("10.0.0.255", "is none for a host"),
            ("10.0.1.2", "is none for a host"),
        ] {
            let error = range.check(ip(address), &used).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_huge_subnet_costs_no_more_than_a_small_one() {
        let range = Range::new(net("fd12:3456::/32"), None, None).unwrap();
        let used: BTreeSet<_> =
            (2..1000_u128).map(|low| from_number(to_number(ip("fd12:3456::")) + low, range.subnet)).collect();
        assert_eq!(range.next(&used, None).unwrap(), ip("fd12:3456::3e8"));
        assert_eq!(unique_local([1, 2, 3, 4, 5], 0x102), net("fd01:203:405:102::/64"));
    }

    #[test]
    fn an_address_has_its_own_hardware_address() {
        assert_eq!(hardware_address(ip("172.17.0.2")), [0x02, 0x42, 172, 17, 0, 2]);
        assert_eq!(hardware_address(ip("fd00::1:2")), [0x02, 0x42, 0, 1, 0, 2]);
        assert_ne!(hardware_address(ip("fd00::1:0:2")), hardware_address(ip("fd00::2")));
    }
}
