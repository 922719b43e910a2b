//! What a container may try on the helper that reads its messages.

use std::io::{Read as _, Write as _};

use bulkhead_testkit::{built, requires};

use crate::packets::{A, Told, question};
use crate::rig::{Rig, converse, lives, member};

#[test]
fn a_helper_has_no_rights_that_it_could_lose() {
    requires!(rustix::process::geteuid().is_root(), "needs root: the helper becomes another user");
    bulkhead_testkit::in_fresh_namespaces!(Mount, Network);
    let rig = Rig::new(&[]);
    let other = Rig::new(&[]);
    let [process, another] = [&rig, &other].map(|rig| rig.ensure().process().unwrap());
    let status = |process: i32| {
        let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        move |field: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
            line.unwrap().split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        }
    };
    let of = status(process);
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(of(field), "0000000000000000", "{field}");
    }
    assert_eq!((of("NoNewPrivs"), of("Seccomp"), of("Groups")), ("1".into(), "2".into(), String::new()));
    let user = of("Uid");
    let ids = Vec::from_iter(user.split(' ').map(|id| id.parse::<u32>().unwrap()));
    assert!(ids.iter().all(|id| *id == ids[0] && (1_900_000_001..=1_901_000_000).contains(id)), "{user}");
    assert_ne!(status(another)("Uid"), user, "each has a user of its own");
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let open = Vec::from_iter(open.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap()));
    let expected = |path: &std::path::PathBuf| {
        let text = path.to_string_lossy();
        ["/dev/null", "socket:", "anon_inode:[eventpoll]"].iter().any(|known| text.starts_with(known))
            || *path == rig.tables()
    };
    assert!(open.iter().all(expected), "{open:?}");
    let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    for limit in ["Max core file size        0", "Max processes             0", "Max file size             0"]
    {
        assert!(limits.contains(limit), "{limits}");
    }
    assert_eq!(std::fs::metadata(format!("/proc/{process}/environ")).unwrap().len(), 0);
}

#[test]
fn no_message_ends_it() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&["--upstream", "127.0.0.1"]);
    rig.network("shop", &[member("db", &["10.1.0.2"])]);
    let db = rig.container("db");
    let process = rig.ensure().process().unwrap();
    let client = db.client();
    let good = question("db", A);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for round in 0..20_000_usize {
        let mut message = good.clone();
        for _ in 0..random() % 4 {
            let at = usize::try_from(random()).unwrap() % message.len();
            message[at] = random().to_le_bytes()[0];
        }
        message.truncate(usize::try_from(random()).unwrap() % (message.len() + 20));
        if round % 50 == 0 {
            message.resize(usize::try_from(random() % 60_000).unwrap(), 0xc0);
        }
        client.send(&message).unwrap();
    }
    for beginning in [&b"\xff\xff"[..], b"\0\0", b"\0\x01a", b"\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0", b"\0"] {
        let mut stream = db.connect();
        stream.write_all(beginning).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
    }
    assert!(lives(process));
    assert_eq!(db.ask("db", A).answers, ["10.1.0.2"]);
    let mut stream = db.connect();
    assert_eq!(Told::read(&converse(&mut stream, &good).unwrap()).answers, ["10.1.0.2"]);
    assert_eq!(rig.ensure().process().unwrap(), process);
}

#[test]
fn a_kernel_without_landlock_keeps_the_other_walls() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let rig = Rig::new(&[]);
    let launcher = built::program("bulkhead-testkit", "fake-enosys");
    let script = rig.script(&format!("set -- {} landlock_create_ruleset -- \"$@\"", launcher.display()));
    let rig = rig.by(script);
    rig.network("shop", &[member("db", &["10.1.0.2"])]);
    let db = rig.container("db");
    assert_eq!(db.ask("db", A).answers, ["10.1.0.2"]);
    let process = rig.ensure().process().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{status}");
    }
}
