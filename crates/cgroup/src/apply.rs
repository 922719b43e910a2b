//! Makes a plan come true.

use rustix::io::Errno;

use crate::cgroup::{Cgroup, Member, Need};
use crate::devices::{self, Policy, Rules};
use crate::dir::Dir;
use crate::error::{Error, Result};
use crate::host::{Host, Version};
use crate::plan::{IfMissing, IfRefused, Plan, Reach, UsageCheck, Value, Write, cpu};
use crate::systemd::property;
use crate::unified::{self, Share};

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
pub(crate) fn update(cgroup: &Cgroup, plan: &Plan) -> Result<Vec<String>> {
    if let (Some(check), Some(member)) = (plan.check, cgroup.v2()) {
        check_usage(member.dir()?, check)?;
    }
    let settled;
    let (plan, warnings) = match &cgroup.scope {
        None => (plan, Vec::new()),
        Some(scope) => {
            settled = property::settled(plan, |file| in_force(cgroup, file))?;
            let warnings = scope.update(cgroup, &settled)?;
            hand_down(cgroup, &settled)?;
            (&*settled, warnings)
        }
    };
    let mut done = Vec::new();
    match set_all(cgroup, plan, Need::Required, &mut done) {
        Ok(()) => Ok(warnings),
        Err(error) if done.is_empty() => Err(error),
        Err(error) => Err(Error::Partial { done, source: Box::new(error) }),
    }
}

/// Hands down what new limits of a scope need and systemd knows nothing of, hugetlb and the like.
fn hand_down(cgroup: &Cgroup, plan: &Plan) -> Result<()> {
    let host = Host::detect()?;
    match (cgroup.v2(), host.v2()) {
        (Some(member), Some(hierarchy)) => {
            unified::enable(member.dir()?, &hierarchy.mount_point, Share::Needed, plan)
        }
        _ => Ok(()),
    }
}

/// What a limit of the cgroup is now.
pub(crate) fn in_force(cgroup: &Cgroup, file: &str) -> Result<String> {
    cgroup.v2().map_or(Ok(String::new()), |member| limit_of(member.dir()?, file))
}

/// What a limit is now. Without its controller there is none: systemd hands that down when it is told of a limit, and
/// who writes the file without that gets the sentence about it.
fn limit_of(dir: &Dir, file: &str) -> Result<String> {
    let controller = file.split('.').next().unwrap_or(file);
    match dir.read(file) {
        Err(error) if error.errno() == Some(Errno::NOENT) && !is_offered(dir, controller) => {
            Ok("max".to_owned())
        }
        result => result,
    }
}

/// Changes the device rules of a cgroup in use.
pub(crate) fn devices(cgroup: &Cgroup, policy: &Policy) -> Result<Rules> {
    match (cgroup.v1("devices"), cgroup.v2()) {
        (Some(member), _) => devices::v1::change(member.dir()?, policy).map(|()| Rules::Set),
        (None, Some(member)) => devices::v2::change(member.dir()?, policy),
        (None, None) => Err(missing("devices", "device rules", Need::Required)),
    }
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
    let value = write.resolved(|file| dir.read(file))?;
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
        Some(Errno::NOENT) if member.version == Version::V2 && !is_offered(dir, &write.controller) => {
            Error::NoController {
                controller: write.controller.to_string(),
                file: write.file.to_string(),
                at: member.path.clone(),
            }
        }
        Some(Errno::NOENT) if write.controller == "hugetlb" => {
            Error::NoPageSize { file: write.file.to_string() }
        }
        Some(Errno::INVAL) if cpu::WEIGHTS.contains(&write.file()) && is_idle(dir) => {
            Error::Idle { file: write.file.to_string(), source: Box::new(error) }
        }
        Some(Errno::INVAL) if write.controller == "memory" && member.version == Version::V1 => {
            above_total(dir, write, error)
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

fn is_idle(dir: &Dir) -> bool {
    dir.read("cpu.idle").is_ok_and(|text| text.trim() == "1")
}

/// Tells whether a v2 cgroup has the files of a controller; those of `cgroup` are always there.
fn is_offered(dir: &Dir, controller: &str) -> bool {
    let there = dir.read("cgroup.controllers").unwrap_or_default();
    controller == "cgroup" || there.split_whitespace().any(|name| name == controller)
}

/// Says which of the two limits of memory, of which the kernel keeps one below the other, is in the way.
fn above_total(dir: &Dir, write: &Write, error: Error) -> Error {
    let files = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"];
    let value = |file: &str| {
        let wanted = write.value().filter(|_| write.file == file).map(str::to_owned);
        wanted.or_else(|| dir.read(file).ok())?.trim().parse().ok()
    };
    match files.map(value) {
        [Some(memory), Some(total)] if memory > total && files.contains(&&*write.file) => {
            Error::AboveTotal { memory, total, source: Box::new(error) }
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::dir::testing::Fake;

    fn write(file: &'static str, value: Value) -> Write {
        Write {
            version: Version::V2,
            controller: "x".into(),
            file: file.into(),
            value,
            if_missing: IfMissing::Fail,
            if_refused: IfRefused::Fail,
            reach: Reach::Container,
        }
    }

    fn text(file: &'static str, value: &str) -> Write {
        write(file, Value::Text(value.to_owned()))
    }

    #[test]
    fn a_value_may_depend_on_what_is_in_force() {
        let fake =
            Fake::new(&[("cpu.max", "5000 100000\n"), ("memory.max", "100\n"), ("memory.swap.max", "")]);
        set_file(&fake.dir, &write("cpu.max", Value::KeepFirstWord("200000".into()))).unwrap();
        assert_eq!(fake.get("cpu.max").trim(), "5000 200000", "only the period changes");
        set_file(&fake.dir, &write("memory.swap.max", Value::LessMemory(300))).unwrap();
        assert_eq!(fake.get("memory.swap.max"), "200", "the sum less the memory limit");
        fake.put("memory.max", "max\n");
        set_file(&fake.dir, &write("memory.swap.max", Value::LessMemory(300))).unwrap();
        assert_eq!(fake.get("memory.swap.max"), "300", "without a memory limit it is all swap");
    }

    #[test]
    fn without_its_controller_there_is_no_limit() {
        let fake = Fake::new(&[("cgroup.controllers", "memory\n"), ("memory.max", "100\n")]);
        assert_eq!(limit_of(&fake.dir, "memory.max").unwrap(), "100\n");
        assert_eq!(limit_of(&fake.dir, "cpu.max").unwrap(), "max");
        assert!(limit_of(&fake.dir, "memory.swap.max").unwrap_err().is_gone(), "a kernel without swap");
    }

    #[test]
    fn a_missing_file_is_an_error_or_passed_over_or_replaced() {
        let fake = Fake::new(&[("new", "")]);
        let mut wanted = text("old", "1");
        assert!(set_file(&fake.dir, &wanted).unwrap_err().is_gone());
        wanted.if_missing = IfMissing::Skip;
        set_file(&fake.dir, &wanted).unwrap();
        wanted.if_missing = IfMissing::Instead("new", "10".into());
        set_file(&fake.dir, &wanted).unwrap();
        assert_eq!(fake.get("new"), "10");
    }

    /// Applies `limit` and `total` to a kernel that keeps `limit <= total`; returns what is in force.
    fn bounded(now: (u64, u64), then: (u64, u64)) -> Result<(u64, u64)> {
        let force = RefCell::new(now);
        let kernel = |write: &Write| {
            let value = write.value().and_then(|text| text.parse().ok()).unwrap();
            let mut next = *force.borrow();
            *(if write.file == "limit" { &mut next.0 } else { &mut next.1 }) = value;
            if next.0 > next.1 {
                return Err(Error::system("/c", "write", Errno::INVAL));
            }
            *force.borrow_mut() = next;
            Ok(())
        };
        let mut writes = [text("limit", &then.0.to_string()), text("total", &then.1.to_string())];
        writes.iter_mut().for_each(|write| write.if_refused = IfRefused::Later);
        set_group(&[&writes[0], &writes[1]], kernel, &mut Vec::new())?;
        Ok(force.into_inner())
    }

    #[test]
    fn a_weight_waits_for_the_end_of_idleness() {
        let idle = Cell::new(true);
        let kernel = |write: &Write| {
            if write.file == "cpu.idle" {
                idle.set(false);
            } else if idle.get() {
                let source = Box::new(Error::system("/c", "write", Errno::INVAL));
                return Err(Error::Idle { file: write.file.to_string(), source });
            }
            Ok(())
        };
        let mut weight = text("cpu.weight", "100");
        weight.if_refused = IfRefused::Later;
        let mut done = Vec::new();
        set_group(&[&weight, &text("cpu.idle", "0")], kernel, &mut done).unwrap();
        assert_eq!(done, ["cpu.idle=0", "cpu.weight=100"]);
    }

    #[test]
    fn settings_that_bound_each_other_are_set_whatever_is_in_force() {
        for now in [(1, 1), (1, 100), (50, 60), (100, 100)] {
            for then in [(1, 2), (2, 2), (55, 80), (100, 200), (70, 70)] {
                assert_eq!(bounded(now, then).unwrap(), then, "from {now:?}");
            }
        }
        assert_eq!(
            bounded((1, 1), (3, 2)).unwrap_err().errno(),
            Some(Errno::INVAL),
            "nothing is tried for ever"
        );
    }

    #[test]
    fn a_limit_below_what_is_used_is_refused_if_asked() {
        let fake = Fake::new(&[("memory.current", "1000\n")]);
        let check = |memory, memory_and_swap| check_usage(&fake.dir, UsageCheck { memory, memory_and_swap });
        assert_eq!(
            check(Some(1000), None).unwrap_err().to_string(),
            "rejecting memory limit 1000: 1000 bytes are in use"
        );
        assert_eq!(
            check(Some(1001), Some(999)).unwrap_err().to_string(),
            "rejecting memory+swap limit 999: 1000 bytes are in use"
        );
        check(Some(1001), Some(2000)).unwrap();
        check_usage(&Fake::new(&[]).dir, UsageCheck { memory: Some(1), memory_and_swap: None }).unwrap();
    }
}
