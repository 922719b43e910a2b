//! Why a profile cannot be compiled.

use bulkhead_spec::{Action, Arch};

/// A profile that is refused. Each error names the place as a JSON pointer inside the `seccomp` object, see
/// [`Error::pointer`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An errno is given to an action that returns none. The specification demands that this fails.
    #[error("{pointer}: {action} takes no errno")]
    ErrnoWithoutUse {
        /// The place of the errno.
        pointer: String,
        /// The action beside it.
        action: Action,
    },
    /// An errno is larger than the kernel can return.
    #[error("{pointer}: {errno} is larger than {largest}, the largest value of {action}")]
    ErrnoTooLarge {
        /// The place of the errno.
        pointer: String,
        /// The action beside it.
        action: Action,
        /// The value given.
        errno: u32,
        /// The largest value that is possible.
        largest: u32,
    },
    /// The default action is to ask a listener, who would have to allow the very call that sends him the filter.
    #[error("/defaultAction: SCMP_ACT_NOTIFY cannot be the default action")]
    NotifyByDefault,
    /// A call asks a listener by which the listener gets the filter: to ask about it would wait for ever.
    #[error(
        "/syscalls/{rule}/action: SCMP_ACT_NOTIFY cannot be used for the {name} syscall, by which the listener is reached"
    )]
    NotifyOnHandOver {
        /// The index of the rule.
        rule: usize,
        /// The call.
        name: &'static str,
    },
    /// A rule asks a listener and there is none.
    #[error("/syscalls/{rule}/action: SCMP_ACT_NOTIFY needs a listenerPath")]
    NoListener {
        /// The index of the rule.
        rule: usize,
    },
    /// There is data for a listener and no listener.
    #[error("/listenerMetadata: there is no listenerPath to send it to")]
    MetadataWithoutListener,
    /// A name of a call is empty.
    #[error("/syscalls/{rule}/names/{name}: a system call has a name")]
    EmptyName {
        /// The index of the rule.
        rule: usize,
        /// The index of the name.
        name: usize,
    },
    /// A condition is about an argument that no call has.
    #[error("/syscalls/{rule}/args/{argument}/index: {index} is not one of the arguments 0 to 5")]
    NoSuchArgument {
        /// The index of the rule.
        rule: usize,
        /// The index of the condition.
        argument: usize,
        /// The value given.
        index: u32,
    },
    /// An architecture that no kernel has beside the native one.
    #[error("/architectures/{index}: {arch} has another byte order than {native}")]
    ByteOrder {
        /// The index of the architecture.
        index: usize,
        /// The architecture.
        arch: Arch,
        /// The architecture of the machine.
        native: Arch,
    },
    /// Two rules give the same call with the same arguments to different actions.
    #[error("/syscalls/{rule}: it contradicts /syscalls/{other} for {name} on {arch}")]
    Contradiction {
        /// The index of the later rule.
        rule: usize,
        /// The index of the earlier rule.
        other: usize,
        /// The call.
        name: String,
        /// The architecture, which decides how much of an argument is compared.
        arch: Arch,
    },
    /// The kernel takes no program that is so long.
    #[error("/syscalls: the filter needs {instructions} instructions, the kernel takes 4096")]
    TooLong {
        /// The length of the program.
        instructions: usize,
    },
}

impl Error {
    /// Returns the place inside the `seccomp` object, as a JSON pointer (RFC 6901).
    pub fn pointer(&self) -> String {
        let text = self.to_string();
        text.split(": ").next().unwrap_or_default().to_owned()
    }
}

/// Something in a profile that has no effect, and that its author may want to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// No architecture that we know has a call of this name. It is ignored, as under runc: profiles name calls of
    /// kernels yet to come.
    #[error("/syscalls/{rule}: unknown system call {name:?} is ignored")]
    UnknownCall {
        /// The index of the rule.
        rule: usize,
        /// The name.
        name: String,
    },
    /// A rule names no call.
    #[error("/syscalls/{rule}/names: the rule names no system call")]
    NoNames {
        /// The index of the rule.
        rule: usize,
    },
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` says how long to wait for a listener, and there is none. The kernel
    /// would refuse it.
    #[error("/flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no effect without SCMP_ACT_NOTIFY")]
    WaitWithoutListener,
}
