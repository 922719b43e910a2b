//! What a monitor costs while its container runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_shim::client::{self, Event};
use bulkhead_shim::order::{Companion, Stdin};
use bulkhead_shim::protocol::ToMonitor;
use bulkhead_shim::{Order, place};
use bulkhead_testkit::built::{self, Profile};

use crate::stand::{SPEAK, Stand, next, sandbox};

/// The most private dirty memory, in KiB. Conmon has 330.
const MOST: u64 = 120;

/// The program as it is shipped.
fn shipped() -> PathBuf {
    let program = built::standalone("bulkhead-shim", "bulkmon", Profile::Release);
    // What of a file is not yet on disk would count as dirty.
    fs::File::open(&program).unwrap().sync_all().unwrap();
    program
}

/// A number of KiB in smaps_rollup, proc_pid_smaps(5).
fn rollup(pid: i32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_monitor_keeps_within_its_budget() {
    let sandbox = sandbox!();
    let bulkmon = shipped();
    let bundle = sandbox.bundle("budget").script("while read n; do yes 0123456789 | head -n $n; done");
    let stand = Stand::new(&sandbox, &bundle, |order| order.stdin = Stdin::Open);
    let started = client::spawn(&bulkmon, &stand.run, Some(SPEAK)).unwrap();
    let mut client = started.attachment.unwrap();
    let monitor = stand.status().monitor.pid;
    let measure = |when: &str| {
        // The memory of a burst is given back when it is over.
        std::thread::sleep(Duration::from_millis(500));
        let (dirty, resident) = (rollup(monitor, "Private_Dirty"), rollup(monitor, "Rss"));
        println!("{when}: {dirty} KiB private and dirty, {resident} KiB resident");
        assert!(dirty <= MOST, "{when}: {dirty} KiB are private and dirty, and at most {MOST} are allowed");
    };
    measure("at the start");
    client.offer(b"200000\n").unwrap();
    let mut heard = 0;
    while heard < 200_000 * 11 {
        match next(&mut client) {
            Some(Event::Stdout(bytes)) => heard += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    measure("after 2 MB of output");
    // The order is read again, as often as networks change.
    let companion = |number: usize| {
        let socket = stand.run.join(format!("companion-{number}"));
        Companion { socket, greeting: "x".repeat(100), revive: vec!["/bin/true".to_owned(); 9] }
    };
    for round in 0..20 {
        let companions = (0..round % 3).map(companion).collect();
        let order = Order { companions, ..stand.order.clone() };
        order.write(&stand.run.join(place::ORDER)).unwrap();
        stand.ask(&ToMonitor::Companions).unwrap();
    }
    measure("after others have come to serve it");
    drop(client);
    stand.ask(&ToMonitor::Signal(9)).unwrap();
    stand.last_status();
}
