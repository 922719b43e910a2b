//! What others have published, each claim with its source, beside what was found here.
//!
//! A claim is tested by the quantity that its source measured, or it is open and says why.

use serde::Serialize;

use crate::plan::{Axis, BARE, BOOT, DENSITY, FIRST_BYTE, SURFACE, WORK};
use crate::record::Level;
use crate::report::number::{count, figure, spread, times};
use crate::results::Results;
use crate::stats::{Comparison, Estimate, FEWEST_PAIRS, MARGIN};

use super::{Against, Entered, Findings, Row, Standing};

/// A published claim beside what was found here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// What was published, in our words.
    pub claim: &'static str,
    /// Where.
    pub source: &'static str,
    /// What was looked at here; one at least.
    pub tests: Vec<Test>,
    /// Whether it holds here: it does if every test says so, the halves of the claim that were not measured included, and
    /// does not if one says so.
    pub accord: Accord,
}

/// A claim on one platform.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Test {
    /// The platform; empty where the claim is open because there was none to test.
    pub platform: String,
    /// What was found here, in words, or why the matter is open.
    pub here: String,
    /// Whether both agree.
    pub accord: Accord,
    /// The journal that says so, where that is another one than the page's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
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
const MAPPING: &str = "IEICE Transactions on Information and Systems E107.D(2), 2024, pages 229 to 233, \
                       doi:10.1587/transinf.2023EDL8039";
const GVISOR_SAYS: &str = "The gVisor authors: README of gVisor, 2018";

/// Platforms whose containers run on the host's kernel.
const CONTAINERS: &[&str] = &["bulkrun", "crun", "runc", "youki", "bulkhead", "podman", "docker"];

/// gVisor.
const GVISOR: &str = "runsc";

/// What gVisor was compared with.
const RUNC: &str = "runc";

const DOCKER: &str = "docker";

/// The containers of which one stands for all where gVisor's footprint is compared with a container's.
const LIKE_LXC: &[&str] = &[RUNC, "crun", "bulkrun"];

/// Code is `substantially the same` from this share of both footprints that is common.
const SAME: f64 = 0.8;

/// And `substantially more` from this ratio, as is a frequency `different`.
const MORE: f64 = 1.25;

/// `Two orders of magnitude`.
const HUNDRED: f64 = 100.0;

/// `Comparable`: up to this ratio.
const COMPARABLE: f64 = 2.0;

/// `Several times`.
const SEVERAL: f64 = 2.0;

/// The tasks that move data over TCP.
const NETWORK: [&str; 2] = ["work tcp-rate", "heavy iperf3"];

pub(super) fn of(findings: &Findings, results: &Results) -> Vec<Claim> {
    let measured = |row: &Row| row.cells.iter().any(|cell| cell.measured > 0);
    let mut claims = Vec::new();
    if findings.rows.iter().any(|row| row.axis == Axis::Performance && measured(row)) {
        claims.extend(performance(findings, results));
    }
    if !findings.footprints.is_empty() {
        claims.extend(isolation(findings));
    }
    claims
}

/// Has a journal from elsewhere, called `from`, decide what `claims` leaves open, and add what that has no word of. What was decided
/// stays.
pub(super) fn join(claims: &mut Vec<Claim>, other: Vec<Claim>, from: &str) {
    for mut claim in other {
        claim.tests.iter_mut().for_each(|test| test.from = Some(from.to_owned()));
        match claims.iter_mut().find(|known| known.claim == claim.claim) {
            Some(known) if known.accord == Accord::Open && claim.accord != Accord::Open => *known = claim,
            Some(_) => {}
            None => claims.push(claim),
        }
    }
}

fn performance(findings: &Findings, results: &Results) -> Vec<Claim> {
    let beside_runc = |claim, task, claimed| beside_runc(findings, results, claim, task, claimed);
    vec![
        Claim::of(
            "containers cost next to nothing in processor and memory work",
            FELTER,
            free_of_cost(findings),
            || "no container was measured at such work".to_owned(),
        ),
        Claim::of(
            "Docker takes two orders of magnitude longer to start than a light virtual machine, whose 2.3 ms are \
             comparable to fork and exec (1 ms)",
            MANCO,
            Vec::from_iter(slow_start(findings)),
            || format!("docker was not measured; the runtimes alone are no engine: {}", starts(findings)),
        ),
        Claim::of_some(
            "a wall need not cost density: thousands of sandboxes, light virtual machines, fit with memory comparable to that \
             of processes",
            MANCO,
            Vec::from_iter(findings.walls().filter_map(|name| as_dense(findings, name))),
            || "density was not measured, which --full does".to_owned(),
        ),
        beside_runc(
            "in gVisor a simple system call takes more than twice as long as in runc",
            "null-call",
            2.0,
        ),
        beside_runc("in gVisor allocating memory takes 2.5 times as long as in runc, or more", "mmap", 2.5),
        beside_runc(
            "in gVisor opening and closing a file that its gofer serves takes 216 times as long as in runc",
            "open-close",
            216.0,
        ),
        network(findings, results),
    ]
}

fn isolation(findings: &Findings) -> Vec<Claim> {
    let closer = || {
        "code is told by functions or lines, and this run counted system calls alone; --in-guest counts functions"
            .to_owned()
    };
    vec![
        Claim::of(
            "gVisor executes substantially more of the host's kernel code than a native process",
            ANJALI,
            Vec::from_iter(more_code(findings)),
            closer,
        ),
        Claim::of(
            "gVisor and containers execute substantially the same code of the kernel, although with different frequency",
            ANJALI,
            Vec::from_iter(same_code(findings)),
            closer,
        ),
        Claim::of(
            "gVisor limits how much of the host's kernel an application can reach",
            GVISOR_SAYS,
            Vec::from_iter(smaller_surface(findings)),
            || "gVisor's filters were not read".to_owned(),
        ),
        Claim::of(
            "gVisor makes several times as many system calls on the host as the program itself would (6 to read or write, 48 \
             to open)",
            MAPPING,
            Vec::from_iter(more_calls(findings)),
            || "gVisor's system calls were not counted beside those of a bare process".to_owned(),
        ),
    ]
}

impl Claim {
    fn of(
        claim: &'static str,
        source: &'static str,
        tests: Vec<Test>,
        open: impl FnOnce() -> String,
    ) -> Self {
        Self::weighed(claim, source, tests, open, [Accord::Differs, Accord::Open, Accord::Agrees])
    }

    /// A claim that something can be had: it holds if it does on one platform, and does not if it does on none.
    fn of_some(
        claim: &'static str,
        source: &'static str,
        tests: Vec<Test>,
        open: impl FnOnce() -> String,
    ) -> Self {
        Self::weighed(claim, source, tests, open, [Accord::Agrees, Accord::Open, Accord::Differs])
    }

    /// The first of these that any test came to is what all of them come to.
    fn weighed(
        claim: &'static str,
        source: &'static str,
        mut tests: Vec<Test>,
        open: impl FnOnce() -> String,
        order: [Accord; 3],
    ) -> Self {
        if tests.is_empty() {
            tests.push(Test { platform: String::new(), here: open(), accord: Accord::Open, from: None });
        }
        let any = |wanted: &Accord| tests.iter().any(|test| test.accord == *wanted);
        let accord = order.into_iter().find(any).unwrap_or(Accord::Open);
        Self { claim, source, tests, accord }
    }
}

impl Accord {
    /// Of something that was said to be `claimed` at least, by what so many blocks say.
    fn at_least(claimed: f64, found: &Estimate, blocks: usize) -> Self {
        match found {
            _ if blocks < FEWEST_PAIRS => Self::Open,
            found if found.low >= claimed => Self::Agrees,
            found if found.high < claimed => Self::Differs,
            _ => Self::Open,
        }
    }

    fn is(holds: bool) -> Self {
        if holds { Self::Agrees } else { Self::Differs }
    }
}

/// Both halves of the claim on every container; nothing where neither was measured on any.
fn free_of_cost(findings: &Findings) -> Vec<Test> {
    let containers = findings.walls().filter(|name| CONTAINERS.contains(name));
    let halves =
        containers.flat_map(|name| ["cpu", "memory"].map(|task| (name, task, costs(findings, name, task))));
    let halves = Vec::from_iter(halves);
    if halves.iter().all(|(.., test)| test.is_none()) {
        return Vec::new();
    }
    let tests = halves.into_iter().map(|(name, task, test)| {
        test.unwrap_or_else(|| Test {
            platform: name.to_owned(),
            here: format!("{WORK}{task} was not compared with bare, which --full does"),
            accord: Accord::Open,
            from: None,
        })
    });
    tests.collect()
}

fn costs(findings: &Findings, platform: &str, task: &str) -> Option<Test> {
    let row = work(findings, task)?;
    let against = row.cell(platform)?.against_bare?;
    let cost = times(row.cost(against.ratio).estimate);
    let (words, accord) = match against.standing {
        Standing::Equal => (format!("within {:.0} % of bare", MARGIN * 100.0), Accord::Agrees),
        Standing::Better => (format!("{cost} the cost of bare"), Accord::Agrees),
        Standing::Worse => (format!("{cost} the cost of bare"), Accord::Differs),
        Standing::NotDecided => ("not decided".to_owned(), Accord::Open),
    };
    Some(Test {
        platform: platform.to_owned(),
        here: format!("{}: {words}", row.title()),
        accord,
        from: None,
    })
}

fn slow_start(findings: &Findings) -> Option<Test> {
    let Against { ratio, pairs, .. } = findings.row(BOOT, FIRST_BYTE)?.cell(DOCKER)?.against_bare?;
    let here = format!("first byte: {}× that of a bare process", spread(&ratio, pairs));
    Some(Test {
        platform: DOCKER.to_owned(),
        here,
        accord: Accord::at_least(HUNDRED, &ratio, pairs),
        from: None,
    })
}

/// `crun 21.1×, runc 54.0× bare`
fn starts(findings: &Findings) -> String {
    let row = findings.row(BOOT, FIRST_BYTE);
    let ratio = |name| Some(row?.cell(name)?.against_bare?.ratio.estimate);
    let told = findings.walls().filter(|name| CONTAINERS.contains(name));
    let told = Vec::from_iter(told.filter_map(|name| Some(format!("{name} {}", times(ratio(name)?)))));
    if told.is_empty() {
        "none was measured".to_owned()
    } else {
        format!("{} the start of bare", told.join(", "))
    }
}

/// The claim's own machines are not among the platforms: what is tested is whether a wall that is here does what they do.
fn as_dense(findings: &Findings, platform: &str) -> Option<Test> {
    let mut rows = findings.rows.iter().filter(|row| row.task.starts_with(DENSITY) && row.decides);
    let (row, cell) =
        rows.find_map(|row| Some((row, row.cell(platform)?)).filter(|(_, cell)| cell.measured > 0))?;
    let (median, against) = (cell.median?, cell.against_bare?);
    let here = format!(
        "each further sandbox takes {} {} in memory of its processes, {} times that of a bare process",
        figure(median.estimate),
        row.unit,
        spread(&against.ratio, against.pairs)
    );
    let accord = match against.ratio {
        _ if against.pairs < FEWEST_PAIRS => Accord::Open,
        ratio if ratio.high <= COMPARABLE => Accord::Agrees,
        ratio if ratio.low > COMPARABLE => Accord::Differs,
        _ => Accord::Open,
    };
    Some(Test { platform: platform.to_owned(), here, accord, from: None })
}

/// Of what cost so much in runc, block by block.
fn beside_runc(
    findings: &Findings,
    results: &Results,
    claim: &'static str,
    task: &'static str,
    claimed: f64,
) -> Claim {
    let cost = |name| work(findings, task)?.cell(name)?.against_bare;
    let tested = work(findings, task).and_then(|row| costs_more_than_runc(results, row, claimed));
    Claim::of(claim, YOUNG, Vec::from_iter(tested), || match (cost(GVISOR), cost(RUNC)) {
        (Some(_), None) => format!("runc, which gVisor was compared with, was not measured at {task}"),
        (None, Some(_)) => format!("gVisor was not measured at {task}"),
        _ => format!("{task} was not measured on both, which --full does"),
    })
}

fn costs_more_than_runc(results: &Results, row: &Row, claimed: f64) -> Option<Test> {
    let Comparison { ratio, pairs, .. } = against_runc(results, row)?;
    let ratio = row.cost(ratio);
    let here = format!("{}: {}× the cost in runc", row.title(), spread(&ratio, pairs));
    let accord = Accord::at_least(claimed, &ratio, pairs);
    Some(Test { platform: GVISOR.to_owned(), here, accord, from: None })
}

fn against_runc(results: &Results, row: &Row) -> Option<Comparison> {
    let task = results.plan().task(&row.task)?;
    let quantity = task.quantities.iter().find(|quantity| quantity.name == row.quantity)?;
    let experiment = results.experiment(task, quantity);
    let place = |name: &str| experiment.names().iter().position(|known| known == name);
    experiment.compare(place(GVISOR)?, place(RUNC)?)
}

/// The source downloaded over a network, which sandboxes here do not have. What its finding is about, the cost of a network stack
/// outside the kernel, is there over loopback, too, and its size is not: several times is what is tested.
fn network(findings: &Findings, results: &Results) -> Claim {
    let is_network = |row: &&Row| row.decides && NETWORK.contains(&row.task.as_str());
    let rows = findings.rows.iter().filter(is_network);
    let tests = rows.filter_map(|row| costs_more_than_runc(results, row, SEVERAL)).map(|test| Test {
        here: format!("{}, over loopback, as nothing is downloaded here", test.here),
        ..test
    });
    Claim::of(
        "gVisor's own network stack makes moving data over TCP cost several times what it costs in runc (large downloads took \
         2.8 times as long)",
        YOUNG,
        tests.collect(),
        || format!("{} were not measured on both gVisor and runc", NETWORK.join(" and ")),
    )
}

fn more_code(findings: &Findings) -> Option<Test> {
    let bare = entered(findings, BARE, Level::Functions)?;
    let gvisor = entered(findings, GVISOR, Level::Functions)?;
    let here = format!(
        "application: {} functions, bare {}; entered {} as often",
        count(gvisor.names as f64),
        count(bare.names as f64),
        times(gvisor.calls / bare.calls)
    );
    let accord = Accord::is(gvisor.names as f64 >= MORE * bare.names as f64);
    Some(Test { platform: GVISOR.to_owned(), here, accord, from: None })
}

/// Both footprints are known only by their overlap with bare's: the most that they can have in common decides.
fn same_code(findings: &Findings) -> Option<Test> {
    let gvisor = entered(findings, GVISOR, Level::Functions)?;
    let container = LIKE_LXC.iter().find_map(|name| entered(findings, name, Level::Functions))?;
    let (ours, theirs) = (gvisor.against_bare.as_ref()?, container.against_bare.as_ref()?);
    let avoided = |overlap: &super::footprint::Overlap, name: &String| overlap.avoided.contains(name);
    let added = ours.added.iter().filter(|name| theirs.added.contains(name)).count();
    let only_theirs = ours.avoided.iter().filter(|name| !avoided(theirs, name)).count();
    let common = theirs.shared - only_theirs + added;
    let share = common as f64 / (gvisor.names + container.names - common).max(1) as f64;
    let often = gvisor.calls / container.calls;
    let here = format!(
        "{:.0} % of the functions that either it or {} enters are entered by both; it enters {} as often",
        share * 100.0,
        container.platform,
        times(often)
    );
    let accord = Accord::is(share >= SAME && !(1.0 / MORE..MORE).contains(&often));
    Some(Test { platform: GVISOR.to_owned(), here, accord, from: None })
}

fn smaller_surface(findings: &Findings) -> Option<Test> {
    let row = findings.row(SURFACE, SURFACE)?;
    let (bare, gvisor) = (row.cell(BARE)?.median?.estimate, row.cell(GVISOR)?.median?.estimate);
    let here = format!("its filters let {} system calls through, bare has {}", count(gvisor), count(bare));
    Some(Test { platform: GVISOR.to_owned(), here, accord: Accord::is(gvisor < bare), from: None })
}

fn more_calls(findings: &Findings) -> Option<Test> {
    let level = [Level::Tracepoints, Level::Calls]
        .into_iter()
        .find(|level| entered(findings, GVISOR, *level).is_some())?;
    let often = entered(findings, GVISOR, level)?.calls / entered(findings, BARE, level)?.calls;
    let here = format!("over the whole mix of work that is watched, {} as many as bare", times(often));
    Some(Test { platform: GVISOR.to_owned(), here, accord: Accord::is(often >= SEVERAL), from: None })
}

fn entered<'a>(findings: &'a Findings, platform: &str, level: Level) -> Option<&'a Entered> {
    let is_it = |part: &str, of: Level| part == "application" && of == level;
    let application =
        findings.footprints.iter().find(|footprints| is_it(&footprints.part, footprints.level))?;
    application.platforms.iter().find(|entered| entered.platform == platform)
}

/// The first quantity that decides, of the workload of this name.
fn work<'a>(findings: &'a Findings, name: &str) -> Option<&'a Row> {
    let is_it = |row: &&Row| row.decides && row.task.strip_prefix(WORK) == Some(name);
    findings.rows.iter().find(is_it)
}
