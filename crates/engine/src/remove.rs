//! Removing a container with all that belongs to it.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use bulkhead_shim::client::{self, Claim};
use bulkhead_shim::protocol::Ending;
use bulkhead_store::{Durability, Kind, layer};
use bulkhead_sys::path;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::configure;
use crate::container::State;
use crate::create::FILES;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::hold::Held;
use crate::known::{Known, Seen};
use crate::logs;
use crate::rootfs::{UPPER, WORK};
use crate::stop::AT_ONCE;
use crate::users::are_elsewhere;
use crate::volume::VolumeDocument;

/// How a container is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removal {
    /// What becomes of its processes.
    pub force: Force,
    /// What becomes of its anonymous volumes.
    pub volumes: Volumes,
}

/// Whether what is in use is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Force {
    /// It is not.
    #[default]
    No,
    /// Its use is ended first.
    Yes,
}

/// What becomes of a container's anonymous volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Volumes {
    /// They stay.
    #[default]
    Keep,
    /// They go, unless others use them.
    Remove,
}

/// What became of an anonymous volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deleted {
    /// It is not there any more.
    Gone,
    /// Others use it.
    InUse,
}

/// A removal that has begun before the monitor was gone.
#[derive(Debug)]
pub(crate) struct Begun {
    known: Known,
    _held: Held,
    thread: Option<JoinHandle<()>>,
}

/// How long a monitor may have begun without having said so, and what is waited before the next look.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

impl Removal {
    /// What `--rm` means.
    pub const OF_ITSELF: Self = Self { force: Force::No, volumes: Volumes::Remove };
}

impl Engine {
    /// Removes a container and returns its id.
    ///
    /// # Errors
    /// [`Error::State`](crate::Error::State) for one that has processes, unless their end is forced.
    pub fn remove(&self, wanted: &str, removal: Removal) -> Result<String> {
        let mut known = self.find_untold(wanted)?;
        let id = known.record.id.clone();
        let end = Instant::now() + PATIENCE;
        loop {
            if known.life.state.is_active() {
                if removal.force == Force::No {
                    return Err(known.refuses("remove"));
                }
                self.thaw(&known)?;
                self.end(&known, AT_ONCE)?;
            }
            let _held = match removal.force {
                Force::No => self.hold(&id)?,
                Force::Yes => self.hold_by_force(&known)?,
            };
            // Somebody else may have started or removed it meanwhile.
            known = match self.store.container(&id) {
                Ok(record) => self.know_untold(record)?,
                Err(error) if error.kind() == Kind::NotFound => return Ok(id),
                Err(error) => return Err(error.into()),
            };
            if !known.life.state.is_active() {
                if let Some(claim) = self.claim(&known)? {
                    self.take_apart(&known, removal.volumes, &claim)?;
                    return Ok(id);
                }
                if Instant::now() > end {
                    return Err(known.refuses("remove"));
                }
                thread::sleep(PAUSE);
            }
        }
    }

    /// Keeps monitors out of a container that has no processes. `None` when one has just begun: whoever started it may have
    /// been killed meanwhile, and holds the container no more.
    pub(crate) fn claim(&self, known: &Known) -> Result<Option<Claim>> {
        Ok(client::claim(&self.places().container_run(&known.record.id))?)
    }

    /// Removes what a maker could not finish, which nobody else has seen.
    pub(crate) fn take_back(&self, known: &Known) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.claim(known)? {
                Some(claim) => return self.take_apart(known, Volumes::Remove, &claim),
                // What its monitor has started may not have gone yet.
                None if Instant::now() < end => thread::sleep(PAUSE),
                None => return Err(known.refuses("remove")),
            }
        }
    }

    /// Begins to remove a container that was to remove itself, and whose process has ended: all that the runtime and the
    /// monitor do not need for what they have yet to do. `None` when somebody holds it, who may have other plans.
    ///
    /// # Errors
    /// As [`Engine::remove`]. Whoever begins anew does what is left.
    pub(crate) fn begin_to_remove(&self, id: &str, ending: Ending) -> Result<Option<Begun>> {
        let Some(held) = self.try_hold(id)? else { return Ok(None) };
        let record = self.store.container(id)?;
        let known = self.look(record)?;
        // Somebody may have started it again, and may have been faster than whoever hears of the end.
        let is_over =
            known.life.state == State::Running && !known.life.process.is_some_and(|process| process.runs());
        // Others than ours may have the root mounted until they are done.
        if !is_over || known.runtime(self)?.kind() != configure::Runtime::Ours {
            return Ok(None);
        }
        let seen = self.seen_of(&known)?.and_then(ending);
        self.begin_removal(&known, Removal::OF_ITSELF.volumes, &seen)?;
        let directory = self.places().container(id);
        // A large layer takes its time, in which the client is there for its user. What stays is removed, and told of, at last.
        let remove = move || [UPPER, WORK, FILES].iter().try_for_each(|part| clear(&directory.join(part)));
        let thread = Builder::new().name("remove".into()).spawn(move || drop(remove()));
        Ok(Some(Begun { known, _held: held, thread: thread.ok() }))
    }

    /// Removes what is left of a container whose removal has begun, once its monitor has said its last word.
    ///
    /// # Errors
    /// As [`Engine::remove`].
    pub(crate) fn remove_begun(&self, Begun { known, _held, thread }: Begun) -> Result<()> {
        // Should it have died: what it left is removed now.
        drop(thread.map(JoinHandle::join));
        let known = &known;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(claim) = self.claim(known)? {
                return self.finish_removal(known, Removal::OF_ITSELF.volumes, &claim);
            }
            if Instant::now() > end {
                return Err(known.refuses("remove"));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Removes the parts of a container that has no processes, and its record last.
    pub(crate) fn take_apart(&self, known: &Known, volumes: Volumes, claim: &Claim) -> Result<()> {
        self.begin_removal(known, volumes, &self.seen_of(known)?)?;
        self.finish_removal(known, volumes, claim)
    }

    /// Records that a container is removed, and what was seen of it and not told.
    fn begin_removal(&self, known: &Known, volumes: Volumes, seen: &Seen) -> Result<()> {
        let id = &known.record.id;
        // After a power loss one that `run --rm` has made is removed in any case.
        let goes = known.document.request.remove && known.document.maker.is_some();
        let durability = if goes { Durability::Process } else { Durability::PowerLoss };
        let networks = self.networks_to_tell(known);
        let begin = || {
            self.store.begin_removal(id, durability, |record| {
                let told = known.note(record, seen, &networks)?;
                if volumes == Volumes::Remove && !known.document.anonymous.is_empty() {
                    let mut document = Document::read_stored(record)?;
                    document.takes_volumes = true;
                    record.document = document.write_stored(record)?;
                }
                Ok(told)
            })
        };
        match begin() {
            // On a disk that is full to the last byte there is no room for saying so. Its log goes in any case.
            Err(error) if error.is_full() => {
                self.clear_log(id)?;
                begin()?;
            }
            begun => drop(begun?),
        }
        Ok(())
    }

    /// Removes what belongs to a container that is being removed, and its record last.
    fn finish_removal(&self, known: &Known, volumes: Volumes, _claim: &Claim) -> Result<()> {
        let id = &known.record.id;
        // A monitor that died may have left processes, and then lost what tells of them.
        self.end_astray(known, AT_ONCE)?;
        if known.has_state(self) {
            // What a monitor left that died. If that cannot be ended, its record stays: nothing else would name it.
            known.runtime(self)?.delete_by_force((&known.record.name, id), &self.bundle_of(id))?;
        }
        // Somebody may have begun with more than is wanted now, and have been killed.
        let volumes = if self.has_bound_volumes(known)? { Volumes::Remove } else { volumes };
        if volumes == Volumes::Remove {
            // Should this process be killed before they are gone, whoever looks knows that they were to go.
            known.document.anonymous.iter().try_for_each(|name| self.bind_volume(name, Some(id)))?;
        }
        self.unplug(id)?;
        if let Some(pod) = known.record.pod.as_deref().filter(|_| self.is_pod_known(known).unwrap_or(false)) {
            self.unplug_pod(pod)?;
        }
        self.clear(&self.places().container_run(id))?;
        self.clear(&self.places().container(id))?;
        self.store.delete_container(id, Some(&known.event("destroy")))?;
        if volumes == Volumes::Remove {
            for name in &known.document.anonymous {
                if self.delete_volume(name)? == Deleted::InUse {
                    // Others use it: now it is theirs.
                    self.bind_volume(name, None)?;
                }
            }
        }
        Ok(())
    }

    /// Removes an anonymous volume and its files, whoever of the container's users those belong to.
    pub(crate) fn delete_volume(&self, name: &str) -> Result<Deleted> {
        match self.store.delete_volume(name) {
            Err(error) if error.kind() == Kind::Conflict => return Ok(Deleted::InUse),
            Err(error) if error.kind() == Kind::NotFound => {}
            // Its row is gone and its files wait where anybody may remove them.
            Err(bulkhead_store::Error::Layer { source, .. }) if is_closed(&source) && are_elsewhere()? => {
                drop(self.do_in_users(&format!("remove volume {name}"), &["collect".as_ref()])?);
            }
            deleted => deleted?,
        }
        Ok(Deleted::Gone)
    }

    /// Removes a directory of the engine's and all in it, whoever of the container's users that belongs to.
    pub(crate) fn clear(&self, directory: &Path) -> Result<()> {
        match clear(directory) {
            Err(Error::Layer(error)) if is_closed(&error) && are_elsewhere()? => {
                let doing = format!("remove {}", directory.display());
                self.do_in_users(&doing, &["clear".as_ref(), directory.as_os_str()]).map(drop)
            }
            cleared => cleared,
        }
    }
}

impl Engine {
    /// Removes what a container said.
    fn clear_log(&self, id: &str) -> Result<()> {
        let directory = self.places().container(id);
        let doing = || format!("remove the log in {}", directory.display());
        for entry in std::fs::read_dir(&directory).doing(doing)? {
            let name = entry.doing(doing)?.file_name();
            if name.as_encoded_bytes().starts_with(logs::FILE.as_bytes()) {
                clear(&directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Tells whether anonymous volumes of a container were bound to go with it.
    fn has_bound_volumes(&self, known: &Known) -> Result<bool> {
        for name in &known.document.anonymous {
            match self.store.volume(name) {
                Err(error) if error.kind() == Kind::NotFound => {}
                found => {
                    if VolumeDocument::read(&found?)?.goes_with.as_ref() == Some(&known.record.id) {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Says of an anonymous volume with which container it goes.
    fn bind_volume(&self, name: &str, container: Option<&str>) -> Result<()> {
        let record = match self.store.volume(name) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            found => found?,
        };
        let mut document = VolumeDocument::read(&record)?;
        if document.goes_with.as_deref() == container {
            return Ok(());
        }
        document.goes_with = container.map(str::to_owned);
        let text = document.write()?;
        let changed = self.store.update_volume(name, |document| {
            *document = text;
            Ok(())
        });
        match changed {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            changed => Ok(changed?),
        }
    }
}

/// Removes a directory of the engine's and all in it. One that is not there is gone already.
///
/// What is in it may be a container's: trees of any depth, files that the kernel keeps. So no path is longer than a name.
pub(crate) fn clear(directory: &Path) -> Result<()> {
    let doing = || format!("remove {}", directory.display());
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else { return Ok(()) };
    let parent = match path::open_host(parent, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.errno() == Errno::NOENT => return Ok(()),
        opened => opened.doing(doing)?,
    };
    layer::remove(parent.as_fd(), name).map_err(|source| match source {
        layer::Error::Kept { .. } => source.into(),
        source if is_closed(&source) => source.into(),
        source => Error::System { doing: doing(), source: io::Error::other(source) },
    })
}

/// Tells whether something stays because it belongs to another.
pub(crate) fn is_closed(error: &layer::Error) -> bool {
    matches!(error, layer::Error::Machine { source, .. } if matches!(source.errno(), Errno::ACCESS | Errno::PERM))
}
