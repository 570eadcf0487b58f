/* The rules of this build with one planted change: a paid order is not cancelled by its customer
 * any more. For the test of `jumun-replay what-if`. */
#include "actors/order/order_rules.h"

static struct decision changed_decide(const struct actor *order, const struct command *command,
                                      const struct decide_context *context,
                                      struct event_sink *sink) {
    bool by_customer = command->kind == COMMAND_CANCEL && command->cancel.by == PARTY_CUSTOMER;
    if (order && order->state == ORDER_PAID && by_customer) {
        return (struct decision){RESULT_NOT_ALLOWED_IN_STATE, false, order->version};
    }
    return order_decide(order, command, context, sink);
}

const struct order_rules *jumun_order_rules(void) {
    static const struct order_rules rules = {
        .abi = ORDER_RULES_ABI, .bytes = sizeof rules, .version = "planted",
        .command_bytes = sizeof(struct command), .view_bytes = sizeof(struct order_view),
        .decide = changed_decide, .bytes_after = order_bytes_after, .apply = order_apply,
        .view = order_view, .held_count = order_held_count};
    return &rules;
}
