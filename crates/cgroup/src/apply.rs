//! Makes a plan come true.

use rustix::io::Errno;

use crate::cgroup::{Cgroup, Member, Need};
use crate::devices;
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::host::Version;
use crate::plan::{IfMissing, IfRefused, Plan, Reach, UsageCheck, Value, Write};

pub(crate) use crate::devices::v2::History;

/// Sets the limits of a new cgroup.
pub(crate) fn create(cgroup: &Cgroup, plan: &Plan, need: Need, history: History) -> Result<()> {
    let mut done = Vec::new();
    set_all(cgroup, plan, need, &mut done)?;
    let Some(policy) = plan.devices() else { return Ok(()) };
    let result = match (cgroup.v1("devices"), cgroup.v2()) {
        (Some(member), _) => devices::v1::apply(member.dir()?, policy),
        (None, Some(member)) => devices::v2::apply(member.dir()?, policy, history),
        (None, None) => Err(missing("devices", "device rules", need)),
    };
    match result {
        // Without rights over cgroups there are none over devices either, and the kernel denies them by itself.
        Err(error)
            if need == Need::IfPermitted
                && (error.is_denied() || matches!(error, Error::NoRights { .. })) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// Changes the limits of a cgroup in use.
pub(crate) fn update(cgroup: &Cgroup, plan: &Plan) -> Result<()> {
    if let (Some(check), Some(member)) = (plan.check, cgroup.v2()) {
        check_usage(member.dir()?, check)?;
    }
    let mut done = Vec::new();
    set_all(cgroup, plan, Need::Required, &mut done).map_err(|error| {
        if done.is_empty() { error } else { Error::Partial { done, source: Box::new(error) } }
    })
}

/// Gives the parents that were made for a container what their children need from them.
pub(crate) fn to_parents(parents: &[&str], plan: &Plan) -> Result<()> {
    let writes: Vec<&Write> = plan.writes().iter().filter(|write| write.reach == Reach::Parents).collect();
    if writes.is_empty() {
        return Ok(());
    }
    parents.iter().try_for_each(|parent| {
        let dir = Dir::open(parent)?;
        set_group(&writes, |write| set_file(&dir, write), &mut Vec::new())
    })
}

fn set_all(cgroup: &Cgroup, plan: &Plan, need: Need, done: &mut Vec<String>) -> Result<()> {
    let writes: Vec<&Write> = plan.writes().iter().collect();
    writes
        .chunk_by(|a, b| a.controller == b.controller)
        .try_for_each(|group| set_group(group, |write| set(cgroup, write, need), done))
}

/// Makes the writes of one controller, those that the kernel refuses for now once more at the end.
fn set_group(writes: &[&Write], set: impl Fn(&Write) -> Result<()>, done: &mut Vec<String>) -> Result<()> {
    let mut refused = Vec::new();
    for write in writes {
        match set(write) {
            Err(error) if write.if_refused == IfRefused::Later && error.errno() == Some(Errno::INVAL) => {
                refused.push(write);
            }
            result => {
                result?;
                done.push(shown(write));
            }
        }
    }
    for write in refused {
        set(write)?;
        done.push(shown(write));
    }
    Ok(())
}

fn shown(write: &Write) -> String {
    let value = match &write.value {
        Value::Text(text) | Value::KeepFirstWord(text) => text.clone(),
        Value::LessMemory(total) => format!("{total}-memory"),
    };
    format!("{}={value}", write.file)
}

fn set(cgroup: &Cgroup, write: &Write, need: Need) -> Result<()> {
    let member = match write.version {
        Version::V1 => cgroup.v1(&write.controller),
        Version::V2 => cgroup.v2(),
    };
    let member = member.ok_or_else(|| missing(&write.controller, &write.file, need))?;
    let dir = member.dir()?;
    set_file(dir, write).map_err(|error| explain(member, dir, write, error))
}

fn missing(controller: &str, file: &str, need: Need) -> Error {
    let (controller, file) = (controller.to_owned(), file.to_owned());
    match need {
        Need::Required => Error::NoController { controller, file, at: String::new() },
        Need::IfPermitted => Error::NoRights { controller, file },
    }
}

fn set_file(dir: &Dir, write: &Write) -> Result<()> {
    let value = match &write.value {
        Value::Text(text) => text.clone(),
        Value::KeepFirstWord(rest) => {
            let now = dir.read(&write.file)?;
            format!("{} {rest}", now.split_whitespace().next().unwrap_or("max"))
        }
        Value::LessMemory(total) => {
            let now = dir.read("memory.max")?;
            now.trim().parse().map_or(*total, |memory: u64| total.saturating_sub(memory)).to_string()
        }
    };
    match (dir.write(&write.file, &value), &write.if_missing) {
        (Err(error), IfMissing::Skip) if error.errno() == Some(Errno::NOENT) => Ok(()),
        (Err(error), IfMissing::Instead(file, value)) if error.errno() == Some(Errno::NOENT) => {
            dir.write(file, value)
        }
        (result, _) => result,
    }
}

/// Turns a bare error number into what it means for a limit.
fn explain(member: &Member, dir: &Dir, write: &Write, error: Error) -> Error {
    match error.errno() {
        Some(Errno::NOENT) if member.version == Version::V2 && write.controller != "cgroup" => {
            let there = dir.read("cgroup.controllers").unwrap_or_default();
            if there.split_whitespace().any(|name| name == write.controller) {
                return error;
            }
            Error::NoController {
                controller: write.controller.to_string(),
                file: write.file.to_string(),
                at: member.path.clone(),
            }
        }
        Some(Errno::BUSY) if write.file == "memory.limit_in_bytes" => {
            let usage = dir.read("memory.usage_in_bytes").ok().and_then(|text| text.trim().parse().ok());
            let limit = write.value().and_then(|text| text.parse().ok());
            match (limit, usage) {
                (Some(limit), Some(usage)) => Error::BelowUsage { what: "memory", limit, usage },
                _ => error,
            }
        }
        _ => error,
    }
}

/// Refuses limits below what is in use, which would kill (cgroup v2 enforces them at once).
fn check_usage(dir: &Dir, check: UsageCheck) -> Result<()> {
    // The check is the caller's wish for comfort; where usage cannot be read it is not in the way.
    let Some(usage) = dir.read("memory.current").ok().and_then(|text| text.trim().parse::<u64>().ok()) else {
        return Ok(());
    };
    for (what, limit) in [("memory+swap", check.memory_and_swap), ("memory", check.memory)] {
        if let Some(limit) = limit.filter(|limit| *limit <= usage) {
            return Err(Error::BelowUsage { what, limit, usage });
        }
    }
    Ok(())
}
