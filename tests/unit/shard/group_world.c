#include "tests/unit/shard/group_world.h"

#include <stdio.h>

enum { LOAD_CONSENSUS = 1, LOAD_MESSAGE = 2, LOAD_ACKNOWLEDGEMENT = 3, APPEND_READ_MAX = 64 };

struct load {
    struct network_load head;    /* kind: one of the above */
    uint32_t shard;              /* that it goes to */
    struct consensus_message *message;
    uint32_t from_shard;
    uint64_t sequence;
    uint32_t bytes;
    uint8_t *payload;
};

static void load_drop(struct network_load *head) {
    struct load *l = (struct load *)(void *)head;
    consensus_message_free(l->message);
    free(l->payload);
    free(l);
}

static struct load *load_new(uint32_t kind, uint32_t shard) {
    struct load *l = calloc(1, sizeof *l);
    l->head = (struct network_load){.kind = kind, .drop = load_drop};
    l->shard = shard;
    return l;
}

static struct record *record_copy(const struct record_header *header, const void *payload) {
    struct record *r = record_new(header->payload_bytes);
    r->header = *header;
    memcpy(r->payload, payload, header->payload_bytes);
    return r;
}

/* -- peers ------------------------------------------------------------------------------------- */

struct read_back { struct record *records[APPEND_READ_MAX]; uint32_t count; };

static bool read_back_one(void *arg, const struct record_header *header, const void *payload) {
    struct read_back *b = arg;
    b->records[b->count++] = record_copy(header, payload);
    return true;
}

static struct consensus_message *message_filled(struct storage *storage,
                                                const struct consensus_message *m) {
    struct consensus_message fields = *m;
    struct read_back b = {.count = 0};
    char error[256];
    if (m->kind == CONSENSUS_APPEND && m->records_count > 0 && m->records == NULL) {
        uint64_t last = m->previous_index + m->records_count;
        if (last > m->previous_index + APPEND_READ_MAX) last = m->previous_index + APPEND_READ_MAX;
        if (storage->ops->read(storage, m->previous_index + 1, last, read_back_one, &b, error,
                               sizeof error) != 0)
            fprintf(stderr, "append from the log: %s\n", error);
        fields.records = b.records;
        fields.records_count = b.count;
    }
    struct consensus_message *copy = consensus_message_new(&fields, fields.records_count);
    for (uint32_t i = 0; i < b.count; i++) record_release(b.records[i]);
    return copy;
}

static void peers_send(struct peers *peers, uint32_t shard, struct storage *storage,
                       const struct consensus_message *m) {
    struct replica *r = (struct replica *)(void *)peers;
    uint32_t to = consensus_server_node(m->to) - 1;
    require(m->from == r->server_id && to < GROUP_NODES_MAX && storage == r->storage);
    if (m->kind == CONSENSUS_INSTALL_SNAPSHOT) {
        r->wants_snapshot[to] = true;
        return;
    }
    if (m->kind == CONSENSUS_APPEND)
        *(m->records ? &r->world->from_memory[to] : &r->world->from_log[to]) += m->records_count;
    struct load *l = load_new(LOAD_CONSENSUS, shard);
    l->message = message_filled(storage, m);
    network_send(r->world->network, r->node, to, &l->head, false);
}

static void peers_leader(struct peers *peers, uint32_t shard, uint64_t term, uint64_t leader,
                         bool ready) {
    struct replica *r = (struct replica *)(void *)peers;
    require(shard == r->id && term >= r->term);
    r->term = term;
    r->leader = leader;
    r->ready = ready;
}

static void receive_consensus(struct replica *r, const struct consensus_message *m) {
    if (m->to != r->server_id) return;
    struct consensus_message fields = *m;
    fields.records = NULL;
    struct consensus_message *copy = consensus_message_new(&fields, m->records_count);
    for (uint32_t i = 0; i < m->records_count; i++)
        ((struct record **)(uintptr_t)copy->records)[i] =
            record_copy(&m->records[i]->header, m->records[i]->payload);
    if (!shard_offer_consensus(r->shard, copy)) consensus_message_free(copy);
}

/* -- courier ----------------------------------------------------------------------------------- */

/* To every node: whoever leads there takes it. */
static void courier_put(struct courier *courier, uint32_t kind, uint32_t from, uint32_t to,
                        uint64_t sequence, struct bytes payload) {
    struct replica *r =
        (struct replica *)(void *)((uint8_t *)courier - offsetof(struct replica, courier));
    for (uint32_t node = 0; node < GROUP_NODES_MAX; node++) {
        struct load *l = load_new(kind, to);
        l->from_shard = from;
        l->sequence = sequence;
        l->bytes = payload.size;
        l->payload = malloc(payload.size + 1);
        if (payload.size) memcpy(l->payload, payload.data, payload.size);
        network_send(r->world->network, r->node, node, &l->head, false);
    }
}

static void courier_send(struct courier *courier, uint32_t from, uint32_t to, uint64_t sequence,
                         struct bytes payload) {
    courier_put(courier, LOAD_MESSAGE, from, to, sequence, payload);
}

static void courier_acknowledge(struct courier *courier, uint32_t from, uint32_t to,
                                uint64_t sequence) {
    courier_put(courier, LOAD_ACKNOWLEDGEMENT, from, to, sequence, (struct bytes){0});
}

static void deliver(void *arg, uint32_t from, uint32_t to, const struct network_load *head) {
    struct group_world *w = arg;
    const struct load *l = (const struct load *)(const void *)head;
    struct replica *r = &w->replicas[to][l->shard];
    (void)from;
    if (!r->shard) return;
    if (head->kind == LOAD_CONSENSUS) receive_consensus(r, l->message);
    if (head->kind == LOAD_MESSAGE)
        shard_offer_message(r->shard, l->from_shard, l->sequence, bytes_of(l->payload, l->bytes));
    if (head->kind == LOAD_ACKNOWLEDGEMENT)
        shard_offer_acknowledgement(r->shard, l->from_shard, l->sequence);
}

/* -- snapshots --------------------------------------------------------------------------------- */

static void send_snapshot(struct group_world *w, struct replica *r, uint32_t to) {
    struct replica *target = &w->replicas[to][r->id];
    struct shard_snapshot snapshot = {.from = r->server_id, .leader_term = r->term};
    char error[256] = "";
    atomic_bool stop = false;
    r->wants_snapshot[to] = false;
    if (!target->shard || w->no_snapshots || network_is_cut(w->network, r->node, to)) return;
    snprintf(snapshot.path, sizeof snapshot.path, "%u-%u-to-%u", r->id, r->node, to);
    storage_memory_files_remove(w->files, snapshot.path);
    if (r->storage->ops->export_state(r->storage, snapshot.path, &stop, &snapshot.meta, error,
                                      sizeof error) != 0 ||
        target->storage->ops->check_state(target->storage, snapshot.path, &snapshot.meta, error,
                                          sizeof error) != 0) {
        fprintf(stderr, "snapshot: %s\n", error);
        return;
    }
    if (shard_offer_snapshot(target->shard, &snapshot)) w->snapshots++;
}

/* -- life -------------------------------------------------------------------------------------- */

void group_open(struct group_world *w, const struct group_setup *setup) {
    *w = (struct group_world){.nodes = setup->nodes ? setup->nodes : 3,
                              .disk_options = setup->disk, .mono_ms = 1000,
                              .now_ms = 1750000000000};
    w->names.now_ms = w->now_ms;
    w->files = storage_memory_files_new();
    struct network_options network = setup->network;
    network.cut_loses_all = true; /* tests say what must be lost */
    w->network = network_new(&network, deliver, w);
    w->shards = setup->shards ? setup->shards : GROUP_SHARDS;
    if (setup->shards) {
        w->view = (struct shard_view){.version = 1, .stores_shards = w->shards, .epochs_count = 1};
        w->view.epochs[0] = (struct routing_epoch){0, w->shards};
        for (uint32_t s = 0; s < w->shards; s++) w->view.active[0] |= (uint8_t)(1u << s);
    }
    w->options = (struct shard_options){.shards_count = w->shards, .seed = 7,
                                        .trailing_entries = setup->trailing_entries,
                                        .checkpoint_age_ms = setup->checkpoint_age_ms};
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++)
        for (uint32_t s = 0; s < GROUP_SHARDS_MAX; s++) {
            struct replica *r = &w->replicas[n][s];
            struct storage_memory_options disk = setup->disk;
            disk.seed = setup->disk.seed + n * GROUP_SHARDS + s;
            disk.files = w->files;
            disk.shard = s;
            *r = (struct replica){.peers = {peers_send, peers_leader},
                                  .courier = {courier_send, courier_acknowledge}, .world = w,
                                  .node = n, .id = s, .server_id = consensus_server_id(n + 1, 0),
                                  .disk = storage_memory_new(&disk)};
        }
    for (uint32_t n = 0; n < w->nodes; n++) group_start_node(w, n);
}

struct settled_look { uint64_t term; };

static bool settled_visit(void *arg, const struct record_header *header, const void *payload) {
    (void)payload;
    ((struct settled_look *)arg)->term = header->term;
    return true;
}

/* What a replica says to be settled is in its log, of the term that it tells, and every other one
 * that ever says so of this index means the same record. */
static void judge_settled(struct group_world *w, struct replica *r) {
    struct shard_stats stats;
    struct settled_look look = {0};
    char error[256];
    shard_stats(r->shard, &stats);
    if (stats.settled_index == r->settled) return;
    require(stats.settled_index > r->settled && stats.settled_term > 0);
    r->settled = stats.settled_index;
    struct group_settled *known = &w->settled[r->id][r->settled % GROUP_SETTLED];
    require(known->index != r->settled || known->term == stats.settled_term);
    *known = (struct group_settled){r->settled, stats.settled_term};
    struct storage_meta *meta = calloc(1, sizeof *meta);
    require(meta != NULL);
    require(r->storage->ops->load_meta(r->storage, meta, error, sizeof error) == 0);
    /* Right behind a peer's state there is nothing in the log yet. */
    require(meta->log_last >= r->settled || meta->applied_index >= r->settled);
    if (meta->log_last >= r->settled && meta->log_first <= r->settled) {
        require(r->storage->ops->read(r->storage, r->settled, r->settled, settled_visit, &look,
                                      error, sizeof error) == 0);
        require(look.term == stats.settled_term);
    }
    free(meta);
}

/* A crash takes nothing of it. */
static void judge_kept(struct replica *r) {
    struct storage_meta *meta = calloc(1, sizeof *meta);
    char error[256];
    require(meta != NULL);
    require(r->storage->ops->load_meta(r->storage, meta, error, sizeof error) == 0);
    require(meta->log_last >= r->settled || meta->applied_index >= r->settled);
    free(meta);
    r->settled = 0;
}

static void start_replica(struct group_world *w, uint32_t node, uint32_t s) {
    uint64_t first[GROUP_NODES_MAX];
    struct replica *r = &w->replicas[node][s];
    char error[256] = "";
    struct shard_options options = w->options;
    for (uint32_t n = 0; n < w->nodes; n++) first[n] = consensus_server_id(n + 1, 0);
    require(!r->shard);
    options.id = s;
    options.view = w->view.version ? &w->view : NULL;
    options.server_id = r->server_id;
    options.seed += node * 100;
    options.peers = &r->peers;
    options.courier = &r->courier;
    options.first_servers = first;
    options.first_servers_count = node < w->nodes ? w->nodes : 0;
    options.storage = r->storage = storage_memory_open(r->disk);
    judge_kept(r);
    r->term = r->leader = 0;
    r->ready = false;
    storage_memory_advance(r->disk, w->mono_ms);
    r->shard = shard_open(&options, w->now_ms, w->mono_ms, error, sizeof error);
    if (!r->shard) fprintf(stderr, "shard %u of node %u: %s\n", s, node, error);
    require(r->shard != NULL);
}

static bool is_active(const struct group_world *w, uint32_t s) {
    return w->view.version == 0 || (w->view.active[0] >> s & 1);
}

void group_start_node(struct group_world *w, uint32_t node) {
    w->up[node] = true;
    for (uint32_t s = 0; s < w->shards; s++)
        if (is_active(w, s)) start_replica(w, node, s);
}

static void stop_replica(struct replica *r) {
    storage_memory_crash(r->disk);
    shard_close(r->shard);
    r->shard = NULL;
    memset(r->wants_snapshot, 0, sizeof r->wants_snapshot);
}

void group_tell(struct group_world *w, uint32_t node) {
    for (uint32_t s = 0; s < w->shards; s++) {
        struct replica *r = &w->replicas[node][s];
        if (r->shard) shard_know(r->shard, &w->view);
        else if (is_active(w, s)) start_replica(w, node, s);
        if (r->shard && !is_active(w, s)) stop_replica(r);
    }
}

/* A node hears of it when it hears of it: whoever calls tells the nodes. */
void group_grow(struct group_world *w, uint32_t shards, int64_t from_ms) {
    struct shard_view *v = &w->view;
    require(v->version > 0 && shards <= GROUP_SHARDS_MAX && v->epochs_count < EPOCHS_MAX);
    v->version++;
    v->epochs[v->epochs_count++] = (struct routing_epoch){from_ms, shards};
    for (uint32_t s = 0; s < shards; s++) v->active[0] |= (uint8_t)(1u << s);
    if (w->shards < shards) w->shards = shards;
}

void group_move_stores(struct group_world *w) {
    w->view.version++;
    w->view.stores_shards = w->view.epochs[w->view.epochs_count - 1].shards_count;
}

void group_retire(struct group_world *w, uint32_t shard) {
    w->view.version++;
    w->view.active[0] &= (uint8_t)~(1u << shard);
}

void group_crash_node(struct group_world *w, uint32_t node) {
    for (uint32_t s = 0; s < w->shards; s++)
        if (w->replicas[node][s].shard) stop_replica(&w->replicas[node][s]);
    network_forget(w->network, node);
    w->up[node] = false;
}

void group_close(struct group_world *w) {
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++) {
        if (w->up[n]) group_crash_node(w, n);
        for (uint32_t s = 0; s < GROUP_SHARDS_MAX; s++) {
            const char *fault = storage_memory_fault(w->replicas[n][s].disk);
            if (fault) fprintf(stderr, "disk %u of node %u: %s\n", s, n, fault);
            require(fault == NULL);
        }
    }
    network_free(w->network);
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++)
        for (uint32_t s = 0; s < GROUP_SHARDS_MAX; s++) storage_memory_free(w->replicas[n][s].disk);
    storage_memory_files_free(w->files);
}

void group_cut_node(struct group_world *w, uint32_t node, int64_t ms) {
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++) {
        if (n == node) continue;
        network_cut(w->network, n, node, w->mono_ms + ms);
        network_cut(w->network, node, n, w->mono_ms + ms);
    }
}

static void tell_some(struct group_world *w) {
    for (uint32_t n = 0; n < GROUP_NODES_MAX && w->view.version != 0; n++)
        if (w->up[n] && !w->frozen[n] && w->mono_ms % 900 == 170 * n) group_tell(w, n);
}

static void step(struct group_world *w) {
    tell_some(w);
    network_advance(w->network, w->mono_ms);
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++)
        for (uint32_t s = 0; s < w->shards; s++) {
            struct replica *r = &w->replicas[n][s];
            if (!r->shard || w->frozen[n]) continue;
            int64_t next;
            storage_memory_advance(r->disk, w->mono_ms);
            for (int round = 0; round < 64; round++)
                if (shard_work(r->shard, w->now_ms + w->clock_off_ms[n], w->mono_ms, &next) == 0)
                    break;
            judge_settled(w, r);
            for (uint32_t to = 0; to < GROUP_NODES_MAX; to++)
                if (r->wants_snapshot[to]) send_snapshot(w, r, to);
        }
}

void group_run(struct group_world *w, int64_t ms) {
    for (int64_t i = 0; i < ms; i++) {
        step(w);
        w->mono_ms++;
        w->now_ms++;
        w->names.now_ms = w->now_ms;
    }
}

void group_print(const struct group_world *w) {
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++)
        for (uint32_t i = 0; i < w->shards; i++) {
            const struct shard *s = w->replicas[n][i].shard;
            if (!s) continue;
            fprintf(stderr,
                    "node %u shard %u: phase %u role %u term %lu leader %lu commit %lu applied %lu "
                    "durable %lu last %lu checkpoint %lu failed %d\n",
                    n, i, s->phase, consensus_role(s->consensus), consensus_term(s->consensus),
                    consensus_leader(s->consensus), s->commit_index, s->applied_index,
                    consensus_durable_index(s->consensus), consensus_last_index(s->consensus),
                    s->checkpoint_index, s->failed);
            const struct growth *g = &s->growth;
            if (g->version == 0) continue;
            fprintf(stderr, "    known %lu spread %lu: %u (%u) needs %d %d awaits %u %u owes %u %u "
                    "settled %d messages %lu view %lu\n", g->version, g->spread.version,
                    g->spread.shards, g->spread.before, g->needs_boards, g->needs_stores,
                    g->boards_awaited, g->stores_awaited, g->boards_owed, g->stores_owed,
                    g->settled, s->outbox.messages_waiting, s->view.version);
        }
}

/* -- asking ------------------------------------------------------------------------------------ */

int group_leader(const struct group_world *w, uint32_t shard) {
    int leader = -1;
    uint64_t term = 0;
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++) {
        const struct replica *r = &w->replicas[n][shard];
        if (!r->shard || r->shard->phase != SHARD_SERVING || r->term < term) continue;
        leader = (int)n;
        term = r->term;
    }
    return leader;
}

static bool all_know(const struct group_world *w, uint32_t shard, int leader) {
    for (uint32_t n = 0; n < w->nodes; n++) {
        const struct replica *r = &w->replicas[n][shard];
        if (r->shard && !network_is_cut(w->network, (uint32_t)leader, n) &&
            r->leader != w->replicas[leader][shard].server_id)
            return false;
    }
    return true;
}

uint32_t group_await_leader(struct group_world *w, uint32_t shard) {
    for (int i = 0; i < 20000; i++) {
        int leader = group_leader(w, shard);
        if (leader >= 0 && all_know(w, shard, leader)) return (uint32_t)leader;
        group_run(w, 1);
    }
    group_print(w);
    impossible("no leader");
}

struct shard *group_shard(struct group_world *w, uint32_t node, uint32_t shard) {
    return w->replicas[node][shard].shard;
}

uint32_t group_shard_of(const struct group_world *w, const struct command *c) {
    const struct shard_view *v = &w->view;
    if (v->version == 0) return world_shard_of(c);
    if (c->kind >= COMMAND_STORE_PAUSE)
        return routing_shard_of_store(v->stores_shards, c->store.store);
    return routing_shard_of_key(v->epochs, v->epochs_count, &c->subject);
}

static void on_done(struct request *r) {
    struct ask *ask = (struct ask *)(void *)r;
    require(!ask->answered);
    ask->answered = true;
}

bool group_offer(struct group_world *w, uint32_t node, struct ask *ask,
                 const struct command *command) {
    *ask = (struct ask){.command = *command};
    ask->request.commands = &ask->command;
    ask->request.results = &ask->result;
    ask->request.commands_count = 1;
    ask->request.done = on_done;
    atomic_store(&ask->request.parts_left, 1);
    ask->part = (struct request_part){.request = &ask->request, .count = 1, .bytes = 100};
    uint32_t retry;
    return shard_offer(group_shard(w, node, group_shard_of(w, command)), &ask->part, &retry);
}

struct result group_ask(struct group_world *w, const struct command *command) {
    static struct ask ask;
    for (int i = 0; i < 20000; i++) {
        int leader = group_leader(w, group_shard_of(w, command));
        if (leader < 0) {
            group_run(w, 1);
            continue;
        }
        require(group_offer(w, (uint32_t)leader, &ask, command));
        for (int k = 0; k < 20000 && !ask.answered; k++) group_run(w, 1);
        require(ask.answered);
        free(ask.result.value);
        ask.result.value = NULL;
        if (ask.result.code == RESULT_NOT_READY) group_run(w, ask.result.retry_after_ms);
        else if (ask.result.code != RESULT_NOT_LEADER && ask.result.code != RESULT_LEADERSHIP_LOST)
            return ask.result;
    }
    group_print(w);
    impossible("nobody answers");
}

/* -- comparing --------------------------------------------------------------------------------- */

static bool has_settled(const struct group_world *w, uint32_t shard, const struct shard *leader) {
    for (uint32_t n = 0; n < GROUP_NODES_MAX; n++) {
        const struct shard *s = w->replicas[n][shard].shard;
        if (!s) continue;
        if (s->phase != SHARD_SERVING && s->phase != SHARD_FOLLOWING) return false;
        if (s->applied_index != leader->applied_index || s->commit_index != s->applied_index)
            return false;
    }
    return true;
}

static const char *compare(const struct shard *a, const struct shard *b) {
    if (memcmp(a->totals, b->totals, sizeof a->totals) != 0) return "totals";
    if (a->last_time_ms != b->last_time_ms) return "the newest time";
    if (a->paused_stores != b->paused_stores) return "paused stores";
    for (uint32_t n = 1; n < a->table.slots_used; n++) {
        const struct slot *slot = actor_table_slot(&a->table, n);
        if (!slot->block || slot->block->version == 0) continue;
        if (slot->block->kind == ACTOR_STORE && slot->block->flags & ACTOR_RETIRED) continue;
        uint32_t m = actor_table_find(&b->table, slot->block->kind, &slot->block->key);
        const struct actor *other = shard_actor(b, m);
        if (!other && slot->block->kind == ACTOR_ORDER) continue; /* it left memory */
        if (!other) return "a store is missing";
        if (other->bytes != slot->block->bytes ||
            memcmp(other, slot->block, slot->block->bytes) != 0)
            return slot->block->kind == ACTOR_ORDER ? "an order" : "a store";
    }
    for (uint32_t p = 0; p < GROUP_SHARDS_MAX; p++) {
        const struct outbox_peer *x = &a->outbox.peers[p], *y = &b->outbox.peers[p];
        if (x->sequence_last != y->sequence_last || x->seen != y->seen) return "the outbox";
        if (x->owes != y->owes || x->awaits != y->awaits || x->boards_asked != y->boards_asked ||
            x->stores_asked != y->stores_asked)
            return "open questions";
    }
    const struct growth *x = &a->growth, *y = &b->growth;
    if (memcmp(&x->spread, &y->spread, sizeof x->spread) != 0) return "the spread of stores";
    if (x->version != y->version || x->joined_ms != y->joined_ms ||
        memcmp(x->active, y->active, sizeof x->active) != 0 || x->needs_boards != y->needs_boards ||
        x->needs_stores != y->needs_stores || x->boards_awaited != y->boards_awaited ||
        x->stores_awaited != y->stores_awaited || x->boards_owed != y->boards_owed ||
        x->stores_owed != y->stores_owed)
        return "what is known of the shards";
    return NULL;
}

const char *group_difference(struct group_world *w, uint32_t shard) {
    for (int i = 0; i < 20000; i++) {
        const struct shard *leader = group_shard(w, group_await_leader(w, shard), shard);
        if (has_settled(w, shard, leader)) {
            const char *what = NULL;
            for (uint32_t n = 0; n < GROUP_NODES_MAX && !what; n++) {
                const struct shard *s = group_shard(w, n, shard);
                if (s && s != leader) what = compare(leader, s);
                if (s && s != leader && !what) what = compare(s, leader);
            }
            return what;
        }
        group_run(w, 1);
    }
    return "they never settle";
}
