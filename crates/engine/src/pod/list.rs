//! Looking at pods.

use bulkhead_store::{ContainerRecord, Kind, PodRecord, Stage};

use super::document::PodDocument;
use super::{Member, Pod, State};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filter::{Filters, Patterns};
use crate::name;
use crate::request::Network;

/// The keys by which pods are filtered (podman's).
pub const FILTERS: [&str; 9] =
    ["id", "name", "label", "label!", "status", "ctr-ids", "ctr-names", "ctr-status", "ctr-number"];

impl Engine {
    /// Lists the pods that fit, the newest first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that cannot be.
    pub fn pods(&self, filters: &Filters) -> Result<Vec<Pod>> {
        let wanted = Wanted::new(filters)?;
        let mut pods = Vec::new();
        for record in self.store.pods()? {
            let pod = self.know_pod(record)?;
            if wanted.fits(filters, &pod) {
                pods.push(pod);
            }
        }
        Ok(pods)
    }

    /// Returns a pod by its id, its name or the beginning of its id.
    ///
    /// # Errors
    /// When it is not there, or more than one is meant.
    pub fn pod(&self, wanted: &str) -> Result<Pod> {
        self.know_pod(self.find_pod(wanted)?)
    }

    /// Finds a pod's record.
    pub(crate) fn find_pod(&self, wanted: &str) -> Result<PodRecord> {
        match self.store.pod(wanted) {
            Err(error) if error.kind() == Kind::NotFound => {
                let records = self.store.pods().unwrap_or_default();
                match name::similar(wanted, records.iter().map(|record| record.name.as_str())) {
                    Some(similar) => {
                        Err(Error::MistypedPod { wanted: wanted.to_owned(), similar: similar.to_owned() })
                    }
                    None => Err(error.into()),
                }
            }
            found => Ok(found?),
        }
    }

    fn know_pod(&self, record: PodRecord) -> Result<Pod> {
        let document = PodDocument::read(&record)?;
        let member = |container: ContainerRecord| {
            let known = self.know(container)?;
            Ok(Member { id: known.record.id, name: known.record.name, state: known.life.state })
        };
        let containers = self.store.containers_of_pod(&record.id)?.into_iter().map(member);
        let containers = containers.collect::<Result<Vec<Member>>>()?;
        let state = match record.stage {
            Stage::Removing => State::Removing,
            Stage::Kept => State::of(&Vec::from_iter(containers.iter().map(|member| member.state))),
        };
        Ok(Pod {
            created: u64::try_from(record.created).unwrap_or(0),
            state,
            hostname: document.hostname(&record).to_owned(),
            request: document.request,
            cgroup: document.cgroup,
            containers,
            id: record.id,
            name: record.name,
        })
    }
}

impl Pod {
    /// Returns podman's word for its network.
    pub fn network(&self) -> String {
        match &self.request.network {
            Network::Default => "none".to_owned(),
            network => network.to_string(),
        }
    }
}

/// Filters whose values are resolved.
struct Wanted {
    names: Patterns,
    containers: Patterns,
    states: Vec<String>,
    counts: Vec<usize>,
}

impl Wanted {
    fn new(filters: &Filters) -> Result<Self> {
        let known =
            [State::Created, State::Running, State::Degraded, State::Paused, State::Exited, State::Removing];
        let known = known.map(|state| state.to_string().to_lowercase());
        let state = |text: &str| {
            let wanted = text.to_lowercase();
            let invalid = || Error::Invalid {
                what: format!("filter \"status={text}\""),
                reason: format!("expected one of {}", known.join(", ")),
            };
            known.contains(&wanted).then_some(wanted).ok_or_else(invalid)
        };
        let count = |text: &str| {
            text.parse().map_err(|_| Error::Invalid {
                what: format!("filter \"ctr-number={text}\""),
                reason: "expected a number".into(),
            })
        };
        Ok(Self {
            names: filters.patterns("name")?,
            containers: filters.patterns("ctr-names")?,
            states: filters.values("status").map(state).collect::<Result<_>>()?,
            counts: filters.values("ctr-number").map(count).collect::<Result<_>>()?,
        })
    }

    fn fits(&self, filters: &Filters, pod: &Pod) -> bool {
        let Self { names, containers, states, counts } = self;
        let of_containers = |fits: &dyn Fn(&Member) -> bool| pod.containers.iter().any(fits);
        let no_names = filters.values("ctr-names").next().is_none();
        names.fit(&pod.name)
            && (no_names || of_containers(&|member| containers.fit(&member.name)))
            && (states.is_empty() || states.contains(&pod.state.to_string().to_lowercase()))
            && (counts.is_empty() || counts.contains(&pod.containers.len()))
            && filters.any("id", |id| pod.id.starts_with(id))
            && filters.any("ctr-ids", |id| of_containers(&|member| member.id.starts_with(id)))
            && filters.any("ctr-status", |state| of_containers(&|member| member.state.to_string() == state))
            && filters.fits_labels(pod.labels())
    }
}
