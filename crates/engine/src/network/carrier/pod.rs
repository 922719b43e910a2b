//! The carrier of a pod, which lives as long as the network that its containers share.
//!
//! Each container of the pod that starts has a hook see to it, while nothing of its image runs yet: the first one starts the carrier, all
//! others find that it runs. A carrier that was killed is started again only by whom nobody else is with: it enters the namespaces by a
//! [`Door`], and whoever has the pod's users and sees the host's processes (`--pid host`) could look into that. Where others are, their
//! monitors have it started again without one (`revival`).

use std::os::fd::OwnedFd;

use bulkhead_shim::order::NamespaceKind;
use bulkhead_shim::{client, place};
use bulkhead_store::PodRecord;
use bulkhead_sys::path;
use rustix::fs::{OFlags, fstat};

use super::super::door::Door;
use super::super::live::Live;
use super::{Carried, Load};
use crate::create::make_directory;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::pod::PodRequest;
use crate::request::{Carrier, UserNamespace};

impl Engine {
    /// Has a program carry the packets of the pod of a container that starts, unless one does.
    ///
    /// # Errors
    /// [`Error::Invalid`] where others, that are in no pod or whose monitors were killed, have the pod's users.
    pub(in super::super) fn carry_pod(
        &self,
        known: &Known,
        pod: &PodRecord,
        request: &PodRequest,
        carrier: Carrier,
    ) -> Result<()> {
        let run = self.places().pod_run(&pod.id);
        make_directory(&run)?;
        // The pod itself is held by whoever starts the container, unless that is its policy.
        let _alone = self.alone_with_carrier(&pod.id)?;
        let links = self.places().container_run(&known.record.id);
        let [network, user] = [NamespaceKind::Network, NamespaceKind::User]
            .map(|kind| path::open_host(&place::namespace(&links, kind), OFlags::RDONLY));
        let doing = || format!("open the namespaces of pod {}", pod.name);
        let (network, user): (OwnedFd, OwnedFd) = (network.doing(doing)?, user.doing(doing)?);
        let namespace = Some(fstat(&network).doing(doing)?.st_ino);
        let before = Live::read_to_end(self, &pod.id)?.and_then(|live| live.carrier);
        let is_same = before.as_ref().is_some_and(|carried| carried.namespace == namespace);
        if is_same && before.as_ref().is_some_and(Carried::runs) {
            return Ok(());
        }
        match self.others_with_users_of(known, pod)? {
            None => {}
            // They go on without a network, and so does this one: its user was told how to have it again.
            Some(_) if is_same => return Ok(()),
            Some(Other::Waits) => {}
            Some(Other::Runs(name)) => {
                let reason =
                    format!("container {name} has the pod's users, and no network of it: stop that first");
                return Err(Error::Invalid { what: format!("the network of pod {}", pod.name), reason });
            }
        }
        let PodRequest { hosts, publishing, .. } = request;
        let exposed = &*publishing.exposed;
        let load = Load { owner: &pod.id, carrier, hosts, publishing, exposed };
        self.carry(&load, || Door::of(&network, &user))
    }

    /// Says that nothing carries the packets of a pod any more whose containers run, if that is so.
    pub(crate) fn uncarried(&self, pod: &PodRecord) -> Option<String> {
        let carried = Live::read(self, &pod.id).ok().flatten()?.carrier?;
        (!carried.runs()).then(|| {
            let Carried { program, .. } = carried;
            let (name, program) = (&pod.name, program.name());
            format!(
                "the containers of pod {name} have no network any more, since {program} has died: `bulkhead pod restart {name}`"
            )
        })
    }

    /// Finds another container that has the users of a pod, rather one of which something runs.
    fn others_with_users_of(&self, known: &Known, pod: &PodRecord) -> Result<Option<Other>> {
        let all = self.store.containers()?;
        let is_member = |id: &str| {
            all.iter().any(|record| record.id == id && record.pod.as_deref() == Some(pod.id.as_str()))
        };
        let mut found = None;
        for record in &all {
            let is_one = is_member(&record.id);
            let user = match Document::read(record) {
                Ok(document) => Some(document.request.namespaces.user),
                // Those of another pod have the users of that. Of all others nobody can tell.
                Err(Error::Damaged { .. }) if !is_one && record.pod.is_some() => continue,
                Err(Error::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            let shares = user
                .is_none_or(|user| matches!(user, Some(UserNamespace::Container(peer)) if is_member(&peer)));
            if record.id == known.record.id || !(is_one || shares) {
                continue;
            }
            let is_watched = client::alive(&self.places().container_run(&record.id))?;
            // Also of one whose monitor has died.
            if self.has_first_process(&record.id) {
                return Ok(Some(Other::Runs(record.name.clone())));
            }
            if is_watched {
                found = Some(Other::Waits);
            }
        }
        Ok(found)
    }
}

/// Another container that has a pod's users.
enum Other {
    /// Something of its image runs: in the container of this name.
    Runs(String),
    /// Its monitor lives, and waits.
    Waits,
}

impl Carried {
    fn runs(&self) -> bool {
        self.process.is_some_and(|process| process.runs())
    }
}
