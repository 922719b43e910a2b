//! `pull`, and the pull that comes before a container whose image is not here.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::name::similar_image;
use bulkhead_engine::store::{Name, Store};
use bulkhead_engine::transfer::registry::Platform;
use bulkhead_engine::transfer::{AT_ONCE, Pull, Pulled, Source, Step};
use clap::Args;

use super::Task;
use super::bars::Bars;
use crate::failure::{Failure, warn};
use crate::home::Home;
use crate::verbs::Operation;

/// Pull an image from a registry
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Pull the image of another platform, such as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Print the name alone
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// Whether people see how a pull goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Shown,
    Hidden,
}

impl Operation for Options {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Options { platform, quiet, image } = self;
        let platform = platform.map_or_else(|| Ok(Platform::host()), |text| text.parse())?;
        let store = super::store(home)?;
        let progress = if quiet { Progress::Hidden } else { Progress::Shown };
        let pull = Pull { wanted: image, platform, at_once: AT_ONCE };
        let pulled = fetched(&store, &pull, progress)?;
        if let Some(other) = &pulled.other_platform {
            warn(&format!("{} runs on {other}, and not on {}", pulled.name.familiar(), pull.platform));
        }
        let mut output = io::stdout().lock();
        if progress == Progress::Shown {
            output.write_all(summary(&pulled).as_bytes())?;
        }
        writeln!(output, "{}", pulled.name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Pulls the image of a new container. What is told of it goes to the standard error: the output is the container's.
///
/// # Errors
/// As [`Pull::run`], and an image that is not for the platform that was asked for.
pub(crate) fn for_container(
    store: &Store,
    wanted: &str,
    source: &Source,
    step: Step,
    progress: Progress,
) -> Result<(), Failure> {
    let is_missing = step == Step::PullMissing;
    if is_missing && progress == Progress::Shown {
        let name = Name::parse(wanted).map_or_else(|_| wanted.to_owned(), |name| name.familiar());
        eprintln!("Unable to find image '{name}' locally");
    }
    let platform = source.platform.clone().unwrap_or_else(Platform::host);
    let pull = Pull { wanted: wanted.to_owned(), platform, at_once: AT_ONCE };
    let pulled = fetched(store, &pull, progress).map_err(|failure| {
        // What is here under the very name is for another platform, or would not have been missing.
        let is_other = |near: &String| Name::parse(near).ok() != Name::parse(wanted).ok();
        match similar_image(store, wanted).filter(is_other).filter(|_| is_missing) {
            Some(near) => failure.hint(format!("did you mean {near}, which is here?")),
            None => failure,
        }
    })?;
    if progress == Progress::Shown {
        eprint!("{}", summary(&pulled));
    }
    match &pulled.other_platform {
        Some(other) if source.platform.is_some() => {
            let text = format!("{} is for {other}, and {} is wanted", pulled.name.familiar(), pull.platform);
            Err(Failure::new(text).hint("leave out --platform, or name an image that is for it"))
        }
        Some(other) => {
            warn(&format!("{} runs on {other}, and not on {}", pulled.name.familiar(), pull.platform));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Pulls, with a bar for each layer.
fn fetched(store: &Store, pull: &Pull, progress: Progress) -> Result<Pulled, Failure> {
    let bars = Bars::new(progress == Progress::Hidden, "is here");
    let pulled = super::client().map(|client| pull.run(store, &client, &|step| bars.show(step)));
    bars.clear();
    pulled?.map_err(|error| Task::Pull.failed(error))
}

/// Docker's last words about a pull.
fn summary(pulled: &Pulled) -> String {
    let Pulled { id: _, name, digest, existed, host: _, other_platform: _ } = pulled;
    let status = if *existed { "Image is up to date for" } else { "Downloaded newer image for" };
    format!("Digest: {digest}\nStatus: {status} {}\n", name.familiar())
}
