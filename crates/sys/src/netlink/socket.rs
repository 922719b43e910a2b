//! A socket to the kernel, and its verdicts, see netlink(7).

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType};

use super::message::{Message, number, parts};
use crate::syscall::check;
use crate::{Call, Result};

/// NLMSG_ERROR.
pub(super) const ERROR: u16 = 2;
/// NLMSG_DONE.
pub(super) const DONE: u16 = 3;
/// NLM_F_DUMP_INTR: what the kernel lists has changed meanwhile.
pub(super) const INTERRUPTED: u16 = 0x10;
/// NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// NFNL_SUBSYS_NFTABLES, as struct nfgenmsg of a batch names it, in network order.
const NFTABLES: [u8; 2] = [0, 10];
/// NFNL_BATCH_GENID.
const GENERATION: u16 = 1;
/// What a socket sends at once without being asked for more: less than net.core.wmem_default is anywhere.
const USUAL: usize = 100 * 1024;
/// More than the kernel puts into one datagram of a dump.
const BUFFER: usize = 64 * 1024;
/// How often a list is asked for that changes while it is read.
const ATTEMPTS: usize = 10;

/// What a socket talks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Devices, addresses, routes: NETLINK_ROUTE, rtnetlink(7).
    Route,
    /// Packet filters: NETLINK_NETFILTER.
    Netfilter,
}

/// A socket to the kernel. It stays in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    family: Family,
}

/// A message of several that the kernel has refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Which, counted from 0; none when it was all of them together.
    pub index: Option<usize>,
    /// Why.
    pub errno: Errno,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// As socket(2).
    pub fn open(family: Family) -> Result<Self> {
        // No protocol is NETLINK_ROUTE, whose number is 0.
        let (protocol, name): (Option<Protocol>, _) = match family {
            Family::Route => (None, "NETLINK_ROUTE"),
            Family::Netfilter => (Some(netlink::NETFILTER), "NETLINK_NETFILTER"),
        };
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map(|fd| Self { fd, family })
            .call(|| format!("socket(AF_NETLINK, {name})"))
    }

    /// Returns a number that the network namespace has to itself in this run of the machine (`SO_NETNS_COOKIE`); nothing before Linux 5.14.
    #[must_use]
    pub fn namespace(&self) -> Option<u64> {
        const COOKIE: libc::c_int = 71;
        let mut cookie = 0_u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, the size of the number, and the length, which are both alive.
        let returned = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        check(returned.into()).ok().map(|_| cookie)
    }

    /// Sends a request and returns what follows the header of each answer.
    ///
    /// # Errors
    /// The kernel's verdict, and EAGAIN for a list that never holds still.
    pub fn ask(&self, message: Message) -> rustix::io::Result<Vec<Vec<u8>>> {
        let bytes = message.finished(0);
        for _ in 0..ATTEMPTS {
            let mut bodies = Vec::new();
            let mut is_interrupted = false;
            self.send(&bytes)?;
            self.receive(|datagram| {
                for part in parts(datagram) {
                    is_interrupted |= part.flags & INTERRUPTED != 0;
                    match part.kind {
                        DONE => return Ok(true),
                        ERROR => return verdict(part.body).map(|()| true),
                        _ => bodies.push(part.body.to_vec()),
                    }
                }
                Ok(false)
            })?;
            if !is_interrupted {
                return Ok(bodies);
            }
        }
        Err(Errno::AGAIN)
    }

    /// Sends messages at once. The kernel goes on behind one that it refuses; of netfilter it does all of them or none.
    ///
    /// # Errors
    /// The first that is refused.
    pub fn tell(&self, messages: Vec<Message>) -> std::result::Result<(), Refused> {
        self.tell_at(None, messages)
    }

    /// As [`Socket::tell`], of netfilter, if its rules are still of a generation.
    ///
    /// # Errors
    /// ERESTART if they are not, of the whole.
    pub fn tell_at(
        &self,
        generation: Option<u32>,
        messages: Vec<Message>,
    ) -> std::result::Result<(), Refused> {
        let whole = |errno| Refused { index: None, errno };
        let Some(last) = messages.len().checked_sub(1) else { return Ok(()) };
        let mut bytes = Vec::new();
        if self.family == Family::Netfilter {
            let mut begin = bound(BATCH_BEGIN);
            if let Some(generation) = generation {
                begin.attribute(GENERATION, &generation.to_be_bytes());
            }
            bytes.extend(begin.finished(0));
        }
        for (index, message) in messages.into_iter().enumerate() {
            // A refusal is answered anyway, and the last success tells that all were looked at.
            let message = if index == last { message.acknowledged() } else { message };
            bytes.extend(message.finished(u32::try_from(index + 1).unwrap_or(u32::MAX)));
        }
        if self.family == Family::Netfilter {
            bytes.extend(bound(BATCH_END).finished(0));
        }
        if bytes.len() > USUAL {
            // More than net.core.wmem_max takes the host's CAP_NET_ADMIN; without it the send says EMSGSIZE.
            let room = bytes.len().saturating_mul(2);
            let forced = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, room);
            let _ = forced.or_else(|_| rustix::net::sockopt::set_socket_send_buffer_size(&self.fd, room));
        }
        self.send(&bytes).map_err(whole)?;
        let mut first: Option<Refused> = None;
        self.receive(|datagram| {
            for part in parts(datagram).filter(|part| part.kind == ERROR) {
                let index = usize::try_from(part.sequence).ok().and_then(|number| number.checked_sub(1));
                if let Err(errno) = verdict(part.body) {
                    first.get_or_insert(Refused { index, errno });
                }
                // Without a number it is a verdict on the whole.
                if index.is_none_or(|index| index == last) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .map_err(whole)?;
        first.map_or(Ok(()), Err)
    }

    /// Hears of what happens to devices (RTMGRP_LINK), from now on.
    pub(super) fn listen_for_links(&self) -> rustix::io::Result<()> {
        const LINKS: u32 = 1;
        rustix::net::bind(&self.fd, &SocketAddrNetlink::new(0, LINKS))
    }

    pub(super) fn send(&self, bytes: &[u8]) -> rustix::io::Result<()> {
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, bytes, SendFlags::empty())).map(drop)
    }

    /// Receives datagrams until one is the last.
    pub(super) fn receive(
        &self,
        mut take: impl FnMut(&[u8]) -> rustix::io::Result<bool>,
    ) -> rustix::io::Result<()> {
        // What is not written to costs nothing: most answers are short.
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            let (length, whole, sender) = rustix::io::retry_on_intr(|| {
                rustix::net::recvfrom(&self.fd, spare_capacity(&mut buffer), RecvFlags::TRUNC)
            })?;
            // Whoever administers the namespace may write to this socket, too: it would choose what is done.
            if !is_kernel(sender) {
                continue;
            }
            if whole > length {
                return Err(Errno::MSGSIZE);
            }
            if take(&buffer[..length])? {
                return Ok(());
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The begin or the end of a transaction: struct nfgenmsg with the subsystem as its resource.
fn bound(kind: u16) -> Message {
    Message::new(kind, 0, &[0, 0, NFTABLES[0], NFTABLES[1]])
}

/// Tells whether a datagram is from the kernel, whose port is 0.
fn is_kernel(sender: Option<SocketAddrAny>) -> bool {
    sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok()).is_some_and(|sender| sender.pid() == 0)
}

/// Reads the verdict on a request: 0, or an error number below zero.
pub(super) fn verdict(body: &[u8]) -> rustix::io::Result<()> {
    match number(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        // The kernel has no others, and an [`Errno`] holds no others.
        Some(code @ -4095..=-1) => Err(Errno::from_raw_os_error(-code)),
        _ => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_an_error_number_or_nonsense() {
        for (code, expected) in [
            (0, Ok(())),
            (-1, Err(Errno::PERM)),
            (-4095, Err(Errno::from_raw_os_error(4095))),
            (-4096, Err(Errno::PROTO)),
            (1, Err(Errno::PROTO)),
            (i32::MIN, Err(Errno::PROTO)),
            (i32::MAX, Err(Errno::PROTO)),
        ] {
            assert_eq!(verdict(&code.to_ne_bytes()), expected, "{code}");
        }
        assert_eq!(verdict(&[0; 3]), Err(Errno::PROTO));
    }
}
