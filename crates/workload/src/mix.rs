//! A fixed mix of what programs ask a kernel for, the same each time: what is watched to see which of the kernel's code
//! runs.
//!
//! ```text
//!   this program                 whoever watches
//!   R  ─────────────────────────► it runs: everything so far was the set-up
//!      ◄───────────────────────── a byte: begin
//!   the mix
//!   D  ─────────────────────────► it is done
//!      ◄───────────────────────── the end of standard input: what follows is the tear-down
//! ```

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::{ready, work};

/// How often each task is done.
const TURNS: &[(&str, usize)] = &[
    ("null-call", 1),
    ("fork", 20),
    ("exec", 5),
    ("mmap", 5),
    ("file", 20),
    ("open-close", 50),
    ("unix-echo", 50),
    ("tcp-rate", 2),
    ("tcp-latency", 50),
    ("timer", 5),
    ("database", 5),
];

/// Does the mix when it is told to; its files are in `directory`.
pub(crate) fn run(directory: &Path) -> Result<()> {
    ready::announce()?;
    if !is_told()? {
        return Ok(());
    }
    for (name, turns) in TURNS {
        work::turns(name, directory, *turns)?;
    }
    Tree::make(directory)?.visit()?;
    let mut output = std::io::stdout().lock();
    output.write_all(b"D").and_then(|()| output.flush()).map_err(Error::io("write to standard output"))?;
    ready::wait()
}

/// Waits for one byte; false when standard input ended instead.
fn is_told() -> Result<bool> {
    let mut byte = [0];
    let read = std::io::stdin().lock().read(&mut byte);
    read.map(|count| count > 0).map_err(Error::io("read standard input"))
}

/// A small tree of files, removed in the end.
struct Tree(PathBuf);

impl Tree {
    fn make(directory: &Path) -> Result<Self> {
        let top = directory.join(format!("bulkload-{}", std::process::id()));
        fs::create_dir(&top).map_err(Error::io("make a directory"))?;
        Ok(Self(top))
    }

    /// What an editor, a build or a package manager does to files.
    fn visit(&self) -> Result<()> {
        let (file, link, renamed) = (self.0.join("file"), self.0.join("link"), self.0.join("renamed"));
        fs::create_dir(self.0.join("below")).map_err(Error::io("make a directory"))?;
        for _ in 0..10 {
            fs::write(&file, [7; 10_000]).map_err(Error::io("write a file"))?;
            std::os::unix::fs::symlink(&file, &link).map_err(Error::io("make a link"))?;
            fs::rename(&file, &renamed).map_err(Error::io("rename a file"))?;
            let read = fs::read(&renamed).map_err(Error::io("read a file"))?;
            if read.len() != 10_000 {
                return Err(Error::Wrong("a file is not as long as what was written".to_owned()));
            }
            let entries = fs::read_dir(&self.0).map_err(Error::io("read a directory"))?;
            for entry in entries {
                let looked = entry.and_then(|entry| fs::symlink_metadata(entry.path()));
                looked.map_err(Error::io("look at a file"))?;
            }
            for path in [&link, &renamed] {
                fs::remove_file(path).map_err(Error::io("remove a file"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Nobody is left to be told when this fails.
        let _ = fs::remove_dir_all(&self.0);
    }
}
