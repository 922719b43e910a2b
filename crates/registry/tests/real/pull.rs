//! Pulling from a registry that works.

use std::num::NonZeroUsize;

use bulkhead_registry::{Document, Error, in_parallel, index, media_type};

use crate::{Image, client, descriptor, ground, here, noise, read};

#[test]
fn an_image_comes_back_as_it_was_pushed_in_both_forms() {
    let ground = ground!();
    let image = Image::of(vec![noise(1, 3 << 20), noise(2, 70_000), Vec::new()], "amd64");
    for (kind, tag) in [(media_type::MANIFEST, "oci"), (media_type::DOCKER_MANIFEST, "docker")] {
        let reference = ground.reference(&format!("some/image:{tag}"));
        let digest = image.push(&client(), &reference, kind);
        // Another client: nothing is remembered.
        let client = client();
        let found = client.resolve(&reference, &here()).unwrap();
        assert_eq!((found.digest(), found.manifest.media_type.as_str()), (&digest, kind));
        assert_eq!(found.manifest.bytes, image.manifest(kind));
        assert_eq!(client.digest(&reference).unwrap(), digest);
        let three = NonZeroUsize::new(3).unwrap();
        let layers =
            in_parallel(&found.manifest.layers, three, |layer| read(&client, &found, layer)).unwrap();
        assert_eq!(layers, image.layers);
        assert_eq!(read(&client, &found, &found.manifest.configuration).unwrap(), image.configuration);
        let by_digest = ground.reference(&format!("some/image@{digest}"));
        assert_eq!(client.resolve(&by_digest, &here()).unwrap().manifest, found.manifest);
    }
    let mut tags = client().tags(&ground.reference("some/image")).unwrap();
    tags.sort();
    assert_eq!(tags, ["docker", "oci"]);
}

#[test]
fn an_index_gives_the_image_of_a_platform() {
    let ground = ground!();
    let client = client();
    let reference = ground.reference("many:1");
    let push = client.push(&reference).unwrap();
    let mut parts = Vec::new();
    for (architecture, platform) in [("arm64", "linux/arm64/v8"), ("amd64", "linux/amd64")] {
        let image = Image::of(vec![noise(3, 1000)], architecture);
        image.push(&client, &ground.reference(&format!("many:{architecture}")), media_type::MANIFEST);
        let bytes = image.manifest(media_type::MANIFEST);
        let mut part = descriptor(media_type::MANIFEST, &bytes);
        part.platform = Some(platform.parse().unwrap());
        parts.push(part);
    }
    let whole = index(&parts).unwrap();
    push.manifest(&whole.bytes, &whole.media_type).unwrap();

    let found = client.resolve(&reference, &"arm64".parse().unwrap()).unwrap();
    assert_eq!((&found.manifest.digest, found.digest()), (&parts[0].digest, &whole.digest));
    assert_eq!(client.inspect(&reference).unwrap(), Document::Index(whole));
    let error = client.resolve(&reference, &"linux/s390x".parse().unwrap()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("is not there for linux/s390x, only for linux/arm64/v8, linux/amd64"), "{text}");
}

#[test]
fn what_is_not_there_is_named() {
    let ground = ground!();
    let client = client();
    let image = Image::of(vec![noise(4, 100)], "amd64");
    image.push(&client, &ground.reference("known:1"), media_type::MANIFEST);
    for name in ["unknown:1", "known:2"] {
        let reference = ground.reference(name);
        let error = client.resolve(&reference, &here()).unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("{reference} is unknown to its registry (")), "{text}");
    }
    let found = client.resolve(&ground.reference("known:1"), &here()).unwrap();
    let missing = descriptor("", b"never pushed");
    let error = client.blob(&found, &missing).unwrap_err().to_string();
    assert!(error.contains(&format!("has no blob {} of known", missing.digest)), "{error}");
}

#[test]
fn a_spoiled_blob_is_found_while_it_is_read() {
    let ground = ground!();
    let client = client();
    let image = Image::of(vec![noise(5, 300_000)], "amd64");
    let reference = ground.reference("spoiled:1");
    image.push(&client, &reference, media_type::MANIFEST);
    let found = client.resolve(&reference, &here()).unwrap();
    let layer = &found.manifest.layers[0];
    let file = ground.registry.blob(&layer.digest.hex());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let error = read(&client, &found, layer).unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Content { .. })), "{error:?}");
    bytes.push(0);
    std::fs::write(&file, &bytes).unwrap();
    let error = read(&client, &found, layer).unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::Size { .. })), "{error:?}");
}

#[test]
fn nobody_there_is_said_at_once_and_by_name() {
    let ground = ground!();
    let reference = ground.reference("x:1");
    let crate::Ground { registry, scratch: _scratch } = ground;
    let host = registry.host();
    drop(registry);
    let error = client().resolve(&reference, &here()).unwrap_err();
    assert!(
        matches!(&error, Error::Network { host: named, source }
        if *named == host && source.kind() == std::io::ErrorKind::ConnectionRefused),
        "{error:?}"
    );
    let nowhere = bulkhead_registry::Name::parse("no-such-host.invalid/x:1").unwrap();
    let error = client().resolve(&nowhere, &here()).unwrap_err();
    assert!(matches!(&error, Error::Address { host, .. } if host == "no-such-host.invalid"), "{error:?}");
}
