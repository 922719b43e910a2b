//! A line that fails: a proxy that cuts connections, or says nothing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bulkhead_registry::{Error, Name, media_type};

use crate::{Image, client, ground, here, noise, read};

/// What a line does to what comes back.
#[derive(Clone, Copy)]
enum Fault {
    /// Ends each connection after so many bytes, as often as is said.
    Cut { after: usize, times: usize },
    /// Carries so many bytes of each connection and then none, as often as is said.
    Hang { after: usize, times: usize },
}

struct Line {
    port: u16,
    faults: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
}

impl Line {
    fn to(port: u16, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let (faults, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop) = (Arc::clone(&faults), Arc::clone(&ended));
        thread::Builder::new()
            .spawn(move || {
                for connection in listener.incoming().map_while(Result::ok) {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (count, there) =
                        (Arc::clone(&count), TcpStream::connect(("127.0.0.1", port)).unwrap());
                    let (mut here_out, mut there_in) =
                        (connection.try_clone().unwrap(), there.try_clone().unwrap());
                    let mut request = connection;
                    let mut onward = there;
                    thread::Builder::new()
                        .spawn(move || {
                            drop(io::copy(&mut request, &mut onward));
                            drop(onward.shutdown(Shutdown::Both));
                        })
                        .unwrap();
                    thread::Builder::new()
                        .spawn(move || carry(&mut there_in, &mut here_out, fault, &count))
                        .unwrap();
                }
            })
            .unwrap();
        Self { port: own, faults, ended }
    }

    fn reference(&self, rest: &str) -> Name {
        Name::parse(&format!("127.0.0.1:{}/{rest}", self.port)).unwrap()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn carry(from: &mut TcpStream, to: &mut TcpStream, fault: Fault, count: &AtomicUsize) {
    let (Fault::Cut { after, times } | Fault::Hang { after, times }) = fault;
    let mut buffer = vec![0; 16 << 10];
    let mut carried = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        carried += read;
        if carried > after && count.load(Ordering::SeqCst) < times {
            count.fetch_add(1, Ordering::SeqCst);
            match fault {
                Fault::Cut { .. } => break,
                Fault::Hang { .. } => {
                    // Longer than the client waits.
                    thread::sleep(Duration::from_secs(8));
                    break;
                }
            }
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}

#[test]
fn a_download_goes_on_where_it_was_cut() {
    let ground = ground!();
    let image = Image::of(vec![noise(20, 8 << 20)], "amd64");
    image.push(&client(), &ground.reference("cut:1"), media_type::MANIFEST);
    let line = Line::to(ground.registry.port(), Fault::Cut { after: 1 << 20, times: 6 });
    let client = client();
    let found = client.resolve(&line.reference("cut:1"), &here()).unwrap();
    assert!(read(&client, &found, &found.manifest.layers[0]).unwrap() == image.layers[0], "other bytes came");
    assert_eq!(line.faults.load(Ordering::SeqCst), 6, "the line did not cut");
    let resumed = ground.registry.log().matches("206").count();
    assert!(resumed >= 6, "the registry was asked for {resumed} ranges");
}

#[test]
fn a_line_that_never_carries_anything_is_given_up() {
    let ground = ground!();
    let image = Image::of(vec![noise(21, 4 << 20)], "amd64");
    image.push(&client(), &ground.reference("dead:1"), media_type::MANIFEST);
    let line = Line::to(ground.registry.port(), Fault::Cut { after: 4 << 10, times: usize::MAX });
    let client = client();
    let found = client.resolve(&line.reference("dead:1"), &here()).unwrap();
    // Each answer ends in the first bytes of the body, so that some get through at best; then none does.
    let error = read(&client, &found, &found.manifest.layers[0]).unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Network { .. })), "{error:?}");
}

#[test]
fn a_silent_line_is_left_for_another() {
    let ground = ground!();
    let image = Image::of(vec![noise(22, 4 << 20)], "amd64");
    image.push(&client(), &ground.reference("mute:1"), media_type::MANIFEST);
    let line = Line::to(ground.registry.port(), Fault::Hang { after: 1 << 20, times: 1 });
    let client = client();
    let found = client.resolve(&line.reference("mute:1"), &here()).unwrap();
    let start = Instant::now();
    assert!(read(&client, &found, &found.manifest.layers[0]).unwrap() == image.layers[0], "other bytes came");
    let took = start.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(8), "it took {took:?}");
}

#[test]
fn a_push_survives_a_cut() {
    let ground = ground!();
    let line = Line::to(ground.registry.port(), Fault::Cut { after: 300, times: 3 });
    let client = client();
    let image = Image::of(vec![noise(23, 2 << 20)], "amd64");
    image.push(&client, &line.reference("pushed:1"), media_type::MANIFEST);
    assert_eq!(line.faults.load(Ordering::SeqCst), 3, "the line did not cut");
    let found = client.resolve(&ground.reference("pushed:1"), &here()).unwrap();
    assert!(read(&client, &found, &found.manifest.layers[0]).unwrap() == image.layers[0], "other bytes came");
}
