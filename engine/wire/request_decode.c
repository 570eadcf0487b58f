#include "engine/wire/request_decode.h"

#include "actors/cluster/cluster.h"
#include "engine/base/check.h"
#include "engine/base/utf8.h"
#include "engine/limits.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/protocol.h"

enum {
    DECODE_LINE_BYTES_MIN = 1 + 2 + 1 + 1,     /* array, sku of one byte, quantity, unit price */
    DECODE_CANCELLATION_BYTES_MIN = 1 + 1 + 1, /* array, line, quantity */
    DECODE_FOUNDER_BYTES_MIN = 1 + 1 + 2 + 2   /* array, node, two addresses of one byte */
};
/* A list at fault gives its memory back; a chunk is left with less than one list unused. */
static_assert(BATCH_COMMANDS_MAX * sizeof(struct command) +
                      MESSAGE_BYTES_MAX / DECODE_LINE_BYTES_MIN * sizeof(struct order_line) +
                      WIRE_ARENA_CHUNKS_MAX * ORDER_LINES_MAX * sizeof(struct order_line) <=
                  WIRE_ARENA_BYTES_MAX,
              "the lines of a message that is right fit its arena");
static_assert(sizeof(struct cluster_founder) * DECODE_LINE_BYTES_MIN <=
                  sizeof(struct order_line) * DECODE_FOUNDER_BYTES_MIN,
              "nodes take less memory per byte than lines");
static_assert(sizeof(struct line_cancellation) * DECODE_LINE_BYTES_MIN <=
                  sizeof(struct order_line) * DECODE_CANCELLATION_BYTES_MIN,
              "cancellations take less memory per byte than lines");

/* The fields of one array, taken by position. The first fault stays; after it nothing is taken. */
struct decode_fields {
    struct msgpack_reader *reader;
    struct wire_arena *arena;
    uint32_t left;  /* values of this array not yet taken */
    uint16_t fault; /* enum result_code; 0 = none */
};

/* Broken structure gets any code here: skipping the command will meet it too and refuse the
 * message. */
static uint16_t decode_fault_of(enum msgpack_status status) {
    switch (status) {
    case MSGPACK_OK: return RESULT_OK;
    case MSGPACK_WRONG_TYPE: return RESULT_WRONG_TYPE;
    case MSGPACK_OUT_OF_RANGE: return RESULT_NUMBER_OUT_OF_RANGE;
    default: return RESULT_MALFORMED_COMMAND;
    }
}

/* Whether a value stands next. False when it is nil or left out, and after a fault. */
static inline bool decode_present(struct decode_fields *f) {
    if (f->fault != 0 || f->left == 0) return false;
    f->left--;
    return !msgpack_take_nil(f->reader);
}

static inline bool decode_required(struct decode_fields *f) {
    if (decode_present(f)) return true;
    if (f->fault == 0) f->fault = RESULT_FIELD_MISSING;
    return false;
}

static inline void decode_check(struct decode_fields *f, enum msgpack_status status) {
    if (__builtin_expect(status != MSGPACK_OK, 0)) f->fault = decode_fault_of(status);
}

static inline void decode_text_value(struct decode_fields *f, uint32_t size_max,
                                     struct bytes *text) {
    const void *data = NULL;
    uint32_t size = 0;
    decode_check(f, msgpack_read_str(f->reader, &data, &size));
    if (f->fault != 0) return;
    if (size > size_max) f->fault = RESULT_TEXT_TOO_LONG;
    else if (!utf8_is_valid(data, size)) f->fault = RESULT_TEXT_NOT_UTF8;
    else *text = bytes_of(data, size);
}

static inline struct bytes decode_text_optional(struct decode_fields *f, uint32_t size_max) {
    struct bytes text = {NULL, 0};
    if (decode_present(f)) decode_text_value(f, size_max, &text);
    return text;
}

/* An empty text counts as missing. */
static inline struct bytes decode_text(struct decode_fields *f, uint32_t size_max) {
    struct bytes text = {NULL, 0};
    if (decode_required(f)) decode_text_value(f, size_max, &text);
    if (f->fault == 0 && text.size == 0) f->fault = RESULT_FIELD_MISSING;
    return text;
}

static inline int64_t decode_int(struct decode_fields *f) {
    int64_t value = 0;
    if (decode_required(f)) decode_check(f, msgpack_read_int(f->reader, &value));
    return value;
}

static inline int64_t decode_int_optional(struct decode_fields *f) {
    int64_t value = 0;
    if (decode_present(f)) decode_check(f, msgpack_read_int(f->reader, &value));
    return value;
}

/* 0..max; 0 when absent. */
static inline uint64_t decode_uint_optional(struct decode_fields *f, uint64_t max) {
    uint64_t value = 0;
    if (decode_present(f)) decode_check(f, msgpack_read_uint_upto(f->reader, max, &value));
    return value;
}

static inline uint64_t decode_uint(struct decode_fields *f, uint64_t max) {
    uint64_t value = 0;
    if (decode_required(f)) decode_check(f, msgpack_read_uint_upto(f->reader, max, &value));
    return value;
}

/* One of the numbers 1..max. */
static inline uint8_t decode_enum(struct decode_fields *f, uint8_t max) {
    uint64_t value = decode_uint(f, max);
    if (f->fault == 0 && value == 0) f->fault = RESULT_NUMBER_OUT_OF_RANGE;
    return (uint8_t)value;
}

/* A bin of 16 bytes that stands next. */
static inline void decode_id_value(struct decode_fields *f, struct id128 *id) {
    const void *data = NULL;
    uint32_t size = 0;
    decode_check(f, msgpack_read_bin(f->reader, &data, &size));
    if (f->fault != 0) return;
    if (size != sizeof *id) f->fault = RESULT_MALFORMED_COMMAND;
    else memcpy(id, data, sizeof *id);
}

/* A list that stands next, of at most `count_max` items. */
static inline uint32_t decode_list_value(struct decode_fields *f, uint32_t count_max) {
    uint32_t count = 0;
    decode_check(f, msgpack_read_array(f->reader, &count));
    if (f->fault == 0 && count > count_max) f->fault = RESULT_TOO_MANY_ITEMS;
    return f->fault == 0 ? count : 0;
}

/* Memory for a list that stands next, whose items take `item_bytes` decoded and `wire_bytes` on the
 * wire at least; NULL after a fault, or when it is empty. Of a list that the rest of the message
 * cannot hold, *count goes no further than the item that must be at fault. */
static void *decode_list_room(struct decode_fields *f, uint32_t wire_bytes, size_t item_bytes,
                              uint32_t *count) {
    *count = decode_list_value(f, ORDER_LINES_MAX);
    if (*count == 0) return NULL;
    size_t held = msgpack_reader_left(f->reader) / wire_bytes;
    if (*count > held + 1) *count = (uint32_t)held + 1;
    void *items = wire_arena_take(f->arena, *count * item_bytes);
    if (items == NULL) f->fault = RESULT_OUT_OF_MEMORY;
    return items;
}

/* Opens an array inside; its faults come back with decode_close(). */
static inline struct decode_fields decode_open(struct decode_fields *f) {
    uint32_t count = decode_list_value(f, UINT32_MAX);
    return (struct decode_fields){f->reader, f->arena, count, f->fault};
}

static inline void decode_close(struct decode_fields *f, const struct decode_fields *inner) {
    f->fault = inner->fault;
    if (f->fault == 0 && inner->left > 0) f->fault = RESULT_MALFORMED_COMMAND;
}

static const struct order_line *decode_lines(struct decode_fields *f, uint32_t *lines_count) {
    if (!decode_required(f)) return NULL;
    uint32_t count = 0;
    struct order_line *lines =
        decode_list_room(f, DECODE_LINE_BYTES_MIN, sizeof *lines, &count);
    if (lines == NULL) return NULL;
    for (uint32_t i = 0; i < count && f->fault == 0; i++) {
        struct decode_fields line = decode_open(f);
        lines[i].sku = decode_text(&line, ID_TEXT_BYTES_MAX);
        lines[i].quantity = decode_int(&line);
        lines[i].unit_price = decode_int(&line);
        lines[i].name = decode_text_optional(&line, LINE_NAME_BYTES_MAX);
        decode_close(f, &line);
    }
    if (f->fault != 0) {
        wire_arena_give_back(f->arena, lines);
        return NULL;
    }
    *lines_count = count;
    return lines;
}

/* Absent = the whole order. An empty list asks for nothing, and is not taken for the whole. */
static const struct line_cancellation *decode_cancellations(struct decode_fields *f,
                                                            uint32_t *lines_count) {
    if (!decode_present(f)) return NULL;
    uint32_t count = 0;
    struct line_cancellation *lines =
        decode_list_room(f, DECODE_CANCELLATION_BYTES_MIN, sizeof *lines, &count);
    if (f->fault == 0 && count == 0) f->fault = RESULT_FIELD_MISSING;
    if (lines == NULL) return NULL;
    for (uint32_t i = 0; i < count && f->fault == 0; i++) {
        struct decode_fields line = decode_open(f);
        lines[i].line = (uint32_t)decode_uint(&line, UINT32_MAX);
        lines[i].quantity = decode_int(&line);
        decode_close(f, &line);
    }
    if (f->fault != 0) {
        wire_arena_give_back(f->arena, lines);
        return NULL;
    }
    *lines_count = count;
    return lines;
}

/* Anything but three bytes becomes "", which the order rules refuse as CURRENCY_INVALID. */
static void decode_currency(struct decode_fields *f, char currency[4]) {
    const void *data = NULL;
    uint32_t size = 0;
    if (!decode_required(f)) return;
    decode_check(f, msgpack_read_str(f->reader, &data, &size));
    if (f->fault == 0 && size == 3) memcpy(currency, data, 3);
}

static void decode_attributes(struct decode_fields *f, struct bytes *attributes) {
    const void *data = NULL;
    uint32_t size = 0;
    if (!decode_present(f)) return;
    decode_check(f, msgpack_read_bin(f->reader, &data, &size));
    if (f->fault != 0) return;
    if (size > ATTRIBUTES_BYTES_MAX) f->fault = RESULT_TEXT_TOO_LONG;
    else *attributes = bytes_of(data, size);
}

static void decode_place(struct decode_fields *f, struct command_place *place) {
    place->fulfilment = decode_enum(f, FULFILMENT_PARCEL);
    place->payment_timing = decode_enum(f, PAYMENT_ON_DELIVERY);
    decode_currency(f, place->currency);
    place->store = decode_text(f, ID_TEXT_BYTES_MAX);
    place->lines = decode_lines(f, &place->lines_count);
    place->fees = decode_int(f);
    place->discounts = decode_int(f);
    place->total = decode_int(f);
    place->customer = decode_text_optional(f, ID_TEXT_BYTES_MAX);
    place->group = decode_text_optional(f, ID_TEXT_BYTES_MAX);
    place->external_ref = decode_text_optional(f, EXTERNAL_REF_BYTES_MAX);
    decode_attributes(f, &place->attributes);
    place->payment_timeout_ms = (int64_t)decode_uint_optional(f, TIMEOUT_MS_MAX);
    place->acceptance_timeout_ms = (int64_t)decode_uint_optional(f, TIMEOUT_MS_MAX);
    place->auto_complete_ms = (int64_t)decode_uint_optional(f, TIMEOUT_MS_MAX);
}

static void decode_pay(struct decode_fields *f, struct command_pay *pay) {
    pay->state = decode_enum(f, PAYMENT_FAILED);
    pay->method = decode_text(f, ID_TEXT_BYTES_MAX);
    pay->reference = decode_text(f, ID_TEXT_BYTES_MAX);
    pay->amount = decode_int(f);
}

static void decode_cancel(struct decode_fields *f, struct command_cancel *cancel) {
    cancel->by = decode_enum(f, PARTY_SYSTEM);
    cancel->reason = decode_text_optional(f, REASON_BYTES_MAX);
    cancel->lines = decode_cancellations(f, &cancel->lines_count);
}

static void decode_amend(struct decode_fields *f, struct command_amend *amend) {
    amend->lines = decode_lines(f, &amend->lines_count);
    amend->fees = decode_int(f);
    amend->discounts = decode_int(f);
    amend->total = decode_int(f);
}

static const struct cluster_founder *decode_founders(struct decode_fields *f, uint32_t *count) {
    if (!decode_required(f)) return NULL;
    struct cluster_founder *nodes =
        decode_list_room(f, DECODE_FOUNDER_BYTES_MIN, sizeof *nodes, count);
    if (nodes == NULL) return NULL;
    if (*count > NODES_MAX) f->fault = RESULT_TOO_MANY_ITEMS;
    for (uint32_t i = 0; i < *count && f->fault == 0; i++) {
        struct decode_fields node = decode_open(f);
        nodes[i].node = (uint32_t)decode_uint(&node, UINT32_MAX);
        nodes[i].peer = decode_text(&node, ENDPOINT_BYTES_MAX - 1);
        nodes[i].client = decode_text(&node, ENDPOINT_BYTES_MAX - 1);
        decode_close(f, &node);
    }
    if (f->fault == 0) return nodes;
    wire_arena_give_back(f->arena, nodes);
    *count = 0;
    return NULL;
}

static void decode_form(struct decode_fields *f, struct command_cluster *c) {
    if (decode_required(f)) decode_id_value(f, &c->cluster_id);
    c->nodes = decode_founders(f, &c->nodes_count);
    c->shards = (uint32_t)decode_uint(f, UINT32_MAX);
    c->replicas = (uint32_t)decode_uint(f, UINT32_MAX);
    c->seeded = decode_uint_optional(f, 1) == 1;
    c->level = (uint8_t)decode_uint_optional(f, UINT8_MAX);
}

static void decode_raise_level(struct decode_fields *f, struct command_cluster *c) {
    c->level = (uint8_t)decode_uint(f, UINT8_MAX);
    if (!decode_required(f)) return;
    struct decode_fields list = decode_open(f);
    uint32_t count = list.left, *nodes = NULL;
    if (list.fault == 0 && count > NODES_MAX) list.fault = RESULT_TOO_MANY_ITEMS;
    if (list.fault == 0 && count > 0) {
        nodes = wire_arena_take(f->arena, count * sizeof *nodes);
        if (nodes == NULL) list.fault = RESULT_OUT_OF_MEMORY;
    }
    for (uint32_t i = 0; i < count && list.fault == 0; i++)
        nodes[i] = (uint32_t)decode_uint(&list, UINT32_MAX);
    decode_close(f, &list);
    c->supporting = nodes;
    c->supporting_count = f->fault == 0 ? count : 0;
}

static void decode_cluster(struct decode_fields *f, uint8_t kind, struct command_cluster *c) {
    switch (kind) {
    case COMMAND_CLUSTER_FORM: decode_form(f, c); return;
    case COMMAND_CLUSTER_RAISE_LEVEL: decode_raise_level(f, c); return;
    case COMMAND_CLUSTER_GROW:
        c->shards = (uint32_t)decode_uint(f, UINT32_MAX);
        c->from_ms = (int64_t)decode_uint(f, INT64_MAX);
        return;
    case COMMAND_CLUSTER_MOVE_REPLICA: case COMMAND_CLUSTER_PREFER:
    case COMMAND_CLUSTER_RETIRE_SHARD:
        c->shard = (uint32_t)decode_uint(f, UINT32_MAX);
        if (kind == COMMAND_CLUSTER_RETIRE_SHARD) return;
        c->node = (uint32_t)decode_uint(f, UINT32_MAX);
        if (kind == COMMAND_CLUSTER_MOVE_REPLICA) c->to = (uint32_t)decode_uint(f, UINT32_MAX);
        return;
    case COMMAND_CLUSTER_REMOVE_NODE: case COMMAND_CLUSTER_DRAIN: case COMMAND_CLUSTER_UNDRAIN:
        c->node = (uint32_t)decode_uint(f, UINT32_MAX);
        return;
    case COMMAND_CLUSTER_REPLACE_NODE: case COMMAND_CLUSTER_READDRESS_NODE:
    case COMMAND_CLUSTER_ADD_NODE:
        if (kind != COMMAND_CLUSTER_ADD_NODE) c->node = (uint32_t)decode_uint(f, UINT32_MAX);
        c->peer = decode_text(f, ENDPOINT_BYTES_MAX - 1);
        c->client = decode_text(f, ENDPOINT_BYTES_MAX - 1);
        return;
    default: return; /* the others have an empty body */
    }
}

static void decode_body(struct decode_fields *f, struct command *command) {
    if (command_is_for_cluster(command->kind)) {
        decode_cluster(f, command->kind, &command->cluster);
        return;
    }
    switch (command->kind) {
    case COMMAND_PLACE: decode_place(f, &command->place); break;
    case COMMAND_PAY: decode_pay(f, &command->pay); break;
    case COMMAND_ACCEPT:
        command->accept.preparation_minutes =
            (int64_t)decode_uint_optional(f, PREPARATION_MINUTES_MAX);
        break;
    case COMMAND_REJECT: command->reject.reason = decode_text_optional(f, REASON_BYTES_MAX); break;
    case COMMAND_ASSIGN_RIDER:
        command->assign_rider.rider = decode_text(f, ID_TEXT_BYTES_MAX);
        break;
    case COMMAND_CANCEL: decode_cancel(f, &command->cancel); break;
    case COMMAND_REFUND:
        command->refund.amount = decode_int_optional(f);
        command->refund.reason = decode_text_optional(f, REASON_BYTES_MAX);
        break;
    case COMMAND_AMEND: decode_amend(f, &command->amend); break;
    case COMMAND_ANNOTATE: command->annotate.note = decode_text(f, NOTE_BYTES_MAX); break;
    case COMMAND_HISTORY:
        command->history.limit = (uint32_t)decode_uint_optional(f, HISTORY_EVENTS_MAX);
        break;
    case COMMAND_STORE_PAUSE:
        command->store.reason = decode_text_optional(f, REASON_BYTES_MAX);
        break;
    default: break; /* the others have an empty body */
    }
}

/* Who may be asked for: 0 = nobody, the kind is unknown. */
enum decode_subject { DECODE_UNKNOWN = 0, DECODE_ORDER, DECODE_STORE, DECODE_NODE,
                      DECODE_CLUSTER };

static enum decode_subject decode_subject_of(uint64_t kind) {
    /* The engine's own, like the kinds below that are left out: stores move by a handover. */
    if (kind == COMMAND_CLUSTER_MOVE_STORES) return DECODE_UNKNOWN;
    if (kind <= UINT8_MAX && command_is_for_cluster((uint8_t)kind)) return DECODE_CLUSTER;
    switch (kind) {
    case COMMAND_PLACE: case COMMAND_PAY: case COMMAND_ACCEPT: case COMMAND_REJECT:
    case COMMAND_MARK_READY: case COMMAND_ASSIGN_RIDER: case COMMAND_UNASSIGN_RIDER:
    case COMMAND_PICK_UP: case COMMAND_DELIVER: case COMMAND_COMPLETE: case COMMAND_CANCEL:
    case COMMAND_REFUND: case COMMAND_AMEND: case COMMAND_ANNOTATE: case COMMAND_GET:
    case COMMAND_HISTORY: return DECODE_ORDER;
    case COMMAND_STORE_PAUSE: case COMMAND_STORE_RESUME: case COMMAND_STORE_GET:
        return DECODE_STORE;
    case NODE_COMMAND_PING: case NODE_COMMAND_SHARD_MAP: case NODE_COMMAND_STATUS:
    case NODE_COMMAND_CLUSTER_DOCUMENT: return DECODE_NODE;
    default: return DECODE_UNKNOWN; /* the engine's own kinds among them */
    }
}

static void decode_subject(struct decode_fields *f, enum decode_subject subject,
                           struct command *command) {
    if (subject == DECODE_STORE) {
        command->store.store = decode_text(f, ID_TEXT_BYTES_MAX);
    } else if (subject == DECODE_ORDER) {
        if (decode_present(f)) decode_id_value(f, &command->subject);
        if (f->fault == 0 && id128_is_zero(&command->subject)) f->fault = RESULT_KEY_MISSING;
    } else if (decode_present(f)) {
        f->fault = RESULT_MALFORMED_COMMAND;
    }
    if (subject == DECODE_CLUSTER) command->subject = cluster_key();
}

static void decode_command_fields(struct decode_fields *f, struct command *command) {
    uint64_t kind = decode_uint(f, UINT64_MAX);
    if (f->fault != 0) return;
    enum decode_subject subject = decode_subject_of(kind);
    if (subject == DECODE_UNKNOWN) {
        f->fault = RESULT_UNKNOWN_COMMAND;
        return;
    }
    command->kind = (uint8_t)kind;
    decode_subject(f, subject, command);
    struct id128 id = {{0}};
    if (decode_present(f)) decode_id_value(f, &id);
    if (subject != DECODE_NODE && !command_is_read(command->kind)) {
        if (f->fault == 0 && id128_is_zero(&id)) f->fault = RESULT_COMMAND_ID_MISSING;
        command->id = id;
    }
    command->expected_version = (uint32_t)decode_uint_optional(f, UINT32_MAX);
    struct decode_fields body = {f->reader, f->arena, 0, f->fault};
    if (decode_present(f)) body = decode_open(f);
    decode_body(&body, command);
    decode_close(f, &body);
    if (decode_present(f)) decode_id_value(f, &command->trace);
}

/* False when the structure itself is broken. */
static bool decode_command(struct msgpack_reader *reader, struct wire_arena *arena,
                           struct command *command) {
    const uint8_t *start = reader->at;
    *command = (struct command){0};
    struct decode_fields nothing = {reader, arena, 0, 0};
    struct decode_fields fields = decode_open(&nothing);
    decode_command_fields(&fields, command);
    decode_close(&nothing, &fields);
    command->malformed = nothing.fault;
    if (__builtin_expect(nothing.fault != 0, 0)) {
        reader->at = start;
        if (msgpack_skip(reader) != MSGPACK_OK) return false;
    }
    if (reader->at - start > (ptrdiff_t)COMMAND_BYTES_MAX)
        command->malformed = RESULT_COMMAND_TOO_LARGE;
    return true;
}

/* What stands behind the commands, if anything. */
static bool decode_flags(struct msgpack_reader *reader, uint32_t fields, uint64_t *flags) {
    if (fields < 4 || msgpack_take_nil(reader)) return true;
    return msgpack_read_uint(reader, flags) == MSGPACK_OK && (*flags & ~REQUEST_FLAGS_KNOWN) == 0;
}

static bool decode_cluster_id(struct msgpack_reader *reader, uint32_t fields, struct id128 *id) {
    if (fields < 5 || msgpack_take_nil(reader)) return true;
    struct decode_fields nothing = {reader, NULL, 0, 0};
    decode_id_value(&nothing, id);
    return nothing.fault == 0 && !id128_is_zero(id);
}

enum result_code request_decode(const void *message, size_t size, struct wire_arena *arena,
                                struct wire_request *request) {
    if (size > MESSAGE_BYTES_MAX) return RESULT_MESSAGE_TOO_LARGE;
    struct msgpack_reader reader;
    msgpack_reader_init(&reader, message, size);
    uint32_t fields, count;
    uint64_t version, deadline_ms = 0, flags = 0;
    struct id128 cluster_id = {{0}};
    if (msgpack_read_array(&reader, &fields) != MSGPACK_OK) return RESULT_MALFORMED_MESSAGE;
    if (msgpack_read_uint(&reader, &version) != MSGPACK_OK) return RESULT_MALFORMED_MESSAGE;
    if (version != PROTOCOL_VERSION) return RESULT_UNSUPPORTED_VERSION;
    if (fields < 3 || fields > 5) return RESULT_MALFORMED_MESSAGE;
    if (!msgpack_take_nil(&reader) &&
        msgpack_read_uint_upto(&reader, INT64_MAX, &deadline_ms) != MSGPACK_OK)
        return RESULT_MALFORMED_MESSAGE;
    if (msgpack_read_array(&reader, &count) != MSGPACK_OK || count == 0)
        return RESULT_MALFORMED_MESSAGE;
    if (count > BATCH_COMMANDS_MAX) return RESULT_BATCH_TOO_LARGE;
    /* A usual line takes about as many bytes on the wire as decoded. */
    struct command *commands = NULL;
    if (wire_arena_reserve(arena, count * sizeof *commands + 2 * size))
        commands = wire_arena_take(arena, count * sizeof *commands);
    if (commands == NULL) return RESULT_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        if (!decode_command(&reader, arena, &commands[i])) return RESULT_MALFORMED_MESSAGE;
    if (!decode_flags(&reader, fields, &flags) || !decode_cluster_id(&reader, fields, &cluster_id))
        return RESULT_MALFORMED_MESSAGE;
    if (msgpack_reader_left(&reader) != 0) return RESULT_MALFORMED_MESSAGE;
    *request = (struct wire_request){(int64_t)deadline_ms, commands, count, (uint32_t)flags,
                                     cluster_id};
    return RESULT_OK;
}

void request_spans(const void *message, size_t size, struct bytes *spans) {
    struct msgpack_reader reader;
    uint32_t fields, count;
    msgpack_reader_init(&reader, message, size);
    bool good = msgpack_read_array(&reader, &fields) == MSGPACK_OK &&
                msgpack_skip(&reader) == MSGPACK_OK && msgpack_skip(&reader) == MSGPACK_OK &&
                msgpack_read_array(&reader, &count) == MSGPACK_OK;
    for (uint32_t i = 0; good && i < count; i++) {
        const uint8_t *from = reader.at;
        good = msgpack_skip(&reader) == MSGPACK_OK;
        spans[i] = bytes_of(from, (size_t)(reader.at - from));
    }
    require(good);
}
