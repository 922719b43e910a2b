//! An image of a root file system in an archive.

use std::io::Read;

use bulkhead_registry::Platform;
use bulkhead_store::{Configuration, Defaults, Digest, Expected, History, Name, Origin, RootFs};

use crate::change::{self, Change};
use crate::commit::keep;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// How an archive becomes an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Where the archive comes from, as it was typed.
    pub source: String,
    /// The image's name; without one it has none.
    pub name: Option<Name>,
    /// What is said of it; without it where it comes from.
    pub message: Option<String>,
    /// What its configuration says.
    pub changes: Vec<Change>,
    /// What it runs on.
    pub platform: Platform,
}

impl Engine {
    /// Makes an image of an archive, plain or compressed, whose layer it is, and returns its id.
    ///
    /// # Errors
    /// A change that cannot be, another system than Linux; as [`Lease::layer`](bulkhead_store::Lease::layer).
    pub fn import(&self, import: &Import, archive: &mut dyn Read) -> Result<Digest> {
        let Import { source, name, message, changes, platform } = import;
        let mut config = Defaults::default();
        change::apply(changes, &mut config)?;
        if platform.os != "linux" {
            let what = format!("platform {platform}");
            return Err(Error::Invalid { what, reason: "images here are for linux".to_owned() });
        }
        let lease = self.store.lease(&format!("import {source}"))?;
        let expected = Expected { subject: format!("archive {source}"), ..Expected::default() };
        let layer = lease.layer(&expected, archive)?;
        let created = jiff::Timestamp::now().to_string();
        let comment = message.clone().unwrap_or_else(|| format!("Imported from {source}"));
        let configuration = Configuration {
            created: Some(created.clone()),
            author: None,
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            os: platform.os.clone(),
            config,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.diff_id] },
            history: vec![History { created: Some(created), comment: Some(comment), ..History::default() }],
        };
        keep(&lease, &configuration, &[layer], name.clone(), Origin::Files)
    }
}
