//! An image.

use bulkhead_engine::store::{Configuration, Image};
use serde_json::{Value, json};

/// What `image inspect` prints of it.
pub(crate) fn image(image: &Image, lower: &[std::path::PathBuf]) -> Value {
    let Configuration { created, author, architecture, variant, os, config, rootfs, history } =
        &image.configuration;
    let comment = history.last().and_then(|step| step.comment.clone()).unwrap_or_default();
    json!({
        "Id": image.id.to_string(),
        "RepoTags": image.tags(),
        "RepoDigests": image.digests(),
        "Parent": "",
        "Comment": comment,
        "Created": created.as_deref().unwrap_or(super::NEVER),
        "Author": author.as_deref().unwrap_or_default(),
        "Architecture": architecture,
        "Variant": variant.as_deref().unwrap_or_default(),
        "Os": os,
        "Size": image.size,
        "Config": {
            "User": config.user,
            "ExposedPorts": config.exposed_ports,
            "Env": config.env,
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "Volumes": config.volumes,
            "WorkingDir": config.working_dir,
            "Labels": config.labels,
            "StopSignal": config.stop_signal,
            "Healthcheck": config.healthcheck,
            "Shell": config.shell,
            "OnBuild": config.on_build,
        },
        "GraphDriver": { "Name": "overlay2", "Data": layers(lower) },
        "RootFS": { "Type": "layers", "Layers": rootfs.diff_ids },
        "Metadata": { "LastTagTime": super::moment(u64::try_from(image.added).ok()) },
        "Descriptor": { "digest": image.manifest.to_string() },
    })
}

/// The topmost, and those below it.
fn layers(lower: &[std::path::PathBuf]) -> Value {
    match lower {
        [] => Value::Null,
        [top] => json!({ "UpperDir": top }),
        [top, below @ ..] => json!({ "LowerDir": joined(below), "UpperDir": top }),
    }
}

/// Directories as overlayfs takes them, the topmost first.
pub(super) fn joined(directories: &[std::path::PathBuf]) -> String {
    Vec::from_iter(directories.iter().map(|directory| directory.display().to_string())).join(":")
}
