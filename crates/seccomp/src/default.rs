//! The default profile: docker's policy as our own data.
//!
//! It is what moby's `profiles/seccomp` says as of June 2026, resolved as docker resolves it, by the architecture and
//! the capabilities of the container; kernels older than its rule for 4.8 are not supported anyway. It differs in one
//! place. Docker allows `socket` for families greater than `AF_VSOCK`, and means 41 to 45, but a filter compares 64
//! bits and the kernel uses 32: `socket(0x1_0000_0026, …)` is greater, is allowed, and is `AF_ALG`. We name the
//! families.

use bulkhead_spec::{Action, Arch, Operator, Seccomp, SeccompArg, SeccompSyscall};

use crate::NATIVE;

/// The capabilities that docker gives to a container, for which [`default_profile`] is made.
pub const DEFAULT_CAPABILITIES: &[&str] = &[
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Returns the default profile for this machine and [`DEFAULT_CAPABILITIES`].
pub fn default_profile() -> Seccomp {
    default_profile_for(NATIVE, DEFAULT_CAPABILITIES)
}

/// Returns the default profile for a machine of the architecture `native` and a container whose bounding set is
/// `capabilities`. Each capability opens the calls that are of use only with it.
pub fn default_profile_for(native: Arch, capabilities: &[&str]) -> Seccomp {
    let has = |capability: &str| capabilities.contains(&capability);
    let mut syscalls = vec![allow(ALWAYS)];
    syscalls.extend(SOCKET_FAMILIES.iter().map(|&(op, family)| allow_if("socket", 0, op, family)));
    syscalls.extend(PERSONALITIES.iter().map(|&persona| allow_if("personality", 0, Operator::Eq, persona)));
    let by_arch = BY_ARCHITECTURE.iter().filter(|(arches, _)| arches.contains(&native));
    syscalls.extend(by_arch.map(|(_, names)| allow(names)));
    let by_capability = BY_CAPABILITY.iter().filter(|(capability, _)| has(capability));
    syscalls.extend(by_capability.map(|(_, names)| allow(names)));
    if !has("CAP_SYS_ADMIN") {
        // The flags are the second argument on IBM Z.
        let flags = if matches!(native, Arch::S390 | Arch::S390x) { 1 } else { 0 };
        syscalls.push(allow_if("clone", flags, Operator::MaskedEq, NEW_NAMESPACES));
        // Its flags lie in memory. Programs that get ENOSYS use clone instead.
        syscalls.push(SeccompSyscall { errno_ret: Some(ENOSYS), action: Action::Errno, ..allow("clone3") });
    }
    Seccomp {
        default_action: Action::Errno,
        default_errno_ret: Some(EPERM),
        architectures: beside(native).to_vec(),
        flags: None,
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Allows calls, named with blanks between them.
fn allow(names: &str) -> SeccompSyscall {
    let names = names.split_ascii_whitespace().map(str::to_owned).collect();
    SeccompSyscall { names, action: Action::Allow, errno_ret: None, args: Vec::new() }
}

/// Allows a call if an argument meets a condition.
fn allow_if(name: &str, index: u32, op: Operator, value: u64) -> SeccompSyscall {
    SeccompSyscall { args: vec![SeccompArg { index, value, value_two: 0, op }], ..allow(name) }
}

/// Lists the architectures whose programs run on a kernel of `native`, itself included.
fn beside(native: Arch) -> &'static [Arch] {
    match native {
        Arch::X86_64 => &[Arch::X86_64, Arch::X86, Arch::X32],
        Arch::Aarch64 => &[Arch::Aarch64, Arch::Arm],
        Arch::S390x => &[Arch::S390x, Arch::S390],
        Arch::Mips64 => &[Arch::Mips64, Arch::Mips, Arch::Mips64N32],
        Arch::Mips64N32 => &[Arch::Mips64N32, Arch::Mips, Arch::Mips64],
        Arch::Mipsel64 => &[Arch::Mipsel64, Arch::Mipsel, Arch::Mipsel64N32],
        Arch::Mipsel64N32 => &[Arch::Mipsel64N32, Arch::Mipsel, Arch::Mipsel64],
        Arch::Riscv64 => &[Arch::Riscv64],
        Arch::Loongarch64 => &[Arch::Loongarch64],
        _ => &[],
    }
}

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID` and `NEWNET`.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// All socket families but `AF_ALG` (38) and `AF_VSOCK` (40), whose kernel code is large and seldom used.
const SOCKET_FAMILIES: [(Operator, u64); 7] = [
    (Operator::Lt, 38),
    (Operator::Eq, 39),
    (Operator::Eq, 41),
    (Operator::Eq, 42),
    (Operator::Eq, 43),
    (Operator::Eq, 44),
    (Operator::Eq, 45),
];

/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question what it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const BY_ARCHITECTURE: &[(&[Arch], &str)] = &[
    (&[Arch::Ppc64le], "sync_file_range2 swapcontext"),
    (
        &[Arch::Arm, Arch::Aarch64],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&[Arch::X86_64, Arch::X32], "arch_prctl"),
    (&[Arch::X86_64, Arch::X32, Arch::X86], "modify_ldt"),
    (&[Arch::S390, Arch::S390x], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (&[Arch::Riscv64], "riscv_flush_icache"),
];

const BY_CAPABILITY: &[(&str, &str)] = &[
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
];

/// What every container may call. `ptrace` and its kin are among them because since 4.8 a tracer can no longer undo
/// a filter's decision.
const ALWAYS: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod
    chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range
    creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
    epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents
    getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid
    getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat
    mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
    pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom
    recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall
    socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range
    syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink
    unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
    writev
    process_vm_readv process_vm_writev ptrace
";
