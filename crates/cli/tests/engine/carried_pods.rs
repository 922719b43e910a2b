//! Pods of ordinary users that lead somewhere: one carrier for all of their containers.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use bulkhead_testkit::wait_until;
use serde_json::{Value, json};

use crate::carriers::{
    Carrier, FAR, NEWEST_PASTA, OLD, PASTA, SERVICE, SLIRP, carriers, heard, kill, on_a_cable, runs,
    serve_names,
};
use crate::person::Person;
use crate::shop::IMAGE;

impl Person {
    /// What is recorded of the network of the only pod.
    fn network_of_pod(&self) -> Option<(PathBuf, Value)> {
        let pods = fs::read_dir(self.xdg.join("bulkhead/pods")).unwrap();
        let file = pods.flatten().map(|pod| pod.path().join("network.json")).find(|file| file.exists())?;
        let document = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        Some((file, document))
    }

    /// The pid of the carrier of the only pod.
    #[track_caller]
    fn carrier_of_pod(&self) -> i32 {
        let (_, document) = self.network_of_pod().unwrap();
        i32::try_from(document["carrier"]["process"]["pid"].as_i64().unwrap()).unwrap()
    }

    /// Lists what of a carrier is in the directories of all pods.
    fn files_of_carriers(&self) -> Vec<String> {
        let places = [self.xdg.join("bulkhead/pods"), self.root().join("pods")];
        let pods = places.iter().flat_map(|place| fs::read_dir(place).unwrap().flatten());
        let names = pods.flat_map(|pod| fs::read_dir(pod.path()).unwrap().flatten());
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("carrier") || name == "network.json").collect()
    }

    /// Kills a container together with its monitor, so that nobody hears of its end.
    fn kill_unheard_of(&self, name: &str) {
        let pid = self.pid(name).into();
        kill(self, &self.monitor(name).into());
        kill(self, &pid);
    }

    /// Asks the host's neighbour from a container.
    pub(crate) fn reaches_far(&self, name: &str) -> bool {
        let script = format!("busybox timeout 5 wget -qO- http://{FAR}:7000/");
        self.hears(name, &script) == "hello far\n"
    }
}

const WAITS: &str = "sleep 1000";

/// What a pod with a carrier has, and how long.
fn carries(which: Carrier, resolver: &str) {
    let (person, _cable) = on_a_cable!(which);
    serve_names();
    let made = person.bulkhead(&["pod", "create", "-p", "127.0.0.1:8080:80", "web"]).output().succeeds();
    assert_eq!(made.stderr.contains(OLD), which == PASTA, "{}", made.stderr);
    assert_eq!(person.said(&["pod", "ps", "--format", "{{.Status}}"]), "Created\n");
    person.member("web", "one", &[], SERVICE);
    person.member("web", "two", &[], WAITS);
    let first = person.carrier_of_pod();
    wait_until("it answers", || heard("127.0.0.1:8080").as_deref() == Some("hello web"));
    wait_until("the other one reaches the neighbour", || person.reaches_far("two"));
    let look = format!("grep nameserver /etc/resolv.conf; nslookup far.example.org | grep -c {FAR}");
    assert_eq!(person.hears("two", &look), format!("nameserver {resolver}\n1\n"));
    let bounding = person.hears("two", "grep CapBnd /proc/self/status");
    let bounding = u64::from_str_radix(bounding.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(bounding & (1 << 13), 0, "it makes no frames by itself");
    let taken = person.run(&["--rm", "-p", "127.0.0.1:8080:80"], "true").output();
    assert!(taken.code() != 0 && taken.stderr.contains("container web already"), "{}", taken.stderr);
    // It stays whoever comes and goes, also when that is who has started it.
    person.said(&["rm", "-f", "one"]);
    person.member("web", "three", &["--rm"], SERVICE);
    assert_eq!(person.carrier_of_pod(), first);
    wait_until("it answers", || heard("127.0.0.1:8080").as_deref() == Some("hello web"));
    person.said(&["restart", "-t", "0", "two"]);
    assert_eq!(person.carrier_of_pod(), first);
    wait_until("it reaches the neighbour", || person.reaches_far("two"));
    // It ends with the last of them, and comes again with them.
    person.said(&["rm", "-f", "three"]);
    person.said(&["stop", "-t", "0", "two"]);
    wait_until("the carrier has ended", || !runs(first) && person.files_of_carriers().is_empty());
    person.said(&["pod", "start", "web"]);
    let second = person.carrier_of_pod();
    assert!(second != first && runs(second));
    person.said(&["pod", "restart", "web"]);
    wait_until("it reaches the neighbour", || person.reaches_far("two"));
    let third = person.carrier_of_pod();
    person.said(&["pod", "rm", "-f", "web"]);
    wait_until("the carriers have ended", || !runs(second) && !runs(third));
    assert!(TcpListener::bind("127.0.0.1:8080").is_ok(), "nobody listens for it");
    assert_eq!(person.files_of_carriers(), Vec::<String>::new());
}

#[test]
fn pasta_carries_the_packets_of_an_ordinary_users_pod() {
    carries(PASTA, "169.254.1.1");
}

#[test]
fn the_newest_pasta_carries_the_packets_of_an_ordinary_users_pod() {
    carries(NEWEST_PASTA, "169.254.1.1");
}

#[test]
fn slirp4netns_carries_the_packets_of_an_ordinary_users_pod() {
    carries(SLIRP, "10.0.2.3");
}

/// Nothing of a pod's carrier stays, whoever is killed, and nothing that is used goes.
fn is_ended(which: Carrier) {
    let (person, _cable) = on_a_cable!(which);
    person.said(&["pod", "create", "web"]);
    // The monitor that has made the network: it is the others' still.
    person.member("web", "one", &[], WAITS);
    person.member("web", "two", &[], WAITS);
    let pid = person.carrier_of_pod();
    person.kill_unheard_of("one");
    person.said(&["system", "check"]);
    assert!(runs(pid));
    wait_until("it reaches the neighbour", || person.reaches_far("two"));
    person.said(&["rm", "-f", "one"]);
    // All monitors: whoever looks ends it.
    person.kill_unheard_of("two");
    person.said(&["system", "check"]);
    wait_until("the carrier has ended", || !runs(pid) && person.files_of_carriers().is_empty());
    // Whoever has started it, before that could be recorded.
    person.said(&["start", "two"]);
    let pid = person.carrier_of_pod();
    let (file, mut document) = person.network_of_pod().unwrap();
    document["carrier"]["process"] = Value::Null;
    fs::write(file, document.to_string()).unwrap();
    person.kill_unheard_of("two");
    person.said(&["system", "check"]);
    wait_until("the carrier has ended", || !runs(pid) && person.files_of_carriers().is_empty());
    // Itself: who is alone gets it back with the next start.
    person.said(&["start", "two"]);
    let pid = person.carrier_of_pod();
    kill(&person, &pid.into());
    wait_until("the carrier has ended", || !runs(pid));
    person.said(&["restart", "-t", "0", "two"]);
    assert!(runs(person.carrier_of_pod()));
    wait_until("it reaches the neighbour", || person.reaches_far("two"));
    person.said(&["pod", "rm", "-f", "web"]);
    // A start that fails when it is there.
    person.said(&["pod", "create", "-p", "18080:80", "web"]);
    person
        .run(&["--pod", "web", "--name", "no", "--entrypoint", "/nothing"], "true")
        .output()
        .exits_with(127);
    assert_eq!(person.files_of_carriers(), Vec::<String>::new());
    assert!(TcpListener::bind("0.0.0.0:18080").is_ok(), "nobody listens for it");
    person.said(&["pod", "rm", "-f", "web"]);
}

#[test]
fn pasta_leaves_nothing_of_a_pod_whoever_is_killed() {
    is_ended(PASTA);
}

#[test]
fn slirp4netns_leaves_nothing_of_a_pod_whoever_is_killed() {
    is_ended(SLIRP);
}

#[test]
fn a_pod_s_carrier_that_dies_alone_comes_again_for_all_who_run() {
    for which in [PASTA, SLIRP] {
        let (person, _cable) = on_a_cable!(which);
        person.said(&["pod", "create", "-p", "127.0.0.1:8080:80", "web"]);
        person.member("web", "one", &[], SERVICE);
        person.member("web", "two", &[], WAITS);
        let is_whole =
            || heard("127.0.0.1:8080").as_deref() == Some("hello web") && person.reaches_far("two");
        wait_until("it is reached, and reaches others", is_whole);
        let [first] = carriers(&person)[..] else { panic!("one: {:?}", carriers(&person)) };
        kill(&person, &first.into());
        // The monitors of both have it started again.
        wait_until("it is reached again, and reaches others", is_whole);
        std::thread::sleep(std::time::Duration::from_secs(2));
        let [second] = carriers(&person)[..] else { panic!("one: {:?}", carriers(&person)) };
        assert_eq!(person.carrier_of_pod(), second);
        assert!(person.said(&["system", "check"]).contains("as it should be"));
        // One who sees the host's processes could look into it.
        person.member("web", "three", &["--pid", "host"], WAITS);
        kill(&person, &second.into());
        wait_until("it has ended", || !runs(second));
        let told = person.bulkhead(&["system", "check"]).output().exits_with(1);
        assert!(told.stdout.contains("container three: it sees its host's processes"), "{told}");
        assert_eq!(carriers(&person), [0; 0]);
        person.said(&["pod", "restart", "web"]);
        wait_until("it is reached again, and reaches others", is_whole);
        person.said(&["pod", "rm", "-f", "web"]);
        wait_until("it ends with its pod", || carriers(&person).is_empty());
    }
}

/// A container of the pod that sees the host's processes could look into what enters the pod's namespaces for a carrier. Must fail when a
/// carrier that has died is started again whoever runs.
#[test]
fn a_pod_s_carrier_that_has_died_comes_back_with_the_whole_pod() {
    let (person, _cable) = on_a_cable!(SLIRP);
    person.said(&["pod", "create", "web"]);
    person.member("web", "one", &["--pid", "host"], WAITS);
    let pid = person.carrier_of_pod();
    kill(&person, &pid.into());
    wait_until("the carrier has ended", || !runs(pid));
    let late = person.run(&["-d", "--pod", "web", "--name", "late"], WAITS).output().succeeds();
    assert!(late.stderr.contains("have no network any more, since slirp4netns has died"), "{}", late.stderr);
    assert!(late.stderr.contains("`bulkhead pod restart web`"), "{}", late.stderr);
    assert_eq!(person.carrier_of_pod(), pid, "there is no other");
    person.said(&["pod", "restart", "web"]);
    wait_until("it reaches the neighbour", || person.reaches_far("late"));
    person.said(&["pod", "rm", "-f", "web"]);
}

/// As the wall for a container of its own (`a_container_cannot_look_into_its_carrier`).
#[test]
fn containers_of_a_pod_cannot_look_into_its_carrier() {
    for which in [PASTA, NEWEST_PASTA, SLIRP] {
        let (person, _cable) = on_a_cable!(which);
        person.said(&["pod", "create", "web"]);
        for name in ["one", "two"] {
            person.member("web", name, &["--pid", "host"], WAITS);
            let pid = person.carrier_of_pod();
            let script = format!(
                "cd /proc/{pid}; for name in exe root cwd ns/net fd/*; do readlink $name; cat $name; done; \
                 head -c 1 mem environ maps; ls root/"
            );
            assert_eq!(person.hears(name, &script), "", "{}", which.name);
        }
        person.said(&["pod", "rm", "-f", "web"]);
    }
}

#[test]
fn a_pod_that_is_made_with_its_first_container_has_the_ports_of_that() {
    let (person, _cable) = on_a_cable!(SLIRP);
    person.load("exposing:1", &json!({ "ExposedPorts": { "80/tcp": {} } }), |_| {});
    let words = ["run", "-d", "--name", "web", "--pod", "new:shop", "-P", "exposing:1", "sh", "-c", SERVICE];
    person.said(&words);
    let (_, document) = person.network_of_pod().unwrap();
    let port = &document["ports"][0];
    assert_eq!((port["container"].as_u64(), document["ports"].as_array().map(Vec::len)), (Some(80), Some(1)));
    let at = format!("127.0.0.1:{}", port["host"]);
    wait_until("it answers", || heard(&at).as_deref() == Some("hello web"));
    person.said(&["pod", "rm", "-f", "shop"]);
    let words = [
        "run",
        "-d",
        "--pod",
        "new:shop",
        "--network",
        "slirp4netns",
        "-p",
        "18080:80",
        IMAGE,
        "sh",
        "-c",
        SERVICE,
    ];
    person.said(&words);
    wait_until("it answers", || heard("127.0.0.1:18080").as_deref() == Some("hello web"));
    person.said(&["pod", "rm", "-f", "shop"]);
}

#[test]
fn what_a_pod_s_carrier_cannot_do_is_said_before_anything_is_made() {
    let (person, _cable) = on_a_cable!(SLIRP);
    for (options, says) in [
        (&["-p", "80:80"][..], "the kernel lets ordinary users listen at 1024 and above"),
        (&["-p", "8080:80/sctp"], "know tcp and udp alone"),
        (&["-p", "8080:80", "--publish-mode", "proxy"], "listens for its ports, too"),
        (&["--network", "pasta"], "it is in the package passt"),
        (&["--network", "slirp4netns", "--share", "ipc"], "--share does not have net"),
        (&["--network", "none", "-p", "8080:80"], "share no network that ports could lead to"),
        (&["-P"], "a pod has no image that would name ports: say which by --publish"),
    ] {
        let refused = person.bulkhead(&[&["pod", "create"], options].concat()).output().exits_with(125);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    assert_eq!(person.said(&["pod", "ps", "-q"]), "");
}
