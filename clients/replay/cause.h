/* What was asked: the command behind an event, put together again from what it led to. */
#ifndef JUMUN_REPLAY_CAUSE_H
#define JUMUN_REPLAY_CAUSE_H

#include "actors/order/order.h"

/* A command and the lists that it points to; texts point into the event. Reused from event to
 * event, freed by cause_free(). */
struct cause {
    struct command command;
    struct order_line *lines;
    struct line_cancellation *cuts;
    uint32_t lines_capacity, cuts_capacity;
};

enum cause_outcome {
    CAUSE_COMMAND,   /* a client's command (also one that was held) */
    CAUSE_DEADLINE,  /* a deadline of the order: COMMAND_TIMER_DUE */
    CAUSE_NONE,      /* follows from what came before it: a held command that was resolved */
    CAUSE_FAILED     /* no memory */
};

/* `event` is well-formed and an order's or a store's; its record was decided at `time_ms`. A value
 * that equals today's default comes back as "not given", so that other defaults show. */
enum cause_outcome cause_of(const struct event *event, int64_t time_ms, struct cause *cause);
void cause_free(struct cause *cause);

#endif
