//! The static surface: how many system calls a filter lets through, by evaluating the one that the kernel has loaded.

use std::collections::BTreeSet;

use bulkhead_seccomp::interpret::Interpreter;
use bulkhead_seccomp::{Instruction, NATIVE, bpf};
use bulkhead_sys::trace::{self, Event};
use rustix::io::Errno;

use crate::stats::Failure;

/// The calls of this architecture that the process `pid` can make, with some arguments at least.
pub(super) fn of(pid: u32) -> Result<BTreeSet<&'static str>, Failure> {
    let pid = i32::try_from(pid).map_err(|_| Failure(format!("{pid} is no process")))?;
    // What happens to a process is told to the thread that looks at it, and this one may have other children.
    let filters = std::thread::scope(|scope| scope.spawn(|| filters(pid)).join());
    let filters = filters.unwrap_or_else(|_| Err(Failure("the thread that looked ended".to_owned())))?;
    passed(&filters)
}

/// The filters that are loaded for a process; all of them are asked at each call.
fn filters(pid: i32) -> Result<Vec<Vec<Instruction>>, Failure> {
    let failed = |error: bulkhead_sys::Error| Failure(format!("look at the filter: {error}"));
    trace::seize(pid).map_err(failed)?;
    trace::interrupt(pid).map_err(failed)?;
    loop {
        match trace::next(pid).map_err(failed)? {
            Some((_, Event::Trap)) => break,
            Some((_, Event::Signal(signal))) => trace::resume(pid, signal).map_err(failed)?,
            Some((_, Event::Ended)) | None => return Err(Failure("look at the filter: it ended".to_owned())),
            Some(_) => trace::resume(pid, 0).map_err(failed)?,
        }
    }
    let mut filters = Vec::new();
    let read = loop {
        match trace::filter(pid, filters.len()) {
            Ok(program) => filters.push(Vec::from_iter(program.into_iter().map(instruction))),
            // A process in no filter mode has none, which is another errno.
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::INVAL) => break Ok(()),
            Err(error) => break Err(failed(error)),
        }
    };
    trace::release(pid).map_err(failed)?;
    read.map(|()| filters)
}

fn instruction(read: bulkhead_sys::seccomp::Instruction) -> Instruction {
    let bulkhead_sys::seccomp::Instruction { code, jt, jf, k } = read;
    Instruction { code, jt, jf, k }
}

/// The part of a filter's answer that says what is done (SECCOMP_RET_ACTION_FULL of seccomp(2)).
const ACTION: u32 = 0xffff_0000;

/// The calls that no filter refuses whatever their arguments.
fn passed(filters: &[Vec<Instruction>]) -> Result<BTreeSet<&'static str>, Failure> {
    let filters = filters.iter().map(|program| Interpreter::new(program)).collect::<Result<Vec<_>, _>>();
    let filters = filters.map_err(|error| Failure(format!("understand the filter: {error}")))?;
    let calls =
        bulkhead_seccomp::names().filter_map(|name| Some((name, bulkhead_seccomp::number(NATIVE, name)?)));
    let passes = |number: u32| {
        filters.iter().all(|filter| match filter.constant(NATIVE, number) {
            Some(value) => matches!(value & ACTION, bpf::RET_ALLOW | bpf::RET_LOG),
            None => true,
        })
    };
    Ok(calls.filter(|(_, number)| passes(*number)).map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use bulkhead_seccomp::compile;

    use super::*;

    fn program(profile: &str) -> Vec<Instruction> {
        compile(&serde_json::from_str(profile).unwrap(), NATIVE).unwrap().instructions
    }

    #[test]
    fn what_every_filter_lets_through_counts() {
        let all = passed(&[]).unwrap();
        assert!(all.len() > 300 && all.contains("bpf"), "{} calls without a filter", all.len());
        let few = program(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "write", "mkdir"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]}]}"#,
        );
        assert_eq!(passed(std::slice::from_ref(&few)).unwrap(), ["mkdir", "read", "socket", "write"].into());
        let other = program(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#,
        );
        assert_eq!(passed(&[few, other]).unwrap(), ["read", "socket", "write"].into());
        assert!(passed(&[Vec::new()]).is_err(), "an empty filter was understood");
    }
}
