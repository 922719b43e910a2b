//! The bundle: a directory with a configuration and, as a rule, a root file system.

use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bulkhead_spec::Config;
use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::retry_on_intr;

use crate::error::{Doing, Error, Result, words};

/// The name of the configuration in a bundle.
pub const CONFIG: &str = "config.json";

/// How much more is read at once from something that is no file.
const PIPE: usize = 64 * 1024;

/// A bundle that was read.
#[derive(Debug)]
pub struct Bundle {
    /// Its absolute path.
    pub path: PathBuf,
    /// The text of its configuration.
    pub text: String,
    /// The configuration.
    pub config: Config,
}

impl Bundle {
    /// Reads the bundle at `path` (the working directory where there is none), with its own configuration or another.
    ///
    /// # Errors
    /// A directory or configuration that is not there or not readable, a configuration that is not valid JSON.
    pub fn read(path: Option<&Path>, config: Option<&Path>) -> Result<Self> {
        let given = path.unwrap_or(Path::new("."));
        let path = std::fs::canonicalize(given).doing(|| format!("open the bundle {}", given.display()))?;
        let file = config.map_or_else(|| path.join(CONFIG), Path::to_path_buf);
        let text = text(&file, config.is_some()).map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::NotFound if config.is_some() => format!("{} is not there", file.display()),
                ErrorKind::NotFound => format!(
                    "{} is not there; `bulkrun spec --bundle {}` writes one",
                    file.display(),
                    path.display()
                ),
                ErrorKind::InvalidData => format!("{} is not UTF-8 text", file.display()),
                ErrorKind::Unsupported => format!("{} is not a file", file.display()),
                _ => format!("read {}: {}", file.display(), words(&error)),
            };
            Error::Bundle { bundle: path.clone(), reason }
        })?;
        let config = Config::from_json(&text)?;
        Ok(Self { path, text, config })
    }

    /// Makes sure that the root file system is there, before anything is made for it.
    ///
    /// # Errors
    /// A path that is missing or no directory.
    pub fn check_root(&self, root: &Path) -> Result<()> {
        let reason = match std::fs::metadata(root) {
            Ok(found) if found.is_dir() => return Ok(()),
            Ok(_) => "is not a directory".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => "is not there".to_owned(),
            Err(error) => format!("cannot be used: {}", words(&error)),
        };
        Err(Error::invalid("/root/path", format!("the root file system {} {reason}", root.display())))
    }
}

/// Reads a configuration. What somebody named may be a pipe; in a bundle that would be waited for in vain.
fn text(file: &Path, is_named: bool) -> std::io::Result<String> {
    let flags = if is_named { OFlags::empty() } else { OFlags::NONBLOCK };
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags((flags | OFlags::NOCTTY).bits().cast_signed())
        .open(file)?;
    let found = file.metadata()?;
    if !is_named && !found.is_file() {
        return Err(ErrorKind::Unsupported.into());
    }
    // Of a file the length is known, so that no empty read is needed to find its end.
    let length = if found.is_file() { usize::try_from(found.len()).ok() } else { None };
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length.unwrap_or_default().saturating_add(1))?;
    loop {
        let count = retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut bytes)))?;
        if count == 0 || length == Some(bytes.len()) {
            return String::from_utf8(bytes).map_err(|_| ErrorKind::InvalidData.into());
        }
        bytes.reserve(PIPE);
    }
}
