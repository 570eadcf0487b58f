/* Words of which the directed tests of consensus are made: what peers say to server 1 of three.
 * Includes nothing of cmocka: a test includes that first. */
#ifndef JUMUN_TEST_CONSENSUS_SCRIPT_H
#define JUMUN_TEST_CONSENSUS_SCRIPT_H

#include "engine/base/check.h"
#include "tests/unit/persistence/consensus_world.h"

static const uint64_t three[] = {1, 2, 3};
enum { VOTE_VERSION = 2, RESULT_VERSION = 2 };

/* An append of leader 2 with records of the given types, all of one term. */
static inline void append(struct world_server *s, uint64_t term, uint64_t previous_index,
                          uint64_t previous_term, struct record **records, uint32_t count,
                          uint64_t commit_index, int64_t now_ms) {
    struct consensus_message m = {.kind = CONSENSUS_APPEND,
                                  .from = 2,
                                  .to = s->id,
                                  .term = term,
                                  .previous_index = previous_index,
                                  .previous_term = previous_term,
                                  .records = records,
                                  .records_count = count,
                                  .commit_index = commit_index};
    world_receive(s, &m, now_ms);
    for (uint32_t i = 0; i < count; i++) record_release(records[i]);
}

static inline struct record *events(uint64_t term, uint64_t index) {
    return world_record(term, index, RECORD_EVENTS, "events");
}

static inline struct record *configuration(uint64_t term, uint64_t index, uint32_t servers) {
    static const uint64_t ids[] = {1, 2, 3, 4, 5};
    static const char *const addresses[] = {"s1", "s2", "s3", "s4", "s5"};
    struct record *r = consensus_bootstrap_record(ids, addresses, servers);
    r->header.term = term;
    r->header.index = index;
    return r;
}

static inline void vote(struct world_server *s, uint64_t from, uint64_t term, bool pre_vote,
                        int64_t now_ms) {
    struct consensus_message m = {.kind = CONSENSUS_VOTE,
                                  .version = VOTE_VERSION,
                                  .from = from,
                                  .to = s->id,
                                  .term = term,
                                  .last_index = 1000,
                                  .last_term = term,
                                  .pre_vote = pre_vote};
    world_receive(s, &m, now_ms);
}

static inline void granted(struct world_server *s, uint64_t from, uint64_t term, bool pre_vote,
                           int64_t now_ms) {
    struct consensus_message m = {.kind = CONSENSUS_VOTE_RESULT,
                                  .version = RESULT_VERSION,
                                  .from = from,
                                  .to = s->id,
                                  .term = term,
                                  .granted = true,
                                  .pre_vote = pre_vote,
                                  .features = 1};
    world_receive(s, &m, now_ms);
}

static inline void result(struct world_server *s, uint64_t from, uint64_t rejected,
                          uint64_t last_index, int64_t now_ms) {
    struct consensus_message m = {.kind = CONSENSUS_APPEND_RESULT,
                                  .version = RESULT_VERSION,
                                  .from = from,
                                  .to = s->id,
                                  .term = consensus_term(s->c),
                                  .rejected = rejected,
                                  .last_index = last_index,
                                  .features = 1};
    world_receive(s, &m, now_ms);
}

/* Server 1 of three is elected by 2 and leads with its barrier committed by 2. */
static inline int64_t elect(struct world_server *s, uint32_t rules_off) {
    world_bootstrap(s, 1, three, 3);
    s->rules_off = rules_off;
    world_start(s, 0);
    int64_t now = s->timeout_ms;
    world_tick(s, now);
    require(s->role == CONSENSUS_CANDIDATE);
    granted(s, 2, 2, true, ++now);
    granted(s, 2, 2, false, ++now);
    require(s->role == CONSENSUS_LEADER);
    world_settle(s, ++now);
    result(s, 2, 0, consensus_last_index(s->c), ++now);
    require(s->ready);
    world_clear_out(s);
    return now;
}

static inline void follow(struct world_server *s, uint32_t rules_off) {
    world_bootstrap(s, 1, three, 3);
    s->rules_off = rules_off;
    world_start(s, 0);
    require(s->role == CONSENSUS_FOLLOWER);
}

#endif
