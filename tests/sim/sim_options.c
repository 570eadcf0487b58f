#include <stdio.h>

#include "tests/sim/sim.h"

/* On in half of the runs, then with a weight of its own up to `most`. */
static uint32_t draw(struct prng *p, uint32_t most) {
    if (prng_chance(p, 1, 2)) return 0;
    return 1 + (uint32_t)prng_below(p, most);
}

void sim_options_draw(struct sim_options *o, uint64_t seed) {
    struct prng p;
    static const int64_t retentions[] = {0, 60000, 600000, 86400000};
    static const int64_t jumps[] = {60000, 1200000, 14400000, 86400000, 40LL * 86400000};
    prng_seed(&p, seed * 2 + 1);
    *o = (struct sim_options){.seed = seed, .steps = (uint32_t)prng_between(&p, 100, 400)};
    o->shards_count = (uint32_t)prng_between(&p, 1, 3);
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
    o->reply_loss = draw(&p, 1000);
    o->retry = draw(&p, 2000);
    o->overtake = draw(&p, 3000);
    o->store_switch = draw(&p, 800);
    o->read = draw(&p, 2000);
    o->deadline = draw(&p, 500);
    o->new_order = 500 + (uint32_t)prng_below(&p, 3500);
}

void sim_options_print(const struct sim_options *o) {
    printf("seed %lu: shards %u, steps %u, hours %g, mailbox %u, memory %lu, "
           "checkpoint %ld/%ld ms, append %ld ms, load %ld ms, resend %ld ms, retention %ld ms\n",
           (unsigned long)o->seed, o->shards_count, o->steps, o->hours, o->mailbox_commands_max,
           (unsigned long)o->memory_bytes_max, (long)o->checkpoint_age_ms,
           (long)o->checkpoint_ms_max, (long)o->append_ms_max, (long)o->load_ms_max,
           (long)o->resend_after_ms, (long)o->retention_ms);
    printf("  per 10,000: crash %u, crash inside %u, full %u, slow %u, stuck %u, no memory %u, "
           "torn %u%%; message loss %u, double %u, delay %u (%ld ms); jump %u (%ld ms), "
           "clock back %u\n",
           o->crash_per_step, o->crash_in_per_step, o->full_per_step, o->slow_per_step,
           o->stuck_per_step, o->no_memory_per_step, o->torn_percent, o->message_loss,
           o->message_double, o->message_delay, (long)o->message_delay_ms_max, o->jump_per_step,
           (long)o->jump_ms_max, o->clock_back_per_restart);
    printf("  clients per 10,000: reply loss %u, retry %u, overtake %u, store switch %u, read %u, "
           "deadline %u, new order %u; gap %ld ms\n",
           o->reply_loss, o->retry, o->overtake, o->store_switch, o->read, o->deadline,
           o->new_order, (long)o->gap_ms_max);
}
