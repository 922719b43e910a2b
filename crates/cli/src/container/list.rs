//! `ps`.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use bulkhead_engine::request::Network;
use bulkhead_engine::store::{Digest, Store};
use bulkhead_engine::{CONTAINER_FILTERS, Container, Engine, Filters, Kind, MountKind, State};
use clap::Args;
use serde_json::{Map, Value, json};

use super::port;
use crate::document;
use crate::failure::Failure;
use crate::home::Home;
use crate::output::listing::{Column, Format, Listing, Row};
use crate::output::quantity::{ago, decimal, local, now, span};
use crate::verbs::Operation;

/// List containers
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Only those that fit, such as status=exited or name=web
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only the N created last, in whatever state
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        default_value = "-1",
        allow_negative_numbers = true,
        hide_default_value = true
    )]
    last: i64,
    /// Only the one created last
    #[arg(short, long)]
    latest: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Tell of their pods
    #[arg(short, long)]
    pod: bool,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Tell how much each has written, and how much that is with its image
    #[arg(short, long)]
    size: bool,
}

const TITLES: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("RunningFor", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
    ("Pod", "POD ID"),
    ("PodName", "PODNAME"),
];

const USUAL: &[&str] = &["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];

impl Operation for List {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let List { all, filter, format, last, latest, no_trunc, pod, quiet, size } = self;
        let engine = home.engine()?;
        let filters = Filters::parse(&filter, &CONTAINER_FILTERS)?;
        // As docker, for which no number is no limit, and any number goes before --latest.
        let last =
            if latest && last == -1 { Some(1) } else { usize::try_from(last).ok().filter(|last| *last > 0) };
        let asks_for_states = ["status", "exited"].iter().any(|key| filters.values(key).next().is_some());
        let mut containers = engine.containers(&filters)?;
        if !all && last.is_none() && !asks_for_states {
            containers.retain(|container| container.state.is_active());
        }
        containers.truncate(last.unwrap_or(usize::MAX));
        if quiet {
            let mut output = io::stdout().lock();
            for container in &containers {
                writeln!(output, "{}", if no_trunc { &container.id } else { container.short_id() })?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let now = now();
        let pods = engine.store().pods()?;
        let mut rows = Vec::new();
        let mut names = ImageNames::default();
        // As docker, which counts when a template asks for it, too.
        let is_size_wanted = size || format.as_deref().is_some_and(|format| format.contains(".Size"));
        for container in &containers {
            let size = if is_size_wanted { written(&engine, container)? } else { Some(decimal(0)) };
            // One that is being removed is gone.
            let Some(size) = size else { continue };
            let mut row = row_of(container, if no_trunc { Cut::No } else { Cut::Yes }, now);
            if let Some(id) = names.moved(engine.store(), container)? {
                row.fields
                    .insert("Image".to_owned(), json!(if no_trunc { id.to_string() } else { id.short() }));
            }
            row.fields.insert("Size".to_owned(), json!(size));
            row.fields.insert("Ports".to_owned(), json!(ports(&engine, container)?));
            let of_pod = pods.iter().find(|pod| container.pod.as_deref() == Some(&pod.id));
            let id =
                of_pod.map_or("", |pod| if no_trunc { &pod.id } else { &pod.id[..12.min(pod.id.len())] });
            row.fields.insert("Pod".to_owned(), json!(id));
            row.fields.insert("PodName".to_owned(), json!(of_pod.map_or("", |pod| pod.name.as_str())));
            rows.push(row);
        }
        let format = Format::parse(format.as_deref().unwrap_or_default())?;
        let mut usual = Vec::from(USUAL);
        usual.extend(pod.then_some(["Pod", "PodName"]).into_iter().flatten());
        usual.extend(size.then_some("Size"));
        Listing { titles: TITLES, usual: &usual }.print(&format, &rows)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// By which ports a container is reached that runs, and at which its programs listen.
fn ports(engine: &Engine, container: &Container) -> Result<String, Failure> {
    if !container.state.is_active() {
        return Ok(String::new());
    }
    let exposed = container.request.publishing.exposed.iter().flat_map(|ports| ports.each());
    Ok(port::line(&engine.ports_of(container)?, &Vec::from_iter(exposed)))
}

/// Which images are called as containers have it, each looked up once.
#[derive(Debug, Default)]
struct ImageNames {
    found: BTreeMap<String, Option<Digest>>,
}

impl ImageNames {
    /// Returns the id of a container's image if what the container was made of is called otherwise by now, or nothing is.
    fn moved(&mut self, store: &Store, container: &Container) -> Result<Option<Digest>, Failure> {
        let Some(id) = container.image_id else { return Ok(None) };
        let found = match self.found.get(&container.image) {
            Some(found) => *found,
            None => {
                let found = match store.image_id(&container.image) {
                    Ok(id) => Some(id),
                    Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Ambiguous) => None,
                    Err(error) => return Err(error.into()),
                };
                self.found.insert(container.image.clone(), found);
                found
            }
        };
        Ok((found != Some(id)).then_some(id))
    }
}

/// A container as a row of a table.
pub(crate) fn row(container: &Container, now: u64) -> Row {
    row_of(container, Cut::Yes, now)
}

fn row_of(container: &Container, cut: Cut, now: u64) -> Row {
    Row {
        fields: fields(container, cut, now),
        labels: container.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect(),
    }
}

/// How much a container has written, and how much that is with its image; nothing of one that is gone meanwhile.
fn written(engine: &Engine, container: &Container) -> Result<Option<String>, Failure> {
    match engine.size(&container.id) {
        Ok(size) if size.whole == 0 => Ok(Some(decimal(size.writable))),
        Ok(size) => Ok(Some(format!("{} (virtual {})", decimal(size.writable), decimal(size.whole)))),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether long values are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Yes,
    No,
}

fn fields(container: &Container, cut: Cut, now: u64) -> Map<String, Value> {
    let command = container.command.join(" ");
    let command = if cut == Cut::Yes { shortened(&command, 20) } else { command };
    let labels =
        Vec::from_iter(container.labels.iter().map(|(key, value)| format!("{key}={value}"))).join(",");
    let mounts = container.mounts.iter().filter(|mount| mount.kind != MountKind::Tmpfs).map(|mount| {
        let source = mount.source.as_deref().map(|source| source.display().to_string()).unwrap_or_default();
        let name = mount.name.clone().unwrap_or(source);
        if cut == Cut::Yes { shortened(&name, 15) } else { name }
    });
    let volumes = container.mounts.iter().filter(|mount| mount.kind == MountKind::Volume).count();
    let fields = json!({
        "ID": if cut == Cut::Yes { container.short_id() } else { &container.id },
        "Image": container.image,
        "Command": format!("{command:?}"),
        "RunningFor": ago(container.created, now),
        "CreatedAt": local(container.created),
        "Status": status(container, now),
        "State": container.state.to_string(),
        "Ports": "",
        "Names": container.name,
        "Labels": labels,
        "Mounts": Vec::from_iter(mounts).join(","),
        "LocalVolumes": volumes.to_string(),
        "Networks": networks(&container.request.namespaces.network),
        "Platform": "linux",
    });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}

/// The names of a container's networks.
fn networks(network: &Network) -> String {
    match network {
        Network::Networks(several) => Vec::from_iter(several.iter().map(|of| of.network.as_str())).join(","),
        network => document::network(network),
    }
}

/// At most so many characters, the last of which says that something is missing.
fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length - 1).chain(['…']).collect()
}

/// What a container does, and since when, in docker's words.
pub(crate) fn status(container: &Container, now: u64) -> String {
    let since = |moment: Option<u64>| now.saturating_sub(moment.unwrap_or(container.created));
    let up = || format!("Up {}", span(Duration::from_nanos(since(container.started))));
    let ended = || {
        let code = container.exit_code.unwrap_or(0);
        format!("({code}) {}", ago(container.finished.unwrap_or(container.created), now))
    };
    match (container.state, &container.health, &container.error) {
        (State::Created | State::Starting, ..) => "Created".to_owned(),
        (State::Running, Some(health), _) => match document::verdict(health.state) {
            "starting" => format!("{} (health: starting)", up()),
            verdict => format!("{} ({verdict})", up()),
        },
        (State::Running, None, _) => up(),
        (State::Paused, ..) => format!("{} (Paused)", up()),
        (State::Restarting, ..) => format!("Restarting {}", ended()),
        // Nobody saw when it ended: what is known is the end of another start, or when it was noticed.
        (State::Exited, _, Some(error)) if container.lost => format!("Exited (255) ({error})"),
        (State::Exited, ..) => format!("Exited {}", ended()),
        (State::Removing, ..) => "Removal In Progress".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut() {
        assert_eq!(shortened("sleep 1", 20), "sleep 1");
        assert_eq!(shortened("sh -c 'echo hello; sleep 10'", 20), "sh -c 'echo hello; …");
    }
}
