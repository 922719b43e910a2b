//! The demo's `config.json`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use bulkhead_measure::bundle::{self, Limits};
use bulkhead_seccomp::DEFAULT_CAPABILITIES;
use bulkhead_spec::{Config, IdMapping, Linux, Mount, Namespace, NamespaceType};

use super::ground::{Layout, Piece};
use super::scratch::Scratch;
use super::user::User;

/// The annotation by which bulkrun takes an overlay as the root.
const OVERLAY: &str = "org.bulkhead.rootfs.overlay";

/// What the demo's container may use.
const LIMITS: Limits = Limits { memory: 512 << 20, milli_cpus: 1000, tasks: 512 };

/// The configuration that runs `args`, docker-like, in every namespace there is.
pub(super) fn config(
    scratch: &Scratch,
    layout: &Layout,
    user: &User,
    args: &[String],
    terminal: bool,
) -> Result<Config> {
    let root = scratch.root().display().to_string();
    let mut config =
        bundle::config(&root, args, DEFAULT_CAPABILITIES, Some(LIMITS), &format!("/{}", scratch.id()))?;
    if let Some(process) = &mut config.process {
        process.terminal = terminal;
        process.env.extend(std::env::var("TERM").ok().map(|term| format!("TERM={term}")));
    }
    let linux = config.linux.get_or_insert_default();
    linux.namespaces.push(Namespace { kind: NamespaceType::Time, path: None });
    if !user.is_root() {
        alone(linux, &mut config.mounts, *user);
    }
    match layout {
        Layout::Whole => {
            let (upper, work) = scratch.layer("root", Path::new("/"))?;
            let overlay = serde_json::json!({ "lower": ["/"], "upper": upper, "work": work });
            config.annotations.insert(OVERLAY.to_owned(), overlay.to_string());
        }
        Layout::Pieces(pieces) => {
            let mut mounts = Vec::new();
            for (name, piece) in pieces {
                mounts.extend(place(scratch, user, name, piece)?);
            }
            config.mounts.splice(0..0, mounts);
        }
    }
    Ok(config)
}

/// An ordinary user is root of a user namespace with that one id in it, and may set no limits.
fn alone(linux: &mut Linux, mounts: &mut [Mount], user: User) {
    let map = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
    linux.namespaces.push(Namespace { kind: NamespaceType::User, path: None });
    linux.uid_mappings = map(user.uid);
    linux.gid_mappings = map(user.gid);
    linux.resources = None;
    linux.cgroups_path = None;
    for mount in mounts {
        mount.options.retain(|option| option != "gid=5"); // No such group in this namespace.
    }
}

/// Puts one entry of `/` into the root directory and returns the mount that fills it.
fn place(scratch: &Scratch, user: &User, name: &str, piece: &Piece) -> Result<Option<Mount>> {
    let at = scratch.root().join(name);
    let host = format!("/{name}");
    if let Piece::Link(target) = piece {
        if at.symlink_metadata().is_err() {
            symlink(target, &at).with_context(|| format!("copy the link {host}"))?;
        }
        return Ok(None);
    }
    fs::create_dir_all(&at).with_context(|| format!("make {}", at.display()))?;
    Ok(match piece {
        Piece::Link(_) | Piece::Empty => None,
        Piece::Tmpfs => {
            let options = ["nosuid", "nodev", "mode=755"].map(str::to_owned);
            Some(bundle::mount(&host, "tmpfs", "tmpfs", Vec::from(options)))
        }
        Piece::Bound => {
            Some(bundle::mount(&host, "bind", &host, Vec::from(["rbind", "rro"].map(str::to_owned))))
        }
        Piece::Overlay => {
            let (upper, work) = scratch.layer(name, Path::new(&host))?;
            let mut options = vec![
                format!("lowerdir={}", escape(&host)),
                format!("upperdir={}", upper.display()),
                format!("workdir={}", work.display()),
            ];
            if !user.is_root() {
                options.push("userxattr".to_owned()); // trusted.* attributes are for the host's root.
            }
            Some(bundle::mount(&host, "overlay", "overlay", options))
        }
    })
}

/// Escapes what separates lower directories.
fn escape(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::user::Rank;

    const ROOT: User = User { uid: 0, gid: 0, rank: Rank::Root };
    const ALICE: User = User { uid: 1000, gid: 100, rank: Rank::Ordinary };

    /// The configuration of a `true` on this layout, made in a scratch of its own.
    fn configured(layout: &Layout, user: User) -> Config {
        let scratch = Scratch::make(Path::new("true")).unwrap();
        let config = config(&scratch, layout, &user, &["true".to_owned()], false);
        scratch.remove().unwrap();
        config.unwrap()
    }

    fn kinds(config: &Config) -> Vec<NamespaceType> {
        config.linux.iter().flat_map(|linux| &linux.namespaces).map(|namespace| namespace.kind).collect()
    }

    #[test]
    fn root_has_every_namespace_but_user_and_limits() {
        let config = configured(&Layout::Whole, ROOT);
        let linux = config.linux.as_ref().unwrap();
        for kind in NamespaceType::ALL {
            assert_eq!(kinds(&config).contains(kind), *kind != NamespaceType::User, "{kind}");
        }
        assert!(linux.resources.is_some() && linux.seccomp.is_some() && linux.cgroups_path.is_some());
        let overlay: serde_json::Value = serde_json::from_str(&config.annotations[OVERLAY]).unwrap();
        assert_eq!(overlay["lower"], serde_json::json!(["/"]));
    }

    #[test]
    fn a_user_has_the_user_namespace_with_one_id() {
        let config = configured(&Layout::Pieces(vec![("usr".to_owned(), Piece::Overlay)]), ALICE);
        let linux = config.linux.as_ref().unwrap();
        assert_eq!(kinds(&config).len(), NamespaceType::ALL.len());
        assert_eq!(linux.uid_mappings, [IdMapping { container_id: 0, host_id: 1000, size: 1 }]);
        assert_eq!(linux.gid_mappings, [IdMapping { container_id: 0, host_id: 100, size: 1 }]);
        assert!(linux.resources.is_none());
        let usr = &config.mounts[0];
        assert_eq!((usr.destination.as_str(), usr.options[0].as_str()), ("/usr", "lowerdir=/usr"));
        assert!(usr.options.contains(&"userxattr".to_owned()));
        assert!(!config.mounts.iter().any(|mount| mount.options.contains(&"gid=5".to_owned())));
    }

    #[test]
    fn pieces_come_before_the_fresh_mounts() {
        let pieces = [
            ("bin", Piece::Link("usr/bin".into())),
            ("run", Piece::Tmpfs),
            ("usr", Piece::Overlay),
            ("var", Piece::Bound),
        ];
        let pieces = pieces.into_iter().map(|(name, piece)| (name.to_owned(), piece)).collect();
        let config = configured(&Layout::Pieces(pieces), ROOT);
        let destinations = Vec::from_iter(config.mounts.iter().map(|mount| mount.destination.as_str()));
        assert_eq!(destinations[..4], ["/run", "/usr", "/var", "/proc"]);
        assert_eq!(config.mounts[2].options, ["rbind", "rro"]);
    }
}
