//! `update`.

use std::process::ExitCode;

use bulkhead_engine::Update as Wanted;
use bulkhead_engine::request::{Resources, Restart};
use clap::Args;

use super::life::each;
use super::options::Limits;
use crate::failure::{Failure, NOT_STARTED};
use crate::home::Home;
use crate::verbs::Operation;

/// Change how much containers may use, and what follows their ends
#[derive(Args, Debug)]
pub(crate) struct Update {
    #[command(flatten)]
    limits: Limits,
    /// Start again: no, on-failure[:N], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<Restart>,
    /// The containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Operation for Update {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Update { limits, restart, containers } = self;
        let mut resources = Resources::default();
        limits.apply(&mut resources);
        let wanted = Wanted { resources, restart };
        if wanted == Wanted::default() {
            let failure = Failure::new("nothing is to be changed").code(NOT_STARTED);
            return Err(failure.hint("name a limit, such as --memory 512m, or --restart POLICY"));
        }
        let engine = home.engine()?;
        each(&containers, |name| {
            engine.update(name, &wanted)?;
            Ok(name.to_owned())
        })
    }
}
