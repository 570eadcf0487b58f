#include "engine/base/radix_sort.h"

#include <string.h>

enum { RADIX_BITS = 8, RADIX_DIGITS = 1 << RADIX_BITS, RADIX_FEW = 24 };

/* A pass costs the same for few items as for some hundred. */
static void insertion_sort(struct radix_item *items, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        struct radix_item moved = items[i];
        uint32_t at = i;
        for (; at > 0 && items[at - 1].key > moved.key; at--) items[at] = items[at - 1];
        items[at] = moved;
    }
}

static void radix_pass(const struct radix_item *from, struct radix_item *to, uint32_t count,
                       unsigned shift) {
    uint32_t places[RADIX_DIGITS] = {0};
    for (uint32_t i = 0; i < count; i++) places[from[i].key >> shift & (RADIX_DIGITS - 1)]++;
    uint32_t before = 0;
    for (uint32_t digit = 0; digit < RADIX_DIGITS; digit++) {
        uint32_t here = places[digit];
        places[digit] = before;
        before += here;
    }
    for (uint32_t i = 0; i < count; i++)
        to[places[from[i].key >> shift & (RADIX_DIGITS - 1)]++] = from[i];
}

void radix_sort(struct radix_item *items, struct radix_item *scratch, uint32_t count) {
    if (count <= RADIX_FEW) {
        insertion_sort(items, count);
        return;
    }
    uint64_t differs = 0;
    for (uint32_t i = 1; i < count; i++) differs |= items[i].key ^ items[0].key;
    struct radix_item *from = items, *to = scratch;
    for (unsigned shift = 0; shift < 64; shift += RADIX_BITS) {
        if ((differs >> shift & (RADIX_DIGITS - 1)) == 0) continue;
        radix_pass(from, to, count, shift);
        struct radix_item *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != items) memcpy(items, from, (size_t)count * sizeof *items);
}
