#include "clients/replay/writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/replay/key_sort.h"
#include "engine/base/hex.h"
#include "persistence/lmdb/storage_lmdb.h"

enum { WRITER_BATCH_BYTES = 4 << 20, WRITER_EVENTS_MAX = 64, WRITER_POLL_US = 200,
       WRITER_FULL_MS_MAX = 30000 };

struct shard_writer {
    struct storage *storage;
    uint32_t shard;
    uint64_t last;             /* newest record added */
    uint64_t durable;
    struct record *head, *tail; /* not handed over yet */
    uint32_t bytes;
    bool full, failed;
    struct checkpoint *back;   /* a checkpoint that came back */
    bool back_ok;
};

static void writer_poll(struct shard_writer *w) {
    struct storage_event events[WRITER_EVENTS_MAX];
    uint32_t n = w->storage->ops->poll(w->storage, events, WRITER_EVENTS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        switch (events[i].kind) {
        case STORAGE_APPENDED: w->durable = events[i].index; break;
        case STORAGE_LOG_FULL: w->full = true; break;
        case STORAGE_LOG_ROOM: w->full = false; break;
        case STORAGE_CHECKPOINTED:
            w->back = events[i].checkpoint;
            w->back_ok = events[i].ok;
            break;
        default: break;
        }
    }
}

struct shard_writer *shard_writer_open(const char *directory, uint32_t shard, char *error,
                                       size_t error_bytes) {
    struct shard_writer *w = calloc(1, sizeof *w);
    struct storage_meta *meta = calloc(1, sizeof *meta);
    const struct storage_lmdb_options options = {.directory = directory, .shard = shard,
                                                 .let_go = true};
    if (w && meta) w->storage = storage_lmdb_open(&options, error, error_bytes);
    else snprintf(error, error_bytes, "no memory");
    bool ok = w && w->storage &&
              w->storage->ops->load_meta(w->storage, meta, error, error_bytes) == 0;
    if (ok) {
        w->shard = shard;
        w->last = w->durable = meta->log_last;
    } else if (w) {
        if (w->storage) w->storage->ops->close(w->storage);
        free(w);
        w = NULL;
    }
    free(meta);
    return w;
}

uint64_t shard_writer_last(const struct shard_writer *w) { return w->last; }

static void writer_hand_over(struct shard_writer *w) {
    if (!w->head) return;
    w->storage->ops->append(w->storage, w->head);
    w->head = w->tail = NULL;
    w->bytes = 0;
}

/* Until no more than `wanted` records wait for the disk. False when it stays full. */
static bool writer_wait(struct shard_writer *w, uint64_t behind) {
    uint32_t full_us = 0;
    writer_poll(w);
    while (w->durable + behind < w->last) {
        usleep(WRITER_POLL_US);
        writer_poll(w);
        full_us = w->full ? full_us + WRITER_POLL_US : 0;
        if (full_us / 1000 > WRITER_FULL_MS_MAX) {
            w->failed = true;
            return false;
        }
    }
    return true;
}

bool shard_writer_append(struct shard_writer *w, const struct record_header *header,
                         const void *payload) {
    struct record *record = record_new(header->payload_bytes);
    if (!record) return false;
    record->header = *header;
    memcpy(record->payload, payload, header->payload_bytes);
    if (w->tail) w->tail->next = record;
    else w->head = record;
    w->tail = record;
    w->last = header->index;
    w->bytes += (uint32_t)sizeof *header + header->payload_bytes;
    if (w->bytes < WRITER_BATCH_BYTES) return true;
    uint64_t batch = w->tail->header.index - w->head->header.index + 1;
    writer_hand_over(w);
    return writer_wait(w, 2 * batch); /* one on its way while the next is filled */
}

bool shard_writer_sync(struct shard_writer *w, char *error, size_t error_bytes) {
    writer_hand_over(w);
    if (!w->failed && writer_wait(w, 0)) return true;
    snprintf(error, error_bytes, "the disk is full");
    return false;
}

void shard_writer_vote(struct shard_writer *w, uint64_t term) {
    w->storage->ops->save_vote(w->storage, term, 0);
}

void shard_writer_close(struct shard_writer *w) {
    if (!w) return;
    writer_hand_over(w);
    w->storage->ops->close(w->storage);
    free(w);
}

/* -- the state ---------------------------------------------------------------------------- */

struct store_work {
    struct shard_writer *writer;
    struct checkpoint data;
    uint32_t items_capacity, blocks_capacity;
    const char *fault;
    char what[256];            /* may hold it */
};

/* Hands over what is gathered and waits for it. */
static bool store_flush(struct store_work *k) {
    struct shard_writer *w = k->writer;
    uint32_t full_us = 0;
    w->back = NULL;
    w->storage->ops->checkpoint(w->storage, &k->data);
    for (;;) {
        writer_poll(w);
        if (w->back && w->back_ok) break;
        if (w->back) { /* no room: it is handed over once more */
            w->back = NULL;
            if ((full_us += 100000) / 1000 > WRITER_FULL_MS_MAX) {
                k->fault = "the disk is full";
                return false;
            }
            usleep(100000);
            w->storage->ops->checkpoint(w->storage, &k->data);
        }
        usleep(WRITER_POLL_US);
    }
    k->data.items_count = 0;
    k->data.blocks_bytes = 0;
    return true;
}

static bool store_reserve(struct store_work *k, uint32_t bytes) {
    if (k->data.items_count == k->items_capacity) {
        uint32_t capacity = k->items_capacity ? k->items_capacity * 2 : 4096;
        struct checkpoint_item *items = realloc(k->data.items, capacity * sizeof *items);
        if (!items) return false;
        k->data.items = items;
        k->items_capacity = capacity;
    }
    if (k->data.blocks_bytes + bytes > k->blocks_capacity) {
        uint32_t capacity = 2 * CHECKPOINT_BYTES_MAX + ACTOR_BYTES_MAX;
        while (capacity < k->data.blocks_bytes + bytes) capacity *= 2;
        uint8_t *blocks = realloc(k->data.blocks, capacity);
        if (!blocks) return false;
        k->data.blocks = blocks;
        k->blocks_capacity = capacity;
    }
    return true;
}

static bool store_is_whole(struct store_work *k, const struct fold_block *b) {
    if (!(b->flags & (FOLD_BROKEN | FOLD_UNKNOWN))) return true;
    k->fault = "an actor could not be folded: see jumun-replay verify";
    return false;
}

static bool store_actor(void *arg, const struct actor *a) {
    struct store_work *k = arg;
    uint32_t padded = (a->bytes + 7) & ~7u;
    if (!store_reserve(k, padded)) {
        k->fault = "no memory";
        return false;
    }
    int64_t deadline_ms = a->kind != ACTOR_ORDER       ? 0
                          : a->flags & ACTOR_RETIRED ? 1 : a->next_deadline_ms;
    k->data.items[k->data.items_count++] =
        (struct checkpoint_item){.key = a->key, .kind = a->kind, .new_deadline_ms = deadline_ms,
                                 .bytes = a->bytes, .offset = k->data.blocks_bytes};
    memcpy(k->data.blocks + k->data.blocks_bytes, a, a->bytes);
    memset(k->data.blocks + k->data.blocks_bytes + a->bytes, 0, padded - a->bytes);
    k->data.blocks_bytes += padded;
    /* Until the last one the marker says 0: a state that is cut short is only rebuilt. */
    return k->data.blocks_bytes < 2 * CHECKPOINT_BYTES_MAX || store_flush(k);
}

static bool store_visit(void *arg, const struct fold_block *b) {
    return store_is_whole(arg, b) && store_actor(arg, &b->actor);
}

struct store_sort { struct store_work *work; struct key_sort *sort; };

static bool store_gather(void *arg, const struct fold_block *b) {
    const struct store_sort *s = arg;
    return store_is_whole(s->work, b) && key_sort_add(s->sort, &b->actor);
}

/* Orders in the order of their keys. The fold's own go before they are written. */
static bool store_orders(struct store_work *k, struct fold *f, uint64_t memory_bytes) {
    struct store_sort s = {k, key_sort_open(memory_bytes, f->options.scratch)};
    if (!s.sort) return false;
    bool ok = fold_table_each(f->orders, store_gather, &s);
    if (!ok && fold_table_error(f->orders)[0]) {
        snprintf(k->what, sizeof k->what, "%s", fold_table_error(f->orders));
    }
    fold_drop_orders(f);
    ok = ok && key_sort_each(s.sort, store_actor, k);
    if (key_sort_error(s.sort)[0]) {
        snprintf(k->what, sizeof k->what, "%s", key_sort_error(s.sort));
    }
    if (k->what[0]) k->fault = k->what;
    key_sort_close(s.sort);
    return ok;
}

/* As if each were an actor: docs/formats.md, "Snapshots". */
static bool store_messages(struct store_work *k, const struct unseen *unseen) {
    for (uint64_t i = 0; i < unseen->count; i++) {
        const struct unseen_message *from = &unseen->messages[i];
        uint32_t bytes = (uint32_t)sizeof(struct stored_message) + from->payload_bytes;
        uint32_t padded = (bytes + 7) & ~7u;
        if (!store_reserve(k, padded)) return false;
        struct stored_message *m = (void *)(k->data.blocks + k->data.blocks_bytes);
        memset(m, 0, padded);
        *m = (struct stored_message){
            .actor = {.bytes = bytes, .kind = ACTOR_MESSAGE, .schema = MESSAGE_EVENT_SCHEMA,
                      .key = stored_message_key(from->peer, from->sequence),
                      .last_index = from->index, .version = 1},
            .sequence = from->sequence, .peer = from->peer, .payload_bytes = from->payload_bytes};
        memcpy(m + 1, from->payload, from->payload_bytes);
        k->data.items[k->data.items_count++] =
            (struct checkpoint_item){.key = m->actor.key, .kind = ACTOR_MESSAGE, .bytes = bytes,
                                     .offset = k->data.blocks_bytes};
        k->data.blocks_bytes += padded;
        if (k->data.blocks_bytes >= 2 * CHECKPOINT_BYTES_MAX && !store_flush(k)) return false;
    }
    return true;
}

static void store_cursor(struct checkpoint_cursor *c, const char *name, const void *value,
                         uint32_t bytes) {
    *c = (struct checkpoint_cursor){.bytes = bytes};
    snprintf(c->name, sizeof c->name, "%s", name);
    memcpy(c->value, value, bytes);
}

static uint32_t store_growth(struct checkpoint_cursor *cursors, const struct fold_growth *g,
                             uint32_t shards) {
    uint8_t value[GROWTH_CURSOR_BYTES_MAX];
    uint32_t count = 0;
    char name[24];
    if (!growth_is_known(g)) return 0;
    store_cursor(&cursors[count++], "known", value, growth_known_cursor(g, value));
    store_cursor(&cursors[count++], "spread", value, growth_spread_cursor(g, value));
    for (uint32_t p = 0; p < shards && g->spread.version != 0; p++) {
        snprintf(name, sizeof name, "grow.%u", p);
        store_cursor(&cursors[count++], name, value, growth_peer_cursor(g, p, value));
    }
    return count;
}

static uint32_t store_cursors(struct checkpoint_cursor *cursors, const struct fold *f,
                              const struct shard_writer_marker *m) {
    const uint64_t stores[2] = {m->index, (uint64_t)f->time_ms};
    uint32_t count = 0;
    store_cursor(&cursors[count++], "stores", stores, sizeof stores);
    store_cursor(&cursors[count++], "totals.0", f->totals, 8 * sizeof *f->totals);
    store_cursor(&cursors[count++], "totals.1", f->totals + 8, 8 * sizeof *f->totals);
    for (uint32_t p = 0; p < m->shards_count; p++) {
        uint64_t value[5] = {0};
        char name[24];
        if (p != f->options.shard) {
            value[0] = m->unseen->acknowledged[p];
            value[1] = f->sent[p].last;
            value[2] = f->seen[p].last;
            value[4] = f->seen[p].last_index;
        }
        snprintf(name, sizeof name, "peer.%u", p);
        store_cursor(&cursors[count++], name, value, sizeof value);
    }
    return count + store_growth(cursors + count, &f->growth, m->shards_count);
}

bool shard_writer_store(struct shard_writer *w, struct fold *f,
                        const struct shard_writer_marker *m, char *error, size_t error_bytes) {
    struct store_work k = {.writer = w};
    struct checkpoint_cursor *cursors = calloc(2 * m->shards_count + 5u, sizeof *cursors);
    bool ok = cursors != NULL && store_orders(&k, f, m->sort_bytes) &&
              fold_table_each(f->stores, store_visit, &k) &&
              fold_table_each(f->boards, store_visit, &k) && store_messages(&k, m->unseen);
    if (ok) {
        k.data.cursors = cursors;
        k.data.cursors_count = store_cursors(cursors, f, m);
        k.data.applied_index = m->index;
        k.data.applied_term = m->term;
        k.data.configuration_index = m->configuration_index;
        k.data.configuration = m->configuration;
        k.data.configuration_bytes = m->configuration_bytes;
        ok = store_flush(&k);
    }
    if (!ok) snprintf(error, error_bytes, "%s", k.fault ? k.fault : "no memory");
    free(cursors);
    free(k.data.items);
    free(k.data.blocks);
    return ok;
}

/* -- directories -------------------------------------------------------------------------- */

static void identity_epochs(json_t *json, const struct writer_identity *told) {
    json_t *epochs = json_array();
    if (told->generation == 0 && told->epochs_count < 2) { /* one that has not grown needs none */
        json_decref(epochs);
        return;
    }
    for (uint32_t i = 0; i < told->epochs_count; i++) {
        json_array_append_new(epochs, json_pack("[I, I]", (json_int_t)told->epochs[i].from_ms,
                                                (json_int_t)told->epochs[i].shards_count));
    }
    json_object_set_new(json, "epochs", epochs);
    json_object_set_new(json, "stores_shards", json_integer(told->stores_shards));
    if (told->generation) json_object_set_new(json, "generation", json_integer(told->generation));
}

bool writer_identity(const char *directory, const char *name, const struct writer_identity *told,
                     char *error, size_t error_bytes) {
    char path[1200], beside[1240], made[CLUSTER_ID_BYTES] = "";
    const char *cluster_id = told->cluster_id;
    if (!*cluster_id) {
        uint8_t random[16] = {0};
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) random[0] = 1;
        hex_format(random, sizeof random, made);
        cluster_id = made;
    }
    snprintf(path, sizeof path, "%.1000s/%s", directory, name);
    snprintf(beside, sizeof beside, "%s.new", path);
    json_t *json = json_pack("{s:i, s:s, s:I, s:I, s:I}", "format", 1, "cluster_id", cluster_id,
                             "node_id", (json_int_t)(told->node_id ? told->node_id : 1), "shards",
                             (json_int_t)told->shards, "created_ms", (json_int_t)told->created_ms);
    identity_epochs(json, told);
    if (told->ancestors_count > 0) {
        json_t *list = json_array();
        for (uint32_t i = 0; i < told->ancestors_count; i++)
            json_array_append_new(list, json_string(told->ancestors[i]));
        json_object_set_new(json, "ancestors", list);
    }
    if (told->runs) {
        json_object_set(json, "holds", told->holds);
        json_object_set(json, "runs", told->runs);
    }
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool ok = fd >= 0 && json_dumpfd(json, fd, told->runs ? JSON_INDENT(2) : 0) == 0 &&
              write(fd, "\n", 1) == 1 && fsync(fd) == 0;
    if (fd >= 0) ok = close(fd) == 0 && ok;
    ok = ok && rename(beside, path) == 0;
    if (!ok) snprintf(error, error_bytes, "%s: %s", path, strerror(errno));
    json_decref(json);
    return ok;
}

bool writer_directory(const char *path, bool empty, char *error, size_t error_bytes) {
    char part[1024];
    if (strlen(path) >= sizeof part) {
        snprintf(error, error_bytes, "%.100s...: the path is too long", path);
        return false;
    }
    snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != 0) continue;
        char kept = *p;
        *p = 0;
        if (mkdir(part, 0750) != 0 && errno != EEXIST) {
            snprintf(error, error_bytes, "%s: %s", part, strerror(errno));
            return false;
        }
        *p = kept;
        if (kept == 0) break;
    }
    DIR *d = opendir(path);
    bool holds = false;
    for (struct dirent *entry; d && !holds && (entry = readdir(d));) {
        holds = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    }
    if (d) closedir(d);
    if (!d) snprintf(error, error_bytes, "%s: %s", path, strerror(errno));
    else if (holds && empty) snprintf(error, error_bytes, "%s is not empty", path);
    return d && !(holds && empty);
}
