//! The root of a container as a program of the host sees it: through the layers of its image, or as an overlay that is mounted
//! nowhere.
//!
//! Nothing of an image ever runs or is loaded here, and no path of one is given to the kernel as a string: names are looked up
//! one by one, or inside the root (ARCHITECTURE.md, invariant 4).

mod assembled;
mod file;
mod layers;
mod overlay;
mod running;

pub(crate) use assembled::{Assembled, Attached, Shown, assemble};
pub(crate) use file::read;
pub(crate) use layers::Layers;
pub(crate) use overlay::{Upper, mount};
pub(crate) use running::{of_process, own_users};
