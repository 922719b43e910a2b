//! Layers: archives that become trees of files, and trees that become archives.
//!
//! # Vocabulary
//! A layer's *archive* is a tar file, plain or compressed; the digest of the plain one is the layer's *diff id*. Its
//! *tree* is a directory in the form that overlayfs reads: a deleted file is a character device 0/0 (*whiteout*), and a
//! directory that hides those of lower layers has an attribute for that (*opaque*).
//!
//! # Life cycle
//! ```text
//! bytes of a registry ── Checked ──► unpack ──► tree ──► overlay mount        pull, load
//!                      digest, size    │ diff id          │
//!                                      ▼                  ▼
//!                            compared with the image   upper ──► changes      diff
//!                                                        └─────► pack         commit, save
//! ```
//! An archive comes from a stranger. Whatever it holds, nothing outside the directory it is unpacked into is read or
//! written, and one that means harm, or is broken, is refused with the name of the entry: see [`Error`].
//!
//! # Example
//! ```no_run
//! use std::fs::File;
//! use std::os::fd::AsFd as _;
//!
//! use bulkhead_store::layer::{Marks, Unpack, unpack};
//!
//! std::fs::create_dir("/tmp/layer")?;
//! let directory = File::open("/tmp/layer")?;
//! let unpacked = unpack(File::open("layer.tar.gz")?, directory.as_fd(), &Unpack::layer(Marks::Trusted))?;
//! println!("{}: {} files", unpacked.diff_id, unpacked.entries);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Decisions
//! - A slash before a name means nothing, and `..` in one is refused. A link on the way to an entry is followed inside
//!   the layer, as docker does it; one that climbs out of it or leads to nothing is refused.
//! - A later entry replaces an earlier one, with all below it, but for a directory that meets a directory.
//! - Extended headers for a whole archive are passed over, and so are `SCHILY.acl` and `LIBARCHIVE` records, as docker
//!   does; SELinux labels are the mount's.
//! - An attribute or a device that the caller may not make is left out and told ([`LeftOut`]).

pub mod archive;
mod attributes;
mod changes;
mod checked;
mod compression;
mod error;
mod limits;
mod listing;
mod overlay;
mod owner;
mod pack;
mod place;
mod remove;
mod stream;
mod tree;
mod unpack;
mod write;

pub use attributes::LeftOut;
pub use changes::{Change, ChangeKind, Compare, changes};
pub use checked::Checked;
pub use compression::{Compression, Decoder};
pub use error::{Error, Kind, Result};
pub use limits::Limits;
pub use overlay::Marks;
pub(crate) use overlay::is_whiteout;
pub use owner::{Owner, Owners};
pub use pack::{Kernels, Pack, Packed, is_kernels, pack, pack_one};
pub use remove::{empty, remove};
pub use unpack::{Existing, Form, Unpack, Unpacked, unpack, unpack_plainly};
