//! A resolver, which answers as a test wants.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::packets::asked_name;

/// One that listens at an address of the loopback, port 53. Its threads end with the test's process.
pub(crate) struct Upstream {
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// One that answers datagrams with these messages, and connections with the first of them.
    pub(crate) fn new(
        address: Ipv4Addr,
        answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        bulkhead_sys::net::bring_loopback_up().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let answer = Arc::new(answer);
        let udp = UdpSocket::bind((address, 53)).unwrap();
        let tcp = TcpListener::bind((address, 53)).unwrap();
        let (heard, answers) = (Arc::clone(&asked), Arc::clone(&answer));
        begin(move || {
            let mut room = [0; 65_535];
            while let Ok((length, peer)) = udp.recv_from(&mut room) {
                heard.lock().unwrap().push(asked_name(&room[..length]));
                for answer in answers(&room[..length]) {
                    udp.send_to(&answer, peer).unwrap();
                }
            }
        });
        let (heard, count) = (Arc::clone(&asked), Arc::clone(&connections));
        begin(move || {
            use std::io::{Read as _, Write as _};
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                heard.lock().unwrap().push(asked_name(&question));
                if let Some(answer) = answer(&question).first() {
                    let length = u16::try_from(answer.len()).unwrap();
                    // It comes in pieces.
                    stream.write_all(&length.to_be_bytes()[..1]).unwrap();
                    stream.write_all(&length.to_be_bytes()[1..]).unwrap();
                    stream.write_all(answer).unwrap();
                }
            }
        });
        Self { asked, connections }
    }

    /// What it was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// How many have connected.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn begin(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().spawn(run).unwrap();
}
