//! `cargo xtask peers`: the runtimes that ours is measured against, unpacked into the cache.
//!
//! crun and runc come twice, as the machine's own release has them and as the newest suite of the same archive
//! has them. They are never installed: a newer release's packages would drag in its C library. Each suite gets
//! a directory with all libraries, and its programs are told to look there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use bulkhead_measure::platform;
use lexopt::Parser;

use crate::{apt, cache, invoke};

/// What `checkpoint` and `restore` need; each kernel may need a newer one than the last, so it is the newest.
const CRIU: &str = "criu";

/// The runtimes that Debian and Ubuntu have.
const PACKAGED: &[&str] = &["crun", "runc"];

/// Another wall that `bulkhead measure` knows.
struct Wall {
    /// With what it only recommends, or has a choice of.
    packages: &'static [&'static str],
    /// The first is the one that is called; the others it calls.
    programs: &'static [&'static str],
    suites: Suites,
}

/// Of which suites of the archive.
enum Suites {
    Newest,
    /// The machine's own release, too.
    Both,
}

/// They are fetched only when one asks for peers.
const WALLS: &[Wall] = &[
    // The newest one of today ends badly where a program forks.
    Wall { packages: &["runsc"], programs: &["runsc"], suites: Suites::Both },
    Wall { packages: &["bubblewrap"], programs: &["bwrap"], suites: Suites::Newest },
    Wall { packages: &["charliecloud-runtime"], programs: &["ch-run"], suites: Suites::Newest },
    // The newest takes no machine with cgroup v1.
    Wall { packages: &["systemd-container"], programs: &["systemd-nspawn"], suites: Suites::Both },
    Wall {
        packages: &["podman", "conmon", "runc"],
        programs: &["podman", "conmon", "netavark", "runc"],
        suites: Suites::Newest,
    },
    Wall {
        packages: &["docker.io", "docker-cli", "containerd", "runc"],
        programs: &["docker", "dockerd", "containerd", "containerd-shim-runc-v2", "runc"],
        suites: Suites::Newest,
    },
];

/// Where programs lie in a package.
const PROGRAM_DIRECTORIES: &[&str] = &["usr/bin", "usr/sbin", "usr/lib/podman"];

/// Without these features youki refuses to start at all.
const YOUKI_FEATURES: &str = "v1,v2,systemd,cgroupsv2_devices";

/// A runtime that is ready to be called.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The runtime's name and version, such as `crun 1.28`.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
}

/// Prints where each peer is; `--youki` builds that one too, `--refresh` begins anew.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    let mut with_youki = false;
    let mut refresh = false;
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("youki") => with_youki = true,
            lexopt::Arg::Long("refresh") => refresh = true,
            other => {
                return Err(other.unexpected()).context("usage: cargo xtask peers [--youki] [--refresh]");
            }
        }
    }
    let _lock = cache::lock("peers")?;
    if refresh {
        cache::remove(&cache::directory()?.join("peers"))?;
    }
    let mut peers = packaged()?;
    if with_youki {
        build_youki()?;
    }
    peers.extend(youki()?);
    peers.push(criu()?);
    for Peer { name, program } in peers {
        println!("{name:12} {}", program.display());
    }
    let own = apt::Archive::of_this_machine()?;
    for Wall { packages, programs, suites } in WALLS {
        let archives = match suites {
            Suites::Newest => vec![own.newest()],
            Suites::Both => vec![own.newest(), own.clone()],
        };
        for archive in archives {
            // An archive may be without one of them, which is no reason to be without the others.
            match wall(&archive, packages, programs) {
                Ok(program) => println!("{:12} {}", programs[0], program.display()),
                Err(error) => println!("{:12} none: {error:#}", programs[0]),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every peer: the packaged ones are fetched when missing, youki is among them when it was built before.
pub(crate) fn all() -> Result<Vec<Peer>> {
    let _lock = cache::lock("peers")?;
    let mut peers = packaged()?;
    peers.extend(youki()?);
    Ok(peers)
}

/// One of the packaged runtimes as the archive's newest suite has it, and the directory with it and its libraries.
pub(crate) fn newest(runtime: &str) -> Result<(Peer, PathBuf)> {
    let _lock = cache::lock("peers")?;
    let directory = suite(&apt::Archive::of_this_machine()?.newest())?;
    Ok((Peer::at(program(&directory, runtime)?, runtime)?, directory))
}

fn packaged() -> Result<Vec<Peer>> {
    let own = apt::Archive::of_this_machine()?;
    let mut peers = Vec::new();
    for archive in [own.newest(), own] {
        let directory = suite(&archive).with_context(|| format!("fetch the peers of {}", archive.release))?;
        for runtime in PACKAGED {
            peers.push(Peer::at(program(&directory, runtime)?, runtime)?);
        }
    }
    peers.sort_by(|one, other| one.name.cmp(&other.name));
    peers.dedup_by(|one, other| one.name == other.name);
    Ok(peers)
}

/// CRIU for tests, fetched when it is missing.
pub(crate) fn ensure_criu() -> Result<()> {
    let _lock = cache::lock("peers")?;
    criu().map(|_| ())
}

fn criu() -> Result<Peer> {
    let newest = apt::Archive::of_this_machine()?.newest();
    let directory = cache::made("peers/criu", |directory| {
        println!("fetching criu of {}", newest.release);
        apt::unpack(&newest.download(&[CRIU])?, directory)
    })?;
    let program = program(&directory, CRIU)?;
    settle(&directory, &program)?;
    Peer::at(program, CRIU)
}

fn wall(archive: &apt::Archive, packages: &[&str], programs: &[&str]) -> Result<PathBuf> {
    let directory = cache::made(&format!("peers/{}-{}", packages[0], archive.release), |directory| {
        println!("fetching {} of {}", packages[0], archive.release);
        apt::unpack(&archive.download(packages)?, directory)
    })?;
    let places = programs.iter().map(|name| program(&directory, name)).collect::<Result<Vec<_>>>()?;
    places.iter().try_for_each(|place| settle(&directory, place))?;
    places.into_iter().next().context("no program is asked for")
}

/// The directory with one suite's runtimes and their libraries.
fn suite(archive: &apt::Archive) -> Result<PathBuf> {
    let name = format!("peers/{}", archive.release);
    let directory = cache::made(&name, |directory| {
        println!("fetching crun and runc of {}", archive.release);
        apt::unpack(&archive.download(PACKAGED)?, directory)
    })?;
    // The paths are absolute, so they are set where the directory has its final name.
    for runtime in PACKAGED {
        settle(&directory, &program(&directory, runtime)?)?;
    }
    Ok(directory)
}

fn program(directory: &Path, name: &str) -> Result<PathBuf> {
    let mut places = PROGRAM_DIRECTORIES.iter().map(|place| directory.join(place).join(name));
    places.find(|place| place.is_file()).with_context(|| format!("find {name} below {}", directory.display()))
}

/// Makes a dynamic program use the loader and the libraries below `directory`.
pub(crate) fn settle(directory: &Path, program: &Path) -> Result<()> {
    if !invoke::in_path("patchelf") {
        bail!("patchelf is missing: apt-get install patchelf");
    }
    let mut ask = Command::new("patchelf");
    let Ok(loader) = invoke::text(ask.arg("--print-interpreter").arg(program)) else {
        return Ok(()); // A static program needs no loader.
    };
    let loader = Path::new(loader.trim());
    if loader.starts_with(directory) {
        return Ok(());
    }
    let relative = loader.strip_prefix("/").with_context(|| format!("{} is relative", loader.display()))?;
    let own = [directory.join(relative), directory.join("usr").join(relative)];
    let own = own.into_iter().find(|place| place.exists()).context("find the loader among the packages")?;
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places = ["usr/lib", "lib"].map(|place| directory.join(place).join(&triple));
    // Programs of systemd share a library that is nobody else's.
    let places = places.iter().cloned().chain([places[0].join("systemd")]);
    let libraries = Vec::from_iter(places.map(|place| place.display().to_string()));
    // DT_RPATH, unlike DT_RUNPATH, also holds for the libraries of libraries.
    let mut patch = Command::new("patchelf");
    patch.arg("--set-interpreter").arg(own).arg("--force-rpath").arg("--set-rpath").arg(libraries.join(":"));
    invoke::quietly(patch.arg(program))
}

fn youki() -> Result<Option<Peer>> {
    let program = cache::directory()?.join("peers/youki/bin/youki");
    program.exists().then(|| Peer::at(program, "youki")).transpose()
}

/// Builds youki, which no distribution has; takes many minutes, and it may hang, so it is wrapped in timeout.
fn build_youki() -> Result<()> {
    cache::made("peers/youki", |directory| {
        println!("building youki, which takes some minutes");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut install = Command::new("timeout");
        install.arg("3600").arg(cargo).args(["install", "youki", "--locked", "--features", YOUKI_FEATURES]);
        invoke::quietly(install.arg("--root").arg(directory))
    })
    .map(|_| ())
}

impl Peer {
    fn at(program: PathBuf, runtime: &str) -> Result<Self> {
        let text = invoke::text(Command::new("timeout").arg("10").arg(&program).arg("--version"))?;
        let version =
            platform::version(&text).with_context(|| format!("read the version of {}", program.display()))?;
        Ok(Self { name: format!("{runtime} {version}"), program })
    }
}
