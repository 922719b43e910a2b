//! No annotations make their readers panic; what they name is absolute, and a property that they set arrives at
//! systemd as one.
//!
//! The input is names and values in turn, with a NUL between them.

use std::collections::BTreeMap;
use std::path::Path;

use bulkhead_cgroup::systemd::annotation::properties;
use bulkhead_cgroup::systemd::property::encode;
use bulkhead_cgroup::systemd::wire::{Order, Reader, Writer};
use bulkhead_runtime::plan::Plan;
use bulkhead_spec::Config;

/// A container in which every annotation has a meaning.
const CONFIG: &str = r#"{"ociVersion":"1.2.0","root":{"path":"r"},"process":{"args":["a"],"cwd":"/"},
    "linux":{"mountLabel":"a:b:c","namespaces":[{"type":"mount"},{"type":"user"}],
        "uidMappings":[{"containerID":0,"hostID":1000,"size":10}],
        "gidMappings":[{"containerID":0,"hostID":1000,"size":10}],
        "seccomp":{"defaultAction":"SCMP_ACT_ALLOW",
            "syscalls":[{"names":["bind","nonesuch"],"action":"SCMP_ACT_NOTIFY"}]}}}"#;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut words = text.split('\0').map(str::to_owned);
    let mut annotations = BTreeMap::new();
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        annotations.insert(key, value);
    }
    check_properties(&annotations);
    let Ok(mut config) = Config::from_json(CONFIG) else { panic!("{CONFIG} is a configuration") };
    config.annotations = annotations;
    match Plan::new(&config, Path::new("/bundle"), &|| Ok(super::maps())) {
        Ok(plan) => check(&plan),
        Err(error) => super::check_sentence(&error.to_string()),
    }
}

fn check(plan: &Plan) {
    plan.warnings.iter().for_each(|warning| super::check_sentence(warning));
    let listener = plan.seccomp.as_ref().and_then(|filter| filter.listener.as_ref());
    let overlay = plan.root.overlay.iter();
    let layers = overlay.flat_map(|overlay| overlay.lower.iter().chain(&overlay.upper).chain(&overlay.work));
    for path in layers.chain(&plan.pidfd_receiver).chain(listener) {
        assert!(path.is_absolute() && !path.as_os_str().as_encoded_bytes().contains(&0), "{path:?}");
    }
}

fn check_properties(annotations: &BTreeMap<String, String>) {
    let properties = match properties(annotations) {
        Ok(properties) => properties,
        Err(error) => return super::check_sentence(&error.to_string()),
    };
    let mut writer = Writer::default();
    encode(&properties, &mut writer);
    let bytes = writer.into_bytes();
    let mut reader = Reader::new(&bytes, Order::OWN);
    let Ok(length) = reader.u32() else { panic!("{bytes:x?} has no length") };
    assert!(bytes.len() - 4 - length as usize <= 4, "{length} of {} bytes", bytes.len());
    if let Some(first) = properties.first() {
        let name = reader.align(8).and_then(|()| reader.string());
        assert_eq!(name.ok(), Some(first.name.as_str()));
        assert!(!["PIDs", "Slice", "Delegate"].contains(&first.name.as_str()), "{first:?} is not theirs");
    }
}
