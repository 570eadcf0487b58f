/* The small parts: keys, codes in words, retries, the circuit breaker, the list of nodes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "clients/sdk/circuit_breaker.h"
#include "clients/sdk/key.h"
#include "clients/sdk/node_list.h"
#include "clients/sdk/retry.h"
#include "clients/sdk/sdk_clock.h"
#include "engine/base/clock.h"

static int compare_keys(const void *a, const void *b) { return memcmp(a, b, 16); }

static void test_keys_are_unique_and_born_now(void **state) {
    enum { COUNT = 20000 };
    static jumun_key keys[COUNT];
    int64_t before = clock_unix_ms();
    for (int i = 0; i < COUNT; i++) keys[i] = i % 2 ? jumun_key_new() : key_new_command_id();
    int64_t born = 0;
    for (int i = 0; i < 6; i++) born = born << 8 | keys[1].bytes[i];
    assert_in_range(born, before, clock_unix_ms());
    qsort(keys, COUNT, sizeof keys[0], compare_keys);
    for (int i = 1; i < COUNT; i++) assert_memory_not_equal(&keys[i - 1], &keys[i], 16);
}

static void test_a_forked_child_has_numbers_of_its_own(void **state) {
    jumun_key here[2], there[2];
    int fds[2];
    key_new_command_id(); /* the source is warm when it is copied */
    jumun_key_new();
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        there[0] = key_new_command_id();
        there[1] = jumun_key_new();
        _exit(write(fds[1], there, sizeof there) == sizeof there ? 0 : 1);
    }
    here[0] = key_new_command_id();
    here[1] = jumun_key_new();
    assert_int_equal(read(fds[0], there, sizeof there), sizeof there);
    waitpid(child, NULL, 0);
    close(fds[0]);
    close(fds[1]);
    assert_memory_not_equal(&here[0], &there[0], 16);
    assert_memory_not_equal(here[1].bytes + 6, there[1].bytes + 6, 10);
}

static void test_key_text(void **state) {
    jumun_key key = jumun_key_new(), back;
    char text[JUMUN_KEY_TEXT_BYTES];
    jumun_key_format(&key, text);
    assert_int_equal(strlen(text), 26);
    for (char *c = text; *c; c++) *c = (char)tolower((unsigned char)*c);
    assert_true(jumun_key_parse(text, &back));
    assert_memory_equal(&key, &back, 16);
    assert_false(jumun_key_parse("01ARZ3NDEKTSV4RRFFQ69G5FA", &back));
    assert_false(jumun_key_parse("01ARZ3NDEKTSV4RRFFQ69G5FAVX", &back));
    assert_false(jumun_key_parse("01ARZ3NDEKTSV4RRFFQ69G5FA!", &back));
    assert_false(jumun_key_parse(NULL, &back));
}

static void test_codes_in_words(void **state) {
    assert_string_equal(jumun_result_text(RESULT_STORE_PAUSED), "the store takes no new orders");
    assert_string_equal(jumun_result_name(RESULT_STORE_PAUSED), "store_paused");
    assert_string_equal(jumun_result_name(JUMUN_OUTCOME_UNKNOWN), "outcome_unknown");
    assert_string_equal(jumun_result_name(4711), "unknown");
    assert_string_equal(jumun_result_text(4711), "unknown result code");
    for (int code = JUMUN_OUTCOME_UNKNOWN; code <= JUMUN_NO_MEMORY; code++)
        assert_string_not_equal(jumun_result_text(code), "unknown result code");
}

static void test_what_is_tried_again(void **state) {
    assert_true(retry_is_worthwhile(RESULT_OVERLOADED));
    assert_true(retry_is_worthwhile(RESULT_SHUTTING_DOWN));
    assert_true(retry_is_worthwhile(RESULT_CLUSTER_NOT_FORMED));
    assert_true(retry_needs_new_map(RESULT_CLUSTER_NOT_FORMED));
    assert_true(retry_tells_of_one_attempt(RESULT_CLUSTER_NOT_FORMED));
    assert_false(retry_is_worthwhile(RESULT_OK));
    assert_false(retry_is_worthwhile(RESULT_DISK_FULL));
    for (int code = RESULT_OVERLOADED; code < RESULT_MALFORMED_MESSAGE; code++)
        assert_true(retry_tells_of_one_attempt(code));
    assert_true(retry_tells_of_one_attempt(RESULT_WRONG_SHARD));
    assert_true(retry_tells_of_one_attempt(RESULT_CLUSTER_NOT_FORMED));
    assert_true(retry_is_worthwhile(RESULT_CLUSTER_NOT_FORMED));
    assert_true(retry_needs_new_map(RESULT_CLUSTER_NOT_FORMED));
    assert_false(retry_tells_of_one_attempt(RESULT_CLUSTER_FORMED_ALREADY));
    assert_false(retry_tells_of_one_attempt(RESULT_OK));
    assert_false(retry_tells_of_one_attempt(RESULT_HELD));
    assert_false(retry_tells_of_one_attempt(RESULT_ORDER_NOT_FOUND));
    assert_false(retry_is_worthwhile(RESULT_ORDER_NOT_FOUND));
    assert_true(retry_needs_new_map(RESULT_WRONG_SHARD));
    assert_false(retry_needs_new_map(RESULT_OVERLOADED));
}

static void test_delays_are_spread_below_a_growing_bound(void **state) {
    int64_t most[12] = {0};
    for (uint32_t attempt = 1; attempt < 12; attempt++) {
        for (int i = 0; i < 1000; i++) {
            int64_t ns = retry_delay_ns(attempt, 10, 500, 0);
            assert_in_range(ns, 0, 500000000);
            if (ns > most[attempt]) most[attempt] = ns;
        }
    }
    assert_true(most[1] <= 10000000 && most[1] > 5000000); /* a chance of 2^-1000 to fail */
    assert_true(most[2] <= 20000000 && most[2] > 10000000);
    assert_true(most[11] > 250000000);
    assert_true(retry_delay_ns(1, 10, 500, 70) >= 70000000);
}

static void test_the_breaker(void **state) {
    struct circuit_breaker b;
    circuit_breaker_init(&b, 3, 100);
    assert_true(circuit_breaker_admit(&b, 1));
    assert_false(circuit_breaker_failure(&b, 1));
    assert_false(circuit_breaker_failure(&b, 1));
    circuit_breaker_success(&b);
    assert_false(circuit_breaker_failure(&b, 1));
    assert_false(circuit_breaker_failure(&b, 1));
    assert_true(circuit_breaker_failure(&b, 1)); /* three in a row */
    assert_false(circuit_breaker_is_closed(&b));
    assert_false(circuit_breaker_admit(&b, 50));
    assert_true(circuit_breaker_admit(&b, 101));  /* the probe */
    assert_false(circuit_breaker_admit(&b, 102)); /* nobody else */
    assert_false(circuit_breaker_failure(&b, 110));
    assert_false(circuit_breaker_admit(&b, 205)); /* open anew since 110 */
    circuit_breaker_allow_probe(&b);
    assert_true(circuit_breaker_admit(&b, 206));
    circuit_breaker_success(&b);
    assert_true(circuit_breaker_is_closed(&b));
    assert_true(circuit_breaker_admit(&b, 207));
    assert_true(circuit_breaker_admit(&b, 207));
}

static void on_change(void *arg, bool up) {
    (void)arg;
    (void)up;
}

/* Four nodes at three hosts, where nobody listens: they are connected because the test says so. */
static void test_a_mute_node_is_passed_over(void **state) {
    const jumun_options options = {.circuit_failures = 3, .circuit_open_ms = 1000};
    static struct node_list list;
    struct endpoint *e[4], shard = {.addresses = "tcp://127.0.0.2:3"}, stranger = {.addresses = ""};
    char failed_at[64];
    int64_t later_ns = clock_coarse_ns() + 3600 * 1000000000LL; /* no load outlasts it */
    node_list_init(&list, &options, on_change, NULL);
    assert_int_equal(node_list_add(&list, "tcp://127.0.0.1:1,tcp://127.0.0.2:1,tcp://127.0.0.2:2,"
                                   "tcp://127.0.0.3:1", failed_at, sizeof failed_at), 0);
    for (int i = 0; i < 4; i++) {
        e[i] = atomic_load(&list.nodes[i]);
        atomic_store(&e[i]->connection.pipes, 1);
    }
    assert_ptr_equal(node_list_pick(&list), e[0]);
    node_list_suspect(&list, &shard, later_ns); /* its host has two of them */
    node_list_suspect(&list, &stranger, later_ns);
    assert_ptr_equal(node_list_pick(&list), e[0]);
    node_list_failed(&list, e[0]);
    assert_ptr_equal(node_list_pick(&list), e[3]);
    node_list_failed(&list, e[3]);
    assert_ptr_equal(node_list_pick(&list), e[0]);
    node_list_suspect(&list, e[0], later_ns);
    assert_ptr_equal(node_list_pick(&list), e[3]);
    node_list_failed(&list, e[3]); /* the others are mute */
    assert_ptr_equal(node_list_pick(&list), e[3]);
    endpoint_answered(e[2]);
    node_list_failed(&list, e[3]);
    assert_ptr_equal(node_list_pick(&list), e[2]);
    endpoint_answered(e[1]);
    node_list_suspect(&list, e[1], clock_coarse_ns() - NODE_MUTE_NS); /* that is over */
    assert_ptr_equal(node_list_pick(&list), e[2]);
    for (int i = 0; i < 4; i++) node_list_suspect(&list, e[i], later_ns);
    node_list_failed(&list, e[2]); /* better a mute one than the same again */
    assert_ptr_not_equal(node_list_pick(&list), e[2]);
    for (int i = 0; i < 4; i++) atomic_store(&e[i]->connection.pipes, 0);
    node_list_fini(&list);
}

/* One that is a replica is turned to only where there is nothing else. */
static void test_a_replica_is_no_node(void **state) {
    const jumun_options options = {.circuit_failures = 3, .circuit_open_ms = 1000};
    static struct node_list list;
    struct endpoint *e[2];
    char failed_at[64];
    int64_t later_ns = clock_coarse_ns() + 3600 * 1000000000LL;
    node_list_init(&list, &options, on_change, NULL);
    assert_int_equal(node_list_add(&list, "tcp://127.0.0.1:1,tcp://127.0.0.2:1", failed_at,
                                   sizeof failed_at), 0);
    for (int i = 0; i < 2; i++) {
        e[i] = atomic_load(&list.nodes[i]);
        atomic_store(&e[i]->connection.pipes, 1);
    }
    assert_ptr_equal(node_list_pick(&list), e[0]);
    atomic_store(&e[0]->peer, PEER_REPLICA);
    assert_ptr_equal(node_list_pick(&list), e[1]);
    assert_true(node_list_may_have_node(&list));
    node_list_suspect(&list, e[1], later_ns); /* mute, but the only one that takes commands */
    node_list_failed(&list, e[1]);
    assert_ptr_equal(node_list_pick(&list), e[1]);
    atomic_store(&e[1]->peer, PEER_REPLICA);
    assert_false(node_list_may_have_node(&list));
    assert_false(node_list_knows_node(&list));
    atomic_store(&e[0]->peer, PEER_NODE);
    assert_true(node_list_knows_node(&list));
    assert_non_null(node_list_pick(&list));
    for (int i = 0; i < 2; i++) atomic_store(&e[i]->connection.pipes, 0);
    node_list_fini(&list);
}

/* nng tells on two threads: in any order that can come about, none stands that is gone. */
static void test_a_pipe_that_is_gone_does_not_come(void **state) {
    static struct pipe_list list;
    pipe_list_init(&list);
    pipe_list_announce(&list, 7, 1);
    assert_false(pipe_list_has(&list, 1));
    assert_true(pipe_list_come(&list, 7));
    assert_true(pipe_list_has(&list, 1));
    assert_false(pipe_list_has(&list, 2));
    assert_true(pipe_list_go(&list, 7));
    assert_false(pipe_list_has(&list, 1));
    pipe_list_announce(&list, 8, 1); /* of another protocol */
    assert_false(pipe_list_go(&list, 8));
    pipe_list_announce(&list, 9, 1); /* broke right behind the greeting */
    assert_false(pipe_list_go(&list, 9));
    assert_false(pipe_list_come(&list, 9));
    assert_false(pipe_list_has(&list, 1));
    assert_false(pipe_list_go(&list, 10)); /* its dialer was closed just then */
    for (uint32_t i = 0; i < 3 * PIPE_LIST_MAX; i++) pipe_list_announce(&list, 100 + i, 1);
    for (uint32_t i = 0; i < PIPE_LIST_MAX; i++) { /* there is room for as many as can stand */
        pipe_list_announce(&list, 1000 + i, 2);
        assert_true(pipe_list_come(&list, 1000 + i));
    }
    pipe_list_announce(&list, 2000, 1);
    assert_false(pipe_list_come(&list, 2000));
    for (uint32_t i = 0; i < PIPE_LIST_MAX; i++) assert_true(pipe_list_go(&list, 1000 + i));
    assert_false(pipe_list_has(&list, 2));
    pipe_list_fini(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_are_unique_and_born_now),
        cmocka_unit_test(test_a_forked_child_has_numbers_of_its_own),
        cmocka_unit_test(test_key_text),
        cmocka_unit_test(test_codes_in_words),
        cmocka_unit_test(test_what_is_tried_again),
        cmocka_unit_test(test_delays_are_spread_below_a_growing_bound),
        cmocka_unit_test(test_the_breaker),
        cmocka_unit_test(test_a_mute_node_is_passed_over),
        cmocka_unit_test(test_a_replica_is_no_node),
        cmocka_unit_test(test_a_pipe_that_is_gone_does_not_come),
    };
    return cmocka_run_group_tests_name("sdk_parts", tests, NULL, NULL);
}
