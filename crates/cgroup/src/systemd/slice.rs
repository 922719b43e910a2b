//! A slice with limits of its own, for all scopes that will be in it.

use super::property::{self, Property, Value};
use super::unit;
use super::wire::Writer;
use super::{Bus, Manager, Patience, START, Systemd, UNIT_EXISTS, bus, stop};
use crate::apply;
use crate::cgroup::{Cgroup, Need, Record};
use crate::error::{Error, Result};
use crate::host::{Host, Layout, Version};
use crate::path::{Place, Places};
use crate::plan::Plan;

/// A slice that is made for what will be in it, and not by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    manager: Manager,
    unit: String,
    /// Its directories below the manager's own.
    path: String,
}

impl Slice {
    /// Names a slice, such as `a-b.slice`, which lies in `a.slice`.
    ///
    /// # Errors
    /// [`Error::Path`] for a name that no slice can have.
    pub fn new(name: &str, manager: Manager) -> Result<Self> {
        let path = unit::expand(name).map_err(|reason| Error::Path { path: name.to_owned(), reason })?;
        Ok(Self { manager, unit: name.to_owned(), path })
    }

    /// Returns its directories below the manager's own cgroup, such as `a.slice/a-b.slice`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Makes it with these limits. One that is there keeps the properties that it has. Returns, in sentences for the log,
    /// what this systemd does not know of them.
    ///
    /// # Errors
    /// [`Error::NotUnified`], [`Error::NoSystemd`], [`Error::Systemd`] and [`Error::Job`] when systemd will not or cannot, and
    /// as [`Cgroup::create`] for a limit that cannot be set; then it is stopped again.
    pub fn start(&self, host: &Host, plan: &Plan) -> Result<Vec<String>> {
        self.start_over(&mut Systemd::connect_with(self.manager, Patience::deaf())?, host, plan)
    }

    fn start_over(&self, systemd: &mut Systemd, host: &Host, plan: &Plan) -> Result<Vec<String>> {
        let hierarchy = host.v2().filter(|_| host.layout() == Layout::Unified).ok_or(Error::NotUnified)?;
        let plan = &*property::settled(plan, |_| Ok(String::new()))?;
        let limits = property::of_plan(plan, |_| Ok(String::new()))?;
        let (limits, warnings) = property::known(limits, systemd.version);
        let root = systemd.root.trim_end_matches('/');
        let path = format!("{}{root}/{}", hierarchy.mount_point.trim_end_matches('/'), self.path);
        let place = Place {
            version: Version::V2,
            controllers: Vec::new(),
            mount_point: hierarchy.mount_point.clone(),
            path,
        };
        let paths = Places(vec![place]).paths();
        let cgroup = Cgroup::open(&Record { paths, ..Record::default() });
        let is_new = self.ask(&mut systemd.bus, &limits)?;
        // systemd only logs what it could not set.
        match apply::create(&cgroup, plan, Need::Required, apply::History::Reused) {
            Err(error) if is_new => {
                // Whoever calls it has this error to tell, which explains.
                let _ = stop(&mut systemd.bus, &self.unit, Patience::of_undo());
                Err(error)
            }
            applied => applied.map(|()| warnings),
        }
    }

    /// Has it made; tells whether it is new.
    fn ask(&self, bus: &mut Bus, limits: &[Property]) -> Result<bool> {
        let mut properties = vec![Property::text("Description", &format!("bulkhead pod {}", self.unit))];
        for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
            properties.push(Property::new(accounting, Value::Bool(true)));
        }
        properties.extend(limits.iter().cloned());
        let mut body = Writer::default();
        body.string(&self.unit);
        body.string("fail");
        property::encode(&properties, &mut body);
        body.array(8, |_| {}); // no units beside it
        let reply = match bus.call_manager(START, "ssa(sv)a(sa(sv))", &body.into_bytes(), Patience::deaf()) {
            Err(Error::Systemd { name, .. }) if name == UNIT_EXISTS => return Ok(false),
            reply => reply?,
        };
        let job = bus::text_of(&reply, "o", |reader| reader.string())?;
        match bus.job_result(&job, Patience::deaf())? {
            result if result == "done" => Ok(true),
            result => Err(Error::Job { verb: "start", unit: self.unit.clone(), result }),
        }
    }

    /// Stops it, and with it what is still in it; one that is not there counts as stopped.
    ///
    /// # Errors
    /// [`Error::NoSystemd`], [`Error::Systemd`] and [`Error::Job`] when systemd will not or cannot.
    pub fn stop(&self) -> Result<()> {
        stop(&mut Bus::connect(self.manager, Patience::deaf())?, &self.unit, Patience::deaf())
    }
}

#[cfg(test)]
mod tests {
    use bulkhead_spec::Resources;

    use super::super::address;
    use super::super::peer::{Answer, Peer};
    use super::*;
    use crate::Devices;

    fn started(answers: Vec<Answer>) -> (Result<Vec<String>>, Vec<String>) {
        let host = Host::from_mountinfo("9 0 0:9 / /bh-no-such-place rw - cgroup2 x rw\n").unwrap();
        let resources = Resources::from_json(r#"{"pids": {"limit": 5}}"#).unwrap();
        let plan = Plan::for_container(Some(&resources), &host, Devices::Untouched).unwrap();
        let slice = Slice::new("a-b.slice", Manager::System).unwrap();
        let known = [Answer::Variant("252.1"), Answer::Variant("/")];
        let (socket, peer) = Peer::new(known.into_iter().chain(answers)).listen();
        let result = Bus::over(socket, address::Peer::Manager, Patience::deaf())
            .and_then(|bus| Systemd::over(bus, Manager::System, Patience::deaf()))
            .and_then(|mut systemd| slice.start_over(&mut systemd, &host, &plan));
        (result, peer.join().unwrap())
    }

    #[test]
    fn a_new_slice_whose_limits_cannot_be_set_is_stopped_again() {
        let answers = vec![Answer::Job("/job/1", "done"), Answer::Job("/job/2", "done"), Answer::Nothing];
        let (result, calls) = started(answers);
        assert!(result.unwrap_err().to_string().contains("/bh-no-such-place/a.slice/a-b.slice"));
        assert_eq!(calls[2..], ["StartTransientUnit", "StopUnit", "ResetFailedUnit"]);
    }

    #[test]
    fn a_slice_that_is_there_is_not_stopped() {
        let (result, calls) = started(vec![Answer::Error(UNIT_EXISTS)]);
        assert!(result.is_err(), "its directory is not there");
        assert_eq!(calls[2..], ["StartTransientUnit"]);
        let (result, _) = started(vec![Answer::Job("/job/1", "failed")]);
        assert!(matches!(result.unwrap_err(), Error::Job { verb: "start", .. }));
    }

    #[test]
    fn a_slice_has_the_name_of_one() {
        for wrong in ["a", "a/b.slice", "a--b.slice", "-a.slice"] {
            assert!(Slice::new(wrong, Manager::User).is_err(), "{wrong}");
        }
    }
}
