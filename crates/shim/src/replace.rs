//! Files that are replaced as a whole, so that no reader ever sees half of one.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Puts a document in the place of the file at `path`, readable by its owner alone.
///
/// On a full disk there is no room for a new file, and what the old one has is enough for most: it is written over then.
///
/// # Errors
/// As open(2), write(2) and rename(2); then the old file is there.
pub fn with_json(path: &Path, document: &impl Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_vec(document)?;
    text.push(b'\n');
    let new = beside(path);
    let written = create(&new).and_then(|mut file| file.write_all(&text));
    match written.and_then(|()| std::fs::rename(&new, path)) {
        Err(error) => {
            // On a full disk an empty file is no help.
            drop(std::fs::remove_file(&new));
            let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
            if is_full { write_over(path, text) } else { Err(error) }
        }
        Ok(()) => Ok(()),
    }
}

/// Writes a text over a file, in one piece: blanks end what is shorter than before.
fn write_over(path: &Path, mut text: Vec<u8>) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).open(path)?;
    let before = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    text.resize(text.len().max(before), b' ');
    file.write_all_at(&text, 0)
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
    fn a_file_that_is_written_over_is_read_as_what_is_in_it_now() {
        let scratch = bulkhead_testkit::Scratch::new();
        let path = scratch.path().join("file");
        for text in ["\"a long one\"", "\"short\"", "\"one that is longer than all\""] {
            with_json(&path, &"not so long").unwrap();
            write_over(&path, text.as_bytes().to_vec()).unwrap();
            let read: String = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(format!("{read:?}"), text);
        }
    }

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
