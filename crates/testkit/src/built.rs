//! Programs of this project's other packages: for the tests of a package cargo builds its own alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fail::OrFail;
use crate::skip::is_disposable;

/// How a program is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As the tests are.
    Dev,
    /// Optimised, as it is shipped.
    Release,
}

impl Profile {
    fn directory(self) -> &'static str {
        match self {
            Profile::Dev => "debug",
            Profile::Release => "release",
        }
    }
}

/// Finds a program beside those of this build, and builds it when it is not there. One that is there may be older than its
/// sources: cargo makes all anew only where it is asked to build all.
///
/// # Panics
/// When it cannot be built.
#[track_caller]
pub fn program(package: &str, name: &str) -> PathBuf {
    let program = directory().join(name);
    if !program.exists() {
        cargo(package, name, &mut |_| ());
    }
    program
}

/// Builds a static program, which runs in a root that has nothing else. Tests of all packages have it in one place, where it
/// need not be made anew each time.
///
/// # Panics
/// When it cannot be built.
#[track_caller]
pub fn standalone(package: &str, name: &str, profile: Profile) -> PathBuf {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // Beside `debug`: cargo keeps `tmp` for files of tests, and lets them stay.
    let place = directory().with_file_name("tmp").join("static");
    let program = place.join(&target).join(profile.directory()).join(name);
    // A guest has no cargo, and what its host has built for it.
    if is_disposable() && program.exists() {
        return program;
    }
    cargo(package, name, &mut |build| {
        build.args(["--target", &target]).arg("--target-dir").arg(&place);
        build.env("RUSTFLAGS", "-C target-feature=+crt-static");
        build.args(if profile == Profile::Release { &["--release"][..] } else { &[] });
    });
    program
}

/// Where this build puts programs: those of tests lie in a directory of it.
#[track_caller]
fn directory() -> PathBuf {
    let own = std::env::current_exe().or_fail("find the program of the test");
    let directory = own.parent().and_then(Path::parent).ok_or("it lies at the root");
    directory.or_fail(format_args!("find what was built beside {}", own.display())).to_owned()
}

#[track_caller]
fn cargo(package: &str, name: &str, how: &mut dyn FnMut(&mut Command)) {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--package", package, "--bin", name]);
    how(&mut build);
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().or_fail("start cargo");
    assert!(status.success(), "{name} of {package} is not built");
}
