//! The ids of a user namespace, and how an ordinary user gives them to a child.

mod owned;

use std::io;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, getegid, geteuid};
use serde::{Deserialize, Serialize};

use crate::limited;

pub use owned::{NotMade, Owner, make, opened};

/// Maps a range of ids.
///
/// Source: user_namespaces(7), "User and group ID mappings".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id in the namespace.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first id on the host.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// The number of ids, at least 1.
    pub size: u32,
}

/// The ids of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// The user ids.
    pub uids: Vec<IdMapping>,
    /// The group ids.
    pub gids: Vec<IdMapping>,
}

impl Users {
    /// Returns what a user and a group of the namespace are on the host.
    pub fn on_host(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        Some((on_host(&self.uids, uid)?, self.group_on_host(gid)?))
    }

    /// Returns what a group of the namespace is on the host.
    pub fn group_on_host(&self, gid: u32) -> Option<u32> {
        on_host(&self.gids, gid)
    }

    /// Tells whether there is nobody but one user, who then has no supplementary groups: the price of a map that needs no
    /// rights (user_namespaces(7), "setgroups").
    pub fn is_one(&self) -> bool {
        matches!(self.gids[..], [IdMapping { size: 1, .. }])
    }
}

fn on_host(maps: &[IdMapping], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| {
        let offset = id.checked_sub(map.container_id).filter(|&offset| offset < map.size)?;
        map.host_id.checked_add(offset)
    })
}

/// Why ids were not mapped.
#[derive(Debug, thiserror::Error)]
pub enum NotMapped {
    /// The kernel does not take them from this process, or a program is not there.
    #[error("{doing}")]
    System {
        /// What was tried.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// A program refused them.
    #[error(
        "{program}: {said}: it must be set-user-id root or have its file capability, \
         and /etc/subuid and /etc/subgid must not give an id twice"
    )]
    Refused {
        /// newuidmap or newgidmap.
        program: &'static str,
        /// Its words.
        said: String,
    },
}

/// How long a program may take to map ids. It may have to ask a directory service for the user's name.
const PATIENCE: Duration = Duration::from_secs(15);

/// Maps the ids of a child that is in a new user namespace. Further ids than the caller's own come by newuidmap(1) and
/// newgidmap(1); with the own group alone nobody there has supplementary groups (user_namespaces(7)).
///
/// # Errors
/// Ids that are not the caller's; a program that does not end within 15 seconds, and is killed.
pub fn map(child: Pid, users: &Users) -> Result<(), NotMapped> {
    let Users { uids, gids } = users;
    if is_only(uids, geteuid().as_raw()) {
        write(child, "uid_map", &line(uids))?;
    } else {
        ask(("newuidmap", PATIENCE), child, uids)?;
    }
    if is_only(gids, getegid().as_raw()) {
        write(child, "setgroups", "deny")?;
        write(child, "gid_map", &line(gids))
    } else {
        ask(("newgidmap", PATIENCE), child, gids)
    }
}

fn is_only(maps: &[IdMapping], own: u32) -> bool {
    matches!(maps, [map] if map.size == 1 && map.host_id == own)
}

fn line(maps: &[IdMapping]) -> String {
    maps.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size)).collect()
}

fn write(child: Pid, file: &str, text: &str) -> Result<(), NotMapped> {
    let path = format!("/proc/{}/{file}", child.as_raw_nonzero());
    let doing = || format!("write {:?} to {path}", text.trim_end());
    std::fs::write(&path, text).map_err(|source| NotMapped::System { doing: doing(), source })
}

fn ask(
    (program, patience): (&'static str, Duration),
    child: Pid,
    maps: &[IdMapping],
) -> Result<(), NotMapped> {
    let mut command = Command::new(program);
    command.arg(child.as_raw_nonzero().to_string());
    for map in maps {
        command.args([map.container_id, map.host_id, map.size].map(|number| number.to_string()));
    }
    // Whoever waits here holds a container, or a pod.
    let output = limited::output(&mut command, patience)
        .map_err(|source| NotMapped::System { doing: format!("run {program}"), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(NotMapped::Refused { program, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_program_that_hangs_is_not_waited_for() {
        let begin = Instant::now();
        // It is given a number as all programs that map are, and takes it for seconds.
        let child = Pid::from_raw(1000).unwrap();
        let error = ask(("sleep", Duration::from_secs(1)), child, &[]).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(error.to_string(), "run sleep");
        assert_eq!(source, "it had not ended after 1 seconds, and was killed");
        assert!(begin.elapsed() < Duration::from_secs(100));
        ask(("true", PATIENCE), child, &[]).unwrap();
        let refused = ask(("false", PATIENCE), child, &[]).unwrap_err();
        assert!(matches!(refused, NotMapped::Refused { program: "false", .. }), "{refused}");
    }
}
