//! Network devices by ioctl(2), see netdevice(7), and the old packet filter by getsockopt(2).

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
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

/// The table `filter` of the old packet filter, `x_tables`, as getsockopt(2) tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldFilter {
    /// Its rules, as struct ipt_entry or ip6t_entry has them.
    pub entries: Vec<u8>,
    /// Where among these the rule is that ends what is forwarded.
    pub forward_policy: usize,
}

/// Reads the table of one family of the calling thread's network namespace, where there is one: to ask for one that is not
/// there makes it. See `linux/netfilter_ipv4/ip_tables.h`, and `linux/netfilter_ipv6/ip6_tables.h`.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the namespace, EAGAIN when it changes meanwhile.
pub fn old_filter(family: AddressFamily) -> Result<Option<OldFilter>> {
    let (level, names) = match family {
        AddressFamily::INET6 => (libc::IPPROTO_IPV6, "ip6_tables_names"),
        _ => (libc::IPPROTO_IP, "ip_tables_names"),
    };
    // A kernel without it has no such file.
    let names = std::fs::read_to_string(Path::new("/proc/thread-self/net").join(names)).unwrap_or_default();
    if !names.lines().any(|name| name == "filter") {
        return Ok(None);
    }
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .call(|| "socket(SOCK_DGRAM)")?;
    let at = |bytes: &[u8], index: usize| {
        bytes.get(index..index + 4).and_then(|number| Some(u32::from_ne_bytes(number.try_into().ok()?)))
    };
    // The table's name, five places where packets come to it, five of policies, the number of rules and their length.
    let mut info = [0; INFO];
    info[..6].copy_from_slice(b"filter");
    option(&socket, level, GET_INFO, &mut info)?;
    let [policy, length] =
        [FORWARD_POLICY, LENGTH].map(|index| at(&info, index).unwrap_or_default() as usize);
    // The name, and the length.
    let mut text = vec![0; HEADER + length];
    text[..6].copy_from_slice(b"filter");
    text[32..36].copy_from_slice(&info[LENGTH..INFO]);
    option(&socket, level, GET_INFO + 1, &mut text)?;
    Ok(Some(OldFilter { entries: text.split_off(HEADER), forward_policy: policy }))
}

/// IPT_SO_GET_INFO, behind which is IPT_SO_GET_ENTRIES; both are the same for IPv6.
const GET_INFO: i32 = 64;
/// The length of struct ipt_getinfo, and where it has `underflow[NF_INET_FORWARD]` and `size`.
const INFO: usize = 84;
const FORWARD_POLICY: usize = 64;
const LENGTH: usize = 80;
/// Where struct ipt_get_entries has its entries.
const HEADER: usize = 40;

fn option(socket: &OwnedFd, level: i32, name: i32, value: &mut [u8]) -> Result<()> {
    let call = || format!("getsockopt({}, {level}, {name})", socket.as_raw_fd());
    let mut length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::NOMEM).call(call)?;
    let (place, length) = (value.as_mut_ptr().cast(), &raw mut length);
    // SAFETY: the kernel writes at most `length` bytes, which `value` has; both live through the call.
    let returned = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, place, length) };
    check(returned.into()).map(drop).call(call)
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
