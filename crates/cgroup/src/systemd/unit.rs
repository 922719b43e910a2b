//! Where a container lies among systemd's units: from `slice:prefix:name` to a scope in a slice.
//!
//! The rules are runc's: the slice is `system.slice` for root and `user.slice` for a user unless it is named, the
//! scope is `prefix-name.scope`, of an empty prefix only the dash is left, and without a `cgroupsPath` it is
//! `bulkrun-ID.scope`.

use crate::error::{Error, Result};

use super::Manager;

/// The longest name of a unit, in bytes.
const UNIT_MAX: usize = 255;
/// The prefix of scopes whose configuration names none.
const PREFIX: &str = "bulkrun";
const SLICE: &str = ".slice";

/// A container's scope and the slice that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub(crate) slice: String,
    pub(crate) unit: String,
    /// The directories of the slice below the manager's own, joined by slashes; empty for the root slice.
    slice_path: String,
}

impl Location {
    /// Takes `linux.cgroupsPath`, or the container's id where there is none.
    ///
    /// # Errors
    /// [`Error::Path`] for another form, a slice that is none, a name that no unit can have.
    pub fn from_config(cgroups_path: Option<&str>, id: &str, manager: Manager) -> Result<Self> {
        let default = manager.default_slice();
        let Some(path) = cgroups_path.filter(|path| !path.is_empty()) else {
            return Self::new(id, default, PREFIX, id);
        };
        let mut parts = path.split(':');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(slice), Some(prefix), Some(name), None) => {
                Self::new(path, if slice.is_empty() { default } else { slice }, prefix, name)
            }
            _ => {
                let reason = "is not of the form \"slice:prefix:name\" that systemd cgroups need";
                Err(Error::Path { path: path.to_owned(), reason })
            }
        }
    }

    fn new(path: &str, slice: &str, prefix: &str, name: &str) -> Result<Self> {
        let refuse = |reason| Error::Path { path: path.to_owned(), reason };
        let slice_path = expand(slice).map_err(refuse)?;
        if name.is_empty() {
            return Err(refuse("has no name"));
        }
        if name.ends_with(SLICE) {
            return Err(refuse("names a slice, which cannot hold processes"));
        }
        let unit = format!("{}-{}.scope", escape(prefix), escape(name));
        if unit.len() > UNIT_MAX || slice.len() > UNIT_MAX {
            return Err(refuse("names a unit with more than 255 bytes"));
        }
        Ok(Self { slice: slice.to_owned(), unit, slice_path })
    }

    /// Returns the path of the scope's cgroup in a manager that lies at `root`.
    pub fn below(&self, root: &str) -> String {
        let root = root.trim_end_matches('/');
        let slash = if self.slice_path.is_empty() { "" } else { "/" };
        format!("{root}{slash}{}/{}", self.slice_path, directory(&self.unit))
    }
}

/// Turns the name of a slice into its directories: `a-b.slice` lies in `a.slice`.
pub(super) fn expand(slice: &str) -> std::result::Result<String, &'static str> {
    let Some(name) = slice.strip_suffix(SLICE) else {
        return Err("names a slice that does not end with \".slice\"");
    };
    if name == "-" {
        return Ok(String::new());
    }
    if !name.chars().all(is_valid) {
        return Err("names a slice with a character that units cannot have");
    }
    if name.split('-').any(str::is_empty) {
        return Err("names a slice with an empty part");
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    let paths: Vec<String> = ends.map(|end| directory(&format!("{}{SLICE}", &name[..end]))).collect();
    Ok(paths.join("/"))
}

/// What systemd allows in the name of a unit.
fn is_valid(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@')
}

/// Names the object of a unit: of its name all but letters and digits is written in hexadecimal.
pub(crate) fn object(unit: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for byte in unit.bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// Writes what a unit's name cannot have as systemd-escape(1) does: `\x2b` for `+`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_valid(char::from(byte)) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

/// Returns the name of a unit's directory. One that could be taken for a file of the kernel's has `_` before it.
fn directory(unit: &str) -> String {
    const FILES: [&str; 13] = [
        "cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids", "hugetlb", "rdma",
        "misc", "freezer",
    ];
    let first = unit.split('.').next().unwrap_or_default();
    let underscore = if unit.starts_with(['_', '.']) || FILES.contains(&first) { "_" } else { "" };
    format!("{underscore}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(path: Option<&str>, manager: Manager) -> (String, String) {
        let location = Location::from_config(path, "id+1", manager).unwrap();
        (location.unit.clone(), location.below("/"))
    }

    #[test]
    fn slice_and_scope_are_where_systemd_puts_them() {
        for (path, manager, unit, place) in [
            (None, Manager::System, r"bulkrun-id\x2b1.scope", r"/system.slice/bulkrun-id\x2b1.scope"),
            (Some(""), Manager::User, r"bulkrun-id\x2b1.scope", r"/user.slice/bulkrun-id\x2b1.scope"),
            (Some("a.slice:docker:x"), Manager::System, "docker-x.scope", "/a.slice/docker-x.scope"),
            (Some(":libpod:x"), Manager::System, "libpod-x.scope", "/system.slice/libpod-x.scope"),
            (Some(":libpod:x"), Manager::User, "libpod-x.scope", "/user.slice/libpod-x.scope"),
            (Some("a.slice::x"), Manager::System, "-x.scope", "/a.slice/-x.scope"),
            (Some("::x"), Manager::User, "-x.scope", "/user.slice/-x.scope"),
            (Some("-.slice:p:x"), Manager::System, "p-x.scope", "/p-x.scope"),
            (
                Some("kube-pod-b1.slice:cri:x"),
                Manager::System,
                "cri-x.scope",
                "/kube.slice/kube-pod.slice/kube-pod-b1.slice/cri-x.scope",
            ),
            (Some("a.slice:p:x y"), Manager::System, r"p-x\x20y.scope", r"/a.slice/p-x\x20y.scope"),
            (Some("memory.slice:p:x"), Manager::System, "p-x.scope", "/_memory.slice/p-x.scope"),
            (Some("a.slice:_p:x"), Manager::System, "_p-x.scope", "/a.slice/__p-x.scope"),
        ] {
            let found = located(path, manager);
            assert_eq!(found, (unit.to_owned(), place.to_owned()), "for {path:?}");
        }
    }

    #[test]
    fn objects_are_named_as_systemd_names_them() {
        assert_eq!(object(r"p-x\x20y.scope"), "/org/freedesktop/systemd1/unit/p_2dx_5cx20y_2escope");
    }

    #[test]
    fn a_manager_may_lie_below_the_root() {
        let location = Location::from_config(Some(":p:x"), "id", Manager::User).unwrap();
        let root = "/user.slice/user-7.slice/user@7.service";
        assert_eq!(location.below(root), format!("{root}/user.slice/p-x.scope"));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let long = format!("a.slice:p:{}", "x".repeat(250));
        for (path, reason) in [
            ("/a/b", "is not of the form"),
            ("a.slice:x", "is not of the form"),
            ("a.slice:p:x:y", "is not of the form"),
            ("a:p:x", "does not end with"),
            ("../a.slice:p:x", "a character that units cannot have"),
            ("a--b.slice:p:x", "an empty part"),
            (".slice:p:x", "an empty part"),
            ("--.slice:p:x", "an empty part"),
            ("a-.slice:p:x", "an empty part"),
            ("a b.slice:p:x", "a character that units cannot have"),
            ("-a.slice:p:x", "an empty part"),
            ("a.slice:p:", "has no name"),
            ("a.slice:p:x.slice", "cannot hold processes"),
            (long.as_str(), "more than 255 bytes"),
        ] {
            let error = Location::from_config(Some(path), "id", Manager::System).unwrap_err().to_string();
            assert!(error.contains(reason), "{path}: {error}");
        }
    }
}
