//! What is to be known of the machine, and what else it did while something was measured.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cgroups;
use crate::record::Noise;

/// The fact that says how many CPUs there are.
pub(crate) const PROCESSORS: &str = "processors";

/// The share of the time that may go to other virtual machines before a turn is flagged.
const STEAL: f64 = 0.05;

/// The share of the CPUs that programs outside the measurement may take.
const OTHERS: f64 = 0.10;

/// The share of the time that some task may wait for memory or the disk.
const STALLS: f64 = 0.20;

/// The least CPU time, in ticks of all CPUs, over which shares say something: one tick is a hundredth of it.
const ENOUGH: f64 = 100.0;

/// One tick of /proc/stat: USER_HZ, the same on every architecture that we build for.
const TICK: Duration = Duration::from_millis(10);

/// The machine's CPU time so far, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CpuTime {
    total: f64,
    idle: f64,
    stolen: f64,
    /// What the kernel did in interrupts and in threads of its own: also for what is measured, whose cgroups and files it clears
    /// away, so that nobody's program is to blame.
    kernel: f64,
}

impl CpuTime {
    /// The time until now; None where /proc/stat cannot be read.
    fn now() -> Option<Self> {
        let time = Self::parse(&fs::read_to_string("/proc/stat").ok()?)?;
        Some(Self { kernel: time.kernel + kernel_threads(Path::new("/proc")), ..time })
    }

    /// The first line: user nice system idle iowait irq softirq steal, then guest times that those include.
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let ticks = fields.map(str::parse).collect::<Result<Vec<f64>, _>>().ok()?;
        let [_, _, _, idle, waiting, hard, soft, stolen] = ticks[..] else { return None };
        Some(Self { total: ticks.iter().sum(), idle: idle + waiting, stolen, kernel: hard + soft })
    }

    /// Whether enough time has passed since `earlier` for a share of it.
    fn is_far_from(self, earlier: Self) -> bool {
        self.total - earlier.total >= ENOUGH
    }

    fn stolen_since(self, earlier: Self) -> f64 {
        (self.stolen - earlier.stolen) / (self.total - earlier.total)
    }

    /// The share of the CPUs' time since `earlier` that programs here had, but for `ours` and the kernel's own.
    fn others_since(self, earlier: Self, ours: Duration) -> f64 {
        let busy = |time: Self| time.total - time.idle - time.stolen;
        let ours = ours.as_secs_f64() / TICK.as_secs_f64();
        // A thread of the kernel that ended takes its time with it.
        let kernel = (self.kernel - earlier.kernel).max(0.0);
        (busy(self) - busy(earlier) - ours - kernel) / (self.total - earlier.total)
    }
}

/// The time that all threads of the kernel had so far, ticks.
fn kernel_threads(processes: &Path) -> f64 {
    stats(processes).filter_map(|text| kernel_thread(&text)).sum()
}

/// The /proc/PID/stat of every process.
fn stats(processes: &Path) -> impl Iterator<Item = String> {
    let entries = processes.read_dir().into_iter().flatten().flatten();
    let processes =
        entries.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    processes.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
}

/// The time of one, by its /proc/PID/stat; None for a program.
fn kernel_thread(stat: &str) -> Option<f64> {
    const IS_KERNEL_THREAD: u64 = 0x0020_0000;
    // The fields follow the name, which may hold anything, in parentheses: state parent group session terminal owner flags, four
    // counts of faults, user and system time.
    let fields = Vec::from_iter(stat.rsplit_once(") ")?.1.split_whitespace());
    let flags: u64 = fields.get(6)?.parse().ok()?;
    let ticks = |place: usize| fields.get(place)?.parse::<f64>().ok();
    (flags & IS_KERNEL_THREAD != 0).then(|| Some(ticks(11)? + ticks(12)?)).flatten()
}

/// The CPU time that every other program had so far, ticks, by its process and name.
#[derive(Debug)]
pub(crate) struct Busy(BTreeMap<(u32, String), f64>);

/// The least share of a CPU that makes a program one of the busiest, and how many are named.
const BUSY: f64 = 0.03;
const NAMED: usize = 3;

impl Busy {
    /// Looks once.
    pub(crate) fn look() -> Self {
        let own = std::process::id();
        let texts = stats(Path::new("/proc"));
        Self(texts.filter_map(|text| program(&text)).filter(|((pid, _), _)| *pid != own).collect())
    }

    /// `rustc 81 %` of one CPU since `earlier`, `passed` ago: the few that had most, those of one name together.
    pub(crate) fn busiest(&self, earlier: &Self, passed: Duration) -> Vec<String> {
        let mut had: BTreeMap<&str, f64> = BTreeMap::new();
        for (process, ticks) in &self.0 {
            let before = earlier.0.get(process).copied().unwrap_or_default();
            *had.entry(&process.1).or_default() += ticks - before;
        }
        let share = |ticks: f64| ticks * TICK.as_secs_f64() / passed.as_secs_f64();
        let shares = had.into_iter().map(|(name, ticks)| (name, share(ticks)));
        let mut busiest = Vec::from_iter(shares.filter(|(_, share)| *share >= BUSY));
        busiest.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        busiest
            .into_iter()
            .take(NAMED)
            .map(|(name, share)| format!("{name} {:.0} %", share * 100.0))
            .collect()
    }
}

/// The process, the name and the time of a program, by its /proc/PID/stat; None for a thread of the kernel.
fn program(stat: &str) -> Option<((u32, String), f64)> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, fields) = rest.rsplit_once(") ")?;
    if kernel_thread(stat).is_some() {
        return None;
    }
    let ticks = |place: usize| fields.split_whitespace().nth(place)?.parse::<f64>().ok();
    Some(((pid.parse().ok()?, name.to_owned()), ticks(11)? + ticks(12)?))
}

/// The machine at one time, by counters that only go up.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    at: Instant,
    cpu: Option<CpuTime>,
    ours: Ours,
    stalls: [Option<Duration>; 2],
}

/// What the measurement itself had of the machine so far, where somebody counts it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ours {
    /// CPU time.
    pub cpu: Option<Duration>,
    /// Time in which some of its tasks waited: for memory, and for the disk.
    pub stalls: [Option<Duration>; 2],
}

impl Watch {
    /// Looks once.
    pub fn look(ours: Ours) -> Self {
        let stalls = ["/proc/pressure/memory", "/proc/pressure/io"].map(|file| stalled(Path::new(file)));
        Self { at: Instant::now(), cpu: CpuTime::now(), ours, stalls }
    }

    /// What else went on since `earlier`.
    pub fn noise(&self, earlier: &Self) -> Noise {
        let passed = self.at.duration_since(earlier.at).as_secs_f64();
        let cpu = self.cpu.zip(earlier.cpu);
        let had = self.ours.cpu.zip(earlier.ours.cpu).map(|(now, then)| now.saturating_sub(then));
        let waited = |now: &[Option<Duration>; 2], then: &[Option<Duration>; 2], what: usize| {
            now[what].zip(then[what]).map(|(now, then)| now.saturating_sub(then).as_secs_f64() / passed)
        };
        let stalled = |what| waited(&self.stalls, &earlier.stalls, what);
        // Of the machine's tasks some waited, and so did some of ours: at least in the rest of the time it was others.
        let foreign = |what| {
            let ours = waited(&self.ours.stalls, &earlier.ours.stalls, what)?;
            Some((stalled(what)? - ours).max(0.0))
        };
        let load = fs::read_to_string("/proc/loadavg").ok();
        Noise {
            seconds: passed,
            stolen: cpu.map(|(now, then)| now.stolen_since(then)),
            others: cpu.zip(had).map(|((now, then), had)| now.others_since(then, had).max(0.0)),
            waited_for_memory: stalled(0),
            waited_for_disk: stalled(1),
            others_waited_for_memory: foreign(0),
            others_waited_for_disk: foreign(1),
            load: load.and_then(|text| text.split(' ').next()?.parse().ok()),
        }
    }
}

impl Noise {
    /// What of it is too much; None when nothing stands out.
    pub fn disturbance(&self) -> Option<String> {
        let limits = [
            (self.stolen, STEAL, "other machines had", "of the CPU time"),
            (self.others, OTHERS, "other programs had", "of the CPUs"),
            (self.others_waited_for_memory, STALLS, "other programs waited for memory during", "of the time"),
            (self.others_waited_for_disk, STALLS, "other programs waited for the disk during", "of the time"),
        ];
        let found = limits.into_iter().filter_map(|(share, limit, says, of)| {
            let share = share.filter(|share| *share > limit)?;
            Some(format!("{says} {:.0} % {of}", share * 100.0))
        });
        let found = Vec::from_iter(found);
        (!found.is_empty()).then(|| found.join("; "))
    }
}

/// Looks at the machine again and again. What is short is judged with what came before it.
#[derive(Debug)]
pub struct Watchman(VecDeque<Watch>);

impl Watchman {
    /// Begins.
    pub fn new(ours: Ours) -> Self {
        Self([Watch::look(ours)].into())
    }

    /// What else went on since this was asked last, or since a little earlier where that is too short a time; None as long
    /// as there is too little of it.
    pub fn noise(&mut self, ours: Ours) -> Option<Noise> {
        self.note(Watch::look(ours))
    }

    fn note(&mut self, now: Watch) -> Option<Noise> {
        let far =
            |earlier: &Watch| now.cpu.zip(earlier.cpu).is_none_or(|(now, earlier)| now.is_far_from(earlier));
        while self.0.get(1).is_some_and(far) {
            self.0.pop_front();
        }
        let noise = self.0.front().filter(|earlier| far(earlier)).map(|earlier| now.noise(earlier));
        self.0.push_back(now);
        noise
    }
}

/// The time that some task was stalled; None where the kernel does not account for that.
pub(crate) fn stalled(path: &Path) -> Option<Duration> {
    stalled_in(&fs::read_to_string(path).ok()?)
}

fn stalled_in(pressure: &str) -> Option<Duration> {
    let total = pressure.lines().next()?.strip_prefix("some ")?.rsplit_once("total=")?.1;
    Some(Duration::from_micros(total.trim().parse().ok()?))
}

/// One sentence on where figures come from, of [`facts`].
pub fn describe(facts: &BTreeMap<String, String>) -> String {
    let fact = |name: &str| facts.get(name).map_or("unknown", String::as_str);
    format!(
        "Linux {}, {}, {} CPUs, load {} at the start.",
        fact("kernel"),
        fact("cgroups"),
        fact(PROCESSORS),
        fact("load at the start")
    )
}

/// The release of the kernel that runs.
pub fn release() -> String {
    let read = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    read.trim().to_owned()
}

/// The facts about the machine that figures depend on, by their names in the report. Nothing in them tells who or
/// where the machine is.
pub fn facts() -> BTreeMap<String, String> {
    let read = |path: &str| {
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let cpu = read("/proc/cpuinfo").unwrap_or_default();
    let memory = read("/proc/meminfo").unwrap_or_default();
    let distribution = read("/etc/os-release").unwrap_or_default();
    let virtual_machine = field(&cpu, "flags").is_some_and(|flags| flags.contains(" hypervisor"));
    let facts = [
        ("kernel", Some(release()).filter(|release| !release.is_empty())),
        ("architecture", Some(std::env::consts::ARCH.to_owned())),
        ("processor", field(&cpu, "model name").map(str::to_owned)),
        (PROCESSORS, Some(std::thread::available_parallelism().map_or(1, usize::from).to_string())),
        ("memory", field(&memory, "MemTotal").and_then(gibibytes)),
        ("swap", field(&memory, "SwapTotal").and_then(gibibytes)),
        ("distribution", assigned(&distribution, "PRETTY_NAME").map(str::to_owned)),
        ("cgroups", Some(cgroups::mode().to_owned())),
        ("machine", Some(if virtual_machine { "virtual" } else { "real, or it does not tell" }.to_owned())),
        ("mitigations", mitigations(Path::new("/sys/devices/system/cpu/vulnerabilities"))),
        ("clock", read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("frequency governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("huge pages", read("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text))),
        (
            "load at the start",
            read("/proc/loadavg").and_then(|text| text.split(' ').next().map(str::to_owned)),
        ),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The kind of file system that `path` is on: whether files are on a disk decides what writing them costs.
pub fn file_system(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| Vec::from_iter(line.split(' ')));
    let above = fields.filter(|fields| fields.len() > 2 && path.starts_with(fields[1]));
    // Of two at the same place, the later one covers the earlier.
    let nearest = above.max_by_key(|fields| Path::new(fields[1]).components().count());
    nearest.map_or("unknown".to_owned(), |fields| fields[2].to_owned())
}

/// The value behind `name` and a colon.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':')).map(str::trim)
}

/// The value behind `name=`, without quotes.
fn assigned<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim_matches('"'))
}

fn gibibytes(kilobytes: &str) -> Option<String> {
    let number: f64 = kilobytes.split(' ').next()?.parse().ok()?;
    Some(format!("{:.1} GiB", number / f64::from(1 << 20)))
}

/// What stands in brackets among the choices.
fn chosen(choices: &str) -> Option<String> {
    Some(choices.split_once('[')?.1.split_once(']')?.0.to_owned())
}

/// What the kernel does against the processor's leaks; each of these can make system calls dearer.
fn mitigations(directory: &Path) -> Option<String> {
    let entries = directory.read_dir().ok()?.flatten();
    let mut found = Vec::from_iter(entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let state = fs::read_to_string(entry.path()).ok()?.trim().to_owned();
        (state != "Not affected").then(|| format!("{name}: {state}"))
    }));
    found.sort();
    Some(if found.is_empty() { "none needed".to_owned() } else { found.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_programs_are_named() {
        let stat = |pid: u32, name: &str, ticks: u32| {
            format!("{pid} ({name}) R 1 0 0 0 -1 4194304 0 0 0 0 {ticks} 0 0 0 20 0 1 0 30 0 0")
        };
        let busy = |all: &[(u32, &str, u32)]| {
            Busy(all.iter().filter_map(|(pid, name, ticks)| program(&stat(*pid, name, *ticks))).collect())
        };
        let earlier = busy(&[(3, "rustc", 100), (5, "a) b", 7), (6, "idle", 900)]);
        let later =
            busy(&[(3, "rustc", 140), (4, "rustc", 20), (5, "a) b", 17), (6, "idle", 902), (7, "sh", 4)]);
        let found = later.busiest(&earlier, Duration::from_secs(1));
        assert_eq!(found, ["rustc 60 %", "a) b 10 %", "sh 4 %"]);
        assert!(!Busy::look().0.is_empty());
    }

    #[test]
    fn stolen_time_disturbs() {
        let earlier = CpuTime::parse("cpu  100 0 100 800 0 0 0 10 0 0\ncpu0 1 2\n").unwrap();
        let quiet = CpuTime::parse("cpu  150 0 150 1000 0 0 0 20 0 0\n").unwrap();
        let noisy = CpuTime::parse("cpu  150 0 150 1000 0 0 0 90 0 0\n").unwrap();
        assert!((quiet.stolen_since(earlier) - 0.032).abs() < 0.001, "{}", quiet.stolen_since(earlier));
        assert!((noisy.stolen_since(earlier) - 0.211).abs() < 0.001, "{}", noisy.stolen_since(earlier));
        assert_eq!(CpuTime::parse("intr 1 2 3"), None);
    }

    #[test]
    fn what_others_had_is_what_was_busy_and_not_ours() {
        let earlier = CpuTime::parse("cpu  100 0 100 800 0 0 0 10\n").unwrap();
        let later = CpuTime::parse("cpu  180 0 120 890 10 0 0 10\n").unwrap();
        let share = |ours| later.others_since(earlier, Duration::from_millis(ours));
        assert!((share(0) - 0.5).abs() < 1e-9, "{}", share(0));
        assert!((share(1000) - 0.0).abs() < 1e-9, "{}", share(1000));
    }

    #[test]
    fn what_the_kernel_does_by_itself_is_no_other_program() {
        let earlier = CpuTime::parse("cpu  100 0 100 800 0 0 0 10\n").unwrap();
        let later = CpuTime::parse("cpu  100 0 150 830 0 5 15 10\n").unwrap();
        let share = |threads| {
            let later = CpuTime { kernel: later.kernel + threads, ..later };
            later.others_since(earlier, Duration::ZERO)
        };
        assert!(
            (share(0.0) - 0.5).abs() < 1e-9 && share(50.0).abs() < 1e-9,
            "{}, {}",
            share(0.0),
            share(50.0)
        );
        let stat = |flags: u64| {
            format!("17 (kworker/0:1) x) I 2 0 0 0 -1 {flags} 0 0 0 0 3 39 0 0 20 0 1 0 30 0 0\n")
        };
        assert_eq!((kernel_thread(&stat(69_238_880)), kernel_thread(&stat(4_194_560))), (Some(42.0), None));
        assert_eq!(kernel_thread(""), None);
        assert!(kernel_threads(Path::new("/proc")) >= 0.0);
    }

    fn at(milliseconds: u64, busy: f64, ours: u64, stalls: u64) -> Watch {
        let time = Duration::from_millis;
        let idle = milliseconds as f64 / 5.0 - busy;
        let own = Ours { cpu: Some(time(ours)), stalls: [Some(time(stalls / 2)), None] };
        Watch {
            at: BEGAN.with(|began| *began) + time(milliseconds),
            cpu: Some(CpuTime { total: busy + idle, idle, stolen: 0.0, kernel: 0.0 }),
            ours: own,
            stalls: [Some(time(stalls)), Some(time(stalls))],
        }
    }

    thread_local!(static BEGAN: Instant = Instant::now());

    #[test]
    fn short_turns_are_judged_with_what_came_before() {
        let mut watchman = Watchman([at(0, 0.0, 0, 0)].into());
        // One tick too much within 30 ms is no sixth of the machine.
        assert_eq!(watchman.note(at(30, 1.0, 0, 0)), None, "too little time");
        let quiet = watchman.note(at(1000, 20.0, 150, 0)).unwrap();
        assert!((quiet.others.unwrap() - 4.0 / 194.0).abs() < 1e-9, "{quiet:?}");
        assert_eq!(quiet.disturbance(), None);
        let short = watchman.note(at(1030, 23.0, 150, 0)).unwrap();
        assert!((short.seconds - 1.0).abs() < 1e-9, "{short:?}");
        let loud = watchman.note(at(2030, 103.0, 150, 0)).unwrap();
        assert_eq!(loud.disturbance().unwrap(), "other programs had 40 % of the CPUs");
    }

    #[test]
    fn what_our_own_tasks_wait_for_disturbs_nobody() {
        let noise = at(1000, 0.0, 0, 500).noise(&at(0, 0.0, 0, 0));
        assert_eq!((noise.waited_for_memory, noise.others_waited_for_memory), (Some(0.5), Some(0.25)));
        assert_eq!(noise.others_waited_for_disk, None, "nobody counts ours");
        assert_eq!(noise.disturbance().unwrap(), "other programs waited for memory during 25 % of the time");
    }

    #[test]
    fn stalls_are_read() {
        let pressure = "some avg10=1.00 avg60=2.00 avg300=3.00 total=1500000\nfull avg10=0 total=3\n";
        assert_eq!(stalled_in(pressure), Some(Duration::from_millis(1500)));
        assert_eq!(stalled_in(""), None);
    }

    #[test]
    fn fields_are_found() {
        assert_eq!(field("model name\t: A CPU\nflags\t\t: fpu\n", "model name"), Some("A CPU"));
        assert_eq!(field("MemTotal:       1048576 kB\n", "MemTotal").and_then(gibibytes).unwrap(), "1.0 GiB");
        assert_eq!(assigned("A=1\nPRETTY_NAME=\"Some Linux\"\n", "PRETTY_NAME"), Some("Some Linux"));
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
    }

    #[test]
    fn this_machine_is_known() {
        let facts = facts();
        for name in ["kernel", "processors", "memory", "cgroups", "load at the start"] {
            assert!(facts.get(name).is_some_and(|value| !value.is_empty()), "{name} is missing in {facts:?}");
        }
    }
}
