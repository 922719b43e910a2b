//! The limits of a container's cgroup.
//!
//! Go's parser of JSON, and so runc, heeds no case, and a limit must not be passed over in silence because of that: every name
//! here is also known as it is met, capitalised like those of Go's structures. Both spellings at once are united as Go does,
//! see [`crate::twins`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{self, ParseError};
use crate::field::{closed_list, nullable, text, unset};

/// Lists what a container may use. A limit that is missing is left as it is.
///
/// Source: `config-linux.md`, "Control groups".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Which devices may be used, applied in this order.
    #[serde(alias = "Devices", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub devices: Vec<DeviceRule>,
    /// Memory.
    #[serde(alias = "Memory", skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryResources>,
    /// CPU time and CPUs.
    #[serde(alias = "CPU", alias = "Cpu", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuResources>,
    /// The number of tasks.
    #[serde(alias = "Pids", skip_serializing_if = "Option::is_none")]
    pub pids: Option<PidsResources>,
    /// Block devices.
    #[serde(rename = "blockIO", alias = "BlockIO", skip_serializing_if = "Option::is_none")]
    pub block_io: Option<BlockIoResources>,
    /// Huge pages, each size once.
    #[serde(alias = "HugepageLimits", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Network packets; cgroup v1 only.
    #[serde(alias = "Network", skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkResources>,
    /// RDMA, by device name.
    #[serde(alias = "Rdma", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub rdma: BTreeMap<String, RdmaResources>,
    /// Values for files of cgroup v2, by file name.
    #[serde(alias = "Unified", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// Reads the text of a resources document, such as `update --resources` takes.
    ///
    /// # Errors
    /// The first place that does not have the specification's form.
    pub fn from_json(text: &str) -> Result<Resources, ParseError> {
        error::parse(error::RESOURCES, text)
    }
}

/// Allows or denies the use of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allows, else denies.
    #[serde(alias = "Allow")]
    pub allow: bool,
    /// The type; missing means all, as [`DeviceRuleType::All`] does.
    #[serde(
        rename = "type",
        alias = "Type",
        default,
        deserialize_with = "text",
        skip_serializing_if = "Option::is_none"
    )]
    pub kind: Option<DeviceRuleType>,
    /// The major number; missing means all.
    #[serde(alias = "Major", skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// The minor number; missing means all.
    #[serde(alias = "Minor", skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// The kinds of use, of `r` (read), `w` (write) and `m` (mknod).
    #[serde(alias = "Access", default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

closed_list! {
    /// The devices that a rule is about.
    pub enum DeviceRuleType: "type of device rule" {
        /// All.
        All = "a",
        /// Character devices.
        Char = "c",
        /// Block devices.
        Block = "b",
    }
}

/// Limits of memory in bytes; -1 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryResources {
    /// Memory.
    #[serde(alias = "Limit", skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// The soft limit, to which the kernel pushes back under pressure.
    #[serde(alias = "Reservation", skip_serializing_if = "Option::is_none")]
    pub reservation: Option<i64>,
    /// Memory and swap together.
    #[serde(alias = "Swap", skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// Kernel memory; gone since Linux 5.4 and in cgroup v2.
    #[serde(alias = "Kernel", skip_serializing_if = "Option::is_none")]
    pub kernel: Option<i64>,
    /// Buffers of TCP sockets; cgroup v1 only.
    #[serde(rename = "kernelTCP", alias = "KernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<i64>,
    /// How readily memory is swapped, 0 to 100; cgroup v1 only.
    #[serde(alias = "Swappiness", skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u64>,
    /// Out of memory, processes wait instead of being killed; cgroup v1 only.
    #[serde(
        rename = "disableOOMKiller",
        alias = "DisableOOMKiller",
        skip_serializing_if = "Option::is_none"
    )]
    pub disable_oom_killer: Option<bool>,
    /// Child cgroups count too; always so in cgroup v2.
    #[serde(alias = "UseHierarchy", skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// An update below the present use is refused.
    #[serde(alias = "CheckBeforeUpdate", skip_serializing_if = "Option::is_none")]
    pub check_before_update: Option<bool>,
}

/// Limits of CPU time, in microseconds, and of CPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuResources {
    /// The weight among siblings, 2 to 262144, by default 1024.
    #[serde(alias = "Shares", skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// CPU time in each period; a negative value is no limit.
    #[serde(alias = "Quota", skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
    /// Unused time that may be saved up for later periods.
    #[serde(alias = "Burst", skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// The length of a period.
    #[serde(alias = "Period", skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// Time for real-time tasks in each of their periods; cgroup v1 only.
    #[serde(alias = "RealtimeRuntime", skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<i64>,
    /// The length of their period; cgroup v1 only.
    #[serde(alias = "RealtimePeriod", skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// The CPUs, a list such as `0-3,7`.
    #[serde(alias = "Cpus", default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// The memory nodes, a list such as `0-3,7`.
    #[serde(alias = "Mems", default, deserialize_with = "text", skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// 1 runs the tasks only when nothing else does, 0 ordinarily.
    #[serde(alias = "Idle", skip_serializing_if = "Option::is_none")]
    pub idle: Option<i64>,
}

/// The limit of the number of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsResources {
    /// The number; -1 is no limit.
    #[serde(alias = "Limit", skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Limits at block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIoResources {
    /// The weight among siblings, 10 to 1000.
    #[serde(alias = "Weight", skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight of the cgroup's own tasks against its child cgroups, 10 to 1000.
    #[serde(alias = "LeafWeight", skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// Weights at single devices.
    #[serde(alias = "WeightDevice", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    #[serde(
        alias = "ThrottleReadBpsDevice",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "unset"
    )]
    pub throttle_read_bps_device: Vec<ThrottleDevice>,
    /// Bytes written per second.
    #[serde(
        alias = "ThrottleWriteBpsDevice",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "unset"
    )]
    pub throttle_write_bps_device: Vec<ThrottleDevice>,
    /// Reads per second.
    #[serde(
        rename = "throttleReadIOPSDevice",
        alias = "ThrottleReadIOPSDevice",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "unset"
    )]
    pub throttle_read_iops_device: Vec<ThrottleDevice>,
    /// Writes per second.
    #[serde(
        rename = "throttleWriteIOPSDevice",
        alias = "ThrottleWriteIOPSDevice",
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "unset"
    )]
    pub throttle_write_iops_device: Vec<ThrottleDevice>,
}

/// The weights at one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightDevice {
    /// The device's major number.
    #[serde(alias = "Major")]
    pub major: i64,
    /// The device's minor number.
    #[serde(alias = "Minor")]
    pub minor: i64,
    /// The weight among siblings.
    #[serde(alias = "Weight", skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The weight of the cgroup's own tasks against its child cgroups.
    #[serde(alias = "LeafWeight", skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

/// A rate at one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleDevice {
    /// The device's major number.
    #[serde(alias = "Major")]
    pub major: i64,
    /// The device's minor number.
    #[serde(alias = "Minor")]
    pub minor: i64,
    /// Bytes or operations per second.
    #[serde(alias = "Rate")]
    pub rate: u64,
}

/// The limit of one size of huge pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// The size, such as `64KB`, `2MB` or `1GB`.
    #[serde(alias = "pagesize", alias = "PageSize", alias = "Pagesize")]
    pub page_size: String,
    /// Bytes.
    #[serde(alias = "Limit")]
    pub limit: u64,
}

/// How packets are marked; cgroup v1 only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkResources {
    /// The class of the container's packets, net_cls.
    #[serde(rename = "classID", alias = "ClassID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Priorities at single devices, net_prio.
    #[serde(alias = "Priorities", default, deserialize_with = "nullable", skip_serializing_if = "unset")]
    pub priorities: Vec<InterfacePriority>,
}

/// The priority of packets at one network device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfacePriority {
    /// The device's name on the host.
    #[serde(alias = "Name")]
    pub name: String,
    /// The priority.
    #[serde(alias = "Priority")]
    pub priority: u32,
}

/// Limits at one RDMA device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdmaResources {
    /// The number of handles.
    #[serde(alias = "HcaHandles", skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// The number of objects.
    #[serde(alias = "HcaObjects", skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Every field; the names below `rdma` and `unified` are not fields.
    fn every_limit() -> Value {
        json!({
            "devices": [{ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" }],
            "memory": { "limit": 1, "reservation": 2, "swap": 3, "kernel": 4, "kernelTCP": 5, "swappiness": 6,
                "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true },
            "cpu": { "shares": 1, "quota": 2, "burst": 3, "period": 4, "realtimeRuntime": 5, "realtimePeriod": 6,
                "cpus": "0", "mems": "0", "idle": 1 },
            "pids": { "limit": 1 },
            "blockIO": { "weight": 10, "leafWeight": 11,
                "weightDevice": [{ "major": 8, "minor": 0, "weight": 12, "leafWeight": 13 }],
                "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 1 }],
                "throttleWriteBpsDevice": [{ "major": 8, "minor": 0, "rate": 2 }],
                "throttleReadIOPSDevice": [{ "major": 8, "minor": 0, "rate": 3 }],
                "throttleWriteIOPSDevice": [{ "major": 8, "minor": 0, "rate": 4 }] },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 1 }],
            "network": { "classID": 1, "priorities": [{ "name": "eth0", "priority": 1 }] },
            "rdma": { "mlx5_1": { "hcaHandles": 1, "hcaObjects": 2 } },
            "unified": { "memory.high": "1" },
        })
    }

    fn capitalised(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let rename = |(name, value): (String, Value)| match name.as_str() {
                    "unified" => ("Unified".to_owned(), value),
                    "cpu" => ("CPU".to_owned(), capitalised(value)),
                    _ => (name[..1].to_uppercase() + &name[1..], capitalised(value)),
                };
                Value::Object(fields.into_iter().map(rename).collect())
            }
            Value::Array(items) => Value::Array(items.into_iter().map(capitalised).collect()),
            other => other,
        }
    }

    #[test]
    fn names_are_known_as_go_writes_them() {
        let expected = Resources::from_json(&every_limit().to_string()).unwrap();
        assert_eq!(serde_json::to_value(&expected).unwrap(), every_limit(), "it has every field");
        let capitalised = capitalised(every_limit()).to_string().replace("Mlx5_1", "mlx5_1");
        assert_eq!(Resources::from_json(&capitalised).unwrap(), expected);
        for name in ["pagesize", "Pagesize"] {
            let text = format!(r#"{{"hugepageLimits": [{{"{name}": "2MB", "limit": 1}}]}}"#);
            assert_eq!(
                Resources::from_json(&text).unwrap().hugepage_limits,
                expected.hugepage_limits,
                "{name}"
            );
        }
    }

    #[test]
    fn names_that_are_there_twice_are_united_as_by_go() {
        let cpu = |text: &str| Resources::from_json(text).unwrap().cpu;
        let both =
            Some(CpuResources { shares: Some(2), cpus: Some("0".to_owned()), ..CpuResources::default() });
        for text in [
            r#"{"cpu": {"shares": 2}, "CPU": {"Cpus": "0"}}"#,
            r#"{"CPU" : { "Cpus":"0" } , "pids":{"limit":1}, "cpu" :{"shares":2}}"#,
            r#"{"cpu": {"shares": 2}, "cpu": {"cpus": "0"}}"#,
            r#"{"cpu": {"shares": 2, "cpus": "1"}, "CPU": {"Cpus": "0"}}"#,
            r#"{"cpu": {"shares": 2}, "CPU": {"Cpus": "0"}, "Cpu": {"Cpus": "0", "cpus": "0"}}"#,
            r#"{"cPu": {"shares": 2}, "CPU": {"Cpus": "}1"}, "cpu": {"cpus": "0"}}"#,
            r#"{"cpu": {"shares": 1, "Shares": 2, "Cpus": "0"}, "CPU": {}}"#,
            r#"{"cpu": {}, "\u0043PU": {"shares": 2, "cpus": "0"}}"#,
            r#"{"cpu": {"quota": 1}, "CPU": null, "cpu": {"shares": 2, "cpus": "0"}}"#,
            "{\n\"cpu\": {\n},\n\"CPU\": {\"shares\": 2, \"Cpus\": \"0\"}\n}",
        ] {
            assert_eq!(cpu(text), both, "{text}");
        }
        assert_eq!(cpu(r#"{"CPU": {"cpus": "0"}, "cpu": null}"#), None);
        assert_eq!(cpu(r#"{"CPU": {}, "cpu": {}}"#), Some(CpuResources::default()));
        let maps = r#"{"unified": {"a": "1", "b": "1"}, "Unified": {"a": "2", "A": "3"}}"#;
        let unified = Resources::from_json(maps).unwrap().unified;
        assert_eq!(serde_json::to_value(unified).unwrap(), json!({ "a": "2", "b": "1", "A": "3" }));
        let inside = r#"{"devices": [{"allow": true, "Allow": false}]}"#;
        assert_eq!(Resources::from_json(inside).unwrap().devices, [DeviceRule::default()]);
    }

    #[test]
    fn what_is_wrong_beside_names_that_are_there_twice_is_told() {
        for (text, expected) in [
            (
                r#"{"cpu": {"shares": 1}, "CPU": {"Shares": "x"}}"#,
                r#"resources: /CPU/Shares: invalid type: string "x", expected u64 (line 1 column 44)"#,
            ),
            (
                r#"{"cpu": {"shares": 1}, "CPU": 5, "CPU": {}}"#,
                "resources: /CPU: invalid type: integer `5`, expected struct CpuResources (line 1 column 31)",
            ),
            (
                r#"{"cpu": {"shares": 1}, "CPU": {], "cpu": {}}"#,
                "resources: /CPU: key must be a string (line 1 column 32)",
            ),
        ] {
            assert_eq!(Resources::from_json(text).unwrap_err().to_string(), expected, "{text}");
        }
        for text in [
            // Go denies what has the type c.
            r#"{"devices": [{"allow": true, "type": "c"}], "Devices": [{"allow": false}]}"#,
            // Go keeps the first, or forgets it.
            r#"{"cpu": {"cpus": "0", "Cpus": null}}"#,
            r#"{"cpu": {"shares": 2, "Shares": null}}"#,
        ] {
            let error = Resources::from_json(text).unwrap_err();
            let said = error.reason().ends_with("`, which cannot be united with the first");
            assert!(said && error.reason().starts_with("duplicate field `"), "{text}: {error}");
        }
        let many = format!("{{{}\"cpu\": {{}}}}", "\"cpu\": {}, ".repeat(64));
        Resources::from_json(&many).unwrap();
        let error = Resources::from_json(&many.replacen('{', r#"{"CPU": {},"#, 1)).unwrap_err();
        assert!(error.to_string().contains("/cpu: duplicate field `cpu`"), "{error}");
    }

    /// What is wrong is behind the last byte that was looked at, here `^`.
    #[test]
    fn what_is_wrong_behind_names_that_are_there_twice_is_told_with_its_place() {
        let twins =
            "\"resources\": {\n\"cpu\": {\n\"shares\": 1}, \"CPU\":\n{\"Shares\": 2,\n\"cpus\": \"0\"}}";
        for marked in [
            format!("{{\n\"linux\": {{{twins}}},\n\"process\": {{\"cwd\": 5^}}\n}}"),
            format!("{{\"linux\": {{{twins}, \"cgroupsPath\": 7^}}}}"),
            format!("{{\"ociVersion\": \"1.3.0\", \"linux\": {{{twins}}}}} ^x"),
        ] {
            let end = marked.find('^').unwrap();
            let text = marked.replace('^', "");
            let error = crate::Config::from_json(&text).unwrap_err();
            let end = if text[end..].starts_with('x') { end + 1 } else { end };
            let line = text[..end].matches('\n').count() + 1;
            let column = end - text[..end].rfind('\n').map_or(0, |newline| newline + 1);
            assert_eq!((error.line(), error.column()), (line, column), "{marked}: {error}");
        }
    }

    #[test]
    fn only_limits_may_be_there_twice() {
        let config = |linux: &str| {
            crate::Config::from_json(&format!(r#"{{"ociVersion": "1.3.0", "linux": {linux}}}"#))
        };
        let twins = r#"{"resources": {"cpu": {"shares": 2}, "CPU": {"Cpus": "0"}}}"#;
        let cpu = config(twins).unwrap().linux.unwrap().resources.unwrap().cpu.unwrap();
        assert_eq!((cpu.shares, cpu.cpus.as_deref()), (Some(2), Some("0")));
        for twins in [r#"{"resources": {}, "resources": {}}"#, r#"{"seccomp": null, "seccomp": null}"#] {
            let error = config(twins).unwrap_err();
            assert!(error.reason().starts_with("duplicate field"), "{twins}: {error}");
        }
    }
}
