//! Whether something is left: takes a given amount, tells how much of it there was, and gives it back.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_sys::memory::{Counters, Region};
use bulkhead_sys::{self as sys, Call as _, offspring};
use serde::Serialize;

use crate::error::Result;
use crate::work::PAGE;
use crate::{scratch, this_program};

const MIB: usize = 1 << 20;

/// Something that can run out.
#[derive(Debug)]
pub(crate) struct Kind {
    /// As on the command line.
    pub(crate) name: &'static str,
    /// What is taken, for the help.
    pub(crate) says: &'static str,
    unit: &'static str,
    /// Takes so much and counts what it has; returns what refused the rest.
    take: fn(&Order, &AtomicU64) -> Result<Option<sys::Error>>,
}

/// All that can be taken.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "memory", says: "allocates and touches so many MiB", unit: "MiB", take: memory },
    Kind { name: "processes", says: "makes so many processes, which live until the last one does", unit: "processes", take: |order, got| Ok(processes(order, got)) },
    Kind { name: "files", says: "opens so many files at a time", unit: "files", take: files },
    Kind { name: "disk", says: "writes so many MiB and waits until they are on the disk", unit: "MiB", take: disk },
];

/// What is to be taken.
#[derive(Debug)]
pub(crate) struct Order {
    /// Of what.
    pub(crate) kind: &'static Kind,
    /// How much.
    pub(crate) amount: usize,
    /// Where it has its file.
    pub(crate) directory: PathBuf,
}

/// The line that is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    take: &'static str,
    asked: usize,
    got: u64,
    unit: &'static str,
    /// The call that was refused, and why; None when all was there, and when a process was killed for the rest.
    call: Option<String>,
}

/// Takes it.
pub(crate) fn run(order: &Order) -> Result<Line> {
    let Kind { name, unit, take, says: _ } = order.kind;
    let counters = Counters::map(1)?;
    let got = &counters.numbers()[0];
    let refused = take(order, got)?;
    Ok(Line {
        take: name,
        asked: order.amount,
        got: got.load(Ordering::Relaxed),
        unit,
        call: refused.map(|error| error.to_string()),
    })
}

/// In a process of its own, which the kernel may kill instead of the one that tells.
fn memory(order: &Order, got: &AtomicU64) -> Result<Option<sys::Error>> {
    let mut region = match Region::map(order.amount * MIB) {
        Ok(region) => region,
        Err(error) => return Ok(Some(error)),
    };
    let child = offspring::fork(|| {
        for chunk in region.bytes().chunks_mut(MIB) {
            chunk.iter_mut().step_by(PAGE).for_each(|byte| *byte = std::hint::black_box(1));
            got.fetch_add(1, Ordering::Relaxed);
        }
        0
    });
    match child {
        Ok(child) => child.wait().map(|_| None).map_err(Into::into),
        Err(error) => Ok(Some(error)),
    }
}

fn processes(order: &Order, got: &AtomicU64) -> Option<sys::Error> {
    let mut living = Vec::with_capacity(order.amount);
    for _ in 0..order.amount {
        match offspring::fork(|| {
            loop {
                std::thread::park();
            }
        }) {
            Ok(child) => living.push(child),
            Err(error) => return Some(error),
        }
        got.fetch_add(1, Ordering::Relaxed);
    }
    None
}

fn files(order: &Order, got: &AtomicU64) -> Result<Option<sys::Error>> {
    let program = this_program::path()?;
    let mut open = Vec::with_capacity(order.amount);
    for _ in 0..order.amount {
        match opened(&program) {
            Ok(file) => open.push(file),
            Err(error) => return Ok(Some(error)),
        }
        got.fetch_add(1, Ordering::Relaxed);
    }
    Ok(None)
}

fn opened(path: &Path) -> sys::Result<File> {
    File::open(path).call(|| format!("openat({path:?}, O_RDONLY)"))
}

fn disk(order: &Order, got: &AtomicU64) -> Result<Option<sys::Error>> {
    let file = scratch::file(&order.directory)?;
    let block = vec![7; MIB];
    for number in 0..order.amount {
        let written = file.write_all_at(&block, (number * MIB) as u64).and_then(|()| file.sync_data());
        if let Err(error) = written.call(|| format!("write a MiB to a file in {:?}", order.directory)) {
            return Ok(Some(error));
        }
        got.fetch_add(1, Ordering::Relaxed);
    }
    Ok(None)
}
