//! Hosts made of network namespaces: what gets through, and what does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

mod rig;

use std::net::SocketAddr;

use bulkhead_net::device::{self, Setting};
use bulkhead_net::rules::{Port, Protocol};
use rig::{Place, Rig, answers, ping};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn published(rig: &Rig, port: u16, to: &str) {
    let port = Port { owner: "web".to_owned(), protocol: Protocol::Tcp, address: None, port, to: at(to) };
    rig.rules.publish(&[port]).unwrap();
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
    let loopback = at("127.0.0.1:80");
    assert!(!answers(&rig.host, &a, loopback, loopback));
    rig.rules.remove().unwrap();
    assert!(answers(&rig.host, &a, loopback, loopback), "it is the rule that prevents it");
}

#[test]
fn a_port_of_one_address_is_that_address_s_only() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let a = rig.container("one", "a");
    let port = Port {
        owner: "web".to_owned(),
        protocol: Protocol::Tcp,
        address: Some(rig::ip("10.1.0.1")),
        port: 8080,
        to: at("10.10.0.2:80"),
    };
    rig.rules.publish(std::slice::from_ref(&port)).unwrap();
    assert!(answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:8080")));
    assert!(!answers(&a, &rig.host, at("10.10.0.2:80"), at("127.0.0.1:8080")));
    let elsewhere = Port { to: at("10.10.0.9:80"), ..port.clone() };
    let error = rig.rules.publish(&[Port { port: 9090, ..port }, elsewhere]).unwrap_err();
    assert!(error.is(rustix::io::Errno::EXIST), "{error}");
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
    let port = Port {
        owner: "web".into(),
        protocol: Protocol::Tcp,
        address: None,
        port: 8080,
        to: at("10.10.0.2:80"),
    };
    for _ in 0..2 {
        rig.rules.replace(&rig.networks, std::slice::from_ref(&port)).unwrap();
        assert!(answers(&a, &rig.outside, at("10.10.0.2:80"), at("10.1.0.1:8080")));
    }
}

#[test]
fn a_bridge_is_made_once_and_mended() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new();
    let bridge = rig.bridge("one");
    let first = bridge.ensure(&rig.devices).unwrap();
    rig::ip_command(&rig.host, &["addr", "flush", "dev", &bridge.name]);
    rig::ip_command(&rig.host, &["link", "set", &bridge.name, "down"]);
    assert_eq!(bridge.ensure(&rig.devices).unwrap(), first);
    let found = rig.devices.find(&bridge.name).unwrap().unwrap();
    assert!(found.is_up);
    assert!(rig.devices.addresses_of(first).unwrap().contains(&bridge.addresses[0]));
    rig::ip_command(&rig.host, &["link", "add", "bh-theirs", "type", "bridge"]);
    rig::ip_command(&rig.host, &["link", "set", "bh-theirs", "alias", "of somebody"]);
    let mut theirs = bridge.clone();
    theirs.name = "bh-theirs".to_owned();
    let error = theirs.ensure(&rig.devices).unwrap_err().to_string();
    assert!(error.contains("bh-theirs") && error.contains("rename it"), "{error}");
    theirs.remove(&rig.devices).unwrap();
    assert!(rig.devices.find("bh-theirs").unwrap().is_some(), "it is not ours to delete");
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
