//! The user namespace of an ordinary user, in which files of images and containers belong to whom they say.
//!
//! Outside it such files belong to subordinate ids of the user, who can neither make nor read nor remove all of them. What
//! runs containers stays outside: only from there it has rights over the namespaces of all of them.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhead_shim::users::{self, IdMapping, NotMapped};
use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::{offspring, path};
use rustix::fs::OFlags;

use crate::configure::{self, Caller, ImageFiles, Users};
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::host;
use crate::request::Request;

/// The word behind which `bulkhead` does what [`Engine::do_in_users`] asks for.
pub const IN_USERS: &str = "in-users";

/// Makes an ordinary user root of a user namespace with all ids that containers of that user have, and gives it a mount
/// namespace. For root, and for a user who has no further ids, nothing changes.
///
/// The process must have one thread.
///
/// # Errors
/// [`Error::Invalid`] when the ids cannot be mapped; then nothing has changed.
pub fn enter_users() -> Result<()> {
    users_of_caller()?.filter(|users| !is_alone(users)).map_or(Ok(()), |users| enter(&users))
}

/// As [`enter_users`], but a user who has no further ids enters, too. Returns the users there, unless nothing changes.
///
/// # Errors
/// As that.
pub(crate) fn enter_users_even_alone() -> Result<Option<Users>> {
    let users = users_of_caller()?;
    users.iter().try_for_each(enter)?;
    Ok(users)
}

fn enter(users: &Users) -> Result<()> {
    let doing = || "enter the user namespace of containers";
    let (mut ready, mut tell) = std::io::pipe().doing(doing)?;
    let (mut hold, release) = std::io::pipe().doing(doing)?;
    let mut release = Some(release);
    let holder = offspring::fork(|| {
        // With the copy of the writing end gone, the read ends when the maker does.
        drop(release.take());
        let is_made = namespace::unshare(Kind::User).is_ok() && tell.write_all(b".").is_ok();
        if !is_made {
            return 1;
        }
        let _ = hold.read(&mut [0; 1]);
        0
    })
    .doing(doing)?;
    drop(tell);
    let made = ready.read_exact(&mut [0; 1]);
    made.map_err(|_| Error::Invalid {
        what: "user namespace".into(),
        reason: "the kernel gives an ordinary user none; see user.max_user_namespaces of sysctl(8)".into(),
    })?;
    match users::map(holder.pid(), users) {
        Err(NotMapped::System { doing, source }) => Err(source).doing(|| doing)?,
        Err(refused @ NotMapped::Refused { .. }) => {
            return Err(Error::Invalid { what: "user namespace".into(), reason: refused.to_string() });
        }
        Ok(()) => {}
    }
    let link = format!("/proc/{}/ns/user", holder.pid().as_raw_nonzero());
    let namespace = path::open_host(Path::new(&link), OFlags::RDONLY).doing(doing)?;
    namespace::join(namespace.as_fd(), Kind::User).doing(doing)?;
    drop(release.take());
    holder.wait().doing(doing)?;
    namespace::unshare(Kind::Mount).doing(doing)
}

/// Returns the users of an ordinary caller's containers.
pub(super) fn users_of_caller() -> Result<Option<Users>> {
    let caller = host::caller();
    if caller == Caller::Root {
        return Ok(None);
    }
    let own = host::subordinate(caller)?;
    configure::users(&Request::default(), (caller, &own), ImageFiles::default(), &[])
}

/// Tells whether there is nobody but the caller.
fn is_alone(users: &Users) -> bool {
    matches!(users.uids[..], [IdMapping { size: 1, .. }])
}

/// Tells whether files of containers may belong to ids that the caller has only in a user namespace.
pub(crate) fn are_elsewhere() -> Result<bool> {
    Ok(users_of_caller()?.is_some_and(|users| !is_alone(&users)))
}

impl Engine {
    /// Has another process do something in the user namespace of containers: `bulkhead … in-users WORDS`.
    ///
    /// # Errors
    /// What that process complained of.
    pub(crate) fn do_in_users(&self, doing: &str, words: &[&OsStr]) -> Result<()> {
        let mut command = Command::new(self.command()?);
        command.arg("--root").arg(&self.places().root).arg("--run").arg(&self.places().run);
        let output = command.arg(IN_USERS).args(words).stdin(Stdio::null()).output().doing(|| doing)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(std::io::Error::other(said)).doing(|| doing)
    }

    /// Tells whether a directory is of this engine's places.
    fn has_within(&self, directory: &OsStr) -> bool {
        let places = [&self.places().root, &self.places().run];
        places.iter().any(|place| Path::new(directory).starts_with(place))
    }

    /// Does what [`Engine::do_in_users`] was asked for, in the namespace.
    ///
    /// # Errors
    /// [`Error::Invalid`] for words that mean nothing here, else as what they mean.
    pub fn in_users(&self, words: &[&OsStr]) -> Result<()> {
        match words {
            [verb, directory] if *verb == "clear" && self.has_within(directory) => {
                return crate::remove::clear(Path::new(directory));
            }
            [verb, directory, label] if *verb == "label" && self.has_within(directory) => {
                return crate::label::directory(Path::new(directory), &label.to_string_lossy());
            }
            [verb] if *verb == "collect" => return Ok(self.store.collect().map(drop)?),
            [verb, id] if *verb == "fill" => {
                let known = self.find(&id.to_string_lossy())?;
                let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
                let lower = self.root_of(&known.record, &known.document, image.as_ref()).lower;
                return self.fill_volumes_here(&known.document, &lower);
            }
            _ => {}
        }
        Err(Error::Invalid { what: format!("{words:?}"), reason: "it is nothing to be done there".into() })
    }
}
