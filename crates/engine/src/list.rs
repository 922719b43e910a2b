//! Looking at containers.

use std::path::PathBuf;

use bulkhead_store::{Defaults, Digest, Kind, NetworkRecord};

use crate::configure::{self, AppArmor};
use crate::container::{Container, State};
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filter::{Filters, Patterns};
use crate::host;
use crate::known;
use crate::network::bare;
use crate::request::Security;

/// The keys by which containers are filtered (docker's).
pub const FILTERS: [&str; 13] = [
    "id", "name", "label", "label!", "status", "exited", "ancestor", "before", "since", "volume", "health",
    "network", "pod",
];

impl Engine {
    /// Lists the containers that fit, the newest first. One whose monitor died is started again if its policy says so.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a filter that cannot be; a container that `before` or `since` names and that is not there.
    pub fn containers(&self, filters: &Filters) -> Result<Vec<Container>> {
        let wanted = Wanted::new(self, filters)?;
        let mut containers = Vec::new();
        for record in self.store.containers()? {
            let container = Container::of(self.revive(self.know(record)?)?, self.places());
            if wanted.fits(filters, &container) {
                containers.push(container);
            }
        }
        Ok(containers)
    }

    /// Returns a container by its id, its name or the beginning of its id. One whose monitor died is started again if its
    /// policy says so.
    ///
    /// # Errors
    /// When it is not there, or more than one is meant.
    pub fn container(&self, wanted: &str) -> Result<Container> {
        Ok(Container::of(self.revive(self.find(wanted)?)?, self.places()))
    }

    /// Returns the layers of a container's root that it does not write to, the topmost first; nothing for a directory of the host
    /// that is the root itself.
    ///
    /// # Errors
    /// As [`Store::image`](bulkhead_store::Store::image).
    pub fn lower(&self, container: &Container) -> Result<Vec<PathBuf>> {
        let record = self.store.container(&container.id)?;
        let document = Document::read(&record)?;
        let image = record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        let root = self.root_of(&record, &document, image.as_ref());
        Ok(if root.above.is_some() { root.layers() } else { Vec::new() })
    }

    /// Returns what a container does by default: what its image says, over which what was asked for goes.
    ///
    /// # Errors
    /// As [`Store::image`](bulkhead_store::Store::image).
    pub fn merged(&self, container: &Container) -> Result<Defaults> {
        let image = container.image_id.map(|id| self.store.image(&id.to_string())).transpose()?;
        let image = image.map(|image| image.configuration.config).unwrap_or_default();
        Ok(configure::merged(&container.request, &image))
    }
}

impl Engine {
    /// Returns what AppArmor confines a container by, in docker's words: a profile, `unconfined`, or nothing where the host
    /// has no AppArmor.
    pub fn apparmor(&self, container: &Container) -> String {
        profile(&container.request.security, host::apparmor())
    }
}

fn profile(asked: &Security, host: AppArmor) -> String {
    match (&asked.apparmor, host) {
        (Some(profile), _) => profile.clone(),
        (None, AppArmor::Present { .. }) if asked.privileged => "unconfined".to_owned(),
        (None, AppArmor::Present { profile }) => profile.unwrap_or_default(),
        (None, AppArmor::Absent) => String::new(),
    }
}

/// Filters whose values are resolved.
struct Wanted {
    ids: Vec<String>,
    names: Patterns,
    states: Vec<Option<State>>,
    codes: Vec<u8>,
    /// Those that `ancestor` names, and what is made of them.
    images: Vec<Digest>,
    before: Option<u64>,
    since: Option<u64>,
    pods: Vec<String>,
    /// All networks, where some are asked for.
    networks: Vec<NetworkRecord>,
}

impl Wanted {
    fn new(engine: &Engine, filters: &Filters) -> Result<Self> {
        let created = |key: &'static str| -> Result<Option<u64>> {
            let wanted = filters.values(key).last();
            let found = wanted.map(|wanted| engine.store.container(wanted)).transpose()?;
            Ok(found.map(|record| u64::try_from(record.created).unwrap_or(0)))
        };
        let mut images = Vec::new();
        for wanted in filters.values("ancestor") {
            match engine.store.image_id(wanted) {
                Err(error) if error.kind() == Kind::NotFound => {}
                found => {
                    let image = found?;
                    images.push(image);
                    images.extend(engine.store.descendants(&image)?);
                }
            }
        }
        Ok(Self {
            ids: filters.values("id").map(str::to_owned).collect(),
            names: filters.patterns("name")?,
            states: filters.values("status").map(state).collect::<Result<_>>()?,
            codes: filters.values("exited").map(code).collect::<Result<_>>()?,
            images,
            before: created("before")?,
            since: created("since")?,
            pods: filters
                .values("pod")
                .map(|wanted| Ok(engine.find_pod(wanted)?.id))
                .collect::<Result<_>>()?,
            networks: match filters.values("network").next() {
                Some(_) => engine.store.networks()?,
                None => Vec::new(),
            },
        })
    }

    fn fits(&self, filters: &Filters, container: &Container) -> bool {
        let Self { ids, names, states, codes, images, before, since, pods, networks } = self;
        let uses_volume = |wanted: &str| {
            container
                .mounts
                .iter()
                .any(|mount| mount.name.as_deref() == Some(wanted) || mount.destination == wanted)
        };
        let has_ended = matches!(container.state, State::Exited | State::Restarting);
        (ids.is_empty() || ids.iter().any(|id| container.id.starts_with(id.as_str())))
            // Docker's names begin with a slash where they are kept, and patterns of its users know that.
            && (names.fit(&container.name) || names.fit(&format!("/{}", container.name)))
            && (states.is_empty() || states.iter().any(|state| is_in(container.state, *state)))
            && (codes.is_empty()
                || has_ended && container.exit_code.is_some_and(|code| codes.contains(&code)))
            && filters.any("ancestor", |_| container.image_id.is_some_and(|image| images.contains(&image)))
            && before.is_none_or(|before| container.created < before)
            && since.is_none_or(|since| container.created > since)
            && (pods.is_empty() || container.pod.as_ref().is_some_and(|pod| pods.contains(pod)))
            && filters.fits_labels(&container.labels)
            && filters.any("volume", uses_volume)
            && filters.any("health", |wanted| health(container) == wanted)
            && filters.any("network", |wanted| has_network(container, networks, wanted))
    }
}

/// Tells whether a state is what docker means by another: one that is starting is `created` there.
fn is_in(state: State, wanted: Option<State>) -> bool {
    wanted == Some(state) || state == State::Starting && wanted == Some(State::Created)
}

/// Reads a state; nothing for one that docker has and that no container is in here.
fn state(text: &str) -> Result<Option<State>> {
    if text == "dead" {
        return Ok(None);
    }
    let all =
        [State::Created, State::Running, State::Paused, State::Restarting, State::Exited, State::Removing];
    let invalid = || Error::Invalid {
        what: format!("filter \"status={text}\""),
        reason: format!("expected one of {}", all.map(|state| state.to_string()).join(", ")),
    };
    all.into_iter().find(|state| state.to_string() == text).map(Some).ok_or_else(invalid)
}

fn code(text: &str) -> Result<u8> {
    text.parse().map_err(|_| Error::Invalid {
        what: format!("filter \"exited={text}\""),
        reason: "expected a code from 0 to 255".into(),
    })
}

/// Docker's word for how a container is.
fn health(container: &Container) -> &'static str {
    container.health.as_ref().map_or("none", |health| known::word(health.state))
}

/// Tells whether a container has a network that is named, or the beginning of whose id is, or docker's word for what it has.
fn has_network(container: &Container, networks: &[NetworkRecord], wanted: &str) -> bool {
    let network = &container.request.namespaces.network;
    // Connections, too, are by names or ids.
    let is = |record: &NetworkRecord, said: &str| {
        record.name == said || bare(&record.name) == said || record.id.starts_with(said)
    };
    let asked = networks.iter().filter(|record| is(record, wanted));
    let has = |record: &NetworkRecord| network.connections().iter().any(|of| is(record, &of.network));
    network.to_string() == wanted || !wanted.is_empty() && asked.into_iter().any(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_the_host_s_unless_another_was_asked_for() {
        let present = || AppArmor::Present { profile: Some("docker-default".into()) };
        let mut asked = Security::default();
        assert_eq!(profile(&asked, present()), "docker-default");
        assert_eq!(profile(&asked, AppArmor::Absent), "");
        asked.privileged = true;
        assert_eq!(profile(&asked, present()), "unconfined");
        asked.apparmor = Some("own".into());
        assert_eq!(profile(&asked, present()), "own");
    }
}
