//! Pods of an ordinary user: what their containers share belongs to a user namespace of the pod's, which lives as long as any
//! of them, and nothing is left of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bulkhead_testkit::{is_disposable, requires};
use serde_json::Value;

use crate::person::{FIRST, Person, RANGE, USER, person, until};
use crate::shop::IMAGE;

/// Namespaces that the containers of a pod share without a word.
const SHARED: [&str; 4] = ["user", "net", "ipc", "uts"];

impl Person {
    /// Starts a container in a pod.
    #[track_caller]
    pub(crate) fn member(&self, pod: &str, name: &str, options: &[&str], script: &str) {
        let options = [&["-d", "--pod", pod, "--name", name], options].concat();
        self.run(&options, script).output().succeeds();
    }

    fn namespace(&self, name: &str, kind: &str) -> String {
        let link = fs::read_link(format!("/proc/{}/ns/{kind}", self.pid(name)));
        link.unwrap().display().to_string()
    }

    fn shared(&self, name: &str) -> Vec<String> {
        SHARED.iter().map(|kind| self.namespace(name, kind)).collect()
    }

    pub(crate) fn told(&self, name: &str) -> Value {
        let document: Value = serde_json::from_str(&self.said(&["inspect", name])).unwrap();
        document[0].clone()
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.told(name)["State"]["Status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn monitor(&self, name: &str) -> u64 {
        let id = self.told(name)["Id"].as_str().unwrap().to_owned();
        let text = fs::read(self.root().join("containers").join(id).join("status.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["monitor"]["pid"].as_u64().unwrap()
    }

    /// The first process of the only pod.
    fn first(&self) -> u64 {
        let pod = fs::read_dir(self.xdg("pods")).unwrap().next().unwrap().unwrap().path();
        let text = fs::read(pod.join("first.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["pid"].as_u64().unwrap()
    }

    fn xdg(&self, name: &str) -> PathBuf {
        self.xdg.join("bulkhead").join(name)
    }

    /// Returns what a script says in a container; it may fail.
    pub(crate) fn hears(&self, name: &str, script: &str) -> String {
        self.bulkhead(&["exec", name, "sh", "-c", script]).output().stdout
    }

    /// Makes sure that nothing is left of a pod that had this user namespace.
    #[track_caller]
    fn has_nothing_of(&self, users: &Users) {
        let directories = [self.root().join("pods"), self.root().join("containers")];
        let below_run = ["pods", "containers", "runtime/bulkrun"].map(|name| self.xdg(name));
        for directory in directories.iter().chain(&below_run).filter(|directory| directory.exists()) {
            assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "{} is empty", directory.display());
        }
        users.are_nobodys();
    }

    fn users(&self, name: &str) -> Users {
        let link = format!("/proc/{}/ns/user", self.pid(name));
        Users { _namespace: fs::File::open(link).unwrap(), name: self.namespace(name, "user") }
    }
}

/// The users of a pod. As long as this is there, no other namespace has their number.
struct Users {
    name: String,
    _namespace: fs::File,
}

impl Users {
    /// Lists other processes that are in the namespace, or hold it by a descriptor.
    fn holders(&self) -> Vec<String> {
        let is_it =
            |path: &Path| fs::read_link(path).is_ok_and(|link| link.as_os_str() == self.name.as_str());
        let holds = |process: &Path| {
            let held = ["ns", "fd"].map(|name| fs::read_dir(process.join(name)));
            held.into_iter().flatten().flatten().flatten().any(|entry| is_it(&entry.path()))
        };
        let own = std::process::id();
        let is_other = |name: &str| name.parse::<u32>().is_ok_and(|pid| pid != own);
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let others = processes.filter(|entry| is_other(&entry.file_name().to_string_lossy()));
        let others = others.map(|entry| entry.path()).filter(|path| holds(path));
        // What a killed monitor leaves is orphaned to this test, which waits for nobody.
        let has_ended = |path: &PathBuf| {
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            status.contains("(zombie)") || status.is_empty()
        };
        let others = others.filter(|path| !has_ended(path));
        let told = |path: PathBuf| {
            let words = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            format!("{} {}", path.display(), words.replace('\0', " "))
        };
        others.map(told).collect()
    }

    #[track_caller]
    fn are_nobodys(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.holders().is_empty() {
            assert!(Instant::now() < end, "nobody has the pod's users any more: {:?}", self.holders());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Ends a process at once, by its number.
#[track_caller]
pub(crate) fn kill(pid: u64) {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(status.success(), "process {pid} is not there");
}

#[test]
fn containers_of_a_users_pod_share_users_network_ipc_and_host_name() {
    let person = person!(RANGE).with_image();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let id = person.said(&["pod", "create", "--add-host", "db:10.0.0.7", "--shm-size", "3m", "web"]);
    let script = "hostname; echo shared > /dev/shm/note; touch /dev/mqueue/queue; chown 33:34 /dev/shm/note; \
                  nc -ll -p 8080 -e cat & sleep 1000";
    person.member("web", "one", &[], script);
    person.member("web", "two", &[], "sleep 1000");
    for kind in SHARED {
        assert_eq!(person.namespace("one", kind), person.namespace("two", kind), "{kind}");
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(person.namespace("one", kind), own.display().to_string(), "{kind}");
    }
    for kind in ["pid", "mnt", "cgroup"] {
        assert_ne!(person.namespace("one", kind), person.namespace("two", kind), "{kind}");
    }
    until("the first has begun", || person.said(&["logs", "one"]) == "web\n");
    until("its file is given away", || person.hears("one", "stat -c %u /dev/shm/note") == "33\n");
    let look = "hostname; cat /dev/shm/note; stat -c %u:%g:%a /dev/shm/note /dev/shm; ls /dev/mqueue; \
                tr -s ' ' < /proc/self/uid_map; df -k /dev/shm | tail -1 | awk '{print $2}'";
    let map = format!(" 0 {USER} 1\n 1 {FIRST} 65536\n");
    assert_eq!(
        person.hears("two", look),
        format!("web\nshared\n33:34:644\n0:0:1777\nqueue\n{map}3072\n"),
        "the host name, memory, queues and users are the pod's"
    );
    assert!(person.hears("two", "cat /etc/hosts").contains("10.0.0.7\tdb"));
    until("what one listens to, the other reaches", || {
        let words = ["exec", "-i", "two", "nc", "-w", "2", "127.0.0.1", "8080"];
        person.bulkhead(&words).input("hello\n").output().stdout == "hello\n"
    });
    // Another user of the container's, on a port that takes a right elsewhere.
    let serve = ["exec", "-d", "-u", "33:34", "one", "nc", "-ll", "-p", "80", "-e", "cat"];
    person.bulkhead(&serve).output().succeeds();
    until("low ports are the pod's own", || {
        person.hears("two", "echo low | nc -w 2 127.0.0.1 80") == "low\n"
    });
    assert_eq!(
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
        before,
        "the host's mounts are as they were"
    );

    let row = ["pod", "ps", "--format", "{{.Name}} {{.Status}} {{.NumberOfContainers}} {{.ContainerNames}}"];
    assert_eq!(person.said(&row), "web Running 2 one,two\n");
    assert_eq!(person.told("two")["HostConfig"]["UsernsMode"], "pod");
    person.bulkhead(&["pod", "rm", "web"]).output().exits_with(1).complains("container one is running");
    let users = person.users("one");
    assert_eq!(person.said(&["pod", "rm", "-f", "web"]), id);
    person.has_nothing_of(&users);
    person.said(&["system", "check"]);
}

#[test]
fn a_member_has_no_more_rights_than_a_container_without_a_pod() {
    let person = person!(RANGE).with_image();
    person.said(&["pod", "create", "web"]);
    person.run(&["-d", "--name", "alone"], "sleep 1000").output().succeeds();
    person.member("web", "one", &[], "sleep 1000");
    let rights = |name: &str| {
        let status = fs::read_to_string(format!("/proc/{}/status", person.pid(name))).unwrap();
        let words = ["Cap", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp:"];
        let is_right = |line: &&str| words.iter().any(|word| line.starts_with(word));
        status.lines().filter(is_right).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rights("one"), rights("alone"));
    let mounts = |name: &str| {
        let text = person.hears(name, "cat /proc/self/mountinfo");
        // Where, and with which attributes.
        let line = |line: &str| line.split(' ').skip(4).take(2).collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(mounts("one"), mounts("alone"), "it sees the same mounts, with the same attributes");
    assert_eq!(person.hears("one", "ls -A /dev/shm"), "", "nothing of the host is there");
    // What is not its own it cannot change, whatever it may.
    person.member("web", "strong", &["--privileged"], "sleep 1000");
    let attempts = "hostname other; hostname; echo 1 > /proc/sys/kernel/sysrq || echo kept; \
                    mknod /dev/shm/disk b 8 0 || echo no device; ls -A /dev/shm";
    let words = ["exec", "--privileged", "strong", "sh", "-c", attempts];
    let output = person.bulkhead(&words).output();
    assert_eq!(output.stdout, "other\nkept\nno device\n", "{output:?}");
    assert_eq!(person.hears("one", "hostname"), "other\n", "the name is the pod's");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_ne!(host.trim(), "other", "and not the host's");
    assert_ne!(person.hears("alone", "hostname"), "other\n", "and nobody else's");
    person.said(&["rm", "-f", "alone"]);
    person.said(&["pod", "rm", "-f", "web"]);
}

#[test]
fn what_a_users_pod_shares_outlives_each_member_and_ends_with_the_last() {
    let person = person!(RANGE).with_image();
    person.said(&["pod", "create", "web"]);
    person.member("web", "one", &[], "echo kept > /dev/shm/note; sleep 1000");
    person.member("web", "two", &[], "sleep 1000");
    let (shared, users) = (person.shared("two"), person.users("two"));
    until("it is written", || person.hears("two", "cat /dev/shm/note") == "kept\n");
    // Who has made it all is killed: its container ends, and nothing else.
    kill(person.monitor("one"));
    until("its end is noticed", || person.state("one") == "exited");
    assert_eq!((person.state("two").as_str(), person.shared("two")), ("running", shared.clone()));
    person.said(&["start", "one"]);
    assert_eq!(person.shared("one"), shared);
    assert_eq!(person.hears("one", "cat /dev/shm/note"), "kept\n");
    // A member may have some of its own, and comes to the same users all the same.
    person.member("web", "three", &["--ipc", "private", "--uts", "private"], "sleep 1000");
    assert_eq!(person.namespace("three", "user"), users.name);
    assert_ne!(person.namespace("three", "ipc"), shared[2]);
    // A policy starts a container anew in the same namespaces, also when it is the last.
    person.member("web", "again", &["--restart", "always"], "cat /dev/shm/note; sleep 0.3; exit 1");
    person.said(&["rm", "-f", "one", "two", "three"]);
    until("it was started again", || person.said(&["logs", "again"]).lines().count() >= 3);
    let said = person.said(&["logs", "again"]);
    assert!(said.lines().all(|line| line == "kept"), "{said}");
    person.said(&["rm", "-f", "again"]);
    users.are_nobodys();

    // With a monitor that holds the users alone, the rest is made in them.
    person.member("web", "half", &["--ipc", "private", "--uts", "private"], "sleep 1000");
    person.member("web", "whole", &[], "echo late > /dev/shm/note; sleep 1000");
    assert_eq!(person.namespace("half", "user"), person.namespace("whole", "user"));
    person.member("web", "last", &[], "sleep 1000");
    until("what was made late is shared", || person.hears("last", "cat /dev/shm/note") == "late\n");
    assert_eq!(person.hears("last", "hostname"), "web\n");
    person.said(&["rm", "-f", "half", "whole"]);

    // With the last monitor killed nothing is left, and what comes then is made anew.
    let users = person.users("last");
    kill(person.monitor("last"));
    until("its end is noticed", || person.state("last") == "exited");
    users.are_nobodys();
    person.said(&["pod", "start", "web"]);
    assert_eq!(person.state("last"), "running");
    assert_eq!(person.hears("last", "ls /dev/shm"), "");
    let users = person.users("last");
    person.said(&["pod", "rm", "-f", "web"]);
    person.has_nothing_of(&users);
}

#[test]
fn the_verbs_reach_all_members_of_a_users_pod() {
    let person = person!(RANGE).with_image();
    let id = person.said(&["pod", "create", "web"]);
    for name in ["one", "two"] {
        let options = ["--stop-timeout", "1", "--cap-add", "SYS_ADMIN", IMAGE, "sh", "-c"];
        let script = format!("echo {name}; sleep 1000");
        person.said(&[&["create", "--pod", "web", "--name", name], &options[..], &[&script]].concat());
    }
    let state = || person.said(&["pod", "ps", "--format", "{{.Status}}"]).trim().to_owned();
    assert_eq!(state(), "Created");
    assert_eq!(person.said(&["pod", "start", "web"]), id);
    assert_eq!(state(), "Running");
    until("both speak", || person.said(&["pod", "logs", "web"]).lines().count() == 2);
    // Also where no cgroup tells whose a process is, and also what has mounts of its own.
    person.said(&["exec", "-d", "two", "sh", "-c", "unshare -m sleep 77; true"]);
    let shown = || person.said(&["pod", "top", "web", "-o", "pid,args"]);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let shown = shown();
        let has = |end: &str| shown.lines().filter(|line| line.trim_end().ends_with(end)).count();
        if (has("sleep 1000"), has("sleep 77"), has("sleep 77; true"), shown.lines().count()) == (2, 1, 1, 5)
        {
            break;
        }
        assert!(Instant::now() < end, "processes of both are shown, and no others: {shown}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(person.said(&["top", "one"]).contains(&person.pid("one").to_string()));
    let before = person.pid("one");
    person.said(&["pod", "restart", "web"]);
    assert_ne!(person.pid("one"), before);
    person.said(&["restart", "-t", "0", "two"]);
    assert_eq!(person.shared("one"), person.shared("two"));
    person.said(&["stop", "-t", "0", "one"]);
    assert_eq!(state(), "Degraded");
    person.said(&["pod", "kill", "web"]);
    until("all have ended", || state() == "Exited");
    person.said(&["pod", "start", "web"]);
    person.said(&["pod", "stop", "-t", "0", "web"]);
    assert_eq!(state(), "Exited");
    let told: Value = serde_json::from_str(&person.said(&["pod", "inspect", "web"])).unwrap();
    assert_eq!(told[0]["Containers"][1]["Name"], "two");
    assert_eq!(person.said(&["pod", "prune", "--force"]), id);
    assert_eq!(person.said(&["ps", "-aq"]), "");
    // What removes itself leaves what the others have.
    let options = ["-d", "--pod", "new:web", "--name", "stays"];
    person.run(&options, "echo kept > /dev/shm/note; sleep 1000").output().succeeds();
    until("it is written", || person.hears("stays", "cat /dev/shm/note") == "kept\n");
    person.run(&["-d", "--rm", "--pod", "web", "--name", "goes"], "true").output().succeeds();
    until("it is gone", || person.said(&["ps", "-a", "--format", "{{.Names}}"]) == "stays\n");
    assert_eq!(person.hears("stays", "cat /dev/shm/note"), "kept\n");
    let failed = person.bulkhead(&["run", "--rm", "--pod", "web", IMAGE, "no-such-program"]).output();
    failed.exits_with(127).complains("no-such-program");
    person.said(&["pod", "rm", "-f", "web"]);
}

#[test]
fn a_users_pod_has_the_ids_that_are_asked_for_or_are_there() {
    let person = person!(RANGE).with_image();
    person.said(&["pod", "create", "--userns", "keep-id", "web"]);
    person.member("web", "one", &["--user", "54321:54321"], "touch /dev/shm/mine; sleep 1000");
    person.member("web", "two", &[], "sleep 1000");
    until("it is written", || person.hears("two", "stat -c %u /dev/shm/mine") == "54321\n");
    assert_eq!(person.hears("one", "id -u; stat -c %u /dev/shm; hostname"), "54321\n0\nweb\n");
    let refused = person.run(&["--pod", "web", "--userns", "keep-id"], "true").output().exits_with(125);
    refused.complains("--userns with --pod web: its containers share their users");
    let refused = person.run(&["--pod", "web", "--userns", "host"], "true").output().exits_with(125);
    refused.complains("--userns host with --pod web: its containers have the users of the pod");
    person.said(&["pod", "rm", "-f", "web"]);
    for (userns, words) in [
        ("auto", "only root can show them as another's"),
        ("container:one", "its containers share the pod's"),
    ] {
        let output = person.bulkhead(&["pod", "create", "--userns", userns, "no"]).output().exits_with(125);
        output.complains(words);
    }
    // Where systemd runs, it makes cgroups for users, too.
    if !Path::new("/run/systemd/system").exists() {
        let words = ["pod", "create", "--cgroup-parent", "/mine", "no"];
        let output = person.bulkhead(&words).output().exits_with(125);
        output.complains("--cgroup-parent /mine: an ordinary user may have no cgroups here");
        let output = person.bulkhead(&["pod", "create", "--memory", "64m", "no"]).output().exits_with(125);
        output.complains("--memory: an ordinary user may have no cgroups here").complains("delegate");
    }
    assert_eq!(person.said(&["pod", "ps", "-q"]), "");
}

#[test]
fn a_user_without_further_ids_has_pods() {
    let person = person!("").with_image();
    person.said(&["pod", "create", "web"]);
    person.member("web", "one", &[], "touch /dev/shm/mine; sleep 1000");
    person.member("web", "two", &[], "sleep 1000");
    until("it is written", || person.hears("two", "stat -c %u /dev/shm/mine") == "0\n");
    assert_eq!(person.hears("two", "tr -s ' ' < /proc/self/uid_map"), format!(" 0 {USER} 1\n"));
    assert_eq!(person.shared("one"), person.shared("two"));
    person.said(&["pod", "rm", "-f", "web"]);
}

#[test]
fn processes_of_a_users_pod_can_be_shared() {
    for ranges in [RANGE, ""] {
        let person = person!(ranges).with_shipped_monitor().with_image();
        person.said(&["pod", "create", "--share", "+pid", "web"]);
        person.member("web", "one", &[], "exec sleep 1234");
        person.member("web", "two", &[], "exec sleep 5678");
        assert_eq!(person.shared("one"), person.shared("two"));
        assert_eq!(person.namespace("one", "pid"), person.namespace("two", "pid"));
        let users = person.users("one");
        let seen = person.hears("one", "ps");
        assert!(seen.contains("sleep 1234") && seen.contains("sleep 5678"), "{seen}");
        let is_first = |line: &str| line.trim_start().starts_with("1 ") && line.contains("bulkmon pod");
        assert!(seen.lines().any(is_first), "{seen}");
        // Its first process is of no use to a container, whatever that may.
        let script = "ls /proc/1/root/; kill -9 1; echo still";
        let output =
            person.bulkhead(&["exec", "--privileged", "one", "sh", "-c", script]).output().succeeds();
        assert!(!output.stdout.contains("etc") && output.stdout.ends_with("still\n"), "{output:?}");
        kill(person.monitor("one"));
        until("its end is noticed", || person.state("one") == "exited");
        assert_eq!(person.state("two"), "running", "the end of a member ends no other");
        // With all monitors gone the first process has the pod's users.
        kill(person.monitor("two"));
        until("its end is noticed", || person.state("two") == "exited");
        person.said(&["pod", "start", "web"]);
        assert_eq!(person.namespace("one", "user"), users.name);
        assert_eq!(person.namespace("one", "pid"), person.namespace("two", "pid"));
        // With that one gone all end, and come back.
        kill(person.first());
        until("all have ended", || person.state("one") == "exited" && person.state("two") == "exited");
        person.said(&["pod", "start", "web"]);
        assert_eq!(person.namespace("one", "pid"), person.namespace("two", "pid"));
        let users = person.users("one");
        person.said(&["pod", "stop", "-t", "0", "web"]);
        assert_eq!(fs::read_dir(person.xdg("runtime/bulkrun")).unwrap().count(), 0, "nothing runs");
        users.are_nobodys();
        person.said(&["pod", "start", "web"]);
        let users = person.users("one");
        person.said(&["pod", "rm", "-f", "web"]);
        person.has_nothing_of(&users);
    }
}

/// Reads a file of a cgroup.
#[track_caller]
fn file(cgroup: &Path, name: &str) -> String {
    fs::read_to_string(cgroup.join(name)).unwrap().trim().to_owned()
}

#[test]
fn a_users_pod_has_limits_by_a_systemd_of_the_users_own() {
    requires!(Path::new("/run/systemd/system").exists(), "needs systemd");
    requires!(is_disposable(), "needs a machine of its own, for it makes a user there");
    let person = person!(RANGE).with_session().with_image();
    let slices =
        PathBuf::from(format!("/sys/fs/cgroup/user.slice/user-{USER}.slice/user@{USER}.service/user.slice"));
    let slice = |id: &str| slices.join(format!("user-bulkhead_pod_{}.slice", &id[..12]));
    let id = person.said(&["pod", "create", "--memory", "48m", "--pids-limit", "12", "web"]);
    let cgroup = slice(&id);
    let check = |when: &str| {
        let limits = ["memory.max", "pids.max"].map(|name| file(&cgroup, name));
        assert_eq!(limits, ["50331648", "12"], "{when}");
    };
    check("before any container is there");
    person.member("web", "one", &["--memory", "32m"], "echo kept > /dev/shm/note; sleep 1000");
    person.member("web", "two", &[], "sleep 1000");
    check("with containers");
    assert_eq!(person.shared("one"), person.shared("two"));
    until("what one writes, the other reads", || person.hears("two", "cat /dev/shm/note") == "kept\n");
    for name in ["one", "two"] {
        let membership = fs::read_to_string(format!("/proc/{}/cgroup", person.pid(name))).unwrap();
        let scope = Path::new("/sys/fs/cgroup").join(membership.trim().trim_start_matches("0::/"));
        assert_eq!(scope.parent(), Some(&*cgroup), "{name} is below its pod");
        assert_eq!(file(&scope, "memory.max") == "33554432", name == "one");
    }
    let forks = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 1000 & done; wait";
    let full = person.bulkhead(&["exec", "two", "sh", "-c", forks]).output();
    assert!(full.stderr.contains("can't fork"), "{full}");
    person.said(&["pod", "restart", "web"]);
    let shown = person.said(&["pod", "top", "web"]);
    assert_eq!(shown.matches("sleep 1000").count(), 2, "{shown}");
    person.said(&["pod", "pause", "web"]);
    assert_eq!(person.state("one"), "paused");
    person.said(&["pod", "unpause", "web"]);
    let users = person.users("one");
    person.said(&["pod", "rm", "-f", "web"]);
    person.has_nothing_of(&users);
    assert!(!cgroup.exists(), "the pod's slice goes with it");
    // One without limits is made by the first scope in it, and goes all the same.
    let id = person.said(&["pod", "create", "free"]);
    person.member("free", "one", &[], "sleep 1000");
    assert!(slice(&id).exists());
    person.said(&["pod", "rm", "-f", "free"]);
    assert!(!slice(&id).exists(), "the pod's slice goes with it");
}
