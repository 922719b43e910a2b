//! An image's configuration: what it runs by default, and what it is made of.
//!
//! The fields are those of the OCI image specification ("Image Configuration") and those that docker adds
//! (`Healthcheck`, `Shell`, `OnBuild`). Docker writes `null` for what is empty, so that is read as nothing. What is not
//! known is ignored: the document itself is kept as a blob, byte for byte, since its digest is the image's id.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::Digest;

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// When it was made (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The machine it is for, in Go's words: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// Which of them, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The operating system: `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// What a container does unless it is told otherwise.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Defaults,
    /// Its layers.
    pub rootfs: RootFs,
    /// How each layer came to be, and what changed without one.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
}

/// What a container of the image does unless it is told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Defaults {
    /// `USER`: a name or number, and a group after a colon.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `EXPOSE`: ports, such as `80/tcp`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `ENV`: `NAME=VALUE`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// `ENTRYPOINT`: the words that come before the command.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`: the command.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// `VOLUME`: directories whose data outlives the container.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// `WORKDIR`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `LABEL`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `STOPSIGNAL`: a name or number.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between that signal and SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// `HEALTHCHECK`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// `SHELL`.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// `ONBUILD`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

/// The value of a set's member: an object without fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// How to find out whether a container is well. All times are nanoseconds, 0 where the engine decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`; empty inherits.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// From the end of one check to the next.
    #[serde(default)]
    pub interval: i64,
    /// How long one may take.
    #[serde(default)]
    pub timeout: i64,
    /// How long failures do not count after a start.
    #[serde(default)]
    pub start_period: i64,
    /// The interval during the start period.
    #[serde(default)]
    pub start_interval: i64,
    /// How many failures in a row make it unhealthy.
    #[serde(default)]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed archives, the lowest layer first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// One step by which an image was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// By which instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// With which words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether it made no layer.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Reads `null` as nothing.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a list of words, or one word, as docker does.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::deserialize(deserializer)?.map(|words| match words {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_writes_is_read() {
        let text = r#"{
            "architecture": "amd64", "os": "linux", "created": "2025-07-15T11:01:40Z", "container": "0123",
            "config": {
                "Hostname": "", "User": "app", "ExposedPorts": {"80/tcp": {}}, "Env": ["PATH=/bin"],
                "Cmd": ["sh"], "Entrypoint": null, "Volumes": null, "WorkingDir": "/app", "OnBuild": null,
                "Labels": {"a": "b"}, "ArgsEscaped": true, "Shell": "/bin/sh",
                "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5000000000, "Retries": 3}
            },
            "rootfs": {"type": "layers", "diff_ids": null},
            "history": [{"created_by": "ADD x", "empty_layer": true}, {"empty_layer": null}]
        }"#;
        let read: Configuration = serde_json::from_str(text).unwrap();
        assert_eq!(read.config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(read.config.entrypoint, None);
        assert_eq!(read.config.shell, Some(vec!["/bin/sh".to_owned()]), "one word is a list of one");
        assert!(read.config.volumes.is_empty() && read.config.exposed_ports.contains_key("80/tcp"));
        assert_eq!(read.config.healthcheck.as_ref().unwrap().interval, 5_000_000_000);
        assert!(read.history[0].empty_layer && !read.history[1].empty_layer);
        let again: Configuration = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read, "what is written is read the same");
    }

    #[test]
    fn a_configuration_without_layers_is_none() {
        let error = serde_json::from_str::<Configuration>("{}").unwrap_err();
        assert!(error.to_string().contains("rootfs"), "{error}");
        let text = r#"{"rootfs": {"type": "layers", "diff_ids": ["sha256:../x"]}}"#;
        let error = serde_json::from_str::<Configuration>(text).unwrap_err();
        assert!(error.to_string().contains("64 digits"), "{error}");
    }
}
