/* Three voters in one process under a seed: messages are lost, doubled, delayed and overtake each
 * other, disks are slow, servers crash and come back. Judged all the time: one leader a term, one
 * content per committed index, nothing committed is lost; at the end, in calm: everybody has it
 * all. The last two tests plant a fault and want it found. */
/* clang-format off: cmocka.h needs the others before it */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>

#include "engine/base/check.h"
#include "engine/base/prng.h"
#include "tests/unit/persistence/consensus_world.h"

enum { SERVERS = 3, IN_FLIGHT_MAX = 4096, TERMS_MAX = 4096 };

struct flight {
    int64_t due_ms;
    struct world_sent sent;
};

struct group {
    struct prng prng;
    /* drawn per run: how hostile the world is */
    uint32_t loss_percent, double_percent, delay_percent, slow_disk_percent;
    int64_t crash_every_ms, down_ms_max, cut_until_ms;
    uint64_t cut_id; /* cut off from the others for a while; 0 = none */
    struct world_server servers[SERVERS];
    int64_t down_until_ms[SERVERS], disk_at_ms[SERVERS];
    struct flight flights[IN_FLIGHT_MAX];
    uint32_t flights_count;
    int64_t now_ms;
    bool calm;
    uint64_t leader_of_term[TERMS_MAX];
    uint64_t committed_hash[WORLD_LOG_MAX], committed_count; /* [i]: of index i + 1 */
    uint64_t submitted, elections, crashes, lost;
    const char *fault; /* the judgement: NULL = all is well */
};

static uint64_t record_hash(const struct record *r) {
    uint64_t h = r->header.term * 31 + r->header.type;
    for (uint32_t i = 0; i < r->header.payload_bytes; i++) h = h * 1099511628211ULL + r->payload[i];
    return h;
}

/* The record of an index as this server holds it, durable or queued. */
static const struct record *held(const struct world_server *s, uint64_t index) {
    for (uint32_t i = s->queue_count; i > 0; i--) {
        const struct world_batch *b = &s->queue[(s->queue_head + i - 1) % WORLD_QUEUE_MAX];
        uint64_t first = b->records[0]->header.index;
        if (index >= first) return index < first + b->count ? b->records[index - first] : NULL;
    }
    return index <= s->durable_count ? s->log[index - 1] : NULL;
}

static void judge(struct group *g, struct world_server *s) {
    if (s->c == NULL) return;
    if (s->role == CONSENSUS_LEADER) {
        uint64_t term = consensus_term(s->c);
        require(term < TERMS_MAX);
        if (g->leader_of_term[term] == 0) g->elections++;
        if (g->leader_of_term[term] != 0 && g->leader_of_term[term] != s->id) {
            g->fault = "two leaders in one term";
        }
        g->leader_of_term[term] = s->id;
    }
    for (uint64_t i = s->applied_index + 1; i <= s->commit_index; i++) {
        const struct record *r = held(s, i);
        if (r == NULL) {
            g->fault = "committed and not there";
            return;
        }
        if (i > g->committed_count) {
            if (i != g->committed_count + 1) return;
            g->committed_hash[g->committed_count++] = record_hash(r);
        } else if (g->committed_hash[i - 1] != record_hash(r)) {
            g->fault = "two records committed at one index";
        }
    }
}

static void send_all(struct group *g, struct world_server *s) {
    for (uint32_t i = 0; i < s->out_count; i++) {
        uint32_t copies = 1;
        bool cut = s->id == g->cut_id || s->out[i].m.to == g->cut_id;
        if (!g->calm && prng_chance(&g->prng, g->double_percent, 100)) copies = 2;
        if (!g->calm && (cut || prng_chance(&g->prng, g->loss_percent, 100))) copies = 0;
        if (copies == 0) g->lost++;
        for (; copies > 0 && g->flights_count < IN_FLIGHT_MAX; copies--) {
            int64_t delay = prng_between(&g->prng, 0, 3);
            if (!g->calm && prng_chance(&g->prng, g->delay_percent, 100)) {
                delay = prng_between(&g->prng, 0, 600);
            }
            g->flights[g->flights_count++] =
                (struct flight){g->now_ms + delay, world_sent_copy(&s->out[i].m)};
        }
    }
    world_clear_out(s);
}

static void deliver(struct group *g) {
    for (uint32_t i = 0; i < g->flights_count && g->fault == NULL;) {
        if (g->flights[i].due_ms > g->now_ms) {
            i++;
            continue;
        }
        struct world_sent sent = g->flights[i].sent;
        g->flights[i] = g->flights[--g->flights_count];
        struct world_server *to = &g->servers[sent.m.to - 1];
        if (to->c != NULL) {
            world_receive(to, &sent.m, g->now_ms);
            judge(g, to);
            send_all(g, to);
        }
        world_sent_free(&sent);
    }
}

static void step_server(struct group *g, uint32_t i) {
    struct world_server *s = &g->servers[i];
    if (s->c == NULL) {
        if (g->now_ms < g->down_until_ms[i]) return;
        world_start(s, g->now_ms);
    } else if (!g->calm && prng_below(&g->prng, (uint64_t)g->crash_every_ms) == 0) {
        world_crash(s);
        g->crashes++;
        g->down_until_ms[i] = g->now_ms + prng_between(&g->prng, 1, g->down_ms_max);
        return;
    }
    if (g->now_ms >= g->disk_at_ms[i] && world_persist(s, g->now_ms)) {
        bool stuck = !g->calm && prng_chance(&g->prng, g->slow_disk_percent, 100);
        int64_t slow = stuck ? 700 : 4;
        g->disk_at_ms[i] = g->now_ms + prng_between(&g->prng, 0, slow);
    }
    if (g->now_ms >= s->timeout_ms) world_tick(s, g->now_ms);
    if (s->ready && s->queue_count < 32 && prng_chance(&g->prng, 1, 20)) {
        g->submitted += world_submit(s, (uint32_t)prng_between(&g->prng, 1, 5), g->now_ms) == 0;
    }
    judge(g, s);
    if (g->fault == NULL) world_apply(s, g->now_ms);
    send_all(g, s);
}

static const char *run(uint64_t seed, bool forgets_votes, uint32_t rules_off,
                       struct group *totals) {
    static const uint64_t ids[] = {1, 2, 3};
    struct group *g = calloc(1, sizeof *g);
    require(g != NULL);
    prng_seed(&g->prng, seed);
    g->loss_percent = (uint32_t)prng_below(&g->prng, 11);
    g->double_percent = (uint32_t)prng_below(&g->prng, 11);
    g->delay_percent = (uint32_t)prng_below(&g->prng, 15);
    g->slow_disk_percent = (uint32_t)prng_below(&g->prng, 12);
    g->crash_every_ms = prng_between(&g->prng, 200, 3000);
    g->down_ms_max = prng_chance(&g->prng, 1, 2) ? 30 : 800;
    for (uint32_t i = 0; i < SERVERS; i++) {
        world_bootstrap(&g->servers[i], ids[i], ids, SERVERS);
        g->servers[i].seed = (uint32_t)prng_next(&g->prng);
        g->servers[i].forgets_votes = forgets_votes;
        g->servers[i].rules_off = rules_off;
        world_start(&g->servers[i], 0);
    }
    uint64_t committed_before_calm = 0;
    for (g->now_ms = 1; g->now_ms < 14000 && g->fault == NULL; g->now_ms++) {
        if (g->now_ms == 9000) {
            g->calm = true;
            committed_before_calm = g->committed_count;
        }
        if (g->now_ms >= g->cut_until_ms) {
            g->cut_id = prng_below(&g->prng, 2 * SERVERS);
            if (g->cut_id > SERVERS) g->cut_id = 0;
            g->cut_until_ms = g->now_ms + prng_between(&g->prng, 50, 1200);
        }
        deliver(g);
        for (uint32_t i = 0; i < SERVERS && g->fault == NULL; i++) step_server(g, i);
    }
    if (g->fault == NULL && g->committed_count <= committed_before_calm + 10) {
        g->fault = "no progress in calm";
    }
    for (uint32_t i = 0; i < SERVERS && g->fault == NULL; i++) {
        if (g->servers[i].commit_index + 100 < g->committed_count) g->fault = "a server lags";
        for (uint64_t k = 1; k <= g->servers[i].commit_index && g->fault == NULL; k++) {
            const struct record *r = held(&g->servers[i], k);
            if (r == NULL || record_hash(r) != g->committed_hash[k - 1]) {
                g->fault = "a committed record is gone or another";
            }
        }
    }
    const char *fault = g->fault;
    totals->submitted += g->submitted;
    totals->elections += g->elections;
    totals->crashes += g->crashes;
    totals->lost += g->lost;
    totals->committed_count += g->committed_count;
    for (uint32_t i = 0; i < g->flights_count; i++) world_sent_free(&g->flights[i].sent);
    for (uint32_t i = 0; i < SERVERS; i++) world_free(&g->servers[i]);
    free(g);
    return fault;
}

static void three_voters_agree(void **state) {
    static struct group totals;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        const char *fault = run(seed, false, 0, &totals);
        if (fault != NULL) fail_msg("seed %lu: %s", (unsigned long)seed, fault);
    }
    print_message("committed %lu, elections %lu, crashes %lu, messages lost %lu\n",
                  (unsigned long)totals.committed_count, (unsigned long)totals.elections,
                  (unsigned long)totals.crashes, (unsigned long)totals.lost);
    assert_true(totals.committed_count > 10000);
    assert_true(totals.elections > 300);
    assert_true(totals.crashes > 300);
}

static void canary_votes_that_are_not_stored(void **state) {
    static struct group totals;
    uint32_t caught = 0;
    for (uint64_t seed = 1; seed <= 200 && caught == 0; seed++) {
        caught += run(seed, true, 0, &totals) != NULL;
    }
    assert_true(caught > 0);
}

#ifdef JUMUN_DEBUG_CHECKS
static void truncated_rule_off(void *arg) {
    static struct group totals;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        if (run(seed, false, CONSENSUS_RULE_TRUNCATED, &totals) != NULL) abort();
    }
}

/* Reports of truncated records: the judge sees it, or the seam's own assertion does. */
static void canary_truncated_records_count(void **state) {
    assert_true(world_aborts(truncated_rule_off, NULL));
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_voters_agree),
        cmocka_unit_test(canary_votes_that_are_not_stored),
#ifdef JUMUN_DEBUG_CHECKS
        cmocka_unit_test(canary_truncated_records_count),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
