//! What the engine keeps of a pod in the store's record, as JSON.

use bulkhead_store::PodRecord;
use serde::{Deserialize, Serialize};

use super::request::PodRequest;
use crate::configure::Users;
use crate::error::{Error, Result};
use crate::request::Resources;

/// The newest version of this document. One that is newer is refused, since what is not understood of it could be lost.
const VERSION: u32 = 2;
/// The version of one without limits, which older programs understand, too.
const WITHOUT_LIMITS: u32 = 1;

/// A pod's part of the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PodDocument {
    /// The oldest version that knows all that it has.
    version: u32,
    /// What was asked for.
    pub(crate) request: PodRequest,
    /// The cgroup below which those of its containers are, as `--cgroup-parent` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<String>,
    /// The users that its containers share, if they are not the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) users: Option<Users>,
}

impl PodDocument {
    pub(crate) fn new(request: PodRequest, cgroup: Option<String>, users: Option<Users>) -> Self {
        let version = if request.limits == Resources::default() { WITHOUT_LIMITS } else { VERSION };
        Self { version, request, cgroup, users }
    }

    /// Reads the document of a record.
    ///
    /// # Errors
    /// [`Error::Damaged`] for one that is none, or is newer.
    pub(crate) fn read(record: &PodRecord) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let damaged =
            |reason: String| Error::Damaged { what: format!("the record of pod {}", record.name), reason };
        let bad = |error: serde_json::Error| damaged(error.to_string());
        let Version { version } = serde_json::from_str(&record.document).map_err(bad)?;
        if version > VERSION {
            return Err(damaged(format!(
                "it has version {version}, and this program knows none after {VERSION}"
            )));
        }
        serde_json::from_str(&record.document).map_err(bad)
    }

    /// Writes the document.
    pub(crate) fn write(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::Damaged { what: "a new record".to_owned(), reason: error.to_string() })
    }

    /// Returns the host name that containers share.
    pub(crate) fn hostname<'a>(&'a self, record: &'a PodRecord) -> &'a str {
        self.request.hostname.as_deref().unwrap_or(&record.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_as_it_was_written_and_a_newer_one_is_refused() {
        let document = PodDocument::new(PodRequest::default(), Some("/bulkhead/pod-1".to_owned()), None);
        let mut record = PodRecord::new("0123", "web");
        record.document = document.write().unwrap();
        assert_eq!(PodDocument::read(&record).unwrap(), document);
        assert_eq!(document.hostname(&record), "web");
        record.document = record.document.replace("\"version\":1", "\"version\":3");
        let error = PodDocument::read(&record).unwrap_err().to_string();
        assert_eq!(error, "the record of pod web: it has version 3, and this program knows none after 2");
    }

    #[test]
    fn only_who_knows_limits_reads_a_pod_that_has_some() {
        let limits = Resources { cpu_shares: Some(5), ..Resources::default() };
        let limited = PodRequest { limits, ..PodRequest::default() };
        for (request, version) in [(PodRequest::default(), "\"version\":1,"), (limited, "\"version\":2,")] {
            let document = PodDocument::new(request, None, None);
            assert!(document.write().unwrap().contains(version), "{version}");
        }
    }
}
