/* A moment of all shards at once: where each log is cut so that no message was seen that was not
 * sent. (One that was sent and not seen is sent again by the engine.) */
#ifndef JUMUN_REPLAY_CUT_H
#define JUMUN_REPLAY_CUT_H

#include "clients/replay/replay.h"

struct cut_shard {
    uint64_t index;            /* the last record that stays */
    uint64_t after;            /* cut.growing: records up to here fit together already; not read */
    uint64_t sent[SHARDS_MAX], seen[SHARDS_MAX]; /* newest numbers up to there, by peer */
};

struct cut {
    uint32_t count;
    struct cut_shard *shards;  /* as in replay->source */
    /* Logs that go on: each is read from behind record `after` up to its end, also behind the cut,
     * and never cut before `after`. What a shard had sent up to there is known by what it sent
     * next, numbers being without a gap. */
    bool growing;
};

/* Lowers cut->shards[].index, which are given, until they fit together. A log that does not reach
 * back to record 1 has its base (source_shard.base), which must not be newer than the result: then
 * take an older one and settle again. REPLAY_DONE, or told. */
int cut_settle(struct replay *r, struct cut *cut);

#endif
