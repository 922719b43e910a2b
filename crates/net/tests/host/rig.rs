//! A host with two networks, one without a way out, and a host elsewhere.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use bulkhead_net::bridge::{Bridge, Plug};
use bulkhead_net::device::{self, Change, Devices, Mac, Setting, inside, make_namespace};
use bulkhead_net::pool;
use bulkhead_net::rules::{Network, Rules};
use bulkhead_net::uplink::{self, Families};
use ipnet::IpNet;

/// How long a connection is waited for: TCP sends what was lost again after a second.
const PATIENCE: Duration = Duration::from_millis(1300);

/// A network namespace with a name.
pub(crate) struct Place {
    pub(crate) name: String,
    namespace: OwnedFd,
}

impl Place {
    pub(crate) fn new(name: &str, namespace: OwnedFd) -> Self {
        Self { name: name.to_owned(), namespace }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

pub(crate) struct Rig {
    pub(crate) devices: Devices,
    pub(crate) rules: Rules,
    pub(crate) networks: Vec<Network>,
    pub(crate) host: Place,
    pub(crate) outside: Place,
    bridges: Vec<Bridge>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let host = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let host = Place { name: "host".to_owned(), namespace: host.into() };
        let outside = Place { name: "outside".to_owned(), namespace: make_namespace().unwrap() };
        ip_command(&host, &["link", "set", "lo", "up"]);
        let peer = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            std::os::fd::AsRawFd::as_raw_fd(&outside.namespace)
        );
        ip_command(&host, &["link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", &peer]);
        for (place, number) in [(&host, 1), (&outside, 2)] {
            ip_command(place, &["addr", "add", &format!("10.1.0.{number}/24"), "dev", "up0"]);
            ip_command(place, &["addr", "add", &format!("fd00:1::{number}/64"), "dev", "up0", "nodad"]);
            ip_command(place, &["link", "set", "up0", "up"]);
        }
        ip_command(&outside, &["link", "set", "lo", "up"]);
        for place in [&host, &outside] {
            Devices::of(place.fd()).unwrap().has_carrier("up0").unwrap();
        }
        // It tries to get in by the direct way, too.
        ip_command(&outside, &["route", "add", "10.0.0.0/8", "via", "10.1.0.1"]);
        ip_command(&outside, &["route", "add", "fd00::/16", "via", "fd00:1::1"]);
        ip_command(&host, &["route", "add", "default", "via", "10.1.0.2"]);
        ip_command(&host, &["route", "add", "default", "via", "fd00:1::2"]);
        // As the kernel has it, and Debian.
        for (device, setting) in [("all", Setting::Forwarding), ("all", Setting::ForwardingV6)] {
            device::set(device, setting, "0").unwrap();
        }
        let devices = Devices::open().unwrap();
        let bridges =
            Vec::from([("one", 10), ("two", 20), ("inner", 30), ("apart", 40)].map(|(name, number)| {
                Bridge {
                    name: format!("bh-{name}"),
                    owner: name.to_owned(),
                    addresses: [format!("10.{number}.0.1/16"), format!("fd00:{number}::1/64")]
                        .map(|address| address.parse().unwrap())
                        .to_vec(),
                    mtu: None,
                    is_internal: name == "inner",
                    is_isolated: name == "apart",
                }
            }));
        let networks = Vec::from_iter(bridges.iter().map(|bridge| Network {
            bridge: bridge.name.clone(),
            subnets: bridge.addresses.iter().map(IpNet::trunc).collect(),
            masqueraded: match bridge.is_internal {
                true => Vec::new(),
                false => bridge.addresses.iter().map(IpNet::trunc).collect(),
            },
            is_internal: bridge.is_internal,
            is_isolated: bridge.is_isolated,
        }));
        let rules = Rules::open("bulkhead").unwrap();
        rules.replace(&networks, &[]).unwrap();
        uplink::forward(&devices, Families::Both, "bh-").unwrap();
        Self { devices, rules, networks, host, outside, bridges }
    }

    pub(crate) fn bridge(&self, name: &str) -> Bridge {
        self.bridges.iter().find(|bridge| bridge.owner == name).unwrap().clone()
    }

    pub(crate) fn ensure(&self, bridge: &Bridge) -> Result<u32, bulkhead_net::Error> {
        bridge.ensure(&self.devices, self.devices.find(&bridge.name).unwrap())
    }

    /// Lays a cable to one more host elsewhere, which knows how to send to containers: 10.NUMBER.0.1 at the host's end.
    pub(crate) fn cable(&self, device: &str, number: u8) -> Place {
        let there = self.place_at(device);
        for (place, end) in [(&self.host, 1), (&there, 2)] {
            ip_command(place, &["addr", "add", &format!("10.{number}.0.{end}/24"), "dev", device]);
            ip_command(place, &["link", "set", device, "up"]);
        }
        ip_command(&there, &["route", "add", "10.0.0.0/8", "via", &format!("10.{number}.0.1")]);
        for place in [&self.host, &there] {
            Devices::of(place.fd()).unwrap().has_carrier(device).unwrap();
        }
        there
    }

    /// Makes a place at the other end of a new pair, whose devices have the same name.
    pub(crate) fn place_at(&self, device: &str) -> Place {
        let there = Place::new(device, make_namespace().unwrap());
        let raw = std::os::fd::AsRawFd::as_raw_fd(&there.namespace);
        let peer = format!("/proc/{}/fd/{raw}", std::process::id());
        ip_command(
            &self.host,
            &["link", "add", device, "type", "veth", "peer", "name", device, "netns", &peer],
        );
        there
    }

    /// Makes a container: its addresses count from 2 in each network.
    pub(crate) fn container(&self, network: &str, name: &str) -> Place {
        let bridge = self.bridge(network);
        let index = self.ensure(&bridge).unwrap();
        let namespace = make_namespace().unwrap();
        let there = Devices::of(namespace.as_fd()).unwrap();
        let ports = self.devices.list().unwrap().iter().filter(|device| device.master == Some(index)).count();
        let plug = self.plug(network, name, u128::try_from(ports + 2).unwrap());
        plug.connect(&self.devices, (&bridge, index), namespace.as_fd(), &there, Some(2)).unwrap();
        there.change(vec![Change::bring_up(1)]).unwrap();
        Place::new(name, namespace)
    }

    /// The connection of a container with the addresses of this number.
    pub(crate) fn plug(&self, network: &str, name: &str, number: u128) -> Plug {
        let bridge = self.bridge(network);
        let addresses = Vec::from_iter(bridge.addresses.iter().map(|gateway| at(gateway, number)));
        Plug {
            owner: name.to_owned(),
            outside: format!("bv-{name}"),
            inside: "eth0".to_owned(),
            mac: Mac(pool::hardware_address(addresses[0].addr())),
            addresses,
            gateways: bridge.addresses.iter().map(IpNet::addr).collect(),
            mtu: None,
            is_published: true,
        }
    }
}

/// The address of a number in a subnet.
fn at(subnet: &IpNet, number: u128) -> IpNet {
    let address: IpAddr = match subnet.network() {
        IpAddr::V4(first) => (u32::from(first) + u32::try_from(number).unwrap()).to_be_bytes().into(),
        IpAddr::V6(first) => (u128::from(first) + number).to_be_bytes().into(),
    };
    IpNet::new(address, subnet.prefix_len()).unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs ip(8) in a place.
pub(crate) fn ip_command(place: &Place, words: &[&str]) {
    run_in(place, "ip", words);
}

/// Runs a program in a place, and returns what it says.
pub(crate) fn run_in(place: &Place, program: &str, words: &[&str]) -> String {
    let output = inside(place.fd(), || Command::new(program).args(words).output()).unwrap().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Tells whether one who listens at an address is reached by another at an address.
pub(crate) fn answers(server: &Place, client: &Place, listen: SocketAddr, connect: SocketAddr) -> bool {
    ping(server, client, listen, connect).is_some()
}

/// As [`answers`], and returns from which address the server thinks that it is asked.
pub(crate) fn ping(
    server: &Place,
    client: &Place,
    listen: SocketAddr,
    connect: SocketAddr,
) -> Option<IpAddr> {
    let listener = inside(server.fd(), || TcpListener::bind(listen)).unwrap().unwrap();
    let connected = inside(client.fd(), || TcpStream::connect_timeout(&connect, PATIENCE)).unwrap();
    let mut client = connected.ok()?;
    let (mut stream, peer) = listener.accept().unwrap();
    client.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
    Some(peer.ip())
}

/// Opens a socket for datagrams in a place.
pub(crate) fn socket(place: &Place, address: &str) -> UdpSocket {
    let socket = inside(place.fd(), || UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

/// Tells whether a datagram comes to a server, and the answer back to who asks.
pub(crate) fn comes_back(server: &UdpSocket, client: &UdpSocket, ask: SocketAddr) -> bool {
    // What was refused is told to the next who sends.
    while client.take_error().unwrap().is_some() {}
    client.send_to(b"ping", ask).unwrap();
    let mut heard = [0; 4];
    let Ok((4, peer)) = server.recv_from(&mut heard) else { return false };
    server.send_to(b"pong", peer).unwrap();
    client.recv_from(&mut heard).is_ok_and(|(_, from)| from == ask && &heard == b"pong")
}
