/* Whose clock is told to be wrong, by what the nodes of a cluster say of each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clients/cli/cli_cluster_clocks.h"
#include "engine/wire/msgpack_pairs.h"

enum { NODES_AT_MOST = 5, OFF_MS = 5000 };

static struct cluster_document document;
static struct cluster_there there[NODES_AT_MOST];
static struct cluster_status statuses[NODES_AT_MOST];
static char sentence[512];

/* Nodes 1 to `count`, whose clocks are so much ahead of the right time, and what they say. */
static void nodes(uint32_t count, const int64_t *ahead_ms) {
    memset(&document, 0, sizeof document);
    document.nodes_count = count;
    for (uint32_t i = 0; i < count; i++) {
        static uint8_t buffers[NODES_AT_MOST][512]; /* texts stay there */
        struct msgpack_writer w;
        size_t offset = 0;
        document.nodes[i].node = i + 1;
        there[i] = (struct cluster_there){.kind = CLUSTER_THERE_MEMBER};
        msgpack_writer_init(&w, buffers[i], sizeof buffers[i]);
        msgpack_write_map(&w, 1);
        msgpack_write_text(&w, "nodes");
        msgpack_write_array(&w, count - 1);
        for (uint32_t other = 0; other < count; other++) {
            int64_t apart_ms = ahead_ms[other] - ahead_ms[i];
            if (other == i) continue;
            msgpack_write_map(&w, 3);
            msgpack_pair_uint(&w, "node", other + 1);
            msgpack_write_text(&w, "clock_ahead_ms");
            msgpack_write_int(&w, apart_ms);
            msgpack_write_text(&w, "clock_off");
            msgpack_write_bool(&w, apart_ms > OFF_MS || apart_ms < -OFF_MS);
        }
        msgpack_unpacked_init(&statuses[i].unpacked);
        assert_int_equal(msgpack_unpack_next(&statuses[i].unpacked, (const char *)buffers[i],
                                             msgpack_writer_size(&w), &offset),
                         MSGPACK_UNPACK_SUCCESS);
        statuses[i].map = &statuses[i].unpacked.data;
    }
}

static void nodes_end(void) {
    for (uint32_t i = 0; i < document.nodes_count; i++)
        msgpack_unpacked_destroy(&statuses[i].unpacked);
}

static bool wrong(uint32_t node) {
    return cluster_clock_fault(&document, statuses, there, node - 1, sentence, sizeof sentence);
}

static bool differ(void) {
    return cluster_clocks_differ(&document, statuses, there, sentence, sizeof sentence);
}

static void assert_says(const char *text) {
    if (!strstr(sentence, text)) fail_msg("\"%s\" lacks: %s", sentence, text);
}

static void test_one_of_three_is_wrong(void **state) {
    nodes(3, (const int64_t[]){0, 300000, 0});
    assert_false(wrong(1));
    assert_false(wrong(3));
    assert_true(wrong(2));
    assert_says("node 2: its clock is 5 min");
    assert_says("ahead of that of node 3");
    nodes_end();
}

static void test_of_two_none_is_blamed(void **state) {
    nodes(2, (const int64_t[]){0, -300000});
    assert_false(wrong(1));
    assert_false(wrong(2));
    assert_true(differ());
    assert_says("nodes 1 and 2: their clocks are 5 min");
    assert_says("that of node 1 is ahead");
    nodes_end();
    nodes(2, (const int64_t[]){0, 4000});
    assert_false(differ());
    nodes_end();
}

/* The third one is away: two are left, and none knows. */
static void test_of_two_that_answer_none_is_blamed(void **state) {
    nodes(3, (const int64_t[]){0, 300000, 0});
    there[2].kind = CLUSTER_THERE_SILENT;
    assert_false(wrong(1));
    assert_false(wrong(2));
    assert_true(differ());
    assert_says("that of node 2 is ahead");
    nodes_end();
}

static void test_two_against_two_are_not_blamed(void **state) {
    nodes(4, (const int64_t[]){0, 0, 300000, 300000});
    for (uint32_t node = 1; node <= 4; node++) assert_false(wrong(node));
    assert_true(differ());
    nodes_end();
    nodes(5, (const int64_t[]){0, 0, 0, 300000, 300000});
    for (uint32_t node = 1; node <= 5; node++) assert_int_equal(wrong(node), node > 3);
    nodes_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_of_three_is_wrong),
        cmocka_unit_test(test_of_two_none_is_blamed),
        cmocka_unit_test(test_of_two_that_answer_none_is_blamed),
        cmocka_unit_test(test_two_against_two_are_not_blamed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
