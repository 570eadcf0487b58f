/* What is left of a cluster becomes a node alone: all that its groups have here is taken along, and
 * nothing of them is left in the way of the next cluster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/hex.h"
#include "engine/cluster/cluster_cache.h"
#include "engine/node/identity.h"
#include "engine/node/node_waiting.h"
#include "engine/node/recover.h"
#include "persistence/consensus.h"
#include "tests/unit/cluster/cluster_documents.h"
#include "tests/unit/persistence/storage_fixture.h"

enum { NODE = 2, RECORDS = 20 };

static struct config config;
static struct cluster_cache cache;
static struct identity identity;
static char error[512];

static const char *path_of(const char *name) {
    static char path[sizeof config.data + 80];
    snprintf(path, sizeof path, "%s/%s", config.data, name);
    return path;
}

static bool is_there(const char *name) { return access(path_of(name), F_OK) == 0; }

static void make_directory(const char *name) { assert_int_equal(mkdir(path_of(name), 0755), 0); }

static struct fixture *open_replica(const char *name, uint32_t shard) {
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->directory, sizeof f->directory, "%.100s/%s", config.data, name);
    f->options = (struct storage_lmdb_options){.directory = f->directory, .shard = shard};
    fixture_open(f);
    return f;
}

static void close_replica(struct fixture *f) {
    fixture_close(f);
    free(f);
}

static void make_replica(const char *name, uint32_t shard) {
    struct fixture *f = open_replica(name, shard);
    f->storage->ops->save_vote(f->storage, 3, 0);
    fixture_append(f, 1, RECORDS, 3, 64, 1500);
    close_replica(f);
}

static uint64_t log_last(const char *name, uint32_t shard) {
    struct fixture *f = open_replica(name, shard);
    struct storage_meta *m = fixture_meta(f);
    uint64_t last = m->log_last;
    free(m);
    close_replica(f);
    return last;
}

/* Its document and its identity, as before a recovery. */
static void make_cluster(void) {
    if (cluster_cache_save(config.data, &cache, error, sizeof error) != 0 ||
        identity_become(config.data, &identity, error, sizeof error) != 0)
        fail_msg("%s", error);
}

/* The replica of shard 0 has come back to this node, where its earlier one still lies. */
static int setup(void **state) {
    (void)state;
    snprintf(config.data, sizeof config.data, "/tmp/jumun-recover-XXXXXX");
    assert_non_null(mkdtemp(config.data));
    memset(&cache, 0, sizeof cache);
    cache.node = NODE;
    cache.version = 5;
    cluster_document_example(&cache.document);
    struct cluster_shard *s = &cache.document.shards[0];
    s->incarnation_last = 1;
    for (uint32_t i = 0; i < s->servers_count; i++)
        if (consensus_server_node(s->servers[i]) == NODE)
            s->servers[i] = consensus_server_id(NODE, 1);
    identity = (struct identity){.node_id = NODE, .shards = 2, .created_ms = 1, .clustered = true,
                                 .cluster_id = "0123456789abcdef0123456789abcdef",
                                 .ancestors = {"00000000000000000000000000000002",
                                               "00000000000000000000000000000001"},
                                 .ancestors_count = 2};
    make_cluster();
    make_directory("shard-0");
    make_directory("shard-0/earlier");
    make_replica("shard-0.1", 0);
    make_replica("shard-1", 1);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fixture_remove_tree(config.data);
    return 0;
}

static void recover(void) {
    if (recover_alone(&config, false, error, sizeof error) != EXIT_DONE)
        fail_msg("%s", error);
    struct identity now;
    assert_int_equal(identity_peek(config.data, &now, error, sizeof error), 1);
    assert_false(now.clustered);
    assert_string_not_equal(now.cluster_id, identity.cluster_id);
    char lost[CLUSTER_ID_BYTES];
    hex_format(cache.document.cluster_id.bytes, 16, lost);
    assert_int_equal(now.ancestors_count, 1 + identity.ancestors_count);
    assert_string_equal(now.ancestors[0], lost);
    assert_memory_equal(now.ancestors[1], identity.ancestors[0],
                        identity.ancestors_count * CLUSTER_ID_BYTES);
    assert_false(node_is_adopted(&config));
}

/* -- tests ------------------------------------------------------------------------------------- */

static void test_all_that_is_here_goes_on(void **state) {
    (void)state;
    recover();
    assert_true(is_there("shard-0.before/earlier"));
    assert_false(is_there("shard-0.1"));
    assert_int_equal(log_last("shard-0", 0), RECORDS + 1); /* who votes is the last one */
    assert_int_equal(log_last("shard-1", 1), RECORDS + 1);
}

/* Killed in the midst of it, before anything says that it is alone. */
static void test_one_that_was_cut_short_goes_on(void **state) {
    (void)state;
    recover();
    make_cluster();
    recover();
    assert_int_equal(log_last("shard-0", 0), RECORDS + 2);
    assert_int_equal(log_last("shard-1", 1), RECORDS + 2);
    assert_true(is_there("shard-0.before/earlier"));
    assert_false(is_there("shard-0.before-2"));
}

/* Its meta group would go by the document of the one before. */
static void test_nothing_of_it_is_left_to_the_next_cluster(void **state) {
    static const char *const left[] = {"meta", "meta.1", "shard-1.3"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        char name[64];
        if (i > 0) make_cluster();
        for (size_t k = 0; k < sizeof left / sizeof *left; k++) make_directory(left[k]);
        recover();
        for (size_t k = 0; k < sizeof left / sizeof *left; k++) {
            assert_false(is_there(left[k]));
            if (i == 0) snprintf(name, sizeof name, "%s.before", left[k]);
            else snprintf(name, sizeof name, "%s.before-%d", left[k], i + 1);
            assert_true(is_there(name));
        }
    }
}

/* What is lost with it are older ancestors, at most. */
static void test_one_whose_identity_is_lost_goes_on(void **state) {
    (void)state;
    for (int damaged = 0; damaged < 2; damaged++) {
        if (damaged) make_cluster();
        assert_int_equal(unlink(path_of("node.json")), 0);
        if (damaged) {
            FILE *f = fopen(path_of("node.json"), "w");
            assert_non_null(f);
            fputs("{", f);
            fclose(f);
        }
        identity.ancestors_count = 0;
        recover();
    }
}

/* One that was recovered says so, and of which cluster it is; one that never was in a cluster has
 * nothing to be recovered from. */
static void test_a_second_time_is_told_what_it_is(void **state) {
    struct identity now;
    (void)state;
    recover();
    assert_int_equal(identity_peek(config.data, &now, error, sizeof error), 1);
    for (int dry = 0; dry < 2; dry++) {
        assert_int_equal(recover_alone(&config, dry, error, sizeof error), EXIT_DATA);
        assert_non_null(strstr(error, "was recovered already"));
        assert_non_null(strstr(error, now.cluster_id));
        assert_non_null(strstr(error, now.ancestors[0]));
    }
    now.ancestors_count = 0;
    assert_int_equal(identity_become(config.data, &now, error, sizeof error), 0);
    assert_int_equal(recover_alone(&config, true, error, sizeof error), EXIT_DATA);
    assert_non_null(strstr(error, "is not the directory of a cluster's node"));
}

static void test_what_is_told_changes_nothing(void **state) {
    (void)state;
    make_directory("meta");
    assert_int_equal(recover_alone(&config, true, error, sizeof error), EXIT_DONE);
    assert_true(is_there("meta") && is_there("shard-0/earlier") && node_is_adopted(&config));
    assert_int_equal(log_last("shard-0.1", 0), RECORDS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_that_is_here_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_that_was_cut_short_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_of_it_is_left_to_the_next_cluster, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_one_whose_identity_is_lost_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_second_time_is_told_what_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_told_changes_nothing, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
