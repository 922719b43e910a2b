//! Those who mean ill, or are many.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use bulkhead_net::rules::Protocol::Tcp;

use crate::rig::{Rig, accept, connect, says, wait_until};

#[test]
fn a_thousand_connections_at_once_are_carried() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    raise_limit();
    let before = rig.open_files();
    let mut pairs = Vec::new();
    for _ in 0..1000 {
        pairs.push((connect("127.0.0.1:8080"), accept(&container)));
    }
    for (number, (client, server)) in pairs.iter_mut().enumerate() {
        says(client, server, &format!("question {number}"));
        says(server, client, &format!("answer {number}"));
    }
    // An idle one is two sockets and nothing else; some pipes are kept.
    let open = rig.open_files();
    assert!(open <= before + 2000 + 32, "{open}");
    drop(pairs);
    wait_until("all are forgotten", || rig.open_files() <= before + 32);
}

/// This test holds both ends.
fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

#[test]
fn who_reads_slowly_has_the_other_side_wait_and_nobody_else() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let piece = vec![b'x'; 1 << 16];
    let stalled = Vec::from_iter((0..20).map(|_| {
        let mut client = connect("127.0.0.1:8080");
        let server = accept(&container);
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        // Until nothing is taken for a while.
        let mut last = Instant::now();
        while last.elapsed() < Duration::from_millis(50) {
            match client.write(&piece) {
                Ok(length) => (sent, last) = (sent + length, Instant::now()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        (client, server, sent)
    }));
    for (_, _, sent) in &stalled {
        assert!(*sent < 64 << 20, "{sent} bytes are kept for one who does not read");
    }
    let mut client = connect("127.0.0.1:8080");
    says(&mut client, &mut accept(&container), "ping");
    assert!(rig.peak() < 20_000, "{} KiB", rig.peak());
    for (client, mut server, sent) in stalled {
        drop(client);
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        assert_eq!(heard.len(), sent, "it is whole when it is read");
    }
}

#[test]
fn those_for_whom_there_is_no_room_wait_until_others_have_gone() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let rig = Rig::with("ulimit -n 200", &[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    // They say nothing, and the helper connects with the container for each.
    let many = Vec::from_iter((0..150).map(|_| connect("127.0.0.1:8080")));
    std::thread::sleep(Duration::from_millis(300));
    assert!(rig.open_files() <= 200, "{}", rig.open_files());
    let mut late = connect("127.0.0.1:8080");
    late.write_all(b"ping").unwrap();
    drop(many);
    // Those before it come to the container, too.
    let mut heard = [0; 4];
    loop {
        let mut server = accept(&container);
        if server.read_exact(&mut heard).is_ok() {
            server.write_all(b"pong").unwrap();
            break;
        }
    }
    late.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"pong");
}

#[test]
fn who_comes_and_goes_at_once_leaves_nothing() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    let rig = Rig::new(&[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let before = rig.open_files();
    std::thread::scope(|scope| {
        let server = scope.spawn(|| {
            // Whatever comes is read to its end, or breaks off.
            for _ in 0..600 {
                let _ = accept(&container).read_to_end(&mut Vec::new());
            }
        });
        for number in 0..600 {
            let mut client = connect("127.0.0.1:8080");
            match number % 3 {
                0 => {}
                1 => client.write_all(b"half a").unwrap(),
                _ => {
                    client.write_all(&[0; 4096]).unwrap();
                    super::reset(client);
                    continue;
                }
            }
            drop(client);
        }
        // Some have gone before the helper could take them.
        while !server.is_finished() {
            drop(connect("127.0.0.1:8080"));
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    // The last that came wait at the container still.
    container.set_nonblocking(true).unwrap();
    wait_until("nothing is left", || {
        while container.accept().is_ok() {}
        rig.open_files() <= before + 32
    });
    container.set_nonblocking(false).unwrap();
    says(&mut connect("127.0.0.1:8080"), &mut accept(&container), "ping");
}

#[test]
fn without_a_pipe_left_bytes_are_carried_by_hand() {
    bulkhead_testkit::in_fresh_namespaces!(User, Mount, Network);
    let container = TcpListener::bind("127.0.1.1:80").unwrap();
    // So few files that there are a handful of pipes, which those take who do not read.
    let _rig = Rig::with("ulimit -n 160", &[(Tcp, "127.0.0.1:8080", "127.0.1.1:80")]);
    let piece = vec![b'x'; 1 << 16];
    let stalled = Vec::from_iter((0..12).map(|_| {
        let mut client = connect("127.0.0.1:8080");
        let server = accept(&container);
        client.set_nonblocking(true).unwrap();
        let mut last = Instant::now();
        let mut sent = 0;
        while last.elapsed() < Duration::from_millis(50) {
            if let Ok(length) = client.write(&piece) {
                (sent, last) = (sent + length, Instant::now());
            }
        }
        (client, server, sent)
    }));
    let mut client = connect("127.0.0.1:8080");
    let mut server = accept(&container);
    let words = super::pattern(7, 3_000_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            client.write_all(&words).unwrap();
            drop(client);
        });
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        assert!(heard == words, "{} of {} bytes", heard.len(), words.len());
    });
    for (client, mut server, sent) in stalled {
        drop(client);
        let mut heard = Vec::new();
        server.read_to_end(&mut heard).unwrap();
        assert_eq!(heard.len(), sent);
    }
}
