//! Pulling from and pushing to Debian's docker-registry on loopback, into and out of a store.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

use std::io::{Cursor, Read};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use bulkhead_engine::transfer::registry::{
    Client, Configuration, Descriptor, Digest, Name, Registries, media_type,
};
use bulkhead_engine::transfer::{Error, Pull, Pulled, Stage, push};
use bulkhead_store::{Depth, Mend, Places, Store};
use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{Scratch, requires};

struct Ground {
    registry: Registry,
    scratch: Scratch,
    client: Client,
}

macro_rules! ground {
    () => {{
        requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
        let scratch = Scratch::new();
        let registry = Registry::start(&scratch.path().join("registry"), &Guard::Nobody, None);
        Ground { registry, scratch, client: Client::new(Configuration::default()) }
    }};
}

impl Ground {
    fn store(&self, name: &str) -> Store {
        let directory = self.scratch.path().join(name);
        let places = Places { root: directory.join("root"), run: directory.join("run") };
        Store::open(&places).unwrap()
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.registry.host())
    }

    /// Puts an image of layers with a file each into the registry.
    fn image(&self, name: &str, files: &[(&str, &str)]) -> Vec<Vec<u8>> {
        let reference = Name::parse(&self.name(name)).unwrap();
        let push = self.client.push(&reference).unwrap();
        let send = |kind: &str, bytes: &[u8]| {
            let owned = bytes.to_vec();
            let open = move |offset: u64| {
                let rest = owned[usize::try_from(offset).unwrap()..].to_vec();
                Ok(Box::new(Cursor::new(rest)) as Box<dyn Read + Send>)
            };
            push.blob(&descriptor(kind, bytes), &[], &open).unwrap();
            format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
        };
        let (mut layers, mut described, mut diff_ids) = (Vec::new(), Vec::new(), Vec::new());
        for (file, content) in files {
            let archive = archive(self.scratch.path(), file, content);
            diff_ids.push(format!("\"{}\"", Digest::of(&archive)));
            let packed = gzip(&archive);
            described.push(send("application/vnd.oci.image.layer.v1.tar+gzip", &packed));
            layers.push(packed);
        }
        let configuration = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/a"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diff_ids.join(",")
        );
        let configuration = send(media_type::CONFIGURATION, configuration.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{configuration},"layers":[{}]}}"#,
            media_type::MANIFEST,
            described.join(",")
        );
        push.manifest(manifest.as_bytes(), media_type::MANIFEST).unwrap();
        layers
    }

    /// Pulls, and tells how each layer came in the end.
    fn pull(&self, store: &Store, name: &str) -> (Result<Pulled, Error>, Vec<Stage>) {
        let seen = Mutex::new(std::collections::BTreeMap::new());
        let watch = |step: bulkhead_engine::transfer::Move<'_>| {
            seen.lock().unwrap().insert(step.blob.to_owned(), step.stage);
        };
        let mut pull = Pull::of(&self.name(name));
        pull.platform = "linux/amd64".parse().unwrap();
        let pulled = pull.run(store, &self.client, &watch);
        (pulled, seen.into_inner().unwrap().into_values().collect())
    }
}

fn descriptor(kind: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: kind.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        urls: Vec::new(),
        platform: None,
    }
}

fn archive(directory: &Path, file: &str, content: &str) -> Vec<u8> {
    let tree = directory.join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join(file), content).unwrap();
    let options = ["--owner=0", "--group=0", "--mtime=@0", "-c", file];
    let output = Command::new("tar").arg("-C").arg(&tree).args(options).output().unwrap();
    assert!(output.status.success(), "tar fails");
    std::fs::remove_dir_all(&tree).unwrap();
    output.stdout
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_is_damaged_at_a_mirror_comes_from_the_registry() {
    let (mirror, own) = (ground!(), ground!());
    for damaged in ["layer", "configuration"] {
        let name = format!("{damaged}:1");
        let layers = own.image(&name, &[("file", damaged)]);
        mirror.image(&name, &[("file", damaged)]);
        let mut registries = Registries::default();
        let text = format!(
            "[[registry]]\nlocation = \"{}\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
            own.registry.host(),
            mirror.registry.host()
        );
        registries.add_text(&text).unwrap();
        let client = Client::new(Configuration { registries, ..Configuration::default() });
        let found = client.find(&own.name(&name), &"linux/amd64".parse().unwrap()).unwrap();
        assert_eq!(found.host(), mirror.registry.host());
        let digest = match damaged {
            "layer" => Digest::of(&layers[0]),
            _ => found.manifest.configuration.digest,
        };
        let blob = mirror.registry.blob(&digest.hex());
        let mut bytes = std::fs::read(&blob).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&blob, bytes).unwrap();
        let ground = Ground { client, ..ground!() };
        let mut pull = Pull::of(&own.name(&name));
        pull.platform = "linux/amd64".parse().unwrap();
        pull.run(&ground.store("store"), &ground.client, &|_| {}).unwrap();
    }
}

#[test]
fn an_image_is_pulled_once_and_pushed_as_it_came() {
    let ground = ground!();
    ground.image("some/image:1", &[("a", "one"), ("b", "two"), ("c", "three"), ("d", "four")]);
    let store = ground.store("one");
    let (pulled, stages) = ground.pull(&store, "some/image:1");
    let pulled = pulled.unwrap();
    assert_eq!(stages, [Stage::Complete; 4]);
    assert!(!pulled.existed && pulled.other_platform.is_none());
    let image = store.image(&ground.name("some/image:1")).unwrap();
    assert_eq!((image.id, image.layers.len()), (pulled.id, 4));
    let top = &store.lower(&image)[0];
    assert_eq!(std::fs::read_to_string(top.join("d")).unwrap(), "four");
    assert_eq!(image.digests(), [format!("{}@{}", ground.name("some/image"), pulled.digest)]);

    let (again, stages) = ground.pull(&store, "some/image:1");
    assert!(again.unwrap().existed);
    assert_eq!(stages, [Stage::Present; 4]);
    let (by_digest, _) = ground.pull(&store, &format!("some/image@{}", pulled.digest));
    assert_eq!(by_digest.unwrap().id, pulled.id);

    let other = ground.name("other/place:2");
    store.tag(&image.id, &other.parse().unwrap()).unwrap();
    let pushed = push(&store, &ground.client, &other, &|_| {}).unwrap();
    assert_eq!(pushed.digest, pulled.digest, "another manifest was pushed");
    let log = ground.registry.log();
    assert_eq!(log.matches("mount=sha256").count(), 5, "layers and configuration should be mounted");
    let error = push(&store, &ground.client, &image.id.to_string(), &|_| {}).unwrap_err().to_string();
    assert!(error.contains("bulkhead tag"), "{error}");
    assert_eq!(ground.pull(&ground.store("two"), "other/place:2").0.unwrap().id, pulled.id);
}

#[test]
fn what_arrived_stays_when_the_rest_fails() {
    let ground = ground!();
    let layers = ground.image("half:1", &[("a", "one"), ("b", "two")]);
    let store = ground.store("store");
    let second = ground.registry.blob(&Digest::of(&layers[1]).hex());
    let bytes = std::fs::read(&second).unwrap();
    std::fs::write(&second, b"x").unwrap();
    let (pulled, _) = ground.pull(&store, "half:1");
    assert!(matches!(pulled, Err(Error::Registry(_) | Error::Store(_))), "{pulled:?}");
    assert!(store.image(&ground.name("half:1")).is_err(), "half an image has a name");
    // What came of the other one is of no use, and gone.
    let ingest = store.places().ingest();
    assert_eq!(std::fs::read_dir(ingest).unwrap().count(), 0, "something half made is left");
    std::fs::write(&second, bytes).unwrap();
    let (pulled, stages) = ground.pull(&store, "half:1");
    pulled.unwrap();
    assert_eq!(stages.iter().filter(|stage| **stage == Stage::Present).count(), 1, "{stages:?}");
    assert_eq!(stages.iter().filter(|stage| **stage == Stage::Complete).count(), 1, "{stages:?}");
}

#[test]
fn a_blob_that_went_bad_is_fetched_again() {
    let ground = ground!();
    let layers = ground.image("bad:1", &[("a", "one"), ("b", "two")]);
    let store = ground.store("store");
    ground.pull(&store, "bad:1").0.unwrap();
    let digest = Digest::of(&layers[0]);
    let blob = store.places().blob(&digest);
    std::fs::write(&blob, b"spoiled").unwrap();
    let found = store.check(Depth::Contents, Mend::Yes, &|_| Ok(())).unwrap();
    assert!(!found.is_empty(), "the check does not see it");
    let (pulled, stages) = ground.pull(&store, "bad:1");
    pulled.unwrap();
    assert!(stages.contains(&Stage::Complete), "{stages:?}");
    assert_eq!(std::fs::read(&blob).unwrap(), layers[0]);
    assert_eq!(store.check(Depth::Contents, Mend::No, &|_| Ok(())).unwrap(), []);
}

#[test]
fn what_is_no_image_is_not_taken_for_one() {
    let ground = ground!();
    let reference = Name::parse(&ground.name("chart:1")).unwrap();
    let to = ground.client.push(&reference).unwrap();
    let open = |_| Ok(Box::new(&b"{}"[..]) as Box<dyn Read + Send>);
    to.blob(&descriptor("", b"{}"), &[], &open).unwrap();
    let part = format!(r#"{{"mediaType":"application/vnd.x","digest":"{}","size":2}}"#, Digest::of(b"{}"));
    let manifest = format!(r#"{{"schemaVersion":2,"config":{part},"layers":[{part}]}}"#);
    to.manifest(manifest.as_bytes(), media_type::MANIFEST).unwrap();
    let (pulled, _) = ground.pull(&ground.store("store"), "chart:1");
    let text = pulled.unwrap_err().to_string();
    assert!(text.contains("is no image: its configuration is \"application/vnd.x\""), "{text}");
}
