/* Moments as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "clients/replay/source.h"

static const int64_t now_ms = 1795244026731; /* 2026-11-21T06:53:46.731Z */

static struct moment parse(const char *text) {
    struct moment m;
    char error[256];
    if (!moment_parse(text, now_ms, &m, error, sizeof error)) fail_msg("%s: %s", text, error);
    return m;
}

static void test_times(void **state) {
    (void)state;
    setenv("TZ", "UTC", 1);
    tzset();
    static const struct { const char *text; int64_t ms; } times[] = {
        {"@1774353600000", 1774353600000},   {"-10m", 1795244026731 - 600000},
        {"2026-11-21T06:00:00", 1795240800000}, {"2026-11-21 06:00", 1795240800000},
        {"2026-11-21T06:00:00.250Z", 1795240800250}, {"06:30", 1795242600000},
        {"06:30:05", 1795242605000},         {"2026-11-20", 1795132800000},
        {"1774353600000", 1774353600000},    {"10m", 1795244026731 - 600000},
        {"2026-11-21T06:00:00.5+09:00", 1795208400500}};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        struct moment m = parse(times[i].text);
        assert_int_equal(m.kind, MOMENT_TIME);
        assert_int_equal(m.time_ms, times[i].ms);
    }
}

static void test_indices(void **state) {
    (void)state;
    struct source_shard zero = {.number = 0}, one = {.number = 1}, ten = {.number = 10};
    struct moment m = parse("1234");
    assert_int_equal(moment_index(&m, &one, 9), 1234);
    m = parse("0:12,1:34,10=56");
    assert_int_equal(moment_index(&m, &zero, 9), 12);
    assert_int_equal(moment_index(&m, &one, 9), 34);
    assert_int_equal(moment_index(&m, &ten, 9), 56);
    m = parse("1:34");
    assert_int_equal(moment_index(&m, &zero, 9), 9);
    m = parse("1:34,7");
    assert_int_equal(moment_index(&m, &zero, 9), 7);
}

static void test_nonsense(void **state) {
    (void)state;
    static const char *const texts[] = {"", "x", "1:", "1,", "12:61:99", "-10", "@", "1:2:3",
                                        "2026-13-45", "99999999999999999999999", "300:1"};
    struct moment m;
    char error[256];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        error[0] = 0;
        bool taken = moment_parse(texts[i], now_ms, &m, error, sizeof error);
        if (taken) fail_msg("\"%s\" was taken", texts[i]);
        assert_true(error[0] != 0);
    }
}

static void make(const char *path, const char *text) {
    FILE *f = text ? fopen(path, "w") : NULL;
    if (!text) assert_int_equal(mkdir(path, 0700), 0);
    if (!f) return;
    fputs(text, f);
    fclose(f);
}

/* Which directory is a shard's replica, and where a key of each epoch belongs. */
static void test_a_grown_cluster(void **state) {
    char root[] = "/tmp/jumun-source-XXXXXX", path[128], error[256], command[160];
    struct source s;
    (void)state;
    assert_non_null(mkdtemp(root));
    static const char *const directories[] = {"shard-0", "shard-0.1", "shard-0.2", "shard-1",
                                              "shard-1.1", "shard-2", "shard-2x", "shard-3.x"};
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(path, sizeof path, "%s/%s", root, directories[i]);
        make(path, NULL);
    }
    snprintf(path, sizeof path, "%s/shard-0.2/let-go", root);
    make(path, "");
    snprintf(path, sizeof path, "%s/node.json", root);
    make(path, "{\"shards\": 2, \"epochs\": [[0, 2], [1774353600000, 3]], \"stores_shards\": 2}");
    assert_int_equal(source_open(&s, root, -1, error, sizeof error), 0);
    assert_int_equal(s.count, 3);
    assert_string_equal(strrchr(s.shards[0].directory, '/'), "/shard-0.1");
    assert_string_equal(strrchr(s.shards[1].directory, '/'), "/shard-1.1");
    assert_string_equal(strrchr(s.shards[2].directory, '/'), "/shard-2");
    assert_int_equal(s.epochs_count, 2);
    uint32_t old_to_2 = 0, new_to_2 = 0;
    for (uint32_t i = 0; i < 64; i++) {
        struct id128 key = {{0}};
        key.bytes[15] = (uint8_t)i;
        old_to_2 += source_shard_of_key(&s, &key)->number == 2;
        for (int k = 0; k < 6; k++) key.bytes[k] = (uint8_t)(1774353600001 >> (40 - 8 * k));
        new_to_2 += source_shard_of_key(&s, &key)->number == 2;
    }
    assert_int_equal(old_to_2, 0);
    assert_true(new_to_2 > 0);
    source_close(&s);
    make(path, "{\"shards\": 2, \"epochs\": [[1, 2]], \"stores_shards\": 2}");
    assert_int_equal(source_open(&s, root, -1, error, sizeof error), 0);
    assert_int_equal(s.epochs_count, 0);
    source_close(&s);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_indices),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_a_grown_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
