//! `push`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::store::{Name, Store};
use bulkhead_engine::transfer::{self, PushedImage, push};
use clap::Args;

use super::Task;
use super::bars::Bars;
use crate::failure::Failure;
use crate::home::Home;
use crate::image::not_had;
use crate::verbs::Operation;

/// Push an image to the registry that its name says
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Push all tags of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Print the name alone
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME")]
    image: String,
}

impl Operation for Options {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Options { all_tags, quiet, image } = self;
        let store = super::store(home)?;
        let wanted = if all_tags { tags(&store, &image)? } else { vec![image] };
        let client = super::client()?;
        for image in wanted {
            let bars = Bars::new(quiet, "is there");
            let pushed = push(&store, &client, &image, &|step| bars.show(step));
            bars.clear();
            let pushed = pushed.map_err(|error| match error {
                transfer::Error::Store(error) => not_had(&store, error),
                other => Task::Push.failed(other),
            });
            let PushedImage { name, digest, size } = pushed?;
            let mut output = io::stdout().lock();
            match name.tag().filter(|_| !quiet) {
                Some(tag) => writeln!(output, "{tag}: digest: {digest} size: {size}")?,
                None => writeln!(output, "{name}")?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// All names of a repository that have a tag.
fn tags(store: &Store, typed: &str) -> Result<Vec<String>, Failure> {
    let wanted = Name::parse(typed).map_err(|error| Failure::new(error.to_string()))?;
    if wanted.to_string()
        != Name::parse(&wanted.repository()).map_or_else(|_| String::new(), |name| name.to_string())
    {
        let failure = Failure::new(format!("{typed} has a tag or a digest, and all tags are wanted"));
        return Err(failure.hint(format!("bulkhead push --all-tags {}", wanted.familiar_repository())));
    }
    let images = store.images()?;
    let names = images.iter().flat_map(|image| &image.names);
    let same = names.filter(|name| name.repository() == wanted.repository() && name.digest().is_none());
    let found = Vec::from_iter(same.map(ToString::to_string));
    if found.is_empty() {
        return Err(Failure::new(format!(
            "no image has a name of the repository {}",
            wanted.familiar_repository()
        )));
    }
    Ok(found)
}
