#include "engine/replica/view.h"

const struct view views[VIEWS_COUNT] = {
#define X(number, name, layout, events, key, count, roll_up) \
    [VIEW_##number] = {name, layout, events, key, count, roll_up},
    VIEWS(X)
#undef X
};

void view_order_of(const struct actor *block, uint32_t shard, struct view_order *order) {
    struct order_view v;
    order_view(block, &v);
    *order = (struct view_order){.key = v.key,
                                 .shard = shard,
                                 .state = v.state,
                                 .exists = v.fulfilment != 0 && !(block->flags & ACTOR_RETIRED),
                                 .open = block->flags & ACTOR_OPEN,
                                 .placed_ms = v.placed_ms,
                                 .last_index = v.last_index,
                                 .store = v.store,
                                 .customer = v.customer,
                                 .external_ref = v.external_ref};
}
