/* The log of one shard as the feed of a live node gives it: a source of persistence/log_source.h
 * beside that of a directory. Only committed entries are seen.
 *
 * Entries come in pages, the next one on its way while one is read: two pages for each cursor at a
 * time. Every record's checksum is looked at. A node that goes away is waited for (feed_link.h) and
 * gone on with at the record reached; if it stays away, cursors end and log_source_failure() tells.
 * What the node's retention takes meanwhile is LOG_DROPPED. */
#ifndef JUMUN_REPLAY_FEED_LOG_H
#define JUMUN_REPLAY_FEED_LOG_H

#include "clients/replay/feed_link.h"
#include "persistence/log_source.h"

/* `told` is what the node says of the shard; `page_bytes` the size of a page, about. The link must
 * outlive it. NULL without memory. */
struct log_source *feed_log_open(struct feed_link *link, const struct feed_hello_shard *told,
                                 uint32_t page_bytes);

/* Fetches a copy of the shard's stored state into the new directory `to`, as its data.mdb; with the
 * log from the index that it reflects on, it stands for what the log does not reach back to. 0, or
 * -1 with a sentence. */
int feed_log_fetch_state(struct feed_link *link, uint32_t shard, const char *to, char *error,
                         size_t error_bytes);

#endif
