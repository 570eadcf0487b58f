#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/base/log.h"
#include "engine/node/config.h"

static char error[512];

/* Reads a command line of words; the first is the program's name. */
static int read_words(struct config *config, const char *const *words) {
    int count = 0;
    while (words[count]) count++;
    return config_read(config, count, (char **)(uintptr_t)words, error, sizeof error);
}

#define READ(config, ...) read_words(config, (const char *const[]){"jumund", __VA_ARGS__, NULL})

static void defaults_are_the_documented_ones(void **state) {
    struct config c;
    const char *const words[] = {"jumund", NULL};
    assert_int_equal(read_words(&c, words), 0);
    assert_string_equal(c.data, "./jumun-data");
    assert_string_equal(c.listen, "tcp://127.0.0.1:7400");
    assert_int_equal(c.shards, 0);
    assert_true(c.pin && !c.patient);
    assert_int_equal(c.mailbox_commands, MAILBOX_COMMANDS_MAX);
    assert_int_equal(c.checkpoint_age_ms, CHECKPOINT_AGE_MS);
    assert_int_equal(c.retention_ms, RETENTION_MS);
    assert_int_equal(c.scrub_period_ms, 7 * 86400000LL);
    assert_int_equal(c.memory_bytes_max, 0);
    assert_int_equal(c.log_level, LOG_LEVEL_INFO);
    assert_int_equal(c.ready_fd, 1);
}

static void every_option_is_read(void **state) {
    struct config c;
    int rc = READ(&c, "--data=/tmp/x", "--listen", "tcp://0.0.0.0:9000", "--shards=4", "--no-pin",
                  "--patient", "--node-id=7", "--mailbox-commands=2048", "--memory-max=3G",
                  "--contexts=256", "--checkpoint-age-ms=50", "--retention-days=2",
                  "--catch-up-log=32M", "--segment-bytes=128M", "--scrub-period=12h",
                  "--log-level=warn", "--ready-fd=5");
    assert_int_equal(rc, 0);
    assert_string_equal(c.data, "/tmp/x");
    assert_string_equal(c.listen, "tcp://0.0.0.0:9000");
    assert_int_equal(c.shards, 4);
    assert_true(!c.pin && c.patient);
    assert_int_equal(c.node_id, 7);
    assert_int_equal(c.mailbox_commands, 2048);
    assert_true(c.memory_bytes_max == 3ULL << 30);
    assert_int_equal(c.contexts, 256);
    assert_int_equal(c.checkpoint_age_ms, 50);
    assert_int_equal(c.retention_ms, 2 * 86400000LL);
    assert_true(c.catch_up_log_bytes == 32ULL << 20);
    assert_true(c.segment_bytes == 128ULL << 20);
    assert_int_equal(c.scrub_period_ms, 12 * 3600000LL);
    assert_int_equal(c.log_level, LOG_LEVEL_WARN);
    assert_int_equal(c.ready_fd, 5);
}

static void nonsense_is_refused_with_a_sentence(void **state) {
    struct config c;
    assert_int_equal(READ(&c, "--shards=0"), -1);
    assert_string_equal(error, "--shards must be a number from 1 to 256, not \"0\"");
    assert_int_equal(READ(&c, "--shards=257"), -1);
    assert_int_equal(READ(&c, "--shards=two"), -1);
    assert_int_equal(READ(&c, "--shards=-1"), -1);
    assert_int_equal(READ(&c, "--shards=99999999999999999999"), -1);
    assert_int_equal(READ(&c, "--memory-max=lots"), -1);
    assert_non_null(strstr(error, "--memory-max must be a size"));
    assert_int_equal(READ(&c, "--memory-max=1K"), -1);
    assert_int_equal(READ(&c, "--scrub-period=7"), -1);
    assert_string_equal(error, "--scrub-period must be a time of at most 3650 days, such as 7d, "
                        "12h or 90s, or 0, not \"7\"");
    static const char *const spans[] = {"--scrub-period=", "--scrub-period=d",
                                        "--scrub-period=-1d", "--scrub-period=1dd",
                                        "--scrub-period=3651d",
                                        "--scrub-period=99999999999999999999s"};
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++)
        assert_int_equal(READ(&c, spans[i]), -1);
    assert_int_equal(READ(&c, "--scrub-period=0"), 0);
    assert_int_equal(c.scrub_period_ms, 0);
    assert_int_equal(READ(&c, "--scrub-period=90s"), 0);
    assert_int_equal(c.scrub_period_ms, 90000);
    assert_int_equal(READ(&c, "--log-level=loud"), -1);
    assert_non_null(strstr(error, "\"loud\""));
    assert_int_equal(READ(&c, "--mailbox-commands=1"), -1);
    assert_int_equal(READ(&c, "--data="), -1);
    assert_int_equal(READ(&c, "--peer-listen=tcp://127.0.0.1:1"), -1);
    assert_non_null(strstr(error, "which stays once the node is one of a cluster"));
    assert_int_equal(READ(&c, "--listen=127.0.0.1:7400"), -1);
    assert_string_equal(error, "--listen: \"127.0.0.1:7400\" does not begin with tcp:// or "
                        "tls+tcp://: an address is tcp://HOST:PORT or tls+tcp://HOST:PORT");
    assert_int_equal(READ(&c, "--listen=none"), -1);
    assert_int_equal(READ(&c, "--feed-listen=7401"), -1);
    assert_int_equal(READ(&c, "--notify-listen=localhost:7402"), -1);
    assert_int_equal(READ(&c, "--cluster-wait", "--peer-listen=127.0.0.1:7396"), -1);
    assert_non_null(strstr(error, "--peer-listen: \"127.0.0.1:7396\" does not begin with tcp://"));
    assert_int_equal(READ(&c, "--listen=tcp://127.0.0.1:0", "--feed-listen=none",
                          "--notify-listen=none"), 0);
    assert_int_equal(READ(&c, "--no-such-option"), -1);
    assert_true(error[0] != 0);
    assert_int_equal(READ(&c, "stray"), -1);
    assert_non_null(strstr(error, "\"stray\""));
}

static void sizes(void **state) {
    uint64_t bytes = 0;
    assert_true(config_bytes_of("1000", &bytes) && bytes == 1000);
    assert_true(config_bytes_of("2K", &bytes) && bytes == 2048);
    assert_true(config_bytes_of("1T", &bytes) && bytes == 1ULL << 40);
    assert_true(config_bytes_of("16777215T", &bytes));
    assert_false(config_bytes_of("16777216T", &bytes));
    assert_false(config_bytes_of("", &bytes));
    assert_false(config_bytes_of("M", &bytes));
    assert_false(config_bytes_of("5MB", &bytes));
    assert_false(config_bytes_of("-5", &bytes));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_the_documented_ones),
        cmocka_unit_test(every_option_is_read),
        cmocka_unit_test(nonsense_is_refused_with_a_sentence),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
