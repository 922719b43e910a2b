//! How much a container may use.

use bulkhead_engine::request::{
    Cpus, Device, DeviceRule, Gpus, Limit, Request, Resources, Size, Throttle, Weight,
};
use clap::Args;

/// Limits that `update` can change.
#[derive(Args, Debug)]
pub(crate) struct Limits {
    /// Limit memory, such as 512m
    #[arg(short, long, value_name = "BYTES")]
    memory: Option<Size>,
    /// Begin to take memory back above this
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<Size>,
    /// Limit memory and swap together; -1 for all swap
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true, value_parser = Limit::of_bytes)]
    memory_swap: Option<Limit>,
    /// Limit processors, such as 1.5
    #[arg(long, value_name = "N")]
    cpus: Option<Cpus>,
    /// Weight among those who want a processor; 1024 is usual
    #[arg(short, long, value_name = "N")]
    cpu_shares: Option<u64>,
    /// Period of the scheduler in microseconds
    #[arg(long, value_name = "N")]
    cpu_period: Option<u64>,
    /// Microseconds of a processor in each period
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Period of the real-time scheduler in microseconds
    #[arg(long, value_name = "N")]
    cpu_rt_period: Option<u64>,
    /// Microseconds of real time in each period
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// Run on these processors, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Use memory of these nodes
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Limit processes and threads; -1 for none
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = Limit::of_tasks)]
    pids_limit: Option<Limit>,
    /// Weight at block devices, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
}

impl Limits {
    pub(crate) fn apply(self, resources: &mut Resources) {
        let Limits {
            memory,
            memory_reservation,
            memory_swap,
            cpus,
            cpu_shares,
            cpu_period,
            cpu_quota,
            cpu_rt_period,
            cpu_rt_runtime,
            cpuset_cpus,
            cpuset_mems,
            pids_limit,
            blkio_weight,
        } = self;
        resources.memory = memory;
        resources.memory_reservation = memory_reservation;
        resources.memory_swap = memory_swap;
        resources.cpus = cpus;
        resources.cpu_shares = cpu_shares;
        resources.cpu_period = cpu_period;
        resources.cpu_quota = cpu_quota;
        resources.realtime_period = cpu_rt_period;
        resources.realtime_runtime = cpu_rt_runtime;
        resources.cpuset_cpus = cpuset_cpus;
        resources.cpuset_mems = cpuset_mems;
        resources.pids = pids_limit;
        resources.block.weight = blkio_weight;
    }
}

/// Limits for life, and devices.
#[derive(Args, Debug)]
pub(super) struct Devices {
    /// Tune how readily memory is swapped, 0 to 100; -1 leaves it
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_parser = clap::value_parser!(i8).range(-1..=100))]
    memory_swappiness: Option<i8>,
    /// Kill nobody for want of memory, but wait
    #[arg(long)]
    oom_kill_disable: bool,
    /// Weight at one block device
    #[arg(long, value_name = "DEVICE:N")]
    blkio_weight_device: Vec<Weight>,
    /// Limit bytes read in a second
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = Throttle::of_bytes)]
    device_read_bps: Vec<Throttle>,
    /// Limit bytes written in a second
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = Throttle::of_bytes)]
    device_write_bps: Vec<Throttle>,
    /// Limit reads in a second
    #[arg(long, value_name = "DEVICE:N", value_parser = Throttle::of_operations)]
    device_read_iops: Vec<Throttle>,
    /// Limit writes in a second
    #[arg(long, value_name = "DEVICE:N", value_parser = Throttle::of_operations)]
    device_write_iops: Vec<Throttle>,
    /// Put the container's cgroup below this one
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// Give a device, by path or by its name of CDI
    #[arg(long, value_name = "DEVICE[:TARGET[:rwm]]")]
    device: Vec<Device>,
    /// Allow devices by number, such as 'c 1:3 rwm'
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<DeviceRule>,
    /// Give graphics processors: all, or device=N
    #[arg(long, value_name = "GPUS")]
    gpus: Option<Gpus>,
}

impl Devices {
    pub(super) fn apply(self, request: &mut Request) {
        let Devices {
            memory_swappiness,
            oom_kill_disable,
            blkio_weight_device,
            device_read_bps,
            device_write_bps,
            device_read_iops,
            device_write_iops,
            cgroup_parent,
            device,
            device_cgroup_rule,
            gpus,
        } = self;
        let resources = &mut request.resources;
        resources.memory_swappiness = memory_swappiness.and_then(|value| value.try_into().ok());
        resources.oom_kill_disable = oom_kill_disable;
        resources.block.weight_devices = blkio_weight_device;
        resources.block.read_bytes = device_read_bps;
        resources.block.write_bytes = device_write_bps;
        resources.block.read_operations = device_read_iops;
        resources.block.write_operations = device_write_iops;
        resources.cgroup_parent = cgroup_parent;
        for device in device {
            request.devices.add(device);
        }
        request.devices.rules = device_cgroup_rule;
        request.devices.cdi.extend(gpus.into_iter().flat_map(|Gpus(names)| names));
    }
}
