/* Answers to queries, from one moment of the views. No sockets, no waiting: who asks again when the
 * state has moved is the query server. Any thread; every call has its own transaction. */
#ifndef JUMUN_REPLICA_ANSWER_H
#define JUMUN_REPLICA_ANSWER_H

#include "engine/replica/view_store.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/query_decode.h"

enum { ANSWER_AGE_UNKNOWN = 0x7fffffff };

/* What a REBUILD begins. */
struct answer_build {
    uint64_t generation;       /* that answers until it is done */
    bool under_way;            /* it was already, and goes on; this one begins nothing */
};

/* What the views can be asked about beside their rows. */
struct answer_source {
    struct view_store *store;
    /* How long ago the shard's rows were known to be the newest there is; ANSWER_AGE_UNKNOWN =
     * never. */
    uint32_t (*age_ms)(void *arg, uint32_t shard);
    /* STATUS and SHARD_MAP: writes one value. */
    void (*status)(void *arg, struct msgpack_writer *writer);
    void (*shard_map)(void *arg, struct msgpack_writer *writer);
    /* Whether rows of a shard may be missing altogether (it is being imported, it is damaged). */
    bool (*is_partial)(void *arg, uint32_t shard);
    /* Whether a node told of the shard: one without rows is missing then. `shard` < SHARDS_MAX. */
    bool (*is_existing)(void *arg, uint32_t shard);
    /* REBUILD: begins it. False with a sentence: there is no such index. */
    bool (*rebuild)(void *arg, struct bytes view, struct answer_build *build, const char **why);
    /* The file of a snapshot, for EXPORT; it stays until it is released. NULL = there are none. */
    bool (*snapshot_hold)(void *arg, uint64_t id, char *path, size_t path_bytes);
    void (*snapshot_release)(void *arg, uint64_t id);
    void *arg;
};

struct answer {
    bool reached;              /* at_least and max_age_ms hold */
    bool changed;              /* some WATCH of the request has rows, or there is none */
    size_t bytes;              /* of the reply in the buffer */
};

/* Writes the reply to a decoded request into `buffer` (MESSAGE_BYTES_MAX). False = no transaction
 * could be had: OVERLOADED. */
bool answer_request(const struct answer_source *source, const struct query_request *request,
                    uint8_t *buffer, struct answer *answer);

/* Refuses a whole message; sentence NULL = the code's. Returns the bytes used. */
size_t answer_refusal(enum result_code code, const char *sentence, uint8_t *buffer,
                      size_t capacity);

#endif
