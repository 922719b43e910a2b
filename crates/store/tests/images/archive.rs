//! Archives, made byte by byte so that they can be wrong.

use std::io::Write as _;

use bulkhead_store::Digest;
use serde_json::{Value, json};

/// An archive that grows.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn file(self, path: &str, bytes: &[u8]) -> Self {
        self.entry(path, b'0', "", bytes)
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        self.entry(path, b'5', "", b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, b'2', target, b"")
    }

    pub(crate) fn entry(mut self, path: &str, kind: u8, target: &str, bytes: &[u8]) -> Self {
        let mut header = [0; 512];
        let mut put = |place: usize, text: &[u8]| header[place..place + text.len()].copy_from_slice(text);
        put(0, path.as_bytes());
        put(100, if kind == b'5' { b"0000755\0" } else { b"0000644\0" });
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", bytes.len()).as_bytes());
        put(136, b"14000000000\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, target.as_bytes());
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer with one file.
pub(crate) fn layer(path: &str, content: &str) -> Vec<u8> {
    Tar::new().directory("./").file(path, content.as_bytes()).end()
}

/// A configuration of an image with these layers, given uncompressed.
pub(crate) fn configuration(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids = Vec::from_iter(layers.iter().map(|layer| Digest::of(layer).to_string()));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let configuration = json!({
        "architecture": architecture, "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": { "Cmd": ["sh"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": [{ "created_by": "a test" }],
    });
    configuration.to_string().into_bytes()
}

pub(crate) fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::of(bytes).hex())
}

/// What `docker save` wrote until version 24: each layer plain in a directory, the documents last.
pub(crate) fn old_docker(names: &Value, layers: &[&[u8]]) -> Vec<u8> {
    let configuration = configuration(layers);
    let id = Digest::of(&configuration);
    let mut tar = Tar::new();
    let mut paths = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let directory = format!("{number:064}");
        let path = format!("{directory}/layer.tar");
        tar = tar.directory(&format!("{directory}/")).file(&format!("{directory}/VERSION"), b"1.0");
        tar = tar.file(&format!("{directory}/json"), b"{\"id\":\"x\"}").file(&path, layer);
        paths.push(path);
    }
    let packed = json!([{ "Config": format!("{}.json", id.hex()), "RepoTags": names, "Layers": paths }]);
    tar.file(&format!("{}.json", id.hex()), &configuration)
        .file("manifest.json", packed.to_string().as_bytes())
        .file("repositories", b"{}")
        .end()
}

/// The parts of an OCI layout: what `oci` is made of.
pub(crate) struct Oci {
    pub(crate) configuration: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
}

impl Oci {
    /// An image with these layers, given uncompressed, each compressed.
    pub(crate) fn new(layers: &[&[u8]]) -> Self {
        Self::of(configuration(layers), layers.iter().map(|layer| gzip(layer)).collect())
    }

    pub(crate) fn of(configuration: Vec<u8>, layers: Vec<Vec<u8>>) -> Self {
        let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len() });
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let listed = Vec::from_iter(layers.iter().map(|layer| descriptor(kind, layer)));
        let manifest = json!({
            "schemaVersion": 2, "annotations": { "a": "test" },
            "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration), "layers": listed,
        });
        Self { configuration, layers, manifest: manifest.to_string().into_bytes() }
    }

    pub(crate) fn blobs(&self) -> Vec<&[u8]> {
        [&self.configuration[..], &self.manifest]
            .into_iter()
            .chain(self.layers.iter().map(Vec::as_slice))
            .collect()
    }

    pub(crate) fn descriptor(&self, annotations: &Value) -> Value {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "annotations": annotations,
            "digest": Digest::of(&self.manifest), "size": self.manifest.len(),
        })
    }

    /// The layout as an archive, with a name.
    pub(crate) fn archive(&self, name: &str) -> Vec<u8> {
        let index = json!({
            "schemaVersion": 2,
            "manifests": [self.descriptor(&json!({ "org.opencontainers.image.ref.name": name }))],
        });
        self.with_index(&index)
    }

    pub(crate) fn with_index(&self, index: &Value) -> Vec<u8> {
        let mut tar = Tar::new().file("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}");
        for bytes in self.blobs() {
            tar = tar.file(&blob(bytes), bytes);
        }
        tar.file("index.json", index.to_string().as_bytes()).end()
    }
}
