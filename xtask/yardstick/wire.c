// Measures what a way between two hosts carries: a server, and a client that asks it.
//
// usage: wire serve PORT
//        wire ask ADDRESS PORT MILLISECONDS
//
// The server has one client at a time. The first byte of a connection says what it is for: 'e', every further byte is sent back;
// 's', all is read until its end, and then one byte answers; 'g', zeros are sent until nobody reads any more.
//
// The client measures one after the other, each for so many milliseconds: bytes per second of a single stream there and of one back,
// the median time from a byte sent to its echo over a connection that stays, and how many times per second a connection is made,
// used for one byte and its echo, and closed. It prints them as one line of JSON.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 1 << 17, ROUNDS = 1 << 20 };

static char block[BLOCK];
static double rounds[ROUNDS];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void at_once(int socket) {
    int on = 1;
    if (setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) fail("TCP_NODELAY");
}

static void answer(int client) {
    char what;
    ssize_t got;
    if (read(client, &what, 1) != 1) return;
    switch (what) {
    case 'e':
        while ((got = read(client, block, BLOCK)) > 0)
            if (write(client, block, got) != got) return;
        return;
    case 's':
        while (read(client, block, BLOCK) > 0) {}
        if (write(client, "", 1) != 1) return;
        return;
    case 'g':
        while (write(client, block, BLOCK) > 0) {}
        return;
    }
}

static _Noreturn void serve(const char *port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (listener < 0) fail("socket");
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on)) fail("SO_REUSEADDR");
    if (bind(listener, (struct sockaddr *)&any, sizeof any)) fail("bind");
    if (listen(listener, 64)) fail("listen");
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        at_once(client);
        answer(client);
        close(client);
    }
}

static struct sockaddr_in server;

static int join(char what) {
    int joined = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (joined < 0) fail("socket");
    if (connect(joined, (struct sockaddr *)&server, sizeof server)) fail("connect");
    at_once(joined);
    if (write(joined, &what, 1) != 1) fail("write");
    return joined;
}

// Without a state of the port that waits for minutes, of which there would be tens of thousands.
static void part(int joined) {
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    setsockopt(joined, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    close(joined);
}

static void bounce(int joined) {
    char byte = 'x';
    if (write(joined, &byte, 1) != 1) fail("write");
    if (read(joined, &byte, 1) != 1) fail("read an echo");
}

static double sent(double seconds) {
    int joined = join('s');
    double begin = now(), bytes = 0;
    while (now() - begin < seconds) {
        ssize_t put = write(joined, block, BLOCK);
        if (put <= 0) fail("send a stream");
        bytes += put;
    }
    shutdown(joined, SHUT_WR);
    // All of it has arrived.
    if (read(joined, block, 1) != 1) fail("read the answer to a stream");
    double rate = bytes / (now() - begin);
    close(joined);
    return rate;
}

static double received(double seconds) {
    int joined = join('g');
    double begin = now(), bytes = 0;
    while (now() - begin < seconds) {
        ssize_t got = read(joined, block, BLOCK);
        if (got <= 0) fail("receive a stream");
        bytes += got;
    }
    double rate = bytes / (now() - begin);
    part(joined);
    return rate;
}

static int by_size(const void *left, const void *right) {
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static double round_trip(double seconds) {
    int joined = join('e');
    int count = 0;
    bounce(joined);
    for (double begin = now(), last = begin; last - begin < seconds && count < ROUNDS; count++) {
        bounce(joined);
        double end = now();
        rounds[count] = end - last;
        last = end;
    }
    part(joined);
    qsort(rounds, count, sizeof *rounds, by_size);
    return rounds[count / 2];
}

static double connections(double seconds) {
    double begin = now(), count = 0;
    for (; now() - begin < seconds; count++) {
        int joined = join('e');
        bounce(joined);
        part(joined);
    }
    return count / (now() - begin);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && !strcmp(argv[1], "serve")) serve(argv[2]);
    if (argc != 5 || strcmp(argv[1], "ask")) {
        fputs("usage: wire serve PORT | wire ask ADDRESS PORT MILLISECONDS\n", stderr);
        return 2;
    }
    server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    if (inet_pton(AF_INET, argv[2], &server.sin_addr) != 1) {
        fprintf(stderr, "%s is no address\n", argv[2]);
        return 2;
    }
    double seconds = atoi(argv[4]) / 1e3;
    // A server that hangs is a failure.
    alarm(4 * seconds + 10);
    double there = sent(seconds), back = received(seconds), trip = round_trip(seconds);
    printf("{\"sent\":%.0f,\"received\":%.0f,\"round_trip\":%.9f,\"connections\":%.1f}\n", there, back, trip,
           connections(seconds));
    return 0;
}
