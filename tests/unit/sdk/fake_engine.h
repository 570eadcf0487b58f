/* An engine in the test's own process: real nng endpoints, answers by a script of the test.
 *
 * It has a general endpoint and `shards` shard endpoints, answers SHARD_MAP and PING by itself, and
 * gives every other message to the script. The script runs in threads of nng, one at a time. */
#ifndef JUMUN_TESTS_FAKE_ENGINE_H
#define JUMUN_TESTS_FAKE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "clients/sdk/jumun.h"
#include "engine/limits.h"

enum { FAKE_GENERAL = -1, FAKE_COMMANDS_MAX = 1024, FAKE_SHARDS_MAX = 4 };

struct fake_command {
    uint32_t kind;
    jumun_key key;        /* zero for stores and nodes */
    jumun_key id;         /* zero = nil */
};

enum fake_action { FAKE_ANSWER = 0, FAKE_DROP, FAKE_GARBAGE, FAKE_WRONG_VERSION, FAKE_TOO_FEW,
                   FAKE_REFUSE_ALL };

struct fake_message {
    int endpoint;                        /* FAKE_GENERAL, or the shard */
    uint32_t number;                     /* of the messages that the script has seen, from 0 */
    int64_t deadline_ms;
    char cluster[CLUSTER_ID_BYTES];      /* that it names; "" = none */
    uint32_t count;
    struct fake_command commands[FAKE_COMMANDS_MAX];
    /* the answer, for the script to change */
    enum fake_action action;
    uint32_t delay_ms;
    bool held;                           /* the answer waits for fake_engine_release() */
    int codes[FAKE_COMMANDS_MAX];        /* 0 = done */
    uint32_t retry_after_ms;             /* for refusals */
    const char *leader;                  /* for refusals: told as the leader's endpoint; or NULL */
    uint32_t shard;                      /* told as the shard that it is about; 99 = none */
};

typedef void (*fake_script)(void *arg, struct fake_message *message);

struct fake_engine;

/* `name` tells engines of one process apart, or is "tcp://host:port" (its shards: the ports behind
 * that); a second start with the same name and a stop between is a restart.
 * `script` may be NULL: all is done. */
struct fake_engine *fake_engine_start(const char *name, uint32_t shards, fake_script script,
                                      void *arg);
void fake_engine_stop(struct fake_engine *engine);
/* Closes one shard's endpoint; the map goes on naming it. */
void fake_engine_close_shard(struct fake_engine *engine, uint32_t shard);
/* From now on its map says that the shard is led from this address ("" = from nowhere). Kept by
 * reference. */
void fake_engine_move_shard(struct fake_engine *engine, uint32_t shard, const char *address);
/* From now on its map tells this id of a cluster, and that it is a node of it; messages that name
 * another one are refused. Kept by reference. */
void fake_engine_be_of(struct fake_engine *engine, const char *cluster);
/* From now on its map tells that this cluster went over into its own. Kept by reference. */
void fake_engine_descend_from(struct fake_engine *engine, const char *cluster);
/* Messages that named another cluster than its own; the script has not seen them. */
uint32_t fake_engine_wrong_clusters(struct fake_engine *engine);
/* Connections stand, and nothing is answered any more, not even pings. */
void fake_engine_freeze(struct fake_engine *engine);
/* Answers that are held go, and no more are held. */
void fake_engine_release(struct fake_engine *engine);
/* "inproc://...": static storage, one per name. */
const char *fake_engine_address(const char *name);
/* Which shard owns the key, by the map that this engine tells. */
uint32_t fake_engine_shard_of(struct fake_engine *engine, const jumun_key *key);
uint32_t fake_engine_messages(struct fake_engine *engine);
/* Waits until the script has seen this many messages; false after 60 s. */
bool fake_engine_await_messages(struct fake_engine *engine, uint32_t count);

#endif
