//! Typed, safe Linux system calls that rustix lacks, with errors that read like strace.
//!
//! A wrapper is one policy decision: descriptors come first, paths second, everything is close-on-exec,
//! and the safe choice has the short name. A failed call is an [`Error`] that prints the call with its
//! arguments as strace would.
//!
//! | module | system calls |
//! |---|---|
//! | [`bpf`] | bpf(2) for device programs of cgroup v2 |
//! | [`capability`] | none: the names of capabilities |
//! | [`datagram`] | recvmsg(2), sendmsg(2) with the address of the host that was asked |
//! | [`path`] | openat2(2) with the resolution rules that keep a lookup inside a root |
//! | [`identity`] | none: who a process is, and which boot this is |
//! | [`handle`] | name_to_handle_at(2), open_by_handle_at(2) |
//! | [`keyring`] | add_key(2), keyctl(2) for the user keyring |
//! | [`landlock`] | landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2) |
//! | [`memory`] | mmap(2), munmap(2) of anonymous memory |
//! | [`mount`] | the descriptor-based mount interface and mount_setattr(2), for which mount(2) stands in |
//! | [`mountinfo`] | none: the table of mounts |
//! | [`namespace`] | unshare(2), setns(2) |
//! | [`offspring`] | fork(2), PR_SET_PDEATHSIG, getrusage(2) |
//! | [`process`] | execve(2), signal dispositions, close_range(2), pidfds |
//! | [`credentials`] | identities, capability sets, no_new_privs, session keyring |
//! | [`seccomp`] | seccomp(2) |
//! | [`program`] | none: where a program begins without the standard library's start-up |
//! | [`schedule`] | scheduler, I/O priority, CPU affinity, memory policy, personality |
//! | [`message`] | unix sockets that carry descriptors |
//! | [`net`] | the loopback interface |
//! | [`netlink`] | rtnetlink(7): network devices and their addresses |
//! | [`sample`] | perf_event_open(2): stacks of the kernel, while a process runs |
//! | [`shared_memory`] | shmget(2), shmat(2), shmctl(2) |
//! | [`shield`] | execveat(2) of the program itself, before the C library starts |
//! | [`signal`] | signalfd(2), masks, and the names of signals |
//! | [`trace`] | ptrace(2), for tests that make calls fail |
//! | [`watch`] | syslog(2), perf_event_open(2) |
#![expect(unsafe_code, reason = "this crate is where unsafe system calls get their safe, typed form")]

pub mod bpf;
pub mod capability;
pub mod credentials;
pub mod datagram;
mod error;
pub mod handle;
pub mod identity;
pub mod keyring;
pub mod landlock;
pub mod memory;
pub mod message;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod offspring;
pub mod path;
pub mod process;
pub mod program;
mod remount;
pub mod sample;
pub mod schedule;
pub mod seccomp;
pub mod shared_memory;
pub mod shield;
pub mod signal;
mod syscall;
pub mod trace;
pub mod watch;

pub use error::{Call, Error, Result};
