/* The newest cluster document that this node has seen, on disk: DATA/cluster.msgpack. With it a
 * node starts and serves without asking anybody.
 *
 *   {"format": 1, "node": 2, "version": 12, "document": bin (engine/wire/cluster_encode.h),
 *    "replicas": [[shard, server], ...]}
 *
 * "replicas" are those that have run here. One that is listed and whose directory is gone has lost
 * its disk: it must not begin anew under its old server id, for it would vote as if it had promised
 * nothing.
 *
 * Written beside its place, synced and renamed: a crash leaves the old one or the new one. */
#ifndef JUMUN_CLUSTER_CLUSTER_CACHE_H
#define JUMUN_CLUSTER_CLUSTER_CACHE_H

#include <stdbool.h>
#include <stddef.h>

#include "actors/cluster/cluster.h"

enum { CLUSTER_CACHE_FORMAT = 1, CLUSTER_CACHE_REPLICAS_MAX = SHARDS_MAX + 1 };

struct cluster_cache {
    uint32_t node;                 /* this one's number */
    uint64_t version;              /* of the document */
    struct cluster_document document;
    uint32_t replicas_count;
    struct cluster_cache_replica { uint32_t shard; uint64_t server; }
        replicas[CLUSTER_CACHE_REPLICAS_MAX];
};

/* 1 read; 0 there is none; -1 with a sentence in error. */
int cluster_cache_load(const char *directory, struct cluster_cache *cache, char *error,
                       size_t error_bytes);

/* 0, or -1 with a sentence in error: then what was there before still is. */
int cluster_cache_save(const char *directory, const struct cluster_cache *cache, char *error,
                       size_t error_bytes);

/* The same in two steps, when something else has to change in between that is not to be found
 * without it: durable, but not counting yet; and from there in its place. 0, or -1 with a
 * sentence. */
int cluster_cache_promise(const char *directory, const struct cluster_cache *cache, char *error,
                          size_t error_bytes);
bool cluster_cache_is_promised(const char *directory);
int cluster_cache_fulfil(const char *directory, char *error, size_t error_bytes);

/* Takes a newer document over. Replicas that it has not here any more are dropped from the list. To
 * be saved before anything is started. */
void cluster_cache_take(struct cluster_cache *cache, uint64_t version,
                        const struct cluster_document *document);

/* All replicas of the document that belong here run now. True when the list changed: save it. */
bool cluster_cache_note_running(struct cluster_cache *cache);

/* Whether an empty directory may begin with this document under this number. A founder may only
 * with the first document: in a later one its replicas have run, and what it promised is lost. */
bool cluster_cache_may_begin(const struct cluster_cache *cache);

/* Whether this replica has run here before. */
bool cluster_cache_has(const struct cluster_cache *cache, uint32_t shard, uint64_t server);

#endif
