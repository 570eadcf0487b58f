/* The simulated disk's log: queued appends, transactions, truncation, retention. */
#include "tests/world/storage_memory_private.h"

uint64_t log_last(const struct storage_memory *d) {
    return d->log_count > 0 ? d->log_first + d->log_count - 1 : 0;
}

static void log_cut(struct storage_memory *d, uint64_t first) {
    while (d->log_count > 0 && log_last(d) >= first) {
        if (first <= d->applied_index)
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

void append_make_durable(struct storage_memory *d, struct memory_append *a) {
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

void appends_drop(struct storage_memory *d, uint32_t count) {
    d->appends_count -= count;
    if (d->appends_count > 0) {
        memmove(d->appends, d->appends + count, d->appends_count * sizeof *d->appends);
    }
    d->writing = 0;
}

/* Everything that waits becomes the next transaction. */
void log_start(struct storage_memory *d) {
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

void log_finish(struct storage_memory *d) {
    uint64_t index = 0, sequence = 0;
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

void memory_retain(struct storage *s, uint64_t upto_index, int64_t before_ms) {
    struct storage_memory *d = disk_of(s);
    if (!disk_operation(d)) return;
    uint64_t segment = d->options.segment_records ? d->options.segment_records : 64;
    if (upto_index > d->applied_index)
        disk_fault(d, "retention would drop what is not checkpointed");
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
