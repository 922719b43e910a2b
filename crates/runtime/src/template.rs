//! The configuration that `bulkrun spec` writes, as a start for one's own.
//!
//! What is in it is what runc's has: a read-only root, a shell, three capabilities, all the usual mounts and
//! masks.

use bulkhead_spec::{
    Capabilities, Config, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceType, OCI_VERSION,
    Process, Resources, Rlimit, Root, User,
};

/// For whom the container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Root makes it.
    Root,
    /// An ordinary user with these ids makes it: it has a user namespace in which they are root.
    User {
        /// The user's id.
        uid: u32,
        /// The user's group.
        gid: u32,
    },
}

/// Returns the configuration; with `cgroup_namespace`, which belongs to cgroup v2, it has one more namespace.
pub fn config(audience: Audience, cgroup_namespace: bool) -> Config {
    Config {
        oci_version: OCI_VERSION.to_owned(),
        process: Some(process()),
        root: Some(Root { path: "rootfs".to_owned(), readonly: true }),
        hostname: Some("bulkrun".to_owned()),
        mounts: mounts(audience),
        linux: Some(linux(audience, cgroup_namespace)),
        ..Config::default()
    }
}

/// Returns the text of the file: JSON indented by tabs, as runc writes it.
///
/// # Errors
/// None is known: the types have no map with keys that are not text.
pub fn text(config: &Config) -> serde_json::Result<Vec<u8>> {
    use serde::Serialize;

    let mut text = Vec::with_capacity(4096);
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    config.serialize(&mut serde_json::Serializer::with_formatter(&mut text, indented))?;
    text.push(b'\n');
    Ok(text)
}

fn process() -> Process {
    let capabilities = || strings(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    Process {
        terminal: true,
        user: User::default(),
        args: strings(&["sh"]),
        env: strings(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: capabilities(),
            effective: capabilities(),
            permitted: capabilities(),
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    }
}

/// Destination, type, source and options.
const MOUNTS: &[(&str, &str, &str, &[&str])] = &[
    ("/proc", "proc", "proc", &[]),
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
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

/// sysfs shows the network namespace, so an ordinary user's container, which has none of its own, may not
/// mount it and gets the host's.
const HOST_SYS: (&str, &str, &str, &[&str]) =
    ("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);

fn mounts(audience: Audience) -> Vec<Mount> {
    let ordinary = audience != Audience::Root;
    let suited = MOUNTS.iter().map(|mount| if ordinary && mount.0 == "/sys" { &HOST_SYS } else { mount });
    let mount = |&(destination, kind, source, options): &(&str, &str, &str, &[&str])| {
        // A group that is not mapped cannot own anything: gid=5 is nobody in such a container.
        let options = options.iter().filter(|option| !(ordinary && option.starts_with("gid=")));
        Mount {
            destination: destination.to_owned(),
            kind: Some(kind.to_owned()),
            source: Some(source.to_owned()),
            options: options.map(|&option| option.to_owned()).collect(),
            ..Mount::default()
        }
    };
    suited.map(mount).collect()
}

fn linux(audience: Audience, cgroup_namespace: bool) -> Linux {
    use NamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};

    let own = |id| vec![IdMapping { container_id: 0, host_id: id, size: 1 }];
    let (uid_mappings, gid_mappings, special) = match audience {
        Audience::Root => (Vec::new(), Vec::new(), Network),
        Audience::User { uid, gid } => (own(uid), own(gid), User),
    };
    let kinds =
        [Some(Pid), Some(special), Some(Ipc), Some(Uts), Some(Mount), cgroup_namespace.then_some(Cgroup)];
    let deny_all = DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() };
    Linux {
        uid_mappings,
        gid_mappings,
        resources: (audience == Audience::Root)
            .then(|| Resources { devices: vec![deny_all], ..Resources::default() }),
        namespaces: kinds.into_iter().flatten().map(|kind| Namespace { kind, path: None }).collect(),
        masked_paths: strings(&[
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/sys/firmware",
            "/sys/devices/virtual/powercap",
        ]),
        readonly_paths: strings(&["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]),
        ..Linux::default()
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(config: &Config) -> Vec<&'static str> {
        let linux = config.linux.as_ref().expect("a Linux section");
        linux.namespaces.iter().map(|namespace| namespace.kind.as_str()).collect()
    }

    #[test]
    fn the_text_reads_back_as_what_was_written() {
        let user = Audience::User { uid: 1000, gid: 100 };
        for config in [config(Audience::Root, false), config(Audience::Root, true), config(user, true)] {
            let text = String::from_utf8(text(&config).expect("it serialises")).expect("it is UTF-8");
            assert_eq!(Config::from_json(&text).expect("it parses"), config);
            assert!(
                text.starts_with(
                    "{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"terminal\": true,\n"
                )
            );
        }
    }

    #[test]
    fn a_cgroup_namespace_comes_with_cgroup_v2() {
        assert_eq!(kinds(&config(Audience::Root, false)), ["pid", "network", "ipc", "uts", "mount"]);
        assert_eq!(kinds(&config(Audience::Root, true)), ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
    }

    #[test]
    fn an_ordinary_user_gets_what_needs_no_root() {
        let config = config(Audience::User { uid: 1000, gid: 100 }, false);
        assert_eq!(kinds(&config), ["pid", "user", "ipc", "uts", "mount"]);
        let linux = config.linux.expect("a Linux section");
        assert_eq!(linux.uid_mappings, [IdMapping { container_id: 0, host_id: 1000, size: 1 }]);
        assert_eq!(linux.gid_mappings, [IdMapping { container_id: 0, host_id: 100, size: 1 }]);
        assert_eq!(linux.resources, None);
        assert!(config.mounts.iter().flat_map(|mount| &mount.options).all(|option| option != "gid=5"));
        let sys = config.mounts.iter().find(|mount| mount.destination == "/sys").expect("a /sys");
        assert_eq!((sys.kind.as_deref(), sys.source.as_deref()), (Some("none"), Some("/sys")));
    }
}
