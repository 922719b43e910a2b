//! A container as the engine knows it: its record, what its monitor wrote, and what follows from both.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bulkhead_shim::order::Restart;
use bulkhead_shim::protocol::Ending;
use bulkhead_shim::status::{Health, Phase, Process, Verdict};
use bulkhead_shim::{Status, client};
use bulkhead_store::{ContainerRecord, Durability, Event, Kind, NetworkRecord, Stage, Subject};

use crate::astray::was_started;
use crate::container::State;
use crate::create::Created;
use crate::document::Document;
use crate::engine::{Engine, now};
use crate::error::{Doing, Error, Result};
use crate::life::{Life, Lost, Monitor, Recorded, fold, unread};
use crate::name;
use crate::network::connection_event;
use crate::request::Volume;
use crate::runtime::{self, Runtime};
use crate::session::Attach;
use crate::users::WITHIN;
use crate::volume::DRIVER;

/// What is known of a container.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) record: ContainerRecord,
    pub(crate) document: Document,
    pub(crate) status: Option<Status>,
    pub(crate) life: Life,
}

impl Engine {
    /// Finds a container by its id, its name or the beginning of its id. One whose monitor died is ended.
    ///
    /// # Errors
    /// As [`Store::container`](bulkhead_store::Store::container); [`Error::Mistyped`] when a name is nearly that.
    pub(crate) fn find(&self, wanted: &str) -> Result<Known> {
        self.know(self.seek(wanted)?)
    }

    /// As [`Engine::find`], for who records its end together with something else.
    pub(crate) fn find_untold(&self, wanted: &str) -> Result<Known> {
        self.know_untold(self.seek(wanted)?)
    }

    fn seek(&self, wanted: &str) -> Result<ContainerRecord> {
        match self.store.container(wanted) {
            Err(error) if error.kind() == Kind::NotFound => Err(self.mistyped(wanted, error)),
            found => Ok(found?),
        }
    }

    fn mistyped(&self, wanted: &str, error: bulkhead_store::Error) -> Error {
        let records = self.store.containers().unwrap_or_default();
        let names = records.iter().map(|record| record.name.as_str());
        match name::similar(wanted, names) {
            Some(similar) => Error::Mistyped { wanted: wanted.to_owned(), similar: similar.to_owned() },
            None => error.into(),
        }
    }

    /// Joins a record and what the monitor wrote. A container whose monitor died is ended first.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a record or status that cannot be read.
    pub(crate) fn know(&self, record: ContainerRecord) -> Result<Known> {
        let known = self.know_untold(record)?;
        self.tell_end(&known)?;
        Ok(known)
    }

    /// Starts a container whose monitor died, if its policy is to start it again, for who only looks at it.
    ///
    /// # Errors
    /// As [`Engine::know`]. That it cannot be started is none: it stays as it is.
    pub(crate) fn revive(&self, known: Known) -> Result<Known> {
        if known.life.lost != Some(Lost::Monitor) || !known.starts_again() {
            return Ok(known);
        }
        let id = &known.record.id;
        drop(self.start_again(id));
        match self.store.container(id) {
            Ok(record) => self.know(record),
            // Removed meanwhile: it was there when the caller listed it.
            Err(error) if error.kind() == Kind::NotFound => Ok(known),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Engine::know`], for who records its end together with something else.
    pub(crate) fn know_untold(&self, record: ContainerRecord) -> Result<Known> {
        let known = self.look(record)?;
        if !known.is_to_be_ended(self) {
            return Ok(known);
        }
        match client::lost(&self.places().container_run(&known.record.id)) {
            // Another command was faster, or has started it anew.
            Ok(_) | Err(client::Error::Alive { .. }) => self.look(known.record),
            // It stays lost: what is left of it goes with the container.
            Err(_) => Ok(known),
        }
    }

    /// Joins a record and what the monitor wrote, and changes nothing.
    ///
    /// # Errors
    /// As [`Engine::know`].
    pub(crate) fn look(&self, record: ContainerRecord) -> Result<Known> {
        let document = Document::read(&record)?;
        let gone = document.has_gone_with_machine(self.boot()?);
        let path = self.status_of(&record.id, &document);
        let mut written = written(&path)?;
        let mut monitor = Monitor::Gone;
        let mut strays = false;
        let may_run = match &written {
            Ok(Some(status)) => is_open(status),
            // What its monitor saw may have gone with its directory.
            Ok(None) => document.goes_with_machine && !gone && was_started(&document),
            Err(_) => true,
        };
        if may_run {
            if client::alive(&self.places().container_run(&record.id))? {
                monitor = Monitor::Alive;
            } else {
                // What it wrote before it went may be newer than what was read before that.
                written = self::written(&path)?;
                if let Ok(status) = &written
                    && self.has_lost_monitor(&record.id, &document, status.as_ref())
                {
                    (monitor, strays) = (Monitor::Alive, true);
                }
            }
        }
        let recorded = Recorded {
            removing: record.stage == Stage::Removing,
            paused: document.paused,
            code: document.code,
            gone,
        };
        let (status, life) = match written {
            Ok(None) if strays => (None, unread(recorded, monitor, "the directory of its monitor is gone")),
            Ok(status) => {
                let life = fold(recorded, status.as_ref(), self.boot()?, monitor);
                (status, life)
            }
            Err(reason) => (None, unread(recorded, monitor, &reason)),
        };
        Ok(Known { record, document, status, life })
    }

    /// Returns the file in which the monitor of a container says what it saw. It costs the start and the end of one that
    /// goes with the machine no block of a disk.
    pub(crate) fn status_of(&self, id: &str, document: &Document) -> PathBuf {
        let places = self.places();
        let of = if document.goes_with_machine { places.container_run(id) } else { places.container(id) };
        of.join(STATUS)
    }

    /// Tells whether the first process of a container runs, whoever can read its record, and whether its monitor lives or not.
    pub(crate) fn has_first_process(&self, id: &str) -> bool {
        self.statuses_of(id).any(|status| status.process.is_some_and(|process| process.runs()))
    }

    /// Finds the monitor of a container if it runs, whoever can read the container's record.
    pub(crate) fn monitor_of(&self, id: &str) -> Option<Process> {
        self.statuses_of(id).map(|status| status.monitor).find(Process::runs)
    }

    /// Reads the status of a container wherever it may lie.
    fn statuses_of(&self, id: &str) -> impl Iterator<Item = Status> {
        let places = [self.places().container(id), self.places().container_run(id)].into_iter();
        let read = places.filter_map(|place| Status::read(&place.join(STATUS)).ok()?);
        read.filter(Status::is_of_this_boot)
    }

    /// Changes a container's document while nobody else does.
    pub(crate) fn change(
        &self,
        id: &str,
        durability: Durability,
        change: impl FnOnce(&mut Document),
    ) -> Result<()> {
        self.store.update_container(id, durability, |record| {
            let mut document = Document::read_stored(record)?;
            change(&mut document);
            record.document = document.write_stored(record)?;
            Ok(None)
        })?;
        Ok(())
    }

    /// Records the ends that monitors saw, of all containers.
    pub(crate) fn tell_ends(&self) -> Result<()> {
        self.store.containers()?.into_iter().try_for_each(|record| self.know(record).map(drop))
    }

    /// Records the last start and end that the monitor saw, unless somebody has.
    fn tell_end(&self, known: &Known) -> Result<()> {
        let seen = known.seen();
        let Document { told, told_start, .. } = known.document;
        if seen.untold(&known.document).is_empty() {
            return Ok(());
        }
        let networks = self.networks_to_tell(known);
        let told = self.store.update_container(&known.record.id, Durability::Process, |record| {
            let stored = Document::read_stored(record)?;
            // Who was slower than another has seen an older end.
            if stored.told != told {
                return Ok(Vec::new());
            }
            let is_newest = stored.told_start == told_start;
            known.note(
                record,
                &if is_newest { seen.clone() } else { Seen { starts: Vec::new(), ..seen.clone() } },
                &networks,
            )
        });
        match told {
            Ok(()) if !known.life.state.is_active() => {
                self.unplug_noticed(&known.record.id);
                if let Some(pod) = &known.record.pod {
                    self.unplug_noticed_pod(pod);
                }
                Ok(())
            }
            // Removed meanwhile: there it was told. Or the disk is full: it is told when there is room again.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Failed) => Ok(()),
            told => Ok(told?),
        }
    }

    /// Records that a container was started, and that a client was attached before that, with the time at which it was, unless
    /// whoever saw its end already was faster.
    pub(crate) fn tell_start(&self, known: &Known, attach: Option<Attach>) {
        let status = written(&self.status_of(&known.record.id, &known.document));
        let status = status.ok().and_then(std::result::Result::ok).flatten();
        // Its policy may have started it many times by now.
        let seen = status.filter(|status| status.started.is_some()).map(|status| Seen::of(&status));
        let seen = seen.unwrap_or_else(|| Seen { starts: vec![now()], ..Seen::default() });
        let networks = self.networks_to_tell(known);
        // What happened has happened, whether that can be recorded or not.
        let _ = self.store.update_container(&known.record.id, Durability::Process, |record| {
            let mut document = Document::read_stored(record)?;
            let told = document.told_start.unwrap_or(0);
            if document.told_start.is_none() {
                document.told_start = Some(told);
                record.document = document.write_stored(record)?;
            }
            // Who saw more of them, later, may have been faster.
            let mut seen = seen.clone();
            seen.starts.retain(|&start| start > told);
            seen.ends.retain(|end| document.told.is_none_or(|told| end.time > told));
            let mut events = known.note(record, &seen, &networks)?;
            if attach.is_some() {
                let time = events.first().map_or(known.event("attach").time, |first| first.time);
                events.insert(0, Event { time, ..known.event("attach") });
            }
            Ok(events)
        });
    }

    /// Returns what the monitor of a container saw that has none any more: later than it was known, maybe.
    pub(crate) fn seen_of(&self, known: &Known) -> Result<Seen> {
        let path = self.status_of(&known.record.id, &known.document);
        let Ok(Some(status)) = written(&path)? else { return Ok(known.seen()) };
        let mut seen = Seen::of(&status);
        let known_end = known.seen().ends.pop();
        if let (Some(end), Some(known_end)) = (seen.ends.last_mut(), known_end)
            && end.time == known_end.time
        {
            *end = known_end;
        }
        Ok(seen)
    }

    /// Records that something happened to a container. What happened has happened, whether that can be recorded or not.
    pub(crate) fn tell(&self, known: &Known, action: &str) {
        let _ = self.store.record_event(&known.event(action));
    }

    /// As [`Engine::tell`], with one more thing that is known of it.
    pub(crate) fn tell_with(&self, known: &Known, action: &str, (key, value): (&str, &str)) {
        let _ = self.store.record_event(&known.event(action).with(key, value));
    }
}

/// Reads what the monitor of a container wrote; the inner error says why nobody can.
fn written(path: &Path) -> Result<std::result::Result<Option<Status>, String>> {
    match Status::read(path) {
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(Err(error.to_string())),
        read => Ok(Ok(read.doing(|| format!("read {}", path.display()))?)),
    }
}

/// Says that something happens to a container. What is known of it goes before labels of the same name.
pub(crate) fn event(record: &ContainerRecord, document: &Document, action: &str) -> Event {
    let event = Event::new(Subject::Container, action, &record.id);
    let event = document.labels.iter().fold(event, |event, (key, value)| event.with(key, value));
    event.with("name", &record.name).with("image", &document.image())
}

/// What a monitor saw of a container's first process, the oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Its starts, in nanoseconds since 1970.
    starts: Vec<u64>,
    /// Its ends.
    ends: Vec<End>,
    /// What its last run was sent because somebody stopped it: when, and which signal.
    kills: Vec<(u64, i32)>,
    /// Whether the last of them was for want of memory.
    oom_killed: bool,
    /// How it was by the last check, and when that ended.
    health: Option<(u64, Verdict)>,
}

/// Something that nobody has told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Untold {
    Start(u64),
    Health(Verdict),
    Kill(u64, i32),
    Die(End),
}

impl Seen {
    /// What a status says.
    fn of(status: &Status) -> Self {
        let mut starts = Vec::from_iter(status.runs.iter().map(|run| run.started));
        let ends = status.runs.iter().map(|run| End { time: run.finished, code: Some(run.code) });
        let mut ends = Vec::from_iter(ends);
        // The last run may be among those that another was to follow.
        starts.extend(status.started.filter(|started| starts.last() != Some(started)));
        let is_new = |time: &u64| ends.last().is_none_or(|end| end.time != *time);
        let last = status.finished.filter(is_new);
        ends.extend(last.map(|time| End { time, code: status.code }));
        let is_known = |health: &&Health| health.state != Verdict::Starting;
        let health = status.health.as_ref().filter(is_known);
        let health = health.and_then(|health| Some((health.log.last()?.end, health.state)));
        let kills = status.sent.iter().map(|sent| (sent.time, sent.signal)).collect();
        Self { starts, ends, kills, oom_killed: status.oom_killed && status.phase != Phase::Running, health }
    }

    /// What is seen when its process has ended.
    pub(crate) fn and_then(mut self, Ending { code, time }: Ending) -> Self {
        // What the monitor has written by now may tell of it, too.
        self.ends.pop_if(|end| end.time == time);
        self.ends.push(End { time, code: Some(code) });
        self
    }

    /// Returns what nobody has recorded, in its order.
    fn untold(&self, document: &Document) -> Vec<Untold> {
        // What comes after what was told last. If that is not there, so much has happened that it was dropped, or it is of an
        // earlier monitor.
        fn after<T>(list: &[T], is_told: impl Fn(&T) -> bool) -> &[T] {
            list.iter().rposition(is_told).map_or(list, |place| &list[place + 1..])
        }
        // Programs before 2026-11-29 did not note which start they had told.
        let starts = document.told_start.map_or(&[][..], |told| after(&self.starts, |&time| time == told));
        let ends = after(&self.ends, |end| Some(end.time) == document.told);
        let starts = starts.iter().map(|&time| (time, Untold::Start(time)));
        let ends = ends.iter().map(|&end| (end.time, Untold::Die(end)));
        // What was between is not known: a verdict that came and went is not told.
        let is_new = |(time, verdict): &(u64, Verdict)| {
            document.told_health.is_none_or(|(before, told)| *time > before && *verdict != told)
        };
        let health = self.health.filter(is_new).map(|(time, verdict)| (time, Untold::Health(verdict)));
        // They are told with the end that they led to.
        let told = document.told.unwrap_or(0);
        let last = ends.clone().map(|(time, _)| time).max().unwrap_or(0);
        let kills = self.kills.iter().filter(|(time, _)| (told..=last).contains(time));
        let kills = kills.map(|&(time, signal)| (time, Untold::Kill(time, signal)));
        let mut untold = Vec::from_iter(starts.chain(kills).chain(ends).chain(health));
        untold.sort_by_key(|&(time, _)| time);
        Vec::from_iter(untold.into_iter().map(|(_, what)| what))
    }
}

/// An end of a container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    /// When, in nanoseconds since 1970.
    time: u64,
    /// Its code, if somebody knows it.
    code: Option<u8>,
}

/// Docker's word for how a container is.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Starting => "starting",
        Verdict::Healthy => "healthy",
        Verdict::Unhealthy => "unhealthy",
    }
}

/// Tells whether more is to come of a container's life.
pub(crate) fn is_open(status: &Status) -> bool {
    status.phase != Phase::Exited
}

/// The name of the file in which the monitor says what it saw ([`Engine::status_of`]).
const STATUS: &str = "status.json";

impl Known {
    /// Knows a container that was just recorded.
    pub(crate) fn new(record: ContainerRecord, document: Document) -> Self {
        Self { record, document, status: None, life: Life::NEW }
    }

    /// Says that something happens to it.
    pub(crate) fn event(&self, action: &str) -> Event {
        event(&self.record, &self.document, action)
    }

    /// Returns what the monitor saw.
    fn seen(&self) -> Seen {
        let Some(status) = &self.status else { return Seen::default() };
        let mut seen = Seen::of(status);
        // Of a last end that nobody saw, the code is docker's for that. One that runs again has none any more.
        if let (Some(end), Some(code)) = (seen.ends.last_mut(), self.life.exit_code)
            && status.runs.last().is_none_or(|run| run.finished != end.time)
        {
            end.code = Some(code);
        }
        seen
    }

    /// Notes in its record what is told of its life, and returns what there is to be told that nobody has told.
    pub(crate) fn note(
        &self,
        record: &mut ContainerRecord,
        seen: &Seen,
        networks: &[NetworkRecord],
    ) -> bulkhead_store::Result<Vec<Event>> {
        let mut document = Document::read_stored(record)?;
        let untold = seen.untold(&document);
        // Whoever began to remove it has told its end, and what is written later is no other.
        if record.stage == Stage::Removing || untold.is_empty() {
            return Ok(Vec::new());
        }
        let at = |action: &str, time: u64| Event { time: time.cast_signed(), ..self.event(action) };
        let mut events = Vec::new();
        for what in untold {
            match what {
                Untold::Start(time) => {
                    document.told_start = Some(time);
                    document.told_health = None;
                    events.extend(self.of_networks("connect", time, networks));
                    events.extend(self.of_volumes("mount", time));
                    events.push(at("start", time));
                }
                Untold::Health(verdict) => {
                    let time = seen.health.map_or_else(now, |(time, _)| time);
                    document.told_health = Some((time, verdict));
                    events.push(at(&format!("health_status: {}", word(verdict)), time));
                }
                Untold::Kill(time, signal) => {
                    events.push(at("kill", time).with("signal", &signal.to_string()));
                }
                Untold::Die(end) => {
                    let End { time, code } = end;
                    document.told = Some(time);
                    document.code = code;
                    if seen.oom_killed && seen.ends.last() == Some(&end) {
                        events.push(at("oom", time));
                    }
                    let event = at("die", time);
                    events.push(match code {
                        Some(code) => event.with("exitCode", &code.to_string()),
                        None => event,
                    });
                    events.extend(self.of_networks("disconnect", time, networks));
                    events.extend(self.of_volumes("unmount", time));
                }
            }
        }
        record.document = document.write_stored(record)?;
        Ok(events)
    }

    /// Says of each network that a start or an end of the container connects or disconnects it.
    fn of_networks(
        &self,
        action: &str,
        time: u64,
        networks: &[NetworkRecord],
    ) -> impl Iterator<Item = Event> {
        let of_each = move |network| Event {
            time: time.cast_signed(),
            ..connection_event(network, action, &self.record.id)
        };
        networks.iter().map(of_each)
    }

    /// Says of each volume that a start or an end of the container mounts or unmounts it.
    fn of_volumes(&self, action: &str, time: u64) -> Vec<Event> {
        let of_each = |(name, destination, _): (&str, &str, &Volume)| {
            let event = Event::new(Subject::Volume, action, name);
            let event = event.with("container", &self.record.id).with("driver", DRIVER);
            let event = if action == "mount" { event.with("destination", destination) } else { event };
            Event { time: time.cast_signed(), ..event }
        };
        Vec::from_iter(self.document.volumes().map(of_each))
    }

    /// Returns what is told of a new container.
    pub(crate) fn created(&self, warnings: Vec<String>) -> Created {
        Created { id: self.record.id.clone(), name: self.record.name.clone(), warnings }
    }

    /// Says that the container's state forbids an operation.
    pub(crate) fn refuses(&self, operation: &'static str) -> Error {
        Error::State { operation, name: self.record.name.clone(), state: self.life.state }
    }

    /// Tells whether somebody stopped it since it was started last.
    pub(crate) fn is_stopped(&self) -> bool {
        let is_given_up = |started| started == self.document.given_up;
        self.status
            .as_ref()
            .is_some_and(|status| status.stopped || status.started.is_some() && is_given_up(status.started))
    }

    /// Tells whether it has ended, and its policy would have something to say after a boot unless it is noted that somebody stopped it.
    pub(crate) fn is_to_be_given_up(&self) -> bool {
        self.life.state == State::Exited
            && !self.is_stopped()
            && self.document.request.restart.0 != Restart::No
    }

    /// Tells whether its policy starts it again after an end that nobody saw.
    pub(crate) fn starts_again(&self) -> bool {
        self.life.state == State::Exited && !self.is_stopped() && self.may_start_again()
    }

    /// Tells whether its policy starts it again after a failure, such as an end that nobody saw, however often it has already.
    pub(crate) fn may_start_again(&self) -> bool {
        let restarts = self.status.as_ref().map_or(0, |status| status.restarts);
        match self.document.request.restart.0 {
            Restart::No => false,
            Restart::OnFailure { maximum } => maximum == 0 || restarts < maximum,
            Restart::Always | Restart::UnlessStopped => true,
        }
    }

    /// Tells whether something of it may be there for which nobody cares: its monitor died, and nobody has cleaned up yet.
    pub(crate) fn is_to_be_ended(&self, engine: &Engine) -> bool {
        match self.life.lost {
            Some(Lost::Monitor) => !self.status.as_ref().is_some_and(|status| status.lost),
            Some(Lost::Status) => self.has_state(engine),
            Some(Lost::Machine) | None => false,
        }
    }

    /// Tells whether its runtime knows it.
    pub(crate) fn has_state(&self, engine: &Engine) -> bool {
        let states = engine.states_of(self.document.request.runtime.as_deref());
        runtime::state(&states, &self.record.id).is_some()
    }

    /// Returns the container's runtime.
    pub(crate) fn runtime(&self, engine: &Engine) -> Result<Runtime> {
        let runtime = engine.runtime(self.document.request.runtime.as_deref())?;
        if !engine.is_within(&self.document)? {
            return Ok(runtime);
        }
        Ok(runtime.within(engine.words_for_monitor(WITHIN, &self.record.id)?))
    }

    /// Asks the runtime whether the container is frozen.
    pub(crate) fn is_frozen(&self, engine: &Engine) -> Result<bool> {
        let printed = self.runtime(engine)?.run("state", &self.record.name, &[&self.record.id])?;
        let state: serde_json::Value = serde_json::from_slice(&printed).map_err(|error| Error::Damaged {
            what: format!("state of container {}", self.record.name),
            reason: error.to_string(),
        })?;
        Ok(state["status"] == "paused")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when a client hears of an end that the monitor has written meanwhile, and tells it twice.
    #[test]
    fn an_end_that_is_written_already_is_the_same_end() {
        let end = |time, code| End { time, code: Some(code) };
        let seen = Seen { starts: vec![1, 3], ends: vec![end(2, 1), end(4, 0)], ..Seen::default() };
        let seen = seen.and_then(Ending { code: 7, time: 4 }).and_then(Ending { code: 8, time: 6 });
        assert_eq!(seen.ends, [end(2, 1), end(4, 7), end(6, 8)]);
    }
}
