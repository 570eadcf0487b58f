/* How fast the rules are, without a machine around them: decide and apply over many live orders in
 * the real mix of an order's life, and apply alone as recovery does it.
 *
 *   actors_bench [orders] [rounds]      default 100,000 orders, 3 rounds
 *
 * Each order has its own block, visited in random order, so that a block is as cold as it is in a
 * shard. One core; no allocation while the clock runs. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "actors/order/order.h"

enum { BLOCK_BYTES = 512, STEPS = 6, TURN_BYTES = 2u << 20 };

struct bench {
    uint32_t orders;
    uint8_t *blocks;          /* BLOCK_BYTES each */
    uint32_t *shuffled;       /* the order in which blocks are visited */
    uint8_t *log;             /* all events of a round, in the order in which they were made */
    uint64_t log_bytes, log_room;
    uint64_t events;
    uint64_t random;
    uint8_t *turn;
    double decide_ns[STEPS];
};

static const char *const step_names[STEPS] = {"place (3 lines)", "pay",     "accept",
                                              "assign_rider",    "pick_up", "deliver"};

/* Time of this thread, so that neighbours on the machine count only by the caches they share. */
static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static uint32_t bench_random(struct bench *b) {
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return (uint32_t)(b->random >> 16);
}

static void bench_shuffle(struct bench *b) {
    for (uint32_t i = 0; i < b->orders; i++) b->shuffled[i] = i;
    for (uint32_t i = b->orders - 1; i > 0; i--) {
        uint32_t j = bench_random(b) % (i + 1), other = b->shuffled[j];
        b->shuffled[j] = b->shuffled[i];
        b->shuffled[i] = other;
    }
}

static const struct order_line lines[3] = {
    {{"bibimbap", 8}, {"Bibimbap L", 10}, 2, 1000},
    {{"kimchi-1", 8}, {"Kimchi 200", 10}, 1, 500},
    {{"mandu-04", 8}, {"Mandu 4pcs", 10}, 4, 250},
};

static struct command bench_command(struct bench *b, uint32_t order, uint32_t step) {
    static const uint8_t kinds[STEPS] = {COMMAND_PLACE,        COMMAND_PAY,     COMMAND_ACCEPT,
                                         COMMAND_ASSIGN_RIDER, COMMAND_PICK_UP, COMMAND_DELIVER};
    struct command c = {.kind = kinds[step], .subject = {{0, 0, 0, 0, 0, 1}}};
    uint64_t id = (uint64_t)order * STEPS + step + 1;
    memcpy(c.subject.bytes + 8, &order, sizeof order);
    memcpy(c.id.bytes, &id, sizeof id);
    memcpy(c.id.bytes + 8, &b->random, sizeof b->random);
    switch (c.kind) {
    case COMMAND_PLACE:
        c.place = (struct command_place){.fulfilment = FULFILMENT_PLATFORM_DELIVERY,
                                         .payment_timing = PAYMENT_PREPAID,
                                         .currency = "KRW",
                                         .store = {"store-0001", 10},
                                         .customer = {"cust-00042", 10},
                                         .lines = lines,
                                         .lines_count = 3,
                                         .fees = 300,
                                         .total = 3800};
        break;
    case COMMAND_PAY:
        c.pay = (struct command_pay){PAYMENT_CAPTURED, {"card", 4}, {"pay-000001", 10}, 3800};
        break;
    case COMMAND_ACCEPT: c.accept.preparation_minutes = 20; break;
    case COMMAND_ASSIGN_RIDER: c.assign_rider.rider = bytes_of("rider-0007", 10); break;
    default: break;
    }
    return c;
}

static struct actor *bench_block(struct bench *b, uint32_t order) {
    return (struct actor *)(void *)(b->blocks + (size_t)order * BLOCK_BYTES);
}

/* A whole turn of decisions for one step of every order, as the shard does it: decide, apply. */
static void bench_step(struct bench *b, uint32_t step) {
    struct apply_context applied = {.index = step + 1, .time_ms = 5000 + step};
    struct decide_context context = {.index = step + 1, .now_ms = 5000 + step};
    int64_t decide_ns = 0;
    bench_shuffle(b);
    for (uint32_t from = 0; from < b->orders; from += 64) {
        struct command commands[64];
        uint32_t count = b->orders - from < 64 ? b->orders - from : 64;
        for (uint32_t i = 0; i < count; i++) {
            commands[i] = bench_command(b, b->shuffled[from + i], step);
        }
        struct event_sink sink = {.data = b->turn, .capacity = TURN_BYTES};
        int64_t t = now_ns();
        for (uint32_t i = 0; i < count; i++) {
            struct actor *block = bench_block(b, b->shuffled[from + i]);
            uint32_t mark = sink.size;
            struct decision d = order_decide(block->bytes ? block : NULL, &commands[i], &context,
                                             &sink);
            require(d.code == RESULT_OK);
            const struct event *event = (const struct event *)(const void *)(sink.data + mark);
            require(order_bytes_after(block, event) <= BLOCK_BYTES);
            order_apply(block, event, &applied);
        }
        decide_ns += now_ns() - t;
        require(b->log_bytes + sink.size <= b->log_room);
        memcpy(b->log + b->log_bytes, sink.data, sink.size);
        b->log_bytes += sink.size;
        b->events += sink.events_count;
    }
    b->decide_ns[step] += (double)decide_ns / b->orders;
}

/* The log once more, from empty blocks: what recovery and replay do. */
static double bench_replay(struct bench *b) {
    struct apply_context applied = {.index = 1, .time_ms = 5000};
    const struct event *event;
    memset(b->blocks, 0, (size_t)b->orders * BLOCK_BYTES);
    int64_t started = now_ns();
    uint64_t at = 0;
    while (at < b->log_bytes) {
        event = (const struct event *)(const void *)(b->log + at);
        uint32_t order;
        memcpy(&order, event->subject.bytes + 8, sizeof order);
        struct actor *block = bench_block(b, order);
        require(order_bytes_after(block->bytes ? block : NULL, event) <= BLOCK_BYTES);
        order_apply(block, event, &applied);
        at += event->bytes;
    }
    return (double)(now_ns() - started);
}

static bool bench_open(struct bench *b, uint32_t orders) {
    *b = (struct bench){.orders = orders, .random = 88172645463325252ULL};
    b->log_room = (uint64_t)orders * 1024;
    b->blocks = aligned_alloc(64, (size_t)orders * BLOCK_BYTES);
    b->shuffled = malloc(orders * sizeof *b->shuffled);
    b->log = aligned_alloc(64, b->log_room);
    b->turn = aligned_alloc(64, TURN_BYTES);
    if (!b->blocks || !b->shuffled || !b->log || !b->turn) return false;
    memset(b->log, 0, b->log_room); /* faulted in before the clock runs */
    memset(b->turn, 0, TURN_BYTES);
    return true;
}

int main(int argc, char **argv) {
    uint32_t orders = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100000;
    uint32_t rounds = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 3;
    struct bench b;
    if (orders == 0 || rounds == 0 || !bench_open(&b, orders)) {
        fprintf(stderr, "actors_bench: usage: actors_bench [orders] [rounds]\n");
        return 1;
    }
    double replay_ns = 0;
    for (uint32_t round = 0; round < rounds; round++) {
        memset(b.blocks, 0, (size_t)orders * BLOCK_BYTES);
        b.log_bytes = b.events = 0;
        for (uint32_t step = 0; step < STEPS; step++) bench_step(&b, step);
        replay_ns += bench_replay(&b);
    }
    double all = 0;
    printf("%u orders, %u rounds; a block has %u bytes after its life\n", orders, rounds,
           bench_block(&b, 0)->bytes);
    for (uint32_t step = 0; step < STEPS; step++) {
        double ns = b.decide_ns[step] / rounds;
        all += ns / STEPS;
        printf("  decide + apply %-16s %6.0f ns\n", step_names[step], ns);
    }
    printf("  decide + apply of the mix      %6.0f ns = %.2f M commands/s\n", all, 1e3 / all);
    double ns = replay_ns / rounds / (double)b.events;
    printf("  apply alone (replay)           %6.0f ns = %.2f M events/s, %.0f bytes an event\n", ns,
           1e3 / ns, (double)b.log_bytes / (double)b.events);
    free(b.blocks);
    free(b.shuffled);
    free(b.log);
    free(b.turn);
    return 0;
}
