/* How a message ends: each of its queries gets its answer, goes to another replica, or waits a
 * little and is asked again. */
#include <stdio.h>
#include <stdlib.h>

#include "actors/result_codes.h"
#include "clients/sdk/latency.h"
#include "clients/sdk/queries.h"
#include "clients/sdk/query_reply.h"
#include "clients/sdk/retry.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"

enum { QUERY_BACKOFF_MS_MIN = 5, QUERY_BACKOFF_MS_MAX = 200 };

struct ending {
    jumun_queries *q;
    struct volley *v;
    struct replica *replica;
    struct query_reply *reply;
    int64_t now_ns;
    uint32_t count;                /* of queries */
    uint32_t forgotten;            /* see jumun_queries, at its begin */
    bool foreign;                  /* its replica is of another cluster: it counts for nothing */
    struct query_list again;       /* back to the queue, now or when due */
    bool lags;                     /* the reply does not reflect what was demanded */
};

enum { DETAIL_BYTES = sizeof ((jumun_answer *)0)->detail };

static void set_detail(char detail[DETAIL_BYTES], const void *text, uint32_t bytes) {
    uint32_t n = bytes < DETAIL_BYTES ? bytes : DETAIL_BYTES - 1;
    if (n) memcpy(detail, text, n);
    detail[n] = '\0';
}

/* Another replica may know better; nothing is wrong with the question. */
static bool is_worth_another(int code) {
    return code == RESULT_OVERLOADED || code == RESULT_NOT_READY || code == RESULT_SHUTTING_DOWN ||
           code == RESULT_OUT_OF_MEMORY || code == RESULT_STORAGE_FAILED ||
           code == RESULT_VIEW_NOT_READY;
}

/* -- one query --------------------------------------------------------------------------------- */

/* Asked again later, elsewhere if there is an elsewhere. */
static void again(struct ending *e, struct query_call *call, int64_t due_ns) {
    call->due_ns = due_ns;
    call->tried |= 1u << e->replica->number;
    query_list_append(&e->again, call);
    atomic_fetch_add_explicit(&e->q->stat_retries, 1, memory_order_relaxed);
}

/* Whether there is a replica that has not been asked in this round and can be. */
static bool is_elsewhere(struct ending *e, const struct query_call *call) {
    uint32_t tried = call->tried | 1u << e->replica->number;
    pthread_mutex_lock(&e->q->lock);
    bool any = replica_set_pick(&e->q->replicas, JUMUN_NEAREST, tried, e->now_ns) != NULL;
    pthread_mutex_unlock(&e->q->lock);
    return any;
}

/* What to say should its time end before anybody answers it: a later attempt may get no reply. */
static void remember_refusal(struct query_call *call, int code, const void *sentence,
                             uint32_t bytes) {
    call->refused_code = code;
    set_detail(call->refused_detail, sentence, bytes);
}

/* False: its time is over. */
static bool again_elsewhere(struct ending *e, struct query_call *call, uint32_t asked_ms) {
    int64_t due_ns = e->now_ns;
    if (!is_elsewhere(e, call))
        due_ns += retry_delay_ns(++call->attempts, QUERY_BACKOFF_MS_MIN, QUERY_BACKOFF_MS_MAX,
                                 asked_ms);
    if (due_ns >= call->deadline_ns) return false;
    again(e, call, due_ns);
    return true;
}

static void end_refused(struct ending *e, struct query_call *call, int code, const void *sentence,
                        uint32_t bytes) {
    bool lagging = e->lags || call->relaxed;
    jumun_answer a = {.code = code, .age_ms = UINT32_MAX, .lagging = lagging,
                      .replica = e->replica->endpoint->addresses};
    set_detail(a.detail, sentence, bytes);
    a.tokens = e->reply->tokens;
    a.tokens_count = e->reply->tokens_count;
    /* A state that is too old knows nothing of an order that was placed since. */
    if (code == RESULT_ORDER_NOT_FOUND && !lagging && e->q->stale)
        stale_cache_drop(e->q->stale, call->bytes, call->size);
    query_call_end(call, &a);
}

/* -- demands that no state there can meet ------------------------------------------------------ */

/* The shard of the first token that the caller gave and the replica has nothing of; -1 = none. */
static int64_t unknown_shard(const struct query_reply *reply, const struct query_call *call) {
    for (uint32_t i = 0; i < call->at_least_count; i++) {
        const jumun_token *t = &call->at_least[i];
        if (t->shard < SHARDS_MAX && t->index > 0 && !query_reply_knows(reply, t->shard))
            return t->shard;
    }
    return -1;
}

/* Whether there is no such shard, as far as the replica has heard: only without a demand it names
 * as missing what it knows of itself. */
static bool is_unheard_of(const struct ending *e, const struct query_call *call,
                          const struct query_result *result) {
    int64_t shard = unknown_shard(e->reply, call);
    bool here = call->kind == JUMUN_GET_ORDER && result->code == RESULT_OK;
    return call->relaxed && shard >= 0 && !here && !query_reply_lacks(e->reply, (uint32_t)shard) &&
           (result->code == RESULT_OK || result->code == RESULT_ORDER_NOT_FOUND);
}

static void end_unknown(struct ending *e, struct query_call *call, int64_t shard) {
    char sentence[96];
    int n = snprintf(sentence, sizeof sentence,
                     "shard %d is not known there: a wrong number, or made a moment ago",
                     (int)shard);
    atomic_fetch_add_explicit(&e->q->stat_lagging, 1, memory_order_relaxed);
    end_refused(e, call, JUMUN_TOKEN_NOT_REACHED, sentence, (uint32_t)n);
}

/* Not far enough in time. */
static void end_lagging(struct ending *e, struct query_call *call,
                        const struct query_result *result) {
    if (e->now_ns < call->wait_until_ns) {
        int64_t due_ns = e->now_ns + QUERY_LAG_RETRY_NS;
        again(e, call, due_ns < call->wait_until_ns ? due_ns : call->wait_until_ns);
        return;
    }
    /* Without the demand there may be an answer, which will say what it is. */
    if (!call->strict && !call->relaxed) {
        call->relaxed = true;
        again(e, call, e->now_ns);
        call->tried = 0;
        return;
    }
    if (!call->strict && query_call_end_stale(e->q, call, e->now_ns)) return;
    int64_t unknown = unknown_shard(e->reply, call);
    if (unknown >= 0) {
        end_unknown(e, call, unknown);
        return;
    }
    atomic_fetch_add_explicit(&e->q->stat_lagging, 1, memory_order_relaxed);
    end_refused(e, call, JUMUN_TOKEN_NOT_REACHED, result->sentence, result->sentence_bytes);
}

static bool is_kept(const struct query_call *call, const jumun_answer *a) {
    return !a->lagging && !a->partial && call->kind != JUMUN_CHANGES &&
           call->kind != JUMUN_EXPORT && call->kind >= JUMUN_GET_ORDER &&
           (call->kind < JUMUN_REPLICA_PING || call->kind > JUMUN_REPLICA_STATUS);
}

static void end_answered(struct ending *e, struct query_call *call,
                         const struct query_result *result) {
    struct query_reply *reply = e->reply;
    bool one_shard = call->kind == JUMUN_GET_ORDER;
    jumun_answer a = {.code = JUMUN_OK, .version = result->version, .value = result->value,
                      .value_bytes = result->value_bytes, .cursor = result->cursor,
                      .cursor_bytes = result->cursor_bytes, .tokens = reply->tokens,
                      .tokens_count = reply->tokens_count, .missing = reply->missing,
                      .missing_count = reply->missing_count,
                      .replica = e->replica->endpoint->addresses};
    a.changes = call->kind == JUMUN_CHANGES;
    a.age_ms = query_reply_age(reply, one_shard ? result->shard : UINT32_MAX);
    a.uncounted = result->uncounted;
    a.partial = one_shard ? query_reply_lacks(reply, result->shard) : result->partial;
    a.lagging = call->relaxed || (e->lags && !one_shard);
    if (a.lagging) atomic_fetch_add_explicit(&e->q->stat_lagging, 1, memory_order_relaxed);
    if (e->q->stale && is_kept(call, &a))
        stale_cache_put(e->q->stale, call->bytes, call->size, &a, e->now_ns);
    query_call_end(call, &a);
}

/* A ping tells whether the replica answers, a status how it is: neither reflects a state. */
static bool reflects_nothing(const struct query_call *call) {
    return call->kind >= JUMUN_REPLICA_PING && call->kind <= JUMUN_REPLICA_STATUS;
}

/* Not for what was demanded, but because the replica has not got all shards. */
static bool is_partial(const struct ending *e, const struct query_call *call,
                       const struct query_result *result) {
    return result->code == RESULT_OK && result->partial && !e->lags && !reflects_nothing(call) &&
           call->kind != JUMUN_EXPORT;
}

/* One that knows no order yet, or cannot answer just now: another replica, else the answer kept.
 * Who knows nothing will hardly know more in a second: then the one kept is given at once. */
static void end_unable(struct ending *e, struct query_call *call,
                       const struct query_result *result) {
    bool kept_now = result->code == RESULT_NOT_READY && !is_elsewhere(e, call);
    if (kept_now && query_call_end_stale(e->q, call, e->now_ns)) return;
    remember_refusal(call, result->code, result->sentence, result->sentence_bytes);
    if (again_elsewhere(e, call, result->retry_after_ms)) return;
    if (query_call_end_stale(e->q, call, e->now_ns)) return;
    end_refused(e, call, result->code, result->sentence, result->sentence_bytes);
}

static void end_result(struct ending *e, struct query_call *call,
                       const struct query_result *result) {
    bool lags = e->lags && call->kind != JUMUN_GET_ORDER && !reflects_nothing(call);
    if (result->code == JUMUN_TOKEN_NOT_REACHED ||
        (result->code == JUMUN_OK && lags &&
         (e->now_ns < call->wait_until_ns || call->strict ||
          (!call->relaxed && unknown_shard(e->reply, call) >= 0)))) {
        end_lagging(e, call, result);
    } else if (!reflects_nothing(call) && is_unheard_of(e, call, result)) {
        end_unknown(e, call, unknown_shard(e->reply, call));
    } else if (is_partial(e, call, result) && !call->passed_partial && is_elsewhere(e, call)) {
        call->passed_partial = true;
        again(e, call, e->now_ns); /* it may have the rows that are missing here */
    } else if (result->code == RESULT_OK) {
        end_answered(e, call, result);
    } else if (result->code == RESULT_MESSAGE_TOO_LARGE && !call->alone && e->count > 1) {
        call->alone = true;
        again(e, call, e->now_ns);
        call->tried &= ~(1u << e->replica->number);
    } else if (is_worth_another(result->code)) {
        end_unable(e, call, result);
    } else {
        end_refused(e, call, result->code, result->sentence, result->sentence_bytes);
    }
}

/* -- a message --------------------------------------------------------------------------------- */

static bool reply_lags(const struct volley *v, const struct query_reply *reply) {
    for (uint32_t i = 0; i < v->demanded_count; i++)
        if (!query_reply_has(reply, &v->demanded[i])) return true;
    return v->max_age_ms >= 0 && query_reply_age(reply, UINT32_MAX) > v->max_age_ms;
}

/* The code 0: there was no reply, and what was refused before stays the reason. */
static void end_all_again(struct ending *e, int code, const void *sentence, uint32_t bytes) {
    for (uint32_t i = 0; i < e->count; i++) {
        struct query_call *call = e->v->calls[i];
        if (call && code) remember_refusal(call, code, sentence, bytes);
        if (call && !again_elsewhere(e, call, 0))
            query_call_end_without(e->q, call, query_call_code_of_giving_up(call), e->now_ns);
    }
}

static void end_results(struct ending *e) {
    struct query_reply *reply = e->reply;
    e->lags = reply_lags(e->v, reply);
    for (uint32_t i = 0; i < reply->tokens_count; i++)
        token_set_raise(&e->q->seen, reply->tokens[i].shard, reply->tokens[i].index);
    for (uint32_t i = 0; i < e->count; i++) {
        struct query_result result;
        struct query_call *call = e->v->calls[i];
        bool ok = query_reply_next(reply, &result);
        if (!call) continue;
        if (ok) end_result(e, call, &result);
        else query_call_end_without(e->q, call, JUMUN_BAD_REPLY, e->now_ns);
    }
}

/* A message of ours is well formed to a replica. To a node it is not: the next ping will tell. */
static bool is_perhaps_node(struct ending *e) {
    if (e->reply->code != RESULT_MALFORMED_MESSAGE) return false;
    pthread_mutex_lock(&e->q->lock);
    bool perhaps = e->replica->peer != PEER_REPLICA;
    if (perhaps && !e->replica->pinging) e->replica->ping_due_ns = 0;
    pthread_mutex_unlock(&e->q->lock);
    return perhaps;
}

/* The next ping would tell. */
static void note_feed(struct ending *e) {
    pthread_mutex_lock(&e->q->lock);
    e->replica->peer = PEER_FEED;
    pthread_mutex_unlock(&e->q->lock);
}

static void end_refused_message(struct ending *e, enum query_reply_kind kind) {
    if (kind == QUERY_REPLY_OF_FEED) note_feed(e);
    if (kind == QUERY_REPLY_OF_FEED || is_perhaps_node(e)) {
        end_all_again(e, JUMUN_NOT_A_REPLICA, NULL, 0);
        return;
    }
    if (is_worth_another(e->reply->code)) {
        end_all_again(e, e->reply->code, e->reply->sentence, e->reply->sentence_bytes);
        return;
    }
    for (uint32_t i = 0; i < e->count; i++)
        if (e->v->calls[i])
            end_refused(e, e->v->calls[i], e->reply->code, e->reply->sentence,
                        e->reply->sentence_bytes);
}

/* The other one lost the race: its reply counts no more, and its replica is as slow as this. */
static void abandon_other(struct volley *v, struct attempt *winner, int64_t now_ns) {
    for (int i = 0; i < VOLLEY_ATTEMPTS; i++) {
        struct attempt *other = &v->attempts[i];
        if (other == winner || other->state != ATTEMPT_OPEN) continue;
        other->state = ATTEMPT_LOST;
        if (other->begun_ns < winner->begun_ns) {
            int64_t took_ns = now_ns - other->begun_ns;
            if (other->replica->latency_ns < took_ns) other->replica->latency_ns = took_ns;
            atomic_fetch_add_explicit(&v->queries->stat_hedges_won, 1, memory_order_relaxed);
        }
        exchange_abort(&other->exchange);
    }
}

static bool other_is_open(const struct volley *v, const struct attempt *a) {
    const struct attempt *other = &v->attempts[a == &v->attempts[0]];
    return other->state == ATTEMPT_OPEN;
}

/* With the lock: takes the message's queries for this attempt's thread alone. False: they are
 * another's. */
static bool attempt_claim(struct attempt *a, bool useful, int64_t now_ns) {
    struct volley *v = a->volley;
    jumun_queries *q = v->queries;
    struct replica *r = a->replica;
    bool lost = a->state == ATTEMPT_LOST;
    a->state = ATTEMPT_ENDING;
    if (lost) return false;
    if (useful) {
        circuit_breaker_success(&r->endpoint->breaker);
        if (v->wait_ms == 0) q->p95_ns = latency_p95(q->p95_ns, now_ns - a->begun_ns);
    } else if (!q->closing) {
        r->failures++;
        circuit_breaker_failure(&r->endpoint->breaker, now_ns);
        if (other_is_open(v, a)) return false; /* it may still answer */
    }
    v->in_flight = false;
    abandon_other(v, a, now_ns);
    return true;
}

/* With the lock: puts back what is to be asked again, and gives the volley back with its last
 * attempt. */
static void attempt_finish(struct attempt *a, struct ending *e) {
    jumun_queries *q = e->q;
    struct volley *v = a->volley;
    struct query_call *call;
    while ((call = query_list_pop(&e->again))) queries_enqueue(q, call, e->now_ns);
    /* Of another cluster, as it became known while the answers were given out. */
    if (e->forgotten != q->forgotten) replicas_forget(q);
    a->state = ATTEMPT_NONE;
    for (int i = 0; i < VOLLEY_ATTEMPTS; i++)
        if (v->attempts[i].state != ATTEMPT_NONE) return;
    require(!v->in_flight);
    v->next = q->free_volleys;
    q->free_volleys = v;
    q->in_flight--;
}

/* What the attempt was for; until its end nobody changes it. */
static struct ending ending_of(struct attempt *a, struct query_reply *reply) {
    jumun_queries *q = a->volley->queries;
    struct ending e = {.q = q, .v = a->volley, .reply = reply, .now_ns = clock_mono_ns()};
    pthread_mutex_lock(&q->lock);
    e.foreign = a->replica->foreign;
    e.forgotten = q->forgotten;
    e.replica = a->replica;
    e.count = a->volley->count;
    pthread_mutex_unlock(&q->lock);
    return e;
}

void attempt_on_end(void *arg, enum exchange_end end, const void *data, size_t bytes) {
    struct attempt *a = arg;
    struct query_reply reply;
    struct query_list over = {0};
    int over_code = 0;
    struct ending e = ending_of(a, &reply);
    jumun_queries *q = e.q;
    reply.tokens_count = 0;
    enum query_reply_kind kind = QUERY_REPLY_GARBAGE;
    if (end == EXCHANGE_REPLIED && e.foreign) end = EXCHANGE_NO_REPLY;
    if (end == EXCHANGE_REPLIED) kind = query_reply_open(&reply, data, bytes);
    if (kind == QUERY_REPLY_RESULTS && reply.count != e.count) kind = QUERY_REPLY_GARBAGE;
    pthread_mutex_lock(&q->lock);
    bool mine = attempt_claim(a, kind != QUERY_REPLY_GARBAGE, e.now_ns);
    bool closing = q->closing;
    pthread_mutex_unlock(&q->lock);
    if (mine && closing) {
        for (uint32_t i = 0; i < e.count; i++)
            if (e.v->calls[i]) query_call_end_without(q, e.v->calls[i], JUMUN_CLOSED, e.now_ns);
    } else if (mine && kind == QUERY_REPLY_RESULTS) {
        end_results(&e);
    } else if (mine && (kind == QUERY_REPLY_REFUSED || kind == QUERY_REPLY_OF_FEED)) {
        end_refused_message(&e, kind);
    } else if (mine) {
        end_all_again(&e, end == EXCHANGE_REPLIED ? JUMUN_BAD_REPLY : 0, NULL, 0);
    }
    pthread_mutex_lock(&q->lock);
    attempt_finish(a, &e);
    volleys_pump(q, false, e.now_ns, &over, &over_code);
    queries_wake(q, volleys_due_ns(q));
    pthread_mutex_unlock(&q->lock);
    query_list_end_without(q, &over, over_code, e.now_ns);
}
