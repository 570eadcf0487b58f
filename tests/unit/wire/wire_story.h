/* A real order to show: commands run through the order's own rules, its block and all its events
 * kept as a node would hand them to the encoders. */
#ifndef JUMUN_TESTS_WIRE_STORY_H
#define JUMUN_TESTS_WIRE_STORY_H

#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/shard/request.h"

struct wire_story {
    _Alignas(8) uint8_t block[1u << 16];    /* the actor, zero = none yet */
    _Alignas(8) uint8_t history[1u << 16];  /* history_item + event, repeated */
    uint32_t history_bytes, events_count;
    uint64_t index;
    int64_t now_ms;
};

void wire_story_init(struct wire_story *story);

/* Decides and applies; held commands are resolved after a place. The code of the decision. */
enum result_code wire_story_run(struct wire_story *story, const struct command *command);

/* The example order of docs/protocol.md: placed, paid and accepted. */
void wire_story_example(struct wire_story *story);

static inline const struct actor *wire_story_actor(const struct wire_story *story) {
    return (const void *)story->block;
}

/* Commands of the example key, each with an id of its own. */
struct command wire_story_command(uint8_t kind);
struct command wire_story_place(void);
struct command wire_story_pay(uint8_t state, int64_t amount);

#endif
