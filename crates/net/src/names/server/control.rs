//! Those who say what is to be done.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bulkhead_sys::message as carrier;
use rustix::event::epoll::EventFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{AT_ONCE, Container, Due, Server, Sockets, Thing};
use crate::attendant::Token;
use crate::names::protocol::{Answer, MOST, Request};
use crate::names::resolvers::{PORT, is_asking_itself};

/// How long somebody may be connected who keeps nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub(super) struct Control {
    socket: OwnedFd,
    /// The containers for which it stays.
    stays: Vec<Token>,
    /// When it is closed, while it stays for none.
    deadline: Option<Instant>,
}

impl Server {
    pub(super) fn accept_controls(&mut self, listener: Token) {
        for _ in 0..AT_ONCE {
            let Some(Thing::Listener(listener)) = self.things.get(listener) else { return };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = rustix::net::accept_with(listener, flags) else { return };
            let count = self.things.iter().filter(|(_, thing)| matches!(thing, Thing::Control(_))).count();
            if count >= self.limits.controls {
                continue;
            }
            let token = self.things.insert(Thing::Control(Box::new(Control {
                socket,
                stays: Vec::new(),
                deadline: None,
            })));
            let Some(Thing::Control(control)) = self.things.get_mut(token) else { return };
            if self.poll.add(&control.socket, token, EventFlags::IN).is_err() {
                self.things.remove(token);
                continue;
            }
            control.deadline = Some(self.timers.set(Due::Thing(token), PATIENCE));
        }
    }

    pub(super) fn hear_control(&mut self, token: Token) {
        let Some(Thing::Control(control)) = self.things.get(token) else { return };
        let message = match carrier::receive(&control.socket, MOST) {
            Err(error) if error.errno() == Errno::AGAIN => return,
            Ok(message) if !message.bytes.is_empty() => message,
            _ => return self.close_control(token),
        };
        let request = Request::decode(&message.bytes);
        let is_stay = matches!(request, Ok(Request::Stay { .. }));
        let done = request.and_then(|request| self.carry_out(token, request, message.descriptors));
        let answer = done.unwrap_or_else(|error| Answer { error: Some(error), containers: None });
        let is_refused = answer.error.is_some() && is_stay;
        let Some(Thing::Control(control)) = self.things.get(token) else { return };
        // Who stays and reads no answers has none; anybody else would wait for one that there is no room for.
        let is_sent = carrier::send(&control.socket, &answer.encode(), &[]).is_ok();
        // Nor does a monitor read why it cannot stay: it has the container served when the connection ends.
        if (is_refused || !is_sent) && control.stays.is_empty() {
            self.close_control(token);
        }
    }

    fn carry_out(&mut self, token: Token, request: Request, with: Vec<OwnedFd>) -> Result<Answer, String> {
        match request {
            Request::Serve { container, resolvers } => {
                let (sockets, keeper) = Brought::take(with)?;
                let sockets = sockets.ok_or("it comes without its sockets")?;
                let key = self.find_or_make(&container)?;
                self.serve(key, sockets, &resolvers)?;
                if let Some(keeper) = keeper {
                    self.keep(key, keeper)?;
                }
                self.look_after(key);
            }
            Request::Stay { container, resolvers } => {
                let (sockets, keeper) = Brought::take(with)?;
                if keeper.is_some() {
                    return Err("the connection keeps the sockets, and nothing else".to_owned());
                }
                let key = match sockets {
                    Some(sockets) => {
                        let key = self.find_or_make(&container)?;
                        self.serve(key, sockets, &resolvers)?;
                        key
                    }
                    None => self.served(&container).ok_or("there are no sockets of its to stay with")?,
                };
                self.stay(token, key);
            }
            Request::Leave { container } => {
                if let Some(key) = self.find(&container) {
                    self.give_up(key);
                }
            }
            Request::Greet => {}
            Request::Look => {
                let ids = self.containers.iter().filter(|(_, container)| container.sockets.is_some());
                let containers = Some(ids.map(|(_, container)| container.id.to_string()).collect());
                return Ok(Answer { error: None, containers });
            }
            Request::End if self.containers.len() > 0 => {
                return Err("there are containers that it serves".to_owned());
            }
            Request::End => self.is_over = true,
        }
        Ok(Answer::default())
    }

    fn find(&self, id: &str) -> Option<Token> {
        self.containers.iter().find(|(_, container)| *container.id == *id).map(|(key, _)| key)
    }

    /// Finds a container whose questions arrive here.
    fn served(&self, id: &str) -> Option<Token> {
        self.find(id).filter(|key| self.containers.get(*key).is_some_and(|found| found.sockets.is_some()))
    }

    fn find_or_make(&mut self, id: &str) -> Result<Token, String> {
        if let Some(key) = self.find(id) {
            return Ok(key);
        }
        let most = self.limits.containers;
        if self.containers.len() >= most {
            return Err(format!("there are {most} containers, as many as its limit of open files allows"));
        }
        let container = Container {
            id: id.into(),
            sockets: None,
            resolvers: Rc::new([]),
            stays: 0,
            keeper: None,
            until: None,
            asked: Default::default(),
            clients: Default::default(),
        };
        let key = self.containers.insert(container);
        self.look_after(key);
        Ok(key)
    }

    fn serve(&mut self, key: Token, brought: Brought, resolvers: &[IpAddr]) -> Result<(), String> {
        if let Some(own) = resolvers.iter().find(|resolver| is_asking_itself(**resolver)) {
            return Err(format!(
                "the resolver {own} would be asked at the host's loopback, not the container's"
            ));
        }
        let (udp, tcp) = (Rc::new(brought.udp), Rc::new(brought.tcp));
        let things = [Thing::Datagrams(key), Thing::Streams(key)].map(|thing| self.things.insert(thing));
        for (socket, thing) in [&udp, &tcp].into_iter().zip(things) {
            if let Err(errno) = self.poll.add(socket, thing, EventFlags::IN) {
                things.into_iter().for_each(|thing| drop(self.things.remove(thing)));
                return Err(format!("its sockets cannot be waited for: {errno}"));
            }
        }
        let Some(container) = self.containers.get_mut(key) else { return Ok(()) };
        container.resolvers =
            resolvers.iter().map(|resolver| (*resolver, PORT).into()).collect::<Rc<[SocketAddr]>>();
        if let Some(old) = container.sockets.replace(Sockets { udp, tcp, things }) {
            old.things.into_iter().for_each(|thing| drop(self.things.remove(thing)));
        }
        Ok(())
    }

    fn keep(&mut self, key: Token, keeper: OwnedFd) -> Result<(), String> {
        let Some(container) = self.containers.get_mut(key) else { return Ok(()) };
        let token = self.things.insert(Thing::Keeper(key, keeper));
        let Some(Thing::Keeper(_, keeper)) = self.things.get(token) else { return Ok(()) };
        if let Err(errno) = self.poll.add(keeper, token, EventFlags::IN) {
            self.things.remove(token);
            return Err(format!("what is to keep its sockets cannot be waited for: {errno}"));
        }
        if let Some(old) = container.keeper.replace(token) {
            self.things.remove(old);
        }
        Ok(())
    }

    fn stay(&mut self, token: Token, key: Token) {
        let Some(Thing::Control(control)) = self.things.get_mut(token) else { return };
        if control.stays.contains(&key) {
            return;
        }
        control.stays.push(key);
        if let Some(deadline) = control.deadline.take() {
            self.timers.forget(Due::Thing(token), deadline);
        }
        if let Some(container) = self.containers.get_mut(key) {
            container.stays += 1;
        }
        self.look_after(key);
    }

    /// Gives a container some time if nobody keeps it.
    fn look_after(&mut self, key: Token) {
        let Some(container) = self.containers.get_mut(key) else { return };
        let is_kept = container.stays > 0 || container.keeper.is_some();
        match (is_kept, container.until) {
            (true, Some(until)) => {
                self.timers.forget(Due::Container(key), until);
                container.until = None;
            }
            (false, None) => container.until = Some(self.timers.set(Due::Container(key), self.grace)),
            _ => {}
        }
    }

    pub(super) fn keeper_ended(&mut self, token: Token, key: Token) {
        self.things.remove(token);
        let Some(container) = self.containers.get_mut(key) else { return };
        container.keeper = None;
        if container.stays == 0 {
            self.give_up(key);
        }
    }

    pub(super) fn close_control(&mut self, token: Token) {
        let Some(Thing::Control(control)) = self.things.remove(token) else { return };
        let Control { socket: _, stays, deadline } = *control;
        if let Some(deadline) = deadline {
            self.timers.forget(Due::Thing(token), deadline);
        }
        for key in stays {
            let Some(container) = self.containers.get_mut(key) else { continue };
            container.stays -= 1;
            // The container's end: its network namespace lasts as long as these sockets.
            if container.stays == 0 && container.keeper.is_none() {
                self.give_up(key);
            }
        }
    }
}

/// The sockets that a message has brought.
struct Brought {
    udp: OwnedFd,
    tcp: OwnedFd,
}

impl Brought {
    /// Takes them, and what keeps them, if it came along.
    fn take(descriptors: Vec<OwnedFd>) -> Result<(Option<Self>, Option<OwnedFd>), String> {
        if descriptors.is_empty() {
            return Ok((None, None));
        }
        let mut descriptors = descriptors.into_iter();
        let (Some(udp), Some(tcp), keeper, None) =
            (descriptors.next(), descriptors.next(), descriptors.next(), descriptors.next())
        else {
            return Err("a container has two sockets, and one keeper at most".to_owned());
        };
        let is_of = |socket: &OwnedFd, kind| {
            sockopt::socket_type(socket) == Ok(kind)
                && sockopt::socket_domain(socket) == Ok(AddressFamily::INET)
        };
        if !is_of(&udp, SocketType::DGRAM) {
            return Err("the first descriptor is no socket for datagrams of IPv4".to_owned());
        }
        if !is_of(&tcp, SocketType::STREAM) || sockopt::socket_acceptconn(&tcp) != Ok(true) {
            return Err("the second descriptor is no socket of IPv4 that listens".to_owned());
        }
        for socket in [&udp, &tcp] {
            let set = rustix::fs::fcntl_getfl(socket.as_fd())
                .and_then(|flags| rustix::fs::fcntl_setfl(socket, flags | OFlags::NONBLOCK));
            set.map_err(|errno| format!("its sockets cannot be told not to wait: {errno}"))?;
        }
        Ok((Some(Self { udp, tcp }), keeper))
    }
}
