/* Lines and payment parts in their compact form (order_event.h shows it): the same bytes in an
 * event and in a block. Quantity and cancelled have one width, so that a cut never moves a byte.
 *
 * The readers here trust the bytes: they are checked once, by order_lines_check() and
 * order_parts_check(), when they come from a disk or a peer. */
#ifndef JUMUN_ACTORS_ORDER_LINES_H
#define JUMUN_ACTORS_ORDER_LINES_H

#include "actors/command.h"
#include "engine/limits.h"

/* A line or part in the hand; texts point into its bytes. */
struct order_line_read {
    const char *sku, *name;
    uint8_t sku_bytes, name_bytes;
    uint8_t quantity_width; /* code: 0, 1, 2, 3 = 1, 2, 4, 8 bytes */
    uint32_t cancelled_at;  /* where `cancelled` stands, from the line's first byte */
    uint32_t bytes;         /* of the whole line */
    int64_t quantity, cancelled, unit_price;
};

struct order_part_read {
    const char *method, *reference;
    uint8_t method_bytes, reference_bytes;
    uint8_t state;  /* enum payment_state */
    uint32_t bytes; /* of the whole part */
    int64_t amount;
};

enum {
    ORDER_LINE_BYTES_MAX = 1 + 4 + 4 + 8 + 2 + ID_TEXT_BYTES_MAX + LINE_NAME_BYTES_MAX,
    ORDER_PART_BYTES_MAX = 1 + 8 + 2 + 2 * ID_TEXT_BYTES_MAX
};

static inline uint32_t order_number_width(uint64_t value) {
    return value < 0x100 ? 0 : value < 0x10000 ? 1 : value < 0x100000000ULL ? 2 : 3;
}

static inline void order_number_put(uint8_t *at, uint32_t width, uint64_t value) {
    switch (width) {
    case 0: at[0] = (uint8_t)value; break;
    case 1: memcpy(at, &value, 2); break;
    case 2: memcpy(at, &value, 4); break;
    default: memcpy(at, &value, 8); break;
    }
}

static inline int64_t order_number_get(const uint8_t *at, uint32_t width) {
    uint64_t value = 0;
    switch (width) {
    case 0: value = at[0]; break;
    case 1: memcpy(&value, at, 2); break;
    case 2: memcpy(&value, at, 4); break;
    default: memcpy(&value, at, 8); break;
    }
    return (int64_t)value;
}

static inline uint32_t order_line_bytes(const struct order_line *line) {
    return 3u + (2u << order_number_width((uint64_t)line->quantity)) +
           (1u << order_number_width((uint64_t)line->unit_price)) + line->sku.size +
           line->name.size;
}

/* Writes a new line, nothing of it cancelled; returns where the next one goes. */
static inline uint8_t *order_line_put(uint8_t *at, const struct order_line *line) {
    uint32_t q = order_number_width((uint64_t)line->quantity);
    uint32_t p = order_number_width((uint64_t)line->unit_price);
    *at++ = (uint8_t)(q | p << 2);
    order_number_put(at, q, (uint64_t)line->quantity);
    at += 1u << q;
    order_number_put(at, q, 0);
    at += 1u << q;
    order_number_put(at, p, (uint64_t)line->unit_price);
    at += 1u << p;
    *at++ = (uint8_t)line->sku.size;
    *at++ = (uint8_t)line->name.size;
    memcpy(at, line->sku.data, line->sku.size);
    at += line->sku.size;
    if (line->name.size != 0) memcpy(at, line->name.data, line->name.size);
    return at + line->name.size;
}

static inline struct order_line_read order_line_get(const uint8_t *line) {
    struct order_line_read read;
    uint32_t q = line[0] & 3u, p = line[0] >> 2 & 3u;
    read.quantity_width = (uint8_t)q;
    read.quantity = order_number_get(line + 1, q);
    read.cancelled_at = 1 + (1u << q);
    read.cancelled = order_number_get(line + read.cancelled_at, q);
    uint32_t at = read.cancelled_at + (1u << q);
    read.unit_price = order_number_get(line + at, p);
    at += 1u << p;
    read.sku_bytes = line[at];
    read.name_bytes = line[at + 1];
    at += 2;
    read.sku = (const char *)line + at;
    read.name = read.sku + read.sku_bytes;
    read.bytes = at + read.sku_bytes + read.name_bytes;
    return read;
}

static inline uint32_t order_part_bytes(int64_t amount, uint32_t method_bytes,
                                        uint32_t reference_bytes) {
    return 3u + (1u << order_number_width((uint64_t)amount)) + method_bytes + reference_bytes;
}

/* `texts` is method and reference, one behind the other. Returns where the next part goes. */
static inline uint8_t *order_part_put(uint8_t *at, uint8_t state, int64_t amount,
                                      uint8_t method_bytes, uint8_t reference_bytes,
                                      const void *method, const void *reference) {
    uint32_t a = order_number_width((uint64_t)amount);
    *at++ = (uint8_t)(state | a << 3);
    order_number_put(at, a, (uint64_t)amount);
    at += 1u << a;
    *at++ = method_bytes;
    *at++ = reference_bytes;
    memcpy(at, method, method_bytes);
    memcpy(at + method_bytes, reference, reference_bytes);
    return at + method_bytes + reference_bytes;
}

static inline void order_part_set_state(uint8_t *part, uint8_t state) {
    part[0] = (uint8_t)((part[0] & ~7u) | state);
}

static inline struct order_part_read order_part_get(const uint8_t *part) {
    struct order_part_read read;
    uint32_t a = part[0] >> 3 & 3u;
    read.state = part[0] & 7u;
    read.amount = order_number_get(part + 1, a);
    uint32_t at = 1 + (1u << a);
    read.method_bytes = part[at];
    read.reference_bytes = part[at + 1];
    at += 2;
    read.method = (const char *)part + at;
    read.reference = read.method + read.method_bytes;
    read.bytes = at + read.method_bytes + read.reference_bytes;
    return read;
}

/* What is left of a line, in money. Below 2^63: quantity <= 2^30 and price <= 2^50 are checked with
 * their product when the line is made. */
static inline __int128 order_line_left(const struct order_line_read *line) {
    return (__int128)(line->quantity - line->cancelled) * line->unit_price;
}

/* Whether `bytes` bytes hold exactly `count` well-formed lines, with everything in its range;
 * *total gets the money of what is not cancelled. Never reads outside. */
bool order_lines_check(const uint8_t *lines, uint32_t bytes, uint32_t count, int64_t *total);

/* The same for payment parts; *captured gets the captured sum. */
bool order_parts_check(const uint8_t *parts, uint32_t bytes, uint32_t count, int64_t *captured);

#endif
