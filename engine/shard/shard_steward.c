/* The steward: brings the group to where it shall be, and the lead to where it is best. It works in
 * the leader's shard, one safe step at a time; consensus refuses what would not be safe (rules M1
 * to M9 and T1), and then it asks again. What the next leader finds, it goes on with. */

#include <inttypes.h>

#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

enum {
    LOOK_EVERY_MS = 50,
    PAUSE_MS_MAX = 500,          /* turns wait so long for a hand-over to begin */
    TRANSFER_RETRY_MS = 2000,
    PREFERRED_AFTER_MS = 1000,   /* of a lead, before the preferred server gets it ... */
    GIVER_REST_MS = 15000,       /* ... or, where it gave the lead away itself, gets it back */
    BLOCKED_MS_MAX = 2000,       /* a disk without room, or one that stands still */
    FULL_TOO_MS_MAX = 300000,    /* the same where the lead was given, see is_full_too() */
    SILENT_MS_MAX = 5000,        /* an unwanted voter counts as dead then */
    TARGET_LAG_MAX = 256,
    PREFERRED_LAG_MAX = 96,      /* entries that turns would wait for: it is not urgent ... */
    PREFERRED_KEEPS_UP_MS = 2000, /* ... and so long it has not been further behind */
    PREFERRED_MOVES_MS = 1000
};

static bool holds(const uint64_t *ids, uint32_t count, uint64_t id) {
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id) return true;
    return false;
}

static bool is_placed(const struct shard_placement *p, uint64_t id) {
    return p->count < 2 || holds(p->servers, p->count, id);
}

static bool is_drained(const struct shard_placement *p, uint64_t id) {
    return holds(p->drained, p->drained_count, id);
}

static const struct consensus_server *member(const struct consensus_group *g, uint64_t id) {
    for (uint32_t i = 0; i < g->count; i++)
        if (g->servers[i].id == id) return &g->servers[i];
    return NULL;
}

/* All that shall belong to the group vote in it. */
static bool all_placed_vote(const struct shard_placement *p, const struct consensus_group *g) {
    for (uint32_t i = 0; i < p->count; i++) {
        const struct consensus_server *m = member(g, p->servers[i]);
        if (!m || m->role != CONSENSUS_VOTER) return false;
    }
    return true;
}

static void take_placement(struct shard *s) {
    if (!atomic_exchange_explicit(&s->placement_offered, false, memory_order_acquire)) return;
    pthread_mutex_lock(&s->published_lock);
    if (s->placement.version != s->steward.placement.version) s->steward.giver = 0;
    s->steward.placement = s->placement;
    pthread_mutex_unlock(&s->published_lock);
}

/* -- who has not been heard of for long -------------------------------------------------------- */

static void note_silence(struct shard *s, const struct consensus_group *g) {
    struct steward *w = &s->steward;
    for (uint32_t i = 0; i < g->count; i++) {
        if (w->silent[i].id != g->servers[i].id || g->servers[i].recent) {
            w->silent[i].id = g->servers[i].id;
            w->silent[i].since_ms = s->mono_ms;
        }
    }
}

static bool is_dead(const struct shard *s, const struct consensus_group *g, uint32_t i) {
    return !g->servers[i].recent && s->steward.silent[i].id == g->servers[i].id &&
           s->mono_ms - s->steward.silent[i].since_ms >= SILENT_MS_MAX;
}

/* Told once for each lead. Nothing here can mend it: what it votes for must not count any more. */
static void note_lacking(struct shard *s, const struct consensus_group *g) {
    struct steward *w = &s->steward;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct consensus_server *m = &g->servers[i];
        uint32_t node = consensus_server_node(m->id);
        if (w->lacking[i].id == m->id && w->lacking[i].term == s->serving_term) continue;
        if (!m->lacks) continue;
        w->lacking[i].id = m->id;
        w->lacking[i].term = s->serving_term;
        log_error("shard %u: node %u has lost what it acknowledged (up to %" PRIu64 "): its "
                  "directory is an older copy, or its disk forgot what was synced. Stop it, and "
                  "put an empty node in its place: jumun cluster replace %u URL",
                  s->options.id, node, m->match_index, node);
    }
}

/* -- the lead ---------------------------------------------------------------------------------- */

/* Nothing is added while this disk is full: who does not come to have all of it is full, too, and
 * turns would wait for it in vain. */
static bool can_lead(const struct shard *s, const struct consensus_server *m) {
    const struct shard_placement *p = &s->steward.placement;
    uint64_t lag_max = s->disk_full ? 0 : TARGET_LAG_MAX;
    return m->role == CONSENSUS_VOTER && m->id != s->options.server_id && m->recent && !m->lacks &&
           is_placed(p, m->id) && !is_drained(p, m->id) &&
           m->match_index + lag_max >= consensus_last_index(s->consensus);
}

static uint64_t best_but(const struct shard *s, const struct consensus_group *g, uint64_t giver) {
    const struct consensus_server *best = NULL;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct consensus_server *m = &g->servers[i];
        if (m->id == giver || !can_lead(s, m)) continue;
        if (m->id == s->steward.placement.preferred) return m->id;
        if (!best || m->match_index > best->match_index ||
            (m->match_index == best->match_index && m->id < best->id))
            best = m;
    }
    return best ? best->id : 0;
}

/* From a full disk the lead goes back only where nobody else can take it. */
static uint64_t best_target(const struct shard *s, const struct consensus_group *g) {
    uint64_t best = s->disk_full ? best_but(s, g, s->steward.giver) : 0;
    return best != 0 ? best : best_but(s, g, 0);
}

/* It serves, but the lead was given, as from a full disk, to one that is full as well: it may be
 * that all are. Going round among them it would help nobody, and interrupt the reads that go on;
 * and each round takes room in the journals, which nothing makes again. (The preferred server was
 * given it for another reason.) */
static bool is_full_too(const struct shard *s) {
    const struct steward *w = &s->steward;
    return s->disk_full && s->phase == SHARD_SERVING && w->giver != 0 &&
           w->placement.preferred != s->options.server_id &&
           w->blocked_ms - s->serving_since_ms < GIVER_REST_MS;
}

/* This server leads and should not. */
static bool must_go(const struct shard *s, const struct consensus_group *g) {
    const struct shard_placement *p = &s->steward.placement;
    if (s->draining || atomic_load_explicit(&s->hand_over, memory_order_relaxed)) return true;
    if (is_drained(p, s->options.server_id)) return true;
    int64_t blocked_ms_max = is_full_too(s) ? FULL_TOO_MS_MAX : BLOCKED_MS_MAX;
    if (s->steward.blocked_ms != 0 && s->mono_ms - s->steward.blocked_ms >= blocked_ms_max)
        return true;
    return !is_placed(p, s->options.server_id) && all_placed_vote(p, g);
}

void shard_note_giver(struct shard *s, uint64_t from, uint64_t term) {
    s->steward.giver = from;
    s->steward.giver_term = term;
}

/* Whether the giver has been away, or somebody else has led since: then it is given no rest. Looked
 * at in each round, for once it is back there is nothing to be seen of it. */
static void note_giver_away(struct shard *s, const struct consensus_group *g) {
    struct steward *w = &s->steward;
    if (w->giver == 0 || s->phase != SHARD_SERVING) return;
    const struct consensus_server *m = member(g, w->giver);
    if (!m || !m->recent || w->giver_term + 1 != s->serving_term) w->giver = 0;
}

/* Whoever gave the lead away had a reason that this leader does not know: it stops, or its disk is
 * full. It would have to give it away again, if it is not gone by then. */
static bool must_rest(const struct shard *s) {
    const struct steward *w = &s->steward;
    return w->giver != 0 && w->giver == w->placement.preferred &&
           s->mono_ms - s->serving_since_ms < GIVER_REST_MS;
}

/* Since when the preferred server is not behind. One that was away passes the end of its way in
 * bursts, with all its work before it: turns would wait for it, in vain as often as not. So they
 * would for one that is a little behind and stays there, for its disk is full, or stands still: it
 * has to have got as far as the log was a second ago. */
static void note_keeps_up(struct shard *s, const struct consensus_group *g) {
    struct steward *w = &s->steward;
    const struct consensus_server *m = member(g, w->placement.preferred);
    uint64_t last = consensus_last_index(s->consensus);
    bool looks = s->mono_ms - w->keeps_up_seen_ms >= PREFERRED_MOVES_MS;
    if (!m || !m->recent || m->id != w->keeps_up || m->match_index + PREFERRED_LAG_MAX < last ||
        (looks && m->match_index < w->keeps_up_last)) {
        w->keeps_up = w->placement.preferred;
        w->keeps_up_ms = s->mono_ms;
    }
    if (!looks) return;
    w->keeps_up_last = last;
    w->keeps_up_seen_ms = s->mono_ms;
}

static bool preferred_waits(const struct shard *s, const struct consensus_group *g) {
    const struct shard_placement *p = &s->steward.placement;
    const struct consensus_server *m = member(g, p->preferred);
    return p->preferred != s->options.server_id && m && can_lead(s, m) && !s->disk_full &&
           s->mono_ms - s->steward.keeps_up_ms >= PREFERRED_KEEPS_UP_MS &&
           s->phase == SHARD_SERVING && s->mono_ms - s->serving_since_ms >= PREFERRED_AFTER_MS &&
           all_placed_vote(p, g) && g->count == p->count;
}

static void transfer_begin(struct shard *s, const struct consensus_group *g) {
    struct steward *w = &s->steward;
    if (s->mono_ms < w->next_transfer_ms || consensus_open_change(s->consensus) != 0) return;
    if (must_go(s, g)) w->target = best_target(s, g);
    else if (preferred_waits(s, g) && !must_rest(s)) w->target = w->placement.preferred;
    if (w->target == 0) return;
    w->asked = false;
    w->pause_until_ms = s->mono_ms + PAUSE_MS_MAX;
}

/* T1: nothing is submitted until the target has everything; then it is asked to lead. */
static void transfer_go_on(struct shard *s) {
    struct steward *w = &s->steward;
    if (consensus_transferee(s->consensus) != 0) return;
    if (!w->asked && s->mono_ms < w->pause_until_ms) {
        char error[128];
        struct consensus_update update = {0};
        w->asked = consensus_transfer(s->consensus, w->target, s->mono_ms, &update, error,
                                      sizeof error) == 0;
        shard_take_update(s, &update);
        if (w->asked) s->stats.transfers++;
        return;
    }
    /* It does not follow, or was asked and has not been elected. */
    w->target = 0;
    w->next_transfer_ms = s->mono_ms + TRANSFER_RETRY_MS;
}

/* -- who belongs to the group ------------------------------------------------------------------ */

static void change(struct shard *s, uint8_t what, uint64_t id) {
    char address[SHARD_ADDRESS_BYTES], error[128];
    struct consensus_update update = {0};
    shard_address(id, address);
    int rv = consensus_change(s->consensus, what, id, address, s->mono_ms, &update, error,
                              sizeof error);
    shard_take_update(s, &update);
    if (rv != 0) return;
    /* There is nothing in it to apply. */
    s->applied_index = consensus_last_index(s->consensus);
    s->stats.changes++;
    log_info("shard %u: %s node %u (incarnation %u)", s->options.id,
             what == CONSENSUS_ADD_STANDBY ? "adds"
             : what == CONSENSUS_PROMOTE   ? "gives a vote to"
                                           : "removes",
             consensus_server_node(id), consensus_server_incarnation(id));
}

static bool remove_one(struct shard *s, const struct consensus_group *g, uint32_t i) {
    uint32_t voters = 0;
    for (uint32_t k = 0; k < g->count; k++) voters += g->servers[k].role == CONSENSUS_VOTER;
    if (g->servers[i].role == CONSENSUS_VOTER && voters <= 2) return false;
    change(s, CONSENSUS_REMOVE, g->servers[i].id);
    return true;
}

/* M9: what lives is replaced by adding first, what is dead by removing first. One thing after the
 * other: whoever is being added is waited for. */
static void change_step(struct shard *s, const struct consensus_group *g) {
    const struct shard_placement *p = &s->steward.placement;
    if (p->count < 2 || consensus_open_change(s->consensus) != 0) return;
    /* Nothing else is allowed while a dead one has not got the last change (M7). */
    for (uint32_t i = 0; i < g->count; i++)
        if (!is_placed(p, g->servers[i].id) && is_dead(s, g, i) && remove_one(s, g, i)) return;
    for (uint32_t i = 0; i < g->count; i++) {
        const struct consensus_server *m = &g->servers[i];
        if (m->role != CONSENSUS_STANDBY) continue;
        change(s, is_placed(p, m->id) ? CONSENSUS_PROMOTE : CONSENSUS_REMOVE, m->id);
        return;
    }
    for (uint32_t i = 0; i < p->count; i++) {
        if (member(g, p->servers[i])) continue;
        if (g->count < CONSENSUS_SERVERS_MAX) change(s, CONSENSUS_ADD_STANDBY, p->servers[i]);
        return;
    }
    for (uint32_t i = 0; i < g->count; i++)
        if (!is_placed(p, g->servers[i].id) && g->servers[i].id != s->options.server_id &&
            remove_one(s, g, i))
            return;
}

/* -- the round --------------------------------------------------------------------------------- */

/* Since when nothing more can be written here, or this leader cannot begin to serve. */
static void note_blocked(struct shard *s) {
    if (!s->disk_full && s->phase == SHARD_SERVING) s->steward.blocked_ms = 0;
    else if (s->steward.blocked_ms == 0) s->steward.blocked_ms = s->mono_ms;
}

void shard_steward(struct shard *s) {
    struct steward *w = &s->steward;
    if (s->alone) return;
    if (!s->ready || s->deposed) { /* it does not lead, or not yet */
        w->target = 0;
        w->blocked_ms = w->next_transfer_ms = 0;
        w->keeps_up = 0;
        if (s->phase == SHARD_FOLLOWING) atomic_store(&s->hand_over, false);
        return;
    }
    if (w->target != 0) {
        transfer_go_on(s);
        return;
    }
    if (s->mono_ms < w->look_ms) return;
    w->look_ms = s->mono_ms + LOOK_EVERY_MS;
    take_placement(s);
    struct consensus_group group;
    consensus_group(s->consensus, s->mono_ms, &group);
    note_blocked(s);
    note_silence(s, &group);
    note_lacking(s, &group);
    note_giver_away(s, &group);
    note_keeps_up(s, &group);
    transfer_begin(s, &group);
    if (w->target == 0 && s->phase == SHARD_SERVING) change_step(s, &group);
}
