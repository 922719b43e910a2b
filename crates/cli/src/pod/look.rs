//! Verbs that look at pods.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Mutex;

use bulkhead_engine::pod::Member;
use bulkhead_engine::{Entry, Filters, Follow, Logs, Pod, Stream};
use clap::Args;

use crate::container::look::{Before, LogRange, print};
use crate::container::stats::Stats;
use crate::document;
use crate::failure::Failure;
use crate::home::Home;
use crate::inspect;
use crate::output::{escape, table};
use crate::verbs::Operation;

/// Tell everything about pods
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Print as json, or by a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The pods
    #[arg(required = true, value_name = "POD")]
    names: Vec<String>,
}

impl Operation for Inspect {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Inspect { format, names } = self;
        let engine = home.engine()?;
        inspect::show(&names, format.as_deref(), |name| Ok(document::pod(&engine.pod(name)?)))
    }
}

/// Print what the containers of a pod said
#[derive(Args, Debug)]
pub(crate) struct LogOptions {
    #[command(flatten)]
    range: LogRange,
    /// Only this container
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<String>,
    /// Begin each line with the container's name instead of its id
    #[arg(long)]
    names: bool,
    /// The pod
    pod: String,
}

/// A line, and which container said it.
struct Line {
    prefix: String,
    time: u64,
    stream: Stream,
    text: String,
}

impl Line {
    fn print(&self, timestamps: bool) -> io::Result<()> {
        let text = format!("{}{}", self.prefix, self.text).into();
        let entry = Entry { time: self.time, stream: self.stream, text, attributes: BTreeMap::new() };
        print(&entry, Before { time: timestamps, details: false })
    }
}

impl Operation for LogOptions {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let LogOptions { range, container, names, pod } = self;
        let (logs, timestamps) = range.logs()?;
        let engine = home.engine()?;
        let pod = engine.pod(&pod)?;
        let members = members(&pod, container.as_deref())?;
        let prefix = |member: &Member| match members.len() {
            1 => String::new(),
            _ if names => format!("{} ", member.name),
            _ => format!("{} ", member.id.get(..12).unwrap_or(&member.id)),
        };
        if logs.follow == Follow::UntilEnd {
            return follow(home, &members, &logs, timestamps, &prefix);
        }
        let mut lines = Vec::new();
        for member in &members {
            engine.logs(&member.id, &logs, &mut |entry| {
                lines.push(line(prefix(member), entry));
                ControlFlow::Continue(())
            })?;
        }
        lines.sort_by_key(|line| line.time);
        lines.iter().try_for_each(|line| line.print(timestamps))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn members<'a>(pod: &'a Pod, wanted: Option<&str>) -> Result<Vec<&'a Member>, Failure> {
    let Some(wanted) = wanted else { return Ok(pod.containers.iter().collect()) };
    let is_it = |member: &&Member| member.name == wanted || member.id.starts_with(wanted);
    let found = pod.containers.iter().find(is_it);
    let missing = || Failure::new(format!("pod {} has no container {wanted}", pod.name));
    Ok(vec![found.ok_or_else(missing)?])
}

fn line(prefix: String, entry: &Entry<'_>) -> Line {
    Line { prefix, time: entry.time, stream: entry.stream, text: entry.text.clone().into_owned() }
}

/// Prints what all of them say as they say it, until the last has ended.
fn follow(
    home: &Home,
    members: &[&Member],
    logs: &Logs,
    timestamps: bool,
    prefix: &(dyn Fn(&Member) -> String + Sync),
) -> Result<ExitCode, Failure> {
    let failed: Mutex<Option<Failure>> = Mutex::new(None);
    let fail = |failure: Failure| {
        failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(failure);
    };
    std::thread::scope(|scope| {
        for member in members {
            scope.spawn(|| {
                let mut unprinted = None;
                let read = home.engine().and_then(|engine| {
                    let mut each = |entry: &Entry<'_>| match line(prefix(member), entry).print(timestamps) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(error) => {
                            unprinted = Some(error);
                            ControlFlow::Break(())
                        }
                    };
                    Ok(engine.logs(&member.id, logs, &mut each)?)
                });
                if let Err(failure) = read {
                    fail(failure);
                }
                if let Some(error) = unprinted {
                    fail(error.into());
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// List the processes of a pod
#[derive(Args, Debug)]
#[command(override_usage = "bulkhead pod top POD [OPTIONS OF PS]")]
pub(crate) struct Top {
    /// The pod, and options of ps(1)
    #[arg(required = true, trailing_var_arg = true, value_name = "POD [OPTIONS OF PS]")]
    words: Vec<String>,
}

impl Operation for Top {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let (pod, options) = self.words.split_first().map_or(("", &[][..]), |(name, rest)| (name, rest));
        let engine = home.engine()?;
        let pod = engine.pod(pod)?;
        let mut rows: Vec<Vec<String>> = Vec::new();
        let mut titles = Vec::new();
        for member in pod.containers.iter().filter(|member| member.state.is_active()) {
            let found = engine.top(&member.id, options)?;
            // Runtimes may have columns of their own.
            if found.titles != titles {
                titles.clone_from(&found.titles);
                rows.push(found.titles);
            }
            rows.extend(found.rows);
        }
        if rows.is_empty() {
            return Err(Failure::new(format!("no container of pod {} runs", pod.name)));
        }
        let rows = rows.iter().map(|row| Vec::from_iter(row.iter().map(|cell| escape::word(cell))));
        io::stdout().write_all(table::wide(&Vec::from_iter(rows)).as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Show what the containers of pods use
#[derive(Args, Debug)]
pub(crate) struct PodStats {
    /// Print as json, table TEMPLATE, or TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Look once
    #[arg(long)]
    no_stream: bool,
    /// Cut nothing off
    #[arg(long)]
    no_trunc: bool,
    /// The pods; without any all
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

impl Operation for PodStats {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let PodStats { format, no_stream, no_trunc, pods } = self;
        let engine = home.engine()?;
        let found = match pods.is_empty() {
            true => engine.pods(&Filters::default())?,
            false => pods.iter().map(|name| engine.pod(name)).collect::<Result<_, _>>()?,
        };
        let members = found.into_iter().flat_map(|pod| pod.containers);
        let members = members.filter(|member| member.state.is_active());
        let containers = Vec::from_iter(members.map(|member| member.id));
        if containers.is_empty() {
            return Err(Failure::new("no container of these pods runs"));
        }
        Stats { all: false, format, no_stream, no_trunc, containers }.run(home)
    }
}
