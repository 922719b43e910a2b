//! Against the kernel: cgroups made, limited, joined and removed on this machine.
//!
//! Every test works below a directory of its own, whose name holds `bh-`, and leaves nothing.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its preparation fails")]

mod rights;
mod scratch;
mod v1;
mod v2;
mod v2_limits;
mod watch;
