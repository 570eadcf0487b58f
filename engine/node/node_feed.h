/* The node's feed: where it listens, and which shards it serves. Split from node.c by role. */
#ifndef JUMUN_NODE_NODE_FEED_H
#define JUMUN_NODE_NODE_FEED_H

#include "engine/feed/feed.h"
#include "engine/shard/shard.h"

struct node;

/* Listens and notes the addresses in the shard map. A default address that is taken gives way to
 * any free port; one that was asked for does not. False with a sentence in error. n->feed stays
 * NULL when none is wanted. */
bool node_feed_open(struct node *node, char *error, size_t error_bytes);

/* Begins to serve. False with a sentence in error. */
bool node_feed_start(struct node *node, char *error, size_t error_bytes);

/* A shard of the node is served from now on, but for the meta group, until feed_remove(). */
void node_feed_add(struct node *node, uint32_t shard, struct shard *s);

#endif
