//! Images, layers and records of one host: content-addressed blobs, unpacked layers, and a database of names.
//!
//! `docs/engine.md` has the vocabulary, the places on disk, and the order in which files and rows come and go.
//!
//! # Life cycle
//! ```text
//! Places::of_user ── Store::open ─┬─ image, images, tag, untag, lower        what is there
//!                                 ├─ insert_container … delete_container     records
//!                                 └─ insert_volume … delete_volume, record_event
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
//! store.insert_container(&record, &[], Durability::PowerLoss)?;
//!
//! // Later, from another process: one at a time changes it, and all of it or nothing.
//! store.update_container(&record.id, |record| record.document = "{}".into())?;
//!
//! let removal = store.begin_removal(&record.id)?;
//! // … its directories …
//! store.delete_container(&removal.record.id)?;
//! # Ok::<(), bulkhead_store::Error>(())
//! ```

mod blob;
mod configuration;
mod container;
mod database;
mod digest;
mod error;
mod event;
mod image;
pub mod layer;
mod name;
mod places;
mod store;
mod trash;
mod volume;

pub use configuration::{Configuration, Defaults, Empty, Healthcheck, History, RootFs};
pub use container::{ContainerRecord, Removal, Stage};
pub use database::Durability;
pub use digest::Digest;
pub use error::{Error, Kind, Noun, Result};
pub use event::{Event, Subject};
pub use image::{Image, Layer};
pub use name::{Name, NameError};
pub use places::Places;
pub use store::Store;
pub use volume::VolumeRecord;
