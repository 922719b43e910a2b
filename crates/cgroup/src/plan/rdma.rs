//! Remote direct memory access.

use std::collections::BTreeMap;

use bulkhead_spec::RdmaResources;

use super::{Draft, escaped};
use crate::error::{Error, Result};

impl Draft<'_> {
    pub(super) fn rdma(&mut self, limits: &BTreeMap<String, RdmaResources>) -> Result<()> {
        let version = self.version("rdma");
        for (device, RdmaResources { hca_handles, hca_objects }) in limits {
            let refuse = |reason: &str| Err(Error::invalid(format!("/rdma/{}", escaped(device)), reason));
            if device.is_empty() || device.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return refuse("is not the name of a device");
            }
            if hca_handles.is_none() && hca_objects.is_none() {
                return refuse("needs hcaHandles or hcaObjects");
            }
            let mut line = device.clone();
            for (key, value) in [("hca_handle", hca_handles), ("hca_object", hca_objects)] {
                if let Some(value) = value {
                    line.push_str(&format!(" {key}={value}"));
                }
            }
            self.set(version, "rdma", "rdma.max", &line);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::*;

    #[test]
    fn a_device_has_one_line() {
        let json =
            r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "rxe3": {"hcaObjects": 0}}}"#;
        assert_eq!(
            create(&unified(), json),
            ["rdma.max mlx5_1 hca_handle=3 hca_object=10000", "rdma.max rxe3 hca_object=0"]
        );
    }

    #[test]
    fn a_device_name_is_one_word_and_has_a_limit() {
        assert_eq!(
            refused(&legacy(), r#"{"rdma": {"a\nb": {"hcaObjects": 1}}}"#),
            "/rdma/a\nb: is not the name of a device"
        );
        assert_eq!(
            refused(&legacy(), r#"{"rdma": {"a/b": {}}}"#),
            "/rdma/a~1b: needs hcaHandles or hcaObjects"
        );
    }
}
