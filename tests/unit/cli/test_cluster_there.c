/* What is told of the nodes that answer, or do not, at the addresses of a cluster's members. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clients/cli/cli_cluster_there.h"
#include "engine/base/hex.h"
#include "engine/wire/msgpack_pairs.h"

enum { NODES = 3, BYTES = 768 };

struct told { const char *state, *cluster_id; uint32_t node; bool document, full, orders; };

/* A cluster of nodes 1, 2 and 3 with one shard on all of them. */
static struct cluster_document document;
static char ours[CLUSTER_ID_BYTES];
static char sentence[BYTES];

static int setup(void **state) {
    (void)state;
    memset(&document, 0, sizeof document);
    memset(document.cluster_id.bytes, 0xab, sizeof document.cluster_id.bytes);
    hex_format(document.cluster_id.bytes, 16, ours);
    document.nodes_count = NODES;
    document.shards_count = 1;
    document.shards[0] = (struct cluster_shard){.state = CLUSTER_SHARD_ACTIVE,
                                                .servers_count = NODES};
    for (uint32_t i = 0; i < NODES; i++) {
        document.nodes[i].node = i + 1;
        document.nodes[i].state = CLUSTER_MEMBER_ACTIVE;
        snprintf(document.nodes[i].client, ENDPOINT_BYTES_MAX, "tcp://10.0.0.%u:7400", i + 1);
        document.shards[0].servers[i] = i + 1;
    }
    return 0;
}

static void pack(struct msgpack_writer *w, const struct told *told) {
    msgpack_write_map(w, 3u + (told->state != NULL) + told->document);
    if (told->state) msgpack_pair_text(w, "state", told->state);
    msgpack_pair_text(w, "cluster_id", told->cluster_id);
    msgpack_pair_uint(w, told->state ? "node" : "node_id", told->node);
    if (told->document) msgpack_pair_uint(w, "document", 7);
    msgpack_write_text(w, "shards");
    if (told->state) {
        msgpack_write_uint(w, told->orders ? 4 : 0);
        return;
    }
    msgpack_write_array(w, 2);
    for (uint32_t i = 0; i < 2; i++) {
        msgpack_write_map(w, 1);
        msgpack_write_text(w, "disk_full");
        msgpack_write_bool(w, told->full && i == 1);
    }
}

/* What is at node 2's address when a node says this; NULL = nobody does. */
static struct cluster_there look(const struct told *told) {
    struct cluster_there there;
    struct cluster_status status = {0};
    struct msgpack_writer w;
    uint8_t buffer[512];
    size_t offset = 0;
    if (!told) {
        cluster_there_of(&document, &document.nodes[1], NULL, &there);
        return there;
    }
    msgpack_writer_init(&w, buffer, sizeof buffer);
    pack(&w, told);
    assert_true(msgpack_writer_ok(&w));
    msgpack_unpacked_init(&status.unpacked);
    assert_int_equal(msgpack_unpack_next(&status.unpacked, (const char *)buffer,
                                         msgpack_writer_size(&w), &offset),
                     MSGPACK_UNPACK_SUCCESS);
    status.map = &status.unpacked.data;
    cluster_there_of(&document, &document.nodes[1], &status, &there);
    msgpack_unpacked_destroy(&status.unpacked);
    return there;
}

static void is_told(const struct told *told, enum cluster_there_kind kind, const char *part) {
    struct cluster_there there = look(told);
    assert_int_equal(there.kind, kind);
    bool fault = cluster_there_fault(&document.nodes[1], &there, sentence, sizeof sentence);
    assert_int_equal(fault, part != NULL);
    if (part && !strstr(sentence, part)) fail_msg("\"%s\" lacks \"%s\"", sentence, part);
    assert_int_equal(cluster_there_counts(&there),
                     kind == CLUSTER_THERE_MEMBER || kind == CLUSTER_THERE_FULL);
}

static void each_kind_is_told(void **state) {
    (void)state;
    const char *other = "00112233445566778899aabbccddeeff";
    is_told(&(struct told){NULL, ours, 2, true, false, false}, CLUSTER_THERE_MEMBER, NULL);
    is_told(&(struct told){NULL, ours, 2, true, true, false}, CLUSTER_THERE_FULL,
            "node 2: the disk is full");
    is_told(&(struct told){"waiting", "", 0, false, false, false}, CLUSTER_THERE_WAITS,
            "jumun cluster replace 2 tcp://10.0.0.2:7400");
    is_told(&(struct told){"waiting", other, 1, false, false, true}, CLUSTER_THERE_WAITS,
            "a node with orders of 00112233");
    is_told(&(struct told){NULL, other, 2, true, false, false}, CLUSTER_THERE_STRANGER,
            "node 2 of another cluster, 00112233");
    is_told(&(struct told){NULL, ours, 3, true, false, false}, CLUSTER_THERE_STRANGER,
            "node 3 of this cluster");
    is_told(&(struct told){NULL, other, 1, false, true, false}, CLUSTER_THERE_STRANGER,
            "a node alone, of id 00112233");
    /* What `cluster recover` makes of a member keeps the cluster's id. */
    is_told(&(struct told){NULL, ours, 2, false, false, false}, CLUSTER_THERE_STRANGER,
            "a node alone");
    is_told(NULL, CLUSTER_THERE_SILENT, "does not answer at tcp://10.0.0.2:7400");
}

static void a_removed_one_may_be_anything(void **state) {
    (void)state;
    struct cluster_there there = look(NULL);
    document.nodes[1].state = CLUSTER_MEMBER_REMOVED;
    assert_false(cluster_there_fault(&document.nodes[1], &there, sentence, sizeof sentence));
}

static bool group(enum cluster_there_kind a, enum cluster_there_kind b, enum cluster_there_kind c,
                  bool led) {
    const struct cluster_there there[NODES] = {{.kind = a}, {.kind = b}, {.kind = c}};
    return cluster_there_group_fault(&document, &document.shards[0], there, led, sentence,
                                     sizeof sentence);
}

static void a_group_needs_a_majority_and_a_leader(void **state) {
    (void)state;
    const enum cluster_there_kind up = CLUSTER_THERE_MEMBER, full = CLUSTER_THERE_FULL,
                                  away = CLUSTER_THERE_SILENT, other = CLUSTER_THERE_STRANGER;
    assert_false(group(up, full, away, true));
    assert_true(group(up, up, away, false));
    assert_non_null(strstr(sentence, "no node leads it now (2 of its 3 replicas answer)"));
    assert_true(group(up, other, away, true));
    assert_non_null(strstr(sentence, "1 of its 3 replicas answers: that is no majority"));
    document.shards[0].state = CLUSTER_SHARD_RETIRED;
    assert_false(group(away, away, away, false));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_kind_is_told, setup),
        cmocka_unit_test_setup(a_removed_one_may_be_anything, setup),
        cmocka_unit_test_setup(a_group_needs_a_majority_and_a_leader, setup)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
