//! Files of configuration: small, and there or not.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Reads a file of at most `limit` bytes, or nothing if there is none.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = |source| Error::File { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        let reason = format!("has more than {limit} bytes");
        return Err(Error::Configuration { path: path.to_owned(), reason });
    }
    Ok(Some(bytes))
}

/// The files of a directory with an extension, by name; none if there is no such directory.
pub(crate) fn listed(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::File { action: "list", path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    Ok(paths)
}
