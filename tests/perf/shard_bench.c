/* One shard without sockets: requests of the usual mix go straight into its mailbox, its work is
 * done on this thread, its log is LMDB with full sync. Shows what rules, turns and log cost before
 * the wire is added; meant to be run under perf.
 *
 *   shard_bench DIRECTORY [seconds] [commands a request] [requests in flight] [end]
 *
 * `end` "kill" leaves like a process that is killed: only the log is stored. 0 seconds only apply
 * that log again, tell the CPU time of an event, and leave in the same way. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/shard/shard.h"
#include "persistence/lmdb/storage_lmdb.h"

enum { LIVE = 100000, STEPS = 6 };

struct load_order { struct id128 key; uint8_t step; bool busy; };

struct load_request {
    struct request request;
    struct request_part part;
    struct load_order **orders;
    struct load_request *next;
};

static struct load_order orders[LIVE];
static struct load_request *idle;
static uint64_t answered, wrong, random_state = 88172645463325252ULL;
static const struct order_line lines[3] = {
    {{"menu-001", 8}, {"bibimbap", 8}, 1, 9500},
    {{"menu-002", 8}, {"kimchi", 6}, 2, 3000},
    {{"menu-003", 8}, {"soju", 4}, 1, 5000}};

static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void random_id(struct id128 *id) {
    uint64_t a = random_next(), b = random_next();
    memcpy(id->bytes, &a, 8);
    memcpy(id->bytes + 8, &b, 8);
}

static void new_key(struct id128 *key, int64_t now_ms) {
    random_id(key);
    for (int i = 0; i < 6; i++) key->bytes[i] = (uint8_t)(now_ms >> (40 - 8 * i));
}

static void fill(struct command *c, struct load_order *o, int64_t now_ms) {
    static const uint8_t kinds[STEPS] = {COMMAND_PLACE, COMMAND_PAY, COMMAND_ACCEPT,
                                         COMMAND_ASSIGN_RIDER, COMMAND_PICK_UP, COMMAND_DELIVER};
    *c = (struct command){.kind = kinds[o->step]};
    if (o->step == 0) new_key(&o->key, now_ms);
    c->subject = o->key;
    random_id(&c->id);
    if (o->step == 0)
        c->place = (struct command_place){
            .fulfilment = FULFILMENT_PLATFORM_DELIVERY, .payment_timing = PAYMENT_PREPAID,
            .currency = "KRW", .store = {"store-0001", 10}, .customer = {"customer-1", 10},
            .lines = lines, .lines_count = 3, .fees = 3000, .total = 23500};
    else if (o->step == 1)
        c->pay = (struct command_pay){PAYMENT_CAPTURED, {"card", 4}, {"payment-1", 9}, 23500};
    else if (o->step == 3)
        c->assign_rider.rider = bytes_of_text("rider-0001");
}

static void on_done(struct request *r) {
    struct load_request *l = (struct load_request *)(void *)r;
    for (uint32_t i = 0; i < r->commands_count; i++) {
        struct load_order *o = l->orders[i];
        if (r->results[i].code != RESULT_OK || r->results[i].version != (uint32_t)o->step + 1) {
            if (wrong++ == 0)
                fprintf(stderr, "step %u: %s, version %u\n", o->step,
                        result_code_text(r->results[i].code), r->results[i].version);
            o->step = 0;
        } else {
            o->step = (uint8_t)((o->step + 1) % STEPS);
        }
        o->busy = false;
    }
    answered += r->commands_count;
    l->next = idle;
    idle = l;
}

static void send(struct shard *shard, struct load_request *l, int64_t now_ms) {
    struct request *r = &l->request;
    for (uint32_t i = 0; i < r->commands_count; i++) {
        struct load_order *o;
        do {
            o = &orders[random_next() % LIVE];
        } while (o->busy);
        o->busy = true;
        l->orders[i] = o;
        fill(&r->commands[i], o, now_ms);
    }
    r->done = on_done;
    atomic_store(&r->parts_left, 1);
    l->part = (struct request_part){.request = r, .count = r->commands_count,
                                    .bytes = r->commands_count * 128};
    uint32_t retry;
    if (!shard_offer(shard, &l->part, &retry)) {
        fprintf(stderr, "shard_bench: mailbox full\n");
        exit(1);
    }
}

static int64_t thread_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static _Noreturn void leave(int status) {
    fflush(stdout);
    _exit(status);
}

/* Until the log is applied; what follows from it is not touched. */
static void replay(struct shard *shard) {
    int64_t next, cpu_ns = thread_cpu_ns();
    struct shard_stats stats;
    uint32_t rounds = 0;
    do {
        shard_work(shard, clock_unix_ms(), clock_mono_ms(), &next);
        shard_stats(shard, &stats);
    } while (stats.recovery_ms == 0 && ++rounds < 1000000);
    cpu_ns = thread_cpu_ns() - cpu_ns;
    printf("%llu events applied in %lld ms, %.1f ns of CPU each (%.0f/s)\n",
           (unsigned long long)stats.recovery_events, (long long)stats.recovery_ms,
           (double)cpu_ns / (double)stats.recovery_events,
           (double)stats.recovery_events * 1e9 / (double)cpu_ns);
    leave(0);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: shard_bench DIRECTORY [seconds] [batch] [in flight] [kill]\n");
        return 2;
    }
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 5;
    uint32_t batch = argc > 3 ? (uint32_t)atol(argv[3]) : 128;
    uint32_t in_flight = argc > 4 ? (uint32_t)atol(argv[4]) : 16;
    char error[256];
    struct storage_lmdb_options so = {.directory = argv[1]};
    struct storage *storage = storage_lmdb_open(&so, error, sizeof error);
    if (!storage) {
        fprintf(stderr, "shard_bench: %s\n", error);
        return 1;
    }
    bool killed = argc > 5 && strcmp(argv[5], "kill") == 0;
    struct shard_options options = {.shards_count = 1, .server_id = 1, .storage = storage,
                                    .checkpoint_age_ms = killed || seconds == 0 ? 3600000 : 0};
    struct shard *shard =
        shard_open(&options, clock_unix_ms(), clock_mono_ms(), error, sizeof error);
    if (!shard) {
        fprintf(stderr, "shard_bench: %s\n", error);
        return 1;
    }
    if (seconds == 0) replay(shard);
    for (uint32_t i = 0; i < in_flight; i++) {
        struct load_request *l = calloc(1, sizeof *l);
        l->request.commands_count = batch;
        l->request.commands = calloc(batch, sizeof *l->request.commands);
        l->request.results = calloc(batch, sizeof *l->request.results);
        l->orders = calloc(batch, sizeof *l->orders);
        l->next = idle;
        idle = l;
    }
    int64_t begin = clock_mono_ns(), busy_ns = 0, next;
    while ((double)(clock_mono_ns() - begin) < seconds * 1e9) {
        while (idle) {
            struct load_request *l = idle;
            idle = l->next;
            send(shard, l, clock_unix_ms());
        }
        int64_t at = clock_mono_ns();
        if (shard_work(shard, clock_unix_ms(), clock_mono_ms(), &next)) {
            busy_ns += clock_mono_ns() - at;
        }
        else sched_yield();
    }
    double took = (double)(clock_mono_ns() - begin) / 1e9;
    struct shard_stats stats;
    shard_stats(shard, &stats);
    struct storage_stats disk;
    storage->ops->stats(storage, &disk);
    printf("%.0f commands/s; shard busy %.0f %% (%.0f ns a command); %.1f bytes of log a command; "
           "%.0f bytes of memory an order (%llu); %llu entries; %llu commits of %.0f KiB, "
           "%.2f ms each; wrong %llu\n",
           (double)answered / took, (double)busy_ns / took / 1e7,
           (double)busy_ns / (double)answered,
           (double)stats.entry_bytes / (double)stats.commands,
           (double)(stats.actor_bytes + stats.table_bytes) / (double)stats.orders_in_memory,
           (unsigned long long)stats.orders_in_memory, (unsigned long long)stats.entries,
           (unsigned long long)disk.commits,
           (double)disk.commit_bytes / (double)disk.commits / 1024,
           (double)disk.commit_ns / (double)disk.commits / 1e6, (unsigned long long)wrong);
    if (killed) leave(wrong != 0);
    shard_drain(shard);
    while (!shard_is_drained(shard)) shard_work(shard, clock_unix_ms(), clock_mono_ms(), &next);
    shard_close(shard);
    storage->ops->close(storage);
    return wrong != 0;
}
