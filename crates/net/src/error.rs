//! What can go wrong.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use rustix::io::Errno;

/// The result of something about networks.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error("{doing}")]
    System {
        /// What was tried.
        doing: String,
        /// The call.
        source: bulkhead_sys::Error,
    },
    /// A device of a name that we need is somebody else's.
    #[error("there is a network device {name} that is no network of ours; rename it, or remove the network")]
    Taken {
        /// Its name.
        name: String,
    },
    /// No pool has a subnet that nobody uses.
    #[error(
        "every subnet of the address pools is used by a network or by the host; choose another by \
         `bulkhead network create --subnet SUBNET NAME`, and have containers in it by `--network NAME`"
    )]
    PoolsExhausted,
    /// A port of the host leads to another container.
    #[error("port {port} of the host leads to container {owner} already; choose another, or remove that")]
    PortTaken {
        /// As `8080/tcp`, or `10.0.0.1:8080/tcp`.
        port: String,
        /// The container's id.
        owner: String,
    },
    /// A subnet has no address left.
    #[error("every address of {0} is used")]
    SubnetExhausted(IpNet),
    /// A file of ours cannot be read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// What was tried: `read`, `write`, `remove`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of ours cannot be started.
    #[error("start {}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The helper that answers for names did not do something.
    #[error("the helper for names: {reason}")]
    Helper {
        /// Why, in its words.
        reason: String,
    },
    /// The helper that carries what comes to ports of the host did not begin.
    #[error("the helper for ports: {reason}")]
    Proxy {
        /// Why, in its words.
        reason: String,
    },
    /// An address cannot be used.
    #[error("the address {address} {reason}")]
    Address {
        /// The address.
        address: IpAddr,
        /// Why.
        reason: String,
    },
}

impl Error {
    /// Tells whether a call said this.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::System { source, .. } if source.errno() == errno)
    }
}

/// Says what was tried when a call failed.
pub(crate) trait Doing<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Doing<T> for bulkhead_sys::Result<T> {
    fn doing<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|source| Error::System { doing: doing().into(), source })
    }
}
