/* Untrusted messages: every documented command decodes to what it says, and every way to be wrong
 * gets its code, for that command alone where the structure holds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "engine/limits.h"
#include "engine/wire/protocol.h"
#include "engine/wire/request_decode.h"
#include "engine/wire/routing.h"
#include "tests/unit/wire/wire_examples.h"

static uint8_t buffer[MESSAGE_BYTES_MAX + 65536];
static struct msgpack_writer writer;
static struct wire_arena arena;
static struct wire_request request;

static int teardown(void **state) {
    wire_arena_free(&arena);
    return 0;
}

static struct msgpack_writer *begin(void) {
    msgpack_writer_init(&writer, buffer, sizeof buffer);
    return &writer;
}

/* Decodes from memory of exactly that size, so that a sanitizer sees any read behind it. The copy
 * lives until the next call. */
static enum result_code decode_bytes(const void *data, size_t size) {
    static uint8_t *copy;
    free(copy);
    copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    wire_arena_free(&arena);
    request = (struct wire_request){0};
    return request_decode(copy, size, &arena, &request);
}

static enum result_code decode(void) {
    assert_true(msgpack_writer_ok(&writer));
    return decode_bytes(buffer, msgpack_writer_size(&writer));
}

/* The only command of a message that decodes as a whole. */
static const struct command *decode_one(void) {
    assert_int_equal(decode(), RESULT_OK);
    assert_int_equal(request.commands_count, 1);
    return &request.commands[0];
}

static const struct command *decode_example(const char *name) {
    for (unsigned i = 0; i < wire_examples_requests_count; i++) {
        if (strcmp(wire_examples_requests[i].name, name) != 0) continue;
        wire_examples_requests[i].write(begin());
        const struct command *c = decode_one();
        assert_int_equal(c->malformed, 0);
        return c;
    }
    fail_msg("no example %s", name);
    return NULL;
}

static void assert_text(struct bytes text, const char *expected) {
    assert_int_equal(text.size, strlen(expected));
    assert_memory_equal(text.data, expected, text.size);
}

/* -- what is right ----------------------------------------------------------------------------- */

static void place_decodes(void **state) {
    const struct command *c = decode_example("place");
    assert_int_equal(c->kind, COMMAND_PLACE);
    assert_true(id128_equal(&c->subject, &wire_example_key));
    assert_true(routing_birth_ms(&c->subject) == 1767225600000);
    assert_true(id128_equal(&c->id, &wire_example_command_id));
    assert_true(id128_is_zero(&c->trace));
    const struct command_place *p = &c->place;
    assert_int_equal(p->fulfilment, FULFILMENT_PLATFORM_DELIVERY);
    assert_int_equal(p->payment_timing, PAYMENT_PREPAID);
    assert_string_equal(p->currency, "KRW");
    assert_text(p->store, "store-7");
    assert_text(p->customer, "customer-42");
    assert_int_equal(p->group.size, 0);
    assert_int_equal(p->lines_count, 2);
    assert_text(p->lines[0].sku, "bibimbap");
    assert_text(p->lines[0].name, "비빔밥");
    assert_int_equal(p->lines[0].quantity, 2);
    assert_int_equal(p->lines[1].unit_price, 2000);
    assert_int_equal(p->lines[1].name.size, 0);
    assert_int_equal(p->fees, 3000);
    assert_int_equal(p->discounts, 1000);
    assert_int_equal(p->total, 23000);
    assert_int_equal(request.deadline_ms, 0);
}

static void place_with_every_field_decodes(void **state) {
    const struct command *c = decode_example("place, every field");
    const struct command_place *p = &c->place;
    assert_true(request.deadline_ms == 1767225605000);
    assert_int_equal(p->fulfilment, FULFILMENT_PARCEL);
    assert_int_equal(p->payment_timing, PAYMENT_ON_DELIVERY);
    assert_text(p->group, "basket-9");
    assert_text(p->external_ref, "W-1001");
    assert_text(p->attributes, "\x81\xa1k\x01");
    assert_int_equal(p->payment_timeout_ms, 600000);
    assert_int_equal(p->acceptance_timeout_ms, 300000);
    assert_int_equal(p->auto_complete_ms, 86400000);
    assert_int_equal(c->trace.bytes[0], 0x7a);
}

static void the_life_of_an_order_decodes(void **state) {
    const struct command *c = decode_example("pay");
    assert_int_equal(c->pay.state, PAYMENT_CAPTURED);
    assert_text(c->pay.method, "card");
    assert_text(c->pay.reference, "psp-881");
    assert_int_equal(c->pay.amount, 23000);
    assert_int_equal(decode_example("accept")->accept.preparation_minutes, 20);
    assert_text(decode_example("reject")->reject.reason, "closing early");
    assert_int_equal(decode_example("mark_ready")->kind, COMMAND_MARK_READY);
    assert_text(decode_example("assign_rider")->assign_rider.rider, "rider-3");
    assert_int_equal(decode_example("unassign_rider")->kind, COMMAND_UNASSIGN_RIDER);
    assert_int_equal(decode_example("pick_up")->kind, COMMAND_PICK_UP);
    assert_int_equal(decode_example("deliver")->kind, COMMAND_DELIVER);
    assert_int_equal(decode_example("complete")->kind, COMMAND_COMPLETE);
    c = decode_example("cancel, whole");
    assert_int_equal(c->cancel.by, PARTY_CUSTOMER);
    assert_int_equal(c->cancel.lines_count, 0);
    c = decode_example("cancel, lines");
    assert_int_equal(c->cancel.lines_count, 1);
    assert_int_equal(c->cancel.lines[0].line, 0);
    assert_int_equal(c->cancel.lines[0].quantity, 1);
    c = decode_example("refund");
    assert_int_equal(c->refund.amount, 5000);
    assert_text(c->refund.reason, "cold");
    c = decode_example("amend");
    assert_int_equal(c->amend.lines_count, 1);
    assert_int_equal(c->amend.total, 12500);
    assert_text(decode_example("annotate")->annotate.note, "no peanuts");
}

static void reads_stores_and_the_node_decode(void **state) {
    const struct command *c = decode_example("get");
    assert_int_equal(c->kind, COMMAND_GET);
    assert_true(id128_is_zero(&c->id));
    assert_int_equal(decode_example("history")->history.limit, 50);
    c = decode_example("store_pause");
    assert_text(c->store.store, "store-7");
    assert_text(c->store.reason, "kitchen fire drill");
    assert_true(command_is_for_store(c->kind));
    assert_text(decode_example("store_resume")->store.store, "store-7");
    assert_text(decode_example("store_get")->store.store, "store-7");
    assert_int_equal(decode_example("ping")->kind, NODE_COMMAND_PING);
    assert_int_equal(decode_example("shard_map")->kind, NODE_COMMAND_SHARD_MAP);
    assert_int_equal(decode_example("status")->kind, NODE_COMMAND_STATUS);
}

static void a_read_drops_the_id_that_it_was_sent(void **state) {
    wire_example_open(begin(), 1);
    wire_example_command(&writer, 3, COMMAND_GET, NULL);
    const struct command *c = decode_one();
    assert_int_equal(c->malformed, 0);
    assert_true(id128_is_zero(&c->id));
}

/* -- the whole message ------------------------------------------------------------------------- */

static void every_example_cut_anywhere_is_malformed(void **state) {
    for (unsigned i = 0; i < wire_examples_requests_count; i++) {
        wire_examples_requests[i].write(begin());
        size_t size = msgpack_writer_size(&writer);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(decode_bytes(buffer, cut), RESULT_MALFORMED_MESSAGE);
        assert_int_equal(decode_bytes(buffer, size), RESULT_OK);
        buffer[size] = 0xc0;
        assert_int_equal(decode_bytes(buffer, size + 1), RESULT_MALFORMED_MESSAGE);
    }
}

static void messages_of_another_shape_are_malformed(void **state) {
    static const struct { const char *bytes; size_t size; } wrong[] = {
        {"\xc0", 1}, {"\x80", 1}, {"\x90", 1}, {"\x91\x01", 2}, {"\x92\x01\xc0", 3},
        {"\x93\xa1" "1\xc0\x90", 5},          /* the version as a text */
        {"\x93\x01\xa0\x90", 4},              /* the deadline as a text */
        {"\x93\x01\xff\x90", 4},              /* a deadline below zero */
        {"\x93\x01\xcf\x80\0\0\0\0\0\0\0\x90", 12}, /* a deadline of 2^63 */
        {"\x93\x01\xc0\x80", 4},              /* commands as a map */
        {"\x93\x01\xc0\x90", 4},              /* no commands */
        {"\x94\x01\xc0\x91\x91\x64\xa0", 7},  /* flags as a text */
        {"\x94\x01\xc0\x91\x91\x64\x02", 7},  /* a flag that nobody knows */
        {"\x95\x01\xc0\x91\x91\x64\xc0\x01", 8}, /* a number as the cluster's id */
        {"\x95\x01\xc0\x91\x91\x64\xc0\xc4\x0f" "0123456789abcde", 24}, /* one of 15 bytes */
        {"\x95\x01\xc0\x91\x91\x64\xc0\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 25},
        {"\x96\x01\xc0\x91\x91\x64\x01\xc0\xc0", 9}, /* a sixth field */
        {"\x93\x01\xc0\x91\xc1", 5},          /* never used by msgpack */
        {"GET / HTTP/1.1\r\n\r\n", 18}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(decode_bytes(wrong[i].bytes, wrong[i].size), RESULT_MALFORMED_MESSAGE);
}

static void flags_may_follow_the_commands(void **state) {
    static const struct { const char *bytes; size_t size; uint32_t flags; } right[] = {
        {"\x93\x01\xc0\x91\x91\x64", 6, 0}, {"\x94\x01\xc0\x91\x91\x64\xc0", 7, 0},
        {"\x94\x01\xc0\x91\x91\x64\x00", 7, 0},
        {"\x94\x01\xc0\x91\x91\x64\x01", 7, REQUEST_FLAG_FORWARDED}};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        struct bytes span = {NULL, 0};
        assert_int_equal(decode_bytes(right[i].bytes, right[i].size), RESULT_OK);
        assert_int_equal(request.flags, right[i].flags);
        request_spans(right[i].bytes, right[i].size, &span);
        assert_ptr_equal(span.data, right[i].bytes + 4); /* the one command: \x91\x64 */
        assert_int_equal(span.size, 2);
    }
}

static void a_message_may_name_its_cluster(void **state) {
    static const char bytes[] = "\x95\x01\xc0\x91\x91\x64\xc0\xc4\x10" "0123456789abcdef";
    assert_int_equal(decode_bytes(bytes, sizeof bytes - 1), RESULT_OK);
    assert_memory_equal(request.cluster_id.bytes, "0123456789abcdef", 16);
    assert_int_equal(decode_bytes("\x95\x01\xc0\x91\x91\x64\x01\xc0", 8), RESULT_OK);
    assert_int_equal(request.flags, REQUEST_FLAG_FORWARDED);
    assert_true(id128_is_zero(&request.cluster_id));
}

static void another_version_is_told_whatever_follows(void **state) {
    assert_int_equal(decode_bytes("\x91\x02", 2), RESULT_UNSUPPORTED_VERSION);
    assert_int_equal(decode_bytes("\x93\x00\xc0\x90", 4), RESULT_UNSUPPORTED_VERSION);
    assert_int_equal(decode_bytes("\x95\xcd\xff\xff\xc1", 5), RESULT_MALFORMED_MESSAGE);
}

static void sizes_and_batches_end_at_their_limits(void **state) {
    memset(buffer, 0xc0, MESSAGE_BYTES_MAX + 1);
    assert_int_equal(decode_bytes(buffer, MESSAGE_BYTES_MAX + 1), RESULT_MESSAGE_TOO_LARGE);
    for (unsigned count = BATCH_COMMANDS_MAX; count <= BATCH_COMMANDS_MAX + 1; count++) {
        wire_example_open(begin(), count);
        for (unsigned i = 0; i < count; i++) {
            msgpack_write_array(&writer, 1);
            msgpack_write_uint(&writer, NODE_COMMAND_PING);
        }
        bool fits = count <= BATCH_COMMANDS_MAX;
        assert_int_equal(decode(), fits ? RESULT_OK : RESULT_BATCH_TOO_LARGE);
        if (fits) assert_int_equal(request.commands_count, count);
    }
}

static void nesting_without_end_is_malformed(void **state) {
    wire_example_open(begin(), 1);
    for (int i = 0; i < 100000; i++) msgpack_write_array(&writer, 1);
    msgpack_write_nil(&writer);
    assert_int_equal(decode(), RESULT_MALFORMED_MESSAGE);
}

/* -- one command among good ones --------------------------------------------------------------- */

/* Puts one bad command, written by `write`, between two good ones; returns its code. */
static enum result_code bad_between_good(void (*write)(const void *arg), const void *arg) {
    wire_example_open(begin(), 3);
    wire_example_command(&writer, 3, COMMAND_MARK_READY, NULL);
    write(arg);
    wire_example_command(&writer, 2, COMMAND_GET, NULL);
    assert_int_equal(decode(), RESULT_OK);
    assert_int_equal(request.commands_count, 3);
    assert_int_equal(request.commands[0].kind, COMMAND_MARK_READY);
    assert_int_equal(request.commands[0].malformed, 0);
    assert_int_equal(request.commands[2].kind, COMMAND_GET);
    assert_int_equal(request.commands[2].malformed, 0);
    assert_true(id128_equal(&request.commands[2].subject, &wire_example_key));
    return request.commands[1].malformed;
}

struct raw { unsigned kind; const char *body; size_t size; const char *store; };

/* A command whose fifth field is the given bytes. */
static void write_with_body(const void *arg) {
    const struct raw *raw = arg;
    wire_example_command(&writer, 5, raw->kind, raw->store);
    msgpack_write_raw(&writer, raw->body, raw->size);
}

static void write_bytes(const void *arg) {
    const struct bytes *bytes = arg;
    msgpack_write_raw(&writer, bytes->data, bytes->size);
}

#define RAW(bytes) bytes, sizeof(bytes) - 1

static void bodies_of_the_wrong_shape_get_their_code(void **state) {
    static const struct { struct raw raw; enum result_code code; } wrong[] = {
        {{COMMAND_PAY, RAW("\x80")}, RESULT_WRONG_TYPE},
        {{COMMAND_PAY, RAW("\x90")}, RESULT_FIELD_MISSING},
        {{COMMAND_PAY, RAW("\xc0")}, RESULT_FIELD_MISSING},
        {{COMMAND_PAY, RAW("\x94\x02\xa4" "card\xa1r\xa1" "5")}, RESULT_WRONG_TYPE},
        {{COMMAND_PAY, RAW("\x94\x02\xa4" "card\xa1r\xca\0\0\0\0")}, RESULT_WRONG_TYPE},
        {{COMMAND_PAY, RAW("\x94\x02\xa4" "card\xa1r\xcf\x80\0\0\0\0\0\0\0")},
         RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_PAY, RAW("\x94\x02\xa4" "card\xa1r\xc0")}, RESULT_FIELD_MISSING},
        {{COMMAND_PAY, RAW("\x94\x00\xa4" "card\xa1r\x05")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_PAY, RAW("\x94\x04\xa4" "card\xa1r\x05")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_PAY, RAW("\x94\xff\xa4" "card\xa1r\x05")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_PAY, RAW("\x94\x02\xa0\xa1r\x05")}, RESULT_FIELD_MISSING},
        {{COMMAND_PAY, RAW("\x94\x02\xa1\xff\xa1r\x05")}, RESULT_TEXT_NOT_UTF8},
        {{COMMAND_PAY, RAW("\x95\x02\xa4" "card\xa1r\x05\x01")}, RESULT_MALFORMED_COMMAND},
        {{COMMAND_PAY, RAW("\x94\x02\xc4\x01" "c\xa1r\x05")}, RESULT_WRONG_TYPE},
        {{COMMAND_ACCEPT, RAW("\x91\xcd\x05\xa1")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_ACCEPT, RAW("\x91\xff")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_MARK_READY, RAW("\x91\x01")}, RESULT_MALFORMED_COMMAND},
        {{COMMAND_CANCEL, RAW("\x90")}, RESULT_FIELD_MISSING},
        {{COMMAND_CANCEL, RAW("\x91\x06")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_CANCEL, RAW("\x93\x01\xc0\x90")}, RESULT_FIELD_MISSING},
        {{COMMAND_CANCEL, RAW("\x93\x01\xc0\x91\x91\x00")}, RESULT_FIELD_MISSING},
        {{COMMAND_CANCEL, RAW("\x93\x01\xc0\x91\x92\xff\x01")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_CANCEL, RAW("\x93\x01\xc0\x91\x93\x00\x01\x01")}, RESULT_MALFORMED_COMMAND},
        {{COMMAND_CANCEL, RAW("\x93\x01\xc0\x91\x00")}, RESULT_WRONG_TYPE},
        {{COMMAND_REFUND, RAW("\x91\xcf\x80\0\0\0\0\0\0\0")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_ANNOTATE, RAW("\x91\xa0")}, RESULT_FIELD_MISSING},
        {{COMMAND_HISTORY, RAW("\x91\xcd\x04\x01")}, RESULT_NUMBER_OUT_OF_RANGE},
        {{COMMAND_STORE_PAUSE, RAW("\x91\x01"), "s"}, RESULT_WRONG_TYPE},
        {{COMMAND_STORE_RESUME, RAW("\x91\x01"), "s"}, RESULT_MALFORMED_COMMAND},
        {{COMMAND_STORE_RESUME, RAW("\x90"), ""}, RESULT_FIELD_MISSING},
        {{COMMAND_STORE_RESUME, RAW("\x90")}, RESULT_WRONG_TYPE}, /* a key for a store's id */
        {{COMMAND_ACCEPT, RAW("\x90"), "s"}, RESULT_WRONG_TYPE},  /* a store's id for a key */
        {{COMMAND_AMEND, RAW("\x94\x91\x90\x01\x01\x01")}, RESULT_FIELD_MISSING},
        {{COMMAND_AMEND, RAW("\x94\x91\x93\xa1" "a\x01\xc0\x01\x01\x01")}, RESULT_FIELD_MISSING},
        {{COMMAND_AMEND, RAW("\x94\x91\x93\xa1" "a\xcf\x80\0\0\0\0\0\0\0\x01\x01\x01\x01")},
         RESULT_NUMBER_OUT_OF_RANGE},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        enum result_code code = bad_between_good(write_with_body, &wrong[i].raw);
        if (code != wrong[i].code)
            fail_msg("body %zu: got %d, expected %d", i, code, wrong[i].code);
    }
}

#define ID16 "\xc4\x10" "0123456789abcdef"
#define ZERO16 "\xc4\x10" "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"

static void heads_of_the_wrong_shape_get_their_code(void **state) {
    static const struct { const char *bytes; size_t size; enum result_code code; } wrong[] = {
        {RAW("\xc0"), RESULT_WRONG_TYPE},
        {RAW("\x05"), RESULT_WRONG_TYPE},
        {RAW("\x90"), RESULT_FIELD_MISSING},
        {RAW("\x91\xc0"), RESULT_FIELD_MISSING},
        {RAW("\x91\xa1" "1"), RESULT_WRONG_TYPE},
        {RAW("\x91\xff"), RESULT_NUMBER_OUT_OF_RANGE},
        {RAW("\x91\x00"), RESULT_UNKNOWN_COMMAND},
        {RAW("\x91\x0f"), RESULT_UNKNOWN_COMMAND},
        {RAW("\x91\x5a"), RESULT_UNKNOWN_COMMAND}, /* 90..92 are the engine's own */
        {RAW("\x91\x5b"), RESULT_UNKNOWN_COMMAND},
        {RAW("\x91\x5c"), RESULT_UNKNOWN_COMMAND},
        {RAW("\x91\x68"), RESULT_UNKNOWN_COMMAND},
        {RAW("\x91\xcd\x01\x01"), RESULT_UNKNOWN_COMMAND}, /* 257 is not 1 */
        {RAW("\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), RESULT_UNKNOWN_COMMAND},
        {RAW("\x91\x05"), RESULT_KEY_MISSING},
        {RAW("\x93\x05\xc0" ID16), RESULT_KEY_MISSING},
        {RAW("\x93\x05" ZERO16 ID16), RESULT_KEY_MISSING},
        {RAW("\x93\x05\xc4\x03" "abc" ID16), RESULT_MALFORMED_COMMAND},
        {RAW("\x92\x05" ID16), RESULT_COMMAND_ID_MISSING},
        {RAW("\x93\x05" ID16 "\xc0"), RESULT_COMMAND_ID_MISSING},
        {RAW("\x93\x05" ID16 ZERO16), RESULT_COMMAND_ID_MISSING},
        {RAW("\x93\x05" ID16 "\xc4\x01" "a"), RESULT_MALFORMED_COMMAND},
        {RAW("\x93\x05" ID16 "\xa1" "a"), RESULT_WRONG_TYPE},
        {RAW("\x94\x05" ID16 ID16 "\xff"), RESULT_NUMBER_OUT_OF_RANGE},
        {RAW("\x94\x05" ID16 ID16 "\xcf\0\0\0\x01\0\0\0\0"), RESULT_NUMBER_OUT_OF_RANGE},
        {RAW("\x94\x05" ID16 ID16 "\xa0"), RESULT_WRONG_TYPE},
        {RAW("\x96\x05" ID16 ID16 "\xc0\xc0\xa1t"), RESULT_WRONG_TYPE},
        {RAW("\x97\x05" ID16 ID16 "\xc0\xc0\xc0\x01"), RESULT_MALFORMED_COMMAND},
        {RAW("\x92\x64\x01"), RESULT_MALFORMED_COMMAND}, /* a node command has no subject */
        {RAW("\x95\x64\xc0\xc0\xc0\x91\x01"), RESULT_MALFORMED_COMMAND},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct bytes bytes = bytes_of(wrong[i].bytes, wrong[i].size);
        enum result_code code = bad_between_good(write_bytes, &bytes);
        if (code != wrong[i].code)
            fail_msg("head %zu: got %d, expected %d", i, code, wrong[i].code);
    }
}

/* -- place: one field at a time is made wrong -------------------------------------------------- */

struct place_fault { unsigned field; const char *bytes; size_t size; };

static const struct { const char *bytes; size_t size; } place_good[15] = {
    {RAW("\x01")}, {RAW("\x01")}, {RAW("\xa3KRW")}, {RAW("\xa1s")},
    {RAW("\x91\x93\xa1" "a\x01\x05")},
    {RAW("\x00")}, {RAW("\x00")}, {RAW("\x05")},    {RAW("\xc0")},  {RAW("\xc0")},
    {RAW("\xc0")}, {RAW("\xc0")}, {RAW("\xc0")},    {RAW("\xc0")},  {RAW("\xc0")}};

static void write_place(const void *arg) {
    const struct place_fault *fault = arg;
    wire_example_command(&writer, 5, COMMAND_PLACE, NULL);
    msgpack_write_array(&writer, 15);
    for (unsigned i = 0; i < 15; i++) {
        if (i == fault->field) msgpack_write_raw(&writer, fault->bytes, fault->size);
        else msgpack_write_raw(&writer, place_good[i].bytes, place_good[i].size);
    }
}

static enum result_code place_with(unsigned field, const char *bytes, size_t size) {
    struct place_fault fault = {field, bytes, size};
    return bad_between_good(write_place, &fault);
}

static void required_fields_of_place_are_missed(void **state) {
    for (unsigned field = 0; field < 15; field++)
        assert_int_equal(place_with(field, RAW("\xc0")), field < 8 ? RESULT_FIELD_MISSING : 0);
    for (unsigned field = 0; field < 15; field++) /* a map is the wrong type everywhere */
        assert_int_equal(place_with(field, RAW("\x80")), RESULT_WRONG_TYPE);
}

static void numbers_of_place_end_at_their_range(void **state) {
    assert_int_equal(place_with(0, RAW("\x05")), RESULT_NUMBER_OUT_OF_RANGE);
    assert_int_equal(place_with(1, RAW("\x03")), RESULT_NUMBER_OUT_OF_RANGE);
    for (unsigned field = 5; field <= 7; field++)
        assert_int_equal(place_with(field, RAW("\xcf\x80\0\0\0\0\0\0\0")),
                         RESULT_NUMBER_OUT_OF_RANGE);
    for (unsigned field = 12; field < 15; field++) {
        assert_int_equal(place_with(field, RAW("\xff")), RESULT_NUMBER_OUT_OF_RANGE);
        assert_int_equal(place_with(field, RAW("\xce\x9a\x7e\xc8\x00")), 0); /* 30 days */
        assert_int_equal(place_with(field, RAW("\xce\x9a\x7e\xc8\x01")),
                         RESULT_NUMBER_OUT_OF_RANGE);
    }
}

static void what_the_order_rules_refuse_passes_the_decoder(void **state) {
    static const struct { const char *bytes; size_t size; int64_t quantity; } quantities[] = {
        {RAW("\x91\x93\xa1" "a\x00\x05"), 0},
        {RAW("\x91\x93\xa1" "a\xff\x05"), -1},
        {RAW("\x91\x93\xa1" "a\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\x05"), INT64_MAX},
        {RAW("\x91\x93\xa1" "a\xd3\x80\0\0\0\0\0\0\0\x05"), INT64_MIN}};
    for (size_t i = 0; i < sizeof quantities / sizeof *quantities; i++) {
        assert_int_equal(place_with(4, quantities[i].bytes, quantities[i].size), 0);
        assert_true(request.commands[1].place.lines[0].quantity == quantities[i].quantity);
    }
    assert_int_equal(place_with(4, RAW("\x91\x93\xa1" "a\xcf\x80\0\0\0\0\0\0\0\x05")),
                     RESULT_NUMBER_OUT_OF_RANGE);
    assert_int_equal(place_with(7, RAW("\xff")), 0);
    assert_int_equal(request.commands[1].place.total, -1);
    assert_int_equal(place_with(4, RAW("\x90")), 0);
    assert_int_equal(request.commands[1].place.lines_count, 0);
    assert_int_equal(place_with(2, RAW("\xa4KRWX")), 0);
    assert_string_equal(request.commands[1].place.currency, "");
    assert_int_equal(place_with(2, RAW("\xa2KR")), 0);
    assert_string_equal(request.commands[1].place.currency, "");
}

static void texts_of_place_end_at_their_limits(void **state) {
    static const struct { unsigned field; uint32_t max; } texts[] = {
        {3, ID_TEXT_BYTES_MAX}, {8, ID_TEXT_BYTES_MAX}, {9, ID_TEXT_BYTES_MAX},
        {10, EXTERNAL_REF_BYTES_MAX}};
    static char text[ATTRIBUTES_BYTES_MAX + 1];
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (uint32_t over = 0; over < 2; over++) {
            uint8_t bytes[200];
            struct msgpack_writer w;
            msgpack_writer_init(&w, bytes, sizeof bytes);
            msgpack_write_str(&w, text, texts[i].max + over);
            assert_int_equal(place_with(texts[i].field, (char *)bytes, msgpack_writer_size(&w)),
                             over ? RESULT_TEXT_TOO_LONG : 0);
        }
        assert_int_equal(place_with(texts[i].field, RAW("\xa2\xc3(")), RESULT_TEXT_NOT_UTF8);
    }
    static uint8_t bytes[ATTRIBUTES_BYTES_MAX + 8];
    for (uint32_t over = 0; over < 2; over++) {
        struct msgpack_writer w;
        msgpack_writer_init(&w, bytes, sizeof bytes);
        msgpack_write_bin(&w, text, ATTRIBUTES_BYTES_MAX + over);
        assert_int_equal(place_with(11, (char *)bytes, msgpack_writer_size(&w)),
                         over ? RESULT_TEXT_TOO_LONG : 0);
    }
    assert_int_equal(place_with(11, RAW("\xa1x")), RESULT_WRONG_TYPE);
}

static void lines_end_at_their_limit(void **state) {
    for (uint32_t count = ORDER_LINES_MAX; count <= ORDER_LINES_MAX + 1; count++) {
        static char bytes[6 * (ORDER_LINES_MAX + 2)];
        struct msgpack_writer w;
        msgpack_writer_init(&w, bytes, sizeof bytes);
        msgpack_write_array(&w, count);
        for (uint32_t i = 0; i < count; i++) msgpack_write_raw(&w, RAW("\x93\xa1" "a\x01\x05"));
        assert_true(msgpack_writer_ok(&w));
        assert_int_equal(place_with(4, bytes, msgpack_writer_size(&w)),
                         count > ORDER_LINES_MAX ? RESULT_TOO_MANY_ITEMS : 0);
    }
    assert_int_equal(place_with(4, RAW("\x91\x95\xa1" "a\x01\x05\xc0\x01")),
                     RESULT_MALFORMED_COMMAND);
    assert_int_equal(place_with(4, RAW("\x91\x94\xa1" "a\x01\x05\xa1\x80")), RESULT_TEXT_NOT_UTF8);
}

/* An amend of ORDER_LINES_MAX items that are these bytes. */
static void write_amend(const char *item, size_t size, uint32_t left_out) {
    wire_example_command(&writer, 5, COMMAND_AMEND, NULL);
    msgpack_write_array(&writer, 4);
    msgpack_write_array(&writer, ORDER_LINES_MAX);
    for (uint32_t i = 0; i < ORDER_LINES_MAX; i++) msgpack_write_raw(&writer, item, size);
    for (uint32_t i = left_out; i < 3; i++) msgpack_write_uint(&writer, 0);
    for (uint32_t i = 0; i < left_out; i++) msgpack_write_nil(&writer);
}

static void lists_at_fault_keep_no_memory(void **state) {
    wire_example_open(begin(), BATCH_COMMANDS_MAX);
    for (uint32_t i = 0; i < BATCH_COMMANDS_MAX; i++) write_amend(RAW("\xc0"), 0);
    assert_int_equal(decode(), RESULT_OK);
    for (uint32_t i = 0; i < BATCH_COMMANDS_MAX; i++)
        assert_int_equal(request.commands[i].malformed, RESULT_WRONG_TYPE);
    size_t commands = BATCH_COMMANDS_MAX * sizeof(struct command);
    size_t reserved = commands + 2 * msgpack_writer_size(&writer);
    assert_in_range(arena.bytes, reserved, reserved + 8);
}

/* Whatever the count promises, the item that is wrong is told, not the size of the list. */
static void a_list_that_cannot_fit_is_read_to_its_fault(void **state) {
    static const struct { const char *item; size_t size; enum result_code code; } wrong[] = {
        {RAW("\xc0"), RESULT_WRONG_TYPE}, {RAW("\x90"), RESULT_FIELD_MISSING},
        {RAW("\x93\xa0\x01\x01"), RESULT_FIELD_MISSING},
        {RAW("\x92\xa1" "a\x01"), RESULT_FIELD_MISSING}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        wire_example_open(begin(), 1);
        write_amend(wrong[i].item, wrong[i].size, 0);
        assert_int_equal(decode_one()->malformed, wrong[i].code);
        assert_int_equal(decode_bytes(buffer, msgpack_writer_size(&writer) - 1),
                         RESULT_MALFORMED_MESSAGE);
    }
}

static void the_densest_message_fits_its_arena(void **state) {
    const uint32_t count = 400;
    wire_example_open(begin(), count);
    for (uint32_t i = 0; i < count; i++) write_amend(RAW("\x93\xa1" "a\x01\x05"), i % 2);
    assert_true(msgpack_writer_size(&writer) <= MESSAGE_BYTES_MAX);
    assert_int_equal(decode(), RESULT_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(request.commands[i].malformed, i % 2 ? RESULT_FIELD_MISSING : 0);
        assert_int_equal(request.commands[i].amend.lines_count, ORDER_LINES_MAX);
        assert_text(request.commands[i].amend.lines[ORDER_LINES_MAX - 1].sku, "a");
    }
    assert_true(arena.bytes <= WIRE_ARENA_BYTES_MAX);
}

static void write_huge(const void *arg) {
    static const char zeros[COMMAND_BYTES_MAX];
    wire_example_command(&writer, 5, COMMAND_ANNOTATE, NULL);
    msgpack_write_array(&writer, 1);
    msgpack_write_str(&writer, zeros, sizeof zeros);
}

static void a_huge_command_is_refused_alone(void **state) {
    assert_int_equal(bad_between_good(write_huge, NULL), RESULT_COMMAND_TOO_LARGE);
}

static void texts_of_the_rest_end_at_their_limits(void **state) {
    static const struct {
        unsigned kind;
        const char *head;
        size_t head_size;
        uint32_t max;
    } texts[] = {
        {COMMAND_REJECT, RAW("\x91"), REASON_BYTES_MAX},
        {COMMAND_ASSIGN_RIDER, RAW("\x91"), ID_TEXT_BYTES_MAX},
        {COMMAND_CANCEL, RAW("\x92\x01"), REASON_BYTES_MAX},
        {COMMAND_REFUND, RAW("\x92\xc0"), REASON_BYTES_MAX},
        {COMMAND_ANNOTATE, RAW("\x91"), NOTE_BYTES_MAX}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (uint32_t over = 0; over < 2; over++) {
            static char text[NOTE_BYTES_MAX + 1], bytes[NOTE_BYTES_MAX + 16];
            memset(text, 'x', sizeof text);
            struct msgpack_writer w;
            msgpack_writer_init(&w, bytes, sizeof bytes);
            msgpack_write_raw(&w, texts[i].head, texts[i].head_size);
            msgpack_write_str(&w, text, texts[i].max + over);
            struct raw raw = {texts[i].kind, bytes, msgpack_writer_size(&w), NULL};
            assert_int_equal(bad_between_good(write_with_body, &raw),
                             over ? RESULT_TEXT_TOO_LONG : 0);
        }
    }
}

static void the_arena_takes_few_chunks(void **state) {
    struct wire_arena a = {0};
    assert_true(wire_arena_reserve(&a, 100));
    const uint8_t *end = a.end;
    for (int i = 0; i < 10; i++) {
        void *p = wire_arena_take(&a, 9);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 8, 0);
    }
    assert_ptr_equal(a.end, end);
    size_t before = a.bytes;
    assert_non_null(wire_arena_take(&a, 4096));
    assert_true(a.bytes >= 2 * before);
    wire_arena_free(&a);
    assert_null(a.chunks);
    assert_int_equal(a.bytes, 0);
}

static void the_arena_ends_at_its_bound(void **state) {
    struct wire_arena a = {0};
    assert_false(wire_arena_reserve(&a, WIRE_ARENA_BYTES_MAX + 1));
    assert_false(wire_arena_reserve(&a, SIZE_MAX));
    size_t taken = 0;
    while (wire_arena_take(&a, 1 << 20) != NULL) taken += 1 << 20;
    assert_int_equal(taken, WIRE_ARENA_BYTES_MAX);
    assert_int_equal(a.bytes, WIRE_ARENA_BYTES_MAX);
    assert_false(wire_arena_reserve(&a, 1));
    wire_arena_free(&a);
    uint8_t *first = wire_arena_take(&a, 64);
    wire_arena_give_back(&a, first);
    assert_ptr_equal(wire_arena_take(&a, 32), first);
    wire_arena_free(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(place_decodes),
        cmocka_unit_test(place_with_every_field_decodes),
        cmocka_unit_test(the_life_of_an_order_decodes),
        cmocka_unit_test(reads_stores_and_the_node_decode),
        cmocka_unit_test(a_read_drops_the_id_that_it_was_sent),
        cmocka_unit_test(every_example_cut_anywhere_is_malformed),
        cmocka_unit_test(messages_of_another_shape_are_malformed),
        cmocka_unit_test(flags_may_follow_the_commands),
        cmocka_unit_test(a_message_may_name_its_cluster),
        cmocka_unit_test(another_version_is_told_whatever_follows),
        cmocka_unit_test(sizes_and_batches_end_at_their_limits),
        cmocka_unit_test(nesting_without_end_is_malformed),
        cmocka_unit_test(bodies_of_the_wrong_shape_get_their_code),
        cmocka_unit_test(heads_of_the_wrong_shape_get_their_code),
        cmocka_unit_test(required_fields_of_place_are_missed),
        cmocka_unit_test(numbers_of_place_end_at_their_range),
        cmocka_unit_test(what_the_order_rules_refuse_passes_the_decoder),
        cmocka_unit_test(texts_of_place_end_at_their_limits),
        cmocka_unit_test(lines_end_at_their_limit),
        cmocka_unit_test(lists_at_fault_keep_no_memory),
        cmocka_unit_test(a_list_that_cannot_fit_is_read_to_its_fault),
        cmocka_unit_test(the_densest_message_fits_its_arena),
        cmocka_unit_test(a_huge_command_is_refused_alone),
        cmocka_unit_test(texts_of_the_rest_end_at_their_limits),
        cmocka_unit_test(the_arena_takes_few_chunks),
        cmocka_unit_test(the_arena_ends_at_its_bound),
    };
    return cmocka_run_group_tests_name("request_decode", tests, NULL, teardown);
}
