#include "engine/cluster/waiting_message.h"

#include "engine/limits.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/protocol.h"

static bool read_array(struct msgpack_reader *r, uint32_t least, uint32_t most, uint32_t *count) {
    return msgpack_read_array(r, count) == MSGPACK_OK && *count >= least && *count <= most;
}

static bool read_uint32(struct msgpack_reader *r, uint32_t *value) {
    uint64_t wide = 0;
    bool good = msgpack_read_uint_upto(r, UINT32_MAX, &wide) == MSGPACK_OK;
    *value = (uint32_t)wide;
    return good;
}

static bool read_bin(struct msgpack_reader *r, struct bytes *bytes) {
    const void *data = NULL;
    uint32_t size = 0;
    if (msgpack_read_bin(r, &data, &size) != MSGPACK_OK) return false;
    *bytes = bytes_of(data, size);
    return true;
}

static bool read_body(struct msgpack_reader *r, uint32_t fields, struct waiting_request *q) {
    switch (q->kind) {
    case WAITING_ADOPT:
        return fields == 2 && read_bin(r, &q->bytes) && read_uint32(r, &q->node);
    case WAITING_SEED_READ:
        return fields == 2 && read_uint32(r, &q->shard) &&
               msgpack_read_uint(r, &q->offset) == MSGPACK_OK;
    case WAITING_SEED_WRITE:
        return fields == 4 && read_uint32(r, &q->shard) &&
               msgpack_read_uint(r, &q->offset) == MSGPACK_OK &&
               msgpack_read_uint(r, &q->total) == MSGPACK_OK && read_bin(r, &q->bytes);
    default: return fields == 0;
    }
}

static bool is_known(uint32_t kind) {
    return kind == WAITING_PING || kind == WAITING_STATUS || kind == WAITING_ADOPT ||
           kind == WAITING_SEED_READ || kind == WAITING_SEED_WRITE;
}

bool waiting_request_read(const void *message, size_t size, struct waiting_request *q) {
    struct msgpack_reader r;
    uint32_t fields, commands, parts, body = 0;
    uint64_t version;
    memset(q, 0, sizeof *q);
    if (size > MESSAGE_BYTES_MAX) return false;
    msgpack_reader_init(&r, message, size);
    if (!read_array(&r, 3, 5, &fields) || msgpack_read_uint(&r, &version) != MSGPACK_OK ||
        version != PROTOCOL_VERSION || msgpack_skip(&r) != MSGPACK_OK ||
        !read_array(&r, 1, 1, &commands) || !read_array(&r, 1, 6, &parts) ||
        !read_uint32(&r, &q->kind))
        return false;
    bool known = is_known(q->kind);
    for (uint32_t i = 1; i < parts; i++) {
        bool is_body = i == 4 && known && !msgpack_take_nil(&r);
        if (!is_body && i == 4 && known) continue; /* it was nil */
        if (!is_body && msgpack_skip(&r) != MSGPACK_OK) return false;
        if (is_body && (!read_array(&r, 0, 4, &body) || !read_body(&r, body, q))) return false;
    }
    if (!known) q->kind = 0;
    for (uint32_t i = 3; i < fields; i++)
        if (msgpack_skip(&r) != MSGPACK_OK) return false;
    return msgpack_reader_left(&r) == 0;
}

bool waiting_request_is_batch(const void *message, size_t size) {
    struct msgpack_reader r;
    uint32_t fields, commands;
    uint64_t version;
    msgpack_reader_init(&r, message, size);
    return read_array(&r, 3, 5, &fields) && msgpack_read_uint(&r, &version) == MSGPACK_OK &&
           version == PROTOCOL_VERSION && msgpack_skip(&r) == MSGPACK_OK &&
           read_array(&r, 2, BATCH_COMMANDS_MAX, &commands);
}

static void reply_head(struct msgpack_writer *w, uint32_t code, uint32_t fields) {
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, PROTOCOL_VERSION);
    msgpack_write_uint(w, 0);
    msgpack_write_array(w, 1);
    msgpack_write_array(w, fields);
    msgpack_write_uint(w, code);
    for (uint32_t i = 0; i < 4; i++) msgpack_write_uint(w, 0);
}

void waiting_reply_done(struct msgpack_writer *w) { reply_head(w, 0, 6); }

void waiting_reply_refused(struct msgpack_writer *w, uint32_t code, const char *sentence) {
    reply_head(w, code, 7);
    msgpack_write_text(w, sentence);
    msgpack_write_uint(w, 0);
}
