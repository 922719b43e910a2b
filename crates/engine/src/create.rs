//! Making a container: its record first, then its directories and volumes.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use bulkhead_shim::order::JOURNAL;
use bulkhead_store::{ContainerRecord, Digest, Durability, Image, Kind, MARKER, Name, VolumeRecord};

use crate::configure::{self, Caller};
use crate::document::{Document, Maker};
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::hold::Held;
use crate::known::{self, Known};
use crate::network::{joined, look_at_devices, settle, stored};
use crate::pod::member::Joined;
use crate::request::{Copy, Log, Mount, MountKind, Request, Root, UserNamespace, Volume, VolumesFrom};
use crate::rootfs::{RootFs, UPPER, WORK};
use crate::start::{Moment, write};
use crate::volume::VolumeDocument;
use crate::{host, id, name, root, users};

/// What is bound into a container and written by the engine: hosts, hostname, resolv.conf, in its directory.
pub(crate) const FILES: &str = "files";

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the user should be told, though nothing stops for it.
    pub warnings: Vec<String>,
}

/// How a container is made.
#[derive(Debug)]
pub(crate) struct Making {
    pub(crate) id: String,
    /// Who means to start it at once.
    pub(crate) maker: Option<Maker>,
    /// What its record outlives when it is made.
    pub(crate) durability: Durability,
}

impl Making {
    /// For somebody who makes a container and does nothing more.
    pub(crate) fn of(request: &Request) -> Result<Self> {
        let durability = if is_fleeting(request) { Durability::Process } else { Durability::PowerLoss };
        Ok(Self { id: id::generate()?, maker: None, durability })
    }
}

/// Refuses a name that nobody can have.
pub(crate) fn check_name(request: &Request) -> Result<()> {
    request.name.as_deref().map_or(Ok(()), |name| name::check(name::bare(name)))
}

/// Refuses to keep output in a journal that does not run.
pub(crate) fn check_log(request: &Request) -> Result<()> {
    if !matches!(request.log, Log::Journald { .. }) {
        return Ok(());
    }
    let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(JOURNAL));
    connected.map_err(|error| Error::Invalid {
        what: "--log-driver journald".to_owned(),
        reason: format!(
            "no journal can be reached at {JOURNAL} ({error}): start systemd-journald, or keep the output by json-file"
        ),
    })
}

/// Says of what is no image's name that it is none, and not that there is no such image.
fn unfound(wanted: &str, error: bulkhead_store::Error) -> Error {
    match Name::parse(wanted) {
        Err(fault) if error.kind() == Kind::NotFound && Digest::from_hex(wanted).is_none() => {
            let is_path = wanted.starts_with(['/', '.']);
            let way_out = if is_path { "; a directory is a root by --rootfs" } else { "" };
            Error::Invalid { what: "image".to_owned(), reason: format!("{fault}{way_out}") }
        }
        _ => error.into(),
    }
}

/// Tells whether what is recorded of a container is not worth waiting for a disk: it removes itself, and after a power loss it
/// would be removed. A volume with a name outlives it.
pub(crate) fn is_fleeting(request: &Request) -> bool {
    let is_named = |mount: &Mount| matches!(&mount.kind, MountKind::Volume(volume) if volume.name.is_some());
    request.remove && !request.mounts.iter().any(is_named)
}

/// A container that was just made, and that nobody else touches yet.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) known: Known,
    pub(crate) image: Option<Image>,
    /// Kept as long as the others must not touch it.
    pub(crate) held: Option<Held>,
    /// What the user should be told.
    pub(crate) warnings: Vec<String>,
}

/// How often a name is made that is taken.
const ATTEMPTS: u32 = 16;

impl Engine {
    /// Makes a container, which does not run yet. Without a name it gets one.
    ///
    /// # Errors
    /// When the image is not there, the name is taken, or what was asked for cannot be.
    pub fn create(&self, request: &Request) -> Result<Created> {
        check_name(request)?;
        check_log(request)?;
        let image = self.wanted_image(request)?;
        let New { known, image, held: _held, warnings } = self.make(request, Making::of(request)?, image)?;
        // What cannot be is told now and not when it is started.
        let configured = self
            .joints_of(&known)
            .and_then(|joints| self.configured(&known, image.as_ref(), &joints, Moment::Creation));
        match configured {
            Ok(configured) => Ok(known.created([warnings, configured.warnings].concat())),
            Err(error) => {
                self.take_back(&known)?;
                Err(error)
            }
        }
    }

    /// Finds the image of a request, if it is of one.
    pub(crate) fn wanted_image(&self, request: &Request) -> Result<Option<Image>> {
        match &request.root {
            Root::Image(wanted) => {
                Ok(Some(self.store.image(wanted).map_err(|error| unfound(wanted, error))?))
            }
            Root::Directory(_) => Ok(None),
        }
    }

    /// Records a container of this image and makes its parts.
    pub(crate) fn make(&self, request: &Request, making: Making, image: Option<Image>) -> Result<New> {
        let mut request = request.clone();
        request.name = request.name.map(|name| name::bare(&name).to_owned());
        if let Some(path) = request.runtime.as_ref().filter(|name| name.contains('/')) {
            // Later commands may be typed elsewhere.
            let path = std::path::absolute(path).doing(|| format!("find the runtime {path}"))?;
            request.runtime = Some(path.to_string_lossy().into_owned());
        }
        self.add_volumes_of_others(&mut request)?;
        self.identify_others(&mut request)?;
        let pod = self.join_pod(&mut request, image.as_ref())?;
        let made = self.choose_network(&mut request).and_then(|warnings| {
            self.identify_networks(&mut request.namespaces.network)?;
            let of_pod = pod.iter().flat_map(|joined| joined.warnings.clone());
            let warnings = of_pod.chain(warnings).collect();
            Ok(New { warnings, ..self.make_joined(request, making, image, pod.as_ref())? })
        });
        if let (Err(_), Some(joined)) = (&made, &pod) {
            self.leave_pod(joined);
        }
        made
    }

    /// Makes a container whose pod is there, if it is in one.
    fn make_joined(
        &self,
        request: Request,
        Making { id, maker, durability }: Making,
        image: Option<Image>,
        pod: Option<&Joined>,
    ) -> Result<New> {
        let defaults = image.as_ref().map(|image| image.configuration.config.clone()).unwrap_or_default();
        let mut document = Document::new(request);
        // What is below `run` goes with an ordinary user's last session, where that is earlier.
        document.goes_with_machine =
            maker.is_some() && document.request.remove && host::caller() == Caller::Root;
        document.maker = maker;
        document.command = configure::command_line(&document.request, &defaults)?;
        document.labels = configure::labels(&document.request, &defaults);
        document.mounts = configure::mount_points(&document.request, &defaults)?;
        let volumes = name_volumes(&id, &mut document)?;
        if document.request.namespaces.user == Some(UserNamespace::Pod) {
            document.users = pod.and_then(|joined| joined.users.clone());
        }
        let pod = pod.map(|joined| joined.record.id.as_str());
        let record = self.record((&id, durability), &mut document, image.as_ref(), &volumes, pod)?;
        let known = Known::new(record, document);
        match self.make_parts(&known, image.as_ref()) {
            Ok(held) => Ok(New { known, image, held, warnings: Vec::new() }),
            Err(error) => {
                // The first error is the one to tell. What cannot be removed now is found by its record.
                drop(self.take_back(&known));
                Err(error)
            }
        }
    }

    /// Records a container under its name, or under one that nobody has.
    fn record(
        &self,
        (id, durability): (&str, Durability),
        document: &mut Document,
        image: Option<&Image>,
        volumes: &[VolumeRecord],
        pod: Option<&str>,
    ) -> Result<ContainerRecord> {
        let choice = self.decide_users(document, image)?;
        let name = document.request.name.clone();
        let connections = document.request.namespaces.network.connections().to_vec();
        let networks = self.networks_of(&connections)?;
        let mut record = ContainerRecord::new(id, "", image.map(|image| image.id));
        record.document = document.write()?;
        record.pod = pod.map(str::to_owned);
        record.volumes = document.volumes().map(|(name, ..)| name.to_owned()).collect();
        for attempt in 0.. {
            record.name = match &name {
                Some(name) => name.clone(),
                None => name::generate(attempt)?,
            };
            let mut refused = None;
            let inserted =
                self.store.insert_container_among(&mut record, volumes, durability, |among, record| {
                    let mut decide = || -> Result<()> {
                        if let Some(choice) = &choice {
                            document.users = choice.among(&document.request, &among.containers()?)?;
                            record.document = document.write()?;
                        }
                        let joints = joined(id, networks.clone(), &connections, &[]);
                        look_at_devices(&joints)?;
                        joints
                            .into_iter()
                            .try_for_each(|(mut joint, _)| settle(&among.connected(), &mut joint))
                    };
                    decide().map_err(|error| stored(&mut refused, &record.name, error))?;
                    Ok(Some(known::event(record, document, "create")))
                });
            if let Some(error) = refused {
                return Err(error);
            }
            match inserted {
                Err(bulkhead_store::Error::NameTaken { .. }) if name.is_none() && attempt < ATTEMPTS => {}
                Err(bulkhead_store::Error::NameTaken { by, .. })
                    if name.is_some() && attempt == 0 && self.frees_name(&by) => {}
                inserted => {
                    inserted?;
                    break;
                }
            }
        }
        Ok(record)
    }

    /// Makes a container's directories and fills its new volumes, and holds it.
    fn make_parts(&self, known: &Known, image: Option<&Image>) -> Result<Option<Held>> {
        let Known { record, document, .. } = known;
        let directory = self.places().container(&record.id);
        make_directory(&directory)?;
        let held = self.hold(&record.id)?;
        // Between record and directory somebody may have removed the container.
        if let Err(error) = self.store.container(&record.id) {
            self.clear(&directory)?;
            return Err(error.into());
        }
        let root = self.root_of(record, document, image);
        make_within(&directory, &root)?;
        self.fill_volumes(&record.id, document, &root.lower)?;
        Ok(held)
    }

    /// Makes those of a container's directories that are not there, because whoever made it was killed.
    pub(crate) fn complete(&self, known: &Known) -> Result<()> {
        let Known { record, document, .. } = known;
        let directory = self.places().container(&record.id);
        if [UPPER, WORK, FILES].iter().all(|part| directory.join(part).exists()) {
            return Ok(());
        }
        let image = record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        make_directory(&directory)?;
        make_within(&directory, &self.root_of(record, document, image.as_ref()))
    }

    /// Fills the container's volumes that are empty with what is at their places in the root.
    pub(crate) fn fill_volumes(&self, id: &str, document: &Document, lower: &[PathBuf]) -> Result<()> {
        let is_filled = |volume: &Volume| volume.copy == Copy::Filled;
        if document.volumes().any(|(.., volume)| is_filled(volume)) && users::are_elsewhere()? {
            let words = ["fill".as_ref(), id.as_ref()];
            return self.do_in_users("fill new volumes with what the image has", &words).map(drop);
        }
        self.fill_volumes_here(document, lower)
    }

    /// As [`Engine::fill_volumes`], by this process.
    pub(crate) fn fill_volumes_here(&self, document: &Document, lower: &[PathBuf]) -> Result<()> {
        for (name, destination, volume) in document.volumes() {
            match volume.copy {
                // A part of a volume is there, or the container does not start.
                Copy::Filled if volume.subpath.is_some() => {}
                Copy::Filled => self.fill(name, destination, lower)?,
                Copy::Empty => self.empty_half_filled(name)?,
            }
        }
        Ok(())
    }

    /// Puts the mounts of other containers before those that were asked for, which may cover them.
    fn add_volumes_of_others(&self, request: &mut Request) -> Result<()> {
        let mut taken: Vec<Mount> = Vec::new();
        for VolumesFrom { container, access } in &request.volumes_from {
            for mount in self.find(container)?.document.mounts {
                let access = access.unwrap_or(mount.access);
                let is_new =
                    taken.iter().chain(&request.mounts).all(|asked| asked.destination != mount.destination);
                // A file system in memory is its container's own.
                if is_new && !matches!(mount.kind, MountKind::Tmpfs(_)) {
                    taken.push(Mount { access, ..mount });
                }
            }
        }
        request.mounts.splice(0..0, taken);
        Ok(())
    }
}

/// Names the volumes that have no name, and describes those that may be new.
fn name_volumes(id: &str, document: &mut Document) -> Result<Vec<VolumeRecord>> {
    let mut new = Vec::new();
    for mount in &mut document.mounts {
        let MountKind::Volume(volume) = &mut mount.kind else { continue };
        let is_anonymous = volume.name.is_none();
        let name = volume.name.take().map_or_else(id::generate, Ok)?;
        if is_anonymous {
            document.anonymous.push(name.clone());
        }
        let goes_with = (is_anonymous && document.request.remove).then(|| id.to_owned());
        let kept = VolumeDocument { labels: volume.labels.clone(), anonymous: is_anonymous, goes_with };
        let mut record = VolumeRecord::new(&name);
        record.document = kept.write()?;
        new.push(record);
        volume.name = Some(name);
    }
    Ok(new)
}

/// Makes a directory that only its owner may enter; one that is there is taken as it is.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.doing(|| format!("make {}", path.display())),
    }
}

/// Makes what is in a container's directory.
fn make_within(directory: &Path, root: &RootFs) -> Result<()> {
    for part in [UPPER, WORK, FILES] {
        make_directory(&directory.join(part))?;
    }
    let upper = directory.join(UPPER);
    // It has the marker of what lies below all layers otherwise.
    if root.above.is_some() && root.below.is_none() {
        write(&upper.join(MARKER), b"", 0o644).doing(|| format!("mark {}", upper.display()))?;
    }
    match root.layers().first() {
        // The root of an overlay is its upper directory.
        Some(top) => take_over(top, &upper),
        None => Ok(()),
    }
}

/// Gives a directory the owner and the mode of another.
fn take_over(from: &Path, to: &Path) -> Result<()> {
    let doing = || format!("give {} the owner and mode of {}", to.display(), from.display());
    let stat = fs::metadata(from).map_err(|error| root::unopened(from, error))?;
    let own = fs::metadata(to).doing(doing)?;
    if (stat.uid(), stat.gid()) != (own.uid(), own.gid()) {
        match chown(to, Some(stat.uid()), Some(stat.gid())) {
            // An ordinary user's container has no such user: then its root owns what would be nobody's.
            Err(error)
                if error.kind() == io::ErrorKind::PermissionDenied && host::caller() != Caller::Root => {}
            given => given.doing(doing)?,
        }
    }
    fs::set_permissions(to, stat.permissions()).doing(doing)
}
