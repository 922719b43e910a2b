//! A monitor that dies while its container runs.

use std::fs;
use std::path::Path;

use bulkhead_testkit::{Running, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use super::{is_whole, kill_monitor, monitor};
use crate::person::USER;
use crate::shop::{IMAGE, shop};

#[test]
fn a_container_without_a_monitor_is_ended_by_the_next_command_and_its_log_is_kept() {
    let shop = shop!();
    let id = shop.service("web", "i=0; while :; do echo $i; i=$((i + 1)); sleep 0.01; done");
    wait_until("it speaks", || shop.said(&["logs", "web"]).lines().count() > 10);
    let pid = shop.inspect("web")["State"]["Pid"].as_i64().unwrap();
    kill_monitor(&shop, &id);
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Status}}"]), "Exited (255) (monitor lost)\n");
    let state = shop.inspect("web")["State"].clone();
    assert_eq!((&state["Status"], &state["ExitCode"]), (&"exited".into(), &255.into()));
    assert_eq!(state["Error"], "monitor lost");
    let words = ["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--format"];
    let ends = shop.said(&[&words[..], &["{{.Actor.Attributes.exitCode}}"]].concat());
    assert_eq!(ends, "255\n", "its end is told once");
    wait_until("its process has ended", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
    let said = shop.said(&["logs", "web"]);
    let expected = String::from_iter((0..said.lines().count()).map(|number| format!("{number}\n")));
    assert_eq!(said, expected, "each line that is on disk is whole and in its place");
    is_whole(&shop, "the monitor's death");
    // Once more, after an end that was seen.
    shop.said(&["start", "web"]);
    shop.said(&["stop", "web"]);
    shop.said(&["start", "web"]);
    kill_monitor(&shop, &id);
    // The runtime that started it may still be at work, and nobody ends what is being started.
    wait_until("it is ended", || {
        shop.said(&["ps", "-a", "--format", "{{.Status}}"]) == "Exited (255) (monitor lost)\n"
    });
    assert_eq!(shop.said(&["rm", "web"]), "web\n");
    is_whole(&shop, "its removal");
}

#[test]
fn a_policy_applies_to_a_container_whose_monitor_died() {
    let shop = shop!();
    for (policy, looks) in [
        ("always", &["ps"][..]),
        ("unless-stopped", &["inspect", "web"]),
        ("on-failure:3", &["system", "check"]),
        ("always", &["system", "restart-all"]),
    ] {
        let run = shop.with("run", &["-d", "--name", "web", "--restart", policy], &["sleep", "1000"]);
        let id = run.output().succeeds().stdout.trim().to_owned();
        let before = monitor(&shop, &id);
        kill_monitor(&shop, &id);
        shop.said(looks);
        assert_eq!(shop.inspect("web")["State"]["Status"], "running", "{policy}, and then {looks:?}");
        assert_ne!(monitor(&shop, &id), before, "{policy}: by another monitor");
        is_whole(&shop, policy);
        shop.said(&["rm", "-f", "web"]);
    }
}

/// Fails when each monitor counts anew.
#[test]
fn starts_by_a_policy_are_counted_beyond_a_monitor_until_somebody_starts_it() {
    let shop = shop!();
    let restarts = || shop.inspect("web")["RestartCount"].as_u64().unwrap();
    let run = shop.with("run", &["-d", "--name", "web", "--restart", "on-failure:2"], &["sleep", "1000"]);
    let id = run.output().succeeds().stdout.trim().to_owned();
    for expected in [1, 2] {
        kill_monitor(&shop, &id);
        shop.said(&["ps"]);
        assert_eq!(
            shop.inspect("web")["State"]["Status"],
            "running",
            "the monitor was killed {expected} times"
        );
        assert_eq!(restarts(), expected);
    }
    kill_monitor(&shop, &id);
    shop.said(&["ps"]);
    assert_eq!(
        (shop.inspect("web")["State"]["Status"].as_str(), restarts()),
        (Some("exited"), 2),
        "no third time"
    );
    shop.said(&["start", "web"]);
    assert_eq!(restarts(), 0, "that was somebody");
}

#[test]
fn what_is_stopped_without_a_monitor_stays_so() {
    let shop = shop!();
    let run = shop.with("run", &["-d", "--name", "web", "--restart", "unless-stopped"], &["sleep", "1000"]);
    let id = run.output().succeeds().stdout.trim().to_owned();
    kill_monitor(&shop, &id);
    assert_eq!(shop.said(&["stop", "web"]), "web\n");
    for looks in [&["ps"][..], &["inspect", "web"], &["system", "check"], &["system", "restart-all"]] {
        shop.said(looks);
        assert_eq!(shop.said(&["ps", "-q"]), "", "after {looks:?}");
    }
    shop.said(&["start", "web"]);
    kill_monitor(&shop, &id);
    shop.said(&["ps"]);
    assert_eq!(shop.inspect("web")["State"]["Status"], "running", "a start is a new beginning");
}

#[test]
fn a_container_that_removes_itself_goes_without_its_monitor() {
    let shop = shop!();
    let run = shop.with("run", &["-d", "--rm", "--name", "web", "-v", "/data"], &["sleep", "1000"]);
    let id = run.output().succeeds().stdout.trim().to_owned();
    kill_monitor(&shop, &id);
    is_whole(&shop, "the monitor's death");
    assert_eq!(shop.said(&["ps", "-aq"]), "");
    assert_eq!(shop.said(&["volume", "ls", "-q"]), "");
}

/// Fails when a client that has heard of the end takes the monitor's silence for a failure, and leaves half of the container.
#[test]
fn a_monitor_that_dies_when_it_has_told_the_end_leaves_the_rest_to_the_client() {
    let shop = shop!();
    let programs = shop.path("programs");
    fs::create_dir(&programs).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_bulkhead")).parent().unwrap();
    for name in ["bulkhead", "bulkmon"] {
        shop.sandbox.command("cp").arg(built.join(name)).arg(programs.join(name)).output().succeeds();
    }
    // A runtime whose `delete` waits.
    let hold = shop.path("hold");
    fs::write(&hold, "").unwrap();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" delete \"*) while [ -e {} ]; do sleep 0.05; done;; esac\nexec {} \"$@\"\n",
        hold.display(),
        built.join("bulkrun").display()
    );
    shop.script_file(&programs.join("bulkrun"), &script);
    let parent = shop.parent();
    let words = ["run", "--rm", "--name", "web", "--cgroup-parent", &parent, IMAGE, "sh", "-c", "exit 7"];
    let run = shop.bulkhead_from(&programs, &words).spawn();
    wait_until("the removal has begun", || shop.said(&["ps", "-a"]).contains("Removal"));
    let id = shop.said(&["ps", "-aq", "--no-trunc"]).trim().to_owned();
    // Its client takes its place at once.
    let pid = Pid::from_raw(monitor(&shop, &id)).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    fs::remove_file(&hold).unwrap();
    run.wait().exits_with(7).complains("its last output may be missing");
    assert_eq!(shop.said(&["ps", "-aq"]), "");
    is_whole(&shop, "the client's removal");
}

/// Fails when what runs is told to be removed, or to be well, after its directory below `run` has gone as an ordinary user's does
/// at the last log-out.
#[test]
fn a_container_whose_run_directory_is_gone_is_found_and_ended() {
    let shop = shop!();
    let ended = |pid: i64| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    let begin = |options: &[&str]| {
        let run = shop.with("run", &[&["-d", "--name", "web"], options].concat(), &["sleep", "1000"]);
        let id = run.output().succeeds().stdout.trim().to_owned();
        let pid = shop.inspect("web")["State"]["Pid"].as_i64().unwrap();
        let pids = [pid, monitor(&shop, &id).into()];
        if options.contains(&"frozen") {
            shop.said(&["pause", "web"]);
        }
        fs::remove_dir_all(&shop.run_directory).unwrap();
        assert_eq!(shop.said(&["ps", "--format", "{{.Names}}"]), "web\n", "it runs, whatever was lost");
        pids
    };
    for options in [&[][..], &["--rm"], &["--restart", "always"], &["--label", "frozen"]] {
        let pids = begin(options);
        let refused = shop.bulkhead(&["rm", "web"]).output();
        let state = if options.contains(&"frozen") { "paused" } else { "running" };
        assert!(refused.code() == 1 && refused.stderr.contains(state), "{refused}");
        assert_eq!(shop.said(&["rm", "-f", "web"]), "web\n");
        assert_eq!(pids.map(ended), [true, true], "{options:?}: both processes have ended");
        is_whole(&shop, "the removal of what had lost its directory");
    }
    let pids = begin(&[]);
    let told = shop.bulkhead(&["system", "check", "--dry-run"]).output();
    assert!(told.code() == 1 && told.stdout.contains("nobody reaches it"), "{told}");
    is_whole(&shop, "the loss of a run directory");
    assert_eq!(pids.map(ended), [true, true], "both processes have ended");
    assert_eq!(shop.inspect("web")["State"]["Status"], "exited");
    shop.said(&["rm", "web"]);
    let pids = begin(&["--restart", "always"]);
    is_whole(&shop, "the loss of a run directory");
    assert_eq!(pids.map(ended), [true, true], "both processes have ended");
    assert_eq!(shop.inspect("web")["State"]["Status"], "running", "its policy has started it again");
    shop.said(&["rm", "-f", "web"]);
    // The monitor, too, may have gone by then.
    let [pid, monitor] = begin(&[]);
    let killed = Pid::from_raw(i32::try_from(monitor).unwrap()).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    wait_until("the monitor is gone", || ended(monitor));
    assert_eq!(shop.said(&["rm", "-f", "web"]), "web\n");
    assert!(ended(pid), "its process has ended");
    is_whole(&shop, "the removal of what had lost all");
}

/// Fails when such a container is asked to end in another way than its monitor would ask it, or other processes than its first.
#[test]
fn a_container_whose_run_directory_is_gone_is_stopped_by_its_own_signal() {
    let shop = shop!();
    let script = "trap 'echo told' HUP; trap 'echo asked; exit 3' USR1; trap 'echo wrong; exit 4' TERM
        sh -c \"trap 'echo worker' HUP USR1 TERM; echo ready; while :; do sleep 0.05; done\" &
        while :; do sleep 0.05; done";
    let run = shop.with("run", &["-d", "--name", "web", "--stop-signal", "USR1"], &["sh", "-c", script]);
    run.output().succeeds();
    wait_until("it speaks", || shop.said(&["logs", "web"]) == "ready\n");
    fs::remove_dir_all(&shop.run_directory).unwrap();
    assert_eq!(shop.said(&["kill", "-s", "HUP", "web"]), "web\n");
    wait_until("it has heard that", || shop.said(&["logs", "web"]) != "ready\n");
    assert_eq!(shop.said(&["stop", "-t", "30", "web"]), "web\n");
    assert_eq!(shop.said(&["logs", "web"]), "ready\ntold\nasked\n");
    assert_eq!(shop.inspect("web")["State"]["ExitCode"], 3);
    is_whole(&shop, "the stop of what had lost its directory");
}

/// Fails when anybody's process passes for a monitor by its words, and is taken for what runs, or killed for it.
#[test]
fn who_has_the_words_of_a_monitor_is_none() {
    let shop = shop!();
    let run = shop.with("run", &["-d", "--rm", "--name", "web"], &["sleep", "1000"]);
    let id = run.output().succeeds().stdout.trim().to_owned();
    let pid = shop.inspect("web")["State"]["Pid"].as_i64().unwrap();
    let killed = [monitor(&shop, &id), i32::try_from(pid).unwrap()];
    fs::remove_dir_all(&shop.run_directory).unwrap();
    for pid in killed {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
    let directory = shop.run_directory.join("containers").join(&id);
    let never = shop.path("never");
    shop.sandbox.command("mkfifo").arg(&never).output().succeeds();
    let pretend = |user: u32, place: &str| {
        let program = shop.path(place).join("bulkmon");
        let words = ["--pdeathsig", "KILL", "--"];
        let launcher = shop.sandbox.command("setpriv").args(words).arg(program).as_user(user, user);
        launcher.args(["-c", "read -r word <\"$1\"; :"]).args([&directory, &never]).spawn()
    };
    for place in ["copy", "link"] {
        fs::create_dir(shop.path(place)).unwrap();
    }
    shop.sandbox.command("cp").args(["/bin/sh"]).arg(shop.path("copy/bulkmon")).output().succeeds();
    std::os::unix::fs::symlink("/bin/sh", shop.path("link/bulkmon")).unwrap();
    // Another user's, of a program of that name; and root's, of another program.
    let pretenders = [pretend(USER, "copy"), pretend(0, "link")];
    wait_until("they have their words", || {
        pretenders.iter().all(|pretender| {
            let words = fs::read(format!("/proc/{}/cmdline", pretender.pid())).unwrap_or_default();
            String::from_utf8_lossy(&words).contains("bulkmon\0-c\0")
        })
    });
    assert_eq!(shop.said(&["ps", "--format", "{{.Names}}"]), "", "nothing runs");
    assert_eq!(shop.said(&["rm", "web"]), "web\n");
    assert!(!pretenders.iter().any(Running::has_ended), "nobody ends them");
    is_whole(&shop, "the removal of what had lost all");
}

/// Fails when a command that follows SIGKILL finds the container running.
#[test]
fn what_was_killed_has_ended() {
    let shop = shop!();
    for _ in 0..10 {
        shop.service("web", "sleep 1000");
        shop.said(&["kill", "web"]);
        shop.said(&["rm", "web"]);
    }
}
