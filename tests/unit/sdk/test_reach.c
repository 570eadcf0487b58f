/* Who answers at an address, and what is said of it. What belongs to encryption is tested with real
 * certificates by tests/process/test_tls.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients/sdk/reach.h"
#include "engine/wire/tls.h"
#include "tests/lib/ports.h"

static const struct tls_options none = {.authority = "ca.pem"};
static char sentence[REACH_SENTENCE_BYTES];

static enum reach look(const char *scheme, int port) {
    char address[64];
    snprintf(address, sizeof address, "%s127.0.0.1:%d", scheme, port);
    return reach_look(address, &none, sentence);
}

static void a_node_is_reached(void **state) {
    int port = ports_pick(1);
    char address[64];
    nng_socket socket;
    (void)state;
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port);
    assert_int_equal(nng_rep0_open(&socket), 0);
    assert_int_equal(nng_listen(socket, address, NULL, 0), 0);
    assert_int_equal(look("tcp://", port), REACH_GOOD);
    assert_string_equal(sentence, "");
    assert_int_equal(look("tls+tcp://", port), REACH_FAULT);
    assert_non_null(strstr(sentence, "it does not encrypt"));
    assert_int_equal(look("tcp://", port), REACH_GOOD); /* it was left in order */
    nng_close(socket);
}

static void look_at_a_port(int (*open)(nng_socket *), const char *told) {
    int port = ports_pick(1);
    char address[64];
    nng_socket socket;
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port);
    assert_int_equal(open(&socket), 0);
    assert_int_equal(nng_listen(socket, address, NULL, 0), 0);
    assert_int_equal(look("tcp://", port), REACH_FAULT);
    if (!strstr(sentence, told)) fail_msg("%s", sentence);
    nng_close(socket);
}

static void ports_that_answer_no_requests_are_told(void **state) {
    (void)state;
    look_at_a_port(nng_pull0_open, "a port for the other nodes of a cluster (--peer-listen");
    look_at_a_port(nng_pub0_open, "a port for notifications (--notify-listen");
    look_at_a_port(nng_pair0_open, "answers no requests");
}

static void nobody_is_told(void **state) {
    int port = ports_pick(1);
    (void)state;
    assert_int_equal(look("tcp://", port), REACH_FAULT);
    assert_non_null(strstr(sentence, "nothing listens there"));
    assert_int_equal(look("tls+tcp://", port), REACH_FAULT);
    assert_non_null(strstr(sentence, "nothing listens there"));
}

static void without_an_authority_nothing_is_dialled(void **state) {
    (void)state;
    assert_int_equal(reach_look("tls+tcp://127.0.0.1:1", &(struct tls_options){{0}}, sentence),
                     REACH_FAULT);
    assert_non_null(strstr(sentence, "--tls-ca"));
}

static void other_transports_are_not_looked_at(void **state) {
    (void)state;
    assert_int_equal(reach_look("inproc://node", &none, sentence), REACH_UNKNOWN);
    assert_string_equal(sentence, "");
}

/* -- servers of another kind ------------------------------------------------------------------- */

static const char *stranger_says;

static void *stranger_main(void *arg) {
    int listener = *(int *)arg;
    char heard[256];
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    if (stranger_says) assert_true(write(fd, stranger_says, strlen(stranger_says)) > 0);
    while (read(fd, heard, sizeof heard) > 0) {}
    close(fd);
    return NULL;
}

static void look_at_a_stranger(const char *says, const char *told) {
    int port = ports_pick(1), listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    pthread_t thread;
    stranger_says = says;
    assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(pthread_create(&thread, NULL, stranger_main, &listener), 0);
    assert_int_equal(look("tcp://", port), REACH_FAULT);
    if (!strstr(sentence, told)) fail_msg("%s", sentence);
    pthread_join(thread, NULL);
    close(listener);
}

static void strangers_are_told(void **state) {
    (void)state;
    look_at_a_stranger("220 mail.example\r\n", "another kind of server");
    look_at_a_stranger("\x15\x03\x03", "write tls+tcp://");
    look_at_a_stranger(NULL, "no greeting comes");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_reached),
        cmocka_unit_test(ports_that_answer_no_requests_are_told),
        cmocka_unit_test(nobody_is_told),
        cmocka_unit_test(without_an_authority_nothing_is_dialled),
        cmocka_unit_test(other_transports_are_not_looked_at),
        cmocka_unit_test(strangers_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
