//! Verbs of volumes.

use std::io::{self, Write as _};
use std::process::ExitCode;

use bulkhead_engine::request::KeyValue;
use bulkhead_engine::{Filters, Force, Unused, VOLUME_FILTERS, Volume, VolumeRequest};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::confirm::{Pruning, tell_freed, tell_removed};
use crate::container::life::each;
use crate::failure::Failure;
use crate::home::Home;
use crate::output::listing::{Column, Listing, Row, joined, listed};
use crate::verbs::Operation;

/// Create a volume
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The driver, of which there is one
    #[arg(short, long, value_name = "DRIVER", default_value = "local", hide_possible_values = true, value_parser = ["local"])]
    driver: String,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<KeyValue>,
    /// Set an option of the driver
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<KeyValue>,
    /// Its name; without one it gets 64 digits
    name: Option<String>,
}

impl Operation for Create {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Create { driver: _, label, opt, name } = self;
        let pairs =
            |list: Vec<KeyValue>| list.into_iter().map(|KeyValue { key, value }| (key, value)).collect();
        let request = VolumeRequest { name, labels: pairs(label), options: pairs(opt) };
        let volume = home.engine()?.create_volume(&request)?;
        writeln!(io::stdout(), "{}", volume.name)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// List volumes
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those that fit, such as dangling=true
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print names alone
    #[arg(short, long)]
    quiet: bool,
}

const TITLES: &[Column] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

impl Operation for List {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let List { filter, format, quiet } = self;
        let mut volumes = home.engine()?.volumes(&Filters::parse(&filter, &VOLUME_FILTERS)?)?;
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        if quiet {
            return listed(volumes.iter().map(|volume| &volume.name));
        }
        let rows = volumes.iter().map(|volume| Row::new(fields(volume), &volume.labels));
        Listing { titles: TITLES, usual: &["Driver", "Name"] }.show(format.as_deref(), rows)
    }
}

fn fields(volume: &Volume) -> Map<String, Value> {
    let fields = json!({
        "Driver": "local",
        "Name": volume.name,
        "Scope": "local",
        "Mountpoint": volume.mountpoint,
        "Labels": joined(&volume.labels),
        "Links": volume.used_by.len().to_string(),
        "Size": "N/A",
        // Docker's words where there is no cluster.
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}

/// Remove volumes
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Take one that is not there for removed
    #[arg(short, long)]
    force: bool,
    /// The volumes
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

impl Operation for Remove {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Remove { force, volumes } = self;
        let force = if force { Force::Yes } else { Force::No };
        let engine = home.engine()?;
        // What is as good as gone uses nothing.
        engine.finish_removals()?;
        each(&volumes, |name| {
            engine.remove_volume(name, force)?;
            Ok(name.to_owned())
        })
    }
}

/// Remove volumes that no container uses
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Also those with a name
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    pruning: Pruning,
}

impl Operation for Prune {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Prune { all, pruning } = self;
        let what = if all { "all volumes" } else { "all volumes without a name" };
        let warning = format!("This removes {what} that no container uses.");
        let Some(filters) = pruning.agreed(&warning, &VOLUME_FILTERS)? else { return Ok(ExitCode::SUCCESS) };
        let pruned =
            home.engine()?.prune_volumes(&filters, if all { Unused::Any } else { Unused::Anonymous })?;
        tell_removed("Volumes", &pruned.names)?;
        tell_freed(pruned.bytes)?;
        Ok(ExitCode::SUCCESS)
    }
}
