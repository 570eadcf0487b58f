/* Writes a shard's directory as a node would have written it: the log, record by record as it was,
 * and the state that a fold came to. One thread. */
#ifndef JUMUN_REPLAY_WRITER_H
#define JUMUN_REPLAY_WRITER_H

#include <jansson.h>

#include "clients/replay/fold.h"
#include "clients/replay/unseen.h"
#include "engine/wire/routing.h"

struct shard_writer;

/* Opens (and makes) `directory`; its parent exists. NULL with a sentence. */
struct shard_writer *shard_writer_open(const char *directory, uint32_t shard, char *error,
                                       size_t error_bytes);
/* The newest record in it; 0 = none. */
uint64_t shard_writer_last(const struct shard_writer *writer);

/* Adds a record behind the last one (any index when there is none), byte for byte. Waits while too
 * much is on its way to the disk. False without memory, or while the disk is full (told). */
bool shard_writer_append(struct shard_writer *writer, const struct record_header *header,
                         const void *payload);
/* Everything added is durable. False: it is not (told). */
bool shard_writer_sync(struct shard_writer *writer, char *error, size_t error_bytes);

/* What the marker says beside the fold. */
struct shard_writer_marker {
    uint64_t index, term;      /* of the last record that the state reflects */
    uint64_t configuration_index;
    const uint8_t *configuration;
    uint32_t configuration_bytes;
    const struct unseen *unseen; /* messages that peers have not seen: all that were sent behind
                                    unseen->acknowledged */
    uint32_t shards_count;     /* that there ever were */
    uint64_t sort_bytes;       /* memory for bringing orders into the order of their keys */
};

/* Stores every actor of the fold, messages, timers, cursors and the marker; the fold's orders are
 * gone afterwards (fold_drop_orders). The log holds up to the marker already. Durable on return.
 * False with a sentence. */
bool shard_writer_store(struct shard_writer *writer, struct fold *fold,
                        const struct shard_writer_marker *marker, char *error,
                        size_t error_bytes);

/* A vote that forgets whom it was for: the next term is new to everybody. */
void shard_writer_vote(struct shard_writer *writer, uint64_t term);

void shard_writer_close(struct shard_writer *writer);

/* What node.json or backup.json says. */
struct writer_identity {
    const char *cluster_id;    /* "" = one is made */
    uint64_t node_id;          /* 0 = 1 */
    uint32_t shards;
    int64_t created_ms;
    const struct routing_epoch *epochs; /* of a cluster that has grown */
    uint32_t epochs_count;     /* 0 or 1 = it has not */
    uint32_t stores_shards;    /* with them: stores are spread over */
    uint8_t generation;        /* with them: of the cluster document to come; 0 = not told */
    const char (*ancestors)[CLUSTER_ID_BYTES]; /* clusters that went over into it */
    uint32_t ancestors_count;
    json_t *runs;              /* of a backup; NULL = none; borrowed */
    json_t *holds;             /* with them: the numbers of its shards */
};

/* node.json or backup.json of a directory, written beside and renamed. False with a sentence. */
bool writer_identity(const char *directory, const char *name, const struct writer_identity *told,
                     char *error, size_t error_bytes);

/* Makes a directory and those above it. False with a sentence; also when it holds anything and
 * `empty` is wanted. */
bool writer_directory(const char *path, bool empty, char *error, size_t error_bytes);

#endif
