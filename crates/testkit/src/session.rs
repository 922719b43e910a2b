//! Users whom systemd has made a session.

use std::process::Command;

use crate::Sandbox;
use crate::fail::OrFail;

/// A user of the sandbox's name with a systemd of its own, for as long as this lives. For machines that a test may change
/// ([`crate::is_disposable`]).
#[derive(Debug)]
pub struct Session {
    name: String,
    uid: u32,
}

impl Session {
    /// Makes the user and has systemd start the user's own.
    ///
    /// # Panics
    /// When either fails.
    #[track_caller]
    pub fn begin(sandbox: &Sandbox) -> Session {
        Self::of(sandbox, &[])
    }

    /// The same for a user with this number, which nobody has.
    ///
    /// # Panics
    /// As [`Session::begin`].
    #[track_caller]
    pub fn begin_as(sandbox: &Sandbox, uid: u32) -> Session {
        Self::of(sandbox, &["--uid", &uid.to_string()])
    }

    #[track_caller]
    fn of(sandbox: &Sandbox, options: &[&str]) -> Session {
        let name = sandbox.name().to_owned();
        sandbox.command("useradd").arg("--create-home").args(options).arg(&name).output().succeeds();
        let uid = sandbox.command("id").args(["-u", &name]).output().succeeds().stdout;
        let session = Session { name, uid: uid.trim().parse().or_fail("read a user's number") };
        sandbox.command("systemctl").args(["start", &session.service()]).output().succeeds();
        session
    }

    /// Returns the user's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the user's number, which is also that of the only group.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    fn service(&self) -> String {
        format!("user@{}.service", self.uid)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(Command::new("systemctl").args(["stop", &self.service()]).status());
        drop(Command::new("userdel").args(["--force", "--remove", &self.name]).status());
    }
}
