#include "clients/sdk/batcher_slots.h"

#include <stdlib.h>

#include "actors/result_codes.h"
#include "clients/sdk/command_encode.h"
#include "clients/sdk/reply_decode.h"
#include "clients/sdk/retry.h"
#include "clients/sdk/sdk_clock.h"
#include "engine/base/check.h"
#include "engine/base/prefetch.h"

void slots_endpoint_failed(struct lane *lane, struct endpoint *endpoint, int64_t now_ns) {
    if (circuit_breaker_failure(&endpoint->breaker, now_ns))
        atomic_fetch_add_explicit(&lane->shared->circuit_opened, 1, memory_order_relaxed);
    node_list_failed(&lane->shared->nodes, endpoint);
    atomic_store_explicit(&lane->shared->map_wanted, true, memory_order_relaxed);
}

/* -- begin ------------------------------------------------------------------------------------- */

static void slot_fill_request(struct slot *slot, uint8_t *request,
                              const struct cluster_mark *cluster, int64_t now_ns) {
    int64_t last_deadline_ns = 0;
    uint8_t *at = request + COMMAND_ENCODE_HEAD_BYTES;
    for (uint32_t i = 0; i < slot->count; i++) {
        struct call *call = slot->calls[i];
        memcpy(at, call->bytes, call->size);
        at += call->size;
        if (call->attempts < UINT16_MAX) call->attempts++;
        if (call->deadline_ns > last_deadline_ns) last_deadline_ns = call->deadline_ns;
    }
    int64_t deadline_ms = 0;
    if (!atomic_load_explicit(&slot->lane->shared->clocks_differ, memory_order_relaxed))
        deadline_ms = clock_coarse_unix_ms() + (last_deadline_ns - now_ns) / 1000000 + 1;
    command_encode_head(request, deadline_ms, slot->count, cluster != NULL);
    if (cluster) memcpy(at, cluster->tail, sizeof cluster->tail);
}

static void slot_on_end(void *arg, enum exchange_end end, const void *data, size_t bytes);

void slot_begin(struct slot *slot, struct endpoint *endpoint, size_t bytes, int64_t now_ns) {
    struct lane *lane = slot->lane;
    struct lane_shared *shared = lane->shared;
    const struct cluster_mark *cluster =
        lane->of_cluster ? atomic_load_explicit(&shared->cluster, memory_order_acquire) : NULL;
    size_t tail_bytes = cluster ? sizeof cluster->tail : 0;
    uint8_t *request =
        exchange_request(&slot->exchange, COMMAND_ENCODE_HEAD_BYTES + bytes + tail_bytes);
    if (request) slot_fill_request(slot, request, cluster, now_ns);
    pthread_mutex_lock(&slot->mutex);
    require(slot->state == SLOT_FREE);
    slot->state = SLOT_IN_FLIGHT;
    slot->endpoint = endpoint;
    slot->cluster = cluster;
    slot->begun_ns = now_ns;
    slot->suspected = false;
    slot->attempt_deadline_ns = now_ns + shared->options.attempt_timeout_ms * 1000000LL;
    bool begun = request && exchange_begin(&slot->exchange, &endpoint->connection);
    pthread_mutex_unlock(&slot->mutex);
    /* Without memory for a message its calls are tried again, like those of a lost connection. */
    if (!begun) slot_on_end(slot, EXCHANGE_NOT_SENT, NULL, 0);
}

/* -- end --------------------------------------------------------------------------------------- */

enum { ENDING_CALLS_AHEAD = 8, ENDING_ARGS_AHEAD = 4, ENDING_LOOK_EVERY = 4 };

/* An ending in progress: what the reply says is spread over the calls. */
struct slot_ending {
    struct slot *slot;
    struct gathering *gathering; /* of what the callbacks submit; NULL: closing */
    struct call_recycler recycler;
    int64_t now_ns;
    uint32_t asked_ms;     /* the longest wait that the engine asked for */
    uint32_t attempts_max; /* of the calls to be tried again */
    bool redirected;       /* they know better where to go: at once */
    bool between_leaders;  /* all that holds them up is an election: soon */
};

static void ending_finish_call(struct slot_ending *e, uint32_t position, jumun_result *result,
                               const void *value, size_t value_bytes) {
    struct call *call = e->slot->calls[position];
    if (call->origin == CALL_FROM_CALLER) e->slot->woken++;
    if (result->code == JUMUN_OK || result->code == JUMUN_HELD)
        token_set_raise(&e->slot->lane->shared->written, result->shard, result->index);
    result->id = call->id;
    call_end(call, result, value, value_bytes, &e->recycler);
}

static void ending_retry_call(struct slot_ending *e, uint32_t position) {
    struct slot *slot = e->slot;
    struct call *call = slot->calls[position];
    slot->orders[position] = CALL_NO_ORDER; /* the call goes on holding its order */
    if (call->attempts > e->attempts_max) e->attempts_max = call->attempts;
    call_list_append(&slot->retries, call);
    atomic_fetch_add_explicit(&slot->lane->shared->retries, 1, memory_order_relaxed);
}

/* How a message is refused by what is no node: a replica, a feed. */
static bool is_of_no_node(int code) { return code == RESULT_READ_ONLY || code == JUMUN_BAD_REPLY; }

/* The attempt left no answer for this call. */
static void ending_without_answer(struct slot_ending *e, uint32_t position, bool maybe_done) {
    struct call *call = e->slot->calls[position];
    call->maybe_done |= maybe_done && !command_only_reads(call->kind);
    /* What may be a node was asked too, so that another one refused it before tells nothing. */
    if (is_of_no_node(call->refused_code) &&
        peer_may_be_node(atomic_load_explicit(&e->slot->endpoint->peer, memory_order_relaxed)))
        call->refused_code = 0;
    if (atomic_load(&e->slot->lane->shared->closing)) {
        jumun_result closed = {.code = JUMUN_CLOSED};
        ending_finish_call(e, position, &closed, NULL, 0);
    } else if (call->deadline_ns <= e->now_ns) {
        jumun_result over;
        call_tell(call, maybe_done ? JUMUN_OUTCOME_UNKNOWN : call_code_of_giving_up(call), &over);
        atomic_fetch_add_explicit(&e->slot->lane->shared->timeouts, 1, memory_order_relaxed);
        ending_finish_call(e, position, &over, NULL, 0);
    } else {
        ending_retry_call(e, position);
    }
}

/* The node's clock is ahead of ours if it calls a deadline passed that lies before us. */
static bool ending_clocks_differ(struct slot_ending *e, struct call *call, int code) {
    if (code != RESULT_DEADLINE_PASSED || call->deadline_ns <= e->now_ns) return false;
    atomic_store(&e->slot->lane->shared->clocks_differ, true);
    return true;
}

/* A question to this very node: that it waits for a cluster is the answer. */
static bool ending_is_final_for_node(jumun_kind kind, int code) {
    return code == RESULT_CLUSTER_NOT_FORMED && command_is_for_node(kind);
}

static void ending_with_answer(struct slot_ending *e, uint32_t position, jumun_result *result,
                               const void *value, size_t value_bytes) {
    struct call *call = e->slot->calls[position];
    struct lane_shared *shared = e->slot->lane->shared;
    int code = result->code;
    if (retry_needs_new_map(code)) atomic_store(&shared->map_wanted, true);
    if (retry_leaves_doubt(code)) call->maybe_done |= !command_only_reads(call->kind);
    /* A full disk may have kept the attempt before waiting: nothing certain can be told yet. */
    bool again = (retry_is_worthwhile(code) && !ending_is_final_for_node(call->kind, code)) ||
                 ending_clocks_differ(e, call, code) ||
                 (code == RESULT_DISK_FULL && call->maybe_done) ||
                 (is_of_no_node(code) && node_list_may_have_node(&shared->nodes));
    /* It was turned to because no node could be: how it refuses is not how this ends. */
    bool no_refusal = is_of_no_node(code) && node_list_knows_node(&shared->nodes);
    int64_t asked_ns = result->retry_after_ms * 1000000LL;
    if (again && call->deadline_ns > e->now_ns + asked_ns && !atomic_load(&shared->closing)) {
        if (!no_refusal) call_remember_refusal(call, result);
        if (result->retry_after_ms > e->asked_ms) e->asked_ms = result->retry_after_ms;
        e->between_leaders |= retry_needs_new_map(code);
        ending_retry_call(e, position);
        return;
    }
    /* "Not now" answers this attempt only: one before it may have been acted on. */
    if (retry_tells_of_one_attempt(code) && call->maybe_done) {
        *result = (jumun_result){.code = JUMUN_OUTCOME_UNKNOWN};
        reply_set_detail(result, NULL, 0);
    } else if (no_refusal) {
        call_tell(call, call_code_of_giving_up(call), result);
    }
    ending_finish_call(e, position, result, value, value_bytes);
}

/* The peer answered, but not in this protocol. */
static void ending_garbage(struct slot_ending *e, uint32_t from) {
    for (uint32_t i = from; i < e->slot->count; i++) {
        if (!e->slot->calls[i]) continue;
        jumun_result bad = {.code = JUMUN_BAD_REPLY};
        ending_finish_call(e, i, &bad, NULL, 0);
    }
    slots_endpoint_failed(e->slot->lane, e->slot->endpoint, e->now_ns);
}

/* With thousands of calls open each of them, and what its callback works on, is a wait for memory:
 * ask for the next ones in time. */
static void ending_prefetch_call(const struct slot *slot, uint32_t position) {
    if (position >= slot->count || !slot->calls[position]) return;
    const char *call = (const char *)slot->calls[position];
    for (size_t at = 0; at < sizeof(struct call) + 64; at += 64) prefetch_write(call + at);
}

static void ending_prefetch(const struct slot *slot, uint32_t position) {
    if (position == 0)
        for (uint32_t i = 0; i < ENDING_CALLS_AHEAD; i++) ending_prefetch_call(slot, i);
    ending_prefetch_call(slot, position + ENDING_CALLS_AHEAD);
    uint32_t arg = position + ENDING_ARGS_AHEAD;
    if (arg >= slot->count || !slot->calls[arg]) return;
    prefetch_write(slot->calls[arg]->arg);
    prefetch_write((const char *)slot->calls[arg]->arg + 64);
}

static void ending_results(struct slot_ending *e, struct reply *reply) {
    for (uint32_t i = 0; i < e->slot->count; i++) {
        ending_prefetch(e->slot, i);
        if (i % ENDING_LOOK_EVERY == 0 && e->gathering)
            gathering_look(e->gathering, clock_coarse_ns());
        jumun_result result = {0};
        const void *value;
        size_t value_bytes;
        if (!reply_next(reply, &result, &value, &value_bytes)) {
            ending_garbage(e, i);
            return;
        }
        struct lane *lane = e->slot->lane;
        /* By a map that is older than the node's a command may belong to another shard: where that
         * one is led is not where this lane's commands go. A newer map is asked for, and the node
         * passes the command on meanwhile. */
        if (reply->leader_bytes > 0 && !e->redirected && result.shard == lane->shard) {
            lane->shared->redirect(lane->shared->redirect_arg, lane, e->slot->endpoint,
                                   reply->leader, reply->leader_bytes);
            e->redirected = true;
        }
        if (e->slot->calls[i]) ending_with_answer(e, i, &result, value, value_bytes);
    }
    endpoint_answered(e->slot->endpoint);
}

/* Only a node gives results, only a replica is one that takes no commands, and a feed's refusals
 * have a form of their own: others of a whole message come from nodes and replicas. */
static void ending_note_peer(struct endpoint *endpoint, enum reply_kind kind, int code) {
    int known = atomic_load_explicit(&endpoint->peer, memory_order_relaxed), peer = known;
    if (kind == REPLY_RESULTS) peer = PEER_NODE;
    else if (kind == REPLY_REFUSED && code == RESULT_READ_ONLY) peer = PEER_REPLICA;
    else if (kind == REPLY_REFUSED && code == JUMUN_BAD_REPLY) peer = PEER_FEED;
    if (peer != known) atomic_store(&endpoint->peer, peer);
}

/* Of the answer that this thread is going through. */
static _Thread_local struct endpoint *ending_answered_by;

struct endpoint *lane_answered_by(void) { return ending_answered_by; }

static void ending_replied(struct slot_ending *e, const void *data, size_t bytes) {
    struct reply reply;
    enum reply_kind kind = reply_open(&reply, data, bytes);
    if (kind == REPLY_GARBAGE || (kind == REPLY_RESULTS && reply.count != e->slot->count)) {
        ending_garbage(e, 0);
        return;
    }
    atomic_fetch_add_explicit(&e->slot->lane->stat_replies, 1, memory_order_relaxed);
    ending_note_peer(e->slot->endpoint, kind, reply.code);
    if (kind == REPLY_RESULTS) {
        ending_results(e, &reply);
        return;
    }
    /* Unless the client has gone over to another cluster since: that one's node said so then. */
    if (reply.code == RESULT_WRONG_CLUSTER &&
        e->slot->cluster == atomic_load(&e->slot->lane->shared->cluster))
        endpoint_set_foreign(e->slot->endpoint, e->now_ns);
    for (uint32_t i = 0; i < e->slot->count; i++) {
        if (!e->slot->calls[i]) continue;
        jumun_result refused = {.code = reply.code};
        reply_set_detail(&refused, reply.sentence, reply.sentence_bytes);
        ending_with_answer(e, i, &refused, NULL, 0);
    }
    endpoint_answered(e->slot->endpoint);
}

/* One wait for all calls of a message, so that those of one order stay together. */
static void ending_schedule_retries(struct slot_ending *e) {
    if (!e->slot->retries.head) return;
    const jumun_options *o = &e->slot->lane->shared->options;
    uint32_t max_ms = o->backoff_ms_max;
    if (e->between_leaders && max_ms > RETRY_ELECTION_MS_MAX) max_ms = RETRY_ELECTION_MS_MAX;
    int64_t due_ns = e->now_ns + retry_delay_ns(e->attempts_max, o->backoff_ms_min, max_ms,
                                                e->asked_ms);
    /* Once: two nodes that name each other must not have it go to and fro. */
    if (e->redirected && e->attempts_max <= RETRY_REDIRECTS_MAX) due_ns = e->now_ns;
    for (struct call *call = e->slot->retries.head; call; call = call->next)
        call->due_ns = due_ns;
}

/* A thread of nng, or the role's holder when the message could not even begin. */
static void slot_on_end(void *arg, enum exchange_end end, const void *data, size_t bytes) {
    struct slot *slot = arg;
    struct lane *lane = slot->lane;
    pthread_mutex_lock(&slot->mutex);
    require(slot->state == SLOT_IN_FLIGHT);
    slot->state = SLOT_ENDING; /* from here on the calls are this thread's alone */
    pthread_mutex_unlock(&slot->mutex);

    struct slot_ending e = {.slot = slot, .recycler = {.pool = &lane->shared->pool},
                            .now_ns = clock_coarse_ns()};
    struct gathering gathering;
    if (gathering_begin(&gathering, lane->shared, &e.recycler)) e.gathering = &gathering;
    slot->woken = 0;
    slot->retries = (struct call_list){0};
    if (end == EXCHANGE_REPLIED) {
        ending_answered_by = slot->endpoint;
        ending_replied(&e, data, bytes);
        ending_answered_by = NULL;
    } else {
        for (uint32_t i = 0; i < slot->count; i++)
            if (slot->calls[i]) ending_without_answer(&e, i, end == EXCHANGE_NO_REPLY);
        if (!atomic_load(&lane->shared->closing))
            slots_endpoint_failed(lane, slot->endpoint, e.now_ns);
    }
    ending_schedule_retries(&e);
    call_recycle(&e.recycler);
    if (slot->woken > 1)
        atomic_store_explicit(&lane->shared->returning, (int)slot->woken, memory_order_relaxed);

    pthread_mutex_lock(&slot->mutex);
    slot->state = SLOT_FREE;
    pthread_mutex_unlock(&slot->mutex);
    struct slot *head = atomic_load_explicit(&lane->finished, memory_order_relaxed);
    do slot->next = head;
    while (!atomic_compare_exchange_weak(&lane->finished, &head, slot));
    if (e.gathering) gathering_end(e.gathering);
    lane_run(lane);
}

/* -- time -------------------------------------------------------------------------------------- */

static void slot_expire(struct slot *slot, int64_t now_ns) {
    struct call_list over = {0};
    pthread_mutex_lock(&slot->mutex);
    if (slot->state == SLOT_IN_FLIGHT && slot->first_deadline_ns <= now_ns) {
        slot->first_deadline_ns = INT64_MAX;
        for (uint32_t i = 0; i < slot->count; i++) {
            struct call *call = slot->calls[i];
            if (!call) continue;
            if (call->deadline_ns <= now_ns) {
                call_list_append(&over, call);
                slot->calls[i] = NULL;
            } else if (call->deadline_ns < slot->first_deadline_ns) {
                slot->first_deadline_ns = call->deadline_ns;
            }
        }
    }
    /* A node that hangs answers nothing, and its connection stands: ask the others who leads, and
     * go there as soon as they know. */
    if (slot->state == SLOT_IN_FLIGHT && now_ns - slot->begun_ns >= LANE_SUSPECT_NS) {
        struct lane *lane = slot->lane;
        struct endpoint *own = atomic_load_explicit(&lane->endpoint, memory_order_acquire);
        atomic_store_explicit(&lane->shared->map_wanted, true, memory_order_relaxed);
        struct node_list *nodes = &lane->shared->nodes;
        if (!slot->suspected) node_list_suspect(nodes, slot->endpoint, now_ns);
        slot->suspected = true;
        struct endpoint *now = node_list_has(nodes, slot->endpoint) || !own
                                   ? node_list_pick(nodes) : own;
        if (now != slot->endpoint) slot->attempt_deadline_ns = now_ns;
    }
    if (slot->state == SLOT_IN_FLIGHT && slot->attempt_deadline_ns <= now_ns) {
        slot->attempt_deadline_ns = INT64_MAX;
        exchange_abort(&slot->exchange);
    }
    pthread_mutex_unlock(&slot->mutex);

    struct call_recycler recycler = {.pool = &slot->lane->shared->pool};
    struct call *call;
    while ((call = call_list_pop(&over))) {
        atomic_fetch_add_explicit(&slot->lane->shared->timeouts, 1, memory_order_relaxed);
        call_end_with(call, JUMUN_OUTCOME_UNKNOWN, &recycler);
    }
    call_recycle(&recycler);
}

void slots_expire(struct lane *lane, int64_t now_ns) {
    for (uint32_t i = 0; i < lane->slots_count; i++) slot_expire(&lane->slots[i], now_ns);
}

/* -- life -------------------------------------------------------------------------------------- */

bool slots_init(struct lane *lane) {
    lane->slots = calloc(lane->slots_count, sizeof *lane->slots);
    if (!lane->slots) return false;
    for (uint32_t i = 0; i < lane->slots_count; i++) {
        struct slot *slot = &lane->slots[i];
        slot->lane = lane;
        pthread_mutex_init(&slot->mutex, NULL);
        slot->calls = calloc(lane->batch_max, sizeof *slot->calls);
        slot->orders = calloc(lane->batch_max, sizeof *slot->orders);
        if (!slot->calls || !slot->orders ||
            !exchange_init(&slot->exchange, slot_on_end, slot)) {
            lane->slots_count = i + 1;
            return false;
        }
        slot->next = lane->free_slots;
        lane->free_slots = slot;
    }
    return true;
}

void slots_fini(struct lane *lane) {
    if (!lane->slots) return;
    for (uint32_t i = 0; i < lane->slots_count; i++) {
        struct slot *slot = &lane->slots[i];
        exchange_settle(&slot->exchange, lane->shared->settle_until_ns);
        exchange_fini(&slot->exchange);
        for (struct call *c; (c = call_list_pop(&slot->retries));)
            call_list_append(&lane->ready, c);
        pthread_mutex_destroy(&slot->mutex);
        free(slot->calls);
        free(slot->orders);
    }
    free(lane->slots);
    lane->slots = NULL;
}
