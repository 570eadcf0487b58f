/* The transfers of a node's replicas together: who gets a sender, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/peers/snapshot_frame.h"
#include "engine/peers/snapshots.h"
#include "persistence/storage.h"

enum { SHARD = 2, LEADER = 7, INDEX = 100, FIRST = 20, WAIT_MS = 60000 };

/* A storage whose state is a few bytes. */
static int small_export(struct storage *base, const char *path, const atomic_bool *stop,
                        struct storage_meta *meta, char *error, size_t error_bytes) {
    (void)base, (void)stop, (void)error, (void)error_bytes;
    FILE *f = fopen(path, "wb");
    if (!f) return -1;
    fputs("what is stored", f);
    fclose(f);
    memset(meta, 0, sizeof *meta);
    meta->applied_index = INDEX;
    return 0;
}

static const struct storage_ops small_ops = {.export_state = small_export};

struct world {
    char directory[128];
    struct storage storage;
    struct local_shards local;
    struct snapshots *all;
    bool answers;                       /* every state is taken at once */
    atomic_uint offered[FIRST * 2];     /* headers, by node */
};

/* On the thread of the transfers: the follower has it already, if it answers. */
static bool world_send(void *arg, uint32_t node, uint32_t kind, struct bytes body) {
    struct world *w = arg;
    struct snapshot_frame f;
    uint8_t bytes[SNAPSHOT_FRAME_HEAD_BYTES_MAX];
    if (!snapshot_frame_decode(kind, body.data, body.size, &f)) return false;
    if (kind != SNAPSHOT_HEADER || node >= FIRST * 2) return true;
    atomic_fetch_add(&w->offered[node], 1);
    if (!w->answers) return true;
    const struct snapshot_frame answer = {
        .kind = SNAPSHOT_ACK, .shard = f.shard, .from = f.to, .to = f.from,
        .transfer = f.transfer, .state = SNAPSHOT_ACK_COMPLETE, .offset = f.bytes};
    size_t size = snapshot_frame_encode(&answer, bytes, sizeof bytes);
    snapshots_receive(w->all, SNAPSHOT_ACK, (struct bytes){bytes, (uint32_t)size});
    return true;
}

static int setup(void **state) {
    struct world *w = calloc(1, sizeof *w);
    if (!w) return -1;
    char error[256];
    *state = w;
    snprintf(w->directory, sizeof w->directory, "/tmp/jumun-snapshots-XXXXXX");
    if (!mkdtemp(w->directory)) return -1;
    w->storage.ops = &small_ops;
    w->answers = true;
    const struct snapshots_options options = {.shards = &w->local, .send = world_send, .arg = w};
    w->all = snapshots_start(&options, error, sizeof error);
    return w->all && snapshots_add(w->all, SHARD, LEADER, &w->storage, w->directory) ? 0 : -1;
}

static int teardown(void **state) {
    struct world *w = *state;
    char path[160];
    snapshots_stop(w->all);
    snprintf(path, sizeof path, "%s/incoming", w->directory);
    rmdir(path);
    snprintf(path, sizeof path, "%s/outgoing", w->directory);
    rmdir(path);
    int rc = rmdir(w->directory);
    free(w);
    return rc;
}

/* Asks as consensus does, again and again, until this node is offered the state, or time is up. */
static bool is_offered(struct world *w, uint32_t node, int64_t patience_ms) {
    const struct consensus_message want = {.kind = CONSENSUS_INSTALL_SNAPSHOT, .to = node,
                                           .term = 3, .previous_index = INDEX};
    for (int64_t ms = 0; ms < patience_ms && atomic_load(&w->offered[node]) == 0; ms += 5) {
        snapshots_want(w->all, SHARD, &want);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    return atomic_load(&w->offered[node]) > 0;
}

/* Each node that is replaced comes back as another server. */
static void servers_that_have_theirs_make_room_for_others(void **state) {
    struct world *w = *state;
    struct snapshots_stats stats = {0};
    uint32_t servers = CONSENSUS_SERVERS_MAX + 5;
    for (uint32_t i = 0; i < servers; i++) assert_true(is_offered(w, FIRST + i, WAIT_MS));
    for (int64_t ms = 0; ms < WAIT_MS && stats.sent < servers; ms += 5) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        snapshots_stats(w->all, &stats);
    }
    assert_int_equal(stats.sent, servers); /* those of who has given way are counted too */
}

/* No transfer that goes on is given up for another one. */
static void a_transfer_under_way_keeps_its_place(void **state) {
    struct world *w = *state;
    struct snapshots_stats stats;
    w->answers = false;
    for (uint32_t i = 0; i < CONSENSUS_SERVERS_MAX; i++)
        assert_true(is_offered(w, FIRST + i, WAIT_MS));
    assert_false(is_offered(w, FIRST + CONSENSUS_SERVERS_MAX, 200));
    snapshots_stats(w->all, &stats);
    assert_int_equal(stats.sending, CONSENSUS_SERVERS_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(servers_that_have_theirs_make_room_for_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_transfer_under_way_keeps_its_place, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
