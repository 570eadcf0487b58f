/* An answer in one block of memory. */
#ifndef JUMUN_SDK_QUERY_ANSWER_H
#define JUMUN_SDK_QUERY_ANSWER_H

#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"

/* A copy with all that it points to, for jumun_answer_free(); *bytes (may be NULL) = what it takes.
 * NULL for lack of memory. */
jumun_answer *query_answer_copy(const jumun_answer *answer, size_t *bytes);

#endif
