/* Makes a log as long as it is wanted, without a node: the lives of orders are decided and applied
 * in memory, and the entries written as a node would have written them. For what has to be measured
 * over logs that a node would need many minutes to make.
 *
 *   log_maker DIRECTORY [GiB] [shards] [live orders a shard]      default 1, 2, 100000
 *
 * The directory then has node.json and logs, no stored state: as one that has lost it. Orders of
 * jumun-bench's mix (place, pay, accept, assign a rider, pick up, deliver); no messages between
 * shards, since no store keeps count of them. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "actors/order/order.h"
#include "clients/replay/writer.h"
#include "engine/limits.h"

enum { BLOCK_BYTES = 512, STEPS = 6, TURN_COMMANDS = 400, TURN_BYTES = 2u << 20,
       TURNS_A_SECOND = 1000, SHARDS_AT_ONCE_MAX = 64, PATH_BYTES = 1024 };

struct maker {
    char directory[PATH_BYTES];
    uint32_t shard, live;
    struct routing_epoch epoch;
    uint64_t bytes_wanted, random, orders, events, index;
    uint8_t *blocks, *steps;   /* of each live order: its block, the step that comes next */
    uint8_t *turn;
    bool failed;
};

static const struct order_line lines[3] = {
    {{"menu-001", 8}, {"bibimbap", 8}, 1, 9500},
    {{"menu-002", 8}, {"kimchi", 6}, 2, 3000},
    {{"menu-003", 8}, {"soju", 4}, 1, 5000}};

static uint64_t maker_random(struct maker *m) {
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return m->random;
}

static void maker_id(struct maker *m, struct id128 *id) {
    uint64_t a = maker_random(m), b = maker_random(m);
    memcpy(id->bytes, &a, 8);
    memcpy(id->bytes + 8, &b, 8);
}

/* A key that this shard owns. */
static void maker_key(struct maker *m, struct id128 *key, int64_t now_ms) {
    do {
        maker_id(m, key);
        for (int i = 0; i < 6; i++) key->bytes[i] = (uint8_t)(now_ms >> (40 - 8 * i));
    } while (routing_shard_of_key(&m->epoch, 1, key) != m->shard);
    m->orders++;
}

static struct command maker_command(struct maker *m, uint8_t step) {
    static const uint8_t kinds[STEPS] = {COMMAND_PLACE,        COMMAND_PAY,     COMMAND_ACCEPT,
                                         COMMAND_ASSIGN_RIDER, COMMAND_PICK_UP, COMMAND_DELIVER};
    struct command c = {.kind = kinds[step]};
    maker_id(m, &c.id);
    if (step == 0)
        c.place = (struct command_place){
            .fulfilment = FULFILMENT_PLATFORM_DELIVERY, .payment_timing = PAYMENT_PREPAID,
            .currency = "KRW", .store = {"store-0001", 10}, .customer = {"customer-1", 10},
            .lines = lines, .lines_count = 3, .fees = 3000, .total = 23500};
    else if (step == 1)
        c.pay = (struct command_pay){PAYMENT_CAPTURED, {"card", 4}, {"payment-1", 9}, 23500};
    else if (step == 3)
        c.assign_rider.rider = bytes_of_text("rider-0001");
    return c;
}

/* One command of one live order: decided and applied as a shard does it. */
static void maker_decide(struct maker *m, struct event_sink *sink, int64_t now_ms) {
    uint32_t which = (uint32_t)(maker_random(m) % m->live), mark = sink->size, offset = 0;
    struct actor *block = (struct actor *)(void *)(m->blocks + (size_t)which * BLOCK_BYTES);
    uint8_t step = m->steps[which];
    struct command c = maker_command(m, step);
    if (step == 0) {
        memset(block, 0, BLOCK_BYTES);
        maker_key(m, &c.subject, now_ms);
    } else {
        c.subject = block->key;
    }
    const struct decide_context context = {.index = m->index, .now_ms = now_ms};
    const struct apply_context applied = {.index = m->index, .time_ms = now_ms};
    struct decision d = order_decide(step ? block : NULL, &c, &context, sink);
    require(d.code == RESULT_OK);
    const struct event *e;
    while ((e = event_next(sink->data + mark, sink->size - mark, &offset))) {
        struct event *logged = (struct event *)(void *)(sink->data + mark + offset - e->bytes);
        logged->state_before = block->version ? block->state : 0;
        require(order_bytes_after(block->version ? block : NULL, logged) <= BLOCK_BYTES);
        order_apply(block, logged, &applied);
    }
    m->steps[which] = (uint8_t)((step + 1) % STEPS);
}

static bool maker_turn(struct maker *m, struct shard_writer *w, int64_t now_ms, uint64_t *bytes) {
    struct entry_header *entry = (struct entry_header *)(void *)m->turn;
    struct event_sink sink = {.data = m->turn + sizeof *entry,
                              .capacity = TURN_BYTES - (uint32_t)sizeof *entry};
    m->index = shard_writer_last(w) + 1;
    for (uint32_t i = 0; i < TURN_COMMANDS; i++) maker_decide(m, &sink, now_ms);
    *entry = (struct entry_header){.time_ms = now_ms, .shard = m->shard,
                                   .events_count = sink.events_count};
    struct record_header header = {.index = m->index, .term = 1, .type = RECORD_EVENTS,
                                   .payload_bytes = (uint32_t)sizeof *entry + sink.size,
                                   .format = RECORD_FORMAT};
    record_seal(&header, m->turn);
    m->events += sink.events_count;
    *bytes += sizeof header + header.payload_bytes;
    return shard_writer_append(w, &header, m->turn);
}

static void *maker_run(void *arg) {
    struct maker *m = arg;
    char error[1200] = "no memory, or no room on the disk";
    int64_t begin_ms = (int64_t)time(NULL) * 1000;
    uint64_t bytes = 0, turns = 0;
    m->blocks = aligned_alloc(64, (size_t)m->live * BLOCK_BYTES);
    m->steps = calloc(m->live, 1);
    m->turn = aligned_alloc(64, TURN_BYTES);
    struct shard_writer *w = shard_writer_open(m->directory, m->shard, error, sizeof error);
    bool ok = w && m->blocks && m->steps && m->turn;
    if (ok) memset(m->turn, 0, TURN_BYTES);
    while (ok && bytes < m->bytes_wanted) {
        ok = maker_turn(m, w, begin_ms + (int64_t)(turns++ * 1000 / TURNS_A_SECOND), &bytes);
    }
    if (!ok || !shard_writer_sync(w, error, sizeof error)) {
        fprintf(stderr, "log_maker: shard %u: %s\n", m->shard, error);
        m->failed = true;
    }
    shard_writer_close(w);
    free(m->blocks);
    free(m->steps);
    free(m->turn);
    return NULL;
}

int main(int argc, char **argv) {
    double gib = argc > 2 ? strtod(argv[2], NULL) : 1;
    uint32_t shards = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 2;
    uint32_t live = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 100000;
    static struct maker makers[SHARDS_AT_ONCE_MAX];
    pthread_t threads[SHARDS_AT_ONCE_MAX];
    char error[1200];
    if (argc < 2 || gib <= 0 || shards < 1 || shards > SHARDS_AT_ONCE_MAX || live < 1) {
        fprintf(stderr, "usage: log_maker DIRECTORY [GiB] [shards, 1 to %d] [live orders a "
                "shard]\n", SHARDS_AT_ONCE_MAX);
        return 2;
    }
    if (!writer_directory(argv[1], true, error, sizeof error)) {
        fprintf(stderr, "log_maker: %s\n", error);
        return 1;
    }
    for (uint32_t i = 0; i < shards; i++) {
        struct maker *m = &makers[i];
        *m = (struct maker){.shard = i, .live = live, .epoch = {0, shards},
                            .bytes_wanted = (uint64_t)(gib * (1 << 30) / shards),
                            .random = 88172645463325252ULL + i};
        snprintf(m->directory, sizeof m->directory, "%.900s/shard-%u", argv[1], i);
        require(pthread_create(&threads[i], NULL, maker_run, m) == 0);
    }
    uint64_t orders = 0, events = 0;
    bool failed = false;
    for (uint32_t i = 0; i < shards; i++) {
        pthread_join(threads[i], NULL);
        orders += makers[i].orders;
        events += makers[i].events;
        failed |= makers[i].failed;
    }
    const struct writer_identity identity = {.cluster_id = "", .shards = shards,
                                             .created_ms = (int64_t)time(NULL) * 1000};
    if (!failed && !writer_identity(argv[1], "node.json", &identity, error, sizeof error)) {
        fprintf(stderr, "log_maker: %s\n", error);
        failed = true;
    }
    printf("%llu events of %llu orders\n", (unsigned long long)events, (unsigned long long)orders);
    return failed;
}
