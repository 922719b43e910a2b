//! Files of cgroup v2 that the configuration names itself.

use std::collections::BTreeMap;

use super::{Draft, escaped};
use crate::error::{Error, Result};
use crate::host::{Layout, Version};

/// The prefix of files that belong to no controller.
pub(super) const CORE: &str = "cgroup";

/// Files by which processes are moved, stopped or killed, or the cgroup is made unusable: those are the runtime's.
const RESERVED: [&str; 5] = ["cgroup.freeze", "cgroup.kill", "cgroup.procs", "cgroup.threads", "cgroup.type"];

impl Draft<'_> {
    /// A value of several lines is several settings of the one file that the key names, each a write of its own.
    pub(super) fn unified(&mut self, files: &BTreeMap<String, String>) -> Result<()> {
        if !files.is_empty() && self.host.layout() != Layout::Unified {
            return Err(Error::invalid("/unified", "invalid configuration: cannot use unified on cgroup v1"));
        }
        for (file, value) in files {
            let refuse = |reason: &str| Err(Error::invalid(format!("/unified/{}", escaped(file)), reason));
            let Some((controller, parameter)) = file.split_once('.') else {
                // The first half is for runc's bats suite ("runc run (cgroup v2 resources.unified override)" and its
                // neighbours), the other for crun's test_resources_unified_invalid_key.
                return refuse(&format!(
                    "must be in the form CONTROLLER.PARAMETER: \
                     the specified key has not the form CONTROLLER.VALUE `{}`",
                    escaped(file)
                ));
            };
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if controller.is_empty() || parameter.is_empty() || !file.chars().all(plain) {
                return refuse("must be a file name (no slashes) in the form CONTROLLER.PARAMETER");
            }
            if RESERVED.contains(&file.as_str()) {
                return refuse("belongs to the runtime");
            }
            if value.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
                return refuse("has a value with a control character");
            }
            for line in value.lines().filter(|line| !line.is_empty()) {
                self.set(Version::V2, controller.to_owned(), file.clone(), line);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::*;

    #[test]
    fn every_line_is_a_write_of_the_same_file() {
        let json = r#"{"unified": {"io.max": "8:0 rbps=1\n8:16 wiops=2\n", "hugetlb.1GB.max": "0",
            "cgroup.max.depth": "3"}}"#;
        assert_eq!(
            create(&unified(), json),
            ["cgroup.max.depth 3", "hugetlb.1GB.max 0", "io.max 8:0 rbps=1", "io.max 8:16 wiops=2"]
        );
    }

    #[test]
    fn keys_are_files_of_the_cgroup_itself() {
        for key in ["memory", "../memory.max", "a/b.c", ".x", "x.", "a b.c", "..", "a\\nb.c", ""] {
            let json = format!(r#"{{"unified": {{"{key}": "1"}}}}"#);
            let message = refused(&unified(), &json);
            assert!(message.contains("CONTROLLER.PARAMETER"), "{key:?}: {message}");
            assert_eq!(message.contains("CONTROLLER.VALUE `"), !key.contains('.'), "{key:?}: {message}");
        }
        for key in super::RESERVED {
            let message = refused(&unified(), &format!(r#"{{"unified": {{"{key}": "1"}}}}"#));
            assert_eq!(message, format!("/unified/{key}: belongs to the runtime"));
        }
        let nul = r#"{"unified": {"memory.max": "1\u0000"}}"#;
        assert_eq!(refused(&unified(), nul), "/unified/memory.max: has a value with a control character");
    }

    #[test]
    fn v1_has_no_unified_files() {
        for host in [legacy(), hybrid()] {
            let message = refused(&host, r#"{"unified": {"memory.max": "1"}}"#);
            assert_eq!(message, "/unified: invalid configuration: cannot use unified on cgroup v1");
        }
    }
}
