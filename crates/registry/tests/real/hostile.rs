//! Registries that lie.

use bulkhead_registry::{Digest, Error, Name, media_type};

use crate::stand_in::{Asked, StandIn, answer};
use crate::{Image, client, descriptor, here, noise, read};

/// A stand-in that is asked as a registry, and answers with this but for the question whether it is one.
fn lying(answer_of: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> (StandIn, Name) {
    let server = StandIn::new(move |asked| {
        if asked.line.contains(" /v2/ ") { answer("200 OK", &[], b"{}") } else { answer_of(asked) }
    });
    let reference = Name::parse(&format!("{}/x:1", server.host())).unwrap();
    (server, reference)
}

fn error_of(answer: Vec<u8>) -> Error {
    let (_server, reference) = lying(move |_| answer.clone());
    client().resolve(&reference, &here()).unwrap_err()
}

#[test]
fn heads_and_bodies_without_end_are_not_read() {
    let long = "x".repeat(200_000);
    let error = error_of(answer("200 OK", &[&format!("X: {long}")], b"{}"));
    assert!(matches!(error, Error::TooLarge { .. } | Error::Protocol { .. }), "{error:?}");
    let many = Vec::from_iter((0..5000).map(|number| format!("X-{number}: y")));
    let error = error_of(answer("200 OK", &Vec::from_iter(many.iter().map(String::as_str)), b"{}"));
    assert!(matches!(error, Error::TooLarge { .. } | Error::Protocol { .. }), "{error:?}");
    let error = error_of(answer("200 OK", &[], &vec![b' '; (4 << 20) + 1]));
    assert!(matches!(error, Error::TooLarge { limit: 4_194_304, .. }), "{error:?}");
}

#[test]
fn what_is_no_registry_is_said_to_be_none() {
    for (bytes, reason) in [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(), "expected value"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "says something else than a registry"),
        (answer("200 OK", &[], br#"{"schemaVersion":1}"#), "schema 1"),
        (answer("500 Oops", &[], b"\x1b[2J"), "answers 500"),
    ] {
        let text = error_of(bytes).to_string();
        assert!(text.contains(reason) && !text.contains('\u{1b}'), "{text:?}");
    }
}

#[test]
fn a_manifest_other_than_was_asked_for_is_refused() {
    let other = Image::of(vec![noise(40, 10)], "amd64").manifest(media_type::MANIFEST);
    let (_server, reference) = lying(move |_| answer("200 OK", &[], &other));
    let wanted = reference.with_digest(Digest::of(b"another"));
    let error = client().resolve(&wanted, &here()).unwrap_err();
    assert!(matches!(error, Error::Content { .. }), "{error:?}");
}

#[test]
fn redirections_have_an_end_and_lead_nowhere_else_than_to_http() {
    let text = error_of(answer("307 Elsewhere", &["Location: /v2/x/manifests/1"], b"")).to_string();
    assert!(text.contains("elsewhere more than 5 times"), "{text}");
    for location in ["file:///etc/passwd", "ftp://h/x", "gopher://h", "http://"] {
        let text = error_of(answer("302 Found", &[&format!("Location: {location}")], b"")).to_string();
        assert!(text.contains("no http address"), "{text}");
    }
}

#[test]
fn who_we_are_is_not_told_to_whom_we_are_sent() {
    let elsewhere = StandIn::new(|_| answer("200 OK", &[], b"secret of the place"));
    let place = format!("Location: http://{}/blob", elsewhere.host());
    let content = b"secret of the place";
    let manifest = Image::of(vec![content.to_vec()], "amd64").manifest(media_type::MANIFEST);
    let (server, reference) = lying(move |asked| match asked.header("authorization") {
        None => answer("401 Who", &["WWW-Authenticate: Basic realm=\"x\""], b""),
        Some(_) if asked.line.contains("/manifests/") => answer("200 OK", &[], &manifest),
        Some(_) => answer("307 There", &[&place], b""),
    });
    let login = bulkhead_registry::Login::Password { name: "me".into(), secret: "mine".into() };
    let scratch = bulkhead_testkit::Scratch::new();
    let file = scratch.path().join("auth.json");
    let credentials =
        bulkhead_registry::Credentials { files: vec![file.clone()], written: file, helpers: Vec::new() };
    credentials.store(&server.host(), &login).unwrap();
    let client = bulkhead_registry::Client::new(bulkhead_registry::Configuration {
        credentials,
        patience: crate::impatient(),
        ..Default::default()
    });
    let found = client.resolve(&reference, &here()).unwrap();
    assert_eq!(read(&client, &found, &found.manifest.layers[0]).unwrap(), content);
    let asked = elsewhere.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("authorization"), None, "the password went to another host");
    let known = server.asked().iter().filter(|asked| asked.header("authorization").is_some()).count();
    assert_eq!(known, 2, "the registry should be told who we are");
}

#[test]
fn ranges_that_were_not_asked_for_are_not_taken() {
    let bytes = noise(41, 1000);
    let layer = descriptor("", &bytes);
    let manifest = Image::of(vec![bytes.clone()], "amd64").manifest(media_type::MANIFEST);
    // The first answer breaks off, the second begins somewhere else.
    let (server, reference) = lying(move |asked| match asked.header("range") {
        _ if asked.line.contains("/manifests/") => answer("200 OK", &[], &manifest),
        None => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n";
            [&head[..], &bytes[..500]].concat()
        }
        Some(_) => answer("206 Partial", &["Content-Range: bytes 400-999/1000"], &bytes[400..]),
    });
    let client = client();
    let found = client.resolve(&reference, &here()).unwrap();
    let error = read(&client, &found, &layer).unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Protocol { .. })), "{error:?}");
    assert!(server.asked().iter().any(|asked| asked.header("range") == Some("bytes=500-")));
}

#[test]
fn a_registry_without_ranges_is_read_from_the_start_again() {
    let bytes = noise(42, 1000);
    let layer = descriptor("", &bytes);
    let manifest = Image::of(vec![bytes.clone()], "amd64").manifest(media_type::MANIFEST);
    let expected = bytes.clone();
    let (_server, reference) = lying(move |asked| match asked.header("range") {
        _ if asked.line.contains("/manifests/") => answer("200 OK", &[], &manifest),
        None => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n";
            [&head[..], &bytes[..500]].concat()
        }
        Some(_) => answer("200 OK", &[], &bytes),
    });
    let client = client();
    let found = client.resolve(&reference, &here()).unwrap();
    assert_eq!(read(&client, &found, &layer).unwrap(), expected);
}

#[test]
fn who_asks_too_often_waits_as_long_as_is_said() {
    let manifest = Image::of(vec![], "amd64").manifest(media_type::MANIFEST);
    let busy = std::sync::atomic::AtomicBool::new(true);
    let (_server, reference) = lying(move |_| {
        if busy.swap(false, std::sync::atomic::Ordering::SeqCst) {
            answer("429 Slow down", &["Retry-After: 1"], br#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#)
        } else {
            answer("200 OK", &[], &manifest)
        }
    });
    let start = std::time::Instant::now();
    client().resolve(&reference, &here()).unwrap();
    assert!(start.elapsed() >= std::time::Duration::from_secs(1), "it did not wait");
    let error = error_of(answer("429 Slow down", &["Retry-After: 600"], b""));
    assert!(error.to_string().contains("try again in 600 seconds"), "{error}");
}
