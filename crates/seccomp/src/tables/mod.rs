//! System calls by name and number.
//!
//! The one source of truth is [`numbers::NUMBERS`]. At build time it is turned into a hash table over a single
//! string and a column of numbers for each ABI, so that the program carries 34 KB without a pointer in it, and one
//! compilation touches five pages.

mod numbers;

use bulkhead_spec::Arch;

use crate::abi::{Abi, abi};
use numbers::{COLUMNS, NUMBERS, ROWS};

/// No such call on this ABI.
const NO: u16 = u16::MAX;

/// Marks a private call of 32-bit ARM.
const P: u16 = 0xf000;

/// Where the private calls of 32-bit ARM begin.
const ARM_PRIVATE: u32 = 0x000f_0000;

/// The column of an ABI in the table of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Loongarch64,
    Ppc64,
    Ppc,
    S390x,
    S390,
    Mips,
    Mips64,
    Mips64N32,
    Parisc,
    Parisc64,
    M68k,
    Sh,
}

/// A call that some architecture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call(u16);

/// Returns the number of the call `name` on `arch`, or nothing where it has no such call.
///
/// x32 numbers include bit 30, MIPS numbers their base.
///
/// ```
/// use bulkhead_seccomp::{number, Arch};
///
/// assert_eq!(number(Arch::X86_64, "openat2"), Some(437));
/// assert_eq!(number(Arch::X86, "socket"), Some(359));
/// assert_eq!(number(Arch::Aarch64, "open"), None);
/// ```
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    number_of(&abi(arch), find(name)?)
}

/// Returns the name of the call with this number on `arch`.
///
/// This searches the whole table: it is for messages, not for filters.
pub fn name(arch: Arch, number: u32) -> Option<&'static str> {
    let abi = abi(arch);
    (0..ROWS).map(|row| Call(row as u16)).find(|&call| number_of(&abi, call) == Some(number)).map(Call::name)
}

/// Lists the names of all calls of all architectures, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    (0..ROWS).map(|row| TABLE.name(row))
}

impl Call {
    fn name(self) -> &'static str {
        TABLE.name(self.0.into())
    }
}

/// What `socketcall` or `ipc` must be asked for to make some other call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    /// `socketcall` or `ipc`.
    pub(crate) through: &'static str,
    /// The value of its first argument. Source: `linux/net.h`, `linux/ipc.h`.
    pub(crate) number: u32,
}

/// Returns how `call` is made through `socketcall` or `ipc`, on the ABIs that have them.
pub(crate) fn operation(call: Call) -> Option<Operation> {
    match TABLE.operations[call.0 as usize] {
        0 => None,
        code @ ..IPC => Some(Operation { through: "socketcall", number: code.into() }),
        code => Some(Operation { through: "ipc", number: (code - IPC).into() }),
    }
}

/// Marks an operation of `ipc`.
const IPC: u8 = 100;

/// The calls that are also operations of `socketcall`, or of `ipc` with [`IPC`] added.
const OPERATIONS: [(&str, u8); 32] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
    ("semop", IPC + 1),
    ("semget", IPC + 2),
    ("semctl", IPC + 3),
    ("semtimedop", IPC + 4),
    ("msgsnd", IPC + 11),
    ("msgrcv", IPC + 12),
    ("msgget", IPC + 13),
    ("msgctl", IPC + 14),
    ("shmat", IPC + 21),
    ("shmdt", IPC + 22),
    ("shmget", IPC + 23),
    ("shmctl", IPC + 24),
];

/// Finds a call by its name.
pub(crate) fn find(name: &str) -> Option<Call> {
    let mut slot = hash(name.as_bytes()) as usize % SLOTS;
    loop {
        match TABLE.slots[slot] {
            NO => return None,
            row if TABLE.bytes(row as usize) == name.as_bytes() => return Some(Call(row)),
            _ => slot = (slot + 1) % SLOTS,
        }
    }
}

/// Returns the number of `call` on `abi`.
pub(crate) fn number_of(abi: &Abi, call: Call) -> Option<u32> {
    match TABLE.columns[abi.column as usize][call.0 as usize] {
        NO => None,
        private @ P.. => Some(ARM_PRIVATE + u32::from(private - P)),
        number => Some(abi.base + u32::from(number)),
    }
}

/// Twice the rows, rounded up to a power of two: a search ends after 1.5 slots on average.
const SLOTS: usize = 1024;

static TABLE: Table = Table::build();

/// The calls as the program carries them.
struct Table {
    /// All names, one after the other.
    text: [u8; TEXT],
    /// Where each name ends.
    ends: [u16; ROWS],
    /// The numbers, a column for each ABI.
    columns: [[u16; ROWS]; COLUMNS],
    /// What each call is to a multiplexer, or 0; see [`OPERATIONS`].
    operations: [u8; ROWS],
    /// Rows by the hash of their name, with linear probing.
    slots: [u16; SLOTS],
}

/// The length of all names.
const TEXT: usize = {
    let mut length = 0;
    let mut row = 0;
    while row < ROWS {
        length += NUMBERS[row].0.len();
        row += 1;
    }
    length
};

impl Table {
    const fn build() -> Self {
        let mut table = Self {
            text: [0; TEXT],
            ends: [0; ROWS],
            columns: [[NO; ROWS]; COLUMNS],
            operations: [0; ROWS],
            slots: [NO; SLOTS],
        };
        let mut end = 0;
        let mut row = 0;
        while row < ROWS {
            let (name, numbers) = &NUMBERS[row];
            let name = name.as_bytes();
            let mut at = 0;
            while at < name.len() {
                table.text[end] = name[at];
                end += 1;
                at += 1;
            }
            table.ends[row] = end as u16;
            let mut column = 0;
            while column < COLUMNS {
                table.columns[column][row] = numbers[column];
                column += 1;
            }
            let mut slot = hash(name) as usize % SLOTS;
            while table.slots[slot] != NO {
                slot = (slot + 1) % SLOTS;
            }
            table.slots[slot] = row as u16;
            row += 1;
        }
        let mut at = 0;
        while at < OPERATIONS.len() {
            let (name, code) = OPERATIONS[at];
            table.operations[table.row(name.as_bytes())] = code;
            at += 1;
        }
        table
    }

    /// Finds the row of a name that must be there, at build time.
    const fn row(&self, name: &[u8]) -> usize {
        let mut slot = hash(name) as usize % SLOTS;
        loop {
            let row = self.slots[slot] as usize;
            let candidate = NUMBERS[row].0.as_bytes();
            let mut at = 0;
            while at < name.len() && candidate.len() == name.len() && candidate[at] == name[at] {
                at += 1;
            }
            if at == name.len() && candidate.len() == at {
                return row;
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    fn bytes(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { usize::from(self.ends[row - 1]) };
        &self.text[start..usize::from(self.ends[row])]
    }

    fn name(&self, row: usize) -> &str {
        std::str::from_utf8(self.bytes(row)).unwrap_or_default()
    }
}

/// FNV-1a: short, good on short names, and possible at build time.
const fn hash(bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_unique() {
        for pair in NUMBERS.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} stands before {}", pair[0].0, pair[1].0);
        }
    }

    #[test]
    fn every_name_is_found_and_has_its_own_row() {
        for (row, (name, _)) in NUMBERS.iter().enumerate() {
            assert_eq!(find(name), Some(Call(row as u16)), "{name}");
        }
        for unknown in ["", "a", "openat3", "OPEN", "open ", "read\0"] {
            assert_eq!(find(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn no_two_calls_of_an_abi_share_a_number() {
        for column in 0..COLUMNS {
            let mut numbers: Vec<_> = NUMBERS.iter().map(|row| (row.1[column], row.0)).collect();
            numbers.retain(|&(number, _)| number != NO);
            numbers.sort_unstable();
            for pair in numbers.windows(2) {
                let alias = (pair[0].1, pair[1].1) == ("arm_sync_file_range", "sync_file_range2");
                assert!(pair[0].0 != pair[1].0 || alias, "{pair:?} in column {column}");
            }
        }
    }

    #[test]
    fn numbers_that_everybody_knows() {
        let cases = [
            (Arch::X86_64, "read", 0),
            (Arch::X86_64, "execve", 59),
            (Arch::X86_64, "clone3", 435),
            (Arch::X86, "execve", 11),
            (Arch::X86, "socketcall", 102),
            (Arch::X32, "execve", 0x4000_0208),
            (Arch::X32, "getpid", 0x4000_0027),
            (Arch::Aarch64, "execve", 221),
            (Arch::Arm, "cacheflush", 0x000f_0002),
            (Arch::Arm, "mmap2", 192),
            (Arch::Riscv64, "riscv_hwprobe", 258),
            (Arch::Ppc64le, "swapcontext", 249),
            (Arch::S390x, "mmap", 90),
            (Arch::Mips, "exit", 4001),
            (Arch::Mipsel64, "read", 5000),
            (Arch::Mips64N32, "read", 6000),
            (Arch::Parisc, "exit", 1),
            (Arch::M68k, "exit", 1),
            (Arch::Sheb, "exit", 1),
            (Arch::Loongarch64, "write", 64),
        ];
        for (arch, name, expected) in cases {
            assert_eq!(number(arch, name), Some(expected), "{name} on {arch}");
        }
        assert_eq!(name(Arch::X86_64, 435), Some("clone3"));
        assert_eq!(name(Arch::X86_64, 400), None);
    }

    #[test]
    fn new_calls_have_the_same_number_everywhere_but_on_mips_and_x32() {
        for (name, expected) in [("pidfd_open", 434), ("openat2", 437), ("futex_waitv", 449), ("mseal", 462)]
        {
            for &arch in Arch::ALL {
                assert_eq!(number(arch, name), Some(abi(arch).base + expected), "{name} on {arch}");
            }
        }
    }
}
