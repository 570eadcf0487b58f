/* Any bytes as the answer to SHARD_MAP -> the client's routing. */
#include "clients/sdk/shard_router.h"
#include "engine/base/check.h"
#include "tests/fuzz/fuzz_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct shard_map map;
    if (shard_map_decode(data, size, "tcp://host:7400,tcp://other:7400", &map) != NULL) return 0;
    require(map.epochs_count >= 1 && map.epochs_count <= SHARD_MAP_EPOCHS_MAX);
    for (uint32_t i = 0; i < map.epochs_count; i++) {
        require(map.epochs[i].shards_count >= 1);
        require(map.epochs[i].shards_count <= map.shards_count);
    }
    for (uint32_t i = 0; i < SHARDS_MAX; i++)
        require(memchr(map.addresses[i], '\0', SHARD_MAP_ADDRESS_BYTES) != NULL);
    return 0;
}
