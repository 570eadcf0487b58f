#include "actors/order/order_lines.h"

static bool order_line_fits(const uint8_t *line, uint32_t room) {
    if (room < 1 || (line[0] & ~15u) != 0) return false;
    uint32_t fixed = 3u + (2u << (line[0] & 3u)) + (1u << (line[0] >> 2 & 3u));
    return room >= fixed && room - fixed >= (uint32_t)line[fixed - 2] + line[fixed - 1];
}

bool order_lines_check(const uint8_t *lines, uint32_t bytes, uint32_t count, int64_t *total) {
    __int128 sum = 0;
    if (count > ORDER_LINES_MAX) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!order_line_fits(lines, bytes)) return false;
        struct order_line_read line = order_line_get(lines);
        if (line.quantity < 1 || line.quantity > ORDER_QUANTITY_MAX) return false;
        if (line.cancelled < 0 || line.cancelled > line.quantity) return false;
        if (line.unit_price < 0 || line.unit_price > ORDER_MONEY_MAX) return false;
        if (line.sku_bytes < 1 || line.sku_bytes > ID_TEXT_BYTES_MAX) return false;
        if (line.name_bytes > LINE_NAME_BYTES_MAX) return false;
        sum += order_line_left(&line);
        lines += line.bytes;
        bytes -= line.bytes;
    }
    if (bytes != 0 || sum > ORDER_MONEY_MAX) return false;
    *total = (int64_t)sum;
    return true;
}

static bool order_part_fits(const uint8_t *part, uint32_t room) {
    if (room < 1 || (part[0] & ~31u) != 0) return false;
    uint32_t fixed = 3u + (1u << (part[0] >> 3 & 3u));
    return room >= fixed && room - fixed >= (uint32_t)part[fixed - 2] + part[fixed - 1];
}

bool order_parts_check(const uint8_t *parts, uint32_t bytes, uint32_t count, int64_t *captured) {
    int64_t sum = 0;
    if (count > ORDER_PAYMENTS_MAX) return false;
    for (uint32_t i = 0; i < count; i++) {
        if (!order_part_fits(parts, bytes)) return false;
        struct order_part_read part = order_part_get(parts);
        if (part.state < PAYMENT_AUTHORISED || part.state > PAYMENT_VOIDED) return false;
        if (part.amount < 1 || part.amount > ORDER_MONEY_MAX) return false;
        if (part.method_bytes < 1 || part.method_bytes > ID_TEXT_BYTES_MAX) return false;
        if (part.reference_bytes < 1 || part.reference_bytes > ID_TEXT_BYTES_MAX) return false;
        if (part.state == PAYMENT_CAPTURED) sum += part.amount;
        parts += part.bytes;
        bytes -= part.bytes;
    }
    if (bytes != 0) return false;
    *captured = sum;
    return true;
}
