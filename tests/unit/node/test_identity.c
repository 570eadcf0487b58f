#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/node/identity.h"

static char directory[64], error[1024];
static struct identity who;

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "/tmp/jumun-identity-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int tear_down(void **state) { return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

static int open_as(uint64_t node_id, uint32_t shards) {
    const struct identity wanted = {.node_id = node_id, .shards = shards};
    return identity_open(directory, &wanted, 2, &who, error, sizeof error);
}

static void write_file(const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void a_new_directory_remembers_who_it_is(void **state) {
    int fd = open_as(7, 3);
    assert_true(fd >= 0);
    assert_int_equal(who.node_id, 7);
    assert_int_equal(who.shards, 3);
    assert_int_equal(strlen(who.cluster_id), 32);
    struct identity first = who;
    close(fd);
    fd = open_as(0, 0);
    assert_true(fd >= 0);
    assert_memory_equal(&who, &first, sizeof who);
    close(fd);
}

/* The clusters that went over into it, the last one first. */
static void a_directory_remembers_its_ancestors(void **state) {
    struct identity made = {.cluster_id = "00112233445566778899aabbccddeeff", .node_id = 7,
                            .shards = 2, .created_ms = 1, .ancestors_count = ANCESTORS_MAX};
    for (uint32_t i = 0; i < ANCESTORS_MAX; i++)
        snprintf(made.ancestors[i], sizeof made.ancestors[i], "%032x", i);
    for (; made.ancestors_count > 0; made.ancestors_count--) {
        assert_int_equal(identity_become(directory, &made, error, sizeof error), 0);
        assert_int_equal(identity_peek(directory, &who, error, sizeof error), 1);
        assert_int_equal(who.ancestors_count, made.ancestors_count);
        assert_memory_equal(who.ancestors, made.ancestors,
                            made.ancestors_count * sizeof made.ancestors[0]);
    }
}

static void damaged_ancestors_are_told(void **state) {
    static const char *const wrong[] = {"\"x\"", "{}", "[1]", "[null]",
                                        "[\"00112233445566778899aabbccddeef\"]",
                                        "[\"zz112233445566778899aabbccddeeff\"]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[256];
        snprintf(text, sizeof text, "{\"format\": 1, \"cluster_id\": "
                 "\"00112233445566778899aabbccddeeff\", \"node_id\": 1, \"shards\": 2, "
                 "\"created_ms\": 1, \"ancestors\": %s}", wrong[i]);
        write_file("node.json", text);
        assert_int_equal(open_as(0, 0), -1);
        assert_non_null(strstr(error, "damaged: its ancestors are no ids of clusters"));
    }
}

static void nothing_said_means_the_defaults(void **state) {
    int fd = open_as(0, 0);
    assert_true(fd >= 0);
    assert_int_equal(who.node_id, 1);
    assert_int_equal(who.shards, 2);
    close(fd);
}

static void another_number_of_shards_is_refused(void **state) {
    close(open_as(1, 3));
    assert_int_equal(open_as(1, 4), -1);
    assert_non_null(strstr(error, "was made with 3 shards, not 4"));
    assert_int_equal(open_as(2, 3), -1);
    assert_non_null(strstr(error, "belongs to node 1, not 2"));
    int fd = open_as(1, 3);
    assert_true(fd >= 0);
    close(fd);
}

static void two_cannot_have_it(void **state) {
    int fd = open_as(1, 1);
    assert_true(fd >= 0);
    assert_int_equal(open_as(1, 1), -1);
    assert_non_null(strstr(error, "in use by another process"));
    close(fd);
}

static void a_damaged_file_is_named(void **state) {
    static const char *const damaged[] = {
        "", "{", "[]", "{\"format\": 1}",
        "{\"format\": 1, \"cluster_id\": \"x\", \"node_id\": 1, \"shards\": 1, \"created_ms\": 1}",
        "{\"format\": 1, \"cluster_id\": \"0123456789abcdef0123456789abcdef\", \"node_id\": 1, "
        "\"shards\": 9999, \"created_ms\": 1}"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        write_file("node.json", damaged[i]);
        assert_int_equal(open_as(0, 0), -1);
        assert_non_null(strstr(error, "node.json"));
    }
    write_file("node.json", "{\"format\": 2, \"cluster_id\": \"\", \"node_id\": 1, \"shards\": 1, "
                            "\"created_ms\": 1}");
    assert_int_equal(open_as(0, 0), -1);
    assert_non_null(strstr(error, "has format 2; this program knows format 1"));
}

#define WHOSE "{\"format\": 1, \"cluster_id\": \"0123456789abcdef0123456789abcdef\", " \
              "\"node_id\": 1, \"shards\": 3, \"created_ms\": 1, "

/* As jumun-replay restore writes it for what was a grown cluster. */
static void epochs_are_read(void **state) {
    write_file("node.json", WHOSE "\"epochs\": [[0, 2], [1774353600000, 3]], "
                                  "\"stores_shards\": 2}");
    int fd = open_as(0, 0);
    assert_true(fd >= 0);
    assert_int_equal(who.epochs_count, 2);
    assert_int_equal(who.epochs[0].shards_count, 2);
    assert_int_equal(who.epochs[1].from_ms, 1774353600000);
    assert_int_equal(who.epochs[1].shards_count, 3);
    assert_int_equal(who.stores_shards, 2);
    close(fd);
    static const char *const senseless[] = {
        WHOSE "\"epochs\": [], \"stores_shards\": 2}",
        WHOSE "\"epochs\": [[0, 2], [0, 3]], \"stores_shards\": 2}",
        WHOSE "\"epochs\": [[5, 2]], \"stores_shards\": 2}",
        WHOSE "\"epochs\": [[0, 4]], \"stores_shards\": 2}",
        WHOSE "\"epochs\": [[0, 2]], \"stores_shards\": 4}",
        WHOSE "\"epochs\": [[0, 2]]}",
        WHOSE "\"epochs\": [[0]], \"stores_shards\": 2}"};
    for (size_t i = 0; i < sizeof senseless / sizeof senseless[0]; i++) {
        write_file("node.json", senseless[i]);
        assert_int_equal(open_as(0, 0), -1);
        assert_non_null(strstr(error, "its epochs make no sense"));
    }
}

static void what_is_left_of_a_cluster_is_written(void **state) {
    static struct identity left, read; /* all zero: bytes are compared */
    left = (struct identity){.node_id = 3, .shards = SHARDS_MAX, .created_ms = 1774353600000,
                             .epochs_count = EPOCHS_MAX, .stores_shards = SHARDS_MAX,
                             .generation = UINT8_MAX};
    memset(left.cluster_id, 'a', 32);
    left.epochs[0].shards_count = SHARDS_MAX;
    for (uint32_t i = 1; i < EPOCHS_MAX; i++) {
        left.epochs[i].from_ms = INT64_MAX - EPOCHS_MAX + i;
        left.epochs[i].shards_count = SHARDS_MAX;
    }
    assert_int_equal(identity_become(directory, &left, error, sizeof error), 0);
    assert_int_equal(identity_peek(directory, &read, error, sizeof error), 1);
    assert_memory_equal(&left, &read, sizeof left);
    left.epochs_count = 1;
    left.stores_shards = 1;
    left.generation = 1;
    assert_int_equal(identity_become(directory, &left, error, sizeof error), 0);
    assert_int_equal(identity_peek(directory, &read, error, sizeof error), 1);
    assert_int_equal(read.epochs_count, 1);
    assert_int_equal(read.generation, 1);
    write_file("node.json", WHOSE "\"generation\": 1}");
    assert_int_equal(identity_peek(directory, &read, error, sizeof error), -1);
    write_file("node.json", WHOSE "\"epochs\": [[0, 2]], \"stores_shards\": 2, "
                                  "\"generation\": 256}");
    assert_int_equal(identity_peek(directory, &read, error, sizeof error), -1);
    assert_non_null(strstr(error, "its epochs make no sense"));
}

static void the_lock_says_(const char *text) {
    char path[128], found[256];
    snprintf(path, sizeof path, "%s/lock", directory);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    found[fread(found, 1, sizeof found - 1, f)] = 0;
    fclose(f);
    assert_string_equal(found, text);
}

/* As long as it holds the directory, and a while longer: the next one empties it first. */
static void the_lock_says_who_runs(void **state) {
    int fd = open_as(0, 0);
    assert_true(fd >= 0);
    the_lock_says_("");
    assert_true(identity_tell_run(fd, "00112233445566778899aabbccddeeff", "tcp://127.0.0.1:7400"));
    the_lock_says_("{\"run\": \"00112233445566778899aabbccddeeff\", "
                   "\"endpoint\": \"tcp://127.0.0.1:7400\"}\n");
    assert_int_equal(open_as(0, 0), -1);
    close(fd);
    fd = open_as(0, 0);
    assert_true(fd >= 0);
    the_lock_says_("");
    close(fd);
}

static void a_path_that_cannot_be_made_is_named(void **state) {
    const struct identity wanted = {0};
    char path[128];
    write_file("file", "");
    snprintf(path, sizeof path, "%s/file/below", directory);
    assert_int_equal(identity_open(path, &wanted, 2, &who, error, sizeof error), -1);
    assert_non_null(strstr(error, path));
    snprintf(path, sizeof path, "%s/a/b/c", directory);
    int fd = identity_open(path, &wanted, 2, &who, error, sizeof error);
    assert_true(fd >= 0);
    close(fd);
}

/* Its cluster document is gone, or its file was not named: which of the two is not known here. */
static void one_of_a_cluster_is_told_what_to_do(void **state) {
    const struct identity wanted = {.node_id = 3, .shards = 2, .clustered = true};
    int fd = identity_open(directory, &wanted, 2, &who, error, sizeof error);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(open_as(0, 0), -1);
    assert_non_null(strstr(error, "jumun cluster replace 3 URL"));
    assert_non_null(strstr(error, "start it with --cluster"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_of_a_cluster_is_told_what_to_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_directory_remembers_who_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_directory_remembers_its_ancestors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_ancestors_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_said_means_the_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_number_of_shards_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_cannot_have_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_file_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(epochs_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_left_of_a_cluster_is_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_lock_says_who_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_path_that_cannot_be_made_is_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
