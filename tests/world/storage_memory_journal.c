/* The simulated disk's journal: the real one (persistence/lmdb/journal.h) over a file in memory.
 *
 * As with the real disk a commit is a frame, and the log behind it follows later, several commits
 * at a time: until then the records are `late`, and lie in the tail that readers look into first.
 * What is in memory only goes with the process; the file and the log stay, and the real recovery
 * makes the tail of them again. */
#include "tests/world/storage_memory_private.h"

enum { SECTOR = 512 };

/* -- the file ---------------------------------------------------------------------------------- */

static int file_read(void *arg, void *data, size_t bytes, uint64_t offset) {
    const struct memory_journal *j = &((struct storage_memory *)arg)->journal;
    memcpy(data, j->file + offset, bytes);
    return 0;
}

/* Of a write in which the process dies, a part is there: from the front, or any. */
static int file_write(void *arg, const void *data, size_t bytes, uint64_t offset) {
    struct storage_memory *d = arg;
    struct memory_journal *j = &d->journal;
    require(bytes % JOURNAL_BLOCK == 0 && offset % JOURNAL_BLOCK == 0 && offset > 0);
    require(offset + bytes <= j->bytes);
    size_t sectors = bytes / SECTOR, front = sectors;
    bool any = false;
    if (j->tears) {
        any = prng_chance(&d->prng, 1, 2);
        front = (size_t)prng_below(&d->prng, sectors + 1);
    }
    for (size_t s = 0; s < sectors; s++) {
        if (any ? prng_chance(&d->prng, 1, 2) : s >= front) continue;
        memcpy(j->file + offset + s * SECTOR, (const uint8_t *)data + s * SECTOR, SECTOR);
    }
    return 0;
}

static int file_sync(void *arg) { return 0; }
static void file_close(void *arg) {}

void journal_new(struct storage_memory *d) {
    struct memory_journal *j = &d->journal;
    struct journal_header header;
    j->bytes = (uint64_t)d->options.journal_blocks * JOURNAL_BLOCK;
    j->file = calloc(1, j->bytes);
    require(j->file != NULL);
    journal_header_make(&header, d->options.shard, j->bytes, prng_next(&d->prng));
    memcpy(j->file, &header, sizeof header);
}

/* -- the tail, and what is late ---------------------------------------------------------------- */

static struct memory_record record_copy(const struct record *r) {
    uint32_t bytes = (uint32_t)sizeof r->header + r->header.payload_bytes;
    struct memory_record m = {malloc(bytes), bytes};
    require(m.data != NULL);
    memcpy(m.data, &r->header, sizeof r->header);
    memcpy(m.data + sizeof r->header, r->payload, r->header.payload_bytes);
    return m;
}

static void tail_put(struct memory_journal *j, const struct record *records) {
    while (j->tail_count > 0 && j->tail_first + j->tail_count > records->header.index)
        free(j->tail[--j->tail_count].m.data);
    if (j->tail_count == 0) j->tail_first = records->header.index;
    for (const struct record *r = records; r != NULL; r = r->next) {
        require(r->header.index == j->tail_first + j->tail_count);
        if (j->tail_count == j->tail_capacity) {
            j->tail_capacity = j->tail_capacity ? 2 * j->tail_capacity : 64;
            j->tail = realloc(j->tail, j->tail_capacity * sizeof *j->tail);
            require(j->tail != NULL);
        }
        j->tail[j->tail_count++] = (struct memory_tail){record_copy(r), r};
    }
}

static void tail_drop_first(struct memory_journal *j) {
    free(j->tail[0].m.data);
    memmove(j->tail, j->tail + 1, --j->tail_count * sizeof *j->tail);
    j->tail_first++;
}

/* Durable; the log gets it later. */
static void late_put(struct storage_memory *d, struct record *records) {
    struct memory_journal *j = &d->journal;
    tail_put(j, records);
    if (j->late_count == j->late_capacity) {
        j->late_capacity = j->late_capacity ? 2 * j->late_capacity : 64;
        j->late = realloc(j->late, j->late_capacity * sizeof *j->late);
        require(j->late != NULL);
    }
    j->late[j->late_count++] = (struct memory_append){.records = records};
    if (j->late_count == 1) j->late_due_ms = d->now_ms + disk_delay(d, d->options.late_ms_max);
}

/* The first `count` commits, in one transaction of the log. */
static void late_make_durable(struct storage_memory *d, uint32_t count) {
    struct memory_journal *j = &d->journal;
    for (uint32_t i = 0; i < count; i++) {
        for (const struct record *r = j->late[i].records; r != NULL; r = r->next) {
            j->applied++;
            /* One that was truncated meanwhile is in the tail no more. */
            if (j->tail_count > 0 && j->tail[0].of == r) tail_drop_first(j);
        }
        append_make_durable(d, &j->late[i]);
    }
    j->late_count -= count;
    memmove(j->late, j->late + count, j->late_count * sizeof *j->late);
}

/* True: it took effect; the process may have died behind it. */
static bool late_finish(struct storage_memory *d, uint32_t count) {
    if (!disk_operation(d)) return false;
    late_make_durable(d, count);
    return true;
}

void journal_work(struct storage_memory *d) {
    struct memory_journal *j = &d->journal;
    if (d->full && j->late_count > 0 && j->late_due_ms <= d->now_ms) log_tell_full(d);
    while (j->late_count > 0 && j->late_due_ms <= d->now_ms && !d->full && !d->crashed) {
        late_finish(d, 1 + (uint32_t)prng_below(&d->prng, j->late_count));
        j->late_due_ms = d->now_ms + disk_delay(d, d->options.late_ms_max);
    }
}

int64_t journal_next_ms(const struct storage_memory *d) {
    bool told = d->full && d->told_full;
    return d->journal.late_count > 0 && !told ? d->journal.late_due_ms : INT64_MAX;
}

/* -- writing ----------------------------------------------------------------------------------- */

/* Up to which frame the journal may be told to be in the log. */
static uint64_t journal_may_tell(const struct storage_memory *d) {
    const struct memory_journal *j = &d->journal;
    return journal_applied(&j->journal, d->options.journal_early ? UINT64_MAX : j->applied);
}

static void journal_put(struct storage_memory *d, const struct record *records, uint32_t count,
                        uint64_t applied) {
    struct journal *j = &d->journal.journal;
    uint64_t round = j->next / j->blocks;
    require(journal_write(j, records, count, applied) == 0);
    d->counters.frames++;
    d->counters.rounds += j->next / j->blocks - round;
}

static bool journal_note(struct storage_memory *d, uint64_t applied) {
    if (!disk_operation(d)) return false;
    journal_put(d, NULL, 0, applied);
    return true;
}

bool journal_settle(struct storage_memory *d) {
    struct memory_journal *j = &d->journal;
    if (j->late_count > 0 && !late_finish(d, j->late_count)) return false;
    return j->journal.clear || journal_note(d, j->journal.sequence);
}

/* Room is made by the log, and by a note that it has come so far. */
static bool journal_make_room(struct storage_memory *d, size_t bytes) {
    struct memory_journal *j = &d->journal;
    while (!journal_has_room(&j->journal, bytes)) {
        bool done;
        if (journal_may_tell(d) > j->journal.applied) {
            done = journal_note(d, journal_may_tell(d));
        } else {
            require(j->late_count > 0);
            done = late_finish(d, 1 + (uint32_t)prng_below(&d->prng, j->late_count));
        }
        if (!done) return false;
    }
    return true;
}

struct frame {
    struct record *records, *last, *rest;
    size_t bytes;
    uint32_t count;
};

/* Cuts off what goes into one frame, sealed. */
static struct frame frame_cut(const struct journal *j, struct record *records) {
    struct frame f = {.records = records};
    for (struct record *r = records; r != NULL; r = r->next) {
        size_t bytes = journal_record_bytes(r);
        if (f.count > 0 && f.bytes + bytes > journal_frame_bytes(j) / 5 * 4) break;
        record_seal(&r->header, r->payload);
        f.bytes += bytes;
        f.count++;
        f.last = r;
    }
    f.rest = f.last->next;
    f.last->next = NULL;
    return f;
}

static bool frame_fits(const struct journal *j, const struct frame *f) {
    return f->bytes <= journal_frame_bytes(j);
}

/* One frame; what is too large goes into the log itself, behind all that is late. */
static bool frame_write(struct storage_memory *d, const struct frame *f) {
    struct journal *j = &d->journal.journal;
    uint64_t first = f->records->header.index;
    if (first <= d->marker.applied_index && first <= log_last(d))
        disk_fault(d, "record %lu below the marker is truncated", (unsigned long)first);
    if (!frame_fits(j, f)) {
        if (!journal_settle(d) || !disk_operation(d)) return false;
        append_make_durable(d, &(struct memory_append){.records = f->records});
        return true;
    }
    if (!journal_make_room(d, f->bytes) || !disk_operation(d)) return false;
    journal_put(d, f->records, f->count, journal_may_tell(d));
    late_put(d, f->records);
    return true;
}

bool journal_append(struct storage_memory *d, struct memory_append *a) {
    while (a->records != NULL) {
        struct frame f = frame_cut(&d->journal.journal, a->records);
        if (!frame_write(d, &f)) {
            f.last->next = f.rest;
            return false;
        }
        a->records = f.rest;
    }
    return true;
}

bool journal_admits(const struct storage_memory *d, const struct memory_append *a) {
    size_t bytes = 0;
    for (const struct record *r = a->records; r != NULL; r = r->next) {
        if (r->header.type != RECORD_BARRIER) return false;
        bytes += journal_record_bytes(r);
    }
    return d->journal.journal.open && journal_has_room(&d->journal.journal, bytes);
}

/* -- crashes ----------------------------------------------------------------------------------- */

static bool log_has(void *arg, const struct record *r) {
    const struct memory_record *m = env_find(arg, r->header.index);
    if (m == NULL || record_fault(m->data, m->bytes, r->header.index) != NULL) return false;
    const struct record_header *h = (const void *)m->data;
    return h->checksum == r->header.checksum && h->term == r->header.term;
}

void journal_load(struct storage_memory *d) {
    struct memory_journal *j = &d->journal;
    struct record *records = NULL;
    struct journal_device device = {.read = file_read, .write = file_write, .sync = file_sync,
                                    .close = file_close, .arg = d, .bytes = j->bytes};
#ifdef JUMUN_DEBUG_CHECKS
    device.trusts = d->options.journal_trusts;
#endif
    struct journal_log log = {.first = env_first(d), .last = env_last(d), .floor = log_floor(d),
                              .has = log_has, .arg = d};
    j->applied = 0;
    j->error[0] = 0;
    if (journal_open_on(&j->journal, &device, "journal", d->options.shard, &records, j->error,
                        sizeof j->error) != 0) {
        return;
    }
    if (journal_recover(&j->journal, &log, "journal", &records, j->error, sizeof j->error) != 0) {
        journal_close(&j->journal);
        return;
    }
    if (d->options.journal_forgotten) {
        journal_free_records(records);
        records = NULL;
        j->applied = j->journal.records;
    }
    for (const struct record *r = records; r != NULL; r = r->next) d->counters.replayed++;
    if (records != NULL) late_put(d, records);
}

static void memory_drop(struct memory_journal *j) {
    for (uint32_t i = 0; i < j->late_count; i++) append_release(&j->late[i]);
    for (; j->tail_count > 0; j->tail_count--) free(j->tail[j->tail_count - 1].m.data);
    j->late_count = 0;
    journal_close(&j->journal);
}

/* Of what is queued so many calls are written, or as many as there is room for, and by chance a
 * part of the next one. Returns the first index that the torn frame would rewrite. */
static uint64_t crash_write(struct storage_memory *d, uint32_t survive) {
    struct journal *j = &d->journal.journal;
    for (uint32_t i = 0; i < d->appends_count; i++) {
        struct memory_append *a = &d->appends[i];
        while (a->records != NULL) {
            struct frame f = frame_cut(j, a->records);
            bool fits = frame_fits(j, &f) && journal_has_room(j, f.bytes);
            bool tears = i >= survive && prng_chance(&d->prng, d->options.torn_percent, 100);
            if (!fits || i >= survive) f.last->next = f.rest;
            if (!fits || (i >= survive && !tears)) return UINT64_MAX;
            if (i < survive) {
                journal_put(d, f.records, f.count, journal_may_tell(d));
                late_put(d, f.records);
                a->records = f.rest;
                continue;
            }
            uint64_t index = f.records->header.index;
            f.last->next = NULL;
            d->journal.tears = true;
            journal_put(d, f.records, f.count, journal_may_tell(d));
            d->journal.tears = false;
            f.last->next = f.rest;
            d->counters.torn_frames++;
            return index;
        }
    }
    return UINT64_MAX;
}

/* What was durable is found again; a torn frame that came out whole may stand behind it. */
static void crash_judge(struct storage_memory *d, const struct memory_tail *tail, uint64_t first,
                        uint64_t count, uint64_t torn_from) {
    for (uint64_t i = 0; i < count && first + i < torn_from && d->journal.error[0] == 0; i++) {
        const struct record_header *was = (const void *)tail[i].m.data;
        const struct memory_record *m = log_find(d, first + i);
        const struct record_header *is = m != NULL ? (const void *)m->data : NULL;
        if (is != NULL && is->checksum == was->checksum) continue;
        disk_fault(d, "record %lu was durable in the journal, and is %s after a crash",
                   (unsigned long)(first + i), m == NULL ? "gone" : "another one");
    }
}

void journal_crash(struct storage_memory *d, uint32_t survive) {
    struct memory_journal *j = &d->journal;
    if (!j->journal.open) return;
    uint64_t torn_from = crash_write(d, survive);
    struct memory_tail *tail = j->tail;
    uint64_t first = j->tail_first, count = j->tail_count;
    j->tail = NULL;
    j->tail_count = j->tail_capacity = 0;
    memory_drop(j);
    journal_load(d);
    bool broken = d->options.journal_forgotten || d->options.journal_early ||
                  d->options.journal_trusts || j->rotten;
    if (!broken) crash_judge(d, tail, first, count, torn_from);
    for (uint64_t i = 0; i < count; i++) free(tail[i].m.data);
    free(tail);
}

void journal_end(struct storage_memory *d) {
    if (!d->full) {
        for (uint32_t i = 0; i < d->appends_count; i++) {
            d->crash_at = 0;
            require(journal_append(d, &d->appends[i]));
        }
        require(journal_settle(d));
    }
    memory_drop(&d->journal);
    journal_load(d);
}

void journal_free(struct storage_memory *d) {
    memory_drop(&d->journal);
    free(d->journal.tail);
    free(d->journal.late);
    free(d->journal.file);
}

/* -- faults ------------------------------------------------------------------------------------ */

/* Everything into the log, so that it is the log's to be damaged. */
void journal_flush(struct storage_memory *d) {
    struct memory_journal *j = &d->journal;
    if (!j->journal.open) return;
    if (j->late_count > 0) late_make_durable(d, j->late_count);
    if (!j->journal.clear) journal_put(d, NULL, 0, j->journal.sequence);
}

bool storage_memory_corrupt_journal(struct storage_memory *d) {
    struct memory_journal *j = &d->journal;
    const struct journal *f = &j->journal;
    uint64_t at, bytes;
    if (d->options.journal_blocks == 0 || !f->open) return false;
    if (prng_chance(&d->prng, 1, 8)) {
        at = 0;
        bytes = sizeof(struct journal_header);
    } else {
        /* The newest frame cannot be told from one that was never finished. */
        if (f->frames_count < 2) return false;
        uint64_t i = prng_below(&d->prng, (uint32_t)(f->frames_count - 1));
        uint64_t begin = f->frames[(f->frames_first + i) % f->blocks].begin % f->blocks;
        struct journal_frame_header h;
        at = (1 + begin) * JOURNAL_BLOCK;
        memcpy(&h, j->file + at, sizeof h);
        bytes = sizeof h + h.payload_bytes;
    }
    j->file[at + prng_below(&d->prng, (uint32_t)bytes)] ^=
        (uint8_t)(1u << prng_below(&d->prng, 8));
    j->rotten = true;
    return true;
}
