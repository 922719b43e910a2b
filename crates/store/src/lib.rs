//! Images, layers and records of one host: content-addressed blobs, unpacked layers, and a database of names.
//!
//! `docs/engine.md` has the vocabulary, the places on disk, and the order in which files and rows come and go.
//!
//! # Life cycle
//! ```text
//! Places::of_user ── Store::open ─┬─ load, save, image, images, tag, remove_image     images
//!                                 ├─ lease ── layer, image, commit                    images that come into being
//!                                 ├─ insert_container … delete_container              records
//!                                 ├─ insert_volume … delete_volume, record_event
//!                                 └─ collect, check, usage                            the whole
//! ```
//! A [`Store`] is cheap to open: every command opens one, and several processes use the same files at once. What one
//! has written, the others see with their next call.
//!
//! # Example
//! ```no_run
//! use bulkhead_store::{ContainerRecord, Durability, Name, Places, Store};
//!
//! let store = Store::open(&Places::of_user()?)?;
//! let image = store.image("alpine:3.22")?;
//! let record = ContainerRecord::new("0123456789ab", "web", Some(image.id));
//! store.insert_container(&record, &[], Durability::PowerLoss, None)?;
//!
//! // Later, from another process: one at a time changes it, and all of it or nothing.
//! store.update_container(&record.id, Durability::Process, |record| {
//!     record.document = "{}".into();
//!     Ok(None)
//! })?;
//!
//! let removal = store.begin_removal(&record.id, Durability::Process, |_| Ok(None))?;
//! // … its directories …
//! store.delete_container(&removal.record.id, None)?;
//! # Ok::<(), bulkhead_store::Error>(())
//! ```

mod arrived;
mod blob;
mod check;
mod collect;
mod commit;
mod configuration;
mod container;
mod database;
mod error;
mod event;
mod image;
mod intake;
pub mod layer;
mod lease;
mod load;
pub mod manifest;
mod network;
mod places;
mod pod;
mod remove;
mod save;
mod store;
mod trash;
mod tree;
mod usage;
mod volume;

pub use blob::BlobWriter;
pub use bulkhead_image::{Digest, DigestError, Name, NameError, Platform};
pub use check::{Depth, Finding, Mend, Outcome};
pub use collect::Collected;
pub use commit::{Committed, NewImage, Origin};
pub use configuration::{Configuration, Defaults, Empty, Healthcheck, History, RootFs};
pub use container::{Among, ContainerRecord, Removal, Stage};
pub use database::Durability;
pub use error::{Error, Kind, Noun, Result};
pub use event::{Event, Subject};
pub use image::{Image, Layer};
pub use intake::Expected;
pub use lease::Lease;
pub use load::{Progress, Watcher};
pub use network::{Connected, Endpoint, NetworkRecord};
pub use places::{MARKER, Places};
pub use pod::PodRecord;
pub use remove::{Force, Removed};
pub use save::Format;
pub use store::Store;
pub use tree::{Below, Measure, room, walk};
pub use usage::{ImageUsage, Usage, VolumeUsage};
pub use volume::VolumeRecord;
