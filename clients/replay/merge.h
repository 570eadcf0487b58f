/* The entries of several shards as one stream, by time; of one shard, by index. */
#ifndef JUMUN_REPLAY_MERGE_H
#define JUMUN_REPLAY_MERGE_H

#include "clients/replay/replay.h"

struct merge;

/* From the record behind `from` (by shard, as in replay->source) up to `upto`. NULL without
 * memory. */
struct merge *merge_open(struct replay *r, const uint64_t from[], const uint64_t upto[]);
void merge_close(struct merge *merge);

/* The next step: *shard is its place in replay->source. Faults come when their shard's turn is.
 * LOG_END at the end. `item` is valid until the next call. */
enum log_step merge_next(struct merge *merge, uint32_t *shard, struct log_item *item);

#endif
