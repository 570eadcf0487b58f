/* The store actor, the board notes, and the messages between shards. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <setjmp.h>

#include <cmocka.h>

#include "actors/store/store.h"
#include "actors/store/store_event.h"
#include "engine/limits.h"

static struct actor *store;
static _Alignas(8) uint8_t turn[8192];
static struct event_sink sink;
static uint64_t index_now;

static int setup(void **unused) {
    store = NULL;
    index_now = 10;
    return 0;
}
static int teardown(void **unused) {
    free(store);
    return 0;
}

static struct id128 id_of(uint8_t n) { return (struct id128){{9, n}}; }

static struct command store_command(uint8_t kind, uint8_t id) {
    struct command c = {.kind = kind, .id = id_of(id)};
    c.store.store = bytes_of_text("store-0001");
    c.store.reason = bytes_of_text("oven broke");
    c.subject = store_key(c.store.store, false);
    return c;
}

static struct actor *grown(struct actor *actor, uint32_t room) {
    struct actor *block = calloc(1, room);
    assert_non_null(block);
    if (actor) memcpy(block, actor, actor->bytes);
    free(actor);
    return block;
}

static struct decision run(struct command c) {
    struct decide_context context = {.index = index_now, .now_ms = 1000};
    sink = (struct event_sink){.data = turn, .capacity = sizeof turn};
    struct decision d = store_decide(store, &c, &context, &sink);
    uint32_t offset = 0;
    const struct event *event;
    while ((event = event_next(turn, sink.size, &offset))) {
        struct apply_context applied = {.index = index_now++, .time_ms = 1000};
        assert_true(store_event_is_well_formed(event));
        assert_int_equal(event->prev_index, store ? store->last_index : 0);
        store = grown(store, store_bytes_after(store, event));
        store_apply(store, event, &applied);
        assert_true(store_is_well_formed(store, store->bytes));
        assert_int_equal(store->version, d.version);
    }
    return d;
}

static void stores_pause_and_resume(void **unused) {
    assert_int_equal(run(store_command(COMMAND_STORE_GET, 0)).code, RESULT_STORE_NOT_FOUND);
    assert_int_equal(run(store_command(COMMAND_STORE_RESUME, 1)).code, RESULT_STORE_NOT_FOUND);
    assert_int_equal(run(store_command(COMMAND_STORE_PAUSE, 2)).code, RESULT_OK);
    struct store_view view;
    store_view(store, &view);
    assert_true(view.paused);
    assert_true(bytes_equal(view.id, bytes_of_text("store-0001")));
    assert_true(bytes_equal(view.pause_reason, bytes_of_text("oven broke")));
    assert_true(id128_equal(&store->key, &(struct id128[]){store_key(view.id, false)}[0]));
    assert_int_equal(run(store_command(COMMAND_STORE_PAUSE, 3)).code, RESULT_STORE_ALREADY_PAUSED);
    struct decision again = run(store_command(COMMAND_STORE_PAUSE, 2));
    assert_int_equal(again.code, RESULT_OK);
    assert_true(again.repeated);
    assert_int_equal(again.version, 1);
    assert_int_equal(run(store_command(COMMAND_STORE_RESUME, 2)).code, RESULT_COMMAND_ID_REUSED);
    assert_int_equal(run(store_command(COMMAND_STORE_RESUME, 4)).code, RESULT_OK);
    assert_int_equal(run(store_command(COMMAND_STORE_RESUME, 5)).code, RESULT_STORE_NOT_PAUSED);
    store_view(store, &view);
    assert_false(view.paused);
    assert_int_equal(view.pause_reason.size, 0);
    assert_int_equal(view.version, 2);
    assert_int_equal(run(store_command(COMMAND_STORE_GET, 0)).code, RESULT_OK);
}

static void stores_refuse_what_is_malformed(void **unused) {
    static const char text[REASON_BYTES_MAX + 1] = {'x'};
    struct command c = store_command(COMMAND_STORE_PAUSE, 1);
    c.malformed = RESULT_WRONG_TYPE;
    assert_int_equal(run(c).code, RESULT_WRONG_TYPE);
    assert_int_equal(run(store_command(COMMAND_PLACE, 1)).code, RESULT_UNKNOWN_COMMAND);
    c = store_command(COMMAND_STORE_PAUSE, 1);
    c.store.store.size = 0;
    assert_int_equal(run(c).code, RESULT_FIELD_MISSING);
    c.store.store = bytes_of(text, ID_TEXT_BYTES_MAX + 1);
    assert_int_equal(run(c).code, RESULT_TEXT_TOO_LONG);
    c = store_command(COMMAND_STORE_PAUSE, 1);
    c.store.reason = bytes_of(text, sizeof text);
    assert_int_equal(run(c).code, RESULT_TEXT_TOO_LONG);
    c = store_command(COMMAND_STORE_PAUSE, 1);
    c.id = (struct id128){{0}};
    assert_int_equal(run(c).code, RESULT_COMMAND_ID_MISSING);
    c = store_command(COMMAND_STORE_PAUSE, 1);
    c.expected_version = 3;
    assert_int_equal(run(c).code, RESULT_VERSION_CONFLICT);
    assert_null(store);
}

static void stores_forget_the_oldest_ids(void **unused) {
    for (uint8_t i = 1; i <= 80; i++) {
        uint8_t kind = i % 2 ? COMMAND_STORE_PAUSE : COMMAND_STORE_RESUME;
        assert_int_equal(run(store_command(kind, i)).code, RESULT_OK);
    }
    assert_true(store->bytes < 1000);
    for (uint8_t i = 49; i <= 80; i++) {
        uint8_t kind = i % 2 ? COMMAND_STORE_PAUSE : COMMAND_STORE_RESUME;
        assert_int_equal(run(store_command(kind, i)).version, i);
        assert_int_equal(sink.size, 0);
    }
    assert_int_equal(run(store_command(COMMAND_STORE_RESUME, 48)).code, RESULT_STORE_NOT_PAUSED);
}

static void stores_count_their_orders(void **unused) {
    struct apply_context context = {.index = 3, .time_ms = 5};
    struct store_news news = {.store = bytes_of_text("store-0001"), .open_change = 5, .placed = 7};
    store = grown(NULL, store_news_bytes(NULL, &news));
    store_apply_news(store, STORE_MESSAGE_COUNTS, &news, &context);
    news.open_change = -4;
    news.placed = 1;
    assert_int_equal(store_news_bytes(store, &news), store->bytes);
    store_apply_news(store, STORE_MESSAGE_COUNTS, &news, &context);
    struct store_view view;
    store_view(store, &view);
    assert_int_equal(view.open_orders, 1);
    assert_int_equal(view.placed_orders, 8);
    assert_int_equal(view.version, 2);
    assert_int_equal(view.last_index, 3);
    assert_false(view.paused);
    assert_int_equal(run(store_command(COMMAND_STORE_PAUSE, 2)).version, 3);
    store_view(store, &view);
    assert_int_equal(view.open_orders, 1);
    assert_true(store_is_well_formed(store, store->bytes));
    assert_false(store_is_well_formed(store, store->bytes - 1));
}

static void boards_note_the_newest_status(void **unused) {
    struct apply_context context = {.index = 3, .time_ms = 5};
    struct store_news news = {.store = bytes_of_text("s9"), .paused = true, .version = 4};
    store = grown(NULL, store_news_bytes(NULL, &news));
    store_apply_news(store, STORE_MESSAGE_STATUS, &news, &context);
    assert_int_equal(store->kind, ACTOR_BOARD);
    assert_int_equal(store->state, STORE_IS_PAUSED);
    news.paused = false;
    news.version = 3; /* older */
    store_apply_news(store, STORE_MESSAGE_STATUS, &news, &context);
    assert_int_equal(store->state, STORE_IS_PAUSED);
    assert_int_equal(store->version, 1);
    news.version = 5;
    store_apply_news(store, STORE_MESSAGE_STATUS, &news, &context);
    assert_int_equal(store->state, STORE_RUNNING);
    assert_int_equal(store->version, 2);
    assert_true(store_is_well_formed(store, store->bytes));
}

static void reserved_kinds_are_refused(void **unused) {
    assert_int_equal(run(store_command(COMMAND_STORE_PAUSE, 1)).code, RESULT_OK);
    struct event *event = (struct event *)sink.data;
    assert_true(store_event_is_well_formed(event));
    for (unsigned kind = 80; kind <= 89; kind++) {
        event->kind = (uint8_t)kind;
        assert_false(store_event_is_well_formed(event));
        assert_string_equal(event_kind_name(kind), "unknown");
    }
}

static void keys_of_store_and_note_differ(void **unused) {
    struct id128 key = store_key(bytes_of_text("s"), false);
    struct id128 note = store_key(bytes_of_text("s"), true);
    struct id128 other = store_key(bytes_of_text("t"), false);
    assert_false(id128_equal(&key, &note));
    assert_false(id128_equal(&key, &other));
    assert_false(id128_is_zero(&key));
}

/* -- messages -------------------------------------------------------------------------------- */

static struct store_news seen[STORE_MESSAGE_ITEMS_MAX];
static uint32_t seen_count, seen_max;

static bool see(void *arg, const struct store_news *item) {
    seen[seen_count++] = *item;
    return seen_count < seen_max;
}

static uint8_t message[1 << 18];

static void check_round_trip(uint8_t kind, const struct store_news *items, uint32_t count) {
    uint8_t got = 0;
    uint32_t size = store_message_encode(kind, items, count, message, sizeof message);
    assert_true(size > 0);
    assert_int_equal(store_message_encode(kind, items, count, message, size), size);
    assert_int_equal(store_message_encode(kind, items, count, message, size - 1), 0);
    store_message_encode(kind, items, count, message, size);
    seen_count = 0;
    seen_max = UINT32_MAX;
    assert_true(store_message_decode(bytes_of(message, size), &got, see, NULL));
    assert_int_equal(got, kind);
    assert_int_equal(seen_count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(bytes_equal(seen[i].store, items[i].store));
        assert_int_equal(seen[i].open_change, items[i].open_change);
        assert_int_equal(seen[i].placed, items[i].placed);
        assert_int_equal(seen[i].paused, items[i].paused);
        assert_int_equal(seen[i].version, items[i].version);
    }
    if (size > 4096) return;
    for (uint32_t cut = 0; cut < size; cut++) {
        assert_false(store_message_decode(bytes_of(message, cut), &got, see, NULL));
    }
    message[size] = 0;
    assert_false(store_message_decode(bytes_of(message, size + 1), &got, see, NULL));
}

static void messages_survive_the_way(void **unused) {
    static char long_id[ID_TEXT_BYTES_MAX];
    static struct store_news many[STORE_MESSAGE_ITEMS_MAX];
    memset(long_id, 'i', sizeof long_id);
    struct store_news counts[] = {
        {.store = bytes_of_text("a"), .open_change = 0, .placed = 0},
        {.store = bytes_of_text("b"), .open_change = 127, .placed = 128},
        {.store = bytes_of(long_id, 31), .open_change = -32, .placed = 70000},
        {.store = bytes_of(long_id, 32), .open_change = -33, .placed = UINT32_MAX},
        {.store = bytes_of(long_id, 64), .open_change = INT32_MIN, .placed = 1},
        {.store = bytes_of_text("c"), .open_change = INT32_MAX, .placed = 1}};
    struct store_news status[] = {{.store = bytes_of_text("a"), .paused = true, .version = 1},
                                  {.store = bytes_of_text("b"), .version = UINT32_MAX}};
    check_round_trip(STORE_MESSAGE_COUNTS, counts, 6);
    check_round_trip(STORE_MESSAGE_STATUS, status, 2);
    check_round_trip(STORE_MESSAGE_STATUS, status, 0);
    for (uint32_t i = 0; i < STORE_MESSAGE_ITEMS_MAX; i++) many[i] = counts[i % 6];
    check_round_trip(STORE_MESSAGE_COUNTS, many, STORE_MESSAGE_ITEMS_MAX);
}

static void messages_are_read_strictly(void **unused) {
    static const struct { const char *bytes; uint32_t size; bool good; } cases[] = {
        {"\x92\x01\x91\x93\xa1s\x01\x01", 8, true},
        {"\x92\x01\x91\x93\xa1s\xd0\xff\xcd\x01\x00", 11, true}, /* other widths of integers */
        {"\x92\x01\x91\x93\xd9\x01s\xd3\xff\xff\xff\xff\xff\xff\xff\xff\x01", 17, true},
        {"\x92\x02\x91\x93\xa1s\xc3\x01", 8, true},
        {"\x92\x02\x91\x93\xa1s\x01\x01", 8, false},       /* paused must be bool */
        {"\x92\x03\x91\x93\xa1s\x01\x01", 8, false},       /* kind */
        {"\x92\x01\x91\x94\xa1s\x01\x01\x01", 9, false},   /* one field too many */
        {"\x92\x01\x91\x93\xa0\x01\x01", 7, false},        /* empty id */
        {"\x92\x01\x91\x93\xa1s\x01\xff", 8, false},       /* negative count */
        {"\x92\x01\x91\x93\xa1s\xd3\x7f\xff\xff\xff\xff\xff\xff\xff\x01", 16, false},
        {"\x92\x01\xdd\xff\xff\xff\xff", 7, false},        /* four thousand million items */
        {"\x93\x01\x90\x90", 4, false},
        {"\x92\x01\xc0", 3, false},
        {"", 0, false}};
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t kind;
        seen_count = 0;
        seen_max = UINT32_MAX;
        bool good =
            store_message_decode(bytes_of(cases[i].bytes, cases[i].size), &kind, see, NULL);
        if (good != cases[i].good) fail_msg("case %u", i);
        assert_int_equal(seen_count, good);
    }
}

static void visits_stop_when_asked(void **unused) {
    struct store_news items[3] = {{.store = bytes_of_text("a")},
                                  {.store = bytes_of_text("b")},
                                  {.store = bytes_of_text("c")}};
    uint32_t size = store_message_encode(STORE_MESSAGE_COUNTS, items, 3, message, sizeof message);
    uint8_t kind;
    seen_count = 0;
    seen_max = 2;
    assert_false(store_message_decode(bytes_of(message, size), &kind, see, NULL));
    assert_int_equal(seen_count, 2);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        case_of(stores_pause_and_resume),
        case_of(stores_refuse_what_is_malformed),
        case_of(stores_forget_the_oldest_ids),
        case_of(stores_count_their_orders),
        case_of(boards_note_the_newest_status),
        case_of(reserved_kinds_are_refused),
        case_of(keys_of_store_and_note_differ),
        case_of(messages_survive_the_way),
        case_of(messages_are_read_strictly),
        case_of(visits_stop_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
