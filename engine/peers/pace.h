/* How fast a follower that lags may be sent what it lacks, so that running traffic is not held up.
 *
 * What it is sent it has to write and apply, with the processor and the disk that it may share with
 * others. While little else goes on it gets all that the bound allows. While this node's leaders
 * have work, it is sent a quarter more than they write themselves: that much it takes to come
 * nearer, and no more than a quarter above what a follower costs anyway. */
#ifndef JUMUN_PEERS_PACE_H
#define JUMUN_PEERS_PACE_H

#include <stdatomic.h>
#include <stdint.h>

#include "engine/limits.h"

/* All zero but the bound is a pace that has seen nothing yet. */
struct pace {
    uint64_t bound;               /* bytes a second; 0 = none */
    atomic_ullong bytes[NODES_MAX]; /* of fresh entries, by the node that they were sent to */
    uint64_t before[NODES_MAX];   /* ... when it was last looked at */
    int64_t looked_ms;            /* monotonic; 0 = never */
    uint64_t running;             /* bytes a second that the leaders here write, smoothed */
    uint64_t given;               /* newest answer: it sinks at once and doubles in some seconds */
};

/* Fresh entries, as payload, go to a node. Any thread. */
void pace_note(struct pace *pace, uint32_t node, uint64_t bytes);

/* Bytes a second for a follower that lags; 0 = no bound. Over the bound only where the leaders here
 * write nearly as much themselves: with less a follower would never come near. One thread at a
 * time, which calls it about five times a second. */
uint64_t pace_rate(struct pace *pace, int64_t mono_ms);

/* The same for so many followers together, within the bound while the leaders here do little; else
 * each gets its own: shared between them, what one needs to come nearer would keep none from
 * falling behind further. */
uint64_t pace_of_all(const struct pace *pace, uint64_t rate, uint32_t followers);

#endif
