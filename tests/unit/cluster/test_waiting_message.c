/* What is said to a waiting node: each kind, and whatever is wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "engine/cluster/waiting_message.h"

static uint8_t buffer[512];
static struct msgpack_writer w;
static struct waiting_request q;

static void begin(uint32_t kind, uint32_t parts) {
    msgpack_writer_init(&w, buffer, sizeof buffer);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, 1);
    msgpack_write_nil(&w);
    msgpack_write_array(&w, 1);
    msgpack_write_array(&w, parts);
    msgpack_write_uint(&w, kind);
    for (uint32_t i = 1; i < parts && i < 4; i++) msgpack_write_nil(&w);
}

/* From memory of exactly that size, so that a sanitizer sees any read behind it. */
static bool read_it(void) {
    static uint8_t *copy;
    size_t size = msgpack_writer_size(&w);
    free(copy);
    copy = malloc(size);
    memcpy(copy, buffer, size);
    return waiting_request_read(copy, size, &q);
}

static void questions_without_a_body(void **unused) {
    static const uint32_t kinds[] = {WAITING_PING, WAITING_STATUS};
    for (uint32_t i = 0; i < 2; i++) {
        begin(kinds[i], 1);
        assert_true(read_it());
        assert_int_equal(q.kind, kinds[i]);
        begin(kinds[i], 5);
        msgpack_write_array(&w, 0);
        assert_true(read_it());
        begin(kinds[i], 5);
        msgpack_write_nil(&w);
        assert_true(read_it());
        begin(kinds[i], 5);
        msgpack_write_array(&w, 1);
        msgpack_write_uint(&w, 1);
        assert_false(read_it());
    }
}

static void adoption(void **unused) {
    begin(WAITING_ADOPT, 5);
    msgpack_write_array(&w, 2);
    msgpack_write_bin(&w, "document", 8);
    msgpack_write_uint(&w, 3);
    assert_true(read_it());
    assert_int_equal(q.kind, WAITING_ADOPT);
    assert_int_equal(q.node, 3);
    assert_memory_equal(q.bytes.data, "document", 8);
}

static void seeds(void **unused) {
    begin(WAITING_SEED_READ, 5);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, 5);
    msgpack_write_uint(&w, 1ULL << 40);
    assert_true(read_it());
    assert_true(q.shard == 5 && q.offset == 1ULL << 40);
    begin(WAITING_SEED_WRITE, 5);
    msgpack_write_array(&w, 4);
    msgpack_write_uint(&w, 5);
    msgpack_write_uint(&w, 7);
    msgpack_write_uint(&w, 10);
    msgpack_write_bin(&w, "abc", 3);
    assert_true(read_it());
    assert_true(q.shard == 5 && q.offset == 7 && q.total == 10 && q.bytes.size == 3);
}

/* Clients that think that it serves are told, whatever they ask for. */
static void commands_of_clients_are_known_to_be_others(void **unused) {
    begin(1, 5);
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, 1);
    msgpack_write_text(&w, "KRW");
    assert_true(read_it());
    assert_int_equal(q.kind, 0);
}

static void what_is_malformed_is_refused(void **unused) {
    begin(WAITING_SEED_WRITE, 5);
    msgpack_write_array(&w, 4);
    msgpack_write_uint(&w, 5);
    msgpack_write_uint(&w, 7);
    msgpack_write_uint(&w, 10);
    msgpack_write_bin(&w, "abc", 3);
    size_t size = msgpack_writer_size(&w);
    for (size_t cut = 0; cut < size; cut++)
        assert_false(waiting_request_read(buffer, cut, &q));
    buffer[size] = 0;
    assert_false(waiting_request_read(buffer, size + 1, &q));
    buffer[1] = 2; /* the version */
    assert_false(waiting_request_read(buffer, size, &q));
}

static void several_commands_are_no_question_but_no_fault_either(void **unused) {
    begin(WAITING_PING, 1);
    assert_false(waiting_request_is_batch(buffer, msgpack_writer_size(&w)));
    msgpack_writer_init(&w, buffer, sizeof buffer);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, 1);
    msgpack_write_nil(&w);
    msgpack_write_array(&w, 2);
    for (uint32_t i = 0; i < 2; i++) {
        msgpack_write_array(&w, 1);
        msgpack_write_uint(&w, WAITING_PING);
    }
    assert_false(read_it());
    assert_true(waiting_request_is_batch(buffer, msgpack_writer_size(&w)));
    assert_false(waiting_request_is_batch(buffer, 3));
}

static void replies_have_the_form_of_the_protocol(void **unused) {
    msgpack_writer_init(&w, buffer, sizeof buffer);
    waiting_reply_done(&w);
    msgpack_write_nil(&w);
    assert_memory_equal(buffer, "\x93\x01\x00\x91\x96\x00\x00\x00\x00\x00\xc0", 11);
    msgpack_writer_init(&w, buffer, sizeof buffer);
    waiting_reply_refused(&w, 9, "no");
    assert_memory_equal(buffer, "\x93\x01\x00\x91\x97\x09\x00\x00\x00\x00\xa2no\x00", 14);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(questions_without_a_body),
        cmocka_unit_test(adoption),
        cmocka_unit_test(several_commands_are_no_question_but_no_fault_either),
        cmocka_unit_test(seeds),
        cmocka_unit_test(commands_of_clients_are_known_to_be_others),
        cmocka_unit_test(what_is_malformed_is_refused),
        cmocka_unit_test(replies_have_the_form_of_the_protocol),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
