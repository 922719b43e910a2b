//! What the kernel's tracer records, counted while it records it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::Duration;

use bulkhead_sys::sample::Sampler;
use rustix::io::Errno;

use super::instance::{BIRTH, CALL, Instance};
use super::ring::{self, Event, Format};
use super::seen::Seen;
use super::stacks::{self, Record};
use crate::open_files::OpenFiles;
use crate::stats::Failure;

/// The largest page that a kernel's buffers are made of; a read of one takes at most one.
const PAGE: usize = 64 << 10;

/// How long there is nothing to be looked for when there was nothing.
const PAUSE: Duration = Duration::from_millis(1);

/// Memory for the buffers: this much in all, and no more than this share of what is free.
const BUFFER_KIB: u64 = 512 << 10;
const SHARE: u64 = 4;

/// Pages of each processor's buffer for samples: of what the platform's program does, and of each thread of a daemon's, which are many.
const PAGES: usize = 256;
const PAGES_OF_MAKERS: usize = 16;

/// How often it is looked for threads that were born meanwhile.
const LOOKS: usize = 50;

/// Files that are open besides.
const SPARE: u64 = 200;

/// Of which there are not enough where too many threads on too many processors are to be sampled.
const SCARCE: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];

/// System calls are few, so that this is enough for each processor.
const CALLS_KIB: u64 = 16 << 10;

/// The tracer, ready to follow one process tree after the other.
#[derive(Debug)]
pub(super) struct Tracer {
    instance: Instance,
    formats: Formats,
    functions: bool,
    /// Whether stacks are sampled, too.
    samples: bool,
    is_on: bool,
}

/// The events that are counted.
#[derive(Clone, Copy, Debug)]
struct Formats {
    call: Format,
    birth: Format,
    function: Option<Format>,
}

/// A process tree that is followed.
#[derive(Debug)]
pub(super) struct Listening<'a> {
    tracer: &'a Tracer,
    asked: Sender<()>,
    told: Receiver<io::Result<Seen>>,
    thread: Option<JoinHandle<()>>,
    lost: u64,
    _open: Option<OpenFiles>,
}

impl Tracer {
    /// Sets the instance up for system calls, and for functions or samples of stacks where the kernel lets them be seen.
    pub(super) fn make(instance: Instance, functions: bool, samples: bool) -> io::Result<Self> {
        let format = |event: &str, field: &str| {
            let text = instance.read_common(&format!("events/{event}/format"))?;
            Format::read(&text, field)
                .ok_or_else(|| io::Error::other(format!("the tracepoint {event} has no field {field}")))
        };
        let function = if functions { Some(format("ftrace/function", "ip")?) } else { None };
        let formats = Formats { call: format(CALL, "id")?, birth: format(BIRTH, "child_pid")?, function };
        instance.record(false)?;
        // What does not fit is dropped and counted; what was there is never overwritten.
        instance.write("options/overwrite", "0")?;
        instance.write("options/event-fork", "1")?;
        if functions {
            instance.write("options/function-fork", "1")?;
        }
        instance.write("buffer_size_kb", &buffer(&instance, functions)?.to_string())?;
        for event in [CALL, BIRTH] {
            instance.write(&format!("events/{event}/enable"), "1")?;
        }
        Ok(Self { instance, formats, functions, samples, is_on: false })
    }

    /// Begins to follow `pid`, which must not run yet, and processes that do.
    pub(super) fn begin(&mut self, pid: u32, makers: &[u32]) -> Result<Listening<'_>, Failure> {
        self.start(pid, makers).map_err(|error| Failure(format!("switch the tracer on: {error}")))
    }

    #[expect(clippy::disallowed_methods, reason = "this program makes no namespaces beside its threads")]
    fn start(&mut self, pid: u32, makers: &[u32]) -> io::Result<Listening<'_>> {
        let Self { instance, functions, .. } = &*self;
        instance.record(false)?;
        // Who is born to a task that is followed is followed, too.
        instance.follow(&[pid], *functions)?;
        let threads_of = || BTreeSet::from_iter(makers.iter().flat_map(|maker| threads(*maker)));
        until_none_is_new(
            threads_of,
            || instance.followed().into_iter().collect(),
            |new| instance.follow_also(&Vec::from_iter(new.iter().copied()), *functions),
        )?;
        if *functions && !self.is_on {
            // It takes seconds to patch all functions, so it stays on until the instance goes.
            instance.write("current_tracer", "function")?;
            self.is_on = true;
        }
        let Self { instance, formats, samples, .. } = &*self;
        instance.empty()?;
        let (asked, asks) = mpsc::channel();
        let (tells, told) = mpsc::channel();
        let buffers = instance.buffers()?;
        let files = buffers.iter().map(|place| open(place)).collect::<io::Result<Vec<_>>>()?;
        let sampled = samples.then(|| Sampled::begin(pid, threads_of, &buffers)).transpose();
        let Sampled { samplers, left_out, _open } = sampled.map_err(io::Error::other)?.unwrap_or_default();
        let sources = Sources { files, samplers, left_out };
        let formats = *formats;
        let thread = std::thread::spawn(move || count(sources, formats, &asks, &tells));
        instance.record(true)?;
        Ok(Listening { tracer: self, asked, told, thread: Some(thread), lost: 0, _open })
    }
}

impl Listening<'_> {
    /// What was seen since the last time. The tracer stands still meanwhile, so nothing that matters should run.
    pub(super) fn take(&mut self) -> Result<Seen, Failure> {
        let taken = self.turn();
        taken.map_err(|error| Failure(format!("read what the tracer recorded: {error}")))
    }

    fn turn(&mut self) -> io::Result<Seen> {
        let gone = || io::Error::other("the thread that counts ended");
        let Self { tracer: Tracer { instance, .. }, asked, told, .. } = self;
        instance.record(false)?;
        asked.send(()).map_err(|_| gone())?;
        let mut seen = told.recv().map_err(|_| gone())??;
        let dropped = instance.dropped();
        seen.lost = dropped.saturating_sub(self.lost);
        self.lost = dropped;
        instance.record(true)?;
        Ok(seen)
    }

    /// The tasks that are followed now.
    pub(super) fn followed(&self) -> Vec<u32> {
        self.tracer.instance.followed()
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        // A refusal to stop shows when the next one begins.
        let _ = self.tracer.instance.record(false);
        let (ended, _) = mpsc::channel();
        // Without anybody who could ask, the thread ends.
        drop(std::mem::replace(&mut self.asked, ended));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// For each processor, KiB.
fn buffer(instance: &Instance, functions: bool) -> io::Result<u64> {
    if !functions {
        return Ok(CALLS_KIB);
    }
    let processors = instance.buffers()?.len().max(1) as u64;
    let meminfo = std::fs::read_to_string("/proc/meminfo")?;
    let free = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free = free.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(BUFFER_KIB);
    Ok(BUFFER_KIB.min(free / SHARE) / processors)
}

/// The tasks of a process; none once it is gone.
fn threads(process: u32) -> Vec<u32> {
    let tasks = Path::new("/proc").join(process.to_string()).join("task").read_dir();
    let names = tasks.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// Follows all of `wanted` that are not among the `followed`, until there is none: some are born while the others are told.
fn until_none_is_new(
    wanted: impl Fn() -> BTreeSet<u32>,
    followed: impl Fn() -> BTreeSet<u32>,
    mut follow: impl FnMut(&BTreeSet<u32>) -> io::Result<()>,
) -> io::Result<()> {
    // Who ended before it was told is wanted no more, so that there is an end; a daemon that never stops making threads has none.
    for _ in 0..LOOKS {
        let new = &wanted() - &followed();
        if new.is_empty() {
            return Ok(());
        }
        follow(&new)?;
    }
    Err(io::Error::other("its daemon makes threads faster than they can be followed"))
}

/// Whose stacks are sampled.
#[derive(Debug, Default)]
struct Sampled {
    samplers: Vec<Sampler>,
    /// Threads that do without: there are too many.
    left_out: u64,
    _open: Option<OpenFiles>,
}

impl Sampled {
    /// Samples `pid` and, where there can be so many events, the threads of makers, each on every processor.
    fn begin(
        pid: u32,
        threads: impl Fn() -> BTreeSet<u32>,
        buffers: &[PathBuf],
    ) -> Result<Self, bulkhead_sys::Error> {
        let own = stacks::open(pid.cast_signed(), buffers, PAGES)?;
        let wanted = threads().len() + 1;
        let files = OpenFiles::allow((wanted * 2 * buffers.len()) as u64 + SPARE).ok();
        match of_makers(&threads, buffers) {
            Ok(samplers) => {
                Ok(Self { samplers: own.into_iter().chain(samplers).collect(), left_out: 0, _open: files })
            }
            // They are a lower bound without these, too; system calls of all are counted.
            Err(error) if SCARCE.contains(&error.errno()) => {
                Ok(Self { samplers: own, left_out: wanted as u64 - 1, _open: files })
            }
            Err(error) => Err(error),
        }
    }
}

/// A thread that is born to one that is sampled is sampled with it: one that is seen only later may be among those, and its stacks count
/// twice then, which is less than to miss it.
fn of_makers(
    threads: impl Fn() -> BTreeSet<u32>,
    buffers: &[PathBuf],
) -> Result<Vec<Sampler>, bulkhead_sys::Error> {
    let mut samplers = Vec::new();
    let mut sampled = BTreeSet::new();
    for _ in 0..LOOKS {
        let new = &threads() - &sampled;
        if new.is_empty() {
            break;
        }
        for thread in &new {
            match stacks::open(thread.cast_signed(), buffers, PAGES_OF_MAKERS) {
                // One that has ended meanwhile does nothing more.
                Err(error) if error.errno() == Errno::SRCH => {}
                opened => samplers.extend(opened?),
            }
        }
        sampled.extend(new);
    }
    Ok(samplers)
}

fn open(buffer: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(buffer.join("trace_pipe_raw"))
}

/// What is read: the tracer's buffers, and those of sampled stacks.
struct Sources {
    files: Vec<File>,
    samplers: Vec<Sampler>,
    /// Threads whose stacks are not sampled.
    left_out: u64,
}

/// The life of the thread that counts: reads what there is, and hands it over when it is asked.
fn count(mut sources: Sources, formats: Formats, asks: &Receiver<()>, tells: &Sender<io::Result<Seen>>) {
    let mut seen = Seen::default();
    let mut page = vec![0; PAGE];
    let mut records = Vec::new();
    loop {
        // Who asks has stopped the tracer: what is there then is all there is.
        let asked = match asks.try_recv() {
            Ok(()) => true,
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => return,
        };
        let read = drain(&mut sources.files, &mut page, &mut |event| note(event, formats, &mut seen));
        sample(&mut sources.samplers, &mut records, &mut seen);
        match (asked, read) {
            (_, Err(error)) => {
                let _ = tells.send(Err(error));
                return;
            }
            (true, Ok(_)) => {
                seen.unsampled += sources.left_out;
                if tells.send(Ok(std::mem::take(&mut seen))).is_err() {
                    return;
                }
            }
            (false, Ok(false)) => std::thread::sleep(PAUSE),
            (false, Ok(true)) => {}
        }
    }
}

/// Reads until there is nothing more; tells whether there was something.
fn drain(files: &mut [File], page: &mut [u8], hear: &mut dyn FnMut(Event<'_>)) -> io::Result<bool> {
    let mut any = false;
    for file in files {
        loop {
            match file.read(page) {
                Ok(0) => break,
                Ok(length) => {
                    any = true;
                    ring::events(&page[..length], &mut *hear);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(any)
}

fn sample(samplers: &mut [Sampler], records: &mut Vec<u8>, seen: &mut Seen) {
    for sampler in samplers {
        records.clear();
        sampler.drain(records);
        stacks::records(records, |record| match record {
            Record::Stack(task, stack) => *seen.stacks.entry((task, stack)).or_default() += 1,
            Record::Lost(count) => seen.unsampled += count,
        });
    }
}

fn note(event: Event<'_>, formats: Formats, seen: &mut Seen) {
    if formats.function.is_some_and(|function| function.id == event.id) {
        // What an interrupt did is nobody's.
        let address = formats.function.and_then(|function| event.u64_at(function.field));
        if let Some(address) = address.filter(|_| !event.in_interrupt) {
            *seen.functions.entry((event.task, address)).or_default() += 1;
        }
    } else if event.id == formats.call.id {
        if let Some(number) = event.u64_at(formats.call.field) {
            *seen.calls.entry((event.task, number)).or_default() += 1;
        }
    } else if event.id == formats.birth.id {
        seen.births.extend(event.u32_at(formats.birth.field).map(|child| (event.task, child)));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn who_is_born_while_others_are_followed_is_followed() {
        // While the first are told, 3 is born, and then 4.
        let (wanted, followed) = (RefCell::new(BTreeSet::from([1, 2])), RefCell::new(BTreeSet::from([1])));
        let went = until_none_is_new(
            || wanted.borrow().clone(),
            || followed.borrow().clone(),
            |new| {
                followed.borrow_mut().extend(new);
                let next = wanted.borrow().len() as u32 + 1;
                wanted.borrow_mut().extend((next <= 4).then_some(next));
                Ok(())
            },
        );
        went.unwrap();
        assert_eq!(*followed.borrow(), [1, 2, 3, 4].into());
        let endless = until_none_is_new(|| [1].into(), BTreeSet::new, |_| Ok(()));
        assert!(endless.unwrap_err().to_string().contains("faster"));
    }

    #[test]
    fn threads_of_makers_are_found_and_sampled_where_the_kernel_allows_it() {
        let own = std::process::id();
        assert!(threads(own).contains(&own) && threads(u32::MAX).is_empty());
        let processors = Path::new("/sys/devices/system/cpu").read_dir().unwrap().flatten();
        let processors = Vec::from_iter(processors.map(|entry| entry.path()));
        let none = || BTreeSet::new();
        let alone = match Sampled::begin(own, none, &processors) {
            Err(error) => bulkhead_testkit::skip!("stacks cannot be sampled: {error}"),
            Ok(sampled) => sampled.samplers.len(),
        };
        let one = Sampled::begin(own, || BTreeSet::from([own]), &processors).unwrap();
        assert_eq!((one.samplers.len(), one.left_out), (2 * alone, 0));
    }
}
