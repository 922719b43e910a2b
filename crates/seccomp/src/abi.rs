//! What the compiler must know of each architecture: how the kernel names it, and how its calls are numbered.

use bulkhead_spec::Arch;

use crate::tables::Column;

/// The architecture that this program is built for.
pub const NATIVE: Arch = native();

/// Marks the numbers of the x32 ABI, which shares its architecture with x86-64.
pub(crate) const X32_BIT: u32 = 1 << 30;

/// The order of the two halves of a 64-bit number in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteOrder {
    /// The lower half comes first.
    Little,
    /// The upper half comes first.
    Big,
}

/// One way to make system calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abi {
    /// The kernel's name of the architecture: `seccomp_data.arch`. x86-64 and x32 share one.
    pub(crate) audit: u32,
    /// The order of the halves of `seccomp_data.args`.
    pub(crate) order: ByteOrder,
    /// Whether all 64 bits of an argument are compared. On 32-bit ABIs, x32 included, the upper half is
    /// ignored, as under libseccomp.
    pub(crate) wide: bool,
    /// The numbers' column in the tables.
    pub(crate) column: Column,
    /// What is added to each number in the tables.
    pub(crate) base: u32,
    /// Whether sockets and System V IPC can also be reached through `socketcall` and `ipc`, whose first argument
    /// chooses the operation.
    pub(crate) multiplexed: bool,
}

/// Returns the value that `seccomp_data.arch` has for calls of `arch`: an `AUDIT_ARCH_*` constant of
/// `linux/audit.h`.
pub const fn audit_arch(arch: Arch) -> u32 {
    abi(arch).audit
}

/// Returns the facts of `arch`.
pub(crate) const fn abi(arch: Arch) -> Abi {
    use ByteOrder::{Big, Little};
    use Column as C;
    match arch {
        Arch::X86_64 => wide(62, Little, C::X86_64),
        Arch::X86 => narrow(3, Little, C::X86).multiplexed(),
        Arch::X32 => Abi { wide: false, ..wide(62, Little, C::X32).based(X32_BIT) },
        Arch::Arm => narrow(40, Little, C::Arm),
        Arch::Aarch64 => wide(183, Little, C::Aarch64),
        Arch::Loongarch64 => wide(258, Little, C::Loongarch64),
        Arch::M68k => narrow(4, Big, C::M68k).multiplexed(),
        Arch::Mips => narrow(8, Big, C::Mips).based(4000).multiplexed(),
        Arch::Mipsel => narrow(8, Little, C::Mips).based(4000).multiplexed(),
        Arch::Mips64 => wide(8, Big, C::Mips64).based(5000),
        Arch::Mipsel64 => wide(8, Little, C::Mips64).based(5000),
        Arch::Mips64N32 => mips_n32(Big),
        Arch::Mipsel64N32 => mips_n32(Little),
        Arch::Ppc => narrow(20, Big, C::Ppc).multiplexed(),
        Arch::Ppc64 => wide(21, Big, C::Ppc64).multiplexed(),
        Arch::Ppc64le => wide(21, Little, C::Ppc64).multiplexed(),
        Arch::S390 => narrow(22, Big, C::S390).multiplexed(),
        Arch::S390x => wide(22, Big, C::S390x).multiplexed(),
        Arch::Sh => narrow(42, Little, C::Sh).multiplexed(),
        Arch::Sheb => narrow(42, Big, C::Sh).multiplexed(),
        Arch::Parisc => narrow(15, Big, C::Parisc),
        Arch::Parisc64 => wide(15, Big, C::Parisc64),
        Arch::Riscv64 => wide(243, Little, C::Riscv64),
    }
}

impl Abi {
    const fn based(self, base: u32) -> Self {
        Self { base, ..self }
    }

    const fn multiplexed(self) -> Self {
        Self { multiplexed: true, ..self }
    }
}

/// Flags that `linux/audit.h` adds to a machine's number.
const AUDIT_64BIT: u32 = 0x8000_0000;
const AUDIT_LITTLE: u32 = 0x4000_0000;
const AUDIT_MIPS_N32: u32 = 0x2000_0000;

/// A 32-bit ABI of `machine`, an `EM_*` constant of `linux/elf-em.h`.
const fn narrow(machine: u32, order: ByteOrder, column: Column) -> Abi {
    let little = if matches!(order, ByteOrder::Little) { AUDIT_LITTLE } else { 0 };
    Abi { audit: machine | little, order, wide: false, column, base: 0, multiplexed: false }
}

/// A 64-bit ABI of `machine`.
const fn wide(machine: u32, order: ByteOrder, column: Column) -> Abi {
    let abi = narrow(machine, order, column);
    Abi { audit: abi.audit | AUDIT_64BIT, wide: true, ..abi }
}

/// MIPS with 64-bit registers and 32-bit pointers: a 64-bit architecture to the kernel, a 32-bit one to
/// libseccomp.
const fn mips_n32(order: ByteOrder) -> Abi {
    let abi = wide(8, order, Column::Mips64N32).based(6000);
    Abi { audit: abi.audit | AUDIT_MIPS_N32, wide: false, ..abi }
}

const fn native() -> Arch {
    if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
        Arch::X86_64
    } else if cfg!(target_arch = "x86_64") {
        Arch::X32
    } else if cfg!(target_arch = "x86") {
        Arch::X86
    } else if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else if cfg!(target_arch = "arm") {
        Arch::Arm
    } else if cfg!(target_arch = "riscv64") {
        Arch::Riscv64
    } else if cfg!(target_arch = "loongarch64") {
        Arch::Loongarch64
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        Arch::Ppc64le
    } else if cfg!(target_arch = "powerpc64") {
        Arch::Ppc64
    } else if cfg!(target_arch = "powerpc") {
        Arch::Ppc
    } else if cfg!(target_arch = "s390x") {
        Arch::S390x
    } else {
        panic!("this architecture has no tables of system calls yet: add it to abi.rs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_names_are_those_of_audit_h() {
        let expected = [
            (Arch::X86_64, 0xc000_003e),
            (Arch::X86, 0x4000_0003),
            (Arch::X32, 0xc000_003e),
            (Arch::Aarch64, 0xc000_00b7),
            (Arch::Arm, 0x4000_0028),
            (Arch::Riscv64, 0xc000_00f3),
            (Arch::Loongarch64, 0xc000_0102),
            (Arch::Ppc64le, 0xc000_0015),
            (Arch::Ppc64, 0x8000_0015),
            (Arch::Ppc, 0x0000_0014),
            (Arch::S390x, 0x8000_0016),
            (Arch::S390, 0x0000_0016),
            (Arch::Mips, 0x0000_0008),
            (Arch::Mipsel, 0x4000_0008),
            (Arch::Mips64, 0x8000_0008),
            (Arch::Mipsel64, 0xc000_0008),
            (Arch::Mips64N32, 0xa000_0008),
            (Arch::Mipsel64N32, 0xe000_0008),
            (Arch::Sh, 0x4000_002a),
            (Arch::Sheb, 0x0000_002a),
            (Arch::Parisc, 0x0000_000f),
            (Arch::Parisc64, 0x8000_000f),
            (Arch::M68k, 0x0000_0004),
        ];
        assert_eq!(expected.len(), Arch::ALL.len(), "every architecture is listed");
        for (arch, audit) in expected {
            assert_eq!(audit_arch(arch), audit, "{arch}");
        }
    }
}
