//! `bulkhead measure` as people call it, with a small program in the place of `bulkload`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use bulkhead_testkit::built::{self, Profile};
use bulkhead_testkit::daemon::{Dockerd, Networks};
use bulkhead_testkit::skip::{cached, find_program, is_root};
use bulkhead_testkit::{heed_interruptions, requires, skip, slowness};
use serde_json::Value;

/// Somebody without rights.
const NOBODY: u32 = 65534;

/// A directory of its own for each test, in which `bulkhead` also keeps what is temporary.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        // One that ignores its interruption is waited for in vain.
        heed_interruptions();
        let place = Self(std::env::temp_dir().join(format!("bh-cli-{name}-{}", std::process::id())));
        fs::create_dir_all(place.0.join("tmp")).unwrap();
        place
    }

    /// Compiles the stand-in for the workload.
    fn workload(&self) -> PathBuf {
        let program = self.0.join("bulkload");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_in.c");
        let mut compile = Command::new("gcc");
        compile.args(["-O1", "-static", "-o"]).arg(&program).arg(source);
        assert!(compile.status().unwrap().success(), "the stand-in is not compiled");
        program
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bulkhead"));
        command.arg("measure").args(words).env("TMPDIR", self.0.join("tmp")).stdin(Stdio::null());
        command
    }

    /// The same by a user without rights, whose the place becomes.
    fn command_of_ordinary(&self, words: &[&str]) -> Command {
        // The one that cargo built may lie where only root comes.
        let program = self.0.join("bulkhead");
        fs::copy(env!("CARGO_BIN_EXE_bulkhead"), &program).unwrap();
        let mut command = Command::new(&program);
        command.arg("measure").args(words).env("TMPDIR", self.0.join("tmp"));
        command.current_dir(&self.0).stdin(Stdio::null());
        if is_root() {
            for path in [&self.0, &self.0.join("tmp")] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn run(&self, platforms: &str, more: &[&str]) -> Output {
        self.command(&["run", "--platforms", platforms, "--out"])
            .arg(self.0.join("out"))
            .arg("--workload")
            .arg(self.workload())
            .args(more)
            .output()
            .unwrap()
    }

    fn journal(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.0.join("out/journal.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Fails when a process, a cgroup or a file is left of a measurement in this place.
    #[track_caller]
    fn nothing_is_left(&self) {
        let left = Vec::from_iter(self.0.join("tmp").read_dir().unwrap().flatten().map(|entry| entry.path()));
        assert!(left.is_empty(), "files are left: {left:?}");
        let own = self.0.display().to_string();
        for process in Path::new("/proc").read_dir().unwrap().flatten() {
            // Who was not told of this place has at least the environment of who started it.
            let of_place = ["cmdline", "environ"].map(|file| {
                let text = fs::read(process.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&text).contains(&own)
            });
            assert_eq!(of_place, [false; 2], "{} still runs", process.path().display());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The cgroups of measurements by the process `pid`.
fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = top.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let prefix = format!("bh-measure-{pid}-");
    let mut found = Vec::new();
    for directory in below.chain([top.to_owned()]) {
        let entries = directory.read_dir().into_iter().flatten().flatten();
        found.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
                .map(|entry| entry.path()),
        );
    }
    found
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the turns say of a platform and a task: names of quantities, and whether they are numbers.
fn found(journal: &[Value], task: &str, platform: &str) -> Vec<(String, String)> {
    let turns = journal.iter().filter(|line| line["task"] == task && line["platform"] == platform);
    let findings = turns.flat_map(|turn| turn["findings"].as_array().unwrap().clone());
    let findings = findings.filter(|finding| finding["quantity"].is_string());
    findings
        .map(|finding| {
            let said =
                if finding["found"] == "amount" { "amount" } else { finding["reason"].as_str().unwrap() };
            (finding["quantity"].as_str().unwrap().to_owned(), said.to_owned())
        })
        .collect()
}

#[test]
fn a_run_ends_with_its_budget_and_goes_on() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("resume");
    // Enough for some tasks and not for all, also where everything takes longer.
    let seconds = |number: u32| format!("{}s", number * slowness());
    let first = place.run("bare", &["--budget", &seconds(1)]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(text(&first.stdout).contains("boot, first byte ms"), "{}", text(&first.stdout));
    let page = fs::read_to_string(place.0.join("out/report.html")).unwrap();
    assert!(page.contains("boot"), "the page does not have the task");
    let before = place.journal();
    assert_eq!(before.last().unwrap()["reason"], "budget");
    let boots = found(&before, "boot", "bare");
    assert!(boots.contains(&("first byte".to_owned(), "amount".to_owned())), "{boots:?}");
    let second = place.run("bare", &["--budget", &seconds(3)]);
    assert!(text(&second.stderr).contains("going on with"), "{}", text(&second.stderr));
    let after = place.journal();
    let turns = Vec::from_iter(
        after
            .iter()
            .filter(|line| line["kind"] == "turn")
            .map(|turn| (turn["task"].to_string(), turn["platform"].to_string(), turn["block"].to_string())),
    );
    let mut once = turns.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), turns.len(), "a turn was done twice");
    let (dir, again) = (place.0.join("out"), place.0.join("out"));
    fs::remove_file(dir.join("report.html")).unwrap();
    assert!(place.command(&["report"]).arg(&dir).status().unwrap().success());
    assert!(dir.join("report.html").exists(), "no report was made again");
    let elsewhere = place.0.join("elsewhere");
    let report = |out: &Path| place.command(&["report"]).arg(&dir).arg("--out").arg(out).output().unwrap();
    assert!(report(&elsewhere).status.success());
    assert_eq!(fs::read(elsewhere.join("report.html")).unwrap(), fs::read(dir.join("report.html")).unwrap());
    let refused = report(&elsewhere.join("report.md"));
    assert!(text(&refused.stderr).contains("report.md is a file; --out names a directory"), "{refused:?}");
    let environment = &after[0]["environment"];
    for (fact, expected) in
        [("measured at", " UTC"), ("bulkhead", "0."), ("SHA-256 of bulkload", ""), ("options", "--quick")]
    {
        let said = environment[fact].as_str().unwrap_or_else(|| panic!("no {fact} in {environment}"));
        assert!(said.contains(expected), "{fact} is {said}");
    }
    let compared = place.command(&["compare"]).arg(&dir).arg(&again).output().unwrap();
    assert!(compared.status.success(), "a run contradicts itself: {}", text(&compared.stderr));
    assert!(turns.len() > before.iter().filter(|line| line["kind"] == "turn").count(), "it did not go on");
    place.nothing_is_left();
}

#[test]
fn a_run_goes_on_only_with_what_it_began_with() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("another");
    let workload = place.workload();
    let journal = place.0.join("out/journal.jsonl");
    let run = |words: &[&str], workload: &Path| {
        let mut command = place.command(&["run", "--platforms", "bare", "--out"]);
        command.arg(place.0.join("out")).arg("--workload").arg(workload).args(words).output().unwrap()
    };
    let boots = ["--tasks", "boot", "--budget", "1s"];
    let first = run(&boots, &workload);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let whole = fs::read_to_string(&journal).unwrap();
    let (now, other) = (workload.as_path(), Path::new("/bin/false"));
    for (found, instead, words, workload, expected) in [
        ("\"processors\":\"", "\"processors\":\"9", boots, now, "holds a run of another machine or kernel"),
        ("\"SHA-256 of bulkhead\":\"", "\"SHA-256 of bulkhead\":\"0", boots, now, "of another bulkhead;"),
        ("\"unit\":\"ms\"", "\"unit\":\"s\"", boots, now, "has turns of boot, whose numbers are others"),
        ("", "", ["--tasks", "run", "--budget", "1s"], now, "has turns of boot, which this run leaves out"),
        // Nothing of it was tried, in which it would have failed.
        ("", "", boots, other, "holds a run of another bulkload"),
    ] {
        let changed = whole.replace(found, instead);
        assert!(found.is_empty() || changed != whole, "no {found} in {whole}");
        let changed = if found.is_empty() { whole.clone() } else { changed };
        fs::write(&journal, &changed).unwrap();
        let refused = run(&words, workload);
        assert!(!refused.status.success() && text(&refused.stderr).contains(expected), "{refused:?}");
        assert_eq!(fs::read_to_string(&journal).unwrap(), changed, "the journal has more lines");
    }
    fs::remove_file(&journal).unwrap();
    fs::write(place.0.join("out/journal.jsonl.gz"), &whole).unwrap();
    let refused = run(&boots, &workload);
    assert!(text(&refused.stderr).contains("gzip --decompress --keep"), "{refused:?}");
    assert!(!journal.exists(), "the compressed journal is hidden by another one");
    place.nothing_is_left();
}

#[test]
fn an_interruption_keeps_what_was_measured() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("interrupted");
    let workload = place.workload();
    let mut command = place.command(&["run", "--platforms", "bare", "--full", "--out"]);
    command.arg(place.0.join("out")).arg("--workload").arg(workload);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let journal = place.0.join("out/journal.jsonl");
    while fs::read_to_string(&journal).unwrap_or_default().lines().count() < 4 {
        assert!(Instant::now() < end, "nothing is measured");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = running.id();
    assert!(Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success());
    let status = running.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(place.journal().last().unwrap()["reason"], "interrupted");
    assert!(cgroups_of(pid).is_empty(), "cgroups are left");
    place.nothing_is_left();
}

#[test]
fn one_task_that_is_interrupted_prints_what_was_measured() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("one");
    let workload = place.workload();
    let mut patience = Duration::from_millis(300);
    // Nothing is said before the end: it is given more time until it had enough for a block.
    let output = loop {
        let mut command = place.command(&["one", "cpu", "--platform", "bare", "--blocks", "1000000"]);
        command.arg("--workload").arg(&workload).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = command.spawn().unwrap();
        std::thread::sleep(patience);
        let pid = running.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let output = running.wait_with_output().unwrap();
        if !output.stdout.is_empty() {
            break output;
        }
        patience *= 2;
        assert!(patience < Duration::from_secs(60), "nothing is said of what was measured: {output:?}");
    };
    let said = text(&output.stdout);
    assert!(said.contains("median") && said.lines().any(|line| line.starts_with("rate 1/s  300")), "{said}");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(text(&output.stderr).contains("interrupted by SIGINT"), "{output:?}");
    place.nothing_is_left();
}

#[test]
fn neighbours_and_probes_are_measured() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("neighbours");
    let workload = place.workload();
    // One task at a time, so that each is certain to have its turn.
    let measure = |task: &str| one(&place, &workload, task, "bare");
    let kept = |task: &str| measure(task).into_iter().filter(|finding| finding["found"] != "readings");
    for task in ["fork beside cpu, with limits", "timer beside memory, without limits"] {
        for finding in kept(task) {
            assert_eq!(
                (&finding["found"], finding["value"].as_f64()),
                (&"amount".into(), Some(1.0)),
                "{task}: {finding}"
            );
        }
    }
    // The stand-in's fork bomb says that it used no processor.
    for finding in kept("cpu beside fork, with limits") {
        let reason = finding["reason"].as_str().unwrap();
        assert!(reason.starts_with("the antagonist did not press: 0.00 CPUs"), "{finding}");
    }
    // The stand-in attempts nothing.
    let verdicts = measure("probes");
    assert!(verdicts.len() > 20, "{verdicts:?}");
    let reached = |finding: &&Value| finding["verdict"] == "leak" || finding["verdict"] == "breach";
    assert_eq!(verdicts.iter().find(reached), None);
    place.nothing_is_left();
}

#[test]
fn what_is_left_beside_a_hog_is_measured() {
    requires!(is_root(), "makes cgroups with limits");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("left");
    let workload = place.workload();
    let left = one(&place, &workload, "memory left, with limits", "bare");
    assert_eq!(left[0]["value"].as_f64(), Some(1.0), "{left:?}");
    place.nothing_is_left();
}

/// Waits until nothing of the measurement by the process `pid` is left in `place`.
#[track_caller]
fn soon_nothing_is_left(place: &Place, pid: u32) {
    let end = Instant::now() + Duration::from_secs(30);
    let temporary = place.0.join("tmp");
    while temporary.read_dir().unwrap().next().is_some() || !cgroups_of(pid).is_empty() {
        assert!(Instant::now() < end, "{:?} and {:?} are left", temporary, cgroups_of(pid));
        std::thread::sleep(Duration::from_millis(20));
    }
    // The guard itself ends last.
    while std::panic::catch_unwind(|| place.nothing_is_left()).is_err() {
        assert!(Instant::now() < end, "the guard does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn who_guards_a_killed_run_takes_everything_away() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    kills_and_is_guarded(&Place::new("guarded"), "bare");
}

#[test]
fn who_guards_a_killed_run_of_containers_takes_everything_away() {
    requires!(is_root(), "makes containers with limits");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let Some(crun) = crun() else { skip!("needs crun in the cache, where `cargo xtask peers` puts it") };
    kills_and_is_guarded(&Place::new("contained"), &format!("mine={}", crun.display()));
}

/// Ends runs on `platforms` while an antagonist presses, and waits until nothing is left of them.
#[track_caller]
fn kills_and_is_guarded(place: &Place, platforms: &str) {
    let workload = place.workload();
    for (number, signal) in [(0, "-KILL"), (1, "-KILL"), (2, "-INT")] {
        let mut command =
            place.command(&["run", "--axes", "noninterference", "--platforms", platforms, "--out"]);
        command.arg(place.0.join(format!("out{number}"))).arg("--workload").arg(&workload);
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = running.id();
        // While an antagonist presses.
        let end = Instant::now() + Duration::from_secs(60);
        let own = place.0.join("tmp").display().to_string();
        while !is_hogging(pid, &own) {
            assert!(Instant::now() < end, "no antagonist was let loose");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(7 * number));
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
        running.wait().unwrap();
        soon_nothing_is_left(place, pid);
    }
}

#[test]
fn a_killed_run_of_an_ordinary_user_leaves_no_process_that_was_probed() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("probed");
    let workload = place.workload();
    let mut command =
        place.command_of_ordinary(&["run", "--tasks", "probes", "--platforms", "bare", "--out"]);
    command.arg(place.0.join("out")).arg("--workload").arg(&workload);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = running.id();
    let end = Instant::now() + Duration::from_secs(60);
    while !is_witness(pid) {
        assert!(running.try_wait().unwrap().is_none() && Instant::now() < end, "nothing was laid out");
        std::thread::sleep(Duration::from_millis(1));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    soon_nothing_is_left(&place, pid);
}

/// Whether the process `pid` has a child that is called like a secret, to be found by probes.
fn is_witness(pid: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| {
        let line = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        let name = line.split('\0').next().unwrap_or_default();
        name.len() == 32 && name.chars().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Whether an antagonist lives that belongs to the measurement by `pid`, bare or in a container.
fn is_hogging(pid: u32, own: &str) -> bool {
    let processes = Path::new("/proc").read_dir().unwrap().flatten();
    processes.into_iter().any(|process| {
        let read = |file: &str| {
            String::from_utf8_lossy(&fs::read(process.path().join(file)).unwrap_or_default()).into_owned()
        };
        let line = read("cmdline");
        line.contains("\0hog\0")
            && (line.contains(own) || read("cgroup").contains(&format!("bh-measure-{pid}-")))
    })
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("killed");
    let workload = place.workload();
    let mut command = place.command(&["run", "--platforms", "bare", "--full", "--out"]);
    command.arg(place.0.join("killed")).arg("--workload").arg(workload);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(place.0.join("killed/journal.jsonl")).unwrap_or_default().lines().count() < 2 {
        assert!(Instant::now() < end, "nothing is measured");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Without its guard, which would do it at once.
    for guard in guards_of(&place) {
        assert!(Command::new("kill").args(["-KILL", &guard]).status().unwrap().success());
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(place.0.join("tmp").read_dir().unwrap().next().is_some(), "a kill cleaned up");
    let next = place.run("bare", &["--budget", "1s"]);
    assert!(next.status.success(), "{}", text(&next.stderr));
    assert!(cgroups_of(running.id()).is_empty(), "cgroups are left");
    place.nothing_is_left();
}

/// The guards of measurements in this place.
fn guards_of(place: &Place) -> Vec<String> {
    let own = place.0.display().to_string();
    let processes = Path::new("/proc").read_dir().unwrap().flatten();
    let guards = processes.filter(|process| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains("\0guard\0") && line.contains(&own)
    });
    guards.filter_map(|process| process.file_name().into_string().ok()).collect()
}

/// The crun that `cargo xtask peers` unpacks.
fn crun() -> Option<PathBuf> {
    let peers = cached("peers")?.read_dir().ok()?;
    peers.flatten().map(|entry| entry.path().join("usr/bin/crun")).find(|path| path.exists())
}

/// A runtime that is there: ours, which cargo has built beside `bulkhead` where it builds everything, else crun.
fn runtime() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_BIN_EXE_bulkhead")).with_file_name("bulkrun");
    Some(ours).filter(|path| path.exists()).or_else(crun)
}

/// What one block of `task` on `platform` finds. It must find something.
#[track_caller]
fn one(place: &Place, workload: &Path, task: &str, platform: &str) -> Vec<Value> {
    let mut command =
        place.command(&["one", task, "--platform", platform, "--blocks", "1", "--format", "json"]);
    let output = command.arg("--workload").arg(workload).output().unwrap();
    let lines = text(&output.stdout);
    let findings = Vec::from_iter(lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    assert!(!findings.is_empty(), "{task} on {platform} gives nothing: {}", text(&output.stderr));
    findings
}

/// Fails unless `task` gives a number for each of the quantities on `runtime`.
#[track_caller]
fn gives(place: &Place, workload: &Path, runtime: &Path, task: &str, quantities: &[&str]) {
    let findings = one(place, workload, task, &format!("mine={}", runtime.display()));
    for quantity in quantities {
        let found = findings.iter().find(|finding| finding["quantity"] == *quantity);
        let is_amount = found.is_some_and(|finding| finding["found"] == "amount");
        assert!(is_amount, "{task} gives no {quantity}: {findings:?}");
    }
}

/// The tasks of a sandbox's life, and what each tells.
const LIFE: [(&str, &[&str]); 6] = [
    ("boot", &["first byte", "CPU"]),
    ("run", &["to exit", "CPU"]),
    ("exec", &["to exit", "CPU"]),
    ("steps", &["create", "start", "kill", "delete"]),
    ("pause", &["pause", "resume"]),
    ("starts, 2 at a time", &["rate"]),
];

#[test]
fn a_runtime_is_measured_beside_the_bare_process() {
    requires!(is_root(), "makes containers with limits");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let Some(runtime) = runtime() else { skip!("needs bulkrun beside bulkhead, or crun in the cache") };
    let place = Place::new("runtime");
    let workload = place.workload();
    let further = [
        ("density, to 100", &["processes", "charged"][..]),
        ("cpu", &["rate", "p90"]),
        ("timer", &["p90", "rate"]),
        ("memory left, with limits", &["left"]),
        ("kernel entered", &["footprint", "frequency", "footprint of the set-up"]),
        ("calls let through", &["calls let through"]),
    ];
    for (task, quantities) in LIFE.into_iter().chain(further) {
        gives(&place, &workload, &runtime, task, quantities);
    }
    // What an antagonist gets of a machine that is busy may be too little to say anything; that is said.
    let platform = format!("mine={}", runtime.display());
    let neighbours = one(&place, &workload, "fork beside cpu, with limits", &platform);
    let is_told = |finding: &Value| {
        let reason = finding["reason"].as_str().unwrap_or_default();
        finding["found"] == "amount" || reason.starts_with("the antagonist did not press")
    };
    let (readings, kept): (Vec<_>, Vec<_>) =
        neighbours.iter().partition(|finding| finding["found"] == "readings");
    assert!(kept.len() == 2 && kept.into_iter().all(is_told), "{neighbours:?}");
    // Whatever came of it: what the victim did is kept as it was.
    assert!(readings.len() == 1 && readings[0]["beside"]["rate"] == 300.0, "{neighbours:?}");
    place.nothing_is_left();
}

#[test]
fn the_peak_of_a_set_up_is_measured() {
    requires!(is_root(), "makes containers with limits");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    requires!(tells_peaks(), "this kernel does not tell what a cgroup was charged at most");
    let Some(runtime) = runtime() else { skip!("needs bulkrun beside bulkhead, or crun in the cache") };
    let place = Place::new("peak");
    gives(&place, &place.workload(), &runtime, "set-up peak", &["memory"]);
    place.nothing_is_left();
}

#[test]
fn a_runtime_that_runs_nothing_has_no_times() {
    requires!(is_root(), "measures a runtime");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("liar");
    let workload = place.workload();
    for task in ["boot", "run", "exec", "starts, 2 at a time", "steps", "pause", "set-up peak", "cpu"] {
        let mut command = place.command(&[
            "one",
            task,
            "--platform",
            "liar=/bin/true",
            "--blocks",
            "1",
            "--format",
            "json",
        ]);
        let output = command.arg("--workload").arg(&workload).output().unwrap();
        let lines = text(&output.stdout);
        let found = Vec::from_iter(lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        assert!(!found.is_empty(), "{task} found nothing: {}", text(&output.stderr));
        for finding in found {
            assert_eq!(finding["found"], "failure", "{task} has a figure of nothing: {finding}");
        }
    }
    place.nothing_is_left();
}

/// Whether the kernel remembers the most that a cgroup was charged: v1 always does, v2 since Linux 5.19.
fn tells_peaks() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    Path::new("/sys/fs/cgroup/memory").exists() || (numbers.next(), numbers.next()) >= (Some(5), Some(19))
}

/// docker's daemon, alone in `cgroup`, or where this test is; it and all that it started end with this.
struct Daemon {
    dockerd: Option<Dockerd>,
    cgroup: Option<PathBuf>,
}

impl Daemon {
    /// Starts the one that is unpacked beside `docker`, which keeps everything in `place`.
    fn start(docker: &Path, place: &Path, cgroup: Option<PathBuf>) -> Self {
        cgroup.iter().for_each(|cgroup| fs::create_dir(cgroup).unwrap());
        let dockerd = Dockerd::start(docker, [place; 2], cgroup.as_deref(), Networks::None, &[]).unwrap();
        Self { dockerd: Some(dockerd), cgroup }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.dockerd.take());
        let end = Instant::now() + Duration::from_secs(30);
        // What it has started ends a moment after it.
        while self.cgroup.as_ref().is_some_and(|cgroup| fs::remove_dir(cgroup).is_err()) {
            assert!(Instant::now() < end, "the daemon's cgroup is not left");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A cgroup that counts CPU time, which is not there yet.
fn cgroup_of_daemon() -> PathBuf {
    let v1 = Path::new("/sys/fs/cgroup/cpuacct");
    let top = if v1.exists() { v1 } else { Path::new("/sys/fs/cgroup") };
    top.join(format!("bh-cli-daemon-{}", std::process::id()))
}

#[test]
fn an_engine_is_measured_like_a_runtime() {
    requires!(is_root(), "makes containers with limits");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let own = Path::new(env!("CARGO_BIN_EXE_bulkhead"));
    requires!(
        ["bulkrun", "bulkmon"].iter().all(|name| own.with_file_name(name).exists()),
        "needs bulkrun and bulkmon beside bulkhead"
    );
    let place = Place::new("engine");
    let workload = place.workload();
    let further = [
        ("cpu", &["rate", "p90"][..]),
        ("memory left, with limits", &["left"]),
        ("calls let through", &["calls let through"]),
    ];
    for (task, quantities) in LIFE.into_iter().chain(further) {
        let findings = one(&place, &workload, task, "bulkhead");
        for quantity in quantities {
            let found = findings.iter().find(|finding| finding["quantity"] == *quantity);
            let is_amount = found.is_some_and(|finding| finding["found"] == "amount");
            assert!(is_amount, "{task} gives no {quantity}: {findings:?}");
        }
    }
    if instances_of(&place, 0).is_some() {
        let found = footprints(&place, "bulkhead");
        assert!(found.iter().any(|(part, ..)| part == "monitor bulkmon"), "{found:?}");
        assert!(makes(&calls_of(&found, "set-up"), "pivot_root"), "{found:?}");
    }
    let listed = text(&place.command(&["platforms"]).output().unwrap().stdout);
    assert!(listed.lines().any(|line| line.starts_with("bulkhead ")), "{listed}");
    place.nothing_is_left();
}

#[test]
fn what_a_daemon_takes_is_counted_or_told() {
    requires!(is_root(), "starts docker's daemon");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let Some(docker) = docker() else {
        skip!("needs docker with its daemon in the cache, where `cargo xtask peers` puts them")
    };
    let place = Place::new("counted");
    let workload = place.workload();
    let kept = place.0.join("docker");
    let boot = |cgroup: Option<PathBuf>| {
        fs::create_dir(&kept).unwrap();
        let daemon = Daemon::start(&docker, &kept, cgroup);
        let host = format!("unix://{}", kept.join("socket").display());
        let mut command = place.command(&["one", "boot", "--platform"]);
        command.arg(format!("docker={}", docker.display())).args(["--blocks", "1", "--format", "json"]);
        let output = command.arg("--workload").arg(&workload).env("DOCKER_HOST", host).output().unwrap();
        drop(daemon);
        // Its own namespaces go a moment after it, with what is mounted there.
        let end = Instant::now() + Duration::from_secs(30);
        while fs::remove_dir_all(&kept).is_err() {
            assert!(Instant::now() < end, "the daemon's files are not left");
            std::thread::sleep(Duration::from_millis(20));
        }
        let lines = text(&output.stdout);
        let findings = Vec::from_iter(lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        assert_eq!(findings.len(), 2, "{}", text(&output.stderr));
        let of =
            |quantity: &str| findings.iter().find(|found| found["quantity"] == quantity).unwrap().clone();
        [of("first byte"), of("CPU")]
    };
    let [first, cpu] = boot(None);
    assert_eq!(first["found"], "amount", "{first}");
    let reason = cpu["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("docker's daemon takes is not told from others' work"), "{cpu}");
    let [_, cpu] = boot(Some(cgroup_of_daemon()));
    // The client alone takes a part of that.
    assert_eq!(cpu["found"], "amount", "{cpu}");
    place.nothing_is_left();
}

/// docker's client, where its daemon is, too.
fn docker() -> Option<PathBuf> {
    let peers = cached("peers").and_then(|peers| peers.read_dir().ok()).into_iter().flatten().flatten();
    let packages = peers.map(|entry| entry.path().join("usr"));
    let mut whole = packages.filter(|package| package.join("sbin/dockerd").exists());
    whole.next().map(|package| package.join("bin/docker"))
}

#[test]
fn a_daemon_is_followed_with_the_sandboxes_that_it_makes() {
    requires!(is_root(), "starts docker's daemon");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let Some(docker) = docker() else {
        skip!("needs docker with its daemon in the cache, where `cargo xtask peers` puts them")
    };
    let place = Place::new("daemon");
    requires!(
        instances_of(&place, 0).is_some(),
        "this kernel has no tracefs, and a daemon is not followed by ptrace"
    );
    let kept = place.0.join("docker");
    fs::create_dir(&kept).unwrap();
    let daemon = Daemon::start(&docker, &kept, None);
    let host = format!("unix://{}", kept.join("socket").display());
    let bare = footprints(&place, "bare");
    let contained = footprints_of(&place, &format!("docker={}", docker.display()), &[("DOCKER_HOST", &host)]);
    drop(daemon);
    let parts = Vec::from_iter(contained.iter().map(|(part, ..)| part.as_str()));
    for part in ["monitor", "monitor dockerd", "monitor docker"] {
        assert!(parts.contains(&part), "no {part} in {parts:?}");
    }
    // That is done by a runtime which the daemon's helper starts.
    let set_up = calls_of(&contained, "set-up");
    assert!(makes(&set_up, "pivot_root") && makes(&set_up, "setns"), "{set_up:?}");
    let (mut alone, mut within) = (calls_of(&bare, "application"), calls_of(&contained, "application"));
    // Where it waits for its end, it may do so before or after it is heard that it has done its work.
    [&mut alone, &mut within].iter_mut().for_each(|calls| calls.retain(|(name, _)| name != "read"));
    assert_eq!(alone, within, "the same program makes other calls");
    // What the daemon has started ends a moment after it.
    let end = Instant::now() + Duration::from_secs(30);
    while std::panic::catch_unwind(|| place.nothing_is_left()).is_err() {
        assert!(Instant::now() < end, "the daemon does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How often each call was made.
type Counts = Vec<(String, u64)>;

/// The footprints that a turn found, by part and level.
fn footprints(place: &Place, platform: &str) -> Vec<(String, String, Counts)> {
    footprints_of(place, platform, &[])
}

/// The same, with these variables.
fn footprints_of(
    place: &Place,
    platform: &str,
    environment: &[(&str, &str)],
) -> Vec<(String, String, Counts)> {
    let output = place
        .command(&["one", "kernel entered", "--platform", platform, "--blocks", "1", "--format", "json"])
        .arg("--workload")
        .arg(place.workload())
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(output.status.success(), "{platform}: {}{}", text(&output.stdout), text(&output.stderr));
    let lines = text(&output.stdout);
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines = lines.filter(|line| line["found"] == "footprint");
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let counts = |line: &Value| {
        let counts = line["counts"].as_object().unwrap().clone();
        counts.into_iter().map(|(name, count)| (name, count.as_u64().unwrap())).collect()
    };
    lines.map(|line| (word(&line["part"]), word(&line["level"]), counts(&line))).collect()
}

/// The calls of one part, without those of functions, which few kernels let be watched.
fn calls_of(footprints: &[(String, String, Counts)], part: &str) -> Counts {
    let found = footprints.iter().find(|(name, level, _)| name == part && level != "functions");
    found.unwrap_or_else(|| panic!("no {part} in {footprints:?}")).2.clone()
}

fn makes(calls: &[(String, u64)], call: &str) -> bool {
    calls.iter().any(|(name, _)| name == call)
}

#[test]
fn the_set_up_of_a_container_has_calls_that_a_bare_process_has_not() {
    requires!(is_root(), "makes containers with limits");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let Some(runtime) = crun() else { skip!("needs crun in the cache, where `cargo xtask peers` puts it") };
    let place = Place::new("footprint");
    let bare = footprints(&place, "bare");
    let contained = footprints(&place, &format!("mine={}", runtime.display()));
    for call in ["setns", "unshare", "pivot_root", "seccomp", "sethostname"] {
        assert!(!makes(&calls_of(&bare, "set-up"), call), "a bare process makes {call}");
    }
    assert!(makes(&calls_of(&contained, "set-up"), "pivot_root"), "{contained:?}");
    assert!(makes(&calls_of(&contained, "set-up"), "execve"), "{contained:?}");
    // The program in the sandbox does the same everywhere, and nothing of the set-up is counted as its own.
    let (mut alone, mut within) = (calls_of(&bare, "application"), calls_of(&contained, "application"));
    // Where it waits for its end, it may do so before or after it is heard that it has done its work.
    [&mut alone, &mut within].iter_mut().for_each(|calls| calls.retain(|(name, _)| name != "read"));
    for call in ["chdir", "getppid", "wait4"] {
        assert!(makes(&alone, call) && makes(&within, call), "no {call} in {alone:?} or {within:?}");
    }
    assert_eq!(alone, within, "the same program makes other calls");
    assert!(bare.iter().all(|(part, ..)| part != "monitor"), "bare has a monitor: {bare:?}");
    place.nothing_is_left();
}

#[test]
fn filters_are_read_from_the_kernel() {
    requires!(is_root(), "reads the filters of other processes");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let Some(runtime) = crun() else { skip!("needs crun in the cache, where `cargo xtask peers` puts it") };
    let place = Place::new("surface");
    let workload = place.workload();
    let count = |platform: &str| {
        let mut command = place.command(&[
            "one",
            "calls let through",
            "--platform",
            platform,
            "--blocks",
            "1",
            "--format",
            "json",
        ]);
        let output = command.arg("--workload").arg(&workload).output().unwrap();
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        line["value"].as_f64().unwrap_or_else(|| panic!("{platform}: {line}"))
    };
    let (all, some) = (count("bare"), count(&format!("mine={}", runtime.display())));
    assert!(some > 100.0 && some < all, "the filter lets {some} calls of {all} through");
    place.nothing_is_left();
}

/// The instances of the kernel's tracer by the process `pid`; None where they cannot be seen.
fn instances_of(place: &Place, pid: u32) -> Option<Vec<String>> {
    let script = "mount -t tracefs tracefs \"$1\" && ls \"$1/instances\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(place.0.join("tracefs"));
    fs::create_dir_all(place.0.join("tracefs")).unwrap();
    let output = command.output().unwrap();
    let prefix = format!("bh-watch-{pid}-");
    let names = text(&output.stdout);
    let names = names.lines().filter(|name| name.starts_with(&prefix)).map(str::to_owned);
    output.status.success().then(|| names.collect())
}

#[test]
fn a_watch_that_was_killed_leaves_no_instance_of_the_tracer() {
    requires!(is_root(), "watches the kernel");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("instances");
    requires!(
        instances_of(&place, 0).is_some(),
        "this kernel has no tracefs, so that no instance can be left"
    );
    let pid = killed_watch(&place);
    // No other run is needed: its guard does that, and would do it with another directory for temporary files, too.
    let end = Instant::now() + Duration::from_secs(30);
    while instances_of(&place, pid) != Some(Vec::new()) {
        assert!(Instant::now() < end, "instances of the tracer are left");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Nor is the directory left on which the tracer was mounted, although the guard lives in the mounts of who was killed.
    soon_nothing_is_left(&place, pid);
}

/// Kills a run that watches the kernel, and tells which process it was.
#[track_caller]
fn killed_watch(place: &Place) -> u32 {
    let workload = place.workload();
    let mut command = place.command(&["run", "--platforms", "bare", "--axes", "isolation", "--out"]);
    command.arg(place.0.join("killed")).arg("--workload").arg(&workload);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while fs::read_to_string(place.0.join("killed/journal.jsonl")).unwrap_or_default().lines().count() < 2 {
        assert!(Instant::now() < end, "nothing is watched");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = running.id();
    running.kill().unwrap();
    running.wait().unwrap();
    pid
}

#[test]
fn a_watch_that_was_killed_leaves_nothing_that_the_next_does_not_remove() {
    requires!(is_root(), "watches the kernel");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("watch");
    let pid = killed_watch(&place);
    let next = place.run("bare", &["--axes", "isolation"]);
    assert!(next.status.success(), "{}", text(&next.stderr));
    let journal = place.journal();
    assert!(
        journal[0]["environment"]["kernel watched"].as_str().unwrap().starts_with("level "),
        "{journal:?}"
    );
    let level = journal[0]["environment"]["kernel watched"].as_str().unwrap();
    if level.starts_with("level 1") {
        let turns =
            journal.iter().filter(|line| line["platform"] == "bare" && line["task"] == "kernel entered");
        let findings = Vec::from_iter(turns.flat_map(|turn| turn["findings"].as_array().unwrap().clone()));
        let samples = findings.iter().filter(|finding| finding["level"] == "samples");
        let samples = samples.filter_map(|finding| finding["samples"].as_u64()).sum::<u64>();
        let refused = level.contains("no stacks are sampled");
        assert_eq!(samples == 0, refused, "{samples} stacks were sampled at {level}");
        let at_least = |finding: &&Value| finding["quantity"] == "functions in sampled stacks, at least";
        assert_eq!(findings.iter().filter(at_least).count(), 3, "a run says nothing of samples");
    }
    let watched = found(&journal, "calls let through", "bare");
    assert_eq!(watched, [("calls let through".to_owned(), "amount".to_owned())]);
    assert!(cgroups_of(pid).is_empty(), "cgroups are left");
    place.nothing_is_left();
}

#[test]
fn a_guest_watches_functions() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let Some(guests) = cached("vm") else { skip!("needs the kernel that `cargo xtask vm fetch` gets") };
    requires!(
        guests.join("kernel-release/vmlinuz").exists(),
        "needs the kernel that `cargo xtask vm fetch` gets"
    );
    let place = Place::new("guest");
    let output = place.run("bare", &["--axes", "isolation", "--in-guest"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let journal = place.journal();
    let environment = &journal[0]["environment"];
    assert!(environment["kernel watched"].as_str().unwrap().starts_with("level 2"), "{environment}");
    assert!(environment["guest"].as_str().unwrap().contains("QEMU"), "{environment}");
    assert_eq!(journal.last().unwrap()["reason"], "complete");
    let turns = journal.iter().filter(|line| line["platform"] == "bare" && line["task"] == "kernel entered");
    let findings = turns.flat_map(|turn| turn["findings"].as_array().unwrap().clone());
    let functions =
        findings.filter(|finding| finding["level"] == "functions" && finding["part"] == "application");
    let functions = Vec::from_iter(functions.map(|finding| finding["counts"].clone()));
    assert_eq!(functions.len(), 3, "not every run was watched");
    for counts in &functions {
        // The stand-in makes one child, and looks for its own parent.
        assert!(counts["kernel_clone"].as_u64().is_some_and(|count| count >= 1), "{counts}");
        assert!(counts["vfs_write"].as_u64().is_some_and(|count| count >= 1), "{counts}");
    }
    place.nothing_is_left();
}

#[test]
fn an_ordinary_user_measures_what_is_possible() {
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("ordinary");
    let workload = place.workload();
    let run = |platforms: &str| {
        let mut command =
            place.command_of_ordinary(&["run", "--budget", "1s", "--platforms", platforms, "--out"]);
        command.arg(place.0.join("out")).arg("--workload").arg(&workload).output().unwrap()
    };
    let output = run("bare");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("measured by an ordinary user"), "{}", text(&output.stderr));
    let journal = place.journal();
    let said = journal[0]["environment"]["user"].as_str().unwrap();
    assert!(said.contains("take root"), "{said}");
    let boots = found(&journal, "boot", "bare");
    assert_eq!(boots[0], ("first byte".to_owned(), "amount".to_owned()));
    assert!(boots[1].0 == "CPU" && boots[1].1.contains("takes root"), "{boots:?}");
    let refused = run("mine=/bin/false");
    assert!(text(&refused.stderr).contains("mine is measured by root only"), "{}", text(&refused.stderr));
    place.nothing_is_left();
}

#[test]
fn root_of_a_user_namespace_is_an_ordinary_user() {
    let place = Place::new("mapped");
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user"]).arg(env!("CARGO_BIN_EXE_bulkhead"));
    let output = command.args(["measure", "doctor"]).env("TMPDIR", place.0.join("tmp")).output().unwrap();
    requires!(
        output.status.success() || !text(&output.stderr).starts_with("unshare:"),
        "this kernel makes no user namespaces for this user"
    );
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        said.lines().any(|line| line.starts_with("less  user") && line.contains("user namespace")),
        "{said}"
    );
    assert!(said.contains("limits of memory, CPU and processes take root"), "{said}");
    place.nothing_is_left();
}

#[test]
fn what_fails_is_said_and_leaves_nothing() {
    requires!(is_root(), "makes containers with limits");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("broken");
    let output = place.run("false=/bin/false", &["--budget", "2s"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = found(&place.journal(), "boot", "false");
    assert!(!said.is_empty() && said.iter().all(|(_, said)| said.starts_with("exit status: 1")), "{said:?}");
    assert!(text(&output.stdout).contains("failed"), "{}", text(&output.stdout));
    place.nothing_is_left();
}

#[test]
fn errors_say_what_to_do_next() {
    let place = Place::new("errors");
    for (words, expected) in [
        (&["run", "--platforms", "warp"][..], "warp=/path/to/it"),
        (&["one", "dance", "--platform", "bare"], "there is no task dance; there are boot;"),
        (
            &["run", "--workload", "/bin/false", "--platforms", "bare"],
            "it must be the static program bulkload",
        ),
        (&["report", "/no/such/run"], "/no/such/run holds no run"),
        (&["run", "--budget", "5"], "such as 90s or 5m"),
        (
            &["run", "--platforms", "bare", "--in-guest", "/nowhere", "--workload", "/bin/true"],
            "no file vmlinuz",
        ),
        (&["run", "--in-guest", "--axes", "performance"], "--in-guest measures isolation only"),
        (
            &[
                "run",
                "--platforms",
                "bare",
                "--workload",
                "/bin/true",
                "--in-guest",
                "/nowhere",
                "--tasks",
                "boot",
            ],
            "no task has \"boot\" in its name",
        ),
        (&["run", "--axes", "speed"], "the axes are performance, isolation, noninterference"),
        (&["run", "--platforms", ""], "a value is required for '--platforms"),
        (&["run", "--quick", "--full"], "Usage: bulkhead measure run [OPTIONS]"),
        (&["one", "boot", "--platform", "bare", "--blocks", "0"], "invalid value '0' for '--blocks"),
        (&["run", "--kernel-source", "/no/such"], "read /no/such/Makefile"),
        (&["report", "/no/such", "--kernel-source", "/dev"], "read /dev/Makefile"),
    ] {
        let mut command = place.command(words);
        if words[0] == "run" {
            command.arg("--out").arg(place.0.join("out"));
        }
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{words:?} succeeded");
        let said = text(&output.stderr);
        assert!(said.contains(expected), "{words:?} does not say {expected:?} but {said}");
    }
    place.nothing_is_left();
}

#[test]
fn help_fits_a_terminal() {
    let place = Place::new("help");
    for words in [&["--help"][..], &["help"], &["run", "--help"], &["one", "--help"]] {
        let output = place.command(words).output().unwrap();
        let help = text(&output.stdout);
        assert!(output.status.success() && help.lines().count() <= 48, "too long:\n{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 80), "too wide:\n{help}");
    }
    let version = Command::new(env!("CARGO_BIN_EXE_bulkhead")).arg("--version").output().unwrap();
    assert!(text(&version.stdout).starts_with("bulkhead 0."), "{version:?}");
}

#[test]
fn platforms_and_doctor_say_what_is_here() {
    let place = Place::new("looks");
    let platforms = place.command(&["platforms"]).output().unwrap();
    assert!(platforms.status.success() && text(&platforms.stdout).contains("bare"), "{platforms:?}");
    let told = text(&platforms.stdout);
    for program in ["redis", "iperf3", "fio", "sysbench", "postgresql"] {
        let line = told.lines().find(|line| line.trim_start().starts_with(program)).unwrap_or_default();
        let version = line.split_whitespace().nth(1).unwrap_or_default();
        let is_here = line.contains(" in /") && version.starts_with(|first: char| first.is_ascii_digit());
        assert!(is_here || line.contains("not here: it is not installed: apt-get install"), "{told}");
    }
    let doctor = place.command(&["doctor"]).output().unwrap();
    let said = text(&doctor.stdout);
    assert!(doctor.status.success(), "{}", text(&doctor.stderr));
    for name in [
        "user",
        "cgroups",
        "level 2",
        "level 1",
        "level 0",
        "noninterference, in space",
        "real programs",
        "noise",
    ] {
        assert!(said.contains(name), "{name} is missing in {said}");
    }
    assert!(!said.contains('\u{1b}'), "colours into a pipe");
    place.nothing_is_left();
}

#[test]
fn who_guards_a_killed_doctor_takes_everything_away() {
    let place = Place::new("doctor");
    let mut command = place.command(&["doctor"]);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = running.id();
    let end = Instant::now() + Duration::from_secs(60);
    // The guard is its first child, and nobody guards what is killed before.
    let children = format!("/proc/{pid}/task/{pid}/children");
    let is_begun = || {
        let is_guarded = fs::read_to_string(&children).is_ok_and(|children| !children.is_empty());
        is_guarded && place.0.join("tmp").read_dir().unwrap().count() > 0
    };
    while !is_begun() || is_root() && instances_of(&place, pid).is_some_and(|there| there.is_empty()) {
        assert!(Instant::now() < end && running.try_wait().unwrap().is_none(), "nothing is looked at");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    soon_nothing_is_left(&place, pid);
    assert!(instances_of(&place, pid).is_none_or(|left| left.is_empty()), "the tracer has an instance");
}

/// Lets a run go on until there are so many turns of a task, and interrupts it.
#[track_caller]
fn until(place: &Place, mut command: Command, task: &str, turns: usize) -> Vec<Value> {
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = running.id();
    let end = Instant::now() + Duration::from_secs(400);
    let journal = place.0.join("out/journal.jsonl");
    let count = || {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        text.lines().filter(|line| line.contains(&format!("\"task\":{task:?},\"platform\""))).count()
    };
    while count() < turns {
        assert!(
            running.try_wait().unwrap().is_none(),
            "{}",
            text(&running.wait_with_output().unwrap().stderr)
        );
        assert!(Instant::now() < end, "{task} is not measured");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success());
    assert_eq!(running.wait().unwrap().code(), Some(130));
    assert!(cgroups_of(pid).is_empty(), "cgroups are left");
    place.journal()
}

const HEAVY: [&str; 6] = [
    "heavy redis",
    "heavy iperf3",
    "heavy fio-random-read",
    "heavy fio-random-write",
    "heavy fio-write",
    "heavy postgresql",
];

#[test]
fn real_programs_work_without_a_wall_and_behind_one() {
    requires!(is_root(), "the heavy profile takes root");
    let Some(programs) = cached("heavy") else { skip!("needs what `cargo xtask heavy` unpacks") };
    let place = Place::new("heavy");
    let workload = built::standalone("bulkhead-workload", "bulkload", Profile::Dev);
    let bulkrun = built::standalone("bulkhead-runtime", "bulkrun", Profile::Dev);
    let platforms = format!("bulkrun={}", bulkrun.display());
    let mut command = place.command(&["run", "--tasks", "heavy", "--platforms", &platforms]);
    command.arg("--heavy").arg(programs).arg("--workload").arg(workload);
    command.arg("--out").arg(place.0.join("out"));
    let journal = until(&place, command, "heavy postgresql", 3);
    for platform in ["bare", "bare again", "bulkrun"] {
        for task in HEAVY {
            let found = found(&journal, task, platform);
            // A disk that is memory cannot be measured, and is no fault of the platform.
            let of_memory =
                |said: &str| task.contains("fio") && said.starts_with("memory answers for the disk");
            assert!(!found.is_empty(), "{task} on {platform} was not measured");
            for (quantity, said) in found {
                assert!(said == "amount" || of_memory(&said), "{task} on {platform}: {quantity}: {said}");
            }
        }
    }
    let told = &journal[0]["environment"];
    for program in ["redis", "iperf3", "fio", "sysbench", "postgresql"] {
        let version = told[format!("heavy: {program}")].as_str().unwrap();
        assert!(version.contains(|letter: char| letter.is_ascii_digit()), "{program} is {version}");
    }
    place.nothing_is_left();
}

#[test]
fn programs_that_are_missing_are_values_with_a_reason() {
    requires!(is_root(), "the heavy profile takes root");
    requires!(find_program("gcc").is_some(), "needs gcc for the stand-in of the workload");
    let place = Place::new("lacking");
    let tree = place.0.join("tree");
    fs::create_dir(&tree).unwrap();
    let output = place.run("bare", &["--tasks", "heavy", "--heavy", tree.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let journal = place.journal();
    for (task, program, package) in [
        ("heavy fio-write", "fio", "fio"),
        ("heavy postgresql", "sysbench", "sysbench"),
        ("heavy redis", "redis", "redis-server redis-tools"),
    ] {
        let found = found(&journal, task, "bare");
        assert!(!found.is_empty(), "{task} is no value at all");
        for (_, said) in found {
            assert!(
                said.starts_with(&format!("{program}: it is not installed: apt-get install {package}, or")),
                "{said}"
            );
        }
    }
    place.nothing_is_left();
}
