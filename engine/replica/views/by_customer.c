/* by_customer: [customer][time placed, turned round][order key]: the newest order comes first. */
#include "engine/replica/view.h"

uint32_t view_by_customer_key(const struct view_order *o, uint8_t *out) {
    if (!o->exists || o->customer.size == 0) return 0;
    uint8_t *at = view_put_text(out, o->customer);
    at = view_put_u64(at, ~(uint64_t)o->placed_ms);
    return (uint32_t)(view_put_key(at, &o->key) - out);
}
