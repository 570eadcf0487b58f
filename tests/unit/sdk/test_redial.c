/* Connections that nng gives up for good, and that the library dials anew: the greeting broke just
 * when it was being sent, or somebody else answered at the address for a while. And what is asked
 * while a node is away. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "clients/sdk/connection.h"
#include "clients/sdk/endpoint.h"
#include "clients/sdk/jumun.h"
#include "clients/sdk/jumun_query.h"
#include "clients/sdk/queries.h"
#include "clients/sdk/sdk_clock.h"
#include "engine/base/clock.h"
#include "engine/wire/tls.h"
#include "tests/lib/ports.h"

enum { PATIENCE_MS = 170000 };

static int first_port;         /* and the one behind it is for a second server */
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

static _Atomic(jumun_queries *) closing_queries; /* that dial anew until they are being closed */
static atomic_bool closing_waits;

/* The library's calls of it come here. */
int nng_dialer_close(nng_dialer dialer) {
    jumun_queries *q = atomic_load(&closing_queries);
    bool closing = false;
    for (int i = 0; q && i < PATIENCE_MS && !closing; i++) {
        atomic_store(&closing_waits, true);
        pthread_mutex_lock(&q->lock);
        closing = q->closing;
        pthread_mutex_unlock(&q->lock);
        if (!closing) usleep(1000);
    }
    int (*of_nng)(nng_dialer) = (int (*)(nng_dialer))dlsym(RTLD_NEXT, "nng_dialer_close");
    return of_nng(dialer);
}

static void ignore_change(void *arg, bool up) {}

static bool ignore_row(void *arg, const jumun_change *change) { return true; }

/* Answers each message with the same bytes: as a node, or as a replica that has no shards and tells
 * where it notifies. */
struct server { nng_socket socket; pthread_t thread; uint8_t answer[128]; size_t bytes; };

static void server_say(struct server *s, const void *data, size_t bytes) {
    assert_true(s->bytes + bytes <= sizeof s->answer);
    memcpy(s->answer + s->bytes, data, bytes);
    s->bytes += bytes;
}

static void server_prepare(struct server *s, bool node, const char *notify) {
    uint8_t text_head[] = {0xd9, (uint8_t)strlen(notify)};
    s->bytes = 0;
    server_say(s, node ? "\x93" : "\x95", 1);
    server_say(s, "\x01\x00\x91\x96\x00\x00\x00\x00\x00\x81\xa6notify", 17);
    server_say(s, text_head, sizeof text_head);
    server_say(s, notify, strlen(notify));
    if (!node) server_say(s, "\x90\x90", 2);
}

static void *server_main(void *arg) {
    struct server *s = arg;
    nng_msg *message;
    while (nng_recvmsg(s->socket, &message, 0) == 0) {
        nng_msg_clear(message);
        assert_int_equal(nng_msg_append(message, s->answer, s->bytes), 0);
        if (nng_sendmsg(s->socket, message, 0) != 0) nng_msg_free(message);
    }
    return NULL;
}

static void server_listen(nng_socket socket) {
    char url[64];
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", atomic_load(&port));
    assert_int_equal(nng_listen(socket, url, NULL, 0), 0);
}

static void server_start_notifying(struct server *s, bool node, const char *notify) {
    server_prepare(s, node, notify);
    assert_int_equal(nng_rep0_open(&s->socket), 0);
    server_listen(s->socket);
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

static void server_start(struct server *s, bool node) { server_start_notifying(s, node, ""); }

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

/* A dialer that cannot be made does not keep the others of a list from being dialled. */
static void an_address_that_cannot_be_dialled_is_passed_over(void **state) {
    struct server s;
    struct connection c;
    struct tls_options tls = {0};
    char failed_at[128], addresses[128];
    server_start(&s, true);
    assert_int_equal(connection_open(&c, "inproc://redial-nobody", &tls, ignore_change, NULL,
                                     failed_at, sizeof failed_at), 0);
    snprintf(addresses, sizeof addresses, "nothing://at.all,,tcp://127.0.0.1:%d",
             atomic_load(&port));
    connection_redial(&c, addresses, &tls, clock_coarse_ns());
    for (int i = 0; i < PATIENCE_MS && !connection_is_up(&c); i++) usleep(1000);
    assert_true(connection_is_up(&c));
    assert_int_equal(c.dialers_count, 1);
    connection_close(&c);
    server_end(&s);
}

/* The notifications' greeting breaks, and the questions' connection stands all the time. */
static void a_watch_outlives_a_broken_greeting(void **state) {
    static atomic_int came;
    struct server s;
    nng_socket publisher;
    char notify[64], error[128] = "";
    assert_int_equal(nng_pub0_open(&publisher), 0);
    assert_int_equal(nng_pipe_notify(publisher, NNG_PIPE_EV_ADD_POST, count_pipe, &came), 0);
    server_listen(publisher);
    snprintf(notify, sizeof notify, "tcp://127.0.0.1:%d", first_port);
    atomic_store(&port, first_port + 1);
    server_start_notifying(&s, false, notify);
    jumun_queries *q = open_queries();
    atomic_store(&broken, 1);
    atomic_store(&port, first_port);
    jumun_watch *w = jumun_watch_open(q, "store/s1", NULL, ignore_row, NULL, error, sizeof error);
    assert_non_null(w);
    await(&greeted, 1);
    await(&came, 1);
    jumun_queries_close(q);
    nng_close(publisher);
    server_end(&s);
}

static void *close_queries(void *arg) {
    jumun_queries_close(arg);
    return NULL;
}

/* The clock is dialling anew, and would sleep for ever after that. */
static void closing_wakes_a_clock_that_dials(void **state) {
    jumun_queries *q = jumun_queries_open("inproc://redial-nobody", NULL, NULL, 0);
    pthread_t closer;
    assert_non_null(q);
    atomic_store(&closing_queries, q);
    for (int i = 0; i < PATIENCE_MS && !atomic_load(&closing_waits); i++) {
        pthread_mutex_lock(&q->lock);
        q->active_ns = clock_coarse_ns() - 2 * QUERIES_IDLE_NS;
        atomic_store(&q->replicas.replicas[0].endpoint->connection.dialled_ns, INT64_MIN / 2);
        queries_wake(q, 0);
        pthread_mutex_unlock(&q->lock);
        usleep(1000);
    }
    assert_true(atomic_load(&closing_waits));
    assert_int_equal(pthread_create(&closer, NULL, close_queries, q), 0);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    assert_int_equal(pthread_timedjoin_np(closer, NULL, &until), 0);
    atomic_store(&closing_queries, NULL);
}

/* A node that is away, and a replica beside it: the replica's refusal is not the answer, and the
 * node is asked when it is back. */
static void a_replica_does_not_answer_for_a_node_that_is_away(void **state) {
    struct server node, replica;
    char addresses[128], error[128] = "";
    jumun_key key = jumun_key_new();
    jumun_result r;
    jumun_command read = {.kind = JUMUN_GET, .order = key, .options = {.timeout_ms = PATIENCE_MS}};
    server_start(&node, true);
    atomic_store(&port, first_port + 1);
    server_start(&replica, false);
    atomic_store(&port, first_port);
    snprintf(addresses, sizeof addresses, "tcp://127.0.0.1:%d,tcp://127.0.0.1:%d", first_port,
             first_port + 1);
    jumun_client *c = jumun_open(addresses, NULL, error, sizeof error);
    assert_non_null(c);
    assert_int_equal(jumun_call(c, &read, &r, NULL, NULL), JUMUN_OK);
    server_end(&node);
    read.options.timeout_ms = 1500;
    assert_int_equal(jumun_call(c, &read, &r, NULL, NULL), JUMUN_NOT_SENT);
    server_start(&node, true);
    read.options.timeout_ms = PATIENCE_MS;
    assert_int_equal(jumun_call(c, &read, &r, NULL, NULL), JUMUN_OK);
    jumun_close(c);
    server_end(&node);
    server_end(&replica);
}

/* As a node's feed refuses what it does not know. */
static void server_start_feed(struct server *s) {
    s->bytes = 0;
    server_say(s, "\x94\x01\x36\xa7no kind\x00", 12);
    assert_int_equal(nng_rep0_open(&s->socket), 0);
    server_listen(s->socket);
    assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
}

/* A command and a question, with much time, end at once and say what is there. */
static void assert_feed_is_told(const char *address) {
    char error[128] = "";
    jumun_result r;
    jumun_answer *a;
    jumun_command read = {.kind = JUMUN_GET, .order = jumun_key_new(),
                          .options = {.timeout_ms = PATIENCE_MS}};
    jumun_command ping = {.kind = JUMUN_NODE_PING, .options = {.timeout_ms = PATIENCE_MS}};
    int64_t began_ns = clock_mono_ns();
    jumun_client *c = jumun_open(address, NULL, error, sizeof error);
    assert_non_null(c);
    assert_int_equal(jumun_call(c, &read, &r, NULL, NULL), JUMUN_BAD_REPLY);
    assert_string_equal(r.detail, PEER_FEED_TEXT);
    assert_int_equal(jumun_call(c, &ping, &r, NULL, NULL), JUMUN_BAD_REPLY);
    assert_string_equal(r.detail, PEER_FEED_TEXT);
    jumun_close(c);
    jumun_queries *q = open_queries();
    const jumun_query question = {.kind = JUMUN_STORE_BOARD, .subject = "s1"};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(jumun_query_run(q, &question, &a), JUMUN_NOT_A_REPLICA);
        assert_string_equal(a->detail, PEER_FEED_TEXT);
        jumun_answer_free(a);
    }
    jumun_queries_close(q);
    assert_true(clock_mono_ns() - began_ns < PATIENCE_MS / 4 * 1000000LL);
}

static void a_feed_is_told_and_passed_over(void **state) {
    struct server feed, other;
    char address[64], addresses[128], error[128] = "";
    jumun_result r;
    jumun_answer *a;
    jumun_command read = {.kind = JUMUN_GET, .order = jumun_key_new(),
                          .options = {.timeout_ms = PATIENCE_MS}};
    server_start_feed(&feed);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", first_port);
    assert_feed_is_told(address);
    atomic_store(&port, first_port + 1);
    snprintf(addresses, sizeof addresses, "%s,tcp://127.0.0.1:%d", address, first_port + 1);
    server_start(&other, true);
    jumun_client *c = jumun_open(addresses, NULL, error, sizeof error);
    assert_non_null(c);
    assert_int_equal(jumun_call(c, &read, &r, NULL, NULL), JUMUN_OK);
    jumun_close(c);
    server_end(&other);
    server_start(&other, false);
    const jumun_query_options in_order = {.timeout_ms = PATIENCE_MS, .choice = JUMUN_IN_ORDER};
    const jumun_query question = {.kind = JUMUN_REPLICA_PING};
    jumun_queries *q = jumun_queries_open(addresses, &in_order, error, sizeof error);
    assert_non_null(q);
    assert_int_equal(jumun_query_run(q, &question, &a), JUMUN_OK);
    jumun_answer_free(a);
    jumun_queries_close(q);
    server_end(&other);
    server_end(&feed);
    atomic_store(&port, first_port);
}

/* It waits to be asked again when its time ends: why it was refused is told then as well. */
static void a_call_whose_time_ends_tells_the_refusals_sentence(void **state) {
    static const char sentence[] = "a sentence of its own";
    struct server s = {.bytes = 0};
    char address[64], error[128] = "";
    jumun_result r;
    jumun_command ping = {.kind = JUMUN_NODE_PING, .options = {.timeout_ms = 300}};
    const jumun_options rarely = {.backoff_ms_min = 3600000, .backoff_ms_max = 3600000};
    server_say(&s, "\x93\x01\x00\x91\x97\x03\x00\x00\x00\x00", 10);
    server_say(&s, "\xb5", 1);
    server_say(&s, sentence, sizeof sentence - 1);
    server_say(&s, "\x00", 1);
    assert_int_equal(nng_rep0_open(&s.socket), 0);
    server_listen(s.socket);
    assert_int_equal(pthread_create(&s.thread, NULL, server_main, &s), 0);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", first_port);
    jumun_client *c = jumun_open(address, &rarely, error, sizeof error);
    assert_non_null(c);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(jumun_call(c, &ping, &r, NULL, NULL), RESULT_NOT_READY);
        assert_string_equal(r.detail, sentence);
    }
    jumun_close(c);
    server_end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_outlive_a_broken_greeting),
        cmocka_unit_test(a_client_outlives_a_broken_greeting),
        cmocka_unit_test(queries_outlive_a_stranger),
        cmocka_unit_test(an_address_that_cannot_be_dialled_is_passed_over),
        cmocka_unit_test(a_watch_outlives_a_broken_greeting),
        cmocka_unit_test(closing_wakes_a_clock_that_dials),
        cmocka_unit_test(a_replica_does_not_answer_for_a_node_that_is_away),
        cmocka_unit_test(a_feed_is_told_and_passed_over),
        cmocka_unit_test(a_call_whose_time_ends_tells_the_refusals_sentence),
    };
    first_port = ports_pick(2);
    atomic_store(&port, first_port);
    return cmocka_run_group_tests_name("sdk_redial", tests, NULL, NULL);
}
