//! Attempts on sockets that listen outside.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::time::Duration;

use bulkhead_sys::Call as _;

use super::{Attempt, MOST, Words};
use crate::error::{Error, Result};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn read_abstract(words: &Words) -> Result<Attempt> {
    let name = words.text(0)?;
    let address = UnixAddress::from_abstract_name(name).map_err(Error::io("make an abstract address"))?;
    let connected = UnixStream::connect_addr(&address).call(|| format!("connect(\"@{name}\")"));
    Ok(connected.and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE)).call(|| "setsockopt(SO_RCVTIMEO)")?;
        answer(stream)
    }))
}

pub(super) fn read_tcp(words: &Words) -> Result<Attempt> {
    let text = words.text(0)?;
    let address: SocketAddr =
        text.parse().map_err(|_| Error::Usage(format!("{text} is no address with a port")))?;
    let connected = TcpStream::connect_timeout(&address, PATIENCE).call(|| format!("connect({address})"));
    Ok(connected.and_then(|stream| {
        stream.set_read_timeout(Some(PATIENCE)).call(|| "setsockopt(SO_RCVTIMEO)")?;
        answer(stream)
    }))
}

/// Reads until the other side has said everything.
fn answer(stream: impl Read) -> Attempt {
    let mut bytes = Vec::new();
    stream.take(MOST as u64).read_to_end(&mut bytes).call(|| "read(socket)")?;
    Ok(bytes)
}
