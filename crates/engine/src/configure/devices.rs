//! The devices of a container.

use std::path::Path;

use bulkhead_spec::{Device, DeviceRule, DeviceRuleType, DeviceType, Mount};

use super::{Caller, DeviceKind, HostDevice, Runtime, Scene, invalid};
use crate::error::Result;
use crate::request::{self, Node};

/// What was decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// Nodes besides those that every container has.
    pub(super) nodes: Vec<Device>,
    /// Those that nobody makes for a user namespace: mounts of the host's.
    pub(super) binds: Vec<Mount>,
    /// What may be used.
    pub(super) rules: Vec<DeviceRule>,
}

/// Character devices that every container may use: null, zero, full, random, urandom, tty, console and ptmx.
const USABLE: [(i64, i64); 8] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
/// Pseudo-terminals.
const PTS: i64 = 136;

/// Decides nodes and rules.
///
/// # Errors
/// A device that the host does not have.
pub(super) fn decide(scene: &Scene<'_>) -> Result<Decided> {
    let mut decided = Decided { nodes: Vec::new(), binds: Vec::new(), rules: Vec::new() };
    if scene.request.security.privileged {
        decided.rules.push(DeviceRule {
            allow: true,
            access: Some("rwm".to_owned()),
            ..DeviceRule::default()
        });
        let inside = |device: &HostDevice| text(&device.path).map(|path| node(device, path));
        decided.nodes = scene.facts.all_devices.iter().map(inside).collect::<Result<_>>()?;
    } else {
        decided.rules = basic();
    }
    for asked in &scene.request.devices.nodes {
        add(scene, asked, &mut decided)?;
    }
    for rule in &scene.request.devices.rules {
        decided.rules.push(self::rule(rule));
    }
    Ok(decided)
}

fn basic() -> Vec<DeviceRule> {
    let allow = |kind, major, minor, access: &str| DeviceRule {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access: Some(access.to_owned()),
    };
    let mut rules = vec![
        DeviceRule { allow: false, access: Some("rwm".to_owned()), ..DeviceRule::default() },
        // Nodes may be made; to use them is another matter.
        allow(DeviceRuleType::Char, None, None, "m"),
        allow(DeviceRuleType::Block, None, None, "m"),
    ];
    rules.extend(USABLE.map(|(major, minor)| allow(DeviceRuleType::Char, Some(major), Some(minor), "rwm")));
    rules.push(allow(DeviceRuleType::Char, Some(PTS), None, "rwm"));
    rules
}

fn add(scene: &Scene<'_>, asked: &Node, decided: &mut Decided) -> Result<()> {
    let wrong = |reason: &str| invalid(format!("--device {}", asked.host.display()), reason);
    let found = scene.facts.devices.get(&asked.host).filter(|found| !found.is_empty());
    let found = found.ok_or_else(|| wrong("this host has no such device, and no directory of devices"))?;
    for device in found {
        let below = device.path.strip_prefix(&asked.host).unwrap_or(Path::new(""));
        let path = match below.as_os_str().is_empty() {
            true => asked.container.clone(),
            false => format!("{}/{}", asked.container, text(below)?),
        };
        decided.nodes.retain(|other| other.path != path);
        decided.binds.retain(|other| other.destination != path);
        // A runtime that makes no nodes looks for the host's at the same path.
        if !are_made(scene) && Path::new(&path) != device.path {
            decided.binds.push(bind(device, path)?);
        } else {
            decided.nodes.push(node(device, path));
        }
        decided.rules.push(DeviceRule {
            allow: true,
            kind: Some(match device.kind {
                DeviceKind::Char => DeviceRuleType::Char,
                DeviceKind::Block => DeviceRuleType::Block,
            }),
            major: Some(device.major.into()),
            minor: Some(device.minor.into()),
            access: Some(asked.access.as_str().to_owned()),
        });
    }
    Ok(())
}

/// Tells whether nodes are made for the container, with an owner that its users have: `bulkrun` makes those of a user namespace,
/// too, where it has the host's rights.
fn are_made(scene: &Scene<'_>) -> bool {
    scene.users.is_none() || (scene.runtime == Runtime::Ours && scene.facts.caller == Caller::Root)
}

fn node(device: &HostDevice, path: String) -> Device {
    Device {
        path,
        kind: match device.kind {
            DeviceKind::Char => DeviceType::Char,
            DeviceKind::Block => DeviceType::Block,
        },
        major: device.major.into(),
        minor: device.minor.into(),
        file_mode: Some(device.mode & 0o7777),
        uid: Some(device.uid),
        gid: Some(device.gid),
    }
}

fn bind(device: &HostDevice, path: String) -> Result<Mount> {
    let options = ["bind", "rprivate", "nosuid", "noexec"].map(str::to_owned).to_vec();
    let source = Some(text(&device.path)?);
    Ok(Mount { destination: path, kind: Some("bind".to_owned()), source, options, ..Mount::default() })
}

fn rule(rule: &request::DeviceRule) -> DeviceRule {
    DeviceRule {
        allow: true,
        kind: Some(match rule.kind {
            'b' => DeviceRuleType::Block,
            'c' => DeviceRuleType::Char,
            _ => DeviceRuleType::All,
        }),
        major: rule.major.map(i64::from),
        minor: rule.minor.map(i64::from),
        access: Some(rule.access.as_str().to_owned()),
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| invalid(path.display().to_string(), "the path is not UTF-8"))
}
