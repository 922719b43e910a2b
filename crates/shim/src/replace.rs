//! Files that are replaced as a whole, so that no reader ever sees half of one.

use std::fs::{File, OpenOptions};
use std::io::{Error, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Puts a document in the place of the file at `path`, readable by its owner alone.
pub(crate) fn with_json(path: &Path, document: &impl Serialize) -> Result<(), Error> {
    let new = beside(path);
    let written = create(&new).and_then(|mut file| {
        let mut text = serde_json::to_vec(document)?;
        text.push(b'\n');
        file.write_all(&text)
    });
    match written.and_then(|()| std::fs::rename(&new, path)) {
        Err(error) => {
            // On a full disk an empty file is no help.
            drop(std::fs::remove_file(&new));
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn create(path: &Path) -> Result<File, Error> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_its_owner_s_alone() {
        let scratch = bulkhead_testkit::Scratch::new();
        let directory = scratch.path().join("files");
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("file");
        with_json(&path, &"one").unwrap();
        with_json(&path, &"two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "\"two\"\n");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(directory.read_dir().unwrap().count(), 1, "nothing lies beside it");
        assert!(with_json(&scratch.path().join("none/file"), &"x").is_err());
    }
}
