// Stands in for bulkload: the same words, numbers that mean nothing.
#include <stdio.h>
#include <string.h>
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
    if (count > 1 && strcmp(words[1], "nothing") == 0)
        return 0;
    if (count > 2 && strcmp(words[1], "work") == 0) {
        usleep(10000);
        printf("{\"work\":\"%s\",\"count\":3,\"seconds\":0.01,\"rate\":300.0,"
               "\"latency_us\":{\"p50\":1.0,\"p99\":2.0,\"p999\":null,\"samples\":3}}\n", words[2]);
        return 0;
    }
    fprintf(stderr, "no such word\n");
    return 1;
}
