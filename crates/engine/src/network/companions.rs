//! Who serves a container from outside: its monitor stays with them from its start on, and is told when others do.

use std::os::fd::AsFd as _;
use std::time::Duration;

use bulkhead_net::names::Until;
use bulkhead_shim::protocol::ToMonitor;
use bulkhead_shim::{Order, client, place};
use bulkhead_sys::process;

use super::host::Warnings;
use super::live::Live;
use crate::engine::Engine;
use crate::error::{Result, chain};
use crate::known::Known;

/// How long a monitor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Has those serve a container that runs who are to by now, and its monitor stay with them and with nobody else. Returns what the user
    /// should be told.
    pub(super) fn serve_as_now(&self, known: &Known) -> Result<Warnings> {
        let Some(namespace) = Self::namespace_of(known)? else { return Ok(Vec::new()) };
        let id = &known.record.id;
        let names = self.name_server_for(known)?;
        let has_helper = Live::read_to_end(self, id)?.is_some_and(|live| live.proxy.is_some());
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let ports = if has_helper { self.proxy_for(known, image.as_ref())? } else { None };
        let before = Order::read(&self.places().container_run(id).join(place::ORDER));
        let is_other_server = before.as_ref().map_or(true, |order| order.companion != names);
        let is_other =
            is_other_server || before.as_ref().is_ok_and(|order| !order.companions.iter().eq(&ports));
        let request = &known.document.request;
        let first = request.namespaces.network.connections().iter().find(|of| super::has_names(&of.network));
        let network = first.and_then(|of| of.id.clone()).filter(|_| is_other_server);
        let serve = |until| match &network {
            Some(network) => self.serve_names(id, namespace.as_fd(), network, &request.hosts.servers, until),
            None => Ok(()),
        };
        // It is there when the monitor looks for it.
        serve(Until::SomebodyStays)?;
        let told = before.map_err(|error| chain(&error)).and_then(|order| {
            self.tell_monitor(&Order { companion: names, companions: ports.into_iter().collect(), ..order })
        });
        let Err(reason) = told else { return Ok(Vec::new()) };
        // One of yesterday stays with those that it knows. A name server stays as long as it lives.
        let monitor = known.status.as_ref().map(|status| status.monitor.pid);
        if let Some(monitor) = monitor.and_then(|pid| process::open_pidfd(pid).ok()) {
            serve(Until::End(monitor.as_fd()))?;
        }
        let warning = format!(
            "what answers for the names of its networks, or carries its ports, is not started again should it die, until the container's \
             next start: {reason}"
        );
        Ok(Vec::from_iter(is_other.then_some(warning)))
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
