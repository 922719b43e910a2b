//! Every field of the specification's configuration for Linux, 1.3, is read: none is taken for an extension of somebody's
//! and ignored. The list is that of its JSON schema (`schema/config-schema.json`, `config-linux.json` and what they
//! refer to); what each field does is for the tests of the runtime.

use bulkhead_spec::Config;
use serde_json::{Value, json};

/// The fields, as JSON pointers; `0` stands for an element of a list, `x` for one of a map.
const FIELDS: &str = "
/ociVersion
/annotations/x
/domainname
/hostname
/hooks/createContainer/0/args/0 /hooks/createContainer/0/env/0 /hooks/createContainer/0/path
/hooks/createContainer/0/timeout
/hooks/createRuntime/0/args/0 /hooks/createRuntime/0/env/0 /hooks/createRuntime/0/path /hooks/createRuntime/0/timeout
/hooks/poststart/0/args/0 /hooks/poststart/0/env/0 /hooks/poststart/0/path /hooks/poststart/0/timeout
/hooks/poststop/0/args/0 /hooks/poststop/0/env/0 /hooks/poststop/0/path /hooks/poststop/0/timeout
/hooks/prestart/0/args/0 /hooks/prestart/0/env/0 /hooks/prestart/0/path /hooks/prestart/0/timeout
/hooks/startContainer/0/args/0 /hooks/startContainer/0/env/0 /hooks/startContainer/0/path
/hooks/startContainer/0/timeout
/mounts/0/destination /mounts/0/options/0 /mounts/0/source /mounts/0/type
/mounts/0/gidMappings/0/containerID /mounts/0/gidMappings/0/hostID /mounts/0/gidMappings/0/size
/mounts/0/uidMappings/0/containerID /mounts/0/uidMappings/0/hostID /mounts/0/uidMappings/0/size
/root/path /root/readonly
/process/apparmorProfile /process/args/0 /process/cwd /process/env/0 /process/noNewPrivileges /process/oomScoreAdj
/process/selinuxLabel /process/terminal
/process/capabilities/ambient/0 /process/capabilities/bounding/0 /process/capabilities/effective/0
/process/capabilities/inheritable/0 /process/capabilities/permitted/0
/process/consoleSize/height /process/consoleSize/width
/process/execCPUAffinity/final /process/execCPUAffinity/initial
/process/ioPriority/class /process/ioPriority/priority
/process/rlimits/0/hard /process/rlimits/0/soft /process/rlimits/0/type
/process/scheduler/deadline /process/scheduler/flags/0 /process/scheduler/nice /process/scheduler/period
/process/scheduler/policy /process/scheduler/priority /process/scheduler/runtime
/process/user/additionalGids/0 /process/user/gid /process/user/uid /process/user/umask
/linux/cgroupsPath /linux/maskedPaths/0 /linux/mountLabel /linux/readonlyPaths/0 /linux/rootfsPropagation
/linux/sysctl/x
/linux/devices/0/fileMode /linux/devices/0/gid /linux/devices/0/major /linux/devices/0/minor /linux/devices/0/path
/linux/devices/0/type /linux/devices/0/uid
/linux/gidMappings/0/containerID /linux/gidMappings/0/hostID /linux/gidMappings/0/size
/linux/uidMappings/0/containerID /linux/uidMappings/0/hostID /linux/uidMappings/0/size
/linux/intelRdt/closID /linux/intelRdt/enableMonitoring /linux/intelRdt/l3CacheSchema /linux/intelRdt/memBwSchema
/linux/intelRdt/schemata/0 /linux/intelRdt/enableCMT /linux/intelRdt/enableMBM
/linux/memoryPolicy/flags/0 /linux/memoryPolicy/mode /linux/memoryPolicy/nodes
/linux/namespaces/0/path /linux/namespaces/0/type
/linux/netDevices/x/name
/linux/personality/domain /linux/personality/flags/0
/linux/resources/devices/0/access /linux/resources/devices/0/allow /linux/resources/devices/0/major
/linux/resources/devices/0/minor /linux/resources/devices/0/type
/linux/resources/blockIO/leafWeight /linux/resources/blockIO/weight
/linux/resources/blockIO/throttleReadBpsDevice/0/major /linux/resources/blockIO/throttleReadBpsDevice/0/minor
/linux/resources/blockIO/throttleReadBpsDevice/0/rate
/linux/resources/blockIO/throttleReadIOPSDevice/0/major /linux/resources/blockIO/throttleReadIOPSDevice/0/minor
/linux/resources/blockIO/throttleReadIOPSDevice/0/rate
/linux/resources/blockIO/throttleWriteBpsDevice/0/major /linux/resources/blockIO/throttleWriteBpsDevice/0/minor
/linux/resources/blockIO/throttleWriteBpsDevice/0/rate
/linux/resources/blockIO/throttleWriteIOPSDevice/0/major /linux/resources/blockIO/throttleWriteIOPSDevice/0/minor
/linux/resources/blockIO/throttleWriteIOPSDevice/0/rate
/linux/resources/blockIO/weightDevice/0/leafWeight /linux/resources/blockIO/weightDevice/0/major
/linux/resources/blockIO/weightDevice/0/minor /linux/resources/blockIO/weightDevice/0/weight
/linux/resources/cpu/burst /linux/resources/cpu/cpus /linux/resources/cpu/idle /linux/resources/cpu/mems
/linux/resources/cpu/period /linux/resources/cpu/quota /linux/resources/cpu/realtimePeriod
/linux/resources/cpu/realtimeRuntime /linux/resources/cpu/shares
/linux/resources/hugepageLimits/0/limit /linux/resources/hugepageLimits/0/pageSize
/linux/resources/memory/checkBeforeUpdate /linux/resources/memory/disableOOMKiller /linux/resources/memory/kernel
/linux/resources/memory/kernelTCP /linux/resources/memory/limit /linux/resources/memory/reservation
/linux/resources/memory/swap /linux/resources/memory/swappiness /linux/resources/memory/useHierarchy
/linux/resources/network/classID /linux/resources/network/priorities/0/name
/linux/resources/network/priorities/0/priority
/linux/resources/pids/limit
/linux/resources/rdma/x/hcaHandles /linux/resources/rdma/x/hcaObjects
/linux/resources/unified/x
/linux/seccomp/architectures/0 /linux/seccomp/defaultAction /linux/seccomp/defaultErrnoRet /linux/seccomp/flags/0
/linux/seccomp/listenerMetadata /linux/seccomp/listenerPath
/linux/seccomp/syscalls/0/action /linux/seccomp/syscalls/0/args/0/index /linux/seccomp/syscalls/0/args/0/op
/linux/seccomp/syscalls/0/args/0/value /linux/seccomp/syscalls/0/args/0/valueTwo
/linux/seccomp/syscalls/0/errnoRet /linux/seccomp/syscalls/0/names/0
/linux/timeOffsets/boottime/nanosecs /linux/timeOffsets/boottime/secs
/linux/timeOffsets/monotonic/nanosecs /linux/timeOffsets/monotonic/secs
";

/// What no field of the configuration is.
fn nonsense() -> Value {
    json!({ "no such": ["value"] })
}

/// Makes a document in which nothing but this field is wrong, as far as that can be read.
fn with_nonsense_at(pointer: &str) -> String {
    let words: Vec<&str> = pointer.split('/').skip(1).collect();
    let mut document = words.iter().rev().fold(nonsense(), |value, word| match *word {
        "0" => json!([value]),
        name => json!({ name: value }),
    });
    if pointer != "/ociVersion" {
        document["ociVersion"] = "1.3.0".into();
    }
    document.to_string()
}

#[test]
fn no_field_of_the_specification_is_ignored() {
    let fields: Vec<&str> = FIELDS.split_whitespace().collect();
    assert!(fields.len() > 150, "the list is whole: {}", fields.len());
    for field in fields {
        let error = match Config::from_json(&with_nonsense_at(field)) {
            Ok(_) => panic!("{field} is ignored"),
            Err(error) => error,
        };
        assert_eq!(error.pointer(), field, "{error}");
    }
}

#[test]
fn what_somebody_else_adds_is_ignored() {
    // config.md, "Extensibility".
    let text =
        json!({ "ociVersion": "1.3.0", "extension": nonsense(), "linux": { "extension": 1 } }).to_string();
    Config::from_json(&text).unwrap();
}
