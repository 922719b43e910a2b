//! What containers share: memory of others, parts of volumes, secrets; and trees that go with them.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use bulkhead_testkit::wait_until;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use crate::shop::shop;

#[test]
fn memory_is_shared_with_another_container() {
    let shop = shop!();
    let options = ["-d", "--name", "one", "--ipc", "shareable"];
    let script = "echo -n theirs > /dev/shm/file; sleep 1000";
    shop.with("run", &options, &["sh", "-c", script]).output().succeeds();
    wait_until("it is written", || {
        shop.bulkhead(&["exec", "one", "test", "-s", "/dev/shm/file"]).output().code() == 0
    });
    let script = "cat /dev/shm/file; echo -n ours > /dev/shm/other; readlink /proc/self/ns/ipc";
    let said = shop.script(&["--ipc", "container:one"], script).output().succeeds().stdout;
    let namespace = shop.said(&["exec", "one", "readlink", "/proc/self/ns/ipc"]);
    assert_eq!(said, format!("theirs{namespace}"));
    assert_eq!(shop.said(&["exec", "one", "cat", "/dev/shm/other"]), "ours", "it is one memory");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(shop.sandbox.name()), "nothing is mounted on the host: {mounts}");
}

/// A container exchanges its `/dev/shm` for a link to a directory of the host's, and waits for another that shares it. Must
/// fail when that is bound by the path `/proc/PID/root/dev/shm`, as it was.
#[test]
fn memory_that_became_a_link_leads_to_nothing_of_the_host() {
    let shop = shop!();
    let bait = shop.path("bait");
    fs::create_dir(&bait).unwrap();
    fs::write(bait.join("file"), "the host's").unwrap();
    for (number, target) in
        [bait.display().to_string(), format!("../../../../../../..{}", bait.display())].iter().enumerate()
    {
        let name = format!("evil-{number}");
        let script =
            format!("umount /dev/shm; rmdir /dev/shm; ln -s {target} /dev/shm; echo ready; sleep 1000");
        let options = [
            "-d",
            "--name",
            &name,
            "--ipc",
            "shareable",
            "--cap-add",
            "SYS_ADMIN",
            "--security-opt",
            "seccomp=unconfined",
        ];
        shop.with("run", &options, &["sh", "-c", &script]).output().succeeds();
        wait_until("it is ready", || shop.said(&["logs", &name]).contains("ready"));
        assert_eq!(shop.said(&["exec", &name, "readlink", "/dev/shm"]).trim(), target, "the link is there");
        let share = format!("container:{name}");
        let output = shop.script(&["--ipc", &share], "ls -A /dev/shm; touch /dev/shm/came").output();
        assert!(!output.stdout.contains("file"), "a directory of the host is seen: {}", output.stdout);
        let left = Vec::from_iter(fs::read_dir(&bait).unwrap().map(|entry| entry.unwrap().file_name()));
        assert_eq!(left, ["file"], "nothing came into the host's directory");
    }
}

#[test]
fn a_part_of_a_volume_is_mounted() {
    let shop = shop!();
    shop.script(
        &["-v", "data:/data"],
        "mkdir -p /data/a/b; echo -n x > /data/a/b/file; echo -n y > /data/a/one",
    )
    .output()
    .succeeds();
    let part = "type=volume,source=data,target=/part,volume-subpath=a/b";
    let said = shop
        .script(&["--mount", part], "ls -A /part; cat /part/file; echo -n z > /part/new")
        .output()
        .succeeds();
    assert_eq!(said.stdout, "file\nx");
    assert_eq!(fs::read_to_string(shop.path("engine/volumes/data/data/a/b/new")).unwrap(), "z");
    let file = "type=volume,source=data,target=/etc/one,volume-subpath=a/one,readonly";
    let said = shop.script(&["--mount", file], "cat /etc/one; echo no > /etc/one").output().exits_with(1);
    assert_eq!(said.stdout, "y", "a file is a part, too, and read-only: {}", said.stderr);
    let missing = "type=volume,source=data,target=/part,volume-subpath=none";
    let refused = shop.script(&["--mount", missing], "true").output();
    assert_eq!(refused.code(), 125, "{}", refused.stderr);
    let told = "volume-subpath=none of volume data: the volume has no none: make it first, as `bulkhead run";
    assert!(refused.stderr.contains(told) && !refused.stderr.contains("openat2"), "{}", refused.stderr);
    assert_eq!(shop.said(&["ps", "-aq"]), "", "what could not be started and removes itself is gone");
    // Copies see the same, whether it runs or not.
    shop.with("create", &["--name", "job", "--mount", part], &["sleep", "1000"]).output().succeeds();
    for _ in 0..2 {
        shop.said(&["cp", "job:/part/file", shop.path("out").to_str().unwrap()]);
        assert_eq!(fs::read_to_string(shop.path("out")).unwrap(), "x");
        shop.said(&["start", "job"]);
    }
}

/// A container that has the whole volume exchanges the part for a link to a directory of the host's. Must fail when the part is
/// bound by a path through the volume.
#[test]
fn a_part_of_a_volume_that_became_a_link_leads_to_nothing_of_the_host() {
    let shop = shop!();
    let bait = shop.path("bait");
    fs::create_dir(&bait).unwrap();
    fs::write(bait.join("file"), "the host's").unwrap();
    let host = bait.display();
    let script =
        format!("ln -s {host} /data/absolute; ln -s ../../../../../../../../..{host} /data/relative");
    shop.script(&["-v", "data:/data"], &script).output().succeeds();
    for part in ["absolute", "relative", "absolute/file"] {
        let mount = format!("type=volume,source=data,target=/part,volume-subpath={part}");
        let output = shop.script(&["--mount", &mount], "cat /part/file /part; touch /part/came").output();
        assert!(!output.stdout.contains("the host's"), "a file of the host is seen: {}", output.stdout);
    }
    let left = Vec::from_iter(fs::read_dir(&bait).unwrap().map(|entry| entry.unwrap().file_name()));
    assert_eq!(left, ["file"], "nothing came into the host's directory");
}

#[test]
fn secrets_never_reach_the_disk_and_go_with_the_container() {
    let shop = shop!();
    let secret = shop.path("secret");
    fs::write(&secret, "the secret of this test").unwrap();
    let option = format!("id=key,src={},mode=0400,uid=1000", secret.display());
    let script =
        "cat /run/secrets/key; stat -c ' %a %u' /run/secrets/key; echo x > /run/secrets/key; sleep 1000";
    shop.with("run", &["-d", "--name", "web", "--secret", &option], &["sh", "-c", script])
        .output()
        .succeeds();
    wait_until("it has spoken", || shop.said(&["logs", "web"]).contains("1000"));
    assert!(shop.said(&["logs", "web"]).starts_with("the secret of this test 400 1000\n"));
    let holds = |place: &str| {
        let found = shop.sandbox.command("grep").args(["-rl", "--devices=skip", "the secret of this test"]);
        let found = found.arg(shop.path(place)).output().stdout;
        found.lines().filter(|file| !file.ends_with("log.json")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(holds("engine"), Vec::<String>::new(), "nothing below the directory that outlives a reboot");
    let kept = holds("engine-run");
    let [kept] = kept.as_slice() else { panic!("one copy: {kept:?}") };
    let found = fs::metadata(kept).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid()), (0o400, 1000));
    let above = fs::metadata(std::path::Path::new(kept).parent().unwrap()).unwrap();
    assert_eq!(above.mode() & 0o777, 0o700, "nobody else comes to it");
    shop.said(&["restart", "web"]);
    assert_eq!(shop.said(&["exec", "web", "cat", "/run/secrets/key"]), "the secret of this test");
    shop.said(&["rm", "-f", "web"]);
    assert_eq!(holds("engine-run"), Vec::<String>::new());
}

#[test]
fn a_tree_deeper_than_any_path_goes_with_its_container() {
    let shop = shop!();
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    let id = shop.inspect("job")["Id"].as_str().unwrap().to_owned();
    let directory = shop.path("engine/containers").join(&id);
    let mut at: OwnedFd = File::open(directory.join("upper")).unwrap().into();
    for _ in 0..5000 {
        mkdirat(&at, "directory", Mode::RWXU).unwrap();
        at = openat(&at, "directory", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .unwrap();
    }
    drop(at);
    assert_eq!(shop.said(&["rm", "job"]), "job\n");
    assert!(!directory.exists());
}
