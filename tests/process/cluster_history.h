/* Judges what many callers did to one order: whether all answers that they got can be explained by
 * commands that took effect one at a time, each between its call and its answer (linearizable),
 * each once, none lost.
 *
 * Versions make that easy to decide. The order's own history tells for each command the version
 * that it led to, so the commands have one order only; a read has its place behind the version that
 * it saw. What is left is real time: what ended before another call began must not stand behind it.
 * That is checked for all pairs in one sweep. Pure; needs no cluster. */
#ifndef JUMUN_TESTS_CLUSTER_NODES_HISTORY_H
#define JUMUN_TESTS_CLUSTER_NODES_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/process/answers.h"

enum history_fate {
    HISTORY_DONE,       /* a command that was acknowledged; a read that was answered */
    HISTORY_REFUSED,    /* by a rule, or certainly not done by its code */
    HISTORY_UNKNOWN     /* no answer: it may have been done, once, at any time since its begin */
};

struct history_call {
    uint32_t order;             /* the caller's number of the order */
    bool is_read;
    bool may_change_nothing;    /* a command that is acknowledged without an event when it repeats
                                   what is known (a payment part): then as good as a read */
    uint8_t fate;               /* enum history_fate */
    uint16_t code;              /* that was answered; for reports only */
    uint8_t shard;              /* that answered; for measurements only */
    jumun_key id;               /* commands: calls with one id are one command */
    int64_t begin_ns, end_ns;
    uint32_t version;           /* DONE: led to or seen. REFUSED: the version that the answer saw,
                                   0 = the answer tells none */
    uint32_t expected_version;  /* 0 = none was demanded */
};

/* Gets one sentence for each fault. */
typedef void history_report(void *arg, const char *sentence);

/* `calls` of one order, all kinds mixed; they are sorted. `events` is what the order's history says
 * now that nothing is under way. Returns the number of faults. */
uint32_t history_check(struct history_call *calls, uint32_t count,
                       const struct answer_history *events, history_report *report, void *arg);

#endif
