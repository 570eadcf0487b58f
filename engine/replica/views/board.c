/* board: [store][state][time placed][order key], open orders only: what a kitchen looks at. */
#include "engine/replica/view.h"

uint32_t view_board_key(const struct view_order *o, uint8_t *out) {
    if (!o->exists || !o->open || o->store.size == 0) return 0;
    uint8_t *at = view_put_u8(view_put_text(out, o->store), o->state);
    at = view_put_u64(at, (uint64_t)o->placed_ms);
    return (uint32_t)(view_put_key(at, &o->key) - out);
}
