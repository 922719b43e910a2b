//! `cargo xtask bench network`: what a published port carries, beside podman's and docker's.
//!
//! Each engine is alone in a network namespace of its own, which is its host, so that nobody's packets pass another's rules. There
//! the program `wire` asks a server of the same name that runs in a container, by the port that is published for it. Ours and docker take part once
//! more, with a program that copies what comes there.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bulkhead_measure::plan::{Plan, Quantity, Task};
use bulkhead_measure::record::{Run, VERSION};
use bulkhead_measure::results::Results;
use bulkhead_measure::stats::{Amount, Estimate, Failure, Summary};
use bulkhead_measure::{interrupt, machine};
use bulkhead_testkit::network;
use serde::Deserialize;

use super::Arguments;
use super::engine::{Contestant, Daemon, Ground, IMAGE, bulkhead, docker_with_proxy, engines, ours};
use super::experiment::{self, Amounts, Turns, task};
use super::memory::Memory;
use super::platform::Contestants;
use super::table::{notes, ratio, table};
use super::yardstick;
use crate::{invoke, marked, workspace};

/// The line of docs/performance.md after which the figures stand.
const BEGIN: &str = "<!-- begin: cargo xtask bench network --write -->";

/// The platform whose ratios to the others are shown.
const OURS: &str = "bulkhead";

/// Ours and docker, with programs that copy what comes to the port.
const OURS_BY_A_PROGRAM: &str = "bulkhead's bulkproxy";
const DOCKER_BY_A_PROGRAM: &str = "docker's docker-proxy";

/// The runtime alone, by which [`Contestants`] are made: it has no ports.
const BARE: &str = "bulkrun";

const PORT: &str = "port";

/// How long a gigabyte takes to the container, and how long from there.
const THERE: &str = "there";
const BACK: &str = "back";
/// From a byte to its echo.
const ROUND: &str = "round trip";
/// A connection that is made, used for a byte and its echo, and closed.
const CONNECTION: &str = "connection";

const QUANTITIES: [&str; 4] = [THERE, BACK, ROUND, CONNECTION];

/// The port of the server, and that of the host which leads there.
const INSIDE: &str = "7000";
const OUTSIDE: &str = "7001";
/// That which leads there by our program, of the same host.
const BY_A_PROGRAM: &str = "7002";

/// Where the host's port is asked.
const HOST: &str = "127.0.0.1";

/// How long each of the four is measured in a turn.
const MILLISECONDS: &str = "500";

/// How often the server is asked at first, and the pause between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Seeds the schedules; any number will do.
const SEED: u64 = 23;

/// Measures and shows.
pub(super) fn run(Arguments { blocks, write, only, .. }: &Arguments) -> Result<()> {
    interrupt::watch()?;
    // Our own host; the others have theirs.
    network::isolate();
    let made = Contestants::make(&[BARE.to_owned()])?;
    let wire = yardstick::compile("wire", made.directory())?;
    std::fs::copy(&wire, made.image().join("bin/wire")).context("put the server into the image")?;
    let memory = Memory::make()?;
    let (engines, daemon) = engines(&made, memory.path(), only)?;
    let mut served = Vec::from_iter(engines.into_iter().map(|engine| Served::by_the_kernel(engine, &daemon)));
    let mut daemons = vec![daemon];
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    if wanted(OURS_BY_A_PROGRAM) {
        let ground = Ground { root: made.directory(), run: memory.path() };
        served.push(Served::by_ours(ours(&bulkhead()?, ground)));
    }
    if wanted(DOCKER_BY_A_PROGRAM) {
        let (engine, daemon) = docker_with_proxy(&made, memory.path())?;
        served.push(Served::by_docker_s(engine, &daemon));
        daemons.push(daemon);
    }
    let mut bench = Bench { served, wire };
    let platforms = Vec::from_iter(bench.served.iter().map(|one| one.engine.measured.clone()));
    let names = platforms.iter().map(|platform| platform.name.clone()).collect();
    let plan = Plan { platforms: names, tasks: tasks(blocks.batches), seed: SEED };
    let run = Run { version: VERSION, plan, environment: machine::facts(), platforms };
    let directory = experiment::place("network", only)?;
    let results = bench.publish().and_then(|()| experiment::run(&directory, run, &mut bench));
    bench.served.iter().for_each(|one| one.engine.clear());
    drop(daemons);
    let markdown = markdown(&results?);
    println!("\n{markdown}");
    println!("raw data: {}", directory.display());
    if *write {
        marked::insert(&workspace::root()?.join("docs/performance.md"), BEGIN, &markdown)?;
    }
    Ok(())
}

fn tasks(blocks: usize) -> Vec<Task> {
    let units = ["ms", "ms", "µs", "µs"];
    let quantities = QUANTITIES.iter().zip(units).map(|(name, unit)| Quantity::less(name, unit)).collect();
    let says = "A stream there and one back, echoes of bytes, connections, by a port of the host.";
    vec![task(PORT, says, blocks.max(1), quantities)]
}

/// An engine in a host of its own, or one of two ways of the same engine.
struct Served {
    engine: Contestant,
    /// The file of the network namespace that is its host.
    host: PathBuf,
    /// The port there.
    port: &'static str,
    /// What it is asked for besides.
    mode: &'static [&'static str],
    /// Keeps the namespace.
    _namespace: Option<File>,
}

impl Served {
    /// docker's host is its daemon's, ours that of this thread; another engine gets one.
    fn by_the_kernel(mut engine: Contestant, daemon: &Daemon) -> Self {
        let (host, namespace) = match engine.measured.name.as_str() {
            OURS => (own_host(), None),
            name if name.starts_with("docker") => (daemon.network().to_owned(), None),
            _ => {
                let namespace = network::empty();
                let host =
                    PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
                engine.enter(&host);
                (host, Some(namespace))
            }
        };
        Self { engine, host, port: OUTSIDE, mode: &[], _namespace: namespace }
    }

    /// The same engine once more, with another port.
    fn by_ours(mut engine: Contestant) -> Self {
        OURS_BY_A_PROGRAM.clone_into(&mut engine.measured.name);
        let mode = &["--publish-mode", "proxy"];
        Self { engine, host: own_host(), port: BY_A_PROGRAM, mode, _namespace: None }
    }

    fn by_docker_s(mut engine: Contestant, daemon: &Daemon) -> Self {
        DOCKER_BY_A_PROGRAM.clone_into(&mut engine.measured.name);
        Self { engine, host: daemon.network().to_owned(), port: OUTSIDE, mode: &[], _namespace: None }
    }
}

fn own_host() -> PathBuf {
    PathBuf::from(format!("/proc/{}/ns/net", std::process::id()))
}

struct Bench {
    served: Vec<Served>,
    /// The client.
    wire: PathBuf,
}

impl Bench {
    /// Has each run the server and publish its port.
    fn publish(&self) -> Result<()> {
        for one in &self.served {
            let name = &one.engine.measured.name;
            // docker's host has only what its daemon made.
            invoke::quietly(inside(&one.host).args(["ip", "link", "set", "lo", "up"]))?;
            let publish = format!("{}:{INSIDE}", one.port);
            let begin = ["run", "--detach", "--publish", &publish];
            let words = [&begin[..], one.mode, &[IMAGE, "wire", "serve", INSIDE]].concat();
            one.engine.call(&words).with_context(|| format!("have {name} publish a port"))?;
            let mut tries = 0..TRIES;
            while let Err(error) = self.ask(one, "1") {
                tries.next().ok_or(error).with_context(|| format!("reach the port that {name} published"))?;
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Asks a server, for so many milliseconds each.
    fn ask(&self, Served { host, port, .. }: &Served, milliseconds: &str) -> Result<Carried> {
        let line = invoke::text(inside(host).arg(&self.wire).args(["ask", HOST, port, milliseconds]))?;
        serde_json::from_str(&line).with_context(|| format!("read what wire printed: {line}"))
    }
}

/// A command that runs in a network namespace.
fn inside(host: &Path) -> Command {
    let mut option = OsString::from("--net=");
    option.push(host);
    let mut command = Command::new("nsenter");
    command.arg(option);
    command
}

/// The line that wire prints.
#[derive(Deserialize)]
struct Carried {
    /// Bytes per second.
    sent: f64,
    received: f64,
    /// Seconds.
    round_trip: f64,
    /// Per second.
    connections: f64,
}

impl Carried {
    /// As times, of which less is better: milliseconds for a gigabyte, and microseconds.
    fn amounts(&self) -> Amounts {
        let times = [1e12 / self.sent, 1e12 / self.received, 1e6 * self.round_trip, 1e6 / self.connections];
        QUANTITIES.iter().zip(times).map(|(name, time)| (*name, Amount::new(time))).collect()
    }
}

impl Turns for Bench {
    fn amounts(&mut self, _: &str, platform: &str) -> Result<Amounts, Failure> {
        let one = self.served.iter().find(|one| one.engine.measured.name == platform);
        let one = one.ok_or_else(|| Failure(format!("{platform} is not here")))?;
        let carried = self.ask(one, MILLISECONDS).map_err(|error| Failure(format!("{error:#}")))?;
        Ok(carried.amounts())
    }
}

/// What a port carries, and our ratios to the others'.
fn markdown(results: &Results) -> String {
    let names = &results.plan().platforms;
    let experiments = QUANTITIES.map(|quantity| experiment::of(results, PORT, quantity));
    let head = ["", "MB/s there [95 %]", "MB/s back", "round trip, µs", "connections/s"];
    let mut rows = vec![Vec::from(head.map(str::to_owned))];
    for (number, name) in names.iter().enumerate() {
        let [there, back, round, connection] =
            experiments.each_ref().map(|experiment| experiment.summary(number));
        let cells = [
            median(&there, |time| 1e6 / time, 0),
            median(&back, |time| 1e6 / time, 0),
            median(&round, |time| time, 1),
            median(&connection, |time| 1e6 / time, 0),
        ];
        rows.push(std::iter::once(name.clone()).chain(cells).collect());
    }
    let mut parts = vec![machine::describe(&results.run.environment) + "\n", table(&rows)];
    let place = |name: &str| names.iter().position(|other| other == name);
    let of_the_kernel = |name: &&String| ![OURS_BY_A_PROGRAM, DOCKER_BY_A_PROGRAM].contains(&name.as_str());
    let others = names.iter().filter(of_the_kernel).filter(|name| *name != OURS);
    let pairs = others.map(|name| (OURS, name.as_str())).chain([(OURS_BY_A_PROGRAM, DOCKER_BY_A_PROGRAM)]);
    let head = ["", "a gigabyte there", "one back", "a round trip", "a connection"];
    let mut rows = vec![Vec::from(head.map(str::to_owned))];
    for (one, other) in pairs {
        if let Some((ours, theirs)) = place(one).zip(place(other)) {
            let ratios = experiments.iter().map(|experiment| ratio(experiment, ours, theirs));
            rows.push(std::iter::once(format!("{one} to {other}")).chain(ratios).collect());
        }
    }
    if rows.len() > 1 {
        parts.push(table(&rows));
    }
    let blocks = format!(
        "{} blocks in random order, in each half a second of every kind, asked at {HOST}. The ratios are those of times.",
        experiments[0].len()
    );
    // All four succeed or fail together.
    let said = notes("turns", &experiments[0], names.len());
    parts.extend(std::iter::once(blocks).chain(said).map(|note| note + "\n"));
    parts.join("\n")
}

/// A median with its interval, as something else that rises or falls with it.
fn median(Summary { median, .. }: &Summary, of: impl Fn(f64) -> f64, digits: usize) -> String {
    let Some(Estimate { estimate, low, high }) = median else { return "–".to_owned() };
    let [estimate, one, other] = [*estimate, *low, *high].map(of);
    let (low, high) = (one.min(other), one.max(other));
    format!("{estimate:.digits$} [{low:.digits$} {high:.digits$}]")
}

#[cfg(test)]
mod tests {
    use bulkhead_measure::record::{Finding, Turn};

    use super::*;

    #[test]
    fn rates_and_our_ratios_are_shown() {
        let names = [OURS, "docker", OURS_BY_A_PROGRAM, DOCKER_BY_A_PROGRAM].map(str::to_owned);
        let plan = Plan { platforms: names.into(), tasks: tasks(6), seed: 1 };
        let environment = [("kernel".to_owned(), "6.1".to_owned())].into();
        let run = Run { version: VERSION, plan: plan.clone(), environment, platforms: Vec::new() };
        let mut results = Results::begun(run);
        for (block, (platform, rate)) in (0..6)
            .flat_map(|block| plan.platforms.iter().zip([4e9, 2e9, 2e9, 1e9]).map(move |one| (block, one)))
        {
            let carried = Carried { sent: rate, received: 1e9, round_trip: 20e-6, connections: 5000.0 };
            let findings = carried.amounts().into_iter().map(|(name, amount)| Finding::of(name, amount));
            results.turns.push(Turn {
                task: PORT.to_owned(),
                platform: platform.clone(),
                block,
                began: None,
                seconds: 1.0,
                disturbance: None,
                noise: None,
                findings: findings.collect(),
            });
        }
        let text = markdown(&results);
        let rows = |begin: &str| {
            let found = text.lines().filter(|line| line.starts_with(begin));
            Vec::from_iter(found.map(str::to_owned))
        };
        let ours = &rows("| bulkhead ")[0];
        assert!(ours.contains("4000 [4000 4000]") && ours.contains("20.0 [20.0 20.0]"), "{text}");
        assert!(ours.ends_with("5000 [5000 5000] |"), "{text}");
        for (ratios, many) in [("| bulkhead to ", 1), ("| bulkhead's bulkproxy to docker's", 1)] {
            assert_eq!(rows(ratios).len(), many, "{text}");
        }
        let ratios = &rows("| bulkhead to docker ")[0];
        assert!(ratios.contains("0.50 [0.50 0.50] faster"), "{text}");
        assert!(ratios.contains("1.00 [1.00 1.00] equal"), "{text}");
        assert!(text.contains("6 blocks in random order"), "{text}");
    }

    #[test]
    fn the_program_carries_all_four() {
        let scratch = bulkhead_testkit::Scratch::new();
        let wire = yardstick::compile("wire", scratch.path()).unwrap();
        // A port that nobody has, as far as one can know.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Command::new(&wire).args(["serve", &port.to_string()]).spawn().unwrap();
        let mut client = Command::new(&wire);
        client.args(["ask", HOST, &port.to_string(), "20"]);
        let answered = (0..TRIES).find_map(|_| {
            std::thread::sleep(PAUSE);
            invoke::text(&mut client).ok()
        });
        server.kill().unwrap();
        server.wait().unwrap();
        let carried: Carried = serde_json::from_str(&answered.unwrap()).unwrap();
        assert!(carried.amounts().iter().all(|(_, amount)| amount.as_ref().unwrap().value() > 0.0));
    }
}
