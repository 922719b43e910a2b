//! registries.conf at work: mirrors, blocked registries, short names.

use bulkhead_registry::{Error, Name, Registries, media_type};

use crate::stand_in::{StandIn, answer};
use crate::{Image, client, client_with, descriptor, ground, here, noise, read};

fn registries(text: &str) -> Registries {
    let mut registries = Registries::default();
    registries.add_text(text).unwrap();
    registries
}

#[test]
fn a_mirror_is_asked_first_and_the_next_one_when_it_has_nothing() {
    let (empty, mirror) = (ground!(), ground!());
    let image = Image::of(vec![noise(30, 5000)], "amd64");
    image.push(&client(), &mirror.reference("hub/alpine:3"), media_type::MANIFEST);
    let client = client_with(registries(&format!(
        "[[registry]]\nprefix = \"docker.io/library\"\nlocation = \"docker.invalid/library\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1/nobody\"\n\
         [[registry.mirror]]\nlocation = \"{}/hub\"\n[[registry.mirror]]\nlocation = \"{}/hub\"\n",
        empty.registry.host(),
        mirror.registry.host()
    )));
    let found = client.find("alpine:3", &here()).unwrap();
    assert_eq!(found.host(), mirror.registry.host());
    assert_eq!(
        found.reference.to_string(),
        "docker.io/library/alpine:3",
        "the name became that of the mirror"
    );
    assert_eq!(read(&client, &found, &found.manifest.layers[0]).unwrap(), image.layers[0]);
    // Who has it nowhere says what its own registry says.
    let error = client.find("alpine:4", &here()).unwrap_err();
    assert!(matches!(&error, Error::Address { host, .. } if host == "docker.invalid"), "{error:?}");
}

#[test]
fn a_layer_that_the_mirror_lost_comes_from_the_registry() {
    let (mirror, own) = (ground!(), ground!());
    let image = Image::of(vec![noise(31, 5000)], "amd64");
    for ground in [&mirror, &own] {
        image.push(&client(), &ground.reference("x:1"), media_type::MANIFEST);
    }
    let hex = bulkhead_registry::Digest::of(&image.layers[0]);
    std::fs::remove_file(mirror.registry.blob(&hex.hex())).unwrap();
    let client = client_with(registries(&format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        own.registry.host(),
        mirror.registry.host()
    )));
    let found = client.resolve(&own.reference("x:1"), &here()).unwrap();
    assert_eq!(found.host(), mirror.registry.host());
    assert_eq!(read(&client, &found, &found.manifest.layers[0]).unwrap(), image.layers[0]);
}

#[test]
fn a_manifest_that_the_mirror_lost_comes_from_the_registry() {
    let (mirror, own) = (ground!(), ground!());
    let image = Image::of(vec![noise(33, 500)], "amd64");
    for ground in [&mirror, &own] {
        let reference = ground.reference("x:1");
        let digest = image.push(&client(), &reference, media_type::MANIFEST);
        let mut part = descriptor(media_type::MANIFEST, &image.manifest(media_type::MANIFEST));
        assert_eq!(part.digest, digest);
        part.platform = Some("linux/amd64".parse().unwrap());
        let index = bulkhead_registry::index(&[part]).unwrap();
        client().push(&reference).unwrap().manifest(&index.bytes, &index.media_type).unwrap();
    }
    let manifest = bulkhead_registry::Digest::of(&image.manifest(media_type::MANIFEST));
    std::fs::remove_file(mirror.registry.blob(&manifest.hex())).unwrap();
    let client = client_with(registries(&format!(
        "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        own.registry.host(),
        mirror.registry.host()
    )));
    let found = client.resolve(&own.reference("x:1"), &"linux/amd64".parse().unwrap()).unwrap();
    assert_eq!(found.manifest.digest, manifest);
    assert!(found.index.is_some(), "the mirror's index was not asked for");
    assert_eq!(found.host(), own.registry.host(), "the mirror has this manifest after all");
    assert_eq!(read(&client, &found, &found.manifest.layers[0]).unwrap(), image.layers[0]);
}

#[test]
fn a_blocked_registry_is_never_asked() {
    let ground = ground!();
    let host = ground.registry.host();
    let client =
        client_with(registries(&format!("[[registry]]\nlocation = \"{host}/secret\"\nblocked = true\n")));
    let error = client.resolve(&ground.reference("secret/x:1"), &here()).unwrap_err();
    assert!(matches!(error, Error::Blocked { .. }), "{error:?}");
    assert!(!ground.registry.log().contains("GET"), "it was asked");
    assert!(client.push(&ground.reference("secret/x:1")).is_err());
}

#[test]
fn a_short_name_is_found_in_the_registry_that_has_it() {
    let (one, two) = (ground!(), ground!());
    let image = Image::of(vec![noise(32, 50)], "amd64");
    image.push(&client(), &two.reference("tool:1"), media_type::MANIFEST);
    let (first, second) = (one.registry.host(), two.registry.host());
    let client = client_with(registries(&format!(
        "unqualified-search-registries = [\"{first}\", \"{second}\"]\n[aliases]\nnick = \"{second}/tool\"\n"
    )));
    let expected = Name::parse(&format!("{second}/tool:1")).unwrap();
    assert_eq!(client.find("tool:1", &here()).unwrap().reference, expected);
    assert_eq!(client.find("nick:1", &here()).unwrap().reference, expected);
    let error = client.find("nothing:1", &here()).unwrap_err().to_string();
    assert!(error.contains(&format!("could be one of {first}, {second}")), "{error}");
}

#[test]
fn a_short_name_of_a_registry_that_refuses_is_not_taken_for_another_ones() {
    let strangers = ground!();
    Image::of(vec![noise(34, 50)], "amd64").push(
        &client(),
        &strangers.reference("tool:1"),
        media_type::MANIFEST,
    );
    let private = StandIn::new(|_| answer("403 No", &[], br#"{"errors":[{"message":"expired"}]}"#));
    let (first, second) = (private.host(), strangers.registry.host());
    let search = |hosts: [&str; 2]| {
        client_with(registries(&format!(
            "unqualified-search-registries = [\"{}\", \"{}\"]\n",
            hosts[0], hosts[1]
        )))
    };
    let error = search([&first, &second]).find("tool:1", &here()).unwrap_err();
    assert!(matches!(error, Error::Hidden { .. }), "{error:?}");
    let error = error.to_string();
    for part in ["denies access", "expired", &format!("bulkhead login {first}"), &format!("{second}/tool:1")]
    {
        assert!(error.contains(part), "{error} does not say {part}");
    }
    // Nobody comes after the last one, so that there is nothing to be mistaken for.
    let error = search([&second, &first]).find("nothing:1", &here()).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error:?}");
    assert!(search([&second, &first]).find("tool:1", &here()).is_ok());
}
