//! No value of a flag makes its reader panic; what is read is written and read the same, and keeps what its type promises.

use std::fmt::Display;
use std::str::FromStr;

use bulkhead_engine::configure::{ImageFiles, cdi, identity};
use bulkhead_engine::request::{
    Capability, CdiName, Cpus, Device, DeviceRule, Gpus, HealthCommand, HostEntry, IdMap, Ipc, Limit, Log,
    Mount, MountKind, Nanoseconds, Network, Request, Restart, RootDirectory, Secret, SecurityOption, Signal,
    Size, Throttle, Ulimit, UserNamespace, UserSpec, Variable, VolumesFrom, Weight, label_file,
    variable_file,
};

/// Runs the target; the input is the value.
pub fn run(input: &[u8]) {
    let user = UserSpec { user: "a".to_owned(), group: None };
    if let Ok(identity) = identity::resolve(ImageFiles { passwd: input, group: input }, &user, &[]) {
        assert!(identity.uid != u32::MAX && identity.home.starts_with('/'), "{identity:?}");
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    again::<Size>(text);
    again::<Nanoseconds>(text);
    again::<Signal>(text);
    again::<Restart>(text);
    again::<Ulimit>(text);
    again::<UserSpec>(text);
    again::<Capability>(text);
    again::<CdiName>(text);
    if let Ok(Size(bytes)) = text.parse() {
        assert!(i64::try_from(bytes).is_ok(), "{text:?} is {bytes} bytes");
    }
    if let Ok(limit) = text.parse::<Ulimit>() {
        assert!(limit.soft <= limit.hard, "{limit:?}");
    }
    if let Ok(IdMap(map)) = text.parse() {
        assert!(map.size > 0 && map.container_id.checked_add(map.size).is_some(), "{map:?}");
    }
    if let Ok(secret) = text.parse::<Secret>() {
        is_place(&secret.target);
    }
    for mount in
        [Mount::from_volume(text), Mount::from_mount(text), Mount::from_tmpfs(text)].into_iter().flatten()
    {
        is_place(&mount.destination);
        if let MountKind::Volume(volume) = &mount.kind {
            let named = volume.name.as_ref().is_none_or(|name| !name.contains('/') && !name.starts_with('.'));
            let inside = volume.subpath.as_ref().is_none_or(|path| path.split('/').all(|part| part != ".."));
            assert!(named && inside, "{volume:?}");
        }
        let json = serde_json::to_string(&mount).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Mount>(&json).ok(), Some(mount), "{json}");
    }
    if let Ok(Device::Node(node)) = text.parse() {
        assert!(node.host.is_absolute() && node.container.starts_with('/'), "{node:?}");
    }
    without_promises(text);
}

/// What is read is written and read the same.
fn again<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let written = read.to_string();
        assert_eq!(written.parse().ok(), Some(read), "{text:?} is written {written:?}");
    }
}

/// A place in a container is absolute and normal, and not its root.
fn is_place(path: &str) {
    let normal = path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    assert!(path.starts_with('/') && path.len() > 1 && normal && !path.contains('\0'), "{path:?}");
}

/// Readers whose types promise nothing more.
fn without_promises(text: &str) {
    let _ = (
        text.parse::<Cpus>(),
        text.parse::<DeviceRule>(),
        text.parse::<Gpus>(),
        text.parse::<HealthCommand>(),
    );
    let _ = (text.parse::<HostEntry>(), text.parse::<Ipc>(), text.parse::<Log>(), text.parse::<Network>());
    let _ = (text.parse::<RootDirectory>(), text.parse::<SecurityOption>(), text.parse::<UserNamespace>());
    let _ = (text.parse::<Variable>(), text.parse::<VolumesFrom>(), text.parse::<Weight>());
    let _ = (Limit::of_bytes(text), Limit::of_tasks(text), Limit::of_seconds(text));
    let _ = (Throttle::of_bytes(text), Throttle::of_operations(text), variable_file(text), label_file(text));
    let mut request = Request::default();
    request.devices.cdi.extend("vendor.com/class=a".parse::<CdiName>());
    let file = cdi::File { path: "/etc/cdi/a.json".into(), text: text.to_owned() };
    let _ = cdi::nodes(&request, &[file]);
}
