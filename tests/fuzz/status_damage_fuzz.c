/* Any msgpack as a shard's row of a STATUS answer: what it says of damage fits its fields, and
 * makes a sentence. */
#include "clients/cli/cli_damage.h"
#include "engine/base/check.h"
#include "tests/fuzz/fuzz_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    msgpack_unpacked row;
    size_t offset = 0;
    /* msgpack-c makes room for as many items as a head of 32 bits says, before it looks for them:
     * the SDK has read the answer by then, and its items are there. */
    if (memchr(data, 0xdd, size) || memchr(data, 0xdf, size)) return 0;
    msgpack_unpacked_init(&row);
    if (msgpack_unpack_next(&row, (const char *)data, size, &offset) == MSGPACK_UNPACK_SUCCESS) {
        struct cli_damage d;
        char text[512];
        bool damaged = cli_damage_of(&row.data, &d);
        require(damaged == (d.count > 0));
        require(strlen(d.kind) < sizeof d.kind && strlen(d.where) < sizeof d.where);
        require(strlen(d.what) < sizeof d.what);
        cli_damage_text(&d, text, sizeof text);
        require(strlen(text) < sizeof text);
        fuzz_touch(text, strlen(text));
    }
    msgpack_unpacked_destroy(&row);
    return 0;
}
