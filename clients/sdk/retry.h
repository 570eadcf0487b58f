/* What is tried again, and when. Pure, but for the random jitter. Any thread. */
#ifndef JUMUN_SDK_RETRY_H
#define JUMUN_SDK_RETRY_H

#include <stdbool.h>
#include <stdint.h>

/* Whether the engine's answer means "not now": nothing was changed, and the same command may do
 * better later or elsewhere. */
bool retry_is_worthwhile(int code);

/* Whether the answer leaves open whether the command was acted on: the leader lost its term in the
 * midst of it. */
bool retry_leaves_doubt(int code);

/* Whether the refusal is by the machine, which has not looked the command's id up (codes 2 to 49),
 * or does not know as much as another node (one that waits for its cluster knows nothing): it says
 * nothing about an attempt before, which got no answer and may have been acted on. After such an
 * attempt it is no answer to the call. */
bool retry_tells_of_one_attempt(int code);

/* An election is over within some hundred ms: no retry waits much longer than this for it. */
enum { RETRY_ELECTION_MS_MAX = 50, RETRY_REDIRECTS_MAX = 3 };

/* Whether the answer says that our map of the shards is out of date. */
bool retry_needs_new_map(int code);

/* How long to wait before attempt number attempts + 1: full jitter, a random share of a bound that
 * doubles with each attempt up to `max_ms`, so that callers that failed together do not come back
 * together. What the engine asked for (`asked_ms`) is waited in full before. */
int64_t retry_delay_ns(uint32_t attempts, uint32_t min_ms, uint32_t max_ms, uint32_t asked_ms);

#endif
