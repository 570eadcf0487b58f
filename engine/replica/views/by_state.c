/* by_state: [state][time placed][order key]. */
#include "engine/replica/view.h"

uint32_t view_by_state_key(const struct view_order *o, uint8_t *out) {
    if (!o->exists) return 0;
    uint8_t *at = view_put_u64(view_put_u8(out, o->state), (uint64_t)o->placed_ms);
    return (uint32_t)(view_put_key(at, &o->key) - out);
}
