/* Questions that cannot be answered: a fault of one query is that query's alone. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/wire/msgpack_writer.h"
#include "engine/wire/protocol.h"
#include "engine/wire/query_decode.h"

/* A board and counters with this state among others. */
static void ask(uint64_t state, struct wire_arena *arena, struct query_request *request) {
    static uint8_t bytes[256];
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes, sizeof bytes);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, PROTOCOL_VERSION);
    msgpack_write_nil(&w);
    msgpack_write_array(&w, 2);
    msgpack_write_array(&w, 3);
    msgpack_write_uint(&w, QUERY_STORE_BOARD);
    msgpack_write_text(&w, "store-1");
    msgpack_write_array(&w, 2);
    msgpack_write_uint(&w, 2);
    msgpack_write_uint(&w, state);
    msgpack_write_array(&w, 6);
    msgpack_write_uint(&w, QUERY_COUNTERS);
    msgpack_write_uint(&w, 60000);
    msgpack_write_int(&w, 0);
    msgpack_write_nil(&w);
    msgpack_write_nil(&w);
    msgpack_write_array(&w, 1);
    msgpack_write_uint(&w, state);
    *arena = (struct wire_arena){.chunks = NULL};
    assert_int_equal(query_decode(bytes, msgpack_writer_size(&w), arena, request), RESULT_OK);
    assert_int_equal(request->queries_count, 2);
}

static void a_state_that_there_is_not_is_refused(void **unused) {
    struct wire_arena arena;
    struct query_request request;
    for (uint64_t state = 0; state < 20; state++) {
        bool there = state >= 1 && state <= 11;
        ask(state, &arena, &request);
        for (uint32_t i = 0; i < 2; i++) {
            const struct query *q = &request.queries[i];
            assert_int_equal(q->fault, there ? RESULT_OK : RESULT_NUMBER_OUT_OF_RANGE);
            if (there) assert_true(q->states >> state & 1);
            else assert_non_null(strstr(q->why, "from 1 (awaited) to 11 (expired)"));
        }
        wire_arena_free(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_that_there_is_not_is_refused),
    };
    return cmocka_run_group_tests_name("query_decode", tests, NULL, NULL);
}
