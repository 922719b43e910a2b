//! systemd as the maker of a container's cgroup: a transient scope in a slice.
//!
//! systemd wants to be the only one who makes cgroups where it manages them. So it is asked for a *scope*, a unit
//! around processes that somebody else started, with the limits as its properties, and hands the scope's cgroup over
//! (`Delegate`). A scope needs a process to be made, so the container's process exists before and waits:
//!
//! ```text
//! Systemd::connect ── Location::from_config ── Systemd::prepare ─► Prepared::record (saved)
//!                                                                        │
//!      parent: clone3, the child waits                                   │
//!                      │                                                 ▼
//!                      └── its pid ─────────────────────► Prepared::create ─► Cgroup, the child in it
//! ```
//! From there on all is as with a cgroup of our own; [`Cgroup::update`] tells systemd, too, and [`Cgroup::remove`]
//! stops the scope.
//!
//! Limits are set twice: as properties, so that systemd knows and keeps them, then as files, so that a limit is there or
//! the container is not: systemd only logs what it could not set. Files get what systemd would write there again, which
//! keeps CPU quotas in hundredths of a CPU.
//!
//! D-Bus is spoken by a small client of our own ([`wire`], [`message`]); docs/decisions/0005-systemd.md says why.

mod address;
pub mod annotation;
mod bus;
pub mod message;
#[cfg(test)]
mod peer;
pub mod property;
mod slice;
mod unit;
pub mod wire;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use bulkhead_sys::signal;

pub use self::annotation::PREFIX as ANNOTATION_PREFIX;
pub use self::bus::Wait;
use self::bus::{Bus, Patience};
use self::property::{Property, Value};
pub use self::slice::Slice;
pub use self::unit::Location;
use self::wire::Writer;
use crate::cgroup::{self, Cgroup, Need, Record};
use crate::dir::{Dir, read_proc};
use crate::error::{Error, Result};
use crate::host::{Host, Layout, Version};
use crate::path::{Place, Places};
use crate::plan::Plan;
use crate::unified::Share;
use crate::{apply, unified};

const START: &str = "StartTransientUnit";
const SCOPE: &str = "org.freedesktop.systemd1.Scope";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNKNOWN_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// Which systemd is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// That of the machine.
    System,
    /// That of the calling user.
    User,
}

impl Manager {
    /// Names what it manages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::System => "machine",
            Self::User => "user's session",
        }
    }

    pub(crate) fn default_slice(self) -> &'static str {
        match self {
            Self::System => "system.slice",
            Self::User => "user.slice",
        }
    }
}

/// The unit of a container, as its record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Who manages it.
    pub manager: Manager,
    /// Its name, `prefix-name.scope`.
    pub unit: String,
}

/// A connection to a systemd.
#[derive(Debug)]
pub struct Systemd {
    bus: Bus,
    manager: Manager,
    version: u32,
    /// The manager's own cgroup.
    root: String,
}

impl Systemd {
    /// Connects to a systemd and asks for its version and place.
    ///
    /// # Errors
    /// [`Error::NoSystemd`] where there is none, and those of `wait`.
    pub fn connect(manager: Manager, wait: Wait<'_>) -> Result<Self> {
        Self::connect_with(manager, Patience::of(wait))
    }

    fn connect_with(manager: Manager, patience: Patience<'_>) -> Result<Self> {
        Self::over(Bus::connect(manager, patience)?, manager, patience)
    }

    fn over(mut bus: Bus, manager: Manager, patience: Patience<'_>) -> Result<Self> {
        let version = version(&bus.property("Version", patience)?);
        let root = bus.property("ControlGroup", patience)?;
        Ok(Self { bus, manager, version, root })
    }

    /// Plans a scope, making nothing.
    ///
    /// # Errors
    /// [`Error::NotUnified`], [`Error::Annotation`], and [`Error::NotEmpty`] and [`Error::Frozen`] when its cgroup is in use.
    pub fn prepare(
        self,
        host: &Host,
        location: Location,
        plan: &Plan,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Prepared> {
        let hierarchy = host.v2().filter(|_| host.layout() == Layout::Unified).ok_or(Error::NotUnified)?;
        let path = format!("{}{}", hierarchy.mount_point.trim_end_matches('/'), location.below(&self.root));
        refuse_if_used(&path)?;
        let limits = property::of_plan(plan, |_| Ok(String::new()))?;
        let (limits, warnings) = property::known(limits, self.version);
        let annotated = annotation::properties(annotations)?;
        let place = Place {
            version: Version::V2,
            controllers: Vec::new(),
            mount_point: hierarchy.mount_point.clone(),
            path,
        };
        Ok(Prepared { systemd: self, location, place, limits, annotated, warnings })
    }
}

impl AsFd for Systemd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bus.as_fd()
    }
}

/// Reads `252.38-1~deb12u1`, `v247` and the like; 0 for what says nothing.
fn version(text: &str) -> u32 {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

/// A scope of another container would be taken for this one's, also when it is removed; in a frozen cgroup nobody could
/// take the new one's process on, or end it.
fn refuse_if_used(path: &str) -> Result<()> {
    match Dir::open(path) {
        Err(error) if error.is_gone() => Ok(()),
        dir => cgroup::refuse_if_used(&dir?, Some(Version::V2)),
    }
}

/// A scope that can be made.
#[derive(Debug)]
pub struct Prepared {
    systemd: Systemd,
    location: Location,
    place: Place,
    limits: Vec<Property>,
    annotated: Vec<Property>,
    warnings: Vec<String>,
}

impl Prepared {
    /// Lists the limits that this systemd does not know, in sentences for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns what the state file keeps, to be saved before anything is made.
    pub fn record(&self) -> Record {
        let scope = Scope { manager: self.systemd.manager, unit: self.location.unit.clone() };
        let paths = Places(vec![self.place.clone()]).paths();
        Record { paths, made: Vec::new(), scope: Some(scope) }
    }

    /// Makes the scope around a process, which should wait meanwhile, and sets its limits. On failure it is stopped.
    ///
    /// # Errors
    /// [`Error::Systemd`] and [`Error::Job`] when systemd will not or cannot, [`Error::Elsewhere`] for a scope at
    /// another place, those of `wait`, and as [`Cgroup::create`] for a limit that cannot be set.
    pub fn create(&mut self, pid: i32, id: &str, plan: &Plan, wait: Wait<'_>) -> Result<Cgroup> {
        let cgroup = Cgroup::open(&self.record());
        let plan = &*property::settled(plan, |_| Ok(String::new()))?;
        let patience = Patience::of(wait);
        let job = match self.request_start(pid, id, patience) {
            // The answer may still come. Only then is there a scope of ours: the name may be that of another's.
            Err(error @ (Error::Interrupted | Error::Bus { .. })) => {
                if self.systemd.bus.answer(START, Patience::of_undo()).is_ok() {
                    self.take_back();
                }
                return Err(error);
            }
            job => job?,
        };
        let limited = self
            .await_start(&job, patience)
            .and_then(|()| self.check_place(pid))
            .and_then(|()| self.enable(&cgroup, plan))
            .and_then(|()| apply::create(&cgroup, plan, Need::Required, apply::History::New));
        match limited {
            Ok(()) => Ok(cgroup),
            // The process that is in it may be another's.
            Err(error @ Error::Elsewhere { .. }) => Err(error),
            Err(error) => {
                self.take_back();
                Err(error)
            }
        }
    }

    /// Hands down controllers that systemd knows nothing of, hugetlb and the like.
    fn enable(&self, cgroup: &Cgroup, plan: &Plan) -> Result<()> {
        let Some(member) = cgroup.v2() else { return Ok(()) };
        unified::enable(member.dir()?, &self.place.mount_point, Share::BesideSystemd, plan)
    }

    /// Ends the scope. Whoever calls it has another error to tell, which explains.
    fn take_back(&mut self) {
        let (bus, unit) = (&mut self.systemd.bus, &self.location.unit);
        let _ = kill(bus, unit, Patience::of_undo());
        let _ = stop(bus, unit, Patience::of_undo());
    }

    /// Asks for the scope, and returns the job that makes it.
    fn request_start(&mut self, pid: i32, id: &str, patience: Patience<'_>) -> Result<String> {
        let unit = &self.location.unit;
        let body = self.request(pid, id);
        let bus = &mut self.systemd.bus;
        let ask = |bus: &mut Bus| bus.call_manager(START, "ssa(sv)a(sa(sv))", &body, patience);
        let reply = match ask(bus) {
            Err(Error::Systemd { name, .. }) if name == UNIT_EXISTS => {
                // One that failed stays until somebody has looked at it.
                reset(bus, unit, patience);
                ask(bus)?
            }
            reply => reply?,
        };
        bus::text_of(&reply, "o", |reader| reader.string())
    }

    fn await_start(&mut self, job: &str, patience: Patience<'_>) -> Result<()> {
        let (bus, unit) = (&mut self.systemd.bus, &self.location.unit);
        let result = bus.job_result(job, patience)?;
        if result == "done" {
            return Ok(());
        }
        reset(bus, unit, Patience::of_undo());
        Err(Error::Job { verb: "start", unit: unit.clone(), result })
    }

    /// Lays the request out.
    fn request(&self, pid: i32, id: &str) -> Vec<u8> {
        let mut properties = vec![
            Property::text("Description", &format!("bulkrun container {id}")),
            Property::text("Slice", &self.location.slice),
            Property::new("Delegate", Value::Bool(true)),
            Property::new("PIDs", Value::Numbers(vec![pid.cast_unsigned()])),
            Property::new("DefaultDependencies", Value::Bool(false)),
        ];
        for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
            properties.push(Property::new(accounting, Value::Bool(true)));
        }
        // systemd keeps a failed scope for those who look, until `delete` lets it forget.
        properties.extend(self.limits.iter().chain(&self.annotated).cloned());
        let mut body = Writer::default();
        body.string(&self.location.unit);
        body.string("fail");
        property::encode(&properties, &mut body);
        body.array(8, |_| {}); // no units beside it
        body.into_bytes()
    }

    /// Makes sure that the process is where the record says: there its limits are set, and by that it is found again.
    fn check_place(&self, pid: i32) -> Result<()> {
        let text = read_proc(&format!("/proc/{pid}/cgroup"))?;
        let expected = &self.place.path[self.place.mount_point.trim_end_matches('/').len()..];
        let found = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        if found == expected {
            return Ok(());
        }
        let (unit, expected) = (self.location.unit.clone(), expected.to_owned());
        Err(Error::Elsewhere { unit, expected, found: found.to_owned() })
    }
}

impl AsFd for Prepared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.systemd.as_fd()
    }
}

impl Scope {
    /// Tells systemd new limits; the files are for others to write. Returns, in sentences for the log, what this systemd
    /// does not know.
    pub(crate) fn update(&self, cgroup: &Cgroup, plan: &Plan) -> Result<Vec<String>> {
        let properties = property::of_plan(plan, |file| apply::in_force(cgroup, file))?;
        let mut systemd = Systemd::connect_with(self.manager, Patience::deaf())?;
        let (properties, warnings) = property::known(properties, systemd.version);
        if properties.is_empty() {
            return Ok(warnings);
        }
        let mut body = Writer::default();
        body.string(&self.unit);
        body.bool(true); // until the scope ends
        property::encode(&properties, &mut body);
        let bus = &mut systemd.bus;
        bus.call_manager("SetUnitProperties", "sba(sv)", &body.into_bytes(), Patience::deaf())?;
        Ok(warnings)
    }

    /// Moves a process into the scope or a sub-cgroup of it. systemd may do so where its caller may not.
    pub(crate) fn attach(&self, pid: i32, below: &str) -> Result<()> {
        let mut body = Writer::default();
        body.string(&self.unit);
        body.string(&if below.is_empty() { String::new() } else { format!("/{below}") });
        body.array(4, |pids| pids.u32(pid.cast_unsigned()));
        let mut bus = Bus::connect(self.manager, Patience::deaf())?;
        bus.call_manager("AttachProcessesToUnit", "ssau", &body.into_bytes(), Patience::deaf()).map(|_| ())
    }

    /// Stops the scope, which removes its cgroup `directory`, and forgets that it failed; one that is not there counts as
    /// removed. A scope of the same name in another slice is another's.
    pub(crate) fn remove(&self, directory: &str) -> Result<()> {
        let bus = Bus::connect(self.manager, Patience::deaf())?;
        self.remove_over(bus, directory, &Host::detect()?)
    }

    fn remove_over(&self, mut bus: Bus, directory: &str, host: &Host) -> Result<()> {
        if self.is_elsewhere(&mut bus, directory, host)? {
            return Ok(());
        }
        stop(&mut bus, &self.unit, Patience::deaf())
    }

    /// The record was written before systemd was asked, which then may have refused, for the name was taken.
    fn is_elsewhere(&self, bus: &mut Bus, directory: &str, host: &Host) -> Result<bool> {
        let path = unit::object(&self.unit);
        let place = match bus.property_of(&path, SCOPE, "ControlGroup", Patience::deaf()) {
            Err(Error::Systemd { name, .. }) if [NO_SUCH_UNIT, UNKNOWN_OBJECT].contains(&name.as_str()) => {
                return Ok(false);
            }
            place => place?,
        };
        let at = host.v2().map_or("", |hierarchy| hierarchy.mount_point.trim_end_matches('/'));
        // A unit that is not there has no place.
        Ok(!place.is_empty() && format!("{at}{place}") != directory)
    }
}

/// Kills all processes: the first one of a pid namespace would not hear systemd's request to end.
fn kill(bus: &mut Bus, unit: &str, patience: Patience<'_>) -> Result<()> {
    let mut body = Writer::default();
    body.string(unit);
    body.string("all");
    body.u32(signal::KILL.cast_unsigned());
    bus.call_manager("KillUnit", "ssi", &body.into_bytes(), patience).map(|_| ())
}

fn stop(bus: &mut Bus, unit: &str, patience: Patience<'_>) -> Result<()> {
    let mut body = Writer::default();
    body.string(unit);
    body.string("replace");
    let reply = match bus.call_manager("StopUnit", "ss", &body.into_bytes(), patience) {
        Err(Error::Systemd { name, .. }) if name == NO_SUCH_UNIT => return Ok(()),
        reply => reply?,
    };
    let job = bus::text_of(&reply, "o", |reader| reader.string())?;
    let result = bus.job_result(&job, patience)?;
    reset(bus, unit, patience);
    if result == "done" { Ok(()) } else { Err(Error::Job { verb: "stop", unit: unit.to_owned(), result }) }
}

/// Lets systemd forget a unit that failed. There may be nothing to forget.
fn reset(bus: &mut Bus, unit: &str, patience: Patience<'_>) {
    let mut body = Writer::default();
    body.string(unit);
    let _ = bus.call_manager("ResetFailedUnit", "s", &body.into_bytes(), patience);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use bulkhead_spec::Resources;

    use super::peer::{Answer, Peer};
    use super::*;
    use crate::Devices;

    #[test]
    fn versions_begin_with_their_number() {
        for (text, number) in [("252.38-1~deb12u1", 252), ("v247", 247), ("\"257\"", 257), ("", 0), ("x", 0)]
        {
            assert_eq!(version(text), number, "{text:?}");
        }
    }

    fn host() -> Host {
        Host::from_mountinfo("9 0 0:9 / /bh-no-such-place rw - cgroup2 x rw\n").unwrap()
    }

    fn limits() -> Plan {
        let resources = Resources::from_json(r#"{"pids": {"limit": 5}}"#).unwrap();
        Plan::for_container(Some(&resources), &host(), Devices::Untouched).unwrap()
    }

    fn prepared(peer: Peer) -> (Result<Prepared>, thread::JoinHandle<Vec<String>>) {
        let (socket, peer) = peer.listen();
        let (host, plan) = (host(), limits());
        let location = Location::from_config(Some("a-b.slice:p:x"), "id", Manager::System).unwrap();
        let prepared = Bus::over(socket, address::Peer::Manager, Patience::deaf())
            .and_then(|bus| Systemd::over(bus, Manager::System, Patience::deaf()))
            .and_then(|systemd| systemd.prepare(&host, location, &plan, &BTreeMap::new()));
        (prepared, peer)
    }

    #[test]
    fn the_record_is_known_before_anything_is_made() {
        let peer = Peer::new([Answer::Variant("252.1"), Answer::Variant("/m")]);
        let (prepared, peer) = prepared(peer);
        let record = prepared.unwrap().record();
        let path = "/bh-no-such-place/m/a.slice/a-b.slice/p-x.scope";
        assert_eq!(record.paths, BTreeMap::from([(String::new(), path.to_owned())]));
        assert_eq!(record.scope, Some(Scope { manager: Manager::System, unit: "p-x.scope".into() }));
        assert_eq!(peer.join().unwrap(), ["Get", "Get"]);
    }

    #[test]
    fn a_scope_that_failed_before_is_reset_and_made_again() {
        let exists = "org.freedesktop.systemd1.UnitExists";
        let peer = Peer::new([
            Answer::Variant("252.1"),
            Answer::Variant(""),
            Answer::Error(exists),
            Answer::Nothing,
            Answer::Job("/job/1", "done"),
        ]);
        let (prepared, peer) = prepared(peer);
        let mut prepared = prepared.unwrap();
        let job = prepared.request_start(7, "id", Patience::deaf()).unwrap();
        prepared.await_start(&job, Patience::deaf()).unwrap();
        drop(prepared);
        let calls = ["Get", "Get", "StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"];
        assert_eq!(peer.join().unwrap(), calls);
    }

    #[test]
    fn a_job_that_fails_is_an_error_and_leaves_no_failed_unit() {
        let peer = Peer::new([
            Answer::Variant("252.1"),
            Answer::Variant(""),
            Answer::Job("/job/1", "failed"),
            Answer::Nothing,
        ]);
        let (prepared, peer) = prepared(peer);
        let mut prepared = prepared.unwrap();
        let job = prepared.request_start(7, "id", Patience::deaf()).unwrap();
        let error = prepared.await_start(&job, Patience::deaf()).unwrap_err().to_string();
        drop(prepared);
        assert!(
            error.starts_with("systemd could not start p-x.scope: its job ended as \"failed\""),
            "{error}"
        );
        assert_eq!(peer.join().unwrap().last().unwrap(), "ResetFailedUnit");
    }

    #[test]
    fn only_a_scope_that_systemd_has_begun_is_taken_back() {
        let begun = ["KillUnit", "StopUnit", "ResetFailedUnit"];
        let exists = "org.freedesktop.systemd1.UnitExists";
        for (answer, undone) in [
            (Answer::Job("/job/1", "done"), &begun[..]),
            // What has the name is another's.
            (Answer::Error(exists), &[]),
        ] {
            let peer = Peer::new([
                Answer::Variant("252.1"),
                Answer::Variant(""),
                answer,
                Answer::Nothing,
                Answer::Job("/job/2", "done"),
                Answer::Nothing,
            ]);
            let (prepared, peer) = prepared(peer);
            let mut prepared = prepared.unwrap();
            let interrupted: Wait<'_> = &|_, _| Err(Error::Interrupted);
            let error = prepared.create(7, "id", &limits(), interrupted).unwrap_err();
            assert!(matches!(error, Error::Interrupted), "{error}");
            drop(prepared);
            let called = peer.join().unwrap();
            assert_eq!(called[..3], ["Get", "Get", "StartTransientUnit"]);
            assert_eq!(called[3..], *undone, "{answer:?}");
        }
    }

    #[test]
    fn a_scope_is_stopped_only_where_the_record_says_that_it_is() {
        let scope = Scope { manager: Manager::System, unit: "p-x.scope".into() };
        let directory = "/bh-no-such-place/a.slice/p-x.scope";
        for (answer, called) in [
            (Answer::Variant("/a.slice/p-x.scope"), &["Get", "StopUnit"][..]),
            (Answer::Variant(""), &["Get", "StopUnit"]),
            (Answer::Error(NO_SUCH_UNIT), &["Get", "StopUnit"]),
            (Answer::Error(UNKNOWN_OBJECT), &["Get", "StopUnit"]),
            (Answer::Variant("/b.slice/p-x.scope"), &["Get"]),
            // Its end is the same.
            (Answer::Variant("/p-x.scope"), &["Get"]),
            (Answer::Error("org.freedesktop.DBus.Error.AccessDenied"), &["Get"]),
        ] {
            let (socket, peer) = Peer::new([answer, Answer::Error(NO_SUCH_UNIT)]).listen();
            let bus = Bus::over(socket, address::Peer::Manager, Patience::deaf()).unwrap();
            let removed = scope.remove_over(bus, directory, &host());
            let is_unknown = matches!(answer, Answer::Error(name) if name.ends_with("AccessDenied"));
            assert_eq!(removed.is_err(), is_unknown, "{answer:?}");
            assert_eq!(peer.join().unwrap(), called, "{answer:?}");
        }
    }

    #[test]
    fn a_scope_that_is_gone_is_stopped_already() {
        let peer = Peer::new([Answer::Error(NO_SUCH_UNIT)]);
        let (socket, peer) = peer.listen();
        let mut bus = Bus::over(socket, address::Peer::Manager, Patience::deaf()).unwrap();
        stop(&mut bus, "p-x.scope", Patience::deaf()).unwrap();
        assert_eq!(peer.join().unwrap(), ["StopUnit"]);
    }
}
