//! The container that is measured, shown and timed: as docker would start it.

use bulkhead_seccomp::NATIVE;
use bulkhead_spec::{Capabilities, Config, CpuResources, MemoryResources, Mount, PidsResources, Resources};

use crate::error::Error;

/// What docker asks for whatever the image is, but for limits, capabilities and the filter. The version is the oldest
/// that runtimes of every release take.
const TEMPLATE: &str = include_str!("bundle.json");

/// One period of the CPU controller, microseconds: what a quota is a share of.
const PERIOD: u64 = 100_000;

/// What a container may use at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory: i64,
    /// CPU time: a thousand is a whole CPU.
    pub milli_cpus: u32,
    /// Processes and threads.
    pub tasks: i64,
}

/// A container as docker would start it on `root`: these capabilities and the default filter for them,
/// `noNewPrivileges` off, limits if there are to be any, masked paths, and pid, mount, network, uts, ipc and cgroup namespaces.
///
/// # Errors
/// None but when the template was broken.
pub fn config(
    root: &str,
    args: &[String],
    capabilities: &[&str],
    limits: Option<Limits>,
    cgroups_path: &str,
) -> Result<Config, Error> {
    let broken = |error| Error::Unusable(format!("the template of a bundle is broken: {error}"));
    let mut config = Config::from_json(TEMPLATE).map_err(broken)?;
    config.root.get_or_insert_default().path = root.to_owned();
    let process = config.process.get_or_insert_default();
    process.args = args.to_vec();
    let set = Vec::from_iter(capabilities.iter().map(|name| (*name).to_owned()));
    process.capabilities = Some(Capabilities {
        bounding: set.clone(),
        effective: set.clone(),
        permitted: set,
        ..Capabilities::default()
    });
    let linux = config.linux.get_or_insert_default();
    linux.cgroups_path = Some(cgroups_path.to_owned());
    linux.seccomp = Some(bulkhead_seccomp::default_profile_for(NATIVE, capabilities));
    if let Some(limits) = limits {
        limits.apply(linux.resources.get_or_insert_default());
    }
    Ok(config)
}

/// A mount of the configuration.
pub fn mount(destination: &str, kind: &str, source: &str, options: Vec<String>) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options,
        ..Mount::default()
    }
}

impl Limits {
    fn apply(self, resources: &mut Resources) {
        resources.memory = Some(MemoryResources { limit: Some(self.memory), ..MemoryResources::default() });
        resources.cpu = Some(CpuResources {
            shares: Some(1024),
            quota: Some(i64::from(self.milli_cpus) * PERIOD as i64 / 1000),
            period: Some(PERIOD),
            ..CpuResources::default()
        });
        resources.pids = Some(PidsResources { limit: Some(self.tasks) });
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::docker_like;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_container_is_the_one_that_tests_expect_of_docker() {
        let limits = Limits { memory: 1 << 28, milli_cpus: 2000, tasks: 200 };
        let ours =
            config("rootfs", &["/bin/true".to_owned()], &docker_like::CAPABILITIES, Some(limits), "/x");
        let ours: Value = serde_json::to_value(ours.unwrap()).unwrap();
        let tests = Config::from_json(&docker_like::config("/x").to_string()).unwrap();
        let tests: Value = serde_json::to_value(tests).unwrap();
        for pointer in [
            "/mounts",
            "/root",
            "/process/capabilities",
            "/process/args",
            "/linux/cgroupsPath",
            "/linux/namespaces",
            "/linux/maskedPaths",
            "/linux/readonlyPaths",
            "/linux/resources",
        ] {
            assert!(ours.pointer(pointer).is_some(), "{pointer} is missing");
            assert_eq!(ours.pointer(pointer), tests.pointer(pointer), "{pointer} is another one");
        }
        assert!(ours.pointer("/linux/seccomp/syscalls/0").is_some(), "no filter");
    }
}
