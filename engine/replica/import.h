/* Fetches a copy of stored state in chunks, from the feed of a node or from a replica. Blocks; one
 * thread at a time for a path. */
#ifndef JUMUN_REPLICA_IMPORT_H
#define JUMUN_REPLICA_IMPORT_H

#include <nng/nng.h>

#include "engine/replica/view_store.h"
#include "engine/wire/query_decode.h"

/* `url` is an endpoint that answers SNAPSHOT_*; shard UINT32_MAX = all views of a replica. What is
 * of another cluster than `cluster_id` ("" = any) is not taken. Writes
 * the new file `path`, chunk by chunk, each checked; a chunk that does not come is asked for again,
 * from where it was, for some seconds. 0 with the first token's index in *index, or -1 with a
 * sentence and no file. `with` waits for it all: nng_aio_stop() ends it at once (feed_client.h). */
int import_fetch(const char *url, uint32_t shard, const char *cluster_id, const char *path,
                 nng_aio *with, uint64_t *index, char *error, size_t error_bytes);

#endif
