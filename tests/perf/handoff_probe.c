/* What it costs to hand an answer to a thread that sleeps for it, and nothing else.
 *
 *   handoff_probe [THREADS] [SECONDS]
 *
 * One thread ends a round for THREADS sleeping ones (64) as the client library does: one wake for
 * 32 of them. Each notes its answer, puts its next question on a list without a lock, and sleeps
 * again; the last one wakes the first thread. No message, no engine, no encoding: whatever serves
 * callers that are threads costs this and more. Prints CPU time and time of a hand-off.
 *
 * Exit codes: 0 measured, 1 a thread could not be started, 2 usage. */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 1024, PER_WORD = 32 };

static struct { _Alignas(64) _Atomic uint32_t round; } words[THREADS_MAX / PER_WORD];
static _Alignas(64) _Atomic uint32_t questions, all_asked;
static atomic_bool stop;
static uint32_t threads_count = 64;

static void sleep_on(_Atomic uint32_t *word, uint32_t seen, uint32_t bit) {
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, seen, NULL, NULL, bit);
}

static void wake(_Atomic uint32_t *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL,
            FUTEX_BITSET_MATCH_ANY);
}

static void *asker(void *arg) {
    uint32_t number = (uint32_t)(uintptr_t)arg;
    _Atomic uint32_t *word = &words[number / PER_WORD].round;
    for (uint32_t seen = 0; !atomic_load(&stop); seen++) {
        if (atomic_fetch_add(&questions, 1) + 1 == threads_count) {
            atomic_store(&questions, 0);
            atomic_fetch_add(&all_asked, 1);
            wake(&all_asked);
        }
        while (atomic_load(word) == seen) sleep_on(word, seen, 1u << number % PER_WORD);
    }
    return NULL;
}

static int64_t cpu_ns(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return ((int64_t)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
           ((int64_t)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void answer_all(void) {
    for (uint32_t w = 0; w * PER_WORD < threads_count; w++) {
        atomic_fetch_add(&words[w].round, 1);
        wake(&words[w].round);
    }
}

int main(int argc, char **argv) {
    long threads = argc > 1 ? strtol(argv[1], NULL, 10) : 64;
    long seconds = argc > 2 ? strtol(argv[2], NULL, 10) : 2;
    if (argc > 3 || threads < 1 || threads > THREADS_MAX || seconds < 1) {
        fputs("usage: handoff_probe [THREADS] [SECONDS]\n", stderr);
        return 2;
    }
    static pthread_t ids[THREADS_MAX];
    threads_count = (uint32_t)threads;
    for (uint32_t i = 0; i < threads_count; i++)
        if (pthread_create(&ids[i], NULL, asker, (void *)(uintptr_t)i) != 0) return 1;
    int64_t begin_ns = now_ns(), begin_cpu_ns = cpu_ns();
    uint32_t rounds = 0;
    while (!atomic_load(&stop)) {
        while (atomic_load(&all_asked) == rounds)
            sleep_on(&all_asked, rounds, FUTEX_BITSET_MATCH_ANY);
        rounds++;
        if (now_ns() - begin_ns > seconds * 1000000000) atomic_store(&stop, true);
        answer_all();
    }
    double handoffs = (double)rounds * (double)threads_count;
    printf("%u threads: %.2f us of CPU a hand-off, %.0f hand-offs/s\n", threads_count,
           (double)(cpu_ns() - begin_cpu_ns) / handoffs / 1e3,
           handoffs * 1e9 / (double)(now_ns() - begin_ns));
    for (uint32_t i = 0; i < threads_count; i++) pthread_join(ids[i], NULL);
    return 0;
}
