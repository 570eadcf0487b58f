/* Any bytes as a message to a node that waits for its cluster: refused, or its parts lie in it. */
#include "engine/base/check.h"
#include "engine/cluster/waiting_message.h"
#include "tests/fuzz/fuzz_harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct waiting_request q;
    if (!waiting_request_read(data, size, &q)) return 0;
    require(q.bytes.size <= size);
    fuzz_touch(q.bytes.data, q.bytes.size);
    if (q.kind == 0) require(q.bytes.size == 0);
    return 0;
}
