#include "engine/replica/view.h"

#include "actors/order/order_layout.h"

const struct view views[VIEWS_COUNT] = {
#define X(number, name, layout, events, key, count, roll_up) \
    [VIEW_##number] = {name, layout, events, key, count, roll_up},
    VIEWS(X)
#undef X
};

void view_order_of(const struct actor *block, uint32_t shard, struct view_order *order) {
    const struct order *o = order_of(block);
    const uint8_t *text = (const uint8_t *)(o + 1);
    *order = (struct view_order){.key = block->key,
                                 .shard = shard,
                                 .state = block->state,
                                 .exists = order_was_placed(o) && !(block->flags & ACTOR_RETIRED),
                                 .open = block->flags & ACTOR_OPEN,
                                 .placed_ms = o->placed_ms,
                                 .last_index = block->last_index};
    order->store = bytes_of(text, o->store_bytes);
    text += o->store_bytes;
    order->customer = bytes_of(text, o->customer_bytes);
    text += o->customer_bytes + o->group_bytes;
    order->external_ref = bytes_of(text, o->external_ref_bytes);
}
