//! Debian packages: those that tests need are installed; those that would start a daemon, or that come from a
//! later release than the machine's, are only unpacked.
//!
//! No address is written down: it is taken from the machine's own apt configuration.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache, invoke};

/// The archive that this machine's own release comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// Base address, as apt has it.
    pub(crate) address: String,
    /// Code name of the release, such as `bookworm`.
    pub(crate) release: String,
    /// Such as `main`, and on Ubuntu `universe`.
    pub(crate) components: Vec<String>,
    distribution: Distribution,
}

/// The families of releases that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distribution {
    Debian,
    Ubuntu,
}

impl Distribution {
    /// The suite that always has the newest packages.
    fn newest(self) -> &'static str {
        match self {
            Self::Debian => "sid",
            Self::Ubuntu => "devel",
        }
    }

    fn keyring(self) -> &'static Path {
        Path::new(match self {
            Self::Debian => "/usr/share/keyrings/debian-archive-keyring.gpg",
            Self::Ubuntu => "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
        })
    }
}

impl Archive {
    /// Finds it by asking apt for its index targets.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let system = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
        let mut ask = Command::new("apt-get");
        ask.args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]);
        Self::find(&system, &invoke::text(&mut ask)?)
    }

    /// `targets` has lines of address, release and component; the release is the one `os_release` names.
    fn find(os_release: &str, targets: &str) -> Result<Self> {
        let system = assignments(os_release);
        let field = |name| system.get(name).map_or("", String::as_str);
        let distribution = match field("ID") {
            "debian" => Distribution::Debian,
            "ubuntu" => Distribution::Ubuntu,
            other => bail!("{other} is neither Debian nor Ubuntu"),
        };
        let targets = targets.lines().map(|line| Vec::from_iter(line.split_whitespace()));
        let targets = Vec::from_iter(targets.filter(|fields| fields.len() == 3));
        let release = field("VERSION_CODENAME");
        let own = |fields: &&Vec<&str>| fields[1] == release;
        let first = targets.iter().find(own);
        let address = first.with_context(|| format!("find {release} in apt's configuration"))?[0];
        let same = targets.iter().filter(own).filter(|fields| fields[0] == address);
        let components = same.map(|fields| fields[2].to_owned()).collect();
        Ok(Self { address: address.to_owned(), release: release.to_owned(), components, distribution })
    }

    /// True when Debian, and not one of its descendants, made it.
    pub(crate) fn is_debian(&self) -> bool {
        self.distribution == Distribution::Debian
    }

    /// The same archive's suite with the newest packages.
    pub(crate) fn newest(&self) -> Self {
        Self { release: self.distribution.newest().to_owned(), ..self.clone() }
    }

    /// The same archive's last release that is finished; Ubuntu's names none, so it is this machine's own.
    pub(crate) fn stable(&self) -> Self {
        let release = match self.distribution {
            Distribution::Debian => "stable".to_owned(),
            Distribution::Ubuntu => self.release.clone(),
        };
        Self { release, ..self.clone() }
    }

    /// Debian 11 of the same archive, if that still has it.
    pub(crate) fn debian_11(&self) -> Self {
        Self { release: "bullseye".to_owned(), ..self.clone() }
    }

    /// Downloads `packages` of this release and all they depend on into the cache, without installing any.
    ///
    /// apt checks every file against the signed index. Its state and its configuration are private: it neither
    /// sees what is installed nor changes the machine.
    pub(crate) fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        // Two at once would lock each other out.
        let _lock = cache::lock(&format!("apt-{}", self.release))?;
        let state = cache::directory()?.join("apt").join(&self.release);
        let archives = state.join("archives");
        for directory in [state.join("lists/partial"), archives.join("partial")] {
            fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        }
        fs::write(state.join("status"), "").context("write apt's private status")?;
        let sources = self.source_line("deb");
        fs::write(state.join("sources.list"), sources).context("write apt's private sources")?;
        cache::remove(&archives)?;
        fs::create_dir_all(archives.join("partial")).context("make apt's private archive")?;
        invoke::quietly(private(&state).arg("update"))?;
        let mut install = private(&state);
        install.args(["install", "--yes", "--no-install-recommends", "--download-only"]).args(packages);
        invoke::quietly(&mut install)?;
        let files = archives.read_dir()?.map(|entry| entry.map(|entry| entry.path()));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        Ok(Vec::from_iter(
            files.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "deb")),
        ))
    }

    /// Unpacks the source of a package, with Debian's patches, as the directory `place`, and returns its version.
    ///
    /// The newest suite is asked first. Its sources may be gone from a mirror that still lists them, and then this
    /// release is asked. apt checks the files against the signed index.
    pub(crate) fn source(&self, package: &str, place: &Path) -> Result<String> {
        let _lock = cache::lock("apt-source")?;
        let newest = self.newest().source_of_release(package, place);
        newest.or_else(|error| {
            println!("no source of {package} from {}: {error:#}", self.newest().release);
            self.source_of_release(package, place)
        })
    }

    /// Unpacks what the authors of a package have published, without Debian's patches, as the directory `place`, and
    /// returns its version: of the newest suite whose source the mirror has.
    pub(crate) fn upstream(&self, package: &str, place: &Path) -> Result<String> {
        let _lock = cache::lock("apt-source")?;
        for archive in [self.newest(), self.stable(), self.clone()] {
            match archive.tarball(package, place) {
                Ok(version) => return Ok(version),
                Err(error) => println!("no source of {package} from {}: {error:#}", archive.release),
            }
        }
        bail!("the mirror has no source of {package}")
    }

    fn tarball(&self, package: &str, place: &Path) -> Result<String> {
        let files = self.source_files(package, &["--tar-only"])?;
        let names = files.read_dir()?.flatten().map(|entry| entry.path());
        let find = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.to_owned();
            let version =
                name.strip_prefix(package)?.strip_prefix('_')?.split_once(".orig.tar.")?.0.to_owned();
            Some((path, version))
        };
        let (file, version) = names.filter_map(find).next().with_context(|| format!("find {package}"))?;
        fs::create_dir_all(place).with_context(|| format!("make {}", place.display()))?;
        let mut unpack = Command::new("tar");
        unpack.args(["--extract", "--strip-components=1", "--no-same-owner"]);
        invoke::quietly(unpack.arg("--directory").arg(place).arg("--file").arg(file))?;
        Ok(version)
    }

    fn source_of_release(&self, package: &str, place: &Path) -> Result<String> {
        let files = self.source_files(package, &[])?;
        let description = files.read_dir()?.flatten().map(|entry| entry.path());
        let mut description = description.filter(|file| file.extension().is_some_and(|kind| kind == "dsc"));
        let description = description.next().with_context(|| format!("find the description of {package}"))?;
        let parent = place.parent().context("find where to unpack")?;
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        // What it would check once more is a key that only its maintainers have at hand.
        let mut unpack = Command::new("dpkg-source");
        invoke::quietly(unpack.args(["--no-check", "--extract"]).arg(&description).arg(place))?;
        let text = fs::read_to_string(&description).context("read the source's description")?;
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        Ok(version.context("find the source's version")?.to_owned())
    }

    /// Downloads the source of a package of this release into a directory of its own, which is returned.
    fn source_files(&self, package: &str, which: &[&str]) -> Result<PathBuf> {
        let state = cache::directory()?.join("apt").join(format!("{}-source", self.release));
        let files = state.join("sources");
        for directory in [state.join("lists/partial"), state.join("archives/partial")] {
            fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        }
        cache::remove(&files)?;
        fs::create_dir(&files).with_context(|| format!("make {}", files.display()))?;
        fs::write(state.join("status"), "").context("write apt's private status")?;
        let sources = self.source_line("deb-src");
        fs::write(state.join("sources.list"), sources).context("write apt's private sources")?;
        invoke::quietly(private(&state).arg("update"))?;
        let mut fetch = private(&state);
        fetch.current_dir(&files).args(["source", "--download-only"]).args(which).arg(package);
        invoke::quietly(&mut fetch)?;
        Ok(files)
    }

    fn source_line(&self, kind: &str) -> String {
        let keyring = self.distribution.keyring();
        let signed = match keyring.exists() {
            true => format!("[signed-by={}] ", keyring.display()),
            false => String::new(),
        };
        format!("{kind} {signed}{} {} {}\n", self.address, self.release, self.components.join(" "))
    }
}

/// An apt-get that keeps everything below `state`.
fn private(state: &Path) -> Command {
    let mut command = Command::new("apt-get");
    for (option, value) in [
        ("Dir::State", state.to_owned()),
        ("Dir::State::Lists", state.join("lists")),
        ("Dir::State::status", state.join("status")),
        ("Dir::Etc::SourceList", state.join("sources.list")),
        ("Dir::Etc::SourceParts", "/dev/null".into()),
        ("Dir::Etc::Preferences", "/dev/null".into()),
        ("Dir::Etc::PreferencesParts", "/dev/null".into()),
        ("Dir::Cache", state.to_owned()),
        ("Dir::Cache::Archives", state.join("archives")),
        ("APT::Sandbox::User", "root".into()),
        ("Acquire::Languages", "none".into()),
        ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".into()),
    ] {
        command.arg("-o").arg(format!("{option}={}", value.display()));
    }
    command
}

/// Unpacks packages below `root`, without running anything of theirs.
pub(crate) fn unpack(packages: &[PathBuf], root: &Path) -> Result<()> {
    packages
        .iter()
        .try_for_each(|package| invoke::quietly(Command::new("dpkg").arg("-x").arg(package).arg(root)))
}

/// Which of `packages` are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    ensure!(invoke::in_path("dpkg-query"), "dpkg-query is missing: this is neither Debian nor Ubuntu");
    let mut ask = Command::new("dpkg-query");
    ask.args(["--show", "--showformat", "${Package} ${db:Status-Status}\\n"]);
    let installed = invoke::text(&mut ask)?;
    let installed = Vec::from_iter(installed.lines().filter_map(|line| line.strip_suffix(" installed")));
    Ok(Vec::from_iter(packages.iter().copied().filter(|package| !installed.contains(package))))
}

/// Installs packages; only for root.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
        command
    };
    invoke::quietly(apt().arg("update"))?;
    invoke::quietly(apt().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

/// `NAME=value` lines of a shell, quotes removed.
fn assignments(text: &str) -> BTreeMap<&str, String> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name, value.trim_matches(['"', '\'']).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
http://other.example/apt nodistro main
http://debian.example/debian/ bookworm main
http://debian.example/debian/ bookworm contrib
http://debian.example/debian/ bookworm-updates main
http://debian.example/security/ bookworm-security main
";

    #[test]
    fn the_archive_is_the_one_of_the_machines_release() {
        let archive = Archive::find("ID=debian\nVERSION_CODENAME=bookworm\n", TARGETS).unwrap();
        assert_eq!(
            (archive.address.as_str(), archive.release.as_str()),
            ("http://debian.example/debian/", "bookworm")
        );
        assert_eq!(archive.components, ["main", "contrib"]);
        let newest = archive.newest();
        assert_eq!((newest.address, newest.release.as_str()), (archive.address, "sid"));
    }

    #[test]
    fn ubuntu_quotes_its_name() {
        let targets = "http://ubuntu.example/ubuntu/ noble main\n";
        let archive = Archive::find("ID=\"ubuntu\"\nVERSION_CODENAME=noble\n", targets).unwrap();
        assert_eq!(archive.newest().release, "devel");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = |system| Archive::find(system, TARGETS).unwrap_err().to_string();
        assert_eq!(error("ID=fedora\n"), "fedora is neither Debian nor Ubuntu");
        assert_eq!(error("ID=debian\nVERSION_CODENAME=duke\n"), "find duke in apt's configuration");
    }
}
