//! What docker would ask of a runtime, as far as it does not depend on the image: the starting point of every test's
//! bundle, of the demo and of the benchmark.

use serde_json::{Value, json};

/// Returns the configuration of a container like docker's without options: no filter, small limits, and a program that
/// succeeds.
pub fn config(cgroups_path: &str) -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
        },
        "root": { "path": "rootfs" },
        "hostname": "testkit",
        "mounts": default_mounts(),
        "linux": {
            "cgroupsPath": cgroups_path,
            "namespaces": [
                { "type": "mount" },
                { "type": "network" },
                { "type": "uts" },
                { "type": "pid" },
                { "type": "ipc" },
                { "type": "cgroup" },
            ],
            "resources": default_resources(),
            "maskedPaths": [
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
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn default_mounts() -> Value {
    let mount = |kind: &str, source: &str, destination: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": source, "options": options });
    json!([
        mount("proc", "proc", "/proc", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "devpts",
            "devpts",
            "/dev/pts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
        mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("mqueue", "mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ])
}

fn default_resources() -> Value {
    let device = |kind: &str, major: i64, minor: i64| json!({ "allow": true, "type": kind, "major": major, "minor": minor, "access": "rwm" });
    let all_of_kind = |kind: &str| json!({ "allow": true, "type": kind, "access": "m" });
    json!({
        "devices": [
            { "allow": false, "access": "rwm" },
            all_of_kind("c"),
            all_of_kind("b"),
            device("c", 1, 3),
            device("c", 1, 5),
            device("c", 1, 7),
            device("c", 1, 8),
            device("c", 1, 9),
            device("c", 5, 0),
            device("c", 5, 1),
            device("c", 5, 2),
            device("c", 10, 200),
            { "allow": true, "type": "c", "major": 136, "access": "rwm" },
        ],
        "memory": { "limit": 268_435_456 },
        "cpu": { "shares": 1024, "quota": 200_000, "period": 100_000 },
        "pids": { "limit": 200 },
    })
}

/// The capabilities that docker gives to a container. A list of its own: a test must not believe the product's.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];
