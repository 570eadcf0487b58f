/* One command on its way through the library, from the caller to its end and back.
 *
 * Life: made (from the pool, or in the frame of a synchronous caller), encoded, pushed to the lane
 * of its shard, sent in a message (perhaps several times), ended exactly once with call_end(). The
 * end is where a call of the pool goes back, and where a synchronous caller's frame may vanish: no
 * one may touch a call after its end.
 *
 * Ownership: a call belongs to its maker, then to the lane it was pushed to, and while it is in a
 * message to the slot of that message. */
#ifndef JUMUN_SDK_CALL_H
#define JUMUN_SDK_CALL_H

#include <stdatomic.h>

#include "clients/sdk/jumun.h"
#include "engine/wire/msgpack_writer.h"

enum {
    CALL_POOLED_BYTES = 384,  /* a place with three lines takes about 200 */
    CALL_FRAME_BYTES = 1024,  /* in the frame of a synchronous caller */
    CALL_NO_ORDER = UINT32_MAX
};

enum call_origin { CALL_FROM_POOL, CALL_FROM_CALLER };

enum call_wait { CALL_WAIT_RUNNING = 0, CALL_WAIT_ENDED = 1, CALL_WAIT_SLEEPING = 2 };

/* What the shard follows from: see engine/wire/routing.h. */
struct call_route {
    uint64_t hash;             /* of the key's random bytes, or of the store's id */
    int64_t birth_ms;          /* of the key; INT64_MAX for stores */
};

struct call {
    struct call *next;         /* the list that it is in */
    uint8_t *bytes;            /* the encoded command: inline_bytes, or malloc'ed */
    uint32_t size;             /* of bytes */
    uint32_t order;            /* bucket of the lane's table of busy orders, or CALL_NO_ORDER */
    struct call_route route;
    int64_t deadline_ns;       /* clock_coarse_ns() by which it has ended */
    int64_t due_ns;            /* when it waits for a retry: not before this */
    jumun_callback callback;   /* NULL = a caller waits */
    void *arg;
    jumun_result *result;      /* of the waiting caller */
    void **value;              /* of the waiting caller; NULL = not wanted */
    size_t *value_bytes;
    jumun_key id;
    _Atomic uint32_t waiting;  /* enum call_wait, of the waiting caller */
    uint32_t waker;            /* the sleeping caller's call_thread_stripe() */
    uint16_t kind;             /* jumun_kind */
    uint16_t attempts;         /* messages that carried it */
    uint16_t refused_code;     /* the last retryable refusal; 0 = none */
    bool maybe_done;           /* an attempt got no answer: it may have been acted on, whatever
                                  the machine says to a later one */
    bool holds_order;          /* counted in its bucket */
    uint8_t origin;            /* enum call_origin */
    bool refused_owned;        /* its sentence is malloc'ed */
    uint32_t refused_retry_ms;
    const char *refused_sentence; /* NULL = none */
    uint32_t inline_capacity;
    uint8_t inline_bytes[];
};

/* A FIFO of calls; whoever holds it says so. */
struct call_list {
    struct call *head, *tail;
    uint32_t count;
};

static inline void call_list_append(struct call_list *list, struct call *call) {
    call->next = NULL;
    if (list->tail) list->tail->next = call;
    else list->head = call;
    list->tail = call;
    list->count++;
}

static inline struct call *call_list_pop(struct call_list *list) {
    struct call *call = list->head;
    if (!call) return NULL;
    list->head = call->next;
    if (!list->head) list->tail = NULL;
    list->count--;
    return call;
}

/* Puts all of `front` before all of `list`; `front` is empty afterwards. */
static inline void call_list_prepend(struct call_list *list, struct call_list *front) {
    if (!front->head) return;
    front->tail->next = list->head;
    if (!list->tail) list->tail = front->tail;
    list->head = front->head;
    list->count += front->count;
    *front = (struct call_list){0};
}

/* -- the pool ---------------------------------------------------------------------------------- */

enum { CALL_POOL_STRIPES = 16 };

/* Calls of asynchronous submissions, kept for reuse: threads take from a stripe of their own, and a
 * message's ended calls come back as one chain. Grows to what was open at once. */
struct call_pool {
    struct {
        _Alignas(64) atomic_flag busy;
        struct call *free;
    } stripes[CALL_POOL_STRIPES];
    _Alignas(64) struct call *_Atomic returned;
};

void call_pool_init(struct call_pool *pool);
/* Every call must have come back. */
void call_pool_fini(struct call_pool *pool);
/* A cleared call, or NULL for lack of memory. Any thread. */
struct call *call_pool_take(struct call_pool *pool);
/* Gives back the chain first -> ... -> last. Any thread. */
void call_pool_give(struct call_pool *pool, struct call *first, struct call *last);

/* A small number that tells threads apart: for stripes. */
unsigned call_thread_stripe(void);

/* -- waiting and ending ------------------------------------------------------------------------ */

/* The waiting caller's side: returns once the call has ended. */
void call_wait(struct call *call);

enum { CALL_WAKE_WORDS = 8 };

/* Collects what ended calls leave to be done, once for all of them: those of the pool return as one
 * chain, and sleeping callers wake in one system call per 32 threads. Waking them one by one costs
 * more than twice as much. */
struct call_recycler {
    struct call_pool *pool;
    struct call *first, *last; /* newest first */
    uint32_t wake[CALL_WAKE_WORDS]; /* bit = thread */
};

/* Ends the call: its callback runs, or its caller may go on, woken by call_recycle(). `value` is
 * copied for a waiting caller. The call is gone afterwards. Any thread that owns the call. */
void call_end(struct call *call, const jumun_result *result, const void *value,
              size_t value_bytes, struct call_recycler *recycler);
/* The same with a code of the library and no answer. */
void call_end_with(struct call *call, int code, struct call_recycler *recycler);
/* A cleared call, from those of the pool that have ended last; NULL = there is none. */
struct call *call_reuse(struct call_recycler *recycler);
/* To be called after the last call_end(), on the same thread. */
void call_recycle(struct call_recycler *recycler);

/* What to say should the call's time end before anything better is known. */
void call_remember_refusal(struct call *call, const jumun_result *result);

/* How a call ends that can be tried no more: what is known about its effect decides. Fills in the
 * code, and of the refusal that it is what that said. */
int call_code_of_giving_up(const struct call *call);
void call_tell(const struct call *call, int code, jumun_result *result);

#endif
