/* The rules of orders as a plug: what a shared object of another build hands out, so that a tool
 * can run the same causes through both builds (jumun-replay what-if). The module `jumun_rules` of
 * this build is one; a build that changes the rules builds its own from the same file.
 *
 * Contract: the object exports ORDER_RULES_SYMBOL, a function without arguments that returns a
 * struct which lives as long as the object is loaded. Whoever loads it checks `abi` and `bytes`,
 * and then uses nothing but these functions on blocks that they made. Numbers of commands, events
 * and states are frozen; a block's inside is the build's own. */
#ifndef JUMUN_ACTORS_ORDER_RULES_H
#define JUMUN_ACTORS_ORDER_RULES_H

#include "actors/order/order.h"

/* Grows when any struct in the signatures below changes its layout. */
enum { ORDER_RULES_ABI = 1 };
#define ORDER_RULES_SYMBOL "jumun_order_rules"

struct order_rules {
    uint32_t abi;              /* ORDER_RULES_ABI */
    uint32_t bytes;            /* of this struct */
    const char *version;       /* of the build, for people */
    uint32_t command_bytes, view_bytes; /* sizeof struct command, struct order_view */
    struct decision (*decide)(const struct actor *order, const struct command *command,
                              const struct decide_context *context, struct event_sink *sink);
    uint32_t (*bytes_after)(const struct actor *order, const struct event *event);
    void (*apply)(struct actor *order, const struct event *event,
                  const struct apply_context *context);
    void (*view)(const struct actor *order, struct order_view *view);
    uint32_t (*held_count)(const struct actor *order);
};

typedef const struct order_rules *order_rules_get(void);

/* The rules of this build. */
const struct order_rules *jumun_order_rules(void);

#endif
