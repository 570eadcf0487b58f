/* The least that threads which wait for one durable answer each can cost when their questions
 * travel together: what any engine behind nng pays, with nothing of an engine in it.
 *
 *   callers_probe DIR [THREADS] [GROUPS] [SECONDS] [apart]
 *
 * THREADS (64) sleeping threads of one process, in GROUPS (1). The last one of a group to ask sends
 * one nng REQ message for all of it over TCP; another process writes so much into a file in DIR
 * with O_DSYNC (a file for each group) and answers; the answer's callback wakes the group as the
 * client library does, 32 threads with one call. Nothing is encoded, decoded, looked up or checked.
 * `apart`: each process keeps to one half of the processors. Prints answers a second, and how long
 * a round takes in which each thread gets one.
 *
 * Exit codes: 0 measured, 1 something could not be set up, 2 usage. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "tests/lib/ports.h"

enum {
    THREADS_MAX = 1024, GROUPS_MAX = 16, PER_WORD = 32,
    /* Of a command in its message, its result in the answer, its events in the log: what
     * jumun-bench's take on the average. */
    QUESTION_BYTES = 68, ANSWER_BYTES = 7, RECORD_BYTES = 140,
    BLOCK = 4096, FILE_BYTES = 32 << 20
};

static long threads_count = 64, groups_count = 1, seconds = 3;
static const char *directory;
static bool apart;

static void fail(const char *what, const char *why) {
    fprintf(stderr, "callers_probe: %s: %s\n", what, why);
    exit(1);
}

static void check_nng(int rc, const char *what) {
    if (rc != 0) fail(what, nng_strerror(rc));
}

static uint32_t group_threads(void) { return (uint32_t)(threads_count / groups_count); }

/* Before any thread is started: nng's are to follow. */
static void keep_to_half(int half) {
    cpu_set_t all, mine;
    int found = 0;
    if (!apart || sched_getaffinity(0, sizeof all, &all) != 0) return;
    CPU_ZERO(&mine);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all) && found++ * 2 / CPU_COUNT(&all) == half) CPU_SET(i, &mine);
    if (CPU_COUNT(&mine) > 0) sched_setaffinity(0, sizeof mine, &mine);
}

/* -- the other process ------------------------------------------------------------------------- */

struct server { uint32_t group; uint16_t port; };

static int open_file(uint32_t group) {
    char path[4096];
    snprintf(path, sizeof path, "%s/callers-%u", directory, group);
    void *block = calloc(1, 1 << 20);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !block) fail(path, strerror(errno));
    for (int at = 0; at < FILE_BYTES; at += 1 << 20) /* so that later writes change no metadata */
        if (write(fd, block, 1 << 20) != 1 << 20) fail(path, strerror(errno));
    if (fsync(fd) != 0) fail(path, strerror(errno));
    close(fd);
    free(block);
    fd = open(path, O_RDWR | O_DSYNC | O_DIRECT | O_CLOEXEC);
    if (fd < 0) fd = open(path, O_RDWR | O_DSYNC | O_CLOEXEC);
    if (fd < 0) fail(path, strerror(errno));
    unlink(path);
    return fd;
}

static void *serve(void *arg) {
    const struct server *s = arg;
    size_t bytes = (group_threads() * (size_t)RECORD_BYTES + BLOCK - 1) / BLOCK * BLOCK;
    uint8_t *frame = aligned_alloc(BLOCK, bytes);
    int fd = open_file(s->group);
    off_t at = 0;
    nng_socket socket;
    char url[64];
    if (!frame) fail("memory", strerror(ENOMEM));
    memset(frame, 1, bytes);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", s->port);
    check_nng(nng_rep0_open(&socket), "open");
    check_nng(nng_listen(socket, url, NULL, 0), url);
    for (;;) {
        nng_msg *question, *answer;
        check_nng(nng_recvmsg(socket, &question, 0), "receive");
        nng_msg_free(question);
        if (pwrite(fd, frame, bytes, at) != (ssize_t)bytes) fail("write", strerror(errno));
        at = at + 2 * (off_t)bytes <= FILE_BYTES ? at + (off_t)bytes : 0;
        check_nng(nng_msg_alloc(&answer, group_threads() * (size_t)ANSWER_BYTES), "answer");
        check_nng(nng_sendmsg(socket, answer, 0), "send");
    }
    return NULL;
}

static void server_main(uint16_t port) {
    static struct server servers[GROUPS_MAX];
    pthread_t thread;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    keep_to_half(1);
    for (uint32_t g = 0; g < groups_count; g++) {
        servers[g] = (struct server){g, (uint16_t)(port + g)};
        if (pthread_create(&thread, NULL, serve, &servers[g]) != 0) fail("thread", "none");
    }
    for (;;) pause();
}

/* -- the process with the callers -------------------------------------------------------------- */

static struct group {
    _Alignas(64) _Atomic uint32_t asked;
    struct { _Alignas(64) _Atomic uint32_t round; } words[THREADS_MAX / PER_WORD];
    nng_socket socket;
    nng_ctx ctx;
    nng_aio *aio;
    bool receiving;
} groups[GROUPS_MAX];
static atomic_bool stop;
static _Alignas(64) atomic_ulong answered;

static void group_send(struct group *g) {
    nng_msg *question;
    check_nng(nng_msg_alloc(&question, group_threads() * (size_t)QUESTION_BYTES), "question");
    g->receiving = false;
    nng_aio_set_msg(g->aio, question);
    nng_ctx_send(g->ctx, g->aio);
}

static void group_on_aio(void *arg) {
    struct group *g = arg;
    check_nng(nng_aio_result(g->aio), "exchange");
    if (!g->receiving) {
        g->receiving = true;
        nng_ctx_recv(g->ctx, g->aio);
        return;
    }
    nng_msg_free(nng_aio_get_msg(g->aio));
    atomic_fetch_add_explicit(&answered, group_threads(), memory_order_relaxed);
    atomic_store(&g->asked, 0);
    for (uint32_t w = 0; w * PER_WORD < group_threads(); w++) {
        atomic_fetch_add(&g->words[w].round, 1);
        syscall(SYS_futex, &g->words[w].round, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL,
                FUTEX_BITSET_MATCH_ANY);
    }
}

static void *caller(void *arg) {
    uint32_t number = (uint32_t)(uintptr_t)arg;
    struct group *g = &groups[number / group_threads()];
    uint32_t place = number % group_threads();
    _Atomic uint32_t *word = &g->words[place / PER_WORD].round;
    for (uint32_t seen = 0; !atomic_load(&stop); seen++) {
        if (atomic_fetch_add(&g->asked, 1) + 1 == group_threads()) group_send(g);
        while (atomic_load(word) == seen)
            syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, NULL, NULL,
                    1u << place % PER_WORD);
    }
    return NULL;
}

static void group_open(struct group *g, uint16_t port) {
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%u", port);
    check_nng(nng_req0_open(&g->socket), "open");
    check_nng(nng_aio_alloc(&g->aio, group_on_aio, g), "open");
    for (int tries = 0;; tries++) {
        int rc = nng_dial(g->socket, url, NULL, 0);
        if (rc == 0) break;
        if (tries == 1000) fail(url, nng_strerror(rc));
        nng_msleep(10);
    }
    check_nng(nng_ctx_open(&g->ctx, g->socket), "open");
}

static long number_of(int argc, char **argv, int i, long otherwise) {
    return argc > i ? strtol(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv) {
    threads_count = number_of(argc, argv, 2, threads_count);
    groups_count = number_of(argc, argv, 3, groups_count);
    seconds = number_of(argc, argv, 4, seconds);
    apart = argc == 6 && strcmp(argv[5], "apart") == 0;
    if (argc < 2 || argc > 6 || (argc == 6 && !apart) || threads_count < 1 ||
        threads_count > THREADS_MAX || groups_count < 1 || groups_count > GROUPS_MAX ||
        threads_count % groups_count != 0 || seconds < 1) {
        fputs("usage: callers_probe DIR [THREADS] [GROUPS] [SECONDS] [apart]\n", stderr);
        return 2;
    }
    directory = argv[1];
    uint16_t port = ports_pick((int)groups_count);
    pid_t server = fork();
    if (server < 0) fail("fork", strerror(errno));
    if (server == 0) server_main(port);
    keep_to_half(0);
    for (uint32_t g = 0; g < groups_count; g++) group_open(&groups[g], (uint16_t)(port + g));
    pthread_t thread;
    for (long i = 0; i < threads_count; i++)
        if (pthread_create(&thread, NULL, caller, (void *)(uintptr_t)i) != 0)
            fail("thread", "cannot be started");
    nng_msleep(500);
    unsigned long before = atomic_load(&answered);
    int64_t begin_ns = clock_mono_ns();
    nng_msleep((nng_duration)seconds * 1000);
    double rate = (double)(atomic_load(&answered) - before) * 1e9 /
                  (double)(clock_mono_ns() - begin_ns);
    printf("%ld threads in %ld groups%s: %.0f answers/s, a round %.0f us\n", threads_count,
           groups_count, apart ? ", apart" : "", rate, (double)threads_count / rate * 1e6);
    fflush(stdout);
    kill(server, SIGKILL);
    _exit(0); /* the callers are in the middle of their questions */
}
