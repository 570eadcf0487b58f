/* Keys of orders, each once in the end, however often it was added. */
#ifndef JUMUN_CLI_KEY_SET_H
#define JUMUN_CLI_KEY_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "clients/sdk/jumun.h"

/* All zero = empty. 16 bytes for at most four times as many keys as there are different ones (2048
 * at least). */
struct key_set {
    jumun_key *keys;
    size_t count, capacity;    /* count: with those that came twice, until it is settled */
};

/* Copies 16 bytes. False without memory. */
bool key_set_add(struct key_set *set, const void *key);
/* From now on keys[0 .. count) are in their order, and each is there once. */
void key_set_settle(struct key_set *set);
void key_set_free(struct key_set *set);

#endif
