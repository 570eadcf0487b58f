/* The way between nodes: order, loss, strangers, restarts, encryption; envelopes and hellos whole,
 * cut and spoilt. */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/clock.h"
#include "engine/base/prng.h"
#include "engine/limits.h"
#include "engine/peers/hello.h"
#include "engine/peers/transport.h"
#include "engine/wire/msgpack_reader.h"

enum { PATIENCE_MS = 60000 };

static char error[512];
static const struct id128 cluster = {{1, 2, 3}}, other_cluster = {{9}};

struct inbox {
    atomic_ullong count, sum, disorder;
    uint64_t last;
};

static void on_number(void *arg, uint32_t from, uint32_t kind, struct bytes body) {
    struct inbox *in = arg;
    struct msgpack_reader r;
    uint64_t number = 0;
    msgpack_reader_init(&r, body.data, body.size);
    assert_int_equal(msgpack_read_uint(&r, &number), MSGPACK_OK);
    assert_int_equal(kind, PEER_CLUSTER_FIRST);
    if (number <= in->last) atomic_fetch_add(&in->disorder, 1);
    in->last = number;
    atomic_fetch_add(&in->sum, number);
    atomic_fetch_add(&in->count, 1);
}

static struct transport *open_node(uint32_t node, const struct id128 *id, const char *listen,
                                   struct inbox *in, const struct tls_options *tls) {
    const struct transport_options options = {
        .listen = listen, .cluster = *id, .node = node, .message_bytes_max = MESSAGE_BYTES_MAX,
        .queue_messages = 64, .tls = tls, .received = on_number, .arg = in};
    struct transport *t = transport_open(&options, error, sizeof error);
    if (!t) print_error("%s\n", error);
    assert_non_null(t);
    transport_start(t);
    return t;
}

static void connect_to(struct transport *from, uint32_t node, const char *endpoint) {
    const struct transport_peer peer = {node, endpoint};
    assert_true(transport_set_peers(from, &peer, 1, error, sizeof error));
}

static bool send_number(struct transport *t, uint32_t node, uint64_t number) {
    struct transport_message m;
    if (!transport_begin(t, node, PEER_CLUSTER_FIRST, 16, &m)) return false;
    msgpack_write_uint(&m.body, number);
    return transport_send(t, &m);
}

/* Sends until it is taken: what has no room yet is lost, and sent again. */
static void send_surely(struct transport *t, uint32_t node, uint64_t number) {
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (!send_number(t, node, number)) {
        assert_true(clock_mono_ms() < until);
        usleep(500);
    }
}

static void await(const atomic_ullong *value, uint64_t wanted) {
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(value) < wanted && clock_mono_ms() < until) usleep(500);
    assert_true(atomic_load(value) >= wanted);
}

static void messages_keep_their_order(void **state) {
    static const char *const listens[] = {"inproc://transport-test", "tcp://127.0.0.1:0"};
    for (int i = 0; i < 2; i++) {
        struct inbox in_a = {0}, in_b = {0};
        struct transport *b = open_node(2, &cluster, listens[i], &in_b, NULL);
        struct transport *a = open_node(1, &cluster, i ? "tcp://127.0.0.1:0" : "inproc://tt-a",
                                        &in_a, NULL);
        assert_false(send_number(a, 2, 1)); /* not a peer yet */
        connect_to(a, 2, transport_endpoint(b));
        for (uint64_t n = 1; n <= 2000; n++) send_surely(a, 2, n);
        await(&in_b.count, 2000);
        assert_int_equal(atomic_load(&in_b.sum), 2001000);
        assert_int_equal(atomic_load(&in_b.disorder), 0);
        assert_int_equal(atomic_load(&in_a.count), 0);
        assert_true(transport_is_up(a, 2));
        assert_true(transport_set_peers(a, NULL, 0, error, sizeof error));
        assert_false(transport_is_up(a, 2));
        assert_false(send_number(a, 2, 1));
        transport_close(a);
        transport_close(b);
    }
}

static void strangers_are_counted_and_dropped(void **state) {
    struct inbox in = {0};
    struct transport_stats stats;
    struct transport *b = open_node(2, &cluster, "tcp://127.0.0.1:0", &in, NULL);
    struct transport *foreign = open_node(1, &other_cluster, "inproc://foreign", &in, NULL);
    struct transport *lost = open_node(1, &cluster, "inproc://lost", &in, NULL);
    connect_to(foreign, 2, transport_endpoint(b));
    connect_to(lost, 3, transport_endpoint(b)); /* it takes node 2 for node 3 */
    send_surely(foreign, 2, 1);
    send_surely(lost, 3, 1);
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    do {
        usleep(1000);
        transport_stats(b, &stats);
    } while ((stats.foreign == 0 || stats.stray == 0) && clock_mono_ms() < until);
    assert_int_equal(stats.foreign, 1);
    assert_int_equal(stats.stray, 1);
    assert_int_equal(atomic_load(&in.count), 0);
    transport_close(foreign);
    transport_close(lost);
    transport_close(b);
}

static void a_node_that_restarts_is_found_again(void **state) {
    struct inbox in = {0}, none = {0};
    char endpoint[ENDPOINT_BYTES_MAX];
    struct transport *a = open_node(1, &cluster, "inproc://restart-a", &none, NULL);
    struct transport *b = open_node(2, &cluster, "tcp://127.0.0.1:0", &in, NULL);
    snprintf(endpoint, sizeof endpoint, "%s", transport_endpoint(b));
    connect_to(a, 2, endpoint);
    uint64_t number = 0;
    for (int round = 0; round < 5; round++) {
        uint64_t before = atomic_load(&in.count);
        int64_t until = clock_mono_ms() + PATIENCE_MS;
        while (atomic_load(&in.count) == before && clock_mono_ms() < until) {
            send_number(a, 2, ++number); /* some go into the connection that has died */
            usleep(1000);
        }
        assert_true(atomic_load(&in.count) > before);
        transport_close(b);
        /* However it was dialled last: it is found. */
        if (round == 1) transport_redial(a, 2);
        if (round == 2) transport_heard(a, 2);
        if (round == 3) transport_unheard(a, 2);
        b = open_node(2, &cluster, endpoint, &in, NULL);
    }
    assert_int_equal(atomic_load(&in.disorder), 0);
    transport_close(a);
    transport_close(b);
}

/* -- strangers at a peer's address ------------------------------------------------------------- */

/* Somebody who accepts and hangs up, half of the time after a greeting as a node's own. */
struct stranger {
    int listener;
    atomic_bool stop;
    atomic_ullong hung_up;
    pthread_t thread;
};

static void *stranger_main(void *arg) {
    static const uint8_t greeting[] = {0, 'S', 'P', 0, 0, 0x51, 0, 0};
    struct stranger *s = arg;
    while (!atomic_load(&s->stop)) {
        int fd = accept(s->listener, NULL, NULL);
        if (fd < 0) break;
        uint64_t number = atomic_fetch_add(&s->hung_up, 1);
        if (number % 2 == 0 && send(fd, greeting, sizeof greeting, MSG_NOSIGNAL) < 0) break;
        if (number % 8 == 6) usleep(2000); /* later, when a message may be under way */
        close(fd);
    }
    return NULL;
}

static void stranger_start(struct stranger *s, char *endpoint, size_t endpoint_bytes) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(s->listener >= 0);
    int rc = setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    assert_int_equal(rc, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(s->listener, 64), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&at, &size), 0);
    snprintf(endpoint, endpoint_bytes, "tcp://127.0.0.1:%d", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&s->thread, NULL, stranger_main, s), 0);
}

static void stranger_stop(struct stranger *s) {
    atomic_store(&s->stop, true);
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
}

/* nng 1.5.2 alone keeps connections in a list after it has freed them: the process ends within some
 * hundred of these. Afterwards a real node at the address is found. */
static void strangers_who_hang_up_do_no_harm(void **state) {
    static struct inbox in, none;
    enum { LANES = 16, HANG_UPS = 2000 };
    struct stranger stranger = {0};
    struct transport_stats stats;
    char endpoint[ENDPOINT_BYTES_MAX];
    struct transport_peer peers[LANES];
    uint64_t number = 0;
    stranger_start(&stranger, endpoint, sizeof endpoint);
    struct transport *a = open_node(100, &cluster, "inproc://hang-up-a", &none, NULL);
    for (uint32_t i = 0; i < LANES; i++) peers[i] = (struct transport_peer){i + 1, endpoint};
    assert_true(transport_set_peers(a, peers, LANES, error, sizeof error));
    int64_t until = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&stranger.hung_up) < HANG_UPS && clock_mono_ms() < until) {
        for (uint32_t i = 0; i < LANES; i++) send_number(a, i + 1, ++number);
        usleep(500);
    }
    assert_true(atomic_load(&stranger.hung_up) > 0);
    stranger_stop(&stranger);
    struct transport *b = open_node(1, &cluster, endpoint, &in, NULL);
    until = clock_mono_ms() + PATIENCE_MS;
    while (atomic_load(&in.count) == 0 && clock_mono_ms() < until) {
        send_number(a, 1, ++number);
        usleep(1000);
    }
    assert_true(atomic_load(&in.count) > 0);
    assert_int_equal(atomic_load(&in.disorder), 0);
    transport_stats(b, &stats);
    assert_int_equal(stats.malformed, 0);
    transport_close(a);
    transport_close(b);
}

/* -- single messages --------------------------------------------------------------------------- */

static void a_body_that_does_not_fit_is_lost(void **state) {
    struct inbox in = {0};
    struct transport_message m;
    struct transport_stats stats;
    struct transport *b = open_node(2, &cluster, "inproc://fit-b", &in, NULL);
    struct transport *a = open_node(1, &cluster, "inproc://fit-a", &in, NULL);
    connect_to(a, 2, transport_endpoint(b));
    send_surely(a, 2, 1);
    transport_stats(a, &stats);
    uint64_t lost = stats.lost;
    assert_true(transport_begin(a, 2, PEER_CLUSTER_FIRST, 1, &m));
    for (int i = 0; i < 100; i++) msgpack_write_uint(&m.body, UINT64_MAX);
    assert_false(transport_send(a, &m));
    assert_true(transport_begin(a, 2, PEER_CLUSTER_FIRST, 1, &m));
    transport_drop(a, &m);
    transport_stats(a, &stats);
    assert_int_equal(stats.lost, lost + 2);
    transport_close(a);
    transport_close(b);
}

static void endpoints_of_the_second_pair(void **state) {
    char out[64];
    assert_true(transport_next_endpoint("tcp://h:7300", out, sizeof out, error, sizeof error));
    assert_string_equal(out, "tcp://h:7301");
    assert_true(transport_next_endpoint("tls+tcp://[::1]:0", out, sizeof out, error, 64));
    assert_string_equal(out, "tls+tcp://[::1]:0");
    assert_true(transport_next_endpoint("inproc://x", out, sizeof out, error, sizeof error));
    assert_string_equal(out, "inproc://x-bulk");
    assert_false(transport_next_endpoint("tcp://h:65535", out, sizeof out, error, sizeof error));
    assert_false(transport_next_endpoint("tcp://h", out, sizeof out, error, sizeof error));
    assert_false(transport_next_endpoint("tcp://h:73x", out, sizeof out, error, sizeof error));
    assert_false(transport_next_endpoint("tcp://h:7300", out, 8, error, sizeof error));
}

/* -- encryption -------------------------------------------------------------------------------- */

static char folder[64];

static int run(const char *format, ...) {
    char command[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    return system(command);
}

/* Two authorities, and a certificate for localhost signed by the first. */
static bool make_certificates(void) {
    snprintf(folder, sizeof folder, "/tmp/jumun-tls-XXXXXX");
    if (!mkdtemp(folder)) return false;
    for (int i = 0; i < 2; i++)
        if (run("cd %s && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca%d "
                "-keyout ca%d.key -out ca%d.pem 2>/dev/null", folder, i, i, i) != 0)
            return false;
    return run("cd %s && openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout node.key "
               "-out node.csr 2>/dev/null && openssl x509 -req -in node.csr -CA ca0.pem -CAkey "
               "ca0.key -CAcreateserial -days 2 -out node.pem 2>/dev/null", folder) == 0;
}

static struct tls_options tls_with(const char *authority) {
    struct tls_options tls = {{0}, {0}, {0}};
    snprintf(tls.certificate, sizeof tls.certificate, "%s/node.pem", folder);
    snprintf(tls.key, sizeof tls.key, "%s/node.key", folder);
    snprintf(tls.authority, sizeof tls.authority, "%s/%s", folder, authority);
    return tls;
}

static void encrypted_messages_arrive_and_strangers_do_not(void **state) {
    if (!make_certificates()) skip();
    struct inbox in = {0};
    char endpoint[ENDPOINT_BYTES_MAX];
    struct tls_options right = tls_with("ca0.pem"), wrong = tls_with("ca1.pem");
    struct transport *b = open_node(2, &cluster, "tls+tcp://127.0.0.1:0", &in, &right);
    struct transport *a = open_node(1, &cluster, "inproc://tls-a", &in, &right);
    struct transport *c = open_node(3, &cluster, "inproc://tls-c", &in, &wrong);
    struct transport *plain = open_node(4, &cluster, "inproc://tls-d", &in, NULL);
    const char *port = strrchr(transport_endpoint(b), ':');
    snprintf(endpoint, sizeof endpoint, "tls+tcp://localhost%s", port);
    connect_to(a, 2, endpoint);
    connect_to(c, 2, endpoint);
    const struct transport_peer peer = {2, endpoint};
    assert_false(transport_set_peers(plain, &peer, 1, error, sizeof error));
    assert_non_null(strstr(error, "--tls-ca"));
    for (uint64_t n = 1; n <= 100; n++) send_surely(a, 2, n);
    await(&in.count, 100);
    assert_false(transport_is_up(c, 2)); /* it does not trust whoever has signed */
    transport_close(a);
    transport_close(b);
    transport_close(c);
    transport_close(plain);
    const struct transport_options bare = {.listen = "tls+tcp://127.0.0.1:0", .cluster = cluster,
                                           .node = 1, .message_bytes_max = 1000,
                                           .queue_messages = 1, .received = on_number};
    assert_null(transport_open(&bare, error, sizeof error));
    assert_non_null(strstr(error, "--tls-cert"));
    snprintf(right.key, sizeof right.key, "%s/nothing.key", folder);
    struct transport_options missing = bare;
    missing.tls = &right;
    assert_null(transport_open(&missing, error, sizeof error));
    assert_non_null(strstr(error, "nothing.key"));
    run("rm -r %s", folder);
}

/* -- bytes ------------------------------------------------------------------------------------- */

static size_t make_hello(uint8_t *out, size_t capacity, struct hello *h) {
    struct msgpack_writer w;
    *h = (struct hello){.document = 7, .leads_count = 2, .endpoint = "tcp://h:7400",
                        .version = "0.2.0", .instance = 1ull << 60, .started_ms = 1774353600000,
                        .heard_count = 1, .level_min = 1, .level_max = 3,
                        .now_ms = 1774353601234};
    h->leads[0] = (struct hello_lead){3, 9, 1ull << 32 | 2, true};
    h->leads[1] = (struct hello_lead){SHARD_META, 1, 2, false};
    h->heard[0] = (struct hello_heard){1, 77, 150};
    msgpack_writer_init(&w, out, capacity);
    hello_write(&w, h);
    assert_true(msgpack_writer_ok(&w));
    return msgpack_writer_size(&w);
}

static void hellos_are_read_as_they_were_written(void **state) {
    static uint8_t bytes[HELLO_BYTES_MAX];
    static struct hello h, read;
    size_t size = make_hello(bytes, sizeof bytes, &h);
    memset(&read, 0, sizeof read);
    assert_true(hello_read(bytes_of(bytes, size), &read));
    assert_memory_equal(&read, &h, sizeof h);
    for (size_t cut = 0; cut < size; cut++)
        assert_false(hello_read(bytes_of(bytes, cut), &read));
    bytes[size] = 0xc0;
    assert_false(hello_read(bytes_of(bytes, size + 1), &read));
    /* A later version adds a field: an eleventh one is skipped. */
    assert_int_equal(bytes[0], 0x9a);
    bytes[0] = 0x9b;
    assert_true(hello_read(bytes_of(bytes, size + 1), &read));
    assert_int_equal(read.heard[0].age_ms, 150);
    assert_int_equal(read.level_max, 3);
    assert_int_equal(read.now_ms, 1774353601234);
    /* Earlier ones did not tell the time, */
    bytes[0] = 0x99;
    assert_true(hello_read(bytes_of(bytes, size - 9), &read));
    assert_int_equal(read.level_max, 3);
    assert_int_equal(read.now_ms, 0);
    /* nor which levels they know: the first. */
    bytes[0] = 0x97;
    assert_true(hello_read(bytes_of(bytes, size - 11), &read));
    assert_int_equal(read.heard[0].age_ms, 150);
    assert_true(read.level_min == 1 && read.level_max == 1);
}

/* The longest hello there can be fits its bound. */
static void a_longest_hello_fits(void **state) {
    static uint8_t bytes[HELLO_BYTES_MAX];
    static struct hello h;
    struct msgpack_writer w;
    h = (struct hello){.document = UINT64_MAX, .leads_count = LOCAL_SHARDS_SLOTS,
                       .instance = UINT64_MAX, .started_ms = INT64_MAX, .heard_count = NODES_MAX,
                       .now_ms = INT64_MAX};
    memset(h.endpoint, 'x', sizeof h.endpoint - 1);
    memset(h.version, 'x', sizeof h.version - 1);
    for (uint32_t i = 0; i < LOCAL_SHARDS_SLOTS; i++)
        h.leads[i] = (struct hello_lead){UINT32_MAX, UINT64_MAX, UINT64_MAX, true};
    for (uint32_t i = 0; i < NODES_MAX; i++)
        h.heard[i] = (struct hello_heard){UINT32_MAX, UINT64_MAX, UINT64_MAX};
    msgpack_writer_init(&w, bytes, sizeof bytes);
    hello_write(&w, &h);
    assert_true(msgpack_writer_ok(&w));
}

/* Whatever comes, nothing is read behind the end (a sanitizer sees to that) and nothing ends the
 * process. */
static void spoilt_bytes_are_survived(void **state) {
    static uint8_t good[HELLO_BYTES_MAX + PEER_MESSAGE_HEAD_BYTES_MAX];
    static struct hello h;
    struct msgpack_writer w;
    struct prng prng;
    struct peer_message m = {.cluster = cluster, .from = 1, .to = 2, .kind = PEER_HELLO};
    msgpack_writer_init(&w, good, sizeof good);
    peer_message_write_head(&w, &m);
    size_t head = msgpack_writer_size(&w);
    size_t size = head + make_hello(good + head, sizeof good - head, &h);
    assert_true(peer_message_read(good, size, &m));
    assert_int_equal(m.body.size, size - head);
    for (size_t cut = 0; cut < head; cut++) assert_false(peer_message_read(good, cut, &m));
    prng_seed(&prng, 4711);
    for (int i = 0; i < 50000; i++) {
        size_t length = prng_below(&prng, size) + 1;
        uint8_t *bytes = malloc(length); /* its end is its end */
        memcpy(bytes, good, length);
        for (uint64_t flips = prng_below(&prng, 4); flips > 0; flips--)
            bytes[prng_below(&prng, length)] ^= (uint8_t)(1u << prng_below(&prng, 8));
        if (peer_message_read(bytes, length, &m) && hello_read(m.body, &h)) {
            assert_true(h.leads_count <= LOCAL_SHARDS_SLOTS && h.heard_count <= NODES_MAX);
            assert_true(strlen(h.endpoint) < sizeof h.endpoint);
        }
        free(bytes);
    }
}

static void cluster_ids(void **state) {
    struct id128 id;
    assert_true(peer_cluster_of("0123456789abcdef0123456789abcdef", &id));
    assert_int_equal(id.bytes[0], 0x01);
    assert_int_equal(id.bytes[15], 0xef);
    assert_false(peer_cluster_of("0123456789abcdef0123456789abcde", &id));
    assert_false(peer_cluster_of("0123456789abcdef0123456789abcdeg", &id));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_keep_their_order),
        cmocka_unit_test(strangers_are_counted_and_dropped),
        cmocka_unit_test(a_node_that_restarts_is_found_again),
        cmocka_unit_test(strangers_who_hang_up_do_no_harm),
        cmocka_unit_test(a_body_that_does_not_fit_is_lost),
        cmocka_unit_test(endpoints_of_the_second_pair),
        cmocka_unit_test(encrypted_messages_arrive_and_strangers_do_not),
        cmocka_unit_test(hellos_are_read_as_they_were_written),
        cmocka_unit_test(a_longest_hello_fits),
        cmocka_unit_test(spoilt_bytes_are_survived),
        cmocka_unit_test(cluster_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
