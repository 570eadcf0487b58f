/* What the library writes is checked with msgpack-c, a reader apart from its own; what it reads is
 * written with it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

#include "actors/result_codes.h"
#include "clients/sdk/command_encode.h"
#include "clients/sdk/order_decode.h"
#include "clients/sdk/reply_decode.h"
#include "clients/sdk/shard_router.h"

/* -- commands ---------------------------------------------------------------------------------- */

static msgpack_unpacked unpacked;
static void *message; /* what `unpacked` points into */
static const jumun_key order_key = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};
static const jumun_key command_id = {{0xaa, 0xbb}};

/* Encodes as a request; gives the only command's fields. */
static msgpack_object *encoded(const jumun_command *command, uint32_t fields) {
    size_t bytes;
    char error[100];
    assert_int_equal(jumun_encode_request(command, 12345, &message, &bytes, error, sizeof error),
                     JUMUN_OK);
    assert_true(bytes <= COMMAND_ENCODE_HEAD_BYTES + command_encode_bytes_max(command));
    size_t at = 0;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, message, bytes, &at), MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(at, bytes);
    msgpack_object *top = unpacked.data.via.array.ptr;
    assert_int_equal(unpacked.data.via.array.size, 3);
    assert_int_equal(top[0].via.u64, 1);
    assert_int_equal(top[1].via.u64, 12345);
    assert_int_equal(top[2].via.array.size, 1);
    assert_int_equal(top[2].via.array.ptr[0].via.array.size, fields);
    return top[2].via.array.ptr[0].via.array.ptr;
}

static void done(void) {
    msgpack_unpacked_destroy(&unpacked);
    free(message);
}

static void assert_text(const msgpack_object *o, const char *text) {
    assert_int_equal(o->type, MSGPACK_OBJECT_STR);
    assert_int_equal(o->via.str.size, strlen(text));
    assert_memory_equal(o->via.str.ptr, text, strlen(text));
}

static void assert_number(const msgpack_object *o, int64_t number) {
    if (number < 0) assert_int_equal(o->type, MSGPACK_OBJECT_NEGATIVE_INTEGER);
    else assert_int_equal(o->type, MSGPACK_OBJECT_POSITIVE_INTEGER);
    assert_int_equal(o->via.i64, number);
}

static void assert_key(const msgpack_object *o, const jumun_key *key) {
    assert_int_equal(o->type, MSGPACK_OBJECT_BIN);
    assert_int_equal(o->via.bin.size, 16);
    assert_memory_equal(o->via.bin.ptr, key->bytes, 16);
}

static jumun_command command_of(jumun_kind kind) {
    return (jumun_command){.kind = kind, .order = order_key, .options = {.id = command_id}};
}

static void test_place(void **state) {
    jumun_line lines[] = {{.sku = "a", .quantity = INT64_MAX, .unit_price = -5},
                          {.sku = "b", .quantity = 2, .unit_price = 0, .name = "bee"}};
    jumun_command c = command_of(JUMUN_PLACE);
    c.options.expected_version = 70000;
    c.place = (jumun_place){.fulfilment = JUMUN_PARCEL, .currency = "KRW", .store = "s1",
                            .lines = lines, .lines_count = 2, .fees = 3, .discounts = 200,
                            .total = INT64_MIN};
    msgpack_object *f = encoded(&c, 5);
    assert_number(&f[0], JUMUN_PLACE);
    assert_key(&f[1], &order_key);
    assert_key(&f[2], &command_id);
    assert_number(&f[3], 70000);
    assert_int_equal(f[4].via.array.size, 8); /* nothing optional is sent */
    msgpack_object *b = f[4].via.array.ptr;
    assert_number(&b[0], JUMUN_PARCEL);
    assert_number(&b[1], JUMUN_PREPAID);
    assert_text(&b[2], "KRW");
    assert_text(&b[3], "s1");
    assert_int_equal(b[4].via.array.ptr[0].via.array.size, 3);
    assert_text(&b[4].via.array.ptr[0].via.array.ptr[0], "a");
    assert_number(&b[4].via.array.ptr[0].via.array.ptr[1], INT64_MAX);
    assert_number(&b[4].via.array.ptr[0].via.array.ptr[2], -5);
    assert_text(&b[4].via.array.ptr[1].via.array.ptr[3], "bee");
    assert_number(&b[5], 3);
    assert_number(&b[6], 200);
    assert_number(&b[7], INT64_MIN);
    done();
}

static void test_place_with_optional_fields(void **state) {
    jumun_line line = {.sku = "a", .quantity = 1, .unit_price = 1};
    jumun_command c = command_of(JUMUN_PLACE);
    c.options.trace = order_key;
    c.place = (jumun_place){.fulfilment = JUMUN_PICKUP, .payment_timing = JUMUN_ON_DELIVERY,
                            .currency = "EUR", .store = "s", .lines = &line, .lines_count = 1,
                            .customer = "c", .external_ref = "ref", .attributes = "\xc0",
                            .attributes_bytes = 1, .auto_complete_ms = 60000};
    msgpack_object *f = encoded(&c, 6);
    assert_key(&f[5], &order_key);
    assert_int_equal(f[4].via.array.size, 15);
    msgpack_object *b = f[4].via.array.ptr;
    assert_number(&b[1], JUMUN_ON_DELIVERY);
    assert_text(&b[8], "c");
    assert_int_equal(b[9].type, MSGPACK_OBJECT_NIL);
    assert_text(&b[10], "ref");
    assert_int_equal(b[11].type, MSGPACK_OBJECT_BIN);
    assert_int_equal(b[12].type, MSGPACK_OBJECT_NIL);
    assert_number(&b[14], 60000);
    done();
}

static void test_small_bodies(void **state) {
    jumun_line_cancellation cut[] = {{.line = 3, .quantity = 2}};
    jumun_command c = command_of(JUMUN_PAY);
    c.pay = (jumun_pay){.state = JUMUN_CAPTURED, .method = "card", .reference = "r", .amount = 9};
    msgpack_object *b = encoded(&c, 5)[4].via.array.ptr;
    assert_number(&b[0], JUMUN_CAPTURED);
    assert_text(&b[1], "card");
    assert_text(&b[2], "r");
    assert_number(&b[3], 9);
    done();

    c = command_of(JUMUN_CANCEL);
    c.cancel = (jumun_cancel){.by = JUMUN_BY_STORE, .lines = cut, .lines_count = 1};
    msgpack_object *f = encoded(&c, 5);
    assert_int_equal(f[4].via.array.size, 3);
    b = f[4].via.array.ptr;
    assert_number(&b[0], JUMUN_BY_STORE);
    assert_int_equal(b[1].type, MSGPACK_OBJECT_NIL);
    assert_number(&b[2].via.array.ptr[0].via.array.ptr[0], 3);
    assert_number(&b[2].via.array.ptr[0].via.array.ptr[1], 2);
    done();

    c = command_of(JUMUN_REFUND);
    c.refund.reason = "cold";
    b = encoded(&c, 5)[4].via.array.ptr;
    assert_number(&b[0], 0);
    assert_text(&b[1], "cold");
    done();

    c = command_of(JUMUN_REJECT);
    assert_int_equal(encoded(&c, 5)[4].via.array.size, 0);
    done();
}

static void test_subjects_of_stores_nodes_and_reads(void **state) {
    jumun_command c = {.kind = JUMUN_STORE_PAUSE, .store_id = "s9", .options = {.id = command_id}};
    c.store_pause.reason = "fire";
    msgpack_object *f = encoded(&c, 5);
    assert_text(&f[1], "s9");
    assert_key(&f[2], &command_id);
    assert_text(&f[4].via.array.ptr[0], "fire");
    done();
    c = (jumun_command){.kind = JUMUN_NODE_STATUS};
    f = encoded(&c, 5);
    assert_int_equal(f[1].type, MSGPACK_OBJECT_NIL);
    assert_int_equal(f[2].type, MSGPACK_OBJECT_NIL);
    done();
    c = command_of(JUMUN_HISTORY);
    c.history.limit = 7;
    f = encoded(&c, 5);
    assert_key(&f[1], &order_key);
    assert_int_equal(f[2].type, MSGPACK_OBJECT_NIL); /* a read has no id */
    assert_number(&f[4].via.array.ptr[0], 7);
    done();
}

static void test_the_largest_place_fits_its_bound(void **state) {
    static jumun_line lines[2048];
    char sku[65], name[129];
    memset(sku, 's', 64);
    memset(name, 'n', 128);
    sku[64] = name[128] = '\0';
    for (int i = 0; i < 2048; i++)
        lines[i] = (jumun_line){.sku = sku, .quantity = 1000000000, .unit_price = 1LL << 50,
                                .name = name};
    jumun_command c = command_of(JUMUN_PLACE);
    c.place = (jumun_place){.currency = "KRW", .store = sku, .lines = lines, .lines_count = 2048};
    assert_int_equal(encoded(&c, 5)[4].via.array.ptr[4].via.array.size, 2048);
    done();
    c.place.lines_count = 2049;
    size_t bytes;
    char error[100];
    assert_int_equal(jumun_encode_request(&c, 0, &message, &bytes, error, sizeof error),
                     JUMUN_BAD_ARGUMENT);
    assert_null(message);
    assert_string_equal(error, "an order has at most 2,048 lines");
}

/* -- replies ----------------------------------------------------------------------------------- */

static msgpack_sbuffer buffer;
static msgpack_packer packer;

static int pack_setup(void **state) {
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    return 0;
}

static int pack_teardown(void **state) {
    msgpack_sbuffer_destroy(&buffer);
    return 0;
}

static void pack_text(const char *text) {
    msgpack_pack_str(&packer, strlen(text));
    msgpack_pack_str_body(&packer, text, strlen(text));
}

static void pack_head(uint32_t results) {
    msgpack_pack_array(&packer, 3);
    msgpack_pack_int(&packer, 1);
    msgpack_pack_int(&packer, 0);
    msgpack_pack_array(&packer, results);
}

static void pack_result(uint32_t fields, int code) {
    msgpack_pack_array(&packer, fields);
    msgpack_pack_int(&packer, code);
    msgpack_pack_int(&packer, 4);
    msgpack_pack_int(&packer, 1);
    msgpack_pack_uint64(&packer, UINT64_MAX);
    if (fields > 4) msgpack_pack_int(&packer, 1);
}

static void test_results(void **state) {
    pack_head(3);
    pack_result(4, 0);
    pack_result(6, 0);
    pack_text("value");
    pack_result(7, 2);
    char sentence[200];
    memset(sentence, 'x', sizeof sentence);
    memcpy(sentence + 94, "\xe2\x82\xac", 3); /* cut in the middle of a character */
    sentence[199] = '\0';
    pack_text(sentence);
    msgpack_pack_int(&packer, 250);
    struct reply reply;
    jumun_result r = {0};
    const void *value;
    size_t bytes;
    assert_int_equal(reply_open(&reply, buffer.data, buffer.size), REPLY_RESULTS);
    assert_int_equal(reply.count, 3);
    assert_true(reply_next(&reply, &r, &value, &bytes));
    assert_int_equal(r.code, 0);
    assert_int_equal(r.version, 4);
    assert_int_equal(r.shard, 1);
    assert_true(r.index == UINT64_MAX);
    assert_false(r.repeated);
    assert_null(value);
    assert_true(reply_next(&reply, &r, &value, &bytes));
    assert_true(r.repeated);
    assert_int_equal(bytes, 6);
    assert_memory_equal(value, "\xa5value", 6);
    assert_true(reply_next(&reply, &r, &value, &bytes));
    assert_int_equal(r.code, JUMUN_OVERLOADED);
    assert_int_equal(r.retry_after_ms, 250);
    assert_int_equal(strlen(r.detail), 94);
    assert_null(value);
}

static void test_every_cut_of_a_reply_is_garbage(void **state) {
    pack_head(2);
    pack_result(6, 0);
    pack_text("value");
    pack_result(7, 100);
    pack_text("no");
    msgpack_pack_int(&packer, 0);
    for (size_t size = 0; size < buffer.size; size++) {
        struct reply reply;
        jumun_result r;
        const void *value;
        size_t bytes;
        uint8_t *exact = malloc(size ? size : 1); /* so that the sanitizer sees a step too far */
        memcpy(exact, buffer.data, size);
        enum reply_kind kind = reply_open(&reply, exact, size);
        bool whole = kind == REPLY_RESULTS;
        for (uint32_t i = 0; whole && i < reply.count; i++)
            whole = reply_next(&reply, &r, &value, &bytes);
        assert_false(whole);
        free(exact);
    }
}

/* -- orders ------------------------------------------------------------------------------------ */

static void pack_number(const char *name, int64_t number) {
    pack_text(name);
    msgpack_pack_int64(&packer, number);
}

static void pack_order(void) {
    msgpack_pack_map(&packer, 10);
    pack_text("key");
    msgpack_pack_bin(&packer, 16);
    msgpack_pack_bin_body(&packer, order_key.bytes, 16);
    pack_number("version", 9);
    pack_text("state");
    pack_text("accepted");
    pack_text("currency");
    pack_text("KRW");
    pack_text("of a later version");
    msgpack_pack_array(&packer, 1);
    msgpack_pack_nil(&packer);
    pack_number("total", -7);
    pack_number("fulfilment", JUMUN_PARCEL);
    pack_text("attributes");
    msgpack_pack_bin(&packer, 2);
    msgpack_pack_bin_body(&packer, "\x00\x01", 2);
    pack_text("lines");
    msgpack_pack_array(&packer, 2);
    for (int i = 0; i < 2; i++) {
        msgpack_pack_array(&packer, 4 + i);
        pack_text(i ? "tea" : "rice");
        msgpack_pack_int(&packer, 10 + i);
        msgpack_pack_int(&packer, i);
        msgpack_pack_int(&packer, 500);
        if (i) pack_text("green tea");
    }
    pack_text("payments");
    msgpack_pack_array(&packer, 1);
    msgpack_pack_array(&packer, 4);
    pack_text("card");
    pack_text("ref");
    msgpack_pack_int(&packer, 1000);
    pack_text("captured");
}

static void test_an_order(void **state) {
    jumun_order *o;
    pack_order();
    assert_int_equal(order_decode(buffer.data, buffer.size, &o), JUMUN_OK);
    assert_memory_equal(&o->key, &order_key, sizeof order_key);
    assert_int_equal(o->version, 9);
    assert_string_equal(o->state, "accepted");
    assert_string_equal(o->currency, "KRW");
    assert_string_equal(o->store, "");
    assert_int_equal(o->total, -7);
    assert_int_equal(o->fulfilment, JUMUN_PARCEL);
    assert_int_equal(o->attributes_bytes, 2);
    assert_memory_equal(o->attributes, "\x00\x01", 2);
    assert_int_equal(o->lines_count, 2);
    assert_string_equal(o->lines[0].sku, "rice");
    assert_string_equal(o->lines[0].name, "");
    assert_int_equal(o->lines[1].quantity, 11);
    assert_int_equal(o->lines[1].cancelled, 1);
    assert_string_equal(o->lines[1].name, "green tea");
    assert_int_equal(o->payments_count, 1);
    assert_string_equal(o->payments[0].method, "card");
    assert_int_equal(o->payments[0].amount, 1000);
    assert_string_equal(o->payments[0].state, "captured");
    jumun_order_free(o);
}

static void test_every_cut_of_an_order_is_a_bad_reply(void **state) {
    pack_order();
    for (size_t size = 0; size < buffer.size; size++) {
        jumun_order *o;
        uint8_t *exact = malloc(size ? size : 1);
        memcpy(exact, buffer.data, size);
        assert_int_equal(order_decode(exact, size, &o), JUMUN_BAD_REPLY);
        assert_null(o);
        free(exact);
    }
}

/* -- the shard map ----------------------------------------------------------------------------- */

static void pack_map(const char *address, int64_t second_from_ms) {
    msgpack_pack_map(&packer, 2);
    pack_text("shards");
    msgpack_pack_array(&packer, 1);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_int(&packer, 2);
    pack_text(address);
    pack_text("epochs");
    msgpack_pack_array(&packer, 2);
    for (int i = 0; i < 2; i++) {
        msgpack_pack_array(&packer, 2);
        msgpack_pack_int64(&packer, i ? second_from_ms : 0);
        msgpack_pack_int(&packer, i ? 3 : 1);
    }
}

static void test_a_shard_map(void **state) {
    static struct shard_map map;
    pack_map("tcp://0.0.0.0:7403", 5000);
    assert_null(
        shard_map_decode(buffer.data, buffer.size, "tcp://db.example:7400,tcp://b:1", &map));
    assert_int_equal(map.epochs_count, 2);
    assert_int_equal(map.epochs[1].from_ms, 5000);
    assert_int_equal(map.shards_count, 3);
    assert_string_equal(map.addresses[2], "tcp://db.example:7403");
    assert_string_equal(map.addresses[0], "");
    for (size_t size = 0; size < buffer.size; size++)
        assert_non_null(shard_map_decode(buffer.data, size, "tcp://a:1", &map));
}

static void test_shard_maps_that_cannot_be(void **state) {
    static struct shard_map map;
    pack_map("tcp://host:1", -1);
    assert_string_equal(shard_map_decode(buffer.data, buffer.size, "tcp://a:1", &map),
                        "the epochs are not sorted");
    msgpack_sbuffer_clear(&buffer);
    msgpack_pack_map(&packer, 0);
    assert_string_equal(shard_map_decode(buffer.data, buffer.size, "tcp://a:1", &map),
                        "the shard map has no epochs");
}

static void test_nodes_told_twice_are_not_twice_as_many(void **state) {
    static struct {
        struct shard_map map;
        char behind[NODES_MAX * SHARD_MAP_ADDRESS_BYTES];
    } room;
    msgpack_pack_map(&packer, 3);
    for (int times = 0; times < 2; times++) {
        pack_text("nodes");
        msgpack_pack_array(&packer, NODES_MAX);
        for (int i = 0; i < NODES_MAX; i++) {
            msgpack_pack_array(&packer, 2);
            msgpack_pack_int(&packer, i);
            pack_text(times ? "tcp://new:1" : "tcp://old:1");
        }
    }
    pack_text("epochs");
    msgpack_pack_array(&packer, 1);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_int(&packer, 0);
    msgpack_pack_int(&packer, 1);
    assert_null(shard_map_decode(buffer.data, buffer.size, "tcp://a:1", &room.map));
    assert_int_equal(room.map.nodes_count, NODES_MAX);
    assert_string_equal(room.map.nodes[0], "tcp://new:1");
    for (size_t i = 0; i < sizeof room.behind; i++) assert_int_equal(room.behind[i], 0);
}

static const char *decode_ids(const char *id, uint32_t ancestors, struct shard_map *map) {
    msgpack_sbuffer_clear(&buffer);
    msgpack_pack_map(&packer, 3);
    pack_text("cluster_id");
    pack_text(id);
    pack_text("ancestors");
    msgpack_pack_array(&packer, ancestors);
    for (uint32_t i = 0; i < ancestors; i++) {
        char ancestor[CLUSTER_ID_BYTES];
        snprintf(ancestor, sizeof ancestor, "%031xa", i);
        pack_text(ancestor);
    }
    pack_text("epochs");
    msgpack_pack_array(&packer, 1);
    msgpack_pack_array(&packer, 2);
    msgpack_pack_int(&packer, 0);
    msgpack_pack_int(&packer, 1);
    return shard_map_decode(buffer.data, buffer.size, "tcp://a:1", map);
}

static void test_the_clusters_of_a_shard_map(void **state) {
    static struct shard_map map;
    assert_null(decode_ids("00112233445566778899aabbccddeeff", 2, &map));
    assert_string_equal(map.cluster_id, "00112233445566778899aabbccddeeff");
    assert_int_equal(map.ancestors_count, 2);
    assert_string_equal(map.ancestors[1], "0000000000000000000000000000001a");
    assert_null(decode_ids("00112233445566778899aabbccddeeff", ANCESTORS_MAX + 3, &map));
    assert_int_equal(map.ancestors_count, ANCESTORS_MAX);
    assert_string_equal(map.ancestors[0], "0000000000000000000000000000000a");
    static const char *const wrong[] = {"", "0011", "00112233445566778899aabbccddeefg",
                                        "00112233445566778899AABBCCDDEEFF",
                                        "00112233445566778899aabbccddeeff0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_string_equal(decode_ids(wrong[i], 0, &map), "cluster_id is no id of a cluster");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_place_with_optional_fields),
        cmocka_unit_test(test_small_bodies),
        cmocka_unit_test(test_subjects_of_stores_nodes_and_reads),
        cmocka_unit_test(test_the_largest_place_fits_its_bound),
        cmocka_unit_test_setup_teardown(test_results, pack_setup, pack_teardown),
        cmocka_unit_test_setup_teardown(test_every_cut_of_a_reply_is_garbage, pack_setup,
                                        pack_teardown),
        cmocka_unit_test_setup_teardown(test_an_order, pack_setup, pack_teardown),
        cmocka_unit_test_setup_teardown(test_every_cut_of_an_order_is_a_bad_reply, pack_setup,
                                        pack_teardown),
        cmocka_unit_test_setup_teardown(test_a_shard_map, pack_setup, pack_teardown),
        cmocka_unit_test_setup_teardown(test_shard_maps_that_cannot_be, pack_setup,
                                        pack_teardown),
        cmocka_unit_test_setup_teardown(test_nodes_told_twice_are_not_twice_as_many, pack_setup,
                                        pack_teardown),
        cmocka_unit_test_setup_teardown(test_the_clusters_of_a_shard_map, pack_setup,
                                        pack_teardown),
    };
    return cmocka_run_group_tests_name("sdk_codec", tests, NULL, NULL);
}
