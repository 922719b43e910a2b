//! The engine of an ordinary user: places, images and containers of one's own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use bulkhead_testkit::{requires, wait_until};
use serde_json::json;

use crate::person::{FIRST, RANGE, USER, person, until};
use crate::rootless_pods::kill;
use crate::shop::IMAGE;

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn an_ordinary_user_has_images_with_many_owners() {
    let person = person!(RANGE).with_image();
    assert_eq!(
        owner(&person.in_layers("srv/file")),
        (FIRST + 32, FIRST + 33),
        "33:34 is the user's 33rd further id"
    );
    assert_eq!(owner(&person.in_layers("bin/busybox")), (USER, USER), "root's files are the user's");
    let script = "id -u; stat -c %u:%g /srv /srv/file /bin/busybox; cat /srv/file; tr -s ' ' < /proc/self/uid_map; \
                  ls /sys/class/net";
    let output = person.run(&["--rm"], script).output().succeeds();
    output.prints("0\n33:34\n33:34\n0:0\nof 33\n 0 54321 1\n 1 300000 65536\nlo\n");
    let as_other =
        person.run(&["--rm", "--user", "33:34"], "id -u; cat /srv/file; touch /tmp/x && stat -c %u /tmp/x");
    as_other.output().succeeds().prints("33\nof 33\n33\n");
    person.said(&["rmi", IMAGE]);
    assert_eq!(
        (person.listed("layers"), person.listed("ingest")),
        (vec![], vec![]),
        "nothing is left of the image"
    );
}

#[test]
fn a_container_of_an_ordinary_user_lives_its_life() {
    let person = person!(RANGE).with_image();
    let script = "echo said; mkdir -m 700 /mine; echo x > /mine/file; chown -R 33:34 /mine; exec sleep 1000";
    let id = person.run(&["-d", "--name", "job"], script).output().succeeds().stdout.trim().to_owned();
    let mine = person.root().join("containers").join(&id).join("upper/mine");
    until("the container writes", || mine.exists() && owner(&mine) == (FIRST + 32, FIRST + 33));
    assert_eq!(person.said(&["logs", "job"]), "said\n");
    assert!(person.said(&["ps"]).contains("job"));
    let pid = person.pid("job");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert!(uids.split_whitespace().all(|uid| uid == USER.to_string()), "it is the user to the host: {uids}");
    assert_eq!(person.said(&["exec", "job", "id", "-u"]), "0\n");
    assert_eq!(person.said(&["exec", "-u", "33:34", "job", "cat", "/mine/file"]), "x\n");
    assert_eq!(person.said(&["exec", "-u", "user", "job", "id", "-G"]), "1000 2000\n");
    person.said(&["stop", "-t", "1", "job"]);
    let changes = person.said(&["diff", "job"]);
    assert!(changes.lines().any(|line| line == "A /mine/file"), "{changes}");
    let archive = person.shop.path("home/export.tar");
    person.said(&["export", "-o", archive.to_str().unwrap(), "job"]);
    let tar = person.shop.sandbox.command("tar").args(["--numeric-owner", "-tvf"]).arg(&archive);
    let listed = tar.output().succeeds().stdout;
    let line = |end: &str| listed.lines().find(|line| line.ends_with(end)).unwrap().to_owned();
    assert!(line("mine/file").contains(" 33/34 ") && line("bin/busybox").contains(" 0/0 "), "{listed}");
    // What has been written is there again, and found by the next start.
    person.said(&["start", "job"]);
    assert_eq!(person.said(&["exec", "job", "cat", "/mine/file"]), "x\n");
    person.bulkhead(&["rm", "job"]).output().exits_with(1).complains("which is running");
    person.said(&["rm", "--force", "job"]);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let left = (
        person.listed("containers"),
        fs::read_dir(person.shop.path("xdg/bulkhead/containers")).unwrap().count(),
    );
    assert_eq!(left, (vec![], 0), "nothing is left, whoever it belonged to");
}

#[test]
fn what_removes_itself_takes_the_files_of_all_its_users_along() {
    let person = person!(RANGE).with_image();
    let script = "mkdir -p -m 700 /mine/deep; echo x > /mine/deep/file; chown -R 33:34 /mine; id -u";
    person.run(&["--rm"], script).output().succeeds().prints("0\n");
    assert_eq!(person.listed("containers"), Vec::<String>::new());
    // Nobody waits for this one: its monitor has it removed.
    person.run(&["-d", "--rm"], script).output().succeeds();
    until("the container goes", || person.listed("containers").is_empty());
    let script = format!("{script}; exec no-such-program");
    person.run(&["--rm"], &script).output().exits_with(127);
    assert_eq!(person.listed("containers"), Vec::<String>::new());
    assert_eq!(person.said(&["ps", "-aq"]), "");
    // The kernel takes a layer without syncs only once, and closes what says so to the user.
    person.run(&["-d", "--rm", "--name", "job"], "exec sleep 1000").output().succeeds();
    person.said(&["restart", "-t", "0", "job"]);
    person.said(&["exec", "job", "true"]);
    person.said(&["rm", "-f", "job"]);
    assert_eq!(person.listed("containers"), Vec::<String>::new());
    assert_eq!(person.said(&["system", "prune", "-f"]), "Total reclaimed space: 0B\n");
}

#[test]
fn a_volume_of_an_ordinary_user_is_filled_with_its_owners_and_goes() {
    let person = person!(RANGE).with_image();
    let script = "stat -c %u:%g /srv /srv/file; chown 5 /srv/file";
    person.run(&["--rm", "-v", "data:/srv"], script).output().succeeds().prints("33:34\n33:34\n");
    let file = person.root().join("volumes/data/data/file");
    assert_eq!(owner(&file), (FIRST + 4, FIRST + 33));
    let again = person.run(&["--rm", "--user", "5", "-v", "data:/x"], "cat /x/file || id -u");
    again.output().succeeds();
    person.said(&["volume", "rm", "data"]);
    person.run(&["--rm", "-v", "/srv"], "stat -c %u /srv/file").output().succeeds().prints("33\n");
    assert_eq!(
        (person.listed("volumes"), person.listed("ingest")),
        (vec![], vec![]),
        "nothing is left of either"
    );
}

#[test]
fn without_further_ids_the_user_is_everybody() {
    let person = person!("").with_image();
    assert_eq!(owner(&person.in_layers("srv/file")), (USER, USER));
    let output =
        person.run(&["--rm"], "id -u; stat -c %u:%g /srv/file; tr -s ' ' < /proc/self/uid_map").output();
    let output = output.succeeds().prints("0\n0:0\n 0 54321 1\n");
    output.complains("warning: you are the only user of this container").complains("/etc/subuid");
    person.run(&["--rm", "-v", "data:/srv"], "ls /srv").output().succeeds().prints("file\n");
    let other = person.run(&["--rm", "--user", "33"], "true").output().exits_with(125);
    other.complains("are not among those of the container's user namespace");
    person.run(&["-d", "--name", "job"], "exec sleep 1000").output().succeeds();
    assert_eq!(person.said(&["exec", "-u", "root", "job", "id", "-u"]), "0\n");
    person.said(&["rm", "-f", "job"]);
    person.said(&["rmi", IMAGE]);
    assert_eq!((person.listed("layers"), person.listed("containers")), (vec![], vec![]));
}

#[test]
fn the_network_of_the_host_and_limits() {
    let person = person!(RANGE).with_image();
    let output =
        person.run(&["--rm", "--network", "host"], "readlink /proc/self/ns/net; ls -d /sys/class/net/lo");
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    output.output().succeeds().prints(&format!("{}\n/sys/class/net/lo\n", own.display()));
    let own_cgroups = Path::new("/run/systemd/system").exists();
    requires!(!own_cgroups, "needs a machine on which nobody delegates cgroups to users");
    let limited = person.run(&["--rm", "--memory", "100m"], "true").output().exits_with(125);
    limited.complains("--memory: an ordinary user may have no cgroups here").complains("delegate");
    assert_eq!(person.said(&["ps", "-aq"]), "");
}

#[test]
fn the_user_is_the_same_inside_who_asks_for_it() {
    let person = person!(RANGE).with_image();
    let directory = person.shop.path("home/work");
    let bind = format!("{}:/shared", directory.display());
    for (userns, inside) in
        [("keep-id", USER), ("keep-id:uid=1000,gid=1000", 1000), ("keep-id:uid=70000,gid=33", 70_000)]
    {
        let script = "id -u; rm -f /shared/file; touch /shared/file; stat -c %u /shared /shared/file; \
                      stat -c %u:%g /srv; echo more >> /etc/passwd && echo written";
        // Files of images are still whose they were, and what is root's the user's.
        let said = format!("{inside}\n{inside}\n{inside}\n33:34\nwritten\n");
        person.run(&["--rm", "--userns", userns, "-v", &bind], script).output().succeeds().prints(&said);
        assert_eq!(owner(&directory.join("file")), (USER, USER), "{userns}");
    }
    let script = "id -un; id -gn; grep -c . /etc/passwd > /dev/null && sed -n '$p' /etc/passwd";
    let said = format!("bh-user\nbh-user\nbh-user:*:{USER}:{USER}::/:/bin/sh\n");
    person.run(&["--rm", "--userns", "keep-id"], script).output().succeeds().prints(&said);
    let named = ["--rm", "--userns", "keep-id", "--user", "root"];
    person.run(&named, "id -u").output().succeeds().prints("0\n");
    person
        .run(
            &["--rm", "-v", &bind],
            "stat -c %u /shared/file; touch /shared/roots; touch /shared/other; chown 7 /shared/other",
        )
        .output()
        .succeeds()
        .prints("0\n");
    assert_eq!(owner(&directory.join("roots")), (USER, USER), "the container's root is the user");
    assert_eq!(owner(&directory.join("other")), (FIRST + 6, USER));
    for userns in ["auto", "nomap"] {
        let refused = person.run(&["--rm", "--userns", userns], "true").output().exits_with(125);
        refused.complains("only root can show them as another's");
    }
    let refused = person.run(&["--rm", "-v", &format!("{bind}:owner")], "true").output().exits_with(125);
    refused.complains("owner takes the host's root");
}

#[test]
fn ids_that_the_user_has_not_are_named() {
    let person = person!(RANGE);
    let archive = person.shop.path("far.tar");
    person.shop.archive_of(&archive, "far:1", &json!({}), |root| {
        chown(root.join("home/user"), Some(70_000), Some(0)).unwrap();
    });
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = person.bulkhead(&["load", "-q", "-i", archive.to_str().unwrap()]).output().exits_with(1);
    refused.complains("belongs to 70000:0").complains("/etc/subuid and /etc/subgid must give more ids");
    assert_eq!((person.listed("layers"), person.listed("ingest")), (vec![], vec![]), "nothing is left of it");
}

#[test]
fn namespaces_of_another_container_are_shared_and_had_anew() {
    let person = person!(RANGE).with_image();
    let service = |name: &str, options: &[&str]| {
        let options = [&["-d", "--name", name], options].concat();
        person.run(&options, "echo up; exec sleep 1000").output().succeeds();
    };
    let namespace =
        |name: &str, kind: &str| fs::read_link(format!("/proc/{}/ns/{kind}", person.pid(name))).unwrap();
    service("db", &["--ipc", "shareable"]);
    let shared = ["--network", "container:db", "--uts", "container:db"];
    service("web", &[&["--restart", "always"], &shared[..]].concat());
    for _ in 0..2 {
        for kind in ["net", "uts", "user"] {
            assert_eq!(namespace("web", kind), namespace("db", kind), "{kind}");
        }
        person.said(&["restart", "-t", "0", "db"]);
        // Its policy starts it again, after an end of its own.
        let before = person.pid("web");
        person.shop.sandbox.command("kill").args(["-9", &before.to_string()]).output().succeeds();
        wait_until("it is started again", || ![0, before].contains(&person.pid("web")));
    }
    for (options, says) in [
        (
            &["--ipc", "container:db"][..],
            "--ipc container:db: only root can share the /dev/shm of another container",
        ),
        (
            &["--network", "container:db", "--uts", "container:web"],
            "--uts container:web: an ordinary user's container can share namespaces of one other alone",
        ),
        (
            &["--network", "container:db", "--userns", "keep-id"],
            "--userns with a namespace of another container: an ordinary user's namespaces belong to the users",
        ),
        (
            &["--network", "container:db", "--pod", "new:p"],
            "--network container:db with --pod: an ordinary user's container shares namespaces with the containers of its pod",
        ),
    ] {
        let refused = person.run(options, "true").output().exits_with(125);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    let pid = person.run(&["--rm", "--pid", "container:db"], "ps").output().succeeds().stdout;
    assert!(pid.contains("sleep 1000"), "{pid}");
    person.said(&["rm", "-f", "web", "db"]);
}

#[test]
fn an_image_of_an_ordinary_users_container_is_as_the_container_was() {
    let person = person!(RANGE).with_image();
    let script = "echo own > /own; chown 33:34 /own; rm /etc/group; rm -r /home; mkdir /home; echo ready; exec sleep 1000";
    person.run(&["-d", "--name", "job"], script).output().succeeds();
    wait_until("it is ready", || person.said(&["logs", "job"]) == "ready\n");
    for (image, stop) in [("of-running:1", false), ("of-stopped:1", true)] {
        if stop {
            person.said(&["stop", "-t", "0", "job"]);
        }
        person.said(&["commit", "job", image]);
        let script = "stat -c %u:%g /own /srv/file; ls /home; test -e /etc/group || echo gone";
        let run = person.bulkhead(&["run", "--rm", image, "sh", "-c", script]);
        run.output().succeeds().prints("33:34\n33:34\ngone\n");
    }
}

#[test]
fn an_image_of_a_container_with_a_kept_user_has_the_owners_that_it_saw() {
    let person = person!(RANGE).with_image();
    let script = "echo own > /own; chmod 4755 /own; mkdir /dir; echo more >> /etc/passwd; rm /etc/group; \
                  stat -c %u:%g /own /etc/passwd; echo ready; exec sleep 1000";
    person.run(&["-d", "--name", "job", "--userns", "keep-id"], script).output().succeeds();
    wait_until("it is ready", || person.said(&["logs", "job"]).ends_with("ready\n"));
    let user = format!("{USER}:{USER}\n");
    assert_eq!(
        person.said(&["logs", "job"]),
        format!("{user}{user}ready\n"),
        "root's files are the user's there"
    );
    person.said(&["exec", "-u", "root", "job", "touch", "/tmp/of-root"]);
    person.said(&["commit", "job", "kept:1"]);
    let script = "stat -c %u:%g /own /dir /tmp/of-root /etc/passwd /etc /srv/file; stat -c %a /own; test -e /etc/group || echo gone";
    let run = person.bulkhead(&["run", "--rm", "kept:1", "sh", "-c", script]).output().succeeds();
    run.prints(&format!("{user}{user}0:0\n0:0\n0:0\n33:34\n4755\ngone\n"));
}

#[test]
fn files_are_copied_into_a_container_with_an_ordinary_users_own_maps() {
    let person = person!(RANGE).with_image();
    let home = person.shop.path("home");
    fs::write(home.join("file"), "mine").unwrap();
    let (others, own) = (format!("0:{FIRST}:10"), format!("10:{USER}:1"));
    let options = ["--name", "job", "--uidmap", &others, "--uidmap", &own, "-v", "data:/data"];
    person.said(&[&["create"], &options[..], &[IMAGE, "sleep", "1000"]].concat());
    person.said(&["cp", "file", "job:/data/stopped"]);
    person.said(&["start", "job"]);
    person.said(&["cp", "file", "job:/data/running"]);
    let seen = person.said(&["exec", "job", "stat", "-c", "%u:%g", "/data/stopped", "/data/running"]);
    assert_eq!(seen, "10:10\n10:10\n", "the user's, who is the tenth there");
    person.said(&["rm", "-f", "-v", "job"]);
}

#[test]
fn an_ordinary_user_copies_files_in_and_out() {
    for ranges in [RANGE, ""] {
        let person = person!(ranges).with_image();
        let is_alone = ranges.is_empty();
        let home = person.shop.path("home");
        fs::create_dir(home.join("dir")).unwrap();
        for (name, mode) in [("file", 0o600), ("dir/x", 0o640)] {
            fs::write(home.join(name), "mine").unwrap();
            fs::set_permissions(home.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        for path in ["dir", "dir/x", "file"] {
            chown(home.join(path), Some(USER), Some(USER)).unwrap();
        }
        let script =
            "mkdir -m 700 -p /theirs; echo x > /theirs/file; chown -R 33:34 /theirs; exec sleep 1000";
        let script = if is_alone { "exec sleep 1000" } else { script };
        let create =
            ["create", "--stop-timeout", "1", "--name", "job", "-v", "data:/data", IMAGE, "sh", "-c", script];
        person.said(&create);
        for round in ["stopped", "running", "stopped-again"] {
            let at = |path: &str| format!("job:{path}{round}");
            person.said(&["cp", "file", &at("/tmp/")]);
            person.said(&["cp", "dir", &at("/data/")]);
            person.said(&["cp", "dir", &at("/srv/")]);
            person.said(&["cp", &at("/srv/"), &format!("of-{round}")]);
            let back = home.join(format!("of-{round}")).join("x");
            assert_eq!((owner(&back), fs::read_to_string(&back).unwrap().as_str()), ((USER, USER), "mine"));
            person.said(&["cp", "job:/srv/file", "theirs"]);
            assert_eq!(owner(&home.join("theirs")), (USER, USER), "{round}");
            let archive = person.bulkhead(&["cp", "job:/srv/file", "-"]).output().succeeds().stdout;
            assert!(archive.contains("of 33\n"));
            match round {
                "stopped" => {
                    person.said(&["start", "job"]);
                    if !is_alone {
                        wait_until("it is theirs", || {
                            person.bulkhead(&["exec", "job", "cat", "/theirs/file"]).output().stdout == "x\n"
                        });
                    }
                }
                "running" => {
                    person.bulkhead(&["cp", "file", "job:/proc/x"]).output().exits_with(1);
                    let script = "stat -c '%u:%g %a' /tmp/* /data/*/x /srv/*/x";
                    let seen = person.said(&["exec", "job", "sh", "-c", script]);
                    let [file, x] = ["0:0 600\n", "0:0 640\n"].map(|line| line.repeat(2));
                    assert_eq!(seen, format!("{file}{x}{x}"));
                    if !is_alone {
                        person.said(&["cp", "job:/theirs", "their-directory"]);
                        person.said(&["cp", "-a", "their-directory", "job:/srv/kept"]);
                    }
                    person.said(&["stop", "-t", "0", "job"]);
                }
                _ => {}
            }
        }
        person.said(&["rm", "-v", "job"]);
    }
}

#[test]
fn processes_and_devices_of_the_host_are_there_for_an_ordinary_user() {
    let person = person!(RANGE).with_image();
    let own = fs::read_link("/proc/self/ns/pid").unwrap();
    let script = "readlink /proc/self/ns/pid; test -e /proc/$PPID/stat && cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let output = person.run(&["--rm", "--pid", "host"], script).output().succeeds();
    output.prints(&format!("{}\n0\n", own.display()));
    let options = [
        "--rm",
        "--device",
        "/dev/zero:/dev/nothing/renamed",
        "--device",
        "/dev/null",
        "--device",
        "/dev/full:/dev/full",
    ];
    let script = "head -c 3 /dev/nothing/renamed | wc -c; echo x > /dev/null && echo written";
    person.run(&options, script).output().succeeds().prints("3\nwritten\n");
}

#[test]
fn a_check_starts_what_is_lost_where_everything_else_is_started() {
    let person = person!(RANGE).with_image();
    person.run(&["-d", "--restart", "always", "--name", "web"], "sleep 1000").output().succeeds();
    person.said(&["volume", "create", "data"]);
    let users = |pid: u64| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    let own = fs::read_link("/proc/self/ns/user").unwrap();
    let lost = person.monitor("web");
    assert_eq!(users(lost), own);
    kill(lost);
    until("the monitor has ended", || {
        let stat = fs::read_to_string(format!("/proc/{lost}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    fs::remove_dir_all(person.root().join("volumes/data")).unwrap();
    let said = person.said(&["system", "check"]);
    assert!(said.contains("volume data: "), "files are looked at where their owners are\n{said}");
    assert!(person.listed("volumes").contains(&"data".to_owned()));
    assert_eq!(person.state("web"), "running", "{said}");
    assert_eq!(users(person.monitor("web")), own, "only from there it has rights over all of them");
    assert_eq!(person.said(&["system", "check"]), "all is as it should be\n");
    person.said(&["rm", "-f", "web"]);
    assert_eq!(person.said(&["system", "check"]), "all is as it should be\n");
}
