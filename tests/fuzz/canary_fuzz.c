/* A decoder with a planted bug, which the smoke driver must find: it believes the length of a str
 * of 8 bits without looking how many bytes are left. */
#include "engine/wire/msgpack_reader.h"
#include "tests/fuzz/fuzz_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct msgpack_reader r;
    msgpack_reader_init(&r, data, size);
    uint32_t count;
    if (msgpack_read_array(&r, &count) != MSGPACK_OK || count != 3) return 0;
    while (r.at < r.end) {
        if (*r.at == 0xd9 && msgpack_reader_left(&r) >= 2) fuzz_touch(r.at + 2, r.at[1]);
        r.at++;
    }
    return 0;
}
