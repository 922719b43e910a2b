//! `cp`: files between a container and this machine, by docker's rules of what a path means.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bulkhead_engine::{Copied, CopyOwners, Files, Links, normal_path};
use bulkhead_sys::path::open_host;
use clap::Args;
use rustix::fs::OFlags;

use crate::failure::Failure;
use crate::home::Home;
use crate::image::archive::to_stdout;
use crate::output::escape;
use crate::output::quantity::decimal;
use crate::verbs::Operation;

/// Copy files between a container and this machine
#[derive(Args, Debug)]
#[command(
    override_usage = "bulkhead cp [OPTIONS] CONTAINER:PATH PATH|-\n       bulkhead cp [OPTIONS] PATH|- CONTAINER:PATH"
)]
pub(crate) struct Copy {
    /// Keep owners, by their numbers
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link leads to that is the source
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing of what was copied
    #[arg(short, long)]
    quiet: bool,
    /// A file or directory; - for an archive on the standard input. DIR/. is what is in DIR
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// Where to; - for an archive on the standard output
    #[arg(value_name = "TARGET")]
    target: OsString,
}

impl Operation for Copy {
    fn run(self, home: &Home) -> Result<ExitCode, Failure> {
        let Copy { archive, follow_link, quiet, source, target } = self;
        let owners = if archive { CopyOwners::Source } else { CopyOwners::Target };
        let links = if follow_link { Links::Followed } else { Links::Kept };
        let (from, to) = (Side::of(&source), Side::of(&target));
        for side in [&from, &to] {
            // A variable that is empty would else mean the whole root.
            if let Side::Container(name, path) = side
                && path.as_os_str().is_empty()
            {
                let failure = Failure::new(format!("{name}: names no path of the container"));
                return Err(failure.hint(format!("`{name}:/` is its root")));
            }
        }
        let engine = home.engine()?;
        let copied = match (from, to) {
            (Side::Container(name, path), to @ (Side::Local(_) | Side::Stream)) => {
                out(&engine.files(&name)?, &path, links, &to, owners)?
            }
            (from @ (Side::Local(_) | Side::Stream), Side::Container(name, path)) => {
                into(&engine.files(&name)?, &from, links, &path, owners)?
            }
            (Side::Container(..), Side::Container(..)) => {
                let failure = Failure::new("copying from one container to another is not there");
                return Err(failure.hint(
                    "copy to this machine, and from there: `bulkhead cp A:PATH - | bulkhead cp - B:DIR`",
                ));
            }
            _ => {
                let failure = Failure::new("neither path is a container's");
                return Err(failure.hint("write it as CONTAINER:PATH"));
            }
        };
        if !quiet {
            tell(&copied, &target);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Says what was copied to people, and what was not to everybody.
fn tell(copied: &Copied, target: &OsStr) {
    for (path, what) in &copied.left_out {
        eprintln!("left out: {}: {what}", escape::word(&path.to_string_lossy()));
    }
    if io::stdout().is_terminal() && target != "-" {
        let target = escape::word(&target.to_string_lossy());
        eprintln!("Successfully copied {} to {target}", decimal(copied.bytes));
    }
}

/// One of the two words of the command.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Container(String, PathBuf),
    Local(PathBuf),
    Stream,
}

impl Side {
    /// Reads `CONTAINER:PATH`, a path, or `-`. A path with a colon in it begins with `/` or `.`.
    fn of(word: &OsStr) -> Self {
        let bytes = word.as_bytes();
        if word == "-" {
            return Self::Stream;
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        match colon {
            Some(colon) if colon > 0 && !matches!(bytes[0], b'/' | b'.') => {
                let name = String::from_utf8_lossy(&bytes[..colon]).into_owned();
                Self::Container(name, PathBuf::from(OsStr::from_bytes(&bytes[colon + 1..])))
            }
            _ => Self::Local(PathBuf::from(word)),
        }
    }
}

/// Copies out of a container.
fn out(
    files: &Files<'_>,
    path: &Path,
    links: Links,
    to: &Side,
    owners: CopyOwners,
) -> Result<Copied, Failure> {
    let spot = files.find(path, links)?;
    if !spot.exists() {
        return Err(spot.missing().into());
    }
    let name = spot.asked_name().filter(|_| !means_contents(path));
    let source = Source { is_directory: spot.is_directory(), name };
    let Side::Local(target) = to else {
        let mut stdout = to_stdout()?;
        let copied = files.archive(&spot, &source.stored(), &mut stdout)?;
        stdout.flush()?;
        return Ok(copied);
    };
    let target = LocalTarget::find(target)?;
    let plan = plan(&source, target.kind, target.path.file_name(), &target.path.display().to_string())?;
    let directory = match plan.place {
        Place::Target => target.path.as_path(),
        Place::Above => above(&target.path),
    };
    Ok(files.copy_out(&spot, &plan.stored, open(directory)?.as_fd(), owners)?)
}

/// Copies into a container.
fn into(
    files: &Files<'_>,
    from: &Side,
    links: Links,
    path: &Path,
    owners: CopyOwners,
) -> Result<Copied, Failure> {
    // A link as target means what it leads to.
    let target = files.find(path, Links::Followed)?;
    let subject = target.subject();
    if target.is_special() {
        return Err(Failure::new(format!("{subject} is neither a directory nor a regular file")));
    }
    let Side::Local(source) = from else {
        if !target.is_directory() {
            return Err(Failure::new(format!(
                "{subject} is no directory, in which an archive could be unpacked"
            )));
        }
        if io::stdin().is_terminal() {
            let failure = Failure::new("the standard input is a terminal, and no archive");
            return Err(failure.hint("send an archive into it: `tar -c FILES | bulkhead cp - CONTAINER:DIR`"));
        }
        return Ok(files.extract(&target, io::stdin(), CopyOwners::Source)?);
    };
    let LocalSource { parent, name, source } = LocalSource::find(source, links)?;
    let kind = if target.is_directory() {
        Kind::Directory
    } else if target.exists() {
        Kind::Other
    } else if ends_as_directory(path) {
        Kind::MissingDirectory
    } else {
        Kind::Missing
    };
    let plan = plan(&source, kind, target.name(), &subject)?;
    let directory = match plan.place {
        Place::Target => target,
        Place::Above => files.above(&target)?,
    };
    Ok(files.copy_in((parent.as_fd(), &name), &directory, &plan.stored, owners)?)
}

/// What is copied.
#[derive(Debug, Clone)]
struct Source {
    is_directory: bool,
    /// What it is called; nothing for what is in a directory alone.
    name: Option<OsString>,
}

impl Source {
    fn stored(&self) -> OsString {
        self.name.clone().unwrap_or_else(|| OsString::from("."))
    }
}

/// What is where something is copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    /// A file.
    Other,
    Missing,
    /// Nothing, but its path ends as that of a directory.
    MissingDirectory,
}

/// Where an archive is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Target,
    /// The directory in which the target lies.
    Above,
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    place: Place,
    /// What the copy is called.
    stored: OsString,
}

/// Decides what a copy is called, and where: docker's rules (`docker cp --help`, "Extended description").
fn plan(source: &Source, target: Kind, name: Option<&OsStr>, told: &str) -> Result<Plan, Failure> {
    match target {
        Kind::Directory => Ok(Plan { place: Place::Target, stored: source.stored() }),
        Kind::Other if source.is_directory => {
            Err(Failure::new(format!("{told} is a file, and a directory cannot be copied onto it")))
        }
        Kind::MissingDirectory if !source.is_directory => {
            let failure = Failure::new(format!("{told}: there is no such directory"));
            Err(failure.hint("make it first, or leave the slash at the end out to name the file so"))
        }
        Kind::Other | Kind::Missing | Kind::MissingDirectory => {
            let stored = name.map_or_else(|| source.stored(), OsStr::to_owned);
            Ok(Plan { place: Place::Above, stored })
        }
    }
}

/// A file of this machine that is copied.
struct LocalSource {
    parent: OwnedFd,
    /// Its name there.
    name: OsString,
    source: Source,
}

impl LocalSource {
    fn find(path: &Path, links: Links) -> Result<Self, Failure> {
        let told = path.display();
        let absolute = std::path::absolute(path).map_err(Failure::doing(format!("find {told}")))?;
        let normal = normal_path(&absolute);
        let doing = || Failure::doing(format!("copy {told}"));
        if means_contents(path) || normal.file_name().is_none() {
            let source = Source { is_directory: true, name: None };
            return Ok(Self { parent: open(&normal)?, name: OsString::from("."), source });
        }
        let asked_name = normal.file_name().map(OsStr::to_owned);
        // A slash behind a link means the directory to which it leads, which is called as the link.
        let links = if ends_as_directory(path) { Links::Followed } else { links };
        let real = match links {
            Links::Followed => fs::canonicalize(&normal).map_err(doing())?,
            Links::Kept => normal,
        };
        let metadata = fs::symlink_metadata(&real).map_err(doing())?;
        if ends_as_directory(path) && !fs::metadata(&real).map_err(doing())?.is_dir() {
            return Err(Failure::new(format!("{told} is no directory")));
        }
        let name = real.file_name().map_or_else(|| OsString::from("."), OsStr::to_owned);
        let source = Source { is_directory: metadata.is_dir(), name: asked_name };
        Ok(Self { parent: open(above(&real))?, name, source })
    }
}

/// Where on this machine something is copied to.
struct LocalTarget {
    path: PathBuf,
    kind: Kind,
}

/// How many links a target may be one after the other, as in the kernel.
const LINKS: usize = 40;

impl LocalTarget {
    fn find(typed: &Path) -> Result<Self, Failure> {
        let told = typed.display();
        let mut path = std::path::absolute(typed).map_err(Failure::doing(format!("find {told}")))?;
        for _ in 0..LINKS {
            let metadata = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let kind = if ends_as_directory(typed) { Kind::MissingDirectory } else { Kind::Missing };
                    // What is above must be there.
                    if !fs::metadata(above(&path)).is_ok_and(|metadata| metadata.is_dir()) {
                        let failure = Failure::new(format!("{} is no directory", above(&path).display()));
                        return Err(failure.hint(format!("it must be there for {told} to lie in it")));
                    }
                    return Ok(Self { path, kind });
                }
                metadata => metadata.map_err(Failure::doing(format!("copy to {told}")))?,
            };
            if metadata.is_symlink() {
                let target = fs::read_link(&path).map_err(Failure::doing(format!("read the link {told}")))?;
                path = above(&path).join(target);
                continue;
            }
            if metadata.is_dir() {
                return Ok(Self { path, kind: Kind::Directory });
            }
            if !metadata.is_file() {
                return Err(Failure::new(format!("{told} is neither a directory nor a regular file")));
            }
            return Ok(Self { path, kind: Kind::Other });
        }
        Err(Failure::new(format!("{told} is a link that leads to itself")))
    }
}

fn open(directory: &Path) -> Result<OwnedFd, Failure> {
    open_host(directory, OFlags::PATH | OFlags::DIRECTORY)
        .map_err(|error| Failure::new(format!("open {}: {}", directory.display(), error.text())))
}

fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// Tells whether a path is that of what is in a directory: `DIR/.`
fn means_contents(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

/// Tells whether a path can only be that of a directory.
fn ends_as_directory(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/") || means_contents(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_container_s_path_or_one_of_this_machine() {
        let container = |name: &str, path: &str| Side::Container(name.into(), path.into());
        for (word, expected) in [
            ("web:/etc", container("web", "/etc")),
            ("web:", container("web", "")),
            ("web:a:b", container("web", "a:b")),
            ("./web:/etc", Side::Local("./web:/etc".into())),
            ("/web:/etc", Side::Local("/web:/etc".into())),
            (":/etc", Side::Local(":/etc".into())),
            ("web", Side::Local("web".into())),
            ("-", Side::Stream),
        ] {
            assert_eq!(Side::of(OsStr::new(word)), expected, "{word}");
        }
    }

    #[test]
    fn names_and_places_are_docker_s() {
        let file = Source { is_directory: false, name: Some("src".into()) };
        let directory = Source { is_directory: true, name: Some("src".into()) };
        let contents = Source { is_directory: true, name: None };
        let (target, above) = (Place::Target, Place::Above);
        for (source, kind, expected) in [
            (&file, Kind::Missing, Ok((above, "dst"))),
            (&file, Kind::MissingDirectory, Err("no such directory")),
            (&file, Kind::Other, Ok((above, "dst"))),
            (&file, Kind::Directory, Ok((target, "src"))),
            (&directory, Kind::Missing, Ok((above, "dst"))),
            (&directory, Kind::MissingDirectory, Ok((above, "dst"))),
            (&directory, Kind::Other, Err("is a file")),
            (&directory, Kind::Directory, Ok((target, "src"))),
            (&contents, Kind::Missing, Ok((above, "dst"))),
            (&contents, Kind::Other, Err("is a file")),
            (&contents, Kind::Directory, Ok((target, "."))),
        ] {
            match (plan(source, kind, Some(OsStr::new("dst")), "/dst"), expected) {
                (Ok(plan), Ok((place, stored))) => {
                    assert_eq!(plan, Plan { place, stored: stored.into() }, "{source:?} to {kind:?}");
                }
                (Err(Failure::Failed { text, .. }), Err(words)) => assert!(text.contains(words), "{text}"),
                (plan, expected) => panic!("{source:?} to {kind:?}: {plan:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn the_end_of_a_path_has_a_meaning() {
        for (path, contents, directory) in [
            ("a", false, false),
            ("a/", false, true),
            ("a/.", true, true),
            (".", true, true),
            ("a.", false, false),
        ] {
            assert_eq!(
                (means_contents(Path::new(path)), ends_as_directory(Path::new(path))),
                (contents, directory),
                "{path}"
            );
        }
    }
}
