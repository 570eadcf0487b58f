/* The views of another replica instead of the logs from their beginning: before the views are
 * opened, when there are none. Whose cluster the other one follows is looked at first: nothing is
 * copied of another cluster than the nodes are of. Blocks; no other thread is in the directory, and
 * its lock keeps other replicas out. */
#ifndef JUMUN_REPLICA_BOOTSTRAP_H
#define JUMUN_REPLICA_BOOTSTRAP_H

#include <stdatomic.h>

#include "engine/replica/replica.h"

enum bootstrap_outcome {
    BOOTSTRAP_DONE,            /* the views of another replica are in their place */
    BOOTSTRAP_NOTHING,         /* there are views, no `from`, or nobody gave any (it is logged) */
    BOOTSTRAP_REFUSED          /* `from` names what is not of this cluster, or no replica; or
                                  config->data is something else's or used by another replica */
};

/* Takes over the views of one of config->from for config->data. Replicas and nodes that cannot be
 * reached, or are not ready, are told of at once and asked again for BOOTSTRAP_PATIENCE_MS in all;
 * then the logs will have to do. `stop` ends it early. BOOTSTRAP_REFUSED comes with a sentence;
 * else config->views_lock_fd is for replica_start(). */
enum { BOOTSTRAP_PATIENCE_MS = 10000 };
enum bootstrap_outcome bootstrap_run(struct replica_config *config, const atomic_bool *stop,
                                     char *error, size_t error_bytes);
/* Removes what has come so far: the process ends in the midst of it. */
void bootstrap_give_up(struct replica_config *config);

#endif
