//! Who asks: root, or someone who needs a user namespace.

use std::process::Command;

use anyhow::{Result, bail};

use crate::invoke;

/// The caller's ids, and whether they are the machine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rank: Rank,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// Root of the machine.
    Root,
    /// Anyone else; root of a user namespace too, who may set no limits and mount no devices either.
    Ordinary,
}

/// A file below /proc/sys, the value that forbids user namespaces, and the setting that allows them.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
];

impl User {
    /// Fails, naming the setting, when an ordinary user may make no user namespaces.
    pub(super) fn of_this_process() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let user = Self { uid, gid: rustix::process::getegid().as_raw(), rank: Rank::of(uid, &map) };
        if !user.is_root() {
            let mut attempt = Command::new("unshare");
            attempt.args(["--user", "--map-root-user", "--mount", "true"]);
            if let Err(error) = invoke::quietly(&mut attempt) {
                let read = |path: &str| std::fs::read_to_string(format!("/proc/sys/{path}")).ok();
                bail!("this system forbids user namespaces ({error:#}){}", advice(read));
            }
        }
        Ok(user)
    }

    pub(super) fn is_root(self) -> bool {
        self.rank == Rank::Root
    }
}

impl Rank {
    /// `map` is the text of /proc/self/uid_map: outside of all user namespaces every id is itself.
    fn of(uid: u32, map: &str) -> Self {
        const EVERY_ID: [&str; 3] = ["0", "0", "4294967295"];
        match uid == 0 && map.split_whitespace().eq(EVERY_ID) {
            true => Self::Root,
            false => Self::Ordinary,
        }
    }
}

/// Which settings forbid it, as far as the system tells.
fn advice(read: impl Fn(&str) -> Option<String>) -> String {
    let forbids =
        |(path, value, _): &&(&str, &str, &str)| read(path).is_some_and(|found| found.trim() == *value);
    let settings = Vec::from_iter(SETTINGS.iter().filter(forbids).map(|(.., setting)| *setting));
    match settings.is_empty() {
        true => "; no known setting says so, perhaps a container or a security module around this shell"
            .to_owned(),
        false => format!("; root can allow them: sysctl -w {}", settings.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machines_root_is_root() {
        for (uid, map, expected) in [
            (0, "         0          0 4294967295\n", Rank::Root),
            (1000, "         0          0 4294967295\n", Rank::Ordinary),
            (0, "         0       1000          1\n", Rank::Ordinary),
            (0, "         0       1000          1\n         1     100000      65536\n", Rank::Ordinary),
            (0, "", Rank::Ordinary),
        ] {
            assert_eq!(Rank::of(uid, map), expected, "{uid} with {map:?}");
        }
    }

    #[test]
    fn the_setting_is_named() {
        let ubuntu = |path: &str| match path {
            "user/max_user_namespaces" => Some("96365\n".to_owned()),
            "kernel/apparmor_restrict_unprivileged_userns" => Some("1\n".to_owned()),
            _ => None,
        };
        assert_eq!(
            advice(ubuntu),
            "; root can allow them: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        );
        assert!(advice(|_| Some("0".to_owned())).contains("user.max_user_namespaces=15000"));
        assert!(advice(|_| None).starts_with("; no known setting"));
    }
}
