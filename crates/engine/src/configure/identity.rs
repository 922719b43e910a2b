//! As whom a process runs: names and numbers, decided by the image's own `/etc/passwd` and `/etc/group`.
//!
//! The rules are docker's. A word is looked for as a name and as a number in the file's order; a number that is nowhere is
//! itself; a name that is nowhere is an error. A line whose ids are not numbers is nobody's: read as 0, it would be root's.

use super::{ImageFiles, invalid};
use crate::error::Result;
use crate::request::UserSpec;

/// A user as the kernel and the shell know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, the group itself among them, so that none of its rights depends on the primary one.
    pub groups: Vec<u32>,
    /// Home directory; `/` where the image has none.
    pub home: String,
}

/// Decides who a user is, with further groups.
///
/// # Errors
/// A name that the image does not have.
pub fn resolve(files: ImageFiles<'_>, user: &UserSpec, groups: &[String]) -> Result<Identity> {
    let wanted = if user.user.is_empty() { "0" } else { &user.user };
    let entry = lines(files.passwd).find_map(|line| Entry::read(&line).filter(|entry| entry.is(wanted)));
    let (uid, own_group, home, name) = match (entry, number(wanted)) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home, Some(entry.name)),
        (None, Some(uid)) => (uid, 0, String::new(), None),
        (None, None) => {
            let reason = "the image's /etc/passwd has no such user; give a name of it or a number";
            return Err(invalid(format!("user {wanted:?}"), reason));
        }
    };
    let gid = match &user.group {
        Some(group) => group_id(files.group, group)?,
        None => own_group,
    };
    let mut all = vec![gid];
    if let (None, Some(name)) = (&user.group, &name) {
        all.extend(lines(files.group).filter_map(|line| member_of(&line, name)));
    }
    for group in groups {
        all.push(group_id(files.group, group)?);
    }
    let mut distinct = Vec::with_capacity(all.len());
    all.into_iter().for_each(|group| {
        if !distinct.contains(&group) {
            distinct.push(group);
        }
    });
    let home = if home.starts_with('/') { home } else { "/".to_owned() };
    Ok(Identity { uid, gid, groups: distinct, home })
}

/// Tells whether there is a user of this name or number.
pub(super) fn has_user(passwd: &[u8], wanted: &str) -> bool {
    lines(passwd).any(|line| Entry::read(&line).is_some_and(|entry| entry.is(wanted)))
}

/// Tells whether there is a group of this name or number.
pub(super) fn has_group(file: &[u8], wanted: &str) -> bool {
    lines(file)
        .any(|line| group(&line).is_some_and(|(name, gid, _)| name == wanted || number(wanted) == Some(gid)))
}

/// A line of `/etc/passwd`.
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Entry {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        let (uid, gid) = (number(fields.nth(1)?)?, number(fields.next()?)?);
        Some(Self { name, uid, gid, home: fields.nth(1).unwrap_or_default().to_owned() })
    }

    fn is(&self, wanted: &str) -> bool {
        self.name == wanted || number(wanted) == Some(self.uid)
    }
}

fn group_id(file: &[u8], wanted: &str) -> Result<u32> {
    let found = lines(file).find_map(|line| {
        let (name, gid, _) = group(&line)?;
        (name == wanted || number(wanted) == Some(gid)).then_some(gid)
    });
    found.or_else(|| number(wanted)).ok_or_else(|| {
        let reason = "the image's /etc/group has no such group; give a name of it or a number";
        invalid(format!("group {wanted:?}"), reason)
    })
}

/// Returns the group of a line in which a user is listed.
fn member_of(line: &str, user: &str) -> Option<u32> {
    let (_, gid, members) = group(line)?;
    members.split(',').any(|member| member == user).then_some(gid)
}

/// Reads a line of `/etc/group`: name, id, members.
fn group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = number(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

/// Reads an id: digits alone. The last number stands for nobody in system calls.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id| digits && id != u32::MAX)
}

/// Names of people come in any encoding.
fn lines(file: &[u8]) -> impl Iterator<Item = String> {
    file.split(|&byte| byte == b'\n').map(|line| String::from_utf8_lossy(line).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nbroken:x:zero:0::/:\n1001:x:7:8::/seven:\nwww:x:33:34:\xff:/var/www:\n\
        short:x:5\nnohome:x:6:6::relative:\n";
    const GROUP: &[u8] =
        b"root:x:0:\nadm:x:4:www,root\nwww:x:34:www\naudio:x:29:www,\nbad:x:many:www\n77:x:9:\n";

    fn resolved(user: &str, groups: &[&str]) -> std::result::Result<(u32, u32, Vec<u32>, String), String> {
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        let files = ImageFiles { passwd: PASSWD, group: GROUP };
        let identity = resolve(files, &user.parse().unwrap(), &groups).map_err(|error| error.to_string())?;
        Ok((identity.uid, identity.gid, identity.groups, identity.home))
    }

    #[test]
    fn names_and_numbers_are_the_image_s() {
        for (user, groups, uid, gid, all, home) in [
            ("", &[][..], 0, 0, &[0, 4][..], "/root"),
            ("0", &[], 0, 0, &[0, 4], "/root"),
            ("www", &[], 33, 34, &[34, 4, 29], "/var/www"),
            ("33", &[], 33, 34, &[34, 4, 29], "/var/www"),
            ("www:4", &["audio", "77"], 33, 4, &[4, 29, 9], "/var/www"),
            ("www:adm", &[], 33, 4, &[4], "/var/www"),
            ("5000", &[], 5000, 0, &[0], "/"),
            ("5000:6000", &["7000"], 5000, 6000, &[6000, 7000], "/"),
            ("1001", &[], 7, 8, &[8], "/seven"),
            ("nohome", &[], 6, 6, &[6], "/"),
            (":adm", &[], 0, 4, &[4], "/root"),
        ] {
            assert_eq!(resolved(user, groups), Ok((uid, gid, all.to_vec(), home.to_owned())), "{user}");
        }
    }

    #[test]
    fn who_is_nowhere_is_nobody() {
        for (user, groups, words) in [
            ("nobody", &[][..], "/etc/passwd has no such user"),
            ("broken", &[], "no such user"),
            ("short", &[], "no such user"),
            ("4294967295", &[], "no such user"),
            ("+1", &[], "no such user"),
            ("www:nobody", &[], "/etc/group has no such group"),
            ("www:bad", &[], "no such group"),
            ("www", &["nobody"], "no such group"),
        ] {
            let error = resolved(user, groups).unwrap_err();
            assert!(error.contains(words), "{user}: {error}");
        }
        assert!(resolve(ImageFiles::default(), &"root".parse().unwrap(), &[]).is_err());
        assert_eq!(resolve(ImageFiles::default(), &UserSpec::default(), &[]).unwrap().home, "/");
    }
}
