//! Networks: containers that talk, and ports by which they are reached. The test is a host of its own.

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use bulkhead_testkit::network::Network;
use bulkhead_testkit::wait_until;

use crate::shop::{Shop, shop};

/// A server that says `hello NAME` to whoever connects, one after the other: between two of them nobody answers.
pub(crate) fn greeter(port: u16, name: &str) -> String {
    format!("while :; do echo hello {name} | nc -l -p {port}; done")
}

/// What a port of the host says; nothing where nobody answers.
pub(crate) fn heard(at: &str) -> Option<String> {
    let at = at.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// The devices of this host but for the loopback, once the kernel has taken away what went with a namespace: no container runs.
fn devices(shop: &Shop) -> Vec<String> {
    let listed = || shop.sandbox.command("ip").args(["-o", "link"]).output().succeeds().stdout;
    wait_until("the namespaces of what has ended are gone", || !listed().contains(": bv-"));
    let listed = listed();
    let names = listed.lines().filter_map(|line| line.split(": ").nth(1));
    names.filter(|name| *name != "lo").map(str::to_owned).collect()
}

#[test]
fn a_container_is_on_the_bridge_network_unless_something_else_is_said() {
    let shop = shop!();
    let said =
        shop.script(&[], "ip -o -4 addr show eth0; ip route; cat /etc/hosts").output().succeeds().stdout;
    assert!(said.contains("172.17.0.2/16") && said.contains("default via 172.17.0.1 dev eth0"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("172.17.0.2\t")), "it finds itself: {said}");
    shop.script(&[], "ping -c 1 -w 5 172.17.0.1").output().succeeds();
    let none = shop.script(&["--network", "none"], "ls /sys/class/net").output().succeeds();
    assert_eq!(none.stdout.split_whitespace().collect::<Vec<_>>(), ["lo"]);
    let bridges = devices(&shop);
    assert!(matches!(&bridges[..], [bridge] if bridge.starts_with("bh-")), "{bridges:?}");
    shop.said(&["network", "prune", "--force"]);
    assert!(devices(&shop).is_empty());
    let tables = shop.sandbox.command("ip").args(["-o", "addr"]).output().succeeds().stdout;
    assert!(!tables.contains("172.17"), "{tables}");
}

#[test]
fn a_published_port_leads_from_the_host_and_its_loopback_to_the_container() {
    let shop = shop!();
    shop.with("run", &["-d", "--name", "web", "-p", "8080:80"], &["sh", "-c", &greeter(80, "web")])
        .output()
        .succeeds();
    wait_until("it answers", || heard("127.0.0.1:8080").as_deref() == Some("hello web"));
    wait_until("at its own address, too", || heard("172.17.0.1:8080").as_deref() == Some("hello web"));
    assert_eq!(shop.said(&["port", "web"]), "80/tcp -> 0.0.0.0:8080\n");
    assert_eq!(shop.said(&["port", "web", "80"]), "0.0.0.0:8080\n");
    shop.bulkhead(&["port", "web", "81"]).output().fails(1, "port 81/tcp of container web is not published");
    shop.bulkhead(&["port", "web", "80-81"]).output().fails(1, "80-81/tcp are several ports");
    let listed = shop.said(&["ps", "--format", "{{.Ports}}"]);
    assert_eq!(listed.trim(), "0.0.0.0:8080->80/tcp");
    let settings = &shop.inspect("web")["NetworkSettings"];
    assert_eq!(settings["Ports"]["80/tcp"][0]["HostPort"], "8080");
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], "172.17.0.2");
    // When it ends, the port is free again, though it is still there.
    shop.said(&["stop", "web"]);
    wait_until("its port is free", || shop.said(&["system", "check"]).contains("as it should be"));
    let again = shop.script(&["-p", "8080:80"], "true").output();
    again.succeeds();
    shop.said(&["start", "web"]);
    wait_until("it answers again", || heard("127.0.0.1:8080").as_deref() == Some("hello web"));
}

#[test]
fn a_port_that_somebody_has_is_found_before_anything_runs() {
    let shop = shop!();
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let publish = format!("{port}:80");
    let refused = shop.script(&["-p", &publish], "true").output();
    refused.fails(125, "a program of the host listens there");
    drop(taken);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let of_udp = format!("127.0.0.1:{}:53/udp", datagrams.local_addr().unwrap().port());
    shop.script(&["-p", &of_udp], "true").output().fails(125, "a program of the host listens there");

    shop.with("run", &["-d", "--name", "first", "-p", &publish], &["sleep", "1000"]).output().succeeds();
    let second = shop.with("run", &["-d", "--name", "second", "-p", &publish], &["sleep", "1000"]).output();
    second.fails(125, "leads to container first already");
    let at_one = shop.script(&["-p", &format!("127.0.0.1:{publish}")], "true").output();
    at_one.fails(125, "leads to container first already");
    shop.script(&["-p", "10.9.8.7:80:80"], "true").output().fails(125, "the host has no address 10.9.8.7");
    shop.script(&["-p", "[::1]:80:80"], "true").output().fails(125, "publish at 127.0.0.1");
    // A range has another one for it.
    let last = port.saturating_add(3);
    let range = format!("{port}-{last}:80");
    let chosen = shop.with("run", &["-d", "--name", "third", "-p", &range], &["sleep", "1000"]).output();
    chosen.succeeds();
    assert_eq!(shop.said(&["port", "third", "80"]).trim(), format!("0.0.0.0:{}", port + 1));
}

#[test]
fn ports_without_a_number_get_one_and_publish_all_takes_what_is_exposed() {
    let shop = shop!();
    let archive = shop.path("exposing.tar");
    shop.archive(
        &archive,
        "exposing:test",
        &serde_json::json!({ "ExposedPorts": { "80/tcp": {}, "53/udp": {} } }),
    );
    shop.said(&["load", "--quiet", "-i", archive.to_str().unwrap()]);
    let options = ["-d", "--name", "all", "-P", "--expose", "7000-7001"];
    shop.of("run", &options, "exposing:test", &["sleep", "1000"]).output().succeeds();
    let ports = shop.said(&["port", "all"]);
    for port in ["53/udp -> 0.0.0.0:", "80/tcp -> 0.0.0.0:", "7000/tcp -> 0.0.0.0:", "7001/tcp -> 0.0.0.0:"] {
        assert!(ports.contains(port), "{ports}");
    }
    shop.with("run", &["-d", "--name", "one", "-p", "80"], &["sleep", "1000"]).output().succeeds();
    let port: u16 = shop.said(&["port", "one", "80"]).trim().rsplit(':').next().unwrap().parse().unwrap();
    assert!(port >= 49_152, "one that nobody is assigned: {port}");
}

#[test]
fn a_network_of_one_s_own_keeps_to_itself() {
    let shop = shop!();
    for (name, more) in [("front", &[][..]), ("back", &["--subnet", "10.77.0.0/24", "--label", "tier=db"])] {
        shop.said(&[&["network", "create", name], more].concat());
    }
    let listed = shop.said(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]);
    assert_eq!(
        Vec::from_iter(listed.lines()),
        ["back bridge", "bridge bridge", "front bridge", "host host", "none null"]
    );
    assert_eq!(shop.said(&["network", "ls", "-q", "--filter", "label=tier=db"]).lines().count(), 1);
    let serve = greeter(80, "db");
    let options = ["-d", "--name", "db", "--network", "back", "--ip", "10.77.0.9"];
    shop.with("run", &options, &["sh", "-c", &serve]).output().succeeds();
    let ask =
        "for i in 1 2 3 4 5 6 7 8 9; do nc -w 1 10.77.0.9 80 </dev/null && exit 0; sleep 0.1; done; exit 1";
    let near = shop.script(&["--network", "back"], ask).output().succeeds();
    assert!(near.stdout.contains("hello db"), "{}", near.stdout);
    let far = shop.script(&["--network", "front"], "nc -w 1 10.77.0.9 80 </dev/null").output();
    assert_ne!(far.code(), 0, "{}", far.stdout);
    // With both it is reached.
    let both = shop.script(&["--network", "front", "--network", "back"], ask).output().succeeds();
    assert!(both.stdout.contains("hello db"), "{}", both.stdout);
    let network = shop.said(&["network", "inspect", "back"]);
    assert!(network.contains("10.77.0.9/24") && network.contains("\"Name\": \"db\""), "{network}");

    shop.bulkhead(&["network", "rm", "back"]).output().fails(1, "with which container db is connected");
    shop.said(&["rm", "-f", "db"]);
    assert_eq!(shop.said(&["network", "rm", "back", "front"]), "back\nfront\n");
    shop.bulkhead(&["network", "rm", "back"]).output().fails(1, "no such network: back");
    shop.said(&["network", "rm", "--force", "back"]);
    assert!(devices(&shop).is_empty(), "the last one takes all along");
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.78.0.0/24", "taken"]);
    for (words, expected) in [
        (&["network", "create", "taken"][..], "network name \"taken\" is in use"),
        (&["network", "create", "host"], "choose another"),
        (
            &["network", "create", "--subnet", "10.78.0.128/25", "x1"],
            "--subnet 10.78.0.128/25: network taken has 10.78.0.0/24; choose another",
        ),
        (&["network", "create", "--subnet", "10.79.0.0/31", "x1"], "leaves no room"),
        (&["network", "create", "--gateway", "10.79.0.1", "x1"], "it is in no subnet of the network"),
        (&["network", "create", "--driver", "overlay", "x1"], "the drivers are bridge and macvlan"),
        (&["network", "create", "--driver", "macvlan", "x1"], "`--opt parent=DEVICE`"),
        (&["network", "create", "--opt", "what=ever", "x1"], "that driver has no such option"),
        (&["network", "create", "--ipv4=false", "x1"], "without --ipv6"),
        (
            &["network", "create", "--subnet", "224.0.0.0/16", "x1"],
            "--subnet 224.0.0.0/16: its addresses are",
        ),
        (&["network", "create", "--subnet", "ff00::/64", "x1"], "--subnet ff00::/64: its addresses are"),
        (
            &["network", "create", "--subnet", "127.5.0.0/16", "x1"],
            "--subnet 127.5.0.0/16: its addresses are",
        ),
        (
            &[
                "network",
                "create",
                "--subnet",
                "10.79.0.0/24",
                "--ip-range",
                "10.79.0.0/25",
                "--ip-range",
                "10.79.0.128/25",
                "x1",
            ],
            "--ip-range 10.79.0.128/25: ",
        ),
        (
            &[
                "network",
                "create",
                "--subnet",
                "10.79.0.0/24",
                "--gateway",
                "10.79.0.1",
                "--gateway",
                "10.79.0.2",
                "x1",
            ],
            "--gateway 10.79.0.2: ",
        ),
        (
            &["network", "create", "--subnet", "10.79.0.0/24", "--aux-address", "gw=10.79.0.1", "x1"],
            "--aux-address gw=10.79.0.1: ",
        ),
        (&["network", "rm", "bridge"], "it is there from the beginning"),
        (&["network", "inspect", "takn"], "takn"),
        (&["network", "connect", "taken", "nobody"], "nobody"),
    ] {
        let output = shop.bulkhead(words).output();
        assert_ne!(output.code(), 0, "{words:?}");
        assert!(output.stderr.contains(expected), "{words:?}: {}", output.stderr);
    }
    for (options, expected) in [
        (&["--network", "takn"][..], "did you mean taken?"),
        (&["--network", "taken", "--ip", "10.79.0.1"], "is none for a host in the subnet"),
        (&["--network", "taken", "--ip", "10.78.0.1"], "is the gateway's"),
        (&["--network", "taken", "--ip6", "fd00::1"], "has no subnet of IPv6"),
        (&["--network", "none", "--ip", "10.78.0.5"], "say nothing with --network none"),
        (&["--network", "none", "--network", "taken"], "stand alone"),
        (&["--network", "pasta"], "root's have networks of the host"),
        (&["--network", "taken", "--network", "taken"], "connected with it already"),
        (&["--mac-address", "01:00:00:00:00:01"], "the first byte is even"),
    ] {
        let output = shop.script(options, "true").output();
        assert_eq!(output.code(), 125, "{options:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{options:?}: {}", output.stderr);
    }
    assert_eq!(shop.said(&["ps", "-aq"]), "", "nothing is left of what was refused");
}

#[test]
fn a_container_is_connected_and_disconnected_while_it_runs_and_while_it_does_not() {
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.80.0.0/24", "late"]);
    shop.service("web", "sleep 1000");
    let addresses = |shop: &Shop| shop.said(&["exec", "web", "ip", "-o", "-4", "addr"]);
    shop.said(&["network", "connect", "--ip", "10.80.0.7", "--alias", "www", "late", "web"]);
    assert!(addresses(&shop).contains("10.80.0.7/24"));
    shop.bulkhead(&["network", "connect", "late", "web"]).output().fails(1, "is connected with it already");
    let networks = shop.inspect("web")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks["late"]["IPAddress"], "10.80.0.7");
    assert_eq!(networks["late"]["Aliases"][0], "www");
    // A restart finds the same.
    shop.said(&["restart", "web"]);
    assert!(addresses(&shop).contains("10.80.0.7/24") && addresses(&shop).contains("172.17.0.2/16"));
    shop.said(&["network", "disconnect", "late", "web"]);
    assert!(!addresses(&shop).contains("10.80.0.7"));
    shop.bulkhead(&["network", "disconnect", "late", "web"]).output().fails(1, "is not connected with it");
    shop.said(&["stop", "web"]);
    shop.said(&["network", "connect", "late", "web"]);
    shop.said(&["network", "disconnect", "bridge", "web"]);
    shop.said(&["start", "web"]);
    let now = addresses(&shop);
    assert!(now.contains("10.80.0.2/24") && !now.contains("172.17."), "{now}");
    let events = shop.said(&[
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--filter",
        "network=late",
        "--format",
        "{{.Action}}",
    ]);
    let told = Vec::from_iter(events.lines());
    // By the verb, by `restart`, by the verb; one that does not run is connected when it starts.
    assert_eq!(told, ["create", "connect", "disconnect", "connect", "disconnect", "connect"]);
    shop.with("run", &["-d", "--name", "alone", "--network", "none"], &["sleep", "1000"]).output().succeeds();
    shop.bulkhead(&["network", "connect", "late", "alone"]).output().fails(1, "to be without a network");
}

/// Fails where a program that watches containers does not hear that they have other addresses.
#[test]
fn each_start_and_end_of_a_container_tells_of_its_networks() {
    let shop = shop!();
    shop.said(&["network", "create", "back"]);
    let options = ["-d", "--name", "web", "--network", "back", "--network", "bridge"];
    shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    shop.said(&["restart", "-t", "0", "web"]);
    shop.said(&["rm", "-f", "web"]);
    let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}} {{.Actor.Attributes.container}}";
    let said = shop.said(&["events", "--since", "1h", "--until", "0s", "--format", format]);
    let of_life = |line: &&str| {
        let is_of = line.starts_with("container ") || line.starts_with("network ");
        is_of && ![" create ", " kill ", " destroy "].iter().any(|other| line.contains(other))
    };
    let told = Vec::from_iter(said.lines().filter(of_life));
    let network = |action: &str, name: &str| format!("network {action} {name} bridge {id}");
    let container = |action: &str| format!("container {action} web <no value> <no value>");
    let begin = [network("connect", "back"), network("connect", "bridge"), container("start")];
    let end = [container("die"), network("disconnect", "back"), network("disconnect", "bridge")];
    let again = [container("stop")];
    let restart = [container("restart")];
    assert_eq!(told, [&begin[..], &end, &again, &begin, &restart, &end].concat());
}

#[test]
fn an_address_is_a_container_s_own_until_it_is_removed() {
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.81.0.0/29", "small"]);
    let run = |name: &str| {
        shop.with("run", &["-d", "--name", name, "--network", "small"], &["sleep", "1000"]).output()
    };
    let address =
        |name: &str| shop.inspect(name)["NetworkSettings"]["Networks"]["small"]["IPAddress"].clone();
    for number in 2..=6 {
        run(&format!("c{number}")).succeeds();
        assert_eq!(address(&format!("c{number}")), format!("10.81.0.{number}"));
    }
    run("c7").fails(125, "every address of 10.81.0.0/29 is used");
    shop.said(&["restart", "c4"]);
    assert_eq!(address("c4"), "10.81.0.4");
    shop.said(&["rm", "-f", "c3"]);
    run("c8").succeeds();
    assert_eq!(address("c8"), "10.81.0.3");
}

#[test]
fn an_address_is_not_soon_another_container_s() {
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.81.1.0/29", "small"]);
    let seen = || shop.script(&["--network", "small"], "hostname -i").output().succeeds().stdout;
    for number in [2, 3, 4, 5, 6, 2] {
        assert_eq!(seen(), format!("10.81.1.{number}\n"));
    }
}

/// The host's end of a connection did not say whose it is.
#[test]
fn a_connection_that_an_earlier_version_has_made_is_taken_away() {
    let shop = shop!();
    shop.said(&["network", "create", "late"]);
    shop.with("run", &["-d", "--name", "web", "--network", "late"], &["sleep", "1000"]).output().succeeds();
    let id = shop.said(&["network", "inspect", "-f", "{{.Id}}", "late"]);
    let ends =
        shop.sandbox.command("ip").args(["-o", "link", "show", "type", "veth"]).output().succeeds().stdout;
    let end = ends.split_whitespace().find(|word| word.starts_with("bv-")).unwrap();
    let end = end.split('@').next().unwrap();
    let alias = format!("bulkhead network {}", id.trim());
    shop.sandbox.command("ip").args(["link", "set", end, "alias", &alias]).output().succeeds();
    shop.said(&["network", "disconnect", "late", "web"]);
    assert_eq!(shop.said(&["exec", "web", "ls", "/sys/class/net"]), "lo\n");
}

/// Addresses of IPv6 that begin otherwise and end alike have one hardware address.
#[test]
fn networks_whose_devices_have_one_hardware_address_are_told_apart() {
    let shop = shop!();
    for (name, subnet) in [("sixa", "fd00:a::/64"), ("sixb", "fd00:b::/64")] {
        let family = ["--ipv4=false", "--ipv6", "--subnet", subnet];
        shop.said(&[&["network", "create"], &family[..], &[name]].concat());
    }
    shop.with("run", &["-d", "--name", "web", "--network", "sixa"], &["sleep", "1000"]).output().succeeds();
    let devices = || shop.said(&["exec", "web", "ls", "/sys/class/net"]);
    let mac = |name: &str| shop.said(&["exec", "web", "cat", &format!("/sys/class/net/{name}/address")]);
    shop.said(&["network", "connect", "--ip6", "fd00:b::2", "sixb", "web"]);
    assert_eq!(devices(), "eth0\neth1\nlo\n");
    assert_eq!(mac("eth0"), mac("eth1"), "this is what is tried here");
    shop.said(&["network", "disconnect", "sixa", "web"]);
    assert_eq!(devices(), "eth1\nlo\n");
    shop.said(&["network", "disconnect", "sixb", "web"]);
    assert_eq!(devices(), "lo\n");
}

#[test]
fn a_network_has_ipv6_when_it_is_asked_for() {
    let shop = shop!();
    shop.said(&["network", "create", "--ipv6", "both"]);
    let options = ["-d", "--name", "web", "--network", "both", "-p", "8086:80"];
    shop.with("run", &options, &["sh", "-c", "while :; do echo hello six | nc -l -p 80; done"])
        .output()
        .succeeds();
    let of_web = shop.inspect("web")["NetworkSettings"]["Networks"]["both"].clone();
    assert!(of_web["GlobalIPv6Address"].as_str().unwrap().starts_with("fd"), "{of_web}");
    let own = of_web["GlobalIPv6Address"].as_str().unwrap().to_owned();
    wait_until("it answers over IPv6", || heard(&format!("[{own}]:80")).as_deref() == Some("hello six"));
    let gateway = of_web["IPv6Gateway"].as_str().unwrap().to_owned();
    wait_until("its port does, too", || heard(&format!("[{gateway}]:8086")).as_deref() == Some("hello six"));
}

#[test]
fn a_pod_s_containers_share_its_networks_and_ports() {
    let shop = shop!();
    let parent = shop.parent();
    shop.said(&["pod", "create", "--cgroup-parent", &parent, "-p", "8090:80", "--network", "bridge", "web"]);
    let serve = greeter(80, "pod");
    let run = |name: &str, script: &str| {
        let words = [
            "run",
            "-d",
            "--pod",
            "web",
            "--name",
            name,
            "--stop-timeout",
            "1",
            crate::shop::IMAGE,
            "sh",
            "-c",
            script,
        ];
        shop.bulkhead(&words).output().succeeds()
    };
    run("one", &serve);
    run("two", "sleep 1000");
    wait_until("it answers", || heard("127.0.0.1:8090").as_deref() == Some("hello pod"));
    let of = |name: &str| shop.said(&["exec", name, "ip", "-o", "-4", "addr", "show", "eth0"]);
    assert_eq!(of("one"), of("two"));
    let refused =
        shop.bulkhead(&["run", "--rm", "--pod", "web", "-p", "1:1", crate::shop::IMAGE, "true"]).output();
    refused.fails(125, "give them to `bulkhead pod create`");
    shop.said(&["pod", "stop", "web"]);
    wait_until("its port is free", || {
        TcpListener::bind("0.0.0.0:8090").is_ok() && heard("127.0.0.1:8090").is_none()
    });
    shop.said(&["pod", "start", "web"]);
    wait_until("it answers again", || heard("127.0.0.1:8090").as_deref() == Some("hello pod"));
    shop.said(&["pod", "rm", "-f", "web"]);
    assert!(heard("127.0.0.1:8090").is_none());
}

#[test]
fn a_container_with_users_of_its_own_is_connected_too() {
    let shop = shop!();
    let map = ["--uidmap", "0:100000:65536"];
    let options = [&map[..], &["-d", "--name", "web", "-p", "8091:80"]].concat();
    shop.with("run", &options, &["sh", "-c", &greeter(80, "users")]).output().succeeds();
    wait_until("it answers", || heard("127.0.0.1:8091").as_deref() == Some("hello users"));
    // Its network belongs to its users.
    shop.script(&[&map[..], &["--cap-add", "NET_ADMIN"]].concat(), "ip link set lo down").output().succeeds();
    shop.said(&["restart", "web"]);
    wait_until("it answers again", || heard("127.0.0.1:8091").as_deref() == Some("hello users"));
    // Its monitor has not begun to stay with a name server when a hook starts that.
    shop.said(&["network", "create", "front"]);
    for name in ["one", "two"] {
        let options = [&map[..], &["-d", "--name", name, "--network", "front"]].concat();
        shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
        std::thread::sleep(Duration::from_millis(300));
    }
    shop.said(&["exec", "one", "ping", "-c", "1", "-w", "5", "two"]);
}

#[test]
fn rules_that_somebody_flushed_are_made_anew() {
    let shop = shop!();
    shop.with("run", &["-d", "--name", "web", "-p", "8092:80"], &["sh", "-c", &greeter(80, "web")])
        .output()
        .succeeds();
    wait_until("it answers", || heard("127.0.0.1:8092").as_deref() == Some("hello web"));
    assert!(flush(&shop), "there was a table");
    let broken = shop.bulkhead(&["system", "check"]).output();
    assert!(broken.stdout.contains("the rules of the networks are not there"), "{}", broken.stdout);
    shop.script(&[], "true").output().succeeds();
    wait_until("any start makes them anew", || heard("127.0.0.1:8092").as_deref() == Some("hello web"));
}

#[test]
fn a_bridge_that_somebody_took_away_is_made_anew_with_its_containers() {
    let shop = shop!();
    shop.said(&["network", "create", "--subnet", "10.83.0.0/24", "front"]);
    let ip = |words: &[&str]| shop.sandbox.command("ip").args(words).output().succeeds().stdout;
    for name in ["one", "two"] {
        shop.with("run", &["-d", "--name", name, "--network", "front"], &["sleep", "1000"])
            .output()
            .succeeds();
    }
    let bridge = format!("bh-{}", &shop.said(&["network", "inspect", "-f", "{{.Id}}", "front"])[..12]);
    let reach = || shop.bulkhead(&["exec", "one", "ping", "-c", "1", "-w", "5", "two"]).output();
    reach().succeeds();
    let options = ["-d", "--name", "web", "--network", "front", "-p", "8096:80"];
    shop.with("run", &options, &["sh", "-c", &greeter(80, "web")]).output().succeeds();
    wait_until("it answers", || heard("127.0.0.1:8096").as_deref() == Some("hello web"));
    ip(&["link", "delete", &bridge]);
    assert_ne!(reach().code(), 0);
    let broken = shop.bulkhead(&["system", "check", "--dry-run"]).output();
    assert!(broken.stdout.contains("network front: its bridge was taken away"), "{}", broken.stdout);
    shop.bulkhead(&["system", "check"]).output().succeeds();
    reach().succeeds();
    wait_until("at the loopback, too", || heard("127.0.0.1:8096").as_deref() == Some("hello web"));
    ip(&["link", "delete", &bridge]);
    shop.script(&["--network", "front"], "ping -c 1 -w 5 two").output().succeeds();
    reach().succeeds();
}

#[test]
fn a_record_that_nobody_can_read_holds_nobody_up() {
    let shop = shop!();
    let serve = greeter(80, "web");
    shop.with("run", &["-d", "--name", "web", "-p", "8095:80"], &["sh", "-c", &serve]).output().succeeds();
    wait_until("it answers", || heard("127.0.0.1:8095").as_deref() == Some("hello web"));
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    let record = shop.path(&format!("engine-run/containers/{id}/network.json"));
    assert!(record.exists(), "{}", record.display());
    fs::write(&record, "{").unwrap();
    assert!(flush(&shop), "there was a table");
    shop.script(&[], "true").output().succeeds();
    assert!(shop.said(&["ps"]).contains("web"));
    shop.said(&["network", "create", "late"]);
    shop.said(&["network", "connect", "late", "web"]);
    shop.said(&["network", "disconnect", "late", "web"]);
    fs::write(&record, "{").unwrap();
    let broken = shop.bulkhead(&["system", "check"]).output();
    assert!(broken.stdout.contains(&format!("bulkhead restart {}", &id[..12])), "{}", broken.stdout);
    shop.said(&["restart", "-t", "0", "web"]);
    wait_until("it answers again", || heard("127.0.0.1:8095").as_deref() == Some("hello web"));
    shop.bulkhead(&["system", "check"]).output().succeeds();
    fs::write(&record, "{").unwrap();
    shop.said(&["rm", "-f", "web"]);
    assert_eq!(heard("127.0.0.1:8095"), None);
}

#[test]
fn devices_of_two_networks_are_not_called_the_same() {
    let shop = shop!();
    for name in ["front", "back"] {
        shop.said(&["network", "create", name]);
    }
    let called = |network: &str, device: &str| {
        format!("name={network},driver-opt=com.docker.network.endpoint.ifname={device}")
    };
    let (front, back) = (called("front", "eth1"), called("back", "eth1"));
    shop.script(&["--network", &front, "--network", &back], "true").output().fails(125, "would be eth1");
    let devices = |name: &str| shop.said(&["exec", name, "ls", "/sys/class/net"]);
    shop.with("run", &["-d", "--name", "web", "--network", &front], &["sleep", "1000"]).output().succeeds();
    shop.said(&["network", "connect", "back", "web"]);
    assert_eq!(devices("web"), "eth1\neth2\nlo\n");
    let words =
        ["network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=eth1", "bridge", "web"];
    shop.bulkhead(&words).output().fails(1, "would be eth1");
    assert_eq!(devices("web"), "eth1\neth2\nlo\n");
    // One that the container made is its own.
    let options = ["-d", "--name", "maker", "--cap-add", "NET_ADMIN", "--network", "front"];
    shop.with("run", &options, &["sh", "-c", "ip link add eth1 type bridge && exec sleep 1000"])
        .output()
        .succeeds();
    wait_until("it has made one", || devices("maker").contains("eth1"));
    shop.bulkhead(&["network", "connect", "back", "maker"]).output().fails(1, "none of the engine's");
    assert_eq!(devices("maker"), "eth0\neth1\nlo\n");
}

#[test]
fn a_container_does_not_keep_a_network_by_renaming_its_device() {
    let shop = shop!();
    shop.said(&["network", "create", "front"]);
    let options = ["-d", "--name", "web", "--cap-add", "NET_ADMIN", "--network", "front"];
    shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    let ports = || {
        let listed = shop.sandbox.command("ip").args(["-o", "link"]).output().succeeds().stdout;
        listed.lines().filter(|line| line.contains(": bv-")).count()
    };
    shop.said(&["network", "connect", "bridge", "web"]);
    assert_eq!(ports(), 2);
    shop.said(&["exec", "web", "sh", "-c", "ip link set eth0 down && ip link set eth0 name hidden"]);
    shop.said(&["exec", "web", "sh", "-c", "ip link set hidden address 02:00:00:00:00:09"]);
    shop.said(&["network", "disconnect", "front", "web"]);
    assert_eq!(ports(), 1, "whatever it is called");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_made() {
    let shop = shop!();
    let links = || shop.sandbox.command("ip").args(["-o", "link"]).output().succeeds().stdout;
    let before = links();
    let _listener = TcpListener::bind("127.0.0.1:8097").unwrap();
    let taken = shop.script(&["-p", "127.0.0.1:8097:80"], "true").output();
    taken.fails(125, "a program of the host listens there");
    assert_eq!(links(), before, "no bridge either");
    shop.script(&["--network-alias", "db"], "true").output().fails(125, "has no names");
    let closed = shop.bulkhead(&["network", "create", "-d", "macvlan", "--internal", "closed"]).output();
    closed.fails(1, "`--internal` is for `--driver bridge`");
}

/// Deletes all tables of this host's packet filter; tells whether there was one.
fn flush(shop: &Shop) -> bool {
    let script = "import socket,struct\n\
        s=socket.socket(16,3,12)\n\
        def m(t,f,b,q): return struct.pack('=IHHII',16+len(b),t,f,q,0)+b\n\
        g=struct.pack('>BBH',0,0,10)\n\
        s.send(m(16,1,g,1)+m((10<<8)|2,1|4,struct.pack('>BBH',0,0,0),2)+m(17,1,g,3))\n\
        r=s.recv(65536); print(struct.unpack('=i',r[16:20])[0])\n";
    let output = shop.sandbox.command("python3").args(["-c", script]).output().succeeds();
    output.stdout.trim() == "0"
}

/// A host on a cable of this one, 192.0.2.2, and this one's address there is 192.0.2.1.
pub(crate) fn neighbour(shop: &Shop) -> Network {
    let run = |words: &[&str]| drop(shop.sandbox.command(words[0]).args(&words[1..]).output().succeeds());
    let neighbour = Network::new(&shop.sandbox);
    let pid = neighbour.path().components().nth(2).unwrap().as_os_str().to_str().unwrap().to_owned();
    run(&["ip", "link", "add", "wire", "type", "veth", "peer", "name", "far", "netns", &pid]);
    run(&["ip", "addr", "add", "192.0.2.1/24", "dev", "wire"]);
    run(&["ip", "link", "set", "wire", "up"]);
    let far = |words: &[&str]| neighbour.command(&shop.sandbox, words[0]).args(&words[1..]).output();
    far(&["ip", "addr", "add", "192.0.2.2/24", "dev", "far"]).succeeds();
    far(&["ip", "link", "set", "far", "up"]).succeeds();
    far(&["ip", "route", "add", "default", "via", "192.0.2.1"]).succeeds();
    run(&["ip", "route", "add", "default", "via", "192.0.2.2"]);
    neighbour
}

#[test]
fn a_neighbour_reaches_what_is_published_and_nothing_else() {
    let shop = shop!();
    let neighbour = neighbour(&shop);
    let far = |words: &[&str]| neighbour.command(&shop.sandbox, words[0]).args(&words[1..]).output();
    let options = ["-d", "--name", "web", "-p", "8093:80", "-p", "127.0.0.1:8094:81"];
    let both = format!("({}) & {}", greeter(80, "open"), greeter(81, "closed"));
    shop.with("run", &options, &["sh", "-c", &both]).output().succeeds();
    wait_until("both answer here", || heard("127.0.0.1:8094").is_some() && heard("127.0.0.1:8093").is_some());
    let ask = |at: &str, port: &str| {
        let output = far(&["busybox", "nc", "-w", "2", at, port]);
        output.stdout.trim().to_owned()
    };
    wait_until("the published one answers there", || ask("192.0.2.1", "8093") == "hello open");
    assert_eq!(ask("192.0.2.1", "8094"), "", "one of the loopback alone");
    assert_eq!(ask("172.17.0.2", "80"), "", "nor is it reached past the port");
    let out = shop.script(&[], "nc -w 2 192.0.2.2 99 </dev/null || true; ip route").output().succeeds();
    assert!(out.stdout.contains("default via 172.17.0.1"));
    shop.said(&["rm", "-f", "web"]);
    assert_eq!(ask("192.0.2.1", "8093"), "");
}

/// Docker's chain for the rules of others, on a host that forwards nothing else.
const DOCKER: &str = "table ip filter { chain DOCKER-USER { }; \
    chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; }; }";

#[test]
fn a_network_that_wants_nothing_of_the_host_s_firewall_gets_nothing_by_another_one() {
    let shop = shop!();
    bulkhead_testkit::requires!(bulkhead_testkit::find_program("nft").is_some(), "needs nft");
    let neighbour = neighbour(&shop);
    let nft = |words: &str| shop.sandbox.command("nft").arg(words).output().succeeds().stdout;
    let told = || nft("list chain ip filter DOCKER-USER");
    nft(DOCKER);
    let asked = |port: &str| {
        let ask = neighbour.command(&shop.sandbox, "busybox").args(["nc", "-w", "2", "192.0.2.1", port]);
        ask.output().stdout.trim().to_owned()
    };
    shop.said(&["network", "create", "-o", "org.bulkhead.firewall=false", "quiet"]);
    let run = |name: &str, network: &str, port: &str| {
        let options = ["-d", "--name", name, "--network", network, "-p", port];
        shop.with("run", &options, &["sh", "-c", &greeter(80, name)]).output().succeeds();
    };
    run("shut", "quiet", "8112:80");
    wait_until("it answers here", || heard("127.0.0.1:8112").as_deref() == Some("hello shut"));
    assert!(!told().contains("bulkhead"), "nothing is put there: {}", told());
    run("open", "bridge", "8111:80");
    wait_until("it answers", || asked("8111") == "hello open");
    assert_eq!(asked("8112"), "", "it is not opened by the other one");
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    shop.said(&["network", "create", "more"]);
    run("third", "more", "8113:80");
    wait_until("it answers, too", || asked("8113") == "hello third");
    let count = |text: &str| told().matches(text).count();
    assert_eq!(count("comment \"bulkhead"), 8, "{}", told());
    shop.said(&["rm", "-f", "third"]);
    shop.said(&["network", "rm", "more"]);
    assert_eq!(count("comment \"bulkhead"), 4, "{}", told());
    assert_eq!(asked("8111"), "hello open");
    shop.said(&["rm", "-f", "open", "shut"]);
    shop.said(&["network", "prune", "--force"]);
    assert_eq!(count("comment"), 0, "{}", told());
}

#[test]
fn a_container_reaches_itself_by_its_port_also_where_frames_are_shown_to_the_packet_filter_later() {
    let shop = shop!();
    let shown = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    let six = shown.replace("iptables", "ip6tables");
    bulkhead_testkit::requires!(
        fs::write(shown, "0").is_ok() && fs::write(six, "0").is_ok(),
        "needs br_netfilter"
    );
    shop.with("run", &["-d", "--name", "web", "-p", "8114:80"], &["sh", "-c", &greeter(80, "web")])
        .output()
        .succeeds();
    shop.service("other", "sleep 1000");
    let asks = || {
        let words = ["exec", "web", "nc", "-w", "1", "172.17.0.1", "8114"];
        shop.bulkhead(&words).output().stdout.trim() == "hello web"
    };
    wait_until("it reaches itself", asks);
    fs::write(shown, "1").unwrap();
    assert!(!asks(), "the port by which the frame came is left out");
    let checked = shop.said(&["system", "check"]);
    assert!(checked.contains("does not reach itself by them"), "{checked}");
    wait_until("it reaches itself again", asks);
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    let ports =
        shop.sandbox.command("ip").args(["-d", "-o", "link", "show", "type", "veth"]).output().succeeds();
    assert_eq!(ports.stdout.matches("hairpin on").count(), 1, "{}", ports.stdout);
}

/// A host on the cable of another one.
#[test]
fn a_macvlan_without_its_device_is_refused_with_the_way_out() {
    let shop = shop!();
    let create = |parent: &str| {
        let (subnet, option) = (["--subnet", "198.51.100.0/24"], format!("parent={parent}"));
        let words = [&["network", "create", "-d", "macvlan"][..], &subnet, &["-o", &option, "lan"]].concat();
        shop.bulkhead(&words).output()
    };
    let lacks =
        |name: &str| format!("the host has no device {name} on whose cable its containers could be; ");
    let listed = "`ip link` lists those that it has";
    for name in ["nope0", "nope0.4095", "nope0.x"] {
        create(name).fails(1, &format!("--opt parent={name}: {}{listed}", lacks(name)));
    }
    let make = "make it by `ip link add link ext0 name ext0.50 type vlan id 50` and `ip link set ext0.50 up`";
    create("ext0.50").fails(1, &format!("--opt parent=ext0.50: {}{make}", lacks("ext0.50")));
    assert!(!shop.said(&["network", "ls"]).contains("lan"), "nothing is left of it");
    let ip = |words: &[&str]| shop.sandbox.command("ip").args(words).output().succeeds();
    ip(&["link", "add", "ext0.50", "type", "bridge"]);
    create("ext0.50").succeeds();
    ip(&["link", "delete", "ext0.50"]);
    let gone = shop.script(&["--network", "lan"], "true").output();
    gone.fails(125, &format!("network lan: {}{make}", lacks("ext0.50")));
}

#[test]
fn containers_of_a_network_without_icc_do_not_reach_each_other() {
    let shop = shop!();
    let option = "com.docker.network.bridge.enable_icc";
    let create = |value: &str| {
        let option = format!("{option}={value}");
        shop.bulkhead(&["network", "create", "--subnet", "10.86.0.0/24", "-o", &option, "apart"]).output()
    };
    create("maybe").fails(1, "expected true or false");
    create("false").succeeds();
    let options = ["-d", "--name", "web", "--network", "apart", "--ip", "10.86.0.9", "-p", "8112:80"];
    shop.with("run", &options, &["sh", "-c", &greeter(80, "web")]).output().succeeds();
    wait_until("the host reaches it", || heard("10.86.0.9:80").as_deref() == Some("hello web"));
    wait_until("its port leads to it", || heard("127.0.0.1:8112").as_deref() == Some("hello web"));
    let inside = |script: &str| shop.script(&["--network", "apart"], script).output();
    inside("ping -c 1 -w 5 10.86.0.1").succeeds();
    assert_ne!(inside("ping -c 1 -W 2 10.86.0.9").code(), 0);
    let shown = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if !shown.is_ok_and(|shown| shown.trim_end() != "0") {
        let ask = "for i in 1 2 3 4 5 6 7 8 9; do nc -w 1 10.86.0.1 8112 </dev/null && exit 0; sleep 0.1; done; exit 1";
        let heard = inside(ask).succeeds().stdout;
        assert!(heard.contains("hello web"), "{heard}");
    }
    // One that is connected while it runs is no neighbour either.
    shop.with("run", &["-d", "--name", "late"], &["sleep", "1000"]).output().succeeds();
    shop.said(&["network", "connect", "apart", "late"]);
    shop.said(&["exec", "late", "ping", "-c", "1", "-w", "5", "10.86.0.1"]);
    assert_ne!(
        shop.bulkhead(&["exec", "late", "ping", "-c", "1", "-W", "2", "10.86.0.9"]).output().code(),
        0
    );
}

#[test]
fn a_macvlan_is_a_host_on_the_cable() {
    let shop = shop!();
    let run = |words: &[&str]| drop(shop.sandbox.command(words[0]).args(&words[1..]).output().succeeds());
    let neighbour = Network::new(&shop.sandbox);
    let pid = neighbour.path().components().nth(2).unwrap().as_os_str().to_str().unwrap().to_owned();
    run(&["ip", "link", "add", "cable", "type", "veth", "peer", "name", "far", "netns", &pid]);
    run(&["ip", "link", "set", "cable", "up"]);
    let far = |words: &[&str]| neighbour.command(&shop.sandbox, words[0]).args(&words[1..]).output();
    far(&["ip", "addr", "add", "198.51.100.1/24", "dev", "far"]).succeeds();
    far(&["ip", "link", "set", "far", "up"]).succeeds();
    let create =
        ["network", "create", "-d", "macvlan", "--subnet", "198.51.100.0/24", "-o", "parent=cable", "lan"];
    shop.said(&create);
    let pinged =
        shop.script(&["--network", "lan", "--ip", "198.51.100.9"], "ping -c 1 -w 5 198.51.100.1").output();
    pinged.succeeds();
    shop.script(&["--network", "lan", "-p", "80:80"], "true").output().fails(125, "hosts of that cable");
    shop.said(&["network", "rm", "lan"]);
}

#[test]
fn a_network_that_is_removed_is_another_one_when_it_is_made_again() {
    let shop = shop!();
    shop.said(&["network", "create", "front"]);
    let id = shop.said(&["network", "inspect", "--format", "{{.Id}}", "front"]);
    shop.with("create", &["--name", "web", "--network", &id[..8]], &["sleep", "1000"]).output().succeeds();
    assert_eq!(
        shop.inspect("web")["HostConfig"]["NetworkMode"],
        "front",
        "by its name, however it was typed"
    );
    let both = shop.script(&["--network", "front", "--network", &id[..12]], "true").output();
    both.fails(125, "connected with it already");
    shop.said(&["network", "rm", "front"]);
    shop.said(&["network", "create", "front"]);
    shop.bulkhead(&["start", "web"]).output().fails(1, "it was removed");
    shop.said(&["network", "disconnect", "front", "web"]);
    shop.said(&["start", "web"]);
    assert_eq!(shop.said(&["exec", "web", "ls", "/sys/class/net"]).trim(), "lo", "it has none, and runs");
    shop.said(&["network", "connect", "front", "web"]);
    shop.said(&["exec", "web", "ip", "addr", "show", "eth0"]);
}

#[test]
fn who_is_in_the_default_network_too_has_others_names_asked_outside() {
    let shop = shop!();
    shop.said(&["network", "create", "--internal", "inner"]);
    let options = ["-d", "--name", "web", "--network", "bridge", "--network", "inner"];
    shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    let id = shop.said(&["network", "inspect", "--format", "{{.Id}}", "bridge"]);
    let table = shop.path(&format!("engine-run/networks/names/{}.json", id.trim()));
    let table = fs::read_to_string(table).unwrap();
    assert!(table.contains("\"internal\":false") && table.contains("\"names\":[]"), "{table}");
    shop.said(&["rm", "-f", "web"]);
}

#[test]
fn packets_go_by_what_is_left_when_a_network_is_taken_away() {
    let shop = shop!();
    for name in ["one", "two"] {
        shop.said(&["network", "create", name]);
    }
    let options = ["-d", "--name", "web", "--network", "one", "--network", "two"];
    shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    let route = || {
        let routes = shop.said(&["exec", "web", "ip", "route"]);
        Vec::from_iter(routes.lines().filter(|route| route.starts_with("default")).map(str::to_owned))
            .join("\n")
    };
    assert!(route().contains("dev eth0"), "{}", route());
    shop.said(&["network", "disconnect", "one", "web"]);
    assert!(route().contains("dev eth1"), "{}", route());
    // Who is connected later is behind the others, unless it is preferred.
    shop.said(&["network", "connect", "one", "web"]);
    assert!(route().contains("dev eth1") && route().lines().count() == 1, "{}", route());
    shop.said(&["network", "disconnect", "one", "web"]);
    shop.said(&["network", "connect", "--gw-priority", "1", "one", "web"]);
    assert!(route().contains("dev eth2") && route().lines().count() == 1, "{}", route());
    shop.said(&["restart", "web"]);
    assert!(route().contains("dev eth2"), "{}", route());
}

#[test]
fn nobody_in_a_container_believes_a_router_that_says_that_it_is_one() {
    let shop = shop!();
    let settings = |network: &str| {
        let script = "cd /proc/sys/net/ipv6/conf/eth0; cat disable_ipv6 accept_ra";
        shop.script(&["--network", network], script).output().succeeds().stdout
    };
    assert_eq!(settings("bridge").split_whitespace().next(), Some("1"), "it has no IPv6");
    shop.said(&["network", "create", "--ipv6", "six"]);
    assert_eq!(settings("six"), "0\n0\n");
}

#[test]
fn who_has_an_address_next_hears_nothing_that_was_meant_for_another() {
    let shop = shop!();
    bulkhead_testkit::requires!(bulkhead_testkit::find_program("python3").is_some(), "needs python3");
    // Says what comes to port 90 of a container within two seconds.
    let heard = |name: &str| {
        let network = format!("--net=/proc/{}/ns/net", shop.inspect(name)["State"]["Pid"]);
        let listen = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 90))\n\
            s.settimeout(2)\ntry:\n print(s.recv(99).decode())\nexcept TimeoutError:\n pass\n";
        let listener = shop.sandbox.command("nsenter").args([&network, "python3", "-c", listen]).spawn();
        let peer = UdpSocket::bind("10.81.2.1:9091").unwrap();
        for _ in 0..200 {
            // While nobody listens it is refused, which the next one is told.
            let _ = peer.send_to(b"secret", "10.81.2.1:9090");
            std::thread::sleep(Duration::from_millis(10));
        }
        listener.wait().succeeds().stdout
    };
    shop.said(&["network", "create", "--subnet", "10.81.2.0/24", "same"]);
    let run = |name: &str, more: &[&str]| {
        let options = [&["-d", "--name", name, "--network", "same", "--ip", "10.81.2.7"], more].concat();
        shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    };
    run("one", &["-p", "9090:90/udp"]);
    assert_eq!(heard("one"), "secret\n");
    shop.said(&["rm", "-f", "one"]);
    run("two", &[]);
    assert_eq!(heard("two"), "");
}

/// The name servers of this host's networks.
pub(crate) fn name_servers(shop: &Shop) -> Vec<i32> {
    let socket = shop.path("engine-run/networks");
    let listed =
        shop.sandbox.command("pgrep").args(["-f", &format!("bulkdns.*{}", socket.display())]).output();
    listed.stdout.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn containers_of_a_network_find_each_other_by_their_names() {
    let shop = shop!();
    shop.said(&["network", "create", "front"]);
    shop.said(&["network", "create", "other"]);
    let options =
        ["-d", "--name", "db", "--network", "front", "--network-alias", "database", "--hostname", "vault"];
    shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    let of_db = shop.inspect("db");
    let of_front = &of_db["NetworkSettings"]["Networks"]["front"];
    let address = of_front["IPAddress"].as_str().unwrap().to_owned();
    let id = &of_db["Id"].as_str().unwrap()[..12];
    assert_eq!(of_front["DNSNames"], serde_json::json!(["db", id, "database", "vault"]));
    for name in ["db", "database", "DB", "db.front", "vault", id] {
        let pinged =
            shop.script(&["--network", "front"], &format!("ping -c 1 -w 5 {name}")).output().succeeds();
        assert!(pinged.stdout.contains(&format!("({address})")), "{name}: {}", pinged.stdout);
    }
    let resolv = shop.script(&["--network", "front"], "cat /etc/resolv.conf").output().succeeds().stdout;
    assert!(resolv.starts_with("nameserver 127.0.0.11\n") && resolv.contains("ndots:0"), "{resolv}");
    // Nobody else finds it, and nobody finds what has ended.
    for options in [&["--network", "other"][..], &[]] {
        assert_ne!(shop.script(options, "ping -c 1 -w 5 db").output().code(), 0, "{options:?}");
    }
    let near = "until ping -c 1 -w 1 db; do sleep 0.1; done";
    shop.said(&["rename", "db", "store"]);
    shop.script(&["--network", "front"], "ping -c 1 -w 5 store").output().succeeds();
    shop.said(&["rename", "store", "db"]);
    shop.said(&["stop", "db"]);
    wait_until("its name is gone", || {
        shop.script(&["--network", "front"], "ping -c 1 -w 1 db").output().stderr.contains("bad address")
    });
    shop.said(&["start", "db"]);
    shop.script(&["--network", "front"], near).output().succeeds();
}

#[test]
fn a_name_server_that_dies_is_started_again_and_ends_with_the_last_container() {
    let shop = shop!();
    shop.said(&["network", "create", "front"]);
    for name in ["one", "two"] {
        shop.with("run", &["-d", "--name", name, "--network", "front"], &["sleep", "1000"])
            .output()
            .succeeds();
    }
    let servers = name_servers(&shop);
    assert_eq!(servers.len(), 1, "one for the network");
    let finds = || shop.bulkhead(&["exec", "one", "ping", "-c", "1", "-w", "1", "two"]).output().code() == 0;
    assert!(finds());
    let pid = rustix::process::Pid::from_raw(servers[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait_until("another one answers", || name_servers(&shop).iter().any(|pid| *pid != servers[0]) && finds());
    shop.said(&["rm", "-f", "one", "two"]);
    wait_until("it has ended", || name_servers(&shop).is_empty());
    shop.said(&["network", "rm", "front"]);
}

#[test]
fn who_is_connected_later_finds_others_too() {
    let shop = shop!();
    shop.said(&["network", "create", "back"]);
    shop.service("web", "sleep 1000");
    shop.with("run", &["-d", "--name", "db", "--network", "back"], &["sleep", "1000"]).output().succeeds();
    let asks = |of: &str, name: &str| {
        shop.bulkhead(&["exec", of, "ping", "-c", "1", "-w", "2", name]).output().code()
    };
    assert_ne!(asks("web", "db"), 0);
    shop.said(&["network", "connect", "--alias", "www", "back", "web"]);
    assert_eq!((asks("web", "db"), asks("db", "web"), asks("db", "www")), (0, 0, 0));
    shop.said(&["network", "disconnect", "back", "web"]);
    assert_ne!(asks("db", "web"), 0);
}

/// The host's ports of a container, in the order of its own.
fn host_ports(shop: &Shop, name: &str) -> Vec<(u16, u16)> {
    let said = shop.said(&["port", name]);
    let mut ports = Vec::from_iter(said.lines().map(|line| {
        let (own, host) = line.split_once("/tcp -> 0.0.0.0:").unwrap();
        (own.parse().unwrap(), host.parse().unwrap())
    }));
    ports.sort_unstable();
    ports
}

#[test]
fn many_ports_get_different_ones_of_the_host() {
    let shop = shop!();
    shop.with("run", &["-d", "--name", "many", "-p", "1000-2499"], &["sleep", "1000"]).output().succeeds();
    let mut chosen = Vec::from_iter(host_ports(&shop, "many").into_iter().map(|(_, host)| host));
    chosen.sort_unstable();
    chosen.dedup();
    assert_eq!(chosen.len(), 1500);
    let too_many = shop.script(&["-P", "--expose", "1-20000"], "true").output();
    too_many.fails(125, "no port of the host from 49152 to 65535 is free for it; publish fewer");

    // Ports of a container share a range, and one that must be its first leaves that to none of the others.
    let options = [
        "-d",
        "--name",
        "range",
        "-p",
        "8000-8002:80",
        "-p",
        "8000-8002:81",
        "-p",
        "8000:82",
        "-p",
        "8000:82",
    ];
    shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    assert_eq!(host_ports(&shop, "range"), [(80, 8001), (81, 8002), (82, 8000)]);
    let full = shop.script(&["-p", "8000-8002:80"], "true").output();
    full.fails(125, "none of the host's ports 8000-8002/tcp is free for it");
    let twice = shop.script(&["-p", "8010:80", "-p", "127.0.0.1:8010:81"], "true").output();
    twice.fails(125, "it is published for another port, too");
    shop.said(&["rm", "-f", "range"]);
    shop.script(&["-p", "8000-8002:80"], "true").output().succeeds();
}

#[test]
fn all_ports_of_a_pod_are_taken_back_with_its_last_container() {
    let shop = shop!();
    // The container makes its pod, and keeps it.
    let run = shop.bulkhead(&["run", "--pod", "new:web", "--name", "one", "--expose", "80", "-P"]);
    run.args([crate::shop::IMAGE, "true"]).output().succeeds();
    let rules = || shop.sandbox.command("nft").args(["list", "ruleset"]).output().stdout;
    wait_until("its port is free", || !rules().contains("172.17.0.2 . 80"));
    shop.said(&["start", "one"]);
    shop.said(&["pod", "rm", "-f", "web"]);
    let checked = shop.said(&["system", "check"]);
    assert!(checked.contains("as it should be"), "{checked}");
}

#[test]
fn containers_are_listed_by_each_of_their_networks() {
    let shop = shop!();
    for name in ["front", "back"] {
        shop.said(&["network", "create", name]);
    }
    let id = shop.said(&["network", "ls", "-q", "--no-trunc", "--filter", "name=back"]).trim().to_owned();
    for (name, networks) in [
        ("both", &["--network", "front", "--network", "back"][..]),
        ("one", &["--network", "front"]),
        ("by-id", &["--network", &id[..12]]),
        ("none", &["--network", "none"]),
        ("plain", &[]),
    ] {
        shop.with("create", &[&["--name", name][..], networks].concat(), &["true"]).output().succeeds();
    }
    for (filter, expected) in [
        ("front", "both one"),
        ("back", "both by-id"),
        (&id[..10], "both by-id"),
        ("bridge", "plain"),
        ("none", "none"),
        ("nobody", ""),
    ] {
        let filter = format!("network={filter}");
        let listed = shop.said(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        let mut names = Vec::from_iter(listed.lines());
        names.sort_unstable();
        assert_eq!(names.join(" "), expected, "{filter}");
    }
}

#[test]
fn a_network_is_called_by_one_letter_and_says_how_it_is_removed() {
    let shop = shop!();
    shop.said(&["network", "create", "--internal", "x"]);
    // As with docker, so that what was written for other networks runs.
    let run = shop
        .with("run", &["-d", "--name", "web", "--network", "x", "-p", "9100:80"], &["sleep", "1000"])
        .output();
    run.succeeds().complains("its networks are internal: no port is published");
    assert_eq!(shop.said(&["port", "web"]), "");
    let hint = "`bulkhead stop web` first, or `bulkhead network disconnect x web`";
    shop.bulkhead(&["network", "rm", "x"]).output().exits_with(1).complains(hint);
}

#[test]
fn who_waits_for_the_networks_says_for_whom() {
    let shop = shop!();
    shop.script(&[], "true").output().succeeds();
    let lock = fs::File::open(shop.path("engine-run/networks/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let run = shop.script(&[], "true").spawn();
    let said = || run.stderr().contains("waiting for the networks of this host, which ");
    wait_until("it says for whom it waits", said);
    drop(lock);
    run.wait().succeeds();
}
