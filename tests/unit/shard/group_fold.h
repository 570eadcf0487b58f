/* What a tool makes of a shard's log, against what the shard itself has in memory. */
#ifndef JUMUN_TEST_GROUP_FOLD_H
#define JUMUN_TEST_GROUP_FOLD_H

#include "engine/shard/shard_internal.h"

/* Folds the whole log on the shard's disk. NULL, or what differs: stores, board notes, growth. The
 * shard is at rest: all that it applied is durable. */
const char *group_fold_difference(const struct shard *shard);

#endif
