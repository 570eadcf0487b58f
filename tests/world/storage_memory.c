#include "tests/world/storage_memory.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/base/prng.h"
#include "engine/limits.h"
#include "engine/wire/routing.h"

enum { MEMORY_BUCKETS = 4096, MEMORY_EVENTS_MIN = 64 };

struct memory_record { uint8_t *data; uint32_t bytes; };

struct memory_actor {
    struct memory_actor *next;   /* bucket */
    struct id128 key;
    int64_t deadline_ms;         /* its row in `timers`; 0 = none */
    uint8_t kind;
    bool damaged;
    uint32_t bytes;
    uint8_t *block;
};

struct memory_append { struct record *records; uint64_t sequence; };

struct memory_load {
    struct memory_load *next;
    int64_t due_ms;
    struct id128 key;
    uint8_t kind;
};

struct memory_open {             /* the handle: dies with the process */
    struct storage storage;
    struct storage_memory *disk;
};

struct storage_memory {
    struct storage_memory_options options;
    struct prng prng;
    struct memory_open *open;
    int64_t now_ms, stuck_until_ms, slow_ms_max;
    bool full, crashed;
    uint64_t crash_at;
    struct storage_memory_counters counters;
    char fault[256];
    /* durable */
    uint64_t term, voted_for;
    struct memory_record *log;   /* log[i] has index log_first + i */
    uint64_t log_first, log_count, log_capacity;
    bool torn;                   /* the newest record is */
    struct memory_actor *buckets[MEMORY_BUCKETS];
    struct checkpoint_cursor *cursors;
    uint32_t cursors_count;
    uint64_t applied_index, applied_term, configuration_index;
    uint32_t configuration_bytes;
    uint8_t configuration[4096];
    /* of the handle */
    struct memory_append *appends; /* queued, oldest first */
    uint32_t appends_count, appends_capacity, writing; /* `writing` of them are one transaction */
    int64_t writing_due_ms;
    uint64_t sequence, queued_last;
    bool told_full;
    struct checkpoint *checkpoint;
    int64_t checkpoint_due_ms;
    struct memory_load *loads, **loads_tail;
    struct storage_event *events; /* what poll() will say */
    uint32_t events_head, events_count, events_capacity;
};

static struct storage_memory *disk_of(const struct storage *s) {
    return ((const struct memory_open *)(const void *)s)->disk;
}

#define disk_fault(d, ...)                                                                  \
    do {                                                                                           \
        if ((d)->fault[0] == 0) snprintf((d)->fault, sizeof(d)->fault, __VA_ARGS__);               \
    } while (0)

/* Counts an operation. False when the process has died before it took effect. */
static bool disk_operation(struct storage_memory *d) {
    if (d->crashed) return false;
    d->counters.operations++;
    if (d->crash_at == 0 || d->counters.operations < d->crash_at) return true;
    d->crashed = true;
    return prng_chance(&d->prng, 1, 2);
}

static int64_t disk_delay(struct storage_memory *d, int64_t ms_max) {
    int64_t delay = prng_between(&d->prng, 0, ms_max);
    if (d->slow_ms_max > 0) delay += prng_between(&d->prng, 0, d->slow_ms_max);
    return delay;
}

static void disk_tell(struct storage_memory *d, struct storage_event event) {
    if (d->crashed) return;
    if (d->events_count == d->events_capacity) {
        uint32_t capacity = d->events_capacity ? 2 * d->events_capacity : MEMORY_EVENTS_MIN;
        struct storage_event *grown = calloc(capacity, sizeof *grown);
        require(grown != NULL);
        for (uint32_t i = 0; i < d->events_count; i++) {
            grown[i] = d->events[(d->events_head + i) % d->events_capacity];
        }
        free(d->events);
        d->events = grown;
        d->events_capacity = capacity;
        d->events_head = 0;
    }
    d->events[(d->events_head + d->events_count++) % d->events_capacity] = event;
    if (d->open->storage.wake != NULL) d->open->storage.wake(d->open->storage.wake_arg);
}

/* -- the log ------------------------------------------------------------------------------------- */

static uint64_t log_last(const struct storage_memory *d) {
    return d->log_count > 0 ? d->log_first + d->log_count - 1 : 0;
}

static void log_cut(struct storage_memory *d, uint64_t first) {
    while (d->log_count > 0 && log_last(d) >= first) {
        if (first <= d->applied_index) disk_fault(d, "record %lu below the marker is truncated",
                                                  (unsigned long)first);
        free(d->log[--d->log_count].data);
    }
}

static void log_put(struct storage_memory *d, const struct record *r, uint32_t bytes) {
    if (d->log_count == d->log_capacity) {
        d->log_capacity = d->log_capacity ? 2 * d->log_capacity : 1024;
        d->log = realloc(d->log, d->log_capacity * sizeof *d->log);
        require(d->log != NULL);
    }
    if (d->log_count == 0) d->log_first = r->header.index;
    struct memory_record *m = &d->log[d->log_count++];
    m->bytes = bytes;
    m->data = malloc(bytes);
    require(m->data != NULL);
    memcpy(m->data, &r->header, bytes < sizeof r->header ? bytes : sizeof r->header);
    if (bytes > sizeof r->header) {
        memcpy(m->data + sizeof r->header, r->payload, bytes - sizeof r->header);
    }
}

static void append_release(struct memory_append *a) {
    for (struct record *r = a->records, *next; r != NULL; r = next) {
        next = r->next;
        record_release(r);
    }
}

static void append_make_durable(struct storage_memory *d, struct memory_append *a) {
    log_cut(d, a->records->header.index);
    for (struct record *r = a->records; r != NULL; r = r->next) {
        if (d->log_count > 0 && r->header.index != log_last(d) + 1) {
            disk_fault(d, "record %lu is appended behind %lu", (unsigned long)r->header.index,
                       (unsigned long)log_last(d));
        }
        record_seal(&r->header, r->payload);
        log_put(d, r, (uint32_t)sizeof r->header + r->header.payload_bytes);
        d->counters.records++;
    }
    append_release(a);
}

static void appends_drop(struct storage_memory *d, uint32_t count) {
    d->appends_count -= count;
    if (d->appends_count > 0) {
        memmove(d->appends, d->appends + count, d->appends_count * sizeof *d->appends);
    }
    d->writing = 0;
}

/* Everything that waits becomes the next transaction. */
static void log_start(struct storage_memory *d) {
    if (d->writing > 0 || d->appends_count == 0 || d->told_full) return;
    if (d->full) {
        d->told_full = true;
        d->counters.full_times++;
        disk_tell(d, (struct storage_event){.kind = STORAGE_LOG_FULL, .ok = true});
        return;
    }
    d->writing = d->appends_count;
    d->writing_due_ms = d->now_ms + disk_delay(d, d->options.append_ms_max);
}

static void log_finish(struct storage_memory *d) {
    uint64_t index = 0, sequence = 0;
    if (!disk_operation(d)) return; /* died in the commit */
    for (uint32_t i = 0; i < d->writing; i++) {
        sequence = d->appends[i].sequence;
        append_make_durable(d, &d->appends[i]);
    }
    index = log_last(d);
    appends_drop(d, d->writing);
    d->counters.transactions++;
    if (!d->options.acks_early) {
        disk_tell(d, (struct storage_event){.kind = STORAGE_APPENDED, .ok = true, .index = index,
                                            .sequence = sequence});
    }
}

static uint64_t memory_append(struct storage *s, struct record *records) {
    struct storage_memory *d = disk_of(s);
    uint64_t index = records->header.index, last = index;
    struct memory_append a = {records, ++d->sequence};
    if (!disk_operation(d)) {
        append_release(&a);
        return d->sequence;
    }
    if (d->queued_last != 0 && index > d->queued_last + 1) {
        disk_fault(d, "record %lu is queued behind %lu", (unsigned long)index,
                   (unsigned long)d->queued_last);
    }
    for (struct record *r = records; r != NULL; r = r->next, last++) {
        if (r->header.index != last) disk_fault(d, "records of an append are not consecutive");
        if (r->header.term == 0 || r->header.term > d->term) {
            disk_fault(d, "record %lu has term %lu, but the stored one is %lu",
                       (unsigned long)r->header.index, (unsigned long)r->header.term,
                       (unsigned long)d->term);
        }
    }
    d->queued_last = last - 1;
    if (d->appends_count == d->appends_capacity) {
        d->appends_capacity = d->appends_capacity ? 2 * d->appends_capacity : 64;
        d->appends = realloc(d->appends, d->appends_capacity * sizeof *d->appends);
        require(d->appends != NULL);
    }
    d->appends[d->appends_count++] = a;
    d->counters.appends++;
    if (d->options.acks_early) {
        disk_tell(d, (struct storage_event){.kind = STORAGE_APPENDED, .ok = true,
                                            .index = d->queued_last, .sequence = a.sequence});
    }
    log_start(d);
    return a.sequence;
}

static int memory_read(struct storage *s, uint64_t first, uint64_t last,
                       bool (*visit)(void *arg, const struct record_header *record,
                                     const void *payload),
                       void *arg, char *error, size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    if (d->crashed) {
        snprintf(error, error_bytes, "the process has died");
        return -1;
    }
    uint64_t skipped = 0;
    for (uint64_t index = first; index <= last; index++) {
        if (d->log_count == 0 || index < d->log_first || index > log_last(d)) {
            snprintf(error, error_bytes, "log entry %lu is not stored", (unsigned long)index);
            return -1;
        }
        const struct memory_record *m = &d->log[index - d->log_first];
        const char *what = record_fault(m->data, m->bytes, index);
        if (what != NULL) {
            snprintf(error, error_bytes, "log entry %lu: %s", (unsigned long)index, what);
            return -1;
        }
        const struct record_header *h = (const void *)m->data;
        if (d->options.skips_one && skipped == 0 && h->type == RECORD_EVENTS && index > first + 3) {
            skipped = index;
            continue;
        }
        if (!visit(arg, h, m->data + sizeof *h)) return 1;
    }
    return 0;
}

static int64_t record_time_ms(const struct memory_record *m) {
    const struct record_header *h = (const void *)m->data;
    if (m->bytes < sizeof *h + sizeof(struct entry_header) || h->type != RECORD_EVENTS) return 0;
    return ((const struct entry_header *)(const void *)(h + 1))->time_ms;
}

static void memory_retain(struct storage *s, uint64_t upto_index, int64_t before_ms) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    uint64_t segment = d->options.segment_records ? d->options.segment_records : 64;
    if (upto_index > d->applied_index) disk_fault(d, "retention would drop what is not checkpointed");
    while (d->log_count > segment) {
        uint64_t count = segment - (d->log_first - 1) % segment;
        if (d->log_count <= count || d->log_first + count - 1 > upto_index) return;
        for (uint64_t i = 0; i < count; i++) {
            if (record_time_ms(&d->log[i]) >= before_ms) return;
        }
        for (uint64_t i = 0; i < count; i++) free(d->log[i].data);
        d->log_first += count;
        d->log_count -= count;
        memmove(d->log, d->log + count, d->log_count * sizeof *d->log);
    }
}

/* -- the state ----------------------------------------------------------------------------------- */

static struct memory_actor **actor_find(const struct storage_memory *d, uint8_t kind,
                                        const struct id128 *key) {
    uint64_t bucket = routing_hash(key->bytes, 16) % MEMORY_BUCKETS;
    struct memory_actor **link = (struct memory_actor **)(uintptr_t)&d->buckets[bucket];
    while (*link != NULL && ((*link)->kind != kind || !id128_equal(&(*link)->key, key))) {
        link = &(*link)->next;
    }
    return link;
}

static void actor_store(struct storage_memory *d, const struct checkpoint *c,
                        const struct checkpoint_item *item) {
    struct memory_actor **link = actor_find(d, item->kind, &item->key), *a = *link;
    int64_t stands = a != NULL ? a->deadline_ms : 0;
    if (item->old_deadline_ms != stands) {
        disk_fault(d, "a checkpoint replaces the deadline row %ld, but %ld stands",
                   (long)item->old_deadline_ms, (long)stands);
    }
    if (item->remove) {
        if (a == NULL) return;
        *link = a->next;
        free(a->block);
        free(a);
        return;
    }
    if (a == NULL) {
        a = calloc(1, sizeof *a);
        require(a != NULL);
        a->key = item->key;
        a->kind = item->kind;
        *link = a;
    }
    a->block = realloc(a->block, item->bytes);
    require(a->block != NULL);
    memcpy(a->block, c->blocks + item->offset, item->bytes);
    a->bytes = item->bytes;
    a->deadline_ms = item->new_deadline_ms;
    a->damaged = false;
}

static void checkpoint_make_durable(struct storage_memory *d, const struct checkpoint *c) {
    for (uint32_t i = 0; i < c->items_count && !d->options.loses_checkpoints; i++) {
        actor_store(d, c, &c->items[i]);
    }
    for (uint32_t i = 0; i < c->cursors_count; i++) {
        uint32_t at = 0;
        while (at < d->cursors_count &&
               strncmp(d->cursors[at].name, c->cursors[i].name, sizeof c->cursors[i].name) != 0) {
            at++;
        }
        if (at == d->cursors_count) {
            d->cursors = realloc(d->cursors, ++d->cursors_count * sizeof *d->cursors);
            require(d->cursors != NULL);
        }
        d->cursors[at] = c->cursors[i];
    }
    if (c->applied_index < d->applied_index) disk_fault(d, "the marker goes back");
    d->applied_index = c->applied_index;
    d->applied_term = c->applied_term;
    d->configuration_index = c->configuration_index;
    d->configuration_bytes = c->configuration_bytes;
    if (c->configuration_bytes > 0) {
        memcpy(d->configuration, c->configuration, c->configuration_bytes);
    }
    d->counters.checkpoints++;
}

/* A snapshot must not reflect what a crash could still take back. */
static void checkpoint_check(struct storage_memory *d, const struct checkpoint *c) {
    if (c->applied_index > log_last(d)) {
        disk_fault(d, "a marker at %lu is handed over, but %lu is durable",
                   (unsigned long)c->applied_index, (unsigned long)log_last(d));
    }
    if (c->configuration_index > c->applied_index) {
        disk_fault(d, "a marker's configuration is newer than the marker");
    }
    for (uint32_t i = 0; i < c->items_count; i++) {
        const struct checkpoint_item *item = &c->items[i];
        const struct actor *a = (const void *)(c->blocks + item->offset);
        if (item->offset % 8 != 0 || (uint64_t)item->offset + item->bytes > c->blocks_bytes ||
            a->bytes != item->bytes || !id128_equal(&a->key, &item->key)) {
            disk_fault(d, "a checkpoint's item does not fit its block");
        } else if (a->last_index > log_last(d)) {
            disk_fault(d, "a snapshot reflects %lu, but %lu is durable",
                       (unsigned long)a->last_index, (unsigned long)log_last(d));
        }
    }
}

static void memory_checkpoint(struct storage *s, struct checkpoint *checkpoint) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    if (d->checkpoint != NULL) disk_fault(d, "two checkpoints at a time");
    checkpoint_check(d, checkpoint);
    d->checkpoint = checkpoint;
    d->checkpoint_due_ms = d->now_ms + disk_delay(d, d->options.checkpoint_ms_max);
}

static void checkpoint_finish(struct storage_memory *d) {
    struct checkpoint *c = d->checkpoint;
    bool ok = !d->full;
    if (!disk_operation(d)) return;
    d->checkpoint = NULL;
    if (ok) {
        checkpoint_make_durable(d, c);
    } else {
        d->counters.checkpoints_refused++;
    }
    disk_tell(d, (struct storage_event){.kind = STORAGE_CHECKPOINTED, .ok = ok, .checkpoint = c});
}

static void memory_load(struct storage *s, uint8_t actor_kind, const struct id128 *key) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    struct memory_load *load = calloc(1, sizeof *load);
    require(load != NULL);
    load->due_ms = d->now_ms + disk_delay(d, d->options.load_ms_max);
    load->key = *key;
    load->kind = actor_kind;
    *d->loads_tail = load;
    d->loads_tail = &load->next;
    d->counters.loads++;
}

static void *block_copy(const struct memory_actor *a) {
    void *copy = malloc(a->bytes);
    require(copy != NULL);
    memcpy(copy, a->block, a->bytes);
    return copy;
}

static void load_finish(struct storage_memory *d, const struct memory_load *load) {
    const struct memory_actor *a = *actor_find(d, load->kind, &load->key);
    struct storage_event event = {.kind = STORAGE_LOADED, .ok = a == NULL || !a->damaged,
                                  .actor_kind = load->kind, .key = load->key};
    if (a != NULL && !a->damaged) {
        event.block = block_copy(a);
        event.block_bytes = a->bytes;
    }
    if (d->crashed) {
        free(event.block);
        return;
    }
    disk_tell(d, event);
}

struct timer_row { int64_t deadline_ms; struct id128 key; uint8_t kind; };

static int timer_row_compare(const void *a, const void *b) {
    const struct timer_row *x = a, *y = b;
    if (x->deadline_ms != y->deadline_ms) return x->deadline_ms < y->deadline_ms ? -1 : 1;
    return memcmp(x->key.bytes, y->key.bytes, 16);
}

static void memory_load_timers(struct storage *s, int64_t from_ms, int64_t to_ms, uint32_t max) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    struct timer_row *rows = NULL;
    uint32_t count = 0, capacity = 0;
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        for (const struct memory_actor *a = d->buckets[b]; a != NULL; a = a->next) {
            if (a->deadline_ms == 0 || a->deadline_ms < from_ms || a->deadline_ms >= to_ms) continue;
            if (count == capacity) {
                capacity = capacity ? 2 * capacity : 256;
                rows = realloc(rows, capacity * sizeof *rows);
                require(rows != NULL);
            }
            rows[count++] = (struct timer_row){a->deadline_ms, a->key, a->kind};
        }
    }
    if (count > 0) qsort(rows, count, sizeof *rows, timer_row_compare);
    uint32_t told = 0;
    /* Never cut between equal deadlines: the next listing begins at a deadline. */
    while (told < count &&
           (told < max || rows[told].deadline_ms == rows[told - 1].deadline_ms)) {
        disk_tell(d, (struct storage_event){.kind = STORAGE_TIMER_LOADED, .ok = true,
                                            .actor_kind = rows[told].kind, .key = rows[told].key,
                                            .deadline_ms = rows[told].deadline_ms});
        told++;
    }
    disk_tell(d, (struct storage_event){.kind = STORAGE_TIMER_LOADED, .ok = false,
                                        .deadline_ms = told < count ? rows[told].deadline_ms
                                                                    : to_ms});
    free(rows);
}

/* -- start-up ------------------------------------------------------------------------------------ */

static int memory_load_meta(struct storage *s, struct storage_meta *meta, char *error,
                            size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    if (d->crashed) {
        snprintf(error, error_bytes, "the process has died");
        return -1;
    }
    memset(meta, 0, sizeof *meta);
    meta->term = d->term;
    meta->voted_for = d->voted_for;
    meta->log_first = d->log_count > 0 ? d->log_first : 0;
    meta->log_last = log_last(d);
    meta->applied_index = d->applied_index;
    meta->applied_term = d->applied_term;
    meta->configuration_index = d->configuration_index;
    meta->configuration_bytes = d->configuration_bytes;
    memcpy(meta->configuration, d->configuration, d->configuration_bytes);
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        for (const struct memory_actor *a = d->buckets[b]; a != NULL; a = a->next) {
            if (a->kind == ACTOR_STORE) meta->stores_count++;
            if (a->kind != ACTOR_ORDER) continue;
            meta->orders_count++;
            int64_t birth = routing_birth_ms(&a->key);
            if (birth > meta->orders_birth_max_ms) meta->orders_birth_max_ms = birth;
        }
    }
    return 0;
}

static int memory_visit_actors(struct storage *s, uint8_t actor_kind,
                               bool (*visit)(void *arg, const void *block, uint32_t bytes),
                               void *arg, char *error, size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        for (const struct memory_actor *a = d->buckets[b]; a != NULL; a = a->next) {
            if (a->kind != actor_kind) continue;
            if (a->damaged) {
                snprintf(error, error_bytes, "a stored actor: checksum does not match");
                return -1;
            }
            if (!visit(arg, a->block, a->bytes)) return 1;
        }
    }
    return 0;
}

static int memory_visit_cursors(struct storage *s,
                                bool (*visit)(void *arg, const struct checkpoint_cursor *cursor),
                                void *arg, char *error, size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    for (uint32_t i = 0; i < d->cursors_count; i++) {
        if (!visit(arg, &d->cursors[i])) return 1;
    }
    return 0;
}

static int memory_read_actor(struct storage *s, uint8_t actor_kind, const struct id128 *key,
                             void **block, uint32_t *bytes, char *error, size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    const struct memory_actor *a = *actor_find(d, actor_kind, key);
    *block = NULL;
    *bytes = 0;
    if (a == NULL) return 0;
    if (a->damaged) {
        snprintf(error, error_bytes, "a stored actor: checksum does not match");
        return -1;
    }
    *block = block_copy(a);
    *bytes = a->bytes;
    return 0;
}

static void memory_release_block(struct storage *s, void *block) { free(block); }

static void memory_save_vote(struct storage *s, uint64_t term, uint64_t voted_for) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    if (term < d->term) disk_fault(d, "the term goes back");
    d->term = term;
    d->voted_for = voted_for;
    d->counters.votes++;
}

static uint32_t memory_poll(struct storage *s, struct storage_event *events, uint32_t max) {
    struct storage_memory *d = disk_of(s);
    uint32_t n = 0;
    while (n < max && d->events_count > 0 && !d->crashed) {
        events[n++] = d->events[d->events_head];
        d->events_head = (d->events_head + 1) % d->events_capacity;
        d->events_count--;
    }
    return n;
}

static void memory_stats(struct storage *s, struct storage_stats *stats) {
    const struct storage_memory *d = disk_of(s);
    memset(stats, 0, sizeof *stats);
    stats->log_first = d->log_count > 0 ? d->log_first : 0;
    stats->log_last = log_last(d);
    for (uint64_t i = 0; i < d->log_count; i++) stats->log_bytes += d->log[i].bytes;
    stats->commits = d->counters.transactions;
    stats->appends_waiting = d->appends_count;
    stats->checkpoints = d->counters.checkpoints;
    stats->loads = d->counters.loads;
    stats->full = d->full;
}

/* -- the handle ---------------------------------------------------------------------------------- */

static void handle_free(struct storage_memory *d) {
    for (uint32_t i = 0; i < d->appends_count; i++) append_release(&d->appends[i]);
    d->appends_count = d->writing = 0;
    while (d->loads != NULL) {
        struct memory_load *load = d->loads;
        d->loads = load->next;
        free(load);
    }
    for (; d->events_count > 0; d->events_count--) {
        struct storage_event *e = &d->events[d->events_head];
        if (e->kind == STORAGE_LOADED) free(e->block);
        d->events_head = (d->events_head + 1) % d->events_capacity;
    }
    d->checkpoint = NULL;
    free(d->open);
    d->open = NULL;
}

static void memory_close(struct storage *s) {
    struct storage_memory *d = disk_of(s);
    for (uint32_t i = 0; i < d->appends_count && !d->crashed && !d->full; i++) {
        append_make_durable(d, &d->appends[i]);
        d->appends[i].records = NULL;
    }
    if (d->checkpoint != NULL && !d->crashed && !d->full) checkpoint_make_durable(d, d->checkpoint);
    handle_free(d);
}

static const struct storage_ops memory_ops = {
    .load_meta = memory_load_meta,
    .read = memory_read,
    .visit_actors = memory_visit_actors,
    .visit_cursors = memory_visit_cursors,
    .read_actor = memory_read_actor,
    .release_block = memory_release_block,
    .save_vote = memory_save_vote,
    .append = memory_append,
    .checkpoint = memory_checkpoint,
    .load = memory_load,
    .load_timers = memory_load_timers,
    .poll = memory_poll,
    .retain = memory_retain,
    .stats = memory_stats,
    .close = memory_close,
};

struct storage_memory *storage_memory_new(const struct storage_memory_options *options) {
    struct storage_memory *d = calloc(1, sizeof *d);
    require(d != NULL);
    d->options = *options;
    prng_seed(&d->prng, options->seed);
    return d;
}

void storage_memory_free(struct storage_memory *d) {
    if (d->open != NULL) handle_free(d);
    for (uint64_t i = 0; i < d->log_count; i++) free(d->log[i].data);
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        while (d->buckets[b] != NULL) {
            struct memory_actor *a = d->buckets[b];
            d->buckets[b] = a->next;
            free(a->block);
            free(a);
        }
    }
    free(d->log);
    free(d->cursors);
    free(d->appends);
    free(d->events);
    free(d);
}

struct storage *storage_memory_open(struct storage_memory *d) {
    if (d->open != NULL) {
        require(d->crashed);
        handle_free(d);
    }
    if (d->torn && !d->options.keeps_torn) {
        free(d->log[--d->log_count].data);
        d->torn = false;
    }
    d->open = calloc(1, sizeof *d->open);
    require(d->open != NULL);
    d->open->storage.ops = &memory_ops;
    d->open->disk = d;
    d->crashed = false;
    d->told_full = false;
    d->sequence = 0;
    d->queued_last = log_last(d);
    d->loads_tail = &d->loads;
    return &d->open->storage;
}

static void crash_tear(struct storage_memory *d, const struct memory_append *a) {
    const struct record *r = a->records;
    if (!prng_chance(&d->prng, d->options.torn_percent, 100)) return;
    if (r->header.index != log_last(d) + 1) return; /* a rewrite that did not happen */
    uint32_t whole = (uint32_t)sizeof r->header + r->header.payload_bytes;
    uint32_t bytes = 1 + (uint32_t)prng_below(&d->prng, whole);
    struct record *copy = record_new(r->header.payload_bytes);
    require(copy != NULL);
    copy->header = r->header;
    memcpy(copy->payload, r->payload, r->header.payload_bytes);
    record_seal(&copy->header, copy->payload);
    log_put(d, copy, bytes);
    if (bytes == whole) d->log[d->log_count - 1].data[prng_below(&d->prng, whole)] ^= 0x40;
    record_release(copy);
    d->torn = true;
    d->counters.torn_records++;
}

void storage_memory_crash(struct storage_memory *d) {
    require(d->open != NULL);
    d->crashed = true;
    d->crash_at = 0;
    d->counters.crashes++;
    uint32_t survive = d->full ? 0 : (uint32_t)prng_below(&d->prng, d->appends_count + 1);
    for (uint32_t i = 0; i < survive; i++) append_make_durable(d, &d->appends[i]);
    d->counters.survived_appends += survive;
    d->counters.lost_appends += d->appends_count - survive;
    appends_drop(d, survive);
    if (d->appends_count > 0) crash_tear(d, &d->appends[0]);
    for (uint32_t i = 0; i < d->appends_count; i++) append_release(&d->appends[i]);
    d->appends_count = 0;
    if (d->checkpoint != NULL && !d->full && prng_chance(&d->prng, 1, 2)) {
        checkpoint_make_durable(d, d->checkpoint);
    }
    d->checkpoint = NULL;
}

void storage_memory_crash_in(struct storage_memory *d, uint64_t operations) {
    if (operations == 0) {
        d->crash_at = 0;
        return;
    }
    d->crash_at = d->counters.operations + operations;
}

bool storage_memory_is_crashed(const struct storage_memory *d) { return d->crashed; }

void storage_memory_advance(struct storage_memory *d, int64_t mono_ms) {
    if (mono_ms > d->now_ms) d->now_ms = mono_ms;
    if (d->open == NULL || d->crashed || d->now_ms < d->stuck_until_ms) return;
    if (d->told_full && !d->full) {
        d->told_full = false;
        disk_tell(d, (struct storage_event){.kind = STORAGE_LOG_ROOM, .ok = true});
    }
    log_start(d);
    while (d->writing > 0 && d->writing_due_ms <= d->now_ms && !d->crashed) {
        log_finish(d);
        log_start(d);
    }
    if (d->checkpoint != NULL && d->checkpoint_due_ms <= d->now_ms && !d->crashed) {
        checkpoint_finish(d);
    }
    while (d->loads != NULL && d->loads->due_ms <= d->now_ms && !d->crashed) {
        struct memory_load *load = d->loads;
        d->loads = load->next;
        if (d->loads == NULL) d->loads_tail = &d->loads;
        load_finish(d, load);
        free(load);
    }
}

int64_t storage_memory_next_ms(const struct storage_memory *d) {
    int64_t next = INT64_MAX;
    if (d->open == NULL || d->crashed) return next;
    if (d->writing > 0) next = d->writing_due_ms;
    if (d->checkpoint != NULL && d->checkpoint_due_ms < next) next = d->checkpoint_due_ms;
    if (d->loads != NULL && d->loads->due_ms < next) next = d->loads->due_ms;
    if (d->told_full && !d->full) next = d->now_ms;
    return next < d->stuck_until_ms ? d->stuck_until_ms : next;
}

/* -- faults and judging -------------------------------------------------------------------------- */

void storage_memory_set_full(struct storage_memory *d, bool full) { d->full = full; }

void storage_memory_set_stuck(struct storage_memory *d, int64_t until_ms) {
    d->stuck_until_ms = until_ms;
}

void storage_memory_set_slow(struct storage_memory *d, int64_t extra_ms_max) {
    d->slow_ms_max = extra_ms_max;
}

bool storage_memory_corrupt_record(struct storage_memory *d, uint64_t index) {
    if (d->log_count == 0 || index < d->log_first || index > log_last(d)) return false;
    struct memory_record *m = &d->log[index - d->log_first];
    m->data[prng_below(&d->prng, m->bytes)] ^= (uint8_t)(1u << prng_below(&d->prng, 8));
    return true;
}

bool storage_memory_corrupt_actor(struct storage_memory *d, uint8_t kind, const struct id128 *key) {
    struct memory_actor *a = *actor_find(d, kind, key);
    if (a == NULL) return false;
    a->damaged = true;
    return true;
}

uint64_t storage_memory_durable_last(const struct storage_memory *d) {
    return log_last(d) - (d->torn ? 1 : 0);
}

uint64_t storage_memory_durable_first(const struct storage_memory *d) {
    return d->log_count > 0 ? d->log_first : 0;
}

const struct record_header *storage_memory_record(const struct storage_memory *d, uint64_t index,
                                                  const void **payload) {
    if (d->log_count == 0 || index < d->log_first || index > storage_memory_durable_last(d)) {
        return NULL;
    }
    const struct record_header *h = (const void *)d->log[index - d->log_first].data;
    *payload = h + 1;
    return h;
}

const char *storage_memory_fault(const struct storage_memory *d) {
    return d->fault[0] != 0 ? d->fault : NULL;
}

struct storage_memory_counters storage_memory_counters(const struct storage_memory *d) {
    return d->counters;
}
