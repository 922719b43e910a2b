//! After a crash, and after a boot.

use bulkhead_shim::order::Restart;

use crate::container::State;
use crate::engine::Engine;
use crate::error::Result;
use crate::known::Known;

/// What was done to something, or why it could not be.
#[derive(Debug)]
pub struct Mended {
    /// What it is, and what was wrong with it.
    pub what: String,
    /// How it went.
    pub result: Result<()>,
}

impl Engine {
    /// Finishes what commands that were killed have begun, and starts containers again whose monitors died.
    ///
    /// # Errors
    /// When what is there cannot be looked at; what cannot be mended is told in its place.
    pub fn recover(&self) -> Result<Vec<Mended>> {
        let mend = |leftover| Mended { what: format!("{leftover}"), result: self.mend(&leftover) };
        Ok(self.leftovers()?.into_iter().map(mend).collect())
    }

    /// Starts containers after a boot as their policies have it: `always`, `unless-stopped` when it was not stopped, and
    /// `on-failure` when the machine went down under it or it had failed. What crashes left is mended first.
    ///
    /// # Errors
    /// As [`Engine::recover`].
    pub fn restart_all(&self) -> Result<Vec<Mended>> {
        let mut done = self.recover()?;
        for record in self.store.containers()? {
            let known = self.know(record)?;
            if is_due(&known) {
                let what = format!("container {}: it is to be started after a boot", known.record.name);
                let result = self.start(&known.record.id, None).map(drop);
                done.push(Mended { what, result });
            }
        }
        Ok(done)
    }

    /// Writes the unit of systemd that runs `system restart-all` when the machine has booted.
    pub fn restart_unit(&self) -> String {
        let program = self.programs.engine.display();
        let (root, run) = (self.places().root.display(), self.places().run.display());
        let wanted_by =
            if rustix::process::geteuid().is_root() { "multi-user.target" } else { "default.target" };
        format!(
            "[Unit]
Description=Containers of bulkhead that start with the machine
RequiresMountsFor={root} {run}
After=local-fs.target network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
ExecStart={program} --root {root} --run {run} system restart-all

[Install]
WantedBy={wanted_by}
"
        )
    }
}

/// Tells whether a container's policy wants it to run after a boot.
fn is_due(known: &Known) -> bool {
    let Some(status) = known.status.as_ref().filter(|status| status.started.is_some()) else { return false };
    let has_failed = known.life.exit_code.is_some_and(|code| code != 0);
    known.life.state == State::Exited
        && match known.document.request.restart.0 {
            Restart::No => false,
            Restart::Always => true,
            Restart::UnlessStopped => !status.stopped,
            Restart::OnFailure { .. } => !status.stopped && has_failed,
        }
}
