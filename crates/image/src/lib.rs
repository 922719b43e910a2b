//! What images are called by: names, digests and platforms. Pure; the store and the client of registries mean the same by
//! them.
//!
//! ```
//! use bulkhead_image::{Digest, Name, Platform};
//!
//! let name = Name::parse("alpine:3.22")?;
//! assert_eq!(name.to_string(), "docker.io/library/alpine:3.22");
//! assert_eq!(name.at(Digest::of(b"{}")).familiar_repository(), "alpine");
//! assert!(Platform::host().runs(&Platform::host()));
//! # Ok::<(), bulkhead_image::NameError>(())
//! ```

mod digest;
pub mod name;
mod platform;

pub use digest::{Digest, DigestError};
pub use name::{DOCKER, Name, NameError};
pub use platform::{Platform, PlatformError};
