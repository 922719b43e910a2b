//! The processes of a container, as the host's /proc shows them: `bulkhead top`.

use std::fs;
use std::process::{Command, Stdio};

use bulkhead_shim::status::Process;

use crate::configure::Caller;
use crate::engine::{Engine, now};
use crate::error::{Doing, Error, Result};
use crate::host;
use crate::runtime::{Family, Runtime};

/// A table of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its columns.
    pub titles: Vec<String>,
    /// A row for each process.
    pub rows: Vec<Vec<String>>,
}

impl Engine {
    /// Shows the processes of a container that runs: by the host's `ps` with these arguments, or without any by what /proc
    /// says.
    ///
    /// # Errors
    /// [`Error::State`] when it does not run, [`Error::Invalid`] when `ps` does not take the arguments.
    pub fn top(&self, wanted: &str, arguments: &[String]) -> Result<Table> {
        let known = self.find(wanted)?;
        let Some(process) = known.life.process else {
            return Err(known.refuses("list the processes of"));
        };
        let id = known.record.id.as_str();
        let runtime = known.runtime(self)?;
        if runtime.family() == Family::Gvisor {
            return of_guest(&runtime, &known.record.name, id, arguments);
        }
        let counted = counted(&runtime, &known.record.name, id);
        let pids = match (counted, host::caller()) {
            (Ok(pids), _) if !pids.is_empty() => pids,
            // Runtimes know processes by the cgroup, which an ordinary user's container need not have.
            (_, Caller::User { .. }) => inside(process)?,
            (counted, Caller::Root) => counted?,
        };
        show(&pids, arguments)
    }
}

/// Has a runtime tell which processes are in the container's cgroup.
fn counted(runtime: &Runtime, name: &str, id: &str) -> Result<Vec<i32>> {
    let printed = runtime.run("ps", name, &["--format", "json", id])?;
    serde_json::from_slice(&printed).map_err(|error| Error::Damaged {
        what: format!("processes of container {name}"),
        reason: error.to_string(),
    })
}

/// Lists the processes that have a container's mounts, which are its own whatever else it shares, and what descends from
/// them; `first` is its first process.
fn inside(first: Process) -> Result<Vec<i32>> {
    let mounts = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let own = mounts(first.pid);
    if own.is_none() || !first.runs() {
        return Ok(Vec::new());
    }
    let doing = || "list the processes of the host";
    let mut pids: Vec<i32> = Vec::new();
    for entry in fs::read_dir("/proc").doing(doing)? {
        pids.extend(entry.doing(doing)?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    let (mut found, mut others): (Vec<i32>, Vec<i32>) = pids.into_iter().partition(|pid| mounts(*pid) == own);
    // One that has left for mounts of its own still has its parent.
    loop {
        let is_child = |pid: &i32| parent(*pid).is_some_and(|parent| found.contains(&parent));
        let (children, rest): (Vec<i32>, Vec<i32>) = others.into_iter().partition(is_child);
        if children.is_empty() {
            break;
        }
        found.extend(children);
        others = rest;
    }
    found.sort_unstable();
    Ok(found)
}

/// The parent of a process (`PPid` of proc_pid_status(5)); `None` when it has ended.
fn parent(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Has a runtime tell of processes that the host does not see.
fn of_guest(runtime: &Runtime, name: &str, id: &str, arguments: &[String]) -> Result<Table> {
    if !arguments.is_empty() {
        return Err(Error::Invalid {
            what: format!("arguments {:?} of ps", arguments.join(" ")),
            reason: "the host's ps does not see the processes of this runtime; leave them out".into(),
        });
    }
    let printed = runtime.run("ps", name, &["--format", "table", id])?;
    let text = String::from_utf8_lossy(&printed);
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let rows = lines.map(|line| fields(line, titles.len())).collect();
    Ok(Table { titles, rows })
}

/// What `ps -ef` shows, which is what is wanted when nothing else is said.
const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

fn show(pids: &[i32], arguments: &[String]) -> Result<Table> {
    if arguments.is_empty() {
        let titles = TITLES.map(str::to_owned).to_vec();
        let ticks = rustix::param::clock_ticks_per_second();
        let booted = boot_time();
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let rows = pids.iter().filter_map(|pid| row(*pid, ticks, booted, &users)).collect();
        return Ok(Table { titles, rows });
    }
    let invalid = |reason: String| Error::Invalid {
        what: format!("arguments {:?} of ps", arguments.join(" ")),
        reason,
    };
    let ps = |chosen: Option<String>| {
        let mut command = Command::new("ps");
        command.args(arguments).args(chosen).stdin(Stdio::null());
        command.output().doing(|| "run ps of the host")
    };
    // Of itself it shows those of the caller, at the caller's terminal. What chooses otherwise cannot be combined with it.
    let listed = Vec::from_iter(pids.iter().map(i32::to_string)).join(",");
    let mut output = ps(Some(format!("-q{listed}")))?;
    if !output.status.success() {
        output = ps(None)?;
    }
    if !output.status.success() {
        return Err(invalid(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    select(&String::from_utf8_lossy(&output.stdout), pids).ok_or_else(|| {
        invalid("without a column PID nobody can tell which processes are the container's".into())
    })
}

/// Takes the rows of these processes from what `ps` printed; `None` without a column for pids.
fn select(printed: &str, pids: &[i32]) -> Option<Table> {
    let mut lines = printed.lines();
    let titles: Vec<String> = lines.next()?.split_whitespace().map(str::to_owned).collect();
    let pid = titles.iter().position(|title| title == "PID")?;
    let rows = lines.filter_map(|line| {
        let fields = fields(line, titles.len());
        let is_ours = fields.get(pid)?.parse().is_ok_and(|pid| pids.contains(&pid));
        is_ours.then_some(fields)
    });
    let rows = rows.collect();
    Some(Table { titles, rows })
}

/// Splits a line into so many fields, of which the last has all that is left.
fn fields(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim();
    let mut fields = Vec::new();
    while fields.len() + 1 < count {
        let Some((field, left)) = rest.split_once(char::is_whitespace) else { break };
        fields.push(field.to_owned());
        rest = left.trim_start();
    }
    fields.push(rest.to_owned());
    fields
}

/// Describes a process; `None` when it has ended.
fn row(pid: i32, ticks: u64, booted: u64, users: &str) -> Option<Vec<String>> {
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
    let stat = String::from_utf8_lossy(&read("stat")?).into_owned();
    let (name, fields) = stat.split_once('(')?.1.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?;
    let command: Vec<u8> =
        read("cmdline")?.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    let command = String::from_utf8_lossy(&command).trim_end().to_owned();
    let seconds = (number(14)? + number(15)?) / ticks;
    let started = booted + number(22)? / ticks;
    Some(vec![
        user(uid, users),
        pid.to_string(),
        number(4)?.to_string(),
        busy(seconds, now() / 1_000_000_000, started).to_string(),
        clock(started),
        terminal(number(7)?),
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        if command.is_empty() { format!("[{name}]") } else { command },
    ])
}

/// Names a user of the host, as ps(1) does, which leaves a number where a name would not fit its column.
fn user(uid: &str, users: &str) -> String {
    let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let mut known = users.lines().map(fields).filter(|fields| fields.get(2).is_some_and(|id| id == uid));
    let name = known.next().and_then(|fields| fields.into_iter().next()).filter(|name| !name.is_empty());
    name.filter(|name| name.len() <= 8).unwrap_or_else(|| uid.to_owned())
}

/// How much of one processor was used since the start, in percent, at most 99 as ps(1) has it.
fn busy(used: u64, now: u64, started: u64) -> u64 {
    (used * 100).checked_div(now.saturating_sub(started)).unwrap_or(0).min(99)
}

/// When the machine booted, in seconds since 1970; see proc_stat(5).
fn boot_time() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0)
}

/// Writes a time of today as `12:34`, and another as its day.
fn clock(seconds: u64) -> String {
    let zone = jiff::tz::TimeZone::system();
    let Ok(time) = jiff::Timestamp::from_second(seconds.cast_signed()) else { return "?".to_owned() };
    let time = time.to_zoned_datetime(zone);
    let is_today = jiff::ZonedDateTime::now().date() == time.date();
    time.strftime(if is_today { "%H:%M" } else { "%b%d" }).to_string()
}

/// Names a terminal by its device number, see proc_pid_stat(5).
fn terminal(device: u64) -> String {
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | device >> 12 & 0xfff00;
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ps_printed_is_cut_to_the_containers_processes() {
        let printed = "USER   PID COMMAND\nroot     1 /sbin/init  splash\nroot    42 sh -c  x\n  bad\n";
        let table = select(printed, &[42, 77]).unwrap();
        assert_eq!(table.titles, ["USER", "PID", "COMMAND"]);
        assert_eq!(table.rows, [["root", "42", "sh -c  x"]]);
        assert_eq!(select("COMMAND\nsh\n", &[1]), None);
    }

    #[test]
    fn a_process_is_described_from_proc() {
        let own = std::process::id().cast_signed();
        let table = show(&[own, -1], &[]).unwrap();
        assert_eq!(table.titles, TITLES);
        assert_eq!(table.rows.len(), 1, "the other one is not there");
        assert_eq!(table.rows[0][1], own.to_string());
        assert!(table.rows[0][7].contains("bulkhead_engine"), "{:?}", table.rows);
    }

    #[test]
    fn users_have_names_and_processes_a_load() {
        let users = "root:x:0:0::/:/bin/sh\nsystemd-timesync:x:997:997::/:/bin/false\n:x:5:5::/:\n";
        for (uid, name) in [("0", "root"), ("997", "997"), ("5", "5"), ("1000", "1000")] {
            assert_eq!(user(uid, users), name);
        }
        for (used, now, started, expected) in [(0, 10, 0, 0), (5, 10, 0, 50), (20, 10, 0, 99), (1, 10, 10, 0)]
        {
            assert_eq!(busy(used, now, started), expected);
        }
    }

    #[test]
    fn terminals_have_names() {
        for (device, name) in [(0, "?"), (136 << 8 | 3, "pts/3"), (137 << 8, "pts/256"), (4 << 8 | 1, "tty1")]
        {
            assert_eq!(terminal(device), name);
        }
    }
}
