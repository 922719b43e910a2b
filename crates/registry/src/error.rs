//! What can go wrong between us and a registry.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bulkhead_image::{Digest, DigestError, NameError, Platform, PlatformError};

/// The result of an operation on registries.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation on registries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is no name of an image.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A text is no name of a host.
    #[error("{host:?} is no host of a registry, with or without a port")]
    Host {
        /// The text.
        host: String,
    },
    /// A text is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A text is no platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A name without a registry, and nothing says which is meant.
    #[error("{name} names no registry; {}", registries(searched))]
    ShortName {
        /// The name as it was typed.
        name: String,
        /// The registries that could be meant.
        searched: Vec<String>,
    },
    /// A name without a registry could be meant at one that refuses to tell whether it has it.
    #[error(
        "{host} denies access to {name}{}, and what others call so may be something else: \
         log in with `bulkhead login {host}`, or write which is meant, such as {}", said(message), others.join(" or ")
    )]
    Hidden {
        /// The name there.
        name: String,
        /// The registry.
        host: String,
        /// What the registry says.
        message: String,
        /// The names at those that would be asked after it.
        others: Vec<String>,
    },
    /// The registry, or this part of it, is blocked by `registries.conf`.
    #[error("{name} is blocked in registries.conf (prefix {prefix})")]
    Blocked {
        /// What was asked for.
        name: String,
        /// The prefix that is blocked.
        prefix: String,
    },
    /// The registry has no such repository or no such tag, or hides it.
    #[error("{name} is unknown to its registry{}", said(message))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What the registry says.
        message: String,
    },
    /// The registry has no such blob.
    #[error("{host} has no blob {digest} of {repository}")]
    NoBlob {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// The blob.
        digest: Digest,
    },
    /// The registry wants to know who asks, or does not like who asks.
    #[error("{host} denies access to {what}{}: log in with `bulkhead login {host}`", said(message))]
    Denied {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What the registry says.
        message: String,
    },
    /// Name and password were refused.
    #[error("{host} does not take this name and password{}", said(message))]
    Password {
        /// The registry.
        host: String,
        /// What the registry says.
        message: String,
    },
    /// The host has no address.
    #[error("find the address of {host}: {reason}")]
    Address {
        /// The host.
        host: String,
        /// What the resolver says.
        reason: String,
    },
    /// No connection could be made, or it ended.
    #[error("talk to {host}")]
    Network {
        /// The host.
        host: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// Nothing came for too long.
    #[error("{host} was silent for too long ({phase})")]
    Silent {
        /// The host.
        host: String,
        /// During which part of a request.
        phase: String,
    },
    /// The host could not prove who it is.
    #[error("{host} proves no identity that is trusted: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// The host speaks HTTP without TLS, which nothing allows.
    #[error(
        "{host} speaks HTTP without TLS: if that is meant, add `[[registry]] location = \"{host}\" insecure = true` \
         to /etc/containers/registries.conf"
    )]
    Plain {
        /// The host.
        host: String,
    },
    /// What the host says is not HTTP or not the protocol of registries.
    #[error("{host} says something else than a registry does: {reason}")]
    Protocol {
        /// The host.
        host: String,
        /// What it is.
        reason: String,
    },
    /// The host answers that it failed.
    #[error("{host} answers {status} to {what}{}", said(message))]
    Status {
        /// The host.
        host: String,
        /// The request.
        what: String,
        /// The status of HTTP.
        status: u16,
        /// What the registry says.
        message: String,
    },
    /// The registry wants to be asked less often.
    #[error("{host} is asked too often{}: try again in {} seconds, or log in", said(message), wait.as_secs())]
    Busy {
        /// The registry.
        host: String,
        /// What the registry says.
        message: String,
        /// How long it wants to be left alone.
        wait: Duration,
    },
    /// Bytes other than those that were promised.
    #[error("{what} from {host} has the digest {actual}, not {expected}")]
    Content {
        /// What was read.
        what: String,
        /// The host.
        host: String,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// More or fewer bytes than were promised.
    #[error("{what} from {host} has {actual} bytes, not {expected}")]
    Size {
        /// What was read.
        what: String,
        /// The host.
        host: String,
        /// How many were promised.
        expected: u64,
        /// How many came, or more.
        actual: u64,
    },
    /// More than is read of such a thing.
    #[error("{what} from {host} has more than {limit} bytes")]
    TooLarge {
        /// What was read.
        what: String,
        /// The host.
        host: String,
        /// How many are read.
        limit: u64,
    },
    /// A manifest or an index that cannot be used.
    #[error("manifest {digest} {reason}")]
    Manifest {
        /// The digest of its bytes.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// No image of an index is for the platform.
    #[error("{name} is not there for {wanted}, only for {}", listed(there))]
    NoPlatform {
        /// The name.
        name: String,
        /// The platform that was wanted.
        wanted: Platform,
        /// Those that are there.
        there: Vec<Platform>,
    },
    /// A file of configuration says something else than such files do.
    #[error("read {}: {reason}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// A credential helper failed.
    #[error("docker-credential-{helper} {verb}: {reason}")]
    Helper {
        /// Its name.
        helper: String,
        /// What it was asked for.
        verb: &'static str,
        /// What it said.
        reason: String,
    },
    /// What was to be pushed cannot be read.
    #[error("read {what} to push it")]
    Source {
        /// What was read.
        what: String,
        /// What the reader said.
        source: io::Error,
    },
}

impl Error {
    /// Tells whether the same request may succeed a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Silent { .. } | Self::Busy { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 500 | 502..=504),
            _ => false,
        }
    }

    /// Finds the error in one of a stream.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

fn registries(searched: &[String]) -> String {
    match searched {
        [] => "and registries.conf has no unqualified-search-registries and no alias of it: write docker.io/NAME".into(),
        _ => format!("and could be one of {}: write which", searched.join(", ")),
    }
}

fn listed(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "unknown ones".to_owned();
    }
    Vec::from_iter(platforms.iter().map(Platform::to_string)).join(", ")
}
