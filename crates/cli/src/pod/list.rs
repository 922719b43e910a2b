//! `pod ps`.

use std::process::ExitCode;

use bulkhead_engine::{Filters, POD_FILTERS, Pod};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::home::Home;
use crate::output::listing::{Column, Listing, Row, joined, listed};
use crate::output::quantity::{ago, local, now};
use crate::verbs::Operation;

/// List pods
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Only those that fit, such as status=running or name=web
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// Print ids alone
    #[arg(short, long)]
    quiet: bool,
}

const TITLES: &[Column] = &[
    ("ID", "POD ID"),
    ("Name", "NAME"),
    ("Status", "STATUS"),
    ("Created", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("NumberOfContainers", "# OF CONTAINERS"),
    ("ContainerIds", "IDS"),
    ("ContainerNames", "NAMES"),
    ("ContainerStatuses", "STATUS"),
    ("Cgroup", "CGROUP"),
    ("Share", "SHARE"),
    ("Networks", "NETWORKS"),
    ("Labels", "LABELS"),
];

const USUAL: &[&str] = &["ID", "Name", "Status", "Created", "NumberOfContainers"];

impl Operation for List {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let List { filter, format, no_trunc, quiet } = self;
        let pods = home.engine()?.pods(&Filters::parse(&filter, &POD_FILTERS)?)?;
        let id = |pod: &Pod| if no_trunc { pod.id.clone() } else { pod.short_id().to_owned() };
        if quiet {
            return listed(pods.iter().map(id));
        }
        let now = now();
        let rows = pods.iter().map(|pod| Row::new(fields(pod, &id(pod), now), pod.labels()));
        Listing { titles: TITLES, usual: USUAL }.show(format.as_deref(), rows)
    }
}

fn fields(pod: &Pod, id: &str, now: u64) -> Map<String, Value> {
    let of_all = |field: &dyn Fn(&bulkhead_engine::pod::Member) -> String| {
        Vec::from_iter(pod.containers.iter().map(field)).join(",")
    };
    let fields = json!({
        "ID": id,
        "Name": pod.name,
        "Status": pod.state.to_string(),
        "Created": ago(pod.created, now),
        "CreatedAt": local(pod.created),
        "NumberOfContainers": pod.containers.len().to_string(),
        "ContainerIds": of_all(&|member| member.id.chars().take(12).collect()),
        "ContainerNames": of_all(&|member| member.name.clone()),
        "ContainerStatuses": of_all(&|member| member.state.to_string()),
        "Cgroup": pod.cgroup.clone().unwrap_or_default(),
        "Share": pod.request.share.to_string(),
        "Networks": pod.network(),
        "Labels": joined(pod.labels()),
    });
    let Value::Object(fields) = fields else { return Map::new() };
    fields
}
