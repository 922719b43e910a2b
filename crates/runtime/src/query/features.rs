//! `features`: what this program can do, whatever the host can.

use std::collections::BTreeMap;

use bulkhead_spec::features::{
    CgroupFeatures, Features, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures, MountExtensions,
    SeccompFeatures, Support,
};
use bulkhead_spec::{MemoryPolicyFlag, MemoryPolicyMode, NamespaceType, OCI_VERSION, SeccompFlag};

use crate::plan::{annotations, capabilities, mount_options};

/// The six lists of config.json.
const HOOKS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Returns the features document.
pub(super) fn document() -> Features {
    Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: OCI_VERSION.to_owned(),
        hooks: Some(owned(HOOKS)),
        mount_options: Some(mount_options::known()),
        linux: Some(linux()),
        annotations: BTreeMap::from([
            ("org.bulkhead.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("org.opencontainers.runc.checkpoint.enabled".to_owned(), "true".to_owned()),
        ]),
        potentially_unsafe_config_annotations: Some(owned(annotations::EFFECTIVE)),
    }
}

fn linux() -> LinuxFeatures {
    LinuxFeatures {
        namespaces: Some(spelled(NamespaceType::ALL, |kind| kind.as_str())),
        capabilities: Some(capabilities::NAMES.iter().map(|name| format!("CAP_{name}")).collect()),
        cgroup: Some(CgroupFeatures {
            v1: Some(true),
            v2: Some(true),
            systemd: Some(true),
            systemd_user: Some(true),
            rdma: Some(true),
        }),
        seccomp: Some(seccomp()),
        apparmor: Some(Support::YES),
        selinux: Some(Support::YES),
        intel_rdt: Some(IntelRdtFeatures {
            enabled: Some(true),
            schemata: Some(true),
            monitoring: Some(true),
        }),
        memory_policy: Some(MemoryPolicyFeatures {
            modes: Some(spelled(MemoryPolicyMode::ALL, |mode| mode.as_str())),
            flags: Some(spelled(MemoryPolicyFlag::ALL, |flag| flag.as_str())),
        }),
        mount_extensions: Some(MountExtensions { idmap: Some(Support::YES) }),
        net_devices: Some(Support::YES),
    }
}

fn seccomp() -> SeccompFeatures {
    let supported =
        bulkhead_seccomp::FLAGS.iter().filter(|flag| bulkhead_sys::seccomp::is_flag_known(bit(**flag)));
    SeccompFeatures {
        enabled: Some(true),
        actions: Some(spelled(bulkhead_seccomp::ACTIONS, |action| action.as_str())),
        operators: Some(spelled(bulkhead_seccomp::OPERATORS, |operator| operator.as_str())),
        archs: Some(spelled(bulkhead_seccomp::ARCHITECTURES, |arch| arch.as_str())),
        known_flags: Some(spelled(bulkhead_seccomp::FLAGS, |flag| flag.as_str())),
        supported_flags: Some(supported.map(|flag| flag.as_str().to_owned()).collect()),
    }
}

fn bit(flag: SeccompFlag) -> u32 {
    use bulkhead_sys::seccomp::flag;

    match flag {
        SeccompFlag::Tsync => flag::TSYNC,
        SeccompFlag::Log => flag::LOG,
        SeccompFlag::SpecAllow => flag::SPEC_ALLOW,
        SeccompFlag::WaitKillableRecv => flag::NEW_LISTENER | flag::WAIT_KILLABLE_RECV,
    }
}

/// In alphabetical order, as runc has them: callers compare the texts.
fn spelled<T: Copy>(all: &[T], spelling: fn(T) -> &'static str) -> Vec<String> {
    let mut words: Vec<String> = all.iter().map(|&value| spelling(value).to_owned()).collect();
    words.sort_unstable();
    words
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_options_are_sorted_and_none_goes_to_the_file_system() {
        let options = mount_options::known();
        assert!(options.is_sorted(), "they are not sorted");
        let data = mount_options::parse(&options).data;
        assert!(data.is_empty(), "the parser leaves these to the file system: {data:?}");
    }

    #[test]
    fn every_option_of_the_specification_and_of_runc_is_listed() {
        let others =
            ["rnoatime", "rnosymfollow", "rprivate", "runbindable", "tmpcopyup", "ridmap", "nosymfollow"];
        for option in others {
            assert!(mount_options::known().iter().any(|known| known == option), "{option} is missing");
        }
    }

    #[test]
    fn the_document_says_what_engines_ask_for() {
        let document = serde_json::to_value(document()).unwrap();
        let at = |pointer: &str| {
            document.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing")).clone()
        };
        assert_eq!(at("/ociVersionMin"), "1.0.0");
        assert_eq!(at("/ociVersionMax"), "1.3.0");
        assert_eq!(at("/hooks").as_array().unwrap().len(), 6);
        assert_eq!(at("/linux/namespaces").as_array().unwrap().len(), 8);
        assert_eq!(at("/linux/capabilities/0"), "CAP_CHOWN");
        assert_eq!(at("/linux/capabilities").as_array().unwrap().len(), 41);
        assert_eq!(at("/linux/cgroup/v1"), true);
        assert_eq!(at("/linux/cgroup/systemd"), true);
        assert_eq!(at("/linux/seccomp/enabled"), true);
        assert_eq!(at("/linux/seccomp/actions/0"), "SCMP_ACT_ALLOW", "alphabetical, as in runc");
        assert_eq!(at("/linux/mountExtensions/idmap/enabled"), true);
        assert_eq!(at("/linux/memoryPolicy/modes/0"), "MPOL_BIND");
        assert_eq!(at("/annotations/org.opencontainers.runc.checkpoint.enabled"), "true");
        let (known, supported) = (at("/linux/seccomp/knownFlags"), at("/linux/seccomp/supportedFlags"));
        let known = known.as_array().unwrap();
        assert!(supported.as_array().unwrap().iter().all(|flag| known.contains(flag)), "{supported}");
    }
}
