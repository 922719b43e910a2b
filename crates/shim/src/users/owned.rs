//! Namespaces that belong to a user namespace, and are handed to whoever is outside.
//!
//! A process that enters a user namespace cannot come back from it. So a child does that, makes what is wanted there, and hands
//! all over by descriptors:
//!
//! ```text
//! caller                               child
//!    │ ◄──────────── "." ────────────── unshare(CLONE_NEWUSER)        or, where the user namespace is there:
//!    │ newuidmap, newgidmap                                           hides from ptrace(2), setns(2)
//!    │ ───────────── "." ─────────────► becomes its root
//!    │ ◄── descriptors, or an error ─── what is to be made
//! ```
//! In a new user namespace nobody else is who could trace the child; in one that is there containers are.

use std::error::Error;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{credentials, message, offspring, path};
use rustix::fs::OFlags;

use super::{NotMapped, Users, map};
use crate::causes::chain;

/// What the two say when all went well.
const DONE: &[u8] = b".";
/// The most bytes of an error.
const LONGEST: usize = 4096;

/// The user namespace that others are made in.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// It is there.
    Found(BorrowedFd<'a>),
    /// It is made, with these ids.
    New(&'a Users),
}

/// Why namespaces were not made.
#[derive(Debug, thiserror::Error)]
pub enum NotMade {
    /// The user namespace did not get its ids.
    #[error(transparent)]
    NotMapped(#[from] NotMapped),
    /// The child says why.
    #[error("{0}")]
    Said(String),
    /// There is no child, or nothing was heard of it.
    #[error("start a process that makes a user namespace")]
    System(#[from] io::Error),
}

/// Runs `make` in a child that is root of a user namespace, as far as that has a root, and returns the descriptors that it made,
/// the user namespace itself first if that is new. The caller has one thread.
///
/// # Errors
/// Ids that cannot be mapped, a limit of namespaces, what `make` returns.
///
/// Source: user_namespaces(7).
pub fn make<E: Error>(
    owner: Owner<'_>,
    make: impl FnOnce() -> Result<Vec<OwnedFd>, E>,
) -> Result<Vec<OwnedFd>, NotMade> {
    let (ours, theirs) = message::pair().map_err(io::Error::from)?;
    let child = offspring::fork(|| {
        let made = enter(owner, &theirs).and_then(|first| {
            let further = make().map_err(|error| NotMade::Said(chain(&error)))?;
            Ok(first.into_iter().chain(further).collect::<Vec<_>>())
        });
        let told = match &made {
            Ok(made) => message::send(&theirs, DONE, &made.iter().map(AsFd::as_fd).collect::<Vec<_>>()),
            Err(error) => {
                let text = chain(error);
                message::send(&theirs, &text.as_bytes()[..text.len().min(LONGEST)], &[])
            }
        };
        u8::from(made.is_err() || told.is_err())
    })
    .map_err(io::Error::from)?;
    drop(theirs);
    if let Owner::New(users) = owner {
        hear(&ours)?;
        map(child.pid(), users)?;
        message::send(&ours, DONE, &[]).map_err(io::Error::from)?;
    }
    let made = hear(&ours)?;
    child.wait().map_err(io::Error::from)?;
    Ok(made)
}

/// Opens the namespace that this process is in.
///
/// # Errors
/// Those of open(2).
pub fn opened(kind: Kind) -> bulkhead_sys::Result<OwnedFd> {
    path::open_host(&Path::new("/proc/self/ns").join(kind.link()), OFlags::RDONLY)
}

/// Hears what the other one says: descriptors, or why there are none.
fn hear(socket: &OwnedFd) -> Result<Vec<OwnedFd>, NotMade> {
    let said = message::receive(socket, LONGEST).map_err(io::Error::from)?;
    match &*said.bytes {
        DONE => Ok(said.descriptors),
        [] => Err(NotMade::Said("the process that makes a user namespace was killed".into())),
        text => Err(NotMade::Said(String::from_utf8_lossy(text).into_owned())),
    }
}

/// Enters the user namespace, as its root if that has one, and opens it if it is new.
fn enter(owner: Owner<'_>, maker: &OwnedFd) -> Result<Option<OwnedFd>, NotMade> {
    let said = |doing: &str| {
        let doing = doing.to_owned();
        move |error: bulkhead_sys::Error| NotMade::Said(format!("{doing}: {}", chain(&error)))
    };
    let entered = match owner {
        Owner::Found(user) => {
            credentials::set_dumpable(false).map_err(said("hide from ptrace"))?;
            namespace::join(user, Kind::User).map_err(said("enter the user namespace"))?;
            None
        }
        Owner::New(_) => {
            namespace::unshare(Kind::User).map_err(said(
                "make a user namespace: see the kernel parameters user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns",
            ))?;
            message::send(maker, DONE, &[]).map_err(said("make a user namespace"))?;
            hear(maker)?;
            Some(opened(Kind::User).map_err(said("open the user namespace"))?)
        }
    };
    // Files and kernel parameters belong to root there. A map without root has none, and then to whoever this is.
    let _ = credentials::set_gid(0);
    let _ = credentials::set_uid(0);
    Ok(entered)
}
