//! Pushing to a registry that works.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use bulkhead_registry::{Error, Pushed, media_type};

use crate::{Image, client, descriptor, ground, here, noise, opener, read};

#[test]
fn what_is_there_is_not_sent_again_and_what_is_elsewhere_is_mounted() {
    let ground = ground!();
    let client = client();
    let bytes = noise(10, 100_000);
    let layer = descriptor("", &bytes);
    let one = ground.reference("one:1");
    Image::of(vec![bytes], "amd64").push(&client, &one, media_type::MANIFEST);

    let nobody_reads = |_| -> io::Result<Box<dyn Read + Send>> { Err(io::Error::other("it was read again")) };
    let push = client.push(&one).unwrap();
    assert_eq!(push.blob(&layer, &[], &nobody_reads).unwrap(), Pushed::Present);
    let push = client.push(&ground.reference("other/two:1")).unwrap();
    let elsewhere = bulkhead_registry::Name::parse("other.example/x").unwrap();
    let sources = [elsewhere, ground.reference("has/nothing"), one];
    assert_eq!(push.blob(&layer, &sources, &nobody_reads).unwrap(), Pushed::Mounted);
    let error = push.blob(&descriptor("", b"new"), &[], &nobody_reads).unwrap_err();
    assert!(matches!(error, Error::Source { .. }), "{error:?}");
}

#[test]
fn a_large_blob_goes_in_parts() {
    let ground = ground!();
    let client = client();
    let bytes = noise(11, (130 << 20) + 12_345);
    let image = Image::of(vec![bytes.clone()], "amd64");
    let reference = ground.reference("large:1");
    image.push(&client, &reference, media_type::DOCKER_MANIFEST);
    let parts = ground.registry.log().matches("method=PATCH").count();
    assert!(parts >= 3, "the registry saw {parts} parts");
    let found = client.resolve(&reference, &here()).unwrap();
    assert!(read(&client, &found, &found.manifest.layers[0]).unwrap() == bytes, "other bytes came back");
}

#[test]
fn other_bytes_than_were_promised_are_not_kept() {
    let ground = ground!();
    let client = client();
    let push = client.push(&ground.reference("wrong:1")).unwrap();
    let promised = descriptor("", b"these bytes");
    let error = push.blob(&promised, &[], &opener(b"other bytes")).unwrap_err();
    assert!(matches!(error, Error::Status { status: 400, .. }), "{error:?}");
    let read = AtomicU64::new(0);
    let short = |_: u64| -> io::Result<Box<dyn Read + Send>> {
        read.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(&b"short"[..]))
    };
    let error = push.blob(&promised, &[], &short).unwrap_err();
    assert!(read.into_inner() > 0, "nothing was read: {error:?}");
    assert!(
        matches!(&error, Error::Source { source, .. } if source.to_string().contains("6 bytes too early")),
        "{error:?}"
    );
    let manifest = br#"{"schemaVersion":2}"#;
    let error = push.manifest(manifest, media_type::MANIFEST).unwrap_err();
    assert!(matches!(error, Error::Status { status: 400, .. }), "{error:?}");
}
