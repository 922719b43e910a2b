//! Images come and go: from registries, and to them.
//!
//! ```text
//! pull:  name ─► manifest ─► configuration ─┬─ layer ─► lease.layer ─┐
//!                                           ├─ layer ─► (is there)   ├─► image, names: all or none
//!                                           └─ layer ─► lease.layer ─┘
//! push:  image ─► layers and configuration that the registry has not got ─► manifest
//! ```
//! A few layers arrive at once, and each is unpacked while it arrives. What has arrived whole stays when the rest fails,
//! until the next garbage collection; the next pull finds it.

mod error;
mod missing;
mod pull;
mod push;

use std::num::NonZeroUsize;

pub use bulkhead_registry as registry;
pub use error::{Error, Result};
pub use missing::{Missing, Source, Step};
pub use pull::{Pull, Pulled};
pub use push::{PushedImage, push};

/// How many layers are moved at once unless another number is wanted; docker's.
pub const AT_ONCE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// What is known of a layer that is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move<'a> {
    /// The digest of its blob.
    pub blob: &'a str,
    /// The size of its blob in bytes.
    pub size: u64,
    /// How far it is.
    pub stage: Stage,
}

/// How far a layer is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its turn.
    Waiting,
    /// So many bytes of its blob were moved.
    Moving(u64),
    /// It was moved and, when it came, is unpacked.
    Complete,
    /// It was there already.
    Present,
}

/// Whoever wants to know how layers are moved, from several threads.
pub type Watch<'w> = dyn Fn(Move<'_>) + Sync + 'w;
