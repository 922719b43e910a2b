//! `tag`, `rmi` and `image prune`.

use std::process::ExitCode;

use bulkhead_engine::Filters;
use bulkhead_engine::store::{Force, Kind, Name, Removed, Store};
use clap::Args;

use crate::confirm::{Pruning, UNTIL, tell_freed, tell_removed};
use crate::container::life::each_that_is;
use crate::failure::{Failure, chain, warn};
use crate::home::Home;
use crate::image::list::created;
use crate::image::not_had;
use crate::verbs::Operation;

/// Give an image another name
#[derive(Args, Debug)]
pub(crate) struct Tag {
    /// The image
    image: String,
    /// The name
    name: String,
}

impl Operation for Tag {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let engine = home.engine()?;
        let name = Name::parse(&self.name).map_err(|error| Failure::new(error.to_string()))?;
        if name.digest().is_some() {
            let sentence = format!("{name} has a digest, which is what a registry has; give a tag");
            return Err(Failure::new(sentence));
        }
        let store = engine.store();
        let image = store.image(&self.image).map_err(|error| not_had(store, error))?;
        store.tag(&image.id, &name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Remove images, or names of images
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Remove all names, also where a container uses the image
    #[arg(short, long)]
    force: bool,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Operation for Remove {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let force = if self.force { Force::Yes } else { Force::No };
        let engine = home.engine()?;
        // What is as good as gone uses nothing.
        engine.finish_removals()?;
        let store = engine.store();
        each_that_is(&self.images, |name| match store.remove_image(name, force) {
            Ok(removed) => Ok(Some(told(&removed))),
            // As docker's: what is not there need not be removed.
            Err(error) if self.force && error.kind() == Kind::NotFound => {
                warn(&chain(&error));
                Ok(None)
            }
            Err(error) => Err(not_had(store, error)),
        })
    }
}

/// What was removed, in docker's lines.
fn told(removed: &Removed) -> String {
    let mut lines =
        Vec::from_iter(removed.untagged.iter().map(|name| format!("Untagged: {}", name.familiar())));
    lines.extend(removed.is_deleted.then(|| format!("Deleted: {}", removed.id)));
    lines.extend(removed.collected.layers.iter().map(|layer| format!("Deleted: {layer}")));
    lines.join("\n")
}

/// Remove images without names
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Also those with names, if no container uses them
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pruning: Pruning,
}

impl Operation for Prune {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Prune { all, pruning } = self;
        let what = if all { "all images that no container uses" } else { "all images without names" };
        let warning = format!("This removes {what}.");
        let Some((filters, until)) = pruning.agreed_until(&warning, &["label", "label!", UNTIL])? else {
            return Ok(ExitCode::SUCCESS);
        };
        let engine = home.engine()?;
        let (lines, freed) = prune(engine.store(), &filters, until, all)?;
        tell_removed("Images", &lines)?;
        tell_freed(freed)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Removes images that nobody uses and, if there is a moment, that were made before it; tells of each, and how much was freed.
pub(crate) fn prune(
    store: &Store,
    filters: &Filters,
    until: Option<u64>,
    all: bool,
) -> Result<(Vec<String>, u64), Failure> {
    let mut lines = Vec::new();
    let mut freed = 0;
    for image in store.images()? {
        let is_meant = until.is_none_or(|until| created(&image) < until)
            && (all || image.tags().is_empty())
            && filters.fits_labels(&image.configuration.config.labels);
        if !is_meant || !store.containers_of_image(&image.id)?.is_empty() {
            continue;
        }
        // Without force, so that the last name stays for a container that is made at this moment.
        let mut wanted = image.tags();
        if wanted.is_empty() {
            wanted.push(image.id.to_string());
        }
        for wanted in wanted {
            match store.remove_image(&wanted, Force::No) {
                Ok(removed) => {
                    lines.push(told(&removed));
                    freed += removed.collected.freed;
                }
                // Removed, or used, meanwhile.
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok((lines, freed))
}
