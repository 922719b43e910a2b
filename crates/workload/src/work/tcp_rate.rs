//! How much goes over loopback.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use bulkhead_sys::offspring::Offspring;

use super::Work;
use super::echo::{connect, ended_well};
use crate::error::{Error, Result};

const BLOCK: usize = 1 << 20;

struct Sending {
    stream: TcpStream,
    other: Offspring,
    block: Vec<u8>,
    sent: u64,
}

pub(super) fn begin(_: &Path) -> Result<Box<dyn Work>> {
    let (stream, other) = connect(receive)?;
    Ok(Box::new(Sending { stream, other, block: vec![7; BLOCK], sent: 0 }))
}

/// The other end's life: takes everything, then says how much it was.
fn receive(mut stream: &TcpStream) -> u8 {
    let mut block = vec![0; BLOCK];
    let mut received = 0_u64;
    loop {
        match stream.read(&mut block) {
            Ok(0) => break,
            Ok(length) => received += length as u64,
            Err(_) => return 1,
        }
    }
    u8::from(stream.write_all(&received.to_le_bytes()).is_err())
}

impl Work for Sending {
    fn turn(&mut self) -> Result<()> {
        self.stream.write_all(&self.block).map_err(Error::io("send to the other process"))?;
        self.sent += BLOCK as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).map_err(Error::io("shutdown"))?;
        let mut received = [0; 8];
        self.stream.read_exact(&mut received).map_err(Error::io("receive from the other process"))?;
        match u64::from_le_bytes(received) {
            received if received == self.sent => ended_well(self.other),
            received => Err(Error::Wrong(format!("{received} of {} bytes arrived", self.sent))),
        }
    }
}
