/* state: the orders as they were at a moment. */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "clients/cli/text.h"
#include "clients/cli/value.h"
#include "clients/replay/encode.h"

struct state_all {
    struct replay *replay;
    struct moment at;
    uint64_t upto[SHARDS_MAX];
    pthread_mutex_t lock;      /* guards stdout and the count */
    uint64_t orders;
    uint32_t states_wanted;    /* bits; 0 = all */
    bool stores;
};

/* Where the order's shard stands, as JSON beside the order: of which record this is the state, and
 * whether --at named it (else it stands at the end of its log). */
static json_t *state_as_of(const struct moment *at, uint32_t shard, uint64_t index) {
    json_t *json = json_pack("{s:i, s:I}", "shard", (int)shard, "index", (json_int_t)index);
    bool unnamed = at->kind == MOMENT_INDEX && !at->indexed && !moment_names(at, shard);
    if (unnamed) json_object_set_new(json, "named", json_false());
    return json;
}

/* One line an order. */
static void state_line(const struct actor *a) {
    struct order_view v;
    char key[27], total[TEXT_BYTES], time[TEXT_BYTES], store[160];
    order_view(a, &v);
    text_printable(store, sizeof store, v.store.data ? v.store.data : "", v.store.size);
    v.currency[3] = 0;
    printf("%s  %-9s  v%-3u  %16s  %s  %s\n", replay_key_text(&a->key, key),
           order_state_name(a->state), v.version, text_money(total, v.total, v.currency),
           text_time(time, v.updated_ms), store);
}

/* One shard on its way out. */
struct state_one { struct state_all *all; uint32_t shard; uint64_t index; };

static bool state_visit(void *arg, const struct fold_block *b) {
    const struct state_one *one = arg;
    struct state_all *all = one->all;
    const struct actor *a = &b->actor;
    if (b->flags & (FOLD_BROKEN | FOLD_UNKNOWN)) return true;
    if (all->states_wanted && !(all->states_wanted & 1u << (a->state & 15))) return true;
    json_t *json = all->replay->json ? encode_order_json(a) : NULL;
    if (json) json_object_set_new(json, "as_of", state_as_of(&all->at, one->shard, one->index));
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    pthread_mutex_lock(&all->lock);
    all->orders++;
    if (text) puts(text);
    else if (!all->replay->json) state_line(a);
    pthread_mutex_unlock(&all->lock);
    free(text);
    return !replay_interrupted();
}

static bool state_store_visit(void *arg, const struct fold_block *b) {
    const struct state_one *one = arg;
    struct state_all *all = one->all;
    struct encoded e;
    struct store_view v;
    if (b->flags & (FOLD_BROKEN | FOLD_UNKNOWN)) return true;
    store_view(&b->actor, &v);
    pthread_mutex_lock(&all->lock);
    if (all->replay->json && encode_store(&b->actor, &e)) {
        json_t *json = value_to_json(&e.unpacked.data);
        json_object_set_new(json, "as_of", state_as_of(&all->at, one->shard, one->index));
        json_dumpf(json, stdout, JSON_COMPACT);
        fputc('\n', stdout);
        json_decref(json);
        encoded_free(&e);
    } else if (!all->replay->json) {
        printf("%-40.*s  %-7s  %8" PRId64 " open  %10" PRIu64 " placed\n", (int)v.id.size,
               (const char *)v.id.data, v.paused ? "paused" : "running", v.open_orders,
               v.placed_orders);
    }
    all->orders++;
    pthread_mutex_unlock(&all->lock);
    return true;
}

static int state_shard(struct replay_work *work, uint32_t i) {
    struct state_all *all = work->arg;
    const struct source_shard *shard = &work->replay->source.shards[i];
    struct fold_options options = replay_fold_options(work->replay, shard);
    int status;
    struct fold *f = replay_fold_begin(work->replay, shard, &options, all->upto[i], &status);
    if (status == REPLAY_DONE) status = replay_fold(work, shard, f, all->upto[i]);
    struct state_one one = {all, shard->number, all->upto[i]};
    if (status == REPLAY_DONE && all->stores) fold_table_each(f->stores, state_store_visit, &one);
    else if (status == REPLAY_DONE) fold_table_each(f->orders, state_visit, &one);
    if (status == REPLAY_DONE && f->faults > 0) {
        replay_error(work->replay, "shard %u: %" PRIu64 " faults in the log: see jumun-replay "
                     "verify", shard->number, f->faults);
        status = REPLAY_FOUND;
    }
    fold_close(f);
    return status;
}

static bool state_words(struct replay *r, uint32_t *wanted) {
    const char *word;
    for (size_t cursor = 0; (word = args_next(&r->args, "state", &cursor));) {
        uint32_t before = *wanted;
        for (uint32_t s = (uint32_t)ORDER_AWAITED; s <= ORDER_EXPIRED; s++) {
            if (strcmp(order_state_name(s), word) == 0) *wanted |= 1u << s;
        }
        if (*wanted == before) {
            replay_usage(r, "--state: \"%.40s\" is no state of an order", word);
            return false;
        }
    }
    return true;
}

static uint64_t state_upto(const struct moment *at, const struct source_shard *shard) {
    uint64_t first, last;
    log_source_range(shard->log, &first, &last);
    uint64_t wanted = moment_index(at, shard, last);
    return wanted < last ? wanted : last;
}

static int state_of_all(struct replay *r, const struct moment *at) {
    struct state_all all = {.replay = r, .at = *at, .stores = args_flag(&r->args, "stores")};
    uint64_t first, last, total = 0;
    char count[TEXT_BYTES];
    if (!state_words(r, &all.states_wanted)) return REPLAY_USAGE;
    pthread_mutex_init(&all.lock, NULL);
    for (uint32_t i = 0; i < r->source.count; i++) {
        log_source_range(r->source.shards[i].log, &first, &last);
        all.upto[i] = state_upto(at, &r->source.shards[i]);
        if (all.upto[i] >= first) total += all.upto[i] - first + 1;
    }
    int status = replay_run(r, r->source.count, "folding", "records", total, state_shard, &all);
    pthread_mutex_destroy(&all.lock);
    if (!r->json && !r->quiet && status <= REPLAY_FOUND) {
        fprintf(stderr, "%s %s\n", text_count(count, all.orders), all.stores ? "stores" : "orders");
    }
    return status;
}

/* Orders by key, one after the other. */
static int state_of_orders(struct replay *r, const struct moment *at) {
    int worst = REPLAY_DONE;
    for (int i = 1; i < r->args.positionals_count; i++) {
        struct id128 key;
        struct source_shard *shard;
        struct replay_history h;
        const char *fault;
        char text[27];
        if (!replay_key(r, replay_word(r, i), &key)) return REPLAY_USAGE;
        int status = replay_find_order(r, &key, UINT64_MAX, at, &shard, &h);
        if (status == REPLAY_DONE) {
            struct actor *order = replay_order_build(&h, UINT64_MAX, &fault);
            if (!order) {
                replay_error(r, "%s: %s", replay_key_text(&key, text), fault);
                status = REPLAY_FAILED;
            } else if (r->json) {
                json_t *json = encode_order_json(order);
                json_object_set_new(json, "as_of", state_as_of(at, shard->number,
                                                               state_upto(at, shard)));
                replay_print_one(json);
            } else {
                draw_order(r, order, replay_moment_ms(at, &h));
            }
            free(order);
            replay_history_free(&h);
        }
        if (status > worst) worst = status;
    }
    return worst;
}

int replay_state(struct replay *r) {
    struct moment at;
    bool all = args_flag(&r->args, "all") || args_flag(&r->args, "stores");
    if (!replay_moment(r, "at", &at)) return REPLAY_USAGE;
    if (all != (r->args.positionals_count == 1)) {
        return replay_usage(r, "state needs either keys of orders, or --all, or --stores");
    }
    int status = all ? replay_open_folded(r) : replay_open_source(r);
    if (status != REPLAY_DONE) return status;
    return all ? state_of_all(r, &at) : state_of_orders(r, &at);
}
