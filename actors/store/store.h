/* The store actor, and the board: what each shard knows of all stores.
 *
 * A store lives on ONE shard (by hash of its id). There it counts its open orders, from messages of
 * the order actors of all shards, and can be paused and resumed. A pause is told to every shard,
 * each of which notes it on its board, so that the check at `place` is local.
 *
 * Between shards goes one message per turn and destination: msgpack, logged at the sender as
 * MESSAGE_SENT before it leaves, logged at the receiver as MESSAGE_SEEN before it is acknowledged,
 * numbered gap-free per (from, to), so that nothing is lost or counted twice.
 *
 *   message = [kind, items]
 *     kind 1 (order counts)  items = [[store id, change of open orders: int, placed: uint], ...]
 *     kind 2 (store status)  items = [[store id, paused: bool, store version: uint], ...]
 *
 * When the cluster grows stores change their homes (docs/cluster.md#stores-and-growth). These
 * messages also tell by how many shards the sender spreads stores, and since when:
 *
 *   message = [3 (stores moved), spread version, shards, items]
 *     items = [[store id, block: bin], ...]    the stores leave the sender with this message
 *   message = [4 (asked), spread version, shards, what, version]
 *     what 1: tell me all that you know of the boards; 2: say when no store of mine is left with
 *     you. `version` comes back in the answer
 *   message = [5 (done), spread version, shards, what, version]
 *
 * Pure: see actors/actor.h. The msgpack of these messages is written and read here by hand
 * (actors/ has no library), at most STORE_MESSAGE_ITEMS_MAX items each. */
#ifndef JUMUN_ACTORS_STORE_STORE_H
#define JUMUN_ACTORS_STORE_STORE_H

#include "actors/actor.h"

enum {
    STORE_MESSAGE_COUNTS = 1, STORE_MESSAGE_STATUS = 2, STORE_MESSAGE_MOVED = 3,
    STORE_MESSAGE_ASKED = 4, STORE_MESSAGE_DONE = 5, STORE_MESSAGE_ITEMS_MAX = 2048,
    STORE_ASK_BOARDS = 1, STORE_ASK_STORES = 2,
    STORE_TALK_BYTES_MAX = 32,     /* of an asked or done message */
    STORE_BLOCK_BYTES_MAX = 1160   /* of a store's block */
};
enum store_state { STORE_RUNNING = 1, STORE_IS_PAUSED = 2 };

/* The key of a store's actor (and, with board = true, of its note on a board): a 128-bit hash of
 * the id, computed with XXH3. The block holds the id itself. */
struct id128 store_key(struct bytes id, bool board);

/* Decides STORE_PAUSE, STORE_RESUME, STORE_GET at the store's own shard. `store` may be NULL. */
struct decision store_decide(const struct actor *store, const struct command *command,
                             const struct decide_context *context, struct event_sink *sink);

/* Upper bound of the block's bytes after `event`. NULL = does not exist yet. */
uint32_t store_bytes_after(const struct actor *store, const struct event *event);
void store_apply(struct actor *store, const struct event *event,
                 const struct apply_context *context);
bool store_is_well_formed(const void *block, uint32_t bytes);
bool store_event_is_well_formed(const struct event *event);

/* One item of a message. */
struct store_news {
    struct bytes store;
    int32_t open_change;   /* counts: net change of open orders */
    uint32_t placed;       /* counts: orders placed in it */
    bool paused;           /* status */
    uint32_t version;      /* status: the store's version that set it; older news is ignored */
    struct bytes block;    /* moved: as it left its old home; not aligned */
};

/* By how many shards stores are spread: the newest that a shard has heard of. */
struct store_spread {
    uint64_t version;      /* of the cluster document; 0 = nobody has told */
    uint32_t shards, before; /* before: what it was until then; 0 = nothing */
};

/* Takes over what is newer. True when the number of shards changed. */
bool store_spread_adopt(struct store_spread *spread, uint64_t version, uint32_t shards);

/* Writes / reads the message. encode returns the bytes used, 0 if `capacity` is too small. decode
 * returns false for anything but a whole message of the documented shape, before it visits an item;
 * it sets *kind before the first visit, visits each item, and stops with false when a visit returns
 * false. */
uint32_t store_message_encode(uint8_t kind, const struct store_news *items, uint32_t count,
                              uint8_t *out, uint32_t capacity);
bool store_message_decode(struct bytes message, uint8_t *kind,
                          bool (*visit)(void *arg, const struct store_news *item), void *arg);

/* What messages of the kinds moved, asked and done say beside their items. */
struct store_message_head {
    uint8_t kind, what;    /* what: 0 for moved */
    uint64_t version;      /* of the spread; 0 for counts and status */
    uint32_t shards;
    uint64_t asked;        /* asked, done: see above */
};

/* Of a message that store_message_decode() takes; false for others. Cheap. */
bool store_message_head(struct bytes message, struct store_message_head *head);

/* The same for moved (head->kind, version, shards) and for asked and done (items NULL). */
uint32_t store_message_encode_head(const struct store_message_head *head,
                                   const struct store_news *items, uint32_t count, uint8_t *out,
                                   uint32_t capacity);

/* Applies one item of a MESSAGE_SEEN to a store (counts, moved) or a board note (status). The block
 * has room for store_news_bytes(item); zeroed memory when it is new. Each application grows the
 * version by one, as an event would. Status news that is not newer than the note changes nothing
 * of an existing note. A store that moved in is added to what has been counted here before it came;
 * its version is then above that of both. */
uint32_t store_news_bytes(const struct actor *store, const struct store_news *item);
void store_apply_news(struct actor *store, uint8_t message_kind, const struct store_news *item,
                      const struct apply_context *context);

/* Of a board note: the version of the store that set it. */
uint32_t store_note_version(const struct actor *note);

struct store_view {
    struct bytes id;
    bool paused;
    struct bytes pause_reason;
    int64_t open_orders;
    uint64_t placed_orders;
    uint32_t version;
    uint64_t last_index;
};
void store_view(const struct actor *store, struct store_view *view);

#endif
