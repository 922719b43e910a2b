//! The container's streams, from the runtime's hands to the clients'.

use std::os::fd::OwnedFd;
use std::time::Instant;

use bulkhead_sys::message;
use rustix::event::epoll::EventFlags;
use rustix::fs::OFlags;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::SocketFlags;
use rustix::termios::{Winsize, tcsetwinsize};

use super::clients::Slow;
use super::error::{Doing, Result};
use super::input::Input;
use super::life::Life;
use super::output::{Output, Read};
use super::poll::Token;
use super::runtime::Streams;
use super::{Monitor, REST};
use crate::log::Stream;
use crate::protocol::Size;

/// The most that a runtime says when it sends a terminal: a name.
const LONGEST_NAME: usize = 4096;

impl Monitor {
    /// Takes what a start was given.
    pub(super) fn take_streams(&mut self, streams: Streams) -> Result<()> {
        let Streams { stdin, stdout, stderr, console } = streams;
        self.stdin = Input::new(stdin);
        self.stdout = stdout.map(|pipe| Output::new(pipe, Stream::Stdout, false));
        self.stderr = stderr.map(|pipe| Output::new(pipe, Stream::Stderr, false));
        self.console_peer = None;
        self.console = console;
        if let Some(console) = &self.console {
            self.poll.add(&console.socket, Token::Console, EventFlags::IN)?;
        }
        Ok(())
    }

    /// Forgets the streams; what is in them is lost.
    pub(super) fn drop_streams(&mut self) {
        self.stdin = Input::new(None);
        (self.stdout, self.stderr, self.console, self.console_peer) = (None, None, None, None);
    }

    /// The runtime connects to bring the terminal.
    pub(super) fn accept_console(&mut self) {
        let Some(console) = &self.console else { return };
        if let Ok(peer) =
            rustix::net::accept_with(&console.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
            && self.poll.add(&peer, Token::ConsolePeer, EventFlags::IN).is_ok()
        {
            self.console_peer = Some(peer);
            self.console = None;
            drop(std::fs::remove_file(self.runtime.file(crate::place::CONSOLE)));
        }
    }

    /// The terminal arrives.
    pub(super) fn receive_terminal(&mut self) {
        let Some(peer) = &self.console_peer else { return };
        let Ok(message) = message::receive(peer, LONGEST_NAME) else { return };
        self.console_peer = None;
        if let Some(terminal) = message.descriptors.into_iter().next()
            && let Ok((output, input)) = both_ways(terminal)
        {
            self.stdin = Input::new(input);
            self.stdout = Some(Output::new(output, Stream::Stdout, true));
            if let Some(size) = self.size {
                self.resize(size);
            }
        }
    }

    /// Makes sure that a terminal that should be there has come.
    pub(super) fn expect_terminal(&mut self) -> std::result::Result<(), String> {
        // It was sent before the runtime ended.
        self.accept_console();
        self.receive_terminal();
        if self.is_terminal && self.stdout.is_none() {
            return Err("the runtime has sent no terminal".to_owned());
        }
        Ok(())
    }

    /// Gives the terminal another size.
    pub(super) fn resize(&mut self, size: Size) {
        self.size = Some(size);
        if let Some(terminal) = self.stdout.as_ref().filter(|_| self.is_terminal) {
            let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal takes any size.
            let _ = tcsetwinsize(terminal.descriptor(), size);
        }
    }

    /// Reads some output, and gives it to the log and then to those who listen.
    pub(super) fn relay(&mut self, token: Token) {
        let output = if token == Token::Stdout { &mut self.stdout } else { &mut self.stderr };
        let Some(stream) = output else { return };
        let ends = matches!(self.life, Life::Ending { .. });
        // Of several events at once, an earlier one may have made somebody fall behind.
        if self.clients.is_behind() && !ends {
            return;
        }
        match stream.read(&mut self.log) {
            Read::Bytes => {
                self.rest = Some(Instant::now() + REST);
                self.given = stream.stream();
                let slow = if ends { Slow::IsKeptFor } else { Slow::HoldsBack };
                self.clients.give(self.given, stream.bytes(), slow);
            }
            Read::Nothing => {}
            // Somebody in the container may open its terminal again.
            Read::Ended if stream.again().is_some() => {}
            Read::Ended => {
                stream.finish(&mut self.log);
                *output = None;
            }
        }
    }
}

/// A descriptor for reading and one for writing: epoll(7) knows a descriptor once.
fn both_ways(terminal: OwnedFd) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let doing = || "take the terminal";
    rustix::fs::fcntl_setfl(&terminal, OFlags::NONBLOCK | OFlags::RDWR).doing(doing)?;
    let input = fcntl_dupfd_cloexec(&terminal, 3).doing(doing)?;
    Ok((terminal, Some(input)))
}
