//! Programs as people use them.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use bulkhead_net::names::Sockets;
use bulkhead_testkit::{find_program, requires};

use crate::packets::answered;
use crate::rig::{Container, Rig, kill, member, wait_until};
use crate::upstream::Upstream;

/// Has programs of this test's mount namespace ask where containers do.
fn ask_as_containers_do(rig: &Rig) {
    let file = rig.tables().with_file_name("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.11\noptions ndots:0\n").unwrap();
    let place = std::fs::canonicalize("/etc/resolv.conf").unwrap();
    let mounted = Command::new("mount").arg("--bind").args([&file, &place]).status().unwrap();
    assert!(mounted.success());
}

/// Runs a program in a container, and returns what it says.
fn run(container: &Container, program: &str, words: &[&str]) -> String {
    let output = container.inside(|| Command::new(program).args(words).output()).unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {words:?}: {said}");
    said
}

fn rig() -> Rig {
    let rig = Rig::new(&["--upstream", "127.0.0.53"]);
    rig.network(
        "shop",
        &[
            member("web", &["10.1.0.2"]),
            member("db", &["10.1.0.3", "fd00:1::3"]),
            member("six", &["fd00:1::4"]),
        ],
    );
    rig
}

fn upstream() -> Upstream {
    Upstream::new(Ipv4Addr::new(127, 0, 0, 53), |question| {
        let is_v4 = question[question.len() - 3] == 1;
        vec![answered(question, 0, &[Ipv4Addr::new(192, 0, 2, 7)][..usize::from(is_v4)])]
    })
}

#[test]
fn the_c_library_finds_names_and_addresses() {
    requires!(find_program("python3").is_some(), "needs python3");
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _upstream = upstream();
    let rig = rig();
    let web = rig.container("web");
    ask_as_containers_do(&rig);
    let python = |expression: &str| {
        let program = format!("import socket\nprint({expression})");
        run(&web, "python3", &["-c", &program]).trim().to_owned()
    };
    assert_eq!(python("socket.gethostbyname('db')"), "10.1.0.3");
    assert_eq!(python("socket.gethostbyname('example.org')"), "192.0.2.7");
    assert_eq!(python("socket.gethostbyaddr('10.1.0.3')[0]"), "db.shop");
    let all = "sorted({found[4][0] for found in socket.getaddrinfo('db', 80)})";
    assert_eq!(python(all), "['10.1.0.3', 'fd00:1::3']");
    let only = "[found[4][0] for found in socket.getaddrinfo('six.shop', 80, type=socket.SOCK_STREAM)]";
    assert_eq!(python(only), "['fd00:1::4']");
}

#[test]
fn busybox_finds_names_and_addresses() {
    requires!(find_program("busybox").is_some(), "needs busybox");
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _upstream = upstream();
    let rig = rig();
    let web = rig.container("web");
    ask_as_containers_do(&rig);
    for (name, answer) in
        [("db", "10.1.0.3"), ("db.shop", "fd00:1::3"), ("example.org", "192.0.2.7"), ("10.1.0.3", "db.shop")]
    {
        let said = run(&web, "busybox", &["nslookup", name]);
        assert!(said.contains(answer), "{name}: {said}");
    }
}

/// As a monitor does, which knows no more of this than the head of `names::protocol`.
const MONITOR: &str = r#"
import json, os, socket, subprocess, sys
path, program, container = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
while True:
    helper = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        helper.connect(path)
        message = json.dumps({"version": 1, "do": "stay", "container": container}).encode()
        socket.send_fds(helper, [message], [0, 1])
        answer = json.loads(helper.recv(4096))
        print("served" if "error" not in answer else answer["error"], file=sys.stderr, flush=True)
        helper.recv(4096)
    except OSError:
        pass
    subprocess.run(program, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
"#;

#[test]
fn a_monitor_that_keeps_the_sockets_has_them_served_whenever_a_helper_dies() {
    requires!(find_program("python3").is_some(), "needs python3");
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = rig();
    let db = Container::new();
    let Sockets { udp, tcp } = db.open();
    let helper = rig.helper_arguments();
    let mut monitor = Command::new("python3");
    monitor.args(["-c", MONITOR]).arg(rig.socket()).args(helper).arg("db").stdin(udp).stdout(tcp);
    let mut running = monitor.stderr(Stdio::piped()).spawn().unwrap();
    // What the command holds would keep the sockets.
    drop(monitor);
    let mut said = BufReader::new(running.stderr.take().unwrap()).lines();
    for _ in 0..3 {
        assert_eq!(said.next().unwrap().unwrap(), "served");
        assert_eq!(db.ask("web", 1).answers, ["10.1.0.2"]);
        let connection = rig.ensure();
        let process = connection.process().unwrap();
        // It is killed, and nobody but the monitor starts another.
        kill(process);
    }
    assert_eq!(said.next().unwrap().unwrap(), "served");
    let connection = rig.ensure();
    assert_eq!(connection.look().unwrap(), ["db"]);
    running.kill().unwrap();
    running.wait().unwrap();
    wait_until("its sockets are given up", || connection.look().unwrap().is_empty());
}
