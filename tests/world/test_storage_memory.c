/* clang-format off: cmocka.h needs the others before it */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>

#include "tests/world/storage_memory.h"

static struct record *record(uint64_t index, uint64_t term, uint64_t value) {
    struct record *r = record_new(24);
    assert_non_null(r);
    struct entry_header *h = (void *)r->payload;
    *h = (struct entry_header){.time_ms = (int64_t)index * 1000};
    memcpy(r->payload + sizeof *h, &value, 8);
    r->header.index = index;
    r->header.term = term;
    r->header.type = RECORD_EVENTS;
    r->header.payload_bytes = 24;
    return r;
}

static void append(struct storage *s, uint64_t first, uint32_t count, uint64_t term,
                   uint64_t value) {
    struct record *head = NULL, **link = &head;
    for (uint32_t i = 0; i < count; i++) {
        *link = record(first + i, term, value);
        link = &(*link)->next;
    }
    s->ops->append(s, head);
}

struct seen {
    uint64_t count, last, value;
};

static bool see(void *arg, const struct record_header *h, const void *payload) {
    struct seen *seen = arg;
    seen->count++;
    seen->last = h->index;
    memcpy(&seen->value, (const uint8_t *)payload + sizeof(struct entry_header), 8);
    return true;
}

static struct storage_memory *new_disk(struct storage_memory_options options) {
    return storage_memory_new(&options);
}

static void appends_become_durable_in_order(void **state) {
    struct storage_memory *d =
        new_disk((struct storage_memory_options){.seed = 1, .append_ms_max = 10});
    struct storage *s = storage_memory_open(d);
    s->ops->save_vote(s, 1, 1);
    append(s, 1, 1, 1, 7);
    append(s, 2, 3, 1, 7);
    append(s, 5, 1, 1, 8);
    struct storage_event events[8];
    uint64_t told = 0;
    for (int64_t t = 0; t < 100; t++) {
        storage_memory_advance(d, t);
        uint32_t n = s->ops->poll(s, events, 8);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(events[i].kind, STORAGE_APPENDED);
            assert_true(events[i].index > told);
            told = events[i].index;
            assert_true(told <= storage_memory_durable_last(d));
        }
    }
    assert_int_equal(told, 5);
    struct seen seen = {0};
    char error[128];
    assert_int_equal(s->ops->read(s, 1, 5, see, &seen, error, sizeof error), 0);
    assert_int_equal(seen.count, 5);
    assert_int_equal(seen.value, 8);
    assert_int_equal(s->ops->read(s, 4, 6, see, &seen, error, sizeof error), -1);
    assert_non_null(strstr(error, "log entry 6"));
    s->ops->close(s);
    assert_null(storage_memory_fault(d));
    storage_memory_free(d);
}

static void a_crash_keeps_a_prefix(void **state) {
    bool kept_none = false, kept_some = false, kept_all = false;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct storage_memory *d =
            new_disk((struct storage_memory_options){.seed = seed, .append_ms_max = 1000});
        struct storage *s = storage_memory_open(d);
        s->ops->save_vote(s, 1, 1);
        append(s, 1, 1, 1, 1);
        storage_memory_advance(d, 2000);
        for (uint64_t i = 0; i < 4; i++) append(s, 2 + 2 * i, 2, 1, i);
        storage_memory_crash(d);
        uint64_t last = storage_memory_durable_last(d);
        assert_true(last >= 1 && last % 2 == 1); /* whole calls */
        kept_none |= last == 1;
        kept_all |= last == 9;
        kept_some |= last > 1 && last < 9;
        s = storage_memory_open(d);
        struct storage_meta *meta = calloc(1, sizeof *meta);
        char error[128];
        assert_int_equal(s->ops->load_meta(s, meta, error, sizeof error), 0);
        assert_int_equal(meta->log_last, last);
        assert_int_equal(meta->term, 1);
        free(meta);
        append(s, last + 1, 1, 1, 1);
        storage_memory_advance(d, 9000);
        assert_int_equal(storage_memory_durable_last(d), last + 1);
        assert_null(storage_memory_fault(d));
        storage_memory_free(d);
    }
    assert_true(kept_none && kept_some && kept_all);
}

static void a_torn_record_is_named(void **state) {
    uint32_t torn = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct storage_memory *d = new_disk((struct storage_memory_options){
            .seed = seed, .append_ms_max = 1000, .torn_percent = 100, .keeps_torn = seed % 2});
        struct storage *s = storage_memory_open(d);
        s->ops->save_vote(s, 1, 1);
        for (uint64_t i = 1; i <= 3; i++) append(s, i, 1, 1, i);
        storage_memory_crash(d);
        bool is_torn = storage_memory_counters(d).torn_records > 0;
        uint64_t good = storage_memory_durable_last(d);
        s = storage_memory_open(d);
        struct storage_meta *meta = calloc(1, sizeof *meta);
        char error[128] = "";
        s->ops->load_meta(s, meta, error, sizeof error);
        struct seen seen = {0};
        if (is_torn && seed % 2) {
            torn++;
            assert_int_equal(meta->log_last, good + 1);
            assert_int_equal(s->ops->read(s, 1, good + 1, see, &seen, error, sizeof error), -1);
            char name[32];
            snprintf(name, sizeof name, "log entry %lu:", (unsigned long)good + 1);
            assert_non_null(strstr(error, name));
        } else {
            assert_int_equal(meta->log_last, good);
            if (good > 0) {
                assert_int_equal(s->ops->read(s, 1, good, see, &seen, error, sizeof error), 0);
            }
        }
        assert_int_equal(seen.count, good);
        free(meta);
        storage_memory_free(d);
    }
    assert_true(torn > 5);
}

static void truncation_is_one_step(void **state) {
    struct storage_memory *d = new_disk((struct storage_memory_options){.seed = 3});
    struct storage *s = storage_memory_open(d);
    s->ops->save_vote(s, 1, 1);
    append(s, 1, 5, 1, 1);
    storage_memory_advance(d, 1);
    s->ops->save_vote(s, 2, 1);
    append(s, 3, 1, 2, 2);
    storage_memory_advance(d, 2);
    assert_int_equal(storage_memory_durable_last(d), 3);
    struct seen seen = {0};
    char error[128];
    assert_int_equal(s->ops->read(s, 1, 3, see, &seen, error, sizeof error), 0);
    assert_int_equal(seen.value, 2);
    s->ops->close(s);
    storage_memory_free(d);
}

static void full_and_room_again(void **state) {
    struct storage_memory *d = new_disk((struct storage_memory_options){.seed = 4});
    struct storage *s = storage_memory_open(d);
    s->ops->save_vote(s, 1, 1);
    storage_memory_set_full(d, true);
    append(s, 1, 1, 1, 1);
    append(s, 2, 1, 1, 1);
    storage_memory_advance(d, 10);
    struct storage_event events[8];
    assert_int_equal(s->ops->poll(s, events, 8), 1);
    assert_int_equal(events[0].kind, STORAGE_LOG_FULL);
    assert_int_equal(storage_memory_durable_last(d), 0);
    storage_memory_set_full(d, false);
    assert_int_equal(storage_memory_next_ms(d), 10);
    storage_memory_advance(d, 11);
    assert_int_equal(s->ops->poll(s, events, 8), 2);
    assert_int_equal(events[0].kind, STORAGE_LOG_ROOM);
    assert_int_equal(events[1].kind, STORAGE_APPENDED);
    assert_int_equal(events[1].index, 2);
    s->ops->close(s);
    storage_memory_free(d);
}

/* As the real one: an election needs no room where there is a journal, all else does. */
static void a_barrier_goes_into_the_journal_of_a_full_disk(void **state) {
    struct storage_memory *d =
        new_disk((struct storage_memory_options){.seed = 4, .journal_blocks = 16});
    struct storage *s = storage_memory_open(d);
    struct storage_event events[8];
    s->ops->save_vote(s, 1, 1);
    storage_memory_set_full(d, true);
    struct record *barrier = record(1, 1, 0);
    barrier->header.type = RECORD_BARRIER;
    s->ops->append(s, barrier);
    append(s, 2, 1, 1, 1);
    bool full = false;
    uint64_t told = 0;
    for (int64_t t = 1; t < 10; t++) {
        storage_memory_advance(d, t);
        for (uint32_t i = 0, n = s->ops->poll(s, events, 8); i < n; i++) {
            full |= events[i].kind == STORAGE_LOG_FULL;
            if (events[i].kind == STORAGE_APPENDED) told = events[i].index;
        }
    }
    assert_true(full);
    assert_int_equal(told, 1);
    assert_int_equal(storage_memory_durable_last(d), 1);
    storage_memory_crash(d);
    s = storage_memory_open(d);
    assert_int_equal(storage_memory_durable_last(d), 1);
    s->ops->close(s);
    storage_memory_free(d);
}

/* -- checkpoints ------------------------------------------------------------------------------- */

struct one_actor {
    struct checkpoint c;
    struct checkpoint_item item;
    struct actor actor;
    struct checkpoint_cursor cursor;
};

static void one_actor(struct one_actor *o, uint8_t number, int64_t old_deadline_ms,
                      int64_t deadline_ms, uint64_t index) {
    memset(o, 0, sizeof *o);
    o->actor = (struct actor){.bytes = sizeof o->actor,
                              .kind = ACTOR_ORDER,
                              .key = {{0, 0, 0, 0, 1, number, number}},
                              .last_index = index,
                              .version = 1};
    o->item = (struct checkpoint_item){.key = o->actor.key,
                                       .kind = ACTOR_ORDER,
                                       .old_deadline_ms = old_deadline_ms,
                                       .new_deadline_ms = deadline_ms,
                                       .bytes = sizeof o->actor};
    o->cursor = (struct checkpoint_cursor){.name = "outbox.1", .bytes = 1, .value = {number}};
    o->c = (struct checkpoint){.items = &o->item,
                               .items_count = 1,
                               .blocks = (uint8_t *)&o->actor,
                               .blocks_bytes = sizeof o->actor,
                               .cursors = &o->cursor,
                               .cursors_count = 1,
                               .applied_index = index,
                               .applied_term = 1};
}

static struct storage *ready_disk(struct storage_memory **d, int64_t checkpoint_ms_max) {
    *d = new_disk(
        (struct storage_memory_options){.seed = 5, .checkpoint_ms_max = checkpoint_ms_max});
    struct storage *s = storage_memory_open(*d);
    s->ops->save_vote(s, 1, 1);
    append(s, 1, 9, 1, 1);
    storage_memory_advance(*d, 1);
    struct storage_event events[2];
    assert_int_equal(s->ops->poll(s, events, 2), 1);
    return s;
}

static bool count_cursor(void *arg, const struct checkpoint_cursor *c) {
    assert_string_equal(c->name, "outbox.1");
    *(uint8_t *)arg = c->value[0];
    return true;
}

static void checkpoints_loads_and_timers(void **state) {
    struct storage_memory *d;
    struct storage *s = ready_disk(&d, 0);
    struct one_actor o[3];
    struct storage_event events[8];
    for (uint8_t i = 0; i < 3; i++) {
        one_actor(&o[i], (uint8_t)(i + 1), 0, 100 + 10 * i, 5 + i);
        s->ops->checkpoint(s, &o[i].c);
        storage_memory_advance(d, 2 + i);
        assert_int_equal(s->ops->poll(s, events, 8), 1);
        assert_int_equal(events[0].kind, STORAGE_CHECKPOINTED);
        assert_true(events[0].ok && events[0].checkpoint == &o[i].c);
    }
    s->ops->load(s, ACTOR_ORDER, &o[1].actor.key);
    s->ops->load(s, ACTOR_STORE, &o[1].actor.key);
    storage_memory_advance(d, 10);
    assert_int_equal(s->ops->poll(s, events, 8), 2);
    assert_memory_equal(events[0].block, &o[1].actor, sizeof o[1].actor);
    assert_true(events[1].ok && events[1].block == NULL);
    s->ops->release_block(s, events[0].block);
    s->ops->load_timers(s, 105, 200, 1);
    assert_int_equal(s->ops->poll(s, events, 8), 2);
    assert_int_equal(events[0].deadline_ms, 110);
    assert_false(events[1].ok);
    assert_int_equal(events[1].deadline_ms, 120);
    s->ops->load_timers(s, 120, 200, 5);
    assert_int_equal(s->ops->poll(s, events, 8), 2);
    assert_int_equal(events[1].deadline_ms, 200);
    uint8_t value = 0;
    char error[128];
    assert_int_equal(s->ops->visit_cursors(s, count_cursor, &value, error, sizeof error), 0);
    assert_int_equal(value, 3);
    assert_true(storage_memory_corrupt_actor(d, ACTOR_ORDER, &o[1].actor.key));
    s->ops->load(s, ACTOR_ORDER, &o[1].actor.key);
    storage_memory_advance(d, 11);
    assert_int_equal(s->ops->poll(s, events, 8), 1);
    assert_false(events[0].ok);
    s->ops->close(s);
    assert_null(storage_memory_fault(d));
    storage_memory_free(d);
}

static void a_checkpoint_survives_whole_or_not_at_all(void **state) {
    bool there = false, not_there = false;
    for (int i = 0; i < 20; i++) {
        struct storage_memory *d = new_disk((struct storage_memory_options){
            .seed = 100 + (uint64_t)i, .checkpoint_ms_max = 1000000});
        struct storage *s = storage_memory_open(d);
        s->ops->save_vote(s, 1, 1);
        append(s, 1, 9, 1, 1);
        storage_memory_advance(d, 1);
        struct one_actor o;
        one_actor(&o, 1, 0, 100, 9);
        s->ops->checkpoint(s, &o.c);
        storage_memory_crash(d);
        s = storage_memory_open(d);
        void *block;
        uint32_t bytes;
        char error[128];
        struct storage_meta *meta = calloc(1, sizeof *meta);
        s->ops->load_meta(s, meta, error, sizeof error);
        s->ops->read_actor(s, ACTOR_ORDER, &o.actor.key, &block, &bytes, error, sizeof error);
        assert_int_equal(meta->applied_index, block != NULL ? 9 : 0);
        assert_int_equal(meta->orders_count, block != NULL ? 1 : 0);
        there |= block != NULL;
        not_there |= block == NULL;
        s->ops->release_block(s, block);
        free(meta);
        storage_memory_free(d);
    }
    assert_true(there && not_there);
}

static void what_no_shard_may_ask_for_is_noted(void **state) {
    struct storage_memory *d;
    struct one_actor o;
    struct storage *s = ready_disk(&d, 0);
    one_actor(&o, 1, 0, 100, 10); /* reflects a record that is not durable */
    s->ops->checkpoint(s, &o.c);
    assert_non_null(strstr(storage_memory_fault(d), "but 9 is durable"));
    storage_memory_free(d);
    s = ready_disk(&d, 0);
    one_actor(&o, 1, 55, 100, 9); /* replaces a timer row that is not there */
    s->ops->checkpoint(s, &o.c);
    storage_memory_advance(d, 5);
    assert_non_null(strstr(storage_memory_fault(d), "deadline row"));
    storage_memory_free(d);
    s = ready_disk(&d, 0);
    append(s, 12, 1, 1, 1); /* a gap */
    assert_non_null(strstr(storage_memory_fault(d), "behind 9"));
    storage_memory_free(d);
    s = ready_disk(&d, 0);
    append(s, 10, 1, 2, 1); /* a term that was never stored */
    assert_non_null(strstr(storage_memory_fault(d), "term 2"));
    storage_memory_free(d);
}

static void dead_from_the_nth_operation_on(void **state) {
    for (uint64_t n = 1; n <= 4; n++) {
        struct storage_memory *d = new_disk((struct storage_memory_options){.seed = n});
        struct storage *s = storage_memory_open(d);
        storage_memory_crash_in(d, n);
        s->ops->save_vote(s, 1, 1);
        append(s, 1, 1, 1, 1);
        storage_memory_advance(d, 1);
        append(s, 2, 1, 1, 1);
        assert_true(storage_memory_is_crashed(d));
        struct storage_event events[4];
        assert_int_equal(s->ops->poll(s, events, 4), 0);
        storage_memory_crash(d);
        assert_true(storage_memory_durable_last(d) <= n / 2 + 1);
        storage_memory_open(d);
        assert_false(storage_memory_is_crashed(d));
        storage_memory_free(d);
    }
}

static void retention_drops_whole_segments(void **state) {
    struct storage_memory *d =
        new_disk((struct storage_memory_options){.seed = 9, .segment_records = 10});
    struct storage *s = storage_memory_open(d);
    s->ops->save_vote(s, 1, 1);
    append(s, 1, 45, 1, 1);
    storage_memory_advance(d, 1);
    struct one_actor o;
    one_actor(&o, 1, 0, 0, 40);
    s->ops->checkpoint(s, &o.c);
    storage_memory_advance(d, 2);
    s->ops->retain(s, 35, 25000);
    assert_int_equal(storage_memory_durable_first(d), 21);
    s->ops->retain(s, 35, 900000);
    assert_int_equal(storage_memory_durable_first(d), 31);
    assert_int_equal(storage_memory_durable_last(d), 45);
    assert_true(storage_memory_corrupt_record(d, 33));
    struct seen seen = {0};
    char error[128];
    assert_int_equal(s->ops->read(s, 31, 45, see, &seen, error, sizeof error), -1);
    assert_int_equal(seen.last, 32);
    assert_null(storage_memory_fault(d));
    storage_memory_free(d);
}

static void checkpoint_at(struct storage_memory *d, struct storage *s, uint64_t marker) {
    struct checkpoint c = {.applied_index = marker, .applied_term = 1};
    struct storage_event event = {0};
    s->ops->checkpoint(s, &c);
    storage_memory_advance(d, 1000);
    while (event.kind != STORAGE_CHECKPOINTED) assert_int_equal(s->ops->poll(s, &event, 1), 1);
}

/* A node that dies in an install has the old state and log afterwards, or the new. */
static void an_install_is_whole_or_nothing(void **state) {
    uint32_t before = 0, after = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct storage_memory_files *files = storage_memory_files_new();
        struct storage_memory *from =
            new_disk((struct storage_memory_options){.seed = seed, .files = files});
        struct storage_memory *to =
            new_disk((struct storage_memory_options){.seed = seed, .files = files});
        struct storage *a = storage_memory_open(from), *b = storage_memory_open(to);
        struct storage_meta *meta = calloc(1, sizeof *meta);
        char error[128];
        a->ops->save_vote(a, 1, 1);
        append(a, 1, 20, 1, 7);
        storage_memory_advance(from, 1000);
        checkpoint_at(from, a, 15);
        assert_int_equal(a->ops->export_state(a, "a", NULL, meta, error, sizeof error), 0);
        assert_true(storage_memory_files_copy(files, "a", "b"));
        b->ops->save_vote(b, 1, 1);
        append(b, 1, 10, 1, 7);
        storage_memory_advance(to, 1000);
        checkpoint_at(to, b, 5);
        storage_memory_crash_in(to, 1);
        b->ops->install_state(b, "b", 8, error, sizeof error);
        assert_true(storage_memory_is_crashed(to));
        storage_memory_crash(to);
        b = storage_memory_open(to);
        assert_int_equal(b->ops->load_meta(b, meta, error, sizeof error), 0);
        uint64_t first, last;
        bool gap = storage_memory_gap(to, &first, &last);
        if (meta->applied_index == 5) {
            before++;
            assert_false(gap);
            assert_true(meta->log_first == 1 && meta->log_last == 10);
            assert_int_equal(b->ops->install_state(b, "b", 8, error, sizeof error), 0);
        } else {
            after++;
            assert_true(gap && first == 9 && last == 15);
            assert_true(meta->log_first == 16 && meta->log_last == 15);
        }
        free(meta);
        assert_null(storage_memory_fault(to));
        storage_memory_free(from);
        storage_memory_free(to);
        assert_true(storage_memory_files_bytes(files, "a") > 0);
        assert_true(storage_memory_files_bytes(files, "b") == 0);
        storage_memory_files_free(files);
    }
    assert_true(before > 10 && after > 10);
}

/* What no correct shard would ask for. */
static void a_wrong_install_is_judged(void **state) {
    struct storage_memory *d = new_disk((struct storage_memory_options){.seed = 1});
    struct storage *s = storage_memory_open(d);
    struct storage_meta *meta = calloc(1, sizeof *meta);
    char error[128];
    s->ops->save_vote(s, 1, 1);
    append(s, 1, 20, 1, 7);
    storage_memory_advance(d, 1000);
    checkpoint_at(d, s, 15);
    assert_int_equal(s->ops->export_state(s, "a", NULL, meta, error, sizeof error), 0);
    assert_true(storage_memory_files_corrupt(storage_memory_files(d), "a"));
    assert_int_equal(s->ops->install_state(s, "a", 14, error, sizeof error), -1);
    assert_null(storage_memory_fault(d)); /* damage is a matter of the file */
    assert_int_equal(s->ops->export_state(s, "a", NULL, meta, error, sizeof error), 0);
    storage_memory_set_full(d, true);
    assert_int_equal(s->ops->export_state(s, "a", NULL, meta, error, sizeof error), -1);
    storage_memory_set_full(d, false);
    assert_int_equal(s->ops->install_state(s, "a", 15, error, sizeof error), -1);
    assert_non_null(storage_memory_fault(d));
    free(meta);
    s->ops->close(s);
    storage_memory_free(d);
}

static struct storage_meta meta_of(struct storage *s, int expected, char error[128]) {
    static struct storage_meta meta;
    assert_int_equal(s->ops->load_meta(s, &meta, error, 128), expected);
    return meta;
}

/* Nothing of it is in the log yet: a crash leaves it in the journal, and so does the next one. */
static void the_journal_gives_back_what_the_log_lacks(void **state) {
    char error[128];
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct storage_memory *d =
            new_disk((struct storage_memory_options){.seed = seed,
                                                     .journal_blocks = 8 + seed % 5,
                                                     .late_ms_max = seed % 2 ? 1000000 : 5,
                                                     .torn_percent = 100});
        uint64_t last = 0;
        for (uint64_t life = 1; life <= 12; life++) {
            struct storage *s = storage_memory_open(d);
            assert_int_equal(meta_of(s, 0, error).log_last, last);
            s->ops->save_vote(s, life, 1);
            struct seen seen = {0};
            if (last > 0)
                assert_int_equal(s->ops->read(s, 1, last, see, &seen, error, sizeof error), 0);
            assert_int_equal(seen.last, last);
            /* The end of the log is another leader's, and rewritten. */
            if (life % 3 == 0) last -= 2;
            for (uint64_t i = 0; i < 4; i++, last += 3) {
                append(s, last + 1, 3, life, seed);
                storage_memory_advance(d, (int64_t)(life * 1000 + i * 7));
            }
            assert_int_equal(storage_memory_durable_last(d), last);
            storage_memory_set_stuck(d, INT64_MAX);
            append(s, last + 1, 2, life, seed); /* in flight: torn */
            storage_memory_crash(d);
            storage_memory_set_stuck(d, 0);
            assert_true(storage_memory_durable_last(d) >= last);
            last = storage_memory_durable_last(d);
        }
        struct storage_memory_counters c = storage_memory_counters(d);
        assert_null(storage_memory_fault(d));
        assert_true(c.torn_frames > 0 && c.rounds > 0);
        storage_memory_free(d);
    }
}

static void an_orderly_end_empties_the_journal(void **state) {
    char error[128];
    struct storage_memory *d = new_disk((struct storage_memory_options){
        .seed = 3, .journal_blocks = 16, .late_ms_max = 1000000});
    struct storage *s = storage_memory_open(d);
    s->ops->save_vote(s, 1, 1);
    append(s, 1, 9, 1, 1);
    s->ops->close(s);
    s = storage_memory_open(d);
    assert_int_equal(meta_of(s, 0, error).log_last, 9);
    assert_int_equal(storage_memory_counters(d).replayed, 0);
    storage_memory_crash(d);
    storage_memory_free(d);
}

static void a_damaged_journal_is_refused_by_name(void **state) {
    char error[128];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct storage_memory *d = new_disk((struct storage_memory_options){
            .seed = seed, .journal_blocks = 16, .late_ms_max = 1000000});
        struct storage *s = storage_memory_open(d);
        s->ops->save_vote(s, 1, 1);
        for (uint64_t i = 0; i < 3; i++) {
            append(s, 1 + i, 1, 1, 1);
            storage_memory_advance(d, (int64_t)i);
        }
        assert_true(storage_memory_corrupt_journal(d));
        storage_memory_crash(d);
        s = storage_memory_open(d);
        meta_of(s, -1, error);
        assert_non_null(strstr(error, "damaged"));
        assert_true(storage_memory_damage_was_told(d));
        storage_memory_crash(d);
        storage_memory_free(d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_become_durable_in_order),
        cmocka_unit_test(a_crash_keeps_a_prefix),
        cmocka_unit_test(the_journal_gives_back_what_the_log_lacks),
        cmocka_unit_test(an_orderly_end_empties_the_journal),
        cmocka_unit_test(a_damaged_journal_is_refused_by_name),
        cmocka_unit_test(a_torn_record_is_named),
        cmocka_unit_test(truncation_is_one_step),
        cmocka_unit_test(full_and_room_again),
        cmocka_unit_test(a_barrier_goes_into_the_journal_of_a_full_disk),
        cmocka_unit_test(checkpoints_loads_and_timers),
        cmocka_unit_test(a_checkpoint_survives_whole_or_not_at_all),
        cmocka_unit_test(what_no_shard_may_ask_for_is_noted),
        cmocka_unit_test(dead_from_the_nth_operation_on),
        cmocka_unit_test(retention_drops_whole_segments),
        cmocka_unit_test(an_install_is_whole_or_nothing),
        cmocka_unit_test(a_wrong_install_is_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
