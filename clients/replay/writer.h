/* Writes a shard's directory as a node would have written it: the log, record by record as it was,
 * and the state that a fold came to. One thread. */
#ifndef JUMUN_REPLAY_WRITER_H
#define JUMUN_REPLAY_WRITER_H

#include <jansson.h>

#include "clients/replay/fold.h"

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
    const uint64_t *acknowledged;  /* by shard: the newest message that it has seen from this one */
    const uint64_t *oldest_unacknowledged; /* by shard: index from which messages are sent again */
    uint32_t shards_count;
};

/* Stores every actor of the fold, timers, cursors and the marker. The log holds up to the marker
 * already. Durable on return. False with a sentence. */
bool shard_writer_store(struct shard_writer *writer, struct fold *fold,
                        const struct shard_writer_marker *marker, char *error,
                        size_t error_bytes);

/* A vote that forgets whom it was for: the next term is new to everybody. */
void shard_writer_vote(struct shard_writer *writer, uint64_t term);

void shard_writer_close(struct shard_writer *writer);

/* node.json or backup.json of a directory, written beside and renamed. `runs` may be NULL and is
 * not taken over. False with a sentence. */
bool writer_identity(const char *directory, const char *name, const char *cluster_id,
                     uint64_t node_id, uint32_t shards, int64_t created_ms, json_t *runs,
                     char *error, size_t error_bytes);

/* Makes a directory and those above it. False with a sentence; also when it holds anything and
 * `empty` is wanted. */
bool writer_directory(const char *path, bool empty, char *error, size_t error_bytes);

#endif
