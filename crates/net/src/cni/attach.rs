//! Attachments: added, checked, deleted.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::capability::Capabilities;
use super::config::{List, Plugin};
use super::error::{Doing as _, Error, Result};
use super::key::Key;
use super::lock::{Held, HeldAll};
use super::plugin::{self, Call, Place, Programs, Verb, memory, path_of};
use super::record::{Listing, Record, Records};
use super::result::{Attached, move_sandbox};
use super::stand_in;
use super::version::Version;

/// Where plugins find other programs, unless it is told.
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a plugin may take, unless it is told: as long as a lease of DHCP may.
const LIMIT: Duration = Duration::from_secs(120);

/// Who has plugins attach containers, and remembers what they did.
#[derive(Debug)]
pub struct Client {
    records: Records,
    programs: Programs,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What the attachment is called by.
    pub key: Key,
    /// What all plugins are told (`CNI_ARGS`): names and values, without `;`.
    pub arguments: Vec<(String, String)>,
    /// What the plugins are told that take it; at least one of the network must ([`List::takes`]).
    pub capabilities: Capabilities,
}

impl Request {
    /// Asks for nothing but the attachment.
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self { key, arguments: Vec::new(), capabilities: Capabilities::default() }
    }
}

/// Whether plugins were asked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// They were, and all is well.
    Well,
    /// The network says that they are not to be.
    Disabled,
    /// The network's version of the specification has no such question.
    Unknown,
}

/// Whether there was something to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// All of it is gone now.
    Now,
    /// Nothing was known of it.
    Never,
}

impl Client {
    /// Keeps records in a directory, and seeks plugins in some, the first of which counts.
    ///
    /// # Errors
    /// [`Error::Name`] for a directory of plugins that does not begin with `/`, or has a `:` in it; as mkdir(2).
    pub fn open(records: &Path, path: &[PathBuf]) -> Result<Self> {
        for directory in path {
            let text = directory.to_string_lossy();
            let reason = match () {
                () if directory.is_relative() => "does not begin with `/`",
                () if text.contains(':') => "has a `:` in it, which stands between directories",
                () => continue,
            };
            return Err(Error::name("directory for plugins", &text, reason));
        }
        let programs = Programs { path: path.to_vec(), search: SEARCH.into(), limit: LIMIT };
        Ok(Self { records: Records::open(records)?, programs })
    }

    /// Has plugins find other programs there, as the variable PATH does.
    #[must_use]
    pub fn searching(mut self, path: impl Into<OsString>) -> Self {
        self.programs.search = path.into();
        self
    }

    /// Lets each plugin take so long, and a lock as long; two minutes if it is not told.
    #[must_use]
    pub fn limited(mut self, limit: Duration) -> Self {
        self.programs.limit = limit;
        self
    }

    /// Attaches a container, whose namespace is there.
    ///
    /// # Errors
    /// [`Error::Present`] where there is one already, or what a crash left; what is missing, before anything was done; the first error
    /// of a plugin, when all have taken back what they did, or [`Error::Left`].
    pub fn add(&self, list: &List, request: &Request, namespace: BorrowedFd<'_>) -> Result<Attached> {
        let key = &request.key;
        if key.network() != list.name {
            return Err(Error::name("network", key.network(), "is not the one that it is to be attached to"));
        }
        let arguments = arguments(&request.arguments)?;
        if let Some(capability) = request.capabilities.0.keys().find(|capability| !list.takes(capability)) {
            return Err(Error::NoCapability { network: list.name.clone(), capability: capability.clone() });
        }
        let limit = self.programs.limit;
        let _shared = HeldAll::share(self.records.directory(), limit)?;
        let held = Held::take(&self.records.lock_of(key), key, limit)?;
        if self.records.find(key)?.is_some() {
            return Err(Error::Present(key.clone()));
        }
        let made = self.add_new(list, request, arguments, &path_of(namespace), &held);
        if !matches!(made, Ok(_) | Err(Error::Left { .. })) {
            held.remove()?;
        }
        made
    }

    fn add_new(
        &self,
        list: &List,
        request: &Request,
        arguments: String,
        namespace: &str,
        held: &Held,
    ) -> Result<Attached> {
        let key = &request.key;
        let chosen = List { versions: vec![self.programs.choose(list)?], ..list.clone() };
        let mut record = Record::new(key, &chosen, namespace);
        record.arguments = arguments;
        record.capabilities = request.capabilities.0.clone().into_iter().collect();
        record.path.clone_from(&self.programs.path);
        self.records.write(key, &record)?;
        let chain = Chain {
            client: self,
            programs: &self.programs,
            list: &chosen,
            key,
            held,
            namespace: Some(namespace),
        };
        let made = chain.add(&mut record);
        made.or_else(|first| match chain.delete(&record) {
            Ok(()) => {
                self.records.remove(key)?;
                Err(first)
            }
            Err(then) => Err(Error::Left { first: Box::new(first), then: then.told() }),
        })
    }

    /// Has plugins look whether all that they made is there.
    ///
    /// # Errors
    /// [`Error::Missing`] for what was not attached, or not wholly; the first plugin's that finds something wrong.
    pub fn check(&self, key: &Key, namespace: BorrowedFd<'_>) -> Result<Done> {
        let limit = self.programs.limit;
        let held = Held::take(&self.records.lock_of(key), key, limit)?;
        let Some(record) = self.records.find(key)?.filter(|record| record.is_whole) else {
            if self.records.find(key)?.is_none() {
                held.remove()?;
            }
            return Err(Error::Missing(key.clone()));
        };
        let list = record.list(&self.records.lock_of(key))?;
        if list.has_no_check {
            return Ok(Done::Disabled);
        }
        if list.newest() < Version::V0_4_0 {
            return Ok(Done::Unknown);
        }
        let path = path_of(namespace);
        let programs = self.programs_of(&record);
        let chain = Chain {
            client: self,
            programs: &programs,
            list: &list,
            key,
            held: &held,
            namespace: Some(&path),
        };
        let before = chain.before(&record);
        for plugin in &list.plugins {
            chain.call(plugin, Verb::Check, &record, before.as_ref())?;
        }
        Ok(Done::Well)
    }

    /// Detaches a container, with the network as it was described when it was attached. The namespace may be gone.
    ///
    /// # Errors
    /// The first plugin's that cannot take back what it did; the others have, and it can be tried again.
    pub fn delete(&self, key: &Key, namespace: Option<BorrowedFd<'_>>) -> Result<Deleted> {
        let _shared = HeldAll::share(self.records.directory(), self.programs.limit)?;
        self.delete_one(key, namespace.map(path_of).as_deref())
    }

    fn delete_one(&self, key: &Key, namespace: Option<&str>) -> Result<Deleted> {
        let held = Held::take(&self.records.lock_of(key), key, self.programs.limit)?;
        let Some(record) = self.records.find(key)? else {
            // It may have been begun.
            self.records.remove(key)?;
            held.remove()?;
            return Ok(Deleted::Never);
        };
        let list = record.list(&self.records.lock_of(key))?;
        let programs = self.programs_of(&record);
        let chain = Chain { client: self, programs: &programs, list: &list, key, held: &held, namespace };
        chain.delete(&record)?;
        self.records.remove(key)?;
        held.remove()?;
        Ok(Deleted::Now)
    }

    /// Deletes the attachments to a network that are not among `valid`, and has its plugins forget what belongs to none of them.
    ///
    /// Who else attaches containers to the network, by another client, loses these: such a network says `disableGC`.
    ///
    /// # Errors
    /// All of them; what can be done is done.
    pub fn collect(&self, list: &List, valid: &[Key]) -> Result<Done, Vec<Error>> {
        if list.has_no_collection {
            return Ok(Done::Disabled);
        }
        let limit = self.programs.limit;
        let begin = || Ok((HeldAll::alone(self.records.directory(), limit)?, self.records.list()?));
        let (_alone, Listing { known, unreadable }) = begin().map_err(|error: Error| vec![error])?;
        let mut errors = unreadable;
        let stale =
            known.iter().filter(|known| known.key.network() == list.name && !valid.contains(&known.key));
        errors.extend(stale.filter_map(|known| self.delete_one(&known.key, None).err()));
        let version = self.programs.choose(list).map_err(|error| vec![error])?;
        let done = if version < Version::V1_1_0 { Done::Unknown } else { Done::Well };
        if done == Done::Well {
            let valid = valid.iter().filter(|key| key.network() == list.name);
            let valid: Value =
                valid.map(|key| json!({"containerID": key.container(), "ifname": key.interface()})).collect();
            let more = [("cni.dev/valid-attachments".to_owned(), valid)];
            let asked =
                list.plugins.iter().map(|plugin| self.ask(list, plugin, version, Verb::Collect, &more));
            errors.extend(asked.filter_map(Result::err));
        }
        if errors.is_empty() { Ok(done) } else { Err(errors) }
    }

    /// Asks the plugins of a network whether they could attach a container.
    ///
    /// # Errors
    /// The first plugin's that could not.
    pub fn status(&self, list: &List) -> Result<Done> {
        let version = self.programs.choose(list)?;
        if version < Version::V1_1_0 {
            return Ok(Done::Unknown);
        }
        list.plugins.iter().try_for_each(|plugin| self.ask(list, plugin, version, Verb::Status, &[]))?;
        Ok(Done::Well)
    }

    /// Asks a plugin of a network which versions of the specification it speaks; those that are known here.
    ///
    /// # Errors
    /// [`Error::NoPlugin`], and the plugin's.
    pub fn versions(&self, network: &str, plugin: &str) -> Result<Vec<Version>> {
        self.programs.versions(plugin, &self.programs.find(network, plugin)?)
    }

    /// What is written down of attachments.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Asks a plugin for something that is of no attachment.
    fn ask(
        &self,
        list: &List,
        plugin: &Plugin,
        version: Version,
        verb: Verb,
        more: &[(String, Value)],
    ) -> Result<()> {
        let program = self.programs.find(&list.name, &plugin.kind)?;
        let mut settings = plugin.request(&list.name, version);
        settings.extend(more.iter().cloned());
        let call = Call { verb, plugin: &plugin.kind, program: &program, settings: &settings, place: None };
        let complaints = memory("complaints").doing(|| format!("start the plugin {}", plugin.kind))?;
        self.programs.run(&call, complaints).map(drop)
    }

    /// The directories of now, and those of then, for an attachment that was made when plugins lay elsewhere.
    fn programs_of(&self, record: &Record) -> Programs {
        let mut programs = self.programs.clone();
        let then = record.path.iter().filter(|directory| !self.programs.path.contains(directory));
        programs.path.extend(then.cloned());
        programs
    }
}

/// The plugins of one attachment.
#[derive(Clone, Copy)]
struct Chain<'a> {
    client: &'a Client,
    programs: &'a Programs,
    list: &'a List,
    key: &'a Key,
    held: &'a Held,
    /// The path of the namespace now.
    namespace: Option<&'a str>,
}

impl Chain<'_> {
    fn add(&self, record: &mut Record) -> Result<Attached> {
        let mut attached = Attached::default();
        for (number, plugin) in self.list.plugins.iter().enumerate() {
            let answer = self.call(plugin, Verb::Add, record, record.result.as_ref())?;
            let answer = plugin::object(&answer, &plugin.kind, Verb::Add)?;
            let read = Attached::read(&answer);
            attached = read.map_err(|reason| Error::Garbled {
                plugin: plugin.kind.clone(),
                verb: Verb::Add,
                reason,
            })?;
            record.result = Some(answer);
            record.is_whole = number + 1 == self.list.plugins.len();
            self.client.records.write(self.key, record)?;
        }
        Ok(attached)
    }

    /// Has all plugins take back what they did, also those that did nothing; tells the first error.
    fn delete(&self, record: &Record) -> Result<()> {
        let needy = self.list.plugins.iter().any(|plugin| stand_in::is_for(&plugin.kind));
        let other = match self.namespace {
            None if needy => stand_in::make(record, self.key.interface())?,
            _ => None,
        };
        let other = other.as_ref().map(|namespace| path_of(namespace.as_fd()));
        let mut first = Ok(());
        for plugin in self.list.plugins.iter().rev() {
            let other = other.as_deref().filter(|_| stand_in::is_for(&plugin.kind));
            let instead = other.map(|path| Chain { namespace: Some(path), ..*self });
            // What it finds there may have been taken back before, as by a reboot, over which it stumbles.
            let is_done = instead.is_some_and(|chain| chain.delete_by(plugin, record).is_ok());
            if !is_done {
                first = first.and(self.delete_by(plugin, record));
            }
        }
        first
    }

    fn delete_by(&self, plugin: &Plugin, record: &Record) -> Result<()> {
        let before = self.before(record).filter(|_| self.list.newest() >= Version::V0_4_0);
        self.call(plugin, Verb::Delete, record, before.as_ref()).map(drop)
    }

    /// What the plugins have answered, with the namespace's path of now.
    fn before(&self, record: &Record) -> Option<Map<String, Value>> {
        let mut result = record.result.clone()?;
        move_sandbox(&mut result, &record.namespace, self.namespace);
        Some(result)
    }

    fn call(
        &self,
        plugin: &Plugin,
        verb: Verb,
        record: &Record,
        before: Option<&Map<String, Value>>,
    ) -> Result<Vec<u8>> {
        let version = self.list.newest();
        let mut settings = plugin.request(&self.list.name, version);
        let asked = record.capabilities.iter().filter(|(name, _)| plugin.capabilities.contains(*name));
        let asked = Map::from_iter(asked.map(|(name, value)| (name.clone(), value.clone())));
        if !asked.is_empty() {
            settings.insert("runtimeConfig".to_owned(), Value::Object(asked));
        }
        if let Some(before) = before {
            let mut before = before.clone();
            // Some answer without one.
            before.insert("cniVersion".to_owned(), json!(version.as_str()));
            settings.insert("prevResult".to_owned(), Value::Object(before));
        }
        let program = self.programs.find(&self.list.name, &plugin.kind)?;
        let place = Place { key: self.key, arguments: &record.arguments, namespace: self.namespace };
        let call =
            Call { verb, plugin: &plugin.kind, program: &program, settings: &settings, place: Some(place) };
        let complaints: File = self.held.complaints()?;
        self.programs.run(&call, complaints)
    }
}

impl List {
    fn newest(&self) -> Version {
        self.versions.last().copied().unwrap_or(Version::V0_1_0)
    }
}

impl Plugin {
    /// The settings that every call has.
    fn request(&self, network: &str, version: Version) -> Map<String, Value> {
        let mut settings = self.settings.clone();
        settings.insert("name".to_owned(), json!(network));
        settings.insert("cniVersion".to_owned(), json!(version.as_str()));
        settings
    }
}

/// Writes arguments as a plugin reads them.
fn arguments(arguments: &[(String, String)]) -> Result<String> {
    let mut written = Vec::new();
    for (name, value) in arguments {
        let is_odd = |letter: char| letter == ';' || letter.is_control();
        if name.is_empty() || name.contains(is_odd) || name.contains('=') {
            return Err(Error::name(
                "argument",
                name,
                "must have a name without `=`, `;` and control characters",
            ));
        }
        if value.contains(is_odd) {
            return Err(Error::name(
                "value",
                value,
                "of an argument must have no `;` and no control character",
            ));
        }
        written.push(format!("{name}={value}"));
    }
    Ok(written.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_joined_and_none_becomes_two() {
        let written = |pairs: &[(&str, &str)]| {
            arguments(&Vec::from_iter(
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            ))
        };
        assert_eq!(written(&[]).unwrap(), "");
        assert_eq!(written(&[("IgnoreUnknown", "1"), ("A", "b=c")]).unwrap(), "IgnoreUnknown=1;A=b=c");
        for (name, value) in [("", "x"), ("a=b", "x"), ("a;b", "x"), ("a", "x;b=c"), ("a", "x\ny")] {
            assert!(written(&[(name, value)]).is_err(), "{name}={value}");
        }
    }
}
