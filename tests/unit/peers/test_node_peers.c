/* A follower that lacks much is sent it from the log; whenever nothing of that goes out for a
 * message of the leader, the follower still hears that the leader lives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/peers/consensus_codec.h"
#include "engine/base/node_clock.h"
#include "engine/peers/node_peers_private.h"

enum { LEADER = 1, FOLLOWER = 2, SHARD = 3, PATIENCE_MS = 60000 };

static atomic_ullong got_records, got_signs;

/* -- the leader's log, and the follower ------------------------------------------------------- */

static int fake_read(struct storage *s, uint64_t first, uint64_t last,
                     bool (*visit)(void *arg, const struct record_header *record,
                                   const void *payload),
                     void *arg, char *error, size_t error_bytes) {
    static const uint8_t payload[100];
    for (uint64_t i = first; i <= last; i++) {
        const struct record_header header = {.index = i, .term = 1, .type = RECORD_EVENTS,
                                             .payload_bytes = sizeof payload};
        if (!visit(arg, &header, payload)) return 1;
    }
    return 0;
}

static const struct storage_ops fake_ops = {.read = fake_read};
static struct storage fake = {.ops = &fake_ops};

static void take(void *arg, uint32_t from, uint32_t kind, struct bytes body) {
    uint32_t shard;
    if (kind != PEER_CONSENSUS) return;
    struct consensus_message *m = consensus_codec_read(body, &shard);
    assert_non_null(m);
    if (m->records_count == 0) atomic_fetch_add(&got_signs, 1);
    atomic_fetch_add(&got_records, m->records_count);
    consensus_message_free(m);
}

struct pair {
    struct leaders leaders;
    struct local_shards shards;
    struct node_clock clock;
    struct node_peers *leader;
    struct transport *follower;
};

static void on_hello(void *arg, uint32_t from, uint64_t document) {}

static void on_duplicate(void *arg, const char *sentence) { fail_msg("%s", sentence); }

static void open_pair(struct pair *p) {
    static const struct transport_peer nodes[] = {{LEADER, "inproc://test-node-peers"},
                                                  {FOLLOWER, "inproc://test-node-peers-2"}};
    char error[256];
    memset(p, 0, sizeof *p);
    leaders_init(&p->leaders);
    node_clock_init(&p->clock);
    const struct transport_options follower = {
        .listen = nodes[1].endpoint, .node = FOLLOWER, .message_bytes_max = MESSAGE_BYTES_MAX,
        .queue_messages = PEER_QUEUE_MESSAGES, .received = take};
    p->follower = transport_open(&follower, error, sizeof error);
    if (!p->follower) fail_msg("%s", error);
    const struct node_peers_options leader = {
        .node = LEADER, .listen = nodes[0].endpoint, .client_endpoint = "tcp://127.0.0.1:1",
        .leaders = &p->leaders, .shards = &p->shards, .clock = &p->clock,
        .hello_received = on_hello, .duplicate = on_duplicate};
    p->leader = node_peers_open(&leader, error, sizeof error);
    if (!p->leader) fail_msg("%s", error);
    transport_start(p->follower);
    if (!node_peers_set_nodes(p->leader, nodes, 2, error, sizeof error)) fail_msg("%s", error);
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (!transport_is_up(p->leader->messages, FOLLOWER) && clock_mono_ms() < until) usleep(500);
}

static void close_pair(struct pair *p) {
    node_peers_close(p->leader, false);
    transport_close(p->follower);
    leaders_fini(&p->leaders);
}

static void ask(struct pair *p, uint64_t previous, uint32_t count) {
    struct peers *peers = node_peers_interface(p->leader);
    const struct consensus_message m = {
        .kind = CONSENSUS_APPEND, .from = consensus_server_id(LEADER, 1),
        .to = consensus_server_id(FOLLOWER, 1), .term = 1, .previous_index = previous,
        .previous_term = 1, .commit_index = 1000, .records_count = count};
    peers->send(peers, SHARD, &fake, &m);
}

static void await(const atomic_ullong *value, uint64_t wanted) {
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(value) < wanted && clock_mono_ms() < until) usleep(500);
    assert_true(atomic_load(value) >= wanted);
}

/* What is on its way is not sent again for a while, which is longer than an election takes. If it
 * was lost, the leader goes on asking, and nothing else would tell that it lives. */
static void who_waits_for_what_was_lost_hears_the_leader(void **state) {
    static struct pair p;
    open_pair(&p);
    ask(&p, 0, 30);
    await(&got_records, 30);
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (catch_up_is_busy(p.leader->catch_up) && clock_mono_ms() < until) usleep(500);
    uint64_t records = atomic_load(&got_records);
    for (int i = 0; i < 5 && atomic_load(&got_records) == records; i++) {
        uint64_t signs = atomic_load(&got_signs);
        ask(&p, 10, 20);
        until = clock_mono_ms() + PATIENCE_MS;
        /* On a slow machine so much time passes that it is sent again after all. */
        while (atomic_load(&got_signs) == signs && atomic_load(&got_records) == records &&
               clock_mono_ms() < until)
            usleep(500);
        assert_true(atomic_load(&got_signs) > signs || atomic_load(&got_records) > records);
    }
    close_pair(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_for_what_was_lost_hears_the_leader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
