/* The keepers of the nodes that lead the meta group have the stores move once an epoch has begun:
 * once, whoever leads, however often they look. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/cluster/cluster_keeper.h"
#include "engine/shard/shard.h"
#include "tests/unit/cluster/cluster_documents.h"
#include "tests/world/storage_memory.h"

enum { KEEPERS = 3, PATIENCE_MS = 60000, BEHIND_MS = -1200000 };

static struct {
    struct storage_memory *disk;
    struct shard *shard;             /* the meta group's, without a thread */
    struct local_shards shards;
    int64_t mono_ms, off_ms;         /* off_ms: of its clock from the machine's, by which the
                                        keepers go. Only grows: a log's time never goes back */
    struct { char directory[64]; struct cluster_keeper *keeper; } sides[KEEPERS];
    uint8_t ids;
} meta;

static int apply(void *arg, struct cluster_topology *t, char *error, size_t error_bytes) {
    free(t);
    return 0;
}

static bool send_nothing(void *arg, uint32_t node, uint32_t kind, struct bytes body) {
    return false;
}

static void work(void) {
    int64_t next_ms;
    shard_work(meta.shard, clock_unix_ms() + meta.off_ms, ++meta.mono_ms, &next_ms);
    storage_memory_advance(meta.disk, meta.mono_ms);
    usleep(200);
}

/* -- commands ---------------------------------------------------------------------------------- */

struct ask { struct request request; struct command command; struct result result;
             struct request_part part; bool answered; };

static void answered(struct request *request) { ((struct ask *)(void *)request)->answered = true; }

static struct result ask(const struct command *command) {
    static struct ask a;
    a = (struct ask){.command = *command};
    a.command.subject = cluster_key();
    if (!command_is_read(command->kind)) a.command.id = (struct id128){{0xc2, ++meta.ids}};
    a.request = (struct request){.commands_count = 1, .commands = &a.command,
                                 .results = &a.result, .done = answered};
    atomic_init(&a.request.parts_left, 1);
    a.part = (struct request_part){.request = &a.request, .count = 1, .bytes = 100};
    uint32_t retry_after_ms;
    assert_true(shard_offer(meta.shard, &a.part, &retry_after_ms));
    for (int i = 0; i < PATIENCE_MS && !a.answered; i++) work();
    assert_true(a.answered);
    return a.result;
}

static struct cluster_document look(uint32_t *version) {
    struct result r = ask(&(struct command){.kind = COMMAND_CLUSTER_GET});
    if (r.code != RESULT_OK) {
        *version = 0;
        return (struct cluster_document){0};
    }
    const struct actor *cluster = r.value;
    struct cluster_document d = *cluster_document_of(cluster);
    *version = cluster->version;
    free(r.value);
    return d;
}

static void grow(uint32_t shards, int64_t from_ms) {
    struct command c = {.kind = COMMAND_CLUSTER_GROW};
    c.cluster.shards = shards;
    c.cluster.from_ms = from_ms;
    assert_int_equal(ask(&c).code, RESULT_OK);
}

/* Until the stores are spread over so many. Returns the document's version. */
static uint32_t await_stores(uint32_t shards) {
    uint32_t version;
    for (int64_t until_ms = clock_mono_ms() + PATIENCE_MS; clock_mono_ms() < until_ms;) {
        if (look(&version).stores_shards == shards) return version;
        work();
    }
    fail_msg("stores are not spread over %u shards", shards);
    return 0;
}

static void let_keepers_look(void) {
    for (int64_t until_ms = clock_mono_ms() + 1000; clock_mono_ms() < until_ms;) work();
}

/* -- life -------------------------------------------------------------------------------------- */

static void start_keeper(uint32_t i) {
    static struct cluster_cache cache;
    char error[256];
    cache = (struct cluster_cache){.node = i + 1, .version = 1};
    cluster_document_example(&cache.document);
    snprintf(meta.sides[i].directory, sizeof meta.sides[i].directory, "/tmp/jumun-grows-XXXXXX");
    assert_non_null(mkdtemp(meta.sides[i].directory));
    const struct cluster_keeper_options options = {
        .directory = meta.sides[i].directory, .shards = &meta.shards, .apply = apply,
        .send = send_nothing};
    meta.sides[i].keeper = cluster_keeper_new(&options, &cache);
    assert_non_null(meta.sides[i].keeper);
    assert_int_equal(cluster_keeper_start(meta.sides[i].keeper, error, sizeof error), 0);
}

static int setup(void **unused) {
    static struct courier courier; /* the meta group sends no messages */
    static const struct storage_memory_options disk = {.seed = 7};
    char error[256];
    meta.ids = 0;
    meta.mono_ms = 1000;
    meta.off_ms = BEHIND_MS;
    meta.disk = storage_memory_new(&disk);
    const struct shard_options options = {.id = SHARD_META, .shards_count = 2, .server_id = 1,
                                          .courier = &courier, .seed = 5,
                                          .storage = storage_memory_open(meta.disk)};
    meta.shard = shard_open(&options, clock_unix_ms() + meta.off_ms, meta.mono_ms, error,
                            sizeof error);
    assert_non_null(meta.shard);
    local_shards_put(&meta.shards, SHARD_META, meta.shard);
    uint32_t version;
    start_keeper(0);
    do work(); while (look(&version).nodes_count == 0); /* it forms the cluster */
    return 0;
}

static int teardown(void **unused) {
    for (uint32_t i = 0; i < KEEPERS; i++)
        if (meta.sides[i].keeper) cluster_keeper_stop(meta.sides[i].keeper);
    local_shards_take_out(&meta.shards, SHARD_META);
    storage_memory_crash(meta.disk);
    shard_close(meta.shard);
    storage_memory_free(meta.disk);
    for (uint32_t i = 0; i < KEEPERS; i++) {
        char path[96];
        if (!meta.sides[i].keeper) continue;
        cluster_keeper_free(meta.sides[i].keeper);
        meta.sides[i].keeper = NULL;
        snprintf(path, sizeof path, "%.60s/cluster.msgpack", meta.sides[i].directory);
        unlink(path);
        if (rmdir(meta.sides[i].directory) != 0) return -1;
    }
    return 0;
}

/* -- what must hold ---------------------------------------------------------------------------- */

static void stores_follow_when_the_epoch_has_begun(void **unused) {
    uint32_t version;
    grow(4, clock_unix_ms() + 10 * CLUSTER_EPOCH_AHEAD_MS_MIN);
    let_keepers_look();
    assert_int_equal(look(&version).stores_shards, 2);
    assert_int_equal(version, 2);
    assert_int_equal(ask(&(struct command){.kind = COMMAND_CLUSTER_CANCEL_GROW}).code, RESULT_OK);
    let_keepers_look();
    assert_int_equal(look(&version).stores_shards, 2);
    assert_int_equal(version, 3);

    grow(3, clock_unix_ms()); /* has begun by the keeper's clock, not by the group's */
    let_keepers_look();
    assert_int_equal(look(&version).stores_shards, 2);
    assert_int_equal(version, 4);
    meta.off_ms = 0;
    assert_int_equal(await_stores(3), 5);
    let_keepers_look();
    look(&version);
    assert_int_equal(version, 5); /* once */
}

static void whoever_leads_does_it_once(void **unused) {
    uint32_t version;
    grow(4, clock_unix_ms());
    cluster_keeper_stop(meta.sides[0].keeper); /* its node dies before the epoch begins */
    meta.off_ms = 0;
    for (int i = 0; i < 2000; i++) work();
    assert_int_equal(look(&version).stores_shards, 2);
    start_keeper(1);
    start_keeper(2); /* two at once, as when a lead changes hands */
    assert_int_equal(await_stores(4), 3);
    let_keepers_look();
    look(&version);
    assert_int_equal(version, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stores_follow_when_the_epoch_has_begun, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_leads_does_it_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
