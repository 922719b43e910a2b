//! PostgreSQL, under sysbench's transactions.
//!
//! A database is made and filled once in a root, and each run begins with a copy of it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::place::Room;
use super::program::{self, PATIENCE, Running};
use super::{Amounts, Error, Result};

/// Where each version has a directory.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The database that others begin with; made by whoever made the root, empty and this user's.
const MADE: &str = "/srv/postgresql";

/// Nothing of System V's that could be left, no compiler of queries, nobody from outside. What is committed is on the disk.
const SETTINGS: &str = "
listen_addresses = ''
dynamic_shared_memory_type = mmap
jit = off
max_connections = 20
shared_buffers = 64MB
timezone = GMT
log_timezone = GMT
";

/// Clients at a time.
const THREADS: &str = "--threads=4";

pub(super) fn run(room: &Room, seconds: u32) -> Result<Amounts> {
    let data = room.join("data");
    copy(Path::new(MADE), &data)?;
    let server = serve(room, &data)?;
    let client = program::start(
        room,
        "sysbench",
        sysbench(room).args([THREADS, "--percentile=95"]).arg(format!("--time={seconds}")).arg("run"),
    )?;
    let printed = client.finish(PATIENCE + Duration::from_secs(seconds.into()))?;
    let amounts = read(&printed)?;
    // At once: what it would write at its leisure is of no use any more. That is no good end in its own eyes.
    server.ended_by(Signal::QUIT)?;
    Ok(amounts)
}

/// Makes and fills the database.
pub(super) fn prepare(room: &Room) -> Result<()> {
    let mut make = Command::new(program_of("initdb")?);
    make.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    make.args(["--wal-segsize=1", "--pgdata", MADE]);
    program::start(room, "initdb", &mut make)?.finish(PATIENCE)?;
    let settings = OpenOptions::new().append(true).open(Path::new(MADE).join("postgresql.conf"));
    settings
        .and_then(|mut file| file.write_all(SETTINGS.as_bytes()))
        .map_err(Error::io("write postgresql.conf"))?;
    let server = serve(room, Path::new(MADE))?;
    program::start(room, "sysbench", sysbench(room).arg("prepare"))?.finish(PATIENCE)?;
    server.stop(Signal::INT)?;
    // Where there is one user only, this one is a stranger.
    open_to_all(Path::new(MADE)).map_err(Error::io("let everyone read the database"))
}

fn serve(room: &Room, data: &Path) -> Result<Running> {
    let mut command = Command::new(program_of("postgres")?);
    command.arg("-D").arg(data).arg("-k").arg(room.path());
    let mut running = program::start(room, "postgres", &mut command)?;
    let lock = data.join("postmaster.pid");
    // As pg_ctl(1) sees it: the last line of the lock file.
    running.ready(|_| {
        fs::read_to_string(&lock)
            .is_ok_and(|text| text.lines().next_back().is_some_and(|line| line.trim() == "ready"))
    })?;
    Ok(running)
}

fn program_of(name: &str) -> Result<PathBuf> {
    let versions = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let mut programs = versions.map(|version| version.path().join("bin").join(name));
    let program = programs.find(|program| program.is_file());
    program.ok_or_else(|| Error::Wrong(format!("there is no {name} in {VERSIONS}/VERSION/bin")))
}

fn sysbench(room: &Room) -> Command {
    let mut command = Command::new("/usr/bin/sysbench");
    command.args(["/usr/share/sysbench/oltp_read_write.lua", "--db-driver=pgsql"]);
    command.arg(format!("--pgsql-host={}", room.path().display()));
    command.args(["--pgsql-user=postgres", "--pgsql-db=postgres", "--tables=2", "--table-size=10000"]);
    command
}

/// Copies a tree of directories and files. PostgreSQL takes a directory that is its user's alone.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let read =
        || Error::io("read the database that was made for all; bulkload heavy postgresql --prepare makes it");
    let write = || Error::io("copy the database");
    DirBuilder::new().mode(0o700).create(to).map_err(write())?;
    for entry in fs::read_dir(from).map_err(read())? {
        let entry = entry.map_err(read())?;
        let place = to.join(entry.file_name());
        if entry.file_type().map_err(read())?.is_dir() {
            copy(&entry.path(), &place)?;
        } else {
            fs::copy(entry.path(), &place).map_err(write())?;
        }
    }
    Ok(())
}

fn open_to_all(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_to_all(&entry.path())?;
        } else {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
        }
    }
    fs::set_permissions(directory, Permissions::from_mode(0o755))
}

/// Reads sysbench's words.
fn read(text: &str) -> Result<Amounts> {
    let wrong = |what: &str| Error::Wrong(format!("sysbench tells no {what}: {:?}", text.trim()));
    let behind = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    // `1234   (615.31 per sec.)`
    let rate = behind("transactions:")
        .and_then(|told| told.split_once('(')?.1.split_whitespace().next()?.parse().ok());
    let tail = behind("95th percentile:").and_then(|told| told.parse().ok());
    Ok(vec![
        ("transactions", rate.ok_or_else(|| wrong("rate of transactions"))?),
        ("p95", tail.ok_or_else(|| wrong("95th percentile"))?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of sysbench 1.0.20, without what is not read.
    const TOLD: &str = "\
SQL statistics:
    transactions:                        1234   (615.31 per sec.)
    queries:                             24680  (12306.20 per sec.)
    ignored errors:                      0      (0.00 per sec.)

Latency (ms):
         min:                                    1.27
         95th percentile:                        9.06
         sum:                                 7986.12
";

    #[test]
    fn sysbench_is_understood() {
        assert_eq!(read(TOLD).unwrap(), [("transactions", 615.31), ("p95", 9.06)]);
    }

    #[test]
    fn what_sysbench_does_not_tell_is_named() {
        for (text, expected) in [
            ("", "rate of transactions"),
            ("FATAL: unable to connect", "rate of transactions"),
            ("transactions: 5\n95th percentile: 1", "rate of transactions"),
            ("transactions: 5 (many per sec.)\n95th percentile: 1", "rate of transactions"),
            ("transactions: 5 (2.5 per sec.)\n", "95th percentile"),
            ("transactions: 5 (2.5 per sec.)\n95th percentile: late", "95th percentile"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("sysbench tells no {expected}")), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_copy_is_its_user_s_alone() {
        let place = std::env::temp_dir().join(format!("bulkload-copy-{}", std::process::id()));
        fs::create_dir_all(place.join("made/below")).unwrap();
        fs::write(place.join("made/below/file"), "text").unwrap();
        open_to_all(&place.join("made")).unwrap();
        copy(&place.join("made"), &place.join("copy")).unwrap();
        assert_eq!(fs::read_to_string(place.join("copy/below/file")).unwrap(), "text");
        let mode = |name: &str| fs::metadata(place.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("made/below"), mode("copy"), mode("copy/below")), (0o755, 0o700, 0o700));
        assert!(copy(&place.join("made"), &place.join("copy")).is_err(), "it wrote over another one");
        fs::remove_dir_all(&place).unwrap();
    }
}
