/* How long replies wait for a client that does not read. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/wire/reply_patience.h"

enum { SHARE = 8, PIPE = 77, OTHER = 78, SAME_PLACE = PIPE + REPLY_PEERS };

static struct reply_patience patience;

static int fresh(void **state) {
    patience = (struct reply_patience){.share = SHARE};
    return 0;
}

static void begin(uint32_t pipe, int count, int32_t wait_ms) {
    for (int i = 0; i < count; i++)
        assert_int_equal(reply_patience_begin(&patience, pipe), wait_ms);
}

static void a_share_of_the_replies_waits_long_and_the_rest_briefly(void **state) {
    begin(PIPE, SHARE, REPLY_WAIT_MS);
    begin(PIPE, 3, REPLY_WAIT_SHORT_MS);
    begin(OTHER, 1, REPLY_WAIT_MS); /* of another connection */
    for (int i = 0; i < 4; i++) reply_patience_sent(&patience, PIPE);
    begin(PIPE, 1, REPLY_WAIT_MS);
}

static void one_that_waited_in_vain_makes_its_connection_deaf(void **state) {
    begin(PIPE, SHARE, REPLY_WAIT_MS);
    begin(PIPE, 1, REPLY_WAIT_SHORT_MS);
    reply_patience_over(&patience, PIPE, 0);
    begin(PIPE, 1, 0);
    begin(OTHER, 1, REPLY_WAIT_MS);
    begin(SAME_PLACE, 1, REPLY_WAIT_SHORT_MS); /* shares the count, and is not deaf */
    reply_patience_sent(&patience, SAME_PLACE);
    begin(PIPE, 1, 0);
}

static void a_deaf_one_hears_again_when_it_has_read_most(void **state) {
    begin(PIPE, SHARE, REPLY_WAIT_MS);
    reply_patience_over(&patience, PIPE, 0);
    for (int left = SHARE - 1; left > SHARE / 2 + 1; left--) {
        reply_patience_sent(&patience, PIPE);
        begin(PIPE, 1, 0);
        reply_patience_over(&patience, PIPE, 0); /* it could not leave at once */
    }
    reply_patience_sent(&patience, PIPE);
    begin(PIPE, 1, REPLY_WAIT_MS);
}

static void what_waited_in_vain_is_no_reading(void **state) {
    begin(PIPE, SHARE, REPLY_WAIT_MS);
    for (int i = 0; i < SHARE; i++) reply_patience_over(&patience, PIPE, 0);
    begin(PIPE, 1, 0);
}

static void a_deaf_one_is_closed_once_it_asks_no_more(void **state) {
    const int64_t heard_ns = 5000000000;
    begin(PIPE, 3, REPLY_WAIT_MS);
    reply_patience_heard(&patience, PIPE, heard_ns);
    assert_false(reply_patience_over(&patience, PIPE, heard_ns));
    assert_false(reply_patience_over(&patience, PIPE, heard_ns + REPLY_QUIET_NS - 1));
    assert_true(reply_patience_over(&patience, PIPE, heard_ns + REPLY_QUIET_NS));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_share_of_the_replies_waits_long_and_the_rest_briefly, fresh),
        cmocka_unit_test_setup(one_that_waited_in_vain_makes_its_connection_deaf, fresh),
        cmocka_unit_test_setup(a_deaf_one_hears_again_when_it_has_read_most, fresh),
        cmocka_unit_test_setup(what_waited_in_vain_is_no_reading, fresh),
        cmocka_unit_test_setup(a_deaf_one_is_closed_once_it_asks_no_more, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
