//! From the limits of the configuration to an ordered list of writes. Nothing here touches the system.
//!
//! Every value is checked where it is read, so that a plan holds only what a kernel could take: numbers in range,
//! and text that cannot smuggle a second line, and with it a second setting, into a file.

pub(crate) mod cpu;
mod cpuset;
mod hugetlb;
mod io;
mod memory;
mod network;
mod pids;
mod rdma;
mod unified;

use std::borrow::Cow;

use bulkhead_spec::Resources;

use crate::devices::{self, Policy};
use crate::error::{Error, Result};
use crate::host::{Host, Layout, Version};

/// The settings for one container's cgroup, validated and in the order in which the kernel takes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub(crate) writes: Vec<Write>,
    pub(crate) devices: Option<Policy>,
    pub(crate) check: Option<UsageCheck>,
    warnings: Vec<String>,
}

/// What a plan says about device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// The rules of the configuration, then the devices that every container has ([`devices::defaults`]); all others
    /// are denied.
    Enforced,
    /// Nothing: the caller lacks the right to set rules (it runs in a user namespace), where the kernel refuses
    /// mknod anyway.
    Untouched,
}

/// One value for one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub(crate) version: Version,
    pub(crate) controller: Cow<'static, str>,
    pub(crate) file: Cow<'static, str>,
    pub(crate) value: Value,
    pub(crate) if_missing: IfMissing,
    pub(crate) if_refused: IfRefused,
    pub(crate) reach: Reach,
}

/// The text to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// As it stands.
    Text(String),
    /// Behind the first word that the file holds now, which stays (the period of `cpu.max`).
    KeepFirstWord(String),
    /// This total less the memory limit that is in force (`memory.swap.max`, when only the sum is known).
    LessMemory(u64),
}

/// What happens when a file is not there although its controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Fail,
    Skip,
    /// Another file serves the same purpose, with the value in its own unit.
    Instead(&'static str, String),
}

/// What happens when the kernel answers EINVAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfRefused {
    Fail,
    /// Two settings bound each other, and which one must come first depends on what is in force: the write is
    /// repeated behind the other ones of its controller.
    Later,
}

/// The cgroups that a write concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Container,
    /// Also the parents that were made on the way, which start with nothing to give (realtime budgets).
    Parents,
}

/// The limits to compare with the current usage before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsageCheck {
    pub(crate) memory: Option<u64>,
    pub(crate) memory_and_swap: Option<u64>,
}

impl Plan {
    /// Plans the limits of a new container.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the JSON pointer, below `/linux/resources`, of a value that cannot be set.
    pub fn for_container(resources: Option<&Resources>, host: &Host, devices: Devices) -> Result<Self> {
        let mut draft = Draft::new(host, Occasion::Create);
        if let Some(resources) = resources {
            draft.limits(resources)?;
        }
        let mut plan = draft.plan;
        if devices == Devices::Enforced {
            let rules = resources.map_or(&[][..], |resources| &resources.devices);
            plan.devices = Some(devices::policy(rules)?);
        }
        Ok(plan)
    }

    /// Plans new limits for a container that exists; what is not mentioned stays. A list of device rules takes the place
    /// of the one before.
    ///
    /// # Errors
    /// As [`Plan::for_container`], the pointer being relative to the given document.
    pub fn for_update(resources: &Resources, host: &Host) -> Result<Self> {
        let mut draft = Draft::new(host, Occasion::Update);
        draft.limits(resources)?;
        let mut plan = draft.plan;
        if !resources.devices.is_empty() {
            plan.devices = Some(devices::policy(&resources.devices)?);
        }
        Ok(plan)
    }

    /// Lists what was ignored, in sentences for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Lists the writes in order.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Returns the policy for device nodes, if the plan has one.
    pub fn devices(&self) -> Option<&Policy> {
        self.devices.as_ref()
    }

    pub(crate) fn sets(&self, file: &str) -> bool {
        self.writes.iter().any(|write| write.file == file)
    }

    /// The writes to a file, of which the last is what stays.
    pub(crate) fn writes_of(&mut self, file: &str) -> impl Iterator<Item = &mut Write> {
        self.writes.iter_mut().filter(move |write| write.file == file)
    }

    /// Lists the v2 controllers that the writes need.
    pub(crate) fn v2_controllers(&self) -> impl Iterator<Item = &str> {
        self.writes
            .iter()
            .filter(|write| write.version == Version::V2 && write.controller != unified::CORE)
            .map(|write| write.controller.as_ref())
    }
}

impl Write {
    /// Returns the interface that the file belongs to.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the controller, by the name that the interface has for it.
    pub fn controller(&self) -> &str {
        &self.controller
    }

    /// Returns the name of the file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Returns the text to write; `now` reads a file of the cgroup, where it depends on what is in force.
    ///
    /// # Errors
    /// Those of `now`.
    pub(crate) fn resolved(&self, now: impl Fn(&str) -> Result<String>) -> Result<String> {
        Ok(match &self.value {
            Value::Text(text) => text.clone(),
            Value::KeepFirstWord(rest) => {
                format!("{} {rest}", now(&self.file)?.split_whitespace().next().unwrap_or("max"))
            }
            Value::LessMemory(total) => {
                // Without a limit of memory all of it is swap.
                let memory: u64 = now("memory.max")?.trim().parse().unwrap_or_default();
                total.saturating_sub(memory).to_string()
            }
        })
    }

    /// Returns the text, as far as it does not depend on what is in force.
    pub fn value(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::KeepFirstWord(_) | Value::LessMemory(_) => None,
        }
    }
}

/// Whether limits are new or change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    Create,
    Update,
}

/// A plan while it is made.
pub(crate) struct Draft<'a> {
    host: &'a Host,
    occasion: Occasion,
    plan: Plan,
}

impl<'a> Draft<'a> {
    fn new(host: &'a Host, occasion: Occasion) -> Self {
        Self { host, occasion, plan: Plan::default() }
    }

    fn limits(&mut self, resources: &Resources) -> Result<()> {
        let Resources {
            devices: _, // They are no limits: the plan's makers compile them.
            memory,
            cpu,
            pids,
            block_io,
            hugepage_limits,
            network,
            rdma,
            unified,
        } = resources;
        if let Some(memory) = memory {
            self.memory(memory)?;
        }
        if let Some(cpu) = cpu {
            self.cpu(cpu)?;
            self.cpuset(cpu)?;
        }
        if let Some(pids) = pids {
            self.pids(pids);
        }
        if let Some(block_io) = block_io {
            self.io(block_io)?;
        }
        self.hugetlb(hugepage_limits)?;
        if let Some(network) = network {
            self.network(network)?;
        }
        self.rdma(rdma)?;
        self.unified(unified)?;
        self.drop_weight_of_idle();
        Ok(())
    }

    /// The kernel refuses an idle cgroup a weight, and systemd can be told one of the two. The words are runc's.
    fn drop_weight_of_idle(&mut self) {
        let writes = &mut self.plan.writes;
        let is_idle = writes.iter().any(|write| write.file == "cpu.idle" && write.value() == Some("1"));
        let before = writes.len();
        writes.retain(|write| !is_idle || !cpu::WEIGHTS.contains(&write.file()));
        if writes.len() < before {
            self.warn("unable to apply both cpu.weight and cpu.idle, ignoring cpu.weight");
        }
    }

    /// Returns the interface through which a controller is reached on this machine.
    ///
    /// A controller that is nowhere counts as v1 where there is v1 only, else as v2; applying says that it is missing.
    fn version(&self, controller: &str) -> Version {
        match self.host.layout() {
            Layout::Unified => Version::V2,
            Layout::Legacy => Version::V1,
            Layout::Hybrid if self.host.v1(controller).is_some() => Version::V1,
            Layout::Hybrid => Version::V2,
        }
    }

    fn warn(&mut self, sentence: &str) {
        if !self.plan.warnings.iter().any(|known| known == sentence) {
            self.plan.warnings.push(sentence.to_owned());
        }
    }

    /// Adds a write and hands it out for the rare properties.
    fn set(
        &mut self,
        version: Version,
        controller: impl Into<Cow<'static, str>>,
        file: impl Into<Cow<'static, str>>,
        value: &(impl ToString + ?Sized),
    ) -> &mut Write {
        self.plan.writes.push(Write {
            version,
            controller: controller.into(),
            file: file.into(),
            value: Value::Text(value.to_string()),
            if_missing: IfMissing::Fail,
            if_refused: IfRefused::Fail,
            reach: Reach::Container,
        });
        let last = self.plan.writes.len() - 1;
        &mut self.plan.writes[last]
    }
}

impl Write {
    fn or_later(&mut self) -> &mut Self {
        self.if_refused = IfRefused::Later;
        self
    }

    fn if_there(&mut self) -> &mut Self {
        self.if_missing = IfMissing::Skip;
        self
    }

    fn or_instead(&mut self, file: &'static str, value: &(impl ToString + ?Sized)) -> &mut Self {
        self.if_missing = IfMissing::Instead(file, value.to_string());
        self
    }

    fn for_parents_too(&mut self) -> &mut Self {
        self.reach = Reach::Parents;
        self
    }
}

/// Reads "0 means unset", which the specification inherits from its first implementation.
fn given<T: Copy + Default + PartialEq>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// Checks that a number of the configuration lies in a range.
fn within<T: PartialOrd + Copy + std::fmt::Display>(pointer: &str, value: T, least: T, most: T) -> Result<T> {
    if value < least || value > most {
        return Err(Error::invalid(pointer, format!("{value} is not in the range from {least} to {most}")));
    }
    Ok(value)
}

/// Writes a member name as a JSON pointer has it (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    const V1: &str = "\
1 0 0:1 / /c/cpu rw - cgroup x rw,cpu,cpuacct
2 0 0:2 / /c/memory rw - cgroup x rw,memory
3 0 0:3 / /c/cpuset rw - cgroup x rw,cpuset
4 0 0:4 / /c/blkio rw - cgroup x rw,blkio
";
    const V2: &str = "9 0 0:9 / /c rw - cgroup2 x rw\n";

    pub(crate) fn legacy() -> Host {
        Host::from_mountinfo(V1).unwrap()
    }

    pub(crate) fn unified() -> Host {
        Host::from_mountinfo(V2).unwrap()
    }

    pub(crate) fn hybrid() -> Host {
        Host::from_mountinfo(&format!("{V1}{}", V2.replace("/c ", "/c/unified "))).unwrap()
    }

    /// Shows a plan as lines of `file value`, with what is special about a write behind it.
    fn shown(plan: &Plan) -> Vec<String> {
        plan.writes
            .iter()
            .map(|write| {
                let mut line = match &write.value {
                    Value::Text(text) => format!("{} {text}", write.file),
                    Value::KeepFirstWord(text) => format!("{} … {text}", write.file),
                    Value::LessMemory(total) => format!("{} {total}-memory", write.file),
                };
                match &write.if_missing {
                    IfMissing::Fail => {}
                    IfMissing::Skip => line.push_str(" [if there]"),
                    IfMissing::Instead(file, value) => line.push_str(&format!(" [or {file} {value}]")),
                }
                if write.if_refused == IfRefused::Later {
                    line.push_str(" [or later]");
                }
                line
            })
            .collect()
    }

    fn resources(json: &str) -> Resources {
        Resources::from_json(json).unwrap()
    }

    /// Plans the JSON of a resources object for a new container.
    pub(crate) fn create(host: &Host, json: &str) -> Vec<String> {
        shown(&Plan::for_container(Some(&resources(json)), host, Devices::Untouched).unwrap())
    }

    /// Plans the JSON of a resources object for an update.
    pub(crate) fn update(host: &Host, json: &str) -> Vec<String> {
        shown(&Plan::for_update(&resources(json), host).unwrap())
    }

    /// Returns the message with which a resources object is refused.
    pub(crate) fn refused(host: &Host, json: &str) -> String {
        Plan::for_container(Some(&resources(json)), host, Devices::Untouched).unwrap_err().to_string()
    }

    /// Returns the warnings that a resources object causes.
    pub(crate) fn warned(host: &Host, json: &str) -> Vec<String> {
        Plan::for_container(Some(&resources(json)), host, Devices::Untouched).unwrap().warnings
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn no_resources_is_an_empty_plan() {
        assert_eq!(create(&legacy(), "{}"), Vec::<String>::new());
        let plan = Plan::for_container(None, &unified(), Devices::Untouched).unwrap();
        assert_eq!(plan, Plan::default());
    }

    #[test]
    fn what_is_idle_gets_no_weight() {
        for json in [
            r#"{"cpu": {"shares": 2048, "idle": 1}}"#,
            r#"{"unified": {"cpu.weight": "8", "cpu.idle": "1"}}"#,
            r#"{"unified": {"cpu.weight.nice": "5", "cpu.idle": "1"}}"#,
        ] {
            assert_eq!(create(&unified(), json), ["cpu.idle 1"]);
            let warnings = warned(&unified(), json);
            assert!(warnings[0].starts_with("unable to apply both"), "{warnings:?}");
        }
        let json = r#"{"cpu": {"shares": 1024, "idle": 0}}"#;
        assert_eq!(create(&unified(), json), ["cpu.weight 100 [or later]", "cpu.idle 0"]);
        assert!(warned(&unified(), json).is_empty());
    }

    #[test]
    fn a_hybrid_machine_takes_each_controller_where_it_is() {
        let json = r#"{"memory": {"limit": 1048576}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}"#;
        assert_eq!(
            create(&hybrid(), json),
            [
                "memory.limit_in_bytes 1048576 [or later]",
                "hugetlb.2MB.max 0",
                "hugetlb.2MB.rsvd.max 0 [if there]"
            ]
        );
    }

    #[test]
    fn an_update_leaves_devices_alone_unless_it_lists_them() {
        let update = |json| Plan::for_update(&Resources::from_json(json).unwrap(), &legacy()).unwrap();
        assert_eq!(update("{}").devices(), None);
        assert_eq!(update(r#"{"devices": []}"#).devices(), None);
        let listed = r#"{"devices": [{"allow": false, "access": "rwm"}]}"#;
        assert_eq!(update(listed).devices(), Some(&devices::policy(&[]).unwrap()));
    }
}
