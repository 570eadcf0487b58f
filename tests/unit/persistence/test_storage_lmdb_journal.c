/* The storage with a journal: what was told as durable is read, kept and found again while the
 * log's own environment does not have it yet. */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/prng.h"
#include "persistence/log_source.h"
#include "storage_fixture.h"

enum { BLOCK = 4096, BLOCKS = 64 };

/* What the storage's threads meet; shared with a child. */
static struct gate {
    atomic_bool hold;          /* the log's environment is not written */
    atomic_bool held;          /* and somebody waits for that */
    atomic_bool made;
    atomic_bool no_room;       /* for a frame */
    atomic_bool opened, end;   /* of a child that has it open */
    atomic_uint commits;
} *gate;

static int at_point(void *arg, enum storage_lmdb_point point) {
    if (point == STORAGE_POINT_JOURNAL_MADE) atomic_store(&gate->made, true);
    if (point == STORAGE_POINT_JOURNAL_WRITE && atomic_load(&gate->no_room)) return ENOSPC;
    if (point != STORAGE_POINT_LOG_COMMIT) return 0;
    while (atomic_load(&gate->hold)) {
        atomic_store(&gate->held, true);
        fixture_nap();
    }
    atomic_fetch_add(&gate->commits, 1);
    return 0;
}

static int setup(void **state) {
    if (fixture_setup(state) != 0) return -1;
    struct fixture *f = *state;
    gate = fixture_share(sizeof *gate);
    f->options.fault = at_point;
    f->options.journal_bytes = BLOCKS * BLOCK;
    return 0;
}

static int teardown(void **state) {
    atomic_store(&gate->hold, false);
    int rc = fixture_teardown(state);
    munmap(gate, sizeof *gate);
    return rc;
}

/* A storage whose journal is in use from the first append on. */
static void open_with_journal(struct fixture *f) {
    fixture_open(f);
    fixture_await(&gate->made);
    fixture_reopen(f);
}

/* Runs `work` in a child that then dies. */
static void in_killed_child(struct fixture *f, void (*work)(struct fixture *f)) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        f->appended_sequence = 0;
        fixture_open(f);
        work(f);
        kill(getpid(), SIGKILL);
    }
    fixture_await_end(child, SIGKILL, 0);
}

/* The same with a journal, out of which nothing comes into the log meanwhile. */
static void after_kill(struct fixture *f, void (*work)(struct fixture *f)) {
    open_with_journal(f);
    fixture_close(f);
    atomic_store(&gate->hold, true);
    in_killed_child(f, work);
    atomic_store(&gate->hold, false);
}

static void is_told_and_read_before_it_is_in_the_log(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    atomic_store(&gate->hold, true);
    fixture_append(f, 1, 5, 1, 300, 5);
    fixture_append(f, 6, 200, 1, 100, 6);
    assert_int_equal(atomic_load(&gate->commits), 0);
    fixture_expect(f, 1, 200, 1);
    fixture_expect(f, 100, 150, 1);
    struct storage_meta *meta = fixture_meta(f);
    assert_true(meta->log_first == 1 && meta->log_last == 200);
    free(meta);
    struct storage_stats stats;
    f->storage->ops->stats(f->storage, &stats);
    assert_true(stats.log_first == 1 && stats.log_last == 200 && stats.appends_waiting == 0);
    assert_true(stats.commits == 2);
    /* A truncation, of which the environment knows nothing either. */
    fixture_append(f, 150, 160, 2, 100, 7);
    fixture_expect(f, 1, 149, 1);
    fixture_expect(f, 150, 160, 2);
    struct { uint64_t n; } none = {0};
    assert_int_equal(f->storage->ops->read(f->storage, 161, 161, NULL, &none, f->error,
                                           sizeof f->error), -1);
    assert_non_null(strstr(f->error, "record 161 is not stored"));
    atomic_store(&gate->hold, false);
    fixture_append(f, 161, 400, 2, 100, 8);
    fixture_expect(f, 1, 149, 1);
    fixture_expect(f, 150, 400, 2);
    fixture_reopen(f);
    fixture_expect(f, 1, 149, 1);
    fixture_expect(f, 150, 400, 2);
}

static void work_append(struct fixture *f) {
    fixture_append(f, 1, 10, 1, 300, 5);
    fixture_append(f, 11, 12, 1, 3000, 5);
    fixture_append(f, 8, 20, 2, 300, 6);
}

static void expect_worked(struct fixture *f, uint64_t last) {
    struct storage_meta *meta = fixture_meta(f);
    assert_int_equal(meta->log_first, 1);
    assert_int_equal(meta->log_last, last);
    free(meta);
    fixture_expect(f, 1, 7, 1);
    fixture_expect(f, 8, 20, 2);
}

static void a_kill_loses_nothing(void **state) {
    struct fixture *f = *state;
    after_kill(f, work_append);
    fixture_open(f);
    expect_worked(f, 20);
    fixture_append(f, 21, 25, 3, 300, 7);
    fixture_reopen(f);
    expect_worked(f, 25);
    fixture_expect(f, 21, 25, 3);
}

static void work_await_held(struct fixture *f) {
    expect_worked(f, 20);
    while (!atomic_load(&gate->held)) fixture_nap();
}

/* The next life dies before it has done anything about it, too. */
static void a_kill_during_the_recovery_loses_nothing(void **state) {
    struct fixture *f = *state;
    after_kill(f, work_append);
    for (int i = 0; i < 2; i++) {
        atomic_store(&gate->hold, true);
        atomic_store(&gate->held, false);
        in_killed_child(f, work_await_held);
    }
    atomic_store(&gate->hold, false);
    fixture_open(f);
    expect_worked(f, 20);
}

static void checkpoint(struct fixture *f, uint64_t applied_index) {
    struct draft *d = draft_new(applied_index);
    draft_do(f, d); /* comes back once the environment has all of it */
}

/* Runs `work` in a child that dies of it, with a journal. */
static void killed_by(struct fixture *f, void (*work)(struct fixture *f)) {
    open_with_journal(f);
    fixture_close(f);
    in_killed_child(f, work);
}

/* The newest frames begin far behind where a truncation left the log's end. */
static void work_truncate_far(struct fixture *f) {
    fixture_append(f, 1, 100, 1, 100, 5);
    checkpoint(f, 10);
    fixture_append(f, 101, 110, 1, 100, 5);
    checkpoint(f, 20);
    atomic_store(&gate->hold, true);
    fixture_append(f, 111, 115, 1, 100, 5);
    fixture_append(f, 50, 52, 2, 100, 6);
    atomic_store(&gate->hold, false);
    checkpoint(f, 30);
}

static void a_truncation_behind_the_journals_begin_is_no_hole(void **state) {
    struct fixture *f = *state;
    killed_by(f, work_truncate_far);
    for (int i = 0; i < 2; i++) {
        fixture_open(f);
        struct storage_meta *meta = fixture_meta(f);
        assert_int_equal(meta->log_last, i == 0 ? 52 : 60);
        free(meta);
        fixture_expect(f, 1, 49, 1);
        fixture_expect(f, 50, 52, 2);
        fixture_append(f, 53, 60, 2, 100, 6);
        fixture_expect(f, 53, 60, 2);
        fixture_close(f);
    }
}

static void work_truncate_pending(struct fixture *f) {
    fixture_append(f, 1, 100, 1, 100, 5);
    checkpoint(f, 10);
    atomic_store(&gate->hold, true);
    fixture_append(f, 101, 115, 1, 100, 5);
    fixture_append(f, 50, 70, 2, 100, 6);
    fixture_append(f, 60, 62, 3, 100, 6);
}

static void a_truncation_that_waits_is_done_at_the_start(void **state) {
    struct fixture *f = *state;
    killed_by(f, work_truncate_pending);
    atomic_store(&gate->hold, false);
    struct log_source *source = log_source_open(f->directory, f->error, sizeof f->error);
    assert_non_null(source);
    struct log_cursor *cursor = log_cursor_open(source, 1, UINT64_MAX, true);
    struct log_item item;
    for (uint64_t i = 1; i <= 62; i++) {
        assert_int_equal(log_cursor_next(cursor, &item), LOG_RECORD);
        assert_true(item.index == i && item.header->term == (i < 50 ? 1 : i < 60 ? 2 : 3));
    }
    assert_int_equal(log_cursor_next(cursor, &item), LOG_END);
    log_cursor_seek(cursor, 63, 70);
    assert_int_equal(log_cursor_next(cursor, &item), LOG_END);
    log_cursor_close(cursor);
    log_source_close(source);
    fixture_open(f);
    struct storage_meta *meta = fixture_meta(f);
    assert_int_equal(meta->log_last, 62);
    free(meta);
    fixture_expect(f, 1, 49, 1);
    fixture_expect(f, 50, 59, 2);
    fixture_expect(f, 60, 62, 3);
    fixture_append(f, 63, 70, 3, 100, 6);
    fixture_reopen(f);
    fixture_expect(f, 50, 59, 2);
    fixture_expect(f, 60, 70, 3);
}

static void a_tool_reads_what_a_kill_left(void **state) {
    struct fixture *f = *state;
    after_kill(f, work_append);
    struct log_source *source = log_source_open(f->directory, f->error, sizeof f->error);
    assert_non_null(source);
    uint64_t first, last;
    log_source_range(source, &first, &last);
    assert_true(first == 1 && last == 20);
    assert_true(log_source_index_at(source, 5) == 7);
    assert_true(log_source_index_at(source, 6) == 20);
    struct log_cursor *cursor = log_cursor_open(source, 3, UINT64_MAX, true);
    struct log_item item;
    for (uint64_t i = 3; i <= 20; i++) {
        assert_int_equal(log_cursor_next(cursor, &item), LOG_RECORD);
        assert_true(item.index == i && item.header->term == (i < 8 ? 1 : 2));
        assert_true(fixture_is_sound(item.header, item.payload));
        assert_string_equal(item.segment, "journal");
    }
    assert_int_equal(log_cursor_next(cursor, &item), LOG_END);
    /* While a node has it open, and takes it out of there: another process, for LMDB's sake. */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        f->appended_sequence = 0;
        fixture_open(f);
        atomic_store(&gate->opened, true);
        while (!atomic_load(&gate->end)) fixture_nap();
        fixture_close(f);
        _exit(0);
    }
    fixture_await(&gate->opened);
    assert_int_equal(log_source_refresh(source, f->error, sizeof f->error), 0);
    log_cursor_seek(cursor, 20, 20);
    assert_int_equal(log_cursor_next(cursor, &item), LOG_RECORD);
    log_cursor_close(cursor);
    atomic_store(&gate->end, true);
    fixture_await_end(child, 0, 0);
    assert_int_equal(log_source_refresh(source, f->error, sizeof f->error), 0);
    log_source_range(source, &first, &last);
    assert_true(first == 1 && last == 20);
    log_source_close(source);
}

/* A node's log is what its journal says, also where the segments reach further: what stands behind
 * the truncation there was never committed, and in front of it are not those that were. */
static void a_tool_beside_a_node_reads_the_truncation_that_waits(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_append(f, 1, 100, 1, 100, 5);
    fixture_close(f);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        f->appended_sequence = 0;
        fixture_open(f);
        atomic_store(&gate->hold, true);
        fixture_append(f, 50, 60, 2, 100, 6);
        atomic_store(&gate->opened, true);
        while (!atomic_load(&gate->end)) fixture_nap();
        fixture_close(f);
        _exit(0);
    }
    fixture_await(&gate->opened);
    struct log_source *source = log_source_open(f->directory, f->error, sizeof f->error);
    assert_non_null(source);
    uint64_t first, last;
    log_source_range(source, &first, &last);
    assert_true(first == 1 && last == 60);
    struct log_cursor *cursor = log_cursor_open(source, 1, last, true);
    struct log_item item;
    for (uint64_t i = 1; i <= last; i++) {
        assert_int_equal(log_cursor_next(cursor, &item), LOG_RECORD);
        assert_true(item.index == i && item.header->term == (i < 50 ? 1 : 2));
    }
    log_cursor_close(cursor);
    log_source_close(source);
    atomic_store(&gate->hold, false);
    atomic_store(&gate->end, true);
    fixture_await_end(child, 0, 0);
}

/* What the vote's environment calls its format. */
static uint32_t format_of(const struct fixture *f) {
    char path[192];
    struct { uint8_t magic[8]; uint32_t format, shard; } row;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
    char name[] = "identity";
    MDB_val key = {sizeof name - 1, name}, value;
    snprintf(path, sizeof path, "%s/vote", f->directory);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_RDONLY | MDB_NOLOCK, 0640), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, NULL, 0, &table), 0);
    assert_int_equal(mdb_get(txn, table, &key, &value), 0);
    assert_int_equal(value.mv_size, sizeof row);
    memcpy(&row, value.mv_data, sizeof row);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return row.format;
}

/* A program that knows of no journal refuses format 2: it may open only what lacks nothing. */
static void the_format_says_whether_the_log_is_whole(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_close(f);
    assert_int_equal(format_of(f), 1);
    in_killed_child(f, work_append);
    assert_int_equal(format_of(f), 2);
    fixture_open(f);
    fixture_close(f);
    assert_int_equal(format_of(f), 1);
}

static void without_a_journal_it_is_emptied_and_removed(void **state) {
    struct fixture *f = *state;
    after_kill(f, work_append);
    assert_int_equal(fixture_count_files(f, "journal"), 1);
    f->options.journal_bytes = 0;
    fixture_open(f);
    expect_worked(f, 20);
    assert_int_equal(fixture_count_files(f, "journal"), 0);
    fixture_append(f, 21, 25, 3, 300, 7);
    fixture_reopen(f);
    expect_worked(f, 25);
    fixture_expect(f, 21, 25, 3);
}

static void work_append_more(struct fixture *f) { fixture_append(f, 21, 22, 2, 300, 9); }

static void a_journal_without_the_log_before_it_is_refused(void **state) {
    struct fixture *f = *state;
    after_kill(f, work_append);
    fixture_open(f);
    fixture_close(f);
    atomic_store(&gate->hold, true);
    in_killed_child(f, work_append_more);
    atomic_store(&gate->hold, false);
    char path[200];
    snprintf(path, sizeof path, "%s/log-00000000000000000001", f->directory);
    fixture_remove_tree(path);
    assert_null(storage_lmdb_open(&f->options, f->error, sizeof f->error));
    assert_non_null(strstr(f->error, "begins with record 21, but the log ends with record 0"));
}

static void a_full_journal_waits_for_the_log(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    atomic_store(&gate->hold, true);
    /* 40 x 12 KB do not fit 63 blocks. */
    uint64_t sequence = 0;
    for (uint64_t i = 0; i < 40; i++) {
        sequence = f->storage->ops->append(f->storage,
                                           fixture_records(3 * i + 1, 3 * i + 3, 1, 4000, 5));
        if (i < 10) fixture_wait64(f, &f->appended_sequence, sequence);
    }
    fixture_await(&gate->held);
    assert_true(f->appended_sequence < sequence);
    atomic_store(&gate->hold, false);
    fixture_wait64(f, &f->appended_sequence, sequence);
    fixture_expect(f, 1, 120, 1);
    fixture_reopen(f);
    fixture_expect(f, 1, 120, 1);
}

/* A record that is larger than a frame may be goes by the journal, in its turn. */
static void large_records_keep_their_turn(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    uint64_t sequence = 0;
    for (uint64_t i = 1; i <= 60; i++)
        sequence = f->storage->ops->append(
            f->storage, fixture_record(i, 1, i % 7 == 0 ? 200000 : 500, 5));
    fixture_wait64(f, &f->appended_sequence, sequence);
    assert_true(f->appended_index == 60);
    fixture_expect(f, 1, 60, 1);
    fixture_reopen(f);
    fixture_expect(f, 1, 60, 1);
}

/* The blocks are there. So a server alone that starts on a full disk leads, and answers reads. */
static void what_an_election_writes_needs_no_room(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_append(f, 1, 5, 1, 300, 5);
    fixture_close(f);
    f->options.room_floor_bytes = 1ULL << 60;
    fixture_open(f);
    f->appended_sequence = 0;
    struct record *barrier = fixture_record(6, 2, 8, 0);
    barrier->header.type = RECORD_BARRIER;
    fixture_wait64(f, &f->appended_sequence, f->storage->ops->append(f->storage, barrier));
    f->storage->ops->append(f->storage, fixture_record(7, 2, 300, 6));
    fixture_wait(f, &f->full, 1);
    assert_true(f->appended_index == 6);
    fixture_expect(f, 1, 5, 1);
    fixture_expect(f, 6, 6, 2);
    fixture_close(f);
    f->options.room_floor_bytes = 1;
    fixture_open(f);
    fixture_expect(f, 1, 5, 1);
    fixture_expect(f, 6, 6, 2);
}

/* Nothing empties the journal meanwhile: each election takes a block. The last one waits for room,
 * and nothing is lost. */
static void elections_on_a_full_disk_fill_the_journal(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_append(f, 1, 5, 1, 300, 5);
    fixture_close(f);
    f->options.room_floor_bytes = 1ULL << 60;
    uint64_t last = 5;
    for (bool room = true; room;) {
        fixture_open(f);
        f->appended_sequence = 0;
        last++;
        struct record *barrier = fixture_record(last, last, 8, 0);
        barrier->header.type = RECORD_BARRIER;
        f->storage->ops->append(f->storage, barrier);
        for (int i = 0; i < 200 && f->appended_sequence == 0; i++) {
            if (!fixture_poll(f)) fixture_nap();
        }
        room = f->appended_sequence != 0;
        if (!room) assert_true(last > 5 + BLOCKS - 8);
        fixture_close(f);
    }
    f->options.room_floor_bytes = 1;
    fixture_open(f);
    struct storage_meta *meta = fixture_meta(f);
    assert_int_equal(meta->log_last, last - 1);
    free(meta);
    fixture_expect(f, 1, 5, 1);
    for (uint64_t i = 6; i < last; i++) fixture_expect(f, i, i, i);
    fixture_append(f, last, last + 50, last, 3000, 6);
    fixture_expect(f, last, last + 50, last);
}

static void without_room_for_a_frame_it_goes_on_without(void **state) {
    struct fixture *f = *state;
    open_with_journal(f);
    fixture_append(f, 1, 5, 1, 300, 5);
    atomic_store(&gate->no_room, true);
    fixture_append(f, 6, 10, 1, 300, 5);
    assert_int_equal(fixture_count_files(f, "journal"), 0);
    fixture_append(f, 11, 15, 1, 300, 5);
    fixture_expect(f, 1, 15, 1);
    atomic_store(&gate->no_room, false);
    fixture_reopen(f);
    fixture_expect(f, 1, 15, 1);
    assert_int_equal(f->full, 0);
}

/* -- any history, killed anywhere ------------------------------------------------------------- */

enum { OPS_MAX = 4096, INDEX_MAX = 60000, ROUNDS = 12, OPS_A_ROUND = 60 };

/* What was appended, call by call: call n wrote records first..last of term n. Shared with the
 * child. */
static struct history {
    atomic_uint issued, told;
    struct { uint64_t first, last; } ops[OPS_MAX];
    uint64_t terms[INDEX_MAX], last; /* the log that the calls up to the newest stored one make */
} *history;

/* A record of the log as found; false = no moment of the history has it there. */
static bool history_has(uint64_t index, uint64_t last, uint64_t last_term, uint64_t term) {
    if (index >= history->ops[last_term].first) return term == last_term;
    return index < INDEX_MAX && last >= index && term == history->terms[index];
}

static void history_do(unsigned op) {
    uint64_t i = history->ops[op].first;
    for (; i <= history->ops[op].last; i++) history->terms[i] = op;
    history->last = history->ops[op].last;
}

/* The log ends with record `last` of `term`: the calls behind that one have never been, and all
 * that were told as durable are in. Makes terms[] what lies before the end's call. */
static bool history_ends(uint64_t last, uint64_t term) {
    if (last == 0) return atomic_load(&history->told) == 0;
    if (term > atomic_load(&history->issued) || term < atomic_load(&history->told)) return false;
    if (last < history->ops[term].first || last > history->ops[term].last) return false;
    if (term == atomic_load(&history->told) && last != history->ops[term].last) return false;
    memset(history->terms, 0, sizeof history->terms);
    for (unsigned op = 1; op < term; op++) history_do(op);
    return true;
}

/* From here on the history goes on behind what was found. */
static void history_cut(uint64_t last, uint64_t term) {
    atomic_store(&history->issued, (unsigned)term);
    atomic_store(&history->told, (unsigned)term);
    history->last = last;
    if (term == 0) return;
    history->ops[term].last = last;
    history_do((unsigned)term);
}

struct history_end { uint64_t last, term; bool good; };

static bool visit_end(void *arg, const struct record_header *record, const void *payload) {
    ((struct history_end *)arg)->term = record->term;
    return true;
}

static bool visit_record(void *arg, const struct record_header *record, const void *payload) {
    struct history_end *end = arg;
    end->good &= fixture_is_sound(record, payload) &&
                 history_has(record->index, end->last, end->term, record->term);
    return true;
}

/* In the child: what the opened storage says. */
static bool history_is_stored(struct fixture *f) {
    const struct storage_ops *ops = f->storage->ops;
    struct storage_stats stats;
    ops->stats(f->storage, &stats);
    struct history_end end = {.last = stats.log_last, .good = true};
    if (end.last > 0 && ops->read(f->storage, end.last, end.last, visit_end, &end, f->error,
                                  sizeof f->error) != 0)
        return false;
    if (!history_ends(end.last, end.term)) return false;
    if (end.last > 0 && ops->read(f->storage, 1, end.last, visit_record, &end, f->error,
                                  sizeof f->error) != 0)
        return false;
    history_cut(end.last, end.term);
    return end.good;
}

static void history_append(struct fixture *f, struct prng *prng) {
    unsigned op = atomic_load(&history->issued) + 1;
    uint64_t first = history->last + 1, back = prng_below(prng, 4) == 0 ? prng_below(prng, 60) : 0;
    first = back < first ? first - back : 1;
    uint64_t last = first + prng_below(prng, 20);
    history->ops[op].first = first;
    history->ops[op].last = last;
    history->last = last;
    atomic_store(&history->issued, op);
    f->storage->ops->append(f->storage, fixture_records(first, last, op,
                                                        16 + (uint32_t)prng_below(prng, 1500), 5));
}

/* One life: opens, looks, appends, dies. Its status: 0 never, 3 and 4 = what was wrong. */
static void history_live(struct fixture *f, struct prng *prng, bool dies) {
    f->appended_sequence = 0;
    f->storage = storage_lmdb_open(&f->options, f->error, sizeof f->error);
    if (!f->storage) fprintf(stderr, "%s\n", f->error);
    if (!f->storage || !history_is_stored(f)) _exit(f->storage ? 4 : 3);
    unsigned base = atomic_load(&history->issued);
    for (uint64_t n = 1 + prng_below(prng, OPS_A_ROUND); n > 0; n--) {
        history_append(f, prng);
        if (prng_below(prng, 3) == 0) atomic_store(&gate->hold, prng_below(prng, 2) == 0);
        if (prng_below(prng, 3) == 0) fixture_nap();
        if (prng_below(prng, 2) == 0 && fixture_poll(f))
            atomic_store(&history->told, base + (unsigned)f->appended_sequence);
    }
    if (dies) kill(getpid(), SIGKILL);
    atomic_store(&gate->hold, false);
    fixture_close(f);
    atomic_store(&history->told, atomic_load(&history->issued));
    _exit(0);
}

/* Lives of one directory, one after the other, most of them killed. */
static void live_often(struct fixture *f, uint64_t seed, bool sometimes_without) {
    struct prng prng;
    history = fixture_share(sizeof *history);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        prng_seed(&prng, seed + round);
        bool dies = prng_below(&prng, 4) != 0;
        bool without = sometimes_without && prng_below(&prng, 6) == 0;
        f->options.journal_bytes = without ? 0 : BLOCKS * BLOCK;
        atomic_store(&gate->hold, false);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) history_live(f, &prng, dies);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
            fail_msg("round %d: status %d", (int)round, WEXITSTATUS(status));
    }
    munmap(history, sizeof *history);
}

static void any_history_is_found_again(void **state) { live_often(*state, 100, true); }

/* Truncations reach over several segments. (Without a journal a kill may leave less than was told
 * then: what a truncation that is under way takes away.) */
static void any_history_over_segments_is_found_again(void **state) {
    struct fixture *f = *state;
    f->options.segment_bytes_max = 1 << 16;
    open_with_journal(f);
    fixture_close(f);
    live_often(f, 500, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(is_told_and_read_before_it_is_in_the_log),
        TEST(a_kill_loses_nothing),
        TEST(a_kill_during_the_recovery_loses_nothing),
        TEST(a_truncation_behind_the_journals_begin_is_no_hole),
        TEST(a_truncation_that_waits_is_done_at_the_start),
        TEST(any_history_is_found_again),
        TEST(any_history_over_segments_is_found_again),
        TEST(a_tool_reads_what_a_kill_left),
        TEST(a_tool_beside_a_node_reads_the_truncation_that_waits),
        TEST(the_format_says_whether_the_log_is_whole),
        TEST(without_a_journal_it_is_emptied_and_removed),
        TEST(a_journal_without_the_log_before_it_is_refused),
        TEST(a_full_journal_waits_for_the_log),
        TEST(what_an_election_writes_needs_no_room),
        TEST(elections_on_a_full_disk_fill_the_journal),
        TEST(large_records_keep_their_turn),
        TEST(without_room_for_a_frame_it_goes_on_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
