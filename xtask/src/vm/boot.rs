//! Starts a guest, listens to it, and sees to it that it ends.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bulkhead_measure::interrupt;

use super::job::{SecurityModule, Word};
use super::{Machine, emulator, guest, image};
use crate::{cache, workspace};

/// A guest needs 10 seconds to boot where nothing else runs.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// A guest that has ended its job switches itself off at once.
const END_LIMIT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

/// The emulated processor offers all it can but what the host's address space has no room for.
const HARDWARE: &[&str] = &[
    "-machine",
    "pc",
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "max,la57=off",
    "-smp",
    "2",
    "-m",
    "2048",
    "-nodefaults",
    "-display",
    "none",
    "-no-reboot",
];

/// Quiet, fast, and off after a panic.
const KERNEL_WORDS: &str = "console=ttyS0 rootfstype=ext4 rw rootwait panic=-1 quiet loglevel=4 \
no_timer_check tsc=reliable mitigations=off nokaslr systemd.show_status=0";

/// Which security modules the kernel starts, in the order of its own list. What a chosen one denies is in its log.
fn security_words(module: Option<SecurityModule>) -> String {
    match module.map(SecurityModule::name) {
        None => "audit=0".into(),
        Some(name) => format!("lsm=landlock,lockdown,yama,{name},bpf security={name} audit=1"),
    }
}

/// The directory of one guest: its payload, what it says, and what was said about it.
///
/// Removed in the end unless [`Run::keep`] was called. That of a process which was killed is removed by the next run.
pub(super) struct Run {
    directory: PathBuf,
    kept: bool,
}

impl Run {
    pub(super) fn begin() -> Result<Self> {
        let place = workspace::target_directory()?.join("vm");
        fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
        for entry in fs::read_dir(&place).with_context(|| format!("read {}", place.display()))? {
            let entry = entry?;
            if let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>()
                && !Path::new("/proc").join(pid.to_string()).exists()
            {
                cache::remove(&entry.path())?;
            }
        }
        let directory = place.join(std::process::id().to_string());
        cache::remove(&directory)?;
        fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(Self { directory, kept: false })
    }

    /// Where the payload's files are put together.
    pub(super) fn stage(&self) -> PathBuf {
        self.directory.join("stage")
    }

    pub(super) fn payload(&self) -> PathBuf {
        self.directory.join("payload.img")
    }

    fn console(&self) -> PathBuf {
        self.directory.join("console")
    }

    fn report(&self) -> PathBuf {
        self.directory.join("report")
    }

    /// Leaves the guest's console for a look at it.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// The last that the machine and its emulator said.
    pub(super) fn last_words(&self) -> String {
        let console = fs::read(self.console()).unwrap_or_default();
        let emulator = fs::read(self.directory.join("emulator")).unwrap_or_default();
        let text = [emulator, console].concat();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let lines = Vec::from_iter(text.trim_end().lines());
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let large = [self.stage(), self.payload()];
        if self.kept {
            large.iter().for_each(|path| drop(fs::remove_file(path)));
        } else {
            drop(fs::remove_dir_all(&self.directory));
        }
    }
}

/// Where what a command prints goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Shown,
    /// Tests print nothing there.
    Hidden,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It did its job.
    Done,
    /// Its kernel or its emulator ended before.
    Died,
    /// It said nothing for too long, and was killed.
    Hung,
}

impl Ending {
    /// What the guest did.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Done => "ended",
            Self::Died => "died",
            Self::Hung => "hung",
        }
    }
}

/// A machine that runs; killed when dropped, and when this program ends in whatever way.
pub(super) struct Guest {
    emulator: Child,
    report: Report,
}

impl Guest {
    /// Boots a machine with the run's payload.
    pub(super) fn start(machine: Machine, run: &Run, output: Output) -> Result<Self> {
        let kernel = machine.kernel.ensure()?;
        let image = image::ensure(machine.module)?;
        let create =
            |name: &str| File::create(run.directory.join(name)).with_context(|| format!("create {name}"));
        create("report")?;
        let mut command = emulator::ensure()?.command();
        command.args(HARDWARE);
        command.arg("-device").arg("nvme,id=disks,serial=disks");
        for (number, file, how) in [
            (1, &image, "snapshot=on"),
            (2, &kernel.modules, "readonly=on"),
            (3, &run.payload(), "cache=unsafe"),
        ] {
            command
                .arg("-drive")
                .arg(format!("if=none,id=d{number},file={},format=raw,{how}", file.display()));
            command.arg("-device").arg(format!("nvme-ns,drive=d{number},bus=disks,nsid={number}"));
        }
        command.arg("-serial").arg(format!("file:{}", run.console().display()));
        command.args(["-chardev", "stdio,id=output", "-serial", "chardev:output"]);
        command.arg("-serial").arg(format!("file:{}", run.report().display()));
        command.arg("-kernel").arg(&kernel.program);
        let security = security_words(machine.module);
        let root = image::root();
        command
            .arg("-append")
            .arg(format!("{KERNEL_WORDS} {security} root={root} init={}", guest::STUB_PLACE));
        command.stdin(Stdio::null()).stderr(create("emulator")?);
        command.stdout(match output {
            Output::Shown => Stdio::inherit(),
            Output::Hidden => Stdio::null(),
        });
        let emulator = command.spawn().context("start the emulator by setpriv")?;
        Ok(Self { emulator, report: Report::open(&run.report())? })
    }

    /// Hands over every word until the guest ends; `silence` is how long it may say nothing.
    pub(super) fn listen(&mut self, silence: Duration, mut hear: impl FnMut(Word)) -> Result<Ending> {
        let (mut last, mut limit) = (Instant::now(), BOOT_LIMIT);
        let mut done = false;
        loop {
            // What was made goes on the way out: the guest, then the run's directory.
            interrupt::check()?;
            // In this order: what it said before it ended is heard.
            let ended = self.emulator.try_wait().context("wait for the emulator")?.is_some();
            for word in self.report.words()? {
                match word {
                    Word::Failed(reason) => bail!("the guest: {reason}"),
                    Word::Exited(_) => (done, limit) = (true, END_LIMIT),
                    _ => limit = silence,
                }
                last = Instant::now();
                hear(word);
            }
            match (ended, done) {
                (true, true) => return Ok(Ending::Done),
                (true, false) => return Ok(Ending::Died),
                (false, _) if last.elapsed() > limit => return Ok(Ending::Hung),
                (false, _) => thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It is gone already when all went well.
        drop(self.emulator.kill());
        drop(self.emulator.wait());
    }
}

/// The file that the guest's third serial port writes.
struct Report {
    file: File,
    rest: Vec<u8>,
}

impl Report {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(Self { file, rest: Vec::new() })
    }

    /// The words that have been said whole since the last time.
    fn words(&mut self) -> Result<Vec<Word>> {
        let read = self.file.read_to_end(&mut self.rest).context("read the report")?;
        if read == 0 {
            return Ok(Vec::new());
        }
        let end = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |index| index + 1);
        let whole = Vec::from_iter(self.rest.drain(..end));
        let lines = whole.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let text = String::from_utf8_lossy(line);
                serde_json::from_slice(line).with_context(|| format!("understand the guest's word {text:?}"))
            })
            .collect()
    }
}
