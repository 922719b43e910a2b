//! What can go wrong, in words a user can act on.

use std::io;
use std::path::PathBuf;

use bulkhead_net::cni;
pub(crate) use bulkhead_shim::chain;
use bulkhead_shim::client;
use bulkhead_store::{self as store, Kind, Noun};
use rustix::io::Errno;

use crate::container::State;
use crate::pod;
use crate::request;

/// The result of an operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation. `Display` names the object; the cause is its `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Images, volumes or records refuse it.
    #[error(transparent)]
    Store(#[from] bulkhead_store::Error),
    /// A tree of files cannot be copied, packed or compared.
    #[error(transparent)]
    Layer(#[from] store::layer::Error),
    /// No container is called what was asked for, but one is called nearly that.
    #[error("no such container: {wanted}")]
    Mistyped {
        /// What was asked for.
        wanted: String,
        /// What was probably meant.
        similar: String,
    },
    /// No pod is called what was asked for, but one is called nearly that.
    #[error("no such pod: {wanted}")]
    MistypedPod {
        /// What was asked for.
        wanted: String,
        /// What was probably meant.
        similar: String,
    },
    /// No network is called what was asked for, but one is called nearly that.
    #[error("no such network: {wanted}")]
    MistypedNetwork {
        /// What was asked for.
        wanted: String,
        /// What was probably meant.
        similar: String,
    },
    /// Something that runs is connected with a network.
    #[error("cannot remove network {name}, with which {} connected", are(by))]
    NetworkInUse {
        /// The network's name.
        name: String,
        /// The names of what is connected with it.
        by: Vec<String>,
    },
    /// The kernel or the address pools refuse something of a network.
    #[error(transparent)]
    Net(#[from] bulkhead_net::Error),
    /// A network from elsewhere, or one of its plugins, refuses something.
    #[error(transparent)]
    Cni(Box<cni::Error>),
    /// What plugins have made cannot be taken back.
    #[error("take {what} away from network {network} (CNI)")]
    Attached {
        /// The device, and whose it is.
        what: String,
        /// The network's name.
        network: String,
        /// Where it is written down.
        record: PathBuf,
        /// Why it cannot.
        source: Box<cni::Error>,
    },
    /// Something was not done to all containers of a pod.
    #[error("cannot {operation} all containers of pod {name}: {}", listed(failed))]
    Pod {
        /// The verb.
        operation: &'static str,
        /// The pod's name.
        name: String,
        /// Those to which it was not done, and why.
        failed: Vec<pod::Failed>,
    },
    /// A pod has processes.
    #[error("cannot remove pod {name}, whose container {container} is {state}")]
    PodInUse {
        /// The pod's name.
        name: String,
        /// A container of it.
        container: String,
        /// What that does.
        state: State,
    },
    /// A monitor refuses it, or is gone.
    #[error(transparent)]
    Monitor(#[from] client::Error),
    /// The container's state forbids the operation.
    #[error("cannot {operation} container {name}, which is {state}")]
    State {
        /// The verb.
        operation: &'static str,
        /// The container's name.
        name: String,
        /// What it is.
        state: State,
    },
    /// It was sent SIGKILL, and goes on (docker's words).
    #[error("cannot kill container {name}: tried to kill container, but did not receive an exit event")]
    Survives {
        /// The container's name.
        name: String,
    },
    /// What was asked for cannot be.
    #[error("{what}: {reason}")]
    Invalid {
        /// The value, with the name that its user gave it.
        what: String,
        /// Why it cannot be and what could.
        reason: String,
    },
    /// What was typed is not what it should be.
    #[error(transparent)]
    Malformed(#[from] request::Malformed),
    /// The container's process could not be started.
    #[error("start container {name}: {reason}")]
    Start {
        /// The container's name.
        name: String,
        /// 126 when the program cannot be executed, 127 when it is not there, else 125.
        code: u8,
        /// The runtime's words.
        reason: String,
    },
    /// A process could not be started in a container.
    #[error("run a process in container {name}: {reason}")]
    NotJoined {
        /// The container's name.
        name: String,
        /// 126 when the program cannot be executed, 127 when it is not there.
        code: u8,
        /// The runtime's words.
        reason: String,
    },
    /// The runtime refused another operation.
    #[error("{verb} container {name}: {reason}")]
    Runtime {
        /// The runtime's verb.
        verb: &'static str,
        /// The container's name.
        name: String,
        /// The runtime's words.
        reason: String,
    },
    /// The machine refused something.
    #[error("{doing}")]
    System {
        /// What was being done, as a fragment: `write bundle of web`.
        doing: String,
        /// The call.
        source: io::Error,
    },
    /// A file of the engine cannot be used.
    #[error("{what}: {reason}")]
    Damaged {
        /// The file or record.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Returns what kind of error it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Mistyped { .. } | Self::MistypedPod { .. } | Self::MistypedNetwork { .. } => Kind::NotFound,
            Self::State { .. } | Self::PodInUse { .. } | Self::NetworkInUse { .. } => Kind::Conflict,
            Self::Invalid { .. } | Self::Malformed(_) => Kind::Invalid,
            Self::Damaged { .. } => Kind::Damaged,
            Self::Net(bulkhead_net::Error::Address { .. }) => Kind::Invalid,
            Self::Cni(error) => match **error {
                cni::Error::NotFound { .. } => Kind::NotFound,
                cni::Error::Config { .. } | cni::Error::Name { .. } | cni::Error::NoCapability { .. } => {
                    Kind::Invalid
                }
                _ => Kind::Failed,
            },
            Self::Net(_)
            | Self::Attached { .. }
            | Self::Layer(_)
            | Self::Start { .. }
            | Self::NotJoined { .. }
            | Self::Pod { .. }
            | Self::Runtime { .. }
            | Self::Survives { .. }
            | Self::System { .. }
            | Self::Monitor(_) => Kind::Failed,
        }
    }

    /// Returns the code with which `run`, `create` and `start` end: 126 for a program that cannot be executed, 127 for one
    /// that is not there, 125 for all else (docker's).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start { code, .. } | Self::NotJoined { code, .. } => *code,
            _ => 125,
        }
    }

    /// Returns what to do next, when that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            error if lacks_room(error) => Some(
                "make some room on that disk: `bulkhead system df` tells what images, containers and volumes take".into(),
            ),
            Self::Store(error) => of_store(error),
            Self::Mistyped { similar, .. } | Self::MistypedPod { similar, .. } => {
                Some(format!("did you mean {similar}?"))
            }
            Self::MistypedNetwork { similar, .. } => Some(format!("did you mean {similar}?")),
            Self::NetworkInUse { name, by } => {
                let stop = by.join(" ");
                let disconnect =
                    Vec::from_iter(by.iter().map(|by| format!("`bulkhead network disconnect {name} {by}`")));
                Some(format!("`bulkhead stop {stop}` first, or {}", disconnect.join(" and ")))
            }
            Self::Attached { record, .. } => Some(format!(
                "once that is mended the same command goes on; without {} it is forgotten, and stays where it is",
                record.display()
            )),
            Self::PodInUse { name, .. } => {
                Some(format!("`bulkhead pod stop {name}` first, or `bulkhead pod rm -f {name}`"))
            }
            Self::Layer(store::layer::Error::Machine { source, .. }) if source.errno() == Errno::ROFS => {
                Some("it can only be read there: choose another place, or make the container without `--read-only` or `:ro`".into())
            }
            Self::Layer(store::layer::Error::Machine { source, .. })
                if matches!(source.errno(), Errno::ACCESS | Errno::PERM) =>
            {
                Some("you may not do that there: choose files and directories of yours, or be root".into())
            }
            Self::Survives { name } => Some(format!(
                "a process that waits for a disk, a file server or a device ends when that answers: `bulkhead top {name} -o pid,stat,comm` shows it as D"
            )),
            Self::Damaged { what, .. } if what.starts_with("layer ") => {
                Some("`bulkhead system check` unpacks it again where its archive is there, `bulkhead pull` or `load` bring it else".into())
            }
            Self::State { operation: "remove", name, .. } => {
                Some(format!("`bulkhead stop {name}` first, or `bulkhead rm -f {name}`"))
            }
            Self::State { state: State::Restarting, name, .. } => Some(format!(
                "its policy starts it again in a moment: `bulkhead logs {name}` tells why it ends, `bulkhead stop {name}` has it stay so"
            )),
            Self::State { state: State::Paused, name, .. } => {
                Some(format!("`bulkhead unpause {name}` first"))
            }
            Self::State { state: State::Created | State::Exited, name, .. } => {
                Some(format!("`bulkhead start {name}` starts it"))
            }
            _ => None,
        }
    }
}

impl From<cni::Error> for Error {
    fn from(error: cni::Error) -> Self {
        Self::Cni(Box::new(error))
    }
}

/// What to do next about what the store refuses.
fn of_store(error: &store::Error) -> Option<String> {
    Some(match error {
        store::Error::NotFound { noun: Noun::Network, .. } => "`bulkhead network ls` lists networks".into(),
        store::Error::NameTaken { noun: Noun::Network, name, .. } => {
            format!("`bulkhead network rm {name}` removes it")
        }
        store::Error::NotFound { noun: Noun::Pod, .. } => "`bulkhead pod ps` lists pods".into(),
        store::Error::NameTaken { noun: Noun::Pod, name, .. } => {
            format!("`bulkhead pod rm {name}` removes it")
        }
        store::Error::NotFound { noun: Noun::Container, .. } => "`bulkhead ps -a` lists containers".into(),
        store::Error::NotFound { noun: Noun::Image, wanted } => {
            format!("`bulkhead images` lists those that are here, `bulkhead pull {wanted}` fetches it")
        }
        store::Error::NotFound { noun: Noun::Volume, .. } => "`bulkhead volume ls` lists volumes".into(),
        store::Error::NameTaken { noun: Noun::Container, name, .. } => {
            format!("`bulkhead rm {name}` removes it, `bulkhead rename {name} …` gives it another name")
        }
        store::Error::InUse { noun: Noun::Image, name, by } => format!(
            "`bulkhead rm -f {}` first, or `bulkhead rmi -f {name}`, which takes the names and leaves the rest to the containers",
            by.join(" ")
        ),
        store::Error::InUse { noun: Noun::Volume, by, .. } => format!(
            "`bulkhead rm -f {}` first: a volume outlives the containers that use it, also those that have ended",
            by.join(" ")
        ),
        store::Error::Damaged { .. } => {
            "`bulkhead system check --contents` tells what is damaged, and mends what can be".into()
        }
        _ => return None,
    })
}

/// Tells whether something had no room on a disk.
fn lacks_room(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let of_io = error.downcast_ref::<io::Error>().map(io::Error::kind);
        let of_call = error.downcast_ref::<bulkhead_sys::Error>().map(bulkhead_sys::Error::errno);
        if of_io == Some(io::ErrorKind::StorageFull) || of_call == Some(Errno::NOSPC) {
            return true;
        }
        cause = error.source();
    }
    matches!(error, Error::Store(error) if error.is_full())
}

fn are(names: &[String]) -> String {
    let all = names.join(", ");
    if names.len() == 1 { format!("container {all} is") } else { format!("containers {all} are") }
}

fn listed(failed: &[pod::Failed]) -> String {
    let of_each = failed.iter().map(|pod::Failed { name, error }| {
        let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{name}: {error}{source}")
    });
    Vec::from_iter(of_each).join("; ")
}

/// Says what was being done when a call failed.
pub(crate) trait Doing<T> {
    /// Turns the error of a call into one of the engine's.
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::System { doing: doing().into(), source })
    }
}

impl<T> Doing<T> for bulkhead_sys::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::System { doing: doing().into(), source: source.into() })
    }
}

impl<T> Doing<T> for std::result::Result<T, Errno> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::System { doing: doing().into(), source: errno.into() })
    }
}
