//! The documents of the OCI runtime specification 1.3 as plain types, and nothing else.
//!
//! | document | type | read from |
//! |---|---|---|
//! | the bundle's `config.json` | [`Config`] | [`Config::from_json`] |
//! | the process of `exec --process FILE` | [`Process`] | [`Process::from_json`] |
//! | the limits of `update --resources FILE` | [`Resources`] | [`Resources::from_json`] |
//! | the state that hooks and `state` see | [`State`] | – |
//! | what a runtime says of itself | [`features::Features`] | – |
//!
//! # Rules of reading and writing
//! - Unknown fields are ignored, as the specification demands; so are the sections of other platforms
//!   (`solaris`, `windows`, `vm`, `zos`, `freebsd`).
//! - An optional field that is missing, `null`, or as empty as its type can be reads as the same value, and is
//!   not written. That is how the specification's own Go types behave, so it is what every engine relies on. The
//!   exceptions, where an empty list says something, are `Option<Vec<_>>` and say so.
//! - Where the specification lists all values of a string, the type is an enumeration, and another value is an
//!   error that names it. Its `ALL` feeds the features document.
//! - Below `linux.resources`, and in a document of resources, a name also counts with a capital letter, and twice, as
//!   Go has it; elsewhere a name that is there twice is an error.
//! - Only the form is checked here. Whether values make sense together is the runtime's to judge.
//!
//! ```
//! use bulkhead_spec::{Config, NamespaceType};
//!
//! let text = r#"{
//!     "ociVersion": "1.3.0",
//!     "root": { "path": "rootfs" },
//!     "linux": { "namespaces": [{ "type": "pid" }, { "type": "mnt" }] }
//! }"#;
//! let error = Config::from_json(text).unwrap_err();
//! assert_eq!(error.pointer(), "/linux/namespaces/1/type");
//!
//! let config = Config::from_json(&text.replace("mnt", "mount")).unwrap();
//! assert_eq!(config.linux.unwrap().namespaces[1].kind, NamespaceType::Mount);
//! ```

mod config;
mod error;
pub mod features;
mod field;
mod hooks;
mod linux;
mod locate;
mod mount;
mod process;
mod resources;
mod seccomp;
mod state;
mod twins;

pub use config::{Config, Root};
pub use error::{ParseError, UnknownValue};
pub use hooks::{Hook, Hooks};
pub use linux::{
    Clock, Device, DeviceType, IntelRdt, Linux, MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, Namespace,
    NamespaceType, NetDevice, Personality, PersonalityDomain, RootfsPropagation, TimeOffset,
};
pub use mount::{IdMapping, Mount};
pub use process::{
    Capabilities, ConsoleSize, ExecCpuAffinity, IoPriority, IoPriorityClass, Process, Rlimit, Scheduler,
    SchedulerFlag, SchedulerPolicy, User,
};
pub use resources::{
    BlockIoResources, CpuResources, DeviceRule, DeviceRuleType, HugepageLimit, InterfacePriority,
    MemoryResources, NetworkResources, PidsResources, RdmaResources, Resources, ThrottleDevice, WeightDevice,
};
pub use seccomp::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompFlag, SeccompSyscall};
pub use state::{ContainerProcessState, ContainerState, SECCOMP_FD_NAME, State};

/// The version of the specification that these types follow.
pub const OCI_VERSION: &str = "1.3.0";
