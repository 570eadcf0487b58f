/* A small JSON file beside long work that keeps how far it came, so that a run which was killed is
 * gone on with. */
#ifndef JUMUN_REPLAY_PLACE_H
#define JUMUN_REPLAY_PLACE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct source;

/* What the file holds. NULL: it is not there (`error` is ""), or cannot be read (a sentence). */
json_t *place_read(const char *path, char *error, size_t error_bytes);

/* Puts `json` (released) into the file: written beside, synced and renamed, so that a crash leaves
 * the old file or the new one. 0, or -1 with a sentence. */
int place_write(const char *path, json_t *json, char *error, size_t error_bytes);

/* Whether the directory of the file takes new files; else errno tells why not. */
bool place_is_writable(const char *path);

/* The place of each shard as a list: index[i] belongs to source->shards[i]. */
json_t *place_shards(const struct source *source, const uint64_t index[]);
/* The other way round: index[i] of each shard that the list names; others stay as they are. */
void place_take_shards(const json_t *shards, const struct source *source, uint64_t index[]);

#endif
