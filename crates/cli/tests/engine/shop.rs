//! A place with an engine and an image of its own, in which nothing is left.

use std::fs;
use std::path::{Path, PathBuf};

use bulkhead_testkit::built::{self, Profile};
use bulkhead_testkit::{Output, Run, Sandbox, network, rootfs};
use serde_json::{Value, json};

/// Makes a shop, or ends the test where it cannot run.
macro_rules! shop {
    () => {{
        bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
        $crate::shop::Shop::new()
    }};
}
pub(crate) use shop;

/// The name of the image that is there: busybox, whose command says `from the image`.
pub(crate) const IMAGE: &str = "busybox:test";

/// Tells whether the engine has systemd make its cgroups.
pub(crate) fn systemd_makes_cgroups() -> bool {
    ["/run/systemd/system", "/sys/fs/cgroup/cgroup.controllers"].iter().all(|name| Path::new(name).exists())
}

/// Places for one test. What is left of its containers is removed when it is dropped; what then is left fails the test.
pub(crate) struct Shop {
    pub(crate) sandbox: Sandbox,
    /// The program, beside which are the monitor and the runtime.
    pub(crate) program: PathBuf,
    /// What is given as `--run`.
    pub(crate) run_directory: PathBuf,
    /// What the environment of all commands has besides.
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
}

impl Shop {
    /// Makes places with [`IMAGE`] in them.
    pub(crate) fn new() -> Shop {
        let shop = Shop::empty();
        shop.archive(&shop.path("busybox.tar"), IMAGE, &json!({}));
        shop.bulkhead(&["load", "--quiet", "-i", shop.path("busybox.tar").to_str().unwrap()])
            .output()
            .succeeds();
        shop
    }

    /// Makes places without anything in them, and a network that is theirs alone.
    pub(crate) fn empty() -> Shop {
        network::isolate();
        let sandbox = Sandbox::new(built::program("bulkhead-runtime", "bulkrun"));
        let run_directory = sandbox.directory().join("engine-run");
        Shop {
            sandbox,
            program: env!("CARGO_BIN_EXE_bulkhead").into(),
            run_directory,
            environment: Vec::new(),
        }
    }

    /// Has another program do everything from now on, with the monitor and the runtime that lie beside it.
    pub(crate) fn using(mut self, program: PathBuf) -> Shop {
        self.program = program;
        self
    }

    /// Has everything done from now on with a monitor as it is shipped: static, so that it runs in a root that has nothing else.
    pub(crate) fn with_shipped_monitor(self) -> Shop {
        let directory = self.path("programs");
        fs::create_dir(&directory).unwrap();
        let monitor = built::standalone("bulkhead-shim", "bulkmon", Profile::Release);
        let runtime = built::program("bulkhead-runtime", "bulkrun");
        let [names, ports] = ["bulkdns", "bulkproxy"].map(|name| built::program("bulkhead-net", name));
        for program in [self.program.clone(), runtime, names, ports, monitor] {
            // By another process: see `script_file`.
            self.sandbox.command("cp").arg(program).arg(&directory).output().succeeds();
        }
        self.using(directory.join("bulkhead"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.sandbox.directory().join(name)
    }

    /// Puts a command together: `bulkhead --root … --run …` with these words.
    pub(crate) fn bulkhead(&self, words: &[&str]) -> Run {
        self.bulkhead_at(self.sandbox.command(&self.program), words)
    }

    /// As [`Shop::bulkhead`], started by another program.
    pub(crate) fn bulkhead_by(&self, launcher: Run, words: &[&str]) -> Run {
        self.bulkhead_at(launcher.arg(&self.program), words)
    }

    /// As [`Shop::bulkhead`], with the programs of another directory.
    pub(crate) fn bulkhead_from(&self, programs: &Path, words: &[&str]) -> Run {
        self.bulkhead_at(self.sandbox.command(programs.join("bulkhead")), words)
    }

    fn bulkhead_at(&self, run: Run, words: &[&str]) -> Run {
        built::program("bulkhead-shim", "bulkmon");
        for name in ["bulkdns", "bulkproxy"] {
            built::program("bulkhead-net", name);
        }
        let run = self.environment.iter().fold(run, |run, (name, value)| run.env(name, value));
        run.arg("--root").arg(self.path("engine")).arg("--run").arg(&self.run_directory).args(words)
    }

    /// Writes a script that can be executed. Another process does: a program that this one has written could be busy for as
    /// long as any child of this one holds the descriptor.
    pub(crate) fn script_file(&self, path: &Path, text: &str) {
        let write = "cat >\"$0\" && chmod 755 \"$0\"";
        self.sandbox.command("sh").args(["-c", write]).arg(path).input(text).output().succeeds();
    }

    /// What a command prints, which succeeds.
    #[track_caller]
    pub(crate) fn said(&self, words: &[&str]) -> String {
        self.bulkhead(words).output().succeeds().stdout
    }

    /// What is given as `--cgroup-parent`: a cgroup of the shop's; where systemd makes cgroups, a slice that is there, since
    /// scopes go with their containers.
    pub(crate) fn parent(&self) -> String {
        match systemd_makes_cgroups() {
            true => "system.slice".to_owned(),
            false => format!("/{}", self.sandbox.name()),
        }
    }

    /// `run` or `create` with options and a command, in a cgroup of the shop's.
    pub(crate) fn with(&self, verb: &str, options: &[&str], command: &[&str]) -> Run {
        self.of(verb, options, IMAGE, command)
    }

    /// The same with another image.
    pub(crate) fn of(&self, verb: &str, options: &[&str], image: &str, command: &[&str]) -> Run {
        let parent = self.parent();
        let verb = [verb, "--cgroup-parent", &parent, "--stop-timeout", "1"];
        self.bulkhead(&[&verb, options, &[image], command].concat())
    }

    /// Runs a script in the foreground, and removes the container.
    pub(crate) fn script(&self, options: &[&str], script: &str) -> Run {
        self.with("run", &[&["--rm"], options].concat(), &["sh", "-c", script])
    }

    /// Starts a container in the background that a signal ends at once.
    #[track_caller]
    pub(crate) fn service(&self, name: &str, script: &str) -> String {
        let run = self.with("run", &["-d", "--name", name], &["sh", "-c", script]);
        run.output().succeeds().stdout.trim().to_owned()
    }

    /// What `inspect` tells.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str) -> Value {
        let document: Value = serde_json::from_str(&self.said(&["inspect", name])).unwrap();
        document[0].clone()
    }

    /// As [`Shop::archive`], with a file of these bytes.
    pub(crate) fn large_archive(&self, path: &Path, name: &str, bytes: &[u8]) {
        self.pack(path, name, &json!({}), |root| fs::write(root.join("large"), bytes).unwrap());
    }

    /// As [`Shop::archive`], with `/etc/passwd`, `group`, `hosts`, `hostname` and `resolv.conf` as links to `target`.
    pub(crate) fn linked_archive(&self, path: &Path, name: &str, target: &str) {
        self.pack(path, name, &json!({}), |root| {
            for file in ["passwd", "group", "hosts", "hostname", "resolv.conf"] {
                let link = root.join("etc").join(file);
                drop(fs::remove_file(&link));
                std::os::unix::fs::symlink(target, link).unwrap();
            }
        });
    }

    /// As [`Shop::archive`], with a file whose name is anything but a path within.
    pub(crate) fn hostile_archive(&self, path: &Path, name: &str, file: &str) {
        self.pack_by(
            path,
            name,
            &json!({}),
            |root| fs::write(root.join("renamed"), "x").unwrap(),
            |tar| tar.arg("--absolute-names").arg(format!("--transform=s|.*/renamed$|{file}|")),
        );
    }

    /// Writes an archive as `docker save` does: one layer with busybox, and a configuration with these changes.
    pub(crate) fn archive(&self, path: &Path, name: &str, changes: &Value) {
        self.pack(path, name, changes, |_| ());
    }

    /// As [`Shop::archive`], with a root that is changed before it is packed.
    pub(crate) fn archive_of(&self, path: &Path, name: &str, changes: &Value, prepare: impl FnOnce(&Path)) {
        self.pack(path, name, changes, prepare);
    }

    fn pack(&self, path: &Path, name: &str, changes: &Value, add: impl FnOnce(&Path)) {
        self.pack_by(path, name, changes, add, |tar| tar);
    }

    fn pack_by(
        &self,
        path: &Path,
        name: &str,
        changes: &Value,
        add: impl FnOnce(&Path),
        how: impl FnOnce(Run) -> Run,
    ) {
        let parts = self.path(&format!("parts-{}", name.replace([':', '/'], "-")));
        fs::create_dir(&parts).unwrap();
        rootfs::create(&parts.join("root"));
        add(&parts.join("root"));
        let tar = |arguments: &[&str]| {
            self.sandbox.command("tar").current_dir(&parts).args(arguments).output().succeeds();
        };
        let layer = self.sandbox.command("tar").current_dir(&parts);
        let layer =
            how(layer).args(["--numeric-owner", "--create", "--file=layer.tar", "--directory=root", "."]);
        layer.output().succeeds();
        let sum = self.sandbox.command("sha256sum").arg(parts.join("layer.tar")).output().succeeds().stdout;
        let mut config = json!({
            "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "FROM=image"],
            "Cmd": ["echo", "from the image"],
            "Labels": { "org.example.made-by": "a test" },
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        let document = json!({
            "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", &sum[..64])] },
            "history": [
                { "created": "2026-01-01T00:00:00Z", "created_by": "ADD layer.tar" },
                { "created": "2026-01-01T00:00:00Z", "created_by": "CMD echo", "empty_layer": true },
            ],
        });
        fs::write(parts.join("config.json"), document.to_string()).unwrap();
        let manifest = json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
        fs::write(parts.join("manifest.json"), manifest.to_string()).unwrap();
        tar(&["--create", "--file", path.to_str().unwrap(), "manifest.json", "config.json", "layer.tar"]);
        fs::remove_dir_all(parts).unwrap();
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let left = |words: &[&str]| {
            let listed = self.bulkhead(&[words, &["--quiet", "--no-trunc"]].concat()).output().stdout;
            Vec::from_iter(listed.lines().map(str::to_owned))
        };
        let pods = left(&["pod", "ps"]).into_iter().map(|id| (id, &["pod", "rm", "--force"][..]));
        let containers =
            left(&["ps", "--all"]).into_iter().map(|id| (id, &["rm", "--force", "--volumes"][..]));
        for (id, words) in containers.chain(pods) {
            // One that hangs must not abort the test, which may fail already.
            let remove = || -> Output { self.bulkhead(&[words, &[id.as_str()]].concat()).output() };
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(remove)) {
                Ok(removed) if removed.code() == 0 => {}
                Ok(removed) => eprintln!("{id} is not removed: {}", removed.stderr),
                Err(_) => eprintln!("{id} is not removed"),
            }
        }
    }
}
