//! `info`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::Info;
use bulkhead_engine::configure::{AppArmor, Caller, CgroupVersion};
use bulkhead_engine::store::Places;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::home::Home;
use crate::output::quantity::{binary, now, rfc3339};
use crate::template::{Labels, Subject, Template};
use crate::verbs::Operation;
use crate::version;

/// Tell of the engine and its host
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Print as json, or by a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

impl Operation for Options {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let template = match self.format.as_deref() {
            None | Some("" | "json") => None,
            Some(text) => Some(Template::parse(text)?),
        };
        let engine = home.engine()?;
        let info = engine.info()?;
        let text = match (&template, self.format.as_deref()) {
            (Some(template), _) => {
                let document = document(&info, engine.places());
                template.render(Subject { value: &document, labels: Labels::None })?
            }
            (None, Some("json")) => document(&info, engine.places()).to_string(),
            (None, _) => plain(&info, engine.places()),
        };
        writeln!(io::stdout(), "{}", text.trim_end_matches('\n'))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// For people.
fn plain(info: &Info, places: &Places) -> String {
    let Info { containers, running, paused, images, facts, kernel, machine, system, .. } = info;
    let runtimes = Vec::from_iter(info.runtimes.iter().map(|(name, _)| name.as_str())).join(" ");
    let lines = [
        ("Containers", containers.to_string()),
        (" Running", running.to_string()),
        (" Paused", paused.to_string()),
        (" Stopped", (containers - running - paused).to_string()),
        ("Images", images.to_string()),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("Storage Driver", "overlay2".to_owned()),
        (" Backing Filesystem", info.filesystem.clone()),
        ("Logging Driver", "json-file".to_owned()),
        ("Cgroup Driver", cgroup_driver(info).to_owned()),
        ("Cgroup Version", cgroup_version(info).to_owned()),
        ("Runtimes", runtimes),
        ("Security Options", security(info).join(" ")),
        ("Kernel Version", kernel.clone()),
        ("Operating System", system.0.clone()),
        ("OSType", "linux".to_owned()),
        ("Architecture", machine.clone()),
        ("CPUs", facts.cpus.to_string()),
        ("Total Memory", binary(info.memory)),
        ("Name", facts.hostname.clone()),
        ("ID", info.id.clone()),
        ("Root Directory", places.root.display().to_string()),
        ("Run Directory", places.run.display().to_string()),
    ];
    let mut text: String = lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    for warning in warnings(info) {
        text.push_str(&format!("{warning}\n"));
    }
    text
}

/// Docker's fields. What counts a daemon's threads and connections is left out, as there is none.
fn document(info: &Info, places: &Places) -> Value {
    let Info { containers, running, paused, images, facts, kernel, machine, system, .. } = info;
    let has = |controller: &str| facts.cgroups.has(controller);
    let runtimes: Map<String, Value> =
        info.runtimes.iter().map(|(name, path)| (name.clone(), json!({ "path": path }))).collect();
    let default = info.runtimes.first().map(|(name, _)| name.as_str()).unwrap_or_default();
    let mut logs = vec!["json-file", "none"];
    logs.extend(info.journal.then_some("journald"));
    let mut document = json!({
        "ID": info.id,
        "Containers": containers,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers - running - paused,
        "Images": images,
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", info.filesystem]],
        "Plugins": { "Volume": ["local"], "Network": ["host", "none"], "Authorization": null, "Log": logs },
        "MemoryLimit": has("memory"),
        "SwapLimit": facts.cgroups.swap,
        "CpuCfsPeriod": has("cpu"),
        "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"),
        "CPUSet": has("cpuset"),
        "PidsLimit": has("pids"),
        "IPv4Forwarding": info.forwards,
        "OomKillDisable": has("memory") && facts.cgroups.version == CgroupVersion::V1,
    });
    let host = json!({
        "SystemTime": rfc3339(now()),
        "LoggingDriver": "json-file",
        "CgroupDriver": cgroup_driver(info),
        "CgroupVersion": cgroup_version(info),
        "KernelVersion": kernel,
        "OperatingSystem": system.0,
        "OSVersion": system.1,
        "OSType": "linux",
        "Architecture": machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "NCPU": facts.cpus,
        "MemTotal": info.memory,
        "DockerRootDir": places.root,
        "Name": facts.hostname,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Runtimes": runtimes,
        "DefaultRuntime": default,
        // Containers live on without this program, which is no daemon.
        "LiveRestoreEnabled": true,
        "InitBinary": info.init,
        "SecurityOptions": security(info),
        "Warnings": warnings(info),
        "ClientInfo": { "Version": env!("CARGO_PKG_VERSION"), "GitCommit": version::commit(), "Os": "linux",
            "Arch": version::architecture() },
    });
    // What templates of docker's users ask for, and this engine has not.
    let nothing = json!({
        "Labels": [],
        "ExperimentalBuild": false,
        "Debug": false,
        "Isolation": "",
        "GenericResources": null,
        "ProductLicense": "",
        "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null },
    });
    for more in [host, nothing] {
        if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
            document.extend(more);
        }
    }
    document
}

fn cgroup_driver(info: &Info) -> &'static str {
    if info.facts.cgroups.systemd { "systemd" } else { "cgroupfs" }
}

fn cgroup_version(info: &Info) -> &'static str {
    match info.facts.cgroups.version {
        CgroupVersion::V1 => "1",
        CgroupVersion::V2 => "2",
    }
}

/// Docker's words for what confines containers.
fn security(info: &Info) -> Vec<&'static str> {
    let facts = &info.facts;
    let mut options = Vec::new();
    options.extend(matches!(facts.apparmor, AppArmor::Present { .. }).then_some("name=apparmor"));
    options.push("name=seccomp,profile=builtin");
    options.extend(facts.selinux.is_some().then_some("name=selinux"));
    options.extend(matches!(facts.caller, Caller::User { .. }).then_some("name=rootless"));
    options.push("name=cgroupns");
    options
}

/// Docker's warnings about what the host cannot limit.
fn warnings(info: &Info) -> Vec<String> {
    let cgroups = &info.facts.cgroups;
    if !cgroups.writable {
        return vec!["WARNING: No resource limits: this user may make no cgroups here".to_owned()];
    }
    let missing =
        [("memory", "memory limit"), ("cpu", "cpu cfs quota"), ("pids", "pids limit"), ("io", "blkio")];
    let missing = missing.iter().filter(|(controller, _)| !cgroups.has(controller));
    let mut warnings = Vec::from_iter(missing.map(|(_, what)| format!("WARNING: No {what} support")));
    warnings.extend((!cgroups.swap).then(|| "WARNING: No swap limit support".to_owned()));
    warnings
}
