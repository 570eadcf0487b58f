#include "tests/unit/actors/cluster_world.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

enum { NUMBERS_MAX = 4096, SINK_BYTES = 1 << 20 };

static char texts[2 * NUMBERS_MAX][48];
static _Alignas(8) uint8_t sink_room[SINK_BYTES];

static struct bytes address(uint32_t n, uint32_t port) {
    assert_true(n < NUMBERS_MAX);
    char *text = texts[2 * n + port];
    snprintf(text, sizeof texts[0], "tcp://10.0.%u.%u:%u", n / 250, n % 250, 7300 + 100 * port);
    return bytes_of_text(text);
}

struct bytes cluster_world_peer(uint32_t n) { return address(n, 0); }
struct bytes cluster_world_client(uint32_t n) { return address(n, 1); }

void cluster_world_init(struct cluster_world *w) {
    *w = (struct cluster_world){.now_ms = CLUSTER_WORLD_NOW};
}

void cluster_world_fini(struct cluster_world *w) {
    free(w->cluster);
    free(w->replayed);
}

const struct cluster_document *cluster_world_document(const struct cluster_world *w) {
    assert_non_null(w->cluster);
    return cluster_document_of(w->cluster);
}

struct command cluster_world_command(struct cluster_world *w, uint8_t kind) {
    struct command c = {.kind = kind, .subject = cluster_key()};
    w->id_last++;
    memcpy(c.id.bytes, &w->id_last, sizeof w->id_last);
    c.id.bytes[15] = 7;
    return c;
}

static struct actor *applied(struct actor *actor, const struct event *event, uint64_t index) {
    uint32_t room = cluster_bytes_after(actor, event);
    struct actor *block = calloc(1, room);
    assert_non_null(block);
    if (actor) memcpy(block, actor, actor->bytes);
    free(actor);
    struct apply_context context = {.index = index, .time_ms = 5};
    cluster_apply(block, event, &context);
    assert_true(block->bytes <= room);
    return block;
}

struct decision cluster_world_run(struct cluster_world *w, const struct command *command) {
    struct decide_context context = {.index = w->index + 1, .now_ms = w->now_ms};
    struct event_sink sink = {.data = sink_room, .capacity = sizeof sink_room};
    uint32_t version = w->cluster ? w->cluster->version : 0;
    struct decision d = cluster_decide(w->cluster, command, &context, &sink);
    w->event_kind = 0;
    if (d.code != RESULT_OK || d.repeated || command->kind == COMMAND_CLUSTER_GET) {
        assert_int_equal(sink.size, 0);
        if (d.code != RESULT_OK) assert_int_equal(d.version, version);
        return d;
    }
    uint32_t offset = 0;
    const struct event *event = event_next(sink.data, sink.size, &offset);
    assert_non_null(event);
    assert_int_equal(offset, sink.size);
    assert_true(cluster_event_is_well_formed(event));
    assert_int_equal(event->cause_kind, command->kind);
    assert_true(id128_equal(&event->cause, &command->id));
    w->index++;
    w->event_kind = event->kind;
    w->cluster = applied(w->cluster, event, w->index);
    w->replayed = applied(w->replayed, event, w->index);
    assert_int_equal(d.version, version + 1);
    assert_int_equal(w->cluster->version, version + 1);
    assert_true(cluster_is_well_formed(w->cluster, w->cluster->bytes));
    assert_null(cluster_document_fault(cluster_document_of(w->cluster)));
    assert_int_equal(w->cluster->bytes, w->replayed->bytes);
    assert_memory_equal(w->cluster, w->replayed, w->cluster->bytes);
    return d;
}

struct command cluster_world_form(struct cluster_world *w, uint32_t nodes, uint32_t shards,
                                  uint32_t replicas) {
    static struct cluster_founder founders[NODES_MAX + 1];
    struct command c = cluster_world_command(w, COMMAND_CLUSTER_FORM);
    assert_true(nodes <= NODES_MAX + 1);
    for (uint32_t i = 0; i < nodes; i++)
        founders[i] = (struct cluster_founder){i + 1, cluster_world_peer(i + 1),
                                               cluster_world_client(i + 1)};
    c.cluster = (struct command_cluster){.cluster_id = {{1, 2, 3}}, .nodes = founders,
                                         .nodes_count = nodes, .shards = shards,
                                         .replicas = replicas};
    return c;
}

void cluster_world_formed(struct cluster_world *w, uint32_t nodes, uint32_t shards,
                          uint32_t replicas) {
    struct command c = cluster_world_form(w, nodes, shards, replicas);
    assert_int_equal(cluster_world_run(w, &c).code, RESULT_OK);
}
