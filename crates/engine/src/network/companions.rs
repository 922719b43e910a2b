//! Who serves a container from outside: its monitor stays with them from its start on, and is told when others do.

use std::os::fd::AsFd as _;
use std::time::Duration;

use bulkhead_net::names::Until;
use bulkhead_shim::protocol::ToMonitor;
use bulkhead_shim::{Order, client, order, place};
use bulkhead_store::ContainerRecord;
use bulkhead_sys::process;

use super::host::Warnings;
use super::live::Live;
use crate::container::State;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Result, chain};
use crate::known::Known;
use crate::request::Network;

/// How long a monitor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who serves a container that runs.
struct Serving {
    names: Option<order::Companion>,
    ports: Option<order::Companion>,
}

/// Whether a name server is given a container's questions anew.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    Anew,
    AsBefore,
}

impl Engine {
    /// Has those serve a container that runs who are to by now, and its monitor stay with them and with nobody else. Returns what the user
    /// should be told.
    pub(super) fn serve_as_now(&self, known: &Known) -> Result<Warnings> {
        if Self::namespace_of(known)?.is_none() {
            return Ok(Vec::new());
        }
        let serving = self.serving(known)?;
        let before = self.order_of(known);
        let is_other_server = before.as_ref().map_or(true, |order| order.companion != serving.names);
        let is_other =
            is_other_server || before.as_ref().is_ok_and(|order| !order.companions.iter().eq(&serving.ports));
        let answered = if is_other_server { Answered::Anew } else { Answered::AsBefore };
        let Some(reason) = self.have_served(known, serving, answered)? else { return Ok(Vec::new()) };
        let warning = format!(
            "what answers for the names of its networks, or carries its ports, is not started again should it die, until the container's \
             next start: {reason}"
        );
        Ok(Vec::from_iter(is_other.then_some(warning)))
    }

    /// Has the questions of a container, or of its pod, answered again, and its monitor stay with who does.
    pub(crate) fn have_answered_again(&self, id: &str) -> Result<()> {
        let _held = self.hold(id)?;
        let Some(known) = self.know_again(id)?.filter(|known| known.life.state == State::Running) else {
            return Ok(());
        };
        if self.is_answered(&known)? {
            return Ok(());
        }
        let serving = self.serving(&known)?;
        // Where it is not told, it is the end of the monitor for which the name server waits.
        self.have_served(&known, serving, Answered::Anew).map(drop)
    }

    /// Has the ports of a container or pod helped again, and a monitor stay with the helper.
    pub(crate) fn have_helped_again(&self, owner: &str) -> Result<()> {
        self.help_owner_again(owner)?;
        for id in self.sharers_of(owner)? {
            let _held = self.hold(&id)?;
            let Some(known) = self.know_again(&id)?.filter(|known| known.life.state == State::Running) else {
                continue;
            };
            let answered = if self.is_answered(&known)? { Answered::AsBefore } else { Answered::Anew };
            let serving = self.serving(&known)?;
            // One of yesterday looks for those that it knows by itself, and one of a pod's is enough.
            return self.have_served(&known, serving, answered).map(drop);
        }
        Ok(())
    }

    /// Lists the containers that have the network of a container, which is that itself, or of a pod.
    fn sharers_of(&self, owner: &str) -> Result<Vec<String>> {
        let members = self.store.containers_of_pod(owner)?;
        if members.is_empty() {
            return Ok(vec![owner.to_owned()]);
        }
        let shares = |member: &ContainerRecord| {
            let document = Document::read(member);
            document.is_ok_and(|document| document.request.namespaces.network == Network::Pod)
        };
        // One that nobody can read is told by itself.
        Ok(members.into_iter().filter(shares).map(|member| member.id).collect())
    }

    fn order_of(&self, known: &Known) -> std::io::Result<Order> {
        Order::read(&self.places().container_run(&known.record.id).join(place::ORDER))
    }

    /// Says who is to serve a container by now.
    fn serving(&self, known: &Known) -> Result<Serving> {
        let Known { record, document, .. } = known;
        let is_pod_s = document.request.namespaces.network == Network::Pod;
        let owner = record.pod.as_deref().filter(|_| is_pod_s).unwrap_or(&record.id);
        let has_helper = Live::read_to_end(self, owner)?.is_some_and(|live| live.proxy.is_some());
        let image = record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let ports = if has_helper { self.proxy_for(known, image.as_ref())? } else { None };
        Ok(Serving { names: self.name_server_for(known)?, ports })
    }

    /// Has them do so, and the monitor stay with them, or says why it does not.
    fn have_served(&self, known: &Known, serving: Serving, answered: Answered) -> Result<Option<String>> {
        let asks = if answered == Answered::Anew { self.asks_as(known)? } else { None };
        let Some(namespace) = Self::namespace_of(known)? else { return Ok(None) };
        let serve = |until| match &asks {
            Some(asks) => {
                self.serve_names(&asks.owner, namespace.as_fd(), &asks.network, &asks.resolvers, until)
            }
            None => Ok(()),
        };
        // It is there when the monitor looks for it.
        serve(Until::SomebodyStays)?;
        let Serving { names, ports } = serving;
        let told = match self.order_of(known) {
            Ok(order) => self.tell_monitor(&Order {
                companion: names,
                companions: ports.into_iter().collect(),
                ..order
            }),
            Err(error) => Err(chain(&error)),
        };
        let Err(reason) = told else { return Ok(None) };
        // One of yesterday stays with those that it knows. A name server stays as long as it lives.
        let monitor = known.status.as_ref().map(|status| status.monitor.pid);
        if let Some(monitor) = monitor.and_then(|pid| process::open_pidfd(pid).ok()) {
            serve(Until::End(monitor.as_fd()))?;
        }
        Ok(Some(reason))
    }

    /// Tells the monitor of a container with whom it is to stay, or says why that does not do it. One that has ended needs nobody.
    fn tell_monitor(&self, order: &Order) -> std::result::Result<(), String> {
        let run = self.places().container_run(&order.id);
        let order = Order { version: order.oldest_version(), ..order.clone() };
        order.write(&run.join(place::ORDER)).map_err(|error| chain(&error))?;
        match client::ask(&run, &ToMonitor::Companions).and_then(|asked| asked.wait(Some(PATIENCE))) {
            Ok(()) | Err(client::Error::NoMonitor { .. }) => Ok(()),
            Err(error) => Err(format!("its monitor: {}", chain(&error))),
        }
    }
}
