//! Programs as people use them.

use std::net::Ipv4Addr;
use std::process::Command;

use bulkhead_testkit::{find_program, requires};

use crate::packets::answered;
use crate::rig::{Container, Rig, member};
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
