//! What runc would load: libseccomp's filter with runc's ENOSYS rule in front of it.

use std::io::{Read, Seek};

use bulkhead_seccomp::interpret::{Data, Interpreter};
use bulkhead_seccomp::{Action, Arch, Instruction, Operator, Seccomp, audit_arch, bpf, number};
use bulkhead_spec::SeccompSyscall;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

/// Bit 30 of a number: x32.
pub(crate) const X32_BIT: u32 = 1 << 30;

/// A filter by libseccomp.
pub(crate) struct Oracle {
    instructions: Vec<Instruction>,
    /// The newest call of each architecture, where numbers above it get ENOSYS.
    newest: Vec<(Arch, u32)>,
    has_x32: bool,
}

/// Why libseccomp makes no filter.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The library on this machine does not know an architecture.
    Architecture,
    /// It refuses a rule.
    Rule,
}

impl Oracle {
    /// Builds the filter as runc does, for a machine of the architecture `native`.
    pub(crate) fn new(profile: &Seccomp, native: Arch) -> Result<Self, Refusal> {
        let default = action(profile.default_action, profile.default_errno_ret);
        let mut filter = ScmpFilterContext::new(default).unwrap();
        let mut architectures = vec![native];
        architectures.extend(profile.architectures.iter().filter(|&&arch| arch != native));
        if scmp(native) != ScmpArch::native() {
            filter.remove_arch(ScmpArch::native()).unwrap();
        }
        for &arch in &architectures {
            filter.add_arch(scmp(arch)).map_err(|_| Refusal::Architecture)?;
        }
        for rule in &profile.syscalls {
            for name in &rule.names {
                add(&mut filter, name, rule, default)?;
            }
        }
        Ok(Self {
            instructions: export(&filter, native),
            has_x32: architectures.contains(&Arch::X32),
            newest: if matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace) {
                Vec::new()
            } else {
                architectures.into_iter().filter_map(|arch| Some((arch, newest(profile, arch)?))).collect()
            },
        })
    }

    /// Returns how many instructions libseccomp needs.
    pub(crate) fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Returns what runc's filter decides.
    pub(crate) fn decide(&self, call: &Data) -> u32 {
        for &(arch, newest) in &self.newest {
            if audit_arch(arch) != call.arch {
                continue;
            }
            let mode = if arch == Arch::X32 { X32_BIT } else { 0 };
            let x86 = matches!(arch, Arch::X86_64 | Arch::X32);
            if x86 && call.number & X32_BIT != mode {
                continue;
            }
            let setup = matches!(arch, Arch::S390 | Arch::S390x) && call.number == 0;
            if call.number > newest || setup {
                return bpf::RET_ERRNO | 38;
            }
        }
        Interpreter::new(&self.instructions).unwrap().run(call).value
    }

    /// Says whether x32 is one of the architectures.
    pub(crate) fn has_x32(&self) -> bool {
        self.has_x32
    }
}

/// Adds the rules for one name.
fn add(
    filter: &mut ScmpFilterContext,
    name: &str,
    rule: &SeccompSyscall,
    default: ScmpAction,
) -> Result<(), Refusal> {
    let action = action(rule.action, rule.errno_ret);
    let Ok(call) = ScmpSyscall::from_name(name) else { return Ok(()) };
    if action == default {
        return Ok(());
    }
    let conditions: Vec<ScmpArgCompare> = rule
        .args
        .iter()
        .map(|arg| match arg.op {
            Operator::MaskedEq => {
                ScmpArgCompare::new(arg.index, ScmpCompareOp::MaskedEqual(arg.value), arg.value_two)
            }
            _ => ScmpArgCompare::new(arg.index, operator(arg.op), arg.value),
        })
        .collect();
    let repeated = (0..6).any(|index| rule.args.iter().filter(|arg| arg.index == index).count() > 1);
    let sets: Vec<&[ScmpArgCompare]> =
        if repeated { conditions.chunks(1).collect() } else { vec![conditions.as_slice()] };
    for set in sets {
        filter.add_rule_conditional(action, call, set).map_err(|_| Refusal::Rule)?;
    }
    Ok(())
}

/// runc's count of the newest call, by libseccomp's numbers.
pub(crate) fn newest(profile: &Seccomp, arch: Arch) -> Option<u32> {
    let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
    let numbers = names.filter_map(|name| resolve(arch, name));
    numbers.max().filter(|&number| number != 0)
}

/// Returns libseccomp's number of a call, if it is one that the kernel has.
pub(crate) fn resolve(arch: Arch, name: &str) -> Option<u32> {
    let call = ScmpSyscall::from_name_by_arch(name, scmp(arch)).ok()?;
    u32::try_from(call.as_raw_syscall()).ok()
}

/// Says whether libseccomp gives a name the same numbers as we do. A library that is older than our tables does not
/// know the newest calls.
pub(crate) fn agrees(arch: Arch, name: &str) -> bool {
    let ours = number(arch, name);
    match resolve(arch, name) {
        Some(theirs) => ours == Some(theirs),
        // Behind socketcall and ipc libseccomp finds the number later.
        None if multiplexed(name).is_some() => true,
        None => ours.is_none(),
    }
}

/// Returns how a call is made through socketcall or ipc: `linux/net.h` and `linux/ipc.h`.
pub(crate) fn multiplexed(name: &str) -> Option<(&'static str, u64)> {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    let socket = SOCKETCALL.iter().position(|&known| known == name);
    let ipc = IPC.iter().find(|known| known.0 == name);
    socket.map(|at| ("socketcall", at as u64 + 1)).or(ipc.map(|known| ("ipc", known.1)))
}

/// Says whether libseccomp knows a name at all; runc ignores a rule for one that it does not.
pub(crate) fn knows(name: &str) -> bool {
    ScmpSyscall::from_name(name).is_ok()
}

/// Reads the program; libseccomp writes it in the byte order of the architecture.
fn export(filter: &ScmpFilterContext, native: Arch) -> Vec<Instruction> {
    let mut file = tempfile();
    filter.export_bpf(&mut file).unwrap();
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    let big = Data::new(native, 0).order == bulkhead_seccomp::ByteOrder::Big;
    let read = |raw: &[u8]| {
        let (code, k) = ([raw[0], raw[1]], [raw[4], raw[5], raw[6], raw[7]]);
        let (code, k) = if big {
            (u16::from_be_bytes(code), u32::from_be_bytes(k))
        } else {
            (u16::from_le_bytes(code), u32::from_le_bytes(k))
        };
        Instruction { code, jt: raw[2], jf: raw[3], k }
    };
    bytes.chunks(8).map(read).collect()
}

fn tempfile() -> std::fs::File {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("bulkhead-seccomp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file
}

fn action(action: Action, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(1);
    match action {
        Action::Kill | Action::KillThread => ScmpAction::KillThread,
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Trap => ScmpAction::Trap,
        Action::Errno => ScmpAction::Errno(errno as i32),
        Action::Trace => ScmpAction::Trace(errno as u16),
        Action::Allow => ScmpAction::Allow,
        Action::Log => ScmpAction::Log,
        Action::Notify => ScmpAction::Notify,
    }
}

fn operator(operator: Operator) -> ScmpCompareOp {
    match operator {
        Operator::Ne => ScmpCompareOp::NotEqual,
        Operator::Lt => ScmpCompareOp::Less,
        Operator::Le => ScmpCompareOp::LessOrEqual,
        Operator::Eq => ScmpCompareOp::Equal,
        Operator::Ge => ScmpCompareOp::GreaterEqual,
        Operator::Gt => ScmpCompareOp::Greater,
        Operator::MaskedEq => unreachable!("it carries its mask"),
    }
}

/// Returns libseccomp's token for an architecture.
pub(crate) fn scmp(arch: Arch) -> ScmpArch {
    match arch {
        Arch::X86 => ScmpArch::X86,
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X32 => ScmpArch::X32,
        Arch::Arm => ScmpArch::Arm,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Loongarch64 => ScmpArch::Loongarch64,
        Arch::M68k => ScmpArch::M68k,
        Arch::Mips => ScmpArch::Mips,
        Arch::Mips64 => ScmpArch::Mips64,
        Arch::Mips64N32 => ScmpArch::Mips64N32,
        Arch::Mipsel => ScmpArch::Mipsel,
        Arch::Mipsel64 => ScmpArch::Mipsel64,
        Arch::Mipsel64N32 => ScmpArch::Mipsel64N32,
        Arch::Ppc => ScmpArch::Ppc,
        Arch::Ppc64 => ScmpArch::Ppc64,
        Arch::Ppc64le => ScmpArch::Ppc64Le,
        Arch::S390 => ScmpArch::S390,
        Arch::S390x => ScmpArch::S390X,
        Arch::Sh => ScmpArch::Sh,
        Arch::Sheb => ScmpArch::Sheb,
        Arch::Parisc => ScmpArch::Parisc,
        Arch::Parisc64 => ScmpArch::Parisc64,
        Arch::Riscv64 => ScmpArch::Riscv64,
    }
}
