//! Every hog hogs, keeps within its bounds, and leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_testkit::{Sandbox, cgroups, is_root, requires, wait_until};
use rustix::process::Signal;
use serde_json::Value;

const BULKLOAD: &str = env!("CARGO_BIN_EXE_bulkload");

/// Runs a hog, checks what holds for every line, and returns it. That no process is left is checked by the sandbox.
#[track_caller]
fn hog(sandbox: &Sandbox, arguments: &str) -> Value {
    let directory = sandbox.directory().join("output");
    let words = arguments.split_whitespace();
    let run = sandbox.command(BULKLOAD).arg("hog").args(words).arg("--directory").arg(directory);
    let output = run.output().succeeds();
    assert_eq!(output.stdout.lines().count(), 1, "not one line:\n{output}");
    let line = output.json();
    let number = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name} is no number\n{output}"));
    assert_eq!(line["hog"].as_str(), arguments.split_whitespace().next());
    assert!(number("count") > 0.0, "nothing was done\n{output}");
    assert!(number("seconds") >= 0.5, "it ended early\n{output}");
    assert!(number("cpu_seconds") > 0.0, "it used no processor\n{output}");
    assert_eq!(number("killed"), 0.0, "somebody killed a part of it\n{output}");
    line
}

/// Checks the most that a hog had at a time. How many of its processes ran while it lasted is the machine's to say.
#[track_caller]
fn holds(line: &Value, bounds: std::ops::RangeInclusive<u64>, what: &str) {
    assert!(
        line["most"].as_u64().is_some_and(|most| bounds.contains(&most)),
        "not within {bounds:?}: {line}"
    );
    assert_eq!(line["holds"], what, "{line}");
}

#[test]
fn processors_are_hogged() {
    let line = hog(&Sandbox::new(BULKLOAD), "cpu --seconds 0.5 --tasks 3");
    holds(&line, 1..=3, "processes");
}

#[test]
fn memory_bandwidth_is_hogged() {
    let line = hog(&Sandbox::new(BULKLOAD), "memory-bandwidth --seconds 0.5 --tasks 2 --mib 16");
    holds(&line, 8..=16, "MiB");
}

#[test]
fn the_disk_is_hogged() {
    let line = hog(&Sandbox::new(BULKLOAD), "disk --seconds 0.5 --tasks 2 --mib 4");
    holds(&line, 1..=4, "MiB");
}

#[test]
fn loopback_is_hogged() {
    let line = hog(&Sandbox::new(BULKLOAD), "packets --seconds 0.5 --tasks 1");
    assert_eq!(line["unit"], "packets");
}

#[test]
fn files_are_kept_open() {
    let sandbox = Sandbox::new(BULKLOAD);
    let run = sandbox.command("prlimit").args(["--nofile=100", BULKLOAD, "hog", "files", "--tasks", "2"]);
    let line = run.args(["--seconds", "0.5"]).output().succeeds().json();
    holds(&line, 50..=200, "files");
    assert!(line["refused"].as_u64().is_some_and(|refused| refused > 0), "{line}");
}

#[test]
fn a_hog_that_is_held_tells_when_it_began_and_ends_with_its_input() {
    let sandbox = Sandbox::new(BULKLOAD);
    for kind in ["cpu", "fork", "memory", "disk", "packets", "files", "memory-bandwidth"] {
        let output = sandbox.directory().join("output").join(kind);
        // The input ends as soon as the hog has said that it began.
        let script = format!(
            "mkfifo {0}.in && ( : > {0}.began; exec 3> {0}.in; until [ -s {0}.began ]; do sleep 0.05; done ) & \
             sleep 0.1; exec \"$@\" < {0}.in > {0}.began",
            output.display()
        );
        let run = sandbox.command("sh").args(["-c", &script, "sh", BULKLOAD, "hog", kind, "--held"]);
        let began = std::time::Instant::now();
        run.args(["--seconds", "60", "--directory"])
            .arg(sandbox.directory().join("output"))
            .output()
            .succeeds();
        let printed = fs::read_to_string(output.with_extension("began")).unwrap();
        let line = printed
            .strip_prefix('R')
            .unwrap_or_else(|| panic!("{kind} did not say that it began: {printed}"));
        // Whether it was refused something is the machine's to say.
        let line: Value = serde_json::from_str(line.trim_start_matches('F')).unwrap();
        assert!(line["count"].as_u64().is_some_and(|count| count > 0), "{line}");
        assert!(began.elapsed() < Duration::from_secs(50), "{kind} did not end with its input");
    }
}

#[test]
fn a_hog_that_is_held_tells_when_it_is_refused_more() {
    let sandbox = Sandbox::new(BULKLOAD);
    let script = "sleep 1 | prlimit --nofile=100 \"$@\"";
    let run = sandbox.command("sh").args(["-c", script, "sh", BULKLOAD, "hog", "files", "--held"]);
    let output = run.args(["--seconds", "60"]).output().succeeds();
    assert!(output.stdout.starts_with("RF{"), "{output}");
}

#[test]
fn only_a_hog_that_holds_on_does_not_offer_itself() {
    let sandbox = Sandbox::new(BULKLOAD);
    let offers = |pid: u32| {
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap_or_default();
        score.trim() == "1000"
    };
    for (flags, expected) in [(&[][..], true), (&["--hold-on"], false)] {
        let run = sandbox.command(BULKLOAD).args(["hog", "memory", "--seconds", "1", "--mib", "8"]);
        let running = run.args(flags).spawn();
        let mut has_offered = false;
        while !running.has_ended() {
            has_offered |= children(running.pid()).into_iter().any(offers);
        }
        running.wait().succeeds();
        assert_eq!(has_offered, expected, "with {flags:?}");
    }
}

#[test]
fn a_fork_bomb_keeps_its_bound() {
    let sandbox = Sandbox::new(BULKLOAD);
    for tasks in [2, 7, 40] {
        let line = hog(&sandbox, &format!("fork --seconds 0.5 --tasks {tasks}"));
        holds(&line, 2..=tasks, "processes");
    }
}

#[test]
fn a_bomb_of_one_process_is_refused() {
    let sandbox = Sandbox::new(BULKLOAD);
    let output = sandbox.command(BULKLOAD).args(["hog", "fork", "--tasks", "1", "--seconds", "0.1"]).output();
    output.exits_with(1).prints("").complains("two tasks at least");
}

#[test]
fn a_memory_hog_stays_within_what_it_was_told() {
    const KIB: u64 = 24 << 10;
    let sandbox = Sandbox::new(BULKLOAD);
    let running = sandbox.command(BULKLOAD).args(["hog", "memory", "--seconds", "1", "--mib", "24"]).spawn();
    let pid = running.pid();
    let mut highest = 0;
    while !running.has_ended() {
        highest = children(pid).into_iter().filter_map(peak).chain([highest]).max().unwrap_or(highest);
    }
    holds(&running.wait().succeeds().json(), 1..=24, "MiB");
    // The program itself takes some.
    assert!(highest > 0, "nobody saw its process");
    assert!(highest <= KIB + (16 << 10), "it had {highest} KiB");
}

#[test]
fn a_memory_hog_survives_a_limit_that_it_runs_into() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKLOAD);
    let Some(cgroup) = limited_memory(&sandbox, 32 << 20) else {
        bulkhead_testkit::skip!("no hierarchy of cgroups limits memory");
    };
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", cgroup.display());
    let outputs = [&[][..], &["--hold-on"]].map(|flags| {
        let run = sandbox.command("sh").args(["-c", &script, "sh", BULKLOAD, "hog", "memory"]);
        run.args(["--seconds", "3", "--mib", "512"]).args(flags).output()
    });
    fs::remove_dir(&cgroup).unwrap();
    for output in outputs {
        let line = output.succeeds().json();
        let number = |name: &str| line[name].as_u64().unwrap();
        assert!(number("killed") > 0, "512 MiB fitted into 32: {line}");
        holds(&line, 1..=32, "MiB");
    }
}

#[test]
fn a_hog_that_can_do_nothing_fails() {
    requires!(is_root(), "needs root");
    let sandbox = Sandbox::new(BULKLOAD);
    // The limit of processes holds for an ordinary user.
    let run = sandbox.command("prlimit").args(["--nproc=0", BULKLOAD, "hog", "cpu", "--seconds", "0.1"]);
    run.as_user(31_999, 31_999).output().exits_with(1).prints("").complains("the hog did nothing");
}

#[test]
fn a_killed_parent_takes_the_hog_with_it() {
    let sandbox = Sandbox::new(BULKLOAD);
    for hog in ["cpu", "memory", "fork"] {
        // The shell is the parent: it runs something after the hog.
        let script = "\"$@\"; true";
        let run = sandbox.command("sh").args(["-c", script, "sh", BULKLOAD, "hog", hog, "--seconds", "300"]);
        let running = run.timeout(Duration::from_secs(30)).spawn();
        let shell = running.pid();
        wait_until("the hog has processes", || {
            children(shell).into_iter().any(|pid| !children(pid).is_empty())
        });
        running.signal(Signal::KILL);
        running.wait().exits_with(128 + 9);
        wait_until("all are gone", || sandbox.leaks().is_empty());
    }
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// The most memory that a process had, KiB; None when it is gone.
fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Makes a cgroup of the sandbox that may have so many bytes, and no swap.
fn limited_memory(sandbox: &Sandbox, bytes: u64) -> Option<PathBuf> {
    for hierarchy in cgroups::hierarchies() {
        let cgroup = hierarchy.join(sandbox.name());
        if fs::create_dir(&cgroup).is_err() {
            continue;
        }

        if write_existing(&cgroup, "memory.limit_in_bytes", bytes) {
            // It is there where swap is counted.
            write_existing(&cgroup, "memory.memsw.limit_in_bytes", bytes);
            return Some(cgroup);
        }
        if write_existing(&cgroup, "memory.max", bytes) {
            write_existing(&cgroup, "memory.swap.max", 0);
            return Some(cgroup);
        }
        // It is empty, so that this cannot fail.
        drop(fs::remove_dir(&cgroup));
    }
    None
}

fn write_existing(cgroup: &Path, file: &str, value: u64) -> bool {
    cgroup.join(file).exists() && fs::write(cgroup.join(file), value.to_string()).is_ok()
}
