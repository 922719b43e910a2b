//! What was asked for of a container's files, devices and names: a part of docker's `HostConfig`. What is nothing is as docker
//! has it there: `null` for lists, so that a template may range over each of them.

use bulkhead_engine::request::{
    Access, Devices, HostAddress, Missing, Mount, MountKind, Request, Throttle, Volume, VolumesFrom, Weight,
};
use serde_json::{Map, Value, json};

use super::connections::bindings;

/// The members that tell of it.
pub(super) fn asked(request: &Request) -> Map<String, Value> {
    let Request { mounts, volumes_from, hosts, devices, resources, .. } = request;
    let Devices { nodes, rules, cdi } = devices;
    let block = &resources.block;
    let nodes = nodes.iter().map(|node| {
        json!({
            "PathOnHost": node.host,
            "PathInContainer": node.container,
            "CgroupPermissions": node.access.as_str(),
        })
    });
    let rules = rules.iter().map(|rule| {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        json!(format!("{} {}:{} {}", rule.kind, number(rule.major), number(rule.minor), rule.access.as_str()))
    });
    let requests = cdi.iter().map(|device| {
        json!({
            "Driver": "cdi",
            "Count": 0,
            "DeviceIDs": [format!("{}={}", device.kind, device.name)],
            "Capabilities": null,
            "Options": null,
        })
    });
    let names = hosts.entries.iter().map(|entry| match entry.address {
        HostAddress::Address(address) => json!(format!("{}:{address}", entry.name)),
        HostAddress::Gateway => json!(format!("{}:host-gateway", entry.name)),
    });
    let members = json!({
        "Mounts": some(mounts.iter().filter_map(mount)),
        "Cgroup": "",
        "StorageOpt": null,
        "Binds": some(mounts.iter().filter_map(bind).map(Value::from)),
        "Tmpfs": tmpfs(mounts),
        "VolumesFrom": some(volumes_from.iter().map(from)),
        "VolumeDriver": "",
        "ExtraHosts": some(names),
        "Devices": Vec::from_iter(nodes),
        "DeviceCgroupRules": some(rules),
        "DeviceRequests": some(requests),
        "BlkioWeightDevice": Vec::from_iter(block.weight_devices.iter().map(weight)),
        "BlkioDeviceReadBps": Vec::from_iter(block.read_bytes.iter().map(throttle)),
        "BlkioDeviceWriteBps": Vec::from_iter(block.write_bytes.iter().map(throttle)),
        "BlkioDeviceReadIOps": Vec::from_iter(block.read_operations.iter().map(throttle)),
        "BlkioDeviceWriteIOps": Vec::from_iter(block.write_operations.iter().map(throttle)),
        "PortBindings": bindings(request),
        "PublishAllPorts": request.publishing.all,
        "Links": null,
        "ContainerIDFile": "",
        "Isolation": "",
    });
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A list, or nothing where there is none.
fn some(list: impl Iterator<Item = Value>) -> Value {
    let list = Vec::from_iter(list);
    if list.is_empty() { Value::Null } else { Value::Array(list) }
}

/// What `--volume` says: what is bound, or a volume by its name. What `--mount` binds stands among docker's `Mounts` alone.
fn bind(mount: &Mount) -> Option<String> {
    let source = match &mount.kind {
        MountKind::Bind(bind) if bind.missing == Missing::Created => bind.source.display().to_string(),
        MountKind::Volume(volume) if !is_part(volume) => volume.name.clone()?,
        MountKind::Bind(_) | MountKind::Volume(_) | MountKind::Tmpfs(_) => return None,
    };
    let access = if mount.access == Access::ReadWrite { "" } else { ":ro" };
    Some(format!("{source}:{}{access}", mount.destination))
}

/// What `--mount` alone can say: a bind mount of what must be there, and a part of a volume.
fn mount(mount: &Mount) -> Option<Value> {
    let mut document = match &mount.kind {
        MountKind::Bind(bind) if bind.missing == Missing::Refused => {
            let mut document = json!({ "Type": "bind", "Source": bind.source });
            if let Some(propagation) = bind.propagation {
                document["BindOptions"] = json!({ "Propagation": propagation.as_str() });
            }
            document
        }
        MountKind::Volume(volume) if is_part(volume) => json!({
            "Type": "volume",
            "Source": volume.name,
            "VolumeOptions": { "Subpath": volume.subpath },
        }),
        MountKind::Bind(_) | MountKind::Volume(_) | MountKind::Tmpfs(_) => return None,
    };
    document["Target"] = json!(mount.destination);
    document["ReadOnly"] = json!(mount.access != Access::ReadWrite);
    Some(document)
}

fn is_part(volume: &Volume) -> bool {
    volume.subpath.is_some()
}

fn tmpfs(mounts: &[Mount]) -> Value {
    let mut found = Map::new();
    for mount in mounts {
        let MountKind::Tmpfs(tmpfs) = &mount.kind else { continue };
        let mut options = Vec::from_iter((mount.access != Access::ReadWrite).then(|| "ro".to_owned()));
        options.extend(tmpfs.size.map(|size| format!("size={}", size.0)));
        options.extend(tmpfs.mode.map(|mode| format!("mode={mode:o}")));
        options.extend(tmpfs.options.iter().cloned());
        found.insert(mount.destination.clone(), json!(options.join(",")));
    }
    if found.is_empty() { Value::Null } else { Value::Object(found) }
}

fn from(from: &VolumesFrom) -> Value {
    let access = match from.access {
        None => "",
        Some(Access::ReadWrite) => ":rw",
        Some(_) => ":ro",
    };
    json!(format!("{}{access}", from.container))
}

fn weight(weight: &Weight) -> Value {
    json!({ "Path": weight.path, "Weight": weight.weight })
}

fn throttle(throttle: &Throttle) -> Value {
    json!({ "Path": throttle.path, "Rate": throttle.rate })
}
