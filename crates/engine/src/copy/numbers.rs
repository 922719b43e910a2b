//! Whose files of a container are, by the numbers of the process that copies them.
//!
//! ```text
//!                    a container that runs                     one that does not
//! root               by the maps of its first process          as on the disk, which is as inside
//! an ordinary user   by the user namespace of all of the user's containers, either way
//! ```

use bulkhead_shim::users::{IdMapping, Users};
use bulkhead_store::layer::{Owner, Owners};
use bulkhead_sys::credentials;

use super::CopyOwners;
use crate::error::{Doing, Result};

const ROOT: Owner = Owner { user: 0, group: 0 };

/// How this process and a container call the same owners.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Whose the files become that are made in the container: its root's, or an ordinary user's own.
    maker: Owner,
    /// The container's users by this process's numbers; nothing where both have the same.
    container: Option<Users>,
    /// The numbers that this process has at all, if not all.
    own: Option<Users>,
}

impl Numbers {
    /// For root, and a container with these users.
    pub(super) fn of_root(container: Option<Users>) -> Self {
        let is_same = |maps: &[IdMapping]| maps.iter().all(|map| map.container_id == map.host_id);
        let container = container.filter(|users| !(is_same(&users.uids) && is_same(&users.gids)));
        Self { maker: container.as_ref().map_or(ROOT, root_of), container, own: None }
    }

    /// For an ordinary user who has entered the user namespace of containers, whose users are `own`.
    pub(super) fn of_user(container: Option<&Users>, own: Users) -> Self {
        let on_host = |owner: Owner| own.on_host(owner.user, owner.group);
        let has = |users: &Users, owner| {
            on_host(owner).is_some_and(|(user, group)| inside(users, Owner { user, group }).is_some())
        };
        let maker = match container {
            // Nobody but the container's users can make a file there.
            Some(users) if !has(users, ROOT) => inside(&own, root_of(users)).unwrap_or(ROOT),
            _ => ROOT,
        };
        Self { maker, container: None, own: Some(own) }
    }

    /// Makes files in the container as whose they become, in a thread of its own where that is somebody else.
    ///
    /// # Errors
    /// As `make`, and for want of a thread.
    pub(super) fn making<R: Send>(&self, make: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        let Owner { user, group } = self.maker;
        if self.maker == ROOT {
            return make();
        }
        std::thread::scope(|scope| {
            let making = std::thread::Builder::new().name("unpack".to_owned());
            let making = making.spawn_scoped(scope, || {
                credentials::act_as(user, group).doing(|| "act as the root of the container")?;
                make()
            });
            let making = making.doing(|| "start a thread")?;
            making.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Says whose a file of this process is in the container.
    pub(super) fn inside(&self, owner: Owner) -> Owner {
        self.container.as_ref().and_then(|users| inside(users, owner)).unwrap_or(owner)
    }

    /// Says whose a file of the container, or of an archive, is here, if it can be anybody's.
    pub(super) fn here(&self, owner: Owner) -> Option<Owner> {
        match &self.container {
            Some(users) => on_host(users, owner),
            None => self.outside(owner),
        }
    }

    /// Says whether a file of this machine can be somebody's.
    pub(super) fn outside(&self, owner: Owner) -> Option<Owner> {
        self.own.as_ref().is_none_or(|own| on_host(own, owner).is_some()).then_some(owner)
    }

    /// Chooses whose the copies become.
    pub(super) fn chosen<'a>(
        &self,
        owners: CopyOwners,
        kept: &'a (dyn Fn(Owner) -> Option<Owner> + Sync),
    ) -> Owners<'a> {
        let is_alone = self.own.as_ref().is_some_and(Users::is_one);
        match owners {
            CopyOwners::Target => Owners::Caller,
            CopyOwners::Source if is_alone => Owners::Caller,
            CopyOwners::Source if self.container.is_none() && self.own.is_none() => Owners::Kept,
            CopyOwners::Source => Owners::Mapped(kept),
        }
    }
}

/// Returns the container's root on the host, or whoever is there where nobody is root.
fn root_of(users: &Users) -> Owner {
    let first = |maps: &[IdMapping]| maps.first().map_or(0, |map| map.host_id);
    on_host(users, ROOT).unwrap_or(Owner { user: first(&users.uids), group: first(&users.gids) })
}

fn on_host(users: &Users, owner: Owner) -> Option<Owner> {
    users.on_host(owner.user, owner.group).map(|(user, group)| Owner { user, group })
}

/// Returns whose a file of the host is in a container with users of its own.
fn inside(users: &Users, owner: Owner) -> Option<Owner> {
    let inside = |maps: &[IdMapping], id: u32| {
        maps.iter().find_map(|map| {
            let offset = id.checked_sub(map.host_id).filter(|&offset| offset < map.size)?;
            map.container_id.checked_add(offset)
        })
    };
    Some(Owner { user: inside(&users.uids, owner.user)?, group: inside(&users.gids, owner.group)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(maps: &[(u32, u32, u32)]) -> Users {
        let map = |&(container_id, host_id, size)| IdMapping { container_id, host_id, size };
        let maps: Vec<IdMapping> = maps.iter().map(map).collect();
        Users { uids: maps.clone(), gids: maps }
    }

    fn both(id: u32) -> Owner {
        Owner { user: id, group: id }
    }

    #[test]
    fn root_knows_the_owners_of_a_container_by_its_maps() {
        let numbers = Numbers::of_root(Some(users(&[(0, 70_000, 10)])));
        assert_eq!((numbers.maker, numbers.inside(both(70_005))), (both(70_000), both(5)));
        assert_eq!(numbers.inside(both(3)), both(3), "what is nobody's there stays whose it is");
        assert_eq!((numbers.here(both(5)), numbers.here(both(10))), (Some(both(70_005)), None));
        assert_eq!(Numbers::of_root(Some(users(&[(5, 9, 1)]))).maker, both(9));
        for same in [None, Some(users(&[(0, 0, u32::MAX)])), Some(users(&[(0, 0, 1000)]))] {
            let numbers = Numbers::of_root(same);
            assert_eq!((numbers.maker, numbers.here(both(70_000))), (ROOT, Some(both(70_000))));
            let chosen = numbers.chosen(CopyOwners::Source, &|owner| Some(owner));
            assert!(matches!(chosen, Owners::Kept));
        }
    }

    #[test]
    fn an_ordinary_user_is_root_wherever_that_is_somebody_there() {
        let own = || users(&[(0, 1000, 1), (1, 100_000, 65_536)]);
        let keep_id = users(&[(0, 100_999, 1), (1, 100_000, 999), (1000, 1000, 1)]);
        for (container, maker) in [
            (None, ROOT),
            (Some(own()), ROOT),
            (Some(keep_id), ROOT),
            (Some(users(&[(0, 100_000, 10)])), both(1)),
            (Some(users(&[(7, 100_004, 10)])), both(5)),
        ] {
            assert_eq!(Numbers::of_user(container.as_ref(), own()).maker, maker, "{container:?}");
        }
        let numbers = Numbers::of_user(None, own());
        assert_eq!((numbers.here(both(33)), numbers.here(both(70_000))), (Some(both(33)), None));
        let alone = Numbers::of_user(None, users(&[(0, 1000, 1)]));
        assert!(matches!(alone.chosen(CopyOwners::Source, &|owner| Some(owner)), Owners::Caller));
    }

    #[test]
    fn files_are_made_by_a_thread_that_ends() {
        assert_eq!(
            Numbers::of_root(None).making(|| Ok(std::thread::current().id())).unwrap(),
            std::thread::current().id()
        );
    }
}
