//! Which ids a container has in a user namespace of its own.

use bulkhead_shim::users::IdMapping;

use super::{Caller, ImageFiles, Subordinate, Users, invalid};
use crate::error::Result;
use crate::request::{IdMap, Request, UserNamespace};

/// Where ids are taken from for `--userns auto` when the host's `/etc/subuid` and `/etc/subgid` name none for containers: above
/// those that distributions give to people.
const POOL: &[(u32, u32)] = &[(1 << 30, 1 << 30)];
/// How many ids a container has at least that gets its own: those that systems have for their own users and nobody.
const FEWEST: u32 = 65_536;

/// Decides the ids of a container when it is created; nothing where they are the host's, or those of another container.
///
/// `own` are the ids that the caller may give to containers, `taken` the users of all other containers; only
/// [`UserNamespace::Auto`] looks at the image's files and at others.
///
/// # Errors
/// Ids that the caller has not, no ids left.
pub fn users(
    request: &Request,
    (caller, own): (Caller, &Subordinate),
    image: ImageFiles<'_>,
    taken: &[Users],
) -> Result<Option<Users>> {
    let asked = request.namespaces.user.as_ref();
    match (asked, caller) {
        (Some(UserNamespace::Container(_) | UserNamespace::Pod), _) => Ok(None),
        (None | Some(UserNamespace::Host), Caller::Root) => Ok(None),
        (None | Some(UserNamespace::Host), Caller::User { uid, gid }) => {
            Ok(Some(Users { uids: around(&own.uids, 0, uid), gids: around(&own.gids, 0, gid) }))
        }
        (Some(UserNamespace::NoMap), Caller::Root) => {
            let reason = "it is for ordinary users; auto maps nobody of the host's users either";
            Err(invalid("--userns nomap", reason))
        }
        (Some(UserNamespace::Auto { .. } | UserNamespace::NoMap), Caller::User { .. }) => {
            let reason = "the files of images belong to you, and only root can show them as another's: leave it out, \
                          or use keep-id to be yourself in the container";
            Err(invalid("--userns auto or nomap", reason))
        }
        (Some(UserNamespace::KeepId { .. }), Caller::Root) => {
            let reason =
                "it is for ordinary users, and root is root already; use --uidmap, or owner for a mount";
            Err(invalid("--userns keep-id", reason))
        }
        (Some(UserNamespace::KeepId { uid: inside, gid: group }), Caller::User { uid, gid }) => {
            let (inside, group) = (inside.unwrap_or(uid), group.unwrap_or(gid));
            let users = Users { uids: around(&own.uids, inside, uid), gids: around(&own.gids, group, gid) };
            Ok(Some(users))
        }
        (Some(UserNamespace::Map { uids, gids }), _) => {
            let list = |maps: &[IdMap]| maps.iter().map(|map| map.0).collect::<Vec<_>>();
            let (uids, gids) = match (uids.is_empty(), gids.is_empty()) {
                (true, true) => return Err(invalid("--uidmap", "expected at least one range")),
                (true, false) => (list(gids), list(gids)),
                (false, true) => (list(uids), list(uids)),
                (false, false) => (list(uids), list(gids)),
            };
            check("--uidmap", &uids)?;
            check("--gidmap", &gids)?;
            Ok(Some(Users { uids, gids }))
        }
        (Some(UserNamespace::Auto { size }), Caller::Root) => auto(*size, own, image, taken).map(Some),
    }
}

/// Says them as the runtime's configuration does.
pub(crate) fn mappings(maps: &[IdMapping]) -> Vec<bulkhead_spec::IdMapping> {
    let said =
        |&IdMapping { container_id, host_id, size }| bulkhead_spec::IdMapping { container_id, host_id, size };
    maps.iter().map(said).collect()
}

/// Maps the caller to one id of the container, and the subordinate ids to the others: in the order that they have where the
/// caller is root, since an image's files keep the ids by which they were unpacked so. Root is then whoever would be the caller
/// inside, or the last.
fn around(ranges: &[(u32, u32)], inside: u32, caller: u32) -> Vec<IdMapping> {
    let ranges: Vec<_> = ranges.iter().filter(|(_, count)| *count > 0).collect();
    let mut maps = vec![IdMapping { container_id: inside, host_id: caller, size: 1 }];
    let mut root = None;
    let mut next = 1_u32;
    for (index, &&(first, count)) in ranges.iter().enumerate() {
        let end = next.saturating_add(count);
        let is_last = index + 1 == ranges.len();
        let place = match inside {
            0 => None,
            _ if (next..end).contains(&inside) => Some(inside),
            _ if is_last && root.is_none() => end.checked_sub(1),
            _ => None,
        };
        let map = |from: u32, to: u32| IdMapping {
            container_id: from,
            host_id: first + (from - next),
            size: to - from,
        };
        match place {
            Some(place) => {
                root = Some(first + (place - next));
                maps.extend([map(next, place), map(place + 1, end)]);
            }
            None => maps.push(map(next, end)),
        }
        next = end;
    }
    maps.extend(root.map(|host_id| IdMapping { container_id: 0, host_id, size: 1 }));
    maps.retain(|map| map.size > 0);
    maps.sort_by_key(|map| map.container_id);
    maps
}

/// Finds ids that no other container has.
fn auto(size: Option<u32>, own: &Subordinate, image: ImageFiles<'_>, taken: &[Users]) -> Result<Users> {
    let needed = highest_id(image).saturating_add(1);
    let size = size.unwrap_or(needed.max(FEWEST));
    let wrong = |reason: String| invalid("--userns auto", reason);
    if size < needed {
        return Err(wrong(format!(
            "the image's files of users go up to {}, which takes size={needed}",
            needed - 1
        )));
    }
    let free = |ranges: &[(u32, u32)], of: fn(&Users) -> &[IdMapping], file: &str| {
        let ranges = if ranges.is_empty() { POOL } else { ranges };
        let taken: Vec<IdMapping> = taken.iter().flat_map(of).copied().collect();
        let first = first_free(ranges, &taken, size).ok_or_else(|| {
            wrong(format!("there are not {size} ids left; give more in {file}, or remove containers"))
        })?;
        Result::Ok(vec![IdMapping { container_id: 0, host_id: first, size }])
    };
    Ok(Users {
        uids: free(&own.uids, |users| &users.uids, "/etc/subuid")?,
        gids: free(&own.gids, |users| &users.gids, "/etc/subgid")?,
    })
}

fn first_free(ranges: &[(u32, u32)], taken: &[IdMapping], size: u32) -> Option<u32> {
    for &(start, count) in ranges {
        let end = start.checked_add(count)?;
        let mut first = start;
        while first.checked_add(size).is_some_and(|last| last <= end) {
            let collides = |map: &&IdMapping| {
                u64::from(map.host_id) < u64::from(first) + u64::from(size)
                    && u64::from(first) < u64::from(map.host_id) + u64::from(map.size)
            };
            match taken.iter().find(collides) {
                None => return Some(first),
                Some(map) => first = map.host_id.checked_add(map.size)?,
            }
        }
    }
    None
}

/// The highest id in the image's files of users; nobody's, which every distribution has, does not count.
fn highest_id(image: ImageFiles<'_>) -> u32 {
    let fields = |file: &[u8], at: &'static [usize]| {
        let text = String::from_utf8_lossy(file).into_owned();
        let lines: Vec<u32> = text
            .lines()
            .flat_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                at.iter().filter_map(|&index| fields.get(index)?.parse().ok()).collect::<Vec<u32>>()
            })
            .collect();
        lines
    };
    let all = [fields(image.passwd, &[2, 3]), fields(image.group, &[2])].concat();
    all.into_iter().filter(|&id| id < FEWEST - 2).max().unwrap_or(0)
}

/// Refuses ranges that the kernel would.
fn check(flag: &str, maps: &[IdMapping]) -> Result<()> {
    let overlap = |a: (u32, u32), b: (u32, u32)| {
        u64::from(a.0) < u64::from(b.0) + u64::from(b.1) && u64::from(b.0) < u64::from(a.0) + u64::from(a.1)
    };
    for (index, map) in maps.iter().enumerate() {
        let collides = |other: &&IdMapping| {
            overlap((map.container_id, map.size), (other.container_id, other.size))
                || overlap((map.host_id, map.size), (other.host_id, other.size))
        };
        if let Some(other) = maps[..index].iter().find(collides) {
            let text = |map: &IdMapping| format!("{}:{}:{}", map.container_id, map.host_id, map.size);
            return Err(invalid(format!("{flag} {}", text(map)), format!("it overlaps {}", text(other))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Namespaces;

    const IMAGE: ImageFiles<'_> = ImageFiles {
        passwd: b"root:x:0:0::/:\nnobody:x:65534:65534::/:\napp:x:70000:70000::/:\nwww:x:33:34::/:\n",
        group: b"adm:x:400:\n",
    };
    const ME: Caller = Caller::User { uid: 1000, gid: 100 };

    fn decided(
        user: &str,
        caller: Caller,
        ranges: &[(u32, u32)],
        taken: &[IdMapping],
    ) -> std::result::Result<String, String> {
        let user = match user.split_once(' ') {
            Some((uids, gids)) => Some(UserNamespace::Map {
                uids: uids.split(',').filter(|map| !map.is_empty()).map(|map| map.parse().unwrap()).collect(),
                gids: gids.split(',').filter(|map| !map.is_empty()).map(|map| map.parse().unwrap()).collect(),
            }),
            None if user.is_empty() => None,
            None => Some(user.parse().unwrap()),
        };
        let request =
            Request { namespaces: Namespaces { user, ..Namespaces::default() }, ..Request::default() };
        let own = Subordinate { uids: ranges.to_vec(), gids: ranges.to_vec() };
        let taken = Users { uids: taken.to_vec(), gids: taken.to_vec() };
        let decided = users(&request, (caller, &own), IMAGE, &[taken]).map_err(|error| error.to_string())?;
        let text = |maps: &[IdMapping]| {
            let words: Vec<String> =
                maps.iter().map(|map| format!("{}:{}:{}", map.container_id, map.host_id, map.size)).collect();
            words.join(",")
        };
        Ok(decided.map_or("none".to_owned(), |users| format!("{} {}", text(&users.uids), text(&users.gids))))
    }

    #[test]
    fn ids_are_found_in_each_way() {
        let sub = &[(100_000, 65_536)][..];
        let two = &[(100_000, 10), (200_000, 10)][..];
        for (user, caller, ranges, expected) in [
            ("", Caller::Root, sub, "none"),
            ("host", Caller::Root, sub, "none"),
            ("container:db", ME, sub, "none"),
            ("", ME, sub, "0:1000:1,1:100000:65536 0:100:1,1:100000:65536"),
            ("", ME, &[][..], "0:1000:1 0:100:1"),
            (
                "keep-id:uid=5,gid=0",
                ME,
                sub,
                "0:100004:1,1:100000:4,5:1000:1,6:100005:65531 0:100:1,1:100000:65536",
            ),
            (
                "keep-id:uid=12,gid=10",
                ME,
                two,
                "0:200001:1,1:100000:10,11:200000:1,12:1000:1,13:200002:8 0:100009:1,1:100000:9,10:100:1,11:200000:10",
            ),
            (
                "keep-id:uid=50,gid=1",
                ME,
                two,
                "0:200009:1,1:100000:10,11:200000:9,50:1000:1 0:100000:1,1:100:1,2:100001:9,11:200000:10",
            ),
            ("keep-id:uid=7,gid=7", ME, &[][..], "7:1000:1 7:100:1"),
            ("0:5000:10 ", Caller::Root, sub, "0:5000:10 0:5000:10"),
            ("0:5000:10 0:6000:10,10:7000:1", ME, sub, "0:5000:10 0:6000:10,10:7000:1"),
            ("auto", Caller::Root, &[], "0:1073741824:65536 0:1073741824:65536"),
            ("auto:size=401", Caller::Root, sub, "0:100000:401 0:100000:401"),
            ("auto", Caller::Root, sub, "0:100000:65536 0:100000:65536"),
        ] {
            assert_eq!(decided(user, caller, ranges, &[]).as_deref(), Ok(expected), "{user}");
        }
    }

    #[test]
    fn others_keep_their_ids() {
        let taken = |host_id, size| IdMapping { container_id: 0, host_id, size };
        let taken = [taken(100_000, 500), taken(100_600, 100), taken(7, 1)];
        let found = decided("auto:size=401", Caller::Root, &[(100_000, 1000), (300_000, 500)], &taken);
        assert_eq!(found.unwrap().split(' ').next(), Some("0:300000:401"));
        let found = decided("auto:size=401", Caller::Root, &[(100_000, 1200)], &taken);
        assert_eq!(found.unwrap().split(' ').next(), Some("0:100700:401"));
        let error = decided("auto:size=401", Caller::Root, &[(100_000, 1000)], &taken).unwrap_err();
        assert!(error.contains("not 401 ids left") && error.contains("/etc/subuid"), "{error}");
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (user, caller, words) in [
            ("keep-id", Caller::Root, "for ordinary users"),
            ("auto:size=7", Caller::Root, "takes size=401"),
            ("auto", ME, "leave it out"),
            ("nomap", ME, "use keep-id"),
            ("nomap", Caller::Root, "auto maps nobody"),
            ("0:0:10,5:100:10 ", ME, "--uidmap 5:100:10: it overlaps 0:0:10"),
            ("0:0:1 0:0:1,1:0:1", ME, "--gidmap 1:0:1: it overlaps"),
            (" ", ME, "at least one range"),
        ] {
            let error = decided(user, caller, &[(100_000, 65_536)], &[]).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
