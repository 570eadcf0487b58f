/* A group of servers in one process under a seed: messages are lost, doubled, delayed and overtake
 * each other, disks are slow, servers crash and come back, take snapshots and install those of
 * others, are added, promoted and removed, and hand over leadership; reads are asked for.
 *
 * Judged all the time: one leader a term, one content per committed index, one state per applied
 * index, nothing committed is lost, no confirmed read missed what was committed before it was asked
 * for. At the end, in calm: a leader, progress, everybody has it all, no change is stuck. */
#ifndef JUMUN_TEST_CONSENSUS_GROUP_H
#define JUMUN_TEST_CONSENSUS_GROUP_H

#include "tests/unit/persistence/consensus_world.h"

struct group_options {
    uint64_t seed;
    uint32_t voters; /* at the beginning: 1 to 5 */
    bool snapshots, membership, transfers, reads;
    bool slow_disks; /* one write in three takes up to 0.7 s */
    bool forgets_votes; /* a planted fault */
    uint32_t rules_off; /* planted faults; only with debug checks */
};

/* What happened, summed over runs. */
struct group_totals {
    uint64_t runs, committed, submitted, elections, crashes, lost, installs, checkpoints, changes,
        transfers, reads;
};

/* NULL = all is well, else what is wrong. */
const char *group_run(const struct group_options *options, struct group_totals *totals);

#endif
