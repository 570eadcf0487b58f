/* Replies read back with msgpack-c: every shape of a result, every value, and values that do not
 * fit a message. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <msgpack.h>
#include <stdlib.h>

#include "engine/limits.h"
#include "engine/wire/protocol.h"
#include "engine/wire/reply_encode.h"
#include "tests/unit/wire/wire_examples.h"
#include "tests/unit/wire/wire_story.h"

static uint8_t buffer[MESSAGE_BYTES_MAX];
static msgpack_unpacked unpacked;
static struct wire_story story;

static int setup(void **state) {
    msgpack_unpacked_init(&unpacked);
    return 0;
}

static int teardown(void **state) {
    msgpack_unpacked_destroy(&unpacked);
    return 0;
}

/* One whole value, and nothing behind it. */
static const msgpack_object *unpack(size_t size) {
    size_t off = 0;
    assert_int_equal(msgpack_unpack_next(&unpacked, (char *)buffer, size, &off),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(off, size);
    return &unpacked.data;
}

static const msgpack_object *item(const msgpack_object *array, uint32_t i) {
    assert_int_equal(array->type, MSGPACK_OBJECT_ARRAY);
    assert_true(i < array->via.array.size);
    return &array->via.array.ptr[i];
}

static uint64_t number(const msgpack_object *o) {
    assert_int_equal(o->type, MSGPACK_OBJECT_POSITIVE_INTEGER);
    return o->via.u64;
}

static void assert_str(const msgpack_object *o, const char *text) {
    assert_int_equal(o->type, MSGPACK_OBJECT_STR);
    assert_int_equal(o->via.str.size, strlen(text));
    assert_memory_equal(o->via.str.ptr, text, strlen(text));
}

static const msgpack_object *field(const msgpack_object *map, const char *name) {
    assert_int_equal(map->type, MSGPACK_OBJECT_MAP);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        const msgpack_object *key = &map->via.map.ptr[i].key;
        if (key->via.str.size == strlen(name) &&
            memcmp(key->via.str.ptr, name, strlen(name)) == 0)
            return &map->via.map.ptr[i].val;
    }
    fail_msg("no field %s", name);
    return NULL;
}

static void assert_id(const msgpack_object *o, const struct id128 *id) {
    assert_int_equal(o->type, MSGPACK_OBJECT_BIN);
    assert_int_equal(o->via.bin.size, 16);
    assert_memory_equal(o->via.bin.ptr, id->bytes, 16);
}

/* The results of an encoded reply. */
static const msgpack_object *encode(const struct result *results, uint32_t count) {
    size_t max = reply_bytes_max(results, count);
    assert_true(max <= sizeof buffer);
    size_t size = reply_encode(results, count, NULL, buffer, max);
    assert_true(size <= max);
    const msgpack_object *reply = unpack(size);
    assert_int_equal(reply->via.array.size, 3);
    assert_int_equal(number(item(reply, 0)), PROTOCOL_VERSION);
    assert_int_equal(number(item(reply, 1)), RESULT_OK);
    assert_int_equal(item(reply, 2)->via.array.size, count);
    return item(reply, 2);
}

static void results_without_value_have_their_shape(void **state) {
    const struct result results[] = {
        {.code = RESULT_OK, .version = 3, .shard = 1, .index = 77},
        {.code = RESULT_HELD, .version = 1, .shard = 255, .index = UINT64_MAX},
        {.code = RESULT_OK, .flags = RESULT_FLAG_REPEATED, .version = UINT32_MAX},
        {.code = RESULT_OVERLOADED, .retry_after_ms = 25},
        {.code = RESULT_STORE_PAUSED, .version = 0, .shard = 1, .index = 5}};
    const msgpack_object *all = encode(results, 5);
    const msgpack_object *r = item(all, 0);
    assert_int_equal(r->via.array.size, 4);
    assert_int_equal(number(item(r, 0)), RESULT_OK);
    assert_int_equal(number(item(r, 1)), 3);
    assert_int_equal(number(item(r, 2)), 1);
    assert_int_equal(number(item(r, 3)), 77);
    r = item(all, 1);
    assert_int_equal(r->via.array.size, 4);
    assert_int_equal(number(item(r, 0)), RESULT_HELD);
    assert_true(number(item(r, 3)) == UINT64_MAX);
    r = item(all, 2);
    assert_int_equal(r->via.array.size, 5);
    assert_int_equal(number(item(r, 1)), UINT32_MAX);
    assert_int_equal(number(item(r, 4)), RESULT_FLAG_REPEATED);
    r = item(all, 3);
    assert_int_equal(r->via.array.size, 7);
    assert_int_equal(number(item(r, 0)), RESULT_OVERLOADED);
    assert_str(item(r, 5), "overloaded: retry after the time given");
    assert_int_equal(number(item(r, 6)), 25);
    assert_str(item(item(all, 4), 5), "the store takes no new orders");
    assert_int_equal(number(item(item(all, 4), 6)), 0);
}

static bool leads_nowhere(void *arg, uint32_t shard, uint32_t node, char *endpoint) {
    return false;
}

static bool leads_somewhere(void *arg, uint32_t shard, uint32_t node, char *endpoint) {
    memcpy(endpoint, "tcp://a:1", sizeof "tcp://a:1");
    return true;
}

/* Another node may only be told of where there is one. */
static void a_shard_without_a_leader_is_told(void **state) {
    const struct result result = {.code = RESULT_NOT_LEADER, .shard = 1, .retry_after_ms = 20};
    struct reply_hints hints = {.leader = leads_nowhere};
    const msgpack_object *r = item(
        item(unpack(reply_encode(&result, 1, &hints, buffer, sizeof buffer)), 2), 0);
    assert_int_equal(r->via.array.size, 7);
    assert_int_equal(number(item(r, 0)), RESULT_NOT_LEADER);
    assert_str(item(r, 5),
               "no node is known to lead the shard now: that takes a majority of its replicas");
    hints.leader = leads_somewhere;
    r = item(item(unpack(reply_encode(&result, 1, &hints, buffer, sizeof buffer)), 2), 0);
    assert_int_equal(r->via.array.size, 8);
    assert_str(item(r, 5), "this node does not lead the shard");
    assert_str(item(r, 7), "tcp://a:1");
}

static void every_code_fits_its_bound(void **state) {
    static const uint16_t codes[] = {
#define X(name, number, text) number,
        RESULT_CODES(X)
#undef X
    };
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        struct result r = {.code = codes[i], .flags = RESULT_FLAG_REPEATED, .version = UINT32_MAX,
                           .shard = UINT32_MAX, .index = UINT64_MAX, .retry_after_ms = UINT32_MAX};
        const msgpack_object *o = item(encode(&r, 1), 0);
        assert_int_equal(number(item(o, 0)), codes[i]);
        size_t size = reply_encode_refused(codes[i], buffer, REPLY_REFUSED_BYTES_MAX);
        const msgpack_object *reply = unpack(size);
        assert_int_equal(reply->via.array.size, 3);
        assert_int_equal(number(item(reply, 1)), codes[i]);
        assert_str(item(reply, 2), result_code_text(codes[i]));
    }
}

static void a_largest_batch_of_refusals_fits(void **state) {
    static struct result results[BATCH_COMMANDS_MAX];
    for (uint32_t i = 0; i < BATCH_COMMANDS_MAX; i++)
        results[i] = (struct result){.code = RESULT_ORDER_NOT_FOUND, .index = UINT64_MAX};
    const msgpack_object *all = encode(results, BATCH_COMMANDS_MAX);
    assert_int_equal(number(item(item(all, BATCH_COMMANDS_MAX - 1), 0)), RESULT_ORDER_NOT_FOUND);
}

static void an_order_is_shown_whole(void **state) {
    wire_story_example(&story);
    struct result r = {.code = RESULT_OK, .value_kind = RESULT_VALUE_ORDER, .value = story.block,
                       .value_bytes = wire_story_actor(&story)->bytes};
    const msgpack_object *value = item(item(encode(&r, 1), 0), 5);
    struct order_view v;
    order_view(wire_story_actor(&story), &v);
    assert_id(field(value, "key"), &wire_example_key);
    assert_int_equal(number(field(value, "version")), v.version);
    assert_int_equal(number(field(value, "last_index")), v.last_index);
    assert_str(field(value, "state"), "accepted");
    assert_int_equal(number(field(value, "fulfilment")), FULFILMENT_PLATFORM_DELIVERY);
    assert_int_equal(number(field(value, "payment_timing")), PAYMENT_PREPAID);
    assert_str(field(value, "currency"), "KRW");
    assert_str(field(value, "store"), "store-7");
    assert_str(field(value, "customer"), "customer-42");
    static const char *const empty[] = {"rider", "group", "external_ref", "end_reason"};
    for (int i = 0; i < 4; i++) assert_str(field(value, empty[i]), "");
    assert_int_equal(field(value, "attributes")->via.bin.size, 0);
    assert_int_equal(number(field(value, "ended_by")), 0);
    assert_int_equal(number(field(value, "lines_total")), 21000);
    assert_int_equal(number(field(value, "fees")), 3000);
    assert_int_equal(number(field(value, "discounts")), 1000);
    assert_int_equal(number(field(value, "total")), 23000);
    assert_int_equal(number(field(value, "authorised")), 0);
    assert_int_equal(number(field(value, "captured")), 23000);
    assert_int_equal(number(field(value, "refunded")), 0);
    assert_int_equal(number(field(value, "refund_owed")), 0);
    assert_int_equal(number(field(value, "placed_ms")), v.placed_ms);
    assert_int_equal(number(field(value, "updated_ms")), v.updated_ms);
    assert_int_equal(number(field(value, "ready_estimate_ms")), v.ready_estimate_ms);
    assert_int_equal(number(field(value, "payment_deadline_ms")), v.payment_deadline_ms);
    assert_int_equal(number(field(value, "acceptance_deadline_ms")), v.acceptance_deadline_ms);
    assert_int_equal(number(field(value, "auto_complete_ms")), v.auto_complete_ms);
    assert_int_equal(number(field(value, "refund_deadline_ms")), v.refund_deadline_ms);
    assert_int_equal(number(field(value, "retention_deadline_ms")), v.retention_deadline_ms);
    assert_int_equal(number(field(value, "held_deadline_ms")), 0);
    assert_int_equal(number(field(value, "commands_count")), 3);
    assert_int_equal(number(field(value, "held_count")), 0);
    assert_int_equal(number(field(value, "notes_count")), 0);
    const msgpack_object *lines = field(value, "lines");
    assert_int_equal(lines->via.array.size, 2);
    assert_int_equal(item(lines, 0)->via.array.size, 5);
    assert_str(item(item(lines, 0), 0), "bibimbap");
    assert_int_equal(number(item(item(lines, 0), 1)), 2);
    assert_int_equal(number(item(item(lines, 0), 2)), 0);
    assert_int_equal(number(item(item(lines, 0), 3)), 9500);
    assert_str(item(item(lines, 0), 4), "비빔밥");
    assert_int_equal(item(lines, 1)->via.array.size, 4);
    const msgpack_object *payment = item(field(value, "payments"), 0);
    assert_str(item(payment, 0), "card");
    assert_str(item(payment, 1), "psp-881");
    assert_int_equal(number(item(payment, 2)), 23000);
    assert_str(item(payment, 3), "captured");
    assert_int_equal(value->via.map.size, 37);
}

static void a_store_is_shown_whole(void **state) {
    wire_story_init(&story);
    struct command pause = wire_story_command(COMMAND_STORE_PAUSE);
    pause.store.store = bytes_of_text("store-7");
    pause.store.reason = bytes_of_text("fire drill");
    pause.subject = store_key(pause.store.store, false);
    assert_int_equal(wire_story_run(&story, &pause), RESULT_OK);
    struct result r = {.code = RESULT_OK, .value_kind = RESULT_VALUE_STORE, .value = story.block};
    const msgpack_object *value = item(item(encode(&r, 1), 0), 5);
    assert_str(field(value, "id"), "store-7");
    assert_true(field(value, "paused")->via.boolean);
    assert_str(field(value, "pause_reason"), "fire drill");
    assert_int_equal(number(field(value, "open_orders")), 0);
    assert_int_equal(number(field(value, "placed_orders")), 0);
    assert_int_equal(number(field(value, "version")), 1);
    assert_int_equal(number(field(value, "last_index")), story.index);
    assert_int_equal(value->via.map.size, 7);
    struct result h = {.code = RESULT_OK, .value_kind = RESULT_VALUE_HISTORY,
                       .value = story.history, .value_bytes = story.history_bytes};
    value = item(item(item(encode(&h, 1), 0), 5), 0);
    assert_str(field(value, "action"), "store_paused");
    assert_str(field(value, "state"), "paused");
    assert_str(field(field(value, "info"), "store"), "store-7");
    assert_str(field(field(value, "info"), "reason"), "fire drill");
}

/* -- history ----------------------------------------------------------------------------------- */

static const msgpack_object *history(void) {
    struct result r = {.code = RESULT_OK, .value_kind = RESULT_VALUE_HISTORY,
                       .value = story.history, .value_bytes = story.history_bytes};
    const msgpack_object *events = item(item(encode(&r, 1), 0), 5);
    assert_int_equal(events->via.array.size, story.events_count);
    return events;
}

/* The info of the newest event with that action. */
static const msgpack_object *info_of(const msgpack_object *events, const char *action) {
    for (uint32_t i = events->via.array.size; i-- > 0;) {
        const msgpack_object *a = field(item(events, i), "action");
        if (a->via.str.size == strlen(action) &&
            memcmp(a->via.str.ptr, action, strlen(action)) == 0)
            return field(item(events, i), "info");
    }
    fail_msg("no event %s", action);
    return NULL;
}

static void a_history_tells_each_event(void **state) {
    wire_story_example(&story);
    const msgpack_object *events = history();
    assert_int_equal(events->via.array.size, 3);
    const msgpack_object *e = item(events, 0);
    assert_int_equal(e->via.map.size, 10);
    assert_int_equal(number(field(e, "index")), 1001);
    assert_true(number(field(e, "time_ms")) == 1767225660000);
    assert_id(field(e, "subject"), &wire_example_key);
    assert_int_equal(number(field(e, "version")), 1);
    assert_str(field(e, "action"), "order_placed");
    assert_str(field(e, "state"), "placed");
    assert_id(field(e, "cause"), &wire_example_command_id);
    assert_str(field(e, "cause_kind"), "place");
    assert_int_equal(field(e, "trace")->type, MSGPACK_OBJECT_NIL);
    const msgpack_object *info = field(e, "info");
    assert_int_equal(info->via.map.size, 19);
    assert_str(field(info, "store"), "store-7");
    assert_str(field(info, "customer"), "customer-42");
    assert_str(field(info, "currency"), "KRW");
    assert_int_equal(number(field(info, "total")), 23000);
    assert_str(item(item(field(info, "lines"), 1), 0), "kimchi");
    assert_true(number(field(info, "step_deadline_ms")) > 0);
    info = info_of(events, "payment_recorded");
    assert_int_equal(info->via.map.size, 9);
    assert_str(field(info, "payment_state"), "captured");
    assert_int_equal(number(field(info, "amount")), 23000);
    assert_int_equal(number(field(info, "captured")), 23000);
    info = info_of(events, "order_accepted");
    assert_true(number(field(info, "ready_estimate_ms")) > 1767225600000);
}

static void the_middle_of_a_life_is_told(void **state) {
    wire_story_example(&story);
    struct command c = wire_story_command(COMMAND_CANCEL);
    struct line_cancellation cut = {0, 1};
    c.cancel = (struct command_cancel){PARTY_STORE, bytes_of_text("sold out"), &cut, 1};
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    c = wire_story_command(COMMAND_REFUND);
    c.refund.reason = bytes_of_text("cold");
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    c = wire_story_command(COMMAND_ASSIGN_RIDER);
    c.assign_rider.rider = bytes_of_text("rider-3");
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    c = wire_story_command(COMMAND_ANNOTATE);
    c.annotate.note = bytes_of_text("no peanuts");
    c.trace.bytes[3] = 9;
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    struct id128 trace = c.trace;
    static const uint8_t steps[] = {COMMAND_UNASSIGN_RIDER, COMMAND_MARK_READY};
    for (size_t i = 0; i < sizeof steps; i++) {
        c = wire_story_command(steps[i]);
        assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    }
    const msgpack_object *events = history();
    const msgpack_object *info = info_of(events, "lines_cancelled");
    assert_int_equal(number(item(item(field(info, "lines"), 0), 0)), 0);
    assert_int_equal(number(item(item(field(info, "lines"), 0), 1)), 1);
    assert_str(field(info, "reason"), "sold out");
    assert_int_equal(number(field(info, "by")), PARTY_STORE);
    assert_int_equal(number(field(info, "lines_total")), 11500);
    info = info_of(events, "order_refunded");
    assert_str(field(info, "reason"), "cold");
    assert_int_equal(number(field(info, "amount")), number(field(info, "refunded")));
    assert_str(field(info_of(events, "rider_assigned"), "rider"), "rider-3");
    assert_str(field(info_of(events, "order_annotated"), "note"), "no peanuts");
    assert_id(field(item(events, story.events_count - 3), "trace"), &trace);
    assert_int_equal(info_of(events, "rider_unassigned")->via.map.size, 0);
}

static void the_end_of_a_life_is_told(void **state) {
    wire_story_example(&story);
    struct command c = wire_story_command(COMMAND_MARK_READY);
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    c = wire_story_command(COMMAND_ASSIGN_RIDER);
    c.assign_rider.rider = bytes_of_text("rider-3");
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    static const uint8_t steps[] = {COMMAND_PICK_UP, COMMAND_DELIVER, COMMAND_COMPLETE};
    for (size_t i = 0; i < sizeof steps; i++) {
        c = wire_story_command(steps[i]);
        assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    }
    const msgpack_object *events = history();
    assert_int_equal(info_of(events, "order_picked_up")->via.map.size, 3);
    assert_int_equal(info_of(events, "order_delivered")->via.map.size, 3);
    assert_int_equal(info_of(events, "order_completed")->via.map.size, 5);
    wire_story_init(&story);
    c = wire_story_place();
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    c = wire_story_command(COMMAND_AMEND);
    struct order_line line = {bytes_of_text("bibimbap"), {NULL, 0}, 1, 9500};
    c.amend = (struct command_amend){&line, 1, 3000, 0, 12500};
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    c = wire_story_command(COMMAND_REJECT);
    c.reject.reason = bytes_of_text("closed");
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    events = history();
    assert_int_equal(number(field(info_of(events, "order_amended"), "total")), 12500);
    assert_str(field(info_of(events, "order_rejected"), "reason"), "closed");
}

static void held_commands_are_told(void **state) {
    wire_story_init(&story);
    struct command pay = wire_story_pay(PAYMENT_CAPTURED, 23000);
    assert_int_equal(wire_story_run(&story, &pay), RESULT_HELD);
    struct command cancel = wire_story_command(COMMAND_CANCEL);
    struct line_cancellation cut = {1, 1};
    cancel.cancel = (struct command_cancel){PARTY_CUSTOMER, bytes_of_text("oops"), &cut, 1};
    assert_int_equal(wire_story_run(&story, &cancel), RESULT_HELD);
    struct result r = {.code = RESULT_OK, .value_kind = RESULT_VALUE_ORDER, .value = story.block};
    const msgpack_object *value = item(item(encode(&r, 1), 0), 5);
    assert_str(field(value, "state"), "awaited");
    assert_str(field(value, "currency"), "");
    assert_int_equal(number(field(value, "held_count")), 2);
    const msgpack_object *info = field(item(history(), 0), "info");
    assert_str(field(info, "command"), "pay");
    assert_str(field(info, "payment_state"), "captured");
    assert_str(field(info, "reference"), "psp-881");
    assert_int_equal(number(field(info, "amount")), 23000);
    info = field(item(history(), 1), "info");
    assert_str(field(info, "command"), "cancel");
    assert_str(field(info, "reason"), "oops");
    assert_int_equal(number(item(item(field(info, "lines"), 0), 0)), 1);
    struct command place = wire_story_place();
    assert_int_equal(wire_story_run(&story, &place), RESULT_OK);
    info = info_of(history(), "held_command_resolved");
    assert_str(field(info, "code_name"), "ok");
    assert_int_equal(number(field(info, "code")), 0);
}

static void held_commands_without_a_place_expire(void **state) {
    wire_story_init(&story);
    struct command pay = wire_story_pay(PAYMENT_CAPTURED, 500);
    assert_int_equal(wire_story_run(&story, &pay), RESULT_HELD);
    story.now_ms += HELD_DEADLINE_MS;
    struct command due = {.kind = COMMAND_TIMER_DUE, .subject = wire_example_key};
    assert_int_equal(wire_story_run(&story, &due), RESULT_OK);
    const msgpack_object *info = info_of(history(), "held_commands_expired");
    assert_int_equal(number(field(info, "captured")), 500);
    const msgpack_object *payment = item(field(info, "payments"), 0);
    assert_str(item(payment, 1), "psp-881");
    assert_str(item(payment, 3), "captured");
    assert_int_equal(field(info, "reason")->type, MSGPACK_OBJECT_STR);
    assert_int_equal(info->via.map.size, 6);
}

static void a_newer_schema_is_told_without_its_info(void **state) {
    wire_story_example(&story);
    struct event *e = (struct event *)(story.history + sizeof(struct history_item));
    e->schema = 2;
    const msgpack_object *first = item(history(), 0);
    assert_str(field(first, "action"), "order_placed");
    assert_int_equal(field(first, "info")->via.map.size, 0);
}

/* -- bounds ------------------------------------------------------------------------------------ */

static void the_bounds_hold_for_the_widest_texts(void **state) {
    static struct order_line lines[200];
    static char text[ATTRIBUTES_BYTES_MAX];
    memset(text, 'x', sizeof text);
    struct command c = wire_story_place();
    for (int i = 0; i < 200; i++)
        lines[i] = (struct order_line){bytes_of(text, ID_TEXT_BYTES_MAX),
                                       bytes_of(text, LINE_NAME_BYTES_MAX), ORDER_QUANTITY_MAX, 1};
    c.place.lines = lines;
    c.place.lines_count = 200;
    c.place.store = c.place.customer = c.place.group = bytes_of(text, ID_TEXT_BYTES_MAX);
    c.place.external_ref = bytes_of(text, EXTERNAL_REF_BYTES_MAX);
    c.place.attributes = bytes_of(text, ATTRIBUTES_BYTES_MAX);
    c.place.fees = c.place.discounts = 0;
    c.place.total = 200LL * ORDER_QUANTITY_MAX;
    wire_story_init(&story);
    assert_int_equal(wire_story_run(&story, &c), RESULT_OK);
    struct result r[2] = {
        {.code = RESULT_OK, .value_kind = RESULT_VALUE_ORDER, .value = story.block},
        {.code = RESULT_OK, .value_kind = RESULT_VALUE_HISTORY, .value = story.history,
         .value_bytes = story.history_bytes}};
    const msgpack_object *all = encode(r, 2);
    assert_int_equal(field(item(item(all, 0), 5), "lines")->via.array.size, 200);
    assert_int_equal(field(field(item(item(item(all, 1), 5), 0), "info"), "lines")->via.array.size,
                     200);
}

static void a_value_that_finds_no_room_is_refused_alone(void **state) {
    enum { PART = 1u << 20 };
    uint8_t *big = calloc(1, PART);
    struct msgpack_writer w;
    msgpack_writer_init(&w, big, 5);
    msgpack_write_bin(&w, NULL, 0);
    big[0] = 0xc6; /* bin 32 over the rest */
    uint32_t size = __builtin_bswap32(PART - 5);
    memcpy(big + 1, &size, 4);
    struct result r[8];
    for (int i = 0; i < 8; i++)
        r[i] = (struct result){.code = RESULT_OK, .version = (uint32_t)i,
                               .value_kind = RESULT_VALUE_MSGPACK, .value = big,
                               .value_bytes = PART};
    r[7].value_kind = RESULT_VALUE_NONE;
    assert_int_equal(reply_bytes_max(r, 8), MESSAGE_BYTES_MAX);
    const msgpack_object *all = encode(r, 8);
    for (uint32_t i = 0; i < 8; i++) {
        const msgpack_object *o = item(all, i);
        bool fits = i < 3 || i == 7;
        assert_int_equal(number(item(o, 0)), fits ? RESULT_OK : RESULT_MESSAGE_TOO_LARGE);
        assert_int_equal(number(item(o, 1)), i);
    }
    free(big);
}

static void a_node_value_is_copied_as_it_is(void **state) {
    struct result r = {.code = RESULT_OK, .value_kind = RESULT_VALUE_MSGPACK,
                       .value = (void *)(uintptr_t)"\xa4pong", .value_bytes = 5};
    assert_str(item(item(encode(&r, 1), 0), 5), "pong");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_without_value_have_their_shape),
        cmocka_unit_test(a_shard_without_a_leader_is_told),
        cmocka_unit_test(every_code_fits_its_bound),
        cmocka_unit_test(a_largest_batch_of_refusals_fits),
        cmocka_unit_test(an_order_is_shown_whole),
        cmocka_unit_test(a_store_is_shown_whole),
        cmocka_unit_test(a_history_tells_each_event),
        cmocka_unit_test(the_middle_of_a_life_is_told),
        cmocka_unit_test(the_end_of_a_life_is_told),
        cmocka_unit_test(held_commands_are_told),
        cmocka_unit_test(held_commands_without_a_place_expire),
        cmocka_unit_test(a_newer_schema_is_told_without_its_info),
        cmocka_unit_test(the_bounds_hold_for_the_widest_texts),
        cmocka_unit_test(a_value_that_finds_no_room_is_refused_alone),
        cmocka_unit_test(a_node_value_is_copied_as_it_is),
    };
    return cmocka_run_group_tests_name("reply_encode", tests, setup, teardown);
}
