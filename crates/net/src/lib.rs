//! Networks of containers.
//!
//! A container's network is a namespace of its own with devices that lead out of it. This crate makes those devices, chooses
//! the addresses, and keeps the rules by which packets get from one side to the other, by netlink(7) alone: no program is
//! started but those of networks from elsewhere, and each change of the rules is one transaction.
//!
//! - [`pool`] chooses subnets and addresses; pure.
//! - [`device`] lists, makes and joins network devices, addresses and routes of one namespace.
//! - [`bridge`] is what containers are connected with.
//! - [`overlap`] finds what the host has of a network's addresses, too.
//! - [`nft`] writes transactions for the kernel's packet filter.
//! - [`uplink`] has answers come back.
//! - [`firewall`] finds who stands in the way.
//! - [`flow`] has the kernel forget connections.
//! - [`cni`] has programs of others attach containers to networks of theirs.
//! - [`names`] answers for what containers are called.
//! - [`proxy`] carries to containers what comes to ports of the host, where that is not the packet filter's business.
//! - [`rules`] is the one table that a store of containers has there.

mod attendant;
pub mod bridge;
pub mod cni;
pub mod device;
mod error;
pub mod firewall;
pub mod flow;
pub mod names;
pub mod nft;
pub mod overlap;
pub mod pool;
pub mod proxy;
pub mod rules;
pub mod uplink;

pub use error::{Error, Result};
