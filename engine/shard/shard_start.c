/* The stored state, and consensus with what is durable of the log: at the start, and (the state
 * alone) whenever a replica has forgotten its memory. */
#include <inttypes.h>
#include <stdio.h>

#include "engine/base/log.h"
#include "engine/shard/shard_internal.h"

static bool load_cursor(void *arg, const struct checkpoint_cursor *c) {
    struct shard *s = arg;
    unsigned p;
    if (strcmp(c->name, "stores") == 0 && c->bytes == 16) {
        memcpy(&s->stores_index, c->value, 8);
        memcpy(&s->last_time_ms, c->value + 8, 8);
    } else if (strcmp(c->name, "totals.0") == 0 && c->bytes == 64) {
        memcpy(s->totals, c->value, 64);
    } else if (strcmp(c->name, "totals.1") == 0 && c->bytes == 64) {
        memcpy(s->totals + 8, c->value, 64);
    } else if (sscanf(c->name, "peer.%u", &p) == 1 && p < SHARDS_MAX &&
               c->bytes == 40) {
        uint64_t v[5];
        memcpy(v, c->value, sizeof v);
        outbox_know(&s->outbox, p);
        struct outbox_peer *peer = &s->outbox.peers[p];
        peer->acknowledged = peer->sent = peer->logged = v[0];
        peer->sequence_last = v[1];
        peer->seen = v[2];
        peer->seen_index = v[4];
        /* Messages that are not in the state (of an earlier version) are read from the log. */
        if (v[3] && (s->replay_index == 0 || v[3] < s->replay_index)) s->replay_index = v[3];
    } else if (!shard_growth_load(s, c)) {
        log_error("shard %u: unknown cursor \"%.24s\" in the state", s->options.id, c->name);
        return false;
    }
    return true;
}

static bool load_store(void *arg, const void *block, uint32_t bytes) {
    struct shard *s = arg;
    const struct actor *a = block;
    bool whole = a->kind == ACTOR_CLUSTER ? cluster_is_well_formed(block, bytes)
                                          : store_is_well_formed(block, bytes);
    if (!whole) {
        log_error("shard %u: a stored store, board note or cluster document is malformed",
                  s->options.id);
        return false;
    }
    uint32_t n = actor_table_add(&s->table, a->kind, &a->key, bytes);
    s->no_memory = n == SLOT_NONE ||
                   !actor_table_fill(&s->table, actor_table_slot(&s->table, n), block, bytes);
    if (s->no_memory) return false;
    if (a->kind == ACTOR_BOARD && a->state == STORE_IS_PAUSED) s->paused_stores++;
    return true;
}

struct start_entries {
    struct consensus_entry *entries;
    uint64_t count, capacity;
    bool no_memory;
};

static bool collect_entry(void *arg, const struct record_header *h, const void *payload) {
    struct start_entries *c = arg;
    if (c->count == c->capacity) {
        uint64_t wanted = c->capacity ? c->capacity * 2 : 4096;
        struct consensus_entry *entries = realloc(c->entries, wanted * sizeof *entries);
        if (!entries) {
            c->no_memory = true;
            return false;
        }
        c->entries = entries;
        c->capacity = wanted;
    }
    struct consensus_entry *e = &c->entries[c->count++];
    *e = (struct consensus_entry){h->term, h->type, NULL, 0};
    if (h->type != RECORD_CONFIGURATION || !payload) return true;
    void *copy = malloc(h->payload_bytes);
    if (!copy) {
        c->no_memory = true;
        return false;
    }
    memcpy(copy, payload, h->payload_bytes);
    e->payload = copy;
    e->payload_bytes = h->payload_bytes;
    return true;
}

/* The entries in front of the marker that the log has, so that a restarted leader need not send its
 * whole state to whoever lags. */
static bool collect_trail(struct shard *s, const struct storage_meta *meta,
                          struct start_entries *c) {
    uint64_t count = 0;
    uint64_t *terms = shard_trail_terms(s, meta, &count);
    for (uint64_t i = 0; i < count && !c->no_memory; i++) {
        /* What they configure is contained in what the marker says. */
        struct record_header h = {.term = terms[i], .type = RECORD_EVENTS};
        collect_entry(c, &h, NULL);
    }
    free(terms);
    return !c->no_memory;
}

static bool start_consensus(struct shard *s, const struct storage_meta *meta, char *error,
                            size_t error_bytes) {
    struct start_entries c = {0};
    uint64_t behind = meta->applied_index + 1;
    snprintf(error, error_bytes, "no memory for the list of log entries");
    if (!collect_trail(s, meta, &c)) goto done;
    uint64_t first = behind - c.count;
    if (meta->log_last >= behind &&
        s->options.storage->ops->read(s->options.storage, behind, meta->log_last, collect_entry,
                                      &c, error, error_bytes) != 0)
        goto done;
    struct consensus_start start = {
        .term = meta->term, .voted_for = meta->voted_for,
        .marker_index = meta->applied_index, .marker_term = meta->applied_term,
        .configuration_index = meta->configuration_index,
        .configuration = meta->configuration, .configuration_bytes = meta->configuration_bytes,
        .first_index = first, .entries = c.entries, .entries_count = c.count,
        .of_cluster = s->options.peers && !s->options.placed_alone,
        .now_ms = s->mono_ms};
    struct consensus_update update = {0};
    if (consensus_start(s->consensus, &start, &update, error, error_bytes) == 0) {
        error[0] = 0;
        shard_take_update(s, &update);
        shard_look_at_group(s);
        s->started = true;
    }
done:
    for (uint64_t i = 0; i < c.count; i++) free((void *)(uintptr_t)c.entries[i].payload);
    free(c.entries);
    return s->started;
}

/* A new shard: the group's first record, alone in the log, names its first voters. It is the same
 * at each of them. */
static bool bootstrap(struct shard *s, char *error, size_t error_bytes) {
    char texts[CONSENSUS_SERVERS_MAX][SHARD_ADDRESS_BYTES];
    const char *addresses[CONSENSUS_SERVERS_MAX] = {"self"};
    const uint64_t *ids = s->options.first_servers;
    uint32_t count = s->options.first_servers_count;
    require(count <= CONSENSUS_SERVERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        shard_address(ids[i], texts[i]);
        addresses[i] = texts[i];
    }
    if (count == 0) {
        ids = &s->options.server_id;
        count = 1;
    }
    struct record *record = consensus_bootstrap_record(ids, addresses, count);
    if (!record) {
        snprintf(error, error_bytes, "no memory for the first record");
        return false;
    }
    s->options.storage->ops->save_vote(s->options.storage, 1, 0);
    s->appends_before = s->options.storage->ops->append(s->options.storage, record);
    s->phase = SHARD_BOOTSTRAPPING;
    return true;
}

/* The first replicas of a group begin with its first record; so does one that died before that was
 * durable. Whoever joins later begins with nothing. */
static bool is_new(const struct shard *s, const struct storage_meta *meta) {
    if (meta->log_last != 0 || meta->applied_index != 0) return false;
    if (!s->options.peers) return true;
    return s->options.first_servers_count > 0 && meta->term <= 1 && meta->voted_for == 0;
}

static bool load_state(struct shard *s, const struct storage_meta *meta, char *error,
                       size_t error_bytes) {
    struct storage *storage = s->options.storage;
    error[0] = 0;
    if (storage->ops->visit_cursors(storage, load_cursor, s, error, error_bytes) != 0 ||
        storage->ops->visit_actors(storage, ACTOR_STORE, load_store, s, error, error_bytes) != 0 ||
        storage->ops->visit_actors(storage, ACTOR_BOARD, load_store, s, error, error_bytes) != 0 ||
        storage->ops->visit_actors(storage, ACTOR_CLUSTER, load_store, s, error, error_bytes) !=
            0) {
        if (!error[0]) snprintf(error, error_bytes, "the stored state cannot be read");
        return false;
    }
    if (!shard_load_messages(s, error, error_bytes)) return false;
    s->checkpoint_index = s->applied_index = meta->applied_index;
    s->checkpoint_term = meta->applied_term;
    if (s->commit_index < meta->applied_index) s->commit_index = meta->applied_index;
    s->unloaded_birth_max_ms = meta->orders_birth_max_ms;
    if (s->replay_index == 0 || s->replay_index > meta->applied_index + 1)
        s->replay_index = meta->applied_index + 1;
    if (s->replay_index < meta->log_first) s->replay_index = meta->log_first;
    s->phase = SHARD_RECOVERING;
    s->recovery_started_ms = s->mono_ms;
    return true;
}

static bool load_meta_and_state(struct shard *s, bool start, char *error, size_t error_bytes) {
    struct storage *storage = s->options.storage;
    struct storage_meta *meta = calloc(1, sizeof *meta);
    bool ok = false;
    s->no_memory = !meta;
    if (!meta) {
        snprintf(error, error_bytes, "no memory");
        return false;
    }
    if (storage->ops->load_meta(storage, meta, error, error_bytes) != 0) goto done;
    if (start && is_new(s, meta)) {
        ok = bootstrap(s, error, error_bytes);
        goto done;
    }
    ok = load_state(s, meta, error, error_bytes) &&
         (!start || start_consensus(s, meta, error, error_bytes));
done:
    free(meta);
    return ok;
}

bool shard_start(struct shard *s, char *error, size_t error_bytes) {
    return load_meta_and_state(s, true, error, error_bytes);
}

bool shard_load_state(struct shard *s, char *error, size_t error_bytes) {
    return load_meta_and_state(s, false, error, error_bytes);
}

/* What a server is called in configurations; nobody is called by it. */
void shard_address(uint64_t id, char address[SHARD_ADDRESS_BYTES]) {
    snprintf(address, SHARD_ADDRESS_BYTES, "%" PRIu64, id);
}
