//! Bundles: a directory with a root file system and a `config.json`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::fail::OrFail;
use crate::{docker_like, rootfs};

/// A bundle on disk, which is docker's default container until it is edited.
///
/// Every edit writes `config.json` at once, so the file is always what the last edit left. Edits take and return
/// the bundle, so that they chain:
///
/// ```no_run
/// # let sandbox = bulkhead_testkit::Sandbox::new("/usr/bin/bulkrun");
/// let bundle = sandbox
///     .bundle("web")
///     .args(["sh", "-c", "echo $GREETING"])
///     .env("GREETING=hello")
///     .edit(|config| config["process"]["noNewPrivileges"] = true.into());
/// ```
#[derive(Debug, Clone)]
pub struct Bundle {
    id: String,
    directory: PathBuf,
    config: Value,
}

impl Bundle {
    /// Makes a new directory into a bundle for the container `id`, with `cgroups_path` as its cgroup.
    ///
    /// Tests get theirs from [`Sandbox::bundle`](crate::Sandbox::bundle), which chooses all three.
    ///
    /// # Panics
    /// Without busybox-static, or when the directory exists or cannot be written.
    pub fn create(directory: &Path, id: &str, cgroups_path: &str) -> Bundle {
        fs::create_dir(directory).or_fail(format_args!("create {}", directory.display()));
        rootfs::create(&directory.join("rootfs"));
        let config = docker_like::config(cgroups_path);
        Bundle { id: id.to_owned(), directory: directory.to_owned(), config }.edit(|_| {})
    }

    /// Returns the id under which the sandbox runs the container.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the bundle's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the directory that becomes the container's root.
    pub fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Returns the configuration as it stands.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Returns the container's cgroup, relative to each hierarchy; empty when the configuration names none.
    pub fn cgroups_path(&self) -> &str {
        self.config["linux"]["cgroupsPath"].as_str().unwrap_or_default()
    }

    /// Changes the configuration in any way.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut Value)) -> Bundle {
        change(&mut self.config);
        let file = self.directory.join("config.json");
        let text = format!("{:#}\n", self.config);
        fs::write(&file, text).or_fail(format_args!("write {}", file.display()));
        self
    }

    /// Sets the program and its arguments.
    #[must_use]
    pub fn args<A: AsRef<str>>(self, args: impl IntoIterator<Item = A>) -> Bundle {
        let args: Vec<Value> = args.into_iter().map(|arg| arg.as_ref().into()).collect();
        self.edit(|config| config["process"]["args"] = args.into())
    }

    /// Runs a script with the container's shell.
    #[must_use]
    pub fn script(self, script: &str) -> Bundle {
        self.args(["/bin/sh", "-c", script])
    }

    /// Adds a variable, `NAME=value`, to the environment.
    #[must_use]
    pub fn env(self, variable: &str) -> Bundle {
        self.edit(|config| push(&mut config["process"]["env"], variable.into()))
    }

    /// Sets the ids of the process.
    #[must_use]
    pub fn user(self, uid: u32, gid: u32) -> Bundle {
        self.edit(|config| config["process"]["user"] = json!({ "uid": uid, "gid": gid }))
    }

    /// Gives the process a terminal.
    #[must_use]
    pub fn terminal(self) -> Bundle {
        self.edit(|config| config["process"]["terminal"] = true.into())
    }

    /// Adds a mount behind the default ones.
    #[must_use]
    pub fn mount(self, kind: &str, source: impl AsRef<Path>, destination: &str, options: &[&str]) -> Bundle {
        let mount = json!({
            "destination": destination,
            "type": kind,
            "source": source.as_ref(),
            "options": options,
        });
        self.edit(|config| push(&mut config["mounts"], mount))
    }

    /// Binds a path of the host into the container.
    #[must_use]
    pub fn bind(self, source: impl AsRef<Path>, destination: &str, options: &[&str]) -> Bundle {
        self.mount("bind", source, destination, &[&["rbind"], options].concat())
    }

    /// Gives the container a new namespace of this type instead of what it had.
    #[must_use]
    pub fn namespace(self, kind: &str) -> Bundle {
        self.without_namespace(kind)
            .edit(|config| push(&mut config["linux"]["namespaces"], json!({ "type": kind })))
    }

    /// Lets the container join an existing namespace of this type.
    #[must_use]
    pub fn namespace_at(self, kind: &str, path: impl AsRef<Path>) -> Bundle {
        let namespace = json!({ "type": kind, "path": path.as_ref() });
        self.without_namespace(kind).edit(|config| push(&mut config["linux"]["namespaces"], namespace))
    }

    /// Lets the container share the caller's namespace of this type.
    #[must_use]
    pub fn without_namespace(self, kind: &str) -> Bundle {
        self.edit(|config| retain(&mut config["linux"]["namespaces"], |namespace| namespace["type"] != kind))
    }

    /// Adds a hook of a kind such as `createRuntime`.
    #[must_use]
    pub fn hook(self, kind: &str, path: impl AsRef<Path>, args: &[&str]) -> Bundle {
        let hook = json!({ "path": path.as_ref(), "args": args });
        self.edit(|config| push(&mut config["hooks"][kind], hook))
    }

    /// Adds a hook that runs a script with the shell of where it runs.
    #[must_use]
    pub fn hook_script(self, kind: &str, script: &str) -> Bundle {
        self.hook(kind, "/bin/sh", &["sh", "-c", script])
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(self, key: &str, value: &str) -> Bundle {
        self.edit(|config| config["annotations"][key] = value.into())
    }

    /// Sets members of `linux.resources`, each replacing the one of its name.
    #[must_use]
    pub fn resources(self, resources: Value) -> Bundle {
        self.edit(|config| {
            if let Value::Object(members) = resources {
                for (name, value) in members {
                    config["linux"]["resources"][name] = value;
                }
            }
        })
    }

    /// Sets the filter of system calls; by default there is none.
    #[must_use]
    pub fn seccomp(self, filter: Value) -> Bundle {
        self.edit(|config| config["linux"]["seccomp"] = filter)
    }

    /// Makes the root read-only.
    #[must_use]
    pub fn readonly(self) -> Bundle {
        self.edit(|config| config["root"]["readonly"] = true.into())
    }

    /// Puts the container into a user namespace with these maps of `(container, host, size)`.
    ///
    /// The root file system keeps its owner; see [`owned_by`](Bundle::owned_by).
    #[must_use]
    pub fn user_namespace(self, uids: &[(u32, u32, u32)], gids: &[(u32, u32, u32)]) -> Bundle {
        let map = |ids: &[(u32, u32, u32)]| -> Value {
            let entry = |&(container, host, size): &(u32, u32, u32)| json!({ "containerID": container, "hostID": host, "size": size });
            ids.iter().map(entry).collect()
        };
        let (uids, gids) = (map(uids), map(gids));
        self.namespace("user").edit(|config| {
            config["linux"]["uidMappings"] = uids;
            config["linux"]["gidMappings"] = gids;
        })
    }

    /// Makes the container one that an ordinary user can start: one id, the host's network, no cgroup of its own.
    #[must_use]
    pub fn rootless(self, uid: u32, gid: u32) -> Bundle {
        let bundle = self.user_namespace(&[(0, uid, 1)], &[(0, gid, 1)]).without_namespace("network");
        bundle.without_namespace("cgroup").edit(|config| {
            config["linux"]["resources"] = Value::Null;
            config["linux"]["cgroupsPath"] = Value::Null;
            retain(&mut config["mounts"], |mount| mount["type"] != "cgroup" && mount["type"] != "mqueue");
            for mount in config["mounts"].as_array_mut().into_iter().flatten() {
                if mount["destination"] == "/sys" {
                    *mount = json!({
                        "destination": "/sys",
                        "type": "none",
                        "source": "/sys",
                        "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
                    });
                }
                // The group tty is not mapped.
                retain(&mut mount["options"], |option| option != "gid=5");
            }
        })
    }

    /// Gives the root file system to a user of the host, as a user namespace or a rootless runtime needs it.
    #[must_use]
    pub fn owned_by(self, uid: u32, gid: u32) -> Bundle {
        change_owner(&self.directory, uid, gid);
        self
    }

    /// Writes a file into the root file system, making its directories.
    #[must_use]
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Bundle {
        let file = self.rootfs().join(path.trim_start_matches('/'));
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).or_fail(format_args!("create {}", parent.display()));
        }
        fs::write(&file, content).or_fail(format_args!("write {}", file.display()));
        self
    }
}

/// Appends to a list, making it if it is missing.
fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        _ => *list = json!([item]),
    }
}

/// Keeps the items of a list for which a condition holds; what is no list stays.
fn retain(list: &mut Value, keep: impl FnMut(&Value) -> bool) {
    if let Value::Array(items) = list {
        items.retain(keep);
    }
}

fn change_owner(path: &Path, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).or_fail(format_args!("chown {}", path.display()));
    if !path.is_symlink() && path.is_dir() {
        for entry in fs::read_dir(path).or_fail(format_args!("list {}", path.display())) {
            change_owner(&entry.or_fail(format_args!("list {}", path.display())).path(), uid, gid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str) -> (PathBuf, Bundle) {
        let parent = std::env::temp_dir().join(format!("bh-bundle-{}-{name}", std::process::id()));
        fs::create_dir(&parent).unwrap();
        let bundle = Bundle::create(&parent.join("bundle"), "id", "/bh-bundle/id");
        (parent, bundle)
    }

    #[test]
    fn a_new_bundle_has_a_root_in_which_a_shell_runs() {
        let (parent, bundle) = bundle("new");
        let rootfs = bundle.rootfs();
        assert_eq!(fs::read_link(rootfs.join("bin/sh")).unwrap(), Path::new("/bin/busybox"));
        assert!(rootfs.join("bin/busybox").is_file(), "the program is a file of its own");
        assert!(fs::read_to_string(rootfs.join("etc/passwd")).unwrap().contains("user:x:1000:1000:"));
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn the_file_is_what_the_last_edit_left() {
        let (parent, bundle) = bundle("edit");
        let source = parent.clone();
        let bundle = bundle
            .script("exit 3")
            .env("A=b")
            .user(1000, 1000)
            .bind(&source, "/data", &["ro"])
            .namespace("user")
            .without_namespace("network")
            .namespace_at("ipc", "/proc/1/ns/ipc")
            .hook_script("prestart", "true")
            .hook_script("prestart", "false")
            .annotation("a.b", "c")
            .resources(json!({ "pids": { "limit": 7 } }))
            .readonly()
            .file("/srv/deep/file", "content");
        let written: Value =
            serde_json::from_str(&fs::read_to_string(bundle.directory().join("config.json")).unwrap())
                .unwrap();
        assert_eq!(&written, bundle.config());
        assert_eq!(written["process"]["args"], json!(["/bin/sh", "-c", "exit 3"]));
        assert_eq!(written["mounts"][7]["options"], json!(["rbind", "ro"]));
        assert_eq!(
            written["linux"]["namespaces"],
            json!([
                { "type": "mount" }, { "type": "uts" }, { "type": "pid" }, { "type": "cgroup" }, { "type": "user" },
                { "type": "ipc", "path": "/proc/1/ns/ipc" },
            ])
        );
        assert_eq!(written["hooks"]["prestart"].as_array().unwrap().len(), 2);
        assert_eq!(written["linux"]["resources"]["pids"]["limit"], 7);
        assert_eq!(written["linux"]["resources"]["memory"]["limit"], 268_435_456);
        assert_eq!(fs::read_to_string(bundle.rootfs().join("srv/deep/file")).unwrap(), "content");
        fs::remove_dir_all(parent).unwrap();
    }

    #[test]
    fn a_rootless_bundle_asks_for_nothing_that_needs_root() {
        let (parent, bundle) = bundle("rootless");
        let text = bundle.rootless(1000, 100).config().to_string();
        for privileged in ["network", "gid=5", "mqueue", "/sys/fs/cgroup"] {
            assert!(!text.contains(privileged), "{privileged} is gone from {text}");
        }
        fs::remove_dir_all(parent).unwrap();
    }
}
