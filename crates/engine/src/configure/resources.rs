//! How much a container may use, as its cgroup has it.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bulkhead_spec::{
    BlockIoResources, CpuResources, DeviceRule, MemoryResources, PidsResources, Resources, ThrottleDevice,
    WeightDevice,
};

use super::{Caller, CgroupVersion, Cpuset, Scene, invalid};
use crate::error::Result;
use crate::request::{self, BlockIo, Cpus, Limit, Size, Throttle};

/// What docker takes for too little to start anything.
const LEAST_MEMORY: u64 = 6 << 20;
/// The period in which `--cpus` is shared out, in microseconds.
const PERIOD: u64 = 100_000;

/// Decides the cgroup's limits; `None` where the caller may have no cgroups.
///
/// # Errors
/// A limit that cannot be, that contradicts another, or for which the host has no controller.
pub(super) fn decide(scene: &Scene<'_>, rules: Vec<DeviceRule>) -> Result<Option<Resources>> {
    let asked = &scene.request.resources;
    let resources = Resources {
        devices: rules,
        memory: memory(scene, asked)?,
        cpu: cpu(scene, asked)?,
        pids: pids(scene, asked)?,
        block_io: block(scene, &asked.block)?,
        ..Resources::default()
    };
    Ok(scene.facts.cgroups.writable.then_some(resources))
}

/// Decides where the container's cgroup is.
pub(super) fn cgroups_path(scene: &Scene<'_>) -> Result<Option<String>> {
    let Scene { id, facts, request, .. } = *scene;
    let parent = request.resources.cgroup_parent.as_deref();
    let wrong = |reason: &str| invalid(format!("--cgroup-parent {}", parent.unwrap_or_default()), reason);
    if !facts.cgroups.writable {
        return match parent {
            Some(_) => Err(wrong(NO_CGROUPS)),
            None => Ok(None),
        };
    }
    if facts.cgroups.systemd {
        let default = if facts.caller == Caller::Root { "system.slice" } else { "user.slice" };
        return match parent.unwrap_or(default) {
            slice if slice.ends_with(".slice") && !slice.contains(['/', ':']) => {
                Ok(Some(format!("{slice}:bulkhead:{id}")))
            }
            _ => Err(wrong("systemd makes the cgroups here; expected the name of a slice, such as my.slice")),
        };
    }
    let parent = parent.unwrap_or("/bulkhead").trim_end_matches('/');
    if parent.split('/').any(|part| part == "..") || parent.contains(char::is_control) {
        return Err(wrong("expected the path of a cgroup, without .."));
    }
    let slash = if parent.starts_with('/') { "" } else { "/" };
    Ok(Some(format!("{slash}{parent}/{id}")))
}

/// Why there are none.
pub(crate) const NO_CGROUPS: &str =
    "an ordinary user may have no cgroups here; have systemd delegate them to users, or run as root";

/// Refuses a limit for which there is no controller.
fn need(scene: &Scene<'_>, controller: &str, flag: &str) -> Result<()> {
    if !scene.facts.cgroups.writable {
        return Err(invalid(flag, NO_CGROUPS));
    }
    if !scene.facts.cgroups.has(controller) {
        return Err(invalid(flag, format!("this host's cgroups have no controller {controller}")));
    }
    Ok(())
}

/// Refuses what only cgroup v1 has.
fn only_v1(scene: &Scene<'_>, flag: &str) -> Result<()> {
    match scene.facts.cgroups.version {
        CgroupVersion::V1 => Ok(()),
        CgroupVersion::V2 => Err(invalid(flag, "cgroup v2 does not have it; leave it out")),
    }
}

fn memory(scene: &Scene<'_>, asked: &request::Resources) -> Result<Option<MemoryResources>> {
    let bytes = |size: Option<Size>| size.map(|Size(bytes)| bytes).filter(|&bytes| bytes > 0);
    let (limit, reservation) = (bytes(asked.memory), bytes(asked.memory_reservation));
    for (flag, size) in [("--memory", limit), ("--memory-reservation", reservation)] {
        let Some(size) = size else { continue };
        need(scene, "memory", flag)?;
        if size < LEAST_MEMORY {
            return Err(invalid(format!("{flag} {}", Size(size)), "nothing runs in less than 6m"));
        }
    }
    if let (Some(limit), Some(reservation)) = (limit, reservation)
        && reservation > limit
    {
        let reason = format!("it is above --memory {}", Size(limit));
        return Err(invalid(format!("--memory-reservation {}", Size(reservation)), reason));
    }
    let swappiness = match asked.memory_swappiness {
        None => None,
        Some(value) => {
            let flag = format!("--memory-swappiness {value}");
            only_v1(scene, &flag)?;
            need(scene, "memory", &flag)?;
            if value > 100 {
                return Err(invalid(flag, "expected a number from 0 to 100"));
            }
            Some(u64::from(value))
        }
    };
    if asked.oom_kill_disable {
        only_v1(scene, "--oom-kill-disable")?;
        need(scene, "memory", "--oom-kill-disable")?;
        if limit.is_none() {
            let reason = "without --memory the host's memory is all used up before the container waits";
            return Err(invalid("--oom-kill-disable", reason));
        }
    }
    let swap = swap(scene, asked, limit)?;
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let memory = MemoryResources {
        limit: limit.map(signed),
        reservation: reservation.map(signed),
        swap,
        swappiness,
        disable_oom_killer: asked.oom_kill_disable.then_some(true),
        ..MemoryResources::default()
    };
    Ok((memory != MemoryResources::default()).then_some(memory))
}

/// Memory and swap together; without a word twice the memory, as docker has it.
fn swap(scene: &Scene<'_>, asked: &request::Resources, limit: Option<u64>) -> Result<Option<i64>> {
    let counted = scene.facts.cgroups.swap;
    match (asked.memory_swap, limit) {
        (None | Some(Limit::At(0)), Some(limit)) if counted => {
            Ok(i64::try_from(limit.saturating_mul(2)).ok())
        }
        (None | Some(Limit::At(0)), _) => Ok(None),
        (Some(wanted), limit) => {
            let flag = match wanted {
                Limit::Unlimited => "--memory-swap -1".to_owned(),
                Limit::At(bytes) => format!("--memory-swap {}", Size(bytes)),
            };
            need(scene, "memory", &flag)?;
            if !counted {
                return Err(invalid(
                    flag,
                    "this host does not count swap (its kernel can be booted with swapaccount=1)",
                ));
            }
            match (wanted, limit) {
                (Limit::At(_), None) => Err(invalid(flag, "it needs --memory, which it includes")),
                (Limit::At(bytes), Some(limit)) if bytes < limit => {
                    Err(invalid(flag, format!("it includes memory, and is below --memory {}", Size(limit))))
                }
                (wanted, _) => Ok(Some(wanted.signed())),
            }
        }
    }
}

fn cpu(scene: &Scene<'_>, asked: &request::Resources) -> Result<Option<CpuResources>> {
    let (mut quota, mut period) =
        (asked.cpu_quota.filter(|&quota| quota != 0), asked.cpu_period.filter(|&period| period != 0));
    if let Some(Cpus(billionths @ 1..)) = asked.cpus {
        let flag = format!("--cpus {}", decimal(billionths));
        need(scene, "cpu", &flag)?;
        if quota.is_some() || period.is_some() {
            return Err(invalid(flag, "it is a quota of its own; leave --cpu-quota and --cpu-period out"));
        }
        let most = u64::from(scene.facts.cpus) * 1_000_000_000;
        if !(10_000_000..=most).contains(&billionths) {
            return Err(invalid(
                flag,
                format!("expected a number from 0.01 to {}, for there are no more", scene.facts.cpus),
            ));
        }
        quota = i64::try_from(billionths / (1_000_000_000 / PERIOD)).ok();
        period = Some(PERIOD);
    } else {
        if let Some(quota) = quota {
            need(scene, "cpu", "--cpu-quota")?;
            if quota != -1 && quota < 1000 {
                return Err(invalid(
                    format!("--cpu-quota {quota}"),
                    "expected at least 1000 microseconds, or -1 for none",
                ));
            }
        }
        if let Some(period) = period {
            need(scene, "cpu", "--cpu-period")?;
            if !(1000..=1_000_000).contains(&period) {
                return Err(invalid(
                    format!("--cpu-period {period}"),
                    "expected 1000 to 1000000 microseconds",
                ));
            }
        }
    }
    let shares = asked.cpu_shares.filter(|&shares| shares != 0);
    if let Some(shares) = shares {
        need(scene, "cpu", "--cpu-shares")?;
        if !(2..=262_144).contains(&shares) {
            return Err(invalid(format!("--cpu-shares {shares}"), "expected a weight from 2 to 262144"));
        }
    }
    for (flag, given) in [
        ("--cpu-rt-period", asked.realtime_period.is_some()),
        ("--cpu-rt-runtime", asked.realtime_runtime.is_some()),
    ] {
        if given {
            only_v1(scene, flag)?;
            need(scene, "cpu", flag)?;
        }
    }
    let Cpuset { cpus, mems } = &scene.facts.cpuset;
    let cpu = CpuResources {
        shares,
        quota,
        period,
        realtime_runtime: asked.realtime_runtime,
        realtime_period: asked.realtime_period,
        cpus: set(scene, "--cpuset-cpus", asked.cpuset_cpus.as_deref(), cpus)?,
        mems: set(scene, "--cpuset-mems", asked.cpuset_mems.as_deref(), mems)?,
        ..CpuResources::default()
    };
    Ok((cpu != CpuResources::default()).then_some(cpu))
}

/// Decides on which processors or memory nodes, of those that are there, as docker does.
fn set(scene: &Scene<'_>, flag: &str, list: Option<&str>, available: &str) -> Result<Option<String>> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(None) };
    let flag = format!("{flag} {list}");
    need(scene, "cpuset", &flag)?;
    let Some(wanted) = ranges(list) else {
        return Err(invalid(flag, "expected numbers and ranges, such as 0-3,7"));
    };
    if let Some(there) = ranges(available) {
        let is_there = |number: u16| there.iter().any(|range| range.contains(&number));
        if !wanted.into_iter().flatten().all(is_there) {
            return Err(invalid(flag, format!("not all of these are there; available: {available}")));
        }
    }
    Ok(Some(list.to_owned()))
}

/// Reads a list of numbers and ranges (cpuset(7), "List format").
fn ranges(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().ok().filter(|_| !text.starts_with('+'));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(first..=last)
    };
    text.split(',').map(range).collect()
}

fn decimal(billionths: u64) -> String {
    let text = format!("{}.{:09}", billionths / 1_000_000_000, billionths % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn pids(scene: &Scene<'_>, asked: &request::Resources) -> Result<Option<PidsResources>> {
    let Some(limit) = asked.pids else { return Ok(None) };
    need(scene, "pids", "--pids-limit")?;
    Ok(Some(PidsResources { limit: Some(limit.signed()) }))
}

fn block(scene: &Scene<'_>, asked: &BlockIo) -> Result<Option<BlockIoResources>> {
    let BlockIo { weight, weight_devices, read_bytes, write_bytes, read_operations, write_operations } =
        asked;
    let weight = weight.filter(|&weight| weight != 0);
    if let Some(weight) = weight {
        need(scene, "io", "--blkio-weight")?;
        if !(10..=1000).contains(&weight) {
            return Err(invalid(format!("--blkio-weight {weight}"), "expected a weight from 10 to 1000"));
        }
    }
    let numbers = |flag: &str, path: &PathBuf| {
        need(scene, "io", flag)?;
        device(scene, flag, path)
    };
    let rates = |flag: &str, list: &[Throttle]| {
        let rate = |throttle: &Throttle| {
            let (major, minor) = numbers(flag, &throttle.path)?;
            Ok(ThrottleDevice { major, minor, rate: throttle.rate })
        };
        list.iter().map(rate).collect::<Result<Vec<_>>>()
    };
    let weights = weight_devices.iter().map(|weight| {
        let (major, minor) = numbers("--blkio-weight-device", &weight.path)?;
        Ok(WeightDevice { major, minor, weight: Some(weight.weight), leaf_weight: None })
    });
    let block = BlockIoResources {
        weight,
        leaf_weight: None,
        weight_device: weights.collect::<Result<_>>()?,
        throttle_read_bps_device: rates("--device-read-bps", read_bytes)?,
        throttle_write_bps_device: rates("--device-write-bps", write_bytes)?,
        throttle_read_iops_device: rates("--device-read-iops", read_operations)?,
        throttle_write_iops_device: rates("--device-write-iops", write_operations)?,
    };
    Ok((block != BlockIoResources::default()).then_some(block))
}

fn device(scene: &Scene<'_>, flag: &str, path: &Path) -> Result<(i64, i64)> {
    match scene.facts.devices.get(path).map(Vec::as_slice) {
        Some([device]) if device.kind == super::DeviceKind::Block => {
            Ok((device.major.into(), device.minor.into()))
        }
        _ => Err(invalid(format!("{flag} {}", path.display()), "this host has no such block device")),
    }
}
