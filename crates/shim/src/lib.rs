//! The program `bulkmon`, which stays with one container, and how others talk to it.
//!
//! What it is to do stands in an [`Order`], what happened in a [`Status`]: two files, each with one writer. Whoever wants
//! something of it while it lives says so through its socket, in the [`protocol`] that [`client`] speaks.
//! `docs/engine.md` has the places of the files and the life of a container, `docs/bulkmon.md` the monitor's.

mod causes;
pub mod client;
mod clock;
mod hold;
mod identity;
mod init;
pub mod limited;
mod log;
mod monitor;
pub mod order;
pub mod place;
mod program;
pub mod protocol;
mod ready;
mod reaper;
pub mod replace;
pub mod socket;
pub mod status;
pub mod users;

pub use causes::chain;
pub use order::Order;
pub use program::run;
pub use status::Status;
