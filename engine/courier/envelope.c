#include "engine/courier/envelope.h"

#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"

enum { ENVELOPE_FIELDS = 5 };

size_t envelope_bytes_max(const struct envelope *envelope) {
    return 2 * MSGPACK_HEADER_BYTES_MAX + 4 * MSGPACK_INT_BYTES_MAX + envelope->payload.size;
}

size_t envelope_encode(const struct envelope *envelope, void *out, size_t capacity) {
    struct msgpack_writer w;
    msgpack_writer_init(&w, out, capacity);
    msgpack_write_array(&w, ENVELOPE_FIELDS);
    msgpack_write_uint(&w, envelope->from);
    msgpack_write_uint(&w, envelope->to);
    msgpack_write_uint(&w, envelope->sequence);
    msgpack_write_uint(&w, envelope->kind);
    msgpack_write_bin(&w, envelope->payload.data, envelope->payload.size);
    return msgpack_writer_ok(&w) ? msgpack_writer_size(&w) : 0;
}

bool envelope_decode(const void *data, size_t bytes, struct envelope *envelope) {
    struct msgpack_reader r;
    uint32_t fields;
    uint64_t from, to, sequence, kind;
    msgpack_reader_init(&r, data, bytes);
    if (msgpack_read_array(&r, &fields) != MSGPACK_OK || fields != ENVELOPE_FIELDS) return false;
    if (msgpack_read_uint_upto(&r, UINT32_MAX, &from) != MSGPACK_OK) return false;
    if (msgpack_read_uint_upto(&r, UINT32_MAX, &to) != MSGPACK_OK) return false;
    if (msgpack_read_uint(&r, &sequence) != MSGPACK_OK) return false;
    if (msgpack_read_uint_upto(&r, ENVELOPE_ACKNOWLEDGEMENT, &kind) != MSGPACK_OK || kind == 0)
        return false;
    *envelope = (struct envelope){.from = (uint32_t)from, .to = (uint32_t)to,
                                  .kind = (uint8_t)kind, .sequence = sequence};
    if (msgpack_read_bin(&r, &envelope->payload.data, &envelope->payload.size) != MSGPACK_OK)
        return false;
    return msgpack_reader_left(&r) == 0;
}
