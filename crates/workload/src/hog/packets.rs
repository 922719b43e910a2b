//! Sends small datagrams over loopback, and receives them.

use std::net::UdpSocket;

use rustix::io::Errno;

use super::Share;
use crate::error::{Error, Result};
use crate::pace::now;

/// Datagrams between two looks at the clock.
const BATCH: usize = 64;

const LENGTH: usize = 64;

pub(super) fn live(share: &Share<'_>) -> Result<()> {
    let (from, to) =
        pair().map_err(Error::io("connect two datagram sockets over 127.0.0.1 (is loopback up?)"))?;
    share.slot.hold(1);
    let message = [5; LENGTH];
    let mut received = [0; LENGTH];
    while now() < share.end {
        for _ in 0..BATCH {
            match from.send(&message) {
                Ok(_) => {}
                Err(error) if is_crowded(&error) => share.slot.refuse(),
                Err(error) => return Err(Error::io("send a datagram")(error)),
            }
        }
        loop {
            match to.recv(&mut received) {
                Ok(_) => share.slot.count(1),
                Err(error) if is_crowded(&error) => break,
                Err(error) => return Err(Error::io("receive a datagram")(error)),
            }
        }
    }
    Ok(())
}

fn pair() -> std::io::Result<(UdpSocket, UdpSocket)> {
    let (from, to) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    from.connect(to.local_addr()?)?;
    to.connect(from.local_addr()?)?;
    from.set_nonblocking(true)?;
    to.set_nonblocking(true)?;
    Ok((from, to))
}

/// Tells whether there is no room for a datagram, or none there.
fn is_crowded(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM))
}
