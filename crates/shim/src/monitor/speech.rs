//! What clients say, and what is done about it.

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Monitor;
use super::clients::Role;
use super::companion::Ordered;
use super::input::Received;
use super::life::{Life, given};
use crate::order::{Order, Stdin};
use crate::place;
use crate::protocol::{ToClient, ToMonitor};

/// The most bytes of a message that does not carry any for the container.
const SHORT: usize = 64;

impl Monitor {
    /// Something is to be done for a client.
    pub(super) fn serve(&mut self, number: u32, flags: EventFlags) {
        if flags.contains(EventFlags::OUT) {
            self.catch_up(number);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.listen_to(number);
        }
    }

    fn catch_up(&mut self, number: u32) {
        let given = given(self.given, &mut self.stdout, &mut self.stderr);
        self.clients.catch_up(number, given);
    }

    fn listen_to(&mut self, number: u32) {
        let Some(client) = self.clients.get(number) else { return };
        if client.speaks() {
            if self.stdin.is_full() {
                return;
            }
            match self.stdin.receive(client.socket()) {
                Received::Gone => self.gone(number),
                Received::Nothing => {}
                Received::Message(bytes) => match ToMonitor::decode(bytes) {
                    Ok(ToMonitor::Stdin(bytes)) => {
                        let length = bytes.len();
                        self.stdin.take(length);
                        self.rest = Some(std::time::Instant::now() + super::REST);
                    }
                    Ok(ToMonitor::CloseStdin) => self.end_of_input(),
                    Ok(ToMonitor::Resize(size)) => self.resize(size),
                    Ok(ToMonitor::Taken) => self.taken(number),
                    Ok(_) => self.refuse(number, "an attached client asks for nothing else"),
                    Err(error) => self.refuse(number, &error.to_string()),
                },
            }
            return;
        }
        let role = client.role;
        let mut room = [0; SHORT];
        let received =
            rustix::io::retry_on_intr(|| rustix::net::recv(client.socket(), &mut room, RecvFlags::DONTWAIT));
        match received {
            Err(Errno::AGAIN | Errno::CONNRESET) => {}
            Ok((0, _)) | Err(_) => self.gone(number),
            Ok((length, _)) => match ToMonitor::decode(&room[..length]) {
                Ok(message) => self.obey(number, role, message),
                Err(error) => self.refuse(number, &error.to_string()),
            },
        }
    }

    /// Does what somebody asks for who does not speak to the container.
    fn obey(&mut self, number: u32, role: Role, message: ToMonitor<'_>) {
        match (role, message) {
            (Role::New, ToMonitor::Attach(attach)) => self.clients.set_role(number, Role::Attached(attach)),
            (Role::Attached(_), ToMonitor::Taken) => self.taken(number),
            (Role::Attached(_) | Role::New, ToMonitor::Resize(size)) => {
                self.resize(size);
                if role == Role::New {
                    self.clients.tell_and_leave(number, ToClient::Done);
                }
            }
            (Role::New, ToMonitor::Stop(stop)) => {
                self.clients.set_role(number, Role::AwaitsEnd);
                self.begin_to_stop(stop, true);
            }
            (Role::New, ToMonitor::Signal(signal)) => self.pass_signal(number, signal),
            (Role::New, ToMonitor::Policy(rule)) => {
                self.policy.change(rule);
                self.clients.tell_and_leave(number, ToClient::Done);
            }
            (Role::New, ToMonitor::Companions) => self.change_companions(number),
            // Its words and the end of its input go nowhere.
            (Role::Attached(_), ToMonitor::Stdin(_) | ToMonitor::CloseStdin) => {}
            // It was let go just before this was read, and asks again whoever comes next.
            (Role::Leaves, _) => {}
            _ => self.refuse(number, "this cannot be asked for here"),
        }
    }

    fn pass_signal(&mut self, number: u32, signal: i32) {
        if !matches!(self.life, Life::Running { .. }) {
            return self.refuse(number, "the container does not run");
        }
        if signal == bulkhead_sys::signal::KILL || signal == self.stop.signal {
            self.end_is_wanted(signal);
        }
        self.clients.set_role(number, Role::AwaitsCall);
        self.ask_to_end(signal, Some(number));
    }

    /// Stays with those that the order names by now.
    fn change_companions(&mut self, number: u32) {
        if self.lock.is_none() {
            // The order may be another monitor's.
            return self.refuse(number, "the container has ended");
        }
        let path = self.runtime.file(place::ORDER);
        match Order::read(&path) {
            Ok(mut order) => {
                self.companions.stay(Ordered::of(&mut order), &self.poll);
                self.clients.tell_and_leave(number, ToClient::Done);
            }
            Err(error) => self.refuse(number, &format!("read {}: {error}", path.display())),
        }
    }

    fn refuse(&mut self, number: u32, why: &str) {
        self.clients.tell_and_leave(number, ToClient::Refused(why));
    }

    fn taken(&mut self, number: u32) {
        self.end_is_taken = true;
        self.clients.set_role(number, Role::Leaves);
    }

    /// A client has gone. The first that spoke to the container takes its input with it, if the order says so.
    fn gone(&mut self, number: u32) {
        if let Some(Role::Attached(attach)) = self.clients.remove(number)
            && attach.stdin
            && !self.clients.speaks()
        {
            self.end_of_input();
        }
    }

    fn end_of_input(&mut self) {
        if self.stdin_rule == Stdin::Once && !self.is_terminal {
            self.stdin.close();
            self.stdin_rule = Stdin::Closed;
        }
    }
}
