/* diff: which orders differ between two moments of one log, or between two logs at one record. */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "actors/order/order_layout.h"
#include "clients/cli/text.h"
#include "clients/replay/encode.h"

/* What is told of each side. */
struct side {
    bool there;
    uint8_t state;
    uint32_t version;
    int64_t total, captured, refunded, refund_owed;
    char currency[4];
};

struct diff {
    struct replay *replay;
    struct source other;       /* of `diff A B` */
    uint64_t from[SHARDS_MAX], upto[SHARDS_MAX];
    uint32_t parts[SHARDS_MAX]; /* passes over the log */
    pthread_mutex_t lock;      /* guards stdout and the count */
    uint64_t found, shown_max;
    uint64_t faults[SHARDS_MAX], other_faults[SHARDS_MAX]; /* by shard of the source; each once */
};

static struct side side_of(const struct actor *a) {
    struct side s = {.there = false};
    if (!a || a->version == 0) return s;
    s = (struct side){.there = true, .state = a->state, .version = a->version};
    if (a->bytes < sizeof(struct order)) return s; /* only its head is known */
    const struct order *o = order_of(a);
    s.total = o->total;
    s.captured = o->captured;
    s.refunded = o->refunded;
    s.refund_owed = o->refund_owed;
    memcpy(s.currency, o->currency, 3);
    return s;
}

static json_t *side_json(const struct side *s) {
    if (!s->there) return json_null();
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "state", order_state_name(s->state),
                     "version", (json_int_t)s->version, "total", (json_int_t)s->total, "captured",
                     (json_int_t)s->captured, "refunded", (json_int_t)s->refunded, "refund_owed",
                     (json_int_t)s->refund_owed);
}

static void put_money(const char *name, int64_t a, int64_t b, const char *currency) {
    char x[TEXT_BYTES], y[TEXT_BYTES];
    if (a == b) return;
    printf("  %s %s -> %s", name, text_money(x, a, currency), text_money(y, b, currency));
}

static void diff_tell(struct diff *d, uint32_t shard, const struct id128 *key,
                      const struct side *a, const struct side *b) {
    char text[27];
    pthread_mutex_lock(&d->lock);
    d->found++;
    if (d->found > d->shown_max) {
        pthread_mutex_unlock(&d->lock);
        return;
    }
    replay_key_text(key, text);
    if (d->replay->json) {
        json_t *json = json_pack("{s:s, s:i, s:o, s:o}", "key", text, "shard", (int)shard, "a",
                                 side_json(a), "b", side_json(b));
        json_dumpf(json, stdout, JSON_COMPACT);
        fputc('\n', stdout);
        json_decref(json);
    } else {
        const char *currency = b->currency[0] ? b->currency : a->currency;
        printf("%s  %s -> %s  v%u -> v%u", text, a->there ? order_state_name(a->state) : "-",
               b->there ? order_state_name(b->state) : "-", a->version, b->version);
        put_money("total", a->total, b->total, currency);
        put_money("captured", a->captured, b->captured, currency);
        put_money("refunded", a->refunded, b->refunded, currency);
        put_money("owed", a->refund_owed, b->refund_owed, currency);
        fputc('\n', stdout);
    }
    pthread_mutex_unlock(&d->lock);
}

/* Two tables of all orders stand side by side: where a log is so long that they alone would fill
 * the memory, it is folded in several passes, with a part of the orders in each. */
static uint32_t diff_parts(const struct replay *r, const struct source_shard *shard) {
    enum { ORDER_LOG_BYTES = 512, ORDER_TABLE_BYTES = 12, PARTS_MAX = 64 };
    uint64_t entries = log_source_bytes(shard->log) / ORDER_LOG_BYTES * ORDER_TABLE_BYTES;
    uint64_t room = replay_fold_options(r, shard).memory_bytes_max / 4;
    if (room == 0) return 1; /* no bound */
    return entries / room + 1 < PARTS_MAX ? (uint32_t)(entries / room) + 1 : PARTS_MAX;
}

/* Orders at fault are not folded to their end: what is told of them is not all. */
static int diff_faults(const struct diff *d, uint32_t i, int status) {
    const struct source *sources[] = {&d->replay->source, &d->other};
    const uint64_t faults[] = {d->faults[i], d->other_faults[i]};
    for (int k = 0; k < 2; k++) {
        if (faults[k] == 0) continue;
        replay_error(d->replay, "%s, shard %u: %" PRIu64 " fault%s in the log: see jumun-replay "
                     "verify", sources[k]->path, d->replay->source.shards[i].number, faults[k],
                     text_plural(faults[k]));
        if (status == REPLAY_DONE) status = REPLAY_FOUND;
    }
    return status;
}

/* -- two moments -------------------------------------------------------------------------- */

/* What an order was before the first event behind `from`, kept as the "block" of a table. */
struct before { struct actor actor; struct side side; };

struct moments {
    struct diff *diff;
    struct fold *fold;
    struct fold_table *before;
    uint32_t shard;
};

static void moments_before(void *arg, const struct event *e, const struct fold_block *b) {
    struct moments *m = arg;
    if (fold_table_get(m->before, &e->subject)) return;
    struct fold_block *kept = fold_table_add(m->before, &e->subject, sizeof(struct before));
    if (!kept) return;
    struct before *one = (struct before *)(void *)&kept->actor;
    kept->actor.bytes = sizeof *one;
    one->side = side_of(b ? &b->actor : NULL);
    fold_table_trim(m->before);
}

static bool moments_visit(void *arg, const struct fold_block *block) {
    struct moments *m = arg;
    const struct before *one = (const struct before *)(const void *)&block->actor;
    const struct fold_block *now = fold_table_get(m->fold->orders, &block->actor.key);
    struct side b = side_of(now ? &now->actor : NULL);
    if (one->side.there != b.there || one->side.version != b.version) {
        diff_tell(m->diff, m->shard, &block->actor.key, &one->side, &b);
    }
    fold_table_trim(m->fold->orders);
    return !replay_interrupted();
}

static int moments_pass(struct replay_work *work, uint32_t i, uint32_t part) {
    struct diff *d = work->arg;
    const struct source_shard *shard = &work->replay->source.shards[i];
    struct moments m = {.diff = d, .shard = shard->number};
    struct fold_options options = replay_fold_options(work->replay, shard);
    int status;
    options.arg = &m;
    options.parts = d->parts[i];
    options.part = part;
    options.memory_bytes_max /= 2; /* one half for what orders were before */
    m.fold = replay_fold_begin(work->replay, shard, &options, d->from[i], &status);
    m.before = fold_table_open(options.memory_bytes_max, options.scratch);
    if (status == REPLAY_DONE && d->from[i] > m.fold->index) {
        status = replay_fold(work, shard, m.fold, d->from[i]);
    }
    if (status == REPLAY_DONE && m.before) {
        m.fold->options.before = moments_before;
        status = replay_fold(work, shard, m.fold, d->upto[i]);
    }
    if (status == REPLAY_DONE && m.before) fold_table_each(m.before, moments_visit, &m);
    if (m.fold) d->faults[i] += m.fold->faults_told;
    if (m.before && fold_table_error(m.before)[0]) {
        replay_error(work->replay, "%s", fold_table_error(m.before));
        status = REPLAY_FAILED;
    }
    fold_table_close(m.before);
    fold_close(m.fold);
    return status;
}

static int moments_shard(struct replay_work *work, uint32_t i) {
    const struct diff *d = work->arg;
    int status = REPLAY_DONE;
    for (uint32_t part = 0; part < d->parts[i] && status == REPLAY_DONE; part++) {
        status = moments_pass(work, i, part);
    }
    return diff_faults(d, i, status);
}

/* -- two sources -------------------------------------------------------------------------- */

struct sources {
    struct diff *diff;
    struct fold *a, *b;
    uint32_t shard;
    bool second;               /* visiting b's: for those that a does not have */
    uint64_t met;              /* that both have */
};

static bool sources_visit(void *arg, const struct fold_block *block) {
    struct sources *s = arg;
    struct fold *other = s->second ? s->a : s->b;
    const struct fold_block *twin = fold_table_get(other->orders, &block->actor.key);
    if (twin && s->second) { /* compared already */
        fold_table_trim(other->orders);
        return !replay_interrupted();
    }
    s->met += twin != NULL;
    bool equal = twin && twin->actor.bytes == block->actor.bytes &&
                 memcmp(&twin->actor, &block->actor, block->actor.bytes) == 0;
    if (!equal) {
        struct side mine = side_of(&block->actor), theirs = side_of(twin ? &twin->actor : NULL);
        diff_tell(s->diff, s->shard, &block->actor.key, s->second ? &theirs : &mine,
                  s->second ? &mine : &theirs);
    }
    fold_table_trim(other->orders);
    return !replay_interrupted();
}

static int sources_pass(struct replay_work *work, const struct source_shard *mine,
                        const struct source_shard *theirs, uint32_t i, uint32_t part) {
    struct diff *d = work->arg;
    struct fold_options options = replay_fold_options(work->replay, mine);
    struct sources s = {.diff = d, .shard = mine->number};
    int status;
    options.memory_bytes_max /= 2;
    options.parts = d->parts[i];
    options.part = part;
    s.a = replay_fold_begin(work->replay, mine, &options, d->upto[i], &status);
    if (status == REPLAY_DONE) {
        options.unknown_allowed = replay_log_is_cut(theirs);
        s.b = replay_fold_begin(work->replay, theirs, &options, d->upto[i], &status);
    }
    if (status == REPLAY_DONE) status = replay_fold(work, mine, s.a, d->upto[i]);
    if (status == REPLAY_DONE) status = replay_fold(work, theirs, s.b, d->upto[i]);
    if (status == REPLAY_DONE) fold_table_each(s.a->orders, sources_visit, &s);
    s.second = true;
    if (status == REPLAY_DONE && s.met < fold_table_count(s.b->orders)) {
        fold_table_each(s.b->orders, sources_visit, &s);
    }
    if (s.a) d->faults[i] += s.a->faults_told;
    if (s.b) d->other_faults[i] += s.b->faults_told;
    fold_close(s.a);
    fold_close(s.b);
    return status;
}

static int sources_shard(struct replay_work *work, uint32_t i) {
    struct diff *d = work->arg;
    const struct source_shard *mine = &work->replay->source.shards[i];
    const struct source_shard *theirs = source_shard_of(&d->other, mine->number);
    if (!theirs) {
        replay_error(work->replay, "%s has no shard %u", d->other.path, mine->number);
        return REPLAY_FAILED;
    }
    int status = REPLAY_DONE;
    for (uint32_t part = 0; part < d->parts[i] && status == REPLAY_DONE; part++) {
        status = sources_pass(work, mine, theirs, i, part);
    }
    return diff_faults(d, i, status);
}

/* -- the command -------------------------------------------------------------------------- */

static int diff_report(struct diff *d, int status) {
    char count[TEXT_BYTES];
    pthread_mutex_destroy(&d->lock);
    if (status > REPLAY_FOUND) return status;
    if (d->replay->json) {
        printf("{\"differences\":%" PRIu64 "}\n", d->found);
    } else if (!d->replay->quiet) {
        fprintf(stderr, "%s order%s differ%s\n", text_count(count, d->found),
                text_plural(d->found), d->found == 1 ? "s" : "");
    }
    return d->found ? REPLAY_FOUND : status;
}

static int diff_sources(struct diff *d, const struct moment *at) {
    struct replay *r = d->replay;
    char error[1200];
    uint64_t first, last, total = 0;
    if (source_open(&d->other, replay_word(r, 1), -1, error, sizeof error) != 0) {
        replay_error(r, "%s", error);
        return REPLAY_FAILED;
    }
    int status = replay_other_cluster(r, &d->other) ? REPLAY_OTHER_CLUSTER
                                                    : replay_moment_reached(r, &d->other, "at", at);
    if (status == REPLAY_DONE && replay_lacks_shard(r, &d->other)) status = REPLAY_FAILED;
    if (status == REPLAY_DONE) status = replay_fetch_states(r, &d->other);
    if (status != REPLAY_DONE) {
        source_close(&d->other);
        return status;
    }
    for (uint32_t i = 0; i < r->source.count; i++) {
        const struct source_shard *theirs = source_shard_of(&d->other, r->source.shards[i].number);
        log_source_range(r->source.shards[i].log, &first, &d->upto[i]);
        if (theirs) log_source_range(theirs->log, &first, &last);
        if (theirs && last < d->upto[i]) d->upto[i] = last;
        uint64_t wanted = moment_index(at, &r->source.shards[i], UINT64_MAX);
        if (wanted < d->upto[i]) d->upto[i] = wanted;
        d->parts[i] = diff_parts(r, &r->source.shards[i]);
        total += 2 * d->upto[i] * d->parts[i];
    }
    status = replay_run(r, r->source.count, "comparing", "records", total, sources_shard, d);
    source_close(&d->other);
    return status;
}

int replay_diff(struct replay *r) {
    struct moment at, from, to;
    int64_t shown_max = INT64_MAX;
    uint64_t first, last, total = 0;
    if (!replay_moment(r, "at", &at) || !replay_moment(r, "from", &from) ||
        !replay_moment(r, "to", &to) || !replay_int(r, "limit", &shown_max)) {
        return REPLAY_USAGE;
    }
    bool two = r->args.positionals_count == 2;
    if (two ? from.kind || to.kind : !from.kind || at.kind) {
        return replay_usage(r, "diff needs two sources (and --at), or one and --from (and --to)");
    }
    int status = replay_open_folded(r);
    if (status != REPLAY_DONE) return status;
    struct diff *d = calloc(1, sizeof *d);
    if (!d) return REPLAY_FAILED;
    d->replay = r;
    d->shown_max = (uint64_t)shown_max;
    pthread_mutex_init(&d->lock, NULL);
    if (two) {
        status = diff_sources(d, &at);
    } else {
        for (uint32_t i = 0; i < r->source.count; i++) {
            log_source_range(r->source.shards[i].log, &first, &last);
            d->from[i] = moment_index(&from, &r->source.shards[i], 0);
            d->upto[i] = moment_index(&to, &r->source.shards[i], last);
            if (d->upto[i] > last) d->upto[i] = last;
            d->parts[i] = diff_parts(r, &r->source.shards[i]);
            total += d->upto[i] * d->parts[i];
        }
        status = replay_run(r, r->source.count, "folding", "records", total, moments_shard, d);
    }
    status = diff_report(d, status);
    free(d);
    return status;
}
