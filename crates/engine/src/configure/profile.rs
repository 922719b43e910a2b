//! Profiles of system calls as docker has them: its own form, which depends on the machine and on the container's capabilities,
//! and the specification's, which does not.

use bulkhead_seccomp::NATIVE;
use bulkhead_spec::{Action, Arch, Seccomp, SeccompArg, SeccompFlag, SeccompSyscall};
use serde::{Deserialize, Deserializer};

use super::invalid;
use crate::error::Result;

/// A file of either form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")]
    architectures: Vec<Arch>,
    #[serde(default, deserialize_with = "nullable")]
    arch_map: Vec<Family>,
    #[serde(default)]
    flags: Option<Vec<SeccompFlag>>,
    #[serde(default, deserialize_with = "nullable")]
    listener_path: String,
    #[serde(default, deserialize_with = "nullable")]
    listener_metadata: String,
    #[serde(default, deserialize_with = "nullable")]
    syscalls: Vec<Rule>,
}

/// An architecture and those whose programs its kernel runs, too.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    architecture: Arch,
    #[serde(default, deserialize_with = "nullable")]
    sub_architectures: Vec<Arch>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The old form has one name.
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    #[serde(default, deserialize_with = "nullable")]
    names: Vec<String>,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "nullable")]
    args: Vec<SeccompArg>,
    #[serde(default, deserialize_with = "nullable")]
    includes: Filter,
    #[serde(default, deserialize_with = "nullable")]
    excludes: Filter,
}

/// For which machines and containers a rule is, or is not.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default, deserialize_with = "nullable")]
    caps: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    arches: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    min_kernel: String,
}

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a profile, and keeps what is for this machine and a container with these capabilities.
///
/// # Errors
/// What is not of either form.
pub(super) fn read(text: &str, capabilities: &[String], kernel: (u32, u32)) -> Result<Seccomp> {
    let wrong = |reason: String| invalid("--security-opt seccomp", reason);
    let profile: Profile =
        serde_json::from_str(text).map_err(|error| wrong(format!("the profile cannot be read: {error}")))?;
    let Profile {
        default_action,
        default_errno_ret,
        architectures,
        arch_map,
        flags,
        listener_path,
        listener_metadata,
        syscalls,
    } = profile;
    if !architectures.is_empty() && !arch_map.is_empty() {
        return Err(wrong("the profile has architectures and archMap; one of them is enough".to_owned()));
    }
    let family = arch_map.into_iter().find(|family| family.architecture == NATIVE);
    let mapped = family.map(|family| [vec![family.architecture], family.sub_architectures].concat());
    let mut rules = Vec::new();
    for rule in syscalls {
        if !rule.name.is_empty() && !rule.names.is_empty() {
            return Err(wrong(format!(
                "a rule has the name {:?} and names; one of them is enough",
                rule.name
            )));
        }
        if applies(&rule, capabilities, kernel).map_err(wrong)? {
            let Rule { name, mut names, action, errno_ret, args, .. } = rule;
            names.extend(Some(name).filter(|name| !name.is_empty()));
            rules.push(SeccompSyscall { names, action, errno_ret, args });
        }
    }
    Ok(Seccomp {
        default_action,
        default_errno_ret,
        architectures: mapped.unwrap_or(architectures),
        flags,
        listener_path: Some(listener_path).filter(|path| !path.is_empty()),
        listener_metadata: Some(listener_metadata).filter(|metadata| !metadata.is_empty()),
        syscalls: rules,
    })
}

fn applies(rule: &Rule, capabilities: &[String], kernel: (u32, u32)) -> std::result::Result<bool, String> {
    let Rule { includes, excludes, .. } = rule;
    let has = |capability: &String| capabilities.contains(capability);
    let here = |arches: &[String]| arches.iter().any(|arch| arch == go_name(NATIVE));
    let reached = |filter: &Filter| match filter.min_kernel.as_str() {
        "" => Ok(None),
        text => version(text).map(|least| Some(kernel >= least)),
    };
    let excluded =
        here(&excludes.arches) || excludes.caps.iter().any(has) || reached(excludes)? == Some(true);
    let included = (includes.arches.is_empty() || here(&includes.arches))
        && includes.caps.iter().all(has)
        && reached(includes)? != Some(false);
    Ok(included && !excluded)
}

fn version(text: &str) -> std::result::Result<(u32, u32), String> {
    let numbers =
        text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.ok_or_else(|| format!("minKernel {text:?} is no version, such as 4.8"))
}

/// What docker calls an architecture in `arches`.
fn go_name(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::X86 => "x86",
        Arch::X32 => "x32",
        Arch::Aarch64 => "arm64",
        Arch::Arm => "arm",
        Arch::Ppc64le => "ppc64le",
        Arch::Riscv64 => "riscv64",
        Arch::S390x => "s390x",
        Arch::S390 => "s390",
        Arch::Loongarch64 => "loong64",
        Arch::Mips64 => "mips64",
        Arch::Mipsel64 => "mips64le",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(
        text: &str,
        capabilities: &[&str],
        kernel: (u32, u32),
    ) -> std::result::Result<Vec<String>, String> {
        let capabilities: Vec<String> = capabilities.iter().map(|&name| name.to_owned()).collect();
        let read = read(text, &capabilities, kernel).map_err(|error| error.to_string())?;
        Ok(read.syscalls.into_iter().flat_map(|rule| rule.names).collect())
    }

    #[test]
    fn rules_are_for_some_machines_and_containers() {
        let arch = go_name(NATIVE);
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "archMap": null, "syscalls": [
            {{"names": ["always"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {{}}, "excludes": {{}}}},
            {{"name": "old", "action": "SCMP_ACT_ALLOW"}},
            {{"names": ["here"], "action": "SCMP_ACT_ALLOW", "includes": {{"arches": ["{arch}", "none"]}}}},
            {{"names": ["elsewhere"], "action": "SCMP_ACT_ALLOW", "includes": {{"arches": ["none"]}}}},
            {{"names": ["not-here"], "action": "SCMP_ACT_ALLOW", "excludes": {{"arches": ["{arch}"]}}}},
            {{"names": ["admin"], "action": "SCMP_ACT_ALLOW", "includes": {{"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}}}},
            {{"names": ["no-admin"], "action": "SCMP_ACT_ALLOW", "excludes": {{"caps": ["CAP_SYS_ADMIN"]}}}},
            {{"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {{"minKernel": "4.8"}}}},
            {{"names": ["old-kernel"], "action": "SCMP_ACT_ALLOW", "excludes": {{"minKernel": "4.8"}}}}
        ]}}"#
        );
        assert_eq!(names(&text, &[], (5, 10)).unwrap(), ["always", "old", "here", "no-admin", "new"]);
        let admin = ["CAP_SYS_ADMIN", "CAP_BPF"];
        assert_eq!(names(&text, &admin, (4, 7)).unwrap(), ["always", "old", "here", "admin", "old-kernel"]);
        assert_eq!(names(&text, &admin[..1], (4, 8)).unwrap(), ["always", "old", "here", "new"]);
    }

    #[test]
    fn architectures_are_those_of_the_machine() {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [
            {{"architecture": "SCMP_ARCH_SH", "subArchitectures": null}},
            {{"architecture": "{NATIVE}", "subArchitectures": ["SCMP_ARCH_SHEB"]}}]}}"#
        );
        assert_eq!(read(&text, &[], (6, 1)).unwrap().architectures, [NATIVE, Arch::Sheb]);
    }

    #[test]
    fn a_broken_profile_is_told() {
        for (text, words) in [
            ("", "cannot be read"),
            (r#"{"defaultAction": "ALLOW"}"#, "unknown seccomp action"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                    "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#,
                "one of them is enough",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}"#,
                "one of them is enough",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                    {"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "new"}}]}"#,
                "is no version",
            ),
        ] {
            let error = names(text, &[], (6, 1)).unwrap_err();
            assert!(error.starts_with("--security-opt seccomp: ") && error.contains(words), "{error}");
        }
    }
}
