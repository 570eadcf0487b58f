/* Reads every order of a play back and holds it against what was acknowledged. */
#ifndef JUMUN_DEMO_VERIFY_H
#define JUMUN_DEMO_VERIFY_H

#include <stdio.h>

#include "clients/demo/play.h"

struct verify {
    uint64_t keys;             /* that were read: of all orders of the play */
    uint64_t orders;           /* of them, those that were placed */
    uint64_t behind;           /* at an older version than the last one acknowledged: lost */
    uint64_t ahead;            /* at a newer one: done twice, or by somebody else */
    uint64_t unread;           /* no answer */
};

/* After play_run(). `states`: gets one line for each order of the plan, in its order, with all that
 * the play decided of it; NULL = nowhere. Two plays of one plan give the same lines. False without
 * memory. */
bool verify_play(const struct play *play, FILE *states, struct verify *verify);

#endif
