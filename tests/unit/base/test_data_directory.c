#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/data_directory.h"

static char directory[] = "/tmp/jumun-data-directory-XXXXXX", error[512];

static const char *inside(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void put(const char *name) {
    FILE *f = fopen(inside(name), "w");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
}

static void drop(const char *name) { assert_int_equal(unlink(inside(name)), 0); }

static bool refused(enum data_directory own) {
    return data_directory_is_refused(directory, own, error, sizeof error);
}

static void an_empty_one_is_free_to_all(void **state) {
    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(data_directory_of(directory), DATA_DIRECTORY_FREE);
    assert_int_equal(data_directory_of(inside("none")), DATA_DIRECTORY_FREE);
    assert_false(refused(DATA_DIRECTORY_NODE) || refused(DATA_DIRECTORY_REPLICA));
    put("file");
    assert_int_equal(data_directory_of(inside("file")), DATA_DIRECTORY_NONE);
    assert_true(data_directory_is_refused(inside("file"), DATA_DIRECTORY_NODE, error,
                                          sizeof error));
    assert_non_null(strstr(error, "file is not a directory"));
    assert_int_equal(data_directory_of(inside("file/below")), DATA_DIRECTORY_NONE);
    drop("file");
}

static void each_refuses_the_others(void **state) {
    static const char *const nodes[] = {"node.json", "cluster.msgpack", "cluster.msgpack.adopted",
                                        "lock"};
    (void)state;
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        put(nodes[i]);
        assert_false(refused(DATA_DIRECTORY_NODE));
        assert_true(refused(DATA_DIRECTORY_REPLICA));
        assert_non_null(strstr(error, "of a node (jumund)"));
        drop(nodes[i]);
    }
    put("views.incoming");
    assert_true(refused(DATA_DIRECTORY_NODE));
    assert_non_null(strstr(error, "of a replica (jumun-replica)"));
    assert_false(refused(DATA_DIRECTORY_REPLICA));
    drop("views.incoming");
    put("backup.json");
    assert_true(refused(DATA_DIRECTORY_NODE) && refused(DATA_DIRECTORY_REPLICA));
    assert_non_null(strstr(error, "is a backup"));
    drop("backup.json");
}

/* As an earlier mistake left them: the logs are what matters, and a lock alone is nothing. */
static void one_of_both_is_the_nodes(void **state) {
    (void)state;
    assert_int_equal(mkdir(inside("views"), 0700), 0);
    assert_int_equal(data_directory_of(directory), DATA_DIRECTORY_FREE);
    put("views/data.mdb");
    put("lock");
    assert_int_equal(data_directory_of(directory), DATA_DIRECTORY_REPLICA);
    put("node.json");
    assert_int_equal(data_directory_of(directory), DATA_DIRECTORY_NODE);
    drop("node.json");
    drop("lock");
    drop("views/data.mdb");
    assert_int_equal(rmdir(inside("views")), 0);
    assert_int_equal(rmdir(directory), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_empty_one_is_free_to_all),
                                       cmocka_unit_test(each_refuses_the_others),
                                       cmocka_unit_test(one_of_both_is_the_nodes)};
    return cmocka_run_group_tests_name("data_directory", tests, NULL, NULL);
}
