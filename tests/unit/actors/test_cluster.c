/* The cluster document: what each command does, and what refuses it. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "tests/unit/actors/cluster_world.h"

static struct cluster_world world;

static int setup(void **unused) {
    cluster_world_init(&world);
    return 0;
}
static int teardown(void **unused) {
    cluster_world_fini(&world);
    return 0;
}

static const struct cluster_document *document(void) { return cluster_world_document(&world); }

#define check(command, expected) \
    assert_int_equal(cluster_world_run(&world, &(command)).code, (expected))

/* A command with its fields: run(MOVE_REPLICA, RESULT_OK, .shard = 0, .node = 1, .to = 4). */
#define run(name, expected, ...)                                                       \
    do {                                                                               \
        struct command made = cluster_world_command(&world, COMMAND_CLUSTER_##name);   \
        made.cluster = (struct command_cluster){__VA_ARGS__};                          \
        check(made, expected);                                                         \
    } while (0)

static void add_nodes(uint32_t from, uint32_t to) {
    for (uint32_t n = from; n <= to; n++)
        run(ADD_NODE, RESULT_OK, .peer = cluster_world_peer(n), .client = cluster_world_client(n));
}

static void forming_says_everything(void **unused) {
    run(GET, RESULT_CLUSTER_NOT_FORMED, .node = 0);
    run(DRAIN, RESULT_CLUSTER_NOT_FORMED, .node = 1);
    struct command form = cluster_world_form(&world, 3, 4, 3);
    check(form, RESULT_OK);
    assert_int_equal(world.event_kind, EVENT_CLUSTER_CHANGED);
    const struct cluster_document *d = document();
    assert_int_equal(d->nodes_count, 3);
    assert_int_equal(d->node_last, 3);
    assert_int_equal(d->shards_count, 5);
    assert_int_equal(d->epochs_count, 1);
    assert_int_equal(d->epochs[0].from_ms, 0);
    assert_int_equal(d->epochs[0].shards_count, 4);
    assert_int_equal(d->stores_shards, 4);
    assert_int_equal(d->shards[0].first_count, 3);
    assert_memory_equal(d->shards[0].first, d->shards[0].servers, sizeof d->shards[0].first);
    assert_string_equal(d->nodes[2].peer, "tcp://10.0.0.3:7300");
    assert_true(id128_equal(&world.cluster->key, &form.subject));
    struct decision again = cluster_world_run(&world, &form);
    assert_true(again.repeated && again.code == RESULT_OK && again.version == 1);
    form.id.bytes[3]++;
    check(form, RESULT_CLUSTER_FORMED_ALREADY);
    form = cluster_world_command(&world, COMMAND_CLUSTER_GET);
    check(form, RESULT_OK);
}

static void forming_from_data_leaves_the_first_servers_out(void **unused) {
    struct command form = cluster_world_form(&world, 3, 2, 3);
    form.cluster.seeded = true;
    check(form, RESULT_OK);
    assert_int_equal(document()->shards[0].first_count, 0);
    assert_int_equal(cluster_shard_find(document(), SHARD_META)->first_count, 3);
}

static const struct cluster_epoch epochs_before[] = {{.shards_count = 2},
                                                      {.from_ms = 5000, .shards_count = 4},
                                                      {.from_ms = 7000, .shards_count = 3}};

static struct command form_again(void) {
    struct command form = cluster_world_form(&world, 3, 4, 3);
    form.cluster.seeded = true;
    form.cluster.epochs = epochs_before;
    form.cluster.epochs_count = 3;
    form.cluster.stores_shards = 2;
    form.cluster.generation = 1;
    return form;
}

/* What is left of a cluster that had grown. */
static void forming_goes_on_with_epochs(void **unused) {
    struct command form = form_again();
    check(form, RESULT_OK);
    const struct cluster_document *d = document();
    assert_int_equal(d->epochs_count, 3);
    assert_memory_equal(d->epochs, epochs_before, sizeof epochs_before);
    assert_int_equal(d->shards_count, 5);
    assert_int_equal(d->shards[3].servers_count, 3);
    assert_int_equal(d->stores_shards, 2);
    assert_int_equal(d->generation, 1);
    run(MOVE_STORES, RESULT_OK, .node = 0);
    assert_int_equal(document()->stores_shards, 3);
    run(GROW, RESULT_OK, .shards = 5, .from_ms = world.now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN);
    assert_int_equal(document()->epochs_count, 4);
    assert_int_equal(document()->generation, 1);
}

static void epochs_that_make_no_sense_are_refused(void **unused) {
    struct cluster_epoch wrong[] = {{.shards_count = 2}, {.from_ms = 5000, .shards_count = 5}};
    struct command form = form_again();
    form.cluster.epochs = wrong;
    form.cluster.epochs_count = 2;
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    wrong[1] = (struct cluster_epoch){.from_ms = 0, .shards_count = 4};
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    wrong[1] = (struct cluster_epoch){.from_ms = 1, .shards_count = 0};
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    wrong[1].shards_count = 4;
    wrong[0].from_ms = -1;
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    form = form_again();
    form.cluster.stores_shards = 5;
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    form.cluster.stores_shards = 0;
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    form = form_again();
    form.cluster.epochs_count = EPOCHS_MAX + 1;
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    form = form_again();
    form.cluster.seeded = false; /* there are no orders that were spread by them */
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    assert_null(world.cluster);
}

static void forming_refuses(void **unused) {
    struct cluster_founder *nodes;
    struct command form = cluster_world_form(&world, 2, 4, 3);
    check(form, RESULT_CLUSTER_NODES_TOO_FEW);
    form = cluster_world_form(&world, 4, 4, 5);
    check(form, RESULT_CLUSTER_NODES_TOO_FEW);
    form = cluster_world_form(&world, NODES_MAX + 1, 4, 3);
    check(form, RESULT_CLUSTER_NODES_TOO_MANY);
    form = cluster_world_form(&world, 3, 4, 4);
    check(form, RESULT_CLUSTER_NODES_TOO_FEW);
    form = cluster_world_form(&world, 4, 4, 4);
    check(form, RESULT_CLUSTER_REPLICAS_INVALID);
    form = cluster_world_form(&world, 3, 4, 1);
    check(form, RESULT_CLUSTER_REPLICAS_INVALID);
    form = cluster_world_form(&world, 4, 4, 3);
    form.cluster.seeded = true;
    check(form, RESULT_CLUSTER_REPLICAS_INVALID);
    form = cluster_world_form(&world, 3, 0, 3);
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    form = cluster_world_form(&world, 3, SHARDS_MAX + 1, 3);
    check(form, RESULT_CLUSTER_SHARDS_INVALID);
    form = cluster_world_form(&world, 3, 4, 3);
    form.cluster.cluster_id = (struct id128){{0}};
    check(form, RESULT_FIELD_MISSING);
    form = cluster_world_form(&world, 3, 4, 3);
    nodes = (struct cluster_founder *)(uintptr_t)form.cluster.nodes;
    nodes[2].node = 1;
    check(form, RESULT_CLUSTER_NODE_TWICE);
    nodes[2].node = 0;
    check(form, RESULT_CLUSTER_NODE_UNKNOWN);
    nodes[2].node = 3;
    nodes[2].client = nodes[0].peer;
    check(form, RESULT_CLUSTER_NODE_TWICE);
    nodes[2].client = nodes[2].peer;
    check(form, RESULT_CLUSTER_NODE_TWICE);
    nodes[2].client = bytes_of_text("10.0.0.3:7400");
    check(form, RESULT_CLUSTER_ENDPOINT_INVALID);
    nodes[2].client = bytes_of_text("");
    check(form, RESULT_FIELD_MISSING);
    assert_null(world.cluster);
}

static void every_command_is_checked_first(void **unused) {
    cluster_world_formed(&world, 3, 2, 3);
    struct command c = cluster_world_command(&world, COMMAND_CLUSTER_DRAIN);
    c.malformed = RESULT_WRONG_TYPE;
    check(c, RESULT_WRONG_TYPE);
    c = cluster_world_command(&world, COMMAND_STORE_PAUSE);
    check(c, RESULT_UNKNOWN_COMMAND);
    c = cluster_world_command(&world, COMMAND_CLUSTER_DRAIN);
    c.id = (struct id128){{0}};
    check(c, RESULT_COMMAND_ID_MISSING);
    c = cluster_world_command(&world, COMMAND_CLUSTER_DRAIN);
    c.cluster.node = 2;
    c.expected_version = 7;
    check(c, RESULT_VERSION_CONFLICT);
    c.expected_version = 1;
    check(c, RESULT_OK);
    struct decision again = cluster_world_run(&world, &c);
    assert_true(again.repeated && again.version == 2);
    c.kind = COMMAND_CLUSTER_UNDRAIN;
    check(c, RESULT_COMMAND_ID_REUSED);
}

static void nodes_come_and_go(void **unused) {
    cluster_world_formed(&world, 3, 6, 3);
    run(REMOVE_NODE, RESULT_CLUSTER_NODES_TOO_FEW, .node = 2);
    run(REMOVE_NODE, RESULT_CLUSTER_NODE_UNKNOWN, .node = 4);
    run(REMOVE_NODE, RESULT_CLUSTER_NODE_UNKNOWN, .node = 0);
    add_nodes(4, 4);
    assert_int_equal(document()->node_last, 4);
    run(ADD_NODE, RESULT_CLUSTER_NODE_TWICE, .peer = cluster_world_peer(4),
        .client = cluster_world_client(9));
    run(ADD_NODE, RESULT_CLUSTER_ENDPOINT_INVALID, .peer = bytes_of_text("tcp://a b:1"),
        .client = cluster_world_client(9));
    run(ADD_NODE, RESULT_FIELD_MISSING, .peer = cluster_world_peer(9));
    run(REMOVE_NODE, RESULT_OK, .node = 2);
    assert_int_equal(cluster_member_find(document(), 2)->state, CLUSTER_MEMBER_REMOVED);
    for (uint32_t i = 0; i < document()->shards_count; i++) {
        const struct cluster_shard *s = &document()->shards[i];
        assert_int_equal(cluster_server_on(s, 2), 0);
        assert_int_equal(cluster_server_on(s, 4), 1ULL << 32 | 4);
    }
    run(REMOVE_NODE, RESULT_CLUSTER_NODE_IS_REMOVED, .node = 2);
    /* The address of a removed node may be used again; its number is not. */
    run(ADD_NODE, RESULT_OK, .peer = cluster_world_peer(2), .client = cluster_world_client(2));
    assert_int_equal(document()->node_last, 5);
    run(REPLACE_NODE, RESULT_OK, .node = 4, .peer = cluster_world_peer(4),
        .client = cluster_world_client(4));
    assert_int_equal(cluster_server_on(&document()->shards[0], 6), 2ULL << 32 | 6);
    run(REPLACE_NODE, RESULT_CLUSTER_NODE_TWICE, .node = 6, .peer = cluster_world_peer(1),
        .client = cluster_world_client(1));
    run(REPLACE_NODE, RESULT_CLUSTER_NODE_IS_REMOVED, .node = 4, .peer = cluster_world_peer(7),
        .client = cluster_world_client(7));
}

static void nodes_change_their_address(void **unused) {
    cluster_world_formed(&world, 3, 1, 3);
    run(READDRESS_NODE, RESULT_OK, .node = 2, .peer = cluster_world_peer(8),
        .client = cluster_world_client(2));
    assert_string_equal(document()->nodes[1].peer, "tcp://10.0.0.8:7300");
    run(READDRESS_NODE, RESULT_CLUSTER_NOTHING_TO_DO, .node = 2, .peer = cluster_world_peer(8),
        .client = cluster_world_client(2));
    run(READDRESS_NODE, RESULT_CLUSTER_NODE_TWICE, .node = 2, .peer = cluster_world_peer(3),
        .client = cluster_world_client(2));
    run(READDRESS_NODE, RESULT_CLUSTER_NODE_UNKNOWN, .node = 9, .peer = cluster_world_peer(9),
        .client = cluster_world_client(9));
    run(READDRESS_NODE, RESULT_CLUSTER_ENDPOINT_INVALID, .node = 2, .peer = bytes_of_text("x://"),
        .client = cluster_world_client(2));
    run(READDRESS_NODE, RESULT_FIELD_MISSING, .node = 2, .client = cluster_world_client(2));
}

static void the_list_of_nodes_forgets_the_oldest_removed_one(void **unused) {
    cluster_world_formed(&world, 3, 1, 3);
    add_nodes(4, NODES_MAX);
    run(ADD_NODE, RESULT_CLUSTER_NODES_TOO_MANY, .peer = cluster_world_peer(100),
        .client = cluster_world_client(100));
    run(REMOVE_NODE, RESULT_OK, .node = 40);
    run(REMOVE_NODE, RESULT_OK, .node = 20);
    add_nodes(100, 100);
    assert_null(cluster_member_find(document(), 20));
    assert_non_null(cluster_member_find(document(), 40));
    assert_non_null(cluster_member_find(document(), NODES_MAX + 1));
    run(DRAIN, RESULT_CLUSTER_NODE_IS_REMOVED, .node = 20);
    run(REPLACE_NODE, RESULT_OK, .node = 1, .peer = cluster_world_peer(101),
        .client = cluster_world_client(101));
    assert_null(cluster_member_find(document(), 1));
    assert_int_equal(cluster_server_on(&document()->shards[0], NODES_MAX + 2),
                     1ULL << 32 | (NODES_MAX + 2));
}

static void draining_keeps_replicas_and_one_leader(void **unused) {
    cluster_world_formed(&world, 4, 4, 3);
    run(DRAIN, RESULT_OK, .node = 1);
    assert_int_equal(cluster_member_find(document(), 1)->state, CLUSTER_MEMBER_DRAINING);
    assert_int_equal(cluster_shard_find(document(), SHARD_META)->preferred, 1); /* comes back */
    run(DRAIN, RESULT_CLUSTER_NODE_NOT_ACTIVE, .node = 1);
    run(DRAIN, RESULT_OK, .node = 2);
    run(DRAIN, RESULT_CLUSTER_LAST_ACTIVE, .node = 3);
    run(PREFER, RESULT_CLUSTER_NODE_NOT_ACTIVE, .node = 1, .shard = SHARD_META);
    run(MOVE_REPLICA, RESULT_CLUSTER_REPLICA_THERE, .shard = SHARD_META, .node = 3, .to = 1);
    run(MOVE_REPLICA, RESULT_OK, .shard = SHARD_META, .node = 2, .to = 4);
    run(MOVE_REPLICA, RESULT_CLUSTER_NODE_NOT_ACTIVE, .shard = SHARD_META, .node = 3, .to = 2);
    run(UNDRAIN, RESULT_OK, .node = 1);
    run(UNDRAIN, RESULT_CLUSTER_NODE_NOT_DRAINING, .node = 1);
    run(UNDRAIN, RESULT_CLUSTER_NODE_UNKNOWN, .node = 77);
}

static void replicas_move(void **unused) {
    cluster_world_formed(&world, 5, 3, 3);
    const struct cluster_shard *s = cluster_shard_find(document(), 0);
    uint32_t has = cluster_server_node(s->servers[0]), lacks = 1;
    while (cluster_server_on(s, lacks)) lacks++;
    run(MOVE_REPLICA, RESULT_CLUSTER_SHARD_UNKNOWN, .shard = 3, .node = has, .to = lacks);
    run(MOVE_REPLICA, RESULT_CLUSTER_NODE_UNKNOWN, .shard = 0, .node = has, .to = 9);
    run(MOVE_REPLICA, RESULT_CLUSTER_NO_REPLICA_THERE, .shard = 0, .node = lacks, .to = has);
    run(MOVE_REPLICA, RESULT_CLUSTER_REPLICA_THERE, .shard = 0, .node = has, .to = has);
    run(MOVE_REPLICA, RESULT_OK, .shard = 0, .node = has, .to = lacks);
    s = cluster_shard_find(document(), 0);
    assert_int_equal(cluster_server_on(s, has), 0);
    assert_int_equal(cluster_server_on(s, lacks), 1ULL << 32 | lacks);
    run(MOVE_REPLICA, RESULT_OK, .shard = 0, .node = lacks, .to = has);
    assert_int_equal(cluster_server_on(cluster_shard_find(document(), 0), has), 2ULL << 32 | has);
}

static void leads_are_preferred(void **unused) {
    cluster_world_formed(&world, 4, 2, 3);
    const struct cluster_shard *s = cluster_shard_find(document(), 1);
    uint32_t other = cluster_server_node(s->servers[s->servers[0] == s->preferred]), none = 1;
    while (cluster_server_on(s, none)) none++;
    run(PREFER, RESULT_CLUSTER_NOTHING_TO_DO, .shard = 1, .node = s->preferred);
    run(PREFER, RESULT_CLUSTER_NO_REPLICA_THERE, .shard = 1, .node = none);
    run(PREFER, RESULT_CLUSTER_SHARD_UNKNOWN, .shard = 2, .node = none);
    run(PREFER, RESULT_CLUSTER_NODE_UNKNOWN, .shard = 1, .node = 12);
    run(PREFER, RESULT_OK, .shard = 1, .node = other);
    assert_int_equal(cluster_shard_find(document(), 1)->preferred, other);
}

static void growth_is_announced_and_can_be_called_off(void **unused) {
    const int64_t ahead = CLUSTER_EPOCH_AHEAD_MS_MIN;
    cluster_world_formed(&world, 3, 2, 3);
    run(GROW, RESULT_CLUSTER_SHARDS_INVALID, .shards = 0, .from_ms = world.now_ms + ahead);
    run(GROW, RESULT_CLUSTER_SHARDS_INVALID, .shards = SHARDS_MAX + 1,
        .from_ms = world.now_ms + ahead);
    run(GROW, RESULT_CLUSTER_EPOCH_TOO_SOON, .shards = 4, .from_ms = world.now_ms + ahead - 1);
    run(GROW, RESULT_CLUSTER_NOTHING_TO_DO, .shards = 2, .from_ms = world.now_ms + ahead);
    run(CANCEL_GROW, RESULT_CLUSTER_NO_EPOCH_AHEAD, .node = 0);
    run(GROW, RESULT_OK, .shards = 4, .from_ms = world.now_ms + ahead);
    assert_int_equal(document()->epochs_count, 2);
    assert_int_equal(document()->shards_count, 5);
    assert_int_equal(document()->shards[3].first_count, 3);
    assert_int_equal(document()->stores_shards, 2);
    run(GROW, RESULT_CLUSTER_EPOCH_TOO_SOON, .shards = 8, .from_ms = world.now_ms + ahead);
    run(GROW, RESULT_OK, .shards = 8, .from_ms = world.now_ms + ahead + 1);
    world.now_ms++;
    run(CANCEL_GROW, RESULT_OK, .node = 0);
    assert_int_equal(document()->epochs_count, 2);
    assert_int_equal(document()->shards_count, 9); /* they stay, for what was sent to them */
    run(CANCEL_GROW, RESULT_CLUSTER_NO_EPOCH_AHEAD, .node = 0); /* 1 ms too late */
    run(GROW, RESULT_OK, .shards = 8, .from_ms = world.now_ms + ahead);
    assert_int_equal(document()->shards_count, 9);
}

static void stores_move_once_the_epoch_has_begun(void **unused) {
    cluster_world_formed(&world, 3, 2, 3);
    run(MOVE_STORES, RESULT_CLUSTER_NOTHING_TO_DO, .node = 0);
    run(GROW, RESULT_OK, .shards = 4, .from_ms = world.now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN);
    run(MOVE_STORES, RESULT_CLUSTER_NOTHING_TO_DO, .node = 0);
    world.now_ms += CLUSTER_EPOCH_AHEAD_MS_MIN;
    run(MOVE_STORES, RESULT_OK, .node = 0);
    assert_int_equal(document()->stores_shards, 4);
}

static void empty_shards_retire_and_come_back(void **unused) {
    cluster_world_formed(&world, 5, 4, 3);
    run(GROW, RESULT_OK, .shards = 2, .from_ms = world.now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN);
    int64_t ends_ms = document()->epochs[1].from_ms;
    run(RETIRE_SHARD, RESULT_CLUSTER_SHARD_UNKNOWN, .shard = 4);
    run(RETIRE_SHARD, RESULT_CLUSTER_SHARD_IN_USE, .shard = SHARD_META);
    world.now_ms = ends_ms + CLUSTER_SHARD_LIFETIME_MS;
    run(RETIRE_SHARD, RESULT_CLUSTER_SHARD_IN_USE, .shard = 3); /* its stores are there */
    run(MOVE_STORES, RESULT_OK, .node = 0);
    world.now_ms--;
    run(RETIRE_SHARD, RESULT_CLUSTER_SHARD_IN_USE, .shard = 3);
    world.now_ms++;
    run(RETIRE_SHARD, RESULT_CLUSTER_SHARD_IN_USE, .shard = 1);
    run(RETIRE_SHARD, RESULT_OK, .shard = 3);
    run(RETIRE_SHARD, RESULT_CLUSTER_SHARD_IS_RETIRED, .shard = 3);
    struct cluster_shard was = *cluster_shard_find(document(), 3);
    run(PREFER, RESULT_CLUSTER_SHARD_IS_RETIRED, .shard = 3, .node = was.preferred);
    /* One of its nodes goes; the shard is needed again. */
    uint32_t gone = cluster_server_node(was.servers[0]);
    run(REMOVE_NODE, RESULT_OK, .node = gone);
    assert_memory_equal(&was, cluster_shard_find(document(), 3), sizeof was);
    run(GROW, RESULT_OK, .shards = 4, .from_ms = world.now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN);
    const struct cluster_shard *s = cluster_shard_find(document(), 3);
    assert_int_equal(s->state, CLUSTER_SHARD_ACTIVE);
    assert_int_equal(cluster_server_on(s, gone), 0);
    assert_int_equal(cluster_server_on(s, cluster_server_node(was.servers[1])), was.servers[1]);
    assert_int_equal(cluster_server_on(s, cluster_server_node(was.servers[2])), was.servers[2]);
}

static void a_retired_shard_can_be_lost(void **unused) {
    cluster_world_formed(&world, 6, 2, 3);
    run(GROW, RESULT_OK, .shards = 1, .from_ms = world.now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN);
    world.now_ms = document()->epochs[1].from_ms + CLUSTER_SHARD_LIFETIME_MS;
    run(MOVE_STORES, RESULT_OK, .node = 0);
    run(RETIRE_SHARD, RESULT_OK, .shard = 1);
    struct cluster_shard was = *cluster_shard_find(document(), 1);
    run(REMOVE_NODE, RESULT_OK, .node = cluster_server_node(was.servers[0]));
    run(REMOVE_NODE, RESULT_OK, .node = cluster_server_node(was.servers[2]));
    run(GROW, RESULT_CLUSTER_SHARD_LOST, .shards = 2,
        .from_ms = world.now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN);
}

static void the_list_of_epochs_is_bounded(void **unused) {
    cluster_world_formed(&world, 3, 2, 3);
    for (uint32_t i = 1; i < EPOCHS_MAX; i++)
        run(GROW, RESULT_OK, .shards = 2 + i % 2,
            .from_ms = world.now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN + i);
    run(GROW, RESULT_CLUSTER_EPOCHS_LIMIT, .shards = 2,
        .from_ms = world.now_ms + 2 * CLUSTER_EPOCH_AHEAD_MS_MIN);
    world.now_ms = document()->epochs[1].from_ms + CLUSTER_SHARD_LIFETIME_MS;
    int64_t second_ms = document()->epochs[2].from_ms;
    run(GROW, RESULT_OK, .shards = 2, .from_ms = world.now_ms + CLUSTER_EPOCH_AHEAD_MS_MIN);
    assert_int_equal(document()->epochs_count, EPOCHS_MAX);
    assert_int_equal(document()->epochs[0].from_ms, 0);
    assert_int_equal(document()->epochs[0].shards_count, 3);
    assert_int_equal(document()->epochs[1].from_ms, second_ms);
}

static void the_oldest_ids_are_forgotten(void **unused) {
    cluster_world_formed(&world, 3, 1, 3);
    struct command first = cluster_world_command(&world, COMMAND_CLUSTER_DRAIN);
    first.cluster.node = 1;
    check(first, RESULT_OK);
    for (uint32_t i = 0; i < CLUSTER_COMMANDS_MAX; i++) {
        if (i % 2 == 0) run(UNDRAIN, RESULT_OK, .node = 1);
        else run(DRAIN, RESULT_OK, .node = 1);
        bool known = i + 1 < CLUSTER_COMMANDS_MAX;
        assert_int_equal(cluster_world_run(&world, &first).repeated, known);
    }
}

static void what_is_damaged_is_found(void **unused) {
    cluster_world_formed(&world, 3, 2, 3);
    struct cluster *c = (struct cluster *)(void *)world.cluster;
    struct cluster_document good = c->document;
#define broken(change)                                                      \
    do {                                                                    \
        change;                                                             \
        assert_non_null(cluster_document_fault(&c->document));              \
        assert_false(cluster_is_well_formed(c, c->actor.bytes));            \
        c->document = good;                                                 \
        assert_true(cluster_is_well_formed(c, c->actor.bytes));             \
    } while (0)
    broken(c->document.nodes_count = NODES_MAX + 1);
    broken(c->document.nodes_count = 0);
    broken(c->document.nodes[1].node = 1);
    broken(c->document.nodes[2].node = 4);
    broken(c->document.nodes[0].state = 0);
    broken(c->document.nodes[0].state = CLUSTER_MEMBER_REMOVED);
    broken(c->document.nodes[0].peer[ENDPOINT_BYTES_MAX - 1] = 'x');
    broken(memcpy(c->document.nodes[0].peer, good.nodes[1].peer, ENDPOINT_BYTES_MAX));
    broken(c->document.shards_count = 0);
    broken(c->document.shards_count = UINT16_MAX);
    broken(c->document.shards[0].servers_count = 2);
    broken(c->document.shards[0].servers_count = 200);
    broken(c->document.shards[0].servers[0] = 9);
    broken(c->document.shards[0].servers[0] = 2);
    broken(c->document.shards[0].servers[0] |= 1ULL << 40);
    broken(c->document.shards[0].preferred = 4);
    broken(c->document.shards[0].state = CLUSTER_SHARD_RETIRED);
    broken(c->document.shards[2].state = CLUSTER_SHARD_RETIRED);
    broken(c->document.shards[1].shard = 5);
    broken(c->document.epochs_count = 0);
    broken(c->document.epochs_count = EPOCHS_MAX + 1);
    broken(c->document.epochs[0].from_ms = 1);
    broken(c->document.epochs[0].shards_count = 3);
    broken(c->document.stores_shards = 3);
    broken(c->document.replicas = 2);
    broken(c->document.cluster_id = (struct id128){{0}});
    assert_false(cluster_is_well_formed(c, c->actor.bytes - 8));
    assert_false(cluster_is_well_formed(NULL, 0));
    c->commands_count = 3;
    assert_false(cluster_is_well_formed(c, c->actor.bytes));
}

static void states_have_names(void **unused) {
    assert_string_equal(cluster_member_state_name(CLUSTER_MEMBER_ACTIVE), "active");
    assert_string_equal(cluster_member_state_name(CLUSTER_MEMBER_DRAINING), "draining");
    assert_string_equal(cluster_member_state_name(CLUSTER_MEMBER_REMOVED), "removed");
    assert_string_equal(cluster_member_state_name(9), "unknown");
    assert_string_equal(cluster_shard_state_name(CLUSTER_SHARD_ACTIVE), "active");
    assert_string_equal(cluster_shard_state_name(CLUSTER_SHARD_RETIRED), "retired");
    assert_string_equal(cluster_shard_state_name(0), "unknown");
}

int main(void) {
#define with_world(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        with_world(forming_says_everything),
        with_world(forming_from_data_leaves_the_first_servers_out),
        with_world(forming_goes_on_with_epochs),
        with_world(epochs_that_make_no_sense_are_refused),
        with_world(forming_refuses),
        with_world(every_command_is_checked_first),
        with_world(nodes_come_and_go),
        with_world(nodes_change_their_address),
        with_world(the_list_of_nodes_forgets_the_oldest_removed_one),
        with_world(draining_keeps_replicas_and_one_leader),
        with_world(replicas_move),
        with_world(leads_are_preferred),
        with_world(growth_is_announced_and_can_be_called_off),
        with_world(stores_move_once_the_epoch_has_begun),
        with_world(empty_shards_retire_and_come_back),
        with_world(a_retired_shard_can_be_lost),
        with_world(the_list_of_epochs_is_bounded),
        with_world(the_oldest_ids_are_forgotten),
        with_world(what_is_damaged_is_found),
        with_world(states_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
