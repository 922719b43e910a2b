//! Devices, addresses and routes of one network namespace, see rtnetlink(7).

mod link;
mod route;
mod setting;

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use bulkhead_sys::namespace::{self, Kind};
use bulkhead_sys::net::Carriers;
use bulkhead_sys::netlink::message::Message;
use bulkhead_sys::netlink::{Family, Refused, Socket};
use bulkhead_sys::path;
use ipnet::IpNet;
use rustix::fs::OFlags;
use rustix::io::Errno;

pub use link::{Bridge, Device, Mac, Macvlan, MacvlanMode, Veth};
pub use route::{IpFamily, Route};
pub use setting::{Setting, get, set, set_if_known};

use crate::error::{Doing, Result};

/// The devices of a network namespace.
#[derive(Debug)]
pub struct Devices {
    socket: Socket,
    carriers: Carriers,
}

/// Something to be changed about devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    message: Message,
    /// As `give eth0 the address 10.0.0.2/24`.
    doing: String,
}

impl Devices {
    /// Opens those of the calling thread's namespace.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self> {
        let open = || Ok(Self { socket: Socket::open(Family::Route)?, carriers: Carriers::open()? });
        open().doing(|| "connect to the kernel's network devices")
    }

    /// Opens those of another namespace. The calling thread is there for a moment.
    ///
    /// # Errors
    /// As setns(2), above all without CAP_SYS_ADMIN.
    pub fn of(namespace: BorrowedFd<'_>) -> Result<Self> {
        inside(namespace, Self::open)?
    }

    /// Changes something in this order, with one call for all.
    ///
    /// # Errors
    /// What the kernel refuses first. What stands behind it may be done.
    pub fn change(&self, changes: Vec<Change>) -> Result<()> {
        let (messages, doing): (Vec<_>, Vec<_>) =
            changes.into_iter().map(|Change { message, doing }| (message, doing)).unzip();
        let Err(Refused { index, errno }) = self.socket.tell(messages) else { return Ok(()) };
        let doing = index.and_then(|index| doing.get(index)).or(doing.first()).cloned().unwrap_or_default();
        Err(errno).call_netlink().doing(|| doing)
    }

    /// Tells whether a device has a carrier, once all that follows from that has been done.
    ///
    /// # Errors
    /// ENODEV without the device.
    pub fn has_carrier(&self, device: &str) -> Result<bool> {
        self.carriers.has(device).doing(|| format!("look at the network device {device}"))
    }

    /// Returns the name of a device by its number; nothing where there is none.
    pub(crate) fn name(&self, index: u32) -> Option<String> {
        rustix::net::netdevice::index_to_name(&self.socket, index).ok()
    }

    /// Sends one request, and returns what follows the header of each answer.
    fn ask(&self, message: Message, doing: &'static str) -> Result<Vec<Vec<u8>>> {
        self.socket.ask(message).call_netlink().doing(|| doing)
    }
}

/// Names the call of a failure, whose arguments the sentence around it tells.
trait Netlink<T> {
    fn call_netlink(self) -> bulkhead_sys::Result<T>;
}

impl<T> Netlink<T> for Result<T, Errno> {
    fn call_netlink(self) -> bulkhead_sys::Result<T> {
        self.map_err(|errno| bulkhead_sys::Error::new("sendmsg(AF_NETLINK, NETLINK_ROUTE)", errno))
    }
}

/// Does something in another network namespace, and returns to the caller's. The caller has one thread that does networks.
///
/// # Errors
/// As setns(2).
pub fn inside<T>(there: BorrowedFd<'_>, act: impl FnOnce() -> T) -> Result<T> {
    let own = own_namespace()?;
    namespace::join(there, Kind::Network).doing(|| "enter a network namespace")?;
    let done = act();
    namespace::join(own.as_fd(), Kind::Network).doing(|| "return to the own network namespace")?;
    Ok(done)
}

/// Makes a new network namespace, with a loopback device that is down, and returns to the caller's.
///
/// # Errors
/// As unshare(2).
pub fn make_namespace() -> Result<OwnedFd> {
    let own = own_namespace()?;
    namespace::unshare(Kind::Network).doing(|| "make a network namespace")?;
    let made = own_namespace();
    namespace::join(own.as_fd(), Kind::Network).doing(|| "return to the own network namespace")?;
    made
}

/// Opens the network namespace of the calling thread.
fn own_namespace() -> Result<OwnedFd> {
    path::open_host("/proc/thread-self/ns/net".as_ref(), OFlags::RDONLY)
        .doing(|| "open the own network namespace")
}

/// Returns what the kernel calls the family of an address.
fn family(net: &IpNet) -> u8 {
    match net {
        IpNet::V4(_) => 2,
        IpNet::V6(_) => 10,
    }
}

/// The bytes of an address.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
