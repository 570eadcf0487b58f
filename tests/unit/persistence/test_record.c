#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "persistence/record.h"

static struct record *sealed(uint64_t index, uint32_t payload_bytes) {
    struct record *r = record_new(payload_bytes);
    assert_non_null(r);
    r->header.index = index;
    r->header.term = 3;
    r->header.type = RECORD_EVENTS;
    r->header.payload_bytes = payload_bytes;
    for (uint32_t i = 0; i < payload_bytes; i++) r->payload[i] = (uint8_t)(i * 7 + 1);
    record_seal(&r->header, r->payload);
    return r;
}

static size_t whole_bytes(const struct record *r) {
    return sizeof r->header + r->header.payload_bytes;
}

static void new_record_is_empty_and_held_once(void **state) {
    struct record *r = record_new(100);
    assert_int_equal(r->capacity, 100);
    assert_int_equal(atomic_load(&r->refs), 1);
    assert_null(r->next);
    assert_int_equal(r->header.format, RECORD_FORMAT);
    assert_int_equal((uintptr_t)r->payload % 8, 0);
    record_hold(r);
    record_release(r);
    assert_int_equal(atomic_load(&r->refs), 1);
    record_release(r);
}

static void sealed_record_has_no_fault(void **state) {
    uint32_t sizes[] = {0, 1, 16, 240, 241, 4096, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct record *r = sealed(42, sizes[i]);
        assert_null(record_fault(&r->header, whole_bytes(r), 42));
        record_release(r);
    }
}

/* The log reads records where header and payload lie in one piece; a sender may hold them apart. */
static void checksum_does_not_depend_on_where_the_payload_lies(void **state) {
    struct record *r = sealed(42, 1000);
    uint8_t apart[1000];
    memcpy(apart, r->payload, sizeof apart);
    struct record_header header = r->header;
    header.checksum = 0;
    record_seal(&header, apart);
    assert_true(header.checksum == r->header.checksum);
    record_release(r);
}

static void every_flipped_byte_is_found(void **state) {
    struct record *r = sealed(42, 300);
    uint8_t *bytes = (uint8_t *)&r->header;
    for (size_t i = 0; i < whole_bytes(r); i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            assert_non_null(record_fault(bytes, 332, 42));
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_null(record_fault(bytes, 332, 42));
    record_release(r);
}

static void every_cut_is_found(void **state) {
    struct record *r = sealed(42, 300);
    for (size_t bytes = 0; bytes < whole_bytes(r); bytes++) {
        const char *fault = record_fault(&r->header, bytes, 42);
        assert_non_null(fault);
        assert_non_null(strstr(fault, "cut short"));
    }
    record_release(r);
}

static void faults_are_told_apart(void **state) {
    struct record *r = sealed(42, 64);
    assert_string_equal(record_fault(&r->header, whole_bytes(r), 43),
                        "holds another index than the one it is stored at");
    r->header.payload_bytes = 56;
    assert_string_equal(record_fault(&r->header, 32 + 64, 42), "longer than its header says");
    r->header.payload_bytes = 64;
    r->payload[5] ^= 1;
    assert_string_equal(record_fault(&r->header, 32 + 64, 42), "checksum does not match");
    r->payload[5] ^= 1;
    r->header.format = 2;
    record_seal(&r->header, r->payload);
    assert_string_equal(record_fault(&r->header, 32 + 64, 42),
                        "of a format that this version does not know");
    r->header.format = RECORD_FORMAT;
    r->header.type = 9;
    record_seal(&r->header, r->payload);
    assert_string_equal(record_fault(&r->header, 32 + 64, 42),
                        "of a type that this version does not know");
    record_release(r);
}

/* What was once written stays readable. */
static void format_is_frozen(void **state) {
    static const uint8_t bytes[] = {
        0xea, 0x92, 0xd5, 0xd2, 0xbc, 0xbc, 0x31, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x48, 0x00, 0x00, 0x00, 0x01, 0x00,
        0x01, 0x00, 0x00, 0xd6, 0x6d, 0x79, 0x9b, 0x01, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01,
        0x00, 0x00, 0x00, 0x38, 0x00, 0x00, 0x00, 0x05, 0x01, 0x04, 0x00, 0x04, 0x00, 0x00, 0x00,
        0x04, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x9b, 0x76,
        0xda, 0x7c, 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xc1, 0xc1,
        0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1};
    struct record_header header;
    struct entry_header entry;
    assert_null(record_fault(bytes, sizeof bytes, 1));
    memcpy(&header, bytes, sizeof header);
    memcpy(&entry, bytes + sizeof header, sizeof entry);
    assert_true(header.index == 1 && header.term == 2 && header.payload_bytes == 72);
    assert_int_equal(header.type, RECORD_EVENTS);
    assert_int_equal(header.format, 1);
    assert_true(entry.time_ms == 1767268800000);
    assert_true(entry.shard == 1 && entry.events_count == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(new_record_is_empty_and_held_once),
        cmocka_unit_test(sealed_record_has_no_fault),
        cmocka_unit_test(checksum_does_not_depend_on_where_the_payload_lies),
        cmocka_unit_test(every_flipped_byte_is_found),
        cmocka_unit_test(every_cut_is_found),
        cmocka_unit_test(faults_are_told_apart),
        cmocka_unit_test(format_is_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
