//! Unix sockets whose messages carry descriptors, see unix(7).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
};

use crate::syscall::check;
use crate::{Call, Result};

/// How many descriptors one message can carry here.
pub const MAX_DESCRIPTORS: usize = 32;

/// Makes a pair of connected sockets that keep message boundaries (SOCK_SEQPACKET).
///
/// # Errors
/// EMFILE at the limit of descriptors.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .call(|| "socketpair(AF_UNIX, SOCK_SEQPACKET)")
}

/// Returns the process that listened at, or made, the other end of a socket; 0 when it has no number in the caller's pid
/// namespace. See SO_PEERCRED in unix(7).
///
/// # Errors
/// As getsockopt(2).
pub fn peer(socket: impl AsFd) -> Result<i32> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `length` bytes to `found`, which is as large and may hold any.
    let returned = unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    check(returned.into()).call(|| format!("getsockopt({descriptor}, SO_PEERCRED)"))?;
    Ok(found.pid)
}

/// Sends one message with its descriptors.
///
/// # Errors
/// EPIPE when the other end is closed; SIGPIPE is not raised.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG).call(|| format!("sendmsg({} descriptors)", descriptors.len()));
    }
    rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL))
        .map(drop)
        .call(|| format!("sendmsg({} bytes, {} descriptors)", bytes.len(), descriptors.len()))
}

/// A message as it arrived; no bytes and no descriptors at the end of the stream.
#[derive(Debug, Default)]
pub struct Message {
    /// The bytes of the message.
    pub bytes: Vec<u8>,
    /// The descriptors it carried, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives one message of at most `limit` bytes; an empty one is the end.
///
/// A peer that ends with something unread leaves ECONNRESET, which the kernel tells once and before what the peer had
/// said (`unix_release_sock()`). It is no news: its last words and the end follow.
///
/// # Errors
/// EMSGSIZE for a longer message, else as recvmsg(2).
pub fn receive(socket: impl AsFd, limit: usize) -> Result<Message> {
    let mut bytes = vec![0; limit];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            result => break result.call(|| "recvmsg()")?,
        }
    };
    let descriptors = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.contains(rustix::net::ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE).call(|| format!("recvmsg(limit {limit})"));
    }
    bytes.truncate(received.bytes);
    Ok(Message { bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_with_something_unread_is_heard_to_the_end() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, b"unread", &[]).unwrap();
        send(&theirs, b"last words", &[]).unwrap();
        drop(theirs);
        assert_eq!(receive(&ours, 16).unwrap().bytes, b"last words");
        assert!(receive(&ours, 16).unwrap().bytes.is_empty());
    }

    #[test]
    fn descriptors_arrive_with_their_message_and_the_end_is_an_empty_one() {
        let (ours, theirs) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(&ours, b"pipe", &[write.as_fd()]).unwrap();
        drop((ours, write));
        let message = receive(&theirs, 16).unwrap();
        assert_eq!(message.bytes, b"pipe");
        rustix::io::write(&message.descriptors[0], b"x").unwrap();
        assert_eq!(rustix::io::read(&read, &mut [0; 4]).unwrap(), 1);
        assert!(receive(&theirs, 16).unwrap().bytes.is_empty());
    }

    #[test]
    fn a_message_over_the_limit_is_an_error() {
        let (ours, theirs) = pair().unwrap();
        send(&ours, b"too long", &[]).unwrap();
        assert_eq!(receive(&theirs, 4).unwrap_err().errno(), Errno::MSGSIZE);
    }
}
