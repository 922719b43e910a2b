//! Names of containers: the domain name system of networks.
//!
//! Each network that a user has made has one confined helper, the program `bulkdns`, which answers what its containers ask:
//!
//! ```text
//! container's namespace        host's namespace
//!   program ─ 127.0.0.11:53 ─┐
//!                            ├─ sockets, made by `open` ─┐
//!                                                        ├─ bulkdns ── host's resolvers
//!                                 DIRECTORY/ID.json ─────┘    └─ socket: serve, stay, leave
//! ```
//!
//! Whoever starts a container writes the tables of its networks ([`Table::write`]), makes the sockets ([`open`]), has a helper there
//! ([`ensure`]), and gives it the sockets ([`Connection::serve`]). The helper holds them, and with them the container's namespace, until
//! the monitor's connection or process ends; it ends itself when it has served nobody for a while. What is no name of a container is
//! asked of the host's resolvers, from the host's network.
//!
//! `docs/decisions/0009-names.md` says why it is so.

pub mod book;
mod client;
mod confine;
pub mod message;
mod network;
mod program;
pub mod protocol;
mod resolvers;
mod server;
mod shelf;
mod sockets;
mod stamp;
mod table;

pub use client::{Connection, Helper, Until, end, ensure, is_served};
pub use program::run;
pub use resolvers::is_asking_itself;
pub use sockets::{ADDRESS, Sockets, open};
pub use table::{GROUP, Link, Member, Table};
