/* In front of the log writer: makes what was appended durable in the journal, tells, and hands it
 * over. Whatever cannot go through the journal (there is none yet, too large, the disk is short of
 * room) goes through to the writer, which then tells; before that the journal is emptied, so that
 * it never holds anything older than what the writer alone has put into the log. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/directory.h"
#include "engine/base/log.h"
#include "engine/base/priority.h"
#include "persistence/lmdb/internal.h"

static void journal_path(const struct storage_lmdb *s, char path[LMDB_PATH_BYTES_MAX]) {
    snprintf(path, LMDB_PATH_BYTES_MAX, "%s/journal", s->directory);
}

/* -- open ----------------------------------------------------------------------------------- */

struct journal_same { uint64_t checksum, term; };

static bool journal_visit_same(void *arg, const struct record_header *record,
                               const void *payload) {
    struct journal_same *same = arg;
    return record->checksum == same->checksum && record->term == same->term;
}

/* Is the very same record in the environment? */
static bool journal_is_stored(void *arg, const struct record *r) {
    struct storage_lmdb *s = arg;
    struct journal_same same = {r->header.checksum, r->header.term};
    char error[256];
    uint64_t index = r->header.index;
    return log_read(&s->base, index, index, journal_visit_same, &same, error, sizeof error) == 0;
}

/* Into the tail, and to the writer. */
static int journal_requeue(struct storage_lmdb *s, struct record *records) {
    struct log_writer *w = &s->log;
    while (records) {
        struct log_batch batch;
        log_cut_batch(records, s->batch_bytes_max, &batch);
        if (!log_tail_reserve(&s->tail, batch.count)) {
            journal_free_records(records);
            return ENOMEM;
        }
        log_tail_put(&s->tail, records, batch.count);
        struct record *last = records;
        for (uint32_t i = 1; i < batch.count; i++) last = last->next;
        struct record *next = last->next;
        last->next = NULL;
        pthread_mutex_lock(&w->lock);
        log_hand_over(w, records, last, batch.count, batch.bytes, true);
        pthread_mutex_unlock(&w->lock);
        records = next;
    }
    return 0;
}

int log_journal_open(struct storage_lmdb *s, char *error, size_t error_bytes) {
    char path[LMDB_PATH_BYTES_MAX];
    struct record *records;
    struct journal_log log = {.has = journal_is_stored, .arg = s};
    journal_path(s, path);
    int rc = journal_open(&s->journal.file, path, s->shard, &records, error, error_bytes);
    if (rc == ENOENT) return 0;
    if (rc != 0) return -1;
    s->log.journalled = true;
    segments_range(s, &log.first, &log.last);
    pthread_mutex_lock(&s->segments.lock);
    log.floor = gaps_floor(&s->segments);
    pthread_mutex_unlock(&s->segments.lock);
    rc = journal_recover(&s->journal.file, &log, path, &records, error, error_bytes);
    if (rc != 0 || !records) return rc;
    log_info("shard %u: record %llu and those behind it come out of the journal", s->shard,
             (unsigned long long)records->header.index);
    if (journal_requeue(s, records) == 0) return 0;
    return lmdb_error(error, error_bytes, "%s: no memory", path);
}

/* -- the file ------------------------------------------------------------------------------- */

/* Nobody waits for it: until it is there the records go through. */
static void *journal_make_run(void *arg) {
    struct storage_lmdb *s = arg;
    struct log_journal *j = &s->journal;
    char path[LMDB_PATH_BYTES_MAX];
    journal_path(s, path);
    /* On a small disk the log needs the room more. Other shards begin at the same time. */
    if (lmdb_free_bytes(s->directory) < s->room_floor_bytes + 8 * s->journal_bytes) return NULL;
    int rc = journal_make(path, s->shard, s->journal_bytes, &j->stop_making);
    if (rc == 0) rc = storage_fault(s, STORAGE_POINT_JOURNAL_MADE);
    if (rc == 0) atomic_store(&j->made, true);
    else if (rc != EINTR) log_warn("%s cannot be made: %s; commits take longer without it", path,
                                   mdb_strerror(rc));
    return NULL;
}

/* A new file takes over from where the log is. */
static void journal_adopt(struct storage_lmdb *s) {
    struct log_journal *j = &s->journal;
    char path[LMDB_PATH_BYTES_MAX], error[512];
    struct record *records;
    if (!atomic_exchange(&j->made, false)) return;
    journal_path(s, path);
    if (journal_open(&j->file, path, s->shard, &records, error, sizeof error) != 0) {
        log_warn("shard %u: %s; commits take longer without it", s->shard, error);
        return;
    }
    require(!records);
    reached_journal(s, j->file.identity);
    pthread_mutex_lock(&s->log.lock);
    j->handed_before = s->log.records_handed;
    s->log.journalled = true;
    pthread_mutex_unlock(&s->log.lock);
}

/* All that it holds is in the environment: it can be done without. */
static void journal_remove(struct storage_lmdb *s) {
    char path[LMDB_PATH_BYTES_MAX];
    journal_path(s, path);
    reached_journal(s, 0);
    journal_close(&s->journal.file);
    int rc = unlink(path) == 0 ? directory_sync(s->directory) : errno;
    if (rc != 0) lmdb_fatal(rc, "%s cannot be removed", path);
    pthread_mutex_lock(&s->log.lock);
    s->log.journalled = false;
    pthread_mutex_unlock(&s->log.lock);
}

/* -- journal's thread ----------------------------------------------------------------------- */

/* Everything in the environment, and the journal says so. False = the writer gave up. */
static bool journal_empty(struct storage_lmdb *s) {
    struct log_journal *j = &s->journal;
    pthread_mutex_lock(&s->log.lock);
    bool applied = log_await_applied(&s->log, false);
    pthread_mutex_unlock(&s->log.lock);
    if (!applied) return false;
    if (!j->file.open || (j->file.clear && !j->broken)) return true;
    int rc = j->broken ? ENOSPC : journal_write(&j->file, NULL, 0, j->file.sequence);
    if (rc == 0) return true;
    if (!lmdb_is_room(rc)) lmdb_fatal(rc, "%s/journal cannot be written", s->directory);
    log_warn("shard %u: no room to write the journal in place: commits take longer without it",
             s->shard);
    journal_remove(s);
    j->broken = false;
    return true;
}

static struct record *batch_last(const struct log_batch *batch) {
    struct record *last = batch->first;
    for (uint32_t i = 1; i < batch->count; i++) last = last->next;
    return last;
}

/* Through to the writer, which tells; returns when it has. False = it gave up. */
static bool journal_pass(struct storage_lmdb *s, const struct log_batch *batch) {
    struct log_writer *w = &s->log;
    struct log_journal *j = &s->journal;
    uint32_t count = batch->count;
    if (!journal_empty(s)) {
        journal_free_records(batch->first);
        return false;
    }
    pthread_mutex_lock(&w->lock);
    bool journalled = w->journalled;
    w->journalled = false;
    log_hand_over(w, batch->first, batch_last(batch), count, batch->bytes, true);
    bool applied = log_await_applied(w, false);
    w->journalled = journalled;
    pthread_mutex_unlock(&w->lock);
    j->handed_before += count;
    return applied;
}

/* Waits until the journal has room for so many bytes. False = it cannot have. */
static bool journal_make_room(struct storage_lmdb *s, size_t bytes) {
    struct log_writer *w = &s->log;
    struct journal *f = &s->journal.file;
    while (!journal_has_room(f, bytes)) {
        pthread_mutex_lock(&w->lock);
        uint64_t records = w->records_applied - s->journal.handed_before;
        uint64_t applied = journal_applied(f, records);
        if (applied <= f->applied) {
            bool gave_up = w->gave_up;
            if (w->head) w->eager = true;
            w->sleeping = false;
            pthread_cond_signal(&w->wake);
            if (!gave_up) pthread_cond_wait(&w->applied, &w->lock);
            pthread_mutex_unlock(&w->lock);
            if (gave_up) return false;
            continue;
        }
        pthread_mutex_unlock(&w->lock);
        int rc = journal_write(f, NULL, 0, applied);
        if (rc == 0) continue;
        if (!lmdb_is_room(rc)) lmdb_fatal(rc, "%s/journal cannot be written", s->directory);
        s->journal.broken = true;
        return false;
    }
    return true;
}

/* Whether the batch is kept out, so that no more is acknowledged than the log will have room for.
 * What an election writes is let in: the journal's blocks are there already, and without it a
 * server alone that starts on a full disk could not lead, and answered no reads. */
static bool journal_lacks_room(const struct storage_lmdb *s, const struct log_batch *batch,
                               size_t bytes) {
    if (lmdb_free_bytes(s->directory) >= s->room_floor_bytes + bytes) return false;
    const struct record *r = batch->first;
    for (uint32_t i = 0; i < batch->count; i++, r = r->next)
        if (r->header.type != RECORD_BARRIER) return true;
    return false;
}

/* One frame. False = it did not go into the journal, and nothing has changed. */
static bool journal_commit(struct storage_lmdb *s, const struct log_batch *batch) {
    struct log_journal *j = &s->journal;
    size_t bytes = 0;
    if (!j->file.open) journal_adopt(s);
    if (!j->file.open) return false;
    struct record *r = batch->first;
    for (uint32_t i = 0; i < batch->count; i++, r = r->next) {
        record_seal(&r->header, r->payload);
        bytes += journal_record_bytes(r);
    }
    if (bytes > journal_frame_bytes(&j->file)) return false;
    if (journal_lacks_room(s, batch, bytes)) return false;
    if (!log_tail_reserve(&s->tail, batch->count) || !journal_make_room(s, bytes)) return false;
    pthread_mutex_lock(&s->log.lock);
    uint64_t records = s->log.records_applied - j->handed_before;
    pthread_mutex_unlock(&s->log.lock);
    int64_t begin_ns = clock_mono_ns();
    int rc = storage_fault(s, STORAGE_POINT_JOURNAL_WRITE);
    if (rc == 0) {
        rc = journal_write(&j->file, batch->first, batch->count,
                           journal_applied(&j->file, records));
    }
    if (rc == 0) {
        log_count_commit(&s->log, batch->bytes, clock_mono_ns() - begin_ns);
        return true;
    }
    if (!lmdb_is_room(rc)) lmdb_fatal(rc, "%s/journal cannot be written", s->directory);
    j->broken = true;
    return false;
}

/* False = the writer gave up; the records are gone. */
static bool journal_do(struct storage_lmdb *s, const struct log_batch *batch) {
    struct log_writer *w = &s->log;
    if (!journal_commit(s, batch)) return journal_pass(s, batch);
    log_tail_put(&s->tail, batch->first, batch->count);
    log_tell(s, batch);
    pthread_mutex_lock(&w->lock);
    log_hand_over(w, batch->first, batch_last(batch), batch->count, batch->bytes, false);
    pthread_mutex_unlock(&w->lock);
    return true;
}

/* Waits for something to do. NULL = the end. */
static struct record *journal_take(struct storage_lmdb *s) {
    struct log_writer *w = &s->log;
    struct log_journal *j = &s->journal;
    pthread_mutex_lock(&w->lock);
    while (!j->head && !j->stop) {
        if (j->settle) {
            pthread_mutex_unlock(&w->lock);
            bool settled = journal_empty(s);
            pthread_mutex_lock(&w->lock);
            j->settle = false;
            j->settled = settled;
            pthread_cond_broadcast(&w->applied);
            continue;
        }
        j->sleeping = true;
        pthread_cond_wait(&j->wake, &w->lock);
        j->sleeping = false;
    }
    struct record *records = j->head;
    j->head = j->tail = NULL;
    pthread_mutex_unlock(&w->lock);
    return records;
}

/* Of records as they lie in the log: padded they fit a frame, for no header is under 32 bytes. */
static uint64_t journal_cut_bytes(const struct journal *f) {
    return !f->open ? JOURNAL_FRAME_BYTES_MAX : journal_frame_bytes(f) / 5 * 4;
}

static void *log_journal_run(void *arg) {
    struct storage_lmdb *s = arg;
    struct record *records;
    bool go_on = true;
    priority_prompt();
    while ((records = journal_take(s))) {
        while (records && go_on) {
            struct log_batch batch;
            log_cut_batch(records, journal_cut_bytes(&s->journal.file), &batch);
            struct record *last = batch_last(&batch), *next = last->next;
            last->next = NULL;
            go_on = journal_do(s, &batch);
            records = next;
        }
        journal_free_records(records);
    }
    if (go_on) journal_empty(s);
    return NULL;
}

/* -- shard's thread ------------------------------------------------------------------------- */

void log_journal_queue(struct log_journal *j, struct record *first, struct record *last) {
    if (j->tail) j->tail->next = first;
    else j->head = first;
    j->tail = last;
    if (j->sleeping) pthread_cond_signal(&j->wake);
}

bool log_journal_settle(struct storage_lmdb *s) {
    struct log_writer *w = &s->log;
    struct log_journal *j = &s->journal;
    if (!j->on) return true;
    pthread_mutex_lock(&w->lock);
    j->settle = true;
    j->settled = false;
    pthread_cond_signal(&j->wake);
    while (!j->settled && !w->waits_for_room && !w->gave_up)
        pthread_cond_wait(&w->applied, &w->lock);
    bool settled = j->settled;
    pthread_mutex_unlock(&w->lock);
    return settled;
}

/* -- life ----------------------------------------------------------------------------------- */

/* A journal that is there and not wanted: what it holds goes into the environment first. */
static int journal_retire(struct storage_lmdb *s) {
    if (!s->journal.file.open) return 0;
    pthread_mutex_lock(&s->log.lock);
    bool applied = log_await_applied(&s->log, true);
    pthread_mutex_unlock(&s->log.lock);
    if (!applied) return ENOSPC;
    journal_remove(s);
    return 0;
}

int log_journal_start(struct storage_lmdb *s) {
    struct log_journal *j = &s->journal;
    if (s->journal_bytes == 0) return journal_retire(s);
    j->stop = j->settle = false;
    s->log.fed = true;
    int rc = storage_thread_start(&j->thread, "journal", s->shard, log_journal_run, s);
    if (rc != 0) {
        s->log.fed = false;
        return rc;
    }
    j->on = true;
    if (j->file.open || atomic_load(&j->made)) return 0;
    atomic_store(&j->stop_making, false);
    j->making = storage_thread_start(&j->maker, "journal-new", s->shard, journal_make_run, s) == 0;
    return 0;
}

void log_journal_stop(struct storage_lmdb *s) {
    struct log_writer *w = &s->log;
    struct log_journal *j = &s->journal;
    if (j->making) {
        atomic_store(&j->stop_making, true);
        pthread_join(j->maker, NULL);
        j->making = false;
    }
    if (!j->on) return;
    pthread_mutex_lock(&w->lock);
    j->stop = true;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_signal(&j->wake);
    pthread_join(j->thread, NULL);
    pthread_mutex_lock(&w->lock);
    w->fed = j->on = false;
    pthread_mutex_unlock(&w->lock);
    pthread_cond_signal(&w->wake);
}
