#include <stdio.h>

#include "actors/cluster/cluster_layout.h"
#include "engine/wire/event_encode.h"
#include "engine/wire/msgpack_pairs.h"
#include "engine/wire/reply_encode.h"
#include "engine/wire/republish_encode.h"
#include "tests/unit/wire/wire_examples.h"
#include "tests/unit/wire/wire_story.h"

static void example_results(struct msgpack_writer *w, const struct result *results,
                            uint32_t count) {
    size_t size = reply_encode(results, count, NULL, w->at, (size_t)(w->end - w->at));
    w->at += size;
}

static void example_done(struct msgpack_writer *w) {
    struct result r = {.code = RESULT_OK, .version = 3, .shard = 1, .index = 1003};
    example_results(w, &r, 1);
}

static void example_repeated(struct msgpack_writer *w) {
    struct result r = {.code = RESULT_OK, .flags = 1, .version = 3, .shard = 1, .index = 1003};
    example_results(w, &r, 1);
}

static void example_held(struct msgpack_writer *w) {
    struct result r = {.code = RESULT_HELD, .version = 1, .shard = 1, .index = 1001};
    example_results(w, &r, 1);
}

static void example_refused(struct msgpack_writer *w) {
    struct result r = {.code = RESULT_NOT_ALLOWED_IN_STATE, .version = 3, .shard = 1,
                       .index = 1003};
    example_results(w, &r, 1);
}

static void example_overloaded(struct msgpack_writer *w) {
    struct result r = {.code = RESULT_OVERLOADED, .shard = 1, .retry_after_ms = 25};
    example_results(w, &r, 1);
}

static void example_of_two(struct msgpack_writer *w) {
    struct result r[] = {{.code = RESULT_OK, .version = 4, .shard = 1, .index = 1004},
                         {.code = RESULT_ORDER_NOT_FOUND, .shard = 0, .index = 88}};
    example_results(w, r, 2);
}

static void example_message_refused(struct msgpack_writer *w) {
    w->at += reply_encode_refused(RESULT_UNSUPPORTED_VERSION, w->at, (size_t)(w->end - w->at));
}

static void example_pong(struct msgpack_writer *w) {
    struct result r = {.code = RESULT_OK, .value_kind = RESULT_VALUE_MSGPACK,
                       .value = (void *)(uintptr_t)"\xa4pong", .value_bytes = 5};
    example_results(w, &r, 1);
}

static void example_shard_map_value(struct msgpack_writer *w) {
    uint8_t value[256];
    struct msgpack_writer v;
    msgpack_writer_init(&v, value, sizeof value);
    msgpack_write_map(&v, 2);
    msgpack_write_text(&v, "epochs");
    msgpack_write_array(&v, 1);
    msgpack_write_array(&v, 2);
    msgpack_write_uint(&v, 0);
    msgpack_write_uint(&v, 2);
    msgpack_write_text(&v, "shards");
    msgpack_write_array(&v, 2);
    for (unsigned i = 0; i < 2; i++) {
        msgpack_write_array(&v, 2);
        msgpack_write_uint(&v, i);
        msgpack_write_text(&v, i == 0 ? "tcp://127.0.0.1:7401" : "tcp://127.0.0.1:7402");
    }
    struct result r = {.code = RESULT_OK, .value_kind = RESULT_VALUE_MSGPACK, .value = value,
                       .value_bytes = (uint32_t)msgpack_writer_size(&v)};
    example_results(w, &r, 1);
}

static void example_order(struct msgpack_writer *w) {
    static struct wire_story story;
    wire_story_example(&story);
    struct result r = {.code = RESULT_OK, .version = 3, .shard = 1, .index = 1003,
                       .value_kind = RESULT_VALUE_ORDER, .value = story.block};
    example_results(w, &r, 1);
}

static void example_history(struct msgpack_writer *w) {
    static struct wire_story story;
    wire_story_example(&story);
    struct result r = {.code = RESULT_OK, .version = 3, .shard = 1, .index = 1003,
                       .value_kind = RESULT_VALUE_HISTORY, .value = story.history,
                       .value_bytes = story.history_bytes};
    example_results(w, &r, 1);
}

static void example_store(struct msgpack_writer *w) {
    static struct wire_story story;
    wire_story_init(&story);
    struct command pause = wire_story_command(COMMAND_STORE_PAUSE);
    pause.store.store = bytes_of_text("store-7");
    pause.store.reason = bytes_of_text("kitchen fire drill");
    pause.subject = store_key(pause.store.store, false);
    require(wire_story_run(&story, &pause) == RESULT_OK);
    struct result r = {.code = RESULT_OK, .version = 1, .shard = 0, .index = 1001,
                       .value_kind = RESULT_VALUE_STORE, .value = story.block};
    example_results(w, &r, 1);
}

static void example_cluster(struct msgpack_writer *w) {
    static struct cluster cluster;
    struct cluster_document *d = &cluster.document;
    cluster.actor.version = 2;
    d->cluster_id = (struct id128){{0xc1, [15] = 1}};
    d->replicas = 3;
    d->nodes_count = (uint16_t)(d->node_last = 3);
    for (uint32_t i = 0; i < 3; i++) {
        struct cluster_member *m = &d->nodes[i];
        *m = (struct cluster_member){.node = i + 1, .state = CLUSTER_MEMBER_ACTIVE};
        snprintf(m->peer, sizeof m->peer, "tcp://10.0.0.%u:7300", i + 1);
        snprintf(m->client, sizeof m->client, "tcp://10.0.0.%u:7400", i + 1);
    }
    d->nodes[2].state = CLUSTER_MEMBER_DRAINING;
    d->epochs_count = 1;
    d->epochs[0].shards_count = d->stores_shards = 1;
    d->shards_count = 2;
    for (uint32_t i = 0; i < 2; i++)
        d->shards[i] = (struct cluster_shard){
            .shard = i == 0 ? 0 : SHARD_META, .preferred = i + 1, .state = CLUSTER_SHARD_ACTIVE,
            .servers_count = 3, .first_count = 3, .servers = {1, 2, 3}, .first = {1, 2, 3}};
    require(cluster_document_fault(d) == NULL);
    struct result r = {.code = RESULT_OK, .version = 2, .shard = SHARD_META, .index = 4,
                       .value_kind = RESULT_VALUE_CLUSTER, .value = &cluster};
    example_results(w, &r, 1);
}

/* The newest event of the example order, told a second time. */
static void example_republished(struct msgpack_writer *w) {
    static struct wire_story story;
    uint8_t map[1024];
    const struct history_item *item = NULL;
    const struct id128 stream = {{0x57, [15] = 1}};
    struct msgpack_writer event;
    wire_story_example(&story);
    for (uint32_t at = 0; at < story.history_bytes;) {
        item = (const void *)(story.history + at);
        at += (uint32_t)sizeof *item + ((const struct event *)(const void *)(item + 1))->bytes;
    }
    msgpack_writer_init(&event, map, sizeof map);
    event_encode(&event, item->index, item->time_ms, (const void *)(item + 1));
    require(msgpack_writer_ok(&event) && map[0] == 0x8a); /* a map of 10: its pairs follow */
    republish_encode_head(w, &stream, 1, 1);
    msgpack_write_map(w, 12);
    msgpack_pair_uint(w, "shard", 1);
    msgpack_write_text(w, "republished");
    msgpack_write_bool(w, true);
    msgpack_write_raw(w, map + 1, msgpack_writer_size(&event) - 1);
}

static void example_republished_end(struct msgpack_writer *w) {
    const struct id128 stream = {{0x57, [15] = 1}};
    republish_encode_head(w, &stream, 2, 0);
}

static void example_acknowledged(struct msgpack_writer *w) {
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, FEED_VERSION);
    msgpack_write_uint(w, RESULT_OK);
    msgpack_write_uint(w, 1);
}

const struct wire_example wire_examples_replies[] = {
    {"reply: done", example_done},
    {"reply: repeated", example_repeated},
    {"reply: held", example_held},
    {"reply: refused", example_refused},
    {"reply: overloaded", example_overloaded},
    {"reply: two results", example_of_two},
    {"reply: message refused", example_message_refused},
    {"reply: ping", example_pong},
    {"reply: shard_map", example_shard_map_value},
    {"reply: get", example_order},
    {"reply: history", example_history},
    {"reply: store_get", example_store},
    {"reply: cluster_get", example_cluster},
    {"republished: events", example_republished},
    {"republished: the end", example_republished_end},
    {"republished: acknowledged", example_acknowledged},
};
const unsigned wire_examples_replies_count =
    sizeof wire_examples_replies / sizeof *wire_examples_replies;
