//! Where a container's cgroup lies: from `cgroupsPath` and `exec --cgroup` to a directory in each hierarchy.
//!
//! The rules are runc's. An absolute `cgroupsPath` starts at the mount point of each hierarchy. A relative one starts
//! at the caller's own cgroup in v1; in v2 at its *parent*, because the caller's own cgroup holds processes and can
//! therefore not hand controllers down. Beside v1, the v2 hierarchy is taken from its mount point. Without a
//! `cgroupsPath`, the container's id is the relative path.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host, Layout, Version};

/// The longest file name of Linux, in bytes.
const NAME_MAX: usize = 255;

/// A validated path of a cgroup, without `..`, relative to a place in each hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupPath {
    anchor: Anchor,
    /// The components, joined by single slashes; never empty.
    inner: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    MountPoint,
    OwnCgroup,
}

impl CgroupPath {
    /// Takes `linux.cgroupsPath`, or the container's id where there is none.
    ///
    /// Doubled slashes and `.` mean nothing and are dropped.
    ///
    /// # Errors
    /// [`Error::Path`] for `..`, control characters, names of more than 255 bytes, and the root cgroup itself.
    pub fn from_config(cgroups_path: Option<&str>, id: &str) -> Result<Self> {
        let given = cgroups_path.filter(|path| !path.is_empty());
        let path = given.unwrap_or(id);
        let anchor = if given.is_some_and(|path| path.starts_with('/')) {
            Anchor::MountPoint
        } else {
            Anchor::OwnCgroup
        };
        let inner = normal(path).map_err(|reason| Error::Path { path: path.to_owned(), reason })?;
        if inner.is_empty() {
            return Err(Error::Path { path: path.to_owned(), reason: "names the root cgroup" });
        }
        Ok(Self { anchor, inner })
    }

    /// Finds the directory in one hierarchy.
    fn in_hierarchy(&self, host: &Host, hierarchy: &Hierarchy) -> Result<String> {
        let mount_point = hierarchy.mount_point.trim_end_matches('/');
        let beside_v1 = hierarchy.version == Version::V2 && host.layout() == Layout::Hybrid;
        if self.anchor == Anchor::MountPoint || beside_v1 {
            return Ok(format!("{mount_point}/{}", self.inner));
        }
        let own = host.own(hierarchy)?;
        let mut start = below_root(&own, &hierarchy.root).ok_or_else(|| Error::OwnCgroupHidden {
            own: own.clone(),
            mount_point: hierarchy.mount_point.clone(),
        })?;
        if hierarchy.version == Version::V2 {
            start = start.rsplit_once('/').map_or("", |(parent, _)| parent);
        }
        let slash = if start.is_empty() { "" } else { "/" };
        Ok(format!("{mount_point}/{start}{slash}{}", self.inner))
    }
}

/// The directories of a container's cgroup, before any of them is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(pub(crate) Vec<Place>);

/// One directory of a container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) version: Version,
    pub(crate) controllers: Vec<String>,
    pub(crate) mount_point: String,
    pub(crate) path: String,
}

impl Places {
    /// Finds the directories for a container in every hierarchy that containers join.
    ///
    /// Those are all v1 controllers, `name=systemd` and v2; other named hierarchies are left alone, as runc does.
    ///
    /// # Errors
    /// [`Error::OwnCgroupHidden`] when a relative path has no visible start.
    pub fn find(host: &Host, path: &CgroupPath) -> Result<Self> {
        let joined = |hierarchy: &&Hierarchy| {
            hierarchy.version == Version::V2
                || hierarchy
                    .controllers
                    .iter()
                    .any(|name| !name.starts_with("name=") || name == "name=systemd")
        };
        let places = host.hierarchies().iter().filter(joined).map(|hierarchy| {
            Ok(Place {
                version: hierarchy.version,
                controllers: hierarchy.controllers.clone(),
                mount_point: hierarchy.mount_point.clone(),
                path: path.in_hierarchy(host, hierarchy)?,
            })
        });
        Ok(Self(places.collect::<Result<_>>()?))
    }

    /// Maps each controller to its directory; the key of v2 is the empty string.
    pub fn paths(&self) -> BTreeMap<String, String> {
        paths(self.0.iter().map(|place| (place.controllers.as_slice(), place.path.as_str())))
    }
}

/// Maps each controller to its directory, as a state file has it.
pub(crate) fn paths<'a>(
    directories: impl Iterator<Item = (&'a [String], &'a str)>,
) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for (controllers, path) in directories {
        if controllers.is_empty() {
            map.insert(String::new(), path.to_owned());
        }
        map.extend(controllers.iter().map(|name| (name.clone(), path.to_owned())));
    }
    map
}

/// Sub-cgroups of a container in which `exec --cgroup` starts its process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubCgroups {
    /// For all hierarchies, where one was given without a controller.
    all: Option<String>,
    by_controller: BTreeMap<String, String>,
}

impl SubCgroups {
    /// Reads the values of `--cgroup`: one `PATH`, or several `CONTROLLER[,CONTROLLER…]:PATH`.
    ///
    /// # Errors
    /// [`Error::SubCgroup`] for a path with `..`, a missing or doubled controller, several paths for all.
    pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<Self> {
        let mut parsed = Self::default();
        for argument in arguments.iter().map(AsRef::as_ref) {
            let bad = |reason| Error::SubCgroup { argument: argument.to_owned(), reason };
            let Some((controllers, path)) = argument.split_once(':') else {
                if arguments.len() != 1 {
                    return Err(bad("needs a CONTROLLER: prefix, as there are several"));
                }
                parsed.all = Some(normal(argument).map_err(bad)?);
                continue;
            };
            let path = normal(path).map_err(bad)?;
            for controller in controllers.split(',') {
                if controller.is_empty() {
                    return Err(bad("has an empty controller"));
                }
                if parsed.by_controller.insert(controller.to_owned(), path.clone()).is_some() {
                    return Err(bad("names a controller that was given before"));
                }
            }
        }
        Ok(parsed)
    }

    /// Tells whether none was asked for.
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.by_controller.is_empty()
    }

    /// Returns the path below the container's cgroup in the hierarchy of `controllers`; empty for the cgroup itself.
    pub fn below(&self, controllers: &[String]) -> &str {
        let own = controllers.iter().find_map(|name| self.by_controller.get(name));
        own.or(self.all.as_ref()).map_or("", String::as_str)
    }

    /// Returns a controller that was named but that no hierarchy of the container has.
    pub(crate) fn unknown(&self, mut has: impl FnMut(&str) -> bool) -> Option<&str> {
        self.by_controller.keys().map(String::as_str).find(|name| !has(name))
    }
}

/// Brings a path into its plain relative form, `a/b`.
fn normal(path: &str) -> std::result::Result<String, &'static str> {
    let mut plain = String::with_capacity(path.len());
    for component in path.split('/').filter(|component| !matches!(*component, "" | ".")) {
        if component == ".." {
            return Err("contains \"..\"");
        }
        if component.len() > NAME_MAX {
            return Err("has a component of more than 255 bytes");
        }
        if component.chars().any(char::is_control) {
            return Err("contains a control character");
        }
        if !plain.is_empty() {
            plain.push('/');
        }
        plain.push_str(component);
    }
    Ok(plain)
}

/// Returns what of `own` lies below `root`, without slashes around it.
///
/// A cgroup outside the caller's namespace shows as `/..`; nothing can be said about where that is.
pub(crate) fn below_root<'a>(own: &'a str, root: &str) -> Option<&'a str> {
    let dots = |path: &str| path.split('/').any(|component| component == "..");
    if dots(own) || dots(root) {
        return None;
    }
    let rest = own.strip_prefix(root.trim_end_matches('/'))?;
    if rest.is_empty() || rest.starts_with('/') { Some(rest.trim_matches('/')) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/elogind rw - cgroup cgroup rw,name=elogind
42 31 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const HYBRID_OWN: &str = "2:cpu,cpuacct:/user\n1:name=systemd:/\n0::/deep/down\n";

    fn paths_of(mountinfo: &str, own: &str, cgroups_path: Option<&str>) -> Result<BTreeMap<String, String>> {
        let host = Host::from_text(mountinfo, own)?;
        let path = CgroupPath::from_config(cgroups_path, "id")?;
        Ok(Places::find(&host, &path)?.paths())
    }

    #[test]
    fn an_absolute_path_starts_at_every_mount_point() {
        let paths = paths_of(HYBRID, HYBRID_OWN, Some("//a/./b/")).unwrap();
        assert_eq!(paths["cpu"], "/sys/fs/cgroup/cpu,cpuacct/a/b");
        assert_eq!(paths["cpuacct"], paths["cpu"], "controllers mounted together share a directory");
        assert_eq!(paths["name=systemd"], "/sys/fs/cgroup/systemd/a/b");
        assert_eq!(paths[""], "/sys/fs/cgroup/unified/a/b");
        assert!(!paths.contains_key("name=elogind"), "foreign named hierarchies are not joined");
    }

    #[test]
    fn a_relative_or_absent_path_starts_at_the_own_cgroup_in_v1() {
        for (given, end) in [(None, "id"), (Some(""), "id"), (Some("x/y"), "x/y")] {
            let paths = paths_of(HYBRID, HYBRID_OWN, given).unwrap();
            assert_eq!(paths["cpu"], format!("/sys/fs/cgroup/cpu,cpuacct/user/{end}"));
            assert_eq!(paths["name=systemd"], format!("/sys/fs/cgroup/systemd/{end}"));
            assert_eq!(paths[""], format!("/sys/fs/cgroup/unified/{end}"), "v2 beside v1 has no own start");
        }
    }

    #[test]
    fn a_relative_path_starts_at_the_parent_of_the_own_cgroup_in_v2() {
        let unified = "9 1 0:2 / /sys/fs/cgroup rw - cgroup2 none rw\n";
        for (own, expected) in [
            ("0::/user.slice/session-1.scope", "/sys/fs/cgroup/user.slice/id"),
            ("0::/a", "/sys/fs/cgroup/id"),
            ("0::/", "/sys/fs/cgroup/id"),
        ] {
            assert_eq!(paths_of(unified, own, None).unwrap()[""], expected, "own cgroup {own}");
        }
    }

    #[test]
    fn the_visible_part_of_the_hierarchy_counts() {
        let nested = "9 1 0:2 /docker/abc /sys/fs/cgroup/pids rw - cgroup none rw,pids\n";
        assert_eq!(
            paths_of(nested, "1:pids:/docker/abc/x", None).unwrap()["pids"],
            "/sys/fs/cgroup/pids/x/id"
        );
        for own in ["1:pids:/docker/abcd", "1:pids:/", "1:pids:/../x"] {
            let error = paths_of(nested, own, None).unwrap_err();
            assert!(matches!(error, Error::OwnCgroupHidden { .. }), "{own} is not visible");
            assert!(paths_of(nested, own, Some("/abs")).is_ok(), "an absolute path needs no start");
        }
    }

    #[test]
    fn what_could_leave_the_hierarchy_is_refused() {
        let long = "x".repeat(256);
        for (path, reason) in [
            ("/../x", "contains \"..\""),
            ("a/..", "contains \"..\""),
            ("..", "contains \"..\""),
            ("/a/..//b", "contains \"..\""),
            ("/", "names the root cgroup"),
            ("/./", "names the root cgroup"),
            ("/a\nb", "contains a control character"),
            ("/a\0b", "contains a control character"),
            (long.as_str(), "has a component of more than 255 bytes"),
        ] {
            let error = CgroupPath::from_config(Some(path), "id").unwrap_err();
            assert_eq!(error.to_string(), format!("cgroup path {path:?} {reason}"));
        }
        assert!(CgroupPath::from_config(Some("/a..b/..c"), "id").is_ok(), "dots inside a name are harmless");
    }

    #[test]
    fn sub_cgroups_are_for_all_or_for_some_controllers() {
        let all = SubCgroups::parse(&["/sub//x"]).unwrap();
        assert_eq!(all.below(&["cpu".into()]), "sub/x");
        let some = SubCgroups::parse(&["cpu,pids:a", "memory:b"]).unwrap();
        assert_eq!(some.below(&["cpu".into(), "cpuacct".into()]), "a");
        assert_eq!(some.below(&["memory".into()]), "b");
        assert_eq!(some.below(&["blkio".into()]), "", "the others stay in the container's cgroup");
        assert_eq!(some.unknown(|name| name != "pids"), Some("pids"));
        assert!(SubCgroups::parse::<&str>(&[]).unwrap().is_empty());
    }

    #[test]
    fn bad_sub_cgroups_are_refused() {
        for arguments in
            [vec!["../x"], vec!["cpu:a/../../b"], vec!["a", "b"], vec!["cpu:a", "cpu:b"], vec![",cpu:a"]]
        {
            let error = SubCgroups::parse(&arguments).unwrap_err();
            assert!(matches!(error, Error::SubCgroup { .. }), "{arguments:?}: {error}");
        }
    }
}
