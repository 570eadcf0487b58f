#include "engine/peers/snapshot_frame.h"

#include <xxhash.h>

#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"

static uint32_t frame_fields(uint32_t kind) {
    switch (kind) {
    case SNAPSHOT_HEADER: return 9;
    case SNAPSHOT_CHUNK: return 7;
    case SNAPSHOT_ACK: return 7;
    case SNAPSHOT_REFUSE: return 6;
    default: return 0;
    }
}

size_t snapshot_frame_encode(const struct snapshot_frame *f, void *out, size_t capacity) {
    struct msgpack_writer w;
    msgpack_writer_init(&w, out, capacity);
    msgpack_write_array(&w, frame_fields(f->kind));
    msgpack_write_uint(&w, f->shard);
    msgpack_write_uint(&w, f->from);
    msgpack_write_uint(&w, f->to);
    msgpack_write_uint(&w, f->transfer);
    switch (f->kind) {
    case SNAPSHOT_HEADER:
        msgpack_write_uint(&w, f->term);
        msgpack_write_uint(&w, f->index);
        msgpack_write_uint(&w, f->bytes);
        msgpack_write_uint(&w, f->chunk_bytes);
        break;
    case SNAPSHOT_CHUNK:
        msgpack_write_uint(&w, f->offset);
        msgpack_write_bin(&w, f->data.data, f->data.size);
        break;
    case SNAPSHOT_ACK:
        msgpack_write_uint(&w, f->state);
        msgpack_write_uint(&w, f->offset);
        break;
    case SNAPSHOT_REFUSE: msgpack_write_uint(&w, f->reason); break;
    default: return 0;
    }
    if (msgpack_writer_ok(&w)) msgpack_write_uint(&w, XXH3_64bits(out, msgpack_writer_size(&w)));
    return msgpack_writer_ok(&w) ? msgpack_writer_size(&w) : 0;
}

static bool decode_header(struct msgpack_reader *r, struct snapshot_frame *f) {
    uint64_t chunk_bytes;
    if (msgpack_read_uint(r, &f->term) != MSGPACK_OK) return false;
    if (msgpack_read_uint(r, &f->index) != MSGPACK_OK || f->index == 0) return false;
    if (msgpack_read_uint_upto(r, SNAPSHOT_FILE_BYTES_MAX, &f->bytes) != MSGPACK_OK) return false;
    if (msgpack_read_uint_upto(r, SNAPSHOT_CHUNK_BYTES_MAX, &chunk_bytes) != MSGPACK_OK)
        return false;
    f->chunk_bytes = (uint32_t)chunk_bytes;
    return f->bytes > 0 && chunk_bytes > 0;
}

static bool decode_chunk(struct msgpack_reader *r, struct snapshot_frame *f) {
    if (msgpack_read_uint_upto(r, SNAPSHOT_FILE_BYTES_MAX, &f->offset) != MSGPACK_OK) return false;
    if (msgpack_read_bin(r, &f->data.data, &f->data.size) != MSGPACK_OK) return false;
    return f->data.size > 0 && f->data.size <= SNAPSHOT_CHUNK_BYTES_MAX;
}

static bool decode_ack(struct msgpack_reader *r, struct snapshot_frame *f) {
    uint64_t state;
    if (msgpack_read_uint_upto(r, SNAPSHOT_ACK_COMPLETE, &state) != MSGPACK_OK) return false;
    f->state = (uint8_t)state;
    return msgpack_read_uint_upto(r, SNAPSHOT_FILE_BYTES_MAX, &f->offset) == MSGPACK_OK;
}

static bool decode_refuse(struct msgpack_reader *r, struct snapshot_frame *f) {
    uint64_t reason;
    if (msgpack_read_uint_upto(r, SNAPSHOT_BUSY, &reason) != MSGPACK_OK) return false;
    f->reason = (uint8_t)reason;
    return reason > 0;
}

bool snapshot_frame_decode(uint32_t kind, const void *data, size_t bytes,
                           struct snapshot_frame *frame) {
    struct snapshot_frame f = {.kind = (uint8_t)kind};
    struct msgpack_reader r;
    uint32_t fields;
    uint64_t shard;
    bool whole = false;
    msgpack_reader_init(&r, data, bytes);
    if (frame_fields(kind) == 0) return false;
    if (msgpack_read_array(&r, &fields) != MSGPACK_OK || fields != frame_fields(kind)) return false;
    if (msgpack_read_uint_upto(&r, UINT32_MAX, &shard) != MSGPACK_OK) return false;
    if (msgpack_read_uint(&r, &f.from) != MSGPACK_OK || f.from == 0) return false;
    if (msgpack_read_uint(&r, &f.to) != MSGPACK_OK || f.to == 0) return false;
    if (msgpack_read_uint(&r, &f.transfer) != MSGPACK_OK) return false;
    f.shard = (uint32_t)shard;
    switch (kind) {
    case SNAPSHOT_HEADER: whole = decode_header(&r, &f); break;
    case SNAPSHOT_CHUNK: whole = decode_chunk(&r, &f); break;
    case SNAPSHOT_ACK: whole = decode_ack(&r, &f); break;
    default: whole = decode_refuse(&r, &f); break;
    }
    size_t sealed = bytes - msgpack_reader_left(&r);
    uint64_t checksum;
    if (!whole || msgpack_read_uint(&r, &checksum) != MSGPACK_OK) return false;
    if (msgpack_reader_left(&r) != 0 || checksum != XXH3_64bits(data, sealed)) return false;
    *frame = f;
    return true;
}
