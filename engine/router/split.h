/* Splits a request into parts, one for each shard that it touches. */
#ifndef JUMUN_ROUTER_SPLIT_H
#define JUMUN_ROUTER_SPLIT_H

#include "engine/router/shard_map.h"
#include "engine/shard/request.h"

/* Memory of a split, of the caller: `positions` and `shard_of` have room for all commands of the
 * request, `parts` for as many as the request has commands or the map has shards, the meta group's
 * counted, whichever is less. */
struct split {
    struct request_part *parts;
    uint32_t *part_shards;     /* by part: the shard that it goes to; room as for `parts` */
    uint32_t *positions;
    uint32_t *shard_of;        /* by command; SPLIT_NO_SHARD for those that no shard shall see */
    uint32_t parts_count;      /* out */
    uint32_t stray_commands;   /* out: those of another shard than `expected_shard` */
};

enum { SPLIT_NO_SHARD = UINT32_MAX };

/* Whether the node answers this command without asking a shard: malformed ones and its own. */
bool split_is_local(const struct command *command);

/* Fills the parts and sets request->parts_left to their number plus one: the hold of the caller,
 * who offers the parts to their shards and then lets go with request_part_done() on any part or
 * split_release(). Commands keep their order within each shard. `message_bytes` is shared out as
 * what the parts weigh. `expected_shard`: whose endpoint it came to; SPLIT_NO_SHARD = the general
 * one. */
void split_request(const struct shard_map *map, struct request *request, uint64_t message_bytes,
                   uint32_t expected_shard, struct split *split);

/* Lets go of the caller's hold; calls request->done when nobody else holds it. */
void split_release(struct request *request);

#endif
