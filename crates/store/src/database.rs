//! The database: one file, opened by several short-lived processes at once.
//!
//! It is in WAL mode, so that readers never wait. Whoever writes takes the lock when the transaction begins (`BEGIN
//! IMMEDIATE`) and so never fails half way because of another. The last to close does not copy the log back, as SQLite
//! has it by default: that would cost every command a few syncs. The log and its index stay, which also spares the next
//! command their making, until the log is long: then whoever has made it so empties it. Removals have room on a full disk by a
//! reserve.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use rustix::fs::{FallocateFlags, FlockOperation};

use crate::error::{Doing as _, Error, Result};

/// The versions of the database: `MIGRATIONS[n]` makes version n + 1 of version n. What has been released never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("database/1.sql"),
    include_str!("database/2.sql"),
    include_str!("database/3.sql"),
    include_str!("database/4.sql"),
];

/// What a change must outlive before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process, and of the kernel as far as that ends in order.
    Process,
    /// The machine's power going away. Costs a sync of the disk.
    PowerLoss,
}

/// An open database. Its callers may be several threads.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Mutex<Connection>,
    /// A file that is there to be given up: on a full disk it makes room for saying what goes.
    reserve: PathBuf,
    /// The log, in which what was written stands first.
    log: PathBuf,
}

/// More than the log grows by the removal of anything.
const RESERVE: u64 = 1024 * 1024;

impl Database {
    /// Opens the database, and makes it or brings it up to date where that is needed.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let named = || format!("open {}", file.display());
        let reserve = file.with_file_name("reserve");
        let mut log = file.as_os_str().to_owned();
        log.push("-wal");
        let (mut connection, version) = match first_look(file, &reserve) {
            Ok(looked) => looked,
            Err(rusqlite::Error::SqliteFailure(error, _))
                if error.code == rusqlite::ErrorCode::CannotOpen =>
            {
                // Made by us and not by SQLite, so that it is nobody else's from its first moment; the log and its
                // index take the mode from it.
                OpenOptions::new().append(true).create(true).mode(0o600).open(file).doing(named)?;
                first_look(file, &reserve).doing(named)?
            }
            Err(error) => return Err(error).doing(named),
        };
        let newest = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
        if version > newest {
            return Err(Error::Future { path: file.to_owned(), found: version, known: newest });
        }
        if version < newest {
            migrate(&mut connection, file).map_err(|error| match error {
                Error::Database { doing, source } if lacks_room(&source) => {
                    Error::Database { doing, source: full() }
                }
                error => error,
            })?;
            keep_reserve(&reserve);
        }
        Ok(Self { connection: Mutex::new(connection), reserve, log: log.into() })
    }

    /// Reads: `body` sees one state of the database if it makes one statement.
    pub(crate) fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        body(&self.connection())
    }

    /// Reads one state of the database by several statements.
    pub(crate) fn snapshot<T>(&self, body: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut connection = self.connection();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .doing(|| "begin to read the database")?;
        body(&transaction)
    }

    /// Writes: all that `body` does, or nothing when it fails, and nobody else writes meanwhile.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        body: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut connection = self.connection();
        if durability == Durability::PowerLoss {
            synchronous(&connection, "FULL")?;
        }
        let result = self.transact(&mut connection, body);
        if durability == Durability::PowerLoss {
            synchronous(&connection, "NORMAL")?;
        }
        result
    }

    /// Writes what the machine's power may take away, unless others write for longer than [`wait_briefly`] has it.
    pub(crate) fn write_soon<T>(&self, body: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.connection();
        let doing = || "choose how long others are waited for";
        connection.busy_handler(Some(wait_briefly)).doing(doing)?;
        let result = self.transact(&mut connection, body);
        connection.busy_handler(Some(wait)).doing(doing)?;
        result
    }

    /// Writes that something goes. On a full disk that takes room, too, for which the reserve is given up;
    /// [`refill`](Self::refill) brings it back.
    pub(crate) fn write_removal<T>(
        &self,
        durability: Durability,
        mut body: impl FnMut(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        match self.write(durability, &mut body) {
            Err(error) if error.is_full() && std::fs::remove_file(&self.reserve).is_ok() => {
                self.write(durability, body)
            }
            written => written,
        }
    }

    /// Has what was written with [`Durability::Process`] outlive the machine's power going away, too.
    pub(crate) fn sync(&self) -> Result<()> {
        File::open(&self.log).and_then(|log| log.sync_data()).doing(|| format!("sync {}", self.log.display()))
    }

    /// Keeps room for the next time that the disk is full, if it is there.
    pub(crate) fn refill(&self) {
        if !self.reserve.exists() {
            keep_reserve(&self.reserve);
        }
    }

    fn transact<T>(
        &self,
        connection: &mut Connection,
        body: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .doing(|| "begin to write to the database")?;
        let value = body(&transaction)?;
        transaction.commit().doing(|| "write to the database")?;
        self.shorten_log(connection);
        Ok(value)
    }

    /// Copies a long log back and empties it, unless others read it now: then one who writes later does. What was written is
    /// written, whether this can be done or not.
    ///
    /// SQLite's own way copies it back and leaves it. How far it was copied is known only as long as somebody has the database open: the next
    /// command would write behind it, and copy all of it once more.
    fn shorten_log(&self, connection: &Connection) {
        let length = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        if length < LOG || connection.busy_handler(None).is_err() {
            return;
        }
        // Others write meanwhile; only then it is kept from them, for a moment in which next to nothing is left to copy.
        for mode in ["PASSIVE", "TRUNCATE"] {
            let _ = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
        }
        let _ = connection.busy_handler(Some(wait));
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A thread that panicked left no transaction behind: dropping one rolls it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the reserve. Without it all goes well until the disk is full, so that a failure is none.
fn keep_reserve(path: &Path) {
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let kept = made.and_then(|file| Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE)?));
    if kept.is_err() {
        // An empty one would be taken for one that is there.
        let _ = std::fs::remove_file(path);
    }
}

/// Tells whether SQLite found no room on the disk, for the log or for its index.
pub(crate) fn lacks_room(error: &rusqlite::Error) -> bool {
    let Some(failure) = error.sqlite_error() else { return false };
    failure.code == rusqlite::ErrorCode::DiskFull
        || failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
}

/// Opens the database and reads its version.
///
/// Whoever is the first to open it makes the log's index anew, for which it gives up the old one's room, 28 KiB. Where somebody
/// fills the disk at this moment, as a container does that writes and writes, that is gone; then the reserve makes some.
fn first_look(file: &Path, reserve: &Path) -> rusqlite::Result<(Connection, u32)> {
    const ATTEMPTS: u32 = 50;
    let look = || -> rusqlite::Result<(Connection, u32)> {
        let connection = connect(file)?;
        let version = version(&connection)?;
        Ok((connection, version))
    };
    let mut attempts = 0;
    loop {
        match look() {
            Err(error) if lacks_room(&error) && attempts < ATTEMPTS => {
                attempts += 1;
                if std::fs::remove_file(reserve).is_err() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            Err(error) if lacks_room(&error) => return Err(full()),
            looked => return looked,
        }
    }
}

/// What SQLite says of a log that does not fit, of the log's index too, of which it says that the disk fails.
fn full() -> rusqlite::Error {
    let reason = "database or disk is full".to_owned();
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), Some(reason))
}

/// The length of a log that is copied back, in bytes: 128 pages. The first who opens the database reads the whole log, which takes 2.5 µs a
/// page; to copy it back takes two syncs.
const LOG: u64 = 128 * 4096;

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    // Not created here; and the connection has a lock already.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_handler(Some(wait))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(connection)
}

/// Waits for another's transaction; those take milliseconds. SQLite's own handler waits a tenth of a second at a time
/// when many write at once.
fn wait(attempts: i32) -> bool {
    /// About a minute: then somebody holds the lock for good, such as a stopped process.
    const LIMIT: i32 = 6_000;
    let microseconds = match attempts {
        0..10 => 500,
        10..100 => 2_000,
        _ => 10_000,
    };
    std::thread::sleep(Duration::from_micros(microseconds));
    attempts < LIMIT
}

/// As [`wait`], for a fifth of a second at most: for what somebody waits for who asked for something else.
fn wait_briefly(attempts: i32) -> bool {
    const LIMIT: i32 = 100;
    attempts < LIMIT && wait(attempts)
}

fn synchronous(connection: &Connection, level: &str) -> Result<()> {
    connection.pragma_update(None, "synchronous", level).doing(|| "choose how the database is synced")
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Runs the migrations that are missing, each with its number in one transaction.
fn migrate(connection: &mut Connection, file: &Path) -> Result<()> {
    let doing = || format!("bring {} up to date", file.display());
    // To change to WAL takes the database for oneself, for which SQLite does not wait: one does it, the others wait here.
    let lock = File::open(file).and_then(|lock| {
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    });
    connection.pragma_update(None, "journal_mode", "WAL").doing(doing)?;
    let newest = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    loop {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(doing)?;
        let current = version(&transaction).doing(doing)?;
        if current > newest {
            // By a later version of this program, since the first look.
            return Err(Error::Future { path: file.to_owned(), found: current, known: newest });
        }
        let Some(migration) = usize::try_from(current).ok().and_then(|current| MIGRATIONS.get(current))
        else {
            // Done, maybe by another process meanwhile.
            drop(lock);
            return Ok(());
        };
        transaction.execute_batch(migration).doing(doing)?;
        transaction.pragma_update(None, "user_version", current + 1).doing(doing)?;
        transaction.commit().doing(doing)?;
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn a_log_stays_short_whose_writers_write_once() {
        let scratch = Scratch::new();
        let file = scratch.path().join("database");
        let log = scratch.path().join("database-wal");
        let write = |number: i64| {
            let database = Database::open(&file).unwrap();
            let sql = "INSERT INTO events (time, subject, action, id, attributes) VALUES (?, 'volume', 'create', 'a', '{}')";
            database.write(Durability::Process, |db| db.execute(sql, [number]).doing(|| "write")).unwrap();
        };
        let mut longest = 0;
        for number in 0..300 {
            write(number);
            longest = longest.max(std::fs::metadata(&log).unwrap().len());
        }
        assert!(longest < 2 * LOG, "{longest}");
        // While somebody reads it is left, and is emptied by the first who writes later.
        let reader = Database::open(&file).unwrap();
        let read = || std::fs::metadata(&log).unwrap().len();
        let count = "SELECT count(*) FROM events";
        reader
            .snapshot(|db| {
                db.query_row(count, [], |_| Ok(())).unwrap();
                (0..300).for_each(write);
                assert!(read() > LOG, "{}", read());
                Ok(())
            })
            .unwrap();
        write(0);
        assert!(read() < LOG, "{}", read());
        let counted = reader.read(|db| Ok(db.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap()));
        assert_eq!(counted.unwrap(), 601, "nothing is lost");
    }

    #[test]
    fn who_brings_it_up_to_date_meets_a_later_version_that_was_faster() {
        let scratch = Scratch::new();
        let file = scratch.path().join("database");
        drop(Database::open(&file).unwrap());
        let mut connection = connect(&file).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection, &file).unwrap_err();
        assert!(matches!(error, Error::Future { found: 99, .. }), "{error}");
    }
}
