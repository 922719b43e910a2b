//! Mending what crashes left.

use std::ffi::OsStr;
use std::path::Path;

use bulkhead_shim::client;
use bulkhead_shim::protocol::ToMonitor;
use bulkhead_store::Kind;
use rustix::mount::{UnmountFlags, unmount};

use crate::cgroups;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::id;
use crate::known::Known;
use crate::leftover::Leftover;
use crate::remove::Volumes;
use crate::runtime::Runtime;
use crate::stop::AT_ONCE;
use crate::users::are_elsewhere;

impl Engine {
    /// Mends what was found. What somebody else mended meanwhile is no error.
    pub(crate) fn mend(&self, leftover: &Leftover) -> Result<()> {
        match leftover {
            Leftover::Mount(path) => unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .doing(|| format!("unmount {}", path.display())),
            Leftover::HalfRemoved(known) | Leftover::Abandoned(known) | Leftover::Ended(known) => {
                self.while_idle(known, |known, claim| self.take_apart(known, volumes_of(known), claim))
            }
            Leftover::Unwatched(known) => self.end_unwatched(known),
            Leftover::Astray(known) => self.mend_astray(known),
            Leftover::Lost(known) => self.start_again(&known.record.id),
            Leftover::Unmade(known) => self.make_again(known),
            Leftover::Remains(known) => self.while_idle(known, |known, _| {
                let id = &known.record.id;
                known.runtime(self)?.delete_by_force((&known.record.name, id), &self.bundle_of(id))
            }),
            Leftover::Cgroups(known, paths) => self.while_idle(known, |_, _| cgroups::remove_all(paths)),
            Leftover::Directory(path) => self.remove_directory(path),
            Leftover::State(states, id) => {
                let name = states.file_name().and_then(OsStr::to_str).unwrap_or_default();
                self.runtime_of(name)?.delete_by_force((id::short(id), id), &self.bundle_of(id))
            }
            Leftover::Volume(name) => self.delete_volume(name).map(drop),
            Leftover::HalfFilled(name) if are_elsewhere()? => {
                let doing = format!("empty volume {name}, of which the filling was not finished");
                self.do_in_users(&doing, &["empty".as_ref(), name.as_ref()]).map(drop)
            }
            Leftover::HalfFilled(name) => self.empty_half_filled(name),
            Leftover::HalfRemovedPod(record) => self.take_pod_apart(record),
            Leftover::HalfRemovedNetwork(record) => self.finish_network(record),
            Leftover::Carrier(owner) => self.end_left_carrier(owner),
            Leftover::Ports(owner) => self.withdraw_ports(owner),
            Leftover::End(owner) => self.take_ends_left(owner),
            Leftover::Attachment(key) => self.withdraw_attachment(key),
            Leftover::NoReturn(_) => self.let_return(),
            Leftover::Unhelped(owner) => self.have_helped_again(owner),
            Leftover::Unanswered(container) => self.have_answered_again(container),
            Leftover::Uncarried(_, container) | Leftover::CutOff(_, container) => {
                self.have_carried_again(container)
            }
            Leftover::Flushed => self.restore_rules(),
            Leftover::Unplugged(record) => self.plug_again(record),
            Leftover::Overlapped(overlapped) => self.move_network(overlapped),
            Leftover::Bridge(name) => self.remove_bridge(name),
            Leftover::RefusedPorts(owner, refused) => Err(Error::Invalid {
                what: leftover.subject(),
                reason: format!("{}, and then {}", refused.remedy(), self.restarting(owner)),
            }),
            Leftover::UnreadPorts(owner, _) => Err(Error::Invalid {
                what: leftover.subject(),
                reason: format!("{} makes it anew", self.restarting(owner)),
            }),
            Leftover::ShutIn(firewall) => self.open_firewall(firewall),
            Leftover::Unread(record, _) => Err(Error::Invalid {
                what: format!("container {}", record.name),
                reason: "use the version of bulkhead that made it".into(),
            }),
            Leftover::Stranger(path) => Err(Error::Invalid {
                what: path.display().to_string(),
                reason: "nobody knows what it is: look, and move it away".into(),
            }),
        }
    }

    /// Finds the runtime whose states lie in a directory of this name: by the path by which a container names it, or in PATH.
    fn runtime_of(&self, name: &str) -> Result<Runtime> {
        for record in self.store.containers()? {
            // One that nobody can read is told by itself.
            let Ok(document) = Document::read(&record) else { continue };
            let runtime = document.request.runtime;
            if runtime.as_deref().is_some_and(|path| Path::new(path).file_name() == Some(OsStr::new(name))) {
                return self.runtime(runtime.as_deref());
            }
        }
        self.runtime(Some(name))
    }

    /// Makes the directories of a container that has none.
    fn make_again(&self, known: &Known) -> Result<()> {
        let id = &known.record.id;
        self.complete(known)?;
        let _held = self.hold(id)?;
        match self.store.container(id) {
            // Removed meanwhile.
            Err(error) if error.kind() == Kind::NotFound => self.clear(&self.places().container(id)),
            found => Ok(found.map(drop)?),
        }
    }

    /// Does something with a container that nobody else touches, if it has no processes.
    fn while_idle(
        &self,
        known: &Known,
        work: impl FnOnce(&Known, &client::Claim) -> Result<()>,
    ) -> Result<()> {
        let _held = self.hold(&known.record.id)?;
        match self.know_again(&known.record.id)? {
            Some(known) if !known.life.state.is_active() => match self.claim(&known)? {
                Some(claim) => work(&known, &claim),
                // It is being started: it has a monitor that cares.
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Ends what is left of a container whose monitor died; one that was to remove itself goes.
    fn end_unwatched(&self, known: &Known) -> Result<()> {
        let Some(known) = self.know_again(&known.record.id)? else { return Ok(()) };
        if known.is_to_be_ended(self) {
            return Err(Error::Invalid {
                what: format!("container {}", known.record.name),
                reason: format!("its runtime cannot end it: `bulkhead rm -f {}`", known.record.name),
            });
        }
        if known.document.request.remove {
            return self.mend(&Leftover::Ended(known));
        }
        Ok(())
    }

    /// Removes a directory that no container has, and first ends what may live in it.
    fn remove_directory(&self, path: &Path) -> Result<()> {
        if path.join(bulkhead_shim::place::ORDER).exists() {
            if client::alive(path)? {
                // That it has gone by itself is as good; that it does not go is told below.
                drop(client::request(path, &ToMonitor::Stop(AT_ONCE)));
            }
            // Whatever else is wrong with it: the runtime's state is looked at by itself.
            if let Err(error @ client::Error::Alive { .. }) = client::lost(path) {
                return Err(error.into());
            }
        }
        self.clear(path)
    }
}

/// What becomes of the anonymous volumes of one whose removal is finished.
pub(crate) fn volumes_of(known: &Known) -> Volumes {
    let takes = known.document.request.remove || known.document.takes_volumes;
    if takes { Volumes::Remove } else { Volumes::Keep }
}
