/* The reader and the writer against msgpack-c, the reference: what one writes the other reads, for
 * random trees and for every boundary of every encoding; and the reader against cut bytes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <msgpack.h>

#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"

static uint64_t random_state = 0x9e3779b97f4a7c15ULL;

static uint64_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* A number whose width is spread evenly, so that every encoding comes up. */
static uint64_t random_width(void) { return random_next() >> (random_next() % 64); }

/* -- random trees by msgpack-c, read and skipped by us ----------------------------------------- */

static void pack_random(msgpack_packer *pk, unsigned depth) {
    static char junk[70000];
    size_t size = random_next() % 40 ? random_next() % 300 : random_next() % sizeof junk;
    switch (random_next() % (depth ? 12 : 9)) {
    case 0: msgpack_pack_nil(pk); break;
    case 1: (random_next() & 1) ? msgpack_pack_true(pk) : msgpack_pack_false(pk); break;
    case 2: msgpack_pack_uint64(pk, random_width()); break;
    case 3: msgpack_pack_int64(pk, -(int64_t)(random_width() >> 1)); break;
    case 4: msgpack_pack_double(pk, (double)random_next()); break;
    case 5: msgpack_pack_float(pk, 0.5f); break;
    case 6: msgpack_pack_str(pk, size); msgpack_pack_str_body(pk, junk, size); break;
    case 7: msgpack_pack_bin(pk, size); msgpack_pack_bin_body(pk, junk, size); break;
    case 8: msgpack_pack_ext(pk, size, 7); msgpack_pack_ext_body(pk, junk, size); break;
    case 9: case 10: {
        unsigned n = random_next() % 20;
        msgpack_pack_array(pk, n);
        while (n--) pack_random(pk, depth - 1);
        break;
    }
    default: {
        unsigned n = random_next() % 20;
        msgpack_pack_map(pk, n);
        for (unsigned i = 0; i < 2 * n; i++) pack_random(pk, depth - 1);
    }
    }
}

static void read_same(struct msgpack_reader *r, const msgpack_object *o);

static void read_same_items(struct msgpack_reader *r, const msgpack_object *o) {
    uint32_t n = 0;
    if (o->type == MSGPACK_OBJECT_ARRAY) {
        assert_int_equal(msgpack_peek(r), MSGPACK_TYPE_ARRAY);
        assert_int_equal(msgpack_read_array(r, &n), MSGPACK_OK);
        assert_int_equal(n, o->via.array.size);
        for (uint32_t i = 0; i < n; i++) read_same(r, &o->via.array.ptr[i]);
    } else {
        assert_int_equal(msgpack_peek(r), MSGPACK_TYPE_MAP);
        assert_int_equal(msgpack_read_map(r, &n), MSGPACK_OK);
        assert_int_equal(n, o->via.map.size);
        for (uint32_t i = 0; i < n; i++) {
            read_same(r, &o->via.map.ptr[i].key);
            read_same(r, &o->via.map.ptr[i].val);
        }
    }
}

static void read_same(struct msgpack_reader *r, const msgpack_object *o) {
    bool flag;
    uint64_t u;
    int64_t i;
    double d;
    const void *data;
    uint32_t size;
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: assert_int_equal(msgpack_read_nil(r), MSGPACK_OK); break;
    case MSGPACK_OBJECT_BOOLEAN:
        assert_int_equal(msgpack_read_bool(r, &flag), MSGPACK_OK);
        assert_int_equal(flag, o->via.boolean);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        if (o->via.u64 > INT64_MAX)
            assert_int_equal(msgpack_read_int(r, &i), MSGPACK_OUT_OF_RANGE);
        assert_int_equal(msgpack_read_uint(r, &u), MSGPACK_OK);
        assert_true(u == o->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        assert_int_equal(msgpack_read_uint(r, &u), MSGPACK_OUT_OF_RANGE);
        assert_int_equal(msgpack_read_int(r, &i), MSGPACK_OK);
        assert_true(i == o->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32: case MSGPACK_OBJECT_FLOAT64:
        assert_int_equal(msgpack_read_double(r, &d), MSGPACK_OK);
        assert_true(d == o->via.f64);
        break;
    case MSGPACK_OBJECT_STR:
        assert_int_equal(msgpack_read_str(r, &data, &size), MSGPACK_OK);
        assert_int_equal(size, o->via.str.size);
        assert_memory_equal(data, o->via.str.ptr, size);
        break;
    case MSGPACK_OBJECT_BIN:
        assert_int_equal(msgpack_read_bin(r, &data, &size), MSGPACK_OK);
        assert_int_equal(size, o->via.bin.size);
        assert_memory_equal(data, o->via.bin.ptr, size);
        break;
    case MSGPACK_OBJECT_EXT:
        assert_int_equal(msgpack_peek(r), MSGPACK_TYPE_EXT);
        assert_int_equal(msgpack_read_nil(r), MSGPACK_WRONG_TYPE);
        assert_int_equal(msgpack_skip(r), MSGPACK_OK);
        break;
    default: read_same_items(r, o);
    }
}

static void reads_and_skips_what_the_reference_writes(void **state) {
    for (int round = 0; round < 2000; round++) {
        msgpack_sbuffer sb;
        msgpack_sbuffer_init(&sb);
        msgpack_packer pk;
        msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
        pack_random(&pk, 3);
        msgpack_unpacked un;
        msgpack_unpacked_init(&un);
        size_t off = 0;
        assert_int_equal(msgpack_unpack_next(&un, sb.data, sb.size, &off), MSGPACK_UNPACK_SUCCESS);
        struct msgpack_reader r;
        msgpack_reader_init(&r, sb.data, sb.size);
        read_same(&r, &un.data);
        assert_int_equal(msgpack_reader_left(&r), 0);
        msgpack_reader_init(&r, sb.data, sb.size);
        assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
        assert_int_equal(msgpack_reader_left(&r), 0);
        msgpack_reader_init(&r, sb.data, sb.size - 1);
        assert_int_equal(msgpack_skip(&r), MSGPACK_TRUNCATED);
        assert_ptr_equal(r.at, sb.data);
        msgpack_unpacked_destroy(&un);
        msgpack_sbuffer_destroy(&sb);
    }
}

/* -- what we write is what the reference writes, byte by byte ---------------------------------- */

struct pair {
    struct msgpack_writer ours;
    msgpack_sbuffer theirs;
    msgpack_packer pk;
    uint8_t buffer[200000];
};

static void pair_begin(struct pair *p) {
    msgpack_writer_init(&p->ours, p->buffer, sizeof p->buffer);
    msgpack_sbuffer_init(&p->theirs);
    msgpack_packer_init(&p->pk, &p->theirs, msgpack_sbuffer_write);
}

static void pair_end(struct pair *p) {
    assert_true(msgpack_writer_ok(&p->ours));
    assert_int_equal(msgpack_writer_size(&p->ours), p->theirs.size);
    assert_memory_equal(p->buffer, p->theirs.data, p->theirs.size);
    msgpack_sbuffer_destroy(&p->theirs);
}

static void writes_integers_as_the_reference_does(void **state) {
    static struct pair p;
    for (int shift = 0; shift < 64; shift++) {
        for (int64_t delta = -2; delta <= 2; delta++) {
            uint64_t u = (1ULL << shift) + (uint64_t)delta;
            pair_begin(&p);
            msgpack_write_uint(&p.ours, u);
            msgpack_pack_uint64(&p.pk, u);
            msgpack_write_int(&p.ours, (int64_t)u);
            msgpack_pack_int64(&p.pk, (int64_t)u);
            msgpack_write_int(&p.ours, (int64_t)(0 - u));
            msgpack_pack_int64(&p.pk, (int64_t)(0 - u));
            pair_end(&p);
        }
    }
}

static void writes_sizes_as_the_reference_does(void **state) {
    static struct pair p;
    static const char text[66000];
    static const uint32_t sizes[] = {0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t n = sizes[i];
        pair_begin(&p);
        msgpack_write_str(&p.ours, text, n);
        msgpack_pack_str(&p.pk, n);
        msgpack_pack_str_body(&p.pk, text, n);
        msgpack_write_bin(&p.ours, text, n);
        msgpack_pack_bin(&p.pk, n);
        msgpack_pack_bin_body(&p.pk, text, n);
        msgpack_write_array(&p.ours, n);
        msgpack_pack_array(&p.pk, n);
        msgpack_write_map(&p.ours, n);
        msgpack_pack_map(&p.pk, n);
        pair_end(&p);
    }
}

static void writes_the_rest_as_the_reference_does(void **state) {
    static struct pair p;
    pair_begin(&p);
    msgpack_write_nil(&p.ours);
    msgpack_pack_nil(&p.pk);
    msgpack_write_bool(&p.ours, true);
    msgpack_pack_true(&p.pk);
    msgpack_write_bool(&p.ours, false);
    msgpack_pack_false(&p.pk);
    msgpack_write_double(&p.ours, -1.25e300);
    msgpack_pack_double(&p.pk, -1.25e300);
    msgpack_write_text(&p.ours, "주문");
    msgpack_pack_str_with_body(&p.pk, "주문", strlen("주문"));
    pair_end(&p);
}

static void an_overflow_stays_and_never_writes_past_the_end(void **state) {
    uint8_t whole[64];
    struct msgpack_writer w;
    msgpack_writer_init(&w, whole, sizeof whole);
    msgpack_write_array(&w, 3);
    msgpack_write_int(&w, INT64_MIN);
    msgpack_write_str(&w, "thirty-two bytes of text, or more", 33);
    msgpack_write_bin(&w, "bin", 3);
    assert_true(msgpack_writer_ok(&w));
    size_t size = msgpack_writer_size(&w);
    for (size_t room = 0; room < size; room++) {
        uint8_t part[64];
        memset(part, 0xee, sizeof part);
        msgpack_writer_init(&w, part, room);
        msgpack_write_array(&w, 3);
        msgpack_write_int(&w, INT64_MIN);
        msgpack_write_str(&w, "thirty-two bytes of text, or more", 33);
        msgpack_write_bin(&w, "bin", 3);
        assert_false(msgpack_writer_ok(&w));
        assert_true(msgpack_writer_size(&w) <= room);
        for (size_t i = room; i < sizeof part; i++) assert_int_equal(part[i], 0xee);
    }
    msgpack_writer_rewind(&w, 0);
    assert_true(msgpack_writer_ok(&w));
    assert_int_equal(msgpack_writer_size(&w), 0);
}

/* -- the reader against what is wrong ---------------------------------------------------------- */

static struct msgpack_reader over(const void *data, size_t size) {
    struct msgpack_reader r;
    msgpack_reader_init(&r, data, size);
    return r;
}

static void every_read_refuses_other_types_and_stays(void **state) {
    static const uint8_t values[][2] = {{0xc0, 0}, {0xc2, 0}, {0x01, 0}, {0xa0, 0}, {0x90, 0},
                                        {0x80, 0}, {0xc4, 0}};
    static const enum msgpack_type types[] = {MSGPACK_TYPE_NIL, MSGPACK_TYPE_BOOL,
        MSGPACK_TYPE_INT, MSGPACK_TYPE_STR, MSGPACK_TYPE_ARRAY, MSGPACK_TYPE_MAP, MSGPACK_TYPE_BIN};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct msgpack_reader r = over(values[i], 2);
        assert_int_equal(msgpack_peek(&r), types[i]);
        bool b; uint64_t u = 0; int64_t n; double d; const void *p; uint32_t c;
        struct { enum msgpack_type type; enum msgpack_status status; bool moved; } tries[7];
#define TRY(k, t, call) \
    r = over(values[i], 2); tries[k].type = t; tries[k].status = (call); \
    tries[k].moved = r.at != values[i];
        TRY(0, MSGPACK_TYPE_NIL, msgpack_read_nil(&r))
        TRY(1, MSGPACK_TYPE_BOOL, msgpack_read_bool(&r, &b))
        TRY(2, MSGPACK_TYPE_INT, msgpack_read_int(&r, &n))
        TRY(3, MSGPACK_TYPE_STR, msgpack_read_str(&r, &p, &c))
        TRY(4, MSGPACK_TYPE_ARRAY, msgpack_read_array(&r, &c))
        TRY(5, MSGPACK_TYPE_MAP, msgpack_read_map(&r, &c))
        TRY(6, MSGPACK_TYPE_BIN, msgpack_read_bin(&r, &p, &c))
#undef TRY
        for (int k = 0; k < 7; k++) {
            bool right = tries[k].type == types[i];
            assert_int_equal(tries[k].status, right ? MSGPACK_OK : MSGPACK_WRONG_TYPE);
            assert_int_equal(tries[k].moved, right);
        }
        r = over(values[i], 2);
        assert_int_equal(msgpack_read_double(&r, &d), MSGPACK_WRONG_TYPE);
        assert_int_equal(msgpack_read_uint_upto(&r, 0, &u),
                         types[i] == MSGPACK_TYPE_INT ? MSGPACK_OUT_OF_RANGE : MSGPACK_WRONG_TYPE);
        assert_ptr_equal(r.at, values[i]);
    }
}

static void no_bytes_and_0xc1_are_named(void **state) {
    struct msgpack_reader r = over("\xc1", 1);
    uint64_t u; uint32_t c; const void *p;
    assert_int_equal(msgpack_peek(&r), MSGPACK_TYPE_INVALID);
    assert_int_equal(msgpack_skip(&r), MSGPACK_INVALID);
    assert_int_equal(msgpack_read_uint(&r, &u), MSGPACK_INVALID);
    assert_int_equal(msgpack_read_str(&r, &p, &c), MSGPACK_INVALID);
    r = over("", 0);
    assert_int_equal(msgpack_peek(&r), MSGPACK_TYPE_END);
    assert_int_equal(msgpack_skip(&r), MSGPACK_TRUNCATED);
    assert_int_equal(msgpack_read_nil(&r), MSGPACK_TRUNCATED);
    assert_int_equal(msgpack_read_array(&r, &c), MSGPACK_TRUNCATED);
    assert_int_equal(msgpack_read_bin(&r, &p, &c), MSGPACK_TRUNCATED);
}

static void a_count_beyond_the_bytes_is_truncated(void **state) {
    static const struct { const char *bytes; size_t size; } cut[] = {
        {"\xdd\xff\xff\xff\xff\x01", 6}, {"\xdf\xff\xff\xff\xff\x01", 6}, {"\x92\x01", 2},
        {"\x81\x01", 2},                 {"\xdb\xff\xff\xff\xff" "a", 6},
        {"\xc6\xff\xff\xff\xff", 5},
        {"\xa2" "a", 2},                 {"\xc9\xff\xff\xff\xff\x01", 6}, {"\xdc\x00", 2},
        {"\xcf\x01\x02\x03\x04\x05\x06\x07", 8}, {"\xcb\x01", 2}, {"\xd8\x01", 2}};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++) {
        struct msgpack_reader r = over(cut[i].bytes, cut[i].size);
        assert_int_equal(msgpack_skip(&r), MSGPACK_TRUNCATED);
        assert_ptr_equal(r.at, cut[i].bytes);
        uint64_t u; uint32_t c; const void *p; double d;
        assert_int_not_equal(msgpack_read_uint(&r, &u), MSGPACK_OK);
        assert_int_not_equal(msgpack_read_array(&r, &c), MSGPACK_OK);
        assert_int_not_equal(msgpack_read_map(&r, &c), MSGPACK_OK);
        assert_int_not_equal(msgpack_read_str(&r, &p, &c), MSGPACK_OK);
        assert_int_not_equal(msgpack_read_bin(&r, &p, &c), MSGPACK_OK);
        assert_int_not_equal(msgpack_read_double(&r, &d), MSGPACK_OK);
        assert_ptr_equal(r.at, cut[i].bytes);
    }
}

static void skipping_goes_32_deep_and_not_deeper(void **state) {
    uint8_t nest[100];
    memset(nest, 0x91, sizeof nest);
    nest[32] = 0xc0;
    struct msgpack_reader r = over(nest, 33);
    assert_int_equal(msgpack_skip(&r), MSGPACK_OK);
    assert_int_equal(msgpack_reader_left(&r), 0);
    nest[32] = 0x91;
    nest[33] = 0xc0;
    r = over(nest, 34);
    assert_int_equal(msgpack_skip(&r), MSGPACK_TOO_DEEP);
    memset(nest, 0x91, sizeof nest);
    nest[32] = 0x90;
    r = over(nest, 33);
    assert_int_equal(msgpack_skip(&r), MSGPACK_TOO_DEEP);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_skips_what_the_reference_writes),
        cmocka_unit_test(writes_integers_as_the_reference_does),
        cmocka_unit_test(writes_sizes_as_the_reference_does),
        cmocka_unit_test(writes_the_rest_as_the_reference_does),
        cmocka_unit_test(an_overflow_stays_and_never_writes_past_the_end),
        cmocka_unit_test(every_read_refuses_other_types_and_stays),
        cmocka_unit_test(no_bytes_and_0xc1_are_named),
        cmocka_unit_test(a_count_beyond_the_bytes_is_truncated),
        cmocka_unit_test(skipping_goes_32_deep_and_not_deeper),
    };
    return cmocka_run_group_tests_name("msgpack", tests, NULL, NULL);
}
