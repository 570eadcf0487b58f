/* One order and a clock, for tests: gives commands to decide, applies the events, and keeps them so
 * that the block can be folded again from scratch. */
#ifndef JUMUN_TESTS_ORDER_WORLD_H
#define JUMUN_TESTS_ORDER_WORLD_H

#include "actors/order/order.h"
#include "engine/limits.h"

#define WORLD_START_MS 1700000000000LL

struct world {
    struct actor *order;      /* NULL = none yet */
    uint32_t room;            /* bytes allocated for it */
    uint8_t *log;             /* all events so far, in order */
    uint32_t log_bytes, log_room;
    uint64_t *indexes;        /* of each event */
    int64_t *times;
    uint32_t events_count, events_room;
    int64_t now_ms;
    uint64_t index;           /* of the next turn */
    bool store_paused;
    struct id128 key;
    uint8_t *turn;            /* the sink's memory */
    uint32_t turn_events;     /* what the last decide wrote */
    uint8_t newest_kind;      /* of event */
    uint64_t ids;             /* command ids given out */
};

void world_init(struct world *w);
void world_fini(struct world *w);

/* A key born at `birth_ms`. */
struct id128 world_key(int64_t birth_ms, uint64_t salt);
struct id128 world_id(uint64_t n);

/* A command of this kind on the world's order with the next fresh id. */
struct command world_command(struct world *w, uint8_t kind);

/* Decides; applies what came out. Does not resolve held commands. */
struct decision world_decide(struct world *w, const struct command *command);
/* The same, and then all held commands when an order was placed, as a shard does. */
struct decision world_do(struct world *w, const struct command *command);
/* Lets the engine look for a due deadline at the world's time. Returns the events that it made. */
uint32_t world_tick(struct world *w);

/* The `n`-th newest event (0 = newest). */
const struct event *world_event(const struct world *w, uint32_t n);

/* Folds all events into a new block, which must equal the live one byte for byte. */
void world_check_fold(const struct world *w);

/* Commands with usual contents; change the fields that the test is about. */
extern const struct order_line world_lines[3]; /* 2 x 1000, 1 x 500, 4 x 250: 3500 */
struct command world_place(struct world *w, uint8_t fulfilment, uint8_t payment_timing);
struct command world_pay(struct world *w, uint8_t state, const char *reference, int64_t amount);
struct command world_cancel(struct world *w, uint8_t by, const struct line_cancellation *lines,
                            uint32_t count);
struct command world_refund(struct world *w, int64_t amount);
struct command world_amend(struct world *w, const struct order_line *lines, uint32_t count,
                           int64_t fees, int64_t discounts, int64_t total);
struct command world_rider(struct world *w, const char *rider);

/* Brings a fresh world's order to `state` by the usual way; for ends that a fulfilment reaches in
 * several ways the shortest one. False when this fulfilment cannot come to that state. */
bool world_bring_to(struct world *w, uint8_t fulfilment, uint8_t payment_timing, uint8_t state);

struct order_view world_view(const struct world *w);

#endif
