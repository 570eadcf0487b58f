/* The simulated disk's log: queued appends, transactions, truncation, retention. */
#include "tests/world/storage_memory_private.h"

uint64_t env_last(const struct storage_memory *d) {
    return d->log_count > 0 ? d->log_first + d->log_count - 1 : log_floor(d);
}

uint64_t env_first(const struct storage_memory *d) {
    if (d->log_count > 0) return d->log_first;
    return d->gaps_count > 0 ? log_floor(d) + 1 : 0;
}

uint64_t log_last(const struct storage_memory *d) {
    const struct memory_journal *j = &d->journal;
    return j->tail_count > 0 ? j->tail_first + j->tail_count - 1 : env_last(d);
}

uint64_t log_first(const struct storage_memory *d) {
    uint64_t first = env_first(d);
    bool tail_only = d->journal.tail_count > 0 && (first == 0 || d->journal.tail_first < first);
    return tail_only ? d->journal.tail_first : first;
}

uint64_t log_floor(const struct storage_memory *d) {
    return d->gaps_count > 0 ? d->gaps[d->gaps_count - 1].last : 0;
}

const struct memory_record *log_find(const struct storage_memory *d, uint64_t index) {
    const struct memory_journal *j = &d->journal;
    if (j->tail_count == 0 || index < j->tail_first) return env_find(d, index);
    return index <= log_last(d) ? &j->tail[index - j->tail_first].m : NULL;
}

const struct memory_record *env_find(const struct storage_memory *d, uint64_t index) {
    if (d->log_count > 0 && index >= d->log_first) {
        return index <= env_last(d) ? &d->log[index - d->log_first] : NULL;
    }
    for (uint32_t i = 0; i < d->pieces_count; i++) {
        const struct memory_piece *p = &d->pieces[i];
        if (index >= p->first && index - p->first < p->count) return &p->records[index - p->first];
    }
    return NULL;
}

static void log_cut(struct storage_memory *d, uint64_t first) {
    /* Behind a journal an old record may stand under an index whose new one is stored already. */
    bool judged = d->options.journal_blocks == 0;
    while (d->log_count > 0 && env_last(d) >= first) {
        if (judged && first <= d->marker.applied_index)
            disk_fault(d, "record %lu below the marker is truncated", (unsigned long)first);
        free(d->log[--d->log_count].data);
    }
}

void log_put(struct storage_memory *d, const struct record *r, uint32_t bytes) {
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

void append_release(struct memory_append *a) {
    for (struct record *r = a->records, *next; r != NULL; r = next) {
        next = r->next;
        record_release(r);
    }
}

/* The planted fault: what a rewrite replaces is taken out, what lies behind it stays. */
static struct record *tail_keep(const struct storage_memory *d, const struct memory_append *a) {
    uint64_t last = a->records->header.index;
    struct record *kept = NULL, **end = &kept;
    for (const struct record *r = a->records; r != NULL; r = r->next) last = r->header.index;
    for (uint64_t index = last + 1; d->options.keeps_tail && index <= env_last(d); index++) {
        const struct memory_record *m = env_find(d, index);
        const struct record_header *h = (const void *)m->data;
        struct record *copy = record_new(h->payload_bytes);
        require(copy != NULL);
        copy->header = *h;
        memcpy(copy->payload, h + 1, h->payload_bytes);
        *end = copy;
        end = &copy->next;
    }
    return kept;
}

void append_make_durable(struct storage_memory *d, struct memory_append *a) {
    struct record *kept = tail_keep(d, a);
    log_cut(d, a->records->header.index);
    for (struct record *r = a->records; r != NULL; r = r->next) {
        if (env_last(d) > 0 && r->header.index != env_last(d) + 1) {
            disk_fault(d, "record %lu is appended behind %lu", (unsigned long)r->header.index,
                       (unsigned long)env_last(d));
        }
        record_seal(&r->header, r->payload);
        log_put(d, r, (uint32_t)sizeof r->header + r->header.payload_bytes);
        d->counters.records++;
    }
    for (struct record *r = kept; r != NULL; r = r->next) {
        log_put(d, r, (uint32_t)sizeof r->header + r->header.payload_bytes);
    }
    append_release(&(struct memory_append){.records = kept});
    append_release(a);
}

void appends_drop(struct storage_memory *d, uint32_t count) {
    d->appends_count -= count;
    if (d->appends_count > 0) {
        memmove(d->appends, d->appends + count, d->appends_count * sizeof *d->appends);
    }
    d->writing = 0;
}

void log_tell_full(struct storage_memory *d) {
    if (d->told_full) return;
    d->told_full = true;
    disk_tell(d, (struct storage_event){.kind = STORAGE_LOG_FULL, .ok = true});
}

/* Everything that waits becomes the next transaction. On a full disk that is what an election has
 * written, alone and where the journal has room for it. */
void log_start(struct storage_memory *d) {
    if (d->writing > 0 || d->appends_count == 0) return;
    bool barrier = d->full && journal_admits(d, &d->appends[0]);
    if (d->full && !barrier) log_tell_full(d);
    if (!barrier && (d->full || d->told_full)) return;
    d->writing = barrier ? 1 : d->appends_count;
    d->writing_due_ms = d->now_ms + disk_delay(d, d->options.append_ms_max);
}

/* Into the journal: each call is told when its last frame is durable. */
static void log_finish_journal(struct storage_memory *d) {
    uint32_t done = 0;
    for (; done < d->writing; done++) {
        struct memory_append *a = &d->appends[done];
        bool told = d->options.acks_early && a->records->header.type == RECORD_EVENTS;
        if (!journal_append(d, a)) break;
        if (told) continue;
        disk_tell(d, (struct storage_event){.kind = STORAGE_APPENDED,
                                            .ok = true,
                                            .index = log_last(d),
                                            .sequence = a->sequence});
    }
    if (done > 0) d->counters.transactions++;
    appends_drop(d, done);
}

void log_finish(struct storage_memory *d) {
    uint64_t index = 0, sequence = 0;
    if (d->options.journal_blocks > 0) {
        log_finish_journal(d);
        return;
    }
    bool told_early = d->options.acks_early && d->appends[0].records->header.type == RECORD_EVENTS;
    if (!disk_operation(d)) return; /* died in the commit */
    for (uint32_t i = 0; i < d->writing; i++) {
        sequence = d->appends[i].sequence;
        append_make_durable(d, &d->appends[i]);
    }
    index = log_last(d);
    appends_drop(d, d->writing);
    d->counters.transactions++;
    if (!told_early) {
        disk_tell(d,
                  (struct storage_event){
                      .kind = STORAGE_APPENDED, .ok = true, .index = index, .sequence = sequence});
    }
}

uint64_t memory_append(struct storage *s, struct record *records) {
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
    if (index <= log_floor(d)) {
        disk_fault(d, "record %lu is queued, but an installed state stands for it",
                   (unsigned long)index);
    }
    for (struct record *r = records; r != NULL; r = r->next, last++) {
        if (r->header.index != last) disk_fault(d, "records of an append are not consecutive");
        if (r->header.term == 0 || r->header.term > d->term) {
            disk_fault(d, "record %lu has term %lu, but the stored one is %lu",
                       (unsigned long)r->header.index, (unsigned long)r->header.term,
                       (unsigned long)d->term);
        }
    }
    if (d->options.lone_voter && index > 1 && records->header.term <= d->dead_term) {
        disk_fault(d, "record %lu has term %lu, in which an earlier process wrote",
                   (unsigned long)index, (unsigned long)records->header.term);
    }
    d->queued_term = records->header.term;
    d->queued_last = last - 1;
    if (d->appends_count == d->appends_capacity) {
        d->appends_capacity = d->appends_capacity ? 2 * d->appends_capacity : 64;
        d->appends = realloc(d->appends, d->appends_capacity * sizeof *d->appends);
        require(d->appends != NULL);
    }
    d->appends[d->appends_count++] = a;
    d->counters.appends++;
    if (d->options.acks_early && records->header.type == RECORD_EVENTS) {
        disk_tell(d, (struct storage_event){.kind = STORAGE_APPENDED,
                                            .ok = true,
                                            .index = d->queued_last,
                                            .sequence = a.sequence});
    }
    log_start(d);
    return a.sequence;
}

static int log_missing(const struct storage_memory *d, uint64_t index, char *error,
                       size_t error_bytes) {
    for (uint32_t i = 0; i < d->gaps_count; i++) {
        const struct memory_gap *gap = &d->gaps[i];
        if (index < gap->first || index > gap->last) continue;
        snprintf(error, error_bytes, "log entry %lu is in a gap of the history: entries %lu to %lu "
                 "were never stored here", (unsigned long)index, (unsigned long)gap->first,
                 (unsigned long)gap->last);
        return -1;
    }
    snprintf(error, error_bytes, "log entry %lu is not stored", (unsigned long)index);
    return -1;
}

int memory_read(struct storage *s, uint64_t first, uint64_t last,
                bool (*visit)(void *arg, const struct record_header *record, const void *payload),
                void *arg, char *error, size_t error_bytes) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d) || d->crashed) {
        snprintf(error, error_bytes, "the process has died");
        return -1;
    }
    uint64_t skipped = 0;
    for (uint64_t index = first; index <= last; index++) {
        const struct memory_record *m = log_find(d, index);
        if (m == NULL) return log_missing(d, index, error, error_bytes);
        const char *what = record_fault(m->data, m->bytes, index);
        if (what != NULL) {
            d->told_damaged = true;
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

/* Whole pieces in front of gaps that are old enough. False = one stays. */
static bool pieces_retain(struct storage_memory *d, int64_t before_ms) {
    while (d->pieces_count > 0) {
        struct memory_piece *p = &d->pieces[0];
        for (uint64_t i = 0; i < p->count; i++) {
            if (record_time_ms(&p->records[i]) >= before_ms) return false;
        }
        for (uint64_t i = 0; i < p->count; i++) free(p->records[i].data);
        free(p->records);
        memmove(d->pieces, d->pieces + 1, --d->pieces_count * sizeof *d->pieces);
    }
    return true;
}

void memory_retain(struct storage *s, uint64_t upto_index, int64_t before_ms) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    uint64_t segment = d->options.segment_records ? d->options.segment_records : 64;
    if (upto_index > d->marker.applied_index)
        disk_fault(d, "retention would drop what is not checkpointed");
    if (!pieces_retain(d, before_ms)) return;
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

void log_start_anew(struct storage_memory *d, uint64_t kept, uint64_t marker) {
    uint64_t floor = log_floor(d);
    if (d->torn && env_last(d) > kept) d->torn = false;
    while (d->log_count > 0 && env_last(d) > kept) free(d->log[--d->log_count].data);
    if (d->log_count > 0) {
        d->pieces = realloc(d->pieces, (d->pieces_count + 1) * sizeof *d->pieces);
        require(d->pieces != NULL);
        d->pieces[d->pieces_count++] = (struct memory_piece){d->log_first, d->log_count, d->log};
        d->log = NULL;
        d->log_count = d->log_capacity = 0;
    }
    /* Nothing lies between the newest gap and this one: they are one. */
    if (d->gaps_count > 0 && kept <= floor) {
        d->gaps[d->gaps_count - 1].last = marker;
        d->gaps[d->gaps_count - 1].installed_ms = d->now_ms;
        return;
    }
    d->gaps = realloc(d->gaps, (d->gaps_count + 1) * sizeof *d->gaps);
    require(d->gaps != NULL);
    d->gaps[d->gaps_count++] = (struct memory_gap){kept + 1, marker, d->now_ms};
}
