//! Compiles OCI seccomp profiles to BPF.
//!
//! ```text
//!  profile (JSON, bulkhead_spec::Seccomp)
//!     │  front      actions and errnos resolved, conditions in normal form, flags, listener     → Policy
//!     ▼
//!     │  ir         names become numbers, for each architecture; rules of one call are merged    → Filter
//!     ▼             (tables: names and numbers · abi: what differs between architectures)
//!     │  ranges     runs of numbers with one verdict, a weighted search tree over them           → Section, Tree
//!     ▼
//!     │  emit       instructions, from the last to the first, with stepping stones for far jumps → Program
//!     ▼
//!  seccomp(2)                  interpret   runs a program as the kernel would: for tests and measurements
//! ```
//!
//! The crate makes no system call. What a filter means is defined by libseccomp and runc, since that is what profiles
//! were written for; tests compare every decision with libseccomp's. Its programs are not imitated: docker's profile
//! takes 1 125 instructions there.
//!
//! # Example
//! A profile that forbids `mkdir`, and `clone` with new user namespaces, on a machine without other architectures:
//!
//! ```
//! use bulkhead_seccomp::interpret::{Data, Interpreter};
//! use bulkhead_seccomp::{Arch, bpf, compile};
//!
//! let profile = serde_json::from_str(r#"{
//!     "defaultAction": "SCMP_ACT_ALLOW",
//!     "syscalls": [
//!         { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" },
//!         { "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "args": [
//!             { "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 268435456, "valueTwo": 268435456 } ] }
//!     ]
//! }"#).unwrap();
//! let program = compile(&profile, Arch::X86_64).unwrap();
//!
//! // mkdir is 83, mkdirat 258, clone 56; 0x10000000 is CLONE_NEWUSER.
//! let filter = Interpreter::new(&program.instructions).unwrap();
//! let decide = |number, argument| {
//!     let mut call = Data::new(Arch::X86_64, number);
//!     call.arguments[0] = argument;
//!     filter.run(&call).value
//! };
//! assert_eq!(decide(83, 0), bpf::RET_ERRNO | 1);
//! assert_eq!(decide(84, 0), bpf::RET_ALLOW);
//! assert_eq!(decide(56, 0x1000_0011), bpf::RET_ERRNO | 38);
//! assert_eq!(decide(56, 0x11), bpf::RET_ALLOW);
//! // Calls by the x32 ABI would go around the numbers above, so they are refused.
//! assert_eq!(decide(0x4000_0053, 0), bpf::RET_KILL_THREAD);
//! ```

mod abi;
pub mod bpf;
mod default;
mod emit;
mod error;
mod front;
pub mod interpret;
mod ir;
mod ranges;
mod tables;

use std::ops::{BitOr, BitOrAssign};

pub use bulkhead_spec::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompFlag, SeccompSyscall};

pub use abi::{ByteOrder, NATIVE, audit_arch};
pub use bpf::Instruction;
pub use default::{DEFAULT_CAPABILITIES, default_profile, default_profile_for};
pub use error::{Error, Warning};
pub use tables::{name, names, number};

/// The actions that are supported: all of them.
pub const ACTIONS: &[Action] = Action::ALL;
/// The operators that are supported: all of them.
pub const OPERATORS: &[Operator] = Operator::ALL;
/// The architectures that are supported: all of them.
pub const ARCHITECTURES: &[Arch] = Arch::ALL;
/// The flags that are known. `SECCOMP_FILTER_FLAG_TSYNC` has no effect, as under runc.
pub const FLAGS: &[SeccompFlag] = SeccompFlag::ALL;

/// A filter, ready for seccomp(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The instructions, 1 to 4096.
    pub instructions: Vec<Instruction>,
    /// The flags to load it with.
    pub flags: FilterFlags,
    /// Whether a listener is asked; [`FilterFlags::NEW_LISTENER`] is set then, and the profile has a `listenerPath`.
    pub uses_notify: bool,
    /// What in the profile has no effect.
    pub warnings: Vec<Warning>,
}

/// Flags of seccomp(2) with `SECCOMP_SET_MODE_FILTER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterFlags(u32);

impl FilterFlags {
    /// All actions but "allow" are logged.
    pub const LOG: Self = Self(1 << 1);
    /// Speculative store bypass is not mitigated for the process.
    pub const SPEC_ALLOW: Self = Self(1 << 2);
    /// The call returns a descriptor on which a listener decides.
    pub const NEW_LISTENER: Self = Self(1 << 3);
    /// A call that the listener has received can only be interrupted by a fatal signal.
    pub const WAIT_KILLABLE_RECV: Self = Self(1 << 5);

    /// Returns no flags.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Returns the flags as the kernel takes them.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Says whether all flags of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for FilterFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for FilterFlags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Compiles `profile` for a machine whose own architecture is `native`; for the running one that is [`NATIVE`].
///
/// # Errors
/// Fails if the profile contradicts itself or the specification, names an architecture of another byte order than
/// the machine's, or needs more instructions than the kernel takes. Unknown calls are no error but a [`Warning`].
pub fn compile(profile: &Seccomp, native: Arch) -> Result<Program, Error> {
    let (policy, front::Settings { flags, uses_notify, mut warnings }) = front::validate(profile, native)?;
    let filter = ir::lower(&policy, &mut warnings)?;
    let sections = ranges::sections(&filter);
    let instructions = emit::emit(&filter, &sections)?;
    Ok(Program { instructions, flags, uses_notify, warnings })
}
