//! What CRIU is asked, whatever the kernel could do of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::fail::OrFail;
use crate::{Run, Sandbox};

/// A program `criu` that is as new as can be and can do everything, notes what it is to do, and then refuses. A restore it
/// begins, with a process of its own, and lets the runtime do what it does at the moments that CRIU tells of.
///
/// It needs Python 3.
#[derive(Debug)]
pub struct Recorder {
    directory: PathBuf,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The kind, CRIU's `criu_req_type`.
    pub kind: u64,
    /// `FIELD=VALUE` for each of its `criu_opts`, in their order; descriptors, whose numbers mean nothing later, are left
    /// out.
    pub options: Vec<String>,
}

/// The fields whose values are descriptors: images, work files.
const DESCRIPTORS: [u64; 2] = [1, 17];

const PROGRAM: &str = r#"#!/usr/bin/env python3
import os, signal, socket, sys
place = os.path.dirname(os.path.abspath(__file__))
end = socket.socket(fileno=int(sys.argv[2]))
request = end.recv(1 << 16)
kind = request[1]

def number(value):
    return bytes([value & 0x7f | 0x80]) + number(value >> 7) if value > 0x7f else bytes([value])

def notify(moment, pid):
    inner = b'\x0a' + number(len(moment)) + moment + b'\x10' + number(pid)
    end.send(b'\x08\x06\x10\x01\x2a' + number(len(inner)) + inner)
    end.recv(1 << 16)

if kind == 10:
    end.send(b'\x08\x0a\x10\x01\x52\x04\x08\x04\x10\x01')
elif kind == 9:
    end.send(b'\x08\x09\x10\x01\x42\x04\x08\x01\x10\x01')
else:
    with open(place + '/request', 'wb') as file:
        file.write(request)
    if kind == 2:
        pid = os.fork()
        if pid == 0:
            end.close()
            signal.pause()
        notify(b'setup-namespaces', pid)
        notify(b'post-restore', pid)
        with open('/proc/self/cgroup') as file:
            found = ['/sys/fs/cgroup' + line.strip()[3:] for line in file if line.startswith('0::')]
        for cgroup in filter(os.path.isdir, found):
            with open(place + '/owner', 'w') as file:
                file.write(str(os.stat(cgroup).st_uid))
        os.kill(pid, signal.SIGKILL)
    end.send(bytes([8, kind, 16, 0]))
end.recv(1 << 16)
"#;

impl Recorder {
    /// Puts it into a directory of the sandbox.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn new(sandbox: &Sandbox) -> Recorder {
        let directory = sandbox.directory().join("recorder");
        fs::create_dir(&directory).or_fail("make the recorder's directory");
        let program = directory.join("criu");
        fs::write(&program, PROGRAM).or_fail("write the recorder");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).or_fail("make it a program");
        Recorder { directory }
    }

    /// Has a command of the runtime find it in place of CRIU.
    pub fn before(&self, run: Run) -> Run {
        let path = std::env::var("PATH").unwrap_or_default();
        run.env("PATH", format!("{}:{path}", self.directory.display()))
    }

    /// Returns the last request, which counts once.
    ///
    /// # Panics
    /// When there was none, or it is no message.
    #[track_caller]
    pub fn request(&self) -> Request {
        let file = self.directory.join("request");
        let bytes = fs::read(&file).or_fail("read what CRIU was asked");
        fs::remove_file(&file).or_fail("forget what CRIU was asked");
        let (mut kind, mut options) = (0, Vec::new());
        for (field, value) in fields(&bytes) {
            match (field, value) {
                (1, Value::Number(value)) => kind = value,
                (2, Value::Bytes(bytes)) => {
                    let fields = fields(bytes).into_iter();
                    options.extend(fields.filter(|(field, _)| !DESCRIPTORS.contains(field)).map(shown));
                }
                _ => {}
            }
        }
        Request { kind, options }
    }

    /// Returns whose the v2 cgroup was in which it ran, after all that the runtime does about a container that is restored.
    ///
    /// # Panics
    /// When it has restored nothing in one.
    #[track_caller]
    pub fn owner_of_cgroup(&self) -> u32 {
        let text = fs::read_to_string(self.directory.join("owner")).or_fail("read the owner of a cgroup");
        text.parse().or_fail("read the owner of a cgroup")
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn shown((field, value): (u64, Value<'_>)) -> String {
    match value {
        Value::Number(value) => format!("{field}={value}"),
        Value::Bytes(bytes) => format!("{field}={}", bytes.escape_ascii()),
    }
}

/// Takes a message apart (protocol buffers; see `images/rpc.proto` of CRIU), which has numbers and bytes only.
#[track_caller]
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let value = number(&mut bytes);
        if key & 7 == 0 {
            found.push((key >> 3, Value::Number(value)));
            continue;
        }
        assert_eq!(key & 7, 2, "a field of a request is a number or bytes");
        let length = usize::try_from(value).or_fail("read the length of bytes");
        assert!(length <= bytes.len(), "a request ends in a field");
        let (value, rest) = bytes.split_at(length);
        found.push((key >> 3, Value::Bytes(value)));
        bytes = rest;
    }
    found
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    let mut shift = 0;
    while let Some((byte, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            break;
        }
        shift += 7;
    }
    value
}
