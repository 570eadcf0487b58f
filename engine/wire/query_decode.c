#include "engine/wire/query_decode.h"

#include "actors/command.h"
#include "engine/base/clock.h"
#include "engine/base/utf8.h"
#include "engine/limits.h"
#include "engine/wire/feed_protocol.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/order_fields.h"

static_assert(ORDER_FIELDS_COUNT <= QUERY_FIELDS_MAX, "all fields may be asked for");
static_assert(QUERY_BATCH_MAX * (sizeof(struct query) + QUERY_FIELDS_MAX) +
                      2 * MESSAGE_BYTES_MAX * sizeof(struct query_token) / 3 <=
                  WIRE_ARENA_BYTES_MAX,
              "the queries of a message fit its arena");

/* The fields of one array, taken by position. The first fault stays; after it nothing is taken. */
struct fields {
    struct msgpack_reader *reader;
    struct wire_arena *arena;
    uint32_t left;
    uint16_t fault;            /* enum result_code */
    const char *why;           /* NULL = the fault's own sentence will do */
};

/* What was just taken is wrong, for this reason, unless something before was. */
static void blame(struct fields *f, bool wrong, uint16_t fault, const char *why) {
    if (!wrong || f->why) return;
    if (f->fault == 0) f->fault = fault;
    f->why = why;
}

static void check(struct fields *f, enum msgpack_status status) {
    if (status == MSGPACK_OK) return;
    f->fault = status == MSGPACK_WRONG_TYPE     ? RESULT_WRONG_TYPE
               : status == MSGPACK_OUT_OF_RANGE ? RESULT_NUMBER_OUT_OF_RANGE
                                                : RESULT_MALFORMED_COMMAND;
}

static bool present(struct fields *f) {
    if (f->fault != 0 || f->left == 0) return false;
    f->left--;
    return !msgpack_take_nil(f->reader);
}

static bool required(struct fields *f) {
    if (present(f)) return true;
    if (f->fault == 0) f->fault = RESULT_FIELD_MISSING;
    return false;
}

static struct bytes take_bin(struct fields *f, uint32_t size_max, uint16_t too_long) {
    const void *data = NULL;
    uint32_t size = 0;
    check(f, msgpack_read_bin(f->reader, &data, &size));
    if (f->fault == 0 && size > size_max) f->fault = too_long;
    return f->fault == 0 ? bytes_of(data, size) : (struct bytes){NULL, 0};
}

static struct bytes take_text(struct fields *f, uint32_t size_max) {
    const void *data = NULL;
    uint32_t size = 0;
    check(f, msgpack_read_str(f->reader, &data, &size));
    if (f->fault == 0 && size > size_max) f->fault = RESULT_TEXT_TOO_LONG;
    if (f->fault == 0 && !utf8_is_valid(data, size)) f->fault = RESULT_TEXT_NOT_UTF8;
    return f->fault == 0 ? bytes_of(data, size) : (struct bytes){NULL, 0};
}

static struct bytes take_name(struct fields *f, uint32_t size_max) {
    struct bytes name = {NULL, 0};
    if (required(f)) name = take_text(f, size_max);
    if (f->fault == 0 && name.size == 0) f->fault = RESULT_FIELD_MISSING;
    return name;
}

static int64_t take_int_or(struct fields *f, int64_t otherwise) {
    int64_t value = otherwise;
    if (present(f)) check(f, msgpack_read_int(f->reader, &value));
    return value;
}

static uint64_t take_uint_upto(struct fields *f, uint64_t max) {
    uint64_t value = 0;
    if (required(f)) check(f, msgpack_read_uint_upto(f->reader, max, &value));
    return value;
}

static uint32_t take_list(struct fields *f, uint32_t count_max) {
    uint32_t count = 0;
    check(f, msgpack_read_array(f->reader, &count));
    if (f->fault == 0 && count > count_max) f->fault = RESULT_TOO_MANY_ITEMS;
    return f->fault == 0 ? count : 0;
}

static void take_field_names(struct fields *f, struct query *q) {
    if (!present(f)) return;
    uint32_t count = take_list(f, QUERY_FIELDS_MAX);
    if (f->fault == 0 && count == 0) f->fault = RESULT_FIELD_MISSING;
    if (f->fault != 0) return;
    uint8_t *fields = wire_arena_take(f->arena, QUERY_FIELDS_MAX);
    if (!fields) f->fault = RESULT_OUT_OF_MEMORY;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < count && f->fault == 0; i++) {
        const void *name = NULL;
        uint32_t size = 0;
        check(f, msgpack_read_str(f->reader, &name, &size));
        if (f->fault != 0) break;
        int field = order_field_of(bytes_of(name, size));
        /* A field that comes twice would let a row grow beyond the bound of an order. */
        if (field < 0 || seen & 1ull << field) {
            f->fault = field < 0 ? RESULT_FIELD_UNKNOWN : RESULT_MALFORMED_COMMAND;
            if (field < 0) q->culprit = bytes_of(name, size);
            else f->why = "a field is asked for twice";
            break;
        }
        seen |= 1ull << field;
        fields[i] = (uint8_t)field;
    }
    if (f->fault != 0) return;
    q->fields = fields;
    q->fields_count = (uint8_t)count;
}

static void check_state(struct fields *f, uint64_t state) {
    blame(f, f->fault != 0 || state < ORDER_AWAITED || state > ORDER_EXPIRED,
          RESULT_NUMBER_OUT_OF_RANGE, "a state is a number from 1 (awaited) to 11 (expired)");
}

static void take_states(struct fields *f, struct query *q) {
    if (!present(f)) return;
    uint32_t count = take_list(f, 16);
    for (uint32_t i = 0; i < count && f->fault == 0; i++) {
        uint64_t state = 0;
        check(f, msgpack_read_uint_upto(f->reader, 15, &state));
        if (f->fault == 0 || f->fault == RESULT_NUMBER_OUT_OF_RANGE) check_state(f, state);
        q->states |= (uint16_t)(1u << state);
    }
}

static void take_limit(struct fields *f, struct query *q) {
    q->limit = QUERY_ROWS_DEFAULT;
    if (!present(f)) return;
    uint64_t limit = 0;
    check(f, msgpack_read_uint_upto(f->reader, QUERY_ROWS_MAX, &limit));
    blame(f, f->fault != 0 || limit == 0, RESULT_NUMBER_OUT_OF_RANGE, "a limit is 1 to 1000 rows");
    q->limit = (uint32_t)limit;
}

static void take_page(struct fields *f, struct query *q) {
    take_limit(f, q);
    if (present(f)) q->cursor = take_bin(f, QUERY_CURSOR_BYTES_MAX, RESULT_CURSOR_INVALID);
}

/* [[shard, index], ...] that stands next. */
static struct query_token *take_tokens(struct fields *f, uint32_t *count) {
    *count = take_list(f, QUERY_TOKENS_MAX);
    if (f->fault != 0 || *count == 0) return NULL;
    struct query_token *tokens = wire_arena_take(f->arena, *count * sizeof *tokens);
    if (!tokens) f->fault = RESULT_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < *count && f->fault == 0; i++) {
        uint64_t shard = 0;
        uint32_t items = 0;
        check(f, msgpack_read_array(f->reader, &items));
        if (f->fault == 0 && items != 2) f->fault = RESULT_MALFORMED_COMMAND;
        if (f->fault != 0) break;
        check(f, msgpack_read_uint_upto(f->reader, UINT16_MAX, &shard));
        if (f->fault != 0) break;
        check(f, msgpack_read_uint(f->reader, &tokens[i].index));
        tokens[i].shard = (uint32_t)shard;
    }
    if (f->fault == 0) return tokens;
    *count = 0;
    return NULL;
}

static void take_get(struct fields *f, struct query *q) {
    if (!required(f)) return;
    struct bytes key = take_bin(f, 16, RESULT_MALFORMED_COMMAND);
    if (f->fault == 0 && key.size != 16) f->fault = RESULT_MALFORMED_COMMAND;
    if (f->fault != 0) return;
    memcpy(q->key.bytes, key.data, 16);
    if (id128_is_zero(&q->key)) f->fault = RESULT_KEY_MISSING;
    take_field_names(f, q);
    /* A command's expected version, body and trace: a read has none of them. */
    while (f->fault == 0 && f->left > 0) {
        uint32_t items = 1;
        if (!present(f)) continue;
        if (msgpack_read_array(f->reader, &items) != MSGPACK_OK || items != 0)
            f->fault = RESULT_MALFORMED_COMMAND;
    }
}

static void take_multi_get(struct fields *f, struct query *q) {
    if (!required(f)) return;
    q->subject = take_bin(f, QUERY_KEYS_MAX * 16, RESULT_TOO_MANY_ITEMS);
    if (f->fault == 0 && q->subject.size % 16 != 0) f->fault = RESULT_MALFORMED_COMMAND;
    if (f->fault == 0 && q->subject.size == 0) f->fault = RESULT_KEY_MISSING;
    take_field_names(f, q);
}

static void take_range(struct fields *f, struct query *q) {
    q->from_ms = take_int_or(f, INT64_MIN);
    q->to_ms = take_int_or(f, INT64_MAX);
}

static void take_counters(struct fields *f, struct query *q) {
    q->bucket_ms = (uint32_t)take_uint_upto(f, 86400000);
    blame(f, f->fault != 0 || (q->bucket_ms != 60000 && q->bucket_ms != 86400000),
          RESULT_NUMBER_OUT_OF_RANGE, "a bucket is 60000 ms (a minute) or 86400000 ms (a day)");
    take_range(f, q);
    if (present(f)) q->subject = take_text(f, ID_TEXT_BYTES_MAX);
    take_states(f, q);
    take_page(f, q);
}

static void take_watch(struct fields *f, struct query *q) {
    q->subject = take_name(f, FEED_TOPIC_BYTES_MAX);
    if (present(f)) {
        q->since = take_tokens(f, &q->since_count);
        q->has_since = f->fault == 0;
    }
    take_field_names(f, q);
    take_limit(f, q);
}

/* The commands of orders, stores and the cluster, the reads among them left out. */
static bool changes_something(uint16_t kind) {
    return kind > 0 && kind < 140 && (kind < NODE_COMMAND_PING || kind >= 110) &&
           !command_is_read((uint8_t)kind);
}

static void take_body(struct fields *f, struct query *q) {
    switch (q->kind) {
    case QUERY_GET: take_get(f, q); break;
    case QUERY_MULTI_GET: take_multi_get(f, q); break;
    case QUERY_BY_REF: q->subject = take_name(f, EXTERNAL_REF_BYTES_MAX); goto rows;
    case QUERY_CUSTOMER_ORDERS: q->subject = take_name(f, ID_TEXT_BYTES_MAX); goto rows;
    case QUERY_EXPORT: q->snapshot = take_uint_upto(f, UINT64_MAX); goto rows;
    case QUERY_STORE_BOARD:
        q->subject = take_name(f, ID_TEXT_BYTES_MAX);
        take_states(f, q);
        goto rows;
    case QUERY_STATE_ORDERS:
        q->state = (uint8_t)take_uint_upto(f, 15);
        if (f->fault == 0) check_state(f, q->state);
        take_range(f, q);
        goto rows;
    case QUERY_COUNTERS: take_counters(f, q); break;
    case QUERY_WATCH: take_watch(f, q); break;
    case QUERY_REBUILD: q->subject = take_name(f, ID_TEXT_BYTES_MAX); break;
    case NODE_COMMAND_PING:
    case NODE_COMMAND_SHARD_MAP:
    case NODE_COMMAND_STATUS:
        while (f->fault == 0 && f->left > 0) {
            if (present(f)) f->fault = RESULT_MALFORMED_COMMAND;
        }
        break;
    default:
        f->fault = changes_something(q->kind) ? RESULT_READ_ONLY : RESULT_UNKNOWN_COMMAND;
        if (q->kind <= UINT8_MAX && command_is_read((uint8_t)q->kind))
            f->why = "a replica keeps no histories and no stores: ask a node for this kind";
        else if (f->fault == RESULT_UNKNOWN_COMMAND)
            f->why = "no such kind of query: 20, 100 to 102 and 200 to 208 are answered here";
    }
    return;
rows:
    take_field_names(f, q);
    take_page(f, q);
}

/* False when the message itself is broken. */
static bool take_query(struct msgpack_reader *r, struct wire_arena *arena, struct query *q) {
    struct msgpack_reader behind = *r;
    if (msgpack_skip(&behind) != MSGPACK_OK) return false;
    struct fields f = {.reader = r, .arena = arena};
    uint64_t kind = 0;
    *q = (struct query){.from_ms = INT64_MIN, .to_ms = INT64_MAX};
    check(&f, msgpack_read_array(r, &f.left));
    if (f.fault == 0 && !required(&f)) f.fault = RESULT_FIELD_MISSING;
    if (f.fault == 0) check(&f, msgpack_read_uint_upto(r, UINT16_MAX, &kind));
    q->kind = (uint16_t)kind;
    if (f.fault == 0) take_body(&f, q);
    blame(&f, f.fault == 0 && f.left != 0, RESULT_MALFORMED_COMMAND,
          "the query has more fields than its kind");
    q->fault = f.fault;
    q->why = f.why;
    *r = behind;
    return true;
}

/* A message that was made for nodes may name their cluster at this place. */
static int64_t take_max_age(struct fields *f) {
    struct msgpack_reader *r = f->reader;
    if (f->left == 0 || msgpack_peek(r) != MSGPACK_TYPE_BIN) return take_int_or(f, -1);
    f->left--;
    if (take_bin(f, 16, RESULT_MALFORMED_MESSAGE).size != 16 && f->fault == 0)
        f->fault = RESULT_MALFORMED_MESSAGE;
    return -1;
}

enum result_code query_decode(const void *message, size_t size, struct wire_arena *arena,
                              struct query_request *request) {
    struct msgpack_reader r;
    struct query_request q = {.max_age_ms = -1};
    uint32_t items = 0, count = 0;
    uint64_t version = 0;
    if (size > MESSAGE_BYTES_MAX) return RESULT_MESSAGE_TOO_LARGE;
    msgpack_reader_init(&r, message, size);
    if (msgpack_read_array(&r, &items) != MSGPACK_OK || items == 0) return RESULT_MALFORMED_MESSAGE;
    if (msgpack_read_uint(&r, &version) != MSGPACK_OK) return RESULT_MALFORMED_MESSAGE;
    if (version != PROTOCOL_VERSION) return RESULT_UNSUPPORTED_VERSION;
    if (items < 3 || items > 5) return RESULT_MALFORMED_MESSAGE;
    struct fields f = {.reader = &r, .arena = arena, .left = items - 1};
    q.deadline_ms = take_int_or(&f, 0);
    if (q.deadline_ms < -QUERY_WAIT_MS_MAX) q.deadline_ms = -QUERY_WAIT_MS_MAX;
    if (q.deadline_ms < 0) q.deadline_ms = clock_unix_ms() - q.deadline_ms;
    if (!required(&f) || msgpack_read_array(&r, &count) != MSGPACK_OK || count == 0)
        return RESULT_MALFORMED_MESSAGE;
    if (count > QUERY_BATCH_MAX) return RESULT_BATCH_TOO_LARGE;
    q.queries = wire_arena_take(arena, count * sizeof *q.queries);
    if (!q.queries) return RESULT_OUT_OF_MEMORY;
    q.queries_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!take_query(&r, arena, &q.queries[i])) return RESULT_MALFORMED_MESSAGE;
    }
    if (present(&f)) q.at_least = take_tokens(&f, &q.at_least_count);
    q.max_age_ms = take_max_age(&f);
    if (f.fault == RESULT_OUT_OF_MEMORY) return RESULT_OUT_OF_MEMORY;
    if (f.fault != 0 || msgpack_reader_left(&r) != 0) return RESULT_MALFORMED_MESSAGE;
    *request = q;
    return RESULT_OK;
}
