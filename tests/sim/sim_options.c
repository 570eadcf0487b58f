#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

/* On in half of the runs, then with a weight of its own up to `most`. */
static uint32_t draw(struct prng *p, uint32_t most) {
    if (prng_chance(p, 1, 2)) return 0;
    return 1 + (uint32_t)prng_below(p, most);
}

static void draw_clients(struct sim_options *o, struct prng *p) {
    o->reply_loss = draw(p, 1000);
    o->retry = draw(p, 2000);
    o->overtake = draw(p, 3000);
    o->store_switch = draw(p, 800);
    o->read = draw(p, 2000);
    o->deadline = draw(p, 500);
    o->new_order = 500 + (uint32_t)prng_below(p, 3500);
    o->patience_ms = INT64_MAX;
}

static void draw_cluster(struct sim_options *o, struct prng *p) {
    static const uint32_t trailing[] = {8, 64, 512, 0};
    uint32_t spare = prng_chance(p, 1, 2) ? 0 : (uint32_t)prng_between(p, 1, 2);
    o->voters = o->nodes;
    if (prng_chance(p, 1, 3)) {
        o->shards_count += (uint32_t)prng_between(p, 1, SIM_SHARDS_MAX - o->first_shards);
        o->grow_step = (uint32_t)prng_below(p, o->steps);
        o->move_step = o->grow_step + (uint32_t)prng_below(p, o->steps);
    }
    o->nodes += spare;
    o->trailing_entries = trailing[prng_below(p, 4)];
    o->append_ms_max = prng_between(p, 0, 20);
    o->down_ms_max = prng_between(p, 1, prng_chance(p, 1, 3) ? 20000 : 2000);
    o->crash_all_per_step = draw(p, 80);
    o->rot_per_step = draw(p, 100);
    o->wipe_per_step = draw(p, 60);
    o->stop_per_step = draw(p, 100);
    o->net_loss = draw(p, prng_chance(p, 1, 8) ? 4000 : 1000);
    o->net_double = draw(p, 1000);
    o->net_late = draw(p, prng_chance(p, 1, 4) ? 2000 : 500);
    o->net_latency_ms_max = prng_between(p, 0, 20);
    o->net_late_ms_max = prng_between(p, 1, prng_chance(p, 1, 4) ? 10000 : 1500);
    o->cut_per_step = draw(p, 300);
    o->freeze_per_step = draw(p, 200);
    o->cut_ms_max = prng_between(p, 100, prng_chance(p, 1, 4) ? 20000 : 5000);
    o->move_per_step = draw(p, 300);
    o->transfer_per_step = draw(p, 300);
    o->skew_per_step = draw(p, 200);
    o->skew_ms_max = prng_between(p, 1, 30000);
    o->gap_ms_max = prng_between(p, 20, 200);
    o->astray = draw(p, 1000);
    o->fresh_read = draw(p, 8000);
    o->patience_ms = prng_between(p, 200, 2000);
}

/* By a stream of its own, so that a run without is what it was before there was one. */
static void draw_journal(struct sim_options *o) {
    static const uint32_t blocks[] = {8, 9, 12, 32, 128};
    static const int64_t late_ms[] = {0, 20, 200, 5000};
    struct prng p;
    prng_seed(&p, o->seed ^ 0x6a6f75726e616cULL);
    if (prng_chance(&p, 1, 3)) return;
    o->journal_blocks = blocks[prng_below(&p, 5)];
    o->late_ms_max = late_ms[prng_below(&p, 4)];
}

static void draw_outbox(struct sim_options *o) {
    static const uint32_t windows[] = {1, 2, 4, 16};
    struct prng p;
    prng_seed(&p, o->seed ^ 0x6f7574626f78ULL);
    if (!prng_chance(&p, 1, 3)) o->outbox_window = windows[prng_below(&p, 4)];
}

static void draw_upgrade(struct sim_options *o) {
    struct prng p;
    prng_seed(&p, o->seed ^ 0x75706772616465ULL);
    if (prng_chance(&p, 1, 3)) o->upgrade_step = 1 + (uint32_t)prng_below(&p, o->steps);
}

void sim_options_draw(struct sim_options *o, uint64_t seed, uint32_t nodes) {
    struct prng p;
    static const int64_t retentions[] = {0, 60000, 600000, 86400000};
    static const int64_t jumps[] = {60000, 1200000, 14400000, 86400000, 40LL * 86400000};
    prng_seed(&p, seed * 2 + 1);
    *o = (struct sim_options){.seed = seed, .steps = (uint32_t)prng_between(&p, 100, 400)};
    o->nodes = o->voters = nodes;
    o->shards_count = o->first_shards = (uint32_t)prng_between(&p, 1, 3);
    o->mailbox_commands_max = prng_chance(&p, 1, 3) ? (uint32_t)prng_between(&p, 8, 64) : 0;
    o->memory_bytes_max = prng_chance(&p, 1, 3) ? (uint64_t)prng_between(&p, 2000, 50000) : 0;
    o->checkpoint_age_ms = prng_between(&p, 1, 2000);
    o->resend_after_ms = prng_between(&p, 20, 1000);
    o->retention_ms = retentions[prng_below(&p, 4)];
    o->append_ms_max = prng_between(&p, 0, 30);
    o->checkpoint_ms_max = prng_between(&p, 0, 200);
    o->load_ms_max = prng_between(&p, 0, 30);
    o->torn_percent = draw(&p, 100);
    o->crash_per_step = draw(&p, 300);
    o->crash_in_per_step = draw(&p, 300);
    o->full_per_step = draw(&p, 100);
    o->slow_per_step = draw(&p, 200);
    o->stuck_per_step = draw(&p, 100);
    o->no_memory_per_step = draw(&p, 800);
    o->down_ms_max = prng_between(&p, 1, 2000);
    o->message_loss = draw(&p, 3000);
    o->message_double = draw(&p, 3000);
    o->message_delay = draw(&p, 5000);
    o->message_delay_ms_max = prng_between(&p, 1, 3000);
    o->jump_per_step = draw(&p, 200);
    o->jump_ms_max = jumps[prng_below(&p, 5)];
    o->clock_back_per_restart = draw(&p, 5000);
    o->gap_ms_max = prng_between(&p, 1, 60);
    draw_clients(o, &p);
    if (nodes > 1) draw_cluster(o, &p);
    draw_journal(o);
    draw_outbox(o);
    if (nodes > 1) draw_upgrade(o);
}

void sim_options_print(const struct sim_options *o) {
    printf("seed %lu, commit %s, hours %g:", (unsigned long)o->seed, sim_commit, o->hours);
#define X(type, name)                                                                              \
    if (o->name != 0 && (int64_t)o->name != INT64_MAX) printf(" %s=%ld", #name, (long)o->name);
    SIM_OPTIONS(X)
#undef X
    printf("\n");
}

bool sim_options_set(struct sim_options *o, const char *text) {
    const char *equals = strchr(text, '=');
    char *end;
    if (equals == NULL) return false;
    size_t bytes = (size_t)(equals - text);
    long value = strtol(equals + 1, &end, 10);
    if (end == equals + 1 || *end != 0) return false;
#define X(type, name)                                                                              \
    if (bytes == strlen(#name) && memcmp(text, #name, bytes) == 0) {                               \
        o->name = (type)value;                                                                     \
        return true;                                                                               \
    }
    SIM_OPTIONS(X)
#undef X
    return false;
}
