/* What a replica answers a second, through nng, client included.
 *
 *   replica_bench URL batched   [SECONDS] [KEYS_PER_MESSAGE] [MESSAGES_IN_FLIGHT] [FIELD,...]
 *   replica_bench URL single    [SECONDS] [IN_FLIGHT] [FIELD,...]
 *   replica_bench URL status                        some numbers of its status
 *
 * The keys are the newest orders that the replica has, up to 100,000. One line of JSON on stdout.
 * tests/perf/replica_measure.py starts a node, a replica and a load around it. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/histogram.h"
#include "engine/limits.h"
#include "engine/wire/msgpack_reader.h"
#include "engine/wire/msgpack_writer.h"
#include "engine/wire/query_protocol.h"

enum { KEYS_MAX = 100000, FLIGHTS_MAX = 1024 };

struct flight {
    nng_ctx ctx;
    nng_aio *aio;
    bool sending;
    int64_t sent_ns;
    uint64_t random;
};

static nng_socket socket_;
static uint8_t (*keys)[16];
static uint32_t keys_count, keys_per_message;
static uint8_t fields[1024];
static size_t fields_bytes;
static struct flight flights[FLIGHTS_MAX];
static atomic_bool stop;
static atomic_ullong gets, messages, bytes_in, wrong;
static atomic_uint open_flights;
static struct histogram latency;

static void die(const char *what, int rc) {
    fprintf(stderr, "replica_bench: %s: %s\n", what, rc ? nng_strerror(rc) : "failed");
    exit(1);
}

/* [version, nil, [query]] up to the query. */
static void begin(struct msgpack_writer *w, void *buffer, size_t room) {
    msgpack_writer_init(w, buffer, room);
    msgpack_write_array(w, 3);
    msgpack_write_uint(w, PROTOCOL_VERSION);
    msgpack_write_nil(w);
    msgpack_write_array(w, 1);
}

static nng_msg *ask(const void *request, size_t bytes) {
    nng_msg *message;
    if (nng_msg_alloc(&message, bytes) != 0) die("memory", NNG_ENOMEM);
    memcpy(nng_msg_body(message), request, bytes);
    int rc = nng_sendmsg(socket_, message, 0);
    if (rc == 0) rc = nng_recvmsg(socket_, &message, 0);
    if (rc != 0) die("ask", rc);
    return message;
}

/* Moves the reader to the value of the first result; false when it was refused. */
static bool first_value(struct msgpack_reader *r, uint32_t *items) {
    uint32_t count;
    uint64_t code = 0;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count < 3) return false;
    msgpack_skip(r);
    if (msgpack_read_uint(r, &code) != MSGPACK_OK || code != 0) return false;
    if (msgpack_read_array(r, &count) != MSGPACK_OK || count != 1) return false;
    if (msgpack_read_array(r, items) != MSGPACK_OK || *items < 6) return false;
    if (msgpack_read_uint(r, &code) != MSGPACK_OK || code != 0) return false;
    for (int i = 0; i < 4; i++) msgpack_skip(r);
    return true;
}

/* Keys of all orders, state by state. */
static void collect_keys(void) {
    uint8_t request[1024], cursor[512];
    keys = malloc(sizeof *keys * KEYS_MAX);
    for (uint32_t state = 2; state <= 11; state++) {
        uint32_t cursor_bytes = 0;
        do {
            struct msgpack_writer w;
            struct msgpack_reader r;
            uint32_t items, rows;
            begin(&w, request, sizeof request);
            msgpack_write_array(&w, 7);
            msgpack_write_uint(&w, QUERY_STATE_ORDERS);
            msgpack_write_uint(&w, state);
            msgpack_write_nil(&w);
            msgpack_write_nil(&w);
            msgpack_write_array(&w, 1);
            msgpack_write_text(&w, "key");
            msgpack_write_uint(&w, QUERY_ROWS_MAX);
            if (cursor_bytes) msgpack_write_bin(&w, cursor, cursor_bytes);
            else msgpack_write_nil(&w);
            nng_msg *reply = ask(request, msgpack_writer_size(&w));
            msgpack_reader_init(&r, nng_msg_body(reply), nng_msg_len(reply));
            if (!first_value(&r, &items) || msgpack_read_array(&r, &rows) != MSGPACK_OK)
                die("list", 0);
            for (uint32_t i = 0; i < rows; i++) {
                const void *key;
                uint32_t one, size;
                msgpack_read_array(&r, &one);
                if (msgpack_read_bin(&r, &key, &size) != MSGPACK_OK || size != 16) die("key", 0);
                if (keys_count < KEYS_MAX) memcpy(keys[keys_count++], key, 16);
            }
            const void *next;
            cursor_bytes = 0;
            if (items > 6 && msgpack_read_bin(&r, &next, &cursor_bytes) == MSGPACK_OK)
                memcpy(cursor, next, cursor_bytes);
            nng_msg_free(reply);
        } while (cursor_bytes && keys_count < KEYS_MAX);
    }
    if (keys_count == 0) die("the replica has no orders", 0);
}

static uint64_t next_random(struct flight *f) {
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return f->random;
}

static void send_next(struct flight *f) {
    nng_msg *message;
    size_t room = 64 + sizeof fields + (size_t)keys_per_message * 16;
    struct msgpack_writer w;
    if (nng_msg_alloc(&message, room) != 0) die("memory", NNG_ENOMEM);
    begin(&w, nng_msg_body(message), room);
    msgpack_write_array(&w, fields_bytes ? 3 : 2);
    msgpack_write_uint(&w, keys_per_message > 1 ? (unsigned)QUERY_MULTI_GET : (unsigned)QUERY_GET);
    msgpack_writer_tagged_(&w, 0xc6, keys_per_message * 16, 4);
    for (uint32_t i = 0; i < keys_per_message; i++)
        msgpack_write_raw(&w, keys[next_random(f) % keys_count], 16);
    msgpack_write_raw(&w, fields, fields_bytes);
    nng_msg_chop(message, room - msgpack_writer_size(&w));
    f->sending = true;
    f->sent_ns = clock_mono_ns();
    nng_aio_set_msg(f->aio, message);
    nng_ctx_send(f->ctx, f->aio);
}

/* Walks the whole answer, as a client would: every row, every field. */
static void take(struct flight *f, nng_msg *reply) {
    struct msgpack_reader r;
    uint32_t items, rows = 1;
    msgpack_reader_init(&r, nng_msg_body(reply), nng_msg_len(reply));
    bool good = first_value(&r, &items);
    if (good && keys_per_message > 1) good = msgpack_read_array(&r, &rows) == MSGPACK_OK;
    for (uint32_t i = 0; good && i < rows; i++)
        good = msgpack_peek(&r) != MSGPACK_TYPE_NIL && msgpack_skip(&r) == MSGPACK_OK;
    if (!good) atomic_fetch_add(&wrong, 1);
    atomic_fetch_add_explicit(&gets, rows, memory_order_relaxed);
    atomic_fetch_add_explicit(&messages, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&bytes_in, nng_msg_len(reply), memory_order_relaxed);
    histogram_record(&latency, clock_mono_ns() - f->sent_ns);
}

static void on_aio(void *arg) {
    struct flight *f = arg;
    int rc = nng_aio_result(f->aio);
    if (rc != 0) {
        if (f->sending) nng_msg_free(nng_aio_get_msg(f->aio));
        if (!atomic_load(&stop)) atomic_fetch_add(&wrong, 1);
        atomic_fetch_sub(&open_flights, 1);
        return;
    }
    if (f->sending) {
        f->sending = false;
        nng_ctx_recv(f->ctx, f->aio);
        return;
    }
    nng_msg *reply = nng_aio_get_msg(f->aio);
    take(f, reply);
    nng_msg_free(reply);
    if (atomic_load(&stop)) atomic_fetch_sub(&open_flights, 1);
    else send_next(f);
}

static void set_fields(const char *list) {
    struct msgpack_writer w;
    uint32_t count = 1;
    for (const char *at = list; *at; at++) count += *at == ',';
    msgpack_writer_init(&w, fields, sizeof fields);
    msgpack_write_array(&w, count);
    while (count-- > 0) {
        size_t size = strcspn(list, ",");
        msgpack_write_str(&w, list, (uint32_t)size);
        list += size + (list[size] == ',');
    }
    fields_bytes = msgpack_writer_size(&w);
}

static void run(const char *mode, double seconds, uint32_t in_flight) {
    if (in_flight > FLIGHTS_MAX) in_flight = FLIGHTS_MAX;
    atomic_store(&open_flights, in_flight);
    for (uint32_t i = 0; i < in_flight; i++) {
        flights[i].random = 0x9e3779b97f4a7c15ull * (i + 1);
        if (nng_ctx_open(&flights[i].ctx, socket_) != 0) die("context", 0);
        if (nng_aio_alloc(&flights[i].aio, on_aio, &flights[i]) != 0) die("aio", 0);
    }
    for (uint32_t i = 0; i < in_flight; i++) send_next(&flights[i]);
    usleep(300000); /* warm up */
    histogram_reset(&latency);
    uint64_t gets_before = atomic_load(&gets), bytes_before = atomic_load(&bytes_in);
    int64_t began_ns = clock_mono_ns();
    usleep((useconds_t)(seconds * 1e6));
    double took = (double)(clock_mono_ns() - began_ns) / 1e9;
    double rate = (double)(atomic_load(&gets) - gets_before) / took;
    double bytes = (double)(atomic_load(&bytes_in) - bytes_before) / took;
    printf("{\"mode\": \"%s\", \"gets_per_second\": %.0f, \"bytes_per_second\": %.0f, "
           "\"keys\": %u, \"keys_per_message\": %u, \"in_flight\": %u, \"p50_us\": %.0f, "
           "\"p99_us\": %.0f, \"wrong\": %llu}\n",
           mode, rate, bytes, keys_count, keys_per_message, in_flight,
           (double)histogram_percentile_ns(&latency, 50000) / 1e3,
           (double)histogram_percentile_ns(&latency, 99000) / 1e3, atomic_load(&wrong));
    atomic_store(&stop, true);
    while (atomic_load(&open_flights) > 0) usleep(1000);
}

/* Prints a map of msgpack as JSON, maps and arrays in it too. */
static void print_value(struct msgpack_reader *r) {
    uint32_t count = 0;
    int64_t number = 0;
    bool yes = false;
    const void *text = NULL;
    switch (msgpack_peek(r)) {
    case MSGPACK_TYPE_MAP:
    case MSGPACK_TYPE_ARRAY: {
        bool map = msgpack_peek(r) == MSGPACK_TYPE_MAP;
        if (map) msgpack_read_map(r, &count);
        else msgpack_read_array(r, &count);
        printf(map ? "{" : "[");
        for (uint32_t i = 0; i < count; i++) {
            if (i) printf(", ");
            print_value(r);
            if (map) printf(": ");
            if (map) print_value(r);
        }
        printf(map ? "}" : "]");
        break;
    }
    case MSGPACK_TYPE_STR:
        msgpack_read_str(r, &text, &count);
        printf("\"%.*s\"", (int)count, (const char *)text);
        break;
    case MSGPACK_TYPE_BOOL:
        msgpack_read_bool(r, &yes);
        printf(yes ? "true" : "false");
        break;
    default:
        if (msgpack_read_int(r, &number) != MSGPACK_OK) msgpack_skip(r);
        printf("%lld", (long long)number);
        break;
    }
}

static void print_status(void) {
    uint8_t request[32];
    struct msgpack_writer w;
    struct msgpack_reader r;
    uint32_t items;
    begin(&w, request, sizeof request);
    msgpack_write_array(&w, 1);
    msgpack_write_uint(&w, NODE_COMMAND_STATUS);
    nng_msg *reply = ask(request, msgpack_writer_size(&w));
    msgpack_reader_init(&r, nng_msg_body(reply), nng_msg_len(reply));
    if (!first_value(&r, &items)) die("status", 0);
    print_value(&r);
    printf("\n");
    nng_msg_free(reply);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: replica_bench URL batched|single|status [...]\n");
        return 2;
    }
    int rc = nng_req0_open(&socket_);
    if (rc == 0) rc = nng_socket_set_size(socket_, NNG_OPT_RECVMAXSZ, MESSAGE_BYTES_MAX);
    if (rc == 0) rc = nng_dial(socket_, argv[1], NULL, 0);
    if (rc != 0) die(argv[1], rc);
    double seconds = argc > 3 ? strtod(argv[3], NULL) : 3;
    if (strcmp(argv[2], "status") == 0) {
        print_status();
        return 0;
    }
    collect_keys();
    bool batched = strcmp(argv[2], "batched") == 0;
    keys_per_message = !batched ? 1 : argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 512;
    int next = batched ? 5 : 4;
    uint32_t in_flight = argc > next ? (uint32_t)strtoul(argv[next], NULL, 10) : batched ? 8 : 64;
    if (argc > next + 1) set_fields(argv[next + 1]);
    run(argv[2], seconds, in_flight);
    return 0;
}
