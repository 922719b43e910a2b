//! The documents that tell what an image is made of, as registries and archives have them.
//!
//! Read are OCI's and those of docker's schema 2, which have the same fields and other media types. See the OCI image
//! specification, "Manifest", "Image Index" and "Descriptor", and for `manifest.json` docker's image specification 1.2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::layer::Compression;
use crate::{Configuration, Digest, Layer, Platform};

/// The media type of OCI's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of OCI's index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// The annotation with a whole name, which docker and containerd write and read.
pub(crate) const IMAGE_NAME: &str = "io.containerd.image.name";
/// OCI's annotation, which is a tag or a whole name.
pub(crate) const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// More layers than overlayfs takes, which is 500.
const LAYERS: usize = 1000;

/// A pointer to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// In an index, the machine that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What an image is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// What it is itself, which OCI lets it leave out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// A list of manifests, or of lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// What it is itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

/// A manifest or an index, which may have to be told apart by their fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// A manifest.
    Manifest(Manifest),
    /// An index.
    Index(Index),
}

/// An entry of docker's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Packed {
    /// Where the configuration lies in the archive.
    pub config: String,
    /// The image's names.
    pub repo_tags: Option<Vec<String>>,
    /// Where the layers lie, the lowest first.
    pub layers: Option<Vec<String>>,
}

impl Document {
    /// Reads a manifest or an index; `what` names it in errors.
    ///
    /// # Errors
    /// [`Error::Archive`] for what is neither, is both, or has more layers than any machine can use.
    pub fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Form {
            media_type: Option<String>,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let fault = |reason: String| Error::Archive { entry: what.to_owned(), reason };
        let unread = |error: serde_json::Error| fault(format!("cannot be read: {error}"));
        let form: Form = serde_json::from_slice(bytes).map_err(unread)?;
        let has_layers = form.layers.is_some() || form.config.is_some();
        // A document that can be read as either means different things to different readers (CVE-2021-41190).
        let is_index = match (form.media_type.as_deref(), has_layers, form.manifests.is_some()) {
            (_, true, true) => return Err(fault("is a manifest and an index at once".to_owned())),
            (Some(MANIFEST | DOCKER_MANIFEST) | None, true, false) => false,
            (Some(INDEX | DOCKER_INDEX) | None, false, true) => true,
            (None, false, false) => return Err(fault("is neither a manifest nor an index".to_owned())),
            (Some(other), ..) => {
                return Err(fault(format!("has the media type {other:?}, which does not fit it")));
            }
        };
        let document = if is_index {
            Self::Index(serde_json::from_slice(bytes).map_err(unread)?)
        } else {
            Self::Manifest(serde_json::from_slice(bytes).map_err(unread)?)
        };
        let (version, count) = match &document {
            Self::Manifest(manifest) => (manifest.schema_version, manifest.layers.len()),
            Self::Index(index) => (index.schema_version, index.manifests.len()),
        };
        if version != 2 {
            return Err(fault(format!("has the schema version {version}, and only 2 is known")));
        }
        if count > LAYERS {
            return Err(fault(format!("lists {count} parts, and {LAYERS} is the limit")));
        }
        Ok(document)
    }
}

impl Packed {
    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// [`Error::Archive`].
    pub fn parse(bytes: &[u8]) -> Result<Vec<Self>> {
        let fault = |reason: String| Error::Archive { entry: "manifest.json".to_owned(), reason };
        let list: Vec<Self> =
            serde_json::from_slice(bytes).map_err(|error| fault(format!("cannot be read: {error}")))?;
        if list.len() > LAYERS {
            return Err(fault(format!("lists {} images, and {LAYERS} is the limit", list.len())));
        }
        match list.iter().filter_map(|packed| packed.layers.as_ref()).find(|layers| layers.len() > LAYERS) {
            Some(layers) => {
                Err(fault(format!("has an image of {} layers, and {LAYERS} is the limit", layers.len())))
            }
            None => Ok(list),
        }
    }
}

/// Reads a configuration; `what` names it in errors.
///
/// # Errors
/// [`Error::Archive`].
pub fn parse_configuration(what: &str, bytes: &[u8]) -> Result<Configuration> {
    let fault = |reason: String| Error::Archive { entry: what.to_owned(), reason };
    let configuration: Configuration = serde_json::from_slice(bytes)
        .map_err(|error| fault(format!("is no image's configuration: {error}")))?;
    match configuration.rootfs.kind.as_str() {
        "layers" => Ok(configuration),
        other => {
            Err(fault(format!("has a root file system of the type {other:?}, and only `layers` is known")))
        }
    }
}

impl Manifest {
    /// Writes the manifest of an image of ours.
    pub(crate) fn of(configuration: &Digest, size: u64, layers: &[(Layer, Compression)]) -> Self {
        let descriptor = |media_type: String, digest: Digest, size: u64| Descriptor {
            media_type,
            digest,
            size,
            annotations: None,
            platform: None,
        };
        let layer = |(layer, compression): &(Layer, Compression)| {
            let media_type = match compression {
                Compression::None => LAYER.to_owned(),
                compression => format!("{LAYER}+{compression}"),
            };
            descriptor(media_type, layer.blob, layer.blob_size)
        };
        Self {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config: descriptor(CONFIGURATION.to_owned(), *configuration, size),
            layers: layers.iter().map(layer).collect(),
        }
    }

    /// Returns the media type, which an older one may not tell.
    pub(crate) fn kind(&self) -> &str {
        self.media_type.as_deref().unwrap_or(MANIFEST)
    }
}

impl Index {
    /// Chooses what is for a machine, and of several the best; what does not say for which is for all.
    pub fn choose(&self, platform: &Platform) -> Option<&Descriptor> {
        let distance = |descriptor: &Descriptor| match &descriptor.platform {
            Some(of) => platform.distance(of),
            None => Some(usize::MAX),
        };
        let rated = self.manifests.iter().filter_map(|descriptor| Some((distance(descriptor)?, descriptor)));
        rated.min_by_key(|(distance, _)| *distance).map(|(_, descriptor)| descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(more: &str) -> String {
        format!(r#"{{"mediaType": "x", "digest": "sha256:{HEX}", "size": 7{more}}}"#)
    }

    #[test]
    fn documents_are_told_apart() {
        let one = descriptor("");
        for (text, expected) in [
            (format!(r#"{{"schemaVersion": 2, "config": {one}, "layers": [{one}]}}"#), "manifest"),
            (
                format!(
                    r#"{{"schemaVersion": 2, "mediaType": "{DOCKER_MANIFEST}", "config": {one}, "layers": []}}"#
                ),
                "manifest",
            ),
            (format!(r#"{{"schemaVersion": 2, "manifests": [{one}]}}"#), "index"),
            (format!(r#"{{"schemaVersion": 2, "mediaType": "{DOCKER_INDEX}", "manifests": []}}"#), "index"),
            (format!(r#"{{"schemaVersion": 2, "config": {one}, "layers": [], "manifests": []}}"#), "at once"),
            (
                format!(r#"{{"schemaVersion": 2, "mediaType": "{INDEX}", "config": {one}, "layers": []}}"#),
                "does not fit",
            ),
            (
                format!(r#"{{"schemaVersion": 2, "mediaType": "{MANIFEST}", "manifests": []}}"#),
                "does not fit",
            ),
            (r#"{"schemaVersion": 2}"#.to_owned(), "neither"),
            (format!(r#"{{"schemaVersion": 1, "config": {one}, "layers": []}}"#), "schema version 1"),
            (format!(r#"{{"schemaVersion": 2, "config": {one}}}"#), "missing field `layers`"),
            (
                format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, descriptor(r#", "size": 8"#)),
                "duplicate field",
            ),
            (
                r#"{"schemaVersion": 2, "manifests": [{"digest": "sha256:../../etc/passwd", "size": 1}]}"#
                    .to_owned(),
                "64 digits",
            ),
            (
                format!(r#"{{"schemaVersion": 2, "manifests": [{{"digest": "sha256:{HEX}", "size": -1}}]}}"#),
                "invalid value",
            ),
            ("[]".to_owned(), "cannot be read"),
            (String::new(), "cannot be read"),
        ] {
            let found = match Document::parse("it", text.as_bytes()) {
                Ok(Document::Manifest(_)) => "manifest".to_owned(),
                Ok(Document::Index(_)) => "index".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expected), "{text} is {found}, not {expected}");
        }
    }

    #[test]
    fn no_document_is_larger_than_it_can_be_of_use() {
        let many = vec![descriptor(""); 1001].join(",");
        let text = format!(r#"{{"schemaVersion": 2, "manifests": [{many}]}}"#);
        assert!(
            Document::parse("it", text.as_bytes()).unwrap_err().to_string().contains("1000 is the limit")
        );
        let layers = vec![r#""layer""#; 1001].join(",");
        let text = format!(r#"[{{"Config": "c", "RepoTags": null, "Layers": [{layers}]}}]"#);
        assert!(Packed::parse(text.as_bytes()).unwrap_err().to_string().contains("1000 is the limit"));
        assert!(Packed::parse(b"{}").unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn an_index_has_something_for_this_machine() {
        let with = |architecture: &str, variant: Option<&str>| {
            let variant = variant.map(|variant| format!(r#", "variant": "{variant}""#)).unwrap_or_default();
            descriptor(&format!(
                r#", "platform": {{"os": "linux", "architecture": "{architecture}"{variant}}}"#
            ))
        };
        let index = |parts: &[String]| {
            let text = format!(r#"{{"schemaVersion": 2, "manifests": [{}]}}"#, parts.join(","));
            match Document::parse("it", text.as_bytes()).unwrap() {
                Document::Index(index) => index,
                Document::Manifest(_) => panic!("it is an index"),
            }
        };
        let arm = Platform { architecture: "arm64".into(), os: "linux".into(), variant: Some("v8".into()) };
        let parts = [with("amd64", None), with("arm64", Some("v9")), with("arm64", None), descriptor("")];
        let found = index(&parts).choose(&arm).unwrap().platform.clone().unwrap();
        assert_eq!(found, Platform { variant: None, ..arm.clone() });
        assert!(index(&parts[..1]).choose(&arm).is_none(), "nothing for this machine");
        assert!(index(&parts[3..]).choose(&arm).is_some(), "what does not say is for all");
    }
}
