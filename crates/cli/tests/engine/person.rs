//! An ordinary user with places of their own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use bulkhead_testkit::built::{self, Profile};
use bulkhead_testkit::{Run, Session};
use serde_json::{Value, json};

use crate::shop::{IMAGE, Shop};

/// An ordinary user that no host has.
pub(crate) const USER: u32 = 54_321;
/// The first of that user's further ids.
pub(crate) const FIRST: u32 = 300_000;

/// A user of this machine with a home, and with these further ids, if any.
pub(crate) struct Person {
    pub(crate) shop: Shop,
    ranges: String,
    /// What is the user's until the end of the last session.
    pub(crate) xdg: PathBuf,
    /// Ends after all that the shop has.
    _session: Option<Session>,
}

/// Makes a person in a shop without anything in it, or ends the test where that cannot be.
macro_rules! person {
    ($ranges:expr) => {{
        let shop = $crate::shop::shop!();
        let has = |program: &&str| bulkhead_testkit::find_program(program).is_some();
        bulkhead_testkit::requires!(
            ["newuidmap", "newgidmap", "setpriv", "unshare"].iter().all(has),
            "needs newuidmap and setpriv"
        );
        let files = ["/etc/subuid", "/etc/subgid"];
        bulkhead_testkit::requires!(
            files.iter().all(|file| std::path::Path::new(file).exists()),
            "needs /etc/subuid and /etc/subgid"
        );
        bulkhead_testkit::requires!(
            bulkhead_testkit::fresh::is_possible(&[bulkhead_testkit::fresh::Kind::User]),
            "needs user namespaces"
        );
        $crate::person::Person::new(shop, $ranges)
    }};
}
pub(crate) use person;

/// Further ids, as `/etc/subuid` has them.
pub(crate) const RANGE: &str = "54321:300000:65536\n";

impl Person {
    pub(crate) fn new(shop: Shop, ranges: &str) -> Person {
        for name in ["home", "xdg"] {
            let path = shop.path(name);
            fs::create_dir(&path).unwrap();
            chown(&path, Some(USER), Some(USER)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        fs::create_dir(shop.path("programs")).unwrap();
        for name in ["bulkhead", "bulkmon", "bulkrun", "bulkdns", "bulkproxy"] {
            let program = Path::new(env!("CARGO_BIN_EXE_bulkhead")).with_file_name(name);
            shop.sandbox.command("cp").arg(program).arg(shop.path("programs")).output().succeeds();
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let own = format!("{passwd}bh-user:x:{USER}:{USER}::/:/bin/sh\n");
        for (name, text) in [("passwd", own.as_str()), ("subuid", ranges), ("subgid", ranges)] {
            fs::write(shop.path(name), text).unwrap();
        }
        Person { xdg: shop.path("xdg"), shop, ranges: ranges.to_owned(), _session: None }
    }

    /// Logs the user in: a systemd of the user's own makes cgroups, if a test may change this machine
    /// ([`bulkhead_testkit::is_disposable`]).
    pub(crate) fn with_session(mut self) -> Person {
        self._session = Some(Session::begin_as(&self.shop.sandbox, USER));
        self.xdg = format!("/run/user/{USER}").into();
        self
    }

    /// Gives the user an image.
    pub(crate) fn with_image(self) -> Person {
        self.load(IMAGE, &json!({}), |root| {
            fs::create_dir(root.join("srv")).unwrap();
            fs::write(root.join("srv/file"), "of 33\n").unwrap();
            for (path, mode) in [(root.join("srv/file"), 0o600), (root.join("srv"), 0o700)] {
                chown(&path, Some(33), Some(34)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        });
        self
    }

    /// Has everything done with a monitor as it is shipped.
    pub(crate) fn with_shipped_monitor(self) -> Person {
        let monitor = built::standalone("bulkhead-shim", "bulkmon", Profile::Release);
        let copied = self.shop.sandbox.command("cp").arg("--remove-destination").arg(monitor);
        copied.arg(self.shop.path("programs")).output().succeeds();
        self
    }

    pub(crate) fn load(&self, name: &str, changes: &Value, prepare: impl FnOnce(&Path)) {
        let archive = self.shop.path("image.tar");
        self.shop.archive_of(&archive, name, changes, prepare);
        fs::set_permissions(&archive, fs::Permissions::from_mode(0o644)).unwrap();
        self.said(&["load", "--quiet", "-i", archive.to_str().unwrap()]);
    }

    /// Puts a command of the user's together, with nothing but the user's own places.
    pub(crate) fn bulkhead(&self, words: &[&str]) -> Run {
        let script = "for f in subuid subgid passwd resolv.conf; do \
                      [ ! -e $0/$f ] || mount --bind $0/$f /etc/$f || exit 9; done; \
                      if [ -e $0/tun ]; then mount --bind $0/tun /dev/net/tun || exit 9; PATH=$0/carriers:$PATH; fi; \
                      export HOME=$0/home XDG_RUNTIME_DIR=$2; cd $0/home; u=$1; shift 2; \
                      exec setpriv --reuid $u --regid $u --clear-groups $0/programs/bulkhead \"$@\"";
        let run = self.shop.sandbox.command("unshare");
        let run = run.args(["-m", "--propagation", "private", "sh", "-c", script]);
        run.arg(self.shop.sandbox.directory()).arg(USER.to_string()).arg(&self.xdg).args(words)
    }

    #[track_caller]
    pub(crate) fn said(&self, words: &[&str]) -> String {
        self.bulkhead(words).output().succeeds().stdout
    }

    pub(crate) fn run(&self, options: &[&str], script: &str) -> Run {
        let words = [&["run", "--stop-timeout", "1"], options, &[IMAGE, "sh", "-c", script]];
        self.bulkhead(&words.concat())
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.shop.path("home/.local/share/bulkhead")
    }

    pub(crate) fn pid(&self, name: &str) -> u64 {
        let document: Value = serde_json::from_str(&self.said(&["inspect", name])).unwrap();
        document[0]["State"]["Pid"].as_u64().unwrap()
    }

    /// Lists what is in a directory of the engine's.
    pub(crate) fn listed(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root().join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Finds a file of the layers by its end.
    pub(crate) fn in_layers(&self, end: &str) -> PathBuf {
        let layers = self.listed("layers");
        layers
            .iter()
            .map(|layer| self.root().join("layers").join(layer).join(end))
            .find(|path| path.exists())
            .unwrap()
    }
}

/// Waits until something is so, or fails the test.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !is_so() {
        assert!(std::time::Instant::now() < end, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let pods = self.bulkhead(&["pod", "ps", "--quiet", "--no-trunc"]).output();
        for id in pods.stdout.lines() {
            let removed = self.bulkhead(&["pod", "rm", "--force", id]).output();
            if removed.code() != 0 {
                eprintln!("pod {id} of {:?} is not removed: {}", self.ranges, removed.stderr);
            }
        }
        let left = self.bulkhead(&["ps", "--all", "--quiet", "--no-trunc"]).output();
        for id in left.stdout.lines() {
            let removed = self.bulkhead(&["rm", "--force", "--volumes", id]).output();
            if removed.code() != 0 {
                eprintln!("container {id} of {:?} is not removed: {}", self.ranges, removed.stderr);
            }
        }
    }
}
