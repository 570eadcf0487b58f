/* The payload of the store's events (actors/event.h has their header). Frozen,
 * little endian, 8-byte aligned; texts lie behind the fixed part, zeros pad to 8 bytes. */
#ifndef JUMUN_ACTORS_STORE_EVENT_H
#define JUMUN_ACTORS_STORE_EVENT_H

#include "actors/event.h"

enum { STORE_EVENT_SCHEMA = 1 };

/* STORE_PAUSED, STORE_RESUMED. Behind it: the store's id, the reason (of a pause). */
struct store_switched {
    uint16_t reason_bytes;     /* 0 when resumed */
    uint8_t id_bytes;
    uint8_t spare[5];          /* 0 */
};
static_assert(sizeof(struct store_switched) == 8, "store_switched is frozen");

#endif
