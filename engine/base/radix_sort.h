/* Sorting many records by a number: byte by byte from the lowest one (LSD radix sort; Knuth, The
 * Art of Computer Programming 5.2.5), so that nothing is compared, and no branch is guessed. Bytes
 * that all numbers share cost nothing. Records of equal numbers stay in their order. */
#ifndef JUMUN_BASE_RADIX_SORT_H
#define JUMUN_BASE_RADIX_SORT_H

#include <stdint.h>

struct radix_item {
    uint64_t key;
    uint32_t value;            /* the caller's own: most often the record's place */
};

/* Sorts items[0..count) by key; `scratch` has room for as many. Any thread. */
void radix_sort(struct radix_item *items, struct radix_item *scratch, uint32_t count);

#endif
