#include "clients/sdk/batcher.h"

#include <sched.h>
#include <stdlib.h>

#include "clients/sdk/batcher_slots.h"
#include "clients/sdk/command_encode.h"
#include "clients/sdk/sdk_clock.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/prefetch.h"
#include "engine/limits.h"

/* A lane without an endpoint of its own goes to whichever node serves, as does one at whose
 * endpoint another cluster's node stands. */
static struct endpoint *lane_endpoint(struct lane *lane) {
    struct endpoint *own = atomic_load_explicit(&lane->endpoint, memory_order_acquire);
    return own && !endpoint_is_foreign(own) ? own : node_list_pick(&lane->shared->nodes);
}

/* -- what callbacks submit --------------------------------------------------------------------- */

static _Thread_local struct gathering *gathering_open;

static void lane_push_chain(struct lane *lane, struct call *newest, struct call *oldest,
                            uint32_t count);

/* Out of the gathering first: pushing may take the lane's role, whose holder ends calls that have
 * run out of time, and what their callbacks submit is kept in this very gathering. */
static void gathering_push(struct gathering *g, uint32_t i) {
    struct call *newest = g->lanes[i].newest, *oldest = g->lanes[i].oldest;
    uint32_t count = g->lanes[i].count;
    g->lanes[i].newest = g->lanes[i].oldest = NULL;
    g->lanes[i].count = 0;
    if (count > 0) lane_push_chain(g->lanes[i].lane, newest, oldest, count);
}

static void gathering_push_all(struct gathering *g) {
    while (g->lanes_count > 0) gathering_push(g, --g->lanes_count);
}

static void gathering_keep(struct gathering *g, struct lane *lane, struct call *call) {
    uint32_t i = 0;
    while (i < g->lanes_count && g->lanes[i].lane != lane) i++;
    if (i == GATHERING_LANES_MAX) {
        gathering_push_all(g);
        i = 0;
    }
    if (g->lanes_count == 0) g->begun_ns = clock_coarse_ns();
    if (i == g->lanes_count) {
        g->lanes[i].lane = lane;
        g->lanes[i].oldest = call;
        g->lanes[i].newest = NULL;
        g->lanes[i].count = 0;
        g->lanes_count++;
    } else if (g->lanes[i].count == 0) {
        g->lanes[i].oldest = call;
    }
    call->next = g->lanes[i].newest;
    g->lanes[i].newest = call;
    if (++g->lanes[i].count >= lane->batch_max) gathering_push(g, i);
}

struct gathering *gathering_of(const struct lane_shared *shared) {
    struct gathering *g = gathering_open;
    while (g && g->shared != shared) g = g->outer;
    return g;
}

bool gathering_begin(struct gathering *g, struct lane_shared *shared,
                     struct call_recycler *recycler) {
    if (!lane_shared_enter(shared)) return false;
    /* A message that ends in the middle of another's end: what this thread submitted before goes
     * before what its callbacks are about to submit. */
    struct gathering *outer = gathering_of(shared);
    if (outer) gathering_push_all(outer);
    g->shared = shared;
    g->recycler = recycler;
    g->outer = gathering_open;
    g->lanes_count = 0;
    gathering_open = g;
    return true;
}

void gathering_look(struct gathering *g, int64_t now_ns) {
    if (g->lanes_count > 0 && now_ns - g->begun_ns > GATHERING_NS) gathering_push_all(g);
}

/* Open until nothing is left: pushing may end other calls, and what their callbacks submit must not
 * overtake what is still here. */
void gathering_end(struct gathering *g) {
    require(gathering_open == g);
    gathering_push_all(g);
    gathering_open = g->outer;
    lane_shared_leave(g->shared);
}

bool lane_shared_enter(struct lane_shared *shared) {
    atomic_uint *count = &shared->inside[call_thread_stripe() % CALL_POOL_STRIPES].count;
    atomic_fetch_add(count, 1);
    if (!atomic_load(&shared->closing)) return true;
    atomic_fetch_sub(count, 1);
    return false;
}

void lane_shared_leave(struct lane_shared *shared) {
    atomic_fetch_sub(&shared->inside[call_thread_stripe() % CALL_POOL_STRIPES].count, 1);
}

/* -- a caller's side --------------------------------------------------------------------------- */

/* How long until what is there now has ended. */
static uint64_t lane_backlog_ms(const struct lane *lane, uint32_t waiting) {
    return drain_rate_ms(&lane->drain,
                         (uint64_t)waiting + atomic_load_explicit(&lane->stat_in_flight_commands,
                                                                  memory_order_relaxed));
}

static bool lane_is_full(const struct lane *lane, uint32_t waiting, uint32_t patience_ms) {
    if (waiting >= lane->shared->options.queue_commands_max) return true;
    return waiting >= LANE_FEW_COMMANDS && lane_backlog_ms(lane, waiting) > patience_ms / 2;
}

bool lane_has_room(struct lane *lane, uint32_t patience_ms) {
    uint32_t waiting = atomic_load_explicit(&lane->waiting, memory_order_relaxed);
    if (!lane_is_full(lane, waiting, patience_ms)) return true;
    atomic_fetch_add_explicit(&lane->shared->queue_full, 1, memory_order_relaxed);
    return false;
}

uint32_t lane_retry_after_ms(const struct lane *lane, uint32_t patience_ms) {
    const jumun_options *o = &lane->shared->options;
    uint32_t waiting = atomic_load_explicit(&lane->waiting, memory_order_relaxed);
    if (!lane_is_full(lane, waiting, patience_ms)) return 0;
    if (atomic_load_explicit(&lane->drain.per_second, memory_order_relaxed) == 0)
        return o->backoff_ms_min;
    /* Room for one would be gone before most of those who were told have come back. */
    uint32_t enough = o->queue_commands_max - o->queue_commands_max / 4;
    uint64_t by_count = waiting > enough ? drain_rate_ms(&lane->drain, waiting - enough) : 0;
    uint64_t backlog = lane_backlog_ms(lane, waiting), patience = patience_ms / 2;
    uint64_t by_time = backlog > patience ? backlog - patience : 0;
    uint64_t wait = (by_count > by_time ? by_count : by_time) + 1;
    return wait < LANE_RETRY_AFTER_MS_MAX ? (uint32_t)wait : LANE_RETRY_AFTER_MS_MAX;
}

bool lane_admit(struct lane *lane, int64_t now_ns) {
    struct endpoint *e = lane_endpoint(lane);
    if (circuit_breaker_is_closed(&e->breaker)) return true;
    struct endpoint *general = node_list_pick(&lane->shared->nodes);
    if (e != general && connection_is_up(&general->connection) &&
        circuit_breaker_is_closed(&general->breaker))
        return true;
    return circuit_breaker_admit(&e->breaker, now_ns);
}

/* Whether one more message may leave although others are in flight and it is not full. */
static bool lane_is_due(const struct lane *lane) {
    int64_t pace_ns = atomic_load_explicit(&lane->pace_ns, memory_order_relaxed);
    return pace_ns != INT64_MAX && clock_mono_ns() >= pace_ns;
}

/* Pushes the chain newest -> ... -> oldest. */
static void lane_push_chain(struct lane *lane, struct call *newest, struct call *oldest,
                            uint32_t count) {
    uint32_t waiting = atomic_fetch_add(&lane->waiting, count) + count;
    struct call *head = atomic_load_explicit(&lane->incoming, memory_order_relaxed);
    do oldest->next = head;
    while (!atomic_compare_exchange_weak(&lane->incoming, &head, newest));
    /* Either this thread sees the last message gone, or the role, which counts it gone before it
     * looks at `incoming`, sees the call: both are sequentially consistent. */
    uint32_t in_flight = atomic_load(&lane->in_flight);
    if (in_flight == 0 || (in_flight < lane->slots_count &&
                           (waiting >= lane->batch_max || lane_is_due(lane))))
        lane_run(lane);
}

static void lane_push_to(struct lane *lane, struct call *call, uint32_t order_hash,
                         struct gathering *g) {
    call->order = order_hash == CALL_NO_ORDER ? CALL_NO_ORDER : order_hash % LANE_BUCKETS;
    if (g) gathering_keep(g, lane, call);
    else lane_push_chain(lane, call, call, 1);
}

void lane_push_now(struct lane *lane, struct call *call, uint32_t order_hash) {
    lane_push_to(lane, call, order_hash, NULL);
}

void lane_push(struct lane *lane, struct call *call, uint32_t order_hash) {
    bool gathers = call->origin == CALL_FROM_POOL;
    lane_push_to(lane, call, order_hash, gathers ? gathering_of(lane->shared) : NULL);
}

/* -- the role ---------------------------------------------------------------------------------- */

static void lane_take_incoming(struct lane *lane) {
    struct call *newest = atomic_exchange(&lane->incoming, NULL);
    struct call *oldest = NULL;
    while (newest) {
        struct call *next = newest->next;
        if (newest->order != CALL_NO_ORDER)
            prefetch_write(&lane->buckets[newest->order]);
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct call *next = oldest->next;
        if (oldest->deadline_ns < lane->first_deadline_ns)
            lane->first_deadline_ns = oldest->deadline_ns;
        call_list_append(&lane->ready, oldest);
        oldest = next;
    }
}

/* Calls that wait for an order go before all that came later. */
static void lane_unblock(struct lane *lane, uint32_t bucket) {
    struct lane_bucket *b = &lane->buckets[bucket];
    if (b->held > 0 || !b->blocks) return;
    struct call_list *blocked = &lane->blocked[bucket];
    lane->blocked_count -= blocked->count;
    b->blocks = 0;
    call_list_prepend(&lane->ready, blocked);
}

static void lane_take_retries(struct lane *lane, int64_t now_ns) {
    struct call_list due = {0}, later = {0};
    struct call *call;
    while ((call = call_list_pop(&lane->retries))) {
        if (call->due_ns <= now_ns && call->holds_order) lane->buckets[call->order].retrying--;
        call_list_append(call->due_ns <= now_ns ? &due : &later, call);
    }
    lane->retries = later;
    call_list_prepend(&lane->ready, &due);
}

static void lane_take_finished(struct lane *lane) {
    struct slot *slot = atomic_exchange(&lane->finished, NULL);
    while (slot) {
        struct slot *next = slot->next;
        for (uint32_t i = 0; i < slot->count; i++)
            if (slot->orders[i] != CALL_NO_ORDER)
                prefetch_write(&lane->buckets[slot->orders[i]]);
        for (uint32_t i = 0; i < slot->count; i++) {
            if (slot->orders[i] == CALL_NO_ORDER) continue;
            struct lane_bucket *b = &lane->buckets[slot->orders[i]];
            require(b->held > 0 && b->flying > 0);
            b->flying--;
            b->held--;
            lane_unblock(lane, slot->orders[i]);
        }
        atomic_fetch_add_explicit(&lane->stat_ended, slot->count - slot->retries.count,
                                  memory_order_relaxed);
        struct call *call;
        while ((call = call_list_pop(&slot->retries))) {
            if (call->holds_order) {
                lane->buckets[call->order].flying--;
                lane->buckets[call->order].retrying++;
            }
            if (call->deadline_ns < lane->first_deadline_ns)
                lane->first_deadline_ns = call->deadline_ns;
            call_list_append(&lane->retries, call);
            atomic_fetch_add_explicit(&lane->waiting, 1, memory_order_relaxed);
        }
        lane->gather |= slot->woken > 1;
        atomic_fetch_sub_explicit(&lane->stat_in_flight_commands, slot->count,
                                  memory_order_relaxed);
        slot->next = lane->free_slots;
        lane->free_slots = slot;
        atomic_fetch_sub(&lane->in_flight, 1);
        slot = next;
    }
}

/* Ends a call that is in none of the lane's lists any more and in no message. Those that waited for
 * its order stay blocked until lane_unblock_all(): the lists are being walked. */
static void lane_give_up(struct lane *lane, struct call *call, int code,
                         struct call_recycler *recycler) {
    if (call->holds_order) lane->buckets[call->order].held--;
    atomic_fetch_sub_explicit(&lane->waiting, 1, memory_order_relaxed);
    call_end_with(call, code, recycler);
}

static void lane_unblock_all(struct lane *lane) {
    for (uint32_t i = 0; lane->blocked_count > 0 && i < LANE_BUCKETS; i++)
        lane_unblock(lane, i);
}

static void lane_expire_list(struct lane *lane, struct call_list *list, int64_t now_ns,
                             struct call_recycler *recycler) {
    struct call_list keep = {0};
    struct call_list all = *list;
    struct call *call;
    *list = (struct call_list){0};
    while ((call = call_list_pop(&all))) {
        if (call->deadline_ns > now_ns) {
            if (call->deadline_ns < lane->first_deadline_ns)
                lane->first_deadline_ns = call->deadline_ns;
            call_list_append(&keep, call);
            continue;
        }
        int code = call_code_of_giving_up(call);
        if (code == JUMUN_NOT_SENT || code == JUMUN_OUTCOME_UNKNOWN) {
            atomic_fetch_add_explicit(&lane->shared->timeouts, 1, memory_order_relaxed);
            slots_endpoint_failed(lane, lane_endpoint(lane), now_ns);
        }
        if (list == &lane->retries && call->holds_order) lane->buckets[call->order].retrying--;
        lane_give_up(lane, call, code, recycler);
    }
    call_list_prepend(list, &keep);
}

static void lane_expire(struct lane *lane, int64_t now_ns) {
    if (lane->first_deadline_ns > now_ns) return;
    struct call_recycler recycler = {.pool = &lane->shared->pool};
    lane->first_deadline_ns = INT64_MAX;
    lane_expire_list(lane, &lane->retries, now_ns, &recycler);
    lane_expire_list(lane, &lane->ready, now_ns, &recycler);
    for (uint32_t i = 0; lane->blocked_count > 0 && i < LANE_BUCKETS; i++) {
        if (!lane->buckets[i].blocks) continue;
        struct call_list *blocked = &lane->blocked[i];
        lane->blocked_count -= blocked->count;
        lane_expire_list(lane, blocked, now_ns, &recycler);
        lane->blocked_count += blocked->count;
        lane->buckets[i].blocks = blocked->head != NULL;
    }
    lane_unblock_all(lane);
    call_recycle(&recycler);
}

/* Callers that the last reply woke are likely to be back within microseconds: one message for all
 * of them costs far less than one for the first and one for the rest. Giving way a few times lets
 * them run; it ends as soon as nobody comes any more, and on a machine with other work, which takes
 * what is given away, after LANE_GATHER_NS. */
static void lane_gather(struct lane *lane) {
    lane->gather = false;
    uint32_t idle = 0;
    int64_t until_ns = clock_mono_ns() + LANE_GATHER_NS;
    for (int i = 0;
         i < LANE_GATHER_YIELDS && idle < 3 && lane->ready.count < lane->batch_max; i++) {
        if (atomic_load_explicit(&lane->shared->returning, memory_order_relaxed) <= 0) break;
        uint32_t before = lane->ready.count;
        sched_yield();
        lane_take_incoming(lane);
        idle = lane->ready.count == before ? idle + 1 : 0;
        if (clock_mono_ns() > until_ns) break;
    }
}

/* Where a message may go now; NULL = nowhere. When all circuits are open, one message at a time
 * goes through: it can only hold calls that were let in as probes, and retries. */
static struct endpoint *lane_pick_endpoint(struct lane *lane, int64_t now_ns) {
    struct endpoint *own = lane_endpoint(lane);
    struct endpoint *general = node_list_pick(&lane->shared->nodes);
    bool own_up = connection_is_up(&own->connection);
    bool general_up = own != general && connection_is_up(&general->connection);
    if (own_up && circuit_breaker_admit(&own->breaker, now_ns)) return own;
    if (general_up && circuit_breaker_admit(&general->breaker, now_ns)) return general;
    if (atomic_load_explicit(&lane->in_flight, memory_order_relaxed) > 0) return NULL;
    return own_up ? own : general_up ? general : NULL;
}

enum take { TAKE_IT, TAKE_BLOCKED, TAKE_LATER };

/* Whether the call may go into the slot's message without overtaking its order's others. */
static enum take lane_may_take(struct lane *lane, struct call *call, uint8_t slot) {
    if (call->order == CALL_NO_ORDER) return TAKE_IT;
    struct lane_bucket *b = &lane->buckets[call->order];
    bool with_us = b->flying > 0 && b->slot == slot;
    /* Those of one message may be tried again in two, when it gets full between them: then the
     * second one waits for the first, also while that waits for another try. */
    if (call->holds_order)
        return b->retrying == 0 && (b->flying == 0 || with_us) ? TAKE_IT : TAKE_LATER;
    /* A retry may have taken its place in this very message while calls wait behind it: what came
     * after those waits, too. */
    bool joins = b->held == 0 || (with_us && b->held == b->flying);
    if (b->blocks || !joins) {
        call_list_append(&lane->blocked[call->order], call);
        b->blocks = 1;
        lane->blocked_count++;
        return TAKE_BLOCKED;
    }
    b->held++;
    call->holds_order = true;
    return TAKE_IT;
}

/* Moves what may go from `ready` into the slot. Returns the bytes of the commands. */
static size_t lane_fill_slot(struct lane *lane, struct slot *slot) {
    uint8_t number = (uint8_t)(slot - lane->slots);
    struct call_list later = {0};
    size_t bytes = 0;
    slot->count = 0;
    slot->first_deadline_ns = INT64_MAX;
    while (lane->ready.head && slot->count < lane->batch_max) {
        struct call *call = lane->ready.head;
        if (bytes + call->size > LANE_COMMANDS_BYTES_MAX) break;
        /* Off the list first: blocking puts the call into another. */
        call_list_pop(&lane->ready);
        enum take take = lane_may_take(lane, call, number);
        if (take == TAKE_LATER) call_list_append(&later, call);
        if (take != TAKE_IT) continue;
        if (call->order != CALL_NO_ORDER) {
            lane->buckets[call->order].flying++;
            lane->buckets[call->order].slot = number;
        }
        if (call->deadline_ns < slot->first_deadline_ns) {
            slot->first_deadline_ns = call->deadline_ns;
        }
        slot->orders[slot->count] = call->order;
        slot->calls[slot->count++] = call;
        bytes += call->size;
    }
    call_list_prepend(&lane->ready, &later);
    return bytes;
}

static void lane_send(struct lane *lane, int64_t now_ns) {
    struct endpoint *endpoint;
    while (lane->ready.head && lane->free_slots && (endpoint = lane_pick_endpoint(lane, now_ns))) {
        struct slot *slot = lane->free_slots;
        size_t bytes = lane_fill_slot(lane, slot);
        if (slot->count == 0) return; /* all that is ready waits for its order */
        lane->free_slots = slot->next;
        atomic_fetch_sub_explicit(&lane->waiting, slot->count, memory_order_relaxed);
        atomic_fetch_add(&lane->in_flight, 1);
        atomic_fetch_add_explicit(&lane->stat_commands, slot->count, memory_order_relaxed);
        atomic_fetch_add_explicit(&lane->stat_messages, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&lane->stat_in_flight_commands, slot->count,
                                  memory_order_relaxed);
        bool full = slot->count >= lane->batch_max;
        slot_begin(slot, endpoint, bytes, now_ns);
        atomic_store_explicit(&lane->pace_ns, full ? INT64_MAX : clock_mono_ns() + LANE_PACE_NS,
                              memory_order_relaxed);
        if (lane->ready.count < lane->batch_max) return; /* gather, now that one is in flight */
    }
}

static void lane_work(struct lane *lane) {
    if (atomic_load(&lane->shared->closing)) return;
    int64_t now_ns = clock_coarse_ns();
    bool tick = atomic_load_explicit(&lane->tick, memory_order_relaxed) &&
                atomic_exchange(&lane->tick, false);
    lane_take_finished(lane);
    if (lane->retries.head) lane_take_retries(lane, now_ns);
    lane_take_incoming(lane);
    if (tick) lane_expire(lane, now_ns);
    bool idle = atomic_load_explicit(&lane->in_flight, memory_order_relaxed) == 0;
    bool due = !idle && lane->ready.head && lane_is_due(lane);
    if (lane->gather || due) lane_gather(lane);
    if (idle || due || tick || lane->ready.count >= lane->batch_max) lane_send(lane, now_ns);
}

void lane_run(struct lane *lane) {
    if (atomic_fetch_add(&lane->role, 1) != 0) return;
    uint32_t asked;
    do {
        asked = atomic_load(&lane->role);
        lane_work(lane);
    } while (atomic_fetch_sub(&lane->role, asked) != asked);
}

bool lane_on_pace(struct lane *lane) {
    uint32_t in_flight = atomic_load(&lane->in_flight);
    if (in_flight == 0 || !lane_is_due(lane)) return false;
    if (in_flight < lane->slots_count && atomic_load(&lane->waiting) > 0) lane_run(lane);
    return true;
}

bool lane_on_tick(struct lane *lane, int64_t now_ns) {
    uint32_t in_flight = atomic_load(&lane->in_flight);
    uint32_t waiting = atomic_load(&lane->waiting);
    if (in_flight == 0 && waiting == 0) {
        drain_rate_forget(&lane->drain);
        return false;
    }
    drain_rate_look(&lane->drain, clock_mono_ns(), atomic_load(&lane->stat_ended),
                    waiting >= LANE_FEW_COMMANDS);
    if (in_flight > 0) slots_expire(lane, now_ns);
    atomic_store(&lane->tick, true);
    lane_run(lane);
    return true;
}

/* -- life -------------------------------------------------------------------------------------- */

struct lane *lane_new(struct lane_shared *shared, struct endpoint *endpoint) {
    struct lane *lane = aligned_alloc(64, (sizeof *lane + 63) / 64 * 64);
    if (!lane) return NULL;
    memset(lane, 0, sizeof *lane);
    lane->shared = shared;
    atomic_init(&lane->endpoint, endpoint);
    lane->first_deadline_ns = INT64_MAX;
    atomic_init(&lane->pace_ns, INT64_MAX);
    lane->batch_max = shared->options.batch_commands_max;
    lane->slots_count = shared->options.messages_in_flight_max;
    lane->buckets = calloc(LANE_BUCKETS, sizeof *lane->buckets);
    lane->blocked = calloc(LANE_BUCKETS, sizeof *lane->blocked);
    if (!lane->buckets || !lane->blocked || !slots_init(lane)) {
        slots_fini(lane);
        free(lane->blocked);
        free(lane->buckets);
        free(lane);
        return NULL;
    }
    return lane;
}

/* Nobody gives the role back to a thread that never leaves it: no message begins any more. */
static void lane_stop(struct lane *lane) {
    unsigned free_role = 0;
    while (!atomic_compare_exchange_weak(&lane->role, &free_role, 1)) {
        free_role = 0;
        sched_yield();
    }
}

void lane_delete(struct lane *lane) {
    lane_stop(lane);
    slots_fini(lane);
    struct call_recycler recycler = {.pool = &lane->shared->pool};
    struct call *call;
    lane_take_incoming(lane);
    while ((call = call_list_pop(&lane->ready))) call_end_with(call, JUMUN_CLOSED, &recycler);
    while ((call = call_list_pop(&lane->retries))) call_end_with(call, JUMUN_CLOSED, &recycler);
    for (uint32_t i = 0; i < LANE_BUCKETS; i++)
        while ((call = call_list_pop(&lane->blocked[i])))
            call_end_with(call, JUMUN_CLOSED, &recycler);
    call_recycle(&recycler);
    free(lane->blocked);
    free(lane->buckets);
    free(lane);
}
