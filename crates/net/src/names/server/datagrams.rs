//! Questions that come as datagrams.

use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny};

use super::upstream::ReplyTo;
use super::{AT_ONCE, Outcome, Server};
use crate::attendant::Token;
use crate::names::message::Transport;

impl Server {
    pub(super) fn hear_datagrams(&mut self, key: Token) {
        let mut room = std::mem::take(&mut self.room);
        for _ in 0..AT_ONCE {
            let Some(sockets) = self.containers.get(key).and_then(|container| container.sockets.as_ref())
            else {
                break;
            };
            let udp = Rc::clone(&sockets.udp);
            let (length, peer) = match rustix::net::recvfrom(&*udp, &mut room[..], RecvFlags::DONTWAIT) {
                Ok((length, _, Some(peer))) => (length, peer),
                // What is told here was about an earlier answer.
                Err(Errno::INTR | Errno::CONNREFUSED) | Ok(_) => continue,
                Err(_) => break,
            };
            match self.decide(key, &room[..length], Transport::Udp) {
                Outcome::Nothing => {}
                Outcome::Answer(answer) => self.send_datagram(key, &peer, &answer),
                Outcome::Ask(resolvers, first) => {
                    self.ask(key, room[..length].to_vec(), ReplyTo::Datagram(peer), (resolvers, first));
                }
            }
        }
        self.room = room;
    }

    pub(super) fn send_datagram(&self, key: Token, peer: &SocketAddrAny, answer: &[u8]) {
        let sockets = self.containers.get(key).and_then(|container| container.sockets.as_ref());
        let Some(sockets) = sockets else { return };
        // What is lost is asked for again.
        let _ = rustix::net::sendto(&*sockets.udp, answer, SendFlags::DONTWAIT, peer);
    }
}
