/* Any bytes -> request_decode(): whatever comes out must keep its promises. */
#include "engine/base/check.h"
#include "engine/base/utf8.h"
#include "engine/limits.h"
#include "engine/wire/protocol.h"
#include "engine/wire/request_decode.h"
#include "tests/fuzz/fuzz_harness.h"

static const uint8_t *message;
static size_t message_size;

/* A text lies inside the message, is within its limit and valid. */
static void check_text(struct bytes text, uint32_t max) {
    require(text.size <= max);
    if (text.size == 0) return;
    const uint8_t *at = text.data;
    require(at >= message && at + text.size <= message + message_size);
    require(utf8_is_valid(at, text.size));
}

static void check_lines(const struct order_line *lines, uint32_t count) {
    require(count <= ORDER_LINES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        require(lines[i].sku.size > 0);
        check_text(lines[i].sku, ID_TEXT_BYTES_MAX);
        check_text(lines[i].name, LINE_NAME_BYTES_MAX);
    }
}

static void check_place(const struct command_place *place) {
    require(place->fulfilment >= 1 && place->fulfilment <= FULFILMENT_PARCEL);
    require(place->payment_timing >= 1 && place->payment_timing <= PAYMENT_ON_DELIVERY);
    require(place->currency[3] == '\0');
    require(place->store.size > 0);
    check_text(place->store, ID_TEXT_BYTES_MAX);
    check_text(place->customer, ID_TEXT_BYTES_MAX);
    check_text(place->group, ID_TEXT_BYTES_MAX);
    check_text(place->external_ref, EXTERNAL_REF_BYTES_MAX);
    require(place->attributes.size <= ATTRIBUTES_BYTES_MAX);
    fuzz_touch(place->attributes.data, place->attributes.size);
    require(place->payment_timeout_ms >= 0 && place->payment_timeout_ms <= TIMEOUT_MS_MAX);
    require(place->acceptance_timeout_ms >= 0 && place->acceptance_timeout_ms <= TIMEOUT_MS_MAX);
    require(place->auto_complete_ms >= 0 && place->auto_complete_ms <= TIMEOUT_MS_MAX);
    check_lines(place->lines, place->lines_count);
}

static void check_cancel(const struct command_cancel *cancel) {
    require(cancel->by >= PARTY_CUSTOMER && cancel->by <= PARTY_SYSTEM);
    check_text(cancel->reason, REASON_BYTES_MAX);
    require(cancel->lines_count <= ORDER_LINES_MAX);
    fuzz_touch(cancel->lines, cancel->lines_count * sizeof *cancel->lines);
}

static void check_body(const struct command *c) {
    switch (c->kind) {
    case COMMAND_PLACE: check_place(&c->place); break;
    case COMMAND_PAY:
        require(c->pay.state >= PAYMENT_AUTHORISED && c->pay.state <= PAYMENT_FAILED);
        check_text(c->pay.method, ID_TEXT_BYTES_MAX);
        check_text(c->pay.reference, ID_TEXT_BYTES_MAX);
        break;
    case COMMAND_ACCEPT:
        require(c->accept.preparation_minutes >= 0);
        require(c->accept.preparation_minutes <= PREPARATION_MINUTES_MAX);
        break;
    case COMMAND_REJECT: check_text(c->reject.reason, REASON_BYTES_MAX); break;
    case COMMAND_ASSIGN_RIDER: check_text(c->assign_rider.rider, ID_TEXT_BYTES_MAX); break;
    case COMMAND_CANCEL: check_cancel(&c->cancel); break;
    case COMMAND_REFUND: check_text(c->refund.reason, REASON_BYTES_MAX); break;
    case COMMAND_AMEND: check_lines(c->amend.lines, c->amend.lines_count); break;
    case COMMAND_ANNOTATE: check_text(c->annotate.note, NOTE_BYTES_MAX); break;
    case COMMAND_HISTORY: require(c->history.limit <= HISTORY_EVENTS_MAX); break;
    case COMMAND_STORE_PAUSE: case COMMAND_STORE_RESUME: case COMMAND_STORE_GET:
        require(c->store.store.size > 0);
        check_text(c->store.store, ID_TEXT_BYTES_MAX);
        check_text(c->store.reason, REASON_BYTES_MAX);
        break;
    default: break;
    }
}

static void check_command(const struct command *c) {
    if (c->malformed != 0) {
        require(c->malformed >= RESULT_UNKNOWN_COMMAND && c->malformed <= RESULT_COMMAND_TOO_LARGE);
        return;
    }
    require(c->kind < COMMAND_TIMER_DUE || c->kind >= NODE_COMMAND_PING);
    bool node = c->kind >= NODE_COMMAND_PING;
    require(node || command_is_for_store(c->kind) || !id128_is_zero(&c->subject));
    require(node || command_is_read(c->kind) || !id128_is_zero(&c->id));
    check_body(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct wire_arena arena = {0};
    struct wire_request request = {0};
    message = data;
    message_size = size;
    enum result_code code = request_decode(data, size, &arena, &request);
    if (code == RESULT_OK) {
        require(request.commands_count >= 1 && request.commands_count <= BATCH_COMMANDS_MAX);
        require(request.deadline_ms >= 0);
        for (uint32_t i = 0; i < request.commands_count; i++) check_command(&request.commands[i]);
    } else {
        require(code >= RESULT_MALFORMED_MESSAGE && code <= RESULT_BATCH_TOO_LARGE);
        require(request.commands == NULL);
    }
    wire_arena_free(&arena);
    return 0;
}
