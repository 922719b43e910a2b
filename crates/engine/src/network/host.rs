//! What networks are on the host: bridges, the table of the packet filter, forwarding, and what the host's firewall is told.
//! All of it is made when it is needed and found to be missing, and taken away with the last that needs it.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bulkhead_net::bridge::{end_of, shows_frames};
use bulkhead_net::device::{Change, Device, Devices, Setting};
use bulkhead_net::firewall::{self, Firewall};
use bulkhead_net::nft::{Filter, FoundChain};
use bulkhead_net::rules::{self, Rules};
use bulkhead_net::uplink::{self, Changed, Families};
use bulkhead_store::{NetworkRecord, Places, Stage};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::document::{Driver, NetworkDocument, PREFIX};
use super::live::Live;
use crate::create::make_directory;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result, chain};
use crate::hold::Held;

/// The version of [`Changes`] and [`Seen`].
const VERSION: u32 = 1;
const CHANGES: &str = "changes.json";
const SEEN: &str = "rules.json";
const LOCK: &str = "lock";

/// The host's side of all networks, which nobody else changes meanwhile.
#[derive(Debug)]
pub(super) struct Host<'engine> {
    engine: &'engine Engine,
    pub(super) devices: Devices,
    pub(super) rules: Rules,
    _lock: Held,
}

/// `changes.json`: what is changed of the host, noted before it is, to be taken back. It goes with the machine's run, as the changes do.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Changes {
    version: u32,
    #[serde(default)]
    parameters: Vec<Parameter>,
    /// Rules in docker's chain for others were made.
    #[serde(default)]
    docker: bool,
}

impl Changes {
    /// Adds a parameter, of which the first that was noted is what it was before us.
    fn add(&mut self, parameter: Parameter) {
        let Parameter { device, setting, was: _ } = &parameter;
        let is_same = |other: &Parameter| other.device == *device && other.setting == *setting;
        if !self.parameters.iter().any(is_same) {
            self.parameters.push(parameter);
        }
    }
}

/// `rules.json`: when the table was there as a whole.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    version: u32,
    boot: String,
    /// As [`Rules::stamp`] says.
    stamp: String,
}

/// A kernel parameter of a device that was changed.
#[derive(Debug, Serialize, Deserialize)]
struct Parameter {
    device: String,
    setting: String,
    was: String,
}

/// What stands in the way of a network, for its user.
pub(super) type Warnings = Vec<String>;

impl<'engine> Host<'engine> {
    pub(super) fn engine(&self) -> &'engine Engine {
        self.engine
    }

    /// Waits until nobody else changes it.
    pub(super) fn hold(engine: &'engine Engine) -> Result<Self> {
        let directory = engine.places().networks_run();
        make_directory(&directory)?;
        let path = directory.join(LOCK);
        let doing = || format!("lock {}", path.display());
        let lock = File::options().append(true).create(true).mode(0o600).open(&path).doing(doing)?;
        let lock = engine.hold_file(lock, &path, "the networks of this host")?;
        let rules = Rules::open(&table_of(engine.places()))?;
        Ok(Self { engine, devices: Devices::open()?, rules, _lock: lock })
    }

    /// Sees to it that the bridge of a network is there, with all by which packets find their way; returns its number.
    pub(super) fn ensure(
        &self,
        id: &str,
        document: &NetworkDocument,
        warnings: &mut Warnings,
    ) -> Result<u32> {
        let bridge = document.bridge(id);
        let is_whole = self.is_whole()?;
        if !is_whole {
            // Of this boot's beginning, or somebody has flushed all rules.
            self.restore()?;
        }
        let found = self.devices.find(&bridge.name)?;
        let is_there = found.is_some();
        if !is_there {
            self.look_for_overlap(id, document, warnings)?;
            // By its name, before there is anything of that name.
            self.rules.add_network(&document.rules(id))?;
        }
        let index = bridge.ensure(&self.devices, found)?;
        if !is_there {
            let ports = Live::all(self.engine)?;
            let mut ports = ports.iter().flat_map(|live| live.translated());
            if ports.any(|port| port.is_at_loopback() && document.has_address(port.to.ip())) {
                // Of containers whose bridge somebody took away.
                bridge.route_loopback(true)?;
            }
            self.let_return()?;
        }
        let is_new = !is_there || !is_whole;
        if !document.internal {
            self.open_ways(document, is_new, warnings)?;
        } else if is_new && self.has_told_docker() {
            // Where frames of bridges are shown to the packet filter, its containers reach each other by that alone.
            self.tell_docker()?;
        }
        Ok(index)
    }

    /// Lists the host's ends of what has ports of the host, and would not reach itself by these.
    pub(super) fn without_return(&self) -> Result<Vec<Device>> {
        if !shows_frames() {
            return Ok(Vec::new());
        }
        let live = Live::all(self.engine)?.into_iter().filter(|live| !live.translated().is_empty());
        let owners: BTreeSet<String> = live.map(|live| live.owner).collect();
        let is_its = |device: &Device| {
            end_of(device).and_then(|(_, owner)| owner).is_some_and(|of| owners.contains(of))
        };
        let is_wrong = |device: &Device| device.master.is_some() && !device.returns && is_its(device);
        Ok(self.devices.list()?.into_iter().filter(is_wrong).collect())
    }

    /// Has these reach themselves by their ports of the host.
    pub(super) fn let_return(&self) -> Result<()> {
        for device in self.without_return()? {
            match self.devices.change(vec![Change::let_return(&device.name)]) {
                // Its container has ended meanwhile.
                Err(error) if error.is(Errno::NODEV) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Tells whether the table is there with all of its rules. To list them is asked for only where somebody has changed rules since it was seen to
    /// be so last.
    fn is_whole(&self) -> Result<bool> {
        // Before they are listed: who changes them meanwhile has changed them since.
        let Some(stamp) = self.rules.stamp()? else { return Ok(self.rules.are_there()?) };
        let path = self.engine.places().networks_run().join(SEEN);
        let now = Seen { version: VERSION, boot: self.engine.boot()?.to_owned(), stamp };
        // What cannot be read is written anew.
        if read_json::<Seen>(&path, VERSION).is_ok_and(|seen| seen == now) {
            return Ok(true);
        }
        let is_whole = self.rules.are_there()?;
        if is_whole {
            // Without it they are listed the next time, too.
            drop(bulkhead_shim::replace::with_json(&path, &now));
        }
        Ok(is_whole)
    }

    /// Has packets of a network come out, and their answers in.
    fn open_ways(&self, document: &NetworkDocument, is_new: bool, warnings: &mut Warnings) -> Result<()> {
        let families = if document.ipv6 { Families::Both } else { Families::V4 };
        let done = match uplink::plan(&self.devices, families, PREFIX) {
            Ok(planned) if planned.is_empty() => Ok(()),
            Ok(planned) => {
                self.note(|changes| planned.iter().cloned().map(parameter).for_each(|of| changes.add(of)))?;
                uplink::apply(&planned)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            // What is read-only is the business of whoever made it so.
            warnings.push(format!("packets may not find their way out: {}", chain(&error)));
        }
        if is_new {
            self.pass_firewall(document, warnings)?;
        }
        Ok(())
    }

    /// Has the host's firewall let packets through as far as that has a place for it, and tells of what is left to do.
    fn pass_firewall(&self, document: &NetworkDocument, warnings: &mut Warnings) -> Result<()> {
        let filter = Filter::open()?;
        let table = table_of(self.engine.places());
        for found in firewall::in_the_way(&filter, &table, PREFIX)? {
            let effect = found.effect();
            match &found {
                // What was told before may be of an earlier version, and of more than is wanted.
                Firewall::Docker(users) if !document.firewall_untouched || self.has_told_docker() => {
                    self.open_docker(users)?;
                }
                found => warnings.extend(
                    opened_by(found).map(|command| format!("the host's firewall {effect}; {command}")),
                ),
            }
        }
        Ok(())
    }

    /// Has docker's firewall let packets of networks through, of those whose bridges are there and that want it.
    pub(super) fn open_docker(&self, users: &FoundChain) -> Result<()> {
        // Noted first: what is taken back without being there is no error.
        self.note(|changes| changes.docker = true)?;
        let (bridges, note) = (willing(&self.bridged()?)?, table_of(self.engine.places()));
        Ok(firewall::let_through(&Filter::open()?, users, (PREFIX, &bridges), &note)?)
    }

    /// Lists the networks whose bridges are there.
    pub(super) fn bridged(&self) -> Result<Vec<NetworkRecord>> {
        let devices = self.devices.list()?;
        let owners = Vec::from_iter(devices.iter().filter_map(|device| device.name.strip_prefix(PREFIX)));
        let is_there = |network: &NetworkRecord| owners.iter().any(|owner| network.id.starts_with(owner));
        Ok(self.engine.store.networks()?.into_iter().filter(is_there).collect())
    }

    fn has_told_docker(&self) -> bool {
        self.changes().is_ok_and(|changes| changes.docker)
    }

    /// Has docker's firewall know the bridges that are there now.
    fn tell_docker(&self) -> Result<()> {
        let chains = Filter::open()?.chains()?;
        for found in firewall::find(&chains, &table_of(self.engine.places())) {
            if let Firewall::Docker(users) = found {
                self.open_docker(&users)?;
            }
        }
        Ok(())
    }

    /// Puts the table there anew, with all networks and with the ports of what runs.
    pub(super) fn restore(&self) -> Result<()> {
        let mut networks = Vec::new();
        for record in self.engine.store.networks()? {
            let document = NetworkDocument::read(&record)?;
            if document.driver == Driver::Bridge
                && record.stage == Stage::Kept
                && !document.subnets.is_empty()
            {
                networks.push(document.rules(&record.id));
            }
        }
        let mut ports: Vec<rules::Port> = Vec::new();
        for live in Live::all(self.engine)? {
            ports.extend(live.rules());
        }
        Ok(self.rules.replace(&networks, &ports)?)
    }

    /// Takes a network's bridge and its place in the rules away, and with the last of them all that was changed of the host.
    pub(super) fn take_down(&self, id: &str, document: &NetworkDocument) -> Result<()> {
        document.bridge(id).remove(&self.devices)?;
        self.engine.end_name_server(id)?;
        self.rules.remove_network(&document.rules(id))?;
        let networks = self.engine.store.networks()?;
        // Others may have networks on this host, too, who look after what they have changed.
        let is_own = |name: &str| {
            let part = name.strip_prefix(PREFIX);
            part.is_some_and(|part| networks.iter().any(|of| of.id != id && of.id.starts_with(part)))
        };
        let is_last = !self.devices.list()?.iter().any(|device| is_own(&device.name));
        match is_last {
            true => self.take_back(),
            false if self.has_told_docker() => self.tell_docker(),
            false => Ok(()),
        }
    }

    /// Takes back what was changed of the host.
    fn take_back(&self) -> Result<()> {
        self.rules.remove()?;
        let path = self.engine.places().networks_run().join(CHANGES);
        let changes = match self.changes() {
            Err(Error::Damaged { what, reason }) => {
                let aside = path.with_extension("unread");
                std::fs::rename(&path, &aside).doing(|| format!("put {} aside", path.display()))?;
                let reason = format!(
                    "{reason}; it is {} now, and what was changed of the host stays: docs/networking.md tells what that may be",
                    aside.display()
                );
                return Err(Error::Damaged { what, reason });
            }
            changes => changes?,
        };
        let parameters = Vec::from_iter(changes.parameters.iter().filter_map(changed));
        uplink::take_back(&parameters)?;
        if changes.docker {
            let filter = Filter::open()?;
            let table = table_of(self.engine.places());
            for found in firewall::find(&filter.chains()?, &table) {
                if let Firewall::Docker(users) = found {
                    firewall::take_back(&filter, &users, &table)?;
                }
            }
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.doing(|| format!("remove {}", path.display())),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Changes)) -> Result<()> {
        let mut changes = self.changes()?;
        change(&mut changes);
        changes.version = VERSION;
        let path = self.engine.places().networks_run().join(CHANGES);
        bulkhead_shim::replace::with_json(&path, &changes).doing(|| format!("write {}", path.display()))
    }

    fn changes(&self) -> Result<Changes> {
        read_json(&self.engine.places().networks_run().join(CHANGES), VERSION)
    }
}

/// Lists the bridges of those of some networks of which something may be put into the rules of the host's firewall.
pub(super) fn willing(bridged: &[NetworkRecord]) -> Result<Vec<String>> {
    let mut bridges = Vec::new();
    for record in bridged {
        let document = NetworkDocument::read(record)?;
        bridges.extend((!document.firewall_untouched).then(|| document.bridge(&record.id).name));
    }
    Ok(bridges)
}

/// Says by which command an administrator opens a firewall, for those that are not opened by us.
pub(super) fn opened_by(firewall: &Firewall) -> Option<String> {
    let command = firewall.command(PREFIX)?;
    Some(format!("`{command}` opens it, see docs/networking.md"))
}

/// Reads a file of ours that goes with the machine's run; one that is not there says nothing.
pub(super) fn read_json<T: Default + for<'de> Deserialize<'de>>(path: &Path, newest: u32) -> Result<T> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(T::default()),
        read => read.doing(|| format!("read {}", path.display()))?,
    };
    let damaged = |reason| Error::Damaged { what: path.display().to_string(), reason };
    let Version { version } = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if version > newest {
        return Err(damaged(format!("it has version {version}, and this program knows none after {newest}")));
    }
    serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))
}

/// The name of a store's own table in the packet filter.
pub(super) fn table_of(places: &Places) -> String {
    if places.root == Path::new("/var/lib/bulkhead") {
        return "bulkhead".to_owned();
    }
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    places.root.hash(&mut hasher);
    format!("bulkhead-{:016x}", hasher.finish())
}

/// The hash FNV-1a, which is the same for every build of the program.
struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

const SETTINGS: [(Setting, &str); 5] = [
    (Setting::Forwarding, "forwarding"),
    (Setting::ForwardingV6, "forwarding-v6"),
    (Setting::RouteLoopback, "route-loopback"),
    (Setting::NoIpv6, "no-ipv6"),
    (Setting::RouterAdvertisements, "router-advertisements"),
];

fn parameter(changed: Changed) -> Parameter {
    let Changed { device, setting, was } = changed;
    let name = SETTINGS.iter().find(|(known, _)| *known == setting).map_or("", |(_, name)| name);
    Parameter { device, setting: name.to_owned(), was }
}

fn changed(parameter: &Parameter) -> Option<Changed> {
    let (setting, _) = SETTINGS.iter().find(|(_, name)| *name == parameter.setting)?;
    Some(Changed { device: parameter.device.clone(), setting: *setting, was: parameter.was.clone() })
}
