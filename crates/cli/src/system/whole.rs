//! `system prune`, `system restart-all` and `system restart-unit`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::{Mended, Unused};
use clap::Args;

use crate::confirm::{Pruning, UNTIL, tell_freed, tell_removed};
use crate::failure::{Failure, chain};
use crate::home::Home;
use crate::image::name;
use crate::verbs::Operation;

/// Remove containers that do not run, and images without names
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Also images with names, if no container uses them
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pruning: Pruning,
    /// Also volumes without a name that no container uses
    #[arg(long)]
    volumes: bool,
}

impl Operation for Prune {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Prune { all, pruning, volumes } = self;
        // Nothing is removed for a filter that one of them cannot have.
        if volumes && pruning.has(UNTIL) {
            let failure = Failure::new(
                "the filter \"until\" is not supported with --volumes: volumes have no such time",
            );
            return Err(failure.hint("leave one of them out, or `bulkhead volume prune` by itself"));
        }
        let keys = &["label", "label!", UNTIL];
        let Some((filters, until)) = pruning.agreed_until(&warning(all, volumes), keys)? else {
            return Ok(ExitCode::SUCCESS);
        };
        let engine = home.engine()?;
        let containers = engine.prune_containers(&filters, until)?;
        tell_removed("Containers", &containers.names)?;
        tell_removed("Networks", &engine.prune_networks(&filters, until)?)?;
        let mut freed = containers.bytes;
        if volumes {
            let pruned = engine.prune_volumes(&filters, Unused::Anonymous)?;
            tell_removed("Volumes", &pruned.names)?;
            freed += pruned.bytes;
        }
        let (images, bytes) = name::prune(engine.store(), &filters, until, all)?;
        tell_removed("Images", &images)?;
        freed += bytes + engine.store().collect()?.freed;
        tell_freed(freed)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn warning(all: bool, volumes: bool) -> String {
    let mut lines = vec![
        "This removes:",
        "  - all containers that do not run",
        "  - all networks with which no container is connected",
    ];
    lines.extend(volumes.then_some("  - all volumes without a name that no container uses"));
    lines.push(if all { "  - all images that no container uses" } else { "  - all images without names" });
    lines.join("\n")
}

/// Start containers after a boot, as their restart policies have it
#[derive(Args, Debug)]
pub(crate) struct RestartAll {}

impl Operation for RestartAll {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let mut code = ExitCode::SUCCESS;
        for Mended { what, result } in home.engine()?.restart_all()? {
            match result {
                Ok(()) => writeln!(io::stdout(), "{what}")?,
                Err(error) => code = Failure::new(format!("{what}: {}", chain(&error))).report(),
            }
        }
        Ok(code)
    }
}

/// Print the unit of systemd that starts containers with the machine
#[derive(Args, Debug)]
pub(crate) struct RestartUnit {}

impl Operation for RestartUnit {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        io::stdout().write_all(home.engine()?.restart_unit()?.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
