//! The user namespace of an ordinary user, in which files of images and containers belong to whom they say.
//!
//! Outside it such files belong to subordinate ids of the user, who can neither make nor read nor remove all of them. What
//! runs containers stays outside: only from there it has rights over the namespaces of all of them.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhead_shim::users::{self, IdMapping, Owner};
use bulkhead_store::{Depth, Finding, Mend};
use bulkhead_sys::namespace::{self, Kind};

use crate::configure::{self, Caller, ImageFiles, Users};
use crate::engine::Engine;
use crate::error::{Doing, Error, Result, chain};
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
    let (user, _) = make(users, || Ok(Vec::new()))?;
    namespace::join(user.as_fd(), Kind::User).doing(doing)?;
    namespace::unshare(Kind::Mount).doing(doing)
}

/// Makes a user namespace with these users, and what `further` makes there as its root ([`users::make`]).
pub(super) fn make(
    users: &Users,
    further: impl FnOnce() -> Result<Vec<OwnedFd>>,
) -> Result<(OwnedFd, Vec<OwnedFd>)> {
    let refused = |reason| Error::Invalid { what: "user namespace".into(), reason };
    let made = users::make(Owner::New(users), further).map_err(|error| refused(chain(&error)))?;
    let mut made = made.into_iter();
    let user = made.next().ok_or_else(|| refused("it did not arrive".into()))?;
    Ok((user, made.collect()))
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
    /// Has another process do something in the user namespace of containers: `bulkhead … in-users WORDS`. Returns what it says.
    ///
    /// # Errors
    /// What that process complained of.
    pub(crate) fn do_in_users(&self, doing: &str, words: &[&OsStr]) -> Result<Vec<u8>> {
        let mut command = Command::new(self.command()?);
        command.arg("--root").arg(&self.places().root).arg("--run").arg(&self.places().run);
        let output = command.arg(IN_USERS).args(words).stdin(Stdio::null()).output().doing(|| doing)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(std::io::Error::other(said)).doing(|| doing)
    }

    /// Has images, layers and volumes looked at there.
    pub(crate) fn check_store_in_users(&self, depth: Depth, mend: Mend) -> Result<Vec<Finding>> {
        let doing = "check what is stored";
        let asked = serde_json::to_string(&(depth, mend)).map_err(std::io::Error::from).doing(|| doing)?;
        let said = self.do_in_users(doing, &["check".as_ref(), asked.as_ref()])?;
        serde_json::from_slice(&said).map_err(std::io::Error::from).doing(|| doing)
    }

    /// Tells whether a directory is of this engine's places.
    fn has_within(&self, directory: &OsStr) -> bool {
        let places = [&self.places().root, &self.places().run];
        places.iter().any(|place| Path::new(directory).starts_with(place))
    }

    /// Does what another process of this user asked for, in the namespace, and returns what that is to hear on the standard output.
    ///
    /// # Errors
    /// [`Error::Invalid`] for words that mean nothing here, else as what they mean.
    pub fn in_users(&self, words: &[&OsStr]) -> Result<Vec<u8>> {
        match words {
            [verb, directory] if *verb == "clear" && self.has_within(directory) => {
                crate::remove::clear(Path::new(directory))?;
            }
            [verb, directory, label] if *verb == "label" && self.has_within(directory) => {
                crate::label::directory(Path::new(directory), &label.to_string_lossy())?;
            }
            [verb] if *verb == "collect" => drop(self.store.collect()?),
            [verb, name] if *verb == "empty" => self.empty_half_filled(&name.to_string_lossy())?,
            [verb, id] if *verb == "fill" => {
                let known = self.find(&id.to_string_lossy())?;
                let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
                let lower = self.root_of(&known.record, &known.document, image.as_ref()).lower;
                self.fill_volumes_here(&known.document, &lower)?;
            }
            [verb, asked] if *verb == "check" => {
                let doing = || format!("read {}", asked.display());
                let (depth, mend) = serde_json::from_str(&asked.to_string_lossy())
                    .map_err(std::io::Error::from)
                    .doing(doing)?;
                let found = self.check_store(depth, mend)?;
                return serde_json::to_vec(&found).map_err(std::io::Error::from).doing(doing);
            }
            _ => {
                let reason = "it is nothing to be done there".into();
                return Err(Error::Invalid { what: format!("{words:?}"), reason });
            }
        }
        Ok(Vec::new())
    }
}
