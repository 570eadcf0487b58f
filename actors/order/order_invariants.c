#include "actors/order/order_layout.h"
#include "actors/order/order_states.h"

#define ORDER_HOLDS(x) if (__builtin_expect(!(x), 0)) return #x

const char *order_lines_fault(const struct actor *actor) {
    const struct order *order = order_of(actor);
    int64_t lines_total = 0;
    ORDER_HOLDS(order_lines_check(order_at(order, order_lines_at(order)), order->lines_bytes,
                                  order->lines_count, &lines_total));
    ORDER_HOLDS(lines_total == order->lines_total);
    return NULL;
}

const char *order_parts_fault(const struct actor *actor) {
    const struct order *order = order_of(actor);
    int64_t captured = 0;
    ORDER_HOLDS(order_parts_check(order_at(order, order_parts_at(order)), order->parts_bytes,
                                  order->parts_count, &captured));
    ORDER_HOLDS(captured == order->captured);
    return NULL;
}

const char *order_invariant_fault(const struct actor *actor) {
    const struct order *order = order_of(actor);
    ORDER_HOLDS(actor->bytes == order_bytes_of_sections(order));
    ORDER_HOLDS(actor->bytes <= ACTOR_BYTES_MAX);
    ORDER_HOLDS(actor->state >= ORDER_AWAITED && actor->state <= ORDER_EXPIRED);
    ORDER_HOLDS(order->lines_total >= 0 && order->fees >= 0 && order->discounts >= 0);
    ORDER_HOLDS(order->lines_total + order->fees - order->discounts == order->total);
    ORDER_HOLDS(order->total >= 0);
    ORDER_HOLDS(order->refunded >= 0 && order->refunded <= order->captured);
    ORDER_HOLDS(order->refund_owed >= 0 &&
                order->refund_owed <= order->captured - order->refunded);
    ORDER_HOLDS(implies(order->refund_owed > 0, order->end_deadline_ms != 0));
    ORDER_HOLDS((actor->state == ORDER_AWAITED || actor->state == ORDER_EXPIRED) ||
                order_was_placed(order));
    ORDER_HOLDS((order->held_count == 0) == (order->held_bytes == 0));
    return NULL;
}

void order_check_invariants(const struct actor *actor) {
    const char *fault = order_invariant_fault(actor);
#ifdef JUMUN_DEBUG_CHECKS
    if (!fault) fault = order_lines_fault(actor); /* costs a walk over the lists */
    if (!fault) fault = order_parts_fault(actor);
#endif
    if (fault) check_failed(__FILE__, __LINE__, __func__, fault);
}
