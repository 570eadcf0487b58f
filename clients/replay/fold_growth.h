/* What a shard's log says of the growth of its cluster: which shards run, where stores live, and
 * what shards have asked each other about them. The same as the engine keeps (docs/cluster.md,
 * "Stores and growth"), so that a state that is made from a log has the same cursors.
 *
 * Plain data; one thread. */
#ifndef JUMUN_REPLAY_FOLD_GROWTH_H
#define JUMUN_REPLAY_FOLD_GROWTH_H

#include "actors/message_event.h"
#include "actors/store/store.h"
#include "engine/limits.h"

enum { GROWTH_CURSOR_BYTES_MAX = 64 };

struct growth_peer {
    uint64_t boards_asked, stores_asked; /* versions in the peer's newest questions */
    uint8_t owes, awaits;                /* its open questions; own ones to it: STORE_ASK_... */
};

struct fold_growth {
    uint32_t shard;
    uint32_t peers_count;      /* the highest shard that was heard of, and one more */
    uint64_t version;          /* of the cluster document; 0 = it never told */
    int64_t joined_ms;
    uint64_t boards_asked, stores_asked; /* versions in the own newest questions */
    bool needs_boards, needs_stores;     /* and are still to be asked */
    uint8_t active[SHARDS_MAX / 8];
    struct store_spread spread;
    struct growth_peer peers[SHARDS_MAX];
};

void growth_know(struct fold_growth *growth, uint32_t peer);
/* SHARDS_KNOWN; the event is well formed. */
void growth_apply_known(struct fold_growth *growth, const struct event *event);
/* MESSAGE_SENT to `peer` and MESSAGE_SEEN (with a number) from it; peer < SHARDS_MAX. */
void growth_apply_sent(struct fold_growth *growth, uint32_t peer, struct bytes message);
void growth_apply_seen(struct fold_growth *growth, uint32_t peer, struct bytes message);

/* Whether there is anything to be told in cursors. */
bool growth_is_known(const struct fold_growth *growth);
/* The values of the cursors "known", "spread" and "grow.N". Return the bytes. */
uint32_t growth_known_cursor(const struct fold_growth *growth,
                             uint8_t out[GROWTH_CURSOR_BYTES_MAX]);
uint32_t growth_spread_cursor(const struct fold_growth *growth,
                              uint8_t out[GROWTH_CURSOR_BYTES_MAX]);
uint32_t growth_peer_cursor(const struct fold_growth *growth, uint32_t peer,
                            uint8_t out[GROWTH_CURSOR_BYTES_MAX]);
/* The other way round. False: it is none of these, or not of their size. */
bool growth_load_cursor(struct fold_growth *growth, const char *name, const void *value,
                        uint32_t bytes);

#endif
