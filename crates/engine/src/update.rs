//! Changing containers that are there: their names, limits and restart policies.

use std::fs;
use std::io;

use bulkhead_shim::client;
use bulkhead_shim::protocol::ToMonitor;
use bulkhead_spec::{self as spec, Config};

use bulkhead_store::Durability;

use crate::container::State;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::name;
use crate::request::{BlockIo, Limit, Resources, Restart, Size};
use crate::start::{self, BUNDLE, Moment};

impl Engine {
    /// Gives a container another name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be; when another container has it.
    pub fn rename(&self, wanted: &str, new: &str) -> Result<()> {
        let new = name::bare(new);
        name::check(new)?;
        let mut known = self.find(wanted)?;
        let old = std::mem::replace(&mut known.record.name, new.to_owned());
        if old == new {
            let reason = "the container is called so already".into();
            return Err(Error::Invalid { what: format!("name {new}"), reason });
        }
        let told = known.event("rename").with("oldName", &format!("/{old}"));
        self.store.rename_container(&known.record.id, new, Some(&told))?;
        self.rename_in_networks(&known.record.id)
    }

    /// Changes how much a container may use, and what follows its end, also while it runs.
    ///
    /// # Errors
    /// [`Error::Invalid`] for limits that cannot be, or do not go with those that it has, and for a policy of a container that
    /// removes itself; [`Error::Runtime`] where the kernel refuses a limit.
    pub fn update(&self, wanted: &str, update: &Update) -> Result<()> {
        let id = self.find(wanted)?.record.id;
        let _held = self.hold(&id)?;
        let mut known = self.find(&id)?;
        if known.life.state == State::Removing {
            return Err(known.refuses("update"));
        }
        let before = known.document.request.resources.clone();
        let resources = merged(&before, &update.resources)?;
        let restart = update.restart.unwrap_or(known.document.request.restart);
        if known.document.request.remove && restart != Restart::default() {
            return Err(Error::Invalid {
                what: format!("restart policy {restart} of container {}", known.record.name),
                reason: "it removes itself at its end".into(),
            });
        }
        known.document.request.resources = resources.clone();
        let change = (before != resources).then(|| self.limits(&known)).transpose()?.flatten();
        // What is recorded holds for the next start, should we die before the kernel knows it.
        self.change(&id, Durability::PowerLoss, |document| {
            document.request.resources = resources.clone();
            document.request.restart = restart;
        })?;
        if let Some(change) = change
            && let Err(error) = self.apply(&known, &change)
        {
            self.change(&id, Durability::PowerLoss, |document| {
                document.request.resources.clone_from(&before);
            })?;
            return Err(error);
        }
        if update.restart.is_some() && known.life.state.is_active() {
            match client::request(&self.places().container_run(&id), &ToMonitor::Policy(restart.0)) {
                // It has ended meanwhile, and reads its record when it is started.
                Err(client::Error::NoMonitor { .. }) => {}
                asked => asked?,
            }
        }
        self.tell(&known, "update");
        Ok(())
    }

    /// Decides the limits of a container's cgroup, as a start of it would; nothing where it has none.
    fn limits(&self, known: &Known) -> Result<Option<spec::Resources>> {
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let joints = self.joints_of(known)?;
        let configured = self.configured(known, image.as_ref(), &joints, Moment::Creation)?;
        // Devices are no limit, and stay as they are.
        let limits = configured.config.linux.and_then(|linux| linux.resources);
        Ok(limits.map(|limits| spec::Resources { devices: Vec::new(), ..limits }))
    }

    /// Tells the kernel of new limits, and whoever starts the container again by its policy.
    fn apply(&self, known: &Known, limits: &spec::Resources) -> Result<()> {
        if !known.life.state.is_active() {
            return Ok(());
        }
        let name = &known.record.name;
        let doing = || format!("change the limits of container {name}");
        if known.life.process.is_some() {
            let text = serde_json::to_vec(limits).map_err(io::Error::from).doing(doing)?;
            known.runtime(self)?.run_with("update", name, &["--resources", "-", &known.record.id], &text)?;
        }
        let path = self.places().container_run(&known.record.id).join(BUNDLE).join("config.json");
        let text = fs::read_to_string(&path).doing(doing)?;
        let mut config = Config::from_json(&text).map_err(|error| Error::Damaged {
            what: path.display().to_string(),
            reason: error.to_string(),
        })?;
        if let Some(linux) = &mut config.linux {
            let devices = linux.resources.take().map(|resources| resources.devices).unwrap_or_default();
            linux.resources = Some(spec::Resources { devices, ..limits.clone() });
        }
        let text = serde_json::to_vec(&config).map_err(io::Error::from).doing(doing)?;
        let new = path.with_extension("new");
        start::write(&new, &text, 0o600).doing(doing)?;
        fs::rename(&new, &path).doing(doing)
    }
}

/// What is changed of a container. What is not given stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Limits: of these the ones that docker changes.
    pub resources: Resources,
    /// What follows an end.
    pub restart: Option<Restart>,
}

/// Puts new limits over those that a container has; 0 changes nothing (docker's rules).
fn merged(before: &Resources, new: &Resources) -> Result<Resources> {
    let invalid =
        |what: &str, reason: &str| Error::Invalid { what: what.to_owned(), reason: reason.to_owned() };
    let new = effective(new);
    let has_quota = before.cpu_quota.is_some_and(|quota| quota != 0)
        || before.cpu_period.is_some_and(|period| period != 0);
    if new.cpus.is_some() && has_quota {
        return Err(invalid("--cpus", "the container has a quota and a period; change those instead"));
    }
    if (new.cpu_quota.is_some() || new.cpu_period.is_some()) && before.cpus.is_some_and(|cpus| cpus.0 > 0) {
        return Err(invalid("--cpu-quota and --cpu-period", "the container has --cpus; change that instead"));
    }
    // What was not said of swap was twice the memory, and stays that.
    let swap = match (before.memory_swap, before.memory) {
        (None | Some(Limit::At(0)), Some(Size(memory @ 1..))) => Some(Limit::At(memory.saturating_mul(2))),
        (swap, _) => swap,
    };
    if let (Some(Size(memory)), Some(Limit::At(swap @ 1..)), None) = (new.memory, swap, new.memory_swap)
        && memory > swap
    {
        let what = format!("--memory {}", Size(memory));
        let reason =
            format!("memory and swap together are limited to {}: change --memory-swap, too", Size(swap));
        return Err(Error::Invalid { what, reason });
    }
    let kept_swap = if new.memory.is_some() { swap } else { before.memory_swap };
    Ok(Resources {
        cpus: new.cpus.or(before.cpus),
        cpu_shares: new.cpu_shares.or(before.cpu_shares),
        cpu_period: new.cpu_period.or(before.cpu_period),
        cpu_quota: new.cpu_quota.or(before.cpu_quota),
        realtime_period: new.realtime_period.or(before.realtime_period),
        realtime_runtime: new.realtime_runtime.or(before.realtime_runtime),
        cpuset_cpus: new.cpuset_cpus.or_else(|| before.cpuset_cpus.clone()),
        cpuset_mems: new.cpuset_mems.or_else(|| before.cpuset_mems.clone()),
        memory: new.memory.or(before.memory),
        memory_reservation: new.memory_reservation.or(before.memory_reservation),
        memory_swap: new.memory_swap.or(kept_swap),
        pids: new.pids.or(before.pids),
        block: BlockIo { weight: new.block.weight.or(before.block.weight), ..before.block.clone() },
        ..before.clone()
    })
}

/// Leaves out what is 0, or empty.
fn effective(new: &Resources) -> Resources {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let size = |size: Option<Size>| size.filter(|size| size.0 != 0);
    let limit = |limit: Option<Limit>| limit.filter(|limit| *limit != Limit::At(0));
    Resources {
        cpus: new.cpus.filter(|cpus| cpus.0 != 0),
        cpu_shares: new.cpu_shares.filter(|&shares| shares != 0),
        cpu_period: new.cpu_period.filter(|&period| period != 0),
        cpu_quota: new.cpu_quota.filter(|&quota| quota != 0),
        realtime_period: new.realtime_period.filter(|&period| period != 0),
        realtime_runtime: new.realtime_runtime.filter(|&runtime| runtime != 0),
        cpuset_cpus: text(&new.cpuset_cpus),
        cpuset_mems: text(&new.cpuset_mems),
        memory: size(new.memory),
        memory_reservation: size(new.memory_reservation),
        memory_swap: limit(new.memory_swap),
        pids: limit(new.pids),
        block: BlockIo { weight: new.block.weight.filter(|&weight| weight != 0), ..BlockIo::default() },
        ..Resources::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(memory: u64, swap: Option<Limit>) -> Resources {
        let memory = (memory > 0).then_some(Size(memory));
        Resources { memory, memory_swap: swap, ..Resources::default() }
    }

    #[test]
    fn memory_stays_below_what_memory_and_swap_may_be() {
        let swap = |bytes| Some(Limit::At(bytes));
        for (before, new, expected) in [
            (memory(0, None), memory(100, None), Some(memory(100, None))),
            (memory(100, None), memory(150, None), Some(memory(150, swap(200)))),
            (memory(100, None), memory(250, None), None),
            (memory(100, None), memory(250, swap(300)), Some(memory(250, swap(300)))),
            (
                memory(100, None),
                memory(250, Some(Limit::Unlimited)),
                Some(memory(250, Some(Limit::Unlimited))),
            ),
            (
                memory(100, Some(Limit::Unlimited)),
                memory(900, None),
                Some(memory(900, Some(Limit::Unlimited))),
            ),
            (memory(100, None), memory(0, None), Some(memory(100, None))),
        ] {
            assert_eq!(merged(&before, &new).ok(), expected, "{new:?} over {before:?}");
        }
    }

    #[test]
    fn what_is_not_given_stays_and_quotas_have_one_form() {
        let before = Resources {
            cpus: Some("1".parse().unwrap()),
            pids: Some(Limit::At(10)),
            shm_size: Some(Size(5)),
            cpuset_cpus: Some("0".to_owned()),
            ..Resources::default()
        };
        let new = Resources {
            cpu_shares: Some(5),
            cpuset_cpus: Some(String::new()),
            pids: Some(Limit::Unlimited),
            ..Resources::default()
        };
        let expected = Resources { cpu_shares: Some(5), pids: Some(Limit::Unlimited), ..before.clone() };
        assert_eq!(merged(&before, &new).unwrap(), expected);
        let quota = Resources { cpu_quota: Some(5000), ..Resources::default() };
        assert!(merged(&before, &quota).unwrap_err().to_string().contains("has --cpus"));
        assert!(merged(&quota, &before).unwrap_err().to_string().contains("a quota and a period"));
    }
}
