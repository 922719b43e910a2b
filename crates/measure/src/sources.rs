//! Where the kernel's functions stand in its sources: the map that puts a footprint into directories.
//!
//! A journal names functions, and the tree of the same version says where functions are defined, so that the map can be made
//! at any time after the measurement, also for a guest's kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing as _, Error};
use crate::record::{Finding, Journal, Line, Places};
use crate::results::Results;

pub mod scan;

use self::scan::{Wanted, definitions};

/// Directories without code of the kernel itself.
const APART: &[&str] = &["Documentation", "LICENSES", "arch", "debian", "samples", "scripts", "tools", "usr"];

/// Architectures by Rust's names, and their directories.
const ARCHITECTURES: &[(&str, &str)] = &[("x86_64", "x86"), ("aarch64", "arm64"), ("riscv64", "riscv")];

/// How functions begin that a macro of a file makes, and that file.
const GENERATED: &[(&str, &str)] = &[("bpf_lsm_", "kernel/bpf/bpf_lsm.c")];

/// A tree of the kernel's sources.
#[derive(Clone, Debug)]
pub struct Tree {
    directory: PathBuf,
    version: Version,
}

/// The first three numbers of a kernel's version. The third one is 0 in the releases of some distributions, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version(u32, u32, u32);

/// Where one function is defined, and how well that is known: files of code outrank headers.
#[derive(Debug, Default)]
struct Found {
    code: BTreeSet<String>,
    headers: BTreeSet<String>,
}

impl Tree {
    /// Looks whether `directory` is one.
    ///
    /// # Errors
    /// When it is not, or cannot be read.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let makefile = directory.join("Makefile");
        let text = fs::read_to_string(&makefile).doing(|| format!("read {}", makefile.display()))?;
        let version = Version::of_makefile(&text).filter(|_| directory.join("kernel/fork.c").is_file());
        let version = version.ok_or_else(|| {
            let what = format!(
                "{} holds no sources of a kernel; it must have Makefile and kernel/fork.c",
                directory.display()
            );
            Error::Unusable(what)
        })?;
        Ok(Self { directory: directory.to_owned(), version })
    }

    /// Puts the functions that the journal in `out` names into directories, and notes that there. A journal without functions,
    /// and one that has been put into the same, stays as it is. Tells how many of how many were found.
    ///
    /// # Errors
    /// When the tree is of another version than the kernel that was watched, or something cannot be read or written.
    pub fn place(&self, results: &Results, out: &Path) -> Result<Option<(usize, usize)>, Error> {
        self.fits(results.run.environment.get("kernel").map_or("", String::as_str))?;
        let findings = results.turns.iter().flat_map(|turn| &turn.findings);
        let symbols = findings.filter_map(|finding| match finding {
            Finding::Symbols { symbols } => Some(symbols),
            _ => None,
        });
        let near: BTreeMap<&str, &str> =
            symbols.flatten().map(|(name, symbol)| (name.as_str(), symbol.subsystem.as_str())).collect();
        if near.is_empty() {
            return Ok(None);
        }
        let architecture = results.run.environment.get("architecture").map_or("", String::as_str);
        let places = self.find(&near, architecture)?;
        let told = (places.len(), near.len());
        let source = format!("sources of Linux {}", self.version.text());
        let line = Places { source, places };
        if results.places.as_ref() != Some(&line) {
            Journal::open(out)?.add(&Line::Places(line))?;
        }
        Ok(Some(told))
    }

    /// Whether a kernel of this release is made of such sources.
    ///
    /// # Errors
    /// When it is of another version.
    pub fn fits(&self, release: &str) -> Result<(), Error> {
        let Version(major, minor, _) = self.version;
        match Version::of_release(release) {
            Some(Version(other, least, _)) if (other, least) == (major, minor) => Ok(()),
            _ => Err(Error::Unusable(format!(
                "{} holds the sources of Linux {}, and what was watched is {release}: functions move between versions, so it \
                 takes the sources of that one",
                self.directory.display(),
                self.version.text()
            ))),
        }
    }

    /// The directories of the functions in `near`, which says what is known of each already. Those with a name that several
    /// directories define, and nothing to tell which it is, are left out.
    fn find(
        &self,
        near: &BTreeMap<&str, &str>,
        architecture: &str,
    ) -> Result<BTreeMap<String, String>, Error> {
        let wanted = Wanted::of(near.keys().copied());
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        let own = ARCHITECTURES
            .iter()
            .find(|(name, _)| *name == architecture)
            .map(|(_, own)| Path::new("arch").join(own));
        let mut left = vec![PathBuf::new()];
        left.extend(own);
        while let Some(place) = left.pop() {
            let directory = self.directory.join(&place);
            let entries = fs::read_dir(&directory).doing(|| format!("read {}", directory.display()))?;
            for entry in entries {
                let entry = entry.doing(|| format!("read {}", directory.display()))?;
                let kind = entry.file_type().doing(|| format!("look at {}", entry.path().display()))?;
                let name = entry.file_name();
                let path = place.join(&name);
                // A link leads to what is found at its own place.
                if kind.is_dir()
                    && !(place.as_os_str().is_empty() && APART.iter().any(|apart| name == *apart))
                {
                    left.push(path);
                } else if kind.is_file() {
                    self.look(&path, &wanted, &mut found)?;
                }
            }
        }
        let known = near.iter().filter_map(|(name, near)| {
            let place = found.get(scan::plain(name)).map(|found| found.decide(near));
            Some(((*name).to_owned(), place.unwrap_or_else(|| self.generated(name))?))
        });
        Ok(known.collect())
    }

    /// The directory of the file that makes functions of such names.
    fn generated(&self, name: &str) -> Option<String> {
        let (_, file) = GENERATED.iter().find(|(begin, _)| name.starts_with(begin))?;
        self.directory.join(file).is_file().then(|| subsystem(Path::new(file)))
    }

    fn look(&self, path: &Path, wanted: &Wanted, found: &mut BTreeMap<String, Found>) -> Result<(), Error> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !matches!(ending, "c" | "h" | "S") {
            return Ok(());
        }
        let file = self.directory.join(path);
        let text = fs::read(&file).doing(|| format!("read {}", file.display()))?;
        let subsystem = subsystem(path);
        for name in definitions(&String::from_utf8_lossy(&text), wanted) {
            let place = found.entry(name).or_default();
            let places = if ending == "h" { &mut place.headers } else { &mut place.code };
            places.insert(subsystem.clone());
        }
        Ok(())
    }
}

impl Found {
    /// The directory, if it is clear; `near` is a directory above it, or a module, in case of doubt.
    fn decide(&self, near: &str) -> Option<String> {
        let places = if self.code.is_empty() { &self.headers } else { &self.code };
        let is_near = |place: &&String| place.split('/').any(|part| part == near);
        let mut clear = places.iter();
        let mut nearest = places.iter().filter(is_near);
        match (clear.next(), clear.next(), nearest.next(), nearest.next()) {
            (Some(place), None, ..) | (_, _, Some(place), None) => Some(place.clone()),
            _ => None,
        }
    }
}

/// A file's part of the kernel: its directory, of which two names count.
fn subsystem(path: &Path) -> String {
    let parent = path.parent().unwrap_or(Path::new(""));
    let names = Vec::from_iter(parent.iter().take(2).map(|name| name.to_string_lossy()));
    names.join("/")
}

impl Version {
    fn of_makefile(text: &str) -> Option<Self> {
        let number = |name: &str| {
            let mut values =
                text.lines().filter_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
            values.next()?.trim().parse().ok()
        };
        Some(Self(number("VERSION")?, number("PATCHLEVEL")?, number("SUBLEVEL")?))
    }

    fn of_release(release: &str) -> Option<Self> {
        let mut numbers =
            release.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }

    fn text(self) -> String {
        format!("{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::record::{Run, Symbol, Turn, VERSION, read};

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let place = std::env::temp_dir().join(format!("bh-sources-{name}-{}", std::process::id()));
            fs::create_dir(&place).unwrap();
            Self(place)
        }

        fn write(&self, path: &str, text: &str) {
            let file = self.0.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }

        /// Few files with what names can be in doubt about.
        fn tree() -> Self {
            let place = Self::new("tree");
            place.write("Makefile", "# SPDX\nVERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 192\nEXTRAVERSION =\n");
            place.write(
                "kernel/fork.c",
                "pid_t kernel_clone(struct args *a)\n{\n}\nstatic int helper(void)\n{\n}\n",
            );
            place.write("fs/namei.c", "int vfs_open(void)\n{\n}\n");
            place.write("fs/ext4/file.c", "static int helper(void)\n{\n}\nstatic int init(void)\n{\n}\n");
            place.write("net/ipv4/tcp/deep.c", "static int init(void)\n{\n}\nint tcp_push(void)\n{\n}\n");
            place.write(
                "include/linux/fs.h",
                "static inline int vfs_open(void)\n{\n}\nstatic inline int hint(void)\n{\n}\n",
            );
            place.write("arch/x86/entry/entry_64.S", "SYM_CODE_START(entry_SYSCALL_64)\n");
            place.write("arch/arm/other.c", "int tcp_push(void)\n{\n}\n");
            place.write("kernel/bpf/bpf_lsm.c", "#define LSM_HOOK(NAME) bpf_lsm_##NAME\n");
            place.write("tools/x.c", "int kernel_clone(void)\n{\n}\n");
            place
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn results(release: &str, symbols: &[(&str, &str)]) -> Results {
        let symbols = symbols.iter().map(|(name, subsystem)| {
            ((*name).to_owned(), Symbol { subsystem: (*subsystem).to_owned(), bytes: 8 })
        });
        let turn = Turn {
            task: "kernel entered".to_owned(),
            platform: "bare".to_owned(),
            block: 0,
            began: None,
            seconds: 1.0,
            disturbance: None,
            noise: None,
            findings: vec![Finding::Symbols { symbols: symbols.collect() }],
        };
        let environment = [("kernel", release), ("architecture", "x86_64")];
        let environment = environment.map(|(fact, value)| (fact.to_owned(), value.to_owned())).into();
        let plan = Plan { platforms: Vec::new(), tasks: Vec::new(), seed: 1 };
        let run = Run { version: VERSION, plan, environment, platforms: Vec::new() };
        Results { turns: vec![turn], ..Results::begun(run) }
    }

    #[test]
    fn functions_are_put_into_directories() {
        let (place, out) = (Place::tree(), Place::new("out"));
        let symbols = [
            ("kernel_clone", "kernel"),
            ("vfs_open", "fs"),
            ("tcp_push.isra.0", "net"),
            ("hint", "text"),
            ("entry_SYSCALL_64", "entry"),
            ("helper", "kernel"),
            ("helper#2", "ext4"),
            ("init", "text"),
            ("nowhere", "fs"),
            ("bpf_lsm_capable", "kernel"),
        ];
        let tree = Tree::open(&place.0).unwrap();
        let results = results("6.1.0-50-cloud-amd64", &symbols);
        out.write("journal.jsonl.gz", "");
        let said = tree.place(&results, &out.0).unwrap_err().to_string();
        assert!(said.contains("gzip --decompress"), "{said}");
        out.write(Journal::NAME, "");
        assert_eq!(tree.place(&results, &out.0).unwrap(), Some((8, 10)));
        let Some(Line::Places(told)) = read(&out.0).unwrap().pop() else { panic!("nothing was noted") };
        assert_eq!(told.source, "sources of Linux 6.1.192");
        let expected = [
            ("bpf_lsm_capable", "kernel/bpf"),
            ("entry_SYSCALL_64", "arch/x86"),
            ("helper", "kernel"),
            ("helper#2", "fs/ext4"),
            ("hint", "include/linux"),
            ("kernel_clone", "kernel"),
            ("tcp_push.isra.0", "net/ipv4"),
            ("vfs_open", "fs"),
        ];
        assert_eq!(told.places, expected.map(|(name, place)| (name.to_owned(), place.to_owned())).into());
        let again = Results { places: Some(told), ..results };
        tree.place(&again, &out.0).unwrap();
        assert_eq!(read(&out.0).unwrap().len(), 1, "the same was noted again");
    }

    #[test]
    fn sources_of_another_version_are_refused() {
        let place = Place::tree();
        let tree = Tree::open(&place.0).unwrap();
        assert!(tree.fits("6.1.176").is_ok());
        for release in ["6.10.1", "6.18.44-fc", "5.1", ""] {
            let said = tree.fits(release).unwrap_err().to_string();
            assert!(said.contains("the sources of Linux 6.1.192, and what was watched is"), "{said}");
        }
        let said = Tree::open(&place.0.join("kernel")).unwrap_err().to_string();
        assert!(said.contains("kernel/Makefile"), "{said}");
        place.write("fs/Makefile", "obj-y := namei.o\n");
        let said = Tree::open(&place.0.join("fs")).unwrap_err().to_string();
        assert!(said.contains("holds no sources of a kernel"), "{said}");
    }
}
