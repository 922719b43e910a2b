//! Ports of the host that a helper carries to containers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

mod attack;
mod datagrams;
mod life;
mod rig;
mod scarce;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use bulkhead_net::rules::Protocol::Tcp;
use rig::{Rig, accept, connect, says};

/// Bytes of which no two pieces are the same.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    Vec::from_iter((0..length).map(|_| next()))
}

#[test]
fn both_ways_are_whole_and_each_ends_by_itself() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let _rig = Rig::new(&[(Tcp, "0.0.0.0:8080", "127.0.1.1:80")]);
    let (question, answer) = (pattern(1, 9_000_001), pattern(2, 7_000_003));
    let mut client = connect("127.0.0.1:8080");
    let mut server = accept(&container);
    assert_ne!(server.peer_addr().unwrap(), client.local_addr().unwrap(), "the container sees the host");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&question).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).unwrap();
            assert!(heard == answer, "{} of {} bytes", heard.len(), answer.len());
        });
        scope.spawn(|| {
            let mut heard = Vec::new();
            // The end of one way is told before the other has begun.
            server.read_to_end(&mut heard).unwrap();
            assert!(heard == question, "{} of {} bytes", heard.len(), question.len());
            server.write_all(&answer).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
        });
    });
}

#[test]
fn words_go_to_and_fro_at_once() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let _rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let mut client = connect("127.0.0.1:8080");
    let mut server = accept(&container);
    for number in 0..200 {
        says(&mut client, &mut server, &format!("question {number}"));
        says(&mut server, &mut client, &format!("answer {number}"));
    }
}

#[test]
fn the_host_s_addresses_of_ipv6_lead_to_a_container_without_ipv6() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let _rig = Rig::new(&[(Tcp, "[::]:8080", "127.0.1.1:80"), (Tcp, "0.0.0.0:8080", "127.0.1.1:80")]);
    for address in ["[::1]:8080", "127.0.0.1:8080"] {
        let mut client = connect(address);
        says(&mut client, &mut accept(&container), "ping");
    }
}

#[test]
fn where_nobody_listens_a_connection_is_reset_and_the_next_one_is_not() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let _rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    for _ in 0..3 {
        // The reset may be there before who connects has looked.
        let heard = TcpStream::connect("127.0.0.1:8080").and_then(|mut client| client.read(&mut [0]));
        assert_eq!(heard.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let mut client = connect("127.0.0.1:8080");
    says(&mut client, &mut accept(&container), "ping");
}

#[test]
fn a_side_that_breaks_off_is_told_to_the_other_behind_what_it_has_said() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let before = rig.open_files();
    let mut client = connect("127.0.0.1:8080");
    let mut server = accept(&container);
    says(&mut client, &mut server, "ping");
    reset(client);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let mut client = connect("127.0.0.1:8080");
    let server = accept(&container);
    (&server).write_all(b"last words").unwrap();
    let mut heard = [0; 10];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"last words");
    reset(server);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    drop(client);
    rig::wait_until("it forgets both", || rig.open_files() <= before + 4);
}

/// Closes a connection as a program does that has crashed with something unread.
fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    drop(stream);
}

#[test]
fn what_is_urgent_holds_nothing_up() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let _rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let mut client = connect("127.0.0.1:8080");
    let mut server = accept(&container);
    for _ in 0..20 {
        client.write_all(b"before").unwrap();
        rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).unwrap();
        client.write_all(b"behind").unwrap();
        let mut heard = [0; 13];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"before!behind", "it is in its place");
    }
}
