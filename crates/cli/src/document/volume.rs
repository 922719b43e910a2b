//! A volume.

use bulkhead_engine::Volume;
use serde_json::{Value, json};

/// What `volume inspect` prints of it.
pub(crate) fn volume(volume: &Volume) -> Value {
    let Volume { name, created, labels, anonymous: _, mountpoint, used_by: _ } = volume;
    json!({
        "CreatedAt": super::moment(Some(*created)),
        "Driver": "local",
        "Labels": labels,
        "Mountpoint": mountpoint,
        "Name": name,
        "Options": {},
        "Scope": "local",
        "Status": null,
        "UsageData": null,
        "ClusterVolume": null,
    })
}
