/* The simulated disk: start-up, the handle, crashes, faults. */
#include "tests/world/storage_memory.h"

#include "tests/world/storage_memory_private.h"

/* Counts an operation. False when the process has died before it took effect. */
bool disk_operation(struct storage_memory *d) {
    if (d->crashed) return false;
    d->counters.operations++;
    if (d->crash_at == 0 || d->counters.operations < d->crash_at) return true;
    d->crashed = true;
    return prng_chance(&d->prng, 1, 2);
}

int64_t disk_delay(struct storage_memory *d, int64_t ms_max) {
    int64_t delay = prng_between(&d->prng, 0, ms_max);
    if (d->slow_ms_max > 0) delay += prng_between(&d->prng, 0, d->slow_ms_max);
    return delay;
}

void disk_tell(struct storage_memory *d, struct storage_event event) {
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

void events_drop(struct storage_memory *d) {
    for (; d->events_count > 0; d->events_count--) {
        struct storage_event *e = &d->events[d->events_head];
        if (e->kind == STORAGE_LOADED) free(e->block);
        d->events_head = (d->events_head + 1) % d->events_capacity;
    }
}

bool event_waits(const struct storage_memory *d, uint8_t kind) {
    for (uint32_t i = 0; i < d->events_count; i++) {
        if (d->events[(d->events_head + i) % d->events_capacity].kind == kind) return true;
    }
    return false;
}

/* -- start-up ---------------------------------------------------------------------------------- */

static int memory_load_meta(struct storage *s, struct storage_meta *meta, char *error,
                            size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    if (d->crashed) {
        snprintf(error, error_bytes, "the process has died");
        return -1;
    }
    if (d->journal.error[0] != 0) {
        d->told_damaged = true;
        snprintf(error, error_bytes, "%s", d->journal.error);
        return -1;
    }
    memset(meta, 0, sizeof *meta);
    meta->term = d->term;
    meta->voted_for = d->voted_for;
    meta->log_first = log_first(d);
    meta->log_last = log_last(d);
    state_tell(d, meta);
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
                d->told_damaged = true;
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
        d->told_damaged = true;
        snprintf(error, error_bytes, "a stored actor: checksum does not match");
        return -1;
    }
    *block = block_copy(a);
    *bytes = a->bytes;
    return 0;
}

static void memory_release_block(struct storage *s, void *block) {
    free(block);
}

static void memory_save_vote(struct storage *s, uint64_t term, uint64_t voted_for) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    if (term < d->term) disk_fault(d, "the term goes back");
    d->term = term;
    d->voted_for = d->options.forgets_votes ? 0 : voted_for;
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
    stats->log_first = d->pieces_count > 0 ? d->pieces[0].first : log_first(d);
    for (uint32_t i = 0; i < d->gaps_count; i++) {
        const struct memory_gap *gap = &d->gaps[i];
        if (memory_gap_is_past(d, gap)) continue;
        stats->gaps++;
        stats->gap_records += gap->last - gap->first + 1;
        stats->gap_first = gap->first;
        stats->gap_last = gap->last;
    }
    stats->log_last = log_last(d);
    stats->filled_records = d->counters.filled;
    for (uint64_t i = 0; i < d->log_count; i++) stats->log_bytes += d->log[i].bytes;
    stats->commits = d->counters.transactions;
    stats->appends_waiting = d->appends_count;
    stats->checkpoints = d->counters.checkpoints;
    stats->loads = d->counters.loads;
    stats->full = d->full;
}

/* -- the handle -------------------------------------------------------------------------------- */

static void handle_free(struct storage_memory *d) {
    for (uint32_t i = 0; i < d->appends_count; i++) append_release(&d->appends[i]);
    d->appends_count = d->writing = 0;
    while (d->loads != NULL) {
        struct memory_load *load = d->loads;
        d->loads = load->next;
        d->loads_waiting--;
        free(load);
    }
    events_drop(d);
    d->checkpoint = NULL;
    free(d->open);
    d->open = NULL;
}

static void memory_close(struct storage *s) {
    struct storage_memory *d = disk_of(s);
    bool journal = d->journal.journal.open;
    if (journal && !d->crashed) journal_end(d);
    for (uint32_t i = 0; i < d->appends_count && !journal && !d->crashed && !d->full; i++) {
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
    .export_state = memory_export_state,
    .check_state = memory_check_state,
    .install_state = memory_install_state,
    .gap = memory_gap_at,
    .fill = memory_fill,
    .scrub = memory_scrub,
    .stats = memory_stats,
    .close = memory_close,
};

struct storage_memory *storage_memory_new(const struct storage_memory_options *options) {
    struct storage_memory *d = calloc(1, sizeof *d);
    require(d != NULL);
    d->options = *options;
    prng_seed(&d->prng, options->seed);
    d->owns_files = options->files == NULL;
    d->files = d->owns_files ? storage_memory_files_new() : options->files;
    if (options->journal_blocks > 0) journal_new(d);
    return d;
}

void storage_memory_free(struct storage_memory *d) {
    if (d->open != NULL) handle_free(d);
    for (uint64_t i = 0; i < d->log_count; i++) free(d->log[i].data);
    for (uint32_t p = 0; p < d->pieces_count; p++) {
        for (uint64_t i = 0; i < d->pieces[p].count; i++) free(d->pieces[p].records[i].data);
        free(d->pieces[p].records);
    }
    free(d->pieces);
    free(d->gaps);
    if (d->owns_files) storage_memory_files_free(d->files);
    for (uint32_t b = 0; b < MEMORY_BUCKETS; b++) {
        while (d->buckets[b] != NULL) {
            struct memory_actor *a = d->buckets[b];
            d->buckets[b] = a->next;
            free(a->block);
            free(a);
        }
    }
    journal_free(d);
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
    if (d->options.journal_blocks > 0 && !d->journal.journal.open) journal_load(d);
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
    if (d->queued_term > d->dead_term) d->dead_term = d->queued_term;
    d->crash_at = 0;
    d->counters.crashes++;
    uint32_t most = d->full ? d->writing : d->appends_count;
    uint32_t survive = (uint32_t)prng_below(&d->prng, most + 1);
    bool journal = d->options.journal_blocks > 0;
    if (journal) journal_crash(d, survive);
    for (uint32_t i = 0; i < survive && !journal; i++) append_make_durable(d, &d->appends[i]);
    d->counters.survived_appends += survive;
    d->counters.lost_appends += d->appends_count - survive;
    if (!journal) appends_drop(d, survive);
    if (d->appends_count > 0 && !journal) crash_tear(d, &d->appends[0]);
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

bool storage_memory_is_crashed(const struct storage_memory *d) {
    return d->crashed;
}

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
    journal_work(d);
    if (d->checkpoint != NULL && d->checkpoint_due_ms <= d->now_ms && !d->crashed) {
        checkpoint_finish(d);
    }
    while (d->loads != NULL && d->loads->due_ms <= d->now_ms && !d->crashed) {
        struct memory_load *load = d->loads;
        d->loads = load->next;
        d->loads_waiting--;
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
    if (journal_next_ms(d) < next) next = journal_next_ms(d);
    if (d->told_full && !d->full) next = d->now_ms;
    return next < d->stuck_until_ms ? d->stuck_until_ms : next;
}

/* -- faults and judging ------------------------------------------------------------------------ */

void storage_memory_set_full(struct storage_memory *d, bool full) {
    d->full = full;
}

void storage_memory_set_stuck(struct storage_memory *d, int64_t until_ms) {
    d->stuck_until_ms = until_ms;
}

void storage_memory_set_slow(struct storage_memory *d, int64_t extra_ms_max) {
    d->slow_ms_max = extra_ms_max;
}

bool storage_memory_corrupt_record(struct storage_memory *d, uint64_t index) {
    if (index <= log_last(d) && d->journal.tail_count > 0 && index >= d->journal.tail_first)
        journal_flush(d);
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

void storage_memory_corrupt_timers(struct storage_memory *d) { d->timers_damaged = true; }

uint64_t storage_memory_durable_last(const struct storage_memory *d) {
    return log_last(d) - (d->torn ? 1 : 0);
}

uint64_t storage_memory_durable_first(const struct storage_memory *d) {
    return log_first(d);
}

bool storage_memory_gap(const struct storage_memory *d, uint64_t *first, uint64_t *last) {
    if (d->gaps_count == 0) return false;
    *first = d->gaps[d->gaps_count - 1].first;
    *last = d->gaps[d->gaps_count - 1].last;
    return true;
}

uint64_t storage_memory_marker(const struct storage_memory *d) {
    return d->marker.applied_index;
}

const struct record_header *storage_memory_record(const struct storage_memory *d, uint64_t index,
                                                  const void **payload) {
    const struct memory_record *m = log_find(d, index);
    if (m == NULL || (d->torn && index == log_last(d))) return NULL;
    const struct record_header *h = (const void *)m->data;
    *payload = h + 1;
    return h;
}

bool storage_memory_damage_was_told(const struct storage_memory *d) {
    return d->told_damaged;
}

const char *storage_memory_fault(const struct storage_memory *d) {
    return d->fault[0] != 0 ? d->fault : NULL;
}

struct storage_memory_counters storage_memory_counters(const struct storage_memory *d) {
    return d->counters;
}
