/* Random commands against a model that shares nothing with the rules but their text: it says which
 * answer is due, who the nodes are, what the epochs are, and what may have changed. Where replicas
 * are is not predicted but judged: enough of them, on different nodes that are there, under server
 * ids that never come back, and no more moved than the command is about. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engine/base/prng.h"
#include "tests/unit/actors/cluster_world.h"

enum { SEEDS = 150, STEPS = 250, NODE_NUMBERS = 400, ADDRESSES = 90, MODEL_SHARDS = 40,
       IDS_MAX = 20000, ANY_CODE = 0xffff };

enum state { NEVER = 0, ACTIVE, DRAINING, REMOVED };

struct model {
    enum state nodes[NODE_NUMBERS];
    uint32_t addresses[NODE_NUMBERS];  /* both of a node have the same number */
    uint32_t node_last, replicas, shards, stores;
    struct { int64_t from_ms; uint32_t shards; } epochs[64];
    uint32_t epochs_count;
    bool retired[MODEL_SHARDS];
    struct { uint32_t shard; uint64_t server; bool gone; } ids[IDS_MAX];
    uint32_t ids_count;
};

static struct cluster_world world;
static struct model model;
static struct cluster_document before;

static const struct cluster_shard *shard_of(uint32_t n) { return cluster_shard_find(&before, n); }

static uint32_t actives(void) {
    uint32_t count = 0;
    for (uint32_t n = 0; n < NODE_NUMBERS; n++) count += model.nodes[n] == ACTIVE;
    return count;
}

static uint32_t members(void) {
    uint32_t count = 0;
    for (uint32_t n = 0; n < NODE_NUMBERS; n++)
        count += model.nodes[n] == ACTIVE || model.nodes[n] == DRAINING;
    return count;
}

static bool address_taken(uint32_t address, uint32_t but) {
    for (uint32_t n = 1; n < NODE_NUMBERS; n++)
        if (n != but && (model.nodes[n] == ACTIVE || model.nodes[n] == DRAINING) &&
            model.addresses[n] == address)
            return true;
    return false;
}

static uint16_t node_code(uint32_t node) {
    if (node == 0 || node >= NODE_NUMBERS || model.nodes[node] == NEVER)
        return RESULT_CLUSTER_NODE_UNKNOWN;
    return model.nodes[node] == REMOVED ? RESULT_CLUSTER_NODE_IS_REMOVED : RESULT_OK;
}

static bool hosts(const struct cluster_shard *s, uint32_t node) {
    for (uint32_t i = 0; i < s->servers_count; i++)
        if ((uint32_t)s->servers[i] == node) return true;
    return false;
}

static uint16_t shard_code(uint32_t shard) {
    if (shard != SHARD_META && shard >= model.shards) return RESULT_CLUSTER_SHARD_UNKNOWN;
    return shard != SHARD_META && model.retired[shard] ? RESULT_CLUSTER_SHARD_IS_RETIRED
                                                       : RESULT_OK;
}

/* Whether every running shard can be led when `without` does not count (0 = nobody). */
static bool all_led_without(uint32_t without) {
    for (uint32_t i = 0; i <= model.shards; i++) {
        uint32_t number = i < model.shards ? i : SHARD_META;
        if (shard_code(number) != RESULT_OK) continue;
        bool led = false;
        const struct cluster_shard *s = shard_of(number);
        for (uint32_t k = 0; k < s->servers_count; k++) {
            uint32_t node = (uint32_t)s->servers[k];
            led = led || (node != without && model.nodes[node] == ACTIVE);
        }
        if (!led) return false;
    }
    return true;
}

static uint16_t drain_code(uint32_t node) {
    uint16_t code = node_code(node);
    if (code != RESULT_OK) return code;
    if (model.nodes[node] == DRAINING) return RESULT_CLUSTER_NODE_NOT_ACTIVE;
    return all_led_without(node) ? RESULT_OK : RESULT_CLUSTER_LAST_ACTIVE;
}

/* Each running shard with a replica there needs an active node without one. */
static uint16_t remove_code(uint32_t node) {
    uint16_t code = node_code(node);
    if (code != RESULT_OK) return code;
    for (uint32_t i = 0; i <= model.shards; i++) {
        uint32_t number = i < model.shards ? i : SHARD_META;
        if (shard_code(number) != RESULT_OK || !hosts(shard_of(number), node)) continue;
        uint32_t free_nodes = 0;
        for (uint32_t n = 1; n < NODE_NUMBERS; n++)
            free_nodes += model.nodes[n] == ACTIVE && n != node && !hosts(shard_of(number), n);
        if (free_nodes == 0) return RESULT_CLUSTER_NODES_TOO_FEW;
    }
    return RESULT_OK;
}

static uint16_t move_code(uint32_t shard, uint32_t from, uint32_t to) {
    if (node_code(from) != RESULT_OK) return node_code(from);
    if (node_code(to) != RESULT_OK) return node_code(to);
    if (shard_code(shard) != RESULT_OK) return shard_code(shard);
    if (!hosts(shard_of(shard), from)) return RESULT_CLUSTER_NO_REPLICA_THERE;
    if (hosts(shard_of(shard), to)) return RESULT_CLUSTER_REPLICA_THERE;
    return model.nodes[to] == ACTIVE ? RESULT_OK : RESULT_CLUSTER_NODE_NOT_ACTIVE;
}

static uint16_t prefer_code(uint32_t shard, uint32_t node) {
    if (node_code(node) != RESULT_OK) return node_code(node);
    if (shard_code(shard) != RESULT_OK) return shard_code(shard);
    if (!hosts(shard_of(shard), node)) return RESULT_CLUSTER_NO_REPLICA_THERE;
    if (model.nodes[node] != ACTIVE) return RESULT_CLUSTER_NODE_NOT_ACTIVE;
    return shard_of(shard)->preferred == node ? RESULT_CLUSTER_NOTHING_TO_DO : RESULT_OK;
}

static bool grow_revives(uint32_t shards) {
    for (uint32_t i = 0; i < shards && i < model.shards; i++)
        if (model.retired[i]) return true;
    return false;
}

static uint16_t grow_code(uint32_t shards, int64_t from_ms) {
    uint32_t newest = model.epochs_count - 1;
    if (shards < 1 || shards > 256) return RESULT_CLUSTER_SHARDS_INVALID;
    if (from_ms < world.now_ms + 70000 || from_ms <= model.epochs[newest].from_ms)
        return RESULT_CLUSTER_EPOCH_TOO_SOON;
    if (model.epochs[newest].shards == shards) return RESULT_CLUSTER_NOTHING_TO_DO;
    if (grow_revives(shards)) return ANY_CODE;
    bool enough = shards <= model.shards || actives() >= model.replicas;
    return enough ? RESULT_OK : RESULT_CLUSTER_NODES_TOO_FEW;
}

static uint16_t cancel_code(void) {
    uint32_t newest = model.epochs_count - 1;
    if (newest == 0 || model.epochs[newest].from_ms < world.now_ms + 70000)
        return RESULT_CLUSTER_NO_EPOCH_AHEAD;
    return grow_revives(model.epochs[newest - 1].shards) ? ANY_CODE : RESULT_OK;
}

static uint16_t retire_code(uint32_t shard) {
    if (shard_code(shard) != RESULT_OK) return shard_code(shard);
    if (shard == SHARD_META || shard < model.stores) return RESULT_CLUSTER_SHARD_IN_USE;
    for (uint32_t i = 0; i < model.epochs_count; i++) {
        bool last = i + 1 == model.epochs_count;
        int64_t lifetime_ms = 31LL * 24 * 3600 * 1000 + 60000;
        if (model.epochs[i].shards > shard &&
            (last || world.now_ms - model.epochs[i + 1].from_ms < lifetime_ms))
            return RESULT_CLUSTER_SHARD_IN_USE;
    }
    return RESULT_OK;
}

static uint32_t shards_now(void) {
    uint32_t shards = model.epochs[0].shards;
    for (uint32_t i = 0; i < model.epochs_count; i++)
        if (model.epochs[i].from_ms <= world.now_ms) shards = model.epochs[i].shards;
    return shards;
}

/* -- what a command may have done -------------------------------------------------------------- */

static void note_id(uint32_t shard, uint64_t server) {
    for (uint32_t i = 0; i < model.ids_count; i++) {
        if (model.ids[i].shard != shard || model.ids[i].server != server) continue;
        assert_false(model.ids[i].gone); /* a removed id never returns */
        return;
    }
    assert_true(model.ids_count < IDS_MAX);
    model.ids[model.ids_count].shard = shard;
    model.ids[model.ids_count].server = server;
    model.ids[model.ids_count++].gone = false;
}

static void judge_ids(const struct cluster_shard *was, const struct cluster_shard *is) {
    for (uint32_t i = 0; i < is->servers_count; i++) note_id(is->shard, is->servers[i]);
    for (uint32_t i = 0; was && i < was->servers_count; i++) {
        bool stays = false;
        for (uint32_t k = 0; k < is->servers_count; k++)
            stays = stays || is->servers[k] == was->servers[i];
        for (uint32_t k = 0; k < model.ids_count && !stays; k++)
            if (model.ids[k].shard == is->shard && model.ids[k].server == was->servers[i])
                model.ids[k].gone = true;
    }
}

/* Replicas of running shards that are on another node than before. */
static uint32_t replicas_moved(const struct cluster_document *d) {
    uint32_t moved = 0;
    for (uint32_t i = 0; i < d->shards_count; i++) {
        const struct cluster_shard *was = shard_of(d->shards[i].shard);
        for (uint32_t k = 0; was && k < was->servers_count; k++)
            moved += !hosts(&d->shards[i], (uint32_t)was->servers[k]);
    }
    return moved;
}

static uint32_t replicas_on(uint32_t node) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < before.shards_count; i++)
        count += before.shards[i].state == CLUSTER_SHARD_ACTIVE && hosts(&before.shards[i], node);
    return count;
}

static void judge_nodes(const struct cluster_document *d) {
    uint32_t listed = 0;
    for (uint32_t n = 1; n < NODE_NUMBERS; n++) {
        const struct cluster_member *m = cluster_member_find(d, n);
        if (model.nodes[n] == ACTIVE || model.nodes[n] == DRAINING) {
            assert_non_null(m);
            assert_int_equal(m->state, model.nodes[n]);
            assert_true(bytes_equal(bytes_of_text(m->peer),
                                    cluster_world_peer(model.addresses[n])));
        }
        if (m) assert_int_equal(m->state, model.nodes[n]);
        listed += m != NULL;
    }
    assert_int_equal(listed, d->nodes_count);
    assert_int_equal(d->node_last, model.node_last);
}

static void judge(void) {
    const struct cluster_document *d = cluster_world_document(&world);
    judge_nodes(d);
    assert_int_equal(d->epochs_count, model.epochs_count);
    for (uint32_t i = 0; i < d->epochs_count; i++) {
        assert_int_equal(d->epochs[i].from_ms, model.epochs[i].from_ms);
        assert_int_equal(d->epochs[i].shards_count, model.epochs[i].shards);
    }
    assert_int_equal(d->stores_shards, model.stores);
    assert_int_equal(d->shards_count, model.shards + 1);
    for (uint32_t i = 0; i < d->shards_count; i++) {
        const struct cluster_shard *s = &d->shards[i];
        bool retired = i < model.shards && model.retired[i];
        assert_int_equal(s->state == CLUSTER_SHARD_RETIRED, retired);
        assert_int_equal(s->servers_count, model.replicas);
        for (uint32_t k = 0; k < s->servers_count; k++) {
            enum state state = model.nodes[(uint32_t)s->servers[k]];
            assert_true(retired || state == ACTIVE || state == DRAINING);
            for (uint32_t j = 0; j < k; j++)
                assert_int_not_equal((uint32_t)s->servers[k], (uint32_t)s->servers[j]);
        }
        assert_true(hosts(s, s->preferred));
        judge_ids(shard_of(s->shard), s);
    }
}

/* -- the steps --------------------------------------------------------------------------------- */

static struct prng prng;

static uint32_t some_node(void) { return (uint32_t)prng_below(&prng, model.node_last + 2); }
static uint32_t some_shard(void) {
    return prng_chance(&prng, 1, 8) ? SHARD_META : (uint32_t)prng_below(&prng, model.shards + 1);
}
static uint32_t some_address(void) { return 1 + (uint32_t)prng_below(&prng, ADDRESSES - 1); }

static uint16_t run(uint8_t kind, const struct command_cluster *fields, uint16_t expected) {
    struct command c = cluster_world_command(&world, kind);
    c.cluster = *fields;
    uint16_t code = cluster_world_run(&world, &c).code;
    if (expected != ANY_CODE && code != expected)
        fail_msg("%s: %s, the model says %s", command_kind_name(kind), result_code_name(code),
                 result_code_name(expected));
    return code;
}

static void step_nodes(uint32_t what) {
    uint32_t node = some_node(), address = some_address();
    struct command_cluster c = {.node = node, .peer = cluster_world_peer(address),
                                .client = cluster_world_client(address)};
    uint16_t code = node_code(node);
    if (what == 0) {
        code = members() == NODES_MAX        ? RESULT_CLUSTER_NODES_TOO_MANY
               : address_taken(address, 0)   ? RESULT_CLUSTER_NODE_TWICE
                                             : RESULT_OK;
        if (run(COMMAND_CLUSTER_ADD_NODE, &c, code) != RESULT_OK) return;
        model.nodes[++model.node_last] = ACTIVE;
        model.addresses[model.node_last] = address;
        assert_int_equal(replicas_moved(cluster_world_document(&world)), 0);
    } else if (what == 1) {
        if (run(COMMAND_CLUSTER_REMOVE_NODE, &c, remove_code(node)) != RESULT_OK) return;
        model.nodes[node] = REMOVED;
        assert_int_equal(replicas_moved(cluster_world_document(&world)), replicas_on(node));
    } else if (what == 2) {
        if (code == RESULT_OK && address_taken(address, node)) code = RESULT_CLUSTER_NODE_TWICE;
        if (run(COMMAND_CLUSTER_REPLACE_NODE, &c, code) != RESULT_OK) return;
        model.nodes[node] = REMOVED;
        model.nodes[++model.node_last] = ACTIVE;
        model.addresses[model.node_last] = address;
        assert_int_equal(replicas_moved(cluster_world_document(&world)), replicas_on(node));
    } else {
        if (address_taken(address, node)) code = RESULT_CLUSTER_NODE_TWICE;
        else if (code == RESULT_OK && model.addresses[node] == address)
            code = RESULT_CLUSTER_NOTHING_TO_DO;
        if (run(COMMAND_CLUSTER_READDRESS_NODE, &c, code) == RESULT_OK)
            model.addresses[node] = address;
    }
}

static void step_drain(bool drain) {
    uint32_t node = some_node();
    uint16_t code = drain ? drain_code(node) : node_code(node);
    if (!drain && code == RESULT_OK && model.nodes[node] != DRAINING)
        code = RESULT_CLUSTER_NODE_NOT_DRAINING;
    uint8_t kind = drain ? COMMAND_CLUSTER_DRAIN : COMMAND_CLUSTER_UNDRAIN;
    if (run(kind, &(struct command_cluster){.node = node}, code) == RESULT_OK)
        model.nodes[node] = drain ? DRAINING : ACTIVE;
}

static void step_replicas(uint32_t what) {
    struct command_cluster c = {.shard = some_shard(), .node = some_node(), .to = some_node()};
    if (what == 0) {
        if (run(COMMAND_CLUSTER_MOVE_REPLICA, &c, move_code(c.shard, c.node, c.to)) == RESULT_OK)
            assert_int_equal(replicas_moved(cluster_world_document(&world)), 1);
    } else if (what == 1) {
        run(COMMAND_CLUSTER_PREFER, &c, prefer_code(c.shard, c.node));
    } else {
        run(COMMAND_CLUSTER_BALANCE, &c, ANY_CODE);
    }
}

static void step_epochs(uint32_t what) {
    struct command_cluster c = {.shard = some_shard(), .shards = 1 + some_shard() % 24,
                                .from_ms = world.now_ms + prng_between(&prng, 60000, 200000)};
    if (what == 0 && model.epochs_count < 60) {
        if (run(COMMAND_CLUSTER_GROW, &c, grow_code(c.shards, c.from_ms)) != RESULT_OK) return;
        model.epochs[model.epochs_count].from_ms = c.from_ms;
        model.epochs[model.epochs_count++].shards = c.shards;
        if (c.shards > model.shards) model.shards = c.shards;
        for (uint32_t i = 0; i < c.shards; i++) model.retired[i] = false;
    } else if (what == 1) {
        if (run(COMMAND_CLUSTER_CANCEL_GROW, &c, cancel_code()) != RESULT_OK) return;
        model.epochs_count--;
        uint32_t shards = model.epochs[model.epochs_count - 1].shards;
        for (uint32_t i = 0; i < shards; i++) model.retired[i] = false;
    } else if (what == 2) {
        if (run(COMMAND_CLUSTER_RETIRE_SHARD, &c, retire_code(c.shard)) == RESULT_OK)
            model.retired[c.shard] = true;
    } else {
        uint16_t code = shards_now() == model.stores ? RESULT_CLUSTER_NOTHING_TO_DO : RESULT_OK;
        if (run(COMMAND_CLUSTER_MOVE_STORES, &c, code) == RESULT_OK) model.stores = shards_now();
    }
}

static void step(void) {
    bool jump = prng_chance(&prng, 1, 40);
    before = *cluster_world_document(&world);
    world.now_ms += jump ? 40LL * 86400000 : prng_between(&prng, 0, 60000);
    switch (prng_below(&prng, 12)) {
    case 0: step_nodes(0); break;
    case 1: step_nodes(1); break;
    case 2: step_nodes(2); break;
    case 3: step_nodes(3); break;
    case 4: step_drain(true); break;
    case 5: step_drain(false); break;
    case 6: step_replicas(0); break;
    case 7: step_replicas(prng_chance(&prng, 1, 2)); break;
    case 8: step_replicas(2); break;
    default: step_epochs((uint32_t)prng_below(&prng, 4)); break;
    }
    judge();
}

static void random_commands_do_what_the_model_says(void **unused) {
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        prng_seed(&prng, seed);
        cluster_world_init(&world);
        uint32_t nodes = 3 + (uint32_t)prng_below(&prng, 5);
        uint32_t shards = 1 + (uint32_t)prng_below(&prng, 12);
        uint32_t replicas = nodes >= 5 && prng_chance(&prng, 1, 3) ? 5 : 3;
        cluster_world_formed(&world, nodes, shards, replicas);
        memset(&model, 0, sizeof model);
        model.node_last = nodes;
        for (uint32_t n = 1; n <= nodes; n++) {
            model.nodes[n] = ACTIVE;
            model.addresses[n] = n;
        }
        model.replicas = replicas;
        model.shards = model.stores = model.epochs[0].shards = shards;
        model.epochs_count = 1;
        memset(&before, 0, sizeof before);
        judge();
        for (uint32_t i = 0; i < STEPS; i++) step();
        cluster_world_fini(&world);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_commands_do_what_the_model_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
