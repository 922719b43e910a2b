//! A pod as podman describes it.

use bulkhead_engine::Pod;
use bulkhead_engine::request::Resources;
use serde_json::{Value, json};

use super::moment;

/// Everything about a pod.
pub(crate) fn pod(pod: &Pod) -> Value {
    let containers = pod
        .containers
        .iter()
        .map(|member| json!({ "Id": member.id, "Name": member.name, "State": member.state.to_string() }));
    let mut document = json!({
        "Id": pod.id,
        "Name": pod.name,
        "Created": moment(Some(pod.created)),
        "State": pod.state.to_string(),
        "Hostname": pod.hostname,
        "Labels": pod.labels(),
        "CreateCgroup": pod.cgroup.is_some(),
        "CgroupPath": pod.cgroup.clone().unwrap_or_default(),
        "CreateInfra": false,
        "InfraContainerID": "",
        "Network": pod.network(),
        "SharedNamespaces": Vec::from_iter(pod.request.share.names()),
        "NumContainers": pod.containers.len(),
        "Containers": Vec::from_iter(containers),
    });
    if let Value::Object(all) = &mut document {
        all.extend(limits(&pod.request.limits));
    }
    document
}

/// Those limits that were asked for, by podman's names where it has any.
fn limits(limits: &Resources) -> impl Iterator<Item = (String, Value)> {
    // What podman is told of processors it keeps as a quota, which is there for each period.
    let quota = limits.cpus.map(|cpus| (cpus.0 / 10_000, 100_000));
    let all = [
        ("memory_limit", limits.memory.map(|size| json!(size.0))),
        ("memory_reservation", limits.memory_reservation.map(|size| json!(size.0))),
        ("memory_swap", limits.memory_swap.map(|limit| json!(limit.signed()))),
        ("cpu_quota", quota.map(|(quota, _)| json!(quota)).or(limits.cpu_quota.map(|quota| json!(quota)))),
        ("cpu_period", quota.map(|(_, period)| json!(period)).or(limits.cpu_period.map(|it| json!(it)))),
        ("cpu_rt_runtime", limits.realtime_runtime.map(|it| json!(it))),
        ("cpu_rt_period", limits.realtime_period.map(|it| json!(it))),
        ("cpu_shares", limits.cpu_shares.map(|shares| json!(shares))),
        ("cpuset_cpus", limits.cpuset_cpus.as_ref().map(|list| json!(list))),
        ("cpuset_mems", limits.cpuset_mems.as_ref().map(|list| json!(list))),
        ("pids_limit", limits.pids.map(|limit| json!(limit.signed()))),
        ("blkio_weight", limits.block.weight.map(|weight| json!(weight))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
}
