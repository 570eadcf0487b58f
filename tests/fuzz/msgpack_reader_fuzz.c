/* Any bytes -> the msgpack reader, beside msgpack-c: what the reference takes, the reader takes to
 * the same byte; and reading value by value ends where skipping ends. */
#include <msgpack.h>

#include "engine/base/check.h"
#include "engine/wire/msgpack_reader.h"
#include "tests/fuzz/fuzz_harness.h"

/* Reads one value with the read of its type. False = the bytes are not a whole value. */
static bool read_value(struct msgpack_reader *r, unsigned depth) {
    bool flag;
    double d;
    uint64_t u;
    int64_t i;
    uint32_t n = 0;
    const void *p = NULL;
    enum msgpack_type type = msgpack_peek(r);
    switch (type) {
    case MSGPACK_TYPE_NIL: return msgpack_read_nil(r) == MSGPACK_OK;
    case MSGPACK_TYPE_BOOL: return msgpack_read_bool(r, &flag) == MSGPACK_OK;
    case MSGPACK_TYPE_INT:
        return msgpack_read_int(r, &i) == MSGPACK_OK || msgpack_read_uint(r, &u) == MSGPACK_OK;
    case MSGPACK_TYPE_FLOAT: return msgpack_read_double(r, &d) == MSGPACK_OK;
    case MSGPACK_TYPE_STR:
        if (msgpack_read_str(r, &p, &n) != MSGPACK_OK) return false;
        fuzz_touch(p, n);
        return true;
    case MSGPACK_TYPE_BIN:
        if (msgpack_read_bin(r, &p, &n) != MSGPACK_OK) return false;
        fuzz_touch(p, n);
        return true;
    case MSGPACK_TYPE_EXT: return msgpack_skip(r) == MSGPACK_OK;
    case MSGPACK_TYPE_ARRAY:
        if (depth == 0 || msgpack_read_array(r, &n) != MSGPACK_OK) return false;
        for (uint32_t k = 0; k < n; k++)
            if (!read_value(r, depth - 1)) return false;
        return true;
    case MSGPACK_TYPE_MAP:
        if (depth == 0 || msgpack_read_map(r, &n) != MSGPACK_OK) return false;
        for (uint64_t k = 0; k < 2 * (uint64_t)n; k++)
            if (!read_value(r, depth - 1)) return false;
        return true;
    default: return false;
    }
}

/* The reference sets memory aside for as many items as a count claims, before it looks for them: up
 * to 256 GiB. Where the reader has refused the bytes, the reference gets them only if they are few
 * and hold no count of 32 bits. */
static bool reference_is_safe(const uint8_t *data, size_t size) {
    return size <= 64 && memchr(data, 0xdd, size) == NULL && memchr(data, 0xdf, size) == NULL;
}

static msgpack_unpack_return reference_takes(const uint8_t *data, size_t size, size_t *end) {
    msgpack_unpacked unpacked;
    msgpack_unpacked_init(&unpacked);
    msgpack_unpack_return taken = msgpack_unpack_next(&unpacked, (const char *)data, size, end);
    msgpack_unpacked_destroy(&unpacked);
    return taken;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct msgpack_reader skipped, read;
    msgpack_reader_init(&skipped, data, size);
    read = skipped;
    enum msgpack_status status = msgpack_skip(&skipped);
    require(implies(status != MSGPACK_OK, skipped.at == data));
    bool whole = read_value(&read, MSGPACK_DEPTH_MAX);
    require(whole == (status == MSGPACK_OK));
    require(implies(whole, read.at == skipped.at));
    if (status == MSGPACK_OK || reference_is_safe(data, size)) {
        size_t end = 0;
        msgpack_unpack_return theirs = reference_takes(data, size, &end);
        /* The bounds of depth differ. */
        bool taken = theirs == MSGPACK_UNPACK_SUCCESS;
        require(implies(taken && status != MSGPACK_TOO_DEEP, status == MSGPACK_OK));
        require(implies(taken && status == MSGPACK_OK, skipped.at == data + end));
        require(implies(status == MSGPACK_OK, taken || theirs == MSGPACK_UNPACK_NOMEM_ERROR));
    }
    return 0;
}
