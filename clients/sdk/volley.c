#include <stdlib.h>

#include "clients/sdk/queries.h"
#include "clients/sdk/query_encode.h"
#include "engine/base/check.h"

/* -- filling a message ------------------------------------------------------------------------- */

/* Whether two queries demand the same, so that they can go in one message. */
static bool same_demand(const struct query_call *a, const struct query_call *b) {
    return !a->alone && !b->alone && !a->at_least_count && !b->at_least_count &&
           a->any_state == b->any_state && a->max_age_ms == b->max_age_ms &&
           a->tried == b->tried && a->relaxed == b->relaxed;
}

static void list_prepend(struct query_list *list, struct query_list *front) {
    if (!front->head) return;
    front->tail->next = list->head;
    if (!list->tail) list->tail = front->tail;
    list->head = front->head;
    list->count += front->count;
}

/* Moves what fits one message out of `ready`, in its order. Returns the bytes of the queries. */
static size_t volley_take(jumun_queries *q, struct volley *v) {
    struct query_list stay = {0};
    size_t bytes = 0, room = MESSAGE_BYTES_MAX - QUERY_HEAD_BYTES_MAX -
                             query_encode_tail_bytes_max(2 * SHARDS_MAX);
    struct query_call *call;
    v->count = 0;
    while (v->count < q->options.batch_queries_max && stay.count < VOLLEY_SKIPPED_MAX &&
           (call = query_list_pop(&q->ready))) {
        bool fits = v->count == 0 || (same_demand(v->calls[0], call) && bytes + call->size <= room);
        if (!fits) {
            query_list_append(&stay, call);
            continue;
        }
        v->calls[v->count++] = call;
        bytes += call->size;
    }
    list_prepend(&q->ready, &stay);
    return bytes;
}

static void volley_demand(jumun_queries *q, struct volley *v) {
    const struct query_call *first = v->calls[0];
    struct token_set wanted = {0};
    v->demanded_count = 0;
    v->max_age_ms = first->relaxed ? -1 : first->max_age_ms;
    if (first->relaxed) return;
    if (!first->any_state) {
        if (q->options.session) {
            jumun_token own[SHARDS_MAX];
            uint32_t count = jumun_session_tokens(q->options.session, own, SHARDS_MAX);
            for (uint32_t i = 0; i < count && i < SHARDS_MAX; i++)
                token_set_raise(&wanted, own[i].shard, own[i].index);
        }
        if (!q->options.may_go_back) {
            v->demanded_count = token_set_list(&wanted, &q->seen, v->demanded);
            if (!first->at_least_count) return;
            for (uint32_t i = 0; i < v->demanded_count; i++)
                token_set_raise(&wanted, v->demanded[i].shard, v->demanded[i].index);
        }
    }
    for (uint32_t i = 0; i < first->at_least_count; i++)
        token_set_raise(&wanted, first->at_least[i].shard, first->at_least[i].index);
    v->demanded_count = token_set_list(&wanted, NULL, v->demanded);
}

/* How long the replica may wait: as long as the most impatient of them does. */
static void volley_wait(struct volley *v, int64_t now_ns) {
    int64_t wait_ns = INT64_MAX;
    v->first_deadline_ns = INT64_MAX;
    for (uint32_t i = 0; i < v->count; i++) {
        const struct query_call *call = v->calls[i];
        if (call->wait_until_ns - now_ns < wait_ns) wait_ns = call->wait_until_ns - now_ns;
        if (call->deadline_ns < v->first_deadline_ns) v->first_deadline_ns = call->deadline_ns;
    }
    bool demands = v->demanded_count > 0 || v->max_age_ms >= 0;
    v->wait_ms = demands && wait_ns > 0 ? (uint32_t)(wait_ns / 1000000) : 0;
}

/* False for lack of memory. */
static bool volley_write(struct volley *v, size_t bytes) {
    struct msgpack_writer w;
    size_t room = QUERY_HEAD_BYTES_MAX + bytes + query_encode_tail_bytes_max(v->demanded_count);
    if (room > v->bytes_capacity) {
        uint8_t *grown = realloc(v->bytes, room);
        if (!grown) return false;
        v->bytes = grown;
        v->bytes_capacity = room;
    }
    msgpack_writer_init(&w, v->bytes, v->bytes_capacity);
    query_encode_head(&w, v->wait_ms, v->count);
    for (uint32_t i = 0; i < v->count; i++)
        msgpack_write_raw(&w, v->calls[i]->bytes, v->calls[i]->size);
    query_encode_tail(&w, v->demanded, v->demanded_count, v->max_age_ms);
    require(msgpack_writer_ok(&w));
    v->bytes_count = msgpack_writer_size(&w);
    return true;
}

/* -- sending ----------------------------------------------------------------------------------- */

static bool attempt_begin(struct attempt *a, struct replica *r, int64_t now_ns) {
    struct volley *v = a->volley;
    void *request = exchange_request(&a->exchange, v->bytes_count);
    if (!request) return false;
    memcpy(request, v->bytes, v->bytes_count);
    a->replica = r;
    a->begun_ns = now_ns;
    a->deadline_ns = now_ns +
                     (v->queries->options.attempt_timeout_ms + v->wait_ms) * 1000000LL;
    a->state = ATTEMPT_OPEN;
    v->asked |= 1u << r->number;
    r->messages++;
    if (exchange_begin(&a->exchange, &r->endpoint->connection)) {
        atomic_fetch_add_explicit(&v->queries->stat_messages, 1, memory_order_relaxed);
        return true;
    }
    a->state = ATTEMPT_NONE;
    return false;
}

/* To where they were. */
static void volley_give_back(jumun_queries *q, struct volley *v) {
    struct query_list all = {0};
    for (uint32_t i = 0; i < v->count; i++) query_list_append(&all, v->calls[i]);
    list_prepend(&q->ready, &all);
}

static void volley_set_hedge(jumun_queries *q, struct volley *v, int64_t now_ns) {
    v->hedge_ns = INT64_MAX;
    if (q->options.choice != JUMUN_HEDGED || q->replicas.count < 2) return;
    if (q->hedge_credit < HEDGE_CREDIT_MAX) q->hedge_credit += 0.1;
    int64_t delay_ns = q->options.hedge_ms_min * 1000000LL;
    if (q->p95_ns > delay_ns) delay_ns = q->p95_ns;
    int64_t max_ns = q->options.attempt_timeout_ms * 500000LL;
    v->hedge_ns = now_ns + (delay_ns < max_ns ? delay_ns : max_ns);
}

/* False: it cannot be sent now, and its calls are where they were. */
static bool volley_send(jumun_queries *q, struct replica *r, int64_t now_ns) {
    struct volley *v = q->free_volleys;
    size_t bytes = volley_take(q, v);
    v->asked = 0;
    volley_demand(q, v);
    volley_wait(v, now_ns);
    if (!volley_write(v, bytes) || !attempt_begin(&v->attempts[0], r, now_ns)) {
        volley_give_back(q, v);
        return false;
    }
    q->free_volleys = v->next;
    q->in_flight++;
    v->in_flight = true;
    v->begun_ns = now_ns;
    volley_set_hedge(q, v, now_ns);
    return true;
}

/* Nobody can be asked: those that have an answer kept get it once the replicas are gone for good;
 * the others wait for a replica, unless all circuits are open or they all are nodes. */
static void pump_without_replicas(jumun_queries *q, int64_t now_ns, struct query_list *over,
                                  int *over_code) {
    bool open = replica_set_all_open(&q->replicas);
    bool gone = q->none_up_ns && now_ns - q->none_up_ns >= REPLICAS_GONE_NS;
    if (!open && !gone) return;
    struct query_list all = q->ready;
    struct query_call *call;
    q->ready = (struct query_list){0};
    *over_code = !open                                   ? JUMUN_NOT_SENT
                 : replica_set_has_none(&q->replicas)    ? JUMUN_NOT_A_REPLICA
                 : replica_set_all_foreign(&q->replicas) ? JUMUN_OTHER_CLUSTER
                                                         : JUMUN_CIRCUIT_OPEN;
    while ((call = query_list_pop(&all)))
        query_list_append(open || query_call_has_stale(q, call, now_ns) ? over : &q->ready, call);
}

void volleys_pump(jumun_queries *q, bool tick, int64_t now_ns, struct query_list *over,
                  int *over_code) {
    while (q->ready.head && q->free_volleys && !q->closing) {
        if (q->in_flight > 0 && !tick && q->ready.count < q->options.batch_queries_max) break;
        struct query_call *first = q->ready.head;
        struct replica *r = replica_set_pick(&q->replicas, q->options.choice, first->tried, now_ns);
        if (!r && first->tried) { /* a new round */
            first->tried = 0;
            r = replica_set_pick(&q->replicas, q->options.choice, 0, now_ns);
        }
        if (!r) break;
        if (!volley_send(q, r, now_ns)) break;
    }
    if (q->ready.head && !replica_set_any_good(&q->replicas))
        pump_without_replicas(q, now_ns, over, over_code);
}

/* -- time -------------------------------------------------------------------------------------- */

static void volley_hedge(jumun_queries *q, struct volley *v, int64_t now_ns) {
    struct attempt *second = &v->attempts[1];
    int64_t late_ns = v->begun_ns + HEDGE_LATE_NS;
    v->hedge_ns = INT64_MAX;
    if (second->state != ATTEMPT_NONE) return;
    if (q->hedge_credit < 1 && now_ns < late_ns) {
        v->hedge_ns = late_ns;
        return;
    }
    struct replica *r = replica_set_pick(&q->replicas, JUMUN_NEAREST, v->asked, now_ns);
    if (!r || !attempt_begin(second, r, now_ns)) {
        v->hedge_ns = now_ns + HEDGE_LATE_NS;
        return;
    }
    if (q->hedge_credit >= 1) q->hedge_credit -= 1;
    atomic_fetch_add_explicit(&q->stat_hedges, 1, memory_order_relaxed);
}

static void volley_expire_calls(struct volley *v, int64_t now_ns, struct query_list *over) {
    uint32_t left = 0;
    if (v->first_deadline_ns > now_ns) return;
    v->first_deadline_ns = INT64_MAX;
    for (uint32_t i = 0; i < v->count; i++) {
        struct query_call *call = v->calls[i];
        if (!call) continue;
        if (call->deadline_ns <= now_ns) {
            query_list_append(over, call);
            v->calls[i] = NULL;
            continue;
        }
        left++;
        if (call->deadline_ns < v->first_deadline_ns) v->first_deadline_ns = call->deadline_ns;
    }
    if (left > 0) return;
    for (int i = 0; i < VOLLEY_ATTEMPTS; i++) { /* nobody waits for it any more */
        if (v->attempts[i].state != ATTEMPT_OPEN) continue;
        v->attempts[i].deadline_ns = INT64_MAX;
        exchange_abort(&v->attempts[i].exchange);
    }
}

static void volley_on_tick(jumun_queries *q, struct volley *v, int64_t now_ns,
                           struct query_list *over) {
    volley_expire_calls(v, now_ns, over);
    if (v->hedge_ns <= now_ns) volley_hedge(q, v, now_ns);
    for (int i = 0; i < VOLLEY_ATTEMPTS; i++) {
        struct attempt *a = &v->attempts[i];
        if (a->state != ATTEMPT_OPEN || a->deadline_ns > now_ns) continue;
        a->deadline_ns = INT64_MAX;
        exchange_abort(&a->exchange);
    }
}

void queries_enqueue(jumun_queries *q, struct query_call *call, int64_t now_ns) {
    bool ready = call->due_ns <= now_ns;
    int64_t due_ns = ready || call->deadline_ns < call->due_ns ? call->deadline_ns : call->due_ns;
    if (due_ns < q->lists_due_ns) q->lists_due_ns = due_ns;
    query_list_append(ready ? &q->ready : &q->later, call);
}

/* Walks the lists only when something in them is due. */
static void lists_on_tick(jumun_queries *q, int64_t now_ns, struct query_list *over) {
    struct query_list lists[2] = {q->ready, q->later};
    struct query_call *call;
    if (q->lists_due_ns > now_ns) return;
    q->lists_due_ns = INT64_MAX;
    q->ready = q->later = (struct query_list){0};
    for (int i = 0; i < 2; i++) {
        while ((call = query_list_pop(&lists[i]))) {
            if (call->deadline_ns <= now_ns) query_list_append(over, call);
            else queries_enqueue(q, call, now_ns);
        }
    }
}

void volleys_on_tick(jumun_queries *q, int64_t now_ns, struct query_list *over) {
    lists_on_tick(q, now_ns, over);
    for (uint32_t i = 0; i < q->volleys_count; i++)
        if (q->volleys[i].in_flight) volley_on_tick(q, &q->volleys[i], now_ns, over);
    for (struct query_call *c = over->head; c; c = c->next)
        atomic_fetch_add_explicit(&q->stat_timeouts, 1, memory_order_relaxed);
}

void volleys_leave(jumun_queries *q, uint32_t mask) {
    for (uint32_t i = 0; i < q->volleys_count; i++) {
        for (int n = 0; n < VOLLEY_ATTEMPTS; n++) {
            struct attempt *a = &q->volleys[i].attempts[n];
            if (a->state != ATTEMPT_OPEN || !(mask >> a->replica->number & 1)) continue;
            a->deadline_ns = INT64_MAX;
            exchange_abort(&a->exchange);
        }
    }
}

static int64_t earlier(int64_t a, int64_t b) { return a < b ? a : b; }

int64_t volleys_due_ns(const jumun_queries *q) {
    int64_t due = q->lists_due_ns;
    for (uint32_t i = 0; i < q->volleys_count; i++) {
        const struct volley *v = &q->volleys[i];
        if (!v->in_flight) continue;
        due = earlier(due, earlier(v->first_deadline_ns, v->hedge_ns));
        for (int n = 0; n < VOLLEY_ATTEMPTS; n++)
            if (v->attempts[n].state == ATTEMPT_OPEN)
                due = earlier(due, v->attempts[n].deadline_ns);
    }
    return due;
}

/* -- life -------------------------------------------------------------------------------------- */

bool volleys_init(jumun_queries *q) {
    q->volleys = calloc(q->options.messages_in_flight_max, sizeof *q->volleys);
    if (!q->volleys) return false;
    for (uint32_t i = 0; i < q->options.messages_in_flight_max; i++) {
        struct volley *v = &q->volleys[i];
        q->volleys_count = i + 1;
        v->queries = q;
        v->calls = calloc(q->options.batch_queries_max, sizeof *v->calls);
        if (!v->calls) return false;
        for (int n = 0; n < VOLLEY_ATTEMPTS; n++) {
            v->attempts[n].volley = v;
            if (!exchange_init(&v->attempts[n].exchange, attempt_on_end, &v->attempts[n]))
                return false;
        }
        v->next = q->free_volleys;
        q->free_volleys = v;
    }
    return true;
}

void volleys_fini(jumun_queries *q) {
    for (uint32_t i = 0; i < q->volleys_count; i++) {
        struct volley *v = &q->volleys[i];
        for (int n = 0; n < VOLLEY_ATTEMPTS; n++) exchange_fini(&v->attempts[n].exchange);
        free(v->calls);
        free(v->bytes);
    }
    free(q->volleys);
}
