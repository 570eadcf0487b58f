/* A real data directory of a shard, made by the real storage, for the examples: three records
 * (configuration, events, barrier), a checkpoint, a vote. */
#ifndef JUMUN_TESTS_FORMATS_DISK_H
#define JUMUN_TESTS_FORMATS_DISK_H

#include <stdint.h>

#include "engine/base/bytes.h"

struct formats_row { struct bytes key, value; };

/* The row in environment `env` ("log-00000000000000000001", "state", "vote"), table NULL = the main
 * one, whose key starts with `key`. Lives until the next call; the value is 8-byte aligned. */
struct formats_row formats_disk_row(const char *env, const char *table, const void *key,
                                    uint32_t key_bytes);

#endif
