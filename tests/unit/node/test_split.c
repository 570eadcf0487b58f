#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "engine/router/split.h"

enum { COMMANDS = 64, SHARDS = 5 };

static struct shard_map map;
static struct command commands[COMMANDS];
static struct result results[COMMANDS];
static struct request_part parts[COMMANDS];
static uint32_t part_shards[COMMANDS], positions[COMMANDS], shard_of[COMMANDS];
static struct split split = {parts, part_shards, positions, shard_of, 0, 0};
static int done_calls;

static void on_done(struct request *request) { done_calls++; }

static struct request request_of(uint32_t count) {
    done_calls = 0;
    return (struct request){.commands_count = count, .commands = commands, .results = results,
                            .done = on_done};
}

static void fill_keys(uint32_t count) {
    memset(commands, 0, sizeof commands);
    for (uint32_t i = 0; i < count; i++) {
        commands[i].kind = COMMAND_PAY;
        commands[i].subject.bytes[0] = 1;
        commands[i].subject.bytes[10] = (uint8_t)i;
        commands[i].subject.bytes[15] = (uint8_t)(i * 7);
    }
}

/* Each command in exactly one part, the part of its shard, in order. */
static void check_parts(const struct request *r) {
    bool seen[COMMANDS] = {false};
    for (uint32_t p = 0; p < split.parts_count; p++) {
        const struct request_part *part = &split.parts[p];
        assert_true(part->request == r);
        assert_true(part->count > 0 && part->bytes > 0);
        for (uint32_t i = 0; i < part->count; i++) {
            uint32_t position = request_part_position(part, i);
            assert_false(seen[position]);
            seen[position] = true;
            assert_int_equal(shard_map_route(&map, &commands[position]), part_shards[p]);
            if (i > 0) assert_true(position > request_part_position(part, i - 1));
        }
    }
    for (uint32_t i = 0; i < r->commands_count; i++)
        assert_int_equal(seen[i], !split_is_local(&commands[i]));
}

static void commands_go_to_the_shards_of_their_keys(void **state) {
    shard_map_init(&map, SHARDS);
    fill_keys(COMMANDS);
    struct request r = request_of(COMMANDS);
    split_request(&map, &r, 10000, SPLIT_NO_SHARD, &split);
    assert_int_equal(split.parts_count, SHARDS); /* 64 keys meet all five */
    assert_int_equal(split.stray_commands, 0);
    assert_int_equal(r.parts_left, SHARDS + 1);
    check_parts(&r);
}

static void one_shard_needs_no_positions(void **state) {
    shard_map_init(&map, 1);
    fill_keys(COMMANDS);
    struct request r = request_of(COMMANDS);
    split_request(&map, &r, 10000, 0, &split);
    assert_int_equal(split.parts_count, 1);
    assert_null(parts[0].positions);
    assert_int_equal(parts[0].count, COMMANDS);
    assert_int_equal(split.stray_commands, 0);
    check_parts(&r);
}

static void malformed_and_node_commands_visit_no_shard(void **state) {
    shard_map_init(&map, SHARDS);
    fill_keys(8);
    commands[1].malformed = RESULT_WRONG_TYPE;
    commands[2].kind = 101;
    commands[5].malformed = RESULT_KEY_MISSING;
    struct request r = request_of(8);
    split_request(&map, &r, 500, SPLIT_NO_SHARD, &split);
    check_parts(&r);
    for (uint32_t i = 0; i < 8; i++) commands[i].malformed = RESULT_WRONG_TYPE;
    r = request_of(8);
    split_request(&map, &r, 500, 3, &split);
    assert_int_equal(split.parts_count, 0);
    assert_int_equal(split.stray_commands, 0);
    assert_int_equal(done_calls, 0);
    split_release(&r);
    assert_int_equal(done_calls, 1);
}

static void commands_of_the_cluster_go_to_its_group(void **state) {
    shard_map_init(&map, SHARDS);
    fill_keys(COMMANDS);
    commands[3].kind = COMMAND_CLUSTER_GET;
    commands[9].kind = COMMAND_CLUSTER_DRAIN;
    struct request r = request_of(COMMANDS);
    split_request(&map, &r, 10000, SPLIT_NO_SHARD, &split);
    assert_int_equal(split.parts_count, SHARDS + 1);
    assert_int_equal(part_shards[SHARDS], SHARD_META);
    assert_int_equal(parts[SHARDS].count, 2);
    assert_int_equal(request_part_position(&parts[SHARDS], 1), 9);
    check_parts(&r);
}

static void strays_are_counted(void **state) {
    shard_map_init(&map, SHARDS);
    fill_keys(COMMANDS);
    uint32_t others = 0;
    for (uint32_t i = 0; i < COMMANDS; i++) others += shard_map_route(&map, &commands[i]) != 2;
    struct request r = request_of(COMMANDS);
    split_request(&map, &r, 10000, 2, &split);
    assert_int_equal(split.stray_commands, others);
    assert_true(others > 0 && others < COMMANDS);
}

static void stores_go_by_their_id(void **state) {
    shard_map_init(&map, SHARDS);
    memset(commands, 0, sizeof commands);
    commands[0].kind = COMMAND_STORE_PAUSE;
    commands[0].store.store = bytes_of_text("store-1");
    commands[1].kind = COMMAND_STORE_GET;
    commands[1].store.store = bytes_of_text("store-1");
    commands[1].subject.bytes[15] = 9; /* must not matter */
    uint32_t expected = routing_shard_of_store(SHARDS, bytes_of_text("store-1"));
    assert_int_equal(shard_map_route(&map, &commands[0]), expected);
    assert_int_equal(shard_map_route(&map, &commands[1]), expected);
}

/* The caller's hold keeps a request alive until all its parts are offered. */
static void done_comes_after_the_last_part_and_the_release(void **state) {
    shard_map_init(&map, SHARDS);
    fill_keys(COMMANDS);
    struct request r = request_of(COMMANDS);
    split_request(&map, &r, 10000, SPLIT_NO_SHARD, &split);
    for (uint32_t p = 0; p < split.parts_count; p++) request_part_done(&split.parts[p]);
    assert_int_equal(done_calls, 0);
    split_release(&r);
    assert_int_equal(done_calls, 1);
}

static void endpoints_of_shards(void **state) {
    char out[ENDPOINT_BYTES_MAX], error[256];
    assert_true(shard_map_endpoint_of("tcp://127.0.0.1:7400", 0, out, sizeof out, error, 256));
    assert_string_equal(out, "tcp://127.0.0.1:7401");
    assert_true(shard_map_endpoint_of("tcp://[::1]:7400", 9, out, sizeof out, error, 256));
    assert_string_equal(out, "tcp://[::1]:7410");
    assert_true(shard_map_endpoint_of("tcp://127.0.0.1:0", 3, out, sizeof out, error, 256));
    assert_string_equal(out, "tcp://127.0.0.1:0");
    assert_true(shard_map_endpoint_of("ipc:///tmp/x", 1, out, sizeof out, error, 256));
    assert_string_equal(out, "ipc:///tmp/x-shard-1");
    assert_false(shard_map_endpoint_of("tcp://localhost", 0, out, sizeof out, error, 256));
    assert_non_null(strstr(error, "tcp://host:port"));
    assert_false(shard_map_endpoint_of("tcp://h:65535", 0, out, sizeof out, error, 256));
    assert_non_null(strstr(error, "65536"));
    assert_false(shard_map_endpoint_of("tcp://h:70000", 0, out, sizeof out, error, 256));
}

static void expect_map(const struct leaders *leaders, const uint8_t *expected, size_t size) {
    uint32_t bytes = 0;
    void *encoded = shard_map_encode(&map, leaders, &bytes);
    assert_non_null(encoded);
    assert_int_equal(bytes, size);
    assert_memory_equal(encoded, expected, size);
    free(encoded);
}

static void the_map_on_the_wire(void **state) {
    shard_map_init(&map, 2);
    map.shard_endpoints[0][0] = 'a';
    map.shard_endpoints[1][0] = 'b';
    map.feed_endpoint[0] = 'f';
    static const uint8_t expected[] = {0x84, 0xa6, 'e', 'p', 'o', 'c', 'h', 's', 0x91, 0x92, 0, 2,
                                       0xa6, 's', 'h', 'a', 'r', 'd', 's', 0x92, 0x92, 0, 0xa1,
                                       'a', 0x92, 1, 0xa1, 'b', 0xa4, 'f', 'e', 'e', 'd', 0xa1,
                                       'f', 0xa6, 'n', 'o', 't', 'i', 'f', 'y', 0xa0};
    expect_map(NULL, expected, sizeof expected);
}

/* Of a cluster: each shard at the node that leads it; nothing where nobody is known to. */
static void the_map_of_a_cluster(void **state) {
    static struct leaders leaders;
    char endpoint[ENDPOINT_BYTES_MAX];
    leaders_init(&leaders);
    shard_map_init(&map, 2);
    map.node = 1;
    map.version = 9;
    map.nodes_count = 1;
    map.nodes[0] = (struct shard_map_node){.node = 7, .endpoint = "tcp://h:1"};
    leaders_note(&leaders, 7, 1, 3, 7, true);
    leaders_note(&leaders, 8, 0, 3, 8, true); /* a node that the map does not have */
    static const uint8_t expected[] = {0x86, 0xa6, 'e', 'p', 'o', 'c', 'h', 's', 0x91, 0x92, 0, 2,
                                       0xa6, 's', 'h', 'a', 'r', 'd', 's', 0x92, 0x92, 0, 0xa0,
                                       0x92, 1, 0xa9, 't', 'c', 'p', ':', '/', '/', 'h', ':', '3',
                                       0xa4, 'f', 'e', 'e', 'd', 0xa0, 0xa6, 'n', 'o', 't', 'i',
                                       'f', 'y', 0xa0, 0xa5, 'n', 'o', 'd', 'e', 's', 0x91, 0x92,
                                       7, 0xa9, 't', 'c', 'p', ':', '/', '/', 'h', ':', '1', 0xa7,
                                       'v', 'e', 'r', 's', 'i', 'o', 'n', 9};
    expect_map(&leaders, expected, sizeof expected);
    assert_true(shard_map_endpoint_at(&map, 7, 0, endpoint));
    assert_string_equal(endpoint, "tcp://h:2");
    assert_false(shard_map_endpoint_at(&map, 8, 0, endpoint));
    assert_false(shard_map_endpoint_at(&map, 0, 0, endpoint));
    assert_false(shard_map_endpoint_at(&map, 7, SHARDS_MAX, endpoint));
    assert_true(shard_map_endpoint_at(&map, 7, SHARD_META, endpoint));
    assert_string_equal(endpoint, "tcp://h:1");
    leaders_fini(&leaders);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_go_to_the_shards_of_their_keys),
        cmocka_unit_test(one_shard_needs_no_positions),
        cmocka_unit_test(malformed_and_node_commands_visit_no_shard),
        cmocka_unit_test(commands_of_the_cluster_go_to_its_group),
        cmocka_unit_test(strays_are_counted),
        cmocka_unit_test(stores_go_by_their_id),
        cmocka_unit_test(done_comes_after_the_last_part_and_the_release),
        cmocka_unit_test(endpoints_of_shards),
        cmocka_unit_test(the_map_on_the_wire),
        cmocka_unit_test(the_map_of_a_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
