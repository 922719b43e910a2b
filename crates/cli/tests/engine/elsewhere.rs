//! Networks from elsewhere: described in files, and made by Debian's CNI plugins. The test is a host of its own.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_testkit::{cached, find_program, wait_until};
use serde_json::{Value, json};

use crate::networks::{greeter, heard};
use crate::shop::{IMAGE, Shop};

/// Makes a shop on a host with plugins and a description of the network `office`, or ends the test where it cannot run.
macro_rules! office {
    () => {{
        let plugins = $crate::elsewhere::plugins();
        bulkhead_testkit::requires!(
            plugins.is_some(),
            "needs CNI plugins, which cargo xtask networks fetches, and nft, which these start"
        );
        $crate::elsewhere::opened($crate::shop::shop!(), plugins.unwrap())
    }};
}

/// Where plugins are, which start nft(8) and no iptables.
pub(crate) fn plugins() -> Option<PathBuf> {
    let plugins = cached("networks/newest").map(|tree| tree.join("usr/lib/cni"))?;
    find_program("nft").map(|_| plugins)
}

/// Has all commands of a shop find the network `office`.
pub(crate) fn opened(mut shop: Shop, plugins: PathBuf) -> Shop {
    let directory = shop.path("net.d");
    fs::create_dir(&directory).unwrap();
    shop.environment = vec![("NETCONFPATH", directory), ("CNI_PATH", plugins)];
    describe(&shop, "office", &[bridge(&shop, "cni0", "10.50.0.0/24"), portmap()]);
    shop
}

fn file(shop: &Shop, name: &str) -> PathBuf {
    shop.path("net.d").join(format!("10-{name}.conflist"))
}

/// Describes a network, or describes it anew.
fn describe(shop: &Shop, name: &str, plugins: &[Value]) {
    let text = json!({ "cniVersion": "1.0.0", "name": name, "plugins": plugins });
    fs::write(file(shop, name), text.to_string()).unwrap();
}

fn bridge(shop: &Shop, device: &str, subnet: &str) -> Value {
    json!({
        "type": "bridge", "bridge": device, "isGateway": true, "ipMasq": true, "ipMasqBackend": "nftables",
        "capabilities": { "ips": true, "mac": true },
        "ipam": {
            "type": "host-local", "dataDir": shop.path("leases"), "subnet": subnet,
            "routes": [{ "dst": "0.0.0.0/0" }],
        },
        "dns": { "nameservers": ["10.50.0.53"], "search": ["office.example"] },
    })
}

fn portmap() -> Value {
    json!({ "type": "portmap", "backend": "nftables", "capabilities": { "portMappings": true } })
}

/// The addresses of a network that are given away.
pub(crate) fn leases(shop: &Shop, network: &str) -> Vec<String> {
    let entries = fs::read_dir(shop.path("leases").join(network)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut leases = Vec::from_iter(names.filter(|name| name.starts_with("10.")));
    leases.sort_unstable();
    leases
}

/// What is written down of attachments, and the plugins' rules of the packet filter.
pub(crate) fn traces(shop: &Shop) -> Vec<String> {
    let entries = fs::read_dir(shop.path("engine/cni")).into_iter().flatten().flatten();
    let mut traces = Vec::from_iter(entries.map(|entry| entry.file_name().into_string().unwrap()));
    let rules = shop.sandbox.command("nft").args(["list", "ruleset"]).output().succeeds().stdout;
    traces.extend(rules.lines().filter(|line| line.contains("10.50.0.")).map(|line| line.trim().to_owned()));
    traces
}

fn said_in(shop: &Shop, container: &str, script: &str) -> String {
    shop.said(&["exec", container, "sh", "-c", script])
}

#[test]
fn a_container_has_what_the_plugins_give_it() {
    let shop = office!();
    let listed = shop.said(&["network", "ls", "--filter", "driver=cni", "--format", "{{.Name}} {{.Scope}}"]);
    assert_eq!(listed, "office local\n", "before anybody has used it");
    let options = ["-d", "--name", "web", "--network", "office", "-p", "8080:80", "--ip", "10.50.0.77"];
    let options = [&options[..], &["--mac-address", "02:00:00:00:00:07"]].concat();
    shop.with("run", &options, &["sh", "-c", &greeter(80, "office")]).output().succeeds();
    for at in ["127.0.0.1:8080", "10.50.0.1:8080"] {
        wait_until("its port answers", || heard(at).as_deref() == Some("hello office"));
    }
    let inside = said_in(&shop, "web", "ip -o addr show eth0; ip route; cat /etc/hosts /etc/resolv.conf");
    for expected in [
        "10.50.0.77/24",
        "default via 10.50.0.1 dev eth0",
        "10.50.0.77\t",
        "nameserver 10.50.0.53\n",
        "search office.example\n",
    ] {
        assert!(inside.contains(expected), "{expected} is in {inside}");
    }
    assert!(said_in(&shop, "web", "cat /sys/class/net/eth0/address").contains("02:00:00:00:00:07"));
    let settings = &shop.inspect("web")["NetworkSettings"];
    let office = &settings["Networks"]["office"];
    assert_eq!((&office["IPAddress"], &office["Gateway"]), (&json!("10.50.0.77"), &json!("10.50.0.1")));
    assert_eq!((&office["IPPrefixLen"], &office["MacAddress"]), (&json!(24), &json!("02:00:00:00:00:07")));
    assert_eq!(settings["Ports"]["80/tcp"], json!([{ "HostIp": "0.0.0.0", "HostPort": "8080" }]));
    assert_eq!(shop.said(&["port", "web"]), "80/tcp -> 0.0.0.0:8080\n");
    assert_eq!(shop.said(&["ps", "--format", "{{.Ports}}"]).trim(), "0.0.0.0:8080->80/tcp");
    for network in ["office", "cni:office"] {
        let filter = format!("network={network}");
        assert_eq!(shop.said(&["ps", "--filter", &filter, "--format", "{{.Names}}"]), "web\n");
    }
    let network = shop.said(&["network", "inspect", "office"]);
    let network: Value = serde_json::from_str(&network).unwrap();
    assert_eq!(network[0]["Options"]["plugins"], "bridge,portmap");
    assert_eq!(network[0]["IPAM"]["Config"][0], json!({ "Subnet": "10.50.0.0/24", "Gateway": "10.50.0.1" }));
    let members = network[0]["Containers"].as_object().unwrap().values();
    assert_eq!(Vec::from_iter(members.map(|of| &of["IPv4Address"])), [&json!("10.50.0.77/24")]);
    // One port of the host for one of them, whoever publishes it.
    for network in ["office", "bridge"] {
        let second = shop.script(&["--network", network, "-p", "8080:80"], "true").output();
        second.fails(125, "it leads to container web already");
    }
    assert!(shop.said(&["system", "check"]).contains("as it should be"));

    shop.said(&["stop", "web"]);
    wait_until("all is taken back", || leases(&shop, "office").is_empty() && traces(&shop).is_empty());
    assert_eq!(shop.inspect("web")["NetworkSettings"]["Networks"]["office"]["IPAddress"], "");
    shop.said(&["start", "web"]);
    wait_until("its port answers again", || heard("127.0.0.1:8080").is_some());
    shop.said(&["rm", "-f", "web"]);
    assert_eq!((leases(&shop, "office"), traces(&shop)), (vec![], vec![]));
}

#[test]
fn what_nobody_can_give_is_refused_with_the_way_out() {
    let shop = office!();
    let chain = [bridge(&shop, "cni1", "10.51.0.0/24")];
    describe(&shop, "plain", &chain);
    describe(&shop, "absent", &[json!({ "type": "no-such-plugin" })]);
    fs::write(shop.path("net.d/99-broken.conflist"), "{").unwrap();
    for (options, expected) in [
        (&["--network", "office", "--network-alias", "www"][..], "no plugin of network office has `aliases`"),
        (&["--network", "plain", "-p", "80:80"], "no plugin of network plain takes portMappings"),
        (&["--network", "office", "-p", "80:80", "--publish-mode", "proxy"], "the plugins of network office"),
        (&["--network", "absent"], "the plugin no-such-plugin of network absent is in none"),
        (&["--network", "office", "--ip", "10.99.0.1"], "the plugin bridge refuses ADD"),
        (&["--network", "cni:nowhere"], "no network nowhere is described in"),
        (&["--network", "nowhere"], "99-broken.conflist: line 1 is no JSON"),
        (&["--network", "office", "--network", "cni:office"], "connected with it already"),
    ] {
        let output = shop.script(options, "true").output();
        output.fails(125, expected);
    }
    fs::remove_file(shop.path("net.d/99-broken.conflist")).unwrap();
    shop.script(&["--network", "ofice"], "true").output().fails(125, "did you mean office?");
    let (office, plain) = (file(&shop, "office"), file(&shop, "plain"));
    for (words, expected) in [
        (
            &["network", "create", "office"][..],
            format!("{} describes a network of that name", office.display()),
        ),
        (&["network", "create", "--driver", "cni", "third"], "are there without being made".to_owned()),
        (&["network", "rm", "plain"], format!("{} describes it", plain.display())),
        (&["network", "rm", "--force", "cni:plain"], format!("{} describes it", plain.display())),
        (&["network", "inspect", "nowhere"], "nowhere".to_owned()),
        (
            &["network", "create", "--subnet", "10.51.0.0/25", "third"],
            "network plain has 10.51.0.0/24; choose another".to_owned(),
        ),
    ] {
        let output = shop.bulkhead(words).output();
        assert!(output.code() != 0 && output.stderr.contains(&expected), "{output}");
    }
    let mut lost = shop.bulkhead(&["network", "ls"]);
    lost = lost.env("NETCONFPATH", "net.d");
    lost.output().fails(1, "a path that begins with `/`");
    assert_eq!(shop.said(&["ps", "-aq"]), "", "nothing is left of what was refused");
    assert_eq!((leases(&shop, "office"), traces(&shop)), (vec![], vec![]));
}

#[test]
fn a_container_is_in_networks_of_both_kinds_while_it_runs() {
    let shop = office!();
    shop.said(&["network", "create", "--subnet", "10.81.0.0/24", "own"]);
    let options = ["-d", "--name", "web", "--network", "own", "--network", "office", "-p", "8081:80"];
    shop.with("run", &options, &["sh", "-c", &greeter(80, "both")]).output().succeeds();
    let ways = || {
        let routes = said_in(&shop, "web", "ip route");
        let everywhere = routes.lines().filter(|route| route.starts_with("default"));
        Vec::from_iter(everywhere.map(|route| route.trim().to_owned()))
    };
    let addresses = || said_in(&shop, "web", "ip -o -4 addr");
    assert_eq!(ways(), ["default via 10.81.0.1 dev eth0"], "the first one is its way out");
    assert!(addresses().contains("eth1    inet 10.50.0.2/24"), "{}", addresses());
    wait_until("an own network publishes its port", || heard("127.0.0.1:8081").is_some());
    assert!(said_in(&shop, "web", "cat /etc/resolv.conf").contains("127.0.0.11"), "own networks have names");
    assert!(shop.said(&["system", "check"]).contains("as it should be"), "no plugin misses its way");

    shop.said(&["network", "disconnect", "own", "web"]);
    assert_eq!(ways(), ["default via 10.50.0.1 dev eth1"], "then by the one that is left");
    shop.said(&["network", "connect", "--gw-priority", "7", "own", "web"]);
    assert_eq!(ways(), ["default via 10.81.0.1 dev eth2"], "and at once by the one that is preferred");
    shop.said(&["network", "disconnect", "office", "web"]);
    assert_eq!((leases(&shop, "office"), traces(&shop)), (vec![], vec![]));
    assert!(!addresses().contains("10.50."), "{}", addresses());
    shop.bulkhead(&["network", "disconnect", "office", "web"]).output().fails(1, "is not connected with it");
    shop.said(&["network", "connect", "--ip", "10.50.0.9", "office", "web"]);
    assert!(addresses().contains("10.50.0.9/24"), "{}", addresses());
    shop.bulkhead(&["network", "connect", "office", "web"]).output().fails(1, "is connected with it already");
    assert!(said_in(&shop, "web", "cat /etc/hosts").contains("10.50.0.9\t"), "it finds itself there, too");
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    shop.said(&["restart", "web"]);
    assert_eq!(leases(&shop, "office"), ["10.50.0.9"]);
    assert_eq!(ways(), ["default via 10.81.0.1 dev eth2"]);
    shop.said(&["rm", "-f", "web"]);
    assert_eq!((leases(&shop, "office"), traces(&shop)), (vec![], vec![]));
}

#[test]
fn containers_with_users_of_their_own_and_pods_are_attached_too() {
    let shop = office!();
    let options =
        ["-d", "--uidmap", "0:100000:65536", "--name", "web", "--network", "office", "-p", "8082:80"];
    shop.with("run", &options, &["sh", "-c", &greeter(80, "users")]).output().succeeds();
    wait_until("it answers", || heard("127.0.0.1:8082").as_deref() == Some("hello users"));
    let own = || said_in(&shop, "web", "cat /etc/hosts; ip -o -4 addr show eth0");
    assert!(own().contains("10.50.0.2\t") && own().contains("10.50.0.2/24"), "{}", own());
    shop.said(&["restart", "web"]);
    wait_until("it answers again", || heard("127.0.0.1:8082").as_deref() == Some("hello users"));
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    shop.said(&["rm", "-f", "web"]);
    assert_eq!((leases(&shop, "office"), traces(&shop)), (vec![], vec![]));
    for options in [&["--uidmap", "0:100000:65536"][..], &[]] {
        let options = [options, &["--name", "bad", "--network", "office", "-p", "8082:80"]].concat();
        shop.with("run", &options, &["/not-there"]).output().fails(127, "/not-there");
        assert_eq!((leases(&shop, "office"), traces(&shop)), (vec![], vec![]), "{options:?}");
        shop.said(&["rm", "bad"]);
    }

    let parent = shop.parent();
    shop.said(&["pod", "create", "--cgroup-parent", &parent, "-p", "8083:80", "--network", "office", "both"]);
    let run = |name: &str, script: &str| {
        let words =
            ["run", "-d", "--pod", "both", "--name", name, "--stop-timeout", "1", IMAGE, "sh", "-c", script];
        shop.said(&words);
    };
    run("one", &greeter(80, "pod"));
    run("two", "sleep 1000");
    wait_until("the pod answers", || heard("127.0.0.1:8083").as_deref() == Some("hello pod"));
    let told = said_in(&shop, "two", "cat /etc/hosts; ip -o -4 addr show eth0");
    let [lease] = &leases(&shop, "office")[..] else { panic!("the pod has one address") };
    assert!(told.contains(&format!("{lease}\t")) && told.contains(&format!("{lease}/24")), "{told}");
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    shop.said(&["pod", "stop", "both"]);
    wait_until("all is taken back", || leases(&shop, "office").is_empty() && traces(&shop).is_empty());
    shop.said(&["pod", "start", "both"]);
    wait_until("the pod answers again", || heard("127.0.0.1:8083").as_deref() == Some("hello pod"));
    shop.said(&["pod", "rm", "-f", "both"]);
    assert_eq!((leases(&shop, "office"), traces(&shop)), (vec![], vec![]));
}

#[test]
fn an_own_network_comes_first_and_the_word_cni_means_the_other() {
    let shop = office!();
    fs::rename(file(&shop, "office"), shop.path("office.conflist")).unwrap();
    shop.said(&["network", "create", "--subnet", "10.82.0.0/24", "office"]);
    fs::rename(shop.path("office.conflist"), file(&shop, "office")).unwrap();
    let address = |network: &str| {
        shop.script(&["--network", network], "ip -o -4 addr show eth0").output().succeeds().stdout
    };
    assert!(address("office").contains("10.82.0.2/24"), "{}", address("office"));
    assert!(address("cni:office").contains("10.50.0."), "{}", address("cni:office"));
    let listed = shop.said(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]);
    assert!(listed.contains("cni:office cni\n") && listed.contains("\noffice bridge\n"), "{listed}");
    shop.said(&["network", "rm", "office"]);
    assert!(address("office").contains("10.50.0."), "{}", address("office"));
}

#[test]
fn what_is_attached_is_taken_back_as_it_was_described_then() {
    let shop = office!();
    shop.with("run", &["-d", "--name", "web", "--network", "office"], &["sleep", "1000"]).output().succeeds();
    let device = |words: &[&str]| said_in(&shop, "web", &words.join(" "));
    assert!(device(&["ip", "-o", "link"]).contains("eth0"));
    // Somebody takes away what a plugin has made.
    let pid = shop.said(&["inspect", "--format", "{{.State.Pid}}", "web"]);
    let net = format!("--net=/proc/{}/ns/net", pid.trim());
    shop.sandbox.command("nsenter").args([&net, "ip", "link", "del", "eth0"]).output().succeeds();
    let check = shop.bulkhead(&["system", "check"]).output();
    assert_ne!(check.code(), 0);
    assert!(
        check.stdout.contains("eth0 of container web in network office: the plugin bridge refuses CHECK"),
        "{check}"
    );
    shop.said(&["restart", "web"]);
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    fs::remove_file(file(&shop, "office")).unwrap();
    let listed = shop.said(&["network", "ls", "--filter", "driver=cni", "--format", "{{.Name}}"]);
    assert_eq!(listed, "office\n", "something is connected with it still");
    shop.bulkhead(&["network", "rm", "office"]).output().fails(1, "with which container web is connected");
    shop.said(&["stop", "web"]);
    wait_until("all is taken back", || leases(&shop, "office").is_empty() && traces(&shop).is_empty());
    shop.bulkhead(&["start", "web"]).output().fails(1, "no network office is described in");
    shop.said(&["rm", "web"]);
    assert_eq!(shop.said(&["network", "ls", "--filter", "driver=cni", "--quiet"]), "");
    shop.said(&["network", "prune", "--force"]);
}

#[test]
fn a_plugin_that_cannot_take_back_is_named_and_asked_again() {
    let shop = office!();
    let (own, fails) = (shop.path("plugins"), shop.path("fails"));
    fs::create_dir(&own).unwrap();
    let script = format!(
        "#!/bin/sh\ncase $CNI_COMMAND in ADD) echo '{{\"cniVersion\": \"1.0.0\"}}';; \
         DEL) [ ! -e {} ] || {{ echo '{{\"code\": 101, \"msg\": \"the switch is off\"}}'; exit 1; }};; esac\n",
        fails.display()
    );
    shop.script_file(&own.join("switch"), &script);
    let mut shop = shop;
    let plugins = shop.environment[1].1.display().to_string();
    shop.environment[1].1 = PathBuf::from(format!("{}:{plugins}", own.display()));
    describe(&shop, "office", &[json!({ "type": "switch" }), json!({ "type": "tuning" })]);
    shop.with("run", &["-d", "--name", "web", "--network", "office"], &["sleep", "1000"]).output().succeeds();
    fs::write(&fails, "").unwrap();
    let removed = shop.bulkhead(&["rm", "-f", "web"]).output();
    let removed = removed.fails(1, "the plugin switch refuses DEL: the switch is off (code 101)");
    assert!(removed.stderr.contains("engine/cni/office@"), "where it is written down: {removed}");
    let record = |path: &Path| fs::read_dir(path).unwrap().flatten().count();
    assert_eq!(record(&shop.path("engine/cni")), 2, "its record and its lock");
    fs::remove_file(&fails).unwrap();
    assert!(shop.bulkhead(&["system", "check"]).output().stdout.contains("removed"));
    assert_eq!(record(&shop.path("engine/cni")), 0);
    assert_eq!(shop.said(&["ps", "-aq"]), "");
}
