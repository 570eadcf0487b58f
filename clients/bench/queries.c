/* Queries to replicas, through the SDK: closed with --callers queries in flight, or open at --rate
 * a second, latency measured from the intended moment. Keys, customers and stores are those of
 * orders that the replicas have. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bench/bench.h"
#include "clients/sdk/jumun_query.h"
#include "engine/base/priority.h"

enum { QUERIES_ORDERS_MAX = 50000, QUERIES_PAGE = 100, QUERIES_KEYS = 128, QUERIES_TEXT = 65 };

/* What is asked about. */
struct known { jumun_key key; char store[QUERIES_TEXT], customer[QUERIES_TEXT]; };

/* A query that is in flight, or may be. */
struct flight {
    struct queries *q;
    int64_t sent_ns;
    uint64_t random;
};

struct queries {
    struct bench *b;
    jumun_queries *sdk;
    struct known *known;
    uint32_t known_count;
    struct flight *flights;
    pthread_mutex_t lock;          /* guards the stack of idle ones */
    struct flight **idle;
    uint32_t idle_count;
    const char *fields[8];
    uint32_t fields_count;
    char fields_text[256];
};

static const struct { const char *name; jumun_query_kind kind; } kinds[] = {
    {"get", JUMUN_GET_ORDER},           {"multi-get", JUMUN_MULTI_GET},
    {"board", JUMUN_STORE_BOARD},       {"customer", JUMUN_CUSTOMER_ORDERS},
    {"state", JUMUN_STATE_ORDERS},
};

bool bench_query_is_known(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0) return true;
    }
    return false;
}

static jumun_query_kind kind_of(const char *name) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].name, name) == 0) return kinds[i].kind;
    }
    return JUMUN_GET_ORDER;
}

/* -- what is there to ask about -------------------------------------------------------------- */

static void take_page(struct queries *q, const jumun_answer *a) {
    for (uint32_t i = 0; i < jumun_answer_rows(a) && q->known_count < QUERIES_ORDERS_MAX; i++) {
        jumun_order *order;
        if (jumun_answer_order(a, i, &order) != JUMUN_OK) continue;
        struct known *k = &q->known[q->known_count++];
        k->key = order->key;
        snprintf(k->store, sizeof k->store, "%s", order->store);
        snprintf(k->customer, sizeof k->customer, "%s", order->customer);
        jumun_order_free(order);
    }
}

/* Orders of all states, page by page. Returns a code. */
static int take_known(struct queries *q) {
    for (uint8_t state = 1; state < 16 && q->known_count < QUERIES_ORDERS_MAX; state++) {
        uint8_t cursor[512];
        jumun_query page = {.kind = JUMUN_STATE_ORDERS, .states = &state, .states_count = 1,
                            .limit = QUERIES_PAGE, .cursor = cursor};
        if (strcmp(jumun_state_name(state), "?") == 0) continue;
        do {
            jumun_answer *a;
            int code = jumun_query_run(q->sdk, &page, &a);
            if (code != JUMUN_OK) {
                jumun_answer_free(a);
                return code;
            }
            take_page(q, a);
            page.cursor_bytes = a->cursor_bytes <= sizeof cursor ? a->cursor_bytes : 0;
            if (page.cursor_bytes) memcpy(cursor, a->cursor, page.cursor_bytes);
            jumun_answer_free(a);
        } while (page.cursor_bytes && q->known_count < QUERIES_ORDERS_MAX);
    }
    return JUMUN_OK;
}

/* -- one query ------------------------------------------------------------------------------- */

static uint64_t next_random(struct flight *f) {
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return f->random;
}

static void flight_done(struct flight *f);

static void on_answer(void *arg, const jumun_answer *answer) {
    struct flight *f = arg;
    struct bench *b = f->q->b;
    if (atomic_load_explicit(&b->measuring, memory_order_relaxed)) {
        int code = answer->code >= 0 && answer->code < 1100 ? answer->code : 1;
        /* Retired since, or not there yet at another replica: an answer too. */
        if (code == JUMUN_OK || code == JUMUN_ORDER_NOT_FOUND) {
            size_t stripe = (size_t)(f - f->q->flights) % BENCH_STRIPES;
            histogram_record(&b->stripes[stripe].h, bench_now_ns() - f->sent_ns);
        } else {
            atomic_fetch_add(&b->failed, 1);
        }
        if (code != JUMUN_OK) atomic_fetch_add(&b->by_code[code], 1);
    }
    flight_done(f);
}

/* Returns a code. */
static int ask(struct flight *f, int64_t intended_ns) {
    struct queries *q = f->q;
    const struct known *k = &q->known[next_random(f) % q->known_count];
    jumun_key keys[QUERIES_KEYS];
    uint8_t state = (uint8_t)(1 + next_random(f) % 10);
    jumun_query query = {.kind = kind_of(q->b->options.query), .fields = q->fields,
                         .fields_count = q->fields_count, .limit = 50};
    switch (query.kind) {
    case JUMUN_MULTI_GET:
        for (int i = 0; i < QUERIES_KEYS; i++)
            keys[i] = q->known[next_random(f) % q->known_count].key;
        query.keys = keys;
        query.keys_count = QUERIES_KEYS;
        break;
    case JUMUN_STORE_BOARD: query.subject = k->store; break;
    case JUMUN_CUSTOMER_ORDERS: query.subject = k->customer; break;
    case JUMUN_STATE_ORDERS:
        query.states = &state;
        query.states_count = 1;
        break;
    default: query.order = k->key; break;
    }
    f->sent_ns = intended_ns;
    return jumun_query_submit(q->sdk, &query, on_answer, f);
}

/* -- closed and open ------------------------------------------------------------------------- */

static void flight_idle(struct flight *f) {
    struct queries *q = f->q;
    pthread_mutex_lock(&q->lock);
    q->idle[q->idle_count++] = f;
    pthread_mutex_unlock(&q->lock);
}

static void flight_done(struct flight *f) {
    struct bench *b = f->q->b;
    if (b->options.rate == 0 && !atomic_load_explicit(&b->stop, memory_order_relaxed) &&
        ask(f, bench_now_ns()) == JUMUN_OK)
        return;
    flight_idle(f);
}

static void send_one(void *arg, int64_t intended_ns) {
    struct queries *q = arg;
    pthread_mutex_lock(&q->lock);
    struct flight *f = q->idle_count ? q->idle[--q->idle_count] : NULL;
    pthread_mutex_unlock(&q->lock);
    if (f && ask(f, intended_ns) == JUMUN_OK) return;
    if (f) flight_idle(f);
    if (atomic_load(&q->b->measuring)) atomic_fetch_add(&q->b->queue_full, 1);
}

static void *pace(void *arg) {
    struct queries *q = arg;
    priority_prompt();
    bench_pace(q->b, send_one, q);
    return NULL;
}

static int play(struct queries *q) {
    struct bench *b = q->b;
    pthread_t pacer;
    if (b->options.rate != 0) {
        if (pthread_create(&pacer, NULL, pace, q) != 0) return 1;
        bench_measure(b);
        pthread_join(pacer, NULL);
        return 0;
    }
    uint32_t count = q->idle_count;
    for (uint32_t i = 0; i < count; i++) send_one(q, bench_now_ns());
    bench_measure(b);
    return 0;
}

/* "state,total" -> the list; *text is cut. */
static void take_fields(struct queries *q) {
    char *at = q->fields_text;
    snprintf(q->fields_text, sizeof q->fields_text, "%s",
             q->b->options.fields ? q->b->options.fields : "");
    for (char *name; (name = strsep(&at, ",")) && q->fields_count < 8;)
        if (*name) q->fields[q->fields_count++] = name;
}

static int prepare(struct queries *q, uint32_t flights) {
    char error[256] = "";
    const struct bench_options *o = &q->b->options;
    const jumun_query_options options = {.batch_queries_max = o->batch,
                                         .messages_in_flight_max = o->in_flight,
                                         .timeout_ms = o->timeout_ms, .no_stale = true};
    q->known = calloc(QUERIES_ORDERS_MAX, sizeof *q->known);
    q->flights = calloc(flights, sizeof *q->flights);
    q->idle = calloc(flights, sizeof *q->idle);
    if (!q->known || !q->flights || !q->idle) return 1;
    q->sdk = jumun_queries_open(o->replicas, &options, error, sizeof error);
    if (!q->sdk) {
        fprintf(stderr, "jumun-bench: %s\n", error);
        return 2;
    }
    for (uint32_t i = 0; i < flights; i++) {
        q->flights[i] = (struct flight){.q = q, .random = 0x9e3779b97f4a7c15ull * (i + 1)};
        q->idle[q->idle_count++] = &q->flights[i];
    }
    take_fields(q);
    int code = take_known(q);
    if (code != JUMUN_OK) {
        fprintf(stderr, "jumun-bench: %s: %s\n", o->replicas, jumun_result_text(code));
        return 3;
    }
    if (q->known_count != 0) return 0;
    fprintf(stderr, "jumun-bench: %s: there are no orders to ask for\n", o->replicas);
    return 1;
}

int bench_run_queries(struct bench *b) {
    struct queries q = {.b = b, .lock = PTHREAD_MUTEX_INITIALIZER};
    /* Open: as many may wait for answers as in a second, but not without end. */
    uint64_t rate = b->options.rate < 1u << 16 ? b->options.rate : 1u << 16;
    uint32_t flights = rate > b->options.callers ? (uint32_t)rate : b->options.callers;
    int status = prepare(&q, flights);
    if (status == 0) status = play(&q);
    /* Ends what is still in flight, so that no answer comes afterwards. */
    if (q.sdk) jumun_queries_close(q.sdk);
    pthread_mutex_destroy(&q.lock);
    free(q.known);
    free(q.flights);
    free(q.idle);
    return status;
}
