/* What decoding has seen to already, checked once more where the rules begin: an event is written
 * from these texts and numbers, and its size fields must hold them. */
#include "actors/order/order_decide.h"

static uint16_t order_check_text(struct bytes text, uint32_t bytes_min, uint32_t bytes_max) {
    if (text.size < bytes_min) return RESULT_FIELD_MISSING;
    return text.size > bytes_max ? RESULT_TEXT_TOO_LONG : RESULT_OK;
}

/* The smallest code but OK: numbers are in order of precedence. */
static uint16_t order_first_code(uint16_t a, uint16_t b) {
    if (a == RESULT_OK || b == RESULT_OK) return a | b;
    return a < b ? a : b;
}

static uint16_t order_check_lines_shape(const struct order_line *lines, uint32_t count) {
    uint16_t code = RESULT_OK;
    if (count > ORDER_LINES_MAX) return RESULT_TOO_MANY_ITEMS;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t sku = order_check_text(lines[i].sku, 1, ID_TEXT_BYTES_MAX);
        uint16_t name = order_check_text(lines[i].name, 0, LINE_NAME_BYTES_MAX);
        if (sku | name) code = order_first_code(code, order_first_code(sku, name));
    }
    return code;
}

static bool order_timeout_in_range(int64_t ms) { return ms >= 0 && ms <= TIMEOUT_MS_MAX; }

static uint16_t order_check_place_shape(const struct command_place *place) {
    uint16_t code = order_check_text(place->store, 1, ID_TEXT_BYTES_MAX);
    code = order_first_code(code, order_check_text(place->customer, 0, ID_TEXT_BYTES_MAX));
    code = order_first_code(code, order_check_text(place->group, 0, ID_TEXT_BYTES_MAX));
    code = order_first_code(code, order_check_text(place->external_ref, 0, EXTERNAL_REF_BYTES_MAX));
    code = order_first_code(code, order_check_text(place->attributes, 0, ATTRIBUTES_BYTES_MAX));
    bool in_range = place->fulfilment >= FULFILMENT_PLATFORM_DELIVERY &&
                    place->fulfilment <= FULFILMENT_PARCEL &&
                    (place->payment_timing == PAYMENT_PREPAID ||
                     place->payment_timing == PAYMENT_ON_DELIVERY) &&
                    order_timeout_in_range(place->payment_timeout_ms) &&
                    order_timeout_in_range(place->acceptance_timeout_ms) &&
                    order_timeout_in_range(place->auto_complete_ms);
    if (!in_range) code = order_first_code(code, RESULT_NUMBER_OUT_OF_RANGE);
    return order_first_code(code, order_check_lines_shape(place->lines, place->lines_count));
}

static uint16_t order_check_pay_shape(const struct command_pay *pay) {
    uint16_t code = order_check_text(pay->method, 1, ID_TEXT_BYTES_MAX);
    code = order_first_code(code, order_check_text(pay->reference, 1, ID_TEXT_BYTES_MAX));
    if (pay->state < PAYMENT_AUTHORISED || pay->state > PAYMENT_FAILED) {
        code = order_first_code(code, RESULT_NUMBER_OUT_OF_RANGE);
    }
    return code;
}

static uint16_t order_check_cancel_shape(const struct command_cancel *cancel) {
    uint16_t code = order_check_text(cancel->reason, 0, REASON_BYTES_MAX);
    if (cancel->by < PARTY_CUSTOMER || cancel->by > PARTY_SYSTEM) {
        code = order_first_code(code, RESULT_NUMBER_OUT_OF_RANGE);
    }
    if (cancel->lines_count > ORDER_LINES_MAX) {
        code = order_first_code(code, RESULT_TOO_MANY_ITEMS);
    }
    return code;
}

static uint16_t order_check_body_shape(const struct command *c) {
    switch (c->kind) {
    case COMMAND_PLACE: return order_check_place_shape(&c->place);
    case COMMAND_PAY: return order_check_pay_shape(&c->pay);
    case COMMAND_ACCEPT:
        return c->accept.preparation_minutes < 0 ||
                       c->accept.preparation_minutes > PREPARATION_MINUTES_MAX
                   ? RESULT_NUMBER_OUT_OF_RANGE
                   : RESULT_OK;
    case COMMAND_REJECT: return order_check_text(c->reject.reason, 0, REASON_BYTES_MAX);
    case COMMAND_ASSIGN_RIDER: return order_check_text(c->assign_rider.rider, 1, ID_TEXT_BYTES_MAX);
    case COMMAND_CANCEL: return order_check_cancel_shape(&c->cancel);
    case COMMAND_REFUND: return order_check_text(c->refund.reason, 0, REASON_BYTES_MAX);
    case COMMAND_AMEND: return order_check_lines_shape(c->amend.lines, c->amend.lines_count);
    case COMMAND_ANNOTATE: return order_check_text(c->annotate.note, 1, NOTE_BYTES_MAX);
    default: return RESULT_OK;
    }
}

uint16_t order_check_shape(const struct command *command) {
    if (command->malformed != 0) return command->malformed;
    bool is_read = command->kind == COMMAND_GET || command->kind == COMMAND_HISTORY;
    bool is_change = command->kind >= COMMAND_PLACE && command->kind <= COMMAND_ANNOTATE;
    if (!is_read && !is_change) return RESULT_UNKNOWN_COMMAND;
    uint16_t code = order_check_body_shape(command);
    if (code != RESULT_OK) return code;
    if (id128_is_zero(&command->subject)) return RESULT_KEY_MISSING;
    if (is_change && id128_is_zero(&command->id)) return RESULT_COMMAND_ID_MISSING;
    return RESULT_OK;
}

uint16_t order_check_key_birth(const struct command *command,
                               const struct decide_context *context) {
    int64_t birth_ms = order_key_birth_ms(&command->subject);
    if (birth_ms > context->now_ms + KEY_FUTURE_MS_MAX) return RESULT_KEY_FROM_FUTURE;
    if (birth_ms < context->now_ms - KEY_PAST_MS_MAX) return RESULT_KEY_TOO_OLD;
    return RESULT_OK;
}
