//! Ports of the host that a helper carries (`--publish-mode proxy`), or holds. The test is a host of its own.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use bulkhead_testkit::{requires, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::networks::{greeter, heard, neighbour};
use crate::shop::{IMAGE, Shop, shop};

pub(crate) const PROXY: [&str; 2] = ["--publish-mode", "proxy"];

impl Shop {
    /// A container in the background whose ports a helper carries.
    fn carried(&self, name: &str, options: &[&str], script: &str) {
        let options = [&["-d", "--stop-timeout", "1", "--name", name], &PROXY[..], options].concat();
        self.with("run", &options, &["sh", "-c", script]).output().succeeds();
    }

    /// The helpers that carry ports of this test's containers.
    pub(crate) fn helpers(&self) -> Vec<i32> {
        let listed = self.sandbox.command("pgrep").args(["-f", "bulkproxy serve --name"]).output();
        let pids = listed.stdout.lines().filter_map(|line| line.parse().ok());
        // Others may be on this machine, who are no business of ours.
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|of| of == own))
            .collect()
    }
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_port_that_a_helper_carries_is_reached_at_every_address_of_the_host() {
    let shop = shop!();
    shop.carried("web", &["-p", "8080:80", "-p", "[::1]:8081:80"], &greeter(80, "web"));
    for at in ["127.0.0.1:8080", "172.17.0.1:8080", "[::1]:8080", "[::1]:8081"] {
        wait_until(at, || heard(at).as_deref() == Some("hello web"));
    }
    assert_eq!(heard("127.0.0.1:8081"), None, "that one is ::1's alone");
    assert_eq!(shop.said(&["port", "web", "80"]), "0.0.0.0:8080\n[::]:8080\n[::1]:8081\n");
    let bindings = &shop.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"];
    assert_eq!(bindings[1]["HostIp"], "::");
    let [helper] = shop.helpers()[..] else { panic!("one for all: {:?}", shop.helpers()) };
    if bulkhead_testkit::find_program("nft").is_some() {
        let rules = shop.sandbox.command("nft").args(["list", "ruleset"]).output().succeeds().stdout;
        assert!(!rules.contains("8080"), "it is no port of the packet filter: {rules}");
    }
    let checked = shop.said(&["system", "check"]);
    assert!(checked.contains("as it should be"), "{checked}");

    shop.said(&["stop", "web"]);
    wait_until("its port is free", || TcpListener::bind("0.0.0.0:8080").is_ok() && shop.helpers().is_empty());
    shop.said(&["start", "web"]);
    wait_until("it answers again", || heard("[::1]:8080").as_deref() == Some("hello web"));
    assert_ne!(shop.helpers(), [helper]);
    shop.said(&["rm", "-f", "web"]);
    assert_eq!(shop.helpers(), [0; 0], "it goes with its container");
    TcpListener::bind("0.0.0.0:8080").unwrap();
}

#[test]
fn a_carried_port_that_somebody_has_is_found_before_anything_is_changed() {
    let shop = shop!();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let publish = format!("{}:80", taken.local_addr().unwrap().port());
    let refused = |mode: &str, publish: &str, reason: &str| {
        let run = shop.script(&["--publish-mode", mode, "-p", publish], "true").output();
        run.fails(125, reason);
    };
    refused("proxy", &publish, "a program of the host listens there");
    let datagrams = UdpSocket::bind("[::1]:0").unwrap();
    let of_udp = format!("[::1]:{}:53/udp", datagrams.local_addr().unwrap().port());
    refused("proxy", &of_udp, "a program of the host listens there");
    drop(taken);
    shop.carried("first", &["-p", &publish], "sleep 1000");
    refused("proxy", &publish, "leads to container first already");
    refused("dnat", &publish, "leads to container first already");
    refused("proxy", &format!("[::1]:{publish}"), "leads to container first already");
    shop.with("run", &["-d", "--name", "second", "-p", "8082:80"], &["sleep", "1000"]).output().succeeds();
    refused("proxy", "8082:80", "leads to container second already");
    refused("proxy", "10.9.8.7:80:80", "the host has no address 10.9.8.7");
    refused("proxy", "80:80/sctp", "publish it with --publish-mode dnat");
    refused("middle", "80:80", "the modes are dnat and proxy");
    assert_eq!(shop.helpers().len(), 2, "one for each that has a port");
    let created =
        shop.bulkhead(&["create", "--publish-mode", "proxy", "-p", "80:80/sctp", "--name", "never", IMAGE]);
    created.output().fails(1, "an association of SCTP");
    // The port of what was killed with its monitor is somebody else's at once.
    let first = shop.inspect("first");
    let monitor = monitor_of(first["State"]["Pid"].as_i64().unwrap());
    kill(monitor);
    shop.carried("third", &["-p", &publish], "sleep 1000");
}

/// The parent of a container's process.
fn monitor_of(pid: i64) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_port_to_which_the_packet_filter_leads_is_held_while_its_container_runs() {
    let shop = shop!();
    let options = ["-d", "--name", "web", "--restart", "always", "-p", "8160:80", "-p", "8161:53/udp"];
    // It ends once, and stays from then on: pauses before its policy starts it again grow.
    let script = "[ -e /again ] || { touch /again; echo hello web | nc -l -p 80; sleep 0.2; exit; }; \
                  while :; do echo hello web | nc -l -p 80; done";
    shop.with("run", &options, &["sh", "-c", script]).output().succeeds();
    wait_until("it answers", || heard("127.0.0.1:8160").as_deref() == Some("hello web"));
    // Programs that listen have SO_REUSEADDR set, and so has the standard library's.
    let is_held = || {
        let tcp =
            TcpListener::bind("127.0.0.1:8160").is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
        let udp = UdpSocket::bind("127.0.0.1:8161").is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
        (tcp, udp)
    };
    assert_eq!(is_held(), (true, true));
    wait_until("it is started again", || shop.inspect("web")["RestartCount"].as_i64().unwrap() >= 1);
    assert_eq!(is_held(), (true, true), "it is the container's, whose policy starts it again");
    let [helper] = shop.helpers()[..] else { panic!("{:?}", shop.helpers()) };
    kill(helper);
    wait_until("it is held again", || shop.helpers() != [helper] && is_held() == (true, true));
    wait_until("it answers still", || heard("127.0.0.1:8160").as_deref() == Some("hello web"));
    // Of two networks it loses the one that it is reached by.
    shop.said(&["network", "create", "back"]);
    for change in [["connect", "back"], ["disconnect", "bridge"]] {
        // Not in the moment in which it is started again.
        let words = ["network", change[0], change[1], "web"];
        wait_until("its networks change", || shop.bulkhead(&words).output().code() == 0);
    }
    assert_eq!(is_held(), (true, true), "it is reached by the one that is left");
    shop.said(&["stop", "-t", "0", "web"]);
    assert_eq!(is_held(), (false, false));
    shop.said(&["network", "disconnect", "back", "web"]);
    shop.said(&["network", "connect", "bridge", "web"]);
    shop.said(&["start", "web"]);
    assert_eq!(is_held(), (true, true));
    shop.said(&["rm", "-f", "web"]);
    assert_eq!((is_held(), shop.helpers()), ((false, false), Vec::new()));
    // Who has no port has no helper.
    shop.with("run", &["-d", "--name", "none"], &["sleep", "1000"]).output().succeeds();
    assert_eq!(shop.helpers(), [0; 0]);
}

#[test]
fn ranges_and_ports_without_a_number_are_carried() {
    let shop = shop!();
    let serve = format!("({}) & ({}) & {}", greeter(80, "a"), greeter(81, "b"), greeter(82, "c"));
    shop.carried("web", &["-p", "8100-8102:80-82", "-p", "80", "-p", "8100-8110:83"], &serve);
    for (port, name) in [(8100, "a"), (8101, "b"), (8102, "c")] {
        for at in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            wait_until(&at, || heard(&at) == Some(format!("hello {name}")));
        }
    }
    let ports = shop.said(&["port", "web", "80"]);
    let numbers = Vec::from_iter(ports.lines().filter_map(|line| line.rsplit(':').next()));
    let [one, other, same_one, same_other] = numbers[..] else { panic!("{ports}") };
    assert_eq!([one, other], [same_one, same_other], "both families have the same: {ports}");
    assert_eq!(shop.said(&["port", "web", "83"]), "0.0.0.0:8103\n[::]:8103\n");
    shop.carried("many", &["-p", "1000-1999"], "sleep 1000");
    assert_eq!(shop.said(&["port", "many"]).lines().count(), 2000);
    // All that is exposed is nothing here, and has no helper.
    shop.carried("none", &["-P"], "sleep 1000");
    assert_eq!(shop.helpers().len(), 2);
}

#[test]
fn datagrams_are_carried_and_their_answers() {
    let shop = shop!();
    requires!(bulkhead_testkit::find_program("python3").is_some(), "needs python3");
    shop.carried("echo", &["-p", "5300:53/udp"], "sleep 1000");
    let network = format!("--net=/proc/{}/ns/net", shop.inspect("echo")["State"]["Pid"]);
    let serve = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 53))\n\
        while True:\n m, a = s.recvfrom(99); s.sendto(m + b' ' + a[0].encode(), a)\n";
    let server = shop.sandbox.command("nsenter").args([&network, "python3", "-c", serve]).spawn();
    for (own, at) in [
        ("127.0.0.1:0", "127.0.0.1:5300"),
        ("0.0.0.0:0", "172.17.0.1:5300"),
        ("127.0.0.1:0", "127.0.0.7:5300"),
        ("[::1]:0", "[::1]:5300"),
    ] {
        let client = UdpSocket::bind(own).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        wait_until(at, || {
            client.send_to(b"ask", at).unwrap();
            let mut room = [0; 99];
            client.recv_from(&mut room).is_ok_and(|(length, from)| {
                assert_eq!(&room[..length], b"ask 172.17.0.1", "the container sees its gateway");
                assert_eq!(from, at.parse().unwrap(), "the answer comes from where it was asked");
                true
            })
        });
    }
    drop(server);
}

#[test]
fn the_host_s_rules_for_input_are_about_carried_ports_and_those_for_forwarding_about_the_others() {
    let shop = shop!();
    requires!(bulkhead_testkit::find_program("nft").is_some(), "needs nft");
    let neighbour = neighbour(&shop);
    shop.carried("carried", &["-p", "8110:80"], &greeter(80, "carried"));
    let options = ["-d", "--name", "led", "-p", "8111:80"];
    shop.with("run", &options, &["sh", "-c", &greeter(80, "led")]).output().succeeds();
    let ask = |port: &str| {
        let output =
            neighbour.command(&shop.sandbox, "busybox").args(["nc", "-w", "2", "192.0.2.1", port]).output();
        output.stdout.trim().to_owned()
    };
    let both = || (ask("8110") == "hello carried", ask("8111") == "hello led");
    wait_until("both are reached", || both() == (true, true));
    for (hook, reached) in [("input", (false, true)), ("forward", (true, false))] {
        let rules = format!(
            "table inet closed {{\nchain closed {{\ntype filter hook {hook} priority 0\niifname \"wire\" meta l4proto tcp drop\n}}\n}}\n"
        );
        let close = shop.sandbox.command("nft").args(["-f", "-"]).input(&rules).output();
        close.succeeds();
        wait_until(hook, || both() == reached);
        shop.sandbox.command("nft").args(["delete", "table", "inet", "closed"]).output().succeeds();
    }
    wait_until("both are reached again", || both() == (true, true));
}

#[test]
fn a_helper_that_dies_is_started_again_and_one_of_a_container_that_restarts_is_not() {
    let shop = shop!();
    let serve = format!("echo up; echo hello one | nc -l -p 80; {}", "sleep 0.2");
    shop.carried("web", &["-p", "8120:80", "--restart", "always"], &serve);
    let [helper] = shop.helpers()[..] else { panic!("{:?}", shop.helpers()) };
    for _ in 0..3 {
        wait_until("it answers", || heard("127.0.0.1:8120").as_deref() == Some("hello one"));
    }
    wait_until("it is started again", || shop.inspect("web")["RestartCount"].as_i64().unwrap() >= 2);
    assert_eq!(shop.helpers(), [helper], "the helper has stayed");
    kill(helper);
    wait_until("another one carries", || {
        heard("[::1]:8120").as_deref() == Some("hello one") && shop.helpers() != [helper]
    });
    let again = shop.helpers();
    assert_eq!(again.len(), 1);
    let checked = shop.said(&["system", "check"]);
    assert!(checked.contains("as it should be"), "{checked}");
    shop.said(&["rm", "-f", "web"]);
    assert_eq!(shop.helpers(), [0; 0], "the later one is known, too");
}

#[test]
fn a_helper_ends_with_the_monitor_that_is_killed_or_when_it_is_looked_for() {
    let shop = shop!();
    shop.carried("one", &["-p", "8130:80"], "sleep 1000");
    shop.carried("two", &["-p", "8131:80"], "sleep 1000");
    for name in ["one", "two"] {
        let pid = shop.inspect(name)["State"]["Pid"].as_i64().unwrap();
        kill(monitor_of(pid));
    }
    let found = shop.bulkhead(&["system", "check"]).output();
    assert!(found.stdout.contains("they lead to what has ended"), "{}", found.stdout);
    wait_until("they end by themselves", || shop.helpers().is_empty());
}

#[test]
fn ports_of_pods_and_of_containers_with_users_of_their_own_are_carried() {
    let shop = shop!();
    let parent = shop.parent();
    let words =
        ["pod", "create", "--cgroup-parent", &parent, "-p", "8140:80", "--publish-mode", "proxy", "web"];
    shop.said(&words);
    for (name, script) in [("first", greeter(80, "pod")), ("second", "sleep 1000".to_owned())] {
        let words =
            ["run", "-d", "--pod", "web", "--name", name, "--stop-timeout", "1", IMAGE, "sh", "-c", &script];
        shop.bulkhead(&words).output().succeeds();
    }
    wait_until("the pod answers", || heard("[::1]:8140").as_deref() == Some("hello pod"));
    let [helper] = shop.helpers()[..] else { panic!("{:?}", shop.helpers()) };
    // Who is left of the pod keeps it.
    shop.said(&["restart", "first"]);
    wait_until("the pod answers again", || heard("127.0.0.1:8140").as_deref() == Some("hello pod"));
    assert_eq!(shop.helpers(), [helper]);
    kill(helper);
    wait_until("it is started again", || heard("127.0.0.1:8140").as_deref() == Some("hello pod"));

    shop.carried("users", &["--uidmap", "0:100000:65536", "-p", "8141:80"], &greeter(80, "users"));
    wait_until("it answers", || heard("[::1]:8141").as_deref() == Some("hello users"));
    assert_eq!(shop.helpers().len(), 2);
    shop.said(&["pod", "rm", "-f", "web"]);
    shop.said(&["rm", "-f", "users"]);
    assert_eq!(shop.helpers(), [0; 0]);
}

#[test]
fn a_carried_port_is_given_up_with_the_network_that_it_leads_to() {
    let shop = shop!();
    shop.said(&["network", "create", "front"]);
    shop.carried("web", &["--network", "front", "-p", "8150:80"], &greeter(80, "web"));
    wait_until("it answers", || heard("127.0.0.1:8150").as_deref() == Some("hello web"));
    shop.said(&["network", "disconnect", "front", "web"]);
    assert_eq!(shop.said(&["port", "web"]), "");
    TcpListener::bind("0.0.0.0:8150").unwrap();
    shop.said(&["rm", "-f", "web"]);
    wait_until("nothing is left of it", || shop.helpers().is_empty());
}
