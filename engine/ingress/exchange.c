#include "engine/ingress/exchange.h"

#include <stdlib.h>

#include "actors/store/store.h"
#include "engine/wire/request_decode.h"

enum { EXCHANGE_POOL_MAX = 1024 };

static void exchange_lock(struct exchange_pool *pool) {
    while (atomic_flag_test_and_set_explicit(&pool->lock, memory_order_acquire))
        __builtin_ia32_pause();
}

static void exchange_unlock(struct exchange_pool *pool) {
    atomic_flag_clear_explicit(&pool->lock, memory_order_release);
}

struct exchange *exchange_take(struct exchange_pool *pool) {
    exchange_lock(pool);
    struct exchange *e = pool->first;
    if (e) {
        pool->first = e->next;
        pool->count--;
    }
    exchange_unlock(pool);
    return e ? e : calloc(1, sizeof *e);
}

void exchange_give(struct exchange_pool *pool, struct exchange *e) {
    for (uint32_t i = 0; i < e->request.commands_count; i++) {
        struct result *r = &e->request.results[i];
        if (r->value_kind != RESULT_VALUE_MSGPACK) free(r->value);
    }
    for (uint32_t i = 0; i < EXCHANGE_NODE_VALUES; i++) free(e->node_values[i].data);
    if (e->message) nng_msg_free(e->message);
    wire_arena_free(&e->arena);
    *e = (struct exchange){0};
    exchange_lock(pool);
    bool kept = pool->count < EXCHANGE_POOL_MAX;
    if (kept) {
        e->next = pool->first;
        pool->first = e;
        pool->count++;
    }
    exchange_unlock(pool);
    if (!kept) free(e);
}

void exchange_pool_fini(struct exchange_pool *pool) {
    while (pool->first) {
        struct exchange *e = pool->first;
        pool->first = e->next;
        free(e);
    }
    pool->count = 0;
}

/* One piece of memory for all that goes with the commands. */
static bool exchange_make_room(struct exchange *e, uint32_t commands, uint32_t shards_count) {
    uint32_t parts = commands < shards_count + 1 ? commands : shards_count + 1; /* the meta group */
    size_t results = commands * sizeof(struct result);
    size_t bytes = results + parts * (sizeof(struct request_part) + sizeof(uint32_t)) +
                   2 * commands * sizeof(uint32_t);
    uint8_t *at = wire_arena_take(&e->arena, bytes);
    if (!at) return false;
    e->request.results = (struct result *)(void *)at;
    memset(at, 0, results);
    at += results;
    e->split.parts = (struct request_part *)(void *)at;
    at += parts * sizeof(struct request_part);
    e->split.part_shards = (uint32_t *)(void *)at;
    e->split.positions = e->split.part_shards + parts;
    e->split.shard_of = e->split.positions + commands;
    return true;
}

enum result_code exchange_decode(struct exchange *e, nng_msg *message, uint32_t shards_count,
                                 const struct id128 *cluster_id) {
    struct wire_request decoded = {0};
    e->message = message;
    enum result_code code =
        request_decode(nng_msg_body(message), nng_msg_len(message), &e->arena, &decoded);
    if (code != RESULT_OK) return code;
    if (!id128_is_zero(&decoded.cluster_id) && !id128_equal(&decoded.cluster_id, cluster_id))
        return RESULT_WRONG_CLUSTER;
    if (!exchange_make_room(e, decoded.commands_count, shards_count)) return RESULT_OUT_OF_MEMORY;
    e->request.commands = decoded.commands;
    e->request.commands_count = decoded.commands_count;
    e->request.deadline_ms = decoded.deadline_ms;
    e->forwarded = decoded.flags & REQUEST_FLAG_FORWARDED;
    for (uint32_t i = 0; i < decoded.commands_count; i++) {
        struct command *c = &decoded.commands[i];
        if (c->malformed == 0 && command_is_for_store(c->kind))
            c->subject = store_key(c->store.store, false);
    }
    return RESULT_OK;
}
