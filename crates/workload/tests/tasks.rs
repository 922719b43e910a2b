//! Every task runs for a short time and says something plausible. No test looks at how fast.

use std::collections::BTreeSet;

use bulkhead_testkit::{Output, Sandbox};
use serde_json::Value;

const BULKLOAD: &str = env!("CARGO_BIN_EXE_bulkload");

fn work(sandbox: &Sandbox, arguments: &str) -> Output {
    let directory = sandbox.directory().join("output");
    let arguments = arguments.split_whitespace();
    sandbox.command(BULKLOAD).arg("work").args(arguments).arg("--directory").arg(directory).output()
}

/// Checks what holds for every line, and returns it.
#[track_caller]
fn plausible(sandbox: &Sandbox, arguments: &str, way: &str) -> Value {
    let output = work(sandbox, arguments).succeeds();
    assert_eq!(output.stdout.lines().count(), 1, "not one line:\n{output}");
    let line = output.json();
    let number = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name} is no number\n{output}"));
    let name = arguments.split_whitespace().next();
    assert_eq!((line["work"].as_str(), line["loop"].as_str()), (name, Some(way)), "{output}");
    assert!(number("count") > 0.0 && number("seconds") > 0.0, "nothing was done\n{output}");
    let rate = number("count") / number("seconds");
    assert!((number("rate") / rate - 1.0).abs() < 1e-9, "the rate is another\n{output}");
    let latency = &line["latency_us"];
    let mut quantiles = vec![&latency["p50"], &latency["p99"], &latency["max"]];
    let samples = latency["samples"].as_u64().unwrap_or_default();
    if samples >= 10_000 {
        quantiles.insert(2, &latency["p999"]);
    } else {
        assert!(latency["p999"].is_null(), "a tail from {samples} samples\n{output}");
    }
    let quantiles = Vec::from_iter(quantiles.into_iter().filter_map(Value::as_f64));
    assert_eq!(quantiles.len(), if samples >= 10_000 { 4 } else { 3 }, "quantiles are missing\n{output}");
    assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "quantiles are not in order\n{output}");
    line
}

/// A test for each task: its name, the arguments, and what is counted.
macro_rules! tasks {
    ($($test:ident: $task:literal counts $unit:literal, $in_a_turn:literal in a turn;)*) => {
        $(#[test]
        fn $test() {
            let sandbox = Sandbox::new(BULKLOAD);
            let line = plausible(&sandbox, concat!($task, " --seconds 0.1"), "closed");
            assert_eq!(line["unit"], $unit);
            assert_eq!(line["missed"], 0, "the closed loop plans nothing");
            let turns = line["latency_us"]["samples"].as_u64().unwrap_or_default();
            assert_eq!(line["count"].as_u64(), Some(turns * $in_a_turn), "{line}");

            let line = plausible(&sandbox, concat!($task, " --seconds 0.1 --rate 50"), "open");
            let turns = line["count"].as_u64().unwrap_or_default() / $in_a_turn;
            assert_eq!(line["latency_us"]["samples"], 5, "each planned turn has a latency: {line}");
            assert_eq!(line["missed"].as_u64(), Some(5 - turns), "{line}");
        })*

        /// All tasks that are tested above.
        const TESTED: &[&str] = &[$($task),*];
    };
}

tasks! {
    primes_are_counted: "cpu" counts "counts", 1 in a turn;
    memory_is_copied: "memory" counts "MiB", 32 in a turn;
    the_kernel_is_called: "null-call" counts "calls", 1000 in a turn;
    processes_are_made: "fork" counts "processes", 1 in a turn;
    programs_are_run: "exec" counts "programs", 1 in a turn;
    memory_is_mapped: "mmap" counts "pages", 256 in a turn;
    a_file_is_written: "file" counts "writes", 1 in a turn;
    a_file_is_opened: "open-close" counts "files", 1 in a turn;
    a_unix_socket_echoes: "unix-echo" counts "echoes", 1 in a turn;
    much_goes_over_loopback: "tcp-rate" counts "MiB", 1 in a turn;
    loopback_echoes: "tcp-latency" counts "echoes", 1 in a turn;
    transactions_are_made: "database" counts "transactions", 1 in a turn;
}

#[test]
fn a_timer_wakes_in_time() {
    let sandbox = Sandbox::new(BULKLOAD);
    for (arguments, planned) in [("timer --seconds 0.1", 100), ("timer --seconds 0.1 --rate 200", 20)] {
        let line = plausible(&sandbox, arguments, "open");
        assert_eq!(line["latency_us"]["samples"], planned, "{line}");
    }
}

#[test]
fn every_task_is_tested() {
    let sandbox = Sandbox::new(BULKLOAD);
    let help = sandbox.command(BULKLOAD).arg("--help").output().succeeds().stdout;
    let tasks = help.split("bulkload work").nth(1).and_then(|rest| rest.split("bulkload hog").next());
    let lines = tasks.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("    "));
    let named = BTreeSet::from_iter(lines.filter_map(|line| line.split_whitespace().next()));
    let tested = BTreeSet::from_iter(TESTED.iter().copied().chain(["timer"]));
    assert_eq!(named, tested);
}

#[test]
fn files_leave_no_trace() {
    let sandbox = Sandbox::new(BULKLOAD);
    let place = sandbox.directory().join("place");
    std::fs::create_dir(&place).unwrap();
    for task in ["file", "database"] {
        let output = sandbox.command(BULKLOAD).args(["work", task, "--seconds", "0.05", "--directory"]);
        output.arg(&place).output().succeeds();
    }
    // Which fails when anything is in it.
    std::fs::remove_dir(&place).unwrap();
}

#[test]
fn a_task_without_a_place_for_its_file_says_how_to_name_one() {
    let sandbox = Sandbox::new(BULKLOAD);
    let output = sandbox.command(BULKLOAD).args(["work", "file", "--directory", "/nowhere"]).output();
    output.exits_with(1).prints("").complains("make a file in /nowhere");
}

#[test]
fn nonsense_is_refused() {
    let sandbox = Sandbox::new(BULKLOAD);
    let output = sandbox.command(BULKLOAD).args(["work", "juggle"]).output();
    output.exits_with(1).prints("").complains("there is no task juggle");
    sandbox.command(BULKLOAD).arg("nothing").output().succeeds().prints("");
    sandbox.command(BULKLOAD).arg("hello").output().succeeds().prints("H");
}

#[test]
fn an_open_loop_may_follow_a_closed_one() {
    let sandbox = Sandbox::new(BULKLOAD);
    let line = plausible(&sandbox, "fork --seconds 0.1 --then-rate 50", "closed");
    let open = &line["open"];
    assert_eq!(
        (open["rate"].as_f64(), open["latency_us"]["samples"].as_u64()),
        (Some(50.0), Some(100)),
        "{line}"
    );
    let turns = open["turns"].as_u64().unwrap_or_default();
    assert_eq!(open["missed"].as_u64(), Some(100 - turns), "{line}");
    assert!(plausible(&sandbox, "fork --seconds 0.1", "closed")["open"].is_null());
}

#[test]
fn a_task_may_stay_on_one_processor() {
    let sandbox = Sandbox::new(BULKLOAD);
    let allowed = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let last: u64 = allowed.trim().rsplit([',', '-']).next().unwrap().parse().unwrap();
    for task in ["fork", "tcp-rate"] {
        let line = plausible(&sandbox, &format!("{task} --seconds 0.05 --one-processor"), "closed");
        assert_eq!(line["processor"].as_u64(), Some(last), "{line}");
        assert!(plausible(&sandbox, &format!("{task} --seconds 0.05"), "closed")["processor"].is_null());
    }
}
