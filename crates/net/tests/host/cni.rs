//! Debian's CNI plugins, run by our client.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_net::cni::{
    Attached, Capabilities, Client, Code, Deleted, Done, Error, Key, List, Mapping, Networks, Request,
    Version,
};
use bulkhead_net::device::{self, Devices, Mac};
use bulkhead_net::rules::Protocol;
use bulkhead_testkit::{cached, find_program, requires, tree};
use serde_json::{Value, json};

use crate::rig::{self, Place, Rig, answers, ping, run_in};
use crate::suites::{DOOMED, over_debian_s_packages};

/// What is in the way of tests that are killed: all of it lies in a file system of their own.
const RECORDS: &str = "/run/records";
const CONFIGURATIONS: &str = "/run/net.d";
/// Plugins of the tests themselves.
const OWN: &str = "/run/plugins";
const DEBIAN: &str = "/usr/lib/cni";
const LEASES: &str = "/run/leases";

over_debian_s_packages!(release newest: {
    a_container_has_an_address_and_reaches_its_gateway
    a_chain_publishes_a_port_until_all_of_it_is_deleted
    a_check_finds_that_a_device_is_gone
    a_container_is_deleted_by_the_description_of_then
    devices_of_other_kinds_go_without_a_trace_as_well
    answers_of_all_versions_are_understood
    what_a_killed_client_has_begun_is_deleted
    what_a_chain_has_made_goes_when_it_fails
});

/// A host with a place for descriptions of networks.
struct Stage {
    rig: Rig,
    client: Client,
}

impl Stage {
    fn new() -> Self {
        for directory in [CONFIGURATIONS, OWN] {
            fs::create_dir(directory).unwrap();
        }
        Self { rig: Rig::new(), client: client() }
    }

    /// Makes a container and attaches it as `eth0`.
    fn container(&self, list: &List, id: &str) -> (Place, Request, Attached) {
        let place = Place::new(id, device::make_namespace().unwrap());
        rig::ip_command(&place, &["link", "set", "lo", "up"]);
        let request = Request::new(Key::new(&list.name, id, "eth0").unwrap());
        let attached = self.client.add(list, &request, place.fd()).unwrap();
        (place, request, attached)
    }
}

fn client() -> Client {
    Client::open(Path::new(RECORDS), &[OWN.into(), DEBIAN.into()]).unwrap()
}

/// Describes a network in a file, and reads it.
fn described(version: &str, plugins: &Value) -> List {
    let text = json!({"cniVersion": version, "name": "office", "plugins": plugins});
    fs::write(Path::new(CONFIGURATIONS).join("10-office.conflist"), text.to_string()).unwrap();
    Networks::read(Path::new(CONFIGURATIONS)).unwrap().find("office").unwrap().clone()
}

fn bridge() -> Value {
    json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {
            "type": "host-local", "dataDir": LEASES, "subnet": "10.50.0.0/24", "routes": [{"dst": "0.0.0.0/0"}],
        },
    })
}

/// The addresses that are given away.
fn leases() -> Vec<String> {
    let entries = fs::read_dir(Path::new(LEASES).join("office")).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut leases = Vec::from_iter(names.filter(|name| name.starts_with("10.")));
    leases.sort_unstable();
    leases
}

/// Makes a plugin of a script.
fn plugin(name: &str, script: &str) {
    let file = Path::new(OWN).join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What client and plugins have written down of attachments.
fn records() -> Vec<PathBuf> {
    Vec::from_iter(fs::read_dir(RECORDS).unwrap().map(|entry| entry.unwrap().path()))
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn a_container_has_an_address_and_reaches_its_gateway() {
    let stage = Stage::new();
    let list = described("1.0.0", &json!([bridge()]));
    let (place, request, attached) = stage.container(&list, "one");
    assert_eq!(attached.addresses[0].net, "10.50.0.2/24".parse().unwrap());
    assert_eq!(attached.addresses[0].gateway, Some(rig::ip("10.50.0.1")));
    assert_eq!(attached.inside().map(|device| device.name.as_str()).collect::<Vec<_>>(), ["eth0"]);
    assert_eq!(attached.routes[0].to, "0.0.0.0/0".parse().unwrap());
    assert!(answers(&stage.rig.host, &place, at("10.50.0.1:80"), at("10.50.0.1:80")), "the gateway");
    let peer = ping(&stage.rig.outside, &place, at("10.1.0.2:80"), at("10.1.0.2:80"));
    assert_eq!(peer, Some(rig::ip("10.1.0.1")), "and what lies behind it, by the host's address");

    let listing = stage.client.records().list().unwrap();
    assert_eq!(listing.known[0].key, request.key);
    assert_eq!(listing.known[0].attached.as_ref(), Some(&attached));
    let error = stage.client.add(&list, &request, place.fd()).unwrap_err();
    assert!(matches!(error, Error::Present(_)), "{error}");
    assert_eq!(leases(), ["10.50.0.2"], "nothing was done twice");
}

fn a_chain_publishes_a_port_until_all_of_it_is_deleted() {
    let stage = Stage::new();
    let list = described(
        "1.0.0",
        &json!([
            bridge(),
            {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "capabilities": {"mac": true}},
            {"type": "firewall", "backend": "iptables"},
            {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
        ]),
    );
    let place = Place::new("one", device::make_namespace().unwrap());
    let mut request = Request::new(Key::new("office", "one", "eth0").unwrap());
    request.arguments.push(("IgnoreUnknown".to_owned(), "1".to_owned()));
    request.capabilities.mac(Mac([2, 0, 0, 0, 0, 7])).ports(&[Mapping::new(8080, 80, Protocol::Tcp)]);
    let attached = stage.client.add(&list, &request, place.fd()).unwrap();
    assert_eq!(attached.inside().next().unwrap().mac, "02:00:00:00:00:07");
    for (client, port) in [(&stage.rig.outside, "10.1.0.1:8080"), (&stage.rig.host, "10.50.0.1:8080")] {
        assert!(answers(&place, client, at("10.50.0.2:80"), at(port)), "{port} from {}", client.name);
    }

    assert_eq!(stage.client.delete(&request.key, Some(place.fd())).unwrap(), Deleted::Now);
    assert!(!answers(&place, &stage.rig.outside, at("0.0.0.0:80"), at("10.1.0.1:8080")));
    assert_eq!(Devices::of(place.fd()).unwrap().find("eth0").unwrap(), None);
    let rules =
        run_in(&stage.rig.host, "iptables-save", &[]) + &run_in(&stage.rig.host, "nft", &["list", "ruleset"]);
    assert!(!rules.contains("10.50.0.2"), "{rules}");
    assert_eq!((leases(), records()), (vec![], vec![]));
    assert_eq!(stage.client.delete(&request.key, Some(place.fd())).unwrap(), Deleted::Never);

    request.capabilities.aliases(&["web".to_owned()]);
    let error = stage.client.add(&list, &request, place.fd()).unwrap_err();
    assert!(matches!(error, Error::NoCapability { .. }), "{error}");
    assert_eq!((leases(), records()), (vec![], vec![]));
}

fn a_check_finds_that_a_device_is_gone() {
    let stage = Stage::new();
    // That of Debian 12's portmap fails where there is no IPv6.
    let tuning = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}});
    let plugins = json!([bridge(), tuning, {"type": "firewall", "backend": "iptables"}]);
    let (place, request, _) = stage.container(&described("0.4.0", &plugins), "one");
    // Another process has other descriptors.
    let again = place.fd().try_clone_to_owned().unwrap();
    assert_eq!(stage.client.check(&request.key, again.as_fd()).unwrap(), Done::Well);
    rig::ip_command(&place, &["link", "del", "eth0"]);
    let error = stage.client.check(&request.key, place.fd()).unwrap_err();
    assert!(
        error.refusal().is_some() && error.to_string().contains("the plugin bridge refuses CHECK"),
        "{error}"
    );
    assert_eq!(stage.client.delete(&request.key, Some(again.as_fd())).unwrap(), Deleted::Now);
    let error = stage.client.check(&request.key, place.fd()).unwrap_err();
    assert!(matches!(error, Error::Missing(_)), "{error}");

    for (version, more, done) in [("0.3.1", false, Done::Unknown), ("1.0.0", true, Done::Disabled)] {
        let mut list = described(version, &json!([bridge()]));
        list.has_no_check = more;
        let (place, request, _) = stage.container(&list, version);
        assert_eq!(stage.client.check(&request.key, place.fd()).unwrap(), done);
    }
}

fn a_container_is_deleted_by_the_description_of_then() {
    let stage = Stage::new();
    let chain = json!([bridge(), {"type": "firewall", "backend": "iptables"}]);
    let (place, request, _) = stage.container(&described("1.0.0", &chain), "one");
    // By now the network is another, and the container has ended.
    described("1.0.0", &json!([{"type": "loopback"}]));
    drop(place);
    assert_eq!(stage.client.delete(&request.key, None).unwrap(), Deleted::Now);
    let rules = run_in(&stage.rig.host, "iptables-save", &[]);
    assert!(!rules.contains("10.50.0.2"), "{rules}");
    assert_eq!((leases(), records()), (vec![], vec![]));
}

fn devices_of_other_kinds_go_without_a_trace_as_well() {
    let stage = Stage::new();
    let ipam = &bridge()["ipam"];
    for plugin in [
        json!({"type": "ptp", "ipMasq": true, "ipam": ipam}),
        json!({"type": "macvlan", "master": "up0", "ipam": ipam}),
        // Older ones do not know the word, and use iptables.
        json!({"type": "bridge", "bridge": "cni1", "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables", "ipam": ipam}),
    ] {
        let (place, request, attached) = stage.container(&described("1.0.0", &json!([plugin])), "one");
        assert_eq!(attached.addresses.len(), 1, "{plugin}");
        assert_eq!(stage.client.check(&request.key, place.fd()).unwrap(), Done::Well, "{plugin}");
        drop(place);
        assert_eq!(stage.client.delete(&request.key, None).unwrap(), Deleted::Now);
        let rules = run_in(&stage.rig.host, "nft", &["list", "ruleset"]);
        assert!(!rules.contains("10.50.0"), "{plugin}: {rules}");
        assert_eq!((leases(), records()), (vec![], vec![]), "{plugin}");
    }
}

fn answers_of_all_versions_are_understood() {
    let stage = Stage::new();
    let spoken = stage.client.versions("office", "bridge").unwrap();
    assert!(spoken.len() >= 6, "{spoken:?}");
    for version in spoken {
        let (_place, request, attached) =
            stage.container(&described(version.as_str(), &json!([bridge()])), version.as_str());
        assert_eq!(attached.addresses.len(), 1, "{version}");
        assert_eq!(attached.addresses[0].gateway, Some(rig::ip("10.50.0.1")), "{version}");
        assert_eq!(attached.routes.len(), 1, "{version}");
        assert_eq!(stage.client.delete(&request.key, None).unwrap(), Deleted::Now);
    }
    assert_eq!((leases(), records()), (vec![], vec![]));
}

/// A plugin that says so when it has begun to add, and ends when it may.
const WAITS: &str = "\
[ $CNI_COMMAND = ADD ] && echo $$ >/run/reached.new && mv /run/reached.new /run/reached
for turn in $(seq 3000); do [ -e /run/go ] && break; sleep 0.02; done
[ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\": \"1.0.0\"}'
";

fn what_a_killed_client_has_begun_is_deleted() {
    if std::env::var_os(DOOMED).is_some() {
        let networks = Networks::read(Path::new(CONFIGURATIONS)).unwrap();
        let request = Request::new(Key::new("office", "one", "eth0").unwrap());
        let namespace = device::make_namespace().unwrap();
        drop(client().add(networks.find("office").unwrap(), &request, namespace.as_fd()));
        return;
    }
    let stage = Stage::new();
    plugin("waits", WAITS);
    described("1.0.0", &json!([bridge(), {"type": "waits"}, {"type": "firewall", "backend": "iptables"}]));
    // It is this very test, in the same namespaces.
    let own = Vec::from_iter(std::env::args().skip(1));
    let mut doomed = Command::new(std::env::current_exe().unwrap());
    let mut doomed = doomed.args(own).env(DOOMED, "1").spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while !Path::new("/run/reached").exists() {
        assert!(Instant::now() < end, "the second plugin is reached");
        std::thread::sleep(Duration::from_millis(5));
    }
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    assert_eq!(leases(), ["10.50.0.2"]);

    let listing = stage.client.records().list().unwrap();
    let [known] = &listing.known[..] else { panic!("{listing:?}") };
    assert!(known.attached.is_none(), "{known:?}");
    let error = client().limited(Duration::from_millis(100)).delete(&known.key, None).unwrap_err();
    let pid = fs::read_to_string("/run/reached").unwrap();
    assert!(matches!(error, Error::Busy { .. }) && error.to_string().contains(pid.trim()), "{error}");
    fs::write("/run/go", "").unwrap();
    assert_eq!(stage.client.delete(&known.key, None).unwrap(), Deleted::Now);
    assert_eq!((leases(), records()), (vec![], vec![]));
}

/// Calls by which the client makes progress, and nobody else in the test.
const CALLS: [&str; 8] =
    ["flock", "memfd_create", "ftruncate", "pidfd_open", "fsync", "rename", "unlink", "lseek"];

#[test]
fn at_whatever_moment_a_client_is_killed_nothing_is_left_when_it_is_deleted() {
    if std::env::var_os(DOOMED).is_some() {
        let networks = Networks::read(Path::new(CONFIGURATIONS)).unwrap();
        let request = Request::new(Key::new("office", "one", "eth0").unwrap());
        let namespace = device::make_namespace().unwrap();
        client().add(networks.find("office").unwrap(), &request, namespace.as_fd()).unwrap();
        client().delete(&request.key, Some(namespace.as_fd())).unwrap();
        fs::write("/run/survived", "").unwrap();
        return;
    }
    requires!(find_program("strace").is_some(), "needs strace");
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let client = scripted();
    for name in ["first", "second"] {
        let makes = format!(
            "if [ $CNI_COMMAND = ADD ]; then touch /run/made.{name}; else rm -f /run/made.{name}; fi"
        );
        plugin(name, &format!("{makes}; echo '{{}}'"));
    }
    described("1.0.0", &json!([{"type": "first"}, {"type": "second"}]));
    let made = || ["first", "second"].map(|name| Path::new("/run").join(format!("made.{name}")).exists());
    let key = Key::new("office", "one", "eth0").unwrap();
    let (mut known, mut unknown) = (0, 0);
    // strace(1) counts each call for itself.
    for call in CALLS {
        for number in 1.. {
            let mut doomed = Command::new("strace");
            doomed.args([
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "signal=none",
                "-e",
                &format!("trace={call}"),
            ]);
            doomed.args(["-e", &format!("inject={call}:signal=KILL:when={number}")]);
            doomed.arg(std::env::current_exe().unwrap()).args(std::env::args().skip(1));
            doomed.env(DOOMED, "1").output().unwrap();
            if fs::remove_file("/run/survived").is_ok() {
                assert!(number > 1, "{call} is called");
                break;
            }
            match client.delete(&key, None).unwrap() {
                Deleted::Now => known += 1,
                Deleted::Never => unknown += 1,
            }
            assert_eq!((made(), records()), ([false; 2], vec![]), "killed at {call} {number}");
        }
    }
    assert!(known > 15 && unknown > 3, "{known} moments with a record, {unknown} without");
}

fn what_a_chain_has_made_goes_when_it_fails() {
    let stage = Stage::new();
    plugin(
        "no",
        "[ $CNI_COMMAND = DEL ] || { echo '{\"code\": 11, \"msg\": \"not today\"}'; echo why >&2; exit 1; }",
    );
    let list =
        described("1.0.0", &json!([bridge(), {"type": "no"}, {"type": "firewall", "backend": "iptables"}]));
    let place = Place::new("one", device::make_namespace().unwrap());
    let request = Request::new(Key::new("office", "one", "eth0").unwrap());
    let error = stage.client.add(&list, &request, place.fd()).unwrap_err();
    assert_eq!(error.refusal().unwrap().code, Code::TryAgain);
    assert_eq!(
        error.to_string(),
        "the plugin no refuses ADD: not today (code 11, try again later); it says: why"
    );
    assert_eq!(Devices::of(place.fd()).unwrap().find("eth0").unwrap(), None);
    assert_eq!((leases(), records()), (vec![], vec![]));

    // One that cannot be taken back is kept for later.
    plugin("no", "echo '{\"code\": 100, \"msg\": \"never\"}'; exit 1");
    let error = stage.client.add(&list, &request, place.fd()).unwrap_err();
    assert!(matches!(error, Error::Left { .. }), "{error}");
    assert_eq!((leases(), records().len()), (vec![], 2), "the others have taken back what they did");
    assert!(stage.client.delete(&request.key, None).is_err());
    plugin("no", "");
    assert_eq!(stage.client.delete(&request.key, None).unwrap(), Deleted::Now);
    assert_eq!(records(), [] as [PathBuf; 0]);
}

/// A host whose plugins are scripts.
fn scripted() -> Client {
    for directory in ["/var/lib", "/run"] {
        let words = ["-t", "tmpfs", "tmpfs", directory];
        assert!(Command::new("mount").args(words).status().unwrap().success());
    }
    fs::create_dir(OWN).unwrap();
    fs::create_dir(CONFIGURATIONS).unwrap();
    client()
}

/// Attaches a container by scripts.
fn attach(client: &Client, plugins: &Value) -> Result<Attached, Error> {
    let list = described("1.0.0", plugins);
    let namespace = device::make_namespace().unwrap();
    let request = Request::new(Key::new("office", "one", "eth0").unwrap());
    client.add(&list, &request, namespace.as_fd())
}

#[test]
fn a_plugin_that_is_not_there_is_named_before_anything_is_done() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let client = scripted();
    plugin("first", "touch /run/done");
    let error = attach(&client, &json!([{"type": "first"}, {"type": "missing"}])).unwrap_err().to_string();
    assert!(error.starts_with("the plugin missing of network office is in none of"), "{error}");
    assert!(error.contains("(CNI_PATH), /run/plugins:/usr/lib/cni; install it there"), "{error}");
    assert!(!Path::new("/run/done").exists());
    assert_eq!(records(), [] as [PathBuf; 0]);
}

#[test]
fn a_plugin_is_told_what_the_specification_says_and_nothing_else() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let client = scripted().searching("/usr/bin:/bin");
    plugin(
        "tells",
        "env >/run/env.$CNI_COMMAND; cat >/run/in.$CNI_COMMAND; readlink /proc/self/fd/* >/run/fds; echo '{\"ips\": [], \"mine\": 1}'",
    );
    attach(&client, &json!([{"type": "tells", "x": {"y": 1}}])).unwrap();
    let told = fs::read_to_string("/run/env.ADD").unwrap();
    // A shell adds some of its own.
    let mut told = Vec::from_iter(
        told.lines().filter(|line| !["PWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own))),
    );
    told.sort_unstable();
    let [command, container, device, namespace, plugins, path] = told[..] else { panic!("{told:?}") };
    assert_eq!([command, container, device], ["CNI_COMMAND=ADD", "CNI_CONTAINERID=one", "CNI_IFNAME=eth0"]);
    assert!(namespace.starts_with(&format!("CNI_NETNS=/proc/{}/fd/", std::process::id())), "{namespace}");
    assert_eq!([plugins, path], ["CNI_PATH=/run/plugins:/usr/lib/cni", "PATH=/usr/bin:/bin"]);
    let asked: Value = serde_json::from_slice(&fs::read("/run/in.ADD").unwrap()).unwrap();
    assert_eq!(asked, json!({"type": "tells", "x": {"y": 1}, "name": "office", "cniVersion": "1.0.0"}));
    let descriptors = fs::read_to_string("/run/fds").unwrap();
    assert!(!descriptors.contains("net:["), "no namespace leaks into a plugin: {descriptors}");

    let key = Key::new("office", "one", "eth0").unwrap();
    assert_eq!(client.delete(&key, None).unwrap(), Deleted::Now);
    let asked: Value = serde_json::from_slice(&fs::read("/run/in.DEL").unwrap()).unwrap();
    assert_eq!(asked["prevResult"], json!({"cniVersion": "1.0.0", "ips": [], "mine": 1}));
    assert!(!fs::read_to_string("/run/env.DEL").unwrap().contains("CNI_NETNS"), "there is no namespace");
}

#[test]
fn a_plugin_that_misbehaves_is_named_with_what_it_says() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let client = scripted().limited(Duration::from_millis(300));
    for (script, wrong) in [
        ("exit 7", "the plugin odd ended with 7 at ADD"),
        ("echo oh; exit 7", "the plugin odd ended with 7 at ADD; it says: oh"),
        ("echo no >&2; kill -9 $$", "was ended by signal 9 at ADD; it says: no"),
        (
            "echo wait >&2; sleep 100 & sleep 100",
            "was killed, since it took more than 0.3 s, at ADD; it says: wait",
        ),
        ("", "answers ADD with what is not understood: it is empty"),
        ("echo []", "it is no JSON object"),
        ("echo '{'", "it is no JSON: EOF"),
        ("echo '{\"ips\": [{\"address\": \"x\"}]}'", "ips[0].address is \"x\""),
        ("head -c 1200000 /dev/zero", "it is longer than 1048576 bytes"),
    ] {
        plugin("odd", &format!("[ $CNI_COMMAND = ADD ] || exit 0\n{script}"));
        let begin = Instant::now();
        let error = attach(&client, &json!([{"type": "odd"}])).unwrap_err().to_string();
        assert!(error.contains(wrong), "{script}: {error}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{script}");
        assert_eq!(records(), [] as [PathBuf; 0], "{script}");
    }
    // What it leaves behind holds up nobody.
    plugin("odd", "[ $CNI_COMMAND = DEL ] || { setsid sleep 60 & echo $! >/run/daemon; echo '{}'; }");
    attach(&client, &json!([{"type": "odd"}])).unwrap();
    let key = Key::new("office", "one", "eth0").unwrap();
    assert_eq!(client.delete(&key, None).unwrap(), Deleted::Now);
    let daemon = fs::read_to_string("/run/daemon").unwrap();
    assert!(Command::new("kill").arg(daemon.trim()).status().unwrap().success());
}

#[test]
fn the_newest_version_that_all_plugins_speak_is_chosen() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let client = scripted();
    let speaks = |name: &str, versions: &str| {
        let answer = format!("{{\"cniVersion\": \"1.1.0\", \"supportedVersions\": [{versions}]}}");
        plugin(
            name,
            &format!(
                "cat >/run/in.$CNI_COMMAND; [ $CNI_COMMAND = VERSION ] && echo '{answer}' || echo '{{}}'"
            ),
        );
    };
    speaks("old", r#""0.3.1", "0.4.0", "1.0.0""#);
    speaks("new", r#""0.4.0", "1.0.0", "1.1.0""#);
    let text = json!({"cniVersions": ["0.3.1", "0.4.0", "1.1.0"], "name": "office", "plugins": [{"type": "new"}, {"type": "old"}]});
    let list = List::read(text.to_string().as_bytes(), Path::new("office")).unwrap();
    let namespace = device::make_namespace().unwrap();
    let request = Request::new(Key::new("office", "one", "eth0").unwrap());
    client.add(&list, &request, namespace.as_fd()).unwrap();
    let asked: Value = serde_json::from_slice(&fs::read("/run/in.ADD").unwrap()).unwrap();
    assert_eq!(asked["cniVersion"], "0.4.0");
    assert_eq!(client.status(&list).unwrap(), Done::Unknown);

    speaks("old", r#""0.2.0""#);
    let error = client.status(&list).unwrap_err().to_string();
    assert!(error.contains("the plugin old of network office speaks no version"), "{error}");
    assert!(error.contains("0.3.1, 0.4.0, 1.1.0"), "{error}");
}

#[test]
fn what_belongs_to_nobody_is_collected() {
    let tree = cached("networks/newest");
    requires!(tree.is_some(), "needs CNI plugins; cargo xtask networks fetches them");
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    tree::lay(&tree.unwrap());
    let stage = Stage::new();
    requires!(
        stage.client.versions("office", "bridge").unwrap().contains(&Version::V1_1_0),
        "needs plugins that speak 1.1.0"
    );
    plugin("tells", "cat >/run/in.$CNI_COMMAND; echo '{\"cniVersion\": \"1.1.0\"}'");
    let mut list = described("1.1.0", &json!([bridge(), {"type": "tells"}]));
    assert_eq!(stage.client.status(&list).unwrap(), Done::Well);
    let (_one, kept, _) = stage.container(&list, "one");
    let (_two, stale, _) = stage.container(&list, "two");
    list.has_no_collection = true;
    assert_eq!(stage.client.collect(&list, &[]).unwrap(), Done::Disabled);
    list.has_no_collection = false;
    let other = Key::new("other", "one", "eth0").unwrap();
    assert_eq!(stage.client.collect(&list, &[kept.key, other]).unwrap(), Done::Well);
    assert_eq!(leases(), ["10.50.0.2"]);
    let asked: Value = serde_json::from_slice(&fs::read("/run/in.GC").unwrap()).unwrap();
    assert_eq!(asked["cni.dev/valid-attachments"], json!([{"containerID": "one", "ifname": "eth0"}]));
    assert_eq!(stage.client.delete(&stale.key, None).unwrap(), Deleted::Never);

    plugin("tells", "echo '{\"code\": 50, \"msg\": \"full\"}'; exit 1");
    let error = stage.client.status(&list).unwrap_err();
    assert_eq!(error.refusal().unwrap().code, Code::Unavailable);
    let errors = stage.client.collect(&list, &[]).unwrap_err();
    // That of the attachment, which cannot be deleted, and that of GC.
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!(leases(), [] as [&str; 0]);
}

#[test]
fn capabilities_are_told_to_those_who_take_them() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let client = scripted();
    for name in ["a", "b"] {
        plugin(name, &format!("[ $CNI_COMMAND = ADD ] && cat >/run/{name}; echo '{{}}'"));
    }
    let list = described(
        "1.0.0",
        &json!([{"type": "a", "capabilities": {"mac": true, "ips": true}}, {"type": "b", "capabilities": {"mac": false}}]),
    );
    assert!(list.takes(Capabilities::MAC) && !list.takes(Capabilities::PORTS));
    let namespace = device::make_namespace().unwrap();
    let mut request = Request::new(Key::new("office", "one", "eth0").unwrap());
    request.capabilities.mac(Mac([2, 0, 0, 0, 0, 1]));
    client.add(&list, &request, namespace.as_fd()).unwrap();
    let asked =
        |name| -> Value { serde_json::from_slice(&fs::read(format!("/run/{name}")).unwrap()).unwrap() };
    assert_eq!(asked("a")["runtimeConfig"], json!({"mac": "02:00:00:00:00:01"}));
    assert_eq!(asked("a").get("capabilities"), None);
    assert_eq!(asked("b").get("runtimeConfig"), None);
}
