//! A container.

use std::path::PathBuf;

use bulkhead_engine::configure::HiddenPaths;
use bulkhead_engine::request::{
    Access, CgroupNamespace, Ipc, Limit, Log, LogDetails, Network, Pid, Request, Root, Seccomp,
    UserNamespace, Uts,
};
use bulkhead_engine::store::{Defaults, Healthcheck};
use bulkhead_engine::{Check, Container, Health, MountKind, MountPoint, State, Verdict};
use serde_json::{Value, json};

use super::connections::{Connections, exposed, network_settings};
use super::{asked, moment};

/// What `inspect` prints of it.
pub(crate) fn container(
    container: &Container,
    merged: &Defaults,
    lower: &[PathBuf],
    apparmor: &str,
    connections: &Connections,
) -> Value {
    let (path, arguments) =
        container.command.split_first().map_or(("", &[][..]), |(path, rest)| (path, rest));
    let file = |name: &str| container.directory.join("files").join(name);
    json!({
        "Id": container.id,
        "Created": moment(Some(container.created)),
        "Path": path,
        "Args": arguments,
        "State": state(container),
        "Image": container.image_id.map(|id| id.to_string()).unwrap_or_default(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": container.log.as_deref().map(|log| log.display().to_string()).unwrap_or_default(),
        "Name": format!("/{}", container.name),
        "RestartCount": container.restarts,
        "Driver": driver(&container.request.root),
        "Platform": "linux",
        "AppArmorProfile": apparmor,
        "ProcessLabel": "",
        "MountLabel": "",
        "ExecIDs": null,
        "GraphDriver": graph_driver(container, lower),
        "HostConfig": host_config(&container.request),
        "Mounts": Vec::from_iter(container.mounts.iter().map(mount)),
        "Config": config(container, merged),
        "NetworkSettings": network_settings(container, connections),
    })
}

/// Docker's word for overlays; a directory of the host that is the root itself has none.
fn driver(root: &Root) -> &'static str {
    match root {
        Root::Directory(directory) if !directory.overlay => "",
        Root::Directory(_) | Root::Image(_) => "overlay2",
    }
}

/// Where its own layer lies, and those below. They are joined in the container's mount namespace alone, which its process leads to.
fn graph_driver(container: &Container, lower: &[PathBuf]) -> Value {
    let driver = driver(&container.request.root);
    let part = |name: &str| container.directory.join(name);
    let data = if driver.is_empty() {
        Value::Null
    } else {
        let merged = container.pid.map(|pid| format!("/proc/{pid}/root")).unwrap_or_default();
        json!({
            "LowerDir": super::image::joined(lower),
            "MergedDir": merged,
            "UpperDir": part("upper"),
            "WorkDir": part("work"),
        })
    };
    json!({ "Name": driver, "Data": data })
}

fn state(container: &Container) -> Value {
    let is = |state: State| container.state == state;
    json!({
        "Status": container.state.to_string(),
        // Docker counts a frozen container among those that run.
        "Running": is(State::Running) || is(State::Paused) || is(State::Restarting),
        "Paused": is(State::Paused),
        "Restarting": is(State::Restarting),
        "OOMKilled": container.oom_killed,
        "Dead": false,
        "Pid": container.pid.unwrap_or(0),
        "ExitCode": container.exit_code.unwrap_or(0),
        "Error": container.error.as_deref().unwrap_or_default(),
        "StartedAt": moment(container.started),
        "FinishedAt": moment(container.finished),
        "Health": container.health.as_ref().map(health),
    })
}

fn health(health: &Health) -> Value {
    let Health { state, failing, log } = health;
    let check = |Check { begin, end, code, output }: &Check| json!({ "Start": moment(Some(*begin)), "End": moment(Some(*end)), "ExitCode": code, "Output": output });
    json!({ "Status": verdict(*state), "FailingStreak": failing, "Log": Vec::from_iter(log.iter().map(check)) })
}

/// Docker's word for how a container is.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Starting => "starting",
        Verdict::Healthy => "healthy",
        Verdict::Unhealthy => "unhealthy",
    }
}

fn mount(mount: &MountPoint) -> Value {
    let MountPoint { kind, name, source, destination, access, propagation } = mount;
    let is_writable = *access == Access::ReadWrite;
    let mut document = json!({
        "Type": match kind {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
        },
        "Source": source.as_deref().map(|source| source.display().to_string()).unwrap_or_default(),
        "Destination": destination,
        "Mode": if is_writable { "" } else { "ro" },
        "RW": is_writable,
        "Propagation": propagation.map_or("", |propagation| propagation.as_str()),
    });
    if let Some(name) = name {
        document["Name"] = json!(name);
        document["Driver"] = json!("local");
    }
    document
}

/// What it does by default: the image's word, over which the request's goes.
fn config(container: &Container, merged: &Defaults) -> Value {
    let request = &container.request;
    let process = &request.process;
    let Defaults {
        user,
        exposed_ports: _,
        env,
        entrypoint,
        cmd,
        volumes,
        working_dir,
        labels,
        stop_signal,
        stop_timeout,
        healthcheck,
        shell,
        on_build,
    } = merged;
    json!({
        "Hostname": hostname(container),
        "Domainname": request.domainname.as_deref().unwrap_or_default(),
        "User": user,
        "ExposedPorts": exposed_as_docker(request, merged),
        "AttachStdin": request.attached.stdin,
        "AttachStdout": request.attached.stdout,
        "AttachStderr": request.attached.stderr,
        "Tty": process.terminal,
        "OpenStdin": process.stdin,
        "StdinOnce": process.stdin && request.attached.stdin,
        "Env": env,
        "Cmd": cmd,
        "Healthcheck": healthcheck.as_ref().map(healthcheck_of),
        "Image": container.image,
        "Volumes": (!volumes.is_empty()).then_some(volumes),
        "WorkingDir": working_dir,
        "Entrypoint": entrypoint,
        "OnBuild": (!on_build.is_empty()).then_some(on_build),
        "Labels": labels,
        "StopSignal": (!stop_signal.is_empty()).then_some(stop_signal),
        "StopTimeout": stop_timeout,
        "Shell": shell,
    })
}

/// Docker's set: names with nothing behind them.
fn exposed_as_docker(request: &Request, merged: &Defaults) -> Value {
    let all = exposed(request, Some(merged));
    match all.is_empty() {
        true => Value::Null,
        false => Value::Object(all.into_iter().map(|port| (port, json!({}))).collect()),
    }
}

/// Its own name, or that of the host where it shares that.
fn hostname(container: &Container) -> String {
    let Request { hostname, namespaces, .. } = &container.request;
    let is_hosts = namespaces.uts == Uts::Host || namespaces.network == Network::Host;
    match hostname {
        Some(name) => name.clone(),
        None if is_hosts => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        None => container.short_id().to_owned(),
    }
}

/// A check, without what nothing is said of.
fn healthcheck_of(check: &Healthcheck) -> Value {
    let Healthcheck { test, interval, timeout, start_period, start_interval, retries } = check;
    let mut document = json!({ "Test": test });
    let numbers = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
        ("Retries", retries),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, number)| **number != 0) {
        document[name] = json!(number);
    }
    document
}

/// Docker's word for a network.
pub(crate) fn network(network: &Network) -> String {
    match network {
        // Records of before there were others.
        Network::Default => "none".to_owned(),
        network => network.to_string(),
    }
}

fn host_config(request: &Request) -> Value {
    let security = &request.security;
    let policy = request.restart.to_string();
    let (policy, maximum) = policy.split_once(':').unwrap_or((&policy, "0"));
    let mut config = json!({
        "AutoRemove": request.remove,
        "RestartPolicy": { "Name": policy, "MaximumRetryCount": maximum.parse::<u32>().unwrap_or(0) },
        "NetworkMode": network(&request.namespaces.network),
        "IpcMode": ipc(&request.namespaces.ipc),
        "PidMode": pid(&request.namespaces.pid),
        "UTSMode": uts(&request.namespaces.uts),
        "UsernsMode": users(request.namespaces.user.as_ref()),
        "CgroupnsMode": match request.namespaces.cgroup {
            None if security.privileged => "host",
            None => "private",
            Some(CgroupNamespace::Private) => "private",
            Some(CgroupNamespace::Host) => "host",
        },
        "Privileged": security.privileged,
        "CapAdd": Vec::from_iter(security.add.iter().map(ToString::to_string)),
        "CapDrop": Vec::from_iter(security.drop.iter().map(ToString::to_string)),
        "SecurityOpt": security_options(request),
        "ReadonlyRootfs": request.read_only,
        "GroupAdd": request.process.groups,
        "Init": request.process.init,
        "OomScoreAdj": request.process.oom_score_adjust.unwrap_or(0),
        "Sysctls": request.sysctls,
        "Annotations": request.annotations,
        "Dns": request.hosts.servers,
        "DnsOptions": request.hosts.options,
        "DnsSearch": request.hosts.search,
        "LogConfig": log(&request.log),
        "Runtime": request.runtime.as_deref().unwrap_or("bulkrun"),
    });
    // One call of the macro could not hold all.
    if let (Value::Object(config), Value::Object(limits)) = (&mut config, limits(request)) {
        config.extend(limits);
        config.extend(asked::asked(request));
        config.extend(hidden(request));
        let size = request.process.size.unwrap_or_default();
        config.insert("ConsoleSize".to_owned(), json!([size.rows, size.columns]));
    }
    config
}

/// What it does not see of the kernel: a part of `HostConfig`. Docker has nothing there of one that may do everything.
fn hidden(request: &Request) -> [(String, Value); 2] {
    let HiddenPaths { masked, readonly } = HiddenPaths::of(&request.security);
    let told = |paths: Vec<String>| {
        if paths.is_empty() && request.security.privileged { Value::Null } else { json!(paths) }
    };
    [("MaskedPaths".to_owned(), told(masked)), ("ReadonlyPaths".to_owned(), told(readonly))]
}

/// How much it may use: a part of `HostConfig`.
fn limits(request: &Request) -> Value {
    let resources = &request.resources;
    let text = |option: &Option<String>| option.clone().unwrap_or_default();
    json!({
        "CgroupParent": text(&resources.cgroup_parent),
        "ShmSize": resources.shm_size.map_or(64 << 20, |size| size.0),
        "Memory": resources.memory.map_or(0, |size| size.0),
        "MemoryReservation": resources.memory_reservation.map_or(0, |size| size.0),
        "MemorySwap": swap(request),
        "MemorySwappiness": resources.memory_swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "NanoCpus": resources.cpus.map_or(0, |cpus| cpus.0),
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "CpuPeriod": resources.cpu_period.unwrap_or(0),
        "CpuQuota": resources.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": resources.realtime_period.unwrap_or(0),
        "CpuRealtimeRuntime": resources.realtime_runtime.unwrap_or(0),
        "CpusetCpus": text(&resources.cpuset_cpus),
        "CpusetMems": text(&resources.cpuset_mems),
        "PidsLimit": resources.pids.map(Limit::signed),
        "BlkioWeight": resources.block.weight.unwrap_or(0),
        // These are limits of Windows.
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumBandwidth": 0,
        "IOMaximumIOps": 0,
        "Ulimits": Vec::from_iter(request.process.ulimits.iter().map(|limit| {
            json!({ "Name": limit.name, "Soft": limit.soft.cast_signed(), "Hard": limit.hard.cast_signed() })
        })),
    })
}

/// Memory and swap together: without a word of it as much again as the memory.
fn swap(request: &Request) -> i64 {
    let memory = request.resources.memory.map_or(0, |size| size.0);
    match request.resources.memory_swap {
        Some(limit) if limit != Limit::At(0) => limit.signed(),
        _ => i64::try_from(memory.saturating_mul(2)).unwrap_or(i64::MAX),
    }
}

fn ipc(ipc: &Ipc) -> String {
    match ipc {
        Ipc::None => "none".to_owned(),
        Ipc::Private => "private".to_owned(),
        Ipc::Shareable => "shareable".to_owned(),
        Ipc::Host => "host".to_owned(),
        Ipc::Container(name) => format!("container:{name}"),
        Ipc::Pod => "pod".to_owned(),
    }
}

fn pid(pid: &Pid) -> String {
    match pid {
        Pid::Private => String::new(),
        Pid::Host => "host".to_owned(),
        Pid::Container(name) => format!("container:{name}"),
        Pid::Pod => "pod".to_owned(),
    }
}

fn uts(uts: &Uts) -> String {
    match uts {
        Uts::Private => String::new(),
        Uts::Host => "host".to_owned(),
        Uts::Container(name) => format!("container:{name}"),
        Uts::Pod => "pod".to_owned(),
    }
}

fn users(users: Option<&UserNamespace>) -> String {
    match users {
        None => String::new(),
        Some(UserNamespace::Host) => "host".to_owned(),
        Some(UserNamespace::Auto { .. }) => "auto".to_owned(),
        Some(UserNamespace::KeepId { .. }) => "keep-id".to_owned(),
        Some(UserNamespace::NoMap) => "nomap".to_owned(),
        Some(UserNamespace::Map { .. }) => "private".to_owned(),
        Some(UserNamespace::Container(name)) => format!("container:{name}"),
        Some(UserNamespace::Pod) => "pod".to_owned(),
    }
}

fn security_options(request: &Request) -> Vec<String> {
    let security = &request.security;
    let mut options = Vec::new();
    options.extend(security.no_new_privileges.then(|| "no-new-privileges".to_owned()));
    options.extend(match &security.seccomp {
        Seccomp::Default => None,
        Seccomp::Unconfined => Some("seccomp=unconfined".to_owned()),
        Seccomp::Profile(text) => Some(format!("seccomp={text}")),
    });
    options.extend(security.apparmor.iter().map(|profile| format!("apparmor={profile}")));
    options
}

fn log(log: &Log) -> Value {
    match log {
        Log::JsonFile { max_size, max_file, details } => {
            let mut config = log_details(details);
            config.extend(max_size.iter().map(|size| ("max-size".to_owned(), json!(size.to_string()))));
            config.extend(max_file.iter().map(|count| ("max-file".to_owned(), json!(count.to_string()))));
            json!({ "Type": "json-file", "Config": config })
        }
        Log::Journald { details } => json!({ "Type": "journald", "Config": log_details(details) }),
        Log::None => json!({ "Type": "none", "Config": {} }),
    }
}

fn log_details(details: &LogDetails) -> serde_json::Map<String, Value> {
    let LogDetails { tag, labels, labels_regex, env, env_regex } = details;
    let names = |names: &[String]| (!names.is_empty()).then(|| names.join(","));
    let options = [
        ("tag", tag.clone()),
        ("labels", names(labels)),
        ("labels-regex", labels_regex.clone()),
        ("env", names(env)),
        ("env-regex", env_regex.clone()),
    ];
    options.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))).collect()
}
