//! What the processes of a container may do, and what of the kernel they do not see.

use bulkhead_seccomp::{NATIVE, default_profile_for};
use bulkhead_spec::Seccomp;

use super::{AppArmor, Scene, Selinux, capabilities, invalid};
use crate::error::Result;
use crate::request::{self, Ipc, Label, Namespaces, Pid, SystemPaths};

/// What was decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// The bounding set.
    pub(super) capabilities: Vec<String>,
    /// The filter of system calls.
    pub(super) seccomp: Option<Seccomp>,
    /// What cannot be read.
    pub(super) masked: Vec<String>,
    /// What cannot be written.
    pub(super) readonly: Vec<String>,
    /// The profile of AppArmor.
    pub(super) apparmor: Option<String>,
    /// The SELinux context of processes.
    pub(super) process_label: Option<String>,
    /// The SELinux context of files.
    pub(super) mount_label: Option<String>,
}

/// Docker's hidden paths.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a container does not see of the kernel, by the places in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenPaths {
    /// What cannot be read.
    pub masked: Vec<String>,
    /// What cannot be written.
    pub readonly: Vec<String>,
}

impl HiddenPaths {
    /// Decides them.
    pub fn of(asked: &request::Security) -> Self {
        let bare = asked.privileged || asked.system_paths == SystemPaths::Unconfined;
        let kept = |paths: &[&str]| {
            let paths =
                paths.iter().filter(|path| !bare && !asked.unmask.iter().any(|unmasked| unmasked == *path));
            paths.map(|&path| path.to_owned()).collect::<Vec<_>>()
        };
        let mut masked = kept(&MASKED);
        masked.extend(asked.mask.iter().filter(|path| !MASKED.contains(&path.as_str()) || bare).cloned());
        Self { masked, readonly: kept(&READONLY) }
    }
}

/// Decides all of it.
///
/// # Errors
/// A profile that cannot be read, a label or a profile of something that the host has not.
pub(super) fn decide(scene: &Scene<'_>) -> Result<Decided> {
    let asked = &scene.request.security;
    let capabilities = capabilities::decide(scene)?;
    let HiddenPaths { masked, readonly } = HiddenPaths::of(asked);
    let (process_label, mount_label) = labels(scene)?;
    Ok(Decided {
        seccomp: seccomp(scene, &capabilities)?,
        readonly,
        apparmor: apparmor(scene)?,
        capabilities,
        masked,
        process_label,
        mount_label,
    })
}

fn seccomp(scene: &Scene<'_>, capabilities: &[String]) -> Result<Option<Seccomp>> {
    let asked = &scene.request.security;
    Ok(match &asked.seccomp {
        request::Seccomp::Unconfined => None,
        request::Seccomp::Default if asked.privileged => None,
        request::Seccomp::Default => {
            let names: Vec<&str> = capabilities.iter().map(String::as_str).collect();
            Some(default_profile_for(NATIVE, &names))
        }
        request::Seccomp::Profile(text) => {
            Some(super::profile::read(text, capabilities, scene.facts.kernel)?)
        }
    })
}

fn apparmor(scene: &Scene<'_>) -> Result<Option<String>> {
    let asked = &scene.request.security;
    match (&asked.apparmor, &scene.facts.apparmor) {
        (Some(name), _) if name == "unconfined" => Ok(None),
        (Some(name), AppArmor::Absent) => {
            let reason = "this host has no AppArmor; leave it out";
            Err(invalid(format!("--security-opt apparmor={name}"), reason))
        }
        (Some(name), AppArmor::Present { .. }) => Ok(Some(name.clone())),
        (None, AppArmor::Present { profile }) if !asked.privileged => Ok(profile.clone()),
        (None, _) => Ok(None),
    }
}

/// Decides the contexts of processes and files: the policy's for containers, with categories that only this container has, or those
/// of whom it shares processes or memory with. Who sees the host's is not confined, unless labels say how, as docker has it.
fn labels(scene: &Scene<'_>) -> Result<(Option<String>, Option<String>)> {
    let asked = &scene.request.security;
    let Some(selinux) = &scene.facts.selinux else {
        return match asked.labels.iter().find(|label| **label != Label::Disable) {
            Some(_) => Err(invalid("--security-opt label", "this host has no SELinux; leave it out")),
            None => Ok((None, None)),
        };
    };
    let namespaces = &scene.request.namespaces;
    let sees_host = asked.privileged || namespaces.pid == Pid::Host || namespaces.ipc == Ipc::Host;
    if asked.labels.contains(&Label::Disable) || sees_host && asked.labels.is_empty() {
        return Ok((None, None));
    }
    let (process, file) = contexts(scene, selinux)?;
    Ok((Some(process.text()), Some(file.text())))
}

/// The contexts of processes and files, whether they confine the container or not.
fn contexts(scene: &Scene<'_>, Selinux { process, file, .. }: &Selinux) -> Result<(Context, Context)> {
    let labels = &scene.request.security.labels;
    let (mut process, mut file) = (Context::read(process)?, Context::read(file)?);
    match shared(scene)?.filter(|_| labels.is_empty()) {
        Some(label) => {
            process = Context::read(label)?;
            file.user.clone_from(&process.user);
        }
        None => process.level = categories(owner(scene)),
    }
    file.level.clone_from(&process.level);
    for label in labels {
        match label {
            Label::Disable => {}
            Label::User(user) => {
                process.user.clone_from(user);
                file.user.clone_from(user);
            }
            Label::Role(role) => process.role.clone_from(role),
            Label::Type(kind) => process.kind.clone_from(kind),
            Label::FileType(kind) => file.kind.clone_from(kind),
            Label::Level(level) => {
                process.level.clone_from(level);
                file.level.clone_from(level);
            }
        }
    }
    Ok((process, file))
}

/// The context of the container whose processes or memory are shared, if it has one.
fn shared<'a>(scene: &Scene<'a>) -> Result<Option<&'a str>> {
    let Namespaces { ipc, pid, .. } = &scene.request.namespaces;
    let of = |name: &String| scene.peers.get(name)?.label.as_deref();
    let of_memory = match ipc {
        Ipc::Container(name) => of(name),
        _ => None,
    };
    let of_processes = match pid {
        Pid::Container(name) => of(name),
        _ => None,
    };
    match (of_memory, of_processes) {
        (Some(one), Some(other)) if one != other => {
            let reason =
                "these containers have different SELinux labels; --security-opt label says which to have";
            Err(invalid("--ipc and --pid", reason))
        }
        (of_memory, of_processes) => Ok(of_memory.or(of_processes)),
    }
}

/// By whose id the categories are chosen: containers of a pod that share processes or memory have the same.
fn owner<'a>(scene: &Scene<'a>) -> &'a str {
    let Namespaces { ipc, pid, .. } = &scene.request.namespaces;
    let of_pod = scene.pod.filter(|_| *ipc == Ipc::Pod || *pid == Pid::Pod);
    of_pod.map_or(scene.id, |pod| pod.id)
}

/// The SELinux contexts that files of the host get for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLabels {
    /// One that all containers may use.
    pub shared: String,
    /// That of this container alone.
    pub private: String,
    /// That of images, which all containers may read.
    pub layers: String,
}

/// Decides the contexts of what is bound into the container, where the host has SELinux. They are the files', whatever the
/// container's processes are confined by.
pub(super) fn file_labels(scene: &Scene<'_>) -> Result<Option<FileLabels>> {
    let Some(selinux) = &scene.facts.selinux else { return Ok(None) };
    let (_, mut file) = contexts(scene, selinux)?;
    let private = file.text();
    file.level = "s0".to_owned();
    Ok(Some(FileLabels { shared: file.text(), private, layers: selinux.read.clone() }))
}

struct Context {
    user: String,
    role: String,
    kind: String,
    level: String,
}

impl Context {
    fn read(text: &str) -> Result<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(user), Some(role), Some(kind)) => {
                Ok(Self { user, role, kind, level: parts.next().unwrap_or_default() })
            }
            _ => Err(invalid("SELinux", format!("the policy's context of containers is {text:?}"))),
        }
    }

    fn text(&self) -> String {
        let Self { user, role, kind, level } = self;
        format!("{user}:{role}:{kind}:{level}")
    }
}

/// Two of the 1024 categories, by the container's id: those of another container are others, but for one in half a million.
fn categories(id: &str) -> String {
    let number = |from: usize| {
        let digits = id.get(from..from + 6).unwrap_or_default();
        u32::from_str_radix(digits, 16).unwrap_or_default()
    };
    let first = number(0) % 1024;
    let second = (first + 1 + number(6) % 1023) % 1024;
    format!("s0:c{},c{}", first.min(second), first.max(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_two_different_ones() {
        for id in ["0".repeat(64), "f".repeat(64), "0123456789abcdef".repeat(4), String::new()] {
            let text = categories(&id);
            let numbers: Vec<u32> =
                text.strip_prefix("s0:").unwrap().split(',').map(|word| word[1..].parse().unwrap()).collect();
            assert!(numbers[0] < numbers[1] && numbers[1] < 1024, "{text}");
        }
    }
}
