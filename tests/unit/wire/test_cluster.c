/* The cluster document on the wire: there and back, whatever is cut off or changed on the way; and
 * its commands, field by field. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "actors/cluster/cluster_layout.h"
#include "engine/base/prng.h"
#include "engine/wire/cluster_encode.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/protocol.h"
#include "engine/wire/request_decode.h"

static struct cluster_document document, read_back;
static uint8_t buffer[CLUSTER_ENCODED_BYTES_MAX + 4096];

static void fill(uint32_t nodes, uint32_t shards, uint32_t epochs, bool long_addresses) {
    memset(&document, 0, sizeof document);
    document.cluster_id = (struct id128){{0xc1, 2, 3}};
    document.node_last = UINT32_MAX;
    document.replicas = 7;
    document.stores_shards = shards - 1;
    document.nodes_count = (uint16_t)nodes;
    for (uint32_t i = 0; i < nodes; i++) {
        struct cluster_member *m = &document.nodes[i];
        m->node = UINT32_MAX - nodes + i;
        m->state = i == 0 && nodes > 7 ? CLUSTER_MEMBER_REMOVED : CLUSTER_MEMBER_ACTIVE;
        memset(m->peer, 'p', long_addresses ? ENDPOINT_BYTES_MAX - 1 : 20);
        memset(m->client, 'c', long_addresses ? ENDPOINT_BYTES_MAX - 1 : 20);
        m->peer[3] = m->client[3] = (char)('0' + i);
    }
    document.epochs_count = (uint16_t)epochs;
    for (uint32_t i = 0; i < epochs; i++)
        document.epochs[i] = (struct cluster_epoch){i ? INT64_MAX - epochs + i : 0, shards - 1, 0};
    document.shards_count = (uint16_t)shards;
    for (uint32_t i = 0; i < shards; i++) {
        struct cluster_shard *s = &document.shards[i];
        *s = (struct cluster_shard){.shard = i + 1 < shards ? i : SHARD_META,
                                    .incarnation_last = UINT32_MAX, .servers_count = 7,
                                    .first_count = 7, .state = CLUSTER_SHARD_ACTIVE};
        for (uint32_t k = 0; k < 7; k++)
            s->first[k] = s->servers[k] = (uint64_t)(UINT32_MAX - k) << 32 |
                                          (UINT32_MAX - 7 + k);
        s->preferred = UINT32_MAX - 3;
    }
    assert_null(cluster_document_fault(&document));
}

static size_t encode(void) {
    struct msgpack_writer w;
    msgpack_writer_init(&w, buffer, sizeof buffer);
    cluster_encode(&w, UINT32_MAX, &document);
    assert_true(msgpack_writer_ok(&w));
    return msgpack_writer_size(&w);
}

/* From memory of exactly that size, so that a sanitizer sees any read behind it. */
static const char *decode(size_t size) {
    uint64_t version;
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, buffer, size);
    const char *fault = cluster_decode(copy, size, &version, &read_back);
    free(copy);
    if (!fault) assert_int_equal(version, UINT32_MAX);
    return fault;
}

static void documents_come_back_as_they_were(void **unused) {
    fill(7, 3, 2, false);
    assert_null(decode(encode()));
    assert_memory_equal(&document, &read_back, sizeof document);
}

static void the_largest_document_fits(void **unused) {
    fill(NODES_MAX, SHARDS_MAX + 1, EPOCHS_MAX, true);
    document.level = document.generation = UINT8_MAX;
    size_t size = encode();
    assert_true(size <= CLUSTER_ENCODED_BYTES_MAX);
    assert_null(decode(size));
    assert_memory_equal(&document, &read_back, sizeof document);
}

static void what_is_cut_short_is_refused(void **unused) {
    fill(7, 3, 2, false);
    size_t size = encode();
    for (size_t cut = 0; cut < size; cut++) assert_non_null(decode(cut));
    buffer[size] = 0xc0;
    assert_non_null(decode(size + 1));
}

/* A changed byte makes another document or none, and never a broken one. */
static void changed_bytes_break_nothing(void **unused) {
    struct prng prng;
    uint32_t refused = 0;
    prng_seed(&prng, 3);
    fill(7, 3, 2, false);
    size_t size = encode();
    for (uint32_t i = 0; i < 20000; i++) {
        size_t at = prng_below(&prng, size);
        uint8_t was = buffer[at];
        buffer[at] = (uint8_t)prng_next(&prng);
        if (cluster_decode(buffer, size, &(uint64_t){0}, &read_back)) refused++;
        else assert_null(cluster_document_fault(&read_back));
        buffer[at] = was;
    }
    assert_true(refused > 1000);
}

static void unknown_keys_are_skipped(void **unused) {
    struct msgpack_writer w;
    fill(7, 3, 2, false);
    size_t size = encode();
    memmove(buffer + 7, buffer + 1, size - 1); /* behind the map's head: 6 bytes */
    msgpack_writer_init(&w, buffer, 7);
    msgpack_write_map(&w, 9);
    msgpack_write_text(&w, "new");
    msgpack_write_array(&w, 1);
    msgpack_write_bool(&w, true);
    assert_int_equal(msgpack_writer_size(&w), 7);
    assert_null(decode(size + 6));
    assert_memory_equal(&document, &read_back, sizeof document);
}

/* -- commands ---------------------------------------------------------------------------------- */

static struct wire_arena arena;

static int teardown(void **unused) {
    wire_arena_free(&arena);
    return 0;
}

static void open_command(struct msgpack_writer *w, uint32_t kind, uint32_t fields) {
    msgpack_writer_init(w, buffer, sizeof buffer);
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, PROTOCOL_VERSION);
    msgpack_write_nil(w);
    msgpack_write_array(w, 1);
    msgpack_write_array(w, 5);
    msgpack_write_uint(w, kind);
    msgpack_write_nil(w);
    msgpack_write_bin(w, (uint8_t[16]){9, 9}, 16);
    msgpack_write_nil(w);
    msgpack_write_array(w, fields);
}

static const struct command *decoded(const struct msgpack_writer *w) {
    static struct wire_request request;
    wire_arena_free(&arena);
    assert_int_equal(request_decode(buffer, msgpack_writer_size(w), &arena, &request), RESULT_OK);
    return &request.commands[0];
}

/* A command whose body is these numbers, then these texts. */
static const struct command *command_of(uint32_t kind, uint32_t numbers, uint32_t texts) {
    static const uint32_t values[] = {3, 11, 12};
    struct msgpack_writer w;
    open_command(&w, kind, numbers + texts);
    for (uint32_t i = 0; i < numbers; i++) msgpack_write_uint(&w, values[i]);
    for (uint32_t i = 0; i < texts; i++) msgpack_write_text(&w, i ? "tcp://c:1" : "tcp://p:1");
    const struct command *c = decoded(&w);
    assert_int_equal(c->kind, kind);
    if (!c->malformed) {
        struct id128 key = cluster_key();
        assert_true(id128_equal(&c->subject, &key));
        assert_int_equal(c->id.bytes[1], 9);
    }
    return c;
}

static void commands_decode(void **unused) {
    static const uint8_t of_node[] = {COMMAND_CLUSTER_REMOVE_NODE, COMMAND_CLUSTER_DRAIN,
                                      COMMAND_CLUSTER_UNDRAIN};
    static const uint8_t empty[] = {COMMAND_CLUSTER_BALANCE, COMMAND_CLUSTER_CANCEL_GROW,
                                    COMMAND_CLUSTER_BALANCE};
    struct msgpack_writer own;
    open_command(&own, COMMAND_CLUSTER_MOVE_STORES, 0); /* the engine's own */
    assert_int_equal(decoded(&own)->malformed, RESULT_UNKNOWN_COMMAND);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(command_of(of_node[i], 1, 0)->cluster.node, 3);
        assert_int_equal(command_of(of_node[i], 0, 0)->malformed, RESULT_FIELD_MISSING);
        assert_int_equal(command_of(empty[i], 0, 0)->malformed, 0);
        assert_int_equal(command_of(empty[i], 1, 0)->malformed, RESULT_MALFORMED_COMMAND);
    }
    const struct command *c = command_of(COMMAND_CLUSTER_MOVE_REPLICA, 3, 0);
    assert_int_equal(c->cluster.shard, 3);
    assert_int_equal(c->cluster.node, 11);
    assert_int_equal(c->cluster.to, 12);
    c = command_of(COMMAND_CLUSTER_PREFER, 2, 0);
    assert_true(c->cluster.shard == 3 && c->cluster.node == 11);
    assert_int_equal(command_of(COMMAND_CLUSTER_RETIRE_SHARD, 1, 0)->cluster.shard, 3);
    c = command_of(COMMAND_CLUSTER_GROW, 2, 0);
    assert_true(c->cluster.shards == 3 && c->cluster.from_ms == 11);
    c = command_of(COMMAND_CLUSTER_ADD_NODE, 0, 2);
    assert_true(bytes_equal(c->cluster.peer, bytes_of_text("tcp://p:1")));
    assert_true(bytes_equal(c->cluster.client, bytes_of_text("tcp://c:1")));
    c = command_of(COMMAND_CLUSTER_REPLACE_NODE, 1, 2);
    assert_true(c->cluster.node == 3 && c->cluster.client.size == 9);
    c = command_of(COMMAND_CLUSTER_READDRESS_NODE, 1, 2);
    assert_true(c->cluster.node == 3 && c->cluster.peer.size == 9);
    assert_int_equal(command_of(COMMAND_CLUSTER_ADD_NODE, 0, 1)->malformed, RESULT_FIELD_MISSING);
}

static const struct command *form(uint32_t nodes, uint32_t fields_of_node, uint32_t seeded) {
    struct msgpack_writer w;
    open_command(&w, COMMAND_CLUSTER_FORM, 5);
    msgpack_write_bin(&w, (uint8_t[16]){0xc1}, 16);
    msgpack_write_array(&w, nodes);
    for (uint32_t i = 0; i < nodes; i++) {
        msgpack_write_array(&w, fields_of_node);
        msgpack_write_uint(&w, i + 1);
        for (uint32_t k = 1; k < fields_of_node; k++) msgpack_write_text(&w, "tcp://x:1");
    }
    msgpack_write_uint(&w, 6);
    msgpack_write_uint(&w, 3);
    msgpack_write_uint(&w, seeded);
    return decoded(&w);
}

static void forming_decodes(void **unused) {
    const struct command *c = form(3, 3, 1);
    assert_int_equal(c->malformed, 0);
    assert_int_equal(c->cluster.nodes_count, 3);
    assert_int_equal(c->cluster.nodes[2].node, 3);
    assert_int_equal(c->cluster.nodes[2].client.size, 9);
    assert_int_equal(c->cluster.shards, 6);
    assert_int_equal(c->cluster.replicas, 3);
    assert_int_equal(c->cluster.cluster_id.bytes[0], 0xc1);
    assert_true(c->cluster.seeded);
    assert_false(form(3, 3, 0)->cluster.seeded);
    assert_int_equal(form(3, 3, 2)->malformed, RESULT_NUMBER_OUT_OF_RANGE);
    assert_int_equal(form(3, 2, 0)->malformed, RESULT_FIELD_MISSING);
    assert_int_equal(form(3, 4, 0)->malformed, RESULT_MALFORMED_COMMAND);
    assert_int_equal(form(NODES_MAX + 1, 3, 0)->malformed, RESULT_TOO_MANY_ITEMS);
    assert_int_equal(form(0, 3, 0)->cluster.nodes_count, 0);
}

static const struct command *raise_level(uint64_t level, uint32_t nodes, uint64_t first) {
    struct msgpack_writer w;
    open_command(&w, COMMAND_CLUSTER_RAISE_LEVEL, 2);
    msgpack_write_uint(&w, level);
    msgpack_write_array(&w, nodes);
    for (uint32_t i = 0; i < nodes; i++) msgpack_write_uint(&w, first + i);
    return decoded(&w);
}

static void levels_decode(void **unused) {
    const struct command *c = raise_level(2, 3, 7);
    assert_int_equal(c->malformed, 0);
    assert_int_equal(c->cluster.level, 2);
    assert_int_equal(c->cluster.supporting_count, 3);
    assert_int_equal(c->cluster.supporting[0], 7);
    assert_int_equal(c->cluster.supporting[2], 9);
    assert_int_equal(raise_level(2, 0, 1)->cluster.supporting_count, 0);
    assert_int_equal(raise_level(2, 0, 1)->malformed, 0);
    assert_int_equal(raise_level(256, 1, 1)->malformed, RESULT_NUMBER_OUT_OF_RANGE);
    assert_int_equal(raise_level(2, NODES_MAX, 1)->malformed, 0);
    assert_int_equal(raise_level(2, NODES_MAX + 1, 1)->malformed, RESULT_TOO_MANY_ITEMS);
    assert_int_equal(raise_level(2, 2, UINT32_MAX)->malformed, RESULT_NUMBER_OUT_OF_RANGE);
    struct msgpack_writer w;
    open_command(&w, COMMAND_CLUSTER_RAISE_LEVEL, 1);
    msgpack_write_uint(&w, 2);
    assert_int_equal(decoded(&w)->malformed, RESULT_FIELD_MISSING);
}

static void level_and_generation_travel_with_the_document(void **unused) {
    fill(7, 3, 2, false);
    for (uint8_t level = 0; level < 3; level++) {
        document.level = level;
        document.generation = (uint8_t)(2 - level);
        assert_null(decode(encode()));
        assert_int_equal(read_back.level, level);
        assert_int_equal(read_back.generation, 2 - level);
        assert_memory_equal(&document, &read_back, sizeof document);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_come_back_as_they_were),
        cmocka_unit_test(the_largest_document_fits),
        cmocka_unit_test(what_is_cut_short_is_refused),
        cmocka_unit_test(changed_bytes_break_nothing),
        cmocka_unit_test(unknown_keys_are_skipped),
        cmocka_unit_test(commands_decode),
        cmocka_unit_test(forming_decodes),
        cmocka_unit_test(levels_decode),
        cmocka_unit_test(level_and_generation_travel_with_the_document),
    };
    return cmocka_run_group_tests_name("wire_cluster", tests, NULL, teardown);
}
