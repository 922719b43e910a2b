//! Block input and output.

use bulkhead_spec::{BlockIoResources, ThrottleDevice, WeightDevice};

use super::{Draft, given, within};
use crate::error::{Error, Result};
use crate::host::Version;

/// The range of weights in the configuration.
const WEIGHT: (u16, u16) = (10, 1000);

/// The largest numbers of a device node: 12 and 20 bits.
const MAJOR_MAX: i64 = 0xfff;
const MINOR_MAX: i64 = 0xf_ffff;

impl Draft<'_> {
    pub(super) fn io(&mut self, io: &BlockIoResources) -> Result<()> {
        let BlockIoResources {
            weight,
            leaf_weight,
            weight_device,
            throttle_read_bps_device,
            throttle_write_bps_device,
            throttle_read_iops_device,
            throttle_write_iops_device,
        } = io;
        let version = self.version("blkio");
        if let Some(weight) = weight_at("/blockIO/weight", *weight)? {
            self.weight(version, None, weight);
        }
        if let Some(weight) = weight_at("/blockIO/leafWeight", *leaf_weight)? {
            self.leaf_weight(version, "/blockIO/leafWeight", None, weight)?;
        }
        for (index, entry) in weight_device.iter().enumerate() {
            let place = format!("/blockIO/weightDevice/{index}");
            let WeightDevice { major, minor, weight, leaf_weight } = entry;
            let device = device(&place, *major, *minor)?;
            if let Some(weight) = weight_at(&format!("{place}/weight"), *weight)? {
                self.weight(version, Some(&device), weight);
            }
            let place = format!("{place}/leafWeight");
            if let Some(weight) = weight_at(&place, *leaf_weight)? {
                self.leaf_weight(version, &place, Some(&device), weight)?;
            }
        }
        for (name, entries, file, key) in [
            ("throttleReadBpsDevice", throttle_read_bps_device, "blkio.throttle.read_bps_device", "rbps"),
            ("throttleWriteBpsDevice", throttle_write_bps_device, "blkio.throttle.write_bps_device", "wbps"),
            ("throttleReadIOPSDevice", throttle_read_iops_device, "blkio.throttle.read_iops_device", "riops"),
            (
                "throttleWriteIOPSDevice",
                throttle_write_iops_device,
                "blkio.throttle.write_iops_device",
                "wiops",
            ),
        ] {
            for (index, entry) in entries.iter().enumerate() {
                let ThrottleDevice { major, minor, rate } = entry;
                let device = device(&format!("/blockIO/{name}/{index}"), *major, *minor)?;
                match (version, rate) {
                    (Version::V1, rate) => self.set(version, "blkio", file, &format!("{device} {rate}")),
                    (Version::V2, 0) => self.set(version, "io", "io.max", &format!("{device} {key}=max")),
                    (Version::V2, rate) => {
                        self.set(version, "io", "io.max", &format!("{device} {key}={rate}"))
                    }
                };
            }
        }
        Ok(())
    }

    /// The weight goes to the BFQ scheduler's file where that is the one, in v1 by age, in v2 by preference.
    fn weight(&mut self, version: Version, device: Option<&str>, weight: u16) {
        let line = |weight: u64| match device {
            Some(device) => format!("{device} {weight}"),
            None => weight.to_string(),
        };
        let own = line(u64::from(weight));
        match (version, device) {
            (Version::V1, None) => {
                self.set(version, "blkio", "blkio.weight", &own).or_instead("blkio.bfq.weight", &own);
            }
            (Version::V1, Some(_)) => {
                self.set(version, "blkio", "blkio.weight_device", &own)
                    .or_instead("blkio.bfq.weight_device", &own);
            }
            (Version::V2, _) => {
                let converted = line(io_weight(weight));
                self.set(version, "io", "io.bfq.weight", &own).or_instead("io.weight", &converted);
            }
        }
    }

    /// Leaf weights were the CFQ scheduler's, which Linux 5.0 removed.
    fn leaf_weight(
        &mut self,
        version: Version,
        place: &str,
        device: Option<&str>,
        weight: u16,
    ) -> Result<()> {
        match (version, device) {
            (Version::V2, _) => Err(Error::invalid(place, "cgroup v2 has no leaf weights")),
            (Version::V1, None) => {
                self.set(version, "blkio", "blkio.leaf_weight", &weight);
                Ok(())
            }
            (Version::V1, Some(device)) => {
                self.set(version, "blkio", "blkio.leaf_weight_device", &format!("{device} {weight}"));
                Ok(())
            }
        }
    }
}

/// Converts a weight of v1 (10 to 1000) linearly to `io.weight` (1 to 10000).
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight) - u64::from(WEIGHT.0)) * 9_999 / u64::from(WEIGHT.1 - WEIGHT.0)
}

fn weight_at(place: &str, weight: Option<u16>) -> Result<Option<u16>> {
    given(weight).map(|weight| within(place, weight, WEIGHT.0, WEIGHT.1)).transpose()
}

fn device(place: &str, major: i64, minor: i64) -> Result<String> {
    within(&format!("{place}/major"), major, 0, MAJOR_MAX)?;
    within(&format!("{place}/minor"), minor, 0, MINOR_MAX)?;
    Ok(format!("{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use super::io_weight;
    use crate::plan::testing::*;

    const ALL: &str = r#"{"blockIO": {"weight": 100, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 1, "rate": 0}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 2, "rate": 5}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 3, "rate": 7}]}}"#;

    #[test]
    fn v1_knows_old_and_bfq_weights_and_throttles() {
        assert_eq!(
            create(&legacy(), ALL),
            [
                "blkio.weight 100 [or blkio.bfq.weight 100]",
                "blkio.weight_device 8:0 1000 [or blkio.bfq.weight_device 8:0 1000]",
                "blkio.throttle.read_bps_device 8:0 600",
                "blkio.throttle.write_bps_device 8:1 0",
                "blkio.throttle.read_iops_device 8:2 5",
                "blkio.throttle.write_iops_device 8:3 7",
            ]
        );
    }

    #[test]
    fn v2_converts_weights_and_names_throttles() {
        assert_eq!(
            create(&unified(), ALL),
            [
                "io.bfq.weight 100 [or io.weight 910]",
                "io.bfq.weight 8:0 1000 [or io.weight 8:0 10000]",
                "io.max 8:0 rbps=600",
                "io.max 8:1 wbps=max",
                "io.max 8:2 riops=5",
                "io.max 8:3 wiops=7",
            ]
        );
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000), "the ends meet");
    }

    #[test]
    fn weights_and_devices_out_of_range_are_refused_with_their_place() {
        for (json, message) in [
            (r#"{"weight": 9}"#, "/blockIO/weight: 9 is not in the range from 10 to 1000"),
            (r#"{"leafWeight": 1001}"#, "/blockIO/leafWeight: 1001 is not in the range from 10 to 1000"),
            (
                r#"{"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}"#,
                "/blockIO/throttleReadBpsDevice/0/major: -1 is not in the range from 0 to 4095",
            ),
            (
                r#"{"weightDevice": [{"major": 1, "minor": 1048576, "weight": 10}]}"#,
                "/blockIO/weightDevice/0/minor: 1048576 is not in the range from 0 to 1048575",
            ),
        ] {
            assert_eq!(refused(&legacy(), &format!(r#"{{"blockIO": {json}}}"#)), message);
        }
        let leaf = r#"{"blockIO": {"leafWeight": 20}}"#;
        assert_eq!(refused(&unified(), leaf), "/blockIO/leafWeight: cgroup v2 has no leaf weights");
        assert_eq!(create(&legacy(), leaf), ["blkio.leaf_weight 20"]);
    }
}
