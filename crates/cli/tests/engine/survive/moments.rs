//! kill -9 at moments of a command's whole life, and of a monitor's.
//!
//! A sample of all moments is taken; `BULKHEAD_MOMENTS=100` takes a hundred of each.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{Output, requires, wait_until};

use super::{WELL, is_whole, leaves_nothing};
use crate::shop::{IMAGE, Shop};

/// How many moments are tried, unless `BULKHEAD_MOMENTS` says otherwise.
const SAMPLE: usize = 6;

fn wanted() -> usize {
    std::env::var("BULKHEAD_MOMENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(SAMPLE)
}

/// Moments of so many calls, evenly apart, and others each time.
pub(super) fn moments(calls: usize) -> impl Iterator<Item = usize> {
    let wanted = wanted().min(calls);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let offset = clock.subsec_micros() as usize % calls.max(1);
    println!("{wanted} of {calls} calls, evenly apart from the {offset}th on");
    (0..wanted).map(move |number| 1 + (offset + number * calls / wanted) % calls)
}

/// A shop with something in it that is to stay as it is.
pub(super) struct Stage {
    pub(super) shop: Shop,
}

/// Whose system calls are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The first thread's: children are not meant.
    First,
    /// Each thread's by themselves.
    All,
}

impl Stage {
    pub(super) fn new() -> Self {
        let shop = Shop::new();
        shop.with(
            "run",
            &["--name", "witness", "-v", "kept:/data"],
            &["sh", "-c", "echo kept | tee /data/file /file"],
        )
        .output()
        .succeeds();
        Self { shop }
    }

    /// Runs a command whose call number `moment` is its last; without a moment to its end, and counts.
    pub(super) fn killed(&self, words: &[&str], threads: Threads, moment: Option<usize>) -> (Output, usize) {
        let trace = self.shop.path("trace");
        let run = self.shop.sandbox.command("strace").arg("-o").arg(&trace).args(["-e", "signal=none"]);
        let run = if threads == Threads::All { run.arg("-f") } else { run };
        let run = match moment {
            Some(moment) => run.args(["-e", &format!("inject=all:signal=KILL:when={moment}")]),
            None => run,
        };
        let output = self.shop.bulkhead_by(run, words).output();
        let text = fs::read_to_string(&trace).unwrap_or_default();
        let calls = text.lines().filter(|line| line.contains('(') && !line.contains("resumed>"));
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for line in calls {
            let thread =
                if threads == Threads::All { line.split(' ').next().unwrap_or_default() } else { "" };
            *counts.entry(thread).or_default() += 1;
        }
        (output, counts.into_values().max().unwrap_or(0))
    }

    /// All is whole, and what was there before is as it was.
    #[track_caller]
    pub(super) fn judge(&self, after: &str) {
        is_whole(&self.shop, after);
        let file = self.shop.path("engine/volumes/kept/data/file");
        assert_eq!(fs::read_to_string(file).unwrap(), "kept\n", "after {after}, the volume");
        assert_eq!(
            self.shop.said(&["diff", "witness"]),
            "A /data\nA /file\n",
            "after {after}, the other container"
        );
    }

    /// Removes the victim, whatever it is, and sees that it is gone.
    #[track_caller]
    pub(super) fn clean(&self, after: &str) {
        let removed = self.shop.bulkhead(&["rm", "--force", "--volumes", "victim"]).output();
        let is_missing = removed.stderr.contains("no such container");
        assert!(removed.code() == 0 || is_missing, "after {after}, it cannot be removed\n{removed}");
        assert_eq!(self.shop.said(&["system", "check"]), WELL, "after {after} and its removal");
        leaves_nothing(&self.shop, after);
    }

    pub(super) fn exists(&self) -> bool {
        self.shop.bulkhead(&["inspect", "victim"]).output().code() == 0
    }

    pub(super) fn state(&self) -> String {
        self.shop.inspect("victim")["State"]["Status"].as_str().unwrap().to_owned()
    }
}

macro_rules! stage {
    () => {{
        bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
        bulkhead_testkit::requires!(bulkhead_testkit::find_program("strace").is_some(), "needs strace");
        $crate::survive::moments::Stage::new()
    }};
}
pub(super) use stage;

#[test]
fn run_in_the_background_is_killed() {
    let stage = stage!();
    let parent = stage.shop.parent();
    let words = [
        "run",
        "-d",
        "--cgroup-parent",
        &parent,
        "--stop-timeout",
        "1",
        "--name",
        "victim",
        "-v",
        "/scratch",
        IMAGE,
        "sleep",
        "1000",
    ];
    let (whole, calls) = stage.killed(&words, Threads::First, None);
    assert_eq!(whole.succeeds().stdout.trim().len(), 64);
    stage.clean("no fault at all");
    for moment in moments(calls) {
        let (output, _) = stage.killed(&words, Threads::First, Some(moment));
        let after = format!("call {moment} of run -d");
        stage.judge(&after);
        if output.stdout.trim().len() == 64 {
            assert_eq!(stage.state(), "running", "after {after}: its id was told");
        } else if stage.exists() {
            let state = stage.state();
            assert!(["created", "running"].contains(&state.as_str()), "after {after} it is {state}");
            stage.shop.said(&["start", "victim"]);
            assert_eq!(stage.state(), "running", "after {after} it starts");
        }
        stage.clean(&after);
    }
}

#[test]
fn run_in_the_foreground_is_killed() {
    let stage = stage!();
    let parent = stage.shop.parent();
    let words = [
        "run",
        "--rm",
        "--cgroup-parent",
        &parent,
        "--name",
        "victim",
        "-v",
        "/scratch",
        IMAGE,
        "sh",
        "-c",
        "echo said",
    ];
    let (whole, calls) = stage.killed(&words, Threads::First, None);
    whole.succeeds().prints("said\n");
    stage.clean("no fault at all");
    for moment in moments(calls) {
        drop(stage.killed(&words, Threads::First, Some(moment)));
        let after = format!("call {moment} of run --rm");
        // Whoever started it is dead: its monitor removes it when it has ended, or the check does.
        wait_until("it has ended", || {
            stage
                .shop
                .said(&["ps", "--quiet", "--filter", "name=victim", "--filter", "status=running"])
                .is_empty()
        });
        settle(&stage, &after);
        stage.judge(&after);
        assert!(!stage.exists(), "after {after} it has removed itself");
        assert_eq!(stage.shop.said(&["volume", "ls", "--quiet"]), "kept\n", "after {after}, with its volume");
        stage.clean(&after);
    }
}

/// Waits until no monitor has anything to do any more.
fn settle(stage: &Stage, after: &str) {
    let places = stage.shop.path("engine-run/containers");
    let is_held = |path: &Path| {
        let shared = rustix::fs::FlockOperation::NonBlockingLockShared;
        fs::File::open(path.join("lock")).is_ok_and(|lock| rustix::fs::flock(&lock, shared).is_err())
    };
    let directories = || fs::read_dir(&places).into_iter().flatten().flatten().map(|entry| entry.path());
    wait_until(&format!("no monitor lives after {after}"), || !directories().any(|path| is_held(&path)));
}

#[test]
fn stop_is_killed() {
    let stage = stage!();
    let start = || {
        let options = ["-d", "--name", "victim", "--restart", "unless-stopped"];
        stage.shop.with("run", &options, &["sleep", "1000"]).output().succeeds();
    };
    let words = ["stop", "--time", "0", "victim"];
    start();
    let (whole, calls) = stage.killed(&words, Threads::First, None);
    whole.succeeds().prints("victim\n");
    stage.clean("no fault at all");
    for moment in moments(calls) {
        start();
        let (output, _) = stage.killed(&words, Threads::First, Some(moment));
        let after = format!("call {moment} of stop");
        stage.judge(&after);
        if output.stdout == "victim\n" {
            assert_eq!(stage.state(), "exited", "after {after}: it was said to be stopped");
        }
        stage.shop.said(&["stop", "--time", "0", "victim"]);
        assert_eq!(stage.state(), "exited", "after {after} it can be stopped");
        stage.clean(&after);
    }
}

#[test]
fn rm_is_killed() {
    let stage = stage!();
    for words in [&["rm", "--volumes", "victim"][..], &["rm", "--force", "--volumes", "victim"]] {
        let options: &[&str] = if words.contains(&"--force") { &["-d"] } else { &[] };
        let command = if words.contains(&"--force") { ["sleep", "1000"] } else { ["echo", "said"] };
        let make = || {
            let options = [options, &["--name", "victim", "-v", "/scratch"]].concat();
            stage.shop.with("run", &options, &command).output().succeeds();
        };
        make();
        let (whole, calls) = stage.killed(words, Threads::First, None);
        whole.succeeds().prints("victim\n");
        stage.clean("no fault at all");
        for moment in moments(calls) {
            make();
            let (output, _) = stage.killed(words, Threads::First, Some(moment));
            let after = format!("call {moment} of {}", words.join(" "));
            stage.judge(&after);
            assert!(output.stdout != "victim\n" || !stage.exists(), "after {after}: it was said to be gone");
            stage.clean(&after);
            assert_eq!(stage.shop.said(&["volume", "ls", "--quiet"]), "kept\n", "after {after}, its volume");
        }
    }
}

#[test]
fn a_removal_that_was_begun_is_finished_with_its_volumes() {
    let stage = stage!();
    let shop = &stage.shop;
    shop.with("run", &["--name", "victim", "-v", "/scratch"], &["true"]).output().succeeds();
    // What goes was recorded before, and nothing is gone yet.
    let first = ["-o", "/dev/null", "-e", "signal=none", "-e", "inject=unlinkat:signal=KILL:when=1"];
    let killed =
        shop.bulkhead_by(shop.sandbox.command("strace").args(first), &["rm", "--volumes", "victim"]).output();
    assert_eq!(killed.stdout, "", "it was not killed: {killed}");
    assert_eq!(shop.said(&["volume", "ls", "--quiet"]).lines().count(), 2, "a volume is gone already");
    stage.judge("the first removal of a file");
    assert_eq!(shop.said(&["volume", "ls", "--quiet"]), "kept\n", "a volume is left");
    assert!(!stage.exists());
}

#[test]
fn pull_is_killed() {
    let stage = stage!();
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    let registry = Registry::start(&stage.shop.path("registry"), &Guard::Nobody, None);
    let image = format!("{}/team/busybox:1", registry.host());
    // Another image than the witness's, so that something has to come.
    let archive = stage.shop.path("pulled.tar");
    stage.shop.archive(&archive, &image, &serde_json::json!({ "Labels": { "other": "image" } }));
    stage.shop.said(&["load", "--quiet", "-i", archive.to_str().unwrap()]);
    stage.shop.said(&["push", "--quiet", &image]);
    let forget = || {
        stage.shop.said(&["rmi", "--force", &image]);
        stage.shop.said(&["system", "check"]);
    };
    forget();
    let words = ["pull", "--quiet", &image];
    let (whole, calls) = stage.killed(&words, Threads::All, None);
    whole.succeeds();
    forget();
    let runs = || stage.shop.bulkhead(&["image", "inspect", &image]).output().code() == 0;
    for moment in moments(calls) {
        let (output, _) = stage.killed(&words, Threads::All, Some(moment));
        let after = format!("call {moment} of pull");
        stage.judge(&after);
        assert!(output.stdout.is_empty() || runs(), "after {after}: it was said to be here");
        stage.shop.said(&["pull", "--quiet", &image]);
        let parent = stage.shop.parent();
        let run = ["run", "--rm", "--cgroup-parent", &parent, &image, "echo", "pulled"];
        assert_eq!(stage.shop.said(&run), "pulled\n", "after {after}, the image is whole");
        let deep = stage.shop.bulkhead(&["system", "check", "--contents"]).output();
        assert!(deep.stdout == WELL, "after {after}, every byte is right\n{deep}");
        forget();
    }
}

/// Puts a monitor into a directory of programs that is killed at the call whose number is in the file `when`.
fn programs(shop: &Shop) -> PathBuf {
    let directory = shop.path("programs");
    fs::create_dir(&directory).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_bulkhead")).parent().unwrap();
    for name in ["bulkhead", "bulkrun"] {
        shop.sandbox.command("cp").arg(built.join(name)).arg(directory.join(name)).output().succeeds();
    }
    let [trace, when] = ["monitor-trace", "when"].map(|name| shop.path(name));
    let (trace, when, real) = (trace.display(), when.display(), built.join("bulkmon"));
    // Detached from it, so that the monitor is the process that bulkhead has started.
    let script = format!(
        "#!/bin/sh\nif read -r call <{when}; then\n\
         exec strace -D -o {trace} -e signal=none -e inject=all:signal=KILL:when=$call {real} \"$@\"\nfi\n\
         exec {real} \"$@\"\n",
        real = real.display()
    );
    shop.script_file(&directory.join("bulkmon"), &script);
    directory
}

/// A call that no monitor comes to, and the last that strace counts to.
const NEVER: usize = 65_535;

#[test]
fn the_monitor_is_killed() {
    let stage = stage!();
    let shop = &stage.shop;
    let programs = programs(shop);
    let parent = shop.parent();
    let run = [
        "run",
        "-d",
        "--cgroup-parent",
        &parent,
        "--stop-timeout",
        "1",
        "--name",
        "victim",
        IMAGE,
        "sh",
        "-c",
        "trap 'echo bye; exit 3' TERM; echo said; while :; do sleep 0.05; done",
    ];
    let live = |moment: usize| {
        fs::write(shop.path("when"), format!("{moment}\n")).unwrap();
        let ran = shop.bulkhead_from(&programs, &run).output();
        let is_there = ran.code() == 0;
        if is_there {
            wait_until("it speaks or its monitor is dead", || {
                shop.bulkhead(&["logs", "victim"]).output().stdout == "said\n" || stage.state() != "running"
            });
        }
        let stopped = shop.bulkhead(&["stop", "victim"]).output();
        fs::remove_file(shop.path("when")).unwrap();
        (ran, stopped)
    };
    let (ran, stopped) = live(NEVER);
    ran.succeeds();
    stopped.succeeds();
    assert_eq!(shop.inspect("victim")["State"]["ExitCode"], 3, "with no fault at all");
    let calls = fs::read_to_string(shop.path("monitor-trace")).unwrap().lines().count();
    stage.clean("no fault at all");
    for moment in moments(calls) {
        let (ran, _) = live(moment);
        let after = format!("call {moment} of the monitor");
        stage.judge(&after);
        if ran.code() == 0 {
            let state = shop.inspect("victim")["State"].clone();
            assert_eq!(state["Status"], "exited", "after {after}");
            let is_lost = state["ExitCode"] == 255 && state["Error"] == "monitor lost";
            assert!(is_lost || state["ExitCode"] == 3, "after {after}, its end is known or lost: {state}");
        }
        for line in shop.bulkhead(&["logs", "victim"]).output().stdout.lines() {
            assert!(["said", "bye"].contains(&line), "after {after}, the log has {line:?}");
        }
        stage.clean(&after);
    }
}
