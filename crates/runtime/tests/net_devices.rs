//! Network devices of the host that a container gets. Each test has a network namespace of its own for a host.

use bulkhead_testkit::{Bundle, Network, Sandbox, find_program, in_fresh_namespaces, is_root, requires};
use serde_json::{Value, json};

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_bulkrun"))
}

/// Tells whether such tests can run here.
fn is_possible() -> bool {
    is_root() && find_program("ip").is_some()
}

/// Runs ip(8) in the namespace that stands for the host.
#[track_caller]
fn ip(sandbox: &Sandbox, words: &str) -> String {
    sandbox.command("ip").args(words.split(' ')).output().succeeds().stdout
}

/// Makes a pair of devices; the other end stays.
fn device(sandbox: &Sandbox, name: &str) {
    ip(sandbox, &format!("link add {name} type veth peer name other-{name}"));
}

fn exists(sandbox: &Sandbox, name: &str) -> bool {
    sandbox.command("ip").args(["link", "show", name]).output().code() == 0
}

fn with_devices(bundle: Bundle, devices: &Value) -> Bundle {
    bundle.edit(|config| config["linux"]["netDevices"] = devices.clone())
}

/// Runs ip(8) in another namespace.
#[track_caller]
fn ip_in(network: &Network, sandbox: &Sandbox, words: &str) -> String {
    network.command(sandbox, "ip").args(words.split(' ')).output().succeeds().stdout
}

#[test]
fn a_device_comes_with_its_attributes_and_is_up() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    ip(&sandbox, "link set bh0 mtu 1789 address 02:11:22:33:44:55");
    let bundle =
        with_devices(sandbox.bundle("moved").args(["ip", "link", "show", "bh0"]), &json!({ "bh0": {} }));
    let output = sandbox.run(&bundle).output().succeeds();
    for words in ["mtu 1789", "02:11:22:33:44:55", ",UP"] {
        assert!(output.stdout.contains(words), "{words}: {output}");
    }
    assert!(!exists(&sandbox, "bh0"), "the kernel destroys it with its namespace");
}

#[test]
fn a_device_gets_another_name_or_a_number() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    for name in ["bh0", "bh1", "bh2"] {
        device(&sandbox, name);
    }
    ip(&sandbox, "link set bh0 up");
    let devices = json!({ "bh0": { "name": "inner" }, "bh1": { "name": "e%d" }, "bh2": { "name": "e%d" } });
    let bundle = with_devices(sandbox.bundle("named").script("cd /sys/class/net && echo *"), &devices);
    let output = sandbox.run(&bundle).output().succeeds();
    let names: Vec<_> = output.stdout.split_whitespace().filter(|name| !name.ends_with("tnl0")).collect();
    for name in ["e0", "e1", "inner", "lo"] {
        assert!(names.contains(&name), "{name}: {output}");
    }
    assert!(!names.contains(&"bh0"), "{output}");
}

#[test]
fn lasting_addresses_come_along_and_no_others() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    ip(&sandbox, "link set bh0 up");
    for address in [
        "192.0.2.1/24 broadcast 192.0.2.255 label bh0:x",
        "192.0.2.2/24 noprefixroute",
        "198.51.100.1 peer 198.51.100.2",
        "2001:db8::1/64 nodad",
        // None of these is to last, or to be reached from anywhere.
        "203.0.113.77/24 scope link",
        "192.0.2.78/24 valid_lft 1000 preferred_lft 1000",
        "2001:db8::78/64 valid_lft 1000 preferred_lft 1000 nodad",
    ] {
        ip(&sandbox, &format!("address add {address} dev bh0"));
    }
    let elsewhere = Network::new(&sandbox);
    let bundle = sandbox.bundle("addresses").namespace_at("network", elsewhere.path()).args(["true"]);
    sandbox.run(&with_devices(bundle, &json!({ "bh0": { "name": "in0" } }))).output().succeeds();
    let shown = ip_in(&elsewhere, &sandbox, "-json address show in0");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let addresses = shown[0]["addr_info"].as_array().unwrap();
    let mut global = addresses.iter().filter(|address| address["scope"] == "global");
    let mut next = || global.next().unwrap_or_else(|| panic!("one is missing: {shown}"));
    let first = next();
    assert_eq!(
        (&first["local"], &first["broadcast"]),
        (&json!("192.0.2.1"), &json!("192.0.2.255")),
        "{shown}"
    );
    assert_eq!(first["label"], "in0", "a label bears the device's name: {shown}");
    let peer = next();
    assert_eq!(
        (&peer["local"], &peer["address"]),
        (&json!("198.51.100.1"), &json!("198.51.100.2")),
        "{shown}"
    );
    let second = next();
    assert_eq!((&second["local"], &second["noprefixroute"]), (&json!("192.0.2.2"), &json!(true)), "{shown}");
    assert_eq!(next()["local"], "2001:db8::1", "{shown}");
    assert_eq!(global.next(), None, "{shown}");
    assert!(!shown.to_string().contains("203.0.113.77"), "{shown}");
}

#[test]
fn the_container_may_have_a_user_namespace() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    ip(&sandbox, "address add 192.0.2.1/24 dev bh0");
    let maps = [(0, 100_000, 65536)];
    let bundle = sandbox.bundle("user").user_namespace(&maps, &maps).owned_by(100_000, 100_000);
    let bundle = bundle.args(["ip", "address", "show", "in0"]);
    let output = sandbox.run(&with_devices(bundle, &json!({ "bh0": { "name": "in0" } }))).output().succeeds();
    assert!(output.stdout.contains("192.0.2.1/24") && output.stdout.contains(",UP"), "{output}");
}

#[test]
fn a_device_stays_in_a_namespace_that_was_joined() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    ip(&sandbox, "link add bh0 type veth peer name bh1");
    let elsewhere = Network::new(&sandbox);
    let bundle = sandbox.bundle("joined").namespace_at("network", elsewhere.path()).args(["sleep", "1000"]);
    let bundle = with_devices(bundle, &json!({ "bh0": {} }));
    sandbox.launch(&bundle);
    sandbox.exec(&bundle, ["ip", "link", "show", "bh0"]).output().succeeds();
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
    assert!(ip_in(&elsewhere, &sandbox, "link show bh0").contains("bh0"), "its namespace has it");
    assert!(exists(&sandbox, "bh1") && !exists(&sandbox, "bh0"), "the other end stayed");
}

#[test]
fn hooks_and_kernel_parameters_find_the_device_there() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    let bundle = sandbox.bundle("parameter").args(["cat", "/proc/sys/net/ipv4/conf/in0/forwarding"]);
    let bundle =
        bundle.hook_script("createRuntime", "PATH=/usr/sbin:/sbin:/bin; ! ip link show bh0 2>/dev/null");
    let bundle = bundle.hook_script("createContainer", "PATH=/usr/sbin:/sbin:/bin; ip link show in0");
    let bundle = with_devices(bundle, &json!({ "bh0": { "name": "in0" } }))
        .edit(|config| config["linux"]["sysctl"]["net.ipv4.conf.in0.forwarding"] = "1".into());
    sandbox.run(&bundle).output().succeeds().prints("1\n");
}

#[test]
fn what_cannot_be_moved_is_said_before_anything_is() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    let elsewhere = Network::new(&sandbox);
    ip_in(&elsewhere, &sandbox, "link add taken type veth peer name other-taken");
    for (short, devices, place, words) in [
        ("missing", json!({ "bh0": {}, "bh9": {} }), "/linux/netDevices/bh9", "there is no network device"),
        ("taken", json!({ "bh0": { "name": "taken" } }), "/linux/netDevices/bh0", "already"),
        (
            "twice",
            json!({ "bh0": {}, "bh9": { "name": "bh0" } }),
            "/linux/netDevices/bh9/name",
            "two devices",
        ),
        ("name", json!({ "bh0": { "name": "a/b" } }), "/linux/netDevices/bh0/name", "character"),
    ] {
        let bundle = sandbox.bundle(short).namespace_at("network", elsewhere.path()).args(["true"]);
        let output = sandbox.run(&with_devices(bundle, &devices)).output().exits_with(1);
        let output = output.complains(&format!("config.json: {place}: ")).complains(words);
        assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
        assert!(exists(&sandbox, "bh0"), "it stays where it is");
    }
}

#[test]
fn a_device_is_given_back_when_the_next_cannot_be_moved() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    for name in ["bh0", "bh1"] {
        device(&sandbox, name);
        ip(&sandbox, &format!("link set {name} up"));
        ip(&sandbox, &format!("address add 192.0.2.1/24 dev {name}"));
    }
    // A loopback device never leaves its namespace.
    let devices = json!({ "bh0": { "name": "in0" }, "bh1": { "name": "in%d" }, "lo": { "name": "loop" } });
    let bundle = with_devices(sandbox.bundle("back").args(["true"]), &devices);
    let output = sandbox.run(&bundle).output().exits_with(1);
    let output = output.complains("/linux/netDevices/lo").complains("one of its kind stays in its namespace");
    assert_eq!(output.stderr.lines().count(), 1, "it is said once\n{output}");
    for name in ["bh0", "bh1"] {
        let shown = ip(&sandbox, &format!("address show {name}"));
        assert!(shown.contains("192.0.2.1/24") && shown.contains(",UP"), "it is as it was: {shown}");
    }
}

#[test]
fn a_device_that_cannot_have_its_addresses_stays_where_others_are() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    requires!(std::path::Path::new("/proc/sys/net/ipv6").exists(), "needs IPv6");
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    ip(&sandbox, "link set bh0 up");
    ip(&sandbox, "address add 192.0.2.1/24 dev bh0");
    ip(&sandbox, "address add 2001:db8::1/64 dev bh0 nodad");
    let elsewhere = Network::new(&sandbox);
    let script = "for of in all default; do echo 1 > /proc/sys/net/ipv6/conf/$of/disable_ipv6; done";
    elsewhere.command(&sandbox, "sh").args(["-c", script]).output().succeeds();
    let bundle = sandbox.bundle("back").namespace_at("network", elsewhere.path()).args(["true"]);
    let devices = json!({ "bh0": { "name": "in0" } });
    let output = sandbox.run(&with_devices(bundle, &devices)).output().exits_with(1);
    let output =
        output.complains("/linux/netDevices/bh0").complains("give the network device bh0 its addresses");
    output.complains("the network namespace that was to be joined keeps bh0");
    let shown = ip_in(&elsewhere, &sandbox, "address show in0");
    assert!(shown.contains("192.0.2.1/24"), "it has what it could have: {shown}");
    assert!(!exists(&sandbox, "bh0"), "nothing comes from a namespace in which others are");
}

#[test]
fn devices_return_when_no_container_comes_of_it() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    ip(&sandbox, "link set bh0 up");
    ip(&sandbox, "address add 192.0.2.1/24 dev bh0");
    let devices = json!({ "bh0": { "name": "in0" } });
    let missing = sandbox.bundle("missing").args(["/no/such/program"]);
    let hooked = sandbox.bundle("hooked").args(["true"]).hook_script("createRuntime", "exit 3");
    for bundle in [missing, hooked] {
        sandbox.run(&with_devices(bundle, &devices)).output().exits_with(1);
        let shown = ip(&sandbox, "address show bh0");
        assert!(shown.contains("192.0.2.1/24") && shown.contains(",UP"), "it is as it was: {shown}");
    }
}

#[test]
fn nothing_returns_from_a_namespace_where_others_are() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    let elsewhere = Network::new(&sandbox);
    // Somebody there puts a device of its own at the number of the host's before that could return.
    let net = format!("nsenter --net={} ip link", elsewhere.path().display());
    let hook = format!(
        "export PATH=/usr/sbin:/sbin:/usr/bin:/bin; i=$({net} show in0 | sed 's/:.*//;q'); {net} delete in0; \
         {net} add in0 index $i type veth peer name p0; exit 3"
    );
    let bundle = sandbox.bundle("joined").namespace_at("network", elsewhere.path()).args(["true"]);
    let bundle =
        with_devices(bundle.hook_script("createRuntime", &hook), &json!({ "bh0": { "name": "in0" } }));
    let output = sandbox.run(&bundle).output().exits_with(1);
    output.complains("the network namespace that was to be joined keeps bh0");
    assert!(ip_in(&elsewhere, &sandbox, "link show in0").contains("in0"), "theirs stays theirs");
    assert!(!exists(&sandbox, "bh0"), "nothing has the name of the host's device");
}

#[test]
fn a_device_is_told_from_those_that_others_make_meanwhile() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    let elsewhere = Network::new(&sandbox);
    let net = format!("nsenter --net={}", elsewhere.path().display());
    // Its number is taken there, so that it gets another one, and the newest devices are others.
    let crowd = format!(
        "i=0; while :; do i=$((i+1)); {net} ip -batch - <<-EOF\n\
         link add a$i type veth peer name b$i\nlink add c$i type veth peer name d$i\nlink delete a$i\nEOF\ndone"
    );
    let crowd = sandbox.command("sh").args(["-c", &crowd]).spawn();
    for round in 0..20 {
        let name = format!("bh{round}");
        device(&sandbox, &name);
        ip(&sandbox, &format!("address add 192.0.2.1/24 dev {name}"));
        let bundle = sandbox.bundle(&name).namespace_at("network", elsewhere.path());
        let bundle = bundle.args(["ip", "address", "show", "in0"]);
        let bundle = with_devices(bundle, &json!({ &name: { "name": "in0" } }));
        let output = sandbox.run(&bundle).output().succeeds();
        assert!(output.stdout.contains("192.0.2.1/24") && output.stdout.contains(",UP"), "{output}");
        ip_in(&elsewhere, &sandbox, "link delete in0");
    }
    crowd.signal(rustix::process::Signal::KILL);
    drop(crowd.wait());
}

#[test]
fn the_host_does_not_give_to_itself() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox();
    device(&sandbox, "bh0");
    let devices = json!({ "bh0": { "name": "in0" } });
    let shared = with_devices(sandbox.bundle("shared").without_namespace("network").args(["true"]), &devices);
    let by_path = sandbox.bundle("path").namespace_at("network", "/proc/self/ns/net").args(["true"]);
    for (bundle, words) in
        [(shared, "needs a namespace of type"), (with_devices(by_path, &devices), "shares with the host")]
    {
        let output = sandbox.run(&bundle).output().exits_with(1);
        output.complains("config.json: /linux/netDevices: ").complains(words);
        assert!(exists(&sandbox, "bh0"), "it stays what it is");
    }
}

#[test]
fn an_ordinary_user_cannot_take_the_hosts_devices() {
    requires!(is_possible(), "needs root and ip(8)");
    in_fresh_namespaces!(Network);
    let sandbox = sandbox().as_user(1000, 1000);
    device(&sandbox, "bh0");
    let bundle =
        with_devices(sandbox.bundle("user").namespace("network").args(["true"]), &json!({ "bh0": {} }));
    sandbox.run(&bundle).output().exits_with(1).complains("config.json: /linux/netDevices: ");
    assert!(exists(&sandbox, "bh0"), "it stays where it is");
}
