#include "clients/sdk/command_encode.h"

#include <stdio.h>
#include <stdlib.h>

#include "clients/sdk/key.h"
#include "engine/limits.h"
#include "engine/wire/protocol.h"

/* -- what is wrong with it --------------------------------------------------------------------- */

static const char *lines_fault(const jumun_line *lines, uint32_t count) {
    if (count > 0 && !lines) return "lines_count is not 0, but lines is NULL";
    if (count > ORDER_LINES_MAX) return "an order has at most 2,048 lines";
    for (uint32_t i = 0; i < count; i++)
        if (!lines[i].sku) return "a line needs a sku";
    return NULL;
}

static const char *place_fault(const jumun_place *p) {
    if (!p->currency) return "a place needs a currency";
    if (!p->store) return "a place needs a store";
    if (p->attributes_bytes > 0 && !p->attributes)
        return "attributes_bytes is not 0, but attributes is NULL";
    if (p->attributes_bytes > ATTRIBUTES_BYTES_MAX) return "attributes are over 4,096 bytes";
    return lines_fault(p->lines, p->lines_count);
}

static const char *body_fault(const jumun_command *c) {
    switch (c->kind) {
    case JUMUN_PLACE: return place_fault(&c->place);
    case JUMUN_PAY:
        if (!c->pay.method) return "a payment needs a method";
        return c->pay.reference ? NULL : "a payment needs a reference";
    case JUMUN_ASSIGN_RIDER: return c->assign_rider.rider ? NULL : "the rider is missing";
    case JUMUN_CANCEL:
        if (c->cancel.lines_count > 0 && !c->cancel.lines)
            return "lines_count is not 0, but lines is NULL";
        return c->cancel.lines_count > ORDER_LINES_MAX ? "an order has at most 2,048 lines" : NULL;
    case JUMUN_AMEND: return lines_fault(c->amend.lines, c->amend.lines_count);
    case JUMUN_ANNOTATE: return c->annotate.note ? NULL : "the note is missing";
    case JUMUN_ACCEPT: case JUMUN_REJECT: case JUMUN_MARK_READY: case JUMUN_UNASSIGN_RIDER:
    case JUMUN_PICK_UP: case JUMUN_DELIVER: case JUMUN_COMPLETE: case JUMUN_REFUND:
    case JUMUN_GET: case JUMUN_HISTORY:
    case JUMUN_STORE_PAUSE: case JUMUN_STORE_RESUME: case JUMUN_STORE_GET:
    case JUMUN_NODE_PING: case JUMUN_NODE_SHARD_MAP: case JUMUN_NODE_STATUS: return NULL;
    }
    return "the library does not know this kind of command";
}

const char *command_encode_fault(const jumun_command *c) {
    const char *fault = body_fault(c);
    if (fault) return fault;
    if (command_is_for_store(c->kind) && !c->store_id) return "the store id is missing";
    if (!command_is_for_store(c->kind) && !command_is_for_node(c->kind) && key_is_zero(&c->order))
        return "the order key is zero";
    return NULL;
}

/* -- how long it is ---------------------------------------------------------------------------- */

static size_t text_bytes(const char *text) {
    return MSGPACK_HEADER_BYTES_MAX + (text ? strlen(text) : 0);
}

static size_t lines_bytes(const jumun_line *lines, uint32_t count) {
    size_t n = MSGPACK_HEADER_BYTES_MAX;
    for (uint32_t i = 0; i < count; i++)
        n += 1 + 2 * MSGPACK_INT_BYTES_MAX + text_bytes(lines[i].sku) + text_bytes(lines[i].name);
    return n;
}

size_t command_encode_bytes_max(const jumun_command *c) {
    size_t n = 16 + 3 * MSGPACK_ID_BYTES + 3 * MSGPACK_INT_BYTES_MAX;
    if (command_is_for_store(c->kind)) n += text_bytes(c->store_id);
    switch (c->kind) {
    case JUMUN_PLACE:
        return n + 9 * MSGPACK_INT_BYTES_MAX + text_bytes(c->place.currency) +
               text_bytes(c->place.store) + lines_bytes(c->place.lines, c->place.lines_count) +
               text_bytes(c->place.customer) + text_bytes(c->place.group) +
               text_bytes(c->place.external_ref) + MSGPACK_HEADER_BYTES_MAX +
               c->place.attributes_bytes;
    case JUMUN_PAY:
        return n + 2 * MSGPACK_INT_BYTES_MAX + text_bytes(c->pay.method) +
               text_bytes(c->pay.reference);
    case JUMUN_REJECT: return n + text_bytes(c->reject.reason);
    case JUMUN_ASSIGN_RIDER: return n + text_bytes(c->assign_rider.rider);
    case JUMUN_CANCEL:
        return n + MSGPACK_INT_BYTES_MAX + text_bytes(c->cancel.reason) +
               MSGPACK_HEADER_BYTES_MAX +
               c->cancel.lines_count * (size_t)(1 + 2 * MSGPACK_INT_BYTES_MAX);
    case JUMUN_REFUND: return n + MSGPACK_INT_BYTES_MAX + text_bytes(c->refund.reason);
    case JUMUN_AMEND:
        return n + 3 * MSGPACK_INT_BYTES_MAX + lines_bytes(c->amend.lines, c->amend.lines_count);
    case JUMUN_ANNOTATE: return n + text_bytes(c->annotate.note);
    case JUMUN_STORE_PAUSE: return n + text_bytes(c->store_pause.reason);
    default: return n + MSGPACK_INT_BYTES_MAX;
    }
}

/* -- its bytes --------------------------------------------------------------------------------- */

static void encode_text(struct msgpack_writer *w, const char *text) {
    if (text) msgpack_write_text(w, text);
    else msgpack_write_nil(w);
}

static void encode_key(struct msgpack_writer *w, const jumun_key *key) {
    msgpack_write_bin(w, key->bytes, sizeof key->bytes);
}

static void encode_lines(struct msgpack_writer *w, const jumun_line *lines, uint32_t count) {
    msgpack_write_array(w, count);
    for (uint32_t i = 0; i < count; i++) {
        msgpack_write_array(w, lines[i].name ? 4 : 3);
        msgpack_write_text(w, lines[i].sku);
        msgpack_write_int(w, lines[i].quantity);
        msgpack_write_int(w, lines[i].unit_price);
        if (lines[i].name) msgpack_write_text(w, lines[i].name);
    }
}

/* Fields at the end that are absent are left out: most orders have none of them. */
static uint32_t place_fields(const jumun_place *p) {
    if (p->auto_complete_ms) return 15;
    if (p->acceptance_timeout_ms) return 14;
    if (p->payment_timeout_ms) return 13;
    if (p->attributes_bytes) return 12;
    if (p->external_ref) return 11;
    if (p->group) return 10;
    return p->customer ? 9 : 8;
}

static void encode_timeout(struct msgpack_writer *w, int64_t ms) {
    if (ms) msgpack_write_int(w, ms);
    else msgpack_write_nil(w);
}

static void encode_place(struct msgpack_writer *w, const jumun_place *p) {
    uint32_t fields = place_fields(p);
    msgpack_write_array(w, fields);
    msgpack_write_int(w, p->fulfilment);
    msgpack_write_int(w, p->payment_timing ? p->payment_timing : JUMUN_PREPAID);
    msgpack_write_text(w, p->currency);
    msgpack_write_text(w, p->store);
    encode_lines(w, p->lines, p->lines_count);
    msgpack_write_int(w, p->fees);
    msgpack_write_int(w, p->discounts);
    msgpack_write_int(w, p->total);
    if (fields > 8) encode_text(w, p->customer);
    if (fields > 9) encode_text(w, p->group);
    if (fields > 10) encode_text(w, p->external_ref);
    if (fields > 11) {
        if (p->attributes_bytes) msgpack_write_bin(w, p->attributes, p->attributes_bytes);
        else msgpack_write_nil(w);
    }
    if (fields > 12) encode_timeout(w, p->payment_timeout_ms);
    if (fields > 13) encode_timeout(w, p->acceptance_timeout_ms);
    if (fields > 14) encode_timeout(w, p->auto_complete_ms);
}

static void encode_cancel(struct msgpack_writer *w, const jumun_cancel *c) {
    uint32_t fields = c->lines_count ? 3 : c->reason ? 2 : 1;
    msgpack_write_array(w, fields);
    msgpack_write_int(w, c->by);
    if (fields > 1) encode_text(w, c->reason);
    if (fields < 3) return;
    msgpack_write_array(w, c->lines_count);
    for (uint32_t i = 0; i < c->lines_count; i++) {
        msgpack_write_array(w, 2);
        msgpack_write_uint(w, c->lines[i].line);
        msgpack_write_int(w, c->lines[i].quantity);
    }
}

/* [text], or [] without one. */
static void encode_optional_text(struct msgpack_writer *w, const char *text) {
    msgpack_write_array(w, text ? 1 : 0);
    if (text) msgpack_write_text(w, text);
}

static void encode_body(struct msgpack_writer *w, const jumun_command *c) {
    switch (c->kind) {
    case JUMUN_PLACE: encode_place(w, &c->place); return;
    case JUMUN_PAY:
        msgpack_write_array(w, 4);
        msgpack_write_int(w, c->pay.state);
        msgpack_write_text(w, c->pay.method);
        msgpack_write_text(w, c->pay.reference);
        msgpack_write_int(w, c->pay.amount);
        return;
    case JUMUN_ACCEPT:
        msgpack_write_array(w, 1);
        msgpack_write_int(w, c->accept.preparation_minutes);
        return;
    case JUMUN_REJECT: encode_optional_text(w, c->reject.reason); return;
    case JUMUN_ASSIGN_RIDER: encode_optional_text(w, c->assign_rider.rider); return;
    case JUMUN_CANCEL: encode_cancel(w, &c->cancel); return;
    case JUMUN_REFUND:
        msgpack_write_array(w, c->refund.reason ? 2 : 1);
        msgpack_write_int(w, c->refund.amount);
        if (c->refund.reason) msgpack_write_text(w, c->refund.reason);
        return;
    case JUMUN_AMEND:
        msgpack_write_array(w, 4);
        encode_lines(w, c->amend.lines, c->amend.lines_count);
        msgpack_write_int(w, c->amend.fees);
        msgpack_write_int(w, c->amend.discounts);
        msgpack_write_int(w, c->amend.total);
        return;
    case JUMUN_ANNOTATE: encode_optional_text(w, c->annotate.note); return;
    case JUMUN_STORE_PAUSE: encode_optional_text(w, c->store_pause.reason); return;
    case JUMUN_HISTORY:
        msgpack_write_array(w, c->history.limit ? 1 : 0);
        if (c->history.limit) msgpack_write_uint(w, c->history.limit);
        return;
    default: msgpack_write_array(w, 0);
    }
}

void command_encode(struct msgpack_writer *w, const jumun_command *c, const jumun_key *id) {
    bool traced = !key_is_zero(&c->options.trace);
    msgpack_write_array(w, traced ? 6 : 5);
    msgpack_write_uint(w, c->kind);
    if (command_is_for_store(c->kind)) msgpack_write_text(w, c->store_id);
    else if (command_is_for_node(c->kind)) msgpack_write_nil(w);
    else encode_key(w, &c->order);
    if (command_only_reads(c->kind)) msgpack_write_nil(w);
    else encode_key(w, id);
    msgpack_write_uint(w, c->options.expected_version);
    encode_body(w, c);
    if (traced) encode_key(w, &c->options.trace);
}

void command_encode_head(uint8_t head[COMMAND_ENCODE_HEAD_BYTES], int64_t deadline_ms,
                         uint32_t count, bool tail) {
    uint64_t deadline = __builtin_bswap64((uint64_t)deadline_ms);
    uint16_t commands = __builtin_bswap16((uint16_t)count);
    /* Fixed widths, so that the head's size is known before the count is. */
    head[0] = tail ? 0x95 : 0x93;
    head[1] = PROTOCOL_VERSION;
    head[2] = 0xcf;
    memcpy(head + 3, &deadline, 8);
    head[11] = 0xdc;
    memcpy(head + 12, &commands, 2);
}

void command_encode_tail(uint8_t tail[COMMAND_ENCODE_TAIL_BYTES], const uint8_t cluster_id[16]) {
    tail[0] = 0xc0;
    tail[1] = 0xc4;
    tail[2] = 16;
    memcpy(tail + 3, cluster_id, 16);
}

int jumun_encode_request(const jumun_command *command, int64_t deadline_ms, void **message,
                         size_t *message_bytes, char *error, size_t error_bytes) {
    *message = NULL;
    *message_bytes = 0;
    const char *fault = command_encode_fault(command);
    if (!fault && deadline_ms < 0) fault = "the deadline is negative";
    if (fault) {
        if (error && error_bytes) snprintf(error, error_bytes, "%s", fault);
        return JUMUN_BAD_ARGUMENT;
    }
    size_t capacity = COMMAND_ENCODE_HEAD_BYTES + command_encode_bytes_max(command);
    uint8_t *bytes = malloc(capacity);
    if (!bytes) {
        if (error && error_bytes) snprintf(error, error_bytes, "no memory for the message");
        return JUMUN_NO_MEMORY;
    }
    jumun_key id = command->options.id;
    if (key_is_zero(&id)) id = key_new_command_id();
    struct msgpack_writer w;
    msgpack_writer_init(&w, bytes + COMMAND_ENCODE_HEAD_BYTES,
                        capacity - COMMAND_ENCODE_HEAD_BYTES);
    command_encode_head(bytes, deadline_ms, 1, false);
    command_encode(&w, command, &id);
    *message = bytes;
    *message_bytes = COMMAND_ENCODE_HEAD_BYTES + msgpack_writer_size(&w);
    return JUMUN_OK;
}
