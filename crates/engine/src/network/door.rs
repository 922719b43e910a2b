//! A process by whose number a carrier enters the namespaces of a container.
//!
//! The container's own process has the host's descriptors and files until its program begins, and hides from everybody for as
//! long (CVE-2016-9962). The runtime gives hooks the namespaces by descriptors instead, and pasta(1) cannot take these: it has
//! closed whatever it was started with before it enters the network, and sees no process from there that is not in the
//! container's user namespace. So a child of the hook goes there and waits:
//!
//! ```text
//! hook                          child
//!  │ ◄───────── "." ─────────── joins both, has closed all else, can be seen
//!  │ starts the carrier         │
//!  │ ── end of the stream ────► ends; is killed if the hook is
//! ```
//! Nobody but carriers sees it: nothing of an image has begun in the user namespace, which is new. That of a pod is as new for the first of its
//! containers, and there is no door where others run (`carrier::pod`).

use std::ffi::OsString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::offspring::{self, Offspring};
use bulkhead_sys::{credentials, message, process};
use rustix::fs::fstat;

use super::carrier::Entrance;
use crate::error::{Doing, Error, Result};

/// The variable by which our runtime names the descriptors: `network=7,user=8`.
const GIVEN: &str = "BULKHEAD_HOOK_NAMESPACES";
/// What the child says when it is there.
const THERE: &[u8] = b".";
/// The most bytes of an error.
const LONGEST: usize = 1024;

/// A process in the namespaces, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Door {
    child: Offspring,
    network: u64,
    _stream: OwnedFd,
}

impl Door {
    /// Opens that of the namespaces that the runtime has given this hook. The process has one thread.
    ///
    /// # Errors
    /// A runtime that gives none, and as setns(2).
    pub(super) fn open() -> Result<Self> {
        let [network, user] = given(std::env::var_os(GIVEN))?;
        Self::of(&network, &user)
    }

    /// Opens that of a network namespace and the user namespace that owns it. The process has one thread, and nothing of an image runs as
    /// users of these: it could look into the door.
    ///
    /// # Errors
    /// As setns(2).
    pub(super) fn of(network: &OwnedFd, user: &OwnedFd) -> Result<Self> {
        let doing = || "enter the container's namespaces";
        let inode = fstat(network).doing(doing)?.st_ino;
        let (ours, theirs) = message::pair().doing(doing)?;
        let child = offspring::fork(|| match stand(network, user, &theirs) {
            Ok(()) => 0,
            Err(error) => {
                let text = error.to_string();
                drop(message::send(&theirs, &text.as_bytes()[..text.len().min(LONGEST)], &[]));
                1
            }
        })
        .doing(doing)?;
        drop(theirs);
        let said = message::receive(&ours, LONGEST).doing(doing)?;
        match &*said.bytes {
            THERE => Ok(Self { child, network: inode, _stream: ours }),
            [] => Err(std::io::Error::other("the process that does was killed")).doing(doing),
            text => Err(std::io::Error::other(String::from_utf8_lossy(text))).doing(doing),
        }
    }

    /// Tells by its number, which is nobody else's as long as it is open.
    pub(super) fn entrance(&self) -> Entrance {
        Entrance { pid: self.child.pid().as_raw_nonzero().get(), network: Some(self.network) }
    }
}

/// Takes the namespaces that the runtime has given, the network's first.
fn given(text: Option<OsString>) -> Result<[OwnedFd; 2]> {
    let text = text.unwrap_or_default().to_string_lossy().into_owned();
    let number = |name: &str| {
        let found = text.split(',').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|number| number.parse().ok())
    };
    let (Some(network), Some(user)) = (number("network"), number("user")) else {
        return Err(Error::Invalid {
            what: "runtime".into(),
            reason: "it gives its hooks no namespaces, as bulkrun of this version does: one of both is older"
                .into(),
        });
    };
    let doing = || "take the container's namespaces";
    Ok([process::take_inherited(network).doing(doing)?, process::take_inherited(user).doing(doing)?])
}

/// The child's life.
fn stand(network: &OwnedFd, user: &OwnedFd, theirs: &OwnedFd) -> bulkhead_sys::Result<()> {
    namespace::join(user.as_fd(), Kind::User)?;
    namespace::join(network.as_fd(), Kind::Network)?;
    process::close_all_but(0, vec![theirs.as_raw_fd().unsigned_abs()])?;
    // Both were undone when its rights changed.
    offspring::end_with_parent()?;
    credentials::set_dumpable(true)?;
    message::send(theirs, THERE, &[])?;
    // Until the end of the stream.
    while message::receive(theirs, 1).is_ok_and(|message| !message.bytes.is_empty()) {}
    Ok(())
}
