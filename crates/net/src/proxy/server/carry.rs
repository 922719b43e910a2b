//! Carrying bytes from one socket to another without reading them: by splice(2), through a pipe that is theirs as long as there is
//! something in it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{PipeFlags, SpliceFlags};

/// What is taken at once: what a pipe holds.
const PIECE: usize = 64 * 1024;
/// What is carried in one turn.
pub(super) const TURN: usize = 16 * PIECE;
/// How many pipes are kept that nobody uses.
const SPARE: usize = 16;

/// Pipes that are empty.
#[derive(Debug)]
pub(super) struct Pipes {
    spare: Vec<Pipe>,
    used: usize,
    most: usize,
}

/// The end that is read, and the one that is written.
#[derive(Debug)]
pub(super) struct Pipe(OwnedFd, OwnedFd);

/// One way of a connection.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// What was taken and not passed on yet, with how much there is.
    held: Option<(Pipe, usize)>,
    /// Whether its end has come.
    pub(super) has_ended: bool,
    /// Whether that was passed on.
    pub(super) is_shut: bool,
}

/// A socket, as far as is known of it.
#[derive(Debug)]
pub(super) struct End {
    pub(super) socket: OwnedFd,
    pub(super) is_readable: bool,
    pub(super) is_writable: bool,
    /// Something urgent has come, before which splice(2) stops.
    pub(super) is_urgent: bool,
    /// It has failed; what it has said before that is still there.
    pub(super) has_failed: bool,
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is nothing more to do until something happens.
    Waits,
    /// There is more.
    Goes,
    /// One side is broken.
    Broken,
}

impl Pipes {
    pub(super) fn new() -> Self {
        Self { spare: Vec::new(), used: 0, most: 0 }
    }

    /// Has there be so many at most.
    pub(super) fn limit(&mut self, most: usize) {
        self.most = most;
    }

    fn take(&mut self) -> Option<Pipe> {
        if self.used >= self.most {
            return None;
        }
        let pipe = self.spare.pop().or_else(|| {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
            Some(Pipe(read, write))
        });
        self.used += usize::from(pipe.is_some());
        pipe
    }

    fn give_back(&mut self, pipe: Pipe) {
        self.used -= 1;
        if self.spare.len() < SPARE {
            self.spare.push(pipe);
        }
    }

    /// Forgets a flow, with what it holds.
    pub(super) fn forget(&mut self, flow: &mut Flow) {
        self.used -= usize::from(flow.held.take().is_some());
    }
}

impl Flow {
    /// Carries what there is, at most a turn.
    pub(super) fn carry(&mut self, from: &mut End, to: &mut End, pipes: &mut Pipes, room: &mut [u8]) -> Turn {
        let mut left = TURN;
        while !self.is_shut {
            if let Some((pipe, length)) = &mut self.held {
                if !to.is_writable {
                    return Turn::Waits;
                }
                match splice(&pipe.0, &to.socket, *length) {
                    Ok(0) => return Turn::Broken,
                    Ok(passed) => *length -= passed.min(*length),
                    Err(Errno::AGAIN) => to.is_writable = false,
                    Err(Errno::INTR) => {}
                    Err(_) => return Turn::Broken,
                }
                if *length == 0
                    && let Some((pipe, _)) = self.held.take()
                {
                    pipes.give_back(pipe);
                }
            } else if self.has_ended {
                // Who has gone needs no end.
                let _ = rustix::net::shutdown(&to.socket, rustix::net::Shutdown::Write);
                self.is_shut = true;
            } else if !from.is_readable || !to.is_writable {
                return Turn::Waits;
            } else if left == 0 {
                return Turn::Goes;
            } else {
                match self.take(from, to, pipes, room) {
                    Ok(taken) => left = left.saturating_sub(taken.max(1)),
                    Err(Errno::INTR) => {}
                    Err(_) => return Turn::Broken,
                }
            }
        }
        Turn::Waits
    }

    /// Takes a piece; returns how much.
    fn take(
        &mut self,
        from: &mut End,
        to: &mut End,
        pipes: &mut Pipes,
        room: &mut [u8],
    ) -> Result<usize, Errno> {
        let pipe = if from.is_urgent { None } else { pipes.take() };
        let Some(pipe) = pipe else { return self.take_by_hand(from, to, room) };
        let taken = splice(&from.socket, &pipe.1, PIECE);
        match taken {
            Ok(length @ 1..) => {
                self.held = Some((pipe, length));
                return Ok(length);
            }
            Ok(_) => self.has_ended = true,
            Err(Errno::AGAIN) => from.is_readable = false,
            Err(_) => {}
        }
        pipes.give_back(pipe);
        match taken {
            Err(Errno::AGAIN) => Ok(0),
            taken => taken,
        }
    }

    /// Takes a piece where there is no pipe for it, or where something urgent is, which stays in its place: it is looked at, passed on as
    /// far as the other side takes it, and only then taken, so that nothing has to be kept.
    fn take_by_hand(&mut self, from: &mut End, to: &mut End, room: &mut [u8]) -> Result<usize, Errno> {
        let length = match rustix::net::recv(&from.socket, &mut *room, RecvFlags::PEEK | RecvFlags::DONTWAIT)
        {
            Ok((0, _)) => {
                self.has_ended = true;
                return Ok(0);
            }
            Ok((length, _)) => length,
            Err(Errno::AGAIN) => {
                (from.is_readable, from.is_urgent) = (false, false);
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        match rustix::net::send(&to.socket, &room[..length], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(passed) => {
                rustix::net::recv(&from.socket, &mut room[..passed], RecvFlags::DONTWAIT)?;
                Ok(passed)
            }
            Err(Errno::AGAIN) => {
                to.is_writable = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

fn splice(from: impl AsFd, to: impl AsFd, length: usize) -> Result<usize, Errno> {
    rustix::pipe::splice(from, None, to, None, length, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
}
