#include "engine/ingress/forwarding.h"

#include <stdlib.h>

#include "engine/wire/msgpack_reader.h"
#include "engine/wire/request_decode.h"

enum { FORWARDING_RETRY_MS = 20 };

static void forwarding_refuse(struct request_part *part, uint16_t code, uint32_t shard) {
    for (uint32_t i = 0; i < part->count; i++) {
        part->request->results[request_part_position(part, i)] = (struct result){
            .code = code, .shard = shard, .retry_after_ms = FORWARDING_RETRY_MS};
    }
}

/* The results as they stand: each is copied whole, and sent on as it is. */
static bool forwarding_take_results(struct msgpack_reader *r, struct request_part *part,
                                    uint32_t shard) {
    struct msgpack_reader check = *r;
    for (uint32_t i = 0; i < part->count; i++) {
        if (msgpack_peek(&check) != MSGPACK_TYPE_ARRAY || msgpack_skip(&check) != MSGPACK_OK)
            return false;
    }
    if (msgpack_reader_left(&check) != 0) return false;
    for (uint32_t i = 0; i < part->count; i++) {
        const uint8_t *from = r->at;
        msgpack_skip(r);
        uint32_t bytes = (uint32_t)(r->at - from);
        struct result *result = &part->request->results[request_part_position(part, i)];
        void *copy = malloc(bytes);
        /* It may have been done: the same id finds out. */
        *result = (struct result){.code = RESULT_LEADERSHIP_LOST, .shard = shard,
                                  .retry_after_ms = FORWARDING_RETRY_MS};
        if (!copy) continue;
        memcpy(copy, from, bytes);
        *result = (struct result){.code = RESULT_OK, .shard = shard, .value = copy,
                                  .value_bytes = bytes, .value_kind = RESULT_VALUE_RESULT};
    }
    return true;
}

bool forwarding_take_reply(struct bytes reply, struct request_part *part, uint32_t shard) {
    struct msgpack_reader r;
    uint32_t fields, count;
    uint64_t version, code;
    msgpack_reader_init(&r, reply.data, reply.size);
    if (msgpack_read_array(&r, &fields) != MSGPACK_OK || fields != 3 ||
        msgpack_read_uint(&r, &version) != MSGPACK_OK || version != PROTOCOL_VERSION ||
        msgpack_read_uint_upto(&r, UINT16_MAX, &code) != MSGPACK_OK)
        return false;
    if (code != RESULT_OK) {
        /* Of another cluster is the one that stands at the leader's address, not the one that the
         * client asked. */
        if (code == RESULT_WRONG_CLUSTER) code = RESULT_NOT_LEADER;
        forwarding_refuse(part, (uint16_t)code, shard);
        return true;
    }
    return msgpack_read_array(&r, &count) == MSGPACK_OK && count == part->count &&
           forwarding_take_results(&r, part, shard);
}

/* On one of nng's threads. */
static void forwarding_on_end(void *arg, enum forward_end end, struct bytes reply) {
    struct request_part *part = arg;
    struct exchange *e = (struct exchange *)part->request;
    uint32_t shard = e->split.part_shards[part - e->split.parts];
    if (end == FORWARD_NOT_SENT)
        forwarding_refuse(part, RESULT_NOT_LEADER, shard);
    else if (end == FORWARD_NO_REPLY || !forwarding_take_reply(reply, part, shard))
        forwarding_refuse(part, RESULT_LEADERSHIP_LOST, shard);
    request_part_done(part);
}

/* Where the commands stand in the message; once for an exchange. */
static const struct bytes *forwarding_spans(struct exchange *e) {
    if (e->spans) return e->spans;
    struct bytes *spans = wire_arena_take(&e->arena, e->request.commands_count * sizeof *spans);
    if (!spans) return NULL;
    request_spans(nng_msg_body(e->message), nng_msg_len(e->message), spans);
    e->spans = spans;
    return spans;
}

bool forwarding_send(struct forwarder *forwarder, struct exchange *e, uint32_t part,
                     uint32_t node) {
    struct request_part *p = &e->split.parts[part];
    const struct bytes *spans = forwarding_spans(e);
    struct bytes *commands =
        spans ? wire_arena_take(&e->arena, p->count * sizeof *commands) : NULL;
    if (!commands) return false;
    for (uint32_t i = 0; i < p->count; i++) commands[i] = spans[request_part_position(p, i)];
    return forwarder_send(forwarder, node, e->request.deadline_ms, commands, p->count,
                          forwarding_on_end, p);
}
