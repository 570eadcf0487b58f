#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "clients/sdk/queries.h"
#include "clients/sdk/query_answer.h"
#include "clients/sdk/query_encode.h"
#include "engine/base/check.h"
#include "engine/wire/query_protocol.h"

_Static_assert((int)RESULT_NOT_READY == JUMUN_NOT_READY &&
                   (int)RESULT_TOKEN_NOT_REACHED == JUMUN_TOKEN_NOT_REACHED &&
                   (int)RESULT_VIEW_NOT_READY == JUMUN_VIEW_NOT_READY &&
                   (int)RESULT_CURSOR_INVALID == JUMUN_CURSOR_INVALID,
               "frozen numbers");

void query_list_append(struct query_list *list, struct query_call *call) {
    call->next = NULL;
    if (list->tail) list->tail->next = call;
    else list->head = call;
    list->tail = call;
    list->count++;
}

struct query_call *query_list_pop(struct query_list *list) {
    struct query_call *call = list->head;
    if (!call) return NULL;
    list->head = call->next;
    if (!list->head) list->tail = NULL;
    list->count--;
    return call;
}

static void call_set_demand(jumun_queries *q, struct query_call *call, const jumun_demand *d,
                            int64_t now_ns) {
    uint32_t timeout_ms = d->timeout_ms ? d->timeout_ms : q->options.timeout_ms;
    uint32_t wait_ms = d->wait_ms ? d->wait_ms : q->options.wait_ms;
    if (wait_ms > timeout_ms / 4 * 3) wait_ms = timeout_ms / 4 * 3;
    if (wait_ms > QUERY_WAIT_MS_MAX) wait_ms = QUERY_WAIT_MS_MAX;
    call->deadline_ns = now_ns + timeout_ms * 1000000LL;
    call->wait_until_ns = now_ns + wait_ms * 1000000LL;
    call->max_age_ms = d->bounded_age ? (int64_t)d->max_age_ms : -1;
    call->any_state = d->any_state;
    call->strict = d->strict;
    call->no_stale = d->no_stale;
}

struct query_call *query_call_new(jumun_queries *q, const jumun_query *query, int64_t now_ns,
                                  int *code, const char **fault) {
    *code = JUMUN_BAD_ARGUMENT;
    if ((*fault = query_encode_fault(query))) return NULL;
    const jumun_demand *d = &query->demand;
    size_t room = (query_encode_bytes_max(query) + 7) & ~(size_t)7;
    size_t tokens = d->at_least_count * sizeof *d->at_least;
    struct query_call *call = malloc(sizeof *call + room + tokens);
    *code = JUMUN_NO_MEMORY;
    if (!call) return NULL;
    memset(call, 0, sizeof *call);
    struct msgpack_writer w;
    msgpack_writer_init(&w, call->bytes, room);
    query_encode(&w, query);
    require(msgpack_writer_ok(&w));
    call->size = (uint32_t)msgpack_writer_size(&w);
    call->kind = (uint16_t)query->kind;
    call_set_demand(q, call, d, now_ns);
    if (tokens) {
        call->at_least = (jumun_token *)(void *)(call->bytes + room);
        memcpy(call->at_least, d->at_least, tokens);
        call->at_least_count = d->at_least_count;
    }
    *code = JUMUN_OK;
    return call;
}

void query_call_end(struct query_call *call, const jumun_answer *answer) {
    if (call->callback) {
        call->callback(call->arg, answer);
        free(call);
        return;
    }
    call->answer = query_answer_copy(answer, NULL);
    /* From the exchange on the caller may free the call: the wake-up only names an address. */
    atomic_store(&call->ended, 1);
    syscall(SYS_futex, &call->ended, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void query_call_await(struct query_call *call) {
    while (!atomic_load(&call->ended))
        syscall(SYS_futex, &call->ended, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

int query_call_code_of_giving_up(const struct query_call *call) {
    return call->refused_code ? call->refused_code : JUMUN_NOT_SENT;
}

/* -- the answers kept -------------------------------------------------------------------------- */

static bool tokens_reach(const jumun_answer *a, const jumun_token *wanted) {
    for (uint32_t i = 0; i < a->tokens_count; i++)
        if (a->tokens[i].shard == wanted->shard) return a->tokens[i].index >= wanted->index;
    return wanted->index == 0;
}

/* Whether the kept answer reflects what the query demands. */
static bool stale_is_enough(jumun_queries *q, const struct query_call *call,
                            const jumun_answer *a) {
    jumun_token tokens[SHARDS_MAX];
    if (call->max_age_ms >= 0 && a->age_ms > call->max_age_ms) return false;
    for (uint32_t i = 0; i < call->at_least_count; i++)
        if (!tokens_reach(a, &call->at_least[i])) return false;
    if (call->any_state) return true;
    uint32_t count = 0;
    if (q->options.session) {
        uint32_t all = jumun_session_tokens(q->options.session, tokens, SHARDS_MAX);
        count = all < SHARDS_MAX ? all : SHARDS_MAX;
    }
    for (uint32_t i = 0; i < count; i++)
        if (!tokens_reach(a, &tokens[i])) return false;
    return true;
}

static jumun_answer *stale_answer(jumun_queries *q, const struct query_call *call,
                                  int64_t now_ns) {
    if (!q->stale || call->no_stale) return NULL;
    jumun_answer *a = stale_cache_get(q->stale, call->bytes, call->size, now_ns);
    if (!a) return NULL;
    a->lagging = !stale_is_enough(q, call, a);
    if (!a->lagging || !call->strict) return a;
    jumun_answer_free(a);
    return NULL;
}

bool query_call_has_stale(jumun_queries *q, const struct query_call *call, int64_t now_ns) {
    jumun_answer *a = stale_answer(q, call, now_ns);
    jumun_answer_free(a);
    return a != NULL;
}

bool query_call_end_stale(jumun_queries *q, struct query_call *call, int64_t now_ns) {
    jumun_answer *kept = stale_answer(q, call, now_ns);
    if (!kept) return false;
    atomic_fetch_add_explicit(&q->stat_stale, 1, memory_order_relaxed);
    query_call_end(call, kept);
    jumun_answer_free(kept);
    return true;
}

/* Why one of the replicas was not asked. */
static void tell_of_other_cluster(jumun_queries *q, jumun_answer *none) {
    pthread_mutex_lock(&q->lock);
    const struct replica *r = replica_set_foreign(&q->replicas);
    if (r)
        snprintf(none->detail, sizeof none->detail, "%.40s follows cluster %.8s..., not %.8s...",
                 r->endpoint->addresses, r->cluster, q->replicas.cluster);
    pthread_mutex_unlock(&q->lock);
}

static void tell_of_feed(jumun_queries *q, jumun_answer *none) {
    pthread_mutex_lock(&q->lock);
    const struct replica *r = replica_set_feed(&q->replicas);
    if (r) snprintf(none->detail, sizeof none->detail, "%s", PEER_FEED_TEXT);
    pthread_mutex_unlock(&q->lock);
}

void query_call_end_without(jumun_queries *q, struct query_call *call, int code, int64_t now_ns) {
    bool refused = code < 1000 && code != RESULT_OVERLOADED && code != RESULT_NOT_READY;
    if (code != JUMUN_CLOSED && !refused && query_call_end_stale(q, call, now_ns)) return;
    jumun_answer none = {.code = code, .age_ms = UINT32_MAX, .replica = ""};
    if (code == call->refused_code)
        memcpy(none.detail, call->refused_detail, sizeof none.detail);
    if (code == JUMUN_NOT_A_REPLICA) tell_of_feed(q, &none);
    else if (code >= 1000 && code != JUMUN_CLOSED) tell_of_other_cluster(q, &none);
    query_call_end(call, &none);
}

void query_list_end_without(jumun_queries *q, struct query_list *list, int code, int64_t now_ns) {
    struct query_call *call;
    while ((call = query_list_pop(list)))
        query_call_end_without(q, call, code ? code : query_call_code_of_giving_up(call), now_ns);
}
