/* A directory that rebuild or restore is making, so that a run which was killed is gone on with:
 * building.json tells what it is to be, built-N.json that shard N is finished. Both go when
 * node.json is there; without one and with the other the directory is half-made. */
#ifndef JUMUN_REPLAY_BEGUN_H
#define JUMUN_REPLAY_BEGUN_H

#include "clients/replay/cut.h"

struct begun_shard {
    bool built;
    uint64_t index;            /* the last record that stays */
    int64_t time_ms;           /* of it */
    uint64_t orders, events;
    struct store_spread spread; /* where stores live, by its log */
    uint64_t version;          /* the newest of a cluster document that its log tells of */
};

struct begun {
    const char *target;        /* borrowed, as `to` is */
    const char *to;            /* the moment as it was given; NULL = not given */
    bool goes_on;              /* an earlier run began it: shards[] have its cut */
    bool whole;                /* ... and only was not told that it was done */
    int lock;                  /* building.json, so that no two runs make the same; -1 = not yet */
    struct begun_shard shards[SHARDS_MAX]; /* by number */
};

/* Whether the directory was finished by an earlier run: there is nothing to go on with. */
bool begun_is_finished(const struct begun *begun);

/* Whether the finished directory is what this run would make: the logs and stored states of the
 * same shards up to the cut, not the source itself, and no node has gone on from it. False with a
 * sentence that says what it is. */
bool begun_is_same(const struct begun *begun, const struct replay *r, const struct cut *cut,
                   char *error, size_t error_bytes);

/* Looks at the directory before anything is made: it is new or empty, or `go_on` and an earlier run
 * of the same source and moment began it. Sets source->node_id to that run's. REPLAY_DONE, or
 * told. */
int begun_open(struct begun *begun, struct replay *r, bool go_on);

/* What is to be made is settled: the directory and building.json are made, or it is found to be
 * what the earlier run wanted. REPLAY_DONE, or told. */
int begun_settle(struct begun *begun, const struct replay *r, const struct cut *cut);

/* Takes away what an earlier run left of an unfinished shard. False with a sentence. */
bool begun_clear(const struct begun *begun, uint32_t number, char *error, size_t error_bytes);
/* shards[number] is durable as a whole. Any thread, each shard by one. False with a sentence. */
bool begun_built(struct begun *begun, uint32_t number, char *error, size_t error_bytes);

/* node.json is there: the rest goes. */
void begun_end(struct begun *begun);
void begun_close(struct begun *begun);

#endif
