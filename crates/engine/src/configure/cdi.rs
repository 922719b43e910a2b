//! Devices of the Container Device Interface: what a vendor's specification changes for a container that asks for one.
//!
//! Specifications lie in `/etc/cdi` and `/var/run/cdi`, of which the later one counts where both have a device. They are JSON
//! or YAML, as the ends of their names say. One that cannot be read takes nothing from the devices of others. Source: the
//! specification 1.1 at github.com/cncf-tags/container-device-interface, `SPEC.md`.

mod yaml;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bulkhead_spec::{
    Config, Device, DeviceRule, DeviceRuleType, DeviceType, Hook, Hooks, IntelRdt, Linux, Mount, NetDevice,
};
use serde::{Deserialize, Deserializer};

use super::{DeviceKind, Facts, invalid};
use crate::error::Result;
use crate::request::{CdiName, Request};

/// Where specifications are, the later one of more weight.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The newest version of the specification whose parts are all known here; those before it are understood as well.
const NEWEST: (u32, u32) = (1, 1);

/// Tells whether a file's name is that of a specification.
pub fn is_specification(path: &Path) -> bool {
    Form::of(path).is_some()
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Yaml,
}

impl Form {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// A file of one of the [`DIRECTORIES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Specification {
    cdi_version: String,
    kind: String,
    #[serde(deserialize_with = "nullable")]
    devices: Vec<Described>,
    #[serde(deserialize_with = "nullable")]
    container_edits: Edits,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Described {
    name: String,
    #[serde(deserialize_with = "nullable")]
    container_edits: Edits,
}

/// What changes in a container.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Edits {
    #[serde(deserialize_with = "nullable")]
    env: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    device_nodes: Vec<Node>,
    #[serde(deserialize_with = "nullable")]
    net_devices: Vec<Interface>,
    #[serde(deserialize_with = "nullable")]
    mounts: Vec<Bound>,
    #[serde(deserialize_with = "nullable")]
    hooks: Vec<Called>,
    #[serde(rename = "additionalGids", deserialize_with = "nullable")]
    groups: Vec<u32>,
    intel_rdt: Option<Rdt>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Node {
    path: String,
    #[serde(deserialize_with = "nullable")]
    host_path: String,
    #[serde(rename = "type", deserialize_with = "nullable")]
    kind: String,
    major: Option<i64>,
    minor: Option<i64>,
    file_mode: Option<u32>,
    #[serde(deserialize_with = "nullable")]
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Node {
    /// Where the node is on the host.
    fn host(&self) -> &str {
        if self.host_path.is_empty() { &self.path } else { &self.host_path }
    }
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Interface {
    host_interface_name: String,
    #[serde(deserialize_with = "nullable")]
    name: String,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bound {
    host_path: String,
    container_path: String,
    #[serde(deserialize_with = "nullable")]
    options: Vec<String>,
    #[serde(rename = "type", deserialize_with = "nullable")]
    kind: String,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Called {
    hook_name: String,
    path: String,
    #[serde(deserialize_with = "nullable")]
    args: Vec<String>,
    env: Option<Vec<String>>,
    timeout: Option<i64>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rdt {
    #[serde(rename = "closID", deserialize_with = "nullable")]
    clos_id: String,
    #[serde(deserialize_with = "nullable")]
    l3_cache_schema: String,
    #[serde(deserialize_with = "nullable")]
    mem_bw_schema: String,
    #[serde(deserialize_with = "nullable")]
    schemata: Vec<String>,
    enable_monitoring: bool,
}

fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Returns the paths on the host of the nodes whose numbers a specification leaves to the host, for [`Facts::devices`].
///
/// # Errors
/// As [`apply`].
pub fn nodes(request: &Request, files: &[File]) -> Result<Vec<PathBuf>> {
    let edits = wanted(&request.devices.cdi, files)?;
    let edits = edits.iter().map(|(_, edits)| edits);
    let open = |node: &&Node| node.major.is_none() || node.minor.is_none() || node.kind.is_empty();
    let nodes = edits.flat_map(|edits| &edits.device_nodes);
    Ok(nodes.filter(open).map(|node| PathBuf::from(node.host())).collect())
}

/// Changes a configuration for the devices that were asked for.
///
/// # Errors
/// A device that no file describes, a file that cannot be read, a node that the host does not have.
pub(super) fn apply(request: &Request, facts: &Facts, config: &mut Config) -> Result<()> {
    for (file, edits) in wanted(&request.devices.cdi, &facts.cdi)? {
        let Edits { env, device_nodes, net_devices, mounts, hooks, groups, intel_rdt } = edits;
        let linux = config.linux.get_or_insert_default();
        device_nodes.iter().try_for_each(|node| add_node(linux, facts, file, node))?;
        for Interface { host_interface_name, name } in net_devices {
            let name = Some(name).filter(|name| !name.is_empty());
            linux.net_devices.insert(host_interface_name, NetDevice { name });
        }
        if let Some(rdt) = intel_rdt {
            let some = |text: String| Some(text).filter(|text| !text.is_empty());
            linux.intel_rdt = Some(IntelRdt {
                clos_id: some(rdt.clos_id),
                l3_cache_schema: some(rdt.l3_cache_schema),
                mem_bw_schema: some(rdt.mem_bw_schema),
                schemata: rdt.schemata,
                enable_monitoring: rdt.enable_monitoring,
                ..IntelRdt::default()
            });
        }
        config.mounts.extend(mounts.into_iter().map(|Bound { host_path, container_path, options, kind }| {
            Mount {
                destination: container_path,
                kind: Some(if kind.is_empty() { "bind".to_owned() } else { kind }),
                source: Some(host_path),
                options: if options.is_empty() { vec!["bind".to_owned()] } else { options },
                ..Mount::default()
            }
        }));
        hooks.into_iter().try_for_each(|hook| add_hook(&mut config.hooks, file, hook))?;
        if let Some(process) = &mut config.process {
            for variable in env {
                let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name).to_owned();
                process
                    .env
                    .retain(|other| other.split_once('=').map_or(other.as_str(), |(other, _)| other) != name);
                process.env.push(variable);
            }
            let known = &mut process.user.additional_gids;
            for group in groups {
                if group != 0 && !known.contains(&group) {
                    known.push(group);
                }
            }
        }
    }
    Ok(())
}

/// Finds what the devices change, and which file says so: those of one file share what the file changes for all.
fn wanted<'a>(names: &[CdiName], files: &'a [File]) -> Result<Vec<(&'a Path, Edits)>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let known = Known::read(files);
    let mut edits = Vec::new();
    let mut used = BTreeSet::new();
    for name in names {
        let (index, device) = known.find(name)?;
        let (file, specification) = &known.specifications[index];
        if used.insert(index) {
            edits.push((*file, specification.container_edits.clone()));
        }
        edits.push((*file, device.container_edits.clone()));
    }
    Ok(edits)
}

/// All specifications of the host.
struct Known<'a> {
    specifications: Vec<(&'a Path, Specification)>,
    /// Files that cannot be read, and why.
    bad: Vec<(&'a Path, String)>,
}

impl<'a> Known<'a> {
    fn read(files: &'a [File]) -> Self {
        let mut known = Self { specifications: Vec::new(), bad: Vec::new() };
        for File { path, text } in files {
            let Some(form) = Form::of(path) else { continue };
            match read(form, text) {
                Ok(specification) => known.specifications.push((path, specification)),
                Err(reason) => known.bad.push((path, reason)),
            }
        }
        known
    }

    /// Finds the device of this name: that of the later directory, in which only one file may have it.
    fn find(&self, name: &CdiName) -> Result<(usize, &Described)> {
        let device = |specification: &'_ Specification| {
            let is_it = |device: &&Described| device.name == name.name;
            let devices = specification.devices.iter().filter(|_| specification.kind == name.kind);
            devices.clone().position(|device| is_it(&device))
        };
        let having = self.specifications.iter().enumerate().rev();
        let mut having = having.filter(|(_, (_, specification))| device(specification).is_some());
        let Some((index, (file, specification))) = having.next() else { return Err(self.unknown(name)) };
        if let Some((_, (other, _))) = having.next()
            && other.parent() == file.parent()
        {
            let reason = format!(
                "{} and {} both describe it, and neither counts more: remove one of them",
                other.display(),
                file.display()
            );
            return Err(invalid(format!("--device {name}"), reason));
        }
        let device = device(specification).and_then(|place| specification.devices.get(place));
        device.map(|device| (index, device)).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &CdiName) -> crate::error::Error {
        let mut known: Vec<String> = self
            .specifications
            .iter()
            .flat_map(|(_, specification)| {
                specification.devices.iter().map(|device| format!("{}={}", specification.kind, device.name))
            })
            .collect();
        known.sort();
        let mut reason = match known.is_empty() {
            true => format!("no file in {} describes it", DIRECTORIES.join(" or ")),
            false => format!("no file of CDI describes it; there are {}", known.join(", ")),
        };
        for (path, why) in &self.bad {
            reason.push_str(&format!("; {}: it is no specification of CDI: {why}", path.display()));
        }
        invalid(format!("--device {name}"), reason)
    }
}

/// Reads a specification.
fn read(form: Form, text: &str) -> std::result::Result<Specification, String> {
    let specification: Specification = match form {
        Form::Json => serde_json::from_str(text).map_err(|error| error.to_string())?,
        Form::Yaml => serde_json::from_value(yaml::read(text)?).map_err(|error| error.to_string())?,
    };
    let version = specification.cdi_version.as_str();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) <= NEWEST => Ok(specification),
        (Some(_), Some(_)) => {
            let (major, minor) = NEWEST;
            Err(format!("it has version {version}, and this program knows none after {major}.{minor}"))
        }
        _ if version.is_empty() => Err("it has no cdiVersion".to_owned()),
        _ => Err(format!("its cdiVersion {version:?} is none")),
    }
}

fn add_node(linux: &mut Linux, facts: &Facts, file: &Path, node: &Node) -> Result<()> {
    let host = facts.devices.get(Path::new(node.host())).and_then(|found| found.first());
    let kind = match (node.kind.as_str(), host.map(|host| host.kind)) {
        ("b", _) | ("", Some(DeviceKind::Block)) => DeviceType::Block,
        ("c" | "u", _) | ("", Some(DeviceKind::Char)) => DeviceType::Char,
        ("p", _) => DeviceType::Pipe,
        _ => return Err(missing(file, node)),
    };
    let number = |given: Option<i64>, of_host: Option<u32>| given.or(of_host.map(i64::from));
    let major = number(node.major, host.map(|host| host.major));
    let minor = number(node.minor, host.map(|host| host.minor));
    let (major, minor) = match (major, minor) {
        (Some(major), Some(minor)) => (major, minor),
        _ if kind == DeviceType::Pipe => (0, 0),
        _ => return Err(missing(file, node)),
    };
    linux.devices.retain(|device| device.path != node.path);
    linux.devices.push(Device {
        path: node.path.clone(),
        kind,
        major,
        minor,
        file_mode: node.file_mode.or(host.map(|host| host.mode & 0o7777)),
        uid: node.uid,
        gid: node.gid,
    });
    if kind != DeviceType::Pipe
        && let Some(resources) = &mut linux.resources
    {
        let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        resources.devices.push(DeviceRule {
            allow: true,
            kind: Some(if kind == DeviceType::Block { DeviceRuleType::Block } else { DeviceRuleType::Char }),
            major: Some(major),
            minor: Some(minor),
            access: Some(access.to_owned()),
        });
    }
    Ok(())
}

fn missing(file: &Path, node: &Node) -> crate::error::Error {
    invalid(
        format!("device {}", node.host()),
        format!("{} names it, and this host does not have it", file.display()),
    )
}

fn add_hook(hooks: &mut Hooks, file: &Path, called: Called) -> Result<()> {
    let Called { hook_name, path, args, env, timeout } = called;
    let list = match hook_name.as_str() {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        "poststop" => &mut hooks.poststop,
        other => {
            return Err(invalid(
                file.display().to_string(),
                format!("it has a hook of an unknown kind, {other:?}"),
            ));
        }
    };
    list.push(Hook { path, args, env, timeout });
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::configure::tests::Stage;

    const SPECIFICATION: &str = r#"{
        "cdiVersion": "0.6.0", "kind": "vendor.com/card",
        "containerEdits": {"env": ["CARDS=1", "A=9"], "hooks": [
            {"hookName": "createContainer", "path": "/usr/bin/hook", "args": ["hook", "x"]}]},
        "devices": [
            {"name": "0", "containerEdits": {
                "deviceNodes": [{"path": "/dev/card0", "hostPath": "/dev/zero"},
                    {"path": "/dev/card-ctl", "type": "c", "major": 195, "minor": 255, "permissions": "rw"}],
                "mounts": [{"hostPath": "/usr/lib/x", "containerPath": "/usr/lib/x", "options": ["ro", "rbind"]}],
                "additionalGids": [44, 0]}},
            {"name": "none", "containerEdits": {"deviceNodes": [{"path": "/dev/missing"}]}},
            {"name": "odd", "containerEdits": {"hooks": [{"hookName": "before", "path": "/x"}]}}
        ]}"#;

    fn asked(names: &[&str], files: &[(&str, &str)]) -> std::result::Result<Value, String> {
        let mut stage = Stage::of(Request::default());
        stage.request.devices.cdi = names.iter().map(|name| name.parse().unwrap()).collect();
        stage.facts.cdi =
            files.iter().map(|&(path, text)| File { path: path.into(), text: text.to_owned() }).collect();
        let configured = stage.configured().map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(configured.config).unwrap())
    }

    #[test]
    fn a_device_brings_what_its_specification_says() {
        let config = asked(&["vendor.com/card=0"], &[("/etc/cdi/v.json", SPECIFICATION)]).unwrap();
        let linux = &config["linux"];
        assert_eq!(
            linux["devices"],
            json!([
                { "path": "/dev/card0", "type": "c", "major": 1, "minor": 5, "fileMode": 0o660 },
                { "path": "/dev/card-ctl", "type": "c", "major": 195, "minor": 255 },
            ])
        );
        let rules = linux["resources"]["devices"].as_array().unwrap();
        assert_eq!(
            *rules.last().unwrap(),
            json!({ "allow": true, "type": "c", "major": 195, "minor": 255, "access": "rw" })
        );
        let env = config["process"]["env"].as_array().unwrap();
        assert!(
            env.contains(&json!("CARDS=1")) && env.contains(&json!("A=9")) && !env.contains(&json!("A=1"))
        );
        assert_eq!(config["process"]["user"]["additionalGids"], json!([0, 44]));
        assert_eq!(
            config["hooks"]["createContainer"],
            json!([{ "path": "/usr/bin/hook", "args": ["hook", "x"] }])
        );
        let last = config["mounts"].as_array().unwrap().last().unwrap();
        assert_eq!(
            *last,
            json!({ "destination": "/usr/lib/x", "type": "bind", "source": "/usr/lib/x", "options": ["ro", "rbind"] })
        );
    }

    #[test]
    fn the_later_file_counts() {
        let other = SPECIFICATION.replace("CARDS=1", "CARDS=2");
        let files = [("/etc/cdi/v.json", SPECIFICATION), ("/var/run/cdi/v.json", other.as_str())];
        let config = asked(&["vendor.com/card=0"], &files).unwrap();
        assert!(config["process"]["env"].as_array().unwrap().contains(&json!("CARDS=2")));
    }

    #[test]
    fn what_is_not_described_is_told() {
        let files = [("/etc/cdi/v.json", SPECIFICATION)];
        for (name, files, words) in [
            ("vendor.com/card=7", &files[..], "there are vendor.com/card=0, vendor.com/card=none"),
            ("vendor.com/card=0", &[][..], "no file in /etc/cdi or /var/run/cdi"),
            (
                "vendor.com/card=0",
                &[("/etc/cdi/n.yaml", "a: b")][..],
                "/etc/cdi/n.yaml: it is no specification of CDI: it has no cdiVersion",
            ),
            (
                "vendor.com/card=0",
                &[("/etc/cdi/n.yml", "a: [")][..],
                "/etc/cdi/n.yml: it is no specification",
            ),
            ("vendor.com/card=0", &[("/etc/cdi/n.json", "{")][..], "/etc/cdi/n.json: it is no specification"),
            (
                "vendor.com/card=0",
                &[("/etc/cdi/n.yml", "cdiVersion: 2.0.0")][..],
                "it has version 2.0.0, and",
            ),
            ("vendor.com/card=none", &files[..], "device /dev/missing: /etc/cdi/v.json names it"),
            ("vendor.com/card=odd", &files[..], "/etc/cdi/v.json: it has a hook of an unknown kind"),
        ] {
            let error = asked(&[name], files).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        asked(&[], &[("/etc/cdi/n.json", "{")]).unwrap();
    }

    #[test]
    fn yaml_says_the_same_and_a_broken_file_takes_nothing_from_others() {
        let yaml = "
            cdiVersion: \"0.6.0\"
            kind: vendor.com/card
            containerEdits:
              env: [CARDS=1]
            devices:
            - name: \"0\"
              containerEdits:
                deviceNodes:
                - {path: /dev/card0, type: c, major: 195, minor: 0, fileMode: 0640, uid: 7}
                mounts: null
                hooks:
                - hookName: createContainer
                  path: /usr/bin/hook
                  args:
                  - hook
                  - --x
        ";
        let files = [("/etc/cdi/a.json", "{"), ("/etc/cdi/v.yaml", yaml), ("/etc/cdi/notes.txt", "none")];
        let config = asked(&["vendor.com/card=0"], &files).unwrap();
        assert_eq!(
            config["linux"]["devices"],
            json!([{ "path": "/dev/card0", "type": "c", "major": 195, "minor": 0, "fileMode": 0o640, "uid": 7 }])
        );
        assert!(config["process"]["env"].as_array().unwrap().contains(&json!("CARDS=1")));
        assert_eq!(config["hooks"]["createContainer"][0]["args"], json!(["hook", "--x"]));
    }

    #[test]
    fn one_directory_has_a_device_once() {
        let files = [("/etc/cdi/a.json", SPECIFICATION), ("/etc/cdi/b.json", SPECIFICATION)];
        let error = asked(&["vendor.com/card=0"], &files).unwrap_err();
        assert!(error.contains("/etc/cdi/a.json and /etc/cdi/b.json both describe it"), "{error}");
    }

    #[test]
    fn the_host_is_asked_for_what_is_left_open() {
        let mut request = Request::default();
        request.devices.cdi = vec!["vendor.com/card=0".parse().unwrap()];
        let files = [File { path: "/etc/cdi/v.json".into(), text: SPECIFICATION.to_owned() }];
        assert_eq!(nodes(&request, &files).unwrap(), [PathBuf::from("/dev/zero")]);
    }
}
