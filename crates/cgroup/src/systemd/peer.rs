//! The other end of a connection, for tests.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;

use super::message::testing::incoming;
use super::message::{FIXED, Message};
use super::wire::Writer;

/// The name by which a bus knows systemd.
pub(crate) const SYSTEMD_NAME: &str = ":1.2";
/// That of somebody else.
const STRANGER: &str = ":1.3";
const SENDER: u8 = 7;

/// How a call is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    Nothing,
    Variant(&'static str),
    Error(&'static str),
    /// The job, and how it ends: told after a signal about another one.
    Job(&'static str, &'static str),
    /// The same, but the signal comes before the answer.
    EarlyJob(&'static str, &'static str),
    /// The same, after somebody else on the bus claimed another end.
    ForgedJob(&'static str, &'static str),
    /// Signals without end instead of an answer.
    Flood,
    /// No answer, but the end of the connection.
    End,
}

/// Someone who lets everybody in and answers as told.
pub(crate) struct Peer {
    pub(crate) answers: Vec<Answer>,
    /// Sends a signal together with the end of the greeting.
    pub(crate) early_signal: bool,
}

impl Peer {
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Vec::from_iter(answers), early_signal: false }
    }

    /// Answers at the other end of the socket; ends with the names of the methods that were called.
    #[expect(clippy::disallowed_methods, reason = "a test makes no container while the other end answers")]
    pub(crate) fn listen(self) -> (OwnedFd, thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (ours.into(), thread::spawn(move || self.answer(theirs)))
    }

    fn answer(self, mut socket: UnixStream) -> Vec<String> {
        expect(&mut socket, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        // In pieces that are no lines, as a stream may deliver it.
        socket.write_all(b"DATA\r\nOK 0123").unwrap();
        let mut rest = b"\r\n".to_vec();
        if self.early_signal {
            rest.extend(incoming(4, 0, &[(3, "UnitNew")], "", &[]));
        }
        socket.write_all(&rest).unwrap();
        let mut called = Vec::new();
        for answer in self.answers {
            // Some answers may not be asked for.
            let Some((serial, member)) = call(&mut socket) else { break };
            called.push(member);
            for bytes in messages(answer, serial) {
                // One who has had enough is gone.
                if socket.write_all(&bytes).is_err() {
                    break;
                }
            }
        }
        called
    }
}

fn expect(socket: &mut UnixStream, line: &[u8]) {
    let mut found = vec![0; line.len()];
    socket.read_exact(&mut found).unwrap();
    assert_eq!(found, line, "{}", String::from_utf8_lossy(&found));
}

fn call(socket: &mut UnixStream) -> Option<(u32, String)> {
    let mut fixed = [0; FIXED];
    socket.read_exact(&mut fixed).ok()?;
    let mut rest = vec![0; Message::length(&fixed).unwrap() - FIXED];
    socket.read_exact(&mut rest).unwrap();
    let message = Message::parse(&[&fixed, rest.as_slice()].concat()).unwrap();
    let serial = u32::from_ne_bytes(*fixed[8..].first_chunk().unwrap());
    Some((serial, message.member))
}

fn messages(answer: Answer, serial: u32) -> Vec<Vec<u8>> {
    let text = |text: &str| {
        let mut body = Writer::default();
        body.string(text);
        body.into_bytes()
    };
    let removed = |sender: &str, job: &str, result: &str| {
        let mut body = Writer::default();
        body.u32(1);
        for text in [job, "x.scope", result] {
            body.string(text);
        }
        incoming(4, 0, &[(3, "JobRemoved"), (SENDER, sender)], "uoss", &body.into_bytes())
    };
    let reply =
        |signature: &str, body: &[u8]| incoming(2, serial, &[(SENDER, SYSTEMD_NAME)], signature, body);
    match answer {
        Answer::Nothing => vec![reply("", &[])],
        Answer::Variant(value) => {
            let mut body = Writer::default();
            body.signature("s");
            body.string(value);
            vec![reply("v", &body.into_bytes())]
        }
        Answer::Error(name) => vec![incoming(3, serial, &[(4, name)], "s", &text("because"))],
        Answer::Job(job, result) => vec![
            incoming(4, 0, &[(3, "UnitNew")], "", &[]),
            reply("o", &text(job)),
            removed(SYSTEMD_NAME, "/another", "done"),
            removed(SYSTEMD_NAME, job, result),
        ],
        Answer::EarlyJob(job, result) => {
            vec![removed(SYSTEMD_NAME, job, result), reply("o", &text(job))]
        }
        Answer::ForgedJob(job, result) => vec![
            removed(STRANGER, job, "forged"),
            reply("o", &text(job)),
            removed(STRANGER, job, "forged"),
            removed(SYSTEMD_NAME, job, result),
        ],
        Answer::Flood => vec![removed(SYSTEMD_NAME, "/another", "done"); 10_000],
        Answer::End => Vec::new(),
    }
}
