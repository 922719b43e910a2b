//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::stats::Failure;

/// More open files than a process may usually have, for as long as this lives.
#[derive(Debug)]
pub(crate) struct OpenFiles(Rlimit);

impl OpenFiles {
    /// Allows `number` of them.
    pub(crate) fn allow(number: u64) -> Result<Self, Failure> {
        let before = getrlimit(Resource::Nofile);
        if before.maximum.is_some_and(|most| most < number) {
            return Err(Failure(format!(
                "it takes {number} open files, and this process may have no more than {}",
                before.maximum.unwrap_or_default()
            )));
        }
        if before.current.is_some_and(|now| now < number) {
            let more = Rlimit { current: Some(number), ..before };
            setrlimit(Resource::Nofile, more)
                .map_err(|error| Failure(format!("allow {number} open files: {error}")))?;
        }
        Ok(Self(before))
    }
}

impl Drop for OpenFiles {
    fn drop(&mut self) {
        // Back to what was allowed before is always allowed.
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_allowed_is_refused_with_both_numbers() {
        let limit = getrlimit(Resource::Nofile);
        if let Some(most) = limit.maximum {
            let Failure(reason) = OpenFiles::allow(most + 1).unwrap_err();
            assert!(
                reason.contains(&(most + 1).to_string()) && reason.ends_with(&most.to_string()),
                "{reason}"
            );
        }
        let now = limit.current.unwrap();
        drop(OpenFiles::allow(now).unwrap());
        assert_eq!(getrlimit(Resource::Nofile).current, Some(now));
    }
}
