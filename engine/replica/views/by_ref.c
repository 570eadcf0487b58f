/* by_ref: [external reference][order key]. References are the caller's and may repeat. */
#include "engine/replica/view.h"

uint32_t view_by_ref_key(const struct view_order *o, uint8_t *out) {
    if (!o->exists || o->external_ref.size == 0) return 0;
    return (uint32_t)(view_put_key(view_put_text(out, o->external_ref), &o->key) - out);
}
