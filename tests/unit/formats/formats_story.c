#include "tests/unit/formats/formats_story.h"

#include "actors/cluster/cluster_layout.h"
#include "actors/message_event.h"
#include "actors/store/store_layout.h"
#include "engine/limits.h"
#include "tests/unit/wire/wire_examples.h"
#include "tests/unit/wire/wire_story.h"

enum { STORY_LIFE, STORY_REFUND, STORY_REJECT, STORY_EXPIRE, STORY_RESOLVE, STORY_HELD_EXPIRE,
       STORY_STORE, STORIES };
static struct wire_story stories[STORIES];

static void story_do(struct wire_story *story, struct command command) {
    command.id = wire_example_command_id;
    command.id.bytes[15] = (uint8_t)(story->events_count + 1);
    enum result_code code = wire_story_run(story, &command);
    require(code == RESULT_OK || code == RESULT_HELD);
}

static void story_step(struct wire_story *story, uint8_t kind) {
    story_do(story, wire_story_command(kind));
}

static void story_due(struct wire_story *story, int64_t later_ms) {
    story->now_ms += later_ms;
    struct command due = {.kind = COMMAND_TIMER_DUE, .subject = wire_example_key};
    require(wire_story_run(story, &due) == RESULT_OK);
}

static void story_life(struct wire_story *story) {
    wire_story_example(story);
    struct command c = wire_story_command(COMMAND_ANNOTATE);
    c.annotate.note = bytes_of_text("no peanuts");
    c.trace = (struct id128){{0x7a, 0xce, [15] = 1}};
    story_do(story, c);
    story_step(story, COMMAND_MARK_READY);
    c = wire_story_command(COMMAND_ASSIGN_RIDER);
    c.assign_rider.rider = bytes_of_text("rider-3");
    story_do(story, c);
    story_step(story, COMMAND_UNASSIGN_RIDER);
    story_do(story, c);
    story_step(story, COMMAND_PICK_UP);
    story_step(story, COMMAND_DELIVER);
    story_step(story, COMMAND_COMPLETE);
    story_due(story, RETENTION_MS + KEY_PAST_MS_MAX);
}

static void story_refund(struct wire_story *story) {
    wire_story_init(story);
    story_do(story, wire_story_place());
    struct command c = wire_story_command(COMMAND_AMEND);
    struct order_line line = {bytes_of_text("bibimbap"), {NULL, 0}, 3, 9500};
    c.amend = (struct command_amend){&line, 1, 3000, 0, 31500};
    story_do(story, c);
    story_do(story, wire_story_pay(PAYMENT_CAPTURED, 31500));
    struct line_cancellation cut = {0, 1};
    c = wire_story_command(COMMAND_CANCEL);
    c.cancel = (struct command_cancel){PARTY_STORE, bytes_of_text("sold out"), &cut, 1};
    story_do(story, c);
    c = wire_story_command(COMMAND_REFUND);
    c.refund.reason = bytes_of_text("sold out");
    story_do(story, c);
    c = wire_story_command(COMMAND_CANCEL);
    c.cancel = (struct command_cancel){PARTY_CUSTOMER, bytes_of_text("too late"), NULL, 0};
    story_do(story, c);
}

static void story_held(struct wire_story *story) {
    wire_story_init(story);
    story_do(story, wire_story_pay(PAYMENT_CAPTURED, 23000));
}

static void story_store(struct wire_story *story) {
    wire_story_init(story);
    struct command c = wire_story_command(COMMAND_STORE_PAUSE);
    c.store.store = bytes_of_text("store-7");
    c.store.reason = bytes_of_text("fire drill");
    c.subject = store_key(c.store.store, false);
    story_do(story, c);
    c.kind = COMMAND_STORE_RESUME;
    c.store.reason = (struct bytes){NULL, 0};
    story_do(story, c);
}

static void stories_tell(void) {
    if (stories[STORY_LIFE].events_count > 0) return;
    story_life(&stories[STORY_LIFE]);
    story_refund(&stories[STORY_REFUND]);
    struct wire_story *s = &stories[STORY_REJECT];
    wire_story_init(s);
    story_do(s, wire_story_place());
    struct command reject = wire_story_command(COMMAND_REJECT);
    reject.reject.reason = bytes_of_text("closing early");
    story_do(s, reject);
    s = &stories[STORY_EXPIRE];
    wire_story_init(s);
    story_do(s, wire_story_place());
    story_due(s, PAYMENT_DEADLINE_MS);
    story_held(&stories[STORY_RESOLVE]);
    story_do(&stories[STORY_RESOLVE], wire_story_place());
    story_held(&stories[STORY_HELD_EXPIRE]);
    story_due(&stories[STORY_HELD_EXPIRE], HELD_DEADLINE_MS);
    story_store(&stories[STORY_STORE]);
}

static const struct event *story_find(uint8_t kind, struct apply_context *context) {
    stories_tell();
    for (unsigned i = 0; i < STORIES; i++) {
        const struct event *e;
        for (uint32_t at = 0; at < stories[i].history_bytes; at += e->bytes) {
            struct history_item item;
            memcpy(&item, stories[i].history + at, sizeof item);
            at += (uint32_t)sizeof item;
            e = (const struct event *)(const void *)(stories[i].history + at);
            *context = (struct apply_context){item.index, item.time_ms};
            if (e->kind == kind) return e;
        }
    }
    return NULL;
}

struct apply_context formats_event_context(uint8_t kind) {
    struct apply_context context;
    require(story_find(kind, &context) != NULL);
    return context;
}

struct bytes formats_message(uint8_t kind) {
    static uint8_t bytes[STORE_MESSAGE_DONE + 1][256];
    static _Alignas(8) uint8_t block[256];
    struct store_news news = {.store = bytes_of_text("store-7")};
    struct apply_context context = {.index = 1002};
    uint8_t *at = bytes[kind];
    if (kind >= STORE_MESSAGE_MOVED) {
        struct store_message_head head = {.kind = kind, .version = 12, .shards = 4};
        if (kind != STORE_MESSAGE_MOVED) {
            head.what = STORE_ASK_STORES;
            head.asked = 12;
            return bytes_of(at, store_message_encode_head(&head, NULL, 0, at, sizeof bytes[0]));
        }
        memset(block, 0, sizeof block);
        news.open_change = 1;
        news.placed = 3;
        struct actor *actor = (struct actor *)(void *)block;
        store_apply_news(actor, STORE_MESSAGE_COUNTS, &news, &context);
        news.block = bytes_of(block, actor->bytes);
        return bytes_of(at, store_message_encode_head(&head, &news, 1, at, sizeof bytes[0]));
    }
    if (kind == STORE_MESSAGE_COUNTS) {
        news.open_change = 1;
        news.placed = 1;
    } else {
        news.paused = true;
        news.version = 1;
    }
    return bytes_of(at, store_message_encode(kind, &news, 1, at, sizeof bytes[0]));
}

static const struct event *message_make(uint8_t kind) {
    static _Alignas(8) uint8_t made[3][512];
    struct bytes message =
        formats_message(kind == EVENT_MESSAGE_SENT ? STORE_MESSAGE_COUNTS : STORE_MESSAGE_STATUS);
    if (kind == EVENT_MESSAGE_ACKNOWLEDGED) message.size = 0;
    struct event_sink sink = {made[kind - EVENT_MESSAGE_SENT], 0, sizeof made[0], 0};
    struct event *e = event_sink_add(&sink, kind, MESSAGE_EVENT_SCHEMA,
                                     (uint32_t)sizeof(struct message_event) + message.size, NULL);
    struct message_event *m = (struct message_event *)(void *)(e + 1);
    *m = (struct message_event){kind == EVENT_MESSAGE_SEEN ? 0 : 4, 1, message.size};
    memcpy(m + 1, message.data, message.size);
    require(message_event_is_well_formed(e));
    return e;
}

static const struct event *known_make(void) {
    static _Alignas(8) uint8_t made[128];
    struct event_sink sink = {made, 0, sizeof made, 0};
    struct event *e = event_sink_add(&sink, EVENT_SHARDS_KNOWN, MESSAGE_EVENT_SCHEMA,
                                     sizeof(struct shards_known), NULL);
    *(struct shards_known *)(void *)(e + 1) = (struct shards_known){
        .version = 12, .joined_ms = 1767225600000, .stores_shards = 2, .active = {0x0f}};
    require(shards_known_is_well_formed(e));
    return e;
}

/* Two shards on three nodes are to become three. */
static const struct event *cluster_make(void) {
    static _Alignas(8) uint8_t made[1 << 14];
    static _Alignas(8) uint8_t block[sizeof(struct cluster) + 1024];
    struct actor *actor = (void *)block;
    if (actor->bytes != 0) return (const struct event *)(const void *)made;
    struct cluster_founder nodes[3];
    const char *const addresses[] = {"tcp://10.0.0.1:7300", "tcp://10.0.0.1:7400",
                                     "tcp://10.0.0.2:7300", "tcp://10.0.0.2:7400",
                                     "tcp://10.0.0.3:7300", "tcp://10.0.0.3:7400"};
    for (uint32_t i = 0; i < 3; i++)
        nodes[i] = (struct cluster_founder){i + 1, bytes_of_text(addresses[2 * i]),
                                            bytes_of_text(addresses[2 * i + 1])};
    struct command c = {.kind = COMMAND_CLUSTER_FORM, .subject = cluster_key(),
                        .id = wire_example_command_id};
    c.cluster = (struct command_cluster){.cluster_id = {{0xc1, [15] = 1}}, .nodes = nodes,
                                         .nodes_count = 3, .shards = 2, .replicas = 3};
    struct decide_context decide = {.index = 2, .now_ms = 1767225600000};
    struct event_sink sink = {made, 0, sizeof made, 0};
    require(cluster_decide(NULL, &c, &decide, &sink).code == RESULT_OK);
    cluster_apply(actor, (const struct event *)(const void *)made,
                  &(struct apply_context){2, decide.now_ms});
    c.kind = COMMAND_CLUSTER_GROW;
    c.id.bytes[15] = 2;
    c.cluster = (struct command_cluster){.shards = 3, .from_ms = decide.now_ms + 300000};
    sink = (struct event_sink){made, 0, sizeof made, 0};
    decide.index = 3;
    require(cluster_decide(actor, &c, &decide, &sink).code == RESULT_OK);
    require(cluster_event_is_well_formed((const struct event *)(const void *)made));
    return (const struct event *)(const void *)made;
}

const struct event *formats_event(uint8_t kind) {
    struct apply_context context;
    if (kind == EVENT_CLUSTER_CHANGED) return cluster_make();
    if (kind == EVENT_SHARDS_KNOWN) return known_make();
    if (kind >= EVENT_MESSAGE_SENT) return message_make(kind);
    const struct event *e = story_find(kind, &context);
    require(e != NULL);
    return e;
}

static const struct actor *block_store(struct wire_story *story) {
    wire_story_init(story);
    struct actor *actor = (void *)story->block;
    struct store_news news = {
        .store = bytes_of_text("store-7"), .open_change = 1, .placed = 1};
    struct apply_context context = {++story->index, story->now_ms};
    store_apply_news(actor, STORE_MESSAGE_COUNTS, &news, &context);
    struct command c = wire_story_command(COMMAND_STORE_PAUSE);
    c.store.store = bytes_of_text("store-7");
    c.store.reason = bytes_of_text("fire drill");
    c.subject = store_key(c.store.store, false);
    story_do(story, c);
    return actor;
}

const struct actor *formats_block(enum formats_block which) {
    static struct wire_story story[4];
    struct wire_story *s = &story[which];
    struct actor *actor = (void *)s->block;
    if (actor->bytes != 0) return actor;
    if (which == FORMATS_STORE) return block_store(s);
    if (which == FORMATS_ORDER) {
        wire_story_example(s);
    } else if (which == FORMATS_HELD) {
        story_held(s);
        struct command c = wire_story_command(COMMAND_CANCEL);
        c.cancel = (struct command_cancel){PARTY_CUSTOMER, bytes_of_text("too late"), NULL, 0};
        story_do(s, c);
    } else {
        struct store_news news = {.store = bytes_of_text("store-7"), .paused = true, .version = 2};
        struct apply_context context = {1003, 1767225720000};
        store_apply_news(actor, STORE_MESSAGE_STATUS, &news, &context);
    }
    return actor;
}
