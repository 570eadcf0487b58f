/* Work for groups of replicas, and what must have come of it. */
#ifndef JUMUN_TEST_GROUP_ORDERS_H
#define JUMUN_TEST_GROUP_ORDERS_H

#include "tests/unit/shard/group_world.h"

enum { GROUP_ORDERS_MAX = 1000 };

struct group_orders {            /* acknowledged */
    struct id128 keys[GROUP_ORDERS_MAX];
    uint32_t versions[GROUP_ORDERS_MAX];
    uint32_t count;
};

/* All of these fail the test when an answer is not as it should be. */
struct result orders_place(struct group_world *w, struct group_orders *o, uint32_t shard,
                           const char *store);
void orders_place_some(struct group_world *w, struct group_orders *o, uint32_t count);
void orders_change(struct group_world *w, struct group_orders *o, uint32_t n);

/* Every acknowledged version is there. */
void orders_assert(struct group_world *w, const struct group_orders *o);

/* All replicas hold the same, and the stores have heard of each order once: the messages between
 * the shards. */
void orders_assert_stores(struct group_world *w, const struct group_orders *o);

#endif
