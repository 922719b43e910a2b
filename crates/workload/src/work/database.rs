//! Transactions of an embedded database (redb: a B-tree that is copied on write), each on the disk before it counts.
//!
//! The mix follows sysbench's `oltp_read_write`: ten rows by key, a range of a hundred, two updates, and a row that is
//! taken out and put in again elsewhere.

use std::path::Path;

use redb::{Database, ReadableTable as _, Table, TableDefinition};

use super::Work;
use crate::error::{Error, Result};
use crate::random::Random;
use crate::scratch;

/// A row: key, and what sysbench calls `pad`.
const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

const PAD: usize = 120;

/// How many rows there are, in twice as many places.
const COUNT: u64 = 10_000;

const PLACES: u64 = 2 * COUNT;

/// What the database may keep in memory, bytes.
const CACHE: usize = 4 << 20;

struct Transactions {
    database: Database,
    random: Random,
}

pub(super) fn begin(directory: &Path) -> Result<Box<dyn Work>> {
    let file = scratch::file(directory)?;
    let database = Database::builder().set_cache_size(CACHE).create_file(file).map_err(Error::database)?;
    let transactions = Transactions { database, random: Random::new() };
    transactions.within(|rows| {
        for key in 0..COUNT {
            rows.insert(2 * key, &[1; PAD][..]).map_err(Error::database)?;
        }
        Ok(())
    })?;
    Ok(Box::new(transactions))
}

impl Transactions {
    fn within(&self, change: impl FnOnce(&mut Table<'_, u64, &'static [u8]>) -> Result<()>) -> Result<()> {
        let transaction = self.database.begin_write().map_err(Error::database)?;
        {
            let mut rows = transaction.open_table(ROWS).map_err(Error::database)?;
            change(&mut rows)?;
        }
        transaction.commit().map_err(Error::database)
    }

    fn count(&self) -> Result<u64> {
        let transaction = self.database.begin_read().map_err(Error::database)?;
        let rows = transaction.open_table(ROWS).map_err(Error::database)?;
        redb::ReadableTableMetadata::len(&rows).map_err(Error::database)
    }
}

impl Work for Transactions {
    fn turn(&mut self) -> Result<()> {
        let mut keys = [0; 15];
        keys.fill_with(|| self.random.below(PLACES));
        self.within(|rows| mixed(rows, keys))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        match self.count()? {
            COUNT => Ok(()),
            count => Err(Error::Wrong(format!("{count} rows are left of {COUNT}"))),
        }
    }
}

fn mixed(rows: &mut Table<'_, u64, &'static [u8]>, keys: [u64; 15]) -> Result<()> {
    let [reads @ .., range, one, other, out, new] = keys;
    for key in reads {
        rows.get(key).map_err(Error::database)?;
    }
    for row in rows.range(range..).map_err(Error::database)?.take(100) {
        row.map_err(Error::database)?;
    }
    for key in [one, other] {
        let there = rows.get(key).map_err(Error::database)?.map(|row| row.value()[0].wrapping_add(1));
        if let Some(next) = there {
            rows.insert(key, &[next; PAD][..]).map_err(Error::database)?;
        }
    }
    let was_there = rows.remove(out).map_err(Error::database)?.is_some();
    if was_there {
        let free = (new..PLACES).chain(0..new).find(|key| matches!(rows.get(key), Ok(None)));
        let free = free.ok_or_else(|| Error::Wrong("no place is free for a row".to_owned()))?;
        rows.insert(free, &[1; PAD][..]).map_err(Error::database)?;
    }
    Ok(())
}
