//! Carriers that die alone, whose containers go on: another one takes the place of each.
//!
//! It enters the namespaces by the number of a container's own process: whoever owns a user namespace may look into what runs there, once
//! it is the container's program. Until a carrier hides it could be looked into in turn, by a container that has its users, the rights of
//! a debugger, and sees its host's processes. Where there is such a container the others wait for their next start, when the carrier is
//! there before a program is.

use std::time::{Duration, Instant};

use bulkhead_shim::client;
use bulkhead_shim::order::RecordedCompanion;
use bulkhead_shim::protocol::ToMonitor;
use bulkhead_shim::status::Process;
use bulkhead_store::ContainerRecord;

use super::super::hook::CARRIER;
use super::super::live::Live;
use super::super::ports::PublishedPort;
use super::super::proxy;
use super::{Carrier, Load, PROCESS, carrier_of};
use crate::container::State;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::id;
use crate::known::Known;
use crate::leftover::Leftover;
use crate::program;
use crate::request::{Hosts, PublishMode, Publishing, UserNamespace};
use crate::users::sees_processes;

/// How long a monitor may take to answer, and then until there is a carrier.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What a container has of a carrier, of its own or of its pod's.
struct Share {
    owner: String,
    carrier: Carrier,
    hosts: Hosts,
    publishing: Publishing,
}

/// An owner whose carrier has died.
struct Deserted {
    share: Share,
    live: Live,
    /// The first process of a container that runs.
    process: Process,
}

impl Engine {
    /// Says how the monitor of a container sees its carrier, if that can be started again while the container runs.
    pub(crate) fn carrier_for(&self, known: &Known) -> Result<Option<RecordedCompanion>> {
        let Some(share) = self.share_of(known)? else { return Ok(None) };
        if sees_processes(&known.document)? {
            return Ok(None);
        }
        Ok(Some(RecordedCompanion {
            file: self.owner_run(&share.owner).join(PROCESS),
            revive: self.words_for_monitor(CARRIER, &known.record.id)?,
        }))
    }

    /// Starts the carrier of a container that runs, or of its pod, again, if the last one has died. What programs of the host have taken
    /// of its ports meanwhile is recorded, and keeps none of the others.
    ///
    /// # Errors
    /// [`Error::Invalid`] where a container could look into it.
    pub(crate) fn carry_again(&self, id: &str) -> Result<()> {
        let Ok(record) = self.store.container(id) else { return Ok(()) };
        let Some(share) = self.share_of(&self.look(record)?)? else { return Ok(()) };
        let _alone = self.alone_with_carrier(&share.owner)?;
        let known = self.look(self.store.container(id)?)?;
        let Some(Deserted { share, live, process }) = self.deserted(&known)? else { return Ok(()) };
        self.refuse_seen(&known)?;
        let Some(program) = program::in_path(share.carrier.name()) else {
            return share.carrier.check().map(drop);
        };
        // One that was started and not recorded, since whoever did so was killed.
        self.end_process(&live)?;
        let namespace = live.carrier.as_ref().and_then(|carried| carried.namespace);
        let refused = live.ports.iter().filter(|port| is_taken(port)).cloned().collect();
        let live = Live { refused, ..live };
        let Share { owner, carrier, hosts, publishing } = &share;
        let load = Load { owner, carrier: *carrier, hosts, publishing, exposed: &[], namespace };
        let begun = self.begin_carrier(&program, &load, process.pid, &live);
        if begun.is_err() || !process.runs() {
            // Its number may have been another's meanwhile.
            let recorded = Live::read(self, owner)?;
            self.end_process(recorded.as_ref().unwrap_or(&live))?;
        }
        begun
    }

    /// Has its monitor do so: whoever is in the user namespace of a user's files, as a check is, has no rights over those of containers.
    ///
    /// # Errors
    /// As [`Engine::carry_again`]; [`Error::Invalid`] when it is not there soon.
    pub(crate) fn have_carried_again(&self, id: &str) -> Result<()> {
        let known = self.look(self.store.container(id)?)?;
        let Some(Deserted { share, .. }) = self.deserted(&known)? else { return Ok(()) };
        self.refuse_seen(&known)?;
        share.carrier.check()?;
        let asked = client::ask(&self.places().container_run(id), &ToMonitor::Companions)?;
        asked.wait(Some(PATIENCE))?;
        let limit = Instant::now() + PATIENCE;
        while self.deserted(&known)?.is_some() {
            if Instant::now() > limit {
                let (name, program) = (&known.record.name, share.carrier.name());
                return Err(Error::Invalid {
                    what: format!("container {name}"),
                    reason: format!(
                        "its monitor does not get {program} started again: `bulkhead restart {name}`"
                    ),
                });
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Refuses to start a carrier that could be looked into.
    fn refuse_seen(&self, known: &Known) -> Result<()> {
        let Some(seer) = self.seer(known)? else { return Ok(()) };
        let way_out = match &known.record.pod {
            Some(pod) => format!("`bulkhead pod restart {}`", id::short(pod)),
            None => format!("`bulkhead restart {}`", known.record.name),
        };
        Err(Error::Invalid { what: format!("container {}", seer.name), reason: format!("{SEES}: {way_out}") })
    }

    /// Lists the containers that run and whose carriers have died, of a pod one.
    pub(in super::super) fn uncarried_containers(&self) -> Result<Vec<Leftover>> {
        let (mut owners, mut found) = (Vec::new(), Vec::new());
        for record in self.store.containers()? {
            let deserted = self.look(record).and_then(|known| Ok((self.deserted(&known)?, known)));
            let (deserted, known) = match deserted {
                // It is told by itself.
                Err(Error::Damaged { .. }) => continue,
                deserted => deserted?,
            };
            let Some(Deserted { share, .. }) = deserted else { continue };
            if owners.contains(&share.owner) {
                continue;
            }
            let is_seen = self.seer(&known)?.is_some();
            let leftover = if is_seen { Leftover::CutOff } else { Leftover::Uncarried };
            found.push(leftover(share.owner.clone(), known.record.id));
            owners.push(share.owner);
        }
        Ok(found)
    }

    /// Tells by whom a container is carried; nothing of one that is not.
    fn share_of(&self, known: &Known) -> Result<Option<Share>> {
        let Known { record, document, .. } = known;
        let request = &document.request;
        if let Some(carrier) = carrier_of(&request.namespaces.network) {
            let (hosts, publishing) = (request.hosts.clone(), request.publishing.clone());
            return Ok(Some(Share { owner: record.id.clone(), carrier, hosts, publishing }));
        }
        let of_pod = self.carrier_of_pod(known)?;
        Ok(of_pod.map(|(pod, request, carrier)| Share {
            owner: pod.id,
            carrier,
            hosts: request.hosts,
            publishing: request.publishing,
        }))
    }

    /// Tells whether the carrier of a container that runs has died.
    fn deserted(&self, known: &Known) -> Result<Option<Deserted>> {
        let is_running = matches!(known.life.state, State::Running | State::Paused);
        let Some(process) = known.life.process.filter(|_| is_running) else { return Ok(None) };
        let Some(share) = self.share_of(known)? else { return Ok(None) };
        let live = Live::read(self, &share.owner)?;
        let live = live.filter(|live| live.carrier.is_some() && !live.has_helper());
        Ok(live.map(|live| Deserted { share, live, process }))
    }

    /// Finds a container that may have the users of another one, as one of its pod has, and that may see the host's processes.
    fn seer(&self, known: &Known) -> Result<Option<ContainerRecord>> {
        let pod = known.record.pod.as_ref();
        for record in self.store.containers()? {
            let document = Document::read(&record)?;
            let shares = matches!(document.request.namespaces.user, Some(UserNamespace::Container(_)))
                || (pod.is_some() && record.pod.as_ref() == pod);
            if (shares || record.id == known.record.id)
                && sees_processes(&document)?
                && self.look(record.clone())?.life.state.is_active()
            {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

/// Why a carrier is not started again.
const SEES: &str = "it sees its host's processes, and so a carrier before that hides";

/// Tells whether a program of the host listens at a port.
fn is_taken(port: &PublishedPort) -> bool {
    proxy::bind(port, PublishMode::Proxy).is_err_and(|error| proxy::is_another_s(error.errno()))
}
