/* How fast a shard's log is read and folded, against LMDB's own sequential reading of the same
 * environments.
 *
 *   replay_bench SHARD_DIRECTORY [ROUNDS] [fold]
 *
 * Times of the thread on its core, so that a busy machine does not count. Each round, one thread,
 * warm page cache: a bare LMDB cursor over all rows that touches every cache
 * line of every value; the same log by log_cursor (every page and record checked); the fold as
 * `verify` does it (every event judged and applied, invariants after each). Medians, ratios, and
 * the best round, which neighbours disturbed least. "fold" leaves all else out, for a profiler. */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "clients/replay/fold.h"

enum { ROUNDS_MAX = 99 };

/* Of this thread on its core. */
static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t touched;

/* Bytes of all values. */
static uint64_t bare_segment(const char *path) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t bytes = 0, sum = 0;
    if (mdb_env_create(&env) != 0 || mdb_env_open(env, path, MDB_RDONLY, 0) != 0 ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0 ||
        mdb_dbi_open(txn, NULL, 0, &table) != 0 || mdb_cursor_open(txn, table, &cursor) != 0) {
        fprintf(stderr, "replay_bench: %s cannot be read\n", path);
        exit(1);
    }
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        const uint8_t *at = value.mv_data;
        for (size_t i = 0; i < value.mv_size; i += 64) sum += at[i];
        bytes += value.mv_size;
    }
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    touched += sum;
    return bytes;
}

static uint64_t bare(const struct log_source *s) {
    const struct log_source_segment *list;
    uint32_t count = log_source_segments(s, &list);
    uint64_t bytes = 0;
    char path[1100];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", log_source_directory(s), list[i].name);
        bytes += bare_segment(path);
    }
    return bytes;
}

static uint64_t read_all(struct log_source *s, bool checked) {
    struct log_item item;
    enum log_step step;
    uint64_t bytes = 0;
    struct log_cursor *c = log_cursor_open(s, 1, UINT64_MAX, checked);
    while ((step = log_cursor_next(c, &item)) != LOG_END) {
        if (step == LOG_RECORD) bytes += sizeof *item.header + item.header->payload_bytes;
    }
    log_cursor_close(c);
    return bytes;
}

static uint64_t fold_all(struct log_source *s, uint32_t shard, uint64_t memory_bytes_max,
                         uint64_t *faults) {
    struct log_item item;
    enum log_step step;
    const struct fold_options options = {.shard = shard, .memory_bytes_max = memory_bytes_max};
    struct fold *f = fold_open(&options);
    struct log_cursor *c = log_cursor_open(s, 1, UINT64_MAX, true);
    while ((step = log_cursor_next(c, &item)) != LOG_END) fold_take(f, step, &item);
    uint64_t events = f->events;
    *faults += f->faults;
    log_cursor_close(c);
    fold_close(f);
    return events;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Leaves them sorted: values[0] is the best round. */
static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[count / 2];
}

static void line(const char *what, double *seconds, int rounds, double bytes, double base) {
    double s = median(seconds, rounds);
    printf("%-42s %7.3f s  %7.0f MiB/s  %5.2f of bare LMDB  best %7.3f s\n", what, s,
           bytes / s / (1 << 20), base / s, seconds[0]);
}

static void rate(double *seconds, int rounds, double events) {
    double s = median(seconds, rounds);
    printf("fold: %.0f events/s, best round %.0f\n", events / s, events / seconds[0]);
}

struct times { double bare[ROUNDS_MAX], pages[ROUNDS_MAX], checked[ROUNDS_MAX], fold[ROUNDS_MAX]; };

static uint64_t round_take(struct log_source *s, uint32_t shard, bool fold_only, struct times *took,
                           int i, uint64_t *faults) {
    double t0 = now_s();
    if (!fold_only) bare(s);
    double t1 = now_s();
    if (!fold_only) read_all(s, false);
    double t2 = now_s();
    if (!fold_only) read_all(s, true);
    double t3 = now_s();
    uint64_t events = fold_all(s, shard, 0, faults);
    took->bare[i] = t1 - t0;
    took->pages[i] = t2 - t1;
    took->checked[i] = t3 - t2;
    took->fold[i] = now_s() - t3;
    return events;
}

int main(int argc, char **argv) {
    static struct times took;
    char error[512];
    if (argc < 2) {
        fprintf(stderr, "usage: replay_bench SHARD_DIRECTORY [ROUNDS] [fold]\n");
        return 2;
    }
    int rounds = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 5;
    bool fold_only = argc > 3 && strcmp(argv[3], "fold") == 0;
    if (rounds < 1 || rounds > ROUNDS_MAX) return 2;
    struct log_source *s = log_source_open(argv[1], error, sizeof error);
    if (!s) {
        fprintf(stderr, "replay_bench: %s\n", error);
        return 1;
    }
    const char *dash = strrchr(argv[1], '-');
    uint32_t shard = dash ? (uint32_t)strtoul(dash + 1, NULL, 10) : 0;
    uint64_t bytes = bare(s), events = 0, faults = 0;
    for (int i = 0; i < rounds; i++) {
        events = round_take(s, shard, fold_only, &took, i, &faults);
    }
    double base = median(took.bare, rounds);
    printf("%.0f MiB in %llu events, %d rounds\n", (double)bytes / (1 << 20),
           (unsigned long long)events, rounds);
    if (!fold_only) {
        line("LMDB's cursor, every cache line touched", took.bare, rounds, (double)bytes, base);
        line("log_cursor, pages checked", took.pages, rounds, (double)bytes, base);
        line("log_cursor, records' checksums too", took.checked, rounds, (double)bytes, base);
        line("fold, every event judged and applied", took.fold, rounds, (double)bytes, base);
    }
    rate(took.fold, rounds, (double)events);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("resident at most %ld MiB; faults %llu (%llu)\n", usage.ru_maxrss / 1024,
           (unsigned long long)faults, (unsigned long long)(touched & 1));
    log_source_close(s);
    return faults ? 1 : 0;
}
