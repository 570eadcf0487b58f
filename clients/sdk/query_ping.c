/* Pings: how fast each replica answers now, and whether one that failed is back. */
#include <string.h>

#include "clients/sdk/client.h"
#include "clients/sdk/latency.h"
#include "clients/sdk/queries.h"
#include "clients/sdk/query_reply.h"
#include "clients/sdk/watch.h"
#include "engine/base/clock.h"
#include "engine/wire/protocol.h"

/* [version, nil, [[PING]]] */
static const uint8_t ping_message[] = {0x93, 0x01, 0xc0, 0x91, 0x91, JUMUN_REPLICA_PING};
/* The same size of work, and it tells where the replica notifies. */
static const uint8_t map_message[] = {0x93, 0x01, 0xc0, 0x91, 0x91, JUMUN_REPLICA_MAP};

/* The text of a key of a map, terminated; false: there is none that fits. */
static bool map_text(const void *value, size_t bytes, const char *key, char *out,
                     size_t out_bytes) {
    struct msgpack_reader r;
    const void *text;
    uint32_t pairs, size;
    msgpack_reader_init(&r, value ? value : "", bytes);
    if (msgpack_read_map(&r, &pairs) != MSGPACK_OK) return false;
    for (uint32_t i = 0; i < pairs; i++) {
        if (msgpack_read_str(&r, &text, &size) != MSGPACK_OK) return false;
        bool found = size == strlen(key) && memcmp(text, key, size) == 0;
        if (!found || msgpack_peek(&r) != MSGPACK_TYPE_STR) {
            if (msgpack_skip(&r) != MSGPACK_OK) return false;
            continue;
        }
        if (msgpack_read_str(&r, &text, &size) != MSGPACK_OK) return false;
        if (size == 0 || size >= out_bytes || memchr(text, 0, size)) return false;
        memcpy(out, text, size);
        out[size] = '\0';
        return true;
    }
    return false;
}

bool replica_map_notify(const void *value, size_t bytes, char notify[ENDPOINT_ADDRESSES_BYTES]) {
    return map_text(value, bytes, "notify", notify, ENDPOINT_ADDRESSES_BYTES);
}

/* What a replica's map tells; false: it is none. */
struct told {
    char cluster[CLUSTER_ID_BYTES];        /* "" = it does not tell */
    char notify[ENDPOINT_ADDRESSES_BYTES]; /* the same */
};
static bool ping_told_map(const void *data, size_t bytes, struct told *told) {
    struct query_reply reply;
    struct query_result result;
    *told = (struct told){0};
    if (query_reply_open(&reply, data, bytes) != QUERY_REPLY_RESULTS || reply.count != 1 ||
        !query_reply_next(&reply, &result) || result.code != JUMUN_OK)
        return false;
    map_text(result.value, result.value_bytes, "cluster_id", told->cluster, CLUSTER_ID_BYTES);
    replica_map_notify(result.value, result.value_bytes, told->notify);
    return true;
}

void replicas_forget(jumun_queries *q) {
    token_set_clear(&q->seen);
    if (q->stale) stale_cache_clear(q->stale);
}

void replicas_judge(jumun_queries *q, bool told) {
    char session[CLUSTER_ID_BYTES] = "";
    if (q->options.session) {
        shard_router_cluster(&q->options.session->router, session);
        if (session[0] == '\0') return; /* it will know; others' words are no measure */
    }
    if (!told && (session[0] == '\0' || strcmp(session, q->replicas.cluster) == 0)) return;
    char before[CLUSTER_ID_BYTES];
    memcpy(before, q->replicas.cluster, sizeof before);
    uint32_t mask = replica_set_judge(&q->replicas, session);
    bool another = before[0] && strcmp(before, q->replicas.cluster) != 0;
    if (mask == 0 && !another) return;
    q->forgotten++;
    replicas_forget(q);
    volleys_leave(q, mask);
}

/* Whether the answer to a ping is that of a node: [1, 0, results], without tokens. */
static bool is_of_node(const uint8_t *data, size_t bytes) {
    return bytes > 3 && data[0] == 0x93 && data[1] == PROTOCOL_VERSION && data[2] == 0;
}

static bool is_of_feed(const void *data, size_t bytes) {
    struct query_reply reply;
    return query_reply_open(&reply, data, bytes) == QUERY_REPLY_OF_FEED;
}

static void ping_on_end(void *arg, enum exchange_end end, const void *data, size_t bytes) {
    struct replica *r = arg;
    jumun_queries *q = r->queries;
    struct query_list over = {0};
    int over_code = 0;
    int64_t now_ns = clock_mono_ns();
    bool ok = end == EXCHANGE_REPLIED && bytes >= 3 && memcmp(data, "\x95\x01\x00", 3) == 0;
    bool node = end == EXCHANGE_REPLIED && is_of_node(data, bytes);
    bool feed = end == EXCHANGE_REPLIED && is_of_feed(data, bytes);
    struct told told;
    pthread_mutex_lock(&q->lock);
    bool asked = r->map_asked;
    pthread_mutex_unlock(&q->lock);
    bool map = ok && asked && ping_told_map(data, bytes, &told);
    bool listens = map && told.notify[0] && atomic_load(&q->hub);
    if (listens) watch_hub_listen(q, r->number, r->endpoint->addresses, told.notify);
    pthread_mutex_lock(&q->lock);
    r->pinging = r->map_asked = false;
    if (node || feed) {
        r->peer = node ? PEER_NODE : PEER_FEED;
        circuit_breaker_success(&r->endpoint->breaker); /* it is well, and not what is wanted */
    } else if (ok) {
        r->peer = PEER_REPLICA;
        r->map_known |= listens;
        if (map) {
            memcpy(r->cluster, told.cluster, sizeof r->cluster);
            r->cluster_known = r->cluster[0] != '\0'; /* else it will, once it reaches a node */
            replicas_judge(q, true);
        }
        circuit_breaker_success(&r->endpoint->breaker);
        r->latency_ns = latency_smooth(r->latency_ns, now_ns - r->ping_begun_ns);
    } else if (!q->closing) {
        r->failures++;
        circuit_breaker_failure(&r->endpoint->breaker, now_ns);
        if (r->latency_ns < now_ns - r->ping_begun_ns) r->latency_ns = now_ns - r->ping_begun_ns;
    }
    volleys_pump(q, false, now_ns, &over, &over_code);
    queries_wake(q, volleys_due_ns(q));
    pthread_mutex_unlock(&q->lock);
    query_list_end_without(q, &over, over_code, now_ns);
}

bool replica_ping_init(struct replica *r) { return exchange_init(&r->ping, ping_on_end, r); }

void replica_ping_fini(struct replica *r) { exchange_fini(&r->ping); }

static void ping_begin(struct replica *r, int64_t now_ns) {
    void *request = exchange_request(&r->ping, sizeof ping_message);
    if (!request) return;
    r->map_asked = !r->cluster_known || (!r->map_known && atomic_load(&r->queries->hub));
    memcpy(request, r->map_asked ? map_message : ping_message, sizeof ping_message);
    r->pinging = true;
    r->ping_begun_ns = now_ns;
    if (!exchange_begin(&r->ping, &r->endpoint->connection)) r->pinging = false;
}

int64_t replicas_ping(jumun_queries *q, int64_t now_ns) {
    int64_t due_ns = INT64_MAX;
    replicas_judge(q, false);
    for (uint32_t i = 0; i < q->replicas.count; i++) {
        struct replica *r = &q->replicas.replicas[i];
        if (r->pinging) {
            int64_t end_ns = r->ping_begun_ns + PING_TIMEOUT_NS;
            if (end_ns <= now_ns) exchange_abort(&r->ping);
            else if (end_ns < due_ns) due_ns = end_ns;
            continue;
        }
        if (r->ping_due_ns <= now_ns) {
            r->ping_due_ns = now_ns + PING_EVERY_NS;
            if (connection_is_up(&r->endpoint->connection) &&
                circuit_breaker_admit(&r->endpoint->breaker, now_ns))
                ping_begin(r, now_ns);
        }
        if (r->ping_due_ns < due_ns) due_ns = r->ping_due_ns;
    }
    return due_ns;
}
