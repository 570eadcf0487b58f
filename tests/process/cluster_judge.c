/* The judge of the cluster tests: see cluster_load.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/process/cluster_load.h"

enum { STORES_SECONDS_MAX = 30, SENTENCES_MAX = 40, DUMPED_MAX = 3 };

struct judge {
    struct load *load;
    const struct load_order *order;
};

static void judge_report(void *arg, const char *sentence) {
    struct judge *j = arg;
    char key[JUMUN_KEY_TEXT_BYTES] = "";
    if (j->order) jumun_key_format(&j->order->key, key);
    if (j->load->faults++ < SENTENCES_MAX) fprintf(stderr, "BROKEN: %s %s\n", key, sentence);
}

static int by_order(const void *a, const void *b) {
    const struct history_call *x = a, *y = b;
    return (x->order > y->order) - (x->order < y->order);
}

/* All callers' calls, those of one order together. */
static struct history_call *judge_gather(struct load *load, uint32_t *count) {
    size_t total = 0;
    for (uint32_t i = 0; i < load->callers_count; i++) total += load->callers[i].calls_count;
    struct history_call *all = calloc(total + 1, sizeof *all);
    if (!all) test_fail(NULL, "no memory to judge");
    *count = 0;
    for (uint32_t i = 0; i < load->callers_count; i++) {
        struct load_caller *c = &load->callers[i];
        memcpy(all + *count, c->calls, c->calls_count * sizeof *all);
        *count += c->calls_count;
        c->calls_count = 0;
    }
    qsort(all, *count, sizeof *all, by_order);
    return all;
}

static int by_begin(const void *a, const void *b) {
    const struct history_call *x = a, *y = b;
    return (x->begin_ns > y->begin_ns) - (x->begin_ns < y->begin_ns);
}

/* Everything that is known of an order with a fault, to be looked at. */
static void judge_dump(const struct load *load, struct history_call *calls, uint32_t count,
                       const struct answer_history *h) {
    static const char *const fates[] = {"done", "refused", "unknown"};
    int64_t first_ns = count > 0 ? load->began_ns : 0;
    qsort(calls, count, sizeof *calls, by_begin);
    for (uint32_t i = 0; i < count; i++) {
        const struct history_call *c = &calls[i];
        fprintf(stderr, "  %10.3f .. %10.3f ms  %-7s %-7s version %3u  code %3u  shard %u  "
                "%02x%02x\n",
                (double)(c->begin_ns - first_ns) / 1e6, (double)(c->end_ns - first_ns) / 1e6,
                c->is_read ? "read" : "command", fates[c->fate], c->version, c->code, c->shard,
                c->id.bytes[14], c->id.bytes[15]);
    }
    for (uint32_t i = 0; i < h->count; i++) {
        fprintf(stderr, "  event %3u  entry %6llu  %02x%02x\n", h->events[i].version,
                (unsigned long long)h->events[i].index, h->events[i].cause.bytes[14],
                h->events[i].cause.bytes[15]);
    }
}

static bool state_is_open(const char *state) {
    static const char *const ends[] = {"completed", "rejected", "cancelled", "expired"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (strcmp(state, ends[i]) == 0) return false;
    }
    return true;
}

/* What is there now must be what the history says; counts the order for its store. */
static void judge_state(struct judge *j, const struct answer_history *h, int64_t *open,
                        int64_t *placed) {
    jumun_order *order = NULL;
    char sentence[160];
    int code = jumun_get(j->load->patient, &j->order->key, NULL, &order, NULL);
    if (h->count == 0 ? code != JUMUN_ORDER_NOT_FOUND : code != JUMUN_OK) {
        snprintf(sentence, sizeof sentence, "has %u events, and get says %s", h->count,
                 jumun_result_name(code));
        judge_report(j, sentence);
    } else if (order) {
        if (order->version != h->count) {
            snprintf(sentence, sizeof sentence, "get says version %u, its history %u",
                     order->version, h->count);
            judge_report(j, sentence);
        }
        placed[j->order->store]++;
        open[j->order->store] += state_is_open(order->state);
    }
    jumun_order_free(order);
}

static void judge_orders(struct load *load, int64_t *open, int64_t *placed) {
    uint32_t count, orders = atomic_load(&load->orders_count), at = 0, dumped = 0;
    struct history_call *calls = judge_gather(load, &count);
    for (uint32_t i = 0; i < orders; i++) {
        struct judge j = {load, &load->orders[i]};
        struct answer_history h = {0};
        uint32_t n = 0;
        while (at + n < count && calls[at + n].order == i) n++;
        int code = answer_history(load->patient, &j.order->key, &h);
        if (code == JUMUN_ORDER_NOT_FOUND) {
            h.count = 0;
        } else if (code != JUMUN_OK) {
            judge_report(&j, "its history cannot be read");
            fprintf(stderr, "(%s)\n", jumun_result_name(code));
        }
        unsigned before = load->faults;
        history_check(calls + at, n, &h, judge_report, &j);
        judge_state(&j, &h, open, placed);
        if (load->faults > before && ++dumped <= DUMPED_MAX) {
            judge_dump(load, calls + at, n, &h);
        }
        at += n;
    }
    free(calls);
}

/* News between shards are never lost and never counted twice: the stores' counts settle exactly. */
static void judge_stores(struct load *load, const int64_t *open, const int64_t *placed) {
    int64_t until = monotonic_ms() + STORES_SECONDS_MAX * 1000;
    for (uint32_t s = 0; s < LOAD_STORES; s++) {
        int64_t o = -1, p = -1;
        int code;
        if (placed[s] == 0) continue;
        for (;;) {
            code = answer_store(load->patient, load_store_name(s), &o, &p);
            if ((code == JUMUN_OK && o == open[s] && p == placed[s]) || monotonic_ms() > until) {
                break;
            }
            sleep_ms(20);
        }
        if (code == JUMUN_OK && o == open[s] && p == placed[s]) continue;
        struct judge j = {load, NULL};
        char sentence[200];
        snprintf(sentence, sizeof sentence,
                 "%s: %s, %lld open of %lld placed; must be %lld of %lld",
                 load_store_name(s), jumun_result_name(code), (long long)o, (long long)p,
                 (long long)open[s], (long long)placed[s]);
        judge_report(&j, sentence);
    }
}

/* The orders start anew: the next judgement reads only its own. The stores keep their counts. */
static void judge_forget(struct load *load, const int64_t *open, const int64_t *placed) {
    for (uint32_t s = 0; s < LOAD_STORES; s++) {
        load->stores_open[s] = open[s];
        load->stores_placed[s] = placed[s];
    }
    memset(load->orders, 0, LOAD_ORDERS_MAX * sizeof *load->orders);
    load_renew(load);
}

unsigned load_judge(struct load *load) {
    int64_t open[LOAD_STORES], placed[LOAD_STORES];
    memcpy(open, load->stores_open, sizeof open);
    memcpy(placed, load->stores_placed, sizeof placed);
    judge_orders(load, open, placed);
    judge_stores(load, open, placed);
    judge_forget(load, open, placed);
    return load->faults;
}
