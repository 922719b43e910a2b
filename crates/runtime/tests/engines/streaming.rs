//! The streams of a process in a container, as Kubernetes carries them over a WebSocket (RFC 6455, `v4.channel.k8s.io`):
//! the first byte of each message names the stream.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bulkhead_testkit::{Machine, slowness};

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
/// Tells how it ended.
const STATUS: u8 = 3;
/// Takes the size of the terminal.
const RESIZE: u8 = 4;

/// The streams of one process.
pub(crate) struct Streams {
    socket: BufReader<TcpStream>,
    pub(crate) output: String,
    pub(crate) errors: String,
    /// A JSON document, at the end.
    pub(crate) status: String,
}

impl Streams {
    /// Opens what the service of CRI has given an address for.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub(crate) fn open(machine: &Machine<'_>, url: &str) -> Self {
        let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
        let mut stream = machine.in_network(|| TcpStream::connect(host)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60) * slowness())).unwrap();
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nOrigin: http://{host}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut socket = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(socket.read_line(&mut head).unwrap() > 0, "the answer should not end here: {head}");
        }
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self { socket, output: String::new(), errors: String::new(), status: String::new() }
    }

    /// Writes to the process.
    pub(crate) fn type_in(&mut self, text: &str) {
        self.send(INPUT, text.as_bytes());
    }

    /// Gives its terminal a size.
    pub(crate) fn resize(&mut self, rows: u16, columns: u16) {
        self.send(RESIZE, format!("{{\"Width\":{columns},\"Height\":{rows}}}").as_bytes());
    }

    fn send(&mut self, stream: u8, bytes: &[u8]) {
        let length = u8::try_from(bytes.len() + 1).unwrap();
        assert!(length < 126, "longer messages have another head");
        // A whole binary message, masked as a client must, with a mask that changes nothing.
        let head = [0x82, 0x80 | length, 0, 0, 0, 0, stream];
        self.socket.get_mut().write_all(&[&head, bytes].concat()).unwrap();
    }

    /// Reads until the process has written this.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) {
        while !self.output.contains(text) {
            assert!(self.read(), "{text:?} should appear after {:?}", self.output);
        }
    }

    /// Reads to the end.
    pub(crate) fn end(&mut self) {
        while self.read() {}
    }

    /// Reads a message; says whether more may come.
    fn read(&mut self) -> bool {
        let mut head = [0; 2];
        match self.socket.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return false;
            }
            Err(error) => panic!("the stream should go on or end after {:?}: {error}", self.output),
        }
        let mut length = usize::from(head[1] & 0x7f);
        if length == 126 {
            let mut long = [0; 2];
            self.socket.read_exact(&mut long).unwrap();
            length = usize::from(u16::from_be_bytes(long));
        }
        let mut message = vec![0; length];
        self.socket.read_exact(&mut message).unwrap();
        if head[0] & 0x0f == 8 {
            return false; // It closes.
        }
        if let Some((stream, bytes)) = message.split_first() {
            let text = String::from_utf8_lossy(bytes);
            match *stream {
                OUTPUT => self.output.push_str(&text),
                ERRORS => self.errors.push_str(&text),
                STATUS => self.status.push_str(&text),
                other => panic!("there is no stream {other}: {text}"),
            }
        }
        true
    }
}
