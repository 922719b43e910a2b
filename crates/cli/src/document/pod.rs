//! A pod as podman describes it.

use bulkhead_engine::Pod;
use serde_json::{Value, json};

use super::moment;

/// Everything about a pod.
pub(crate) fn pod(pod: &Pod) -> Value {
    let containers = pod
        .containers
        .iter()
        .map(|member| json!({ "Id": member.id, "Name": member.name, "State": member.state.to_string() }));
    json!({
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
    })
}
