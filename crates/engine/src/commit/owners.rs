//! Whose files are in an image that is made of an ordinary user's container.
//!
//! Only root can show files by a map, so that an ordinary user's images have the numbers of one user namespace for all
//! containers, and a container with maps of its own sees others:
//!
//! ```text
//! of images      on the host      in a container with `--userns keep-id`
//!     0             1000              1000     the user, to whom what is root's in the image belongs
//!  1000           100999                 0     root
//! ```
//! What the container made has the numbers that it saw. What the image has, under the same name and of the same owner, keeps the
//! image's: a file that was only written to does not become another's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use bulkhead_shim::users::IdMapping;
use bulkhead_store::layer::Owner;

use crate::configure::Users;
use crate::error::Result;
use crate::root::{self, Layers};

#[derive(Debug)]
pub(super) struct Numbers {
    /// The users of images, by their numbers on the host.
    images: Users,
    /// Those of the container.
    container: Users,
    layers: Layers,
}

impl Numbers {
    /// For a process in the user namespace of images, and a container with these users over these layers, the topmost first.
    ///
    /// # Errors
    /// As for reading the own users; a layer that is not there.
    pub(super) fn new(container: Users, layers: &[PathBuf]) -> Result<Self> {
        Ok(Self { images: root::own_users()?, container, layers: Layers::open(layers)? })
    }

    /// Says whose a file of the container's own layer is in an image.
    pub(super) fn of(&self, path: &[u8], owner: Owner) -> Owner {
        let Self { images, container, layers } = self;
        let seen = Owner {
            user: seen(&images.uids, &container.uids, owner.user),
            group: seen(&images.gids, &container.gids, owner.group),
        };
        if seen == owner {
            return owner;
        }
        let (user, group) = layers.owner(Path::new(OsStr::from_bytes(path))).unzip();
        Owner {
            user: if user == Some(owner.user) { owner.user } else { seen.user },
            group: if group == Some(owner.group) { owner.group } else { seen.group },
        }
    }
}

/// Returns the number that a container has for one of images; who is nobody there stays who it is.
fn seen(images: &[IdMapping], container: &[IdMapping], id: u32) -> u32 {
    let within = |first: u32, size: u32, id: u32| id.checked_sub(first).filter(|&offset| offset < size);
    let on_host = images.iter().find_map(|map| {
        let offset = within(map.container_id, map.size, id)?;
        map.host_id.checked_add(offset)
    });
    let inside = |host: u32| {
        container.iter().find_map(|map| {
            let offset = within(map.host_id, map.size, host)?;
            map.container_id.checked_add(offset)
        })
    };
    on_host.and_then(inside).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bulkhead_testkit::{Scratch, is_root, requires};
    use rustix::fs::{Gid, Uid, chown};

    use super::*;

    fn users(maps: &[(u32, u32, u32)]) -> Users {
        let map = |&(container_id, host_id, size)| IdMapping { container_id, host_id, size };
        let maps = Vec::from_iter(maps.iter().map(map));
        Users { uids: maps.clone(), gids: maps }
    }

    #[test]
    fn what_a_container_made_has_its_numbers_and_what_the_image_has_keeps_its_owner() {
        requires!(is_root(), "needs root to give files away");
        let scratch = Scratch::new();
        let image = scratch.path().join("image");
        fs::create_dir_all(image.join("etc")).unwrap();
        fs::write(image.join("etc/passwd"), "").unwrap();
        fs::write(image.join("etc/own"), "").unwrap();
        chown(image.join("etc/own"), Some(Uid::from_raw(1000)), Some(Gid::from_raw(1000))).unwrap();
        let numbers = |container| Numbers {
            images: users(&[(0, 1000, 1), (1, 100_000, 65_536)]),
            container,
            layers: Layers::open(std::slice::from_ref(&image)).unwrap(),
        };
        let owner = |user, group| Owner { user, group };
        let keep_id =
            numbers(users(&[(0, 100_999, 1), (1, 100_000, 999), (1000, 1000, 1), (1001, 101_000, 64_536)]));
        for (path, disk, expected) in [
            ("new", owner(0, 0), owner(1000, 1000)),
            ("new", owner(1000, 0), owner(0, 1000)),
            ("new", owner(33, 33), owner(33, 33)),
            ("etc", owner(0, 0), owner(0, 0)),
            ("etc/passwd", owner(0, 0), owner(0, 0)),
            ("etc/passwd", owner(1000, 0), owner(0, 0)),
            ("etc/passwd/below", owner(0, 0), owner(1000, 1000)),
            ("etc/own", owner(1000, 1000), owner(1000, 1000)),
            ("etc/own", owner(0, 0), owner(1000, 1000)),
        ] {
            assert_eq!(keep_id.of(path.as_bytes(), disk), expected, "{path} of {disk:?}");
        }
        assert_eq!(keep_id.of(b"", owner(1000, 0)).user, 0, "the root of whom a capability is");
        let moved = numbers(users(&[(0, 100_000, 10)]));
        assert_eq!(moved.of(b"new", owner(1, 5)), owner(0, 4));
        assert_eq!(moved.of(b"new", owner(0, 70)), owner(0, 70), "who is nobody there stays who it is");
    }
}
