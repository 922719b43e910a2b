//! Programs that others wrote, at work in the sandbox as people use them: a server and its client, or a benchmark alone.
//!
//! They lie in the sandbox's root, where `bulkhead measure run --heavy` puts them, and run as an ordinary user, since
//! PostgreSQL serves no other. Both ends are children of this process and end with it; their files are in a directory that
//! is removed. What the client printed becomes numbers here. A client that fails gives none.

use std::collections::BTreeMap;

use serde::Serialize;

use self::place::Room;
use crate::error::{Error, Result};

mod fio;
mod iperf3;
mod place;
mod postgresql;
mod program;
mod redis;

/// Numbers by their names.
type Amounts = Vec<(&'static str, f64)>;

/// A load by its name.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As on the command line.
    pub(crate) name: &'static str,
    /// What is done, for the help.
    pub(crate) says: &'static str,
    run: fn(&Room, u32) -> Result<Amounts>,
    /// What is done once in a root, before the first of all runs in it.
    prepare: Option<fn(&Room) -> Result<()>>,
}

/// All loads.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "redis", says: "redis-benchmark, 50 clients over loopback: SET, then GET", run: redis::run, prepare: None },
    Kind { name: "iperf3", says: "iperf3, one stream over loopback", run: iperf3::run, prepare: None },
    Kind { name: "fio-random-read", says: "fio reads 4 KiB at a time anywhere, past the page cache", run: |room, seconds| fio::run(room, seconds, &fio::RANDOM_READ), prepare: None },
    Kind { name: "fio-random-write", says: "fio writes 4 KiB at a time anywhere, past the page cache", run: |room, seconds| fio::run(room, seconds, &fio::RANDOM_WRITE), prepare: None },
    Kind { name: "fio-write", says: "fio writes 1 MiB at a time, one after the other, past the page cache", run: |room, seconds| fio::run(room, seconds, &fio::WRITE), prepare: None },
    Kind { name: "postgresql", says: "sysbench's oltp_read_write on PostgreSQL, 4 clients over a unix socket", run: postgresql::run, prepare: Some(postgresql::prepare) },
];

/// A load to be done.
#[derive(Debug)]
pub(crate) struct Order {
    /// Which.
    pub(crate) kind: &'static Kind,
    /// How long the client works, seconds.
    pub(crate) seconds: u32,
    /// Whether all it does is to prepare the root.
    pub(crate) is_preparing: bool,
}

/// The line that a load prints.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    heavy: &'static str,
    amounts: BTreeMap<&'static str, f64>,
}

/// Does a load.
pub(crate) fn run(order: &Order) -> Result<Line> {
    let Kind { name, run, prepare, says: _ } = order.kind;
    place::enter()?;
    let room = Room::make()?;
    let amounts = match (order.is_preparing, prepare) {
        (false, _) => run(&room, order.seconds)?,
        (true, Some(prepare)) => prepare(&room).map(|()| Vec::new())?,
        (true, None) => return Err(Error::Usage(format!("--prepare: {name} needs nothing"))),
    };
    match amounts.iter().find(|(_, amount)| !amount.is_finite() || *amount <= 0.0) {
        Some((what, amount)) => Err(Error::Wrong(format!("{name} did nothing: {what} is {amount}"))),
        None => Ok(Line { heavy: name, amounts: amounts.into_iter().collect() }),
    }
}
