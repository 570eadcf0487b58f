/* The thread that reads histories from the log, so that no shard ever waits for a disk. It takes
 * whole parts from the shards once their gate is open and gives them back done. One for the node;
 * its queue is bounded, and a full queue is an answer (OVERLOADED, by the shard). */
#ifndef JUMUN_NODE_HISTORY_READER_H
#define JUMUN_NODE_HISTORY_READER_H

#include "engine/shard/shard.h"

struct history_reader;

struct history_reader_stats {
    uint64_t reads;            /* histories read */
    uint64_t refused;          /* parts that found the queue full */
    uint64_t waiting;          /* parts in the queue now */
    uint64_t read_ns;          /* time spent, summed */
};

/* `storages` by local_shards_slot(); a storage is only closed after history_reader_flush(). NULL
 * with a sentence in error. */
struct history_reader *history_reader_start(struct storage *const *storages, char *error,
                                            size_t error_bytes);

/* Takes over the part. False = queue full, or stopped. Any thread; never blocks on a disk. Fits
 * shard_options.read_history with the reader as its arg. */
bool history_reader_offer(void *reader, struct shard *shard, struct request_part *part);

/* Waits until everything that was offered before is read. Any thread but the reader's. */
void history_reader_flush(struct history_reader *reader);

/* Finishes what is queued, then joins and frees. */
void history_reader_stop(struct history_reader *reader);

void history_reader_stats(struct history_reader *reader, struct history_reader_stats *stats);

#endif
