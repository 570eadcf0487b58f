/* The feed of a node: serves the committed entries of its shards to whoever follows them
 * (engine/wire/feed_protocol.h), and notifies.
 *
 * The shards' threads do nothing for it: its own threads look at each shard's commit index (one
 * load) and read entries from the storage. A pull that finds nothing waits here and is looked at
 * every millisecond while the log moves.
 *
 * What a consumer can cost is bounded: FEED_CONTEXTS requests in the node, FEED_REPLIES_BYTES_MAX
 * bytes on their way out, FEED_WAIT_MS_MAX of waiting. One that is slow or dead costs nothing more
 * and stops nobody; retention takes the log from under it, and it is told IMPORT_REQUIRED. */
#ifndef JUMUN_FEED_FEED_H
#define JUMUN_FEED_FEED_H

#include "engine/base/commit_times.h"
#include "engine/limits.h"
#include "persistence/storage.h"

struct feed;

struct tls_options;

struct feed_options {
    const char *listen;            /* nng address for requests; port 0 = any free one */
    const char *notify;            /* nng address for notifications; NULL = none */
    const struct tls_options *tls; /* for tls+tcp://; NULL = none */
    const char *cluster_id;        /* copied */
    uint64_t node_id;
    uint32_t shards_count;         /* that the newest orders are spread over; told by HELLO */
    uint32_t threads;              /* 0 = 1 */
    int nice;                      /* of the threads, where permitted; 0 = as they are */
    const char *snapshots;         /* directory for copies that are asked for; NULL = none */
};

/* A shard that the node holds. */
struct feed_source {
    struct storage *storage;
    /* Newest entry that the group has committed; may be ahead of the disk. Any thread. */
    uint64_t (*commit_index)(void *arg);
    /* When entries became committed (engine/base/commit_times.h); NULL = nobody knows. Any thread.
     */
    uint32_t (*commit_times)(void *arg, uint64_t from, uint64_t last,
                             struct commit_moment *moments, uint32_t max);
    void *arg;
    /* Whether commit_index is what the group has committed. A replica that knows no leader, or
     * replays its log after a start, may know far less: then nobody is told that there is nothing
     * newer. NULL = it always is. Any thread. */
    bool (*commit_known)(void *arg);
};

struct feed_stats {
    uint64_t requests, replies, dropped, refused, overloaded, imports_required;
    uint64_t entries, bytes;       /* sent */
    uint64_t shared;               /* answers with what was read for another one */
    uint64_t waiting;              /* pulls, now */
    uint64_t notices;
};

/* Listens. NULL with a sentence in error. */
struct feed *feed_open(const struct feed_options *options, char *error, size_t error_bytes);

/* Addresses that it really has. "" = no notifications. They live as long as the feed. */
const char *feed_endpoint(const struct feed *feed);
const char *feed_notify_endpoint(const struct feed *feed);

/* Begins to serve. False with a sentence in error. */
bool feed_start(struct feed *feed, char *error, size_t error_bytes);

/* How many shards new orders are spread over, from now on. Any thread. */
void feed_set_shards_count(struct feed *feed, uint32_t shards_count);

/* Bit = a shard that exists in the cluster; what exists nowhere was retired, and HELLO says so. Any
 * thread. */
void feed_set_active(struct feed *feed, const uint8_t active[SHARDS_MAX / 8]);

/* The node holds this shard from now on. Any thread. */
void feed_add(struct feed *feed, uint32_t shard, const struct feed_source *source);

/* The node is about to close this shard: on return nothing reads it any more. Any thread. */
void feed_remove(struct feed *feed, uint32_t shard);

/* Answers what waits, ends the threads: no shard is touched any more. Then feed_close(). */
void feed_stop(struct feed *feed);

/* Closes the sockets and frees; not to be called when the process exits right after: see
 * responder_close(). */
void feed_close(struct feed *feed);

void feed_stats(const struct feed *feed, struct feed_stats *stats); /* any thread */

#endif
