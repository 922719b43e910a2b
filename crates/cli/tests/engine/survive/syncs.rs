//! Disks that fail to keep what they were given: what a command acknowledges was synced, and one whose sync fails says so and
//! has done all of it or nothing.

use std::fs;

use bulkhead_testkit::{Output, find_program, requires};

use super::is_whole;
use crate::shop::{IMAGE, Shop, shop};

/// The calls that have a disk keep something.
const SYNCS: &str = "fsync,fdatasync,syncfs,sync_file_range,msync,sync";

/// A command that changes something.
struct Change<'a> {
    words: &'a [&'a str],
    /// A command that succeeds once the change is there.
    shows: &'a [&'a str],
    /// A command that takes it back.
    undo: &'a [&'a str],
}

const CHANGES: [Change<'static>; 6] = [
    Change {
        words: &["load", "--quiet", "--input", "ARCHIVE"],
        shows: &["image", "inspect", "other:1"],
        undo: &["rmi", "other:1"],
    },
    Change {
        words: &["tag", IMAGE, "alias:1"],
        shows: &["image", "inspect", "alias:1"],
        undo: &["rmi", "alias:1"],
    },
    Change {
        words: &["commit", "web", "made:1"],
        shows: &["image", "inspect", "made:1"],
        undo: &["rmi", "made:1"],
    },
    Change {
        words: &["volume", "create", "data"],
        shows: &["volume", "inspect", "data"],
        undo: &["volume", "rm", "data"],
    },
    Change {
        words: &["create", "--name", "new", IMAGE, "true"],
        shows: &["inspect", "new"],
        undo: &["rm", "new"],
    },
    Change {
        words: &["rename", "web", "shop"],
        shows: &["inspect", "shop"],
        undo: &["rename", "shop", "web"],
    },
];

/// What was seen of a command.
struct Seen {
    output: Output,
    /// Its syncs, as strace(1) shows them.
    trace: String,
}

impl Seen {
    /// Runs a command, one of whose syncs fails, counted from 1 in each thread.
    fn new(shop: &Shop, words: &[&str], which: usize) -> Self {
        let path = shop.path("trace");
        let (trace, inject) = (format!("trace={SYNCS}"), format!("inject={SYNCS}:error=EIO:when={which}"));
        let strace = shop.sandbox.command("strace").args(["-f", "-y", "-e", "signal=none", "-e", &trace]);
        let output = shop.bulkhead_by(strace.args(["-e", &inject, "-o"]).arg(&path), words).output();
        Self { output, trace: fs::read_to_string(path).unwrap() }
    }

    fn has_failure(&self) -> bool {
        self.trace.contains("(INJECTED)")
    }

    /// Tells whether the database's log was synced, after which it is no matter that its copying back fails.
    fn has_kept_log(&self) -> bool {
        self.trace.lines().any(|line| line.contains("-wal>") && line.ends_with("= 0"))
    }

    /// It says that the disk has failed.
    #[track_caller]
    fn fails(self, after: &str) {
        let told = self.output.exits_with(1);
        let is_said =
            ["Input/output error", "disk I/O error"].iter().any(|words| told.stderr.contains(words));
        assert!(is_said && told.stderr.starts_with("error: "), "after {after}\n{told}");
    }
}

#[test]
fn what_a_disk_does_not_keep_is_not_acknowledged() {
    requires!(find_program("strace").is_some(), "needs strace");
    let shop = shop!();
    shop.service("web", "touch /made; sleep 1000");
    let archive = shop.path("other.tar");
    shop.archive(&archive, "other:1", &serde_json::json!({}));
    for Change { words, shows, undo } in CHANGES {
        let word = |word: &&'static str| if *word == "ARCHIVE" { archive.to_str().unwrap() } else { *word };
        let words = Vec::from_iter(words.iter().map(word));
        let is_there = || shop.bulkhead(shows).output().code() == 0;
        let mut syncs = 0;
        loop {
            let seen = Seen::new(&shop, &words, syncs + 1);
            let after = format!("sync {} of {words:?} failed", syncs + 1);
            let is_last = !seen.has_failure();
            if is_last || seen.output.code() == 0 {
                assert!(is_last || seen.has_kept_log(), "{after}\n{}\n{}", seen.output, seen.trace);
                seen.output.succeeds();
                assert!(is_there(), "{words:?} is acknowledged");
                shop.said(undo);
            } else {
                seen.fails(&after);
                is_whole(&shop, &after);
                // The database's log is whole, and who opens it next finds the change there.
                if is_there() {
                    shop.said(undo);
                }
            }
            if is_last {
                break;
            }
            syncs += 1;
        }
        assert!(syncs > 0, "{words:?} is acknowledged, and nothing was synced");
    }
    let web = shop.said(&["ps", "--format", "{{.Names}} {{.State}}"]);
    assert_eq!(web, "web running\n", "who has nothing to do with it goes on");
}

/// A removal that could not be synced may have to be done again after a power loss, and nothing else.
#[test]
fn a_removal_that_a_disk_does_not_keep_can_be_repeated() {
    requires!(find_program("strace").is_some(), "needs strace");
    let shop = shop!();
    for (make, words) in [
        (&["tag", IMAGE, "alias:1"][..], &["rmi", "alias:1"][..]),
        (&["volume", "create", "data"], &["volume", "rm", "data"]),
        (&["create", "--name", "old", IMAGE, "true"], &["rm", "old"]),
    ] {
        let mut syncs = 0;
        loop {
            shop.said(make);
            let seen = Seen::new(&shop, words, syncs + 1);
            let after = format!("sync {} of {words:?} failed", syncs + 1);
            if !seen.has_failure() {
                seen.output.succeeds();
                break;
            }
            if seen.output.code() == 0 {
                assert!(seen.has_kept_log(), "{after}\n{}\n{}", seen.output, seen.trace);
            } else {
                seen.fails(&after);
                is_whole(&shop, &after);
                // Some of it was done before the failure, or nothing.
                drop(shop.bulkhead(words).output());
            }
            syncs += 1;
        }
        assert!(syncs > 0, "{words:?} is acknowledged, and nothing was synced");
    }
    is_whole(&shop, "all removals");
}
