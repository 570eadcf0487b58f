/* Counting for `jumun-replay stats`. */
#include "clients/replay/stats.h"

#include <stdlib.h>

#include "actors/order/order_layout.h"
#include "clients/cli/text.h"
#include "clients/cli/when.h"
#include "engine/wire/routing.h"

/* -- spans -------------------------------------------------------------------------------- */

static uint32_t span_bucket(uint64_t ms) {
    enum { STEPS = 1 << SPAN_STEP_BITS };
    if (ms < STEPS) return (uint32_t)ms;
    uint32_t power = 63u - (uint32_t)__builtin_clzll(ms);
    uint32_t bucket = ((power - SPAN_STEP_BITS + 1) << SPAN_STEP_BITS) +
                      (uint32_t)(ms >> (power - SPAN_STEP_BITS) & (STEPS - 1));
    return bucket < SPAN_BUCKETS ? bucket : SPAN_BUCKETS - 1;
}

/* The largest span of a bucket. */
static int64_t span_edge(uint32_t bucket) {
    enum { STEPS = 1 << SPAN_STEP_BITS };
    if (bucket < STEPS) return bucket;
    uint32_t power = (bucket >> SPAN_STEP_BITS) + SPAN_STEP_BITS - 1, step = bucket & (STEPS - 1);
    return (int64_t)(((uint64_t)(STEPS + step + 1) << (power - SPAN_STEP_BITS)) - 1);
}

static void spans_add(struct spans *s, int64_t ms) {
    uint64_t span = ms < 0 ? 0 : (uint64_t)ms;
    s->count++;
    if (span > s->max_ms) s->max_ms = span;
    s->buckets[span_bucket(span)]++;
}

static void spans_merge(struct spans *s, const struct spans *other) {
    s->count += other->count;
    if (other->max_ms > s->max_ms) s->max_ms = other->max_ms;
    for (uint32_t i = 0; i < SPAN_BUCKETS; i++) s->buckets[i] += other->buckets[i];
}

int64_t spans_percentile(const struct spans *s, uint32_t of_1000) {
    uint64_t wanted = (s->count * of_1000 + 999) / 1000, seen = 0;
    if (s->count == 0) return 0;
    for (uint32_t i = 0; i < SPAN_BUCKETS; i++) {
        seen += s->buckets[i];
        if (seen >= wanted && seen > 0) {
            return span_edge(i) < (int64_t)s->max_ms ? span_edge(i) : (int64_t)s->max_ms;
        }
    }
    return (int64_t)s->max_ms;
}

static void spans_count(struct spans **s, int64_t ms) {
    if (!*s) *s = calloc(1, sizeof **s);
    if (*s) spans_add(*s, ms);
}

static void spans_take(struct spans **s, const struct spans *other) {
    if (!other) return;
    if (!*s) *s = calloc(1, sizeof **s);
    if (*s) spans_merge(*s, other);
}

/* -- stores ------------------------------------------------------------------------------- */

static bool stats_index_grow(struct stats *s) {
    uint32_t size = s->index_mask ? (s->index_mask + 1) * 2 : 1024;
    uint32_t *index = calloc(size, sizeof *index);
    if (!index) return false;
    for (uint32_t i = 0; i < s->stores_count; i++) {
        const char *id = s->stores[i].id;
        uint32_t at = (uint32_t)routing_hash(id, strlen(id)) & (size - 1);
        while (index[at]) at = (at + 1) & (size - 1);
        index[at] = i + 1;
    }
    free(s->index);
    s->index = index;
    s->index_mask = size - 1;
    return true;
}

static struct stats_store *stats_store(struct stats *s, struct bytes id) {
    if (id.size == 0 || id.size > ID_TEXT_BYTES_MAX) return NULL;
    if (s->stores_count * 2 >= s->index_mask && !stats_index_grow(s)) return NULL;
    uint32_t at = (uint32_t)routing_hash(id.data, id.size) & s->index_mask;
    for (; s->index[at]; at = (at + 1) & s->index_mask) {
        struct stats_store *store = &s->stores[s->index[at] - 1];
        if (bytes_equal(bytes_of_text(store->id), id)) return store;
    }
    if (s->stores_count == STATS_STORES_MAX) return NULL;
    if (s->stores_count == s->stores_capacity) {
        uint32_t capacity = s->stores_capacity ? s->stores_capacity * 2 : 64;
        struct stats_store *stores = realloc(s->stores, capacity * sizeof *stores);
        if (!stores) return NULL;
        s->stores = stores;
        s->stores_capacity = capacity;
    }
    struct stats_store *store = &s->stores[s->stores_count];
    *store = (struct stats_store){.orders = 0};
    memcpy(store->id, id.data, id.size);
    s->index[at] = ++s->stores_count;
    return store;
}

/* -- counting ----------------------------------------------------------------------------- */

static bool stats_open(struct stats *s, int64_t begin_ms, int64_t end_ms, int64_t bucket_ms) {
    *s = (struct stats){.begin_ms = begin_ms, .end_ms = end_ms, .bucket_ms = bucket_ms};
    s->buckets_count = (uint32_t)((end_ms - begin_ms) / bucket_ms + 1);
    s->buckets = calloc(s->buckets_count, sizeof *s->buckets);
    return s->buckets != NULL;
}

static void stats_close(struct stats *s) {
    for (uint32_t i = 0; i < s->stores_count; i++) {
        for (uint32_t j = 0; j < STATS_STATES; j++) free(s->stores[i].in_state[j]);
    }
    for (uint32_t j = 0; j < STATS_STATES; j++) free(s->in_state[j]);
    free(s->stores);
    free(s->index);
    free(s->buckets);
}

static struct stats_money *stats_money(struct stats *s, const char currency[3]) {
    for (uint32_t i = 0; i < s->money_count; i++) {
        if (memcmp(s->money[i].currency, currency, 3) == 0) return &s->money[i];
    }
    if (s->money_count == STATS_CURRENCIES_MAX) return NULL;
    struct stats_money *m = &s->money[s->money_count++];
    memcpy(m->currency, currency, 3);
    return m;
}

static void stats_count_money(struct stats *s, const struct event *e, const struct order *o) {
    struct stats_money *m = order_was_placed(o) ? stats_money(s, o->currency) : NULL;
    if (!m) return;
    if (e->kind == EVENT_ORDER_PLACED) {
        m->orders++;
        m->placed += o->total;
    } else if (e->kind == EVENT_PAYMENT_RECORDED) {
        const struct order_payment_recorded *p = event_payload(e);
        if (p->state == PAYMENT_CAPTURED) m->captured += p->amount;
    } else if (e->kind == EVENT_ORDER_REFUNDED) {
        m->refunded += ((const struct order_refunded *)event_payload(e))->amount;
    }
}

static void stats_count_order(struct stats *s, const struct fold_event *seen) {
    const struct event *e = seen->event;
    bool moved = e->state_before != e->state_after && e->state_after < STATS_STATES &&
                 e->state_before < STATS_STATES;
    struct stats_store *store = NULL;
    if (seen->actor && seen->actor->bytes >= sizeof(struct order)) {
        store = stats_store(s, order_store(seen->actor));
        if (!store) s->stores_left_out++;
        stats_count_money(s, e, order_of(seen->actor));
    }
    if (store && e->kind == EVENT_ORDER_PLACED) store->orders++;
    if (!moved) return;
    s->entered[e->state_after]++;
    s->moved[e->state_before][e->state_after]++;
    if (store && e->state_after >= ORDER_REJECTED) store->ended_badly++;
    if (e->state_before == 0 || seen->entered_ms == 0) return;
    int64_t stayed_ms = seen->context.time_ms - seen->entered_ms;
    spans_count(&s->in_state[e->state_before], stayed_ms);
    if (store) spans_count(&store->in_state[e->state_before], stayed_ms);
}

/* For fold_options.observe; `arg` is the struct stats. */
static bool stats_observe(void *arg, const struct fold_event *seen) {
    struct stats *s = arg;
    const struct event *e = seen->event;
    bool order = e->kind >= 1 && e->kind < STATS_KINDS;
    if (seen->context.time_ms < s->begin_ms || seen->context.time_ms > s->end_ms) return true;
    if (event_is_message(e)) {
        s->messages += e->kind == EVENT_MESSAGE_SENT;
        return true;
    }
    struct stats_bucket *b =
        &s->buckets[(seen->context.time_ms - s->begin_ms) / s->bucket_ms];
    s->events++;
    b->events++;
    if (e->cause_kind == COMMAND_TIMER_DUE) s->deadlines++;
    if (!order) return true;
    s->by_kind[e->kind]++;
    if (e->kind == EVENT_ORDER_PLACED) b->placed++;
    if (e->state_after >= ORDER_COMPLETED && e->state_before < ORDER_COMPLETED) b->ended++;
    stats_count_order(s, seen);
    return true;
}

static void stats_merge(struct stats *s, const struct stats *o) {
    for (uint32_t i = 0; i < s->buckets_count && i < o->buckets_count; i++) {
        s->buckets[i].events += o->buckets[i].events;
        s->buckets[i].placed += o->buckets[i].placed;
        s->buckets[i].ended += o->buckets[i].ended;
    }
    s->events += o->events;
    s->messages += o->messages;
    s->deadlines += o->deadlines;
    s->stores_left_out += o->stores_left_out;
    for (uint32_t i = 0; i < STATS_KINDS; i++) s->by_kind[i] += o->by_kind[i];
    for (uint32_t i = 0; i < STATS_STATES; i++) {
        s->entered[i] += o->entered[i];
        spans_take(&s->in_state[i], o->in_state[i]);
        for (uint32_t j = 0; j < STATS_STATES; j++) s->moved[i][j] += o->moved[i][j];
    }
    for (uint32_t i = 0; i < o->money_count; i++) {
        struct stats_money *m = stats_money(s, o->money[i].currency);
        if (!m) continue;
        m->orders += o->money[i].orders;
        m->placed += o->money[i].placed;
        m->captured += o->money[i].captured;
        m->refunded += o->money[i].refunded;
    }
    for (uint32_t i = 0; i < o->stores_count; i++) {
        struct stats_store *store = stats_store(s, bytes_of_text(o->stores[i].id));
        if (!store) continue;
        store->orders += o->stores[i].orders;
        store->ended_badly += o->stores[i].ended_badly;
        for (uint32_t j = 0; j < STATS_STATES; j++) {
            spans_take(&store->in_state[j], o->stores[i].in_state[j]);
        }
    }
}

/* -- the command -------------------------------------------------------------------------- */

struct stats_run { struct stats shards[SHARDS_MAX]; uint64_t upto[SHARDS_MAX]; };

static int stats_shard(struct replay_work *work, uint32_t i) {
    struct stats_run *run = work->arg;
    const struct source_shard *shard = &work->replay->source.shards[i];
    struct fold_options options = replay_fold_options(work->replay, shard);
    options.observe = stats_observe;
    options.arg = &run->shards[i];
    /* Where the log was cut, orders that began before it are counted by their events alone. */
    struct fold *f = fold_open(&options);
    int status = f ? replay_fold(work, shard, f, run->upto[i]) : REPLAY_FAILED;
    if (f && f->faults) {
        replay_error(work->replay, "shard %u: %llu faults in the log: see jumun-replay verify",
                     shard->number, (unsigned long long)f->faults);
        status = status == REPLAY_DONE ? REPLAY_FOUND : status;
    }
    fold_close(f);
    return status;
}

/* The time of the last entry up to `upto`. */
static int64_t shard_end_ms(const struct source_shard *shard, uint64_t first, uint64_t upto) {
    struct log_item item;
    enum log_step step;
    int64_t end_ms = 0;
    uint64_t from = upto > 64 ? upto - 64 : 1;
    struct log_cursor *c = log_cursor_open(shard->log, from > first ? from : first, upto, false);
    while (c && (step = log_cursor_next(c, &item)) != LOG_END) {
        if (step != LOG_RECORD || item.header->type != RECORD_EVENTS) continue;
        end_ms = ((const struct entry_header *)item.payload)->time_ms;
    }
    log_cursor_close(c);
    return end_ms;
}

/* The time of the first entry. Of a directory the segments tell. */
static int64_t shard_begin_ms(const struct source_shard *shard, uint64_t first, uint64_t upto) {
    const struct log_source_segment *list;
    struct log_item item;
    enum log_step step;
    int64_t begin_ms = 0;
    uint32_t count = log_source_segments(shard->log, &list);
    for (uint32_t g = 0; g < count; g++) {
        if (list[g].first_ms && (!begin_ms || list[g].first_ms < begin_ms)) {
            begin_ms = list[g].first_ms;
        }
    }
    if (begin_ms || !shard->link) return begin_ms;
    struct log_cursor *c = log_cursor_open(shard->log, first, upto, false);
    while (c && !begin_ms && (step = log_cursor_next(c, &item)) != LOG_END) {
        if (step != LOG_RECORD || item.header->type != RECORD_EVENTS) continue;
        begin_ms = ((const struct entry_header *)item.payload)->time_ms;
    }
    log_cursor_close(c);
    return begin_ms;
}

/* The stretch of time that is looked at: as far as it is known what happened in it, from the log's
 * first entry or --from to its last one or --to. Only what came behind --to tells that nothing came
 * before it. */
static bool stats_span(struct replay *r, struct stats_run *run, const struct moment *from,
                       const struct moment *to, int64_t *begin_ms, int64_t *end_ms,
                       uint64_t *total) {
    bool goes_on = false;
    *begin_ms = INT64_MAX;
    *end_ms = 0;
    *total = 0;
    for (uint32_t i = 0; i < r->source.count; i++) {
        const struct source_shard *shard = &r->source.shards[i];
        uint64_t first, last;
        log_source_range(shard->log, &first, &last);
        run->upto[i] = moment_index(to, shard, last);
        if (run->upto[i] > last) run->upto[i] = last;
        goes_on |= run->upto[i] < last;
        int64_t shard_begin = shard_begin_ms(shard, first, run->upto[i]);
        if (shard_begin && shard_begin < *begin_ms) *begin_ms = shard_begin;
        int64_t shard_end = shard_end_ms(shard, first, run->upto[i]);
        if (shard_end > *end_ms) *end_ms = shard_end;
        *total += run->upto[i];
    }
    bool any = *begin_ms <= *end_ms;
    if (to->kind == MOMENT_TIME && goes_on && to->time_ms > *end_ms) *end_ms = to->time_ms;
    if (any && from->kind == MOMENT_TIME && from->time_ms > *begin_ms) *begin_ms = from->time_ms;
    if (any && *begin_ms > *end_ms) *end_ms = *begin_ms; /* nothing came behind --from */
    return any;
}

static int stats_report(struct replay *r, struct stats *all, int64_t shown) {
    const char *plot = args_value(&r->args, "plot");
    int status = plot ? stats_plot(r, all, plot) : REPLAY_DONE;
    if (!r->json) {
        stats_print(r, all, (uint32_t)shown);
        return status;
    }
    return replay_print_json(stats_json(all, (uint32_t)shown), status);
}

/* Wide enough to be read, narrow enough to show a shape. */
static int64_t stats_bucket_ms(int64_t span_ms) {
    return span_ms <= 5000 ? 50 : span_ms <= 600000 ? 1000 : 60000;
}

int replay_stats(struct replay *r) {
    struct stats_run *run = calloc(1, sizeof *run);
    struct moment from, to;
    int64_t shown = 10, begin_ms, end_ms, bucket_ms = 0;
    uint64_t total;
    const char *text = args_value(&r->args, "bucket");
    if (!run || !replay_moment(r, "from", &from) || !replay_moment(r, "to", &to) ||
        !replay_int(r, "stores", &shown)) {
        free(run);
        return REPLAY_USAGE;
    }
    int status = REPLAY_DONE;
    char fault[WHEN_ERROR_BYTES];
    if (text && !when_parse_span(text, &bucket_ms)) {
        status = replay_usage(r, "--bucket: %s", when_span_fault(text, fault));
    } else if (text && bucket_ms < 1) {
        status = replay_usage(r, "--bucket: must be 1ms or more");
    } else if (from.kind == MOMENT_TIME && from.time_ms == INT64_MAX) {
        from.time_ms = text_now_ms();
    } else if (from.kind == MOMENT_INDEX) {
        status = replay_usage(r, "--from: stats begin at a time, not at a record");
    }
    const char *plot = args_value(&r->args, "plot");
    if (status == REPLAY_DONE && plot) status = stats_plot_check(r, plot);
    if (status == REPLAY_DONE) status = replay_open_source(r);
    if (status == REPLAY_DONE && !stats_span(r, run, &from, &to, &begin_ms, &end_ms, &total)) {
        status = REPLAY_FAILED;
        if (!replay_source_failed(r, &r->source)) {
            replay_error(r, "%s: the log has no entry yet", r->source.path);
            status = REPLAY_NOT_THERE;
        }
    }
    if (status != REPLAY_DONE) {
        free(run);
        return status;
    }
    if (bucket_ms == 0) bucket_ms = stats_bucket_ms(end_ms - begin_ms);
    while ((end_ms - begin_ms) / bucket_ms > 4000000) bucket_ms *= 10;
    for (uint32_t i = 0; i < r->source.count; i++) {
        if (!stats_open(&run->shards[i], begin_ms, end_ms, bucket_ms)) status = REPLAY_FAILED;
    }
    if (status == REPLAY_DONE) {
        status = replay_run(r, r->source.count, "counting", "records", total, stats_shard, run);
    }
    for (uint32_t i = 1; i < r->source.count; i++) {
        stats_merge(&run->shards[0], &run->shards[i]);
        stats_close(&run->shards[i]);
    }
    if (status <= REPLAY_FOUND) {
        int told = stats_report(r, &run->shards[0], shown);
        if (told > status) status = told;
    }
    stats_close(&run->shards[0]);
    free(run);
    return status;
}
