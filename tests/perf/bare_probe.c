/* The bare parts, without any rules: what this machine gives to nng REQ/REP + msgpack decode + a
 * hash table + LMDB commit with full sync. A figure of Jumun is quoted beside this one from the
 * same run, because the machine's speed swings.
 *
 * One process is the server (REP contexts; decode with msgpack-c; 16-byte key -> counter in a hash
 * table; a committer thread writes all waiting messages in one synced LMDB transaction, then they
 * are answered), one the client (REQ contexts, messages made once and only their keys changed). */
#include <argp.h>
#include <lmdb.h>
#include <msgpack.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/histogram.h"
#include "tests/lib/ports.h"

enum { KEYS_MAX = 1 << 21, SERVER_CONTEXTS = 256 };

static struct {
    uint32_t batch, in_flight, shards;
    double seconds;
    bool json;
    const char *directory;
} probe = {.batch = 128, .in_flight = 16, .shards = 2, .seconds = 5};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "bare_probe: %s: %s\n", what, why);
    exit(1);
}

static void check_nng(int rv, const char *what) {
    if (rv != 0) fail(what, nng_strerror(rv));
}

/* -- server --------------------------------------------------------------------------------- */

struct server_context {
    struct server *server;
    nng_ctx ctx;
    nng_aio *aio;
    nng_msg *msg;
    bool sending;
    struct server_context *next;
};

struct server {
    nng_socket socket;
    MDB_env *env;
    MDB_dbi dbi;
    uint64_t index;
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct server_context *waiting, *waiting_last;
    struct { uint64_t key[2]; uint64_t count; } *table;
    struct server_context contexts[SERVER_CONTEXTS];
};

static void table_touch(struct server *s, const char *key) {
    uint64_t k[2];
    memcpy(k, key, 16);
    uint64_t i = (k[1] * 0x9e3779b97f4a7c15ULL >> 20) & (KEYS_MAX - 1);
    while (s->table[i].count && (s->table[i].key[0] != k[0] || s->table[i].key[1] != k[1]))
        i = (i + 1) & (KEYS_MAX - 1);
    memcpy(s->table[i].key, k, 16);
    s->table[i].count++;
}

static void reply(struct server_context *c) {
    msgpack_sbuffer out;
    msgpack_packer packer;
    msgpack_sbuffer_init(&out);
    msgpack_packer_init(&packer, &out, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, probe.batch);
    for (uint32_t i = 0; i < probe.batch; i++) {
        msgpack_pack_array(&packer, 4);
        for (int f = 0; f < 4; f++) msgpack_pack_uint32(&packer, i);
    }
    nng_msg_clear(c->msg);
    nng_msg_append(c->msg, out.data, out.size);
    msgpack_sbuffer_destroy(&out);
    nng_aio_set_msg(c->aio, c->msg);
    c->msg = NULL;
    c->sending = true;
    nng_ctx_send(c->ctx, c->aio);
}

static void *committer(void *arg) {
    struct server *s = arg;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (!s->waiting) pthread_cond_wait(&s->filled, &s->lock);
        struct server_context *first = s->waiting;
        s->waiting = s->waiting_last = NULL;
        pthread_mutex_unlock(&s->lock);
        MDB_txn *txn;
        int rv = mdb_txn_begin(s->env, NULL, 0, &txn);
        for (struct server_context *c = first; c && rv == 0; c = c->next) {
            uint64_t index = ++s->index;
            MDB_val key = {8, &index}, value = {nng_msg_len(c->msg), NULL};
            rv = mdb_put(txn, s->dbi, &key, &value, MDB_APPEND | MDB_RESERVE);
            if (rv == 0) memcpy(value.mv_data, nng_msg_body(c->msg), value.mv_size);
        }
        if (rv == 0) rv = mdb_txn_commit(txn);
        if (rv != 0) fail("LMDB", mdb_strerror(rv));
        while (first) {
            struct server_context *next = first->next;
            reply(first);
            first = next;
        }
    }
    return NULL;
}

static void on_server(void *arg) {
    struct server_context *c = arg;
    if (nng_aio_result(c->aio) != 0) return;
    if (c->sending) {
        c->sending = false;
        nng_ctx_recv(c->ctx, c->aio);
        return;
    }
    struct server *s = c->server;
    c->msg = nng_aio_get_msg(c->aio);
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    size_t offset = 0;
    if (msgpack_unpack_next(&u, nng_msg_body(c->msg), nng_msg_len(c->msg), &offset) !=
        MSGPACK_UNPACK_SUCCESS)
        fail("message", "not msgpack");
    pthread_mutex_lock(&s->lock);
    const msgpack_object_array *commands = &u.data.via.array;
    for (uint32_t i = 0; i < commands->size; i++)
        table_touch(s, commands->ptr[i].via.array.ptr[1].via.bin.ptr);
    c->next = NULL;
    if (s->waiting_last) s->waiting_last->next = c;
    else s->waiting = c;
    s->waiting_last = c;
    pthread_cond_signal(&s->filled);
    pthread_mutex_unlock(&s->lock);
    msgpack_unpacked_destroy(&u);
}

static struct server *serve_one(uint32_t shard, const char *url) {
    struct server *s = calloc(1, sizeof *s);
    s->table = calloc(KEYS_MAX, sizeof *s->table);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->filled, NULL);
    char path[512];
    snprintf(path, sizeof path, "%s/bare-%u.mdb", probe.directory, shard);
    int rv = mdb_env_create(&s->env);
    if (rv == 0) rv = mdb_env_set_mapsize(s->env, 32ULL << 30);
    if (rv == 0) rv = mdb_env_open(s->env, path, MDB_NOSUBDIR, 0600);
    MDB_txn *txn;
    if (rv == 0) rv = mdb_txn_begin(s->env, NULL, 0, &txn);
    if (rv == 0) rv = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &s->dbi);
    if (rv == 0) rv = mdb_txn_commit(txn);
    if (rv != 0) fail("LMDB", mdb_strerror(rv));
    check_nng(nng_rep0_open(&s->socket), "rep");
    nng_socket_set_size(s->socket, NNG_OPT_RECVMAXSZ, 4u << 20);
    check_nng(nng_listen(s->socket, url, NULL, 0), url);
    for (int i = 0; i < SERVER_CONTEXTS; i++) {
        struct server_context *c = &s->contexts[i];
        c->server = s;
        check_nng(nng_ctx_open(&c->ctx, s->socket), "context");
        check_nng(nng_aio_alloc(&c->aio, on_server, c), "aio");
        nng_ctx_recv(c->ctx, c->aio);
    }
    pthread_t thread;
    pthread_create(&thread, NULL, committer, s);
    return s;
}

/* -- client --------------------------------------------------------------------------------- */

static atomic_bool stop, measuring;
static atomic_ullong messages_done;
static atomic_uint running;
static struct histogram latency;

struct client_context {
    nng_ctx ctx;
    nng_aio *aio;
    bool receiving;
    int64_t sent_ns;
    uint64_t random;
};

static char *template_bytes;
static size_t template_size;
static size_t *key_offsets;

static void pack_text(msgpack_packer *p, const char *text) {
    msgpack_pack_str(p, strlen(text));
    msgpack_pack_str_body(p, text, strlen(text));
}

/* The same mix and nearly the same bytes as the load of jumun-bench: every sixth command a
 * place. */
static void template_make(void) {
    msgpack_sbuffer out;
    msgpack_packer p;
    msgpack_sbuffer_init(&out);
    msgpack_packer_init(&p, &out, msgpack_sbuffer_write);
    char id[16] = "0123456789abcdef";
    msgpack_pack_array(&p, probe.batch);
    key_offsets = calloc(probe.batch, sizeof *key_offsets);
    for (uint32_t i = 0; i < probe.batch; i++) {
        msgpack_pack_array(&p, 5);
        msgpack_pack_uint32(&p, i % 6 + 1);
        msgpack_pack_bin(&p, 16);
        key_offsets[i] = out.size;
        msgpack_pack_bin_body(&p, id, 16);
        msgpack_pack_bin(&p, 16);
        msgpack_pack_bin_body(&p, id, 16);
        msgpack_pack_nil(&p);
        if (i % 6 == 0) {
            msgpack_pack_array(&p, 9);
            msgpack_pack_int(&p, 1);
            msgpack_pack_int(&p, 1);
            pack_text(&p, "KRW");
            pack_text(&p, "store-0001");
            msgpack_pack_array(&p, 3);
            for (int l = 0; l < 3; l++) {
                msgpack_pack_array(&p, 3);
                pack_text(&p, "menu-001");
                msgpack_pack_int(&p, 2);
                msgpack_pack_int(&p, 1250);
            }
            msgpack_pack_int(&p, 3000);
            msgpack_pack_int(&p, 0);
            msgpack_pack_int(&p, 10500);
            pack_text(&p, "customer-1");
        } else if (i % 6 == 1) {
            msgpack_pack_array(&p, 4);
            msgpack_pack_int(&p, 2);
            pack_text(&p, "card");
            pack_text(&p, "payment-1");
            msgpack_pack_int(&p, 10500);
        } else {
            msgpack_pack_array(&p, 1);
            pack_text(&p, "rider-0001");
        }
    }
    template_bytes = out.data;
    template_size = out.size;
}

static void client_send(struct client_context *c) {
    nng_msg *msg;
    if (nng_msg_alloc(&msg, template_size) != 0) fail("client", "no memory");
    char *body = nng_msg_body(msg);
    memcpy(body, template_bytes, template_size);
    for (uint32_t i = 0; i < probe.batch; i++) {
        uint64_t r = (c->random += 0x9e3779b97f4a7c15ULL);
        r = (r ^ (r >> 31)) * 0xbf58476d1ce4e5b9ULL % 100000;
        memcpy(body + key_offsets[i] + 8, &r, 8);
    }
    c->receiving = false;
    c->sent_ns = clock_mono_ns();
    nng_aio_set_msg(c->aio, msg);
    nng_ctx_send(c->ctx, c->aio);
}

static void on_client(void *arg) {
    struct client_context *c = arg;
    if (nng_aio_result(c->aio) != 0) {
        atomic_fetch_sub(&running, 1);
        return;
    }
    if (!c->receiving) {
        c->receiving = true;
        nng_ctx_recv(c->ctx, c->aio);
        return;
    }
    nng_msg *msg = nng_aio_get_msg(c->aio);
    msgpack_unpacked u;
    msgpack_unpacked_init(&u);
    size_t offset = 0;
    if (msgpack_unpack_next(&u, nng_msg_body(msg), nng_msg_len(msg), &offset) !=
            MSGPACK_UNPACK_SUCCESS ||
        u.data.via.array.size != probe.batch)
        fail("reply", "malformed");
    msgpack_unpacked_destroy(&u);
    nng_msg_free(msg);
    if (atomic_load_explicit(&measuring, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&messages_done, 1, memory_order_relaxed);
        histogram_record(&latency, clock_mono_ns() - c->sent_ns);
    }
    if (atomic_load_explicit(&stop, memory_order_relaxed)) atomic_fetch_sub(&running, 1);
    else client_send(c);
}

static void pause_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void client_run(char urls[][64]) {
    template_make();
    nng_socket *sockets = calloc(probe.shards, sizeof *sockets);
    for (uint32_t s = 0; s < probe.shards; s++) {
        check_nng(nng_req0_open(&sockets[s]), "req");
        nng_socket_set_ms(sockets[s], NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
        nng_socket_set_ms(sockets[s], NNG_OPT_RECONNMINT, 20);
        nng_socket_set_size(sockets[s], NNG_OPT_RECVMAXSZ, 4u << 20);
        check_nng(nng_dial(sockets[s], urls[s], NULL, NNG_FLAG_NONBLOCK), "dial");
    }
    pause_ms(300);
    struct client_context *contexts = calloc(probe.in_flight, sizeof *contexts);
    atomic_store(&running, probe.in_flight);
    for (uint32_t i = 0; i < probe.in_flight; i++) {
        struct client_context *c = &contexts[i];
        c->random = i * 0x123456789ULL;
        check_nng(nng_ctx_open(&c->ctx, sockets[i % probe.shards]), "context");
        check_nng(nng_aio_alloc(&c->aio, on_client, c), "aio");
        client_send(c);
    }
    pause_ms(1000);
    int64_t begin = clock_mono_ns();
    atomic_store(&measuring, true);
    pause_ms((long)(probe.seconds * 1000));
    atomic_store(&measuring, false);
    double seconds = (double)(clock_mono_ns() - begin) / 1e9;
    atomic_store(&stop, true);
    for (int i = 0; i < 5000 && atomic_load(&running) > 0; i++) pause_ms(1);
    double rate = (double)atomic_load(&messages_done) * probe.batch / seconds;
    double p50 = (double)histogram_percentile_ns(&latency, 50000) / 1e3;
    double p99 = (double)histogram_percentile_ns(&latency, 99000) / 1e3;
    if (probe.json)
        printf("{\"probe\":\"bare\",\"batch\":%u,\"in_flight\":%u,\"shards\":%u,"
               "\"commands_per_second\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
               probe.batch, probe.in_flight, probe.shards, rate, p50, p99);
    else
        printf("bare parts: batch %u, %u in flight, %u shards: %.0f commands/s, "
               "a message p50 %.0f us, "
               "p99 %.0f us\n", probe.batch, probe.in_flight, probe.shards, rate, p50, p99);
    fflush(stdout);
}

static const struct argp_option options[] = {
    {"batch", 'b', "N", 0, "Commands a message (default 128)", 0},
    {"in-flight", 'f', "N", 0, "Messages in flight (default 16)", 0},
    {"shards", 'n', "N", 0, "Servers, each with its own LMDB (default 2)", 0},
    {"seconds", 's', "N", 0, "Measured time (default 5)", 0},
    {"json", 'j', 0, 0, "One line of JSON", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    switch (key) {
    case 'b': probe.batch = (uint32_t)strtoul(arg, NULL, 10); break;
    case 'f': probe.in_flight = (uint32_t)strtoul(arg, NULL, 10); break;
    case 'n': probe.shards = (uint32_t)strtoul(arg, NULL, 10); break;
    case 's': probe.seconds = strtod(arg, NULL); break;
    case 'j': probe.json = true; break;
    case ARGP_KEY_ARG: probe.directory = arg; break;
    case ARGP_KEY_END:
        if (!probe.directory) argp_error(state, "a directory on the disk to be measured is needed");
        if (!probe.batch || !probe.in_flight || !probe.shards || probe.shards > 16)
            argp_error(state, "numbers must be positive, at most 16 shards");
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv) {
    struct argp argp = {options, parse, "DIRECTORY",
                        "Measures nng REQ/REP + msgpack decode + hash table + synced LMDB commits, "
                        "without any rules.", NULL, NULL, NULL};
    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    char urls[16][64];
    int port = ports_pick((int)probe.shards);
    for (uint32_t s = 0; s < probe.shards; s++)
        snprintf(urls[s], sizeof urls[s], "tcp://127.0.0.1:%d", port + (int)s);
    pid_t server = fork();
    if (server == 0) {
        for (uint32_t s = 0; s < probe.shards; s++) serve_one(s, urls[s]);
        for (;;) pause();
    }
    client_run(urls);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    char path[512];
    for (uint32_t s = 0; s < probe.shards; s++) {
        snprintf(path, sizeof path, "%s/bare-%u.mdb", probe.directory, s);
        unlink(path);
        snprintf(path, sizeof path, "%s/bare-%u.mdb-lock", probe.directory, s);
        unlink(path);
    }
    _exit(0); /* nng's threads of the client need no farewell */
}
