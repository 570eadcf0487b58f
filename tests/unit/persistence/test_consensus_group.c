/* Random groups (consensus_group.h): runs that must end well, planted faults that must be found.
 *
 *   test_consensus_group [SEEDS [FIRST [RULES_OFF]]]   so many runs of everything together
 */
/* clang-format off: cmocka.h needs the others before it */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/persistence/consensus_group.h"

static void print_totals(const char *what, const struct group_totals *t) {
    printf("%s: %lu runs: committed %lu, elections %lu, crashes %lu, messages lost %lu, checkpoints"
           " %lu, installs %lu, changes %lu, transfers %lu, reads confirmed %lu\n",
           what, (unsigned long)t->runs, (unsigned long)t->committed, (unsigned long)t->elections,
           (unsigned long)t->crashes, (unsigned long)t->lost, (unsigned long)t->checkpoints,
           (unsigned long)t->installs, (unsigned long)t->changes, (unsigned long)t->transfers,
           (unsigned long)t->reads);
}

/* Runs `count` seeds; fails on the first fault. */
static void all_well(const char *what, struct group_options options, uint64_t count,
                     struct group_totals *totals) {
    for (uint64_t i = 0; i < count; i++, options.seed++) {
        const char *fault = group_run(&options, totals);
        if (fault != NULL) {
            fail_msg("%s: seed %lu: %s", what, (unsigned long)options.seed, fault);
        }
    }
    print_totals(what, totals);
}

/* True if one of `count` seeds ends in a judgement. */
static bool caught(struct group_options options, uint64_t count) {
    struct group_totals totals = {0};
    for (uint64_t i = 0; i < count; i++, options.seed++) {
        if (group_run(&options, &totals) != NULL) return true;
    }
    return false;
}

static void three_voters_agree(void **state) {
    struct group_totals t = {0};
    all_well("three voters", (struct group_options){.seed = 1, .voters = 3}, 150, &t);
    assert_true(t.committed > 10000);
    assert_true(t.elections > 150);
    assert_true(t.crashes > 150);
}

static void three_voters_with_everything(void **state) {
    struct group_totals t = {0};
    struct group_options options = {.seed = 1000,
                                    .voters = 3,
                                    .snapshots = true,
                                    .membership = true,
                                    .transfers = true,
                                    .reads = true};
    all_well("three voters, everything", options, 150, &t);
    assert_true(t.installs > 150);
    assert_true(t.changes > 150);
    assert_true(t.transfers > 150);
    assert_true(t.reads > 10000);
}

static void five_voters_with_everything(void **state) {
    struct group_totals t = {0};
    struct group_options options = {.seed = 2000,
                                    .voters = 5,
                                    .snapshots = true,
                                    .membership = true,
                                    .transfers = true,
                                    .reads = true};
    all_well("five voters, everything", options, 60, &t);
    assert_true(t.installs > 60);
    assert_true(t.changes > 60);
}

static void three_voters_on_slow_disks(void **state) {
    struct group_totals t = {0};
    struct group_options options = {.seed = 4000,
                                    .voters = 3,
                                    .snapshots = true,
                                    .transfers = true,
                                    .reads = true,
                                    .slow_disks = true};
    all_well("three voters, slow disks", options, 60, &t);
    assert_true(t.elections > 60);
}

static void one_voter_alone(void **state) {
    struct group_totals t = {0};
    struct group_options options = {.seed = 3000, .voters = 1, .snapshots = true, .reads = true};
    all_well("one voter", options, 20, &t);
    assert_true(t.reads > 1000);
}

static void canary_votes_that_are_not_stored(void **state) {
    assert_true(caught((struct group_options){.seed = 1, .voters = 3, .forgets_votes = true}, 200));
}

#ifdef JUMUN_DEBUG_CHECKS
static void truncated_rule_off(void *arg) {
    struct group_options options = {.seed = 1,
                                    .voters = 3,
                                    .transfers = true,
                                    .slow_disks = true,
                                    .rules_off = CONSENSUS_RULE_TRUNCATED};
    if (caught(options, 400)) abort();
}

/* Reports of truncated records: the judge sees it, or the seam's own assertion does. */
static void canary_truncated_records_count(void **state) {
    assert_true(world_aborts(truncated_rule_off, NULL));
}

static void canary_reads_without_a_majority(void **state) {
    struct group_options options = {
        .seed = 1, .voters = 3, .transfers = true, .reads = true, .rules_off = CONSENSUS_RULE_Q1};
    assert_true(caught(options, 200));
}

static void canary_pings_answered_in_another_term(void **state) {
    struct group_options options = {
        .seed = 1, .voters = 3, .transfers = true, .reads = true, .rules_off = CONSENSUS_RULE_Q2};
    assert_true(caught(options, 400));
}
#endif

/* By hand: everything together, three and five voters in turn. */
static int many(uint64_t count, uint64_t first, uint32_t rules_off) {
    struct group_totals totals = {0};
    uint64_t bad = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct group_options options = {.seed = seed,
                                        .voters = seed % 2 ? 3 : 5,
                                        .snapshots = true,
                                        .membership = true,
                                        .transfers = true,
                                        .reads = true,
                                        .rules_off = rules_off};
        const char *fault = group_run(&options, &totals);
        if (fault == NULL) continue;
        printf("seed %lu: %s\n", (unsigned long)seed, fault);
        bad++;
    }
    print_totals("all", &totals);
    return bad != 0;
}

int main(int argc, char **argv) {
    if (argc > 1) {
        return many(strtoull(argv[1], NULL, 10), argc > 2 ? strtoull(argv[2], NULL, 10) : 1,
                    argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 0) : 0);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_voters_agree),
        cmocka_unit_test(three_voters_with_everything),
        cmocka_unit_test(five_voters_with_everything),
        cmocka_unit_test(three_voters_on_slow_disks),
        cmocka_unit_test(one_voter_alone),
        cmocka_unit_test(canary_votes_that_are_not_stored),
#ifdef JUMUN_DEBUG_CHECKS
        cmocka_unit_test(canary_truncated_records_count),
        cmocka_unit_test(canary_reads_without_a_majority),
        cmocka_unit_test(canary_pings_answered_in_another_term),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
