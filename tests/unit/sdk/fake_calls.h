/* The calls that tests of clients make again and again; see fake_engine.h. */
#ifndef JUMUN_TESTS_FAKE_CALLS_H
#define JUMUN_TESTS_FAKE_CALLS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "clients/sdk/jumun.h"

/* Attempts that no load ends before their answer: messages can be counted. */
static const jumun_options patient = {.timeout_ms = 120000, .attempt_timeout_ms = 120000};

static inline jumun_client *open_client(const char *endpoints, const jumun_options *options) {
    char error[128] = "";
    jumun_client *c = jumun_open(endpoints, options, error, sizeof error);
    assert_string_equal(error, "");
    return c;
}

/* A command for an order of its own. */
static inline int ready(jumun_client *c, jumun_result *r) {
    jumun_key key = jumun_key_new();
    return jumun_mark_ready(c, &key, NULL, r);
}

static inline int ready_within(jumun_client *c, uint32_t ms) {
    jumun_key key = jumun_key_new();
    return jumun_mark_ready(c, &key, &(jumun_options_command){.timeout_ms = ms}, NULL);
}

#endif
