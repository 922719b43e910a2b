//! `stats`.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_engine::store::Kind;
use bulkhead_engine::{Container, Engine, Filters, Sample};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::home::Home;
use crate::output::listing::{Column, Format, Listing, Row};
use crate::output::quantity::{binary, decimal};
use crate::verbs::Operation;

/// Show what containers use
#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// Also those that do not run
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Look once
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Cut nothing off
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// The containers; without any those that run
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

const TITLES: &[Column] = &[
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];

const USUAL: &[&str] = &["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];

/// From one look to the next, as docker's.
const INTERVAL: Duration = Duration::from_secs(1);

/// Clears a screen and goes to its beginning.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

impl Operation for Stats {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let engine = home.engine()?;
        let format = Format::parse(self.format.as_deref().unwrap_or_default())?;
        let listing = Listing { titles: TITLES, usual: USUAL };
        let mut before = Vec::new();
        loop {
            let samples = self.look(&engine)?;
            // A rate is a difference of two looks.
            if !before.is_empty() || samples.is_empty() {
                let rows = samples.iter().map(|(container, sample)| {
                    let earlier =
                        before.iter().find(|(other, _): &&(Container, Sample)| other.id == container.id);
                    let earlier = earlier.map_or(sample, |(_, sample)| sample);
                    Row { fields: fields(container, earlier, sample, self.no_trunc), ..Row::default() }
                });
                let rows = Vec::from_iter(rows);
                if !self.no_stream && io::stdout().is_terminal() {
                    io::stdout().write_all(CLEAR.as_bytes())?;
                }
                listing.print(&format, &rows)?;
                if self.no_stream {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            before = samples;
            std::thread::sleep(INTERVAL);
        }
    }
}

impl Stats {
    fn look(&self, engine: &Engine) -> Result<Vec<(Container, Sample)>, Failure> {
        let mut containers = Vec::new();
        for name in &self.containers {
            containers.push(engine.container(name)?);
        }
        if self.containers.is_empty() {
            containers = engine.containers(&Filters::default())?;
            containers.retain(|container| self.all || container.state.is_active());
        }
        let mut samples = Vec::new();
        for container in containers {
            match engine.stats(&container.id) {
                Ok(sample) => samples.push((container, sample)),
                // It went meanwhile.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(samples)
    }
}

fn fields(container: &Container, before: &Sample, now: &Sample, whole: bool) -> Map<String, Value> {
    let id = if whole { container.id.as_str() } else { container.short_id() };
    let fields = json!({
        "Container": id,
        "ID": id,
        "Name": container.name,
        "CPUPerc": format!("{:.2}%", processors(before, now)),
        "MemUsage": format!("{} / {}", binary(now.memory), binary(now.memory_limit)),
        "MemPerc": format!("{:.2}%", share(now.memory, now.memory_limit)),
        "NetIO": format!("{} / {}", decimal(now.received), decimal(now.sent)),
        "BlockIO": format!("{} / {}", decimal(now.read), decimal(now.written)),
        "PIDs": now.tasks.to_string(),
    });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}

/// How much of one processor was used, in percent: 200 means two of them.
fn processors(before: &Sample, now: &Sample) -> f64 {
    let passed = now.time.saturating_sub(before.time);
    share(now.cpu.saturating_sub(before.cpu), passed)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences() {
        let sample = |time, cpu| Sample { time, cpu, ..Sample::default() };
        assert_eq!(processors(&sample(1_000, 100), &sample(2_000, 1_600)), 150.0);
        assert_eq!(processors(&sample(1_000, 100), &sample(1_000, 100)), 0.0);
    }
}
