//! Where programs of others run, and as whom.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bulkhead_sys::{self as sys, credentials, namespace};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::this_program;

/// This program in a root.
const HERE: &str = "/bin/bulkload";

/// Where everyone may make files, in a root; /tmp is in memory behind some walls and not behind others.
const ROOMS: &str = "/srv";

/// An ordinary user and his group: nobody.
const USER: u32 = 65534;

/// Goes into the root that has this program, unless that is the root already, and becomes an ordinary user.
///
/// A process without a wall so finds the same programs and the same libraries under the same names as one in a sandbox.
pub(super) fn enter() -> Result<()> {
    let program = this_program::path()?;
    if program != Path::new(HERE) {
        let root = program.parent().and_then(Path::parent);
        let root = root.ok_or_else(|| Error::Wrong(format!("{} lies in no root", program.display())))?;
        rustix::process::chroot(root)
            .map_err(|errno| Error::io("make the directory above this program the root")(errno.into()))?;
    }
    rustix::process::chdir(ROOMS).map_err(|errno| Error::io("go to /srv of the root")(errno.into()))?;
    // What PostgreSQL has of System V's shared memory would stay when it is killed. In a sandbox, which may refuse this,
    // it ends with that.
    let _ = namespace::unshare(namespace::Kind::Ipc);
    if rustix::process::geteuid().is_root() { become_user() } else { Ok(()) }
}

fn become_user() -> Result<()> {
    match drop_to(USER) {
        // A user namespace with one user only: he is somebody else in one of his own.
        Err(error) if matches!(error.errno(), Errno::INVAL | Errno::PERM) => be_called(USER),
        done => done.map_err(Error::from),
    }
}

fn drop_to(user: u32) -> sys::Result<()> {
    credentials::set_groups(&[])?;
    credentials::set_gid(user)?;
    credentials::set_uid(user)
}

fn be_called(user: u32) -> Result<()> {
    namespace::unshare(namespace::Kind::User)?;
    // A kernel that knows no such file needs no such promise.
    let _ = std::fs::write("/proc/self/setgroups", "deny");
    for map in ["/proc/self/gid_map", "/proc/self/uid_map"] {
        std::fs::write(map, format!("{user} 0 1\n")).map_err(Error::io("map the only user there is"))?;
    }
    Ok(())
}

/// A directory of this user alone in the current one; removed in the end.
#[derive(Debug)]
pub(super) struct Room(PathBuf);

impl Room {
    pub(super) fn make() -> Result<Self> {
        let here = std::env::current_dir().map_err(Error::io("find the current directory"))?;
        // In a sandbox the pid is the same each time, and one that was killed has left its directory.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let place = here.join(format!("heavy-{}-{:x}", std::process::id(), now.as_nanos()));
        let made = DirBuilder::new().mode(0o700).create(&place);
        made.map_err(Error::io("make a directory in /srv, which must be everyone's"))?;
        Ok(Self(place))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Whoever made the root removes what is left in it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
