//! A process that joins a container.

use bulkhead_spec::{Capabilities, Config, NamespaceType, Process, User};
use bulkhead_sys::capability;

use super::process::{console_size, merge};
use super::{ImageFiles, identity, invalid};
use crate::error::Result;
use crate::request::{Exec, UserSpec};

/// Decides the process: what the container's own has, but for what was asked for. `capabilities` is what the caller can give away
/// to one with `--privileged`, as in [`Facts::capabilities`](super::Facts::capabilities).
///
/// # Errors
/// A configuration without a process, nothing to run, a user that the image does not have.
pub fn exec(config: &Config, asked: &Exec, image: ImageFiles<'_>, capabilities: u64) -> Result<Process> {
    let own =
        config.process.as_ref().ok_or_else(|| invalid("container", "its configuration has no process"))?;
    if asked.command.first().is_none_or(String::is_empty) {
        return Err(invalid("command", "expected a program to run in the container"));
    }
    let cwd = match asked.directory.as_deref() {
        None => own.cwd.clone(),
        Some(directory) if directory.starts_with('/') => directory.to_owned(),
        Some(other) => {
            return Err(invalid(format!("--workdir {other}"), "expected an absolute path in the container"));
        }
    };
    // Then nobody can have supplementary groups, see the container's own process.
    let is_alone = own.user.additional_gids.is_empty();
    let by_number = UserSpec { user: own.user.uid.to_string(), group: None };
    let own_home = identity::resolve(image, &by_number, &[])?.home;
    let (user, home) = match &asked.user {
        None => (own.user.clone(), own_home.clone()),
        Some(spec) => {
            let identity = identity::resolve(image, spec, &[])?;
            let user = User {
                uid: identity.uid,
                gid: identity.gid,
                umask: own.user.umask,
                additional_gids: if is_alone { Vec::new() } else { identity.groups },
            };
            (user, identity.home)
        }
    };
    // In a user namespace of its own a container has whatever the kernel knows.
    let namespaces = config.linux.iter().flat_map(|linux| &linux.namespaces);
    let in_own = namespaces.into_iter().any(|namespace| namespace.kind == NamespaceType::User);
    let bounding = match asked.privileged {
        false => own.capabilities.as_ref().map(|sets| sets.bounding.clone()).unwrap_or_default(),
        true => {
            let numbered = (0..64).zip(capability::NAMES);
            let given = numbered.filter(|(number, _)| in_own || capabilities >> number & 1 == 1);
            given.map(|(_, name)| format!("CAP_{name}")).collect()
        }
    };
    Ok(Process {
        terminal: asked.terminal,
        console_size: asked.size.filter(|_| asked.terminal).map(console_size),
        user,
        args: asked.command.clone(),
        env: environment(&own.env, asked, (&own_home, &home)),
        cwd,
        capabilities: Some(Capabilities {
            effective: bounding.clone(),
            permitted: bounding.clone(),
            bounding,
            ..Capabilities::default()
        }),
        ..own.clone()
    })
}

/// The container's variables, over which those that were asked for go. Its `HOME` is that of its user, unless somebody has
/// chosen another: then it stays.
fn environment(own: &[String], asked: &Exec, (own_home, home): (&str, &str)) -> Vec<String> {
    let split = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut variables: Vec<(String, String)> = own.iter().filter_map(split).collect();
    for (name, value) in &mut variables {
        if name == "HOME" && value == own_home {
            home.clone_into(value);
        }
    }
    if asked.terminal && !variables.iter().any(|(name, _)| name == "TERM") {
        variables.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    asked.environment.iter().for_each(|variable| merge(&mut variables, variable));
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::tests::Stage;
    use crate::request::Request;

    const IMAGE: ImageFiles<'_> = ImageFiles {
        passwd: b"root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n",
        group: b"adm:x:4:www\n",
    };

    fn joined(asked: Exec) -> Result<Process> {
        let config = Stage::of(Request::default()).configured().unwrap().config;
        exec(&config, &Exec { command: vec!["ls".to_owned()], ..asked }, IMAGE, 0b11)
    }

    #[test]
    fn it_has_what_the_container_has() {
        let own = Stage::of(Request::default()).configured().unwrap().config.process.unwrap();
        let process = joined(Exec::default()).unwrap();
        assert_eq!(process, Process { args: vec!["ls".to_owned()], ..own });
    }

    #[test]
    fn it_may_be_another_user_elsewhere() {
        let process = joined(Exec {
            environment: vec!["A=2".parse().unwrap(), "B=3".parse().unwrap()],
            user: Some("www".parse().unwrap()),
            directory: Some("/tmp".to_owned()),
            terminal: true,
            privileged: true,
            ..Exec::default()
        })
        .unwrap();
        assert_eq!((process.user.uid, process.user.gid, process.user.additional_gids), (33, 34, vec![34, 4]));
        assert_eq!(process.env[1..], ["HOSTNAME=0123456789ab", "A=2", "HOME=/var/www", "TERM=xterm", "B=3"]);
        assert_eq!((process.cwd.as_str(), process.terminal), ("/tmp", true));
        assert_eq!(process.capabilities.unwrap().bounding, ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
    }

    #[test]
    fn what_cannot_be_is_told() {
        let config = Stage::of(Request::default()).configured().unwrap().config;
        assert!(exec(&config, &Exec::default(), IMAGE, 0).unwrap_err().to_string().starts_with("command: "));
        let user = Exec { user: Some("nobody".parse().unwrap()), ..Exec::default() };
        assert!(joined(user).unwrap_err().to_string().contains("no such user"));
        let directory = Exec { directory: Some("a".to_owned()), ..Exec::default() };
        assert!(joined(directory).unwrap_err().to_string().contains("absolute path"));
    }
}
