/* changes: [store][shard][index of the newest event][order key]: what changed in a store since a
 * token, each order once. */
#include "engine/replica/view.h"

uint32_t view_changes_key(const struct view_order *o, uint8_t *out) {
    if (!o->exists || o->store.size == 0) return 0;
    uint8_t *at = view_put_u32(view_put_text(out, o->store), o->shard);
    at = view_put_u64(at, o->last_index);
    return (uint32_t)(view_put_key(at, &o->key) - out);
}
