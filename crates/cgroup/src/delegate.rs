//! Giving a v2 cgroup to the user of the container, so that it can make sub-cgroups (systemd in a container).

use rustix::fs::{AtFlags, Uid, chownat};
use rustix::io::{Errno, retry_on_intr};

use crate::cgroup::Cgroup;
use crate::dir::read_proc;
use crate::error::Result;

/// Where the kernel lists the files that may be given away (Linux 4.15).
const LIST: &str = "/sys/kernel/cgroup/delegate";

/// What the specification names for kernels without the list.
const USUAL: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";

impl Cgroup {
    /// Makes `uid`, of the host, the owner of the container's v2 directory and of those files in it that do not raise
    /// its own limits. v1 has no safe delegation: where it is in use nothing changes.
    ///
    /// The specification wants this if and only if the cgroup file system is mounted writable in a cgroup namespace of
    /// the container's own (config-linux.md, "Cgroup ownership").
    ///
    /// # Errors
    /// [`Error::System`](crate::Error::System) without the right to change owners.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let ([_], Some(member)) = (self.members.as_slice(), self.v2()) else { return Ok(()) };
        let dir = member.dir()?;
        let list = read_proc(LIST).unwrap_or_else(|_| USUAL.to_owned());
        let files = list.lines().filter(|file| !file.is_empty() && !file.contains('/'));
        for (file, flags) in std::iter::once(("", AtFlags::EMPTY_PATH))
            .chain(files.map(|file| (file, AtFlags::SYMLINK_NOFOLLOW)))
        {
            match retry_on_intr(|| chownat(dir.fd(), file, Some(Uid::from_raw(uid)), None, flags)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(dir.error(format!("chown({file:?}, {uid})"), errno)),
            }
        }
        Ok(())
    }
}
