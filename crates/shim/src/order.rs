//! What a monitor is to do: written by the engine before the monitor starts, and read by it then. Who serves the container from outside may change
//! while it runs: then the order is written anew, and the monitor is told to read that of it again ([`ToMonitor::Companions`](crate::protocol::ToMonitor)).

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::protocol::Size;
use crate::status::Process;
use crate::users::Users;

/// The newest version of this document that is known here. A monitor refuses one that is newer than it knows, so what one
/// would do wrong that does not know a field raises the version of those orders that have it, and of no others: a monitor of
/// yesterday goes on to start what it can.
pub const VERSION: u32 = 6;

/// `order.json`: all that a monitor knows of its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The oldest whose readers do all that is said here ([`Order::oldest_version`]).
    pub version: u32,
    /// The container's id, as the runtime gets it.
    pub id: String,
    /// The runtime's program and the arguments before its verb, such as `--root`.
    pub runtime: Vec<String>,
    /// The OCI bundle.
    pub bundle: PathBuf,
    /// `linux.cgroupsPath` of the bundle, if it is an absolute path: a container that ends at once is gone before the
    /// monitor can ask where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// A root that the runtime cannot mount itself: the monitor mounts it in a mount namespace of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// What the runtime would not find by a path that can be trusted: the monitor mounts it there, in a mount namespace of
    /// its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// What the container shares with others of its pod: the monitor holds it for as long as it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
    /// Namespaces of containers that run: the monitor opens those that they have then before each start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<JoinedNamespace>,
    /// Whether the process has a terminal, which `config.json` says too.
    pub terminal: bool,
    /// The size of the terminal when it comes. `config.json` says it, too, but not every runtime reads that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// What becomes of the standard input.
    pub stdin: Stdin,
    /// Where output is kept.
    pub log: Log,
    /// Where the monitor writes its [`Status`](crate::Status).
    pub status: PathBuf,
    /// What follows an end.
    pub restart: Restart,
    /// How often the container was started again by that before this monitor. One that does not know it counts anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// What tells whether the container is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How it is stopped.
    pub stop: Stop,
    /// A process outside that serves the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub companion: Option<Companion>,
    /// More of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Companion>,
    /// Those that hear of no monitor. One that does not know this does nothing wrong: it starts none of them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recorded: Vec<RecordedCompanion>,
    /// What is executed when the container has ended for good and no client has taken its end over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_end: Vec<String>,
}

impl Order {
    /// Reads an order.
    ///
    /// # Errors
    /// A file that cannot be read, is no order, or is one of a later version.
    pub fn read(path: &Path) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let text = std::fs::read(path)?;
        let bad = |error: serde_json::Error| Error::new(ErrorKind::InvalidData, error);
        let Version { version } = serde_json::from_slice(&text).map_err(bad)?;
        if version > VERSION {
            let sentence = format!("it is of version {version}, and this program knows none after {VERSION}");
            return Err(Error::new(ErrorKind::InvalidData, sentence));
        }
        serde_json::from_slice(&text).map_err(bad)
    }

    /// Writes the order into a new file, which only its owner can read, and puts that in the place of an older one.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        crate::replace::with_json(path, self)
    }

    /// Returns the oldest version whose readers do all that is said here.
    #[must_use]
    pub fn oldest_version(&self) -> u32 {
        // The fifth stays with one companion.
        if !self.companions.is_empty() {
            return 6;
        }
        // The fourth stays with no companion.
        if self.companion.is_some() {
            return 5;
        }
        // The third makes memory that nobody may use where SELinux is.
        if self
            .shared
            .as_ref()
            .and_then(|shared| shared.memory.as_ref())
            .is_some_and(|memory| memory.label.is_some())
        {
            return 4;
        }
        // The second knows no pod with users of its own.
        if self.shared.as_ref().is_some_and(|shared| shared.users.is_some()) {
            return 3;
        }
        // The first joins nothing of others anew, and believes a file whoever holds it.
        let names_other = |part: &Part| matches!(part.of, Whole::Container(_));
        let names_holder = |shared: &Shared| shared.namespaces.iter().any(|of| of.holder.is_some());
        let is_second = !self.joined.is_empty()
            || self.parts.iter().any(names_other)
            || self.shared.as_ref().is_some_and(names_holder);
        if is_second { 2 } else { 1 }
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// A process outside that serves a container, such as one that answers for names or carries its ports. The monitor stays connected with it as long as
/// the container lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// Where it listens (`SOCK_SEQPACKET`).
    pub socket: PathBuf,
    /// The message that is sent to it.
    pub greeting: String,
    /// A program with its words that has it serve the container again, when it has died.
    pub revive: Vec<String>,
}

/// A process outside that serves a container as long as it lives, and that is a program of others, such as one that carries its packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCompanion {
    /// The file in which whoever starts it writes which [`Process`] it is.
    pub file: PathBuf,
    /// A program with its words that has it serve the container again, when it has died.
    pub revive: Vec<String>,
}

/// An overlay for a runtime other than ours (overlayfs in the kernel's documentation).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Lower layers, the topmost first.
    pub lower: Vec<PathBuf>,
    /// The writable layer.
    pub upper: PathBuf,
    /// The work directory, on the file system of `upper`.
    pub work: PathBuf,
    /// Where it is mounted: the bundle's root.
    pub at: PathBuf,
    /// Nothing of it is ever synced to the disk (overlayfs's option `volatile`, since Linux 5.10).
    #[serde(default)]
    pub volatile: bool,
}

/// A file or directory that is looked up inside something which containers can change, and used as a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Inside what.
    pub of: Whole,
    /// Its path there.
    pub path: PathBuf,
    /// Where it is mounted for the runtime: made by the monitor, in the directory of the order.
    pub at: PathBuf,
}

/// What a [`Part`] is a part of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whole {
    /// A directory of the host's.
    Directory(PathBuf),
    /// The root of another container as it runs when this one is started, with all that is mounted there.
    Container(Other),
    /// The root of a process of another container. Nobody writes it any more; orders of version 1 have it whose container
    /// runs since then, or was ordered by a program that was exchanged at that moment.
    Process(Process),
}

/// Another container, of which only its own monitor knows which process it has at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// What people call it.
    pub name: String,
    /// Where its monitor writes its [`Status`](crate::Status).
    pub status: PathBuf,
}

/// A namespace of another container. The monitor holds it by a descriptor to which a link in its run directory leads
/// ([`place::joined`](crate::place::joined)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedNamespace {
    /// Its kind.
    pub kind: NamespaceKind,
    /// Whose it is.
    pub of: Other,
}

/// Namespaces that several containers are in. The monitor makes or opens each before the runtime is called, and holds it by
/// a descriptor to which a link in its run directory leads ([`place::namespace`](crate::place::namespace)), so that it
/// outlives the container's processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The namespaces.
    pub namespaces: Vec<SharedNamespace>,
    /// The ids of the pod's own user namespace, to which its other namespaces belong. Without it they belong to the host's
    /// users, which takes root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Users>,
    /// The host name that a new UTS namespace gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Kernel parameters that are set in new namespaces: names with dots, and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<(String, String)>,
    /// The `/dev/shm` that goes with an IPC namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<SharedMemory>,
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedNamespace {
    /// Its kind.
    pub kind: NamespaceKind,
    /// A file by which another process holds it; without one it is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// That process: the file is its own as long as it lives, and may be anything afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Process>,
}

/// A kind of namespace that containers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NamespaceKind {
    /// Network devices, addresses, ports.
    Network,
    /// System V IPC objects and message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Processes. It is never made by a monitor, since it lives no longer than its first process.
    Pid,
    /// Users. One that is made with a container has no other; a pod has one if it has users of its own.
    User,
    /// What is mounted in a namespace of its own, and nothing else: the `/dev/shm` of a pod with users of its own.
    Memory,
}

/// A file system in memory that is mounted in the monitors' own mount namespaces and nowhere else; that of a pod with users
/// of its own in a [`NamespaceKind::Memory`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedMemory {
    /// Its bytes at most.
    pub size: u64,
    /// The process and its run directory that has it; without one it is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<(Process, PathBuf)>,
    /// The SELinux context of all files in it, when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// What becomes of a container's standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdin {
    /// It is `/dev/null`.
    Closed,
    /// It is open, and ends when the first client that was attached goes (docker's `StdinOnce`).
    Once,
    /// It stays open, whoever comes and goes.
    Open,
}

/// Where the journal listens (systemd-journald.service(8)).
pub const JOURNAL: &str = "/run/systemd/journal/socket";

/// Where output is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "driver")]
pub enum Log {
    /// Docker's json-file: a line of JSON for each line of output.
    JsonFile {
        /// The newest file; older ones have `.1`, `.2` … appended.
        path: PathBuf,
        /// Bytes after which a new file begins; 0 means never.
        max_size: u64,
        /// How many files are kept, at least 1.
        max_file: u32,
        /// What each line says besides, by names.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        attributes: BTreeMap<String, String>,
    },
    /// The journal of systemd.
    Journald {
        /// Fields of each entry besides `MESSAGE`, `PRIORITY` and `CONTAINER_PARTIAL_MESSAGE`, such as `CONTAINER_NAME`,
        /// `CONTAINER_ID`, `CONTAINER_TAG` and `SYSLOG_IDENTIFIER`, by their names.
        fields: Vec<(String, String)>,
    },
    /// Nothing is kept.
    None,
}

/// What follows an end of the process (docker's restart policies).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "policy")]
pub enum Restart {
    /// It stays ended.
    No,
    /// It is started again when its code is not 0.
    OnFailure {
        /// How often at most; 0 means without end.
        maximum: u32,
    },
    /// It is started again, unless it was stopped; and when the machine boots.
    Always,
    /// As `Always`, but at boot only when it had not been stopped.
    UnlessStopped,
}

/// A command that runs in the container now and then (docker's `HEALTHCHECK`). All times are nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// From the end of one check to the next.
    pub interval: u64,
    /// How long one may take.
    pub timeout: u64,
    /// How long failures do not count after a start.
    pub start_period: u64,
    /// The interval during the start period.
    pub start_interval: u64,
    /// How many failures in a row make it unhealthy.
    pub retries: u32,
    /// What is done then.
    pub on_failure: OnUnhealthy,
}

/// What is done with an unhealthy container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnhealthy {
    /// It is only said.
    None,
    /// It is killed; its restart policy applies.
    Kill,
    /// It is stopped and started again.
    Restart,
    /// It is stopped for good.
    Stop,
}

/// How a container is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The signal that asks it to end.
    pub signal: i32,
    /// Seconds after which SIGKILL follows.
    pub grace: u64,
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    /// What programs before 2026-11-29 write for a container that shares IPC with others and has a part of a volume.
    const OF_YESTERDAY: &str = r#"{"version":1,"id":"0123","runtime":["/usr/bin/bulkrun","--root","/run/bulkhead/runtime/bulkrun"],
        "bundle":"/run/bulkhead/containers/0123/bundle","cgroup":"/bulkhead/0123",
        "parts":[{"of":{"process":{"pid":4711,"start":815}},"path":"/dev/shm","at":"/run/bulkhead/containers/0123/parts/0"},
                 {"of":{"directory":"/var/lib/bulkhead/volumes/data/data"},"path":"a","at":"/run/bulkhead/containers/0123/parts/1"}],
        "shared":{"namespaces":[{"kind":"ipc","from":"/proc/4711/ns/ipc"}]},
        "terminal":false,"stdin":"closed","log":{"driver":"none"},"status":"/var/lib/bulkhead/containers/0123/status.json",
        "restart":{"policy":"no"},"stop":{"signal":15,"grace":10}}"#;

    fn order() -> Order {
        serde_json::from_str(OF_YESTERDAY).unwrap()
    }

    #[test]
    fn an_order_of_yesterday_is_read() {
        let scratch = Scratch::new();
        let path = scratch.path().join("order.json");
        std::fs::write(&path, OF_YESTERDAY).unwrap();
        let order = Order::read(&path).unwrap();
        assert_eq!(order.parts[0].of, Whole::Process(Process { pid: 4711, start: 815 }));
        assert!(order.joined.is_empty());
    }

    #[test]
    fn an_order_is_of_the_oldest_version_whose_readers_obey_it() {
        let db = || Other { name: "db".into(), status: "/status.json".into() };
        let joined = vec![JoinedNamespace { kind: NamespaceKind::Ipc, of: db() }];
        let part = Part { of: Whole::Container(db()), ..order().parts.remove(0) };
        let mut held = order();
        held.shared.as_mut().unwrap().namespaces[0].holder = Some(Process { pid: 4711, start: 815 });
        let mut of_users = held.clone();
        of_users.shared.as_mut().unwrap().users = Some(Users { uids: Vec::new(), gids: Vec::new() });
        let mut labelled = held.clone();
        labelled.shared.as_mut().unwrap().memory =
            Some(SharedMemory { size: 1, from: None, label: Some("label".into()) });
        let companion = Companion { socket: "/names".into(), greeting: "stay".into(), revive: Vec::new() };
        for (order, version) in [
            (order(), 1),
            (Order { joined, ..order() }, 2),
            (Order { parts: vec![part], ..order() }, 2),
            (held, 2),
            (of_users, 3),
            (labelled, 4),
            (Order { companion: Some(companion.clone()), ..order() }, 5),
            (Order { companions: vec![companion], ..order() }, 6),
        ] {
            assert_eq!(order.oldest_version(), version, "{order:?}");
        }
    }

    #[test]
    fn an_order_of_tomorrow_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.path().join("order.json");
        std::fs::write(&path, OF_YESTERDAY.replace("\"version\":1", "\"version\":7")).unwrap();
        let error = Order::read(&path).unwrap_err().to_string();
        assert_eq!(error, "it is of version 7, and this program knows none after 6");
    }
}
