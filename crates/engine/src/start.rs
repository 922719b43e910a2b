//! Starting a container: its bundle and its order are written, then its monitor is started.

mod others;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use bulkhead_shim::client::{self, Waiting};
use bulkhead_shim::order::{self, Order, Shared};
use bulkhead_shim::place;
use bulkhead_shim::status::Process;
use bulkhead_spec::Config;
use bulkhead_store::{Durability, Image};
use rustix::fs::{CWD, Dir, Mode, OFlags, fchmod, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::configure::{self, Caller, Configured, INIT_COPY, ImageFiles, OfPod, Runtime, Scene, Users};
use crate::container::State;
use crate::create::{Created, FILES, Making, New, check_log, check_name, is_fleeting, make_directory};
use crate::document::Maker;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result, chain};
use crate::hold::Held;
use crate::known::Known;
use crate::network::{self, Joint, Plugged};
use crate::pod::share::Starting;
use crate::remove::clear;
use crate::request::{self, LogDetails, Request, Secret, Tagged, UserNamespace};
use crate::session::{Attach, End, Session};
use crate::users::Within;
use crate::{host, id, logs, program};

/// A container that runs.
#[derive(Debug)]
pub struct Running<'engine> {
    /// What was made.
    pub created: Created,
    /// The connection of a client that was attached before anything ran.
    pub session: Option<Session<'engine>>,
}

/// What came of a start.
#[derive(Debug, Default)]
pub struct Started<'engine> {
    /// The connection of a client, if one was to be attached.
    pub session: Option<Session<'engine>>,
    /// What the user should be told, though nothing stops for it.
    pub warnings: Vec<String>,
}

/// Why a container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody wants it to run, or the machine has booted: how often its policy has started it is counted anew.
    Wanted,
    /// Its policy, after an end that no monitor saw.
    Policy,
}

impl Cause {
    /// How often its policy has started a container, once it runs.
    fn restarts(self, known: &Known) -> u32 {
        match self {
            Self::Wanted => 0,
            Self::Policy => known.status.as_ref().map_or(0, |status| status.restarts).saturating_add(1),
        }
    }
}

/// Whoever is told of a container once it is made and before anything of it runs.
pub type Made<'a> = dyn FnMut(&Created) -> io::Result<()> + 'a;

/// The OCI bundle, in the container's directory below `run`.
pub(crate) const BUNDLE: &str = "bundle";
/// The directory of the bundle on which a root is mounted.
const ROOTFS: &str = "rootfs";
/// How often a container is started again because what it was to share went meanwhile.
const ATTEMPTS: u32 = 8;
/// The directory of secrets, in the container's directory below `run`: they never reach a disk, and go with it.
pub(crate) const SECRETS: &str = "secrets";
/// The directory, there too, in which the monitor mounts parts of what other containers can change.
const PARTS: &str = "parts";

impl Engine {
    /// Makes a container and starts it, with a client attached or without.
    ///
    /// # Errors
    /// As [`Engine::create`] and [`Engine::start`]. A container that was to remove itself is removed when it cannot be
    /// started.
    pub fn run(&self, request: &Request, attach: Option<Attach>) -> Result<Running<'_>> {
        self.run_told(request, attach, &mut |_| Ok(()))
    }

    /// As [`Engine::run`], and tells `made` of the container before anything runs in it.
    ///
    /// # Errors
    /// What `made` returns, too; then nothing is left of the container.
    pub fn run_told(
        &self,
        request: &Request,
        attach: Option<Attach>,
        made: &mut Made<'_>,
    ) -> Result<Running<'_>> {
        let process = Process::find(std::process::id().cast_signed());
        let maker = process.map(|process| self.boot().map(|boot| Maker { boot: boot.to_owned(), process }));
        // Its record is synced while the monitor starts the container.
        let durability = Durability::Process;
        let making = Making { maker: maker.transpose()?, durability, ..Making::of(request)? };
        check_name(request)?;
        check_log(request)?;
        // For an image that is not there or a name that is taken it is loaded in vain, and ends.
        let waiting = self.begin_monitor(&making.id, request, attach)?;
        let image = self.wanted_image(request)?;
        let New { known, image, held: _held, warnings } = self.make(request, making, image)?;
        if let Err(error) = made(&known.created(Vec::new())) {
            self.take_back(&known)?;
            return Err(error).doing(|| format!("tell of container {}", known.record.name));
        }
        match self.launch(&known, image.as_ref(), (attach, Cause::Wanted), Some(waiting)) {
            Ok((session, more)) => Ok(Running { created: known.created([warnings, more].concat()), session }),
            Err(error) => {
                if known.document.request.remove {
                    self.take_back(&known)?;
                }
                if !is_fleeting(request) {
                    // It stays, or its volumes do, and that was not synced if it was not even tried to start it.
                    drop(self.store.sync());
                }
                Err(error)
            }
        }
    }

    /// Starts a container, with a client attached or without. One that runs already is no error; then a client is attached
    /// to what runs.
    ///
    /// # Errors
    /// [`Error::Start`] with the runtime's words and docker's code; [`Error::State`] when it is paused or being removed.
    pub fn start(&self, wanted: &str, attach: Option<Attach>) -> Result<Started<'_>> {
        let id = self.find(wanted)?.record.id;
        let held = self.hold(&id)?;
        self.start_held(&id, held, (attach, Cause::Wanted))
    }

    /// Starts a container by its policy, whose monitor nobody has any more.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub(crate) fn start_again(&self, id: &str) -> Result<()> {
        let held = self.hold(id)?;
        self.start_held(id, held, (None, Cause::Policy)).map(drop)
    }

    /// Starts a container that nobody else touches.
    pub(crate) fn start_held(
        &self,
        id: &str,
        held: Option<Held>,
        (attach, cause): (Option<Attach>, Cause),
    ) -> Result<Started<'_>> {
        let known = self.find(id)?;
        match known.life.state {
            State::Created | State::Exited => {}
            State::Paused | State::Removing => return Err(known.refuses("start")),
            State::Starting | State::Running | State::Restarting => {
                drop(held);
                let session = attach.map(|attach| self.attach(id, attach)).transpose()?;
                return Ok(Started { session, warnings: Vec::new() });
            }
        }
        check_log(&known.document.request)?;
        let image = known.record.image.map(|id| self.store.image(&id.to_string())).transpose()?;
        self.complete(&known)?;
        let root = self.root_of(&known.record, &known.document, image.as_ref());
        self.fill_volumes(id, &known.document, &root.lower)?;
        let (session, warnings) = self.launch(&known, image.as_ref(), (attach, cause), None)?;
        Ok(Started { session, warnings })
    }

    /// Attaches a client to a container that runs.
    ///
    /// # Errors
    /// [`Error::State`] when it does not run.
    pub fn attach(&self, wanted: &str, attach: Attach) -> Result<Session<'_>> {
        let known = self.find(wanted)?;
        if !known.life.state.is_active() {
            return Err(known.refuses("attach to"));
        }
        let run = self.places().container_run(&known.record.id);
        let attachment = client::connect(&run, attach.said(End::Theirs))?;
        self.tell(&known, "attach");
        let has_terminal = known.document.request.process.terminal;
        Ok(Session::new(self, &known.record.id, has_terminal, End::Theirs, attachment))
    }

    /// Starts the monitor of a container that is still to be made: its program is loaded meanwhile.
    fn begin_monitor(&self, id: &str, request: &Request, attach: Option<Attach>) -> Result<Waiting> {
        let said = attach.map(|attach| attach.said(end_of(request, Some(attach))));
        Ok(Waiting::begin(&self.monitor()?, &self.places().container_run(id), said)?)
    }

    /// Writes what the monitor and the runtime read, and starts the monitor, if none is `waiting`; returns what the user should
    /// be told, too. The container is held, or nobody knows it yet.
    fn launch(
        &self,
        known: &Known,
        image: Option<&Image>,
        (attach, cause): (Option<Attach>, Cause),
        mut waiting: Option<Waiting>,
    ) -> Result<(Option<Session<'_>>, Vec<String>)> {
        let Known { record, document, .. } = known;
        let run = self.places().container_run(&record.id);
        let moved = self.make_way(document.request.namespaces.network.connections())?;
        let joints = self.joints_of(known)?;
        let mut configured = self.configured(known, image, &joints, Moment::Start)?;
        if let (Some(size), Some(process)) =
            (attach.and_then(|attach| attach.size), &mut configured.config.process)
        {
            process.console_size = process.terminal.then(|| configure::console_size(size));
        }
        let end = end_of(&document.request, attach);
        let pod = self.starting_in_pod(known)?;
        let mut plugged = self.plug_container(known, image, &joints)?;
        if plugged.is_some() && joints.iter().any(Joint::is_elsewhere) {
            // Only now it is known which addresses it has.
            let again = self.configured(known, image, &self.joints_of(known)?, Moment::Start)?;
            (configured.files, configured.warnings) = (again.files, again.warnings);
        }
        configured.warnings.extend(moved);
        configured.config.hooks.create_runtime.extend(self.network_hook(known)?);
        let mut order = self.prepare(known, image, &configured, (attach, cause))?;
        self.note_sharer(known)?;
        let attached = attach;
        let attach = attach.map(|attach| attach.said(end));
        let monitor = self.monitor()?;
        let mut attempts = 0..ATTEMPTS;
        let started = loop {
            let labels = configured.labels.as_ref();
            order.shared =
                pod.as_ref().map(|pod| self.shared(known, pod, labels, &mut plugged)).transpose()?.flatten();
            if let Some(plugged) = &plugged {
                order.shared.get_or_insert_default().namespaces.push(plugged.handed()?);
            }
            order.version = order.oldest_version();
            order
                .write(&run.join(place::ORDER))
                .doing(|| format!("write the order of container {}", record.name))?;
            let started = match waiting.take().map(Waiting::tell) {
                Some(told) => {
                    let synced = if is_fleeting(&document.request) { Ok(()) } else { self.store.sync() };
                    if let Err(error) = synced {
                        let lost = format!("a power loss may take the container's record: {}", chain(&error));
                        configured.warnings.push(lost);
                    }
                    told.started()
                }
                None => client::spawn(&monitor, &run, attach),
            };
            match started {
                // The monitor that it was to take over from died meanwhile.
                Err(client::Error::NotStarted { .. })
                    if order.shared.as_ref().is_some_and(has_gone) && attempts.next().is_some() => {}
                started => break started,
            }
        };
        let pod = pod.map(Starting::end);
        let started = started.map_err(|error| {
            let is_by_hook = !joints.is_empty() || document.request.namespaces.network.is_carried();
            if plugged.is_none() && is_by_hook {
                // A hook may have connected it. What stays is found by what was recorded.
                drop(self.unplug(&record.id));
            }
            if let (true, Some(pod)) = (self.is_pod_known(known).unwrap_or(false), record.pod.as_deref()) {
                // As that, unless others of the pod run.
                drop(self.unplug_pod(pod));
            }
            match error {
                client::Error::NotStarted { failure } => {
                    let name = record.name.clone();
                    Error::Start { name, code: failure.kind.code(), reason: failure.message }
                }
                other => other.into(),
            }
        })?;
        configured.warnings.extend(plugged.map(Plugged::taken_over).into_iter().flatten());
        configured.warnings.extend(pod.and_then(|pod| self.uncarried(&pod)));
        self.tell_start(known, attached);
        let has_terminal = document.request.process.terminal;
        let session = |attachment| Session::new(self, &record.id, has_terminal, end, attachment);
        Ok((started.attachment.map(session), configured.warnings))
    }

    /// Decides how a container is run, or would be.
    pub(crate) fn configured(
        &self,
        known: &Known,
        image: Option<&Image>,
        joints: &[Joint],
        moment: Moment,
    ) -> Result<Configured> {
        let Known { record, document, .. } = known;
        let request = &document.request;
        self.check_init(request)?;
        let defaults = image.map(|image| image.configuration.config.clone()).unwrap_or_default();
        let pod = record.pod.as_deref().map(|pod| self.of_pod(pod)).transpose()?;
        let links = self.places().container_run(&record.id);
        let runtime = self.runtime(request.runtime.as_deref())?;
        runtime.check(request)?;
        let root = self.root_of(record, document, image);
        let [passwd, group] = root.read(["/etc/passwd", "/etc/group"])?;
        let (sources, peers) = (self.sources(known), self.peers(known, moment)?);
        self.refuse_onlookers(known)?;
        let shared = match &request.namespaces.user {
            Some(UserNamespace::Container(name)) => peers.get(name).and_then(|peer| peer.users.as_ref()),
            _ => None,
        };
        configure::configure(&Scene {
            id: &record.id,
            name: &record.name,
            request,
            defaults: &defaults,
            root: &root.place()?,
            mounts: &document.mounts,
            sources: &sources,
            files: &self.places().container(&record.id).join(FILES),
            secrets: &self.places().container_run(&record.id).join(SECRETS),
            users: document.users.as_ref().or(shared),
            peers: &peers,
            links: &links,
            pod: record.pod.as_deref().zip(pod.as_ref()).map(|(id, (files, hostname, carrier))| OfPod {
                id,
                files,
                hostname,
                carrier: *carrier,
            }),
            wiring: &network::wiring(request, joints),
            image: ImageFiles {
                passwd: passwd.as_deref().unwrap_or_default(),
                group: group.as_deref().unwrap_or_default(),
            },
            facts: &self.facts(request, &document.mounts, &sources)?,
            runtime: runtime.kind(),
        })
    }

    /// Makes sure that the monitor's program can be the first process of any container, if it is to be that.
    fn check_init(&self, request: &Request) -> Result<()> {
        if !request.process.init {
            return Ok(());
        }
        let program = self.monitor()?;
        if program::is_static(&program).doing(|| format!("read {}", program.display()))? {
            return Ok(());
        }
        let reason = format!(
            "{} needs a loader and libraries, which a container may not have; `cargo xtask build bulkmon` makes one that needs none",
            program.display()
        );
        Err(Error::Invalid { what: "--init".into(), reason })
    }

    /// Copies the program of `--init`. One that still runs keeps its own.
    fn copy_init(&self, to: &Path) -> Result<()> {
        let program = self.monitor()?;
        let doing = || format!("copy {} to {}", program.display(), to.display());
        match fs::remove_file(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).doing(doing),
            _ => {}
        }
        fs::copy(&program, to).doing(doing)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755)).doing(doing)
    }

    /// Writes the bundle and the files that are bound into the container, and says what the monitor is to do.
    fn prepare(
        &self,
        known: &Known,
        image: Option<&Image>,
        configured: &Configured,
        (attach, cause): (Option<Attach>, Cause),
    ) -> Result<Order> {
        let Known { record, document, .. } = known;
        let request = &document.request;
        let directory = self.places().container(&record.id);
        let run = self.places().container_run(&record.id);
        let bundle = run.join(BUNDLE);
        for part in [&run, &bundle, &bundle.join(ROOTFS)] {
            make_directory(part)?;
        }
        let doing = || format!("write the bundle of container {}", record.name);
        // An ordinary user is the container's root, or could not give anything away.
        let users = configured.users.as_ref();
        let owner = users.filter(|_| host::caller() == Caller::Root).and_then(|users| users.on_host(0, 0));
        for (name, text) in &configured.files {
            let file = write(&directory.join(FILES).join(name), text.as_bytes(), 0o644).doing(doing)?;
            if let Some((uid, gid)) = owner {
                fchown(&file, Some(uid), Some(gid)).doing(doing)?;
            }
        }
        let root = self.root_of(record, document, image);
        root.add_accounts(&configured.accounts)?;
        copy_secrets(&request.secrets, users, &run.join(SECRETS))?;
        let parts = self.parts(known)?;
        // What an earlier start has made there may be of another kind.
        clear(&run.join(PARTS))?;
        if !parts.is_empty() {
            make_directory(&run.join(PARTS))?;
        }
        make_sources(&document.mounts, owner)?;
        if let Some(labels) = &configured.labels {
            if request.process.init {
                self.copy_init(&directory.join(FILES).join(INIT_COPY))?;
            }
            self.label(known, image, labels)?;
        }
        let runtime = known.runtime(self)?;
        let overlay = match runtime.kind() {
            Runtime::Ours => None,
            Runtime::Foreign | Runtime::Guest => root.overlay(bundle.join(ROOTFS), configured.volatile),
        };
        let mut config = configured.config.clone();
        let overlay = self.prepare_within(known, &mut config, overlay)?;
        let config = serde_json::to_vec(&config).map_err(io::Error::from).doing(doing)?;
        write(&bundle.join("config.json"), &config, 0o600).doing(doing)?;
        let cgroup = configured.config.linux.as_ref().and_then(|linux| linux.cgroups_path.as_ref());
        let defaults = image.map(|image| image.configuration.config.clone()).unwrap_or_default();
        if configured.volatile {
            self.renew(known, &root)?;
        }
        let environment = configured.config.process.as_ref().map_or(&[][..], |process| &process.env);
        Ok(Order {
            version: order::VERSION,
            id: record.id.clone(),
            runtime: runtime.words_of(request, cgroup.map(String::as_str))?,
            overlay,
            bundle,
            parts,
            shared: None,
            joined: self.joined(known)?,
            cgroup: cgroup.map(PathBuf::from).filter(|path| path.is_absolute()),
            terminal: request.process.terminal,
            size: attach.and_then(|attach| attach.size).or(request.process.size),
            stdin: stdin(request, attach),
            log: log(known, environment, directory.join(logs::FILE))?,
            status: self.status_of(&record.id, document),
            restart: request.restart.0,
            restarts: cause.restarts(known),
            health: configure::health(request, &defaults)?,
            stop: configure::stop(request, &defaults),
            companion: self.name_server_for(known)?,
            companions: self.proxy_for(known, image)?.into_iter().collect(),
            recorded: self.carrier_for(known)?.into_iter().collect(),
            at_end: if request.remove { self.removal_of(&record.id)? } else { self.unplugging(known)? },
        })
    }

    /// Writes what a runtime of others is called in that runs as the container's users, if it does; returns the overlay that the monitor is to
    /// mount all the same.
    fn prepare_within(
        &self,
        known: &Known,
        config: &mut Config,
        overlay: Option<order::Overlay>,
    ) -> Result<Option<order::Overlay>> {
        let Known { record, document, .. } = known;
        let is_within = self.is_within(document)?;
        let Some(users) = document.users.as_ref().filter(|_| is_within) else { return Ok(overlay) };
        // Its own would be the container's root's.
        make_directory(&self.states_of(document.request.runtime.as_deref()))?;
        let mut carried = None;
        if let (true, Some(linux)) = (document.request.namespaces.network.is_carried(), &mut config.linux) {
            // It takes the network that it is called in for the host's, and would not change that.
            let of_network = |name: &String| name.starts_with("net.") || name.starts_with("net/");
            let (own, rest) =
                std::mem::take(&mut linux.sysctl).into_iter().partition(|(name, _)| of_network(name));
            linux.sysctl = rest;
            let own: BTreeMap<String, String> = own;
            carried = Some(own.into_iter().map(|(name, value)| (name.replace('/', "."), value)).collect());
        }
        let within = Within::new(users.clone(), overlay, carried, self.status_of(&record.id, document));
        within.write(&self.places().container_run(&record.id))?;
        Ok(None)
    }

    /// Returns the words by which a monitor removes a container that nobody waits for.
    fn removal_of(&self, id: &str) -> Result<Vec<String>> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let places = self.places();
        let words = [
            path(&self.command()?),
            "--root".to_owned(),
            path(&places.root),
            "--run".to_owned(),
            path(&places.run),
        ];
        Ok(words.into_iter().chain(["rm", "--volumes", id].map(str::to_owned)).collect())
    }
}

/// Tells whether something that a pod's container was to take over is not there any more.
fn has_gone(shared: &Shared) -> bool {
    shared.namespaces.iter().any(|namespace| {
        let of_dead = |from: &PathBuf| !from.exists();
        namespace.from.as_ref().is_some_and(of_dead) || namespace.holder.is_some_and(|holder| !holder.runs())
    })
}

/// What a configuration is decided for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// To see whether it can be.
    Creation,
    /// For the runtime.
    Start,
}

/// Who does what follows the container's end: a client that stays for it, if the container is to be removed then.
fn end_of(request: &Request, attach: Option<Attach>) -> End {
    if request.remove && attach.is_some() { End::Ours } else { End::Theirs }
}

/// What becomes of the standard input: a terminal outlives its clients, a stream ends with the one that is attached.
fn stdin(request: &Request, attach: Option<Attach>) -> order::Stdin {
    match (request.process.stdin, attach) {
        (false, _) => order::Stdin::Closed,
        (true, Some(attach)) if attach.stdin && !request.process.terminal => order::Stdin::Once,
        (true, _) => order::Stdin::Open,
    }
}

/// Writes a file that nobody has open, with these rights whatever the caller's umask is, and never with more.
pub(crate) fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<File> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(contents)?;
    Ok(file)
}

/// Copies the files of the host that are secrets of these users: number N to `N`.
fn copy_secrets(secrets: &[Secret], users: Option<&Users>, to: &Path) -> Result<()> {
    if secrets.is_empty() {
        return Ok(());
    }
    // Those of an earlier start may not even be their owner's to write.
    clear(to)?;
    make_directory(to)?;
    for (number, secret) in secrets.iter().enumerate() {
        let doing = || format!("copy the secret {}", secret.source.display());
        let contents = fs::read(&secret.source).doing(doing)?;
        let path = to.join(number.to_string());
        let file = write(&path, &contents, 0o600).doing(doing)?;
        let owner =
            users.map_or(Some((secret.uid, secret.gid)), |users| users.on_host(secret.uid, secret.gid));
        let (uid, gid) = owner.ok_or_else(|| Error::Invalid {
            what: format!("secret {}", secret.source.display()),
            reason: format!(
                "its owner {}:{} is not in the container's user namespace; choose another by uid and gid",
                secret.uid, secret.gid
            ),
        })?;
        fchown(&file, Some(uid), Some(gid)).doing(doing)?;
        file.set_permissions(fs::Permissions::from_mode(secret.mode)).doing(doing)?;
    }
    Ok(())
}

/// Makes the directories of the host that are to be bound and are not there, as `--volume` has it. They belong to the
/// container's root.
fn make_sources(mounts: &[request::Mount], owner: Option<(u32, u32)>) -> Result<()> {
    for mount in mounts {
        let request::MountKind::Bind(bind) = &mount.kind else { continue };
        if bind.source.exists() {
            continue;
        }
        let what = || format!("bind mount of {}", bind.source.display());
        if bind.missing == request::Missing::Refused {
            let reason = "it is not there; make it, or use `--volume`, which makes directories".into();
            return Err(Error::Invalid { what: what(), reason });
        }
        make_open(&bind.source, owner).doing(what)?;
    }
    Ok(())
}

/// Makes a directory and those above it that are not there, and opens them to all, as docker does whatever the umask is.
///
/// A container to which the directory above is bound may exchange what is made at any time. So rights and owner are changed
/// by descriptor, and only of what can be nothing else than what was made.
fn make_open(path: &Path, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => return Ok(opened?),
    }
    let parent = path.parent().ok_or(Errno::NOENT)?;
    let parent = make_open(parent, owner)?;
    let Some(name) = path.file_name() else { return Ok(openat(CWD, path, flags, Mode::empty())?) };
    let mode = Mode::from_raw_mode(0o755);
    match mkdirat(&parent, name, mode) {
        Ok(()) => {}
        // Somebody else made it meanwhile.
        Err(Errno::EXIST) => return Ok(openat(&parent, name, flags, Mode::empty())?),
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(&parent, name, flags, Mode::empty())?;
    if fstat(&made)?.st_uid == geteuid().as_raw() && is_empty(&made)? {
        fchmod(&made, mode)?;
        if let Some((uid, gid)) = owner {
            fchown(&made, Some(uid), Some(gid))?;
        }
    }
    Ok(made)
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says where output is kept.
fn log(known: &Known, environment: &[String], path: PathBuf) -> Result<order::Log> {
    let Known { record, document, .. } = known;
    let image_id = record.image.map(|id| id.to_string()).unwrap_or_default();
    let (image_name, command) = (document.image(), document.command.join(" "));
    let tagged = Tagged {
        id: &record.id,
        name: &record.name,
        image_id: &image_id,
        image_name: &image_name,
        command: &command,
    };
    let told = |details: &LogDetails| {
        let labels = document.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        details.told(labels, environment.iter().filter_map(|text| text.split_once('=')))
    };
    Ok(match &document.request.log {
        request::Log::JsonFile { max_size, max_file, details } => {
            let mut attributes = told(details);
            if let Some(tag) = details.tag.as_deref().filter(|tag| !tag.is_empty()) {
                attributes.insert("tag".to_owned(), tagged.fill(tag)?);
            }
            order::Log::JsonFile {
                path,
                max_size: max_size.map_or(0, |size| size.0),
                max_file: max_file.unwrap_or(1),
                attributes,
            }
        }
        request::Log::Journald { details } => {
            let short = id::short(&record.id);
            let tag = details.tag.as_deref().map_or_else(|| Ok(short.to_owned()), |tag| tagged.fill(tag))?;
            let fields = [
                ("CONTAINER_ID", short),
                ("CONTAINER_ID_FULL", &record.id),
                ("CONTAINER_NAME", &record.name),
                ("CONTAINER_TAG", &tag),
                ("IMAGE_NAME", &image_name),
                ("SYSLOG_IDENTIFIER", &tag),
            ];
            let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let further =
                told(details).into_iter().filter_map(|(key, value)| Some((journal_name(&key)?, value)));
            order::Log::Journald { fields: fields.into_iter().chain(further).collect() }
        }
        request::Log::None => order::Log::None,
    })
}

/// Makes a name one that the journal takes, as docker does; nothing where nothing of it is left.
fn journal_name(name: &str) -> Option<String> {
    let allowed =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let name: String = name.chars().map(allowed).collect();
    // The journal's own begin with `_`, and none begins with a digit.
    let name = name.trim_start_matches(|letter: char| letter == '_' || letter.is_ascii_digit());
    let name: String = name.chars().take(64).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bulkhead_testkit::Scratch;
    use rustix::fs::{RenameFlags, renameat_with};

    use super::*;

    #[test]
    fn a_directory_that_is_exchanged_while_it_is_made_opens_nothing_else() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir(path("secret")).unwrap();
        fs::write(path("secret/file"), "").unwrap();
        fs::set_permissions(path("secret"), fs::Permissions::from_mode(0o700)).unwrap();
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let _ = renameat_with(CWD, path("link"), CWD, path("new"), RenameFlags::EXCHANGE);
                }
            });
            for _ in 0..500 {
                for name in ["new", "link"] {
                    let _ = fs::remove_dir(path(name)).or_else(|_| fs::remove_file(path(name)));
                }
                let _ = symlink("secret", path("link"));
                // It may be met as a link, which is refused.
                let _ = make_open(&path("new"), None);
            }
            is_done.store(true, Ordering::Relaxed);
        });
        let mode = fs::metadata(path("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "what the link leads to has what it had");
    }
}
