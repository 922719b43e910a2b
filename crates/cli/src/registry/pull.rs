//! `pull`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::transfer::registry::Platform;
use bulkhead_engine::transfer::{AT_ONCE, Pull, Pulled};
use clap::Args;

use super::bars::Bars;
use crate::failure::Failure;
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

impl Operation for Options {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Options { platform, quiet, image } = self;
        let platform = platform.map_or_else(|| Ok(Platform::host()), |text| text.parse())?;
        let store = super::store(home)?;
        let bars = Bars::new(quiet, "is here");
        let pull = Pull { wanted: image, platform, at_once: AT_ONCE };
        let pulled = pull.run(&store, &super::client()?, &|step| bars.show(step));
        bars.clear();
        let Pulled { id: _, name, digest, existed, host: _, other_platform } = pulled?;
        if let Some(other) = other_platform {
            let wanted = &pull.platform;
            eprintln!("warning: {} runs on {other}, and not on {wanted}", name.familiar());
        }
        let mut output = io::stdout().lock();
        if !quiet {
            let status = if existed { "Image is up to date for" } else { "Downloaded newer image for" };
            writeln!(output, "Digest: {digest}\nStatus: {status} {}", name.familiar())?;
        }
        writeln!(output, "{name}")?;
        Ok(ExitCode::SUCCESS)
    }
}
