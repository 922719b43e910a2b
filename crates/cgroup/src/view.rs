//! What a container sees of its cgroups at `/sys/fs/cgroup`.

use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::host::{Host, Layout, Version};

/// One hierarchy as a container finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The name of its directory below the destination (`cpu,cpuacct`); empty where v2 is mounted on the destination
    /// itself.
    pub name: String,
    /// The interface, and so the type of file system.
    pub version: Version,
    /// The host's directory of the container's own cgroup, to bind.
    pub source: String,
    /// Links to make beside the directory, each with `name` as its target: the single controllers of a joint mount.
    pub links: Vec<String>,
    /// Whether the cgroup is somebody else's, so that the container may look but never write.
    pub is_foreign: bool,
}

impl View {
    /// Lists what a container without a cgroup of its own sees: those of its maker, closed.
    ///
    /// # Errors
    /// As [`Host::detect`] and [`Cgroup::of_process`].
    pub fn of_caller() -> Result<Vec<Self>> {
        let host = Host::detect()?;
        let own = Cgroup::of_process(&host, std::process::id().cast_signed())?;
        Ok(own.views(&host).into_iter().map(|view| Self { is_foreign: true, ..view }).collect())
    }
}

impl Cgroup {
    /// Lists the hierarchies to mount for the container, named as on the host.
    pub fn views(&self, host: &Host) -> Vec<View> {
        let unified = host.layout() == Layout::Unified;
        let of_member = host.hierarchies().iter().filter_map(|hierarchy| {
            let member = self.members.iter().find(|member| {
                member.version == hierarchy.version && member.controllers == hierarchy.controllers
            })?;
            let name =
                if unified { "" } else { hierarchy.mount_point.rsplit('/').next().unwrap_or_default() };
            let links = name.split(',').filter(|link| *link != name).map(str::to_owned).collect();
            Some(View {
                name: name.to_owned(),
                version: hierarchy.version,
                source: member.path.clone(),
                links,
                is_foreign: false,
            })
        });
        of_member.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{CgroupPath, Places};
    use crate::{Record, Version};

    fn views(mountinfo: &str) -> Vec<View> {
        let host = Host::from_mountinfo(mountinfo).unwrap();
        let path = CgroupPath::from_config(Some("/x"), "id").unwrap();
        let paths = Places::find(&host, &path).unwrap().paths();
        Cgroup::open(&Record { paths, ..Record::default() }).views(&host)
    }

    #[test]
    fn joint_controllers_have_links() {
        let views = views(
            "1 0 0:1 / /c/cpu,cpuacct rw - cgroup x rw,cpu,cpuacct\n2 0 0:2 / /c/systemd rw - cgroup x rw,name=systemd\n\
             3 0 0:3 / /c/unified rw - cgroup2 x rw\n",
        );
        assert_eq!(views[0].links, ["cpu", "cpuacct"]);
        assert_eq!((views[0].name.as_str(), views[0].source.as_str()), ("cpu,cpuacct", "/c/cpu,cpuacct/x"));
        assert_eq!(views[1].name, "systemd");
        assert_eq!((views[2].name.as_str(), views[2].version), ("unified", Version::V2));
        assert!(views[1].links.is_empty() && views[2].links.is_empty());
    }

    #[test]
    fn v2_alone_is_mounted_on_the_destination() {
        let views = views("9 0 0:9 / /sys/fs/cgroup rw - cgroup2 x rw\n");
        assert_eq!(views.len(), 1);
        assert_eq!((views[0].name.as_str(), views[0].source.as_str()), ("", "/sys/fs/cgroup/x"));
    }
}
