//! Programs that carry the packets of an ordinary user's container or pod: pasta(1) and slirp4netns(1).
//!
//! The bridge of a network takes root. Without that a program of the user's own copies packets between a device in the container
//! and sockets of the host. It is started by a hook, once the container's namespaces are there, and it does not end with these by
//! itself: so it is recorded, and ended with the container.
//!
//! It enters the namespaces by the number of a process that is in them. That is never the container's own, which hides from all
//! others; it is the [`door`], which has nothing and goes when the carrier is ready.

mod pod;
mod revival;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bulkhead_shim::status::Process;
use bulkhead_sys::process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::door::Door;
use super::live::Live;
use super::ports::{self, PublishedPort};
use crate::configure::{Caller, Wiring};
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::hold::Held;
use crate::host;
use crate::id;
use crate::program;
use crate::request::{Carrier, ExposedPorts, HostAddress, Hosts, Network, Protocol, Publishing};

/// Where pasta is told to answer questions for names.
const NAMES_OF_PASTA: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Where pasta is told to lead to the host: podman's address for the same.
const HOST_OF_PASTA: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);
/// Where slirp4netns answers questions for names (slirp4netns(1), "DESCRIPTION").
const NAMES_OF_SLIRP: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The container's address behind slirp4netns.
const BEHIND_SLIRP: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// The container's device behind slirp4netns.
const DEVICE_OF_SLIRP: &str = "tap0";
/// Bytes in a packet behind slirp4netns: what its documentation says is fast.
const MTU_OF_SLIRP: &str = "--mtu=65520";

/// pasta's own number, in its owner's directory that stays: Debian's profile of AppArmor has it write below the user's home.
const PID_FILE: &str = "carrier.pid";
/// What slirp4netns says.
const LOG: &str = "carrier.log";
/// Where slirp4netns is asked for ports. It has the directory above its own as its working directory: the whole path is too long
/// for a socket.
const SOCKET: &str = "carrier.sock";
/// Which process it is, for monitors.
const PROCESS: &str = "carrier.process";
/// How long a carrier may take until it is ready, and until it has ended.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at one that ends.
const PAUSE: Duration = Duration::from_millis(2);

/// The carrier of a container or pod that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Carried {
    /// Which it is.
    pub(super) program: Carrier,
    /// Its process; none while it is being started.
    pub(super) process: Option<Process>,
    /// The number of the network namespace, which is no other's as long as the carrier runs; a container that one of yesterday has
    /// started has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<u64>,
}

/// What is carried, and by what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load<'a> {
    /// The id of the container or pod.
    pub(super) owner: &'a str,
    /// What carries it.
    pub(super) carrier: Carrier,
    /// What it asks of names.
    pub(super) hosts: &'a Hosts,
    /// The ports that lead to it.
    pub(super) publishing: &'a Publishing,
    /// Those that are meant where all are published.
    pub(super) exposed: &'a [ExposedPorts],
}

/// By what a carrier enters the namespaces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entrance {
    /// The number of a process that is in them.
    pub(super) pid: i32,
    /// As [`Carried::namespace`].
    pub(super) network: Option<u64>,
}

impl Carrier {
    /// Finds one that is installed, the better first.
    pub(super) fn installed() -> Option<Self> {
        let slirp = program::in_path(Self::Slirp4netns.name()).map(|_| Self::Slirp4netns);
        match program::in_path(Self::Pasta.name()) {
            Some(pasta) if slirp.is_none() || is_recent(&pasta) => Some(Self::Pasta),
            _ => slirp,
        }
    }

    /// Makes sure that it is installed, and returns what the user should be told of it.
    pub(super) fn check(self) -> Result<Vec<String>> {
        if let Some(program) = program::in_path(self.name()) {
            let is_old = self == Self::Pasta && !is_recent(&program);
            return Ok(is_old.then(|| OLD_PASTA.to_owned()).into_iter().collect());
        }
        let reason = format!(
            "the program {} is not in PATH: it is in the package {}; or have no network by `--network none`",
            self.name(),
            self.package()
        );
        Err(Error::Invalid { what: format!("--network {}", self.name()), reason })
    }

    /// The package that has it, of all distributions.
    fn package(self) -> &'static str {
        match self {
            Self::Pasta => "passt",
            Self::Slirp4netns => "slirp4netns",
        }
    }

    /// Where the container asks for names, which the carrier passes on to the host's resolvers.
    pub(crate) fn name_server(self) -> IpAddr {
        match self {
            Self::Pasta => NAMES_OF_PASTA.into(),
            Self::Slirp4netns => NAMES_OF_SLIRP.into(),
        }
    }

    /// The container's address to which ports lead; pasta leads to whatever addresses it has.
    pub(super) fn behind(self, family: IpAddr) -> IpAddr {
        match (self, family) {
            (Self::Slirp4netns, _) => BEHIND_SLIRP.into(),
            (Self::Pasta, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (Self::Pasta, IpAddr::V6(_)) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Tells how a container is connected by it: with an address of the host's, if it is asked for one and this version has one.
    pub(crate) fn wiring(self, hosts: &Hosts) -> Wiring {
        let host = (self == Self::Pasta && leads_to_host(hosts)).then_some(HOST_OF_PASTA.into());
        Wiring { host, ..Wiring::default() }
    }
}

/// What is said where nothing is installed.
pub(super) fn none_installed() -> String {
    "install the package passt (or slirp4netns) to give it one, or say `--network none`".to_owned()
}

/// Said of a version that is not recent. That of Debian 12 does so with every connection that the container's end closes for
/// writing before the other has answered.
const OLD_PASTA: &str = "pasta is older than August 2024: it may repeat data on a connection of which the container has closed \
    its own direction, and never end it; install a newer passt, or slirp4netns";

/// Tells whether pasta is of August 2024 or later, which can lead to the host, too: not all versions say which they are.
fn is_recent(program: &Path) -> bool {
    // Asked once: that takes as long as to start it.
    static RECENT: OnceLock<bool> = OnceLock::new();
    *RECENT.get_or_init(|| {
        let said = Command::new(program).arg("--help").stdin(Stdio::null()).output();
        said.is_ok_and(|said| {
            let has = |text: &Vec<u8>| String::from_utf8_lossy(text).contains("--map-guest-addr");
            [said.stdout, said.stderr].iter().any(has)
        })
    })
}

/// Tells whether a container asks for the host's address, and pasta can lead there.
fn leads_to_host(hosts: &Hosts) -> bool {
    let is_asked = hosts.entries.iter().any(|entry| entry.address == HostAddress::Gateway);
    is_asked && program::in_path(Carrier::Pasta.name()).is_some_and(|program| is_recent(&program))
}

impl Engine {
    /// Has a program carry the packets of something whose namespaces are there and in which nothing runs yet. Nobody else does so meanwhile
    /// ([`Engine::alone_with_carrier`]).
    pub(super) fn carry(&self, load: &Load<'_>, door: impl FnOnce() -> Result<Door>) -> Result<()> {
        let Load { owner, carrier, publishing, exposed, .. } = *load;
        // Of the run before, if a policy starts it again.
        self.end_carrier_alone(owner)?;
        let Some(program) = program::in_path(carrier.name()) else { return carrier.check().map(drop) };
        let door = door()?;
        let ports = ports::carried(self, publishing, exposed, carrier)?;
        let begun = self.begin_carrier(&program, load, door.entrance(), &Live { ports, ..Live::of(owner) });
        drop(door);
        if begun.is_err() {
            // The first error is the one to tell.
            drop(self.end_carrier_alone(owner));
        }
        begun
    }

    /// Starts a carrier by the number of a process in the namespaces, and records it.
    fn begin_carrier(&self, program: &Path, load: &Load<'_>, by: Entrance, live: &Live) -> Result<()> {
        let Load { owner, carrier, hosts, .. } = *load;
        let Entrance { pid, network: namespace } = by;
        let record = |process| {
            let carrier = Some(Carried { program: carrier, process, namespace });
            Live { carrier, ..live.clone() }.write(self)
        };
        record(None)?;
        let (directory, ports) = (self.owner_run(owner), live.had());
        let process = match carrier {
            Carrier::Pasta => start_pasta(program, &self.pid_file(owner), pid, hosts, &ports)?,
            Carrier::Slirp4netns => {
                let process = start_slirp(program, &directory, pid, |process| record(Some(process)))?;
                publish_by_slirp(&directory, &ports)?;
                process
            }
        };
        record(Some(process))?;
        if carrier == Carrier::Pasta {
            // The other stays out of the container's user namespace, and nobody from there can look into it.
            until_hidden(&process)?;
        }
        // Monitors see its end from here on.
        let path = directory.join(PROCESS);
        bulkhead_shim::replace::with_json(&path, &process).doing(|| format!("write {}", path.display()))
    }

    /// Waits until nobody else starts or ends the carrier of an owner; nothing where that has no directory.
    pub(super) fn alone_with_carrier(&self, owner: &str) -> Result<Option<Held>> {
        self.hold_directory(&self.owner_run(owner), || {
            format!("what carries the packets of {}", id::short(owner))
        })
    }

    /// Ends the carrier of a container or pod, if it has one, and forgets its ports.
    pub(super) fn end_carrier(&self, owner: &str) -> Result<()> {
        let _alone = self.alone_with_carrier(owner)?;
        self.end_carrier_alone(owner)
    }

    fn end_carrier_alone(&self, owner: &str) -> Result<()> {
        let Some(live) = Live::read_to_end(self, owner)? else { return Ok(()) };
        self.end_process(&live)?;
        Live::forget(self, owner)
    }

    /// Ends the process of a carrier, recorded or not, and takes its files away.
    fn end_process(&self, live: &Live) -> Result<()> {
        let owner = &live.owner;
        let directory = self.owner_run(owner);
        let file = self.pid_file(owner);
        let doing = || format!("end what carries the packets of {}", id::short(owner));
        match live.carrier.as_ref().and_then(|carried| carried.process) {
            Some(process) => end(&process).doing(doing)?,
            None => unrecorded(&file, &directory).doing(doing)?.iter().try_for_each(end).doing(doing)?,
        }
        for path in [file, directory.join(LOG), directory.join(SOCKET), directory.join(PROCESS)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.doing(|| format!("remove {}", path.display()))?,
            }
        }
        Ok(())
    }

    fn pid_file(&self, owner: &str) -> PathBuf {
        let pod = self.places().pod(owner);
        let directory = if pod.exists() { pod } else { self.places().container(owner) };
        directory.join(PID_FILE)
    }

    /// Lists the containers and pods that have ended and whose carriers have not.
    pub(super) fn carriers_left(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        let containers = self.store.containers()?.into_iter().map(|record| record.id);
        for owner in containers.chain(self.store.pods()?.into_iter().map(|record| record.id)) {
            let is_left = match Live::read(self, &owner) {
                Err(Error::Damaged { .. }) => self.is_carried(&owner),
                live => live?.is_some_and(|live| live.carrier.is_some()),
            };
            if is_left && !self.is_live(&owner)? {
                left.push(owner);
            }
        }
        Ok(left)
    }

    /// Tells by what was asked for whether the packets of a container or pod are carried. Who is caller says nothing of that: an ordinary
    /// user's check is root of the user's own users.
    pub(super) fn is_carried(&self, owner: &str) -> bool {
        let of_container = || {
            let record = self.store.container(owner).ok().filter(|record| record.id == owner)?;
            Document::read(&record).ok().map(|document| document.request.namespaces.network)
        };
        let network = of_container().or_else(|| self.request_of_pod(owner).ok().map(|pod| pod.network));
        network.map_or_else(|| host::caller() != Caller::Root, |network| network.is_carried())
    }
}

/// Tells what carries the packets of what has this network, if something does.
pub(crate) fn carrier_of(network: &Network) -> Option<Carrier> {
    match network {
        Network::Carried(carrier) => Some(*carrier),
        _ => None,
    }
}

/// Finds carriers that were started and not recorded, since whoever did so was killed: one of their words names the container's
/// file with its number (pasta) or socket (slirp4netns, which lets nobody see its working directory).
fn unrecorded(file: &Path, directory: &Path) -> std::io::Result<Vec<Process>> {
    let of_container = [file.as_os_str().to_owned(), socket(directory).into_os_string()];
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(process) = Process::find(pid) else { continue };
        // What has ended meanwhile has no words.
        let text = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = text.split(|byte| *byte == 0);
        if words.any(|word| of_container.iter().any(|own| own.as_encoded_bytes() == word)) {
            found.push(process);
        }
    }
    Ok(found)
}

/// The path of slirp4netns's socket from the directory above its owner's.
fn socket(directory: &Path) -> PathBuf {
    Path::new(directory.file_name().unwrap_or_default()).join(SOCKET)
}

/// Waits until nobody can look into pasta any more, which has sockets of the host and is in the container's user namespace: it says
/// that it is ready before it hides, and a container may see its host's processes. What hides has files in /proc that are root's
/// (proc(5)).
fn until_hidden(pasta: &Process) -> Result<()> {
    let path = format!("/proc/{}/environ", pasta.pid);
    let limit = Instant::now() + PATIENCE;
    let own = rustix::process::geteuid().as_raw();
    loop {
        match std::fs::metadata(&path) {
            Ok(found) if found.uid() != own => return Ok(()),
            Ok(_) if Instant::now() > limit => {
                return Err(failed(Carrier::Pasta, "it does not hide from the container"));
            }
            Ok(_) => std::thread::sleep(PAUSE),
            Err(_) => return Err(failed(Carrier::Pasta, "it has ended at once")),
        }
    }
}

/// Ends a process, and waits for that.
fn end(wanted: &Process) -> std::io::Result<()> {
    let sent = match process::open_pidfd(wanted.pid) {
        // It has had its number since before it was opened.
        Ok(pidfd) if wanted.runs() => process::signal(pidfd, Signal::KILL.as_raw()),
        Ok(_) => return Ok(()),
        Err(error) => Err(error),
    };
    match sent {
        Err(error) if error.errno() == rustix::io::Errno::SRCH => return Ok(()),
        sent => sent.map_err(|error| std::io::Error::from(error.errno()))?,
    }
    let limit = Instant::now() + PATIENCE;
    // Until it is done: as long as it ends, which takes pasta milliseconds for its memory, it has its ports.
    while wanted.runs() {
        if Instant::now() > limit {
            return Err(ErrorKind::TimedOut.into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn start_pasta(
    program: &Path,
    file: &Path,
    pid: i32,
    hosts: &Hosts,
    ports: &[PublishedPort],
) -> Result<Process> {
    let mut command = Command::new(program);
    // It stays when the process by which it enters is gone.
    command.args(["--config-net", "--quiet", "--no-map-gw", "--no-netns-quit"]);
    command.arg("--dns-forward").arg(NAMES_OF_PASTA.to_string());
    command.arg("--pid").arg(file);
    if leads_to_host(hosts) {
        command.arg("--map-guest-addr").arg(HOST_OF_PASTA.to_string());
    }
    command.args(words_of_pasta(ports));
    command.args(["-T", "none", "-U", "none"]).arg(pid.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let starting = || format!("start {}", program.display());
    let mut child = command.spawn().doing(starting)?;
    let limit = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().doing(starting)? {
            Some(status) => break status,
            None if Instant::now() > limit => {
                child.kill().and_then(|()| child.wait()).doing(starting)?;
                return Err(failed(Carrier::Pasta, "it is not ready after ten seconds"));
            }
            None => std::thread::sleep(PAUSE),
        }
    };
    if !status.success() {
        let mut said = String::new();
        child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said)).transpose().doing(starting)?;
        return Err(failed(Carrier::Pasta, &said));
    }
    let doing = || format!("read {}", file.display());
    let number = std::fs::read_to_string(file).doing(doing)?;
    let number =
        number.trim().parse().map_err(|_| std::io::Error::from(ErrorKind::InvalidData)).doing(doing)?;
    Process::find(number).ok_or_else(|| failed(Carrier::Pasta, "it has ended at once"))
}

/// Says which ports of the host pasta leads to the container. All addresses of IPv6 are no others: only without an address it listens at both
/// families, and that of Debian 12 takes a port only once.
fn words_of_pasta(ports: &[PublishedPort]) -> Vec<String> {
    let mut words = Vec::new();
    for (flag, protocol) in [("-t", Protocol::Tcp), ("-u", Protocol::Udp)] {
        let of = Vec::from_iter(ports.iter().filter(|port| port.protocol == protocol));
        let is_twin = |one: &PublishedPort, other: &PublishedPort| {
            (one.host, one.container) == (other.host, other.container)
                && one.address.is_unspecified()
                && other.address.is_unspecified()
                && one.address != other.address
        };
        let mut said = Vec::new();
        for port in &of {
            let PublishedPort { address, host, container, .. } = port;
            match of.iter().any(|other| is_twin(port, other)) {
                true if address.is_ipv6() => {}
                true => said.push(format!("{host}:{container}")),
                false => said.push(format!("{address}/{host}:{container}")),
            }
        }
        if said.is_empty() {
            said.push("none".to_owned());
        }
        words.extend(said.into_iter().flat_map(|word| [flag.to_owned(), word]));
    }
    words
}

/// Starts slirp4netns, which is `recorded` before it is ready.
fn start_slirp(
    program: &Path,
    directory: &Path,
    pid: i32,
    recorded: impl FnOnce(Process) -> Result<()>,
) -> Result<Process> {
    let doing = || format!("start {}", program.display());
    let log = directory.join(LOG);
    let (ready, tells) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(doing)?;
    let writing = || format!("write {}", log.display());
    let written = File::create(&log).doing(writing)?;
    let mut command = Command::new(program);
    // It reads what the container sends, and the filter keeps it from all but that.
    command.args(["--configure", MTU_OF_SLIRP, "--disable-host-loopback", "--enable-seccomp"]);
    command.args(["--ready-fd=0", "--api-socket"]);
    command.arg(socket(directory)).arg(pid.to_string()).arg(DEVICE_OF_SLIRP);
    command.current_dir(directory.parent().unwrap_or(directory)).process_group(0);
    // Its standard input is where it tells that it is ready.
    command.stdin(Stdio::from(tells)).stdout(written.try_clone().doing(writing)?).stderr(written);
    let child = command.spawn().doing(doing)?;
    drop(command);
    let quoted = || failed(Carrier::Slirp4netns, &std::fs::read_to_string(&log).unwrap_or_default());
    let process = Process::find(child.id().cast_signed()).ok_or_else(quoted)?;
    recorded(process)?;
    let limit = Timespec::try_from(PATIENCE).ok();
    let mut waited = [PollFd::new(&ready, PollFlags::IN)];
    let is_told = rustix::io::retry_on_intr(|| poll(&mut waited, limit.as_ref())).doing(doing)?;
    let mut byte = [0];
    if is_told == 0 || rustix::io::read(&ready, &mut byte).doing(doing)? == 0 {
        return Err(quoted());
    }
    Ok(process)
}

/// Asks slirp4netns for ports, each by a connection of its own (slirp4netns(1), "API SOCKET").
fn publish_by_slirp(directory: &Path, ports: &[PublishedPort]) -> Result<()> {
    let opened = File::open(directory).doing(|| format!("open {}", directory.display()))?;
    // By the descriptor it is short enough for a socket.
    let path = format!("/proc/self/fd/{}/{SOCKET}", opened.as_fd().as_raw_fd());
    for port in ports {
        let at = SocketAddr::new(port.address, port.host);
        let doing = || format!("publish port {at} by slirp4netns");
        let asked = json!({ "execute": "add_hostfwd", "arguments": {
            "proto": port.protocol.to_string(), "host_addr": port.address.to_string(), "host_port": port.host,
            "guest_addr": port.to.ip().to_string(), "guest_port": port.container,
        }});
        let mut stream = UnixStream::connect(&path).doing(doing)?;
        stream.set_read_timeout(Some(PATIENCE)).doing(doing)?;
        stream.write_all(asked.to_string().as_bytes()).doing(doing)?;
        stream.shutdown(Shutdown::Write).doing(doing)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).doing(doing)?;
        let told: Value = serde_json::from_str(&answer).map_err(std::io::Error::from).doing(doing)?;
        if let Some(error) = told.get("error") {
            let words = error.get("desc").and_then(Value::as_str).unwrap_or("it does not say why");
            return Err(Error::Invalid {
                what: format!("port {at} of the host"),
                reason: format!("slirp4netns: {words}"),
            });
        }
    }
    Ok(())
}

/// Says why a carrier was not started, in its own words.
fn failed(carrier: Carrier, words: &str) -> Error {
    let lines = Vec::from_iter(words.lines().map(str::trim).filter(|line| !line.is_empty()));
    let words = if lines.is_empty() { "it does not say why".to_owned() } else { lines.join("; ") };
    let mut reason = format!("{words}; without a network it starts with `--network none`");
    if words.contains("/dev/net/tun") {
        reason.push_str(
            ". Users must be able to open /dev/net/tun, which has mode 0666 where it is set up as usual",
        );
    }
    Error::Invalid { what: format!("--network {}", carrier.name()), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasta_listens_at_the_families_that_were_asked_for() {
        let port = |at: &str, protocol: Protocol, container: u16| {
            let at: SocketAddr = at.parse().unwrap();
            let to = SocketAddr::new(at.ip(), container);
            PublishedPort { container, protocol, address: at.ip(), host: at.port(), to }
        };
        let [all_v4, all_v6] = ["0.0.0.0:8080", "[::]:8080"].map(|at| port(at, Protocol::Tcp, 80));
        for (ports, expected) in [
            (vec![], "-t none -u none"),
            (vec![all_v4.clone()], "-t 0.0.0.0/8080:80 -u none"),
            (vec![all_v6.clone()], "-t ::/8080:80 -u none"),
            (vec![all_v6, all_v4.clone()], "-t 8080:80 -u none"),
            (
                vec![all_v4.clone(), port("[::]:8080", Protocol::Tcp, 81)],
                "-t 0.0.0.0/8080:80 -t ::/8080:81 -u none",
            ),
            (vec![all_v4, port("[::]:8080", Protocol::Udp, 80)], "-t 0.0.0.0/8080:80 -u ::/8080:80"),
            (vec![port("[::1]:53", Protocol::Udp, 53)], "-t none -u ::1/53:53"),
        ] {
            assert_eq!(words_of_pasta(&ports).join(" "), expected);
        }
    }
}
