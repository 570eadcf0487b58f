/* what-if: the causes of a log run through another build's rules; the orders that would differ. */
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "actors/order/order_rules.h"
#include "clients/cli/text.h"
#include "clients/replay/cause.h"
#include "clients/replay/replay.h"

/* What is compared: no deadline, no id; what a customer, a store or a bookkeeper would notice. */
struct outcome {
    uint8_t state;
    int64_t total, captured, refunded, refund_owed;
};

/* Kept before the other rules' block of an order, for as long as it is not, to the byte, what the
 * log's rules have: of an order that both see alike one block is enough. */
struct twin {
    struct actor head;         /* only so that it can lie in a fold_table: key, bytes */
    bool diverged;
    uint16_t refused;          /* the code of a command that the log's rules took; 0 = none */
    uint8_t kind;              /* of the event at the first difference */
    uint64_t index;            /* its record; 0 = there is none */
    uint32_t version;
    struct outcome log, other; /* right behind it */
    uint64_t block[];          /* struct actor of the other rules; bytes 0 = no such order */
};

struct what_if {
    struct replay *replay;
    const struct order_rules *rules;
    uint64_t upto[SHARDS_MAX];
    pthread_mutex_t lock;      /* guards stdout and the counts */
    uint64_t orders, differ, refusals, causes, shown_max;
};

struct what_if_shard {
    struct what_if *all;
    struct fold_table *twins;
    struct actor *before;      /* the log's order before the event that is being taken; bytes 0 =
                                  there was none */
    struct cause cause;
    uint64_t *events;          /* what the other rules decided last */
    uint32_t number;
    int64_t log_deadline_ms;   /* of that order */
    uint64_t orders, causes, refusals;
    bool failed;
};

static const struct actor *twin_order(const struct twin *t) {
    const struct actor *a = (const struct actor *)(const void *)t->block;
    return a->bytes ? a : NULL;
}

static struct twin *block_twin(struct fold_block *b) { return (struct twin *)(void *)&b->actor; }

static struct outcome outcome_of(const struct order_rules *rules, const struct actor *a) {
    struct order_view v;
    if (!a) return (struct outcome){.state = 0};
    rules->view(a, &v);
    return (struct outcome){v.state, v.total, v.captured, v.refunded, v.refund_owed};
}

static bool outcomes_equal(const struct outcome *a, const struct outcome *b) {
    return a->state == b->state && a->total == b->total && a->captured == b->captured &&
           a->refunded == b->refunded && a->refund_owed == b->refund_owed;
}

/* -- the other rules ---------------------------------------------------------------------- */

/* Applies what they decided. The twin may move. False without memory. */
static bool other_apply(struct what_if_shard *w, struct fold_block **block,
                        const struct event_sink *sink, const struct apply_context *context) {
    const struct order_rules *rules = w->all->rules;
    uint32_t offset = 0;
    const struct event *e;
    while ((e = event_next(sink->data, sink->size, &offset))) {
        struct twin *t = block_twin(*block);
        uint32_t bytes = rules->bytes_after(twin_order(t), e);
        struct fold_block *b = fold_table_reserve(w->twins, *block,
                                                  (uint32_t)sizeof *t + ((bytes + 7u) & ~7u));
        if (!b) return false;
        *block = b;
        t = block_twin(b);
        rules->apply((struct actor *)(void *)t->block, e, context);
        t->head.bytes = (uint32_t)sizeof *t + ((twin_order(t)->bytes + 7u) & ~7u);
    }
    return true;
}

static uint16_t other_decide(struct what_if_shard *w, struct fold_block **block,
                             const struct command *command, const struct apply_context *at) {
    const struct decide_context context = {.index = at->index, .now_ms = at->time_ms};
    struct event_sink sink = {.data = (uint8_t *)w->events, .capacity = 2 * EVENT_BYTES_MAX};
    struct decision d =
        w->all->rules->decide(twin_order(block_twin(*block)), command, &context, &sink);
    if (sink.size > 0 && !other_apply(w, block, &sink, at)) w->failed = true;
    return d.code;
}

/* As the shard does: what was held is decided once the order is placed. */
static void other_resolve(struct what_if_shard *w, struct fold_block **block,
                          const struct apply_context *at) {
    for (uint32_t i = 0; i < ORDER_HELD_MAX && !w->failed; i++) {
        const struct actor *a = twin_order(block_twin(*block));
        if (!a || a->state == ORDER_AWAITED || w->all->rules->held_count(a) == 0) return;
        const struct command held = {.kind = COMMAND_RESOLVE_HELD,
                                     .subject = block_twin(*block)->head.key};
        other_decide(w, block, &held, at);
    }
}

/* Deadlines that only the other rules have set. Those that both have come with the log. */
static void other_deadlines(struct what_if_shard *w, struct fold_block **block,
                            const struct apply_context *at) {
    for (int i = 0; i < 8 && !w->failed; i++) {
        const struct actor *a = twin_order(block_twin(*block));
        if (!a || a->next_deadline_ms == 0 || a->next_deadline_ms > at->time_ms ||
            a->next_deadline_ms == w->log_deadline_ms) {
            return;
        }
        const struct apply_context then = {at->index, a->next_deadline_ms};
        const struct command due = {.kind = COMMAND_TIMER_DUE, .subject = a->key};
        uint32_t version = a->version;
        other_decide(w, block, &due, &then);
        a = twin_order(block_twin(*block));
        if (!a || a->version == version) return;
    }
}

/* -- one event ---------------------------------------------------------------------------- */

static void twin_diverge(struct twin *t, const struct fold_event *seen, uint16_t refused,
                         const struct outcome *log, const struct outcome *other) {
    if (t->diverged) return;
    t->diverged = true;
    t->refused = refused;
    t->kind = seen->event->kind;
    t->index = seen->context.index;
    t->version = seen->event->version;
    t->log = *log;
    t->other = *other;
}

static void put_outcome(const struct outcome *o, char *text, size_t bytes) {
    snprintf(text, bytes, "%s, total %" PRId64 ", captured %" PRId64 ", refunded %" PRId64
             ", owed %" PRId64, o->state ? order_state_name(o->state) : "no order", o->total,
             o->captured, o->refunded, o->refund_owed);
}

static json_t *outcome_json(const struct outcome *o) {
    return json_pack("{s:s, s:I, s:I, s:I, s:I}", "state",
                     o->state ? order_state_name(o->state) : "none", "total",
                     (json_int_t)o->total, "captured", (json_int_t)o->captured, "refunded",
                     (json_int_t)o->refunded, "refund_owed", (json_int_t)o->refund_owed);
}

static void twin_tell(struct what_if_shard *w, const struct twin *t, const struct outcome *log,
                      const struct outcome *other) {
    struct what_if *all = w->all;
    char key[27], a[160], b[160];
    replay_key_text(&t->head.key, key);
    pthread_mutex_lock(&all->lock);
    if (++all->differ > all->shown_max) {
        pthread_mutex_unlock(&all->lock);
        return;
    }
    if (all->replay->json) {
        json_t *json = json_pack("{s:s, s:i, s:I, s:s, s:I, s:o, s:o, s:o, s:o}", "key", key,
                                 "shard", (int)w->number, "index", (json_int_t)t->index, "event",
                                 event_kind_name(t->kind), "version", (json_int_t)t->version,
                                 "log", outcome_json(&t->log), "other", outcome_json(&t->other),
                                 "log_end", outcome_json(log), "other_end", outcome_json(other));
        if (t->refused) {
            json_object_set_new(json, "refused", json_integer(t->refused));
            json_object_set_new(json, "refused_name", json_string(result_code_name(t->refused)));
        }
        json_dumpf(json, stdout, JSON_COMPACT);
        fputc('\n', stdout);
        json_decref(json);
    } else {
        printf("%s  record %" PRIu64 " of shard %u, %s of version %u", key, t->index, w->number,
               event_kind_name(t->kind), t->version);
        if (t->refused) printf(": refused [%u %s]", t->refused, result_code_name(t->refused));
        put_outcome(&t->log, a, sizeof a);
        put_outcome(&t->other, b, sizeof b);
        printf("\n    log: %s\n  other: %s\n", a, b);
        put_outcome(log, a, sizeof a);
        put_outcome(other, b, sizeof b);
        if (!outcomes_equal(log, &t->log) || !outcomes_equal(other, &t->other)) {
            printf("  in the end  log: %s\n            other: %s\n", a, b);
        }
    }
    pthread_mutex_unlock(&all->lock);
}

/* Both stand behind the same cause: do they agree? */
static void twin_compare(struct what_if_shard *w, struct twin *t, const struct fold_event *seen,
                         uint16_t code) {
    const struct outcome log = outcome_of(jumun_order_rules(), seen->actor);
    const struct outcome other = outcome_of(w->all->rules, twin_order(t));
    bool refused = code != RESULT_OK && code != RESULT_HELD;
    if (refused) w->refusals++;
    if (refused || !outcomes_equal(&log, &other)) {
        twin_diverge(t, seen, refused ? code : 0, &log, &other);
    }
}

static void what_if_before(void *arg, const struct event *e, const struct fold_block *b) {
    struct what_if_shard *w = arg;
    (void)e;
    w->log_deadline_ms = b ? b->actor.next_deadline_ms : 0;
    w->before->bytes = 0;
    if (b) memcpy(w->before, &b->actor, b->actor.bytes);
}

/* The other rules' order before the event. NULL: none is known, or (w->failed) no memory. */
static struct fold_block *twin_take(struct what_if_shard *w, const struct event *e) {
    struct fold_block *b = fold_table_get(w->twins, &e->subject);
    uint32_t bytes = w->before->bytes;
    if (b) return b;
    if (bytes == 0 && e->version != 1) return NULL; /* it began before the log */
    uint32_t room = bytes > sizeof(struct actor) ? (bytes + 7u) & ~7u : sizeof(struct actor);
    b = fold_table_add(w->twins, &e->subject, (uint32_t)sizeof(struct twin) + room);
    w->failed = !b;
    if (!b) return NULL;
    b->actor.bytes = (uint32_t)sizeof(struct twin) + room;
    memcpy(block_twin(b)->block, w->before, bytes);
    return b;
}

static bool twin_is_common(const struct twin *t, const struct actor *log) {
    const struct actor *a = twin_order(t);
    return !t->diverged && a && a->bytes == log->bytes && memcmp(a, log, log->bytes) == 0;
}

static bool what_if_observe(void *arg, const struct fold_event *seen) {
    struct what_if_shard *w = arg;
    const struct event *e = seen->event;
    if (e->kind < 1 || e->kind > 63 || !seen->actor) return !w->failed;
    struct fold_block *b = twin_take(w, e);
    if (!b) return !w->failed;
    if (e->version == 1) w->orders++;
    enum cause_outcome cause = cause_of(e, seen->context.time_ms, &w->cause);
    uint16_t code = RESULT_OK;
    other_deadlines(w, &b, &seen->context);
    const struct actor *a = twin_order(block_twin(b));
    if (cause == CAUSE_COMMAND) {
        w->causes++;
        code = other_decide(w, &b, &w->cause.command, &seen->context);
        if (e->cause_kind == COMMAND_PLACE) other_resolve(w, &b, &seen->context);
    } else if (cause == CAUSE_DEADLINE && a && a->next_deadline_ms != 0 &&
               a->next_deadline_ms <= seen->context.time_ms) {
        w->causes++;
        other_decide(w, &b, &w->cause.command, &seen->context);
    }
    /* A place resolves what was held, event by event: compared behind the last of them. */
    bool midway = e->kind != EVENT_HELD_COMMAND_RESOLVED &&
                  order_held_count(seen->actor) > 0 && seen->actor->state != ORDER_AWAITED;
    struct twin *t = block_twin(b);
    if (!midway && !(e->flags & EVENT_FLAG_FROM_HELD && order_held_count(seen->actor) > 0)) {
        twin_compare(w, t, seen, code);
    }
    if (e->kind == EVENT_ORDER_RETIRED) {
        const struct outcome log = outcome_of(jumun_order_rules(), seen->actor);
        const struct outcome other = outcome_of(w->all->rules, twin_order(t));
        if (t->diverged) twin_tell(w, t, &log, &other);
        w->orders--;
    }
    if (e->kind == EVENT_ORDER_RETIRED || twin_is_common(t, seen->actor)) {
        fold_table_remove(w->twins, &e->subject);
    }
    fold_table_trim(w->twins);
    return !w->failed && cause != CAUSE_FAILED;
}

/* -- the end of the log ------------------------------------------------------------------- */

struct what_if_end { struct what_if_shard *shard; struct fold *fold; };

static bool end_visit(void *arg, const struct fold_block *b) {
    struct what_if_end *end = arg;
    struct what_if_shard *w = end->shard;
    const struct twin *t = (const struct twin *)(const void *)&b->actor;
    const struct fold_block *now = fold_table_get(end->fold->orders, &b->actor.key);
    const struct outcome log = outcome_of(jumun_order_rules(), now ? &now->actor : NULL);
    const struct outcome other = outcome_of(w->all->rules, twin_order(t));
    if (t->diverged) twin_tell(w, t, &log, &other);
    fold_table_trim(end->fold->orders);
    return !replay_interrupted();
}

/* Orders whose other deadline passed before the log ends. */
struct due_list { struct id128 *keys; uint64_t count, capacity; int64_t end_ms; };

static bool due_visit(void *arg, const struct fold_block *b) {
    struct due_list *due = arg;
    const struct actor *a = twin_order((const struct twin *)(const void *)&b->actor);
    if (!a || a->next_deadline_ms == 0 || a->next_deadline_ms > due->end_ms) return true;
    if (due->count == due->capacity) {
        uint64_t capacity = due->capacity ? due->capacity * 2 : 256;
        struct id128 *keys = realloc(due->keys, capacity * sizeof *keys);
        if (!keys) return false;
        due->keys = keys;
        due->capacity = capacity;
    }
    due->keys[due->count++] = b->actor.key;
    return true;
}

static void end_deadlines(struct what_if_shard *w, struct fold *f) {
    struct due_list due = {.end_ms = f->time_ms};
    fold_table_each(w->twins, due_visit, &due);
    for (uint64_t i = 0; i < due.count; i++) {
        struct fold_block *b = fold_table_get(w->twins, &due.keys[i]);
        const struct fold_block *log = fold_table_get(f->orders, &due.keys[i]);
        if (!b || !log) continue;
        const struct apply_context at = {f->index, f->time_ms};
        const struct event none = {.kind = 0, .version = log->actor.version};
        const struct fold_event seen = {.event = &none, .context = at, .actor = &log->actor};
        w->log_deadline_ms = log->actor.next_deadline_ms;
        other_deadlines(w, &b, &at);
        twin_compare(w, block_twin(b), &seen, RESULT_OK);
        fold_table_trim(w->twins);
    }
    free(due.keys);
}

static int what_if_shard(struct replay_work *work, uint32_t i) {
    struct what_if *all = work->arg;
    const struct source_shard *shard = &work->replay->source.shards[i];
    struct what_if_shard w = {.all = all, .number = shard->number};
    struct fold_options options = replay_fold_options(work->replay, shard);
    uint64_t memory_bytes_max = options.memory_bytes_max;
    options.memory_bytes_max -= memory_bytes_max / 4;
    options.before = what_if_before;
    options.observe = what_if_observe;
    options.arg = &w;
    w.twins = fold_table_open(memory_bytes_max / 4, options.scratch);
    w.events = malloc(2 * (size_t)EVENT_BYTES_MAX);
    w.before = malloc(ACTOR_BYTES_MAX);
    struct fold *f = w.twins && w.events && w.before ? fold_open(&options) : NULL;
    int status = f ? replay_fold(work, shard, f, all->upto[i]) : REPLAY_FAILED;
    if (status == REPLAY_DONE && (w.failed || f->faults)) {
        replay_error(work->replay, "shard %u: %s", shard->number,
                     w.failed ? "no memory" : "the log has faults: see jumun-replay verify");
        status = REPLAY_FAILED;
    }
    if (status == REPLAY_DONE) {
        struct what_if_end end = {&w, f};
        end_deadlines(&w, f);
        fold_table_each(w.twins, end_visit, &end);
        pthread_mutex_lock(&all->lock);
        all->orders += w.orders;
        all->causes += w.causes;
        all->refusals += w.refusals;
        pthread_mutex_unlock(&all->lock);
    }
    fold_close(f);
    fold_table_close(w.twins);
    free(w.events);
    free(w.before);
    cause_free(&w.cause);
    return status;
}

/* -- the command -------------------------------------------------------------------------- */

static const struct order_rules *what_if_load(struct replay *r, const char *path) {
    char beside[1100];
    snprintf(beside, sizeof beside, "%s%.1000s", strchr(path, '/') ? "" : "./", path);
    void *object = dlopen(beside, RTLD_NOW | RTLD_LOCAL);
    if (!object) {
        replay_error(r, "%s", dlerror());
        return NULL;
    }
    order_rules_get *get;
    *(void **)&get = dlsym(object, ORDER_RULES_SYMBOL);
    const struct order_rules *rules = get ? get() : NULL;
    if (!rules) {
        replay_error(r, "%s exports no " ORDER_RULES_SYMBOL "()", path);
    } else if (rules->abi != ORDER_RULES_ABI || rules->bytes < sizeof *rules ||
               rules->command_bytes != sizeof(struct command) ||
               rules->view_bytes != sizeof(struct order_view)) {
        replay_error(r, "%s (%s) was built for another contract (%u, this program has %d)", path,
                     rules->version, rules->abi, ORDER_RULES_ABI);
        rules = NULL;
    }
    if (!rules) dlclose(object);
    return rules; /* stays loaded until the process ends */
}

static int what_if_report(struct what_if *all) {
    struct replay *r = all->replay;
    char orders[TEXT_BYTES], causes[TEXT_BYTES], differ[TEXT_BYTES];
    if (r->json) {
        json_t *json = json_pack("{s:I, s:I, s:I, s:I, s:s}", "orders", (json_int_t)all->orders,
                                 "causes", (json_int_t)all->causes, "differ",
                                 (json_int_t)all->differ, "refusals", (json_int_t)all->refusals,
                                 "rules", all->rules->version);
        json_dumpf(json, stdout, JSON_COMPACT);
        fputc('\n', stdout);
        json_decref(json);
    } else if (!r->quiet) {
        fprintf(stderr, "%s causes of %s orders tried with the rules of %s: %s would differ\n",
                text_count(causes, all->causes), text_count(orders, all->orders),
                all->rules->version, text_count(differ, all->differ));
    }
    return all->differ ? REPLAY_FOUND : REPLAY_DONE;
}

int replay_what_if(struct replay *r) {
    struct what_if all = {.replay = r};
    struct moment to;
    int64_t shown_max = INT64_MAX;
    uint64_t first, last, total = 0;
    const char *path = args_value(&r->args, "rules");
    if (!path) return replay_usage(r, "what-if needs --rules FILE.so");
    if (!replay_moment(r, "to", &to) || !replay_int(r, "limit", &shown_max)) return REPLAY_USAGE;
    all.shown_max = (uint64_t)shown_max;
    int status = replay_open_source(r);
    if (status != REPLAY_DONE) return status;
    all.rules = what_if_load(r, path);
    if (!all.rules) return REPLAY_FAILED;
    pthread_mutex_init(&all.lock, NULL);
    for (uint32_t i = 0; i < r->source.count; i++) {
        log_source_range(r->source.shards[i].log, &first, &last);
        all.upto[i] = moment_index(&to, &r->source.shards[i], last);
        if (all.upto[i] > last) all.upto[i] = last;
        total += all.upto[i];
    }
    status = replay_run(r, r->source.count, "trying", "records", total, what_if_shard, &all);
    pthread_mutex_destroy(&all.lock);
    return status == REPLAY_DONE ? what_if_report(&all) : status;
}
