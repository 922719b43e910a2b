//! Layers: what is unpacked, what is refused, and what is packed again.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its preparation fails")]

mod builder;
mod changes;
mod forms;
mod hostile;
mod overlay;
mod packing;
mod real;
mod removal;
mod tree;
