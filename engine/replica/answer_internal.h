/* What the files of the answers share. */
#ifndef JUMUN_REPLICA_ANSWER_INTERNAL_H
#define JUMUN_REPLICA_ANSWER_INTERNAL_H

#include "engine/replica/answer.h"

/* One message that is being answered. */
struct answering {
    const struct answer_source *source;
    const struct query_request *request;
    struct view_read read;
    struct view_position positions[SHARDS_MAX];
    uint32_t ages[SHARDS_MAX];
    bool missing[SHARDS_MAX];  /* by shard */
    uint32_t positions_count;
    uint32_t unknown_missing;  /* a shard that is asked for and cannot be, plus 1; 0 = none */
    bool ready;                /* it has met its cluster: something is known */
    bool partial;              /* something is missing */
    bool watched, changed;
    struct msgpack_writer w;
    uint8_t *block;            /* ACTOR_BYTES_MAX, aligned: the order at hand */
};

/* The order at hand, aligned; NULL = there is none. *shard gets its shard. */
const struct actor *answering_order(struct answering *a, const struct id128 *key, uint32_t *shard);

/* Writes the order as the query's fields want it; nil for NULL. */
void answering_row(struct answering *a, const struct query *query, const struct actor *order);

/* The beginning of a result with a value; `more`: a cursor follows it. That it is partial is added
 * to the flags. */
void answering_head(struct answering *a, uint32_t version, uint32_t shard, uint64_t index,
                    bool more, uint32_t flags);
void answering_refuse(struct answering *a, uint16_t code, uint32_t shard, uint64_t index,
                      uint32_t retry_after_ms);
/* The same with a sentence of its own. */
void answering_refuse_as(struct answering *a, uint16_t code, uint32_t shard, uint64_t index,
                         uint32_t retry_after_ms, const char *sentence);

/* Refuses what view_cursor_open() gave no cursor for. */
void answering_unready(struct answering *a, int rc);

/* The place of a shard in `positions`; -1 = not followed. */
int answering_place(const struct answering *a, uint32_t shard);

/* The queries that walk rows: answer_list.c, answer_counters.c, answer_watch.c. Each writes one
 * result; what does not fit sets writer.overflow. */
void answer_list(struct answering *a, const struct query *query);
void answer_counters(struct answering *a, const struct query *query);
void answer_export(struct answering *a, const struct query *query);
void answer_watch(struct answering *a, const struct query *query);

#endif
