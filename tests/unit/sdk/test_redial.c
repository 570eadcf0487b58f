/* Connections that nng gives up for good, and that the library dials anew: the greeting broke just
 * when it was being sent, or somebody else answered at the address for a while. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"
#include "tests/lib/ports.h"

enum { PATIENCE_MS = 170000 };

static atomic_int port;        /* of the server, whenever one listens */
static atomic_int broken;      /* greetings to it that break from now on */
static atomic_int greeted;     /* that broke */

/* libnng sends with this one. What goes to the server breaks as when it left in the midst of its
 * greeting: nng reads this as "the dialer is closed". */
__attribute__((visibility("default"), used)) ssize_t
sendmsg(int fd, const struct msghdr *message, int flags) {
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    bool to_server = getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
                     peer.sin_family == AF_INET && ntohs(peer.sin_port) == atomic_load(&port);
    if (to_server && atomic_fetch_sub(&broken, 1) > 0) {
        atomic_fetch_add(&greeted, 1);
        errno = EPIPE;
        return -1;
    }
    if (to_server) atomic_fetch_add(&broken, 1);
    return syscall(SYS_sendmsg, fd, message, flags);
}

/* Answers each message with the same bytes: as a node, or as a replica that has no shards. */
struct server { nng_socket socket; pthread_t thread; bool node; };

static void *server_main(void *arg) {
    static const uint8_t of_node[] = {0x93, 1, 0, 0x91, 0x96, 0, 0, 0, 0, 0, 0xa1, 'p'};
    static const uint8_t of_replica[] = {0x95, 1, 0, 0x91, 0x96, 0, 0, 0, 0, 0, 0xa1, 'p', 0x90,
                                         0x90};
    struct server *s = arg;
    nng_msg *message;
    while (nng_recvmsg(s->socket, &message, 0) == 0) {
        nng_msg_clear(message);
        if (s->node) assert_int_equal(nng_msg_append(message, of_node, sizeof of_node), 0);
        else assert_int_equal(nng_msg_append(message, of_replica, sizeof of_replica), 0);
        if (nng_sendmsg(s->socket, message, 0) != 0) nng_msg_free(message);
    }
    return NULL;
}

static void server_listen(nng_socket socket) {
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", atomic_load(&port));
    assert_int_equal(nng_listen(socket, url, NULL, 0), 0);
}

static void server_start(struct server *s, bool node) {
    s->node = node;
    assert_int_equal(nng_rep0_open(&s->socket), 0);
    server_listen(s->socket);
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_end(struct server *s) {
    nng_close(s->socket);
    pthread_join(s->thread, NULL);
    atomic_store(&broken, 0);
    atomic_store(&greeted, 0);
}

static jumun_queries *open_queries(void) {
    char address[64], error[128] = "";
    const jumun_query_options options = {.timeout_ms = PATIENCE_MS};
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", atomic_load(&port));
    jumun_queries *q = jumun_queries_open(address, &options, error, sizeof error);
    assert_string_equal(error, "");
    return q;
}

static void assert_answers(jumun_queries *q) {
    const jumun_query ping = {.kind = JUMUN_REPLICA_PING};
    jumun_answer *a;
    assert_int_equal(jumun_query_run(q, &ping, &a), JUMUN_OK);
    jumun_answer_free(a);
}

static void await(atomic_int *count, int wanted) {
    for (int i = 0; i < PATIENCE_MS && atomic_load(count) < wanted; i++) usleep(1000);
    assert_true(atomic_load(count) >= wanted);
}

/* The first try, and the one of the first dialling anew. */
static void queries_outlive_a_broken_greeting(void **state) {
    struct server s;
    server_start(&s, false);
    atomic_store(&broken, 2);
    jumun_queries *q = open_queries();
    await(&greeted, 1);
    assert_answers(q);
    assert_int_equal(atomic_load(&greeted), 2);
    assert_answers(q);
    jumun_queries_close(q);
    server_end(&s);
}

static void a_client_outlives_a_broken_greeting(void **state) {
    struct server s;
    char address[64], error[128] = "";
    server_start(&s, true);
    atomic_store(&broken, 1);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", atomic_load(&port));
    jumun_client *c = jumun_open(address, NULL, error, sizeof error);
    assert_non_null(c);
    await(&greeted, 1);
    assert_int_equal(jumun_ping(c, PATIENCE_MS), JUMUN_OK);
    jumun_close(c);
    server_end(&s);
}

static void count_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    atomic_int *came = arg;
    atomic_fetch_add(came, 1);
}

/* It greets and speaks another protocol: such a connection goes without ever having come. */
static void queries_outlive_a_stranger(void **state) {
    static atomic_int came;
    nng_socket stranger;
    struct server s;
    assert_int_equal(nng_push0_open(&stranger), 0);
    assert_int_equal(nng_pipe_notify(stranger, NNG_PIPE_EV_REM_POST, count_pipe, &came), 0);
    server_listen(stranger);
    jumun_queries *q = open_queries();
    await(&came, 3);
    nng_close(stranger);
    server_start(&s, false);
    assert_answers(q);
    jumun_queries_close(q);
    server_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_outlive_a_broken_greeting),
        cmocka_unit_test(a_client_outlives_a_broken_greeting),
        cmocka_unit_test(queries_outlive_a_stranger),
    };
    atomic_store(&port, ports_pick(1));
    return cmocka_run_group_tests_name("sdk_redial", tests, NULL, NULL);
}
