//! The client against Debian's docker-registry on loopback, as it is, behind a line that fails, and against stand-ins for
//! registries that lie. `cargo xtask images` puts the registry and skopeo into the cache.
#![expect(clippy::unwrap_used, reason = "a test ends where its preparation fails")]

mod authentication;
mod hostile;
mod line;
mod mirrors;
mod pull;
mod push;
mod skopeo;
mod stand_in;
mod tls;

use std::io::{self, Read};
use std::time::Duration;

use bulkhead_registry::{
    Client, Configuration, Descriptor, Digest, Name, Patience, Platform, Pushed, Registries, Resolved,
    media_type,
};
use bulkhead_testkit::Scratch;
use bulkhead_testkit::registry::{Guard, Registry};

/// A registry for everybody, in a directory of its own.
struct Ground {
    registry: Registry,
    scratch: Scratch,
}

/// Makes a [`Ground`], or ends the test with a reason.
macro_rules! ground {
    () => {{
        let missing = bulkhead_testkit::registry::Registry::program().is_none();
        bulkhead_testkit::requires!(!missing, "docker-registry is missing: cargo xtask images");
        $crate::Ground::new()
    }};
}
pub(crate) use ground;

impl Ground {
    fn new() -> Self {
        let scratch = Scratch::new();
        let registry = Registry::start(&scratch.path().join("registry"), &Guard::Nobody, None);
        Self { registry, scratch }
    }

    fn reference(&self, rest: &str) -> Name {
        Name::parse(&format!("{}/{rest}", self.registry.host())).unwrap()
    }
}

/// A client that waits a moment only.
fn client() -> Client {
    client_with(Registries::default())
}

fn client_with(registries: Registries) -> Client {
    Client::new(Configuration { registries, patience: impatient(), ..Configuration::default() })
}

fn impatient() -> Patience {
    Patience {
        pause: Duration::from_millis(5),
        silence: Duration::from_secs(3),
        connect: Duration::from_secs(3),
        ..Patience::default()
    }
}

/// Bytes that no compression makes shorter, other ones for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An image of layers that are no archives, for tests which unpack none.
struct Image {
    configuration: Vec<u8>,
    layers: Vec<Vec<u8>>,
}

impl Image {
    fn of(layers: Vec<Vec<u8>>, architecture: &str) -> Self {
        let diff_ids = Vec::from_iter(layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))));
        let configuration = format!(
            r#"{{"architecture":"{architecture}","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            diff_ids.join(",")
        );
        Self { configuration: configuration.into_bytes(), layers }
    }

    fn manifest(&self, kind: &str) -> Vec<u8> {
        let (configuration, layer) = match kind {
            media_type::DOCKER_MANIFEST => {
                (media_type::DOCKER_CONFIGURATION, "application/vnd.docker.image.rootfs.diff.tar")
            }
            _ => (media_type::CONFIGURATION, "application/vnd.oci.image.layer.v1.tar"),
        };
        let layers = Vec::from_iter(self.layers.iter().map(|bytes| written(layer, bytes)));
        let configuration = written(configuration, &self.configuration);
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{configuration},"layers":[{}]}}"#,
            layers.join(",")
        )
        .into_bytes()
    }

    /// Pushes it by our client.
    fn push(&self, client: &Client, reference: &Name, kind: &str) -> Digest {
        let push = client.push(reference).unwrap();
        for bytes in self.layers.iter().chain([&self.configuration]) {
            let pushed = push.blob(&descriptor("", bytes), &[], &opener(bytes)).unwrap();
            assert!(matches!(pushed, Pushed::Sent | Pushed::Present));
        }
        push.manifest(&self.manifest(kind), kind).unwrap()
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

fn written(kind: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{kind}","digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len())
}

fn opener(bytes: &[u8]) -> impl Fn(u64) -> io::Result<Box<dyn Read + Send>> + Sync + use<> {
    let bytes = bytes.to_vec();
    move |offset| Ok(Box::new(io::Cursor::new(bytes[offset as usize..].to_vec())))
}

/// Reads a blob to its end.
fn read(client: &Client, image: &Resolved, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    client.blob(image, descriptor)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn here() -> Platform {
    Platform::host()
}
