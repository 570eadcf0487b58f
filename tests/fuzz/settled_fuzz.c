/* Any bytes as the answer to STATUS -> how far a node's logs are settled. */
#include "clients/replay/settled.h"
#include "engine/base/check.h"
#include "tests/fuzz/fuzz_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct settled told;
    if (!settled_decode(data, size, &told)) return 0;
    require(memchr(told.run, 0, sizeof told.run) != NULL);
    require(memchr(told.cluster_id, 0, sizeof told.cluster_id) != NULL);
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        const struct settled_shard *s = &told.shards[i];
        require((s->index == 0) == (s->term == 0));
        require(s->index + s->unsettled >= s->index);
        require(s->here || (s->index == 0 && s->unsettled == 0));
    }
    return 0;
}
