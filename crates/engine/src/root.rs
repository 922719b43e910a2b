//! The root of a container as a program of the host sees it: through the layers of its image, or as an overlay that is mounted
//! nowhere.
//!
//! Nothing of an image ever runs or is loaded here, and no path of one is given to the kernel as a string: names are looked up
//! one by one, or inside the root (ARCHITECTURE.md, invariant 4).

use std::io;
use std::path::Path;

use crate::error::Error;

mod assembled;
mod file;
mod layers;
mod overlay;
mod running;

pub(crate) use assembled::{Assembled, Attached, Shown, assemble};
pub(crate) use file::read;
pub(crate) use layers::Layers;
pub(crate) use overlay::{Upper, mount, mount_for_runtime};
pub(crate) use running::{of_process, own_users};

/// Says that a layer cannot be opened. That one of an image is not there is no fault of who asks.
pub(crate) fn unopened(layer: &Path, error: io::Error) -> Error {
    let name = layer.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("sha256-"));
    match name {
        Some(digest) if error.kind() == io::ErrorKind::NotFound => Error::Damaged {
            what: format!("layer sha256:{digest}"),
            reason: "its directory is gone".to_owned(),
        },
        _ => Error::System { doing: format!("open the root {}", layer.display()), source: error },
    }
}
