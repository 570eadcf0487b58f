#include "tests/unit/persistence/consensus_group.h"

#include <stdio.h>
#include <stdlib.h>

#include <raft.h>

#include "engine/base/check.h"
#include "engine/base/prng.h"

enum {
    SERVERS_MAX = 20, /* ids are never used twice: so many over the whole run */
    MEMBERS_MAX = 6,
    IN_FLIGHT_MAX = 4096,
    TERMS_MAX = 4096,
    READS_MAX = 64,
    CALM_MS = 9000,
    OPERATOR_ENDS_MS = 11000,
    END_MS = 14000
};

struct flight {
    int64_t due_ms;
    struct world_sent sent;
};

struct transfer { /* of a snapshot to one server */
    bool running;
    int64_t due_ms;
    struct world_snapshot snapshot;
};

struct waiting_read {
    uint64_t number;
    uint64_t commit_index; /* what the leader had committed when it was asked */
    uint64_t floor;        /* what anybody had */
};

struct member {
    struct world_server s;
    bool member, retired;  /* in the newest committed configuration; was and is not any more */
    uint64_t joined_index; /* of the record that added it */
    int64_t down_until_ms, disk_at_ms, ends_ms;
    struct transfer transfer;
    struct waiting_read reads[READS_MAX];
    uint32_t reads_count;
};

struct group {
    struct prng prng;
    const struct group_options *options;
    /* drawn per run: how hostile the world is */
    uint32_t loss_percent, double_percent, delay_percent, slow_disk_percent;
    int64_t crash_every_ms, down_ms_max, cut_until_ms, checkpoint_every_ms, operator_every_ms;
    uint32_t trailing;
    uint64_t cut_id; /* cut off from the others for a while; 0 = none */
    struct member members[SERVERS_MAX];
    uint64_t servers_count; /* ids 1 to this have been used */
    struct flight flights[IN_FLIGHT_MAX];
    uint32_t flights_count;
    int64_t now_ms;
    bool calm;
    uint64_t leader_of_term[TERMS_MAX];
    uint64_t committed_hash[WORLD_LOG_MAX], committed_count; /* [i]: of index i + 1 */
    uint64_t state[WORLD_LOG_MAX + 1];                       /* [i]: after index i */
    struct group_totals did;
    const char *fault; /* the judgement: NULL = all is well */
};

/* The record of an index as this server holds it, durable or queued. */
static const struct record *held(const struct world_server *s, uint64_t index) {
    for (uint32_t i = s->queue_count; i > 0; i--) {
        const struct world_batch *b = &s->queue[(s->queue_head + i - 1) % WORLD_QUEUE_MAX];
        uint64_t first = b->records[0]->header.index;
        if (index >= first) return index < first + b->count ? b->records[index - first] : NULL;
    }
    return index <= s->durable_count && index >= s->log_first ? s->log[index - 1] : NULL;
}

/* -- the judge --------------------------------------------------------------------------------- */

/* A configuration is committed: who is not in it any more is switched off some time later. */
static void judge_configuration(struct group *g, const struct record *r) {
    struct raft_configuration configuration;
    struct raft_buffer buffer = {(void *)(uintptr_t)r->payload, r->header.payload_bytes};
    raft_configuration_init(&configuration);
    require(raft_configuration_decode(&buffer, &configuration) == 0);
    for (uint64_t id = 1; id <= g->servers_count; id++) {
        struct member *m = &g->members[id - 1];
        bool in = false;
        for (unsigned i = 0; i < configuration.n; i++) in |= configuration.servers[i].id == id;
        m->member = in;
        if (in || m->retired || m->joined_index > r->header.index) continue;
        m->retired = true;
        m->ends_ms = g->now_ms + prng_between(&g->prng, 0, 1500);
    }
    raft_configuration_close(&configuration);
}

static void judge_commits(struct group *g, struct world_server *s) {
    for (uint64_t i = s->applied_index + 1; i <= s->commit_index; i++) {
        const struct record *r = held(s, i);
        if (r == NULL) {
            g->fault = "committed and not there";
            return;
        }
        if (i > g->committed_count) {
            if (i != g->committed_count + 1) return;
            g->committed_hash[g->committed_count++] = world_record_hash(r);
            g->state[i] = world_next_state(g->state[i - 1], r);
            if (r->header.type == RECORD_CONFIGURATION) judge_configuration(g, r);
        } else if (g->committed_hash[i - 1] != world_record_hash(r)) {
            g->fault = "two records committed at one index";
        }
    }
}

static void judge_reads(struct group *g, struct member *m) {
    if (m->s.role != CONSENSUS_LEADER) m->reads_count = 0;
    for (uint32_t i = 0; i < m->reads_count;) {
        const struct waiting_read *r = &m->reads[i];
        if (r->number > m->s.reads_confirmed) {
            i++;
            continue;
        }
        if (r->commit_index < r->floor) g->fault = "a confirmed read missed a commit";
        g->did.reads++;
        m->reads[i] = m->reads[--m->reads_count];
    }
}

static void judge(struct group *g, struct member *m) {
    struct world_server *s = &m->s;
    if (s->c == NULL || g->fault != NULL) return;
    if (s->role == CONSENSUS_LEADER) {
        uint64_t term = consensus_term(s->c);
        require(term < TERMS_MAX);
        if (g->leader_of_term[term] == 0) g->did.elections++;
        if (g->leader_of_term[term] != 0 && g->leader_of_term[term] != s->id) {
            g->fault = "two leaders in one term";
        }
        g->leader_of_term[term] = s->id;
    }
    judge_commits(g, s);
    judge_reads(g, m);
}

/* -- the network ------------------------------------------------------------------------------- */

static bool group_cut(const struct group *g, uint64_t a, uint64_t b) {
    return !g->calm && (a == g->cut_id || b == g->cut_id);
}

/* The leader was told that a follower needs its state: one transfer at a time to each. */
static void begin_transfer(struct group *g, struct member *from,
                           const struct consensus_message *m) {
    struct transfer *t = &g->members[m->to - 1].transfer;
    if (t->running) return;
    struct world_snapshot snapshot;
    require(world_export(&from->s, m->term, &snapshot));
    require(snapshot.index >= m->last_index);
    /* Some never begin: the request is lost, and there may be no second one of this snapshot. */
    if (!g->calm && prng_chance(&g->prng, 1, 3)) return;
    *t = (struct transfer){true, g->now_ms + prng_between(&g->prng, 5, g->calm ? 60 : 400),
                           snapshot};
}

static void end_transfer(struct group *g, struct member *to) {
    struct transfer *t = &to->transfer;
    if (!t->running || g->now_ms < t->due_ms) return;
    t->running = false;
    if (to->s.c == NULL || group_cut(g, t->snapshot.from, to->s.id)) return;
    int crash_at = g->calm ? 0 : (int)prng_below(&g->prng, 12);
    if (t->snapshot.state != g->state[t->snapshot.index]) g->fault = "a snapshot of another state";
    bool taken = world_install(&to->s, &t->snapshot, crash_at, g->now_ms);
    g->did.installs += taken;
    if (to->s.c == NULL) to->down_until_ms = g->now_ms + prng_between(&g->prng, 1, 100);
}

static void send_all(struct group *g, struct member *from) {
    struct world_server *s = &from->s;
    for (uint32_t i = 0; i < s->out_count; i++) {
        const struct consensus_message *m = &s->out[i].m;
        if (m->to == 0 || m->to > g->servers_count) continue;
        if (m->kind == CONSENSUS_INSTALL_SNAPSHOT) {
            begin_transfer(g, from, m);
            continue;
        }
        uint32_t copies = 1;
        if (!g->calm && prng_chance(&g->prng, g->double_percent, 100)) copies = 2;
        if (!g->calm && prng_chance(&g->prng, g->loss_percent, 100)) copies = 0;
        if (group_cut(g, s->id, m->to)) copies = 0;
        if (copies == 0) g->did.lost++;
        for (; copies > 0 && g->flights_count < IN_FLIGHT_MAX; copies--) {
            int64_t delay = prng_between(&g->prng, 0, 3);
            if (!g->calm && prng_chance(&g->prng, g->delay_percent, 100)) {
                delay = prng_between(&g->prng, 0, 600);
            }
            g->flights[g->flights_count++] = (struct flight){g->now_ms + delay, world_sent_copy(m)};
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
        struct member *to = &g->members[sent.m.to - 1];
        if (to->s.c != NULL) {
            world_receive(&to->s, &sent.m, g->now_ms);
            judge(g, to);
            send_all(g, to);
        }
        world_sent_free(&sent);
    }
}

/* -- the operator ------------------------------------------------------------------------------ */

static bool change(struct group *g, struct member *leader, uint8_t what, uint64_t id) {
    struct consensus_update update;
    char error[256];
    const char *address = what == CONSENSUS_ADD_STANDBY ? world_address(id) : NULL;
    int rv =
        consensus_change(leader->s.c, what, id, address, g->now_ms, &update, error, sizeof error);
    world_take(&leader->s, &update);
    g->did.changes += rv == 0;
    return rv == 0;
}

static void add_server(struct group *g, struct member *leader) {
    uint64_t id = g->servers_count + 1;
    if (id > SERVERS_MAX || !change(g, leader, CONSENSUS_ADD_STANDBY, id)) return;
    struct member *m = &g->members[id - 1];
    g->servers_count = id;
    world_join(&m->s, id);
    m->s.seed = (uint32_t)prng_next(&g->prng);
    m->s.rules_off = g->options->rules_off;
    m->joined_index = consensus_last_index(leader->s.c);
    world_start(&m->s, g->now_ms);
}

static void operate(struct group *g, struct member *leader) {
    struct consensus_group seen;
    struct consensus_update update;
    char error[256];
    consensus_group(leader->s.c, g->now_ms, &seen);
    const struct consensus_server *any = &seen.servers[prng_below(&g->prng, seen.count)];
    uint64_t drawn = prng_below(&g->prng, 12);
    if (drawn < 4 && g->options->transfers) {
        int rv = consensus_transfer(leader->s.c, any->id, g->now_ms, &update, error, sizeof error);
        world_take(&leader->s, &update);
        g->did.transfers += rv == 0;
    } else if (g->options->membership && drawn < 6) {
        if (seen.count < MEMBERS_MAX) add_server(g, leader);
    } else if (g->options->membership && drawn < 10) {
        for (uint32_t i = 0; i < seen.count; i++) {
            if (seen.servers[i].role != CONSENSUS_STANDBY) continue;
            change(g, leader, CONSENSUS_PROMOTE, seen.servers[i].id);
            break;
        }
    } else if (g->options->membership) {
        change(g, leader, CONSENSUS_REMOVE, any->id);
    }
}

/* -- one server, one millisecond --------------------------------------------------------------- */

static bool is_up(struct group *g, struct member *m) {
    struct world_server *s = &m->s;
    if (m->retired && g->now_ms >= m->ends_ms) {
        if (s->c != NULL) world_crash(s);
        return false;
    }
    if (s->c == NULL) {
        if (g->now_ms < m->down_until_ms) return false;
        s->start_trailing = (uint32_t)prng_below(&g->prng, 50);
        m->reads_count = 0;
        world_start(s, g->now_ms);
        return true;
    }
    if (g->calm || prng_below(&g->prng, (uint64_t)g->crash_every_ms) != 0) return true;
    world_crash(s);
    m->reads_count = 0;
    g->did.crashes++;
    m->down_until_ms = g->now_ms + prng_between(&g->prng, 1, g->down_ms_max);
    return false;
}

static void lead(struct group *g, struct member *m) {
    struct world_server *s = &m->s;
    if (s->queue_count < 32 && prng_chance(&g->prng, 1, 20)) {
        g->did.submitted += world_submit(s, (uint32_t)prng_between(&g->prng, 1, 5), g->now_ms) == 0;
    }
    if (g->options->reads && m->reads_count < READS_MAX && prng_chance(&g->prng, 1, 8)) {
        struct waiting_read read = {0, s->commit_index, g->committed_count};
        read.number = world_read(s, g->now_ms);
        if (read.number != 0) m->reads[m->reads_count++] = read;
    }
    if (g->now_ms < OPERATOR_ENDS_MS && prng_below(&g->prng, (uint64_t)g->operator_every_ms) == 0) {
        operate(g, m);
    }
}

static void step_member(struct group *g, struct member *m) {
    struct world_server *s = &m->s;
    if (!is_up(g, m)) return;
    end_transfer(g, m);
    if (s->c == NULL) return;
    if (g->now_ms >= m->disk_at_ms && world_persist(s, g->now_ms)) {
        bool stuck = !g->calm && prng_chance(&g->prng, g->slow_disk_percent, 100);
        m->disk_at_ms = g->now_ms + prng_between(&g->prng, 0, stuck ? 700 : 4);
    }
    if (g->now_ms >= s->timeout_ms) world_tick(s, g->now_ms);
    if (s->ready) lead(g, m);
    judge(g, m);
    if (g->fault == NULL) world_apply(s, g->now_ms);
    if (s->state[s->applied_index] != g->state[s->applied_index]) g->fault = "another state";
    if (g->options->snapshots && s->applied_index > s->marker_index &&
        prng_below(&g->prng, (uint64_t)g->checkpoint_every_ms) == 0) {
        uint64_t back = prng_below(&g->prng, s->applied_index - s->marker_index);
        world_checkpoint(s, s->applied_index - back, g->trailing, g->now_ms);
        g->did.checkpoints++;
    }
    send_all(g, m);
}

/* -- the run ----------------------------------------------------------------------------------- */

static void begin(struct group *g, const struct group_options *options) {
    static const uint64_t ids[] = {1, 2, 3, 4, 5};
    g->options = options;
    prng_seed(&g->prng, options->seed);
    g->loss_percent = (uint32_t)prng_below(&g->prng, 11);
    g->double_percent = (uint32_t)prng_below(&g->prng, 11);
    g->delay_percent = (uint32_t)prng_below(&g->prng, 15);
    g->slow_disk_percent = (uint32_t)prng_below(&g->prng, 12);
    if (options->slow_disks) g->slow_disk_percent = 33;
    g->crash_every_ms = prng_between(&g->prng, 200, 3000);
    g->down_ms_max = prng_chance(&g->prng, 1, 2) ? 30 : 800;
    g->checkpoint_every_ms = prng_between(&g->prng, 40, 1500);
    g->operator_every_ms = prng_between(&g->prng, 15, 300);
    g->trailing = (uint32_t)prng_below(&g->prng, 41);
    g->servers_count = options->voters;
    for (uint32_t i = 0; i < options->voters; i++) {
        struct world_server *s = &g->members[i].s;
        world_bootstrap(s, ids[i], ids, options->voters);
        s->seed = (uint32_t)prng_next(&g->prng);
        s->forgets_votes = options->forgets_votes;
        s->rules_off = options->rules_off;
        g->members[i].member = true;
        world_start(s, 0);
    }
}

static void judge_end(struct group *g, uint64_t committed_before_calm) {
    const struct world_server *leader = NULL;
    if (g->fault == NULL && g->committed_count <= committed_before_calm + 10) {
        g->fault = "no progress in calm";
    }
    for (uint64_t i = 0; i < g->servers_count && g->fault == NULL; i++) {
        const struct world_server *s = &g->members[i].s;
        if (s->c != NULL && s->ready) leader = s;
        /* One that was to be added by a leader that lost its term hears no more of the group. */
        if (!g->members[i].member) continue;
        if (s->commit_index + 100 < g->committed_count) g->fault = "a server lags";
        for (uint64_t k = s->log_first; k <= s->commit_index && g->fault == NULL; k++) {
            const struct record *r = held(s, k);
            if (r == NULL || world_record_hash(r) != g->committed_hash[k - 1]) {
                g->fault = "a committed record is gone or another";
            }
        }
    }
    if (g->fault != NULL) return;
    if (leader == NULL)
        g->fault = "no leader";
    else if (g->options->reads && leader->reads_confirmed == 0)
        g->fault = "no read is confirmed";
}

const char *group_run(const struct group_options *options, struct group_totals *totals) {
    struct group *g = calloc(1, sizeof *g);
    require(g != NULL);
    begin(g, options);
    uint64_t committed_before_calm = 0;
    for (g->now_ms = 1; g->now_ms < END_MS && g->fault == NULL; g->now_ms++) {
        if (g->now_ms == CALM_MS) {
            g->calm = true;
            committed_before_calm = g->committed_count;
        }
        if (g->now_ms >= g->cut_until_ms) {
            g->cut_id = prng_below(&g->prng, 2 * g->servers_count);
            if (g->cut_id > g->servers_count) g->cut_id = 0;
            g->cut_until_ms = g->now_ms + prng_between(&g->prng, 50, 1200);
        }
        deliver(g);
        for (uint64_t i = 0; i < g->servers_count && g->fault == NULL; i++) {
            step_member(g, &g->members[i]);
        }
    }
    judge_end(g, committed_before_calm);
    const char *fault = g->fault;
    totals->runs++;
    totals->committed += g->committed_count;
    totals->submitted += g->did.submitted;
    totals->elections += g->did.elections;
    totals->crashes += g->did.crashes;
    totals->lost += g->did.lost;
    totals->installs += g->did.installs;
    totals->checkpoints += g->did.checkpoints;
    totals->changes += g->did.changes;
    totals->transfers += g->did.transfers;
    totals->reads += g->did.reads;
    for (uint32_t i = 0; i < g->flights_count; i++) world_sent_free(&g->flights[i].sent);
    for (uint64_t i = 0; i < g->servers_count; i++) world_free(&g->members[i].s);
    free(g);
    return fault;
}
