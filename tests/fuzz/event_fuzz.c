/* Any bytes as events of a log entry: what passes the check of form can be shown. */
#include <stdlib.h>

#include "actors/cluster/cluster.h"
#include "actors/message_event.h"
#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/base/check.h"
#include "engine/limits.h"
#include "engine/wire/event_encode.h"
#include "tests/fuzz/fuzz_harness.h"

static bool is_well_formed(const struct event *e) {
    if (e->kind >= EVENT_CLUSTER_CHANGED) return cluster_event_is_well_formed(e);
    if (e->kind == EVENT_SHARDS_KNOWN) return shards_known_is_well_formed(e);
    if (e->kind >= EVENT_MESSAGE_SENT) return message_event_is_well_formed(e);
    if (e->kind >= EVENT_STORE_PAUSED) return store_event_is_well_formed(e);
    return order_event_is_well_formed(e);
}

static bool visit_news(void *arg, const struct store_news *news) {
    fuzz_touch(news->store.data, news->store.size);
    fuzz_touch(news->block.data, news->block.size);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > ENTRY_BYTES_MAX) return 0;
    void *entry = fuzz_aligned(data, size); /* entries lie aligned in memory */
    if (entry == NULL) return 0;
    uint32_t at = 0;
    const struct event *e;
    while ((e = event_next(entry, (uint32_t)size, &at)) != NULL) {
        require((const uint8_t *)e + e->bytes <= (const uint8_t *)entry + size);
        if (!is_well_formed(e)) continue;
        size_t max = event_encode_bytes_max(e);
        uint8_t *out = malloc(max);
        if (out == NULL) break;
        struct msgpack_writer w;
        msgpack_writer_init(&w, out, max);
        event_encode(&w, UINT64_MAX, INT64_MIN, e);
        require(msgpack_writer_ok(&w));
        free(out);
    }
    free(entry);
    uint8_t kind = 0;
    struct store_message_head head;
    if (store_message_decode(bytes_of(data, size), &kind, visit_news, NULL))
        require(store_message_head(bytes_of(data, size), &head) && head.kind == kind);
    return 0;
}
