//! Messages in streams: each has its length before it, in two bytes (RFC 1035, section 4.2.2).

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// What a read or a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The message is whole.
    Whole,
    /// The rest must wait.
    Blocked,
    /// The other end is gone, or says nonsense.
    Over,
}

/// Writes the length of a message before it.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    // No message is longer than its length can say.
    let length = message.len() as u16;
    [&length.to_be_bytes(), message].concat()
}

/// Reads on, up to the end of one message of at most `most` bytes; its length stays before it.
pub(super) fn read_message(socket: &OwnedFd, heard: &mut Vec<u8>, most: usize) -> Progress {
    let mut room = [0; 4096];
    loop {
        let end = match heard.first_chunk() {
            None => 2,
            Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
        };
        if heard.len() >= 2 && !(3..=2 + most).contains(&end) {
            return Progress::Over;
        }
        if heard.len() >= 2 && heard.len() == end {
            return Progress::Whole;
        }
        let wanted = (end - heard.len()).min(room.len());
        match rustix::net::recv(socket, &mut room[..wanted], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Progress::Over,
            Ok((length, _)) => heard.extend(&room[..length]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Progress::Blocked,
            Err(_) => return Progress::Over,
        }
    }
}

/// Writes on from `done`.
pub(super) fn write_rest(socket: &OwnedFd, bytes: &[u8], done: &mut usize) -> Progress {
    while *done < bytes.len() {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(socket, &bytes[*done..], flags) {
            Ok(length) => *done += length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Progress::Blocked,
            Err(_) => return Progress::Over,
        }
    }
    Progress::Whole
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_message_is_read_as_it_comes_and_no_further() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let ours = OwnedFd::from(ours);
        let mut heard = Vec::new();
        for (sent, progress) in
            [(&b"\0"[..], Progress::Blocked), (b"\x03a", Progress::Blocked), (b"bc\0\x01", Progress::Whole)]
        {
            theirs.write_all(sent).unwrap();
            assert_eq!(read_message(&ours, &mut heard, 10), progress);
        }
        assert_eq!(heard, b"\0\x03abc");
        heard.clear();
        theirs.write_all(b"x").unwrap();
        assert_eq!(read_message(&ours, &mut heard, 10), Progress::Whole);
        assert_eq!(heard, framed(b"x"));
        for nonsense in [b"\0\0", b"\0\x0b"] {
            heard.clear();
            theirs.write_all(nonsense).unwrap();
            assert_eq!(read_message(&ours, &mut heard, 10), Progress::Over);
        }
        heard.clear();
        theirs.write_all(b"\0").unwrap();
        drop(theirs);
        assert_eq!(read_message(&ours, &mut heard, 10), Progress::Over);
    }
}
