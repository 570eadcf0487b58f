/* Any bytes -> the follower's reader of answers: the first byte picks the question. */
#include "engine/base/check.h"
#include "engine/wire/feed_decode.h"
#include "tests/fuzz/fuzz_harness.h"

static void within(struct bytes part, const uint8_t *data, size_t size) {
    if (part.size == 0) return;
    require((const uint8_t *)part.data >= data);
    require((const uint8_t *)part.data + part.size <= data + size);
    fuzz_touch(part.data, part.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct feed_reply p;
    struct feed_hello_shard shards[4];
    struct feed_hello hello = {.shards = shards, .shards_max = 4};
    if (size == 0) return 0;
    enum feed_kind kind = (enum feed_kind)(FEED_HELLO + data[0] % 6);
    enum feed_form form = (enum feed_form)(data[0] / 6 % 4);
    data++;
    size--;
    if (feed_reply_decode(data, size, kind, form, &p)) {
        within(p.sentence, data, size);
        within(p.records, data, size);
        within(p.rest, data, size);
        within(p.times, data, size);
        struct feed_times times = {.rest = p.times, .now_ms = p.now_ms};
        uint64_t last, moments = 0;
        int64_t ms;
        while (feed_times_next(&times, &last, &ms)) moments++;
        require(moments <= p.times.size);
        if (kind == FEED_PULL && p.code == RESULT_OK)
            require(p.next == p.from || p.next <= p.commit + 1);
        if (kind == FEED_HELLO && p.code == RESULT_OK && feed_hello_decode(p.rest, &hello)) {
            require(hello.shards_held <= 4);
            require(memchr(hello.cluster_id, 0, sizeof hello.cluster_id) != NULL);
            within(hello.notify, data, size);
        }
    }
    return 0;
}
