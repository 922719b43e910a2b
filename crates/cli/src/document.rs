//! Containers, images, networks and volumes as docker's API describes them: what `inspect` prints and its templates see.

mod asked;
mod connections;
mod container;
mod image;
mod network;
mod pod;
mod volume;

pub(crate) use connections::Connections;
pub(crate) use container::{container, network, verdict};
pub(crate) use image::image;
pub(crate) use network::network as network_of;
pub(crate) use pod::pod;
pub(crate) use volume::volume;

use serde_json::{Map, Value};

/// Fields that docker leaves out where they are nothing. A template sees them all the same.
const LEFT_OUT: &[&str] = &[
    "ClusterVolume",
    "ExposedPorts",
    "Health",
    "Healthcheck",
    "Mounts",
    "Shell",
    "Status",
    "StopSignal",
    "StopTimeout",
    "StorageOpt",
    "UsageData",
];

/// A document as it is printed.
pub(crate) fn pruned(document: &Value) -> Value {
    match document {
        Value::Object(map) => {
            let kept =
                map.iter().filter(|(key, value)| !(value.is_null() && LEFT_OUT.contains(&key.as_str())));
            Value::Object(kept.map(|(key, value)| (key.clone(), pruned(value))).collect::<Map<_, _>>())
        }
        Value::Array(values) => Value::Array(values.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

/// Docker's time of what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// A moment in docker's words, in nanoseconds since 1970.
fn moment(moment: Option<u64>) -> String {
    moment.map_or_else(|| NEVER.to_owned(), crate::output::quantity::rfc3339)
}
