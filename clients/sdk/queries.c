#include "clients/sdk/queries.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/sdk/sdk_clock.h"
#include "clients/sdk/watch.h"
#include "engine/base/clock.h"

#define CLOSE_SETTLE_NS 200000000LL /* for replies that are on their way */

void queries_wake(jumun_queries *q, int64_t due_ns) {
    if (due_ns >= q->clock_due_ns) return;
    q->clock_due_ns = due_ns;
    pthread_cond_signal(&q->wake);
}

/* A thread of nng: a connection came or went. */
static void queries_on_connection(void *arg, bool up) {
    jumun_queries *q = arg;
    pthread_mutex_lock(&q->lock);
    if (up) {
        for (uint32_t i = 0; i < q->replicas.count; i++) {
            struct replica *r = &q->replicas.replicas[i];
            circuit_breaker_allow_probe(&r->endpoint->breaker);
            r->ping_due_ns = 0;
            r->map_known = r->cluster_known = false; /* until then it is of the cluster it was */
            r->peer = PEER_UNKNOWN;
        }
    }
    queries_wake(q, 0);
    pthread_mutex_unlock(&q->lock);
}

/* -- the clock --------------------------------------------------------------------------------- */

/* With the lock. Returns when to look again. */
static int64_t queries_on_tick(jumun_queries *q, int64_t now_ns, struct query_list *over,
                               struct query_list *lost, int *lost_code) {
    bool any_up = replica_set_any_up(&q->replicas);
    if (any_up) q->none_up_ns = 0;
    else if (q->none_up_ns == 0) q->none_up_ns = now_ns;
    volleys_on_tick(q, now_ns, over);
    volleys_pump(q, true, now_ns, lost, lost_code);
    int64_t due_ns = volleys_due_ns(q);
    if (now_ns - q->active_ns < QUERIES_IDLE_NS || due_ns != INT64_MAX || atomic_load(&q->hub)) {
        int64_t ping_ns = replicas_ping(q, now_ns);
        if (ping_ns < due_ns) due_ns = ping_ns;
    }
    if (q->ready.head) {
        int64_t soon_ns = now_ns + (replica_set_any_good(&q->replicas) ? VOLLEY_GATHER_NS
                                                                       : REPLICAS_GONE_NS / 4);
        if (soon_ns < due_ns) due_ns = soon_ns;
    }
    return due_ns;
}

static void queries_sleep(jumun_queries *q) {
    if (q->clock_due_ns == INT64_MAX) {
        pthread_cond_wait(&q->wake, &q->lock);
        return;
    }
    struct timespec until = {.tv_sec = q->clock_due_ns / 1000000000,
                             .tv_nsec = q->clock_due_ns % 1000000000};
    pthread_cond_timedwait(&q->wake, &q->lock, &until);
}

/* Without the lock: closing a dialer may call back. Replicas stay for life. */
static void queries_look_at_endpoints(jumun_queries *q, int64_t now_ns) {
    for (uint32_t i = 0; i < q->replicas.count; i++)
        endpoint_look(q->replicas.replicas[i].endpoint, &q->replicas.breaker, now_ns);
    watch_hub_look(q, now_ns);
}

static void *queries_clock(void *arg) {
    jumun_queries *q = arg;
    int64_t looked_ns = 0;
    pthread_mutex_lock(&q->lock);
    while (!q->closing) {
        struct query_list over = {0}, lost = {0};
        int lost_code = 0;
        int64_t now_ns = clock_mono_ns();
        if (now_ns - looked_ns >= ENDPOINT_LOOK_NS) {
            looked_ns = now_ns;
            pthread_mutex_unlock(&q->lock);
            queries_look_at_endpoints(q, clock_coarse_ns());
            pthread_mutex_lock(&q->lock);
            if (q->closing) break; /* whoever closes may have signalled meanwhile */
        }
        int64_t due_ns = queries_on_tick(q, now_ns, &over, &lost, &lost_code);
        if (over.head || lost.head) {
            pthread_mutex_unlock(&q->lock);
            query_list_end_without(q, &over, 0, now_ns);
            query_list_end_without(q, &lost, lost_code, now_ns);
            pthread_mutex_lock(&q->lock);
            continue;
        }
        q->clock_due_ns = due_ns;
        if (due_ns > clock_mono_ns()) queries_sleep(q);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* -- queries ----------------------------------------------------------------------------------- */

static void queries_push(jumun_queries *q, struct query_call *call, int64_t now_ns) {
    struct query_list over = {0};
    int over_code = 0;
    pthread_mutex_lock(&q->lock);
    bool was_idle = now_ns - q->active_ns >= QUERIES_IDLE_NS;
    q->active_ns = now_ns;
    replicas_judge(q, false);
    queries_enqueue(q, call, now_ns);
    atomic_fetch_add_explicit(&q->stat_queries, 1, memory_order_relaxed);
    volleys_pump(q, false, now_ns, &over, &over_code);
    int64_t due_ns = q->ready.head ? now_ns + VOLLEY_GATHER_NS : volleys_due_ns(q);
    queries_wake(q, was_idle ? 0 : due_ns);
    pthread_mutex_unlock(&q->lock);
    query_list_end_without(q, &over, over_code, now_ns);
}

static struct query_call *queries_make(jumun_queries *q, const jumun_query *query, int64_t now_ns,
                                       int *code, const char **fault) {
    *fault = NULL;
    pthread_mutex_lock(&q->lock);
    bool full = q->ready.count + q->later.count >= q->options.queue_queries_max;
    *code = q->closing ? JUMUN_CLOSED : full ? JUMUN_QUEUE_FULL : JUMUN_OK;
    pthread_mutex_unlock(&q->lock);
    return *code == JUMUN_OK ? query_call_new(q, query, now_ns, code, fault) : NULL;
}

int jumun_query_submit(jumun_queries *q, const jumun_query *query, jumun_answer_callback callback,
                       void *arg) {
    int code;
    const char *fault;
    int64_t now_ns = clock_mono_ns();
    if (!callback) return JUMUN_BAD_ARGUMENT;
    struct query_call *call = queries_make(q, query, now_ns, &code, &fault);
    if (!call) return code;
    call->callback = callback;
    call->arg = arg;
    queries_push(q, call, now_ns);
    return JUMUN_OK;
}

int jumun_query_run(jumun_queries *q, const jumun_query *query, jumun_answer **answer) {
    int code;
    const char *fault;
    int64_t now_ns = clock_mono_ns();
    struct query_call *call = queries_make(q, query, now_ns, &code, &fault);
    if (!call) {
        if ((*answer = calloc(1, sizeof **answer))) {
            (*answer)->code = code;
            (*answer)->replica = "";
            (*answer)->age_ms = UINT32_MAX;
            snprintf((*answer)->detail, sizeof (*answer)->detail, "%s", fault ? fault : "");
        }
        return code;
    }
    queries_push(q, call, now_ns);
    query_call_await(call);
    *answer = call->answer;
    free(call);
    return *answer ? (*answer)->code : JUMUN_NO_MEMORY;
}

/* -- open and close ---------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static void *open_failed(char *error, size_t error_bytes,
                                                               const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (error && error_bytes) vsnprintf(error, error_bytes, format, args);
    va_end(args);
    return NULL;
}

static uint32_t or_default(uint32_t value, uint32_t fallback) { return value ? value : fallback; }

static jumun_query_options options_filled(const jumun_query_options *given) {
    jumun_query_options o = given ? *given : (jumun_query_options){0};
    o.timeout_ms = or_default(o.timeout_ms, 2000);
    o.attempt_timeout_ms = or_default(o.attempt_timeout_ms, 500);
    o.wait_ms = or_default(o.wait_ms, 500);
    o.batch_queries_max = or_default(o.batch_queries_max, 128);
    o.messages_in_flight_max = or_default(o.messages_in_flight_max, 8);
    o.queue_queries_max = or_default(o.queue_queries_max, 65536);
    o.hedge_ms_min = or_default(o.hedge_ms_min, 2);
    o.stale_bytes_max = or_default(o.stale_bytes_max, 8u << 20);
    o.circuit_failures = or_default(o.circuit_failures, 5);
    o.circuit_open_ms = or_default(o.circuit_open_ms, 1000);
    return o;
}

static const char *options_fault(const jumun_query_options *o) {
    if (o->batch_queries_max > QUERY_BATCH_MAX) return "batch_queries_max is over 1,024";
    if (o->messages_in_flight_max > QUERY_MESSAGES_MAX) return "messages_in_flight_max is over 64";
    if (o->choice > JUMUN_IN_ORDER) return "there is no such choice of replicas";
    return NULL;
}

static bool replica_add(jumun_queries *q, const char *address, char *error, size_t error_bytes) {
    char why[CONNECTION_ERROR_BYTES] = "";
    struct replica *r = &q->replicas.replicas[q->replicas.count];
    *r = (struct replica){.queries = q, .number = q->replicas.count};
    if (!replica_ping_init(r)) {
        open_failed(error, error_bytes, "no memory for a replica");
        return false;
    }
    if (endpoint_new(&r->endpoint, address, &q->replicas.breaker, queries_on_connection, q, why,
                     sizeof why) != 0) {
        replica_ping_fini(r);
        open_failed(error, error_bytes, "%s", why);
        return false;
    }
    /* Threads of nng look at the replicas as soon as the first one is connected. */
    pthread_mutex_lock(&q->lock);
    q->replicas.count++;
    pthread_mutex_unlock(&q->lock);
    return true;
}

static bool replicas_init(jumun_queries *q, const char *addresses, char *error,
                          size_t error_bytes) {
    const char *at = addresses;
    for (;;) {
        char address[ENDPOINT_ADDRESSES_BYTES];
        size_t size = strcspn(at, ",");
        if (size >= sizeof address || q->replicas.count == REPLICAS_KNOWN_MAX) {
            open_failed(error, error_bytes, size >= sizeof address
                                                ? "a replica's address is over 255 bytes"
                                                : "more than 16 replicas");
            return false;
        }
        snprintf(address, sizeof address, "%.*s", (int)size, at);
        if (!replica_add(q, address, error, error_bytes)) return false;
        if (at[size] == '\0') return true;
        at += size + 1;
    }
}

static void queries_free(jumun_queries *q) {
    for (uint32_t i = 0; i < q->replicas.count; i++)
        replica_ping_fini(&q->replicas.replicas[i]);
    volleys_fini(q);
    for (uint32_t i = 0; i < q->replicas.count; i++)
        endpoint_delete(q->replicas.replicas[i].endpoint);
    stale_cache_delete(q->stale);
    pthread_cond_destroy(&q->wake);
    pthread_mutex_destroy(&q->lock);
    pthread_mutex_destroy(&q->hub_lock);
    free(q);
}

static void queries_init(jumun_queries *q, const jumun_query_options *options) {
    pthread_condattr_t attr;
    q->options = *options;
    q->replicas.breaker = (jumun_options){.circuit_failures = options->circuit_failures,
                                          .tls_ca = options->tls_ca,
                                          .tls_cert = options->tls_cert,
                                          .tls_key = options->tls_key,
                                          .circuit_open_ms = options->circuit_open_ms};
    pthread_mutex_init(&q->lock, NULL);
    pthread_mutex_init(&q->hub_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->wake, &attr);
    pthread_condattr_destroy(&attr);
    q->none_up_ns = q->active_ns = clock_mono_ns();
    q->hedge_credit = HEDGE_CREDIT_MAX;
    q->lists_due_ns = INT64_MAX;
}

jumun_queries *jumun_queries_open(const char *replicas, const jumun_query_options *options,
                                  char *error, size_t error_bytes) {
    jumun_query_options filled = options_filled(options);
    const char *fault = options_fault(&filled);
    if (fault) return open_failed(error, error_bytes, "%s", fault);
    if (!replicas) return open_failed(error, error_bytes, "the replica's address is missing");
    if (endpoint_addresses_are_bad(replicas, error, error_bytes)) return NULL;
    jumun_queries *q = calloc(1, sizeof *q);
    if (!q) return open_failed(error, error_bytes, "no memory for queries");
    queries_init(q, &filled);
    if (!filled.no_stale) q->stale = stale_cache_new(filled.stale_bytes_max);
    if ((!filled.no_stale && !q->stale) || !volleys_init(q)) {
        queries_free(q);
        return open_failed(error, error_bytes, "no memory for queries");
    }
    if (!replicas_init(q, replicas, error, error_bytes)) {
        queries_free(q);
        return NULL;
    }
    if (pthread_create(&q->clock, NULL, queries_clock, q) != 0) {
        queries_free(q);
        return open_failed(error, error_bytes, "cannot start a thread");
    }
    return q;
}

/* Ends all queries that wait. */
static void queries_end_waiting(jumun_queries *q) {
    struct query_list lists[2];
    pthread_mutex_lock(&q->lock);
    lists[0] = q->ready;
    lists[1] = q->later;
    q->ready = q->later = (struct query_list){0};
    pthread_mutex_unlock(&q->lock);
    query_list_end_without(q, &lists[0], JUMUN_CLOSED, 0);
    query_list_end_without(q, &lists[1], JUMUN_CLOSED, 0);
}

void jumun_queries_close(jumun_queries *q) {
    if (!q) return;
    watch_hub_stop(q);
    pthread_mutex_lock(&q->lock);
    q->closing = true;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->clock, NULL);
    queries_end_waiting(q);
    int64_t until_ns = clock_mono_ns() + CLOSE_SETTLE_NS;
    for (uint32_t i = 0; i < q->replicas.count; i++)
        exchange_settle(&q->replicas.replicas[i].ping, until_ns);
    for (uint32_t i = 0; i < q->volleys_count; i++) {
        for (int n = 0; n < VOLLEY_ATTEMPTS; n++) {
            exchange_settle(&q->volleys[i].attempts[n].exchange, until_ns);
            exchange_fini(&q->volleys[i].attempts[n].exchange);
        }
    }
    queries_end_waiting(q); /* what the last replies wanted to have asked again */
    watch_hub_delete(q);
    queries_free(q);
}

/* -- looking at it ----------------------------------------------------------------------------- */

static void look_at_replica(const struct replica *r, jumun_replica_stats *s) {
    snprintf(s->address, sizeof s->address, "%s", r->endpoint->addresses);
    s->connected = connection_is_up(&r->endpoint->connection);
    s->circuit_open = r->foreign || !circuit_breaker_is_closed(&r->endpoint->breaker);
    s->latency_us = (uint32_t)(r->latency_ns / 1000);
    s->messages = r->messages;
    s->failures = r->failures;
}

void jumun_queries_look(jumun_queries *q, jumun_queries_stats *s) {
    *s = (jumun_queries_stats){0};
    s->queries = atomic_load(&q->stat_queries);
    s->messages = atomic_load(&q->stat_messages);
    s->retries = atomic_load(&q->stat_retries);
    s->hedges = atomic_load(&q->stat_hedges);
    s->hedges_won = atomic_load(&q->stat_hedges_won);
    s->timeouts = atomic_load(&q->stat_timeouts);
    s->stale = atomic_load(&q->stat_stale);
    s->lagging = atomic_load(&q->stat_lagging);
    if (q->stale) s->stale_bytes = stale_cache_bytes(q->stale);
    pthread_mutex_lock(&q->lock);
    s->hedge_us = (uint32_t)(q->p95_ns / 1000);
    s->replicas_count = q->replicas.count;
    for (uint32_t i = 0; i < q->replicas.count; i++)
        look_at_replica(&q->replicas.replicas[i], &s->replicas[i]);
    pthread_mutex_unlock(&q->lock);
}
