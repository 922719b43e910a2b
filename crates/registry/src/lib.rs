//! A client of the OCI distribution API: it resolves names, and pulls and pushes blobs as streams.
//!
//! It knows nothing of how images are kept: whoever calls it takes the bytes. It blocks; several layers at once are
//! several threads ([`in_parallel`]). docs/decisions/0006-http.md says why.
//!
//! # Vocabulary
//! - A [`Name`] is a name in full. What was typed becomes one by [`Registries::meaning`].
//! - An *endpoint* is where a name is asked for: its registry, or a mirror of it ([`Registries::endpoints`]).
//! - A [`Document`] is what stands behind a name: a [`Manifest`], or an [`Index`] of them.
//! - A [`Descriptor`] promises digest and size of a blob; a [`Blob`] is the stream that keeps it.
//!
//! # Life of a pull
//! ```no_run
//! use std::io::Read as _;
//!
//! use bulkhead_registry::{Client, Configuration, Platform, in_parallel};
//!
//! let client = Client::new(Configuration::of_user(|name| std::env::var_os(name))?);
//! let image = client.find("alpine:3.22", &Platform::host())?;
//! let most = std::num::NonZeroUsize::MIN.saturating_add(2);
//! in_parallel(&image.manifest.layers, most, |layer| {
//!     let mut blob = client.blob(&image, layer)?;
//!     std::io::copy(&mut blob, &mut std::io::sink()) // fails if digest or size are not those that were promised
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Life of a push
//! [`Client::push`], [`Push::blob`] for the configuration and each layer, [`Push::manifest`] last.
//!
//! # What holds
//! - Nothing is read without a bound: manifests and tokens have one, blobs the size that was promised.
//! - What proves who we are goes to the registry and to its token service, and to nobody whom they redirect to.
//! - Without TLS, or with a certificate that nobody trusts, only those are talked to who are configured so
//!   (`insecure`), and this machine itself.
//! - What a registry says is shown in one line without control characters.

mod blob;
pub mod challenge;
mod client;
mod configuration;
pub mod credentials;
mod download;
mod error;
mod files;
mod http;
mod keys;
mod manifest;
mod message;
mod parallel;
mod proxy;
mod push;
pub mod registries;
mod resolve;
mod trust;

pub use blob::Blob;
pub use bulkhead_image::{DOCKER, Digest, Name, Platform, PlatformError};
pub use client::Client;
pub use configuration::{Configuration, Patience};
pub use credentials::{Credentials, Keeper, Login};
pub use error::{Error, Result};
pub use manifest::{Descriptor, Document, Index, LONGEST as LONGEST_MANIFEST, Manifest, index, media_type};
pub use parallel::in_parallel;
pub use proxy::Proxies;
pub use push::{Opener, Push, Pushed};
pub use registries::Registries;
pub use resolve::Resolved;
