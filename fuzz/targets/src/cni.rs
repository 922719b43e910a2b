//! Networks from elsewhere: their descriptions, what plugins answer, and what is written down of attachments.
//!
//! The input is one of them.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_net::cni::{Attached, Error, List, Records};

/// Runs the target.
pub fn run(input: &[u8]) {
    match List::read(input, Path::new("/etc/cni/net.d/10.conflist")) {
        Ok(list) => {
            assert!(crate::is_component(&list.name), "{:?} leads elsewhere", list.name);
            assert!(!list.versions.is_empty() && !list.plugins.is_empty(), "{list:?} is nothing");
            for plugin in &list.plugins {
                assert!(crate::is_component(&plugin.kind), "{:?} leads elsewhere", plugin.kind);
            }
            let again = List::read(list.document().to_string().as_bytes(), &list.file);
            assert_eq!(again.ok(), Some(list), "a network is written and read as something else");
        }
        Err(error) => check(&error),
    }
    if let Ok(document) = serde_json::from_slice(input) {
        match Attached::read(&document) {
            Ok(attached) => {
                let devices = attached.interfaces.len();
                let mut named = attached.addresses.iter().filter_map(|address| address.interface);
                assert!(named.all(|device| device < devices), "a device that is not there has an address");
            }
            Err(reason) => crate::check_sentence(&reason),
        }
    }
    let scratch = Scratch::new();
    let Ok(records) = Records::open(&scratch.0) else { return };
    if fs::write(scratch.0.join("office@one@eth0.json"), input).is_err() {
        return;
    }
    if let Ok(listing) = records.list() {
        assert_eq!(listing.known.len() + listing.unreadable.len(), 1, "a record is known or not");
        for known in listing.known {
            assert_eq!(known.key.to_string(), "eth0 of one in office", "it is what its file is called by");
        }
        listing.unreadable.iter().for_each(check);
    }
}

/// What a user reads says something, with all that caused it.
fn check(error: &Error) {
    crate::check_sentence(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        crate::check_sentence(&error.to_string());
        cause = error.source();
    }
}

/// A directory of this process, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let thread = format!("{:?}", std::thread::current().id());
        let digits = thread.replace(|letter: char| !letter.is_ascii_digit(), "");
        Self(std::env::temp_dir().join(format!("bulkhead-cni-{}-{digits}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
