//! What a user asks for when a container is created: typed, complete for docker's `create`, and ignorant of the machine.
//!
//! A program fills a [`Request`] from what was typed; each value that has a syntax of docker's is read by the `FromStr` of its
//! type here (`"512m".parse::<Size>()`), whose error, a [`Malformed`], names the value and what was expected. What images,
//! files of the host and other containers say is joined to it later. As JSON a request is part of a
//! container's record: fields may be added, and one that is missing means that nothing was asked.

mod csv;
mod device;
mod duration;
mod environment;
mod exec;
mod health;
mod hosts;
mod log;
mod malformed;
mod mount;
mod mount_flag;
mod namespace;
mod network;
mod pod;
mod quantity;
mod refused;
mod resource;
mod restart;
mod rootfs;
mod secret;
mod security;
mod signal;
mod tmpfs;
mod ulimit;
mod user;
mod volume_flag;

use std::collections::BTreeMap;

use bulkhead_shim::protocol::Size as TerminalSize;
use serde::{Deserialize, Serialize};

pub use device::{Access as DeviceAccess, CdiName, Device, DeviceRule, Gpus, Node};
pub use duration::Nanoseconds;
pub use environment::{KeyValue, Variable, label_file, variable_file};
pub use exec::Exec;
pub use health::{Health, HealthCommand, OnFailure};
pub use hosts::{HostAddress, HostEntry, Hosts, resolver_word};
pub use log::{Log, LogDetails, LogOption, Tagged};
pub use malformed::Malformed;
pub use mount::{
    Access, Bind, Copy, IdRange, Missing, Mount, MountKind, Ownership, Propagation, Reach, Relabel, Tmpfs,
    Volume, VolumesFrom,
};
pub use namespace::{CgroupNamespace, IdMap, Ipc, Namespaces, Pid, UserNamespace, Uts};
pub use network::{
    Carrier, Connection, ExposedPorts, MacAddress, Network, Protocol, PublishMode, PublishedPorts,
    Publishing, name_of_host,
};
pub use pod::InPod;
pub use quantity::{Cpus, Limit, Size};
pub use refused::{REFUSED, Refusal, refusal};
pub use resource::{BlockIo, Resources, Throttle, Weight};
pub use restart::Restart;
pub use rootfs::{Root, RootDirectory};
pub use secret::Secret;
pub use security::{Capability, Label, Seccomp, Security, SecurityOption, SystemPaths};
pub use signal::Signal;
pub use ulimit::Ulimit;
pub use user::UserSpec;

/// Tells whether nothing was asked for, which need not be written: a record that fits the page of its row costs half of what a
/// longer one does. What nothing means may change for networks alone, which are written in any case.
fn is_default<T: Default + PartialEq>(asked: &T) -> bool {
    *asked == T::default()
}

/// All that can be asked of a new container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// `--name`; without it one is made up.
    #[serde(skip_serializing_if = "is_default")]
    pub name: Option<String>,
    /// What its root file system is made of.
    pub root: Root,
    /// The container cannot write to its root (`--read-only`).
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// What runs, and as whom.
    #[serde(skip_serializing_if = "is_default")]
    pub process: Process,
    /// `--hostname`; without it the first twelve characters of the id.
    #[serde(skip_serializing_if = "is_default")]
    pub hostname: Option<String>,
    /// `--domainname`.
    #[serde(skip_serializing_if = "is_default")]
    pub domainname: Option<String>,
    /// `--label`, and lines of `--label-file`.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// `--annotation`, which the runtime sees too.
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// What its processes may do.
    #[serde(skip_serializing_if = "is_default")]
    pub security: Security,
    /// Which devices it has.
    #[serde(skip_serializing_if = "is_default")]
    pub devices: Devices,
    /// How much it may use.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// Which namespaces it has of its own.
    pub namespaces: Namespaces,
    /// Which of its ports are the host's.
    #[serde(skip_serializing_if = "is_default")]
    pub publishing: Publishing,
    /// `--sysctl`.
    #[serde(skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
    /// `--volume`, `--mount` and `--tmpfs`, in the order of the command line.
    #[serde(skip_serializing_if = "is_default")]
    pub mounts: Vec<Mount>,
    /// `--volumes-from`.
    #[serde(skip_serializing_if = "is_default")]
    pub volumes_from: Vec<VolumesFrom>,
    /// `--secret`.
    #[serde(skip_serializing_if = "is_default")]
    pub secrets: Vec<Secret>,
    /// What is written to its `/etc/hosts` and `/etc/resolv.conf`.
    #[serde(skip_serializing_if = "is_default")]
    pub hosts: Hosts,
    /// `--stop-signal`; without it the image's, or SIGTERM.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_signal: Option<Signal>,
    /// `--stop-timeout` in seconds; without it 10. -1 waits for ever.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_timeout: Option<Limit>,
    /// `--restart`.
    #[serde(skip_serializing_if = "is_default")]
    pub restart: Restart,
    /// It is removed when it has ended (`--rm`).
    #[serde(skip_serializing_if = "is_default")]
    pub remove: bool,
    /// To which of its streams its maker is attached: it is told, and changes nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub attached: Attached,
    /// What tells whether it is well.
    #[serde(skip_serializing_if = "is_default")]
    pub health: Health,
    /// Where its output is kept.
    #[serde(skip_serializing_if = "is_default")]
    pub log: Log,
    /// `--runtime`: a name or a path; without it `bulkrun`.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: Option<String>,
    /// `--pod`; it goes together with the `Pod` of [`Namespaces`].
    #[serde(skip_serializing_if = "is_default")]
    pub pod: Option<InPod>,
}

/// What runs in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// The words behind the image; empty means the image's `CMD`.
    #[serde(skip_serializing_if = "is_default")]
    pub command: Vec<String>,
    /// `--entrypoint`: nothing leaves the image's, an empty list takes it away.
    #[serde(skip_serializing_if = "is_default")]
    pub entrypoint: Option<Vec<String>>,
    /// `--env` and lines of `--env-file`, in that order of precedence: a later one wins.
    #[serde(skip_serializing_if = "is_default")]
    pub environment: Vec<Variable>,
    /// `--user`.
    #[serde(skip_serializing_if = "is_default")]
    pub user: Option<UserSpec>,
    /// `--group-add`: names or numbers.
    #[serde(skip_serializing_if = "is_default")]
    pub groups: Vec<String>,
    /// `--umask`, octal on the command line; without it 0022.
    #[serde(skip_serializing_if = "is_default")]
    pub umask: Option<u32>,
    /// `--workdir`.
    #[serde(skip_serializing_if = "is_default")]
    pub directory: Option<String>,
    /// Its standard streams are a terminal (`--tty`).
    #[serde(skip_serializing_if = "is_default")]
    pub terminal: bool,
    /// The size of that terminal at first, unless a client that is attached from the start has another.
    #[serde(skip_serializing_if = "is_default")]
    pub size: Option<TerminalSize>,
    /// Its standard input is open (`--interactive`).
    #[serde(skip_serializing_if = "is_default")]
    pub stdin: bool,
    /// A small init is process 1 and reaps orphans (`--init`).
    #[serde(skip_serializing_if = "is_default")]
    pub init: bool,
    /// `--ulimit`.
    #[serde(skip_serializing_if = "is_default")]
    pub ulimits: Vec<Ulimit>,
    /// `--oom-score-adj`, -1000 to 1000.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_score_adjust: Option<i32>,
}

/// Standard streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attached {
    /// The standard input.
    #[serde(skip_serializing_if = "is_default")]
    pub stdin: bool,
    /// The standard output.
    #[serde(skip_serializing_if = "is_default")]
    pub stdout: bool,
    /// The standard error.
    #[serde(skip_serializing_if = "is_default")]
    pub stderr: bool,
}

/// The devices of a container besides those that each has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Devices {
    /// `--device` with a path.
    #[serde(skip_serializing_if = "is_default")]
    pub nodes: Vec<Node>,
    /// `--device-cgroup-rule`.
    #[serde(skip_serializing_if = "is_default")]
    pub rules: Vec<DeviceRule>,
    /// `--device` with a name of CDI, and `--gpus`.
    #[serde(skip_serializing_if = "is_default")]
    pub cdi: Vec<CdiName>,
}

impl Devices {
    /// Adds what one `--device` asks for.
    pub fn add(&mut self, device: Device) {
        match device {
            Device::Node(node) => self.nodes.push(node),
            Device::Cdi(name) => self.cdi.push(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_kept_as_json_and_nothing_asked_is_an_empty_one() {
        assert_eq!(serde_json::from_str::<Request>("{}").unwrap(), Request::default());
        let mut devices = Devices::default();
        devices.add("/dev/fuse:r".parse().unwrap());
        devices.add("vendor.com/class=a".parse().unwrap());
        let request = Request {
            root: Root::Directory("/srv/root:O".parse().unwrap()),
            process: Process {
                entrypoint: Some(Vec::new()),
                environment: vec!["A=b".parse().unwrap(), "C".parse().unwrap()],
                user: Some("app:adm".parse().unwrap()),
                ulimits: vec!["nofile=1:-1".parse().unwrap()],
                ..Process::default()
            },
            security: Security {
                add: vec!["net_admin".parse().unwrap()],
                labels: vec![Label::Disable, Label::Type("x_t".to_owned())],
                ..Security::default()
            },
            resources: Resources {
                cpus: Some("1.5".parse().unwrap()),
                memory: Some("1g".parse().unwrap()),
                memory_swap: Some(Limit::Unlimited),
                ..Resources::default()
            },
            namespaces: Namespaces {
                network: "name=front,alias=db,mac-address=02:42:0a:00:00:07".parse().unwrap(),
                user: Some("auto".parse().unwrap()),
                ..Namespaces::default()
            },
            mounts: vec![
                Mount::from_volume("data:/data:ro,owner").unwrap(),
                Mount::from_mount("type=bind,src=/a,dst=/a,idmap").unwrap(),
                Mount::from_tmpfs("/tmp:size=1m,mode=700").unwrap(),
            ],
            secrets: vec!["/etc/key".parse().unwrap()],
            stop_signal: Some("INT".parse().unwrap()),
            stop_timeout: Some(Limit::At(3)),
            publishing: Publishing {
                ports: vec!["127.0.0.1:8080:80/udp".parse().unwrap()],
                ..Publishing::default()
            },
            restart: "on-failure:3".parse().unwrap(),
            health: Health { command: "true".parse().unwrap(), retries: Some(1), ..Health::default() },
            log: "journald".parse().unwrap(),
            devices,
            ..Request::default()
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request, "{text}");
    }

    #[test]
    fn what_was_not_asked_for_is_not_written_but_for_networks() {
        let text = serde_json::to_string(&Request::default()).unwrap();
        let namespaces = serde_json::to_string(&Namespaces::default()).unwrap();
        assert_eq!(text, format!("{{\"root\":{{\"image\":\"\"}},\"namespaces\":{namespaces}}}"));
        assert!(namespaces.contains("\"network\":"));
    }
}
