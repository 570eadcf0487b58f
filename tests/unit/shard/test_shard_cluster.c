/* The meta group's shard: the cluster document lives in it like an order in any other. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "actors/cluster/cluster_layout.h"
#include "tests/unit/shard/shard_world.h"

static struct {
    struct storage_memory *disk;
    struct shard *shard;
    struct shard_options options;
    struct storage_memory_options disk_options;
    int64_t mono_ms, now_ms;
    uint8_t ids;
} meta;

static void start(void) {
    char error[256] = "";
    meta.options.storage = storage_memory_open(meta.disk);
    meta.shard = shard_open(&meta.options, meta.now_ms, meta.mono_ms, error, sizeof error);
    if (!meta.shard) fail_msg("%s", error);
}

static int setup(void **unused) {
    static struct courier courier; /* the meta group sends no messages */
    meta.mono_ms = 1000;
    meta.now_ms = 1750000000000;
    meta.disk_options.seed = 7;
    meta.disk = storage_memory_new(&meta.disk_options);
    meta.options = (struct shard_options){.id = SHARD_META, .shards_count = 2, .server_id = 1,
                                          .courier = &courier, .seed = 5};
    start();
    return 0;
}

static void crash(void) {
    storage_memory_crash(meta.disk);
    shard_close(meta.shard);
}

static int teardown(void **unused) {
    crash();
    assert_null(storage_memory_fault(meta.disk));
    storage_memory_free(meta.disk);
    return 0;
}

static void run(int64_t ms) {
    for (int64_t end_ms = meta.mono_ms + ms; meta.mono_ms < end_ms; meta.mono_ms++, meta.now_ms++) {
        int64_t next_ms;
        shard_work(meta.shard, meta.now_ms, meta.mono_ms, &next_ms);
        storage_memory_advance(meta.disk, meta.mono_ms);
    }
}

static void answered(struct request *request) {
    struct ask *ask = (struct ask *)request;
    ask->answered = true;
}

static struct result ask(const struct command *command) {
    static struct ask a;
    a = (struct ask){.command = *command};
    a.request = (struct request){.commands_count = 1, .commands = &a.command,
                                 .results = &a.result, .done = answered};
    atomic_init(&a.request.parts_left, 1);
    a.part = (struct request_part){.request = &a.request, .count = 1, .bytes = 100};
    uint32_t retry_after_ms;
    assert_true(shard_offer(meta.shard, &a.part, &retry_after_ms));
    for (int i = 0; i < 5000 && !a.answered; i++) run(1);
    assert_true(a.answered);
    return a.result;
}

static struct command command_of(uint8_t kind) {
    struct command c = {.kind = kind, .subject = cluster_key()};
    if (!command_is_read(kind)) c.id = (struct id128){{0xc1, ++meta.ids}};
    return c;
}

static struct result form(void) {
    static const char *const addresses[] = {"tcp://a:1", "tcp://a:2", "tcp://b:1",
                                            "tcp://b:2", "tcp://c:1", "tcp://c:2"};
    struct cluster_founder nodes[3];
    for (uint32_t i = 0; i < 3; i++)
        nodes[i] = (struct cluster_founder){i + 1, bytes_of_text(addresses[2 * i]),
                                            bytes_of_text(addresses[2 * i + 1])};
    struct command c = command_of(COMMAND_CLUSTER_FORM);
    c.cluster = (struct command_cluster){.cluster_id = {{1}}, .nodes = nodes, .nodes_count = 3,
                                         .shards = 4, .replicas = 3};
    return ask(&c);
}

/* What CLUSTER_GET answers; the caller frees it. */
static struct actor *get(void) {
    struct command c = command_of(COMMAND_CLUSTER_GET);
    struct result r = ask(&c);
    assert_int_equal(r.code, RESULT_OK);
    assert_int_equal(r.value_kind, RESULT_VALUE_CLUSTER);
    assert_int_equal(r.shard, SHARD_META);
    assert_true(cluster_is_well_formed(r.value, r.value_bytes));
    return r.value;
}

static void the_document_is_kept(void **unused) {
    struct command c = command_of(COMMAND_CLUSTER_GET);
    assert_int_equal(ask(&c).code, RESULT_CLUSTER_NOT_FORMED);
    assert_int_equal(form().code, RESULT_OK);
    assert_int_equal(form().code, RESULT_CLUSTER_FORMED_ALREADY);
    struct command drain = command_of(COMMAND_CLUSTER_DRAIN);
    drain.cluster.node = 2;
    struct result r = ask(&drain);
    assert_int_equal(r.code, RESULT_OK);
    assert_int_equal(r.version, 2);
    struct actor *before = get();
    crash(); /* what was answered is in the log */
    start();
    struct actor *after = get();
    assert_int_equal(before->bytes, after->bytes);
    assert_memory_equal(before, after, before->bytes);
    r = ask(&drain);
    assert_true(r.code == RESULT_OK && r.flags == RESULT_FLAG_REPEATED && r.version == 2);
    free(before);
    free(after);
}

static void the_document_is_checkpointed(void **unused) {
    assert_int_equal(form().code, RESULT_OK);
    run(10000);
    struct shard_stats stats;
    shard_stats(meta.shard, &stats);
    assert_int_equal(stats.checkpoint_index, stats.last_index);
    struct actor *before = get();
    crash();
    start();
    struct actor *after = get();
    assert_memory_equal(before, after, before->bytes);
    shard_stats(meta.shard, &stats);
    assert_int_equal(stats.recovery_events, 0); /* it came from the state */
    free(before);
    free(after);
}

/* Each node asks several times a second: that would be most of what its figures show. */
static void what_the_node_asks_itself_is_not_counted(void **unused) {
    struct command c = command_of(COMMAND_CLUSTER_GET);
    struct shard_stats *stats = &meta.shard->stats;
    c.uncounted = true;
    assert_int_equal(ask(&c).code, RESULT_CLUSTER_NOT_FORMED);
    assert_true(stats->commands == 0 && stats->reads == 0 && stats->refused == 0);
    c.uncounted = false;
    assert_int_equal(ask(&c).code, RESULT_CLUSTER_NOT_FORMED);
    assert_true(stats->commands == 1 && stats->reads == 1 && stats->refused == 1);
    assert_int_equal(stats->refused_by_code[RESULT_CLUSTER_NOT_FORMED], 1);
}

static void each_shard_takes_its_own_commands(void **unused) {
    struct command c = {.kind = COMMAND_GET, .subject = {{1}}};
    assert_int_equal(ask(&c).code, RESULT_WRONG_SHARD);
    crash();
    storage_memory_free(meta.disk);
    meta.disk = storage_memory_new(&meta.disk_options);
    meta.options.id = 0;
    start();
    assert_int_equal(form().code, RESULT_WRONG_SHARD);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_document_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(the_document_is_checkpointed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_node_asks_itself_is_not_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(each_shard_takes_its_own_commands, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
