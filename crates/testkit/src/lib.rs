//! Sandboxes, bundles and leak checks for tests that run containers.
//!
//! A test takes a [`Sandbox`], makes a [`Bundle`] in it, and runs the runtime on that. Whatever happens, nothing is
//! left on the machine afterwards, and a runtime that leaves something fails the test:
//!
//! ```no_run
//! use bulkhead_testkit::{Sandbox, is_root, requires};
//!
//! # const BULKRUN: &str = "/usr/bin/bulkrun";
//! # #[expect(clippy::test_attr_in_doctest, reason = "the example is a whole test")]
//! #[test]
//! fn a_container_sees_itself_as_the_only_one() {
//!     requires!(is_root(), "needs root");
//!     let sandbox = Sandbox::new(BULKRUN); // env!("CARGO_BIN_EXE_bulkrun")
//!
//!     // Docker's default container, with a change.
//!     let bundle = sandbox.bundle("lonely").script("echo pid $$; hostname");
//!     sandbox.run(&bundle).output().succeeds().prints("pid 1\ntestkit\n");
//!
//!     // Step by step.
//!     let bundle = sandbox.bundle("steps").args(["sleep", "100"]);
//!     sandbox.create(&bundle);
//!     assert_eq!(sandbox.status(&bundle), "created");
//!     sandbox.start(&bundle);
//!     sandbox.exec(&bundle, ["id", "-u"]).output().succeeds().prints("0\n");
//!     let init = sandbox.pid(&bundle);
//!     sandbox.kill(&bundle, "KILL");
//!     sandbox.wait_for_exit(init);
//!     sandbox.delete(&bundle);
//!
//!     // A refusal is an exit code and a sentence.
//!     let bundle = sandbox.bundle("broken").args(["no-such-program"]);
//!     sandbox.run(&bundle).output().exits_with(1).complains("no-such-program");
//! } // Dropping the sandbox deletes what is left and checks for leaks.
//! ```
//!
//! | wanted | found in |
//! |---|---|
//! | a runtime on an old kernel | [`Sandbox::without_calls`], and the program `fake-enosys` |
//! | a machine with cgroup v2 only | [`Sandbox::v2_only`] |
//! | a runtime without root | [`Sandbox::as_user`], [`Bundle::rootless`] |
//! | what CRIU is asked | [`Recorder`] |
//! | a user with a systemd of its own | [`Session`] |
//! | daemons, on a machine of their own | [`Sandbox::boot`], and docker's: [`Docker`] |
//! | daemons of a package, that end with the test | [`daemon`] |
//! | a program of another package, also as it is shipped | [`built`] |
//! | a socket that takes descriptors | [`Desk`] |
//! | another network namespace, a disk | [`Network`], [`Disk`] |
//! | a runtime under another program | [`Sandbox::through`] |
//! | a test in namespaces of its own | [`in_fresh_namespaces!`] |
//! | a registry with images | [`registry::Registry`] |
//! | files, and no containers | [`Scratch`] |
//! | a test that cannot run everywhere | [`requires!`], [`skip!`] |
//! | a terminal and a person before it | [`terminal::Seat`] |
//! | packages that are not installed, where they look for their files | [`tree::lay`] |
//! | what is left, without failing | [`Sandbox::leaks`] |
//! | every system call of a command going wrong | [`sweep::Sweep`] |
//!
//! # Life cycle of a sandbox
//! 1. **Made**: a directory of a new name under the temporary directory, locked. Tests that were killed have left
//!    directories whose lock nobody holds; they are removed with all that belongs to them.
//! 2. **Used**: commands run in process groups of their own, with a limit in time, and write to files. The test
//!    process is the subreaper: containers that outlive their `create` become its children, as they would become a
//!    monitor's.
//! 3. **Dropped**: containers in the state directory are deleted by `delete --force`; then mounts, cgroups,
//!    processes, namespaces and files that bear the sandbox's name are leaks; then they are removed by force.
//!
//! Failures of the kit are failures of the test: its functions panic and say so.

pub mod built;
pub mod bundle;
mod calls;
pub mod cgroups;
pub mod daemon;
mod desk;
mod disk;
mod docker;
pub mod docker_like;
mod fail;
pub mod faults;
pub mod fresh;
pub mod idmap;
mod injection;
mod leak;
pub mod machine;
pub mod mounts;
mod name;
pub mod network;
mod process;
mod recorder;
pub mod registry;
pub mod rootfs;
pub mod run;
mod sandbox;
mod scratch;
mod session;
pub mod skip;
pub mod sweep;
pub mod terminal;
pub mod tree;

pub use bundle::Bundle;
pub use desk::{Arrival, Desk};
pub use disk::Disk;
pub use docker::Docker;
pub use leak::Leak;
pub use machine::{Init, Machine};
pub use network::Network;
pub use process::heed_interruptions;
pub use recorder::{Recorder, Request};
pub use run::{Output, Run, Running};
pub use sandbox::{Sandbox, slowness, wait_until};
pub use scratch::Scratch;
pub use session::Session;
pub use skip::{cached, find_criu, find_program, is_disposable, is_root, kernel};
