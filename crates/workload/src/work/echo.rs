//! A conversation with another process: 64 bytes there and back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bulkhead_sys::offspring::{self, Offspring};
use bulkhead_sys::process;

use super::Work;
use crate::error::{Error, Result};

const LENGTH: usize = 64;

struct Echo<Stream> {
    stream: Stream,
    /// Tells the other end that nothing more comes.
    hang_up: fn(&Stream, Shutdown) -> std::io::Result<()>,
    other: Offspring,
    sent: u64,
}

/// Over a pair of unix sockets.
pub(super) fn over_unix(_: &Path) -> Result<Box<dyn Work>> {
    let (stream, theirs) = UnixStream::pair().map_err(Error::io("make a pair of unix sockets"))?;
    let other = offspring::fork(|| {
        // While the child has a copy of the other end, its own never ends.
        match process::close_copy(stream.as_fd()) {
            Ok(()) => answer(&theirs),
            Err(_) => 1,
        }
    })?;
    Ok(Box::new(Echo { stream, hang_up: UnixStream::shutdown, other, sent: 0 }))
}

/// Over TCP on loopback, without waiting for more to send.
pub(super) fn over_tcp(_: &Path) -> Result<Box<dyn Work>> {
    let (stream, other) = connect(|stream| match stream.set_nodelay(true) {
        Ok(()) => answer(stream),
        Err(_) => 1,
    })?;
    stream.set_nodelay(true).map_err(Error::io("set TCP_NODELAY"))?;
    Ok(Box::new(Echo { stream, hang_up: TcpStream::shutdown, other, sent: 0 }))
}

/// Makes a child that runs `theirs` on its end of a connection over loopback, and returns our end.
pub(super) fn connect(theirs: impl FnOnce(&TcpStream) -> u8) -> Result<(TcpStream, Offspring)> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen on 127.0.0.1"))?;
    let address = listener.local_addr().map_err(Error::io("getsockname"))?;
    // Connected before the child is made: when loopback is down this fails, and accepting would wait for ever.
    let stream = TcpStream::connect(address).map_err(Error::io("connect to 127.0.0.1 (is loopback up?)"))?;
    let other = offspring::fork(|| match listener.accept() {
        Ok((accepted, _)) if process::close_copy(stream.as_fd()).is_ok() => theirs(&accepted),
        _ => 1,
    })?;
    Ok((stream, other))
}

/// The other end's life: returns what comes, until nothing comes.
fn answer<Stream>(mut stream: &Stream) -> u8
where
    for<'a> &'a Stream: Read + Write,
{
    let mut message = [0; LENGTH];
    loop {
        match stream.read(&mut message) {
            Ok(0) => return 0,
            Ok(length) if stream.write_all(&message[..length]).is_ok() => {}
            _ => return 1,
        }
    }
}

impl<Stream: Read + Write> Work for Echo<Stream> {
    fn turn(&mut self) -> Result<()> {
        self.sent += 1;
        let mut message = [0; LENGTH];
        message[..8].copy_from_slice(&self.sent.to_le_bytes());
        let mut echo = [0; LENGTH];
        self.stream.write_all(&message).map_err(Error::io("send to the other process"))?;
        self.stream.read_exact(&mut echo).map_err(Error::io("receive from the other process"))?;
        if echo == message { Ok(()) } else { Err(Error::Wrong("the echo is not what was said".to_owned())) }
    }

    fn finish(self: Box<Self>) -> Result<()> {
        (self.hang_up)(&self.stream, Shutdown::Write).map_err(Error::io("shutdown"))?;
        ended_well(self.other)
    }
}

/// Waits for the other end, which must say that all went well.
pub(super) fn ended_well(other: Offspring) -> Result<()> {
    let status = other.wait()?;
    match status.exit_status() {
        Some(0) => Ok(()),
        _ => Err(Error::Wrong(format!("the other process ended with {status:?}"))),
    }
}
