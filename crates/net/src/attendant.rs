//! What the programs have in common that serve containers from outside (`bulkdns`, `bulkproxy`): how they are found, what they wait
//! for, and what they give up before they hear a stranger.

mod confine;
mod poll;
mod slab;
mod socket;
mod speech;

pub(crate) use confine::{Confinement, allow, confine, equal, masked, sending};
pub(crate) use poll::{Poll, Timers};
pub(crate) use slab::{Slab, Token};
pub(crate) use socket::{PATIENCE, Place};
pub(crate) use speech::{complain, print};
