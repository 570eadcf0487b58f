/* Actors in the order of their keys, for more of them than fit into memory: what does not fit goes
 * to an unnamed file in the scratch directory in sorted runs, which are merged in the end. A tree
 * that is filled in the order of its keys is written once, page by page; in any other order most of
 * its pages are written, and held, again and again.
 *
 * One thread. */
#ifndef JUMUN_REPLAY_KEY_SORT_H
#define JUMUN_REPLAY_KEY_SORT_H

#include "actors/actor.h"

enum { KEY_SORT_BYTES_MIN = 4 << 20 };

struct key_sort;

/* `memory_bytes` are all that is held, and a little; at least KEY_SORT_BYTES_MIN are, and 32 GiB at
 * most. `scratch` is a directory, used only when they are full. NULL without memory. */
struct key_sort *key_sort_open(uint64_t memory_bytes, const char *scratch);
void key_sort_close(struct key_sort *sort);

/* Takes a copy. Each key once. False: key_sort_error(). */
bool key_sort_add(struct key_sort *sort, const struct actor *actor);

/* Visits all that was added, in the order of their keys; false stops. Once, nothing is added behind
 * it. Actors are only lent for the visit. False as well: key_sort_error(). */
bool key_sort_each(struct key_sort *sort, bool (*visit)(void *arg, const struct actor *actor),
                   void *arg);

uint64_t key_sort_bytes(const struct key_sort *sort); /* held at most so far */
uint32_t key_sort_runs(const struct key_sort *sort);  /* in the file */
/* "" or the sentence of the first failure. */
const char *key_sort_error(const struct key_sort *sort);

#endif
