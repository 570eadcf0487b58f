#include "clients/sdk/call.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "actors/result_codes.h"
#include "engine/base/check.h"
#include "engine/base/prefetch.h"

/* -- the pool ---------------------------------------------------------------------------------- */

unsigned call_thread_stripe(void) {
    static atomic_uint threads;
    static _Thread_local unsigned mine; /* 0 = not numbered yet */
    if (mine == 0) mine = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
    return mine;
}

void call_pool_init(struct call_pool *pool) {
    for (int i = 0; i < CALL_POOL_STRIPES; i++) {
        atomic_flag_clear(&pool->stripes[i].busy);
        pool->stripes[i].free = NULL;
    }
    atomic_init(&pool->returned, NULL);
}

static void call_chain_free(struct call *call) {
    while (call) {
        struct call *next = call->next;
        free(call);
        call = next;
    }
}

void call_pool_fini(struct call_pool *pool) {
    for (int i = 0; i < CALL_POOL_STRIPES; i++) call_chain_free(pool->stripes[i].free);
    call_chain_free(atomic_load(&pool->returned));
}

static struct call *call_cleared(struct call *call) {
    memset(call, 0, sizeof *call);
    call->origin = CALL_FROM_POOL;
    call->inline_capacity = CALL_POOLED_BYTES;
    return call;
}

struct call *call_pool_take(struct call_pool *pool) {
    unsigned s = call_thread_stripe() % CALL_POOL_STRIPES;
    while (atomic_flag_test_and_set_explicit(&pool->stripes[s].busy, memory_order_acquire))
        sched_yield();
    struct call *call = pool->stripes[s].free;
    /* All that came back is taken at once: that needs no guard against a head that was taken and
     * put back meanwhile, and one exchange serves many takes. */
    if (!call && atomic_load_explicit(&pool->returned, memory_order_relaxed))
        call = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
    pool->stripes[s].free = call ? call->next : NULL;
    if (call && call->next) { /* the next take finds it in the cache */
        const char *next = (const char *)call->next;
        for (size_t at = 0; at < sizeof *call; at += 64) prefetch_write(next + at);
    }
    atomic_flag_clear_explicit(&pool->stripes[s].busy, memory_order_release);

    if (!call) call = malloc(sizeof *call + CALL_POOLED_BYTES);
    if (!call) return NULL;
    return call_cleared(call);
}

void call_pool_give(struct call_pool *pool, struct call *first, struct call *last) {
    struct call *head = atomic_load_explicit(&pool->returned, memory_order_relaxed);
    do last->next = head;
    while (!atomic_compare_exchange_weak_explicit(&pool->returned, &head, first,
                                                  memory_order_release, memory_order_relaxed));
}

/* -- waiting and ending ------------------------------------------------------------------------ */

/* Where callers sleep, 32 threads on a word, each with a bit of its own (threads that share one
 * wake for each other now and then and sleep again). The words count wakings, so that none is
 * missed between a caller's look at its call and its sleep. Static: a caller may look at its word
 * after its client is gone. */
static struct {
    _Alignas(64) _Atomic uint32_t count;
} call_wakings[CALL_WAKE_WORDS];

static void call_wake(unsigned word, uint32_t bits) {
    _Atomic uint32_t *count = &call_wakings[word].count;
    atomic_fetch_add(count, 1);
    syscall(SYS_futex, count, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, bits);
}

void call_wait(struct call *call) {
    call->waker = call_thread_stripe();
    _Atomic uint32_t *count = &call_wakings[call->waker / 32 % CALL_WAKE_WORDS].count;
    for (;;) {
        uint32_t before = atomic_load(count);
        uint32_t state = CALL_WAIT_RUNNING;
        if (!atomic_compare_exchange_strong(&call->waiting, &state, CALL_WAIT_SLEEPING) &&
            state == CALL_WAIT_ENDED)
            return;
        syscall(SYS_futex, count, FUTEX_WAIT_BITSET_PRIVATE, before, NULL, NULL,
                1u << call->waker % 32);
    }
}

/* Fills the answer in. The caller's frame may be gone right after the exchange. */
static void call_end_waiting(struct call *call, const jumun_result *result, const void *value,
                             size_t value_bytes, struct call_recycler *recycler) {
    *call->result = *result;
    if (value && call->value) {
        *call->value = malloc(value_bytes ? value_bytes : 1);
        if (*call->value) {
            memcpy(*call->value, value, value_bytes);
            *call->value_bytes = value_bytes;
        } else {
            call->result->code = JUMUN_NO_MEMORY;
        }
    }
    if (call->bytes != call->inline_bytes) free(call->bytes);
    uint32_t state = CALL_WAIT_RUNNING;
    if (atomic_compare_exchange_strong(&call->waiting, &state, CALL_WAIT_ENDED)) return;
    /* It sleeps, so it cannot be gone before it sees the end. */
    require(state == CALL_WAIT_SLEEPING);
    uint32_t waker = call->waker;
    recycler->wake[waker / 32 % CALL_WAKE_WORDS] |= 1u << waker % 32;
    atomic_store(&call->waiting, CALL_WAIT_ENDED);
}

static void call_forget_refusal(struct call *call) {
    if (call->refused_owned) free((void *)(uintptr_t)call->refused_sentence);
    call->refused_owned = false;
    call->refused_sentence = NULL;
}

void call_remember_refusal(struct call *call, const jumun_result *result) {
    const char *usual = jumun_result_text(result->code);
    call_forget_refusal(call);
    call->refused_code = (uint16_t)result->code;
    call->refused_retry_ms = result->retry_after_ms;
    /* Under overload most say no more than their code does: no memory for that. */
    if (strcmp(result->detail, usual) == 0) {
        call->refused_sentence = usual;
    } else if (result->detail[0]) {
        call->refused_sentence = strdup(result->detail);
        call->refused_owned = call->refused_sentence != NULL;
    }
}

void call_end(struct call *call, const jumun_result *result, const void *value,
              size_t value_bytes, struct call_recycler *recycler) {
    call_forget_refusal(call);
    if (call->origin == CALL_FROM_CALLER) {
        call_end_waiting(call, result, value, value_bytes, recycler);
        return;
    }
    call->callback(call->arg, result, value, value_bytes);
    if (call->bytes != call->inline_bytes) free(call->bytes);
    call->next = recycler->first;
    if (!recycler->first) recycler->last = call;
    recycler->first = call;
}

struct call *call_reuse(struct call_recycler *recycler) {
    struct call *call = recycler->first;
    if (!call) return NULL;
    recycler->first = call->next;
    if (!recycler->first) recycler->last = NULL;
    return call_cleared(call);
}

void call_end_with(struct call *call, int code, struct call_recycler *recycler) {
    jumun_result result;
    call_tell(call, code, &result);
    call_end(call, &result, NULL, 0, recycler);
}

void call_recycle(struct call_recycler *recycler) {
    if (recycler->first) call_pool_give(recycler->pool, recycler->first, recycler->last);
    recycler->first = recycler->last = NULL;
    for (unsigned i = 0; i < CALL_WAKE_WORDS; i++) {
        if (recycler->wake[i]) call_wake(i, recycler->wake[i]);
        recycler->wake[i] = 0;
    }
}

void call_tell(const struct call *call, int code, jumun_result *result) {
    *result = (jumun_result){.code = code, .id = call->id};
    if (code == RESULT_OVERLOADED || code == call->refused_code)
        result->retry_after_ms = call->refused_retry_ms;
    if (code == call->refused_code && call->refused_sentence)
        snprintf(result->detail, sizeof result->detail, "%s", call->refused_sentence);
}

int call_code_of_giving_up(const struct call *call) {
    if (call->maybe_done) return JUMUN_OUTCOME_UNKNOWN;
    return call->refused_code ? call->refused_code : JUMUN_NOT_SENT;
}
