/* The last good answer to each query, for when no replica can be had: bounded in bytes, the ones
 * longest unused go first. Any thread. */
#ifndef JUMUN_SDK_STALE_CACHE_H
#define JUMUN_SDK_STALE_CACHE_H

#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"

struct stale_cache;

/* NULL for lack of memory. */
struct stale_cache *stale_cache_new(uint32_t bytes_max);
void stale_cache_delete(struct stale_cache *cache);

/* Keeps a copy of the answer under the query's bytes, in the place of an older one. One that would
 * take more than an eighth of the whole is not kept. */
void stale_cache_put(struct stale_cache *cache, const void *query, uint32_t query_bytes,
                     const jumun_answer *answer, int64_t now_ns);
/* Forgets all. */
void stale_cache_clear(struct stale_cache *cache);
/* Forgets it: the order is not there any more. */
void stale_cache_drop(struct stale_cache *cache, const void *query, uint32_t query_bytes);

/* The answer kept, as a copy for jumun_answer_free(), `stale`, its age counted up to now; NULL =
 * none. */
jumun_answer *stale_cache_get(struct stale_cache *cache, const void *query, uint32_t query_bytes,
                              int64_t now_ns);

uint64_t stale_cache_bytes(struct stale_cache *cache);

#endif
