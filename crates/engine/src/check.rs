//! Looking at the whole, and mending it.

use bulkhead_store::{ContainerRecord, Depth, Finding, Mend, Outcome};

use crate::engine::Engine;
use crate::error::{Result, chain};
use crate::leftover::Leftover;
use crate::users::are_elsewhere;

impl Engine {
    /// Looks for what is not as it should be: what crashes left of containers, then images, layers and volumes
    /// ([`Store::check`](bulkhead_store::Store::check)).
    ///
    /// # Errors
    /// What keeps it from looking. What is found is no error, nor what cannot be mended.
    pub fn check(&self, depth: Depth, mend: Mend) -> Result<Vec<Finding>> {
        let found = self.leftovers()?;
        let mut findings = Vec::from_iter(found.iter().filter_map(|leftover| self.finding(leftover, mend)));
        findings.extend(self.check_attachments()?);
        findings.extend(if are_elsewhere()? {
            self.check_store_in_users(depth, mend)?
        } else {
            self.check_store(depth, mend)?
        });
        Ok(findings)
    }

    /// Looks at images, layers and volumes, whose files this process has rights over.
    pub(crate) fn check_store(&self, depth: Depth, mend: Mend) -> Result<Vec<Finding>> {
        // One of which nobody can tell may run.
        let hold =
            |record: &ContainerRecord| self.hold_idle(record).unwrap_or_else(|error| Err(chain(&error)));
        Ok(self.store.check(depth, mend, &hold)?)
    }

    /// Says what was found, and what became of it; nothing of what is gone when it is to be mended.
    fn finding(&self, leftover: &Leftover, mend: Mend) -> Option<Finding> {
        let (subject, problem) = (leftover.subject(), leftover.problem());
        let outcome = match (mend, leftover.remedy()) {
            (Mend::No, Some(remedy)) => Outcome::Left(format!("a check that mends has it {remedy}")),
            // Of what nobody mends this only says why.
            (_, remedy) => match self.mend(leftover) {
                Ok(()) => Outcome::Mended(remedy.unwrap_or("mended").to_owned()),
                Err(error) => {
                    let is_it = |other: &Leftover| other.subject() == subject && other.problem() == problem;
                    // Others may have been at it, with what this one needed.
                    if self.leftovers().is_ok_and(|left| !left.iter().any(is_it)) {
                        return None;
                    }
                    Outcome::Left(chain(&error))
                }
            },
        };
        Some(Finding { subject, problem, outcome })
    }
}
