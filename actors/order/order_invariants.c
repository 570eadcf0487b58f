#include "actors/order/order_layout.h"
#include "actors/order/order_states.h"

#ifdef JUMUN_DEBUG_CHECKS
/* What costs a walk over the lists. */
static void order_check_lists(const struct order *order) {
    int64_t lines_total = 0, captured = 0;
    require(order_lines_check(order_at(order, order_lines_at(order)), order->lines_bytes,
                              order->lines_count, &lines_total));
    require(lines_total == order->lines_total);
    require(order_parts_check(order_at(order, order_parts_at(order)), order->parts_bytes,
                              order->parts_count, &captured));
    require(captured == order->captured);
}
#endif

void order_check_invariants(const struct actor *actor) {
    const struct order *order = order_of(actor);
    require(actor->bytes == order_bytes_of_sections(order));
    require(actor->bytes <= ACTOR_BYTES_MAX);
    require(actor->state >= ORDER_AWAITED && actor->state <= ORDER_EXPIRED);
    require(order->lines_total >= 0 && order->fees >= 0 && order->discounts >= 0);
    require(order->lines_total + order->fees - order->discounts == order->total);
    require(order->total >= 0);
    require(order->refunded >= 0 && order->refunded <= order->captured);
    require(order->refund_owed >= 0 && order->refund_owed <= order->captured - order->refunded);
    require(implies(order->refund_owed > 0, order->end_deadline_ms != 0));
    require((actor->state == ORDER_AWAITED || actor->state == ORDER_EXPIRED) ||
            order_was_placed(order));
    require((order->held_count == 0) == (order->held_bytes == 0));
#ifdef JUMUN_DEBUG_CHECKS
    order_check_lists(order);
#endif
}
