//! Keeping the running program's file out of the reach of containers (CVE-2019-5736).
//!
//! A container can make the runtime execute `/proc/self/exe`, which is the runtime's own file while the container's
//! process is being set up, and then try to open that file for writing. The program is therefore executed again from
//! a detached clone of its mount that is read-only: whatever leads to the file from inside leads through that mount.
//!
//! Read-only is not enough: to try to open a file for writing makes it busy for the moment that the kernel needs to find
//! the mount read-only, and who executes the file in that moment, anywhere, fails with ETXTBSY. So that no container can
//! keep hold of the file, the mount loses the right to execute as soon as the program has begun; then neither path nor
//! script nor ELF interpreter makes a process of a container from it.
//!
//! Executing a program twice costs twice. Most of the price of a start is the C library's, so the first execution
//! ends before that: [`entry`] is the first instruction of the process, makes four system calls and never returns
//! from the last; in the second execution it makes three. Only the verbs that put a process into a container need it; for
//! all others it does nothing.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, SealFlags, StatVfsMountFlags};

use crate::{Call, Result};

/// Where a process finds its own file.
const SELF: &str = "/proc/self/exe";

/// Tells whether nobody can write to this program's file through `/proc/PID/exe`.
///
/// That is so on a read-only mount, and for a sealed memory file.
///
/// # Errors
/// As open(2) of `/proc/self/exe`.
pub fn is_up() -> Result<bool> {
    #[cfg(target_arch = "x86_64")]
    if x86_64::SEEN_UP.load(std::sync::atomic::Ordering::Relaxed) {
        return Ok(true);
    }
    let file = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({SELF:?})"))?;
    let found = rustix::fs::fstatvfs(&file).call(|| format!("fstatvfs({SELF:?})"))?;
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    Ok(rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// Tells whether the caller could write to this program's file at all.
pub fn is_needed() -> bool {
    rustix::fs::access(SELF, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Opens this program on a read-only mount that is attached nowhere.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN, ENOSYS before Linux 5.12.
pub fn on_read_only_mount() -> Result<OwnedFd> {
    use crate::mount::{Attributes, Reach, attribute, clone_tree, set_attributes};
    let tree = clone_tree(rustix::fs::CWD, SELF.as_ref(), Reach::Mount)?;
    set_attributes(tree.as_fd(), Attributes::new(attribute::RDONLY, 0), Reach::Mount)?;
    Ok(tree)
}

/// Copies this program into a memory file that can never change again.
///
/// # Errors
/// ENOMEM, or ENOSYS without memfd_create(2).
pub fn in_sealed_memory() -> Result<OwnedFd> {
    use rustix::fs::MemfdFlags;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = rustix::fs::memfd_create("bulkrun", flags).call(|| "memfd_create(\"bulkrun\")")?;
    let program = rustix::fs::open(SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({SELF:?})"))?;
    loop {
        match rustix::fs::sendfile(&copy, &program, None, 1 << 30).call(|| "sendfile(memory, program)")? {
            0 => break,
            _ => continue,
        }
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(copy.as_fd(), seals).call(|| "fcntl(memory, F_ADD_SEALS)")?;
    Ok(copy)
}

#[cfg(target_arch = "x86_64")]
pub use x86_64::entry;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    #![expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "before the C library starts there is nothing but raw pointers, and one argument holds for each walk"
    )]

    use std::arch::{asm, naked_asm};
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Whether the shield found the program on a read-only mount.
    pub(super) static SEEN_UP: AtomicBool = AtomicBool::new(false);

    const AT_FDCWD: usize = -100_isize as usize;
    const AT_EMPTY_PATH: usize = 0x1000;
    /// The second execution inherits the descriptor.
    const OPEN_TREE_CLONE: usize = 1;
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const MOUNT_ATTR_NOEXEC: u64 = 8;
    const AT_NULL: usize = 0;
    const AT_EXECFN: usize = 31;
    const ST_RDONLY: u64 = 1;
    /// Where `f_flags` lies in struct statfs, in words of 8 bytes.
    const F_FLAGS: usize = 10;

    unsafe extern "C" {
        /// Where the C library's start-up begins.
        fn _start() -> !;
    }

    /// The first instruction of the process (`-Wl,-e` in the build script of bulkrun).
    ///
    /// Hands the initial stack to [`shield`], then starts the program as if nothing had been.
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    pub(super) extern "C" fn bulkhead_entry() -> ! {
        // At entry the kernel guarantees rsp and rdx (the dynamic linker's exit function); both survive, since r12 is
        // preserved by a call and the call leaves rsp as it was.
        naked_asm!(
            "xor ebp, ebp",
            "mov r12, rdx",
            "mov rdi, rsp",
            "call {shield}",
            "mov rdx, r12",
            "jmp {start}",
            shield = sym shield,
            start = sym _start,
        )
    }

    /// Keeps the entry in the program although nothing calls it.
    #[used]
    static ENTRY: extern "C" fn() -> ! = bulkhead_entry;

    /// Returns the entry, so that a program which links this crate has it.
    pub fn entry() -> extern "C" fn() -> ! {
        ENTRY
    }

    /// Executes the program again from a read-only mount, or returns when that is not needed or not possible.
    ///
    /// Runs before relocation: it may use no static data but by addresses relative to the code, and no library.
    extern "C" fn shield(stack: *const usize) {
        // SAFETY: the kernel has put argc, the arguments and a null pointer, the environment and a null pointer on the
        // initial stack, which `stack` points to; see the System V ABI, "Process Initialization".
        unsafe {
            let count = *stack;
            let arguments = stack.add(1);
            let environment = arguments.add(count + 1);
            if !names_a_verb(arguments, count) {
                return;
            }
            let tree = handed_down(environment);
            if let Some(tree) = tree
                && is_attached_nowhere()
                && restrict(tree, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC)
            {
                SEEN_UP.store(true, Ordering::Relaxed);
                call(libc::SYS_close, [tree, 0, 0, 0, 0]);
                return;
            }
            let program = c"/proc/self/exe".as_ptr() as usize;
            let mut filesystem = [0_u64; 15];
            if call(libc::SYS_statfs, [program, filesystem.as_mut_ptr() as usize, 0, 0, 0]) != 0 {
                return;
            }
            // Also a file on a read-only mount could be executed by a container. Who was executed by a descriptor stays as
            // it is, so that nobody is executed for ever.
            if tree.is_some() && filesystem[F_FLAGS] & ST_RDONLY != 0 {
                SEEN_UP.store(true, Ordering::Relaxed);
                return;
            }
            let tree = call(libc::SYS_open_tree, [AT_FDCWD, program, OPEN_TREE_CLONE, 0, 0]);
            if tree < 0 {
                return;
            }
            let tree = tree as usize;
            if restrict(tree, MOUNT_ATTR_RDONLY) {
                let (empty, arguments, environment) =
                    (c"".as_ptr() as usize, arguments as usize, environment as usize);
                call(libc::SYS_execveat, [tree, empty, arguments, environment, AT_EMPTY_PATH]);
            }
            call(libc::SYS_close, [tree, 0, 0, 0, 0]);
        }
    }

    /// Returns the descriptor of the mount from which the first execution has started this one.
    ///
    /// A program that is executed by its descriptor N is called `/dev/fd/N` by the kernel, which says so behind the
    /// environment.
    unsafe fn handed_down(environment: *const usize) -> Option<usize> {
        // SAFETY: behind the null pointer of the environment the kernel has put pairs of a type and a value, the last of
        // which is of type AT_NULL; the value of AT_EXECFN is a C string.
        unsafe {
            let mut auxiliary = environment;
            while *auxiliary != 0 {
                auxiliary = auxiliary.add(1);
            }
            auxiliary = auxiliary.add(1);
            while *auxiliary != AT_EXECFN {
                if *auxiliary == AT_NULL {
                    return None;
                }
                auxiliary = auxiliary.add(2);
            }
            let mut name = *auxiliary.add(1) as *const u8;
            let mut prefix = c"/dev/fd/".as_ptr().cast::<u8>();
            while *prefix != 0 {
                if *name != *prefix {
                    return None;
                }
                (name, prefix) = (name.add(1), prefix.add(1));
            }
            let mut descriptor = 0_usize;
            while (*name).is_ascii_digit() {
                descriptor = descriptor.wrapping_mul(10).wrapping_add(usize::from(*name - b'0'));
                name = name.add(1);
            }
            if *name == 0 { Some(descriptor) } else { None }
        }
    }

    /// Tells whether the program is the root of a mount that is attached nowhere: the kernel knows no more of its path. A
    /// file that the host has as a mount of its own has one, whoever executes it by whatever descriptor.
    unsafe fn is_attached_nowhere() -> bool {
        let program = c"/proc/self/exe".as_ptr() as usize;
        let mut path = [0_u8; 2];
        // SAFETY: the path is a C string, and the kernel writes no more than the two bytes that there are.
        let length =
            unsafe { call(libc::SYS_readlink, [program, path.as_mut_ptr() as usize, path.len(), 0, 0]) };
        // The second is of " (deleted)".
        (length == 1 || length == 2 && path[1] == b' ') && path[0] == b'/'
    }

    /// Sets attributes of a mount; fails unless the descriptor is of a mount's root.
    unsafe fn restrict(tree: usize, attributes: u64) -> bool {
        // struct mount_attr.
        let attributes: [u64; 4] = [attributes, 0, 0, 0];
        let (empty, attributes) = (c"".as_ptr() as usize, attributes.as_ptr() as usize);
        // SAFETY: the path is a C string, and the attributes have the length that is told.
        unsafe { call(libc::SYS_mount_setattr, [tree, empty, AT_EMPTY_PATH, attributes, 32]) == 0 }
    }

    /// Tells whether one of the arguments is a verb that needs the shield.
    ///
    /// Each verb is named on its own: a table of them would hold addresses, which are not relocated yet.
    unsafe fn names_a_verb(arguments: *const usize, count: usize) -> bool {
        let mut index = 1;
        while index < count {
            // SAFETY: `arguments` has `count` pointers to C strings, and the verbs are C strings too.
            let is_verb = unsafe {
                let argument = *arguments.add(index) as *const u8;
                equal(argument, c"run".as_ptr().cast())
                    || equal(argument, c"create".as_ptr().cast())
                    || equal(argument, c"exec".as_ptr().cast())
            };
            if is_verb {
                return true;
            }
            index += 1;
        }
        false
    }

    /// Compares two C strings.
    unsafe fn equal(one: *const u8, other: *const u8) -> bool {
        let mut index = 0;
        loop {
            // SAFETY: all bytes before were equal and none was the last, so both strings go on.
            let (left, right) = unsafe { (*one.add(index), *other.add(index)) };
            if left != right {
                return false;
            }
            if left == 0 {
                return true;
            }
            index += 1;
        }
    }

    /// Makes a system call; a negative value is an error.
    unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
        let result: isize;
        // SAFETY: the caller passes what the call expects; the kernel changes rax, rcx and r11 only.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number as isize => result,
                in("rdi") arguments[0],
                in("rsi") arguments[1],
                in("rdx") arguments[2],
                in("r10") arguments[3],
                in("r8") arguments[4],
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result
    }
}
