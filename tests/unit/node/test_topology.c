/* The cluster file: what a good one gives, and that each fault is refused with a sentence that
 * names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/node/topology.h"

#define ID "\"cluster_id\": \"0123456789abcdef0123456789abcdef\", "
#define NODE(n)                                                                                    \
    "{\"node\": " #n ", \"peers\": \"tcp://h:730" #n "\", \"clients\": \"tcp://h:740" #n "\"}"
#define THREE "\"nodes\": [" NODE(1) ", " NODE(2) ", " NODE(3) "]"

static char error[1024];

static struct cluster_topology *read_text(const char *text, uint32_t node) {
    char path[] = "/tmp/jumun-topology-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    error[0] = 0;
    struct cluster_topology *t = topology_read(path, node, error, sizeof error);
    unlink(path);
    return t;
}

static void expect_refusal(const char *text, uint32_t node, const char *words) {
    struct cluster_topology *t = read_text(text, node);
    assert_null(t);
    if (!strstr(error, words)) print_error("\"%s\" does not say \"%s\"\n", error, words);
    assert_non_null(strstr(error, words));
}

static void test_groups_are_dealt_round(void **state) {
    struct cluster_topology *t = read_text("{" ID "\"shards\": 4, " THREE "}", 2);
    assert_non_null(t);
    assert_int_equal(t->version, 1);
    assert_int_equal(t->nodes_count, 3);
    assert_int_equal(topology_shards_count(t), 4);
    assert_int_equal(t->groups_count, 4);
    for (uint32_t s = 0; s < 4; s++) {
        const struct cluster_group *g = topology_group(t, s);
        assert_int_equal(g->placement.count, 3);
        assert_int_equal(g->first_servers_count, 3);
        assert_int_equal(g->placement.preferred, s % 3 + 1);
        assert_int_equal(topology_own_server(t, g), 2);
    }
    assert_string_equal(topology_node(t, 3)->peer_endpoint, "tcp://h:7303");
    assert_null(topology_node(t, 4));
    assert_null(topology_group(t, 4));
    free(t);
}

static void test_groups_as_given(void **state) {
    struct cluster_topology *t = read_text(
        "{" ID "\"version\": 7, \"shards\": 2, " THREE ", \"replicas\": 3, \"groups\": "
        "[{\"shard\": 1, \"nodes\": [3, 1, 2], \"preferred\": 2}, {\"shard\": 65535, \"nodes\": "
        "[3]}]}", 1);
    assert_non_null(t);
    const struct cluster_group *g = topology_group(t, 1);
    assert_int_equal(g->placement.version, 7);
    assert_int_equal(g->placement.servers[0], 3);
    assert_int_equal(g->placement.preferred, 2);
    assert_int_equal(topology_group(t, 0)->placement.preferred, 1);
    assert_int_equal(topology_own_server(t, topology_group(t, SHARD_META)), 0);
    free(t);
}

static void test_faults_are_named(void **state) {
    expect_refusal("{", 1, "cannot be read");
    expect_refusal("{\"shards\": 1, " THREE "}", 1, "cluster_id");
    expect_refusal("{\"cluster_id\": \"01\", \"shards\": 1, " THREE "}", 1, "32 hexadecimal");
    expect_refusal("{" ID "\"shards\": 0, " THREE "}", 1, "\"shards\"");
    expect_refusal("{" ID "\"shards\": 257, " THREE "}", 1, "\"shards\"");
    expect_refusal("{" ID "\"shards\": 1, \"nodes\": []}", 1, "at least one node");
    expect_refusal("{" ID "\"shards\": 1, \"nodes\": 3}", 1, "at least one node");
    expect_refusal("{" ID "\"shards\": 1, \"node\": 3, " THREE "}", 1, "node");
    expect_refusal("{" ID "\"shards\": 1, " THREE "}", 4, "node 4 is not a node");
    expect_refusal("{" ID "\"shards\": 1, \"nodes\": [" NODE(1) ", " NODE(1) "]}", 1,
                   "the same number");
    expect_refusal("{" ID "\"shards\": 1, \"nodes\": [" NODE(1) ", {\"node\": 2, \"peers\": "
                   "\"tcp://h:7301\", \"clients\": \"tcp://h:7402\"}]}", 1, "same peer endpoint");
    expect_refusal("{" ID "\"shards\": 1, \"nodes\": [{\"node\": 0, \"peers\": \"tcp://h:7301\", "
                   "\"clients\": \"tcp://h:7402\"}]}", 1, "number from 1");
    expect_refusal("{" ID "\"shards\": 1, \"replicas\": 2, " THREE "}", 1, "has 2 replicas");
    expect_refusal("{" ID "\"shards\": 1, \"level\": 0, " THREE "}", 1, "can work at");
    expect_refusal("{" ID "\"shards\": 1, \"level\": 63, " THREE "}", 1, "\"level\" is 63");
    expect_refusal("{" ID "\"shards\": 1, \"replicas\": 5, " THREE "}", 1, "do not fit");
    expect_refusal("{" ID "\"shards\": 1, " THREE ", \"groups\": [{\"shard\": 0, \"nodes\": "
                   "[1, 2, 2]}]}", 1, "names node 2 twice");
    expect_refusal("{" ID "\"shards\": 1, " THREE ", \"groups\": [{\"shard\": 0, \"nodes\": "
                   "[1, 2, 9]}]}", 1, "node 9");
    expect_refusal("{" ID "\"shards\": 1, " THREE ", \"groups\": [{\"shard\": 0, \"nodes\": [1]}, "
                   "{\"shard\": 0, \"nodes\": [2]}]}", 1, "placed twice");
    expect_refusal("{" ID "\"shards\": 1, " THREE ", \"groups\": [{\"shard\": 300, \"nodes\": "
                   "[1]}]}", 1, "300 is no number");
    expect_refusal("{" ID "\"shards\": 1, " THREE ", \"groups\": [{\"shard\": 0}]}", 1, "nodes");
}

static void test_epochs_are_checked(void **state) {
    struct cluster_topology *t = read_text("{" ID "\"shards\": 2, " THREE "}", 1);
    assert_non_null(t);
    t->epochs[1] = (struct routing_epoch){1000, 5};
    t->epochs_count = 2;
    assert_true(topology_check(t, error, sizeof error));
    assert_int_equal(topology_shards_count(t), 5);
    t->epochs[1].from_ms = 0;
    assert_false(topology_check(t, error, sizeof error));
    free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_are_dealt_round),
        cmocka_unit_test(test_groups_as_given),
        cmocka_unit_test(test_faults_are_named),
        cmocka_unit_test(test_epochs_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
