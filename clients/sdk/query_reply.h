/* Reads a replica's reply (engine/wire/query_protocol.h) from untrusted bytes. No allocation. One
 * thread. */
#ifndef JUMUN_SDK_QUERY_REPLY_H
#define JUMUN_SDK_QUERY_REPLY_H

#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"
#include "engine/limits.h"
#include "engine/wire/msgpack_reader.h"

enum query_reply_kind {
    QUERY_REPLY_RESULTS,   /* `count` results follow: query_reply_next() */
    QUERY_REPLY_REFUSED,   /* the whole message was refused: `code`, `sentence` */
    QUERY_REPLY_OF_FEED,   /* the same in the words of a node's feed */
    QUERY_REPLY_GARBAGE    /* not this protocol */
};

struct query_reply {
    struct msgpack_reader at;      /* the next result */
    uint32_t count;
    int code;
    const void *sentence;          /* UTF-8 of the message, not terminated */
    uint32_t sentence_bytes;
    uint32_t tokens_count, missing_count;
    jumun_token tokens[SHARDS_MAX];
    uint32_t ages[SHARDS_MAX];     /* ms, by place in tokens; UINT32_MAX = not known */
    uint32_t missing[SHARDS_MAX];  /* shards */
};

enum query_reply_kind query_reply_open(struct query_reply *reply, const void *data, size_t bytes);

struct query_result {
    int code;
    uint32_t version, shard, retry_after_ms;
    uint64_t index;
    bool partial, uncounted;
    const void *value, *cursor, *sentence;  /* inside the message; NULL = none */
    size_t value_bytes;
    uint32_t cursor_bytes, sentence_bytes;
};

/* The next result. False: garbage; then nothing more can be read. At most `count` times. */
bool query_reply_next(struct query_reply *reply, struct query_result *result);

/* The oldest age of all shards (of one: `shard`; UINT32_MAX = all). */
uint32_t query_reply_age(const struct query_reply *reply, uint32_t shard);

/* Whether it reflects the token. */
bool query_reply_has(const struct query_reply *reply, const jumun_token *token);
/* Whether it reflects any of the shard. */
bool query_reply_knows(const struct query_reply *reply, uint32_t shard);
bool query_reply_lacks(const struct query_reply *reply, uint32_t shard); /* named in `missing` */

/* What a JUMUN_CHANGES says beside its rows. */
struct query_changes {
    const void *rows;              /* msgpack: an array */
    size_t rows_bytes;
    uint32_t rows_count, tokens_count;
    bool complete;
    jumun_token tokens[SHARDS_MAX];
};
bool query_changes_read(const void *value, size_t bytes, struct query_changes *changes);

#endif
