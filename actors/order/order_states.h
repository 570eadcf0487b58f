/* Which command is allowed in which state, per fulfilment: the transition table as data.
 *
 *                  reject, deadline                     cancel
 *          +-----------------------> REJECTED    +----------------> CANCELLED
 *          |                         EXPIRED     | from PLACED, PAID, ACCEPTED, READY;
 *          |                                     | a PARCEL also from PICKED_UP, DELIVERED (return)
 *          |
 *   place  |      pay          accept          mark_ready        pick_up          deliver
 *  ----> PLACED -------> PAID --------> ACCEPTED -------> READY --------> PICKED_UP ----> DELIVERED
 *    ^     |  ^           |  ^             |                                 ^   |            |
 *    |     |  +-- amend --+  |             +------------- pick_up -----------+   |            |
 *    |     +--- accept ------|---> ACCEPTED  (payment on delivery)               |            |
 *  AWAITED                   +-- place with total 0, or a cut that leaves        |  complete, |
 *  (cancel or pay came first)    no more than is captured                        |  deadline  |
 *    |                                                                           v            v
 *    +--- held deadline ---> EXPIRED                                          COMPLETED <-----+
 *                                                                       (PICKUP has no DELIVERED)
 *
 * assign_rider and unassign_rider run beside the kitchen and change no state. pay, refund and
 * annotate are allowed in every state of a placed order, also after its end: money is a fact. */
#ifndef JUMUN_ACTORS_ORDER_STATES_H
#define JUMUN_ACTORS_ORDER_STATES_H

#include "actors/order/order.h"

enum { ORDER_COMMAND_KINDS_END = COMMAND_ANNOTATE + 1 };

static inline uint32_t order_state_bit(uint32_t state) { return 1u << state; }

/* Allowed states as bits, [command kind][fulfilment]; 0 = this fulfilment has no such step.
 * Fulfilment 0 is an order that was never placed and has expired. Place and the commands' further
 * conditions (payment, rider) are not in the table. */
extern const uint16_t order_states_allowed[ORDER_COMMAND_KINDS_END][FULFILMENT_PARCEL + 1];

/* RESULT_OK, RESULT_NOT_ALLOWED_IN_STATE or RESULT_NOT_ALLOWED_FOR_FULFILMENT, in this precedence:
 * a step that a fulfilment lacks is named as such only in a state in which others could take it. */
uint16_t order_states_check(uint8_t command_kind, uint8_t fulfilment, uint8_t state);

/* COMPLETED, REJECTED, CANCELLED, EXPIRED. */
static inline bool order_state_is_end(uint32_t state) { return state >= ORDER_COMPLETED; }

/* An end at which the order gives up its claim to money: all but COMPLETED. */
static inline bool order_state_gives_up_money(uint32_t state) { return state >= ORDER_REJECTED; }
static_assert(ORDER_COMPLETED == 8 && ORDER_REJECTED == 9 && ORDER_EXPIRED == 11, "ends are last");

#endif
