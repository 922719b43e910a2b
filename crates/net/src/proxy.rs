//! Ports of the host whose connections a program carries to a container.
//!
//! Each container that has such ports has one confined helper, the program `bulkproxy`, between two connections:
//!
//! ```text
//! somebody ──▶ host's port ─ bulkproxy ──▶ container's address and port
//!                  │            │
//!        bound by `listen`    socket: as long as somebody is connected there, it stays
//! ```
//!
//! Whoever starts a container binds its ports ([`listen`]), which fails where they are somebody's, and hands them over
//! ([`Helper::start`]). The helper says nothing and is told nothing: it ends when nobody has been connected to its socket for a
//! while, as the container's monitor is, or when it is killed ([`end`]).
//!
//! It also holds ports to which the packet filter leads ([`hold`]), so that no program of the host listens there in vain.
//!
//! So packets to these ports are the host's own, which its rules for input are about, and the container sees the host's address in its
//! network instead of who has sent them. `docs/decisions/0010-ports.md` says why there are two ways.

mod confine;
mod listen;
mod program;
mod server;
mod sources;
mod start;

pub use listen::{hold, listen};
pub use program::run;
pub use start::{Begun, Helper, Ports, Route, end, find};
