/* How fast the storage appends, beside what LMDB alone gives for the same work in the same run.
 *
 *   storage_bench [directory] [seconds per figure] [bytes] [in flight]
 *
 * For each record size a closed loop keeps N records in flight through the storage; then a bare
 * loop of LMDB transactions writes records of that size, as many in each as the storage had
 * on average. Full sync in both. Rounds alternate, because the disk's speed swings. */
#include <errno.h>
#include <lmdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "persistence/lmdb/storage_lmdb.h"

enum { ROUNDS = 10 };

struct figure { uint64_t records, bytes, commits; double seconds; };

static void bench_die(const char *what, const char *why) {
    fprintf(stderr, "storage_bench: %s: %s\n", what, why);
    exit(1);
}

static void bench_wake(void *arg) {
    uint64_t one = 1;
    if (write(*(int *)arg, &one, sizeof one) < 0 && errno != EAGAIN) {
        bench_die("wake", strerror(errno));
    }
}

static struct record *bench_record(uint64_t index, uint32_t payload_bytes) {
    struct record *r = record_new(payload_bytes);
    if (!r) bench_die("record", "no memory");
    memset(r->payload, (int)index, payload_bytes);
    r->header.index = index;
    r->header.term = 1;
    r->header.type = RECORD_BARRIER;
    r->header.payload_bytes = payload_bytes;
    return r;
}

/* Takes what is finished; sleeps when nothing is. Returns the newest durable index. */
static uint64_t bench_poll(struct storage *s, int wake_fd, uint64_t durable) {
    struct storage_event events[8];
    uint64_t unused;
    for (;;) {
        uint32_t n = s->ops->poll(s, events, 8);
        for (uint32_t i = 0; i < n; i++) {
            if (events[i].kind == STORAGE_APPENDED) durable = events[i].index;
        }
        if (n > 0) return durable;
        poll(&(struct pollfd){.fd = wake_fd, .events = POLLIN}, 1, 1000);
        if (read(wake_fd, &unused, sizeof unused) < 0 && errno != EAGAIN) {
            bench_die("wake", strerror(errno));
        }
    }
}

static struct figure bench_storage(const char *directory, uint32_t payload_bytes,
                                   uint32_t in_flight, double seconds) {
    char path[512], error[512], command[600];
    int wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct storage_stats stats;
    snprintf(path, sizeof path, "%s/storage", directory);
    struct storage *s = storage_lmdb_open(&(struct storage_lmdb_options){.directory = path}, error,
                                          sizeof error);
    if (!s) bench_die("open", error);
    s->wake = bench_wake;
    s->wake_arg = &wake_fd;
    uint64_t queued = 0, durable = 0;
    int64_t begin_ns = clock_mono_ns(), end_ns = begin_ns + (int64_t)(seconds * 1e9);
    while (clock_mono_ns() < end_ns) {
        while (queued < durable + in_flight) {
            queued++;
            s->ops->append(s, bench_record(queued, payload_bytes));
        }
        durable = bench_poll(s, wake_fd, durable);
    }
    double took = (double)(clock_mono_ns() - begin_ns) / 1e9;
    s->ops->stats(s, &stats);
    s->ops->close(s);
    close(wake_fd);
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) bench_die(path, "cannot be removed");
    return (struct figure){durable, durable * (payload_bytes + sizeof(struct record_header)),
                           stats.commits, took};
}

static void bench_check(int rc, const char *what) {
    if (rc != 0) bench_die(what, mdb_strerror(rc));
}

static struct figure bench_bare(const char *directory, uint32_t payload_bytes, uint32_t batch,
                                double seconds) {
    char path[512], command[600];
    uint32_t bytes = payload_bytes + (uint32_t)sizeof(struct record_header);
    void *data = malloc(bytes);
    if (!data) bench_die("bare loop", "no memory");
    memset(data, 7, bytes);
    MDB_env *env;
    snprintf(path, sizeof path, "%s/bare", directory);
    if (mkdir(path, 0700) != 0) bench_die(path, strerror(errno));
    bench_check(mdb_env_create(&env), "create");
    bench_check(mdb_env_set_mapsize(env, 64ULL << 30), "map");
    bench_check(mdb_env_open(env, path, MDB_NOTLS, 0600), "open");
    struct figure f = {0};
    int64_t begin_ns = clock_mono_ns(), end_ns = begin_ns + (int64_t)(seconds * 1e9);
    while (clock_mono_ns() < end_ns) {
        MDB_txn *txn;
        MDB_dbi table;
        bench_check(mdb_txn_begin(env, NULL, 0, &txn), "begin");
        bench_check(mdb_dbi_open(txn, NULL, 0, &table), "table");
        for (uint32_t i = 0; i < batch; i++) {
            uint64_t index_be = __builtin_bswap64(++f.records);
            MDB_val key = {8, &index_be}, value = {bytes, NULL};
            bench_check(mdb_put(txn, table, &key, &value, MDB_APPEND | MDB_RESERVE), "put");
            memcpy(value.mv_data, data, bytes);
        }
        bench_check(mdb_txn_commit(txn), "commit");
        f.commits++;
    }
    f.seconds = (double)(clock_mono_ns() - begin_ns) / 1e9;
    f.bytes = f.records * bytes;
    mdb_env_close(env);
    free(data);
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0) bench_die(path, "cannot be removed");
    return f;
}

static void bench_add(struct figure *sum, struct figure f) {
    sum->records += f.records;
    sum->bytes += f.bytes;
    sum->commits += f.commits;
    sum->seconds += f.seconds;
}

static void bench_size(const char *directory, uint32_t payload_bytes, uint32_t in_flight,
                       double seconds) {
    struct figure storage = {0}, bare = {0};
    for (int round = 0; round < ROUNDS; round++) {
        struct figure f = bench_storage(directory, payload_bytes, in_flight, seconds / ROUNDS);
        uint32_t batch = (uint32_t)((f.records + f.commits / 2) / (f.commits ? f.commits : 1));
        bench_add(&storage, f);
        bench_add(&bare, bench_bare(directory, payload_bytes, batch > 0 ? batch : 1,
                                    seconds / ROUNDS));
    }
    double storage_rate = (double)storage.records / storage.seconds;
    double bare_rate = (double)bare.records / bare.seconds;
    printf("%8u %9u %8.1f %10.0f %8.1f %10.0f %8.1f %7.2f\n", payload_bytes, in_flight,
           (double)storage.records / (double)storage.commits, storage_rate,
           (double)storage.bytes / storage.seconds / 1e6, bare_rate,
           (double)bare.bytes / bare.seconds / 1e6, storage_rate / bare_rate);
    fflush(stdout);
}

int main(int argc, char **argv) {
    char directory[256];
    double seconds = argc > 2 ? atof(argv[2]) : 6;
    snprintf(directory, sizeof directory, "%s/jumun-storage-bench-XXXXXX",
             argc > 1 ? argv[1] : "/tmp");
    if (seconds <= 0 || !mkdtemp(directory)) bench_die(directory, strerror(errno));
    printf("   bytes in_flight rec/txn  records/s     MB/s | bare rec/s     MB/s   ratio\n");
    if (argc > 4) {
        bench_size(directory, (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]), seconds);
        return rmdir(directory);
    }
    static const struct { uint32_t payload_bytes, in_flight; } sizes[] = {
        {4096, 1},   {4096, 16},  {4096, 128}, {65536, 1},  {65536, 4},
        {65536, 16}, {262144, 4}, {262144, 16}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bench_size(directory, sizes[i].payload_bytes, sizes[i].in_flight, seconds);
    }
    rmdir(directory);
    return 0;
}
