//! The helper for ports of the host (`bulkhead_net::proxy`), which carries them or only holds those to which the packet filter leads: it is
//! started with its container or pod, recorded in `network.json`, kept by the monitors, and ended when the ports are taken back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use bulkhead_net::proxy::{self, Helper, Ports, Route};
use bulkhead_shim::order;
use bulkhead_shim::status::Process;
use bulkhead_store::Image;
use bulkhead_sys::process;
use rustix::io::Errno;

use super::address::Joint;
use super::host::Host;
use super::live::{Live, Proxy};
use super::ports::{MoreFiles, PublishedPort};
use super::start::exposed;
use super::ways::WaysIn;
use crate::create::make_directory;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::pod::PodRequest;
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
    fn begin_proxy(&self, owner: &str, ports: &Ports, kept: Kept) -> Result<(Process, OwnedFd)> {
        let (program, directory) = (self.ports()?, self.owner_run(owner));
        make_directory(&directory)?;
        let wait = if kept == Kept::ByStarter { 5 } else { WAIT };
        let helper = Helper { program: &program, owner, socket: &directory.join(SOCKET), wait };
        let begun = helper.start(ports)?;
        let process = Process::find(begun.process).ok_or(Errno::SRCH);
        Ok((process.doing(|| "find the helper for ports")?, begun.connection))
    }

    /// Says with which helper for ports the monitor of a container stays; none where there is none.
    pub(crate) fn proxy_for(&self, known: &Known, image: Option<&Image>) -> Result<Option<order::Companion>> {
        let Known { record, document, .. } = known;
        let request = &document.request;
        let (owner, connections, publishing, exposed) = match (&request.namespaces.network, &record.pod) {
            (Network::Networks(some), _) => {
                (record.id.clone(), some.clone(), request.publishing.clone(), exposed(request, image))
            }
            (Network::Pod, Some(pod)) => {
                let PodRequest { network, publishing, .. } = self.request_of_pod(pod)?;
                let exposed = publishing.exposed.clone();
                (pod.clone(), network.connections().to_vec(), publishing, exposed)
            }
            _ => return Ok(None),
        };
        let has_ports = !publishing.ports.is_empty() || (publishing.all && !exposed.is_empty());
        // Those that plugins lead there are theirs.
        let joints = self.joints(&owner, &connections)?;
        if !has_ports || WaysIn::of(&joints).first().is_none_or(Joint::is_elsewhere) {
            return Ok(None);
        }
        Ok(Some(order::Companion {
            socket: self.owner_run(&owner).join(SOCKET),
            greeting: GREETING.to_owned(),
            revive: self.words_for_monitor(super::hook::PORTS, &record.id)?,
        }))
    }

    /// Starts the helper again for the ports of a container or its pod, if the last one has died.
    pub(super) fn help_ports_again(&self, id: &str) -> Result<()> {
        let Ok(record) = self.store.container(id) else { return Ok(()) };
        let known = self.look(record)?;
        let is_pod_s = known.document.request.namespaces.network == Network::Pod;
        self.help_owner_again(&known.record.pod.filter(|_| is_pod_s).unwrap_or_else(|| id.to_owned()))
    }

    /// Starts the helper again for the ports of what runs, if the last one has died. Those that are another's by now are found by
    /// `system check`.
    pub(super) fn help_owner_again(&self, owner: &str) -> Result<()> {
        let host = Host::hold(self)?;
        match Live::read(self, owner)? {
            Some(live) if self.is_live(owner)? => host.help_again(&live),
            _ => Ok(()),
        }
    }
}

impl Host<'_> {
    /// Has a helper do its duty for ports that are bound, and records it with them; a start that is killed before has one that nobody
    /// keeps, and that ends by itself.
    pub(super) fn have_helper(
        &self,
        live: &Live,
        (duty, sockets): (PublishMode, HashMap<PublishedPort, OwnedFd>),
        kept: Kept,
    ) -> Result<OwnedFd> {
        let mut sockets = sockets;
        let ports = match duty {
            PublishMode::Dnat => Ports { routes: Vec::new(), held: sockets.into_values().collect() },
            PublishMode::Proxy => {
                let route = |port: &PublishedPort| {
                    let socket = sockets.remove(port)?;
                    Some(Route { protocol: port.protocol, socket, to: port.to })
                };
                Ports { routes: live.ports.iter().filter_map(route).collect(), held: Vec::new() }
            }
        };
        // Before it begins: whoever is killed then has it found by its socket.
        let with = |process| Live { proxy: Some(Proxy { duty, process }), ..live.clone() };
        with(None).write(self.engine())?;
        let (process, connection) = self.engine().begin_proxy(&live.owner, &ports, kept)?;
        with(Some(process)).write(self.engine())?;
        Ok(connection)
    }

    /// Binds the ports of an owner anew and has a helper for them, unless there is one. What a program of the host has taken meanwhile is
    /// recorded, and keeps none of the others.
    pub(super) fn help_again(&self, live: &Live) -> Result<()> {
        let Some(Proxy { duty, process }) = live.proxy else { return Ok(()) };
        if process.is_some_and(|process| process.runs()) {
            return Ok(());
        }
        let _roomy = MoreFiles::for_all(live.ports.len());
        let (mut sockets, mut refused, mut homeless) = (HashMap::new(), Vec::new(), Vec::new());
        for port in &live.ports {
            match bind(port, duty) {
                Ok(bound) => sockets.extend(bound.map(|socket| (port.clone(), socket))),
                Err(error) if error.errno() == Errno::ADDRINUSE => refused.push(port.clone()),
                Err(error) if is_homeless(error.errno()) => homeless.push(port.clone()),
                Err(error) => {
                    return Err(error).doing(|| format!("have port {} of the host again", port.told()));
                }
            }
        }
        refused.extend_from_slice(&homeless);
        let live = Live { refused, homeless, ..live.clone() };
        self.have_helper(&live, (duty, sockets), Kept::ByNobody).map(drop)
    }
}

/// Tells by an error of bind(2) whether the host has lost the address of a port, or all of its family.
pub(super) fn is_homeless(errno: Errno) -> bool {
    matches!(errno, Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)
}

/// Binds a port as a helper wants it; nothing of a protocol that none can have.
pub(super) fn bind(port: &PublishedPort, duty: PublishMode) -> bulkhead_sys::Result<Option<OwnedFd>> {
    let at = SocketAddr::new(port.address, port.host);
    match duty {
        PublishMode::Dnat => proxy::hold(port.protocol, at),
        PublishMode::Proxy => proxy::listen(port.protocol, at).map(Some),
    }
}

/// Ends the helper of an owner, if there is one; its ports are free then.
pub(super) fn end(engine: &Engine, live: &Live) -> Result<()> {
    let recorded = live.proxy.and_then(|proxy| proxy.process);
    let Some(process) = recorded.filter(Process::runs) else {
        // Of a record that nobody can read, or that was not written to its end.
        let socket = engine.owner_run(&live.owner).join(SOCKET);
        let found = if socket.exists() { proxy::find(&socket)? } else { None };
        return found.map_or(Ok(()), |pidfd| Ok(proxy::end(&pidfd)?));
    };
    match process::open_pidfd(process.pid) {
        // Its number may be another's since.
        Ok(pidfd) if process.runs() => Ok(proxy::end(&pidfd)?),
        Ok(_) => Ok(()),
        Err(error) if error.errno() == Errno::SRCH => Ok(()),
        Err(error) => Err(error).doing(|| "end the helper for ports"),
    }
}
