//! Which CPUs and memory nodes.

use bulkhead_spec::CpuResources;

use super::Draft;
use crate::error::{Error, Result};

impl Draft<'_> {
    pub(super) fn cpuset(&mut self, cpu: &CpuResources) -> Result<()> {
        let version = self.version("cpuset");
        // Only v1 cpusets can be mounted without the prefix (`noprefix`), as some small systems do.
        for (list, pointer, file, bare) in
            [(&cpu.cpus, "/cpu/cpus", "cpuset.cpus", "cpus"), (&cpu.mems, "/cpu/mems", "cpuset.mems", "mems")]
        {
            let Some(list) = list.as_deref().map(str::trim).filter(|list| !list.is_empty()) else { continue };
            if !is_list(list) {
                let reason = format!("{list:?} is not a list of numbers and ranges such as 0-3,7");
                return Err(Error::invalid(pointer, reason));
            }
            self.set(version, "cpuset", file, list).or_instead(bare, list);
        }
        Ok(())
    }
}

/// Tells whether the text is a list in the form of cpuset(7): `0-4,9`, each range optionally `:used/group`.
fn is_list(text: &str) -> bool {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    text.split(',').all(|item| {
        let (range, stride) = match item.split_once(':') {
            Some((range, stride)) => (range, Some(stride)),
            None => (item, None),
        };
        let stride_fits = stride.is_none_or(|stride| {
            stride.split_once('/').is_some_and(|(used, group)| {
                matches!((number(used), number(group)), (Some(used), Some(group)) if used <= group && group > 0)
            })
        });
        let range_fits = match range.split_once('-') {
            Some((first, last)) => {
                matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
            }
            None => stride.is_none() && number(range).is_some(),
        };
        stride_fits && range_fits
    })
}

#[cfg(test)]
mod tests {
    use super::is_list;
    use crate::plan::testing::*;

    #[test]
    fn lists_have_the_form_of_the_kernel() {
        for good in ["0", "0-3,7", "1,2,3", "0-31:2/4", "10-10"] {
            assert!(is_list(good), "{good} is a list");
        }
        for bad in ["", "a", "3-1", "0-", "-1", "1,,2", "0 1", "0\n1", "0-3:2", "0:1/2", "+1", "99999999999"]
        {
            assert!(!is_list(bad), "{bad:?} is no list");
        }
    }

    #[test]
    fn both_lists_are_written_trimmed() {
        let json = r#"{"cpu": {"cpus": " 0-1 ", "mems": "0"}}"#;
        let expected = ["cpuset.cpus 0-1 [or cpus 0-1]", "cpuset.mems 0 [or mems 0]"];
        assert_eq!(create(&legacy(), json), expected);
        assert_eq!(create(&unified(), json), expected);
        assert_eq!(create(&legacy(), r#"{"cpu": {"cpus": "", "mems": " "}}"#), Vec::<String>::new());
        assert_eq!(
            refused(&legacy(), r#"{"cpu": {"mems": "0\n1"}}"#),
            r#"/cpu/mems: "0\n1" is not a list of numbers and ranges such as 0-3,7"#
        );
    }
}
