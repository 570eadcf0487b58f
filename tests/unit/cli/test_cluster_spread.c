/* Whether the node that is asked first has the document that a command has led to: however new the
 * others' are, it is its copy that the next command sees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>

#include "actors/command.h"
#include "actors/result_codes.h"
#include "clients/cli/cli_cluster.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/protocol.h"

enum { NODES = 3, BYTES = 8192, PATIENCE_MS = 60000 };

/* A node that answers everything with its version of the document. */
struct fake_node {
    nng_socket socket;
    char address[64];
    atomic_uint version;       /* 0 = it has none: refused */
    pthread_t thread;
};

static struct cluster_document document;
static struct fake_node nodes[NODES];
static char endpoints[256];
static struct cli cli = {.endpoint = endpoints, .timeout_ms = PATIENCE_MS, .quiet = true};

static size_t reply(uint32_t version, uint8_t *buffer) {
    struct msgpack_writer w;
    msgpack_writer_init(&w, buffer, BYTES);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_uint(&w, RESULT_OK);
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, version ? 6 : 7);
    msgpack_write_uint(&w, version ? RESULT_OK : RESULT_NOT_READY);
    msgpack_write_uint(&w, version);
    for (int i = 0; i < 3; i++) msgpack_write_uint(&w, 0);
    if (version) {
        cluster_encode(&w, version, &document);
    } else {
        msgpack_write_text(&w, "it has no document");
        msgpack_write_uint(&w, 0);
    }
    assert_true(msgpack_writer_ok(&w));
    return msgpack_writer_size(&w);
}

static void *answer(void *arg) {
    struct fake_node *n = arg;
    uint8_t buffer[BYTES];
    void *asked;
    size_t bytes;
    while (nng_recv(n->socket, &asked, &bytes, NNG_FLAG_ALLOC) == 0) {
        nng_free(asked, bytes);
        nng_send(n->socket, buffer, reply(atomic_load(&n->version), buffer), 0);
    }
    return NULL;
}

static int set_up(void **state) {
    (void)state;
    memset(document.cluster_id.bytes, 0xab, sizeof document.cluster_id.bytes);
    document.level = document.replicas = 1;
    document.nodes_count = document.node_last = 1;
    document.nodes[0] = (struct cluster_member){.node = 1, .state = CLUSTER_MEMBER_ACTIVE,
                                                .peer = "tcp://10.0.0.1:7410",
                                                .client = "tcp://10.0.0.1:7400"};
    document.epochs_count = document.stores_shards = 1;
    document.epochs[0].shards_count = 1;
    document.shards_count = 2;
    for (uint32_t s = 0; s < 2; s++)
        document.shards[s] = (struct cluster_shard){.shard = s ? SHARD_META : 0, .preferred = 1,
                                                    .state = CLUSTER_SHARD_ACTIVE,
                                                    .servers_count = 1, .servers = {1}};
    assert_null(cluster_document_fault(&document));
    for (int i = 0; i < NODES; i++) {
        struct fake_node *n = &nodes[i];
        nng_listener listener;
        int port;
        if (nng_rep0_open(&n->socket) != 0 ||
            nng_listener_create(&listener, n->socket, "tcp://127.0.0.1:0") != 0 ||
            nng_listener_start(listener, 0) != 0 ||
            nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) != 0)
            return -1;
        snprintf(n->address, sizeof n->address, "tcp://127.0.0.1:%d", port);
        snprintf(endpoints + strlen(endpoints), sizeof endpoints - strlen(endpoints), "%s%s",
                 i ? "," : "", n->address);
        if (pthread_create(&n->thread, NULL, answer, n) != 0) return -1;
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < NODES; i++) {
        nng_close(nodes[i].socket);
        pthread_join(nodes[i].thread, NULL);
    }
    return 0;
}

static void have(unsigned first, unsigned second, unsigned third) {
    atomic_store(&nodes[0].version, first);
    atomic_store(&nodes[1].version, second);
    atomic_store(&nodes[2].version, third);
}

/* A command of the meta group that has led to version 7. */
static void command(void) {
    struct cluster_call call;
    struct cluster_answer a;
    have(7, 7, 7);
    assert_true(cluster_begin(&call, COMMAND_CLUSTER_RAISE_LEVEL, true, 0));
    assert_int_equal(cluster_send(&cli, &call, &a), CLI_DONE);
    assert_int_equal(a.version, 7);
    cluster_answer_free(&a);
    cluster_end(&call);
}

static void the_first_one_counts(void **state) {
    (void)state;
    command();
    have(6, 7, 7);
    assert_false(cluster_is_spread(&cli));
    have(7, 6, 6);
    assert_true(cluster_is_spread(&cli));
    have(8, 6, 6);
    assert_true(cluster_is_spread(&cli));
}

static void one_without_a_copy_is_passed_over(void **state) {
    (void)state;
    command();
    have(0, 6, 7);
    assert_false(cluster_is_spread(&cli));
    have(0, 7, 6);
    assert_true(cluster_is_spread(&cli));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_one_counts),
        cmocka_unit_test(one_without_a_copy_is_passed_over),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
