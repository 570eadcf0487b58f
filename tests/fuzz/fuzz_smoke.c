/* Runs a harness over a folder of examples and over many mutations of them, always the same ones
 * for the same seed. Every input lies right before a page that cannot be read.
 *
 *   HARNESS FOLDER [ROUNDS [SEED]]        0 = nothing found
 *   HARNESS --must-crash FOLDER [...]     0 = the harness crashed, as a canary must */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fuzz/fuzz_harness.h"

enum { SMOKE_INPUT_BYTES_MAX = 1 << 16, SMOKE_SEEDS_MAX = 256, SMOKE_ROUNDS = 1000000 };

struct smoke_seed {
    uint8_t *data;
    size_t size;
};

static struct smoke_seed smoke_seeds[SMOKE_SEEDS_MAX];
static size_t smoke_seeds_count;
static uint8_t *smoke_guard; /* the page that cannot be read */
static uint64_t smoke_state;

/* What a crash report needs. */
static const uint8_t *smoke_input;
static size_t smoke_input_size;
static unsigned long smoke_round;

static uint64_t smoke_random(void) { /* splitmix64 */
    uint64_t z = (smoke_state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static void smoke_crashed(int signal_number) {
    char text[128];
    int n = snprintf(text, sizeof text, "\nsignal %d in round %lu, input of %zu bytes:\n",
                     signal_number, smoke_round, smoke_input_size);
    if (write(2, text, (size_t)n) < 0) _exit(3);
    for (size_t i = 0; i < smoke_input_size && i < 4096; i++) {
        n = snprintf(text, sizeof text, "%02x%s", smoke_input[i], i % 32 == 31 ? "\n" : " ");
        if (write(2, text, (size_t)n) < 0) _exit(3);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void smoke_run(const uint8_t *data, size_t size) {
    /* 8-byte aligned, as the memory is that real callers have; at most 7 bytes from the guard. */
    uint8_t *at = smoke_guard - ((size + 7) & ~(size_t)7);
    if (size % 8 != 0 && smoke_random() % 2 == 0) at = smoke_guard - size;
    memcpy(at, data, size);
    smoke_input = at;
    smoke_input_size = size;
    LLVMFuzzerTestOneInput(at, size);
}

static size_t smoke_mutate_once(uint8_t *data, size_t size) {
    static const uint8_t telling[] = {0x00, 0x01, 0x7f, 0x80, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1,
                                      0xc4, 0xc6, 0xca, 0xcf, 0xd3, 0xd9, 0xdb, 0xdc, 0xdd, 0xdf,
                                      0xe0, 0xff};
    size_t at = size != 0 ? smoke_random() % size : 0;
    const struct smoke_seed *other = &smoke_seeds[smoke_random() % smoke_seeds_count];
    size_t n;
    switch (smoke_random() % 8) {
    case 0: if (size != 0) data[at] ^= (uint8_t)(1 << smoke_random() % 8); return size;
    case 1: if (size != 0) data[at] = (uint8_t)smoke_random(); return size;
    case 2: if (size != 0) data[at] = telling[smoke_random() % sizeof telling]; return size;
    case 3: return at; /* cut */
    case 4: /* take out */
        n = smoke_random() % (size - at + 1);
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 5: /* put in */
        n = 1 + smoke_random() % 8;
        if (size + n > SMOKE_INPUT_BYTES_MAX) return size;
        memmove(data + at + n, data + at, size - at);
        memset(data + at, (int)telling[smoke_random() % sizeof telling], n);
        return size + n;
    case 6: /* a number of 4 bytes */
        if (size - at < 4) return size;
        n = (size_t)(smoke_random() >> (32 + smoke_random() % 32));
        memcpy(data + at, &n, 4);
        return size;
    default: /* the rest of another one */
        n = other->size != 0 ? smoke_random() % other->size : 0;
        if (at + n > SMOKE_INPUT_BYTES_MAX) return size;
        memcpy(data + at, other->data + (other->size - n), n);
        return at + n;
    }
}

static void smoke_load(const char *folder) {
    DIR *d = opendir(folder);
    if (d == NULL) {
        fprintf(stderr, "%s: cannot be read\n", folder);
        exit(2);
    }
    for (struct dirent *e; (e = readdir(d)) != NULL && smoke_seeds_count < SMOKE_SEEDS_MAX;) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        FILE *in = e->d_name[0] != '.' ? fopen(path, "rb") : NULL;
        if (in == NULL) continue;
        struct smoke_seed *seed = &smoke_seeds[smoke_seeds_count++];
        seed->data = malloc(SMOKE_INPUT_BYTES_MAX);
        if (seed->data == NULL) exit(2);
        seed->size = fread(seed->data, 1, SMOKE_INPUT_BYTES_MAX, in);
        fclose(in);
    }
    closedir(d);
    if (smoke_seeds_count == 0) {
        fprintf(stderr, "%s: no examples\n", folder);
        exit(2);
    }
}

static int smoke_by_size(const void *a, const void *b) {
    const struct smoke_seed *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? -1 : 1;
    return memcmp(x->data, y->data, x->size);
}

static void smoke_all(unsigned long rounds, uint64_t seed) {
    static uint8_t data[SMOKE_INPUT_BYTES_MAX];
    smoke_state = seed;
    /* The order of a folder is not the same everywhere. */
    qsort(smoke_seeds, smoke_seeds_count, sizeof *smoke_seeds, smoke_by_size);
    for (size_t i = 0; i < smoke_seeds_count; i++) smoke_run(smoke_seeds[i].data,
                                                            smoke_seeds[i].size);
    smoke_run(data, 0);
    for (smoke_round = 1; smoke_round <= rounds; smoke_round++) {
        const struct smoke_seed *from = &smoke_seeds[smoke_random() % smoke_seeds_count];
        size_t size = from->size;
        memcpy(data, from->data, size);
        for (unsigned n = 1 + smoke_random() % 4; n > 0; n--) size = smoke_mutate_once(data, size);
        smoke_run(data, size);
    }
    printf("%zu examples, %lu mutations, seed %llu: nothing found\n", smoke_seeds_count, rounds,
           (unsigned long long)seed);
}

static int smoke_must_crash(unsigned long rounds, uint64_t seed) {
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) return 2;
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        smoke_all(rounds, seed);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child) return 2;
    /* A sanitizer ends the process with a status instead of a signal. */
    bool crashed = WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0);
    fprintf(stderr, crashed ? "the canary was found\n" : "the canary was NOT found\n");
    return crashed ? 0 : 1;
}

int main(int argc, char **argv) {
    bool must_crash = argc > 1 && strcmp(argv[1], "--must-crash") == 0;
    argv += must_crash;
    argc -= must_crash;
    if (argc < 2) {
        fprintf(stderr, "usage: %s [--must-crash] FOLDER [ROUNDS [SEED]]\n", argv[0]);
        return 2;
    }
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : SMOKE_ROUNDS;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *room = mmap(NULL, SMOKE_INPUT_BYTES_MAX + page, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return 2;
    smoke_guard = room + SMOKE_INPUT_BYTES_MAX;
    if (mprotect(smoke_guard, page, PROT_NONE) != 0) return 2;
    smoke_load(argv[1]);
    if (must_crash) return smoke_must_crash(rounds, seed);
    signal(SIGSEGV, smoke_crashed);
    signal(SIGABRT, smoke_crashed);
    smoke_all(rounds, seed);
    return 0;
}
