//! `system df`.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use bulkhead_engine::Usage;
use bulkhead_engine::store::{ImageUsage, VolumeUsage};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::container::list;
use crate::failure::Failure;
use crate::home::Home;
use crate::image::list as images;
use crate::output::escape;
use crate::output::listing::{Column, Format, Listing, Row};
use crate::output::quantity::{decimal, now};
use crate::template::{Labels, Subject};
use crate::verbs::Operation;

/// Show how much room images, containers and volumes take
#[derive(Args, Debug)]
pub(crate) struct Df {
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show each of them
    #[arg(short, long)]
    verbose: bool,
}

const TITLES: &[Column] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

const USUAL: &[&str] = &["Type", "TotalCount", "Active", "Size", "Reclaimable"];

const IMAGES: Listing<'_> = Listing {
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
    usual: &["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"],
};

const CONTAINERS: Listing<'_> = Listing {
    titles: &[
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ],
    usual: &["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"],
};

const VOLUMES: Listing<'_> = Listing {
    titles: &[("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")],
    usual: &["Name", "Links", "Size"],
};

impl Operation for Df {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Df { format, verbose } = self;
        let format = Format::parse(format.as_deref().unwrap_or_default())?;
        let usage = home.engine()?.usage()?;
        if verbose {
            details(&format, &usage)?;
        } else {
            let rows = summary(&usage).map(|fields| Row { fields, labels: Map::new() });
            Listing { titles: TITLES, usual: USUAL }.print(&format, &rows)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Docker's four rows. There is no build cache, as its row says.
fn summary(usage: &Usage) -> [Map<String, Value>; 4] {
    let Usage { images, layers, reclaimable, containers, volumes } = usage;
    let used = images.iter().filter(|image| image.containers > 0).count();
    let active = containers.iter().filter(|(container, _)| container.state.is_active()).count();
    let sum = |idle: bool| -> u64 {
        let counted = containers.iter().filter(|(container, _)| !(idle && container.state.is_active()));
        counted.map(|(_, size)| size).sum()
    };
    let linked = volumes.iter().filter(|volume| volume.containers > 0).count();
    let room = |idle: bool| -> u64 {
        let counted = volumes.iter().filter(|volume| !(idle && volume.containers > 0));
        counted.map(|volume| volume.size).sum()
    };
    [
        row("Images", images.len(), used, *layers, *reclaimable),
        row("Containers", containers.len(), active, sum(false), sum(true)),
        row("Local Volumes", volumes.len(), linked, room(false), room(true)),
        row("Build Cache", 0, 0, 0, 0),
    ]
}

fn row(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Map<String, Value> {
    let share = match size {
        0 => String::new(),
        size => format!(" ({}%)", u128::from(reclaimable) * 100 / u128::from(size)),
    };
    let fields = json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": decimal(size),
        "Reclaimable": format!("{}{share}", decimal(reclaimable)),
    });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}

/// Each image, container and volume: docker's tables, or one document.
fn details(format: &Format, usage: &Usage) -> Result<(), Failure> {
    let parts = [
        ("Images", &IMAGES, Vec::from_iter(usage.images.iter().flat_map(image))),
        ("Containers", &CONTAINERS, containers(usage)),
        ("Local Volumes", &VOLUMES, Vec::from_iter(usage.volumes.iter().map(volume))),
    ];
    if let Format::Table = format {
        for (number, (title, listing, rows)) in parts.into_iter().enumerate() {
            let gap = if number > 0 { "\n" } else { "" };
            write!(io::stdout(), "{gap}{title} space usage:\n\n")?;
            listing.print(format, &rows)?;
        }
        write!(io::stdout(), "\nBuild cache usage: 0B\n")?;
        return Ok(());
    }
    let mut document = Map::from_iter([("BuildCache".to_owned(), json!([]))]);
    for (title, _, rows) in parts {
        let name = title.rsplit(' ').next().unwrap_or(title);
        document.insert(name.to_owned(), rows.into_iter().map(|row| Value::Object(row.fields)).collect());
    }
    let document = Value::Object(document);
    let text = match format {
        Format::Template(template) => {
            let text = template.render(Subject { value: &document, labels: Labels::None })?;
            if io::stdout().is_terminal() { escape::lines(&text) } else { text }
        }
        Format::Columns(_) => {
            return Err(Failure::new("--format table TEMPLATE has one table, and --verbose has three")
                .hint("leave --verbose or --format out, or give a template of the whole: {{json .Images}}"));
        }
        Format::Json | Format::Table => escape::json(&document.to_string()),
    };
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// The rows of an image, one for each of its names, as `images` has them.
fn image(usage: &ImageUsage) -> Vec<Row> {
    let ImageUsage { image, unique, shared, containers } = usage;
    let mut rows = images::rows(image, now());
    for row in &mut rows {
        row.fields.insert("SharedSize".to_owned(), json!(decimal(*shared)));
        row.fields.insert("UniqueSize".to_owned(), json!(decimal(*unique)));
        row.fields.insert("Containers".to_owned(), json!(containers.to_string()));
    }
    rows
}

fn containers(usage: &Usage) -> Vec<Row> {
    let now = now();
    let row = |(container, size): &(_, u64)| {
        let mut row = list::row(container, now);
        row.fields.insert("Size".to_owned(), json!(decimal(*size)));
        row
    };
    usage.containers.iter().map(row).collect()
}

fn volume(usage: &VolumeUsage) -> Row {
    let VolumeUsage { name, size, containers } = usage;
    let fields = json!({ "Name": name, "Links": containers.to_string(), "Size": decimal(*size) });
    let Value::Object(fields) = fields else { return Row::default() };
    Row { fields, labels: Map::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_reclaimed_is_told_with_its_share() {
        let told = |size, reclaimable| row("Images", 2, 1, size, reclaimable)["Reclaimable"].clone();
        assert_eq!(told(0, 0), "0B");
        assert_eq!(told(2_000_000, 1_500_000), "1.5MB (75%)");
        assert_eq!(told(u64::MAX, u64::MAX), "18.4EB (100%)");
    }
}
