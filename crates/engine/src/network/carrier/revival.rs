//! Carriers that die alone, whose containers go on: another one takes the place of each.
//!
//! It enters the namespaces by the number of a container's own process: whoever owns a user namespace may look into what runs there, once
//! it is the container's program. Until a carrier hides it could be looked into in turn, by a container that has its users, the rights of
//! a debugger, and sees its host's processes. Where there is such a container the others wait for their next start, when the carrier is
//! there before a program is.
//!
//! That process may have gone into a network of its own. So the namespaces are compared with those that the last carrier was in, or of which the
//! monitor of one of a pod holds the network.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use bulkhead_shim::order::{NamespaceKind, RecordedCompanion};
use bulkhead_shim::protocol::ToMonitor;
use bulkhead_shim::status::Process;
use bulkhead_shim::{client, place};
use bulkhead_sys::path;
use rustix::fs::{OFlags, fstat};
use rustix::io::Errno;

use super::super::hook::CARRIER;
use super::super::live::Live;
use super::super::ports::PublishedPort;
use super::super::proxy;
use super::{Carrier, Entrance, Load, PROCESS, carrier_of};
use crate::container::State;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
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

/// A container before which a carrier does not hide in time, by its name.
struct Seer {
    name: String,
    why: &'static str,
}

/// The namespaces of what is carried, by their numbers.
#[derive(Debug, Clone, Copy)]
struct Place {
    network: u64,
    /// Of a pod, whose monitors hold them.
    user: Option<u64>,
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
    /// [`Error::Invalid`] where a container could look into it, or is in another network by now.
    pub(crate) fn carry_again(&self, id: &str) -> Result<()> {
        let Ok(record) = self.store.container(id) else { return Ok(()) };
        let Some(share) = self.share_of(&self.look(record)?)? else { return Ok(()) };
        let _alone = self.alone_with_carrier(&share.owner)?;
        let known = self.look(self.store.container(id)?)?;
        let Some(Deserted { share, live, process }) = self.deserted(&known)? else { return Ok(()) };
        self.refuse_seen(&known)?;
        let place = self.place_of(&known, &share, &live)?;
        let process = self.entrance(&known, &share, process, place)?;
        let Some(program) = program::in_path(share.carrier.name()) else {
            return share.carrier.check().map(drop);
        };
        // One that was started and not recorded, since whoever did so was killed.
        self.end_process(&live)?;
        let by = Entrance { pid: process.pid, network: place.map(|place| place.network) };
        let found = Vec::from_iter(live.ports.iter().map(|port| (port.clone(), obstacle(port))));
        let refused_by = |is_it: &dyn Fn(Errno) -> bool| {
            let refused = found.iter().filter(|(_, errno)| errno.is_some_and(is_it));
            Vec::from_iter(refused.map(|(port, _)| port.clone()))
        };
        let homeless = refused_by(&proxy::is_homeless);
        let refused = [refused_by(&|errno| errno == Errno::ADDRINUSE), homeless.clone()].concat();
        let live = Live { refused, homeless, ..live };
        let Share { owner, carrier, hosts, publishing } = &share;
        let load = Load { owner, carrier: *carrier, hosts, publishing, exposed: &[] };
        let begun = self.begin_carrier(&program, &load, by, &live);
        if begun.is_err() || !is_in(&process, place) || !process.runs() {
            // Its number may have been another's meanwhile, or it has gone elsewhere.
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
        let in_vain = || Error::Invalid {
            what: format!("container {}", known.record.name),
            reason: format!(
                "its monitor does not get {} started again: {}",
                share.carrier.name(),
                way_out(&known, &share)
            ),
        };
        let run = self.places().container_run(id);
        match client::ask(&run, &ToMonitor::Companions).and_then(|asked| asked.wait(Some(PATIENCE))) {
            // One of yesterday knows no such words, or no carriers.
            Err(
                client::Error::Refused { .. }
                | client::Error::Unanswered { .. }
                | client::Error::NoMonitor { .. },
            ) => return Err(in_vain()),
            asked => asked?,
        }
        let limit = Instant::now() + PATIENCE;
        while self.deserted(&known)?.is_some() {
            if Instant::now() > limit {
                return Err(in_vain());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Tells where the packets are from that are to be carried; nothing where one of yesterday has not recorded it.
    fn place_of(&self, known: &Known, share: &Share, live: &Live) -> Result<Option<Place>> {
        if share.owner == known.record.id {
            let network = live.carrier.as_ref().and_then(|carried| carried.namespace);
            return Ok(network.map(|network| Place { network, user: None }));
        }
        let run = self.places().container_run(&known.record.id);
        let inode = |kind| -> Result<u64> {
            let doing = || format!("find the namespaces of pod {}", id::short(&share.owner));
            let opened = path::open_host(&place::namespace(&run, kind), OFlags::RDONLY).doing(doing)?;
            Ok(fstat(&opened).doing(doing)?.st_ino)
        };
        let (network, user) = (inode(NamespaceKind::Network)?, inode(NamespaceKind::User)?);
        Ok(Some(Place { network, user: Some(user) }))
    }

    /// Finds a process that is there: the container's own, or that of another one of its pod.
    fn entrance(&self, known: &Known, share: &Share, own: Process, place: Option<Place>) -> Result<Process> {
        if is_in(&own, place) {
            return Ok(own);
        }
        let is_pod_s = share.owner != known.record.id;
        let others = if is_pod_s { self.store.containers_of_pod(&share.owner)? } else { Vec::new() };
        for record in others {
            let process = match self.look(record) {
                Err(Error::Damaged { .. }) => continue,
                other => other?.life.process,
            };
            if let Some(process) = process.filter(|process| process.runs() && is_in(process, place)) {
                return Ok(process);
            }
        }
        let reason = format!("it has gone into a network of its own: {}", way_out(known, share));
        Err(Error::Invalid { what: format!("container {}", known.record.name), reason })
    }

    /// Refuses to start a carrier that could be looked into.
    fn refuse_seen(&self, known: &Known) -> Result<()> {
        let (Some(share), Some(seer)) = (self.share_of(known)?, self.seer(known)?) else { return Ok(()) };
        let reason = format!("{}: {}", seer.why, way_out(known, &share));
        Err(Error::Invalid { what: format!("container {}", seer.name), reason })
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
    fn seer(&self, known: &Known) -> Result<Option<Seer>> {
        let pod = known.record.pod.as_ref();
        for record in self.store.containers()? {
            let is_of_pod = pod.is_some() && record.pod.as_ref() == pod;
            let (is_seen, why) = match Document::read(&record) {
                Ok(document) => {
                    let user = &document.request.namespaces.user;
                    let shares = is_of_pod || matches!(user, Some(UserNamespace::Container(_)));
                    let sees = (shares || record.id == known.record.id) && sees_processes(&document)?;
                    (sees && self.look(record.clone())?.life.state.is_active(), SEES)
                }
                // Those of another pod have the users of that.
                Err(Error::Damaged { .. }) if !is_of_pod && record.pod.is_some() => (false, UNREAD),
                Err(Error::Damaged { .. }) => {
                    let is_watched = client::alive(&self.places().container_run(&record.id))?;
                    (is_watched || self.has_first_process(&record.id), UNREAD)
                }
                Err(error) => return Err(error),
            };
            if is_seen {
                return Ok(Some(Seer { name: record.name, why }));
            }
        }
        Ok(None)
    }
}

/// Why a carrier is not started again.
const SEES: &str = "it sees its host's processes, and so a carrier before that hides";
/// As [`SEES`], of one whose record nobody can read.
const UNREAD: &str =
    "nobody can tell whether it sees its host's processes, and so a carrier before that hides";

/// Says how a container is had carried again that its monitor does not have carried.
fn way_out(known: &Known, share: &Share) -> String {
    if share.owner == known.record.id {
        return format!("`bulkhead restart {}`", known.record.name);
    }
    format!("`bulkhead pod restart {}`", id::short(&share.owner))
}

/// Tells whether a process is in these namespaces, as far as they are known.
fn is_in(process: &Process, place: Option<Place>) -> bool {
    let Some(Place { network, user }) = place else { return true };
    let inode = |kind: &str| std::fs::metadata(format!("/proc/{}/ns/{kind}", process.pid)).map(|of| of.ino());
    let is = |kind: &str, number: u64| inode(kind).is_ok_and(|found| found == number);
    is("net", network) && user.is_none_or(|user| is("user", user))
}

/// Says why nobody can listen at a port of the host, if that is so.
fn obstacle(port: &PublishedPort) -> Option<Errno> {
    proxy::bind(port, PublishMode::Proxy).err().map(|error| error.errno())
}
