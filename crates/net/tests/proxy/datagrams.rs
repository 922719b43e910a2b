//! Datagrams.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bulkhead_net::rules::Protocol::Udp;

use crate::rig::{PATIENCE, Rig, at, heard, socket};

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_sys::net::bring_loopback_up().unwrap();
    let container = socket("127.0.1.1:53");
    let _rig = Rig::new(&[(Udp, "0.0.0.0:5353", "127.0.1.1:53"), (Udp, "[::]:5353", "127.0.1.1:53")]);
    for (own, asked) in
        [("127.0.0.1:0", "127.0.0.1:5353"), ("127.0.0.1:0", "127.0.0.9:5353"), ("[::1]:0", "[::1]:5353")]
    {
        let client = socket(own);
        for number in 0..3 {
            client.send_to(format!("question {number}").as_bytes(), at(asked)).unwrap();
            let (said, from) = heard(&container);
            assert_eq!(said, format!("question {number}"));
            container.send_to(format!("answer {number}").as_bytes(), from).unwrap();
            assert_eq!(heard(&client), (format!("answer {number}"), at(asked)));
        }
    }
}

#[test]
fn each_who_sends_is_another_to_the_container_and_stays_the_same() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_sys::net::bring_loopback_up().unwrap();
    let container = socket("127.0.1.1:53");
    let _rig = Rig::new(&[(Udp, "127.0.0.1:5353", "127.0.1.1:53")]);
    let clients = Vec::from_iter((0..50).map(|_| socket("127.0.0.1:0")));
    let mut seen = Vec::new();
    for client in &clients {
        client.send_to(b"first", at("127.0.0.1:5353")).unwrap();
        seen.push(heard(&container).1);
    }
    let mut different = seen.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), clients.len());
    for (client, from) in clients.iter().zip(&seen) {
        client.send_to(b"again", at("127.0.0.1:5353")).unwrap();
        assert_eq!(heard(&container).1, *from);
    }
    // The container may speak when it wants to, and much: the longest datagram that there is.
    container.send_to(&[b'x'; 65_507], seen[7]).unwrap();
    assert_eq!(heard(&clients[7]).0.len(), 65_507);
}

#[test]
fn a_flood_of_strangers_ends_nobody_s_conversation() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_sys::net::bring_loopback_up().unwrap();
    let container = socket("127.0.1.1:53");
    let rig = Rig::with("ulimit -n 256", &[(Udp, "127.0.0.1:5353", "127.0.1.1:53")]);
    let client = socket("127.0.0.1:0");
    let mut own = None;
    for _ in 0..2 {
        client.send_to(b"talk", at("127.0.0.1:5353")).unwrap();
        let (_, from) = heard(&container);
        assert_eq!(*own.get_or_insert(from), from);
        container.send_to(b"answer", from).unwrap();
        assert_eq!(heard(&client).0, "answer");
    }
    client.send_to(b"talk", at("127.0.0.1:5353")).unwrap();
    heard(&container);
    for _ in 0..3000 {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"flood", at("127.0.0.1:5353")).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(rig.open_files() < 128, "{}", rig.open_files());
    container.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let begun = Instant::now();
    let from = 'heard: loop {
        assert!(begun.elapsed() < PATIENCE, "it is never heard");
        // What comes when the container has no room is lost.
        client.send_to(b"still", at("127.0.0.1:5353")).unwrap();
        let mut room = [0; 16];
        while let Ok((length, from)) = container.recv_from(&mut room) {
            if &room[..length] == b"still" {
                break 'heard from;
            }
        }
    };
    assert_eq!(Some(from), own, "its session has stayed");
}

#[test]
fn where_nobody_listens_yet_somebody_may_listen_later() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    bulkhead_sys::net::bring_loopback_up().unwrap();
    let _rig = Rig::new(&[(Udp, "127.0.0.1:5353", "127.0.1.1:53")]);
    let client = socket("127.0.0.1:0");
    for _ in 0..5 {
        client.send_to(b"nobody", at("127.0.0.1:5353")).unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let container = socket("127.0.1.1:53");
    client.send_to(b"somebody", at("127.0.0.1:5353")).unwrap();
    let (said, from) = heard(&container);
    assert_eq!(said, "somebody");
    container.send_to(b"yes", from).unwrap();
    assert_eq!(heard(&client).0, "yes");
}
