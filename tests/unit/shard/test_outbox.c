/* Messages between two shards over a courier that loses, doubles and reorders: each arrives in the
 * end, and only what is committed is ever sent. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "engine/base/prng.h"
#include "actors/message_event.h"
#include "engine/shard/outbox.h"

enum { SENT_MAX = 4096, WINDOW = 256 };

struct test_courier {
    struct courier courier;
    uint64_t sequences[SENT_MAX];
    uint32_t count;
};

static void courier_send(struct courier *c, uint32_t from, uint32_t to, uint64_t sequence,
                         struct bytes payload) {
    struct test_courier *t = (struct test_courier *)(void *)c;
    assert_int_equal(from, 0);
    assert_int_equal(to, 1);
    assert_int_equal(payload.size, sizeof sequence);
    assert_memory_equal(payload.data, &sequence, sizeof sequence);
    assert_true(t->count < SENT_MAX);
    t->sequences[t->count++] = sequence;
}

static void note(struct outbox *o, uint64_t sequence, uint64_t index) {
    _Alignas(8) uint8_t buffer[256] = {0};
    struct event *e = (struct event *)(void *)buffer;
    struct message_event *m = (struct message_event *)(void *)(e + 1);
    e->kind = EVENT_MESSAGE_SENT;
    e->schema = MESSAGE_EVENT_SCHEMA;
    e->bytes = sizeof *e + sizeof *m + 8;
    *m = (struct message_event){sequence, 1, sizeof sequence};
    memcpy(m + 1, &sequence, sizeof sequence);
    assert_true(message_event_is_well_formed(e));
    assert_true(outbox_note_sent(o, e, index));
}

/* As a checkpoint does that is durable at once. */
static void store_all(struct outbox *o) {
    for (const struct outbox_message *m = outbox_unstored(o, 1); m; m = m->next)
        outbox_store(o, 1, m);
    outbox_let_go(o);
}

/* The storage answers, in any order. */
static void load(struct outbox *o, uint64_t sequence) {
    outbox_loaded(o, 1, sequence, sequence, bytes_of(&sequence, sizeof sequence));
}

static uint64_t ask(struct outbox *o) {
    uint64_t sequence = 0;
    return outbox_ask(o, 1, &sequence) ? sequence : 0;
}

static void test_only_committed_messages_leave(void **state) {
    (void)state;
    struct outbox o;
    struct test_courier t = {.courier = {.send = courier_send}};
    assert_true(outbox_init(&o, 0, 2, WINDOW));
    for (uint64_t n = 1; n <= 3; n++) note(&o, n, 10 + n);
    int64_t next = INT64_MAX;
    assert_int_equal(outbox_send(&o, &t.courier, 10, 1000, 500, &next), 0);
    assert_int_equal(outbox_send(&o, &t.courier, 12, 1000, 500, &next), 2);
    assert_int_equal(t.sequences[0], 1);
    assert_int_equal(t.sequences[1], 2);
    assert_int_equal(next, 1500);
    assert_int_equal(outbox_oldest_index(&o, 1), 11);
    assert_int_equal(outbox_oldest_index(&o, 0), 0);
    outbox_fini(&o);
}

static void test_silence_brings_all_of_them_again(void **state) {
    (void)state;
    struct outbox o;
    struct test_courier t = {.courier = {.send = courier_send}};
    assert_true(outbox_init(&o, 0, 2, WINDOW));
    for (uint64_t n = 1; n <= 5; n++) note(&o, n, n);
    int64_t next = INT64_MAX;
    outbox_send(&o, &t.courier, 5, 1000, 500, &next);
    outbox_acknowledge(&o, 1, 2);
    assert_int_equal(o.messages_waiting, 3);
    next = INT64_MAX;
    assert_int_equal(outbox_send(&o, &t.courier, 5, 1100, 500, &next), 0);
    assert_int_equal(outbox_send(&o, &t.courier, 5, 1599, 500, &next), 0);
    assert_int_equal(outbox_send(&o, &t.courier, 5, 1600, 500, &next), 3);
    assert_int_equal(t.count, 8);
    assert_int_equal(t.sequences[5], 3);
    assert_int_equal(o.resent, 3);
    outbox_acknowledge(&o, 1, 1); /* late and older than what is known: nothing happens */
    assert_int_equal(o.messages_waiting, 3);
    outbox_acknowledge(&o, 1, 5);
    assert_int_equal(o.messages_waiting, 0);
    assert_int_equal(o.unstored, 0);
    assert_int_equal(o.unstored_bytes, 0);
    assert_int_equal(outbox_send(&o, &t.courier, 5, 9999, 500, &next), 0);
    outbox_fini(&o);
}

static void test_a_replay_does_not_double_messages(void **state) {
    (void)state;
    struct outbox o;
    struct test_courier t = {.courier = {.send = courier_send}};
    assert_true(outbox_init(&o, 0, 2, WINDOW));
    o.peers[1].acknowledged = o.peers[1].sent = 2;
    o.peers[1].sequence_last = 4; /* as the cursor says */
    for (uint64_t n = 1; n <= 5; n++) note(&o, n, n);
    note(&o, 5, 5);
    int64_t next = INT64_MAX;
    assert_int_equal(outbox_send(&o, &t.courier, 9, 1, 500, &next), 3);
    assert_int_equal(t.sequences[0], 3);
    assert_int_equal(o.peers[1].sequence_last, 5);
    outbox_fini(&o);
}

static void lossy(uint64_t seed, uint32_t window) {
    struct outbox o;
    struct test_courier t = {.courier = {.send = courier_send}};
    uint64_t seen = 0, noted = 0, commit = 0, asked[64];
    uint32_t loads = 0;
    int64_t now = 1;
    struct prng prng;
    prng_seed(&prng, seed);
    assert_true(outbox_init(&o, 0, 2, window));
    while (seen < 1000) {
        now += 10;
        for (int i = 0; i < 4 && noted < 1000 && prng_chance(&prng, 1, 2); i++) {
            note(&o, noted + 1, noted + 1);
            noted++;
        }
        if (commit < noted && prng_chance(&prng, 1, 2)) commit = noted;
        /* A checkpoint has what is committed. */
        if (commit == noted && prng_chance(&prng, 1, 8)) store_all(&o);
        while (loads < 64 && (asked[loads] = ask(&o)) != 0) loads++;
        while (loads > 0 && prng_chance(&prng, 3, 4)) {
            uint32_t which = prng_chance(&prng, 1, 16) ? loads - 1 : 0;
            load(&o, asked[which]);
            memmove(&asked[which], &asked[which + 1], (--loads - which) * sizeof *asked);
        }
        int64_t next = INT64_MAX;
        t.count = 0;
        outbox_send(&o, &t.courier, commit, now, 50, &next);
        for (uint32_t i = 0; i < t.count; i++) {
            assert_true(t.sequences[i] <= commit);
            if (prng_chance(&prng, 1, 3)) continue; /* lost */
            if (t.sequences[i] == seen + 1) seen++; /* as the receiver does it */
            /* Acknowledgements get lost too. */
            if (prng_chance(&prng, 2, 3)) outbox_acknowledge(&o, 1, seen);
        }
    }
    outbox_acknowledge(&o, 1, seen);
    assert_int_equal(o.messages_waiting, 0);
    assert_int_equal(o.peers[1].acknowledged, 1000);
    assert_int_equal(o.unstored, 0);
    outbox_fini(&o);
}

static void test_a_lossy_courier_delivers_everything_once(void **state) {
    (void)state;
    static const uint32_t windows[] = {1, 2, 5, 16, WINDOW};
    for (uint64_t seed = 1; seed <= 50; seed++) lossy(seed, windows[seed % 5]);
}

/* A start from the state: any order, and then the log behind it says some of them again. */
static void test_stored_messages_come_back_in_order(void **state) {
    (void)state;
    static const uint64_t order[] = {7, 5, 9, 4, 6, 8};
    struct outbox o;
    struct test_courier t = {.courier = {.send = courier_send}};
    int64_t next = INT64_MAX;
    assert_true(outbox_init(&o, 0, 2, WINDOW));
    o.peers[1].acknowledged = o.peers[1].sent = 4;
    for (int i = 0; i < 6; i++) outbox_note_stored(&o, 1, order[i]);
    assert_int_equal(o.peers[1].stored_first, 4); /* it is still to be removed */
    assert_int_equal(o.peers[1].stored_last, 9);
    assert_int_equal(outbox_oldest_index(&o, 1), 0); /* no log is needed for them */
    note(&o, 8, 28);
    note(&o, 9, 29);
    note(&o, 10, 30);
    assert_int_equal(outbox_oldest_index(&o, 1), 30);
    assert_int_equal(o.messages_waiting, 6);
    assert_int_equal(outbox_send(&o, &t.courier, 100, 1000, 500, &next), 0);
    for (uint64_t n = 5; n <= 9; n++) assert_int_equal(ask(&o), n);
    assert_int_equal(ask(&o), 0);
    load(&o, 5);
    load(&o, 7); /* too early: it comes again */
    assert_int_equal(outbox_send(&o, &t.courier, 100, 1000, 500, &next), 1);
    for (uint64_t n = 6; n <= 9; n++)
        if (n != 7) load(&o, n);
    assert_int_equal(outbox_send(&o, &t.courier, 100, 1000, 500, &next), 1);
    for (uint64_t n = 7; n <= 9; n++) assert_int_equal(ask(&o), n);
    for (uint64_t n = 7; n <= 9; n++) load(&o, n);
    assert_int_equal(outbox_send(&o, &t.courier, 100, 1000, 500, &next), 4);
    for (uint32_t i = 0; i < 6; i++) assert_int_equal(t.sequences[i], 5 + i);
    assert_int_equal(o.messages_waiting, 6);
    outbox_acknowledge(&o, 1, 10);
    assert_int_equal(o.messages_waiting, 0);
    outbox_fini(&o);
}

static uint64_t in_memory(const struct outbox *o) {
    return o->peers[1].front.count + o->peers[1].behind.count;
}

static void test_what_is_stored_leaves_memory_but_for_a_window(void **state) {
    (void)state;
    enum { MANY = 1000, FEW = 8 };
    struct outbox o;
    struct test_courier t = {.courier = {.send = courier_send}};
    int64_t next = INT64_MAX;
    assert_true(outbox_init(&o, 0, 2, FEW));
    for (uint64_t n = 1; n <= MANY; n++) note(&o, n, n);
    assert_int_equal(outbox_send(&o, &t.courier, MANY, 1000, 500, &next), FEW);
    assert_int_equal(o.unstored, MANY);
    assert_int_equal(o.unstored_bytes, MANY * sizeof(uint64_t));
    store_all(&o);
    assert_int_equal(o.unstored, 0);
    assert_int_equal(o.unstored_bytes, 0);
    assert_int_equal(o.messages_waiting, MANY);
    assert_int_equal(in_memory(&o), FEW);
    note(&o, MANY + 1, MANY + 1);
    assert_int_equal(in_memory(&o), FEW + 1);
    assert_int_equal(o.messages_waiting, MANY + 1);
    assert_int_equal(outbox_oldest_index(&o, 1), MANY + 1);
    assert_int_equal(ask(&o), 0); /* the window is full */
    outbox_acknowledge(&o, 1, 5);
    assert_int_equal(ask(&o), FEW + 1);
    load(&o, FEW + 1);
    /* One of these was sent by an earlier leader, far behind what is in memory here. */
    assert_int_equal(ask(&o), FEW + 2);
    outbox_acknowledge(&o, 1, 600);
    load(&o, FEW + 2);
    assert_int_equal(in_memory(&o), 1);
    assert_int_equal(o.messages_waiting, MANY + 1 - 600);
    assert_int_equal(ask(&o), 601);
    load(&o, 601);
    assert_int_equal(outbox_send(&o, &t.courier, 2 * MANY, 1000, 500, &next), 1);
    assert_int_equal(t.sequences[t.count - 1], 601);
    store_all(&o);
    assert_int_equal(in_memory(&o), 1);
    outbox_acknowledge(&o, 1, MANY + 1);
    assert_int_equal(o.messages_waiting, 0);
    assert_int_equal(o.peers_away, 0);
    note(&o, MANY + 2, MANY + 2);
    outbox_fini(&o);
}

/* Of many that are away all would be read in vain before those come again that are next. */
static void test_none_is_asked_for_beyond_one_that_is_lost(void **state) {
    (void)state;
    enum { MANY = 1000, FEW = 8, LOADS = 5 };
    struct outbox o;
    assert_true(outbox_init(&o, 0, 2, FEW));
    for (uint64_t n = 1; n <= MANY; n++) note(&o, n, n);
    store_all(&o);
    outbox_acknowledge(&o, 1, FEW);
    for (uint64_t n = 1; n <= LOADS; n++) assert_int_equal(ask(&o), FEW + n);
    load(&o, FEW + 2); /* as without memory for the one before it */
    assert_int_equal(ask(&o), 0);
    load(&o, FEW + 1);
    for (uint64_t n = 3; n <= LOADS; n++) {
        assert_int_equal(ask(&o), 0);
        load(&o, FEW + n);
    }
    assert_int_equal(in_memory(&o), 1);
    assert_int_equal(ask(&o), FEW + 2);
    assert_int_equal(ask(&o), FEW + 3);
    outbox_acknowledge(&o, 1, 600); /* an earlier leader has sent these */
    assert_int_equal(ask(&o), 601);
    load(&o, FEW + 2);
    load(&o, FEW + 3);
    assert_int_equal(ask(&o), 602);
    load(&o, 601);
    load(&o, 602);
    assert_int_equal(in_memory(&o), 2);
    outbox_fini(&o);
}

/* A few large ones are as much as a window too. */
static void test_large_messages_stay_in_memory_by_their_bytes(void **state) {
    (void)state;
    enum { MANY = 10, BYTES = 100 << 10, ROOM = OUTBOX_WINDOW_BYTES / BYTES + 1 };
    static _Alignas(8) uint8_t buffer[BYTES + 256];
    struct event *e = (struct event *)(void *)buffer;
    struct message_event *m = (struct message_event *)(void *)(e + 1);
    struct outbox o;
    assert_true(outbox_init(&o, 0, 2, WINDOW));
    *e = (struct event){.kind = EVENT_MESSAGE_SENT, .schema = MESSAGE_EVENT_SCHEMA,
                        .bytes = sizeof *e + sizeof *m + BYTES};
    for (uint64_t n = 1; n <= MANY; n++) {
        *m = (struct message_event){n, 1, BYTES};
        assert_true(outbox_note_sent(&o, e, n));
    }
    assert_int_equal(o.unstored_bytes, MANY * BYTES);
    store_all(&o);
    assert_int_equal(in_memory(&o), ROOM);
    assert_int_equal(ask(&o), 0);
    outbox_acknowledge(&o, 1, 1);
    assert_int_equal(ask(&o), ROOM + 1);
    outbox_loaded(&o, 1, ROOM + 1, ROOM + 1, bytes_of(m + 1, BYTES));
    assert_int_equal(ask(&o), 0);
    outbox_fini(&o);
}

/* A follower hears of it in the log, before or after it has the messages. */
static void test_acknowledgements_in_the_log_count(void **state) {
    (void)state;
    struct outbox o;
    assert_true(outbox_init(&o, 0, 2, WINDOW));
    for (uint64_t n = 1; n <= 5; n++) note(&o, n, 10 + n);
    outbox_note_acknowledged(&o, 1, 3);
    assert_int_equal(o.messages_waiting, 2);
    outbox_note_acknowledged(&o, 1, 2); /* late */
    assert_int_equal(o.peers[1].acknowledged, 3);
    outbox_note_acknowledged(&o, 1, 8);
    assert_int_equal(o.messages_waiting, 0);
    note(&o, 7, 17);
    assert_int_equal(o.messages_waiting, 0);
    note(&o, 9, 19);
    assert_int_equal(o.messages_waiting, 1);
    outbox_forget(&o);
    assert_int_equal(o.messages_waiting, 0);
    assert_int_equal(o.peers[1].sequence_last, 0);
    outbox_fini(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_committed_messages_leave),
        cmocka_unit_test(test_silence_brings_all_of_them_again),
        cmocka_unit_test(test_a_replay_does_not_double_messages),
        cmocka_unit_test(test_stored_messages_come_back_in_order),
        cmocka_unit_test(test_what_is_stored_leaves_memory_but_for_a_window),
        cmocka_unit_test(test_none_is_asked_for_beyond_one_that_is_lost),
        cmocka_unit_test(test_large_messages_stay_in_memory_by_their_bytes),
        cmocka_unit_test(test_acknowledgements_in_the_log_count),
        cmocka_unit_test(test_a_lossy_courier_delivers_everything_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
