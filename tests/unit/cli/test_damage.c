/* What is read of damage in a node's STATUS, and what an older or an odd one gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "clients/cli/cli_cluster_damage.h"
#include "clients/cli/cli_damage.h"
#include "engine/wire/msgpack_pairs.h"

static msgpack_unpacked row;

static void row_of(const struct msgpack_writer *w, const uint8_t *bytes) {
    size_t offset = 0;
    msgpack_unpacked_init(&row);
    assert_int_equal(msgpack_unpack_next(&row, (const char *)bytes, msgpack_writer_size(w),
                                         &offset),
                     MSGPACK_UNPACK_SUCCESS);
}

static void write_damage(struct msgpack_writer *w, uint64_t damages, uint64_t index,
                         uint64_t upto) {
    msgpack_write_map(w, 3);
    msgpack_pair_uint(w, "shard", 1);
    msgpack_pair_uint(w, "damages", damages);
    msgpack_write_text(w, "damage");
    msgpack_write_map(w, 5);
    msgpack_write_text(w, "kind");
    msgpack_write_text(w, "record_damaged");
    msgpack_write_text(w, "where");
    msgpack_write_text(w, "log-00000000000000000001");
    msgpack_pair_uint(w, "index", index);
    msgpack_pair_uint(w, "upto", upto);
    msgpack_write_text(w, "what");
    msgpack_write_text(w, "checksum does not match");
}

static void expect_text(uint64_t damages, uint64_t index, uint64_t upto, const char *wanted) {
    static uint8_t bytes[1024];
    struct msgpack_writer w;
    struct cli_damage d;
    char text[400];
    msgpack_writer_init(&w, bytes, sizeof bytes);
    write_damage(&w, damages, index, upto);
    row_of(&w, bytes);
    assert_int_equal(cli_damage_of(&row.data, &d), wanted != NULL);
    if (wanted) assert_string_equal(cli_damage_text(&d, text, sizeof text), wanted);
    if (wanted) assert_string_equal(d.kind, "record_damaged");
    msgpack_unpacked_destroy(&row);
}

static void test_sentences(void **state) {
    expect_text(0, 41, 41, NULL);
    expect_text(1, 41, 41, "log-00000000000000000001, record 41: checksum does not match");
    expect_text(2, 41, 47, "log-00000000000000000001, records 41 to 47: checksum does not match, "
                "and 1 other place");
    expect_text(9, 0, 0, "log-00000000000000000001: checksum does not match, and 8 other places");
}

static void test_older_and_odd_nodes(void **state) {
    static uint8_t bytes[256];
    struct msgpack_writer w;
    struct cli_damage d;
    char text[400];
    assert_false(cli_damage_of(NULL, &d));
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_map(&w, 1);
    msgpack_pair_uint(&w, "shard", 1);
    row_of(&w, bytes);
    assert_false(cli_damage_of(&row.data, &d));
    msgpack_unpacked_destroy(&row);
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_map(&w, 2);
    msgpack_pair_uint(&w, "damages", 3);
    msgpack_pair_uint(&w, "damage", 3);
    row_of(&w, bytes);
    assert_true(cli_damage_of(&row.data, &d));
    assert_string_equal(cli_damage_text(&d, text, sizeof text), ": , and 2 other places");
    msgpack_unpacked_destroy(&row);
}

/* Of three nodes the second says so of the second of two shards. */
static void test_of_a_cluster(void **state) {
    static struct cluster_document document = {
        .nodes_count = 3, .shards_count = 2,
        .nodes = {{.node = 1}, {.node = 2}, {.node = 7}},
        .shards = {{.shard = 0}, {.shard = 1}}};
    static struct cluster_status statuses[3];
    static struct cluster_there there[3] = {{.kind = CLUSTER_THERE_MEMBER},
                                            {.kind = CLUSTER_THERE_MEMBER},
                                            {.kind = CLUSTER_THERE_SILENT}};
    static uint8_t bytes[1024];
    struct msgpack_writer w;
    char sentence[512] = "";
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_map(&w, 1);
    msgpack_write_text(&w, "shards");
    msgpack_write_array(&w, 1);
    write_damage(&w, 2, 41, 41);
    row_of(&w, bytes);
    statuses[1].map = statuses[2].map = &row.data;
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(cluster_damage_fault(&document, statuses, there, i / 2, i % 2, sentence,
                                              sizeof sentence), i == 3);
    assert_string_equal(sentence, "shard 1: node 2 is damaged on its disk: "
                        "log-00000000000000000001, record 41: checksum does not match, and 1 "
                        "other place. Put an empty node in its place: jumun cluster replace 2 URL");
    msgpack_unpacked_destroy(&row);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_older_and_odd_nodes),
        cmocka_unit_test(test_of_a_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
