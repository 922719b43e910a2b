//! Other runtimes, an init, and many monitors at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_shim::order::{Overlay, Stdin};
use bulkhead_shim::protocol::{Size, Stop, ToMonitor};
use bulkhead_testkit::{cached, find_program, in_fresh_namespaces, is_root, kernel, requires, wait_until};

use crate::stand::{BULKMON, SPEAK, Stand, hear, hear_until, sandbox};

/// The runtimes of others that are here: those of the system, and those that `cargo xtask peers` unpacks. Newer crun refuses
/// the mixture of both versions of cgroups that some machines have.
fn others() -> Vec<PathBuf> {
    let peers = cached("peers/bookworm").map(|peers| peers.join("usr"));
    let find = |name: &str, place: &str| {
        let unpacked =
            peers.as_ref().map(|peers| peers.join(place).join(name)).filter(|program| program.is_file());
        unpacked.or_else(|| find_program(name))
    };
    [find("runc", "sbin"), find("crun", "bin")].into_iter().flatten().collect()
}

/// Whether this runtime can run a container here at all; what it says otherwise.
fn works(sandbox: &bulkhead_testkit::Sandbox, runtime: &Path, number: usize) -> Result<(), String> {
    let bundle = sandbox.bundle(&format!("probe{number}")).args(["true"]);
    let root = sandbox.directory().join("probe");
    let mut run = sandbox.command(runtime).arg("--root").arg(root).args(["run", "--bundle"]);
    run = run.arg(bundle.directory()).arg(bundle.id());
    let output = run.output();
    if output.status.success() { Ok(()) } else { Err(output.stderr) }
}

#[test]
fn runtimes_of_others_run_under_a_monitor() {
    let sandbox = sandbox!();
    let mut ran = 0;
    for (number, runtime) in others().into_iter().enumerate() {
        if let Err(reason) = works(&sandbox, &runtime, number) {
            println!("{} does not run here: {reason}", runtime.display());
            continue;
        }
        ran += 1;
        let root = sandbox.directory().join(format!("root{number}"));
        let words = [&runtime, Path::new("--root"), &root].map(|word| word.to_str().unwrap().to_owned());
        let bundle = sandbox.bundle(&format!("pipes{number}")).script("echo out; echo err >&2; exit 7");
        let stand = Stand::new(&sandbox, &bundle, |order| order.runtime = words.to_vec());
        let (stdout, stderr, exit) = hear(&mut stand.start());
        assert_eq!(
            (stdout.as_str(), stderr.as_str(), exit.code),
            ("out\n", "err\n", 7),
            "{}",
            runtime.display()
        );
        stand.last_status();

        let bundle =
            sandbox.bundle(&format!("tty{number}")).script("stty size; read x; stty size").terminal();
        let stand = Stand::new(&sandbox, &bundle, |order| {
            order.runtime = words.to_vec();
            order.stdin = Stdin::Open;
        });
        let mut client = stand.start_with(SPEAK).attachment.unwrap();
        hear_until(&mut client, "\r\n");
        client.resize(Size { rows: 31, columns: 41 }).unwrap();
        client.offer(b"\n").unwrap();
        let (rest, _, exit) = hear(&mut client);
        assert!(rest.contains("31 41") && exit.code == 0, "{}: {rest:?}", runtime.display());
        stand.last_status();

        let bundle = sandbox.bundle(&format!("none{number}")).args(["no-such-program"]);
        let stand = Stand::new(&sandbox, &bundle, |order| order.runtime = words.to_vec());
        let error = bulkhead_shim::client::spawn(Path::new(BULKMON), &stand.run, None).unwrap_err();
        let bulkhead_shim::client::Error::NotStarted { failure } = error else { panic!("{error}") };
        assert_eq!(failure.kind.code(), 127, "{}: {}", runtime.display(), failure.message);
        stand.last_status();
        assert_eq!(
            fs::read_dir(&root).map_or(0, Iterator::count),
            0,
            "{} has left nothing",
            runtime.display()
        );
    }
    if ran == 0 {
        bulkhead_testkit::skip!("needs a runc or crun that runs here");
    }
}

#[test]
fn an_overlay_is_seen_by_nobody_else() {
    let sandbox = sandbox!();
    let bundle = sandbox.bundle("overlay").script("cat /lower; echo changed > /lower; echo $?; read x");
    let place = |name: &str| {
        let directory = sandbox.directory().join(name);
        fs::create_dir(&directory).unwrap();
        directory
    };
    let (lower, upper, work) = (place("lower"), place("upper"), place("work"));
    fs::write(lower.join("lower"), "from below\n").unwrap();
    // The root that the bundle had becomes a layer, and an empty directory its place.
    let old = sandbox.directory().join("old");
    fs::rename(bundle.rootfs(), &old).unwrap();
    fs::create_dir(bundle.rootfs()).unwrap();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.stdin = Stdin::Once;
        order.overlay = Some(Overlay {
            lower: vec![lower.clone(), old],
            upper: upper.clone(),
            work,
            at: bundle.rootfs(),
            volatile: true,
        });
    });
    let mut client = stand.start_with(SPEAK).attachment.unwrap();
    assert_eq!(hear_until(&mut client, "0\n"), "from below\n0\n");
    assert_eq!(
        fs::read_to_string("/proc/self/mountinfo").unwrap(),
        before,
        "the host's mounts are as they were"
    );
    assert_eq!(fs::read_dir(bundle.rootfs()).unwrap().count(), 0, "the host sees an empty directory");
    client.offer(b"\n").unwrap();
    assert_eq!(hear(&mut client).2.code, 0);
    stand.last_status();
    assert_eq!(fs::read_to_string(upper.join("lower")).unwrap(), "changed\n");
    assert_eq!(fs::read_to_string(lower.join("lower")).unwrap(), "from below\n");
}

#[test]
fn all_mounts_of_a_monitor_with_an_overlay_are_peers_of_the_host_s() {
    requires!(is_root() && kernel() >= (5, 15), "needs root and Linux 5.15");
    in_fresh_namespaces!(Mount);
    let sandbox = sandbox!();
    let shared = sandbox.directory().join("shared");
    fs::create_dir(&shared).unwrap();
    let script = format!("mount -t tmpfs tmpfs {0} && mount --make-shared {0}", shared.display());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    let place = |name: &str| {
        let directory = shared.join(name);
        fs::create_dir(&directory).unwrap();
        directory
    };
    let (upper, work, at) = (place("upper"), place("work"), place("root"));
    let bundle = sandbox.bundle("peers").args(["sleep", "100"]);
    let lower = vec![bundle.rootfs()];
    let bundle = bundle.edit(|config| config["root"]["path"] = at.to_str().unwrap().into());
    let stand = Stand::new(&sandbox, &bundle, |order| {
        order.overlay = Some(Overlay { lower, upper, work, at, volatile: false });
    });
    stand.start_alone();
    let groups = |process: &str| -> Vec<String> {
        let table = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
        let of_shared = table.lines().filter(|line| line.contains(&format!(" {} ", shared.display())));
        of_shared
            .flat_map(|line| line.split(' ').filter(|field| field.starts_with("shared:")))
            .map(str::to_owned)
            .collect()
    };
    let own = groups("self");
    assert_eq!(own.len(), 1, "it is shared");
    assert_eq!(groups(&stand.status().monitor.pid.to_string()), own, "they are peers");
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
    drop(stand);
    assert!(Command::new("umount").arg(&shared).status().unwrap().success(), "nothing is mounted below it");
}

#[test]
fn an_init_reaps_passes_signals_on_and_ends_as_its_command_does() {
    let sandbox = sandbox!();
    let init = |short: &str, command: &[&str]| {
        let words = [&["/init", "init", "--"], command].concat();
        let bundle = sandbox.bundle(short).args(words);
        // Of this build it is dynamic, so what it needs comes along.
        bundle.bind(BULKMON, "/init", &["ro"]).bind("/lib", "/lib", &["ro"]).bind("/lib64", "/lib64", &["ro"])
    };
    let script =
        "(sleep 0.1 & ) ; trap 'exit 9' TERM; sleep 0.5; ps -o pid,stat,args; while :; do sleep 0.1; done";
    let bundle = init("reaps", &["sh", "-c", script]);
    let stand = Stand::new(&sandbox, &bundle, |_| {});
    let mut client = stand.start();
    let listed = hear_until(&mut client, "ps -o");
    assert!(!listed.contains('Z'), "there are no zombies:\n{listed}");
    stand.ask(&ToMonitor::Stop(Stop::default())).unwrap();
    assert_eq!(hear(&mut client).2.code, 9, "the command has heard the signal");
    stand.last_status();

    for (short, command, code) in [
        ("code", &["sh", "-c", "exit 42"][..], 42),
        ("killed", &["sh", "-c", "kill -9 $$"], 137),
        ("none", &["/none"], 127),
        ("data", &["/etc/passwd"], 126),
    ] {
        let bundle = init(short, command);
        let stand = Stand::new(&sandbox, &bundle, |_| {});
        assert_eq!(hear(&mut stand.start()).2.code, code, "{command:?}");
        stand.last_status();
    }
}

#[test]
fn a_hundred_containers_have_a_hundred_monitors() {
    let sandbox = sandbox!();
    let stands: Vec<_> = (0..100)
        .map(|number| {
            let bundle =
                sandbox.bundle(&number.to_string()).script(&format!("echo {number}; exec sleep 300"));
            Stand::new(&sandbox, &bundle, |_| {})
        })
        .collect();
    let began = std::time::Instant::now();
    stands.iter().for_each(|stand| drop(stand.start_alone()));
    println!("100 starts took {} ms", began.elapsed().as_millis());
    for (number, stand) in stands.iter().enumerate() {
        wait_until("it has said its number", || {
            stand.logged() == [(format!("{number}\n"), "stdout".to_owned())]
        });
    }
    for stand in &stands {
        stand.ask(&ToMonitor::Stop(Stop { signal: Some(9), grace: None })).unwrap();
        assert_eq!(stand.last_status().code, Some(137));
    }
}
