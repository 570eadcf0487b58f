/* New 128-bit numbers: order keys and command ids. Any thread. */
#ifndef JUMUN_SDK_KEY_H
#define JUMUN_SDK_KEY_H

#include <string.h>

#include "clients/sdk/jumun.h"

static inline bool key_is_zero(const jumun_key *key) {
    static const jumun_key zero;
    return memcmp(key, &zero, sizeof zero) == 0;
}

/* A new command id: unique, never zero, but not secret. Costs a few nanoseconds: 96 random bits a
 * thread and a count. */
jumun_key key_new_command_id(void);

/* A random number for jitter: 0 .. below-1; `below` > 0. */
uint64_t key_random_below(uint64_t below);

#endif
