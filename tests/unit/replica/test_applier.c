/* Views against the plainest fold of the same logs: after random batches, lost ones, restarts,
 * rebuilds and kills, in memory and on disk; and moments that are held while the views go on.
 *
 *   test_applier             all seeds of the suite
 *   test_applier <seed>      one run; the seed that a failure prints */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/check.h"
#include "engine/replica/applier.h"
#include "tests/unit/replica/history_world.h"

enum { RUNS = 25, KILLS = 12 };

static char directory[64];
static struct view_store *store;
static struct applier *applier;
static struct history history;
static uint64_t next_seed = 1;
static uint32_t changes_told;

static void on_changed(void *arg, const struct fold_order *order) {
    assert_non_null(order->block);
    changes_told++;
}

static void open_all(uint64_t memory_bytes) {
    char error[512] = "";
    const struct view_store_options options = {.directory = directory, .map_bytes = 1u << 30};
    store = view_store_open(&options, error, sizeof error);
    if (!store) fail_msg("%s", error);
    const struct applier_options how = {.store = store, .memory_bytes = memory_bytes,
                                        .minutes_kept_ms = INT64_MAX / 4, .changed = on_changed};
    applier = applier_new(&how, error, sizeof error);
    if (!applier) fail_msg("%s", error);
}

static void close_all(void) {
    applier_free(applier);
    view_store_close(store);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    return remove(path);
}

static int set_up(void **state) {
    snprintf(directory, sizeof directory, "/tmp/jumun-views-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) { return nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

static void positions_of(uint64_t positions[HISTORY_SHARDS]) {
    for (uint32_t s = 0; s < HISTORY_SHARDS; s++) positions[s] = applier_next(applier, s) - 1;
}

/* A random stretch of what a shard has not applied; sometimes with entries before it again. */
static bool take_some(struct history *h, uint32_t shard) {
    char error[512] = "";
    uint64_t first = applier_next(applier, shard), last = h->logs[shard].last;
    size_t bytes;
    if (first > last) return false;
    uint64_t count = 1 + history_random(h, 20);
    if (first + count - 1 < last) last = first + count - 1;
    if (history_random(h, 5) == 0) first = 1 + history_random(h, (uint32_t)first);
    const void *records = history_records(h, shard, first, last, &bytes);
    enum applier_outcome outcome =
        applier_take(applier, shard, records, bytes, error, sizeof error);
    if (outcome != APPLIER_TAKEN) fail_msg("outcome %d: %s", outcome, error);
    return true;
}

/* Between publications: nothing; or one step on the way to the disk; or all of it. */
static void write_some(struct history *h) {
    switch (history_random(h, 6)) {
    case 0: assert_int_equal(applier_settle(applier), APPLIER_TAKEN); break;
    case 1: applier_freeze(applier); break;
    case 2: assert_int_equal(applier_write(applier), APPLIER_TAKEN); break;
    default: break;
    }
}

static void one_publication(struct history *h) {
    assert_true(applier_begin(applier));
    for (uint32_t n = 1 + history_random(h, 4); n > 0; n--)
        take_some(h, history_random(h, HISTORY_SHARDS));
    if (history_random(h, 6) == 0) applier_abort(applier);
    else assert_int_equal(applier_commit(applier), APPLIER_TAKEN);
    write_some(h);
}

static void apply_all(struct history *h, bool writing) {
    bool more = true;
    while (more) {
        more = false;
        assert_true(applier_begin(applier));
        for (uint32_t s = 0; s < HISTORY_SHARDS; s++) more |= take_some(h, s);
        assert_int_equal(applier_commit(applier), APPLIER_TAKEN);
        if (writing) write_some(h);
    }
}

/* One moment, held on to while the views go on. */
struct moment { bool held; struct view_read read; uint64_t positions[HISTORY_SHARDS]; };

static void hold(struct moment *m) {
    assert_true(view_read_begin(store, &m->read));
    positions_of(m->positions);
    m->held = true;
}

static void check_held(struct moment *m) {
    if (!m->held) return;
    history_check_read(&history, m->positions, store, &m->read);
    view_read_end(store, &m->read);
    m->held = false;
}

static void views_are_the_fold_of_the_logs(void **state) {
    uint64_t positions[HISTORY_SHARDS], runs = *state ? 1 : RUNS;
    for (uint64_t i = 0; i < runs; i++) {
        uint64_t seed = next_seed++;
        print_message("seed %llu\n", (unsigned long long)seed);
        assert_int_equal(set_up(NULL), 0);
        history_init(&history, seed);
        uint64_t memory = history_random(&history, 3) == 0 ? 1 : 1u << 20;
        open_all(memory);
        for (int round = 0; round < 6; round++) {
            history_grow(&history, 60);
            struct moment moment = {.held = false};
            uint32_t from = history_random(&history, 6), until = from + history_random(&history, 3);
            for (uint32_t t = 0; t < 6; t++) {
                if (t == from) hold(&moment);
                one_publication(&history);
                if (t == until) check_held(&moment);
            }
            check_held(&moment);
            positions_of(positions);
            history_check(&history, positions, store);
            if (history_random(&history, 2) == 0) {
                if (history_random(&history, 2) == 0)
                    assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
                close_all();
                open_all(memory);
                positions_of(positions);
                history_check(&history, positions, store);
            }
            if (history_random(&history, 3) == 0)
                applier_rebuild(applier, (enum view_number)history_random(&history, VIEWS_COUNT));
        }
        apply_all(&history, true);
        positions_of(positions);
        for (uint32_t s = 0; s < HISTORY_SHARDS; s++)
            assert_int_equal(positions[s], history.logs[s].last);
        history_check(&history, positions, store);
        assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
        history_check(&history, positions, store);
        close_all();
        history_fini(&history);
        tear_down(NULL);
    }
    assert_true(changes_told > 0);
}

static void an_order_that_is_not_written_is_not_counted(void **state) {
    uint64_t before[HISTORY_SHARDS], after[HISTORY_SHARDS];
    history_init(&history, 99);
    open_all(0);
    history_grow(&history, 50);
    assert_true(applier_begin(applier));
    for (uint32_t s = 0; s < HISTORY_SHARDS; s++) take_some(&history, s);
    assert_int_equal(applier_commit(applier), APPLIER_TAKEN);
    positions_of(before);
    assert_true(applier_begin(applier));
    for (uint32_t s = 0; s < HISTORY_SHARDS; s++) take_some(&history, s);
    applier_abort(applier);
    positions_of(after);
    assert_memory_equal(before, after, sizeof before);
    history_check(&history, before, store);
    close_all();
    history_fini(&history);
}

static void what_is_missing_is_refused(void **state) {
    char error[512] = "";
    size_t bytes;
    history_init(&history, 7);
    open_all(0);
    history_grow(&history, 60);
    uint64_t last = history.logs[0].last;
    const void *records = history_records(&history, 0, 3, last, &bytes);
    assert_true(applier_begin(applier));
    assert_int_equal(applier_take(applier, 0, records, bytes, error, sizeof error), APPLIER_GAP);
    assert_non_null(strstr(error, "came instead of 1"));
    applier_abort(applier);
    assert_int_equal(applier_next(applier, 0), 1);
    /* A record whose event does not follow on its order. */
    struct history_log *log = &history.logs[0];
    for (uint64_t i = 1; i <= last; i++) {
        void *at = log->bytes + log->offsets[i - 1];
        struct record_header *r = at;
        struct entry_header *entry = (struct entry_header *)(void *)(r + 1);
        if (r->type != RECORD_EVENTS || entry->events_count == 0) continue;
        ((struct event *)(void *)(entry + 1))->version += 5;
        break;
    }
    records = history_records(&history, 0, 1, last, &bytes);
    assert_true(applier_begin(applier));
    assert_int_equal(applier_take(applier, 0, records, bytes, error, sizeof error),
                     APPLIER_DAMAGED);
    applier_abort(applier);
    close_all();
    history_fini(&history);
}

/* How large files may grow; 0 = as large as they like. */
static void bound_files(rlim_t bytes) {
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Whose orders they are is not lost with the transaction that found no room for it. */
static void a_full_disk_does_not_forget_the_cluster(void **state) {
    static const char id[] = "0123456789abcdef0123456789abcdef";
    uint64_t positions[HISTORY_SHARDS];
    history_init(&history, 6);
    open_all(0);
    history_grow(&history, 400);
    applier_identify(applier, id);
    apply_all(&history, false);
    assert_true(applier_freeze(applier));
    bound_files(view_store_bytes(store));
    assert_int_equal(applier_write(applier), APPLIER_NO_ROOM);
    bound_files(0);
    assert_int_equal(applier_write(applier), APPLIER_TAKEN);
    positions_of(positions);
    history_check(&history, positions, store);
    close_all();
    open_all(0);
    assert_string_equal(store->cluster_id, id);
    close_all();
    history_fini(&history);
}

/* A stored state without any order. */
static void make_empty_state(const char *path) {
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi orders;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 2), 0);
    assert_int_equal(mdb_env_open(env, path, MDB_NOSUBDIR, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "orders", MDB_CREATE, &orders), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* All steps, and the disk's in between. */
static enum applier_outcome import_all(uint32_t shard, const char *path, uint64_t index,
                                       char *error, size_t error_bytes) {
    struct applier_import *import;
    enum applier_import_state state = APPLIER_IMPORT_GOES_ON;
    enum applier_outcome outcome =
        applier_import_begin(applier, shard, path, index, &import, error, error_bytes);
    while (outcome == APPLIER_TAKEN && state != APPLIER_IMPORT_DONE) {
        outcome = applier_import_step(import, &state, error, error_bytes);
        if (state == APPLIER_IMPORT_WAITS)
            assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
    }
    if (import) applier_import_end(import);
    return outcome;
}

/* What lies between it and the views would be counted once more, and be gone until then. */
static void a_state_that_is_older_is_not_imported(void **state) {
    char error[512] = "", path[128];
    uint64_t positions[HISTORY_SHARDS];
    snprintf(path, sizeof path, "%s/state", directory);
    make_empty_state(path);
    history_init(&history, 5);
    open_all(0);
    history_grow(&history, 200);
    apply_all(&history, false);
    uint64_t last = history.logs[0].last;
    assert_int_equal(import_all(0, path, last - 1, error, sizeof error),
                     APPLIER_GAP);
    assert_non_null(strstr(error, "older"));
    positions_of(positions);
    assert_int_equal(positions[0], last);
    assert_int_equal(applier_lacks(applier, 0), VIEW_BUILDING);
    assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
    history_check(&history, positions, store);
    assert_int_equal(import_all(0, path, last, error, sizeof error), APPLIER_TAKEN);
    assert_int_equal(applier_lacks(applier, 0), VIEW_WHOLE);
    close_all();
    history_fini(&history);
}

/* More of the first shard, written; then another start. */
static void take_some_and_open_again(void) {
    assert_true(applier_begin(applier));
    take_some(&history, 0);
    assert_int_equal(applier_commit(applier), APPLIER_TAKEN);
    assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
    close_all();
    open_all(0);
}

/* A shard that is begun from nothing is not whole before it has been up to date once, also over a
 * restart in between; from then on it is. */
static void a_shard_is_whole_once_it_was_up_to_date(void **state) {
    history_init(&history, 9);
    open_all(0);
    history_grow(&history, 60);
    assert_int_equal(applier_lacks(applier, 0), VIEW_BUILDING);
    take_some_and_open_again();
    assert_true(applier_next(applier, 0) > 1);
    assert_int_equal(applier_lacks(applier, 0), VIEW_BUILDING);
    apply_all(&history, true);
    assert_true(applier_begin(applier));
    applier_up_to_date(applier, 0);
    assert_int_equal(applier_commit(applier), APPLIER_TAKEN);
    assert_int_equal(applier_lacks(applier, 0), VIEW_WHOLE);
    assert_int_equal(applier_lacks(applier, 1), VIEW_BUILDING);
    history_grow(&history, 60);
    take_some_and_open_again();
    assert_int_equal(applier_lacks(applier, 0), VIEW_WHOLE);
    close_all();
    history_fini(&history);
}

/* Of all stores, by days; nothing else is asked of. */
static int64_t orders_that_came_into(uint8_t state) {
    MDB_dbi table;
    MDB_cursor *cursor;
    MDB_val key, value;
    struct view_read read;
    int64_t orders = 0;
    assert_true(view_read_begin(store, &read));
    assert_true(view_table_of(store, &read, VIEW_COUNTERS, &table));
    assert_int_equal(mdb_cursor_open(read.txn, table, &cursor), 0);
    for (int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct view_counters_row row;
        int64_t numbers[VIEW_NUMBERS];
        assert_true(view_counters_read(bytes_of(key.mv_data, key.mv_size), &row));
        memcpy(numbers, value.mv_data, sizeof numbers);
        if (row.bucket_ms == 86400000 && row.store.size == 0 && row.state == state)
            orders += numbers[0];
    }
    mdb_cursor_close(cursor);
    view_read_end(store, &read);
    return orders;
}

/* Placed and paid at once, or back to `placed` by a change of lines: it was placed once. */
static void each_order_is_counted_as_placed_once(void **state) {
    int64_t placed = 0, paid_at_once = 0, placed_again = 0;
    history_init(&history, 31);
    history_grow(&history, 900);
    for (uint32_t s = 0; s < HISTORY_SHARDS; s++) {
        for (uint64_t i = 1; i <= history.logs[s].last; i++) {
            size_t bytes;
            const struct record_header *r = history_records(&history, s, i, i, &bytes);
            const struct entry_header *entry = (const void *)(r + 1);
            uint32_t offset = 0, size = r->payload_bytes - (uint32_t)sizeof *entry;
            const struct event *e;
            while (r->type == RECORD_EVENTS && (e = event_next(entry + 1, size, &offset))) {
                bool placing = e->kind == EVENT_ORDER_PLACED;
                placed += placing;
                paid_at_once += placing && e->state_after == ORDER_PAID;
                placed_again += !placing && e->state_after == ORDER_PLACED &&
                                e->state_before != ORDER_PLACED;
            }
        }
    }
    assert_true(paid_at_once > 0 && placed_again > 0 && placed > paid_at_once);
    open_all(1u << 20);
    apply_all(&history, true);
    assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
    assert_int_equal(orders_that_came_into(ORDER_PLACED), placed);
    close_all();
    history_fini(&history);
}

/* Totals of orders are their callers' words: however many large ones make no sum negative. */
static void sums_stay_at_the_end_of_what_fits(void **state) {
    struct sums sums = {0};
    const struct view_sum large = {.key_bytes = 10, .numbers = {1, INT64_MAX - 1, 0, -3}};
    struct overlay *table = overlay_new(1, 0);
    assert_non_null(table);
    for (uint64_t number = 1; number <= 3; number++) {
        assert_true(sums_add(&sums, &large));
        assert_true(overlay_reserve(table, 0, 0, 1, 0, 0));
        overlay_add(table, VIEW_COUNTERS, &sums, &sums.entries[0], number);
    }
    const struct overlay_number *n =
        overlay_number_at(atomic_load(&table->sums[VIEW_COUNTERS]), 3);
    assert_int_equal(sums.entries[0].numbers[0], 3);
    assert_true(sums.entries[0].numbers[1] == INT64_MAX);
    assert_int_equal(n->numbers[0], 1 + 2 + 3);
    assert_true(n->numbers[1] == INT64_MAX);
    assert_int_equal(n->numbers[3], -3 - 6 - 9);
    overlay_free(table);
    sums_fini(&sums);
}

static void old_minutes_go(void **state) {
    char error[512] = "";
    const struct view_store_options options = {.directory = directory, .map_bytes = 1u << 30};
    MDB_dbi table;
    MDB_cursor *cursor;
    MDB_val key, value;
    history_init(&history, 21);
    store = view_store_open(&options, error, sizeof error);
    assert_non_null(store);
    const struct applier_options how = {.store = store, .minutes_kept_ms = 86400000};
    applier = applier_new(&how, error, sizeof error);
    assert_non_null(applier);
    history_grow(&history, 600);
    apply_all(&history, false);
    struct view_read read;
    assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
    assert_true(view_read_begin(store, &read));
    assert_true(view_table_of(store, &read, VIEW_COUNTERS, &table));
    assert_int_equal(mdb_cursor_open(read.txn, table, &cursor), 0);
    uint32_t minutes = 0, days = 0;
    for (int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); rc == 0;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct view_counters_row row;
        assert_true(view_counters_read(bytes_of(key.mv_data, key.mv_size), &row));
        if (row.bucket_ms == 60000) {
            minutes++;
            assert_true(row.start_ms >= history.now_ms - 2 * 86400000ll);
        } else {
            days++;
        }
    }
    assert_true(minutes > 0 && days > minutes / 100);
    mdb_cursor_close(cursor);
    view_read_end(store, &read);
    close_all();
    history_fini(&history);
}

/* -- readers beside it ------------------------------------------------------------------------- */

static atomic_bool readers_stop;
static atomic_uint readers_looks;

/* One moment: each row of `changes` names an order whose newest event is the row's, and is not
 * behind its shard's position; each such order has one row by state. */
static void look_once(void) {
    struct view_read read;
    struct view_cursor cursor;
    const struct overlay_group all = {.by = OVERLAY_ALL};
    const void *rows = NULL;
    uint64_t at[HISTORY_SHARDS] = {0};
    uint32_t changes = 0, by_state = 0;
    require(view_read_begin(store, &read));
    uint32_t count = view_positions(store, &read, &rows);
    for (uint32_t i = 0; i < count; i++) {
        struct view_position p;
        memcpy(&p, (const uint8_t *)rows + i * sizeof p, sizeof p);
        at[p.shard] = p.index;
    }
    int rc = view_cursor_open(&cursor, store, &read, VIEW_CHANGES, &all);
    require(rc == 0);
    for (bool more = view_cursor_seek(&cursor, "", 0); more; more = view_cursor_next(&cursor)) {
        const uint8_t *end = (const uint8_t *)cursor.key.data + cursor.key.size;
        struct id128 key;
        struct bytes block;
        struct actor head;
        uint32_t shard;
        memcpy(key.bytes, end - 16, 16);
        bool there = view_order_get(store, &read, &key, &block, &shard);
        require(there && block.size >= sizeof head);
        memcpy(&head, block.data, sizeof head);
        require(head.last_index == view_get_u64(end - 24));
        require(shard == view_get_u32(end - 28) && head.last_index <= at[shard]);
        changes++;
    }
    view_cursor_close(&cursor);
    rc = view_cursor_open(&cursor, store, &read, VIEW_BY_STATE, &all);
    require(rc == 0);
    for (bool more = view_cursor_seek(&cursor, "", 0); more; more = view_cursor_next(&cursor))
        by_state++;
    view_cursor_close(&cursor);
    require(by_state == changes);
    view_read_end(store, &read);
}

static void *reader_main(void *arg) {
    while (!atomic_load(&readers_stop)) {
        look_once();
        atomic_fetch_add(&readers_looks, 1);
    }
    return NULL;
}

static void *writer_main(void *arg) {
    while (!atomic_load(&readers_stop)) {
        if (applier_write(applier) != APPLIER_TAKEN) return arg;
        sched_yield();
    }
    return NULL;
}

static void readers_see_one_moment_while_it_goes_on(void **state) {
    pthread_t threads[3];
    void *failed = NULL;
    history_init(&history, 31);
    history_grow(&history, 1200);
    open_all(1u << 18);
    atomic_store(&readers_stop, false);
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, i == 0 ? writer_main : reader_main, &threads), 0);
    for (bool more = true; more;) {
        more = false;
        assert_true(applier_begin(applier));
        for (uint32_t s = 0; s < HISTORY_SHARDS; s++) more |= take_some(&history, s);
        assert_int_equal(applier_commit(applier), APPLIER_TAKEN);
        if (history_random(&history, 4) == 0) applier_freeze(applier);
        usleep(500);
    }
    while (atomic_load(&readers_looks) < 10) usleep(1000);
    atomic_store(&readers_stop, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    uint64_t positions[HISTORY_SHARDS];
    positions_of(positions);
    history_check(&history, positions, store);
    assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
    history_check(&history, positions, store);
    close_all();
    history_fini(&history);
}

/* The child: applies until it is killed, or done. */
static _Noreturn void apply_until_killed(struct history *h, int started) {
    open_all(1u << 16);
    if (write(started, "s", 1) != 1) _exit(2);
    for (;;) {
        assert_true(applier_begin(applier));
        bool more = false;
        for (uint32_t s = 0; s < HISTORY_SHARDS; s++) more |= take_some(h, s);
        if (applier_commit(applier) != APPLIER_TAKEN) _exit(3);
        write_some(h);
        if (!more) _exit(applier_settle(applier) == APPLIER_TAKEN ? 0 : 3);
        usleep(200);
    }
}

static void a_kill_loses_whole_transactions_only(void **state) {
    uint64_t positions[HISTORY_SHARDS], before[HISTORY_SHARDS] = {0};
    uint32_t killed = 0;
    history_init(&history, 4711);
    history_grow(&history, 1500);
    for (int i = 0; i < KILLS; i++) {
        int ends[2], status;
        char byte;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) apply_until_killed(&history, ends[1]);
        assert_int_equal(read(ends[0], &byte, 1), 1);
        usleep(history_random(&history, 8000));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        killed += WIFSIGNALED(status);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        close(ends[0]);
        close(ends[1]);
        open_all(1u << 16);
        positions_of(positions);
        for (uint32_t s = 0; s < HISTORY_SHARDS; s++) assert_true(positions[s] >= before[s]);
        history_check(&history, positions, store);
        memcpy(before, positions, sizeof before);
        close_all();
    }
    print_message("%u of %d were killed at work\n", killed, KILLS);
    history_fini(&history);
}

static void another_boot_throws_the_views_away(void **state) {
    uint64_t positions[HISTORY_SHARDS];
    char path[128];
    history_init(&history, 5);
    open_all(0);
    history_grow(&history, 40);
    apply_all(&history, true);
    assert_int_equal(applier_settle(applier), APPLIER_TAKEN);
    close_all();
    open_all(0); /* closed in good order: kept */
    positions_of(positions);
    assert_true(positions[0] > 0);
    close_all();
    snprintf(path, sizeof path, "%s/boot", directory);
    FILE *boot = fopen(path, "w");
    assert_non_null(boot);
    fputs("00000000-0000-0000-0000-000000000000", boot);
    fclose(boot);
    open_all(0);
    positions_of(positions);
    assert_int_equal(positions[0], 0);
    apply_all(&history, true);
    positions_of(positions);
    history_check(&history, positions, store);
    close_all();
    history_fini(&history);
}

int main(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN);
    uint64_t one = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    if (one) next_seed = one;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(views_are_the_fold_of_the_logs, one ? &one : NULL),
        cmocka_unit_test_setup_teardown(an_order_that_is_not_written_is_not_counted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_missing_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_does_not_forget_the_cluster, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_state_that_is_older_is_not_imported, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shard_is_whole_once_it_was_up_to_date, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(each_order_is_counted_as_placed_once, set_up, tear_down),
        cmocka_unit_test(sums_stay_at_the_end_of_what_fits),
        cmocka_unit_test_setup_teardown(old_minutes_go, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_see_one_moment_while_it_goes_on, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_kill_loses_whole_transactions_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_boot_throws_the_views_away, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("applier", tests, NULL, NULL);
}
