/* What a follower lacks is read from the log and sent: all of it, in order, in messages that follow
 * each other; no more than may be; nothing any more once its shard is forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/peers/catch_up.h"

enum { PAYLOAD_BYTES = 100000, PATIENCE_MS = 60000 };

static char error[256];
static atomic_ullong got_upto, got_messages, reads, gaps, too_long;
static atomic_bool losing, broken;
static atomic_ullong replaced_from, replaced_at_read; /* a newer leader's entries, of term 7 */

static int fake_read(struct storage *s, uint64_t first, uint64_t last,
                     bool (*visit)(void *arg, const struct record_header *record,
                                   const void *payload),
                     void *arg, char *text, size_t text_bytes) {
    static const uint8_t payload[PAYLOAD_BYTES];
    uint64_t number = atomic_fetch_add(&reads, 1) + 1;
    if (atomic_load(&broken)) {
        snprintf(text, text_bytes, "entry %llu is damaged", (unsigned long long)first);
        return -1;
    }
    for (uint64_t i = first; i <= last; i++) {
        bool replaced = number >= atomic_load(&replaced_at_read) &&
                        i >= atomic_load(&replaced_from) && atomic_load(&replaced_from) > 0;
        const struct record_header header = {.index = i, .term = replaced ? 7 : i / 10 + 1,
                                             .type = RECORD_EVENTS,
                                             .payload_bytes = PAYLOAD_BYTES};
        if (!visit(arg, &header, payload)) return 1;
    }
    return 0;
}

static const struct storage_ops fake_ops = {.read = fake_read};
static struct storage fake = {.ops = &fake_ops};

static bool take(void *arg, uint32_t shard, const struct consensus_message *m) {
    uint64_t bytes = 0;
    if (atomic_load(&losing)) return false;
    if (m->previous_index != atomic_load(&got_upto)) atomic_fetch_add(&gaps, 1);
    if (m->previous_index > 0 && m->previous_term != m->previous_index / 10 + 1)
        atomic_fetch_add(&gaps, 1);
    for (uint32_t i = 0; i < m->records_count; i++) {
        if (m->records[i]->header.index != m->previous_index + 1 + i) atomic_fetch_add(&gaps, 1);
        bytes += m->records[i]->header.payload_bytes;
    }
    if (bytes > CONSENSUS_MESSAGE_BYTES_MAX) atomic_fetch_add(&too_long, 1);
    atomic_store(&got_upto, m->previous_index + m->records_count);
    atomic_fetch_add(&got_messages, 1);
    return true;
}

static struct catch_up *start(uint64_t bytes_per_second) {
    const struct catch_up_options options = {.bytes_per_second = bytes_per_second, .send = take};
    atomic_store(&got_upto, 0);
    atomic_store(&got_messages, 0);
    atomic_store(&gaps, 0);
    atomic_store(&reads, 0);
    struct catch_up *c = catch_up_start(&options, error, sizeof error);
    assert_non_null(c);
    return c;
}

static enum catch_up_answer ask_of(struct catch_up *c, uint64_t to, uint64_t previous,
                                   uint32_t count, uint64_t commit) {
    const struct consensus_message m = {.kind = CONSENSUS_APPEND, .from = 1, .to = to, .term = 99,
                                        .previous_index = previous,
                                        .previous_term = previous / 10 + 1,
                                        .commit_index = commit, .records_count = count};
    return catch_up_offer(c, 3, &fake, &m);
}

static enum catch_up_answer ask(struct catch_up *c, uint64_t to, uint64_t previous,
                                uint32_t count) {
    return ask_of(c, to, previous, count, 1000);
}

static void await(const atomic_ullong *value, uint64_t wanted) {
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(value) < wanted && clock_mono_ms() < until) usleep(500);
    assert_true(atomic_load(value) >= wanted);
}

static void everything_comes_in_order(void **state) {
    struct catch_up *c = start(0);
    struct catch_up_stats stats;
    assert_true(ask(c, 2, 0, 95));
    await(&got_upto, 95);
    catch_up_forget(c, 3); /* the last message is counted */
    catch_up_stats(c, &stats);
    assert_int_equal(atomic_load(&gaps), 0);
    assert_int_equal(atomic_load(&too_long), 0);
    assert_int_equal(stats.entries, 95);
    assert_int_equal(stats.messages, 10); /* ten records fit a message */
    assert_int_equal(stats.bytes, 95 * PAYLOAD_BYTES);
    assert_false(catch_up_is_busy(c));
    catch_up_stop(c);
}

static void a_lost_message_ends_it_until_it_is_asked_for_again(void **state) {
    struct catch_up *c = start(0);
    atomic_store(&losing, true);
    assert_true(ask(c, 2, 0, 50));
    await(&reads, 1);
    catch_up_forget(c, 4); /* of another shard: nothing to wait for */
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (catch_up_is_busy(c) && clock_mono_ms() < until) usleep(500);
    assert_int_equal(atomic_load(&reads), 1);
    atomic_store(&losing, false);
    assert_true(ask(c, 2, 0, 50));
    await(&got_upto, 50);
    assert_int_equal(atomic_load(&gaps), 0);
    catch_up_stop(c);
}

static void idle(struct catch_up *c) {
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (catch_up_is_busy(c) && clock_mono_ms() < until) usleep(500);
    assert_false(catch_up_is_busy(c));
}

/* The leader asks for more behind the end, and with each answer anew from what was answered: both
 * make it longer, and nothing goes out twice. */
static void what_is_on_its_way_is_not_sent_again(void **state) {
    struct catch_up *c = start(0);
    struct catch_up_stats stats;
    assert_true(ask(c, 2, 0, 25));
    assert_true(ask(c, 2, 25, 25)); /* right behind */
    await(&got_upto, 50);
    assert_true(ask(c, 2, 20, 70)); /* 20 have been answered, 30 are on their way */
    await(&got_upto, 90);
    catch_up_forget(c, 4);          /* of another shard: nothing to wait for */
    idle(c);                        /* a message counts as sent when its sending has returned */
    assert_int_equal(ask(c, 2, 40, 50), CATCH_UP_SENT); /* all of it is */
    catch_up_stats(c, &stats);
    assert_int_equal(stats.entries, 90);
    assert_int_equal(atomic_load(&gaps), 0);
    catch_up_stop(c);
}

/* What the leader goes on asking for without having heard of it was lost. */
static void what_is_not_answered_is_sent_again(void **state) {
    struct catch_up *c = start(0);
    assert_true(ask(c, 2, 0, 30));
    await(&got_upto, 30);
    idle(c);
    uint64_t messages = atomic_load(&got_messages);
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&got_messages) == messages && clock_mono_ms() < until) {
        assert_true(ask(c, 2, 10, 20));
        usleep(20000);
    }
    await(&got_messages, messages + 2);
    assert_int_equal(atomic_load(&gaps), 1); /* 10 behind 30 */
    assert_int_equal(atomic_load(&got_upto), 30);
    /* A follower that has less than it had: at once. */
    assert_true(ask(c, 2, 5, 10));
    await(&got_messages, messages + 3);
    catch_up_stop(c);
}

static void who_lags_is_counted_once(void **state) {
    struct catch_up *c = start(1); /* the first message, and then nothing for long */
    assert_int_equal(catch_up_nodes(c), 0);
    assert_true(ask(c, 2, 0, 50));
    await(&got_messages, 1);
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (catch_up_nodes(c) != 1 && clock_mono_ms() < until) usleep(500);
    const struct consensus_message m = {.kind = CONSENSUS_APPEND, .from = 1, .to = 2, .term = 99,
                                        .commit_index = 1000, .records_count = 5};
    assert_true(catch_up_offer(c, 4, &fake, &m)); /* the same node, another shard */
    assert_true(ask(c, 5, 0, 50));
    assert_int_equal(catch_up_nodes(c), 2);
    catch_up_stop(c);
}

static void a_log_that_cannot_be_read_is_counted(void **state) {
    struct catch_up *c = start(0);
    struct catch_up_stats stats;
    atomic_store(&broken, true);
    assert_true(ask(c, 2, 0, 50));
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    do {
        usleep(500);
        catch_up_stats(c, &stats);
    } while (stats.failed == 0 && clock_mono_ms() < until);
    atomic_store(&broken, false);
    assert_int_equal(stats.failed, 1);
    assert_int_equal(atomic_load(&got_messages), 0);
    catch_up_stop(c);
}

/* A newer leader has put another record at previous_index, or does while its successors are read:
 * those have a predecessor that the follower must not be told of. */
static void what_was_replaced_meanwhile_is_not_sent(void **state) {
    struct catch_up *c = start(0);
    atomic_store(&replaced_from, 62); /* the message says that 62 is of term 7: 62 / 10 + 1 */
    atomic_store(&got_upto, 61);
    assert_true(ask_of(c, 2, 61, 5, 50)); /* 61 is as it was: what follows it is in order */
    await(&got_upto, 66);
    idle(c);
    atomic_store(&replaced_from, 41);
    assert_true(ask_of(c, 2, 45, 5, 40)); /* 45 is of term 7 now, not of term 5 */
    idle(c);
    assert_int_equal(atomic_load(&got_messages), 1);
    atomic_store(&replaced_at_read, atomic_load(&reads) + 2); /* after the first look */
    assert_true(ask_of(c, 2, 40, 5, 40)); /* what is committed needs no look, what follows does */
    idle(c);
    assert_int_equal(atomic_load(&got_messages), 1);
    atomic_store(&got_upto, 30);
    atomic_store(&replaced_at_read, 0);
    assert_true(ask_of(c, 2, 30, 5, 40)); /* committed */
    await(&got_upto, 35);
    assert_int_equal(atomic_load(&gaps), 0);
    atomic_store(&replaced_from, 0);
    catch_up_stop(c);
}

/* A bound that one message uses up for minutes: the second one waits, and a forgotten one never
 * comes. */
static void the_bound_holds_and_a_shard_is_forgotten(void **state) {
    struct catch_up *c = start(64 << 10);
    assert_true(ask(c, 2, 0, 50));
    await(&got_messages, 1);
    assert_true(catch_up_is_busy(c));
    usleep(20000);
    assert_int_equal(atomic_load(&got_messages), 1);
    catch_up_forget(c, 3);
    struct catch_up_stats stats;
    catch_up_stats(c, &stats);
    assert_int_equal(stats.waiting, 0);
    for (uint64_t to = 10; to < 10 + CATCH_UP_JOBS_MAX; to++) assert_true(ask(c, to, 0, 1));
    assert_int_equal(ask(c, 9, 0, 1), CATCH_UP_FULL);
    assert_true(ask(c, 10, 5, 1)); /* the newer one takes the older one's place */
    catch_up_stop(c); /* at once */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_comes_in_order),
        cmocka_unit_test(a_lost_message_ends_it_until_it_is_asked_for_again),
        cmocka_unit_test(what_is_on_its_way_is_not_sent_again),
        cmocka_unit_test(what_is_not_answered_is_sent_again),
        cmocka_unit_test(who_lags_is_counted_once),
        cmocka_unit_test(a_log_that_cannot_be_read_is_counted),
        cmocka_unit_test(what_was_replaced_meanwhile_is_not_sent),
        cmocka_unit_test(the_bound_holds_and_a_shard_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
