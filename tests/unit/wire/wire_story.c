#include "tests/unit/wire/wire_story.h"

#include <stdlib.h>

#include "engine/limits.h"
#include "tests/unit/wire/wire_examples.h"

void wire_story_init(struct wire_story *story) {
    memset(story, 0, sizeof *story);
    story->index = 1000;
    story->now_ms = 1767225600000;
}

static bool story_is_store(const struct command *c) {
    return c->kind >= COMMAND_STORE_PAUSE && c->kind <= COMMAND_STORE_GET;
}

static void story_keep(struct wire_story *story, const struct event *e) {
    struct history_item item = {story->index, story->now_ms};
    require(story->history_bytes + sizeof item + e->bytes <= sizeof story->history);
    memcpy(story->history + story->history_bytes, &item, sizeof item);
    memcpy(story->history + story->history_bytes + sizeof item, e, e->bytes);
    story->history_bytes += (uint32_t)sizeof item + e->bytes;
    story->events_count++;
}

enum result_code wire_story_run(struct wire_story *story, const struct command *command) {
    struct actor *actor = (void *)story->block;
    const struct actor *known = actor->bytes != 0 ? actor : NULL;
    struct event_sink sink = {aligned_alloc(8, EVENT_BYTES_MAX), 0, EVENT_BYTES_MAX, 0};
    struct decide_context decide = {++story->index, story->now_ms += 60000, false};
    struct apply_context apply = {story->index, story->now_ms};
    bool store = story_is_store(command);
    struct decision d = store ? store_decide(known, command, &decide, &sink)
                              : order_decide(known, command, &decide, &sink);
    const struct event *e;
    for (uint32_t at = 0; (e = event_next(sink.data, sink.size, &at)) != NULL;) {
        if (store) store_apply(actor, e, &apply);
        else order_apply(actor, e, &apply);
        story_keep(story, e);
    }
    free(sink.data);
    while (!store && actor->bytes != 0 && d.code == RESULT_OK && command->kind == COMMAND_PLACE &&
           order_held_count(actor) > 0) {
        struct command resolve = {.kind = COMMAND_RESOLVE_HELD, .subject = command->subject};
        require(wire_story_run(story, &resolve) != RESULT_ORDER_NOT_FOUND);
    }
    return d.code;
}

struct command wire_story_command(uint8_t kind) {
    static uint8_t serial;
    struct command c = {.kind = kind, .subject = wire_example_key, .id = wire_example_command_id};
    c.id.bytes[8] = ++serial;
    return c;
}

static const struct order_line story_lines[] = {
    {{"bibimbap", 8}, {"비빔밥", 9}, 2, 9500}, {{"kimchi", 6}, {NULL, 0}, 1, 2000}};

struct command wire_story_place(void) {
    struct command c = wire_story_command(COMMAND_PLACE);
    c.place = (struct command_place){
        .fulfilment = FULFILMENT_PLATFORM_DELIVERY, .payment_timing = PAYMENT_PREPAID,
        .currency = "KRW", .store = {"store-7", 7}, .customer = {"customer-42", 11},
        .lines = story_lines, .lines_count = 2, .fees = 3000, .discounts = 1000, .total = 23000};
    return c;
}

struct command wire_story_pay(uint8_t state, int64_t amount) {
    struct command c = wire_story_command(COMMAND_PAY);
    c.pay = (struct command_pay){state, {"card", 4}, {"psp-881", 7}, amount};
    return c;
}

void wire_story_example(struct wire_story *story) {
    wire_story_init(story);
    struct command place = wire_story_place(), pay = wire_story_pay(PAYMENT_CAPTURED, 23000);
    struct command accept = wire_story_command(COMMAND_ACCEPT);
    /* The page must not depend on what ran before. */
    place.id = pay.id = accept.id = wire_example_command_id;
    pay.id.bytes[15] = 2;
    accept.id.bytes[15] = 3;
    accept.accept.preparation_minutes = 20;
    require(wire_story_run(story, &place) == RESULT_OK);
    require(wire_story_run(story, &pay) == RESULT_OK);
    require(wire_story_run(story, &accept) == RESULT_OK);
}
