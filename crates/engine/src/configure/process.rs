//! What runs in a container, with which environment and rights.

use std::collections::BTreeMap;

use bulkhead_shim::protocol::Size;
use bulkhead_spec::{Capabilities, ConsoleSize, Process, Rlimit, User};
use bulkhead_store::Defaults;

use super::security::Decided;
use super::{Caller, Identity, Scene, Users, identity, invalid};
use crate::error::Result;
use crate::request::{Request, UserNamespace, UserSpec, Variable};

/// What is in `PATH` unless somebody says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a user is told whose containers have no other users.
const ALONE: &str = "you are the only user of this container, and all its files are yours: it has no other ids without \
                     newuidmap, newgidmap (Debian: package uidmap), and a line of yours in /etc/subuid and /etc/subgid";
/// Where the init of `--init` is in the container.
pub(super) const INIT: &str = "/sbin/docker-init";

/// Returns the program and its arguments: `ENTRYPOINT` and `CMD`, over which the request's go. An entrypoint of the request's
/// takes the image's command away, too.
///
/// # Errors
/// Nothing to run.
pub fn command_line(request: &Request, defaults: &Defaults) -> Result<Vec<String>> {
    let (entrypoint, command) = match &request.process.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), request.process.command.clone()),
        None => {
            let command = match request.process.command.is_empty() {
                true => defaults.cmd.clone().unwrap_or_default(),
                false => request.process.command.clone(),
            };
            (defaults.entrypoint.clone().unwrap_or_default(), command)
        }
    };
    // By one empty word an image has none of what it is made from.
    let entrypoint = if entrypoint == [""] { Vec::new() } else { entrypoint };
    let words = [entrypoint, command].concat();
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        Some(_) => Err(invalid("command", "the program's name is empty")),
        None => Err(invalid("command", "the image says nothing to run; name a program behind it")),
    }
}

/// Returns the image's labels, over which the request's go.
pub fn labels(request: &Request, defaults: &Defaults) -> BTreeMap<String, String> {
    let mut labels = defaults.labels.clone();
    labels.extend(request.labels.clone());
    labels
}

/// Writes the size of a terminal as the specification has it.
pub fn console_size(size: Size) -> ConsoleSize {
    ConsoleSize { height: size.rows.into(), width: size.columns.into() }
}

/// Decides as whom it runs.
pub(super) fn identity(scene: &Scene<'_>) -> Result<Identity> {
    let spec = match (&scene.request.process.user, kept(scene)) {
        (Some(user), _) => user.clone(),
        (None, Some(user)) => user,
        (None, None) => {
            scene.defaults.user.parse::<UserSpec>().map_err(|error| invalid("image", error.to_string()))?
        }
    };
    let identity = identity::resolve(scene.image, &spec, &scene.request.process.groups)?;
    if let Some(users) = scene.users
        && users.on_host(identity.uid, identity.gid).is_none()
    {
        let reason = format!(
            "its ids {}:{} are not among those of the container's user namespace; map more of them, or run as another",
            identity.uid, identity.gid
        );
        return Err(invalid(format!("user {spec}"), reason));
    }
    Ok(identity)
}

/// Returns who an ordinary user is that stays the same inside: as that user all runs, whatever the image says.
fn kept(scene: &Scene<'_>) -> Option<UserSpec> {
    let Some(UserNamespace::KeepId { uid: inside, gid: group }) = scene.request.namespaces.user else {
        return None;
    };
    let Caller::User { uid, gid } = scene.facts.caller else { return None };
    let (uid, gid) = (inside.unwrap_or(uid), group.unwrap_or(gid));
    Some(UserSpec { user: uid.to_string(), group: Some(gid.to_string()) })
}

/// Decides the whole process.
pub(super) fn decide(
    scene: &Scene<'_>,
    identity: &Identity,
    hostname: &str,
    security: &Decided,
    warnings: &mut Vec<String>,
) -> Result<Process> {
    let Scene { request, defaults, facts, .. } = *scene;
    let mut args = command_line(request, defaults)?;
    if request.process.init {
        // Words before `--` are bulkmon's, which is what lies there.
        args.splice(0..0, [INIT, "init", "--"].map(str::to_owned));
    }
    let bounding = security.capabilities.clone();
    let is_alone = facts.caller != Caller::Root && scene.users.is_some_and(Users::is_one);
    if is_alone {
        warnings.push(ALONE.to_owned());
    }
    let directory = request.process.directory.as_deref().unwrap_or(&defaults.working_dir);
    let directory = match directory {
        "" => "/",
        absolute if absolute.starts_with('/') => absolute,
        other => {
            return Err(invalid(format!("--workdir {other}"), "expected an absolute path in the container"));
        }
    };
    Ok(Process {
        terminal: request.process.terminal,
        console_size: request.process.size.filter(|_| request.process.terminal).map(console_size),
        user: User {
            uid: identity.uid,
            gid: identity.gid,
            umask: request.process.umask,
            additional_gids: if is_alone { Vec::new() } else { identity.groups.clone() },
        },
        args,
        env: environment(scene, identity, hostname)?,
        cwd: directory.to_owned(),
        capabilities: Some(Capabilities {
            effective: bounding.clone(),
            permitted: bounding.clone(),
            bounding,
            ..Capabilities::default()
        }),
        rlimits: rlimits(scene)?,
        no_new_privileges: request.security.no_new_privileges,
        apparmor_profile: security.apparmor.clone(),
        oom_score_adj: oom_score(scene, warnings)?,
        selinux_label: security.process_label.clone(),
        ..Process::default()
    })
}

/// What a container has by default, then the image's, then the request's; a later one wins, in the place of the first.
fn environment(scene: &Scene<'_>, identity: &Identity, hostname: &str) -> Result<Vec<String>> {
    let mut variables =
        vec![("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("HOSTNAME".to_owned(), hostname.to_owned())];
    if scene.request.process.terminal {
        variables.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    for text in &scene.defaults.env {
        let variable =
            text.parse().map_err(|error: crate::request::Malformed| invalid("image", error.to_string()))?;
        merge(&mut variables, &variable);
    }
    scene.request.process.environment.iter().for_each(|variable| merge(&mut variables, variable));
    if !variables.iter().any(|(name, _)| name == "HOME") {
        variables.push(("HOME".to_owned(), identity.home.clone()));
    }
    Ok(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

pub(super) fn merge(variables: &mut Vec<(String, String)>, variable: &Variable) {
    let known = variables.iter_mut().find(|(name, _)| *name == variable.name);
    match (known, &variable.value) {
        (Some((_, old)), Some(value)) => old.clone_from(value),
        (None, Some(value)) => variables.push((variable.name.clone(), value.clone())),
        (_, None) => variables.retain(|(name, _)| *name != variable.name),
    }
}

/// The soft limit of open files of a container that asks for none, as docker's service has it: select(2) reaches no further.
const SOFT_FILES: u64 = 1024;
/// The hard one.
const HARD_FILES: u64 = 524_288;

/// The limits that were asked for, and one of open files, so that it does not depend on who starts a container.
fn rlimits(scene: &Scene<'_>) -> Result<Vec<Rlimit>> {
    let Scene { request, facts, .. } = *scene;
    let ceiling = facts.open_files;
    let mut limits: BTreeMap<String, Rlimit> = BTreeMap::new();
    let (soft, hard) = (SOFT_FILES.min(ceiling), HARD_FILES.min(ceiling));
    limits.insert("RLIMIT_NOFILE".to_owned(), Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard, soft });
    for ulimit in &request.process.ulimits {
        if ulimit.name == "nofile" && ulimit.hard > ceiling && !facts.has_capability("CAP_SYS_RESOURCE") {
            let reason = format!(
                "without CAP_SYS_RESOURCE nothing above {ceiling}, the caller's own limit, can be given"
            );
            return Err(invalid(format!("--ulimit {ulimit}"), reason));
        }
        limits.insert(ulimit.kind(), Rlimit { kind: ulimit.kind(), hard: ulimit.hard, soft: ulimit.soft });
    }
    Ok(limits.into_values().collect())
}

/// What was asked for, as near as the kernel lets the caller go.
fn oom_score(scene: &Scene<'_>, warnings: &mut Vec<String>) -> Result<Option<i32>> {
    let Some(wanted) = scene.request.process.oom_score_adjust else { return Ok(None) };
    if !(-1000..=1000).contains(&wanted) {
        return Err(invalid(format!("--oom-score-adj {wanted}"), "expected a number from -1000 to 1000"));
    }
    let own = scene.facts.oom_score_adjust;
    if wanted < own && !scene.facts.has_capability("CAP_SYS_RESOURCE") {
        warnings.push(format!(
            "--oom-score-adj {wanted} is {own} instead: the caller has no CAP_SYS_RESOURCE, without which nobody goes below the own one"
        ));
        return Ok(Some(own));
    }
    Ok(Some(wanted))
}
