//! Containers made of the cached Debian.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_runtime::plan::OVERLAY_ANNOTATION;
use bulkhead_testkit::{Bundle, Sandbox};
use serde_json::json;

/// Why tests skip themselves without it.
pub(crate) const MISSING: &str = "no Debian in the cache: `cargo xtask debian` makes it";

/// The cached tree.
pub(crate) struct Debian {
    root: PathBuf,
}

impl Debian {
    /// Looks for it where `cargo xtask` puts it.
    pub(crate) fn find() -> Option<Debian> {
        let root = bulkhead_testkit::cached("debian/rootfs")?;
        // Trees of older recipes lack it.
        root.join("srv/packages/Packages").is_file().then_some(Debian { root })
    }

    /// Makes a bundle whose root is a throw-away layer over the tree, with the default filter of system calls.
    ///
    /// A second container of the bundle finds what the first has written.
    pub(crate) fn bundle(&self, sandbox: &Sandbox, short: &str) -> Bundle {
        let bundle = sandbox.bundle(short);
        let [upper, work] = ["upper", "work"].map(|layer| bundle.directory().join(layer));
        for layer in [&upper, &work] {
            fs::create_dir(layer).unwrap();
            fs::set_permissions(layer, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let overlay = json!({ "lower": [self.root], "upper": upper, "work": work });
        let filter = serde_json::to_value(bulkhead_seccomp::default_profile()).unwrap();
        bundle
            .annotation(OVERLAY_ANNOTATION, &overlay.to_string())
            .seccomp(filter)
            .env("DEBIAN_FRONTEND=noninteractive")
            .env("LC_ALL=C.UTF-8")
    }

    /// Makes a bundle whose program is a bash script that ends at the first failure.
    pub(crate) fn script(&self, sandbox: &Sandbox, short: &str, script: &str) -> Bundle {
        self.bundle(sandbox, short).args(["bash", "-euo", "pipefail", "-c", script])
    }

    /// Returns the ids of a user of the tree.
    pub(crate) fn user(&self, name: &str) -> (u32, u32) {
        let users = fs::read_to_string(self.root.join("etc/passwd")).unwrap();
        let fields = users.lines().map(|line| Vec::from_iter(line.split(':')));
        let found = fields.into_iter().find(|fields| fields[0] == name);
        let found = found.unwrap_or_else(|| panic!("the tree should have a user {name}:\n{users}"));
        (found[2].parse().unwrap(), found[3].parse().unwrap())
    }

    /// Returns the only entry of a directory of the tree, such as the version of a program.
    pub(crate) fn only_entry(&self, directory: &str) -> String {
        let directory = self.root.join(Path::new(directory));
        let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
        let entries = Vec::from_iter(entries);
        assert_eq!(entries.len(), 1, "{} should have one entry: {entries:?}", directory.display());
        entries[0].to_string_lossy().into_owned()
    }
}
