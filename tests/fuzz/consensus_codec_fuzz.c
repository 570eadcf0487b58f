/* Any bytes as a message between replicas, as they are and with the right checksum behind them: it
 * is refused, or it is a message that reads the same once more after it was written. */
#include <stdlib.h>
#include <xxhash.h>

#include "engine/base/check.h"
#include "engine/peers/consensus_codec.h"
#include "tests/fuzz/fuzz_harness.h"

static void read_back(const struct consensus_message *m, uint32_t shard) {
    uint32_t again_shard;
    size_t capacity = consensus_codec_bytes_max(m);
    void *bytes = malloc(capacity);
    require(bytes != NULL);
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, capacity);
    consensus_codec_write(&w, shard, m);
    require(msgpack_writer_ok(&w));
    struct consensus_message *again =
        consensus_codec_read(bytes_of(bytes, msgpack_writer_size(&w)), &again_shard);
    require(again != NULL && again_shard == shard && again->records_count == m->records_count);
    require(again->kind == m->kind && again->term == m->term && again->from == m->from);
    for (uint32_t i = 0; i < m->records_count; i++) {
        const struct record *a = m->records[i], *b = again->records[i];
        require(memcmp(&a->header, &b->header, sizeof a->header) == 0);
        require(memcmp(a->payload, b->payload, a->header.payload_bytes) == 0);
    }
    consensus_message_free(again);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint32_t shard;
    struct consensus_message *m = consensus_codec_read(bytes_of(data, size), &shard);
    if (m != NULL) read_back(m, shard);
    consensus_message_free(m);
    uint8_t *sealed = malloc(size + MSGPACK_INT_BYTES_MAX);
    if (sealed == NULL) return 0;
    if (size > 0) memcpy(sealed, data, size);
    struct msgpack_writer w;
    msgpack_writer_init(&w, sealed + size, MSGPACK_INT_BYTES_MAX);
    msgpack_write_uint(&w, XXH3_64bits(data, size));
    m = consensus_codec_read(bytes_of(sealed, size + msgpack_writer_size(&w)), &shard);
    if (m != NULL) read_back(m, shard);
    consensus_message_free(m);
    free(sealed);
    return 0;
}
