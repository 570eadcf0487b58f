/* Any bytes as a stored order or store: what passes the check of form can be read and shown. */
#include <stdlib.h>

#include "actors/store/store.h"
#include "engine/base/check.h"
#include "engine/limits.h"
#include "engine/wire/order_encode.h"
#include "engine/wire/store_encode.h"
#include "tests/fuzz/fuzz_harness.h"

static void encode_within_bound(const struct actor *actor, size_t max,
                                void (*encode)(struct msgpack_writer *, const struct actor *)) {
    uint8_t *out = malloc(max);
    if (out == NULL) return;
    struct msgpack_writer w;
    msgpack_writer_init(&w, out, max);
    encode(&w, actor);
    require(msgpack_writer_ok(&w));
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > ACTOR_BYTES_MAX) return 0;
    void *block = fuzz_aligned(data, size); /* blocks lie aligned in memory */
    if (block == NULL) return 0;
    if (order_is_well_formed(block, (uint32_t)size)) {
        encode_within_bound(block, order_encode_bytes_max(block), order_encode);
        require(order_store(block).size <= size);
        require(order_held_count(block) <= size);
    }
    if (store_is_well_formed(block, (uint32_t)size))
        encode_within_bound(block, store_encode_bytes_max(block), store_encode);
    free(block);
    return 0;
}
