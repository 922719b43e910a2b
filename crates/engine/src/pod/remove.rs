//! Removing a pod with its containers and all that belongs to it.

use bulkhead_store::{Kind, PodRecord, Stage};

use super::document::PodDocument;
use super::limit;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::remove::{Force, Removal, Volumes};

impl Engine {
    /// Removes a pod and its containers, with their anonymous volumes, and returns its id.
    ///
    /// # Errors
    /// [`Error::Invalid`] when containers have processes, unless their end is forced.
    pub fn remove_pod(&self, wanted: &str, force: Force) -> Result<String> {
        let record = self.find_pod(wanted)?;
        if force == Force::No && record.stage == Stage::Kept {
            let pod = self.pod(&record.id)?;
            if let Some(member) = pod.containers.iter().find(|member| member.state.is_active()) {
                return Err(Error::PodInUse {
                    name: record.name,
                    container: member.name.clone(),
                    state: member.state,
                });
            }
        }
        match self.store.begin_pod_removal(&record.id) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(record.id),
            begun => begun?,
        }
        self.take_pod_apart(&record)?;
        Ok(record.id)
    }

    /// Removes all parts of a pod whose removal has begun, and its record last.
    pub(crate) fn take_pod_apart(&self, record: &PodRecord) -> Result<()> {
        for member in self.store.containers_of_pod(&record.id)? {
            let removal = Removal { force: Force::Yes, volumes: Volumes::Remove };
            match self.remove(&member.id, removal) {
                Err(error) if error.kind() == Kind::NotFound => {}
                removed => drop(removed?),
            }
        }
        let held = self.hold_directory(&self.places().pod(&record.id), || format!("pod {}", record.name))?;
        self.end_first(record)?;
        limit::remove_cgroup(&record.name, &PodDocument::read(record)?)?;
        self.unplug(&record.id)?;
        self.clear(&self.places().pod_run(&record.id))?;
        self.clear(&self.places().pod(&record.id))?;
        drop(held);
        self.store.delete_pod(&record.id)?;
        self.tell_pod(record, "remove");
        Ok(())
    }
}
