//! `update`: other limits for a container that exists.

use crate::exit::ExitCode;
use std::collections::BTreeSet;
use std::io::Read;

use bulkhead_cgroup::devices::Rules;
use bulkhead_cgroup::{Host, Plan};
use bulkhead_spec::{BlockIoResources, CpuResources, MemoryResources, PidsResources, Resources};

use crate::cli::{Global, Limits, NewLimits, UpdateOptions};
use crate::container::Container;
use crate::error::{Doing, Error, Result};
use crate::host::{self, Rights};
use crate::log::Log;
use crate::plan::rdt::{Class, Rdt};
use crate::resctrl::{Record, Tree};
use crate::{lifecycle, root};

/// The longest document that is read. What takes longer is no list of limits.
const LONGEST: u64 = 1 << 20;

/// How often threads are looked for that have to be moved.
const LOOKS: u32 = 10;

/// Changes the limits of a container. What is not mentioned stays as it is.
///
/// # Errors
/// A container that is not running, a document that cannot be read, a limit that cannot be set. All limits are
/// checked before the first one is set.
pub fn update(global: &Global, options: &UpdateOptions, log: &Log) -> Result<ExitCode> {
    let schemata: Vec<&str> = [&options.l3_cache_schema, &options.mem_bw_schema]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    let tree = if schemata.is_empty() { None } else { Some(tree(options)?) };
    let resources = resources(&options.limits)?;
    let mut container = Container::lock(&root::resolve(global)?, &options.id)?;
    let status = container.status()?;
    if !lifecycle::is_alive(status) {
        return Err(Error::State { operation: "update", status });
    }
    let plan =
        Plan::for_update(&resources, &Host::detect()?).map_err(|error| named(&options.limits, error))?;
    for warning in plan.warnings() {
        log.warn(warning);
    }
    let cgroup = container.cgroup();
    for warning in cgroup.update(&plan)? {
        log.warn(&warning);
    }
    match plan.devices() {
        // As when it was made: such a container has no rules.
        Some(_) if Rights::of_caller()? == Rights::Unprivileged => {
            log.warn("the device rules are ignored: setting any takes the host's root");
        }
        Some(policy) if cgroup.change_devices(policy)? == Rules::OfOthers => {
            log.warn("the device rules stay: a program of somebody else has taken the place of those that were set");
        }
        _ => {}
    }
    // With a tree there are schemata to set in the container's class.
    match (tree, &container.state.rdt) {
        (None, _) => {}
        (Some(tree), Some(record)) => tree.set_schemata(record, &schemata)?,
        (Some(tree), None) => first_class(&mut container, &tree, &schemata)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives a container that was created without a class of service one of its own, which ends with it, and moves there
/// what runs in it. runc moves the first process only, and leaves those that it has made where they were.
fn first_class(container: &mut Container, tree: &Tree, schemata: &[&str]) -> Result<()> {
    // The places of a configuration are named for classes that are shared only.
    let schemata = schemata.iter().map(|line| ((*line).to_owned(), String::new())).collect();
    let rdt = Rdt { class: Class::Own, schemata, monitored: false };
    let mut record = tree.record(&rdt, &container.state.id)?;
    container.state.rdt = Some(record.clone());
    container.dir.save(&container.state)?;
    let made = tree.make(&mut record, &rdt).and_then(|()| move_into(container, tree, &record));
    if made.is_err() && tree.undo(&record).is_ok() {
        container.state.rdt = None;
        container.dir.save(&container.state)?;
    }
    made
}

/// Moves all threads of a container into a class. What a thread makes is born where that is, so that a look which finds
/// no other thread is the last one; the number of looks is bounded, for a container may make threads without an end.
fn move_into(container: &Container, tree: &Tree, record: &Record) -> Result<()> {
    let mut moved = BTreeSet::new();
    for _ in 0..LOOKS {
        let before = moved.len();
        let processes = container.cgroup().procs()?.into_iter().chain(container.pid()?);
        for thread in processes.flat_map(host::threads) {
            if moved.insert(thread) {
                let joined = tree.join(record, thread);
                // One that has ended meanwhile needs no share.
                if host::process_stat(thread)?.is_some_and(|found| found.alive) {
                    joined?;
                }
            }
        }
        if moved.len() == before {
            break;
        }
    }
    Ok(())
}

/// Finds the file system that divides what the options do. The texts are runc's.
fn tree(options: &UpdateOptions) -> Result<Tree> {
    let tree = Tree::find();
    let divides = |resource| tree.as_ref().is_ok_and(|tree| tree.divides(resource));
    if options.l3_cache_schema.is_some() && !divides("L3") {
        return Err(Error::Usage("Intel RDT/CAT: l3 cache schema is not enabled".to_owned()));
    }
    if options.mem_bw_schema.is_some() && !divides("MB") {
        return Err(Error::Usage("Intel RDT/MBA: memory bandwidth schema is not enabled".to_owned()));
    }
    tree
}

fn resources(limits: &NewLimits) -> Result<Resources> {
    match limits {
        NewLimits::Flags(limits) => Ok(from_flags(limits)),
        NewLimits::Stdin => document(std::io::stdin().lock(), "the standard input"),
        NewLimits::File(path) => {
            let name = path.display().to_string();
            document(std::fs::File::open(path).doing(|| format!("open {name}"))?, &name)
        }
    }
}

fn document(source: impl Read, name: &str) -> Result<Resources> {
    let mut text = String::new();
    let length = source.take(LONGEST + 1).read_to_string(&mut text).doing(|| format!("read {name}"))?;
    if length as u64 > LONGEST {
        return Err(Error::Usage(format!("{name} is longer than {LONGEST} bytes")));
    }
    Ok(Resources::from_json(&text)?)
}

fn from_flags(limits: &Limits) -> Resources {
    let Limits {
        blkio_weight,
        cpu_period,
        cpu_quota,
        cpu_burst,
        cpu_shares,
        cpu_rt_period,
        cpu_rt_runtime,
        cpu_idle,
        cpuset_cpus,
        cpuset_mems,
        memory,
        memory_reservation,
        memory_swap,
        pids,
    } = limits.clone();
    Resources {
        memory: Some(MemoryResources {
            limit: memory,
            reservation: memory_reservation,
            swap: memory_swap,
            ..MemoryResources::default()
        }),
        cpu: Some(CpuResources {
            shares: cpu_shares,
            quota: cpu_quota,
            burst: cpu_burst,
            period: cpu_period,
            realtime_runtime: cpu_rt_runtime,
            realtime_period: cpu_rt_period,
            cpus: cpuset_cpus,
            mems: cpuset_mems,
            idle: cpu_idle,
        }),
        pids: pids.map(|limit| PidsResources { limit: Some(limit) }),
        block_io: blkio_weight
            .map(|weight| BlockIoResources { weight: Some(weight), ..BlockIoResources::default() }),
        ..Resources::default()
    }
}

/// What a flag sets in the document whose place a plan names when it refuses a value.
const FLAGS: &[(&str, &str)] = &[
    ("/blockIO/weight", "--blkio-weight"),
    ("/cpu/burst", "--cpu-burst"),
    ("/cpu/cpus", "--cpuset-cpus"),
    ("/cpu/idle", "--cpu-idle"),
    ("/cpu/mems", "--cpuset-mems"),
    ("/cpu/period", "--cpu-period"),
    ("/cpu/quota", "--cpu-quota"),
    ("/cpu/realtimePeriod", "--cpu-rt-period"),
    ("/cpu/realtimeRuntime", "--cpu-rt-runtime"),
    ("/cpu/shares", "--cpu-share"),
    ("/memory/limit", "--memory"),
    ("/memory/reservation", "--memory-reservation"),
    ("/memory/swap", "--memory-swap"),
    ("/pids/limit", "--pids-limit"),
];

/// Names a refused value as the caller typed it.
fn named(limits: &NewLimits, error: bulkhead_cgroup::Error) -> Error {
    use bulkhead_cgroup::Error::Invalid;

    match (limits, error) {
        (NewLimits::Flags(_), Invalid { pointer, reason }) => {
            let flag = FLAGS.iter().find(|(place, _)| *place == pointer).map_or(&*pointer, |(_, flag)| flag);
            Error::Usage(format!("{flag}: {reason}"))
        }
        (_, error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets every limit; a new one does not compile until it is here.
    fn every_limit() -> Limits {
        Limits {
            blkio_weight: Some(500),
            cpu_period: Some(100_000),
            cpu_quota: Some(50_000),
            cpu_burst: Some(1),
            cpu_shares: Some(2),
            cpu_rt_period: Some(3),
            cpu_rt_runtime: Some(4),
            cpu_idle: Some(1),
            cpuset_cpus: Some("0".to_owned()),
            cpuset_mems: Some("0".to_owned()),
            memory: Some(5),
            memory_reservation: Some(6),
            memory_swap: Some(7),
            pids: Some(8),
        }
    }

    #[test]
    fn every_flag_has_its_place_in_the_document() {
        let document = serde_json::to_value(from_flags(&every_limit())).unwrap();
        for (place, flag) in FLAGS {
            assert!(document.pointer(place).is_some(), "{flag} does not set {place} of {document}");
        }
        let set: usize =
            document.as_object().unwrap().values().map(|section| section.as_object().unwrap().len()).sum();
        assert_eq!(set, FLAGS.len(), "{document}");
    }

    #[test]
    fn what_is_not_typed_is_not_in_the_document() {
        let document = serde_json::to_string(&from_flags(&Limits::default())).unwrap();
        assert_eq!(document, r#"{"memory":{},"cpu":{}}"#);
    }

    #[test]
    fn a_refused_value_is_named_as_it_was_typed() {
        let refused = |pointer: &str| bulkhead_cgroup::Error::Invalid {
            pointer: pointer.to_owned(),
            reason: "is too much".to_owned(),
        };
        let flags = NewLimits::Flags(Box::default());
        assert_eq!(named(&flags, refused("/cpu/quota")).to_string(), "--cpu-quota: is too much");
        assert_eq!(named(&flags, refused("/x")).to_string(), "/x: is too much");
        assert_eq!(named(&NewLimits::Stdin, refused("/cpu/quota")).to_string(), "/cpu/quota: is too much");
    }

    #[test]
    fn a_document_may_not_be_endless() {
        let error = document(std::io::repeat(b' '), "the standard input").unwrap_err();
        assert_eq!(error.to_string(), "the standard input is longer than 1048576 bytes");
        let read = document(&br#"{"pids":{"limit":5}}"#[..], "x").unwrap();
        assert_eq!(read.pids, Some(PidsResources { limit: Some(5) }));
    }
}
