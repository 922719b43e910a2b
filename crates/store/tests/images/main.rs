//! Images: loaded, saved, named, removed, checked; hostile, cut short, and on a full disk.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its preparation fails")]

mod again;
mod archive;
mod check;
mod crash;
mod disk;
mod lease;
mod load;
mod real;
mod refused;
mod remove;
mod save;

use std::fs;
use std::path::Path;

use bulkhead_store::{Committed, Error, Places, Store};
use bulkhead_testkit::Scratch;

/// A store of its own, in a directory that goes with the test.
struct Ground {
    scratch: Scratch,
    store: Store,
}

impl Ground {
    #[track_caller]
    fn new() -> Self {
        let scratch = Scratch::new();
        let store = Store::open(&places(scratch.path())).unwrap();
        Self { scratch, store }
    }

    fn load(&self, archive: &[u8]) -> Result<Vec<Committed>, Error> {
        self.store.load(&mut &archive[..], &mut |_| ())
    }

    /// Nothing is there but what an empty store has.
    #[track_caller]
    fn is_empty(&self, when: &str) {
        assert_eq!(self.store.images().unwrap(), [], "{when} there is an image");
        for directory in ["blobs/sha256", "layers", "ingest"] {
            let left = names(&self.store.places().root.join(directory));
            assert_eq!(left, [""; 0], "{when} {directory} is not empty");
        }
    }
}

fn places(directory: &Path) -> Places {
    Places { root: directory.join("root"), run: directory.join("run") }
}

fn names(directory: &Path) -> Vec<String> {
    let names =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names = Vec::from_iter(names);
    names.sort();
    names
}

/// The error with all its causes.
fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
