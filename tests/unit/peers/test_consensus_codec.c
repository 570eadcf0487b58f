/* Messages between replicas: what is written is read, and what is not whole is refused. */
/* clang-format off: cmocka.h needs the others before it */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdlib.h>
#include <xxhash.h>

#include "engine/peers/consensus_codec.h"

static uint8_t bytes[8u << 20];

static size_t encode(const struct consensus_message *m, uint32_t shard) {
    struct msgpack_writer w;
    size_t most = consensus_codec_bytes_max(m);
    assert_true(most <= sizeof bytes);
    msgpack_writer_init(&w, bytes, most);
    consensus_codec_write(&w, shard, m);
    assert_true(msgpack_writer_ok(&w));
    return msgpack_writer_size(&w);
}

static struct consensus_message *decode(size_t size, uint32_t *shard) {
    /* A block of its own, so that a read behind the end is seen. */
    uint8_t *copy = malloc(size);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    struct consensus_message *m = consensus_codec_read(bytes_of(copy, size), shard);
    free(copy);
    return m;
}

static struct record *make(uint16_t type, uint64_t term, uint32_t payload_bytes) {
    struct record *r = record_new(payload_bytes);
    assert_non_null(r);
    r->header.type = type;
    r->header.term = term;
    r->header.payload_bytes = payload_bytes;
    memset(r->payload, (int)(payload_bytes & 0xff), payload_bytes);
    return r;
}

/* Each field another value, and the largest that it can have. */
static struct consensus_message full(uint8_t kind) {
    return (struct consensus_message){.kind = kind,
                                      .version = UINT8_MAX,
                                      .features = UINT16_MAX,
                                      .capacity = UINT16_MAX - 1,
                                      .granted = true,
                                      .disrupt_leader = true,
                                      .from = UINT64_MAX,
                                      .to = UINT64_MAX - 1,
                                      .term = UINT64_MAX - 2,
                                      .last_index = UINT64_MAX - 3,
                                      .last_term = UINT64_MAX - 4,
                                      .rejected = UINT64_MAX - 5,
                                      .configuration_index = UINT64_MAX - 6,
                                      .previous_index = UINT64_MAX - 2000,
                                      .previous_term = UINT64_MAX - 8,
                                      .commit_index = UINT64_MAX - 9};
}

static void assert_fields(const struct consensus_message *a, const struct consensus_message *b) {
    struct consensus_message left = *a, right = *b;
    left.records = right.records = NULL;
    assert_int_equal(left.kind, right.kind);
    assert_int_equal(left.version, right.version);
    assert_int_equal(left.features, right.features);
    assert_int_equal(left.capacity, right.capacity);
    assert_int_equal(left.granted, right.granted);
    assert_int_equal(left.pre_vote, right.pre_vote);
    assert_int_equal(left.disrupt_leader, right.disrupt_leader);
    assert_memory_equal(&left.from, &right.from, 11 * sizeof(uint64_t));
    assert_int_equal(left.records_count, right.records_count);
}

static void every_field_of_every_kind(void **state) {
    for (uint8_t kind = CONSENSUS_APPEND; kind <= CONSENSUS_PONG; kind++) {
        for (int variant = 0; variant < 3; variant++) {
            struct consensus_message m = full(kind);
            if (variant == 1) {
                m = (struct consensus_message){.kind = kind, .from = 1, .to = 2, .pre_vote = true};
            }
            if (variant == 2) m.pre_vote = !(m.granted = m.disrupt_leader = false);
            uint32_t shard = 0;
            struct consensus_message *back = decode(encode(&m, SHARD_META), &shard);
            assert_non_null(back);
            assert_int_equal(shard, SHARD_META);
            assert_fields(&m, back);
            assert_null(back->records);
            consensus_message_free(back);
        }
    }
}

static void records_come_whole(void **state) {
    struct record *records[] = {make(RECORD_EVENTS, 3, 0), make(RECORD_BARRIER, 4, 8),
                                make(RECORD_CONFIGURATION, 4, 300),
                                make(RECORD_EVENTS, UINT64_MAX, ENTRY_BYTES_MAX)};
    struct consensus_message m = {.kind = CONSENSUS_APPEND, .from = 1, .to = 2, .term = 5,
                                  .previous_index = 41, .previous_term = 2, .commit_index = 40,
                                  .records = records, .records_count = 4};
    uint32_t shard = 0;
    struct consensus_message *back = decode(encode(&m, 3), &shard);
    assert_non_null(back);
    assert_int_equal(shard, 3);
    assert_fields(&m, back);
    for (uint32_t i = 0; i < 4; i++) {
        const struct record *r = back->records[i];
        assert_int_equal(r->header.index, 42 + i);
        assert_int_equal(r->header.term, records[i]->header.term);
        assert_int_equal(r->header.type, records[i]->header.type);
        assert_int_equal(r->header.format, RECORD_FORMAT);
        assert_int_equal(r->header.payload_bytes, records[i]->header.payload_bytes);
        assert_memory_equal(r->payload, records[i]->payload, r->header.payload_bytes);
    }
    consensus_message_free(back);
    for (uint32_t i = 0; i < 4; i++) record_release(records[i]);
}

/* The example of consensus_codec.h. */
static void a_heartbeat_on_the_wire(void **state) {
    static const uint8_t expected[] = {0xdc, 0, 18, 3, 1, 0, 0,  0, 0,  1,    2,
                                       5,    0, 0,  0, 0, 42, 4, 41, 0x90, 0xcf};
    struct consensus_message m = {.kind = CONSENSUS_APPEND, .from = 1, .to = 2, .term = 5,
                                  .previous_index = 42, .previous_term = 4, .commit_index = 41};
    assert_int_equal(encode(&m, 3), sizeof expected + 8);
    assert_memory_equal(bytes, expected, sizeof expected);
}

static void a_message_holds_its_records(void **state) {
    struct record *r = make(RECORD_EVENTS, 1, 8);
    struct consensus_message fields = {.kind = CONSENSUS_APPEND, .from = 1, .to = 2,
                                       .records = &r, .records_count = 1};
    struct consensus_message *m = consensus_message_new(&fields, 1);
    assert_int_equal(atomic_load(&r->refs), 2);
    consensus_message_free(m);
    assert_int_equal(atomic_load(&r->refs), 1);
    record_release(r);
    consensus_message_free(NULL);
}

static void cut_short_or_changed_is_refused(void **state) {
    struct record *records[] = {make(RECORD_EVENTS, 3, 40), make(RECORD_BARRIER, 4, 8)};
    struct consensus_message m = {.kind = CONSENSUS_APPEND, .from = 1, .to = 2, .term = 5,
                                  .records = records, .records_count = 2};
    uint32_t shard = 0;
    size_t size = encode(&m, 3);
    for (size_t cut = 0; cut < size; cut++) assert_null(decode(cut, &shard));
    bytes[size] = 0;
    assert_null(decode(size + 1, &shard)); /* something behind it */
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_null(decode(size, &shard));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    struct consensus_message *back = decode(size, &shard);
    assert_non_null(back);
    consensus_message_free(back);
    for (int i = 0; i < 2; i++) record_release(records[i]);
}

/* 16 fields in front, one of them replaced; the records array, then the right checksum. */
static bool taken(int field, uint64_t value, uint32_t fields_count, uint32_t records_count,
                  uint64_t type, uint32_t payload_bytes) {
    static const uint64_t good[] = {3, CONSENSUS_APPEND, 1, 0, 0, 0, 1, 2, 5, 0, 0, 0, 0, 7, 4, 6};
    static uint8_t payload[ENTRY_BYTES_MAX + 1];
    struct msgpack_writer w;
    uint32_t shard;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_array(&w, fields_count);
    for (int i = 0; i < 16; i++) msgpack_write_uint(&w, i == field ? value : good[i]);
    msgpack_write_array(&w, records_count);
    for (uint32_t i = 0; i < records_count; i++) {
        msgpack_write_array(&w, 3);
        msgpack_write_uint(&w, type);
        msgpack_write_uint(&w, 5);
        msgpack_write_bin(&w, payload, payload_bytes);
    }
    msgpack_write_uint(&w, XXH3_64bits(bytes, msgpack_writer_size(&w)));
    assert_true(msgpack_writer_ok(&w));
    struct consensus_message *m = decode(msgpack_writer_size(&w), &shard);
    consensus_message_free(m);
    return m != NULL;
}

static void limits_hold(void **state) {
    assert_true(taken(-1, 0, 18, 1, RECORD_EVENTS, 4));
    assert_false(taken(-1, 0, 17, 1, RECORD_EVENTS, 4));
    assert_false(taken(-1, 0, 19, 1, RECORD_EVENTS, 4));
    assert_true(taken(0, UINT16_MAX, 18, 0, 0, 0));
    assert_false(taken(0, UINT16_MAX + 1, 18, 0, 0, 0));
    assert_false(taken(1, 0, 18, 0, 0, 0));
    assert_false(taken(1, CONSENSUS_PONG + 1, 18, 0, 0, 0));
    assert_false(taken(1, CONSENSUS_VOTE, 18, 1, RECORD_EVENTS, 4)); /* records of a vote */
    assert_false(taken(2, 256, 18, 0, 0, 0));
    assert_false(taken(3, 65536, 18, 0, 0, 0));
    assert_false(taken(4, 65536, 18, 0, 0, 0));
    assert_true(taken(5, 7, 18, 0, 0, 0));
    assert_false(taken(5, 8, 18, 0, 0, 0));
    assert_false(taken(6, 0, 18, 0, 0, 0));
    assert_false(taken(7, 0, 18, 0, 0, 0));
    assert_false(taken(13, UINT64_MAX, 18, 1, RECORD_EVENTS, 4)); /* the indexes would wrap */
    assert_false(taken(-1, 0, 18, 1, 0, 4));
    assert_false(taken(-1, 0, 18, 1, RECORD_CONFIGURATION + 1, 4));
    assert_true(taken(-1, 0, 18, CONSENSUS_MESSAGE_RECORDS_MAX, RECORD_EVENTS, 4));
    assert_false(taken(-1, 0, 18, CONSENSUS_MESSAGE_RECORDS_MAX + 1, RECORD_EVENTS, 4));
    assert_true(taken(-1, 0, 18, 1, RECORD_EVENTS, ENTRY_BYTES_MAX));
    assert_false(taken(-1, 0, 18, 1, RECORD_EVENTS, ENTRY_BYTES_MAX + 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_of_every_kind),
        cmocka_unit_test(records_come_whole),
        cmocka_unit_test(a_heartbeat_on_the_wire),
        cmocka_unit_test(a_message_holds_its_records),
        cmocka_unit_test(cut_short_or_changed_is_refused),
        cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
