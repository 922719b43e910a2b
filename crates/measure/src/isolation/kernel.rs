//! The kernel's functions by their addresses: /proc/kallsyms, see proc_kallsyms(5).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::record::Symbol;

/// The functions of the kernel that runs.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    /// Ascending by address.
    all: Vec<Function>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    address: u64,
    /// Unique: where a name stands for several functions, all but the first have a number behind it.
    name: String,
    bytes: u64,
    subsystem: String,
}

/// Pairs of marks between which a section of the kernel's text lies.
const SECTIONS: &[(&str, &str, &str)] = &[
    ("__entry_text_start", "__entry_text_end", "entry"),
    ("__sched_text_start", "__sched_text_end", "scheduler"),
    ("__lock_text_start", "__lock_text_end", "locks"),
    ("__cpuidle_text_start", "__cpuidle_text_end", "idle"),
    ("__irqentry_text_start", "__irqentry_text_end", "interrupts"),
    ("__softirqentry_text_start", "__softirqentry_text_end", "interrupts"),
    ("__noinstr_text_start", "__noinstr_text_end", "entry"),
    ("_sinittext", "_einittext", "initialisation"),
];

/// Functions at the edges of the directories of the kernel's sources, in the order in which they are linked (the kernel's
/// Kbuild, Linux 5.10 to 6.18): what lies between two of them belongs to the first one's directory.
const LANDMARKS: &[(&str, &str)] = &[
    ("perf_event_nmi_handler", "arch"),
    ("native_flush_tlb_global", "arch"),
    ("copy_process", "kernel"),
    ("kernel_clone", "kernel"),
    ("sched_fork", "kernel"),
    ("futex_wait", "kernel"),
    ("cgroup_attach_task", "kernel"),
    ("bpf_prog_alloc", "kernel"),
    ("perf_event_alloc", "kernel"),
    ("uprobe_register", "kernel"),
    ("generic_file_read_iter", "mm"),
    ("filemap_fault", "mm"),
    ("handle_mm_fault", "mm"),
    ("balloon_page_alloc", "mm"),
    ("vfs_open", "fs"),
    ("vfs_read", "fs"),
    ("path_openat", "fs"),
    ("kernfs_create_root", "fs"),
    ("sysfs_create_group", "fs"),
    ("ext4_file_open", "fs"),
    ("tracefs_create_file", "fs"),
    ("ipc_addid", "ipc"),
    ("do_shmat", "ipc"),
    ("key_alloc", "security"),
    ("cap_capable", "security"),
    ("security_file_open", "security"),
    ("crypto_alg_lookup", "crypto"),
    ("crypto_alloc_shash", "crypto"),
    ("crypto_alloc_rng", "crypto"),
    ("bio_alloc_bioset", "block"),
    ("submit_bio", "block"),
    ("blk_mq_submit_bio", "block"),
    ("_copy_to_iter", "lib"),
    ("copy_page_from_iter", "lib"),
    ("rht_bucket_nested", "lib"),
    ("pci_enable_device", "drivers"),
    ("tty_write", "drivers"),
    ("device_add", "drivers"),
    ("loopback_xmit", "drivers"),
    ("cpufreq_register_driver", "drivers"),
    ("sock_alloc", "net"),
    ("__sys_socket", "net"),
    ("dev_queue_xmit", "net"),
    ("ip_queue_xmit", "net"),
    ("tcp_sendmsg", "net"),
    ("unix_stream_sendmsg", "net"),
    ("packet_sendmsg", "net"),
    ("idr_alloc", "lib"),
    ("kobject_add", "lib"),
    ("sprintf", "lib"),
];

/// A kernel whose landmarks are fewer, or in another order, was not linked in the order of its sources.
const ENOUGH: usize = 30;

/// How functions begin that an interrupt, or what it left for later, enters: what lies within them in a stack, and they
/// themselves, merely happened while the task ran.
const INTERRUPTS: &[&str] = &[
    "asm_sysvec_",
    "asm_common_interrupt",
    "asm_exc_nmi",
    "asm_spurious_interrupt",
    "__do_softirq",
    "handle_softirqs",
];

/// No function is larger, bytes: one that seems to be stands before a gap, and is taken for as large as a page.
const LARGEST: u64 = 1 << 20;
const BEFORE_A_GAP: u64 = 4096;

/// Where the rest of the kernel's own text is.
const TEXT: &str = "text";

impl Functions {
    /// Reads what the kernel that runs says.
    pub(super) fn read() -> Self {
        Self::of(&std::fs::read_to_string("/proc/kallsyms").unwrap_or_default())
    }

    /// Reads a text like /proc/kallsyms.
    pub(crate) fn of(text: &str) -> Self {
        let lines = text.lines().filter_map(line);
        // Addresses that a user may not see are all zero.
        let mut lines = Vec::from_iter(lines.filter(|(address, ..)| *address > 0));
        lines.sort_by_key(|(address, ..)| *address);
        let marks: HashMap<&str, u64> = lines.iter().map(|(address, name, _)| (*name, *address)).collect();
        let sections = Vec::from_iter(
            SECTIONS
                .iter()
                .filter_map(|(from, to, section)| Some((*marks.get(from)?..*marks.get(to)?, *section))),
        );
        let landmarks = landmarks(&marks);
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut all: Vec<Function> = Vec::new();
        for (place, (address, name, module)) in lines.iter().enumerate() {
            // Several names for one place: the first counts.
            if all.last().is_some_and(|last| last.address == *address) {
                continue;
            }
            let next = lines[place..].iter().map(|(other, ..)| *other).find(|other| other > address);
            let count = known.entry(name).or_default();
            *count += 1;
            let section = sections.iter().find(|(range, _)| range.contains(address)).map(|(_, name)| *name);
            let directory = landmarks.iter().rev().find(|(from, _)| from <= address).map(|(_, name)| *name);
            all.push(Function {
                address: *address,
                name: if *count > 1 { format!("{name}#{count}") } else { (*name).to_owned() },
                bytes: next.map_or(0, |next| size(next - address)),
                subsystem: module.or(section).or(directory).unwrap_or(TEXT).to_owned(),
            });
        }
        Self { all }
    }

    /// Address, size in bytes and name of each.
    pub(crate) fn all(&self) -> Vec<(u64, u64, String)> {
        self.all.iter().map(|function| (function.address, function.bytes, function.name.clone())).collect()
    }

    /// Counts by names; what lies at no known place keeps its address.
    pub(super) fn named(&self, counts: &BTreeMap<u64, u64>) -> BTreeMap<String, u64> {
        let mut named: BTreeMap<String, u64> = BTreeMap::new();
        for (address, count) in counts {
            let name = self.at(*address).map_or_else(|| format!("{address:#x}"), |found| found.name.clone());
            *named.entry(name).or_default() += count;
        }
        named
    }

    /// The functions that stand in stacks, by their addresses, each with the number of stacks that hold it; and how many
    /// stacks hold any.
    pub(super) fn in_stacks(&self, stacks: &BTreeMap<Box<[u64]>, u64>) -> (BTreeMap<u64, u64>, u64) {
        let mut entered: BTreeMap<u64, u64> = BTreeMap::new();
        let mut samples = 0;
        for (stack, count) in stacks {
            let functions = Vec::from_iter(stack.iter().filter_map(|address| self.at(*address)));
            let interrupts =
                |function: &&Function| INTERRUPTS.iter().any(|begin| function.name.starts_with(begin));
            let own = functions.iter().rposition(interrupts).map_or(0, |interrupt| interrupt + 1);
            // A function that calls itself stands in a stack more than once.
            let distinct: BTreeSet<u64> = functions[own..].iter().map(|function| function.address).collect();
            samples += if distinct.is_empty() { 0 } else { *count };
            for address in distinct {
                *entered.entry(address).or_default() += count;
            }
        }
        (entered, samples)
    }

    /// Whether none is known, since the kernel hides where they are.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What is known of the functions at these addresses that are not in `told`, to which they are added.
    pub(super) fn news(
        &self,
        addresses: impl Iterator<Item = u64>,
        told: &mut BTreeSet<String>,
    ) -> BTreeMap<String, Symbol> {
        let mut symbols = BTreeMap::new();
        for function in addresses.filter_map(|address| self.at(address)) {
            if told.insert(function.name.clone()) {
                let Function { name, bytes, subsystem, .. } = function.clone();
                symbols.insert(name, Symbol { subsystem, bytes });
            }
        }
        symbols
    }

    /// The function in which an address lies.
    fn at(&self, address: u64) -> Option<&Function> {
        let place = self.all.partition_point(|function| function.address <= address);
        let function = self.all.get(place.checked_sub(1)?)?;
        (address < function.address + function.bytes).then_some(function)
    }
}

fn size(bytes: u64) -> u64 {
    if bytes > LARGEST { BEFORE_A_GAP } else { bytes }
}

/// The addresses from which on functions belong to a directory; none where they are not to be trusted.
fn landmarks(marks: &HashMap<&str, u64>) -> Vec<(u64, &'static str)> {
    let found = LANDMARKS.iter().filter_map(|(name, directory)| Some((*marks.get(name)?, *directory)));
    let mut found = Vec::from_iter(found);
    let directories = |found: &[(u64, &'static str)]| {
        let mut directories = Vec::from_iter(found.iter().map(|(_, directory)| *directory));
        directories.dedup();
        directories
    };
    let expected = directories(&found);
    // Within a directory the order is another one in each version.
    found.sort_by_key(|(address, _)| *address);
    if found.len() >= ENOUGH && directories(&found) == expected { found } else { Vec::new() }
}

/// The address, the name and the module of a line about text.
fn line(line: &str) -> Option<(u64, &str, Option<&str>)> {
    let mut fields = line.split_whitespace();
    let address = u64::from_str_radix(fields.next()?, 16).ok()?;
    matches!(fields.next()?, "t" | "T" | "w" | "W").then_some(())?;
    // The sign sets namesakes apart.
    let name = fields.next().filter(|name| !name.contains('#'))?;
    let module = fields.next().map(|module| module.trim_matches(['[', ']']));
    Some((address, name, module))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
ffffffff81000000 T _stext
ffffffff81000100 t helper
ffffffff81000180 T do_sys_open
ffffffff81000180 t alias
ffffffff81000200 t helper
ffffffff81000280 D not_text
ffffffff81000300 T __sched_text_start
ffffffff81000300 T schedule
ffffffff81000340 T __sched_text_end
ffffffffc0000000 t ext4_read\t[ext4]
ffffffffc0000050 t ext4_write\t[ext4]
0000000000000000 T hidden
";

    #[test]
    fn addresses_become_functions() {
        let functions = Functions::of(TEXT);
        let counts = [
            (0xffff_ffff_8100_0104, 2),
            (0xffff_ffff_8100_0100, 1),
            (0xffff_ffff_8100_0204, 5),
            (0xffff_ffff_8100_0184, 7),
            (0xffff_ffff_c000_0004, 1),
            (0x1000, 1),
        ];
        let named = functions.named(&counts.into());
        let expected = [("0x1000", 1), ("do_sys_open", 7), ("ext4_read", 1), ("helper", 3), ("helper#2", 5)];
        assert_eq!(named, expected.map(|(name, count)| (name.to_owned(), count)).into());
        let mut told = BTreeSet::from(["helper".to_owned()]);
        let symbols = functions.news(counts.map(|(address, _)| address).into_iter(), &mut told);
        let told_of = Vec::from_iter(
            symbols.iter().map(|(name, symbol)| (name.as_str(), symbol.subsystem.as_str(), symbol.bytes)),
        );
        assert_eq!(
            told_of,
            [("do_sys_open", "text", 0x80), ("ext4_read", "ext4", 0x50), ("helper#2", "text", 0x100)]
        );
        assert_eq!(
            functions.at(0xffff_ffff_8100_0340).map(|found| found.bytes),
            Some(4096),
            "a gap is no code"
        );
        assert!(functions.news([0xffff_ffff_8100_0184].into_iter(), &mut told).is_empty(), "told twice");
        assert_eq!(
            functions.at(0xffff_ffff_8100_0310).map(|found| found.subsystem.as_str()),
            Some("scheduler")
        );
    }

    #[test]
    fn functions_belong_to_the_directory_between_whose_landmarks_they_lie() {
        let line = |(place, (name, _)): (usize, &(&str, &str))| {
            format!("{:x} T {name}\n{:x} t after_{name}\n", 0x1000 + place * 0x100, 0x1010 + place * 0x100)
        };
        let text: String = LANDMARKS.iter().enumerate().map(line).collect();
        let functions = Functions::of(&text);
        let of = |functions: &Functions, name: &str| {
            let found = functions.all.iter().find(|function| function.name == name);
            found.map(|function| function.subsystem.clone()).unwrap_or_default()
        };
        assert_eq!(of(&functions, "after_uprobe_register"), "kernel");
        assert_eq!(of(&functions, "generic_file_read_iter"), "mm");
        assert_eq!(of(&functions, "after_sprintf"), "lib");
        // Linked in another order, nothing follows from the order.
        let within = text
            .replace("T vfs_read", "T x")
            .replace("T vfs_open", "T vfs_read")
            .replace("T x", "T vfs_open");
        assert_eq!(of(&Functions::of(&within), "vfs_read"), "fs", "the order within a directory matters");
        let other = Functions::of(&text.replace("T sprintf", "T x").replace("T vfs_open", "T sprintf"));
        assert_eq!(of(&other, "after_uprobe_register"), "text");
    }

    #[test]
    fn stacks_become_functions_and_interrupts_are_nobodys() {
        let text = "10 T entry\n20 T vfs_read\n30 T walk\n40 T asm_sysvec_apic_timer_interrupt\n50 T tick\n60 T last\n";
        let functions = Functions::of(text);
        let stacks: [(&[u64], u64); 5] = [
            (&[0x22, 0x12], 2),
            (&[0x34, 0x33, 0x22, 0x12], 1),
            (&[0x55, 0x41, 0x33, 0x12], 3),
            (&[0x55, 0x41], 7),
            (&[0x1000], 9),
        ];
        let stacks = stacks.map(|(stack, count)| (Box::from(stack), count)).into();
        assert_eq!(functions.in_stacks(&stacks), ([(0x10, 6), (0x20, 3), (0x30, 4)].into(), 6));
    }

    #[test]
    fn a_kernel_that_hides_its_addresses_has_no_functions() {
        assert_eq!(Functions::of("0000000000000000 T _stext\n0000000000000000 T schedule\n").all, []);
    }
}
