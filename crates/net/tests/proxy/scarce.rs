//! More connections than there are ports for them: whoever ends one first remembers its port for a minute, which is the helper where
//! clients end first.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use bulkhead_net::device::{Change, Devices};
use bulkhead_net::rules::Protocol::{self, Tcp, Udp};

use crate::rig::{PATIENCE, Rig, accept, connect, says};

/// A container's address. It is none of the loopback, on which the kernel uses ports again by itself.
const CONTAINER: &str = "10.1.0.2";
/// How many ports the kernel has for connections: more than those that the helper uses again, which nobody else is given meanwhile.
const PORTS: usize = 192;

/// A host with so few ports, and a helper.
fn rig(ways: &[(Protocol, &str, &str)]) -> Rig {
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", format!("40000 {}", 40_000 + PORTS - 1))
        .unwrap();
    let devices = Devices::open().unwrap();
    let loopback = devices.find("lo").unwrap().unwrap().index;
    devices.change(vec![Change::give_address(loopback, format!("{CONTAINER}/32").parse().unwrap())]).unwrap();
    Rig::new(ways)
}

/// Listens as a container does, and no longer than a test has patience.
fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind((CONTAINER, port)).unwrap();
    let patience = rustix::net::sockopt::Timeout::Recv;
    rustix::net::sockopt::set_socket_timeout(&listener, patience, Some(PATIENCE)).unwrap();
    listener
}

/// An address of the host for the client of this number, of whose own ports none is used up by that.
fn host(number: usize) -> String {
    format!("127.1.{}.{}:8080", number / 250, 1 + number % 250)
}

#[test]
fn clients_that_end_first_may_be_many_more_than_there_are_ports() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _rig = rig(&[(Tcp, "0.0.0.0:8080", "10.1.0.2:80")]);
    let container = listen(80);
    const CONNECTIONS: usize = 10 * PORTS;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..CONNECTIONS {
                let mut server = accept(&container);
                let mut heard = String::new();
                server.read_to_string(&mut heard).unwrap();
                server.write_all(heard.as_bytes()).unwrap();
            }
        });
        for number in 0..CONNECTIONS {
            let mut client = connect(&host(number));
            client.write_all(format!("question {number}").as_bytes()).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut heard = String::new();
            client.read_to_string(&mut heard).unwrap_or_else(|error| panic!("{number}: {error}"));
            assert_eq!(heard, format!("question {number}"));
        }
    });
}

#[test]
fn who_finds_no_port_left_waits_for_one_and_those_at_other_ports_do_not() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _rig = rig(&[
        (Tcp, "0.0.0.0:8080", "10.1.0.2:80"),
        (Tcp, "0.0.0.0:8081", "10.1.0.2:81"),
        (Udp, "0.0.0.0:8080", "10.1.0.2:80"),
    ]);
    let (container, other) = (listen(80), listen(81));
    let pairs = Vec::from_iter((0..PORTS).map(|number| {
        let client = connect(&host(number));
        (client, accept(&container))
    }));
    let mut late = Vec::from_iter((PORTS..PORTS + 3).map(|number| connect(&host(number))));
    for (number, client) in late.iter_mut().enumerate() {
        client.write_all(format!("late {number}").as_bytes()).unwrap();
    }
    says(&mut connect("127.0.0.1:8081"), &mut accept(&other), "ping");
    container.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(container.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    container.set_nonblocking(false).unwrap();
    // The container ends these first, and so the helper has their ports again.
    for (mut client, server) in pairs.into_iter().take(3) {
        drop(server);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
    for (number, client) in late.iter_mut().enumerate() {
        let mut server = accept(&container);
        let mut heard = [0; 6];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8_lossy(&heard), format!("late {number}"));
        says(&mut server, client, "there you are");
    }
}
