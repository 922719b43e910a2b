//! Whose the files of a layer become.

use std::fmt;

use rustix::fs::{Gid, Uid};

use super::{Error, Result};

/// The numbers of a file's user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// Who owns files on this side, given who owns them on the other.
///
/// Unpacking asks it for each entry of the archive, packing for each file.
#[derive(Clone, Copy)]
pub enum Owners<'a> {
    /// The same. That needs CAP_CHOWN, in a user namespace for those that it maps.
    Kept,
    /// Unpacking: all files become the caller's. Packing: all are root's. So it must be for a user who has but one number;
    /// a program that becomes somebody else by its mode does so only if it was root's.
    Caller,
    /// Whom the function names. A file whose owner it does not know is refused.
    Mapped(&'a (dyn Fn(Owner) -> Option<Owner> + Sync)),
    /// Whom the function names for what lies at this path of the tree or the archive. It is asked with an empty one for an owner
    /// that is no file's.
    Placed(&'a (dyn Fn(&[u8], Owner) -> Option<Owner> + Sync)),
}

impl fmt::Debug for Owners<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "Kept",
            Self::Caller => "Caller",
            Self::Mapped(_) => "Mapped",
            Self::Placed(_) => "Placed",
        })
    }
}

impl Owners<'_> {
    /// Returns whom a file is to be given to, if to anybody.
    pub(super) fn of_entry(&self, user: i64, group: i64, entry: &[u8]) -> Result<Option<Owner>> {
        // The largest number means "as it is" to chown(2).
        let number = |id: i64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(user), Some(group)) = (number(user), number(group)) else {
            return Err(Error::entry(entry, format!("belongs to {user}:{group}, which is no owner")));
        };
        let owner = Owner { user, group };
        match self {
            Self::Kept => Ok(Some(owner)),
            Self::Caller => Ok(None),
            Self::Mapped(_) | Self::Placed(_) => self.named(entry, owner).map(Some).ok_or_else(|| {
                let fault = format!(
                    "belongs to {user}:{group}, for which the user namespace has no place: \
                     /etc/subuid and /etc/subgid must give more ids"
                );
                Error::entry(entry, fault)
            }),
        }
    }

    /// Returns whose a file is in an archive.
    pub(super) fn of_file(&self, owner: Owner, path: &[u8]) -> Result<Owner> {
        match self {
            Self::Kept => Ok(owner),
            Self::Caller => Ok(Owner { user: 0, group: 0 }),
            Self::Mapped(_) | Self::Placed(_) => self.named(path, owner).ok_or(Error::Unpackable {
                path: path.to_vec(),
                reason: "belongs to nobody of the container",
            }),
        }
    }

    /// Asks the function, if there is one.
    pub(super) fn named(&self, path: &[u8], owner: Owner) -> Option<Owner> {
        match self {
            Self::Kept | Self::Caller => Some(owner),
            Self::Mapped(map) => map(owner),
            Self::Placed(map) => map(path, owner),
        }
    }

    /// Returns the mode that a file of the archive gets: who does not keep its owner must not get the owner's rights.
    pub(super) fn mode(&self, mode: u32, user: i64, group: i64) -> u32 {
        const SET_USER: u32 = 0o4000;
        const SET_GROUP: u32 = 0o2000;
        match self {
            Self::Caller if user != 0 && group != 0 => mode & !(SET_USER | SET_GROUP),
            Self::Caller if user != 0 => mode & !SET_USER,
            Self::Caller if group != 0 => mode & !SET_GROUP,
            _ => mode,
        }
    }
}

impl Owner {
    pub(super) fn ids(self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.user)), Some(Gid::from_raw(self.group)))
    }
}

/// What new files of this process look like before anything is done about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Creator {
    owner: Owner,
    umask: u32,
    /// Whether the directory's own rules are simple: no group that is inherited, no default ACL.
    plain: bool,
}

impl Creator {
    /// Learns it for files below a directory.
    pub(super) fn new(directory: impl std::os::fd::AsFd) -> Self {
        let owner =
            Owner { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() };
        let sets_group = rustix::fs::fstat(&directory).is_ok_and(|stat| stat.st_mode & 0o2000 != 0);
        let umask = umask();
        // An ACL takes the umask's place. Asking for it wants a descriptor that is open for reading.
        let opened = rustix::fs::openat(
            &directory,
            ".",
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let has_acl = opened
            .is_ok_and(|fd| rustix::fs::fgetxattr(&fd, "system.posix_acl_default", &mut [0_u8; 0]).is_ok());
        Self { owner, umask: umask.unwrap_or(0o7777), plain: !sets_group && !has_acl && umask.is_some() }
    }

    /// Says whether a new file has this owner already.
    pub(super) fn gives(&self, owner: Owner) -> bool {
        self.plain && self.owner == owner
    }

    /// Says whether a file that is made with `made` has the mode `wanted` then.
    pub(super) fn makes(&self, made: u32, wanted: u32) -> bool {
        self.plain && made & !self.umask == wanted
    }
}

/// Reads the umask without setting it, which would change it for other threads, too. See proc_pid_status(5).
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_that_a_file_can_have() {
        let map = |owner: Owner| {
            (owner.user < 10).then(|| Owner { user: owner.user + 100, group: owner.group + 200 })
        };
        let owner = |user, group| Some(Owner { user, group });
        let at = |path: &[u8], known: Owner| owner(known.user, u32::try_from(path.len()).unwrap());
        for (owners, user, group, expected) in [
            (Owners::Kept, 0, 0, Ok(owner(0, 0))),
            (Owners::Kept, 4_294_967_294, 3_000_000_000, Ok(owner(4_294_967_294, 3_000_000_000))),
            (Owners::Kept, 4_294_967_295, 0, Err("no owner")),
            (Owners::Kept, 0, -1, Err("no owner")),
            (Owners::Kept, 1 << 40, 0, Err("no owner")),
            (Owners::Caller, 5, 5, Ok(None)),
            (Owners::Caller, -5, 5, Err("no owner")),
            (Owners::Mapped(&map), 5, 6, Ok(owner(105, 206))),
            (Owners::Mapped(&map), 10, 0, Err("belongs to 10:0, for which the user namespace has no place")),
            (Owners::Placed(&at), 5, 6, Ok(owner(5, 1))),
        ] {
            match (owners.of_entry(user, group, b"x"), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{owners:?} of {user}:{group}"),
                (Err(error), Err(sentence)) => assert!(error.to_string().contains(sentence), "{error}"),
                (found, expected) => {
                    panic!("{owners:?} of {user}:{group}: {found:?} instead of {expected:?}")
                }
            }
        }
    }

    #[test]
    fn who_takes_all_files_takes_no_rights_of_others() {
        for (user, group, mode, expected) in
            [(0, 0, 0o6755, 0o6755), (5, 0, 0o6755, 0o2755), (0, 5, 0o6755, 0o4755), (5, 5, 0o7755, 0o1755)]
        {
            assert_eq!(Owners::Caller.mode(mode, user, group), expected, "for {user}:{group}");
        }
        assert_eq!(Owners::Kept.mode(0o6755, 5, 5), 0o6755);
    }

    #[test]
    fn the_umask_is_read() {
        let umask = umask().expect("the kernel tells it");
        assert_eq!(umask & !0o777, 0, "{umask:o} has no other bits");
    }
}
