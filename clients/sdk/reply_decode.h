/* Reads a reply message of docs/protocol.md from untrusted bytes. No allocation. One thread. */
#ifndef JUMUN_SDK_REPLY_DECODE_H
#define JUMUN_SDK_REPLY_DECODE_H

#include "clients/sdk/jumun.h"
#include "engine/wire/msgpack_reader.h"

enum reply_kind {
    REPLY_RESULTS,  /* `count` results follow: reply_next() */
    REPLY_REFUSED,  /* the whole message was refused: `code`, `sentence` */
    REPLY_GARBAGE   /* not this protocol */
};

struct reply {
    struct msgpack_reader at;
    uint32_t count;
    int code;
    const void *sentence; /* UTF-8 of the message, not terminated */
    uint32_t sentence_bytes;
    const void *leader;   /* of the last result: where its shard is led from, as far as told */
    uint32_t leader_bytes;
};

/* The answers of a query replica count as a refusal of the whole message, JUMUN_READ_ONLY. */
enum reply_kind reply_open(struct reply *reply, const void *data, size_t bytes);

/* The next result. Leaves result->id alone. *value is msgpack inside the message, NULL = none.
 * False: garbage; then nothing more can be read. To be called at most `count` times. */
bool reply_next(struct reply *reply, jumun_result *result, const void **value,
                size_t *value_bytes);

/* Copies text into result->detail, cut at a character's border if it is too long. */
void reply_set_detail(jumun_result *result, const void *text, uint32_t bytes);

#endif
