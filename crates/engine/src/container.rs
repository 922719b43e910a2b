//! A container as its callers see it: what was asked for, and what its monitor saw.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bulkhead_shim::status::Health;
use bulkhead_store::{Digest, Places};

use crate::document::Document;
use crate::known::Known;
use crate::logs;
use crate::request::{Log, Request};
use crate::runtime::OURS;
use crate::{id, request};

/// A container. All times are nanoseconds since 1970 (UTC).
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image as it was asked for; for a root of its own the directory.
    pub image: String,
    /// The image's id; a root of its own has none.
    pub image_id: Option<Digest>,
    /// When it was made.
    pub created: u64,
    /// What it does.
    pub state: State,
    /// Its first process on the host, while there is one.
    pub pid: Option<i32>,
    /// When it was started last.
    pub started: Option<u64>,
    /// When it ended last.
    pub finished: Option<u64>,
    /// The code of its last end; 255 when nobody saw it.
    pub exit_code: Option<u8>,
    /// Whether nobody saw that end: then `finished` is when it was noticed, if it was.
    pub lost: bool,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// Why its last start failed, or why nobody saw its end.
    pub error: Option<String>,
    /// How often its policy started it again.
    pub restarts: u32,
    /// How it is, when something tells.
    pub health: Option<Health>,
    /// What was asked for.
    pub request: Request,
    /// The labels of the image and of the request.
    pub labels: BTreeMap<String, String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// What is mounted in it besides what each container has.
    pub mounts: Vec<MountPoint>,
    /// The runtime's name or path.
    pub runtime: String,
    /// The id of the pod that it is in.
    pub pod: Option<String>,
    /// The newest file of its log.
    pub log: Option<PathBuf>,
    /// Its directory.
    pub directory: PathBuf,
}

/// Something that is mounted in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// What it is.
    pub kind: MountKind,
    /// The name of a volume.
    pub name: Option<String>,
    /// Where it is on the host; nothing for a file system in memory.
    pub source: Option<PathBuf>,
    /// Where it is in the container.
    pub destination: String,
    /// What may be done to it.
    pub access: request::Access,
    /// How mounts on either side of a bind are seen on the other.
    pub propagation: Option<request::Propagation>,
}

/// A kind of mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind,
    /// A volume.
    Volume,
    /// A file system in memory.
    Tmpfs,
}

impl Container {
    /// Returns the digits of the id that people are shown.
    pub fn short_id(&self) -> &str {
        id::short(&self.id)
    }

    pub(crate) fn of(known: Known, places: &Places) -> Self {
        let Known { record, document, status, life } = known;
        let directory = places.container(&record.id);
        let status = status.as_ref();
        let log = matches!(document.request.log, Log::JsonFile { .. }).then(|| directory.join(logs::FILE));
        Self {
            image: document.image(),
            image_id: record.image,
            created: u64::try_from(record.created).unwrap_or(0),
            state: life.state,
            pid: life.process.map(|process| process.pid),
            started: status.and_then(|status| status.started),
            finished: status.and_then(|status| status.finished),
            exit_code: life.exit_code,
            lost: life.lost.is_some(),
            oom_killed: status.is_some_and(|status| status.oom_killed),
            error: life.error,
            restarts: status.map_or(0, |status| status.restarts),
            health: status.and_then(|status| status.health.clone()),
            mounts: mounts(&document, places),
            runtime: document.request.runtime.clone().unwrap_or_else(|| OURS.to_owned()),
            request: document.request,
            labels: document.labels,
            command: document.command,
            log,
            directory,
            pod: record.pod,
            id: record.id,
            name: record.name,
        }
    }
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It was never started, or its first start failed.
    Created,
    /// Its process is being made.
    Starting,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It has ended and waits to be started again by its policy.
    Restarting,
    /// It has ended.
    Exited,
    /// Its parts go.
    Removing,
}

impl State {
    /// Tells whether it has processes, or will have without anybody's doing.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Paused | Self::Restarting)
    }
}

impl fmt::Display for State {
    /// Writes docker's words, which have none for a process that is being made.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created | Self::Starting => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
        })
    }
}

/// What is mounted, by kind and place.
fn mounts(document: &Document, places: &Places) -> Vec<MountPoint> {
    let point = |mount: &request::Mount| {
        let mut propagation = None;
        let (kind, name, source) = match &mount.kind {
            request::MountKind::Bind(bind) => {
                propagation = Some(bind.propagation.unwrap_or(request::Propagation::RecursivePrivate));
                (MountKind::Bind, None, Some(bind.source.clone()))
            }
            request::MountKind::Tmpfs(_) => (MountKind::Tmpfs, None, None),
            request::MountKind::Volume(volume) => {
                let source = volume.name.as_deref().map(|name| places.volume(name).join("data"));
                (MountKind::Volume, volume.name.clone(), source)
            }
        };
        let destination = mount.destination.clone();
        MountPoint { kind, name, source, destination, access: mount.access, propagation }
    };
    document.mounts.iter().map(point).collect()
}
