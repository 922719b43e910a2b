//! Containers, pods, images and volumes of one host, as a library: what `bulkhead` types, and what the services of nodes
//! translate to.
//!
//! `docs/engine.md` has the vocabulary, the places on disk and the life of a container. The engine knows no wire format, and
//! does not link the runtime: a container is started by its monitor, with the OCI command line.

pub mod configure;
pub mod container;
mod error;
pub mod id;
pub mod name;
pub mod pod;
pub mod request;
pub mod transfer;

mod astray;
mod cgroups;
mod change;
mod check;
mod commit;
mod copy;
mod create;
mod diff;
mod document;
mod engine;
mod events;
mod exec;
mod fill;
mod filter;
mod finish;
mod hold;
mod host;
mod import;
mod info;
mod known;
mod label;
mod leftover;
mod life;
mod list;
mod logs;
mod mend;
pub mod network;
mod program;
mod prune;
mod recover;
mod remove;
mod root;
mod rootfs;
mod runtime;
mod session;
mod start;
mod stats;
mod stop;
mod top;
mod unit;
mod update;
mod usage;
mod users;
mod volume;
mod wait;
mod watch;

pub use bulkhead_shim::client::{Attachment, Event};
pub use bulkhead_shim::protocol::{Exit, Size, Then};
pub use bulkhead_shim::status::{Check, Health, Verdict};
pub use bulkhead_store as store;

pub use change::Change;
pub use commit::{Commit, NewImage, Pause};
pub use container::{Container, MountKind, MountPoint, State};
pub use copy::{Copied, CopyOwners, Files, Links, Spot, normal_path};
pub use create::Created;
pub use diff::Size as ContainerSize;
pub use engine::{Engine, Programs};
pub use error::{Error, Result};
pub use events::{Events, FILTERS as EVENT_FILTERS};
pub use exec::{Joined, Piped, Streams};
pub use filter::Filters;
pub use hold::Waiting;
pub use import::Import;
pub use info::Info;
pub use list::FILTERS as CONTAINER_FILTERS;
pub use logs::{Each, Entry, Follow, Logs, Stream};
pub use pod::{FILTERS as POD_FILTERS, Pod, PodRequest};
pub use prune::{Pruned, Unused};
pub use recover::Mended;
pub use remove::{Force, Removal, Volumes};
pub use session::{Attach, Session};
pub use start::{Made, Running, Started};
pub use stats::Sample;
pub use stop::{Grace, Stop};
pub use store::{Kind, Noun};
pub use top::Table;
pub use update::Update;
pub use usage::Usage;
pub use users::{IN_USERS, enter_users};
pub use volume::{DRIVER, FILTERS as VOLUME_FILTERS, Volume, VolumeRequest};
pub use wait::Until;
