//! Networks from elsewhere: a client of the Container Network Interface.
//!
//! What a network is then, a program knows that somebody else has written: a *plugin*. Administrators describe a network in a file, by
//! convention below `/etc/cni/net.d`, as a list of plugins ([`config`]); for each container's *attachment* all of these are run one after
//! the other, each with what the ones before have made ([`result`]). The document that says so is the specification, versions
//! 0.1.0 to 1.1.0, <https://www.cni.dev/docs/spec/>.
//!
//! # Life of an attachment
//! 1. **Written down** ([`record`]): the network as it is described now, and what is asked for, are on the disk before a plugin is
//!    started, and what each has made after it. So a crash at any moment leaves something by which all can be taken back.
//! 2. **Added** ([`Client::add`]): all plugins in the order of the list. One that fails has all of them asked to take back what they
//!    have done, in reverse, and the first error is told.
//! 3. **Checked** ([`Client::check`]), as often as one likes.
//! 4. **Deleted** ([`Client::delete`]): all plugins in reverse, with the network as it was described when it was added, whatever the
//!    file says by now. To delete what is not there is no error.
//!
//! Plugins are run in the calling thread's network namespace, which must be the host's, and reach the container's by a path
//! below `/proc` that leads to the caller's descriptor: so nothing is mounted. They have the privileges of the caller.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use bulkhead_net::cni::{Capabilities, Client, Key, Mapping, Networks, Request, config};
//! use bulkhead_net::{device, rules::Protocol};
//! # use std::os::fd::AsFd as _;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let networks = Networks::read(Path::new(config::DIRECTORY))?;
//! let network = networks.find("office")?;
//! let client = Client::open(Path::new("/var/lib/bulkhead/cni"), &config::PLUGINS.map(Into::into))?;
//!
//! let namespace = device::make_namespace()?;
//! let mut request = Request::new(Key::new("office", "4f2a", "eth0")?);
//! if network.takes(Capabilities::PORTS) {
//!     request.capabilities.ports(&[Mapping::new(8080, 80, Protocol::Tcp)]);
//! }
//! let attached = client.add(network, &request, namespace.as_fd())?;
//! for address in &attached.addresses {
//!     println!("{} is {}", request.key.container(), address.net.addr());
//! }
//! // When the container has ended, also in another process, and without its namespace:
//! client.delete(&request.key, None)?;
//! # Ok(())
//! # }
//! ```

mod attach;
pub mod capability;
pub mod config;
mod error;
mod key;
mod lock;
mod plugin;
pub mod record;
pub mod result;
mod stand_in;
mod version;

pub use attach::{Client, Deleted, Done, Request};
pub use capability::{Bandwidth, Capabilities, Mapping, Range};
pub use config::{List, Networks};
pub use error::{Code, Ending, Error, Refusal, Result};
pub use key::Key;
pub use plugin::Verb;
pub use record::{Known, Listing, Records};
pub use result::Attached;
pub use version::Version;
