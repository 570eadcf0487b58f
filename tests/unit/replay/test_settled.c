/* What a node's answer to STATUS tells of how far its logs are settled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "clients/replay/settled.h"
#include "engine/wire/msgpack_pairs.h"

#define RUN "ffeeddccbbaa99887766554433221100"

static struct settled told;
static uint8_t bytes[4096];
static struct msgpack_writer w;

/* A reply with one result, whose value is a map of so many pairs. */
static void begin(unsigned code, unsigned pairs) {
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, 1);
    msgpack_write_uint(&w, 0);
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, 6);
    msgpack_write_uint(&w, code);
    for (unsigned i = 0; i < 4; i++) msgpack_write_uint(&w, 0);
    msgpack_write_map(&w, pairs);
}

static void shard(uint64_t number, uint64_t index, uint64_t term, uint64_t unsettled) {
    msgpack_write_map(&w, 5);
    msgpack_pair_uint(&w, "shard", number);
    msgpack_pair_uint(&w, "settled_index", index);
    msgpack_pair_uint(&w, "last_index", 99);
    msgpack_pair_uint(&w, "settled_term", term);
    msgpack_pair_uint(&w, "unsettled", unsettled);
}

static bool decode(void) { return settled_decode(bytes, msgpack_writer_size(&w), &told); }

static void what_a_node_tells_is_read(void **state) {
    (void)state;
    begin(0, 4);
    msgpack_pair_text(&w, "run", RUN);
    msgpack_pair_uint(&w, "node_id", 3);
    msgpack_pair_uint(&w, "what_is_to_come", 7);
    msgpack_write_text(&w, "shards");
    msgpack_write_array(&w, 5);
    shard(0, 70, 4, 2);
    shard(SHARDS_MAX, 70, 4, 0);       /* the meta group, or nonsense */
    msgpack_write_map(&w, 2);          /* of an older version */
    msgpack_pair_uint(&w, "shard", 1);
    msgpack_pair_uint(&w, "commit_index", 60);
    shard(2, 0, 0, 5);
    shard(3, 70, 0, 0);                /* without a term it says nothing */
    assert_true(decode());
    assert_string_equal(told.run, RUN);
    assert_int_equal(told.node_id, 3);
    assert_true(told.shards[0].here);
    assert_int_equal(told.shards[0].index, 70);
    assert_int_equal(told.shards[0].term, 4);
    assert_int_equal(told.shards[0].unsettled, 2);
    assert_false(told.shards[1].here);
    assert_true(told.shards[2].here);
    assert_int_equal(told.shards[2].unsettled, 5);
    assert_false(told.shards[3].here);
    for (size_t cut = 0; cut < msgpack_writer_size(&w); cut++)
        assert_false(settled_decode(bytes, cut, &told));
}

static void what_is_no_status_is_refused(void **state) {
    (void)state;
    begin(3, 0); /* not ready */
    assert_false(decode());
    begin(0, 1);
    msgpack_write_text(&w, "run");
    msgpack_write_text(&w, RUN "00");
    assert_false(decode());
    begin(0, 1);
    msgpack_pair_uint(&w, "shards", 2);
    assert_false(decode());
    begin(0, 0);
    assert_true(decode());
    assert_string_equal(told.run, "");
}

static void a_directory_tells_who_runs_on_it(void **state) {
    (void)state;
    static const struct { const char *text; bool told; } locks[] = {
        {"", false}, {"{}", false}, {"{\"run\": \"" RUN "\"}", false},
        {"{\"run\": \"" RUN "00\", \"endpoint\": \"tcp://h:1\"}", false},
        {"{\"run\": \"" RUN "\", \"endpoint\": \"\"}", false},
        {"{\"run\": \"" RUN "\", \"endpoint\": \"tcp://h:1\"}\n", true}};
    char directory[] = "/tmp/jumun-settled-XXXXXX", path[64], run[CLUSTER_ID_BYTES];
    char endpoint[ENDPOINT_BYTES_MAX];
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/lock", directory);
    assert_false(settled_runs_on(directory, run, endpoint));
    for (size_t i = 0; i < sizeof locks / sizeof *locks; i++) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(locks[i].text, f);
        fclose(f);
        assert_int_equal(settled_runs_on(directory, run, endpoint), locks[i].told);
    }
    assert_string_equal(run, RUN);
    assert_string_equal(endpoint, "tcp://h:1");
    unlink(path);
    rmdir(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_node_tells_is_read),
        cmocka_unit_test(what_is_no_status_is_refused),
        cmocka_unit_test(a_directory_tells_who_runs_on_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
