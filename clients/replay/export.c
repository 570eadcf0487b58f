/* export, republish: events out of the log, filtered, in other forms. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "actors/order/order_layout.h"
#include "clients/cli/progress.h"
#include "clients/cli/text.h"
#include "clients/cli/when.h"
#include "clients/replay/export_output.h"
#include "clients/replay/export_write.h"
#include "clients/replay/merge.h"
#include "clients/replay/place.h"
#include "clients/replay/republish.h"

enum { EXPORT_FILTERS_MAX = 64, EXPORT_PROGRESS_RECORDS = 64, EXPORT_FOLLOW_MS = 250 };

struct export {
    struct replay *replay;
    struct export_writer *writer;
    struct export_output output;
    FILE *out;                 /* its file, or what the subscriber is sent */
    json_t *place;             /* what FILE of --continue holds; NULL = nothing */
    bool placed[SHARDS_MAX];   /* `from` was read there */
    uint64_t from[SHARDS_MAX], upto[SHARDS_MAX]; /* to be written: behind from .. upto */
    uint64_t newest[SHARDS_MAX];                 /* written so far */
    uint32_t kinds[8];         /* bits; all zero = all but messages */
    bool any_kind, messages, republished, with_orders, failed;
    bool gone;                 /* records that were wanted are not there any more */
    struct republish *subscriber;                /* NULL = a file */
    uint64_t acknowledged[SHARDS_MAX];           /* by the subscriber, of `newest` */
    const char *stores[EXPORT_FILTERS_MAX], *customers[EXPORT_FILTERS_MAX];
    struct id128 orders[EXPORT_FILTERS_MAX];
    uint32_t stores_count, customers_count, orders_count;
    struct fold *folds[SHARDS_MAX];              /* where orders are needed */
    uint32_t shard;            /* being taken */
    uint64_t events, faults;
    bool follow, follows;      /* --follow; and what was there at its begin is written */
    int64_t until_ms;          /* of --follow; INT64_MAX = for ever */
};

/* -- filters ------------------------------------------------------------------------------ */

static bool filter_kind(struct export *x, const char *word) {
    for (uint32_t kind = 1; kind < 256; kind++) {
        if (strcmp(event_kind_name(kind), word) != 0) continue;
        x->kinds[kind / 32] |= 1u << kind % 32;
        x->any_kind = true;
        return true;
    }
    replay_usage(x->replay, "--kind: \"%.40s\" is no kind of event", word);
    return false;
}

static bool export_filters(struct export *x) {
    struct replay *r = x->replay;
    char *word;
    for (size_t c = 0; (word = args_next(&r->args, "kind", &c));) {
        char *rest = word, *one;
        while ((one = strsep(&rest, ","))) {
            if (!filter_kind(x, one)) return false;
        }
    }
    for (size_t c = 0; (word = args_next(&r->args, "store", &c));) {
        if (x->stores_count < EXPORT_FILTERS_MAX) x->stores[x->stores_count++] = word;
    }
    for (size_t c = 0; (word = args_next(&r->args, "customer", &c));) {
        if (x->customers_count < EXPORT_FILTERS_MAX) x->customers[x->customers_count++] = word;
    }
    for (size_t c = 0; (word = args_next(&r->args, "order", &c));) {
        if (x->orders_count == EXPORT_FILTERS_MAX) break;
        if (!replay_key(r, word, &x->orders[x->orders_count++])) return false;
    }
    x->messages = args_flag(&r->args, "messages");
    return true;
}

static bool text_is_one_of(struct bytes text, const char *const *words, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (bytes_equal(text, bytes_of_text(words[i]))) return true;
    }
    return count == 0;
}

static bool event_passes(const struct export *x, const struct event *e) {
    bool message = event_is_message(e);
    if (x->any_kind ? !(x->kinds[e->kind / 32] & 1u << e->kind % 32) : message && !x->messages) {
        return false;
    }
    for (uint32_t i = 0; i < x->orders_count; i++) {
        if (id128_equal(&x->orders[i], &e->subject)) return true;
    }
    return x->orders_count == 0;
}

static bool shape_is_right(const struct event *e) {
    if (e->kind >= 1 && e->kind <= 63) return order_event_is_well_formed(e);
    if (e->kind >= 64 && e->kind <= 79) return store_event_is_well_formed(e);
    return event_is_message(e) && message_event_is_well_formed(e);
}

/* -- one event ---------------------------------------------------------------------------- */

static bool export_event(struct export *x, const struct event *e, uint64_t index, int64_t time_ms,
                         const struct actor *order) {
    struct export_context c = {.shard = x->replay->source.shards[x->shard].number,
                               .index = index, .time_ms = time_ms,
                               .republished = x->republished};
    if (index <= x->from[x->shard] || !event_passes(x, e)) return true;
    if (order && order->kind == ACTOR_ORDER && order->bytes >= sizeof(struct order)) {
        const struct order *o = order_of(order);
        c.store = order_text(o, sizeof *o, o->store_bytes);
        c.customer = order_text(o, sizeof *o + o->store_bytes, o->customer_bytes);
    } else if (order && order->kind == ACTOR_STORE) {
        const struct store_switched *s = event_payload(e);
        c.store = bytes_of(s + 1, s->id_bytes);
    }
    if (x->stores_count && !text_is_one_of(c.store, x->stores, x->stores_count)) return true;
    if (x->customers_count && !text_is_one_of(c.customer, x->customers, x->customers_count)) {
        return true;
    }
    x->events++;
    x->failed = !export_write(x->writer, &c, e);
    int sent = x->subscriber && !x->failed ? republish_event(x->subscriber) : 0;
    if (sent > 0) memcpy(x->acknowledged, x->newest, sizeof x->newest);
    if (sent < 0) x->failed = true;
    return !x->failed;
}

static bool export_observe(void *arg, const struct fold_event *seen) {
    struct export *x = arg;
    return export_event(x, seen->event, seen->context.index, seen->context.time_ms, seen->actor);
}

static bool export_record(struct export *x, const struct log_item *item) {
    uint32_t offset = 0;
    const struct event *e;
    if (item->header->type != RECORD_EVENTS ||
        item->header->payload_bytes < sizeof(struct entry_header)) {
        return true;
    }
    const struct entry_header *entry = item->payload;
    uint32_t size = item->header->payload_bytes - (uint32_t)sizeof *entry;
    while ((e = event_next(entry + 1, size, &offset))) {
        if (!shape_is_right(e)) continue;
        if (!export_event(x, e, item->index, entry->time_ms, NULL)) return false;
    }
    return true;
}

/* -- where a run before this one came to -------------------------------------------------- */

/* It goes before --from, which says where the first run began. */
static bool position_read(struct export *x, const char *path) {
    char error[1200];
    uint64_t index[SHARDS_MAX];
    if (!place_is_writable(path)) { /* before all is written and the place cannot be */
        replay_error(x->replay, "%s: %s", path, strerror(errno));
        return false;
    }
    x->place = place_read(path, error, sizeof error);
    if (!x->place && *error) {
        replay_error(x->replay, "%s", error);
        return false;
    }
    memset(index, 0xff, sizeof index);
    place_take_shards(json_object_get(x->place, "shards"), &x->replay->source, index);
    for (uint32_t i = 0; i < x->replay->source.count; i++) {
        x->placed[i] = index[i] != UINT64_MAX;
        if (x->placed[i]) x->from[i] = index[i];
    }
    return true;
}

static json_t *position_json(const struct export *x) {
    json_t *shards = json_array();
    const uint64_t *upto = x->subscriber ? x->acknowledged : x->newest;
    for (uint32_t i = 0; i < x->replay->source.count; i++) {
        uint64_t index = upto[i] > x->from[i] ? upto[i] : x->from[i];
        json_array_append_new(shards, json_pack("{s:i, s:I}", "shard",
                                                (int)x->replay->source.shards[i].number, "index",
                                                (json_int_t)index));
    }
    return shards;
}

/* Behind what it tells of: a crash leaves the old one, and the output is cut there. */
static bool position_write(struct export *x, const char *path, bool writing) {
    char error[1200];
    json_t *json = json_pack("{s:o}", "shards", position_json(x));
    if (export_output_note(&x->output, json, writing) != 0) {
        replay_error(x->replay, "the events cannot be written: %s", strerror(errno));
        json_decref(json);
        return false;
    }
    if (place_write(path, json, error, sizeof error) == 0) return true;
    replay_error(x->replay, "%s", error);
    return false;
}

/* Before the first event: whoever is killed has not written behind an end that nobody knows. */
static bool position_go_on(struct export *x, const char *path) {
    char error[1200];
    if (export_output_go_on(&x->output, x->place, path, error, sizeof error) != 0) {
        replay_error(x->replay, "%s", error);
        return false;
    }
    if (export_output_is_begun(&x->output)) export_writer_omit_heading(x->writer);
    return !x->output.regular || position_write(x, path, true);
}

/* -- the run ------------------------------------------------------------------------------ */

/* What was to be exported is gone: retention was quicker. */
static void export_gone(struct export *x, uint32_t i, uint64_t from, uint64_t upto) {
    replay_error(x->replay, "shard %u: records %" PRIu64 " to %" PRIu64 " are there no more",
                 x->replay->source.shards[i].number, from, upto);
    x->gone = true;
}

/* Behind the last event: what is left goes out. */
static int export_finish(struct export *x, bool whole) {
    if (x->subscriber && !x->failed && !replay_interrupted()) {
        if (republish_end(x->subscriber, whole) == 0) {
            memcpy(x->acknowledged, x->newest, sizeof x->newest);
        } else {
            x->failed = true;
        }
    }
    if (x->subscriber && x->failed && !replay_interrupted()) {
        replay_error(x->replay, "%s", *republish_error(x->subscriber)
                                          ? republish_error(x->subscriber)
                                          : "no memory for an event");
    }
    if (x->subscriber || (fflush(x->out) == 0 && !x->failed)) {
        return x->failed ? REPLAY_FAILED : REPLAY_DONE;
    }
    int error = errno;
    if (x->out == stdout && output_reader_gone()) return REPLAY_READER_GONE;
    replay_error(x->replay, "the events cannot be written: %s", strerror(error));
    return REPLAY_FAILED;
}

static int export_stream(struct export *x, struct merge *m, uint64_t total) {
    struct log_item item;
    struct progress p;
    enum log_step step;
    uint64_t records = 0;
    bool shown = !x->replay->quiet && isatty(STDERR_FILENO) && !x->follows &&
                 !(x->out == stdout && isatty(STDOUT_FILENO));
    progress_start(&p, shown ? stderr : NULL,
                   x->subscriber ? "republishing" : "exporting", "records",
                   x->replay->color_errors);
    while ((step = merge_next(m, &x->shard, &item)) != LOG_END && !replay_interrupted()) {
        struct fold *f = x->folds[x->shard];
        if (step == LOG_FAULT) {
            x->faults++;
            replay_error(x->replay, "shard %u, record %" PRIu64 ": %s",
                         x->replay->source.shards[x->shard].number, item.index, item.what);
        }
        if (step == LOG_DROPPED) export_gone(x, x->shard, item.index, item.upto);
        if (f ? !fold_take(f, step, &item) : step == LOG_RECORD && !export_record(x, &item)) break;
        x->newest[x->shard] = item.upto;
        if (++records % EXPORT_PROGRESS_RECORDS == 0) {
            progress_update(&p, total ? (double)records / (double)total : -1, records, "");
        }
    }
    progress_end(&p, records < total ? (double)records / (double)total : 1, records, "");
    /* Only who was sent all is told that it was all. */
    bool whole = !x->gone && x->faults == 0 && !source_failure(&x->replay->source);
    int status = export_finish(x, whole);
    if (status == REPLAY_READER_GONE || (status == REPLAY_FAILED && !x->subscriber)) return status;
    if (replay_interrupted()) return REPLAY_STOPPED;
    if (status == REPLAY_DONE && x->gone) return REPLAY_NOT_THERE;
    return status == REPLAY_DONE && x->faults ? REPLAY_FOUND : status;
}

/* -- following ---------------------------------------------------------------------------- */

/* Where a shard's part of --follow ends for now: with what is committed, and came by --until. */
static uint64_t follow_end(const struct export *x, const struct source_shard *shard,
                           uint64_t last) {
    uint64_t end = source_committed(shard, last);
    if (x->until_ms == INT64_MAX) return end;
    uint64_t by_then = log_source_index_at(shard->log, x->until_ms);
    return by_then < end ? by_then : end;
}

/* How far the logs have come: what lies behind start[] is to be written next. False after the error
 * was told. */
static bool follow_look(struct export *x, const uint64_t start[], uint64_t *total) {
    struct source *source = &x->replay->source;
    char error[1200];
    uint64_t first, last;
    *total = 0;
    for (uint32_t i = 0; i < source->count; i++) {
        struct source_shard *shard = &source->shards[i];
        if (log_source_refresh(shard->log, error, sizeof error) != 0) {
            if (!replay_interrupted()) replay_error(x->replay, "%s", error);
            return false;
        }
        log_source_range(shard->log, &first, &last);
        x->upto[i] = follow_end(x, shard, last);
        if (x->upto[i] > start[i]) *total += x->upto[i] - start[i];
    }
    return true;
}

/* Until there is more. REPLAY_DONE, REPLAY_STOPPED at the end, REPLAY_READER_GONE, or REPLAY_FAILED
 * (told). */
static int follow_wait(struct export *x, const uint64_t start[], uint64_t *total) {
    for (;;) {
        bool last = text_now_ms() >= x->until_ms; /* looked at before the log is */
        if (!follow_look(x, start, total)) {
            return replay_interrupted() ? REPLAY_STOPPED : REPLAY_FAILED;
        }
        if (*total > 0) return REPLAY_DONE;
        if (last || replay_interrupted()) return REPLAY_STOPPED;
        if (x->out == stdout && output_reader_gone()) return REPLAY_READER_GONE;
        usleep(EXPORT_FOLLOW_MS * 1000);
    }
}

/* What is there, and with --follow what comes. */
static int export_rounds(struct export *x, uint64_t start[], uint64_t total,
                         const char *position) {
    struct replay *r = x->replay;
    int status = REPLAY_DONE, worst = REPLAY_DONE;
    for (;;) {
        struct merge *m = merge_open(r, start, x->upto);
        status = m ? export_stream(x, m, total) : REPLAY_FAILED;
        merge_close(m);
        if (!x->follow || status == REPLAY_FAILED || status == REPLAY_READER_GONE) return status;
        if (status != REPLAY_STOPPED && status > worst) worst = status;
        if (replay_interrupted()) return worst; /* the way to end it */
        if (replay_source_failed(r, &r->source)) return REPLAY_FAILED;
        if (position && !position_write(x, position, true)) return REPLAY_FAILED;
        x->follows = true;
        for (uint32_t i = 0; i < r->source.count; i++) {
            if (x->upto[i] > start[i]) start[i] = x->upto[i];
        }
        status = follow_wait(x, start, &total);
        if (status != REPLAY_DONE) return status == REPLAY_STOPPED ? worst : status;
    }
}

/* Where orders are needed, the log is folded from its beginning. */
static int export_begin(struct export *x, uint64_t start[SHARDS_MAX], uint64_t *total) {
    struct replay *r = x->replay;
    uint64_t first, last;
    *total = 0;
    for (uint32_t i = 0; i < r->source.count; i++) {
        const struct source_shard *shard = &r->source.shards[i];
        log_source_range(shard->log, &first, &last);
        if (x->upto[i] > last) x->upto[i] = last;
        if (x->follow) x->upto[i] = follow_end(x, shard, last);
        /* "--from now": from there on. A place behind what is committed by now stays. */
        if (x->follow && !x->placed[i] && x->from[i] > x->upto[i]) x->from[i] = x->upto[i];
        if (x->from[i] > 0 && x->from[i] + 1 < first) export_gone(x, i, x->from[i] + 1, first - 1);
        start[i] = x->from[i] >= first ? x->from[i] : first ? first - 1 : 0;
        if (x->with_orders) {
            struct fold_options options = replay_fold_options(r, shard);
            options.memory_bytes_max = r->memory_bytes_max / r->source.count;
            options.observe = export_observe;
            options.arg = x;
            x->folds[i] = fold_open(&options);
            if (!x->folds[i]) return REPLAY_FAILED;
            if (replay_log_is_cut(shard) && !r->quiet) {
                replay_error(r, "shard %u: the log begins with record %" PRIu64 ": whose orders "
                             "that were placed before it are is not known", shard->number, first);
            }
            start[i] = x->folds[i]->index ? x->folds[i]->index : first ? first - 1 : 0;
        }
        if (x->upto[i] > start[i]) *total += x->upto[i] - start[i];
    }
    return REPLAY_DONE;
}

static int export_run(struct export *x) {
    struct replay *r = x->replay;
    uint64_t start[SHARDS_MAX], total;
    const char *position = args_value(&r->args, "continue");
    if (position && !position_read(x, position)) return REPLAY_FAILED;
    x->with_orders = x->stores_count || x->customers_count ||
                     export_writer_needs_orders(x->writer);
    int status = export_begin(x, start, &total);
    if (status == REPLAY_DONE && replay_source_failed(r, &r->source)) status = REPLAY_FAILED;
    if (status == REPLAY_DONE && position && !position_go_on(x, position)) status = REPLAY_FAILED;
    bool begun = status == REPLAY_DONE;
    if (begun) status = export_rounds(x, start, total, position);
    if (status <= REPLAY_FOUND && replay_source_failed(r, &r->source)) status = REPLAY_FAILED;
    /* What a subscriber has acknowledged it has, however the run ended. */
    bool reached = status <= REPLAY_FOUND || status == REPLAY_NOT_THERE || (begun && x->subscriber);
    if (position && reached && !position_write(x, position, false)) status = REPLAY_FAILED;
    for (uint32_t i = 0; i < r->source.count; i++) fold_close(x->folds[i]);
    return status;
}

static bool export_follows(struct export *x, const struct moment *to) {
    struct replay *r = x->replay;
    const char *text = args_value(&r->args, "until");
    struct moment until;
    char error[256];
    int64_t span_ms;
    x->follow = args_flag(&r->args, "follow");
    x->until_ms = INT64_MAX;
    if (x->follow && to->kind != MOMENT_NONE) {
        replay_usage(r, "--follow goes on behind --to: --until says when it ends");
        return false;
    }
    if (!text) return true;
    if (!x->follow) {
        replay_usage(r, "--until is for --follow; --to says where an export ends");
        return false;
    }
    if (when_parse_span(text, &span_ms)) { /* of the future, other than elsewhere */
        x->until_ms = text_now_ms() + span_ms;
    } else if (when_is_bare(text)) {
        replay_usage(r, "--until: %s", when_span_fault(text, error));
        return false;
    } else if (moment_parse(text, text_now_ms(), &until, error, sizeof error) &&
               until.kind == MOMENT_TIME) {
        x->until_ms = until.time_ms;
    } else {
        replay_usage(r, "--until: \"%.60s\" is no time", text);
        return false;
    }
    return true;
}

static bool export_format(struct export *x, enum export_format *format) {
    static const char *const words[] = {"jsonl", "csv", "msgpack"};
    const char *word = args_value(&x->replay->args, "format");
    *format = EXPORT_JSONL;
    if (!word) return true;
    for (uint32_t i = 0; i < 3; i++) {
        *format = (enum export_format)i;
        if (strcmp(word, words[i]) == 0) return true;
    }
    replay_usage(x->replay, "--format: \"%.40s\" is not jsonl, csv or msgpack", word);
    return false;
}

/* To a subscriber instead of a file. */
static int republish_into(struct export *x, const char *endpoint) {
    struct replay *r = x->replay;
    char error[1200], count[TEXT_BYTES];
    if (args_value(&r->args, "output") || args_value(&r->args, "format")) {
        return replay_usage(r, "--into sends msgpack to a subscriber: without --output, --format");
    }
    x->subscriber = republish_open(endpoint, error, sizeof error);
    if (!x->subscriber) {
        replay_error(r, "%s", error);
        return REPLAY_FAILED;
    }
    x->out = republish_stream(x->subscriber);
    x->writer = export_writer_open(x->out, EXPORT_MSGPACK, args_value(&r->args, "fields"), error,
                                   sizeof error);
    int status = x->writer ? export_run(x) : replay_usage(r, "--fields: %s", error);
    uint64_t events = republish_acknowledged(x->subscriber);
    if (x->writer && r->json) {
        replay_print_json(json_pack("{s:s, s:s, s:I, s:I, s:b, s:o}", "into", endpoint, "stream",
                                    republish_stream_id(x->subscriber), "events",
                                    (json_int_t)events, "messages",
                                    (json_int_t)republish_messages(x->subscriber), "whole",
                                    status == REPLAY_DONE, "shards", position_json(x)), status);
    } else if (x->writer && !r->quiet) {
        fprintf(stderr, "%s event%s acknowledged by %s\n", text_count(count, events),
                text_plural(events), endpoint);
    }
    export_writer_close(x->writer);
    republish_close(x->subscriber);
    return status;
}

/* A reader that has seen enough, such as head, need not be told. */
static int export_report(struct export *x, const char *path, int status) {
    const struct replay *r = x->replay;
    char count[TEXT_BYTES];
    if (status == REPLAY_FAILED || status == REPLAY_READER_GONE) return status;
    if (r->json && path && strcmp(path, "-") != 0) {
        return replay_print_json(json_pack("{s:s, s:I, s:b, s:o}", "output", path, "events",
                                           (json_int_t)x->events, "whole", status == REPLAY_DONE,
                                           "shards", position_json(x)), status);
    }
    if (!r->quiet) {
        fprintf(stderr, "%s event%s\n", text_count(count, x->events), text_plural(x->events));
    }
    return status;
}

static int export_open(struct export *x, enum export_format format) {
    struct replay *r = x->replay;
    const char *path = args_value(&r->args, "output");
    const char *into = x->republished ? args_value(&r->args, "into") : NULL;
    char error[1200];
    if (into) return republish_into(x, into);
    if (export_output_open(&x->output, path, args_value(&r->args, "continue") != NULL, error,
                           sizeof error) != 0) {
        replay_error(r, "%s", error);
        return REPLAY_FAILED;
    }
    x->out = x->output.file;
    if (x->out == stdout && format != EXPORT_JSONL) r->json = false; /* it is no place for it */
    x->writer = export_writer_open(x->out, format, args_value(&r->args, "fields"), error,
                                   sizeof error);
    if (!x->writer) return replay_usage(r, "--fields: %s", error);
    int status = export_run(x);
    export_writer_close(x->writer);
    if (export_output_close(&x->output) != 0 && status == REPLAY_DONE) {
        replay_error(r, "%s: %s", path, strerror(errno));
        status = REPLAY_FAILED;
    }
    return export_report(x, path, status);
}

static int export_main(struct replay *r, bool republished) {
    struct export *x = calloc(1, sizeof *x);
    struct moment from, to;
    enum export_format format;
    if (!x) return REPLAY_FAILED;
    x->replay = r;
    x->republished = republished;
    int status = REPLAY_USAGE;
    if (replay_moment(r, "from", &from) && replay_moment(r, "to", &to) && export_filters(x) &&
        export_format(x, &format) && export_follows(x, &to)) {
        status = replay_open_source(r);
        for (uint32_t i = 0; status == REPLAY_DONE && i < r->source.count; i++) {
            x->from[i] = moment_index(&from, &r->source.shards[i], 0);
            /* An index is meant with its record, a time with what came behind it. */
            if (from.kind == MOMENT_INDEX && x->from[i] > 0) x->from[i]--;
            x->upto[i] = moment_index(&to, &r->source.shards[i], UINT64_MAX);
        }
        if (status == REPLAY_DONE) status = export_open(x, format);
    }
    json_decref(x->place);
    free(x);
    return status;
}

int replay_export(struct replay *r) { return export_main(r, false); }
int replay_republish(struct replay *r) { return export_main(r, true); }
