// Stands in for bulkload: the same words, numbers that mean nothing.
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int count, char **words)
{
    char byte;
    if (count > 1 && strcmp(words[1], "ready") == 0) {
        if (write(1, "R", 1) != 1)
            return 1;
        while (read(0, &byte, 1) > 0)
            ;
        return 0;
    }
    if (count > 1 && strcmp(words[1], "hello") == 0)
        return write(1, "H", 1) != 1;
    if (count > 2 && strcmp(words[1], "hog") == 0) {
        // The parent of the first in a pid namespace is a runtime, which may end before it.
        if (getppid() != 0)
            prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct pollfd input = { .fd = 0, .events = POLLIN };
        clock_t begun = clock();
        if (write(1, "R", 1) != 1)
            return 1;
        while (poll(&input, 1, 0) == 0)
            ;
        double used = (double)(clock() - begun) / CLOCKS_PER_SEC;
        printf("{\"hog\":\"%s\",\"count\":9,\"seconds\":%f,\"cpu_seconds\":%f,\"most\":512,\"refused\":%d}\n",
               words[2], used, strcmp(words[2], "fork") == 0 ? 0.0 : used, strcmp(words[2], "files") != 0);
        return 0;
    }
    if (count > 2 && strcmp(words[1], "take") == 0) {
        printf("{\"take\":\"%s\",\"asked\":8,\"got\":8,\"unit\":\"\",\"call\":null}\n", words[2]);
        return 0;
    }
    if (count > 2 && strcmp(words[1], "probe") == 0) {
        usleep(10000);
        printf("{\"probe\":\"%s\",\"result\":\"refused\",\"errno\":1,\"call\":\"nothing\",\"read\":\"\"}\n", words[2]);
        return 0;
    }
    if (count > 2 && strcmp(words[1], "held") == 0) {
        raise(SIGSTOP);
        execvp(words[2], words + 2);
        return 1;
    }
    if (count > 1 && strcmp(words[1], "mix") == 0) {
        if (write(1, "R", 1) != 1 || read(0, &byte, 1) != 1)
            return 1;
        if (fork() == 0)
            _exit(getppid() == 1);
        wait(NULL);
        if (chdir("/tmp") != 0 || write(1, "D", 1) != 1)
            return 1;
        while (read(0, &byte, 1) > 0)
            ;
        return 0;
    }
    if (count > 2 && strcmp(words[1], "work") == 0) {
        int then = 0;
        for (int i = 3; i < count; i++)
            then |= strcmp(words[i], "--then-rate") == 0;
        usleep(10000);
        printf("{\"work\":\"%s\",\"count\":3,\"seconds\":0.01,\"rate\":300.0,\"loop\":\"%s\",\"missed\":0,"
               "\"latency_us\":{\"p50\":1.0,\"p90\":2.0,\"p99\":2.0,\"p999\":null,\"samples\":300}",
               words[2], strcmp(words[2], "timer") == 0 ? "open" : "closed");
        if (then)
            printf(",\"open\":{\"rate\":1.0,\"turns\":300,\"missed\":0,"
                   "\"latency_us\":{\"p50\":1.0,\"p90\":2.0,\"p99\":2.0,\"p999\":null,\"samples\":300}}");
        printf("}\n");
        return 0;
    }
    fprintf(stderr, "no such word\n");
    return 1;
}
