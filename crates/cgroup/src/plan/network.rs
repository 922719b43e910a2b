//! Marks and priorities of network packets, which only v1 has.

use bulkhead_spec::{InterfacePriority, NetworkResources};

use super::{Draft, given};
use crate::error::{Error, Result};
use crate::host::Version;

/// The longest name of a network interface, in bytes (IFNAMSIZ less the terminator).
const INTERFACE_NAME_MAX: usize = 15;

impl Draft<'_> {
    pub(super) fn network(&mut self, network: &NetworkResources) -> Result<()> {
        let NetworkResources { class_id, priorities } = network;
        if let Some(class_id) = given(*class_id) {
            self.set(Version::V1, "net_cls", "net_cls.classid", &class_id);
        }
        for (index, InterfacePriority { name, priority }) in priorities.iter().enumerate() {
            if !is_interface_name(name) {
                let reason = format!("{name:?} is not the name of a network interface");
                return Err(Error::invalid(format!("/network/priorities/{index}/name"), reason));
            }
            self.set(Version::V1, "net_prio", "net_prio.ifpriomap", &format!("{name} {priority}"));
        }
        Ok(())
    }
}

fn is_interface_name(name: &str) -> bool {
    (1..=INTERFACE_NAME_MAX).contains(&name.len())
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/')
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::*;

    #[test]
    fn class_and_priorities_are_v1_files() {
        let json = r#"{"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]}}"#;
        let expected = ["net_cls.classid 1048577", "net_prio.ifpriomap eth0 500"];
        assert_eq!(create(&legacy(), json), expected);
        assert_eq!(create(&unified(), json), expected, "applying says that the controller is missing");
        assert_eq!(create(&legacy(), r#"{"network": {"classID": 0}}"#), Vec::<String>::new());
    }

    #[test]
    fn an_interface_name_is_one_short_word() {
        for name in ["", "a b", r"a\nb", "a/b", "sixteen-letters-"] {
            let json = format!(r#"{{"network": {{"priorities": [{{"name": "{name}", "priority": 1}}]}}}}"#);
            assert!(refused(&legacy(), &json).starts_with("/network/priorities/0/name: "), "{name:?}");
        }
    }
}
