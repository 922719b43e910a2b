//! Networks whose subnets the host has got since they were made, as from another engine or by a VPN. The test is a host of its own.

use std::collections::BTreeSet;

use bulkhead_testkit::wait_until;

use crate::networks::{greeter, heard};
use crate::shop::{Shop, shop};

fn ip(shop: &Shop, words: &str) {
    shop.sandbox.command("ip").args(words.split(' ').collect::<Vec<_>>()).output().succeeds();
}

/// A device with an address, as another engine makes one.
fn theirs(shop: &Shop, name: &str, address: &str) {
    ip(shop, &format!("link add {name} type bridge"));
    ip(shop, &format!("addr add {address} dev {name}"));
    ip(shop, &format!("link set {name} up"));
}

fn address(shop: &Shop, container: &str, network: &str) -> String {
    let of_it = shop.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"].clone();
    of_it.as_str().unwrap().to_owned()
}

#[test]
fn the_default_network_makes_way_for_what_the_host_has_got() {
    let shop = shop!();
    for name in ["one", "two", "three", "four"] {
        shop.with("create", &["--name", name], &["sleep", "1000"]).output().succeeds();
    }
    shop.said(&["start", "four"]);
    assert_eq!(address(&shop, "four", "bridge"), "172.17.0.5");
    shop.said(&["stop", "-t", "0", "four"]);
    // As after a reboot.
    shop.said(&["network", "prune", "--force"]);
    theirs(&shop, "docker0", "172.17.0.1/16");
    let options = ["-d", "--name", "web", "-p", "8110:80"];
    let started = shop.with("run", &options, &["sh", "-c", &greeter(80, "web")]).output().succeeds();
    let told = "network bridge has 172.18.0.0/16 now instead of 172.17.0.0/16: the host has 172.17.0.1/16 at docker0";
    assert!(started.stderr.contains(told), "{}", started.stderr);
    wait_until("it answers", || heard("127.0.0.1:8110").as_deref() == Some("hello web"));
    // All that are connected have other addresses.
    shop.said(&["start", "one", "two", "three", "four"]);
    shop.said(&["exec", "one", "ping", "-c", "1", "-w", "5", &address(&shop, "two", "bridge")]);
    let hosts = shop.said(&["exec", "two", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&address(&shop, "two", "bridge")), "{hosts}");
    let names = ["web", "one", "two", "three", "four"];
    let addresses = BTreeSet::from_iter(names.map(|name| address(&shop, name, "bridge")));
    assert!(addresses.len() == 5 && addresses.iter().all(|of| of.starts_with("172.18.0.")), "{addresses:?}");
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    let again = shop.script(&[], "ip route").output().succeeds();
    assert!(!again.stderr.contains("instead of"), "once: {}", again.stderr);
    assert!(again.stdout.contains("172.18.0.1"), "{}", again.stdout);
}

#[test]
fn many_that_start_at_once_after_a_reboot_are_moved_together() {
    let shop = shop!();
    let names = Vec::from_iter((0..8).map(|number| format!("c{number}")));
    for name in &names {
        shop.with("create", &["--name", name], &["sleep", "1000"]).output().succeeds();
    }
    theirs(&shop, "docker0", "172.17.0.1/16");
    let starting = Vec::from_iter(names.iter().map(|name| shop.bulkhead(&["start", name]).spawn()));
    for command in starting {
        command.wait().succeeds();
    }
    let addresses = BTreeSet::from_iter(names.iter().map(|name| address(&shop, name, "bridge")));
    assert!(addresses.len() == 8 && addresses.iter().all(|of| of.starts_with("172.18.0.")), "{addresses:?}");
    for name in &names {
        let own = shop.said(&["exec", name, "ip", "-o", "-4", "addr", "show", "eth0"]);
        assert!(own.contains(&address(&shop, name, "bridge")), "{name}: {own}");
    }
}

#[test]
fn a_subnet_that_was_asked_for_is_an_error_that_names_both_sides() {
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.84.0.0/24", "front"]);
    shop.with("create", &["--name", "db", "--network", "front"], &["sleep", "1000"]).output().succeeds();
    theirs(&shop, "tun0", "10.84.9.9/16");
    // Routes that are wider than the network's lead none of its packets elsewhere.
    ip(&shop, "route add 0.0.0.0/1 dev tun0");
    let run = || shop.script(&["--network", "front"], "ping -c 1 -w 5 10.84.0.1").output();
    let hidden = run().succeeds().stderr;
    let told = "network front hides hosts in 10.84.0.0/24: the host has 10.84.9.9/16 at tun0";
    assert!(hidden.contains(told), "{hidden}");
    assert!(shop.said(&["system", "check"]).contains("as it should be"));

    ip(&shop, "route add 10.84.0.0/24 dev tun0 metric 7");
    let problem = "its subnet 10.84.0.0/24 is the host's, too: the host has a route to 10.84.0.0/24 by tun0";
    let checked = shop.bulkhead(&["system", "check"]).output().exits_with(1).stdout;
    for expected in [&format!("network front: {problem}"), "`bulkhead network rm front`"] {
        assert!(checked.contains(expected), "{checked}");
    }
    shop.said(&["network", "prune", "--force"]);
    let refused = run().fails(125, &format!("network front: {problem}; take that away from the host, or"));
    refused.complains("`bulkhead network create --subnet SUBNET front`");
    shop.bulkhead(&["start", "db"]).output().fails(1, problem);
    assert!(shop.said(&["system", "check"]).contains("as it should be"), "it is not in use");
    ip(&shop, "link delete tun0");
    assert_eq!(run().succeeds().stderr, "");
    shop.said(&["start", "db"]);
}

#[test]
fn a_check_names_what_the_host_has_got_and_moves_what_nothing_runs_in() {
    let shop = shop!();
    shop.said(&["network", "create", "auto"]);
    let fixed = ["--name", "fixed", "--network", "auto", "--ip", "172.17.0.9"];
    shop.with("create", &fixed, &["sleep", "1000"]).output().succeeds();
    shop.with("run", &["-d", "--name", "web", "--network", "auto"], &["sleep", "1000"]).output().succeeds();
    theirs(&shop, "docker0", "172.17.0.1/16");
    let check = |words: &[&str]| shop.bulkhead(&[&["system", "check"], words].concat()).output();
    let names = |way_out: &str| {
        for words in [&["--dry-run"][..], &[]] {
            let told = check(words).exits_with(1).stdout;
            let problem = "network auto: its subnet 172.17.0.0/16 is the host's, too: the host has 172.17.0.1/16 at docker0";
            assert!(told.contains(problem) && told.contains(way_out), "{told}");
        }
    };
    names("(fixed), for which `bulkhead network disconnect auto NAME`");
    shop.said(&["network", "disconnect", "auto", "fixed"]);
    names("stop what runs in the network");
    shop.said(&["rm", "-f", "web"]);
    wait_until("the kernel has taken its devices away", || {
        let told = check(&["--dry-run"]).exits_with(1).stdout;
        told.contains("a check that mends has it given another subnet")
    });
    let mended = check(&[]).succeeds().stdout;
    assert!(mended.contains("given another subnet"), "{mended}");
    assert!(check(&[]).succeeds().stdout.contains("as it should be"));
    let ran = shop.script(&["--network", "auto"], "ping -c 1 -w 5 172.18.0.1").output().succeeds();
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_host_whose_vpn_has_routes_to_all_pools_has_networks_below_one_of_them() {
    let shop = shop!();
    theirs(&shop, "corp0", "10.1.2.1/24");
    for to in ["172.16.0.0/12", "192.168.0.0/16", "172.17.0.0/24"] {
        ip(&shop, &format!("route add {to} via 10.1.2.3"));
    }
    // Nothing narrower names it.
    let told = "network bridge hides hosts in 172.18.0.0/16: the host has a route to 172.16.0.0/12 via 10.1.2.3 by corp0";
    let options = ["-d", "--name", "web", "-p", "8111:80"];
    for _ in 0..2 {
        let started = shop.with("run", &options, &["sh", "-c", &greeter(80, "web")]).output().succeeds();
        assert_eq!(started.stderr.matches(told).count(), 1, "{}", started.stderr);
        assert!(!started.stderr.contains("instead of"), "{}", started.stderr);
        wait_until("it answers", || heard("127.0.0.1:8111").as_deref() == Some("hello web"));
        assert!(address(&shop, "web", "bridge").starts_with("172.18.0."));
        assert!(shop.said(&["system", "check"]).contains("as it should be"));
        shop.said(&["rm", "-f", "web"]);
        // As after a reboot: it stays where it is.
        shop.said(&["network", "prune", "--force"]);
    }
    let made = shop.bulkhead(&["network", "create", "auto"]).output().succeeds();
    let hidden = "network auto hides hosts in 172.19.0.0/16: the host has a route to 172.16.0.0/12 via";
    assert!(made.stderr.contains(hidden), "{}", made.stderr);
    assert_eq!(made.stdout.trim().len(), 64, "{}", made.stdout);
    // What hides nobody is better, once there is some.
    ip(&shop, "route delete 192.168.0.0/16");
    let moved = shop.script(&[], "ip route").output().succeeds();
    assert!(moved.stderr.contains("network bridge has 192.168.0.0/20 now instead of"), "{}", moved.stderr);
    assert!(moved.stdout.contains("192.168.0.1"), "{}", moved.stdout);
}

#[test]
fn a_subnet_that_is_asked_for_goes_before_a_wider_route_by_a_gateway_and_nothing_else() {
    let shop = shop!();
    theirs(&shop, "corp0", "10.1.2.1/24");
    for to in ["10.0.0.0/8", "10.78.0.0/24", "10.79.0.64/26"] {
        ip(&shop, &format!("route add {to} via 10.1.2.3"));
    }
    ip(&shop, "route add 10.80.0.0/16 dev corp0");
    shop.said(&["network", "create", "--subnet", "192.0.2.0/24", "other"]);
    let create = |subnet: &str| shop.bulkhead(&["network", "create", "--subnet", subnet, "front"]).output();
    for (subnet, holder) in [
        ("10.78.0.0/24", "the host has a route to 10.78.0.0/24 via 10.1.2.3 by corp0"),
        ("10.79.0.0/24", "the host has a route to 10.79.0.64/26 via 10.1.2.3 by corp0"),
        ("10.80.7.0/24", "the host has a route to 10.80.0.0/16 by corp0"),
        ("10.1.2.128/25", "the host has 10.1.2.1/24 at corp0"),
        ("192.0.2.0/25", "network other has 192.0.2.0/24"),
    ] {
        create(subnet).fails(1, &format!("--subnet {subnet}: {holder}; choose another"));
    }
    let hidden =
        "network front hides hosts in 10.77.0.0/24: the host has a route to 10.0.0.0/8 via 10.1.2.3 by corp0";
    let made = create("10.77.0.0/24").succeeds();
    assert!(made.stderr.contains(hidden), "{}", made.stderr);
    let ran = shop.script(&["--network", "front"], "ping -c 1 -w 5 10.77.0.1").output().succeeds();
    assert!(ran.stderr.contains(hidden), "{}", ran.stderr);
}
