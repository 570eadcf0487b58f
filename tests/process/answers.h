/* Reads of the node as the process tests look at them: histories and stores, decoded. */
#ifndef JUMUN_TESTS_ANSWERS_H
#define JUMUN_TESTS_ANSWERS_H

#include "clients/sdk/jumun.h"

enum { ANSWER_EVENTS_MAX = 256 };

struct answer_event {
    uint32_t version;
    uint64_t index;
    jumun_key cause;            /* zero when a deadline caused it */
};

struct answer_history {
    uint32_t count;
    struct answer_event events[ANSWER_EVENTS_MAX]; /* oldest first */
};

/* Both retry while the node says that it is busy or not ready, at most 60 s. Return the final code;
 * a value of another shape than documented is JUMUN_BAD_REPLY. */
int answer_history(jumun_client *client, const jumun_key *order, struct answer_history *history);
int answer_store(jumun_client *client, const char *store, int64_t *open_orders, int64_t *placed);

/* Whether a code means "later, perhaps": the machine's, and the library's own before sending. */
bool answer_is_passing(int code);

#endif
