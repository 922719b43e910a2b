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
pub mod request;

pub use error::{Error, Kind, Noun, Result};
