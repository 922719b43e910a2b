//! The files of a monitor: its order, which the engine writes, and its status, which the engine reads.
//!
//! The input is one of them.

use std::fs;
use std::path::PathBuf;

use bulkhead_shim::{Order, Status, order};

/// Runs the target.
pub fn run(input: &[u8]) {
    let file = Scratch::new();
    if fs::write(&file.0, input).is_err() {
        return;
    }
    match Order::read(&file.0) {
        Ok(read) => {
            assert!(read.version <= order::VERSION, "an order of a later version was taken");
            let written = read.write(&file.0).and_then(|()| Order::read(&file.0));
            assert_eq!(written.ok(), Some(read), "an order is written and read as something else");
        }
        Err(error) => crate::check_sentence(&error.to_string()),
    }
    if fs::write(&file.0, input).is_err() {
        return;
    }
    match Status::read(&file.0) {
        Ok(None) => panic!("a file that is there was not found"),
        Ok(Some(read)) => {
            let written = serde_json::to_vec(&read).unwrap_or_default();
            let again = serde_json::from_slice::<Status>(&written);
            assert_eq!(again.ok(), Some(read), "a status is written and read as something else");
        }
        Err(error) => crate::check_sentence(&error.to_string()),
    }
}

/// A file of this process, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let thread = format!("{:?}", std::thread::current().id());
        let digits = thread.replace(|letter: char| !letter.is_ascii_digit(), "");
        Self(std::env::temp_dir().join(format!("bulkhead-monitor-{}-{digits}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}
