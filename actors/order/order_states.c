#include "actors/order/order_states.h"

enum {
    PLACED = 1 << ORDER_PLACED,
    PAID = 1 << ORDER_PAID,
    ACCEPTED = 1 << ORDER_ACCEPTED,
    READY = 1 << ORDER_READY,
    PICKED_UP = 1 << ORDER_PICKED_UP,
    DELIVERED = 1 << ORDER_DELIVERED,
    ENDED = 1 << ORDER_COMPLETED | 1 << ORDER_REJECTED | 1 << ORDER_CANCELLED | 1 << ORDER_EXPIRED,

    UNACCEPTED = PLACED | PAID,
    AT_STORE = UNACCEPTED | ACCEPTED | READY,
    NEVER_PLACED = 1 << ORDER_EXPIRED, /* held commands ran out of time; their money is real */
    RETURNABLE = AT_STORE | PICKED_UP | DELIVERED,
    ANY = AT_STORE | PICKED_UP | DELIVERED | ENDED
};

/* clang-format off */
#define ALL_FULFILMENTS(mask) {0, mask, mask, mask, mask}

const uint16_t order_states_allowed[ORDER_COMMAND_KINDS_END][FULFILMENT_PARCEL + 1] = {
    /*                           -  platform   store      pickup     parcel */
    [COMMAND_PAY]            = {NEVER_PLACED, ANY, ANY, ANY, ANY},
    [COMMAND_ACCEPT]         = ALL_FULFILMENTS(UNACCEPTED),
    [COMMAND_REJECT]         = ALL_FULFILMENTS(UNACCEPTED),
    [COMMAND_MARK_READY]     = ALL_FULFILMENTS(ACCEPTED),
    [COMMAND_ASSIGN_RIDER]   = {0, AT_STORE,  AT_STORE,  0,         AT_STORE},
    [COMMAND_UNASSIGN_RIDER] = {0, AT_STORE,  AT_STORE,  0,         AT_STORE},
    [COMMAND_PICK_UP]        = ALL_FULFILMENTS(ACCEPTED | READY),
    [COMMAND_DELIVER]        = {0, PICKED_UP, PICKED_UP, 0,         PICKED_UP},
    [COMMAND_COMPLETE]       = {0, DELIVERED, DELIVERED, PICKED_UP, DELIVERED},
    [COMMAND_CANCEL]         = {0, AT_STORE,  AT_STORE,  AT_STORE,  RETURNABLE},
    [COMMAND_REFUND]         = {NEVER_PLACED, ANY, ANY, ANY, ANY},
    [COMMAND_AMEND]          = ALL_FULFILMENTS(UNACCEPTED),
    [COMMAND_ANNOTATE]       = {NEVER_PLACED, ANY, ANY, ANY, ANY},
};
/* clang-format on */

uint16_t order_states_check(uint8_t command_kind, uint8_t fulfilment, uint8_t state) {
    require(command_kind < ORDER_COMMAND_KINDS_END && fulfilment <= FULFILMENT_PARCEL);
    const uint16_t *row = order_states_allowed[command_kind];
    uint32_t bit = order_state_bit(state);
    if (row[fulfilment] & bit) return RESULT_OK;
    if (row[fulfilment] != 0) return RESULT_NOT_ALLOWED_IN_STATE;
    for (uint32_t other = 1; other <= FULFILMENT_PARCEL; other++) {
        if (row[other] & bit) return RESULT_NOT_ALLOWED_FOR_FULFILMENT;
    }
    return RESULT_NOT_ALLOWED_IN_STATE;
}

const char *order_state_name(uint32_t state) {
    switch ((enum order_state)state) {
    case ORDER_AWAITED: return "awaited";
    case ORDER_PLACED: return "placed";
    case ORDER_PAID: return "paid";
    case ORDER_ACCEPTED: return "accepted";
    case ORDER_READY: return "ready";
    case ORDER_PICKED_UP: return "picked_up";
    case ORDER_DELIVERED: return "delivered";
    case ORDER_COMPLETED: return "completed";
    case ORDER_REJECTED: return "rejected";
    case ORDER_CANCELLED: return "cancelled";
    case ORDER_EXPIRED: return "expired";
    }
    return "unknown";
}
