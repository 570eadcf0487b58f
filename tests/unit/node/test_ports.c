/* Where a node listens besides its clients' addresses, and that it takes those at once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <nng/nng.h>
#include <stdio.h>
#include <string.h>

#include "engine/node/ports.h"
#include "tests/lib/ports.h"

static void expect_address(const char *base, int shift, const char *expected) {
    char out[ENDPOINT_BYTES_MAX];
    assert_true(node_port_address(base, shift, "feed", out, sizeof out));
    assert_string_equal(out, expected);
}

static void test_addresses_follow(void **state) {
    char out[ENDPOINT_BYTES_MAX];
    (void)state;
    expect_address("tcp://h:7400", NODE_PORT_FEED, "tcp://h:7398");
    expect_address("tls+tcp://[::1]:7400", NODE_PORT_NOTIFY, "tls+tcp://[::1]:7399");
    expect_address("tcp://h:0", NODE_PORT_FEED, "tcp://h:0");
    expect_address("tcp://h:1", NODE_PORT_FEED, "tcp://h:0");
    expect_address("tcp://h:65535", 1, "tcp://h:0");
    expect_address("inproc://a", NODE_PORT_FEED, "inproc://a-feed");
    assert_false(node_port_address("tcp://h", NODE_PORT_FEED, "feed", out, sizeof out));
    assert_false(node_port_address("tcp://h:x", NODE_PORT_FEED, "feed", out, sizeof out));
    assert_false(node_port_address("tcp://h:70000", NODE_PORT_FEED, "feed", out, sizeof out));
    assert_false(node_port_address("tcp://h:7400", NODE_PORT_FEED, "feed", out, 8));
}

static void test_peers_follow(void **state) {
    char out[ENDPOINT_BYTES_MAX];
    struct config c = {.listen = "tcp://h:7400"};
    (void)state;
    assert_true(node_port_peers(&c, out, sizeof out));
    assert_string_equal(out, "tcp://h:7396");
    snprintf(c.peer_listen, sizeof c.peer_listen, "tcp://h:9");
    assert_true(node_port_peers(&c, out, sizeof out));
    assert_string_equal(out, "tcp://h:9");
    assert_false(node_port_peers(&(struct config){.listen = "tcp://h:0"}, out, sizeof out));
    assert_false(node_port_peers(&(struct config){.listen = "tcp://h:4"}, out, sizeof out));
    assert_false(node_port_peers(&(struct config){.listen = "inproc://h"}, out, sizeof out));
}

static nng_stream_listener *occupy(const char *address) {
    nng_stream_listener *listener;
    assert_int_equal(nng_stream_listener_alloc(&listener, address), 0);
    assert_int_equal(nng_stream_listener_listen(listener), 0);
    return listener;
}

static void refuse(const struct config *c, const char *peers, const char *option) {
    struct node_ports ports;
    char error[512] = "";
    assert_false(node_ports_hold(&ports, c, peers, error, sizeof error));
    assert_int_equal(ports.count, 0);
    assert_non_null(strstr(error, option));
}

static void test_in_use_is_told(void **state) {
    int port = ports_pick(20);
    char address[64], before[64];
    struct config c = {0};
    (void)state;
    snprintf(c.listen, sizeof c.listen, "tcp://127.0.0.1:%d", port + 10);
    snprintf(before, sizeof before, "tcp://127.0.0.1:%d", port + 15);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port + 16);
    nng_stream_listener *listener = occupy(address);
    refuse(&c, address, "--peer-listen");
    refuse(&c, before, "cannot listen on"); /* the port behind it */
    snprintf(c.feed_listen, sizeof c.feed_listen, "%s", address);
    refuse(&c, "tcp://127.0.0.1:0", "--feed-listen");
    snprintf(c.feed_listen, sizeof c.feed_listen, "none");
    snprintf(c.notify_listen, sizeof c.notify_listen, "%s", address);
    struct node_ports ports;
    char error[512] = "";
    assert_true(node_ports_hold(&ports, &c, "tcp://127.0.0.1:0", error, sizeof error));
    c.feed_listen[0] = 0;
    refuse(&c, "tcp://127.0.0.1:0", "--notify-listen");
    nng_stream_listener_close(listener);
    nng_stream_listener_free(listener);
    /* Held, and free again afterwards. */
    assert_true(node_ports_hold(&ports, &c, "tcp://127.0.0.1:0", error, sizeof error));
    assert_int_equal(ports.count, 1);
    refuse(&c, "tcp://127.0.0.1:0", "--notify-listen");
    node_ports_release(&ports);
    assert_true(node_ports_hold(&ports, &c, "tcp://127.0.0.1:0", error, sizeof error));
    node_ports_release(&ports);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_addresses_follow),
                                       cmocka_unit_test(test_peers_follow),
                                       cmocka_unit_test(test_in_use_is_told)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
