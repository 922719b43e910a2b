//! How much a container may use.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Cpus, Limit, Malformed, Size};

/// The limits of a container. What is not given is left to the kernel's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `--cpus`: processors' worth of time; excludes quota and period.
    #[serde(skip_serializing_if = "super::is_default")]
    pub cpus: Option<Cpus>,
    /// `--cpu-shares`: the weight among siblings, 2 to 262144; 0 is the default, 1024.
    #[serde(skip_serializing_if = "super::is_default")]
    pub cpu_shares: Option<u64>,
    /// `--cpu-period` in microseconds, 1000 to 1000000.
    #[serde(skip_serializing_if = "super::is_default")]
    pub cpu_period: Option<u64>,
    /// `--cpu-quota` in microseconds of each period, at least 1000; -1 is none.
    #[serde(skip_serializing_if = "super::is_default")]
    pub cpu_quota: Option<i64>,
    /// `--cpu-rt-period` in microseconds; cgroup v1 only.
    #[serde(skip_serializing_if = "super::is_default")]
    pub realtime_period: Option<u64>,
    /// `--cpu-rt-runtime` in microseconds; cgroup v1 only.
    #[serde(skip_serializing_if = "super::is_default")]
    pub realtime_runtime: Option<i64>,
    /// `--cpuset-cpus`: a list such as `0-3,7`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`: a list such as `0-3,7`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub cpuset_mems: Option<String>,
    /// `--memory`; 0 is no limit.
    #[serde(skip_serializing_if = "super::is_default")]
    pub memory: Option<Size>,
    /// `--memory-reservation`; 0 is none.
    #[serde(skip_serializing_if = "super::is_default")]
    pub memory_reservation: Option<Size>,
    /// `--memory-swap`: memory and swap together, in bytes; without it twice the memory.
    #[serde(skip_serializing_if = "super::is_default")]
    pub memory_swap: Option<Limit>,
    /// `--memory-swappiness`, 0 to 100; cgroup v1 only.
    #[serde(skip_serializing_if = "super::is_default")]
    pub memory_swappiness: Option<u8>,
    /// `--oom-kill-disable`; cgroup v1 only.
    #[serde(skip_serializing_if = "super::is_default")]
    pub oom_kill_disable: bool,
    /// `--pids-limit`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub pids: Option<Limit>,
    /// Rates and weights at block devices.
    #[serde(skip_serializing_if = "super::is_default")]
    pub block: BlockIo,
    /// `--shm-size`; without it 64 MiB.
    #[serde(skip_serializing_if = "super::is_default")]
    pub shm_size: Option<Size>,
    /// `--cgroup-parent`: the cgroup in which the container's is made.
    #[serde(skip_serializing_if = "super::is_default")]
    pub cgroup_parent: Option<String>,
}

/// Limits at block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// `--blkio-weight` among siblings, 10 to 1000; 0 is the default.
    #[serde(skip_serializing_if = "super::is_default")]
    pub weight: Option<u16>,
    /// `--blkio-weight-device`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub weight_devices: Vec<Weight>,
    /// `--device-read-bps`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub read_bytes: Vec<Throttle>,
    /// `--device-write-bps`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub write_bytes: Vec<Throttle>,
    /// `--device-read-iops`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub read_operations: Vec<Throttle>,
    /// `--device-write-iops`.
    #[serde(skip_serializing_if = "super::is_default")]
    pub write_operations: Vec<Throttle>,
}

/// A weight at one block device: `PATH:WEIGHT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// The device's node on the host.
    pub path: PathBuf,
    /// 10 to 1000, or 0 for the default.
    pub weight: u16,
}

impl FromStr for Weight {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = || {
            Malformed::new(
                "weight of a device",
                text,
                "expected /dev/NAME:WEIGHT with a weight from 10 to 1000, or 0",
            )
        };
        let (path, weight) = device_and_value(text).ok_or_else(wrong)?;
        let weight =
            weight.parse().ok().filter(|weight| matches!(weight, 0 | 10..=1000)).ok_or_else(wrong)?;
        Ok(Self { path, weight })
    }
}

/// A rate at one block device: `PATH:RATE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// The device's node on the host.
    pub path: PathBuf,
    /// Bytes or operations per second.
    pub rate: u64,
}

impl Throttle {
    /// Reads a rate in bytes per second, a [`Size`].
    ///
    /// # Errors
    /// A path not below `/dev`, and what is no size.
    pub fn of_bytes(text: &str) -> Result<Self, Malformed> {
        Self::read(text, "/dev/NAME:SIZE, such as /dev/sda:10mb", |rate| {
            rate.parse().ok().map(|Size(rate)| rate)
        })
    }

    /// Reads a rate in operations per second.
    ///
    /// # Errors
    /// A path not below `/dev`, and what is no number.
    pub fn of_operations(text: &str) -> Result<Self, Malformed> {
        Self::read(text, "/dev/NAME:NUMBER, such as /dev/sda:1000", |rate| rate.parse().ok())
    }

    fn read(text: &str, form: &str, rate: impl FnOnce(&str) -> Option<u64>) -> Result<Self, Malformed> {
        let read = device_and_value(text).and_then(|(path, value)| Some(Self { path, rate: rate(value)? }));
        read.ok_or_else(|| Malformed::new("rate of a device", text, format!("expected {form}")))
    }
}

/// Names below /dev/disk/by-path have colons.
fn device_and_value(text: &str) -> Option<(PathBuf, &str)> {
    let (path, value) = text.rsplit_once(':')?;
    path.starts_with("/dev/").then(|| (PathBuf::from(path), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_weights_and_rates() {
        assert_eq!("/dev/sda:500".parse(), Ok(Weight { path: "/dev/sda".into(), weight: 500 }));
        for text in ["/dev/sda", "/dev/sda:9", "/dev/sda:1001", "/dev/sda:x", "sda:100", "/dev/sda:"] {
            assert!(text.parse::<Weight>().is_err(), "{text}");
        }
        let by_path = "/dev/disk/by-path/pci-0000:00:1f.2";
        let throttle = Throttle { path: by_path.into(), rate: 10 << 20 };
        assert_eq!(Throttle::of_bytes(&format!("{by_path}:10mb")), Ok(throttle));
        assert_eq!(Throttle::of_operations("/dev/sda:1000").unwrap().rate, 1000);
        for text in ["/dev/sda", "/dev/sda:-1", "sda:1", "/dev/sda:1.5"] {
            assert!(Throttle::of_operations(text).is_err(), "{text}");
        }
    }
}
