//! Control groups v1, v2 and hybrid: a pure plan of writes and an applier over directory descriptors.
//!
//! # Vocabulary
//! - A *hierarchy* is one tree of cgroups: in v1 one for each set of controllers, in v2 one for all. [`Host`] knows
//!   which there are and where they are mounted.
//! - A container's *cgroup* is one directory in each hierarchy. [`CgroupPath`] is what the configuration says about
//!   it, [`Places`] are the directories, [`Cgroup`] is the thing itself.
//! - A *plan* is the ordered list of values for the files of those directories. Making a [`Plan`] checks everything
//!   and touches nothing.
//! - The *record* is what a state file keeps: where the cgroup is, and which directories were made for it.
//!
//! # Life cycle
//! ```text
//! Host::detect ─┬─ CgroupPath::from_config ── Places::find ── Places::record ─► (saved)
//!               └─ Plan::for_container ──┐                          │
//!                                        └───► Cgroup::create ◄─────┘
//!                                                   │
//!      parent: Cgroup::joiner ──► clone3(CLONE_INTO_CGROUP = Joiner::into_cgroup_fd)
//!                                                   │
//!      child:  Joiner::join_self                    │
//!                                                   ▼
//!      any later process: Cgroup::open(record): sub, update, freeze, thaw, kill_all, stats, watch_oom, remove
//! ```
//! The record is saved before anything is made, so that a crash leaves nothing that `delete` cannot find.
//!
//! # Example
//! ```no_run
//! use bulkhead_cgroup::{Cgroup, CgroupPath, Devices, Doors, Host, Need, Places, Plan};
//! use bulkhead_spec::Resources;
//!
//! let host = Host::detect()?;
//! let resources = Resources::from_json(r#"{"memory": {"limit": 67108864}, "pids": {"limit": 100}}"#)?;
//! let plan = Plan::for_container(Some(&resources), &host, Devices::Enforced)?;
//!
//! let path = CgroupPath::from_config(Some("/shop/web-1"), "web-1")?;
//! let places = Places::find(&host, &path)?;
//! let record = places.record()?; // and into the state file with it
//! let cgroup = Cgroup::create(&places, &record, &plan, Need::Required)?;
//!
//! let joiner = cgroup.joiner(Doors::OpenedByParent)?;
//! let into_cgroup = joiner.into_cgroup_fd(); // for clone3(2); then, in the single-threaded child:
//! joiner.join_self()?;
//! # drop(joiner);
//!
//! Cgroup::open(&record).remove()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Prices
//! A v1 hierarchy costs the parent three calls (mkdir, the directory, its `tasks`) and the child one; each limit
//! three; each device rule one. Nothing here waits for the kernel: see [`Joiner`].
//!
//! The systemd driver is a second way to make the directory of v2, see [`systemd`]; what joins, watches and kills need
//! not know who made it.

mod apply;
mod cgroup;
mod cpuset;
mod decimal;
mod delegate;
pub mod devices;
mod dir;
mod error;
mod freeze;
mod host;
mod join;
mod kill;
mod oom;
mod path;
mod plan;
mod procs;
mod remove;
pub mod stats;
pub mod systemd;
mod unified;
mod view;

pub use cgroup::{Cgroup, Need, Record};
pub use error::{Error, Result};
pub use freeze::Freezer;
pub use host::{Hierarchy, Host, Layout, Version};
pub use join::{Doors, Joiner};
pub use oom::{OomEvent, OomWatch};
pub use path::{CgroupPath, Places, SubCgroups};
pub use plan::{Devices, Plan, Write};
pub use stats::Stats;
pub use view::View;
