#include "clients/replay/writer.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

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
    const struct storage_lmdb_options options = {.directory = directory, .shard = shard};
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

static bool store_visit(void *arg, const struct fold_block *b) {
    struct store_work *k = arg;
    const struct actor *a = &b->actor;
    uint32_t padded = (a->bytes + 7) & ~7u;
    if (b->flags & (FOLD_BROKEN | FOLD_UNKNOWN)) {
        k->fault = "an actor could not be folded: see jumun-replay verify";
        return false;
    }
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

static void store_cursor(struct checkpoint_cursor *c, const char *name, const uint64_t *value,
                         uint32_t count) {
    *c = (struct checkpoint_cursor){.bytes = 8 * count};
    snprintf(c->name, sizeof c->name, "%s", name);
    memcpy(c->value, value, 8 * count);
}

static uint32_t store_cursors(struct checkpoint_cursor *cursors, const struct fold *f,
                              const struct shard_writer_marker *m) {
    const uint64_t stores[2] = {m->index, (uint64_t)f->time_ms};
    uint32_t count = 0;
    store_cursor(&cursors[count++], "stores", stores, 2);
    store_cursor(&cursors[count++], "totals.0", f->totals, 8);
    store_cursor(&cursors[count++], "totals.1", f->totals + 8, 8);
    for (uint32_t p = 0; p < m->shards_count; p++) {
        uint64_t value[5] = {0};
        char name[24];
        if (p != f->options.shard) {
            value[0] = m->acknowledged[p];
            value[1] = f->sent[p].last;
            value[2] = f->seen[p].last;
            value[3] = m->oldest_unacknowledged[p];
            value[4] = f->seen[p].last_index;
        }
        snprintf(name, sizeof name, "peer.%u", p);
        store_cursor(&cursors[count++], name, value, 5);
    }
    return count;
}

bool shard_writer_store(struct shard_writer *w, struct fold *f,
                        const struct shard_writer_marker *m, char *error, size_t error_bytes) {
    struct store_work k = {.writer = w};
    struct checkpoint_cursor *cursors = calloc(m->shards_count + 3u, sizeof *cursors);
    bool ok = cursors != NULL && fold_table_each(f->orders, store_visit, &k) &&
              fold_table_each(f->stores, store_visit, &k) &&
              fold_table_each(f->boards, store_visit, &k);
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

bool writer_identity(const char *directory, const char *name, const char *cluster_id,
                     uint64_t node_id, uint32_t shards, int64_t created_ms, json_t *runs,
                     char *error, size_t error_bytes) {
    char path[1200], beside[1240], made[33] = "";
    if (!*cluster_id) {
        uint8_t random[16] = {0};
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) random[0] = 1;
        for (size_t i = 0; i < sizeof random; i++) snprintf(made + 2 * i, 3, "%02x", random[i]);
        cluster_id = made;
    }
    snprintf(path, sizeof path, "%.1000s/%s", directory, name);
    snprintf(beside, sizeof beside, "%s.new", path);
    json_t *json = json_pack("{s:i, s:s, s:I, s:I, s:I}", "format", 1, "cluster_id", cluster_id,
                             "node_id", (json_int_t)(node_id ? node_id : 1), "shards",
                             (json_int_t)shards, "created_ms", (json_int_t)created_ms);
    if (runs) json_object_set(json, "runs", runs);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool ok = fd >= 0 && json_dumpfd(json, fd, runs ? JSON_INDENT(2) : 0) == 0 &&
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
