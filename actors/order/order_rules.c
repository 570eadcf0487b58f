#include "actors/order/order_rules.h"

const struct order_rules *jumun_order_rules(void) {
    static const struct order_rules rules = {
        .abi = ORDER_RULES_ABI, .bytes = sizeof rules, .version = JUMUN_VERSION,
        .command_bytes = sizeof(struct command), .view_bytes = sizeof(struct order_view),
        .decide = order_decide, .bytes_after = order_bytes_after, .apply = order_apply,
        .view = order_view, .held_count = order_held_count};
    return &rules;
}
