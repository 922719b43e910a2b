//! What becomes of containers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use bulkhead_testkit::{Output, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::shop::{IMAGE, shop};

#[test]
fn a_container_says_what_its_command_says() {
    let shop = shop!();
    shop.with("run", &["--rm"], &[]).output().succeeds().prints("from the image\n");
    shop.with("run", &["--rm"], &["echo", "-n", "--rm", "-it"]).output().succeeds().prints("--rm -it");
    assert_eq!(shop.said(&["ps", "-aq"]), "", "--rm removes what has ended");
}

#[test]
fn codes_are_docker_s() {
    let shop = shop!();
    for (options, command, code) in [
        (&[][..], &["sh", "-c", "exit 7"][..], 7),
        (&[], &["no-such-program"], 127),
        (&[], &["/etc/passwd"], 126),
        (&["--memory", "lots"], &["true"], 125),
        (&["--no-such-flag"], &["true"], 125),
        (&["--publish", "80:80:80:80"], &["true"], 125),
        (&["--link", "db"], &["true"], 125),
    ] {
        shop.with("run", &[&["--rm"], options].concat(), command).output().exits_with(code);
    }
    let absent = ["run", "--rm", "--pull", "never", "no-such-image"];
    shop.bulkhead(&absent).output().exits_with(125).complains("no-such-image");
    shop.bulkhead(&["stop", "no-such-container"]).output().exits_with(1).complains("no-such-container");
    assert_eq!(shop.said(&["ps", "-aq"]), "", "what cannot be started and removes itself is gone");
}

#[test]
fn flags_that_are_not_there_are_refused_with_the_reason() {
    let shop = shop!();
    let refused = shop.with("run", &["--link=db"], &[]).output();
    refused.fails(125, "docker's --link is not there: containers of one network find each other");
    shop.with("run", &["--isolation", "hyperv"], &[])
        .output()
        .fails(125, "docker's --isolation is not there");
    assert_eq!(shop.said(&["ps", "-aq"]), "");
}

#[test]
fn a_container_in_the_background_lives_until_it_is_stopped() {
    let shop = shop!();
    let id = shop.service("web", "echo ready; sleep 1000");
    assert_eq!(id.len(), 64, "run -d prints the whole id");
    assert_eq!(shop.said(&["ps", "-q"]).trim(), &id[..12]);
    wait_until("it speaks", || shop.said(&["logs", "web"]) == "ready\n");
    assert_eq!(shop.said(&["stop", "web"]), "web\n");
    assert_eq!(shop.said(&["ps", "-q"]), "");
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]), "web exited\n");
    assert_eq!(shop.said(&["rm", "web"]), "web\n");
    shop.bulkhead(&["inspect", "web"]).output().exits_with(1);
}

#[test]
fn a_container_is_created_started_and_started_again() {
    let shop = shop!();
    shop.with("create", &["--name", "job"], &["sh", "-c", "echo once more >> /count; cat /count"])
        .output()
        .succeeds();
    assert_eq!(shop.inspect("job")["State"]["Status"], "created");
    assert_eq!(shop.said(&["start", "-a", "job"]), "once more\n");
    assert_eq!(shop.said(&["start", "-a", "job"]), "once more\nonce more\n");
    assert_eq!(shop.said(&["logs", "job"]).lines().count(), 3, "the log has both runs");
    assert_eq!(shop.said(&["logs", "-n", "1", "job"]), "once more\n");
}

#[test]
fn one_failure_keeps_no_other_name_from_its_turn() {
    let shop = shop!();
    for name in ["one", "two"] {
        shop.with("create", &["--name", name], &["true"]).output().succeeds();
    }
    let output = shop.bulkhead(&["rm", "one", "nobody", "two"]).output().exits_with(1);
    assert_eq!(output.stdout, "one\ntwo\n");
    assert!(output.stderr.starts_with("error: ") && output.stderr.contains("nobody"), "{}", output.stderr);
}

#[test]
fn names_are_taken_once_and_can_be_changed() {
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    let taken = shop.with("create", &["--name", "web"], &["true"]).output().exits_with(1);
    assert!(taken.stderr.contains("web") && taken.stderr.contains("hint: "), "{}", taken.stderr);
    shop.said(&["rename", "web", "site"]);
    assert_eq!(shop.inspect("site")["Name"], "/site");
    shop.bulkhead(&["rename", "site", "site"]).output().fails(1, "the container is called so already");
    // Docker's names begin with a slash, which people copy.
    let taken = shop.with("create", &["--name", "/site"], &["true"]).output().exits_with(1);
    assert!(taken.stderr.contains("in use"), "{}", taken.stderr);
    shop.said(&["rename", "/site", "/place"]);
    shop.with("run", &["--name", "/web"], &["true"]).output().succeeds();
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}}"]), "web\nplace\n");
    shop.with("create", &["--name", "//web"], &["true"]).output().exits_with(1).complains("names begin with");
    shop.said(&["rename", "place", "site"]);
    let mistyped = shop.bulkhead(&["rm", "sites"]).output().exits_with(1);
    assert!(mistyped.stderr.contains("did you mean site?"), "{}", mistyped.stderr);
}

#[test]
fn wait_prints_codes() {
    let shop = shop!();
    shop.service("job", "sleep 0.2; exit 3");
    assert_eq!(shop.said(&["wait", "job"]), "3\n");
}

#[test]
fn a_signal_ends_what_listens_to_it() {
    let shop = shop!();
    shop.service("job", "trap 'exit 4' USR1; echo ready; while :; do sleep 0.1; done");
    wait_until("it listens", || shop.said(&["logs", "job"]) == "ready\n");
    assert_eq!(shop.said(&["kill", "--signal", "USR1", "job"]), "job\n");
    assert_eq!(shop.said(&["wait", "job"]), "4\n");
    let stopped = shop.bulkhead(&["kill", "job"]).output().exits_with(1);
    assert!(stopped.stderr.contains("exited"), "{}", stopped.stderr);
}

/// A process that stands still until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: i32) -> Self {
        let pid = Pid::from_raw(pid).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Fails where what cannot end, as a process that waits for a file server cannot, holds `kill` for ever.
#[test]
fn a_kill_that_ends_nothing_is_given_up() {
    let shop = shop!();
    shop.with("run", &["-d", "--name", "web"], &["sleep", "1000"]).output().succeeds();
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    let stopped = Stopped::new(crate::survive::monitor(&shop, &id));
    let began = Instant::now();
    let given_up = shop.bulkhead(&["kill", "web"]).timeout(Duration::from_secs(60)).output();
    let waited = began.elapsed();
    drop(stopped);
    given_up.exits_with(1).complains("tried to kill container, but did not receive an exit event");
    assert!(waited >= Duration::from_secs(10), "{waited:?}");
    // It was sent.
    wait_until("it has ended", || shop.inspect("web")["State"]["Status"] == "exited");
    let told =
        ["events", "--since", "1h", "--until", "0s", "--filter", "container=web", "--format", "{{.Action}}"];
    assert_eq!(shop.said(&told), "create\nstart\nkill\ndie\n");
}

/// Fails where an event tells of a signal that nobody was sent.
#[test]
fn a_kill_that_reaches_nobody_is_no_event() {
    let shop = shop!();
    shop.with("run", &["-d", "--name", "web"], &["sleep", "1000"]).output().succeeds();
    let elsewhere = |words: &[&str]| {
        let mut run = shop.sandbox.command(env!("CARGO_BIN_EXE_bulkhead"));
        run = run.arg("--root").arg(shop.path("engine")).arg("--run").arg(shop.path("elsewhere"));
        run.args(words).output()
    };
    elsewhere(&["kill", "web"]).exits_with(1).complains("--run");
    let told =
        ["events", "--since", "1h", "--until", "0s", "--filter", "event=kill", "--format", "{{.Action}}"];
    assert_eq!(shop.said(&told), "");
}

#[test]
fn a_frozen_container_says_nothing() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    shop.said(&["pause", "web"]);
    assert!(shop.said(&["ps", "--format", "{{.Status}}"]).ends_with("(Paused)\n"));
    shop.said(&["unpause", "web"]);
    assert_eq!(shop.inspect("web")["State"]["Status"], "running");
    shop.said(&["rm", "-f", "web"]);
}

#[test]
fn restarted_is_started_anew() {
    let shop = shop!();
    shop.service("web", "echo up; sleep 1000");
    let pid = shop.inspect("web")["State"]["Pid"].clone();
    assert_eq!(shop.said(&["restart", "web"]), "web\n");
    let again = shop.inspect("web");
    assert_eq!(again["State"]["Running"], true);
    assert_ne!(again["State"]["Pid"], pid);
}

#[test]
fn a_file_names_the_container() {
    let shop = shop!();
    let file = shop.path("id");
    let file = file.to_str().unwrap();
    shop.with("run", &["--cidfile", file, "--name", "job"], &["true"]).output().succeeds();
    assert_eq!(fs::read_to_string(file).unwrap(), shop.inspect("job")["Id"].as_str().unwrap());
    let again = shop.with("run", &["--cidfile", file], &["true"]).output().exits_with(125);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
}

#[test]
fn options_reach_the_container() {
    let shop = shop!();
    let options = [
        "--hostname",
        "here",
        "-e",
        "A=b c",
        "--env=FROM=typed",
        "-w",
        "/tmp",
        "-u",
        "user",
        "--read-only",
        "-l",
        "k=v",
        "--tmpfs",
        "/scratch",
    ];
    let script = "hostname; echo $A; echo $FROM; pwd; id -un; touch /scratch/ok && touch /tmp/no";
    let output = shop.script(&options, script).output();
    assert_eq!(output.stdout, "here\nb c\ntyped\n/tmp\nuser\n", "{}", output.stderr);
    assert!(output.stderr.contains("Read-only file system"), "{}", output.stderr);
}

#[test]
fn a_directory_can_be_the_root() {
    let shop = shop!();
    let root = shop.path("root");
    bulkhead_testkit::rootfs::create(&root);
    let root = format!("{}:O", root.display());
    let parent = shop.parent();
    let words = [
        "run",
        "--rm",
        "--cgroup-parent",
        &parent,
        "--rootfs",
        &root,
        "sh",
        "-c",
        "echo here > /new; cat /new",
    ];
    assert_eq!(shop.said(&words), "here\n");
    assert!(!shop.path("root/new").exists(), "what is written is kept apart");
}

#[test]
fn prune_removes_what_has_ended() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    shop.with("run", &["--name", "job"], &["true"]).output().succeeds();
    let asked = shop.bulkhead(&["container", "prune"]).output().exits_with(1);
    assert!(asked.stderr.contains("nobody is there to be asked"), "{}", asked.stderr);
    let no = shop.bulkhead(&["container", "prune"]).input("n\n").output().succeeds();
    assert_eq!(no.stdout, "");
    let kept = shop.said(&["container", "prune", "--force", "--filter", "until=1h"]);
    assert!(!kept.contains("Deleted"), "what was made just now is no hour old: {kept}");
    let pruned =
        shop.bulkhead(&["container", "prune", "--filter", "until=0s"]).input("y\n").output().succeeds();
    let pruned = pruned.stdout;
    assert!(
        pruned.starts_with("Deleted Containers:\n") && pruned.contains("Total reclaimed space: "),
        "{pruned}"
    );
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}}"]), "web\n");
}

/// Fails where a script's `rm -f` of what may be there ends it.
#[test]
fn by_force_nothing_need_be_there_to_be_removed() {
    let shop = shop!();
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    let removed = shop.bulkhead(&["rm", "-f", "nobody", "job"]).output().succeeds();
    assert_eq!(removed.stdout, "job\n");
    assert!(removed.stderr.contains("nobody"), "{removed}");
    let removed = shop.bulkhead(&["rmi", "-f", "nobody:1", IMAGE]).output().succeeds();
    assert!(removed.stdout.starts_with("Untagged: busybox:test\n"), "{removed}");
    assert!(removed.stderr.contains("nobody:1"), "{removed}");
    shop.bulkhead(&["rm", "nobody"]).output().exits_with(1).complains("nobody");
    shop.bulkhead(&["rmi", "nobody:1"]).output().exits_with(1).complains("nobody:1");
}

/// Fails where the name that docker's templates print is none.
#[test]
fn a_name_may_have_the_slash_that_inspect_prints() {
    let shop = shop!();
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    assert_eq!(shop.said(&["inspect", "-f", "{{.Name}}", "job"]), "/job\n");
    assert_eq!(shop.said(&["inspect", "-f", "{{.Name}}", "/job"]), "/job\n");
    assert_eq!(shop.said(&["rm", "/job"]), "/job\n");
}

/// Fails where one cannot see which containers are of yesterday's image.
#[test]
fn ps_shows_the_id_of_an_image_whose_name_is_another_s() {
    let shop = shop!();
    shop.with("run", &["--name", "job"], &["touch", "/new"]).output().succeeds();
    let images = || shop.said(&["ps", "-a", "--format", "{{.Image}}"]);
    assert_eq!(images(), format!("{IMAGE}\n"));
    let before = shop.said(&["images", "-q", "--no-trunc", IMAGE]);
    shop.said(&["commit", "job", IMAGE]);
    assert_eq!(images(), format!("{}\n", &before["sha256:".len()..][..12]));
    assert_eq!(shop.said(&["ps", "-a", "--no-trunc", "--format", "{{.Image}}"]), before);
    shop.said(&["tag", before.trim(), IMAGE]);
    assert_eq!(images(), format!("{IMAGE}\n"));
}

#[test]
fn old_images_alone_are_pruned_where_that_is_asked_for() {
    let shop = shop!();
    shop.with("run", &["--name", "job"], &["touch", "/new"]).output().succeeds();
    shop.said(&["commit", "job", "new:1"]);
    shop.said(&["rm", "job"]);
    for verb in [&["image", "prune"], &["system", "prune"]] {
        shop.said(&[&verb[..], &["-a", "-f", "--filter", "until=1h"]].concat());
        assert_eq!(shop.said(&["images", "--format", "{{.Repository}}"]).matches("new").count(), 1);
    }
    assert_eq!(shop.said(&["images", "-q", "--filter", "until=2000-01-01"]), "");
    let refused = shop.bulkhead(&["system", "prune", "-f", "--volumes", "--filter", "until=1h"]).output();
    refused.exits_with(1).complains("the filter \"until\" is not supported with --volumes");
    shop.said(&["volume", "create", "--label", "keep", "kept"]);
    shop.of("create", &["--name", "job", "--label", "keep"], "new:1", &["true"]).output().succeeds();
    shop.said(&["system", "prune", "-f", "--volumes", "--filter", "label!=keep"]);
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}}"]), "job\n", "it has the label");
    shop.said(&["system", "prune", "-f", "--filter", "label=keep"]);
    assert_eq!(shop.said(&["ps", "-aq"]), "");
    shop.bulkhead(&["image", "prune", "-f", "--filter", "until=soon"])
        .output()
        .exits_with(125)
        .complains("soon");
    shop.said(&["image", "prune", "-a", "-f", "--filter", "until=0s"]);
    assert_eq!(shop.said(&["images", "-q"]), "");
}

#[test]
fn an_image_in_use_stays() {
    let shop = shop!();
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    let used = shop.bulkhead(&["rmi", IMAGE]).output().exits_with(1);
    assert!(used.stderr.contains("job"), "the container is named: {}", used.stderr);
    assert!(used.stderr.contains("hint: `bulkhead rm -f job` first"), "and the way out: {}", used.stderr);
    shop.said(&["rm", "job"]);
    assert!(shop.said(&["rmi", IMAGE]).starts_with("Untagged: busybox:test\nDeleted: sha256:"));
    assert_eq!(shop.said(&["images", "-q"]), "");
}

#[test]
fn a_command_joins_a_container() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    assert_eq!(
        shop.said(&["exec", "-e", "A=b", "-w", "/tmp", "web", "sh", "-c", "echo $A; pwd"]),
        "b\n/tmp\n"
    );
    assert_eq!(shop.said(&["exec", "web", "echo", "-it"]), "-it\n", "words of the command are no options");
    shop.bulkhead(&["exec", "web", "sh", "-c", "exit 5"]).output().exits_with(5);
    let missing = shop.bulkhead(&["exec", "web", "no-such-program"]).output().exits_with(127);
    is_one_sentence(&missing, "error: run a process in container web: ", "no-such-program");
    shop.said(&["exec", "--detach", "web", "touch", "/made"]);
    wait_until("it is made", || shop.bulkhead(&["exec", "web", "test", "-e", "/made"]).output().code() == 0);
    for words in [&["-u", "nobody-there"][..], &["-u", "0:nowhere"], &["-w", "relative"]] {
        let refused = shop.bulkhead(&[&["exec"], words, &["web", "true"]].concat()).output().exits_with(126);
        assert!(
            refused.stderr.contains(words[1].trim_start_matches("0:")),
            "docker's code, and what was wrong: {}",
            refused.stderr
        );
    }
    shop.bulkhead(&["exec", "web"]).output().exits_with(125).complains("command");
    shop.bulkhead(&["exec", "nobody", "true"]).output().exits_with(1).complains("nobody");
    shop.said(&["stop", "web"]);
    shop.bulkhead(&["exec", "web", "true"]).output().exits_with(1).complains("web");
}

/// What runtimes mount on lies below all layers, once for all containers.
#[test]
fn a_start_writes_nothing_into_the_container_s_layer() {
    let shop = shop!();
    let id = shop.service("web", "sleep 1000");
    let upper = shop.path("engine/containers").join(&id).join("upper");
    assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
    shop.said(&["exec", "web", "sh", "-c", "echo x > /etc/mine; ls /etc/hosts"]);
    assert_eq!(
        shop.said(&["exec", "web", "stat", "-c", "%s %u", "/.dockerenv"]),
        "0 0\n",
        "it is in a container"
    );
    assert_eq!(shop.said(&["exec", "web", "readlink", "/etc/mtab"]), "/proc/mounts\n");
    shop.said(&["restart", "--time", "0", "web"]);
    assert_eq!(shop.said(&["diff", "web"]), "C /etc\nA /etc/mine\n");
    assert_eq!(shop.said(&["exec", "web", "cat", "/etc/mine"]), "x\n");
}

/// Fails when a store in which there is no room for it can do nothing else.
#[test]
fn containers_do_without_what_lies_below_their_layers() {
    let shop = shop!();
    let mountpoints = shop.path("engine/mountpoints");
    fs::remove_dir_all(&mountpoints).unwrap();
    fs::write(&mountpoints, "").unwrap();
    let id = shop.service("web", "sleep 1000");
    assert!(
        shop.path("engine/containers").join(&id).join("upper/etc/hosts").exists(),
        "its runtime makes it"
    );
    shop.said(&["exec", "web", "ls", "/.dockerenv"]);
    assert_eq!(shop.said(&["diff", "web"]), "", "that is nothing of the container's");
    shop.said(&["rm", "-f", "web"]);
    fs::remove_file(&mountpoints).unwrap();
    shop.script(&[], "true").output().succeeds();
    assert!(mountpoints.join("sys").exists());
}

#[test]
fn changes_and_files_of_a_container_are_told() {
    let shop = shop!();
    shop.with("run", &["--name", "job"], &["sh", "-c", "echo new > /made; rm /bin/cat"]).output().succeeds();
    assert_eq!(shop.said(&["diff", "job"]), "C /bin\nD /bin/cat\nA /made\n");
    let archive = shop.path("job.tar");
    shop.said(&["export", "--output", archive.to_str().unwrap(), "job"]);
    assert_eq!(fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600, "it is nobody else's");
    // A link stays one, and what it leads to has no old tail.
    let (link, target) = (shop.path("link.tar"), shop.path("target.tar"));
    fs::write(&target, vec![b'x'; 64 << 20]).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    shop.said(&["export", "--output", link.to_str().unwrap(), "job"]);
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(&target).unwrap().len(), fs::metadata(&archive).unwrap().len());
    // Also one whose end is not there yet; one that leads nowhere is refused.
    fs::remove_file(&target).unwrap();
    let further = shop.path("further.tar");
    std::os::unix::fs::symlink("link.tar", &further).unwrap();
    shop.said(&["export", "--output", further.to_str().unwrap(), "job"]);
    assert!(link.is_symlink() && further.is_symlink() && !target.is_symlink());
    assert_eq!(fs::metadata(&target).unwrap().len(), fs::metadata(&archive).unwrap().len());
    let circle = shop.path("circle");
    std::os::unix::fs::symlink("circle", &circle).unwrap();
    shop.bulkhead(&["export", "-o", circle.to_str().unwrap(), "job"])
        .output()
        .exits_with(1)
        .complains("circle");
    assert!(circle.is_symlink());
    let listed = shop.sandbox.command("tar").arg("-tf").arg(&archive).output().succeeds().stdout;
    assert!(listed.lines().any(|name| name.trim_start_matches("./") == "made"), "{listed}");
    assert!(!listed.lines().any(|name| name.ends_with("bin/cat")), "{listed}");
}

#[test]
fn what_could_not_be_started_and_removes_itself_is_gone_also_with_a_file_for_its_id() {
    let shop = shop!();
    let file = shop.path("id");
    let options = ["--rm", "--cidfile", file.to_str().unwrap()];
    shop.with("run", &options, &["no-such-program"]).output().exits_with(127);
    assert_eq!(shop.said(&["ps", "-aq"]), "");
    assert_eq!(fs::read_to_string(file).unwrap().len(), 64, "it was made all the same");
}

#[test]
fn a_container_may_be_made_before_the_one_whose_network_it_shares_runs() {
    let shop = shop!();
    shop.with("create", &["--name", "db"], &["sleep", "1000"]).output().succeeds();
    shop.with("create", &["--name", "job", "--network", "container:db"], &["echo", "ok"]).output().succeeds();
    let early = shop.bulkhead(&["start", "job"]).output().exits_with(1);
    assert!(early.stderr.contains("does not run; start it first"), "{}", early.stderr);
    shop.said(&["start", "db"]);
    assert_eq!(shop.said(&["start", "-a", "job"]), "ok\n");
    let nobody = shop.with("create", &["--network", "container:nobody"], &["true"]).output().exits_with(1);
    assert!(nobody.stderr.contains("no such container: nobody"), "{}", nobody.stderr);
}

#[test]
fn options_contradict_each_other_where_docker_s_do() {
    let shop = shop!();
    for (options, words) in [
        (&["--rm", "--restart", "always"][..], "--restart"),
        (&["-d", "-a", "stdout"], "--attach and --detach"),
        (&["--no-healthcheck", "--health-cmd", "true"], "--health-cmd"),
        (&["--dns-search", "a\nnameserver 6.6.6.6"], "one word"),
    ] {
        let refused = shop.with("run", options, &["true"]).output().exits_with(125);
        assert!(refused.stderr.contains(words), "{options:?}: {}", refused.stderr);
    }
    shop.with("run", &["--rm", "--restart", "no"], &["true"]).output().succeeds();
    shop.with("run", &["--rm", "--no-healthcheck=false", "--health-cmd", "true"], &["true"])
        .output()
        .succeeds();
    shop.with("create", &["--rm=false", "--restart", "always"], &["true"]).output().succeeds();
}

#[test]
fn nothing_joins_a_paused_container() {
    let shop = shop!();
    let id = shop.service("web", "sleep 1000");
    let refuses = |words: &[&str]| {
        let refused = shop.bulkhead(&[&["exec"], words, &["web", "true"]].concat()).output().exits_with(1);
        is_one_sentence(&refused, "error: cannot run a process in container web, which is paused", "paused");
    };
    shop.said(&["pause", "web"]);
    refuses(&[]);
    refuses(&["-d"]);
    shop.said(&["unpause", "web"]);
    // As between the pause and its record.
    let freeze = |verb: &str| {
        let states = shop.run_directory.join("runtime/bulkrun");
        let runtime = shop.sandbox.command(shop.sandbox.runtime_program());
        runtime.arg("--root").arg(states).args([verb, id.as_str()]).output().succeeds();
    };
    freeze("pause");
    refuses(&[]);
    refuses(&["-d"]);
    freeze("resume");
    assert_eq!(shop.said(&["exec", "web", "echo", "again"]), "again\n");
    shop.said(&["rm", "-f", "web"]);
}

/// The first line of the complaint begins and goes on so, and the others are hints.
#[track_caller]
fn is_one_sentence(output: &Output, begin: &str, word: &str) {
    let mut lines = output.stderr.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with(begin) && first.contains(word), "{output}");
    assert!(lines.all(|line| line.starts_with("hint: ")), "{output}");
}

#[test]
fn what_joins_in_the_background_keeps_nothing_of_its_caller_s() {
    let shop = shop!();
    shop.service("web", "sleep 1000");
    let places = (shop.path("engine"), &shop.run_directory);
    let script = format!(
        "said=$({} --root {} --run {} exec -d web sleep 1000 2>&1); echo \"over:$said\"",
        shop.program.display(),
        places.0.display(),
        places.1.display()
    );
    shop.sandbox.command("sh").arg("-c").arg(script).output().succeeds().prints("over:\n");
    let missing = shop.bulkhead(&["exec", "-d", "web", "no-such-program"]).output().exits_with(127);
    assert!(
        missing.stderr.starts_with("error: ") && missing.stderr.contains("no-such-program"),
        "{}",
        missing.stderr
    );
    shop.said(&["rm", "-f", "web"]);
}

#[test]
fn what_goes_with_its_container_is_never_synced() {
    let shop = shop!();
    const MOUNTS: &[&str] = &["grep", " / overlay ", "/proc/mounts"];
    let goes = shop.with("run", &["--rm"], MOUNTS).output().succeeds();
    assert!(goes.stdout.contains("volatile"), "{goes}");
    let stays = shop.with("run", &[], MOUNTS).output().succeeds();
    assert!(!stays.stdout.contains("volatile"), "what stays keeps what it syncs: {stays}");
    // The kernel takes such a layer only once.
    shop.with("run", &["--detach", "--rm", "--name", "web"], &["sleep", "1000"]).output().succeeds();
    shop.said(&["exec", "web", "touch", "/kept"]);
    shop.said(&["restart", "--time", "0", "web"]);
    shop.said(&["exec", "web", "test", "-e", "/kept"]);
    shop.said(&["rm", "--force", "web"]);
}

#[test]
fn a_filter_that_cannot_be_keeps_system_prune_from_all() {
    let shop = shop!();
    shop.with("run", &["--name", "done"], &["true"]).output().succeeds();
    let words = ["system", "prune", "-f", "--filter", "name=done"];
    let refused = shop.bulkhead(&words).output().exits_with(1);
    assert!(refused.stderr.contains("label") && refused.stdout.is_empty(), "{refused}");
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}}"]), "done\n");
}

#[test]
fn events_of_the_past_tell_ends_that_nobody_has_looked_at() {
    let shop = shop!();
    let options = ["-d", "--name", "job", "--label", "name=other", "--label", "exitCode=none"];
    let id = shop.with("run", &options, &["sh", "-c", "exit 3"]).output().succeeds().stdout;
    let status = shop.path("engine/containers").join(id.trim()).join("status.json");
    wait_until("it has ended", || fs::read_to_string(&status).is_ok_and(|text| text.contains("\"exited\"")));
    let format = "{{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}";
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--format", format];
    assert_eq!(shop.said(&words), "job 3\n", "and no label takes a place");
}

#[test]
fn what_was_copied_into_and_never_ran_is_started() {
    let shop = shop!();
    shop.with("create", &["--rm", "--name", "web"], &["sh", "-c", "cat /file; sleep 1000"])
        .output()
        .succeeds();
    let file = shop.path("file");
    fs::write(&file, "copied\n").unwrap();
    for _ in 0..2 {
        shop.said(&["cp", file.to_str().unwrap(), "web:/file"]);
    }
    shop.said(&["start", "web"]);
    wait_until("it speaks", || shop.said(&["logs", "web"]) == "copied\n");
    shop.said(&["rm", "--force", "web"]);
}

#[test]
fn what_is_no_image_is_told_apart_from_what_is_not_there() {
    let shop = shop!();
    for (image, words) in [
        ("./x", "invalid name \"./x\": registry \".\" is no host's name; a directory is a root by --rootfs"),
        ("/srv", "a directory is a root by --rootfs"),
        ("Busybox", "must be in lower case"),
    ] {
        for (verb, code) in [("run", 125), ("create", 1)] {
            shop.bulkhead(&[verb, image, "true"]).output().exits_with(code).complains(words);
        }
    }
    let missing = shop.bulkhead(&["run", "--pull", "never", "busybux:test"]).output().exits_with(125);
    missing.complains("no such image: busybux:test");
}

#[test]
fn a_layer_that_is_gone_is_told_with_who_brings_it_back() {
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    let layers = shop.path("engine/layers");
    let layer = fs::read_dir(&layers).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(&layer).unwrap();
    let told = format!(
        "layer {}: its directory is gone",
        layer.file_name().unwrap().to_str().unwrap().replace('-', ":")
    );
    for words in [&["start", "web"][..], &["run", "--rm", IMAGE, "true"]] {
        let refused = shop.bulkhead(words).output();
        assert!(
            refused.stderr.contains(&told) && refused.stderr.contains("bulkhead system check"),
            "{}",
            refused.stderr
        );
    }
    shop.bulkhead(&["system", "check"]).output();
    shop.said(&["start", "-a", "web"]);
}

#[test]
fn a_container_that_does_not_start_is_told_by_its_id() {
    let shop = shop!();
    let run = shop
        .with("run", &["-d", "--name", "web", "--network", "none"], &["nothere"])
        .output()
        .exits_with(127);
    assert_eq!(run.stdout.trim(), shop.inspect("web")["Id"]);
    shop.said(&["rm", run.stdout.trim()]);
}
