/* Any bytes as each kind of frame of a state on its way, as they are and with the right checksum
 * behind them; what is taken is written back the same. */
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/peers/snapshot_frame.h"
#include "engine/wire/msgpack_writer.h"
#include "tests/fuzz/fuzz_harness.h"

static void one_kind(uint32_t kind, const uint8_t *data, size_t size) {
    struct snapshot_frame frame, again;
    if (!snapshot_frame_decode(kind, data, size, &frame)) return;
    require(frame.kind == kind && frame.from > 0 && frame.to > 0);
    if (kind == SNAPSHOT_CHUNK) {
        require(frame.data.size > 0 && frame.data.size <= SNAPSHOT_CHUNK_BYTES_MAX);
        fuzz_touch(frame.data.data, frame.data.size);
    }
    size_t capacity = SNAPSHOT_FRAME_HEAD_BYTES_MAX + (size_t)frame.data.size;
    uint8_t *bytes = malloc(capacity);
    if (bytes == NULL) return;
    size_t used = snapshot_frame_encode(&frame, bytes, capacity);
    require(used > 0 && used <= capacity);
    require(snapshot_frame_decode(kind, bytes, used, &again));
    require(again.transfer == frame.transfer && again.offset == frame.offset);
    require(again.shard == frame.shard && again.bytes == frame.bytes);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *sealed = malloc(size + MSGPACK_INT_BYTES_MAX);
    if (sealed == NULL) return 0;
    if (size > 0) memcpy(sealed, data, size);
    struct msgpack_writer w;
    msgpack_writer_init(&w, sealed + size, MSGPACK_INT_BYTES_MAX);
    msgpack_write_uint(&w, XXH3_64bits(data, size));
    for (uint32_t kind = SNAPSHOT_HEADER; kind <= SNAPSHOT_REFUSE; kind++) {
        one_kind(kind, data, size);
        one_kind(kind, sealed, size + msgpack_writer_size(&w));
    }
    free(sealed);
    return 0;
}
