/* The simulated network. */
#include "tests/world/network.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/prng.h"

struct flight {
    int64_t due_ms;
    uint64_t number; /* of equal moments the first sent is the first to arrive */
    uint32_t from, to;
    struct network_load *load;
};

struct network {
    struct network_options options;
    network_deliver *deliver;
    void *arg;
    struct prng prng;
    bool calm;
    int64_t now_ms;
    uint64_t number;
    struct flight *heap; /* by due_ms, number */
    uint32_t count, capacity;
    int64_t cut_until_ms[NETWORK_ENDPOINTS_MAX][NETWORK_ENDPOINTS_MAX];
    int64_t held_until_ms[NETWORK_ENDPOINTS_MAX];
    struct network_counters counters;
};

struct network *network_new(const struct network_options *options, network_deliver *deliver,
                            void *arg) {
    struct network *n = calloc(1, sizeof *n);
    require(n != NULL);
    n->options = *options;
    n->deliver = deliver;
    n->arg = arg;
    prng_seed(&n->prng, options->seed);
    return n;
}

static void load_release(struct network_load *load) {
    if (--load->refs == 0) load->drop(load);
}

void network_free(struct network *n) {
    if (n == NULL) return;
    for (uint32_t i = 0; i < n->count; i++) load_release(n->heap[i].load);
    free(n->heap);
    free(n);
}

/* -- the heap ---------------------------------------------------------------------------------- */

static bool before(const struct flight *a, const struct flight *b) {
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->number < b->number;
}

static void sift_up(struct network *n, uint32_t at) {
    struct flight f = n->heap[at];
    while (at > 0 && before(&f, &n->heap[(at - 1) / 2])) {
        n->heap[at] = n->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    n->heap[at] = f;
}

static void sift_down(struct network *n, uint32_t at) {
    struct flight f = n->heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n->count) break;
        if (child + 1 < n->count && before(&n->heap[child + 1], &n->heap[child])) child++;
        if (!before(&n->heap[child], &f)) break;
        n->heap[at] = n->heap[child];
        at = child;
    }
    n->heap[at] = f;
}

static void flight_add(struct network *n, struct flight f) {
    if (n->count == n->capacity) {
        n->capacity = n->capacity ? 2 * n->capacity : 256;
        n->heap = realloc(n->heap, n->capacity * sizeof *n->heap);
        require(n->heap != NULL);
    }
    f.number = n->number++;
    f.load->refs++;
    n->heap[n->count++] = f;
    sift_up(n, n->count - 1);
}

static struct flight flight_take(struct network *n) {
    struct flight first = n->heap[0];
    n->heap[0] = n->heap[--n->count];
    if (n->count > 0) sift_down(n, 0);
    return first;
}

/* -- sending ----------------------------------------------------------------------------------- */

static bool chance(struct network *n, uint32_t of_10000) {
    return !n->calm && of_10000 > 0 && prng_chance(&n->prng, of_10000, 10000);
}

bool network_is_cut(const struct network *n, uint32_t from, uint32_t to) {
    return n->cut_until_ms[from][to] > n->now_ms;
}

void network_send(struct network *n, uint32_t from, uint32_t to, struct network_load *load,
                  bool surely) {
    require(from < NETWORK_ENDPOINTS_MAX && to < NETWORK_ENDPOINTS_MAX);
    uint32_t copies = 1;
    load->refs = 1;
    n->counters.sent++;
    if (!surely && chance(n, n->options.doubled)) {
        copies = 2;
        n->counters.doubled++;
    }
    if (!surely && chance(n, n->options.loss)) {
        copies = 0;
        n->counters.lost++;
    }
    for (; copies > 0; copies--) {
        int64_t due_ms = n->now_ms + prng_between(&n->prng, 0, n->options.latency_ms_max);
        if (chance(n, n->options.late)) {
            due_ms += prng_between(&n->prng, 0, n->options.late_ms_max);
            n->counters.late++;
        }
        if (network_is_cut(n, from, to)) {
            /* What the transport had taken over may come when the link is whole again. */
            n->counters.cut++;
            if (n->options.cut_loses_all) continue;
            if (!surely && prng_chance(&n->prng, 3, 4)) continue;
            if (surely && prng_chance(&n->prng, 1, 2)) continue;
            due_ms += n->cut_until_ms[from][to] - n->now_ms;
        }
        flight_add(n, (struct flight){.due_ms = due_ms, .from = from, .to = to, .load = load});
    }
    load_release(load);
}

/* -- faults ------------------------------------------------------------------------------------ */

void network_cut(struct network *n, uint32_t from, uint32_t to, int64_t until_ms) {
    if (n->cut_until_ms[from][to] < until_ms) n->cut_until_ms[from][to] = until_ms;
}

void network_hold(struct network *n, uint32_t endpoint, int64_t until_ms) {
    n->held_until_ms[endpoint] = until_ms;
}

void network_forget(struct network *n, uint32_t endpoint) {
    uint32_t kept = 0, count = n->count;
    for (uint32_t i = 0; i < count; i++) {
        if (n->heap[i].to == endpoint && prng_chance(&n->prng, 1, 2)) {
            n->counters.forgotten++;
            load_release(n->heap[i].load);
            continue;
        }
        n->heap[kept++] = n->heap[i];
    }
    n->count = kept;
    for (uint32_t i = kept / 2; i-- > 0;) sift_down(n, i);
    n->held_until_ms[endpoint] = 0;
}

void network_calm(struct network *n) {
    n->calm = true;
    memset(n->cut_until_ms, 0, sizeof n->cut_until_ms);
    memset(n->held_until_ms, 0, sizeof n->held_until_ms);
}

/* -- time -------------------------------------------------------------------------------------- */

void network_advance(struct network *n, int64_t now_ms) {
    n->now_ms = now_ms;
    /* What is sent in a delivery arrives in the next round at the earliest. */
    uint64_t number = n->number;
    while (n->count > 0 && n->heap[0].due_ms <= now_ms && n->heap[0].number < number) {
        struct flight f = flight_take(n);
        if (n->held_until_ms[f.to] > now_ms) {
            /* Each from a socket of its own. */
            f.due_ms = n->held_until_ms[f.to];
            f.due_ms += prng_between(&n->prng, 0, n->options.latency_ms_max);
            n->counters.held++;
            flight_add(n, f);
        } else {
            n->counters.delivered++;
            n->deliver(n->arg, f.from, f.to, f.load);
        }
        load_release(f.load);
    }
}

int64_t network_next_ms(const struct network *n) {
    return n->count > 0 ? n->heap[0].due_ms : INT64_MAX;
}

struct network_counters network_counters(const struct network *n) {
    return n->counters;
}
