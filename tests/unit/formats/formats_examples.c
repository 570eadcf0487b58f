#include "tests/unit/formats/formats_examples.h"

#include "actors/message_event.h"
#include "actors/order/order.h"
#include "actors/store/store.h"
#include "engine/base/check.h"
#include "persistence/record.h"
#include "tests/lib/page.h"
#include "tests/unit/formats/formats_disk.h"
#include "tests/unit/formats/formats_dump.h"
#include "tests/unit/formats/formats_fields.h"
#include "tests/unit/formats/formats_story.h"

static const char log_env[] = "log-00000000000000000001";

static struct dump dump_of(FILE *out, struct bytes value) {
    return (struct dump){out, value.data, value.size, 0};
}

static struct dump example_row(FILE *out, const char *env, const char *table, const void *key,
                               uint32_t key_bytes) {
    struct formats_row row = formats_disk_row(env, table, key, key_bytes);
    dump_key(out, row.key.data, row.key.size);
    return dump_of(out, row.value);
}

/* -- the log ------------------------------------------------------------------------------- */

static struct dump example_record(FILE *out, uint8_t index) {
    uint8_t key[8] = {[7] = index};
    struct dump d = example_row(out, log_env, NULL, key, sizeof key);
    require(record_fault(d.base, d.bytes, index) == NULL);
    dump_table(&d, "record_header", "");
    return d;
}

static void example_events(FILE *out) {
    struct dump d = example_record(out, 3);
    dump_table(&d, "entry_header", "");
    dump_event(&d, true);
    require(d.at == d.bytes);
}

static void example_barrier(FILE *out) {
    struct dump d = example_record(out, 2);
    dump_bytes(&d, d.bytes - d.at, "opaque");
}

static void example_configuration(FILE *out) {
    struct dump d = example_record(out, 1);
    dump_bytes(&d, d.bytes - d.at, "raft's encoding");
}

static void example_counts(FILE *out) {
    struct dump d = dump_of(out, formats_message(STORE_MESSAGE_COUNTS));
    dump_bytes(&d, d.bytes, "[1, [[\"store-7\", 1, 1]]]");
}

static void example_status(FILE *out) {
    struct dump d = dump_of(out, formats_message(STORE_MESSAGE_STATUS));
    dump_bytes(&d, d.bytes, "[2, [[\"store-7\", true, 1]]]");
}

static void example_moved(FILE *out) {
    struct dump d = dump_of(out, formats_message(STORE_MESSAGE_MOVED));
    dump_bytes(&d, 12, "[3, 12, 4");
    dump_bytes(&d, 10, ", [[\"store-7\"");
    dump_bytes(&d, d.bytes - d.at, ", its block]]]");
}

static void example_asked(FILE *out) {
    struct dump d = dump_of(out, formats_message(STORE_MESSAGE_ASKED));
    dump_bytes(&d, d.bytes, "[4, 12, 4, 2, 12]");
}

/* -- the state ----------------------------------------------------------------------------- */

static void example_block(FILE *out, enum formats_block which) {
    const struct actor *actor = formats_block(which);
    struct dump d = dump_of(out, bytes_of(actor, actor->bytes));
    dump_block(&d);
}

static void example_order(FILE *out) { example_block(out, FORMATS_ORDER); }
static void example_held(FILE *out) { example_block(out, FORMATS_HELD); }
static void example_store(FILE *out) { example_block(out, FORMATS_STORE); }
static void example_board(FILE *out) { example_block(out, FORMATS_BOARD); }

static void example_snapshot(FILE *out) {
    const struct actor *board = formats_block(FORMATS_BOARD);
    struct dump d = example_row(out, "state", "boards", board->key.bytes, 16);
    dump_table(&d, "snapshot_header", "");
    dump_bytes(&d, d.bytes - d.at, "the block");
}

static void example_timer(FILE *out) {
    struct dump d = example_row(out, "state", "timers", "\0", 1);
    dump_number(&d, 1, "kind");
}

static void example_cursor(FILE *out, const char *name, const char *const *labels,
                           unsigned count) {
    struct dump d = example_row(out, "state", "cursors", name, (uint32_t)strlen(name));
    dump_bytes(&d, 8, "checksum of name and value");
    for (unsigned i = 0; i < count; i++) dump_number(&d, 8, labels[i]);
    require(d.at == d.bytes);
}

static void example_stores(FILE *out) {
    static const char *const labels[] = {"applied index", "time of its entry"};
    example_cursor(out, "stores", labels, 2);
}

static void example_totals(FILE *out) {
    static const char *const labels[] = {
        "state 0, unused", "awaited", "placed", "paid", "accepted", "ready", "picked up",
        "delivered"};
    example_cursor(out, "totals.0", labels, 8);
}

static void example_peer(FILE *out) {
    static const char *const labels[] = {
        "acknowledged, newest sequence", "sent, newest sequence", "seen, newest sequence",
        "index of the oldest unacknowledged", "index of the newest seen"};
    example_cursor(out, "peer.1", labels, 5);
}

static void example_marker(FILE *out) {
    struct dump d = example_row(out, "state", "meta", "marker", 6);
    dump_table(&d, "marker_row", "");
    dump_bytes(&d, d.bytes - d.at, "the configuration");
}

static void example_identity(FILE *out) {
    struct dump d = example_row(out, "state", "meta", "identity", 8);
    dump_table(&d, "identity_row", "");
}

static void example_vote(FILE *out) {
    struct dump d = example_row(out, "vote", NULL, "vote", 4);
    dump_table(&d, "vote_row", "");
}

static void example_reached(FILE *out) {
    struct dump d = example_row(out, "vote", NULL, "reached", 7);
    dump_table(&d, "reached_row", "");
}

const struct formats_example formats_examples[] = {
    {"record", example_events},         {"barrier", example_barrier},
    {"configuration", example_configuration}, {"message: counts", example_counts},
    {"message: status", example_status}, {"message: moved", example_moved},
    {"message: asked", example_asked}, {"block: order", example_order},
    {"block: held", example_held},       {"block: store", example_store},
    {"block: board", example_board},     {"snapshot", example_snapshot},
    {"timer", example_timer},            {"cursor: stores", example_stores},
    {"cursor: totals.0", example_totals}, {"cursor: peer.1", example_peer},
    {"marker", example_marker},          {"identity", example_identity},
    {"vote", example_vote},             {"reached", example_reached},
};
const unsigned formats_examples_count = sizeof formats_examples / sizeof *formats_examples;

/* -- blocks of the page -------------------------------------------------------------------- */

static bool fill_hex(FILE *out, const char *name) {
    for (unsigned i = 0; i < formats_examples_count; i++)
        if (strcmp(formats_examples[i].name, name) == 0) {
            formats_examples[i].write(out);
            return true;
        }
    for (unsigned kind = 1; kind <= UINT8_MAX; kind++)
        if (dump_event_behind((uint8_t)kind) != NULL && strcmp(event_kind_name(kind), name) == 0) {
            const struct event *e = formats_event((uint8_t)kind);
            struct dump d = {out, (const uint8_t *)e, e->bytes, 0};
            dump_event(&d, false);
            return true;
        }
    return false;
}

static bool fill_fields(FILE *out, const char *name) {
    const struct format_table *table = format_table_find(name);
    if (table != NULL) format_table_print(out, table);
    return table != NULL;
}

static void list_event(FILE *out, uint8_t kind) {
    const char *table = dump_event_table(kind), *behind = dump_event_behind(kind);
    fprintf(out, "| %u | `%s` | ", kind, event_kind_name(kind));
    if (table == NULL) fputs("none | 0 | |\n", out);
    else
        fprintf(out, "`%s` | %u | %s |\n", table, format_table_find(table)->bytes, behind);
}

static bool fill_list(FILE *out, const char *name) {
    if (strcmp(name, "event kinds") == 0) {
        fputs("| kind | name | payload | bytes | behind it |\n"
              "| --- | --- | --- | --- | --- |\n", out);
#define X(name, number) list_event(out, number);
        EVENT_KINDS(X)
#undef X
        return true;
    }
    if (strcmp(name, "order states") != 0) return false;
    fputs("| state | name |\n| --- | --- |\n", out);
#define X(name, number) fprintf(out, "| %d | `%s` |\n", number, order_state_name(number));
    ORDER_STATES(X)
#undef X
    return true;
}

char *formats_fill(const char *page, char *error, size_t error_bytes) {
    static const struct page_block blocks[] = {{"```hex ", "```", fill_hex},
                                               {"<!-- fields ", "<!-- end -->", fill_fields},
                                               {"<!-- list ", "<!-- end -->", fill_list}};
    return page_fill(page, blocks, sizeof blocks / sizeof *blocks, error, error_bytes);
}
