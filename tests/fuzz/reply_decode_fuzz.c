/* Any bytes -> the client's reader of replies. */
#include "clients/sdk/reply_decode.h"
#include "engine/base/check.h"
#include "tests/fuzz/fuzz_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct reply reply;
    switch (reply_open(&reply, data, size)) {
    case REPLY_RESULTS:
        require(reply.count <= size);
        for (uint32_t i = 0; i < reply.count; i++) {
            jumun_result result = {0};
            const void *value = NULL;
            size_t value_bytes = 0;
            if (!reply_next(&reply, &result, &value, &value_bytes)) break;
            if (value != NULL) {
                require((const uint8_t *)value >= data);
                require((const uint8_t *)value + value_bytes <= data + size);
                fuzz_touch(value, value_bytes);
            }
            require(memchr(result.detail, '\0', sizeof result.detail) != NULL);
        }
        break;
    case REPLY_REFUSED:
        fuzz_touch(reply.sentence, reply.sentence_bytes);
        break;
    case REPLY_GARBAGE: break;
    }
    return 0;
}
