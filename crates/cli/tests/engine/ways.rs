//! By which of its networks a container's packets go out, and by which ports of the host lead in, also while these change. The test is a
//! host of its own.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use bulkhead_testkit::network::Network;
use bulkhead_testkit::{find_program, requires, wait_until};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

use crate::networks::{greeter, heard, neighbour};
use crate::shop::{Shop, shop};

/// The routes of a container by which packets go that go nowhere else, of a family (`-4`, `-6`).
fn ways_out(shop: &Shop, name: &str, family: &str) -> String {
    let routes = shop.said(&["exec", name, "ip", family, "route"]);
    Vec::from_iter(routes.lines().filter(|route| route.starts_with("default"))).join("\n")
}

#[test]
fn each_family_has_a_way_out_and_one_in_whichever_network_has_it() {
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.84.0.0/24", "four"]);
    shop.said(&["network", "create", "--ipv4=false", "--subnet", "fd00:84::/64", "six"]);
    let serve = "while :; do echo hello both | nc -l -p 80; done";
    for networks in [["four", "six"], ["six", "four"]] {
        // The second is connected by a hook.
        for users in [&[][..], &["--uidmap", "0:100000:65536"]] {
            let networks = networks.map(|name| ["--network", name]).concat();
            let options = [&["-d", "--name", "web", "-p", "8190:80"], &networks[..], users].concat();
            shop.with("run", &options, &["sh", "-c", serve]).output().succeeds();
            let (v4, v6) = (ways_out(&shop, "web", "-4"), ways_out(&shop, "web", "-6"));
            assert!(v4.starts_with("default via 10.84.0.1 dev eth"), "{options:?}: {v4}");
            assert!(v6.starts_with("default via fd00:84::1 dev eth"), "{options:?}: {v6}");
            assert_eq!((v4.lines().count(), v6.lines().count()), (1, 1), "{options:?}");
            assert_eq!(shop.said(&["port", "web", "80"]), "0.0.0.0:8190\n[::]:8190\n", "{options:?}");
            for at in ["127.0.0.1:8190", "[fd00:84::1]:8190"] {
                wait_until("it answers", || heard(at).as_deref() == Some("hello both"));
            }
            shop.said(&["rm", "-f", "web"]);
        }
    }
}

/// What killed commands leave of a connection that nobody made.
#[test]
fn who_is_connected_after_a_killed_connect_has_what_is_asked_for_now() {
    requires!(find_program("strace").is_some(), "needs strace");
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.85.0.0/24", "back"]);
    shop.said(&["network", "create", "other"]);
    shop.service("web", "sleep 1000");
    let mut half = 0;
    for sync in 1.. {
        let inject = format!("inject=fsync,fdatasync:signal=KILL:when={sync}");
        let strace = shop.sandbox.command("strace").args(["-f", "-o", "/dev/null", "-e", &inject]);
        let killed = shop.bulkhead_by(strace, &["network", "connect", "back", "web"]).output();
        // Somebody is before it then.
        shop.said(&["network", "connect", "other", "web"]);
        let words =
            ["network", "connect", "--ip", "10.85.0.77", "--mac-address", "02:00:00:00:00:77", "back", "web"];
        let connected = shop.bulkhead(&words).output();
        if connected.code() == 0 {
            half += 1;
            let back = shop.inspect("web")["NetworkSettings"]["Networks"]["back"].clone();
            assert_eq!(back["IPAddress"], "10.85.0.77", "after sync {sync}");
            assert_eq!(back["MacAddress"], "02:00:00:00:00:77", "after sync {sync}");
            let own = shop.said(&["exec", "web", "ip", "addr"]);
            assert!(
                own.contains("10.85.0.77/24") && own.contains("02:00:00:00:00:77"),
                "after sync {sync}: {own}"
            );
            assert_eq!(own.matches("inet 10.85.").count(), 1, "one device there: {own}");
        } else {
            assert!(connected.stderr.contains("is connected with it already"), "{connected}");
        }
        for network in ["back", "other"] {
            shop.said(&["network", "disconnect", network, "web"]);
        }
        if killed.code() == 0 {
            break;
        }
    }
    assert!(half > 1, "killed before it was connected");
}

/// Of a macvlan it is the hardware address that tells which device is to go.
#[test]
fn what_a_killed_connect_has_made_on_a_cable_goes_with_the_hardware_address_that_it_was_to_have() {
    requires!(find_program("strace").is_some(), "needs strace");
    let shop = shop!();
    for words in ["link add cable type veth peer name far", "link set cable up"] {
        shop.sandbox.command("ip").args(words.split(' ').collect::<Vec<_>>()).output().succeeds();
    }
    let create =
        ["network", "create", "-d", "macvlan", "--subnet", "198.51.100.0/24", "-o", "parent=cable", "lan"];
    shop.said(&create);
    shop.service("web", "sleep 1000");
    let devices = || shop.said(&["exec", "web", "ls", "/sys/class/net"]);
    let before = devices();
    let mut half = 0;
    for message in 1.. {
        let inject = format!("inject=sendto:signal=KILL:when={message}");
        // Whom it starts is not followed: that one stays.
        let strace = shop.sandbox.command("strace").args(["-o", "/dev/null", "-e", &inject]);
        let words = ["network", "connect", "--mac-address", "02:00:00:00:00:77", "lan", "web"];
        let killed = shop.bulkhead_by(strace, &words).output();
        half += usize::from(killed.code() != 0 && devices() != before);
        let disconnected = shop.bulkhead(&["network", "disconnect", "lan", "web"]).output();
        assert!(
            disconnected.code() == 0 || disconnected.stderr.contains("is not connected with it"),
            "{disconnected}"
        );
        assert_eq!(devices(), before, "after message {message} to the kernel");
        if killed.code() == 0 {
            break;
        }
    }
    assert!(half > 0, "killed when there was a device, and before it was recorded");
}

/// Says what a port of 192.0.2.1 says to a host elsewhere.
fn heard_from(shop: &Shop, neighbour: &Network, at: &str, port: &str) -> String {
    let ask = neighbour.command(&shop.sandbox, "busybox").args(["nc", "-w", "2", at, port]);
    ask.output().stdout.trim().to_owned()
}

#[test]
fn published_ports_follow_the_way_out() {
    follow_the_way_out(&shop!(), "dnat");
}

#[test]
fn ports_that_a_helper_carries_follow_the_way_out() {
    follow_the_way_out(&shop!(), "proxy");
}

fn follow_the_way_out(shop: &Shop, mode: &str) {
    let neighbour = neighbour(shop);
    // What comes in by another way than its answers go out is dropped.
    fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
    for (name, subnet) in [("one", "10.86.1.0/24"), ("two", "10.86.2.0/24"), ("three", "10.86.3.0/24")] {
        shop.said(&["network", "create", "--subnet", subnet, name]);
    }
    shop.said(&["network", "create", "--internal", "inner"]);
    let options =
        ["-d", "--name", "web", "--network", "one", "--publish-mode", mode, "-p", "8191:80", "-p", "81"];
    // Whose network is taken away hears of no end.
    let greeter = |port, name| greeter(port, name).replace("| nc", "| timeout 2 nc");
    let serve = format!("({}) & {}", greeter(80, "eighty"), greeter(81, "any"));
    shop.with("run", &options, &["sh", "-c", &serve]).output().succeeds();
    let any = shop.said(&["port", "web", "81"]).trim().rsplit(':').next().unwrap().to_owned();
    let ports = shop.said(&["port", "web"]);
    let reaches = |when: &str| {
        wait_until(when, || heard_from(shop, &neighbour, "192.0.2.1", "8191") == "hello eighty");
        wait_until(when, || heard_from(shop, &neighbour, "192.0.2.1", &any) == "hello any");
        assert_eq!(shop.said(&["port", "web"]), ports, "{when}");
        let at_loopback = || heard("127.0.0.1:8191").as_deref() == Some("hello eighty");
        wait_until(when, at_loopback);
    };
    reaches("at the start");
    shop.said(&["network", "connect", "two", "web"]);
    reaches("with another network");
    let disconnected = shop.bulkhead(&["network", "disconnect", "one", "web"]).output().succeeds();
    assert_eq!(disconnected.stderr, "");
    reaches("by the network that is left");
    shop.said(&["network", "connect", "--gw-priority", "5", "three", "web"]);
    assert!(ways_out(shop, "web", "-4").contains("via 10.86.3.1 "));
    reaches("by the network that is preferred");
    shop.said(&["network", "connect", "inner", "web"]);
    shop.said(&["network", "disconnect", "two", "web"]);
    reaches("by the same as before");
    let disconnected = shop.bulkhead(&["network", "disconnect", "three", "web"]).output().succeeds();
    let said = "its ports lead nowhere any more";
    assert!(disconnected.stderr.contains(said), "{disconnected}");
    assert_eq!(shop.said(&["port", "web"]), "");
    assert!(TcpListener::bind("0.0.0.0:8191").is_ok(), "it is free");
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    shop.said(&["network", "connect", "one", "web"]);
    wait_until("with a way in again", || heard("127.0.0.1:8191").as_deref() == Some("hello eighty"));
    shop.said(&["restart", "-t", "0", "web"]);
    wait_until("after a restart", || heard("127.0.0.1:8191").as_deref() == Some("hello eighty"));
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    shop.said(&["rm", "-f", "web"]);
}

/// Listens as a program does that knows IPv6 alone.
fn listen_at_v6_alone(port: u16) -> OwnedFd {
    let listener = socket(AddressFamily::INET6, SocketType::STREAM, None).unwrap();
    sockopt::set_ipv6_v6only(&listener, true).unwrap();
    bind(&listener, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).unwrap();
    listen(&listener, 1).unwrap();
    listener
}

#[test]
fn a_port_that_cannot_be_had_in_a_new_family_costs_none_of_the_others() {
    let shop = shop!();
    shop.said(&["network", "create", "--ipv4=false", "--subnet", "fd00:87::/64", "six"]);
    let six = listen_at_v6_alone(8192);
    let options = ["-d", "--name", "web", "-p", "8192:80"];
    shop.with("run", &options, &["sh", "-c", &greeter(80, "web")]).output().succeeds();
    wait_until("it answers", || heard("127.0.0.1:8192").as_deref() == Some("hello web"));
    let connected = shop.bulkhead(&["network", "connect", "six", "web"]).output().succeeds();
    assert!(connected.stderr.contains("not all of its ports lead to it until its next start"), "{connected}");
    assert!(connected.stderr.contains("a program of the host listens there"), "{connected}");
    assert_eq!(shop.said(&["port", "web"]), "80/tcp -> 0.0.0.0:8192\n");
    wait_until("it answers still", || heard("127.0.0.1:8192").as_deref() == Some("hello web"));
    drop(six);
    shop.said(&["network", "disconnect", "six", "web"]);
    let connected = shop.bulkhead(&["network", "connect", "six", "web"]).output().succeeds();
    assert_eq!(connected.stderr, "");
    assert_eq!(shop.said(&["port", "web", "80"]), "0.0.0.0:8192\n[::]:8192\n");
    shop.said(&["rm", "-f", "web"]);
}

#[test]
fn who_was_connected_later_is_behind_the_others_after_a_restart_too() {
    let shop = shop!();
    for (name, subnet) in [("one", "10.88.1.0/24"), ("two", "10.88.2.0/24")] {
        shop.said(&["network", "create", "--subnet", subnet, name]);
    }
    let options = ["-d", "--name", "web", "--network", "one", "--network", "two", "-p", "8193:80"];
    shop.with("run", &options, &["sh", "-c", &greeter(80, "web")]).output().succeeds();
    assert!(ways_out(&shop, "web", "-4").contains("via 10.88.1.1 "));
    shop.said(&["network", "disconnect", "one", "web"]);
    shop.said(&["network", "connect", "one", "web"]);
    for when in ["while it runs", "after a restart"] {
        let way = ways_out(&shop, "web", "-4");
        assert!(way.contains("via 10.88.2.1 ") && way.lines().count() == 1, "{when}: {way}");
        wait_until(when, || heard("127.0.0.1:8193").as_deref() == Some("hello web"));
        shop.said(&["restart", "-t", "0", "web"]);
    }
    shop.said(&["rm", "-f", "web"]);
}

/// What leads nowhere is only shown to do so by what is reached otherwise.
#[test]
fn an_internal_network_has_no_way_out_and_none_in() {
    let shop = shop!();
    let neighbour = neighbour(&shop);
    shop.said(&["network", "create", "--internal", "--subnet", "10.82.0.0/24", "closed"]);
    shop.said(&["network", "create", "--subnet", "10.82.1.0/24", "open"]);
    for (network, address) in [("closed", "10.82.0.9"), ("open", "10.82.1.9")] {
        let options = ["-d", "--name", network, "--network", network, "--ip", address];
        shop.with("run", &options, &["sh", "-c", &greeter(80, network)]).output().succeeds();
    }
    let asks = |network: &str, at: &str, port: u16, tries: u32| {
        // With a way of its own, too, that nobody gave it.
        let way = "ip route replace default via 10.82.0.1 2>/dev/null || true";
        let ask = format!("nc -w 2 {at} {port} </dev/null");
        let script = format!("{way}; for i in $(seq {tries}); do {ask} && exit; sleep 0.2; done");
        let options = ["--network", network, "--cap-add", "NET_ADMIN"];
        shop.script(&options, &script).output().stdout.trim().to_owned()
    };
    let routes = shop.script(&["--network", "closed"], "ip route").output().succeeds().stdout;
    assert!(!routes.contains("default"), "{routes}");
    // None in.
    assert_eq!(asks("closed", "10.82.0.9", 80, 50), "hello closed", "a neighbour reaches it");
    for network in ["open", "bridge"] {
        assert_eq!(asks(network, "10.82.0.9", 80, 2), "", "nobody in {network} does");
    }
    assert_eq!(heard_from(&shop, &neighbour, "10.82.0.9", "80"), "", "nor a host elsewhere");
    wait_until("it still answers", || heard("10.82.0.9:80").as_deref() == Some("hello closed"));
    let publish = shop.script(&["--network", "closed", "-p", "80:80"], "true").output();
    publish.succeeds().complains("its networks are internal: no port is published");
    // None out.
    let far = neighbour.command(&shop.sandbox, "busybox").args(["nc", "-l", "-p", "99"]).input("hello far");
    let far = far.spawn();
    assert_eq!(asks("closed", "192.0.2.2", 99, 3), "", "to no host elsewhere");
    assert_eq!(asks("open", "192.0.2.2", 99, 50), "hello far", "where another network leads");
    far.wait().succeeds();
    assert_eq!(asks("open", "10.82.1.9", 80, 50), "hello open", "it answers who is with it");
    assert_eq!(asks("closed", "10.82.1.9", 80, 2), "", "to no other network");
}
