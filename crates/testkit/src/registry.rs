//! A registry on loopback: Debian's docker-registry, which `cargo xtask images` puts into the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::fail::OrFail;
use crate::sandbox::slowness;
use crate::skip::cached;

/// Of the user `user` with the password `secret`.
const PASSWORDS: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// Who may use a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// Everybody.
    Nobody,
    /// The user `user` with the password `secret`.
    Password,
    /// Who brings a token that a service has signed.
    Token {
        /// The address of the service.
        realm: String,
        /// The certificate of the key by which it signs.
        certificate: PathBuf,
    },
}

/// The certificate and the key of a registry that speaks TLS, and the authority of its clients, if they need one.
#[derive(Debug, Clone)]
pub struct Papers {
    /// Its certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who signs the certificates of clients.
    pub clients: Option<PathBuf>,
}

/// A registry that runs. It ends when it is dropped, or with the thread that started it.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    directory: PathBuf,
    port: u16,
}

impl Registry {
    /// Tells where the program is, if it was fetched.
    pub fn program() -> Option<PathBuf> {
        let program = cached("images")?.join("usr/bin/docker-registry");
        program.is_file().then_some(program)
    }

    /// Starts a registry, which keeps everything in a new directory, and waits until it listens.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start(directory: &Path, guard: &Guard, papers: Option<&Papers>) -> Self {
        let program = Self::program().ok_or("there is none").or_fail("find docker-registry");
        fs::create_dir(directory).or_fail("create the registry's directory");
        let (settings, log) = (directory.join("settings.yml"), directory.join("log"));
        fs::write(directory.join("passwords"), PASSWORDS).or_fail("write the registry's passwords");
        fs::write(&settings, text(directory, guard, papers)).or_fail("write the registry's settings");
        let output = File::create(&log).or_fail("create the registry's log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).arg("serve").arg(settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let child = command.spawn().or_fail("start the registry");
        let mut registry = Self { child, directory: directory.to_owned(), port: 0 };
        let end = Instant::now() + Duration::from_secs(20) * slowness();
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(port) = port(&said) {
                registry.port = port;
                return registry;
            }
            let has_ended = registry.child.try_wait().is_ok_and(|status| status.is_some());
            assert!(Instant::now() < end && !has_ended, "the registry should listen\n{said}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The registry's name in references: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port it listens at.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file with a blob's bytes, by the digits of its digest.
    pub fn blob(&self, hex: &str) -> PathBuf {
        let prefix = hex.get(..2).unwrap_or_default();
        self.directory.join("data/docker/registry/v2/blobs/sha256").join(prefix).join(hex).join("data")
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It has no end to tidy up for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn text(directory: &Path, guard: &Guard, papers: Option<&Papers>) -> String {
    let place = directory.display();
    let mut text = format!(
        "version: 0.1\nlog:\n  accesslog:\n    disabled: false\nstorage:\n  filesystem:\n    rootdirectory: {place}/data\n  \
         delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:0\n  secret: testkit\n"
    );
    if let Some(Papers { certificate, key, clients }) = papers {
        text += &format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        if let Some(clients) = clients {
            text += &format!("    clientcas:\n      - {}\n", clients.display());
        }
    }
    match guard {
        Guard::Nobody => {}
        Guard::Password => {
            text += &format!("auth:\n  htpasswd:\n    realm: testkit\n    path: {place}/passwords\n");
        }
        Guard::Token { realm, certificate } => {
            text += &format!(
                "auth:\n  token:\n    realm: {realm}\n    service: testkit registry\n    issuer: testkit\n    \
                 rootcertbundle: {}\n",
                certificate.display()
            );
        }
    }
    text
}

/// The port of the line in which it says that it listens.
fn port(log: &str) -> Option<u16> {
    let (_, rest) = log.split_once("listening on 127.0.0.1:")?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    // The line is whole when something follows the digits.
    rest.get(digits.len()..).filter(|after| !after.is_empty())?;
    digits.parse().ok()
}
