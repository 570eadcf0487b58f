#include "clients/sdk/retry.h"

#include "actors/result_codes.h"
#include "clients/sdk/key.h"

/* DISK_FULL is not among them: room comes back when a person makes it, so the caller hears of it
 * now, unless an attempt before it is in doubt. A node that waits to be taken in, or is of another
 * cluster, knows nothing of ours; its other nodes are asked too. */
bool retry_is_worthwhile(int code) {
    switch (code) {
    case RESULT_OVERLOADED: case RESULT_NOT_READY: case RESULT_NOT_LEADER:
    case RESULT_LEADERSHIP_LOST: case RESULT_SHUTTING_DOWN: case RESULT_OUT_OF_MEMORY:
    case RESULT_WRONG_SHARD: case RESULT_CLUSTER_NOT_FORMED: case RESULT_WRONG_CLUSTER: return true;
    default: return false;
    }
}

bool retry_needs_new_map(int code) {
    return code == RESULT_WRONG_SHARD || code == RESULT_NOT_LEADER ||
           code == RESULT_LEADERSHIP_LOST || code == RESULT_SHUTTING_DOWN ||
           code == RESULT_CLUSTER_NOT_FORMED || code == RESULT_WRONG_CLUSTER;
}

bool retry_leaves_doubt(int code) { return code == RESULT_LEADERSHIP_LOST; }

bool retry_tells_of_one_attempt(int code) {
    switch (code) {
    case RESULT_WRONG_SHARD: case RESULT_UNSUPPORTED_VERSION: case RESULT_UNKNOWN_COMMAND:
    case RESULT_CLUSTER_NOT_FORMED:
        return true;
    default: return code >= RESULT_OVERLOADED && code < RESULT_MALFORMED_MESSAGE;
    }
}

int64_t retry_delay_ns(uint32_t attempts, uint32_t min_ms, uint32_t max_ms, uint32_t asked_ms) {
    int64_t bound_ns = (int64_t)min_ms * 1000000, max_ns = (int64_t)max_ms * 1000000;
    for (uint32_t i = 1; i < attempts && bound_ns < max_ns; i++) bound_ns *= 2;
    if (bound_ns > max_ns) bound_ns = max_ns;
    return (int64_t)asked_ms * 1000000 + (int64_t)key_random_below((uint64_t)bound_ns + 1);
}
