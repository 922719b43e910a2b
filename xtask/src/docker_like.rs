//! The container that the demo shows and the benchmark times: as docker would start it.

use anyhow::{Context as _, Result};
use bulkhead_seccomp::NATIVE;
use bulkhead_spec::{Capabilities, Config, Mount, Rlimit};
use bulkhead_testkit::docker_like;
use serde_json::json;

/// A container as docker would start it on `root`: these capabilities and the default filter for them,
/// `noNewPrivileges` off, limits of memory, CPU and processes, masked paths, and pid, mount, network, uts, ipc and
/// cgroup namespaces.
pub(crate) fn config(
    root: &str,
    args: &[String],
    capabilities: &[&str],
    cgroups_path: &str,
) -> Result<Config> {
    let mut document = docker_like::config(cgroups_path);
    document["ociVersion"] = "1.0.2".into(); // The oldest that peers of every release take.
    document["root"]["path"] = root.into();
    document["hostname"] = "bulkhead".into();
    let resources = &mut document["linux"]["resources"];
    resources["memory"] = json!({ "limit": 512 << 20 });
    resources["cpu"] = json!({ "shares": 1024, "quota": 100_000, "period": 100_000 });
    resources["pids"] = json!({ "limit": 512 });
    let mut config: Config = Config::from_json(&document.to_string()).context("make a configuration")?;
    let process = config.process.as_mut().context("find the process")?;
    let set = Vec::from_iter(capabilities.iter().map(|name| (*name).to_owned()));
    process.args = args.to_vec();
    process.capabilities = Some(Capabilities {
        bounding: set.clone(),
        effective: set.clone(),
        permitted: set,
        ..Capabilities::default()
    });
    process.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }];
    let linux = config.linux.as_mut().context("find the part for Linux")?;
    linux.seccomp = Some(bulkhead_seccomp::default_profile_for(NATIVE, capabilities));
    Ok(config)
}

/// A mount of the configuration.
pub(crate) fn mount(destination: &str, kind: &str, source: &str, options: Vec<String>) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options,
        ..Mount::default()
    }
}
