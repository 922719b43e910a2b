//! Manifests and indexes: what an image is made of, and which images stand behind one name.

use bulkhead_image::{Digest, Platform};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// The longest manifest or index that is read, in bytes; that of docker's registry.
pub const LONGEST: u64 = 4 << 20;

/// The most layers of an image; what overlayfs takes is less.
const MOST_LAYERS: usize = 1024;

/// The media types of OCI and of docker.
pub mod media_type {
    /// OCI's manifest of an image.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI's index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI's configuration of an image.
    pub const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker's manifest of an image (schema 2).
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's index ("manifest list").
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's configuration of an image.
    pub const DOCKER_CONFIGURATION: &str = "application/vnd.docker.container.image.v1+json";

    /// What a registry is told to be understood.
    pub(crate) const ACCEPTED: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
}

/// What a manifest or an index says of a blob (OCI image specification, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of document or archive it is.
    #[serde(default)]
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where else it can be had; only layers that may not be distributed have such.
    #[serde(default)]
    pub urls: Vec<String>,
    /// In an index, what it runs on.
    #[serde(default)]
    pub platform: Option<Platform>,
}

/// A manifest or an index, as its bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// The manifest of one image.
    Manifest(Manifest),
    /// The index of several.
    Index(Index),
}

/// The manifest of one image, or of something else that a registry keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its own digest, of its bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// What was read, byte by byte.
    pub bytes: Vec<u8>,
    /// The configuration.
    pub configuration: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// An index of manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its own digest, of its bytes.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// What was read, byte by byte.
    pub bytes: Vec<u8>,
    /// The manifests and indexes in it.
    pub manifests: Vec<Descriptor>,
}

/// The fields of all documents, to tell which it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    #[serde(default, deserialize_with = "readable")]
    manifests: Option<Vec<Descriptor>>,
}

/// Leaves out what an index has under digests of other algorithms, which is for others.
fn readable<'de, D: Deserializer<'de>>(entries: D) -> std::result::Result<Option<Vec<Descriptor>>, D::Error> {
    let is_other = |entry: &Value| {
        let digest = entry.get("digest").and_then(Value::as_str).unwrap_or_default();
        digest
            .split_once(':')
            .is_some_and(|(algorithm, _)| matches!(algorithm, "sha384" | "sha512" | "blake3"))
    };
    let entries: Option<Vec<Value>> = Deserialize::deserialize(entries)?;
    let read = |entries: Vec<Value>| {
        let ours = entries.into_iter().filter(|entry| !is_other(entry));
        ours.map(Descriptor::deserialize).collect::<std::result::Result<_, _>>().map_err(D::Error::custom)
    };
    entries.map(read).transpose()
}

impl Document {
    /// Reads a document. What it is, is decided by its fields, never by the header of a response alone: a document
    /// that could be read as both is refused (CVE-2021-41190).
    ///
    /// # Errors
    /// [`Error::Manifest`].
    pub fn parse(bytes: Vec<u8>, content_type: Option<&str>) -> Result<Self> {
        let digest = Digest::of(&bytes);
        Self::parse_named(bytes, content_type, digest)
    }

    /// The same, of bytes whose digest is known.
    pub(crate) fn parse_named(bytes: Vec<u8>, content_type: Option<&str>, digest: Digest) -> Result<Self> {
        let wrong = |reason: String| Error::Manifest { digest, reason };
        let Raw { schema_version, media_type, config, layers, manifests } =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if schema_version == 1 {
            return Err(wrong(
                "has docker's schema 1, which was given up in 2017: push the image again".into(),
            ));
        }
        if schema_version != 2 {
            return Err(wrong(format!("has schemaVersion {schema_version}, not 2")));
        }
        let content_type = content_type.map(essence).filter(|kind| media_type::ACCEPTED.contains(kind));
        if let (Some(inside), Some(outside)) = (media_type.as_deref(), content_type)
            && inside != outside
        {
            return Err(wrong(format!("says that it is {inside}, and its registry that it is {outside}")));
        }
        let kind = media_type.as_deref().or(content_type);
        match (config, layers, manifests) {
            (Some(configuration), Some(layers), None) => {
                let kind = kind.unwrap_or(media_type::MANIFEST);
                if !matches!(kind, media_type::MANIFEST | media_type::DOCKER_MANIFEST) {
                    return Err(wrong(format!("is a manifest that says that it is {kind}")));
                }
                if layers.len() > MOST_LAYERS {
                    return Err(wrong(format!("has {} layers, more than {MOST_LAYERS}", layers.len())));
                }
                let media_type = kind.to_owned();
                Ok(Self::Manifest(Manifest { digest, media_type, bytes, configuration, layers }))
            }
            (None, None, Some(manifests)) => {
                let kind = kind.unwrap_or(media_type::INDEX);
                if !matches!(kind, media_type::INDEX | media_type::DOCKER_INDEX) {
                    return Err(wrong(format!("is an index that says that it is {kind}")));
                }
                let media_type = kind.to_owned();
                Ok(Self::Index(Index { digest, media_type, bytes, manifests }))
            }
            _ => {
                Err(wrong("is neither a manifest with config and layers nor an index with manifests".into()))
            }
        }
    }

    /// Its digest.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Manifest(Manifest { digest, .. }) | Self::Index(Index { digest, .. }) => digest,
        }
    }
}

impl Manifest {
    /// Tells whether it is of an image, and not of something else that registries keep.
    #[must_use]
    pub fn is_image(&self) -> bool {
        matches!(
            self.configuration.media_type.as_str(),
            media_type::CONFIGURATION | media_type::DOCKER_CONFIGURATION
        )
    }
}

impl Index {
    /// The manifest that runs best on a platform, the first of equals; or the only one, if it does not say on what it runs.
    #[must_use]
    pub fn choose(&self, wanted: &Platform) -> Option<&Descriptor> {
        let of = |descriptor: &Descriptor| wanted.distance(descriptor.platform.as_ref()?);
        let rated = self.manifests.iter().filter_map(|descriptor| Some((of(descriptor)?, descriptor)));
        let best = rated.min_by_key(|(distance, _)| *distance).map(|(_, descriptor)| descriptor);
        best.or(match self.manifests.as_slice() {
            [only] if only.platform.is_none() => Some(only),
            _ => None,
        })
    }

    /// What there is, to be told to who wanted something else.
    #[must_use]
    pub fn platforms(&self) -> Vec<Platform> {
        let all = self.manifests.iter().filter_map(|descriptor| descriptor.platform.clone());
        // Attestations stand there as unknown/unknown.
        all.filter(|platform| platform.os != "unknown").collect()
    }
}

/// Writes an index of manifests that a registry has, by media type, digest, size and platform.
///
/// # Errors
/// [`Error::Manifest`] never happens for descriptors that were read.
pub fn index(manifests: &[Descriptor]) -> Result<Index> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a> {
        schema_version: u8,
        media_type: &'a str,
        manifests: Vec<Entry<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Entry<'a> {
        media_type: &'a str,
        digest: &'a Digest,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        platform: Option<Runs<'a>>,
    }
    #[derive(Serialize)]
    struct Runs<'a> {
        architecture: &'a str,
        os: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        variant: Option<&'a str>,
    }
    let entries = manifests.iter().map(|Descriptor { media_type, digest, size, urls: _, platform }| Entry {
        media_type,
        digest,
        size: *size,
        platform: platform.as_ref().map(|Platform { os, architecture, variant }| Runs {
            architecture,
            os,
            variant: variant.as_deref(),
        }),
    });
    let written = Written { schema_version: 2, media_type: media_type::INDEX, manifests: entries.collect() };
    let bytes = serde_json::to_vec(&written)
        .map_err(|error| Error::Manifest { digest: Digest::of(b""), reason: error.to_string() })?;
    Ok(Index {
        digest: Digest::of(&bytes),
        media_type: media_type::INDEX.to_owned(),
        bytes,
        manifests: manifests.to_vec(),
    })
}

/// A media type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, platform: &str) -> String {
        let digest = Digest::of(platform.as_bytes());
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":3{platform}}}"#)
    }

    fn runs(os: &str, architecture: &str, variant: &str) -> String {
        let platform =
            format!(r#","platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#);
        descriptor(media_type::MANIFEST, &platform)
    }

    fn manifest(kind: &str) -> String {
        let configuration = descriptor(media_type::CONFIGURATION, "");
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "");
        format!(r#"{{"schemaVersion":2{kind},"config":{configuration},"layers":[{layer}]}}"#)
    }

    #[test]
    fn an_index_is_read_though_it_has_digests_for_others() {
        let other = format!(
            r#"{{"mediaType":"{}","digest":"sha512:{}","size":3}}"#,
            media_type::MANIFEST,
            "0".repeat(128)
        );
        let ours = runs("linux", "amd64", "");
        let index = |entries: &str| format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#).into_bytes();
        let Ok(Document::Index(read)) = Document::parse(index(&format!("{other},{ours}")), None) else {
            panic!("it is an index");
        };
        assert_eq!(read.manifests.len(), 1);
        let wrong = ours.replace("sha256:", "sha256:x");
        assert!(Document::parse(index(&wrong), None).is_err(), "what is ours and damaged is refused");
    }

    #[test]
    fn a_manifest_is_read_with_and_without_its_type() {
        for (kind, header, expected) in [
            ("", None, media_type::MANIFEST),
            ("", Some("application/json"), media_type::MANIFEST),
            (
                "",
                Some("application/vnd.docker.distribution.manifest.v2+json; charset=utf-8"),
                media_type::DOCKER_MANIFEST,
            ),
            (&format!(r#","mediaType":"{}""#, media_type::MANIFEST), None, media_type::MANIFEST),
        ] {
            let text = manifest(kind);
            let Document::Manifest(found) = Document::parse(text.clone().into_bytes(), header).unwrap()
            else {
                panic!("{kind} is no manifest");
            };
            assert_eq!((found.media_type.as_str(), found.layers.len()), (expected, 1));
            assert!(found.is_image() && found.digest.is_of(text.as_bytes()));
        }
    }

    #[test]
    fn what_could_be_two_things_is_refused() {
        let both = manifest(r#","manifests":[]"#);
        let index = format!(r#","mediaType":"{}""#, media_type::INDEX);
        for (text, header, reason) in [
            (both.as_str(), None, "neither a manifest"),
            (&manifest(&index), None, "is a manifest that says"),
            (&manifest(""), Some(media_type::INDEX), "is a manifest that says"),
            (r#"{"schemaVersion":2}"#, None, "neither a manifest"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None, "schema 1"),
            (r#"{"schemaVersion":3}"#, None, "schemaVersion 3"),
            (r#"{}"#, None, "schemaVersion"),
            ("no json", None, "expected"),
        ] {
            let error = Document::parse(text.as_bytes().to_vec(), header).unwrap_err().to_string();
            assert!(error.contains(reason), "{text} says {error}");
        }
    }

    #[test]
    fn an_index_gives_what_runs_here() {
        let all = [
            runs("unknown", "unknown", ""),
            runs("linux", "arm", "v6"),
            runs("linux", "arm", "v7"),
            runs("linux", "arm64", "v8"),
            runs("linux", "amd64", ""),
            runs("windows", "amd64", ""),
        ];
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, all.join(","));
        let Document::Index(index) = Document::parse(text.into_bytes(), None).unwrap() else {
            panic!("no index")
        };
        for (wanted, expected) in [
            ("linux/amd64", Some(4)),
            ("linux/arm64", Some(3)),
            ("linux/arm/v7", Some(2)),
            ("linux/arm/v6", Some(1)),
            ("linux/s390x", None),
        ] {
            let found = index.choose(&wanted.parse().unwrap());
            assert_eq!(found, expected.map(|at: usize| &index.manifests[at]), "{wanted}");
        }
        assert_eq!(index.platforms().len(), 5);

        let written = super::index(&index.manifests).unwrap();
        let Document::Index(read) = Document::parse(written.bytes.clone(), None).unwrap() else { panic!() };
        assert_eq!(read, written, "an index that is written is read the same");
    }
}
