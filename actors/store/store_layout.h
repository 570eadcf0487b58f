/* The block of a store and of a board note:
 *
 *   struct store | id | pause reason | command records (newest last) */
#ifndef JUMUN_ACTORS_STORE_LAYOUT_H
#define JUMUN_ACTORS_STORE_LAYOUT_H

#include "actors/store/store.h"
#include "actors/store/store_event.h"
#include "engine/limits.h"

enum {
    STORE_SCHEMA = 1,
    /* A store is switched over and over for years: the newest ids are remembered, which covers
     * every retry that is still under way. */
    STORE_COMMANDS_MAX = 32
};

struct store {
    struct actor actor;        /* state: enum store_state; kind: ACTOR_STORE or ACTOR_BOARD */
    int64_t open_orders;       /* store only */
    uint64_t placed_orders;    /* store only */
    uint32_t store_version;    /* note only: the store's version that set it */
    uint16_t reason_bytes;     /* store only; 0 = running, or no reason given */
    uint8_t id_bytes;
    uint8_t commands_count;    /* store only */
};
static_assert(sizeof(struct store) == 72, "the store's fixed part is frozen");

struct store_command_record {
    struct id128 id;
    uint32_t version;          /* the answer's */
    uint8_t kind;              /* enum command_kind */
    uint8_t spare[3];          /* 0 */
};
static_assert(sizeof(struct store_command_record) == 24, "store command records are frozen");
static_assert(sizeof(struct store) + ID_TEXT_BYTES_MAX + REASON_BYTES_MAX +
                      STORE_COMMANDS_MAX * sizeof(struct store_command_record) ==
                  STORE_BLOCK_BYTES_MAX,
              "a largest store");

static inline const struct store *store_of(const struct actor *actor) {
    return (const struct store *)(const void *)actor;
}
static inline uint32_t store_reason_at(const struct store *s) {
    return (uint32_t)sizeof *s + s->id_bytes;
}
static inline uint32_t store_commands_at(const struct store *s) {
    return store_reason_at(s) + s->reason_bytes;
}
static inline uint32_t store_bytes_of_sections(const struct store *s) {
    return store_commands_at(s) +
           s->commands_count * (uint32_t)sizeof(struct store_command_record);
}
static inline const uint8_t *store_at(const struct store *s, uint32_t offset) {
    return (const uint8_t *)s + offset;
}

#endif
