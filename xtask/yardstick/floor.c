// The floor: what a docker-like container costs when nothing but the kernel's own work is done, in a straight line.
//
// usage: floor ROOT NAME FILTER CONFIG STATE HIERARCHY[=CONTROLLERS]...
//
// ROOT holds the image, NAME is the cgroup's, FILTER a compiled filter (an array of struct sock_filter), CONFIG a file
// that is read as a runtime would, STATE an existing directory. Each HIERARCHY is the directory of a cgroup v1
// hierarchy below /sys/fs/cgroup, with its controllers where the name does not say them; without any, cgroup v2 is
// mounted at /sys/fs/cgroup itself.
//
// It is a yardstick and no example: no argument is checked, nothing is undone on failure, no path is safe, the binary
// is not protected. Any failure ends it with a code other than zero.

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_HIERARCHIES 16
#define COUNT(array) (sizeof(array) / sizeof *(array))
#define FIXED (MS_NOSUID | MS_NOEXEC | MS_NODEV)

static void die(const char *doing) {
    perror(doing);
    _exit(111);
}

#define MUST(call) ({ __typeof__(call) must_be = (call); if (must_be < 0) die(#call); must_be; })

static char **hierarchies;
static int hierarchy_count;
static int joins[MOST_HIERARCHIES];
static int unified = -1;

static void put(int directory, const char *file, const char *value) {
    int fd = MUST(openat(directory, file, O_WRONLY | O_CLOEXEC));
    MUST(write(fd, value, strlen(value)));
    close(fd);
}

static int exists(int directory, const char *file) { return faccessat(directory, file, F_OK, 0) == 0; }

static void allow_devices(int directory) {
    static const char *rules[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",   "c 1:8 rwm",
                                  "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm"};
    put(directory, "devices.deny", "a");
    int fd = MUST(openat(directory, "devices.allow", O_WRONLY | O_CLOEXEC));
    for (size_t i = 0; i < COUNT(rules); i++) MUST(pwrite(fd, rules[i], strlen(rules[i]), 0));
    close(fd);
}

// A new cpuset has no CPUs; it takes those of its parent.
static void inherit(int directory, const char *file) {
    char parent[64], value[256];
    snprintf(parent, sizeof parent, "../%s", file);
    int fd = MUST(openat(directory, parent, O_RDONLY | O_CLOEXEC));
    int length = MUST(read(fd, value, sizeof value - 1));
    close(fd);
    value[length] = 0;
    put(directory, file, value);
}

static void make_cgroups(const char *name) {
    char path[512];
    for (int i = 0; i < hierarchy_count; i++) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/%.*s/%s", (int)strcspn(hierarchies[i], "="), hierarchies[i], name);
        MUST(mkdir(path, 0755));
        int fd = MUST(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (exists(fd, "pids.max")) put(fd, "pids.max", "512");
        if (exists(fd, "devices.deny")) allow_devices(fd);
        if (exists(fd, "memory.limit_in_bytes")) put(fd, "memory.limit_in_bytes", "536870912");
        if (exists(fd, "cpuset.cpus")) {
            inherit(fd, "cpuset.cpus");
            inherit(fd, "cpuset.mems");
        }
        if (exists(fd, "cpu.shares")) {
            put(fd, "cpu.shares", "1024");
            put(fd, "cpu.cfs_period_us", "100000");
            put(fd, "cpu.cfs_quota_us", "100000");
        }
        joins[i] = MUST(openat(fd, "tasks", O_WRONLY | O_CLOEXEC));
        close(fd);
    }
    if (hierarchy_count == 0) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
        MUST(mkdir(path, 0755));
        unified = MUST(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (exists(unified, "pids.max")) put(unified, "pids.max", "512");
        if (exists(unified, "memory.max")) put(unified, "memory.max", "536870912");
        if (exists(unified, "cpu.max")) put(unified, "cpu.max", "100000 100000");
    }
}

static void remove_cgroups(const char *name) {
    char path[512];
    for (int i = 0; i < hierarchy_count; i++) {
        close(joins[i]);
        snprintf(path, sizeof path, "/sys/fs/cgroup/%.*s/%s", (int)strcspn(hierarchies[i], "="), hierarchies[i], name);
        MUST(rmdir(path));
    }
    if (hierarchy_count == 0) {
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
        MUST(rmdir(path));
    }
}

static void mount_cgroups(void) {
    char path[256];
    if (hierarchy_count == 0) {
        MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", FIXED | MS_RDONLY, 0));
        return;
    }
    MUST(mount("tmpfs", "sys/fs/cgroup", "tmpfs", FIXED, "mode=755"));
    for (int i = 0; i < hierarchy_count; i++) {
        const char *equals = strchr(hierarchies[i], '=');
        snprintf(path, sizeof path, "sys/fs/cgroup/%.*s", (int)strcspn(hierarchies[i], "="), hierarchies[i]);
        MUST(mkdir(path, 0755));
        MUST(mount("cgroup", path, "cgroup", FIXED, equals ? equals + 1 : hierarchies[i]));
        MUST(mount(0, path, 0, FIXED | MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
    }
    MUST(mount(0, "sys/fs/cgroup", 0, FIXED | MS_REMOUNT | MS_BIND | MS_RDONLY, 0));
}

static void mount_everything(const char *root) {
    MUST(mount(0, "/", 0, MS_REC | MS_SLAVE, 0));
    MUST(mount(root, root, 0, MS_BIND | MS_REC, 0));
    MUST(chdir(root));
    MUST(mount("proc", "proc", "proc", FIXED, 0));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    MUST(mkdir("dev/pts", 0755));
    MUST(mkdir("dev/shm", 0755));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    MUST(mount("shm", "dev/shm", "tmpfs", FIXED, "mode=1777,size=65536k"));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", FIXED, 0));
    MUST(mount("sysfs", "sys", "sysfs", FIXED | MS_RDONLY, 0));
    mount_cgroups();
}

static void make_devices(void) {
    static const struct { const char *path; int major, minor; } nodes[] = {
        {"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
        {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
    };
    static const char *links[][2] = {
        {"/proc/self/fd", "dev/fd"},       {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
        {"/proc/self/fd/2", "dev/stderr"}, {"/proc/kcore", "dev/core"},      {"pts/ptmx", "dev/ptmx"},
    };
    mode_t umasked = umask(0);
    for (size_t i = 0; i < COUNT(nodes); i++)
        MUST(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
    umask(umasked);
    for (size_t i = 0; i < COUNT(links); i++) MUST(symlink(links[i][0], links[i][1]));
}

static void mask(void) {
    static const char *hidden[] = {
        "/proc/acpi",          "/proc/asound",      "/proc/interrupts", "/proc/kcore",
        "/proc/keys",          "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
        "/proc/timer_list",    "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
    };
    static const char *fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    for (size_t i = 0; i < COUNT(hidden); i++) {
        struct stat status;
        if (stat(hidden[i], &status) < 0) continue;
        if (S_ISDIR(status.st_mode)) MUST(mount("tmpfs", hidden[i], "tmpfs", MS_RDONLY, "size=0"));
        else MUST(mount("/dev/null", hidden[i], 0, MS_BIND, 0));
    }
    for (size_t i = 0; i < COUNT(fixed); i++) {
        if (mount(fixed[i], fixed[i], 0, MS_BIND | MS_REC, 0) < 0) continue;
        MUST(mount(0, fixed[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | FIXED, 0));
    }
}

static void bring_up_loopback(void) {
    int fd = MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
    strcpy(request.ifr_name, "lo");
    MUST(ioctl(fd, SIOCSIFFLAGS, &request));
    close(fd);
}

// The filter comes first: without noNewPrivileges, loading it needs a capability that is dropped afterwards.
static void restrict_self(struct sock_fprog *filter) {
    static const int kept[] = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31};
    unsigned long long set = 0;
    for (size_t i = 0; i < COUNT(kept); i++) set |= 1ull << kept[i];
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, filter));
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        if (!(set >> capability & 1)) MUST(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{set, set, 0}, {set >> 32, set >> 32, 0}};
    MUST(syscall(SYS_capset, &header, data));
}

static _Noreturn void be_the_container(const char *root, struct sock_fprog *filter) {
    MUST(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
    for (int i = 0; i < hierarchy_count; i++) MUST(write(joins[i], "0", 1));
    MUST(unshare(CLONE_NEWCGROUP));
    MUST(setsid());
    bring_up_loopback();
    mount_everything(root);
    make_devices();
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
    mask();
    MUST(sethostname("bulkhead", 8));
    struct rlimit files = {1024, 1024};
    MUST(setrlimit(RLIMIT_NOFILE, &files));
    restrict_self(filter);
    MUST(syscall(SYS_close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */));
    char *arguments[] = {"/bin/true", 0}, *environment[] = {"PATH=/bin", "HOME=/root", 0};
    execve(arguments[0], arguments, environment);
    die("execve");
    __builtin_unreachable();
}

static void write_state(int directory, pid_t pid) {
    char text[64];
    int length = snprintf(text, sizeof text, "{\"pid\":%d}", pid);
    int fd = MUST(openat(directory, "state.new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    MUST(write(fd, text, length));
    close(fd);
    MUST(renameat(directory, "state.new", directory, "state.json"));
}

int main(int argc, char **argv) {
    if (argc < 6 || argc - 6 > MOST_HIERARCHIES) return 2;
    const char *root = argv[1], *name = argv[2];
    hierarchies = argv + 6;
    hierarchy_count = argc - 6;
    static struct sock_filter instructions[4096];
    int fd = MUST(open(argv[3], O_RDONLY | O_CLOEXEC));
    struct sock_fprog filter = {MUST(read(fd, instructions, sizeof instructions)) / sizeof *instructions, instructions};
    close(fd);
    static char config[65536];
    fd = MUST(open(argv[4], O_RDONLY | O_CLOEXEC));
    MUST(read(fd, config, sizeof config));
    close(fd);
    int states = MUST(open(argv[5], O_PATH | O_DIRECTORY | O_CLOEXEC));
    MUST(mkdirat(states, name, 0700));
    int state = MUST(openat(states, name, O_PATH | O_DIRECTORY | O_CLOEXEC));
    make_cgroups(name);

    int pidfd = -1;
    struct clone_args clone = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_PIDFD | CLONE_VFORK,
        .exit_signal = SIGCHLD,
        .pidfd = (unsigned long)&pidfd,
    };
    if (unified >= 0) {
        clone.flags |= CLONE_INTO_CGROUP;
        clone.cgroup = unified;
    }
    pid_t child = MUST(syscall(SYS_clone3, &clone, sizeof clone));
    if (child == 0) be_the_container(root, &filter);

    write_state(state, child);
    int status;
    MUST(waitpid(child, &status, 0));
    remove_cgroups(name);
    MUST(unlinkat(state, "state.json", 0));
    MUST(unlinkat(states, name, AT_REMOVEDIR));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 112;
}
