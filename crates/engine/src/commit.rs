//! An image of what a container has become: its image's layers, and one of what it changed.

mod owners;

use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use bulkhead_spec::Config;
use bulkhead_store::layer::{self, LeftOut, Marks, Owners, Pack};
use bulkhead_store::{
    Configuration, Defaults, Digest, Empty, Healthcheck, History, Image, Layer, Lease, Name, Origin,
};
use bulkhead_sys::path;
use rustix::fs::OFlags;

use crate::change::{self, Change};
use crate::container::State;
use crate::diff::OF_RUNTIME;
use crate::document::Document;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::hold::Reading;
use crate::host;
use crate::known::Known;
use crate::request::{Health, HealthCommand, Limit, MountKind, Nanoseconds};
use crate::rootfs::UPPER;
use owners::Numbers;

/// How a container becomes an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// The image's name; without one it has none.
    pub name: Option<Name>,
    /// Who made it.
    pub author: Option<String>,
    /// What is said of it.
    pub message: Option<String>,
    /// What its configuration says otherwise than the container's.
    pub changes: Vec<Change>,
    /// Whether the container's processes stand still meanwhile.
    pub pause: Pause,
}

/// Whether processes stand still.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pause {
    /// They do, so that what is kept was there at one moment; unless the container has no cgroup by which to freeze them, as an
    /// ordinary user's may.
    #[default]
    Yes,
    /// They go on.
    No,
}

/// An image that was made of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewImage {
    /// Its id.
    pub id: Digest,
    /// What no layer can hold, such as sockets.
    pub left_out: Vec<(PathBuf, String)>,
}

impl Engine {
    /// Makes an image of a container. What is mounted in it is no part of that.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a container without an image, a change that cannot be; as for reading its writable layer.
    pub fn commit(&self, wanted: &str, commit: &Commit) -> Result<NewImage> {
        let (known, reading) = self.hold_layers(wanted)?;
        let id = known.record.id.clone();
        let Some(image) = known.record.image else {
            let reason = "its root is a directory of the host: `bulkhead export` and `bulkhead import` make an image of that";
            return Err(Error::Invalid {
                what: format!("commit of container {}", known.record.name),
                reason: reason.into(),
            });
        };
        let image = self.store.image(&image.to_string())?;
        let mut defaults = Self::committed(&known.document, &image);
        change::apply(&commit.changes, &mut defaults)?;
        let is_paused =
            known.life.state == State::Running && commit.pause == Pause::Yes && self.has_cgroup(&id);
        if is_paused {
            self.pause(&id)?;
        }
        let made = self.image_of(&known, &reading, (&image, defaults), commit);
        if is_paused {
            match self.unpause(&id) {
                // Somebody else was faster, or has ended it.
                Err(Error::State { .. }) => {}
                unpaused => unpaused?,
            }
        }
        let made = made?;
        let reference = commit.name.as_ref().map(Name::familiar).unwrap_or_default();
        let told = known.event("commit").with("comment", commit.message.as_deref().unwrap_or_default());
        let told = told.with("imageID", &made.id.to_string()).with("imageRef", &reference);
        // It is there, whether that can be recorded or not.
        let _ = self.store.record_event(&told);
        Ok(made)
    }

    fn image_of(
        &self,
        known: &Known,
        reading: &Reading,
        (image, defaults): (&Image, Defaults),
        commit: &Commit,
    ) -> Result<NewImage> {
        let Known { record, document, .. } = known;
        let lease = self.store.lease(&format!("commit container {}", record.name))?;
        let mut layers = image.layers.clone();
        for layer in &layers {
            claim(&lease, layer)?;
        }
        let (layer, left_out) = self.layer_of(known, image, &lease)?;
        self.expect_kept(known, reading)?;
        let created = jiff::Timestamp::now().to_string();
        let step = History {
            created: Some(created.clone()),
            author: commit.author.clone(),
            created_by: Some(document.command.join(" ")),
            comment: commit.message.clone(),
            empty_layer: layer.is_none(),
        };
        layers.extend(layer);
        let mut configuration = Configuration {
            created: Some(created),
            author: commit.author.clone(),
            config: defaults,
            ..image.configuration.clone()
        };
        configuration.history.push(step);
        configuration.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        let id = keep(&lease, &configuration, &layers, commit.name.clone(), Origin::Container)?;
        Ok(NewImage { id, left_out: left_out.examples })
    }

    /// Tells whether a container that runs has a cgroup.
    fn has_cgroup(&self, id: &str) -> bool {
        // What cannot be read is left to who freezes.
        let path = |config: Config| config.linux.and_then(|linux| linux.cgroups_path);
        self.configuration(id).map_or(true, |config| path(config).is_some())
    }

    /// Makes a layer of what a container changed; none of nothing.
    fn layer_of(&self, known: &Known, image: &Image, lease: &Lease<'_>) -> Result<(Option<Layer>, LeftOut)> {
        let Known { record, .. } = known;
        self.expect_whole(known)?;
        let upper = self.places().container(&record.id).join(UPPER);
        let upper = path::open_host(&upper, OFlags::RDONLY | OFlags::DIRECTORY)
            .doing(|| format!("open {}", upper.display()))?;
        let skip: Vec<PathBuf> = OF_RUNTIME.iter().map(PathBuf::from).collect();
        let is_one = !rustix::process::geteuid().is_root();
        let is_real_root = host::is_real_root()?;
        // Root's containers see the numbers of the disk.
        let users = if is_one || is_real_root { None } else { self.users_inside(known)? };
        let numbers = users.map(|users| Numbers::new(users, &self.store.lower(image))).transpose()?;
        let seen = |path: &[u8], owner| numbers.as_ref().map(|numbers| numbers.of(path, owner));
        let owners = match &numbers {
            Some(_) => Owners::Placed(&seen),
            None if is_one => Owners::Caller,
            None => Owners::Kept,
        };
        let marks = if is_real_root { Marks::Trusted } else { Marks::User };
        let how = Pack { owners, skip: &skip, ..Pack::layer(marks) };
        let subject = format!("the changes of container {}", record.name);
        // Packing goes on in another thread, which hands what it found over when it is done.
        let (tell, told) = std::sync::mpsc::channel();
        let layer = lease.layer_written(&subject, move |into: &mut dyn Write| {
            let packed = layer::pack(upper.as_fd(), into, &how).map_err(broken)?;
            let _ = tell.send(packed);
            Ok(())
        })?;
        let packed = told.recv().ok();
        let is_empty = packed.as_ref().is_some_and(|packed| packed.entries == 0);
        let left_out = packed.map(|packed| packed.left_out).unwrap_or_default();
        Ok(((!is_empty).then_some(layer), left_out))
    }

    /// Returns what a container of the image would do by default that is like this one (docker's rules).
    fn committed(document: &Document, image: &Image) -> Defaults {
        let request = &document.request;
        let process = &request.process;
        let mut defaults = image.configuration.config.clone();
        if let Some(user) = &process.user {
            defaults.user = user.to_string();
        }
        for variable in &process.environment {
            let name = variable.name.as_str();
            let text = variable.value.as_ref().map(|value| format!("{name}={value}"));
            let place = defaults.env.iter().position(|known| known.split('=').next() == Some(name));
            match (place, text) {
                (Some(place), Some(text)) => defaults.env[place] = text,
                (Some(place), None) => drop(defaults.env.remove(place)),
                (None, text) => defaults.env.extend(text),
            }
        }
        match (&process.entrypoint, process.command.is_empty()) {
            (Some(entrypoint), _) => {
                defaults.entrypoint = Some(entrypoint.clone());
                defaults.cmd = Some(process.command.clone());
            }
            (None, false) => defaults.cmd = Some(process.command.clone()),
            (None, true) => {}
        }
        if let Some(directory) = &process.directory {
            defaults.working_dir.clone_from(directory);
        }
        for mount in &request.mounts {
            if matches!(&mount.kind, MountKind::Volume(volume) if volume.name.is_none()) {
                defaults.volumes.insert(mount.destination.clone(), Empty {});
            }
        }
        for (port, protocol) in request.publishing.expected() {
            defaults.exposed_ports.insert(format!("{port}/{protocol}"), Empty {});
        }
        defaults.labels.clone_from(&document.labels);
        if let Some(signal) = request.stop_signal {
            defaults.stop_signal = signal.to_string();
        }
        if let Some(timeout) = request.stop_timeout {
            defaults.stop_timeout = Some(Limit::signed(timeout));
        }
        defaults.healthcheck = healthcheck(&request.health, defaults.healthcheck);
        defaults
    }
}

/// Makes an image known whose layers are claimed.
pub(crate) fn keep(
    lease: &Lease<'_>,
    configuration: &Configuration,
    layers: &[Layer],
    name: Option<Name>,
    origin: Origin,
) -> Result<Digest> {
    let bytes = serde_json::to_vec(configuration)
        .map_err(|error| Error::Damaged { what: "a new image".to_owned(), reason: error.to_string() })?;
    let image = lease.image(&bytes, None, layers, name.into_iter().collect())?;
    lease.commit(&[image], origin)?;
    Ok(Digest::of(&bytes))
}

/// Claims a layer of an image, so that it stays whatever becomes of that.
fn claim(lease: &Lease<'_>, layer: &Layer) -> Result<()> {
    if lease.has_blob(&layer.blob)?.is_some() && lease.has_layer(&layer.diff_id)?.is_some() {
        return Ok(());
    }
    Err(Error::Damaged {
        what: format!("layer {} of the image", layer.diff_id.short()),
        reason: "it is not there; pull or load the image again".to_owned(),
    })
}

/// What ends the writer of an archive, as whoever reads it understands it.
fn broken(error: layer::Error) -> io::Error {
    match error {
        layer::Error::Write(error) => error,
        other => other.into(),
    }
}

/// The check of an image, over which what was asked for goes.
fn healthcheck(asked: &Health, of_image: Option<Healthcheck>) -> Option<Healthcheck> {
    if *asked == Health::default() {
        return of_image;
    }
    let Health { command, interval, timeout, start_period, start_interval, retries, on_failure: _ } = asked;
    let mut check = of_image.unwrap_or_default();
    match command {
        HealthCommand::Image => {}
        HealthCommand::None => check.test = vec!["NONE".to_owned()],
        HealthCommand::Shell(line) => check.test = vec!["CMD-SHELL".to_owned(), line.clone()],
    }
    let time = |asked: &Option<Nanoseconds>, before: i64| {
        asked.map_or(before, |Nanoseconds(time)| i64::try_from(time).unwrap_or(i64::MAX))
    };
    check.interval = time(interval, check.interval);
    check.timeout = time(timeout, check.timeout);
    check.start_period = time(start_period, check.start_period);
    check.start_interval = time(start_interval, check.start_interval);
    check.retries = retries.map_or(check.retries, i64::from);
    Some(check)
}
