//! The bundle that docker would make, as far as it does not depend on the image: what the demo runs under and
//! what the benchmark compares.

use bulkhead_seccomp::NATIVE;
use bulkhead_spec::{
    Capabilities, Config, CpuResources, DeviceRule, DeviceRuleType, Linux, MemoryResources, Mount, Namespace,
    NamespaceType, PidsResources, Process, Resources, Rlimit, Root, User,
};

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Destination, type, source and options.
const MOUNTS: &[(&str, &str, &str, &[&str])] = &[
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
];

/// Devices that may be used (r, w and mknod): type, major and minor, none for all.
const DEVICES: &[(DeviceRuleType, Option<i64>, Option<i64>, &str)] = &[
    (DeviceRuleType::Char, None, None, "m"),
    (DeviceRuleType::Block, None, None, "m"),
    (DeviceRuleType::Char, Some(1), Some(3), "rwm"),
    (DeviceRuleType::Char, Some(1), Some(5), "rwm"),
    (DeviceRuleType::Char, Some(1), Some(7), "rwm"),
    (DeviceRuleType::Char, Some(1), Some(8), "rwm"),
    (DeviceRuleType::Char, Some(1), Some(9), "rwm"),
    (DeviceRuleType::Char, Some(5), Some(0), "rwm"),
    (DeviceRuleType::Char, Some(5), Some(1), "rwm"),
    (DeviceRuleType::Char, Some(5), Some(2), "rwm"),
    (DeviceRuleType::Char, Some(136), None, "rwm"),
    (DeviceRuleType::Char, Some(10), Some(200), "rwm"),
];

/// A container as docker would start it on `root`: these capabilities and the default filter for them,
/// `noNewPrivileges` off, limits of memory, CPU and processes, masked paths, and pid, mount, network, uts, ipc and
/// cgroup namespaces.
pub(crate) fn config(root: &str, args: &[String], capabilities: &[&str]) -> Config {
    let namespaces = [
        NamespaceType::Pid,
        NamespaceType::Network,
        NamespaceType::Ipc,
        NamespaceType::Uts,
        NamespaceType::Mount,
        NamespaceType::Cgroup,
    ];
    Config {
        oci_version: "1.0.2".to_owned(), // The oldest that peers of every release take.
        process: Some(process(args, capabilities)),
        root: Some(Root { path: root.to_owned(), readonly: false }),
        hostname: Some("bulkhead".to_owned()),
        mounts: Vec::from_iter(MOUNTS.iter().map(|(destination, kind, source, options)| {
            mount(destination, kind, source, options.iter().map(|option| (*option).to_owned()).collect())
        })),
        linux: Some(Linux {
            resources: Some(resources()),
            namespaces: Vec::from(namespaces.map(|kind| Namespace { kind, path: None })),
            seccomp: Some(bulkhead_seccomp::default_profile_for(NATIVE, capabilities)),
            masked_paths: owned(MASKED),
            readonly_paths: owned(READ_ONLY),
            ..Linux::default()
        }),
        ..Config::default()
    }
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

fn process(args: &[String], capabilities: &[&str]) -> Process {
    let set = owned(capabilities);
    Process {
        user: User::default(),
        args: args.to_vec(),
        env: owned(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: set.clone(),
            effective: set.clone(),
            permitted: set,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
        ..Process::default()
    }
}

fn resources() -> Resources {
    let deny_all = DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() };
    let allow = DEVICES.iter().map(|(kind, major, minor, access)| DeviceRule {
        allow: true,
        kind: Some(*kind),
        major: *major,
        minor: *minor,
        access: Some((*access).to_owned()),
    });
    Resources {
        devices: Vec::from_iter(std::iter::once(deny_all).chain(allow)),
        memory: Some(MemoryResources { limit: Some(512 << 20), ..MemoryResources::default() }),
        cpu: Some(CpuResources {
            shares: Some(1024),
            quota: Some(100_000),
            period: Some(100_000),
            ..CpuResources::default()
        }),
        pids: Some(PidsResources { limit: Some(512) }),
        ..Resources::default()
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
