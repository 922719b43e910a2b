//! Everything that a client has to know before it talks to anybody.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::credentials::Credentials;
use crate::error::Result;
use crate::proxy::Proxies;
use crate::registries::Registries;

/// What a client is made of.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// Mirrors, blocked and insecure registries, short names.
    pub registries: Registries,
    /// Names and passwords.
    pub credentials: Credentials,
    /// Directories with a directory for each host, which has certificates (`ca.crt`, `client.cert`, `client.key`).
    pub certificates: Vec<PathBuf>,
    /// What stands between us and the world.
    pub proxies: Proxies,
    /// How often and after what time a request is made again.
    pub patience: Patience,
}

/// How long one waits for hosts that fail for a while.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How often the same is tried without getting anywhere.
    pub attempts: NonZeroU32,
    /// The pause before the second attempt; each is twice as long as the last.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How long a connection may take to be made.
    pub connect: Duration,
    /// How long a host may be silent in the middle of something.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: NonZeroU32::MIN.saturating_add(4),
            pause: Duration::from_millis(250),
            longest: Duration::from_secs(20),
            connect: Duration::from_secs(20),
            silence: Duration::from_secs(60),
        }
    }
}

impl Configuration {
    /// Reads what the caller's user has, by the variables of the environment that docker and podman know:
    /// `CONTAINERS_REGISTRIES_CONF`, `REGISTRY_AUTH_FILE`, `DOCKER_CONFIG`, `HOME`, `XDG_CONFIG_HOME`, `XDG_RUNTIME_DIR`,
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
    ///
    /// # Errors
    /// [`crate::Error::Configuration`] and [`crate::Error::File`].
    pub fn of_user(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = path("HOME").unwrap_or_else(|| PathBuf::from("/root"));
        let own = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("containers");
        let registries = match path("CONTAINERS_REGISTRIES_CONF") {
            Some(only) => Registries::read(&[only], &[])?,
            None => Registries::read(&files(&own), &directories(&own))?,
        };
        let docker = path("DOCKER_CONFIG").unwrap_or_else(|| home.join(".docker")).join("config.json");
        let (files, written) = match path("REGISTRY_AUTH_FILE") {
            Some(only) => (vec![only.clone()], only),
            None => {
                let runtime = path("XDG_RUNTIME_DIR").map(|run| run.join("containers/auth.json"));
                let files = runtime.into_iter().chain([own.join("auth.json"), docker.clone()]);
                (files.collect(), docker)
            }
        };
        let credentials = Credentials { files, written, helpers: registries.helpers().to_vec() };
        let certificates =
            vec![own.join("certs.d"), "/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()];
        let proxies = Proxies::of_environment(variable);
        Ok(Self { registries, credentials, certificates, proxies, patience: Patience::default() })
    }
}

/// The first that exists is read.
fn files(own: &Path) -> [PathBuf; 3] {
    [
        own.join("registries.conf"),
        "/etc/containers/registries.conf".into(),
        "/usr/share/containers/registries.conf".into(),
    ]
}

fn directories(own: &Path) -> [PathBuf; 3] {
    [
        "/usr/share/containers/registries.conf.d".into(),
        "/etc/containers/registries.conf.d".into(),
        own.join("registries.conf.d"),
    ]
}
