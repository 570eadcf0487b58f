/* Any bytes -> a replica's reader of queries, and the feed's of requests. What they let through
 * must lie within the message and within its limits. */
#include "engine/base/check.h"
#include "engine/limits.h"
#include "engine/wire/feed_decode.h"
#include "engine/wire/order_fields.h"
#include "engine/wire/query_decode.h"
#include "tests/fuzz/fuzz_harness.h"

static void within(struct bytes text, const uint8_t *data, size_t size) {
    if (text.size == 0) return;
    require((const uint8_t *)text.data >= data);
    require((const uint8_t *)text.data + text.size <= data + size);
    fuzz_touch(text.data, text.size);
}

static void check_query(const struct query *q, const uint8_t *data, size_t size) {
    if (q->fault != 0) return;
    within(q->subject, data, size);
    within(q->cursor, data, size);
    require(q->fields_count <= QUERY_FIELDS_MAX);
    for (uint32_t i = 0; i < q->fields_count; i++) require(q->fields[i] < ORDER_FIELDS_COUNT);
    require(q->limit <= QUERY_ROWS_MAX && q->since_count <= QUERY_TOKENS_MAX);
    require(q->cursor.size <= QUERY_CURSOR_BYTES_MAX);
    if (q->kind == QUERY_MULTI_GET) require(q->subject.size % 16 == 0 && q->subject.size > 0);
    if (q->since_count) fuzz_touch(q->since, q->since_count * sizeof *q->since);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct wire_arena arena = {0};
    struct query_request request;
    struct feed_request feed;
    if (query_decode(data, size, &arena, &request) == RESULT_OK) {
        require(request.queries_count >= 1 && request.queries_count <= QUERY_BATCH_MAX);
        for (uint32_t i = 0; i < request.queries_count; i++)
            check_query(&request.queries[i], data, size);
        if (request.at_least_count)
            fuzz_touch(request.at_least, request.at_least_count * sizeof *request.at_least);
    }
    wire_arena_free(&arena);
    if (feed_request_decode(data, size, &feed) == RESULT_OK) {
        require(feed_request_is_one(data, size));
        require(feed.wait_ms <= FEED_WAIT_MS_MAX && feed.bytes_max <= FEED_BATCH_BYTES_MAX);
        require(feed.form <= FEED_MAPS);
        if (feed.kind == FEED_PULL) require(feed.from > 0);
    }
    return 0;
}
