// Runs a command a number of times, one after the other, and prints what that took as one line of JSON.
//
// usage: stopwatch REPEATS SECONDS COMMAND [ARGUMENT...]
//
// A program of its own and not a part of xtask, because the peak memory that the kernel reports for a child
// includes what its parent had at the time of the exec; this one has next to nothing. The command's output goes to
// /dev/null, its complaints stay. A run that is not over after SECONDS is killed with its process group.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile pid_t running;

static void give_up(int signal) {
    (void)signal;
    if (running > 0) kill(-running, SIGKILL);
}

static double now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static double ms(struct timeval time) { return time.tv_sec * 1e3 + time.tv_usec / 1e3; }

int main(int argc, char **argv) {
    if (argc < 4) {
        fputs("usage: stopwatch REPEATS SECONDS COMMAND [ARGUMENT...]\n", stderr);
        return 2;
    }
    int repeats = atoi(argv[1]);
    int seconds = atoi(argv[2]);
    signal(SIGALRM, give_up);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    double wall = 0, user = 0, system = 0;
    long peak = 0;
    int status = 0;
    for (int run = 0; run < repeats && status == 0; run++) {
        struct rusage usage;
        double start = now_ms();
        pid_t child = vfork();
        if (child == 0) {
            setpgid(0, 0);
            dup2(null, 0);
            dup2(null, 1);
            execvp(argv[3], argv + 3);
            _exit(127);
        }
        if (child < 0) {
            perror("vfork");
            return 2;
        }
        running = child;
        alarm(seconds);
        while (wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
        }
        wall += now_ms() - start;
        alarm(0);
        running = 0;
        user += ms(usage.ru_utime);
        system += ms(usage.ru_stime);
        if (usage.ru_maxrss > peak) peak = usage.ru_maxrss;
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    int killer = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    printf("{\"wall_ms\":%.4f,\"user_ms\":%.3f,\"system_ms\":%.3f,\"peak_kib\":%ld,\"code\":%d,\"signal\":%d}\n", wall,
           user, system, peak, code, killer);
    return 0;
}
