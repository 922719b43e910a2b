//! Who asks: root, or someone who needs a user namespace.

use std::process::Command;

use anyhow::{Result, bail};

use crate::invoke;

/// The caller's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
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
        let user = Self { uid, gid: rustix::process::getegid().as_raw() };
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
        self.uid == 0
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
