/* What a node tells every other one, several times a second and whenever it changes:
 *
 *   [document, [[shard, term, leader, ready], ...], endpoint, version, instance, started_ms,
 *    [[node, instance, age_ms], ...], level_min, level_max, now_ms]
 *     document    uint: version of the newest cluster document that it has
 *     [...]       the shards that it leads; leader = its server id, ready: bool
 *     endpoint    str: where clients reach it
 *     version     str: of the program
 *     instance    uint: a number of this run of the process; two of them under one node number are
 *                 two processes on copies of one data directory
 *     started_ms  int: Unix, when this run began
 *     [...]       whom it has heard, and how long ago
 *     level_...   uint: the levels of a cluster that it can work at (engine/base/program.h); not
 *                 there = the first one only
 *     now_ms      int: Unix, by the sender's clock when it wrote this; not there = not told
 *
 * A field behind those that a reader knows is skipped. Pure; any thread. */
#ifndef JUMUN_PEERS_HELLO_H
#define JUMUN_PEERS_HELLO_H

#include "engine/base/bytes.h"
#include "engine/limits.h"
#include "engine/router/local_shards.h"
#include "engine/wire/msgpack_writer.h"

struct hello {
    uint64_t document;
    uint32_t leads_count;
    struct hello_lead { uint32_t shard; uint64_t term, leader; bool ready; }
        leads[LOCAL_SHARDS_SLOTS];
    char endpoint[ENDPOINT_BYTES_MAX];
    char version[32];
    uint64_t instance;
    int64_t started_ms;
    uint32_t heard_count;
    struct hello_heard { uint32_t node; uint64_t instance; uint64_t age_ms; } heard[NODES_MAX];
    uint8_t level_min, level_max;
    int64_t now_ms;                /* 0 = not told */
};

/* What hello_write() writes at most. */
enum {
    HELLO_BYTES_MAX = 64 + LOCAL_SHARDS_SLOTS * 26 + ENDPOINT_BYTES_MAX + 64 + NODES_MAX * 26 + 13
};

void hello_write(struct msgpack_writer *w, const struct hello *hello);

/* Reads it. False for anything that is not a hello; then *hello is of no use. */
bool hello_read(struct bytes body, struct hello *hello);

#endif
