//! The image: a Debian, cut into layers as one would be that was built in steps.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::tool;
use crate::{cache, debian, invoke};

/// What each layer has of the system.
const LAYERS: &[&str] = &[
    "etc",
    "usr/bin",
    "usr/sbin",
    "usr/share",
    "usr/lib/python3.11",
    "usr/lib/postgresql",
    "usr/lib/valgrind",
    "var/lib",
];

/// The image in a directory of the cache, as the OCI lays it out.
pub(super) struct Image {
    layout: PathBuf,
    pub(super) size: Size,
}

/// How big it is.
#[derive(Clone, Copy)]
pub(super) struct Size {
    /// Bytes of its layers as they are sent.
    pub(super) compressed: u64,
    pub(super) layers: usize,
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    size: u64,
}

/// Makes the image, unless it is there.
pub(super) fn ensure() -> Result<Image> {
    let root = debian::ensure()?;
    let umoci = tool("umoci")?;
    let recipe = format!("{LAYERS:?}\n");
    let layout = cache::made_by("bench-image", &recipe, |place| {
        println!("making an image of {}", root.display());
        let layout = place.join("layout");
        let named = format!("{}:1", layout.display());
        invoke::quietly(Command::new(&umoci).args(["init", "--layout"]).arg(&layout))?;
        invoke::quietly(Command::new(&umoci).args(["new", "--image", &named]))?;
        for part in LAYERS {
            let from = root.join(part);
            invoke::quietly(
                Command::new(&umoci).args(["insert", "--image", &named]).arg(from).arg(format!("/{part}")),
            )?;
        }
        Ok(())
    })?;
    let layout = layout.join("layout");
    let size = size(&layout)?;
    Ok(Image { layout, size })
}

impl Image {
    /// Gives it to a registry.
    pub(super) fn push(&self, reference: &str) -> Result<()> {
        let from = format!("oci:{}:1", self.layout.display());
        let mut skopeo = Command::new(tool("skopeo")?);
        skopeo
            .args(["--insecure-policy", "copy", "--dest-tls-verify=false"])
            .arg(from)
            .arg(format!("docker://{reference}"));
        invoke::quietly(&mut skopeo).context("push the image")
    }
}

fn size(layout: &Path) -> Result<Size> {
    let mut skopeo = Command::new(tool("skopeo")?);
    let text = invoke::text(skopeo.args(["inspect", "--raw"]).arg(format!("oci:{}:1", layout.display())))?;
    let manifest: Manifest = serde_json::from_str(&text).context("read the image's manifest")?;
    let compressed = manifest.layers.iter().map(|layer| layer.size).sum();
    Ok(Size { compressed, layers: manifest.layers.len() })
}
