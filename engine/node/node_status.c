#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "actors/order/order.h"
#include "engine/base/clock.h"
#include "engine/base/memory.h"
#include "engine/base/program.h"
#include "engine/node/node.h"
#include "engine/wire/msgpack_writer.h"

/* Maps are written without knowing their number of pairs first: the head has a fixed width and is
 * filled in at the end. */
struct status_map { size_t head; uint32_t pairs; };

struct status {
    struct msgpack_writer w;
    struct status_map map;   /* the innermost one */
};

static struct status_map status_begin(struct status *s) {
    static const uint8_t head[] = {0xde, 0, 0}; /* map 16 */
    struct status_map outer = s->map;
    s->map = (struct status_map){msgpack_writer_size(&s->w), 0};
    msgpack_write_raw(&s->w, head, sizeof head);
    return outer;
}

static void status_end(struct status *s, struct status_map outer) {
    if (msgpack_writer_ok(&s->w)) {
        s->w.start[s->map.head + 1] = (uint8_t)(s->map.pairs >> 8);
        s->w.start[s->map.head + 2] = (uint8_t)s->map.pairs;
    }
    s->map = outer;
}

static void status_key(struct status *s, const char *key) {
    s->map.pairs++;
    msgpack_write_text(&s->w, key);
}

static void status_uint(struct status *s, const char *key, uint64_t value) {
    status_key(s, key);
    msgpack_write_uint(&s->w, value);
}

static void status_int(struct status *s, const char *key, int64_t value) {
    status_key(s, key);
    msgpack_write_int(&s->w, value);
}

static void status_text(struct status *s, const char *key, const char *value) {
    status_key(s, key);
    msgpack_write_text(&s->w, value);
}

static void status_bool(struct status *s, const char *key, bool value) {
    status_key(s, key);
    msgpack_write_bool(&s->w, value);
}

static struct status_map status_map(struct status *s, const char *key) {
    status_key(s, key);
    return status_begin(s);
}

/* Counts by number -> map name -> count, of those that occurred. */
static void status_counts(struct status *s, const char *key, const uint64_t *counts, uint32_t size,
                          const char *(*name)(uint32_t number)) {
    struct status_map outer = status_map(s, key);
    for (uint32_t i = 0; i < size; i++) {
        if (counts[i] != 0) status_uint(s, name(i), counts[i]);
    }
    status_end(s, outer);
}

static void status_histogram(struct status *s, const char *key, const struct histogram *h) {
    struct status_map outer = status_map(s, key);
    status_uint(s, "count", histogram_count(h));
    status_uint(s, "p50", histogram_percentile_ns(h, 50000) / 1000);
    status_uint(s, "p90", histogram_percentile_ns(h, 90000) / 1000);
    status_uint(s, "p99", histogram_percentile_ns(h, 99000) / 1000);
    status_uint(s, "p99_9", histogram_percentile_ns(h, 99900) / 1000);
    status_uint(s, "max", histogram_percentile_ns(h, 100000) / 1000);
    status_end(s, outer);
}

static const char *status_role(uint8_t role) {
    switch (role) {
    case CONSENSUS_LEADER: return "leader";
    case CONSENSUS_CANDIDATE: return "candidate";
    default: return "follower";
    }
}

static void status_shard_counts(struct status *s, const struct shard_stats *t) {
    const struct { const char *key; uint64_t value; } counts[] = {
        {"term", t->term}, {"last_index", t->last_index}, {"commit_index", t->commit_index},
        {"applied_index", t->applied_index}, {"checkpoint_index", t->checkpoint_index},
        {"settled_index", t->settled_index}, {"settled_term", t->settled_term},
        {"unsettled", t->unsettled},
        {"commands", t->commands}, {"reads", t->reads}, {"refused", t->refused},
        {"repeated", t->repeated}, {"held", t->held}, {"overloaded", t->overloaded},
        {"events", t->events}, {"entries", t->entries}, {"entry_bytes", t->entry_bytes},
        {"turns", t->turns}, {"timers_fired", t->timers_fired},
        {"orders_in_memory", t->orders_in_memory}, {"stores_in_memory", t->stores_in_memory},
        {"paused_stores", t->paused_stores}, {"stores_moved", t->stores_moved},
        {"stores_came", t->stores_came}, {"stores_moving", t->moving}, {"empty", t->empty},
        {"stores_looked_percent", t->stores_looked_percent},
        {"shards_awaited", t->shards_awaited}, {"messages_waiting", t->messages_waiting},
        {"actor_bytes", t->actor_bytes},
        {"table_bytes", t->table_bytes}, {"mailbox_commands", t->mailbox_commands},
        {"limbo_entries", t->limbo_entries}, {"parked_commands", t->parked_commands},
        {"dirty_actors", t->dirty_actors}, {"timers_pending", t->timers_pending},
        {"loads", t->loads}, {"evictions", t->evictions},
        {"messages_sent", t->messages_sent}, {"messages_resent", t->messages_resent},
        {"messages_seen", t->messages_seen}, {"messages_repeated", t->messages_repeated},
        {"recovery_events", t->recovery_events}, {"recovery_ms", (uint64_t)t->recovery_ms}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        status_uint(s, counts[i].key, counts[i].value);
    uint32_t owed = 0;
    for (uint32_t p = 0; p < SHARDS_MAX; p++) owed += t->owed[p / 8] >> (p % 8) & 1;
    status_key(s, "messages_for");
    msgpack_write_array(&s->w, owed);
    for (uint32_t p = 0; p < SHARDS_MAX; p++)
        if (t->owed[p / 8] >> (p % 8) & 1) msgpack_write_uint(&s->w, p);
    status_counts(s, "commands_by_kind", t->commands_by_kind, 64, command_kind_name);
    status_counts(s, "refused_by_code", t->refused_by_code, 400, result_code_name);
    status_counts(s, "orders_by_state", t->orders_by_state, 16, order_state_name);
}

static void status_storage(struct status *s, const struct storage_stats *t) {
    const struct { const char *key; uint64_t value; } counts[] = {
        {"log_bytes", t->log_bytes}, {"state_bytes", t->state_bytes}, {"log_first", t->log_first},
        {"log_last", t->log_last}, {"segments", t->segments}, {"gaps", t->gaps},
        {"gap_first", t->gap_first}, {"gap_last", t->gap_last}, {"gap_records", t->gap_records},
        {"gap_records_filled", t->filled_records},
        {"commits", t->commits},
        {"commit_bytes", t->commit_bytes}, {"commit_us", t->commit_ns / 1000},
        {"commit_max_us", t->commit_ns_max / 1000}, {"appends_waiting", t->appends_waiting},
        {"appends_waiting_bytes", t->appends_waiting_bytes}, {"checkpoints", t->checkpoints},
        {"checkpoint_items", t->checkpoint_items}, {"actor_loads", t->loads}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        status_uint(s, counts[i].key, counts[i].value);
}

/* Where the group of the shard is, as this replica sees it. */
static void status_group(struct status *s, const struct node *n, uint32_t slot,
                         const struct shard_stats *t) {
    if (!n->peers) return;
    status_uint(s, "server", n->server_ids[slot]);
    status_uint(s, "leader_node", consensus_server_node(t->leader));
    status_uint(s, "servers", t->servers);
    struct consensus_group group = {0};
    uint64_t term;
    struct local_shards *local = &((struct node *)(uintptr_t)n)->local;
    uint32_t number = local_shards_number(slot);
    struct shard *shard = local_shards_enter(local, number);
    if (shard) {
        shard_group(shard, &group, &term);
        local_shards_leave(local, number);
    }
    status_key(s, "group");
    msgpack_write_array(&s->w, group.count);
    for (uint32_t i = 0; i < group.count; i++) {
        msgpack_write_array(&s->w, 4);
        msgpack_write_uint(&s->w, group.servers[i].id);
        msgpack_write_uint(&s->w, group.servers[i].role);
        msgpack_write_uint(&s->w, group.servers[i].match_index);
        msgpack_write_bool(&s->w, group.servers[i].recent);
    }
    status_key(s, "lacking_nodes");
    uint32_t lacking = 0;
    for (uint32_t i = 0; i < group.count; i++) lacking += group.servers[i].lacks;
    msgpack_write_array(&s->w, lacking);
    for (uint32_t i = 0; i < group.count; i++)
        if (group.servers[i].lacks)
            msgpack_write_uint(&s->w, consensus_server_node(group.servers[i].id));
    status_uint(s, "lag_entries_max", t->lag_entries_max);
    status_uint(s, "snapshots_installed", t->snapshots_installed);
}

/* Nothing of a damage where there is none. */
static void status_damages(struct status *s, struct node *n, uint32_t shard) {
    struct scrubber_damages d;
    scrubber_damages(n->scrubber, shard, &d);
    status_uint(s, "damages", d.count);
    if (d.count == 0) return;
    struct status_map outer = status_map(s, "damage");
    status_text(s, "kind", d.first.kind);
    status_text(s, "where", d.first.where);
    status_uint(s, "index", d.first.index);
    status_uint(s, "upto", d.first.upto);
    status_text(s, "what", d.first.what);
    status_end(s, outer);
}

/* Returns the bytes that the shard has on disk. */
static uint64_t status_shard(struct status *s, struct node *n, uint32_t slot) {
    struct shard_stats *t = &n->status_scratch;
    struct storage_stats storage;
    struct shard_thread_stats thread;
    uint32_t id = local_shards_number(slot);
    n->storages[slot]->ops->stats(n->storages[slot], &storage);
    shard_thread_stats(n->threads[slot], &thread);
    struct status_map outer = status_begin(s);
    status_uint(s, "shard", id);
    status_text(s, "endpoint", id < SHARDS_MAX ? n->map.shard_endpoints[id] : "");
    status_text(s, "role", status_role(t->role));
    status_bool(s, "ready", t->ready);
    status_bool(s, "failed", t->failed);
    status_bool(s, "disk_full", t->disk_full || storage.full);
    status_group(s, n, slot, t);
    status_shard_counts(s, t);
    status_storage(s, &storage);
    status_damages(s, n, id);
    status_uint(s, "rounds", thread.rounds);
    status_uint(s, "sleeps", thread.sleeps);
    status_uint(s, "wakes", thread.wakes);
    status_end(s, outer);
    return storage.log_bytes + storage.state_bytes;
}

/* Returns the bytes that all shards have on disk. */
static uint64_t status_shards(struct status *s, struct node *n) {
    static const uint8_t head[] = {0xdc, 0, 0}; /* array 16 */
    uint64_t used_bytes = 0;
    uint32_t count = 0;
    status_key(s, "shards");
    size_t at = msgpack_writer_size(&s->w);
    msgpack_write_raw(&s->w, head, sizeof head);
    pthread_mutex_lock(&n->status_mutex); /* nothing is closed meanwhile */
    for (uint32_t slot = 0; slot < LOCAL_SHARDS_SLOTS; slot++) {
        if (!node_shard_stats(n, slot)) continue;
        used_bytes += status_shard(s, n, slot);
        count++;
    }
    pthread_mutex_unlock(&n->status_mutex);
    if (msgpack_writer_ok(&s->w)) {
        s->w.start[at + 1] = (uint8_t)(count >> 8);
        s->w.start[at + 2] = (uint8_t)count;
    }
    return used_bytes;
}

static void status_messages(struct status *s, const struct ingress_stats *t) {
    struct status_map outer = status_map(s, "messages");
    const struct { const char *key; uint64_t value; } counts[] = {
        {"received", t->received}, {"replied", t->replied}, {"refused", t->refused},
        {"overloaded", t->overloaded}, {"commands", t->commands},
        {"node_commands", t->node_commands}, {"stray_commands", t->stray_commands},
        {"replies_dropped", t->replies_dropped}, {"bytes_in", t->bytes_in},
        {"bytes_out", t->bytes_out}, {"in_flight", t->in_flight}, {"not_led", t->not_led},
        {"forwarded", t->forwarded.messages}, {"forwarded_commands", t->forwarded.commands},
        {"forwards_unanswered", t->forwarded.unanswered}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        status_uint(s, counts[i].key, counts[i].value);
    status_end(s, outer);
    status_counts(s, "malformed", t->malformed, INGRESS_CODES, result_code_name);
    outer = status_map(s, "connections");
    status_uint(s, "open", t->connections_opened - t->connections_closed);
    status_uint(s, "opened", t->connections_opened);
    status_uint(s, "closed", t->connections_closed);
    status_end(s, outer);
}

static void status_ingress(struct status *s, const struct ingress *ingress) {
    struct ingress_stats stats;
    ingress_stats(ingress, &stats);
    status_messages(s, &stats);
    status_histogram(s, "latency_us", ingress_latency(ingress));
    struct histogram *recent = calloc(1, sizeof *recent);
    if (!recent) return;
    ingress_latency_recent(ingress, recent);
    status_histogram(s, "latency_recent_us", recent);
    free(recent);
}

static void status_courier_and_history(struct status *s, struct node *n) {
    struct node_courier_stats courier;
    struct history_reader_stats history;
    node_courier_stats(n->courier, &courier);
    history_reader_stats(n->history, &history);
    struct status_map outer = status_map(s, "courier");
    status_uint(s, "sent", courier.sent);
    status_uint(s, "acknowledged", courier.acknowledged);
    status_uint(s, "dropped", courier.dropped);
    status_uint(s, "refused", courier.refused);
    status_end(s, outer);
    outer = status_map(s, "history");
    status_uint(s, "reads", history.reads);
    status_uint(s, "refused", history.refused);
    status_uint(s, "waiting", history.waiting);
    status_uint(s, "read_us", history.read_ns / 1000);
    status_end(s, outer);
}

static void status_scrub(struct status *s, struct node *n) {
    struct scrubber_stats t;
    scrubber_stats(n->scrubber, &t);
    struct status_map outer = status_map(s, "scrub");
    status_int(s, "period_ms", t.period_ms);
    status_uint(s, "rounds", t.rounds);
    status_int(s, "round_ms", t.round_ms);
    status_uint(s, "bytes", t.bytes);
    status_uint(s, "postponed", t.postponed);
    status_end(s, outer);
}

static void status_feed(struct status *s, struct node *n) {
    struct feed_stats feed;
    if (!n->feed) return;
    feed_stats(n->feed, &feed);
    struct status_map outer = status_map(s, "feed");
    status_text(s, "endpoint", feed_endpoint(n->feed));
    status_text(s, "notify", feed_notify_endpoint(n->feed));
    status_uint(s, "requests", feed.requests);
    status_uint(s, "refused", feed.refused);
    status_uint(s, "overloaded", feed.overloaded);
    status_uint(s, "imports_required", feed.imports_required);
    status_uint(s, "entries", feed.entries);
    status_uint(s, "bytes", feed.bytes);
    status_uint(s, "shared", feed.shared);
    status_uint(s, "waiting", feed.waiting);
    status_uint(s, "notices", feed.notices);
    status_end(s, outer);
}

static void status_peers(struct status *s, const struct node_peers_stats *t) {
    const struct { const char *key; uint64_t value; } counts[] = {
        {"sent", t->messages.sent}, {"sent_bytes", t->messages.sent_bytes},
        {"lost", t->messages.lost}, {"received", t->messages.received},
        {"received_bytes", t->messages.received_bytes}, {"foreign", t->messages.foreign},
        {"stray", t->messages.stray}, {"malformed", t->messages.malformed},
        {"connects", t->messages.connects}, {"redials", t->redials},
        {"unwanted", t->unwanted}, {"refused", t->refused},
        {"snapshots_sending", t->states.sending}, {"snapshots_receiving", t->states.receiving},
        {"snapshots_sent", t->states.sent}, {"snapshots_received", t->states.received},
        {"snapshots_failed", t->states.failed}, {"snapshots_damaged", t->states.damaged},
        {"snapshot_sent_bytes", t->snapshots.sent_bytes},
        {"snapshot_received_bytes", t->snapshots.received_bytes},
        {"catch_up_messages", t->catch_up.messages}, {"catch_up_entries", t->catch_up.entries},
        {"catch_up_bytes", t->catch_up.bytes}, {"catch_up_waiting", t->catch_up.waiting}};
    struct status_map outer = status_map(s, "peers");
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        status_uint(s, counts[i].key, counts[i].value);
    status_end(s, outer);
}

/* The cluster as this node sees it: the other nodes, and what travels between them. */
static void status_cluster(struct status *s, struct node *n) {
    struct node_peers_stats stats;
    if (!n->peers) return;
    struct node_peers_seen *seen = calloc(NODES_MAX, sizeof *seen);
    uint32_t count = seen ? node_peers_seen(n->peers, seen, NODES_MAX) : 0;
    status_uint(s, "document", atomic_load(&n->topology_version));
    status_uint(s, "level", program_level((uint8_t)atomic_load(&n->topology_level)));
    status_key(s, "nodes");
    msgpack_write_array(&s->w, count);
    for (uint32_t i = 0; i < count; i++) {
        struct status_map outer = status_begin(s);
        status_uint(s, "node", seen[i].node);
        status_bool(s, "connected", seen[i].up);
        status_int(s, "silent_ms", seen[i].silent_ms);
        status_text(s, "endpoint", seen[i].endpoint);
        status_text(s, "version", seen[i].version);
        status_uint(s, "level_min", seen[i].level_min);
        status_uint(s, "level_max", seen[i].level_max);
        status_uint(s, "document", seen[i].document);
        if (seen[i].clock_known) status_int(s, "clock_ahead_ms", seen[i].clock_ahead_ms);
        if (seen[i].clock_known) status_bool(s, "clock_off", seen[i].clock_off);
        status_end(s, outer);
    }
    free(seen);
    node_peers_stats(n->peers, &stats);
    status_peers(s, &stats);
}

static void status_machine(struct status *s, struct node *n, uint64_t used_bytes) {
    struct memory_stats memory;
    struct statvfs disk = {0};
    memory_stats(&memory);
    statvfs(n->config.data, &disk);
    struct status_map outer = status_map(s, "memory");
    status_text(s, "allocator", memory_allocator());
    status_uint(s, "allocated_bytes", memory.allocated_bytes);
    status_uint(s, "resident_bytes", memory.resident_bytes);
    status_uint(s, "process_bytes", memory.process_bytes);
    status_end(s, outer);
    outer = status_map(s, "disk");
    status_uint(s, "used_bytes", used_bytes);
    status_uint(s, "free_bytes", (uint64_t)disk.f_bavail * disk.f_frsize);
    status_end(s, outer);
}

static void status_identity(struct status *s, struct node *n) {
    status_text(s, "version", program.version);
    status_uint(s, "level_min", program.level_min);
    status_uint(s, "level_max", program.level_max);
    status_uint(s, "node_id", n->identity.node_id);
    status_text(s, "cluster_id", n->identity.cluster_id);
    status_uint(s, "pid", (uint64_t)getpid());
    status_text(s, "endpoint", n->map.endpoint);
    status_text(s, "data", n->config.data);
    status_text(s, "run", n->run);
    status_uint(s, "shards_count", n->shards_count);
    status_int(s, "started_ms", n->started_ms);
    status_int(s, "now_ms", node_clock_ms(&n->clock));
    status_int(s, "clock_refused_ms", node_clock_refused_ms(&n->clock));
    status_uint(s, "uptime_ms", (uint64_t)(clock_mono_ms() - n->started_mono_ms));
    uint32_t damaged;
    status_bool(s, "ready", node_state(n, &damaged) == NODE_READY);
    status_bool(s, "draining", atomic_load(&n->draining));
}

void *node_status(void *arg, uint32_t *bytes) {
    struct node *n = arg;
    struct status s = {0};
    uint64_t used_bytes = 0;
    void *buffer = malloc(STATUS_BYTES_MAX);
    if (!buffer) return NULL;
    msgpack_writer_init(&s.w, buffer, STATUS_BYTES_MAX);
    struct status_map outer = status_begin(&s);
    status_identity(&s, n);
    status_ingress(&s, n->ingress);
    status_courier_and_history(&s, n);
    status_scrub(&s, n);
    status_feed(&s, n);
    status_cluster(&s, n);
    used_bytes = status_shards(&s, n);
    status_machine(&s, n, used_bytes);
    status_end(&s, outer);
    require(msgpack_writer_ok(&s.w)); /* SHARDS_MAX times what a shard's map can take */
    *bytes = (uint32_t)msgpack_writer_size(&s.w);
    void *trimmed = realloc(buffer, *bytes);
    return trimmed ? trimmed : buffer;
}
