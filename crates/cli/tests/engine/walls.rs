//! Attacks on the engine: what an image, a container or another user of the machine may try against whoever types
//! `bulkhead`. SECURITY.md lists them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use bulkhead_testkit::terminal::Seat;
use bulkhead_testkit::wait_until;
use serde_json::json;

use crate::shop::{IMAGE, Shop, shop};

/// What moves a cursor, sets a title, or turns text round.
const EVIL: &str = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}x";

/// What of [`EVIL`] must not reach a terminal.
const POISON: [&str; 4] = ["\u{1b}]", "\u{7}", "\u{9b}", "\u{202e}"];

#[test]
fn nothing_that_an_image_or_a_container_says_of_itself_takes_over_a_terminal() {
    bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
    let shop = Shop::empty();
    let path = shop.path("evil.tar");
    let changes = json!({
        "Labels": { "evil": EVIL },
        "Env": ["PATH=/bin", format!("EVIL={EVIL}")],
        "Cmd": ["sh", "-c", "exec sleep 1000", EVIL],
    });
    shop.archive(&path, IMAGE, &changes);
    shop.said(&["load", "-q", "-i", path.to_str().unwrap()]);
    let parent = shop.parent();
    let label = format!("more={EVIL}");
    let id = shop.said(&["run", "-d", "--cgroup-parent", &parent, "--name", "web", "--label", &label, IMAGE]);
    let id = id.trim();
    shop.said(&["exec", "web", "touch", &format!("/{EVIL}")]);
    let since = ["events", "--since", "1h", "--until", "0s"];
    for words in [
        &["ps", "--no-trunc"][..],
        &["ps", "--format", "{{.Command}} {{.Labels}}"],
        &["ps", "--format", "table {{.Command}}\t{{.Labels}}"],
        &["inspect", "web"],
        &["inspect", "--format", "{{json .Config}}", "web"],
        &["inspect", "--format", "{{.Config.Labels}}", "web"],
        &["image", "inspect", IMAGE],
        &["history", "--no-trunc", IMAGE],
        &["images", "--format", "{{json .}}"],
        &["top", "web"],
        &["diff", "web"],
        &since,
        &["system", "df", "-v"],
        &["system", "df", "-v", "--format", "json"],
    ] {
        let seat = Seat::new(50, 400);
        let running = seat.spawn(shop.bulkhead(&[words, &[]].concat()));
        running.wait().succeeds();
        // Whatever it wrote is on the screen before this is.
        seat.spawn(shop.sandbox.command("echo").arg("the-end")).wait().succeeds();
        seat.screen.shows("the-end");
        let shown = seat.screen.text();
        for poison in POISON {
            assert!(!shown.contains(poison), "{words:?} sends {poison:?} to a terminal: {shown:?}");
        }
    }
    assert!(shop.said(&["inspect", id]).contains("web"));
}

#[test]
fn files_of_an_image_that_are_links_lead_nowhere() {
    let shop = shop!();
    let target = shop.path("target");
    fs::write(&target, "stranger:x:4321:4321::/:/bin/sh\n").unwrap();
    let place = target.to_str().unwrap();
    let up = format!("../../../../../../../../../..{place}");
    for link in [place, &up, &format!("/proc/1/root{place}"), &format!("/proc/self/root{place}")] {
        let path = shop.path("links.tar");
        shop.linked_archive(&path, "links:1", link);
        shop.said(&["load", "-q", "-i", path.to_str().unwrap()]);
        let parent = shop.parent();
        let run = |options: &[&str], command: &[&str]| {
            let words =
                [&["run", "--rm", "--cgroup-parent", &parent], options, &["links:1"], command].concat();
            shop.bulkhead(&words).output()
        };
        // A user that only the host's file knows.
        let output = run(&["--user", "stranger"], &["id", "-u"]);
        assert_ne!(output.code(), 0, "{link}: {output}");
        assert!(!output.stdout.contains("4321"), "{link}: {output}");
        // The files that are bound over the links.
        let output = run(&["--hostname", "within"], &["hostname"]);
        assert!(output.code() != 0 || output.stdout == "within\n", "{link}: {output}");
        let kept = fs::read_to_string(&target).unwrap();
        assert_eq!(kept, "stranger:x:4321:4321::/:/bin/sh\n", "{link}: the host's file is as it was");
        shop.said(&["rmi", "links:1"]);
    }
}

#[test]
fn a_layer_that_leaves_its_directory_is_refused_by_load() {
    bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
    let shop = Shop::empty();
    let outside = shop.path("outside");
    fs::create_dir(&outside).unwrap();
    for name in [format!("..{}/escaped", outside.display()), "../../../../escaped".to_owned()] {
        let path = shop.path("hostile.tar");
        shop.hostile_archive(&path, "hostile:1", &name);
        let output = shop.bulkhead(&["load", "-i", path.to_str().unwrap()]).output();
        assert_ne!(output.code(), 0, "{name}: {output}");
        assert!(output.stderr.contains(".."), "it is named: {output}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name}: nothing came out");
        assert_eq!(shop.said(&["images", "-q"]), "");
        assert_eq!(shop.said(&["system", "check"]), "all is as it should be\n");
    }
}

#[test]
fn what_containers_share_with_their_users_is_open_whatever_the_umask_is() {
    let shop = shop!();
    let parent = shop.parent();
    let made = shop.path("made/below");
    let bound = format!("{}:/bound", made.display());
    let script =
        "cat /etc/hosts /etc/hostname /etc/resolv.conf >/dev/null && ls /data /bound / && stat -c %a /a";
    let options = ["run", "--rm", "--cgroup-parent", &parent, "-u", "1000:1000"];
    let mounts = ["-v", "data:/data", "-v", &bound, "-v", "other:/a/b"];
    let words = [&options[..], &mounts, &[IMAGE, "sh", "-c", script]].concat();
    let launcher = || shop.sandbox.command("sh").args(["-c", "umask 077; exec \"$@\"", "sh"]);
    let output = shop.bulkhead_by(launcher(), &words).output().succeeds();
    assert!(output.stdout.ends_with("755\n"), "the place of a mount is open, too: {output}");
    for path in ["made", "made/below", "engine/volumes/data/data"] {
        let mode = fs::metadata(shop.path(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{path}");
    }
    // What is put together for a copy is the container's, too.
    shop.with("create", &["--name", "still", "-v", "data:/c/d"], &["true"]).output().succeeds();
    shop.bulkhead_by(launcher(), &["cp", "still:/etc/passwd", shop.path("passwd").to_str().unwrap()])
        .output()
        .succeeds();
    let id = shop.inspect("still")["Id"].as_str().unwrap().to_owned();
    let mode =
        fs::metadata(shop.path("engine/containers").join(id).join("upper/c")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "a place that was made for a copy");
}

#[test]
fn sockets_and_state_are_their_owner_s_alone() {
    let shop = shop!();
    let secret = shop.path("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    // Whatever the caller's umask is.
    let launcher = shop.sandbox.command("sh").args(["-c", "umask 0; exec \"$@\"", "sh"]);
    let parent = shop.parent();
    let words = [
        "run",
        "-d",
        "--cgroup-parent",
        &parent,
        "--name",
        "web",
        "-e",
        "TOKEN=secret",
        "-v",
        "data:/data",
        IMAGE,
        "sh",
        "-c",
        "echo said; exec sleep 1000",
    ];
    let id = shop.bulkhead_by(launcher, &words).output().succeeds().stdout.trim().to_owned();
    wait_until("it speaks", || shop.said(&["logs", "web"]) == "said\n");
    let mut modes = BTreeMap::new();
    for root in ["engine", "engine-run"] {
        collect(&shop.path(root), &mut modes);
    }
    for (path, (mode, is_socket)) in &modes {
        // What a runtime writes has the rights that runc gives it, and a log those of docker's; nobody else gets to them.
        let is = |name: &str| path.ends_with(name);
        let open = match () {
            // Part of every container's root.
            () if path.contains("/engine/mountpoints") => mode & 0o022,
            () if is("/pid") || is("/runtime.log") => mode & 0o022,
            () if is("/log.json") => mode & 0o027,
            () => mode & 0o077,
        };
        assert_eq!(open, 0, "{path} is open to others: {mode:o}");
        assert!(!is_socket || mode & 0o177 == 0, "{path}: {mode:o}");
    }
    let has = |end: &str| modes.keys().any(|path| path.ends_with(end));
    for part in ["bulkhead.db", "status.json", "log.json", "order.json", "config.json", "sock"] {
        assert!(has(part), "{part} was looked at, among {modes:?}");
    }
    // Another user gets neither at them nor at the engine by them.
    let socket = shop.path("engine-run/containers").join(&id).join("sock");
    for path in
        [socket, shop.path("engine/bulkhead.db"), shop.path("engine/containers").join(&id).join("log.json")]
    {
        let refused = shop.sandbox.command("cat").arg(&path).as_user(1000, 1000).output();
        assert!(refused.stderr.contains("Permission denied"), "{}: {refused}", path.display());
    }
}

/// The modes of what the engine has made, but for trees of images, of containers and of volumes, which lie in directories
/// that nobody else may enter.
fn collect(directory: &Path, modes: &mut BTreeMap<String, (u32, bool)>) {
    let metadata = fs::symlink_metadata(directory).unwrap();
    modes.insert(directory.display().to_string(), (metadata.mode() & 0o777, false));
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_a_tree = ["upper", "work", "data", "files"].contains(&name) || name.starts_with("sha256-");
        if metadata.is_dir() && !is_a_tree {
            collect(&path, modes);
        } else if !metadata.is_dir() && !metadata.is_symlink() {
            modes.insert(
                path.display().to_string(),
                (metadata.mode() & 0o777, metadata.file_type().is_socket()),
            );
        }
    }
}

#[test]
fn a_tree_that_a_container_made_too_deep_can_be_removed() {
    let shop = shop!();
    let script = "i=0; while [ $i -lt 1500 ]; do mkdir a && cd a || exit 1; i=$((i+1)); done; touch end";
    shop.with("run", &["--name", "deep", "-v", "deep:/data"], &["sh", "-c", script]).output().succeeds();
    shop.said(&["system", "df"]);
    shop.bulkhead(&["rm", "deep"]).output().succeeds();
    let script = script.replacen("i=0", "cd /data; i=0", 1);
    shop.script(&["-v", "deep:/data"], &script).output().succeeds();
    shop.said(&["volume", "rm", "deep"]);
    assert_eq!(shop.said(&["system", "check"]), "all is as it should be\n");
}

#[test]
fn a_root_is_not_joined_with_what_runs_of_another() {
    let scratch = bulkhead_testkit::Scratch::new();
    let command = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.env_remove("BULKHEAD_ROOT").env_remove("BULKHEAD_RUN");
        command
    };
    let by_option = command().arg("--root").arg(scratch.path().join("root")).arg("ps").output().unwrap();
    let by_variable = command().env("BULKHEAD_ROOT", scratch.path().join("root")).arg("ps").output().unwrap();
    for refused in [by_option, by_variable] {
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("choose both"), "{said}");
    }
    assert!(!scratch.path().join("root").exists(), "nothing was made");
}
