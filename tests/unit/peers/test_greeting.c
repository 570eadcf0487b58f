/* Hellos: who is remembered, and who is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/node_clock.h"
#include "engine/peers/node_peers_private.h"

enum { OWN = 1, KNOWN = 3 };

struct heard {
    struct leaders leaders;
    struct local_shards shards;
    struct node_clock clock;
    struct node_peers *peers;
    uint32_t from;                 /* of the last hello that was told on */
    uint64_t document;
};

static void on_hello(void *arg, uint32_t from, uint64_t document) {
    struct heard *h = arg;
    h->from = from;
    h->document = document;
}

static void on_duplicate(void *arg, const char *sentence) { fail_msg("%s", sentence); }

static void know(struct heard *h, uint32_t nodes) {
    struct transport_peer list[NODES_MAX];
    char error[256];
    for (uint32_t i = 0; i < nodes; i++)
        list[i] = (struct transport_peer){i + 1, "inproc://test-greeting-elsewhere"};
    list[0].endpoint = "inproc://test-greeting";
    if (!node_peers_set_nodes(h->peers, list, nodes, error, sizeof error)) fail_msg("%s", error);
}

static void open_peers(struct heard *h) {
    char error[256];
    memset(h, 0, sizeof *h);
    leaders_init(&h->leaders);
    node_clock_init(&h->clock);
    const struct node_peers_options options = {
        .node = OWN, .listen = "inproc://test-greeting", .client_endpoint = "tcp://127.0.0.1:1",
        .leaders = &h->leaders, .shards = &h->shards, .clock = &h->clock,
        .hello_received = on_hello, .duplicate = on_duplicate, .arg = h};
    h->peers = node_peers_open(&options, error, sizeof error);
    if (!h->peers) fail_msg("%s", error);
    know(h, KNOWN);
}

static void close_peers(struct heard *h) {
    node_peers_close(h->peers, false);
    leaders_fini(&h->leaders);
}

/* As if it had come from the node, by its clock; it leads shard 0 in a term of its own. */
static void hello_at(struct heard *h, uint32_t node, int64_t now_ms) {
    static uint8_t bytes[HELLO_BYTES_MAX];
    static struct hello hello;
    struct msgpack_writer w;
    hello = (struct hello){.document = 7, .instance = node + 100, .endpoint = "tcp://h:1",
                           .version = "1.2.3", .leads_count = 1, .now_ms = now_ms};
    hello.leads[0] = (struct hello_lead){0, 5 + node, consensus_server_id(node, 1), true};
    msgpack_writer_init(&w, bytes, sizeof bytes);
    hello_write(&w, &hello);
    greeting_received(h->peers, node, bytes_of(bytes, msgpack_writer_size(&w)));
}

static void hello_from(struct heard *h, uint32_t node) { hello_at(h, node, 0); }

static uint32_t places(const struct heard *h) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < NODES_MAX; i++) count += h->peers->seen[i].node != 0;
    return count;
}

static void strangers_take_no_place(void **state) {
    static struct heard h;
    open_peers(&h);
    for (uint32_t node = 1000; node < 1000 + 3 * NODES_MAX; node++) hello_from(&h, node);
    assert_int_equal(places(&h), KNOWN - 1);
    assert_int_equal(leaders_route(&h.leaders, 0).node, 0);
    /* But it may be in a newer document, which is asked for. */
    assert_int_equal(h.from, 1000 + 3 * NODES_MAX - 1);
    assert_int_equal(h.document, 7);
    hello_from(&h, 3);
    struct node_peers_seen seen[NODES_MAX];
    assert_int_equal(node_peers_seen(h.peers, seen, NODES_MAX), KNOWN - 1);
    for (uint32_t i = 0; i < KNOWN - 1; i++) {
        if (seen[i].node == 3) assert_string_equal(seen[i].version, "1.2.3");
        if (seen[i].node == 2) assert_int_equal(seen[i].silent_ms, -1);
    }
    assert_int_equal(leaders_route(&h.leaders, 0).node, 3);
    close_peers(&h);
}

/* Whoever changes connections waits for nng's threads, and on those it is asked who is seen. */
static void who_is_seen_is_told_while_connections_change(void **state) {
    static struct heard h;
    struct node_peers_seen seen[NODES_MAX];
    open_peers(&h);
    hello_from(&h, 3);
    pthread_mutex_lock(&h.peers->nodes_mutex);
    assert_int_equal(node_peers_seen(h.peers, seen, NODES_MAX), KNOWN - 1);
    pthread_mutex_unlock(&h.peers->nodes_mutex);
    close_peers(&h);
}

static void who_leaves_is_forgotten(void **state) {
    static struct heard h;
    open_peers(&h);
    hello_from(&h, 3);
    know(&h, 2);
    assert_int_equal(places(&h), 1);
    assert_int_equal(leaders_route(&h.leaders, 0).node, 0);
    hello_from(&h, 3);
    assert_int_equal(places(&h), 1);
    know(&h, NODES_MAX);
    assert_int_equal(places(&h), NODES_MAX - 1);
    hello_from(&h, NODES_MAX);
    assert_int_equal(leaders_route(&h.leaders, 0).node, NODES_MAX);
    close_peers(&h);
}

static void how_far_clocks_are_apart_is_seen(void **state) {
    static struct heard h;
    struct node_peers_seen seen[NODES_MAX];
    open_peers(&h);
    hello_from(&h, 2);
    hello_at(&h, 3, clock_unix_ms() + 300000);
    assert_int_equal(node_peers_seen(h.peers, seen, NODES_MAX), KNOWN - 1);
    assert_false(seen[0].clock_known);
    assert_true(seen[1].node == 3 && seen[1].clock_known);
    assert_in_range(seen[1].clock_ahead_ms, 270000, 301000);
    close_peers(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_take_no_place),
        cmocka_unit_test(who_is_seen_is_told_while_connections_change),
        cmocka_unit_test(who_leaves_is_forgotten),
        cmocka_unit_test(how_far_clocks_are_apart_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
