//! Ports of the host that a helper carries (`bulkhead_net::proxy`): it is started with its container or pod, recorded in `network.json`,
//! kept by the monitors, and ended when the ports are taken back.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use bulkhead_net::proxy::{self, Helper, Route};
use bulkhead_shim::order;
use bulkhead_shim::status::Process;
use bulkhead_store::Image;
use bulkhead_sys::process;
use rustix::io::Errno;

use super::host::Host;
use super::live::{Live, Proxy};
use super::ports::PublishedPort;
use super::start::exposed;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::request::{Network, Protocol, PublishMode, Publishing};

/// Where those connect who keep a helper, in the directory below `run` of its container or pod.
const SOCKET: &str = "ports.sock";
/// How many seconds a helper waits for the monitor where whoever has started it does not wait for that: a monitor looks for it
/// every 30 seconds at least.
const WAIT: u32 = 60;
/// What a monitor says that keeps one.
const GREETING: &str = "stay";

/// Who keeps a helper that has begun, until a monitor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Its starter, by the connection that is returned.
    ByStarter,
    /// Nobody; it waits for a while.
    ByNobody,
}

/// Makes sure that ports can be published in the way that is wanted.
pub(crate) fn check(publishing: &Publishing) -> Result<()> {
    let is_sctp = |protocol: Protocol| protocol == Protocol::Sctp;
    if publishing.mode != PublishMode::Proxy {
        return Ok(());
    }
    match publishing.ports.iter().find(|ports| is_sctp(ports.protocol)) {
        Some(ports) => Err(refuse_sctp(ports.container)),
        None => Ok(()),
    }
}

/// Refuses to carry associations.
pub(super) fn refuse_sctp(port: u16) -> Error {
    Error::Invalid {
        what: format!("--publish {port}/sctp"),
        reason: "with --publish-mode proxy there are tcp and udp alone: an association of SCTP is more than its bytes; \
            publish it with --publish-mode dnat"
            .to_owned(),
    }
}

impl Engine {
    /// Starts the helper of an owner with its ports, which are bound, and returns its process.
    fn begin_proxy(
        &self,
        owner: &str,
        ports: &[PublishedPort],
        sockets: Vec<OwnedFd>,
        kept: Kept,
    ) -> Result<(Process, OwnedFd)> {
        let (program, socket) = (self.ports()?, self.owner_run(owner).join(SOCKET));
        let wait = if kept == Kept::ByStarter { 5 } else { WAIT };
        let helper = Helper { program: &program, owner, socket: &socket, wait };
        let routes = ports.iter().zip(sockets);
        let routes = routes.map(|(port, socket)| Route { protocol: port.protocol, socket, to: port.to });
        let begun = helper.start(&Vec::from_iter(routes))?;
        let process = Process::find(begun.process).ok_or(Errno::SRCH);
        Ok((process.doing(|| "find the helper for ports")?, begun.connection))
    }

    /// Says with which helper for ports the monitor of a container stays; none where there is none.
    pub(crate) fn proxy_for(&self, known: &Known, image: Option<&Image>) -> Result<Option<order::Companion>> {
        let Known { record, document, .. } = known;
        let request = &document.request;
        let (owner, publishing, exposed) = match (&request.namespaces.network, &record.pod) {
            (Network::Networks(_), _) => {
                (record.id.clone(), request.publishing.clone(), exposed(request, image))
            }
            (Network::Pod, Some(pod)) => {
                let (owner, publishing) = self.ports_of_pod(pod)?;
                let exposed = publishing.exposed.clone();
                (owner, publishing, exposed)
            }
            _ => return Ok(None),
        };
        let has_ports = !publishing.ports.is_empty() || (publishing.all && !exposed.is_empty());
        if publishing.mode != PublishMode::Proxy || !has_ports {
            return Ok(None);
        }
        Ok(Some(order::Companion {
            socket: self.owner_run(&owner).join(SOCKET),
            greeting: GREETING.to_owned(),
            revive: self.words_for_monitor(super::hook::PORTS, &record.id)?,
        }))
    }

    /// Starts the helper again that carries the ports of a container or its pod, if the last one has died.
    pub(super) fn carry_ports_again(&self, id: &str) -> Result<()> {
        let Ok(record) = self.store.container(id) else { return Ok(()) };
        let known = self.look(record)?;
        let is_pod_s = known.document.request.namespaces.network == Network::Pod;
        let owner = known.record.pod.filter(|_| is_pod_s).unwrap_or_else(|| id.to_owned());
        let host = Host::hold(self)?;
        match Live::read(self, &owner)? {
            Some(live) if self.is_live(&owner)? => host.carry_again(&live),
            _ => Ok(()),
        }
    }
}

impl Host<'_> {
    /// Has a helper carry ports that are bound, and records it, before it begins and after it has.
    pub(super) fn carry(&self, live: &Live, sockets: Vec<OwnedFd>, kept: Kept) -> Result<OwnedFd> {
        let engine = self.engine();
        let mut live = Live { proxy: Some(Proxy { process: None }), ..live.clone() };
        live.write(engine)?;
        let (process, connection) = engine.begin_proxy(&live.owner, &live.ports, sockets, kept)?;
        live.proxy = Some(Proxy { process: Some(process) });
        live.write(engine)?;
        Ok(connection)
    }

    /// Binds the ports of an owner anew and has a helper carry them, unless one does.
    fn carry_again(&self, live: &Live) -> Result<()> {
        let Some(Proxy { process }) = live.proxy else { return Ok(()) };
        if process.is_some_and(|process| process.runs()) {
            return Ok(());
        }
        let bind = |port: &PublishedPort| {
            proxy::listen(port.protocol, SocketAddr::new(port.address, port.host))
                .doing(|| format!("listen at port {} of the host again", port.told()))
        };
        let sockets = live.ports.iter().map(bind).collect::<Result<Vec<_>>>()?;
        self.carry(live, sockets, Kept::ByNobody).map(drop)
    }

    /// Has the helper of an owner carry these ports alone from now on.
    pub(super) fn carry_only(&self, live: &Live) -> Result<()> {
        end(live)?;
        self.carry_again(live)
    }
}

/// Ends the helper of an owner, if there is one; its ports are free then.
pub(super) fn end(live: &Live) -> Result<()> {
    let Some(process) = live.proxy.and_then(|proxy| proxy.process).filter(Process::runs) else {
        return Ok(());
    };
    match process::open_pidfd(process.pid) {
        // Its number may be another's since.
        Ok(pidfd) if process.runs() => Ok(proxy::end(&pidfd)?),
        Ok(_) => Ok(()),
        Err(error) if error.errno() == Errno::SRCH => Ok(()),
        Err(error) => Err(error).doing(|| "end the helper for ports"),
    }
}
