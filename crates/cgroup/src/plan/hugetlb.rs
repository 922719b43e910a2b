//! Huge pages.

use bulkhead_spec::HugepageLimit;

use super::Draft;
use crate::error::{Error, Result};
use crate::host::Version;

impl Draft<'_> {
    /// Limits reservations as well as use, where the kernel can (5.7), so that a program fails at mmap and is not
    /// killed at a fault.
    pub(super) fn hugetlb(&mut self, limits: &[HugepageLimit]) -> Result<()> {
        let version = self.version("hugetlb");
        let suffix = match version {
            Version::V1 => "limit_in_bytes",
            Version::V2 => "max",
        };
        for (index, HugepageLimit { page_size, limit }) in limits.iter().enumerate() {
            if !is_page_size(page_size) {
                let reason = format!("{page_size:?} is not a page size such as 64KB, 2MB or 1GB");
                return Err(Error::invalid(format!("/hugepageLimits/{index}/pageSize"), reason));
            }
            self.set(version, "hugetlb", format!("hugetlb.{page_size}.{suffix}"), limit);
            self.set(version, "hugetlb", format!("hugetlb.{page_size}.rsvd.{suffix}"), limit).if_there();
        }
        Ok(())
    }
}

fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::*;

    #[test]
    fn each_page_size_has_its_files() {
        let json = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#;
        assert_eq!(
            create(&legacy(), json),
            ["hugetlb.2MB.limit_in_bytes 4194304", "hugetlb.2MB.rsvd.limit_in_bytes 4194304 [if there]"]
        );
        assert_eq!(
            create(&unified(), json),
            ["hugetlb.2MB.max 4194304", "hugetlb.2MB.rsvd.max 4194304 [if there]"]
        );
    }

    #[test]
    fn a_page_size_is_no_path() {
        for size in ["", "MB", "2", "2mb", "2MiB", "../2MB", "2/MB", "-2MB"] {
            let json = format!(r#"{{"hugepageLimits": [{{"pageSize": "{size}", "limit": 1}}]}}"#);
            let message = refused(&legacy(), &json);
            assert!(message.starts_with("/hugepageLimits/0/pageSize: "), "{size:?}: {message}");
        }
    }
}
