//! As whom a container runs: names are the image's, and its files of users may be anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::shop::{Shop, shop};

/// Loads an image, and runs its command with options.
fn image(shop: &Shop, name: &str, changes: &Value, prepare: impl FnOnce(&Path)) {
    let archive = shop.path("users.tar");
    shop.archive_of(&archive, name, changes, prepare);
    shop.said(&["load", "--quiet", "-i", archive.to_str().unwrap()]);
}

fn run(shop: &Shop, name: &str, options: &[&str], command: &[&str]) -> bulkhead_testkit::Run {
    let parent = shop.parent();
    let words = [&["run", "--rm", "--cgroup-parent", &parent], options, &[name], command];
    shop.bulkhead(&words.concat())
}

const SHOW: [&str; 3] = ["sh", "-c", "id -u; id -g; id -G; echo $HOME; touch /tmp/x; stat -c %u:%g /tmp/x"];

#[test]
fn names_are_those_of_the_image() {
    let shop = shop!();
    let users = |root: &Path| {
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:4711:4712::/srv/app:/bin/sh\n")
            .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nadm:x:4:app\nvideo:x:4444:\n77:x:88:\n").unwrap();
    };
    image(&shop, "named:1", &json!({ "User": "app" }), users);
    for (options, shown) in [
        (&[][..], "4711\n4712\n4712 4\n/srv/app\n4711:4712\n"),
        (&["--user", "app:video"], "4711\n4444\n4444\n/srv/app\n4711:4444\n"),
        (&["--user", "4711"], "4711\n4712\n4712 4\n/srv/app\n4711:4712\n"),
        (&["--user", "root"], "0\n0\n0\n/root\n0:0\n"),
        (&["--user", "5000:5001", "--group-add", "video"], "5000\n5001\n5001 4444\n/\n5000:5001\n"),
        (
            &["--group-add", "video", "--group-add", "77", "--group-add", "99"],
            "4711\n4712\n4712 4 88 99 4444\n/srv/app\n4711:4712\n",
        ),
    ] {
        run(&shop, "named:1", options, &SHOW).output().succeeds().prints(shown);
    }
    for (options, words) in [
        (&["--user", "nobody"][..], "/etc/passwd has no such user"),
        (&["--user", "app:nogroup"], "/etc/group has no such group"),
        (&["--group-add", "nogroup"], "/etc/group has no such group"),
        (&["--user", "4294967295"], "no such user"),
    ] {
        run(&shop, "named:1", options, &SHOW).output().exits_with(125).complains(words);
    }
    assert_eq!(shop.said(&["ps", "-aq"]), "", "what could not be is not there");
}

#[test]
fn a_link_to_users_of_the_host_leads_nowhere() {
    let shop = shop!();
    let outside = shop.path("passwd-of-the-host");
    fs::write(&outside, "intruder:x:0:0::/root:/bin/sh\n").unwrap();
    let climbing = format!("../../../../../../../../../..{}", outside.display());
    for (number, target) in
        [outside.to_str().unwrap(), &climbing, "/proc/self/root/etc/passwd", "passwd"].iter().enumerate()
    {
        let name = format!("linked:{number}");
        image(&shop, &name, &json!({}), |root| {
            fs::remove_file(root.join("etc/passwd")).unwrap();
            symlink(target, root.join("etc/passwd")).unwrap();
        });
        let refused = run(&shop, &name, &["--user", "intruder"], &["id", "-u"]).output().exits_with(125);
        let is_told = ["no such user", "too many", "symbolic link"]
            .iter()
            .any(|words| refused.stderr.to_lowercase().contains(words));
        assert!(is_told, "{target}: {}", refused.stderr);
    }
    // One that leads to a file of its own is a file of the image.
    image(&shop, "linked:inside", &json!({}), |root| {
        fs::rename(root.join("etc/passwd"), root.join("usr/passwd")).unwrap();
        symlink("/usr/passwd", root.join("etc/passwd")).unwrap();
    });
    run(&shop, "linked:inside", &["--user", "user"], &["id", "-u"]).output().succeeds().prints("1000\n");
}

#[test]
fn users_that_are_no_file_are_refused_at_once() {
    let shop = shop!();
    let make = |words: &[&str]| assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success());
    for (kind, words) in [
        ("fifo", "it is no regular file"),
        ("zero", "it is no regular file"),
        ("directory", "it is a directory"),
        ("huge", "it has more than 4194304 bytes"),
    ] {
        let name = format!("odd:{kind}");
        image(&shop, &name, &json!({}), |root| {
            let path = root.join("etc/passwd");
            fs::remove_file(&path).unwrap();
            let place = path.to_str().unwrap();
            match kind {
                "fifo" => make(&["mkfifo", place]),
                "zero" => make(&["mknod", place, "c", "1", "5"]),
                "directory" => make(&["mkdir", place]),
                _ => fs::write(&path, vec![b'x'; (4 << 20) + 1]).unwrap(),
            }
        });
        let refused = run(&shop, &name, &["--user", "user"], &["id"]).output().exits_with(125);
        refused.complains("/etc/passwd of the image").complains(words);
    }
}

#[test]
fn what_a_container_makes_of_its_users_is_nobodys_harm() {
    let shop = shop!();
    shop.service("job", "exec sleep 1000");
    shop.said(&["exec", "-u", "user", "job", "sh", "-c", "test $(id -u) = 1000"]);
    shop.bulkhead(&["exec", "-u", "user", "job", "sh", "-c", "id -G; echo $HOME"])
        .output()
        .succeeds()
        .prints("1000 2000\n/home/user\n");
    for (script, words) in [
        ("mkfifo /etc/passwd", "it is no regular file"),
        ("mknod /etc/passwd c 1 5", "it is no regular file"),
        // A watchdog: to open it would begin to count the machine down.
        ("mknod /etc/passwd c 10 130", "it is no regular file"),
        ("mkdir /etc/passwd", "it is no regular file"),
        ("truncate -s 10G /etc/passwd", "it has more than 4194304 bytes"),
        ("ln -s /proc/1/root/etc/passwd /etc/passwd", "/etc/passwd of the container"),
        ("ln -s /etc/passwd /etc/passwd", "/etc/passwd of the container"),
    ] {
        shop.said(&["exec", "job", "sh", "-c", &format!("rm -rf /etc/passwd; {script}")]);
        shop.bulkhead(&["exec", "-u", "user", "job", "id"]).output().exits_with(1).complains(words);
        // Who asks for nobody comes in and can mend it.
        shop.said(&["exec", "job", "true"]);
    }
    shop.said(&["exec", "job", "sh", "-c", "rm -f /etc/passwd; truncate -s 10G /etc/passwd"]);
    shop.said(&["stop", "job"]);
    shop.bulkhead(&["start", "job"]).output().exits_with(1).complains("it has more than 4194304 bytes");
}
