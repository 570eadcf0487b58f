/* sim_growth [--step-hours H] [--orders N] [--seed S] [--markdown]
 *
 * A hundred days of a growing cluster in simulated time: three nodes with two shards, their real
 * consensus, logs and outboxes on simulated disks and a simulated network, and the real cluster
 * document. On day 4 it grows to four shards; on day 38 it is too large, and new orders go to two
 * again; shards that no order is left in are retired. Every H hours (1) N orders (10) are placed,
 * most of them for an hour, some for days, some for weeks; then the nodes' clocks move on.
 *
 * Prints how many orders are alive on each shard, by day. Exit: 0 as it must be, else 1 with a
 * sentence: a command failed, orders are not spread evenly when those from before have ended, a
 * shard could not be retired, or a store counts wrong. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/cluster/cluster_layout.h"
#include "engine/base/log.h"
#include "engine/base/prng.h"
#include "tests/unit/shard/group_world.h"

enum { STORES = 48, ORDERS_MAX = 1 << 16, BATCH_MAX = 256, SHARDS = 4, FIRST_SHARDS = 2,
       ANNOUNCE_DAY = 3, GROW_DAY = 4, EVEN_DAY = 36, SHRINK_DAY = 38, LAST_DAY = 104,
       STEP_MS = 60 };
#define HOUR_MS 3600000LL
#define DAY_MS (24 * HOUR_MS)

static struct group_world world;
static struct prng prng;
static struct { uint32_t step_hours, orders; uint64_t seed; bool markdown; }
    given = {.step_hours = 1, .orders = 10, .seed = 1};
static struct { char id[16]; int64_t open; uint64_t placed; } stores[STORES];
static struct { struct id128 key; uint8_t store, shard; bool alive; int64_t ends_ms; }
    orders[ORDERS_MAX];
static uint32_t orders_count, orders_ended;
static int64_t start_ms;
static bool spread_was_uneven, spread_became_even;

#define demand(condition, ...)                                                                     \
    do {                                                                                           \
        if (condition) break;                                                                      \
        fprintf(stderr, "FAULT: " __VA_ARGS__);                                                    \
        fprintf(stderr, "\n");                                                                     \
        exit(1);                                                                                   \
    } while (0)

/* -- the cluster document ---------------------------------------------------------------------- */

static struct actor *document;
static uint8_t document_ids;

static const struct cluster_document *doc(void) { return cluster_document_of(document); }

static void show_document(void) {
    struct shard_view *v = &world.view;
    const struct cluster_document *d = doc();
    *v = (struct shard_view){.version = document->version, .stores_shards = d->stores_shards,
                             .epochs_count = d->epochs_count};
    for (uint32_t i = 0; i < d->epochs_count; i++)
        v->epochs[i] = (struct routing_epoch){d->epochs[i].from_ms, d->epochs[i].shards_count};
    for (uint32_t s = 0; s + 1u < d->shards_count; s++)
        if (d->shards[s].state == CLUSTER_SHARD_ACTIVE) v->active[0] |= (uint8_t)(1u << s);
    world.shards = d->shards_count - 1u;
}

/* As the meta group's shard decides and applies it. */
static uint16_t decide(struct command c) {
    static _Alignas(8) uint8_t events[1 << 18];
    const struct decide_context context = {.index = 1, .now_ms = world.now_ms};
    struct event_sink sink = {.data = events, .capacity = sizeof events};
    c.subject = cluster_key();
    c.id = (struct id128){{0xd0, ++document_ids}};
    struct decision decision = cluster_decide(document, &c, &context, &sink);
    if (decision.code != RESULT_OK) return decision.code;
    const struct event *event = (const struct event *)(const void *)events;
    uint32_t before = document ? document->bytes : 0, bytes = cluster_bytes_after(document, event);
    document = realloc(document, bytes);
    require(document != NULL);
    memset((uint8_t *)document + before, 0, bytes - before);
    cluster_apply(document, event, &(struct apply_context){1, world.now_ms});
    return RESULT_OK;
}

static void found(void) {
    static const char *const at[] = {"tcp://a:1", "tcp://a:2", "tcp://b:1",
                                     "tcp://b:2", "tcp://c:1", "tcp://c:2"};
    struct cluster_founder nodes[3];
    for (uint32_t i = 0; i < 3; i++)
        nodes[i] = (struct cluster_founder){i + 1, bytes_of_text(at[2 * i]),
                                            bytes_of_text(at[2 * i + 1])};
    struct command c = {.kind = COMMAND_CLUSTER_FORM};
    c.cluster = (struct command_cluster){.cluster_id = {{1}}, .nodes = nodes, .nodes_count = 3,
                                         .shards = FIRST_SHARDS, .replicas = 3};
    require(decide(c) == RESULT_OK);
}

static void grow(uint32_t shards, int64_t from_ms) {
    struct command c = {.kind = COMMAND_CLUSTER_GROW};
    c.cluster.shards = shards;
    c.cluster.from_ms = from_ms;
    demand(decide(c) == RESULT_OK, "cannot grow to %u shards", shards);
    show_document();
}

/* What a node's keeper does, and an operator once a day. */
static void keep_document(int64_t day) {
    if (cluster_shards_begun(doc(), world.now_ms) != doc()->stores_shards) {
        require(decide((struct command){.kind = COMMAND_CLUSTER_MOVE_STORES}) == RESULT_OK);
        show_document();
    }
    for (uint32_t s = 0; s < world.shards; s++) {
        int leader = group_leader(&world, s);
        if (!(world.view.active[0] >> s & 1) || leader < 0 ||
            !shard_is_empty(group_shard(&world, (uint32_t)leader, s)))
            continue;
        struct command c = {.kind = COMMAND_CLUSTER_RETIRE_SHARD};
        c.cluster.shard = s;
        if (decide(c) != RESULT_OK) continue; /* a key of it may still be born */
        show_document();
        printf("%sday %d: shard %u is empty, and retired\n", given.markdown ? "\n" : "", (int)day,
               s);
    }
}

/* -- orders ------------------------------------------------------------------------------------ */

static struct command place_next(uint32_t n) {
    struct id128 key = world_id(&world.names);
    int64_t birth_ms = world.now_ms - (int64_t)prng_below(&prng, 1000);
    for (int i = 0; i < 6; i++) key.bytes[i] = (uint8_t)(birth_ms >> (40 - 8 * i));
    for (int i = 6; i < 16; i++) key.bytes[i] = (uint8_t)prng_next(&prng);
    uint64_t kind = prng_below(&prng, 10);
    int64_t life_ms = kind < 7 ? HOUR_MS : kind < 9 ? prng_between(&prng, 1, 3) * DAY_MS
                                                    : prng_between(&prng, 10, 29) * DAY_MS;
    orders[n].key = key;
    orders[n].store = (uint8_t)prng_below(&prng, STORES);
    orders[n].ends_ms = world.now_ms + life_ms;
    struct command c = world_place(&world.names, key, stores[orders[n].store].id);
    c.place.payment_timeout_ms = c.place.acceptance_timeout_ms = TIMEOUT_MS_MAX;
    orders[n].shard = (uint8_t)group_shard_of(&world, &c);
    return c;
}

static struct command end_of(uint32_t n) {
    struct command c = world_command(&world.names, COMMAND_CANCEL, orders[n].key);
    c.cancel = (struct command_cancel){.by = PARTY_CUSTOMER, .reason = bytes_of_text("over")};
    return c;
}

static void took(uint32_t n, bool places) {
    orders[n].alive = places;
    stores[orders[n].store].open += places ? 1 : -1;
    stores[orders[n].store].placed += places;
    orders_ended += !places;
}

/* What a client asks again elsewhere or later. */
static bool is_asked_again(uint16_t code) {
    return code == RESULT_NOT_READY || code == RESULT_NOT_LEADER ||
           code == RESULT_LEADERSHIP_LOST || code == RESULT_OVERLOADED;
}

/* All of them, each to its shard's leader, until each is done. */
static void ask_all(struct command *commands, const uint32_t *numbers, uint32_t count) {
    static struct ask asks[BATCH_MAX];
    bool done[BATCH_MAX] = {false}, open[BATCH_MAX] = {false};
    uint32_t left = count;
    for (int tries = 0; left > 0; tries++) {
        demand(tries < 60000, "%u commands have no answer", left);
        for (uint32_t i = 0; i < count; i++) {
            if (open[i] && asks[i].answered) {
                uint16_t code = asks[i].result.code;
                open[i] = false;
                if (is_asked_again(code)) continue;
                demand(code == RESULT_OK, "order %u: %s", numbers[i], result_code_name(code));
                took(numbers[i], commands[i].kind == COMMAND_PLACE);
                done[i] = true;
                left--;
            } else if (!open[i] && !done[i]) {
                int leader = group_leader(&world, group_shard_of(&world, &commands[i]));
                open[i] = leader >= 0 &&
                          group_offer(&world, (uint32_t)leader, &asks[i], &commands[i]);
            }
        }
        group_run(&world, 1);
    }
}

static void work(void) {
    struct command commands[BATCH_MAX];
    uint32_t numbers[BATCH_MAX], count = 0;
    static uint32_t oldest;
    while (oldest < orders_count && !orders[oldest].alive) oldest++;
    for (uint32_t n = oldest; n < orders_count; n++) {
        if (!orders[n].alive || orders[n].ends_ms > world.now_ms) continue;
        commands[count] = end_of(n);
        numbers[count++] = n;
        if (count < BATCH_MAX) continue;
        ask_all(commands, numbers, count);
        count = 0;
    }
    ask_all(commands, numbers, count);
    for (count = 0; count < given.orders && count < BATCH_MAX; count++) {
        require(orders_count < ORDERS_MAX);
        numbers[count] = orders_count++;
        commands[count] = place_next(numbers[count]);
    }
    ask_all(commands, numbers, count);
}

/* -- judging ----------------------------------------------------------------------------------- */

static void check_store(uint32_t i) {
    struct bytes id = bytes_of_text(stores[i].id);
    struct id128 key = store_key(id, false);
    uint32_t home = routing_shard_of_store(world.view.stores_shards, id);
    const struct shard *leader = group_shard(&world, group_await_leader(&world, home), home);
    const struct actor *a =
        shard_actor(leader, actor_table_find(&leader->table, ACTOR_STORE, &key));
    struct store_view v;
    demand(a != NULL, "store %u is not at its home, shard %u", i, home);
    store_view(a, &v);
    demand(v.open_orders == stores[i].open && v.placed_orders == stores[i].placed,
           "store %u counts %d open orders of %u, not %d of %u", i, (int)v.open_orders,
           (unsigned)v.placed_orders, (int)stores[i].open, (unsigned)stores[i].placed);
}

/* Once the last news has come. */
static void check_stores(void) {
    group_run(&world, 10000);
    for (uint32_t i = 0; i < STORES; i++) check_store(i);
    for (uint32_t s = 0; s < FIRST_SHARDS; s++) {
        const char *what = group_difference(&world, s);
        demand(what == NULL, "the replicas of shard %u differ in %s", s, what);
    }
}

/* By the shards' own numbers. Returns, of those that new orders go to, the largest over the
 * mean. */
static double tell(int64_t day) {
    uint64_t alive[SHARDS] = {0}, sum = 0, of_these = 0, most = 0;
    uint32_t shards = cluster_shards_begun(doc(), world.now_ms);
    group_run(&world, 100); /* a moment for what is published */
    for (uint32_t s = 0; s < world.shards; s++) {
        struct shard_stats stats;
        if (!(world.view.active[0] >> s & 1)) continue;
        shard_stats(group_shard(&world, group_await_leader(&world, s), s), &stats);
        for (uint32_t state = 0; state < 16; state++)
            if (state != ORDER_CANCELLED && state != ORDER_EXPIRED)
                alive[s] += stats.orders_by_state[state];
        sum += alive[s];
        if (s >= shards) continue;
        of_these += alive[s];
        if (alive[s] > most) most = alive[s];
    }
    demand(sum == orders_count - orders_ended, "%u orders are alive, not %u", (unsigned)sum,
           orders_count - orders_ended);
    double spread = of_these == 0 ? 0 : (double)most * shards / (double)of_these;
    printf(given.markdown ? "| %d | %u |" : "%4d  %4u", (int)day, shards);
    for (uint32_t s = 0; s < SHARDS; s++) {
        bool runs = s < world.shards && (world.view.active[0] >> s & 1);
        if (runs) printf(given.markdown ? " %u |" : "  %5u", (unsigned)alive[s]);
        else printf(given.markdown ? " |" : "      -");
    }
    printf(given.markdown ? " %.2f |\n" : "  %6.2f\n", spread);
    fflush(stdout);
    return spread;
}

static void judge(int64_t day, double spread) {
    if (day == GROW_DAY) spread_was_uneven = spread > 1.5;
    if (day == EVEN_DAY) spread_became_even = spread < 1.3;
    if (day == ANNOUNCE_DAY) demand(spread < 1.3, "two shards are not even: %.2f", spread);
}

static void end_well(void) {
    demand(spread_was_uneven, "the new shards had their share from the beginning: what is shown?");
    demand(spread_became_even, "orders are not spread evenly 32 days after the growth");
    demand(world.view.active[0] == (1u << FIRST_SHARDS) - 1, "shards that run in the end: %x",
           world.view.active[0]);
    check_stores();
    printf("%s%u orders, all commands done, the counts of %d stores right\n",
           given.markdown ? "\n" : "", orders_count, STORES);
}

/* -- the run ----------------------------------------------------------------------------------- */

static void run(void) {
    static const char head[] = " day  over  shard0 shard1 shard2 shard3  largest / mean\n";
    printf("%s", given.markdown ? "| day | new orders go to | shard 0 | 1 | 2 | 3 | largest / mean "
                                  "|\n| --- | --- | --- | --- | --- | --- | --- |\n"
                                : head);
    int64_t told = -1;
    for (int64_t step = 0;; step++) {
        int64_t day = (world.now_ms - start_ms) / DAY_MS;
        if (day == ANNOUNCE_DAY && world.view.epochs_count == 1)
            grow(SHARDS, start_ms + GROW_DAY * DAY_MS);
        if (day == SHRINK_DAY - 1 && world.view.epochs_count == 2)
            grow(FIRST_SHARDS, start_ms + SHRINK_DAY * DAY_MS);
        keep_document(day);
        work();
        bool listed = day <= GROW_DAY + 1 || day % 4 == 0 || day == SHRINK_DAY;
        if (day > told && listed) judge(day, tell(day));
        told = day;
        if (day >= LAST_DAY) break;
        group_run(&world, STEP_MS); /* messages between shards come and go meanwhile */
        world.now_ms += (int64_t)given.step_hours * HOUR_MS;
    }
    end_well();
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--markdown") == 0) given.markdown = true;
        else if (strcmp(argv[i], "--step-hours") == 0) given.step_hours = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--orders") == 0) given.orders = (uint32_t)atoi(value);
        else if (strcmp(argv[i], "--seed") == 0) given.seed = (uint64_t)atoll(value);
        else continue;
    }
    if (given.step_hours < 1 || given.step_hours > 24 || given.orders < 1 ||
        given.orders > BATCH_MAX) {
        fprintf(stderr, "usage: sim_growth [--step-hours 1..24] [--orders 1..%d] [--seed S] "
                        "[--markdown]\n", BATCH_MAX);
        return 2;
    }
    log_set_level(LOG_LEVEL_ERROR);
    prng_seed(&prng, given.seed);
    for (uint32_t i = 0; i < STORES; i++) snprintf(stores[i].id, sizeof stores[i].id, "s%u", i);
    const struct group_setup setup = {
        .shards = FIRST_SHARDS, .checkpoint_age_ms = 20,
        .disk = {.seed = given.seed, .append_ms_max = 1, .checkpoint_ms_max = 2, .load_ms_max = 1},
        .network = {.seed = given.seed}}; /* in order, as between two nodes */
    group_open(&world, &setup);
    start_ms = world.now_ms;
    found();
    show_document();
    run();
    group_close(&world);
    free(document);
    return 0;
}
