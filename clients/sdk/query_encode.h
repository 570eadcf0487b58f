/* jumun_query -> the bytes of engine/wire/query_protocol.h. Any thread. */
#ifndef JUMUN_SDK_QUERY_ENCODE_H
#define JUMUN_SDK_QUERY_ENCODE_H

#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"
#include "engine/wire/msgpack_writer.h"

/* NULL, or what is wrong with the query: a sentence. */
const char *query_encode_fault(const jumun_query *query);

/* Enough room for query_encode(). */
size_t query_encode_bytes_max(const jumun_query *query);

/* One query, without its demand. It has no fault. */
void query_encode(struct msgpack_writer *writer, const jumun_query *query);

/* What stands around the queries of a message: the head, `count` encoded queries, the tail.
 * wait_ms 0 = the replica does not wait; max_age_ms -1 = any. */
enum { QUERY_HEAD_BYTES_MAX = 24 };
void query_encode_head(struct msgpack_writer *writer, uint32_t wait_ms, uint32_t count);
size_t query_encode_tail_bytes_max(uint32_t tokens_count);
void query_encode_tail(struct msgpack_writer *writer, const jumun_token *tokens, uint32_t count,
                       int64_t max_age_ms);

#endif
