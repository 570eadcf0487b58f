/* Orders at their stages of life. Each lane has a set of its own and one command in flight, so no
 * lock is needed and each order sees its commands in order. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/bench/bench.h"
#include "engine/base/prefetch.h"

enum { STORE_TEXTS = 256, UNIT_PRICE = 1250, LINES_MAX = 64 };

static char store_texts[STORE_TEXTS][12], rider_texts[STORE_TEXTS][12];
static jumun_line lines[LINES_MAX];
static char skus[LINES_MAX][12];

int64_t bench_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static uint64_t lane_random(struct bench_lane *lane) {
    return mixed(lane->random += 0x9e3779b97f4a7c15ULL);
}

static int64_t unix_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A new life, born now: later than the last one in this place, so that no key comes twice. */
static bench_order order_born(const struct bench *b, bench_order before) {
    uint32_t born = (uint32_t)(unix_ms() - b->born_ms), last = before >> BENCH_STEP_BITS;
    return (born > last ? born : last + 1) << BENCH_STEP_BITS;
}

/* The order's key, and other random bits that stay the same for its life. One multiplication after
 * another maps no two numbers to the same one: keys of one birth differ by their orders' places. */
static uint64_t order_key(const struct bench *b, const bench_order *order, jumun_key *key) {
    uint64_t born = *order >> BENCH_STEP_BITS, ms = (uint64_t)b->born_ms + born;
    uint64_t place = b->seed + (uint64_t)(uintptr_t)order + (born << 48 | born >> 16);
    uint64_t z = mixed(place), more = mixed(z);
    ms = __builtin_bswap64(ms << 16);
    memcpy(key->bytes, &ms, 6);
    memcpy(key->bytes + 6, &z, 8);
    memcpy(key->bytes + 14, &more, 2);
    return more >> 16;
}

static void lane_command_id(struct bench_lane *lane, jumun_key *id) {
    uint64_t a = lane_random(lane), b = lane_random(lane);
    memcpy(id->bytes, &a, 8);
    memcpy(id->bytes + 8, &b, 8);
}

static void bench_pick_order(struct bench_lane *lane) {
    /* Any order of the lane, so that orders at all stages of life are interleaved. */
    lane->current = lane->upcoming;
    lane->upcoming = (uint32_t)((lane_random(lane) >> 32) * lane->orders_count >> 32);
    prefetch_write(&lane->orders[lane->upcoming]);
}

bool bench_workload_init(struct bench *b, uint32_t lanes_count) {
    for (int i = 0; i < STORE_TEXTS; i++) {
        snprintf(store_texts[i], sizeof store_texts[i], "store-%04d", i);
        snprintf(rider_texts[i], sizeof rider_texts[i], "rider-%04d", i);
    }
    for (uint32_t i = 0; i < b->options.lines && i < LINES_MAX; i++) {
        snprintf(skus[i], sizeof skus[i], "menu-%03u", i);
        lines[i] = (jumun_line){.sku = skus[i], .quantity = 1 + i % 3, .unit_price = UNIT_PRICE};
    }
    uint32_t orders = b->options.live_orders < lanes_count ? lanes_count : b->options.live_orders;
    b->lanes_count = lanes_count;
    size_t orders_max = (orders + lanes_count - 1) / lanes_count;
    b->lane_bytes = (sizeof(struct bench_lane) + orders_max * sizeof(bench_order) + 63) / 64 * 64;
    b->lanes = aligned_alloc(64, lanes_count * b->lane_bytes);
    if (!b->lanes) return false;
    memset(b->lanes, 0, lanes_count * b->lane_bytes);
    uint32_t first = 0;
    jumun_key seed = jumun_key_new();
    memcpy(&b->seed, seed.bytes + 8, 8);
    b->born_ms = unix_ms();
    for (uint32_t l = 0; l < lanes_count; l++) {
        struct bench_lane *lane = bench_lane_at(b, l);
        uint32_t end = (uint32_t)((uint64_t)orders * (l + 1) / lanes_count);
        *lane = (struct bench_lane){.bench = b, .orders = (bench_order *)(void *)(lane + 1),
                                    .orders_count = end - first};
        lane->random = b->seed + l * 0xd1342543de82ef95ULL;
        bench_pick_order(lane);
        bench_pick_order(lane);
        first = end;
    }
    return true;
}

void bench_workload_fini(struct bench *b) {
    free(b->lanes);
    free(b->series);
}

static int64_t lines_total(uint32_t count) {
    int64_t total = 0;
    for (uint32_t i = 0; i < count; i++) total += lines[i].quantity * lines[i].unit_price;
    return total;
}

static void fill_step(const struct bench *b, uint32_t step, uint64_t random, jumun_command *c) {
    const struct bench_options *options = &b->options;
    int64_t total = lines_total(options->lines) + 3000;
    switch (step) {
    case 0:
        c->kind = JUMUN_PLACE;
        c->place = (jumun_place){
            .fulfilment = JUMUN_PLATFORM_DELIVERY, .payment_timing = JUMUN_PREPAID,
            .currency = "KRW", .store = store_texts[(uint8_t)random % options->stores],
            .customer = "customer-1",
            .lines = lines, .lines_count = options->lines, .fees = 3000, .total = total};
        break;
    case 1:
        c->kind = JUMUN_PAY;
        c->pay = (jumun_pay){JUMUN_CAPTURED, "card", "payment-1", total};
        break;
    case 2:
        c->kind = JUMUN_ACCEPT;
        c->accept.preparation_minutes = 15;
        break;
    case 3:
        c->kind = JUMUN_ASSIGN_RIDER;
        c->assign_rider.rider = rider_texts[random >> 8 & (STORE_TEXTS - 1)];
        break;
    case 4: c->kind = JUMUN_PICK_UP; break;
    default: c->kind = JUMUN_DELIVER; break;
    }
}

void bench_next_command(struct bench_lane *lane, jumun_command *command) {
    const struct bench *b = lane->bench;
    bench_order *o = &lane->orders[lane->current];
    uint32_t step = *o & BENCH_STEP_MASK;
    if (step == 0) *o = order_born(b, *o);
    lane->before = *o;
    uint64_t random = order_key(b, o, &command->order);
    command->store_id = NULL;
    command->options = (jumun_options_command){0};
    if (b->options.mode == BENCH_READS && step > 0) {
        command->kind = JUMUN_GET;
        return;
    }
    lane_command_id(lane, &command->options.id);
    fill_step(b, step, random, command);
}

static unsigned thread_stripe(void) {
    static atomic_uint threads;
    static _Thread_local unsigned mine; /* 0 = not numbered yet */
    if (mine == 0) mine = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
    return mine < BENCH_STRIPES ? mine - 1 : BENCH_STRIPES - 1;
}

static void record(struct bench *b, int64_t took_ns) {
    unsigned stripe = thread_stripe();
    if (stripe < BENCH_STRIPES - 1) histogram_record_alone(&b->stripes[stripe].h, took_ns);
    else histogram_record(&b->stripes[stripe].h, took_ns);
}

uint64_t bench_done(const struct bench *b) {
    uint64_t done = 0;
    for (int i = 0; i < BENCH_STRIPES; i++) done += histogram_count(&b->stripes[i].h);
    return done;
}

void bench_take_result(struct bench_lane *lane, const jumun_result *result, int64_t now_ns) {
    struct bench *b = lane->bench;
    uint32_t step = lane->before & BENCH_STEP_MASK;
    bool measuring = atomic_load_explicit(&b->measuring, memory_order_relaxed);
    bool read = b->options.mode == BENCH_READS && step > 0;
    bool ok = result->code == JUMUN_OK;
    /* Each accepted command grows the version by exactly one: anything else is a lost or a doubled
     * command. */
    uint32_t expected = read ? step : step + 1;
    bool wrong = ok && result->version != expected;
    if (ok && !read) step = (step + 1) % LIFE_STEPS;
    if (!ok && result->code >= 1000) step = 0; /* its fate is not known: a new order */
    lane->orders[lane->current] = (lane->before & ~(uint32_t)BENCH_STEP_MASK) | step;
    bench_pick_order(lane);
    if (wrong) atomic_fetch_add_explicit(&b->wrong, 1, memory_order_relaxed);
    if (!measuring) return;
    if (ok) { /* their count is that of the histogram */
        record(b, now_ns - lane->sent_ns);
        return;
    }
    if (result->code == JUMUN_OVERLOADED)
        atomic_fetch_add_explicit(&b->overloaded, 1, memory_order_relaxed);
    else if (result->code >= 1000) atomic_fetch_add_explicit(&b->failed, 1, memory_order_relaxed);
    else atomic_fetch_add_explicit(&b->refused, 1, memory_order_relaxed);
    if (result->code < 1100)
        atomic_fetch_add_explicit(&b->by_code[result->code], 1, memory_order_relaxed);
}
