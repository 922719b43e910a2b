//! What others have published, each claim with its source, beside what was found here.

use serde::Serialize;

use crate::plan::{BARE, BOOT, FIRST_BYTE};
use crate::report::number::{count, times};

use super::{Entered, Findings, Row, Standing};

/// A published claim beside what was found here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// What was published, in our words.
    pub claim: &'static str,
    /// Where.
    pub source: &'static str,
    /// The platform here that it is about.
    pub platform: String,
    /// What was found here, in words.
    pub here: String,
    /// Whether both agree.
    pub accord: Accord,
}

/// Whether a claim holds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accord {
    /// It holds.
    Agrees,
    /// It does not.
    Differs,
    /// The figures do not decide it.
    Open,
}

const FELTER: &str = "Felter, Ferreira, Rajamony, Rubio: An updated performance comparison of virtual machines and \
                      Linux containers, ISPASS 2015";
const MANCO: &str = "Manco and others: My VM is lighter (and safer) than your container, SOSP 2017";
const YOUNG: &str = "Young, Zhu, Caraza-Harter, Arpaci-Dusseau, Arpaci-Dusseau: The true cost of containing: a gVisor \
                     case study, HotCloud 2019";
const ANJALI: &str = "Anjali, Caraza-Harter, Swift: Blending containers and virtual machines: a study of Firecracker \
                      and gVisor, VEE 2020";

/// Platforms whose containers run on the host's kernel.
const CONTAINERS: &[&str] = &["bulkrun", "crun", "runc", "youki", "podman", "docker"];

/// gVisor.
const GVISOR: &str = "runsc";

/// A container of which gVisor's footprint is compared with.
const LIKE_LXC: &[&str] = &["runc", "crun", "bulkrun"];

/// A container is not `substantially the same` when less than this share of both footprints is common.
const SAME: f64 = 0.8;

pub(super) fn of(findings: &Findings) -> Vec<Claim> {
    let containers = findings.walls().filter(|name| CONTAINERS.contains(name));
    let free = containers
        .clone()
        .flat_map(|name| ["cpu", "memory"].into_iter().filter_map(move |task| no_cost(findings, name, task)));
    let slow_starts = containers.filter_map(|name| slow_start(findings, name));
    let calls = ["null-call", "open-close", "mmap", "tcp-rate"];
    let costly = calls.into_iter().filter_map(|task| costly(findings, task));
    let footprints = [more_code(findings), same_code(findings)].into_iter().flatten();
    free.chain(slow_starts).chain(costly).chain(footprints).collect()
}

fn no_cost(findings: &Findings, platform: &str, task: &str) -> Option<Claim> {
    let (here, standing) = beside_bare(work(findings, task)?, platform)?;
    Some(Claim {
        claim: "containers cost next to nothing in processor and memory work",
        source: FELTER,
        platform: platform.to_owned(),
        here,
        accord: match standing {
            Standing::Equal | Standing::Better => Accord::Agrees,
            Standing::Worse => Accord::Differs,
            Standing::NotDecided => Accord::Open,
        },
    })
}

fn slow_start(findings: &Findings, platform: &str) -> Option<Claim> {
    let row = findings.row(BOOT, FIRST_BYTE)?;
    let (here, _) = beside_bare(row, platform)?;
    let ratio = row.cell(platform)?.against_bare?.ratio;
    Some(Claim {
        claim: "Docker takes hundreds of times as long to start as fork and exec (1 ms); tested here: more than ten times",
        source: MANCO,
        platform: platform.to_owned(),
        here,
        accord: match ratio {
            ratio if ratio.low > 10.0 => Accord::Agrees,
            ratio if ratio.high < 10.0 => Accord::Differs,
            _ => Accord::Open,
        },
    })
}

fn costly(findings: &Findings, task: &str) -> Option<Claim> {
    let (here, standing) = beside_bare(work(findings, task)?, GVISOR)?;
    Some(Claim {
        claim: "a kernel in user space makes system calls, opening files, allocating memory and the network slower",
        source: YOUNG,
        platform: GVISOR.to_owned(),
        here,
        accord: match standing {
            Standing::Worse => Accord::Agrees,
            Standing::Equal | Standing::Better => Accord::Differs,
            Standing::NotDecided => Accord::Open,
        },
    })
}

fn more_code(findings: &Findings) -> Option<Claim> {
    let (bare, gvisor) = (entered(findings, BARE)?, entered(findings, GVISOR)?);
    Some(Claim {
        claim: "gVisor executes substantially more of the host's kernel than a native process",
        source: ANJALI,
        platform: GVISOR.to_owned(),
        here: format!(
            "application: {} functions or calls, bare {}; entered {} as often",
            count(gvisor.names as f64),
            count(bare.names as f64),
            times(gvisor.calls / bare.calls)
        ),
        accord: if gvisor.names > bare.names { Accord::Agrees } else { Accord::Differs },
    })
}

/// Both footprints are known only by their overlap with bare's: the most that they can have in common decides.
fn same_code(findings: &Findings) -> Option<Claim> {
    let gvisor = entered(findings, GVISOR)?;
    let container = LIKE_LXC.iter().find_map(|name| entered(findings, name))?;
    let (ours, theirs) = (gvisor.against_bare.as_ref()?, container.against_bare.as_ref()?);
    let avoided = |overlap: &super::footprint::Overlap, name: &String| overlap.avoided.contains(name);
    let added = ours.added.iter().filter(|name| theirs.added.contains(name)).count();
    let only_theirs = ours.avoided.iter().filter(|name| !avoided(theirs, name)).count();
    let common = theirs.shared - only_theirs + added;
    let share = common as f64 / (gvisor.names + container.names - common).max(1) as f64;
    let often = gvisor.calls / container.calls;
    Some(Claim {
        claim: "gVisor and containers execute substantially the same code of the kernel, but not as often",
        source: ANJALI,
        platform: GVISOR.to_owned(),
        here: format!(
            "{:.0} % of what either it or {} enters is entered by both; it enters {} as often",
            share * 100.0,
            container.platform,
            times(often)
        ),
        accord: if share >= SAME && !(0.5..2.0).contains(&often) { Accord::Agrees } else { Accord::Differs },
    })
}

fn entered<'a>(findings: &'a Findings, platform: &str) -> Option<&'a Entered> {
    let application = findings.footprints.iter().find(|footprints| footprints.part == "application")?;
    application.platforms.iter().find(|entered| entered.platform == platform)
}

/// The first quantity that decides, of the task of this name.
fn work<'a>(findings: &'a Findings, task: &str) -> Option<&'a Row> {
    let is_it = |row: &&Row| row.decides && row.task.strip_prefix("work ").unwrap_or(&row.task) == task;
    findings.rows.iter().find(is_it)
}

fn beside_bare(row: &Row, platform: &str) -> Option<(String, Standing)> {
    let against = row.cell(platform)?.against_bare?;
    let Row { task, quantity, .. } = row;
    let cost = row.cost(against.ratio).estimate;
    let words = match against.standing {
        Standing::Equal => "equal to bare".to_owned(),
        Standing::NotDecided => "not decided".to_owned(),
        Standing::Better | Standing::Worse => format!("{} the cost of bare", times(cost)),
    };
    Some((format!("{task} · {quantity}: {words}"), against.standing))
}
