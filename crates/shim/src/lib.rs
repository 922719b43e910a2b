//! The program `bulkmon`, which stays with one container, and how others talk to it.
//!
//! What it is to do stands in an [`Order`], what happened in a [`Status`]: two files, each with one writer. `docs/engine.md`
//! has their places and the life of a container.

pub mod order;
pub mod status;

pub use order::Order;
pub use status::Status;
