//! CPU time.

use bulkhead_spec::CpuResources;

use super::{Draft, Occasion, Value, given, within};
use crate::error::{Error, Result};
use crate::host::Version;

/// The range of v1 shares; the kernel clamps silently, and a limit that is not what was asked for helps nobody.
const SHARES: (u64, u64) = (2, 262_144);

/// The shortest and longest period of bandwidth control, and the smallest quota, in microseconds.
const PERIOD: (u64, u64) = (1_000, 1_000_000);

/// The period of a new cgroup, in microseconds.
const PERIOD_DEFAULT: u64 = 100_000;

/// The files of the one weight on v2.
pub(crate) const WEIGHTS: [&str; 2] = ["cpu.weight", "cpu.weight.nice"];

impl Draft<'_> {
    pub(super) fn cpu(&mut self, cpu: &CpuResources) -> Result<()> {
        let CpuResources {
            shares,
            quota,
            burst,
            period,
            realtime_runtime,
            realtime_period,
            cpus: _, // those two are the cpuset controller's
            mems: _,
            idle,
        } = cpu;
        let period = given(*period);
        if let Some(period) = period {
            within("/cpu/period", period, PERIOD.0, PERIOD.1)?;
        }
        let quota = Quota::new(*quota)?;
        if let (Some(Quota::Micros(quota)), Some(burst)) = (quota, *burst)
            && burst > quota
        {
            return Err(Error::invalid("/cpu/burst", format!("{burst} is above the quota {quota}")));
        }
        if let Some(idle) = *idle {
            within("/cpu/idle", idle, 0, 1)?;
        }
        let realtime = (given(*realtime_runtime), given(*realtime_period));
        if let (Some(runtime), Some(period)) = realtime
            && u64::try_from(runtime).is_ok_and(|runtime| runtime > period)
        {
            let reason = format!("{runtime} is above the realtime period {period}");
            return Err(Error::invalid("/cpu/realtimeRuntime", reason));
        }
        let shares = given(*shares);
        match self.version("cpu") {
            Version::V1 => {
                if let Some(shares) = shares {
                    within("/cpu/shares", shares, SHARES.0, SHARES.1)?;
                    self.set(Version::V1, "cpu", "cpu.shares", &shares).or_later();
                }
                self.bandwidth_v1(period, *burst, quota);
                if let Some(idle) = idle {
                    self.set(Version::V1, "cpu", "cpu.idle", &idle);
                }
                self.realtime(realtime.0, realtime.1);
            }
            Version::V2 => {
                if realtime != (None, None) {
                    let place =
                        if realtime.0.is_some() { "/cpu/realtimeRuntime" } else { "/cpu/realtimePeriod" };
                    return Err(Error::invalid(place, "cgroup v2 has no realtime limits"));
                }
                if let Some(shares) = shares {
                    // An idle cgroup refuses a weight; if this very update ends its idleness, the second try works.
                    self.set(Version::V2, "cpu", "cpu.weight", &weight(shares)).or_later();
                }
                if let Some(idle) = idle {
                    self.set(Version::V2, "cpu", "cpu.idle", &idle);
                }
                self.bandwidth_v2(period, *burst, quota);
            }
        }
        Ok(())
    }

    /// Period, quota and burst bound each other and the parent's; what is refused at first may fit at the end.
    fn bandwidth_v1(&mut self, period: Option<u64>, burst: Option<u64>, quota: Option<Quota>) {
        if let Some(period) = period {
            self.set(Version::V1, "cpu", "cpu.cfs_period_us", &period).or_later();
        }
        if let Some(burst) = burst {
            // Linux 5.14
            self.set(Version::V1, "cpu", "cpu.cfs_burst_us", &burst).or_later().if_there();
        }
        match quota {
            Some(Quota::Micros(quota)) => {
                self.set(Version::V1, "cpu", "cpu.cfs_quota_us", &quota).or_later();
            }
            Some(Quota::Unlimited) => {
                self.set(Version::V1, "cpu", "cpu.cfs_quota_us", "-1").or_later();
            }
            None => {}
        }
    }

    fn bandwidth_v2(&mut self, period: Option<u64>, burst: Option<u64>, quota: Option<Quota>) {
        if let Some(burst) = burst {
            self.set(Version::V2, "cpu", "cpu.max.burst", &burst).or_later();
        }
        let quota = quota.map(|quota| match quota {
            Quota::Micros(quota) => quota.to_string(),
            Quota::Unlimited => "max".to_owned(),
        });
        let value = match (quota, period) {
            (None, None) => return,
            (Some(quota), Some(period)) => Value::Text(format!("{quota} {period}")),
            // A single word leaves the period as it is.
            (Some(quota), None) if self.occasion == Occasion::Update => Value::Text(quota),
            (Some(quota), None) => Value::Text(format!("{quota} {PERIOD_DEFAULT}")),
            (None, Some(period)) if self.occasion == Occasion::Update => {
                Value::KeepFirstWord(period.to_string())
            }
            (None, Some(period)) => Value::Text(format!("max {period}")),
        };
        self.set(Version::V2, "cpu", "cpu.max", "").or_later().value = value;
    }

    fn realtime(&mut self, runtime: Option<i64>, period: Option<u64>) {
        if let Some(period) = period {
            self.set(Version::V1, "cpu", "cpu.rt_period_us", &period).or_later().for_parents_too();
        }
        if let Some(runtime) = runtime {
            self.set(Version::V1, "cpu", "cpu.rt_runtime_us", &runtime).or_later().for_parents_too();
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quota {
    Micros(u64),
    Unlimited,
}

impl Quota {
    fn new(value: Option<i64>) -> Result<Option<Self>> {
        let Some(value) = given(value) else { return Ok(None) };
        match u64::try_from(value) {
            Ok(micros) if micros < PERIOD.0 => {
                Err(Error::invalid("/cpu/quota", format!("{micros} is below {} microseconds", PERIOD.0)))
            }
            Ok(micros) => Ok(Some(Self::Micros(micros))),
            Err(_) => Ok(Some(Self::Unlimited)),
        }
    }
}

/// Converts v1 shares (2 to 262144, by default 1024) to a v2 weight (1 to 10000, by default 100).
///
/// The exponent is the quadratic curve through the two ends and the two defaults that runc 1.3.2 and crun 1.23
/// introduced: `10^((l² + 125 l) / 612 − 7/34)` with `l = log2(shares)`. The older linear conversion gave a default
/// container weight 39.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::weight;
    use crate::plan::testing::*;

    #[test]
    fn shares_become_weights_on_the_curve_of_runc() {
        // From the table of the conversion's unit test and its documentation.
        for (shares, expected) in [
            (0, 1),
            (1, 1),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (999_999_999, 10_000),
            (512, 59),
            (10, 4),
        ] {
            assert_eq!(weight(shares), expected, "{shares} shares");
        }
        assert!((2..262_144).all(|shares| weight(shares) <= weight(shares + 1)), "more shares weigh no less");
    }

    #[test]
    fn v1_writes_time_in_an_order_that_bounds_allow() {
        let json = r#"{"cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 1000, "idle": 1,
            "realtimeRuntime": 950000, "realtimePeriod": 1000000}}"#;
        assert_eq!(
            create(&legacy(), json),
            [
                "cpu.shares 512 [or later]",
                "cpu.cfs_period_us 100000 [or later]",
                "cpu.cfs_burst_us 1000 [if there] [or later]",
                "cpu.cfs_quota_us 50000 [or later]",
                "cpu.idle 1",
                "cpu.rt_period_us 1000000 [or later]",
                "cpu.rt_runtime_us 950000 [or later]",
            ]
        );
        assert_eq!(create(&legacy(), r#"{"cpu": {"quota": -1}}"#), ["cpu.cfs_quota_us -1 [or later]"]);
    }

    #[test]
    fn v2_joins_quota_and_period() {
        for (json, on_create, on_update) in [
            (r#"{"quota": 5000, "period": 10000}"#, "cpu.max 5000 10000", "cpu.max 5000 10000"),
            (r#"{"quota": 5000}"#, "cpu.max 5000 100000", "cpu.max 5000"),
            (r#"{"quota": -1}"#, "cpu.max max 100000", "cpu.max max"),
            (r#"{"period": 10000}"#, "cpu.max max 10000", "cpu.max … 10000"),
        ] {
            let json = format!(r#"{{"cpu": {json}}}"#);
            assert_eq!(create(&unified(), &json), [format!("{on_create} [or later]")], "{json}");
            assert_eq!(update(&unified(), &json), [format!("{on_update} [or later]")], "{json}");
        }
        assert_eq!(
            create(
                &unified(),
                r#"{"cpu": {"shares": 1024, "idle": 0, "burst": 0, "quota": 0, "period": 0}}"#
            ),
            ["cpu.weight 100 [or later]", "cpu.idle 0", "cpu.max.burst 0 [or later]"]
        );
    }

    #[test]
    fn times_out_of_range_are_refused_with_their_place() {
        for (json, message) in [
            (r#"{"quota": 999}"#, "/cpu/quota: 999 is below 1000 microseconds"),
            (r#"{"period": 999}"#, "/cpu/period: 999 is not in the range from 1000 to 1000000"),
            (r#"{"period": 1000001}"#, "/cpu/period: 1000001 is not in the range from 1000 to 1000000"),
            (r#"{"quota": 5000, "burst": 5001}"#, "/cpu/burst: 5001 is above the quota 5000"),
            (r#"{"idle": 2}"#, "/cpu/idle: 2 is not in the range from 0 to 1"),
            (
                r#"{"realtimeRuntime": 2, "realtimePeriod": 1}"#,
                "/cpu/realtimeRuntime: 2 is above the realtime period 1",
            ),
        ] {
            assert_eq!(refused(&legacy(), &format!(r#"{{"cpu": {json}}}"#)), message);
        }
        assert_eq!(
            refused(&legacy(), r#"{"cpu": {"shares": 1}}"#),
            "/cpu/shares: 1 is not in the range from 2 to 262144"
        );
        assert_eq!(
            refused(&unified(), r#"{"cpu": {"realtimePeriod": 1}}"#),
            "/cpu/realtimePeriod: cgroup v2 has no realtime limits"
        );
    }
}
