/* Two shards of one node on simulated disks, under a virtual clock, in one thread: the smallest
 * world in which a shard can be asked things and have its disk misbehave. */
#ifndef JUMUN_TEST_SHARD_WORLD_H
#define JUMUN_TEST_SHARD_WORLD_H

#include "engine/shard/shard_internal.h"
#include "tests/world/storage_memory.h"

enum { WORLD_SHARDS = 2, WORLD_COURIER_MAX = 4096 };

struct world_message {
    uint32_t from, to;
    bool acknowledgement;
    uint64_t sequence;
    uint8_t *payload;
    uint32_t bytes;
};

struct world {
    struct courier courier;
    struct storage_memory_options disk_options;
    struct storage_memory *disks[WORLD_SHARDS];
    struct storage *storages[WORLD_SHARDS];
    struct shard *shards[WORLD_SHARDS];
    struct shard_options options;
    struct world_message messages[WORLD_COURIER_MAX];
    uint32_t messages_count;
    bool courier_is_down;
    int64_t mono_ms, now_ms;
    uint64_t ids;                /* made so far */
};

/* One command on its way, and its answer. */
struct ask {
    struct request request;
    struct request_part part;
    struct command command;
    struct result result;
    bool answered;
};

void world_open(struct world *w, const struct storage_memory_options *disk);
void world_close(struct world *w);
void world_start(struct world *w);   /* opens the shards on what the disks hold */
void world_crash(struct world *w);   /* kill -9 of the node */
void world_run(struct world *w, int64_t ms);  /* lets virtual time pass, 1 ms a step */
bool world_round(struct world *w);            /* all shards once; true = something was done */

struct id128 world_id(struct world *w);
struct id128 world_key(struct world *w, uint32_t shard);      /* an order key of that shard */
void world_store(struct world *w, uint32_t shard, char store[16]); /* a store id of that shard */
uint32_t world_shard_of(const struct command *command);

struct command world_place(struct world *w, struct id128 key, const char *store);
struct command world_command(struct world *w, uint8_t kind, struct id128 key);
struct command world_store_command(struct world *w, uint8_t kind, const char *store);

/* Offers a command without running anything. False = mailbox full. */
bool world_offer(struct world *w, struct ask *ask, const struct command *command);
/* Several commands, all of one shard; theirs and the results' memory is the caller's. */
bool world_offer_message(struct world *w, struct ask *ask, struct command *commands,
                         struct result *results, uint32_t count);
/* Offers, runs until it is answered (at most 5 s of virtual time) and returns the answer. */
struct result world_ask(struct world *w, const struct command *command);

/* As the store's own shard counts them. */
int64_t world_open_orders(struct world *w, const char *store);

#endif
