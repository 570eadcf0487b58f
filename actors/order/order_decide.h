/* Inside of decide: what the files order_decide*.c share. Not for other rooms.
 *
 * A decider looks at the turn, and returns a result code; with RESULT_OK it has added its event, or
 * set turn->unchanged when the command asks for what is so already. */
#ifndef JUMUN_ACTORS_ORDER_DECIDE_H
#define JUMUN_ACTORS_ORDER_DECIDE_H

#include "actors/order/order_layout.h"
#include "actors/order/order_states.h"

struct order_turn {
    const struct order *order;             /* NULL = there is none */
    const struct command *command;
    const struct decide_context *context;
    struct event_sink *sink;
    uint32_t version;                      /* the newest event's, those of this turn included */
    uint64_t prev_index;                   /* of the newest event */
    uint8_t state;                         /* after the newest event; 0 = no order */
    uint8_t event_flags;
    bool unchanged;                        /* done already: no event, but not a refusal */
};

/* The first 48 bits of a key: when it was made, Unix ms. */
static inline int64_t order_key_birth_ms(const struct id128 *key) {
    int64_t ms = 0;
    for (int i = 0; i < 6; i++) ms = ms << 8 | key->bytes[i];
    return ms;
}

/* Adds the turn's next event with room for `payload_bytes`; the caller fills the payload. */
struct event *order_turn_event(struct order_turn *turn, uint8_t kind, uint8_t state_after,
                               uint32_t payload_bytes);

/* What is due after an event that leaves the order in `state` with this money. */
struct order_after order_turn_after(const struct order_turn *turn, uint8_t state,
                                    int64_t step_deadline_ms, int64_t captured, int64_t refunded,
                                    int64_t total);

/* Behind the payload's fixed part: appends a text, returns where the next one goes. */
static inline uint8_t *order_put_text(uint8_t *at, struct bytes text) {
    if (text.size != 0) memcpy(at, text.data, text.size);
    return at + text.size;
}

/* PLACED or PAID: whether `captured` pays `total`. On delivery nothing must be paid, so nothing
 * captured leaves the order placed. */
uint8_t order_state_unaccepted(uint8_t payment_timing, int64_t captured, int64_t total);

/* The step deadline of PLACED or PAID when the order comes there from `turn->order` (or from
 * nothing): a deadline that runs already goes on when it is for the same step. */
int64_t order_unaccepted_deadline(const struct order_turn *turn, uint8_t state_after,
                                  uint8_t payment_timing, uint32_t payment_timeout_ms,
                                  uint32_t acceptance_timeout_ms);

static inline uint16_t order_turn_allowed(const struct order_turn *turn) {
    return order_states_check(turn->command->kind, turn->order->fulfilment, turn->state);
}

/* Shape: what decoding should have seen to. RESULT_OK or a code of 50..99. */
uint16_t order_check_shape(const struct command *command);
uint16_t order_check_key_birth(const struct command *command, const struct decide_context *context);

/* Content that can be judged without the order: quantities and amounts of pay and cancel. */
uint16_t order_check_pay_amount(const struct command_pay *pay);
uint16_t order_check_cuts(const struct command_cancel *cancel);

/* One command of a placed order (or place itself), once repetition, existence, end, version and
 * limits are checked. */
uint16_t order_decide_on_order(struct order_turn *turn);

uint16_t order_decide_place(struct order_turn *turn);
uint16_t order_decide_amend(struct order_turn *turn);
uint16_t order_decide_pay(struct order_turn *turn);
uint16_t order_decide_refund(struct order_turn *turn);
uint16_t order_decide_cancel(struct order_turn *turn);
uint16_t order_decide_reject(struct order_turn *turn);
uint16_t order_decide_hold(struct order_turn *turn);

/* The engine's own commands: never refused, at most one thing done. */
void order_decide_timer_due(struct order_turn *turn);
void order_decide_resolve_held(struct order_turn *turn);

/* Parts of order_decide_timer_due(). */
void order_refund_owed(struct order_turn *turn);
void order_complete(struct order_turn *turn, uint8_t by);
void order_expire_held(struct order_turn *turn);

#endif
