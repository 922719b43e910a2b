//! Mounts, and the maps of ids that they and user namespaces use.

use serde::{Deserialize, Serialize};

use crate::field::{nullable, text, unset};

/// Describes one mount in the container.
///
/// Source: `config.md`, "Mounts".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, in the container. Should be absolute; a relative one counts from the root.
    pub destination: String,
    /// The type of file system; none for a bind mount.
    #[serde(rename = "type", default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// A device, a name, or for a bind mount the path, absolute or relative to the bundle.
    #[serde(default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Options as in fstab, with the specification's additions.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub options: Vec<String>,
    /// How user ids of the source appear in the mount; set together with `gid_mappings`.
    #[serde(rename = "uidMappings", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub uid_mappings: Vec<IdMapping>,
    /// How group ids of the source appear in the mount; set together with `uid_mappings`.
    #[serde(rename = "gidMappings", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub gid_mappings: Vec<IdMapping>,
}

/// Maps a range of ids.
///
/// Source: `config-linux.md`, "User namespace mappings"; user_namespaces(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first id on the host.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// The number of ids.
    pub size: u32,
}
