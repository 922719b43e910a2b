//! Networks of ordinary users: pasta and slirp4netns carry their packets. The test is a host with a neighbour.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_testkit::network::Network;
use bulkhead_testkit::{Running, cached, requires, wait_until};
use serde_json::Value;

use crate::person::{Person, RANGE, person};

/// The host, and where it asks for names.
pub(crate) const HOST: &str = "10.77.0.1";
/// The host's neighbour and router.
pub(crate) const FAR: &str = "10.77.0.2";

/// A cable of the host's with a neighbour behind it, who says `hello far` at port 7000, by HTTP: its client must not close its own
/// direction, which the pasta of Debian 12 does not survive.
pub(crate) struct Cable {
    // Dropped, it is killed, however long it has run: nobody waits for its end within a time that a busy machine needs for the test.
    _server: Running,
    _far: Network,
}

/// A carrier, and the suite of Debian that it is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carrier {
    pub(crate) name: &'static str,
    suite: &'static str,
}

pub(crate) const PASTA: Carrier = Carrier { name: "pasta", suite: "release" };
pub(crate) const NEWEST_PASTA: Carrier = Carrier { suite: "newest", ..PASTA };
pub(crate) const SLIRP: Carrier = Carrier { name: "slirp4netns", suite: "release" };

impl Carrier {
    /// Where its suite is unpacked; nothing where `cargo xtask networks` has not done so.
    pub(crate) fn tree(self) -> Option<PathBuf> {
        let tree = cached(&format!("networks/{}", self.suite))?;
        Some(tree).filter(|tree| tree.join("usr/bin").join(self.name).exists())
    }
}

/// Makes a user on a host with a cable, who has these carriers, or ends the test where that cannot be.
macro_rules! on_a_cable {
    ($($carrier:expr),*) => {{
        let person = $crate::person::person!($crate::person::RANGE).with_image();
        $(bulkhead_testkit::requires!($carrier.tree().is_some(), "needs passt and slirp4netns of `cargo xtask networks`");)*
        let cable = $crate::carriers::cable(&person);
        $crate::carriers::install(&person, &[$($carrier),*]);
        (person, cable)
    }};
}
pub(crate) use on_a_cable;

pub(crate) fn cable(person: &Person) -> Cable {
    let sandbox = &person.shop.sandbox;
    let ip = |words: &str| {
        sandbox.command("ip").args(words.split(' ').collect::<Vec<_>>()).output().succeeds();
    };
    let far = Network::new(sandbox);
    let holder = far.path().to_str().unwrap().split('/').nth(2).unwrap().to_owned();
    ip(&format!("link add up0 type veth peer name far0 netns {holder}"));
    ip(&format!("addr add {HOST}/24 dev up0"));
    ip("link set up0 up");
    let there = format!(
        "ip addr add {FAR}/24 dev far0 && ip link set far0 up && ip link set lo up && \
         while :; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello far\\n' | busybox nc -l -p 7000; done"
    );
    // All of its processes end with the first.
    let server = far.command(sandbox, "unshare");
    let server = server.args(["--pid", "--fork", "--kill-child", "sh", "-c", &there]).spawn();
    ip(&format!("route add default via {FAR}"));
    Cable { _server: server, _far: far }
}

/// Puts these carriers into the user's PATH, and lets the user have devices of tun(4), as is usual.
pub(crate) fn install(person: &Person, carriers: &[Carrier]) {
    let shop = &person.shop;
    let (bin, own) = (shop.path("carriers"), shop.path("libraries"));
    fs::create_dir(&bin).unwrap();
    fs::create_dir(&own).unwrap();
    for carrier in carriers {
        let tree = carrier.tree().unwrap();
        let libraries = tree.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
        let copy = |from: &Path, to: &Path| {
            shop.sandbox.command("cp").arg("-L").arg(from).arg(to).output().succeeds();
        };
        copy(&tree.join("usr/bin").join(carrier.name), &own);
        let own = own.to_str().unwrap();
        let script = match *carrier {
            SLIRP => {
                copy(&libraries.join("libslirp.so.0"), own.as_ref());
                format!("LD_LIBRARY_PATH={own} exec {own}/slirp4netns \"$@\"")
            }
            // It needs another C library than this machine's.
            NEWEST_PASTA => {
                let mut names = fs::read_dir(&libraries).unwrap().map(|entry| entry.unwrap().file_name());
                let loader =
                    names.find(|name| name.to_str().is_some_and(|name| name.starts_with("ld-linux")));
                let loader = loader.unwrap().into_string().unwrap();
                copy(&libraries.join("libc.so.6"), own.as_ref());
                copy(&libraries.join(&loader), own.as_ref());
                format!("exec {own}/{loader} --library-path {own} --argv0 pasta {own}/pasta \"$@\"")
            }
            _ => format!("exec {own}/{} \"$@\"", carrier.name),
        };
        shop.script_file(&bin.join(carrier.name), &format!("#!/bin/sh\n{script}\n"));
    }
    let tun = shop.path("tun");
    shop.sandbox.command("mknod").arg(&tun).args(["c", "10", "200"]).output().succeeds();
    fs::set_permissions(&tun, fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(shop.path("resolv.conf"), format!("nameserver {HOST}\n")).unwrap();
}

/// Answers every question for a name with the neighbour's address, as long as the test runs (RFC 1035, section 4.1).
pub(crate) fn serve_names() {
    let socket = UdpSocket::bind((HOST, 53)).unwrap();
    let serving = std::thread::Builder::new().spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let mut answer = question[..length].to_vec();
            // An answer to the first question alone: without what is behind its name, type and class.
            let end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_v4 = question[end - 3] == 1;
            answer.truncate(end);
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..12].copy_from_slice(&[0, u8::from(is_v4), 0, 0, 0, 0]);
            if is_v4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(FAR.parse::<Ipv4Addr>().unwrap().octets());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    serving.unwrap();
}

pub(crate) fn heard(at: &str) -> Option<String> {
    let at: SocketAddr = at.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The id of the only container.
fn id(person: &Person) -> String {
    person.said(&["ps", "-aq", "--no-trunc"]).trim().to_owned()
}

/// What the engine has recorded of the network of the only container.
fn recorded(person: &Person) -> (PathBuf, Value) {
    let file = person.xdg.join("bulkhead/containers").join(id(person)).join("network.json");
    let document = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    (file, document)
}

/// The pid of the carrier of the only container, by what the engine has recorded.
pub(crate) fn carrier(person: &Person) -> i32 {
    i32::try_from(recorded(person).1["carrier"]["process"]["pid"].as_i64().unwrap()).unwrap()
}

/// As [`carrier`], of one that runs; nothing while there is none.
pub(crate) fn carrier_now(person: &Person) -> Option<i32> {
    let pid = recorded(person).1["carrier"]["process"]["pid"].as_i64()?;
    i32::try_from(pid).ok().filter(|pid| runs(*pid))
}

pub(crate) fn kill(person: &Person, pid: &Value) {
    send(person, "-9", pid);
}

pub(crate) fn send(person: &Person, signal: &str, pid: &Value) {
    person.shop.sandbox.command("kill").args([signal, &pid.to_string()]).output().succeeds();
}

/// Kills a container together with its monitor, so that nobody hears of its end.
fn kill_unheard(person: &Person, name: &str) {
    let pid = person.pid(name).into();
    kill(person, &person.monitor(name).into());
    kill(person, &pid);
}

/// Lists what of a carrier is in the directories of the only container.
fn files(person: &Person) -> Vec<String> {
    let id = id(person);
    let directories = [person.xdg.join("bulkhead/containers"), person.root().join("containers")];
    let names = directories.iter().flat_map(|directory| fs::read_dir(directory.join(&id)).unwrap());
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("carrier") || name == "network.json").collect()
}

pub(crate) fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("Z").starts_with(['Z', 'X']))
}

/// All carriers of this host.
pub(crate) fn carriers(person: &Person) -> Vec<i32> {
    let listed = person.shop.sandbox.command("pgrep").args(["-f", r"carrier\.(pid|sock)"]).output();
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    let pids = listed.stdout.lines().filter_map(|line| line.parse().ok());
    pids.filter(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|of| of == own))
        .filter(|pid| runs(*pid))
        .collect()
}

pub(crate) const SERVICE: &str = "while :; do echo hello web | nc -l -p 80; done";

/// What is said of the pasta of Debian 12.
pub(crate) const OLD: &str = "pasta is older than August 2024";

/// Everything that a carrier does for a container.
fn carries(which: Carrier, resolver: &str) {
    let (person, _cable) = on_a_cable!(which);
    serve_names();
    let script = format!(
        "until busybox timeout 5 wget -qO- http://{FAR}:7000/ | grep hello; do sleep 0.1; done; cat /etc/resolv.conf; \
         nslookup far.example.org | grep -c {FAR}"
    );
    let said = person.run(&["--rm"], &script).output().succeeds();
    let said = said.prints(&format!("hello far\nnameserver {resolver}\n1\n"));
    assert_eq!(said.stderr.contains(OLD), which == PASTA, "{}", said.stderr);
    assert_eq!(said.stderr.matches("warning").count(), usize::from(which == PASTA), "{}", said.stderr);
    // Ports are recorded, shown, and reached from the loopback.
    person.run(&["-d", "--name", "web", "-p", "127.0.0.1:8080:80"], SERVICE).output().succeeds();
    wait_until("it answers", || heard("127.0.0.1:8080").as_deref() == Some("hello web"));
    assert_eq!(person.said(&["port", "web"]), "80/tcp -> 127.0.0.1:8080\n");
    assert!(person.said(&["ps"]).contains("127.0.0.1:8080->80/tcp"));
    let taken = person.run(&["--rm", "-p", "127.0.0.1:8080:80"], "true").output();
    assert!(taken.code() != 0 && taken.stderr.contains("127.0.0.1:8080/tcp"), "{}", taken.stderr);
    // It ends with its container, and comes again with it.
    let first = carrier(&person);
    assert!(runs(first));
    person.said(&["stop", "web"]);
    wait_until("the carrier has ended", || !runs(first));
    person.said(&["start", "web"]);
    wait_until("it answers again", || heard("127.0.0.1:8080").as_deref() == Some("hello web"));
    let second = carrier(&person);
    person.said(&["rm", "-f", "web"]);
    wait_until("the carrier has ended", || !runs(second));
}

/// Nothing of a carrier stays, whoever is killed.
fn is_ended(which: Carrier) {
    let (person, _cable) = on_a_cable!(which);
    let begin = || {
        person.run(&["-d", "--name", "web"], "sleep 1000").output().succeeds();
        carrier(&person)
    };
    // The monitor: whoever looks ends it.
    let pid = begin();
    kill_unheard(&person, "web");
    person.said(&["system", "check"]);
    wait_until("the carrier has ended", || !runs(pid));
    assert_eq!(files(&person), Vec::<String>::new());
    person.said(&["rm", "web"]);
    // Whoever has started it, before that could be recorded.
    let pid = begin();
    let (file, mut document) = recorded(&person);
    document["carrier"]["process"] = Value::Null;
    fs::write(file, document.to_string()).unwrap();
    kill_unheard(&person, "web");
    person.said(&["system", "check"]);
    wait_until("the carrier has ended", || !runs(pid));
    assert_eq!(files(&person), Vec::<String>::new());
    person.said(&["rm", "web"]);
    // Itself: the container goes on, and leaves nothing.
    let pid = begin();
    kill(&person, &pid.into());
    wait_until("the carrier has ended", || !runs(pid));
    wait_until("another one carries", || carrier_now(&person).is_some());
    assert_eq!(person.run(&["--rm", "--network", "container:web"], "true").output().succeeds().stdout, "");
    person.said(&["stop", "web"]);
    wait_until("its files are gone", || files(&person).is_empty());
    person.said(&["rm", "web"]);
    // A start that fails when it is there.
    let options = ["--name", "web", "-p", "18080:80", "--entrypoint", "/nothing"];
    person.run(&options, "true").output().exits_with(127);
    assert_eq!(files(&person), Vec::<String>::new());
    assert!(TcpListener::bind("0.0.0.0:18080").is_ok(), "nobody listens for it");
    person.said(&["rm", "web"]);
}

/// A carrier that dies alone has another one in its place.
fn comes_again(which: Carrier) {
    let (person, _cable) = on_a_cable!(which);
    let options = ["-d", "--name", "web", "-p", "127.0.0.1:8080:80", "-p", "127.0.0.1:8081:80"];
    person.run(&options, SERVICE).output().succeeds();
    let answers = |at: &str| heard(at).as_deref() == Some("hello web");
    let asks = || {
        let words = ["exec", "web", "busybox", "timeout", "5", "wget", "-qO-", "http://10.77.0.2:7000/"];
        person.bulkhead(&words).output().stdout == "hello far\n"
    };
    let is_whole = || answers("127.0.0.1:8080") && answers("127.0.0.1:8081") && asks();
    wait_until("it is reached, and reaches others", is_whole);
    // By the monitor, each time.
    for _ in 0..2 {
        let before = carrier(&person);
        kill(&person, &before.into());
        wait_until("it has ended", || !runs(before));
        wait_until("another one carries", || carrier_now(&person).is_some());
        wait_until("the container is reached again, and reaches others", is_whole);
    }
    // One of its ports is another's when it comes again.
    let (monitor, before) = (person.monitor("web").into(), carrier(&person));
    send(&person, "-STOP", &monitor);
    kill(&person, &before.into());
    wait_until("it has ended", || !runs(before));
    let taken = TcpListener::bind("127.0.0.1:8081").unwrap();
    let check = |more: &[&str]| person.bulkhead(&[&["system", "check"], more].concat()).output();
    let told = check(&["--dry-run"]).exits_with(1);
    assert!(told.stdout.contains("the program that carries its packets has died"), "{told}");
    assert_eq!(carrier_now(&person), None, "nothing is changed");
    send(&person, "-CONT", &monitor);
    wait_until("it is reached at its other port", || answers("127.0.0.1:8080") && asks());
    let told = check(&[]).exits_with(1);
    assert!(told.stdout.contains("a program of the host has taken 127.0.0.1:8081/tcp meanwhile"), "{told}");
    drop(taken);
    kill(&person, &carrier(&person).into());
    wait_until("it is reached at both", is_whole);
    assert!(check(&[]).succeeds().stdout.contains("as it should be"));
    let last = carrier(&person);
    person.said(&["rm", "-f", "web"]);
    wait_until("it ends with its container", || !runs(last));
}

#[test]
fn pasta_comes_again_when_it_dies_alone() {
    comes_again(PASTA);
}

#[test]
fn the_newest_pasta_comes_again_when_it_dies_alone() {
    comes_again(NEWEST_PASTA);
}

#[test]
fn slirp4netns_comes_again_when_it_dies_alone() {
    comes_again(SLIRP);
}

#[test]
fn a_check_has_a_carrier_started_again_that_could_not_be() {
    let (person, _cable) = on_a_cable!(SLIRP);
    person.run(&["-d", "--name", "web"], "sleep 1000").output().succeeds();
    let program = person.shop.path("carriers/slirp4netns");
    fs::rename(&program, program.with_extension("away")).unwrap();
    kill(&person, &carrier(&person).into());
    let check = || person.bulkhead(&["system", "check"]).output();
    wait_until("it is missing", || carrier_now(&person).is_none());
    let told = check().exits_with(1);
    assert!(told.stdout.contains("it is in the package slirp4netns"), "{told}");
    // By then the monitor waits for twelve seconds until it tries again.
    std::thread::sleep(Duration::from_secs(14));
    fs::rename(program.with_extension("away"), &program).unwrap();
    let mended = check().succeeds();
    assert!(
        mended.stdout.contains("the program that carries its packets has died (mended: started again)"),
        "{mended}"
    );
    assert!(carrier_now(&person).is_some());
    assert!(check().stdout.contains("as it should be"));
    person.said(&["rm", "-f", "web"]);
}

/// Until it hides it could be looked into by a container that has the rights for that and knows its number. Must fail when `sees_processes`
/// says that none does.
#[test]
fn a_container_that_sees_its_hosts_processes_gets_no_carrier_while_it_runs() {
    for options in [&["--pid", "host"][..], &["-v", "/proc:/host"], &["-v", "/:/host"]] {
        let (person, _cable) = on_a_cable!(SLIRP);
        person.run(&[&["-d", "--name", "web"], options].concat(), "sleep 1000").output().succeeds();
        let before = carrier(&person);
        kill(&person, &before.into());
        wait_until("it has ended", || !runs(before));
        let told = person.bulkhead(&["system", "check"]).output().exits_with(1);
        let said = "it sees its host's processes, and so a carrier before that hides: `bulkhead restart web`";
        assert!(told.stdout.contains(said), "{options:?}: {told}");
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(carrier_now(&person), None, "nor does the monitor");
        person.said(&["restart", "-t", "0", "web"]);
        assert!(carrier_now(&person).is_some());
        person.said(&["rm", "-f", "web"]);
    }
}

#[test]
fn a_record_of_a_carrier_that_nobody_can_read_is_named_and_made_anew() {
    for which in [PASTA, SLIRP] {
        let (person, _cable) = on_a_cable!(which);
        person.run(&["-d", "--name", "web", "-p", "127.0.0.1:8080:80"], SERVICE).output().succeeds();
        let answers = || heard("127.0.0.1:8080").as_deref() == Some("hello web");
        wait_until("it answers", answers);
        let (file, pid) = (recorded(&person).0, carrier(&person));
        fs::write(&file, "{\"version\":1,").unwrap();
        let told = person.bulkhead(&["system", "check"]).output().exits_with(1);
        let id = id(&person);
        assert!(told.stdout.contains("network.json"), "{told}");
        assert!(told.stdout.contains(&format!("`bulkhead restart {}` makes it anew", &id[..12])), "{told}");
        assert!(runs(pid) && fs::read_to_string(&file).unwrap().len() == 13, "it is left alone");
        wait_until("it answers still", answers);
        person.said(&["restart", "-t", "0", "web"]);
        wait_until("the one that nobody knew has ended", || !runs(pid));
        wait_until("it answers again", answers);
        assert!(person.said(&["system", "check"]).contains("as it should be"));
        // Of one that has ended.
        let pid = carrier(&person);
        fs::write(&file, "{").unwrap();
        kill_unheard(&person, "web");
        let mended = person.bulkhead(&["system", "check"]).output().succeeds();
        assert!(mended.stdout.contains("(mended: ended)"), "{mended}");
        wait_until("it has ended", || !runs(pid));
        assert_eq!(files(&person), Vec::<String>::new());
        person.said(&["rm", "web"]);
    }
}

#[test]
fn pasta_carries_the_packets_of_an_ordinary_users_container() {
    carries(PASTA, "169.254.1.1");
}

#[test]
fn the_newest_pasta_carries_the_packets_of_an_ordinary_users_container() {
    carries(NEWEST_PASTA, "169.254.1.1");
}

#[test]
fn slirp4netns_carries_the_packets_of_an_ordinary_users_container() {
    carries(SLIRP, "10.0.2.3");
}

/// Must fail when pasta is told of no address: then it listens at both families.
#[test]
fn pasta_publishes_at_ipv6_alone_where_that_was_asked_for() {
    for which in [PASTA, NEWEST_PASTA] {
        let (person, _cable) = on_a_cable!(which);
        for words in [
            "addr add fd77::1/64 dev up0 nodad",
            "-6 route add default via fd77::2 dev up0",
            "link set lo up",
        ] {
            let ip = person.shop.sandbox.command("ip").args(words.split(' ').collect::<Vec<_>>());
            ip.output().succeeds();
        }
        let options = ["-d", "--name", "web", "-p", "[::]:18080:80", "-p", "[::]:18081:80", "-p", "18081:80"];
        person.run(&options, SERVICE).output().succeeds();
        wait_until("it answers", || heard("[::1]:18080").as_deref() == Some("hello web"));
        assert!(TcpListener::bind("0.0.0.0:18080").is_ok(), "nobody listens there");
        for both in ["[::1]:18081", "127.0.0.1:18081"] {
            wait_until("it answers", || heard(both).as_deref() == Some("hello web"));
        }
        person.said(&["rm", "-f", "web"]);
    }
}

#[test]
fn pasta_leaves_nothing_whoever_is_killed() {
    is_ended(PASTA);
}

#[test]
fn slirp4netns_leaves_nothing_whoever_is_killed() {
    is_ended(SLIRP);
}

/// A carrier is in the container's user namespace (pasta) and has files of the host: not even a container that sees its host's
/// processes can look into it; the numbers of descriptors are no secret. Must fail at times when nobody waits until it hides (`until_hidden`).
#[test]
fn a_container_cannot_look_into_its_carrier() {
    for which in [PASTA, NEWEST_PASTA, SLIRP] {
        let (person, _cable) = on_a_cable!(which);
        person.run(&["-d", "--name", "web", "--pid", "host"], "sleep 1000").output().succeeds();
        let pid = carrier(&person);
        let script = format!(
            "cd /proc/{pid}; cat comm >&2; for name in exe root cwd ns/net fd/*; do readlink $name; cat $name; done; \
             head -c 1 mem environ maps; ls root/"
        );
        let said = person.bulkhead(&["exec", "web", "sh", "-c", &script]).output();
        let comm = match which {
            SLIRP => "slirp4netns\n",
            NEWEST_PASTA => "ld-linux",
            _ => "pasta",
        };
        assert!(said.stderr.starts_with(comm) && said.stdout.is_empty(), "{said}");
        person.said(&["rm", "-f", "web"]);
    }
}

/// A frame that a container makes by itself, to 127.0.0.1 behind the carrier.
const FRAME: &str = "import fcntl, socket, struct, sys\n\
    device = sys.argv[1].encode()\n\
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n\
    out.bind((sys.argv[1], 0))\n\
    own = fcntl.ioctl(out, 0x8927, struct.pack('256s', device))[18:24]\n\
    words = lambda data: sum(struct.unpack('!%dH' % (len(data) // 2), data))\n\
    udp = struct.pack('!HHHH', 5555, 9999, 14, 0) + b'secret'\n\
    addresses = socket.inet_aton('10.0.2.100') + socket.inet_aton('127.0.0.1')\n\
    head = struct.pack('!BBHHHBBH', 0x45, 0, 34, 1, 0, 64, 17, 0) + addresses\n\
    total = words(head); total = (total >> 16) + (total & 0xffff)\n\
    head = head[:10] + struct.pack('!H', ~total & 0xffff) + head[12:]\n\
    for _ in range(3): out.send(bytes.fromhex(sys.argv[2]) + own + b'\\x08\\x00' + head + udp)\n";

/// Behind slirp4netns and old versions of pasta such a frame comes to the host's loopback, so that a container gets no right to make any.
#[test]
fn a_container_does_not_reach_its_host_s_loopback() {
    requires!(bulkhead_testkit::find_program("python3").is_some(), "needs python3");
    let bounding = "grep CapBnd /proc/self/status";
    let is_raw = |said: &str| {
        let digits = said.trim().rsplit('\t').next().unwrap();
        u64::from_str_radix(digits, 16).unwrap() & (1 << 13) != 0
    };
    for (which, router) in [(PASTA, None), (NEWEST_PASTA, None), (SLIRP, Some("52550a000202"))] {
        let (person, _cable) = on_a_cable!(which);
        let said = person.run(&["--rm"], bounding).output().succeeds().stdout;
        assert!(!is_raw(&said), "{}", which.name);
        let said =
            person.run(&["--rm"], "cat /proc/sys/net/ipv4/ping_group_range").output().succeeds().stdout;
        assert_eq!(said, "0\t65536\n", "each of its groups may ping");
        let said = person.run(&["--rm", "--cap-add", "NET_RAW"], bounding).output().succeeds().stdout;
        assert!(is_raw(&said));
        person.run(&["-d", "--name", "web"], "sleep 1000").output().succeeds();
        let shared =
            person.run(&["--rm", "--network", "container:web", "--userns", "container:web"], bounding);
        assert!(!is_raw(&shared.output().succeeds().stdout), "nor who shares its network");
        let heard = UdpSocket::bind("127.0.0.1:9999").unwrap();
        heard.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let pid = person.pid("web").to_string();
        let device = if which == SLIRP { "tap0" } else { "up0" };
        let words = ["-t", &pid, "-U", "-n", "python3", "-c", FRAME, device];
        // pasta answers whoever asks it.
        let router = router.unwrap_or("ffffffffffff");
        person.shop.sandbox.command("nsenter").args(words).arg(router).output().succeeds();
        let is_heard = heard.recv(&mut [0; 16]).is_ok();
        println!("{} of {}: {is_heard}", which.name, which.suite);
        assert!(is_heard || which != SLIRP, "the frame is right");
        person.said(&["rm", "-f", "web"]);
    }
}

#[test]
fn an_old_pasta_comes_after_slirp4netns_and_a_new_one_before() {
    let (person, _cable) = on_a_cable!(PASTA, SLIRP);
    let chosen = || {
        person.run(&["-d", "--name", "web"], "sleep 1000").output().succeeds();
        let carrier = recorded(&person).1["carrier"]["program"].as_str().unwrap().to_owned();
        person.said(&["rm", "-f", "web"]);
        carrier
    };
    assert_eq!(chosen(), "slirp4netns");
    let tells = "#!/bin/sh\ncase $1 in --help) echo --map-guest-addr;; *) exec $0.old \"$@\";; esac\n";
    let bin = person.shop.path("carriers");
    fs::rename(bin.join("pasta"), bin.join("pasta.old")).unwrap();
    person.shop.script_file(&bin.join("pasta"), tells);
    assert_eq!(chosen(), "pasta");
}

#[test]
fn what_a_carrier_cannot_do_is_said_before_anything_is_made() {
    let (person, _cable) = on_a_cable!(PASTA, SLIRP);
    for (options, says) in [
        (&["-p", "80:80"][..], "the kernel lets ordinary users listen at 1024 and above"),
        (&["-p", "8080:80/sctp"], "know tcp and udp alone"),
        (
            &["--network", "slirp4netns", "-p", "[::1]:8080:80"],
            "slirp4netns publishes at addresses of IPv4 alone",
        ),
        (&["--network", "bridge"], "networks of the host take root"),
    ] {
        let refused = person.run(options, "true").output().exits_with(125);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    assert_eq!(person.said(&["ps", "-aq"]), "");
}

#[test]
fn without_a_carrier_there_is_no_network_and_the_package_is_named() {
    let person = person!(RANGE).with_image();
    let has = |program: &&str| bulkhead_testkit::find_program(program).is_some();
    requires!(!["pasta", "slirp4netns"].iter().any(has), "needs a machine without pasta and slirp4netns");
    let said = person.run(&["--rm"], "ls /sys/class/net").output().succeeds().prints("lo\n");
    assert_eq!(said.stderr.matches("install the package passt").count(), 1, "{}", said.stderr);
    let said = person.run(&["--rm", "--network", "none"], "true").output().succeeds();
    assert!(!said.stderr.contains("passt"), "{}", said.stderr);
    for (options, says) in [
        (&["--network", "pasta"][..], "it is in the package passt"),
        (&["--network", "slirp4netns"], "it is in the package slirp4netns"),
        (&["-p", "8080:80"], "package passt"),
    ] {
        let refused = person.run(options, "true").output().exits_with(125);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
}

#[test]
fn root_s_containers_have_no_carrier() {
    let shop = crate::shop::shop!();
    let refused = shop.script(&["--network", "pasta"], "true").output().exits_with(125);
    assert!(refused.stderr.contains("root's have networks of the host"), "{}", refused.stderr);
}
