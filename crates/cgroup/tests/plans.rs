//! Whatever a configuration says, a plan holds no value that could set something else, and making it never panics.

use bulkhead_cgroup::{Devices, Host, Plan};
use bulkhead_spec::{
    BlockIoResources, CpuResources, DeviceRule, DeviceRuleType, HugepageLimit, InterfacePriority,
    MemoryResources, NetworkResources, PidsResources, RdmaResources, Resources, ThrottleDevice, WeightDevice,
};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

/// Text that is often nearly valid, and sometimes hostile.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9]{1,8}",
        "[0-9]{1,3}(-[0-9]{1,3})?(,[0-9]{1,2})?",
        "(memory|cpu|io|cgroup|hugetlb)\\.[a-z.]{1,8}",
        "[1-9][0-9]{0,3}(KB|MB|GB)",
        "[rwm]{1,3}",
        "[a-z/.\\n\\r\\x00 :=0-9-]{0,12}",
        any::<String>(),
    ]
}

/// Numbers around the limits of what is valid.
fn signed() -> impl Strategy<Value = i64> {
    prop_oneof![-3_i64..20, 900_i64..1_100_000, any::<i64>()]
}

fn unsigned() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..20, 900_u64..1_100_000, any::<u64>()]
}

fn memory() -> impl Strategy<Value = MemoryResources> {
    (of(signed()), of(signed()), of(signed()), of(unsigned()), of(any::<bool>()), of(any::<bool>())).prop_map(
        |(limit, reservation, swap, swappiness, disable_oom_killer, check_before_update)| MemoryResources {
            limit,
            reservation,
            swap,
            swappiness,
            disable_oom_killer,
            check_before_update,
            ..MemoryResources::default()
        },
    )
}

fn cpu() -> impl Strategy<Value = CpuResources> {
    let times = (of(unsigned()), of(signed()), of(unsigned()), of(unsigned()), of(signed()), of(unsigned()));
    (times, of(text()), of(text()), of(signed())).prop_map(|(times, cpus, mems, idle)| {
        let (shares, quota, burst, period, realtime_runtime, realtime_period) = times;
        CpuResources { shares, quota, burst, period, realtime_runtime, realtime_period, cpus, mems, idle }
    })
}

fn throttles() -> impl Strategy<Value = Vec<ThrottleDevice>> {
    vec(
        (signed(), signed(), unsigned()).prop_map(|(major, minor, rate)| ThrottleDevice {
            major,
            minor,
            rate,
        }),
        0..2,
    )
}

fn block_io() -> impl Strategy<Value = BlockIoResources> {
    let device = (signed(), signed(), of(any::<u16>()), of(any::<u16>()))
        .prop_map(|(major, minor, weight, leaf_weight)| WeightDevice { major, minor, weight, leaf_weight });
    (of(0_u16..1100), of(0_u16..1100), vec(device, 0..2), throttles(), throttles(), throttles()).prop_map(
        |(weight, leaf_weight, weight_device, reads, writes, operations)| BlockIoResources {
            weight,
            leaf_weight,
            weight_device,
            throttle_read_bps_device: reads,
            throttle_write_bps_device: writes,
            throttle_read_iops_device: operations.clone(),
            throttle_write_iops_device: operations,
        },
    )
}

fn devices() -> impl Strategy<Value = Vec<DeviceRule>> {
    let kind =
        prop_oneof![Just(DeviceRuleType::All), Just(DeviceRuleType::Char), Just(DeviceRuleType::Block)];
    let rule = (any::<bool>(), of(kind), of(signed()), of(signed()), of(text()))
        .prop_map(|(allow, kind, major, minor, access)| DeviceRule { allow, kind, major, minor, access });
    vec(rule, 0..3)
}

fn network() -> impl Strategy<Value = NetworkResources> {
    let priority = (text(), any::<u32>()).prop_map(|(name, priority)| InterfacePriority { name, priority });
    (of(any::<u32>()), vec(priority, 0..2))
        .prop_map(|(class_id, priorities)| NetworkResources { class_id, priorities })
}

fn resources() -> impl Strategy<Value = Resources> {
    let rdma = (of(any::<u32>()), of(any::<u32>()))
        .prop_map(|(hca_handles, hca_objects)| RdmaResources { hca_handles, hca_objects });
    let hugepages = (text(), unsigned()).prop_map(|(page_size, limit)| HugepageLimit { page_size, limit });
    let small = (of(of(signed()).prop_map(|limit| PidsResources { limit })), vec(hugepages, 0..2));
    let maps = (btree_map(text(), rdma, 0..2), btree_map(text(), text(), 0..3));
    (devices(), of(memory()), of(cpu()), of(block_io()), of(network()), small, maps).prop_map(
        |(devices, memory, cpu, block_io, network, (pids, hugepage_limits), (rdma, unified))| Resources {
            devices,
            memory,
            cpu,
            pids,
            block_io,
            hugepage_limits,
            network,
            rdma,
            unified,
        },
    )
}

/// Parts of a resources object, so that one bad value does not hide the others.
fn parts(all: &Resources) -> Vec<Resources> {
    let Resources { devices, memory, cpu, pids, block_io, hugepage_limits, network, rdma, unified } =
        all.clone();
    let none = Resources::default;
    vec![
        all.clone(),
        Resources { devices, ..none() },
        Resources { memory, ..none() },
        Resources { cpu, ..none() },
        Resources { pids, ..none() },
        Resources { block_io, ..none() },
        Resources { hugepage_limits, ..none() },
        Resources { network, ..none() },
        Resources { rdma, ..none() },
        Resources { unified, ..none() },
    ]
}

fn hosts() -> Vec<Host> {
    let v1 = "1 0 0:1 / /c/a rw - cgroup x rw,cpu,cpuacct,cpuset,memory,pids,blkio,devices,rdma\n";
    let v2 = "2 0 0:2 / /c/b rw - cgroup2 x rw\n";
    [v1.to_owned(), v2.to_owned(), format!("{v1}{v2}")]
        .iter()
        .filter_map(|mountinfo| Host::from_mountinfo(mountinfo).ok())
        .collect()
}

fn check(plan: &Plan) -> Result<(), TestCaseError> {
    for write in plan.writes() {
        let file = write.file();
        prop_assert!(!file.is_empty() && !file.contains(['/', '\0', '\n']), "file {file:?}");
        prop_assert!(file.contains('.') && !file.starts_with('.'), "file {file:?} is one of a controller");
        prop_assert!(file != "cgroup.procs" && file != "cgroup.kill", "processes are not moved or killed");
        if let Some(value) = write.value() {
            prop_assert!(!value.is_empty() && !value.contains(['\0', '\n', '\r']), "{file} = {value:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_plan_smuggles_nothing(all in resources()) {
        let hosts = hosts();
        prop_assert_eq!(hosts.len(), 3);
        for host in hosts {
            for part in parts(&all) {
                for plan in [
                    Plan::for_container(Some(&part), &host, Devices::Enforced),
                    Plan::for_update(&part, &host),
                ] {
                    match plan {
                        Ok(plan) => check(&plan)?,
                        Err(error) => prop_assert!(error.to_string().starts_with('/'), "{error} names its place"),
                    }
                }
            }
        }
    }
}
