//! The directory that holds the state of all containers.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::cli::Global;
use crate::error::{Doing, Error, Result};
use crate::host;

/// Returns what `--root` names, or the caller's default: below `/run` for root, below `XDG_RUNTIME_DIR` for an
/// ordinary user. It is absolute, is not `/`, and may not exist yet.
///
/// # Errors
/// A root that cannot be one.
pub fn resolve(global: &Global) -> Result<PathBuf> {
    match &global.root {
        Some(given) => absolute(given),
        None => default_root(&Caller::look()?),
    }
}

/// Makes a path absolute and plain. Not by links: the root need not exist.
fn absolute(given: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(given).doing(|| "find the current directory")?;
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    match plain == Path::new("/") {
        true => Err(Error::Usage("Option --root argument should not be set to /".to_owned())),
        false => Ok(plain),
    }
}

/// What the default root depends on.
struct Caller {
    uid: u32,
    /// `XDG_RUNTIME_DIR` where it counts: for root of the initial user namespace it does not.
    runtime_directory: Option<OsString>,
}

impl Caller {
    fn look() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let directory = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
        let counts = match (uid, &directory) {
            (_, None) => false,
            (0, Some(_)) => {
                let is_root = std::env::var_os("USER").is_some_and(|user| user == "root");
                !is_root && !host::is_real_root()?
            }
            _ => true,
        };
        Ok(Self { uid, runtime_directory: directory.filter(|_| counts) })
    }
}

fn default_root(caller: &Caller) -> Result<PathBuf> {
    const NAME: &str = "bulkrun";
    match (&caller.runtime_directory, caller.uid) {
        (Some(directory), _) => Ok(Path::new(directory).join(NAME)),
        (None, 0) => Ok(Path::new("/run").join(NAME)),
        (None, _) => {
            let reason = "XDG_RUNTIME_DIR is not set; say with --root where the state of containers is";
            Err(Error::Usage(reason.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_absolute_and_plain() {
        let table = [("/a/../b/./c/", "/b/c"), ("/a//b", "/a/b"), ("/../x", "/x"), ("/proc/../r", "/r")];
        for (given, plain) in table {
            assert_eq!(absolute(Path::new(given)).unwrap(), Path::new(plain), "{given}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("r")).unwrap(), here.join("r"));
    }

    #[test]
    fn the_whole_file_system_is_no_root() {
        for given in ["/", "/..", "/a/..", "//", "/./"] {
            let error = absolute(Path::new(given)).unwrap_err();
            assert_eq!(error.to_string(), "Option --root argument should not be set to /", "{given}");
        }
    }

    #[test]
    fn the_default_root_is_the_users_own() {
        let root = |uid, directory: Option<&str>| {
            default_root(&Caller { uid, runtime_directory: directory.map(OsString::from) }).ok()
        };
        assert_eq!(root(0, None), Some("/run/bulkrun".into()));
        assert_eq!(root(0, Some("/run/user/0")), Some("/run/user/0/bulkrun".into()));
        assert_eq!(root(1000, Some("/x")), Some("/x/bulkrun".into()));
        assert_eq!(root(1000, None), None);
    }
}
