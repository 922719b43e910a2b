//! Network devices by ioctl(2), see netdevice(7).

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::syscall::check;
use crate::{Call, Result};

/// Brings `lo` up in the network namespace of the calling thread; the kernel gives it 127.0.0.1 and ::1.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the namespace.
pub fn bring_loopback_up() -> Result<()> {
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        flags: libc::c_short,
        rest: [u8; 22],
    }
    let socket = socket()?;
    let mut request = Request { name: name("lo"), flags: 0, rest: [0; 22] };
    request.flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: `request` is laid out as struct ifreq (40 bytes) and lives through the call, which only reads it.
    let returned = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(returned.into()).map(drop).call(|| "ioctl(SIOCSIFFLAGS, \"lo\", UP)")
}

/// A socket by which devices of one network namespace are asked.
#[derive(Debug)]
pub struct Carriers(OwnedFd);

impl Carriers {
    /// Opens one in the namespace of the calling thread.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open() -> Result<Self> {
        socket().map(Self)
    }

    /// Tells whether a device has a carrier, once all that follows from that has been done: else the kernel lets up to a
    /// second go by until a bridge sends by a port that has one, and until a device has addresses of IPv6. See
    /// `ETHTOOL_GLINK` of `linux/ethtool.h`.
    ///
    /// # Errors
    /// ENODEV without the device, EOPNOTSUPP for one of a kind that does not tell.
    pub fn has(&self, device: &str) -> Result<bool> {
        ask_for_link(&self.0, device)
    }
}

fn ask_for_link(socket: &OwnedFd, device: &str) -> Result<bool> {
    const GET_LINK: u32 = 0xa;
    #[repr(C)]
    struct Question {
        command: u32,
        answer: u32,
    }
    #[repr(C)]
    struct Request {
        name: [u8; libc::IFNAMSIZ],
        question: *mut Question,
        rest: [u8; 16],
    }
    let mut question = Question { command: GET_LINK, answer: 0 };
    let request = Request { name: name(device), question: &raw mut question, rest: [0; 16] };
    // SAFETY: `request` is laid out as struct ifreq (40 bytes), `question` as struct ethtool_value, to which it points; both
    // live through the call, which reads the first and writes the second.
    let returned = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw const request) };
    check(returned.into()).call(|| format!("ioctl(SIOCETHTOOL, {device:?}, ETHTOOL_GLINK)"))?;
    Ok(question.answer != 0)
}

fn socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .call(|| "socket(AF_INET, SOCK_DGRAM)")
}

/// A device's name as struct ifreq has it: cut off behind 15 bytes.
fn name(device: &str) -> [u8; libc::IFNAMSIZ] {
    let mut name = [0; libc::IFNAMSIZ];
    name.iter_mut().zip(device.bytes().take(libc::IFNAMSIZ - 1)).for_each(|(to, from)| *to = from);
    name
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_device_has_a_carrier_or_is_not_there() {
        let carriers = Carriers::open().unwrap();
        carriers.has("lo").unwrap();
        let error = carriers.has("no-such-device").unwrap_err();
        assert_eq!(error.errno(), Errno::NODEV, "{error}");
    }
}
