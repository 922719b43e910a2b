//! A measurement in a guest, for what this machine's kernel refuses: QEMU without KVM, a stock kernel, and nothing else.
//!
//! ```text
//!   host                                             guest
//!   closure  programs with what they need ┐
//!   archive  one initramfs                ┴────────► init: this program as process 1, in memory
//!   run      starts QEMU, listens                    the same `measure run` as on any machine
//!   journal  ◄────────────────────────────────────── its journal, line by line, on a disk that is a file here
//! ```
//!
//! The report is made here, from the journal. One processor is emulated, since switching the function tracer on stops a
//! guest with two for good.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::claim::{self, Claim};
use crate::closure;
use crate::error::{Doing as _, Error};
use crate::guard::Guard;
use crate::interrupt;
use crate::platform::Platform;
use crate::platform::find;
use crate::record::{End, Journal, Line};

mod archive;
mod init;

pub(crate) use self::closure::loader;
pub use init::{is_guest, is_inside, live};

use self::archive::Archive;

/// Begins the name of the directory of a guest.
pub(crate) const PREFIX: &str = "bh-guest-";

/// The kernel's file in the directory that `--in-guest` names.
const KERNEL: &str = "vmlinuz";

/// Where the project's own command keeps what guests need, below the cache.
const CACHED_KERNEL: &str = "vm/kernel-release";
const CACHED_EMULATOR: &str = "vm/emulator";

/// The emulator, below the directory of the cache, with its own loader and libraries.
const EMULATOR: &str = "qemu-system-x86_64";
const LOADER: &str = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const DATA: &[&str] = &["usr/share/seabios", "usr/share/qemu"];

/// One processor, and memory for the programs, what they need and the tracer's buffers.
const HARDWARE: &[&str] = &[
    "-machine",
    "pc",
    "-accel",
    "tcg",
    "-cpu",
    "max,la57=off",
    "-smp",
    "1",
    "-m",
    "3072",
    "-nodefaults",
    "-display",
    "none",
    "-no-reboot",
];

/// Off after a panic; mitigations and random addresses tell nothing in an emulated machine.
const KERNEL_WORDS: &str =
    "console=ttyS0 panic=-1 quiet loglevel=4 no_timer_check tsc=reliable mitigations=off nokaslr audit=0";

/// What a guest is, for its journal.
pub(crate) const MACHINE: &str = "emulated by QEMU without KVM, one processor, files in memory";

/// What stands in front of the compressed kernel, at most, bytes.
const SETUP: u64 = 64 << 10;

/// Room for a journal; the file takes only what is written.
const JOURNAL: u64 = 1 << 30;

/// Programs that this one calls.
const TOOLS: &[&str] = &["chroot", "timeout"];

/// A guest that says nothing for so long has hung: one turn under the tracer takes minutes where others work, too.
const SILENCE: Duration = Duration::from_secs(1200);

const POLL: Duration = Duration::from_millis(50);

/// What is to be measured in a guest.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The directory with the kernel; None for the one in the cache.
    pub kernel: Option<&'a Path>,
    /// All of them; bare needs nothing.
    pub platforms: &'a [Platform],
    /// The static program bulkload.
    pub workload: &'a Path,
    /// Options of `measure run` but for platforms, workload and directory, which are the guest's own.
    pub options: &'a [String],
    /// The program that removes what this one leaves when it is killed ([`keep`](crate::guard::keep)).
    pub guard: Option<&'a Path>,
}

/// Does what `order` says, and adds what the guest finds to the journal in `out`; `hear` is told each line.
///
/// An interruption ends the guest and keeps what was measured.
///
/// # Errors
/// When no guest can be made, when it ends before its work, or at an interruption.
pub fn run(order: &Order<'_>, out: &Path, hear: &mut dyn FnMut(&Line)) -> Result<(), Error> {
    let place = std::env::temp_dir();
    for abandoned in claim::abandoned(&place, PREFIX)? {
        let path = abandoned.path();
        fs::remove_dir_all(path).doing(|| format!("remove {}", path.display()))?;
    }
    interrupt::watch()?;
    let claim = Claim::make(&place, PREFIX)?;
    let guard = order.guard.map(|program| Guard::post(program, claim.path())).transpose()?;
    let room = Room { claim, _guard: guard };
    let kernel = kernel(order.kernel)?;
    let (mut journal, earlier) = begin(out)?;
    pack(order, &earlier, &room.file("initramfs"))?;
    let disk = room.file("journal");
    File::create(&disk)
        .and_then(|file| file.set_len(JOURNAL))
        .doing(|| format!("make {}", disk.display()))?;
    let mut guest = Guest::boot(&kernel, &room)?;
    let mut said =
        Said { file: File::open(&disk).doing(|| format!("open {}", disk.display()))?, rest: Vec::new() };
    let mut ended = None;
    let mut last = Instant::now();
    loop {
        if let Err(interrupted) = interrupt::check() {
            journal.add(&Line::End(End::Interrupted))?;
            return Err(interrupted.into());
        }
        // In this order: what it wrote before it ended is read.
        let is_over = guest.is_over()?;
        for line in said.lines()? {
            last = Instant::now();
            ended = matches!(line, Line::End(_)).then_some(()).or(ended);
            journal.add(&line)?;
            hear(&line);
        }
        match (is_over, ended) {
            (true, Some(())) => return Ok(()),
            (true, None) => {
                let what = format!("the guest ended before its work:\n{}", room.last_words());
                return Err(Error::Unusable(what));
            }
            (false, _) if last.elapsed() > SILENCE => {
                let what = format!("the guest said nothing for too long:\n{}", room.last_words());
                return Err(Error::Unusable(what));
            }
            (false, _) => std::thread::sleep(POLL),
        }
    }
}

/// The journal in `out`, which nobody else writes from now on, and what it holds already: whole lines, since the guest counts
/// what it hands over from their end.
fn begin(out: &Path) -> Result<(Journal, Vec<u8>), Error> {
    let journal = Journal::open(out)?;
    let path = out.join(Journal::NAME);
    let earlier = fs::read(&path).doing(|| format!("read {}", path.display()))?;
    Ok((journal, earlier))
}

/// The directory of one guest, removed in the end.
struct Room {
    claim: Claim,
    /// Goes last: it waits for the claim.
    _guard: Option<Guard>,
}

impl Room {
    fn file(&self, name: &str) -> PathBuf {
        self.claim.path().join(name)
    }

    /// The last that the machine and its emulator said.
    fn last_words(&self) -> String {
        let text = ["emulator", "console"].map(|name| fs::read(self.file(name)).unwrap_or_default()).concat();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let lines = Vec::from_iter(text.lines().filter(|line| !line.trim().is_empty()));
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(self.claim.path()) {
            eprintln!("could not remove {}: {error}", self.claim.path().display());
        }
    }
}

/// A guest that runs; ended when dropped, and by the kernel when this program ends in whatever way.
struct Guest(Child);

impl Guest {
    fn boot(kernel: &Path, room: &Room) -> Result<Self, Error> {
        let mut command = emulator()?;
        command.args(HARDWARE).arg("-kernel").arg(kernel).arg("-initrd").arg(room.file("initramfs"));
        command.args(["-append", KERNEL_WORDS]);
        command.arg("-drive");
        command.arg(format!("if=none,id=journal,format=raw,file={}", room.file("journal").display()));
        command.args([
            "-device",
            "nvme,id=disks,serial=disks",
            "-device",
            "nvme-ns,drive=journal,bus=disks,nsid=1",
        ]);
        command.arg("-serial").arg(format!("file:{}", room.file("console").display()));
        let complaints = File::create(room.file("emulator")).doing(|| "make a file".to_owned())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
        command.spawn().doing(|| "start the emulator by setpriv".to_owned()).map(Self)
    }

    fn is_over(&mut self) -> Result<bool, Error> {
        self.0.try_wait().doing(|| "wait for the emulator".to_owned()).map(|status| status.is_some())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It is gone already when all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the guest wrote on the disk.
struct Said {
    file: File,
    rest: Vec<u8>,
}

impl Said {
    /// The lines that are whole since the last time; what was not written yet is zeroes.
    fn lines(&mut self) -> Result<Vec<Line>, Error> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = self.file.read(&mut buffer).doing(|| "read what the guest wrote".to_owned())?;
            let written = buffer[..read].iter().position(|byte| *byte == 0).unwrap_or(read);
            self.rest.extend(&buffer[..written]);
            if written < read {
                // The next look begins where the writing will go on.
                use std::io::Seek as _;
                let back = i64::try_from(read - written).unwrap_or_default();
                self.file.seek_relative(-back).doing(|| "read what the guest wrote".to_owned())?;
            }
            if written < buffer.len() {
                break;
            }
        }
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = Vec::from_iter(self.rest.drain(..whole));
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(|line| serde_json::from_slice(line).map_err(std::io::Error::from));
        lines.collect::<Result<_, _>>().doing(|| "understand what the guest wrote".to_owned())
    }
}

/// Puts everything into an initramfs that the guest needs.
fn pack(order: &Order<'_>, earlier: &[u8], file: &Path) -> Result<(), Error> {
    let own = std::env::current_exe().doing(|| "find this program".to_owned())?;
    let mut archive = Archive::create(file)?;
    archive.node("/dev/console", 5, 1)?;
    archive.node("/dev/null", 1, 3)?;
    archive.copy(Path::new("/init"), &own)?;
    archive.copy(Path::new(init::WORKLOAD), order.workload)?;
    archive.write(Path::new(init::EARLIER), earlier)?;
    archive.write(Path::new(init::WORDS), words(order).join("\n").as_bytes())?;
    let tools = TOOLS.iter().filter_map(|name| in_path(name));
    let programs = order.platforms.iter().map(|platform| platform.program.clone());
    let programs = programs.filter(|program| !program.as_os_str().is_empty()).chain(tools);
    let programs = Vec::from_iter(programs);
    let mut files: BTreeSet<PathBuf> = programs.iter().cloned().collect();
    for program in [own].iter().chain(&programs) {
        files.extend(closure::of(program)?);
    }
    files.iter().try_for_each(|file| archive.copy(file, file))?;
    archive.finish()
}

/// What the guest is told to run.
fn words(order: &Order<'_>) -> Vec<String> {
    let mut words =
        ["measure", "run", "--workload", init::WORKLOAD, "--out", init::OUT].map(str::to_owned).to_vec();
    let named = order.platforms.iter().map(|platform| match platform.kind.program {
        None if platform.program.as_os_str().is_empty() => platform.name.clone(),
        _ => format!("{}={}", platform.name, platform.program.display()),
    });
    words.extend(["--platforms".to_owned(), Vec::from_iter(named).join(",")]);
    words.extend(order.options.iter().cloned());
    words
}

/// The kernel in this directory, or that of the cache.
fn kernel(directory: Option<&Path>) -> Result<PathBuf, Error> {
    let cached = || Some(cache()?.join(CACHED_KERNEL));
    let place = directory.map(Path::to_owned).or_else(cached);
    let kernel = place.as_ref().map(|place| place.join(KERNEL)).filter(|kernel| kernel.is_file());
    kernel.ok_or_else(|| {
        let where_to = place.map_or("no cache".to_owned(), |place| place.display().to_string());
        Error::Unusable(format!(
            "there is no kernel for a guest ({where_to} has no file {KERNEL}); cargo xtask vm fetch gets one, and --in-guest \
             DIR takes any that has NVMe and a function tracer built in, such as Debian's for clouds"
        ))
    })
}

/// The release of the kernel that a guest would boot: the first word of what a bzImage says of itself (`kernel_version` of
/// the kernel's Documentation/arch/x86/boot.rst).
///
/// # Errors
/// When there is no kernel, or it does not say.
pub fn release(directory: Option<&Path>) -> Result<String, Error> {
    let kernel = kernel(directory)?;
    let mut begin = Vec::new();
    let read = File::open(&kernel).and_then(|file| file.take(SETUP).read_to_end(&mut begin));
    read.doing(|| format!("read {}", kernel.display()))?;
    said_release(&begin)
        .ok_or_else(|| Error::Unusable(format!("{} does not say which kernel it is", kernel.display())))
}

/// What the first bytes of a compressed kernel say.
pub(crate) fn said_release(begin: &[u8]) -> Option<String> {
    (begin.get(0x202..0x206)? == b"HdrS").then_some(())?;
    let place = usize::from(u16::from_le_bytes(begin.get(0x20e..0x210)?.try_into().ok()?)) + 0x200;
    let said = begin.get(place..)?.split(|byte| *byte == 0 || *byte == b' ').next()?;
    Some(String::from_utf8_lossy(said).into_owned()).filter(|said| !said.is_empty())
}

/// A command that starts the emulator: the one in PATH, else that of the cache. The kernel kills it with us.
fn emulator() -> Result<Command, Error> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(program) = in_path(EMULATOR) {
        command.arg(program);
        return Ok(command);
    }
    let directory =
        cache().map(|cache| cache.join(CACHED_EMULATOR)).filter(|place| place.join(LOADER).is_file());
    let directory = directory.ok_or_else(|| {
        Error::Unusable(format!(
            "there is no {EMULATOR} for a guest; the package qemu-system-x86 has it, or cargo xtask vm fetch gets it"
        ))
    })?;
    command.arg(directory.join(LOADER)).arg("--library-path").arg(directory.join(LIBRARIES));
    command.arg(directory.join("usr/bin").join(EMULATOR));
    for place in DATA {
        command.arg("-L").arg(directory.join(place));
    }
    Ok(command)
}

fn cache() -> Option<PathBuf> {
    find::cache(|name| std::env::var_os(name))
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    places.map(|place| place.join(name)).find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let path = std::env::temp_dir().join(format!("bh-said-{}", std::process::id()));
        let mut disk = File::create(&path).unwrap();
        disk.set_len(1 << 20).unwrap();
        let mut said = Said { file: File::open(&path).unwrap(), rest: Vec::new() };
        let line = format!("{}\n", serde_json::to_string(&Line::End(End::Complete)).unwrap());
        let (first, rest) = line.split_at(7);
        let mut write = |text: &str| {
            disk.write_all(text.as_bytes()).unwrap();
            disk.stream_position().unwrap()
        };
        assert_eq!(said.lines().unwrap(), []);
        write(first);
        assert_eq!(said.lines().unwrap(), [], "half a line was taken for one");
        write(rest);
        write(&line);
        assert_eq!(said.lines().unwrap(), [Line::End(End::Complete), Line::End(End::Complete)]);
        // Longer than what is read at a time.
        let many = line.repeat((1 << 17) / line.len());
        write(&many);
        assert_eq!(said.lines().unwrap().len(), many.lines().count());
        write("nonsense\n");
        assert!(said.lines().is_err());
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_guest_gets_whole_lines_of_a_journal_that_nobody_else_writes() {
        let scratch = bulkhead_testkit::Scratch::new();
        let place = scratch.path();
        assert_eq!(begin(place).unwrap().1, b"");
        let line = format!("{}\n", serde_json::to_string(&Line::End(End::Budget)).unwrap());
        fs::write(place.join(Journal::NAME), format!("{line}{{\"kind\":\"tu")).unwrap();
        let (journal, earlier) = begin(place).unwrap();
        assert_eq!(earlier, line.as_bytes(), "half a line was handed over");
        assert!(begin(place).unwrap_err().to_string().contains("is being written by another measurement"));
        drop(journal);
        fs::rename(place.join(Journal::NAME), place.join("journal.jsonl.gz")).unwrap();
        assert!(begin(place).unwrap_err().to_string().contains("is compressed"), "it is taken for none");
    }

    #[test]
    fn the_guest_is_told_the_same_with_its_own_places() {
        let platforms = find::chosen(&["bare".to_owned(), "mine=/bin/sh".to_owned()]).unwrap();
        let options = ["--axes".to_owned(), "isolation".to_owned()];
        let order = Order {
            kernel: None,
            platforms: &platforms,
            workload: Path::new("/x"),
            options: &options,
            guard: None,
        };
        let shell = Path::new("/bin/sh").canonicalize().unwrap();
        let expected = format!(
            "measure run --workload /measure/bulkload --out /measure/out --platforms bare,mine={} --axes isolation",
            shell.display()
        );
        assert_eq!(words(&order).join(" "), expected);
    }

    #[test]
    fn a_kernel_says_its_release() {
        let mut begin = vec![0; 0x400];
        begin[0x202..0x206].copy_from_slice(b"HdrS");
        begin[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
        begin[0x300..0x310].copy_from_slice(b"6.1.0-50 (x) #1\0");
        assert_eq!(said_release(&begin).as_deref(), Some("6.1.0-50"));
        for cut in [0, 0x205, 0x20f, 0x300] {
            assert_eq!(said_release(&begin[..cut]), None, "{cut} bytes said something");
        }
        begin[0x20f] = 0xff;
        assert_eq!(said_release(&begin), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = kernel(Some(Path::new("/nowhere"))).unwrap_err().to_string();
        assert!(
            error.contains("/nowhere has no file vmlinuz") && error.contains("xtask vm fetch"),
            "{error}"
        );
        assert!(error.contains("--in-guest DIR takes any"), "{error}");
    }
}
