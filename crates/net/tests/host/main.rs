//! Hosts made of network namespaces: what gets through, and what does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

mod cni;
mod firewalls;
mod rig;
mod suites;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use bulkhead_net::bridge::{self, Bridge, Plug};
use bulkhead_net::device::{self, Change, Devices, Mac, Macvlan, MacvlanMode, Setting};
use bulkhead_net::flow::{self, Forgotten};
use bulkhead_net::nft::{Filter, Transaction};
use bulkhead_net::overlap;
use bulkhead_net::rules::{Port, Protocol, Rules};
use bulkhead_net::uplink::{self, Changed, Families};
use bulkhead_testkit::requires;
use rig::{Place, Rig, answers, ping};
use rustix::io::Errno;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(address: Option<&str>, port: u16, to: &str) -> Port {
    let owner = "web".to_owned();
    Port { owner, protocol: Protocol::Tcp, address: address.map(rig::ip), port, to: at(to) }
}

fn published(rig: &Rig, port: u16, to: &str) {
    rig.rules.publish(&[tcp(None, port, to)]).unwrap();
    rig.bridge("one").route_loopback(true).unwrap();
}

#[test]
fn containers_of_a_network_talk_and_those_of_two_do_not() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let (a, b) = (rig.container("one", "a"), rig.container("one", "b"));
    let c = rig.container("two", "c");
    assert!(answers(&b, &a, at("10.10.0.3:80"), at("10.10.0.3:80")), "of the same network");
    assert!(!answers(&c, &a, at("10.20.0.2:80"), at("10.20.0.2:80")), "of another");
    assert!(answers(&c, &rig.host, at("10.20.0.2:81"), at("10.20.0.2:81")), "the host itself");
}

#[test]
fn nobody_speaks_for_those_of_another_network() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let (a, _victim) = (rig.container("one", "a"), rig.container("two", "b"));
    for (own, others, outside) in
        [("10.10.0.2", "10.20.0.2", "10.1.0.2"), ("fd00:10::2", "fd00:20::2", "fd00:1::2")]
    {
        let (one, length) = if own.contains(':') { (true, 128) } else { (false, 32) };
        rig::ip_command(
            &a,
            &[
                &["addr", "add", &format!("{others}/{length}"), "dev", "eth0"][..],
                if one { &["nodad"] } else { &[] },
            ]
            .concat(),
        );
        let address = |ip: &str, port: u16| SocketAddr::new(rig::ip(ip), port);
        let there = rig::socket(&rig.outside, &address(outside, 9).to_string());
        for (from, arrives) in [(own, true), (others, false)] {
            let socket = rig::socket(&a, &address(from, 5353).to_string());
            socket.send_to(b"said", address(outside, 9)).unwrap();
            assert_eq!(there.recv_from(&mut [0; 4]).is_ok(), arrives, "{from}");
        }
    }
}

#[test]
fn a_bridge_that_is_made_anew_has_its_containers_again() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let (a, b) = (rig.container("one", "a"), rig.container("one", "b"));
    let other = rig.container("two", "c");
    for name in ["bh-one", "bh-two"] {
        rig.devices.change(vec![Change::delete(name)]).unwrap();
    }
    // What a neighbour asks in vain it asks again a second later: so the host does.
    assert!(!answers(&b, &rig.host, at("10.10.0.3:80"), at("10.10.0.3:80")), "nobody carries it");
    rig.ensure(&rig.bridge("one")).unwrap();
    assert!(answers(&b, &a, at("10.10.0.3:81"), at("10.10.0.3:81")), "of the same network");
    assert!(answers(&a, &rig.host, at("10.10.0.2:82"), at("10.10.0.2:82")), "the host itself");
    assert!(!answers(&other, &a, at("10.20.0.2:83"), at("10.20.0.2:83")), "of another, which is not there");
    let unplugged = rig.devices.list().unwrap();
    let unplugged = Vec::from_iter(unplugged.iter().filter_map(bridge::unplugged_from));
    assert_eq!(unplugged, ["two"]);
}

/// Fails where containers reach each other by the bridge, by the host as a router, or by a bridge that was made anew under them.
#[test]
fn containers_of_an_isolated_network_reach_each_other_by_published_ports_alone() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    assert!(show_frames("0"), "the packet filter would stop what the bridge lets through");
    let (a, b) = (rig.container("apart", "a"), rig.container("apart", "b"));
    let near = |port: u16| at(&format!("10.40.0.2:{port}"));
    for (round, port) in [("as it was made", 80), ("made anew", 90)] {
        // What it asked in vain it would ask again a second later.
        rig::ip_command(&b, &["neigh", "flush", "dev", "eth0"]);
        assert!(!answers(&a, &b, near(port), near(port)), "by the bridge, {round}");
        rig::ip_command(&b, &["route", "replace", "10.40.0.2", "via", "10.40.0.1"]);
        assert!(!answers(&a, &b, near(port + 1), near(port + 1)), "by the host, {round}");
        rig::ip_command(&b, &["route", "delete", "10.40.0.2"]);
        assert!(answers(&a, &rig.host, near(port + 2), near(port + 2)), "the host reaches it, {round}");
        assert!(answers(&rig.outside, &b, at("10.1.0.2:83"), at("10.1.0.2:83")), "it goes out, {round}");
        if port == 80 {
            rig.devices.change(vec![Change::delete("bh-apart")]).unwrap();
            rig.ensure(&rig.bridge("apart")).unwrap();
        }
    }
    rig.rules.publish(&[tcp(None, 8080, "10.40.0.2:80")]).unwrap();
    assert!(answers(&a, &b, near(80), at("10.1.0.1:8080")), "by a port");
}

#[test]
fn a_network_goes_out_with_the_host_s_address() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    let peer = ping(&rig.outside, &a, at("10.1.0.2:80"), at("10.1.0.2:80")).unwrap();
    assert_eq!(peer, rig::ip("10.1.0.1"));
    let inner = rig.container("inner", "i");
    assert!(
        !answers(&rig.outside, &inner, at("10.1.0.2:81"), at("10.1.0.2:81")),
        "an internal network has no way out"
    );
    assert!(!answers(&a, &inner, at("10.10.0.2:82"), at("10.10.0.2:82")), "nor one to others");
}

#[test]
fn what_is_published_is_reached_from_everywhere_and_nothing_else_is() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let (a, b) = (rig.container("one", "a"), rig.container("one", "b"));
    let c = rig.container("two", "c");
    let inside = at("10.10.0.2:80");
    published(&rig, 8080, "10.10.0.2:80");
    for (from, to) in [
        (&rig.outside, "10.1.0.1:8080"),
        (&rig.host, "10.1.0.1:8080"),
        (&rig.host, "127.0.0.1:8080"),
        (&rig.host, "10.10.0.1:8080"),
        (&b, "10.1.0.1:8080"),
        (&a, "10.1.0.1:8080"),
        (&c, "10.1.0.1:8080"),
    ] {
        assert!(answers(&a, from, inside, at(to)), "{to} from {}", from.name);
    }
    let seen = ping(&a, &rig.outside, inside, at("10.1.0.1:8080"));
    assert_eq!(seen, Some(rig::ip("10.1.0.2")), "who asks is told");
    assert!(!answers(&a, &rig.outside, inside, inside), "a host elsewhere with a route to the container");
    assert!(!answers(&a, &rig.outside, at("10.10.0.2:81"), at("10.1.0.1:81")), "what is not published");
    rig.rules.unpublish(|owner| owner == "web").unwrap();
    assert!(!answers(&a, &rig.outside, inside, at("10.1.0.1:8080")), "what is not published any more");
}

#[test]
fn a_network_reaches_its_own_ports_also_where_its_packets_keep_their_addresses() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let mut networks = rig.networks.clone();
    networks[0].masqueraded.clear();
    rig.rules.replace(&networks, &[]).unwrap();
    let (a, b) = (rig.container("one", "a"), rig.container("one", "b"));
    let outside = ping(&rig.outside, &a, at("10.1.0.2:80"), at("10.1.0.2:80"));
    assert_eq!(outside, Some(rig::ip("10.10.0.2")), "it keeps its address");
    rig.rules.publish(&[tcp(None, 8080, "10.10.0.2:80"), tcp(None, 8080, "[fd00:10::2]:80")]).unwrap();
    for (inside, port, gateway) in [
        ("10.10.0.2:80", "10.1.0.1:8080", "10.10.0.1"),
        ("[fd00:10::2]:80", "[fd00:1::1]:8080", "fd00:10::1"),
    ] {
        for shown in ["1", "0"] {
            if !show_frames(shown) {
                continue;
            }
            for from in [&a, &b] {
                let peer = ping(&a, from, at(inside), at(port));
                assert_eq!(peer, Some(rig::ip(gateway)), "{port} from {}, frames {shown}", from.name);
            }
        }
    }
    rig.rules.remove_network(&networks[0]).unwrap();
    rig.rules.remove_network(&networks[0]).unwrap();
}

/// Has bridges show their frames to the packet filter, or not; tells whether it is so.
fn show_frames(value: &str) -> bool {
    for family in ["iptables", "ip6tables"] {
        let _ = std::fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), value);
    }
    bridge::shows_frames() == (value == "1")
}

#[test]
fn frames_come_back_to_whom_they_came_from_where_a_port_needs_that_alone() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let returns = |name: &str| rig.devices.find(&format!("bv-{name}")).unwrap().unwrap().returns;
    assert!(show_frames("0"), "a host with br_netfilter can have that, and others have nothing else");
    let a = rig.container("one", "a");
    published(&rig, 8080, "10.10.0.2:80");
    let reaches_itself = || answers(&a, &a, at("10.10.0.2:80"), at("10.1.0.1:8080"));
    assert!(reaches_itself() && !returns("a"), "it is the host that sends it back");
    requires!(show_frames("1"), "needs br_netfilter");
    assert!(!reaches_itself(), "it is this that needs it");
    rig.devices.change(vec![Change::let_return("bv-a")]).unwrap();
    assert!(reaches_itself() && returns("a"));
    let _b = rig.container("one", "b");
    assert!(returns("b"), "where ports are published");
    let bridge = rig.bridge("one");
    let index = rig.ensure(&bridge).unwrap();
    let namespace = device::make_namespace().unwrap();
    let there = Devices::of(namespace.as_fd()).unwrap();
    let plug = Plug { is_published: false, ..rig.plug("one", "c", 9) };
    plug.connect(&rig.devices, (&bridge, index), namespace.as_fd(), &there, None).unwrap();
    assert!(!returns("c"), "nobody else hears himself");
}

#[test]
fn all_of_it_holds_for_ipv6() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let (a, b) = (rig.container("one", "a"), rig.container("one", "b"));
    let c = rig.container("two", "c");
    let inside = at("[fd00:10::2]:80");
    assert!(answers(&a, &b, inside, inside));
    assert!(!answers(&a, &c, inside, inside));
    assert!(!answers(&a, &rig.outside, inside, inside));
    let peer = ping(&rig.outside, &a, at("[fd00:1::2]:80"), at("[fd00:1::2]:80"));
    assert_eq!(peer, Some(rig::ip("fd00:1::1")));
    published(&rig, 8080, "[fd00:10::2]:80");
    for (from, to) in [
        (&rig.outside, "[fd00:1::1]:8080"),
        (&rig.host, "[fd00:1::1]:8080"),
        (&rig.host, "[fd00:10::1]:8080"),
        (&b, "[fd00:1::1]:8080"),
        (&a, "[fd00:1::1]:8080"),
        (&c, "[fd00:1::1]:8080"),
    ] {
        assert!(answers(&a, from, inside, at(to)), "{to} from {}", from.name);
    }
    let at_loopback = device::inside(rig.host.fd(), || {
        TcpStream::connect_timeout(&at("[::1]:8080"), Duration::from_secs(5)).unwrap_err().kind()
    });
    assert_eq!(at_loopback.unwrap(), ErrorKind::ConnectionRefused, "a client goes on to 127.0.0.1 at once");
    assert!(
        !answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:8080")),
        "the family that is published"
    );
}

#[test]
fn a_container_does_not_reach_the_host_s_loopback() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    // It sends there what others keep to themselves.
    rig::ip_command(&a, &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
    rig::ip_command(&a, &["route", "add", "127.0.0.0/8", "via", "10.10.0.1", "src", "10.10.0.2"]);
    let setting = |value| device::set("eth0", Setting::RouteLoopback, value).unwrap();
    device::inside(a.fd(), || setting("1")).unwrap();
    rig.bridge("one").route_loopback(true).unwrap();
    let loopback = at("127.0.0.1:80");
    assert!(!answers(&rig.host, &a, loopback, loopback));
    rig.rules.remove().unwrap();
    assert!(answers(&rig.host, &a, loopback, loopback), "it is the rule that prevents it");
    rig.bridge("one").route_loopback(false).unwrap();
    assert!(!answers(&rig.host, &a, loopback, loopback), "where no port is published there is no way");
}

#[test]
fn a_port_of_one_address_is_that_address_s_only() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    let port = tcp(Some("10.1.0.1"), 8080, "10.10.0.2:80");
    rig.rules.publish(std::slice::from_ref(&port)).unwrap();
    assert!(answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:8080")));
    assert!(!answers(&a, &rig.host, at("10.10.0.2:80"), at("127.0.0.1:8080")));
    for other in [tcp(Some("10.1.0.1"), 8080, "10.10.0.9:80"), tcp(None, 8080, "10.10.0.9:80")] {
        let ports = [tcp(Some("10.1.0.1"), 9090, "10.10.0.2:80"), other];
        let error = rig.rules.publish(&ports).unwrap_err().to_string();
        assert!(error.contains("8080/tcp") && error.contains("container web already"), "{error}");
    }
    rig.rules.publish(&[tcp(Some("127.0.0.2"), 8080, "10.10.0.2:80")]).unwrap();
    assert!(!answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:9090")), "all or none");
}

#[test]
fn a_table_that_was_flushed_is_put_there_again() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    published(&rig, 8080, "10.10.0.2:80");
    assert!(rig.rules.are_there().unwrap());
    rig.rules.remove().unwrap();
    rig.rules.remove().unwrap();
    assert!(!rig.rules.are_there().unwrap());
    assert!(!answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:8080")));
    let port = tcp(None, 8080, "10.10.0.2:80");
    for _ in 0..2 {
        rig.rules.replace(&rig.networks, std::slice::from_ref(&port)).unwrap();
        assert!(answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:8080")));
    }
    // A table without its rules is none.
    requires!(bulkhead_testkit::find_program("nft").is_some(), "needs nft");
    for words in
        ["flush chain inet bulkhead raw", "flush table inet bulkhead", "add rule inet bulkhead raw accept"]
    {
        rig.rules.replace(&rig.networks, &[]).unwrap();
        assert!(rig.rules.are_there().unwrap());
        rig::run_in(&rig.host, "nft", &[words]);
        assert!(!rig.rules.are_there().unwrap(), "{words}");
    }
}

#[test]
fn a_port_of_the_loopback_is_no_neighbour_s() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    rig.rules.publish(&[tcp(Some("127.0.0.1"), 8080, "10.10.0.2:80")]).unwrap();
    rig.bridge("one").route_loopback(true).unwrap();
    let (inside, loopback) = (at("10.10.0.2:80"), at("127.0.0.1:8080"));
    assert!(answers(&a, &rig.host, inside, loopback));
    // It sends there what others keep to themselves.
    rig::ip_command(&rig.outside, &["addr", "del", "127.0.0.1/8", "dev", "lo"]);
    rig::ip_command(&rig.outside, &["route", "add", "127.0.0.0/8", "via", "10.1.0.1", "src", "10.1.0.2"]);
    device::inside(rig.outside.fd(), || device::set("up0", Setting::RouteLoopback, "1")).unwrap().unwrap();
    assert!(!answers(&a, &rig.outside, inside, loopback));
}

#[test]
fn datagrams_find_their_way_as_well() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    let port = Port { protocol: Protocol::Udp, ..tcp(None, 5353, "10.10.0.2:53") };
    rig.rules.publish(&[port, tcp(None, 5353, "10.10.0.2:80")]).unwrap();
    let (server, client) = (rig::socket(&a, "10.10.0.2:53"), rig::socket(&rig.outside, "0.0.0.0:0"));
    assert!(rig::comes_back(&server, &client, at("10.1.0.1:5353")));
    assert!(answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:5353")));
}

#[test]
fn who_gets_an_address_next_gets_nothing_of_the_one_before() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    let port = Port { protocol: Protocol::Udp, ..tcp(None, 5353, "10.10.0.2:53") };
    let (inside, outside) = (at("10.10.0.2:53"), at("10.1.0.1:5353"));
    let client = rig::socket(&rig.outside, "0.0.0.0:0");
    // Asked before it is published, by a client that keeps its port.
    assert!(!rig::comes_back(&rig::socket(&a, &inside.to_string()), &client, outside));
    rig.rules.publish(std::slice::from_ref(&port)).unwrap();
    assert!(
        !rig::comes_back(&rig::socket(&a, &inside.to_string()), &client, outside),
        "the kernel remembers"
    );
    assert_eq!(flow::forget(&[Forgotten::To(Protocol::Udp, at("0.0.0.0:5353"))]).unwrap(), 1);
    assert!(rig::comes_back(&rig::socket(&a, &inside.to_string()), &client, outside));
    rig.rules.unpublish(|owner| owner == "web").unwrap();
    assert!(rig::comes_back(&rig::socket(&a, &inside.to_string()), &client, outside), "the kernel remembers");
    assert_eq!(flow::forget(&[Forgotten::Of(inside.ip())]).unwrap(), 1);
    assert!(!rig::comes_back(&rig::socket(&a, &inside.to_string()), &client, outside));
    assert_eq!(flow::forget(&[Forgotten::Of(rig::ip("fd00:10::9"))]).unwrap(), 0);
}

#[test]
fn a_connection_whose_container_was_killed_does_not_lead_to_the_next_one_there() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    let inside = at("10.10.0.2:80");
    published(&rig, 8080, "10.10.0.2:80");
    let listener = device::inside(a.fd(), || TcpListener::bind(inside).unwrap()).unwrap();
    let client =
        device::inside(rig.outside.fd(), || TcpStream::connect(at("10.1.0.1:8080")).unwrap()).unwrap();
    let served = listener.accept().unwrap().0;
    rig.rules.unpublish(|owner| owner == "web").unwrap();
    let by = |port| Forgotten::By(Protocol::Tcp, SocketAddr::new(inside.ip(), port));
    assert_eq!(flow::forget(&[by(81), by(8080)]).unwrap(), 0, "no other port's");
    assert_eq!(flow::forget(&[by(81), by(80)]).unwrap(), 1);
    drop((served, client));
}

#[test]
fn connections_are_forgotten_among_many_of_others() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let (a, b) = (rig.container("one", "a"), rig.container("one", "b"));
    // 10.1.0.2 and fd00:1::2 hear, and nobody answers: each datagram to another port is a connection.
    let send = |from: &Place, source: &str, to: &str, ports: std::ops::Range<u16>| {
        let socket = rig::socket(from, source);
        let send = |port| {
            while socket.take_error().unwrap().is_some() {}
            let _ = socket.send_to(b"ping", SocketAddr::new(rig::ip(to), port));
        };
        // Until neighbours know each other, what is sent to them is kept, and not all of it.
        send(9);
        std::thread::sleep(Duration::from_millis(200));
        ports.for_each(send);
    };
    send(&b, "10.10.0.3:5000", "10.1.0.2", 1000..6500);
    send(&a, "10.10.0.2:5000", "10.1.0.2", 1000..1010);
    send(&a, "[fd00:10::2]:5000", "fd00:1::2", 1000..1005);
    send(&b, "[fd00:10::3]:5000", "fd00:1::2", 1000..1020);
    let forget = |forgotten: &[Forgotten]| flow::forget(forgotten).unwrap();
    assert_eq!(forget(&[Forgotten::Of(rig::ip("10.10.0.9"))]), 0);
    for all in ["0.0.0.0:9", "[::]:9"] {
        assert_eq!(forget(&[Forgotten::To(Protocol::Udp, at(all))]), 2, "{all}");
    }
    assert_eq!(forget(&[Forgotten::To(Protocol::Udp, at("0.0.0.0:1000"))]), 2);
    assert_eq!(forget(&[Forgotten::To(Protocol::Udp, at("10.1.0.3:1001"))]), 0, "another address");
    assert_eq!(forget(&[Forgotten::To(Protocol::Tcp, at("0.0.0.0:1001"))]), 0, "another protocol");
    let of = Forgotten::Of(rig::ip("10.10.0.2"));
    assert_eq!(forget(&[of, of]), 9);
    assert_eq!(forget(&[Forgotten::Of(rig::ip("fd00:10::2"))]), 5);
    assert_eq!(forget(&[Forgotten::By(Protocol::Udp, at("[fd00:1::2]:1007"))]), 1);
    let by =
        (1001..1005).map(|port| Forgotten::By(Protocol::Udp, SocketAddr::new(rig::ip("10.1.0.2"), port)));
    assert_eq!(forget(&Vec::from_iter(by)), 4);
    let to = (1005..1011).map(|port| Forgotten::To(Protocol::Udp, SocketAddr::new([0; 4].into(), port)));
    assert_eq!(forget(&Vec::from_iter(to)), 6, "many at once");
    assert_eq!(forget(&[Forgotten::Of(rig::ip("10.10.0.3"))]), 5489);
}

#[test]
fn what_the_host_has_of_a_subnet_is_found() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let index = rig.ensure(&rig.bridge("one")).unwrap();
    let found = |subnet: &str, own| {
        let found = overlap::find(&rig.devices, &[subnet.parse().unwrap()], own).unwrap();
        found.first().map(|overlap| (overlap.to_string(), overlap.diverts()))
    };
    let some = |text: &str, diverts| Some((text.to_owned(), diverts));
    let own = "the host has 10.10.0.1/16 at bh-one";
    assert_eq!(found("10.10.0.0/16", None), some(own, true));
    assert_eq!(found("10.10.0.0/16", Some(index)), None, "it is the network's own");
    assert_eq!(found("10.10.8.0/24", None), some(own, false), "it is wider");
    assert_eq!(found("10.1.0.0/16", None), some("the host has 10.1.0.1/24 at up0", true));
    assert_eq!(found("172.17.0.0/16", None), None, "a default route says nothing of who is there");
    assert_eq!(found("fd00:1::/48", None), some("the host has fd00:1::1/64 at up0", true));
    for (to, expected) in [
        ("128.0.0.0/1", None),
        ("172.16.0.0/12", some("the host has a route to 172.16.0.0/12 via 10.1.0.2 by up0", false)),
        ("172.17.0.0/16", some("the host has a route to 172.17.0.0/16 via 10.1.0.2 by up0", true)),
        ("172.17.3.0/24", some("the host has a route to 172.17.3.0/24 via 10.1.0.2 by up0", true)),
    ] {
        rig::ip_command(&rig.host, &["route", "add", to, "via", "10.1.0.2"]);
        assert_eq!(found("172.17.0.0/16", Some(index)), expected, "{to}");
    }
    let several = ["route", "add", "172.17.3.4", "nexthop", "via", "10.1.0.2", "nexthop", "via", "10.1.0.3"];
    rig::ip_command(&rig.host, &several);
    let expected = some("the host has a route to 172.17.3.4/32 via 10.1.0.2", true);
    assert_eq!(found("172.17.0.0/16", Some(index)), expected, "by several ways");
    rig::ip_command(&rig.host, &["route", "add", "10.66.0.0/16", "via", "inet6", "fd00:1::2", "dev", "up0"]);
    let expected = some("the host has a route to 10.66.0.0/16 via fd00:1::2 by up0", false);
    assert_eq!(found("10.66.0.0/24", Some(index)), expected, "by a gateway of the other family");
}

#[test]
fn five_thousand_ports_are_one_change() {
    requires!(
        rustix::process::geteuid().is_root(),
        "needs root: it takes more room than a user's socket has"
    );
    bulkhead_testkit::in_fresh_namespaces!(Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    let long = "0123456789abcdef".repeat(15);
    let ports = (10_000..15_000).map(|port| Port { owner: long.clone(), ..tcp(None, port, "10.10.0.2:80") });
    let ports = Vec::from_iter(ports);
    rig.rules.publish(&ports).unwrap();
    assert!(answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:14999")));
    rig.rules.replace(&rig.networks, &ports).unwrap();
    assert!(answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:10000")));
    rig.rules.unpublish(|owner| owner == long).unwrap();
    assert!(!answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:10000")));
}

#[test]
fn a_change_of_what_has_changed_is_made_anew() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let filter = Filter::open().unwrap();
    let before = filter.generation().unwrap();
    rig.rules.publish(&[tcp(None, 8080, "10.10.0.2:80")]).unwrap();
    let mut transaction = Transaction::new();
    transaction.make_table("other");
    let error = filter.commit_at(Some(before), transaction.clone()).unwrap_err();
    assert!(error.is(Errno::RESTART), "{error}");
    filter.commit_at(Some(filter.generation().unwrap()), transaction).unwrap();
    assert!(filter.has_table("other").unwrap());
    let chains = filter.chains().unwrap();
    let ours = chains.iter().filter(|chain| chain.table == "bulkhead" && chain.hook.is_some());
    assert_eq!(ours.count(), 5, "{chains:?}");
}

#[test]
fn a_network_goes_whole_though_something_of_it_is_missing() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let mut network = rig.networks[0].clone();
    // Recorded otherwise by now.
    network.is_internal = true;
    rig.rules.remove_network(&network).unwrap();
    rig.rules.remove_network(&network).unwrap();
    let a = rig.container("one", "a");
    let seen = || ping(&rig.outside, &a, at("10.1.0.2:80"), at("10.1.0.2:80"));
    assert_eq!(seen(), Some(rig::ip("10.10.0.2")), "nobody masks its address");
    rig.rules.add_network(&rig.networks[0]).unwrap();
    assert_eq!(seen(), Some(rig::ip("10.1.0.1")));
}

#[test]
fn the_host_believes_no_container_that_says_it_is_a_router() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let of = |bridge: &Bridge, setting| device::get(&bridge.name, setting).unwrap();
    for name in ["one", "inner"] {
        let bridge = rig.bridge(name);
        rig.ensure(&bridge).unwrap();
        assert_eq!(of(&bridge, Setting::RouterAdvertisements), "0", "{name}");
        assert_eq!(of(&bridge, Setting::NoIpv6), "0", "{name}");
        assert_eq!(of(&bridge, Setting::RouteLoopback), "0", "{name}");
        assert_eq!(of(&bridge, Setting::Forwarding), if name == "inner" { "0" } else { "1" });
    }
    let mut bridge = rig.bridge("two");
    bridge.addresses.truncate(1);
    rig.ensure(&bridge).unwrap();
    assert_eq!(of(&bridge, Setting::NoIpv6), "1", "a network without IPv6");
}

#[test]
fn a_device_that_is_found_tells_its_parameters_as_their_files_do() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let settings = [
        (Setting::Forwarding, "1"),
        (Setting::ForwardingV6, "1"),
        (Setting::RouteLoopback, "1"),
        (Setting::NoIpv6, "1"),
        (Setting::RouterAdvertisements, "2"),
    ];
    for (setting, other) in settings {
        for value in [other, "0"] {
            device::set("up0", setting, value).unwrap();
            let found = rig.devices.find("up0").unwrap().unwrap();
            for (setting, _) in settings {
                assert_eq!(found.setting(setting), device::get("up0", setting), "{setting:?}");
            }
            assert_eq!(found.setting(setting).as_deref(), Some(value));
            assert!(rig.devices.list().unwrap().contains(&found));
        }
    }
}

#[test]
fn words_about_the_rules_stay_the_same_until_somebody_changes_any() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let stamp = || rig.rules.stamp().unwrap();
    requires!(stamp().is_some(), "needs the numbers of network namespaces (Linux 5.14)");
    let first = stamp();
    assert!(rig.rules.are_there().unwrap());
    assert_eq!(stamp(), first);
    let mut foreign = Transaction::new();
    foreign.make_table("another");
    Filter::open().unwrap().commit(foreign).unwrap();
    assert_ne!(stamp(), first);
    let elsewhere = device::inside(rig.outside.fd(), || Rules::open("bulkhead").unwrap().stamp().unwrap());
    assert_ne!(elsewhere.unwrap(), stamp());
}

#[test]
fn forwarding_is_switched_on_where_it_is_needed_and_taken_back() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let now = |device, setting| device::get(device, setting).unwrap();
    device::set("up0", Setting::Forwarding, "0").unwrap();
    device::set("all", Setting::ForwardingV6, "0").unwrap();
    device::set("up0", Setting::RouterAdvertisements, "1").unwrap();
    let changed = uplink::forward(&rig.devices, Families::Both, "bh-").unwrap();
    assert_eq!(uplink::forward(&rig.devices, Families::Both, "bh-").unwrap(), []);
    assert_eq!(now("up0", Setting::Forwarding), "1");
    assert_eq!(now("lo", Setting::Forwarding), "0", "what does not lead out stays");
    assert_eq!(now("up0", Setting::RouterAdvertisements), "2");
    assert_eq!(now("all", Setting::ForwardingV6), "1");
    uplink::take_back(&changed).unwrap();
    assert_eq!(now("up0", Setting::Forwarding), "0");
    assert_eq!(now("up0", Setting::RouterAdvertisements), "1");
    assert_eq!(now("all", Setting::ForwardingV6), "0");
}

#[test]
fn what_is_to_be_changed_is_told_before_anything_is() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let now = |device, setting| device::get(device, setting).unwrap();
    device::set("up0", Setting::Forwarding, "0").unwrap();
    device::set("all", Setting::ForwardingV6, "0").unwrap();
    let planned = uplink::plan(&rig.devices, Families::Both, "bh-").unwrap();
    let told = Vec::from_iter(planned.iter().map(|of| (of.device.as_str(), of.setting, of.was.as_str())));
    assert!(told.contains(&("up0", Setting::Forwarding, "0")), "{told:?}");
    assert!(told.contains(&("all", Setting::ForwardingV6, "0")), "{told:?}");
    assert_eq!(now("up0", Setting::Forwarding), "0", "nothing is changed yet");
    // Noted, and killed before it was done.
    uplink::take_back(&planned).unwrap();
    assert_eq!(now("up0", Setting::Forwarding), "0");
    let gone = Changed { device: "gone0".to_owned(), setting: Setting::Forwarding, was: "0".to_owned() };
    uplink::apply(&[&[gone][..], &planned].concat()).unwrap();
    assert_eq!(now("up0", Setting::Forwarding), "1", "a device that is gone keeps no other from it");
    assert_eq!(now("all", Setting::ForwardingV6), "1");
    assert_eq!(uplink::plan(&rig.devices, Families::Both, "bh-").unwrap(), []);
}

#[test]
fn nothing_is_taken_back_from_under_somebody_who_forwards_everything_since() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let now = |device, setting| device::get(device, setting).unwrap();
    device::set("up0", Setting::Forwarding, "0").unwrap();
    device::set("all", Setting::ForwardingV6, "0").unwrap();
    let changed = uplink::forward(&rig.devices, Families::Both, "bh-").unwrap();
    // As docker's daemon does when it starts.
    device::set("all", Setting::Forwarding, "1").unwrap();
    uplink::take_back(&changed).unwrap();
    assert_eq!(now("up0", Setting::Forwarding), "1");
    assert_eq!(now("all", Setting::ForwardingV6), "1");
    device::set("all", Setting::Forwarding, "0").unwrap();
    device::set("up0", Setting::Forwarding, "1").unwrap();
    uplink::take_back(&changed).unwrap();
    assert_eq!(now("up0", Setting::Forwarding), "0", "as long as it is so");
    assert_eq!(now("all", Setting::ForwardingV6), "0");
}

#[test]
fn every_cable_of_the_host_leads_to_containers_and_back() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    // No route leads by it but that to its own subnet.
    let second = rig.cable("up1", 2);
    let (inside, outside) = (at("10.10.0.2:80"), at("10.2.0.2:80"));
    published(&rig, 8080, "10.10.0.2:80");
    device::set("up1", Setting::Forwarding, "0").unwrap();
    assert!(!answers(&second, &a, outside, outside), "it is the device that forwards");
    assert!(!answers(&a, &second, inside, at("10.2.0.1:8080")));
    let host = |words: &[&str]| rig::ip_command(&rig.host, words);
    for (name, address) in [("docker0", "172.17.0.1/16"), ("br-0123456789ab", "172.18.0.1/16")] {
        host(&["link", "add", name, "type", "bridge"]);
        host(&["addr", "add", address, "dev", name]);
        host(&["link", "set", name, "up"]);
    }
    host(&["link", "add", "mute0", "type", "bridge"]);
    host(&["link", "set", "mute0", "up"]);
    let changed = uplink::forward(&rig.devices, Families::V4, "bh-").unwrap();
    let devices = Vec::from_iter(changed.iter().map(|changed| changed.device.as_str()));
    assert_eq!(devices, ["up1"], "neither docker's, nor ours, nor what has no address");
    assert!(answers(&second, &a, outside, outside));
    assert!(answers(&a, &second, inside, at("10.2.0.1:8080")));
    assert!(!answers(&a, &second, inside, inside), "what nobody has published stays shut there, too");
    uplink::take_back(&changed).unwrap();
    assert_eq!(device::get("up1", Setting::Forwarding).as_deref(), Some("0"));
    host(&[
        "route",
        "add",
        "default",
        "via",
        "172.18.0.9",
        "dev",
        "br-0123456789ab",
        "metric",
        "9",
        "onlink",
    ]);
    let planned = uplink::plan(&rig.devices, Families::V4, "bh-").unwrap();
    assert_eq!(planned.len(), 2, "a gateway is reached by it, whatever it is called: {planned:?}");
}

#[test]
fn a_macvlan_is_on_its_parent_s_cable() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let parent = rig.devices.find("up0").unwrap().unwrap();
    let namespace = device::make_namespace().unwrap();
    rig.devices
        .change(vec![Change::make_macvlan(&Macvlan {
            parent: parent.index,
            mode: MacvlanMode::Bridge,
            inside: "eth0",
            mac: Mac([2, 0x42, 10, 1, 0, 7]),
            namespace: namespace.as_fd(),
            mtu: Some(1400),
        })])
        .unwrap();
    let there = Devices::of(namespace.as_fd()).unwrap();
    let found = there.find("eth0").unwrap().unwrap();
    assert_eq!((found.kind.as_deref(), found.mtu), (Some("macvlan"), 1400));
    assert_eq!(found.mac, Some(Mac([2, 0x42, 10, 1, 0, 7])));
    there
        .change(vec![
            Change::give_address(found.index, "10.1.0.7/24".parse().unwrap()),
            Change::bring_up(found.index),
        ])
        .unwrap();
    let place = Place::new("macvlan", namespace);
    assert!(answers(&place, &rig.outside, at("10.1.0.7:80"), at("10.1.0.7:80")));
}

#[test]
fn a_container_is_disconnected_while_it_is_there() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    let plug = rig.plug("one", "a", 2);
    plug.disconnect(&rig.devices).unwrap();
    plug.disconnect(&rig.devices).unwrap();
    assert_eq!(Devices::of(a.fd()).unwrap().find("eth0").unwrap(), None);
    let index = rig.ensure(&rig.bridge("one")).unwrap();
    let there = Devices::of(a.fd()).unwrap();
    plug.connect(&rig.devices, (&rig.bridge("one"), index), a.fd(), &there, None).unwrap();
    assert!(answers(&a, &rig.host, at("10.10.0.2:80"), at("10.10.0.2:80")), "connected again");
    let error = plug.connect(&rig.devices, (&rig.bridge("one"), index), a.fd(), &there, None).unwrap_err();
    assert!(error.is(Errno::EXIST), "{error}");
    assert!(answers(&a, &rig.host, at("10.10.0.2:80"), at("10.10.0.2:80")), "as before");
}

#[test]
fn a_bridge_is_made_once_and_mended() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let bridge = rig.bridge("one");
    let first = rig.ensure(&bridge).unwrap();
    rig::ip_command(&rig.host, &["addr", "flush", "dev", &bridge.name]);
    rig::ip_command(&rig.host, &["link", "set", &bridge.name, "down"]);
    assert_eq!(rig.ensure(&bridge).unwrap(), first);
    let found = rig.devices.find(&bridge.name).unwrap().unwrap();
    assert!(found.is_up);
    assert!(rig.devices.addresses_of(first).unwrap().contains(&bridge.addresses[0]));
    rig::ip_command(&rig.host, &["link", "add", "bh-theirs", "type", "bridge"]);
    rig::ip_command(&rig.host, &["link", "set", "bh-theirs", "alias", "of somebody"]);
    let mut theirs = bridge.clone();
    theirs.name = "bh-theirs".to_owned();
    let error = rig.ensure(&theirs).unwrap_err().to_string();
    assert!(error.contains("bh-theirs") && error.contains("rename it"), "{error}");
    theirs.remove(&rig.devices).unwrap();
    assert!(rig.devices.find("bh-theirs").unwrap().is_some(), "it is not ours to delete");
    rig::ip_command(&rig.host, &["link", "add", "bh-plain", "type", "bridge"]);
    theirs.name = "bh-plain".to_owned();
    rig.ensure(&theirs).unwrap_err();
    theirs.remove(&rig.devices).unwrap();
    let found = rig.devices.find("bh-plain").unwrap().unwrap();
    assert_eq!(found.alias, None, "one without a description is somebody's, too");
    bridge.remove(&rig.devices).unwrap();
    bridge.remove(&rig.devices).unwrap();
    assert_eq!(rig.devices.find(&bridge.name).unwrap(), None);
}

#[test]
fn a_namespace_takes_its_devices_with_it() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a: Place = rig.container("one", "a");
    let before = rig.devices.list().unwrap().len();
    drop(a);
    bulkhead_testkit::wait_until("the pair is gone", || rig.devices.list().unwrap().len() == before - 1);
}
