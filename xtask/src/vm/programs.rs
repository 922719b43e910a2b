//! What cargo built, and what tests are in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::job::Test;
use crate::{invoke, workspace};

/// Programs that were built.
pub(super) struct Built {
    /// Where the plain ones are.
    pub(super) directory: PathBuf,
    /// The plain ones.
    pub(super) plain: Vec<PathBuf>,
    /// Those that hold tests.
    suites: Vec<Suite>,
}

struct Suite {
    program: PathBuf,
    directory: PathBuf,
    target: String,
}

/// One line of cargo's account of a build.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds the runtime's program.
pub(super) fn runtime() -> Result<Built> {
    build(&["build", "--package", "bulkhead-runtime", "--bins"])
}

/// Builds the tests of all packages, as `cargo xtask test` does, so that nothing is built twice.
pub(super) fn tests() -> Result<Built> {
    let mut built = build(&["test", "--workspace", "--no-run"])?;
    built.plain.push(standalone_monitor()?);
    Ok(built)
}

/// Builds the monitor as it is shipped, and as tests find it that have it run in containers (testkit's `built::standalone`).
fn standalone_monitor() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let place = workspace::target_directory()?.join("tmp").join("static");
    let mut command = workspace::cargo()?;
    command.args(["build", "--quiet", "--locked", "--package", "bulkhead-shim", "--bin", "bulkmon"]);
    command.args(["--target", &target]).arg("--target-dir").arg(&place).arg("--release");
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = command.status().context("start cargo")?;
    ensure!(status.success(), "{}: {status}", invoke::line(&command));
    Ok(place.join(target).join("release").join("bulkmon"))
}

fn build(arguments: &[&str]) -> Result<Built> {
    let mut command = workspace::cargo()?;
    command.args(arguments).args(["--locked", "--quiet", "--message-format=json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("start cargo")?;
    ensure!(output.status.success(), "{}: {}", invoke::line(&command), output.status);
    let directory = workspace::target_directory()?.join("debug");
    Ok(read(&String::from_utf8_lossy(&output.stdout), directory))
}

fn read(messages: &str, directory: PathBuf) -> Built {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let mut built = Built { directory, plain: Vec::new(), suites: Vec::new() };
    for message in messages.filter(|message| message.reason == "compiler-artifact") {
        let Message { executable: Some(program), manifest_path: Some(manifest), target, profile, .. } =
            message
        else {
            continue;
        };
        let (Some(target), Some(directory)) = (target, manifest.parent()) else { continue };
        if profile.is_some_and(|profile| profile.test) {
            let package = directory.file_name().unwrap_or_default().to_string_lossy();
            let target = format!("{package}::{}", target.name);
            built.suites.push(Suite { program, directory: directory.to_owned(), target });
        } else {
            built.plain.push(program);
        }
    }
    built
}

impl Built {
    /// Asks the programs of some packages' directories for their tests.
    pub(super) fn tests_of(&self, packages: &[&str]) -> Result<Vec<Test>> {
        let mut tests = Vec::new();
        for Suite { program, directory, target } in &self.suites {
            if !packages.iter().any(|package| directory.ends_with(package)) {
                continue;
            }
            for name in names(program)? {
                let (program, directory, target) = (program.clone(), directory.clone(), target.clone());
                tests.push(Test { program, directory, target, name });
            }
        }
        Ok(tests)
    }
}

fn names(program: &Path) -> Result<Vec<String>> {
    let list = invoke::text(Command::new(program).args(["--list", "--format", "terse"]))?;
    Ok(list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_suites_are_told_apart() {
        let messages = r#"
{"reason":"compiler-artifact","executable":null,"manifest_path":"/w/crates/spec/Cargo.toml","target":{"name":"spec"},"profile":{"test":false}}
{"reason":"compiler-artifact","executable":"/t/debug/bulkrun","manifest_path":"/w/crates/runtime/Cargo.toml","target":{"name":"bulkrun"},"profile":{"test":false}}
{"reason":"compiler-artifact","executable":"/t/debug/deps/real-1","manifest_path":"/w/crates/cgroup/Cargo.toml","target":{"name":"real"},"profile":{"test":true}}
{"reason":"build-finished","success":true}
"#;
        let built = read(messages, "/t/debug".into());
        assert_eq!(built.plain, [Path::new("/t/debug/bulkrun")]);
        let [suite] = &built.suites[..] else { panic!("one program has tests") };
        assert_eq!(
            (suite.target.as_str(), suite.directory.as_path()),
            ("cgroup::real", Path::new("/w/crates/cgroup"))
        );
    }
}
