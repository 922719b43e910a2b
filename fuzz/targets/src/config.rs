//! No config.json makes the reader or the planner panic; what is planned keeps what its types promise.

use std::path::Path;

use bulkhead_cgroup::{Devices, Host};
use bulkhead_runtime::plan::Plan;
use bulkhead_spec::Config;

/// Runs the target; the input is the text of a config.json.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let config = match Config::from_json(text) {
        Ok(config) => config,
        Err(error) => return super::check_sentence(&error.to_string()),
    };
    let again = serde_json::to_string(&config).map(|text| Config::from_json(&text));
    assert!(
        matches!(&again, Ok(Ok(read)) if *read == config),
        "what was written is read differently: {again:?}"
    );
    match Plan::new(&config, Path::new("/bundle"), &|| Ok(super::maps())) {
        Ok(plan) => check(&plan),
        Err(error) => super::check_sentence(&error.to_string()),
    }
}

fn check(plan: &Plan) {
    assert!(plan.root.path.is_absolute());
    for mount in &plan.mounts {
        assert!(mount.destination.is_absolute(), "{mount:?}");
    }
    for device in &plan.devices {
        assert!(device.path.is_absolute(), "{device:?}");
    }
    for path in plan.masked.iter().chain(&plan.readonly) {
        assert!(path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0), "{path:?}");
    }
    for parameter in &plan.sysctl {
        let leaves = parameter.path.components().any(|part| !matches!(part, std::path::Component::Normal(_)));
        assert!(!leaves, "{parameter:?} leaves /proc/sys");
    }
    if let Some(process) = &plan.process {
        assert!(process.cwd.is_absolute(), "{process:?}");
        assert!(!process.args.is_empty(), "{process:?}");
    }
    plan.warnings.iter().for_each(|warning| super::check_sentence(warning));
    for host in super::HOSTS.iter().filter_map(|table| Host::from_mountinfo(table).ok()) {
        for devices in [Devices::Enforced, Devices::Untouched] {
            if let Err(error) =
                bulkhead_cgroup::Plan::for_container(Some(&plan.cgroup.resources), &host, devices)
            {
                super::check_sentence(&error.to_string());
            }
        }
    }
}
