//! Who serves a container from outside while its networks change: the monitor stays with them, and has them started again.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_shim::socket;
use bulkhead_sys::message;
use bulkhead_testkit::{requires, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketFlags, SocketType, accept_with};
use rustix::process::{Pid, Signal, kill_process};

use crate::networks::{greeter, heard, name_servers};
use crate::proxied::PROXY;
use crate::shop::{Shop, shop};

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

/// Tells whether somebody answers a container who finds it by this name.
fn finds(shop: &Shop, name: &str) -> bool {
    shop.bulkhead(&["exec", name, "nslookup", name, "127.0.0.11"]).output().code() == 0
}

#[test]
fn a_name_server_of_who_was_connected_later_is_started_again_and_not_kept_for_who_has_left() {
    let shop = shop!();
    for network in ["back", "side"] {
        shop.said(&["network", "create", network]);
    }
    shop.service("web", "sleep 1000");
    let dies = || {
        let [server] = name_servers(&shop)[..] else { panic!("one: {:?}", name_servers(&shop)) };
        kill(server);
        wait_until("another one answers", || {
            name_servers(&shop).iter().any(|pid| *pid != server) && finds(&shop, "web")
        });
    };
    shop.said(&["network", "connect", "back", "web"]);
    assert!(finds(&shop, "web"));
    dies();
    // With the first of its networks goes its server, and that of the next takes its place.
    shop.said(&["network", "connect", "side", "web"]);
    let first = name_servers(&shop);
    shop.said(&["network", "disconnect", "back", "web"]);
    assert!(finds(&shop, "web"), "somebody answers at each moment");
    wait_until("the former one ends", || name_servers(&shop).iter().all(|pid| !first.contains(pid)));
    shop.said(&["network", "rm", "back"]);
    dies();
    shop.said(&["network", "disconnect", "side", "web"]);
    wait_until("nobody is kept", || name_servers(&shop).is_empty());
    shop.said(&["network", "rm", "side"]);
}

/// It would be started again and again, by a process each time.
#[test]
fn a_helper_of_a_container_that_has_lost_its_last_port_is_not_looked_for() {
    let shop = shop!();
    shop.said(&["network", "create", "front"]);
    let options = [&["-d", "--name", "web", "--network", "front", "-p", "8160:80"], &PROXY[..]].concat();
    let id = shop.with("run", &options, &["sleep", "1000"]).output().succeeds().stdout.trim().to_owned();
    let order =
        || fs::read_to_string(shop.path("engine-run/containers").join(&id).join("order.json")).unwrap();
    assert!(order().contains("ports.sock"));
    shop.said(&["network", "disconnect", "front", "web"]);
    assert!(!order().contains("ports.sock"), "{}", order());
    let monitor = crate::survive::monitor(&shop, &id);
    let connections = || {
        let links = fs::read_dir(format!("/proc/{monitor}/fd")).unwrap();
        let links = links.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        links.filter(|link| link.to_str().is_some_and(|link| link.starts_with("socket:"))).count()
    };
    wait_until("its own is the monitor's only socket", || connections() == 1);
}

/// The socket of a monitor of yesterday, who knows one message less, and refuses it.
pub(crate) struct Yesterday {
    own: PathBuf,
    aside: PathBuf,
    asked: JoinHandle<Vec<u8>>,
}

impl Yesterday {
    /// Takes the place of a monitor's socket in its directory, and answers once.
    pub(crate) fn begin(run: &Path) -> Self {
        let (own, aside) = (run.join("sock"), run.join("aside"));
        fs::rename(&own, &aside).unwrap();
        let listener = socket::listen(&own, SocketType::SEQPACKET, 4).unwrap();
        fs::set_permissions(&own, fs::Permissions::from_mode(0o666)).unwrap();
        let asked = std::thread::Builder::new().spawn(move || {
            let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
            poll(&mut [PollFd::new(&listener.socket, PollFlags::IN)], Some(&limit)).unwrap();
            let connection = accept_with(&listener.socket, SocketFlags::CLOEXEC).unwrap();
            let asked = message::receive(&connection, 64).unwrap();
            message::send(&connection, b"\x01nno message of the monitor's protocol", &[]).unwrap();
            asked.bytes
        });
        Self { own, aside, asked: asked.unwrap() }
    }

    /// Gives it back; it was asked for its companions.
    #[track_caller]
    pub(crate) fn end(self) {
        assert_eq!(self.asked.join().unwrap(), b"\x01h");
        fs::rename(self.aside, self.own).unwrap();
    }
}

#[test]
fn a_monitor_of_yesterday_is_no_obstacle_to_a_new_network() {
    let shop = shop!();
    shop.said(&["network", "create", "back"]);
    let id = shop.service("web", "sleep 1000");
    let run = shop.path("engine-run/containers").join(id);
    let yesterday = Yesterday::begin(&run);
    let connected = shop.bulkhead(&["network", "connect", "back", "web"]).output().succeeds();
    yesterday.end();
    let says = "until the container's next start: its monitor: no message of the monitor's protocol";
    assert!(connected.stderr.contains(says), "{}", connected.stderr);
    assert!(finds(&shop, "web"));
    // What nobody keeps is given up after five seconds.
    std::thread::sleep(Duration::from_secs(8));
    assert!(finds(&shop, "web"));
    shop.said(&["rm", "-f", "web"]);
    wait_until("it has ended", || name_servers(&shop).is_empty());
}

/// Must fail when the check gives the name server to whoever stays, and tells nobody to.
#[test]
fn a_monitor_stays_with_who_answers_a_container_whose_connect_was_killed() {
    requires!(bulkhead_testkit::find_program("strace").is_some(), "needs strace");
    for is_of_yesterday in [false, true] {
        let shop = shop!();
        shop.said(&["network", "create", "back"]);
        let id = shop.service("web", "sleep 1000");
        let run = shop.path("engine-run/containers").join(id);
        // It is recorded by then, and nobody is told.
        let order = run.join("order.json");
        let strace = shop.sandbox.command("strace").args(["-o", "/dev/null", "-e", "signal=none", "-P"]);
        let strace = strace.arg(&order).args(["-e", "inject=openat:signal=KILL:when=1"]);
        let killed = shop.bulkhead_by(strace, &["network", "connect", "back", "web"]).output();
        assert!(killed.code() != 0, "{killed}");
        assert!(!finds(&shop, "web"));
        let yesterday = is_of_yesterday.then(|| Yesterday::begin(&run));
        let mended = shop.bulkhead(&["system", "check"]).output().succeeds();
        yesterday.into_iter().for_each(Yesterday::end);
        assert!(mended.stdout.contains("answers for its names has died (mended: started again)"), "{mended}");
        assert!(finds(&shop, "web"));
        // What nobody keeps is given up after five seconds.
        std::thread::sleep(Duration::from_secs(8));
        assert!(finds(&shop, "web"), "of yesterday: {is_of_yesterday}");
        assert!(shop.said(&["system", "check"]).contains("as it should be"));
        shop.said(&["rm", "-f", "web"]);
        wait_until("it has ended", || name_servers(&shop).is_empty());
    }
}

/// Kills the helper of a container, and does something before its monitor hears of that.
fn without_helper<T>(shop: &Shop, id: &str, between: impl FnOnce() -> T) -> T {
    let [helper] = shop.helpers()[..] else { panic!("one: {:?}", shop.helpers()) };
    let monitor = Pid::from_raw(crate::survive::monitor(shop, id)).unwrap();
    kill_process(monitor, Signal::STOP).unwrap();
    kill(helper);
    wait_until("it has ended", || shop.helpers().is_empty());
    let done = between();
    kill_process(monitor, Signal::CONT).unwrap();
    done
}

#[test]
fn a_port_that_a_program_of_the_host_took_meanwhile_keeps_none_of_the_others() {
    for mode in ["proxy", "dnat"] {
        let shop = shop!();
        let options = [
            "-d",
            "--name",
            "web",
            "--publish-mode",
            mode,
            "-p",
            "127.0.0.1:8170:80",
            "-p",
            "8171:80",
            "-p",
            "8172:53/udp",
        ];
        let run = shop.with("run", &options, &["sh", "-c", &greeter(80, "web")]).output();
        let id = run.succeeds().stdout.trim().to_owned();
        let reaches = |at: &str| heard(at).as_deref() == Some("hello web");
        wait_until("it answers", || reaches("127.0.0.1:8170") && reaches("127.0.0.1:8171"));
        let program = without_helper(&shop, &id, || TcpListener::bind("127.0.0.1:8170").unwrap());
        wait_until("another one carries or holds the others", || shop.helpers().len() == 1);
        wait_until("it answers there", || reaches("127.0.0.1:8171"));
        assert!(UdpSocket::bind("0.0.0.0:8172").is_err(), "that is its own, too");
        let check = || shop.bulkhead(&["system", "check"]).output();
        let effect =
            if mode == "proxy" { "and the container is not reached there" } else { "and hears nobody there" };
        let said =
            format!("a program of the host has taken 127.0.0.1:8170/tcp meanwhile, {effect} (not mended: ");
        let found = check().exits_with(1);
        assert!(found.stdout.contains(&said), "{found}");
        assert_eq!(found.stdout.lines().count(), 1, "{found}");
        drop(program);
        shop.said(&["restart", "-t", "0", "web"]);
        wait_until("it answers at both", || reaches("127.0.0.1:8170") && reaches("127.0.0.1:8171"));
        assert!(check().succeeds().stdout.contains("as it should be"));
        shop.said(&["rm", "-f", "web"]);
    }
}

#[test]
fn a_port_whose_address_the_host_has_lost_is_told_as_such_and_comes_again_with_the_whole_pod() {
    let shop = shop!();
    let ip = |verb: &str| {
        let words = ["addr", verb, "10.99.0.1/32", "dev", "lo"];
        shop.sandbox.command("ip").args(words).output().succeeds();
    };
    ip("add");
    let options = [&PROXY[..], &["-p", "10.99.0.1:8173:80", "-p", "8174:80"]].concat();
    shop.pod("shop", &options);
    shop.member("shop", "web", &greeter(80, "web"));
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    let reaches = |at: &str| heard(at).as_deref() == Some("hello web");
    wait_until("it answers", || reaches("10.99.0.1:8173") && reaches("127.0.0.1:8174"));
    without_helper(&shop, &id, || ip("del"));
    wait_until("it answers at the other one", || reaches("127.0.0.1:8174"));
    let found = shop.bulkhead(&["system", "check"]).output().exits_with(1);
    let said = "the host has no address for 10.99.0.1:8173/tcp any more (not mended: ";
    assert!(found.stdout.contains(said), "{found}");
    let said = "give the host its address again, and then `bulkhead pod restart ";
    assert!(found.stdout.contains(said) && found.stdout.lines().count() == 1, "{found}");
    ip("add");
    shop.said(&["pod", "restart", "shop"]);
    wait_until("it answers at both", || reaches("10.99.0.1:8173") && reaches("127.0.0.1:8174"));
    assert!(shop.said(&["system", "check"]).contains("as it should be"));
    shop.said(&["pod", "rm", "-f", "shop"]);
}

/// Its monitor would see it die and have it started again; so it is stopped meanwhile.
#[test]
fn a_check_names_helpers_that_have_died_and_starts_them_again() {
    let shop = shop!();
    shop.said(&["network", "create", "front"]);
    let options = [&["-d", "--name", "web", "--network", "front", "-p", "8180:80"], &PROXY[..]].concat();
    let run = shop.with("run", &options, &["sh", "-c", &greeter(80, "web")]).output();
    let id = run.succeeds().stdout.trim().to_owned();
    let answers = || heard("127.0.0.1:8180").as_deref() == Some("hello web");
    wait_until("it answers", answers);
    let [names] = name_servers(&shop)[..] else { panic!("one: {:?}", name_servers(&shop)) };
    without_helper(&shop, &id, || {
        kill(names);
        wait_until("both have ended", || name_servers(&shop).is_empty());
        let told = shop.bulkhead(&["system", "check", "--dry-run"]).output().exits_with(1);
        for said in [
            "the program that carries or holds them has died",
            "the program that answers for its names has died",
        ] {
            assert!(told.stdout.contains(said), "{told}");
        }
        assert_eq!((shop.helpers().len(), name_servers(&shop).len()), (0, 0), "nothing is changed");
        let mended = shop.bulkhead(&["system", "check"]).output().succeeds();
        assert_eq!(mended.stdout.matches("(mended: started again)").count(), 2, "{mended}");
        assert_eq!((shop.helpers().len(), name_servers(&shop).len()), (1, 1));
        wait_until("it answers again", answers);
        assert!(finds(&shop, "web"));
        assert!(shop.said(&["system", "check"]).contains("as it should be"));
    });
    // Its monitor stays with those whom it did not start.
    std::thread::sleep(Duration::from_secs(8));
    assert!(answers() && finds(&shop, "web"));
    assert_eq!((shop.helpers().len(), name_servers(&shop).len()), (1, 1));
}
