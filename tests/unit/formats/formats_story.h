/* What the examples show: orders and stores whose commands ran through the real rules, with fixed
 * ids and times. */
#ifndef JUMUN_TESTS_FORMATS_STORY_H
#define JUMUN_TESTS_FORMATS_STORY_H

#include "actors/actor.h"

/* The first event of that kind in any of the stories; aborts when there is none. Lives for ever. */
const struct event *formats_event(uint8_t kind);

enum formats_block {
    FORMATS_ORDER,  /* placed, paid, accepted */
    FORMATS_HELD,   /* awaited: a payment and a cancel wait for their place */
    FORMATS_STORE,  /* paused, with an open order */
    FORMATS_BOARD   /* the note of that pause */
};
const struct actor *formats_block(enum formats_block which);

/* Index and time of the entry of formats_event(). */
struct apply_context formats_event_context(uint8_t kind);

/* A message between shards: STORE_MESSAGE_COUNTS or STORE_MESSAGE_STATUS, about "store-7". */
struct bytes formats_message(uint8_t kind);

#endif
