//! Files that go in and out of containers.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use bulkhead_testkit::wait_until;

use crate::shop::{Shop, shop};

/// The files of a container as a program of its own sees them.
fn inside(shop: &Shop, name: &str, path: &str) -> String {
    let output = shop.bulkhead(&["exec", name, "cat", path]).output();
    if output.code() == 0 { output.stdout } else { "MISSING".to_owned() }
}

/// A directory of this machine with `file`, `dir/sub/x`, and `link` to `file`.
fn here(shop: &Shop) -> PathBuf {
    let here = shop.path("here");
    fs::create_dir_all(here.join("dir/sub")).unwrap();
    fs::write(here.join("file"), "one").unwrap();
    fs::write(here.join("dir/sub/x"), "x").unwrap();
    symlink("file", here.join("link")).unwrap();
    symlink("dir", here.join("to-dir")).unwrap();
    here
}

#[test]
fn copying_in_follows_docker_s_rules() {
    let shop = shop!();
    let here = here(&shop);
    shop.service(
        "web",
        "ln -s /etc /to-etc; ln -s /nowhere /dangling; ln -s /loop /loop; echo ready; sleep 1000",
    );
    wait_until("it is ready", || shop.said(&["logs", "web"]) == "ready\n");
    for (source, target, expected) in [
        ("file", "/new", Ok(("/new", "one"))),
        ("file", "/etc", Ok(("/etc/file", "one"))),
        ("file", "/home/", Ok(("/home/file", "one"))),
        ("file", "tmp/relative", Ok(("/tmp/relative", "one"))),
        ("file", "/none/", Err("there is no such directory")),
        ("file", "/no/such", Err("there is no such file or directory")),
        ("file", "/etc/group", Ok(("/etc/group", "one"))),
        ("file", "/to-etc", Ok(("/etc/file", "one"))),
        ("file", "/dangling", Ok(("/nowhere", "one"))),
        ("file", "/dev/null", Err("neither a directory nor a regular file")),
        ("dir", "/copied", Ok(("/copied/sub/x", "x"))),
        ("dir", "/also/", Ok(("/also/sub/x", "x"))),
        ("dir", "/etc", Ok(("/etc/dir/sub/x", "x"))),
        ("dir/", "/var", Ok(("/var/dir/sub/x", "x"))),
        ("dir/.", "/home", Ok(("/home/sub/x", "x"))),
        ("dir", "/etc/passwd", Err("a directory cannot be copied onto it")),
        ("dir/sub/x", "/etc/dir/sub", Ok(("/etc/dir/sub/x", "x"))),
        ("to-dir/", "/linked", Ok(("/linked/sub/x", "x"))),
        ("to-dir/", "/etc", Ok(("/etc/to-dir/sub/x", "x"))),
        ("to-dir/.", "/opened", Ok(("/opened/sub/x", "x"))),
        ("file/", "/x", Err("is no directory")),
        ("link/", "/x", Err("link/ is no directory")),
        ("file", "/etc/passwd/x", Err("/etc/passwd/x: a part of the path is no directory")),
        ("file", "/loop/x", Err("/loop/x: a link in the path leads to itself")),
        ("missing", "/x", Err("missing")),
    ] {
        let to = format!("web:{target}");
        let output = shop.bulkhead(&["cp", source, &to]).current_dir(&here).output();
        match expected {
            Ok((path, content)) => {
                output.succeeds();
                assert_eq!(inside(&shop, "web", path), content, "{source} to {target}");
            }
            Err(words) => {
                output.exits_with(1).complains(words);
            }
        }
    }
    // A directory is never replaced by a file, nor the other way round.
    fs::write(here.join("sub"), "file").unwrap();
    shop.bulkhead(&["cp", "sub", "web:/copied"]).current_dir(&here).output().exits_with(1).complains("sub");
    assert_eq!(inside(&shop, "web", "/copied/sub/x"), "x");
    shop.bulkhead(&["cp", "link", "web:/link"]).current_dir(&here).output().succeeds();
    assert_eq!(shop.said(&["exec", "web", "readlink", "/link"]), "file\n", "a link is copied as one");
    shop.bulkhead(&["cp", "-L", "link", "web:/tmp"]).current_dir(&here).output().succeeds();
    assert_eq!(inside(&shop, "web", "/tmp/link"), "one", "-L copies what it leads to, under its name");
}

#[test]
fn copying_out_follows_docker_s_rules() {
    let shop = shop!();
    let script = "mkdir -p /dir/sub; echo -n x > /dir/sub/x; echo -n one > /file; ln -s /file /link; ln -s dir /to-dir";
    shop.with("run", &["--name", "job"], &["sh", "-c", script]).output().succeeds();
    let here = shop.path("here");
    fs::create_dir_all(here.join("etc")).unwrap();
    fs::write(here.join("old"), "old").unwrap();
    symlink("etc", here.join("to-etc")).unwrap();
    for (source, target, expected) in [
        ("/file", "new", Ok(("new", "one"))),
        ("/file", "etc", Ok(("etc/file", "one"))),
        ("/file", ".", Ok(("file", "one"))),
        ("/file", "none/", Err("there is no such directory")),
        ("/file", "no/such", Err("is no directory")),
        ("/file", "old", Ok(("old", "one"))),
        ("/file", "to-etc", Ok(("etc/file", "one"))),
        ("/dir", "copied", Ok(("copied/sub/x", "x"))),
        ("/dir", "etc", Ok(("etc/dir/sub/x", "x"))),
        ("/dir/.", "etc", Ok(("etc/sub/x", "x"))),
        ("/dir/.", "fresh", Ok(("fresh/sub/x", "x"))),
        ("dir/sub/..", "up", Ok(("up/sub/x", "x"))),
        ("/dir", "old", Err("a directory cannot be copied onto it")),
        ("/to-dir/", "through", Ok(("through/sub/x", "x"))),
        ("/missing", "x", Err("job:/missing: there is no such file")),
        ("/file/", "x", Err("job:/file/: a part of the path is no directory")),
    ] {
        let from = format!("job:{source}");
        let output = shop.bulkhead(&["cp", &from, target]).current_dir(&here).output();
        match expected {
            Ok((path, content)) => {
                output.succeeds();
                assert_eq!(fs::read_to_string(here.join(path)).unwrap(), content, "{source} to {target}");
            }
            Err(words) => {
                output.exits_with(1).complains(words);
            }
        }
    }
    shop.bulkhead(&["cp", "job:/link", "link"]).current_dir(&here).output().succeeds();
    assert_eq!(fs::read_link(here.join("link")).unwrap(), Path::new("/file"));
    shop.bulkhead(&["cp", "--follow-link", "job:/link", "etc"]).current_dir(&here).output().succeeds();
    assert_eq!(fs::read_to_string(here.join("etc/link")).unwrap(), "one", "-L copies what it leads to");
}

#[test]
fn archives_come_and_go_by_pipes() {
    let shop = shop!();
    let here = here(&shop);
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    let archive = here.join("a.tar");
    let tar = shop.sandbox.command("tar").args(["--owner=5", "--group=6", "-cf", "a.tar", "dir"]);
    tar.current_dir(&here).output().succeeds();
    shop.bulkhead(&["cp", "-", "job:/srv"]).input(fs::read(&archive).unwrap()).output().exits_with(1);
    shop.bulkhead(&["cp", "-", "job:/tmp"]).input(fs::read(&archive).unwrap()).output().succeeds();
    let out = here.join("out.tar");
    let printed = shop.bulkhead(&["cp", "job:/tmp/dir", "-"]).stdout(File::create(&out).unwrap()).output();
    assert_eq!(printed.succeeds().stderr, "", "nothing is said where no terminal is");
    let listed =
        shop.sandbox.command("tar").args(["--numeric-owner", "-tvf"]).arg(&out).output().succeeds().stdout;
    let names = Vec::from_iter(listed.lines().map(|line| line.rsplit(' ').next().unwrap()));
    assert_eq!(names, ["dir/", "dir/sub/", "dir/sub/x"]);
    assert!(listed.lines().all(|line| line.contains(" 5/6 ")), "owners are the archive's: {listed}");
    let cut = fs::read(&archive).unwrap()[..700].to_vec();
    shop.bulkhead(&["cp", "-", "job:/home"]).input(cut).output().exits_with(1).complains("archive");
}

#[test]
fn files_become_root_s_or_the_caller_s_and_a_keeps_their_owners() {
    let shop = shop!();
    let here = here(&shop);
    std::os::unix::fs::chown(here.join("file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(here.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    let script = "touch /theirs; chown 5:6 /theirs; sleep 1000";
    shop.service("web", script);
    let stat = ["exec", "web", "stat", "-c", "%u", "/theirs"];
    wait_until("it is theirs", || shop.bulkhead(&stat).output().stdout == "5\n");
    let owner = |name: &str| shop.said(&["exec", "web", "stat", "-c", "%u:%g %a", name]);
    shop.bulkhead(&["cp", "file", "web:/plain"]).current_dir(&here).output().succeeds();
    assert_eq!(owner("/plain"), "0:0 640\n");
    shop.bulkhead(&["cp", "-a", "file", "web:/kept"]).current_dir(&here).output().succeeds();
    assert_eq!(owner("/kept"), "7:8 640\n");
    for (options, expected) in [(&["cp"][..], (0, 0)), (&["cp", "--archive"], (5, 6))] {
        let words = [options, &["web:/theirs", "theirs"]].concat();
        shop.bulkhead(&words).current_dir(&here).output().succeeds();
        let found = fs::metadata(here.join("theirs")).unwrap();
        assert_eq!((found.uid(), found.gid()), expected);
    }
}

#[test]
fn volumes_are_seen_whether_the_container_runs_or_not() {
    let shop = shop!();
    let here = here(&shop);
    let bound = shop.path("bound");
    fs::create_dir(&bound).unwrap();
    let bind = format!("{}:/bound", bound.display());
    let closed = format!("{}:/closed:ro", bound.display());
    let options =
        ["--name", "job", "-v", "data:/deep/data", "-v", &bind, "-v", &closed, "--tmpfs", "/scratch"];
    shop.with("create", &options, &["sleep", "1000"]).output().succeeds();
    let copy =
        |source: &str, target: &str| shop.bulkhead(&["cp", source, target]).current_dir(&here).output();
    for round in ["stopped", "running"] {
        if round == "running" {
            shop.said(&["start", "job"]);
            copy("file", "job:/scratch").succeeds();
            copy("job:/scratch/file", "scratched").succeeds();
        }
        copy("file", &format!("job:/deep/data/{round}")).succeeds();
        copy("file", &format!("job:/bound/{round}")).succeeds();
        copy("file", "job:/closed/no").exits_with(1).complains("read-only file system");
        copy(&format!("job:/deep/data/{round}"), "out").succeeds();
        assert_eq!(fs::read_to_string(here.join("out")).unwrap(), "one");
        assert_eq!(fs::read_to_string(bound.join(round)).unwrap(), "one", "it is in the host's directory");
        assert!(shop.path("engine/volumes/data/data").join(round).exists(), "it is in the volume");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(shop.sandbox.name()), "nothing is mounted on the host: {mounts}");
    assert_eq!(inside(&shop, "job", "/deep/data/stopped"), "one");
}

#[test]
fn a_read_only_root_stays_as_it_is() {
    let shop = shop!();
    let here = here(&shop);
    shop.with("create", &["--name", "job", "--read-only", "-v", "data:/data"], &["sleep", "1000"])
        .output()
        .succeeds();
    for _ in 0..2 {
        let refused = shop.bulkhead(&["cp", "file", "job:/etc"]).current_dir(&here).output();
        refused.exits_with(1).complains("read-only file system").complains("hint: it can only be read there");
        shop.bulkhead(&["cp", "file", "job:/data"]).current_dir(&here).output().succeeds();
        shop.said(&["start", "job"]);
    }
}

#[test]
fn one_side_is_a_container() {
    let shop = shop!();
    shop.bulkhead(&["cp", "/a", "/b"]).output().exits_with(1).complains("neither path is a container's");
    shop.bulkhead(&["cp", "a:/a", "b:/b"]).output().exits_with(1).complains("from one container to another");
    shop.bulkhead(&["cp", "nobody:/a", "/b"]).output().exits_with(1).complains("nobody");
    shop.bulkhead(&["cp", "nobody:/a"]).output().exits_with(125);
}

/// The host's file that no attack may read or change.
const BAIT: &str = "the host's";

/// CVE-2018-15664: a link in the container is exchanged while files are copied through it. Must fail when paths are resolved
/// first and opened later by their names.
#[test]
fn a_link_that_is_exchanged_during_a_copy_leads_nowhere_else() {
    let shop = shop!();
    let here = here(&shop);
    let bait = shop.path("bait");
    fs::create_dir(&bait).unwrap();
    fs::write(bait.join("file"), BAIT).unwrap();
    let host = bait.display();
    // The same name is a directory and a link to a directory of the host's, in turns, by an atomic exchange of names.
    let script = format!(
        "mkdir -p /a /real; echo -n theirs > /real/file; ln -s {host} /evil; echo ready; \
         while :; do ln -sfn {host} /a/way; rm -f /a/way; mkdir /a/way 2>/dev/null; echo -n theirs > /a/way/file; rm -rf /a/way; \
         ln -sfn ../../../../../../..{host} /a/way; rm -f /a/way; done"
    );
    shop.service("web", &script);
    wait_until("it is ready", || shop.said(&["logs", "web"]) == "ready\n");
    for round in 0..25 {
        let target = here.join(format!("out-{round}"));
        let target = target.to_str().unwrap();
        // It may be there or not; what must not be is the host's.
        shop.bulkhead(&["cp", "web:/a/way/file", target]).output();
        shop.bulkhead(&["cp", "-L", "web:/a", &format!("{target}-tree")]).output();
        shop.bulkhead(&["cp", "file", "web:/a/way/file"]).current_dir(&here).output();
        shop.bulkhead(&["cp", "dir/.", "web:/a/way"]).current_dir(&here).output();
        // A link comes out as one, and leads to the host's file when it is followed here.
        let tree = Path::new(target).with_file_name(format!("out-{round}-tree")).join("way");
        let is_directory = fs::symlink_metadata(&tree).is_ok_and(|metadata| metadata.is_dir());
        for copied in
            [Some(PathBuf::from(target)), is_directory.then(|| tree.join("file"))].into_iter().flatten()
        {
            let read = fs::read_to_string(copied).unwrap_or_default();
            assert_ne!(read, BAIT, "a file of the host came out of the container");
        }
    }
    let left = Vec::from_iter(fs::read_dir(&bait).unwrap().map(|entry| entry.unwrap().file_name()));
    assert_eq!(left, ["file"], "nothing came into the host's directory");
    assert_eq!(fs::read_to_string(bait.join("file")).unwrap(), BAIT);
}

#[test]
fn links_out_of_the_root_stay_inside() {
    let shop = shop!();
    let here = here(&shop);
    let bait = shop.path("bait");
    fs::create_dir(&bait).unwrap();
    fs::write(bait.join("file"), BAIT).unwrap();
    let host = bait.display();
    let script = format!(
        "ln -s {host} /absolute; ln -s ../../../../../..{host} /relative; ln -s {host}/file /file; mkdir /dir; \
         ln -s {host} /dir/sub; ln -s / /root-of-it"
    );
    shop.with("run", &["--name", "job"], &["sh", "-c", &script]).output().succeeds();
    for round in 0..2 {
        for source in ["/absolute/file", "/relative/file", "/absolute/", "/root-of-it/../../etc/no-such"] {
            let from = format!("job:{source}");
            shop.bulkhead(&["cp", "-L", &from, "out"]).current_dir(&here).output().exits_with(1);
        }
        shop.bulkhead(&["cp", "-L", "job:/file", "out"]).current_dir(&here).output().exits_with(1);
        for target in ["/absolute", "/absolute/x", "/relative/x"] {
            let to = format!("job:{target}");
            // The first is a link to nothing in the container, and becomes a file there.
            shop.bulkhead(&["cp", "file", &to]).current_dir(&here).output();
        }
        shop.bulkhead(&["cp", "dir/.", "job:/dir"]).current_dir(&here).output().exits_with(1);
        let left = Vec::from_iter(fs::read_dir(&bait).unwrap().map(|entry| entry.unwrap().file_name()));
        assert_eq!(left, ["file"], "nothing came into the host's directory");
        assert!(!here.join("out").exists());
        if round == 0 {
            shop.said(&["start", "job"]);
            shop.said(&["wait", "job"]);
        }
    }
}

#[test]
fn what_shows_the_kernel_is_no_file_of_the_container() {
    let shop = shop!();
    let here = here(&shop);
    shop.service("web", "ln -s /proc/1/root /way; ln -s /proc/sys/kernel /tune; sleep 1000");
    wait_until("it is made", || shop.said(&["exec", "web", "ls", "/"]).contains("tune"));
    let host = fs::read_to_string("/etc/hostname").unwrap_or_default();
    for source in [
        "/proc/1/root/etc/hostname",
        "/proc/1/environ",
        "/way/etc/hostname",
        "/tune/hostname",
        "/sys/kernel/",
    ] {
        let from = format!("web:{source}");
        let refused = shop.bulkhead(&["cp", &from, "out"]).current_dir(&here).output();
        assert_eq!(refused.code(), 1, "{source}: {}", refused.stderr);
        assert!(!here.join("out").exists(), "{source}");
    }
    for target in ["/proc/sys/kernel/hostname", "/tune/hostname", "/proc", "/sys/fs/cgroup"] {
        let to = format!("web:{target}");
        shop.bulkhead(&["cp", "file", &to]).current_dir(&here).output().exits_with(1);
    }
    assert_eq!(fs::read_to_string("/etc/hostname").unwrap_or_default(), host);
    // The tree of a container has their directories, and nothing in them.
    shop.bulkhead(&["cp", "web:/", "whole"]).current_dir(&here).output().succeeds();
    assert!(here.join("whole/etc/passwd").exists());
    for empty in ["proc", "sys"] {
        assert_eq!(fs::read_dir(here.join("whole").join(empty)).unwrap().count(), 0, "{empty}");
    }
}

#[test]
fn nothing_of_the_container_runs() {
    let shop = shop!();
    let here = here(&shop);
    let bait = shop.path("bait");
    fs::create_dir(&bait).unwrap();
    // All that a program of the host's might run or load by mistake says that it was.
    let script = format!(
        "for name in tar cp cat sh ls env; do \
         echo '#!/bin/sh' > /$name; echo 'touch {}/ran' >> /$name; chmod 755 /$name; mv -f /$name /usr/bin/$name; done; \
         mkdir -p /lib/x86_64-linux-gnu; for lib in libc.so.6 libnss_files.so.2 libnss_dns.so.2; do \
         cp /bin/busybox /lib/x86_64-linux-gnu/$lib; done; echo /lib/x86_64-linux-gnu/libc.so.6 > /etc/ld.so.preload; \
         echo ready; sleep 1000",
        bait.display()
    );
    shop.service("web", &script);
    wait_until("it is ready", || shop.said(&["logs", "web"]) == "ready\n");
    for _ in 0..2 {
        shop.bulkhead(&["cp", "web:/etc", "etc"]).current_dir(&here).output().succeeds();
        shop.bulkhead(&["cp", "dir", "web:/home"]).current_dir(&here).output().succeeds();
        shop.said(&["stop", "web"]);
    }
    assert_eq!(fs::read_dir(&bait).unwrap().count(), 0);
}

#[test]
fn a_path_that_is_empty_is_not_the_root() {
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    for words in [["cp", "web:", "out"], ["cp", "/etc/hostname", "web:"]] {
        shop.bulkhead(&words).output().fails(1, "web: names no path of the container");
    }
}
