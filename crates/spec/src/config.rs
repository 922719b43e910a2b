//! The configuration of a container: `config.json` of a bundle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{self, ParseError};
use crate::field::{nullable, text, unset};
use crate::{Hooks, Linux, Mount, Process};

/// Describes one container.
///
/// Source: `config.md`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The version of the specification that the bundle follows, as in semver 2.0.
    pub oci_version: String,
    /// What runs; without it the container can be created but not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name in the container's UTS namespace.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name in the container's UTS namespace.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// What is mounted on top of the root, in this order.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub mounts: Vec<Mount>,
    /// Programs that run at fixed points of the life cycle.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub hooks: Hooks,
    /// Arbitrary data; the keys are in reverse domain notation.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// The first place that does not have the specification's form.
    pub fn from_json(text: &str) -> Result<Config, ParseError> {
        error::parse("config.json", text)
    }
}

/// Names the container's root file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The directory, absolute or relative to the bundle.
    pub path: String,
    /// The container cannot write to it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub readonly: bool,
}
