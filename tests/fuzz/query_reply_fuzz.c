/* Any bytes -> what the client reads of replicas: replies with their rows, notifications, maps. */
#include "clients/sdk/query_reply.h"
#include "clients/sdk/subscription.h"
#include "clients/sdk/watch.h"
#include "engine/base/check.h"
#include "tests/fuzz/fuzz_harness.h"

static void look_at_rows(const void *value, size_t bytes, bool changes) {
    jumun_answer answer = {.value = value, .value_bytes = bytes, .changes = changes};
    jumun_counter counter;
    jumun_order *order;
    uint32_t rows = jumun_answer_rows(&answer);
    require(rows <= bytes);
    for (uint32_t i = 0; i < rows && i < 4; i++) {
        size_t row_bytes;
        const void *row = jumun_answer_row(&answer, i, &row_bytes);
        if (row) fuzz_touch(row, row_bytes);
        if (jumun_answer_order(&answer, i, &order) == JUMUN_OK) jumun_order_free(order);
        if (jumun_answer_counter(&answer, i, &counter) == JUMUN_OK)
            require(memchr(counter.store, 0, sizeof counter.store) && counter.state <= 15);
    }
}

static void look_at_value(const struct query_result *result) {
    static struct query_changes changes;
    char notify[ENDPOINT_ADDRESSES_BYTES];
    fuzz_touch(result->value, result->value_bytes);
    if (result->cursor) fuzz_touch(result->cursor, result->cursor_bytes);
    look_at_rows(result->value, result->value_bytes, false);
    look_at_rows(result->value, result->value_bytes, true);
    if (query_changes_read(result->value, result->value_bytes, &changes)) {
        require(changes.tokens_count <= SHARDS_MAX);
        fuzz_touch(changes.rows, changes.rows_bytes);
    }
    if (replica_map_notify(result->value, result->value_bytes, notify))
        require(notify[0] && strlen(notify) < sizeof notify);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct query_reply reply;
    struct heard heard;
    if (heard_decode(data, size, &heard)) fuzz_touch(heard.topic, heard.topic_bytes);
    enum query_reply_kind kind = query_reply_open(&reply, data, size);
    if (kind == QUERY_REPLY_REFUSED) fuzz_touch(reply.sentence, reply.sentence_bytes);
    if (kind != QUERY_REPLY_RESULTS) return 0;
    require(reply.count <= size && reply.tokens_count <= SHARDS_MAX);
    for (uint32_t i = 0; i < reply.count; i++) {
        struct query_result result;
        if (!query_reply_next(&reply, &result)) break;
        if (result.sentence) fuzz_touch(result.sentence, result.sentence_bytes);
        if (result.value) look_at_value(&result);
    }
    query_reply_age(&reply, UINT32_MAX);
    return 0;
}
