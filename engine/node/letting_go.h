/* When a replica that the topology has elsewhere may be closed. */
#ifndef JUMUN_NODE_LETTING_GO_H
#define JUMUN_NODE_LETTING_GO_H

#include "engine/router/local_shards.h"
#include "persistence/consensus.h"

/* How long no leader may be heard of: longer than any election takes. */
enum { LETTING_GO_LEADERLESS_MS = 30000, LETTING_GO_RETIRED_MS = 5000 };

/* True when the group gets along without this server: `group`, as its replica sees it, does not
 * name it; or it does, nobody has led it here for long, and all that time another node was known to
 * lead the group. A server that was removed is told nothing, so the latter is what it sees as a
 * rule. Without a leader anywhere its vote may be the one that is lacking: a change that is not
 * committed has to be able to fail. *leaderless_ms (monotonic, 0 = not) is what the calls remember;
 * they come every second or so. */
bool letting_go_is_due(const struct consensus_group *group, uint64_t server, bool led_elsewhere,
                       int64_t now_ms, int64_t *leaderless_ms);

/* What is seen of a replica of a retired shard here. */
struct letting_go_retired {
    bool leads, empty;             /* it leads and serves; shard_is_empty() */
    bool vacant;                   /* as far as the log is applied here, nothing lives in it */
    bool led;                      /* it knows of a leader */
};

/* True when a retired shard can do without this replica: whoever leads goes first, once all that
 * the others might need is gone, then whoever leads next; the last ones find no majority, and
 * nothing to need one for. So one that was retired too early goes on until it is empty.
 * *leaderless_ms as below. */
bool letting_go_is_over(const struct letting_go_retired *look, int64_t now_ms,
                        int64_t *leaderless_ms);

/* Whether the directory of this name in a data directory is a replica's: shard-<n>,
 * shard-<n>.<incarnation>, meta or meta.<incarnation>, see replicas_directory(). */
bool letting_go_is_replica(const char *name, uint32_t *shard, uint32_t *incarnation);

/* Notes in a replica's directory that it belongs to this cluster (32 hex digits). One of another
 * cluster that lay in the same data directory must never speak in a group of this one: server ids
 * are the same in all of them. False as below. */
bool letting_go_bind(const char *directory, const char *cluster_id);

/* The replicas of this cluster that lie in a data directory and that no group has let go of: server
 * ids by local_shards_slot(), 0 = none. Of several of one group the newest counts. */
void letting_go_find(const char *data, const char *cluster_id, uint32_t node,
                     uint64_t servers[LOCAL_SHARDS_SLOTS]);

/* Notes in a replica's directory that its group has let go of it: it is not started any more. False
 * when that cannot be written (errno); then the next start finds out anew. */
bool letting_go_note(const char *directory);

/* A retired shard is needed again, with the data that its replicas kept: takes the note back. */
bool letting_go_take_back(const char *directory);

#endif
