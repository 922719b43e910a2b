//! A place of the host that no container may touch, and paths that lead there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bulkhead_testkit::Sandbox;

/// What is in the file that containers must not read.
pub(crate) const SECRET: &str = "a secret of the host\n";

/// A directory of the host beside the bundles, with a file `secret` and a directory `inner`.
pub(crate) struct Outside {
    directory: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Outside {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let directory = sandbox.directory().join("outside");
        fs::create_dir_all(directory.join("inner")).unwrap();
        fs::write(directory.join("secret"), SECRET).unwrap();
        let before = listing(&directory);
        Self { directory, before }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Targets of links that lead there for whoever resolves them as the host does: absolute, and up from anywhere.
    pub(crate) fn ways(&self, below: &str) -> [PathBuf; 2] {
        let absolute = self.directory.join(below);
        let up = format!("{}{}", "../".repeat(24), absolute.display().to_string().trim_start_matches('/'));
        [absolute, up.into()]
    }

    /// Checks that nothing was made, removed, written, or given other rights there.
    #[track_caller]
    pub(crate) fn is_untouched(&self) {
        assert_eq!(listing(&self.directory), self.before, "the host's files are as they were");
    }
}

fn listing(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        let content =
            if metadata.is_file() { fs::read_to_string(entry.path()).unwrap() } else { String::new() };
        let (mode, uid, number) = (metadata.mode(), metadata.uid(), metadata.ino());
        found.insert(entry.path(), format!("{mode:o} {uid} {number} {content}"));
        if metadata.is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found
}
