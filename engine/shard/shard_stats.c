/* The numbers that other threads may read: a copy, taken a few times a second. */
#include "engine/shard/shard_internal.h"

enum { PUBLISH_EVERY_MS = 20 };

void shard_count_result(struct shard *s, const struct command *command, const struct result *r) {
    struct shard_stats *t = &s->stats;
    if (command->uncounted) return;
    t->commands++;
    if (command->kind < sizeof t->commands_by_kind / sizeof *t->commands_by_kind)
        t->commands_by_kind[command->kind]++;
    if (command_is_read(command->kind)) t->reads++;
    if (r->flags & RESULT_FLAG_REPEATED) t->repeated++;
    if (r->code == RESULT_OK) return;
    if (r->code == RESULT_HELD) {
        t->held++;
        return;
    }
    t->refused++;
    if (r->code == RESULT_OVERLOADED) t->overloaded++;
    if (command->malformed) t->malformed++;
    if (r->code < sizeof t->refused_by_code / sizeof *t->refused_by_code)
        t->refused_by_code[r->code]++;
}

static void gather_growth(struct shard *s) {
    struct shard_stats *t = &s->stats;
    const struct growth *g = &s->growth;
    uint32_t open = g->boards_awaited + g->stores_awaited + g->boards_owed + g->stores_owed;
    t->moving = g->version != 0 &&
                (!g->settled || g->needs_boards || g->needs_stores || open > 0);
    t->shards_awaited = (uint16_t)(g->boards_awaited > g->stores_awaited ? g->boards_awaited
                                                                         : g->stores_awaited);
    t->messages_waiting = s->outbox.messages_waiting;
    memset(t->owed, 0, sizeof t->owed);
    for (uint32_t p = 0; p < s->outbox.peers_count && t->messages_waiting > 0; p++)
        if (s->outbox.peers[p].front.first || s->outbox.peers[p].away_last)
            t->owed[p / 8] |= (uint8_t)(1u << (p % 8));
    t->stores_looked_percent = 100;
    if (g->version != 0 && !g->settled && s->table.slots_used > 0)
        t->stores_looked_percent = (uint8_t)(100ull * g->store_slot / s->table.slots_used);
    uint64_t orders = 0;
    for (uint32_t i = 0; i < SHARD_STATES_MAX; i++) orders += s->totals[i];
    t->vacant = orders == 0 && s->table.count[ACTOR_STORE] == 0 &&
                s->outbox.messages_waiting == 0 && s->phase != SHARD_BOOTSTRAPPING &&
                s->phase != SHARD_RECOVERING;
    t->empty = t->ready && t->vacant && !t->moving && s->parked_count == 0 &&
               s->commit_index == s->applied_index && s->checkpoint_index > 0;
}

static void gather(struct shard *s) {
    struct shard_stats *t = &s->stats;
    t->messages_sent = s->outbox.sent;
    t->messages_resent = s->outbox.resent;
    t->messages_seen = s->outbox.seen;
    t->messages_repeated = s->outbox.repeated;
    t->orders_in_memory = s->table.count[ACTOR_ORDER];
    t->stores_in_memory = s->table.count[ACTOR_STORE];
    t->paused_stores = s->paused_stores;
    memcpy(t->orders_by_state, s->totals, sizeof t->orders_by_state);
    t->actor_bytes = s->memory.actor_bytes;
    t->table_bytes = s->memory.table_bytes;
    t->mailbox_commands = mailbox_commands(&s->mailbox);
    t->limbo_entries = s->limbo_entries;
    t->parked_commands = s->parked_count;
    t->dirty_actors = s->dirty.count + s->dirty_stores_count;
    t->timers_pending = s->timers.count;
    t->commit_index = s->commit_index;
    t->applied_index = s->applied_index;
    t->checkpoint_index = s->checkpoint_index;
    t->last_index = s->phase == SHARD_BOOTSTRAPPING ? 0 : consensus_last_index(s->consensus);
    t->term = s->phase == SHARD_BOOTSTRAPPING ? 0 : consensus_term(s->consensus);
    t->ready = s->phase == SHARD_SERVING && !s->failed;
    t->failed = s->failed;
    gather_growth(s);
    t->phase = s->phase;
    t->disk_full = s->disk_full;
}

static void gather_group(struct shard *s, struct consensus_group *group) {
    struct shard_stats *t = &s->stats;
    consensus_group(s->consensus, s->mono_ms, group);
    t->leader = group->leader;
    t->servers = group->count;
    t->lag_entries_max = 0;
    if (s->stats.role != CONSENSUS_LEADER) return;
    for (uint32_t i = 0; i < group->count; i++) {
        uint64_t match = group->servers[i].match_index;
        if (group->servers[i].id == s->options.server_id || match >= t->last_index) continue;
        if (t->last_index - match > t->lag_entries_max) t->lag_entries_max = t->last_index - match;
    }
}

void shard_publish(struct shard *s) {
    if (s->published_ms != 0 && s->mono_ms - s->published_ms < PUBLISH_EVERY_MS) {
        s->unpublished = true;
        return;
    }
    gather(s);
    struct consensus_group group = {0};
    if (s->options.peers && s->started) gather_group(s, &group);
    pthread_mutex_lock(&s->published_lock);
    s->published = s->stats;
    s->published_group = group;
    pthread_mutex_unlock(&s->published_lock);
    s->published_ms = s->mono_ms;
    s->unpublished = false;
}

void shard_stats(const struct shard *shard, struct shard_stats *stats) {
    struct shard *s = (struct shard *)(uintptr_t)shard;
    uint64_t commit_index = shard_commit_index(shard);
    pthread_mutex_lock(&s->published_lock);
    *stats = s->published;
    stats->settled_index = s->settled.index;
    stats->settled_term = s->settled.term;
    pthread_mutex_unlock(&s->published_lock);
    stats->unsettled =
        commit_index > stats->settled_index ? commit_index - stats->settled_index : 0;
    stats->mailbox_commands = mailbox_commands(&s->mailbox);
    stats->overloaded +=
        atomic_load_explicit(&s->mailbox.refused, memory_order_relaxed);
}

bool shard_is_empty(const struct shard *shard) {
    struct shard *s = (struct shard *)(uintptr_t)shard;
    pthread_mutex_lock(&s->published_lock);
    bool empty = s->published.empty;
    pthread_mutex_unlock(&s->published_lock);
    return empty && mailbox_commands(&s->mailbox) == 0;
}

uint32_t shard_commit_times(const struct shard *s, uint64_t from, uint64_t last,
                            struct commit_moment *moments, uint32_t max) {
    return commit_times_read(&s->commit_times, from, last, moments, max);
}

bool shard_commit_is_known(const struct shard *s) {
    return atomic_load_explicit(&s->commit_known, memory_order_acquire);
}

uint64_t shard_commit_index(const struct shard *s) {
    return atomic_load_explicit(&s->commit_published, memory_order_acquire);
}
