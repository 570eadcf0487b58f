/* The document on disk: there and back, whole or not at all, and which replicas have run here. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engine/cluster/cluster_cache.h"
#include "tests/unit/cluster/cluster_documents.h"

static char directory[64], path[96];
static struct cluster_cache cache, loaded;
static char error[512];

static int setup(void **unused) {
    snprintf(directory, sizeof directory, "/tmp/jumun-cache-XXXXXX");
    if (!mkdtemp(directory)) return -1;
    snprintf(path, sizeof path, "%s/cluster.msgpack", directory);
    memset(&cache, 0, sizeof cache);
    cache.node = 2;
    cache.version = 1;
    cluster_document_example(&cache.document);
    return 0;
}
static int teardown(void **unused) {
    unlink(path);
    return rmdir(directory);
}

static void what_is_saved_is_loaded(void **unused) {
    assert_int_equal(cluster_cache_load(directory, &loaded, error, sizeof error), 0);
    assert_int_equal(cluster_cache_save(directory, &cache, error, sizeof error), 0);
    assert_int_equal(cluster_cache_load(directory, &loaded, error, sizeof error), 1);
    assert_memory_equal(&cache, &loaded, sizeof cache);
    assert_true(cluster_cache_note_running(&cache));
    assert_false(cluster_cache_note_running(&cache));
    assert_int_equal(cluster_cache_save(directory, &cache, error, sizeof error), 0);
    assert_int_equal(cluster_cache_load(directory, &loaded, error, sizeof error), 1);
    assert_memory_equal(&cache, &loaded, sizeof cache);
    assert_int_equal(loaded.replicas_count, 3);
}

static void what_is_promised_does_not_count_yet(void **unused) {
    assert_false(cluster_cache_is_promised(directory));
    assert_int_equal(cluster_cache_fulfil(directory, error, sizeof error), -1);
    assert_int_equal(cluster_cache_promise(directory, &cache, error, sizeof error), 0);
    assert_true(cluster_cache_is_promised(directory));
    assert_int_equal(cluster_cache_load(directory, &loaded, error, sizeof error), 0);
    cache.version = 2; /* another one in its place */
    assert_int_equal(cluster_cache_promise(directory, &cache, error, sizeof error), 0);
    assert_int_equal(cluster_cache_fulfil(directory, error, sizeof error), 0);
    assert_false(cluster_cache_is_promised(directory));
    assert_int_equal(cluster_cache_load(directory, &loaded, error, sizeof error), 1);
    assert_memory_equal(&cache, &loaded, sizeof cache);
}

static void what_is_damaged_is_refused(void **unused) {
    assert_int_equal(cluster_cache_save(directory, &cache, error, sizeof error), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    for (off_t size = 0; size < st.st_size; size += 7) {
        assert_int_equal(cluster_cache_save(directory, &cache, error, sizeof error), 0);
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(cluster_cache_load(directory, &loaded, error, sizeof error), -1);
        assert_non_null(strstr(error, "cannot be read"));
    }
    cache.node = 0;
    assert_int_equal(cluster_cache_save(directory, &cache, error, sizeof error), 0);
    assert_int_equal(cluster_cache_load(directory, &loaded, error, sizeof error), -1);
}

static void a_directory_that_is_gone_is_told(void **unused) {
    assert_int_equal(cluster_cache_save("/nonexistent", &cache, error, sizeof error), -1);
    assert_non_null(strstr(error, "cannot write"));
}

static void replicas_that_moved_away_are_dropped(void **unused) {
    assert_true(cluster_cache_note_running(&cache));
    assert_true(cluster_cache_has(&cache, 1, 2));
    assert_false(cluster_cache_has(&cache, 1, 3));
    struct cluster_document next = cache.document;
    next.shards[0].incarnation_last = 1;
    next.shards[0].servers[1] = 1ULL << 32 | 2; /* moved away and back */
    assert_null(cluster_document_fault(&next));
    cluster_cache_take(&cache, 5, &next);
    assert_int_equal(cache.version, 5);
    assert_false(cluster_cache_has(&cache, 0, 2));
    assert_false(cluster_cache_has(&cache, 0, 1ULL << 32 | 2)); /* has not run yet */
    assert_true(cluster_cache_has(&cache, 1, 2));
    assert_true(cluster_cache_note_running(&cache));
    assert_true(cluster_cache_has(&cache, 0, 1ULL << 32 | 2));
}

/* Founded with server ids that it has voted under: only the first document may be its first. */
static void an_empty_directory_is_no_founder_of_a_later_document(void **unused) {
    assert_true(cluster_cache_may_begin(&cache));
    cache.version = 2;
    assert_false(cluster_cache_may_begin(&cache));
    for (uint32_t i = 0; i < cache.document.shards_count; i++)
        for (uint32_t k = 0; k < cache.document.shards[i].servers_count; k++)
            if (cluster_server_node(cache.document.shards[i].servers[k]) == cache.node)
                cache.document.shards[i].servers[k] |= (uint64_t)1 << 32; /* given since */
    assert_true(cluster_cache_may_begin(&cache));
    cache.node = 99; /* without any */
    assert_true(cluster_cache_may_begin(&cache));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_saved_is_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_promised_does_not_count_yet, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_damaged_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_directory_that_is_gone_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(replicas_that_moved_away_are_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_directory_is_no_founder_of_a_later_document,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
