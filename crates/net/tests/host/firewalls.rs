//! Real firewalls of the host: what they keep closed stays closed, and what we name opens the rest.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_net::device::{Devices, Setting, set as set_parameter};
use bulkhead_net::firewall::{self, Firewall, Published};
use bulkhead_net::nft::{Expression, Filter, Register, Transaction, Verdict};
use bulkhead_net::proxy::{self, Begun, Helper, Ports, Route};
use bulkhead_net::rules::Protocol;
use bulkhead_testkit::daemon::{Guarded, Within};
use bulkhead_testkit::{cached, tree};

use crate::rig::{Place, Rig, answers, ip_command, run_in};
use crate::suites::over_debian_s_packages;
use crate::{at, tcp};

over_debian_s_packages!(release newest: {
    ufw_closes_what_is_published_until_it_is_told
    what_ufw_was_told_to_block_stays_blocked
    ufw_s_rules_for_input_are_about_ports_that_a_helper_carries
    firewalld_s_zones_are_about_ports_that_a_helper_carries
    firewalld_lets_in_what_is_published_and_nothing_out_until_it_is_told
    firewalld_lets_out_by_a_device_of_the_default_zone
    what_firewalld_was_told_to_block_stays_blocked
    a_strict_firewalld_opens_ports_that_it_knows
    a_firewalld_of_iptables_is_known
    the_old_tables_are_seen_without_making_them
    docker_s_rules_let_containers_through_and_stay_readable
    a_network_that_wants_nothing_of_docker_s_rules_is_not_opened_by_another_one
    what_docker_keeps_to_itself_stays_shut_to_containers
});

/// A host with a container, `one`'s first, whose ports 80 and 81 are published as 8080 and 8081.
struct Stage {
    rig: Rig,
    container: Place,
}

impl Stage {
    fn new() -> Self {
        let rig = Rig::new();
        let container = rig.container("one", "a");
        rig.rules.publish(&[tcp(None, 8080, "10.10.0.2:80"), tcp(None, 8081, "10.10.0.2:81")]).unwrap();
        Self { rig, container }
    }

    /// Does what we name.
    fn follow(&self, firewall: &Firewall) {
        run_in(&self.rig.host, "sh", &["-euc", &firewall.command("bh-").unwrap()]);
    }

    /// Whether a host elsewhere reaches a port of the container by the host's.
    fn lets_in(&self, port: u16) -> bool {
        let inside = at(&format!("10.10.0.2:{}", port - 8000));
        answers(&self.container, &self.rig.outside, inside, at(&format!("10.1.0.1:{port}")))
    }

    /// Whether the container reaches a port of a host elsewhere.
    fn lets_out(&self, port: u16) -> bool {
        let outside = at(&format!("10.1.0.2:{port}"));
        answers(&self.rig.outside, &self.container, outside, outside)
    }

    /// Whether another container of the same network reaches it.
    fn lets_neighbours(&self, name: &str) -> bool {
        let (next, inside) = (self.rig.container("one", name), at("10.10.0.2:80"));
        answers(&self.container, &next, inside, inside)
    }

    /// Whether the own table still keeps others from what is not published.
    fn keeps_the_rest(&self) -> bool {
        let (here, next) = (at("10.10.0.2:82"), at("10.10.0.2:80"));
        let other = self.rig.container("two", "b");
        !answers(&self.container, &self.rig.outside, here, here)
            && !answers(&self.container, &self.rig.outside, next, next)
            && !answers(&self.container, &other, next, next)
    }
}

/// Who stands in the way.
fn found() -> Vec<Firewall> {
    firewall::in_the_way(&Filter::open().unwrap(), "bulkhead", "bh-").unwrap()
}

/// Switches ufw on, as its package's scripts and an administrator do.
fn start_ufw(stage: &Stage) {
    for name in ["before", "before6", "after", "after6", "user", "user6"] {
        let file = format!("{name}.rules");
        fs::copy(Path::new("/usr/share/ufw/iptables").join(&file), Path::new("/etc/ufw").join(&file))
            .unwrap();
    }
    fs::copy("/usr/share/ufw/ufw.conf", "/etc/ufw/ufw.conf").unwrap();
    run_in(&stage.rig.host, "ufw", &["--force", "enable"]);
}

fn ufw_closes_what_is_published_until_it_is_told() {
    let stage = Stage::new();
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert_eq!(found(), []);
    start_ufw(&stage);
    assert!(!stage.lets_in(8080) && !stage.lets_out(80), "a drop of anybody is final");
    // Where frames that a bridge forwards are shown to the packet filter, these are dropped, too.
    let shown = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    let shown = shown.is_ok_and(|value| value.trim() == "1");
    assert_eq!(stage.lets_neighbours("n1"), !shown);
    let [firewall] = &found()[..] else { panic!("{:?}", found()) };
    assert_eq!(firewall, &Firewall::Ufw);
    stage.follow(firewall);
    assert!(stage.lets_neighbours("n2"));
    assert!(stage.lets_in(8080) && stage.lets_in(8081) && stage.lets_out(80));
    assert!(stage.keeps_the_rest());
    assert_eq!(found(), [], "it was told");
    let ufw = |words: &[&str]| run_in(&stage.rig.host, "ufw", words);
    ufw(&["reload"]);
    assert!(stage.lets_in(8080) && stage.lets_out(80), "it remembers");
    ufw(&["route", "delete", "allow", "out", "on", "bh-+"]);
    assert!(!stage.lets_in(8080) && stage.lets_out(80));
    ufw(&["route", "delete", "allow", "in", "on", "bh-+"]);
    assert!(!stage.lets_out(80), "as it was before");
}

fn what_ufw_was_told_to_block_stays_blocked() {
    let stage = Stage::new();
    start_ufw(&stage);
    let ufw = |words: &[&str]| run_in(&stage.rig.host, "ufw", words);
    ufw(&["route", "deny", "proto", "tcp", "to", "any", "port", "80"]);
    stage.follow(&Firewall::Ufw);
    assert!(!stage.lets_in(8080), "what an administrator has blocked before, by the container's port");
    assert!(stage.lets_in(8081));
    ufw(&["route", "insert", "1", "deny", "proto", "tcp", "to", "10.10.0.2", "port", "81"]);
    assert!(!stage.lets_in(8081), "and what is blocked later, before all others");
}

/// A helper that carries port 8082 of the host to port 82 of the container. It ends with what keeps it, or when it is killed.
struct Carried {
    _place: bulkhead_testkit::Scratch,
    begun: Begun,
}

impl Carried {
    fn start() -> Self {
        let place = bulkhead_testkit::Scratch::new();
        let socket = place.path().join("ports.sock");
        let program = Path::new(env!("CARGO_BIN_EXE_bulkproxy"));
        let route = Route {
            protocol: Protocol::Tcp,
            socket: proxy::listen(Protocol::Tcp, at("0.0.0.0:8082")).unwrap(),
            to: at("10.10.0.2:82"),
        };
        let ports = Ports { routes: vec![route], held: Vec::new() };
        let begun = Helper { program, owner: "4f", socket: &socket, wait: 5 }.start(&ports).unwrap();
        Self { _place: place, begun }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        proxy::end(&bulkhead_sys::process::open_pidfd(self.begun.process).unwrap()).unwrap();
    }
}

fn ufw_s_rules_for_input_are_about_ports_that_a_helper_carries() {
    let stage = Stage::new();
    let _carried = Carried::start();
    assert!(stage.lets_in(8082));
    start_ufw(&stage);
    let ufw = |words: &[&str]| run_in(&stage.rig.host, "ufw", words);
    assert!(!stage.lets_in(8082), "it denies what comes in");
    ufw(&["allow", "8082/tcp"]);
    assert!(stage.lets_in(8082) && !stage.lets_in(8080), "what is forwarded is another matter");
    ufw(&["delete", "allow", "8082/tcp"]);
    ufw(&["default", "allow", "incoming"]);
    stage.follow(&Firewall::Ufw);
    assert!(stage.lets_in(8082) && stage.lets_in(8080));
    ufw(&["deny", "8082"]);
    ufw(&["deny", "8080"]);
    assert!(!stage.lets_in(8082) && stage.lets_in(8080), "a rule for input is about the carried one alone");
}

fn firewalld_s_zones_are_about_ports_that_a_helper_carries() {
    let stage = Stage::new();
    let _carried = Carried::start();
    let _firewalld = Firewalld::start();
    let firewalld = |word: &str| run_in(&stage.rig.host, "firewall-cmd", &[word]);
    assert!(!stage.lets_in(8082), "the zone of the cable has no such port");
    firewalld("--add-port=8082/tcp");
    assert!(stage.lets_in(8082));
    firewalld("--remove-port=8082/tcp");
    assert!(!stage.lets_in(8082) && stage.lets_in(8080), "what is forwarded is another matter");
}

/// firewalld with the bus by which it is told what to do.
struct Firewalld {
    _bus: Guarded,
    _daemon: Guarded,
}

/// A bus for root.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="root"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>"#;

impl Firewalld {
    fn start() -> Self {
        fs::create_dir("/run/dbus").unwrap();
        fs::write("/run/dbus.conf", BUS).unwrap();
        let start = |program: &str, arguments: &[&str]| {
            let arguments = Vec::from_iter(arguments.iter().map(OsString::from));
            let log = Path::new("/run").join(Path::new(program).file_name().unwrap()).with_extension("log");
            Guarded::start(Path::new(program), &arguments, Within::default(), &log).unwrap()
        };
        let bus = start("/usr/bin/dbus-daemon", &["--nofork", "--config-file=/run/dbus.conf"]);
        until("the bus is there", || Path::new("/run/dbus/system_bus_socket").exists());
        let daemon = start("/usr/sbin/firewalld", &["--nofork", "--nopid"]);
        until("firewalld runs", || {
            let state = Command::new("firewall-cmd").arg("--state").output();
            state.is_ok_and(|output| output.status.success())
        });
        Self { _bus: bus, _daemon: daemon }
    }
}

/// Writes a setting of firewalld's.
fn set(name: &str, value: &str) {
    let file = "/etc/firewalld/firewalld.conf";
    let text = fs::read_to_string(file).unwrap();
    let begin = format!("{name}=");
    let lines = text.lines().map(|line| match line.starts_with(&begin) {
        true => format!("{begin}{value}\n"),
        false => format!("{line}\n"),
    });
    fs::write(file, lines.collect::<String>()).unwrap();
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn firewalld_lets_in_what_is_published_and_nothing_out_until_it_is_told() {
    let stage = Stage::new();
    let _firewalld = Firewalld::start();
    let [firewall] = &found()[..] else { panic!("{:?}", found()) };
    assert_eq!(firewall, &Firewall::Firewalld(Published::LetIn));
    assert!(stage.lets_in(8080), "it lets in what anybody publishes");
    assert!(!stage.lets_out(80), "it refuses what a device sends out that is in no zone");
    stage.follow(firewall);
    assert!(stage.lets_neighbours("n"));
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert!(stage.keeps_the_rest());
    assert_eq!(found(), [], "it was told");
    let listener = at("10.10.0.1:83");
    assert!(!answers(&stage.rig.host, &stage.container, listener, listener), "the host itself stays closed");
}

fn firewalld_lets_out_by_a_device_of_the_default_zone() {
    let stage = Stage::new();
    let zone = r#"<zone><forward/><interface name="up0"/></zone>"#;
    fs::write("/etc/firewalld/zones/public.xml", zone).unwrap();
    let _firewalld = Firewalld::start();
    assert!(stage.lets_in(8080) && stage.lets_out(80), "as NetworkManager has it");
    assert_eq!(found(), []);
    // A device that leads out is in another zone.
    run_in(&stage.rig.host, "firewall-cmd", &["--zone=work", "--change-interface=up0"]);
    assert!(stage.lets_in(8080) && !stage.lets_out(80));
    assert_eq!(found(), [Firewall::Firewalld(Published::LetIn)]);
    // An administrator may have a zone for containers.
    run_in(&stage.rig.host, "firewall-cmd", &["--zone=trusted", "--add-interface=bh-+"]);
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert_eq!(found(), []);
}

fn what_firewalld_was_told_to_block_stays_blocked() {
    let stage = Stage::new();
    let policy = r#"<policy priority="-10" target="CONTINUE"><ingress-zone name="ANY"/><egress-zone name="ANY"/>
        <rule><port port="80" protocol="tcp"/><reject/></rule></policy>"#;
    fs::write("/etc/firewalld/policies/no-mail.xml", policy).unwrap();
    let _firewalld = Firewalld::start();
    stage.follow(&Firewall::Firewalld(Published::LetIn));
    assert!(!stage.lets_out(80));
    assert!(stage.lets_out(81));
}

fn a_strict_firewalld_opens_ports_that_it_knows() {
    let knows = fs::read_to_string("/etc/firewalld/firewalld.conf").unwrap().contains("StrictForwardPorts");
    bulkhead_testkit::requires!(knows, "needs firewalld 2.3 or later");
    set("StrictForwardPorts", "yes");
    let stage = Stage::new();
    let _firewalld = Firewalld::start();
    let [firewall] = &found()[..] else { panic!("{:?}", found()) };
    assert_eq!(firewall, &Firewall::Firewalld(Published::Refused));
    stage.follow(firewall);
    assert!(!stage.lets_in(8080) && !stage.lets_in(8081));
    // The container has another address by now: only the port counts.
    let command = firewall.port_command(&tcp(None, 8080, "10.10.0.9:88")).unwrap();
    run_in(&stage.rig.host, "sh", &["-euc", &command]);
    assert!(stage.lets_in(8080));
    assert!(!stage.lets_in(8081), "the other one stays blocked");
    let by_host = |to| answers(&stage.container, &stage.rig.host, at("10.10.0.2:80"), at(to));
    assert!(!by_host("10.1.0.1:8080"), "what the host itself asks is not opened by that");
    assert!(by_host("10.10.0.2:80"), "but at the container's own address");
}

fn a_firewalld_of_iptables_is_known() {
    set("FirewallBackend", "iptables");
    let stage = Stage::new();
    let _firewalld = Firewalld::start();
    let [firewall] = &found()[..] else { panic!("{:?}", found()) };
    assert_eq!(firewall, &Firewall::Firewalld(Published::LetIn));
    assert!(stage.lets_in(8080) && !stage.lets_out(80));
    stage.follow(firewall);
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert!(stage.keeps_the_rest());
    assert_eq!(found(), [], "it was told");
}

fn docker_s_rules_let_containers_through_and_stay_readable() {
    let stage = Stage::new();
    let iptables = |words: &[&str]| run_in(&stage.rig.host, "iptables-nft", words);
    iptables(&["-P", "FORWARD", "DROP"]);
    iptables(&["-N", "DOCKER-USER"]);
    iptables(&["-A", "FORWARD", "-j", "DOCKER-USER"]);
    assert!(!stage.lets_in(8080), "a drop of anybody is final");
    let [Firewall::Docker(users)] = &found()[..] else { panic!("{:?}", found()) };
    let filter = Filter::open().unwrap();
    let let_through = || firewall::let_through(&filter, users, ("bh-", &open(&["one"])), "bulkhead").unwrap();
    let take_back = || firewall::take_back(&filter, users, "bulkhead").unwrap();
    for _ in 0..2 {
        let_through();
        assert!(stage.lets_in(8080) && stage.lets_out(80));
    }
    assert!(stage.keeps_the_rest());
    let rules = [
        "-o bh-one -m comment --comment \"bulkhead bh-one\" -j ACCEPT",
        "-i bh-one -o docker0 -m comment --comment \"bulkhead bh-one\" -j RETURN",
        "-i bh-one -o br-+ -m comment --comment \"bulkhead bh-one\" -j RETURN",
        "-i bh-one ! -o bh-+ -m comment --comment \"bulkhead bh-one\" -j ACCEPT",
    ];
    let rules = rules.map(|rule| format!("-A DOCKER-USER {rule}\n")).concat();
    assert_eq!(
        iptables(&["-S", "DOCKER-USER"]),
        format!("-N DOCKER-USER\n{rules}"),
        "others read them as their own"
    );
    let block = ["DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP"];
    iptables(&[&["-I"], &block[..]].concat());
    assert!(!stage.lets_in(8080) && stage.lets_in(8081), "what an administrator blocks by then");
    for _ in 0..2 {
        take_back();
    }
    assert_eq!(iptables(&["-S", "DOCKER-USER"]).lines().count(), 2);

    // As older docker ends it.
    iptables(&["-A", "DOCKER-USER", "-j", "RETURN"]);
    let_through();
    assert!(!stage.lets_in(8080) && stage.lets_in(8081), "what an administrator has blocked before");
    let listed = iptables(&["-S", "DOCKER-USER"]);
    assert!(listed.ends_with(&format!("{rules}-A DOCKER-USER -j RETURN\n")), "{listed}");
    take_back();
    assert!(!stage.lets_in(8081));
}

/// The bridges of these networks.
fn open(networks: &[&str]) -> Vec<String> {
    networks.iter().map(|network| format!("bh-{network}")).collect()
}

/// A host whose chain of docker's drops what it does not accept; the words are iptables'.
fn as_docker_has_it(stage: &Stage) -> impl Fn(&[&str]) -> String + '_ {
    let iptables = move |words: &[&str]| run_in(&stage.rig.host, "iptables-nft", words);
    iptables(&["-P", "FORWARD", "DROP"]);
    iptables(&["-N", "DOCKER-USER"]);
    iptables(&["-A", "FORWARD", "-j", "DOCKER-USER"]);
    iptables
}

fn a_network_that_wants_nothing_of_docker_s_rules_is_not_opened_by_another_one() {
    let stage = Stage::new();
    let iptables = as_docker_has_it(&stage);
    let other = stage.rig.container("two", "t");
    stage.rig.rules.publish(&[tcp(None, 8090, "10.20.0.2:90"), tcp(None, 8091, "10.20.0.2:91")]).unwrap();
    let lets_in = |from: &Place, port: u16| {
        let inside = at(&format!("10.20.0.2:{}", port - 8000));
        answers(&other, from, inside, at(&format!("10.1.0.1:{port}")))
    };
    let lets_out = |port: u16| {
        let there = at(&format!("10.1.0.2:{port}"));
        answers(&stage.rig.outside, &other, there, there)
    };
    let filter = Filter::open().unwrap();
    let [Firewall::Docker(users)] = &found()[..] else { panic!("{:?}", found()) };
    let tell = |bridges: &[&str]| {
        firewall::let_through(&filter, users, ("bh-", &open(bridges)), "bulkhead").unwrap();
    };
    let is_told =
        |bridges: &[&str]| firewall::untold(&filter, "bulkhead", "bh-", &open(bridges)).unwrap().is_empty();
    tell(&["one"]);
    assert!(is_told(&["one"]) && !is_told(&["one", "two"]) && !is_told(&[]));
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert!(!lets_in(&stage.rig.outside, 8090) && !lets_out(90), "it is not named");
    assert!(!lets_in(&stage.container, 8090), "nor is it opened by who may send everything");
    tell(&["one", "two"]);
    assert!(is_told(&["two", "one"]));
    assert!(lets_in(&stage.rig.outside, 8090) && lets_in(&stage.container, 8091) && lets_out(91));
    tell(&["one"]);
    assert!(stage.lets_in(8080) && !lets_in(&stage.rig.outside, 8090));
    // Another store has its own rules.
    firewall::let_through(&filter, users, ("bh-", &open(&["two"])), "bulkhead-0").unwrap();
    assert!(is_told(&["one"]) && lets_in(&stage.container, 8090), "from one to the other");
    firewall::take_back(&filter, users, "bulkhead-0").unwrap();

    // As earlier versions have had it, of all bridges.
    firewall::take_back(&filter, users, "bulkhead").unwrap();
    let put = |load: fn(Register) -> Expression| {
        let accept = [Expression::Count, Expression::End(Verdict::Accept)];
        let rule = [&[load(Register(0)), Expression::Is(Register(0), b"bh-")][..], &accept].concat();
        let mut transaction = Transaction::new();
        transaction.put_rule(users, &rule, "bulkhead", None);
        filter.commit(transaction).unwrap();
    };
    put(Expression::LoadInput);
    put(Expression::LoadOutput);
    assert!(stage.lets_in(8080) && lets_in(&stage.rig.outside, 8090) && !is_told(&["one"]));
    tell(&["one"]);
    assert!(stage.lets_in(8080) && !lets_in(&stage.rig.outside, 8090) && is_told(&["one"]));
    assert_eq!(iptables(&["-S", "DOCKER-USER"]).lines().count(), 5);
    put(Expression::LoadOutput);
    firewall::take_back(&filter, users, "bulkhead").unwrap();
    assert_eq!(iptables(&["-S", "DOCKER-USER"]), "-N DOCKER-USER\n");
}

fn what_docker_keeps_to_itself_stays_shut_to_containers() {
    let stage = Stage::new();
    let iptables = |words: &[&str]| run_in(&stage.rig.host, "iptables-nft", words);
    let host = |words: &[&str]| ip_command(&stage.rig.host, words);
    // As docker makes a network: a bridge, a container, and a port of that which is published.
    let mut theirs = Vec::new();
    for (bridge, number) in [("docker0", 17), ("br-0123456789ab", 18)] {
        let device = format!("p{number}");
        let place = stage.rig.place_at(&device);
        host(&["link", "add", bridge, "type", "bridge"]);
        host(&["addr", "add", &format!("172.{number}.0.1/16"), "dev", bridge]);
        host(&["link", "set", &device, "master", bridge]);
        host(&["link", "set", &device, "up"]);
        host(&["link", "set", bridge, "up"]);
        ip_command(&place, &["addr", "add", &format!("172.{number}.0.2/16"), "dev", &device]);
        ip_command(&place, &["link", "set", &device, "up"]);
        ip_command(&place, &["route", "add", "default", "via", &format!("172.{number}.0.1")]);
        for of in [(&place, device.as_str()), (&stage.rig.host, device.as_str()), (&stage.rig.host, bridge)] {
            Devices::of(of.0.fd()).unwrap().has_carrier(of.1).unwrap();
        }
        set_parameter(bridge, Setting::Forwarding, "1").unwrap();
        theirs.push((place, bridge, format!("172.{number}.0.2")));
    }
    iptables(&["-P", "FORWARD", "DROP"]);
    iptables(&["-N", "DOCKER-USER"]);
    for words in ["-j DOCKER-USER", "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"] {
        iptables(&Vec::from_iter(["-A", "FORWARD"].into_iter().chain(words.split(' '))));
    }
    for (_, bridge, address) in &theirs {
        let published =
            format!("-A FORWARD ! -i {bridge} -o {bridge} -d {address} -p tcp --dport 80 -j ACCEPT");
        iptables(&Vec::from_iter(published.split(' ')));
    }
    let reaches = |place: &Place, address: &str, port: u16| {
        let to = at(&format!("{address}:{port}"));
        answers(place, &stage.container, to, to)
    };
    for (place, bridge, address) in &theirs {
        assert!(!reaches(place, address, 81), "{bridge}, as docker has it");
    }
    let filter = Filter::open().unwrap();
    let [Firewall::Docker(users)] = &found()[..] else { panic!("{:?}", found()) };
    firewall::let_through(&filter, users, ("bh-", &open(&["one"])), "bulkhead").unwrap();
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    for (place, bridge, address) in &theirs {
        assert!(!reaches(place, address, 81), "{bridge}: what docker has not published");
        assert!(reaches(place, address, 80), "{bridge}: what docker has published");
    }
    // Somebody has taken a rule away, and what is left opens too much.
    iptables(&["-D", "DOCKER-USER", "2"]);
    let (place, _, address) = &theirs[0];
    assert!(reaches(place, address, 81), "it is the rule that prevents it");
    firewall::let_through(&filter, users, ("bh-", &open(&["one"])), "bulkhead").unwrap();
    assert!(!reaches(place, address, 81), "all or none");
    assert_eq!(iptables(&["-S", "DOCKER-USER"]).lines().count(), 5);
}

#[test]
fn docker_s_daemon_closes_the_host_and_its_chain_opens_it() {
    bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root, as docker's daemon does");
    let daemon = ["sid", "devel"].iter().find_map(|suite| {
        let program = cached(&format!("peers/docker.io-{suite}"))?.join("usr/sbin/dockerd");
        program.is_file().then_some(program)
    });
    bulkhead_testkit::requires!(daemon.is_some(), "needs docker's daemon; cargo xtask peers fetches it");
    let packages = cached("networks/newest");
    bulkhead_testkit::requires!(packages.is_some(), "needs iptables; cargo xtask networks fetches it");
    bulkhead_testkit::in_fresh_namespaces!(Mount, Network);
    tree::lay(&packages.unwrap());
    let stage = Stage::new();
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    let places =
        ["--data-root=/run/data", "--exec-root=/run/exec", "--pidfile=/run/pid", "--host=unix:///run/socket"];
    let places = places.map(OsString::from);
    let _daemon =
        Guarded::start(&daemon.unwrap(), &places, Within::default(), Path::new("/run/log")).unwrap();
    // Who has switched forwarding on closes it for others.
    until("docker drops what is forwarded", || !found().is_empty());
    let [Firewall::Docker(users)] = &found()[..] else { panic!("{:?}", found()) };
    assert!(!stage.lets_in(8080) && !stage.lets_out(80));
    let bridges = open(&["one", "two"]);
    firewall::let_through(&Filter::open().unwrap(), users, ("bh-", &bridges), "bulkhead").unwrap();
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert!(stage.keeps_the_rest());
}

#[test]
fn a_chain_of_anybody_s_that_drops_is_told_to_let_through() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_testkit::requires!(bulkhead_testkit::find_program("nft").is_some(), "needs nft");
    let stage = Stage::new();
    let nft = |words: &str| run_in(&stage.rig.host, "nft", &[words]);
    nft("table inet mine { chain gate { type filter hook forward priority 5; policy drop; }; }");
    assert!(!stage.lets_in(8080) && !stage.lets_out(80));
    let [firewall] = &found()[..] else { panic!("{:?}", found()) };
    stage.follow(firewall);
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert!(stage.keeps_the_rest());
    assert_eq!(found(), [], "it was told");
    nft("insert rule inet mine gate tcp dport 80 drop");
    assert!(!stage.lets_in(8080), "what is blocked before stays blocked");
}

#[test]
fn a_chain_whose_last_rule_refuses_is_told_too() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_testkit::requires!(bulkhead_testkit::find_program("nft").is_some(), "needs nft");
    let stage = Stage::new();
    let nft = |words: &str| run_in(&stage.rig.host, "nft", &[words]);
    nft("table inet mine { chain gate { type filter hook forward priority 5; ct state established accept; \
         ip saddr 192.0.2.1 drop; }; }");
    assert_eq!(found(), [], "it refuses one");
    nft("add rule inet mine gate counter reject");
    assert!(!stage.lets_in(8080) && !stage.lets_out(80));
    let [firewall @ Firewall::Other(_)] = &found()[..] else { panic!("{:?}", found()) };
    stage.follow(firewall);
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert_eq!(found(), [], "it was told");
    nft("delete table inet mine");
    nft("table bridge mine { chain gate { type filter hook forward priority 5; policy drop; }; }");
    let [firewall @ Firewall::Ports(_)] = &found()[..] else { panic!("{:?}", found()) };
    stage.follow(firewall);
    assert_eq!(found(), [], "it was told");
}

fn the_old_tables_are_seen_without_making_them() {
    let stage = Stage::new();
    let names = || fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    assert_eq!(found(), []);
    assert!(!names().contains("filter"), "to look is not to make");
    let legacy = |words: &[&str]| {
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            run_in(&stage.rig.host, program, words);
        }
    };
    legacy(&["-P", "FORWARD", "ACCEPT"]);
    bulkhead_testkit::requires!(names().contains("filter"), "needs a kernel with the old tables");
    assert_eq!(found(), []);
    legacy(&["-P", "FORWARD", "DROP"]);
    assert!(!stage.lets_in(8080) && !stage.lets_out(80));
    // Neither of these opens everything.
    legacy(&["-A", "FORWARD", "-i", "bh-+", "-p", "tcp", "--dport", "9", "-j", "ACCEPT"]);
    legacy(&["-A", "FORWARD", "-o", "bh-+", "-i", "up0", "-j", "ACCEPT"]);
    legacy(&["-A", "FORWARD", "-o", "bh-one", "-j", "ACCEPT"]);
    let two = found();
    let [four @ Firewall::Old { .. }, six @ Firewall::Old { .. }] = &two[..] else { panic!("{two:?}") };
    stage.follow(four);
    assert_eq!(found(), std::slice::from_ref(six), "that of IPv4 was told");
    assert!(stage.lets_in(8080) && stage.lets_out(80));
    assert!(stage.keeps_the_rest());
    legacy(&["-N", "DOCKER-USER"]);
    let command = found()[0].command("bh-").unwrap();
    assert!(command.starts_with("ip6tables-legacy -I DOCKER-USER -i bh-+ -j ACCEPT && "), "{command}");
    assert!(command.ends_with(" && ip6tables-legacy -I DOCKER-USER -i bh-+ -o br-+ -j RETURN"), "{command}");
    legacy(&["-N", "ufw6-user-forward"]);
    assert_eq!(found(), [Firewall::Ufw]);
}
