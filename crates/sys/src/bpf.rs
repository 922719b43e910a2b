//! bpf(2) for the device programs of cgroup v2: load, attach, replace, query, detach.
//!
//! A program of type BPF_PROG_TYPE_CGROUP_DEVICE is asked at every open and mknod of a device node by a member of
//! the cgroup it is attached to. It returns 1 to allow and 0 to refuse; all programs on the way to the root must
//! allow.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::syscall::check;
use crate::{Call, Error, Result};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_NEXT_ID: libc::c_int = 11;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;

const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// The most programs that the kernel attaches to one cgroup at one hook.
const PROGRAMS_MAX: usize = 64;

/// How often a load is repeated after EAGAIN, with which the verifier answers a pending signal.
const ATTEMPTS: usize = 30;

/// The bytes of verifier log that are kept for the error.
const LOG_SIZE: usize = 64 << 10;

/// The longest name of a program, with the NUL byte at its end.
const NAME_SIZE: usize = 16;

/// One eBPF instruction as the kernel reads it (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation code: class, operation, source.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Jump or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

/// How [`attach_device`] treats a program that is attached already.
#[derive(Debug, Clone, Copy)]
pub enum Attach<'a> {
    /// Adds the program beside all others.
    Beside,
    /// Puts the program atomically in the place of another one; Linux 5.6.
    Replacing(&'a OwnedFd),
}

#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; NAME_SIZE],
}

#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
struct InfoAttributes {
    program: u32,
    info_size: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`. What the kernel would write elsewhere has a length of 0.
#[repr(C)]
#[derive(Default)]
struct Info {
    program_type: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    places: [u64; 2],
    load_time: u64,
    maker: u32,
    map_count: u32,
    maps: u64,
    name: [u8; NAME_SIZE],
}

/// What tells a program from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    name: [u8; NAME_SIZE],
    /// The kernel's digest of its instructions.
    pub tag: [u8; 8],
}

impl Identity {
    /// Tells whether the program was loaded with this name.
    pub fn is_called(&self, name: &CStr) -> bool {
        self.name == padded(name)
    }
}

fn padded(name: &CStr) -> [u8; NAME_SIZE] {
    let mut padded = [0; NAME_SIZE];
    let length = name.count_bytes().min(NAME_SIZE - 1);
    padded[..length].copy_from_slice(&name.to_bytes()[..length]);
    padded
}

/// The fields behind `count` are not used, but Linux 6.17 to 7.1 write the last one whatever size they are told.
#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

/// Loads a device program, naming no GPL-only helper; see bpf(2), BPF_PROG_LOAD.
///
/// Of the name, of letters, digits, `_` and `.`, 15 bytes are kept.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN (or CAP_BPF), and before Linux 5.11 when RLIMIT_MEMLOCK is too small; EACCES or
/// EINVAL when the verifier refuses, with the end of its log in the error.
pub fn load_device_program(name: &CStr, instructions: &[Instruction]) -> Result<OwnedFd> {
    match load(name, instructions, &mut []) {
        Err(errno @ (Errno::ACCESS | Errno::INVAL)) => {
            let mut log = vec![0_u8; LOG_SIZE];
            load(name, instructions, &mut log).map_err(|_| refused(instructions, &log, errno))
        }
        result => result.call(|| format!("bpf(PROG_LOAD, {} instructions)", instructions.len())),
    }
}

fn load(name: &CStr, instructions: &[Instruction], log: &mut [u8]) -> std::result::Result<OwnedFd, Errno> {
    let attributes = LoadAttributes {
        program_type: TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(instructions.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(|_| Errno::TOOBIG)?,
        log_buffer: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kernel_version: 0,
        flags: 0,
        name: padded(name),
    };
    for _ in 0..ATTEMPTS {
        // SAFETY: the pointers in the attributes are to the live instructions, a static string and the exclusively
        // borrowed log, each with its true length.
        match unsafe { bpf(PROG_LOAD, &attributes) } {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(fd) => return Ok(owned(fd)),
        }
    }
    Err(Errno::AGAIN)
}

fn refused(instructions: &[Instruction], log: &[u8], errno: Errno) -> Error {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let last: Vec<&str> = text.lines().rev().take(3).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Error::new(format!("bpf(PROG_LOAD, {} instructions) [{}]", instructions.len(), last.join("; ")), errno)
}

/// Attaches a device program to a cgroup v2 directory, so that sub-cgroups may carry programs of their own.
///
/// # Errors
/// EBADF when `cgroup` is no cgroup v2 directory, EINVAL for [`Attach::Replacing`] before Linux 5.6, ENOENT when the
/// program to replace is not attached, EPERM when a parent forbids further programs.
pub fn attach_device(cgroup: impl AsFd, program: &OwnedFd, how: Attach<'_>) -> Result<()> {
    let (flags, replaced) = match how {
        Attach::Beside => (ALLOW_MULTI, 0),
        Attach::Replacing(old) => (ALLOW_MULTI | REPLACE, number(old.as_fd())),
    };
    let attributes = AttachAttributes {
        target: number(cgroup.as_fd()),
        program: number(program.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags,
        replaced,
    };
    // SAFETY: the attributes hold descriptors and numbers only.
    unsafe { bpf(PROG_ATTACH, &attributes) }.map(drop).call(|| format!("bpf(PROG_ATTACH, {how:?})"))
}

/// Detaches a device program from a cgroup.
///
/// # Errors
/// ENOENT when it is not attached.
pub fn detach_device(cgroup: impl AsFd, program: &OwnedFd) -> Result<()> {
    let attributes = AttachAttributes {
        target: number(cgroup.as_fd()),
        program: number(program.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    // SAFETY: the attributes hold descriptors and numbers only.
    unsafe { bpf(PROG_DETACH, &attributes) }.map(drop).call(|| "bpf(PROG_DETACH)")
}

/// Lists the ids of the device programs that are attached to the cgroup itself, not to its parents.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub fn attached_device_programs(cgroup: impl AsFd) -> Result<Vec<u32>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut attributes = QueryAttributes {
        target: number(cgroup.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        program_ids: ids.as_mut_ptr() as u64,
        count: PROGRAMS_MAX as u32,
        ..Default::default()
    };
    // SAFETY: the pointer is to the live array of `count` numbers; the kernel writes no more and sets `count`.
    unsafe { bpf_mut(PROG_QUERY, &mut attributes) }.map(drop).call(|| "bpf(PROG_QUERY)")?;
    let count = (attributes.count as usize).min(PROGRAMS_MAX);
    Ok(ids[..count].to_vec())
}

/// Lists the ids of the programs that are loaded on the machine, by whomever; at most 4096.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub fn loaded_programs() -> Result<Vec<u32>> {
    const MOST: usize = 4096;
    let mut ids = Vec::new();
    while ids.len() < MOST {
        // The id behind which to look, then the kernel's answer.
        let mut attributes = [ids.last().copied().unwrap_or(0), 0, 0];
        // SAFETY: the attributes are numbers only; the kernel writes the second one.
        match unsafe { bpf_mut(PROG_GET_NEXT_ID, &mut attributes) } {
            Ok(_) => ids.push(attributes[1]),
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(errno).call(|| "bpf(PROG_GET_NEXT_ID)"),
        }
    }
    Ok(ids)
}

/// Opens a loaded program by its id.
///
/// # Errors
/// ENOENT when it is gone, EPERM without CAP_SYS_ADMIN or when a security module forbids it.
pub fn program_by_id(id: u32) -> Result<OwnedFd> {
    // SAFETY: the attribute is one number.
    unsafe { bpf(PROG_GET_FD_BY_ID, &id) }.map(owned).call(|| format!("bpf(PROG_GET_FD_BY_ID, {id})"))
}

/// Asks who a loaded program is; see bpf(2), BPF_OBJ_GET_INFO_BY_FD.
///
/// # Errors
/// EBADF for what is no program.
pub fn identify(program: &OwnedFd) -> Result<Identity> {
    let mut info = Info::default();
    let attributes = InfoAttributes {
        program: number(program.as_fd()),
        info_size: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    // SAFETY: the pointer is to the live structure, of which the size is told; all lengths in it are 0, so that the
    // kernel follows no other pointer.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &attributes) }.map(drop).call(|| "bpf(OBJ_GET_INFO_BY_FD)")?;
    Ok(Identity { name: info.name, tag: info.tag })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    fd.as_raw_fd() as u32
}

/// # Safety
/// Every pointer in `attributes` is valid for what `command` reads or writes through it.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> std::result::Result<libc::c_long, Errno> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of the live attributes; what they point to, the caller vouches.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) })
}

/// # Safety
/// As [`bpf`]; the kernel may write into `attributes` itself.
unsafe fn bpf_mut<T>(command: libc::c_int, attributes: &mut T) -> std::result::Result<libc::c_long, Errno> {
    // SAFETY: the attributes are exclusively borrowed and as long as said; what they point to, the caller vouches.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) })
}

fn owned(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just returned this close-on-exec descriptor, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Tells whether the caller may load programs. The line goes past the capture of the test harness, so that a skip
    /// is never silent; testkit cannot be asked, since it is linked with this crate itself.
    fn may_load() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            drop(writeln!(std::io::stderr(), "skipped: loading a device program needs root"));
        }
        is_root
    }

    const fn instruction(code: u8, registers: u8, immediate: i32) -> Instruction {
        Instruction { code, registers, offset: 0, immediate }
    }

    #[test]
    fn an_instruction_has_the_layout_of_the_kernel() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(size_of::<QueryAttributes>(), 64);
        assert_eq!(size_of::<LoadAttributes>(), 64);
        assert_eq!((std::mem::offset_of!(Info, name), size_of::<Info>()), (64, 80));
    }

    #[test]
    fn a_refused_program_names_the_verifiers_reason() {
        if !may_load() {
            return;
        }
        // `exit` without a value in r0.
        let error = load_device_program(c"x", &[instruction(0x95, 0, 0)]).unwrap_err();
        assert!(error.to_string().contains("R0 !read_ok"), "the error shows the verifier's log: {error}");
    }

    #[test]
    fn a_program_that_always_allows_loads() {
        if !may_load() {
            return;
        }
        let allow = [instruction(0xb7, 0, 1), instruction(0x95, 0, 0)];
        let deny = [instruction(0xb7, 0, 0), instruction(0x95, 0, 0)];
        let load = |name, program| {
            let program = load_device_program(name, program).expect("r0 = number; exit is a valid program");
            identify(&program).expect("a program can be asked about")
        };
        let [one, same, other] =
            [(c"one", &allow), (c"another", &allow), (c"one", &deny)].map(|(n, p)| load(n, p));
        assert!(one.is_called(c"one") && same.is_called(c"another") && !same.is_called(c"one"));
        assert!(one.tag == same.tag && one.tag != other.tag, "the tag tells of the instructions");
    }
}
