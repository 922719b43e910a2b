//! A host with containers that are network namespaces, and a helper that answers them.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bulkhead_net::device::{inside, make_namespace};
use bulkhead_net::names::{self, Connection, Helper, Member, Sockets, Table, Until};
use bulkhead_testkit::Scratch;

use crate::packets::{Told, question};

const PROGRAM: &str = env!("CARGO_BIN_EXE_bulkdns");
/// Where containers ask.
pub(crate) const ASKED: SocketAddr = SocketAddr::V4(names::ADDRESS);
/// Long enough for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Everything lies in a directory that goes with it, and so does the helper.
pub(crate) struct Rig {
    scratch: Scratch,
    words: Vec<String>,
    program: PathBuf,
}

pub(crate) struct Container {
    namespace: OwnedFd,
    /// What keeps its sockets, if it is not the helper's connection that does.
    pub(crate) stay: Option<Connection>,
}

impl Rig {
    /// A rig whose helper is started with these words besides.
    pub(crate) fn new(words: &[&str]) -> Self {
        bulkhead_sys::net::bring_loopback_up().unwrap();
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("run")).unwrap();
        // It may be another user's who reads here.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(scratch.path(), mode).unwrap();
        let words = words.iter().copied().map(str::to_owned).collect();
        let rig = Self { scratch, words, program: PROGRAM.into() };
        Table::default().write(&rig.tables(), "empty").unwrap();
        rig
    }

    /// Makes a script that runs the program after something else, which may change its words: `$@`, the program the first.
    pub(crate) fn script(&self, before: &str) -> PathBuf {
        let script = self.tables().with_file_name("bulkdns");
        let text = format!("#!/bin/sh\nset -- {PROGRAM} \"$@\"\n{before}\nexec \"$@\"\n");
        // By another process: what this one has written could be busy.
        let mut write = std::process::Command::new("sh");
        write.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]).arg(&script).arg(text);
        assert!(write.status().unwrap().success());
        script
    }

    /// Has another program answer.
    pub(crate) fn by(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    fn path(&self) -> &Path {
        self.scratch.path()
    }

    pub(crate) fn tables(&self) -> PathBuf {
        self.path().join("names")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("run").join("n1.socket")
    }

    pub(crate) fn ensure(&self) -> Connection {
        self.with_helper(|helper| names::ensure(helper).unwrap())
    }

    /// The program and the words that start a helper.
    pub(crate) fn helper_arguments(&self) -> Vec<OsString> {
        let program = self.program.clone().into_os_string();
        [program].into_iter().chain(self.with_helper(|helper| helper.arguments())).collect()
    }

    fn with_helper<T>(&self, act: impl FnOnce(&Helper<'_>) -> T) -> T {
        let words = Vec::from_iter(self.words.iter().map(String::as_str));
        let (tables, socket) = (self.tables(), self.socket());
        act(&Helper { program: &self.program, tables: &tables, socket: &socket, words: &words })
    }

    /// Writes a network that is not internal.
    pub(crate) fn network(&self, name: &str, members: &[Member]) {
        let table = Table { name: name.to_owned(), is_internal: false, members: members.to_vec() };
        table.write(&self.tables(), name).unwrap();
    }

    /// A container that is served as long as it is there.
    pub(crate) fn container(&self, id: &str) -> Container {
        self.container_with(id, &[])
    }

    pub(crate) fn container_with(&self, id: &str, resolvers: &[IpAddr]) -> Container {
        let namespace = make_namespace().unwrap();
        let connection = self.ensure();
        let sockets = names::open(namespace.as_fd()).unwrap();
        connection.serve(id, &sockets, resolvers, Until::SomebodyStays).unwrap();
        connection.stay(id, None).unwrap();
        Container { namespace, stay: Some(connection) }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A container of the test's that is dropped later keeps it for that long, and the helper ends by itself.
        drop(names::end(&self.socket()));
    }
}

impl Container {
    pub(crate) fn new() -> Self {
        Self { namespace: make_namespace().unwrap(), stay: None }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    pub(crate) fn inside<T>(&self, act: impl FnOnce() -> T) -> T {
        inside(self.fd(), act).unwrap()
    }

    pub(crate) fn open(&self) -> Sockets {
        names::open(self.fd()).unwrap()
    }

    /// A socket by which it asks.
    pub(crate) fn client(&self) -> UdpSocket {
        let socket = self.inside(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        socket.connect(ASKED).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Asks with a datagram.
    pub(crate) fn ask(&self, name: &str, kind: u16) -> Told {
        exchange(&self.client(), &question(name, kind)).unwrap()
    }

    /// Asks by a connection.
    pub(crate) fn ask_by_tcp(&self, name: &str, kind: u16) -> Told {
        let mut stream = self.connect();
        Told::read(&converse(&mut stream, &question(name, kind)).unwrap())
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = self.inside(|| TcpStream::connect_timeout(&ASKED, PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Listens at a port of all addresses, by both protocols.
    pub(crate) fn listen(&self, port: u16) -> (UdpSocket, TcpListener) {
        let any = (Ipv4Addr::UNSPECIFIED, port);
        self.inside(|| (UdpSocket::bind(any).unwrap(), TcpListener::bind(any).unwrap()))
    }
}

/// Sends a message and reads one.
pub(crate) fn exchange(socket: &UdpSocket, message: &[u8]) -> std::io::Result<Told> {
    socket.send(message)?;
    let mut room = [0; 65_535];
    let length = socket.recv(&mut room)?;
    Ok(Told::read(&room[..length]))
}

/// Sends a message with its length and reads one.
pub(crate) fn converse(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::{Read as _, Write as _};
    let length = u16::try_from(message.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), message].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A member that is called as its container is.
pub(crate) fn member(id: &str, addresses: &[&str]) -> Member {
    Member {
        container: id.to_owned(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        names: vec![id.to_owned()],
        ..Member::default()
    }
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills a process that is nobody's child here.
pub(crate) fn kill(pid: i32) {
    let pidfd = bulkhead_sys::process::open_pidfd(pid).unwrap();
    bulkhead_sys::process::signal(&pidfd, 9).unwrap();
    wait_until("it dies", || !lives(pid));
}

/// Tells whether a process lives.
pub(crate) fn lives(pid: i32) -> bool {
    bulkhead_sys::identity::stat(pid).unwrap().is_some_and(|stat| stat.alive)
}

/// Gives the loopback of this namespace one more address.
pub(crate) fn give_loopback(address: &str) {
    use bulkhead_net::device::{Change, Devices};
    let address = format!("{address}/32").parse().unwrap();
    Devices::open().unwrap().change(vec![Change::give_address(1, address)]).unwrap();
}
