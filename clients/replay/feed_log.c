#include "clients/replay/feed_log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/text.h"
#include "engine/wire/msgpack_writer.h"
#include "persistence/log_source_ops.h"

enum {
    FEED_LOG_FEW_RECORDS = 4,      /* a range so short is asked for without filling a page */
    FEED_LOG_WAIT_MS = 1000        /* at the node, for an entry that is committed but not there */
};

struct feed_log {
    struct log_source base;
    struct feed_link *link;
    uint32_t shard, page_bytes;
    uint64_t first, last;
    struct log_source_segment segment; /* all of it, as one */
    pthread_mutex_t lock;          /* guards `failure` */
    bool failed;
    char failure[512];
};

struct feed_cursor {
    struct log_cursor base;
    struct feed_log *log;
    struct feed_call *call;
    uint64_t next, last;
    bool checked, ended;
    bool asked;                    /* a page is on its way, from asked_from on */
    uint64_t asked_from;
    uint64_t *page;                /* records; kept while seeks stay within */
    size_t capacity, bytes, at;
    uint64_t page_next;            /* index behind the page */
    uint64_t empty_ns;             /* since when nothing comes; 0 = something came */
};

static struct feed_log *log_of(struct log_source *source) {
    return (struct feed_log *)(void *)source;
}

static const struct feed_log *log_of_const(const struct log_source *source) {
    return (const struct feed_log *)(const void *)source;
}

static void log_fail(struct feed_log *l, const char *sentence) {
    pthread_mutex_lock(&l->lock);
    if (!l->failed) snprintf(l->failure, sizeof l->failure, "%s", sentence);
    l->failed = true;
    pthread_mutex_unlock(&l->lock);
}

static void log_refused(struct feed_log *l, const struct feed_reply *p) {
    char sentence[400], clean[256];
    text_printable(clean, sizeof clean, p->sentence.data, p->sentence.size);
    snprintf(sentence, sizeof sentence, "%s: shard %u: %s", feed_link_node(l->link), l->shard,
             clean);
    log_fail(l, sentence);
}

static void question_begin(struct msgpack_writer *w, uint8_t room[FEED_CALL_BYTES_MAX],
                             uint32_t fields, enum feed_kind kind, uint32_t shard) {
    msgpack_writer_init(w, room, FEED_CALL_BYTES_MAX);
    msgpack_write_array(w, fields);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, kind);
    msgpack_write_uint(w, shard);
}

/* -- the source ------------------------------------------------------------------------------- */

static void source_close(struct log_source *source) {
    struct feed_log *l = log_of(source);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* The beginning stays what it was: what retention takes is met as dropped. */
static int source_refresh(struct log_source *source, char *error, size_t error_bytes) {
    struct feed_log *l = log_of(source);
    struct feed_link_hello hello;
    if (feed_link_look(l->link, &hello, error, error_bytes) != 0) return -1;
    for (uint32_t i = 0; i < hello.count; i++) {
        if (hello.shards[i].shard != l->shard) continue;
        if (hello.shards[i].commit > l->last) l->last = hello.shards[i].commit;
        if (l->first == 0) l->first = hello.shards[i].first;
        l->segment.first = l->first;
        l->segment.last = l->last;
        return 0;
    }
    snprintf(error, error_bytes, "%s has shard %u no more", feed_link_node(l->link), l->shard);
    return -1;
}

static const char *source_directory(const struct log_source *source) {
    return feed_link_node(log_of_const(source)->link);
}

static uint32_t source_segments(const struct log_source *source,
                                const struct log_source_segment **list) {
    const struct feed_log *l = log_of_const(source);
    *list = &l->segment;
    return l->last >= l->first && l->first != 0 ? 1 : 0;
}

static void source_range(const struct log_source *source, uint64_t *first, uint64_t *last) {
    const struct feed_log *l = log_of_const(source);
    *first = l->first;
    *last = l->last;
}

static uint64_t source_bytes(const struct log_source *source) {
    (void)source;
    return 0;
}

static uint64_t source_index_at(struct log_source *source, int64_t time_ms) {
    struct feed_log *l = log_of(source);
    struct feed_call *call = feed_call_open(l->link);
    struct feed_reply p;
    struct msgpack_writer w;
    uint8_t room[FEED_CALL_BYTES_MAX];
    char error[256] = "no memory";
    uint64_t index = 0;
    if (time_ms == INT64_MAX) time_ms--;
    if (time_ms < 0) time_ms = 0;
    question_begin(&w, room, 4, FEED_LOCATE, l->shard);
    msgpack_write_int(&w, time_ms + 1);
    nng_msg *message = call ? feed_call_ask(call, room, msgpack_writer_size(&w), 0, FEED_LOCATE,
                                            &p, error, sizeof error)
                            : NULL;
    if (!message) log_fail(l, error);
    else if (p.code != RESULT_OK) log_refused(l, &p);
    else if (p.next > 0) index = p.next - 1;
    if (message) nng_msg_free(message);
    feed_call_close(call);
    return index < l->first ? 0 : index > l->last ? l->last : index;
}

static const char *source_failure(const struct log_source *source) {
    struct feed_log *l = log_of((struct log_source *)(uintptr_t)source);
    pthread_mutex_lock(&l->lock);
    bool failed = l->failed;
    pthread_mutex_unlock(&l->lock);
    return failed ? l->failure : NULL; /* written once, before `failed` is set */
}

/* -- cursors ---------------------------------------------------------------------------------- */

static void cursor_pull(struct feed_cursor *c, uint64_t from) {
    struct feed_log *l = c->log;
    struct msgpack_writer w;
    uint8_t room[FEED_CALL_BYTES_MAX];
    bool few = c->last - from < FEED_LOG_FEW_RECORDS;
    question_begin(&w, room, 6, FEED_PULL, l->shard);
    msgpack_write_uint(&w, from);
    msgpack_write_uint(&w, FEED_LOG_WAIT_MS);
    msgpack_write_uint(&w, few ? 1 : l->page_bytes); /* one entry always fits */
    feed_call_send(c->call, room, msgpack_writer_size(&w), FEED_LOG_WAIT_MS);
    c->asked = true;
    c->asked_from = from;
}

static struct log_cursor *cursor_open(struct log_source *source, uint64_t first, uint64_t last,
                                      bool checked) {
    struct feed_log *l = log_of(source);
    struct feed_cursor *c = calloc(1, sizeof *c);
    if (c) c->call = feed_call_open(l->link);
    if (!c || !c->call) {
        free(c);
        return NULL;
    }
    c->base.ops = source->ops;
    c->log = l;
    c->checked = checked;
    log_cursor_seek(&c->base, first, last);
    return &c->base;
}

static void cursor_close(struct log_cursor *cursor) {
    struct feed_cursor *c = (struct feed_cursor *)(void *)cursor;
    feed_call_close(c->call);
    free(c->page);
    free(c);
}

static void cursor_seek(struct log_cursor *cursor, uint64_t first, uint64_t last) {
    struct feed_cursor *c = (struct feed_cursor *)(void *)cursor;
    uint64_t begin, end;
    source_range(&c->log->base, &begin, &end);
    c->next = first < begin ? begin : first;
    c->last = last < end ? last : end;
    c->ended = begin == 0 || c->next > c->last;
    c->bytes = c->at = 0;
    c->empty_ns = 0;
    c->page_next = c->next;
}

static enum log_step cursor_fault(struct feed_cursor *c, struct log_item *item, uint8_t kind,
                                  uint64_t upto, const char *what) {
    *item = (struct log_item){.index = c->next, .upto = upto, .segment = "", .fault = kind};
    snprintf(item->what, sizeof item->what, "%s", what);
    c->next = upto + 1;
    return LOG_FAULT;
}

static enum log_step cursor_give_up(struct feed_cursor *c, const char *sentence) {
    log_fail(c->log, sentence);
    c->ended = true;
    return LOG_END;
}

static enum log_step cursor_refused(struct feed_cursor *c, struct log_item *item,
                                    const struct feed_reply *p) {
    char what[128];
    if (p->code == RESULT_IMPORT_REQUIRED && p->detail > c->next) {
        uint64_t upto = p->detail - 1 < c->last ? p->detail - 1 : c->last;
        *item = (struct log_item){.index = c->next, .upto = upto, .segment = ""};
        snprintf(item->what, sizeof item->what, "the node has these records no more "
                 "(import_required)");
        c->next = c->page_next = upto + 1;
        return LOG_DROPPED;
    }
    if (p->code == RESULT_STORAGE_FAILED) {
        text_printable(what, sizeof what, p->sentence.data, p->sentence.size);
        c->page_next = c->next + 1;
        return cursor_fault(c, item, LOG_FAULT_DAMAGED, c->next, what);
    }
    log_refused(c->log, p);
    c->ended = true;
    return LOG_END;
}

/* The payload at an 8-byte boundary. */
static bool cursor_keep(struct feed_cursor *c, const struct feed_reply *p) {
    if (p->records.size > c->capacity) {
        free(c->page);
        c->capacity = ((size_t)p->records.size + 65535) & ~(size_t)65535;
        c->page = malloc(c->capacity);
        if (!c->page) {
            c->capacity = 0;
            return false;
        }
    }
    if (p->records.size != 0) memcpy(c->page, p->records.data, p->records.size);
    c->bytes = p->records.size;
    c->at = 0;
    c->page_next = p->next;
    return true;
}

/* The next page into its place. LOG_RECORD = it is there; else what cursor_next() is to return. */
static enum log_step cursor_fetch(struct feed_cursor *c, struct log_item *item) {
    struct feed_reply p;
    char error[256];
    enum log_step step = LOG_RECORD;
    if (!c->asked || c->asked_from != c->next) cursor_pull(c, c->next);
    c->asked = false;
    nng_msg *message = feed_call_take(c->call, FEED_PULL, &p, error, sizeof error);
    if (!message) return cursor_give_up(c, error);
    if (p.code != RESULT_OK) {
        step = cursor_refused(c, item, &p);
    } else if (p.shard != c->log->shard || p.from != c->next || p.next < p.from) {
        step = cursor_give_up(c, "the feed answered another question");
    } else if (p.next == p.from) { /* a node that has just begun does not know yet */
        uint64_t now_ns = text_mono_ns();
        if (c->empty_ns == 0) c->empty_ns = now_ns;
        if (now_ns - c->empty_ns > (uint64_t)feed_link_settings.patience_ms * 1000000) {
            snprintf(error, sizeof error, "%s: shard %u: record %" PRIu64 ", which was committed, "
                     "does not come", feed_link_node(c->log->link), c->log->shard, c->next);
            step = cursor_give_up(c, error);
        }
    } else if (!cursor_keep(c, &p)) {
        step = cursor_give_up(c, "no memory for a page of the log");
    } else {
        c->empty_ns = 0;
        if (p.next <= c->last) cursor_pull(c, p.next);
    }
    nng_msg_free(message);
    return step;
}

static const char *shape_fault(const struct record_header *h, uint64_t index) {
    return h->index != index ? "holds another index" : NULL;
}

/* The record at `at`. One whose length cannot be believed hides those behind it in the page. */
static enum log_step cursor_record(struct feed_cursor *c, struct log_item *item) {
    const struct record_header *h = (const void *)((const uint8_t *)c->page + c->at);
    size_t left = c->bytes - c->at, bytes = sizeof *h;
    if (left >= sizeof *h) bytes += h->payload_bytes;
    if (left < sizeof *h || bytes > left) {
        c->at = c->bytes = 0;
        return cursor_fault(c, item, LOG_FAULT_DAMAGED, c->page_next - 1, "cut short");
    }
    if (h->index > c->next && h->index < c->page_next) {
        return cursor_fault(c, item, LOG_FAULT_MISSING, h->index - 1, "not in the feed's answer");
    }
    c->at += (bytes + 7) & ~(size_t)7;
    if (c->at > c->bytes) c->at = c->bytes;
    const char *fault = c->checked ? record_fault(h, bytes, c->next) : shape_fault(h, c->next);
    if (fault) return cursor_fault(c, item, LOG_FAULT_DAMAGED, c->next, fault);
    *item = (struct log_item){.index = c->next, .upto = c->next, .segment = "", .header = h,
                              .payload = h + 1};
    c->next++;
    return LOG_RECORD;
}

static enum log_step cursor_next(struct log_cursor *cursor, struct log_item *item) {
    struct feed_cursor *c = (struct feed_cursor *)(void *)cursor;
    item->header = NULL;
    item->offset = 0;
    for (;;) {
        if (c->ended || c->next > c->last) return LOG_END;
        if (c->at < c->bytes) return cursor_record(c, item);
        if (c->next < c->page_next) {
            return cursor_fault(c, item, LOG_FAULT_MISSING,
                                c->page_next - 1 < c->last ? c->page_next - 1 : c->last,
                                "not in the feed's answer");
        }
        enum log_step step = cursor_fetch(c, item);
        if (step != LOG_RECORD) return step;
    }
}

/* -- life ------------------------------------------------------------------------------------- */

static const struct log_source_ops feed_log_ops = {
    .close = source_close, .refresh = source_refresh, .directory = source_directory,
    .segments = source_segments, .range = source_range, .bytes = source_bytes,
    .index_at = source_index_at, .failure = source_failure, .cursor_open = cursor_open,
    .cursor_close = cursor_close, .cursor_next = cursor_next, .cursor_seek = cursor_seek};

struct log_source *feed_log_open(struct feed_link *link, const struct feed_hello_shard *told,
                                 uint32_t page_bytes) {
    struct feed_log *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->base.ops = &feed_log_ops;
    l->link = link;
    l->shard = told->shard;
    l->page_bytes = page_bytes < FEED_BATCH_BYTES_MAX ? page_bytes : FEED_BATCH_BYTES_MAX;
    l->first = told->first;
    l->last = told->commit;
    l->segment = (struct log_source_segment){.first = told->first, .last = told->commit,
                                             .is_newest = true};
    pthread_mutex_init(&l->lock, NULL);
    return &l->base;
}
