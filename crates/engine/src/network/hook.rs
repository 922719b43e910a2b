//! What is done with networks while a container lives, by a process that its monitor or its runtime starts.
//!
//! A container with users of its own has a network namespace that belongs to these, which its runtime makes; a hook connects it
//! (`createRuntime`, config.md of the runtime specification). And once a container has ended, its ports are taken back.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};

use bulkhead_net::device::{Change, Devices};
use bulkhead_net::names::Until;
use bulkhead_spec::Hook;
use bulkhead_store::PodRecord;
use bulkhead_sys::path;
use rustix::fs::OFlags;
use serde::Deserialize;

use super::address::Joint;
use super::carrier::{Load, carrier_of};
use super::door::Door;
use super::proxy::Kept;
use super::start::{LOOPBACK, Wish, called, exposed};
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::pod::PodRequest;
use crate::request::{Carrier, Network};
use crate::runtime::Family;
use crate::users::WITHIN;

/// The word behind `bulkhead` by which a monitor or a runtime has something done: nothing that people type.
pub const FOR_MONITOR: &str = "for-monitor";
const PLUG: &str = "plug";
const UNPLUG: &str = "unplug";
pub(super) const NAMES: &str = "names";
pub(super) const PORTS: &str = "ports";
pub(super) const CARRIER: &str = "carrier";

impl Engine {
    /// Does what a monitor or a runtime asks for: the words behind [`FOR_MONITOR`].
    ///
    /// # Errors
    /// Other words, and why it is not done.
    pub fn for_monitor(&self, words: &[&OsStr]) -> Result<()> {
        match words {
            [word, id] if *word == PLUG => self.plug_running(&id.to_string_lossy()),
            [word, id, network] if *word == NAMES => {
                self.serve_names_again(&id.to_string_lossy(), &network.to_string_lossy())
            }
            [word, id] if *word == PORTS => self.help_ports_again(&id.to_string_lossy()),
            [word, id, words @ ..] if *word == WITHIN => self.become_within(&id.to_string_lossy(), words),
            [word, id] if *word == CARRIER => self.carry_again(&id.to_string_lossy()),
            [word, id] if *word == UNPLUG => self.unplug_ended(&id.to_string_lossy()),
            _ => Err(Error::Invalid {
                what: format!("{FOR_MONITOR} {words:?}"),
                reason: "only monitors and runtimes say this".into(),
            }),
        }
    }

    /// Returns the hook by which a container is connected once its namespace is there, if it is that late.
    pub(crate) fn network_hook(&self, known: &Known) -> Result<Option<Hook>> {
        let document = &known.document;
        let is_hooked = match &document.request.namespaces.network {
            Network::Networks(some) => document.users.is_some() && !some.is_empty(),
            // Into one of others its way is another (`users::within`).
            Network::Carried(_) => known.runtime(self)?.family() == Family::Ours,
            Network::Pod => self.carrier_of_pod(known)?.is_some(),
            _ => false,
        };
        if !is_hooked {
            return Ok(None);
        }
        let args = self.words_for_monitor(PLUG, &known.record.id)?;
        let path = self.command()?.to_string_lossy().into_owned();
        Ok(Some(Hook { path, args, ..Hook::default() }))
    }

    /// Finds what carries the packets of the pod whose network a container shares, with the pod's record; nothing where nothing does.
    pub(super) fn carrier_of_pod(&self, known: &Known) -> Result<Option<(PodRecord, PodRequest, Carrier)>> {
        let shares = known.document.request.namespaces.network == Network::Pod;
        let Some(id) = known.record.pod.as_deref().filter(|_| shares) else { return Ok(None) };
        let request = self.request_of_pod(id)?;
        let Some(carrier) = carrier_of(&request.network) else { return Ok(None) };
        Ok(Some((self.store.pod(id)?, request, carrier)))
    }

    /// Returns the words by which a monitor takes back what its container had on the host; none where it has nothing.
    pub(crate) fn unplugging(&self, known: &Known) -> Result<Vec<String>> {
        let request = &known.document.request;
        let is_known =
            request.namespaces.network.connections().iter().any(|of| !super::is_given(&of.network));
        let is_carried = carrier_of(&request.namespaces.network).is_some();
        if (request.publishing.is_any() || is_known || is_carried || self.is_pod_known(known)?)
            && !request.remove
        {
            self.words_for_monitor(UNPLUG, &known.record.id)
        } else {
            Ok(Vec::new())
        }
    }

    pub(crate) fn words_for_monitor(&self, word: &str, id: &str) -> Result<Vec<String>> {
        let places = self.places();
        let words = [
            self.command()?.to_string_lossy().into_owned(),
            "--root".to_owned(),
            places.root.to_string_lossy().into_owned(),
            "--run".to_owned(),
            places.run.to_string_lossy().into_owned(),
        ];
        Ok(words.into_iter().chain([FOR_MONITOR, word, id].map(str::to_owned)).collect())
    }

    /// Connects a container whose namespace is there and in which nothing runs yet: its state stands on the standard input.
    fn plug_running(&self, id: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct State {
            pid: i32,
        }
        let known = self.look(self.store.container(id)?)?;
        let doing = || format!("connect container {}", known.record.name);
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).doing(doing)?;
        let state: State = serde_json::from_slice(&text).map_err(std::io::Error::from).doing(doing)?;
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let network = &known.document.request.namespaces.network;
        let exposed = exposed(&known.document.request, image.as_ref());
        let request = &known.document.request;
        if let Some(carrier) = carrier_of(network) {
            let (hosts, publishing) = (&request.hosts, &request.publishing);
            let load = Load { owner: id, carrier, hosts, publishing, exposed: &exposed };
            let _alone = self.alone_with_carrier(id)?;
            return self.carry(&load, Door::open);
        }
        if let Some((pod, of_pod, carrier)) = self.carrier_of_pod(&known)? {
            return self.carry_pod(&known, &pod, &of_pod, carrier);
        }
        let namespace = path::open_host(format!("/proc/{}/ns/net", state.pid).as_ref(), OFlags::RDONLY);
        let namespace = namespace.doing(doing)?;
        let joints = self.joints(id, network.connections())?;
        let inside = Devices::of(namespace.as_fd())?;
        inside.change(vec![Change::bring_up(LOOPBACK)])?;
        let called = called(&known.record, &known.document);
        let wish = Wish::of(&known, &joints, &exposed, &called);
        let is_elsewhere = joints.iter().any(Joint::is_elsewhere);
        let files = is_elsewhere.then(|| self.files_of(&known)).transpose()?;
        // Nobody hears of what stands in the way: `system check` tells of it.
        self.wire(&wish, namespace.as_fd(), &inside, Kept::ByNobody)?;
        // Only now it is known which addresses it has.
        files.map_or(Ok(()), |files| self.write_again(&known, &files))
    }

    /// Has a program carry the packets of a container that a runtime of others is to start in these namespaces.
    pub(crate) fn carry_container(&self, id: &str, network: &OwnedFd, user: &OwnedFd) -> Result<()> {
        let known = self.look(self.store.container(id)?)?;
        let request = &known.document.request;
        let Some(carrier) = carrier_of(&request.namespaces.network) else { return Ok(()) };
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let exposed = exposed(request, image.as_ref());
        let (hosts, publishing) = (&request.hosts, &request.publishing);
        let load = Load { owner: id, carrier, hosts, publishing, exposed: &exposed };
        let _alone = self.alone_with_carrier(id)?;
        self.carry(&load, || Door::of(network, user))
    }

    /// Has a name server answer a container again whose last one has died.
    fn serve_names_again(&self, id: &str, network: &str) -> Result<()> {
        let Ok(record) = self.store.container(id) else { return Ok(()) };
        let known = self.look(record)?;
        let owner =
            known.record.pod.as_deref().filter(|_| known.document.request.namespaces.network == Network::Pod);
        let Some(namespace) = Self::namespace_of(&known)? else { return Ok(()) };
        let (owner, resolvers) = match owner {
            Some(pod) => {
                let (owner, _, resolvers) = self.names_of_pod(pod)?;
                (owner, resolvers)
            }
            None => (id.to_owned(), known.document.request.hosts.servers.clone()),
        };
        // That which the monitor was told of, whether the container is in that network still or not.
        self.serve_names(&owner, namespace.as_fd(), network, &resolvers, Until::SomebodyStays)
    }

    /// Takes back what a container had on the host that has ended, and its pod if nothing of that runs.
    fn unplug_ended(&self, id: &str) -> Result<()> {
        let Ok(record) = self.store.container(id) else { return Ok(()) };
        let _held = self.hold(id)?;
        // Somebody may have started it again.
        let known = self.look(record)?;
        if !known.life.state.is_active() {
            self.unplug(id)?;
        }
        match &known.record.pod {
            Some(pod) => self.unplug_pod(pod),
            None => Ok(()),
        }
    }

    /// Tells whether something of an owner may be left on the host but for what plugins have made.
    fn may_have_left(&self, owner: &str) -> bool {
        !matches!(self.published(owner), Ok(None)) || self.is_shared(owner)
    }

    /// Takes back what a container had on the host that a command has just ended, or waits for its monitor, which does: its ports are
    /// free when the command returns.
    pub(crate) fn unplug_stopped(&self, id: &str) {
        if self.may_have_left(id) {
            // What stays is found by `system check`.
            let _ = self.unplug_ended(id);
        }
    }

    /// Takes back what a container had on the host whose end is just noticed, if its monitor was not told to have that done. Somebody
    /// who holds it does so, or has other plans.
    pub(crate) fn unplug_noticed(&self, id: &str) {
        if !self.may_have_left(id) && !self.is_attached(id) {
            return;
        }
        if let Ok(Some(_held)) = self.try_hold(id)
            && let Ok(record) = self.store.container(id)
            && self.look(record).is_ok_and(|known| !known.life.state.is_active())
        {
            // What stays is found by `system check`.
            let _ = self.unplug(id);
        }
    }

    /// As [`Engine::unplug_noticed`], of the pod of which a container has ended.
    pub(crate) fn unplug_noticed_pod(&self, pod: &str) {
        if self.may_have_left(pod) {
            // What stays is found by `system check`.
            let _ = self.unplug_pod(pod);
        }
    }

    /// Takes back what a pod had on the host, of which nothing runs.
    pub(crate) fn unplug_pod(&self, pod: &str) -> Result<()> {
        let _held =
            self.hold_directory(&self.places().pod(pod), || format!("pod {}", crate::id::short(pod)))?;
        for member in self.store.containers_of_pod(pod)? {
            if self.look(member)?.life.state.is_active() {
                return Ok(());
            }
        }
        self.unplug(pod)
    }
}
