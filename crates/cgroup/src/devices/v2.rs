//! Device rules as a BPF program attached to a v2 cgroup.
//!
//! The program sees `struct bpf_cgroup_dev_ctx`: access in the upper and kind in the lower half of the first word,
//! then major and minor. It tests one exception after the other and falls through to the default.

use std::os::fd::OwnedFd;

use bulkhead_sys::bpf::{self, Attach, Instruction};
use bulkhead_sys::namespace;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Access, Default, Kind, Nodes, Policy, Rules};
use crate::dir::Dir;
use crate::error::{Error, Result};

/// Registers: the context (and later scratch), and what was loaded from it.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Operation codes, see the kernel's instruction set documentation. The jumps compare 32 bits (Linux 5.1).
pub(super) const LOAD_WORD: u8 = 0x61;
pub(super) const MOVE: u8 = 0xb7;
pub(super) const MOVE_REGISTER: u8 = 0xbf;
pub(super) const AND: u8 = 0x57;
pub(super) const SHIFT_RIGHT: u8 = 0x77;
pub(super) const JUMP: u8 = 0x05;
pub(super) const JUMP_IF_UNEQUAL: u8 = 0x56;
pub(super) const JUMP_IF_ANY_BIT: u8 = 0x46;
pub(super) const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
pub(super) const BLOCK: i32 = 1;
pub(super) const CHAR: i32 = 2;

/// Compiles a policy.
pub(crate) fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for (nodes, access) in &policy.exceptions {
        program.extend(exception(nodes, *access, policy.default));
    }
    program.extend(verdict(policy.default));
    program
}

/// Tests for one exception; each jump goes behind the last instruction.
fn exception(nodes: &Nodes, access: Access, default: Default) -> Vec<Instruction> {
    let kind = match nodes.kind {
        Kind::Char => CHAR,
        Kind::Block => BLOCK,
    };
    let mut tests = vec![instruction(JUMP_IF_UNEQUAL, KIND, 0, 0, kind)];
    let bits = i32::from(access.bits());
    match default {
        _ if access == Access::ALL => {}
        // An allowing exception must cover all that is asked for.
        Default::Deny => {
            tests.push(instruction(JUMP_IF_ANY_BIT, ACCESS, 0, 0, i32::from(Access::ALL.bits()) & !bits));
        }
        // A denying one applies as soon as it meets any of it: opening for both denies if writing is denied.
        Default::Allow => {
            tests.push(instruction(JUMP_IF_ANY_BIT, ACCESS, 0, 1, bits));
            tests.push(instruction(JUMP, 0, 0, 0, 0));
        }
    }
    for (register, number) in [(MAJOR, nodes.major), (MINOR, nodes.minor)] {
        if let Some(number) = number {
            // The comparison is of 32 bits, so the sign of the immediate does not matter.
            tests.push(instruction(JUMP_IF_UNEQUAL, register, 0, 0, number as i32));
        }
    }
    let opposite = match default {
        Default::Allow => Default::Deny,
        Default::Deny => Default::Allow,
    };
    tests.extend(verdict(opposite));
    let length = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        let leaves =
            matches!(test.code, JUMP | JUMP_IF_UNEQUAL) || (test.code == JUMP_IF_ANY_BIT && test.offset == 0);
        if leaves {
            // A block has at most eight instructions.
            test.offset = (length - index - 1) as i16;
        }
    }
    tests
}

fn verdict(verdict: Default) -> [Instruction; 2] {
    let value = match verdict {
        Default::Allow => 1,
        Default::Deny => 0,
    };
    [instruction(MOVE, RESULT, 0, 0, value), instruction(EXIT, 0, 0, 0, 0)]
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, immediate }
}

/// By this name our programs are told from those of others.
const NAME: &std::ffi::CStr = c"bulkhead_device";

/// Whether a cgroup can have programs from an earlier life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    New,
    Reused,
}

/// Sets the policy of a cgroup in place of the one that it has. Programs of others stay, and all must allow.
pub(crate) fn apply(dir: &Dir, policy: &Policy, history: History) -> Result<()> {
    let failed = |source| Error::System { cgroup: dir.path().to_owned(), source };
    let old = match history {
        History::New => Vec::new(),
        History::Reused => attached(dir).map_err(failed)?.own,
    };
    match replace(dir, policy, &old) {
        // Nobody in a user namespace may load a program, as podman's runtime of an ordinary user finds; there the kernel makes
        // no device nodes, and opens those of the host by their permissions alone. The other runtimes go on, too.
        Err(error) if error.errno() == Errno::PERM && !namespace::is_initial_user().map_err(failed)? => {
            Ok(())
        }
        result => result.map_err(failed),
    }
}

/// Changes the policy of a cgroup in use.
pub(crate) fn change(dir: &Dir, policy: &Policy) -> Result<Rules> {
    let failed = |source| Error::System { cgroup: dir.path().to_owned(), source };
    let attached = attached(dir).map_err(failed)?;
    if attached.own.is_empty() && attached.others > 0 {
        return Ok(Rules::OfOthers);
    }
    replace(dir, policy, &attached.own).map_err(failed)?;
    Ok(Rules::Set)
}

fn replace(dir: &Dir, policy: &Policy, old: &[OwnedFd]) -> bulkhead_sys::Result<()> {
    let program = load(&compile(policy))?;
    if let [old] = old {
        match bpf::attach_device(dir.fd(), &program, Attach::Replacing(old)) {
            Err(error) if error.errno() == Errno::INVAL => {} // before Linux 5.6
            result => return result,
        }
    }
    bpf::attach_device(dir.fd(), &program, Attach::Beside)?;
    old.iter().try_for_each(|old| bpf::detach_device(dir.fd(), old))
}

/// The programs of a cgroup.
#[derive(Default)]
struct Attached {
    own: Vec<OwnedFd>,
    others: usize,
}

fn attached(dir: &Dir) -> bulkhead_sys::Result<Attached> {
    let mut found = Attached::default();
    for id in bpf::attached_device_programs(dir.fd())? {
        match bpf::program_by_id(id) {
            Ok(program) if bpf::identify(&program)?.is_called(NAME) => found.own.push(program),
            Ok(_) => found.others += 1,
            // It went away, or a security module hides it. It can only restrict further, so it may stay.
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Loads the program. Before Linux 5.11 it counts against RLIMIT_MEMLOCK, which is lifted only where that fails and
/// put back, because the container inherits it.
fn load(program: &[Instruction]) -> bulkhead_sys::Result<OwnedFd> {
    match bpf::load_device_program(NAME, program) {
        Err(error) if error.errno() == Errno::PERM => {
            let before = getrlimit(Resource::Memlock);
            let lifted = Rlimit { current: None, maximum: None };
            if setrlimit(Resource::Memlock, lifted).is_err() {
                return Err(error);
            }
            let result = bpf::load_device_program(NAME, program);
            setrlimit(Resource::Memlock, before)
                .map_err(|errno| bulkhead_sys::Error::new("setrlimit(MEMLOCK)", errno))?;
            result
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::{is_root, requires};

    use super::*;
    use crate::devices::interpret::{self, Request};
    use crate::devices::testing::fold;

    /// Says what the v1 controller would (`match_exception` and `match_exception_partial` in the kernel).
    fn v1_allows(policy: &Policy, kind: Kind, access: u8, major: u32, minor: u32) -> bool {
        let mut matching = policy.exceptions.iter().filter(|(nodes, _)| {
            nodes.kind == kind
                && nodes.major.is_none_or(|number| number == major)
                && nodes.minor.is_none_or(|number| number == minor)
        });
        match policy.default {
            Default::Deny => matching.any(|(_, allowed)| access & !allowed.bits() == 0),
            Default::Allow => matching.all(|(_, denied)| access & denied.bits() == 0),
        }
    }

    const POLICIES: [&[&str]; 7] = [
        &[],
        &["allow a *:* rwm"],
        &["allow c 1:3 rwm", "allow c 1:5 r", "allow c *:* m", "allow b 8:* rw"],
        &["allow c *:7 w", "allow c 4294967295:4294967294 r"],
        &["allow a *:* rwm", "deny c 1:3 w", "deny b *:* m"],
        &["allow a *:* rwm", "deny c 1:* rwm", "deny c 5:1 r", "deny c 5:1 m"],
        &["deny a *:* rwm", "allow b *:* rwm"],
    ];

    #[test]
    fn the_program_decides_as_the_v1_controller() {
        let numbers = [0, 1, 3, 5, 7, 8, u32::MAX - 1, u32::MAX];
        for rules in POLICIES {
            let policy = fold(rules).unwrap();
            let program = compile(&policy);
            for kind in [Kind::Char, Kind::Block] {
                for access in 1..=7 {
                    for (major, minor) in numbers.iter().flat_map(|&a| numbers.iter().map(move |&b| (a, b))) {
                        let request = Request { kind, access: Access(access), major, minor };
                        assert_eq!(
                            interpret::run(&program, request),
                            Some(v1_allows(&policy, kind, access, major, minor)),
                            "{rules:?}: {kind:?} {major}:{minor} access {access}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_kernel_takes_every_program() {
        requires!(is_root(), "loading a device program needs root");
        for rules in POLICIES {
            let program = compile(&fold(rules).unwrap());
            bpf::load_device_program(NAME, &program).unwrap_or_else(|error| panic!("{rules:?}: {error}"));
        }
    }
}
